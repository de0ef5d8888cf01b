"""What every app that paints from a picture does around its own idea: open, check, frame, paint, tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from PIL import Image

from danqing.apps._generate import Watch, painted
from danqing.apps.forms import Form
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.core.painter import InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place, Source, read_source
from danqing.diffusion.painter import DiffusionPainter

FormT = TypeVar("FormT", bound=Form)


def filled(form: type[FormT], image: Place, prompt: str = "", **fields: Any) -> tuple[FormT, Source]:
    """An app's form from loose values, and the picture it names.

    Raises:
        BadBrief: a value is out of its range. BadPicture: the picture cannot be read.
    """
    source = read_source(image)
    return form.of(prompt, image=source.name or "picture", **fields), source


def opened(form: Form, painter: Painter | None, source: Source | None = None) -> Painter:
    """The painter of a form: the one at hand, the one asked for, or the one that painted the source.

    Raises:
        BadBrief: it cannot do what the app needs. BadWeights: it cannot be opened.
    """
    if painter is None:
        from danqing.families import open_painter  # a caller with a painter of its own needs no weights

        painter = open_painter(form.model if source is None else form.model_for(source))
    form.check(painter.card)
    return painter


def tunable(painter: Painter) -> DiffusionPainter:
    """The painter as one whose networks can be reached, to learn something.

    Raises:
        BadBrief: it is of another kind.
    """
    if not isinstance(painter, DiffusionPainter):
        raise BadBrief(f"model {painter.card.name!r} cannot learn: choose a diffusion model with --model")
    return painter


def words_for(form: Form, source: Source, card: Card) -> dict[str, Any]:
    """The form's words; else those that painted the picture, with its style where the model knows it."""
    if form.prompt or source.brief is None:
        return {"prompt": form.prompt}
    style = form.style or source.brief.style
    return {"prompt": source.brief.prompt, "style": style if style in card.styles else None}


@dataclass(frozen=True)
class Job:
    """A painter at work for one request: `form` was asked, by `app`, of the picture `source`."""

    app: str
    form: Form
    painter: Painter
    source: Source
    watch: Watch | None = None

    def paint(
        self, brief: ResolvedBrief, given: InputImages, after: Callable[[Image.Image], Image.Image]
    ) -> list[Picture]:
        """The pictures of a settled brief, each changed by `after`, telling where they come from."""
        pictures = painted(brief, self.painter, given, watch=self.watch)
        return [self.told(replace(picture, image=after(picture.image))) for picture in pictures]

    def told(self, picture: Picture) -> Picture:
        """The picture with the app, the id of its parent and what was asked."""
        asked = self.form.asked(seed=picture.brief.seeds[0], **({} if self.form.single else {"count": 1}))
        told = {"app": self.app, "parent": self.source.id, "asked": asked}
        return replace(picture, image=self.grounded(picture.image), info=picture.info.model_copy(update=told))

    def grounded(self, image: Image.Image) -> Image.Image:
        """On the ground that was asked for, also where what was kept of the source shows through."""
        wished = self.form.background if "background" in self.form.model_fields_set else "transparent"
        if wished == "transparent" or image.mode != "RGBA":
            return image
        ground = Image.new("RGBA", image.size, wished)
        return Image.alpha_composite(ground, image).convert("RGB")

    def resolved(self, width: int, height: int, **changed: Any) -> ResolvedBrief:
        """The form's brief for a canvas of that size: transparent where the picture is and the model can."""
        given: dict[str, Any] = {"background": "transparent"} if self.clear else {}
        if "model" not in self.form.model_fields_set:
            given["model"] = self.source.brief.model if self.source.brief else self.painter.card.name
        brief = self.form.brief(**{**given, **changed})
        return brief.model_copy(update={"width": width, "height": height}).resolved(self.painter.card)

    @property
    def clear(self) -> bool:
        """Whether to paint on transparency: the picture has it, or lies on a canvas with margins."""
        wished = "background" in self.form.model_fields_set
        return Can.ALPHA in self.painter.card.can and not wished and self.source.image.mode == "RGBA"
