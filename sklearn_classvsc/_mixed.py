"""Room 2: the likelihood of a table with several kinds of columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._blocks import Blocks
from ._likelihoods import LIKELIHOODS, TINY, Gaussian, Likelihood, log_ways

#: Largest logarithm of the mean of a count. Not far beyond it, float32 overflows.
LARGEST = 30.0


class Mixed(Likelihood):
    """Features of several kinds, independent given theta.

    Real features are as in `Gaussian`, but each has its own noise variance. Bits and fractions are
    as in `Bernoulli`. Counts are Poisson or negative binomial with mean exp(theta), without a
    library size.

    Parameters
    ----------
    n_features : int
        Number p of features.
    kinds : array-like of int of shape (n_features,)
        Kind of each feature, as an index into `KINDS`.
    """

    #: Likelihoods that a feature may have.
    KINDS = ("gaussian", "bernoulli", "poisson", "negative_binomial")
    standardize, sparse_blocks = True, False  # only real features are standardised
    floor, momentum = Gaussian.floor, Gaussian.momentum
    noise_variance: Tensor  # of the real features, (p,)
    is_real: Tensor  # (p,)
    is_bit: Tensor
    is_poisson: Tensor
    is_dispersed: Tensor

    def __init__(self, n_features: int, kinds: Any) -> None:
        super().__init__(n_features)
        self.register_buffer("noise_variance", torch.ones(n_features, dtype=torch.float32))
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_features, dtype=torch.float32))
        kinds = torch.tensor(
            np.asarray(kinds), device="cpu"
        )  # a copy, because arrays from a file are read-only
        for k, name in enumerate(("is_real", "is_bit", "is_poisson", "is_dispersed")):
            self.register_buffer(name, kinds == k, persistent=False)

    @property
    def is_count(self) -> Tensor:
        """Which features are counts, (p,)."""
        return self.is_poisson | self.is_dispersed

    def encoder_input(self, x: Tensor) -> Tensor:
        x = x.to_dense()
        x = torch.where(self.is_bit, 2 * x - 1, x)  # a missing bit becomes 0, halfway
        return torch.where(self.is_count, x.clamp_min(0).log1p(), x)

    def to_input_range(self, free: Tensor) -> Tensor:
        free = torch.where(self.is_bit, torch.tanh(free), free)
        return torch.where(self.is_count, F.softplus(free), free)

    def mean(self, theta: Tensor) -> Tensor:
        rates = torch.where(self.is_count, theta, 0).clamp_max(LARGEST).exp()
        return torch.where(
            self.is_bit, torch.sigmoid(theta), torch.where(self.is_count, rates, theta)
        )

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        variance = self.noise_variance[self.is_real]
        squares, seen, others = self._parts(theta, x)
        of_real = squares / variance + seen * torch.log(2 * math.pi * variance)
        return others - 0.5 * of_real.sum(1)

    def misfit(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        if not self.training:
            return super().misfit(theta, x, incomplete)
        squares, seen, others = self._parts(theta, x)
        return torch.cat([-others[:, None], squares, seen], 1)

    def reconstruction(self, misfit: Tensor, weight: Tensor) -> Tensor:
        if not self.training:
            return super().reconstruction(misfit, weight)
        others, variance, seen = self._means(misfit, weight)
        return others + 0.5 * (seen * (torch.log(2 * math.pi * variance) + 1)).sum()

    def running(self, misfit: Tensor, weight: Tensor) -> dict[str, Tensor]:
        _, variance, seen = self._means(misfit.detach(), weight)
        after, before = self.noise_variance.clone(), self.noise_variance[self.is_real]
        after[self.is_real] = torch.where(
            seen > 0, before.lerp(variance.to(before), self.momentum), before
        )
        return {"noise_variance": after}

    def _parts(self, theta: Tensor | Blocks, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return squared errors of the q real features, and log p of all other features.

        The squared errors, (n, q), come with an array of the same shape that is 1 where a value was
        observed. The log p are sums, (n,).
        """
        assert isinstance(theta, Tensor)
        x = x.to_dense()
        seen = ~x.isnan()
        x = x.nan_to_num(0)  # infinity was refused earlier
        squares = ((x - theta)[:, self.is_real] ** 2) * seen[:, self.is_real]
        log_p = torch.zeros_like(theta[:, 0])
        for chosen, of in (
            (self.is_bit, self._of_bits),
            (self.is_poisson, self._of_poisson),
            (self.is_dispersed, self._of_dispersed),
        ):
            if chosen.any():
                each = of(theta[:, chosen], x[:, chosen])
                log_p = log_p + (each * seen[:, chosen]).sum(1)
        return squares, seen[:, self.is_real].to(x.dtype), log_p

    def _means(self, misfit: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return -log p of all other features, and the best variances of the q real ones, (q,).

        The variances come with the observed fraction of the values of each real feature, (q,).
        """
        q = (misfit.shape[1] - 1) // 2
        others, squares, seen = (weight @ misfit).split([1, q, q])
        return others[0], squares / seen.clamp_min(TINY) + self.floor, seen

    def _of_bits(self, theta: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(theta, x.clamp(0, 1), reduction="none")

    def _of_poisson(self, theta: Tensor, x: Tensor) -> Tensor:
        x, theta = x.clamp_min(0), theta.clamp_max(LARGEST)
        return x * theta - theta.exp() - torch.lgamma(x + 1)

    def _of_dispersed(self, theta: Tensor, x: Tensor) -> Tensor:
        x, log_r = x.clamp_min(0), self.log_inverse_dispersion[self.is_dispersed].clamp(-10, 10)
        r, logits = log_r.exp(), theta.clamp_max(LARGEST) - log_r
        return log_ways(x, r) + x * F.logsigmoid(logits) + r * F.logsigmoid(-logits)


def likelihood_class(name: str) -> type[Likelihood]:
    """Return the class of the likelihood with this name, which may be "mixed"."""
    return Mixed if name == "mixed" else LIKELIHOODS[name]
