"""The sticker data set: openly licensed drawings and three rendered styles, captioned in English and Chinese.

It is a Hugging Face imagefolder: `<style>/<slug>.png` (RGBA, straight alpha) and one `metadata.jsonl`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from danqing.core.errors import BadData, unknown
from danqing.core.files import atomic_write
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.data import captions
from danqing.data.drawing_sets import (
    EMOJIBASE,
    SOURCES,
    Concept,
    Drawings,
    DrawingSet,
    read_concepts,
    read_vocabulary,
    slug,
    unpack_package,
)
from danqing.data.holdout import held_out
from danqing.data.styles import FILTERS
from danqing.data.synonyms import WORDNET, WordNet, synonyms

THINGS = (3, 4, 5, 6, 7)  # emojibase groups: animals and nature, food, travel, activities, objects
RENDERED_FROM = "cartoon"  # the drawing set that the rendered styles are made from


@dataclass(frozen=True)
class StickerOptions:
    """What to build.

    size: the side of the pictures in pixels.
    known_only: whether to build only the things of the vocabulary.
    vocabulary: a file of things and their names; None is the shipped one, with the 120 best-known things.
    styles: the names of the styles.
    """

    size: int = 128
    known_only: bool = False
    vocabulary: Path | None = None
    styles: tuple[str, ...] = field(default_factory=lambda: tuple(captions.STYLE_WORDS))


def build(
    folder: Path, cache: Path, options: StickerOptions, progress: ProgressCallback = no_progress
) -> int:
    """Download the drawings, render them, and write the data set. Returns the number of pictures.

    progress: counts concepts.

    Raises:
        BadData: a style is unknown, or a package cannot be downloaded.
    """
    for style in options.styles:
        if style not in captions.STYLE_WORDS:
            raise BadData(unknown("style", style, captions.STYLE_WORDS))
    concepts = concepts_of(
        unpack_package(EMOJIBASE, cache), known_only=options.known_only, vocabulary=options.vocabulary
    )
    sets = [(source, Drawings(unpack_package(source.package, cache))) for source in SOURCES]
    other_words = synonyms(concepts, WordNet(unpack_package(WORDNET, cache)))
    rows: list[dict[str, object]] = []
    for done, concept in enumerate(concepts):
        for source, style, picture in _pictures(concept, sets, options):
            name = f"{style}/{slug(concept.name)}.png"
            with atomic_write(folder / name) as draft:
                picture.save(draft, "PNG")
            rows.append(_row(name, concept, style, source) | _other_words(other_words[concept.name]))
        progress(Progress(done + 1, len(concepts)))
    with atomic_write(folder / "metadata.jsonl") as draft:
        draft.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return len(rows)


def concepts_of(emojibase: Path, *, known_only: bool, vocabulary: Path | None = None) -> list[Concept]:
    """The things of the vocabulary under its simpler names and, unless `known_only`, all other emoji too.

    If two things have the same name (the vocabulary calls the locomotive a train), the vocabulary's one
    stays.
    """
    with resources.as_file(resources.files("danqing.data") / "vocabulary.txt") as path:
        labels, renamed = read_vocabulary(vocabulary or path)
    known_labels = set(labels)
    taken = {slug(renamed.get(label, (label, ""))[0]) for label in known_labels}

    def is_wanted(concept: Concept) -> bool:
        other = concept.group in THINGS and slug(concept.name) not in taken
        return concept.label in known_labels or (other and not known_only)

    return [concept for concept in read_concepts(emojibase, renamed) if is_wanted(concept)]


def _pictures(
    concept: Concept, sets: list[tuple[DrawingSet, Drawings]], options: StickerOptions
) -> Iterator[tuple[DrawingSet, str, Image.Image]]:
    """Every picture of one concept: (drawing set, style, RGBA picture)."""
    for source, drawings in sets:
        is_wanted = source.style in options.styles
        renders = source.style == RENDERED_FROM
        if not is_wanted and not renders:
            continue
        if is_wanted and (picture := drawings.render(concept, options.size)) is not None:
            yield source, source.style, picture
        if renders and (large := drawings.render(concept, max(512, options.size))) is not None:
            for style in FILTERS:  # FILTERS is ordered; the order of a set would differ from run to run
                if style in options.styles:
                    yield source, style, _filter(large, style, concept, options.size)


def _filter(picture: Image.Image, style: str, concept: Concept, size: int) -> Image.Image:
    array = np.asarray(picture, np.float32) / np.float32(255)
    styled = FILTERS[style](array, zlib.crc32(concept.code.encode()))
    image = Image.fromarray((styled * 255).round().clip(0, 255).astype(np.uint8), "RGBA")
    return image.convert("RGBa").resize((size, size), Image.Resampling.BOX).convert("RGBA")


def _other_words(other_words: tuple[tuple[str, ...], tuple[str, ...]]) -> dict[str, object]:
    return {"synonyms": list(other_words[0]), "synonyms_zh": list(other_words[1])}


def _row(name: str, concept: Concept, style: str, source: DrawingSet) -> dict[str, object]:
    text, text_zh = captions.plain_captions(concept.name, concept.name_zh, style)
    return {
        "file_name": name,
        "text": text,
        "text_zh": text_zh,
        "concept": concept.name,
        "concept_zh": concept.name_zh,
        "style": style,
        "tags": list(concept.tags),
        "tags_zh": list(concept.tags_zh),
        "held_out": held_out(concept.name, style),
        "source": source.package,
        "author": source.author,
        "licence": source.licence,
    }
