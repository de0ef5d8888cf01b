"""Disco Diffusion: a diffusion model that knows no words, led by CLIP's gradient to a picture of any.

Papers: none of its own. Guidance by a gradient, Dhariwal and Nichol, arXiv 2105.05233; CLIP, arXiv 2103.00020.
The original is Disco Diffusion 5.7 (MIT) by Gomez and Crowson, Russell, Allen and others.
Differs: leads any diffusion model of ours, in pixels or in latents, without its words: the card's folder names
it and the CLIPs, and holds no weights. Its secondary model and Perlin noise are left out; nearness to a given
picture is measured at three sizes of it, not by LPIPS. What is wrong in the original and right here: see
`diffusion.clip_guidance`; the weight behind a prompt's colon is not read aloud to CLIP; a fuzzy prompt keeps
the negative half of its numbers. A prompt of several parts weighs them by its own language, "a fox::2 a
hound::-1". A brief's guidance is a thousandth of `clip_guidance_scale`.
Licences: code Apache-2.0; weights are those of the models it names.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from danqing.conditioning.encode import encode
from danqing.conditioning.prompt import unwanted, words
from danqing.core.brief import Brief
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.core.painter import NOTHING, Canvas, Conditioning, Given
from danqing.core.registry import family
from danqing.core.seeds import Seeds
from danqing.diffusion.clip_guidance import (
    Denoise,
    Led,
    mirrored,
    range_loss,
    saturation_loss,
    spherical_distance,
    total_variation,
)
from danqing.diffusion.guidance import keeping
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import SAMPLERS, Walk, ddim, drive
from danqing.diffusion.schedule import Level
from danqing.families._diffusers_folder import read_card
from danqing.families._disco_settings import CLIP_SCALE, TIMES, Settings, checked_settings
from danqing.families._pretrained import read_json, replacing_folder, write_json
from danqing.families._style_search import picture_error
from danqing.families._zoo import family_of, open_critic, open_painter, shipped, shipped_part
from danqing.families.clip import Critic

_LOOKS = 2**32  # added to a picture's seed for the generator of its cuts: no picture has such a seed
_FUZZY = 25  # texts like the one that was given
_AREA = 1280 * 768  # pixels for which the original's scales were found
_REACH = 1.0  # of a clean estimate's deviation, which is about 1


@dataclass(frozen=True)
class Eyes:
    """Several CLIPs at once, as an `Encoder`: their embeddings of words one after the other, tokens [1 1 d]."""

    critics: tuple[Critic, ...]

    @torch.no_grad()
    def __call__(self, text: str) -> Conditioning:
        """No words ask for nothing: zeros."""
        heard = torch.cat([critic.words([text]) for critic in self.critics], dim=1)
        return Conditioning((heard if text.strip() else torch.zeros_like(heard))[None])

    def apart(self, tokens: Tensor) -> Sequence[Tensor]:
        """What each CLIP said, from tokens [n l d]: one [n l d_k] for each."""
        return tokens.split([critic.model.config.projection_dim for critic in self.critics], dim=-1)


@dataclass(eq=False)
class DiscoPainter:
    """Paints what CLIP sees in the words, with the hand of another model.

    prior: the model that is led. critics: one CLIP or more; each pulls with the full scale.
    """

    card: Card
    prior: DiffusionPainter
    critics: tuple[Critic, ...]
    settings: Settings = Settings()

    def condition(self, brief: Brief, given: Given = NOTHING) -> Conditioning:
        """CLIP's embeddings of the words, and the given picture as the prior's state.

        Raises:
            BadBrief: weighed words, which CLIP does not know; or what the prior cannot follow.
        """
        prior = self.prior.condition(_wordless(brief), given)
        steps = len(self.prior.levels(_wordless(brief), prior.image is not None)) - 1
        said = encode(Eyes(self.critics), words(brief, self.card), unwanted(brief), steps)
        return replace(said, negative=None, image=prior.image, region=prior.region, beside=prior.beside)

    def begin(self, brief: Brief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """As the prior begins."""
        return self.prior.begin(_wordless(brief), conditioning, seeds)

    def steps(self, brief: Brief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas per step; with guidance 0 what the prior paints without words.

        Raises:
            NotFinite: NaN or infinite values appeared.
        """
        levels = self.prior.levels(_wordless(brief), conditioning.image is not None)
        said = conditioning.expand(len(canvas.seeds))
        denoise = self._denoiser(brief, said, levels, canvas.seeds)
        walk = _symmetric(self._walker(brief), self.settings)(canvas.state, levels, canvas.seeds)
        for step, (x, clean) in enumerate(drive(walk, denoise), start=1):
            if not x.isfinite().all():
                raise NotFinite(
                    f"step {step} of {canvas.of} (t = {levels[step - 1].t:.0f}) gave NaN or infinite values: "
                    "lower clamp_max or check the weights"
                )
            yield replace(canvas, state=x if step == canvas.of else clean, step=step)

    def preview(self, canvas: Canvas) -> Tensor:
        """The prior's."""
        return self.prior.preview(canvas)

    def finish(self, canvas: Canvas) -> Tensor:
        """The prior's."""
        return self.prior.finish(canvas)

    def enlarge(self, pixels: Tensor) -> Tensor:
        """The prior's."""
        return self.prior.enlarge(pixels)

    def _walker(self, brief: Brief) -> Callable[[Tensor, Sequence[Level], Seeds], Walk]:
        """The brief's sampler; eta is DDIM's."""
        assert brief.sampler is not None, "settle the brief first"
        return partial(ddim, eta=self.settings.eta) if brief.sampler == "ddim" else SAMPLERS[brief.sampler].walk

    def _denoiser(
        self, brief: Brief, said: Conditioning, levels: Sequence[Level], seeds: Seeds
    ) -> Denoise:
        """The prior's denoiser without words, led by the loss, and what shall stay kept."""
        wordless = _wordless(brief)
        nothing = self.prior.condition(wordless).expand(len(said))
        asked = self.prior.denoiser(wordless, replace(nothing, beside=said.beside), levels)
        if not brief.guidance:
            led: Denoise = torch.no_grad()(asked)
        else:
            loss = _Loss(self, brief.guidance, said, [level.log_snr for level in levels[:-1]], _looks(seeds))
            clamp = self.settings.clamp_max if self.settings.clamp_grad else None
            led = Led(asked, self.prior.codec.decode, loss, clamp, _REACH)
        return led if said.beside is not None else keeping(led, said)


