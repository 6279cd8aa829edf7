# SPDX-License-Identifier: MIT
"""The one place that loads BPF: objects, maps, links and their layouts."""

from __future__ import annotations

from testbed.bpf.btf import Btf, Layout
from testbed.bpf.library import BpfError
from testbed.bpf.links import (
    FILTER_PRIORITY,
    Link,
    TcFilter,
    attach_netfilter,
    attach_tc,
    attach_xdp,
    tcx_egress_programs,
)
from testbed.bpf.maps import Map, possible_cpus
from testbed.bpf.object import BpfObject, Program, TestRun

__all__ = [
    "FILTER_PRIORITY",
    "BpfError",
    "BpfObject",
    "Btf",
    "Layout",
    "Link",
    "Map",
    "Program",
    "TcFilter",
    "TestRun",
    "attach_netfilter",
    "attach_tc",
    "attach_xdp",
    "possible_cpus",
    "tcx_egress_programs",
]
