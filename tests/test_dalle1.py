"""DALL-E: the VAE's likelihood, the transformer's order of reading, drawing, and the painter of both."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from scipy.stats import chisquare
from torch import Generator, Tensor

from danqing.apps.blend import blend
from danqing.apps.inpaint import inpaint
from danqing.apps.paint import paint
from danqing.apps.redraw import redraw
from danqing.apps.vary import vary
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.core.painter import Canvas, Conditioning, InputImages
from danqing.core.seeds import InterpolatedSeeds, Seeds
from danqing.data.dataset import to_unit
from danqing.families import open_painter
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.dalle1 import painter as dalle1
from danqing.families.dalle1.painter import TokenPainter
from danqing.families.dalle1.token_sampling import (
    GuidedTransformer,
    Sampling,
    draw_tokens,
    gumbel_of,
    keep_likeliest,
)
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.nets.discrete_vae import DiscreteVAE, DiscreteVAEConfig, divergence, gumbel
from danqing.nets.token_transformer import TokenTransformer, TokenTransformerConfig, mask_of
from danqing.training.codebook import codebook_start, means
from danqing.training.discrete_vae import DiscreteVAEObjective, DiscreteVAEOptions, perplexity
from danqing.training.tokens import TokenObjective, TokenOptions, views
from danqing.training.trainer import Trainer, TrainOptions, step_generator
from tests.progress import Lines
from tests.tiny import stickers

DATA = stickers()
TRAINING = DATA.where(lambda row: not row["held_out"])
TINY_VAE = dalle1.DISCRETE_VAES["tiny"]


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scorer() -> ClipScorer:
    torch.manual_seed(0)
    return ClipScorer.of(build_clip("tiny", byte_tokenizer(16)), byte_tokenizer(16))


@pytest.fixture(scope="module")
def painter(scorer: ClipScorer) -> TokenPainter:
    return lively(dalle1.random_painter("tiny", scorer=scorer))


def lively(painter: TokenPainter) -> TokenPainter:
    """Logits and colours that differ, where fresh networks give nearly the same everywhere."""
    with torch.no_grad():
        painter.transformer.token_head.weight.mul_(40)
        painter.transformer.token.weight.mul_(30)
        painter.transformer.word.weight.mul_(30)
        for layer in painter.transformer.layers:
            layer.qkv.weight.mul_(8)
            layer.out.weight.mul_(20)
        painter.vae.decoder.ends[0].weight.mul_(8)
    return replace(painter, card=painter.card.model_copy(update={"styles": {"3d": "3d/3D"}}))


def network(attention: str = "full", seed: Any = 0, **fields: Any) -> TokenTransformer:
    torch.manual_seed(seed)
    defaults = {
        "words": 20,
        "text": 3,
        "vocab": 11,
        "side": 4,
        "layers": 3,
        "width": 16,
        "heads": 2,
        "window": 3,
    }
    return TokenTransformer(TokenTransformerConfig(attention=attention, **{**defaults, **fields})).eval()


def read(net: TokenTransformer, n: Any = 2, seed: Any = 0) -> tuple[Tensor, Tensor]:
    config = net.config
    text = torch.randint(config.words + config.text, (n, config.text), generator=rng(seed))
    return text, torch.randint(config.vocab, (n, config.picture), generator=rng(seed + 1))


def resolved(painter: TokenPainter, **fields: Any) -> ResolvedBrief:
    return Brief(**{"prompt": "a cat", "seed": 1, "count": 2, **fields}).resolve(painter.card)


def canvases(
    painter: TokenPainter,
    brief: ResolvedBrief,
    images: InputImages | None = None,
    seeds: Seeds | InterpolatedSeeds | None = None,
) -> list[Canvas]:
    words = painter.condition(brief) if images is None else painter.condition(brief, images)
    canvas = painter.begin(brief, words, seeds or Seeds.of(brief.seed, brief.count))
    return [canvas, *painter.steps(brief, words, canvas)]


def painted(painter: TokenPainter, brief: ResolvedBrief, images: Any = None, seeds: Any = None) -> Tensor:
    return painter.finish(canvases(painter, brief, images, seeds)[-1])


# ---- the VAE


def test_gumbel_noise_draws_as_often_as_softmax_says() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5])
    count = 100_000
    expected_counts = (logits.softmax(0) * count).double().numpy()
    torch_noise = gumbel((count, 5), rng())
    ours = gumbel_of(torch.randn(count, 5, generator=rng(1)))
    for noise in (torch_noise, ours):
        counts = torch.bincount((logits + noise).argmax(dim=1), minlength=5).numpy()
        assert chisquare(counts, expected_counts * counts.sum() / expected_counts.sum()).pvalue > 0.01
    assert gumbel_of(torch.tensor([-30.0, 30.0])).isfinite().all()


def test_divergence_from_uniform_has_its_bounds() -> None:
    logits = torch.randn(3, 16, 2, 2, generator=rng())
    one_hot = torch.zeros(1, 16, 1, 1)
    one_hot[0, 3] = 100
    assert divergence(one_hot).item() == pytest.approx(math.log(16), abs=1e-5)
    assert divergence(torch.zeros(1, 16, 1, 1)).item() == pytest.approx(0, abs=1e-6)
    assert (divergence(logits) > 0).all()
    assert (divergence(logits) < math.log(16)).all()


def test_sides_that_no_token_fits_are_told() -> None:
    vae = DiscreteVAE(TINY_VAE)
    with pytest.raises(ValueError, match="multiples of 4"):
        vae.logits(torch.zeros(1, 4, 10, 8))
    with pytest.raises(ValueError, match="multiple of 4"):
        DiscreteVAEConfig(hidden=30)


def test_the_start_is_k_means_of_patches() -> None:
    """A VAE that begins with clusters gives every patch its nearest one, and uses all that differ."""
    pixels = to_unit(TRAINING.pictures)[:, :, ::2, ::2]
    torch.manual_seed(0)
    vae = codebook_start(DiscreteVAE(replace(TINY_VAE, hidden=64, start=64, vocab=8)), pixels)
    tokens = vae.tokens(pixels)
    patches = F.pixel_unshuffle(pixels, 4).movedim(1, -1).flatten(0, 2)
    middles = torch.stack([patches[tokens.flatten() == k].mean(0) for k in tokens.unique()])
    nearest = torch.cdist(patches, middles).argmin(1)
    assert (tokens.unique()[nearest] == tokens.flatten()).float().mean() > 0.97
    assert perplexity(tokens, 8) > 3
    error = (vae.pictures(tokens) - pixels).square().mean()
    assert error < 0.2 * pixels.var()
    with pytest.raises(ValueError, match="one group"):
        codebook_start(DiscreteVAE(replace(TINY_VAE, groups=2)), pixels)


def test_more_clusters_than_points() -> None:
    centres = means(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), 6, rng())
    assert centres.shape == (6, 2)
    assert centres.isfinite().all()


def test_perplexity_counts_tokens_in_use() -> None:
    assert perplexity(torch.tensor([3, 3, 3]), 9) == pytest.approx(1)
    assert perplexity(torch.arange(9), 9) == pytest.approx(9)


# ---- the transformer


@pytest.mark.parametrize("attention", ["full", "sparse"])
def test_no_token_sees_what_comes_after_it(attention: str) -> None:
    net = network(attention)
    text, tokens = read(net)
    of_text, of_picture = net(text, tokens)
    for k in range(net.config.picture):
        other = tokens.clone()
        other[:, k] = (other[:, k] + 1) % net.config.vocab
        changed_text, changed = net(text, other)
        assert torch.equal(changed_text, of_text)
        assert torch.equal(changed[:, : k + 1], of_picture[:, : k + 1])
        if k + 1 < net.config.picture:
            assert not torch.equal(changed[:, k + 1], of_picture[:, k + 1])


def test_text_is_read_in_order_too() -> None:
    net = network()
    text, tokens = read(net)
    other = text.clone()
    other[:, 1] = (other[:, 1] + 1) % 20
    before, after = net(text, tokens), net(other, tokens)
    assert torch.equal(before[0][:, :1], after[0][:, :1])
    assert not torch.equal(before[0][:, 1], after[0][:, 1])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("attention", ["full", "sparse"])
@torch.no_grad()
def test_the_cache_changes_nothing(attention: str) -> None:
    """Row 29. Measured: 1.5e-7 on logits of deviation 0.08."""
    net = network(attention)
    text, tokens = read(net)
    whole = net(text, tokens)[1]
    for count_before in (0, 5):
        logits, cache = net.begin(text, tokens[:, :count_before])
        for k in range(count_before, net.config.picture):
            torch.testing.assert_close(logits, whole[:, k], rtol=0, atol=1e-6)
            if k + 1 < net.config.picture:
                logits = net.go_on(tokens[:, k], k, cache)


@torch.no_grad()
def test_the_probability_of_a_picture_is_the_product_of_its_steps() -> None:
    net = network()
    text, tokens = read(net)
    whole = -F.cross_entropy(net(text, tokens)[1].transpose(1, 2), tokens, reduction="none").sum(1)
    logits, cache = net.begin(text, tokens[:, :0])
    steps = torch.zeros(2)
    for k in range(net.config.picture):
        steps += logits.log_softmax(1).gather(1, tokens[:, k : k + 1])[:, 0]
        if k + 1 < net.config.picture:
            logits = net.go_on(tokens[:, k], k, cache)
    torch.testing.assert_close(steps, whole, rtol=1e-5, atol=1e-4)


def test_each_pad_is_its_own() -> None:
    net = network()
    padded = net.with_pads(torch.tensor([[5, 6, 6]]), torch.tensor([[True, False, False]]))
    assert padded.tolist() == [[5, 21, 22]]


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("row", {4, 5, 6, 7, 8}),
        ("column", {0, 4, 8}),
        ("window", {3, 4, 5, 7, 8}),  # around a corner, as the paper's does: 3 is left of 4 in raster order
        ("all", set(range(9))),
    ],
)
def test_masks_show_what_the_paper_draws(kind: str, seen: set[int]) -> None:
    """What token 8 sees, the first of the third row of four, beside itself and all text."""
    config = network("sparse").config
    row = mask_of(config, kind)[config.text + 8]
    assert row[: config.text].all()
    assert {int(k) - config.text for k in row.nonzero()[:, 0]} - {-3, -2, -1} == seen


def test_configs_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        TokenTransformerConfig(width=10, heads=3)
    with pytest.raises(ValueError, match="full or sparse"):
        TokenTransformerConfig(attention="dense")


# ---- drawing


def test_short_lists_leave_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    assert keep_likeliest(logits, Sampling(top_k=2)).isfinite().tolist() == [True, True, False, False]
    assert keep_likeliest(logits, Sampling(top_p=0.5)).isfinite().tolist() == [True, False, False, False]
    assert keep_likeliest(logits, Sampling(top_p=0.6)).isfinite().tolist() == [True, True, False, False]
    assert torch.equal(keep_likeliest(logits, Sampling()), logits)
    noise = gumbel((1000, 4), rng()).double()
    assert draw_tokens(logits.expand(1000, 4), noise, Sampling(top_p=0.01)).max() == 0
    cold, warm = (
        draw_tokens(logits.expand(1000, 4), noise, Sampling(temperature=t)).bool().float().mean()
        for t in (0.2, 3)
    )
    assert cold < 0.1 < 0.5 < warm
    with pytest.raises(ValueError, match="temperature"):
        Sampling(temperature=0)


@torch.no_grad()
def test_guidance_is_in_logits(painter: TokenPainter) -> None:
    brief = resolved(painter, prompt="a cat::2 a dog::1", negative_prompt="red", count=1)
    words = painter.condition(brief)
    tokens = torch.randint(16, (1, 1, 5), generator=rng())
    net = painter.transformer

    def plain(part: Conditioning) -> Tensor:
        text = net.with_pads(part.tokens[..., 0].long(), part.mask)
        logits, cache = net.begin(text, tokens[0])
        return torch.stack([logits, net.go_on(torch.tensor([3]), 5, cache)])

    without, one, other = map(plain, (words.negative, *words.parts))
    target = without + 3 * (2 / 3 * (one - without) + 1 / 3 * (other - without))
    network = GuidedTransformer(net, words, 3.0)
    logits = torch.stack([network.begin(tokens)[0], network.go_on(torch.tensor([[3]]), 5)[0]])
    torch.testing.assert_close(logits, target, rtol=1e-5, atol=1e-5)


# ---- the painter


def test_a_canvas_for_each_row(painter: TokenPainter) -> None:
    start, *later = canvases(painter, resolved(painter))
    assert [(canvas.step, canvas.of) for canvas in [start, *later]] == [(k, 4) for k in range(5)]
    assert start.state.shape == (2, 8, 4, 4)
    assert later[-1].state.shape == (2, 1, 4, 4)
    for k, canvas in enumerate([start, *later]):
        assert (canvas.state[:, :, :k] >= 0).all()
        assert (canvas.state[:, :, k:] == -1).all()
        preview = painter.preview(canvas)
        assert preview.shape == (2, 3, 16, 16)
        assert (preview[:, :, 4 * k :] == 1).all()
    torch.testing.assert_close(preview, (painter.finish(canvas)[:, :3] + 1) / 2)
    assert painter.finish(canvas).shape == (2, 4, 16, 16)


def test_a_picture_depends_on_its_seed_alone(painter: TokenPainter) -> None:
    brief = resolved(painter, count=3)
    together = canvases(painter, brief)[-1].state
    assert torch.equal(together, canvases(painter, brief)[-1].state)
    for k in range(3):
        assert torch.equal(canvases(painter, brief.alone(k))[-1].state[0], together[k])
    assert not torch.equal(together[0], together[1])


def test_variations_begin_at_the_seeds_own_picture(painter: TokenPainter) -> None:
    brief = resolved(painter, count=1)
    own, other = (canvases(painter, brief, seeds=Seeds([seed]))[1].state for seed in (1, 9))
    for amount, state in ((0.0, own), (1.0, other)):
        assert torch.equal(canvases(painter, brief, seeds=InterpolatedSeeds(1, [9], amount))[1].state, state)


def test_the_critic_keeps_the_best_of_all(painter: TokenPainter, scorer: ClipScorer) -> None:
    """The candidates are the same as without choosing; the kept one is the critic's first."""
    brief = resolved(painter)
    *_, before, last = canvases(painter, brief)
    assert before.state.shape[1] == 8
    alone = replace(painter, sampling=Sampling(candidates=1))
    assert canvases(alone, brief)[-1].state.shape == last.state.shape
    kept = []

    class Watched(ClipScorer):
        def rank(self, pixels: Tensor, text: str) -> list[int]:
            order = super().rank(pixels, text)
            kept.append((pixels, text, order))
            return order

    watched = replace(painter, scorer=Watched(scorer.model, scorer.tokenizer, scorer.processor))
    later = painted(watched, resolved(painter, style="3d"))
    for k, (pixels, text, order) in enumerate(kept):
        assert text == "a cat, 3d style"
        scores = scorer.score(pixels, [text])[:, 0]
        assert scores[order[0]] == scores.max()
        assert torch.equal(later[k], pixels[order[0]])


