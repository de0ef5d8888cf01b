"""The shipped model from its parts: `python recipes/assemble.py --parts runs --data stickers-known`.

Writes `src/danqing/zoo/stickers` (an ordinary diffusers folder with our card, upscaler and preview map),
`zoo/clip` and `zoo/judge`, all in half precision. Run it after any recipe; parts that `--parts` lacks stay
as they are shipped.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from common import ZOO, arguments
from danqing.data.dataset import Stickers, read_imagefolder, to_unit
from danqing.diffusion.codec import KLCodec
from danqing.families._diffusers_folder import Parts, read_folder, save_folder
from danqing.families.stable_diffusion import UPSCALERS
from danqing.nets.upscaler import Upscaler
from painter import CARD, fresh


def preview_map(codec: KLCodec, pictures: Stickers) -> Tensor:
    """The least-squares map from latents to RGB in [0, 1], [channels + 1, 3], bias last."""
    pixels = to_unit(pictures.pictures[::8])
    latents = torch.cat([codec.encode(part) for part in torch.split(pixels, 32)])
    small = torch.nn.functional.avg_pool2d(pixels[:, :3], codec.factor).add(1).div(2)
    rows = latents.movedim(1, -1).flatten(0, 2)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    return torch.linalg.lstsq(rows, small.movedim(1, -1).flatten(0, 2)).solution


def assembled(folder: Path, pictures: Stickers) -> Parts:
    """The shipped parts, each replaced by what a recipe left in `folder`."""
    parts = read_folder(ZOO / "stickers") if (ZOO / "stickers" / "unet").is_dir() else fresh(folder)
    parts = replace(parts, card=CARD)
    if (unet := folder / "painter" / "unet").is_dir():
        parts = replace(parts, unet=UNet2DConditionModel.from_pretrained(unet))
    if (vae := folder / "autoencoder" / "vae").is_dir():
        parts = replace(parts, vae=AutoencoderKL.from_pretrained(vae).eval())
    if (weights := folder / "upscaler" / "upscaler" / "model.safetensors").is_file():
        upscaler = Upscaler(UPSCALERS["sticker"])
        upscaler.load_state_dict(load_file(weights))
        parts = replace(parts, upscaler=upscaler)
    return replace(parts, latent_rgb=preview_map(KLCodec(parts.vae), pictures))


if __name__ == "__main__":
    asked = arguments(__doc__)
    model_card = ZOO / "stickers" / "README.md"
    text = model_card.read_text("utf-8") if model_card.exists() else ""
    save_folder(assembled(asked.parts, read_imagefolder(asked.data)), ZOO / "stickers")
    model_card.write_text(text, "utf-8")  # the folder was replaced whole
    if (clip := asked.parts / "clip" / "clip").is_dir():
        CLIPModel.from_pretrained(clip).half().save_pretrained(ZOO / "clip")
        CLIPTokenizer.from_pretrained(clip).save_pretrained(ZOO / "clip")
    if (judge := asked.parts / "judge" / "judge").is_dir():
        shutil.copytree(judge, ZOO / "judge", dirs_exist_ok=True)
