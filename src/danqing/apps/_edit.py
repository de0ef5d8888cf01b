"""Edits a picture by a prompt, without a mask.

Imagic (arXiv 2210.09276) trains on the picture for a minute and then paints several pictures from the old one
to the prompt. DDIM inversion finds the noise of the picture and paints again with another prompt, in seconds.
The weights of the model are unchanged afterwards, bit for bit, also after Ctrl-C.

The eta at which the picture changes differs between pictures; the authors chose it by eye (section 4).
Without `etas`, more pictures are painted than shown: the first is shown, and those whose CLIP scores with the
prompt rise most evenly. The last one may have an eta below 1, which keeps more of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import torch
from torch import Tensor

from danqing.apps._canvas_fit import CanvasFit
from danqing.apps._describe import words_of
from danqing.apps._generate import GenerateOptions, generate, picture_of, with_adapters
from danqing.apps._job import Job, diffusion_painter
from danqing.apps._session import Session
from danqing.apps.edit import STEPS, Edit
from danqing.conditioning.prompt import expand_prompt, plain_text
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.tuning.adapter import attach
from danqing.tuning.imagic import ImagicOptions, imagic
from danqing.tuning.inversion_edit import edit_by_inversion

CANDIDATE_ETAS = (0.0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)  # candidates without `etas`
DEFAULT_ETAS = (0.0, 0.6, 0.8, 1.0)  # without CLIP


def edit_source(inputs: Edit, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """See `edit.edit`."""
    if inputs.method == "inversion" and inputs.etas is not None:
        raise BadBrief("fast paints one picture: leave the etas out")
    job = Job.start("edit", inputs, session, progress, image=inputs.image)
    fit = CanvasFit.around(job.source.image, inputs, job.card)
    brief = job.resolve(fit.width, fit.height)
    pixels = from_pil(fit.cut(job.source.image, 1 if brief.native else job.card.scale))[None]
    for picture in _METHODS[inputs.method](job, brief, pixels):
        yield replace(picture, image=fit.crop_to_picture(picture.image, job.source.image.size))


def _imagic(job: Job[Edit], brief: ResolvedBrief, pixels: Tensor) -> Iterator[Picture]:
    """The pictures of the etas of the request, or else those whose CLIP scores rise most evenly."""
    if job.inputs.etas is not None:
        return _strip(job, brief, pixels, job.inputs.etas)
    scorer = job.session.shipped_clip_scorer()  # opened first: an error later would waste the work
    if scorer is None:
        return _strip(job, brief, pixels, DEFAULT_ETAS)
    strip = list(_strip(job, brief, pixels, CANDIDATE_ETAS))
    text = plain_text(expand_prompt(brief), job.card)
    with torch.no_grad():
        scores = scorer.score(torch.stack([from_pil(one.image)[:3] for one in strip]), [text])[:, 0]
    return (strip[k] for k in evenly_spaced(scores.tolist(), STEPS))


def _strip(job: Job[Edit], brief: ResolvedBrief, pixels: Tensor, etas: Sequence[float]) -> Iterator[Picture]:
    painter, files = diffusion_painter(job.painter), job.session.adapter_files()
    with with_adapters(painter, expand_prompt(brief), files) as attached_brief:
        learned = imagic(painter, pixels, attached_brief, _options(job.inputs.effort), job.progress)
        plain = brief.model_copy(update={"adapters": {}})  # attached already
        for eta in etas:
            options = GenerateOptions(painter, conditioning=learned.conditioning(eta))
            with attach(painter, {learned.adapter: learned.weight(eta)}):
                [picture] = generate(plain, options, progress=job.progress)
            yield job.with_metadata(replace(picture, brief=brief), etas=[eta])


def _inversion(job: Job[Edit], brief: ResolvedBrief, pixels: Tensor) -> Iterator[Picture]:
    """Invert the picture with the prompt of what it shows, and paint it with the prompt of the request."""
    painter, files = diffusion_painter(job.painter), job.session.adapter_files()
    brief = brief.model_copy(update={"sampler": "ddim"})
    with with_adapters(painter, expand_prompt(brief), files) as attached_brief:
        words = {"prompt": words_of(job.source, painter.card, job.session), "style": None}
        before = attached_brief.model_copy(update=words)
        canvas = edit_by_inversion(painter, pixels, before, attached_brief, progress=job.progress)
    yield job.with_metadata(picture_of(brief.alone(0), painter, painter.finish(canvas)))


_METHODS = {"imagic": _imagic, "inversion": _inversion}


def evenly_spaced(values: Sequence[float], count: int) -> tuple[int, ...]:
    """The indices of `count` values, including the first, that rise most evenly.

    The smallest rise between neighbours is maximal, then the second smallest, and so on.

    count: in [2, len(values)].
    """
    chains = ((0, *rest) for rest in combinations(range(1, len(values)), count - 1))
    return max(chains, key=lambda chain: sorted(values[k] - values[j] for j, k in pairwise(chain)))


def _options(effort: float) -> ImagicOptions:
    usual = ImagicOptions()
    return replace(
        usual,
        words_steps=max(1, round(usual.words_steps * effort)),
        model_steps=max(1, round(usual.model_steps * effort)),
    )
