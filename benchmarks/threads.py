"""How threads of PyTorch wait: a picture alone, beside a busy process, and two programs at once.

    python benchmarks/threads.py

Each row is a policy: OpenMP's default (waiting threads spin for long), passive (they sleep at once), one
thread, and several numbers of rounds to spin. Seconds are medians of warm pictures of 128 pixels in 20 steps;
the ratio is to the default alone, measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping

PAINT = """
import sys, time
import danqing
session = danqing.Session()
for k in range(int(sys.argv[1])):
    start = time.perf_counter()
    session.paint("a red apple, 3d style", seed=k, native=True)
    print(time.perf_counter() - start, flush=True)
"""
BUSY = "while True: pass"
POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin 20,000": {"GOMP_SPINCOUNT": "20000"},
    "spin 200,000": {"GOMP_SPINCOUNT": "200000"},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=6, help="of each measurement, the first is left out")
    options = parser.parse_args()
    base = median(painter({}, options.pictures))
    print(f"{'policy':<14} {'alone':>14} {'beside busy':>14} {'two at once':>14}")
    for name, policy in POLICIES.items():
        alone = median(painter(policy, options.pictures))
        with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
            beside = median(painter(policy, options.pictures))
            busy.kill()
        both = [painter(policy, options.pictures) for _ in range(2)]
        together = max(median(each) for each in both)
        cells = (f"{seconds:6.2f} s {seconds / base:4.1f}x" for seconds in (alone, beside, together))
        print(f"{name:<14} {' '.join(f'{cell:>14}' for cell in cells)}", flush=True)


def painter(policy: Mapping[str, str], pictures: int) -> subprocess.Popen[str]:
    """A process that paints and prints the seconds of each picture."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", PAINT, str(pictures)]
    return subprocess.Popen(command, env={**plain, **policy}, stdout=subprocess.PIPE, text=True)


def median(process: subprocess.Popen[str]) -> float:
    """The median of the seconds that a process prints, without the first."""
    output, _ = process.communicate()
    return statistics.median(float(line) for line in output.split()[1:])


if __name__ == "__main__":
    main()
