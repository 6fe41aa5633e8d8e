"""Room 12: what y says, as classes: one label for each sample, several, or bins of a quantity.

Each kind learns the classes once, and then turns labels into what the loss takes.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ._data import naming
from ._messages import brief
from .labels import Indicator


class Labels(NamedTuple):
    """One label for each sample."""

    classes: NDArray[Any]  # (C,), sorted

    @staticmethod
    def check(y: NDArray[Any]) -> None:
        """Check that labels name classes, and are no quantity."""
        try:
            check_classification_targets(y)
        except ValueError as error:
            if type_of_target(y) != "continuous":
                raise
            raise ValueError(
                f"y holds {brief(y[0])}. Unknown label type: continuous. Classes are needed: "
                "set bins, such as bins=5, to cut y into its quantiles."
            ) from error

    @classmethod
    def learn(cls, y: NDArray[Any], named: Any, unlabeled: Any = None) -> Labels:
        """Return the classes that are named, or else those in y."""
        if named is not None:
            _check_named(named, unlabeled)
        name, values = ("y", y) if named is None else ("classes", named)
        with naming(name, values):
            classes = np.unique(values)
        if len(classes) < 2:
            raise ValueError(
                f"ClassVSCTransformer needs samples of at least 2 classes, but {name} has "
                f"{len(classes)} class: {brief(classes)}."
            )
        return cls(classes)

    def encode(self, y: NDArray[Any], labeled: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the index of each sample's class, (n,); -1 where it has no label."""
        unseen = y[labeled][~np.isin(y[labeled], self.classes)]
        if unseen.size:
            raise ValueError(
                f"y holds the label {brief(unseen[0])}, which is none of the classes "
                f"{brief(self.classes)} that the estimator knows: name every class in the "
                "first call of partial_fit (classes=...), or fit afresh."
            )
        index = np.full(len(y), -1)
        index[labeled] = np.searchsorted(self.classes, y[labeled])
        return index


def _check_named(named: Any, unlabeled: Any) -> None:
    """Check that what a user names as classes is a list of labels."""
    if np.ndim(named) != 1:
        raise ValueError(f"classes={brief(named)} must be a list of labels, or a 1-d array.")
    labels = np.asarray(named, dtype=object)
    if (missing := labels[pd.isna(labels)]).size:
        raise ValueError(f"classes holds {brief(missing[0])}, which is no label: leave it out.")
    if unlabeled is not None and unlabeled in labels.tolist():
        raise ValueError(
            f"classes holds {brief(unlabeled)}, which unlabeled={brief(unlabeled)} says is no "
            "label: leave it out."
        )


class Bins(NamedTuple):
    """The quantiles of a quantity."""

    classes: NDArray[np.float64]  # the median of y in each, (C,)
    edges: NDArray[np.float64]  # (C - 1,)

    @staticmethod
    def check(named: Any, bins: int | None) -> None:
        """Check that classes are not named: bins make them."""
        if named is not None:
            raise ValueError(
                f"classes={brief(named)} was passed beside bins={bins}, which makes the classes "
                "of what y holds in the first call: leave one of them out."
            )

    @classmethod
    def learn(cls, y: NDArray[Any], bins: int) -> Bins:
        """Return the quantile bins of y; one that repeated values leave empty is none."""
        y = _numbers(y, f"bins={bins}")
        inner = np.linspace(0, 1, bins + 1)[1:-1]
        edges = np.unique(np.quantile(y, inner)) if y.size else y
        index = np.searchsorted(edges, y, side="right")
        used = np.unique(index)
        if len(used) < 2:
            raise ValueError(
                f"bins={bins} leaves {len(used)} bin of the {len(np.unique(y))} values of y: pass "
                "a y that varies."
            )
        return cls(np.array([np.median(y[index == b]) for b in used]), edges[used[1:] - 1])

    def encode(self, y: NDArray[Any], labeled: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the number of each sample's bin, (n,); -1 where it has no label."""
        index = np.full(len(y), -1)
        values = _numbers(y[labeled], "an estimator that was fitted to bins")
        index[labeled] = np.searchsorted(self.edges, values, side="right")
        return index


class LabelSets(NamedTuple):
    """Several labels for each sample: the columns of an indicator."""

    classes: NDArray[Any]  # names or numbers of the columns, (C,)

    @staticmethod
    def check(y: Indicator, unfit: dict[str, Any]) -> None:
        """Check that no parameter is set that is for one label only."""
        for name, value in unfit.items():
            if value is not None:
                raise ValueError(
                    f"{name}={brief(value)} is for one label of each sample, but y is an indicator "
                    f"of {y.members.shape[1]}: leave the default (a row of zeros has no label)."
                )

    @classmethod
    def learn(cls, y: Indicator, named: Any) -> LabelSets:
        """Return the labels that are named, or else those that the columns have."""
        n_labels = y.members.shape[1]
        names = y.names if named is None else np.asarray(named)
        names = np.arange(n_labels) if names is None else names
        if len(names) != n_labels or len(set(names.tolist())) != n_labels:
            raise ValueError(
                f"y has {n_labels} columns, but the names of its labels are {brief(names)}: "
                "there must be one for each, and no two the same."
            )
        n_used = y.members.any(0).sum()
        if len(y.members) and n_used < 2:
            raise ValueError(
                "ClassVSCTransformer needs samples of at least 2 classes, but y has samples "
                f"of {n_used} of its {n_labels} labels."
            )
        return cls(names)

    def encode(self, y: Indicator, named: Any) -> NDArray[np.bool_]:
        """Return which of the labels each sample has, (n, C)."""
        n_labels = y.members.shape[1]
        names = y.names if named is None else np.asarray(named)
        if n_labels != len(self.classes) or (
            names is not None and not np.array_equal(names, self.classes)
        ):
            found = n_labels if names is None else brief(names)
            raise ValueError(
                f"y has the columns {found}, but the estimator was fitted to the labels "
                f"{brief(self.classes)}: pass one column for each, in this order."
            )
        return y.members


def _numbers(y: NDArray[Any], who: str) -> NDArray[np.float64]:
    """Return y as numbers; `who` needs them."""
    if y.dtype.kind not in "biuf":
        for value in y:
            if not isinstance(value, Real):
                raise ValueError(f"{who} needs a y of numbers, but y holds {brief(value)}.")
    return y.astype(np.float64)
