"""DDPM: a UNet removes Gaussian noise from pixels, step by step; no words, or the names of what it has seen.

Papers: Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239; Nichol and Dhariwal, Improved
DDPM, arXiv 2102.09672 (cosine schedule, learned variance, fewer steps).
Differs: names are told by a label (see `_names`), each with an embedding that is added to the time's, and at
times none is, so that classifier-free guidance works. The sticker preset predicts v and sees the picture
folded, 2 x 2 pixels to one of 16 channels, which trains half again as fast.
Licences: code Apache-2.0; weights are whoever trained them's (google/ddpm-*: Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from danqing.core.card import Can, Card
from danqing.core.errors import BadWeights
from danqing.core.painter import Conditioning
from danqing.core.registry import family
from danqing.diffusion.codec import IdentityCodec
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import clamped
from danqing.diffusion.variance import Variance
from danqing.families._diffusers_folder import attention_key, read_card
from danqing.families._names import NO_NAMES, Names, label_of
from danqing.families._pretrained import (
    Config,
    read_json,
    read_module,
    replacing_folder,
    write_json,
    write_module,
)

_PIPELINES = ("DDPMPipeline", "DDIMPipeline")
_STEM = "diffusion_pytorch_model"
_OURS = "danqing.json"  # what a diffusers folder cannot say: how pictures are folded, and names
_DOWN, _DOWN_ATTENTION, _UP, _UP_ATTENTION = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"

IMPROVED: Config = {
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "variance_type": "learned_range",
    "timestep_spacing": "trailing",
    "clip_sample": True,
}
ORIGINAL: Config = {
    "beta_schedule": "linear",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "variance_type": "fixed_large",
    "clip_sample": True,
}


@dataclass(frozen=True)
class Preset:
    """A network for pictures of `channels`, 4 being with alpha, folded `fold` x `fold` pixels to one."""

    side: int
    channels: int
    fold: int
    scheduler: Config
    network: Config


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        side=16,
        channels=4,
        fold=2,
        scheduler=IMPROVED,
        network={
            "block_out_channels": (16, 32),
            "down_block_types": (_DOWN, _DOWN_ATTENTION),
            "up_block_types": (_UP_ATTENTION, _UP),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
    ),
    # 83 training pictures a second on one AVX-512 core in bf16; unfolded, as large a one does 55
    "sticker": Preset(
        side=32,
        channels=4,
        fold=2,
        scheduler=IMPROVED,
        network={
            "block_out_channels": (64, 128, 160),
            "down_block_types": (_DOWN, _DOWN_ATTENTION, _DOWN),
            "up_block_types": (_UP, _UP_ATTENTION, _UP),
            "layers_per_block": 1,
            "norm_num_groups": 16,
            "attention_head_dim": 32,
        },
    ),
    # CIFAR-10 of 2006.11239 appendix B, as google/ddpm-cifar10-32 has it
    "cifar10": Preset(
        side=32,
        channels=3,
        fold=1,
        scheduler=ORIGINAL,
        network={
            "block_out_channels": (128, 256, 256, 256),
            "down_block_types": (_DOWN, _DOWN_ATTENTION, _DOWN, _DOWN),
            "up_block_types": (_UP, _UP, _UP_ATTENTION, _UP),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "norm_eps": 1e-6,
            "attention_head_dim": None,
            "downsample_padding": 0,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
            "dropout": 0.1,
        },
    ),
}


@dataclass(frozen=True)
class Parts:
    """What a folder holds: `scheduler` as a diffusers config. See `Denoiser` for `names` and `fold`."""

    unet: UNet2DModel
    scheduler: Config
    card: Card
    names: Names = NO_NAMES
    fold: int = 1


class LabelEmbedding(nn.Embedding):
    """A class embedding for several classes at once, each as far as the label says; 0 is the null label.

    To other programs it is an embedding of one more class, the last, which is that of no label: all zeros.
    """

    def forward(self, label: Tensor) -> Tensor:
        """Label [n k], in any mixture -> [n width]."""
        return label @ self.weight[: label.shape[1]]


@dataclass(frozen=True)
class Denoiser:
    """A UNet as a `Network` that sees pictures folded and is told the first `labels` numbers of a label."""

    unet: UNet2DModel
    labels: int
    fold: int

    def __call__(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        """Output [n c h w], or [n 2c h w] with a learned variance, for x [n c h w] at the times t [n]."""
        label = label_of(words, self.labels) if self.labels else None
        folded = F.pixel_unshuffle(x, self.fold)
        output = self.unet(folded, t, class_labels=label, return_dict=False)[0]
        return F.pixel_shuffle(output, self.fold)


def painter_of(parts: Parts) -> DiffusionPainter:
    """The parts put together.

    Raises:
        BadWeights: the scheduler config does not describe a known schedule, prediction, variance or limit.
    """
    config = parts.scheduler
    if config.get("thresholding") or config.get("clip_sample_range", 1.0) != 1.0:
        raise BadWeights("scheduler: thresholding or a clip_sample_range other than 1 is not known: unset it")
    return DiffusionPainter(
        card=parts.card,
        text=parts.names,
        network=Denoiser(parts.unet.eval(), len(parts.names), parts.fold),
        prediction=Prediction(config.get("prediction_type", "epsilon")),
        schedule=Schedule.from_config(config),
        codec=IdentityCodec(_pixel_channels(parts.unet, parts.fold)),
        modules={"unet": parts.unet},
        limit=clamped if config.get("clip_sample", True) else None,
        variance=Variance(config.get("variance_type", "fixed_small")),
    )


@family("ddpm")
def open_weights(folder: Path) -> DiffusionPainter:
    """A painter from a folder of diffusers' DDPMPipeline, or of our own.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    return painter_of(read_folder(folder))


