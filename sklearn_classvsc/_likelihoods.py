"""Room 2: what the decoder's output theta means: log p(x | z), and the mean of x.

A likelihood is two methods and, where it must learn something, a buffer. To add one: write the
class, and name it in `LIKELIHOODS`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .distributed import ALONE, Alone


class Likelihood(nn.Module):
    """p(x | theta), features independent given theta."""

    #: Whether the features are standardised before the encoder, and back after the decoder.
    standardize = False

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | theta) in nats, of shape (n,), for x and theta of shape (n, p)."""
        raise NotImplementedError

    def mean(self, theta: Tensor) -> Tensor:
        """Return E[x | theta], of shape (n, p)."""
        raise NotImplementedError

    def reconstruction(
        self, theta: Tensor, x: Tensor, weight: Tensor, processes: Alone = ALONE
    ) -> Tensor:
        """Return the loss term -E log p(x | z) of a batch, weighted by `weight` summing to 1.

        `processes` sum over the parts of the batch that each of them has.
        """
        return processes.total(-(weight @ self.log_prob(theta, x)))


class Bernoulli(Likelihood):
    """Features in [0, 1], theta their logits; fractions count as expected bits."""

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(theta, x, reduction="none").sum(1)

    def mean(self, theta: Tensor) -> Tensor:
        return torch.sigmoid(theta)


class Gaussian(Likelihood):
    """Standardised features, theta their means, one noise variance for all.

    In training the variance stands at its optimum for each batch, the mean squared error, so that
    no weight balances reconstruction against the code's divergences (Rybkin, Daniilidis, Levine:
    Simple and Effective VAE Training with Calibrated Decoders, ICML 2021). Its running mean is
    kept for log-probabilities.
    """

    standardize = True
    #: Smallest variance, as a fraction of a feature's: a reconstruction exact to 0.1 %.
    floor = 1e-6
    momentum = 0.05
    noise_variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise_variance", torch.ones(()))

    def log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        squares = ((x - theta) ** 2).sum(1)  # (n,)
        constant = x.shape[1] * torch.log(2 * math.pi * self.noise_variance)
        return -0.5 * (squares / self.noise_variance + constant)

    def mean(self, theta: Tensor) -> Tensor:
        return theta

    def reconstruction(
        self, theta: Tensor, x: Tensor, weight: Tensor, processes: Alone = ALONE
    ) -> Tensor:
        if not self.training:
            return super().reconstruction(theta, x, weight, processes)
        variance = processes.total(weight @ ((x - theta) ** 2).mean(1)) + self.floor
        self.noise_variance.lerp_(variance.detach(), self.momentum)
        return 0.5 * x.shape[1] * (torch.log(2 * math.pi * variance) + 1)


LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}
