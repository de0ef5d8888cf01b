"""Make the pictures of docs/photos.md from photos that scikit-image brings."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw
from skimage import data

from danqing.photos.cutout import cut_out, outlined, subject_of
from danqing.photos.damage import damage_of
from danqing.photos.filling import filled

SIDE = 220  # pixels
PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """A row of cut-outs, and a photo with damage, what is marked, and what is made of it."""
    stickers = []
    for name, box in (("coffee", None), ("coffee", (26, 2, 178, 150)), ("rocket", (92, 40, 128, 146))):
        photo = Image.fromarray(getattr(data, name)())
        photo.thumbnail((SIDE, SIDE))
        alpha = subject_of(photo, box)
        if alpha is not None:
            stickers += [photo, outlined(cut_out(photo, alpha), 4)]
    save(stickers, "photos-cutout")
    cat = Image.fromarray(data.chelsea())
    cat.thumbnail((300, 300))
    damaged = cat.copy()
    for k in range(4):
        line = (cat.width * (0.2 + 0.2 * k), 12, cat.width * (0.1 + 0.22 * k), cat.height - 14)
        ImageDraw.Draw(damaged).line(line, fill=(246, 246, 242), width=2)
    region = damage_of(damaged)
    marked = Image.composite(Image.new("RGB", cat.size, "red"), damaged, region)
    save([damaged, marked, filled(damaged, region), cat], "photos-damage")


def save(images: list[Image.Image], name: str) -> None:
    """Pictures side by side on grey."""
    height = max(image.height for image in images)
    row = Image.new("RGB", (sum(image.width + 6 for image in images), height), "#b8b8b8")
    left = 0
    for image in images:
        row.paste(image, (left, (height - image.height) // 2), image if image.mode == "RGBA" else None)
        left += image.width + 6
    row.save(PICTURES / f"{name}.webp", quality=82, method=6)


if __name__ == "__main__":
    main()
