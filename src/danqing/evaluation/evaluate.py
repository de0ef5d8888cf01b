"""`danqing evaluate`: a report on a model in one page, with fixed seeds and pairs.

Each figure for painted pictures stands beside the same figure for real ones, which a perfect painter would
reach with this judge.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from danqing.core.brief import Brief
from danqing.core.errors import BadData
from danqing.core.painter import Conditioning, Painter
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.core.seeds import Seeds
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.diffusion.vae import VAE
from danqing.evaluation.classifier_metrics import ClassifierMetrics, classifier_metrics
from danqing.evaluation.metrics import frechet_distance, kernel_distance, psnr, ssim
from danqing.families.clip import ClipScorer
from danqing.nets.judge import Judge

Row = dict[str, Any]


@dataclass(frozen=True)
class EvaluationOptions:
    """How to paint the pictures to measure. None means the default of the card.

    train_pairs: number of pictures of pairs from training.
    held_out: number of pictures of held-out pairs.
    chinese: number of pictures with Chinese prompts.
    seed: seed of the first picture.
    batch: number of pictures painted at once.
    fast: whether to paint in a few steps, if the painter can.
    """

    train_pairs: int = 500
    held_out: int = 200
    chinese: int = 200
    seed: int = 0
    batch: int = 20
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    fast: bool = False


@dataclass(frozen=True)
class Report:
    """The results.

    figures: name -> value, in the order of the page.
    painted: name of a set -> its pictures [n c h w], for a contact sheet.
    pictures_per_second: speed of painting.
    """

    figures: dict[str, float]
    painted: dict[str, Tensor] = field(default_factory=dict)
    pictures_per_second: float = 0.0


@dataclass(frozen=True)
class Evaluator:
    """A painter, the judge, CLIP, and the real pictures to compare with."""

    painter: Painter
    judge: Judge
    scorer: ClipScorer
    real: CaptionedImages
    vae: VAE | None = None
    progress: ProgressCallback = no_progress

    def report(self, options: EvaluationOptions) -> Report:
        """Paint pictures, classify them, and compare them with the real ones.

        A data set without held-out pairs gives no figures for them.

        Raises:
            BadData: too few of the real pictures show things and styles that the judge has classes for.
        """
        real = self._training_pictures()
        train_pairs = _draw(
            [row for row in real.rows if not row.get("held_out")], options.train_pairs, options.seed
        )
        held_out = _draw([row for row in real.rows if row.get("held_out")], options.held_out, options.seed)
        groups = {
            "seen": (train_pairs, "text"),
            "held-out": (held_out, "text"),
            "chinese": (
                train_pairs[: options.chinese] if all(row.get("text_zh") for row in train_pairs) else [],
                "text_zh",
            ),
        }
        groups = {name: (rows, column) for name, (rows, column) in groups.items() if rows}
        begun = time.perf_counter()
        painted = {
            name: self._paint_prompts(name, [row[column] for row in rows], options)
            for name, (rows, column) in groups.items()
        }
        spent = time.perf_counter() - begun
        opinions = {name: self._metrics(painted[name], rows) for name, (rows, _) in groups.items()}
        figures = {"judge's reliability: concept top-1": self.judge.config.reliability}
        if self.vae is not None and held_out:
            figures |= vae_figures(
                self.vae, to_unit(real.where(lambda row: bool(row.get("held_out"))).pictures)
            )
        figures |= self._compare(opinions, real)
        figures["CLIP score, painted"] = self._clip_score(painted["seen"], train_pairs)
        return Report(figures, painted, sum(map(len, painted.values())) / spent)

    def _training_pictures(self) -> CaptionedImages:
        knows = self.judge.config
        real = self.real.where(
            lambda row: (
                "phrase" not in row  # a scene does not show one thing alone
                and row.get("style") in knows.styles
                and row.get("concept") in knows.concepts
            )
        )
        if len(real) < 4 or all(row.get("held_out") for row in real.rows):
            raise BadData(
                f"too few real pictures ({len(real)}) of things and styles that the judge knows: "
                "build them with 'danqing data stickers --known'"
            )
        return real

    def _compare(self, opinions: dict[str, ClassifierMetrics], real: CaptionedImages) -> dict[str, float]:
        """The figures of the real pictures, of the painted ones, and the distances between both."""
        pixels = to_unit(real.pictures)
        result = self._metrics(pixels, real.rows)
        figures = _figures("real (trained on)", result)
        figures["CLIP score, real"] = self._clip_score(pixels, real.rows)
        for name, painted in opinions.items():
            figures |= _figures(name, painted)
        figures |= {f"seen: style {name}": share for name, share in opinions["seen"].by_style.items()}
        figures |= distances(opinions["seen"].features, result.features)
        if "chinese" in opinions:
            chinese = opinions["chinese"].labels[:, 0]
            agree = chinese == opinions["seen"].labels[: len(chinese), 0]
            figures["English and Chinese agree: concept"] = float(agree.float().mean())
        return figures

    def _paint_prompts(self, name: str, prompts: Sequence[str], options: EvaluationOptions) -> Tensor:
        pictures: list[Tensor] = []
        for first in range(0, len(prompts), options.batch):
            part = prompts[first : first + options.batch]
            pictures.append(self._paint(part, options, options.seed + first))
            self.progress(Progress(first + len(part), len(prompts), name))
        return torch.cat(pictures)

    def _paint(self, prompts: Sequence[str], options: EvaluationOptions, seed: int) -> Tensor:
        """Native pictures of several prompts in one batch, with the seeds seed, seed + 1, ..."""
        fields = {name: getattr(options, name) for name in ("steps", "guidance", "sampler", "fast")}
        briefs = [
            Brief.of(prompt, seed=seed + k, native=True, **fields).resolve(self.painter.card)
            for k, prompt in enumerate(prompts)
        ]
        words = Conditioning.cat(*(self.painter.condition(brief) for brief in briefs))
        canvas = self.painter.begin(briefs[0], words, Seeds.of(seed, len(prompts)))
        *_, last = self.painter.steps(briefs[0], words, canvas)
        return self.painter.finish(last)

    def _metrics(self, pictures: Tensor, rows: Sequence[Row]) -> ClassifierMetrics:
        return classifier_metrics(self.judge, pictures, [(row["concept"], row["style"]) for row in rows])

    def _clip_score(self, pictures: Tensor, rows: Sequence[Row]) -> float:
        """Mean cosine of pictures and their English captions, times 100 (arXiv 2104.08718, not rescaled)."""
        words = self.scorer.text_embeddings([row["text"] for row in rows])
        return float(100 * (self.scorer.image_embeddings(pictures) * words).sum(dim=-1).mean())


def distances(painted: Tensor, real: Tensor) -> dict[str, float]:
    """FID and KID of painted and real features [n d], and of two halves of the real ones: the lower limit."""
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    half, other = real[order].chunk(2)
    return {
        "FID in judge features": frechet_distance(painted, real),
        "FID, real against real": frechet_distance(half, other),
        "KID in judge features": kernel_distance(painted, real),
        "KID, real against real": kernel_distance(half, other),
    }


@torch.no_grad()
def vae_figures(vae: VAE, pictures: Tensor) -> dict[str, float]:
    """PSNR (dB, all channels) and SSIM of pictures [n c h w] in [-1, 1] through the VAE and back."""
    parts = torch.split(pictures, 16)
    # the VAE takes pictures on any device and returns them on its own
    made = torch.cat([vae.decode(vae.encode(part)).clamp(-1, 1).cpu() for part in parts])
    return {
        "autoencoder PSNR, held-out (dB)": float(psnr(made, pictures).mean()),
        "autoencoder SSIM, held-out": float(ssim(made, pictures).mean()),
    }


def _draw(rows: list[Row], count: int, seed: int) -> list[Row]:
    """`count` rows in a fixed random order. If there are fewer, rows are repeated, with other seeds."""
    order = random.Random(seed).sample(rows, k=len(rows))
    return [order[k % len(order)] for k in range(count)] if order else []


def _figures(name: str, result: ClassifierMetrics) -> dict[str, float]:
    return {
        f"{name}: concept top-1": result.top1,
        f"{name}: concept top-5": result.top5,
        f"{name}: style": result.style,
    }
