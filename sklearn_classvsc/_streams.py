"""Room 7: data that come in pieces: torch datasets, Dask, Parquet, any chunks of (X, y).

A source is read again in every epoch, and only a piece of it is in memory. This module does not
import Dask or pyarrow: whoever passes their objects has imported them.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ._data import (
    CHUNK,
    ArrayDataset,
    Batch,
    EvenBatches,
    Pick,
    Picked,
    Rows,
    Standardization,
    Survey,
)
from ._fingerprints import checksum, digest
from ._messages import brief
from ._tables import as_table, n_dims, shape_of, to_numpy

#: Packages whose arrays are on disk, and are read by slices.
ON_DISK = "h5py", "zarr", "anndata"
#: Values to read at once, if this module can choose: 16 MB in single precision.
PIECE = 2**22


class Chunk(NamedTuple):
    """Some samples as they are read, before any check."""

    X: Any  # (n, p)
    y: Any = None  # (n,)
    sample_weight: Any = None  # (n,)


class Source:
    """Data in pieces. Every reading must give the same samples."""

    #: Whether the source can be read only once.
    once = False
    #: Number of samples in the first reading.
    n_samples: int | None = None

    def read(self, generator: torch.Generator | None = None) -> Iterator[Chunk]:
        """Yield the pieces, in order or shuffled by `generator` if the source can do that.

        Raises
        ------
        TypeError, ValueError
            If a piece is not a table, or if the number of samples differs from the first reading.
        """
        n = 0
        for chunk in self._read(generator):
            X = as_table(chunk.X, chunk=True)
            n += (size := shape_of(X)[0])
            if self.n_samples is not None and n > self.n_samples:
                break
            if size:
                yield chunk._replace(X=X)
        if self.n_samples is None and n:
            self.n_samples = n
        if n != self.n_samples:
            raise ValueError(self._inconsistent(n))

    def _inconsistent(self, n: int) -> str:
        """Return the message for a wrong number of samples."""
        if self.n_samples is None:
            if not self.once:
                return "X holds no samples. Pass a source that yields some when it is read."
            return (
                "X holds no samples. An iterator can be read only once: pass a new one, or a "
                "function that returns one."
            )
        found = "at least " * (n > self.n_samples) + f"{n} samples"
        return (
            f"X yields {found} when it is read again, but {self.n_samples} the first time. Every "
            "epoch reads all of X again, and a generator can be read only once. Pass a function "
            "that returns a new generator, and do not change the data during the fit."
        )

    def _read(self, generator: torch.Generator | None) -> Iterator[Chunk]:
        raise NotImplementedError


class Iteration(Source):
    """Chunks X, (X, y) or (X, y, weight), from an iterable or a function that returns one.

    The order of the chunks is not changed. The function may also return any other source.
    """

    def __init__(self, chunks: Iterable[Any] | Callable[[], Any]) -> None:
        self.chunks = chunks
        self.once = isinstance(chunks, Iterator)

    def _read(self, generator: torch.Generator | None) -> Iterator[Chunk]:
        chunks: Any = self.chunks
        if callable(chunks):
            chunks = chunks()
            source = as_source(chunks)
            if source is not None:
                yield from source._read(generator)
                return
            if hasattr(chunks, "shape") or not isinstance(chunks, Iterable):
                raise TypeError(
                    f"X={brief(self.chunks)} returned {brief(chunks)}, but a function must return "
                    "an iterable, such as a generator, of chunks X, (X, y) or (X, y, "
                    "sample_weight)."
                )
        for item in chunks:
            # A list from a DataLoader holds the parts of a chunk. Another list may hold rows.
            is_parts = isinstance(item, tuple | list) and len(item) > 0
            is_parts = is_parts and (isinstance(chunks, DataLoader) or n_dims(item[0]) > 1)
            yield _as_chunk(item if is_parts else [item])


class Blocks(Source):
    """Blocks of rows that can be read alone. A shuffle changes the order of the blocks only."""

    def __init__(self, n_blocks: int, read_block: Callable[[int], Iterator[Chunk]]) -> None:
        self.n_blocks, self.read_block = n_blocks, read_block

    def _read(self, generator: torch.Generator | None) -> Iterator[Chunk]:
        order = torch.arange(self.n_blocks, device="cpu")
        if generator is not None and self.n_blocks > 1:
            order = torch.randperm(self.n_blocks, generator=generator, device="cpu")
        for i in order.tolist():
            yield from self.read_block(i)


class Samples(Source):
    """A map-style torch dataset of samples x, (x, y) or (x, y, weight). Samples are shuffled."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def _read(self, generator: torch.Generator | None) -> Iterator[Chunk]:
        n = len(self.dataset)  # type: ignore[arg-type]
        order = torch.arange(n, device="cpu")
        if generator is not None:
            order = torch.randperm(n, generator=generator, device="cpu")
        for rows in order.split(CHUNK) if n else ():
            yield self._fetch(rows.sort().values.tolist())

    def _fetch(self, indices: list[int]) -> Chunk:
        if hasattr(self.dataset, "__getitems__"):
            items = self.dataset.__getitems__(indices)
        else:
            items = [self.dataset[i] for i in indices]
        return _collate(items)


