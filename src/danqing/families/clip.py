"""CLIP: an image encoder and a text encoder that meet in one space.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, arXiv
2103.00020.
Differs: small, and bilingual from the start: English and Chinese captions of the same picture are pulled
together too.
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

_BILINEAR = 2  # Pillow's number, as files store it

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
    """A CLIP of random weights for the words of `tokenizer`."""
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
    """How an image encoder wants its pixels.

    side: of the square that it takes.
    mean, deviation: of values in [0, 1], for each colour.
    resize: "area" is what our encoders learned with; the published ones learned with antialiased "bicubic"
        (CLIP) or "bilinear" (ViT).
    """

    side: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize: str = "area"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pictures [n 3 h w] in [-1, 1] as the encoder wants them; what is not square gets white margins."""
        smooth = self.resize != "area"
        square = F.interpolate(pad_to_square(pixels), (self.side,) * 2, mode=self.resize, antialias=smooth)
        square = square.clamp(-1, 1) if smooth else square  # bicubic overshoots, which bytes could not
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1).to(square) for v in (self.mean, self.deviation))
        return (square - (2 * mean - 1)) / (2 * deviation)


@dataclass(frozen=True)
class ClipScorer:
    """Tells how well texts and pictures belong together, by CLIP.

    model: both encoders.
    tokenizer: of the text encoder.
    processor: how the image encoder wants its pixels.
    batch: how many pictures the image encoder gets at once.

    Pictures are [n c h w] in [-1, 1] of any size. With transparency, colour lies over white already, and
    alpha is left aside. Gradients flow to pixels, never to weights.
    """

    model: CLIPModel
    tokenizer: CLIPTokenizer
    processor: ImageProcessor
    batch: int = 64

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @classmethod
    def of(cls, model: CLIPModel, tokenizer: CLIPTokenizer) -> ClipScorer:
        """A scorer whose images are processed as our own encoders learned."""
        return cls(model, tokenizer, ImageProcessor(model.config.vision_config.image_size))

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move both encoders to `device` and let them compute in `dtype`; None is float32."""
        move(device, dtype, self.model)

    @property
    def scale(self) -> float:
        """What the cosines are multiplied with before a softmax (arXiv 2103.00020 section 2.3)."""
        return float(self.model.logit_scale.exp())

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """Pictures -> embeddings [n d] of length 1."""
        parts = torch.split(pixels[:, :3], self.batch)
        inputs = (as_input(self.model, self.processor(part)) for part in parts)
        features = [self.model.get_image_features(part).pooler_output for part in inputs]
        return F.normalize(to_float32(torch.cat(features)), dim=-1)

    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Texts, cut to what the encoder can read -> embeddings [n d] of length 1."""
        features = [
            self.model.get_text_features(**self._tokens(part)).pooler_output
            for part in _chunks(texts, 8 * self.batch)  # a text is far shorter than a picture
        ]
        return F.normalize(to_float32(torch.cat(features)), dim=-1)

    def score(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosines in [-1, 1] of every picture with every text, [n texts]."""
        return self.score_function(texts)(pixels)

    def score_function(self, texts: Sequence[str]) -> Callable[[Tensor], Tensor]:
        """`score` as a function of pictures, to call many times: the texts are encoded once."""
        target = self.text_embeddings(texts).T
        return lambda pixels: self.image_embeddings(pixels) @ target

    def rank(self, pixels: Tensor, text: str) -> list[int]:
        """The numbers of the pictures, the one that fits `text` best first."""
        order: list[int] = self.score(pixels, [text])[:, 0].argsort(descending=True, stable=True).tolist()
        return order

    def classify(self, pixels: Tensor, labels: Sequence[str]) -> Tensor:
        """How likely each label is the right one for each picture: [n labels], rows sum to 1."""
        return (self.scale * self.score(pixels, labels)).softmax(dim=-1)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        longest = min(self.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return {name: as_input(self.model, tokens[name]) for name in ("input_ids", "attention_mask")}


def read_clip_scorer(folder: Path) -> ClipScorer:
    """A scorer from a folder in the format of transformers: ours, OpenAI's or OpenCLIP's.

    How the encoder wants its pixels is read from preprocessor_config.json; without it, they are as ours.

    Raises:
        BadWeights: in one line that names the file and what is wrong with it.
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
    """How a published encoder wants its pixels, from a preprocessor_config.json of transformers.

    Raises:
        BadWeights: naming what the file lacks.
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
    return None if name.endswith(".position_ids") else name  # a mere count, kept by older versions


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    yield from (items[k : k + size] for k in range(0, len(items), size))
