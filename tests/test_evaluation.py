"""The figures of `danqing evaluate` against closed forms, slow loops and scipy, and the page itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy import ndarray
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import linalg, ndimage
from torch import Generator, Tensor

from danqing.core.brief import ResolvedBrief
from danqing.core.card import Card
from danqing.core.errors import BadData, BadWeights
from danqing.core.painter import Conditioning
from danqing.data.dataset import CaptionedImages
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.vae import IdentityVAE
from danqing.evaluation import model_table
from danqing.evaluation.classifier_metrics import classifier_metrics
from danqing.evaluation.evaluate import EvaluationOptions, Evaluator, vae_figures
from danqing.evaluation.metrics import frechet_distance, kernel_distance, psnr, ssim
from danqing.families import gan
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.stable_diffusion.painter import byte_tokenizer, random_painter
from danqing.interfaces.cli.main import run
from danqing.nets.judge import Judge, JudgeConfig
from danqing.training.gan import names_of
from tests.test_recipes import folder_of as folder_of_pictures
from tests.tiny import CONCEPTS, STYLES, stickers
from tests.toy import CARD, Toy


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


# ---- distances between sets


def exactly(mean: Tensor, deviation: Tensor, count: Any = 64) -> Tensor:
    """Rows whose mean and covariance are exactly those of a diagonal Gaussian."""
    rows = torch.randn(count, len(mean), generator=rng(len(mean)), dtype=torch.float64)
    rows = rows - rows.mean(dim=0)
    rows = rows @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(rows.T)).mT)
    return rows * deviation + mean


def test_frechet_distance_of_two_gaussians() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2 for diagonal covariances. Measured: 2e-16 relative."""
    m1, m2 = torch.tensor([0.0, 1, -2, 3]).double(), torch.tensor([0.5, 1, 0, 3]).double()
    s1, s2 = torch.tensor([1.0, 2, 0.5, 3]).double(), torch.tensor([1.0, 0.5, 2, 1]).double()
    expected = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert frechet_distance(exactly(m1, s1), exactly(m2, s2)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [300, 9], ids=["many", "fewer than dimensions"])
