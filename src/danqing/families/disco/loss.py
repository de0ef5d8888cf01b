"""What Disco Diffusion's pictures are led down: how unlike the words they look, and what else is bad."""

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
"""For each part of a prompt the target of each CLIP [n l d_k], and how much the part counts [n]."""

_FUZZY = 25  # texts like the one that was given


@dataclass(frozen=True)
class ClipModels:
    """Several CLIPs as one `Encoder`: the embeddings of all, one after the other, tokens [1 1 d]."""

    scorers: tuple[ClipScorer, ...]

    @torch.no_grad()
    def __call__(self, text: str) -> Conditioning:
        """No words ask for nothing: zeros."""
        embeddings = torch.cat([scorer.text_embeddings([text]) for scorer in self.scorers], dim=1)
        return Conditioning((embeddings if text.strip() else torch.zeros_like(embeddings))[None])

    def apart(self, tokens: Tensor) -> Sequence[Tensor]:
        """The embeddings of each CLIP, from tokens [n l d]: one [n l d_k] for each."""
        return torch.split(tokens, [scorer.model.config.projection_dim for scorer in self.scorers], dim=-1)


class Loss:
    """The losses of pictures, for `clip_guidance.GradientGuidance`.

    scorers: the CLIPs.
    settings: of Disco Diffusion.
    conditioning: embeddings of `ClipModels` for n pictures.
    guidance: of the brief.
    starts: the log-SNRs at which steps begin, for prompts that change on the way.
    times: how many the schedule has.
    image: colours [n 3 h w] to stay near to, if any.
    seeds: where cutouts come from.
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
        """The losses of pixels [n p h w], one by one, each [n]."""
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
        """The distance of each picture from the prompt, the mean over its cutouts: [n]."""
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
        """The target embeddings of a conditioning, with weights; an empty prompt weighs nothing."""
        targets: _Targets = []
        for part in conditioning.parts:
            tokens = self._fuzzy(part.tokens) if self._settings.fuzzy_prompt else part.tokens
            target = [F.normalize(each, dim=-1) for each in ClipModels(self._scorers).apart(tokens)]
            targets.append((target, part.weights * part.tokens.any(dim=2).any(dim=1)))
        return targets

    def _fuzzy(self, tokens: Tensor) -> Tensor:
        """Many embeddings around each of tokens [n l d]: [n 25 l d]."""
        noise = self._seeds.normal(_FUZZY, *tokens.shape[1:]).to(tokens)
        return (tokens[:, None] + self._settings.rand_mag * noise).flatten(1, 2)
