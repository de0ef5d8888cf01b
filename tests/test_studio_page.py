"""A person at the page of the studio: a real server with a tiny model, and a real browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danqing.core.catalogue import catalogue

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="THE PAGE WAS NOT TRIED IN A BROWSER: pip install playwright"
)
pytest.importorskip("fastapi", reason="THE PAGE WAS NOT TRIED IN A BROWSER: pip install 'danqing[studio]'")

from tests.server import Server  # noqa: E402  which needs both

expect = sync_api.expect
expect.set_options(timeout=60_000)  # a shared machine may be slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
SECONDS = 90_000  # for what a shared machine may take to paint, in milliseconds
DRAFT: dict[str, Any] = {
    "model": "tiny",
    "extra": {"native": True, "steps": 2, "seed": 7},
    "count": 4,
    "fast": False,
}
SLOW: dict[str, Any] = {**DRAFT, "extra": {"native": True, "steps": 300, "sampler": "ddim"}}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="THE PAGE WAS NOT TRIED IN A BROWSER: no chromium here; apt install chromium"
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("page"), "--no-browser", command="studio")
    yield server
    server.stop()
    assert "Traceback" not in "".join(server.lines)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A page in a browser of its own, with what it asked of whom and what its console said."""

    def __init__(self, browser: Any, url: str, draft: dict[str, Any], **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"locale": "en-US", "reduced_motion": "reduce", **options})
        self.context.set_default_timeout(SECONDS)
        begin = f"localStorage.draft ??= {json.dumps(json.dumps(draft))}"
        self.context.add_init_script(begin)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url))
        self.open("/")

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def paint(self, words: str) -> Any:
        """Type words, press Enter; the card of the wall on which they grow."""
        self.page.fill("#prompt", words)
        self.page.keyboard.press("Enter")
        return self.page.locator(".hero wall-card").filter(has_text=words)

    def finished(self, card: Any, count: int = 4) -> list[str]:
        """The ids of a card's pictures, once all are there."""
        expect(card.locator("[data-picture]")).to_have_count(count, timeout=SECONDS)
        return [str(tile.get_attribute("data-picture")) for tile in card.locator("[data-picture]").all()]

    def leave(self) -> None:
        """Close, and complain of what no visitor should see."""
        self.context.close()
        local = (self.url, "data:", f"blob:{self.url}")
        assert [url for url in self.hosts if not url.startswith(local)] == []
        assert self.complaints == []


