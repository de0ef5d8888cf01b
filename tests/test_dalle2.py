"""DALL-E 2: the prior, what can be done to embeddings, the painter, its folder and its training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PriorTransformer
from PIL import Image
from torch import Tensor

from danqing.apps.blend import blend
from danqing.apps.paint import paint
from danqing.apps.redraw import redraw
from danqing.apps.vary import vary
from danqing.conditioning.names import Names
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.core.painter import Canvas, Conditioning, InputImages
from danqing.core.progress import Progress
from danqing.core.seeds import Seeds, slerp
from danqing.data.dataset import CaptionedImages
from danqing.diffusion.prior import PriorOptions, best, measure
from danqing.diffusion.schedule import Schedule
from danqing.families import open_painter
from danqing.families.dalle2 import painter as dalle2
from danqing.families.dalle2.clip_space import fingerprint, join_words_and_image, mixture, text_diff
from danqing.families.dalle2.folder import (
    OURS,
    Dalle2Components,
    check_clip,
    read_components,
    save_components,
)
from danqing.families.dalle2.painter import Dalle2Painter
from danqing.families.dalle2.unclip import PRIORS, fresh_components, fresh_projection
from danqing.families.ddpm.painter import fresh_components as fresh_ddpm
from danqing.recipes import dalle2 as recipe
from danqing.recipes._recipe import TrainRequest
from danqing.training.diffusion import DiffusionOptions
from danqing.training.prior import PriorObjective
from danqing.training.trainer import Trainer, TrainOptions, step_generator
from danqing.training.unclip import DecoderObjective, copy_matching_weights
from tests.progress import Lines
from tests.test_recipes import folder_of as folder_of_pictures
from tests.tiny import stickers

WIDTH = PRIORS["tiny"]["embedding_dim"]
QUICK: dict[str, Any] = {"steps": 3, "seed": 3}


@pytest.fixture(scope="module")
def large() -> Dalle2Painter:
    """One with an upsampler."""
    return dalle2.random_painter()


@pytest.fixture(scope="module")
def painter(large: Dalle2Painter) -> Dalle2Painter:
    return replace(large, stage=None, card=large.decoder.card)


def picture(seed: int = 0, side: int = 16) -> Tensor:
    return torch.rand(1, 4, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def resolved(painter: Dalle2Painter, **fields: Any) -> ResolvedBrief:
    return Brief(**{"prompt": "a cat", "seed": 1, "count": 2, "steps": 3, **fields}).resolve(painter.card)


def canvases(
    painter: Dalle2Painter,
    brief: ResolvedBrief,
    images: InputImages | None = None,
    seeds: Seeds | None = None,
) -> list[Canvas]:
    words = painter.condition(brief) if images is None else painter.condition(brief, images)
    canvas = painter.begin(brief, words, seeds or Seeds.of(brief.seed, brief.count))
    return [canvas, *painter.steps(brief, words, canvas)]


def units(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


# ---- embeddings


def turned(a: Tensor, b: Tensor, angle: float) -> Tensor:
    """a turned by `angle` in the plane of a and b, by a rotation matrix."""
    one = a / a.norm()
    two = b - (b @ one) * one
    two = two / two.norm()
    plane = torch.outer(two, one) - torch.outer(one, two)
    flat = torch.outer(one, one) + torch.outer(two, two)
    return (torch.eye(len(a)) + math.sin(angle) * plane + (math.cos(angle) - 1) * flat) @ a


def test_a_mixture_is_a_rotation_and_ends_at_its_pictures() -> None:
    """Measured: 1e-7."""
    a, b = units(2, 1, 8)
    angle = float(torch.acos((a * b).sum()))
    for amount in (0.25, 0.5, 0.9):
        mixed = mixture([a, b], [1 - amount, amount])
        torch.testing.assert_close(mixed[0], turned(a[0], b[0], amount * angle), rtol=0, atol=1e-6)
        assert float(mixed.norm()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(mixture([a, b], [1, 0]), a)
    torch.testing.assert_close(mixture([a, b], [0, 2]), b)
    three = mixture([a, b, units(1, 8, seed=5)], [1, 1, 2])
    torch.testing.assert_close(three, slerp(slerp(a, b, 0.5), units(1, 8, seed=5), 0.5))


def test_a_text_diff_turns_towards_what_words_add() -> None:
    """Measured: 2e-7."""
    z, text, before = 3 * units(1, 8), units(1, 8, seed=1), units(1, 8, seed=2)
    way = F.normalize(text - before, dim=-1)
    angle = float(torch.acos((F.normalize(z, dim=-1) * way).sum()))
    moved = text_diff(z, text, before, 0.4)
    torch.testing.assert_close(moved[0], turned(z[0], way[0], 0.4 * angle), rtol=0, atol=3e-6)
    torch.testing.assert_close(text_diff(z, text, before, 0.0), z)
    assert torch.equal(text_diff(z, text, text, 0.5), z)  # nothing is added


def test_chunks_are_averaged_over_the_tokens_that_are_heard() -> None:
    tokens = torch.tensor([[[1.0], [2.0], [9.0], [3.0], [4.0], [5.0]]])
    mask = torch.tensor([[True, True, False, True, True, True]])
    one = join_words_and_image(Conditioning(tokens, mask), 3)
    assert one.tokens.flatten().tolist() == [2.0, 3.0, 5.0]
    assert one.mask.all()
    assert join_words_and_image(one, 3) is one


# ---- the prior


def test_normalising_comes_back(painter: Dalle2Painter) -> None:
    z = 5 * units(20, WIDTH)
    torch.testing.assert_close(painter.prior.denormalise(painter.prior.normalise(z)), z, rtol=0, atol=1e-5)


def test_measured_embeddings_have_mean_0_and_deviation_1(painter: Dalle2Painter) -> None:
    network = PriorTransformer(**PRIORS["tiny"])
    data = 3 * torch.randn(60, WIDTH) + 1
    measure(network, data)
    normal = replace(painter.prior, network=network).normalise(data)
    torch.testing.assert_close(normal.mean(dim=0), torch.zeros(WIDTH), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.std(dim=0), torch.ones(WIDTH), rtol=0, atol=1e-5)
    assert not network.clip_mean.requires_grad
    assert not network.clip_std.requires_grad


def test_a_prior_that_was_never_measured_is_refused(painter: Dalle2Painter) -> None:
    with pytest.raises(BadWeights, match=f"clip_std is 0 or less in {WIDTH} of {WIDTH}.*from the data"):
        replace(painter.prior, network=PriorTransformer(**PRIORS["tiny"]))
    with pytest.raises(BadWeights, match="1 steps are too few"):
        replace(painter.prior, options=PriorOptions(steps=1))


def test_the_draw_nearest_to_the_words_is_chosen() -> None:
    drawn, text = units(3, 4, 8), units(3, 8, seed=1)
    chosen = best(drawn, text)
    for k in range(3):
        dots = [float(z @ text[k]) for z in drawn[k]]
        assert torch.equal(chosen[k], drawn[k, dots.index(max(dots))])


def test_the_painter_keeps_the_better_of_two_draws(painter: Dalle2Painter) -> None:
    brief = resolved(painter, count=1)
    words = painter.condition(brief)
    canvas = painter.begin(brief, words, Seeds([4]))
    tokens = []
    network = painter.decoder.network

    def listening(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        tokens.append(cond.tokens[-1, 0])
        return network(x, t, cond)

    spied = replace(painter, decoder=replace(painter.decoder, network=listening))
    list(spied.steps(brief, words, canvas))
    seeds = Seeds([4])
    seeds.normal(4, 16, 16)  # the decoder's noise is drawn first
    *_, drawn = painter.prior.sample(words, seeds)
    drawn = F.normalize(drawn[0], dim=-1)
    dots = drawn @ words.tokens[0, -1]
    torch.testing.assert_close(tokens[0], drawn[dots.argmax()], rtol=0, atol=1e-6)
    assert dots[0] != dots[1]


# ---- the painter


def test_blank_canvases_of_the_prior_then_the_decoders(painter: Dalle2Painter) -> None:
    brief = resolved(painter)
    start, *later = canvases(painter, brief)
    before, of = painter.prior.options.steps, painter.prior.options.steps + 3
    assert [(canvas.step, canvas.of) for canvas in [start, *later]] == [(k, of) for k in range(of + 1)]
    for canvas in later[:before]:
        assert torch.equal(painter.preview(canvas), torch.ones(2, 3, 16, 16))
    preview = painter.preview(later[before])
    assert preview.shape == (2, 3, 16, 16)
    assert 0 <= preview.min() < preview.max() <= 1
    pixels = painter.finish(later[-1])
    assert pixels.shape == (2, 4, 16, 16)
    assert pixels.abs().max() <= 1
    assert not torch.equal(pixels[0], pixels[1])


def test_words_and_negative_words_matter(painter: Dalle2Painter) -> None:
    plain = canvases(painter, resolved(painter))[-1].state
    for other in ({"prompt": "a red rocket"}, {"negative_prompt": "blue"}, {"prompt": "cat::2 dog::1"}):
        assert not torch.equal(canvases(painter, resolved(painter, **other))[-1].state, plain)
    assert torch.equal(canvases(painter, resolved(painter))[-1].state, plain)


def test_a_picture_is_the_same_in_any_batch(painter: Dalle2Painter) -> None:
    """Measured: 2e-6."""
    brief = resolved(painter)
    together = canvases(painter, brief, seeds=Seeds([5, 6, 7]))[-1].state
    for k in range(3):
        alone = canvases(painter, brief, seeds=Seeds([5 + k]))[-1].state
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=2e-5)


def test_cancelled_in_the_prior_and_in_the_decoder(painter: Dalle2Painter) -> None:
    brief = resolved(painter)
    whole = canvases(painter, brief)[-1].state
    for stop in (2, painter.prior.options.steps + 1):
        words = painter.condition(brief)
        walk = painter.steps(brief, words, painter.begin(brief, words, Seeds.of(1, 2)))
        for canvas in walk:
            if canvas.step == stop:
                break
        walk.close()
        painter.finish(canvas)
    assert torch.equal(canvases(painter, brief)[-1].state, whole)


def test_variations_keep_the_embedding_and_differ_by_seed(painter: Dalle2Painter) -> None:
    images = InputImages(image=picture())
    brief = resolved(painter, negative_prompt="a cat", strength=1.0)
    words = painter.condition(brief, images)
    assert words.image is None
    torch.testing.assert_close(
        words.concat[..., 0, 0], painter.space.image_embedding(picture()), rtol=0, atol=1e-6
    )  # the same words turn nothing
    start, *later = canvases(painter, brief, images)
    assert len(later) == start.of == 3  # no prior
    assert not torch.equal(later[-1].state[0], later[-1].state[1])
    other = canvases(painter, brief, InputImages(image=picture(1)))[-1].state
    assert not torch.equal(other, later[-1].state)


def test_strength_turns_noise_and_embedding(painter: Dalle2Painter) -> None:
    """From the noise that DDIM finds, and the picture's own embedding, to new noise and half way to words."""
    images, z = InputImages(image=picture()), painter.space.image_embedding(picture())
    before = painter.space("").tokens[:, -1]
    way = F.normalize(painter.space("a cat").tokens[:, -1] - before, dim=-1)
    fresh = canvases(painter, resolved(painter))[0].state
    states = {}
    for strength in (0.01, 0.5, 1.0):
        brief = resolved(painter, strength=strength)
        words = painter.condition(brief, images)
        expected = slerp(z, way, strength / 2)
        torch.testing.assert_close(words.concat[..., 0, 0], expected, rtol=0, atol=1e-6)
        states[strength] = painter.begin(brief, words, Seeds.of(1, 2)).state
    assert torch.equal(states[1.0], fresh)
    noise = painter.condition(resolved(painter, strength=0.5), images).image.expand(2, -1, -1, -1)
    torch.testing.assert_close(states[0.5], slerp(noise, fresh, 0.5))
    assert (states[0.01] - noise).norm() < 0.1 * (fresh - noise).norm()


