"""How fast and how large painting is, and how fast plain diffusers is on the same folder, in one run.

    python benchmarks/paint.py
    python benchmarks/paint.py --model FOLDER --repeats 9 --threads 2

Cold is a new `danqing paint` process, from its start to its end. Warm is `danqing.paint` with an open
painter. Against diffusers: `StableDiffusionPipeline` with `DPMSolverMultistepScheduler` and the same words,
steps, guidance, native size and number of pictures; they take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import diffusers
import torch
import transformers
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

import danqing
from danqing.core.brief import Brief
from danqing.core.painter import Painter
from danqing.families import open_painter
from danqing.weights.shipped import shipped_models

PEER_SAMPLER = "dpmpp_2m"  # what DPMSolverMultistepScheduler is by default
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True)
class Case:
    """What is measured: each figure `repeats` times, after one run that is not counted."""

    model: str
    prompt: str
    count: int
    batch: int
    repeats: int
    threads: int

    def brief(self, **fields: object) -> Brief:
        return Brief.of(self.prompt, seed=1, model=self.model, **fields)


def arguments() -> Case:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="stickers", help="a shipped model, or any diffusers folder")
    parser.add_argument("--prompt", default="a red apple, 3d style")
    parser.add_argument("--count", type=int, default=1, help="pictures a request, against diffusers")
    parser.add_argument("--batch", type=int, default=1, help="how many of them we paint at once; they: all")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return Case(**vars(parser.parse_args()))


def cold(case: Case) -> tuple[list[float], float]:
    """Seconds of whole `danqing paint` processes, and the largest peak of their memory in MiB."""
    found = [_process(case) for _ in range(1 + case.repeats)][1:]
    seconds, peaks = zip(*found, strict=True)
    return list(seconds), max(peaks)


def _process(case: Case) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "danqing.interfaces.cli", "paint", case.prompt, "--seed", "1"]
        command += ["--model", case.model, "--out", str(Path(folder) / "picture.png")]
        start = time.perf_counter()
        with subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": str(case.threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)  # the usage of this child alone
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: run it to see why")
    return seconds, usage.ru_maxrss * RSS_UNIT / 2**20


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def warm(case: Case, painter: Painter, **fields: object) -> list[float]:
    """Seconds of one request to an open painter."""
    brief = case.brief(**fields)
    return [timed(lambda: danqing.paint(brief, painter=painter)) for _ in range(1 + case.repeats)][1:]


def duel(case: Case, painter: Painter, folder: Path) -> list[tuple[float, float]]:
    """Seconds of the same request (ours, theirs), taking turns."""
    brief = case.brief(native=True, count=case.count, sampler=PEER_SAMPLER).resolve(painter.card)
    theirs = peer(folder, brief)

    def ours() -> object:
        return danqing.paint(brief, painter=painter, batch=case.batch)

    return [(timed(ours), timed(theirs)) for _ in range(1 + case.repeats)][1:]


def peer(folder: Path, brief: Brief) -> Callable[[], object]:
    """Plain diffusers, ready to do what `brief` asks for."""
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, safety_checker=None, requires_safety_checker=False
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(
        brief.prompt,
        width=brief.width,
        height=brief.height,
        num_inference_steps=brief.steps,
        guidance_scale=brief.guidance,
        num_images_per_prompt=brief.count,
        generator=[torch.Generator().manual_seed(1 + k) for k in range(brief.count)],
    )


def tell(name: str, values: list[float], unit: str) -> None:
    print(f"{name:<44} {min(values):8.3f} {median(values):8.3f} {max(values):8.3f}  {unit}", flush=True)


def main() -> None:
    case = arguments()
    torch.set_num_threads(case.threads)
    painter = open_painter(case.model)
    resolved = case.brief().resolve(painter.card)
    native = f"{painter.card.width} x {painter.card.height}"
    pictures = f"{case.count} picture{'s' * (case.count > 1)} of {native}"
    print(f"{case.model}, {resolved.steps} steps, guidance {resolved.guidance:g}, {case.threads} threads")
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, {platform.machine()}\n")
    print(f"{'':<44} {'least':>8} {'median':>8} {'most':>8}")
    seconds, peak = cold(case)
    tell(f"danqing paint, {resolved.width} x {resolved.height}, whole process", seconds, "s")
    tell("  its peak memory", [peak], "MiB")
    tell(f"warm, {resolved.width} x {resolved.height}", warm(case, painter), "s")
    tell(f"warm, {native} (native)", warm(case, painter, native=True), "s")
    pairs = duel(case, painter, shipped_models().get(case.model, Path(case.model)))
    tell(f"{pictures}: danqing", [ours for ours, _ in pairs], "s")
    tell(f"{pictures}: diffusers", [theirs for _, theirs in pairs], "s")
    tell("danqing / diffusers, pair by pair", [ours / theirs for ours, theirs in pairs], "times")


if __name__ == "__main__":
    main()
