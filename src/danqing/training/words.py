"""Trains a text encoder on synonyms of things that it has learned, without pictures.

The encoder learns to give "a puppy, 3d style" the states of "a dog, 3d style", token for token, and to keep
the states of all other captions. So a UNet that was trained with these states needs no training. This is
sequence-level distillation of the encoder into itself, the teacher being frozen (arXiv 1503.02531 section 2.1
with states for logits, as in arXiv 1909.10351 eq. 8).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor

from danqing.conditioning.text import TextEncoder
from danqing.core.errors import BadData
from danqing.core.seeds import Seeds
from danqing.data import captions
from danqing.data.lexicon import Lexicon, split_lexicon
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.diffusion import paint_pixels
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

PROBES = 12  # number of pictures in the sample sheet
KEPT = 0.3  # share of the captions that stay as they are, in addition to those without a synonym
EMPTY = 0.05  # share of empty captions, since classifier-free guidance encodes "" for every picture
WHOLE = 0.125  # share of the batches in which the loss counts all pad tokens
SUFFIXES = {"en": "", "zh": "_zh"}
SAY = {"en": captions.english_caption, "zh": captions.chinese_caption}


class WordsObjective(Objective):
    """Trains the painter's text encoder.

    rows: metadata of a data set of pictures with concepts and styles.
    lexicon: synonyms of things. One in fifty of its words is held out to measure the accuracy.

    Raises:
        BadData: the lexicon has no words for the things of the rows.
    """

    def __init__(
        self, painter: DiffusionPainter, rows: Sequence[Mapping[str, Any]], lexicon: Lexicon
    ) -> None:
        super().__init__()
        assert isinstance(painter.text, TextEncoder)
        self.painter, self.text = painter, painter.text
        self.model = self.text.model.requires_grad_(True)
        self._teacher = deepcopy(self.text.model).eval().requires_grad_(False)
        self._rows = [row for row in rows if row.get("style") and (row.get("phrase") or row.get("concept"))]
        self.learned, self.left_out = split_lexicon(lexicon)
        self._names = {
            language: {
                str(row[f"concept{suffix}"]): str(row["concept"])
                for row in self._rows
                if row.get("concept") and row.get(f"concept{suffix}")
            }
            for language, suffix in SUFFIXES.items()
        }
        if not self._names["en"].keys() & self.learned:
            raise BadData("the lexicon has no further words for the things of these pictures")

    def place(self, device: torch.device) -> None:
        """Move the whole painter, which paints the sample sheets."""
        super().place(device)
        self.painter.place(device)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Token ids of captions [n l], plain and with synonyms, and positions from `aligned_tokens`."""
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        pairs = [self._pair(words) for _ in range(size)]
        plain, anew = (self._ids([pair[side] for pair in pairs]) for side in (0, 1))
        longest = int(max(self._lengths(plain).max(), self._lengths(anew).max())) + 2
        length = plain.shape[1] if words.random() < WHOLE else min(longest, plain.shape[1])
        plain, anew = plain[:, :length], anew[:, :length]
        return {
            "plain": plain,
            "anew": anew,
            "twin": aligned_tokens(plain, anew, self._lengths(anew) - self._lengths(plain)),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The squared difference of the states."""
        with torch.no_grad():
            states = self._teacher(input_ids=batch["plain"]).last_hidden_state
            targets = states.gather(1, batch["twin"][..., None].expand(-1, -1, states.shape[-1]))
        outputs = self.model(input_ids=batch["anew"]).last_hidden_state
        return {"loss": F.mse_loss(outputs.float(), targets.float())}

    @torch.no_grad()
    def accuracy(self, lexicon: Lexicon, language: str) -> float:
        """The share of the lexicon's words whose last state is nearest to that of the right name."""
        names, side = list(self._names[language]), list(SUFFIXES).index(language)
        questions = [
            (word, name)
            for name, english in self._names[language].items()
            for word in lexicon.get(english, ((), ()))[side]
        ]
        if not questions:
            return float("nan")
        embedded = self._last(self.model.eval(), [word for word, _ in questions])
        nearest = (embedded @ self._last(self._teacher, names).T).argmax(dim=1).tolist()
        right = [names[k] == name for k, (_, name) in zip(nearest, questions, strict=True)]
        return float(sum(right) / len(right))

    def sheet(self) -> Image.Image:
        """Pictures of held-out words by the painter, one of each thing while there are enough."""
        probes = [word for english, _ in self.left_out.values() for word in english[:1]][:PROBES]
        words = probes or list(self._names["en"])[:PROBES]
        return sheet_of(
            torch.cat([paint_pixels(self.painter, word, Seeds([0])) for word in words]), columns=4
        )

    def export(self, folder: Path) -> None:
        """Write the text encoder as a component of a diffusers folder."""
        self.model.save_pretrained(folder)

    def _pair(self, rng: random.Random) -> tuple[str, str]:
        """A caption, and the same with a synonym of its thing, or unchanged."""
        if rng.random() < EMPTY:
            return "", ""
        row = rng.choice(self._rows)
        language = rng.choice([language for language, suffix in SUFFIXES.items() if has(row, suffix)])
        suffix, style = SUFFIXES[language], None if rng.random() < 0.1 else str(row["style"])
        name = str(row.get(f"concept{suffix}") or "")
        phrase, seed = str(row.get(f"phrase{suffix}") or name), rng.random()
        plain = SAY[language](phrase, style, random.Random(seed))
        others = self.learned.get(str(row.get("concept")), ((), ()))[list(SUFFIXES).index(language)]
        if not others or not name or name not in phrase or rng.random() < KEPT:
            return plain, plain
        # early synonyms, which are nearer in meaning, are drawn more often
        word = others[int(len(others) * rng.random() ** 2)]
        return plain, SAY[language](phrase.replace(name, word, 1), style, random.Random(seed))

    def _ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids [n L] of texts, padded to the full length."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.text.max_length}
        ids: Tensor = self.text.tokenizer(list(texts), return_tensors="pt", **options)["input_ids"]
        return ids

    def _lengths(self, ids: Tensor) -> Tensor:
        """The number of tokens before the pads, with the end token, [n]."""
        ended = ids == self.text.tokenizer.eos_token_id
        return torch.where(ended.any(dim=1), ended.int().argmax(dim=1) + 1, ids.shape[1])

    def _last(self, model: torch.nn.Module, texts: Sequence[str]) -> Tensor:
        """The states of the end tokens, normalised, [n d]."""
        ids = self._ids(texts)
        parts = torch.split(ids.to(self.device), 256)
        states = torch.cat([model(input_ids=part).last_hidden_state for part in parts]).cpu()
        return F.normalize(states[torch.arange(len(ids)), self._lengths(ids) - 1], dim=-1)


def has(row: Mapping[str, Any], suffix: str) -> bool:
    """Whether a row has a phrase or a concept in the language of `suffix`."""
    return bool(row.get(f"phrase{suffix}") or row.get(f"concept{suffix}"))


def aligned_tokens(plain: Tensor, anew: Tensor, longer: Tensor) -> Tensor:
    """For each token of `anew` [n l] the position of the one it replaces in `plain` [n l]: int64 [n l].

    Both texts begin and end with the same tokens; the end stands `longer` [n] tokens later in `anew`.
    Between, positions are counted from the end, and if the synonym has more tokens than the plain name, its
    first tokens all map to the name's first one.
    """
    place = torch.arange(anew.shape[1]).expand_as(anew)
    shifted = (place - longer[:, None]).clamp(min=0, max=anew.shape[1] - 1)
    ending = (plain.gather(1, shifted) == anew).int().flip(1).cumprod(dim=1).flip(1).bool()
    alike = (plain == anew).int().cumprod(dim=1).sum(dim=1, keepdim=True)
    between = torch.maximum(shifted, alike.clamp(max=anew.shape[1] - 1))
    return torch.where(ending, shifted, torch.where(place < alike, place, between))
