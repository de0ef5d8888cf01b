"""What each backend gains, beside plain diffusers, and how far its pictures are from eager's.

    python benchmarks/backends.py
    python benchmarks/backends.py --threads 2 --pictures 5

One call of the denoiser of two rows (a picture with guidance), then whole pictures with the settings of the
model's card. All take turns, so that a busy machine slows all alike. Beside the time on the clock stands that
of the CPU, which is what the work costs whoever else is there; a ratio is the median of those of the turns,
against eager for a call and against diffusers for a picture. Differences are of pictures of the same seed:
grey levels, and PSNR in dB. Every backend gets the same number of threads.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from paint import PEER_SAMPLER, Case, peer

import danqing
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import NetworkCall
from danqing.diffusion.painter import DiffusionPainter
from danqing.execution.backends import open_backend
from danqing.families import open_painter
from danqing.weights.shipped import shipped_models

Work = Callable[[], object]


class Cost(NamedTuple):
    """Seconds on the clock and of the CPU."""

    clock: float
    cpu: float


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="stickers", help="a shipped model, or any diffusers folder")
    parser.add_argument("--prompt", default="a red apple, 3d style")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=15, help="of the denoiser")
    parser.add_argument("--pictures", type=int, default=7)
    parser.add_argument("--backends", nargs="*", default=["openvino", "openvino-bf16"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.showwarning = lambda message, *_: print(f"({message})")
    names = ["eager", *filter(installed, options.backends)]
    case = Case(options.model, options.prompt, 1, 1, options.pictures, options.threads)
    print(f"{options.model}, {options.threads} threads, torch {torch.__version__}, {platform.machine()}\n")
    print("one call of the denoiser, 2 rows            ms   times eager    CPU ms   times eager")
    report(take_turns(denoiser_calls(names, case), options.calls), "eager", 1000)
    work, pictures = whole_pictures(names, case)
    print("\na picture at native size                     s   times diffusers    CPU s   times diffusers")
    report(take_turns(work, options.pictures), "diffusers", 1)
    print("\nthe picture against eager's                 PSNR   largest   above 1 level")
    for name in names[1:]:
        print(f"{name:<36} {difference(pictures[name], pictures['eager'])}")


def installed(name: str) -> bool:
    """Whether a backend can be used here; says why not."""
    try:
        return open_backend(name, torch.device("cpu")) is not None
    except BadBrief as error:
        print(error)
        return False


def denoiser_calls(names: Sequence[str], case: Case) -> Mapping[str, Work]:
    """The same call of the denoiser by each backend."""

    def call(name: str) -> Work:
        painter = open_painter(case.model, "cpu", backend=name)
        brief = case.brief(native=True).resolve(painter.card)
        words = painter.condition(brief)
        assert isinstance(painter, DiffusionPainter)
        canvas = painter.begin(brief, words, Seeds([1]))
        asked = next(painter.calls(brief, words, canvas))
        assert isinstance(asked, NetworkCall)
        return torch.no_grad()(asked.output)

    return {name: call(name) for name in names}


def whole_pictures(names: Sequence[str], case: Case) -> tuple[Mapping[str, Work], dict[str, Picture]]:
    """The same request to each backend and to diffusers; and what the backends paint, as it comes."""
    pictures: dict[str, Picture] = {}

    def paint(name: str) -> Work:
        painter = open_painter(case.model, "cpu", backend=name)
        brief = case.brief(native=True, sampler=PEER_SAMPLER).resolve(painter.card)

        def work() -> None:
            [pictures[name]] = danqing.paint(brief, painter=painter)

        return work

    painter = open_painter(case.model, "cpu")
    brief: Brief = case.brief(native=True, sampler=PEER_SAMPLER).resolve(painter.card)
    theirs = peer(shipped_models().get(case.model, Path(case.model)), brief)
    return {"diffusers": theirs, **{name: paint(name) for name in names}}, pictures


def take_turns(work: Mapping[str, Work], repeats: int) -> Mapping[str, list[Cost]]:
    """What each costs, in turns; the first turn is left out."""
    turns = [{name: cost_of(each) for name, each in work.items()} for _ in range(1 + repeats)][1:]
    return {name: [turn[name] for turn in turns] for name in work}


def cost_of(work: Work) -> Cost:
    """Seconds on the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - clock, time.process_time() - cpu)


def report(costs: Mapping[str, list[Cost]], base: str, scale: float) -> None:
    """A line for each: medians, and their ratios to `base`."""
    for name, values in costs.items():
        cells = []
        for kind in Cost._fields:
            pairs = [
                (getattr(one, kind), getattr(two, kind)) for one, two in zip(values, costs[base], strict=True)
            ]
            cells.append(f"{scale * median(one for one, _ in pairs):9.3f}")
            cells.append(f"{median(one / two for one, two in pairs):8.2f}")
        print(f"{name:<36} {'   '.join(cells)}", flush=True)


def difference(picture: Picture, other: Picture) -> str:
    """PSNR in dB, the largest difference in grey levels, the share of values that differ by more than 1."""
    one, two = (np.asarray(each.image, dtype=np.int16) for each in (picture, other))
    apart = np.abs(one - two)
    error = float((apart.astype(np.float64) ** 2).mean())
    psnr = 10 * math.log10(255**2 / error) if error else math.inf
    return f"{psnr:9.1f} {apart.max():9d} {100 * (apart > 1).mean():12.2f} %"


if __name__ == "__main__":
    main()
