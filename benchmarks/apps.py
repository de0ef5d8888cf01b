"""How well the apps do on the shipped model: `python benchmarks/apps.py inpaint redraw --data stickers`.

Real pictures come from the data set; the judge, a classifier that no painter was trained with, says what the
results show. Pictures are painted at native size. Each figure is a mean over the pictures, with their number.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageOps

import danqing.zoo
from danqing.apps._edit import CANDIDATE_ETAS, DEFAULT_ETAS, evenly_spaced
from danqing.apps._session import Session
from danqing.apps.edit import STEPS, edit
from danqing.apps.inpaint import inpaint
from danqing.apps.learn import learn
from danqing.apps.paint import paint
from danqing.apps.redraw import redraw
from danqing.apps.upscale import upscale
from danqing.core.images import from_pil, to_pil
from danqing.core.painter import Painter
from danqing.core.picture import Picture
from danqing.core.source_image import read_source
from danqing.data.captions import plain_captions
from danqing.data.dataset import CaptionedImages, read_imagefolder, to_unit
from danqing.evaluation.metrics import psnr
from danqing.families import open_clip_scorer, open_painter
from danqing.nets.judge import Judge
from danqing.tuning.adapter_files import read_adapter

Figures = dict[str, float]
SLACK = 0.01  # of a cosine: less than that two pictures that look the same differ by
RING = 8  # pixels on the inner side of a hole's border


def main() -> None:
    """Run what is named and print a line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=sorted(MEASURES))
    parser.add_argument("--data", type=Path, required=True, help="what 'danqing data stickers' built")
    parser.add_argument("--model", default="stickers", help="a shipped model, or a place of weights")
    parser.add_argument("--count", type=int, help="how many pictures, instead of each measure's own number")
    parser.add_argument("--sheets", type=Path, help="write before-and-after sheets into this folder")
    asked = parser.parse_args()
    bench = Bench(open_painter(asked.model), read_imagefolder(asked.data), asked.sheets)
    for what in asked.what:
        measure, count = MEASURES[what]
        for name, value in measure(bench, asked.count or count).items():
            print(f"{what:<8} {name:<44} {value:9.4f}", flush=True)


class Bench:
    """The painter, the real pictures, the judge and a place for sheets."""

    def __init__(self, painter: Painter, real: CaptionedImages, sheets: Path | None) -> None:
        self.painter, self.real, self.sheets = painter, real, sheets
        self.judge = Judge.load(Path(danqing.zoo.__path__[0]) / "judge")

    def pick(self, count: int, *, held_out: bool) -> list[tuple[Image.Image, dict[str, str]]]:
        """Pictures (RGBA) with their rows, the same ones every time; some twice if there are too few."""
        chosen = [k for k, row in enumerate(self.real.rows) if row["held_out"] == held_out]
        chosen = random.Random(0).sample(chosen, min(count, len(chosen)))
        chosen = [chosen[k % len(chosen)] for k in range(count)]
        images = to_pil(to_unit(self.real.pictures[chosen]), "transparent")
        return [(image, self.real.rows[k]) for image, k in zip(images, chosen, strict=True)]

    def other_style(self, row: dict[str, str], rng: random.Random) -> str:
        """A style that the painter and the judge know, and that the picture of `row` has not."""
        known = [name for name in self.painter.card.styles if name in self.judge.config.styles]
        return rng.choice([name for name in known if name != row["style"]])

    def labels(self, images: list[Image.Image]) -> list[tuple[str, str]]:
        """What the judge sees: (concept, style)."""
        pairs = self.judge.label(torch.stack([from_pil(image) for image in images])).tolist()
        names = self.judge.config
        return [(names.concepts[concept], names.styles[style]) for concept, style in pairs]

    def sheet(self, name: str, rows: list[list[Image.Image]]) -> None:
        """Rows of pictures on white, as one file."""
        if self.sheets is None:
            return
        side = rows[0][0].width
        whole = Image.new("RGB", (side * max(map(len, rows)), side * len(rows)), "white")
        for y, row in enumerate(rows):
            for x, image in enumerate(row):
                tile = image.convert("RGBA").resize((side, side))
                whole.paste(tile, (x * side, y * side), tile)
        self.sheets.mkdir(parents=True, exist_ok=True)
        whole.save(self.sheets / f"{name}.png")


