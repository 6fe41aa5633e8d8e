"""Room 5: an array, dense or CSR, as batches of float32 tensors."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler


class Batch(NamedTuple):
    """Some samples, as the objective takes them."""

    x: Tensor  # standardised samples, (n, p), float32
    labels: Tensor  # class indices, -1 for none, (n,), int64
    weight: Tensor  # sample weights, (n,), float32


class Standardization(NamedTuple):
    """Offset and scale of the features; the network sees (X - offset) / scale."""

    offset: NDArray[Any]  # (p,)
    scale: NDArray[Any]  # (p,)

    def apply(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return X, (n, p), in the network's units, in X's precision."""
        return (X - self.offset) / self.scale

    def undo(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return X, (n, p), in the data's units, in the precision of the offset."""
        return X * self.scale + self.offset


class ArrayDataset(Dataset[Batch]):
    """An array that hands out whole batches.

    Nothing is copied but a batch at a time: indexing, densifying, standardising and the
    conversion to float32 all happen per batch, so X may be a read-only memory map.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, p)
        Samples, of any real dtype.
    labels : ndarray of shape (n,) or None
        Class indices, -1 for none. None: no sample has a label.
    weight : ndarray of shape (n,) or None
        Sample weights; None: all 1.
    standardization : Standardization or None
        None leaves the features as they are.
    """

    def __init__(
        self,
        X: Any,
        labels: NDArray[np.int64] | None = None,
        weight: NDArray[np.float32] | None = None,
        standardization: Standardization | None = None,
    ) -> None:
        self.X, self.labels, self.weight = X, labels, weight
        self.standardization = standardization

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

    def samples(self, indices: NDArray[np.intp] | slice) -> Tensor:
        """Return the standardised samples of these rows, (n, p)."""
        x = self.X[indices]
        if hasattr(x, "toarray"):
            x = x.toarray()
        if self.standardization is not None:
            x = self.standardization.apply(x)
        with np.errstate(over="ignore"):  # what overflows is reported at the end of the epoch
            # Owned: a slice is a view of the caller's array, which nothing may write into.
            return torch.from_numpy(np.require(x, np.float32, ["C", "O", "W"]))

    def slices(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the samples in order, at most `batch_size` at a time."""
        for start in range(0, len(self), batch_size):
            yield self.samples(slice(start, start + batch_size))


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
    """

    def __init__(
        self, n_samples: int, batch_size: int, generator: torch.Generator | None = None
    ) -> None:
        self.n_samples, self.batch_size, self.generator = n_samples, batch_size, generator

    def __len__(self) -> int:
        return -(-self.n_samples // self.batch_size)

    def __iter__(self) -> Iterator[NDArray[np.intp]]:
        if self.generator is None:
            order = np.arange(self.n_samples)
        else:
            order = torch.randperm(self.n_samples, generator=self.generator).numpy()
        # Ascending indices read a memory map in order; the order within a batch means nothing.
        return (np.sort(batch) for batch in np.array_split(order, len(self)))


def seed_from(random_state: Any) -> int:
    """Return a seed from scikit-learn's `random_state`.

    None draws from the operating system: NumPy's global state is neither read nor changed.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(random_state.randint(2**31 - 1))
