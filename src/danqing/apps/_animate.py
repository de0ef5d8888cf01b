"""Paints a video: every frame is the one before, moved by a camera and redrawn (SDEdit).

As in Disco Diffusion's 2D animation (arXiv 2108.01073 for each frame). The same noise in every frame would
accumulate, so frame k has the seed of the first plus k.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from danqing.apps._camera import Move, warp
from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._film_needs import film_needs
from danqing.apps._frame_folder import FrameFolder
from danqing.apps._generate import GenerateOptions, generate, picture_of
from danqing.apps._registry import App
from danqing.apps._session import Session
from danqing.apps.animate import Animate
from danqing.conditioning.keyframes import KeyFrames, Script
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can
from danqing.core.images import from_pil, to_pil
from danqing.core.needs import check_room
from danqing.core.painter import NO_IMAGES, InputImages, Painter
from danqing.core.picture import Picture
from danqing.core.progress import Progress, ProgressCallback, part_of
from danqing.core.source_image import SourceImage
from danqing.families.disco.painter import DiscoPainter
from danqing.families.disco.settings import SettingsFile, checked_settings


def paint_frames(
    inputs: Animate, session: Session, progress: ProgressCallback, folder: FrameFolder | None = None
) -> Iterator[Picture]:
    """See `animate.animate`.

    folder: saves every frame as soon as it is painted; frames that it has already are not painted again.
    """
    painter = session.painter(inputs.model)
    inputs.check(painter.card)
    painter = with_disco_settings(painter, inputs.settings_file, Path(inputs.settings or ""))
    start = None if inputs.start is None else inputs.start.source
    return _Film(inputs, painter, start, session, progress, folder).frames()


def keep_frames(app: App[Animate, Any], folder: FrameFolder) -> App[Animate, Any]:
    """The app `animate` with its frames saved in a folder; see `paint_frames`."""
    kept = copy(app)
    kept.run = partial(paint_frames, folder=folder)
    return kept


def with_disco_settings(painter: Painter, file: SettingsFile, path: Path) -> Painter:
    """The painter with the settings of the file at `path`, if it is a Disco Diffusion."""
    if not isinstance(painter, DiscoPainter) or not file.settings:
        return painter
    settings = {**painter.settings.model_dump(), **file.settings}
    return replace(painter, settings=checked_settings(settings, path))


@dataclass(frozen=True)
class Camera:
    """The camera: how each frame is moved from the one before, in pixels of the finished video."""

    zoom: KeyFrames
    angle: KeyFrames
    right: KeyFrames
    down: KeyFrames

    @classmethod
    def of(cls, inputs: Animate) -> Camera:
        """The camera of a request."""
        texts = inputs.zoom, inputs.angle, inputs.translation_x, inputs.translation_y
        return cls(*map(KeyFrames.parse, texts))

    def move(self, frame: int, scale: int) -> Move:
        """The move to a frame, on a canvas `scale` times smaller than the video."""
        right, down = self.right.at(frame) / scale, self.down.at(frame) / scale
        return Move(self.angle.at(frame), self.zoom.at(frame), right, down)


@dataclass(frozen=True)
class _Film:
    """A video in progress, painted frame by frame at native size."""

    inputs: Animate
    painter: Painter
    start: SourceImage | None
    session: Session
    progress: ProgressCallback
    folder: FrameFolder | None

    def frames(self) -> Iterator[Picture]:
        """The finished frames; those that the folder has already come first."""
        inputs, folder = self.inputs, self.folder
        scale = 1 if inputs.native else self.painter.card.scale
        script, camera = Script.parse(inputs.prompt), Camera.of(inputs)
        brief, before = self._first(scale)
        count = 0 if folder is None else min(len(folder), inputs.frames)
        if folder is not None and count > 0:
            yield from folder.frames(count)
            before = _pixels(folder.last_native(count))
        if folder is not None and inputs.frames - count > 1:
            self._say_needs(brief, before, scale, inputs.frames - count, folder.path)
        for k in range(count, inputs.frames):
            if before is not None and k > 0:
                before = warp(before, camera.move(k, scale), inputs.border)
            picture = self._paint(self._brief(brief, script.at(k), k, before), before, k)
            before = _pixels(picture)
            frame = self._finish(picture, scale, k)
            if folder is not None:
                folder.add(k, frame, picture)
            yield frame

    def _say_needs(
        self, brief: ResolvedBrief, before: Tensor | None, scale: int, count: int, folder: Path
    ) -> None:
        """Report what `count` further frames need, and check the disk space.

        Raises:
            DanqingError: there is not enough disk space.
        """
        prompt = Script.parse(self.inputs.prompt).at(self.inputs.frames - count)
        changes = {"prompt": prompt, "image": "frame 0", "strength": self.inputs.strength}
        over = brief.model_copy(update=changes)

        def finish(native: Tensor) -> Picture:
            return self._finish(picture_of(over, self.painter, native), scale, 0)

        needs = film_needs(self.painter, over, before, finish, count)
        check_room(folder, needs.disk)
        self.progress(Progress(note=f"{count} frames need {needs}"))

    def _first(self, scale: int) -> tuple[ResolvedBrief, Tensor | None]:
        """The brief that all frames share, at native size, and the pixels of an input picture or None."""
        card, inputs = self.painter.card, self.inputs
        width, height = inputs.width or card.width * scale, inputs.height or card.height * scale
        before = None
        if self.start is not None:
            fit = CanvasFit.around(self.start.image, inputs, card)
            width, height = fit.width, fit.height
            before = from_pil(fit.cut(self.start.image, scale))[None]
        inputs.brief(width=width, height=height).resolve(card)  # a message shall name the size as given
        clear = {"background": "transparent"} if Can.ALPHA in card.can else {}
        sides = {"width": width // scale, "height": height // scale, "native": True}
        return inputs.brief(**sides, **clear).resolve(card), before

    def _brief(self, brief: ResolvedBrief, prompt: str, k: int, before: Tensor | None) -> ResolvedBrief:
        start = None if self.inputs.start is None else self.inputs.start.name
        place = start if k == 0 else f"frame {k - 1}"
        changes: dict[str, Any] = {"strength": None}
        if before is not None:
            changes = {"image": place, "strength": self.inputs.strength}
        return brief.model_copy(update={"prompt": prompt, "seed": brief.seed + k, **changes})

    def _paint(self, brief: ResolvedBrief, before: Tensor | None, k: int) -> Picture:
        images = NO_IMAGES if before is None else InputImages(image=before)
        options = GenerateOptions(self.painter, images, adapter_files=self.session.adapter_files())
        [picture] = generate(brief, options, progress=part_of(self.progress, k, self.inputs.frames))
        return picture

    def _finish(self, picture: Picture, scale: int, k: int) -> Picture:
        """A frame at the size of the video, with the metadata of the video."""
        inputs, brief = self.inputs, picture.brief
        pixels = _pixels(picture)
        pixels = pixels if scale == 1 else self.painter.upscale(pixels)
        [image] = to_pil(pixels, inputs.background)
        sides = {"width": brief.width * scale, "height": brief.height * scale, "native": inputs.native}
        parent = self.start.id if self.start else None
        record = {"app": "animate", "parent": parent, "inputs": inputs.metadata(seed=brief.seed - k)}
        info = picture.info.model_copy(update=record)
        return Picture(image, brief.model_copy(update={**sides, "background": inputs.background}), info)


def _pixels(picture: Picture) -> Tensor:
    """A frame as a tensor of the painter [1 c h w], with alpha if it has alpha."""
    pixels = from_pil(picture.image)[None]
    return pixels if picture.image.mode == "RGBA" else pixels[:, :3]
