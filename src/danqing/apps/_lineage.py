"""Paints the same prompt with every family of models, on one labelled sheet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageDraw, ImageFont

from danqing.apps._generate import GenerateOptions, generate
from danqing.apps._session import Session
from danqing.apps.lineage import Lineage
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Card
from danqing.core.images import from_pil
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.progress import Progress, ProgressCallback
from danqing.families.clip import ClipScorer
from danqing.weights.shipped import shipped_models

SIDE = 256  # side of a cell in pixels
_LINE = 20  # height of a line of its label in pixels


@dataclass(frozen=True)
class Generation:
    """The picture of one model.

    score: cosine similarity of picture and prompt in [-1, 1], by the shipped CLIP.
    """

    card: Card
    picture: Picture
    score: float

    @property
    def label(self) -> tuple[str, ...]:
        """Lines with model, year, how a model without text input is conditioned, time and score."""
        family = self.card.family.replace("_", " ")
        paper = f"arXiv {self.card.paper}"
        facts = f"{self.picture.info.seconds:.2f} s, CLIP {self.score:.2f}"
        led = () if self.card.prompt_type == "words" else (f"led by {self.card.prompt_type}",)
        return f"{self.card.year} {family}", paper, facts, *led


def paint_generations(inputs: Lineage, session: Session, progress: ProgressCallback) -> Iterator[Generation]:
    """See `lineage.lineage`."""
    brief = Brief.of(**inputs.model_dump(exclude={"models"}, exclude_unset=True))
    cards = {model: session.open_card(model) for model in inputs.models or shipped_models()}
    models = sorted(cards, key=lambda model: (cards[model].year, cards[model].paper, cards[model].name))
    scorer = session.clip_scorer()
    for number, model in enumerate(models):
        progress(Progress(number, len(models), message=f"painting with {model}"))
        card = cards[model]
        style = brief.style if brief.style in card.styles else None
        fast = brief.fast and card.fast is not None
        resolved = brief.model_copy(update={"model": model, "style": style, "fast": fast}).resolve(card)
        yield _paint_generation(resolved, session.painter(model), scorer)


def _paint_generation(brief: ResolvedBrief, painter: Painter, scorer: ClipScorer) -> Generation:
    start = time.perf_counter()
    [picture] = generate(brief, GenerateOptions(painter))
    seconds = time.perf_counter() - start
    info = picture.info.model_copy(update={"app": "lineage", "seconds": seconds})
    with torch.no_grad():
        score = scorer.score(from_pil(picture.image)[None, :3], [brief.prompt])
    return Generation(painter.card, replace(picture, info=info), float(score))


def sheet(generations: Sequence[Generation], columns: int | None = None) -> Image.Image:
    """A white sheet of all pictures, row by row, each with its label below."""
    lines = max(len(one.label) for one in generations)
    width, height = SIDE + 8, SIDE + 8 + _LINE * lines
    columns = columns or math.ceil(len(generations) / math.ceil(len(generations) / 5))  # rows of 5 at most
    rows = -(-len(generations) // columns)
    whole = Image.new("RGB", (columns * width, rows * height), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    for k, one in enumerate(generations):
        left, top = k % columns * width + 4, k // columns * height + 4
        whole.paste(_fit(one.picture.image), (left, top))
        for line, text in enumerate(one.label):
            draw.text((left, top + SIDE + 2 + line * _LINE), text, fill="black", font=font)
    return whole


def _fit(image: Image.Image) -> Image.Image:
    """Resize to a cell, on white; a small picture is enlarged without smoothing."""
    clear = image.convert("RGBA")
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    resized = clear.resize((size[0], size[1]), how)
    cell = Image.new("RGB", (SIDE, SIDE), "white")
    cell.paste(resized, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2), resized)
    return cell
