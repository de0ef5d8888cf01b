"""A refiner: a second model that paints the last steps, as for Stable Diffusion XL.

Section 2.5 of arXiv 2307.01952: a model that was trained on low noise levels only paints the last steps. The
noisy latents pass from the first model to the second unchanged.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import Canvas, Conditioning, Painter
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Level
from danqing.families.stable_diffusion.control import as_stable_diffusion


@dataclass(eq=False)
class RefinedPainter(DiffusionPainter):
    """Paints the first steps itself, and the last ones with a refiner.

    refiner: paints the last steps.
    switch_at: the fraction of times at which the refiner takes over, in (0, 1).
    """

    refiner: DiffusionPainter = field(kw_only=True)
    switch_at: float = field(kw_only=True)

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """See `Painter.steps`."""
        levels = self.levels(brief, conditioning.image is not None)
        cut = self._cut(levels)
        words = replace(
            _from_step(self.refiner.condition(brief), cut),
            image=conditioning.image,
            region=conditioning.region,
        )
        stages = (self, conditioning, levels[: cut + 1]), (self.refiner, words, levels[cut:])
        state, step = canvas.state, 0
        for painter, cond, part in stages:
            here = replace(canvas, state=state, step=step)
            for state, x0 in painter.sample(brief, cond, here, part):
                step += 1
                yield replace(canvas, state=state if step == canvas.of else x0, step=step)

    def _cut(self, levels: Sequence[Level]) -> int:
        """How many steps come before the refiner, by the rule of diffusers."""
        last = round(len(self.schedule) * (1 - self.switch_at))
        return bisect_left([-level.t for level in levels[:-1]], -last + 1e-6)


def with_refiner(painter: Painter, refiner: Painter, switch_at: float) -> RefinedPainter:
    """The painter with its last steps by the refiner.

    Raises:
        BadBrief: one of them is not a Stable Diffusion, or their latents or noise levels differ.
    """
    base, last = as_stable_diffusion(painter), as_stable_diffusion(refiner)
    for what, one, other in (
        ("latents of {} channels", base.vae.channels, last.vae.channels),
        ("latents {} times smaller", base.vae.factor, last.vae.factor),
        ("{} noise levels", len(base.schedule), len(last.schedule)),
    ):
        if one != other:
            raise BadBrief(
                f"refiner {last.card.name!r} knows {what.format(other)}, model {base.card.name!r} "
                f"{what.format(one)}: choose one for this model"
            )
    if last.concat is not None:
        raise BadBrief(f"refiner {last.card.name!r} repaints masks or paints by depth: choose a plain one")
    own = {part.name: getattr(base, part.name) for part in fields(DiffusionPainter)}
    return RefinedPainter(**own, refiner=last, switch_at=switch_at)


def _from_step(words: Conditioning, step: int) -> Conditioning:
    """The conditioning from `step` on, with a schedule whose steps are counted from there."""
    later = tuple((start - step, change) for start, change in words.schedule if start > step)
    return replace(words.at(step), schedule=later)
