"""Edit a picture by saying what it shall show, without a mask.

Imagic (arXiv 2210.09276) learns the picture for a minute and then paints a strip from it to the words; `fast`
runs the sampler backwards and paints again with other words, in seconds. The model is the same afterwards,
bit for bit, also after Ctrl-C.

Where on the way a picture turns differs from picture to picture; the authors chose by eye (section 4).
Without `etas` more pictures are painted than are shown: the first, and those whose likeness to the words, by
CLIP, grows most evenly. The last of them may lie before 1, where more of the picture is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import torch

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._generate import Watch, painted, pictures_of, with_adapters
from danqing.apps._grid import part_of
from danqing.apps._job import Job, filled, opened, tunable
from danqing.apps.describe import words_of
from danqing.apps.forms import EDIT_STEPS, Edit
from danqing.conditioning.prompt import plainly, spoken
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.sources import Place
from danqing.families import shipped_clip_scorer
from danqing.tuning.adapter import attached
from danqing.tuning.imagic import ImagicOptions, imagic
from danqing.tuning.inversion import edited

WAY = (0.0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)  # etas to choose from
USUAL = (0.0, 0.6, 0.8, 1.0)  # where there is no CLIP to choose


def edit(
    image: Place,
    prompt: str,
    *,
    painter: Painter | None = None,
    watch: Watch | None = None,
    **fields: Any,
) -> list[Picture]:
    """A picture for each of `etas`: 0 is `image` as the model sees it, 1 follows the words alone.

    Without `etas`, four of eleven, in even steps. With `fast`, one picture. See `forms.Edit` for the fields.

    Raises:
        BadBrief: it cannot be painted as asked. BadPicture: the picture cannot be read.
        BadWeights: the shipped CLIP, which chooses the steps, is damaged.
    """
    form, source = filled(Edit, image, prompt, **fields)
    if form.fast and form.etas is not None:
        raise BadBrief("fast paints one picture: leave the etas out")
    source = part_of(source)
    job = Job("edit", form, opened(form, painter, source), source, watch)
    frame = CanvasFit.around(source.image, form, job.painter.card)
    brief = job.resolved(frame.width, frame.height)
    if form.fast:
        strip = _swapped(job, brief, frame)
    elif form.etas is not None:
        strip = list(_strip(job, brief, frame, form.etas))
    else:
        strip = _even_strip(job, brief, frame)
    return [replace(picture, image=frame.shown(picture.image, source.image.size)) for picture in strip]


def _strip(job: Job, brief: ResolvedBrief, frame: CanvasFit, etas: Sequence[float]) -> Iterator[Picture]:
    assert isinstance(job.form, Edit)
    painter = tunable(job.painter)
    pixels = from_pil(frame.cut(job.source.image, 1 if brief.native else painter.card.scale))[None]
    with with_adapters(painter, spoken(brief)) as dressed:
        learned = imagic(painter, pixels, dressed, _options(job.form.effort), job.watch)
        plain = brief.model_copy(update={"adapters": {}})  # worn already
        for eta in etas:
            with attached(painter, {learned.adapter: learned.weight(eta)}):
                [picture] = painted(plain, painter, words=learned.conditioning(eta), watch=job.watch)
            told = job.told(replace(picture, brief=brief))
            asked = {**told.info.asked, "etas": [eta]}
            yield replace(told, info=told.info.model_copy(update={"asked": asked}))


def _even_strip(job: Job, brief: ResolvedBrief, frame: CanvasFit) -> list[Picture]:
    scorer = shipped_clip_scorer()  # before the work, which its damage would waste
    if scorer is None:
        return list(_strip(job, brief, frame, USUAL))
    strip = list(_strip(job, brief, frame, WAY))
    said = plainly(spoken(brief), job.painter.card)
    with torch.no_grad():
        scores = scorer.score(torch.stack([from_pil(one.image)[:3] for one in strip]), [said])[:, 0]
    return [strip[k] for k in evenly(scores.tolist(), EDIT_STEPS)]


def evenly(values: Sequence[float], count: int) -> tuple[int, ...]:
    """Which `count` of the values, the first one and later ones, rise most evenly from one to the next.

    The smallest rise is as large as can be, then the second smallest, and so on. 2 <= count <= len(values).
    """
    chains = ((0, *later) for later in combinations(range(1, len(values)), count - 1))
    return max(chains, key=lambda chain: sorted(values[k] - values[j] for j, k in pairwise(chain)))


def _options(effort: float) -> ImagicOptions:
    usual = ImagicOptions()
    return replace(
        usual,
        words_steps=max(1, round(usual.words_steps * effort)),
        model_steps=max(1, round(usual.model_steps * effort)),
    )


def _swapped(job: Job, brief: ResolvedBrief, frame: CanvasFit) -> list[Picture]:
    """The picture inverted under the words that it shows, and painted again with the ones that are wanted."""
    painter = tunable(job.painter)
    pixels = from_pil(frame.cut(job.source.image, 1 if brief.native else painter.card.scale))[None]
    brief = brief.model_copy(update={"sampler": "ddim"})
    with with_adapters(painter, spoken(brief)) as dressed:
        before = dressed.model_copy(update={"prompt": words_of(job.source, painter.card), "style": None})
        canvas = edited(painter, pixels, before, dressed, watch=job.watch)
    return [job.told(picture) for picture in pictures_of(brief, painter, [painter.finish(canvas)])]
