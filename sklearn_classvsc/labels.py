"""Hierarchies of classes, and the reading of labels that the whole package shares."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.extensions import ExtensionArray
from sklearn.utils.validation import assert_all_finite, column_or_1d

from ._messages import brief, cut

__all__ = ["with_parents"]


def with_parents(
    y: ArrayLike, parents: Mapping[Hashable, Hashable], *, unlabeled: Any = None
) -> pd.DataFrame:
    """Return an indicator of the classes of samples and of the groups of these classes.

    :class:`~sklearn_classvsc.ClassVSCTransformer`, fitted to this indicator, lets the samples of a
    group share dimensions, as it does for the samples of a class.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels, one for each sample.
    parents : mapping
        The group of a class, such as ``{"boot": "footwear"}``. A group may belong to a group too. A
        class that is not a key has no group.
    unlabeled : object, default=None
        The value in `y` that means "no label". Such samples have a row of zeros.

    Returns
    -------
    indicator : DataFrame of shape (n_samples, n_labels)
        Holds 0 and 1, with a column for each class in sorted order and then for each group.

    Raises
    ------
    ValueError
        If a class belongs to itself through its groups, if `y` is not a vector of labels, or if `y`
        cannot hold `unlabeled`.

    See Also
    --------
    sklearn_classvsc.metrics.category_sharing_test : Test whether groups share dimensions.

    Examples
    --------
    >>> from sklearn_classvsc.labels import with_parents
    >>> with_parents(["boot", "shirt", "sandal"], {"boot": "footwear", "sandal": "footwear"})
       boot  sandal  shirt  footwear
    0     1       0      0         1
    1     0       0      1         0
    2     0       1      0         1
    """
    checked = check_y(y)
    if isinstance(checked, Indicator):
        raise ValueError(
            f"y is an indicator of {checked.members.shape[1]} labels, but each sample must have "
            "one class here: pass a vector of classes."
        )
    classes, index = np.unique(checked, return_inverse=True)
    labels = classes[has_label(classes, unlabeled)].tolist()
    lines = {label: _line(label, parents) for label in labels}
    names = list(dict.fromkeys([*lines, *(name for line in lines.values() for name in line)]))
    table = np.array(
        [[name in lines.get(label, ()) for name in names] for label in classes.tolist()]
    )
    return pd.DataFrame(table[index].astype(np.int8), columns=names)


def _line(label: Hashable, parents: Mapping[Hashable, Hashable]) -> list[Hashable]:
    """Return a class and its groups, from small to large."""
    line = [label]
    while line[-1] in parents:
        line.append(parents[line[-1]])
        if line[-1] in line[:-1]:
            circle = cut(" -> ".join(map(str, line)))
            raise ValueError(
                f"parents leads from {brief(label)} in a circle, {circle}: remove the parent of "
                "the largest group."
            )
    return line


class Indicator(NamedTuple):
    """The labels of samples that may have several."""

    members: NDArray[np.bool_]  # (n, C)
    names: NDArray[Any] | None  # (C,), if the columns have names


def as_indicator(y: Any) -> Indicator | None:
    """Return y as an indicator if it has a column for each label, else None."""
    try:
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError as error:
        raise ValueError(
            f"y is not an array of labels ({error}): pass one label for each sample, or an "
            "indicator (MultiLabelBinarizer makes it from lists of labels)."
        ) from error
    if len(shape) > 2:
        raise ValueError(
            f"y has the shape {shape}, but must be a vector of labels or an indicator."
        )
    if len(shape) < 2 or shape[1] < 2:
        return None
    values = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    members = np.ascontiguousarray(values == 1)
    other = values[~(members | (values == 0))]
    if other.size:
        raise ValueError(
            f"y has the shape {shape} and holds {brief(other[0])}, but several columns must be an "
            "indicator: 1 if a sample has the label of the column, else 0. Pass an indicator "
            "(MultiLabelBinarizer makes it), or a vector of one label for each sample."
        )
    return Indicator(members, np.asarray(y.columns) if hasattr(y, "columns") else None)


def pick(y: Any, rows: Any) -> Any:
    """Return some rows of labels."""
    return y._replace(members=y.members[rows]) if isinstance(y, Indicator) else y[rows]


def check_y(
    y: Any, n_samples: int | None = None, *, warn: bool = False
) -> NDArray[Any] | Indicator:
    """Return y as a vector with one label for each sample, or as an indicator.

    `fit`, metrics and displays all read labels by this function, so that they read them alike. With
    `warn`, a column vector gives the warning of scikit-learn's `fit`.
    """
    indicator = as_indicator(y)
    if indicator is None:
        if isinstance(y, pd.Series | ExtensionArray) and pd.api.types.is_bool_dtype(y):
            y = np.asarray(y, dtype=object)  # scikit-learn would turn pandas' booleans into numbers
        if isinstance(y, pd.Series | ExtensionArray) and y.dtype.kind == "O" and pd.isna(y).any():
            y = np.asarray(y, dtype=object)  # scikit-learn cannot compare pandas' NA
        y = column_or_1d(y, warn=warn)
        if y.dtype.kind != "f" and (missing := y[pd.isna(y)]).size:
            raise ValueError(
                f"y holds {brief(missing[0])}, which is not a label ({missing.size} of "
                f"{y.size} labels are missing): leave such samples out, or give them the label "
                "that unlabeled names."
            )
        assert_all_finite(y, input_name="y")
        if y.dtype.kind == "O":
            y = _of_one_kind(y)
    n_labels = len(y if indicator is None else indicator.members)
    if n_samples not in (None, n_labels):
        raise ValueError(
            f"X and y have inconsistent numbers of samples: X has {n_samples} and y {n_labels}."
        )
    return y if indicator is None else indicator


def _of_one_kind(y: NDArray[Any]) -> NDArray[Any]:
    """Return objects as integers or booleans if all of them are; check that they are labels."""
    if pd.api.types.infer_dtype(y, skipna=False) in ("integer", "boolean"):
        return pd.Series(y).infer_objects().to_numpy()
    for label in y:
        if not isinstance(label, str | bytes | Number | np.generic):
            raise ValueError(
                f"y holds {brief(label)} of type {type(label).__name__}, which is not a label: "
                "pass strings or integers, such as y.astype(str) or pandas.factorize(y)[0]."
            )
    return y


def labeled_rows(est: Any, X: Any, y: Any) -> tuple[Any, Any]:
    """Return the rows of X that have a label, and their labels, as an estimator reads them.

    All functions of (est, X, y) read y by this function. The estimator that takes labels, which is
    `est` or a part of it, says which label means "no label". Labels that it has not seen are valid.

    Parameters
    ----------
    est : estimator
        Any estimator. If no part of it takes labels, all samples have a label, except rows of
        zeros in an indicator.
    X : array, sparse matrix, DataFrame or list
        Anything with a row for each sample: samples, codes or indices.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels, or an indicator of several labels.

    Returns
    -------
    X : array, CSR or DataFrame
        The rows with a label.
    y : ndarray of shape (n_labeled,), or DataFrame of shape (n_labeled, n_labels)
        Their labels. An indicator holds 0 and 1, with columns named as in the estimator.

    Raises
    ------
    ValueError
        If y does not fit X, or no sample has a label.
    """
    if y is None:
        raise ValueError("y is None, but labels are needed: pass one for each sample of X.")
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    elif not hasattr(X, "shape"):
        X = np.asarray(X)
    checked, reader = check_y(y, X.shape[0]), _reader_of(est)
    labels: Any = checked
    if isinstance(checked, Indicator):
        labels = pd.DataFrame(checked.members.astype(np.int8), columns=_names(checked, reader))
        labeled, all_are = checked.members.any(axis=1), "rows of zeros"
    elif reader is None:
        labeled, all_are = np.ones(len(checked), dtype=bool), "none"
    else:
        labeled, all_are = reader._has_label(checked), f"unlabeled={brief(reader.unlabeled)}"
    if not labeled.any():
        raise ValueError(
            f"y holds no label: its {X.shape[0]} entries are {all_are}. Pass samples that have "
            "labels. In cross-validation, use fewer folds or a stratified split."
        )
    if not labeled.all():
        rows = np.flatnonzero(labeled)
        X, labels = take(X, rows), take(labels, rows)
    if isinstance(labels, np.ndarray) and labels.dtype == object:
        labels = pd.Series(labels).infer_objects().to_numpy()
    return X, labels


def _reader_of(est: Any) -> Any:
    """Return the part of an estimator that takes labels, or None."""
    est = getattr(est, "best_estimator_", est)
    if hasattr(est, "_has_label"):
        return est
    parts = [*est.get_params().values()] if hasattr(est, "get_params") else []
    readers = (_reader_of(part) for part in reversed(parts) if hasattr(part, "get_params"))
    return next((reader for reader in readers if reader is not None), None)


def _names(y: Indicator, reader: Any) -> NDArray[Any] | None:
    """Return the names of the columns of an indicator: its own, or else the names of the fit."""
    known: NDArray[Any] | None = getattr(reader, "classes_", None)
    if y.names is None and known is not None and len(known) == y.members.shape[1]:
        return known
    return y.names


def take(X: Any, rows: NDArray[np.intp]) -> Any:
    """Return these rows of an array, a CSR matrix or a DataFrame."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def position(classes: Any, label: Any) -> int | None:
    """Return the position of the class that equals a label, or None."""
    if np.ndim(label) or pd.isna(label):
        return None
    matches = np.flatnonzero(np.asarray(classes) == label)
    return int(matches[0]) if matches.size else None


