"""Settings in pictures of other programs: shown, painted again, and what cannot be kept is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from danqing.apps._other_programs import is_a1111_text, read_a1111_text, read_other_settings
from danqing.core.picture import Picture
from tests.command_line import Ask, paint
from tests.toy import CARD

A1111 = (
    "a fox, (red:1.3)\nNegative prompt: dog\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1234, Size: 512x768, Model hash: abc, "
    "Model: v1-5, Clip skip: 2"
)
COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 99,
            "steps": 12,
            "cfg": 6.5,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dream.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle at night", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["8", 0]}},
}


LINKS = [  # number, from node, output, to node, input, type
    [1, 4, 0, 3, 0, "MODEL"],
    [2, 6, 0, 3, 1, "CONDITIONING"],
    [3, 7, 0, 3, 2, "CONDITIONING"],
    [4, 5, 0, 3, 3, "LATENT"],
    [5, 3, 0, 8, 0, "LATENT"],
    [6, 8, 0, 9, 0, "IMAGE"],
    [7, 4, 1, 6, 0, "CLIP"],
    [8, 4, 1, 7, 0, "CLIP"],
]


def png(path: Path, **chunks: str) -> Path:
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    Image.new("RGB", (32, 48), "orange").save(path, pnginfo=info)
    return path


def test_a1111(tmp_path: Path) -> None:
    settings = read_other_settings(png(tmp_path / "a.png", parameters=A1111))
    assert settings is not None
    assert settings.program == "AUTOMATIC1111"
    assert settings.fields == {
        "prompt": "a fox, (red:1.3)",
        "negative_prompt": "dog",
        "seed": 1234,
        "steps": 20,
        "guidance": 7.0,
        "sampler": "euler_ancestral",
    }
    assert (settings.size, settings.model) == ((512, 768), "v1-5")
    assert any("Clip skip" in each or "clip_skip" in each for each in settings.unread)
    fields, notes = settings.for_card(CARD)
    assert fields["width"] * 3 == fields["height"] * 2, "the shape is kept"
    assert fields["width"] % (CARD.size_multiple * CARD.scale) == 0
    assert len(notes) == 3
    assert all("\n" not in note for note in notes)


def test_comfyui(tmp_path: Path) -> None:
    chunks = {"prompt": json.dumps(COMFY), "workflow": json.dumps({"links": LINKS})}
    settings = read_other_settings(png(tmp_path / "a.png", **chunks))
    assert settings is not None
    assert settings.fields["prompt"] == "a castle at night"
    assert settings.fields["negative_prompt"] == "blurry"
    assert settings.fields["sampler"] == "dpmpp_2m_karras"
    assert (settings.fields["seed"], settings.fields["steps"], settings.fields["guidance"]) == (99, 12, 6.5)


@pytest.mark.parametrize("sampler", ["DPM++ 3M SDE", "Restart"])
def test_a_sampler_that_we_lack_is_said(sampler: str) -> None:
    settings = read_a1111_text(A1111.replace("Euler a", sampler))
    assert settings is not None
    assert "sampler" not in settings.fields
    assert f"sampler {sampler}" in settings.unread


@given(st.text(max_size=200))
def test_any_text_is_settings_or_nothing(text: str) -> None:
    settings = read_a1111_text(text)
    assert settings is None or isinstance(settings.fields["prompt"], str)


@pytest.mark.parametrize("text", ["a fox", "Steps: 20 to heaven, a painting", "a fox --steps 20"])
def test_a_prompt_is_no_settings(text: str) -> None:
    assert not is_a1111_text(text)


def test_a_picture_of_another_program_is_shown_and_painted_again(ask: Ask) -> None:
    png(Path("a.png"), parameters=A1111)
    shown = ask("show", "a.png")
    assert shown.code == 0
    assert "a fox, (red:1.3)" in shown.out
    assert "euler_ancestral" in shown.out
    assert shown.out.rstrip().endswith("danqing paint --from a.png")
    answer = paint(ask, "--from", "a.png", "--out", "b.png")
    assert answer.code == 0, answer.err
    brief = Picture.open("b.png").brief
    assert (brief.prompt, brief.negative_prompt, brief.seed) == ("a fox, (red:1.3)", "dog", 1234)
    assert (brief.steps, brief.guidance, brief.sampler) == (20, 7.0, "euler_ancestral")
    assert "AUTOMATIC1111 painted it with model 'v1-5'" in answer.err
    assert "512x768 becomes" in answer.err
    assert "not kept: " in answer.err


def test_what_is_given_comes_before_the_picture(ask: Ask) -> None:
    png(Path("a.png"), parameters=A1111)
    assert paint(ask, "a wolf", "--from", "a.png", "--seed", "5", "--out", "b.png").code == 0
    brief = Picture.open("b.png").brief
    assert (brief.prompt, brief.seed, brief.negative_prompt) == ("a wolf", 5, "dog")


def test_settings_as_text_and_as_a_pasted_prompt(ask: Ask) -> None:
    Path("a.txt").write_text(A1111, "utf-8")
    assert paint(ask, "--from", "a.txt", "--out", "b.png").code == 0
    assert paint(ask, A1111, "--out", "c.png").code == 0
    assert Picture.open("b.png").brief == Picture.open("c.png").brief
    assert Picture.open("b.png").brief.seed == 1234


def test_our_own_picture_is_painted_again(ask: Ask) -> None:
    assert paint(ask, r"a \--fox", "--seed", "3", "--steps", "2", "--style", "3d", "--out", "a.png").code == 0
    assert paint(ask, "--from", "a.png", "--out", "b.png").code == 0
    first, again = Picture.open("a.png"), Picture.open("b.png")
    assert first.brief == again.brief
    assert first.image.tobytes() == again.image.tobytes()


@pytest.mark.parametrize("name", ["plain.png", "words.txt"])
def test_a_file_without_settings_is_one_line(ask: Ask, name: str) -> None:
    png(Path("plain.png"))
    Path("words.txt").write_text("a fox")
    answer = paint(ask, "--from", name)
    assert answer.code in (1, 2)
    assert answer.err.startswith("danqing: ")
    assert answer.err.count("\n") == 1


def test_a_source_that_changed_is_said(ask: Ask) -> None:
    Image.new("RGB", (64, 64), "orange").save("in.png")
    assert ask("upscale", "in.png", "--model", "toy", "--out", "big.png").code == 0
    assert "has changed" not in ask("show", "big.png").err
    Image.new("RGB", (64, 64), "blue").save("in.png")
    answer = ask("show", "big.png")
    assert (answer.code, Picture.open("big.png").brief.image) == (0, "in.png")
    assert "'in.png' has changed since" in answer.err
