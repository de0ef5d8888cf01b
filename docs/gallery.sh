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
