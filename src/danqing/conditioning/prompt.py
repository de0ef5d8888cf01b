"""Makes the prompt for the text encoder from a brief."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from danqing.conditioning.grammar import Chunk, Part, Prompt, Span, parse, render, text_of
from danqing.conditioning.references import take
from danqing.conditioning.wildcards import choose
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Card

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def expand_prompt(brief: ResolvedBrief) -> ResolvedBrief:
    """The brief of one picture with wildcards chosen by its seed and adapter references in `adapters`.

    A weight in the prompt overrides the one in `brief.adapters`.

    Raises:
        BadBrief: there are more adapters than a brief may have, or the weights of the parts sum to 0 or less.
    """
    prompt, adapters = take(choose(brief.prompt, brief.seed))
    parse(prompt).weights  # noqa: B018  raises now, before a model is opened
    fields: dict[str, Any] = {"prompt": prompt, "negative_prompt": choose(brief.negative_prompt, brief.seed)}
    if adapters:  # validate anew: the prompt may name too many
        fields["adapters"] = Brief.of(brief.prompt, adapters={**brief.adapters, **adapters}).adapters
    return brief.model_copy(update=fields)


def styled_prompt(brief: ResolvedBrief, card: Card) -> Prompt:
    """The parsed prompt of `brief` with its style in each part, unless the prompt already names it.

    For a style that the card names "ink/水墨", "a cat" becomes "a cat, ink style", and "猫" becomes
    "猫，水墨风格". Every part gets the style, so that it has the same effect as in a prompt of one part when
    the weights sum to 1.
    """
    prompt, ending = parse(brief.prompt), _style(brief, card)
    if not ending:
        return prompt
    return replace(prompt, parts=tuple(_append_to_part(part, ending) for part in prompt.parts))


def styled_prompt_text(brief: ResolvedBrief, card: Card) -> str:
    """`styled_prompt` as text. A prompt of one part keeps its syntax, for example references to adapters."""
    ending, prompt = _style(brief, card), parse(brief.prompt)
    alone = len(prompt.parts) == 1 and not prompt.blend
    return f"{brief.prompt}{ending}" if alone or not ending else render(styled_prompt(brief, card))


def plain_text(brief: ResolvedBrief, card: Card) -> str:
    """`styled_prompt` without weights and other syntax, for a model without weights, such as CLIP."""
    return " ".join(text_of(chunk) for part in styled_prompt(brief, card).parts for chunk in part.chunks)


def parse_negative(brief: ResolvedBrief) -> Prompt:
    """The parsed negative prompt of `brief`: it may have weights and schedules, but is a single part."""
    return parse(brief.negative_prompt, whole=True)


def is_chinese(text: str) -> bool:
    """Whether `text` contains a Chinese character."""
    return _CJK.search(text) is not None


def _style(brief: ResolvedBrief, card: Card) -> str:
    if brief.style is None:
        return ""
    english, _, chinese = card.styles[brief.style].partition("/")
    styled_en, styled_zh = f"{english.strip()} style", f"{(chinese or english).strip()}风格"
    if styled_en.casefold() in brief.prompt.casefold() or styled_zh.casefold() in brief.prompt.casefold():
        return ""
    return f"，{styled_zh}" if is_chinese(brief.prompt) else f", {styled_en}"


def _append_to_part(part: Part, ending: str) -> Part:
    *chunks, last = part.chunks
    return replace(part, chunks=(*chunks, _append_to_chunk(last, ending)))


def _append_to_chunk(chunk: Chunk, ending: str) -> Chunk:
    if chunk and chunk[-1] == Span(chunk[-1].text):  # so that a plain prompt stays one span
        return (*chunk[:-1], Span(chunk[-1].text + ending))
    return (*chunk, Span(ending))
