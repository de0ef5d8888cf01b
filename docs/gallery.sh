#!/bin/sh
# Every picture of the READMEs, painted anew by the shipped model: sh docs/gallery.sh
set -e
cd "$(dirname "$0")/pictures"
danqing paint "a red apple, cartoon style" --seed 1 --out apple.png
danqing paint "茶壶，青花瓷风格" --seed 1 --out teapot.png
danqing paint "一只兔子，剪纸风格" --seed 0 --out rabbit.png
danqing paint "a dragon, ink wash style" --seed 0 --out dragon.png
danqing paint "a rocket, flat style" --seed 0 --out rocket.png
danqing paint "a panda" --style ink-wash --seed 0 --out panda.png

danqing imagine "a fox, cartoon style" --chaos 30 --seed 4 --out grid.webp
danqing upscale grid.webp 2 --out cell.webp
danqing vary grid.webp 2 --seed 1 --count 1 --out vary.webp
danqing redraw apple.png "a red apple, ink wash style" --strength 0.8 --seed 1 --out redraw.webp
danqing stylize rocket.png --style porcelain --seed 1 --out stylize.webp
danqing inpaint rabbit.png --mask mask.png --seed 1 --out inpaint.webp
danqing zoom panda.png --by 1.5 --seed 1 --out zoom.webp
danqing blend apple.png rocket.png --seed 1 --count 1 --out blend.webp
danqing edit apple.png "a red apple, paper-cut style" --seed 1 --out edit.webp
danqing paint "a rose, flat style" --tile --seed 1 --out tile.webp
rm edit-eta*.webp  # the strip shows them all
