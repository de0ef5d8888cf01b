"""What helps a latent painter to learn: `python benchmarks/experiments.py --data stickers`.

Every trial trains a small UNet from random weights on the same few things in two styles, differs from
"base" in one point, and stops when its minutes of learning are over. The judge, a classifier that no painter
was trained with, then names two pictures of every caption. Latents, words and seeds are the same for all
trials. Trials share a machine badly: give each a core of its own, or run one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from torch import Generator, Tensor, nn

import danqing.zoo
from danqing.core.seeds import Seeds
from danqing.data.captions import plain_captions
from danqing.data.dataset import CaptionedImages, read_imagefolder, to_unit
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.vae import VAE
from danqing.families import open_clip_scorer, open_painter
from danqing.families.stable_diffusion.denoiser import Denoiser
from danqing.families.stable_diffusion.painter import SCHEDULE, UNETS
from danqing.nets.judge import Judge
from danqing.training.diffusion import DiffusionObjective, DiffusionOptions, paint_pixels
from danqing.training.objective import Batch
from danqing.training.trainer import Trainer, TrainOptions

STYLES = ("3d", "cartoon")
SMALL = {**UNETS["sticker"], "block_out_channels": (64, 96, 128)}
PACE = TrainOptions(steps=0, batch=32, lr=1e-3, warmup=100, ema=0.995, save_every=10**9, sheet_every=10**9)


@dataclass(frozen=True)
class Trial:
    """One way to learn. unet: what differs in the network's config. times: share drawn uniformly.

    aligned: the weight of REPA's loss. fold: latents of a 2 x 2 square put into one place.
    """

    unet: Mapping[str, Any] = field(default_factory=dict)
    prediction: Any = Prediction.V
    schedule: Schedule = field(default_factory=lambda: Schedule.from_config(SCHEDULE))
    times: float = 0.2
    gamma: float | None = None
    batch: int = 32
    lr: float = 1e-3
    aligned: float = 0.0
    fold: bool = False
    transformer: bool = False
    compiled: bool = False
    precision: str = "bf16"


class Flow:
    """The velocity noise - x_0 of a straight path (flow matching, arXiv 2210.02747; 2209.03003).

    On the path y = (1 - s) x_0 + s noise, scaled to variance 1: x = y / c with c = |(1 - s, s)|, hence
    alpha = (1 - s) / c, sigma = s / c and 1 / c = alpha + sigma. The methods are `Prediction`'s.
    """

    def clean(self, x: Tensor, output: Tensor, alpha: Any, sigma: Any) -> Tensor:
        """x_0 = y - s u."""
        clean: Tensor = (x - sigma * output) / (alpha + sigma)
        return clean

    def noise(self, x: Tensor, output: Tensor, alpha: Any, sigma: Any) -> Tensor:
        """Noise = x_0 + u."""
        noise: Tensor = (x + alpha * output) / (alpha + sigma)
        return noise

    def target(self, x0: Tensor, noise: Tensor, alpha: Any, sigma: Any) -> Tensor:  # noqa: ARG002
        """The velocity u."""
        return noise - x0


def straight() -> Schedule:
    """The noise levels of the straight path, s = 0.001 to 0.999, scaled to variance 1."""
    s = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    return Schedule(alpha_bar=(1 - s) ** 2 / ((1 - s) ** 2 + s**2), spacing="trailing")


TRIALS = {
    "base": Trial(),
    "epsilon": Trial(prediction=Prediction.EPSILON),
    "epsilon, min-SNR": Trial(prediction=Prediction.EPSILON, gamma=5.0),
    "v, min-SNR": Trial(gamma=5.0),
    "v, uniform times": Trial(times=1.0),
    "flow": Trial(prediction=Flow(), schedule=straight()),
    "flow, uniform times": Trial(prediction=Flow(), schedule=straight(), times=1.0),
    "batch 16": Trial(batch=16),
    "batch 64": Trial(batch=64),
    "batch 64, lr x 1.4": Trial(batch=64, lr=1.4e-3),
    "no pooled words": Trial(unet={"addition_embed_type": None}),
    "REPA": Trial(aligned=0.5),
    "folded latents": Trial(unet={"in_channels": 64, "out_channels": 64, "sample_size": 8}, fold=True),
    "transformer": Trial(transformer=True),
    "compiled": Trial(compiled=True),
    "float32": Trial(precision="no"),
}


class Folded:
    """A VAE whose latents are another's with 2 x 2 places put into the channels of one."""

    def __init__(self, plain_captions: VAE) -> None:
        self._plain = plain_captions
        self.factor, self.channels = 2 * plain_captions.factor, 4 * plain_captions.channels
        self.pixel_channels, self.decoder = plain_captions.pixel_channels, plain_captions.decoder

    def encode(self, pixels: Tensor, seeds: Seeds | None = None) -> Tensor:
        """Pixels -> [n 4c h/2 w/2]."""
        return F.pixel_unshuffle(self._plain.encode(pixels, seeds), 2)

    def decode(self, latents: Tensor) -> Tensor:
        """And back."""
        return self._plain.decode(F.pixel_shuffle(latents, 2))


