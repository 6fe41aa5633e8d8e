"""Room 2: the likelihoods. Each gives the decoder's output theta a meaning: log p(x | z), E[x | z].

A likelihood has two methods, and a buffer or a parameter if it must learn something. To add one,
write the class and name it in `LIKELIHOODS`.

For sparse x with many features, theta comes in `Blocks`. The log-probability is then a sum over all
features that does not depend on x, plus a sum over the values of x. If a likelihood sets
`dense_blocks`, theta also comes in blocks for large batches of dense x. Its log-probability must be
a sum over features.

A missing value is NaN, in dense x and among the values of sparse x. The sums leave it out only if a
method is told that x is `incomplete`, because a search for NaN takes time.
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
        Number p of features, if there is something to learn for each. 1: all share it.
    """

    #: Whether features are standardised before the encoder, and the decoder's output scaled back.
    standardize = False
    #: Whether the features are counts: not negative, with a different total in each sample.
    counts = False
    #: Smallest and largest x that has a probability.
    low, high = -math.inf, math.inf
    #: Whether log p(x | theta) takes theta in blocks: for sparse x, and for dense x.
    sparse_blocks, dense_blocks = True, False

    def __init__(self, n_features: int = 1) -> None:
        super().__init__()
        self.n_features = n_features

    def encoder_input(self, x: Tensor) -> Tensor:
        """Return the encoder's input for x, (n, p)."""
        return x

    def to_input_range(self, free: Tensor) -> Tensor:
        """Return valid encoder inputs, (n, p), for unconstrained numbers.

        Learned samples are such numbers. The result is on the scale and in the range of
        `encoder_input`.
        """
        return free

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        """Return log p(x | theta) in nats, of shape (n,), for x and theta of shape (n, p).

        x may be sparse, and is in the range of the likelihood up to rounding. If theta comes in
        blocks, x is sparse unless `dense_blocks` is set. If x is `incomplete`, the result is the
        log-probability of its observed values.
        """
        raise NotImplementedError

    def mean(self, theta: Tensor) -> Tensor:
        """Return E[x | theta], of shape (n, p)."""
        raise NotImplementedError

    def misfit(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        """Return the statistics of each sample that the next two methods need, (n,) or (n, k)."""
        return -self.log_prob(theta, x, incomplete)

    def reconstruction(self, misfit: Tensor, weight: Tensor) -> Tensor:
        """Return the loss term -E log p(x | z) of a batch; `weight` sums to 1."""
        return weight @ misfit

    def running(self, misfit: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return the buffers after training on the batch, by name; by default there are none."""
        return {}


class Bernoulli(Likelihood):
    """Features in [0, 1] with logits theta. A fraction counts as an expected bit."""

    dense_blocks = True
    low, high = 0.0, 1.0

    def to_input_range(self, free: Tensor) -> Tensor:
        return torch.sigmoid(free)

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        of_dense = _observed_cross_entropy if incomplete else _cross_entropy
        if not isinstance(theta, Blocks):
            return -of_dense(theta, x.to_dense().clamp(0, 1))
        if not x.is_sparse:
            return -theta.sum(of_dense, x.clamp(0, 1))[0]
        zeros, at_values = theta.sum(_softplus, x)
        values = x.values().clamp(0, 1)
        if incomplete:  # a missing value is no zero: take its share out of the sum
            missing, values = values.isnan(), values.nan_to_num(0)
            of_values = torch.where(missing, F.softplus(at_values), values * at_values)
        else:
            of_values = values * at_values
        return row_sums(len(x), x.indices()[0], of_values) - zeros

    def mean(self, theta: Tensor) -> Tensor:
        return torch.sigmoid(theta)


class Gaussian(Likelihood):
    """Standardised features with means theta, and one noise variance for all features.

    In training, the variance of each batch is at its optimum, the mean squared error. No weight is
    then needed to balance the reconstruction against the code's divergences. Log-probabilities use
    the running mean of the variance.

    References
    ----------
    Rybkin, Daniilidis, Levine: Simple and Effective VAE Training with Calibrated Decoders, ICML
    2021.
    """

    standardize = dense_blocks = True
    #: Smallest noise variance of a standardised feature: the reconstruction is exact to 0.1 %.
    floor = 1e-6
    momentum = 0.05
    noise_variance: Tensor

    def __init__(self, n_features: int = 1) -> None:
        super().__init__(n_features)
        self.register_buffer("noise_variance", torch.ones((), dtype=torch.float32))

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        n_observed = _n_observed(x) if incomplete else x.shape[1]
        squares = _squares(theta, x, incomplete)
        constant = n_observed * torch.log(2 * math.pi * self.noise_variance)
        return -0.5 * (squares / self.noise_variance + constant)

    def mean(self, theta: Tensor) -> Tensor:
        return theta

    def misfit(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        if not self.training:
            return super().misfit(theta, x, incomplete)
        squares = _squares(theta, x, incomplete) / x.shape[1]
        return torch.stack([squares, _n_observed(x) / x.shape[1]], 1) if incomplete else squares

    def reconstruction(self, misfit: Tensor, weight: Tensor) -> Tensor:
        if not self.training:
            return super().reconstruction(misfit, weight)
        variance, observed = self._variance(misfit, weight)
        n_observed = self.n_features * observed
        return 0.5 * n_observed * (torch.log(2 * math.pi * variance) + 1)

    def running(self, misfit: Tensor, weight: Tensor) -> dict[str, Tensor]:
        variance, observed = self._variance(misfit.detach(), weight)
        after = self.noise_variance.lerp(variance, self.momentum)
        if isinstance(observed, Tensor):  # without observed values, keep the old variance
            after = torch.where(observed > 0, after, self.noise_variance)
        return {"noise_variance": after}

    def _variance(self, misfit: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return the best variance for a batch, and the observed fraction of its values."""
        if misfit.ndim == 1:
            return weight @ misfit + self.floor, 1.0
        squares, observed = weight @ misfit
        return squares / observed.clamp_min(TINY) + self.floor, observed


class Counts(Likelihood):
    """Counts x, of words or molecules. The total of a sample is its library size l.

    softmax(theta) gives the composition of a sample. The model does not describe l: it takes l from
    x, and a decoded sample has the mean library size of the training data. The formulas extend to
    fractions, such as tf-idf weights. Their gradients mean the same as for counts, but their
    log-probabilities belong to no distribution. A sample of zeros has log-probability 0.

    For an incomplete sample, l is the total of the observed features, and the softmax is over these
    features only. This is exact: given the total of some counts of a multinomial, these counts are
    multinomial.

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
        return torch.log1p(x)  # a few large counts would otherwise drown the others

    def to_input_range(self, free: Tensor) -> Tensor:
        return F.softplus(free)

    def mean(self, theta: Tensor) -> Tensor:
        return self.library_size * theta.softmax(1)


class Poisson(Counts):
    """Independent Poisson counts with rates l softmax(theta).

    The rates of a sample add up to l. The gradients therefore equal those of the multinomial.
    """

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        rows, _, values, size = cells = _cells(x, incomplete)
        log_p, total = _log_softmax(theta, x, cells, incomplete)
        log_rate = log_p + (size.clamp_min(TINY).log() - total)[rows]
        return row_sums(len(x), rows, values * log_rate - torch.lgamma(values + 1)) - size


class Multinomial(Poisson):
    """The counts of l draws from softmax(theta)."""

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        # Poisson counts, divided by the probability of their sum, l^l exp(-l) / l!.
        of_sum = _log_factorial_rest(_cells(x, incomplete).size)
        return super().log_prob(theta, x, incomplete) + of_sum


class NegativeBinomial(Counts):
    """Independent counts with means mu = l softmax(theta) and variances mu + mu^2 / r.

    The inverse dispersion r of each feature is learned, and starts at 1. The larger r, the closer
    the counts are to Poisson counts.
    """

    def __init__(self, n_features: int = 1) -> None:
        super().__init__(n_features)
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_features, dtype=torch.float32))

    def log_prob(self, theta: Tensor | Blocks, x: Tensor, incomplete: bool = False) -> Tensor:
        rows, columns, values, size = cells = _cells(x, incomplete)
        log_r = self.log_inverse_dispersion.clamp(-10, 10).expand(x.shape[1])
        log_p, total = _log_softmax(theta, x, cells, incomplete)
        row = size.clamp_min(TINY).log() - total
        if isinstance(theta, Blocks):
            of_zeros, at_values = theta.sum(_negative_binomial_zeros, x, row, log_r)
            if incomplete:
                missing = x.values().isnan()
                i, j = x.indices()[:, missing]
                of_missing = F.softplus(at_values[missing] + row[i] - log_r[j]) * log_r[j].exp()
                of_zeros = of_zeros + row_sums(len(x), i, of_missing)
        else:
            theta = _without_missing(theta, x) if incomplete else theta
            of_zeros = _negative_binomial_zeros(theta, None, row[:, None], log_r)
        log_r = log_r[columns]
        r, logits = log_r.exp(), log_p + row[rows] - log_r
        of_values = log_ways(values, r) + values * F.logsigmoid(logits)
        return of_zeros + row_sums(len(x), rows, of_values)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "multinomial": Multinomial,
    "negative_binomial": NegativeBinomial,
    "poisson": Poisson,
}


#: Replaces a count of 0 in a logarithm that is multiplied by the count.
TINY = 1e-30
#: Replaces theta where a value is missing.
NOTHING = -1e30


class Cells(NamedTuple):
    """The m observed values of x that are stored or not zero, and the row sums of x."""

    rows: Tensor  # (m,)
    columns: Tensor  # (m,)
    values: Tensor  # (m,)
    size: Tensor  # (n,)


def _cells(x: Tensor, incomplete: bool) -> Cells:
    """Return the non-zero values of x, the only ones whose logarithms are needed."""
    if x.is_sparse:
        (rows, columns), values = x.indices(), x.values()
    else:
        rows, columns = x.nonzero().T
        values = x[rows, columns]
    if incomplete:
        observed = ~values.isnan()
        rows, columns, values = rows[observed], columns[observed], values[observed]
    values = values.clamp_min(0)
    return Cells(rows, columns, values, row_sums(len(x), rows, values))


def _log_softmax(
    theta: Tensor | Blocks, x: Tensor, cells: Cells, incomplete: bool
) -> tuple[Tensor, Tensor]:
    """Return theta at the cells, (m,), and the logarithm of the sum of exp(theta), (n,)."""
    if isinstance(theta, Blocks):
        total, at_values = theta.logsumexp(x)
        if incomplete:
            missing = x.values().isnan()
            rows = x.indices()[0, missing]
            share = row_sums(len(x), rows, (at_values[missing] - total[rows]).exp())
            total = total + torch.log1p(-share.clamp_max(1 - torch.finfo(share.dtype).eps))
            at_values = at_values[~missing]
        return at_values, total
    theta = _without_missing(theta, x) if incomplete else theta
    at_values, total = theta[cells.rows, cells.columns], theta.logsumexp(1)
    # If a sample has no observed value, the total stays far above theta: exp(theta - total) is 0.
    return at_values, total.clamp_min(NOTHING / 2) if incomplete else total


def _without_missing(theta: Tensor, x: Tensor) -> Tensor:
    """Return theta with values so low where x is missing that exp(theta) is 0."""
    return theta.masked_fill(x.to_dense().isnan(), NOTHING)


def _n_observed(x: Tensor) -> Tensor:
    """Return the number of observed values of each sample, (n,)."""
    if x.is_sparse:
        return x.shape[1] - row_sums(len(x), x.indices()[0], x.values().isnan().to(x.dtype))
    return (~x.isnan()).sum(1).to(x.dtype)


def _squares(theta: Tensor | Blocks, x: Tensor, incomplete: bool) -> Tensor:
    """Return the squared errors of each sample, (n,)."""
    of_dense = _observed_squared_error if incomplete else _squared_error
    if not isinstance(theta, Blocks):
        return of_dense(theta, x.to_dense())
    if not x.is_sparse:
        return theta.sum(of_dense, x)[0]
    squares, at_values = theta.sum(_sum_of_squares, x)
    rows, values = x.indices()[0], x.values()
    if incomplete:  # a missing value has an error of 0
        values = torch.where(values.isnan(), at_values, values)
    of_values = values * (values - 2 * at_values)
    return squares + row_sums(len(x), rows, of_values)


# Sums over features, as `Blocks.sum` takes them: (theta, x, row, column) -> (n,).


def _cross_entropy(theta: Tensor, x: Tensor, *_: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(theta, x, reduction="none").sum(1)


def _observed_cross_entropy(theta: Tensor, x: Tensor, *_: Tensor) -> Tensor:
    missing = x.isnan()
    surprise = F.binary_cross_entropy_with_logits(
        theta, x.masked_fill(missing, 0), reduction="none"
    )
    return surprise.masked_fill(missing, 0).sum(1)


def _softplus(theta: Tensor, *_: Any) -> Tensor:
    return F.softplus(theta).sum(1)


def _squared_error(theta: Tensor, x: Tensor, *_: Tensor) -> Tensor:
    error = x - theta
    return torch.linalg.vecdot(error, error)


def _observed_squared_error(theta: Tensor, x: Tensor, *_: Tensor) -> Tensor:
    error = (x - theta).masked_fill(x.isnan(), 0)
    return torch.linalg.vecdot(error, error)


def _sum_of_squares(theta: Tensor, *_: Any) -> Tensor:
    return torch.linalg.vecdot(theta, theta)


def _negative_binomial_zeros(theta: Tensor, x: None, log_scale: Tensor, log_r: Tensor) -> Tensor:
    """Return the log-probability of zeros only, with means mu = exp(theta + log_scale)."""
    return -(F.softplus(theta + log_scale - log_r) @ log_r.exp())


def log_ways(x: Tensor, r: Tensor) -> Tensor:
    """Return log(Gamma(x + r) / (Gamma(r) x!)) without a difference of large logarithms."""
    ways = (r - 0.5) * torch.log1p(x / r) + _binet(x + r) - _binet(r)
    return ways + x * torch.log1p(r / x.clamp_min(TINY)) - _log_factorial_rest(x)


def _log_factorial_rest(x: Tensor) -> Tensor:
    """Return log x! - (x log x - x), for x of 0 or more."""
    x = x.clamp_min(TINY)
    return 0.5 * torch.log(2 * math.pi * x) + _binet(x)


def _binet(x: Tensor) -> Tensor:
    """Return the error of Stirling's formula: log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2).

    For large x both are nearly equal, so a series replaces their difference.
    """
    small, y = x.clamp(TINY, 8), 1 / x.clamp_min(8)
    lacking = (
        torch.lgamma(small) - (small - 0.5) * small.log() + small - 0.5 * math.log(2 * math.pi)
    )
    series = y / 12 - y**3 / 360 + y**5 / 1260 - y**7 / 1680
    return torch.where(x < 8, lacking, series)
