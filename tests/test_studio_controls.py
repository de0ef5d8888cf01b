"""Controls and image prompts in the forms of the page: a real server with a tiny model of another program."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from safetensors.torch import save_file

pytest.importorskip(
    "playwright.sync_api", reason="THE PAGE WAS NOT TRIED IN A BROWSER: pip install playwright"
)
pytest.importorskip("fastapi", reason="THE PAGE WAS NOT TRIED IN A BROWSER: pip install 'danqing[studio]'")

from tests.controlnets import controlnet_for, original
from tests.image_prompts import image_encoder, ip_adapter
from tests.server import Server
from tests.single_files import SD1, tiny, write_model
from tests.test_studio_page import Visitor, chromium, expect, pytestmark  # noqa: F401
from tests.tiny import model_folder

DRAFT: dict[str, Any] = {
    "model": "foreign.safetensors",
    "extra": {"steps": 2, "seed": 7, "width": 64, "height": 64},
    "count": 1,
    "more": True,
}
FIELDS = ("control", "control_model", "ip_image", "ip_adapter")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("controls")
    components = tiny(SD1)
    (folder / "models").mkdir()
    write_model(folder / "models" / "foreign.safetensors", components)
    controls = folder / "controls"
    controls.mkdir()
    save_file(original(controlnet_for(components.unet)), controls / "control_v11p_canny.safetensors")
    save_file(ip_adapter(components.unet), controls / "ip-adapter_sd15.safetensors")
    image_encoder().save_pretrained(controls / "image_encoder")
    model_folder(folder / "models" / "tiny")
    server = Server(folder, "--no-browser", command="studio")
    yield server
    server.stop()
    assert "Traceback" not in "".join(server.lines)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (96, 96), "#e8e0d0")
    ImageDraw.Draw(picture).ellipse((20, 20, 76, 76), fill="#803020")
    picture.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_schema_offers_what_there_is(studio: Server) -> None:
    def properties(model: str) -> dict[str, Any]:
        return dict(studio.client.get(f"/v1/apps/paint?model={model}").json()["schema"]["properties"])

    foreign = properties("foreign.safetensors")
    assert foreign["control"]["kinds"] == ["canny", "none"]
    assert foreign["control_model"]["items"]["enum"] == ["control_v11p_canny"]
    assert foreign["ip_adapter"]["items"]["enum"] == ["ip-adapter_sd15"]
    assert foreign["ip_image"]["items"]["format"] == "weighted-image"
    assert not set(FIELDS) & properties("tiny").keys()


def test_a_picture_is_followed(chromium: Any, studio: Server, photo: Path) -> None:  # noqa: F811
    """Chosen in the form, sent, painted, and kept for the next time; another model has no such fields."""
    visitor = Visitor(chromium, studio.url, DRAFT)
    page = visitor.page
    control, look = (page.locator(f'.field:has([data-field="{name}"])') for name in ("control", "ip_image"))
    page.set_input_files('[data-field="control"]', photo)
    expect(control.locator("img")).to_have_count(1)
    control.get_by_label("How strongly").fill("0.8")
    page.set_input_files('[data-field="ip_image"]', photo)
    expect(look.locator("img")).to_have_count(1)
    look.get_by_label("How strongly").fill("0.6")
    page.select_option('[data-field="ip_adapter"]', "ip-adapter_sd15")
    [painted] = visitor.finished(visitor.paint("a fox"), 1)
    brief = studio.client.get(f"/v1/pictures/{painted}").json()["brief"]
    [kind] = brief["control"]
    assert kind.startswith("canny=")
    assert kind.endswith(":0.8")
    assert brief["ip_image"][0].endswith(":0.6")
    assert brief["control_model"] == ["control_v11p_canny"]
    assert brief["ip_adapter"] == ["ip-adapter_sd15"]

    visitor.open("/")  # the draft keeps them
    expect(control.locator("img")).to_have_count(1)
    expect(control.get_by_label("How strongly")).to_have_value("0.8")
    control.get_by_role("button", name="Remove the picture").click()
    expect(control.locator("img")).to_have_count(0)

    visitor.open(f"/p/{painted}?do=redraw")
    page.locator("verb-panel summary").first.click()
    expect(page.locator('verb-panel [data-field="ip_adapter"]')).to_be_visible()
    visitor.open("/")
    page.select_option('[data-control="model"]', "tiny")
    expect(page.locator('.more [data-field="sampler"]')).to_have_count(1)
    expect(page.locator('[data-field="control"], [data-field="ip_image"]')).to_have_count(0)
    visitor.leave()


def test_a_fault_is_told_at_its_field(studio: Server) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    upload = studio.client.post(
        "/v1/uploads", content=buffer.getvalue(), headers={"Content-Type": "image/png"}
    )
    inputs = {"prompt": "a", "model": "foreign.safetensors", "control": [f"pose={upload.json()['id']}"]}
    answer = studio.client.post("/v1/jobs", json={"app": "paint", "inputs": inputs})
    job = answer.json() if answer.status_code == 202 else None
    message = studio.wait(job["id"])["error"]["message"] if job else answer.json()["error"]["message"]
    assert "no ControlNet or T2I-Adapter for pose: put one whose name says 'pose' into the folder" in message
