"""Finds installed fonts by the characters that they have."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import ImageFont

from danqing.core.errors import BadBrief

_PREFERRED = (
    "kai",
    "song",
    "ming",
    "serif",
    "cjk",
    "han",
    "hei",
    "wqy",
    "pingfang",
    "hiragino",
    "yahei",
    "sim",
)


def find_font(text: str) -> str:
    """The file of an installed font that has all characters of a text; regular script before others.

    Raises:
        BadBrief: there is none.
    """
    files = [path for folder in _folders() if folder.is_dir() for path in folder.rglob("*.[to]t[fc]")]
    for path in sorted(files, key=_preference):
        try:
            if _has(ImageFont.truetype(str(path), 32), text):
                return str(path)
        except OSError:  # a file that FreeType does not read
            continue
    raise BadBrief(
        f"no font at hand has the characters of {text!r}: install one, such as LXGW WenKai or Noto Sans CJK"
    )


def _folders() -> list[Path]:
    """The font folders of operating systems."""
    home = Path.home()
    if sys.platform == "win32":
        return [
            Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    return [
        home / ".fonts",
        home / ".local/share/fonts",
        Path("/usr/local/share/fonts"),
        Path("/usr/share/fonts"),
    ]


def _preference(path: Path) -> tuple[int, int, str]:
    name = path.stem.lower()
    rank = next((k for k, part in enumerate(_PREFERRED) if part in name), len(_PREFERRED))
    return rank, "regular" not in name, str(path)


def _has(font: ImageFont.FreeTypeFont, text: str) -> bool:
    """Whether a font has every character of a text: none is drawn as the sign for a missing character."""
    missing = font.getmask("\U0010fffe")
    return all(
        bytes(mask := font.getmask(character)) != bytes(missing) or mask.size != missing.size
        for character in set(text) - {" "}
    )
