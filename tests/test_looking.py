"""Apps that look at pictures: what they show, where it is, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import ndarray
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

from danqing import Session
from danqing.apps import find_app
from danqing.apps._describe import caption, is_doubtful, prompt, prompts_for, style_like
from danqing.apps._masks import _outside, holes, region_of, scratches
from danqing.apps._zero_shot import ScorerEnsemble, mentions, open_zero_shot, pixels_on_white
from danqing.core.card import Card
from danqing.core.errors import BadBrief, BadWeights
from danqing.core.progress import no_progress
from danqing.data.vocabulary import things, vocabulary
from danqing.families import open_clip_scorer
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.weights.shipped import shipped_models
from tests.toy import CARD

SAMPLES = Path(__file__).parent.parent / "samples" / "stickers"
ROWS = [json.loads(line) for line in (SAMPLES / "metadata.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def classifier() -> Any:
    return open_zero_shot()


@pytest.fixture(scope="module")
def card() -> Card:
    return Card.model_validate_json((shipped_models()["stickers"] / "card.json").read_text("utf-8"))


def drawing(concept: str, style: str, side: int = 128) -> Image.Image:
    (row,) = [row for row in ROWS if (row["concept"], row["style"]) == (concept, style)]
    return Image.open(SAMPLES / row["file_name"]).convert("RGBA").resize((side, side))


def scene(left: Image.Image, right: Image.Image, side: Any = 256) -> tuple[Image.Image, list[ndarray]]:
    """Two drawings side by side on white, and the masks of both."""
    image, masks = Image.new("RGBA", (side, side), "white"), []
    for k, picture in enumerate((left, right)):
        layer = Image.new("RGBA", image.size)
        layer.paste(picture, (k * side // 2 + 6, side // 4))
        image.alpha_composite(layer)
        masks.append(np.asarray(layer)[..., 3] > 127)
    return image, masks


class Colours:
    """Knows red and blue, by how much of each a picture has."""

    def classify(self, pixels: Tensor, labels: list[str]) -> Tensor:
        red, green, blue = (pixels[:, c].mean(dim=(1, 2)) for c in range(3))
        likely = {"red": red - green, "blue": blue - green}
        column = [likely.get(label, torch.full_like(red, -1.0)) for label in labels]
        return (8 * torch.stack(column, dim=1)).softmax(dim=-1)


# ---- words


def test_things_have_names_in_both_languages() -> None:
    assert len(set(things("en"))) == len(set(things("zh"))) == 120
    assert vocabulary()["red apple"] == "红苹果"


@pytest.mark.parametrize(
    ("text", "name", "there"),
    [
        ("the cat sleeps", "cat", True),
        ("a category", "cat", False),
        ("Red Apple.", "red apple", True),
        ("一只猫", "猫", True),
        ("一只狗", "猫", False),
        ("a t-shirt", "t-shirt", True),
    ],
)
def test_names_are_found_in_texts(text: str, name: str, there: bool) -> None:
    assert mentions(text, name) == there


@pytest.mark.parametrize(
    ("label", "thing"),
    [("the teddy bear", "teddy bear"), ("猫头鹰，剪纸风格", "owl"), ("a bearing", None), ("猫", "cat")],
)
def test_the_expert_takes_the_longest_name(classifier: ScorerEnsemble, label: str, thing: str | None) -> None:
    assert classifier._thing(label) == thing


def test_the_expert_multiplies_two_probabilities(classifier: ScorerEnsemble) -> None:
    """p(label) ~ p_CLIP(label) * p_judge(thing); where the judge has no opinion that is 1/120."""
    pixels = pixels_on_white(drawing("tiger", "cartoon"))
    labels = ["a tiger", "an octopus", "a samovar"]
    own = classifier.scorer.classify(pixels, labels)
    concept = classifier.judge.predict(pixels)[0].softmax(dim=-1)
    known = [classifier.judge.config.concepts.index(name) for name in ("tiger", "octopus")]
    product = own * torch.cat([concept[:, known], torch.full((1, 1), 1 / 120)], dim=1)
    assert torch.allclose(classifier.classify(pixels, labels), product / product.sum(), atol=1e-5)


def test_weights_of_the_users_own_look_alone(tmp_path: Path) -> None:
    scorer = open_clip_scorer()
    scorer.model.save_pretrained(tmp_path)
    scorer.tokenizer.save_pretrained(tmp_path)
    assert not isinstance(open_zero_shot(tmp_path), ScorerEnsemble)


# ---- describe


@pytest.mark.parametrize(
    ("concept", "style", "language", "first"),
    [
        ("tiger", "paper-cut", "en", "a tiger, paper-cut style"),
        ("octopus", "ink-wash", "zh", "章鱼，水墨风格"),
        ("teapot", "porcelain", "en", "a teapot, blue and white porcelain style"),
    ],
)
def test_a_drawing_is_described(
    classifier: ScorerEnsemble, card: Card, concept: str, style: str, language: str, first: str
) -> None:
    said = prompts_for(drawing(concept, style), classifier, card, language)
    assert said[0] == first
    assert len({text.split("，" if language == "zh" else ", ")[0] for text in said}) == 4


def test_of_a_drawing_of_nothing_known_one_is_not_sure(classifier: ScorerEnsemble) -> None:
    known = [drawing("tiger", "paper-cut"), drawing("octopus", "ink-wash"), drawing("teapot", "porcelain")]
    assert [is_doubtful(picture, classifier) for picture in known] == [False] * 3
    lines = Image.new("RGB", (128, 128), "white")
    for k in range(0, 128, 16):
        ImageDraw.Draw(lines).line((0, k, 128, 128 - k), "black", 2)
    assert is_doubtful(lines, classifier)
    assert not is_doubtful(lines, Colours())  # which was not measured


def test_describe_and_stylize_say_that_they_are_not_sure(tmp_path: Path) -> None:
    place = tmp_path / "noise.png"
    noise = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place)
    session = Session()
    painting = {"style": "paper-cut", "fast": True, "native": True, "how": "paint"}
    for name, values, says in (("describe", {}, "guesses"), ("stylize", painting, "name what it shows")):
        app = find_app(name)
        inputs = app.parse({"image": str(place), "model": "stickers", **values}, session)
        assert list(app.run(inputs, session, no_progress))
        assert [note for note in inputs.notes if says in note], name


def test_few_things_come_in_several_styles(card: Card) -> None:
    red = Image.new("RGB", (40, 20), "red")
    said = prompts_for(red, Colours(), card, vocabulary=["red", "blue"])
    assert len(said) == len(set(said)) == 4
    assert {text.split(",")[0] for text in said[:2]} == {"a red", "a blue"}
    assert prompts_for(red, Colours(), CARD.model_copy(update={"styles": {}}), vocabulary=["red"]) == [
        "a red"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cat", "flat"), "a cat, flat style"),
        (("owl", ""), "an owl"),
        (("grapes", "3d"), "grapes, 3d style"),
        (("cactus", "3d"), "a cactus, 3d style"),
        (("dress", "3d"), "a dress, 3d style"),
        (("猫", "剪纸", "zh"), "猫，剪纸风格"),
    ],
)
def test_prompts_read_well(words: tuple[Any, ...], said: str) -> None:
    assert prompt(*words) == said


def test_a_style_is_seen(classifier: ScorerEnsemble, card: Card) -> None:
    styles = ("paper-cut", "porcelain", "ink-wash")
    assert [style_like(drawing("airplane", style), classifier, card) for style in styles] == list(styles)
    with pytest.raises(BadBrief, match="has learned no styles"):
        style_like(Image.new("RGB", (8, 8)), classifier, CARD.model_copy(update={"styles": {}}))


def test_a_captioner_of_the_users_own(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(32)
    special = {"bos_token_id": 512, "eos_token_id": 513, "sep_token_id": 513, "pad_token_id": 513}
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={**small, **special, "vocab_size": 514, "encoder_hidden_size": 16, "projection_dim": 16},
        vision_config={**small, "image_size": 16, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    blip = BlipForConditionalGeneration(config).eval()
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 16, "width": 16}), tokenizer)
    blip.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    picture = Image.new("RGBA", (20, 30), (255, 0, 0, 128))
    shown = processor(images=Image.new("RGB", (20, 30), (255, 127, 127)), return_tensors="pt")
    ids = blip.generate(**shown, max_new_tokens=5)
    assert caption(picture, tmp_path, most=5) == tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def test_a_folder_without_a_captioner_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match="holds no captioner") as raised:
        caption(Image.new("RGB", (8, 8)), tmp_path)
    assert "\n" not in str(raised.value)


# ---- where


def test_a_colour_is_found_where_it_is() -> None:
    """Two discs on grey: nearly the whole red one and nothing of the blue one. Measured: all and none."""
    image = Image.new("RGB", (200, 120), (230, 230, 230))
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 30, 70, 90), fill="red")
    draw.ellipse((130, 30, 190, 90), fill="blue")
    mask = region_of(image, "red", Colours(), ["blue", "red thing", "none"])
    there = np.asarray(mask) == 255
    assert mask.size == image.size
    assert set(np.unique(mask)) == {0, 255}
    disc = np.asarray(image)[..., 1] == 0
    red, blue = disc & (np.arange(200) < 100), disc & (np.arange(200) > 100)
    assert there[red].mean() > 0.95
    assert not there[blue].any()
    assert not there[~disc & (np.arange(200) > 100)].any()


@pytest.mark.parametrize("words", ["the tiger", "老虎"])
def test_a_thing_is_found_in_a_scene(classifier: ScorerEnsemble, words: str) -> None:
    """Intersection over union. Measured: 0.93."""
    image, (_, tiger) = scene(drawing("train", "3d", 120), drawing("tiger", "flat", 110))
    there = np.asarray(region_of(image, words, classifier)) > 127
    assert (there & tiger).sum() / (there | tiger).sum() > 0.8


def test_what_is_not_there_is_told(classifier: ScorerEnsemble) -> None:
    image, _ = scene(drawing("train", "3d", 120), drawing("tiger", "flat", 110))
    for picture, words in ((image, "the umbrella"), (Image.new("RGBA", (64, 32)), "the tiger")):
        with pytest.raises(BadBrief, match="nothing in the picture looks like") as raised:
            region_of(picture, words, classifier)
        assert "\n" not in str(raised.value)


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outside_is_what_scipy_reaches_from_the_frame(free: Any) -> None:
    labels, _ = ndimage.label(free)
    frame = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    assert np.array_equal(_outside(free), np.isin(labels, frame[frame > 0]))


def test_scratches_are_found_and_broad_shapes_are_not() -> None:
    """Lines of 1 and 2 pixels and a speck on a shaded, noisy ground with a square. Measured: all, 0.4 %."""
    shade = np.linspace(60, 160, 160)[:, None] + np.random.default_rng(0).normal(0, 3, (160, 160))
    image = Image.fromarray(np.repeat(shade[..., None], 3, axis=2).clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).rectangle((90, 90, 140, 140), fill=(200, 60, 60))
    worn = Image.new("L", image.size)
    for draw, light, dark in ((ImageDraw.Draw(image), "white", "black"), (ImageDraw.Draw(worn), 255, 255)):
        draw.line((10, 20, 150, 50), fill=light)
        draw.line((30, 10, 40, 150), fill=dark, width=2)
        draw.ellipse((60, 120, 62, 122), fill=light)
    found, worn = np.asarray(scratches(image)) > 127, np.asarray(worn) > 127  # type: ignore[assignment]
    near = ndimage.binary_dilation(worn, iterations=3)
    assert found[worn].mean() > 0.98
    assert found[~near].mean() < 0.01


def test_enclosed_holes_are_found_and_the_ground_is_not() -> None:
    image = Image.new("RGBA", (60, 60))
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 10, 50, 50), fill="red")
    draw.rectangle((25, 25, 34, 34), fill=(0, 0, 0, 0))
    draw.rectangle((0, 0, 5, 5), fill="red")
    expected = np.zeros((60, 60), bool)
    expected[24:36, 24:36] = True
    assert np.array_equal(np.asarray(holes(image)) > 127, expected)
    assert not np.asarray(holes(image.convert("RGB"))).any()
