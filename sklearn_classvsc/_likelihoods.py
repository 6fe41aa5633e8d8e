"""Room 2: what the decoder's output theta means: log p(x | z), and the mean of x.

A likelihood is two methods and, where it must learn something, a buffer or a parameter. To add
one: write the class, and name it in `LIKELIHOODS`.

For sparse x of many features theta comes in `Blocks`, and a log-probability is written as a sum
over all features that does not depend on x, plus one over the values of x. Theta also comes in
blocks for large batches of dense x, if the likelihood sets `dense_blocks`: its log-probability must
be a sum over features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._blocks import Blocks, row_sums


class Likelihood(nn.Module):
    """p(x | theta).

    Parameters
    ----------
    n_features : int
        Number p of features, where each has something to learn; 1: all learn it together.
    """

    #: Whether the features are standardised before the encoder, and back after the decoder.
    standardize = False
    #: Whether the features are counts: not negative, and on a scale of their own in each sample.
    counts = False
    #: The least and largest x that has a probability.
    low, high = -math.inf, math.inf
    #: Whether log p(x | theta) takes theta in blocks for dense x too.
    dense_blocks = False

    def __init__(self, n_features: int = 1) -> None:
        super().__init__()
        self.n_features = n_features

    def encoder_input(self, x: Tensor) -> Tensor:
        """Return what the encoder is to see of x, (n, p)."""
        return x

    def to_input_range(self, free: Tensor) -> Tensor:
        """Return what the encoder might see, (n, p), for any numbers: of samples that are learned.

        On the scale of `encoder_input`, and within its range.
        """
        return free

    def log_prob(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        """Return log p(x | theta) in nats, of shape (n,), for x and theta of shape (n, p).

        x is in the range of the likelihood; what rounding took beyond it counts as its end. x may
        be sparse. If theta comes in blocks, x is sparse, unless `dense_blocks` is set.
        """
        raise NotImplementedError

    def mean(self, theta: Tensor) -> Tensor:
        """Return E[x | theta], of shape (n, p)."""
        raise NotImplementedError

    def misfit(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        """Return what the next two methods need to know of each sample, (n,)."""
        return -self.log_prob(theta, x)

    def reconstruction(self, misfit: Tensor, weight: Tensor) -> Tensor:
        """Return the loss term -E log p(x | z) of a batch, weighted by `weight` summing to 1."""
        return weight @ misfit

    def running(self, misfit: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return what the buffers are after training on the batch, by name; none by default."""
        return {}


