"""Learning a subject: the loss, the rare token, the prior's cache, resuming, what CLIP says, the whole."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from danqing.core.errors import BadBrief, BadData, DanqingError, NotFinite
from danqing.core.painter import Conditioning
from danqing.core.progress import Progress
from danqing.data.dataset import to_unit
from danqing.diffusion.loss import denoising_error, stratified_times
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.prediction import Prediction
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.stable_diffusion.painter import byte_tokenizer, painter_of, random_components
from danqing.training.tokenizer import train_tokenizer
from danqing.training.trainer import step_generator
from danqing.tuning.adapter import Adapter, attach
from danqing.tuning.adapter_files import read_adapter
from danqing.tuning.dreambooth import (
    LossOptions,
    Shots,
    SubjectObjective,
    encode_pictures,
    freeze_networks,
    prior_latents,
    subject_pictures,
)
from danqing.tuning.learning import METHODS, kept_pictures, learn
from danqing.tuning.learning_needs import learning_needs
from danqing.tuning.lora import TEXT, Factors, learning_rate_share
from danqing.tuning.monitor import Monitor, Scores, read_scores
from danqing.tuning.rare_token import rare_token
from danqing.tuning.subject_run import LearnOptions, SubjectRun
from tests.adapters import bits, output, random_adapter, same_bits
from tests.progress import Lines
from tests.test_adapters import TO_Q
from tests.tiny import stickers

PICTURES = to_unit(stickers().pictures[:4])
QUICK = LearnOptions(
    "my-cat",
    "cat",
    steps=4,
    batch=2,
    prior_count=3,
    look_every=2,
    sentences=("{}", "a {}"),
    rank=2,
    convs=False,
)


@pytest.fixture(scope="module")
def painter() -> DiffusionPainter:
    components = random_components()
    return painter_of(replace(components, card=components.card.model_copy(update={"steps": 2})))


@pytest.fixture(scope="module")
def clip() -> ClipScorer:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a cat", "a cat, 3d style", "paper-cut"], merges=10, length=16)
    return ClipScorer.of(build_clip("tiny", tokenizer).eval(), tokenizer)


def objective(
    painter: DiffusionPainter,
    adapter: Adapter,
    weight: float = 1.0,
    gamma: float | None = None,
    prior: bool = True,
) -> SubjectObjective:
    subject = Shots(encode_pictures(painter, PICTURES, mirror=False), ("zq cat", "a zq cat"))
    other = Shots(torch.randn(5, 8, 4, 4, generator=torch.Generator().manual_seed(1)), ("cat", "a cat"))
    return SubjectObjective(
        painter, adapter, subject, other if prior else None, ["zq cat"], LossOptions(weight, gamma)
    )


# ---- the loss


@pytest.mark.parametrize("gamma", [None, 5.0])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_loss_is_the_sum_of_its_two_terms(
    painter: DiffusionPainter, weight: float, gamma: float | None
) -> None:
    """Loss and gradient of one batch are those of two separate forwards. Measured: 6e-8 and 1e-7."""
    adapter = random_adapter(painter, text=True)
    for tensor in adapter.tensors():
        tensor.requires_grad_(True)
    with freeze_networks(painter), attach(painter, {adapter: 1.0}):
        both = objective(painter, adapter, weight, gamma)
        batch = both.batch(3, step_generator(0, 0))
        told = both(batch)
        together = torch.autograd.grad(told["loss"], adapter.tensors())
        terms = []
        for rows, sentences in ((slice(0, 3), ("zq cat", "a zq cat")), (slice(3, 6), ("cat", "a cat"))):
            said = [sentences[i % 2] for i in batch["prompt"][rows].tolist()]
            ids = painter.text.tokenizer(said, padding="max_length", max_length=16, return_tensors="pt")
            words = Conditioning(painter.text.states(ids.input_ids))
            latents, t, noise = (batch[key][rows] for key in ("latents", "t", "noise"))
            terms.append(denoising_error(painter, latents, words, t, noise, gamma).mean())
        apart = torch.autograd.grad(terms[0] + weight * terms[1], adapter.tensors())
    torch.testing.assert_close(told["loss"], terms[0] + weight * terms[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(told["prior"], terms[1], rtol=1e-6, atol=1e-6)
    assert all(p.grad is None for m in painter.modules.values() for p in m.parameters())
    for mine, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_lambda_zero_is_plain_fine_tuning(painter: DiffusionPainter) -> None:
    adapter = random_adapter(painter, text=False)
    with attach(painter, {adapter: 1.0}):
        zero, plain = objective(painter, adapter, 0.0), objective(painter, adapter, 1.0, prior=False)
        full = objective(painter, adapter, 1.0)
        batches = [one.batch(3, step_generator(0, 0)) for one in (zero, plain, full)]
        assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])
        assert all(torch.equal(batches[0][key], batches[2][key][:3]) for key in batches[0])
        assert torch.equal(zero(batches[0])["loss"], plain(batches[1])["loss"])


@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_error_by_hand(painter: DiffusionPainter, prediction: Prediction) -> None:
    """Each target, and min-SNR as min(snr, 5) times the error in x_0. Measured: 3e-6 relative."""
    painter = replace(painter, prediction=prediction)
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(3, 8, 4, 4, generator=rng), torch.randn(3, 8, 4, 4, generator=rng)
    t, words = torch.tensor([100, 500, 900]), painter.text("a cat").expand(3)
    alpha, sigma = (part.view(-1, 1, 1, 1) for part in painter.schedule.at(t))
    with torch.no_grad():
        noisy = alpha * latents + sigma * noise
        said = painter.network(noisy, t, words)
        target = prediction.target(latents, noise, alpha, sigma)
        expected = (said - target).square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(denoising_error(painter, latents, words, t, noise), expected)
        clean = prediction.x0(noisy, said, alpha, sigma)
        weight = (alpha / sigma).square().flatten().clamp(max=5)
        expected = weight * (clean - latents).square().mean(dim=(1, 2, 3))
        found = denoising_error(painter, latents, words, t, noise, gamma=5.0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_stratified_times_are_uniform() -> None:
    """One in each quarter, and each position sees all quarters equally often."""
    rng = torch.Generator().manual_seed(0)
    times = torch.stack([stratified_times(4, 1000, rng) for _ in range(4000)])
    assert torch.equal((times // 250).sort(dim=1).values, torch.arange(4).expand(4000, 4))
    assert times.float().mean(dim=0).sub(499.5).abs().max() < 5 * 289 / 4000**0.5


# ---- the rare token


def test_rare_tokens() -> None:
    """Without a vowel before others, late before early, never a word of the data, always one token."""
    said = ["gym rhythm sky cat dog"] * 50 + ["brr"] * 9 + ["hmm"] * 7 + ["oak"] * 5 + ["shh"] * 2
    tokenizer = train_tokenizer(said, merges=400, length=16)
    ids = tokenizer.get_vocab()
    order = [rare_token(tokenizer)]
    while len(order[-1]) > 1:
        order.append(rare_token(tokenizer, order))
    pairs = order[:-1]
    assert {"brr", "hmm", "shh"} <= set(pairs)
    assert order[-1] == "z"  # then single letters
    assert not {"sky", "cat", "dog", "oak", "gym"} & set(order)
    assert [ids[f"{text}</w>"] for text in pairs] == sorted((ids[f"{t}</w>"] for t in pairs), reverse=True)
    assert all(len(tokenizer(text, add_special_tokens=False).input_ids) == 1 for text in order)


def test_rare_tokens_without_merges() -> None:
    tokenizer = byte_tokenizer(16)
    assert rare_token(tokenizer) == "z"
    assert rare_token(tokenizer, ["z", "q! and x"]) == "j"
    with pytest.raises(BadBrief, match="no rare token: choose the method textual-inversion"):
        rare_token(tokenizer, list("abcdefghijklmnopqrstuvwxyz"))


# ---- pictures


def test_subject_pictures(painter: DiffusionPainter) -> None:
    wide = Image.new("RGB", (64, 32), "white")
    wide.paste((255, 0, 0), (16, 0, 48, 32))
    clear = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
    clear.paste((0, 255, 0, 255), (0, 0, 64, 32 // 2))
    pictures = subject_pictures([wide, clear], painter)
    assert pictures.shape == (2, 4, 32, 32)
    red, green = pictures
    assert torch.equal(red[:, :, 4], torch.tensor([1.0, -1, -1, 1])[:, None].expand(4, 32))  # cropped
    assert torch.equal(green[3, :7], torch.full((7, 32), -1.0))  # padded with nothing
    assert green[1, 10, 16] == 1
    assert green[3, 10, 16] == 1
    for few in ([], [wide], [wide, wide.copy()]):
        with pytest.raises(BadData, match=rf"^{min(len(few), 1)} different pictures are too few"):
            subject_pictures(few, painter)


def test_the_prior_is_painted_once(painter: DiffusionPainter, tmp_path: Path) -> None:
    lines = Lines()
    first = prior_latents(painter, "a cat", 10, 3, tmp_path, lines)
    assert lines == ["painting 'a cat' to remember it by: 8/10", "painting 'a cat' to remember it by: 10/10"]
    assert torch.equal(prior_latents(painter, "a cat", 10, 3, tmp_path, lines), first)
    assert len(lines) == 2
    assert first.shape == (10, 8, 4, 4)
    changed = replace(painter, card=painter.card.model_copy(update={"steps": 3}))
    with torch.no_grad():
        other = painter_of(random_components(seed=1))
    other.card = painter.card
    for args in (
        (painter, "a dog", 10, 3),
        (painter, "a cat", 10, 4),
        (changed, "a cat", 10, 3),
        (other, "a cat", 10, 3),
    ):
        assert not torch.equal(prior_latents(*args, tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 5


# ---- the whole


@pytest.mark.parametrize("method", list(METHODS))
def test_learning_changes_only_what_comes_back(
    painter: DiffusionPainter, tmp_path: Path, method: str
) -> None:
    before, said, text = bits(painter), output(painter), painter.text
    adapter = learn(painter, PICTURES, replace(QUICK, method=method), tmp_path)
    assert same_bits(bits(painter), before)
    assert painter.text is text
    assert torch.equal(output(painter), said)
    assert bool(adapter.factors) == (method != "textual-inversion")
    assert bool(adapter.words) == (method != "dreambooth")
    assert adapter.trigger == ("z cat" if method == "dreambooth" else "<my-cat>")
    assert (adapter.name, adapter.kind, adapter.base) == ("my-cat", "cat", painter.card.name)
    plain = output(painter, adapter.trigger)
    with attach(painter, {adapter: 1.0}):
        assert not torch.equal(output(painter, adapter.trigger), plain)
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == ["0000002.png", "0000004.png"]


@pytest.mark.parametrize(
    ("widths", "share"), [((), 1.0), ((64, 256), 1.0), ((512, 320), 0.25), ((1280,), 0.04)]
)
def test_wide_networks_learn_gently(widths: tuple[Any, ...], share: float) -> None:
    factors = {f"{w}": Factors(torch.zeros(4, 3), torch.zeros(w, 4), 4.0) for w in widths}
    assert learning_rate_share(factors) == pytest.approx(share)


@pytest.mark.parametrize("method", list(METHODS))
def test_without_a_learning_rate_the_methods_own_is_taken(
    painter: DiffusionPainter, tmp_path: Path, method: str
) -> None:
    own, twice = METHODS[method].lr, METHODS[method].lr * 2
    learned = [
        learn(painter, PICTURES, replace(QUICK, method=method, lr=lr), tmp_path / f"{lr}").tensors()
        for lr in (None, own, twice)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*learned[:2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*learned[1:], strict=True))


@pytest.mark.parametrize("method", list(METHODS))
def test_a_stopped_run_continues_bit_equal(painter: DiffusionPainter, tmp_path: Path, method: str) -> None:
    """Stopped at step 70 after a checkpoint at 50."""
    options = replace(QUICK, method=method, steps=80, look_every=10**9, batch=1, prior_count=2, text=True)
    whole = learn(painter, PICTURES, options, tmp_path / "whole")
    before = bits(painter)

    def stop(event: Progress) -> None:
        if event.message.startswith("step 70/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(painter, PICTURES, options, tmp_path / "cut", progress=stop)
    assert same_bits(bits(painter), before)
    again = learn(painter, PICTURES, options, tmp_path / "cut")
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors(), again.tensors(), strict=True))
    assert any(name.endswith(TEXT) for name in again.factors) == (method != "textual-inversion")


def test_it_learns_and_remembers(painter: DiffusionPainter, tmp_path: Path) -> None:
    """The error on the subject falls; on what the model painted before it stays nearer with a prior.

    Measured on draws that training does not see: subject 0.60 to 0.53, kind 0.89 to 0.80 with, 0.91 without.
    """
    options = replace(QUICK, steps=60, batch=4, rank=8, convs=True, prior_count=8, look_every=10**9, lr=5e-3)
    latents = prior_latents(painter, "cat", 8, 0, tmp_path / "run" / "prior")
    subject = encode_pictures(painter, PICTURES, mirror=False)

    def errors(adapter: Adapter | None, trigger: str) -> list[float]:
        found = []
        with attach(painter, {adapter: 1.0} if adapter else {}), torch.no_grad():
            for pictures, prompt in ((subject, trigger), (latents, "cat")):
                rng, many = torch.Generator().manual_seed(5), pictures.repeat(64 // len(pictures), 1, 1, 1)
                t, noise = stratified_times(64, 1000, rng), torch.randn(many.shape, generator=rng)
                words = painter.text(prompt).expand(64)
                found.append(denoising_error(painter, many, words, t, noise).mean().item())
        return found

    with_prior = errors(learn(painter, PICTURES, options, tmp_path / "run"), "z cat")
    without = errors(learn(painter, PICTURES, replace(options, prior_weight=0.0), tmp_path / "none"), "z cat")
    before = errors(None, "z cat")
    assert with_prior[0] < 0.93 * before[0], (before, with_prior, without)
    assert with_prior[1] < without[1], (before, with_prior, without)


def test_scores_are_written_and_the_best_is_kept(
    painter: DiffusionPainter, clip: ClipScorer, tmp_path: Path
) -> None:
    options = replace(QUICK, steps=6, keep_best=True)
    adapter = learn(painter, PICTURES, options, tmp_path, clip)
    scores = read_scores(tmp_path / "scores.csv")
    assert [s.step for s in scores] == [2, 4, 6]
    assert all(-1 <= s.clip_i <= 1 and -1 <= s.clip_t <= 1 for s in scores)
    kept = read_adapter(tmp_path / "best.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(adapter.tensors(), kept.tensors(), strict=True))
    assert (adapter.trigger, adapter.kind, adapter.base) == ("z cat", "cat", painter.card.name)


def test_the_best_is_what_is_alike_and_obedient(
    painter: DiffusionPainter, clip: ClipScorer, tmp_path: Path
) -> None:
    """Pictures of the subject after step 4, noise before and after; looking again repeats no line."""
    adapter = random_adapter(painter)
    trained = objective(painter, adapter)
    noise = torch.rand(4, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    words = [f"{a} {b}" for a in ("a", "3d", "paper", "") for b in ("cat", "style", "cut", "flat")]
    said = max(words, key=lambda word: clip_t(clip, PICTURES, word) - clip_t(clip, noise, word))
    assert clip_t(clip, PICTURES, said) > max(clip_t(clip, noise, said), 0)
    monitor = Monitor(trained, clip, PICTURES, [said] * 4, tmp_path)
    for step, painted in ((2, noise), (4, PICTURES), (6, noise), (6, noise)):
        trained.painted = painted
        adapter.factors[TO_Q].down.fill_(step)
        monitor(step)
    assert read_adapter(monitor.best).factors[TO_Q].down.unique().item() == 4
    scores = read_scores(tmp_path / "scores.csv")
    seen = clip.image_embeddings(PICTURES)
    assert [s.step for s in scores] == [2, 4, 6]
    assert scores[1].clip_i == pytest.approx((seen @ seen.T).mean().item(), abs=2e-6)
    assert scores[1].clip_t == pytest.approx(clip_t(clip, PICTURES, said), abs=2e-6)
    assert Scores(1, 0.8, 0.3).compromise == pytest.approx(0.24)
    assert Scores(1, -0.8, -0.3).compromise == 0


def clip_t(clip: ClipScorer, pictures: Tensor, word: str) -> float:
    return (clip.image_embeddings(pictures) @ clip.text_embeddings([word]).T).mean().item()


def test_clip_sees_any_size(clip: ClipScorer) -> None:
    seen, large = (
        clip.image_embeddings(PICTURES),
        PICTURES.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3),
    )
    assert torch.allclose(seen.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(clip.image_embeddings(large), seen)


def test_what_cannot_be_learned(painter: DiffusionPainter, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="1 pictures are too few"):
        learn(painter, PICTURES[:1], QUICK, tmp_path)
    with pytest.raises(BadBrief, match="unknown method 'dreambooht': did you mean 'dreambooth'"):
        learn(painter, PICTURES, replace(QUICK, method="dreambooht"), tmp_path)
    with pytest.raises(BadBrief, match="keep_best needs a CLIP"):
        learn(painter, PICTURES, replace(QUICK, keep_best=True), tmp_path)
    assert list(tmp_path.iterdir()) == []
    learn(painter, PICTURES, replace(QUICK, steps=1), tmp_path)
    for pictures, options in ((PICTURES, QUICK), (PICTURES.flip(-1), replace(QUICK, steps=1))):
        with pytest.raises(BadData, match="holds another run, of other pictures or options"):
            learn(painter, pictures, options, tmp_path)


def test_nan_stops_and_the_painter_is_what_it_was(painter: DiffusionPainter, tmp_path: Path) -> None:
    before = bits(painter)
    broken = replace(painter, network=lambda x, t, words: painter.network(x, t, words) * float("nan"))
    with pytest.raises(NotFinite):
        learn(broken, PICTURES, replace(QUICK, prior_weight=0.0), tmp_path)
    assert same_bits(bits(painter), before)
    assert all(p.requires_grad for m in painter.modules.values() for p in m.parameters())


# ---- going on


def test_learning_further_is_the_same_in_one_go_and_in_several(painter: Any, tmp_path: Path) -> None:
    """Also where a call was interrupted before its first checkpoint, and other words are to be avoided."""
    options = replace(QUICK, steps=2, look_every=10**9, batch=1, prior_count=2)
    whole = learn(painter, PICTURES, replace(options, further=4), tmp_path / "whole")
    run = SubjectRun(tmp_path / "parts")
    first = learn(painter, PICTURES, replace(options, avoid=("x",)), run.folder)
    longer = run.longer(run.options(), 3)
    assert (longer.further, run.steps_done()) == (3, 2)

    def stop(event: Any) -> None:
        if event.message.startswith("step"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(painter, PICTURES, longer, run.folder, progress=stop)
    again = run.longer(run.options(), 3)
    assert again == run.options(), "the three steps that were begun are meant"
    learn(painter, PICTURES, replace(again, avoid=("y",)), run.folder)
    last = run.longer(run.options(), 1)
    assert (last.further, run.steps_done(), last.avoid) == (4, 5, ("x",))
    components = learn(painter, PICTURES, last, run.folder)
    assert run.steps_done() == 6
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors(), components.tensors(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.tensors(), components.tensors(), strict=True))
    assert torch.equal(kept_pictures(run), PICTURES)
    with pytest.raises(BadData, match="--restart learns anew"):
        learn(painter, PICTURES, replace(options, steps=9), run.folder)
    run.clear()
    assert [path.name for path in run.folder.iterdir()] == ["prior"]
    assert run.options() is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"options": 1, "model": "", "pictures": ""}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, text: Any) -> None:
    (tmp_path / "learning.json").write_text(text)
    with pytest.raises(BadData, match=r"learning.json' is damaged: choose another name, or --restart"):
        SubjectRun(tmp_path).options()


@pytest.mark.parametrize("method", list(METHODS))
def test_learning_says_what_it_needs(painter: Any, tmp_path: Path, method: Any) -> None:
    told, before = Lines(), bits(painter)
    options = replace(QUICK, method=method)
    adapter = learn(painter, PICTURES, options, tmp_path, progress=told)
    [note] = told.notes
    assert re.fullmatch("learning needs about .* s, .* of memory and .* of disk", note)
    assert same_bits(bits(painter), before)
    learn(painter, PICTURES, options, tmp_path, progress=told)
    assert len(told.notes) == 1
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    subject, with_prior = (
        Shots(encode_pictures(painter, PICTURES, mirror=False), ("cat",)),
        method != "textual-inversion",
    )
    for tensor in adapter.tensors():
        tensor.requires_grad_(True)
    needs = learning_needs(painter, adapter, subject, options, 4, done=0, prior=with_prior)
    assert written < needs.disk
    assert needs.seconds > 0


def test_learning_on_a_full_disk_does_not_begin(
    painter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 9}))
    with pytest.raises(DanqingError, match="has 9 bytes free"):
        learn(painter, PICTURES, QUICK, tmp_path)
    assert not (tmp_path / "prior").exists()
