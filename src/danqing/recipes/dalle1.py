"""DALL-E: a VAE of tokens, then a transformer that paints with them, at 40 pixels.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs. The run has a folder for each of its two stages, and resumes in the one where it stopped.
`--steps` is the number for the transformer; the VAE takes a third of it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from danqing.data.dataset import CaptionedImages
from danqing.families import open_clip_scorer
from danqing.families.dalle1.painter import (
    DISCRETE_VAES,
    TRANSFORMERS,
    TokenPainter,
    card_of,
    fresh_transformer,
    save,
)
from danqing.families.dalle1.token_sampling import Sampling
from danqing.nets.discrete_vae import DiscreteVAE
from danqing.recipes._recipe import TrainRequest, read, recipe, styles_of
from danqing.training.codebook import codebook_start
from danqing.training.discrete_vae import DiscreteVAEObjective, DiscreteVAEOptions, resize_pictures
from danqing.training.tokens import TokenObjective, TokenOptions
from danqing.training.trainer import TrainOptions
from danqing.weights.components import read_tokenizer
from danqing.weights.shipped import shipped_part

PRESET = "sticker"
STEPS = 12000
SUMMARY = "stickers of 120 things in six styles, as 64 tokens, 40 pixels square"
# a token is five pixels wide, so smaller shifts give other tokens for the same picture
MOVES = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))


@recipe("dalle1")
def dalle1(request: TrainRequest) -> Path:
    """Train the VAE and then the transformer; writes `dalle1`, the painter's folder."""
    train_set, validation_set = read(request)
    torch.manual_seed(0)
    vae = trained_vae(request, train_set, validation_set)
    tokenizer = read_tokenizer(shipped_part("clip"))
    transformer = fresh_transformer(PRESET, vae, tokenizer)
    fields = {"summary": SUMMARY, "styles": styles_of(train_set), "guidance": 1.5}
    card = card_of("dalle1", vae, transformer, **fields)
    painter = TokenPainter(card, vae, transformer, tokenizer, Sampling(temperature=0.5), open_clip_scorer())
    objective = TokenObjective(painter, train_set, TokenOptions(moves=MOVES))
    options = TrainOptions(
        steps=request.steps or STEPS, batch=16, lr=1e-3, warmup=100, weight_decay=0.05, ema=0.998
    )
    request.train(objective, options, request.run / "transformer")
    save(painter, request.run / "dalle1")
    return request.run / "dalle1"


def trained_vae(
    request: TrainRequest, train_set: CaptionedImages, validation_set: CaptionedImages
) -> DiscreteVAE:
    """The first stage, with weights rounded to half precision: the weights on disk give the same tokens."""
    side = TRANSFORMERS[PRESET].side * DISCRETE_VAES[PRESET].factor
    vae = DiscreteVAE(DISCRETE_VAES[PRESET])
    codebook_start(vae, resize_pictures(train_set, side, vae.config.channels))
    steps = max(1, (request.steps or STEPS) // 3)
    # the start already has nearly certain tokens, so the temperature begins below the paper's 1
    vae_options = DiscreteVAEOptions(span=round(0.5 * steps), tau=0.25, usage=0.05, square=100.0)
    objective = DiscreteVAEObjective(vae, train_set, validation_set, side, vae_options)
    options = TrainOptions(steps=steps, batch=8, lr=5e-4, warmup=50, weight_decay=0.0, ema=0.995)
    request.train(objective, options, request.run / "codec")
    psnr, used = objective.eval().measure()
    request.report(f"codec: {psnr:.2f} dB on unseen pictures, perplexity {used:.0f} of {vae.config.vocab}")
    return vae.half().float()
