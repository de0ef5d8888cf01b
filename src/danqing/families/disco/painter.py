"""Disco Diffusion: an unconditional diffusion model, guided by the gradient of CLIP towards any prompt.

Papers: none of its own; gradient guidance as in Dhariwal and Nichol, arXiv 2105.05233; CLIP, arXiv
2103.00020. The original is Disco Diffusion 5.7 by Crowson, Somnai and others (MIT).
Differs: it guides any diffusion model of ours, in pixels or in latents, with an empty prompt. A folder names
this model and the CLIPs, and has no weights. There is no secondary model, no Perlin noise and no image
prompt. The distance from an input picture is measured at three sizes, not by LPIPS. Weights of parts are
written in the prompt syntax, "a fox::2 a hound::-1". The guidance of a brief is `clip_guidance_scale` / 1000.
Errors of the original are always corrected: see `diffusion.clip_guidance`; the weight after a colon is not
part of the text for CLIP; the perturbation of a fuzzy prompt keeps negative values; schedules are parsed, and
never evaluated as code.
Licences: code Apache-2.0; weights are those of the models that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from danqing.conditioning.encode import encode
from danqing.conditioning.prompt import parse_negative, styled_prompt
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can, Card, find_card
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.registry import family
from danqing.core.seeds import Seeds
from danqing.diffusion.clip_guidance import Denoise, GradientGuidance, mirror
from danqing.diffusion.guidance import keep_outside_region
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import (
    SAMPLERS,
    DenoiserCalls,
    DenoiserOutput,
    SamplerFunction,
    ddim,
    run_sampler,
)
from danqing.diffusion.schedule import Level
from danqing.families._open import family_of, open_clip_scorer, open_painter
from danqing.families.clip import ClipScorer
from danqing.families.disco.loss import ClipModels, Loss
from danqing.families.disco.settings import Settings, checked_settings
from danqing.weights.pretrained import read_json, replacing_folder, write_json
from danqing.weights.shipped import shipped_models, shipped_part

# added to a picture's seed for the generator of its cutouts, so that the sampler's noise is the same as
# without guidance; seeds of pictures are smaller
_CUT_SEEDS = 2**32
_NUMBERS = 3 * 1280 * 768  # size of the original's states, for which its scales were tuned
_REACH = 1.0  # in units of the standard deviation of x0, about 1


@dataclass(eq=False)
class DiscoPainter:
    """Paints with another model, guided by the gradient of CLIP towards the prompt.

    card: the card of the model.
    base: the painter to guide.
    scorers: one CLIP or more; each guides with the full scale.
    settings: the settings of Disco Diffusion.
    """

    card: Card
    base: DiffusionPainter
    scorers: tuple[ClipScorer, ...]
    settings: Settings = field(default_factory=Settings)

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        self.base.place(device, dtype)
        for scorer in self.scorers:
            scorer.place(device, dtype)

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """CLIP's embeddings of the prompt, and the input picture as a state of the base.

        Raises:
            BadBrief: the prompt has weights of words, which CLIP does not support, or as the base.
        """
        base = self.base.condition(_wordless(brief), images)
        steps = len(self.base.levels(_wordless(brief), base.image is not None)) - 1
        conditioning = encode(
            ClipModels(self.scorers), styled_prompt(brief, self.card), parse_negative(brief), steps
        ).to(self.base.device)
        return replace(conditioning, negative=None, image=base.image, region=base.region, concat=base.concat)

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """As the base."""
        return self.base.begin(_wordless(brief), conditioning, seeds)

    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas per step; with guidance 0, those of the base with an empty prompt.

        Raises:
            NotFinite: NaN or infinite values appeared.
        """
        levels = self.base.levels(_wordless(brief), conditioning.image is not None)
        conditioning = conditioning.expand(len(canvas.seeds))
        denoise = self._denoiser(brief, conditioning, levels, canvas)
        calls = self._sampler_function(brief)(canvas.state, levels, canvas.seeds)
        for step, (x, x0) in enumerate(run_sampler(calls, denoise), start=1):
            if not x.isfinite().all():
                raise NotFinite(
                    f"step {step} of {canvas.of} (t = {levels[step - 1].t:.0f}) gave NaN or infinite values: "
                    "lower clamp_max or check the weights"
                )
            yield replace(canvas, state=x if step == canvas.of else x0, step=step)

    def preview(self, canvas: Canvas) -> Tensor:
        """The preview of the base."""
        return self.base.preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """The finished pictures of the base."""
        return self.base.finish(canvas)

    def upscale(self, pixels: Tensor) -> Tensor:
        """The pictures, upscaled by the base."""
        return self.base.upscale(pixels)

    def _sampler_function(self, brief: ResolvedBrief) -> SamplerFunction:
        """The sampler of the brief; the setting eta applies to DDIM only."""
        named = SAMPLERS[brief.sampler].sample
        sample = partial(ddim, eta=self.settings.eta) if brief.sampler == "ddim" else named
        return _symmetric(sample, self.settings)

    def _denoiser(
        self, brief: ResolvedBrief, conditioning: Conditioning, levels: Sequence[Level], canvas: Canvas
    ) -> Denoise:
        """The base's denoiser with an empty prompt, guided by the loss, with the region of the brief.

        Losses are means over a picture, so the gradient of a value is larger in a smaller state. They are
        scaled to the size of the original's states, so that its settings have the same effect for any size.
        """
        wordless = _wordless(brief)
        nothing = self.base.condition(wordless).expand(len(conditioning))
        nothing = replace(nothing, concat=conditioning.concat)
        if not brief.guidance:
            guided: Denoise = torch.no_grad()(self.base.denoiser(wordless, nothing, levels))
        else:
            loose = replace(self.base, threshold=None).denoiser(wordless, nothing, levels)
            clamp = self.settings.clamp_max if self.settings.clamp_grad else None
            loss = self._loss(brief, conditioning, levels, canvas.seeds)
            scale = canvas.state[0].numel() / _NUMBERS
            guided = GradientGuidance(
                loose, self.base.vae.decode, loss, scale, clamp, _REACH, self.base.threshold
            )
        kept = keep_outside_region(
            conditioning if conditioning.concat is None else replace(conditioning, region=None)
        )

        def denoise(x: Tensor, level: Level) -> DenoiserOutput:
            x0, predicted_variance = guided(x, level)
            return DenoiserOutput(kept(x0), predicted_variance)

        return denoise

    def _loss(
        self, brief: ResolvedBrief, conditioning: Conditioning, levels: Sequence[Level], seeds: Seeds
    ) -> Loss:
        follows = (
            conditioning.image is not None and conditioning.region is None
        )  # a region to repaint shall not stay similar
        return Loss(
            self.scorers,
            self.settings,
            conditioning,
            guidance=brief.guidance,
            starts=[level.log_snr for level in levels[:-1]],
            times=len(self.base.schedule),
            image=self._colours(conditioning.image) if follows else None,
            seeds=Seeds([seed + _CUT_SEEDS for seed in seeds.seeds]),
        )

    @torch.no_grad()
    def _colours(self, state: Tensor | None) -> Tensor | None:
        return None if state is None else self.base.vae.decode(state)[:, :3]


