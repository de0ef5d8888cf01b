"""What it costs a picture to compute less: `python benchmarks/savings.py`.

The same prompts and seeds are painted plainly and with each switch, in turns, in one process. Time is the CPU
time of this process, which a busy machine changes least. PSNR is that of the pictures on white to the plain
ones; the judge, a classifier that no painter was trained with, says what they show. `--sheet` keeps pictures.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import danqing.zoo
from danqing.apps.paint import paint
from danqing.core.images import from_pil
from danqing.core.painter import Painter
from danqing.families import open_painter
from danqing.nets.feature_cache import deep_modules
from danqing.nets.judge import Judge

Fields = Mapping[str, object]

PLAIN = "plain"
WAYS: dict[str, Fields] = {
    PLAIN: {},
    "guidance 0.2 to 1": {"guidance_start": 0.2},
    "guidance 0 to 0.6": {"guidance_end": 0.6},
    "guidance 0.2 to 0.6": {"guidance_start": 0.2, "guidance_end": 0.6},
    "cache 2": {"cache_interval": 2},
    "cache 3": {"cache_interval": 3},
    "cache 5": {"cache_interval": 5},
    "cache 3, guidance 0 to 0.6": {"cache_interval": 3, "guidance_end": 0.6},
    "10 steps": {"steps": 10},
    "10 steps of unipc": {"steps": 10, "sampler": "unipc"},
    "10 steps, cache 2": {"steps": 10, "cache_interval": 2},
    "6 steps": {"steps": 6},
    "fast": {"fast": True},
    "fast, guidance 0 to 0.5": {"fast": True, "guidance_end": 0.5},
    "fast, cache 2": {"fast": True, "cache_interval": 2},
}
STYLES = ("3d", "flat", "cartoon")
SD1 = {"sample_size": 64, "cross_attention_dim": 768}  # else as UNet2DConditionModel is by itself
ON_SHEET = 8


@dataclass
class Figures:
    """Of one way to paint: seconds, PSNR in dB, and whether the judge names what was asked for."""

    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """A painter and its judge."""

    painter: Painter
    judge: Judge

    def prompts(self, count: int) -> list[tuple[str, str]]:
        """Things that the judge knows, evenly from all of them, and what is asked for."""
        things = self.judge.config.concepts
        chosen = [things[k * len(things) // count] for k in range(count)]
        return [(thing, f"{thing}, {STYLES[k % len(STYLES)]} style") for k, thing in enumerate(chosen)]

    def picture(self, prompt: str, seed: int, fields: Fields) -> tuple[Image.Image, float]:
        """A picture at native size, and its seconds."""
        start = time.process_time()
        values = {"native": True, "background": "transparent", "painter": self.painter, **fields}
        [picture] = paint(prompt, seed=seed, **values)  # type: ignore[arg-type]
        return picture.image, time.process_time() - start

    def thing(self, image: Image.Image) -> str:
        """What the judge takes it for."""
        label = self.judge.label(from_pil(image)[None])[0, 0]
        return self.judge.config.concepts[int(label)]


def on_white(image: Image.Image) -> Tensor:
    """RGB in [0, 1], [3 h w]."""
    pixels = from_pil(image).add(1).div(2)
    colours, alpha = pixels[:3], pixels[3:]
    return colours * alpha + 1 - alpha


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal to noise in dB; infinite for equal pictures."""
    error = float((on_white(one) - on_white(other)).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def measure(bench: Bench, ways: Mapping[str, Fields], chosen: argparse.Namespace) -> dict[str, Figures]:
    """All ways, prompt by prompt, until the minutes are over."""
    figures = {name: Figures() for name in ways}
    rows: list[list[Image.Image]] = []
    end, names = time.monotonic() + 60 * chosen.minutes, list(ways)
    bench.picture("a warm-up", 0, {"steps": 1})
    for k, (thing, prompt) in enumerate(bench.prompts(chosen.count)):
        if time.monotonic() > end:
            break
        turn = names[k % len(names) :] + names[: k % len(names)]  # nobody is always first
        painted = {name: bench.picture(prompt, k, ways[name]) for name in turn}
        for name, (image, seconds) in painted.items():
            figures[name].seconds.append(seconds)
            figures[name].psnr.append(psnr(image, painted[PLAIN][0]))
            figures[name].right.append(bench.thing(image) == thing)
        rows.append([painted[name][0] for name in names])
        if chosen.sheet is not None and len(rows) <= ON_SHEET:
            sheet_of(rows).save(chosen.sheet)
    return figures


def sheet_of(rows: list[list[Image.Image]]) -> Image.Image:
    """A row for each prompt, a column for each way."""
    width, height = rows[0][0].size
    sheet = Image.new("RGB", (width * len(rows[0]), height * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * width, y * height), image)
    return sheet


def deep_share(unet: UNet2DConditionModel) -> float:
    """Which share of the floating-point operations of a call is that of the blocks a cache leaves out."""
    config = unet.config
    x = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size, device="meta")
    words = torch.zeros(1, 77, config.cross_attention_dim, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        unet(x, torch.zeros(1, device="meta"), words)
    names = {module: name for name, module in unet.named_modules()}
    counts = counter.get_flop_counts()
    inside = (counts[f"{type(unet).__name__}.{names[module]}"] for module in deep_modules(unet))
    return sum(sum(operations.values()) for operations in inside) / counter.get_total_flops()


def table(figures: Mapping[str, Figures]) -> str:
    """As Markdown: time as a share of the plain way's, the mean PSNR, and what the judge names right."""
    plain = figures[PLAIN]
    lines = ["| | time | PSNR | judge |", "|---|---|---|---|"]
    for name, one in figures.items():
        share = sum(one.seconds) / sum(plain.seconds)
        near = "" if name == PLAIN else f"{sum(one.psnr) / len(one.psnr):.1f} dB"
        lines.append(f"| {name} | {share:.2f} | {near} | {sum(one.right)} of {len(one.right)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and how much of a UNet is deep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="stickers", help="a shipped model or a folder of weights")
    parser.add_argument("--count", type=int, default=60, help="prompts")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no prompt after so many")
    parser.add_argument("--only", nargs="+", choices=sorted(WAYS), help="some ways; the plain one always")
    parser.add_argument("--sheet", type=Path, help=f"a picture of the first {ON_SHEET} prompts, a row each")
    chosen = parser.parse_args()
    bench = Bench(open_painter(chosen.model), Judge.load(Path(danqing.zoo.__path__[0]) / "judge"))
    own = bench.painter.modules["unet"]  # type: ignore[attr-defined]
    with torch.device("meta"):
        networks = {
            chosen.model: UNet2DConditionModel.from_config(own.config),
            "SD 1": UNet2DConditionModel(**SD1),
        }
    for name, unet in networks.items():
        print(f"deep blocks of {name}: {deep_share(unet):.0%} of the operations", flush=True)
    ways = {name: WAYS[name] for name in WAYS if name == PLAIN or name in (chosen.only or WAYS)}
    print(table(measure(bench, ways, chosen)))
    print(f"load of the machine: {os.getloadavg()[1]:.1f} processes on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
