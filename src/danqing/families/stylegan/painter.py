"""StyleGAN: a latent is mapped to a style w, and styles modulate every layer of the synthesis network.

Papers: Karras et al., arXiv 1812.04948, with the corrections of StyleGAN 2, arXiv 1912.04958, and trained
with adaptive augmentation, arXiv 2006.06676.
Differs: it is small; it is conditioned on class names, and finds a style for any prompt by CLIP. Fields of a
brief have these meanings: stylize truncates towards the mean style, chaos away from it; steps are those of
the search; strength in a redraw sets the layer from which on new styles replace those of the picture (style
mixing); variation interpolates between latents.
Licences: code Apache-2.0; weights have the licence of those who trained them. NVIDIA's files are pickles and
are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from danqing.conditioning.encode import encode
from danqing.conditioning.names import NO_NAMES, Names, label_of
from danqing.conditioning.prompt import parse_negative, styled_prompt
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.registry import family
from danqing.families import shipped_clip_scorer
from danqing.families._latent import LatentPainter, card_of, read_latent
from danqing.families._latent import save_latent as save_latent
from danqing.families.clip import ClipScorer
from danqing.families.stylegan.style_search import Climb, Paint, best_of, picture_of, project, style_of
from danqing.nets.placement import to_float32
from danqing.nets.stylegan import StyleConfig, StyleDiscriminator, StyleGenerator
from danqing.nets.stylegan.generator import mix_styles

PRESETS: dict[str, StyleConfig] = {
    "tiny": StyleConfig(size=16, latent=8, style=8, width=8, base=64),
    "sticker": StyleConfig(size=32, base=1024, rate=0.5),
}


@dataclass(frozen=True)
class Search:
    """The settings of the search for styles.

    candidates: how many random styles are compared with the prompt at first.
    rate, pull: see `Climb`.
    projection: steps of the search for the styles of an input picture.
    """

    candidates: int = 32
    rate: float = 0.05
    pull: float = 0.05
    projection: int = 100


@dataclass(frozen=True)
class LabelAndClip:
    """An `Encoder` whose tokens [1 1 k + d] are a label and CLIP's text embedding."""

    names: Names
    scorer: ClipScorer

    @torch.no_grad()
    def __call__(self, text: str) -> Conditioning:
        """Encode a prompt; the text embedding of an empty one is zeros."""
        named, embedding = self.names(text), self.scorer.text_embeddings([text])
        target = embedding if text.strip() else torch.zeros_like(embedding)
        return Conditioning(torch.cat([named.tokens.to(target.device), target[None]], dim=2))


