"""Room 5: an array, dense or CSR, as batches of float32 tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
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

#: Rows that are looked at together outside of training; bounds memory.
CHUNK = 1024
#: Of wide data fewer: about as many values, 64 MB in float32.
VALUES = 2**24
#: Features from which batches of a CSR array stay sparse.
WIDE = 32_768
#: Part of a training batch that has labels, at least, where any sample has one.
LABELED = 0.25


class Batch(NamedTuple):
    """Some samples, as the objective takes them."""

    x: Tensor  # standardised samples, (n, p), float32; of wide CSR data a coalesced COO tensor
    labels: Tensor  # class indices, -1 for none, (n,), int64; or which labels, (n, C), bool
    weight: Tensor  # sample weights, (n,), float32


class Standardization(NamedTuple):
    """Offset and scale of the features; the network sees (X - offset) / scale."""

    offset: NDArray[Any]  # (p,)
    scale: NDArray[Any]  # (p,)

    def apply(self, X: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return X, (n, p), in the network's units, in X's precision; in `out`, which may be X."""
        out = np.subtract(X, self.offset, out=out)
        return np.divide(out, self.scale, out=out)

    def undo(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return X, (n, p), in the data's units, in the precision of the offset."""
        return X * self.scale + self.offset


class Survey:
    """What a model has to know of its data before it sees them, gathered a chunk at a time.

    Parameters
    ----------
    moments : bool
        Gather the means and standard deviations of the features too.

    Attributes
    ----------
    n_samples, n_features : int
        Size of the data.
    low, high : float
        Their range.
    """

    def __init__(self, moments: bool) -> None:
        self.n_samples = self.n_features = 0
        self.low, self.high = math.inf, -math.inf
        self._moments, self._wide = moments, False
        self._scaler: StandardScaler | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.float32)

    def add(self, X: Any, weight: NDArray[Any] | None = None) -> Survey:
        """Take in some rows, dense or CSR; return the survey."""
        self.n_samples += X.shape[0]
        self.n_features = X.shape[1]
        self.low, self.high = min(self.low, float(X.min())), max(self.high, float(X.max()))
        if self._moments:
            if self._scaler is None:
                self._scaler = StandardScaler(with_mean=False)  # which learns the mean too
            with np.errstate(over="ignore", invalid="ignore"):
                self._scaler.partial_fit(X, sample_weight=weight)
            self._dtype = self._dtype if X.dtype == np.float32 else np.dtype(np.float64)
            self._wide |= is_wide(X)
        return self

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)

    def means(self) -> NDArray[np.float32]:
        """Return the means of the features, (p,)."""
        assert self._scaler is not None
        means: NDArray[np.float32] = self._scaler.mean_.astype(np.float32)
        return means

    def standardization(self) -> Standardization:
        """Return the mean and standard deviation of the features.

        Constant features have scale 1. Numbers that overflow give what is not finite. Wide sparse
        data have offset 0, so that zeros stay zeros.
        """
        assert self._scaler is not None
        mean, scale = self._scaler.mean_, self._scaler.scale_
        offset = np.zeros_like(mean) if self._wide else mean
        return Standardization(offset.astype(self._dtype), scale.astype(self._dtype))