def test_more_candidates_please_the_critic_more(painter: TokenPainter, scorer: ClipScorer) -> None:
    scores = []
    for count in (1, 16):
        many = replace(painter, sampling=Sampling(candidates=count))
        scores.append(scorer.score(painted(many, resolved(painter, count=6)), ["a cat"]).mean())
    assert scores[1] > scores[0]


def test_stopping_early_costs_nothing(painter: TokenPainter) -> None:
    brief = resolved(painter)
    words = painter.condition(brief)
    steps = painter.steps(brief, words, painter.begin(brief, words, Seeds([1, 2])))
    first = next(steps)
    steps.close()
    assert torch.equal(first.state, canvases(painter, brief)[1].state)


def test_words_lead(painter: TokenPainter) -> None:
    def state(**fields: Any) -> Tensor:
        return canvases(painter, resolved(painter, **fields))[-1].state

    one = state()
    for fields in ({"prompt": "一只猫"}, {"negative_prompt": "red"}, {"guidance": 6.0}, {"chaos": 100}):
        assert not torch.equal(state(**fields), one)
    assert torch.equal(state(guidance=1.0), state(guidance=1.0, negative_prompt="red"))
    changing = state(prompt="[a cat:a dog:0.5]")
    assert torch.equal(
        canvases(painter, resolved(painter, prompt="[a cat:a dog:0.5]"))[2].state,
        canvases(painter, resolved(painter))[2].state,
    )
    assert not torch.equal(changing, one)


