"""Several labels of a sample, such as a class and its group: a binary indicator of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ._messages import brief, cut

__all__ = ["with_parents"]


def with_parents(
    y: ArrayLike, parents: Mapping[Hashable, Hashable], *, unlabeled: Any = None
) -> pd.DataFrame:
    """Return an indicator of the classes of samples and of the groups that these belong to.

    Fitted to it, :class:`~sklearn_classvsc.ClassVSCTransformer` makes the samples of a group share
    dimensions too, beside those of each class.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels.
    parents : mapping
        The group of a class, and the group of a group if it has one: ``{"boot": "footwear"}``. A
        class that is not named has none.
    unlabeled : object, default=None
        The value in `y` that means "no label": a row of zeros.

    Returns
    -------
    indicator : DataFrame of shape (n_samples, n_labels)
        Of 0 and 1, a column for each class in sorted order and then for each group.

    Raises
    ------
    ValueError
        If a class is, by way of its groups, a group of itself, or if `y` cannot hold `unlabeled`.

    Examples
    --------
    >>> from sklearn_classvsc.labels import with_parents
    >>> with_parents(["boot", "shirt", "sandal"], {"boot": "footwear", "sandal": "footwear"})
       boot  sandal  shirt  footwear
    0     1       0      0         1
    1     0       0      1         0
    2     0       1      0         1
    """
    y = np.asarray(y)
    classes, index = np.unique(y, return_inverse=True)
    labels = classes[has_label(classes, unlabeled)].tolist()
    lines = {label: _line(label, parents) for label in labels}
    names = list(dict.fromkeys([*lines, *(name for line in lines.values() for name in line)]))
    table = np.array(
        [[name in lines.get(label, ()) for name in names] for label in classes.tolist()]
    )
    return pd.DataFrame(table[index].astype(np.int8), columns=names)


def _line(label: Hashable, parents: Mapping[Hashable, Hashable]) -> list[Hashable]:
    """Return a class and the groups it is in, from small to large."""
    line = [label]
    while line[-1] in parents:
        line.append(parents[line[-1]])
        if line[-1] in line[:-1]:
            circle = cut(" -> ".join(map(str, line)))
            raise ValueError(
                f"parents leads from {brief(label)} in a circle, {circle}: let the "
                "largest group have none."
            )
    return line


class Indicator(NamedTuple):
    """Which labels each sample has, where it may have several."""

    members: NDArray[np.bool_]  # (n, C)
    names: NDArray[Any] | None  # of the labels, (C,), if the columns have some


def as_indicator(y: Any) -> Indicator | None:
    """Return which labels samples have, if y has a column for each label, else None."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    if len(shape) != 2 or shape[1] < 2:
        return None
    values = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    members = np.ascontiguousarray(values == 1)
    other = values[~(members | (values == 0))]
    if other.size:
        raise ValueError(
            f"y has the shape {shape} and holds {brief(other[0])}, but several columns must be "
            "an indicator, 1 where a sample has the label of the column and else 0: pass such "
            "(MultiLabelBinarizer makes it), or a vector of one label for each sample."
        )
    return Indicator(members, np.asarray(y.columns) if hasattr(y, "columns") else None)


def pick(y: Any, rows: Any) -> Any:
    """Return some rows of labels."""
    return y._replace(members=y.members[rows]) if isinstance(y, Indicator) else y[rows]


def has_label(y: NDArray[Any], unlabeled: Any) -> NDArray[np.bool_]:
    """Return which samples have a label, (n,).

    Raises
    ------
    ValueError
        If `unlabeled` is not one value, or one that `y` cannot hold: what was meant as no label
        would then be a class.
    """
    if unlabeled is None:
        return np.ones(len(y), bool)
    if np.ndim(unlabeled) or pd.isna(unlabeled):
        raise ValueError(f"unlabeled={brief(unlabeled)} must be one label, and not NaN.")
    if not _can_hold(y, unlabeled):
        raise ValueError(
            f"unlabeled={brief(unlabeled)}, of type {type(unlabeled).__name__}, cannot be in y, "
            f"which is {brief(y)} of dtype {y.dtype}: set unlabeled to the value that y has where "
            "there is no label, in the type that it has there."
        )
    return np.asarray(y != unlabeled, dtype=bool)


def _can_hold(y: NDArray[Any], value: Any) -> bool:
    """Return whether labels may be equal to a value: are of its type, and can be so large."""
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
    """Return what can be equal: the letter of NumPy's for booleans, numbers, strings, dates ..."""
    kind = "M" if isinstance(value, datetime) else np.asarray(value).dtype.kind
    return {"i": "f", "u": "f", "T": "U"}.get(kind, kind)


def _text(value: Any) -> str:
    """Return how a label reads, whatever type holds it: 1, 1.0 and "1" are alike."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    try:
        return str(float(text))
    except ValueError:
        return text
