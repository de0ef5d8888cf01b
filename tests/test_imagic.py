"""Imagic: closed forms with a linear denoiser, and what must stay bit-identical."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from danqing.apps._edit import CANDIDATE_ETAS, DEFAULT_ETAS, evenly_spaced
from danqing.apps._session import Session
from danqing.apps.edit import edit
from danqing.core.errors import BadBrief, NotFinite
from danqing.core.images import from_pil, to_pil
from danqing.core.painter import Canvas, Conditioning
from danqing.core.progress import Progress
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.vae import IdentityVAE
from danqing.families import open_clip_scorer
from danqing.families.stable_diffusion.painter import random_painter
from danqing.tuning.adapter import attach
from danqing.tuning.imagic import ImagicOptions, imagic, reconstructing_model, reconstructing_words
from tests.adapters import bits, output, resolved, same_bits

QUICK = ImagicOptions(words_steps=4, model_steps=4, convs=False)


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.rand(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_best_words_of_a_linear_denoiser(painter: DiffusionPainter) -> None:
    """A network that says W e of any noise: the optimum is the least-squares e. Measured: 2e-6."""
    rng = torch.Generator().manual_seed(0)
    weight, wanted = torch.randn(12, 4, generator=rng), torch.randn(1, 3, 2, 2, generator=rng)

    def network(x: Tensor, _t: Tensor, words: Conditioning) -> Tensor:
        return (words.tokens.flatten(1) @ weight.T).view(len(x), 3, 2, 2)

    linear = replace(painter, network=network, prediction=Prediction.SAMPLE)
    target = Conditioning(torch.randn(1, 2, 2, generator=rng))
    options = ImagicOptions(words_steps=600, words_lr=0.05)
    tokens, error = reconstructing_words(linear, wanted, target, options)
    best = torch.linalg.lstsq(weight, wanted.view(12, 1))
    torch.testing.assert_close(tokens.view(4, 1), best.solution, rtol=0, atol=1e-4)
    left = (weight @ best.solution - wanted.view(12, 1)).square().mean().item()
    assert error == pytest.approx(left, rel=1e-4)


def test_words_first_then_model(painter: DiffusionPainter, picture: Tensor) -> None:
    """(a) changes no weight; (b) changes no word; after both the painter is what it was."""
    brief, before, said = resolved(painter, "a dog"), bits(painter), output(painter)
    asked = [p.requires_grad for m in painter.modules.values() for p in m.parameters()]
    latents, target = painter.vae.encode(picture), painter.condition(brief)
    tokens, _ = reconstructing_words(painter, latents, target, QUICK)
    assert same_bits(bits(painter), before)
    assert not torch.equal(tokens, target.tokens)
    kept = tokens.clone()
    adapter, _ = reconstructing_model(painter, latents, replace(target, tokens=tokens), QUICK)
    assert torch.equal(tokens, kept)
    assert any(change.up.abs().max() > 0 for change in adapter.factors.values())
    assert same_bits(bits(painter), before)
    assert torch.equal(output(painter), said)
    assert [p.requires_grad for m in painter.modules.values() for p in m.parameters()] == asked
    assert all(p.grad is None for m in painter.modules.values() for p in m.parameters())


def test_eta(painter: DiffusionPainter, picture: Tensor) -> None:
    """Exactly the sentence at 1, exactly the picture's words at 0, the middle between them."""
    brief = resolved(painter, "a dog", negative_prompt="blue")
    edit = imagic(painter, picture, brief, QUICK)
    sentence = painter.condition(brief)
    assert torch.equal(edit.conditioning(1).tokens, sentence.tokens)
    assert torch.equal(edit.conditioning(0).tokens, edit.optimised)
    between = edit.conditioning(0.5)
    torch.testing.assert_close(between.tokens, (sentence.tokens + edit.optimised) / 2)
    assert torch.equal(between.negative.tokens, sentence.negative.tokens)
    assert 0 < edit.distance < 1
    for eta in (-0.1, 1.6, float("nan")):
        with pytest.raises(BadBrief, match=r"eta .* is outside \[0, 1\.5\]"):
            edit.conditioning(eta)
    again = imagic(painter, picture, brief, QUICK)
    assert torch.equal(again.optimised, edit.optimised)


