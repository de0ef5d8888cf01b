"""Which (concept, style) pairs are held out of every training, decided by their names alone."""

from __future__ import annotations

import hashlib


def held_out(concept: str, style: str) -> bool:
    """Whether the pair is held out.

    One in twenty is, the same ones on every machine and for every network.
    """
    digest = hashlib.sha1(f"{concept}|{style}".encode(), usedforsecurity=False).hexdigest()
    return int(digest, 16) % 20 == 0