@dataclass(eq=False)
class StylePainter(LatentPainter[StyleGenerator]):
    """Paints in one step from class names, or searches for a style step by step by CLIP.

    scorer: CLIP; without it, only class names in the prompt have an effect.
    search: the settings of the search for styles.
    """

    scorer: ClipScorer | None = None
    search: Search = Search()

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        super().place(device, dtype)
        if self.scorer is not None:
            self.scorer.place(device, dtype)

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """Encode the prompt, and find the styles of an input picture, as `image` [1 rows style 1]."""
        text = self.names if self.scorer is None else LabelAndClip(self.names, self.scorer)
        conditioning = encode(text, styled_prompt(brief, self.card), parse_negative(brief), steps=1).to(
            self.device
        )
        images = images.to(self.device)
        return replace(conditioning, image=self._styles(images, label_of(conditioning, len(self.names))))

    @torch.no_grad()
    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas for class names; with CLIP the best of many candidates, then one canvas for each step.

        Raises:
            NotFinite: the output of the network is NaN or infinite.
        """
        conditioning = conditioning.expand(len(canvas.seeds))
        label = label_of(conditioning, len(self.names))
        z = canvas.state.flatten(1)
        noise = [canvas.seeds.normal(1, side, side).to(z) for side in self.generator.synthesis.sides]
        scene = _Scene(self.generator, noise, *self._styles_to_keep(brief, conditioning))
        w = self._style(z, label, brief)
        if self.scorer is None or canvas.of == 1:
            yield self._next_canvas(canvas, scene(w))
            return
        target = self._target(conditioning)
        others = canvas.seeds.normal(self.search.candidates, z.shape[1]).to(z)
        for k, drawn in enumerate(others):
            more = self._style(drawn, label[k].expand(len(drawn), -1), brief)
            w[k] = best_of(torch.cat([w[k : k + 1], more]), scene.alone(k), self.scorer, target[k])
        climb = Climb(w, target, self.scorer, self.search.rate, self.search.pull)
        for step in range(1, canvas.of + 1):
            w = w if step == 1 else climb.step(scene)
            canvas = self._next_canvas(canvas, scene(w))
            yield canvas

    def _count(self, brief: ResolvedBrief, conditioning: Conditioning) -> int:
        searches = self.scorer is not None and bool(self._target(conditioning).any())
        return brief.steps if searches else 1

    def _style(self, z: Tensor, label: Tensor, brief: ResolvedBrief) -> Tensor:
        w = style_of(self.generator, z, label)
        return to_float32(self.generator.truncate(w, truncation(brief)))

    def _target(self, conditioning: Conditioning) -> Tensor:
        """The target embedding of each picture [n d], of length 1 or zeros."""
        parts = conditioning.parts
        sums = [part.weights[:, None] * part.tokens[..., len(self.names) :].mean(dim=1) for part in parts]
        return F.normalize(torch.stack(sums).sum(dim=0), dim=1)

    def _styles(self, images: InputImages, label: Tensor) -> Tensor | None:
        """The styles of the input picture [1 rows style 1], or the weighted mean for several pictures."""
        if not images.references:
            return None if images.image is None else self._project(images.image, label)[..., None]
        styles = [self._project(picture, label) for picture in images.references]
        weights = torch.tensor(images.weights, device=self.device) / sum(images.weights)
        return torch.einsum("k,knrd->nrd", weights, torch.stack(styles))[..., None]

    def _project(self, picture: Tensor, label: Tensor) -> Tensor:
        pixels = picture[:, : self.generator.config.channels]
        return project(self.generator, pixels, label, self.search.projection)

    def _styles_to_keep(self, brief: ResolvedBrief, conditioning: Conditioning) -> tuple[Tensor | None, int]:
        """The styles of an input picture, and the row from which on new styles replace them."""
        if conditioning.image is None:
            return None, 0
        strength = 1.0 if brief.strength is None else brief.strength
        return conditioning.image[..., 0], round((1 - strength) * self.generator.synthesis.rows)


@dataclass(frozen=True)
class _Scene:
    """A `Paint` function with fixed noise, and with the styles of an input picture before row `cut`."""

    generator: StyleGenerator
    noise: list[Tensor]
    kept: Tensor | None
    cut: int

    def __call__(self, w: Tensor) -> Tensor:
        ws = self.generator.rows(w)
        ws = ws if self.kept is None else mix_styles(self.kept, ws, self.cut)
        return picture_of(self.generator, ws, self.noise)

    def alone(self, k: int) -> Paint:
        """A `Paint` function for any number of styles, each with the noise of picture k."""

        def paint(w: Tensor) -> Tensor:
            noise = [each[k : k + 1].expand(len(w), -1, -1, -1) for each in self.noise]
            kept = None if self.kept is None else self.kept[k : k + 1].expand(len(w), -1, -1)
            return _Scene(self.generator, noise, kept, self.cut)(w)

        return paint


def truncation(brief: ResolvedBrief) -> float:
    """Truncation psi: 1 at stylize 0, 0.7 at 100, 0.3 at 1000; chaos moves it back towards 1."""
    few, many = min(brief.stylize, 100) / 100, max(brief.stylize - 100, 0) / 900
    psi = 1 - 0.3 * few - 0.4 * many
    return psi + (1 - psi) * brief.chaos / 100


@family("stylegan")
def open_weights(folder: Path) -> StylePainter:
    """Open a painter from a folder, with the shipped CLIP if this installation has it.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    card, generator, names = read_latent(folder, StyleGenerator.from_config, style_card)
    return StylePainter(card, generator, names, shipped_clip_scorer())


def style_card(name: str, generator: StyleGenerator) -> Card:
    """The card of a model from its network alone."""
    card = card_of(
        name,
        "stylegan",
        generator,
        summary=f"a StyleGAN for pictures of {generator.size} x {generator.size}",
        paper="1812.04948",
        year=2018,
    )
    prompt_type = " and ".join((*(["names it knows"] if generator.labels else []), "CLIP"))
    fields = {"can": card.can | {Can.WORDS, Can.REDRAW}, "steps": 12, "prompt_type": prompt_type}
    return card.model_copy(update=fields)


def fresh_networks(
    preset: str, names: Names = NO_NAMES, seed: int = 0
) -> tuple[StyleGenerator, StyleDiscriminator]:
    """Both networks with random initial weights for training; the seed determines them."""
    config = replace(PRESETS[preset], labels=len(names))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StyleGenerator(config), StyleDiscriminator(config)


def random_painter(
    preset: str = "tiny", names: Names = NO_NAMES, seed: int = 0, scorer: ClipScorer | None = None
) -> StylePainter:
    """A painter with random weights, for tests."""
    generator, _ = fresh_networks(preset, names, seed)
    return StylePainter(style_card(preset, generator), generator, names, scorer)
