"""CLIP: an image encoder and a text encoder with one embedding space.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv
2103.00020.
Differs: it is small and bilingual; its contrastive loss also compares English and Chinese captions of the
same picture.
Licences: code Apache-2.0; the shipped weights were trained from scratch on openly licensed pictures (see
NOTICE).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from danqing.core.errors import BadWeights, shorten
from danqing.core.images import pad_to_square
from danqing.nets.placement import as_input, move, to_float32
from danqing.weights.components import read_tokenizer
from danqing.weights.pretrained import Config, read_json, read_module
from danqing.weights.tensor_files import first_line

T = TypeVar("T")

_BILINEAR = 2  # Pillow's number, as in preprocessor_config.json

_ENCODER_TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_ENCODER_STICKER = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
}

# GELU as in OpenCLIP, not the QuickGELU of OpenAI's weights
TEXT: dict[str, Config] = {
    "tiny": {**_ENCODER_TINY, "max_position_embeddings": 16, "hidden_act": "gelu", "projection_dim": 32},
    "sticker": {
        **_ENCODER_STICKER,
        "max_position_embeddings": 48,
        "hidden_act": "gelu",
        "projection_dim": 192,
    },
}
VISION: dict[str, Config] = {
    "tiny": {**_ENCODER_TINY, "image_size": 32, "patch_size": 8, "hidden_act": "gelu", "projection_dim": 32},
    "sticker": {
        **_ENCODER_STICKER,
        "image_size": 128,
        "patch_size": 16,
        "hidden_act": "gelu",
        "projection_dim": 192,
    },
}


def build_clip(preset: str, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP with random weights and the vocabulary of `tokenizer`."""
    special = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**TEXT[preset], **special},
        vision_config=VISION[preset],
        projection_dim=TEXT[preset]["projection_dim"],
    )
    return CLIPModel(config)


@dataclass(frozen=True)
class ImageProcessor:
    """The preprocessing of an image encoder.

    side: side of its square input in pixels.
    mean, deviation: mean and standard deviation of each colour, of values in [0, 1].
    resize: the interpolation in its training: "area" for our encoders; antialiased "bicubic" (CLIP) or
        "bilinear" (ViT) for published ones.
    """

    side: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize: str = "area"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Preprocess pictures [n 3 h w] in [-1, 1]; pictures that are not square get white margins."""
        smooth = self.resize != "area"
        square = F.interpolate(pad_to_square(pixels), (self.side,) * 2, mode=self.resize, antialias=smooth)
        square = square.clamp(-1, 1) if smooth else square  # bicubic overshoots; bytes would be clipped
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1).to(square) for v in (self.mean, self.deviation))
        return (square - (2 * mean - 1)) / (2 * deviation)


@dataclass(frozen=True)
class ClipScorer:
    """Scores how well texts and pictures match, by CLIP.

    Pictures are [n c h w] in [-1, 1] of any size. An alpha channel is ignored; colour is composited over
    white already. Gradients flow to pixels, never to weights.

    model: both encoders.
    tokenizer: the tokenizer of the text encoder.
    processor: the preprocessing of the image encoder.
    batch: batch size of the image encoder.
    """

    model: CLIPModel
    tokenizer: CLIPTokenizer
    processor: ImageProcessor
    batch: int = 64

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @classmethod
    def of(cls, model: CLIPModel, tokenizer: CLIPTokenizer) -> ClipScorer:
        """A scorer with the preprocessing of our own encoders."""
        return cls(model, tokenizer, ImageProcessor(model.config.vision_config.image_size))

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move both encoders to `device` and let them compute in `dtype`; None is float32."""
        move(device, dtype, self.model)

    @property
    def scale(self) -> float:
        """The factor of cosine similarities before a softmax (arXiv 2103.00020 section 2.3)."""
        return float(self.model.logit_scale.exp())

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """Pictures -> unit embeddings [n d]."""
        parts = torch.split(pixels[:, :3], self.batch)
        inputs = (as_input(self.model, self.processor(part)) for part in parts)
        features = [self.model.get_image_features(part).pooler_output for part in inputs]
        return F.normalize(to_float32(torch.cat(features)), dim=-1)

    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Texts -> unit embeddings [n d]; a text is truncated to the length of the encoder."""
        features = [
            self.model.get_text_features(**self._tokens(part)).pooler_output
            for part in _chunks(texts, 8 * self.batch)  # a text is far shorter than a picture
        ]
        return F.normalize(to_float32(torch.cat(features)), dim=-1)

    def score(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosine similarities in [-1, 1] of every picture with every text, [n texts]."""
        return self.score_function(texts)(pixels)

    def score_function(self, texts: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """`score` as a function of pictures; the texts are encoded once for all calls."""
        target = self.text_embeddings(texts).T
        return lambda pixels: self.image_embeddings(pixels) @ target

    def rank(self, pixels: Tensor, text: str) -> list[int]:
        """The indices of the pictures, best match of `text` first."""
        order: list[int] = self.score(pixels, [text])[:, 0].argsort(descending=True, stable=True).tolist()
        return order

    def classify(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """The probability of each label for each picture, [n labels]; rows sum to 1."""
        return (self.scale * self.score(pixels, labels)).softmax(dim=-1)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        longest = min(self.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return {name: as_input(self.model, tokens[name]) for name in ("input_ids", "attention_mask")}


def read_clip_scorer(folder: Path) -> ClipScorer:
    """Read a scorer from a folder in the format of transformers: ours, OpenAI's or OpenCLIP's.

    The preprocessing is read from preprocessor_config.json; without that file, it is that of our encoders.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise BadWeights(f"{str(folder)!r} holds a {shorten(str(kind))!r}: a critic needs a 'clip'")
    model = read_module(folder, lambda config: CLIPModel(CLIPConfig.from_dict(config)), _without_positions)
    side = model.config.vision_config.image_size
    path = folder / "preprocessor_config.json"
    processor = read_processor(path, side) if path.is_file() else ImageProcessor(side)
    return ClipScorer(model, read_tokenizer(folder), processor)


def read_processor(path: Path, side: int) -> ImageProcessor:
    """The preprocessing of a published encoder, from a preprocessor_config.json of transformers.

    Raises:
        BadWeights: the file cannot be used; the message names what it lacks.
    """
    config = read_json(path)
    try:
        mean, deviation = (tuple(map(float, config[name])) for name in ("image_mean", "image_std"))
        if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
            raise ValueError(f"mean {mean} and deviation {deviation}")
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(
            f"{str(path)!r} needs image_mean and image_std, three numbers each ({first_line(error)})"
        ) from None
    return ImageProcessor(
        side, mean, deviation, "bilinear" if config.get("resample") == _BILINEAR else "bicubic"
    )


def _without_positions(name: str) -> str | None:
    return None if name.endswith(".position_ids") else name  # only 0, 1, 2, ...; saved by older versions


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    yield from (items[k : k + size] for k in range(0, len(items), size))
