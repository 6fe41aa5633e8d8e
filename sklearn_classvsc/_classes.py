"""Room 8: labels as class indices or indicators, for one label per sample or several.

`Labels` and `LabelSets` learn the classes once, and then encode labels for the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ._data import prefix_errors
from ._messages import brief
from .labels import Indicator, has_label


class Labels(NamedTuple):
    """One label for each sample."""

    classes: NDArray[Any]  # (C,), sorted

    @classmethod
    def learn(cls, y: NDArray[Any], unlabeled: Any = None, named: Any = None) -> Labels:
        """Return the classes in `named`, or else in y."""
        y = _labels_in(y, unlabeled)
        if named is not None:
            _check_named(named, unlabeled)
        name, values = ("y", y) if named is None else ("classes", named)
        with prefix_errors(name, values):
            classes = np.unique(values)
        if len(classes) < 2:
            raise ValueError(
                f"ClassVSCTransformer needs samples of at least 2 classes, but {name} has "
                f"{len(classes)} class: {brief(classes)}."
            )
        return cls(classes)

    def encode(
        self, y: NDArray[Any] | Indicator, unlabeled: Any = None, named: Any = None
    ) -> NDArray[np.int64]:
        """Return the class index of each sample, (n,); -1 for no label."""
        if isinstance(y, Indicator):
            raise _other_kind("several labels", "one label")
        if named is not None:
            _check_named(named, unlabeled)
            with prefix_errors("classes", named):
                same = np.array_equal(np.unique(named), self.classes)
            if not same:
                raise ValueError(
                    f"classes={brief(named)}, but the estimator knows the classes "
                    f"{brief(self.classes)}. Leave classes out after the first call, or fit afresh."
                )
        labeled = has_label(y, unlabeled)
        found = _labels_in(y, unlabeled)
        unseen = found[~np.isin(found, self.classes)]
        if unseen.size:
            raise ValueError(
                f"y holds the label {brief(unseen[0])}, which is not one of the classes "
                f"{brief(self.classes)} that the estimator knows. Name every class in the first "
                "call of partial_fit (classes=...), or fit afresh."
            )
        index = np.full(len(y), -1)
        index[labeled] = np.searchsorted(self.classes, found)
        return index


class LabelSets(NamedTuple):
    """Several labels for each sample: the columns of an indicator."""

    classes: NDArray[Any]  # names or numbers of the columns, (C,)

    @classmethod
    def learn(cls, y: Indicator, unlabeled: Any = None, named: Any = None) -> LabelSets:
        """Return the labels in `named`, or else the names or numbers of the columns."""
        n_labels = y.members.shape[1]
        names = y.names if named is None else np.asarray(named)
        names = np.arange(n_labels) if names is None else names
        if len(names) != n_labels or len(set(names.tolist())) != n_labels:
            raise ValueError(
                f"y has {n_labels} columns, but the names of its labels are {brief(names)}. Pass "
                "a different name for each column."
            )
        n_used = y.members.any(0).sum()
        if len(y.members) and n_used < 2:
            raise ValueError(
                "ClassVSCTransformer needs samples of at least 2 classes, but only "
                f"{n_used} of the {n_labels} labels in y have samples."
            )
        return cls(names)

    def encode(
        self, y: NDArray[Any] | Indicator, unlabeled: Any = None, named: Any = None
    ) -> NDArray[np.bool_]:
        """Return which of the labels each sample has, (n, C)."""
        if not isinstance(y, Indicator):
            raise _other_kind("one label", "several labels")
        if unlabeled is not None:
            raise one_label_only("unlabeled", unlabeled, y)
        n_labels = y.members.shape[1]
        names = y.names if named is None else np.asarray(named)
        if n_labels != len(self.classes) or (
            names is not None and not np.array_equal(names, self.classes)
        ):
            found = n_labels if names is None else brief(names)
            raise ValueError(
                f"y has the columns {found}, but the estimator was fitted to the labels "
                f"{brief(self.classes)}. Pass one column for each label, in this order."
            )
        return y.members


def one_label_only(name: str, value: Any, y: Indicator) -> ValueError:
    """Return the error for a parameter that does not work with an indicator."""
    return ValueError(
        f"{name}={brief(value)} works with one label per sample, but y is an indicator of "
        f"{y.members.shape[1]} labels. Leave the default (a row of zeros has no label)."
    )


def _other_kind(given: str, known: str) -> ValueError:
    return ValueError(
        f"y has {given} per sample, but the estimator was fitted to {known} per sample. Pass y of "
        "that kind, or fit afresh."
    )


def _labels_in(y: NDArray[Any], unlabeled: Any) -> NDArray[Any]:
    """Return the labels in y, after a check that they name classes and not quantities."""
    y = y[has_label(y, unlabeled)]
    with prefix_errors("y", y):
        try:
            check_classification_targets(y)
        except ValueError as error:
            if type_of_target(y) != "continuous":
                raise
            raise ValueError(
                f"y holds {brief(y[0])}. Unknown label type: continuous. Pass classes, such as the "
                "quantiles of y: pd.qcut(y, 5, labels=False)."
            ) from error
    return y


def _check_named(named: Any, unlabeled: Any) -> None:
    """Check that the classes of a user are a list of labels."""
    with prefix_errors("classes", named):
        n_dims = np.ndim(named)
    if n_dims != 1:
        raise ValueError(f"classes={brief(named)} must be a list or a 1-d array of labels.")
    labels = np.asarray(named, dtype=object)
    if (missing := labels[pd.isna(labels)]).size:
        raise ValueError(f"classes holds {brief(missing[0])}, which is not a label: leave it out.")
    if unlabeled is not None and unlabeled in labels.tolist():
        raise ValueError(
            f"classes holds {brief(unlabeled)}, which means no label by "
            f"unlabeled={brief(unlabeled)}: leave it out."
        )
