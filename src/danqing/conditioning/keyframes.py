"""Parses key frames of numbers and of prompts, for videos.

    0: (1), 10: (1.05)                       1 at frame 0, linear up to 1.05 at frame 10, then constant
    0: a red apple | 20: a green apple:2     the prompt from frame 0 on, and another from frame 20 on
    20: a green apple:2 | 20: a worm:-0.5    several prompts at once; weights are divided by their sum

Both notations are Disco Diffusion's (its settings file has the prompts as a table). They are parsed, never
evaluated as code. Full-width syntax and digits mean the same as half-width ones.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from danqing.conditioning.grammar import Part, Prompt, Span, parse, render
from danqing.conditioning.prompt_schedule import decimal
from danqing.core.errors import shorten
from danqing.core.half_width import half_width, split_marks

FRAME_MAX = 100_000

_NUMBER = r"[+-]?(?:[0-9]{1,9}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})"
_ALONE = re.compile(rf"\s*({_NUMBER})\s*")
_KEY = re.compile(rf"\s*([0-9]{{1,6}})\s*:\s*(?:\(\s*({_NUMBER})\s*\)|({_NUMBER}))\s*")
_NEXT = re.compile(r"((?<!\\)\|(?=\s*[0-9]{1,6}\s*:))")
_FRAME = re.compile(r"\s*([0-9]{1,6})\s*:\s*")
_WEIGHT = re.compile(rf"(.*?)\s*(?<![:\\]):\s*({_NUMBER})\s*", re.DOTALL)


@dataclass(frozen=True)
class KeyFrames:
    """A number for every frame: linear between key frames, and constant before the first and after the last.

    keys: pairs of a frame and its number; at least one, in rising order of frames.
    """

    keys: tuple[tuple[int, float], ...]

    @classmethod
    def parse(cls, text: str) -> KeyFrames:
        """Parse key frames; a single number is the number of every frame.

        Raises:
            ValueError: the text cannot be parsed, or has a frame twice.
        """
        half = half_width(text)
        alone = _ALONE.fullmatch(half)
        if alone:
            return cls(((0, float(alone[1])),))
        matches = [_KEY.fullmatch(part) for part in half.split(",")]
        keys = [(int(key[1]), float(key[2] or key[3])) for key in matches if key is not None]
        if len(keys) < len(matches):
            raise ValueError(f"{shorten(text)!r} names no key frames: write them as 0: (1), 10: (1.05)")
        frames = [frame for frame, _ in keys]
        twice = next((frame for frame in frames if frames.count(frame) > 1), None)
        if twice is not None:
            raise ValueError(f"frame {twice} has two numbers: give it one")
        return cls(tuple(sorted(keys)))

    def at(self, frame: float) -> float:
        """The number at a frame, by `numpy.interp`."""
        k = bisect_right(self.keys, frame, key=lambda key: key[0])
        if k == 0:
            return self.keys[0][1]
        (before, low) = self.keys[k - 1]
        if k == len(self.keys) or before == frame:
            return low
        (after, high) = self.keys[k]
        return (high - low) / (after - before) * (frame - before) + low


class Line(NamedTuple):
    """One prompt from a frame on, with its weight among the prompts of the same frame."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Script:
    """The prompt of every frame.

    scenes: pairs of a first frame and its lines; at least one, in rising order of frames.
    """

    scenes: tuple[tuple[int, tuple[Line, ...]], ...]

    @classmethod
    def parse(cls, text: str) -> Script:
        """Parse the prompts of a video; a prompt without a frame number begins at frame 0.

        Raises:
            ValueError: a frame has no prompt.
            BadBrief: the weights of a frame sum to 0 or less.
        """
        scenes: dict[int, list[Line]] = {}
        for part in split_marks(_NEXT, text)[1][::2]:
            frame = _FRAME.match(half_width(part))
            words = (part[frame.end() :] if frame else part).strip()
            if not words:
                raise ValueError(f"frame {frame[1] if frame else 0} has no words: say what it shall show")
            scenes.setdefault(int(frame[1]) if frame else 0, []).append(_line(words))
        return cls._of(scenes)

    @classmethod
    def of(cls, table: Mapping[int, Sequence[str]]) -> Script:
        """The script from a table of Disco Diffusion.

        table: first frame -> its prompts, each of which may end with ":weight". Brackets in them are ordinary
            characters.

        Raises:
            BadBrief: the weights of a frame sum to 0 or less.
        """
        lines = {frame: [_line(text) for text in texts] for frame, texts in table.items()}
        return cls._of(
            {
                frame: [Line(_literal(text), weight) for text, weight in lines_of_frame]
                for frame, lines_of_frame in lines.items()
            }
        )

    @classmethod
    def _of(cls, scenes: Mapping[int, Iterable[Line]]) -> Script:
        script = cls(tuple(sorted((frame, tuple(lines)) for frame, lines in scenes.items())))
        for frame, _ in script.scenes:
            parse(script.at(frame)).weights  # noqa: B018  raises now, before a model is opened
        return script

    def at(self, frame: int) -> str:
        """The prompt of a frame: that of the last scene which has begun, or of the first scene."""
        k = bisect_right(self.scenes, frame, key=lambda scene: scene[0])
        lines = self.scenes[max(k - 1, 0)][1]
        if len(lines) == 1 and lines[0].weight > 0:  # the weight of a single prompt is divided by itself
            return lines[0].text
        return " ".join(f"{text}::{decimal(weight)}" for text, weight in lines)

    @property
    def text(self) -> str:
        """The text of this script: `parse` of it gives an equal script."""
        rows = ((frame, *line) for frame, lines in self.scenes for line in lines)
        return " | ".join(
            f"{frame}: {text}" + ("" if weight == 1 else f":{decimal(weight)}")
            for frame, text, weight in rows
        )


def _line(text: str) -> Line:
    match = _WEIGHT.fullmatch(half_width(text))
    return Line(text[: match.end(1)], float(match[2])) if match and match[1].strip() else Line(text.strip())


def _literal(text: str) -> str:
    return render(Prompt((Part(((Span(text.strip()),),)),)))
