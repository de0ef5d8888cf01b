"""A data set of sixteen pictures that tiny networks begin to learn in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from danqing.data.captions import plain_captions
from danqing.data.dataset import CaptionedImages
from danqing.families.stable_diffusion.painter import random_components, save_folder

CONCEPTS = (("cat", "猫"), ("red apple", "苹果"), ("owl", "猫头鹰"), ("rocket", "火箭"))
STYLES = ("3d", "flat", "cartoon", "paper-cut")


def stickers(side: int = 32) -> CaptionedImages:
    """Each concept is a colour, each style the width of a bar; the last of both is held out."""
    colours = torch.tensor([[220, 60, 30], [40, 200, 60], [40, 60, 230], [230, 200, 40]], dtype=torch.uint8)
    pictures, rows = [], []
    for c, (name, name_zh) in enumerate(CONCEPTS):
        for s, style in enumerate(STYLES):
            picture = torch.full((4, side, side), 255, dtype=torch.uint8)
            picture[3] = 0
            bar = slice(side // 8, side // 8 * (3 + s))
            picture[:3, side // 4 : -side // 4, bar] = colours[c, :, None, None]
            picture[3, side // 4 : -side // 4, bar] = 255
            pictures.append(picture)
            rows.append(row(name, name_zh, style, held_out=(c, s) == (3, 3)))
    return CaptionedImages(torch.stack(pictures), tuple(rows))


def row(name: str, name_zh: str, style: str, *, held_out: bool) -> dict[str, object]:
    text, text_zh = plain_captions(name, name_zh, style)
    return {
        "file_name": f"{style}/{name}.png",
        "text": text,
        "text_zh": text_zh,
        "concept": name,
        "concept_zh": name_zh,
        "style": style,
        "tags": ["thing"],
        "tags_zh": ["东西"],
        "held_out": held_out,
    }


def model_folder(folder: Path) -> Path:
    """A diffusers folder of a tiny model of random weights, which paints in two steps if it shall be fast."""
    save_folder(random_components("tiny"), folder)
    card = json.loads((folder / "card.json").read_text("utf-8"))
    card |= {"redraw_guidance": 9.0, "fast": {"steps": 2, "guidance": 1.5, "sampler": "ddim", "adapter": ""}}
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return folder
