"""DeepCache: what is computed on which step, what is reused, and that nothing of it stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from danqing.apps._generate import GenerateOptions, generate
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.errors import BadBrief
from danqing.core.painter import Canvas, Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import Guidance, guide
from danqing.diffusion.network_changes import with_cache
from danqing.diffusion.painter import DiffusionPainter
from danqing.execution.backends import execute_with, forget_routes, routes
from danqing.execution.call import Call
from danqing.execution.engine import Engine, EngineRequest
from danqing.families.ddpm import painter as ddpm
from danqing.families.stable_diffusion.control import Control, with_controls
from danqing.families.stable_diffusion.denoiser import Denoiser
from danqing.families.stable_diffusion.image_prompts import ImagePrompt, tokens_of, with_image_prompts
from danqing.families.stable_diffusion.painter import painter_of, random_painter
from danqing.nets.feature_cache import FeatureCache, deep_modules
from danqing.tuning.adapter import attach
from danqing.weights.ip_adapter import read_ip_adapter
from tests.adapters import random_adapter
from tests.controlnets import controlnet_for
from tests.image_prompts import image_encoder, ip_adapter, t2i_adapter
from tests.single_files import SD1, tiny
from tests.test_backends import ByHand
from tests.test_devices import NAMES


@pytest.fixture
def painter() -> DiffusionPainter:
    return random_painter()


def resolved(painter: DiffusionPainter, **fields: Any) -> ResolvedBrief:
    values = {"prompt": "a cat", "seed": 1, "steps": 6, "native": True, **fields}
    return Brief.of(**values).resolve(painter.card)


def canvases(painter: DiffusionPainter, **fields: Any) -> Iterator[Canvas]:
    brief = resolved(painter, **fields)
    words = painter.condition(brief)
    return painter.steps(brief, words, painter.begin(brief, words, Seeds.of(brief.seed, 1)))


def paint(painter: DiffusionPainter, **fields: Any) -> Tensor:
    *_, last = canvases(painter, **fields)
    return last.state


def counted(painter: DiffusionPainter, stack: ExitStack) -> tuple[list[int], list[int]]:
    """Rows of each computation of the deepest block and of the outermost, noted as long as `stack` lasts."""
    unet: Any = painter.modules["unet"]
    deep: list[int] = []
    outer: list[int] = []
    for block, rows in ((unet.mid_block.resnets[0], deep), (unet.up_blocks[-1].resnets[-1], outer)):
        hook = block.register_forward_hook(lambda _m, args, _o, rows=rows: rows.append(len(args[0])))
        stack.callback(hook.remove)
    return deep, outer


def is_untouched(unet: nn.Module) -> bool:
    return not any("forward" in vars(module) for module in unet.modules())


def some_x(rows: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(rows, 8, 4, 4, generator=torch.Generator().manual_seed(seed))


def some_words(painter: DiffusionPainter, rows: int = 2, prompt: str = "a cat") -> Conditioning:
    return replace(painter.condition(resolved(painter, prompt=prompt)).expand(rows), negative=None)


def times(t: float, rows: int = 2) -> Tensor:
    return torch.full((rows,), t)


@torch.no_grad()
def by_hand(
    unet: Any, full: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor], words: Conditioning
) -> Tensor:
    """A cached step as of the paper: the outer blocks at `now`, what stood between them at `full`."""

    def embedded(t: Tensor) -> Tensor:
        return unet.time_embedding(unet.time_proj(t)) + unet.add_embedding(words.tokens)

    def outer(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        first = unet.conv_in(x)
        hidden = unet.down_blocks[0].resnets[0](first, embedded(t))
        return embedded(t), hidden, (first, hidden)

    emb, hidden, (first, skip) = outer(*full)
    below = unet.down_blocks[0].downsamplers[0](hidden)
    sample, others = unet.down_blocks[1](below, emb, encoder_hidden_states=words.tokens)
    sample = unet.mid_block(sample, emb, encoder_hidden_states=words.tokens)
    deep = unet.up_blocks[0](sample, (below, *others), emb, encoder_hidden_states=words.tokens)
    emb, _, (first, skip) = outer(*now)
    for resnet, other in zip(unet.up_blocks[1].resnets, (skip, first), strict=True):
        deep = resnet(torch.cat([deep, other], dim=1), emb)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(deep)))


@torch.no_grad()
def test_a_cached_step_is_what_the_paper_says(painter: DiffusionPainter) -> None:
    unet, words = painter.modules["unet"], some_words(painter)
    network = with_cache(painter.network, 3, "tiny")
    full, now = (some_x(seed=1), times(700.0)), (some_x(seed=2), times(500.0))
    assert torch.equal(network(*full, words), painter.network(*full, words))
    torch.testing.assert_close(network(*now, words), by_hand(unet, full, now, words), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        painter.network(*now, words), by_hand(unet, now, now, words), rtol=1e-5, atol=1e-6
    )
    assert not torch.allclose(painter.network(*now, words), by_hand(unet, full, now, words), atol=1e-4)


@pytest.mark.parametrize(("interval", "full"), [(1, 7), (2, 4), (3, 3), (7, 1), (20, 1)])
def test_deep_blocks_are_computed_each_so_many_steps(
    painter: DiffusionPainter, interval: int, full: int
) -> None:
    with ExitStack() as stack:
        deep, outer = counted(painter, stack)
        paint(painter, steps=7, cache_interval=interval)
    assert (len(deep), len(outer)) == (full, 7)


def test_an_interval_of_1_is_as_without(painter: DiffusionPainter) -> None:
    plain = paint(painter)
    assert torch.equal(plain, paint(painter, cache_interval=1))
    cached = paint(painter, cache_interval=2)
    assert not torch.equal(plain, cached)
    assert torch.equal(cached, paint(painter, cache_interval=2))


@torch.no_grad()
def test_other_words_rows_or_sizes_ask_for_a_full_pass(painter: DiffusionPainter) -> None:
    cat, dog = some_words(painter), some_words(painter, prompt="a dog")
    network = with_cache(painter.network, 9, "tiny")
    with ExitStack() as stack:
        deep, _ = counted(painter, stack)
        for words, x in ((cat, some_x()), (cat, some_x()), (dog, some_x()), (dog, some_x())):
            network(x, times(5.0), words)
        assert len(deep) == 2
        network(some_x(rows=1), times(5.0, 1), some_words(painter, rows=1, prompt="a dog"))
        network(torch.zeros(1, 8, 8, 4), times(5.0, 1), some_words(painter, rows=1, prompt="a dog"))
        assert len(deep) == 4


def test_guidance_of_an_interval_and_words_that_change_begin_anew(painter: DiffusionPainter) -> None:
    with ExitStack() as stack:
        deep, outer = counted(painter, stack)
        paint(painter, cache_interval=3, guidance_end=0.5)
        assert (deep, outer) == ([2, 1], [2, 2, 2, 1, 1, 1])
        deep.clear()
        paint(painter, cache_interval=3, prompt="a [cat:dog:0.67]")
        assert len(deep) == 3  # of 0, 3 and the change at 4


class BrokenError(RuntimeError):
    """Raised inside the network."""


@pytest.mark.parametrize("at", ["down_blocks", "up_blocks"])
def test_nothing_stays_behind_after_a_failure(painter: DiffusionPainter, at: str) -> None:
    unet: Any = painter.modules["unet"]
    plain, cached = paint(painter), paint(painter, cache_interval=3)
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls in (1, 4):  # in a full pass, and in one that reuses
            raise BrokenError

    hook = getattr(unet, at)[-1 if at == "up_blocks" else 0].resnets[0].register_forward_hook(fail)
    network = with_cache(painter.network, 9, "tiny")
    with torch.no_grad(), pytest.raises(BrokenError):
        network(some_x(), times(5.0), some_words(painter))
    assert is_untouched(unet)
    assert isinstance(network, Denoiser)
    assert network.cache is not None
    assert not network.cache._outputs
    with pytest.raises(BrokenError):
        paint(painter, cache_interval=3)  # its third call
    hook.remove()
    assert is_untouched(unet)
    assert torch.equal(paint(painter), plain)
    assert torch.equal(paint(painter, cache_interval=3), cached)


def test_paintings_do_not_mix(painter: DiffusionPainter) -> None:
    """Three at once, step by step, one of them left early; none sees another's features."""
    fields: list[dict[str, Any]] = [
        {"cache_interval": 3},
        {"cache_interval": 2, "prompt": "a dog", "seed": 5},
        {},
    ]
    alone = [paint(painter, **each) for each in fields]
    streams = [canvases(painter, **each) for each in fields]
    left = canvases(painter, cache_interval=3, prompt="a fox", seed=9)
    next(left)
    next(left)
    left.close()
    assert is_untouched(painter.modules["unet"])
    rounds = list(zip_longest(*streams))
    assert all(torch.equal(last.state, one) for last, one in zip(rounds[-1], alone, strict=True))


