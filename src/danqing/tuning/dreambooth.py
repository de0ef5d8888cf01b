"""Learns a subject from a few pictures while preserving what the model has learned before.

Papers: DreamBooth, Ruiz et al., arXiv 2208.12242; with low-rank changes, LoRA, arXiv 2106.09685. The same
loss without its second term learns embeddings (textual inversion, Gal et al., arXiv 2208.01618 eq. 2).
Differences from DreamBooth: min-SNR weights, if any, apply to both terms; times are stratified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from danqing.core.brief import Brief
from danqing.core.errors import BadData
from danqing.core.files import atomic_write
from danqing.core.images import from_pil
from danqing.core.painter import Conditioning
from danqing.core.progress import Progress, ProgressCallback, no_progress
from danqing.core.seeds import Seeds
from danqing.diffusion.loss import denoising_error, stratified_times
from danqing.diffusion.painter import DiffusionPainter
from danqing.training.diffusion import paint_pixels
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of
from danqing.tuning.adapter import Adapter, fingerprint
from danqing.tuning.adapter_files import write_adapter
from danqing.tuning.textual_inversion import text_encoder
from danqing.weights.tensor_files import read_tensors

AT_ONCE = 8  # number of prior pictures painted in one batch


@dataclass(frozen=True)
class Shots:
    """Training pictures with captions.

    latents: [n c h w].
    prompts: captions that each fit all of the pictures.
    """

    latents: Tensor
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class LossOptions:
    """Weights of the loss.

    prior_weight: the paper's lambda.
    gamma: the cap of the min-SNR weight (arXiv 2303.09556); None for no weight.
    """

    prior_weight: float = 1.0
    gamma: float | None = None


class SubjectObjective(Objective):
    """Trains the factors and embeddings of an adapter that is attached to the painter, and nothing else.

    DreamBooth eq. 2: the error on the subject, plus lambda times the error on pictures of the same class that
    the painter made before, in one batch. Without `prior`, or with lambda 0, there is only the first term.
    Token states are computed once, unless the adapter changes them. `painted` are the pictures of the last
    sample sheet, one for each of `probes`.
    """

    row_wise = False  # its loss couples the rows of a batch

    def __init__(
        self,
        painter: DiffusionPainter,
        adapter: Adapter,
        subject: Shots,
        prior: Shots | None,
        probes: Sequence[str],
        options: LossOptions,
    ) -> None:
        super().__init__()
        self.painter, self.adapter, self.options = painter, adapter, options
        self.learned = nn.ParameterList(adapter.tensors())
        self.painted = torch.empty(0)
        self._probes = tuple(probes)
        self._shots = [subject] + ([prior] if prior is not None and options.prior_weight > 0 else [])
        self._ids = self._tokenise([sentence for shots in self._shots for sentence in shots.prompts])
        changes_text = bool(adapter.words) or any(name.startswith("text") for name in adapter.factors)
        with torch.no_grad():
            self._states = None if changes_text else text_encoder(painter).states(self._ids)

    def batch(self, size: int, rng: Generator) -> Batch:
        """`size` pictures of the subject, then as many of its class, each with caption, time and noise."""
        parts, before = [], 0
        for shots in self._shots:
            parts.append(self._draw(shots, before, size, rng))
            before += len(shots.prompts)
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    def _draw(self, shots: Shots, before: int, size: int, rng: Generator) -> Batch:
        """A part of a batch from `shots`, whose captions are numbered from `before` on."""
        latents = shots.latents[torch.randint(len(shots.latents), (size,), generator=rng)]
        prompts = torch.randint(len(shots.prompts), (size,), generator=rng) + before
        times = stratified_times(size, len(self.painter.schedule), rng)
        noise = torch.randn(latents.shape, generator=rng)
        return {"latents": latents, "prompt": prompts, "t": times, "noise": noise}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses: `subject` and, if there is a prior, `prior` are the two terms."""
        here = {key: value.to(self._ids.device) for key, value in batch.items()}
        states = text_encoder(self.painter).states(self._ids) if self._states is None else self._states
        words = Conditioning(states[here["prompt"]])
        error = denoising_error(
            self.painter, here["latents"], words, here["t"], here["noise"], self.options.gamma
        )
        terms = [term.mean() for term in error.chunk(len(self._shots))]
        if len(terms) == 1:
            return {"loss": terms[0]}
        loss = terms[0] + self.options.prior_weight * terms[1]
        return {"loss": loss, "subject": terms[0], "prior": terms[1]}

    def sheet(self) -> Image.Image:
        """Pictures of the probes by the painter with its present weights, always with the same seeds."""
        pictures = [paint_pixels(self.painter, probe, Seeds([k])) for k, probe in enumerate(self._probes)]
        self.painted = torch.cat(pictures)
        return sheet_of(self.painted, columns=4)

    def export(self, folder: Path) -> None:
        """Write the adapter with its present weights."""
        write_adapter(self.adapter.cpu_copy(), folder / f"{self.adapter.name}.safetensors")

    def _tokenise(self, sentences: list[str]) -> Tensor:
        text = text_encoder(self.painter)
        ids: Tensor = text.tokenizer(
            sentences, padding="max_length", truncation=True, max_length=text.max_length, return_tensors="pt"
        ).input_ids
        return ids.to(text.model.device)


