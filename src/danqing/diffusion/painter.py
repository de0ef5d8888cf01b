"""The `core.painter.Painter` of all diffusion models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from danqing.conditioning.encode import Encoder, encode
from danqing.conditioning.midjourney import stylize_guidance, with_chaos_and_weird
from danqing.conditioning.prompt import parse_negative, styled_prompt
from danqing.conditioning.text import weigh_as
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Card
from danqing.core.errors import BadBrief, NotFinite
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import (
    Guidance,
    Network,
    NetworkCalls,
    answer_each,
    guide_calls_scheduled,
    keep_outside_region,
)
from danqing.diffusion.inputs import state_of_images, with_sizes, with_zero_negative
from danqing.diffusion.network_calls import CallStream, answer_calls, sampler_calls
from danqing.diffusion.network_changes import with_cache, with_seamless_borders
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS, DenoiserOutput
from danqing.diffusion.schedule import Level, Schedule
from danqing.diffusion.vae import VAE
from danqing.diffusion.variance import Variance
from danqing.nets.placement import as_input, first_not_finite, move, to_float32
from danqing.nets.seamless import seamless

S = TypeVar("S")


@dataclass(eq=False)
class DiffusionPainter:
    """Paints by denoising. All pictures of a canvas are one batch.

    text: encodes a prompt for one picture.
    network: the denoiser, see `guidance.Network`.
    prediction: the target that the network predicts.
    schedule: the noise levels that the network was trained on.
    vae: encodes pixels to the states that the network denoises, and decodes them.
    upscaler: pictures [n c h w] -> the same, `card.scale` times larger.
    latent_rgb: a linear map from latents to RGB in [0, 1] for previews [vae.channels + 1, 3], with the bias
        in its last row; without it, a preview is a full decode.
    modules: name in a diffusers folder -> network; adapters and tiling act on them.
    concat: input pictures -> further input channels [1 k h w], for a network that was trained to inpaint or
        to follow a depth map. Without it, inpainting restores the input picture outside the region.
    threshold: x0 [n c h w] -> x0 in the range of pictures, see `thresholding`; None for no limit.
    variance: the variance type of DDPM steps.
    adapters: name -> file of the adapters that came with the weights.
    frozen: further networks that `place` moves too, such as a text encoder that takes no adapters.
    network_at_guidance: guidance -> network, for a network that was distilled to take the guidance as an
        input; None where guidance is classifier-free.
    knows_sizes: whether the network takes `Conditioning.sizes`.
    aesthetics: aesthetic scores of the prompt and of the negative prompt, for a network that takes them in
        place of the target size, as Stable Diffusion XL's refiner does.
    zero_negative: whether an empty negative prompt is encoded as zeros and not as the text "".
    """

    card: Card
    text: Encoder
    network: Network
    prediction: Prediction
    schedule: Schedule
    vae: VAE
    upscaler: Callable[[Tensor], Tensor] | None = None
    latent_rgb: Tensor | None = None
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    concat: Callable[[InputImages, VAE], Tensor] | None = None
    threshold: Callable[[Tensor], Tensor] | None = None
    variance: Variance = Variance.SMALL
    adapters: Mapping[str, Path] = field(default_factory=dict)
    frozen: tuple[nn.Module, ...] = ()
    network_at_guidance: Callable[[float], Network] | None = None
    knows_sizes: bool = False
    zero_negative: bool = False
    aesthetics: tuple[float, float] | None = None

    @property
    def device(self) -> torch.device:
        """The device of its networks; input pictures and results are on the CPU."""
        weights = (weight for module in self.modules.values() for weight in module.parameters())
        return next((weight.device for weight in weights), torch.device("cpu"))

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        move(device, dtype, *self.modules.values(), self.upscaler, *self.frozen)

    def executables(self) -> dict[str, nn.Module]:
        """See `execution.backends.Executable`: the denoiser, the decoder and the upscaler."""
        named = {
            name: module for name, module in self.modules.items() if not name.startswith(("text", "vae"))
        }
        others = {"decoder": self.vae.decoder, "upscaler": self.upscaler}
        return named | {name: module for name, module in others.items() if isinstance(module, nn.Module)}

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """Encode the styled prompt, the negative prompt and the input pictures, for one picture.

        Raises:
            BadBrief: the text encoder does not support the prompt, or as `begin`.
        """
        images = images.to(self.device)
        image = state_of_images(images, self.vae)
        steps = len(self.levels(brief, image is not None)) - 1
        text = weigh_as(self.text, brief.weighting)
        encoded = encode(text, styled_prompt(brief, self.card), parse_negative(brief), steps).to(self.device)
        if self.zero_negative and not brief.negative_prompt.strip():
            encoded = encoded.each(with_zero_negative)
        if self.knows_sizes:
            sides = tuple(side * self.vae.factor for side in self._sides(brief))
            encoded = with_sizes(encoded, sides, self.aesthetics)
        concat = self._concat_input(brief, images)
        return replace(encoded, image=image, region=self._region(images)).with_concat(concat)

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """Noise, or the input picture with noise added by `strength` (SDEdit, arXiv 2108.01073).

        The noise is standard normal [n channels h w]; the sum of signal and noise has variance 1.

        Raises:
            BadBrief: the sampler is unknown, the schedule has fewer steps, or `strength` leaves no step.
        """
        state = seeds.normal(self.vae.channels, *self._sides(brief)).to(conditioning.tokens.device)
        levels = self.levels(brief, conditioning.image is not None)
        if conditioning.image is not None and brief.strength not in (None, 1):  # 1 is noise only
            state = levels[0].alpha * conditioning.image + levels[0].sigma * state
        return Canvas(state, seeds, step=0, of=len(levels) - 1, tile=brief.tile)

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas per step. Its state is the estimate x0, so that a preview shows no noise.

        Raises:
            NotFinite: NaN or infinite values appeared; the message names the step and the time.
        """
        yield from answer_calls(self.calls(brief, conditioning, canvas))

    def calls(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> CallStream[Canvas]:
        """As `steps`, but the caller runs the network calls that this yields. Raises as `steps`."""
        levels = self.levels(brief, conditioning.image is not None)

        def after(step: int, x: Tensor, x0: Tensor) -> Canvas:
            return replace(canvas, state=x if step == canvas.of else x0, step=step)

        return self._sample_calls(brief, conditioning, (canvas, levels), after)

    def sample(
        self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas, levels: Sequence[Level]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Sample along `levels` from the state of the canvas; yields (x, x0) after each step.

        Raises:
            NotFinite: as `steps`.
        """
        calls = self._sample_calls(brief, conditioning, (canvas, levels), lambda _, x, x0: (x, x0))
        yield from answer_calls(calls)

    @torch.no_grad()
    def _sample_calls(
        self,
        brief: ResolvedBrief,
        conditioning: Conditioning,
        way: tuple[Canvas, Sequence[Level]],
        after: Callable[[int, Tensor, Tensor], S],
    ) -> CallStream[S]:
        """Yields the network calls and, after each step, `after(step number, x, x0)`.

        way: the canvas to start from and the levels to sample along.
        """
        canvas, levels = way
        conditioning = with_chaos_and_weird(conditioning.expand(len(canvas.seeds)), brief, canvas.seeds.seeds)
        steps = count(1)

        def done(x: Tensor, x0: Tensor) -> S:
            step = next(steps)
            if not x.isfinite().all():
                number = f"step {canvas.step + step} of {canvas.of}"
                where = f"{number} (t = {levels[step - 1].t:.0f}, {x.dtype})"
                raise NotFinite(f"{where} gave NaN or infinite values: {self._remedy(brief)}")
            return after(step, x, x0)

        calls = SAMPLERS[brief.sampler].sample(canvas.state, levels, canvas.seeds)
        yield from sampler_calls(calls, self._denoiser_calls(brief, conditioning, levels), done)

    @torch.no_grad()
    def preview(self, canvas: Canvas) -> Tensor:
        """A cheap preview [n 3 h w] in [0, 1]; h and w are those of the latents if `latent_rgb` is set."""
        if self.latent_rgb is None:
            return (self.vae.decode(canvas.state)[:, :3] + 1).div(2).clamp(0, 1).cpu()
        matrix = self.latent_rgb.to(canvas.state)
        rgb = torch.einsum("nchw,cr->nrhw", canvas.state, matrix[:-1]) + matrix[-1].view(1, 3, 1, 1)
        return rgb.clamp(0, 1).cpu()

    @torch.no_grad()
    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures at native size [n c h w], clipped to [-1, 1].

        Raises:
            NotFinite: the canvas holds NaN or infinite values.
        """
        with self._edges(canvas.tile):
            return self.vae.decode(canvas.state).clamp(-1, 1).cpu()

    @torch.no_grad()
    def upscale(self, pixels: Tensor) -> Tensor:
        """`card.scale` times larger, [n c h w] in [-1, 1]."""
        if self.upscaler is None:
            return pixels
        inputs = as_input(self.upscaler, pixels) if isinstance(self.upscaler, nn.Module) else pixels
        return to_float32(self.upscaler(inputs)).clamp(-1, 1).cpu()

    def levels(self, brief: ResolvedBrief, redraws: bool) -> list[Level]:
        """The noise levels for the sampler of the brief; a redraw uses only the last part, by `strength`.

        A strength adds equally much noise with every model and sampler (`Schedule.time_fraction`). If the
        strength lies between two steps, the first level lies between theirs; the others are those of steps.

        Raises:
            BadBrief: the sampler is unknown, the schedule has fewer steps, or no step is left.
        """
        sampler = SAMPLERS[brief.sampler]
        levels = self.schedule.levels(brief.steps, sampler.spacing, sampler.set_alpha_to_one)
        if not redraws or brief.strength is None:
            return levels
        fraction = self.schedule.time_fraction(brief.strength)
        if brief.steps * fraction + 1e-6 < 1:
            least = math.ceil((1 - 1e-6) / fraction)
            more = f"{least} steps or more, or " if least <= len(self.schedule) else ""
            raise BadBrief(
                f"strength {brief.strength:g} of {brief.steps} steps is less than one step, which would copy "
                f"the picture: use {more}more strength"
            )
        if fraction == 1:
            return levels
        # counted in steps evenly spaced in time, because those of the sampler may not be
        begins = self.schedule.time_of_step(brief.steps, brief.steps * (1 - fraction))
        k = min(range(brief.steps), key=lambda k: abs(levels[k].t - begins))
        start = levels[k] if levels[k].t == begins else self.schedule.level_at(begins)
        return [start, *levels[k + 1 :]]

    def denoiser(
        self, brief: ResolvedBrief, conditioning: Conditioning, levels: Sequence[Level]
    ) -> Callable[[Tensor, Level], DenoiserOutput]:
        """The guided network as a function of x [n c h w] and a level to x0, differentiable.

        conditioning: for n pictures.
        levels: all levels of the run, for prompts that change between steps.
        """
        calls = self._denoiser_calls(brief, conditioning, levels)
        return lambda x, level: answer_each(calls(x, level))

    def _denoiser_calls(
        self, brief: ResolvedBrief, conditioning: Conditioning, levels: Sequence[Level]
    ) -> Callable[[Tensor, Level], NetworkCalls[DenoiserOutput]]:
        """As `denoiser`, but the caller runs the network calls that this yields."""
        strength = brief.guidance if brief.fast else stylize_guidance(brief.guidance, brief.stylize)
        interval = self.schedule.times_between(brief.guidance_start, brief.guidance_end)
        network, guidance = self.network, Guidance(strength, brief.rescale, interval)
        if self.network_at_guidance is not None:
            network, guidance = self.network_at_guidance(strength), Guidance(1.0)
        network = with_cache(network, brief.cache_interval, self.card.name)
        network = with_seamless_borders(network, self.modules.values()) if brief.tile else network
        output = guide_calls_scheduled(network, conditioning, guidance, levels)
        repaints = self.concat is not None  # such a network keeps the outside by itself
        kept = keep_outside_region(replace(conditioning, region=None) if repaints else conditioning)

        def denoise(x: Tensor, level: Level) -> NetworkCalls[DenoiserOutput]:
            network_output, variance = self.variance.split_output((yield from output(x, level)), x.shape[1])
            x0 = self.prediction.x0(x, network_output, level.alpha, level.sigma)
            return DenoiserOutput(kept(x0 if self.threshold is None else self.threshold(x0)), variance)

        return denoise

    def _sides(self, brief: ResolvedBrief) -> tuple[int, int]:
        """Height and width of the state, in latents."""
        shrink = self.vae.factor * (1 if brief.native else self.card.scale)
        return brief.height // shrink, brief.width // shrink

    def _region(self, images: InputImages) -> Tensor | None:
        """The region at the size of the state; a latent is inside if any of its pixels is."""
        return None if images.region is None else F.max_pool2d(images.region, self.vae.factor)

    def _concat_input(self, brief: ResolvedBrief, images: InputImages) -> Tensor | None:
        if self.concat is None:
            return None
        if images.image is None:  # no input picture: the region is everything
            sides = [side * self.vae.factor for side in self._sides(brief)]
            empty = torch.zeros(1, self.vae.pixel_channels, *sides), torch.ones(1, 1, *sides)
            images = replace(images, image=empty[0], region=empty[1]).to(self.device)
        return self.concat(images, self.vae)

    def _remedy(self, brief: ResolvedBrief) -> str:
        """The advice in a `NotFinite` message. All weights are checked only now, because it takes long."""
        if weight := first_not_finite(self.modules):
            return f"fetch another copy of {brief.model!r}, its {weight} is not finite"
        return f"lower the guidance (now {brief.guidance:g}), or use float32"

    def _edges(self, tile: bool) -> AbstractContextManager[None]:
        return seamless(*self.modules.values()) if tile else nullcontext()
