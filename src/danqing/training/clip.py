"""Contrastive training of both CLIP encoders (arXiv 2103.00020, figure 3), on English and Chinese at once.

loss = mean of three symmetric cross-entropies over scaled cosines: picture-English, picture-Chinese and
English-Chinese.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor
from transformers import CLIPModel, CLIPTokenizer

from danqing.core.errors import BadData
from danqing.data import captions
from danqing.data.augment import Augment
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

SCALE_MAX = 100.0  # the paper clamps the logit scale here
SHARES = captions.Shares(tag=0.12, synonym=0.25, unstyled=0.14)


def contrastive(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over cosines times `scale`; row k of a [n d] matches row k of b [n d]."""
    logits = scale * F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


class ClipObjective(Objective):
    """Trains a CLIPModel on captioned pictures, best with a concept, a style and names in two languages.

    often: concepts from which half of every batch is drawn, if there are enough of them.

    Raises:
        BadData: captions are missing or all the same, or the pictures' size is not the model's.
    """

    least = 4  # two pairs; the loss of a single pair is 0

    row_wise = False  # its loss couples the rows of a batch

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        pictures: CaptionedImages,
        probe: CaptionedImages,
        often: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.clip, self._tokenizer = clip, tokenizer
        self._pictures, self._probe = pictures, probe
        self._augment = Augment(turn=15.0, scale=0.2, tint=0.1, erase=0.25)
        pictures.check_captions()
        side, takes = int(pictures.pictures.shape[-1]), clip.config.vision_config.image_size
        if side != takes:
            raise BadData(f"pictures of {side} pixels do not fit a CLIP that takes {takes}: resize them")
        self._styles_of: dict[str, list[int]] = {}
        for index, row in enumerate(pictures.rows):
            self._styles_of.setdefault(str(row.get("concept") or row["text"]), []).append(index)
        self._each = min(2, max(map(len, self._styles_of.values())))
        self._often = sorted(set(often) & self._styles_of.keys())
        self._others = sorted(self._styles_of.keys() - set(often))

    def batch(self, size: int, rng: Generator) -> Batch:
        """Two pictures of each concept, in different styles.

        One is a negative for the other, so that the encoders learn styles.
        """
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        groups = [self._styles_of[concept] for concept in self._draw(size // self._each, words)]
        picks = [i for group in groups for i in words.sample(group, k=min(self._each, len(group)))]
        rows = [self._pictures.rows[i] for i in picks]
        lines = [
            captions.caption_of(row, language, words, SHARES) for language in ("en", "zh") for row in rows
        ]
        pixels = self._augment(to_unit(self._pictures.pictures[picks, :3]), rng)
        return {"pixels": pixels, **self._tokens(lines)}

    def _draw(self, count: int, words: random.Random) -> list[str]:
        """`count` different concepts, half of them from `often`."""
        often = words.sample(self._often, k=min(count // 2, len(self._often)))
        others = words.sample(self._others, k=min(count - len(often), len(self._others)))
        return often + others

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the module's docstring, and two of its three parts."""
        pictures = self._image_features(batch["pixels"])
        english, chinese = self._read(batch).chunk(2)
        scale = self.clip.logit_scale.exp().clamp(max=SCALE_MAX)
        parts = [
            contrastive(pictures, english, scale),
            contrastive(pictures, chinese, scale),
            contrastive(english, chinese, scale),
        ]
        parts_of_loss = {"picture": parts[0].detach(), "languages": parts[2].detach()}
        return {"loss": sum(parts[1:], parts[0]) / 3, **parts_of_loss}

    @torch.no_grad()
    def recall(self, language: str = "en", first: int = 1) -> float:
        """The share of held-out captions whose own picture is among the `first` nearest held-out pictures."""
        near = self._cosines(len(self._probe), len(self._probe), language).argsort(dim=1, descending=True)
        own = torch.arange(len(near))[:, None]
        return float((near[:, :first] == own).any(dim=1).float().mean())

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Eight rows, each a held-out picture and then the four that CLIP finds nearest to its caption."""
        near = self._cosines(8, 200)
        near = near.topk(min(4, near.shape[1])).indices
        rows = torch.cat([torch.arange(len(near))[:, None], near], dim=1)
        return sheet_of(to_unit(self._probe.pictures[rows.flatten()]), columns=rows.shape[1])

    def export(self, folder: Path) -> None:
        """Write an ordinary CLIPModel folder with its tokenizer."""
        self.clip.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    def _tokens(self, texts: list[str]) -> Batch:
        tokens = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return {"ids": tokens["input_ids"], "mask": tokens["attention_mask"]}

    def _read(self, tokens: Batch) -> Tensor:
        """Text embeddings [n d], not normalised."""
        read = self.clip.get_text_features(input_ids=tokens["ids"], attention_mask=tokens["mask"])
        embeddings: Tensor = read.pooler_output
        return embeddings

    def _image_features(self, pixels: Tensor) -> Tensor:
        """Picture embeddings [n d] of pictures on white [n 3 h w], not normalised."""
        embeddings: Tensor = self.clip.get_image_features(pixel_values=pixels).pooler_output
        return embeddings

    def _cosines(self, texts: int, pictures: int, language: str = "en") -> Tensor:
        """Cosines of the first held-out captions and the first held-out pictures, [texts pictures]."""
        field = "text" if language == "en" else "text_zh"
        lines = [row.get(field) or row["text"] for row in self._probe.rows[:texts]]
        read = self._read({name: part.to(self.device) for name, part in self._tokens(lines).items()})
        images = self._image_features(to_unit(self._probe.pictures[:pictures, :3]).to(self.device))
        return (F.normalize(read, dim=-1) @ F.normalize(images, dim=-1).T).cpu()
