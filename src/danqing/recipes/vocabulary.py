"""Further things for the shipped painter: its UNet learns them by the words of the shipped CLIP.

Data: `danqing data stickers FOLDER --known --vocabulary recipes/next_vocabulary.txt --styles
3d,flat,cartoon,paper-cut,porcelain,ink-wash`, then `danqing data scenes` of it. Starts from the UNet of the
shipped painter and the text encoder of `zoo/clip`, from which the painter's own was distilled, so that the
UNet still paints what it has learned. Two drawings in three are of new things; the others are of the shipped
vocabulary, so that it is not forgotten. Afterwards `danqing train wording` trains the encoder on sentences.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import CLIPTextModel, CLIPTokenizer

from danqing.core.device import resolve_device
from danqing.data.dataset import CaptionedImages
from danqing.data.vocabulary import things
from danqing.families.stable_diffusion.painter import painter_of
from danqing.recipes._recipe import TrainRequest, probes_of, read, recipe
from danqing.training.diffusion import DiffusionObjective, DiffusionOptions
from danqing.training.trainer import TrainOptions
from danqing.weights.diffusers_folder import read_folder
from danqing.weights.shipped import shipped_part

PACE = TrainOptions(steps=13_000, batch=16, lr=6e-4, warmup=200, ema=0.9995, save_every=250, sheet_every=1000)
OPTIONS = DiffusionOptions(wide=0.08, scenes=0.25, rehearsal=0.35, gamma=5.0)


@recipe("vocabulary")
def vocabulary(request: TrainRequest) -> Path:
    """Teach the shipped painter the rest of a vocabulary; writes `unet`, and `text_encoder` as it was."""
    pictures, _ = read(request)
    before = set(things())
    rows = tuple({**row, "learned": row.get("concept") in before} for row in pictures.rows)
    pictures = CaptionedImages(pictures.pictures, rows)
    clip = shipped_part("clip")
    components = replace(
        read_folder(shipped_part("stickers")),
        text_encoder=CLIPTextModel.from_pretrained(clip).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(clip),
    )
    painter = painter_of(components)
    painter.place(resolve_device(request.device))  # so that the pictures are encoded on that device
    objective = DiffusionObjective(
        painter, components.unet, pictures, replace(OPTIONS, probes=probes_of(pictures))
    )
    request.train(objective, replace(PACE, steps=request.steps or PACE.steps), request.run)
    objective.export(request.run / "unet")
    components.text_encoder.save_pretrained(request.run / "text_encoder")
    return request.run / "unet"
