"""Checks of X as a table of shape (n_samples, n_features), with advice on what to pass instead.

They look only at types and shapes, so that unsuitable objects are refused at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ._messages import brief

#: Attributes of arrays and DataFrames.
PROTOCOLS = "__array__", "__array_interface__", "__array_struct__", "__dlpack__", "__dataframe__"
#: How to get an array from an object that has this attribute.
WAYS = {
    "X": "{0}.X",  # AnnData
    "to_scipy_sparse": "{0}.to_scipy_sparse()",  # sparse
    "to_pandas": "{0}.to_pandas()",  # Hugging Face, Ibis
    "toPandas": "{0}.toPandas()",  # Spark
    "collect": "{0}.collect()",  # Polars
    "compute": "{0}.compute()",  # Dask
    "to_memory": "{0}.to_memory()",
    "to_numpy": "{0}.to_numpy()",
    "numpy": "{0}.numpy()",
    "__getitem__": "numpy.stack(list({0})), or lambda: iter({0}) if it holds chunks",
}


def as_table(X: Any, name: str = "X", chunk: bool = False) -> Any:
    """Return a table that scikit-learn can read, with tensors and masked arrays as arrays.

    Parameters
    ----------
    X : object
        Argument of the user.
    name : str
        Name of the argument.
    chunk : bool
        Whether X is a chunk that a source yields, which may be empty.

    Raises
    ------
    TypeError
        If X is not an array, DataFrame, sparse matrix or list of rows. The message says what to
        pass instead.
    ValueError
        If values are masked, complex or dates, or if X does not have two axes.
    """
    who = f"A chunk of {name}" if chunk else name
    X = to_numpy(X, who)
    if (way := _way_on(X, name)) is not None:
        raise TypeError(
            f"{who} is {brief(X)} ({type(X).__name__}), which is not an array, DataFrame or sparse "
            f"matrix: {way}."
        )
    if not hasattr(X, "shape") and not isinstance(X, Sequence):
        X = np.asarray(X)  # it supports a protocol of arrays, and nothing else
    if isinstance(X, np.ndarray) and X.dtype.names:
        raise ValueError(
            f"{who} is a structured array of the fields {brief(X.dtype.names)}: pass "
            f"numpy.lib.recfunctions.structured_to_unstructured({name})."
        )
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    if kind in ("m", "M"):
        raise ValueError(
            f"Expected real numbers, but {who} has the dtype {X.dtype}: pass numbers, such as the "
            "days since a date."
        )
    if kind == "c":
        raise ValueError(
            f"Complex data not supported: {who} has the dtype {X.dtype}. Pass real numbers, "
            f"{name}.real and {name}.imag side by side."
        )
    is_list, shape = isinstance(X, list | tuple), shape_of(X)
    is_ragged = is_list and len(shape) == 2 and n_dims(X[-1]) != 1  # (x, y) is one sample
    if (len(shape) != 2 or is_ragged) and not (chunk and shape == (0,)):
        raise ValueError(_not_two_dimensional(X, name, who, chunk))
    return X


def to_numpy(value: Any, name: str) -> Any:
    """Return tensors and masked arrays, or lists of them, as arrays, and the rest unchanged.

    Raises
    ------
    TypeError
        If NumPy cannot hold the tensor.
    ValueError
        If values are masked, since these are not data.
    """
    if isinstance(value, list | tuple) and any(
        isinstance(item, Tensor | np.ma.MaskedArray) for item in value
    ):
        return type(value)([to_numpy(item, name) for item in value])
    if isinstance(value, np.ma.MaskedArray):
        if n_masked := np.ma.count_masked(value):
            nan = ", with numpy.nan if they are missing" if name.endswith("X") else ""
            raise ValueError(
                f"{name} is a masked array, and {n_masked} of its {value.size} values are masked: "
                f"fill them, {name}.filled(...){nan}, or leave such samples out."
            )
        return value.data
    return _from_tensor(value, name) if isinstance(value, Tensor) else value


def _from_tensor(tensor: Tensor, name: str) -> NDArray[Any]:
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()  # NumPy has no bfloat16
    try:
        array: NDArray[Any] = tensor.numpy(force=True)
    except (RuntimeError, TypeError) as error:  # NumPy lacks the layout or dtype
        kind = f"{tensor.layout} on {tensor.device}"
        raise TypeError(
            f"{name} is a tensor of {kind}: pass a dense one, {name}.to_dense()."
        ) from error
    return array


def _way_on(X: Any, name: str) -> str | None:
    """Return what to pass instead of X if it is neither an array nor a list of rows."""
    if isinstance(X, type):
        return f"pass an instance, {X.__name__}(...)"
    if sparse.issparse(X):  # before mappings, since one sparse format is a mapping
        return None
    if isinstance(X, str | bytes | PathLike):
        return "read the file first, by pandas.read_csv or numpy.load"
    if isinstance(X, Mapping):
        return f"pass one of its entries, {name}[key], or pandas.DataFrame({name})"
    is_array = any(hasattr(X, protocol) for protocol in PROTOCOLS)
    if isinstance(X, Sequence) or (is_array and not hasattr(X, "to_scipy_sparse")):
        return None
    for attribute, way in WAYS.items():
        if hasattr(X, attribute):
            return f"pass {way.format(name)}"
    return "pass an array of shape (n_samples, n_features)"


def _not_two_dimensional(X: Any, name: str, who: str, chunk: bool) -> str:
    """Say how to make a table from X, which does not have two axes."""
    n, is_list = n_dims(X), isinstance(X, list | tuple)
    found = f"has the shape {brief(shape_of(X))}"
    if is_list:
        found = f"is a {type(X).__name__} of {brief([type(item).__name__ for item in X[:3]])}"
    what = f"{who} {found}, but must be a table of shape (n_samples, n_features)"
    if n > 2:
        array = f"numpy.asarray({name})" if is_list else name
        way = f"flatten each sample, {array}.reshape(len({name}), -1)"
        chunks = f"; if it holds chunks, join them, or pass lambda: {name}"
        chunks *= is_list and name == "X"
        return f"{what}: {way}{chunks}."
    if chunk:
        return f"{what}: let {name} yield several samples at a time, or (X, y) with labels."
    return (
        f"{who} must be a table of shape (n_samples, n_features). Expected 2D array, got {n}D "
        f"array instead: {who} {found}. Reshape your data, by "
        f"numpy.reshape({name}, (-1, 1)) if it is a single feature and (1, -1) if a single sample."
    )


@contextmanager
def columns_named(X: Any) -> Iterator[None]:
    """Name the columns of a table that scikit-learn refuses, and say what to do."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if "infinity" in str(error) and (cell := next(_infinite(X), None)):
            where = f"The first is in row {cell[0]}, column {cell[1]!r}"
            raise ValueError(f"{error} {where}. NaN stands for what is missing.") from error
        if "must be in the same order" in str(error):
            raise ValueError(f"{error}Pass X[estimator.feature_names_in_].") from error
        columns = list(X.items()) if isinstance(X, pd.DataFrame) else []
        found = [f"{name!r} ({values.dtype})" for name, values in columns if not _is_real(values)]
        if not found:
            raise
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"X has columns that cannot be read as real numbers: {', '.join(found[:5])}{more}. "
            f"Encode them, fill missing values, or drop them. {error}"[:400]
        ) from error


