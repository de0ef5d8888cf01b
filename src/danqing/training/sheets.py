"""Sample sheets: many pictures in one."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def sheet_of(pictures: Tensor, columns: int) -> Image.Image:
    """Arrange pictures [n c h w] in [-1, 1], colour over white first, in rows of `columns`."""
    colour = ((pictures[:, :3].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    short = -len(colour) % columns
    blank = torch.full((short, *colour.shape[1:]), 255, dtype=torch.uint8)
    cells = torch.cat([colour, blank])
    count, channels, height, width = cells.shape
    cells = cells.view(count // columns, columns, channels, height, width)
    array = cells.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    return Image.fromarray(np.ascontiguousarray(array.numpy()))