@contextmanager
def freeze_networks(painter: DiffusionPainter) -> Iterator[None]:
    """A context in which no weight of the painter requires gradients."""
    weights = [weight for module in painter.modules.values() for weight in module.parameters()]
    required = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, require in zip(weights, required, strict=True):
            weight.requires_grad_(require)


def subject_pictures(images: Sequence[Image.Image], painter: DiffusionPainter) -> Tensor:
    """Pictures [n 4 h w] in [-1, 1] at the painter's native size, rotated as their EXIF data says.

    A picture with transparency is padded to the native shape with transparent pixels; others are cropped to
    it.

    Raises:
        BadData: fewer than two different pictures.
    """
    height, width = painter.card.height, painter.card.width
    pictures = torch.stack([_resize(from_pil(image), height, width) for image in images] or [torch.empty(0)])
    different = len(torch.unique(pictures.flatten(1), dim=0)) if images else 0
    if different < 2:
        raise BadData(
            f"{different} different pictures are too few to learn a subject: give 2 or more, best 4"
        )
    return pictures


def _resize(picture: Tensor, height: int, width: int) -> Tensor:
    """Resize a picture [4 h w] and crop its middle, [4 height width]."""
    h, w = picture.shape[1:]
    clear = bool((picture[3] < 1).any())
    scale = (min if clear else max)(height / h, width / w)
    sides = max(1, round(h * scale)), max(1, round(w * scale))
    scaled = F.interpolate(picture[None], sides, mode="bilinear", antialias=True)[0]
    top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
    around = (left, width - sides[1] - left, top, height - sides[0] - top)  # negative padding crops
    colour, alpha = (
        F.pad(scaled[:3], around, value=1.0),
        F.pad(scaled[3:], around, value=-1.0 if clear else 1),
    )
    return torch.cat([colour, alpha])


def encode_pictures(painter: DiffusionPainter, pictures: Tensor, mirror: bool) -> Tensor:
    """Latents of pictures [n c h w], followed by those of their mirror images if `mirror`."""
    views = torch.cat([pictures, pictures.flip(-1)]) if mirror else pictures
    return torch.cat([painter.vae.encode(part) for part in torch.split(views, AT_ONCE)])


def prior_latents(
    painter: DiffusionPainter,
    words: str,
    count: int,
    seed: int,
    folder: Path,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """Latents [count c h w] of pictures that the painter paints for the prompt `words`; cached in `folder`.

    The file's name depends on the painter's weights, the prompt and all settings: if any of them changes, the
    pictures are painted again.

    Raises:
        NotFinite: the latents are NaN or infinite.
    """
    path = prior_file(painter, words, count, seed, folder)
    if path.is_file():
        return read_tensors(path)["latents"]
    brief = Brief.of(words, seed=seed, native=True).resolve(painter.card)
    conditioning, done = painter.condition(brief), []
    for first in range(seed, seed + count, AT_ONCE):
        seeds = Seeds.of(first, min(AT_ONCE, seed + count - first))
        *_, last = painter.steps(brief, conditioning, painter.begin(brief, conditioning, seeds))
        done.append(last.state.cpu())
        number = first - seed + len(seeds)
        line = f"painting {words!r} to remember it by: {number}/{count}"
        progress(Progress(number, count, line))
    latents = torch.cat(done)
    with atomic_write(path) as draft:
        save_file({"latents": latents}, draft)
    return latents


def prior_file(painter: DiffusionPainter, words: str, count: int, seed: int, folder: Path) -> Path:
    """The file in which `prior_latents` caches its result."""
    brief = Brief.of(words, seed=seed, native=True).resolve(painter.card)
    required = (
        f"{painter.card.name} {fingerprint(painter.modules, values=True)} {brief.model_dump_json()} {count}"
    )
    return folder / f"{hashlib.sha256(required.encode()).hexdigest()[:16]}.safetensors"
