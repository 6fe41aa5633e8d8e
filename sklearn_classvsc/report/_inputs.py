"""Check the arguments of `factor_report`, and pick the rows that are looked at closely."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

import sklearn_classvsc

from .._tables import check_image_shape
from ..inspection import feature_names as names_at_fit
from ..metrics._counts import check_labels
from ._words import clean

#: Rows that are looked at one dimension at a time.
MAX_ROWS = 2000


class Inputs(NamedTuple):
    """Checked arguments; only the samples that have a label."""

    est: Any
    X: Any
    y: NDArray[Any]
    labels: NDArray[np.intp]  # (n,), positions in `classes`
    classes: NDArray[Any]  # (C,)
    class_names: list[str]
    feature_names: list[str]
    image_shape: tuple[int, ...] | None
    n_unlabeled: int
    rows: NDArray[np.intp]  # those that are inspected, equally many of each class


def check_inputs(
    est: Any,
    X: Any,
    y: ArrayLike,
    class_names: Sequence[Any] | None,
    feature_names: Sequence[Any] | None,
    image_shape: Sequence[int] | None,
) -> Inputs:
    """Check everything; parameters and errors are those of `factor_report`."""
    _check_estimator(est)
    X = X if hasattr(X, "shape") else np.asarray(X)
    check_consistent_length(X, y)
    y, unlabeled = np.asarray(y), getattr(est, "unlabeled", None)
    n_unlabeled = 0
    if unlabeled is not None:
        labeled = np.flatnonzero(y != unlabeled)
        n_unlabeled = len(y) - len(labeled)
        X, y = take(X, labeled), y[labeled]
    if hasattr(est, "bin_edges_"):
        y = est.labels_of(y)
        class_names = class_names or [
            f"{low:.4g} to {high:.4g}" for low, high in pairwise([-np.inf, *est.bin_edges_, np.inf])
        ]
    classes, labels = check_labels(y, X)
    known = names_at_fit(est, est.n_features_in_)
    return Inputs(
        est,
        X,
        np.ravel(y),
        labels,
        classes,
        _names(class_names, classes.tolist(), "class_names", "class of y, in the order of"),
        _names(feature_names, known, "feature_names", "feature of X, in the order of"),
        check_image_shape(image_shape, est.n_features_in_),
        n_unlabeled,
        _spread(labels, max(2, MAX_ROWS // len(classes))),
    )


def take(X: Any, rows: NDArray[np.intp]) -> Any:
    """Return these rows of an array, a sparse matrix or a DataFrame."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _check_estimator(est: Any) -> None:
    if isinstance(est, Pipeline):
        raise TypeError(
            "est is a Pipeline, but the report is of the transformer at its end: pass est[-1], and "
            "est[:-1].transform(X) as X. Effects are then in the units of that X."
        )
    if not isinstance(est, sklearn_classvsc.VAETransformer):
        raise TypeError(
            f"est is a {type(est).__name__}, but must be a fitted VAETransformer, VSCTransformer "
            "or ClassVSCTransformer: judge other codes by sklearn_classvsc.metrics."
        )
    check_is_fitted(est)


def _names(given: Sequence[Any] | None, own: list[Any], name: str, what: str) -> list[str]:
    if given is None:
        return [clean(label) for label in own]
    if len(given) != len(own):
        raise ValueError(
            f"{name} has {len(given)} entries, but must have {len(own)}: one for each {what} "
            f"{[*own[:5], *(['...'] if own[5:] else [])]}."
        )
    return [clean(label) for label in given]


def _spread(labels: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return `n` rows of each class, or all it has, evenly spaced; in the order of the data."""
    ordered = np.argsort(labels, kind="stable")
    groups = np.split(ordered, np.bincount(labels).cumsum()[:-1])
    picked = [rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)] for rows in groups]
    return np.sort(np.concatenate(picked))