@pytest.fixture
def visit(chromium: Any, studio: Server) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def come(draft: dict[str, Any] = DRAFT, **options: Any) -> Visitor:
        visitors.append(Visitor(chromium, studio.url, draft, **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.leave()


def pixels(studio: Server, picture: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    file = studio.client.get(f"/v1/pictures/{picture}/file")
    assert file.status_code == 200
    return np.asarray(Image.open(io.BytesIO(file.content)))


def test_the_first_five_minutes(visit: Any, studio: Server) -> None:
    visitor = visit()
    page = visitor.page
    expect(page.locator(".example")).to_have_count(12)
    first = visitor.finished(visitor.paint("a red apple, 3d style"))

    # V2: four more, with a line to where they came from
    page.get_by_role("button", name="Vary 2").first.click()
    card = page.locator(f'.hero wall-card:has([data-parent="{first[1]}"])')
    varied = visitor.finished(card)
    expect(page.locator(".wall-line path")).to_have_count(1)

    # Chinese words; then any picture: its words, seed, tree, and the same pixels again
    visitor.finished(visitor.paint("一只猫"))
    visitor.open(f"/p/{varied[0]}")
    expect(page.locator("lineage-tree .frame")).to_have_count(5)
    expect(page.locator("picture-facts")).to_contain_text("tiny")
    page.keyboard.press("ArrowUp")
    expect(page).to_have_url(re.compile(first[1]))
    page.keyboard.press("s")
    expect(page.get_by_role("button", name="Star", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Paint again").click()
    page.get_by_role("button", name="Studio").click()
    again = visitor.finished(page.locator(".hero wall-card").filter(has_text="a red apple"), 1)
    assert (pixels(studio, again[0]) == pixels(studio, first[1])).all()

    # found by its words, and by its star
    page.fill("#search", "猫")
    expect(page.locator(".cards wall-card").first).to_contain_text("一只猫")
    page.fill("#search", "")
    page.get_by_role("button", name="Starred").click()
    expect(page.locator(f'.cards [data-picture="{first[1]}"]')).to_be_visible()
    expect(page.locator(".cards wall-card")).to_have_count(1)

    # everything is there again after a reload, on another device too
    visitor.open("/")
    expect(page.locator(".cards wall-card, .hero wall-card")).to_have_count(4)
    phone = visit(viewport={"width": 360, "height": 740})
    expect(phone.page.locator(f'[data-picture="{again[0]}"]')).to_be_visible()


def test_a_job_is_cancelled_within_a_step(visit: Any, studio: Server) -> None:
    visitor = visit(SLOW)
    card = visitor.paint("a slow owl")
    expect(card.locator("progress")).to_be_visible()
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("Cancelled")
    [job] = studio.client.get("/v1/jobs?limit=1").json()["data"]
    assert (job["state"], job["inputs"]["prompt"]) == ("cancelled", "a slow owl")
    card.get_by_role("button", name="Close").click()
    expect(card).to_have_count(0)


def test_a_reload_finds_the_running_job(visit: Any) -> None:
    visitor = visit({**SLOW, "count": 1})
    card = visitor.paint("a rocket in the rain")
    expect(card.locator(".waiting img[src]").first).to_be_visible()  # a preview has come
    visitor.page.reload()
    expect(card.locator("progress")).to_be_visible()
    expect(card.locator(".waiting img[src]").first).to_be_visible()
    visitor.finished(card, 1)


def test_outside_of_a_painted_mask_nothing_changes(visit: Any, studio: Server) -> None:
    source = studio.paint(prompt="a cat", seed=3)
    visitor = visit()
    page = visitor.page
    visitor.open(f"/p/{source['id']}?do=inpaint")
    area = page.locator(".mask-area")
    sheet = page.locator(".sheet img")
    expect(sheet).to_be_visible()
    box = sheet.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.25, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Redo").click()
    area.press("l")
    for k, (x, y) in enumerate([(0.1, 0.1), (0.4, 0.1), (0.4, 0.4), (0.1, 0.4)]):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
        if k == 0:
            page.mouse.down()
    page.mouse.up()
    page.get_by_label("Feather").fill("0")
    page.locator("verb-panel").get_by_role("button", name="Inpaint").click()
    tile = page.locator("job-results [data-picture]").first
    expect(tile).to_be_visible(timeout=SECONDS)
    before = pixels(studio, source["id"])
    after = pixels(studio, str(tile.get_attribute("data-picture")))
    side = before.shape[0]
    outside = np.ones(before.shape[:2], bool)
    outside[: round(0.5 * side), : round(0.5 * side)] = False
    assert (before[outside] == after[outside]).all()
    assert (before != after).any()


def test_the_frame_paints_on_beyond_the_edges(visit: Any, studio: Server) -> None:
    source = studio.paint(prompt="an owl", seed=4)
    visitor = visit()
    page = visitor.page
    visitor.open(f"/p/{source['id']}?do=outpaint")
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("slider", name="Add on the right").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".frame-size")).to_have_text(f"{source['width'] * 3 // 2} × {source['height']}")
    page.locator("verb-panel").get_by_role("button", name="Outpaint").click()
    tile = page.locator("job-results [data-picture]").first
    expect(tile).to_be_visible(timeout=SECONDS)
    wide = pixels(studio, str(tile.get_attribute("data-picture")))
    before = pixels(studio, source["id"])
    assert wide.shape[1] > before.shape[1]
    assert (wide[: before.shape[0], : before.shape[1]] == before).all()


def test_a_dropped_picture_offers_what_can_be_done(visit: Any) -> None:
    visitor = visit()
    page = visitor.page
    expect(page.locator("#prompt")).to_be_visible()
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 40, 30)).save(buffer, "PNG")
    transfer = page.evaluate_handle(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "photo.png", {type: "image/png"}));
            return data;
        }""",
        base64.b64encode(buffer.getvalue()).decode(),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    drawer = page.get_by_role("dialog")
    for name in ("Start from it", "Take its style", "Inpaint", "Redraw", "Describe", "Learn"):
        expect(drawer.get_by_role("button", name=name).first).to_be_visible()
    drawer.get_by_role("button", name="Start from it").click()
    expect(page.locator(".reference img")).to_be_visible()
    visitor.finished(visitor.paint("a cat from a photo"))


def test_the_language_changes_and_stays(visit: Any) -> None:
    visitor = visit()
    page = visitor.page
    expect(page.get_by_role("button", name="Paint", exact=True)).to_be_visible()
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("button", name="作画", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.get_by_role("button", name="更多").click()
    expect(page.locator("schema-form")).to_contain_text("去噪步数")
    page.reload()
    expect(page.get_by_role("button", name="作画", exact=True)).to_be_visible()
    for name in ("queue", "models", "settings", "boards", "keys"):
        visitor.open(f"/?drawer={name}")
        expect(page.get_by_role("dialog")).not_to_contain_text(re.compile(r"\b[a-z]+\.[a-z]+\b(?<!2\.0)"))


def test_messages_with_values_are_translated_as_on_the_command_line(visit: Any) -> None:
    page = visit(locale="zh-CN").page
    messages = [
        "unknown sampler 'eulr': did you mean 'euler'? choose from ddim, euler",
        "cell 9 of a.png: choose from 1 to 4",
        "nobody has said this (yet) {so}",
    ]
    expect(page.get_by_role("button", name="作画", exact=True)).to_be_visible()
    say = "async (all) => { const { say } = await import('/static/i18n.js'); return all.map((t) => say(t)); }"
    chinese = [catalogue("zh").translate(message) for message in messages]
    assert chinese[0] != messages[0]
    assert page.evaluate(say, messages) == chinese


def test_the_keyboard_is_enough(visit: Any) -> None:
    visitor = visit()
    page = visitor.page
    expect(page.locator("#prompt")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("a rocket by hand")
    page.keyboard.press("Enter")
    card = page.locator(".hero wall-card").filter(has_text="a rocket by hand")
    ids = visitor.finished(card)
    page.keyboard.press("Escape")
    page.locator("#prompt").evaluate("(field) => field.blur()")
    page.keyboard.press("Shift+Digit3")
    visitor.finished(page.locator(f'.hero wall-card:has([data-parent="{ids[2]}"])'))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.locator(".hero a.open").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("picture-facts dl")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("prompt-bar")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_nothing_runs_over_the_edge(visit: Any, studio: Server, width: int) -> None:
    picture = studio.paint(prompt="a cat", seed=5)["id"]
    visitor = visit(viewport={"width": width, "height": 800})
    for path in ("/", f"/p/{picture}", f"/p/{picture}?do=inpaint", f"/p/{picture}?do=outpaint", "/learn"):
        visitor.open(path)
        visitor.page.wait_for_timeout(400)
        assert visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    for name in ("queue", "models", "settings", "keys"):
        visitor.open(f"/?drawer={name}")
        expect(visitor.page.get_by_role("dialog")).to_be_visible()


def test_pictures_are_put_on_boards(visit: Any, studio: Server) -> None:
    """Named, filled, looked at, renamed and deleted; the pictures stay."""
    kept, other = (studio.paint(prompt=words, seed=5)["id"] for words in ("a dragon", "a pear"))
    visitor = visit()
    page = visitor.page
    page.on("dialog", lambda box: box.accept("red dragons" if box.type == "prompt" else ""))
    visitor.open(f"/p/{kept}")
    page.get_by_role("button", name="Put on boards").click()
    drawer = page.get_by_role("dialog")
    drawer.get_by_label("New board").fill("dragons")
    drawer.get_by_label("New board").press("Enter")
    expect(drawer.get_by_role("checkbox", name="dragons")).to_be_checked()
    visitor.open("/")
    choice = page.get_by_label("Board", exact=True)
    choice.select_option("dragons")
    expect(page.locator(f'[data-picture="{kept}"]')).to_be_visible()
    expect(page.locator(f'[data-picture="{other}"]')).to_have_count(0)
    choice.select_option("Manage boards…")
    drawer.get_by_role("button", name="Rename dragons").click()
    expect(drawer.get_by_role("link", name="red dragons")).to_be_visible()
    drawer.get_by_role("button", name="Delete red dragons").click()
    expect(drawer.get_by_role("listitem")).to_have_count(0)
    assert studio.client.get(f"/v1/pictures/{kept}").json()["boards"] == []


def test_a_refusal_is_told_where_one_looks(visit: Any) -> None:
    visitor = visit({**DRAFT, "extra": {"width": 13}})
    visitor.page.fill("#prompt", "a cat")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("alert")).to_contain_text("13")
    visitor.complaints.clear()  # the browser's own line about a status of 422
    visitor.open("/p/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    expect(visitor.page.get_by_role("heading", name="There is no such picture")).to_be_visible()
    visitor.complaints.clear()


@pytest.mark.skipif(not AXE.is_file(), reason="ACCESSIBILITY NOT CHECKED: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Any, studio: Server, scheme: str) -> None:
    picture = studio.paint(prompt="a cat", seed=6)["id"]
    visitor = visit(color_scheme=scheme)
    drawers = [f"/?drawer={name}" for name in ("queue", "models", "settings", "keys")]
    verbs = [f"/p/{picture}{query}" for query in ("", "?do=inpaint", "?do=outpaint", "?do=learn")]
    for path in ("/", "/learn", *verbs, *drawers):
        visitor.open(path)
        visitor.page.wait_for_timeout(600)
        visitor.page.evaluate(AXE.read_text("utf-8"))
        found = visitor.page.evaluate("axe.run()")["violations"]
        serious = [
            (one["id"], [node["target"] for node in one["nodes"]][:4])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
