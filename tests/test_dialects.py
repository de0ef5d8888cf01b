"""Programs that speak OpenAI's or A1111's interface: their real clients paint here and notice nothing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from PIL import Image, ImageChops

from danqing.diffusion.samplers import SAMPLERS
from danqing.interfaces.server.dialects import _a1111_bodies
from danqing.interfaces.server.dialects._sizes import nearest_size
from tests.server import Server, data
from tests.toy import CARD

openai: Any = pytest.importorskip("openai", reason="NOT TRIED WITH OPENAI'S CLIENT: pip install openai")
webuiapi: Any = pytest.importorskip("webuiapi", reason="NOT TRIED WITH A1111'S CLIENT: pip install webuiapi")

WORDS = "a red apple"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("studio"))
    server.paint()
    yield server
    server.stop()
    assert "Traceback" not in "".join(server.lines)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def webui(server: Server) -> Iterator[webuiapi.WebUIApi]:
    port = int(server.url.rpartition(":")[2])
    api = webuiapi.WebUIApi(host="127.0.0.1", port=port, sampler="DDIM", steps=3)
    yield api
    api.session.close()


def picture(encoded: str | None) -> Image.Image:
    assert encoded is not None
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    image.load()
    return image


def file(image: Image.Image) -> tuple[str, bytes, str]:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "picture.png", buffer.getvalue(), "image/png"


def outside(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    rest = image.convert("RGB")
    rest.paste((0, 0, 0), box)
    return rest


def test_openai_lists_models_and_generates(client: openai.OpenAI) -> None:
    assert "tiny" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tiny").owned_by == "danqing"
    answer = client.images.generate(
        model="tiny", prompt=WORDS, n=2, size="100x150", response_format="b64_json", quality="low"
    )
    assert answer.data is not None
    assert len(answer.data) == 2
    assert answer.size == "128x128"
    assert answer.usage is not None
    images = [picture(entry.b64_json) for entry in answer.data]
    assert [image.size for image in images] == [(128, 128)] * 2
    assert images[0].tobytes() != images[1].tobytes()
    assert "parameters" in images[0].info


def test_openai_gives_addresses_and_other_formats(client: openai.OpenAI, server: Server) -> None:
    answer = client.images.generate(model="tiny", prompt=WORDS, response_format="url", quality="low")
    assert answer.data is not None
    assert answer.data[0].b64_json is None
    url = str(answer.data[0].url)
    assert url.startswith(server.url)
    assert server.client.get(url).headers["content-type"] == "image/png"
    for form in ("jpeg", "webp"):
        answer = client.images.generate(
            model="tiny", prompt=WORDS, output_format=form, quality="low", background="transparent"
        )
        assert answer.data is not None
        assert answer.output_format == form
        assert picture(answer.data[0].b64_json).format == form.upper()


def test_openai_streams_partial_images(client: openai.OpenAI) -> None:
    stream = client.images.generate(model="tiny", prompt=WORDS, stream=True, partial_images=2)
    events = list(stream)
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds[-1] == "completed"
    assert 1 <= kinds.count("partial_image") <= 2
    assert [e.partial_image_index for e in events if hasattr(e, "partial_image_index")] == list(
        range(len(kinds) - 1)
    )
    assert all(picture(event.b64_json) for event in events)


def test_openai_edits_where_the_mask_is_transparent(client: openai.OpenAI) -> None:
    source = Image.effect_noise((128, 128), 60).convert("RGB")
    mask = Image.new("RGBA", source.size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (32, 32, 96, 96))
    answer = client.images.edit(
        model="tiny", image=file(source), mask=file(mask), prompt=WORDS, response_format="b64_json"
    )
    assert answer.data is not None
    made, box = picture(answer.data[0].b64_json).convert("RGB"), (22, 22, 106, 106)
    assert ImageChops.difference(outside(made, box), outside(source, box)).getbbox() is None
    assert ImageChops.difference(made, source).getbbox() is not None
    stream = client.images.edit(model="tiny", image=[file(source)], prompt=WORDS, stream=True)
    assert [event.type for event in stream][-1] == "image_edit.completed"
    answer = client.images.edit(model="tiny", image=[file(source), file(made)], prompt=WORDS)
    assert answer.data is not None
    assert len(answer.data) == 1


def test_openai_varies_what_does_not_say_its_words(client: openai.OpenAI) -> None:
    source = Image.new("RGB", (128, 128), "red")
    with pytest.warns(DeprecationWarning, match="deprecated"):  # OpenAI gives its own up, too
        answer = client.images.create_variation(
            model="tiny", image=file(source), n=2, response_format="b64_json"
        )
    assert answer.data is not None
    assert [picture(entry.b64_json).size for entry in answer.data] == [(128, 128)] * 2


def test_openai_errors_have_its_form(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(model="gpt-image-1", prompt=WORDS)
    assert missing.value.body["code"] == "not_found"
    for fields in ({"n": 11}, {"size": "huge"}, {"prompt": ""}):
        with pytest.raises(openai.BadRequestError) as bad:
            client.images.generate(**{"model": "tiny", "prompt": WORDS, **fields})
        assert bad.value.param == next(iter(fields))
        assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="no transparency"):
        client.images.edit(
            model="tiny",
            image=file(Image.new("RGB", (64, 64))),
            mask=file(Image.new("RGB", (64, 64))),
            prompt="x",
        )
    body = server.client.post("/v1/images/generations", json={}).json()
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_webui_paints_from_words(webui: webuiapi.WebUIApi) -> None:
    webui.util_set_model("tiny")
    assert webui.util_get_current_model() == "tiny"
    result = webui.txt2img(prompt=WORDS, seed=5, width=128, height=128, batch_size=2, styles=["3d"])
    assert [image.size for image in result.images] == [(128, 128)] * 2
    assert result.info["all_seeds"] == [5, 6]
    assert result.info["infotexts"][0].startswith(WORDS)
    assert result.images[0].info["parameters"].startswith(WORDS)
    again = webui.txt2img(prompt=WORDS, seed=5, width=128, height=128, styles=["3d"])
    assert again.image.tobytes() == result.images[0].tobytes()
    fused = webui.txt2img(prompt=WORDS, seed=5, sampler_name="DPM++ 2M Karras", width=128, height=128)
    assert fused.info["sampler_name"] == "dpmpp_2m_karras"
    with pytest.raises(RuntimeError, match="sampler"):
        webui.txt2img(prompt=WORDS, sampler_name="Nonsense")


def test_webui_paints_on_pictures_where_the_mask_is_white(webui: webuiapi.WebUIApi) -> None:
    webui.util_set_model("tiny")
    source = Image.effect_noise((128, 128), 60).convert("RGB")
    result = webui.img2img(images=[source], prompt=WORDS, seed=1, denoising_strength=0.5)
    assert result.image.size == (128, 128)
    mask, box = Image.new("L", source.size), (32, 32, 96, 96)
    mask.paste(255, box)
    result = webui.img2img(images=[source], mask_image=mask, prompt=WORDS, seed=1, mask_blur=0)
    kept = ImageChops.difference(outside(result.image, box), outside(source, box))
    assert kept.getbbox() is None
    result = webui.img2img(
        images=[source], mask_image=mask, prompt=WORDS, seed=1, mask_blur=0, inpainting_mask_invert=1
    )
    inside = ImageChops.difference(result.image.convert("RGB").crop(box), source.crop(box))
    assert inside.getbbox() is None


def test_webui_asks_all_its_questions(webui: webuiapi.WebUIApi, server: Server) -> None:
    webui.util_wait_for_ready(check_interval=0.1)
    assert webui.get_progress()["progress"] == 0.0
    assert webui.get_progress()["state"]["job_count"] == 0
    assert "DDIM" in webui.util_get_sampler_names()
    assert "tiny" in webui.util_get_model_names()
    assert webui.get_upscalers()[0]["name"] == "None"
    assert [style["name"] for style in webui.get_prompt_styles()]
    for question in (
        webui.get_schedulers,
        webui.get_latent_upscale_modes,
        webui.get_loras,
        webui.get_sd_vae,
        webui.get_hypernetworks,
        webui.get_face_restorers,
        webui.get_realesrgan_models,
        webui.get_scripts,
        webui.get_embeddings,
        webui.get_memory,
        webui.get_cmd_flags,
        webui.refresh_checkpoints,
    ):
        question()
    made = server.paint()
    with Image.open(io.BytesIO(server.client.get(made["file"]).content)) as image:
        image.load()
        assert "a red apple" in webui.png_info(image).info
        assert webui.interrogate(image).info
        assert webui.extra_single_image(image).image.width == 4 * image.width


def test_webui_sees_and_stops_its_own_job(webui: webuiapi.WebUIApi, server: Server) -> None:
    webui.util_set_model("tiny")
    answers: list[Any] = []

    def paint() -> None:
        body = {"prompt": WORDS, "steps": 1000, "sampler_name": "DDIM", "n_iter": 3}
        answers.append(server.client.post("/sdapi/v1/txt2img", json=body))

    thread = Thread(target=paint)
    thread.start()
    while not (progress := webui.get_progress())["progress"]:
        assert thread.is_alive()
    assert progress["state"]["sampling_steps"] == 3000
    assert picture(progress["current_image"]).format == "JPEG"
    webui.interrupt()
    thread.join(30)
    assert data(answers[0])["images"] == []
    assert json.loads(answers[0].json()["info"])["all_seeds"] == []
    webui.util_wait_for_ready(check_interval=0.1)


def test_what_open_webui_sends(server: Server) -> None:
    """It reads all options, changes the model, and sends them back, with an empty login."""
    headers = {"Authorization": "Basic"}
    options = data(server.client.get("/sdapi/v1/options", headers=headers))
    options["sd_model_checkpoint"] = "tiny"
    data(server.client.post("/sdapi/v1/options", json=options, headers=headers))
    body = {
        "prompt": WORDS,
        "batch_size": 1,
        "width": 512,
        "height": 512,
        "steps": 2,
        "negative_prompt": None,
    }
    answer = data(server.client.post("/sdapi/v1/txt2img", json=body, headers=headers))
    assert picture(answer["images"][0]).size == (256, 256)


def test_samplers_have_their_names(server: Server) -> None:
    assert {SAMPLERS[ours].title: ours for ours in _a1111_bodies.SAMPLERS.values()} == _a1111_bodies.SAMPLERS
    assert {f"{ours}_karras" for ours in _a1111_bodies.KARRAS} <= set(SAMPLERS)
    assert data(server.client.get("/sdapi/v1/samplers"))[0]["name"] == "DPM++ 2M"


@pytest.mark.parametrize(
    ("size", "made"),
    [((64, 64), (64, 64)), ((1, 1), (16, 16)), ((70, 30), (64, 32)), ((4000, 2000), (64, 32))],
)
def test_sizes_are_those_that_the_model_can_paint(size: tuple[int, int], made: tuple[int, int]) -> None:
    assert nearest_size(*size, CARD) == made