class Transformer(nn.Module):
    """A small diffusion transformer with cross-attention to the words (PixArt, arXiv 2310.00426)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=channels)
        self.inner = PixArtTransformer2DModel(
            num_attention_heads=6,
            attention_head_dim=32,
            in_channels=channels,
            out_channels=channels,
            num_layers=8,
            cross_attention_dim=192,
            caption_channels=192,
            sample_size=16,
            patch_size=2,
            interpolation_scale=1.0,
            use_additional_conditions=False,
        )

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, **_: object) -> tuple[Tensor]:
        """As a UNet of diffusers answers."""
        told = {"resolution": None, "aspect_ratio": None}
        said = self.inner(
            x, encoder_hidden_states, t.expand(len(x)), added_cond_kwargs=told, return_dict=False
        )
        return (said[0],)


class Aligned(DiffusionObjective):
    """REPA (arXiv 2410.06940): the UNet's middle is drawn towards the features of CLIP's image encoder."""

    def __init__(
        self, painter: DiffusionPainter, pictures: CaptionedImages, options: DiffusionOptions, weight: float
    ) -> None:
        super().__init__(painter, painter.modules["unet"], pictures, options)
        self._weight, scorer = weight, open_clip_scorer()
        with torch.no_grad():
            views = torch.split(to_unit(pictures.pictures)[:, :3], 64)
            states = [scorer.model.vision_model(scorer.processor(part)).last_hidden_state for part in views]
        seen = torch.cat(states)[:, 1:]
        side = round(seen.shape[1] ** 0.5)
        self._seen = F.adaptive_avg_pool2d(seen.mT.reshape(*seen.mT.shape[:2], side, side), 4)
        self.projection = nn.Sequential(
            nn.Conv2d(128, 256, 1), nn.SiLU(), nn.Conv2d(256, self._seen.shape[1], 1)
        )
        self._middle = torch.empty(0)
        self.unet.mid_block.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _given: object, output: Tensor) -> None:
        self._middle = output

    def batch(self, size: int, rng: Generator) -> Batch:
        """With what the encoder sees, drawn the same way."""
        picks = self._pick(size, Generator().set_state(rng.get_state()))
        return {**super().batch(size, rng), "seen": self._seen[picks]}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The denoising loss, and one minus the cosine of the middle with what the encoder sees."""
        losses = super().forward(batch)
        apart = 1 - F.cosine_similarity(self.projection(self._middle).float(), batch["seen"], dim=1).mean()
        return {"loss": losses["loss"] + self._weight * apart, "apart": apart}


def painter_of(trial: Trial, shipped: DiffusionPainter) -> DiffusionPainter:
    """The shipped painter's words and latents with a new network."""
    torch.manual_seed(0)
    unet = Transformer(16) if trial.transformer else UNet2DConditionModel(**{**SMALL, **trial.unet})
    network = Denoiser(torch.compile(unet) if trial.compiled else unet)
    return replace(
        shipped,
        network=network,
        prediction=trial.prediction,
        schedule=trial.schedule,
        vae=Folded(shipped.vae) if trial.fold else shipped.vae,
        modules={"unet": unet},
        latent_rgb=None,
        adapters={},
    )