class _Loss:
    """How unlike the words pictures are, and what else they shall not be: `clip_guidance.Losses`.

    starts: the log-SNRs at which steps begin, for words that change on the way. looks: where cuts come from.
    """

    def __init__(
        self, painter: DiscoPainter, guidance: float, said: Conditioning, starts: Sequence[float], looks: Seeds
    ) -> None:
        self._painter, self._settings, self._looks = painter, painter.settings, looks
        self._scale, self._said, self._starts = guidance * CLIP_SCALE, said, starts
        self._wishes = {start: self._wishes_of(moment) for start, moment in said.moments}
        follows = said.image is not None and said.region is None
        self._image = _colours(painter.prior.codec.decode, said.image) if follows else None

    def __call__(self, pixels: Tensor, level: Level) -> Iterator[Tensor]:
        """The losses of pixels [n p h w], one by one, each [n]."""
        settings, colours = self._settings, pixels[:, :3]
        share = pixels.shape[-1] * pixels.shape[-2] / _AREA
        for _ in range(settings.cutn_batches):
            for k, critic in enumerate(self._painter.critics):
                yield share * self._scale / settings.cutn_batches * self._unlike(colours, level, k, critic)
        yield share * (
            settings.tv_scale * total_variation(colours)
            + settings.range_scale * range_loss(colours)
            + settings.sat_scale * saturation_loss(colours)
        )
        if self._image is not None and settings.init_scale:
            yield share * settings.init_scale * picture_error(colours, self._image)

    def _unlike(self, colours: Tensor, level: Level, k: int, critic: Critic) -> Tensor:
        """The distance from the words of looks at each picture, the mean of all looks: [n]."""
        times = len(self._painter.prior.schedule)
        index = int((times - 1 - level.t) * TIMES / times)
        cuts = self._settings.cuts(min(max(index, 0), TIMES - 1))
        looks = cuts(colours, critic.sight.side, self._looks)
        seen = critic.pictures(looks.flatten(0, 1)).unflatten(0, looks.shape[:2])
        wishes = self._now(level)
        far = [
            weight * spherical_distance(seen[:, :, None], wish[k][:, None]).mean(dim=(1, 2))
            for wish, weight in wishes
        ]
        return torch.stack(far).sum(dim=0)

    def _now(self, level: Level) -> list[tuple[Sequence[Tensor], Tensor]]:
        step = max(bisect_right(self._starts, level.log_snr) - 1, 0)
        return next(wishes for start, wishes in reversed(self._wishes.items()) if start <= step)

    def _wishes_of(self, said: Conditioning) -> list[tuple[Sequence[Tensor], Tensor]]:
        """For each part what each CLIP wants to see [n l d_k], and how much [n]; no words weigh nothing."""
        wishes = []
        for part in said.parts:
            tokens = self._fuzzy(part.tokens) if self._settings.fuzzy_prompt else part.tokens
            wish = [F.normalize(each, dim=-1) for each in Eyes(self._painter.critics).apart(tokens)]
            wishes.append((wish, part.weights * part.tokens.any(dim=2).any(dim=1)))
        return wishes

    def _fuzzy(self, tokens: Tensor) -> Tensor:
        """Many embeddings around each of tokens [n l d]: [n 25 l d]."""
        noise = self._looks.normal(_FUZZY, *tokens.shape[1:]).to(tokens)
        return (tokens[:, None] + self._settings.rand_mag * noise).flatten(1, 2)


