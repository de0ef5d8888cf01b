"""Stable Diffusion's UNet as a network that guidance and samplers can ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from danqing.core.painter import Conditioning
from danqing.nets.placement import as_input, to_float32


@dataclass(frozen=True, eq=False)
class ScheduledControlNet:
    """A ControlNet, its map and the times at which it works.

    network: the ControlNet.
    control_map: what it sees [1 3 h w] in [0, 1], of the size of the picture.
    strength: what it adds is multiplied with this.
    times: it works at those t of the schedule that are above the first and not above the second.
    """

    network: ControlNetModel
    control_map: Tensor
    strength: float
    times: tuple[float, float]

    def works_at(self, t: float) -> bool:
        """Whether it adds anything at time t."""
        return self.times[0] < t <= self.times[1]


@dataclass(frozen=True)
class Denoiser:
    """The UNet as a `diffusion.guidance.Network`.

    unet: the network.
    label: a class that it gets for every picture; None for no class.
    guidance: what it takes as an input, where it was distilled so; None for none.
    controlnets: their residuals add up.
    """

    unet: UNet2DConditionModel
    label: int | None = None
    guidance: float | None = None
    controlnets: tuple[ScheduledControlNet, ...] = ()

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Latents [n c h w], times [n] and words for n pictures -> output [n c h w]."""
        added = self._control_residuals(x, t, cond)
        x = x if cond.concat is None else torch.cat([x, cond.concat], dim=1)
        output: Tensor = self.unet(
            as_input(self.unet, x),
            t,
            encoder_hidden_states=as_input(self.unet, cond.tokens),
            encoder_attention_mask=cond.mask,
            timestep_cond=None if self.guidance is None else self._guidance_embedding(x),
            added_cond_kwargs=None if cond.sizes is None else self._added(cond),
            class_labels=None if self.label is None else torch.full_like(t, self.label, dtype=torch.long),
            return_dict=False,
            **added,
        )[0]
        return to_float32(output)

    def _control_residuals(self, x: Tensor, t: Tensor, cond: Conditioning) -> dict[str, Any]:
        """What the ControlNets add at this time to what the UNet passes on."""
        total: list[Tensor] = []
        for one in self.controlnets:
            if not one.works_at(float(t[0])):
                continue
            network = one.network
            down, middle = network(
                as_input(network, x),
                t,
                encoder_hidden_states=as_input(network, cond.tokens),
                controlnet_cond=as_input(network, one.control_map).expand(len(x), -1, -1, -1),
                conditioning_scale=one.strength,
                added_cond_kwargs=None if cond.sizes is None else self._added(cond),
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

    def _added(self, cond: Conditioning) -> dict[str, Tensor]:
        """What Stable Diffusion XL reads besides the tokens."""
        assert cond.pooled is not None
        assert cond.sizes is not None
        return {"text_embeds": as_input(self.unet, cond.pooled), "time_ids": as_input(self.unet, cond.sizes)}

    def _guidance_embedding(self, x: Tensor) -> Tensor:
        """The guidance as waves [n d], as latent consistency models take it (arXiv 2310.04378)."""
        assert self.guidance is not None
        scale = torch.full((len(x),), 1000 * (self.guidance - 1), device=x.device)
        width = int(self.unet.config.time_cond_proj_dim)
        return as_input(self.unet, get_timestep_embedding(scale, width, downscale_freq_shift=1))


def at_guidance(unet: UNet2DConditionModel, guidance: float) -> Denoiser:
    """The denoiser that takes this guidance as an input."""
    return Denoiser(unet, guidance=guidance)