def slice_of(pictures: CaptionedImages, things: int) -> CaptionedImages:
    """Some of the things that the judge knows, in two styles; held-out pairs too."""
    known = set(Judge.load(Path(danqing.zoo.__path__[0]) / "judge").config.concepts)
    found = sorted({row["concept"] for row in pictures.rows if row.get("concept") in known})
    names = found[:: max(1, len(found) // things)][:things]
    return pictures.where(lambda row: row.get("concept") in names and row.get("style") in STYLES)


def trained(trial: Trial, pictures: CaptionedImages, minutes: float) -> tuple[DiffusionPainter, int, float]:
    """The painter after its minutes, how many pictures it saw and how many a second."""
    shipped = open_painter("stickers")
    assert isinstance(shipped, DiffusionPainter)
    painter = painter_of(trial, shipped)
    options = DiffusionOptions(uniform=trial.times, gamma=trial.gamma)
    if trial.aligned:
        objective: DiffusionObjective = Aligned(painter, pictures, options, trial.aligned)
    else:
        objective = DiffusionObjective(painter, painter.modules["unet"], pictures, options)
    pace = replace(PACE, batch=trial.batch, lr=trial.lr, precision=trial.precision)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(objective, replace(pace, steps=10**9), Path(folder))
        second = _pace_of(trainer)
        steps = int(60 * minutes / second)
        trainer.options = trainer._pace = replace(pace, steps=steps)
        trainer.train()
    painter.modules["unet"].eval()
    return painter, steps * trial.batch, trial.batch / second


def _pace_of(trainer: Trainer) -> float:
    """Seconds a step; the first ones, which compile and allocate, and which learn next to nothing, aside."""
    for step in range(5):
        trainer._step(step)
    begun = time.perf_counter()
    for step in range(20):
        trainer._step(step)
    return (time.perf_counter() - begun) / 20


def judged(painter: DiffusionPainter, pictures: CaptionedImages) -> dict[str, float]:
    """Two pictures of every caption: how often the judge names the thing and the style, and how surely."""
    judge = Judge.load(Path(danqing.zoo.__path__[0]) / "judge")
    known, styles = judge.config.concepts, judge.config.styles
    surely, thing, style = [], [], []
    for row in pictures.rows:
        words = plain_captions(row["concept"], "", row["style"])[0]
        pixels = paint_pixels(painter, words, Seeds([0, 1]))
        concept, texture, _ = judge.predict(pixels)
        right = known.index(row["concept"])
        surely.append(concept.softmax(dim=1)[:, right].mean())
        thing.append((concept.argmax(dim=1) == right).float().mean())
        style.append((texture.argmax(dim=1) == styles.index(row["style"])).float().mean())
    return {
        name: float(torch.stack(values).mean())
        for name, values in {"thing": thing, "how surely": surely, "style": style}.items()
    }


def main(told: Callable[[str], object] = print) -> None:
    """Run the trials that are named, or all, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trials", nargs="*", help="; ".join(TRIALS))
    parser.add_argument("--data", type=Path, required=True, help="what 'danqing data stickers' built")
    parser.add_argument("--minutes", type=float, default=4.0, help="of learning, for each")
    parser.add_argument("--things", type=int, default=24)
    asked = parser.parse_args()
    if unknown := [name for name in asked.trials if name not in TRIALS]:
        parser.error(f"trial {unknown[0]!r} is unknown: choose from {', '.join(map(repr, TRIALS))}")
    pictures = slice_of(read_imagefolder(asked.data), asked.things)
    told(f"{len(pictures)} pictures, {torch.get_num_threads()} threads")
    for name in asked.trials or TRIALS:
        painter, seen, rate = trained(TRIALS[name], pictures, asked.minutes)
        figures = "  ".join(f"{key} {value:.3f}" for key, value in judged(painter, pictures).items())
        told(f"{name:<20} {rate:6.1f} pictures/s  {seen:>7} seen  {figures}")


if __name__ == "__main__":
    main()
