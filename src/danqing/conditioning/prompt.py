"""The words a text encoder sees, from a brief: plain text in, plain text out."""

from __future__ import annotations

import re

from danqing.core.brief import Brief
from danqing.core.card import Card

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def words(brief: Brief, card: Card) -> str:
    """The prompt, and the brief's style in the prompt's language unless the prompt already says it.

    A style that the card calls "ink/水墨" makes "a cat, ink style" of "a cat" and "猫，水墨风格" of "猫".
    """
    prompt = brief.prompt.strip()
    if brief.style is None:
        return prompt
    english, _, chinese = card.styles[brief.style].partition("/")
    styled_en, styled_zh = f"{english.strip()} style", f"{(chinese or english).strip()}风格"
    if styled_en.casefold() in prompt.casefold() or styled_zh.casefold() in prompt.casefold():
        return prompt
    return f"{prompt}，{styled_zh}" if is_chinese(prompt) else f"{prompt}, {styled_en}"


def is_chinese(text: str) -> bool:
    """Whether `text` holds a Chinese character."""
    return _CJK.search(text) is not None
