"""DALL-E's parts against OpenAI's package, torch and scipy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy import integrate, stats
from torch import Generator, nn
from torch.distributions import Categorical, kl_divergence

from danqing.core.errors import BadWeights
from danqing.families.dalle1.painter import (
    DISCRETE_VAES,
    TokenPainter,
    card_of,
    open_weights,
    random_painter,
    save,
)
from danqing.families.dalle1.vae import read_discrete_vae
from danqing.nets.discrete_vae import (
    divergence,
    gumbel,
    gumbel_softmax,
    logit_laplace,
    map_pixels,
    unmap_pixels,
)
from danqing.nets.token_transformer import TokenTransformer, TokenTransformerConfig

SMALL: dict[str, Any] = {"n_hid": 64, "vocab_size": 512, "n_blk_per_group": 1}


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def dall_e() -> Any:
    return pytest.importorskip(
        "dall_e", reason="OpenAI's package DALL-E 0.1 (pip install --no-deps DALL-E attrs)"
    )


@pytest.fixture
def files(dall_e: Any, tmp_path: Path) -> tuple[Any, ...]:
    """Random halves as OpenAI saved them, and the paths."""
    torch.manual_seed(0)
    halves = {"encoder": dall_e.Encoder(**SMALL), "decoder": dall_e.Decoder(**SMALL)}
    for name, half in halves.items():
        torch.save(half, tmp_path / f"{name}.pkl")
    return halves, tmp_path / "encoder.pkl", tmp_path / "decoder.pkl"


@torch.no_grad()
def test_the_codec_is_openais(files: tuple[Any, ...], dall_e: Any) -> None:
    """Row 26b. Measured: 0.0 both ways."""
    halves, *paths = files
    vae = read_discrete_vae(*paths)
    pixels = torch.rand(2, 3, 32, 32, generator=rng()) * 2 - 1
    logits = halves["encoder"](dall_e.map_pixels((pixels + 1) / 2))
    assert logits.std() > 0.05
    torch.testing.assert_close(vae.logits(pixels), logits, rtol=0, atol=1e-5)
    tokens = logits.argmax(dim=1)
    assert torch.equal(vae.tokens(pixels), tokens)
    weights = F.one_hot(tokens, 512).movedim(-1, 1).float()
    stats_ = halves["decoder"](weights)
    torch.testing.assert_close(torch.cat(vae.parameters_of(weights), dim=1), stats_, rtol=0, atol=1e-5)
    painted = dall_e.unmap_pixels(torch.sigmoid(stats_[:, :3])) * 2 - 1
    torch.testing.assert_close(vae.pictures(tokens), painted, rtol=0, atol=1e-5)


def test_a_painter_takes_openais_codec_as_it_is(files: tuple[Any, ...], tmp_path: Path) -> None:
    """Its transformer was never published, but one can be trained on its tokens."""
    _, *paths = files
    vae, tiny = read_discrete_vae(*paths), random_painter("tiny")
    words = len(tiny.tokenizer)
    config = TokenTransformerConfig(words=words, text=8, vocab=512, side=2, layers=1, width=8, heads=1)
    net = TokenTransformer(config)
    save(TokenPainter(card_of("it", vae, net), vae, net, tiny.tokenizer), tmp_path / "it", torch.float32)
    for path in (tmp_path / "it" / "codec").iterdir():
        path.unlink()
    for path in paths:
        path.rename(tmp_path / "it" / "codec" / path.name)
    painter = open_weights(tmp_path / "it")
    pixels = torch.rand(1, 3, 16, 16, generator=rng()) * 2 - 1
    assert torch.equal(painter.vae.tokens(pixels), vae.tokens(pixels))
    assert painter.size == 16


class Foreign:
    """What runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("ran",)


