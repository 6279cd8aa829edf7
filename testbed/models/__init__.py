# SPDX-License-Identifier: MIT
"""What network functions must do, in plain Python: the measure that their C is held against."""
