"""Cascaded diffusion: a base model, and super-resolution stages that each paint the last picture larger.

Ho et al., arXiv 2106.15282, with noise conditioning augmentation as in Imagen (arXiv 2205.11487 section 2.4):
a stage is conditioned on the small picture with noise of level s added, and on s itself, so that it does not
copy the errors of the stage before.
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
"""(picture [n c h w] in [-1, 1], s [n] in [0, 1], standard normal noise [n c h w]) -> noisy [n c h w]."""


def add_noise(picture: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """cos(pi s / 2) picture + sin(pi s / 2) noise: only the picture at s = 0, only noise at s = 1."""
    angle = (level * (math.pi / 2)).view(-1, 1, 1, 1)
    alpha = torch.where(angle < math.pi / 2, angle.cos(), 0.0)  # cos of pi / 2 in floats is not 0
    return alpha * picture + angle.sin() * noise


@dataclass(frozen=True)
class PreconditionedSuperResolution:
    """A `Network` that adds the output of `network` to an estimate from the low-resolution picture.

    network: learns the correction of the estimate.
    prediction: the target of the output.
    schedule: the noise levels of `network`.
    error: tau, the standard deviation between the large picture and the upsampled small one.
    spread: the standard deviation of a wide prior on pixels.

    If the large picture is the upsampled one m with an error of standard deviation tau, m + tau e, then the
    best estimate from x = alpha x_0 + sigma noise is, with r = x - alpha m,

        x_0 = m + alpha tau^2 r / (alpha^2 tau^2 + sigma^2),    noise = sigma r / (alpha^2 tau^2 + sigma^2).

    So a network whose output is zero upsamples as `SuperResolution.upsample` does, and a trained one need not
    pass the picture through its norms. tau^2 is `error`^2 plus the variance that `add_noise` adds at the
    level of the input. This is the preconditioning of Karras et al., arXiv 2206.00364 section 5, centred on
    the upsampled picture in place of zero.
    """

    network: Network
    prediction: Prediction
    schedule: Schedule
    error: float = 0.15
    spread: float = 4.0

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """See `guidance.Network`; `cond.concat` is the upsampled small picture after `add_noise`."""
        assert cond.concat is not None, "a stage needs its small picture"
        assert cond.concat_level is not None, "a stage needs the level of its small picture"
        alpha, sigma = self._at(t)
        mean, variance = self._expected_from(cond.concat, cond.concat_level)
        rest = (x - alpha * mean) / (alpha**2 * variance + sigma**2)
        expected = self.prediction.target(mean + alpha * variance * rest, sigma * rest, alpha, sigma)
        return expected + self.network(x, t, cond)

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma [n 1 1 1] of times [n]; alpha^2 is interpolated between times of the table."""
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
    """A super-resolution stage of a cascade: it paints the picture of the stage before at a larger size.

    painter: its network gets the small picture as `concat` and the noise level of it as `concat_level`.
    factor: how many times larger the result is.
    level: s of the small picture during sampling, in [0, 1].
    augment: adds the noise to the upsampled small picture.
    align_corners: of the upsampling, see `torch.nn.functional.interpolate`.
    """

    painter: DiffusionPainter
    factor: int
    level: float = 0.2
    augment: Augment = add_noise
    align_corners: bool = False

    def upsample(self, small: Tensor) -> Tensor:
        """The small picture [n c h w] upsampled to the size of this stage, bilinearly."""
        return F.interpolate(
            small, scale_factor=self.factor, mode="bilinear", align_corners=self.align_corners
        )

    def with_low_resolution(
        self, cond: Conditioning, small: Tensor, level: Tensor, noise: Tensor
    ) -> Conditioning:
        """`cond` with the low-resolution picture as `concat`.

        cond: for n pictures.
        small: [n c h w].
        level: s of each picture [n].
        noise: [n c factor*h factor*w].
        """
        return cond.with_concat(self.augment(self.upsample(small), level, noise), level)


@dataclass(frozen=True)
class StageCanvas(Canvas):
    """A canvas with the number of its stage; `step` and `of` count over all stages.

    stage: 0 is the base model.
    """

    stage: int = 0


@dataclass(eq=False)
class Cascade:
    """A `Painter` of a base model and super-resolution stages, each a `DiffusionPainter` of pixels.

    card: the size of the last stage, with the steps and the guidance of the base.
    base: paints the first, small picture.
    stages: the super-resolution stages in order.

    All stages use the prompt and the region of the brief. Its stylize, chaos, weird and strength apply to the
    base only. Each further stage uses the guidance of its own card, and steps in proportion to those of the
    brief.

    Raises:
        BadWeights: the input size of a stage is not the output size of the one before.
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
        """The device of its networks."""
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
        """One canvas per step of each stage, at the size of that stage.

        Raises:
            NotFinite: NaN or infinite values appeared; the message names the step and the time.
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
        """See `Painter.preview`; the size is that of the current stage."""
        return self._painter(canvas).preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures of the last stage that ran, [n c h w] in [-1, 1].

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
        """The steps of stage `number` from small pictures [n c h w], with seeds of its own."""
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
        """How many times smaller the pictures of stage `number` are than those of the last."""
        return math.prod(stage.factor for stage in self.stages[number:])

    def _steps(self, brief: ResolvedBrief, stage: SuperResolution) -> int:
        steps = round(stage.painter.card.steps * brief.steps / self.card.steps)
        return min(max(steps, 1), len(stage.painter.schedule))

    def _brief(self, brief: ResolvedBrief, number: int) -> ResolvedBrief:
        """The brief for stage `number`."""
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
        """The conditioning of stage `number`, at its size; later stages get the last entry of a schedule."""
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
    """The canvas of a stage with `step` and `of` over all stages; `steps_before` are those before it."""
    return StageCanvas(
        step_canvas.state, whole.seeds, steps_before + step_canvas.step, whole.of, whole.tile, stage
    )
