"""The zoo from what recipes left: `python recipes/assemble.py --parts runs --data stickers-known`.

Writes `src/danqing/zoo/stickers` (an ordinary diffusers folder with our card, upscaler and preview map),
`zoo/clip`, `zoo/judge`, `zoo/vit` and one folder for each further family, all in half precision. UNet, taught
words, ViT and families keep no more digits of their matrices than bf16 has, for a smaller clone. Run it after
any recipe; what `--parts` lacks stays as it is shipped.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

import danqing.zoo
from danqing.core.card import Fast, find_card
from danqing.data.dataset import CaptionedImages, read_imagefolder, to_unit
from danqing.diffusion.vae import DiffusersVAE
from danqing.families.stable_diffusion.painter import UPSCALERS
from danqing.nets.upscaler import Upscaler
from danqing.recipes.stable_diffusion import CARD, new_components
from danqing.weights.diffusers_folder import StableDiffusionComponents, read_folder, save_folder

ZOO = Path(danqing.zoo.__path__[0])
UNETS = ("stable_diffusion", "stable_diffusion_gpu")  # runs; the last one found is shipped
Network = TypeVar("Network", bound=torch.nn.Module)


def preview_map(vae: DiffusersVAE, pictures: CaptionedImages) -> Tensor:
    """The least-squares map from latents to RGB in [0, 1], [channels + 1, 3], bias last."""
    pixels = to_unit(pictures.pictures[::8])
    latents = torch.cat([vae.encode(part) for part in torch.split(pixels, 32)])
    small = torch.nn.functional.avg_pool2d(pixels[:, :3], vae.factor).add(1).div(2)
    rows = latents.movedim(1, -1).flatten(0, 2)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    return torch.linalg.lstsq(rows, small.movedim(1, -1).flatten(0, 2)).solution


@torch.no_grad()
def as_trained(network: Network) -> Network:
    """The network with matrices rounded to bf16, as most of its training saw them; they pack better."""
    for weight in network.parameters():
        weight.copy_(_rounded(weight))
    return network


def files_as_trained(folder: Path) -> None:
    """The same for all files of weights in a folder."""
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            notes = opened.metadata()
        weights = {name: _rounded(weight) for name, weight in load_file(file).items()}
        save_file(weights, file, metadata=notes)


def _rounded(weight: Tensor) -> Tensor:
    return weight.bfloat16().to(weight.dtype) if weight.ndim > 1 and weight.is_floating_point() else weight


def assembled(folder: Path, pictures: CaptionedImages) -> StableDiffusionComponents:
    """The shipped components, each replaced by what a recipe left in `folder`."""
    components = (
        read_folder(ZOO / "stickers") if (ZOO / "stickers" / "unet").is_dir() else new_components(folder)
    )
    card = CARD.model_copy(update={"styles": components.card.styles})
    for run in (folder / name for name in UNETS if (folder / name / "unet").is_dir()):
        components = replace(
            components,
            unet=as_trained(UNet2DConditionModel.from_pretrained(run / "unet")),
            text_encoder=CLIPTextModel.from_pretrained(run / "text_encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(run / "tokenizer"),
            adapters={},  # were distilled from another one
        )
        card = find_card(run) or CARD
    if (taught := folder / "words" / "text_encoder").is_dir():
        components = replace(components, text_encoder=as_trained(CLIPTextModel.from_pretrained(taught)))
    if _fits(fast := folder / "fast" / "fast.safetensors"):
        components = replace(components, adapters={"fast": fast})
    if "fast" in components.adapters:
        card = card.model_copy(update={"fast": Fast(steps=4, adapter="fast")})
    components = replace(components, card=card)
    if (vae := folder / "autoencoder" / "vae").is_dir():
        components = replace(components, vae=AutoencoderKL.from_pretrained(vae).eval())
    if (weights := folder / "upscaler" / "upscaler" / "model.safetensors").is_file():
        upscaler = Upscaler(UPSCALERS["sticker"])
        upscaler.load_state_dict(load_file(weights))
        components = replace(components, upscaler=upscaler)
    return replace(components, latent_rgb=preview_map(DiffusersVAE(components.vae), pictures))


def _fits(adapter: Path) -> bool:
    """Whether there is one, and it is not older than a UNet beside it, hence distilled from another."""
    runs = (adapter.parents[1] / name / "unet" / "config.json" for name in UNETS)
    made = max((run.stat().st_mtime for run in runs if run.is_file()), default=0.0)
    return adapter.is_file() and adapter.stat().st_mtime > made


@contextmanager
def kept_card(folder: Path) -> Iterator[None]:
    """The model card in a folder that is replaced whole comes back."""
    place = folder / "README.md"
    text = place.read_text("utf-8") if place.exists() else None
    yield
    if text is not None:
        place.write_text(text, "utf-8")


def families(folder: Path) -> Iterator[Path]:
    """The finished painters that recipes left: RUN/NAME/card.json where RUN is called NAME too."""
    yield from (
        card.parent for card in sorted(folder.glob("*/*/card.json")) if card.parts[-2] == card.parts[-3]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=Path, default=Path("runs"), help="where recipes left their weights")
    parser.add_argument("--data", type=Path, default=Path("stickers"), help="pictures for the preview map")
    asked = parser.parse_args()
    if any((asked.parts / part).is_dir() for part in (*UNETS, "words", "autoencoder", "upscaler", "fast")):
        with kept_card(ZOO / "stickers"):
            save_folder(assembled(asked.parts, read_imagefolder(asked.data)), ZOO / "stickers")
    if (clip := asked.parts / "clip" / "clip").is_dir():
        CLIPModel.from_pretrained(clip).half().save_pretrained(ZOO / "clip")
        CLIPTokenizer.from_pretrained(clip).save_pretrained(ZOO / "clip")
    for name in ("judge", "vit"):
        if (part := asked.parts / name / name).is_dir():
            shutil.copytree(part, ZOO / name, dirs_exist_ok=True)
            if name != "judge":  # which measures, with every digit
                files_as_trained(ZOO / name)
    for painter in families(asked.parts):
        with kept_card(ZOO / painter.name):
            shutil.rmtree(ZOO / painter.name, ignore_errors=True)
            shutil.copytree(painter, ZOO / painter.name)
        files_as_trained(ZOO / painter.name)
