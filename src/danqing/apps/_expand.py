"""Expands the brief of several pictures to one brief for each. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.conditioning.prompt import expand_prompt
from danqing.conditioning.wildcards import choose
from danqing.core.brief import ResolvedBrief


@dataclass(frozen=True)
class ExpandedBrief:
    """The brief of one picture.

    brief: the brief for the painter, with wildcards chosen and adapter references moved to `adapters`.
    signed: the brief for the metadata, with the prompt as the user wrote it.
    chosen: the prompt with its wildcards chosen; empty if it has none.
    """

    brief: ResolvedBrief
    signed: ResolvedBrief
    chosen: str


def expand(brief: ResolvedBrief) -> list[ExpandedBrief]:
    """The briefs of the single pictures, in the order of their seeds.

    Raises:
        BadBrief: there are more adapters than a brief may have, or the weights of parts sum to 0 or less.
    """
    return [_expand_one(brief.alone(k)) for k in range(brief.count)]


def _expand_one(single: ResolvedBrief) -> ExpandedBrief:
    brief = expand_prompt(single)
    prompt = choose(single.prompt, single.seed)
    chosen = "" if prompt == single.prompt else prompt
    return ExpandedBrief(brief, single.model_copy(update={"adapters": brief.adapters}), chosen)
