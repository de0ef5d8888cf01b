"""unCLIP's diffusion prior: from a prompt to a CLIP image embedding (arXiv 2204.06125 section 2.2).

A causal transformer reads the token states of the prompt, the text embedding, the time, the noisy image
embedding and a learned query token. The output at the query is the clean image embedding.
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
    """How image embeddings are sampled.

    steps: number of sampling steps.
    guidance: the scale of classifier-free guidance.
    limit: the largest absolute value in a normalised embedding.
    draws: how many embeddings to sample; the best one is used.

    Raises:
        ValueError: a value has another type or is out of range.
    """

    steps: int = 25
    guidance: float = 4.0
    limit: PositiveFloat = 5.0
    draws: PositiveInt = 2


@dataclass(frozen=True, eq=False)
class Prior:
    """Samples image embeddings for a prompt. It is also a `guidance.Network` of normalised embeddings.

    network: its `clip_mean` and `clip_std` [1 d] are statistics of image embeddings, for normalisation.
    schedule: the noise levels of the network.
    options: how embeddings are sampled.

    A conditioning has tokens [n l+1 d], which are l token states and then the text embedding, and their mask.

    Raises:
        BadWeights: a standard deviation is not positive, or there are fewer than two steps.
    """

    network: PriorTransformer
    schedule: Schedule
    options: PriorOptions = field(default_factory=PriorOptions)

    def __post_init__(self) -> None:
        self.network.clip_mean.requires_grad_(False)  # statistics of the data are not trained
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
        """The width of an embedding, d."""
        return int(self.network.clip_std.shape[1])

    @property
    def length(self) -> int:
        """The number of text tokens that the network reads, l."""
        return int(self.network.config.num_embeddings)

    def normalise(self, z: Tensor) -> Tensor:
        """Embeddings [... d] scaled to mean 0 and standard deviation 1 over the data."""
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
        """Yields the estimate of the embeddings [n draws d] after each of `options.steps` steps.

        The sampler is DDPM with "linspace" spacing of times.

        cond: for n pictures or for one.

        Raises:
            NotFinite: the output of the network is NaN or infinite.
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
    """For each picture the sampled embedding [n d] with the largest dot product with the text embedding.

    As in arXiv 2204.06125 section 2.2. Of equal ones the first is taken.

    drawn: the sampled embeddings [n k d].
    text: the text embeddings [n d].
    """
    chosen = torch.einsum("nkd,nd->nk", drawn, text).argmax(dim=1)
    return drawn[torch.arange(len(drawn), device=drawn.device), chosen]


@torch.no_grad()
def measure(network: PriorTransformer, embeddings: Tensor) -> None:
    """Set `clip_mean` and `clip_std` from the embeddings [n d] of a data set."""
    network.clip_mean.copy_(embeddings.mean(dim=0))
    network.clip_std.copy_(embeddings.std(dim=0))
