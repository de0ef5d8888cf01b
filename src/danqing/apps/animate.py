"""Paint a film: every frame is the one before, moved under a camera and painted over.

After Disco Diffusion's animation in two dimensions, over any painter that can redraw (SDEdit, arXiv
2108.01073). The same noise in every frame would burn in, so frame k has the seed of the first plus k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from danqing.apps._camera import Move, warped
from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._disco_settings_file import scripted
from danqing.apps._generate import Watch, painted
from danqing.apps._job import opened
from danqing.apps.forms import Animate
from danqing.conditioning.keyframes import KeyFrames, Script
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can
from danqing.core.images import from_pil, to_pil
from danqing.core.painter import NO_IMAGES, Canvas, InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.sources import Source, read_source
from danqing.families.disco.painter import DiscoPainter
from danqing.families.disco.settings import SettingsFile, checked_settings


def animate(
    prompt: str = "", *, painter: Painter | None = None, watch: Watch | None = None, **fields: Any
) -> list[Picture]:
    """The frames of a film that is told `prompt`; see `forms.Animate` for the fields, `film` to save them.

    Raises:
        BadBrief: it cannot be painted as asked. BadPicture: the picture to start from cannot be read.
    """
    form, told = scripted(Animate.of(prompt, **fields))
    start = None if form.start is None else read_source(form.start)
    painter = led(opened(form, painter), told, Path(form.settings or ""))
    if watch is not None:
        for note in told.notes:
            watch(note)
    return list(_Film(form, painter, start, watch).frames())


def led(painter: Painter, told: SettingsFile, path: Path) -> Painter:
    """The painter, set as the file at `path` says where it can be."""
    if not isinstance(painter, DiscoPainter) or not told.settings:
        return painter
    known = painter.settings.model_dump()
    return replace(painter, settings=checked_settings({**known, **told.settings}, path))


@dataclass(frozen=True)
class Camera:
    """How each frame is moved from the one before, in pixels of the finished film."""

    zoom: KeyFrames
    angle: KeyFrames
    right: KeyFrames
    down: KeyFrames

    @classmethod
    def of(cls, form: Animate) -> Camera:
        """The camera that a form asks for."""
        return cls(*map(KeyFrames.parse, (form.zoom, form.angle, form.translation_x, form.translation_y)))

    def move(self, frame: int, scale: int) -> Move:
        """The move to a frame, on a canvas `scale` times smaller than the film."""
        right, down = self.right.at(frame) / scale, self.down.at(frame) / scale
        return Move(self.angle.at(frame), self.zoom.at(frame), right, down)


@dataclass(frozen=True)
class _Film:
    """A film that is being painted, frame by frame at native size."""

    form: Animate
    painter: Painter
    start: Source | None
    watch: Watch | None

    def frames(self) -> Iterator[Picture]:
        """The finished frames."""
        scale = 1 if self.form.native else self.painter.card.scale
        script, camera = Script.parse(self.form.prompt), Camera.of(self.form)
        brief, before = self._first(scale)
        for k in range(self.form.frames):
            if k > 0:
                assert before is not None
                before = warped(before, camera.move(k, scale), self.form.border)
            now = self._brief(brief, script.at(k), k, redraws=before is not None)
            given = NO_IMAGES if before is None else InputImages(image=before)
            [picture] = painted(now, self.painter, given, watch=self._counted(k))
            before = _pixels(picture)
            yield self._finished(picture, scale, k)

    def _first(self, scale: int) -> tuple[ResolvedBrief, Tensor | None]:
        """What all frames share, at native size, and the picture to start from if there is one."""
        card, form = self.painter.card, self.form
        width, height = form.width or card.width * scale, form.height or card.height * scale
        before = None
        if self.start is not None:
            frame = CanvasFit.around(self.start.image, form, card)
            width, height = frame.width, frame.height
            before = from_pil(frame.cut(self.start.image, scale))[None]
        form.brief(image=None, width=width, height=height).resolved(
            card
        )  # tells a wrong size as it was given
        clear = {"background": "transparent"} if Can.ALPHA in card.can else {}
        sides = {"width": width // scale, "height": height // scale, "native": True}
        return form.brief(image=None, **sides, **clear).resolved(card), before

    def _brief(self, brief: ResolvedBrief, words: str, k: int, *, redraws: bool) -> ResolvedBrief:
        place = self.form.start if k == 0 else f"frame {k - 1}"
        told = {"image": place, "strength": self.form.strength} if redraws else {"strength": None}
        return brief.model_copy(update={"prompt": words, "seed": brief.seed + k, **told})

    def _finished(self, picture: Picture, scale: int, k: int) -> Picture:
        """A frame at the film's size, telling how the film was asked for."""
        form, brief = self.form, picture.brief
        pixels = _pixels(picture)
        pixels = pixels if scale == 1 else self.painter.enlarge(pixels)
        [image] = to_pil(pixels, form.background)
        assert brief.seed is not None
        assert brief.width is not None
        assert brief.height is not None
        sides = {"width": brief.width * scale, "height": brief.height * scale, "native": form.native}
        asked = form.asked(seed=brief.seed - k)
        info = picture.info.model_copy(
            update={"app": "animate", "parent": self.start.id if self.start else None, "asked": asked}
        )
        return Picture(image, brief.model_copy(update={**sides, "background": form.background}), info)

    def _counted(self, k: int) -> Watch | None:
        """`watch` with steps counted over all frames."""
        watch, frames = self.watch, self.form.frames
        if watch is None:
            return None

        def overall(canvas: Canvas | str) -> object:
            if isinstance(canvas, str):
                return watch(canvas)
            return watch(replace(canvas, step=k * canvas.of + canvas.step, of=frames * canvas.of))

        return overall


def _pixels(picture: Picture) -> Tensor:
    """A frame as the painter's pixels [1 c h w], with alpha where it has it."""
    pixels = from_pil(picture.image)[None]
    return pixels if picture.image.mode == "RGBA" else pixels[:, :3]