def as_source(X: Any, y: Any = None, sample_weight: Any = None) -> Source | None:
    """Return the source that reads X in pieces; None if X is a table in memory or a memory map.

    Parameters
    ----------
    X : object
        What a user passed.
    y, sample_weight : object
        For an array on disk or a Dask array, arrays with a value for each sample. For a Dask
        DataFrame or a Parquet dataset, the name of a column. For other sources None, because X
        yields them.

    Raises
    ------
    TypeError, ValueError
        If `X` is a source that cannot be read, or `y` or `sample_weight` is not as described.
    """
    if isinstance(X, type) and issubclass(X, Dataset):
        raise TypeError(f"X is the class {X.__name__}. Pass a dataset, {X.__name__}(...).")
    if type(X).__module__.startswith(("dask.delayed", "dask.bag")):
        raise TypeError(f"X={brief(X)} is not a Dask array or DataFrame. Pass X.compute().")
    if hasattr(X, "dask") and X.ndim != 2:
        as_table(X)
    if hasattr(X, "dask") and hasattr(X, "blocks"):
        return _dask_array(X, y, sample_weight)
    if hasattr(X, "dask") and hasattr(X, "partitions"):
        return _dask_frame(X, y, sample_weight)
    if type(X).__module__.startswith("pyarrow") and hasattr(X, "get_fragments"):
        return _parquet(X, y, sample_weight)
    if _is_on_disk(X):
        return _on_disk(X, y, sample_weight)
    if not isinstance(X, Dataset) and (
        any(hasattr(X, name) for name in ("shape", "__array__", "__getitem__", "__dataframe__"))
        or not (callable(X) or isinstance(X, Iterable))
    ):
        return None
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"{name}={brief(value)} was passed with X={brief(X)}, whose chunks must hold it. "
                "Let X yield (X, y) or (X, y, sample_weight)."
            )
    if isinstance(X, IterableDataset):
        return Iteration(lambda: DataLoader(X, batch_size=CHUNK, collate_fn=_collate))
    if isinstance(X, Dataset):
        if not hasattr(X, "__len__"):
            raise TypeError(
                f"X={brief(X)} is a torch dataset without a length. Define __len__, or derive it "
                "from IterableDataset."
            )
        return Samples(X)
    if callable(X):
        _check_needs_nothing(X)
    return Iteration(X)


