"""A1111's extension for ControlNets: what its clients send, against a real server with tiny networks."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from danqing.effects.control_maps import control_map
from danqing.interfaces.server.access import least_role
from danqing.studio.accounts import Role
from tests.controlnets import controlnet_for, original
from tests.image_prompts import image_encoder, ip_adapter
from tests.server import Server, data, error
from tests.single_files import SD1, tiny, write_model
from tests.test_control import photo
from tests.test_server import png

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
BODY: dict[str, Any] = {"prompt": "a red apple", "seed": 7, "steps": 2, "width": 64, "height": 64}
CANNY, LOOK = "control_v11p_sd15_canny", "ip-adapter_sd15"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("extension")
    components, controls = tiny(SD1), folder / "controls"
    for place in (folder / "models", controls):
        place.mkdir()
    write_model(folder / "models" / "foreign.safetensors", components)
    save_file(original(controlnet_for(components.unet)), controls / f"{CANNY}.safetensors")
    save_file(ip_adapter(components.unet), controls / f"{LOOK}.safetensors")
    image_encoder().save_pretrained(controls / "image_encoder")
    server = Server(folder)
    data(server.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "foreign"}))
    yield server
    server.stop()
    assert "Traceback" not in "".join(server.lines)


def encoded_png(image: Image.Image) -> str:
    return base64.b64encode(png(image)).decode()


PHOTO = encoded_png(photo())


def send(server: Server, *units: dict[str, Any], path: str = TXT2IMG, **more: Any) -> Any:
    scripts = {"ControlNet": {"args": list(units)}, "another script": {"args": [1]}}
    return server.client.post(path, json={**BODY, **more, "alwayson_scripts": scripts})


def pixels(server: Server, *units: dict[str, Any], **more: Any) -> bytes:
    [image] = data(send(server, *units, **more))["images"]
    with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
        return picture.tobytes()


def newest(server: Server) -> dict[str, Any]:
    """The inputs of the job that was submitted last."""
    inputs: dict[str, Any] = data(server.client.get("/v1/jobs?limit=1"))["data"][0]["inputs"]
    return inputs


def test_a_unit_steers_as_a_control_does(server: Server) -> None:
    plain = pixels(server)
    unit = {
        "module": "canny",
        "model": f"{CANNY} [d14c016b]",
        "image": PHOTO,
        "weight": 0.8,
        "guidance_end": 0.5,
    }
    steered = pixels(server, unit)
    [control] = newest(server)["control"]
    assert newest(server)["control_model"] == [CANNY]
    assert (control["kind"], control["strength"], control["start"], control["end"]) == (
        "canny",
        0.8,
        0.0,
        0.5,
    )
    job = server.post("paint", model="foreign.safetensors", **BODY, control=[control], control_model=[CANNY])
    ours = data(server.client.get(f"/v1/pictures/{server.wait(job['id'])['pictures'][0]}"))
    with Image.open(io.BytesIO(server.client.get(f"{ours['file']}?metadata=none").content)) as image:
        assert image.tobytes() == steered != plain
    assert pixels(server, {**unit, "enabled": False}) == plain


def test_a_map_that_is_sent_is_the_map_that_is_made(server: Server) -> None:
    """At the canvas's own size, so that nothing is scaled between the two."""
    square = photo(64, 64)
    made = pixels(server, {"module": "canny", "image": encoded_png(square), "model": CANNY})
    sent = {"image": {"image": encoded_png(control_map(square, "canny")), "mask": None}, "model": CANNY}
    assert pixels(server, sent) == made
    assert (
        pixels(server, {"module": "canny", "input_image": encoded_png(square)}) == made
    )  # found by its name


def test_a_unit_without_a_picture_follows_the_one_that_is_redrawn(server: Server) -> None:
    unit = {"module": "canny", "model": CANNY}
    assert pixels(server, unit, path=IMG2IMG, init_images=[PHOTO], denoising_strength=0.5)
    inputs = newest(server)
    assert (inputs["control"][0]["kind"], inputs["control"][0]["image"]) == ("canny", inputs["image"])


def test_an_ip_adapter_looks_at_the_picture_of_its_unit(server: Server) -> None:
    looked = pixels(server, {"module": "ip-adapter_clip_sd15", "model": f"{LOOK} [abc]", "image": PHOTO})
    assert (newest(server)["ip_adapter"], newest(server).get("control")) == ([LOOK], None)
    assert looked != pixels(server)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ({"module": "canny"}, "a unit of controlnet has no image: send one in base64"),
        ({"image": PHOTO}, "a unit of controlnet names neither module nor model: name one"),
        (
            {"module": "depth_midas", "image": PHOTO},
            "module 'depth_midas' is not here: send its map with module",
        ),
        ({"module": "canny", "image": PHOTO, "weight": 9}, "a unit of controlnet is wrong: weight 9"),
        ({"module": "canny", "image": "x"}, "the picture is no base64"),
        ({"module": "canny", "image": PHOTO, "model": "cany"}, "unknown ControlNet or T2I-Adapter 'cany'"),
    ],
)
def test_what_is_wrong_is_one_line(server: Server, unit: dict[str, Any], message: str) -> None:
    answer = send(server, unit)
    assert answer.status_code in (415, 422)
    assert answer.json()["detail"].startswith(message)


def test_units_are_a_short_list(server: Server) -> None:
    wrong: list[dict[str, Any]] = [{"args": "x"}, {"args": [{}] * 9}, {"args": 7}]
    for script in wrong:
        scripts = {"controlnet": script}
        answer = server.client.post(TXT2IMG, json={**BODY, "alwayson_scripts": scripts})
        assert answer.status_code == 422
        assert "at most 8 units" in answer.json()["detail"]


def test_lists_and_maps(server: Server) -> None:
    assert data(server.client.get("/controlnet/version")) == {"version": 2}
    assert data(server.client.get("/controlnet/settings")) == {"control_net_unit_count": 8}
    assert data(server.client.get("/controlnet/model_list"))["model_list"] == [CANNY, LOOK]
    assert {"none", "canny", "ip-adapter"} <= set(
        data(server.client.get("/controlnet/module_list"))["module_list"]
    )
    body = {"controlnet_module": "canny", "controlnet_input_images": [PHOTO]}
    [image] = data(server.client.post("/controlnet/detect", json=body))["images"]
    with Image.open(io.BytesIO(base64.b64decode(image))) as drawn:
        assert np.array_equal(np.asarray(drawn), np.asarray(control_map(photo(), "canny")))
    assert (
        "not here"
        in server.client.post(
            "/controlnet/detect", json={**body, "controlnet_module": "dw_openpose_full"}
        ).json()["detail"]
    )
    assert least_role("GET", "/controlnet/model_list") is Role.GUEST
    assert error(server.client.get("/v1/nothing"), 404)["code"] == "not_found"
