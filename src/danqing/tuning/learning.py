"""Learns a subject from a few pictures: one function, three methods, one trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from danqing.core.errors import BadBrief, BadData
from danqing.core.files import atomic_write
from danqing.core.needs import check_room
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.core.registry import Registry
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.clip import ClipScorer
from danqing.training.trainer import Trainer, TrainOptions
from danqing.tuning.adapter import Adapter, attach, fingerprint
from danqing.tuning.adapter_files import read_adapter
from danqing.tuning.dreambooth import (
    LossOptions,
    Shots,
    SubjectObjective,
    encode_pictures,
    freeze_networks,
    prior_file,
    prior_latents,
)
from danqing.tuning.learning_needs import learning_needs
from danqing.tuning.lora import ATTENTION, RESNETS, TEXT, learning_rate_share, new_factors
from danqing.tuning.monitor import Monitor
from danqing.tuning.rare_token import rare_token
from danqing.tuning.subject_run import PICTURES, LearnOptions, SubjectRun
from danqing.tuning.textual_inversion import first_vectors, text_encoder
from danqing.weights.tensor_files import read_tensors


@dataclass(frozen=True)
class Method:
    """How a subject is learned.

    begin: makes the untrained adapter.
    lr: the learning rate for the shipped painter, which is multiplied by `learning_rate_share`.
    prior: whether the loss has a prior term.
    """

    begin: Callable[[DiffusionPainter, LearnOptions], Adapter]
    lr: float
    prior: bool


METHODS: Registry[Method] = Registry("method", BadBrief)


def _dreambooth(painter: DiffusionPainter, options: LearnOptions) -> Adapter:
    """Low-rank changes; the subject is called by a rare token before its class: "wth cat"."""
    endings = {
        "unet": ATTENTION + (RESNETS if options.convs else ()),
        "text_encoder": TEXT if options.text else (),
    }
    avoid = (*options.avoid, options.kind, *painter.card.styles.values(), *options.sentences)
    token = rare_token(text_encoder(painter).tokenizer, avoid)
    factors = new_factors(painter.modules, endings, options.rank, options.seed)
    return Adapter(options.name, factors=factors, trigger=f"{token} {options.kind}")


def _textual_inversion(painter: DiffusionPainter, options: LearnOptions) -> Adapter:
    """A new word `<name>`, initialised from the class."""
    word = f"<{options.name}>"
    vectors = first_vectors(painter, options.kind, options.vectors)
    return Adapter(options.name, words={word: vectors}, trigger=word)


def _both(painter: DiffusionPainter, options: LearnOptions) -> Adapter:
    """A new word, and low-rank changes."""
    word, changes = _textual_inversion(painter, options), _dreambooth(painter, options)
    return Adapter(options.name, factors=changes.factors, words=word.words, trigger=word.trigger)


METHODS.register("dreambooth")(Method(_dreambooth, lr=3e-3, prior=True))
METHODS.register("textual-inversion")(Method(_textual_inversion, lr=5e-3, prior=False))
METHODS.register("both")(Method(_both, lr=3e-3, prior=True))


def learn(
    painter: DiffusionPainter,
    pictures: Tensor,
    options: LearnOptions,
    run: Path,
    clip: ClipScorer | None = None,
    progress: ProgressCallback = no_progress,
) -> Adapter:
    """Learn a subject from pictures [n c h w] in [-1, 1] (see `dreambooth.subject_pictures`).

    After the call, even after an exception, the painter is bit-identical to before.

    run: a folder for checkpoints, sample sheets and logs; a second call resumes there, bit-equal.
    clip: scores the sample sheets (`monitor.Monitor`).
    progress: an exception that it raises stops the training.

    Raises:
        BadBrief: the method is unknown, or there is no rare token.
        BadData: there are fewer than two pictures, or the run folder holds another subject.
        NotFinite: a loss is NaN or infinite; the last good checkpoint stays.
    """
    if len(pictures) < 2:
        raise BadData(f"{len(pictures)} pictures are too few to learn a subject: give 2 or more, best 4")
    if options.keep_best and clip is None:
        raise BadBrief("keep_best needs a CLIP to tell what is best: give one, or leave keep_best out")
    method = METHODS[options.method]
    options = _claim(SubjectRun(run), painter, pictures, options)
    begun = method.begin(painter, options)
    subject = Shots(encode_pictures(painter, pictures, options.mirror), _sentences(options, begun.trigger))
    probes, plain = (_probes(painter, thing) for thing in (begun.trigger, options.kind))
    with_prior = method.prior and options.prior_weight > 0
    _say_needs(painter, begun, subject, options, run, len(probes), with_prior, progress)
    prior = _prior(painter, options, run, progress) if with_prior else None
    with freeze_networks(painter), attach(painter, {begun: 1.0}):
        loss = LossOptions(options.prior_weight, options.gamma)
        objective = SubjectObjective(painter, begun, subject, prior, probes, loss)
        monitor = None if clip is None else Monitor(objective, clip, pictures, plain, run)
        lr = options.lr or method.lr * learning_rate_share(begun.factors)
        Trainer(objective, _pace(options, lr, str(painter.device)), run).train(progress, monitor)
    if options.keep_best and monitor is not None and monitor.best.is_file():
        return _with_description(read_adapter(monitor.best), painter, options)
    return _with_description(begun.cpu_copy(), painter, options)


def _with_description(adapter: Adapter, painter: DiffusionPainter, options: LearnOptions) -> Adapter:
    shapes = fingerprint(painter.modules)
    return replace(adapter, kind=options.kind, base=painter.card.name, shapes=shapes)


def _pace(options: LearnOptions, lr: float, device: str) -> TrainOptions:
    """The trainer's options. There is no EMA: over so few steps it would only lag behind."""
    return TrainOptions(
        steps=options.steps,
        further=options.further,
        says_needs=False,
        device=device,
        batch=options.batch,
        lr=lr,
        warmup=min(20, options.steps // 10),
        weight_decay=0.0,
        ema=0.0,
        precision=options.precision,
        seed=options.seed,
        save_every=50,
        sheet_every=options.look_every,
        log_every=10,
    )


def _prior(painter: DiffusionPainter, options: LearnOptions, run: Path, progress: ProgressCallback) -> Shots:
    words = _sentences(options, options.kind)
    return Shots(
        prior_latents(painter, words[0], options.prior_count, options.seed, run / "prior", progress), words
    )


def _sentences(options: LearnOptions, thing: str) -> tuple[str, ...]:
    return tuple(sentence.format(thing) for sentence in options.sentences)


def _probes(painter: DiffusionPainter, thing: str) -> list[str]:
    """The captions of the sample sheet: the subject, and the subject in up to three styles of the card."""
    styles = [words.split("/")[0].strip() for words in list(painter.card.styles.values())[:3]]
    return [f"a {thing}", *(f"a {thing}, {style} style" for style in styles)]


def _claim(
    run: SubjectRun, painter: DiffusionPainter, pictures: Tensor, options: LearnOptions
) -> LearnOptions:
    """Record in the run folder what is learned there, and store the pictures.

    Raises:
        BadData: the folder holds another subject.
    """
    digest = hashlib.sha256(pictures.contiguous().numpy().tobytes()).hexdigest()[:16]
    model = f"{painter.card.name} {fingerprint(painter.modules, values=True)}"
    options = run.claim(options, model, digest)
    file = run.folder / PICTURES
    if not file.is_file():
        with atomic_write(file) as draft:
            save_file({"pictures": pictures.contiguous()}, draft)
    return options


def kept_pictures(run: SubjectRun) -> Tensor:
    """The pictures [n c h w] that a subject is learned from in a run folder.

    Raises:
        BadWeights: the file is missing or damaged.
    """
    return read_tensors(run.folder / PICTURES)["pictures"]


def _say_needs(
    painter: DiffusionPainter,
    begun: Adapter,
    subject: Shots,
    options: LearnOptions,
    run: Path,
    probes: int,
    with_prior: bool,
    progress: ProgressCallback,
) -> None:
    """Report what the remaining steps need, and check that the disk has room for them.

    Raises:
        DanqingError: the disk is full.
    """
    done = SubjectRun(run).steps_done()
    if done >= options.last:
        return
    words = _sentences(options, options.kind)[0]
    to_paint = not prior_file(painter, words, options.prior_count, options.seed, run / "prior").is_file()
    prior = to_paint if with_prior else None
    needs = learning_needs(painter, begun, subject, options, probes, done=done, prior=prior)
    check_room(run, needs.disk)
    progress(Progress(note=f"learning needs {needs}"))
