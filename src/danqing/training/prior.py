"""Training unCLIP's prior: the squared error of the clean embedding (arXiv 2204.06125 section 2.2)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PriorTransformer
from PIL import Image
from torch import Generator, Tensor

from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.data.dataset import CaptionedImages, to_unit
from danqing.diffusion.loss import stratified_times
from danqing.diffusion.prior import Prior, best, measure
from danqing.diffusion.schedule import Schedule
from danqing.families.dalle2.clip_space import Space
from danqing.training.diffusion import Captions, DiffusionOptions
from danqing.training.objective import Batch, Objective
from danqing.training.sheets import sheet_of


class PriorObjective(Objective):
    """Trains `network` in the space of a frozen CLIP, and sets its mean and deviation from the data.

    The CLIP embeddings of the pictures and of their mirror images are computed once.
    """

    def __init__(
        self,
        network: PriorTransformer,
        schedule: Schedule,
        space: Space,
        train_set: CaptionedImages,
        unseen: CaptionedImages,
        options: DiffusionOptions,
    ) -> None:
        super().__init__()
        self._views = clip_embeddings(space, train_set)
        measure(network, self._views.flatten(0, 1))
        self.network = network
        self._prior = Prior(network, schedule)
        self._space, self._captions = space, Captions(space.text, train_set, options)
        self._train_set, self._unseen = train_set, unseen

    def place(self, device: torch.device) -> None:
        """Move the network and the frozen CLIP."""
        super().place(device)
        self._space.place(device)

    def batch(self, size: int, rng: Generator) -> Batch:
        """Embeddings [n d], the token ids of a caption for each, times and noise."""
        picks = torch.randint(len(self._train_set), (size,), generator=rng)
        views = torch.randint(len(self._views), (size,), generator=rng)
        z = self._views[views, picks]
        token_ids = self._captions.draw(picks, z, rng)
        times = stratified_times(size, len(self._prior.schedule), rng)
        noise = torch.randn(z.shape, generator=rng)
        return {"z": z, **token_ids, "t": times, "noise": noise}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The squared error of the normalised embeddings."""
        z = self._prior.normalise(batch["z"])
        alpha, sigma = (part[:, None] for part in self._prior.schedule.at(batch["t"]))
        noisy = (alpha * z + sigma * batch["noise"])[:, None]
        x0 = self._prior(noisy, batch["t"], self._space.encode_ids(batch["ids"]))[:, 0]
        return {"loss": (x0.float() - z).square().mean()}

    @torch.no_grad()
    def agreement(self, count: int = 100) -> float:
        """The mean cosine of embeddings sampled for held-out captions and those of their true pictures.

        At least one picture must be held out.
        """
        rows = self._unseen.rows[:count]
        truth = self._space.image_embedding(to_unit(self._unseen.pictures[: len(rows)]))
        return float(F.cosine_similarity(self._draw([row["text"] for row in rows]), truth).mean())

    @torch.no_grad()
    def sheet(self) -> Image.Image:
        """For eight held-out captions: the four training pictures nearest to an embedding sampled for each.

        If none are held out, eight training captions are used.
        """
        probes = self._unseen if len(self._unseen) else self._train_set
        rows = probes.rows[:8]
        drawn = F.normalize(self._draw([row["text"] for row in rows]), dim=1)
        near = (drawn @ F.normalize(self._views[0], dim=1).T).topk(min(4, len(self._train_set))).indices
        pictures = torch.cat([probes.pictures[: len(rows), None], self._train_set.pictures[near]], dim=1)
        return sheet_of(to_unit(pictures.flatten(0, 1)), columns=pictures.shape[1])

    def export(self, folder: Path) -> None:
        """Write the transformer as a diffusers component."""
        self.network.save_pretrained(folder)

    def _draw(self, texts: list[str]) -> Tensor:
        encoded = self._space.encode_texts([*texts, ""])
        assert encoded.mask is not None
        nothing = Conditioning(encoded.tokens[-1:], encoded.mask[-1:]).expand(len(texts))
        words = Conditioning(encoded.tokens[:-1], encoded.mask[:-1], negative=nothing)
        *_, drawn = self._prior.sample(words, Seeds.of(0, len(texts)))
        return best(drawn, words.tokens[:, -1])


def clip_embeddings(space: Space, pictures: CaptionedImages) -> Tensor:
    """The embeddings of all pictures and of their mirror images, [2 n d]."""
    both = (pictures.pictures, pictures.pictures.flip(-1))
    return torch.stack(
        [torch.cat([space.image_embedding(to_unit(part)) for part in torch.split(view, 64)]) for view in both]
    )