def test_an_engine_keeps_them_apart(painter: DiffusionPainter) -> None:
    """Two with a cache are never in one call of the network; they are as they are alone, byte for byte."""
    fields: list[dict[str, Any]] = [{"cache_interval": 3}, {"cache_interval": 3, "prompt": "a dog"}, {}]
    alone = [paint(painter, **each) for each in fields]
    engine, logs = Engine(rows=16), []
    for each in fields:
        brief, log = resolved(painter, **each), list[Any]()
        words = painter.condition(brief)
        calls = painter.calls(brief, words, painter.begin(brief, words, Seeds.of(1, 1)))
        engine.add(EngineRequest(calls, "", log.append, log.append))
        logs.append(log)
    while engine.round():
        pass
    assert engine.rounds == 18
    assert all(torch.equal(log[-2].state, one) for log, one in zip(logs, alone, strict=True))


def test_adapters_count_on_every_step(painter: DiffusionPainter) -> None:
    plain = paint(painter, cache_interval=3)
    with attach(painter, {random_adapter(painter, text=False): 1.0}):
        learned = paint(painter, cache_interval=3)
        unet, words = painter.modules["unet"], some_words(painter)
        full, now = (some_x(seed=1), times(700.0)), (some_x(seed=2), times(500.0))
        network = with_cache(painter.network, 2, "tiny")
        with torch.no_grad():
            network(*full, words)
            torch.testing.assert_close(
                network(*now, words), by_hand(unet, full, now, words), rtol=1e-5, atol=1e-6
            )
    assert not torch.allclose(plain, learned, atol=1e-3)
    assert torch.equal(paint(painter, cache_interval=3), plain)