class Bernoulli(Likelihood):
    """Features in [0, 1], theta their logits; fractions count as expected bits."""

    dense_blocks = True
    low, high = 0.0, 1.0

    def to_input_range(self, free: Tensor) -> Tensor:
        return torch.sigmoid(free)

    def log_prob(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        if not isinstance(theta, Blocks):
            return -_cross_entropy(theta, x.to_dense().clamp(0, 1))
        if not x.is_sparse:
            return -theta.sum(_cross_entropy, x.clamp(0, 1))[0]
        zeros, at_values = theta.sum(_softplus, x)
        return row_sums(len(x), x.indices()[0], x.values().clamp(0, 1) * at_values) - zeros

    def mean(self, theta: Tensor) -> Tensor:
        return torch.sigmoid(theta)


class Gaussian(Likelihood):
    """Standardised features, theta their means, one noise variance for all.

    In training the variance stands at its optimum for each batch, the mean squared error, so that
    no weight balances reconstruction against the code's divergences (Rybkin, Daniilidis, Levine:
    Simple and Effective VAE Training with Calibrated Decoders, ICML 2021). Its running mean is
    kept for log-probabilities.
    """

    standardize = dense_blocks = True
    #: Smallest variance, as a fraction of a feature's: a reconstruction exact to 0.1 %.
    floor = 1e-6
    momentum = 0.05
    noise_variance: Tensor

    def __init__(self, n_features: int = 1) -> None:
        super().__init__(n_features)
        self.register_buffer("noise_variance", torch.ones((), dtype=torch.float32))

    def log_prob(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        squares = _squares(theta, x)
        constant = x.shape[1] * torch.log(2 * math.pi * self.noise_variance)
        return -0.5 * (squares / self.noise_variance + constant)

    def mean(self, theta: Tensor) -> Tensor:
        return theta

    def misfit(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        if not self.training:
            return super().misfit(theta, x)
        return _squares(theta, x) / x.shape[1]

    def reconstruction(self, misfit: Tensor, weight: Tensor) -> Tensor:
        if not self.training:
            return super().reconstruction(misfit, weight)
        variance = weight @ misfit + self.floor
        return 0.5 * self.n_features * (torch.log(2 * math.pi * variance) + 1)

    def running(self, misfit: Tensor, weight: Tensor) -> dict[str, Tensor]:
        variance = (weight @ misfit + self.floor).detach()
        return {"noise_variance": self.noise_variance.lerp(variance, self.momentum)}


class Counts(Likelihood):
    """Counts x, of words or molecules, whose total is the library size l of the sample.

    softmax(theta) says what a sample consists of. How much of it there is, l, is taken from x and
    not modelled; a decoded sample has the mean library size of the training data. Fractions, such
    as tf-idf weights, extend the formulas: gradients mean what they do for counts, but
    log-probabilities are those of no distribution. A sample of zeros has log-probability 0.

    References
    ----------
    Lopez, Regier, Cole, Jordan, Yosef: Deep generative modeling for single-cell transcriptomics,
    Nature Methods 2018.
    """

    counts = True
    low = 0.0
    library_size: Tensor

    def __init__(self, n_features: int = 1) -> None:
        super().__init__(n_features)
        self.register_buffer("library_size", torch.ones((), dtype=torch.float32))

    def encoder_input(self, x: Tensor) -> Tensor:
        return torch.log1p(x)  # in which a few large counts do not drown the others

    def to_input_range(self, free: Tensor) -> Tensor:
        return F.softplus(free)

    def mean(self, theta: Tensor) -> Tensor:
        return self.library_size * theta.softmax(1)


class Poisson(Counts):
    """Independent Poisson counts of rates l softmax(theta).

    The rates of a sample add up to l, so that the gradients are those of the multinomial.
    """

    def log_prob(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        rows, _, values, size = cells = _cells(x)
        log_p, total = _log_softmax(theta, x, cells)
        log_rate = log_p + (size.clamp_min(TINY).log() - total)[rows]
        return row_sums(len(x), rows, values * log_rate - torch.lgamma(values + 1)) - size


class Multinomial(Poisson):
    """The counts of l draws from softmax(theta)."""

    def log_prob(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        # That of Poisson counts, divided by the probability of their sum, l^l exp(-l) / l!.
        return super().log_prob(theta, x) + _log_factorial_rest(_cells(x).size)


class NegativeBinomial(Counts):
    """Independent counts of means mu = l softmax(theta) and variances mu + mu^2 / r.

    The inverse dispersion r of each feature is learned, from 1; the larger, the closer to Poisson.
    """

    def __init__(self, n_features: int = 1) -> None:
        super().__init__(n_features)
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_features, dtype=torch.float32))

    def log_prob(self, theta: Tensor | Blocks, x: Tensor) -> Tensor:
        rows, columns, values, size = cells = _cells(x)
        log_r = self.log_inverse_dispersion.clamp(-10, 10).expand(x.shape[1])
        log_p, total = _log_softmax(theta, x, cells)
        row = size.clamp_min(TINY).log() - total
        if isinstance(theta, Blocks):
            of_zeros = theta.sum(_negative_binomial_zeros, x, row, log_r)[0]
        else:
            of_zeros = _negative_binomial_zeros(theta, None, row[:, None], log_r)
        log_r = log_r[columns]
        r, logits = log_r.exp(), log_p + row[rows] - log_r
        # log Gamma(x + r) / (Gamma(r) x!), without the difference of large logarithms.
        ways = (r - 0.5) * torch.log1p(values / r) + _binet(values + r) - _binet(r)
        ways = ways + values * torch.log1p(r / values.clamp_min(TINY)) - _log_factorial_rest(values)
        return of_zeros + row_sums(len(x), rows, ways + values * F.logsigmoid(logits))


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "multinomial": Multinomial,
    "negative_binomial": NegativeBinomial,
    "poisson": Poisson,
}

#: In place of a count of 0, by which its logarithm is multiplied.
TINY = 1e-30


class Cells(NamedTuple):
    """The m values of x that are not zero, or are stored, and the sums of the rows of x."""

    rows: Tensor  # (m,)
    columns: Tensor  # (m,)
    values: Tensor  # (m,)
    size: Tensor  # (n,)


def _cells(x: Tensor) -> Cells:
    """Return the non-zero values of x: the few for which logarithms of x are needed."""
    if x.is_sparse:
        (rows, columns), values = x.indices(), x.values()
    else:
        rows, columns = x.nonzero().T
        values = x[rows, columns]
    values = values.clamp_min(0)
    return Cells(rows, columns, values, row_sums(len(x), rows, values))


def _log_softmax(theta: Tensor | Blocks, x: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """Return theta at the cells, (m,), and the logarithm of the sum of exp(theta), (n,)."""
    if isinstance(theta, Blocks):
        total, at_values = theta.logsumexp(x)
        return at_values, total
    return theta[cells.rows, cells.columns], theta.logsumexp(1)


def _squares(theta: Tensor | Blocks, x: Tensor) -> Tensor:
    """Return the squared errors of each sample, (n,)."""
    if not isinstance(theta, Blocks):
        return _squared_error(theta, x.to_dense())
    if not x.is_sparse:
        return theta.sum(_squared_error, x)[0]
    squares, at_values = theta.sum(_sum_of_squares, x)
    rows, values = x.indices()[0], x.values()
    return squares + row_sums(len(x), rows, values * (values - 2 * at_values))


# Sums over features, as `Blocks.sum` takes them: (theta, x, row, column) -> (n,).


def _cross_entropy(theta: Tensor, x: Tensor, *_: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(theta, x, reduction="none").sum(1)


def _softplus(theta: Tensor, *_: Any) -> Tensor:
    return F.softplus(theta).sum(1)


def _squared_error(theta: Tensor, x: Tensor, *_: Tensor) -> Tensor:
    error = x - theta
    return torch.linalg.vecdot(error, error)


def _sum_of_squares(theta: Tensor, *_: Any) -> Tensor:
    return torch.linalg.vecdot(theta, theta)


def _negative_binomial_zeros(theta: Tensor, x: None, log_scale: Tensor, log_r: Tensor) -> Tensor:
    """Return the log-probability of nothing but zeros, with means mu = exp(theta + log_scale)."""
    return -(F.softplus(theta + log_scale - log_r) @ log_r.exp())


def _log_factorial_rest(x: Tensor) -> Tensor:
    """Return log x! - (x log x - x), for x of 0 or more."""
    x = x.clamp_min(TINY)
    return 0.5 * torch.log(2 * math.pi * x) + _binet(x)


def _binet(x: Tensor) -> Tensor:
    """Return what Stirling's formula lacks: log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2).

    From a series where x is large, and the two sides nearly equal.
    """
    small, y = x.clamp(TINY, 8), 1 / x.clamp_min(8)
    lacking = (
        torch.lgamma(small) - (small - 0.5) * small.log() + small - 0.5 * math.log(2 * math.pi)
    )
    series = y / 12 - y**3 / 360 + y**5 / 1260 - y**7 / 1680
    return torch.where(x < 8, lacking, series)
