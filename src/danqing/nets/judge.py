"""A small residual network that names the concept and the style of a sticker (after arXiv 1512.03385)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from danqing.core.errors import BadWeights, shorten
from danqing.core.files import atomic_write

# exceptions from reading a folder that is missing, damaged or of another network
_FOREIGN = (OSError, SafetensorError, RuntimeError, ValueError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class JudgeConfig:
    """The classes and the shape of a `Judge`.

    concepts, styles: names of the classes.
    size: side of its input in pixels.
    widths: channels of its blocks.
    reliability: top-1 accuracy of concepts on real pictures outside of its training, by cross-validation.
    """

    concepts: tuple[str, ...]
    styles: tuple[str, ...]
    size: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 256)
    reliability: float = math.nan


class _Block(nn.Module):
    """A residual block of two 3 x 3 convolutions with batch norm; it halves the sides."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.short = nn.Conv2d(inputs, width, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        return F.relu(y + self.short(F.avg_pool2d(x, 2)))


class Judge(nn.Module):
    """[n 3 size size] in [-1, 1], on white -> logits (concepts [n c], styles [n s])."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        widths = (16, *config.widths)
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(a, b) for a, b in pairwise(widths)))
        self.concept = nn.Linear(widths[-1], len(config.concepts))
        self.style = nn.Linear(2 * widths[2], len(config.styles))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits: concepts from the deepest features, styles from mean and deviation of shallow ones."""
        deep, texture = self.features(x)
        return self.concept(deep), self.style(texture)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features for the concept [n widths[-1]] and for the style [n 2 * widths[1]]."""
        shallow = self.blocks[:2](F.relu(self.stem(x)))
        texture = torch.cat([shallow.mean(dim=(2, 3)), shallow.std(dim=(2, 3))], dim=1)
        return self.blocks[2:](shallow).mean(dim=(2, 3)), texture

    @torch.no_grad()
    def predict(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[n c h w] in [-1, 1], on white, any size -> (concept logits, style logits, features [n d])."""
        self.eval()
        parts = []
        for part in torch.split(pictures[:, :3], 64):
            deep, texture = self.features(self._resize(part))
            parts.append((self.concept(deep), self.style(texture), deep))
        concept, style, features = (torch.cat(column) for column in zip(*parts, strict=True))
        return concept, style, features

    def _resize(self, pictures: Tensor) -> Tensor:
        """Resize to the size of its training; small pictures are upsampled smoothly, not as blocks."""
        side = (self.config.size,) * 2
        if pictures.shape[-1] >= self.config.size:
            return F.interpolate(pictures, side, mode="area")
        return F.interpolate(pictures, side, mode="bicubic").clamp(-1, 1)

    def label(self, pictures: Tensor) -> Tensor:
        """The indices of the most likely concept and style of each picture, [n 2]."""
        concept, style, _ = self.predict(pictures)
        return torch.stack([concept.argmax(dim=1), style.argmax(dim=1)], dim=1)

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors` (fp16)."""
        with atomic_write(folder / "config.json") as draft:
            draft.write_text(json.dumps(asdict(self.config), ensure_ascii=False) + "\n", "utf-8")
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        with atomic_write(folder / "model.safetensors") as draft:
            save_file({k: v.contiguous() for k, v in state.items()}, draft)

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read what `save` wrote.

        Raises:
            BadWeights: a file is missing, damaged, not finite, or of another network.
        """
        try:
            stored = json.loads((folder / "config.json").read_text("utf-8"))
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
            judge = cls(JudgeConfig(**values))
            tensors: dict[str, Tensor] = load_file(folder / "model.safetensors")
            judge.load_state_dict(tensors)  # casts to float32
        except _FOREIGN as error:
            reason = shorten(" ".join(str(error).split()), 120)
            raise BadWeights(f"{str(folder)!r} holds no whole judge ({reason}): fetch it again") from None
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise BadWeights(f"{str(folder)!r}: {name} holds NaN or infinite values: fetch another copy")
        return judge.eval()
