"""DDPM: a diffusion model of pixels, of stickers at 32 pixels.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs, reduced to 32 pixels. More steps give better pictures; the run can be continued.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from danqing.core.card import Card
from danqing.families.ddpm.folder import DDPMComponents, read_folder, save_folder
from danqing.families.ddpm.painter import fresh_components, painter_of
from danqing.recipes._recipe import TrainRequest, read, recipe, styles_of
from danqing.training.diffusion import DenoisingObjective, DiffusionOptions, Labels
from danqing.training.gan import names_of
from danqing.training.trainer import TrainOptions
from danqing.weights.shipped import shipped_part

PRESET = "sticker"
PROBES = (
    "a cat, 3d",
    "a red apple, cartoon",
    "一只兔子，剪纸",
    "a dragon, ink wash",
    "a rocket, flat",
    "青花瓷 茶壶",
    "a hamburger, 3d",
    "a house, cartoon",
    "a rose, 3d",
    "a penguin, flat",
    "a panda, ink wash",
    "蝴蝶，剪纸",
)


@recipe("ddpm", further=True)
def ddpm(request: TrainRequest) -> Path:
    """Train the UNet; writes `ddpm`, the painter's folder."""
    train_set, _ = read(request)
    components = (
        read_folder(shipped_part("ddpm"))
        if request.further
        else fresh_components(PRESET, names_of(train_set))
    )
    if not request.further:
        components = replace(components, card=shipped_card(components, styles_of(train_set)))
    options = DiffusionOptions(probes=PROBES, mirror=0.5)
    labels = Labels(components.names, train_set, options)
    objective = DenoisingObjective(painter_of(components), components.unet, train_set, labels, options)
    pace = TrainOptions(
        steps=request.steps or 8000, batch=32, lr=1e-3, warmup=200, ema=0.9995, sheet_every=1000
    )
    request.train(objective, pace, request.run)
    save_folder(components, request.run / "ddpm")
    return request.run / "ddpm"


def shipped_card(components: DDPMComponents, styles: dict[str, str]) -> Card:
    """The card of the trained model."""
    fields = {
        "name": "ddpm",
        "summary": f"stickers of things it knows by name, {components.card.width} pixels square",
        "licence": "Apache-2.0",
        "steps": 25,
        "guidance": 3.0,
        "sampler": "dpmpp_2m",
        "prompt_type": "names it knows",
        "styles": styles,
    }
    return components.card.model_copy(update=fields)
