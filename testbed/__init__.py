# SPDX-License-Identifier: MIT
"""The testbed: values, NFC nodes, datapaths, measurement and the command line."""
