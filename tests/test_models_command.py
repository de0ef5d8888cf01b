"""`danqing models`: your own list, files of every kind, and the hub, against a small hub on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from danqing.core.errors import BadBrief, DanqingError
from danqing.families.stable_diffusion.painter import random_components
from danqing.interfaces.cli.main import run
from danqing.interfaces.cli.model_files import _CLASSES, _USES
from danqing.weights.detect import FileKind
from danqing.weights.diffusers_folder import save_folder
from danqing.weights.hub import HubFile, fetch, find_on_hub, needed_files
from danqing.weights.model_list import find_place, known_models, listed_models
from tests.hub_server import COMMIT, Hub, serving
from tests.image_prompts import image_encoder, ip_adapter, original_t2i, t2i_adapter
from tests.single_files import SD1, tiny

REPO = "someone/tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(random_components(), place, torch.float32)
    (place / "card.json").unlink()
    (place / "README.md").write_text("no part of a painter")
    (place / "safety_checker").mkdir()
    save_file({"x": torch.ones(1)}, place / "safety_checker" / "model.safetensors")
    return place


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list, a cache and a working folder of this test alone."""
    monkeypatch.setenv("DANQING_MODELS", str(tmp_path / "models.json"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub(REPO, folder)
    with serving(made) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield made


def paints(model: str) -> None:
    assert run(f"paint cat --model {model} --steps 2 --native --out a.png".split()) == 0


# ---- your own list


def test_what_was_added_is_used_by_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unet = tiny(SD1).unet
    save_file(ip_adapter(unet), tmp_path / "look.safetensors")
    save_file(original_t2i(t2i_adapter(unet)), tmp_path / "lines.safetensors")
    t2i_adapter(unet).save_pretrained(tmp_path / "sketch")
    image_encoder().save_pretrained(tmp_path / "clip")
    tiny(SD1).vae.save_pretrained(tmp_path / "colours")
    uses = {
        "look.safetensors": "--ip-image photo.jpg --ip-adapter look",
        "lines.safetensors": "--control canny=photo.jpg --control-model lines",
        "sketch": "--control canny=photo.jpg --control-model sketch",
        "clip": "--ip-image photo.jpg",
        "colours": "--vae colours",
    }
    for place, use in uses.items():
        assert run(["models", "add", place]) == 0
        assert capsys.readouterr().out.strip().endswith(f'danqing paint "a cat" {use}')
    assert set(_CLASSES.values()) <= set(_USES) <= set(FileKind)
    assert run(["models", "info", "sketch"]) == 0
    assert "a T2I-Adapter" in capsys.readouterr().out
    assert run(["models", "info", "look.safetensors"]) == 0
    assert "an IP-Adapter" in capsys.readouterr().out


def test_a_model_on_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Added where it is, painted with by its name, told of, taken off; its files stay."""
    assert run(["models", "add", str(folder), "--name", "mine"]) == 0
    assert listed_models() == {"mine": folder}
    assert run(["models", "list"]) == 0
    assert f"mine  {folder}" in capsys.readouterr().out
    paints("mine")
    assert run(["models", "info", "mine"]) == 0
    assert "StableDiffusionPipeline" in capsys.readouterr().out
    assert run(["models", "remove", "mine"]) == 0
    assert listed_models() == {}
    assert folder.is_dir()
    assert run(["models", "remove", "mine"]) == 2


def test_names_that_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["add", str(folder), "--name", "stickers"], "is the name of a shipped model"),
        (["add", "no/where/at/all"], "unknown model"),
        (["info", "a" * 5000], "unknown model"),
        (["info", "someone/missing"], "fetch it with danqing models add someone/missing"),
        (["info", "sdxl"], "sdxl is not here: fetch it with danqing models add sdxl (6.9 GB)"),
        (["scan", "nowhere"], "is no folder"),
    ):
        assert run(["models", *words]) == 2, words
        assert message in capsys.readouterr().err
    assert run(["paint", "cat", "--model", "someone/missing"]) == 2
    assert "danqing models add someone/missing" in capsys.readouterr().err


def test_a_damaged_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for text in ("{", "[]", '{"a": 1}'):
        (tmp_path / "models.json").write_text(text)
        assert run(["models", "list"]) == 2
        assert "models.json" in capsys.readouterr().err


def test_info_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {"lora_unet_x_attn2_to_k.lora_down.weight": torch.ones(4, 768)}
    save_file(tensors, tmp_path / "a.safetensors", {"modelspec.trigger_phrase": "wth \x1b cat"})
    assert run(["models", "info", "a.safetensors"]) == 0
    out = capsys.readouterr().out
    assert "a LoRA of Stable Diffusion 1" in out
    assert r"wth \x1b cat" in out
    assert "as A1111 shows it" in out


def test_scan(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"emb_params": torch.ones(2, 768)}, tmp_path / "neg.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"GGUF" + bytes(99))
    (tmp_path / "old.ckpt").write_bytes(b"x")
    (tmp_path / "tiny").symlink_to(folder)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model_index.json").write_bytes((folder / "model_index.json").read_bytes())
    assert run(["models", "scan", ".", "--add"]) == 0
    out = capsys.readouterr().out
    assert "neg.safetensors  a learned word of Stable Diffusion 1" in out
    assert "broken.safetensors  is GGUF" in out
    assert "old.ckpt  a pickle" in out
    assert "real  a folder of diffusers, StableDiffusionPipeline" in out
    assert listed_models().keys() == {"real"}


def test_doctor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three prompts by us and by diffusers. Measured: 0.00 of 255 apart."""
    assert run(["models", "doctor", str(folder), "--full"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.count("ok ") == 5
    assert "0.00 of 255 apart" in out


def test_short_names_are_whole() -> None:
    for name, known in known_models().items():
        assert known.licence, name
        assert 0 < known.gigabytes < 20
        assert known.repo.count("/") == 1


# ---- the hub


def test_fetching(
    hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked first; only what a painter needs; in the shared cache; then found without the hub."""
    assert run(["models", "add", REPO]) == 2
    err = capsys.readouterr().err
    assert "licence: openrail++" in err
    assert "was not fetched: answer y, or give --yes" in err
    assert hub.fetched == []
    assert run(["models", "add", REPO, "--name", "hubbed", "--yes"]) == 0, capsys.readouterr().err
    fetched = set(hub.fetched)
    assert "README.md" not in fetched
    assert not any(name.startswith(("safety_checker", "upscaler")) for name in fetched)
    place = find_place(REPO)
    assert place is not None
    assert place.name == COMMIT
    assert find_place(str(place.parents[1])) == place  # the folder models--someone--tiny itself
    ours = load_file(place / "unet" / "diffusion_pytorch_model.safetensors")
    theirs = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(f"paint cat --model {REPO} --steps 2 --native --out a.png".split()) == 0, (
        capsys.readouterr().err
    )


def test_a_cut_download_is_tried_again(hub: Hub, folder: Path) -> None:
    """The connection ends within the first weights; what arrives in the end is whole."""
    hub.cut = 5000
    place = fetch(find_on_hub(REPO))
    weights = [name for name in hub.fetched if name.endswith(".safetensors")]
    assert len(weights) == len(set(weights)) + 1
    for name in set(weights):
        assert (place / name).read_bytes() == (folder / name).read_bytes()


def test_a_damaged_file_is_removed(hub: Hub) -> None:
    hub.wrong_hash = True
    with pytest.raises(DanqingError, match="came damaged"):
        fetch(find_on_hub(REPO))


def test_what_the_hub_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DanqingError, match="the hub has no someone/other"):
        find_on_hub("someone/other")
    model = find_on_hub(REPO)
    hub.gated = True
    with pytest.raises(DanqingError, match="asks for consent: accept its licence"):
        fetch(model)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DanqingError, match=r"could not be fetched|no network"):
        find_on_hub(REPO)


def listing(*names: str) -> tuple[Any, ...]:
    return tuple(HubFile(name, 1) for name in names)


def test_which_files_are_needed() -> None:
    both = [f"unet/diffusion_pytorch_model{v}.safetensors" for v in ("", ".fp16", ".non_ema")]
    files = listing(
        "model_index.json", "unet/config.json", *both, "vae/diffusion_pytorch_model.safetensors", "x.ckpt"
    )
    paths = [file.path for file in needed_files(REPO, files)]
    assert paths == [
        "model_index.json",
        "unet/config.json",
        both[0],
        "vae/diffusion_pytorch_model.safetensors",
    ]
    half = [file.path for file in needed_files(REPO, files, "fp16")]
    assert half == [
        "model_index.json",
        "unet/config.json",
        both[1],
        "vae/diffusion_pytorch_model.safetensors",
    ]
    singles = listing("a.safetensors", "b.safetensors", "README.md")
    assert [file.path for file in needed_files(REPO, singles, file="b.safetensors")] == ["b.safetensors"]
    with pytest.raises(BadBrief, match="several files: choose one with --file"):
        needed_files(REPO, singles)
    with pytest.raises(BadBrief, match=r"has no c\.safetensors"):
        needed_files(REPO, singles, file="c.safetensors")
    with pytest.raises(BadBrief, match="no diffusers folder"):
        needed_files(REPO, listing("README.md"))
    assert (
        json.dumps([file.path for file in needed_files(REPO, listing("a.safetensors"))])
        == '["a.safetensors"]'
    )
