"""GAN: a generator paints in one pass from a latent vector; it is trained against a discriminator.

Papers: Goodfellow et al., Generative Adversarial Nets, arXiv 1406.2661; DCGAN, arXiv 1511.06434.
Differs: networks are conditioned on class names (see `nets.gan`); `--variation` interpolates between latents.
Licences: code Apache-2.0; weights have the licence of those who trained them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from danqing.conditioning.encode import encode
from danqing.conditioning.names import NO_NAMES, Names, label_of
from danqing.conditioning.prompt import parse_negative, styled_prompt
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Card
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.registry import family
from danqing.families._latent import LatentPainter, card_of, read_latent
from danqing.families._latent import save_latent as save_latent
from danqing.nets.gan import GanConfig, GanDiscriminator, GanGenerator
from danqing.nets.placement import as_input, to_float32

PRESETS: dict[str, GanConfig] = {
    "tiny": GanConfig(size=16, latent=8, width=4),
    "tiny-mlp": GanConfig(kind="mlp", size=16, latent=8, width=20),
    "sticker": GanConfig(size=32, latent=64, width=48),
    "sticker-mlp": GanConfig(kind="mlp", size=32, latent=100, width=1200),
}


@dataclass(eq=False)
class GanPainter(LatentPainter[GanGenerator]):
    """Paints in one step; the prompt chooses class names."""

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:  # noqa: ARG002  its card cannot
        """The label of the class names in the prompt; a prompt without any is reported as dropped."""
        return encode(self.names, styled_prompt(brief, self.card), parse_negative(brief), steps=1).to(
            self.device
        )

    @torch.no_grad()
    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:  # noqa: ARG002
        """One canvas, with the picture.

        Raises:
            NotFinite: the output of the network is NaN or infinite.
        """
        label = label_of(conditioning.expand(len(canvas.seeds)), len(self.names))
        z, label = (as_input(self.generator, each) for each in (canvas.state.flatten(1), label))
        yield self._next_canvas(canvas, to_float32(self.generator({"z": z}, label)))


@family("gan")
def open_weights(folder: Path) -> GanPainter:
    """Open a painter from a folder.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    return GanPainter(*read_latent(folder, GanGenerator.from_config, gan_card))


def gan_card(name: str, generator: GanGenerator) -> Card:
    """The card of a model from its network alone."""
    side, kind = generator.size, generator.config.kind
    summary = f"a {kind.upper()} for pictures of {side} x {side}"
    return card_of(name, "gan", generator, summary=summary, paper="1406.2661", year=2014)


def fresh_networks(
    preset: str, names: Names = NO_NAMES, seed: int = 0
) -> tuple[GanGenerator, GanDiscriminator]:
    """Both networks with random initial weights for training; the seed determines them."""
    config = replace(PRESETS[preset], labels=len(names))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GanGenerator(config), GanDiscriminator(config)


def random_painter(preset: str = "tiny", names: Names = NO_NAMES, seed: int = 0) -> GanPainter:
    """A painter with random weights, for tests."""
    generator, _ = fresh_networks(preset, names, seed)
    return GanPainter(gan_card(preset, generator), generator, names)
