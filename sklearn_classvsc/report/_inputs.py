"""Check the arguments of `factor_report`, and pick the rows that are looked at closely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._estimator import SpikeSlabTransformer
from .._messages import brief
from .._tables import as_table, check_image_shape
from ..inspection import feature_names as names_at_fit
from ..labels import labeled_rows
from ..metrics._counts import check_labels, random_rows
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
    X = as_table(X)
    n_given = X.shape[0] if hasattr(X, "shape") else len(X)
    X, read = labeled_rows(est, X, y)
    classes, labels = check_labels(read, X)
    known = names_at_fit(est, est.n_features_in_)
    return Inputs(
        est,
        X,
        read,
        labels,
        classes,
        _names(class_names, classes.tolist(), "class_names", "class of y, in the order of"),
        _names(feature_names, known, "feature_names", "feature of X, in the order of"),
        check_image_shape(image_shape, est.n_features_in_),
        n_given - len(read),
        spread(labels, max(2, MAX_ROWS // len(classes))),
    )


def _check_estimator(est: Any) -> None:
    if isinstance(est, Pipeline):
        raise TypeError(
            "est is a Pipeline, but the report is of the transformer at its end: pass est[-1], and "
            "est[:-1].transform(X) as X. Effects are then in the units of that X."
        )
    if not isinstance(est, SpikeSlabTransformer):
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
            f"{brief(own)}."
        )
    return [clean(label) for label in given]


def spread(labels: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return `n` rows of each class at random, or all it has; in the order of the data."""
    ordered = np.argsort(labels, kind="stable")
    groups = np.split(ordered, np.bincount(labels).cumsum()[:-1])
    picked = [rows[random_rows(len(rows), n)] for rows in groups]
    return np.sort(np.concatenate(picked))