def read_folder(folder: Path) -> Parts:
    """The parts in a folder, in float32 on the CPU. Older folders have all files side by side.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
    """
    kind = read_json(folder / "model_index.json").get("_class_name")
    if kind not in _PIPELINES:
        raise BadWeights(f"{str(folder)!r} holds {kind}, not {' or '.join(_PIPELINES)}: it is another model")
    inside = {name: folder / name if (folder / name).is_dir() else folder for name in ("unet", "scheduler")}
    scheduler = read_json(inside["scheduler"] / "scheduler_config.json")
    unet = read_module(inside["unet"], _build, attention_key)
    ours = read_json(folder / _OURS) if (folder / _OURS).is_file() else {}
    names, fold = _names(folder / _OURS, ours, unet), ours.get("fold", 1)
    channels, told = unet.config.in_channels, Variance(scheduler.get("variance_type", "fixed_small"))
    given = channels * (2 if told is Variance.LEARNED else 1)
    if unet.config.out_channels != given:
        raise BadWeights(
            f"{str(inside['unet'])!r} answers {unet.config.out_channels} channels to {channels}, and with "
            f"variance_type {told.value!r} it should be {given}: correct scheduler_config.json"
        )
    if not isinstance(fold, int) or fold < 1 or channels % fold**2:
        raise BadWeights(
            f"{str(folder / _OURS)!r}: fold {fold!r} does not fit {channels} channels: fetch it again"
        )
    card = read_card(folder / "card.json") or derived_card(folder.name, unet, names, fold)
    return Parts(unet, scheduler, card, names, fold)


def save_folder(parts: Parts, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a diffusers folder, whole or not at all; where nothing is folded, DDPMPipeline opens it too.

    Raises:
        BadWeights: a value does not fit into `dtype`. DanqingError: the folder cannot be written.
    """
    with replacing_folder(folder) as draft:
        parts.unet.save_config(draft / "unet")
        config = read_json(draft / "unet" / "config.json")
        write_module(parts.unet, config, draft / "unet", _STEM, dtype)
        DDPMScheduler.from_config(parts.scheduler).save_config(draft / "scheduler")
        write_json(parts.card.model_dump(mode="json"), draft / "card.json")
        write_json({"fold": parts.fold, "names": list(parts.names.entries)}, draft / _OURS)
        index = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
        told = {"_class_name": _PIPELINES[0], "_diffusers_version": diffusers.__version__}
        write_json({**told, **index}, draft / "model_index.json")


def derived_card(name: str, unet: UNet2DModel, names: Names, fold: int) -> Card:
    """What can be said of a model from its network alone."""
    size = unet.config.sample_size
    height, width = ((side * fold) for side in ((size, size) if isinstance(size, int) else size))
    can = {Can.REDRAW, Can.INPAINT, Can.TILE}
    can |= {Can.WORDS, Can.NEGATIVE} if names.entries else set()
    can |= {Can.ALPHA} if _pixel_channels(unet, fold) == 4 else set()
    return Card(
        name=name,
        family="ddpm",
        summary=f"a diffusion model of pixels for pictures of {width} x {height}",
        paper="2006.11239",
        year=2020,
        licence="unknown: ask whoever made the folder",
        width=width,
        height=height,
        grid=fold * 2 ** (len(unet.config.block_out_channels) - 1),
        steps=50,
        guidance=1.0,
        sampler="ddim",
        can=frozenset(can),
    )


def fresh_parts(preset: str, names: Names = NO_NAMES, seed: int = 0) -> Parts:
    """Parts of a preset with random weights, the same for the same seed: to train, and for tests."""
    chosen = PRESETS[preset]
    folded = chosen.channels * chosen.fold**2
    learned = chosen.scheduler["variance_type"] == Variance.LEARNED
    config = {
        **chosen.network,
        "sample_size": chosen.side // chosen.fold,
        "in_channels": folded,
        "out_channels": folded * (2 if learned else 1),
        "num_class_embeds": len(names) + 1 if names.entries else None,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _build(config).eval()
    card = derived_card(preset, unet, names, chosen.fold)
    return Parts(unet, chosen.scheduler, card, names, chosen.fold)


def random_painter(preset: str = "tiny", names: Names = NO_NAMES, seed: int = 0) -> DiffusionPainter:
    """A painter of `fresh_parts`."""
    return painter_of(fresh_parts(preset, names, seed))


def _build(config: Config) -> UNet2DModel:
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
    """The names that the folder tells; the numbers of the classes where another program wrote it."""
    classes = unet.config.num_class_embeds or 0
    entries = ours.get("names", [str(k) for k in range(classes)])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise BadWeights(f"{str(path)!r}: names is no list of words: fetch it again")
    if len(entries) > classes:
        raise BadWeights(
            f"{str(path)!r} has {len(entries)} names, the network knows {classes}: fetch it again"
        )
    return Names(tuple(entries))


def _pixel_channels(unet: UNet2DModel, fold: int) -> int:
    channels: int = unet.config.in_channels
    return channels // fold**2
