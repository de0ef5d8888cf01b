"""Diffusion of pixels: what a learned variance is, labels, folding, folders, and every app that it can."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danqing.apps.inpaint import inpaint
from danqing.apps.paint import paint
from danqing.conditioning.names import NO_NAMES, Names
from danqing.core.brief import Brief
from danqing.core.card import Can
from danqing.core.errors import BadBrief, BadData, BadWeights
from danqing.core.painter import Conditioning
from danqing.core.progress import Progress, no_progress
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import Guidance, guide
from danqing.diffusion.loss import variational_bound
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.samplers import SAMPLERS, DenoiserOutput, run_sampler
from danqing.diffusion.schedule import Level, Schedule
from danqing.diffusion.variance import Variance, deviation
from danqing.families import open_painter
from danqing.families.ddpm import painter as ddpm
from danqing.families.ddpm.folder import read_folder
from danqing.training.diffusion import DenoisingObjective, DiffusionOptions, Labels
from danqing.training.trainer import Trainer, TrainOptions, step_generator
from tests.test_apps import APPS, bytes_of, drawing, mask_of
from tests.tiny import stickers

NAMES = Names(("cat/猫", "red apple/苹果", "owl/猫头鹰", "rocket/火箭", "3d/3D", "flat/扁平"))
DATA = stickers()
COSINE = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2"})
NOW, THEN = COSINE.levels_at([500, 300])


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return ddpm.random_painter("tiny", NAMES)


def state(
    painter: DiffusionPainter, prompt: str = "a cat", seeds: tuple[Any, ...] = (3,), **fields: Any
) -> Tensor:
    """What the painter ends with, [n c h w], before it is clipped."""
    brief = Brief(prompt=prompt, native=True, seed=0, **{"steps": 3, **fields}).resolve(painter.card)
    words = painter.condition(brief)
    *_, last = painter.steps(brief, words, painter.begin(brief, words, Seeds(seeds)))
    return last.state


# ---- the variance


def test_the_share_goes_from_the_posteriors_variance_to_beta() -> None:
    """Respaced: both are those of the step from 500 to 300, not of the table's steps."""
    beta = 1 - (NOW.alpha / THEN.alpha) ** 2
    small = beta * (THEN.sigma / NOW.sigma) ** 2
    low, middle, high = deviation(NOW, THEN, torch.tensor([-1.0, 0.0, 1.0])).tolist()
    assert low == pytest.approx(math.sqrt(small))
    assert high == pytest.approx(math.sqrt(beta))
    assert middle == pytest.approx((small * beta) ** 0.25)


def test_an_unknown_variance_is_told() -> None:
    assert Variance("fixed_small_log") is Variance.SMALL
    with pytest.raises(BadWeights, match="did you mean 'fixed_large'"):
        Variance("fixed_larg")


MEAN, STD = 0.4, 0.3


def moments(share: Callable[..., Any], steps: int) -> tuple[float, float]:
    """Of 16,384 numbers that DDPM paints where the data is a Gaussian, whose denoiser is known."""

    def denoise(x: Tensor, level: Level) -> DenoiserOutput:
        gain = level.alpha * STD**2 / (level.alpha**2 * STD**2 + level.sigma**2)
        return DenoiserOutput(MEAN + gain * (x - level.alpha * MEAN), share(x, level))

    seeds, levels = Seeds.of(7, 16), COSINE.levels(steps, "linspace")
    *_, (end, _) = run_sampler(SAMPLERS["ddpm"].sample(seeds.normal(1, 32, 32), levels, seeds), denoise)
    return end.mean().item(), end.std().item()