def test_words_that_do_not_fit_are_told(painter: TokenPainter) -> None:
    conditioning = painter.condition(resolved(painter, prompt="a cat and a dog and a horse and a cow"))
    assert conditioning.dropped
    assert "a cat and a dog and a horse and a cow".endswith(conditioning.dropped)
    assert painter.condition(resolved(painter)).dropped == ""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"prompt": "a (cat:1.5)"}, "cannot weigh words"),
        ({"prompt": "a cat BREAK a dog"}, "leave BREAK out"),
        ({"prompt": "a cat::1 a dog BREAK a fox::1"}, "leave BREAK out"),
        ({"prompt": "a cat", "negative_prompt": "a dog BREAK a fox"}, "leave BREAK out"),
    ],
)
def test_words_that_it_cannot_read_are_told(asked: dict[str, str], told: str, painter: TokenPainter) -> None:
    with pytest.raises(BadBrief, match=told):
        painter.condition(resolved(painter, **asked))


def test_redrawing_keeps_the_top_rows(painter: TokenPainter) -> None:
    images = InputImages(image=painted(painter, resolved(painter, seed=50, count=1)))
    tokens = painter.vae.tokens(images.image)
    for strength, kept in ((0.25, 3), (0.6, 2), (1.0, 0), (None, 0)):
        start, *_, last = canvases(painter, resolved(painter, strength=strength), images)
        assert (start.of, last.step) == (4 - kept, 4 - kept)
        assert torch.equal(last.state[:, 0, :kept], tokens[:, :kept].expand(2, -1, -1))
        assert (last.state >= 0).all()
    with pytest.raises(BadBrief, match=r"strength 0.1 of 4 rows .* use 0.25 or more"):
        canvases(painter, resolved(painter, strength=0.1), images)


