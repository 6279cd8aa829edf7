# SPDX-License-Identifier: MIT
"""What every experiment needs: run it, send its traffic, measure, and keep what was measured.

``catalogue``    which experiments there are
``runner``       one experiment in a sandbox, its result kept whatever happens
``folder``       the folder that a result lies in
``environment``  what the machine was like
``iperf``        pure: iperf3's command lines and what its JSON says
``traffic``      iperf3's servers and clients on the nodes
``meter``        counts per flow what arrives at a node
``counters``     all that a network and its chain count, at one moment
``sampler``      reads counters at a steady pace
``vmstat``       pure: vmstat's command lines and what it writes; ``cpudist`` likewise
``procstat``     CPU time as the kernel accounts it; ``cputime`` traces it exactly
``kernelmemory`` what is charged to the memory cgroup
``checks``       pure: a measured value against what was expected
``progress``     the bar while it runs

The file format of a result is :mod:`testbed.results`.
"""
