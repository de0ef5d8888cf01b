"""The folder of diffusers' DDPMPipeline: model_index.json, unet/ and scheduler/, and two files of our own.

card.json (the card of the model) and danqing.json (the patch size and the class names) are optional; other
programs ignore them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from danqing.conditioning.names import NO_NAMES, Names
from danqing.core.card import Can, Card, find_card
from danqing.core.errors import BadWeights
from danqing.weights.components import attention_key
from danqing.weights.diffusers_folder import check_channels
from danqing.weights.pretrained import (
    Config,
    read_json,
    read_module,
    replacing_folder,
    write_json,
    write_module,
)

_PIPELINES = ("DDPMPipeline", "DDIMPipeline")
_STEM = "diffusion_pytorch_model"
_OURS = "danqing.json"


@dataclass(frozen=True)
class DDPMComponents:
    """The content of a folder.

    scheduler: a scheduler config of diffusers.
    names: the class names.
    patch_size: patches of `patch_size` x `patch_size` pixels are one pixel of more channels to the network.
    """

    unet: UNet2DModel
    scheduler: Config
    card: Card
    names: Names = NO_NAMES
    patch_size: int = 1


class LabelEmbedding(nn.Embedding):
    """A class embedding for mixtures of classes, weighted by the label; a label of zeros means no class.

    The file has one more class at the end, whose embedding is zeros: other programs use it for no class.
    """

    def forward(self, label: Tensor) -> Tensor:
        """Label [n k], any mixture of classes -> embedding [n width]."""
        return label @ self.weight[: label.shape[1]]


def read_folder(folder: Path) -> DDPMComponents:
    """Read the components in a folder, in float32 on the CPU. Old folders have all files without subfolders.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    kind = read_json(folder / "model_index.json").get("_class_name")
    if kind not in _PIPELINES:
        raise BadWeights(f"{str(folder)!r} holds {kind}, not {' or '.join(_PIPELINES)}: it is another model")
    inside = {name: folder / name if (folder / name).is_dir() else folder for name in ("unet", "scheduler")}
    scheduler = read_json(inside["scheduler"] / "scheduler_config.json")
    unet = read_module(inside["unet"], build_unet, attention_key)
    ours = read_json(folder / _OURS) if (folder / _OURS).is_file() else {}
    names, patch_size = _names(folder / _OURS, ours, unet), ours.get("fold", 1)
    check_channels(inside["unet"], unet.config, scheduler)
    if not isinstance(patch_size, int) or patch_size < 1 or unet.config.in_channels % patch_size**2:
        raise BadWeights(
            f"{str(folder / _OURS)!r}: fold {patch_size!r} does not fit {unet.config.in_channels} channels: "
            "fetch it again"
        )
    if (pixels := pixel_channels(unet, patch_size)) not in (3, 4):
        raise BadWeights(
            f"{str(inside['unet'])!r} paints pictures of {pixels} channels, where colour has 3, or 4 with "
            "alpha: choose another model"
        )
    card = find_card(folder) or derived_card(folder.name, unet, names, patch_size)
    return DDPMComponents(unet, scheduler, card, names, patch_size)


def save_folder(components: DDPMComponents, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a diffusers folder, completely or not at all.

    If the patch size is 1, diffusers' DDPMPipeline can open it too.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        components.unet.save_config(draft / "unet")
        config = read_json(draft / "unet" / "config.json")
        write_module(components.unet, config, draft / "unet", _STEM, dtype)
        DDPMScheduler.from_config(components.scheduler).save_config(draft / "scheduler")
        write_json(components.card.model_dump(mode="json"), draft / "card.json")
        write_json({"fold": components.patch_size, "names": list(components.names.entries)}, draft / _OURS)
        index = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
        pipeline = {"_class_name": _PIPELINES[0], "_diffusers_version": diffusers.__version__}
        write_json({**pipeline, **index}, draft / "model_index.json")


def derived_card(name: str, unet: UNet2DModel, names: Names, patch_size: int) -> Card:
    """The card of a model from its network alone."""
    size = unet.config.sample_size
    height, width = ((side * patch_size) for side in ((size, size) if isinstance(size, int) else size))
    can = {Can.REDRAW, Can.INPAINT, Can.TILE}
    can |= {Can.WORDS, Can.NEGATIVE} if names.entries else set()
    can |= {Can.ALPHA} if pixel_channels(unet, patch_size) == 4 else set()
    return Card(
        name=name,
        family="ddpm",
        summary=f"a diffusion model of pixels for pictures of {width} x {height}",
        paper="2006.11239",
        year=2020,
        licence="unknown: ask whoever made the folder",
        width=width,
        height=height,
        size_multiple=patch_size * 2 ** (len(unet.config.block_out_channels) - 1),
        steps=50,
        guidance=1.0,
        sampler="ddim",
        can=frozenset(can),
    )


def build_unet(config: Config) -> UNet2DModel:
    """A UNet with random weights; its class embedding, if it has one, is a `LabelEmbedding`."""
    kind, classes = config.get("class_embed_type"), config.get("num_class_embeds")
    if kind is not None:
        raise ValueError(f"class_embed_type {kind!r}, where only num_class_embeds is known")
    unet = UNet2DModel.from_config(config)
    if classes is not None:
        unet.class_embedding = LabelEmbedding(classes, unet.class_embedding.embedding_dim)
        with torch.no_grad():
            unet.class_embedding.weight[-1] = 0
    return unet


def _names(path: Path, ours: Config, unet: UNet2DModel) -> Names:
    """The class names in the folder; the class numbers for a folder of another program."""
    classes = unet.config.num_class_embeds or 0
    entries = ours.get("names", [str(k) for k in range(classes)])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise BadWeights(f"{str(path)!r}: names is no list of words: fetch it again")
    if len(entries) > classes:
        raise BadWeights(
            f"{str(path)!r} has {len(entries)} names, the network knows {classes}: fetch it again"
        )
    return Names(tuple(entries))


def pixel_channels(unet: UNet2DModel, patch_size: int) -> int:
    """Number of channels of the pictures: 3, or 4 with alpha."""
    channels: int = unet.config.in_channels
    return channels // patch_size**2