def test_several_pictures_are_mixed_by_weight(painter: TokenPainter) -> None:
    one, other = (painted(painter, resolved(painter, seed=s, count=1)) for s in (50, 60))
    heavy = painter.condition(
        resolved(painter), InputImages(references=(one, other), weights=(1.0, 0.0))
    ).image
    assert torch.equal(heavy, painter.condition(resolved(painter), InputImages(image=one)).image)


APPS = {
    "paint": lambda _, **options: paint("a cat", **options),
    "redraw": lambda image, **options: redraw(image, "a cat", **options),
    "vary": lambda image, **options: vary(image, prompt="a cat", **options),
    "blend": lambda image, **options: blend([image, image.rotate(90)], "a cat", **options),
}


@pytest.mark.parametrize("app", APPS)
def test_apps_paint(app: str, painter: TokenPainter) -> None:
    image = Image.new("RGBA", (20, 16), (200, 30, 30, 255))
    options = {"painter": painter, "seed": 3}
    first, again = (APPS[app](image, count=2, **options) for _ in range(2))
    (alone,) = APPS[app](image, count=1, **{**options, "seed": 4})
    looks = [np.asarray(picture.image).tobytes() for picture in [*first, *again, alone]]
    assert looks[:2] == looks[2:4]
    assert looks[1] == looks[4]