class Rows:
    """Some rows of a table, read only when they are asked for.

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
    """Return whether X is to stay sparse.

    By its width alone: by its density, a sample's code could depend on those beside it.
    """
    while isinstance(X, Rows):
        X = X.X
    return hasattr(X, "toarray") and X.shape[1] >= WIDE


def chunk_size(n_features: int) -> int:
    """Return how many dense rows may be looked at together."""
    return min(CHUNK, max(1, VALUES // n_features))


class ArrayDataset(Dataset[Batch]):
    """An array that hands out whole batches.

    Nothing is copied but a batch at a time: indexing, densifying, standardising and the
    conversion to float32 all happen per batch, so X may be a read-only memory map. Batches of CSR
    with `WIDE` features or more stay sparse, unless the standardisation turns zeros into others.

    Parameters
    ----------
    X : ndarray, CSR or Rows of shape (n, p)
        Samples, of any real dtype.
    labels : ndarray of shape (n,) or (n, C), or None
        Class indices, -1 for none; or which labels a sample has. None: no sample has a label.
    weight : ndarray of shape (n,) or None
        Sample weights; None: all 1.
    standardization : Standardization or None
        None leaves the features as they are.
    """

    def __init__(
        self,
        X: Any,
        labels: NDArray[Any] | None = None,
        weight: NDArray[np.float32] | None = None,
        standardization: Standardization | None = None,
    ) -> None:
        self.X, self.labels, self.weight = X, labels, weight
        self.standardization = standardization

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
        """Return the batch of these rows; torch's DataLoader calls this one."""
        x = self.samples(indices)
        n = len(x)
        labels = np.full(n, -1) if self.labels is None else self.labels[indices]
        weight = np.ones(n, np.float32) if self.weight is None else self.weight[indices]
        return Batch(x, torch.tensor(labels), torch.tensor(weight))

    def samples(self, indices: NDArray[np.intp] | slice, borrow: bool = False) -> Tensor:
        """Return the standardised samples of these rows, (n, p), dense or a coalesced COO tensor.

        `borrow` lets a slice be a view of the caller's array, for who writes into nothing.
        """
        x = self.X[indices]
        if self.sparse:
            return self._sparse(x)
        if hasattr(x, "toarray"):
            x = x.toarray()
        # NumPy copies rows by index, though a memory map's do not look it; no second copy, then.
        copied = not isinstance(indices, slice)
        if self.standardization is not None:
            in_place = copied and x.dtype == self.standardization.offset.dtype
            x = self.standardization.apply(x, out=x if in_place else None)
        view = borrow or copied
        with np.errstate(over="ignore"):  # what overflows is reported at the end of the epoch
            x = np.require(x, np.float32, ["C", "W"] if view else ["C", "O", "W"])
        return torch.from_numpy(x)

    def _sparse(self, x: Any) -> Tensor:
        """Return rows of the array as a COO tensor of standardised values."""
        if not x.has_canonical_format:  # sorted, each cell once
            x = x.copy()
            x.sum_duplicates()
        values = x.data
        if self.standardization is not None:
            values = values / self.standardization.scale[x.indices]
        rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
        cells = torch.from_numpy(np.stack([rows, x.indices.astype(np.int64, copy=False)]))
        with np.errstate(over="ignore"):
            values = torch.tensor(values.astype(np.float32))
        return coo(cells, values, x.shape)

    def hold_out(self, fraction: float, random_state: Any) -> tuple[ArrayDataset, ArrayDataset]:
        """Return two parts, the second a `fraction` of the samples, of all classes where it can."""
        n, labels = len(self), self.labels
        n_held = math.ceil(n * fraction)
        if n_held >= n:
            raise ValueError(
                f"validation_fraction={fraction} leaves none of the {n} samples to train on: "
                "lower it, or set early_stopping=False."
            )
        if labels is not None and labels.ndim == 2:
            labels = None
        if labels is not None:
            counts = np.unique(labels, return_counts=True)[1]
            if counts.min() < 2 or min(n_held, n - n_held) < len(counts):
                labels = None
        seed = seed_from(random_state) % 2**32
        parts = train_test_split(np.arange(n), test_size=n_held, stratify=labels, random_state=seed)
        kept, held = (self._subset(np.sort(rows)) for rows in parts)
        return kept, held

    def _subset(self, rows: NDArray[np.intp]) -> ArrayDataset:
        return ArrayDataset(
            Rows(self.X, rows),
            None if self.labels is None else self.labels[rows],
            None if self.weight is None else self.weight[rows],
            self.standardization,
        )

    def survey(self, moments: bool) -> Survey:
        """Return what the rows hold, looking at a chunk of them at a time."""
        survey, size = Survey(moments), CHUNK if is_wide(self.X) else chunk_size(self.X.shape[1])
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            survey.add(self.X[rows], None if self.weight is None else self.weight[rows])
        return survey

    def n_batches(self, batch_size: int) -> int:
        """Return how many batches an epoch has."""
        return -(-len(self) // batch_size)

    @property
    def labeled_rows(self) -> NDArray[np.intp]:
        """The rows that have a label."""
        if self.labels is None:
            return np.arange(0)
        return np.flatnonzero(self.labels.any(1) if self.labels.ndim == 2 else self.labels >= 0)

    def labeled(self, n_most: int, size: int) -> Iterator[tuple[Tensor, NDArray[Any]]]:
        """Yield about `n_most` labeled samples, evenly spread over the data, `size` at a time."""
        assert self.labels is not None
        rows = self.labeled_rows
        rows = rows[:: max(1, len(rows) // n_most)]
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            yield self.samples(chunk), self.labels[chunk]

    def slices(self, batch_size: int, borrow: bool = False) -> Iterator[Tensor]:
        """Yield the samples in order, at most `batch_size` at a time; `borrow` as in `samples`."""
        for start in range(0, len(self), batch_size):
            yield self.samples(slice(start, start + batch_size), borrow)


class EvenBatches(Sampler[NDArray[np.intp]]):
    """Batches of at most `batch_size` indices, their sizes as even as possible.

    An even split has no small last batch, whose class means would be the noisiest of the epoch.

    Parameters
    ----------
    n_samples : int
        Number n of samples.
    batch_size : int
        Largest size of a batch.
    generator : torch.Generator or None
        Source of the shuffle, drawn anew in each epoch; None keeps the order.
    part : tuple of (int, int)
        (i, n): give the i-th of n parts of every batch, as even as possible; it may be empty.
    labeled : ndarray of int or None
        The indices with a label. Where they are less than a quarter of all, batches are larger by
        as many of them, drawn at random, as a quarter lacks: the terms of a few samples of a few
        classes are noise.
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
        # Ascending indices read a memory map in order; the order within a batch means nothing.
        batches = map(np.sort, batches)
        i, n = self.part
        return iter(batches) if n == 1 else (np.array_split(batch, n)[i] for batch in batches)


def seed_from(random_state: Any) -> int:
    """Return a seed from scikit-learn's `random_state`.

    None draws from the operating system: NumPy's global state is neither read nor changed.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(random_state.randint(2**31 - 1))


@contextmanager
def naming(argument: str, value: Any) -> Iterator[None]:
    """Put the argument before errors about it that do not name it, as some of scikit-learn's."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if re.search(rf"\b{argument}\b", str(error)):
            raise
        shape = f" of shape {value.shape}" if hasattr(value, "shape") else ""
        dtype = f" and dtype {value.dtype}" if hasattr(value, "dtype") else ""
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument} ({type(value).__name__}{shape}{dtype}): {error}") from error