def test_the_noise_of_a_picture_paints_it_again(painter: Dalle2Painter) -> None:
    """DDIM there and back. Measured: 0.014."""
    free = replace(painter, decoder=replace(painter.decoder, threshold=None))
    fields = {"steps": 20, "guidance": 1.0, "sampler": "ddim", "strength": 1e-6, "count": 1}
    soft = F.avg_pool2d(picture(side=32), 2)
    last = canvases(free, resolved(painter, **fields), InputImages(image=soft))[-1]
    assert float((last.state - soft).abs().max()) < 0.05


def test_mixed_pictures_lie_on_the_great_circle_between_them(painter: Dalle2Painter) -> None:
    one, two = picture(1), picture(2)
    brief = resolved(painter, strength=1.0)
    words = painter.condition(brief, InputImages(references=(one, two), weights=(3.0, 1.0)))
    expected = slerp(painter.space.image_embedding(one), painter.space.image_embedding(two), 0.25)
    torch.testing.assert_close(words.concat[..., 0, 0], expected, rtol=0, atol=1e-6)


def test_the_upsampler_paints_the_decoders_picture_larger(large: Dalle2Painter) -> None:
    """It hears no words, begins with seeds of its own, and each of its pictures is the same in any batch."""
    brief = resolved(large)
    start, *later = canvases(large, brief)
    first, of = 10 + brief.steps, 10 + brief.steps + large.stage.painter.card.steps
    assert start.state.shape == (2, 4, 16, 16)
    assert [(canvas.step, canvas.of) for canvas in later] == [(k, of) for k in range(1, of + 1)]
    assert later[first - 1].state.shape == (2, 4, 16, 16)
    assert large.finish(later[-1]).shape == (2, 4, 32, 32)
    assert large.preview(later[-1]).shape == (2, 3, 32, 32)
    assert later[-1].seeds is start.seeds
    alone = canvases(large, brief, seeds=Seeds([2]))[-1].state
    torch.testing.assert_close(later[-1].state[1:], alone, rtol=0, atol=2e-5)
    small = large.decoder.finish(later[first - 1])
    again = list(large._upsample(large.stage, brief, Seeds([1, 2]), small))[-1].state
    assert torch.equal(again, later[-1].state)


