"""A second model that finishes what the first began, as Stable Diffusion XL's refiner does.

Section 2.5 of arXiv 2307.01952: the last steps are those of a model that knows little noise only. The noisy
latents go from one to the other as they are.
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
    """Paints the first steps itself and leaves the last to another.

    refiner: paints the last steps.
    switch_at: the fraction of the times that are this painter's own, in (0, 1).
    """

    refiner: DiffusionPainter = field(kw_only=True)
    switch_at: float = field(kw_only=True)

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """As of any painter."""
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
        """How many steps are this painter's own, as diffusers counts."""
        last = round(len(self.schedule) * (1 - self.switch_at))
        return bisect_left([-level.t for level in levels[:-1]], -last + 1e-6)


def with_refiner(painter: Painter, refiner: Painter, switch_at: float) -> RefinedPainter:
    """The painter with its last steps by the refiner.

    Raises:
        BadBrief: one of them is no Stable Diffusion, or they paint on different latents.
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
    """What holds from a step on, whose steps are counted from there."""
    later = tuple((start - step, change) for start, change in words.schedule if start > step)
    return replace(words.at(step), schedule=later)