def test_the_right_variance_needs_few_steps() -> None:
    """The exact posterior of Gaussian data needs 10 steps, beta-tilde paints too little, beta too much.

    Measured, where 0.3 is right: 0.297 exact, 0.208 with beta-tilde, 0.364 with beta. Chance: 0.6 %.
    """
    levels = COSINE.levels(10, "linspace")
    after = dict(zip([level.t for level in levels], levels[1:], strict=False))

    def exact(_: Tensor, now: Level) -> Tensor | None:
        then = after[now.t]
        if then.sigma == 0:
            return None
        beta = 1 - (now.alpha / then.alpha) ** 2
        small = beta * (then.sigma / now.sigma) ** 2
        pull = then.alpha * beta / now.sigma**2
        unsure = STD**2 * now.sigma**2 / (now.alpha**2 * STD**2 + now.sigma**2)
        target = small + pull**2 * unsure
        return torch.tensor(2 * math.log(target / small) / math.log(beta / small) - 1)

    mean, spread = moments(exact, 10)
    assert (mean, spread) == pytest.approx((MEAN, STD), abs=0.02 * STD)
    assert moments(lambda *_: None, 10)[1] < 0.8 * STD
    assert moments(lambda *_: torch.ones(()), 10)[1] > 1.1 * STD
    assert moments(lambda *_: torch.ones(()), 1000)[1] == pytest.approx(STD, rel=0.02)


def test_guidance_leaves_the_variance_as_the_words_say_it() -> None:
    def network(x: Tensor, _t: Tensor, words: Conditioning) -> Tensor:
        factor = words.tokens[:, :1, :1, None]
        return torch.cat([x * factor, (x + 1) * factor], dim=1)

    x, words = torch.randn(2, 3, 4, 4), Conditioning(torch.full((2, 1, 1), 2.0))
    both = replace(words, negative=Conditioning(torch.ones(2, 1, 1)))
    for rescale in (0.0, 0.7):
        output = guide(network, both, Guidance(3.0, rescale))(x, NOW)
        plain = guide(lambda *inputs: network(*inputs)[:, :3], both, Guidance(3.0, rescale))(x, NOW)
        assert torch.equal(output[:, :3], plain)
        assert torch.equal(output[:, 3:], 2 * (x + 1))


def test_only_ddpm_uses_the_learned_variance(painter: DiffusionPainter) -> None:
    def other(x: Tensor, t: Tensor, words: Conditioning) -> Tensor:
        output = painter.network(x, t, words)
        return torch.cat([output[:, :4], output[:, 4:] + 1], dim=1)

    changed = replace(painter, network=other)
    for sampler in SAMPLERS:
        options = {"sampler": sampler, "guidance": 2.0}
        same = torch.equal(state(painter, **options), state(changed, **options))
        assert same == (sampler != "ddpm"), sampler


def test_the_bound_teaches_the_variance_only() -> None:
    """Its mean is detached: through it the prediction has no gradient, and the share has one."""
    objective = objective_of()
    batch = objective.batch(8, step_generator(0, 0))
    objective(batch)["loss"].backward()
    learned = objective.unet.conv_out.weight.grad
    fixed = objective_of()
    fixed.painter.variance = Variance.SMALL
    channels = fixed.unet.config.in_channels
    network = fixed.painter.network
    fixed.painter.network = lambda x, t, words: network(x, t, words)[:, :4]
    fixed(batch)["loss"].backward()
    torch.testing.assert_close(learned[:channels], fixed.unet.conv_out.weight.grad[:channels])
    assert learned[channels:].abs().amax() > 0
    assert fixed.unet.conv_out.weight.grad[channels:].abs().amax() == 0


def test_the_bound_is_least_at_the_right_share() -> None:
    """An estimate that is off makes the posterior's variance larger by the square of what its mean misses."""
    t, latents = torch.tensor([500]), torch.zeros(1, 1, 2, 2)
    bar, before = COSINE.alpha_bar[500], COSINE.alpha_bar[499]
    beta = 1 - bar / before
    small, pull = beta * (1 - before) / (1 - bar), before.sqrt() * beta / (1 - bar)
    off = torch.full_like(
        latents, ((small * beta).sqrt() - small).sqrt() / pull
    )  # so that the middle is right
    share = torch.zeros_like(latents, requires_grad=True)
    variational_bound(COSINE, off, share, latents, t).backward()
    assert share.grad.abs().max() < 1e-6
    perfect = variational_bound(COSINE, latents, torch.full_like(off, -1.0), latents, t)
    assert perfect.item() == pytest.approx(0, abs=1e-6)


