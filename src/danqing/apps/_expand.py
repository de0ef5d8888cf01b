"""From a brief for several pictures to what each of them is painted by. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from danqing.conditioning.prompt import expand_prompt
from danqing.conditioning.wildcards import choose
from danqing.core.brief import ResolvedBrief


@dataclass(frozen=True)
class ExpandedBrief:
    """The brief of one picture.

    brief: what the painter is asked for: wildcards chosen, references to adapters among its adapters.
    signed: what the picture's metadata keeps: the prompt as it was written.
    chosen: the prompt with its wildcards chosen; empty where it has none.
    """

    brief: ResolvedBrief
    signed: ResolvedBrief
    chosen: str


def expand(brief: ResolvedBrief) -> list[ExpandedBrief]:
    """The briefs of the single pictures, in the order of their seeds.

    Raises:
        BadBrief: more adapters than a brief takes, or parts whose weights sum to 0 or less.
    """
    return [_expand_one(brief.alone(k)) for k in range(brief.count)]


def _expand_one(single: ResolvedBrief) -> ExpandedBrief:
    brief = expand_prompt(single)
    prompt = choose(single.prompt, single.seed)
    chosen = "" if prompt == single.prompt else prompt
    return ExpandedBrief(brief, single.model_copy(update={"adapters": brief.adapters}), chosen)