def test_a_given_picture_is_reduced_for_the_decoder(large: Dalle2Painter, painter: Dalle2Painter) -> None:
    """Its noise is that of the small picture; CLIP looks at the large one."""
    images = InputImages(image=picture(side=32))
    words = large.condition(resolved(large, strength=0.5), images)
    assert words.image.shape == (1, 4, 16, 16)
    reduced = InputImages(image=F.avg_pool2d(images.image, 2))
    other = painter.condition(resolved(painter, strength=0.5), reduced)
    assert not torch.equal(words.concat, other.concat)
    assert (words.image - other.image).abs().max() < 0.2


def test_apps(painter: Dalle2Painter) -> None:
    parent = paint("a cat", painter=painter, **QUICK)[0]
    assert parent.image.size == (16, 16)
    varied = vary(parent, painter=painter, steps=3, count=2)
    assert varied[0].image.tobytes() != varied[1].image.tobytes()
    assert redraw(parent, "a dog", painter=painter, **QUICK)[0].image.size == (16, 16)
    other = Image.new("RGBA", (30, 20), "red")
    assert len(blend([parent, other], painter=painter, count=2, **QUICK)) == 2


def test_nan_is_told_with_its_step(painter: Dalle2Painter) -> None:
    network = deepcopy(painter.prior.network)
    network.proj_to_clip_embeddings.bias.data += float("nan")
    broken = replace(painter, prior=replace(painter.prior, network=network))
    with pytest.raises(NotFinite, match=r"step 1 of 10 of the prior.*check the weights"):
        canvases(broken, resolved(painter))


