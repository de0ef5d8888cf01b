"""Is the thing painted that a sentence is about? `python benchmarks/wording.py table A`.

`table` is thirty things in a dozen wordings. `A` and `B` are the two halves of
`wording.txt`, written by hand; B is for the last measurement. Pictures are painted at native size in few
steps, prompt k with seed k; the judge, a classifier that no painter was trained with, says what they show.
Intervals: 95 %, bootstrap over the prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import danqing.zoo
from danqing.apps.paint import paint
from danqing.core.errors import BadBrief
from danqing.core.images import from_pil
from danqing.data.captions import article
from danqing.data.vocabulary import vocabulary
from danqing.families import open_painter
from danqing.nets.judge import Judge
from danqing.training.sheets import sheet_of

PROMPTS = Path(__file__).with_name("wording.txt")
TABLE = (
    "{a}, 3d style",
    "{a}",
    "{a} in the rain, 3d style",
    "app icon of {a}",
    "a cute little {x}, 3d style",
    "a beautiful picture of {a} on a white background, 3d style",
    "{a} on a wooden table, 3d style",
    "a smiling {x} wearing sunglasses, 3d style",
    "{x}, masterpiece, best quality, highly detailed",
    "once upon a time there was a very old {x} living by the sea",
    "{zh}，3D风格",
    "一只可爱的小{zh}在草地上，3D风格",
)
STEP = 4  # every fourth thing of 120: thirty


@dataclass(frozen=True)
class Case:
    """A prompt with what it should paint; style is `-` where none is asked for."""

    kind: str
    thing: str
    style: str
    prompt: str


def main() -> None:
    """Run what is named and print a line for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=sorted(SETS))
    parser.add_argument("--model", default="stickers", help="a shipped model or a folder of weights")
    parser.add_argument(
        "--text-encoder", type=Path, help="a text encoder's folder, instead of the model's own"
    )
    parser.add_argument("--misses", action="store_true", help="tell what was painted instead")
    parser.add_argument("--sheet", type=Path, help="where to draw all pictures, in the order of the prompts")
    arguments = parser.parse_args()
    judge = Judge.load(Path(danqing.zoo.__path__[0]) / "judge")
    painter = open_painter(arguments.model)
    if arguments.text_encoder is not None:
        model = painter.text.model  # type: ignore[attr-defined]
        model.load_state_dict(type(model).from_pretrained(arguments.text_encoder).state_dict())
    options = {"fast": True, "native": True, "background": "transparent", "painter": painter}
    for what in arguments.what:
        cases = SETS[what]()
        images = [_painted(one.prompt, seed=k, **options) for k, one in enumerate(cases)]
        answers = _named(judge, images)
        report(what, cases, answers)
        if arguments.misses:
            for one, (thing, style) in zip(cases, answers, strict=True):
                if one.thing != thing:
                    print(f"  {one.kind}: {one.prompt!r} gave {thing} in {style}, not {one.thing}")
        if arguments.sheet is not None:
            sheet_of(torch.stack([from_pil(image) for image in images]), columns=20).save(arguments.sheet)


def report(what: str, cases: Sequence[Case], answers: Sequence[tuple[str, str]]) -> None:
    """A line for each kind: how many things are right, the share with its interval, and the styles."""
    kinds = [*dict.fromkeys(one.kind for one in cases), "all"]
    for kind in kinds:
        both = [(one, got) for one, got in zip(cases, answers, strict=True) if kind in (one.kind, "all")]
        right = [one.thing == got[0] for one, got in both]
        styled = [one.style == got[1] for one, got in both if one.style != "-"]
        low, high = interval(right)
        style = f"   style {sum(styled)} of {len(styled)}" if styled else ""
        share = f"{sum(right) / len(right):6.1%} [{low:.1%}, {high:.1%}]"
        print(f"{what:<6}{kind:<62}{sum(right):4} of {len(right):3}  {share}{style}", flush=True)


def interval(right: Iterable[bool], draws: int = 2000) -> tuple[float, float]:
    """95 % of the shares of samples drawn anew with replacement."""
    hits = np.asarray(list(right), float)
    rng = np.random.default_rng(0)
    shares = hits[rng.integers(len(hits), size=(draws, len(hits)))].mean(axis=1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def _painted(prompt: str, **options: Any) -> Image.Image:
    """RGBA 128 x 128; empty where the prompt is refused, as one with an unknown parameter is."""
    try:
        image: Image.Image = paint(prompt, **options)[0].image
        return image.resize((128, 128))
    except BadBrief as error:
        print(f"  refused: {prompt!r}: {error}")
        return Image.new("RGBA", (128, 128))


def _named(judge: Judge, images: Sequence[Image.Image]) -> list[tuple[str, str]]:
    pairs = [
        pair
        for k in range(0, len(images), 64)
        for pair in judge.label(torch.stack([from_pil(image) for image in images[k : k + 64]])).tolist()
    ]
    return [(judge.config.concepts[thing], judge.config.styles[style]) for thing, style in pairs]


def _table() -> list[Case]:
    things = list(vocabulary().items())[::STEP]
    return [
        Case(form, name, "3d" if "3d" in form.lower() else "-", form.format(a=_a(name), x=name, zh=chinese))
        for form in TABLE
        for name, chinese in things
    ]


def _a(name: str) -> str:
    return f"{article(name)} {name}".strip()


def _half(name: str) -> list[Case]:
    rows = [line.split("\t") for line in PROMPTS.read_text("utf-8").splitlines() if not line.startswith("# ")]
    return [Case(kind, thing, style, prompt) for half, kind, thing, style, prompt in rows if half == name]


SETS: dict[str, Callable[[], list[Case]]] = {
    "table": _table,
    "A": lambda: _half("A"),
    "B": lambda: _half("B"),
}

if __name__ == "__main__":
    main()
