"""Imagen: text encoders, dynamic thresholding, the Efficient U-Net, its folder and its training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from danqing.apps.paint import paint
from danqing.conditioning.grammar import parse
from danqing.core.brief import Brief
from danqing.core.errors import BadBrief, BadWeights
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.cascade import Cascade
from danqing.diffusion.guidance import Guidance, guide
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import DynamicThresholding
from danqing.families import open_painter
from danqing.families.imagen.folder import ImagenComponents, read_components, save_components
from danqing.families.imagen.painter import (
    STAGES,
    UNETS,
    fresh_components,
    open_weights,
    painter_of,
    random_components,
)
from danqing.nets.efficient_unet import EfficientUNet, TextContext, join_skip
from danqing.recipes import imagen as recipe
from danqing.recipes._recipe import TrainRequest
from danqing.training.cascade import MaskedCaptions, StageObjective
from danqing.training.diffusion import DiffusionOptions
from danqing.training.trainer import step_generator
from danqing.weights.shipped import shipped_part
from danqing.weights.text_encoders import TextEncoderRef, read_text_encoder
from tests.progress import Lines
from tests.test_recipes import folder_of as folder_of_pictures
from tests.text_encoders import TEXT_ENCODERS, folder_of, reader
from tests.tiny import stickers

text_encoders = pytest.mark.parametrize("name", list(TEXT_ENCODERS))


@pytest.fixture(scope="module")
def components() -> ImagenComponents:
    return random_components(reader())


@pytest.fixture(scope="module")
def shipped() -> ImagenComponents:
    """Components whose words our CLIP reads, which a folder need not hold."""
    return random_components(read_text_encoder(shipped_part("clip")))


def painted(painter: Cascade, **fields: Any) -> Tensor:
    brief = Brief(**{"prompt": "a red cat", "seed": 1, "native": True, **fields}).resolve(painter.card)
    words = painter.condition(brief)
    seeds = Seeds.of(brief.seed, brief.count)
    *_, last = painter.steps(brief, words, painter.begin(brief, words, seeds))
    return painter.finish(last)


@text_encoders
def test_states_do_not_depend_on_padding(name: str) -> None:
    """Measured: 8e-7."""
    encoder = reader(name)
    ids, mask = encoder.tokenize(["a red cat"])
    alone = encoder.encode_ids(ids, mask)
    together = encoder.encode_ids(*encoder.tokenize(["a red cat", "a blue dog, 3d style"]))
    whole = encoder("a red cat")
    count = int(mask.sum())
    assert whole.mask.sum() == together.mask[0].sum() == count
    for words in (together, whole):
        torch.testing.assert_close(words.tokens[0, :count], alone.tokens[0], rtol=0, atol=1e-5)
        assert not words.tokens[0, count:].any()


@text_encoders
def test_no_words_are_no_tokens(name: str) -> None:
    encoder = reader(name)
    assert not encoder("").mask.any()
    assert encoder("cat").mask.any()


@text_encoders
def test_words_that_do_not_fit_are_reported(name: str) -> None:
    encoder = reader(name)
    words = "a red cat, " * 40
    conditioning = encoder(words)
    assert conditioning.mask.all()
    assert words.endswith(conditioning.dropped)
    assert 0 < len(conditioning.dropped) < len(words)


def test_a_heavier_word_is_longer() -> None:
    encoder = reader("t5")
    plain = encoder("a red cat").tokens
    heavy = encoder.encode_weighted(parse("a (red:1.5) cat").parts[0].chunks[0]).tokens
    ratio = (heavy.norm(dim=-1) / plain.norm(dim=-1))[0, :4]
    assert ratio[1] / ratio[0] == pytest.approx(1.5, abs=1e-4)


@pytest.mark.parametrize("p", [0.0, -1.0, 1.01, float("nan")])
def test_a_quantile_lies_in_0_to_1(p: float) -> None:
    with pytest.raises(BadWeights, match=r"p \S+ is no quantile: choose from \(0, 1\]"):
        DynamicThresholding(p)


@pytest.mark.parametrize("cap", [0.99, 0.0, float("nan")])
def test_a_cap_is_at_least_1(cap: float) -> None:
    with pytest.raises(BadWeights, match="would stretch pictures: choose 1 or more"):
        DynamicThresholding(0.995, cap)


def test_thresholding_is_of_each_picture_and_leaves_the_tame_alone() -> None:
    tame, wild = torch.linspace(-0.9, 0.9, 64).view(1, 4, 4, 4), torch.linspace(-4, 4, 64).view(1, 4, 4, 4)
    both = DynamicThresholding(0.9)(torch.cat([tame, wild]))
    assert torch.equal(both[:1], tame)
    assert both[1].abs().max() == 1
    assert both[1].abs().median() < 0.6  # drawn inwards, where a clamp would leave three quarters saturated
    assert (DynamicThresholding(0.9, 1.0)(wild).abs() == 1).float().mean() > 0.7


def test_a_learned_variance_is_what_the_words_say() -> None:
    """Whatever the guidance."""
    encoder = reader()
    words = replace(encoder("a cat"), negative=encoder(""))

    def network(x: Tensor, _t: Tensor, cond: Conditioning) -> Tensor:
        share = cond.tokens.sum((1, 2)).view(-1, 1, 1, 1).expand(-1, 4, *x.shape[2:])
        return torch.cat([x * share, share], dim=1)

    level = Schedule.from_config({}).levels(4)[1]
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    one, seven = (guide(network, words, Guidance(scale))(x, level) for scale in (1.0, 7.0))
    assert torch.equal(one[:, 4:], seven[:, 4:])


def test_a_skip_keeps_unit_variance() -> None:
    one, two = torch.randn(2, 8, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    assert abs(float(join_skip(one, two).var()) - 1) < 0.02


def test_the_network_sees_words_and_not_pads(components: ImagenComponents) -> None:
    unet, x, t = components.unets[0], torch.randn(2, 4, 8, 8), torch.tensor([10, 900])
    encoder = components.text
    short = encoder.encode_ids(*encoder.tokenize(["ab", "ba"]))
    padded = encoder.encode_ids(*encoder.tokenize(["ab", "ba"], 16))
    with torch.no_grad():
        output = unet(x, t, short.tokens, short.mask)
        torch.testing.assert_close(unet(x, t, padded.tokens, padded.mask), output, rtol=0, atol=1e-5)
        other = encoder.encode_ids(*encoder.tokenize(["ba", "ba"]))
        differs = (unet(x, t, other.tokens, other.mask) - output).abs().amax((1, 2, 3))
    assert differs[0] > 1e-3
    assert differs[1] < 1e-5


def test_pooled_words_are_their_mean_with_the_learned_token() -> None:
    words = TextContext(8, 6)
    tokens, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [False, False, False]])
    taken = []
    words.pooled.register_forward_hook(lambda _module, inputs, _out: taken.append(inputs[0]))
    with torch.no_grad():
        words(tokens, mask)
        first = torch.cat([words.nothing[None], words.project(tokens[0, :2])]).mean(0)
    torch.testing.assert_close(taken[0], torch.stack([first, words.nothing]))


@pytest.mark.parametrize("preset", ["tiny", "sticker"])
def test_networks_begin_at_zero_and_stages_paint_any_size(preset: str) -> None:
    for config in UNETS[preset]:
        unet = EfficientUNet(config)
        tokens, mask = torch.randn(1, 2, config.text), torch.ones(1, 2, dtype=torch.bool)
        sides = (unet.size_multiple, 2 * unet.size_multiple)
        low = (torch.randn(1, 4, *sides), torch.tensor([0.5])) if config.concat_channels else ()
        out = unet(torch.randn(1, 4, *sides), torch.tensor([5]), tokens, mask, *low)
        assert out.shape == (1, 4, *sides)
        assert not out.any()
        again = EfficientUNet.from_config(json.loads(json.dumps(unet.to_config())))
        again.load_state_dict(unet.state_dict())
        assert again.config == config


def test_the_shipped_size_fits_in_12_megabytes() -> None:
    weights = sum(p.numel() for config in UNETS["sticker"] for p in EfficientUNet(config).parameters())
    assert 2 * weights < 12e6


@pytest.mark.parametrize("preset", list(UNETS))
def test_sizes_of_presets_meet(preset: str) -> None:
    sides = [stage.side for stage in STAGES[preset]]
    assert len(sides) == len(UNETS[preset])
    assert all(two % one == 0 for one, two in pairwise(sides))


def test_painting_follows_words_and_seeds(components: ImagenComponents) -> None:
    painter = painter_of(components)
    one = painted(painter)
    assert one.shape == (1, 4, 16, 16)
    assert torch.equal(one, painted(painter))
    assert not torch.equal(one, painted(painter, prompt="a blue dog"))
    assert not torch.equal(one, painted(painter, negative_prompt="blue"))
    both = painted(painter, count=2)
    torch.testing.assert_close(both[:1], one, rtol=0, atol=2e-5)  # measured: 2e-6


@pytest.mark.parametrize("prompt", ["a (red:1.4) cat", "cat:2 dog", "[cat:dog:1]", "cat BREAK dog"])
def test_the_prompt_language_is_understood(components: ImagenComponents, prompt: str) -> None:
    assert painted(painter_of(components), prompt=prompt).isfinite().all()


def test_a_folder_paints_the_same_picture(shipped: ImagenComponents, tmp_path: Path) -> None:
    folder = tmp_path / "cascade"
    save_components(shipped, folder, torch.float32)
    painter = open_painter(str(folder))
    assert torch.equal(painted(painter), painted(painter_of(shipped)))
    half = tmp_path / "half"
    save_components(shipped, half)
    assert (painted(open_weights(half)) - painted(painter)).abs().max() < 0.008  # measured: 0.0008
    picture = paint("a red cat", model=str(folder), seed=3)[0]
    assert picture.image.size == (16, 16)
    assert not list(folder.glob("text*"))  # the words stay with the encoder


def test_another_text_encoder_is_refused(shipped: ImagenComponents, tmp_path: Path) -> None:
    folder = tmp_path / "cascade"
    save_components(shipped, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text"]["probe"][0] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadWeights, match="is another one than the painter learned with"):
        open_weights(folder)
    config["text"] = {"place": str(folder_of("t5", tmp_path / "t5")), "probe": []}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadWeights, match=r"'.*base' wants words of width 192, the text encoder gives 32"):
        open_weights(folder)


@text_encoders
def test_a_text_encoder_of_the_users_own(name: str, tmp_path: Path) -> None:
    place = folder_of(name, tmp_path / "text")
    text = read_text_encoder(place)
    with torch.random.fork_rng(devices=[]):
        fresh = fresh_components("tiny", text, TextEncoderRef.of(text, place))
    save_components(fresh, tmp_path / "cascade", torch.float32)
    read = read_components(tmp_path / "cascade")
    assert torch.equal(read.text("a red cat").tokens, reader(name)("a red cat").tokens)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: [file.unlink() for file in folder.glob("token*")], "tokenizer.json or spiece.model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no .*model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"123"), "cannot be read"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "the words of .* cannot be read"),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'),
            "unknown text encoder",
        ),
        (lambda folder: (folder / "config.json").unlink(), "config.json' is missing"),
    ],
)
def test_damaged_text_encoders_are_told_in_a_line(
    tmp_path: Path, spoil: Callable[..., Any], says: str
) -> None:
    folder = folder_of("t5", tmp_path / "t5")
    spoil(folder)
    with pytest.raises(BadWeights, match=says) as caught:
        read_text_encoder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"p": 0.0}, "no quantile"),
        ({"cap": 0.5}, "would stretch"),
        ({"side": 24}, "enlarges pictures of 16 pixels, .* paints 24"),
        ({"sides": 3}, "describes no Imagen: sides is .*: unexpected keyword"),
        ({"side": "eight"}, "describes no Imagen: side is .*: input should be a valid integer"),
        ({"side": 0}, "side is .*: input should be greater than 0"),
        ({"guidance": None}, "guidance is .*: input should be a valid number"),
    ],
)
def test_damaged_folders_are_told_in_a_line(
    shipped: ImagenComponents, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = tmp_path / "cascade"
    save_components(shipped, folder)
    config = json.loads((folder / "config.json").read_text())
    config["stages"][0].update(change)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadWeights, match=says) as caught:
        open_weights(folder)
    assert "\n" not in str(caught.value)


def test_stages_out_of_order_are_told_in_a_line(shipped: ImagenComponents, tmp_path: Path) -> None:
    folder = tmp_path / "cascade"
    save_components(shipped, folder)
    (folder / "base").rename(tmp_path / "base")
    (folder / "stage_1").rename(folder / "base")
    (tmp_path / "base").rename(folder / "stage_1")
    with pytest.raises(BadWeights, match=r"base' paints 4 channels beside 4, .* for 4 beside 0: put"):
        open_weights(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "stages": []}))
    with pytest.raises(BadWeights, match="describes no Imagen: it has no stages"):
        open_weights(folder)


def test_sizes_off_the_grid_are_refused(components: ImagenComponents) -> None:
    painter = painter_of(components)
    with pytest.raises(BadBrief, match="width 18 is not a multiple of 4"):
        painted(painter, width=18)
    assert painted(painter, width=24, height=16).shape == (1, 4, 16, 24)


def base_objective(components: ImagenComponents, **fields: Any) -> StageObjective:
    options = DiffusionOptions(probes=("a cat",), **fields)
    text = MaskedCaptions(components.text, stickers(), options)
    return StageObjective(painter_of(components).base, components.unets[0], stickers(), text, options)


def test_captions_are_dropped_as_often_as_asked(components: ImagenComponents) -> None:
    learner = base_objective(components, drop=0.5)
    batches = [learner.batch(64, step_generator(1, k)) for k in range(4)]
    kept = torch.cat(
        [components.text.encode_ids(batch["ids"], batch["mask"]).mask.any(1) for batch in batches]
    )
    assert 0.4 < kept.float().mean() < 0.6


def test_the_base_learns() -> None:
    """Measured: the loss falls to 0.31 of what it was in 40 steps."""
    learner = base_objective(random_components(reader()))
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.01)

    def loss(step: int) -> Tensor:
        return learner(learner.batch(16, step_generator(0, step)))["loss"]

    before = loss(1000).item()
    for step in range(40):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    assert loss(1000).item() < 0.7 * before
    assert learner.sheet().size[1] == 8


def test_the_recipe_trains_all_stages_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, small in (("PRESET", "tiny"), ("SHARES", (1.0, 0.5)), ("probes_of", lambda _: ("a cat",))):
        monkeypatch.setattr(recipe, name, small)
    lines = Lines()
    request = TrainRequest(
        folder_of_pictures(stickers(), tmp_path / "data"), tmp_path / "run", tmp_path, 2, progress=lines
    )
    torch.manual_seed(0)
    weights = recipe.imagen(request)
    first = painted(open_painter(str(weights)))
    assert [line for line in lines if "pixels" in line] == ["the base: 8 pixels", "stage 1: 16 pixels"]
    assert torch.equal(painted(open_painter(str(recipe.imagen(request)))), first)  # nothing is left to do
    card = json.loads((weights / "card.json").read_text())
    assert "token states of our CLIP instead of T5" in card["summary"]
    assert card["styles"]["3d"] == "3d/3D"
