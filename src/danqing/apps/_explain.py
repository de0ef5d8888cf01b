"""Heat maps of the cross-attention of each word of a prompt, over the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from danqing.apps._generate import GenerateOptions, generate, with_adapters
from danqing.apps._session import Session
from danqing.apps.explain import Explain
from danqing.conditioning.grammar import text_of
from danqing.conditioning.prompt import styled_prompt
from danqing.conditioning.text import TextEncoder, TextEncoderPair
from danqing.core.brief import ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.fonts import find_font
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback
from danqing.diffusion.painter import DiffusionPainter
from danqing.nets.attention_maps import AttentionMaps
from danqing.nets.ip_adapter import word_attention

SIDE = 256  # side of a cell of the sheet in pixels
_LABEL, _GAP = 36, 4
_COLUMNS = 3
_HEAT = (200, 50, 30)  # cinnabar
_CHINESE = 0x3400  # the first code point of its characters
_PIECE = re.compile(r"[^\W\u3400-\u9fff]+|[\u3400-\u9fff]+")  # a word, or Chinese characters without space


def explain_picture(inputs: Explain, session: Session, progress: ProgressCallback) -> Picture:
    """See `explain.explain`."""
    brief, files = inputs.resolved_brief, session.adapter_files()
    painter = _with_attention(session.painter_for(brief))
    [single] = inputs.expanded_briefs
    with with_adapters(painter, single.brief, files) as prompted:
        conditioning = painter.condition(prompted)
    scale = painter.vae.factor * (1 if brief.native else painter.card.scale)
    maps = AttentionMaps(conditioning.tokens, brief.height // scale, brief.width // scale)
    options = GenerateOptions(painter, conditioning=conditioning, adapter_files=files)
    with maps.record(painter.modules["unet"]):
        [picture] = generate(single.brief, options, expanded=[single], progress=progress)
    words = _maps_of_words(painter, prompted, maps.mean())
    info = picture.info.model_copy(update={"app": "explain", "inputs": inputs.metadata(seed=inputs.seed)})
    return replace(picture, image=sheet(picture.image, words), info=info)


def sheet(image: Image.Image, maps: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """A white sheet of the picture and, for each word, a pale copy with its heat map, row by row.

    maps: pairs of a word and its map [h w], of any scale.
    """
    whole = image.convert("RGBA")
    plain = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    plain = ImageOps.contain(plain, (SIDE, SIDE), Image.Resampling.LANCZOS)
    cells = [("", plain), *((word, _heat(plain, heat)) for word, heat in maps)]
    columns = min(_COLUMNS, len(cells))
    width, height = plain.width + 2 * _GAP, plain.height + 2 * _GAP + _LABEL
    page = Image.new("RGB", (columns * width, math.ceil(len(cells) / columns) * height), "white")
    draw, font = ImageDraw.Draw(page), _font("".join(word for word, _ in maps))
    for k, (word, cell) in enumerate(cells):
        left, top = k % columns * width + _GAP, k // columns * height + _GAP
        page.paste(cell, (left, top))
        draw.text((left, top + plain.height + 2), word, fill="black", font=font)
    return page


def _with_attention(painter: Painter) -> DiffusionPainter:
    """The painter, checked to have a UNet with cross-attention to text.

    Raises:
        BadBrief: it has none.
    """
    unet = painter.modules.get("unet") if isinstance(painter, DiffusionPainter) else None
    readable = isinstance(painter, DiffusionPainter) and isinstance(
        painter.text, TextEncoder | TextEncoderPair
    )
    if unet is None or not word_attention(unet) or not readable:
        raise BadBrief(
            f"model {painter.card.name!r} has no attention to words that could be shown: use stickers, or "
            "another Stable Diffusion"
        )
    assert isinstance(painter, DiffusionPainter)
    return painter


def _maps_of_words(painter: DiffusionPainter, brief: ResolvedBrief, maps: Tensor) -> list[tuple[str, Tensor]]:
    """Each word of the first part of the prompt, and the mean of the maps [L h w] of its tokens."""
    words: dict[tuple[int, int, int], tuple[str, list[int]]] = {}
    encoder = painter.text.first if isinstance(painter.text, TextEncoderPair) else painter.text
    assert isinstance(encoder, TextEncoder)
    start = 0
    for number, chunk in enumerate(styled_prompt(brief, painter.card).parts[0].chunks):
        text = text_of(chunk)
        spans = encoder.token_places(text)
        for place, span in enumerate(spans):
            if span is None or (piece := _piece_at(text, *span)) is None:
                continue
            words.setdefault((number, *piece), (text[slice(*piece)], []))[1].append(start + place)
        start += len(spans)
    return [(word, maps[places].mean(0)) for word, places in words.values()]


def _piece_at(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Start and end in `text` of the word to which a token belongs; None for a token of punctuation only.

    In Chinese, which has no spaces, each token is a word.
    """
    piece = next(
        (match for match in _PIECE.finditer(text) if match.start() < end and start < match.end()), None
    )
    if piece is None:
        return None
    chinese = ord(piece[0][0]) >= _CHINESE
    return (start, end) if chinese else (piece.start(), max(end, piece.end()))


def _heat(plain: Image.Image, heat: Tensor) -> Image.Image:
    """A pale grey copy of the picture, coloured by the map; the maximum of the map is fully red."""
    low, high = float(heat.min()), float(heat.max())
    share = ((heat - low) / max(high - low, 1e-12)).numpy()
    strength = Image.fromarray((255 * share).astype(np.uint8)).resize(plain.size, Image.Resampling.BICUBIC)
    grey = Image.blend(plain.convert("L").convert("RGB"), Image.new("RGB", plain.size, "white"), 0.5)
    return Image.composite(Image.new("RGB", plain.size, _HEAT), grey, strength.point(lambda v: v * 4 // 5))


def _font(text: str) -> Any:
    """A font for the labels; characters that no installed font has are shown as boxes."""
    if text.isascii():
        return ImageFont.load_default(26)
    try:
        return ImageFont.truetype(find_font(text), 26)
    except BadBrief:
        return ImageFont.load_default(26)
