"""Opens the ControlNets and IP-Adapters of a request and prepares its maps and image prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from danqing.apps._control_names import candidates_for, control_places, named_place, with_names
from danqing.apps._image_prompts import on_ground, open_image_prompts
from danqing.core.control import CONTROL_KINDS, ControlRef
from danqing.core.errors import BadBrief
from danqing.families.stable_diffusion.control import Control, as_stable_diffusion, open_control
from danqing.weights.controlnet import width_of_words
from danqing.weights.t2i_adapter import steers
from danqing.weights.tensor_files import refuse_pickle

if TYPE_CHECKING:
    from danqing.apps._control_inputs import ControlInputs
    from danqing.apps._generate import GenerateOptions
    from danqing.apps._session import Session
    from danqing.core.painter import Painter

_SAME_SHAPE = 0.02  # largest relative difference of the aspect ratios of map and picture
Fit = Callable[[ControlRef], Image.Image]
"""A control -> the part of its picture on the canvas, at the painter's native size."""
Cut = Callable[[Image.Image], Image.Image]


def add_controls(
    options: GenerateOptions, inputs: ControlInputs, session: Session, fit: Fit
) -> tuple[GenerateOptions, dict[str, tuple[str, ...]]]:
    """The options with the maps and image prompts of a request, and brief fields that name the networks.

    Raises:
        BadBrief: the painter supports none, a map has another shape, or there is no network for it.
        BadWeights: a network cannot be used.
        BadPicture: a picture cannot be read.
    """
    names: dict[str, tuple[str, ...]] = {}
    if inputs.control:
        controls = open_controls(inputs, session, options.painter, fit)
        options = replace(options, controls=tuple(control for _, control in controls))
        names["control_model"] = tuple(name for name, _ in controls)
    if inputs.ip_image:
        prompts = open_image_prompts(inputs, session, options.painter)
        options = replace(options, image_prompts=tuple(prompt for _, prompt in prompts))
        names["ip_adapter"] = tuple(name for name, _ in prompts)
    return options, names


def open_controls(
    inputs: ControlInputs, session: Session, painter: Painter, fit: Fit
) -> list[tuple[str, Control]]:
    """The controls of a request with their maps computed, each with the name of its network.

    Raises:
        BadBrief, BadWeights, BadPicture: as `add_controls`.
    """
    as_stable_diffusion(painter)
    places, controls = control_places(session), []
    for ref, name in with_names(inputs):
        if name is None:
            name, place = _choose(ref, candidates_for(ref, places, session), painter)
        else:
            place = named_place(name, places, session)
        network = session.part(place, painter, open_control)
        controls.append((name, Control(network, _map_of(ref, fit), ref.strength, ref.start, ref.end)))
    return controls


def filling(width: int, height: int) -> Fit:
    """A `Fit` that fills a canvas of that size and crops the longer side."""
    return lambda ref: ImageOps.fit(ref.image.source.image, (width, height), Image.Resampling.LANCZOS)


def like(picture: Image.Image, cut: Cut) -> Fit:
    """A `Fit` that places maps as `cut` places `picture`; maps have its shape, but any size."""

    def fit(ref: ControlRef) -> Image.Image:
        image = ref.image.source.image
        if abs(image.width * picture.height / (image.height * picture.width) - 1) > _SAME_SHAPE:
            raise BadBrief(
                f"control {ref.image.name!r} is {image.width}x{image.height}, the picture "
                f"{picture.width}x{picture.height}: give one of the same shape"
            )
        same_size = image.size == picture.size
        return cut(image if same_size else image.resize(picture.size, Image.Resampling.LANCZOS))

    return fit


def _map_of(ref: ControlRef, fit: Fit) -> Tensor:
    """The map [1 3 h w] in [0, 1].

    Raises:
        BadBrief: the package that computes it is not installed.
    """
    computed = CONTROL_KINDS[ref.kind].computed
    drawn = on_ground(fit(ref), "white" if computed else "black")
    if computed:
        try:
            from danqing.effects.control_maps import control_map
        except ImportError:
            raise BadBrief(f"{ref.kind} needs OpenCV: pip install 'danqing[photos]'") from None
        drawn = control_map(drawn, ref.kind).convert("RGB")
    return torch.from_numpy(np.array(drawn)).permute(2, 0, 1)[None].float() / 255


def _choose(ref: ControlRef, candidates: dict[str, Path], painter: Painter) -> tuple[str, Path]:
    """The first of the candidates that fits this painter.

    Raises:
        BadBrief: none fits.
        BadWeights: there are only pickles.
    """
    base = dict(as_stable_diffusion(painter).modules["unet"].config)  # type: ignore[arg-type]
    for name, place in candidates.items():
        if width_of_words(place) == base["cross_attention_dim"] or steers(place, base):
            return name, place
    for place in candidates.values():
        refuse_pickle(place)
    raise BadBrief(
        f"no ControlNet or T2I-Adapter for {ref.kind} steers model {painter.card.name!r}, "
        f"of {', '.join(candidates)}: name one with control_model"
    )
