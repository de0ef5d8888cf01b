"""Replaces the VAE of a Stable Diffusion by another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffusers import AutoencoderKL

from danqing.core.errors import BadBrief, shorten
from danqing.core.painter import Painter
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.vae import DiffusersVAE
from danqing.nets.placement import move
from danqing.weights.vae import read_vae


def open_vae(place: Path, painter: Painter) -> AutoencoderKL:
    """Open a VAE from a file or folder, on the device and in the dtype of the painter.

    Raises:
        BadBrief: the painter has no VAE.
        BadWeights: the file is something else.
    """
    own = _own(painter)
    vae = read_vae(place, float(own.config.scaling_factor), None)
    weight = next(own.parameters())
    move(weight.device, weight.dtype, vae)
    return vae


def with_vae(painter: Painter, vae: AutoencoderKL, name: str) -> DiffusionPainter:
    """The painter with another VAE and the same other networks.

    name: the name of the VAE in messages.

    Raises:
        BadBrief: the painter has no VAE, or the new one is for other latents.
    """
    assert isinstance(painter, DiffusionPainter)
    old, new = DiffusersVAE(_own(painter)), DiffusersVAE(vae)
    for what in ("channels", "factor", "pixel_channels"):
        has, wants = getattr(new, what), getattr(old, what)
        if has != wants:
            raise BadBrief(
                f"vae {shorten(name)!r} has {what.replace('_', ' ')} {has}, model {painter.card.name!r} "
                f"{wants}: choose one for this model"
            )
    return replace(painter, vae=new, modules={**painter.modules, "vae": vae})


def _own(painter: Painter) -> AutoencoderKL:
    """The painter's own VAE.

    Raises:
        BadBrief: the painter has no VAE.
    """
    vae = getattr(painter, "modules", {}).get("vae")
    if not isinstance(painter, DiffusionPainter) or not isinstance(vae, AutoencoderKL):
        raise BadBrief(f"model {painter.card.name!r} has no VAE to change: leave vae out")
    return vae
