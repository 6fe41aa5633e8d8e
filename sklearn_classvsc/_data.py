"""Room 6: arrays, dense or CSR, as batches of float32 tensors, and statistics of the arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ._blocks import coo
from ._messages import cut

#: Number of samples in which `repeats` looks for copies.
SOME = 2000
#: Rows to read together outside of training, which bounds memory.
CHUNK = 1024
#: Values in these rows, about 64 MB in float32. Of wide data, fewer rows are read together.
VALUES = 2**24
#: Number of features from which batches of a CSR array stay sparse.
WIDE = 32_768
#: Smallest fraction of white values in grey images. Ten digits of MNIST have 0.002. Evenly spread
#: measurements, half of them 0, have less than 0.0005.
ONES = 0.001
#: Smallest fraction of labeled samples in a training batch, if any sample has a label.
LABELED = 0.25
#: Tolerance beyond [0, 1], or below 0, for rounding: a step of float16 at 1.
ROUNDING = 2**-10
#: Tolerance for rounding of a black pixel. Measurements that are small by their unit lie above.
ROUNDING_AT_0 = 2**-40
#: Rounding steps by which the values of a constant feature may differ.
STEPS = 64


#: Takes labels, and returns the rows to take, ascending, and how many samples each stands for.
Pick = Callable[[NDArray[Any]], tuple[NDArray[np.intp], NDArray[np.float64]]]


class Batch(NamedTuple):
    """A batch of samples."""

    x: Tensor  # standardised samples, (n, p), float32; for wide CSR data a coalesced COO tensor
    labels: Tensor  # class indices, -1 for no label, (n,), int64; or an indicator, (n, C), bool
    weight: Tensor  # sample weights, (n,), float32
    incomplete: bool = False  # whether x may have missing values, NaN


class Picked(NamedTuple):
    """Some labeled samples, as a `Pick` picks them."""

    x: Tensor  # as in a batch
    labels: NDArray[Any]  # class indices, (n,), or an indicator, (n, C)
    stands_for: NDArray[np.float64]  # number of samples that each stands for, (n,)
    weight: NDArray[Any]  # sample weights, (n,)


class Standardization(NamedTuple):
    """Offset and scale of the features; the network sees (X - offset) / scale."""

    offset: NDArray[Any]  # (p,)
    scale: NDArray[Any]  # (p,)

    def apply(self, X: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return X, (n, p), in the network's units and in its own precision; `out` may be X."""
        out = np.subtract(X, self.offset, out=out)
        return np.divide(out, self.scale, out=out)

    def undo(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return X, (n, p), in the data's units and in the precision of the offset."""
        return X * self.scale + self.offset

    def only(self, kept: NDArray[np.bool_]) -> Standardization:
        """Return the same, with offset 0 and scale 1 for features that are not `kept`, (p,)."""
        zero, one = self.scale.dtype.type(0), self.scale.dtype.type(1)
        return Standardization(np.where(kept, self.offset, zero), np.where(kept, self.scale, one))

    def spread(self, moments: Moments) -> NDArray[Any]:
        """Return the root mean squares, (p,), of data with these moments in the network's units."""
        with np.errstate(over="ignore", invalid="ignore"):
            distance = moments.mean - self.offset
            spread = np.hypot(np.sqrt(moments.variance), distance) / self.scale
            return np.where(np.equal(moments.weight, 0), 0, spread)


class Moments(NamedTuple):
    """Moments of some rows, from which a standardisation follows."""

    n_samples: int
    #: Sum of the sample weights; with missing values, over the samples with each feature, (p,).
    weight: Any
    mean: NDArray[np.float64]  # (p,)
    variance: NDArray[np.float64]  # (p,)
    least: NDArray[np.float64] | None  # (p,); None for wide sparse data
    most: NDArray[np.float64] | None  # (p,), likewise

    def __add__(self, other: Moments) -> Moments:  # type: ignore[override]
        """Return the moments of the rows of both (Chan, Golub, LeVeque, 1979)."""
        weight = self.weight + other.weight
        part = other.weight / np.maximum(weight, np.finfo(np.float64).tiny)
        distance = other.mean - self.mean
        within = (1 - part) * self.variance + part * other.variance
        least = most = None
        if not (self.least is None or other.least is None):
            least = np.minimum(self.least, other.least)
        if not (self.most is None or other.most is None):
            most = np.maximum(self.most, other.most)
        return Moments(
            self.n_samples + other.n_samples,
            weight,
            self.mean + part * distance,
            within + part * (1 - part) * distance**2,
            least,
            most,
        )

    def constant(self) -> NDArray[np.bool_]:
        """Return which features have only one value, up to rounding, (p,)."""
        eps = np.finfo(np.float64).eps
        if self.least is None or self.most is None:
            n = self.weight
            return self.variance <= n * eps * self.variance + (n * eps * self.mean) ** 2
        # The variance would also call times of one day, in nanoseconds since 1970, constant.
        size = np.maximum(abs(self.least), abs(self.most))
        return self.most - self.least <= STEPS * eps * size

    def standardization(self, dtype: np.dtype[Any]) -> Standardization:
        """Return means and standard deviations of this dtype.

        Constant features have scale 1. If numbers overflow, the result is not finite. Wide sparse
        data have offset 0, so that zeros stay zeros.
        """
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            offset, scale = np.zeros_like(self.mean), np.sqrt(self.variance)
            if self.least is not None and self.most is not None:
                offset = self.mean.clip(self.least, self.most)  # rounding may push it out
                scale = np.where(
                    scale == 0, self.most / 2 - self.least / 2, scale
                )  # the variance underflows
            scale = np.where(self.constant(), 1, scale).astype(dtype)
        return Standardization(offset.astype(dtype), np.where(scale == 0, dtype.type(1), scale))


class Survey:
    """Statistics of data that a new model needs, gathered chunk by chunk.

    Parameters
    ----------
    moments : bool
        Whether to gather the means and standard deviations of the features.
    ends : bool, default=False
        Whether to count the zeros and ones of the features, for `black_and_white` and `bits`.

    Attributes
    ----------
    n_samples, n_features : int
        Size of the data.
    low, high : float
        Range of the data.
    n_missing : ndarray of shape (n_features,), or of () if nothing is missing
        Number of missing values of each feature.
    dtype : dtype
        float32 for float32 data, else float64.
    """

    def __init__(self, moments: bool, ends: bool = False) -> None:
        self.n_samples = self.n_features = 0
        self.low, self.high = math.inf, -math.inf
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._zeros = self._ones = self.n_missing = np.zeros((), np.intp)  # of each feature, (p,)
        self.has_moments, self.has_ends, self._wide = moments, ends, False
        self._scaler: StandardScaler | None = None
        self._of_incomplete: Moments | None = None  # of the incomplete chunks
        self._least, self._most = np.array(math.inf), np.array(-math.inf)  # of each feature, (p,)
        self._exponent = 0  # the unit of the weights, as a power of 2

    def add(self, X: Any, weight: NDArray[Any] | None = None) -> Survey:
        """Add some rows, dense or CSR; return the survey."""
        if hasattr(X, "toarray"):
            X = canonical(X)
        self.n_samples += X.shape[0]
        self.n_features = X.shape[1]
        low, high = X.min(), X.max()
        missing = np.zeros((), np.intp)
        if math.isnan(low):
            low, high, missing = *_observed_range(X), _count_missing(X)
            self.n_missing = self.n_missing + missing
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        if self.has_ends:
            zeros, ones = _count_ends(X)
            self._zeros, self._ones = self._zeros + zeros, self._ones + ones
        if self.has_moments:
            self._add_moments(X, weight, bool(missing.any()))
        return self

    def _add_moments(self, X: Any, weight: NDArray[Any] | None, incomplete: bool) -> None:
        if weight is not None:
            # The unit keeps sums from overflowing. Weights far below others count as 0.
            exponent = int(np.frexp(weight.max())[1])
            is_first = self._scaler is None and self._of_incomplete is None
            if is_first or exponent > self._exponent + 126:
                self._exponent, self._scaler, self._of_incomplete = exponent, None, None
            weight = np.ldexp(weight.astype(np.float64), -self._exponent)
            if not weight.any():
                return
        # After a chunk without a value of a feature, the scaler would keep NaN for the feature.
        scaler = None if incomplete else self._scaler
        scaler = scaler or StandardScaler(with_mean=False)  # it still gathers means
        with np.errstate(over="ignore", invalid="ignore"):
            scaler.partial_fit(X, sample_weight=weight)
        if incomplete:
            moments, before = _moments(scaler, X.shape[1]), self._of_incomplete
            self._of_incomplete = moments if before is None else before + moments
        else:
            self._scaler = scaler
        self.dtype = self.dtype if X.dtype == np.float32 else np.dtype(np.float64)
        self._wide |= is_wide(X)
        if not self._wide:
            least, most = _observed_range(X, 0) if incomplete else (X.min(axis=0), X.max(axis=0))
            if hasattr(least, "toarray"):
                least, most = least.toarray().ravel(), most.toarray().ravel()
            self._least = np.fmin(self._least, least)
            self._most = np.fmax(self._most, most)

    @property
    def incomplete(self) -> bool:
        """Whether any value is missing."""
        return bool(self.n_missing.any())

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def _in_unit_interval(self) -> bool:
        return self.low >= -ROUNDING and self.high <= 1 + ROUNDING

    @property
    def black_and_white(self) -> bool:
        """Whether the data are bits, or images: shades of grey in [0, 1].

        All values must be in [0, 1], up to rounding. In the features that hold more than zeros and
        ones, at least a quarter of the values must be 0 or 1, and at least three values, and one in
        a thousand, must be 1. Measurements that are small by their unit do not pile up there.
        Neither do measurements from a MinMaxScaler, which makes two values of each feature 0 and 1.
        """
        assert self.has_ends
        if not self._in_unit_interval:
            return False
        ends, observed = self._zeros + self._ones, self.n_samples - self.n_missing
        grey = ends < observed
        if not grey.any():
            return bool(self._ones.any()) or self.low == self.high == 0
        n_grey = np.broadcast_to(observed, grey.shape)[grey].sum()
        piled_up = ends[grey].sum() >= n_grey / 4
        white = self._ones[grey].sum()
        return bool(piled_up and white >= max(3, ONES * n_grey))

    @property
    def bits(self) -> NDArray[np.bool_]:
        """Which features hold both zeros and ones, and nothing else, (p,)."""
        assert self.has_ends
        ends, observed = self._zeros + self._ones, self.n_samples - self.n_missing
        both: NDArray[np.bool_] = (self._zeros > 0) & (self._ones > 0) & (ends == observed)
        return both

    def moments(self) -> Moments:
        """Return the moments of the features."""
        parts = [] if self._scaler is None else [_moments(self._scaler)]
        parts += [] if self._of_incomplete is None else [self._of_incomplete]
        moments = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        ends = (None, None) if self._wide else (self._least, self._most)
        return Moments(self.n_samples, *moments[1:4], *ends)

    def means(self) -> NDArray[np.float32]:
        """Return the means of the features, (p,)."""
        means: NDArray[np.float32] = self.moments().mean.astype(np.float32)
        return means

    def standardization(self) -> Standardization:
        """Return the mean and standard deviation of the features; see `Moments`."""
        return self.moments().standardization(self.dtype)


def canonical(X: Any) -> Any:
    """Return CSR rows with sorted, distinct cells and no stored zeros; X itself if it has them."""
    if not (X.has_canonical_format and X.data.all()):
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
    return X


def observed_only(X: Any) -> Any:
    """Return rows, dense or CSR, with 0 for missing values."""
    if hasattr(X, "toarray"):
        X = X.copy()
        X.data = observed_only(X.data)
        return X
    return np.where(np.isnan(X), 0, X)


def _moments(scaler: StandardScaler, n_features: int | None = None) -> Moments:
    """Return the moments in a scaler; pass `n_features` if values may be missing."""
    weight, mean, variance = scaler.n_samples_seen_, scaler.mean_, scaler.var_
    if n_features is None:
        return Moments(0, float(np.max(weight)), mean, variance, None, None)
    weight = np.broadcast_to(weight, n_features).astype(np.float64)
    seen = weight > 0
    return Moments(0, weight, np.where(seen, mean, 0), np.where(seen, variance, 0), None, None)


def _count_ends(X: Any) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the numbers of zeros and of ones of each feature, up to rounding, (p,) each."""
    sparse = hasattr(X, "toarray")
    values = X.data if sparse else X
    is_zero = (values <= ROUNDING_AT_0) & (values >= -ROUNDING)
    is_one = (values >= 1 - ROUNDING) & (values <= 1 + ROUNDING)
    if not sparse:
        return is_zero.sum(axis=0), is_one.sum(axis=0)
    others, ones = (np.bincount(X.indices[x], minlength=X.shape[1]) for x in (~is_zero, is_one))
    return X.shape[0] - others, ones


def _count_missing(X: Any) -> NDArray[np.intp]:
    """Return the number of missing values of each feature, (p,)."""
    if hasattr(X, "toarray"):
        return np.bincount(X.indices[np.isnan(X.data)], minlength=X.shape[1])
    counts: NDArray[np.intp] = np.isnan(X).sum(axis=0)
    return counts


def _observed_range(X: Any, axis: int | None = None) -> tuple[Any, Any]:
    """Return the smallest and the largest observed value; NaN if there is none."""
    if hasattr(X, "toarray"):
        return X.nanmin(axis=axis), X.nanmax(axis=axis)
    return np.fmin.reduce(X, axis=axis), np.fmax.reduce(X, axis=axis)


class Rows:
    """Some rows of a table, which are read only on access.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, p)
        The table.
    rows : ndarray of shape (m,)
        Indices of the rows, ascending.
    """

    def __init__(self, X: Any, rows: NDArray[np.intp]) -> None:
        self.X, self.rows = X, rows
        self.shape, self.dtype = (len(rows), X.shape[1]), X.dtype

    def __getitem__(self, indices: NDArray[np.intp] | slice) -> Any:
        return self.X[self.rows[indices]]


def is_wide(X: Any) -> bool:
    """Return whether X stays sparse.

    Only its width decides. If its density decided, the code of a sample could depend on other
    samples.
    """
    while isinstance(X, Rows):
        X = X.X
    return hasattr(X, "toarray") and X.shape[1] >= WIDE


def chunk_size(n_features: int) -> int:
    """Return how many dense rows may be read together."""
    return min(CHUNK, max(1, VALUES // n_features))


class ArrayDataset(Dataset[Batch]):
    """An array that yields whole batches.

    Indexing, densifying, standardising and the conversion to float32 copy only one batch at a time.
    X may therefore be a read-only memory map. Batches of CSR data with `WIDE` features or more stay
    sparse, unless the standardisation changes zeros.

    Parameters
    ----------
    X : ndarray, CSR or Rows of shape (n, p)
        Samples, of any real dtype.
    labels : ndarray of shape (n,) or (n, C), or None
        Class indices, -1 for no label; or an indicator. None: no sample has a label.
    weight : ndarray of shape (n,) or None
        Sample weights. None: all are 1.
    standardization : Standardization or None
        None leaves the features as they are.
    incomplete : bool or None
        Whether values may be missing, NaN. None: `survey` finds out.
    """

    def __init__(
        self,
        X: Any,
        labels: NDArray[Any] | None = None,
        weight: NDArray[np.float32] | None = None,
        standardization: Standardization | None = None,
        incomplete: bool | None = None,
    ) -> None:
        self.X, self.labels, self.weight = X, labels, weight
        self.standardization = standardization
        self._incomplete = incomplete
        self._survey: Survey | None = None

    @property
    def incomplete(self) -> bool:
        """Whether values may be missing, NaN."""
        return self.survey(False).incomplete if self._incomplete is None else self._incomplete

    @property
    def sparse(self) -> bool:
        """Whether batches are sparse tensors."""
        centred = self.standardization is not None and self.standardization.offset.any()
        return is_wide(self.X) and not centred

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__(np.array([index]))

    def __getitems__(self, indices: NDArray[np.intp] | slice) -> Batch:
        """Return the batch of these rows, for torch's DataLoader."""
        x = self.samples(indices)
        n = len(x)
        labels = np.full(n, -1) if self.labels is None else self.labels[indices]
        weight = np.ones(n, np.float32) if self.weight is None else self.weight[indices]
        return Batch(x, torch.tensor(labels), torch.tensor(weight), self.incomplete)

    def samples(self, indices: NDArray[np.intp] | slice, borrow: bool = False) -> Tensor:
        """Return the standardised samples of these rows, (n, p), dense or a coalesced COO tensor.

        With `borrow`, a slice may be a view of the caller's array, for code that only reads it.
        """
        x = self.X[indices]
        if self.sparse:
            return self._sparse(x)
        if hasattr(x, "toarray"):
            x = x.toarray()
        # Indexing copies rows, even if rows of a memory map do not look copied: no second copy.
        copied = not isinstance(indices, slice)
        if self.standardization is not None:
            in_place = copied and x.dtype == self.standardization.offset.dtype
            x = self.standardization.apply(x, out=x if in_place else None)
        view = borrow or copied
        with np.errstate(over="ignore"):  # what overflows is reported at the end of the epoch
            x = np.require(x, np.float32, ["C", "W"] if view else ["C", "O", "W"])
        return torch.from_numpy(x)

    def _sparse(self, x: Any) -> Tensor:
        """Return rows of the array as a COO tensor with standardised values."""
        x = canonical(x)
        values = x.data
        if self.standardization is not None:
            values = values / self.standardization.scale[x.indices]
        rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        cells = torch.from_numpy(np.stack([rows, x.indices.astype(np.int64, copy=False)]))
        with np.errstate(over="ignore"):
            values = torch.tensor(values.astype(np.float32))
        return coo(cells, values, x.shape)

    def hold_out(self, fraction: float, random_state: Any) -> tuple[ArrayDataset, ArrayDataset]:
        """Return the rest and a random `fraction` of the samples, with all classes if possible."""
        n, labels = len(self), self.labels
        n_held = math.ceil(n * fraction)
        if n_held >= n:
            raise ValueError(
                f"validation_fraction={fraction} leaves none of the {n} samples for training. "
                "Lower it, or set early_stopping=False."
            )
        if labels is not None and labels.ndim == 2:
            labels = None
        if labels is not None:
            counts = np.unique(labels, return_counts=True)[1]
            if counts.min() < 2 or min(n_held, n - n_held) < len(counts):
                labels = None
        seed = seed_from(random_state) % 2**32

        def split(rows: NDArray[np.intp], stratify: Any = None) -> Any:
            return train_test_split(rows, test_size=n_held, stratify=stratify, random_state=seed)

        kept, held = split(np.arange(n), labels)
        if self.labels is not None:
            firsts = _first_rows(self.labels)
            others = np.delete(np.arange(n), firsts)
            # Each class keeps a training row, if there are enough rows.
            if len(_first_rows(self.labels[kept])) < len(firsts) and len(others) > n_held:
                kept, held = split(others)
                kept = np.union1d(kept, firsts)
        return self._subset(np.sort(kept)), self._subset(np.sort(held))

    def _subset(self, rows: NDArray[np.intp]) -> ArrayDataset:
        return ArrayDataset(
            Rows(self.X, rows),
            None if self.labels is None else self.labels[rows],
            None if self.weight is None else self.weight[rows],
            self.standardization,
            self.incomplete,
        )

    def survey(self, moments: bool, ends: bool = False) -> Survey:
        """Return the statistics of the rows, read chunk by chunk; see `Survey`.

        The rows are read again only if the last survey did not gather what is asked for.
        """
        known = self._survey
        if known and known.has_moments >= moments and known.has_ends >= ends:
            return known
        survey = Survey(moments, ends)
        size = CHUNK if is_wide(self.X) else chunk_size(self.X.shape[1])
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            survey.add(self.X[rows], None if self.weight is None else self.weight[rows])
        self._survey = survey
        return survey

    def n_batches(self, batch_size: int) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self) // batch_size)

    @property
    def labeled_rows(self) -> NDArray[np.intp]:
        """The rows that have a label."""
        if self.labels is None:
            return np.arange(0)
        return np.flatnonzero(self.labels.any(1) if self.labels.ndim == 2 else self.labels >= 0)

    def repeats(self) -> bool:
        """Return whether three of four labeled samples, or of some of them, are copies."""
        rng = np.random.default_rng(0)
        rows = np.sort(rng.permutation(self.labeled_rows)[:SOME])
        chunk = observed_only(self.X[rows]) if self.incomplete else self.X[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            line = chunk @ rng.normal(size=chunk.shape[1])
        return 4 * len(np.unique(line)) < len(rows)

    def labeled(self, pick: Pick, size: int) -> Iterator[Picked]:
        """Yield the samples that `pick` picks, `size` at a time.

        Without labels, all samples are in one class.
        """
        labels = np.zeros(len(self), np.intp) if self.labels is None else self.labels
        rows, stands_for = pick(labels)
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            weight = np.ones(len(chunk)) if self.weight is None else self.weight[chunk]
            part = stands_for[start : start + size]
            yield Picked(self.samples(chunk), labels[chunk], part, weight)

    def slices(self, batch_size: int, borrow: bool = False) -> Iterator[Tensor]:
        """Yield the samples in order, `batch_size` at a time; `borrow` is as in `samples`."""
        for start in range(0, len(self), batch_size):
            yield self.samples(slice(start, start + batch_size), borrow)


def _first_rows(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Return the first row of each class that has rows."""
    if labels.ndim == 2:
        return labels.argmax(0)[labels.any(0)]
    classes, first = np.unique(labels, return_index=True)
    return np.asarray(first[classes >= 0])


class EvenBatches(Sampler[NDArray[np.intp]]):
    """Batches of at most `batch_size` indices, with sizes as even as possible.

    An even split has no small last batch, whose class means would be the noisiest.

    Parameters
    ----------
    n_samples : int
        Number n of samples.
    batch_size : int
        Largest size of a batch.
    generator : torch.Generator or None
        Source of the shuffle, which is new in each epoch. None keeps the order.
    part : tuple of (int, int)
        (i, n): yield the i-th of n even parts of every batch. A part may be empty.
    labeled : ndarray of int or None
        The indices with a label. If fewer than a quarter of all samples have a label, random
        labeled samples are added to every batch, as many as are missing to a quarter. With few
        labeled samples in a batch, the terms of their classes would be noise.
    """

    def __init__(
        self,
        n_samples: int,
        batch_size: int,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        labeled: NDArray[np.intp] | None = None,
    ) -> None:
        self.n_samples, self.batch_size, self.generator = n_samples, batch_size, generator
        self.part, self.labeled = part, labeled

    def __len__(self) -> int:
        return -(-self.n_samples // self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.intp]]:
        if self.generator is None:
            order = np.arange(self.n_samples)
        else:
            order = torch.randperm(self.n_samples, generator=self.generator).numpy()
        batches: Iterable[NDArray[np.intp]] = np.array_split(order, len(self))
        if self.labeled is not None and 0 < len(self.labeled) < LABELED * self.n_samples:
            lacking = LABELED - len(self.labeled) / self.n_samples
            shape = len(self), math.ceil(lacking * self.n_samples / len(self))
            drawn = torch.randint(len(self.labeled), shape, generator=self.generator).numpy()
            batches = map(np.append, batches, self.labeled[drawn])
        # Ascending indices read a memory map in order. The order within a batch has no meaning.
        batches = map(np.sort, batches)
        i, n = self.part
        return iter(batches) if n == 1 else (np.array_split(batch, n)[i] for batch in batches)


def seed_from(random_state: Any) -> int:
    """Return a seed for a `random_state` of scikit-learn.

    The seed for None comes from the operating system. NumPy's global state is not read or changed.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(random_state.randint(2**31 - 1))


@contextmanager
def prefix_errors(argument: str, value: Any) -> Iterator[None]:
    """Put the name of an argument before errors that do not name it, as some of scikit-learn's."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if re.search(rf"\b{argument}\b", str(error)):
            raise
        shape = f" of shape {value.shape}" if hasattr(value, "shape") else ""
        dtype = f" and dtype {value.dtype}" if hasattr(value, "dtype") else ""
        kind = TypeError if isinstance(error, TypeError) else ValueError
        text = cut(str(error), 1000)  # it may quote a whole document
        raise kind(f"{argument} ({type(value).__name__}{shape}{dtype}): {text}") from error
