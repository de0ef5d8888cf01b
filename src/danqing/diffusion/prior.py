"""unCLIP's diffusion prior: from words to the CLIP embedding of a picture (arXiv 2204.06125 section 2.2).

A causal transformer reads the words' token states, their embedding, the time, the noisy embedding and a
learned query, at which it answers with the embedding itself, without its noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from diffusers import PriorTransformer
from pydantic import ConfigDict, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from danqing.core.errors import BadWeights, NotFinite
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.guidance import Guidance, guide
from danqing.diffusion.samplers import SAMPLERS, run_sampler
from danqing.diffusion.schedule import Level, Schedule
from danqing.nets.placement import as_input, to_float32


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class PriorOptions:
    """How embeddings are drawn.

    steps: of sampling.
    guidance: the scale of classifier-free guidance.
    limit: the largest absolute number in a normalised embedding.
    draws: how many embeddings to choose from.

    Raises:
        ValueError: a value of another type or out of its range.
    """

    steps: int = 25
    guidance: float = 4.0
    limit: PositiveFloat = 5.0
    draws: PositiveInt = 2


@dataclass(frozen=True, eq=False)
class Prior:
    """Draws image embeddings for a prompt; as itself a `guidance.Network` of normalised embeddings.

    network: its `clip_mean` and `clip_std` [1 d] are those of image embeddings; they normalise them.
    schedule: of the network.
    options: how embeddings are drawn.

    A conditioning has tokens [n l+1 d], the text embedding after the states of its l tokens, and their mask.

    Raises:
        BadWeights: a deviation that is not positive, or fewer than two steps.
    """

    network: PriorTransformer
    schedule: Schedule
    options: PriorOptions = field(default_factory=PriorOptions)

    def __post_init__(self) -> None:
        self.network.clip_mean.requires_grad_(False)  # facts about the data, not to be learned
        self.network.clip_std.requires_grad_(False)
        flat = int((self.network.clip_std <= 0).sum())
        if flat:
            raise BadWeights(
                f"prior: clip_std is 0 or less in {flat} of {self.width} numbers, so embeddings cannot be "
                "normalised: set it from the data with `measure`"
            )
        if self.options.steps < 2:
            raise BadWeights(f"prior: {self.options.steps} steps are too few to walk: use 2 or more")

    @property
    def width(self) -> int:
        """Numbers in an embedding, d."""
        return int(self.network.clip_std.shape[1])

    @property
    def length(self) -> int:
        """Tokens of words that the network reads, l."""
        return int(self.network.config.num_embeddings)

    def normalise(self, z: Tensor) -> Tensor:
        """Embeddings [... d] with mean 0 and deviation 1 over the data."""
        normal: Tensor = (z - self.network.clip_mean[0]) / self.network.clip_std[0]
        return normal

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        embeddings: Tensor = z * self.network.clip_std[0] + self.network.clip_mean[0]
        return embeddings

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Noisy normalised embeddings -> clean ones, both [n k d].

        x: k embeddings for each of n rows of `cond`.
        t: times [n].
        cond: for n pictures.
        """
        n, k, width = x.shape
        mask = torch.ones_like(cond.tokens[..., 0], dtype=torch.bool) if cond.mask is None else cond.mask
        states, attention_mask, text, times = (
            each.repeat_interleave(k, dim=0)
            for each in (cond.tokens[:, :-1], mask[:, :-1], cond.tokens[:, -1], t)
        )
        flat = x.reshape(n * k, width)
        flat, text, states = (as_input(self.network, each) for each in (flat, text, states))
        z: Tensor = self.network(flat, times, text, states, attention_mask, return_dict=False)[0]
        return to_float32(z).view(n, k, width)

    def sample(self, cond: Conditioning, seeds: Seeds) -> Iterator[Tensor]:
        """Embeddings [n draws d] as they become clear, one for each of `options.steps`.

        cond: for n pictures or for one.

        The sampler is DDPM's, on evenly spaced times with both ends.

        Raises:
            NotFinite: the network gave NaN or infinite values.
        """
        options, conditioning = self.options, cond.expand(len(seeds))
        levels = self.schedule.levels(options.steps, "linspace", set_alpha_to_one=True)
        output = guide(self, conditioning, Guidance(options.guidance))

        @torch.no_grad()
        def denoise(x: Tensor, level: Level) -> Tensor:
            return output(x, level).clamp(-options.limit, options.limit)

        noise = seeds.normal(options.draws, self.width).to(cond.tokens)
        for step, (_, x0) in enumerate(
            run_sampler(SAMPLERS["ddpm"].sample(noise, levels, seeds), denoise), 1
        ):
            if not x0.isfinite().all():
                raise NotFinite(
                    f"step {step} of {options.steps} of the prior gave NaN or infinite values: "
                    "check the weights"
                )
            yield self.denormalise(x0)


def best(drawn: Tensor, text: Tensor) -> Tensor:
    """The embedding [n d] of each picture that is nearest to the text embedding, by dot product.

    drawn: [n k d].
    text: [n d].

    ArXiv 2204.06125 section 2.2. The first of equals is taken.
    """
    chosen = torch.einsum("nkd,nd->nk", drawn, text).argmax(dim=1)
    return drawn[torch.arange(len(drawn), device=drawn.device), chosen]


@torch.no_grad()
def measure(network: PriorTransformer, embeddings: Tensor) -> None:
    """Set `clip_mean` and `clip_std` from the embeddings [n d] of a data set."""
    network.clip_mean.copy_(embeddings.mean(dim=0))
    network.clip_std.copy_(embeddings.std(dim=0))
