"""Painters in a row: a base, and stages that each paint the picture of the one before anew, larger.

Cascaded diffusion, Ho et al., arXiv 2106.15282, with noise conditioning augmentation as Imagen has it (arXiv
2205.11487 section 2.4): a stage sees the small picture under noise of a level s that it gets as an input, so
that it does not trust the mistakes of the stage before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from danqing.core.brief import ResolvedBrief
from danqing.core.card import Card
from danqing.core.errors import BadWeights
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import Network
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule

Augment = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(picture [n c h w] in [-1, 1], s [n] in [0, 1], standard normal noise [n c h w]) -> what a stage sees."""


def add_noise(picture: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """cos(pi s / 2) picture + sin(pi s / 2) noise: the picture itself at s = 0, nothing of it at s = 1."""
    angle = (level * (math.pi / 2)).view(-1, 1, 1, 1)
    alpha = torch.where(angle < math.pi / 2, angle.cos(), 0.0)  # the cosine of a rounded pi / 2 is not 0
    return alpha * picture + angle.sin() * noise


@dataclass(frozen=True)
class PreconditionedSuperResolution:
    """A `Network` whose output is an expectation from the low-resolution picture, corrected by `network`.

    network: learns the correction.
    prediction: what the output means.
    schedule: of `network`.
    error: tau, the deviation of the large picture from the enlarged small one.
    spread: the deviation of a wide prior on pixels.

    If the large picture is the enlarged one with an error of deviation tau, m + tau e, then the best guess
    from x = alpha x_0 + sigma noise is, with r = x - alpha m,

        x_0 = m + alpha tau^2 r / (alpha^2 tau^2 + sigma^2),    noise = sigma r / (alpha^2 tau^2 + sigma^2).

    So a network of zeros enlarges as `SuperResolution.upsample` does, and one that learns need not carry the
    picture through its norms. tau^2 is `error`^2 and what `add_noise` hid at the level of the input.
    Preconditioning as in Karras et al., arXiv 2206.00364 section 5, around the enlarged picture instead of
    zero.
    """

    network: Network
    prediction: Prediction
    schedule: Schedule
    error: float = 0.15
    spread: float = 4.0

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """See `guidance.Network`; `words.concat` is the small picture under `add_noise`."""
        assert cond.concat is not None, "a stage needs its small picture"
        assert cond.concat_level is not None, "a stage needs the level of its small picture"
        alpha, sigma = self._at(t)
        mean, variance = self._expected_from(cond.concat, cond.concat_level)
        rest = (x - alpha * mean) / (alpha**2 * variance + sigma**2)
        expected = self.prediction.target(mean + alpha * variance * rest, sigma * rest, alpha, sigma)
        return expected + self.network(x, t, cond)

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma [n 1 1 1] of times [n], between those of the table too."""
        table = self.schedule.alpha_bar.to(t.device)
        low = t.long().clamp(0, len(table) - 1)
        fraction = t.double() - low
        alpha_bar_t = table[low] + fraction * (table[(low + 1).clamp(max=len(table) - 1)] - table[low])
        alpha_bar = alpha_bar_t.float().view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def _expected_from(self, picture: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The expected large picture [n c h w] from the low-resolution one, and its variance."""
        angle = (level * (math.pi / 2)).view(-1, 1, 1, 1)
        alpha, sigma, wide = angle.cos(), angle.sin(), self.spread**2
        scale = wide / (alpha**2 * wide + sigma**2)
        return alpha * scale * picture, self.error**2 + scale * sigma**2


@dataclass(eq=False)
class SuperResolution:
    """A stage of a cascade: it paints the picture of the stage before anew, larger.

    painter: its network sees the small picture as `concat`, and how noisy that is as `concat_level`.
    factor: how many times larger it paints.
    level: s of the small picture while painting, in [0, 1].
    augment: what is done to the enlarged small picture.
    align_corners: how that is enlarged, see `torch.nn.functional.interpolate`.
    """

    painter: DiffusionPainter
    factor: int
    level: float = 0.2
    augment: Augment = add_noise
    align_corners: bool = False

    def upsample(self, small: Tensor) -> Tensor:
        """The small picture [n c h w] at the size of this stage, bilinear."""
        return F.interpolate(
            small, scale_factor=self.factor, mode="bilinear", align_corners=self.align_corners
        )

    def with_low_resolution(
        self, cond: Conditioning, small: Tensor, level: Tensor, noise: Tensor
    ) -> Conditioning:
        """`cond` with the low-resolution picture that the network is conditioned on.

        cond: for n pictures.
        small: [n c h w].
        level: s of each picture [n].
        noise: [n c factor*h factor*w].
        """
        return cond.with_concat(self.augment(self.upsample(small), level, noise), level)


@dataclass(frozen=True)
class StageCanvas(Canvas):
    """A canvas that knows its stage; `step` and `of` count over all stages.

    stage: 0 is the base.
    """

    stage: int = 0


@dataclass(eq=False)
class Cascade:
    """A `Painter` of a base and of stages that make its picture larger, each a `DiffusionPainter` of pixels.

    card: what the last stage paints, with the steps and the guidance of the base.
    base: paints the first, small picture.
    stages: in order.

    All stages have the brief's prompt. Its stylize, chaos, weird and strength hold for the base alone. A
    further stage has the guidance of its own card, and its steps in proportion to those of the brief. A
    region to repaint holds in every stage.

    Raises:
        BadWeights: a stage that does not begin at the size at which the one before ends.
    """

    card: Card
    base: DiffusionPainter
    stages: tuple[SuperResolution, ...]

    def __post_init__(self) -> None:
        painters = [self.base, *(stage.painter for stage in self.stages)]
        for (one, two), stage in zip(pairwise(painters), self.stages, strict=True):
            ends, begins = one.card.width, two.card.width / stage.factor
            if ends != begins:
                raise BadWeights(
                    f"cascade {self.card.name!r}: {two.card.name!r} enlarges pictures of {begins:g} pixels, "
                    f"{one.card.name!r} paints {ends}: put stages in a row whose sizes meet"
                )

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return self.base.device

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        self.base.place(device, dtype)
        for stage in self.stages:
            stage.painter.place(device, dtype)

    def executables(self) -> dict[str, nn.Module]:
        """See `execution.backends.Executable`: those of the base and of every stage."""
        painters = [self.base, *(stage.painter for stage in self.stages)]
        return {
            f"{name} of stage {number}": network
            for number, painter in enumerate(painters)
            for name, network in painter.executables().items()
        }

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """The brief's prompt, with the input picture at the size of the last stage."""
        return self.base.condition(self._brief(brief, 0), images)

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> StageCanvas:
        """The base's canvas, see `DiffusionPainter.begin`."""
        canvas = self.base.begin(self._brief(brief, 0), self._words(conditioning, 0), seeds)
        further = sum(self._steps(brief, stage) for stage in self.stages)
        return StageCanvas(canvas.state, seeds, step=0, of=canvas.of + further, tile=brief.tile)

    def steps(
        self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas
    ) -> Iterator[StageCanvas]:
        """One canvas per step of each stage, in the size of that stage.

        Raises:
            NotFinite: naming the step and the time at which NaN or infinite values appeared.
        """
        further = sum(self._steps(brief, stage) for stage in self.stages)
        start, cond = replace(canvas, of=canvas.of - further), self._words(conditioning, 0)
        step_canvas: Canvas
        for step_canvas in self.base.steps(self._brief(brief, 0), cond, start):
            yield _with_all_steps(step_canvas, canvas, 0, 0)
        steps_before, before = step_canvas.of, self.base
        for number, stage in enumerate(self.stages, start=1):
            small = before.finish(step_canvas).to(self.device)
            for step_canvas in self._stage_steps(number, brief, conditioning, canvas.seeds, small):
                yield _with_all_steps(step_canvas, canvas, steps_before, number)
            steps_before, before = steps_before + step_canvas.of, stage.painter

    def preview(self, canvas: Canvas) -> Tensor:
        """See `Painter.preview`; as large as the stage that the canvas is in."""
        return self._painter(canvas).preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures of the last stage [n c h w] in [-1, 1]; of an earlier one, where it was cancelled.

        Raises:
            NotFinite: the canvas holds NaN or infinite values.
        """
        return self._painter(canvas).finish(canvas)

    def upscale(self, pixels: Tensor) -> Tensor:
        """`card.scale` times larger, by the upscaler of the last stage."""
        return (self.stages[-1].painter if self.stages else self.base).upscale(pixels)

    def _stage_steps(
        self, number: int, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds, small: Tensor
    ) -> Iterator[Canvas]:
        """Stage `number` over small pictures [n c h w], with seeds of its own."""
        stage, brief_of_stage, own = (
            self.stages[number - 1],
            self._brief(brief, number),
            seeds.further(number),
        )
        channels, height, width = small.shape[1:]
        noise = own.normal(channels, height * stage.factor, width * stage.factor).to(small)
        level = torch.full((len(small),), stage.level, device=small.device)
        cond = stage.with_low_resolution(self._words(conditioning, number), small, level, noise)
        yield from stage.painter.steps(brief_of_stage, cond, stage.painter.begin(brief_of_stage, cond, own))

    def _painter(self, canvas: Canvas) -> DiffusionPainter:
        assert isinstance(canvas, StageCanvas), "a canvas of another painter"
        return self.stages[canvas.stage - 1].painter if canvas.stage else self.base

    def _shrink(self, number: int) -> int:
        """How many times smaller stage `number` paints than the last."""
        return math.prod(stage.factor for stage in self.stages[number:])

    def _steps(self, brief: ResolvedBrief, stage: SuperResolution) -> int:
        steps = round(stage.painter.card.steps * brief.steps / self.card.steps)
        return min(max(steps, 1), len(stage.painter.schedule))

    def _brief(self, brief: ResolvedBrief, number: int) -> ResolvedBrief:
        """The brief of stage `number`."""
        shrink = self._shrink(number) * (1 if brief.native else self.card.scale)
        sides = {"width": brief.width // shrink, "height": brief.height // shrink, "native": True}
        if number == 0:
            return brief.model_copy(update=sides)
        stage = self.stages[number - 1]
        card = stage.painter.card
        own = {"steps": self._steps(brief, stage), "guidance": card.guidance, "sampler": card.sampler}
        plain = {"strength": None, "stylize": 100, "chaos": 0, "weird": 0}
        return brief.model_copy(update={**sides, **own, **plain})

    def _words(self, cond: Conditioning, number: int) -> Conditioning:
        """The conditioning of stage `number`, at its size; later stages get the last prompt."""
        if number:
            last = max((start for start, _ in cond.schedule), default=0)
            cond = cond.at(last)
        shrink = self._shrink(number)
        if cond.image is None or shrink == 1:
            return cond
        image = F.avg_pool2d(cond.image, shrink)
        region = None if cond.region is None else F.max_pool2d(cond.region, shrink)
        return replace(cond, image=image, region=region)


def _with_all_steps(step_canvas: Canvas, whole: Canvas, steps_before: int, stage: int) -> StageCanvas:
    """The canvas of a stage as one of the whole walk, which had `steps_before` steps before this stage."""
    return StageCanvas(
        step_canvas.state, whole.seeds, steps_before + step_canvas.step, whole.of, whole.tile, stage
    )
