"""The prediction types of a network. With x = alpha x_0 + sigma noise, each can be computed from the others.

    epsilon        noise                     DDPM, arXiv 2006.11239 eq. 14
    v_prediction   alpha noise - sigma x_0   progressive distillation, arXiv 2202.00512 appendix D
    sample         x_0                       arXiv 2202.00512 section 4

Alpha and sigma are python floats, or tensors that broadcast over [n c h w], with alpha^2 + sigma^2 = 1.
"""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor

from danqing.core.errors import BadWeights, unknown

Scalar = float | Tensor


class Prediction(StrEnum):
    """The `prediction_type` of a diffusers config: `Prediction("v_prediction")`."""

    EPSILON = "epsilon"
    V = "v_prediction"
    SAMPLE = "sample"

    @classmethod
    def _missing_(cls, value: object) -> Prediction:
        raise BadWeights(unknown("prediction_type", str(value), (member.value for member in cls)))

    def x0(self, x: Tensor, output: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """The estimate of x_0 [n c h w] from the noisy x and the network's output.

        Infinite for epsilon at alpha = 0, because pure noise has no information on x_0.
        """
        match self:
            case Prediction.EPSILON:
                return (x - sigma * output) / alpha  # 2006.11239 eq. 15
            case Prediction.V:
                return alpha * x - sigma * output  # 2202.00512 appendix D
            case Prediction.SAMPLE:
                return output

    def noise(self, x: Tensor, output: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """The estimate of the noise [n c h w] from x and the output. Infinite for sample at sigma = 0."""
        match self:
            case Prediction.EPSILON:
                return output
            case Prediction.V:
                return sigma * x + alpha * output  # 2202.00512 appendix D
            case Prediction.SAMPLE:
                return (x - alpha * output) / sigma

    def target(self, x0: Tensor, noise: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """The training target for x = alpha x0 + sigma noise, [n c h w]."""
        match self:
            case Prediction.EPSILON:
                return noise
            case Prediction.V:
                return alpha * noise - sigma * x0
            case Prediction.SAMPLE:
                return x0

    def min_snr_weight(self, snr: Tensor, gamma: float = 5.0) -> Tensor:
        """The min-SNR weight of the squared error of this target (arXiv 2303.09556 section 3.4).

        It equals a weight min(snr, gamma) of the error in x_0. Finite at snr = alpha^2 / sigma^2 = 0: 1 for
        epsilon, 0 for the others.
        """
        match self:
            case Prediction.EPSILON:
                return gamma / snr.clamp(min=gamma)  # min(snr, gamma) / snr without 0 / 0
            case Prediction.V:
                return snr.clamp(max=gamma) / (snr + 1)
            case Prediction.SAMPLE:
                return snr.clamp(max=gamma)
