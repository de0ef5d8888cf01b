"""Initial weights of a discrete VAE in which every token is in use.

From random weights a discrete VAE of mostly white pictures collapses within a hundred steps: a few
tokens take all positions, and the others never get a gradient. So training starts from k-means of the
pictures' patches, written into the layers: each token is the centre of a cluster of distinct patches, one of
them white.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Generator, Tensor, nn

from danqing.nets.discrete_vae import DiscreteVAE, map_pixels

_PATCHES = 40_000  # most patches to cluster
_ROUNDS = 12
# about the slope of a sigmoid between 0.1 and 0.9: converts errors of pixels into errors of logits
_SLOPE = 0.2
_SURE = 0.8  # mean probability of the likeliest token at the start


@torch.no_grad()
def codebook_start(vae: DiscreteVAE, pixels: Tensor) -> DiscreteVAE:
    """Weights with which `vae` computes vector quantisation of the patches of `pixels` [n c h w] in [-1, 1].

    Residual branches start at zero. The straight path maps a patch to its principal components, each as its
    positive and its negative part, which the last ReLU does not change, and then to the similarity to each
    cluster centre.

    Raises:
        ValueError: the network pools, or its layers are too narrow for both parts.
    """
    config = vae.config
    if config.groups != 1 or config.start != config.hidden or config.hidden % 2:
        raise ValueError("only a network of one group, with start = hidden, even, can begin as k-means")
    for block in vae.blocks():
        nn.init.zeros_(block.last.weight)
    patches = F.pixel_unshuffle(map_pixels(pixels), config.patch).movedim(1, -1).flatten(0, 2)
    rng = Generator().manual_seed(0)
    picked = patches[torch.randperm(len(patches), generator=rng)[:_PATCHES]]
    mean = picked.mean(dim=0)
    axes = _principal(picked - mean, config.hidden // 2)
    places = (picked - mean) @ axes
    clusters = means(places, config.vocab, rng)
    _write_encoder(vae, axes, mean, clusters, sharpness(places, clusters))
    middles = mean + clusters @ axes.T
    missed = (middles[similarity_to_means(places, clusters).argmax(dim=1)] - picked).abs().mean()
    _write_decoder(vae, middles, missed / _SLOPE)
    return vae


def means(points: Tensor, count: int, rng: Generator) -> Tensor:
    """Cluster centres [count d] of the distinct ones among `points` [n d] (Lloyd's k-means).

    Equal points count once, so that a white background gets only one cluster.
    """
    grain = points.std() / 20
    distinct: Tensor = torch.unique((points / grain).round(), dim=0) * grain
    middles: Tensor = distinct[torch.randperm(len(distinct), generator=rng)[:count]]
    # fewer distinct patches than tokens: the remaining centres start near the others
    if len(middles) < count:
        again = middles[torch.randint(len(middles), (count - len(middles),), generator=rng)]
        middles = torch.cat([middles, again + grain * torch.randn(again.shape, generator=rng)])
    for _ in range(_ROUNDS):
        nearest = similarity_to_means(distinct, middles).argmax(dim=1)
        sizes = torch.bincount(nearest, minlength=count)[:, None]
        sums = torch.zeros_like(middles).index_add_(0, nearest, distinct)
        middles = torch.where(sizes > 0, sums / sizes.clamp(min=1), middles)
    return middles


def similarity_to_means(points: Tensor, middles: Tensor) -> Tensor:
    """The similarity x . c - |c|^2 / 2, largest for the nearest centre: [n d], [k d] -> [n k]."""
    return points @ middles.T - middles.square().sum(dim=1) / 2


def sharpness(points: Tensor, middles: Tensor) -> float:
    """The factor of the similarities that gives the likeliest token a mean probability of `_SURE`."""
    near = similarity_to_means(points[:2000], middles)
    low, high = 1e-3, 1e6
    for _ in range(50):
        factor = (low * high) ** 0.5
        too_soft = (near * factor).softmax(dim=1).amax(dim=1).mean() < _SURE
        low, high = (factor, high) if too_soft else (low, factor)
    return low


def _principal(centred: Tensor, count: int) -> Tensor:
    """The first principal components [d count] of centred points [n d]; zeros where d < count."""
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axes = vectors.flip(1)[:, :count]
    return torch.cat([axes, torch.zeros(len(axes), count - axes.shape[1])], dim=1)


def _write_encoder(vae: DiscreteVAE, axes: Tensor, mean: Tensor, clusters: Tensor, factor: float) -> None:
    first, last = vae.encoder.ends
    middle = first.kernel_size[0] // 2
    nn.init.zeros_(first.weight)
    first.weight[:, :, middle, middle] = torch.cat([axes.T, -axes.T])
    _bias(first).copy_(-first.weight[:, :, middle, middle] @ mean)
    last.weight.copy_(factor * torch.cat([clusters, -clusters], dim=1)[:, :, None, None])
    _bias(last).copy_(-factor * clusters.square().sum(dim=1) / 2)


def _write_decoder(vae: DiscreteVAE, patches: Tensor, missed: Tensor) -> None:
    """Make each token [vocab d] decode to its patch, in [0.1, 0.9], with scale b = `missed`.

    The layers hold the principal components of the patches' logits as positive and negative parts, as in the
    encoder.
    """
    first, last = vae.decoder.ends
    logits = torch.logit(patches.clamp(map_pixels(torch.tensor(-1.0)), map_pixels(torch.tensor(1.0))))
    mean = logits.mean(dim=0)
    axes = _principal(logits - mean, vae.config.hidden // 2)
    places = (logits - mean) @ axes
    first.weight.copy_(torch.cat([places, -places], dim=1).T[:, :, None, None])
    nn.init.zeros_(_bias(first))
    half = logits.shape[1]  # the shuffled output has the means of all channels first, then their scales
    nn.init.zeros_(last.weight)
    last.weight[:half, :, 0, 0] = torch.cat([axes, -axes], dim=1)
    _bias(last)[:half] = mean
    _bias(last)[half:] = missed.log()


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