def has_label(y: NDArray[Any], unlabeled: Any) -> NDArray[np.bool_]:
    """Return which samples have a label, (n,).

    Raises
    ------
    ValueError
        If `unlabeled` is not one value, or is a value that `y` cannot hold. Samples that were meant
        to have no label would then form a class.
    """
    if unlabeled is None:
        return np.ones(len(y), bool)
    if np.ndim(unlabeled) or pd.isna(unlabeled):
        raise ValueError(f"unlabeled={brief(unlabeled)} must be one label, and not NaN.")
    if not _can_hold(y, unlabeled):
        raise ValueError(
            f"unlabeled={brief(unlabeled)}, of type {type(unlabeled).__name__}, cannot be in y, "
            f"which is {brief(y)} of dtype {y.dtype}: set unlabeled to the value in y that means "
            "no label, with the same type."
        )
    return np.asarray(y != unlabeled, dtype=bool)


def _can_hold(y: NDArray[Any], value: Any) -> bool:
    """Return whether labels can equal a value, by its type and size."""
    kind = _kind(value)
    if y.dtype.kind == "O":
        distinct = [label for label in pd.unique(y) if _kind(label) != kind]
        return not any(x == value or _text(x) == _text(value) for x in distinct)
    if kind != _kind(y):
        return False
    if y.dtype.kind in "iu":
        info = np.iinfo(y.dtype)
        return bool(info.min <= value <= info.max and value == int(value))
    return True


def _kind(value: Any) -> str:
    """Return NumPy's letter of a type, with one for all numbers and one for all text."""
    kind = "M" if isinstance(value, datetime) else np.asarray(value).dtype.kind
    return {"i": "f", "u": "f", "T": "U"}.get(kind, kind)


def _text(value: Any) -> str:
    """Return a label as text, where 1, 1.0 and "1" are alike."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return str(float(text))
    except ValueError:
        return text
