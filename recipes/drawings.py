"""How many drawings there are of each thing to learn next: `python recipes/drawings.py`, half a minute.

Reads `recipes/wide_vocabulary.txt`, fetches the drawing sets with npm and writes
`recipes/drawings.tsv`: a thing a row, a set a column, 1 where the set draws it. Besides the sets that the
shipped painter learned from, there are three that draw the same things in styles of their own.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from danqing.data.drawing_sets import (
    EMOJIBASE,
    SOURCES,
    Concept,
    Drawings,
    DrawingSet,
    read_concepts,
    read_vocabulary,
    unpack_package,
)

FURTHER = (
    DrawingSet("emojione", "@iconify-json/emojione@1.2.3", "CC-BY-4.0", "Emojione"),
    DrawingSet("fxemoji", "@iconify-json/fxemoji@1.2.2", "Apache-2.0", "Mozilla, FxEmojis"),
    DrawingSet("gradient", "@iconify-json/fluent-emoji@1.2.7", "MIT", "Microsoft, Fluent Emoji"),
)
WIDE = Path(__file__).with_name("wide_vocabulary.txt")
SIDE = 16  # pixels: enough to know that there is a drawing


def main() -> None:
    """Write the table, and print how many things have how many drawings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=Path("packages"), help="where packages are kept")
    parser.add_argument("--table", type=Path, default=Path(__file__).with_suffix(".tsv"))
    asked = parser.parse_args()
    sets = [*SOURCES, *FURTHER]
    drawings = [Drawings(unpack_package(source.package, asked.cache)) for source in sets]
    rows = [(concept.name, drawn(concept, drawings)) for concept in concepts(asked.cache)]
    head = "\t".join(["thing", *(source.style for source in sets)])
    lines = ("\t".join([name, *(str(int(one)) for one in row)]) for name, row in rows)
    asked.table.write_text("\n".join([head, *lines]) + "\n", "utf-8")
    for source, column in zip(sets, zip(*(row for _, row in rows), strict=True), strict=True):
        print(f"{source.style:<12} {sum(column):4} of {len(rows)} things")
    for count, things in sorted(Counter(sum(row) for _, row in rows).items(), reverse=True):
        print(f"{count} sets draw {things} things")


def concepts(cache: Path) -> list[Concept]:
    """The things of the wide vocabulary, in its order."""
    labels, renamed = read_vocabulary(WIDE)
    found = {each.label: each for each in read_concepts(unpack_package(EMOJIBASE, cache), renamed)}
    return [found[label] for label in labels]


def drawn(concept: Concept, drawings: Iterable[Drawings]) -> list[bool]:
    """Which of the sets draw a thing."""
    return [each.render(concept, SIDE) is not None for each in drawings]


if __name__ == "__main__":
    main()
