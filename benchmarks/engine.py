"""Sixteen people ask at the same moment: served one at a time, and by the engine in batches.

    python benchmarks/engine.py
    python benchmarks/engine.py --users 16 --rows 8 16 --backend openvino

Each asks for one picture, of words, seed and steps of their own; `--samplers` mixes samplers too. Latency is
from that moment to the finished picture. Served one at a time, the last waits for all others; in batches, all
end late together: what counts is pictures a minute, and the latency of nearly all (p95). The difference is
that of pictures in grey levels.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import danqing
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.diffusion.painter import DiffusionPainter
from danqing.execution.engine import EngineThread
from danqing.execution.shared import SharedPainter
from danqing.families import open_painter

THINGS = ("red apple", "cat", "rocket", "owl", "cup of tea", "fish", "tree", "sun")
SAMPLERS = ("dpmpp_2m", "euler", "heun", "euler_ancestral", "ddim", "unipc", "dpmpp_2m_sde", "ddpm")


@dataclass(frozen=True)
class Served:
    """Seconds from the common start to each picture, and the pictures."""

    latencies: Sequence[float]
    pictures: Mapping[int, Picture]

    def row(self) -> str:
        """Pictures a minute, and median and 95 % of the latencies."""
        rate = 60 * len(self.latencies) / max(self.latencies)
        return f"{rate:10.1f} {np.median(self.latencies):9.2f} {np.quantile(self.latencies, 0.95):9.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="stickers")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--rows", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--steps", type=int, default=0, help="of every picture; 0 is 8 to 20, by user")
    parser.add_argument("--samplers", action="store_true", help="another sampler for each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", default="eager")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    painter = open_painter(options.model, "cpu", backend=options.backend)
    assert isinstance(painter, DiffusionPainter)
    briefs = [brief_of(painter, options, k) for k in range(options.users)]
    one_at_a_time(painter, briefs[:2])  # opens everything
    base = one_at_a_time(painter, briefs)
    print(f"{options.model} by {options.backend}, {options.users} users, {options.threads} threads\n")
    print(f"{'':<18} {'pictures/min':>10} {'p50 s':>7} {'p95 s':>9}   rate  differ by > 1")
    print(f"{'one at a time':<18} {base.row()}   1.00", flush=True)
    for rows in options.rows:
        in_batches(painter, briefs, rows)  # a backend makes its programs for each size
        served = in_batches(painter, briefs, rows)
        gain = max(base.latencies) / max(served.latencies)
        print(f"{f'{rows} rows':<18} {served.row()} {gain:6.2f} {differing(served, base):9.3f} %", flush=True)


def brief_of(painter: Painter, options: argparse.Namespace, k: int) -> ResolvedBrief:
    """What user k asks for."""
    fields = {"sampler": SAMPLERS[k % len(SAMPLERS)]} if options.samplers else {}
    steps = options.steps or 8 + 12 * k // max(1, options.users - 1)
    words = f"a {THINGS[k % len(THINGS)]}, 3d style"
    return Brief.of(words, seed=k, steps=steps, native=True, model=options.model, **fields).resolve(
        painter.card
    )


def one_at_a_time(painter: Painter, briefs: Sequence[ResolvedBrief]) -> Served:
    """Each waits for all before."""
    start, latencies, pictures = time.perf_counter(), [], {}
    for k, brief in enumerate(briefs):
        [pictures[k]] = danqing.paint(brief, painter=painter)
        latencies.append(time.perf_counter() - start)
    return Served(latencies, pictures)


def in_batches(painter: DiffusionPainter, briefs: Sequence[ResolvedBrief], rows: int) -> Served:
    """All at once, by the engine."""
    engine = EngineThread(rows)
    latencies: list[float] = [0.0] * len(briefs)
    pictures: dict[int, Picture] = {}
    start = time.perf_counter()

    def ask(k: int) -> Callable[[], None]:
        def work() -> None:
            shared = SharedPainter.of(painter, engine, lambda: str(k))
            [pictures[k]] = danqing.paint(briefs[k], painter=shared)
            latencies[k] = time.perf_counter() - start

        return work

    threads = [threading.Thread(target=ask(k)) for k in range(len(briefs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    return Served(latencies, pictures)


def differing(served: Served, base: Served) -> float:
    """Per cent of values of pixels that differ by more than one grey level."""
    pairs = [(served.pictures[k].image, base.pictures[k].image) for k in base.pictures]
    apart = [np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16)) > 1 for a, b in pairs]
    return 100 * float(np.mean([each.mean() for each in apart]))


if __name__ == "__main__":
    main()
