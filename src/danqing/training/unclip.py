"""Training unCLIP's decoder: pictures from their own CLIP embeddings (arXiv 2204.06125 section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from PIL import Image
from torch import Generator, Tensor

from danqing.core.brief import Brief
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.data.dataset import CaptionedImages
from danqing.families.dalle2.clip_space import Space
from danqing.families.dalle2.painter import Dalle2Painter
from danqing.families.dalle2.unclip import Decoder, decoder_conditioning
from danqing.training.diffusion import Captions, DenoisingObjective, DiffusionOptions
from danqing.training.objective import Batch
from danqing.training.sheets import sheet_of


@dataclass(frozen=True)
class Embeddings:
    """A `Conditioner` of a picture's CLIP embedding and a caption; at times one of them or both are dropped.

    blind: the share of pictures, in [0, 1], whose embedding is dropped.
    """

    space: Space
    captions: Captions
    blind: float = 0.1

    def place(self, device: torch.device) -> None:
        """Move CLIP."""
        self.space.place(device)

    def draw(self, picks: Tensor, latents: Tensor, rng: Generator) -> Batch:
        """Token ids of a caption, int64 [n l], and whether the embedding is kept, bool [n]."""
        visible = torch.rand(len(picks), generator=rng) >= self.blind
        return {**self.captions.draw(picks, latents, rng), "visible": visible}

    def conditioning(self, batch: Batch) -> Conditioning:
        """The conditioning of a `Decoder`: first the embedding of the same, perhaps mirrored picture."""
        z = self.space.image_embedding(batch["latents"])
        words = decoder_conditioning(self.space.encode_ids(batch["ids"]), z)
        assert words.mask is not None
        words.mask[:, 0] = batch["visible"]
        return words


class DecoderObjective(DenoisingObjective):
    """Trains the decoder of a painter together with its projection; CLIP stays frozen."""

    def __init__(
        self, painter: Dalle2Painter, pictures: CaptionedImages, options: DiffusionOptions, blind: float = 0.1
    ) -> None:
        network = painter.decoder.network
        assert isinstance(network, Decoder)
        words = Embeddings(painter.space, Captions(painter.space.text, pictures, options), blind)
        super().__init__(painter.decoder, network.unet, pictures, words, options)
        self.projection = network.projection
        self._whole = replace(painter, card=painter.decoder.card, stage=None)

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Six rows, each a picture and then three that are decoded from its embedding alone."""
        painter, nothing, rows = self._whole, self._whole.space(""), []
        brief = Brief(prompt="-", seed=0, native=True).resolve(painter.card)
        for picture in self._latents[0][:: max(1, len(self._latents[0]) // 6)][:6, None]:
            z = painter.space.image_embedding(picture)[:, :, None, None]
            words = replace(nothing, negative=nothing, concat=z)
            *_, last = painter.steps(brief, words, painter.begin(brief, words, Seeds.of(0, 3)))
            rows.append(torch.cat([picture, painter.finish(last)]))
        return sheet_of(torch.cat(rows), columns=4)


@torch.no_grad()
def copy_matching_weights(decoder: UNet2DConditionModel, trained: UNet2DModel) -> int:
    """Copy the tensors of a trained pixel model that have the same name and shape. Returns their number.

    The last output channels, if they hold a learned variance, are left out.
    """
    have, copied = trained.state_dict(), 0
    for name, value in decoder.state_dict().items():
        tensor = have.get(name)
        if tensor is not None and name.startswith("conv_out."):
            tensor = tensor[: len(value)]
        if tensor is not None and tensor.shape == value.shape:
            value.copy_(tensor)
            copied += 1
    return copied
