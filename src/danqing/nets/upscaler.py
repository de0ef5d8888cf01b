"""A small learned upscaler: it adds a residual to bilinear upsampling and computes at low resolution.

Papers: sub-pixel convolution, Shi et al., arXiv 1609.05158; learning the residual of plain upsampling, VDSR,
Kim et al., arXiv 1511.04587. Differences: it works on RGBA, with convolutions of one width and SiLU between
them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class UpscalerConfig:
    """The shape of an `Upscaler`.

    channels: channels of the pictures.
    width: channels inside.
    depth: number of convolutions.
    scale: how many times larger the pictures become.
    """

    channels: int = 4
    width: int = 48
    depth: int = 8
    scale: int = 4


class Upscaler(nn.Module):
    """[n c h w] in about [-1, 1] -> [n c scale*h scale*w]. Any h and w; not clipped."""

    def __init__(self, config: UpscalerConfig | None = None) -> None:
        super().__init__()
        self.config = config or UpscalerConfig()
        c, width = self.config.channels, self.config.width
        widths = [c] + [width] * (self.config.depth - 1)
        self.body = nn.Sequential(*(nn.Sequential(_conv(before, width), nn.SiLU()) for before in widths))
        self.head = _conv(width, c * self.config.scale**2)
        # an untrained network is plain bilinear upsampling
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Upscale [n c h w] to [n c scale*h scale*w]."""
        scale = self.config.scale
        plain = functional.interpolate(pixels, scale_factor=scale, mode="bilinear", align_corners=False)
        return plain + functional.pixel_shuffle(self.head(self.body(pixels)), scale)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the network from the output of `to_config`."""
        return cls(UpscalerConfig(**config))

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain values, for `config.json`."""
        return asdict(self.config)


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate")
