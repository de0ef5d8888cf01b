"""Few-step painting: what is compared with what, what learns, and what is left as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from danqing.core.brief import Brief
from danqing.core.painter import Conditioning
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.samplers import step
from danqing.diffusion.schedule import NO_NOISE
from danqing.families.stable_diffusion.painter import painter_of, random_components
from danqing.training.diffusion import DiffusionOptions
from danqing.training.trainer import Trainer, TrainOptions, step_generator
from danqing.tuning.adapter import attach, coverage
from danqing.tuning.adapter_files import read_adapter
from danqing.tuning.distillation import GRID, ConsistencyObjective, every_layer
from danqing.tuning.dreambooth import freeze_networks
from tests.adapters import bits, same_bits
from tests.tiny import stickers

OPTIONS = DiffusionOptions(drop=0.0, probes=("a cat",))


@pytest.fixture
def painter() -> DiffusionPainter:
    return painter_of(random_components())


def objective(painter: DiffusionPainter, guidance: float = 3.0) -> ConsistencyObjective:
    """With changes that already change something."""
    adapter = every_layer(painter, rank=2)
    rng = torch.Generator().manual_seed(3)
    for change in adapter.factors.values():
        change.up.data.normal_(0, 0.05, generator=rng)
    return ConsistencyObjective(painter, adapter, stickers(), guidance, OPTIONS)


@torch.no_grad()
def test_one_guided_step_and_the_changed_painters_word_at_its_end(painter: DiffusionPainter) -> None:
    """Written again by the painter's own denoiser and the samplers' step, picture by picture."""
    ours = objective(painter)
    batch = ours.batch(8, step_generator(0, 0))
    words, brief = (
        ours._conditioner.conditioning(batch),
        Brief(prompt="x", guidance=3.0).resolve(painter.card),
    )
    times, losses = [*painter.schedule.levels(GRID, "trailing")[:-1], NO_NOISE], []
    for k in range(8):
        now = next(i for i, level in enumerate(times) if level.t == batch["t"][k])
        here, then = times[now], times[now + 1]
        said = Conditioning(words.tokens[k : k + 1], negative=painter.text(""))
        x = here.alpha * batch["latents"][k : k + 1] + here.sigma * batch["noise"][k : k + 1]
        guided = painter.denoiser(brief, said, times)(x, here).x0
        alone = painter.denoiser(brief.model_copy(update={"guidance": 1.0}), said, times)
        moved = step(x, guided, here, then)
        with attach(painter, {ours.adapter: 1.0}):
            target = guided if then is NO_NOISE else alone(moved, then).x0
            missed = (alone(x, here).x0 - target).square().sum()
        c = 0.00054 * x.numel() ** 0.5
        losses.append((missed + c**2).sqrt() - c)
    assert ours(batch)["loss"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_what_is_consistent_already_is_no_error(painter: DiffusionPainter) -> None:
    """In the last step of the grid, unguided and unchanged, both sides are the same answer."""
    ours = ConsistencyObjective(painter, every_layer(painter, rank=2), stickers(), 1.0, OPTIONS)
    batch = ours.batch(4, step_generator(0, 0))
    last = {"t": torch.full((4,), int(ours._grid[-2])), "then": torch.full((4,), -1)}
    assert ours(batch | last)["loss"].item() == pytest.approx(0, abs=1e-6)
    assert ours(batch | last | {"t": batch["t"]})["loss"].item() == pytest.approx(0, abs=1e-6)


def test_training_changes_the_adapter_and_nothing_else(painter: DiffusionPainter, tmp_path: Path) -> None:
    painter = replace(painter, card=painter.card.model_copy(update={"steps": 2}))
    before = bits(painter)
    with freeze_networks(painter):
        ours = ConsistencyObjective(painter, every_layer(painter, rank=2), stickers(), 3.0, OPTIONS)
        start = ours.adapter.cpu_copy()
        Trainer(ours, TrainOptions(steps=2, batch=4, warmup=0, sheet_every=2), tmp_path).train()
        ours.export(tmp_path)
    assert same_bits(before, bits(painter))
    learned = read_adapter(tmp_path / "fast.safetensors")
    everything = coverage(painter, learned)
    assert everything.changed == everything.layers
    assert all((change.up != start.factors[name].up).any() for name, change in learned.factors.items())
