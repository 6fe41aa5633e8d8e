"""Validation of activations and labels, and the counts that all class-wise metrics use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, csr_array, issparse, sparray, spmatrix
from sklearn.utils import check_array, check_consistent_length, column_or_1d, gen_batches
from sklearn.utils.multiclass import check_classification_targets

from sklearn_classvsc.labels import Indicator, as_indicator

MatrixLike: TypeAlias = ArrayLike | sparray | spmatrix

# Dense input is read in slices of about so many elements (32 MB of float64), so that temporaries
# stay small.
_BATCH_ELEMENTS = 2**22


@dataclass(frozen=True)
class ClassCounts:
    """How often each dimension is active in each class.

    Attributes
    ----------
    classes : ndarray of shape (C,)
        Sorted class labels, or the labels of the columns of an indicator.
    sizes : ndarray of shape (C,)
        Samples per class, n_c.
    active : ndarray of shape (C, d)
        Samples of the class in which the dimension is active, k_cj.
    """

    classes: NDArray[Any]
    sizes: NDArray[np.float64]
    active: NDArray[np.float64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Probability that a dimension is active in a class, p_cj, of shape (C, d)."""
        rates: NDArray[np.float64] = self.active / np.maximum(self.sizes, 1)[:, None]
        return rates

    def restrict(self, *, dimensions: Any = slice(None), classes: Any = slice(None)) -> ClassCounts:
        """Keep the given dimensions and classes (masks)."""
        return ClassCounts(
            self.classes[classes], self.sizes[classes], self.active[classes][:, dimensions]
        )

    def with_min_samples(self, min_samples: int = 5, *, at_least: int) -> ClassCounts:
        """Keep the classes of `min_samples` samples or more; there must be `at_least` of them."""
        large = self.sizes >= min_samples
        if (n_large := int(large.sum())) < at_least:
            raise ValueError(
                f"y has {n_large} of its {len(large)} classes with at least {min_samples} samples, "
                f"but at least {at_least} are needed: pass more samples or more classes. In "
                "cross-validation, split with StratifiedKFold."
            )
        return self.restrict(classes=large)


def class_counts(activations: MatrixLike, y: ArrayLike) -> ClassCounts:
    """Count the active samples of each class and dimension, in O(n d) time."""
    A = check_matrix(activations, "activations")
    if (indicator := as_indicator(y)) is not None:
        return _label_counts(A, indicator)
    classes, labels = check_labels(y, A)
    sizes = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    return ClassCounts(classes, sizes, class_sums(A, labels, len(classes), of_support=True))


def _label_counts(A: Any, y: Indicator) -> ClassCounts:
    """Count the samples of each label, whatever other labels they have."""
    check_consistent_length(A, y.members)
    members = csr_array(y.members, dtype=np.float64)
    active = np.zeros((y.members.shape[1], A.shape[1]))
    for rows in row_batches(A, min_rows=len(active)):
        active += to_dense(members[rows].T @ (A[rows] != 0))
    names = np.arange(len(active)) if y.names is None else y.names
    return ClassCounts(names, y.members.sum(axis=0, dtype=np.float64), active)


def check_matrix(
    matrix: MatrixLike, name: str, *, accept_sparse: str | bool = "csr", missing: bool = False
) -> Any:
    """Validate a numeric matrix, and return it dense or in the sparse format `accept_sparse`.

    Its values must be finite; with `missing`, they may be NaN too.
    """
    finite = "allow-nan" if missing else True
    checked: Any = check_array(
        matrix, accept_sparse=accept_sparse, ensure_all_finite=finite, input_name=name
    )
    # Sparse arrays, since `*` of sparse matrices multiplies matrices.
    as_array: Any = csc_array if accept_sparse == "csc" else csr_array
    return as_array(checked) if issparse(checked) else checked


def split_missing(matrix: Any) -> tuple[Any, Any]:
    """Return where values are missing, and the matrix with 0 there; CSR stays CSR."""
    is_sparse = issparse(matrix)
    values = matrix.data if is_sparse else matrix
    missing = np.isnan(values)
    parts = missing, np.where(missing, 0, values) if missing.any() else values
    if not is_sparse:
        return parts
    where, known = (
        csr_array((part, matrix.indices, matrix.indptr), shape=matrix.shape) for part in parts
    )
    return where, known


def to_dense(matrix: Any) -> Any:
    """Return the matrix as an ndarray, whether it is sparse or not."""
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


def check_labels(y: ArrayLike, matrix: Any) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Validate class labels and code them as 0 ... C - 1: ``(classes, labels)``."""
    check_consistent_length(matrix, y)
    if as_indicator(y) is not None:
        raise ValueError(
            f"y has the shape {np.shape(y)}, but each sample must have one label: pass one column "
            "of the indicator at a time."
        )
    y = column_or_1d(y)
    if missing := pd.Series(y, dtype=object).isna().sum():
        raise ValueError(
            f"y has {missing} missing labels, but every sample needs a class: leave these samples "
            "out of both arrays."
        )
    check_classification_targets(y)
    classes, labels = np.unique(y, return_inverse=True)
    return classes, labels


def random_rows(n_rows: int, at_most: int) -> NDArray[np.intp]:
    """Return at most so many random rows, ascending, the same at every call.

    A regular stride could miss a class.
    """
    if n_rows <= at_most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(0).choice(n_rows, at_most, replace=False))


def balanced_rows(labels: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return at most `n` random rows of each class, in the order of the data."""
    ordered = np.argsort(labels, kind="stable")
    groups = np.split(ordered, np.bincount(labels).cumsum()[:-1])
    picked = [rows[random_rows(len(rows), n)] for rows in groups]
    return np.sort(np.concatenate(picked))


def class_sums(
    matrix: Any, labels: NDArray[np.intp], n_classes: int, *, of_support: bool = False
) -> NDArray[np.float64]:
    """Sum the rows of each class, or count their non-zeros: (n, d) -> (C, d)."""
    sums = np.zeros((n_classes, matrix.shape[1]))
    # A batch costs C d for its sums: larger batches keep that below the cost of reading them.
    for rows in row_batches(matrix, min_rows=n_classes):
        n_rows = rows.stop - rows.start
        one_hot = csr_array(
            (np.ones(n_rows), labels[rows], np.arange(n_rows + 1)), shape=(n_rows, n_classes)
        )
        batch = matrix[rows] != 0 if of_support else matrix[rows]
        sums += to_dense(one_hot.T @ batch)
    return sums


def row_batches(matrix: Any, *, min_rows: int = 1) -> Iterator[slice]:
    """Return slices of rows that bound the temporaries of a pass over a matrix."""
    n_samples, n_stored = matrix.shape[0], max(1, matrix.size)
    batch_size = max(min_rows, n_samples * _BATCH_ELEMENTS // n_stored)
    batches: Iterator[slice] = gen_batches(n_samples, batch_size)
    return batches
