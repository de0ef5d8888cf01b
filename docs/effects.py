"""Make the sheets of docs/effects.md: every effect on five photos that scikit-image brings."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageOps
from skimage import data

from danqing.effects import EFFECTS
from danqing.effects.rendering import render

PHOTOS = ("astronaut", "chelsea", "coffee", "camera", "rocket")
SIDE, CELL, LABEL = 420, 200, 18  # pixels: of a rendering, of its cell in the sheet, of the label over a row
CENTRES = {"astronaut": (0.4, 0.1), "rocket": (0.45, 0.9)}


def main() -> None:
    """Write both sheets beside the other pictures of the docs."""
    photos = {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in PHOTOS}
    squares = [
        ImageOps.fit(photo, (SIDE, SIDE), centering=CENTRES.get(name, (0.5, 0.5)))
        for name, photo in photos.items()
    ]
    for number, names in enumerate((EFFECTS[:7], EFFECTS[7:]), 1):
        sheet = Image.new("RGB", (CELL * len(squares), (CELL + LABEL) * len(names)), "white")
        for row, name in enumerate(names):
            top = row * (CELL + LABEL)
            ImageDraw.Draw(sheet).text((4, top + 3), name, "black")
            for column, square in enumerate(squares):
                made = render(square, name, seed=1).resize((CELL, CELL), Image.Resampling.LANCZOS)
                sheet.paste(made, (column * CELL, top + LABEL))
        path = Path(__file__).parent / "pictures" / f"effects-{number}.webp"
        sheet.save(path, quality=78, method=6)
        print(path)


if __name__ == "__main__":
    main()
