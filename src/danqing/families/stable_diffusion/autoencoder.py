"""Another autoencoder for a Stable Diffusion, in the place of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffusers import AutoencoderKL

from danqing.core.errors import BadBrief, shorten
from danqing.core.painter import Painter
from danqing.diffusion.codec import KLCodec
from danqing.diffusion.painter import DiffusionPainter
from danqing.nets.placement import move
from danqing.weights.autoencoder import read_autoencoder


def open_autoencoder(place: Path, painter: Painter) -> AutoencoderKL:
    """The autoencoder in a file or folder, where the painter is and in its numbers.

    Raises:
        BadBrief: the painter has none. BadWeights: it is something else.
    """
    own = _own(painter)
    vae = read_autoencoder(place, float(own.config.scaling_factor), None)
    weight = next(own.parameters())
    move(weight.device, weight.dtype, vae)
    return vae


def with_autoencoder(painter: Painter, vae: AutoencoderKL, name: str) -> DiffusionPainter:
    """The painter with that autoencoder; its other networks are the same.

    name: as it was given, for messages.

    Raises:
        BadBrief: the painter has none, or this one is for other latents.
    """
    assert isinstance(painter, DiffusionPainter)
    old, new = KLCodec(_own(painter)), KLCodec(vae)
    for what in ("channels", "factor", "pixel_channels"):
        has, wants = getattr(new, what), getattr(old, what)
        if has != wants:
            raise BadBrief(
                f"vae {shorten(name)!r} has {what.replace('_', ' ')} {has}, model {painter.card.name!r} "
                f"{wants}: choose one for this model"
            )
    return replace(painter, codec=new, modules={**painter.modules, "vae": vae})


def _own(painter: Painter) -> AutoencoderKL:
    """The painter's own autoencoder.

    Raises:
        BadBrief: it has none.
    """
    vae = getattr(painter, "modules", {}).get("vae")
    if not isinstance(painter, DiffusionPainter) or not isinstance(vae, AutoencoderKL):
        raise BadBrief(f"model {painter.card.name!r} has no autoencoder to change: leave vae out")
    return vae
