"""Stable Diffusion's UNet as a `guidance.Network`, with ControlNets, adapters and image prompts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.nets.feature_cache import FeatureCache
from danqing.nets.ip_adapter import IPAdapter, PicturePrompt, looking_at
from danqing.nets.placement import as_input, to_float32


class Times(NamedTuple):
    """An interval of times t of a schedule: behind < t <= first."""

    behind: float
    first: float

    def has(self, t: float) -> bool:
        """Whether t is in the interval."""
        return self.behind < t <= self.first


@dataclass(frozen=True, eq=False)
class ScheduledControlNet:
    """A ControlNet with its map and the times at which it is active.

    network: the ControlNet.
    control_map: [1 3 h w] in [0, 1], of the size of the picture.
    strength: the factor of its residuals.
    times: the times at which it is active.
    """

    network: ControlNetModel
    control_map: Tensor
    strength: float
    times: Times


@dataclass(frozen=True, eq=False)
class AdapterFeatures:
    """The features of a T2I-Adapter for a map.

    levels: the features to add at each level of the UNet's encoder, each [1 c h w].
    times: the times at which they are added.
    """

    levels: tuple[Tensor, ...]
    times: Times


@dataclass(frozen=True, eq=False)
class ScheduledImagePrompt:
    """An IP-Adapter that reads the next `count` tokens of `Conditioning.image_tokens` at `times`."""

    adapter: IPAdapter
    count: int
    strength: float
    times: Times
    layers: frozenset[int] | None = None


@dataclass(frozen=True)
class Denoiser:
    """The UNet as a `diffusion.guidance.Network`.

    unet: the network.
    label: the class label of every picture; None for a network without classes.
    guidance: the guidance scale as an input, for a network that was distilled so; None for others.
    controlnets: ControlNets, whose residuals are added.
    features: features of T2I-Adapters, which are added.
    image_prompts: IP-Adapters, in the order of their tokens.
    cache: the deep features of one run, see `with_cache`; None computes them in every call.
    """

    unet: UNet2DConditionModel
    label: int | None = None
    guidance: float | None = None
    controlnets: tuple[ScheduledControlNet, ...] = ()
    features: tuple[AdapterFeatures, ...] = ()
    image_prompts: tuple[ScheduledImagePrompt, ...] = ()
    cache: FeatureCache | None = None

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Latents [n c h w], times [n] and the conditioning of n pictures -> output [n c h w]."""
        added = self._control_residuals(x, t, cond) | self._adapter_residuals(x, t)
        x = x if cond.concat is None else torch.cat([x, cond.concat], dim=1)
        with looking_at(self.unet, self._prompts_at(float(t[0]), cond)), self._reusing(x, t, cond):
            output: Tensor = self.unet(
                as_input(self.unet, x),
                t,
                encoder_hidden_states=as_input(self.unet, cond.tokens),
                encoder_attention_mask=cond.mask,
                timestep_cond=None if self.guidance is None else self._guidance_embedding(x),
                added_cond_kwargs=None if cond.sizes is None else self._added_conditions(cond),
                class_labels=None if self.label is None else torch.full_like(t, self.label, dtype=torch.long),
                return_dict=False,
                **added,
            )[0]
        return to_float32(output)

    def with_cache(self, interval: int) -> Denoiser:
        """See `diffusion.network_changes.CacheableNetwork`."""
        return replace(self, cache=FeatureCache(interval))

    def _reusing(self, x: Tensor, t: Tensor, cond: Conditioning) -> AbstractContextManager[None]:
        """The cache for one call; a change of shape, tokens or active extra networks needs a full pass."""
        if self.cache is None:
            return nullcontext()
        helpers: tuple[Any, ...] = (*self.controlnets, *self.features, *self.image_prompts)
        at_work = tuple(one.times.has(float(t[0])) for one in helpers)
        return self.cache.reuse(self.unet, cond.tokens, (x.shape, at_work))

    def _prompts_at(self, t: float, cond: Conditioning) -> list[PicturePrompt]:
        """The image prompts that are active at time t."""
        if cond.image_tokens is None:
            return []
        parts = torch.split(cond.image_tokens, [one.count for one in self.image_prompts], dim=1)
        return [
            PicturePrompt(one.adapter, tokens, one.strength, one.layers)
            for one, tokens in zip(self.image_prompts, parts, strict=True)
            if one.times.has(t)
        ]

    def _adapter_residuals(self, x: Tensor, t: Tensor) -> dict[str, Any]:
        """The UNet's arguments for the T2I-Adapters that are active at time t."""
        now = [one.levels for one in self.features if one.times.has(float(t[0]))]
        if not now:
            return {}
        sums = (torch.stack(level).sum(0) for level in zip(*now, strict=True))
        rows = [as_input(self.unet, level).expand(len(x), -1, -1, -1) for level in sums]
        return {"down_intrablock_additional_residuals": rows}

    def _control_residuals(self, x: Tensor, t: Tensor, cond: Conditioning) -> dict[str, Any]:
        """The UNet's arguments for the ControlNets that are active at time t."""
        total: list[Tensor] = []
        for one in self.controlnets:
            if not one.times.has(float(t[0])):
                continue
            network = one.network
            down, middle = network(
                as_input(network, x),
                t,
                encoder_hidden_states=as_input(network, cond.tokens),
                controlnet_cond=as_input(network, one.control_map).expand(len(x), -1, -1, -1),
                conditioning_scale=one.strength,
                added_cond_kwargs=None if cond.sizes is None else self._added_conditions(cond),
                return_dict=False,
            )
            outputs = [as_input(self.unet, output) for output in (*down, middle)]
            total = [a + b for a, b in zip(total, outputs, strict=True)] if total else outputs
        if not total:
            return {}
        return {
            "down_block_additional_residuals": total[:-1],
            "mid_block_additional_residual": total[-1],
        }

    def _added_conditions(self, cond: Conditioning) -> dict[str, Tensor]:
        """The inputs of Stable Diffusion XL's UNet besides tokens: pooled text and sizes."""
        assert cond.pooled is not None
        assert cond.sizes is not None
        return {"text_embeds": as_input(self.unet, cond.pooled), "time_ids": as_input(self.unet, cond.sizes)}

    def _guidance_embedding(self, x: Tensor) -> Tensor:
        """The sinusoidal embedding [n d] of the guidance for latent consistency models (arXiv 2310.04378)."""
        assert self.guidance is not None
        scale = torch.full((len(x),), 1000 * (self.guidance - 1), device=x.device)
        width = int(self.unet.config.time_cond_proj_dim)
        return as_input(self.unet, get_timestep_embedding(scale, width, downscale_freq_shift=1))


def at_guidance(unet: UNet2DConditionModel, guidance: float) -> Denoiser:
    """The denoiser of a distilled UNet with this guidance as its input."""
    return Denoiser(unet, guidance=guidance)