# ---- the painter


def test_estimates_stay_within_what_pixels_can_be(painter: DiffusionPainter) -> None:
    """And the noise is what then remains: DDIM's step is checked by hand."""
    batches = []

    def network(x: Tensor, _t: Tensor, _words: Conditioning) -> Tensor:
        batches.append(x)
        return torch.cat([3 * x.sign(), x], dim=1)

    wild = replace(painter, network=network, prediction=Prediction.SAMPLE)
    x = state(wild, sampler="ddim", steps=2, guidance=1)
    first, second = batches
    now, then, _ = wild.schedule.levels(2)
    clean = first.sign()
    expected = then.alpha * clean + then.sigma * (first - now.alpha * clean) / now.sigma
    torch.testing.assert_close(second, expected, rtol=0, atol=1e-5)
    assert x.abs().max() <= 1 + 1e-6


def test_names_matter_and_unknown_words_are_told(painter: DiffusionPainter) -> None:
    one, other = state(painter, "a cat", guidance=2), state(painter, "红苹果 苹果", guidance=2)
    assert not torch.equal(one, other)
    assert torch.equal(state(painter, "cat"), state(painter, "猫"))
    brief = Brief(prompt="a submarine", seed=1).resolve(painter.card)
    assert painter.condition(brief).dropped == "a submarine"
    assert not torch.equal(
        state(painter, "a cat", guidance=3, negative_prompt="flat"), state(painter, "a cat", guidance=3)
    )


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m"])
def test_a_picture_is_the_same_in_any_batch(painter: DiffusionPainter, sampler: str) -> None:
    """Measured: 1.2e-6."""
    many = state(painter, seeds=(1, 2, 3), sampler=sampler, guidance=2, steps=6)
    alone = state(painter, seeds=(2,), sampler=sampler, guidance=2, steps=6)
    torch.testing.assert_close(many[1:2], alone, rtol=0, atol=1e-5)


def test_folded_pixels_are_the_same_pixels(painter: DiffusionPainter) -> None:
    """A network that answers with what it sees gives the picture back, and its variance behind it."""

    class Echo(nn.Module):
        def forward(self, x: Tensor, _t: Tensor, **_: Any) -> tuple[Tensor]:
            return (torch.cat([x, -x], dim=1),)

    x = torch.randn(2, 4, 16, 16)
    network = replace(painter.network, unet=Echo())
    output = network(x, torch.zeros(2), Conditioning(torch.zeros(2, 1, len(NAMES))))
    assert torch.equal(output, torch.cat([x, -x], dim=1))


