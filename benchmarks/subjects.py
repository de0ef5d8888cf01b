"""Is a prompt warned about that names nothing learned? `python benchmarks/subjects.py A`, B to report."""

from __future__ import annotations

import argparse
from pathlib import Path

from danqing.data.subjects import find_subject


def main() -> None:
    """Print the share of false warnings and of those that are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("half", choices=("A", "B"))
    parser.add_argument("--misses", action="store_true")
    arguments = parser.parse_args()
    lines = Path(__file__).with_name("subjects.txt").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("# ")]
    for kind in ("known", "unknown"):
        rows_of_kind = [
            (find_subject(prompt), thing, prompt)
            for half, is_, thing, prompt in rows
            if (half, is_) == (arguments.half, kind)
        ]
        warned = sum(found.name is None for found, *_ in rows_of_kind)
        print(f"{kind:<8} warned about: {warned} of {len(rows_of_kind)} ({warned / len(rows_of_kind):.1%})")
        if kind == "known":
            right = sum(found.name == thing for found, thing, _ in rows_of_kind)
            print(f"{kind:<8} named right: {right} of {len(rows_of_kind)}")
        for found, _thing, prompt in rows_of_kind if arguments.misses else ():
            if (found.name is None) == (kind == "known"):
                print(f"  {prompt!r}: {found.name}")


if __name__ == "__main__":
    main()
