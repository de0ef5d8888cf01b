"""What every recipe reads from its command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from danqing.data.dataset import Stickers, read_imagefolder

ZOO = Path(__file__).parents[1] / "src" / "danqing" / "zoo"


def arguments(text: str | None) -> argparse.Namespace:
    """--data, --run, --steps, --threads; the seed of the initial weights is fixed here."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("stickers"), help="imagefolder to learn from")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/run"), help="folder of the run; an interrupted one continues"
    )
    parser.add_argument("--steps", type=int, help="instead of the recipe's own number")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 = all cores")
    parser.add_argument(
        "--parts", type=Path, default=Path("runs"), help="where earlier recipes left their weights"
    )
    parser.add_argument("--further", action="store_true", help="start from the shipped model")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    return asked


def read(folder: Path) -> tuple[Stickers, Stickers]:
    """The pictures to learn from, and the held-out ones."""
    pictures = read_imagefolder(folder)
    return pictures.where(lambda row: not row["held_out"]), pictures.where(lambda row: row["held_out"])


def say(line: str) -> None:
    """Print at once, also into a file."""
    print(line, flush=True)
