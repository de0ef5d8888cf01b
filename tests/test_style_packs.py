"""Style packs: the shipped ones, the user's own, and what they make of a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from danqing.apps._style_packs import apply_style, pack_of, packs
from danqing.conditioning.prompt import is_chinese
from danqing.core.card import Can
from danqing.core.errors import BadBrief
from danqing.data.captions import STYLE_WORDS
from danqing.families import open_painter
from tests.toy import CARD

NONE = Path("no-such-folder")
PLAIN = CARD.model_copy(update={"styles": {}})
MINE = 'title = "Mine"\ntitle_zh = "我的"\nwords = "crayon"\nwords_zh = "蜡笔"\n'


def test_every_shipped_pack_speaks_both_languages() -> None:
    shipped = packs(NONE)
    assert {"3d", "flat", "cartoon", "paper-cut", "porcelain", "ink-wash", "anime"} <= set(shipped)
    for pack in shipped.values():
        assert is_chinese(pack.words_zh)
        assert is_chinese(pack.negative_zh)
        assert not is_chinese(pack.words + pack.negative + pack.title)
        assert pack.negative


def test_every_name_means_one_style() -> None:
    shipped = packs(NONE).values()
    names = [name for pack in shipped for name in {pack.name, pack.title.lower(), pack.title_zh.lower()}]
    names += [name for pack in shipped for name in pack.aliases]
    for name in names:
        assert sum(pack.has_name(name) for pack in shipped) == 1


def test_the_shipped_model_is_asked_by_its_own_names() -> None:
    card = open_painter("stickers").card
    learned = {pack.name: apply_style("a cat", pack, card)[2] for pack in packs(NONE).values()}
    assert {name: style for name, style in learned.items() if style} == {name: name for name in card.styles}
    assert {name for pack in packs(NONE).values() for name in pack.learned} <= set(STYLE_WORDS)


def test_a_learned_style_leaves_the_words_alone() -> None:
    assert apply_style("a cat", pack_of("剪纸", packs(NONE)), CARD) == ("a cat", "", "paper-cut")


def test_other_models_get_words_in_the_language_of_the_prompt() -> None:
    pack = pack_of("水墨", packs(NONE))
    assert apply_style("a cat ", pack, PLAIN) == (f"a cat, {pack.words}", pack.negative, None)
    assert apply_style("猫", pack, PLAIN) == (f"猫，{pack.words_zh}", pack.negative_zh, None)
    once = apply_style("a cat", pack, PLAIN)
    assert apply_style(once[0], pack, PLAIN) == once
    deaf = PLAIN.model_copy(update={"can": frozenset({Can.WORDS})})
    assert apply_style("a cat", pack, deaf)[1] == ""


def test_the_users_packs_go_before(tmp_path: Path) -> None:
    (tmp_path / "anime.toml").write_text(MINE, "utf-8")
    (tmp_path / "notes.txt").write_text("no style", "utf-8")
    assert pack_of("我的", packs(tmp_path)).words == "crayon"
    assert pack_of("anime", packs(tmp_path)).title == "Mine"
    assert pack_of("anime", packs(NONE)).title == "Anime"


@pytest.mark.parametrize(
    ("name", "says"),
    [("animee", "did you mean 'anime'"), ("水墨风", "did you mean '水墨'"), ("", "choose from")],
)
def test_an_unknown_style_is_told_with_the_nearest(name: str, says: str) -> None:
    with pytest.raises(BadBrief, match=says) as raised:
        pack_of(name, packs(NONE))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"title = ", "mine.toml"),
        (b"\xff\xfe", "mine.toml"),
        (b'title = "Mine"', "title_zh: field required"),
        (MINE.encode() + b"strength = 2", "strength: input should be less than or equal to 1"),
        (MINE.encode() + b"colour = 2", "colour: extra inputs are not permitted"),
    ],
)
def test_a_damaged_pack_is_told_in_one_line(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(BadBrief) as raised:
        packs(tmp_path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
