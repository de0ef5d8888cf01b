"""Contrastive training of both CLIP towers (arXiv 2103.00020, figure 3), on English and Chinese at once.

loss = mean of three symmetric cross-entropies over scaled cosines: picture-English, picture-Chinese and
English-Chinese.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor
from transformers import CLIPModel, CLIPTokenizer

from danqing.core.errors import BadData
from danqing.data import captions
from danqing.data.augment import Augment
from danqing.data.dataset import Stickers, to_unit
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

SCALE_MAX = 100.0  # the paper clamps the logit scale here


def contrastive(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over cosines times `scale`; row k of a [n d] belongs to row k of b [n d]."""
    logits = scale * F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


class ClipObjective(Objective):
    """Trains a CLIPModel on pictures with a concept, a style and names in two languages.

    Raises:
        BadData: a field is missing, there is one concept only, or pictures are of another size than it takes.
    """

    least = 4  # two pairs: of one alone the loss is 0

    def __init__(
        self, clip: CLIPModel, tokenizer: CLIPTokenizer, pictures: Stickers, probe: Stickers
    ) -> None:
        super().__init__()
        self.clip, self._tokenizer = clip, tokenizer
        self._pictures, self._probe = pictures, probe
        self._augment = Augment()
        pictures.require("concept", "concept_zh", "style")
        pictures.check_captions()
        side, takes = int(pictures.pictures.shape[-1]), clip.config.vision_config.image_size
        if side != takes:
            raise BadData(f"pictures of {side} pixels do not fit a CLIP that takes {takes}: resize them")
        self._styles_of: dict[str, list[int]] = {}
        for index, row in enumerate(pictures.rows):
            self._styles_of.setdefault(row["concept"], []).append(index)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Pairs of pictures of one concept in two styles: the other is a negative, so styles are learnt."""
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        concepts = words.sample(sorted(self._styles_of), k=min(size // 2, len(self._styles_of)))
        groups = [self._styles_of[concept] for concept in concepts]
        picks = [i for group in groups for i in words.sample(group, k=min(2, len(group)))]
        rows = [self._pictures.rows[i] for i in picks]
        said = [_said(row["concept"], row["tags"], row["style"], words, captions.english) for row in rows]
        said += [
            _said(row["concept_zh"], row["tags_zh"], row["style"], words, captions.chinese) for row in rows
        ]
        pixels = self._augment(to_unit(self._pictures.pictures[picks, :3]), rng)
        return {"pixels": pixels, **self._tokens(said)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the module's docstring, and two of its three parts."""
        pictures = self._seen(batch["pixels"])
        english, chinese = self._read(batch).chunk(2)
        scale = self.clip.logit_scale.exp().clamp(max=SCALE_MAX)
        parts = [
            contrastive(pictures, english, scale),
            contrastive(pictures, chinese, scale),
            contrastive(english, chinese, scale),
        ]
        told = {"picture": parts[0].detach(), "languages": parts[2].detach()}
        return {"loss": sum(parts[1:], parts[0]) / 3, **told}

    @torch.no_grad()
    def recall(self, count: int = 200) -> float:
        """How often a held-out picture finds its own English caption among all held-out captions."""
        found = self._cosines(count, count).argmax(dim=0)
        return float((found == torch.arange(len(found))).float().mean())

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """Eight held-out pictures, each before the four that CLIP finds nearest to its caption."""
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

    def _seen(self, pixels: Tensor) -> Tensor:
        """Picture embeddings [n d] of pictures on white [n 3 h w], not normalised."""
        embeddings: Tensor = self.clip.get_image_features(pixel_values=pixels).pooler_output
        return embeddings

    def _cosines(self, texts: int, pictures: int) -> Tensor:
        """Between the first English captions and the first pictures held out, [texts pictures]."""
        read = self._read(self._tokens([row["text"] for row in self._probe.rows[:texts]]))
        seen = self._seen(to_unit(self._probe.pictures[:pictures, :3]))
        return F.normalize(read, dim=-1) @ F.normalize(seen, dim=-1).T


def _said(name: str, tags: list[str], style: str, words: random.Random, say: captions.Say) -> str:
    """A caption by name; one in eight by a tag, so that synonyms are met; one in seven without the style."""
    if tags and words.random() < 0.12:
        name = words.choice(tags)
    return say(name, style if words.random() < 0.86 else None, words)
