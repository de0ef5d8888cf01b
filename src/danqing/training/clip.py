"""Contrastive training of both CLIP towers (arXiv 2103.00020, figure 3), on English and Chinese captions at once.

loss = mean of three symmetric cross-entropies over scaled cosines: picture-English, picture-Chinese, English-Chinese.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor
from transformers import CLIPModel, CLIPTokenizer

from danqing.data import captions
from danqing.data.augment import Augment
from danqing.data.dataset import Stickers, to_unit
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

SCALE_MAX = 100.0  # the paper clamps the logit scale here


def contrastive(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over cosines; a, b [n d] need not be normalised, row k of a belongs to row k of b."""
    logits = scale * F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


class ClipObjective(Objective):
    """Trains a CLIPModel on pictures with a concept, a style and names in two languages."""

    def __init__(self, clip: CLIPModel, tokenizer: CLIPTokenizer, pictures: Stickers, probe: Stickers) -> None:
        super().__init__()
        self.clip, self._tokenizer = clip, tokenizer
        self._pictures, self._probe = pictures, probe
        self._augment = Augment()
        self._styles_of: dict[str, list[int]] = {}
        for index, row in enumerate(pictures.rows):
            self._styles_of.setdefault(row["concept"], []).append(index)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Pairs of pictures of one concept in two styles: the other style is a negative, so styles are learnt."""
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        concepts = words.sample(sorted(self._styles_of), k=min(size // 2, len(self._styles_of)))
        picks = [i for c in concepts for i in words.sample(self._styles_of[c], k=min(2, len(self._styles_of[c])))]
        rows = [self._pictures.rows[i] for i in picks]
        english = [_said(row["concept"], row["tags"], row["style"], words, captions.english) for row in rows]
        chinese = [_said(row["concept_zh"], row["tags_zh"], row["style"], words, captions.chinese) for row in rows]
        tokens = self._tokenizer([*english, *chinese], padding=True, truncation=True, return_tensors="pt")
        pixels = self._augment(to_unit(self._pictures.pictures[picks, :3]), rng)
        return {"pixels": pixels, "ids": tokens["input_ids"], "mask": tokens["attention_mask"]}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        pictures = self.clip.get_image_features(pixel_values=batch["pixels"]).pooler_output
        texts = self.clip.get_text_features(input_ids=batch["ids"], attention_mask=batch["mask"]).pooler_output
        english, chinese = texts.chunk(2)
        scale = self.clip.logit_scale.exp().clamp(max=SCALE_MAX)
        parts = [
            contrastive(pictures, english, scale),
            contrastive(pictures, chinese, scale),
            contrastive(english, chinese, scale),
        ]
        return {"loss": sum(parts[1:], parts[0]) / 3, "picture": parts[0].detach(), "languages": parts[2].detach()}

    @torch.no_grad()
    def recall(self, count: int = 200) -> float:
        """How often a held-out picture finds its own English caption among all held-out captions."""
        rows = self._probe.rows[:count]
        tokens = self._tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
        texts = self.clip.get_text_features(**tokens).pooler_output
        pictures = self.clip.get_image_features(to_unit(self._probe.pictures[:count, :3])).pooler_output
        found = (F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(dim=-1)
        return float((found == torch.arange(len(rows))).float().mean())

    def sheet(self) -> Image.Image:
        """For eight held-out captions, the four pictures that CLIP finds nearest; the recall goes to the title."""
        tokens = self._tokenizer([row["text"] for row in self._probe.rows[:8]], padding=True, return_tensors="pt")
        with torch.no_grad():
            texts = self.clip.get_text_features(**tokens).pooler_output
            pixels = to_unit(self._probe.pictures[:200])
            pictures = self.clip.get_image_features(pixels[:, :3]).pooler_output
        near = (F.normalize(texts, dim=-1) @ F.normalize(pictures, dim=-1).T).topk(4).indices
        return sheet_of(torch.cat([torch.cat([pixels[k : k + 1], pixels[row]]) for k, row in enumerate(near)]), 5)

    def export(self, folder: Path) -> None:
        """Write an ordinary CLIPModel folder with its tokenizer."""
        self.clip.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def _said(name: str, tags: list[str], style: str, words: random.Random, say: captions.Say) -> str:
    """A caption by name; one time in eight by a tag, so that synonyms are met; one in seven without the style."""
    if tags and words.random() < 0.12:
        name = words.choice(tags)
    return say(name, style if words.random() < 0.86 else None, words)
