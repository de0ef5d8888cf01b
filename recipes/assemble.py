"""The shipped model from its parts: `python recipes/assemble.py --parts runs --data stickers-known`.

Writes `src/danqing/zoo/stickers` (an ordinary diffusers folder with our card, upscaler and preview map),
`zoo/clip` and `zoo/judge`, all in half precision. Run it after any recipe; parts not trained again are
copied as they are.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from danqing.data.dataset import Stickers, read_imagefolder, to_unit
from danqing.diffusion.codec import KLCodec
from danqing.families._diffusers_folder import Parts, save_folder
from danqing.families.stable_diffusion import SCHEDULE, UPSCALERS
from danqing.nets.upscaler import Upscaler
from painter import CARD

ZOO = Path(__file__).parents[1] / "src" / "danqing" / "zoo"


def preview_map(codec: KLCodec, pictures: Stickers) -> Tensor:
    """The least-squares map from latents to RGB in [0, 1], [channels + 1, 3], bias last."""
    pixels = to_unit(pictures.pictures[::8])
    latents = torch.cat([codec.encode(part) for part in torch.split(pixels, 32)])
    small = torch.nn.functional.avg_pool2d(pixels[:, :3], codec.factor).add(1).div(2)
    rows = latents.movedim(1, -1).flatten(0, 2)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    return torch.linalg.lstsq(rows, small.movedim(1, -1).flatten(0, 2)).solution


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=Path, default=Path("runs"))
    parser.add_argument("--data", type=Path, default=Path("stickers-known"))
    asked = parser.parse_args()
    clip = asked.parts / "clip" / "clip"
    vae = AutoencoderKL.from_pretrained(asked.parts / "autoencoder" / "vae").eval()
    upscaler = Upscaler(UPSCALERS["sticker"])
    upscaler.load_state_dict(load_file(asked.parts / "upscaler" / "upscaler" / "model.safetensors"))
    parts = Parts(
        unet=UNet2DConditionModel.from_pretrained(asked.parts / "painter" / "unet"),
        vae=vae,
        text_encoder=CLIPTextModel.from_pretrained(clip),
        tokenizer=CLIPTokenizer.from_pretrained(clip),
        scheduler=SCHEDULE,
        card=CARD,
        upscaler=upscaler,
        latent_rgb=preview_map(KLCodec(vae), read_imagefolder(asked.data)),
    )
    model_card = ZOO / "stickers" / "README.md"
    text = model_card.read_text("utf-8") if model_card.exists() else ""
    save_folder(parts, ZOO / "stickers")
    model_card.write_text(text, "utf-8")  # the folder was replaced whole
    CLIPModel.from_pretrained(clip).half().save_pretrained(ZOO / "clip")
    CLIPTokenizer.from_pretrained(clip).save_pretrained(ZOO / "clip")
    shutil.copytree(asked.parts / "judge" / "judge", ZOO / "judge", dirs_exist_ok=True)