def test_what_it_cannot_is_told(painter: TokenPainter) -> None:
    assert painter.card.can == {Can.WORDS, Can.NEGATIVE, Can.REDRAW, Can.ALPHA}
    assert painter.card.sampler == ""  # there is nothing to choose
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 9, 9))
    with pytest.raises(BadBrief, match="cannot inpaint"):
        inpaint(Image.new("RGB", (16, 16)), "a cat", mask=mask, painter=painter)
    with pytest.raises(BadBrief, match="paints 16x16 only, not 32x16"):
        canvases(painter, resolved(painter, width=32))


def test_nan_is_told_with_its_step() -> None:
    painter = dalle1.random_painter("tiny")
    with torch.no_grad():
        painter.transformer.norm.weight.fill_(float("nan"))
    with pytest.raises(NotFinite, match="step 1 of 4"):
        canvases(painter, resolved(painter))


# ---- the folder


def test_a_folder_opens_as_the_same_painter(painter: TokenPainter, tmp_path: Path) -> None:
    changed = replace(painter, sampling=Sampling(temperature=0.9, top_k=9, candidates=2))
    dalle1.save(changed, tmp_path / "it", torch.float32)
    again = open_painter(str(tmp_path / "it"))
    assert (again.card, again.sampling) == (changed.card, changed.sampling)
    again = replace(again, scorer=painter.scorer)
    brief = resolved(painter, prompt="一只猫 🐼")
    assert torch.equal(painted(again, brief), painted(changed, brief))
    assert Card.model_validate_json(painter.card.model_dump_json()) == painter.card