def test_another_size_is_refused(painter: Dalle2Painter) -> None:
    with pytest.raises(BadBrief, match="paints 16x16 only, not 32x16"):
        canvases(painter, resolved(painter, width=32, height=16))


def test_embeddings_of_another_width_are_refused(painter: Dalle2Painter) -> None:
    narrow = PriorTransformer(**{**PRIORS["tiny"], "embedding_dim": 16})
    measure(narrow, torch.randn(50, 16))
    prior = replace(painter.prior, network=narrow)
    with pytest.raises(BadWeights, match="embeddings of 16 numbers, this CLIP has 32"):
        replace(painter, prior=prior)


# ---- the folder


def components_of(painter: Dalle2Painter, clip: str = "") -> Dalle2Components:
    network = painter.decoder.network
    return replace(
        fresh_components("tiny", clip),
        card=painter.card,
        prior=painter.prior.network,
        decoder=network.unet,
        projection=network.projection,
        upsampler=painter.stage.painter.network.network.unet if painter.stage else None,
    )


@pytest.mark.parametrize("which", ["painter", "large"])
def test_a_folder_paints_as_it_was_written(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    painter = request.getfixturevalue(which)
    save_components(components_of(painter, "abc"), tmp_path / "it", dtype=torch.float32)
    read = read_components(tmp_path / "it")
    assert (read.clip, read.patch_size, read.prior_options) == ("abc", 2, painter.prior.options)
    again = dalle2.painter_of(read, _Seeing(painter))
    brief = resolved(painter)
    assert torch.equal(canvases(again, brief)[-1].state, canvases(painter, brief)[-1].state)
    save_components(read, tmp_path / "half")
    assert (tmp_path / "half" / "decoder").is_dir()


class _Seeing:
    """A critic with the encoders of a painter."""

    def __init__(self, painter: Dalle2Painter) -> None:
        space = painter.space
        self.tokenizer, self.processor = space.text.tokenizer, space.processor
        self.model = type("Encoders", (), {})()
        self.model.text_model, self.model.text_projection = space.text.model, space.text_projection
        self.model.vision_model, self.model.visual_projection = space.image_encoder, space.image_projection


def test_another_clip_is_refused(painter: Dalle2Painter, tmp_path: Path) -> None:
    place = tmp_path / "clip"
    place.mkdir()
    (place / "model.safetensors").write_bytes(b"one")
    check_clip(tmp_path, fingerprint(place), place)
    clip_hash = fingerprint(place)
    (place / "model.safetensors").write_bytes(b"two")
    with pytest.raises(
        BadWeights, match=f"of the CLIP {clip_hash[:12]}, this copy has {fingerprint(place)[:12]}"
    ):
        check_clip(tmp_path, clip_hash, place)
    save_components(components_of(painter, clip_hash), tmp_path / "it")
    with pytest.raises(BadWeights, match="this copy has"):
        open_painter(str(tmp_path / "it"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fold": 3}, "fold 3 does not fit 16 channels"),
        ({"prior": {"stepz": 3}}, "needs clip, fold and prior"),
        ({"prior": {"steps": "ten"}}, "steps is .*: input should be a valid integer"),
        ({"prior": {"draws": 0}}, "draws is .*: input should be greater than 0"),
        ({"prior": None}, "needs clip, fold and prior"),
    ],
)
def test_a_damaged_folder_is_one_line(
    painter: Dalle2Painter, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    save_components(components_of(painter), tmp_path / "it")
    place = tmp_path / "it" / OURS
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(BadWeights, match=says) as caught:
        read_components(tmp_path / "it")
    assert "\n" not in str(caught.value)


def test_a_decoder_that_learned_no_variance_is_told(painter: Dalle2Painter, tmp_path: Path) -> None:
    save_components(components_of(painter), tmp_path / "it")
    place = tmp_path / "it" / "decoder_scheduler" / "scheduler_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "variance_type": "learned_range"}))
    with pytest.raises(BadWeights, match=r"decoder' answers 16 channels to 16, .* it should be 32"):
        read_components(tmp_path / "it")


def test_a_card_of_another_size_is_refused(large: Dalle2Painter) -> None:
    components = replace(components_of(large), card=large.card.model_copy(update={"width": 40}))
    with pytest.raises(BadWeights, match="width 40 is no multiple of the decoder's 16"):
        dalle2.painter_of(components, _Seeing(large))


def test_a_folder_without_a_card_is_refused(painter: Dalle2Painter, tmp_path: Path) -> None:
    save_components(components_of(painter), tmp_path / "it")
    (tmp_path / "it" / "card.json").unlink()
    with pytest.raises(BadWeights, match=r"card\.json' is missing"):
        read_components(tmp_path / "it")


# ---- training

PACE = TrainOptions(steps=4, batch=4, lr=1e-3, warmup=1, save_every=2, sheet_every=4, precision="no")


def prior_objective(painter: Dalle2Painter) -> PriorObjective:
    return prior_objective_of(painter, *stickers(16).split(lambda row: not row["held_out"])[::-1])


def prior_objective_of(
    painter: Dalle2Painter, seen: CaptionedImages, unseen: CaptionedImages | None = None
) -> PriorObjective:
    network = fresh_components("tiny", "").prior
    schedule = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2"})
    unseen = seen.where(lambda row: not row) if unseen is None else unseen
    return PriorObjective(network, schedule, painter.space, seen, unseen, DiffusionOptions())


def test_a_prior_shows_how_it_does_where_nothing_is_held_out(painter: Dalle2Painter) -> None:
    objective = prior_objective(painter)
    assert objective.sheet().height < prior_objective_of(painter, stickers(16)).sheet().height


def decoder_objective(_painter: Dalle2Painter | None) -> DecoderObjective:
    painter = dalle2.random_painter()
    quick = painter.decoder.card.model_copy(update={"steps": 2})
    painter = replace(painter, decoder=replace(painter.decoder, card=quick))
    return DecoderObjective(painter, stickers(16), DiffusionOptions(drop=0.5, mirror=0.5))


@pytest.mark.parametrize("make", [prior_objective, decoder_objective])
def test_an_interrupted_training_continues_bit_equal(
    painter: Dalle2Painter, tmp_path: Path, make: Callable[..., Any]
) -> None:
    whole = Trainer(make(painter), PACE, tmp_path / "whole").train()

    def stop(event: Progress) -> None:
        if event.message.startswith("step 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(make(painter), replace(PACE, log_every=1), tmp_path / "cut").train(progress=stop)
    resumed = Trainer(make(painter), PACE, tmp_path / "cut").train()
    expected, actual = whole.state_dict(), resumed.state_dict()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert (tmp_path / "whole" / "sheets" / "0000004.png").is_file()


def test_the_prior_learns_what_words_mean(painter: Dalle2Painter) -> None:
    """The loss of knowing nothing is 1. Measured: 0.66 after sixty steps, 1.1 at the beginning."""
    objective = prior_objective(painter)
    optimiser = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for step in range(60):
        loss = objective(objective.batch(16, step_generator(0, step)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[:10]) / 10 > 0.95
    assert sum(losses[-10:]) / 10 < 0.8


def test_what_stands_for_no_picture_is_learned(painter: Dalle2Painter) -> None:
    objective = decoder_objective(painter)
    objective._conditioner = replace(objective._conditioner, blind=1.0)
    objective(objective.batch(4, step_generator(0, 0)))["loss"].backward()
    assert objective.projection.nothing.grad.abs().sum() > 0
    objective.zero_grad()
    objective._conditioner = replace(objective._conditioner, blind=0.0)
    objective(objective.batch(4, step_generator(0, 0)))["loss"].backward()
    assert objective.projection.nothing.grad is None or not objective.projection.nothing.grad.any()


def test_the_decoder_is_told_the_embedding_of_the_very_picture(painter: Dalle2Painter) -> None:
    objective = decoder_objective(painter)
    batch = objective.batch(6, step_generator(0, 1))
    conditioning = objective._conditioner.conditioning(batch)
    assert torch.equal(
        conditioning.tokens[:, 0], objective._conditioner.space.image_embedding(batch["latents"])
    )
    assert torch.equal(conditioning.mask[:, 0], batch["visible"])


def test_a_decoder_starts_from_a_pixel_model() -> None:
    """Its inner layers are its own; what has the same name and shape is taken, the variance is left out."""
    decoder = fresh_components("sticker", "").decoder
    trained = fresh_ddpm("sticker", Names(("cat",))).unet
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    copied = copy_matching_weights(decoder, trained)
    after, theirs = decoder.state_dict(), trained.state_dict()
    taken = [name for name in after if not torch.equal(before[name], after[name])]
    assert 30 < len(taken) <= copied
    for name in taken:
        assert torch.equal(after[name], theirs[name][: len(after[name])])
    assert torch.equal(after["conv_out.weight"], theirs["conv_out.weight"][:16])


def test_sizes() -> None:
    components = fresh_components("sticker", "")
    networks = (components.prior, components.decoder, components.projection, components.upsampler)
    count = sum(p.numel() for network in networks for p in network.parameters())  # type: ignore[misc]
    assert count < 6.05e6  # 12 MB in half precision
    assert fresh_projection(components.decoder, 192).config.time_embed_dim == 256


def test_the_recipe_trains_its_three_parts_and_tells_what_it_skips_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing held out; what it leaves is what it trained, and a second call has nothing left to do."""
    data = folder_of_pictures(stickers().where(lambda row: not row["held_out"]), tmp_path / "data")
    rows = data / "metadata.jsonl"
    rows.write_text(rows.read_text("utf-8") + '\n{"file_name": "none.png", "text": "a hat"}', "utf-8")
    small = dalle2.random_painter()
    monkeypatch.setattr(recipe, "PRESET", "tiny")
    monkeypatch.setattr(recipe, "open_clip_scorer", lambda: _Seeing(small))
    lines = Lines()
    request = TrainRequest(data, tmp_path / "run", tmp_path, 1, progress=lines)
    weights = recipe.dalle2(request)
    first = {str(path): path.read_bytes() for path in weights.rglob("*.safetensors")}
    assert len([line for line in lines if "none.png" in line]) == 1
    assert {part.name for part in (tmp_path / "run").iterdir()} >= {"prior", "decoder", "upsampler"}
    assert recipe.dalle2(request) == weights
    assert first == {str(path): path.read_bytes() for path in weights.rglob("*.safetensors")}
