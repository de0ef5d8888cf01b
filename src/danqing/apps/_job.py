"""The common steps of apps that start from a picture: open the painter, resolve, generate, add metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from PIL import Image

from danqing.apps._control_inputs import ControlInputs
from danqing.apps._controls import add_controls, like
from danqing.apps._generate import GenerateOptions, generate
from danqing.apps._grid import single_picture
from danqing.apps._inputs import GridInputs, PaintInputs
from danqing.apps._session import Session
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.core.image_ref import ImageRef
from danqing.core.painter import NO_IMAGES, InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.core.source_image import SourceImage
from danqing.diffusion.painter import DiffusionPainter

InputsT = TypeVar("InputsT", bound=PaintInputs)
Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Job(Generic[InputsT]):
    """One request to an app, with its painter open.

    app: the name of the app, for the metadata.
    source: the input picture.
    """

    app: str
    inputs: InputsT
    source: SourceImage
    painter: Painter
    session: Session
    progress: ProgressCallback

    @classmethod
    def start(
        cls,
        app: str,
        inputs: InputsT,
        session: Session,
        progress: ProgressCallback,
        *,
        image: ImageRef,
        cell: int | None = None,
    ) -> Job[InputsT]:
        """Open the painter of a request.

        image: the input picture.
        cell: the number of a picture in it, if it is a grid.

        Raises:
            BadBrief: the model lacks a capability, or the picture is a grid and `cell` is None.
            BadWeights: the model cannot be opened.
        """
        source = single_picture(image.source, cell)
        painter = session.painter_for(inputs)
        inputs.check(painter.card)
        return cls(app, inputs, source, painter, session, progress)

    @property
    def card(self) -> Card:
        """The card of the painter."""
        return self.painter.card

    @property
    def transparent(self) -> bool:
        """Whether the background is transparent: that of the picture is, and the user chose none."""
        chosen = "background" in self.inputs.model_fields_set
        return Can.ALPHA in self.card.can and not chosen and self.source.image.mode == "RGBA"

    def resolve(self, width: int, height: int, **changes: Any) -> ResolvedBrief:
        """The brief for a canvas of that size, with `changes` to the inputs."""
        values: dict[str, Any] = {"background": "transparent"} if self.transparent else {}
        if "model" not in self.inputs.model_fields_set:
            values["model"] = self.source.brief.model if self.source.brief else self.card.name
        brief = self.inputs.brief(**{**values, **changes})
        return brief.model_copy(update={"width": width, "height": height}).resolve(self.card)

    def generate(
        self,
        brief: ResolvedBrief,
        images: InputImages = NO_IMAGES,
        change: Change | None = None,
        cut: Change | None = None,
    ) -> Iterator[Picture]:
        """Yield the pictures of a brief with metadata, each as soon as it is finished.

        change: a function that is applied to each painted picture.
        cut: the source -> its part on the canvas, for control maps.
        """
        options = GenerateOptions(self.painter, images, adapter_files=self.session.adapter_files())
        if isinstance(self.inputs, ControlInputs) and cut is not None:
            fit = like(self.source.image, cut)
            options, names = add_controls(options, self.inputs, self.session, fit)
            brief = brief.complete(**names)
        for picture in generate(brief, options, progress=self.progress):
            image = picture.image if change is None else change(picture.image)
            yield self.with_metadata(replace(picture, image=image))

    def with_metadata(self, picture: Picture, **inputs: Any) -> Picture:
        """The picture with the app, the id of its parent and the inputs; `inputs` replace some of them."""
        several = {"count": 1} if isinstance(self.inputs, GridInputs) else {}
        values = self.inputs.metadata(seed=picture.brief.seeds[0], **several)
        record = {"app": self.app, "parent": self.source.id, "inputs": {**values, **inputs}}
        return replace(
            picture,
            image=on_background(picture.image, self.inputs),
            info=picture.info.model_copy(update=record),
        )

    def words(self) -> dict[str, Any]:
        """The prompt fields of the inputs, or else those of the picture, with its style if it is known."""
        if self.inputs.prompt or self.source.brief is None:
            return {"prompt": self.inputs.prompt}
        style = self.inputs.style or self.source.brief.style
        return {"prompt": self.source.brief.prompt, "style": style if style in self.card.styles else None}

    def strong_guidance(self) -> dict[str, Any]:
        """The card's guidance for strong changes of a picture, if it has one and the user chose none."""
        usual, inputs = self.card.redraw_guidance, self.inputs
        fast = isinstance(inputs, GridInputs) and inputs.fast
        return {} if usual is None or fast or inputs.guidance is not None else {"guidance": usual}


def on_background(image: Image.Image, inputs: PaintInputs) -> Image.Image:
    """The image on the chosen background, also in the parts that were kept from the source."""
    chosen = "background" in inputs.model_fields_set
    background = inputs.background if chosen else "transparent"
    if background == "transparent" or image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(ground, image).convert("RGB")


def diffusion_painter(painter: Painter) -> DiffusionPainter:
    """The painter, checked to be a `DiffusionPainter`, which can be trained.

    Raises:
        BadBrief: it is of another kind.
    """
    if not isinstance(painter, DiffusionPainter):
        raise BadBrief(f"model {painter.card.name!r} cannot learn: choose a diffusion model with --model")
    return painter
