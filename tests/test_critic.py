"""CLIP as one who looks: against transformers' features and processor, and a folder's faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Generator
from transformers import CLIPImageProcessorPil, CLIPModel

from danqing.core.errors import BadWeights
from danqing.core.images import from_pil, pad_to_square
from danqing.families import open_clip_scorer
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.stable_diffusion.painter import byte_tokenizer

TEXTS = ("a cat", "红苹果", "a much longer text than the tower can read", "house")
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(0)
    return build_clip("tiny", byte_tokenizer(16)).eval()


@pytest.fixture(scope="module")
def scorer(clip: CLIPModel) -> ClipScorer:
    return ClipScorer.of(clip, byte_tokenizer(16))


@pytest.fixture
def folder(clip: CLIPModel, tmp_path: Path) -> Path:
    clip.save_pretrained(tmp_path)
    byte_tokenizer(16).save_pretrained(tmp_path)
    return tmp_path


def preprocessor_config(**changes: Any) -> Any:
    return {"image_mean": MEAN, "image_std": DEVIATION, **changes}


def test_words_are_those_of_transformers(clip: CLIPModel, scorer: ClipScorer) -> None:
    """Theirs reads one text at a time; ours all, padded and in two batches. Measured: 1.3e-7."""
    tokenizer = byte_tokenizer(16)
    ours = ClipScorer(clip, tokenizer, scorer.processor, batch=1).text_embeddings(TEXTS * 3)
    for text, embedding in zip(TEXTS * 3, ours, strict=True):
        tokens = tokenizer(text, truncation=True, return_tensors="pt")
        theirs = F.normalize(clip.get_text_features(**tokens).pooler_output[0], dim=-1)
        assert torch.allclose(embedding, theirs, atol=1e-5)


def test_pictures_are_those_of_transformers(clip: CLIPModel, scorer: ClipScorer) -> None:
    """Measured: 1.2e-7."""
    pixels = torch.rand(5, 4, 32, 32, generator=rng()) * 2 - 1
    ours = ClipScorer(clip, scorer.tokenizer, scorer.processor, batch=2).image_embeddings(pixels)
    theirs = clip.get_image_features(pixel_values=pixels[:, :3]).pooler_output
    assert torch.allclose(ours, F.normalize(theirs, dim=-1), atol=1e-5)
    assert torch.allclose(ours.norm(dim=-1), torch.ones(5), atol=1e-5)


def test_classify_is_what_transformers_calls_logits_per_image(clip: CLIPModel, scorer: ClipScorer) -> None:
    pixels = torch.rand(3, 3, 32, 32, generator=rng(1)) * 2 - 1
    tokens = scorer.tokenizer(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    theirs = clip(pixel_values=pixels, **tokens).logits_per_image.softmax(dim=-1)
    assert torch.allclose(scorer.classify(pixels, TEXTS), theirs, atol=1e-5)


def test_rank_puts_the_best_first(scorer: ClipScorer) -> None:
    pixels = torch.rand(6, 3, 32, 32, generator=rng(2)) * 2 - 1
    scores = scorer.score(pixels, ["a cat"])[:, 0]
    order = scorer.rank(pixels, "a cat")
    assert sorted(order) == list(range(6))
    assert scores[order].tolist() == sorted(scores.tolist(), reverse=True)


def test_gradients_reach_the_pixels_and_not_the_weights(scorer: ClipScorer) -> None:
    pixels = torch.zeros(1, 3, 32, 32, requires_grad=True)
    scorer.score(pixels, ["a cat"]).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in scorer.model.parameters())


def test_what_is_not_square_lies_on_white(scorer: ClipScorer) -> None:
    wide = torch.zeros(1, 4, 10, 17)
    square = pad_to_square(wide)
    assert square.shape == (1, 4, 17, 17)
    assert (square[..., :3, :] == 1).all()
    assert torch.equal(square[..., 3:13, :], wide)
    assert torch.equal(scorer.image_embeddings(wide), scorer.image_embeddings(square))


def test_published_weights_see_what_their_processor_shows(folder: Path) -> None:
    """A large square picture through transformers' resizing and normalising. Measured: 0.016, half a byte."""
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))
    scorer = open_clip_scorer(folder)
    noise = torch.rand(3, 12, 12, generator=rng(3)).mul(255).byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=32, image_mean=MEAN, image_std=DEVIATION
    )
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(scorer.processor(from_pil(image)[None, :3]), theirs, atol=2 / 255 / min(DEVIATION))


def test_a_folder_of_transformers_opens(folder: Path, scorer: ClipScorer) -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=rng(4)) * 2 - 1
    assert torch.equal(open_clip_scorer(folder).score(pixels, TEXTS), scorer.score(pixels, TEXTS))


def test_the_shipped_critic_tells_styles_and_languages() -> None:
    scorer = open_clip_scorer()
    words = scorer.text_embeddings(["a red apple", "红苹果", "a camera", "相机"])
    cosines = words @ words.T
    assert cosines[0].argsort(descending=True).tolist()[:2] == [0, 1]
    assert cosines[2].argsort(descending=True).tolist()[:2] == [2, 3]
    assert scorer.text_embeddings(["word " * 200]).isfinite().all()


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def another_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "siglip"}))


def smaller(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 16
    (folder / "config.json").write_text(json.dumps(config))


def no_mean(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{}")


def no_deviation(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(image_std=[0, 0, 0])))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (no_folder, "config.json"),
        (no_tokenizer, "tokenizer.json"),
        (another_kind, "'siglip'"),
        (smaller, "mis-shaped"),
        (no_mean, "image_mean"),
        (no_deviation, "image_std"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(folder: Path, fault: Callable[..., Any], says: str) -> None:
    fault(folder)
    with pytest.raises(BadWeights) as raised:
        open_clip_scorer(folder)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_older_files_with_counted_positions_open(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(tensors, folder / "model.safetensors")
    assert open_clip_scorer(folder).text_embeddings(["a cat"]).isfinite().all()
