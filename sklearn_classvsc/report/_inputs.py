"""Check the arguments of `factor_report`, and pick the samples to inspect."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from .._estimator import SpikeSlabTransformer
from .._factor_names import Names, read_names
from .._messages import brief
from .._pipelines import (
    Through,
    core_of,
    feature_names,
    kinds_of,
    named_as,
    origins_of,
    sparse_codes,
    unroll,
)
from .._tables import as_table, check_image_shape
from ..labels import labeled_rows
from ..metrics._counts import balanced_rows, check_labels, check_matrix, split_missing, to_dense
from ..metrics._fidelity import is_counts, row_blocks
from ._words import clean

#: Most samples that are inspected, and most values that these may have as a dense array.
MAX_ROWS, MAX_DENSE = 2000, 2**22


class Inputs(NamedTuple):
    """Checked arguments, without the samples that have no label."""

    est: Any  # encodes and decodes X
    core: Any  # the transformer
    X: Any  # (n, f), in the columns of the page; array or CSR; missing values are decoded ones
    given: Any  # (n, f), the same with NaN for missing values
    Z: NDArray[Any]  # (n, d), the codes
    y: NDArray[Any]
    labels: NDArray[np.intp]  # (n,), positions in `classes`
    classes: NDArray[Any]  # (C,)
    class_names: list[str]
    feature_names: list[str]
    origins: list[str]  # (f,), the column of the table that each feature comes from
    kinds: list[str]  # (f,), "number", "category" or "date"
    image_shape: tuple[int, ...] | None
    names: dict[int, str]  # of dimensions, from the user
    n_refits: int
    n_unlabeled: int
    rows: NDArray[np.intp]  # to inspect, equally many of each class

    def inside(self, rows: Any) -> Any:
        """Return rows of X as the transformer takes them."""
        X = self.known(rows)
        return self.est.into(X) if isinstance(self.est, Through) else named_as(self.core, X)

    def known(self, rows: Any) -> Any:
        """Return rows of X with NaN where a value is missing."""
        return self.given[rows]

    @property
    def missing(self) -> float:
        """Fraction of the values that are missing."""
        return float(split_missing(self.given)[0].mean())

    @property
    def inspected(self) -> Any:
        """The inspected rows of X, dense if they are small."""
        X = self.X[self.rows]
        return to_dense(X) if X.shape[0] * X.shape[1] <= MAX_DENSE else X

    @property
    def counts(self) -> bool:
        """Whether the model is one for counts."""
        return is_counts(self.core)


def check_inputs(
    est: Any,
    X: Any,
    y: ArrayLike,
    class_names: Sequence[Any] | None,
    feature_names: Sequence[Any] | None,
    image_shape: Sequence[int] | None,
    names: Names,
    n_refits: int,
) -> Inputs:
    """Check the arguments; `factor_report` documents them and the errors."""
    core = core_of(est)
    _check_estimator(core, est)
    check_scalar(n_refits, "n_refits", Integral, min_val=0)
    est, X = unroll(est, X)
    X = as_table(X)
    n_given = X.shape[0] if hasattr(X, "shape") else len(X)
    X, read = labeled_rows(est, X, y)
    classes, labels = check_labels(read, X)
    Z = sparse_codes(est, X).toarray()
    table = check_matrix(X, "X", missing=True)
    return Inputs(
        est,
        core,
        _filled_in(table, est, Z),
        table,
        Z,
        read,
        labels,
        classes,
        _names(class_names, classes.tolist(), "class_names", "class of y, in the order of"),
        _features(est, feature_names),
        origins_of(est, _features(est, feature_names)),
        kinds_of(est, est.n_features_in_),
        check_image_shape(image_shape, est.n_features_in_),
        {j: clean(name) for j, name in read_names(names, core.n_components).items()},
        n_refits,
        n_given - len(read),
        balanced_rows(labels, max(2, MAX_ROWS // len(classes))),
    )


def _filled_in(table: Any, est: Any, Z: NDArray[Any]) -> Any:
    """Return samples with decoded values in place of missing ones."""
    missing = split_missing(table)[0]
    if not missing.sum():
        return table
    if not hasattr(table, "tocsr"):
        return np.where(missing, est.inverse_transform(Z), table)
    filled = table.copy()
    row_of = np.repeat(np.arange(len(Z)), np.diff(table.indptr))
    for rows in row_blocks(table):
        values = slice(table.indptr[rows.start], table.indptr[rows.stop])
        gaps = values.start + np.flatnonzero(missing.data[values])
        X_hat = np.asarray(est.inverse_transform(Z[rows]))
        filled.data[gaps] = X_hat[row_of[gaps] - rows.start, table.indices[gaps]]
    return filled


def _features(est: Any, given: Sequence[Any] | None) -> list[str]:
    known = feature_names(est, est.n_features_in_)
    return _names(given, known, "feature_names", "feature of X, in the order of")


def _check_estimator(core: Any, est: Any) -> None:
    if not isinstance(core, SpikeSlabTransformer):
        raise TypeError(
            f"est is a {type(est).__name__}, but must be a fitted VAETransformer, VSCTransformer "
            "or ClassVSCTransformer, or a Pipeline that holds one. Judge other codes with "
            "sklearn_classvsc.metrics."
        )
    check_is_fitted(core)


def _names(given: Sequence[Any] | None, own: list[Any], name: str, what: str) -> list[str]:
    if given is None:
        return [clean(label) for label in own]
    if len(given) != len(own):
        raise ValueError(
            f"{name} has {len(given)} entries, but must have {len(own)}: one for each {what} "
            f"{brief(own)}."
        )
    return [clean(label) for label in given]
