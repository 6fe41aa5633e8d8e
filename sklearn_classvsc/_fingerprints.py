"""Checksums that recognise samples, labels and weights, independent of their form in memory."""

from __future__ import annotations

import hashlib
import mmap
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Bytes up to which a memory map is read in full, and the rows read of a larger one.
FULL, ROWS = 2**30, 1000
#: Bytes of samples to read together.
BLOCK = 2**22


def checksum(X: Any) -> str:
    """Return a checksum of samples, dense or CSR, whether or not CSR data store zeros.

    It reads every row, at about 1 GB/s. From a memory map of more than 1 GiB, it reads only 1,000
    evenly spread rows.
    """
    n, width = X.shape
    step = max(1, BLOCK // max(1, width * X.dtype.itemsize))
    if _is_mapped(X) and n * width * X.dtype.itemsize > FULL:
        rows = np.unique(np.linspace(0, n - 1, min(n, ROWS)).astype(np.intp))
        blocks = (X[rows[i : i + step]] for i in range(0, len(rows), step))
    else:
        blocks = (X[i : i + step] for i in range(0, n, step))
    sums = [0, 0, 0]
    for block in blocks:
        for k, part in enumerate(_parts(block)):
            sums[k] = zlib.crc32(
                np.ascontiguousarray(part).reshape(-1).view(np.uint8).data, sums[k]
            )
    return " ".join(f"{value:08x}" for value in sums)


def digest(*values: Any) -> str:
    """Return a hash of arrays, numbers, strings and None, in their order.

    The hash depends on the types of numbers, but not on the container of strings.
    """
    found = hashlib.sha256()
    for value in values:
        _update(found, value)
    return found.hexdigest()


def _parts(block: Any) -> list[NDArray[Any]]:
    """Return the arrays that make up rows; for sparse rows, without zeros and in column order."""
    if not hasattr(block, "toarray"):
        return [np.asarray(block)]
    block = block.tocsr(copy=True)
    block.sum_duplicates()
    block.eliminate_zeros()
    return [np.diff(block.indptr).astype(np.int64), block.indices.astype(np.int64), block.data]


def _is_mapped(X: Any) -> bool:
    while X is not None:
        if isinstance(X, np.memmap | mmap.mmap):
            return True
        if isinstance(X, torch.Tensor):  # its `data` is a tensor again, without end
            return False
        if isinstance(X, memoryview):
            X = X.obj
        elif isinstance(X, np.ndarray):
            X = X.base
        else:  # `Rows`, or the values of a sparse array
            X = getattr(X, "X", getattr(X, "data", None))
    return False


def _update(found: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        found.update(f"array {value.shape} ".encode())
        if value.dtype.kind in "biufmM":
            value = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            found.update(f"{value.dtype.str} ".encode())
            found.update(value.reshape(-1).view(np.uint8))
            return
        value = value.tolist()
    if isinstance(value, list | tuple):
        found.update(f"list {len(value)} ".encode())
        for item in value:
            _update(found, item)
        return
    value = value.item() if isinstance(value, np.generic) else value
    text = value if isinstance(value, str) else f"{type(value).__name__} {value!r}"
    data = text.encode("utf-8", "surrogatepass")
    found.update(f"{'str' if text is value else 'item'} {len(data)} ".encode() + data)