def test_a_tile_has_no_edge(painter: DiffusionPainter) -> None:
    brief = Brief(prompt="a cat", seed=1, steps=2, tile=True, native=True).resolve(painter.card)
    words = painter.condition(brief)
    blank = painter.begin(brief, words, Seeds([1]))
    rolled = replace(blank, state=blank.state.roll((8, 8), (2, 3)))
    ends = [list(painter.steps(brief, words, canvas))[-1].state for canvas in (blank, rolled)]
    torch.testing.assert_close(ends[0].roll((8, 8), (2, 3)), ends[1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("names", [NAMES, NO_NAMES], ids=["names", "no names"])
@pytest.mark.parametrize("app", [app for app in APPS if not app.startswith("edit")])
def test_every_app_that_it_can(app: str, names: Names) -> None:
    """It gives pictures, and the same ones again."""
    painter = ddpm.random_painter("tiny", names)
    options = {"painter": painter, "steps": 4, "seed": 3}
    first, again = (APPS[app](drawing((24, 18), "RGB"), **options) for _ in range(2))
    assert [picture.image.tobytes() for picture in first] == [picture.image.tobytes() for picture in again]
    assert first


def test_what_is_not_repainted_stays(painter: DiffusionPainter) -> None:
    image, mask = drawing((24, 24)), mask_of((24, 24), (4, 4, 12, 12))
    (picture,) = inpaint(image, "a cat", mask=mask, painter=painter, steps=3, seed=1)
    kept = bytes_of(mask) == 0
    assert (bytes_of(picture.image)[kept] == bytes_of(image)[kept]).all()
    with pytest.raises(BadBrief, match="cannot learn"):
        APPS["edit"](image, painter=painter)


def test_it_paints_transparency(painter: DiffusionPainter) -> None:
    (picture,) = paint("a cat", painter=painter, seed=1, steps=2, background="transparent")
    assert (picture.image.mode, picture.image.size) == ("RGBA", (16, 16))


# ---- folders


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    ddpm.save_folder(ddpm.fresh_components("tiny", NAMES), folder, torch.float32)
    return folder


def test_a_folder_is_read_as_it_was_written(painter: DiffusionPainter, saved: Path) -> None:
    again = open_painter(str(saved))
    assert again.card == painter.card
    assert {Can.WORDS, Can.NEGATIVE, Can.ALPHA, Can.REDRAW, Can.INPAINT} <= again.card.can
    assert again.text == NAMES
    for sampler in ("ddpm", "dpmpp_2m"):
        options = {"sampler": sampler, "guidance": 2.0}
        assert torch.equal(state(painter, **options), state(again, **options))


def test_classes_without_names_are_numbers(saved: Path, tmp_path: Path) -> None:
    """As another program leaves them; and without our card it is still known for what it is."""
    folder = shutil.copytree(saved, tmp_path / "theirs")
    (folder / "card.json").unlink()
    (folder / "danqing.json").write_text('{"fold": 2}')
    components = read_folder(folder)
    assert components.names.entries == tuple("0123456")
    assert components.card.width == 16


FAULTS = {
    "another pipeline": ("model_index.json", {"_class_name": "FluxPipeline"}, "holds FluxPipeline"),
    "fold": ("danqing.json", {"fold": 3, "names": []}, "fold 3 does not fit 16 channels"),
    "fold that is none": ("danqing.json", {"fold": "two", "names": []}, "fold 'two' does not fit"),
    "grey": ("danqing.json", {"fold": 4}, "pictures of 1 channels, where colour has 3"),
    "names": ("danqing.json", {"fold": 2, "names": "cat"}, "no list of words"),
    "many names": ("danqing.json", {"fold": 2, "names": ["a"] * 9}, "9 names, the network knows 7"),
    "variance": ("scheduler/scheduler_config.json", {"variance_type": "learned"}, "unknown variance_type"),
    "fixed": (
        "scheduler/scheduler_config.json",
        {"variance_type": "fixed_small"},
        "answers 32 channels to 16",
    ),
    "range": ("scheduler/scheduler_config.json", {"clip_sample_range": 2.0}, "clip_sample_range"),
    "labels": ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
}


@pytest.mark.parametrize(("file", "changed", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_folder_is_told_in_one_line(
    saved: Path, tmp_path: Path, file: str, changed: dict[str, Any] | list[Any], says: str
) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **changed}))  # type: ignore[dict-item]
    with pytest.raises(BadWeights, match=says) as raised:
        ddpm.open_weights(folder)
    assert "\n" not in str(raised.value)


# ---- training


def objective_of(seed: int = 0, **fields: Any) -> DenoisingObjective:
    components = ddpm.fresh_components("tiny", NAMES, seed)
    options = DiffusionOptions(probes=("a cat",), **fields)
    labels = Labels(NAMES, DATA, options)
    card = components.card.model_copy(update={"steps": 2})
    painter = ddpm.painter_of(replace(components, card=card))
    return DenoisingObjective(painter, components.unet, DATA, labels, options)


def trained(
    objective: DenoisingObjective,
    run: Path,
    steps: int,
    progress: Callable[..., Any] = no_progress,
    **fields: Any,
) -> Any:
    defaults = {"batch": 8, "lr": 5e-3, "warmup": 2, "ema": 0.8, "precision": "no", "log_every": 1, **fields}
    return Trainer(objective, TrainOptions(steps=steps, sheet_every=10**9, **defaults), run).train(progress)


def error_of(objective: DenoisingObjective) -> float:
    with torch.no_grad():
        batches = [objective.batch(16, step_generator(77, k)) for k in range(4)]
        return sum(objective(batch)["loss"].item() for batch in batches) / 4


def test_it_learns_and_the_null_label_stays_null(tmp_path: Path) -> None:
    """Measured: to 0.54 of what it was."""
    objective = objective_of()
    before = error_of(objective)
    assert error_of(trained(objective, tmp_path, 30)) < 0.8 * before
    weight = objective.unet.class_embedding.weight
    assert (weight[-1] == 0).all()
    assert (weight[:-1] != 0).any()
    assert objective.sheet().size == (16 * 8, 16)


def test_an_interrupted_run_goes_on_bit_equal(tmp_path: Path) -> None:
    class KilledError(Exception):
        """What ends a run from outside."""

    def killed(event: Progress) -> None:
        if event.message.startswith("step 3/"):
            raise KilledError

    whole = trained(objective_of(), tmp_path / "whole", 4, save_every=2).state_dict()
    with pytest.raises(KilledError):
        trained(objective_of(), tmp_path / "cut", 4, killed, save_every=2)
    resumed = trained(objective_of(seed=9), tmp_path / "cut", 4, save_every=2).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_labels_of_pictures() -> None:
    """A tenth without any, a tenth of the others without the style; the pictures are reduced by means."""
    labels = Labels(NAMES, DATA, DiffusionOptions())
    picks = torch.zeros(4000, dtype=torch.long)
    label = labels.draw(picks, torch.empty(0), step_generator(0, 0))["label"]
    assert DATA.rows[0]["concept"] == "cat"
    assert DATA.rows[0]["style"] == "3d"
    cat, solid = label[:, 0].mean().item(), label[:, 4].mean().item()
    assert cat == pytest.approx(0.9, abs=0.02)
    assert solid == pytest.approx(0.81, abs=0.02)
    assert label[:, [1, 2, 3, 5]].abs().sum() == 0
    assert labels.conditioning({"label": label}).tokens.shape == (4000, 1, 6)
    objective = objective_of()
    latents = objective.batch(16, step_generator(0, 0))["latents"]
    assert latents.shape == (16, 4, 16, 16)
    expected = nn.functional.avg_pool2d(DATA.pictures.float() / 127.5 - 1, 2)
    assert all((picture - expected).abs().amax(dim=(1, 2, 3)).min() < 1e-6 for picture in latents)


def test_pictures_that_do_not_fit_are_told() -> None:
    components, options, small = ddpm.fresh_components("tiny", NAMES), DiffusionOptions(), stickers(24)
    labels = Labels(NAMES, small, options)
    with pytest.raises(BadData, match="24 x 24 pixels do not fit a painter of 16 x 16"):
        DenoisingObjective(ddpm.painter_of(components), components.unet, small, labels, options)


def test_presets_are_what_they_say() -> None:
    """CIFAR-10's network has 35.7 million parameters (arXiv 2006.11239 appendix B); ours is a sixth."""
    counts = {}
    for preset in ("sticker", "cifar10"):
        with torch.device("meta"):
            components = ddpm.fresh_components(preset, NAMES)
        counts[preset] = sum(parameter.numel() for parameter in components.unet.parameters()) / 1e6
        assert components.card.width == 32
    assert counts["cifar10"] == pytest.approx(35.7, abs=0.1)
    assert counts["sticker"] < 6
