"""Painting under control: ControlNets beside the UNet (arXiv 2302.05543)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import ControlNetModel
from torch import Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import Conditioning, Painter
from danqing.diffusion.guidance import Network
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Level
from danqing.families.stable_diffusion.denoiser import Denoiser, ScheduledControlNet
from danqing.nets.placement import move
from danqing.weights.controlnet import read_controlnet


@dataclass(frozen=True, eq=False)
class Control:
    """A map that a picture shall follow.

    network: follows such maps.
    control_map: [1 3 h w] in [0, 1], of the picture's native size.
    strength: 0 is not at all, 1 is as it learned.
    start, end: the share of the steps between which it is followed, in [0, 1].
    """

    network: ControlNetModel
    control_map: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0


def as_stable_diffusion(painter: Painter) -> DiffusionPainter:
    """The painter as a Stable Diffusion, which ControlNets can steer.

    Raises:
        BadBrief: it is of another kind.
    """
    if not isinstance(painter, DiffusionPainter) or not isinstance(painter.network, Denoiser):
        raise BadBrief(f"model {painter.card.name!r} takes no control: use a Stable Diffusion 1, 2 or XL")
    return painter


def open_controlnet(place: Path, painter: Painter) -> ControlNetModel:
    """The ControlNet in a folder or a file, where the painter is and in its numbers.

    Raises:
        BadBrief: the painter takes none. BadWeights: it is something else, or steers another model.
    """
    unet = as_stable_diffusion(painter).modules["unet"]
    network = read_controlnet(place, dict(unet.config))  # type: ignore[arg-type]
    weight = next(unet.parameters())
    move(weight.device, weight.dtype, network)
    return network


def with_controls(
    painter: Painter, controls: Sequence[Control], brief: ResolvedBrief, conditioning: Conditioning
) -> Painter:
    """The painter as it paints a brief under control; itself where there is none.

    Raises:
        BadBrief: it takes none.
    """
    if not controls:
        return painter
    plain = as_stable_diffusion(painter)
    levels = plain.levels(brief, conditioning.image is not None)
    controlnets = tuple(
        ScheduledControlNet(control.network, control.control_map, control.strength, times)
        for control in controls
        if (times := _times(control, levels)) is not None
    )

    def with_controlnets(network: Network) -> Network:
        assert isinstance(network, Denoiser)
        return replace(network, controlnets=controlnets)

    at_guidance = plain.network_at_guidance
    networks = {f"control_{k}": control.network for k, control in enumerate(controls)}
    return replace(
        plain,
        network=with_controlnets(plain.network),
        network_at_guidance=None
        if at_guidance is None
        else lambda value: with_controlnets(at_guidance(value)),
        modules={**plain.modules, **networks},
    )


def _times(control: Control, levels: Sequence[Level]) -> tuple[float, float] | None:
    """Between which times a control works: in the steps that lie wholly in its share; None if in none."""
    count = len(levels) - 1
    steps = [k for k in range(count) if k / count >= control.start and (k + 1) / count <= control.end]
    if not steps or control.strength == 0:
        return None
    # as float32, in which the network is told the time
    first, behind = (float(torch.tensor(levels[k].t)) for k in (steps[0], steps[-1] + 1))
    return (behind if steps[-1] + 1 < count else -1.0), first