@pytest.mark.parametrize("stage", ["words", "model"])
def test_stopped_halfway_the_painter_is_what_it_was(
    painter: DiffusionPainter, picture: Tensor, stage: str
) -> None:
    before, said, options = bits(painter), output(painter), replace(QUICK, words_steps=20, model_steps=20)

    def stop(progress: Progress) -> None:
        if progress.message.startswith(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imagic(painter, picture, resolved(painter), options, stop)
    assert same_bits(bits(painter), before)
    assert torch.equal(output(painter), said)
    assert all(p.requires_grad for m in painter.modules.values() for p in m.parameters())


def test_nan_is_told(painter: DiffusionPainter, picture: Tensor) -> None:
    broken = replace(painter, network=lambda x, _t, words: x * words.tokens.mean() * float("nan"))
    with pytest.raises(NotFinite, match="words: loss nan at step 0: use a lower learning rate"):
        imagic(broken, picture, resolved(painter), QUICK)


class Small(nn.Module):
    """A denoiser of pixels whose layers have the names that are changed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.mid, self.conv2 = (
            nn.Conv2d(a, b, 3, padding=1) for a, b in ((5, 32), (32, 32), (32, 4))
        )
        self.words = nn.Linear(32, 32)

    def forward(self, x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        time = (t / 1000).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        h = torch.nn.functional.silu(self.conv1(torch.cat([x, time], dim=1)))
        h = h + self.words(words.tokens.mean(dim=1))[:, :, None, None]
        return self.conv2(torch.nn.functional.silu(self.mid(h)))


def test_longer_tuning_reconstructs_better(painter: DiffusionPainter) -> None:
    """PSNR of what is painted at eta = 0 rises from checkpoint to checkpoint. Measured: 5.4, 6.3, 10.0 dB."""
    torch.manual_seed(0)
    net = Small()
    pixels = DiffusionPainter(
        card=painter.card.model_copy(update={"width": 8, "height": 8, "size_multiple": 8, "scale": 1}),
        text=painter.text,
        network=net,
        prediction=Prediction.V,
        schedule=painter.schedule,
        vae=IdentityVAE(4),
        modules={"unet": net},
    )
    drawn = torch.zeros(1, 4, 8, 8)
    drawn[..., 2:6, 1:4], drawn[..., 5:] = 0.9, -0.7
    ratios = []
    for steps in (0, 60, 240):
        edit = imagic(
            pixels, drawn, resolved(pixels), ImagicOptions(words_steps=5, model_steps=steps, model_lr=1e-2)
        )
        canvas = Canvas(Seeds([1]).normal(4, 8, 8), Seeds([1]), 0, 10)
        brief = resolved(pixels, sampler="ddim").model_copy(update={"steps": 10, "guidance": 1.0})
        with attach(pixels, {edit.adapter: 1.0}):
            *_, last = pixels.steps(brief, edit.conditioning(0), canvas)
        ratios.append(10 * torch.log10(4 / (last.state - drawn).square().mean()).item())
    assert ratios[0] + 0.5 < ratios[1] < ratios[2] - 2, ratios


def rises(values: list[int], chosen: tuple[Any, ...]) -> list[int]:
    return sorted(values[k] - values[j] for j, k in pairwise(chosen))


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=7), st.integers(2, 4))
def test_even_steps_begin_at_the_picture_and_no_others_are_more_even(values: Any, count: Any) -> None:
    chosen = evenly_spaced(values, count)
    assert (len(chosen), chosen[0]) == (count, 0)
    for mask in product((False, True), repeat=len(values) - 1):
        other = (0, *(k + 1 for k, taken in enumerate(mask) if taken))
        assert len(other) != count or rises(values, other) <= rises(values, chosen)


@given(st.integers(1, 6), st.integers(2, 4))
def test_of_even_values_even_ones_are_taken(step: Any, count: Any) -> None:
    assert evenly_spaced(range(step * (count - 1) + 1), count) == tuple(step * k for k in range(count))


@given(st.sets(st.integers(0, 99), min_size=4, max_size=9), st.randoms())
def test_steps_rise_wherever_they_can(numbers: Any, rng: Any) -> None:
    """Four rising values hidden among others that are lower than the first one."""
    values = [100 + number for number in sorted(numbers)[:4]]
    for _ in range(4):
        values.insert(rng.randint(1, len(values)), rng.randint(0, 99))
    chosen = [values[k] for k in evenly_spaced(values, 4)]
    assert chosen == sorted(set(chosen))


def test_a_jump_is_taken_in_one_step() -> None:
    assert evenly_spaced([0, 0.01, 0.02, 0.9, 0.97, 1], 4) == (0, 3, 4, 5)


def test_of_steps_as_small_the_others_decide() -> None:
    """Rises of 0.1, 0.4 and 0.5 rather than 0.1, 0.36 and 0.54."""
    assert evenly_spaced([0, 0.54, 0.5, 0.52, 0.9, 1], 4) == (0, 2, 4, 5)


def test_a_strip_without_etas_is_chosen_from_a_longer_one(
    painter: DiffusionPainter, picture: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what CLIP says of its pictures and the words that are painted, the style among them."""
    painter = replace(painter, card=painter.card.model_copy(update={"styles": {"ink": "ink/水墨"}}))
    [image] = to_pil(picture)
    asked = {"painter": painter, "effort": 0.01, "steps": 2, "seed": 1, "style": "ink"}
    whole, strip = (
        edit(image, "a (red:1.2) dog", etas=CANDIDATE_ETAS, **asked),
        edit(image, "a (red:1.2) dog", **asked),
    )
    pixels = torch.stack([from_pil(one.image)[:3] for one in whole])
    with torch.no_grad():
        wanted = evenly_spaced(open_clip_scorer().score(pixels, ["a red dog, ink style"])[:, 0].tolist(), 4)
    assert [one.info.inputs["etas"] for one in strip] == [[CANDIDATE_ETAS[k]] for k in wanted]
    assert [one.image.tobytes() for one in strip] == [whole[k].image.tobytes() for k in wanted]
    monkeypatch.setattr(Session, "shipped_clip_scorer", lambda _: None)
    assert [one.info.inputs["etas"] for one in edit(image, "a dog", **asked)] == [
        [eta] for eta in DEFAULT_ETAS
    ]
