"""Opens IP-Adapters and image encoders for the image prompts of a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from danqing.apps._control_names import control_places, ip_adapters_in, named_place, with_adapters
from danqing.core.errors import BadBrief
from danqing.families.stable_diffusion.control import as_stable_diffusion
from danqing.families.stable_diffusion.image_prompts import (
    ImagePrompt,
    layers_for,
    open_image_encoder,
    open_ip_adapter,
    tokens_of,
)
from danqing.weights.image_encoder import encoder_widths
from danqing.weights.ip_adapter import encoder_width, width_of_words
from danqing.weights.model_list import listed_models
from danqing.weights.tensor_files import refuse_pickle

if TYPE_CHECKING:
    from danqing.apps._control_inputs import ControlInputs
    from danqing.apps._session import Session
    from danqing.core.painter import Painter

_FOLDERS = ("image_encoder", "models/image_encoder", "clip_vision")  # usual names
_ENCODERS = {  # input width of an IP-Adapter and whether it reads patches -> name of its image encoder
    (1024, False): "CLIP ViT-H/14",
    (1280, False): "CLIP ViT-bigG/14",
    (768, False): "CLIP ViT-L/14",
    (1280, True): "CLIP ViT-H/14",
    (1664, True): "CLIP ViT-bigG/14",
    (1024, True): "CLIP ViT-L/14",
}


def open_image_prompts(
    inputs: ControlInputs, session: Session, painter: Painter
) -> list[tuple[str, ImagePrompt]]:
    """The image prompts of a request as tokens, each with the name of its IP-Adapter.

    Raises:
        BadBrief: the painter supports none, or there is no IP-Adapter or image encoder for it.
        BadWeights: one of them cannot be used.
        BadPicture: a picture cannot be read.
    """
    as_stable_diffusion(painter)
    places, prompts = control_places(session), []
    for ref, name in with_adapters(inputs):
        if name is None:
            name, place = _choose(ip_adapters_in(places, session), painter)
        else:
            place = named_place(name, places, session, "IP-Adapter")
        adapter = session.part(place, painter, open_ip_adapter)
        encoder = session.part(_encoder_place(place, session), painter, open_image_encoder)
        tokens, empty = tokens_of(on_ground(ref.image.source.image, "white"), adapter, encoder)
        layers = layers_for(painter, ref.part)
        prompt = ImagePrompt(adapter, tokens, empty, ref.strength, ref.start, ref.end, layers)
        prompts.append((name, prompt))
    return prompts


def on_ground(image: Image.Image, colour: str) -> Image.Image:
    """The picture in RGB, composited over `colour`."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, colour)
    return Image.alpha_composite(ground, image).convert("RGB")


def _choose(candidates: Mapping[str, Path], painter: Painter) -> tuple[str, Path]:
    """The first of the candidates that fits this painter.

    Raises:
        BadBrief: none fits.
        BadWeights: there are only pickles.
    """
    width = as_stable_diffusion(painter).modules["unet"].config.cross_attention_dim  # type: ignore[union-attr]
    for name, place in candidates.items():
        if width_of_words(place) == width:
            return name, place
    for place in candidates.values():
        refuse_pickle(place)
    raise BadBrief(
        f"no IP-Adapter is for model {painter.card.name!r}, of {', '.join(candidates)}: "
        "name one with ip_adapter"
    )


def _encoder_place(adapter: Path, session: Session) -> Path:
    """The path of the image encoder of an IP-Adapter: near its file, in `controls`, or in the user's list.

    Raises:
        BadBrief: there is none; the message names the right one, and where to put it.
    """
    width, of_patches = encoder_width(adapter)
    for place in _encoders_near(adapter, session):
        widths = encoder_widths(place)
        if widths is not None and (widths.patch if of_patches else widths.picture) == width:
            return place
    encoder = _ENCODERS.get((width, of_patches), f"whose numbers are {width} wide")
    raise BadBrief(
        f"{adapter.name!r} needs the image encoder {encoder}: put its folder or file into "
        f"{str(session.controls / _FOLDERS[0])!r}"
    )


def _encoders_near(adapter: Path, session: Session) -> Iterator[Path]:
    """Possible paths of an image encoder: in folders with usual names, and in the user's list."""
    here = adapter.resolve().parent
    for folder in (here, here.parent, session.controls):
        for name in _FOLDERS:
            yield from _models_in(folder / name)
    if not session.named_only:
        yield from (place for place in listed_models().values() if place.exists())


def _models_in(folder: Path) -> Iterator[Path]:
    """The folder itself if it is a model, else the models in it."""
    if (folder / "config.json").is_file():
        yield folder
    elif folder.is_dir():
        inside = sorted(folder.iterdir())
        yield from (place for place in inside if (place / "config.json").is_file())
        yield from (place for place in inside if place.suffix == ".safetensors")
