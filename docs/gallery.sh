#!/bin/sh
# Every picture of the READMEs, painted anew by the shipped model: sh docs/gallery.sh
set -e
cd "$(dirname "$0")/pictures"

# a page needs no more than a tenth of what is exact; how each was painted stays inside
smaller() {
    python - "$@" <<'END'
import sys
from PIL import Image
for name in sys.argv[1:]:
    with Image.open(f"{name}.webp") as image:
        image.load()
    image.save(f"{name}.webp", quality=85, method=6, exif=image.info.get("exif", b""))
END
}

danqing paint "a red apple, cartoon style" --seed 1 --out apple.webp
danqing paint "茶壶，青花瓷风格" --seed 1 --out teapot.webp
danqing paint "一只兔子，剪纸风格" --seed 0 --out rabbit.webp
danqing paint "a dragon, ink wash style" --seed 0 --out dragon.webp
danqing paint "a rocket, flat style" --seed 0 --out rocket.webp
danqing paint "a panda" --style ink-wash --seed 0 --out panda.webp

smaller apple teapot rabbit dragon rocket panda

danqing imagine "a fox, cartoon style" --chaos 30 --seed 4 --out grid.webp
danqing upscale grid.webp 2 --out cell.webp
danqing vary grid.webp 2 --seed 1 --count 1 --out vary.webp
danqing redraw apple.webp "a red apple, ink wash style" --strength 0.8 --seed 1 --out redraw.webp
danqing stylize rocket.webp --style porcelain --seed 1 --out stylize.webp
danqing inpaint rabbit.webp --mask mask.png --seed 1 --out inpaint.webp
danqing zoom panda.webp --by 1.5 --seed 1 --out zoom.webp
danqing blend apple.webp rocket.webp --seed 1 --count 1 --out blend.webp
danqing edit apple.webp "a red apple, paper-cut style" --seed 1 --out edit.webp
danqing paint "a cherry blossom, flat style" --tile --seed 1 --out tile.webp
rm edit-step*.webp  # the strip shows them all
smaller grid cell vary redraw stylize inpaint zoom blend edit tile
