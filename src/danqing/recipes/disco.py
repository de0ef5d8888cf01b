"""Disco Diffusion: nothing to train, a folder that names the DDPM and the CLIP that leads it.

Data: none. Run it after `ddpm`: the folder refers to the weights that `ddpm` wrote, or to the shipped ones.
"""

from __future__ import annotations

from pathlib import Path

from danqing.core.errors import BadWeights
from danqing.diffusion.painter import DiffusionPainter
from danqing.families import open_clip_scorer, open_painter
from danqing.families.disco.painter import DiscoPainter, disco_card, save_disco
from danqing.families.disco.settings import Settings
from danqing.recipes._recipe import TrainRequest, recipe
from danqing.weights.shipped import shipped_part

PRIOR = "ddpm"
# small pictures gain nothing from inner cuts, and even one batch of cuts a step takes seconds on a laptop
SETTINGS = Settings(cutn_batches=1, cut_overview="[2]*1000", cut_innercut="[1]*1000")


@recipe("disco")
def disco(request: TrainRequest) -> Path:
    """Write `disco`, the painter's folder."""
    made = request.parts / PRIOR / PRIOR
    folder = made if made.is_dir() else shipped_part(PRIOR)
    prior = open_painter(str(folder))
    if not isinstance(prior, DiffusionPainter):
        raise BadWeights(f"{str(folder)!r} is no diffusion model: train ddpm first")
    card = disco_card("disco", prior.card)
    painter = DiscoPainter(card, prior, (open_clip_scorer(),), SETTINGS)
    save_disco(painter, request.run / "disco", str(made.resolve()) if made.is_dir() else PRIOR)
    return request.run / "disco"