def _wordless(brief: Brief) -> Brief:
    """The brief of the prior: no words, and nothing to exaggerate in them."""
    quiet = {"prompt": "", "negative_prompt": "", "style": None, "guidance": 1.0, "rescale": 0.0}
    return brief.model_copy(update={**quiet, "stylize": 100, "weird": 0, "chaos": 0})


def _looks(seeds: Seeds) -> Seeds:
    """Generators of their own, so that the walk's noise is what it would be unguided."""
    return Seeds([seed + _LOOKS for seed in seeds.seeds])


@torch.no_grad()
def _colours(decode: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    return decode(state)[:, :3]


def _symmetric(
    walker: Callable[[Tensor, Sequence[Level], Seeds], Walk], settings: Settings
) -> Callable[[Tensor, Sequence[Level], Seeds], Walk]:
    """A walk that mirrors its state after certain shares of its steps, and begins anew from there."""
    across, down = settings.use_vertical_symmetry, settings.use_horizontal_symmetry
    if not (across or down):
        return walker

    def walk(x: Tensor, levels: Sequence[Level], seeds: Seeds) -> Walk:
        steps = len(levels) - 1
        cuts = sorted({min(max(round(share * steps), 1), steps) for share in settings.transformation_percent})
        for start, end in pairwise([0, *(cut for cut in cuts if cut < steps), steps]):
            x = yield from walker(x, levels[start : end + 1], seeds)
            x = mirrored(x, across=across, down=down) if end in cuts else x
        return x

    return walk


@family("disco")
def open_weights(folder: Path) -> DiscoPainter:
    """A painter from a folder that names the model to lead ("prior"), the CLIPs ("critics") and settings.

    Both are names of shipped ones, or folders, from this one on.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    told, path = read_json(folder / "config.json"), folder / "config.json"
    name, critics = told.pop("prior", None), told.pop("critics", ["clip"])
    if not isinstance(name, str) or not isinstance(critics, list) or not critics:
        raise BadWeights(f"{str(path)!r} needs a prior, such as \"ddpm\", and a list of critics")
    try:
        settings = checked_settings(told, path)
    except BadBrief as error:
        raise BadWeights(str(error)) from None
    prior = _open_prior(name, folder)
    seeing = tuple(open_critic(_place(str(critic), folder, _part)) for critic in critics)
    card = read_card(folder / "card.json") or disco_card(folder.name, prior.card)
    for fact in ("width", "height", "grid", "scale"):
        if getattr(card, fact) != getattr(prior.card, fact):
            raise BadWeights(
                f"{str(folder / 'card.json')!r} says {fact} {getattr(card, fact)}, but its prior {name!r} has "
                f"{getattr(prior.card, fact)}: correct the card"
            )
    return DiscoPainter(card, prior, seeing, settings)


def _open_prior(name: str, folder: Path) -> DiffusionPainter:
    place = _place(name, folder, lambda name: shipped().get(name))
    if place.is_dir() and family_of(place) == "disco":
        raise BadWeights(f"{str(folder)!r} leads {name!r}, which is led itself: name a diffusion model")
    prior = open_painter(str(place))
    if not isinstance(prior, DiffusionPainter):
        raise BadWeights(f"{str(folder)!r} leads {name!r}, which is no diffusion model: name another prior")
    for module in prior.modules.values():
        module.requires_grad_(False)
    return prior


def _place(name: str, folder: Path, known: Callable[[str], Path | None]) -> Path:
    """Where something is: shipped under its name, or a folder, from `folder` on."""
    return known(name) or (folder / Path(name).expanduser())


def _part(name: str) -> Path | None:
    """A shipped part by a plain name, if this copy has it."""
    try:
        return shipped_part(name) if Path(name).name == name else None
    except BadWeights:
        return None


def save_disco(painter: DiscoPainter, folder: Path, prior: str, critics: Sequence[str] = ("clip",)) -> None:
    """Write the painter's folder, whole or not at all; `prior` and `critics` name what it leads and sees by.

    Raises:
        DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        named: Mapping[str, Any] = {"prior": prior, "critics": list(critics)}
        write_json({**named, **painter.settings.model_dump(mode="json")}, draft / "config.json")
        write_json(painter.card.model_dump(mode="json"), draft / "card.json")


def disco_card(name: str, prior: Card) -> Card:
    """The card of a painter that leads the one of card `prior`."""
    told: dict[str, Any] = {
        "name": name,
        "family": "disco",
        "summary": f"{prior.name}, led by CLIP to what the words say",
        "paper": "2105.05233",
        "year": 2022,
        "steps": max(prior.steps, 25),
        "guidance": 5.0,
        "sampler": "ddim",
        "can": prior.can - {Can.NEGATIVE, Can.LEARN} | {Can.WORDS, Can.REDRAW, Can.INPAINT},
        "styles": prior.styles,
    }
    return prior.model_copy(update=told)
