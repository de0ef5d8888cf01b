"""Sets the number of threads. Call it before torch is imported, because OpenMP starts with torch."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def set_thread_policy() -> None:
    """Use as many threads as this process has cores.

    Environment variables that the user has set are kept.
    """
    environment = os.environ
    cores = cores_of_process()
    if cores < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(cores))


def cores_of_process(cgroup: Path = CGROUP) -> int:
    """The number of cores that this process may use, at least 1: from CPU affinity and container quota.

    cgroup: the folder of Linux control groups.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """The CPU quota in cores, from control groups version 2 or 1; None where there is no quota."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max" is no quota
        return None
    return cores if cores > 0 else None
