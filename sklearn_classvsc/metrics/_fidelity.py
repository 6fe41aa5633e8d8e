"""How well codes explain the data, measured in blocks of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array, gen_batches

from sklearn_classvsc.metrics._counts import check_matrix, split_missing, to_dense

#: Likelihoods of counts, whose codes do not hold the totals of the samples.
COUNTS = frozenset({"multinomial", "poisson", "negative_binomial"})
#: Names of the measures of fidelity.
DEVIANCE, POOLED, MEAN = (
    "explained deviance",
    "pooled explained variance",
    "mean explained variance",
)
#: Most decoded values that are held at a time (32 MB of float64).
_BATCH_ELEMENTS = 2**22


class Fidelity(NamedTuple):
    """How well codes explain each feature, and all features."""

    variance: NDArray[np.float64]  # (f,), of the data
    residual: NDArray[np.float64]  # (f,), variance of data minus decoded
    rmse: NDArray[np.float64]  # (f,)
    explained_deviance: float | None  # only for counts
    measure: str  # name of `score`

    @property
    def explained_variance(self) -> NDArray[np.float64]:
        """Explained variance of each feature, (f,); NaN for constant ones."""
        varies = self.variance > 0
        return 1 - self.residual / np.where(varies, self.variance, np.nan)

    @property
    def mean(self) -> float:
        """Mean explained variance of the features that vary."""
        return float(np.nanmean(self.explained_variance))

    @property
    def pooled(self) -> float:
        """Explained variance of all features together, weighted by their variance."""
        return float(1 - self.residual.sum() / self.variance.sum())

    @property
    def score(self) -> float:
        """The figure that `measure` names."""
        if self.measure == DEVIANCE:
            return self.explained_deviance or 0.0
        return self.mean if self.measure == MEAN else self.pooled


class Moments:
    """Running mean and sum of squared deviations of each feature, without NaN."""

    def __init__(self, n_features: int) -> None:
        self.n = np.zeros(n_features)
        self.mean, self.squares = np.zeros(n_features), np.zeros(n_features)

    def add(self, batch: NDArray[np.float64]) -> None:
        """Add samples (Chan, Golub, LeVeque, 1983)."""
        known = ~np.isnan(batch)
        n = known.sum(axis=0)
        # Subtracts the first value, so that the variance of a large constant is exactly 0.
        origin = np.nan_to_num(batch[known.argmax(axis=0), np.arange(batch.shape[1])])
        centred = np.nan_to_num(batch - origin, copy=False)
        offset = centred.sum(axis=0) / np.maximum(n, 1)
        centred -= offset
        squares = np.where(known, np.square(centred), 0).sum(axis=0)
        step, total = origin + offset - self.mean, np.maximum(self.n + n, 1)
        self.squares += squares + np.square(step) * (self.n * n / total)
        self.mean += step * (n / total)
        self.n += n

    @property
    def variance(self) -> NDArray[np.float64]:
        """Variance of each feature."""
        return self.squares / np.maximum(self.n, 1)


def is_counts(est: Any) -> bool:
    """Return whether a fitted estimator is a model for counts."""
    return getattr(est, "likelihood_", None) in COUNTS


def row_blocks(X: Any) -> Iterator[slice]:
    """Return slices of rows that bound the dense values at a time."""
    blocks: Iterator[slice] = gen_batches(X.shape[0], max(1, _BATCH_ELEMENTS // X.shape[1]))
    return blocks


def dense(matrix: Any, name: str) -> NDArray[np.floating]:
    """Return a dense, finite matrix of floats."""
    checked: NDArray[np.floating] = check_array(
        to_dense(matrix), dtype=[np.float64, np.float32], input_name=name
    )
    return checked


def with_totals(X_hat: NDArray[Any], X: NDArray[Any]) -> NDArray[np.float64]:
    """Return decoded counts scaled to the totals of the samples."""
    total = X_hat.sum(axis=1, dtype=np.float64, keepdims=True)
    return X_hat * (X.sum(axis=1, dtype=np.float64, keepdims=True) / np.maximum(total, 1e-300))


def measure_fidelity(
    X: Any, decode: Callable[[slice], Any], likelihood: str | None = None
) -> Fidelity:
    """Measure how well decoded samples fit the data.

    Parameters
    ----------
    X : array or CSR of shape (n_samples, n_features)
        Samples; NaN is a missing value and is left out.
    decode : callable
        Maps a slice of rows to their decoded samples.
    likelihood : str or None
        Likelihood of the model. Decoded counts are scaled to the totals of the samples, and have an
        explained deviance: the Poisson deviance, compared with a model in which all samples have
        the same shares. Features of a Bernoulli model have one unit and are pooled.

    Raises
    ------
    ValueError
        If all features are constant.
    """
    n_features, counts = X.shape[1], likelihood in COUNTS
    data, residual = Moments(n_features), Moments(n_features)
    shares = np.asarray(sums_of(X), dtype=np.float64).ravel()
    shares /= max(shares.sum(), 1e-300)
    gained = lost = 0.0
    for rows in row_blocks(X):
        batch = to_dense(X[rows]).astype(np.float64)
        X_hat = dense(decode(rows), "X_hat")
        if counts:
            known = ~np.isnan(batch)
            counted = np.where(known, batch, 0)
            X_hat = with_totals(np.where(known, X_hat, 0), counted)
            i, j = np.nonzero(counted)
            x, null = counted[i, j], counted.sum(axis=1)[i] * shares[j]
            gained += float(x @ np.log(np.maximum(X_hat[i, j], 1e-12) / null))
            lost += float(x @ np.log(x / null))
        data.add(batch)
        residual.add(batch - X_hat)
    if not data.squares.any():
        raise ValueError(
            "X has constant features only, but the reconstruction is compared with their variance: "
            "pass more samples that differ."
        )
    rmse = np.sqrt(residual.variance + residual.mean**2)
    deviance = gained / lost if counts and lost else None
    measure = DEVIANCE if counts else POOLED if likelihood == "bernoulli" else MEAN
    return Fidelity(data.variance, residual.variance, rmse, deviance, measure)


def sums_of(X: Any, axis: int = 0) -> Any:
    """Return sums over samples or features, without missing values."""
    return split_missing(X)[1].sum(axis=axis)


def fidelity_of(est: Any, X: Any) -> Fidelity:
    """Measure how well the codes of an estimator explain samples."""
    X, Z = check_matrix(X, "X", missing=True), est.transform(X)
    if hasattr(Z, "iloc"):
        Z = Z.to_numpy()
    return measure_fidelity(
        X, lambda rows: est.inverse_transform(Z[rows]), getattr(est, "likelihood_", None)
    )


def variance_of(X: Any) -> NDArray[np.float64]:
    """Return the variance of each feature, (f,)."""
    moments = Moments(X.shape[1])
    for rows in row_blocks(X):
        moments.add(to_dense(X[rows]).astype(np.float64))
    return moments.variance
