"""Encodes pixels to latents and decodes them. Only this module depends on the scale between the two."""

from __future__ import annotations

from typing import Protocol

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from danqing.core.errors import NotFinite
from danqing.core.seeds import Seeds
from danqing.nets.placement import as_input, first_not_finite, move, to_float32


class VAE(Protocol):
    """Pixels [n p h w] in [-1, 1] <-> latents [n channels h/factor w/factor] of about unit variance."""

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels of the latents."""
        ...

    @property
    def pixel_channels(self) -> int:
        """Number of channels of the pixels: 3, or 4 with alpha last."""
        ...

    @property
    def decoder(self) -> nn.Module | None:
        """The network that does most of `decode`; None where there is none."""
        ...

    def encode(self, pixels: Tensor, seeds: Seeds | None = None) -> Tensor:
        """Encode pixels to latents: the mean of the posterior, or a sample if `seeds` are given.

        A VAE without alpha ignores the alpha channel; the colour is composited over white already.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to pixels, which are not clipped.

        Raises:
            NotFinite: the latents hold NaN or infinite values, which would decode to black.
        """
        ...


class IdentityVAE:
    """The VAE of networks that denoise pixels: encode and decode change nothing."""

    factor = 1
    decoder: nn.Module | None = None

    def __init__(self, channels: int = 3) -> None:
        self.channels = self.pixel_channels = channels

    def encode(self, pixels: Tensor, _seeds: Seeds | None = None) -> Tensor:
        """The pixels."""
        return pixels[:, : self.channels]

    def decode(self, latents: Tensor) -> Tensor:
        """The latents, after a check that they are finite."""
        return _finite(latents)


class DiffusersVAE:
    """The VAE of latent diffusion (arXiv 2112.10752 section 3.1).

    It applies the shift and the scale that give latents unit variance: z = (latent - shift) * scale.
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self.model = vae.eval()
        self.factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.channels: int = vae.config.latent_channels
        self.pixel_channels: int = vae.config.in_channels
        self._scale: float = vae.config.scaling_factor
        self._shift: float = vae.config.shift_factor or 0.0

    @property
    def decoder(self) -> nn.Module:
        """See `VAE.decoder`."""
        decoder: nn.Module = self.model.decoder
        return decoder

    @torch.no_grad()
    def encode(self, pixels: Tensor, seeds: Seeds | None = None) -> Tensor:
        """Encode pixels to latents: the mean of the posterior, or a sample with each picture's own seed.

        For half precision see `decode`.
        """
        plain = pixels[:, : self.pixel_channels]
        posterior = self.model.encode(as_input(self.model, plain)).latent_dist
        if not posterior.mean.isfinite().all() and self.model.dtype != torch.float32:
            move(plain.device, torch.float32, self.model)
            posterior = self.model.encode(as_input(self.model, plain)).latent_dist
        latents: Tensor = to_float32(posterior.mean)
        if seeds is not None:
            latents = latents + to_float32(posterior.std) * seeds.normal(*latents.shape[1:]).to(latents)
        return (latents - self._shift) * self._scale

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to pixels, which are not clipped; differentiable.

        If values overflow in half precision, this VAE computes in float32 from then on.
        """
        scaled = _finite(latents) / self._scale + self._shift
        pixels: Tensor = to_float32(self.model.decode(as_input(self.model, scaled)).sample)
        if not pixels.isfinite().all() and self.model.dtype != torch.float32:
            move(scaled.device, torch.float32, self.model)
            pixels = self.model.decode(as_input(self.model, scaled)).sample
        if not pixels.isfinite().all():
            raise NotFinite(f"the VAE gave NaN or infinite values: {self._remedy()}")
        return pixels

    def _remedy(self) -> str:
        weight = first_not_finite({"vae": self.model})
        return (
            f"its weight {weight} is not finite either, fetch another copy"
            if weight
            else "lower the guidance"
        )


def _finite(latents: Tensor) -> Tensor:
    if not latents.isfinite().all():
        raise NotFinite("the latents hold NaN or infinite values: nothing is decoded; lower the guidance")
    return latents
