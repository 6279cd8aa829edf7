# SPDX-License-Identifier: MIT
"""What every experiment needs: run it, send its traffic, measure, and keep what was measured.

``catalogue``    which experiments there are
``runner``       one experiment in a sandbox, its result kept whatever happens
``folder``       the folder that a result lies in
``environment``  what the machine was like
``iperf``        pure: iperf3's command lines and what its JSON says
``traffic``      iperf3's servers and clients on the nodes
``meter``        counts per flow what arrives at a node
``sampler``      reads counters at a steady pace
``checks``       pure: a measured value against what was expected
``progress``     the bar while it runs

The file format of a result is :mod:`testbed.results`.
"""
