"""Trains a text encoder on open wording, without pictures, through the UNet's cross-attention.

"once upon a time a cat lived by the sea" should have the effect of "a cat". The two share few tokens, so the
loss does not compare their states but what the UNet's cross-attention computes from them: the output of every
layer for queries from real paintings, and the pooled state that goes to its time embedding. The teacher is
the text encoder before training (distillation as in arXiv 1503.02531, by attention as in arXiv 2002.10957).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.attention_processor import Attention
from PIL import Image
from torch import Generator, Tensor, nn

from danqing.conditioning.text import TextEncoder
from danqing.core.seeds import Seeds
from danqing.data import captions
from danqing.data.lexicon import Lexicon
from danqing.data.scenes import COLOURS, OTHER_COLOURS, PLACES
from danqing.data.scenes import STYLES as COLOURED
from danqing.data.vocabulary import vocabulary
from danqing.data.wording import Subject, open_caption, plain_caption
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.diffusion import paint_pixels
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of

PROBES = (
    "a smiling cat wearing sunglasses on a wooden table, 3d style",
    "rocket, masterpiece, best quality, highly detailed",
    "一只可爱的小兔子在草地上，3D风格",
    "once upon a time there was a very old house living by the sea",
)
PADS = 6  # pads that the teacher computes; later ones differ by a thousandth of the variance of the outputs
SAY = {"en": captions.english_caption, "zh": captions.chinese_caption}


@dataclass(frozen=True)
class WordingOptions:
    """Shares of the batch and weights of the loss.

    plain: share of the captions that stay plain.
    synonyms: share of the open sentences whose subject is named by a synonym.
    pooled: weight of the pooled state.
    queries: number of queries of each layer in each step.
    bank: number of queries stored for each layer.
    """

    plain: float = 0.35
    synonyms: float = 0.35
    pooled: float = 1.0
    queries: int = 32
    bank: int = 1024


class WordingObjective(Objective):
    """Trains the painter's text encoder on pairs of an open sentence and its plain caption.

    lexicon: synonyms of things, in both languages.
    teacher: the frozen encoder of the plain captions; None for a copy of the painter's own.

    The UNet stays frozen; its queries are collected once.
    """

    def __init__(
        self,
        painter: DiffusionPainter,
        lexicon: Lexicon,
        options: WordingOptions = WordingOptions(),
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__()
        assert isinstance(painter.text, TextEncoder)
        self.painter, self.text, self.options = painter, painter.text, options
        self.model = self.text.model.requires_grad_(True)
        self.model.set_attn_implementation("eager")
        self._teacher = deepcopy(teacher or self.text.model).eval().requires_grad_(False)
        self._lexicon, self._styles = lexicon, list(painter.card.styles)
        self._unet = painter.modules["unet"].requires_grad_(False).eval()
        self._layers = cross_attention(self._unet)
        self._bank = self._collect_queries()
        self._variances = self._measured_variances()

    def place(self, device: torch.device) -> None:
        """Move the whole painter, which paints the sample sheets, and the queries."""
        super().place(device)
        self.painter.place(device)
        self._bank = [queries.to(device) for queries in self._bank]
        self._variances = [variance.to(device) for variance in self._variances]

    def batch(self, size: int, rng: Generator) -> Batch:
        """Token ids of plain captions and of open sentences, int64 [n L], and which queries to take [q]."""
        words = random.Random(int(torch.randint(2**31, (), generator=rng)))
        pairs = [self.pair(words) for _ in range(size)]
        chosen = torch.randint(self.options.bank, (self.options.queries,), generator=rng)
        plain, open_ = (self.ids([pair[side] for pair in pairs]) for side in (0, 1))
        return {"plain": plain, "open": open_, "queries": chosen}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss: the difference of outputs and pooled states; a random other caption would give 1."""
        with torch.no_grad():
            targets = self.outputs(self._teacher_states(batch["plain"]), batch["queries"])
        states = self.model(input_ids=batch["open"]).last_hidden_state
        outputs = self.outputs(states, batch["queries"])
        errors = [
            F.mse_loss(one.float(), other.float()) / variance
            for one, other, variance in zip(outputs, targets, self._variances, strict=True)
        ]
        attention, pooled = torch.stack(errors[:-1]).mean(), errors[-1]
        return {"loss": attention + self.options.pooled * pooled, "attention": attention, "pooled": pooled}

    def _teacher_states(self, ids: Tensor) -> Tensor:
        """The teacher's states [n L d].

        Pads far behind the text all get the same state, which is computed once.
        """
        ended = ids == self.text.tokenizer.eos_token_id
        longest = int(torch.where(ended.any(dim=1), ended.int().argmax(dim=1), ids.shape[1]).max())
        near = ids[:, : longest + 1 + PADS]
        states: Tensor = self._teacher(input_ids=near).last_hidden_state
        return torch.cat([states, states[:, -1:].expand(-1, ids.shape[1] - near.shape[1], -1)], dim=1)

    def outputs(self, states: Tensor, queries: Tensor) -> list[Tensor]:
        """Each layer's output [n q c] of states [n L d] for its queries [q]; last the pooled states [n t]."""
        layers = [
            attention_output(layer, bank[queries], states)
            for layer, bank in zip(self._layers, self._bank, strict=True)
        ]
        pooled: Tensor = self._unet.get_submodule("add_embedding")(states)
        return [*layers, pooled]

    def pair(self, rng: random.Random) -> tuple[str, str]:
        """A plain caption, and an open sentence with the same meaning, or the caption again."""
        draw, language = rng.random(), rng.choice(("en", "zh"))
        if draw < 0.04:
            return "", ""
        style = rng.choice([*self._styles, None]) if rng.random() < 0.9 else None
        thing, name_zh = rng.choice(list(vocabulary().items()))
        if draw < self.options.plain:
            return self._rehearsal(thing, name_zh, language, style, rng)
        subject = self._with_attributes(Subject(thing, thing, name_zh), style, rng)
        plain = plain_caption(subject, language, style)
        if rng.random() < self.options.synonyms:
            subject = self._with_synonym(subject, language, rng)
        return plain, open_caption(subject, language, style, rng)

    def _rehearsal(
        self, thing: str, name_zh: str, language: str, style: str | None, rng: random.Random
    ) -> tuple[str, str]:
        """A caption as the UNet was trained on, of a thing or of a scene, perhaps with a synonym."""
        subject = self._with_attributes(Subject(thing, thing, name_zh), style, rng, share=0.35)
        seed = rng.random()
        if subject.colour is None and subject.count is None and rng.random() < 0.12:
            other, other_zh = rng.choice(list(vocabulary().items()))
            place = rng.choice(list(PLACES))
            placed = {
                "en": f"{thing} {place} {captions.article(other)} {other}".replace("  ", " "),
                "zh": f"{name_zh}在{other_zh}{PLACES[place][0]}",
            }
            caption = SAY[language](placed[language], style, random.Random(seed))
            return caption, caption
        names = [
            plain_caption(one, language, None).removeprefix(f"{captions.article(one.name)} ")
            for one in (subject, self._with_synonym(subject, language, rng))
        ]
        plain, anew = (SAY[language](name, style, random.Random(seed)) for name in names)
        return (plain, plain) if rng.random() < 0.4 else (plain, anew)

    def _with_attributes(
        self, subject: Subject, style: str | None, rng: random.Random, share: float = 0.25
    ) -> Subject:
        """The subject with a colour or a number, if the model has learned pictures with one."""
        if (style is not None and style not in COLOURED) or rng.random() > share:
            return subject
        named = {*subject.thing.split()} & {*COLOURS, *OTHER_COLOURS}
        if rng.random() < 0.6 and not named:
            return Subject(subject.thing, subject.name, subject.name_zh, colour=rng.choice(list(COLOURS)))
        count = rng.choice(list(captions.COUNTS))
        if captions.counted_caption(subject.thing, "", count, animal=False) is None:
            return subject
        return Subject(subject.thing, subject.name, subject.name_zh, count=count)

    def _with_synonym(self, subject: Subject, language: str, rng: random.Random) -> Subject:
        """The subject under a synonym of the lexicon; early ones, nearer in meaning, are drawn more often."""
        words = self._lexicon.get(subject.thing, ((), ()))[language == "zh"]
        if not words:
            return subject
        word = words[int(len(words) * rng.random() ** 2)]
        english, chinese = (subject.name, word) if language == "zh" else (word, subject.name_zh)
        return Subject(subject.thing, english, chinese, subject.colour, subject.count)

    @torch.no_grad()
    def accuracy(self, language: str, count: int = 480, seed: int = 1) -> float:
        """The share of open sentences whose outputs are nearest to those of the right plain caption."""
        rng, names = random.Random(seed), vocabulary()
        subjects = [Subject(thing, thing, zh) for thing, zh in names.items()]
        style = self._styles[0]
        plain = [plain_caption(one, language, style) for one in subjects]
        chosen = [rng.randrange(len(subjects)) for _ in range(count)]
        sentences = [open_caption(subjects[k], language, style, rng) for k in chosen]
        targets = self._signature(self._teacher, plain)
        outputs = self._signature(self.model.eval(), sentences)
        nearest = torch.cdist(outputs, targets).argmin(dim=1).tolist()
        return float(sum(one == other for one, other in zip(nearest, chosen, strict=True)) / count)

    def _signature(self, model: nn.Module, texts: Sequence[str]) -> Tensor:
        """The `outputs` for texts on a few queries, flattened to [n s] and scaled by their variance."""
        queries = torch.arange(0, self.options.bank, max(1, self.options.bank // 16), device=self.device)
        parts = []
        for ids in torch.split(self.ids(texts).to(self.device), 128):
            outputs = self.outputs(model(input_ids=ids).last_hidden_state, queries)
            scaled = [
                part.flatten(1) / (variance * part[0].numel()).sqrt()
                for part, variance in zip(outputs, self._variances, strict=True)
            ]
            parts.append(torch.cat(scaled, dim=1))
        return torch.cat(parts)

    def sheet(self) -> Image.Image:
        """Pictures of a few sentences by the painter."""
        return sheet_of(
            torch.cat([paint_pixels(self.painter, probe, Seeds([0])) for probe in PROBES]), columns=4
        )

    def export(self, folder: Path) -> None:
        """Write the text encoder as a component of a diffusers folder."""
        self.model.save_pretrained(folder)

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids [n L] of texts, padded and cut to the full length."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.text.max_length}
        ids: Tensor = self.text.tokenizer(list(texts), return_tensors="pt", **options)["input_ids"]
        return ids

    @torch.no_grad()
    def _collect_queries(self, pictures: int = 64) -> list[Tensor]:
        """Queries [bank c] of each layer, from noisy latents at random times with random plain captions."""
        rng = random.Random(0)
        noise = Generator().manual_seed(0)
        texts = [
            self._rehearsal(*rng.choice(list(vocabulary().items())), "en", rng.choice(self._styles), rng)[0]
            for _ in range(pictures)
        ]
        states = self._teacher(input_ids=self.ids(texts).to(self.device)).last_hidden_state
        latents, times = self._noisy_latents(states, noise)
        with recorded_queries(self._layers) as recorded:
            self._unet(latents, times, encoder_hidden_states=states)
        kept = []
        for queries in recorded:
            flat = queries.flatten(0, 1)
            kept.append(flat[torch.randint(len(flat), (self.options.bank,), generator=noise)].clone())
        return kept

    def _noisy_latents(self, states: Tensor, noise: Generator) -> tuple[Tensor, Tensor]:
        """Latents [n c h w] as in the middle of sampling, at random times [n]."""
        config: Any = self._unet.config
        shape = (len(states), config.in_channels, config.sample_size, config.sample_size)
        times = torch.randint(20, 1000, (len(states),), generator=noise)
        start, fresh = torch.randn(shape, generator=noise), torch.randn(shape, generator=noise)
        # one call at pure noise gives v = -x0: a blurred picture, good enough for queries
        v = self._unet(start, torch.full_like(times, 999), encoder_hidden_states=states)[0]
        angle = times.float().div(1000).mul(torch.pi / 2)[:, None, None, None]
        return angle.cos() * -v + angle.sin() * fresh, times

    @torch.no_grad()
    def _measured_variances(self, texts: int = 256) -> list[Tensor]:
        """Twice the variance from caption to caption of each of `outputs`."""
        rng = random.Random(1)
        captions_ = [self.pair(rng)[0] for _ in range(texts)]
        states = self._teacher(input_ids=self.ids(captions_).to(self.device)).last_hidden_state
        every = torch.arange(0, self.options.bank, max(1, self.options.bank // 64), device=self.device)
        return [2 * part.float().var(dim=0).mean() for part in self.outputs(states, every)]


def cross_attention(unet: nn.Module) -> list[Attention]:
    """The cross-attention layers of a UNet, in order."""
    return [layer for name, layer in unet.named_modules() if name.endswith("attn2")]


def attention_output(layer: Attention, queries: Tensor, states: Tensor) -> Tensor:
    """The output [n q c] of a layer for `queries` [q c] over states [n L d]."""

    def split_heads(vectors: Tensor) -> Tensor:  # [... m c] -> [... heads m c / heads]
        return vectors.view(*vectors.shape[:-1], layer.heads, -1).transpose(-3, -2)

    keys, values = split_heads(layer.to_k(states)), split_heads(layer.to_v(states))
    scaled = split_heads(queries).to(keys.dtype) * layer.scale
    # written out, since the fused function's backward pass takes five times as long on a CPU
    mixed = (scaled @ keys.transpose(-1, -2)).softmax(dim=-1).to(values.dtype) @ values
    out: Tensor = layer.to_out[0](mixed.transpose(1, 2).flatten(2))
    return out


@contextmanager
def recorded_queries(layers: Sequence[Attention]) -> Iterator[list[Tensor]]:
    """Yields a list that holds the queries [n p c] of the layers, in order, when the context ends."""
    recorded: dict[int, Tensor] = {}
    kept: list[Tensor] = []
    hooks = [
        layer.to_q.register_forward_hook(lambda _m, _i, out, k=k: recorded.__setitem__(k, out.detach()))
        for k, layer in enumerate(layers)
    ]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
        kept.extend(recorded[k] for k in sorted(recorded))
