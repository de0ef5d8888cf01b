"""The gallery: files and rows agree, whatever happens; pictures are found by words and by meaning."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import danqing
from danqing.core.errors import BadPicture
from danqing.core.picture import Picture
from danqing.studio import files
from danqing.studio.browse import Filter
from danqing.studio.errors import Conflict, NotThere, StorageFull, TooLarge, UnsupportedFormat
from danqing.studio.gallery import NewPicture
from danqing.studio.jobs import Claim, LostClaim, NewJob
from danqing.studio.store import Store
from tests.toy import Toy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "studio")


def claim(store: Store, owner: str = "me") -> Claim:
    store.queue.submit(owner, NewJob("paint", "toy", {}))
    claimed = store.queue.claim("w")
    assert claimed is not None
    return claimed


def add(store: Store, prompt: str, work: Claim | None = None, **fields: object) -> str:
    [picture] = danqing.paint(prompt, painter=Toy(), seed=len(prompt))
    new = NewPicture(picture=picture, write=picture.save, **{"index": 0, **fields})
    name = store.gallery.add(work or claim(store), new)
    assert name is not None
    return name


def all_files(store: Store) -> set[str]:
    return {path.name for kind in ("pictures", "thumbnails") for path in (store.folder / kind).rglob("*.*")}


def test_a_picture_is_a_file_with_its_metadata_a_thumbnail_and_a_row(store: Store) -> None:
    name = add(store, "a red apple")
    row = store.gallery.get("me", name)
    picture = Picture.open(store.gallery.path(row.file))
    assert picture.brief.model_dump(mode="json") == row.brief
    assert (row.prompt, row.seed, row.width, row.root) == ("a red apple", 11, 32, name)
    with Image.open(store.gallery.thumbnail(row, 128)) as small:
        assert small.format == "WEBP"
    with pytest.raises(NotThere):
        store.gallery.get("you", name)


def test_a_second_try_doubles_nothing_and_a_late_worker_leaves_nothing(store: Store) -> None:
    work = claim(store)
    name = add(store, "one", work)
    before = all_files(store)
    [picture] = danqing.paint("one", painter=Toy(), seed=3)
    assert store.gallery.add(work, NewPicture(0, picture, picture.save)) is None
    store.queue.release("w")
    with pytest.raises(LostClaim):
        store.gallery.add(work, NewPicture(1, picture, picture.save))
    assert all_files(store) == before
    assert store.gallery.of_jobs([work.job]) == {work.job: [name]}


def test_a_sweep_makes_files_and_rows_agree(store: Store) -> None:
    kept, lost = add(store, "kept"), add(store, "lost")
    folder = store.gallery.path(store.gallery.get("me", kept).file).parent
    (folder / "01ARZ3NDEKTSV4RRFFQ69G5FAV.png").write_bytes(b"half")
    (folder / f"{files.DRAFT}x.png").write_bytes(b"half")
    (folder / "holiday.png").write_bytes(b"somebody's own")
    path = store.gallery.path(store.gallery.get("me", lost).file)
    data = path.read_bytes()
    path.unlink()
    assert store.sweep() == {"removed": 2, "changed": 1}
    assert (folder / "holiday.png").exists()
    assert [row.id for row in store.browser.page(Filter("me"))] == [kept]
    path.write_bytes(data)  # the disk is back
    assert store.sweep() == {"removed": 0, "changed": 1}
    assert len(store.browser.page(Filter("me"))) == 2


def test_a_full_disk_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    work = claim(store)
    monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(StorageFull, match="make room"):
        add(store, "x", work)
    monkeypatch.undo()
    assert all_files(store) == set()
    assert add(store, "x", work)


def test_children_know_their_parents(store: Store) -> None:
    root = add(store, "root")
    child = add(store, "child", sources=["u-" + "0" * 32, root])
    grandchild = add(store, "grandchild", sources=[child])
    add(store, "stranger", claim(store, "you"), sources=[root])
    tree = store.gallery.tree("me", grandchild)
    assert [(row.id, row.parent) for row in tree] == [(root, None), (child, root), (grandchild, child)]
    assert store.gallery.children([root, child, grandchild]) == {root: 1, child: 1}


def test_the_trash_has_two_phases(store: Store) -> None:
    name = add(store, "a cat")
    with pytest.raises(Conflict, match="trash"):
        store.gallery.delete("me", name)
    store.gallery.change("me", name, star=True, trashed=True)
    assert store.browser.page(Filter("me")) == []
    assert [row.star for row in store.browser.page(Filter("me", trash=True))] == [True]
    store.gallery.change("me", name, star=None, trashed=False)
    assert store.browser.page(Filter("me"))[0].star
    store.gallery.change("me", name, star=None, trashed=True)
    store.gallery.delete("me", name)
    assert all_files(store) == set()
    assert store.browser.by_words("cat", Filter("me", trash=True)) == []
    with pytest.raises(NotThere):
        store.gallery.get("me", name)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("red", 1),
        ("app", 1),
        ("RED apple", 1),
        ("apple blue", 0),
        ("龙", 2),
        ("红色的龙", 1),
        ("色的", 1),
        ("红龙", 0),
        ('") OR text MATCH ("', 0),
        ("* NOT -", 0),
        ("' ; DROP TABLE words --", 0),
    ],
)
def test_words_find_pictures_in_both_languages(store: Store, words: str, count: int) -> None:
    for prompt in ("a red apple", "一条红色的龙", "一条龙在blue天空"):
        add(store, prompt)
    assert len(store.browser.by_words(words, Filter("me"))) == count
    assert store.browser.by_words(words, Filter("you")) == []


def test_meaning_finds_the_nearest(store: Store) -> None:
    axes = np.eye(4, dtype=np.float32)
    names = [add(store, f"number {k}", vector=axes[k]) for k in range(3)]
    add(store, "of another", claim(store, "you"), vector=axes[0])
    query = (0.9 * axes[1] + 0.3 * axes[2]).astype(np.float32)
    matches = store.browser.by_meaning(query, Filter("me"))
    assert [match.row.id for match in matches[:2]] == [names[1], names[2]]
    assert matches[0].score == pytest.approx(0.9, abs=1e-3)
    found = store.browser.search("number 0", query, Filter("me"))
    assert [(match.row.id, match.by) for match in found] == [
        (names[0], "words"),
        (names[1], "meaning"),
        (names[2], "meaning"),
    ]
    later = add(store, "later", vector=axes[3])
    assert store.browser.by_meaning(axes[3], Filter("me"))[0].row.id == later
    store.gallery.change("me", names[1], star=None, trashed=True)
    assert names[1] not in {match.row.id for match in store.browser.by_meaning(query, Filter("me"))}


def test_pages_are_cut_at_a_picture(store: Store) -> None:
    names = [add(store, f"number {k}") for k in range(5)]
    assert [row.id for row in store.browser.page(Filter("me", limit=2))] == sorted(names)[:-3:-1]
    rest = store.browser.page(Filter("me", before=sorted(names)[-2], limit=9))
    assert [row.id for row in rest] == sorted(names)[2::-1]


def encode_image(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_uploads_are_checked_and_kept_by_content(store: Store) -> None:
    data = encode_image(Image.new("RGB", (20, 10), "red"), "PNG")
    row = store.uploads.add("me", data)
    assert (row.width, row.height, row.format) == (20, 10, "png")
    assert store.uploads.add("me", data).id == row.id
    assert store.uploads.path("me", row.id).read_bytes() == data
    with pytest.raises(NotThere):
        store.uploads.get("you", row.id)
    turned = Image.Exif()
    turned[274] = 6
    photo = store.uploads.add("me", encode_image(Image.new("RGB", (20, 10)), "JPEG", exif=turned.tobytes()))
    assert (photo.width, photo.height) == (10, 20)
    assert photo.notes == ["the picture is turned upright as its EXIF says"]


def test_what_is_no_picture_is_refused(store: Store) -> None:
    png = encode_image(Image.new("RGB", (64, 64)), "PNG")
    gif, tiff = (encode_image(Image.new("RGB", (64, 64)), form) for form in ("GIF", "TIFF"))
    for data in (b"", b"x", b"<svg/>", gif, tiff, b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UnsupportedFormat):
            store.uploads.add("me", data)
    for cut in range(60, len(png) - 20, 7):
        with pytest.raises((BadPicture, UnsupportedFormat)) as error:
            store.uploads.add("me", png[:cut])
        assert str(store.folder) not in str(error.value)
    huge = bytearray(encode_image(Image.new("1", (8, 8)), "PNG"))
    huge[16:24] = (50_000).to_bytes(4, "big") * 2
    with pytest.raises((TooLarge, UnsupportedFormat)):
        store.uploads.add("me", bytes(huge))
    with pytest.raises(TooLarge):
        store.uploads.add("me", encode_image(Image.new("1", (8000, 4001)), "PNG"))
    assert [path for path in (store.folder / "uploads").glob("*") if path.is_file()] == []


def test_names_of_pictures_are_ids_of_their_owner(store: Store) -> None:
    name = add(store, "a cat")
    upload = store.uploads.add("me", encode_image(Image.new("RGB", (20, 10)), "PNG")).id
    lookup = store.image_lookup("me")
    assert lookup(name).source.brief is not None
    assert lookup(upload).source.image.size == (20, 10)
    path = str(store.gallery.path(store.gallery.get("me", name).file))
    for text in (path, "../studio.db", "/etc/passwd", name.lower(), name + "\0", "u-" + "0" * 32, ""):
        with pytest.raises(ValueError, match=r"picture|upload"):
            lookup(text)
    for text in (name, upload):
        with pytest.raises(ValueError, match="no "):
            store.image_lookup("you")(text)