def test_a_transformer_of_another_codec_is_refused(painter: TokenPainter, tmp_path: Path) -> None:
    dalle1.save(painter, tmp_path / "one")
    dalle1.save(dalle1.random_painter("tiny", seed=5), tmp_path / "two")
    assert dalle1.open_weights(tmp_path / "one").scorer is not None
    (tmp_path / "one" / "codec").rename(tmp_path / "old")
    (tmp_path / "two" / "codec").rename(tmp_path / "one" / "codec")
    with pytest.raises(BadWeights, match="learned the tokens of another VAE"):
        dalle1.open_weights(tmp_path / "one")


def test_a_shipped_clip_may_be_missing_but_not_damaged(
    painter: TokenPainter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dalle1.save(painter, tmp_path / "one")
    monkeypatch.setattr("danqing.zoo.__path__", [str(tmp_path / "zoo")])
    assert dalle1.open_weights(tmp_path / "one").scorer is None
    (tmp_path / "zoo" / "clip").mkdir(parents=True)
    with pytest.raises(BadWeights, match=r"config\.json' is missing"):
        dalle1.open_weights(tmp_path / "one")


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("sampling.json", ('"temperature": 1.0', '"temperature": -1'), "temperature must be above 0"),
        ("sampling.json", ('"top_k"', '"top"'), "is wrong"),
        ("transformer/config.json", ('"words": 3669', '"words": 3670'), "mis-shaped"),
        ("codec/config.json", ('"hidden": 16', '"hidden": 15'), "describes no known network"),
        ("card.json", ('"year": 2021', '"year": "x"'), "year"),
    ],
)
def test_folders_that_do_not_fit(
    file: str, change: tuple[str, str], said: str, painter: TokenPainter, tmp_path: Path
) -> None:
    dalle1.save(painter, tmp_path / "it")
    path = tmp_path / "it" / file
    path.write_text(path.read_text("utf-8").replace(*change), "utf-8")
    with pytest.raises(BadWeights, match=said) as raised:
        dalle1.open_weights(tmp_path / "it")
    assert "\n" not in str(raised.value)


def test_the_shipped_sizes_fit() -> None:
    """In half precision, with words and all, 12 MB at most."""
    vae = DiscreteVAE(dalle1.DISCRETE_VAES["sticker"])
    config = replace(dalle1.TRANSFORMERS["sticker"], words=3669)
    both = [*vae.parameters(), *TokenTransformer(config).parameters()]
    assert 2 * sum(p.numel() for p in both) < 11.7e6


# ---- training


def vae_objective(seed: int = 0) -> DiscreteVAEObjective:
    torch.manual_seed(seed)
    return DiscreteVAEObjective(
        DiscreteVAE(TINY_VAE), TRAINING, DATA, 16, DiscreteVAEOptions(span=10, kl=0.01)
    )


def token_objective(seed: int = 0) -> TokenObjective:
    painter = dalle1.random_painter("tiny", seed=seed)
    vae = dalle1.random_painter("tiny").vae  # the same for every seed
    options = TokenOptions(probes=("a cat",), moves=((0, 0), (2, -1)))
    return TokenObjective(replace(painter, vae=vae), TRAINING, options)


OBJECTIVES = {"codec": vae_objective, "tokens": token_objective}
each = pytest.mark.parametrize("name", list(OBJECTIVES))


def train(objective: DiscreteVAEObjective | TokenObjective, run: Path, steps: int, **fields: Any) -> Any:
    defaults = {"batch": 8, "lr": 5e-3, "warmup": 2, "weight_decay": 0.0, "ema": 0.8, "precision": "no"}
    options = TrainOptions(steps=steps, sheet_every=10**9, **{**defaults, **fields})
    return Trainer(objective, options, run).train()


@each
def test_the_loss_falls(name: str, tmp_path: Path) -> None:
    objective = OBJECTIVES[name]()

    def loss() -> float:
        with torch.no_grad():
            batches = [objective.batch(16, step_generator(77, k)) for k in range(4)]
            return sum(objective.eval()(batch)["loss"].item() for batch in batches) / 4

    before = loss()
    train(objective, tmp_path, 30)
    assert loss() < before - 0.2
    assert list((tmp_path / "sheets").glob("*.png"))


