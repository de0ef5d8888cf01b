"""The things to learn next: a file that the sticker recipes and people read."""

import re
from collections import Counter
from pathlib import Path

import pytest

from danqing.data.drawing_sets import read_vocabulary
from danqing.data.vocabulary import vocabulary

WIDE = Path(__file__).parents[1] / "recipes" / "wide_vocabulary.txt"
WANTED = {
    *("castle", "robot", "noodles", "laptop", "violin", "phoenix", "unicorn", "bamboo", "lotus", "wizard"),
    *("bed", "chair", "doctor", "teacher", "volcano", "helicopter", "microscope", "kite", "piano"),
}
TABLE = Path(__file__).parents[1] / "recipes" / "drawings.tsv"


@pytest.fixture(scope="module")
def wide() -> tuple[list[str], dict[str, tuple[str, str]]]:
    labels, renamed = read_vocabulary(WIDE)
    return labels, renamed


def test_six_hundred_things_and_more_with_names_of_their_own(
    wide: tuple[list[str], dict[str, tuple[str, str]]],
) -> None:
    labels, renamed = wide
    assert len(labels) >= 600
    assert renamed.keys() == set(labels)
    for names in (labels, [name for name, _ in renamed.values()], [name for _, name in renamed.values()]):
        assert [name for name, count in Counter(names).items() if count > 1] == []


def test_the_shipped_things_come_first_under_their_names(
    wide: tuple[list[str], dict[str, tuple[str, str]]],
) -> None:
    labels, renamed = wide
    names = vocabulary()
    assert dict(renamed[label] for label in labels[: len(names)]) == names


def test_what_people_asked_for_in_vain_is_there(wide: tuple[list[str], dict[str, tuple[str, str]]]) -> None:
    _, renamed = wide
    assert {name for name, _ in renamed.values()} >= WANTED


def test_chinese_names_are_chinese_and_english_ones_can_be_typed(
    wide: tuple[list[str], dict[str, tuple[str, str]]],
) -> None:
    for name, chinese in wide[1].values():
        assert re.fullmatch(r"[A-Za-z0-9 '&-]+", name), name
        assert re.search(r"[\u4e00-\u9fff]", chinese), chinese


def test_the_table_of_drawings_has_each_thing_once_and_nothing_undrawn(
    wide: tuple[list[str], dict[str, tuple[str, str]]],
) -> None:
    head, *rows = [line.split("\t") for line in TABLE.read_text("utf-8").splitlines()]
    assert [row[0] for row in rows] == [wide[1][label][0] for label in wide[0]]
    assert {len(row) for row in rows} == {len(head)}
    assert min(row[1:].count("1") for row in rows) >= 2
