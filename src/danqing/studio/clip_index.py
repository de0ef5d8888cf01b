"""CLIP embeddings of pictures and texts, computed on the CPU while the worker paints."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from danqing.core.errors import BadPicture
from danqing.core.source_image import read_source

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from danqing.families.clip import ClipScorer
    from danqing.studio.vectors import Vector


class ClipIndex:
    """Embeddings [d] of length 1 by the shipped CLIP; all are None if this installation has no CLIP."""

    def __init__(self) -> None:
        self._lock = Lock()

    def of_image(self, image: Image.Image) -> Vector | None:
        """The embedding of a picture over white."""
        from danqing.core.images import from_pil

        scorer = self._open()
        return None if scorer is None else _array(scorer.image_embeddings(from_pil(image)[None, :3]))

    def of_file(self, path: Path) -> Vector | None:
        """The embedding of a picture file; None if it cannot be read."""
        try:
            return self.of_image(read_source(path).image)
        except BadPicture:
            return None

    def of_words(self, words: str) -> Vector | None:
        """The embedding of a text in English or Chinese."""
        scorer = self._open()
        return None if scorer is None else _array(scorer.text_embeddings([words]))

    def _open(self) -> ClipScorer | None:
        with self._lock:
            return self._scorer

    @cached_property
    def _scorer(self) -> ClipScorer | None:
        from danqing.families import shipped_clip_scorer

        return shipped_clip_scorer()


def _array(embedding: object) -> Vector:
    import torch

    assert isinstance(embedding, torch.Tensor)
    with torch.no_grad():
        vector: np.ndarray[tuple[int], np.dtype[np.float32]] = embedding[0].float().numpy()
    return vector