@each
def test_resuming_is_bit_equal(name: str, tmp_path: Path) -> None:
    whole = train(OBJECTIVES[name](), tmp_path / "whole", 4, save_every=2).state_dict()

    class KilledError(Exception):
        pass

    objective = OBJECTIVES[name]()
    forward, calls = objective.forward, []

    def dies(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) > 3:
            raise KilledError
        return forward(batch)

    objective.forward = dies
    with pytest.raises(KilledError):
        train(objective, tmp_path / "cut", 4, save_every=2)
    again = train(OBJECTIVES[name](seed=9), tmp_path / "cut", 4, save_every=2).state_dict()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@each
def test_a_batch_is_a_function_of_its_generator(name: str) -> None:
    objective = OBJECTIVES[name]()
    torch.manual_seed(1)
    first = objective.batch(6, step_generator(0, 3))
    torch.manual_seed(2)
    again = objective.batch(6, step_generator(0, 3))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other) for key, other in objective.batch(6, rng(4)).items())


def test_the_shortest_training_has_a_schedule_too() -> None:
    vae = DiscreteVAE(dalle1.DISCRETE_VAES["tiny"])
    objective = DiscreteVAEObjective(vae, stickers(), stickers(), 16, DiscreteVAEOptions(span=0))
    assert objective(objective.batch(4, step_generator(0, 0)))["loss"].isfinite()


def test_a_collapsed_codebook_is_told() -> None:
    torch.manual_seed(0)
    objective = DiscreteVAEObjective(
        DiscreteVAE(replace(TINY_VAE, vocab=64)), TRAINING, DATA, 16, DiscreteVAEOptions()
    )
    with torch.no_grad():
        objective.vae.encoder.ends[1].bias[7] += 1000
    with pytest.warns(UserWarning, match="of 64 tokens only 1 are in use"):
        objective.sheet()


def test_text_counts_an_eighth() -> None:
    objective = token_objective()
    losses = objective(objective.batch(4, rng()))
    assert losses["loss"].item() == pytest.approx((losses["text"].item() + 7 * losses["picture"].item()) / 8)
    assert losses["picture"].item() == pytest.approx(math.log(16), abs=0.1)


def test_a_checkpoint_of_another_codec_is_refused(tmp_path: Path) -> None:
    train(token_objective(), tmp_path, 2)
    other = dalle1.random_painter("tiny", seed=3)
    with pytest.raises(BadWeights, match="tokens of another VAE"):
        train(TokenObjective(other, TRAINING, TokenOptions(probes=("a cat",))), tmp_path, 4)


def test_views_are_moved() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    still, down, left = views(picture, ((0, 0), (1, 0), (0, -2)))
    assert torch.equal(still, picture)
    assert torch.equal(down[..., 1:, :], picture[..., :-1, :])
    assert torch.equal(left[..., :-2], picture[..., 2:])


def test_the_whole_painter_is_exported(tmp_path: Path) -> None:
    objective = token_objective()
    objective.export(tmp_path / "it")
    brief = resolved(objective.painter)
    again = replace(dalle1.open_weights(tmp_path / "it"), scorer=None)
    assert canvases(again, brief)[-1].state.shape == (2, 1, 4, 4)
    vae_objective().export(tmp_path / "codec")
    assert (tmp_path / "codec" / "model.safetensors").is_file()


def test_the_recipe_trains_both_stages_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is done trains nothing more, and leaves the same weights."""
    from danqing.recipes import dalle1 as recipes
    from danqing.recipes._recipe import TrainRequest
    from tests.test_recipes import folder_of

    monkeypatch.setattr(recipes, "PRESET", "tiny")
    lines = Lines()
    data = folder_of(stickers(), tmp_path / "data")
    request = TrainRequest(data, tmp_path / "run", tmp_path, steps=2, progress=lines)
    files = []
    for _ in range(2):
        folder = recipes.dalle1(request)
        files.append((folder / "transformer" / "model.safetensors").read_bytes())
    assert files[0] == files[1]
    assert any(line.startswith("codec: ") for line in lines)
    painter = open_painter(str(folder))
    assert painter.card.styles["3d"] == "3d/3D"
    assert painted(painter, resolved(painter, style="3d")).shape == (2, 4, 16, 16)
