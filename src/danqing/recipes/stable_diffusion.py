"""Stable Diffusion: the UNet of the shipped painter, on 16 x 16 latents of 16 channels.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs; to learn colours and numbers, `danqing data scenes` of that. Needs the VAE and the CLIP of the
other recipes. More steps give better pictures; the run can be continued. With `--further` it starts from the
shipped model, with the autoencoder and the CLIP among the parts if there are any.

The shipped weights: 1,000 steps on 240 things, then 4,000 on the 120 of the present vocabulary, on 8 latent
channels; the run was stopped and continued with other numbers of steps (9,000, 4,200, 5,400, 5,000), so its
learning rate is not a single cosine. Then `--further` on 16 channels, with 5,500 steps to step 1,500 and
6,500 until it was stopped at step 6,000. Then `--further` again with the CLIP of 2,400 steps, scenes and
canvases that are not square: 15,500 steps, in five runs; in the first 7,500 of them seven pictures in ten
were scenes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from danqing.core.card import Can, Card, Fast
from danqing.core.device import resolve_device
from danqing.core.errors import BadBrief
from danqing.data.captions import STYLE_WORDS
from danqing.data.dataset import CaptionedImages
from danqing.families.stable_diffusion.painter import SCHEDULE, UNETS, painter_of
from danqing.recipes._recipe import TrainRequest, probes_of, read, recipe, styles_of
from danqing.training.diffusion import DiffusionObjective, DiffusionOptions, with_more_channels
from danqing.training.trainer import TrainOptions
from danqing.weights.diffusers_folder import StableDiffusionComponents, read_folder
from danqing.weights.pretrained import write_json
from danqing.weights.shipped import shipped_part

STYLES = ("3d", "flat", "cartoon", "paper-cut", "porcelain", "ink-wash")

CARD = Card(
    name="stickers",
    family="stable_diffusion",
    summary="stickers and icons of 120 things in six styles, on transparent ground",
    paper="2112.10752",
    year=2022,
    licence="Apache-2.0",
    width=128,
    height=128,
    size_multiple=32,
    scale=4,
    steps=20,
    guidance=2.0,
    redraw_guidance=8.0,
    sampler="dpmpp_2m",
    # no adapter needed: each thing has one drawing in a style, which few steps find
    fast=Fast(steps=4, guidance=1.5, sampler="dpmpp_2m"),
    can=frozenset(Can),
    styles={style: "/".join(STYLE_WORDS[style]) for style in STYLES},
)


WIDE = 0.15  # share of the batches on canvases that are not square
PACE = TrainOptions(steps=5000, batch=32, lr=8e-4, warmup=300, ema=0.9995, sheet_every=1000)


@recipe("stable_diffusion", further=True)
def stable_diffusion(request: TrainRequest) -> Path:
    """Train the UNet; writes `unet`, a diffusers component, the words it learned with, and its card."""
    return train_unet(request, PACE)


def train_unet(request: TrainRequest, pace: TrainOptions) -> Path:
    """Train the UNet with these options, but the number of steps of the request; see `stable_diffusion`."""
    train_set, _ = read(request)
    components = _open_shipped(request.parts) if request.further else new_components(request.parts)
    painter = painter_of(components)
    painter.place(resolve_device(request.device))  # so that the pictures are encoded on that device
    wide = (
        WIDE if bool((train_set.pictures[:, 3] == 0).any()) else 0.0
    )  # the background of photos would have to be invented
    options = DiffusionOptions(probes=probes_of(train_set), wide=wide)
    objective = DiffusionObjective(painter, components.unet, train_set, options)
    pace = replace(pace, steps=request.steps or pace.steps)
    request.train(objective, pace, request.run)
    objective.export(request.run / "unet")
    components.text_encoder.save_pretrained(request.run / "text_encoder")
    components.tokenizer.save_pretrained(request.run / "tokenizer")
    write_json(_card(train_set).model_dump(mode="json"), request.run / "card.json")
    return request.run / "unet"


def _card(pictures: CaptionedImages) -> Card:
    """The card of a painter trained on these pictures, which may have other styles."""
    return CARD.model_copy(update={"styles": styles_of(pictures) or CARD.styles})


def new_components(folder: Path) -> StableDiffusionComponents:
    """A UNet with random weights, and the VAE and the CLIP that earlier recipes left in `folder`.

    Raises:
        BadBrief: one of them is missing.
    """
    vae, clip = folder / "autoencoder" / "vae", folder / "clip" / "clip"
    for name, place in (("autoencoder", vae), ("clip", clip)):
        if not place.is_dir():
            raise BadBrief(
                f"{str(place)!r} is missing: run 'danqing train {name}' first, or start from the shipped "
                "model with --further"
            )
    return StableDiffusionComponents(
        unet=UNet2DConditionModel(**UNETS["sticker"]),
        vae=AutoencoderKL.from_pretrained(vae),
        text_encoder=CLIPTextModel.from_pretrained(clip),
        tokenizer=CLIPTokenizer.from_pretrained(clip),
        scheduler=SCHEDULE,
        card=CARD,
    )


def _open_shipped(folder: Path) -> StableDiffusionComponents:
    """The shipped model, with the CLIP and the VAE in `folder` if there are any."""
    components, clip = read_folder(shipped_part("stickers")), folder / "clip" / "clip"
    if clip.is_dir():
        text_encoder, words = CLIPTextModel.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip)
        components = replace(components, text_encoder=text_encoder.eval(), tokenizer=words)
    newer = folder / "autoencoder" / "vae"
    if not newer.is_dir():
        return components
    vae = AutoencoderKL.from_pretrained(newer)
    channels = vae.config.latent_channels
    fits = channels == components.unet.config.in_channels
    return replace(
        components,
        vae=vae,
        unet=components.unet if fits else with_more_channels(components.unet, channels),
        latent_rgb=None,
    )
