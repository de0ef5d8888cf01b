"""Threads by the cores of a process. To be called before torch is loaded, when OpenMP starts."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def set_thread_policy() -> None:
    """Use as many threads as there are cores for this process.

    What the user has set in the environment stays.
    """
    environment = os.environ
    cores = cores_of_process()
    if cores < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(cores))


def cores_of_process(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use, at least 1: by its affinity and by the quota of its container.

    cgroup: where the control groups of Linux are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores by the quota of version 2 or 1 of control groups; None without one."""
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
