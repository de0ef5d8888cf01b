"""Control maps, by ControlNets (arXiv 2302.05543) or T2I-Adapters (arXiv 2302.08453)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, T2IAdapter
from torch import Tensor, nn

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import Conditioning, Painter
from danqing.diffusion.guidance import Network
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Level
from danqing.families.stable_diffusion.denoiser import AdapterFeatures, Denoiser, ScheduledControlNet, Times
from danqing.nets.placement import as_input, move
from danqing.weights.controlnet import read_controlnet
from danqing.weights.t2i_adapter import is_t2i_adapter, read_t2i_adapter


@dataclass(frozen=True, eq=False)
class Control:
    """A control map with its network.

    network: a ControlNet or T2I-Adapter for this kind of map.
    control_map: [1 3 h w] in [0, 1], of the picture's native size.
    strength: the factor of the network's output; 0 has no effect, 1 is the strength of its training.
    start, end: the network is active between these fractions of the steps, in [0, 1].
    """

    network: ControlNetModel | T2IAdapter
    control_map: Tensor
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0


def as_stable_diffusion(painter: Painter) -> DiffusionPainter:
    """The painter, checked to be a Stable Diffusion, for which there are ControlNets and similar networks.

    Raises:
        BadBrief: the painter is of another family.
    """
    if not isinstance(painter, DiffusionPainter) or not isinstance(painter.network, Denoiser):
        raise BadBrief(f"model {painter.card.name!r} takes no control: use a Stable Diffusion 1, 2 or XL")
    return painter


def open_control(place: Path, painter: Painter) -> ControlNetModel | T2IAdapter:
    """Open a ControlNet or T2I-Adapter from a folder or a file.

    It is moved to the device and the dtype of the painter.

    Raises:
        BadBrief: the painter supports none.
        BadWeights: the file is something else, or is for another model.
    """
    unet = as_stable_diffusion(painter).modules["unet"]
    read = read_t2i_adapter if is_t2i_adapter(place) else read_controlnet
    network: ControlNetModel | T2IAdapter = read(place, dict(unet.config))  # type: ignore[arg-type]
    place_beside(unet, network)
    return network


def place_beside(network: nn.Module, other: nn.Module) -> None:
    """Move `network` to the device and the dtype of `other`."""
    weight = next(network.parameters())
    move(weight.device, weight.dtype, other)


def with_controls(
    painter: Painter, controls: Sequence[Control], brief: ResolvedBrief, conditioning: Conditioning
) -> Painter:
    """The painter with control maps for one brief; the same painter where there are none.

    Raises:
        BadBrief: the painter does not support control maps.
    """
    if not controls:
        return painter
    plain = as_stable_diffusion(painter)
    levels = plain.levels(brief, conditioning.image is not None)
    at_work = [
        (control, times)
        for control in controls
        if control.strength and (times := times_between(control.start, control.end, levels)) is not None
    ]
    controlnets = tuple(
        ScheduledControlNet(control.network, control.control_map, control.strength, times)
        for control, times in at_work
        if isinstance(control.network, ControlNetModel)
    )
    features = tuple(
        AdapterFeatures(_features(control.network, control), times)
        for control, times in at_work
        if isinstance(control.network, T2IAdapter)
    )
    networks = {f"control_{k}": control.network for k, control in enumerate(controls)}
    return with_denoiser(plain, networks, controlnets=controlnets, features=features)


def with_denoiser(
    painter: DiffusionPainter, networks: Mapping[str, nn.Module], **changes: Any
) -> DiffusionPainter:
    """The painter with `changes` to the fields of its `Denoiser`, and with `networks` in its `modules`."""

    def with_control(network: Network) -> Network:
        assert isinstance(network, Denoiser)
        return replace(network, **changes)

    at_guidance = painter.network_at_guidance
    return replace(
        painter,
        network=with_control(painter.network),
        network_at_guidance=None if at_guidance is None else lambda value: with_control(at_guidance(value)),
        modules={**painter.modules, **networks},
    )


def times_between(start: float, end: float, levels: Sequence[Level]) -> Times | None:
    """The times of the steps that lie completely between two fractions of all steps; None for no step."""
    count = len(levels) - 1
    steps = [k for k in range(count) if k / count >= start and (k + 1) / count <= end]
    if not steps:
        return None
    # as float32, because the network gets the time in float32
    first, behind = (float(torch.tensor(levels[k].t)) for k in (steps[0], steps[-1] + 1))
    return Times(behind if steps[-1] + 1 < count else -1.0, first)


@torch.no_grad()
def _features(network: T2IAdapter, control: Control) -> tuple[Tensor, ...]:
    """The features of a T2I-Adapter for a map, at each level [1 c h w].

    An adapter with one input channel gets the mean of the colours.
    """
    pixels = control.control_map
    if network.config.in_channels == 1:
        pixels = pixels.mean(1, keepdim=True)
    return tuple(level * control.strength for level in network(as_input(network, pixels)))