def test_frechet_distance_against_sqrtm(count: int) -> None:
    """Measured: 1e-14 relative, and 5e-7 for singular covariances, where sqrtm needs a small ridge."""
    mix = torch.randn(2, 12, 12, generator=rng(1), dtype=torch.float64)
    a, b = (torch.randn(count, 12, generator=rng(k + 2), dtype=torch.float64) @ mix[k] + k for k in (0, 1))
    first, second = np.cov(a.numpy().T), np.cov(b.numpy().T)
    with np.errstate(all="ignore"):
        root = linalg.sqrtm(first @ second + (0 if count > 12 else 1e-10) * np.eye(12)).real
    gap = a.numpy().mean(0) - b.numpy().mean(0)
    expected = gap @ gap + np.trace(first + second - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(a, a.clone()) == pytest.approx(0, abs=1e-6 * float(np.trace(first)))


def test_kernel_distance_against_loops() -> None:
    """Measured: 1.4e-14 relative."""
    a, b = (torch.randn(n, 5, generator=rng(n), dtype=torch.float64) + n / 9 for n in (7, 9))

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    within = [
        sum(kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (a, b)
    ]
    across = sum(kernel(x, y) for x in a for y in b) / 63
    assert kernel_distance(a, b) == pytest.approx(sum(within) - 2 * across, rel=1e-9)


def test_kernel_distance_has_no_bias() -> None:
    """Over 400 pairs of small sets alike the mean is 0 within its error; sets apart are far from it."""
    draws = torch.randn(400, 2, 10, 4, generator=rng(5), dtype=torch.float64)
    same = torch.tensor([kernel_distance(a, b) for a, b in draws])
    assert same.mean().abs() < 3 * same.std() / 20
    assert same.min() < 0
    shifted = torch.tensor([kernel_distance(a, b + 1) for a, b in draws[:50]])
    assert shifted.mean() > 10 * same.std() / 20


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_a_distance_needs_two_rows(distance: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="sets of 5 and 1 features: a distance needs at least two in each"):
        distance(torch.rand(5, 3), torch.rand(1, 3))


# ---- distances between pictures


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    made = torch.rand(3, 4, 24, 20, generator=rng(7)) * 2 - 1
    return made, (made + 0.3 * torch.randn(made.shape, generator=rng(8))).clamp(-1, 1)


def test_psnr(pair: tuple[Tensor, Tensor]) -> None:
    made, truth = pair
    expected = [
        20 * math.log10(2 / math.sqrt(float(((a - b) ** 2).mean()))) for a, b in zip(*pair, strict=True)
    ]
    assert psnr(made, truth).tolist() == pytest.approx(expected, rel=1e-5)
    assert psnr(torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2)).item() == pytest.approx(0, abs=1e-6)
    assert psnr(made, made).isfinite().all()


def slow_ssim(a: ndarray, b: ndarray) -> float:
    """Wang et al. 2004, equations 13 to 16, with scipy's Gaussian, where the whole window fits."""

    def blur(x: ndarray) -> ndarray:
        return ndimage.gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.02**2, 0.06**2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((light * (2 * both + c2) / (var_a + var_b + c2)).mean())


def test_ssim(pair: tuple[Tensor, Tensor]) -> None:
    """Measured: 5e-8."""
    made, truth = pair
    expected = [
        np.mean([slow_ssim(a[c].double().numpy(), b[c].double().numpy()) for c in range(4)])
        for a, b in zip(made, truth, strict=True)
    ]
    assert ssim(made, truth).tolist() == pytest.approx(expected, abs=1e-5)
    assert 0.3 < expected[0] < 0.95
    torch.testing.assert_close(ssim(made, truth), ssim(truth, made))
    torch.testing.assert_close(ssim(made, made), torch.ones(3), rtol=0, atol=1e-5)


def test_a_codec_that_loses_nothing(pair: tuple[Tensor, Tensor]) -> None:
    figures = vae_figures(IdentityVAE(4), pair[0])
    assert figures["autoencoder PSNR, held-out (dB)"] > 100
    assert figures["autoencoder SSIM, held-out"] == pytest.approx(1)


# ---- the judge


def test_opinion_of_known_logits() -> None:
    """Four pictures: right, second, sixth and last of seven concepts; styles right, wrong, right, right."""
    order = [[6, 0, 1, 2, 3, 4, 5], [0, 5, 1, 2, 3, 4, 6], [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]]
    concept = torch.zeros(4, 7)
    for row, ranks in zip(concept, order, strict=True):
        row[ranks] = torch.arange(7, 0, -1).float()
    style, features = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), torch.rand(4, 3)
    judge = SimpleNamespace(
        config=JudgeConfig(tuple("abcdefg"), ("x", "y")), predict=lambda _: (concept, style, features)
    )
    told = classifier_metrics(
        judge, torch.zeros(4, 3, 8, 8), [("g", "x"), ("f", "y"), ("f", "y"), ("g", "y")]
    )
    assert (told.top1, told.top5, told.style) == (0.25, 0.5, 0.75)
    assert told.by_style == {"x": 1.0, "y": pytest.approx(2 / 3)}
    assert told.labels.tolist() == [[6, 0], [0, 0], [0, 1], [0, 1]]
    assert told.features is features


def small_judge(concepts: tuple[str, ...] = tuple(dict(CONCEPTS)), styles: tuple[str, ...] = STYLES) -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeConfig(concepts, styles, size=32, widths=(4, 8, 8, 8), reliability=0.9)).eval()


def test_judge_looks_at_any_size_and_ignores_alpha() -> None:
    judge = small_judge()
    pictures = torch.rand(70, 4, 64, 64, generator=rng()) * 2 - 1
    concept, style, features = judge.predict(pictures)
    assert (concept.shape, style.shape, features.shape) == ((70, 4), (70, 4), (70, 8))
    small = torch.nn.functional.avg_pool2d(pictures[:, :3], 2)
    torch.testing.assert_close(judge(small)[0], concept, rtol=0, atol=1e-5)
    assert judge.label(pictures).tolist() == torch.stack([concept.argmax(1), style.argmax(1)], 1).tolist()


def test_judge_round_trip(tmp_path: Path) -> None:
    judge = small_judge().half().float()
    judge.save(tmp_path / "judge")
    again = Judge.load(tmp_path / "judge")
    assert again.config == judge.config
    assert not again.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in judge.state_dict().items())


def poison(path: Path) -> None:
    tensors = load_file(path)
    tensors["concept.bias"][0] = float("nan")
    save_file(tensors, path)


