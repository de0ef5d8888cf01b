"""The losses of Disco Diffusion: the CLIP distance from the prompt, and losses on the pixels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.clip_guidance import (
    range_loss,
    saturation_loss,
    spherical_distance,
    total_variation,
)
from danqing.diffusion.schedule import Level
from danqing.families.clip import ClipScorer
from danqing.families.disco.settings import CLIP_SCALE, TIMES, Settings
from danqing.families.stylegan.style_search import picture_error
from danqing.nets.cutouts import Cuts

_Targets = list[tuple[Sequence[Tensor], Tensor]]
"""For each part of a prompt the target embeddings of each CLIP [n l d_k], and the weight of the part [n]."""

_FUZZY = 25  # perturbed copies of the prompt's embedding


@dataclass(frozen=True)
class ClipModels:
    """Several CLIPs as one `Encoder`: tokens [1 1 d] are the concatenated embeddings of all."""

    scorers: tuple[ClipScorer, ...]

    @torch.no_grad()
    def __call__(self, text: str) -> Conditioning:
        """Encode a prompt; an empty one gives zeros."""
        embeddings = torch.cat([scorer.text_embeddings([text]) for scorer in self.scorers], dim=1)
        return Conditioning((embeddings if text.strip() else torch.zeros_like(embeddings))[None])

    def apart(self, tokens: Tensor) -> Sequence[Tensor]:
        """Split tokens [n l d] into the embeddings of each CLIP, each [n l d_k]."""
        return torch.split(tokens, [scorer.model.config.projection_dim for scorer in self.scorers], dim=-1)


class Loss:
    """The losses of pictures, for `clip_guidance.GradientGuidance`.

    scorers: the CLIPs.
    settings: the settings of Disco Diffusion.
    conditioning: embeddings of `ClipModels` for n pictures.
    guidance: the guidance scale of the brief.
    starts: the log-SNR at the start of each step, for prompts that change between steps.
    times: number of times of the schedule, T.
    image: colours [n 3 h w] to stay similar to; None for none.
    seeds: the generators of random cutouts.
    """

    def __init__(
        self,
        scorers: tuple[ClipScorer, ...],
        settings: Settings,
        conditioning: Conditioning,
        guidance: float,
        starts: Sequence[float],
        times: int,
        image: Tensor | None,
        seeds: Seeds,
    ) -> None:
        self._scorers, self._settings, self._seeds = scorers, settings, seeds
        self._scale, self._starts, self._times, self._image = guidance * CLIP_SCALE, starts, times, image
        self._targets = [(start, self._targets_of(stage)) for start, stage in conditioning.stages]

    def __call__(self, pixels: Tensor, level: Level) -> Iterator[Tensor]:
        """Yields the losses of pixels [n p h w] one after the other, each [n]."""
        settings, colours = self._settings, pixels[:, :3]
        for _ in range(settings.cutn_batches):
            for k, scorer in enumerate(self._scorers):
                yield self._scale / settings.cutn_batches * self._unlike(colours, level, k, scorer)
        yield (
            settings.tv_scale * total_variation(colours)
            + settings.range_scale * range_loss(colours)
            + settings.sat_scale * saturation_loss(colours)
        )
        if self._image is not None and settings.init_scale:
            yield settings.init_scale * picture_error(colours, self._image)

    def _unlike(self, colours: Tensor, level: Level, k: int, scorer: ClipScorer) -> Tensor:
        """The CLIP distance of each picture from the prompt, averaged over its cutouts: [n]."""
        times = self._times
        index = int((times - 1 - level.t) * TIMES / times)
        kinds = self._settings.cut_counts(min(max(index, 0), TIMES - 1))
        cuts = Cuts(*kinds, augment=not self._settings.skip_augs)
        cutouts = cuts(colours, scorer.processor.side, self._seeds)
        embeddings = scorer.image_embeddings(cutouts.flatten(0, 1)).view(*cutouts.shape[:2], -1)
        far = [
            weight * spherical_distance(embeddings[:, :, None], target[k][:, None]).mean(dim=(1, 2))
            for target, weight in self._now(level)
        ]
        return torch.stack(far).sum(dim=0)

    def _now(self, level: Level) -> _Targets:
        step = max(bisect_right(self._starts, level.log_snr) - 1, 0)
        return next(targets for start, targets in reversed(self._targets) if start <= step)

    def _targets_of(self, conditioning: Conditioning) -> _Targets:
        """The target embeddings of a conditioning, with weights; an empty prompt has weight 0."""
        targets: _Targets = []
        for part in conditioning.parts:
            tokens = self._fuzzy(part.tokens) if self._settings.fuzzy_prompt else part.tokens
            target = [F.normalize(each, dim=-1) for each in ClipModels(self._scorers).apart(tokens)]
            targets.append((target, part.weights * part.tokens.any(dim=2).any(dim=1)))
        return targets

    def _fuzzy(self, tokens: Tensor) -> Tensor:
        """Perturbed copies of tokens [n l d]: [n 25 l d]."""
        noise = self._seeds.normal(_FUZZY, *tokens.shape[1:]).to(tokens)
        return (tokens[:, None] + self._settings.rand_mag * noise).flatten(1, 2)