def _wordless(brief: ResolvedBrief) -> ResolvedBrief:
    """The brief for the base: an empty prompt, without guidance, stylize, weird and chaos."""
    quiet = {"prompt": "", "negative_prompt": "", "style": None, "guidance": 1.0, "rescale": 0.0}
    return brief.model_copy(update={**quiet, "cache_interval": 1, "stylize": 100, "weird": 0, "chaos": 0})


def _symmetric(sample: SamplerFunction, settings: Settings) -> SamplerFunction:
    """A sampler that mirrors its state after the fractions of steps that `settings` has."""
    across, down = settings.use_vertical_symmetry, settings.use_horizontal_symmetry
    if not (across or down):
        return sample

    def symmetric(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> DenoiserCalls:
        steps = len(levels) - 1
        cuts = sorted(
            {min(max(round(fraction * steps), 1), steps) for fraction in settings.transformation_percent}
        )
        for start, end in pairwise([0, *(cut for cut in cuts if cut < steps), steps]):
            x = yield from sample(x, levels[start : end + 1], seeds)
            x = mirror(x, across=across, down=down) if end in cuts else x
        return x

    return symmetric


@family("disco")
def open_weights(folder: Path) -> DiscoPainter:
    """Open a painter from a folder that names the base model ("prior"), the CLIPs ("critics") and settings.

    A name is that of a shipped model, or a folder relative to this one.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    config, path = read_json(folder / "config.json"), folder / "config.json"
    name, scorers = config.pop("prior", None), config.pop("critics", ["clip"])
    if not isinstance(name, str) or not isinstance(scorers, list) or not scorers:
        raise BadWeights(f'{str(path)!r} needs a prior, such as "ddpm", and a list of critics')
    try:
        settings = checked_settings(config, path)
    except BadBrief as error:
        raise BadWeights(str(error)) from None
    base = _open_base(name, folder)
    clips = tuple(open_clip_scorer(_place(str(scorer), folder, _part)) for scorer in scorers)
    card = find_card(folder) or disco_card(folder.name, base.card)
    for fact in ("width", "height", "size_multiple", "scale"):
        if getattr(card, fact) != getattr(base.card, fact):
            raise BadWeights(
                f"{str(folder / 'card.json')!r} says {fact} {getattr(card, fact)}, "
                f"its prior {name!r} {getattr(base.card, fact)}: correct the card"
            )
    return DiscoPainter(card, base, clips, settings)


def _open_base(name: str, folder: Path) -> DiffusionPainter:
    place = _place(name, folder, lambda name: shipped_models().get(name))
    if place.is_dir() and family_of(place) == "disco":
        raise BadWeights(f"{str(folder)!r} leads {name!r}, which is led itself: name a diffusion model")
    painter = open_painter(str(place), device="cpu")
    if not callable(getattr(painter, "denoiser", None)):  # the gradient needs it
        raise BadWeights(f"{str(folder)!r} leads {name!r}, which is no diffusion model: name another prior")
    base = cast(DiffusionPainter, painter)
    for module in base.modules.values():
        module.requires_grad_(False)
    return base


def _place(name: str, folder: Path, shipped_path: Callable[[str], Path | None]) -> Path:
    """The path of a model: shipped under its name, or a folder relative to `folder`."""
    return shipped_path(name) or (folder / Path(name).expanduser())


def _part(name: str) -> Path | None:
    """The path of a shipped part by its name; None if this installation does not have it."""
    try:
        return shipped_part(name) if Path(name).name == name else None
    except BadWeights:
        return None


def save_disco(painter: DiscoPainter, folder: Path, base: str, scorers: Sequence[str] = ("clip",)) -> None:
    """Write the painter's folder, completely or not at all.

    base: the name of the base model.
    scorers: the names of its CLIPs.

    Raises:
        DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        named = {"prior": base, "critics": list(scorers)}
        write_json({**named, **painter.settings.model_dump(mode="json")}, draft / "config.json")
        write_json(painter.card.model_dump(mode="json"), draft / "card.json")


def disco_card(name: str, base: Card) -> Card:
    """The card of a painter whose base model has the card `base`."""
    fields: dict[str, Any] = {
        "name": name,
        "family": "disco",
        "summary": f"{base.name}, led by CLIP to what the words say",
        "paper": "2105.05233",
        "year": 2022,
        "steps": max(base.steps, 25),
        "guidance": 25.0,  # right for one small CLIP; the original sums several
        "sampler": "ddim",
        "prompt_type": "CLIP",
        "can": base.can - {Can.NEGATIVE, Can.LEARN} | {Can.WORDS, Can.REDRAW, Can.INPAINT},
        "styles": base.styles,
    }
    return base.model_copy(update=fields)