def configure(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


WEIGHTS = "model.safetensors"
FAULTS = {
    "truncated": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:999]),
        "holds no whole judge",
    ),
    "missing": (lambda f: (f / WEIGHTS).unlink(), "holds no whole judge"),
    "nan": (lambda f: poison(f / WEIGHTS), "concept.bias holds NaN or infinite values"),
    "foreign": (lambda f: save_file({"a": torch.zeros(1)}, f / WEIGHTS), "Missing key"),
    "another size": (lambda f: configure(f, concepts=["cat"]), "size mismatch"),
    "other fields": (lambda f: configure(f, model_type="clip"), "unexpected keyword argument 'model_type'"),
    "too few widths": (lambda f: configure(f, widths=[4]), "holds no whole judge"),
    "concepts no list": (lambda f: configure(f, concepts=5), "holds no whole judge"),
    "no json": (lambda f: (f / "config.json").write_text("{"), "holds no whole judge"),
    "no object": (lambda f: (f / "config.json").write_text("[]"), "holds no whole judge"),
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_damaged_judge_is_told_in_one_line(tmp_path: Path, fault: Callable[..., Any], says: str) -> None:
    small_judge().save(tmp_path)
    fault(tmp_path)
    with pytest.raises(BadWeights) as raised:
        Judge.load(tmp_path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


# ---- the page


def evaluator(
    painter: DiffusionPainter | Recorder | None, real: CaptionedImages | None = None, **fields: Any
) -> Evaluator:
    tokenizer = byte_tokenizer(16)
    torch.manual_seed(0)
    clip = build_clip("tiny", tokenizer).eval()
    real = stickers() if real is None else real
    return Evaluator(painter, small_judge(), ClipScorer.of(clip, tokenizer), real, **fields)


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    return random_painter()


FIGURES = [
    "judge's reliability: concept top-1",
    "autoencoder PSNR, held-out (dB)",
    "autoencoder SSIM, held-out",
    "real (trained on): concept top-1",
    "real (trained on): concept top-5",
    "real (trained on): style",
    "CLIP score, real",
    *(
        f"{name}: {what}"
        for name in ("seen", "held-out", "chinese")
        for what in ("concept top-1", "concept top-5", "style")
    ),
    *(f"seen: style {name}" for name in STYLES),
    "FID in judge features",
    "FID, real against real",
    "KID in judge features",
    "KID, real against real",
    "English and Chinese agree: concept",
    "CLIP score, painted",
]


def test_a_report_has_every_figure_and_repeats(painter: DiffusionPainter) -> None:
    options = EvaluationOptions(train_pairs=15, held_out=3, chinese=2, steps=2)
    one, two = (evaluator(painter, vae=painter.vae).report(options) for _ in range(2))
    assert list(one.figures) == FIGURES
    assert all(math.isfinite(value) for value in one.figures.values())
    assert one.figures == two.figures
    assert {name: tuple(p.shape) for name, p in one.painted.items()} == {
        "seen": (15, 4, 32, 32),
        "held-out": (3, 4, 32, 32),
        "chinese": (2, 4, 32, 32),
    }
    assert all(torch.equal(one.painted[name], two.painted[name]) for name in one.painted)
    other = evaluator(painter).report(
        EvaluationOptions(train_pairs=4, held_out=3, chinese=2, steps=3, seed=9)
    )
    assert other.figures != one.figures


class Recorder(Toy):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(Card(**{**CARD.model_dump(), "scale": 1}))
        self.asked: list[Any] = []

    def condition(self, brief: ResolvedBrief) -> Conditioning:
        self.asked.append((brief.prompt, brief.seed, brief.steps, brief.guidance, brief.sampler))
        return super().condition(brief)


def test_few_held_out_pairs_come_again_with_new_seeds() -> None:
    toy, watched = Recorder(), []
    options = EvaluationOptions(
        train_pairs=5, held_out=3, chinese=2, seed=40, batch=1, steps=2, guidance=3.0, sampler="ddim"
    )
    scorer = evaluator(toy, progress=lambda event: watched.append((event.message, event.step, event.of)))
    report = scorer.report(options)
    english, held_out, chinese = toy.asked[:5], toy.asked[5:8], toy.asked[8:]
    assert [seed for _, seed, *_ in toy.asked] == [40, 41, 42, 43, 44, 40, 41, 42, 40, 41]
    assert {prompt for prompt, *_ in held_out} == {"rocket, paper-cut style"}
    assert len({prompt for prompt, *_ in english}) == 5
    assert "rocket, paper-cut style" not in {prompt for prompt, *_ in english}
    rows = {row["text"]: row["text_zh"] for row in stickers().rows}
    assert [prompt for prompt, *_ in chinese] == [rows[prompt] for prompt, *_ in english[:2]]
    assert {tuple(rest) for _, _, *rest in toy.asked} == {(2, 3.0, "ddim")}
    assert not torch.equal(report.painted["held-out"][0], report.painted["held-out"][1])
    assert watched[:2] == [("seen", 1, 5), ("seen", 2, 5)]
    assert watched[-1] == ("chinese", 2, 2)


def test_without_held_out_pairs_there_are_no_figures_of_them() -> None:
    real = stickers().where(lambda row: not row["held_out"])
    figures = (
        evaluator(Recorder(), real, vae=IdentityVAE(4)).report(EvaluationOptions(15, 3, 2, batch=1)).figures
    )
    assert list(figures) == [name for name in FIGURES if "held-out" not in name]


@pytest.mark.parametrize(
    "keep",
    [
        lambda _: False,
        lambda row: row["held_out"],
        lambda row: row["concept"] == "cat" and row["style"] != "3d",
    ],
    ids=["none", "held-out alone", "three"],
)
def test_too_few_real_pictures(keep: Callable[..., Any]) -> None:
    with pytest.raises(
        BadData, match=r"too few real pictures \(\d\) of things and styles that the judge knows"
    ):
        evaluator(Recorder(), stickers().where(keep)).report(EvaluationOptions(4, 2, 2))


def test_pictures_the_judge_does_not_know_are_left_out() -> None:
    toy = Recorder()
    known = replace(evaluator(toy), judge=small_judge(concepts=("cat", "owl"), styles=("3d", "flat")))
    known.report(EvaluationOptions(train_pairs=8, held_out=2, chinese=1, batch=1))
    expected = {f"{name}, {style} style" for name in ("cat", "owl") for style in ("3d", "flat")}
    assert {prompt for prompt, *_ in toy.asked[:8]} == expected


# ---- the table


def test_the_table_has_a_line_for_each_model_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, names, models = stickers(), names_of(stickers()), []
    for name, year in (("young", 2020), ("old", 2014)):
        made = gan.random_painter(names=names)
        card = made.card.model_copy(update={"name": name, "year": year, "styles": {}})
        gan.save_latent(gan.GanPainter(card, made.generator, names), tmp_path / name)
        models.append(str(tmp_path / name))
    small = evaluator(None, real)  # the judge of the shipped things does not know these
    monkeypatch.setattr(
        model_table, "open_evaluator", lambda name, *_: replace(small, painter=model_table.open_painter(name))
    )
    lines = list(model_table.compare_models(models, real, EvaluationOptions(4, 2, 2), lambda *_: None))
    assert [line.card.name for line in lines] == ["old", "young"]
    size = sum(values.numel() for values in made.generator.state_dict().values())
    assert [line.parameters for line in lines] == [size, size]
    assert lines[0].cells["prompt type"] == "names it knows"
    assert lines[0].cells["concept"].endswith("%")
    assert lines[0].report.pictures_per_second > 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--model", ","], "model ',' names none"),
        (["--model", "nowhere"], "unknown model 'nowhere'"),
        (["--all", "--sheet", "all.png"], "--sheet is for one model"),
        (["--model", ".", "--sheet", "all.txt"], "end the name with"),
        (["--model", ".", "--sheet", "/dev/null/all.png"], "cannot write"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_read(
    argv: list[str], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--data", str(tmp_path), *argv]) in (1, 2)
    [told] = capfd.readouterr().err.splitlines()
    assert says in told


def test_the_command_prints_every_figure_and_writes_a_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = names_of(stickers())
    made = gan.random_painter(names=names)
    card = made.card.model_copy(update={"name": "tiny", "styles": {}})
    gan.save_latent(gan.GanPainter(card, made.generator, names), tmp_path / "tiny")
    folder_of_pictures(stickers(), tmp_path / "data")
    small = evaluator(None)
    monkeypatch.setattr(
        model_table, "open_evaluator", lambda name, *_: replace(small, painter=model_table.open_painter(name))
    )
    command = "evaluate --data data --model tiny --seen 4 --held-out 2 --chinese 2 --sheet sheet.png"
    assert run(command.split()) == 0
    figures = capfd.readouterr().out.splitlines()
    assert any(line.startswith("pictures per second") for line in figures)
    assert all(len(line) == 54 for line in figures)
    with Image.open("sheet.png") as sheet:
        assert sheet.width > sheet.height
    assert run(command.split()) == 2, "a sheet is not replaced"
    assert "--overwrite replaces it" in capfd.readouterr().err
