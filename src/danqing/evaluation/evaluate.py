"""`danqing evaluate`: one honest page about a model, with fixed seeds and pairs.

Each figure for painted pictures stands beside the same figure for real ones: what a perfect painter would reach
under this judge.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from danqing.core.brief import Brief
from danqing.core.errors import BadData
from danqing.core.painter import Painter
from danqing.core.seeds import Seeds
from danqing.data.dataset import Stickers, to_unit
from danqing.diffusion.codec import Codec
from danqing.evaluation.metrics import frechet_distance, kernel_distance, psnr, ssim
from danqing.evaluation.opinion import Opinion, opinion
from danqing.nets.judge import Judge


@dataclass(frozen=True)
class EvaluationOptions:
    """How many pictures of each kind, and how to paint them (None = as the model's card says)."""

    seen: int = 500
    held_out: int = 200
    chinese: int = 200
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None


@dataclass(frozen=True)
class Report:
    """Figures by name, in the order of the page, and the painted pictures [n c h w] for a sheet."""

    figures: dict[str, float]
    painted: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """A painter, the judge, CLIP and the real pictures."""

    painter: Painter
    judge: Judge
    clip: CLIPModel
    tokenizer: CLIPTokenizer
    real: Stickers
    watch: Callable[[str, int, int], None] = lambda *_: None

    def report(self, options: EvaluationOptions) -> Report:
        """Paint, ask the judge and CLIP, compare with the real pictures.

        Raises:
            BadData: the real pictures hold none of the things the judge knows.
        """
        rows = [row for row in self.real.rows if row["style"] in self.judge.config.styles]
        rows = [row for row in rows if row["concept"] in self.judge.config.concepts]
        if not rows:
            raise BadData("the data set holds none of the things the judge knows: build it with 'danqing data stickers'")
        seen = _drawn([row for row in rows if not row["held_out"]], options.seen, options.seed)
        unseen = _drawn([row for row in rows if row["held_out"]], options.held_out, options.seed)
        painted = {
            "seen": self._painted("seen", [row["text"] for row in seen], options),
            "held-out": self._painted("held-out", [row["text"] for row in unseen], options),
            "chinese": self._painted("chinese", [row["text_zh"] for row in seen[: options.chinese]], options),
        }
        figures = {"judge's reliability: concept top-1": self.judge.config.reliability}
        opinions = {name: self._opinion(pictures, group) for (name, pictures), group in
                    zip(painted.items(), (seen, unseen, seen[: options.chinese]), strict=True)}
        figures |= self._real_figures(rows)
        for name, told in opinions.items():
            figures |= _told(name, told)
        figures |= self._distances(opinions["seen"].features, rows)
        agree = opinions["chinese"].labels == opinions["seen"].labels[: len(opinions["chinese"].labels)]
        figures["English and Chinese agree: concept"] = float(agree[:, 0].float().mean())
        figures["CLIP score, painted"] = self._clip_score(painted["seen"], [row["text"] for row in seen])
        return Report(figures, painted)

    def _painted(self, name: str, prompts: Sequence[str], options: EvaluationOptions) -> Tensor:
        pictures = []
        for k, prompt in enumerate(prompts):
            pictures.append(self._paint(prompt, options, options.seed + k))
            self.watch(name, k + 1, len(prompts))
        return torch.cat(pictures)

    def _paint(self, prompt: str, options: EvaluationOptions, seed: int) -> Tensor:
        brief = Brief(
            prompt=prompt,
            seed=seed,
            native=True,
            steps=options.steps,
            guidance=options.guidance,
            sampler=options.sampler,
        ).settled(self.painter.card)
        words = self.painter.condition(brief)
        canvas = self.painter.begin(brief, words, Seeds([seed]))
        *_, last = self.painter.steps(brief, words, canvas)
        return self.painter.finish(last)

    def _opinion(self, pictures: Tensor, rows: Sequence[dict[str, str]]) -> Opinion:
        return opinion(self.judge, pictures, [(row["concept"], row["style"]) for row in rows])

    def _pixels(self, rows: Sequence[dict[str, str]]) -> Tensor:
        index = {row["file_name"]: k for k, row in enumerate(self.real.rows)}
        return to_unit(self.real.pictures[[index[row["file_name"]] for row in rows]])

    def _real_figures(self, rows: Sequence[dict[str, str]]) -> dict[str, float]:
        told = self._opinion(self._pixels(rows), rows)
        score = self._clip_score(self._pixels(rows), [row["text"] for row in rows])
        return {**_told("real (trained on)", told), "CLIP score, real": score}

    def _distances(self, painted: Tensor, rows: Sequence[dict[str, str]]) -> dict[str, float]:
        """FID and KID of painted against real pictures, and of two halves of the real ones: the floor."""
        features = self._opinion(self._pixels(rows), rows).features
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
        half, other = features[order].chunk(2)
        return {
            "FID in judge features": frechet_distance(painted, features),
            "FID, real against real": frechet_distance(half, other),
            "KID in judge features": kernel_distance(painted, features),
            "KID, real against real": kernel_distance(half, other),
        }

    @torch.no_grad()
    def _clip_score(self, pictures: Tensor, texts: Sequence[str]) -> float:
        """Mean cosine between pictures and their captions, times 100 (arXiv 2104.08718 without the rescaling)."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        words = F.normalize(self.clip.get_text_features(**tokens).pooler_output, dim=-1)
        seen = [self.clip.get_image_features(part[:, :3]).pooler_output for part in pictures.split(64)]
        return float(100 * (F.normalize(torch.cat(seen), dim=-1) * words).sum(dim=-1).mean())


def codec_figures(codec: Codec, pictures: Tensor) -> dict[str, float]:
    """PSNR (dB, all channels) and SSIM of pictures [n c h w] in [-1, 1] through the codec and back."""
    made = torch.cat([codec.decode(codec.encode(part)).clamp(-1, 1) for part in pictures.split(16)])
    return {
        "autoencoder PSNR, held-out (dB)": float(psnr(made, pictures).mean()),
        "autoencoder SSIM, held-out": float(ssim(made, pictures).mean()),
    }


def _drawn(rows: list[dict[str, str]], count: int, seed: int) -> list[dict[str, str]]:
    """`count` rows in a fixed random order; where there are fewer, each comes again with another seed."""
    order = random.Random(seed).sample(rows, k=len(rows))
    return [order[k % len(order)] for k in range(count)] if order else []


def _told(name: str, told: Opinion) -> dict[str, float]:
    return {
        f"{name}: concept top-1": told.top1,
        f"{name}: concept top-5": told.top5,
        f"{name}: style": told.style,
    }