def test_nothing_in_a_pickle_runs(
    files: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    halves, encoder, decoder = files
    halves["encoder"].blocks.foreign = Foreign()
    torch.save(halves["encoder"], encoder)
    with pytest.raises(BadWeights, match=r"holds \w+\.mkdir, which is no part of DALL-E") as raised:
        read_discrete_vae(encoder, decoder)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_vae(files: tuple[Any, ...], tmp_path: Path) -> None:
    _, encoder, decoder = files
    for name, value, said in (
        ("tensors", {"w": torch.zeros(2)}, "is no module of DALL-E"),
        ("other", nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear, which is no part"),
    ):
        torch.save(value, tmp_path / name)
        with pytest.raises(BadWeights, match=said):
            read_discrete_vae(tmp_path / name, decoder)
    with pytest.raises(BadWeights, match="is missing"):
        read_discrete_vae(tmp_path / "none.pkl", decoder)
    encoder.write_bytes(encoder.read_bytes()[:5000])
    with pytest.raises(BadWeights, match="is damaged"):
        read_discrete_vae(encoder, decoder)
    with pytest.raises(BadWeights, match="no encoder of DALL-E"):
        read_discrete_vae(decoder, decoder)


def test_pixels_go_and_come_back() -> None:
    pixels = torch.rand(2, 3, 4, 4, generator=rng()) * 2 - 1
    torch.testing.assert_close(unmap_pixels(map_pixels(pixels)), pixels, rtol=0, atol=1e-6)
    assert map_pixels(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_gumbel_softmax_is_torchs(tau: float) -> None:
    """Row 27: torch draws the same exponential noise."""
    logits = torch.randn(3, 16, 2, 2, generator=rng())
    ours = gumbel_softmax(logits, gumbel((3, 16, 2, 2), rng(1)), tau)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, F.gumbel_softmax(logits, tau, dim=1), rtol=1e-6, atol=1e-6)


def test_divergence_is_torchs() -> None:
    """Row 27."""
    logits = 3 * torch.randn(5, 16, 2, 2, generator=rng())
    theirs = kl_divergence(
        Categorical(logits=logits.movedim(1, -1)), Categorical(logits=torch.zeros(5, 2, 2, 16))
    )
    torch.testing.assert_close(divergence(logits), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mean", [-1.5, 0.3])
@pytest.mark.parametrize("log_scale", [-1.5, 0.0])
def test_logit_laplace_is_a_density(mean: float, log_scale: float) -> None:
    """Row 28: its integral, scipy's Laplace through the change of variables, and its gradient."""
    mu, ln_b = torch.tensor([mean, log_scale], dtype=torch.float64)

    def density(x: float) -> float:
        return math.exp(-logit_laplace(torch.tensor(x, dtype=torch.float64), mu, ln_b))

    peak = 1 / (1 + math.exp(-mean))
    total = sum(integrate.quad(density, *ends, limit=200)[0] for ends in ((1e-9, peak), (peak, 1 - 1e-9)))
    assert total == pytest.approx(1, abs=1e-4)
    x = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    theirs = stats.laplace(mean, math.exp(log_scale)).logpdf(torch.logit(x).numpy())
    wanted = -torch.from_numpy(theirs) + torch.log(x * (1 - x))
    torch.testing.assert_close(logit_laplace(x, mu, ln_b), wanted, rtol=0, atol=1e-10)
    inputs = [x.requires_grad_(), mu.clone().requires_grad_(), ln_b.clone().requires_grad_()]
    assert torch.autograd.gradcheck(logit_laplace, inputs)


def transformer(attention: str) -> TokenTransformer:
    torch.manual_seed(0)
    config = TokenTransformerConfig(
        words=20, text=4, vocab=16, side=8, layers=2, width=16, heads=2, attention=attention, window=5
    )
    return TokenTransformer(config).eval()


@pytest.mark.parametrize("attention", ["full", "sparse"])
@torch.no_grad()
def test_a_layer_is_torchs_with_the_same_mask(attention: str) -> None:
    """Row 30, 3.3 b: nn.TransformerEncoderLayer with the norm first. Measured: 4.8e-7."""
    net = transformer(attention)
    x = torch.randn(2, net.config.length, 16, generator=rng())
    for layer in net.layers:
        theirs = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        theirs.self_attn.in_proj_weight.copy_(layer.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(layer.qkv.bias)
        for ours, name in (
            (layer.out, "self_attn.out_proj"),
            (layer.wide, "linear1"),
            (layer.narrow, "linear2"),
            (layer.norm1, "norm1"),
            (layer.norm2, "norm2"),
        ):
            theirs.get_submodule(name).load_state_dict(ours.state_dict())
        wanted = theirs.train()(x, src_mask=~layer.mask)  # not eval: its fast path rounds otherwise
        torch.testing.assert_close(layer(x, 0, None)[0], wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_two_heads_are_the_joint_softmax_with_the_other_vocabulary_masked() -> None:
    net = transformer("full")
    text = torch.randint(24, (2, 4), generator=rng())
    tokens = torch.randint(16, (2, 64), generator=rng(1))
    read = torch.cat([net.text_states(text), net.token_states(tokens[:, :-1], 0)], dim=1)
    states = net.read(read, 0, None)
    joint = torch.cat([F.linear(states, net.word.weight, net.word_bias), net.token_head(states)], dim=-1)
    allowed = torch.zeros(joint.shape[1:], dtype=torch.bool)
    allowed[:3, :24] = True
    allowed[3:, 24:] = True
    shares = joint.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
    of_text, of_picture = net(text, tokens)
    torch.testing.assert_close(shares[:, :3, :24], of_text.softmax(-1))
    torch.testing.assert_close(shares[:, 3:, 24:], of_picture.softmax(-1))


def test_the_papers_codec_has_openais_sizes(dall_e: Any) -> None:
    paper = DISCRETE_VAES["paper"]
    theirs = {
        field.name: field.default
        for half in (dall_e.Encoder, dall_e.Decoder)
        for field in half.__attrs_attrs__
    }
    assert (paper.hidden, paper.vocab) == (theirs["n_hid"], theirs["vocab_size"])
    assert (paper.blocks, paper.start) == (theirs["n_blk_per_group"], theirs["n_init"])
    assert (paper.groups, paper.channels) == (dall_e.Encoder.group_count, theirs["input_channels"])
    assert (paper.factor, paper.gain) == (8, None)
