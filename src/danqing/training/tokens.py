"""Training the transformer over text and picture tokens (arXiv 2102.12092 section 2.2).

loss = (CE of text + 7 * CE of pictures) / 8, each a mean over its tokens, in nats. A picture's tokens are
the VAE's likeliest ones, computed once; some captions are dropped, for classifier-free guidance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor

from danqing.core.errors import BadWeights
from danqing.core.seeds import Seeds
from danqing.data import captions
from danqing.data.dataset import CaptionedImages
from danqing.families.dalle1.painter import TokenPainter, save
from danqing.families.dalle1.vae import fingerprint
from danqing.training.diffusion import paint_pixels
from danqing.training.discrete_vae import resize_pictures
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

_TEXT, _PICTURE = 1 / 8, 7 / 8


@dataclass(frozen=True)
class TokenOptions:
    """How to train on tokens. Shares are in [0, 1].

    drop: share of the captions replaced by "".
    unstyled: share of the captions that do not name the style.
    synonyms: share of the captions that name the thing by a synonym.
    mirror: share of the pictures that are mirrored.
    wrong: share of the input tokens that are replaced by random ones, but not in the targets, so that the
        model learns to go on after a badly sampled token.
    moves: shifts (down, right) of the pictures in pixels, see `views`.
    probes: captions of the sample sheet.
    """

    drop: float = 0.1
    unstyled: float = 0.1
    synonyms: float = 0.1
    mirror: float = 0.5
    wrong: float = 0.05
    moves: tuple[tuple[int, int], ...] = ((0, 0),)
    probes: tuple[str, ...] = ("a cat, 3d style", "a red apple, cartoon style", "一只兔子，剪纸风格")


class TokenObjective(Objective):
    """Trains `painter.transformer` on the tokens of its VAE.

    Each picture has several views: shifted by each of `moves`, and the same mirrored. A checkpoint stores a
    fingerprint of the VAE and is refused with another VAE.
    """

    codec: Tensor

    def __init__(self, painter: TokenPainter, pictures: CaptionedImages, options: TokenOptions) -> None:
        super().__init__()
        self.painter, self._rows, self._options = painter, pictures.rows, options
        self.transformer = painter.transformer.requires_grad_(True)
        pixels = resize_pictures(pictures, painter.size, painter.vae.config.channels)
        straight, mirrored = (views(each, options.moves) for each in (pixels, pixels.flip(-1)))
        self._tokens = torch.stack([self._read(view) for view in [*straight, *mirrored]])
        self.register_buffer("codec", torch.tensor(list(bytes.fromhex(fingerprint(painter.vae)))))

    def place(self, device: torch.device) -> None:
        """Move the whole painter, which paints the sample sheets."""
        super().place(device)
        self.painter.place(device)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Token ids of a random caption, and a picture's tokens [n l] as targets and as noisy inputs."""
        options = self._options
        picks = torch.randint(len(self._rows), (size,), generator=rng)
        moves = torch.randint(len(options.moves), (size,), generator=rng)
        mirrored = torch.rand(size, generator=rng) < options.mirror
        tokens = self._tokens[moves + mirrored * len(options.moves), picks]
        say = random.Random(int(torch.randint(2**31, (), generator=rng)))
        encoded = [self.painter.text(self._caption(self._rows[i], say)) for i in picks.tolist()]
        ids = torch.cat([words.tokens[..., 0].long() for words in encoded])
        mask = torch.cat([words.mask for words in encoded if words.mask is not None])
        others = torch.randint(self.painter.vae.config.vocab, tokens.shape, generator=rng)
        wrong = torch.rand(tokens.shape, generator=rng) < options.wrong
        return {"ids": ids, "mask": mask, "tokens": tokens, "read": torch.where(wrong, others, tokens)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the module's docstring and its two terms."""
        text = self.transformer.with_pads(batch["ids"], batch["mask"])
        of_text, of_picture = self.transformer(text, batch["read"])
        text_loss = F.cross_entropy(of_text.flatten(0, 1).float(), text[:, 1:].flatten())
        picture_loss = F.cross_entropy(of_picture.flatten(0, 1).float(), batch["tokens"].flatten())
        return {
            "loss": _TEXT * text_loss + _PICTURE * picture_loss,
            "text": text_loss.detach(),
            "picture": picture_loss.detach(),
        }

    def sheet(self) -> Image.Image:
        """Pictures of the probe captions, four each, painted with the defaults of the painter's card."""
        pictures = [paint_pixels(self.painter, words, Seeds([0, 1, 2, 3])) for words in self._options.probes]
        return sheet_of(torch.cat(pictures), columns=4)

    def export(self, folder: Path) -> None:
        """Write the painter's whole folder."""
        save(self.painter, folder)

    def load_state_dict(self, state_dict: Mapping[str, Any], *how: Any, **fields: Any) -> Any:
        """Restore what `state_dict` returned.

        Raises:
            BadWeights: the weights were trained with the tokens of another VAE.
        """
        kept = state_dict.get("codec")
        if kept is not None and not torch.equal(kept, self.codec):
            raise BadWeights("the checkpoint learned the tokens of another VAE: use another --run")
        return super().load_state_dict(state_dict, *how, **fields)

    def _read(self, pixels: Tensor) -> Tensor:
        read = [self.painter.vae.tokens(part) for part in torch.split(pixels, 64)]
        return torch.cat(read).flatten(1)

    def _caption(self, row: dict[str, object], say: random.Random) -> str:
        if say.random() < self._options.drop:
            return ""
        shares = captions.Shares(synonym=self._options.synonyms, unstyled=self._options.unstyled)
        return captions.caption_of(row, "en" if say.random() < 0.5 else "zh", say, shares)


def views(pixels: Tensor, moves: tuple[tuple[int, int], ...]) -> list[Tensor]:
    """Pictures [n c h w] shifted down and right by each of `moves`, less than a side; edges are repeated."""
    moved = []
    for down, right in moves:
        reach = max(abs(down), abs(right))
        padded = F.pad(pixels, (reach,) * 4, mode="replicate") if reach else pixels
        y, x = reach - down, reach - right
        moved.append(padded[:, :, y : y + pixels.shape[-2], x : x + pixels.shape[-1]])
    return moved