def _check_needs_nothing(function: Callable[..., Any]) -> None:
    """Check that a function can be called without arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions in C have none
        return
    try:
        signature.bind()
    except TypeError as error:
        raise TypeError(
            f"X={brief(function)} is a function that needs arguments ({error}). Pass a function "
            "without, such as functools.partial(function, argument)."
        ) from None


def _is_on_disk(X: Any) -> bool:
    """Return whether X is a table on disk that is read by slices. A memory map is not one."""
    packages = {cls.__module__.partition(".")[0] for cls in type(X).__mro__}
    return not packages.isdisjoint(ON_DISK) and hasattr(X, "dtype") and n_dims(X) == 2


def _on_disk(X: Any, y: Any, sample_weight: Any) -> Source:
    size = max(1, PIECE // max(1, X.shape[1]))
    beside = [_beside(X, *part) for part in (("y", y), ("sample_weight", sample_weight))]

    def read_block(i: int) -> Iterator[Chunk]:
        rows = slice(i * size, (i + 1) * size)
        yield Chunk(X[rows], *(None if part is None else part[rows] for part in beside))

    return Blocks(-(-X.shape[0] // size), read_block)


def _beside(X: Any, name: str, value: Any) -> Any:
    """Return an array with a value for each row of X, or None."""
    if value is None:
        return None
    value = np.asarray(to_numpy(value, name))
    if value.shape[:1] != X.shape[:1]:
        raise ValueError(
            f"{name} has the shape {value.shape}, but X has the shape {X.shape}. Pass a value for "
            "each row of X, or a Dask array in the same blocks as X."
        )
    return value


def _dask_array(X: Any, y: Any, sample_weight: Any) -> Source:
    if X.ndim == 2 and len(X.chunks[1]) > 1:
        X = X.rechunk({1: -1})
    sizes = X.chunks[0]
    stops = np.cumsum(sizes)  # NaN where Dask does not know

    def part(name: str, value: Any) -> Callable[[int], Any]:
        if hasattr(value, "dask"):
            if hasattr(value, "rechunk") and not np.isnan(stops).any():
                value = value.rechunk({0: sizes}) if value.shape[:1] == X.shape[:1] else value
            if value.npartitions != len(sizes):
                raise ValueError(
                    f"{name} has {value.npartitions} blocks, but X has {len(sizes)}. Give both "
                    "the same blocks (rechunk)."
                )
            return lambda i: value.partitions[i].compute()
        value = _beside(X, name, value)
        return lambda i: None if value is None else value[stops[i] - sizes[i] : stops[i]]

    labels, weights = part("y", y), part("sample_weight", sample_weight)

    def read_block(i: int) -> Iterator[Chunk]:
        yield Chunk(X.blocks[i].compute(), labels(i), weights(i))

    return Blocks(len(sizes), read_block)


def _dask_frame(X: Any, y: Any, sample_weight: Any) -> Source:
    names = _columns(X, list(X.columns), y, sample_weight)

    def read_block(i: int) -> Iterator[Chunk]:
        yield _split(X.partitions[i].compute(), *names)

    return Blocks(X.npartitions, read_block)


def _parquet(X: Any, y: Any, sample_weight: Any) -> Source:
    names = _columns(X, X.schema.names, y, sample_weight)
    options = {
        "batch_size": max(1, PIECE // max(1, len(X.schema.names))),
        "batch_readahead": 1,  # pieces read ahead take memory
    }
    try:
        parts = [
            part
            for fragment in X.get_fragments()
            for part in getattr(fragment, "split_by_row_group", lambda whole=fragment: [whole])()
        ]
        options["schema"] = X.schema
    except ValueError:  # a filter or a projection allows no fragments
        parts = [X]

    def read_block(i: int) -> Iterator[Chunk]:
        for batch in parts[i].to_batches(**options):
            if batch.num_rows:
                yield _split(batch.to_pandas(), *names)

    return Blocks(len(parts), read_block)


def _columns(X: Any, names: list[str], y: Any, sample_weight: Any) -> tuple[str | None, str | None]:
    for argument, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None and not (isinstance(value, str) and value in names):
            raise ValueError(
                f"{argument}={brief(value)} must name a column of X={brief(X)}. The columns are "
                f"{brief(names)}."
            )
    return y, sample_weight


def _split(frame: Any, y: str | None, sample_weight: str | None) -> Chunk:
    taken = [name for name in (y, sample_weight) if name is not None]
    return Chunk(
        frame.drop(columns=taken),
        *(None if name is None else frame[name] for name in (y, sample_weight)),
    )


def _collate(items: list[Any]) -> Chunk:
    """Return samples x, (x, y) or (x, y, weight) as a chunk."""
    try:
        batch = default_collate(items)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"X yields samples that do not form an array: {error}") from error
    return _as_chunk(batch if isinstance(items[0], tuple | list) else [batch])


def _as_chunk(parts: Any) -> Chunk:
    """Return a chunk from the parts X, y and weight, of which the last may be missing."""
    if len(parts) > len(Chunk._fields):
        raise ValueError(
            f"X yields {len(parts)} parts at a time, but a chunk, or a sample of a dataset, must "
            "be X, (X, y) or (X, y, sample_weight)."
        )
    return Chunk(*map(to_numpy, parts, Chunk._fields))


class StreamDataset(IterableDataset[Batch]):
    """A source that yields batches, as an `ArrayDataset` does.

    Pieces smaller than a batch are joined. The rows of a larger piece are shuffled, and divided by
    `EvenBatches`.

    Parameters
    ----------
    source : Source
        The source.
    check : callable
        Returns the samples of a `Chunk`, checked and ready for training, as an `ArrayDataset`.
    survey : Survey
        Statistics of the samples, which `add` gathers.
    """

    def __init__(
        self, source: Source, check: Callable[[Chunk], ArrayDataset], survey: Survey
    ) -> None:
        self.source, self.check, self._survey = source, check, survey
        self.standardization: Standardization | None = None
        self.batch_size = 1
        self.generator: torch.Generator | None = None
        self.part = (0, 1)
        self.sizes: list[int] = []  # of the pieces
        self._digest = hashlib.sha256()

    def add(self, X: Any, y: NDArray[Any] | None, weight: NDArray[Any] | None) -> None:
        """Add a piece of the first reading."""
        self._survey.add(X, weight)
        self.sizes.append(X.shape[0])
        self._digest.update(digest(X.shape, checksum(X), y, weight).encode())

    def __len__(self) -> int:
        return self._survey.n_samples

    def repeats(self) -> bool:
        """Return False: a search for copies would need another reading."""
        return False

    @property
    def incomplete(self) -> bool:
        """Whether any value is missing, NaN."""
        return self._survey.incomplete

    def survey(self, moments: bool, ends: bool = False) -> Survey:
        """Return the statistics of the first reading."""
        return self._survey

    def digest(self) -> str:
        """Return a hash of the samples, labels and weights of all pieces, in their order."""
        return self._digest.hexdigest()

    def n_batches(self, batch_size: int) -> int:
        """Return the number of batches in an epoch, if the pieces come in order."""
        n_batches = waiting = 0
        for size in self.sizes:
            waiting += size
            if waiting >= batch_size:
                n_batches, waiting = n_batches - (-waiting // batch_size), 0
        return n_batches + (waiting > 0)

    def batched(
        self, batch_size: int, generator: torch.Generator | None, part: tuple[int, int] = (0, 1)
    ) -> StreamDataset:
        """Return a copy to iterate over in batches; the arguments are those of `EvenBatches`."""
        batched = copy.copy(self)
        batched.batch_size, batched.generator, batched.part = batch_size, generator, part
        return batched

    def __iter__(self) -> Iterator[Batch]:
        for data in self._pools():
            labeled = None if self.generator is None else data.labeled_rows
            part = self.generator, self.part
            for rows in EvenBatches(len(data), self.batch_size, *part, labeled):
                yield data.__getitems__(rows)

    def _pools(self) -> Iterator[ArrayDataset]:
        """Yield the pieces, joined until they fill a batch."""
        pool: list[ArrayDataset] = []
        for chunk in self.source.read(self.generator):
            pool.append(self.check(chunk))
            if sum(map(len, pool)) >= self.batch_size:
                yield concatenate(pool)
                pool = []
        if any(map(len, pool)):
            yield concatenate(pool)

    def labeled(self, pick: Pick, size: int) -> Iterator[Picked]:
        """Yield the samples that `pick` picks from each piece, as an `ArrayDataset` does."""
        for data in map(self.check, self.source.read()):
            yield from data.labeled(pick, size)


def concatenate(parts: list[ArrayDataset]) -> ArrayDataset:
    """Return one dataset with the samples of all parts, which have the same features."""
    if len(parts) == 1:
        return parts[0]
    X = [part.X[:] if isinstance(part.X, Rows) else part.X for part in parts]
    stack = sparse.vstack(X, "csr") if any(map(sparse.issparse, X)) else np.concatenate(X)
    labels, weight = (
        None if values[0] is None else np.concatenate(values)
        for values in zip(*((part.labels, part.weight) for part in parts), strict=True)
    )
    incomplete = any(part.incomplete for part in parts)
    return ArrayDataset(stack, labels, weight, parts[0].standardization, incomplete)