def test_controls_and_pictures_as_prompts(tmp_path: Path) -> None:
    """A ControlNet, a T2I-Adapter and an IP-Adapter: an unchanged call gives the same; their ends count."""
    components = tiny(SD1)
    unet, plain = components.unet, painter_of(components)
    save_file(ip_adapter(unet), tmp_path / "ip.safetensors")
    adapter = read_ip_adapter(tmp_path / "ip.safetensors", unet)
    tokens, empty = tokens_of(Image.new("RGB", (40, 50), "red"), adapter, image_encoder())
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    helpers = [Control(controlnet_for(unet), pixels, 0.7), Control(t2i_adapter(unet), pixels, 0.7, end=0.34)]
    brief = resolved(plain, width=64, height=64, cache_interval=3)
    words = plain.condition(brief)
    prompted, words = with_image_prompts(plain, [ImagePrompt(adapter, tokens, empty)], brief, words)
    painter = with_controls(prompted, helpers, brief, words)
    assert isinstance(painter, DiffusionPainter)
    levels = painter.levels(brief, redraws=False)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    network = with_cache(painter.network, 3, "tiny")
    once, again = (guide(network, words, Guidance(3.0))(x, levels[1]) for _ in range(2))
    torch.testing.assert_close(once, again, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(once, guide(painter.network, words, Guidance(3.0))(x, levels[1]))
    with ExitStack() as stack:
        deep, outer = counted(painter, stack)
        *_, last = painter.steps(brief, words, painter.begin(brief, words, Seeds.of(1, 1)))
    assert (len(deep), len(outer)) == (3, 6)  # 0, the end of the T2I-Adapter at 2, and 5
    assert last.state.isfinite().all()


class OfTuples(ByHand):
    """The same for a network that gives a tuple."""

    def program(self, network: nn.Module, call: Call) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            self.ran += 1
            args, named = call.arguments(tensors)
            return list(network.forward(*args, **named))

        return run


def test_a_backend_leaves_it_to_eager_and_says_so(painter: DiffusionPainter) -> None:
    expected, backend = paint(painter, cache_interval=2), OfTuples()
    execute_with(painter, backend)
    forget_routes(painter)
    assert torch.equal(paint(painter, cache_interval=2), expected)
    assert (backend.ran, routes(painter)) == (0, "eager")
    paint(painter)
    assert (backend.ran > 0, routes(painter)) == (True, "by-hand 1, eager: unet")


@pytest.mark.parametrize("cached", [True, False])
def test_a_model_without_such_a_unet_says_so(cached: bool) -> None:
    painter = ddpm.random_painter("tiny", NAMES)
    brief = Brief.of("a cat", seed=1, steps=2, cache_interval=2 if cached else 1).resolve(painter.card)
    if not cached:
        assert len(list(generate(brief, GenerateOptions(painter)))) == 1
        return
    with pytest.raises(BadBrief, match="no UNet whose features can be reused: leave cache_interval out"):
        next(generate(brief, GenerateOptions(painter)))


def test_the_outer_blocks_are_not_deep(painter: DiffusionPainter) -> None:
    unet: Any = painter.modules["unet"]
    deep = set(chain.from_iterable(module.modules() for module in deep_modules(unet)))
    kept = {*unet.down_blocks[0].resnets, *unet.up_blocks[-1].resnets, unet.conv_in, unet.conv_out}
    assert not kept & deep
    assert {unet.mid_block, unet.down_blocks[0].downsamplers[0], *unet.up_blocks[:-1]} <= deep
    assert FeatureCache(3).interval == 3