def inpainting(bench: Bench, count: int) -> Figures:
    """Held-out pictures, each a square hole of a quarter of its area, painted back from their captions."""
    rng, kept, rings, sheet = random.Random(1), [], [], []
    for image, row in bench.pick(count, held_out=True):
        side = image.width // 2
        corner = [rng.randrange(image.width // 8, image.width - side - image.width // 8) for _ in range(2)]
        box = (corner[0], corner[1], corner[0] + side, corner[1] + side)
        mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
        holed = image.copy()
        holed.paste((0, 0, 0, 0), box)
        words = plain_captions(row["concept"], row["concept_zh"], row["style"])[0]
        [done] = inpaint(holed, words, mask=mask, feather=0, painter=bench.painter, native=True, seed=1)
        ring = mask.copy()
        inner = tuple(edge + RING * sign for edge, sign in zip(box, (1, 1, -1, -1), strict=True))
        ImageDraw.Draw(ring).rectangle((inner[0], inner[1], inner[2] - 1, inner[3] - 1), fill=0)
        where = from_pil(ring)[0] > 0
        difference = (from_pil(done.image) - from_pil(image))[:, where]
        rings.append(float(10 * torch.log10(4 / difference.square().mean().clamp(min=1e-6))))
        kept.append((done.image, row))
        sheet.append([image, holed, done.image])
    bench.sheet("inpaint", sheet)
    seen = bench.labels([image for image, _ in kept])
    right = [label[0] == row["concept"] for label, (_, row) in zip(seen, kept, strict=True)]
    return {
        "pictures": len(kept),
        "concept kept": _mean(right),
        f"PSNR of a {RING} px ring in the hole": _mean(rings),
    }


def redrawing(bench: Bench, count: int) -> Figures:
    """Seen pictures redrawn at strength 0.5 in another style."""
    rng, done, sheet = random.Random(2), [], []
    for image, row in bench.pick(count, held_out=False):
        style = bench.other_style(row, rng)
        words = plain_captions(row["concept"], row["concept_zh"], style)[0]
        [picture] = redraw(image, words, painter=bench.painter, strength=0.5, native=True, seed=1)
        done.append((picture.image, row["concept"], style))
        sheet.append([image, picture.image])
    bench.sheet("redraw", sheet)
    seen = bench.labels([image for image, _, _ in done])
    pairs = list(zip(seen, done, strict=True))
    return {
        "pictures": len(done),
        "concept kept": _mean([label[0] == concept for label, (_, concept, _) in pairs]),
        "asked style taken": _mean([label[1] == style for label, (_, _, style) in pairs]),
    }


def editing(bench: Bench, count: int) -> Figures:
    """Imagic strips from one style towards another: do CLIP and the judge agree more and more with the words?

    CLIP-T is the cosine with the words, the judge's figure the share that it gives to the asked style. Each
    is told of the strip at fixed etas and of the one that `edit` shows, which that very CLIP has chosen; the
    judge has no part in it.
    """
    scorer, rng, sheet = open_clip_scorer(), random.Random(3), []
    scores, kept = defaultdict[str, list[list[float]]](list), defaultdict[str, list[bool]](list)
    for image, row in bench.pick(count, held_out=False):
        style = bench.other_style(row, rng)
        words = plain_captions(row["concept"], row["concept_zh"], style)[0]
        images = _images(edit(image, words, painter=bench.painter, native=True, seed=1, etas=CANDIDATE_ETAS))
        nearness = scorer.score(_stack(images), [words])[:, 0].tolist()
        _, styles, _ = bench.judge.predict(_stack(images))
        shares = styles.softmax(-1)[:, bench.judge.config.styles.index(style)].tolist()
        right = [label[0] == row["concept"] for label in bench.labels(images)]
        shown = evenly_spaced(nearness, STEPS)
        for name, places in (
            ("fixed", [CANDIDATE_ETAS.index(eta) for eta in DEFAULT_ETAS]),
            ("shown", shown),
        ):
            scores[f"{name}: CLIP-T"].append([nearness[k] for k in places])
            scores[f"{name}: judge"].append([shares[k] for k in places])
            kept[f"{name}: thing kept at the end"].append(right[places[-1]])
        sheet.append([image, *(images[k] for k in shown)])
    bench.sheet("edit", sheet)
    figures = {name: _mean(values) for name, values in kept.items()}
    for name, strips in scores.items():
        figures[f"{name} rises at every step"] = _mean([_least_rise(strip) > 0 for strip in strips])
        figures[f"{name} never falls by {SLACK}"] = _mean([_least_rise(strip) > -SLACK for strip in strips])
        figures[f"{name} higher at the end"] = _mean([strip[-1] > strip[0] for strip in strips])
        figures[f"{name} gained"] = _mean([strip[-1] - strip[0] for strip in strips])
    return figures


def _least_rise(values: list[float]) -> float:
    return min(after - before for before, after in pairwise(values))


def upscaling(bench: Bench, count: int) -> Figures:
    """Held-out drawings of 512 pixels (`danqing data stickers --size 512`), reduced four times and enlarged.

    3d is left out: its originals are smaller. A crisp edge has as much contrast between neighbours as before.
    """
    made: dict[str, list[Image.Image]] = {"upscaler": [], "Lanczos": []}
    drawn = [(image, row) for image, row in bench.pick(10**6, held_out=True) if row["style"] != "3d"][:count]
    for image, _ in drawn:
        small = image.reduce(4)
        made["upscaler"] += _images(upscale(small, painter=bench.painter))
        made["Lanczos"].append(small.resize(image.size, Image.Resampling.LANCZOS))
    truth = _whole([image for image, _ in drawn])
    figures = {"pictures": float(len(drawn)), "judge knows the drawing": _known(bench, drawn)}
    for name, images in made.items():
        large = _whole(images)
        figures[f"{name}: PSNR"] = float(psnr(large, truth).mean())
        figures[f"{name}: PSNR of the alpha"] = float(psnr(large[:, 3:], truth[:, 3:]).mean())
        figures[f"{name}: contrast of edges, truth 1"] = float(_contrast(large) / _contrast(truth))
        rows = [(image, row) for image, (_, row) in zip(images, drawn, strict=True)]
        figures[f"{name}: judge knows it"] = _known(bench, rows)
    bench.sheet(
        "upscale", [list(three) for three in zip(*([i for i, _ in drawn], *made.values()), strict=True)]
    )
    return figures


def learning(bench: Bench, count: int) -> Figures:
    """Subjects made from held-out drawings: is each one recognised, and is its class not forgotten?

    A subject is a held-out drawing in colours that no drawing of its kind has, seen from four sides: turned,
    mirrored, near and far; it is learned as `danqing learn` does.
    """
    scorer, gained, after, sheet = open_clip_scorer(), [], [], []
    rights: dict[bool, list[bool]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for k, (image, row) in enumerate(bench.pick(count, held_out=True)):
            places = _photographed(image, Path(folder) / f"photos{k}")
            session = Session.of(bench.painter, adapters=Path(folder) / "adapters")
            adapter = learn(f"subject{k}", places, kind=row["concept"], session=session)
            worn = {str(adapter): 1.0}
            own_words = f"a {read_adapter(adapter).trigger}"
            before = paint(f"a {row['concept']}", painter=bench.painter, native=True, seed=1, count=4)
            now = paint(own_words, painter=bench.painter, native=True, seed=1, count=4, adapters=worn)
            subject = scorer.image_embeddings(_stack([read_source(place).image for place in places]))
            usual, likeness = (
                float((scorer.image_embeddings(_stack(_images(painted))) @ subject.T).mean())
                for painted in (before, now)
            )
            after.append(likeness)
            gained.append(likeness - usual)
            for learned in (False, True):
                rights[learned] += _class_kept(bench, row["concept"], worn if learned else {})
            sheet.append([Image.open(places[0]), Image.open(places[1]), *_images(before)[:2], *_images(now)])
    bench.sheet("learn", sheet)
    return {
        "subjects": len(gained),
        "CLIP-I of what was learned": _mean(after),
        "CLIP-I above the un-tuned class, mean": _mean(gained),
        "CLIP-I above the un-tuned class, least": min(gained),
        "class recognised before": _mean(rights[False]),
        "class recognised after": _mean(rights[True]),
    }


def _photographed(image: Image.Image, folder: Path) -> tuple[str, ...]:
    """Four views of the drawing with its hues turned by a third."""
    folder.mkdir()
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    turned = Image.merge("HSV", (hue.point(lambda h: (h + 85) % 256), saturation, value)).convert("RGB")
    turned.putalpha(image.getchannel("A"))
    side = image.width
    views = (
        turned,
        turned.rotate(10, Image.Resampling.BICUBIC),
        turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(-6, Image.Resampling.BICUBIC),
        ImageOps.expand(turned.resize((side * 3 // 4,) * 2), side // 8, (0, 0, 0, 0)),
    )
    for k, view in enumerate(views):
        view.save(folder / f"{k}.png")
    return tuple(str(folder / f"{k}.png") for k in range(len(views)))


def _class_kept(bench: Bench, concept: str, adapters: dict[str, float]) -> list[bool]:
    """Whether the judge knows each of four pictures of the class in every style."""
    words = [f"a {concept}, {style.split('/')[0]} style" for style in bench.painter.card.styles.values()]
    asked: dict[str, Any] = {"native": True, "seed": 1, "count": 4, "adapters": adapters}
    painted = [image for said in words for image in _images(paint(said, painter=bench.painter, **asked))]
    return [seen == concept for seen, _ in bench.labels(painted)]


def _images(pictures: list[Picture]) -> list[Image.Image]:
    return [picture.image for picture in pictures]


def _stack(images: list[Image.Image]) -> torch.Tensor:
    """Pictures on white as the critic sees them, [n 3 h w] in [-1, 1]."""
    return torch.stack([from_pil(image)[:3] for image in images])


def _whole(images: list[Image.Image]) -> torch.Tensor:
    """All four channels, [n 4 h w] in [-1, 1]."""
    return torch.stack([from_pil(image.convert("RGBA")) for image in images])


def _contrast(pixels: torch.Tensor) -> torch.Tensor:
    """The mean square of the difference of neighbours."""
    return pixels.diff(dim=-1).square().mean() + pixels.diff(dim=-2).square().mean()


def _known(bench: Bench, drawn: list[tuple[Image.Image, dict[str, str]]]) -> float:
    labels = bench.labels([image for image, _ in drawn])
    return _mean([label[0] == row["concept"] for label, (_, row) in zip(labels, drawn, strict=True)])


def _mean(values: list[float] | list[bool]) -> float:
    return sum(values) / max(1, len(values))


MEASURES: dict[str, tuple[Callable[[Bench, int], Figures], int]] = {
    "inpaint": (inpainting, 50),
    "redraw": (redrawing, 50),
    "edit": (editing, 20),
    "learn": (learning, 5),
    "upscale": (upscaling, 24),
}

if __name__ == "__main__":
    main()