def _infinite(X: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the row and the column of each infinite number, lazily, since a table may be large."""
    if hasattr(X, "toarray"):
        rows, columns, values = sparse.find(X)
        infinite = np.isinf(values)
        yield from zip(rows[infinite].tolist(), columns[infinite].tolist(), strict=True)
    elif isinstance(X, pd.DataFrame):
        for name, column in X.items():
            where = np.isinf(column.to_numpy(float, na_value=np.nan))
            yield from ((row, name) for row in np.flatnonzero(where).tolist())
    else:
        for row, sample in enumerate(X):
            where = np.isinf(np.asarray(sample, float))
            yield from ((row, column) for column in np.flatnonzero(where).tolist())


def _is_real(values: pd.Series[Any]) -> bool:
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "mMc":
        return False
    try:
        values.astype(float)
    except (TypeError, ValueError):
        return False
    return True


def shape_of(X: Any) -> tuple[Any, ...]:
    """Return the shape of an array, or of nested lists by their first entries."""
    if hasattr(X, "shape"):
        return tuple(X.shape)
    if isinstance(X, Sequence) and not isinstance(X, str | bytes):
        return len(X), *(shape_of(X[0]) if len(X) else ())
    return ()


def n_dims(X: Any) -> int:
    """Return the number of axes."""
    return len(shape_of(X))


def positive_integers(value: Any) -> list[int] | None:
    """Return a sequence of positive integers as a list, or None if it is anything else."""
    is_sequence = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    if not is_sequence or not all(isinstance(x, Integral) and int(x) > 0 for x in value):
        return None
    return [int(x) for x in value]


def check_image_shape(image_shape: Sequence[int] | None, n_features: int) -> tuple[int, ...] | None:
    """Return the shape of grey or colour images with so many features, or None if not given."""
    if image_shape is None:
        return None
    shape = tuple(positive_integers(image_shape) or ())
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape is {brief(image_shape)}, but must be (height, width) or (height, width, "
            f"3) of the {n_features} features. Leave it out if X does not hold images."
        )
    return shape
