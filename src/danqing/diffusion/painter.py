"""The four verbs of `core.painter.Painter`, once for every diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from danqing.conditioning.prompt import words
from danqing.core.brief import Brief
from danqing.core.card import Card
from danqing.core.errors import NotFinite
from danqing.core.painter import Canvas, Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.codec import Codec
from danqing.diffusion.guidance import Guidance, Network, guided
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS, drive
from danqing.diffusion.schedule import Level, Schedule


@dataclass(eq=False)
class DiffusionPainter:
    """Paints by denoising. All pictures of a canvas are one batch.

    text: words -> conditioning of one picture. network: see `guidance.Network`. enlarger: [n c h w] ->
    `card.scale` times larger. latent_rgb: [codec.channels + 1, 3], a linear map (last row: bias) from
    latents to RGB in [0, 1] for previews; without it a preview is a full decode.
    """

    card: Card
    text: Callable[[str], Conditioning]
    network: Network
    prediction: Prediction
    schedule: Schedule
    codec: Codec
    enlarger: Callable[[Tensor], Tensor] | None = None
    latent_rgb: Tensor | None = None

    def condition(self, brief: Brief) -> Conditioning:
        """The brief's words with its style, and its negative words inside, for one picture."""
        return replace(self.text(words(brief, self.card)), negative=self.text(brief.negative_prompt))

    def begin(self, brief: Brief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """Standard normal noise [n channels h w]: signal and noise together have variance 1 at any level.

        Raises:
            BadBrief: an unknown sampler, or steps that the schedule does not have.
        """
        assert brief.width is not None, "settle the brief first"
        assert brief.height is not None, "settle the brief first"
        shrink = self.codec.factor * (1 if brief.native else self.card.scale)
        noise = seeds.normal(self.codec.channels, brief.height // shrink, brief.width // shrink)
        return Canvas(noise.to(conditioning.tokens.device), seeds, step=0, of=len(self._levels(brief)) - 1)

    def steps(self, brief: Brief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas per step. Its state is the estimate of the finished picture, so that a preview is clear.

        Raises:
            NotFinite: naming the step and the time at which NaN or infinite values appeared.
        """
        assert brief.sampler is not None, "settle the brief first"
        levels = self._levels(brief)
        denoise = self._denoiser(brief, conditioning.expand(len(canvas.seeds)))
        walk = SAMPLERS[brief.sampler].walk(canvas.state, levels, canvas.seeds)
        for step, (x, clean) in enumerate(drive(walk, denoise), start=1):
            if not x.isfinite().all():
                raise NotFinite(
                    f"step {step} of {canvas.of} (t = {levels[step - 1].t:.0f}, {x.dtype}) gave NaN or "
                    f"infinite values: lower the guidance (now {brief.guidance:g}) or check the weights"
                )
            yield replace(canvas, state=x if step == canvas.of else clean, step=step)

    def preview(self, canvas: Canvas) -> Tensor:
        """A cheap look: [n 3 h w] in [0, 1], as small as the latents where a linear map is known."""
        if self.latent_rgb is None:
            return (self.codec.decode(canvas.state)[:, :3] + 1).div(2).clamp(0, 1)
        matrix = self.latent_rgb.to(canvas.state)
        rgb = torch.einsum("nchw,cr->nrhw", canvas.state, matrix[:-1]) + matrix[-1].view(1, 3, 1, 1)
        return rgb.clamp(0, 1)

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures at native size [n c h w], clipped to [-1, 1].

        Raises:
            NotFinite: the canvas holds NaN or infinite values.
        """
        return self.codec.decode(canvas.state).clamp(-1, 1)

    @torch.no_grad()
    def enlarge(self, pixels: Tensor) -> Tensor:
        """`card.scale` times larger, [n c h w] in [-1, 1]."""
        return pixels if self.enlarger is None else self.enlarger(pixels).clamp(-1, 1)

    def _levels(self, brief: Brief) -> list[Level]:
        assert brief.sampler is not None, "settle the brief first"
        assert brief.steps is not None, "settle the brief first"
        sampler = SAMPLERS[brief.sampler]
        return self.schedule.levels(brief.steps, sampler.spacing, sampler.clean_end)

    def _denoiser(self, brief: Brief, conditioning: Conditioning) -> Callable[[Tensor, Level], Tensor]:
        assert brief.guidance is not None, "settle the brief first"
        output = guided(self.network, conditioning, Guidance(brief.guidance, brief.rescale))

        @torch.no_grad()
        def denoise(x: Tensor, level: Level) -> Tensor:
            return self.prediction.clean(x, output(x, level), level.alpha, level.sigma)

        return denoise
