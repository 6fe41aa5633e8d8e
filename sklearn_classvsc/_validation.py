"""Room 9: what goes into a fit: samples, labels and weights, checked, as a data set."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import get_tags
from sklearn.utils.validation import assert_all_finite, column_or_1d

from ._data import ArrayDataset, Rows, Survey, naming
from ._inference import SpikeSlabInference
from ._likelihoods import LIKELIHOODS
from ._sklearn import check_sample_weight
from ._streams import Chunk, Source, StreamDataset
from ._tables import brief, to_numpy
from .labels import Indicator, as_indicator, pick


class SpikeSlabValidation(SpikeSlabInference):
    """Checks of what `fit` and `partial_fit` are given."""

    def _encode_labels(self, y: Any, classes: Any, reset: bool) -> NDArray[Any] | None:
        """Return class indices, -1 for none, or which labels; None if it takes no labels."""
        return None

    def _seen_labels(self, y: Any) -> Any:
        """Return what to remember of the labels of a piece, for `_encode_labels` to learn from."""
        return pick(y, slice(0)) if isinstance(y, Indicator) else np.unique(y)

    def _validate(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: Any,
        reset: bool,
        largest_weight: float | None = None,
    ) -> ArrayDataset:
        """Return the samples to train on, checked, in their own units.

        Weights count relatively: to `largest_weight`, or to the largest here.
        """
        X, y, weight = self._check(X, y, sample_weight, reset)
        if weight is not None:
            weight = _relative(weight, largest_weight or weight.max())
        data = ArrayDataset(X, self._encode_labels(y, classes, reset), weight)
        self._check_range(data, reset)
        return data

    def _look_through(self, source: Source, reset: bool) -> StreamDataset:
        """Return the samples to train on, after reading all of them once."""
        if self.early_stopping:
            raise ValueError(
                "early_stopping=True holds out samples at random, which X cannot give that is read "
                "in pieces: pass an array or a memory map, or set early_stopping=False."
            )
        likelihood = self.likelihood if reset else self._architecture["likelihood"]
        largest = 0.0

        def check(chunk: Chunk) -> ArrayDataset:
            part = self._validate(*chunk, None, reset=False, largest_weight=largest)
            part.standardization = data.standardization
            return part

        data = StreamDataset(source, check, Survey(moments=reset and likelihood != "bernoulli"))
        labels = []
        for chunk in source.read():
            X, y, weight = self._check(*chunk, reset=reset and not data.sizes)
            if weight is not None:
                largest = max(largest, weight.max())
            if y is not None:
                with naming("y", y):
                    labels.append(y := self._seen_labels(y))
            data.add(X[:], y, weight)
        if labels and isinstance(labels[0], Indicator):
            self._encode_labels(labels[0], None, reset)
        else:
            self._encode_labels(np.concatenate(labels) if labels else None, None, reset)
        self._check_range(data, reset)
        return data

    def _check(
        self, X: Any, y: Any, sample_weight: Any, reset: bool
    ) -> tuple[Any, Any, NDArray[Any] | None]:
        """Return X, labels and weights, checked, without the samples of weight 0."""
        _check_callbacks(self.callbacks)
        X = self._check_samples(X, reset)
        y, sample_weight = to_numpy(y, "y"), to_numpy(sample_weight, "sample_weight")
        y = self._check_labels(X, y) if get_tags(self).target_tags.required else None
        if sample_weight is None:
            return X, y, None
        weight = _check_weight(X, sample_weight)
        kept = np.flatnonzero(weight)  # a sample of weight 0 is no sample, nor is its class a class
        if len(kept) < len(weight):
            X, weight, y = Rows(X, kept), weight[kept], None if y is None else pick(y, kept)
        return X, y, weight

    def _check_range(self, data: ArrayDataset | StreamDataset, reset: bool) -> None:
        """Check that the likelihood allows the values, if it is not to be chosen by them."""
        likelihood = self.likelihood if reset else self._architecture["likelihood"]
        if likelihood == "auto" or LIKELIHOODS[likelihood].standardize:
            return
        survey = data.survey(False)
        if likelihood == "bernoulli" and not (survey.low >= 0 and survey.high <= 1):
            raise ValueError(
                f"X lies in [{survey.low:.3g}, {survey.high:.3g}], but the Bernoulli likelihood "
                "needs [0, 1]: rescale X (MinMaxScaler), or set likelihood='gaussian'."
            )
        if survey.low < 0:
            raise ValueError(
                f"Negative values in data: X holds {survey.low:.3g}, but likelihood={likelihood!r} "
                "needs counts: pass the counts themselves, or set likelihood='gaussian'."
            )

    def _check_labels(self, X: Any, y: Any) -> NDArray[Any] | Indicator:
        """Return y as a vector, one label for each sample, or as the indicator that it is."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        if isinstance(y, str):
            raise ValueError(
                f"y={y!r} names a column, which only a Dask DataFrame or a Parquet dataset can "
                f"give: pass the labels, X[{y!r}], and X without them."
            )
        with naming("y", y):
            indicator = as_indicator(y)
            if indicator is None:
                y = column_or_1d(y, warn=True)
                assert_all_finite(y, input_name="y")
        if indicator is None and (missing := y[pd.isna(y)]).size:
            raise ValueError(
                f"y holds {missing[0]!r}, which is no label: leave such samples out, or give them "
                "a label that unlabeled names."
            )
        if indicator is None and y.dtype.kind == "O":
            y = _of_one_kind(y)
        n_labels = len(y if indicator is None else indicator.members)
        if n_labels != X.shape[0]:
            raise ValueError(
                "X and y have inconsistent numbers of samples: "
                f"X has {X.shape[0]} and y {n_labels}."
            )
        return y if indicator is None else indicator


def _of_one_kind(y: NDArray[Any]) -> NDArray[Any]:
    """Return objects as integers or booleans, if all of them are; check that they are labels."""
    if pd.api.types.infer_dtype(y, skipna=False) in ("integer", "boolean"):
        return pd.Series(y).infer_objects().to_numpy()
    for label in y:
        if not isinstance(label, str | bytes | Number | np.generic):
            raise ValueError(
                f"y holds {brief(label)}, of the type {type(label).__name__}, which is no label: "
                "pass strings or integers, such as y.astype(str) or pandas.factorize(y)[0]."
            )
    return y


def _check_callbacks(callbacks: list[Any] | None) -> None:
    """Check that skorch can use the callbacks: instances or classes, or named as (name, one)."""
    for item in callbacks or []:
        callback = item[-1] if isinstance(item, tuple) else item
        if not hasattr(callback, "on_train_begin"):
            raise TypeError(f"callbacks={callbacks!r} must hold skorch callbacks, not {item!r}.")


def _check_weight(X: Any, sample_weight: Any) -> NDArray[np.float64]:
    """Return weights, one for each sample."""
    with naming("sample_weight", sample_weight):
        weight: NDArray[np.float64] = check_sample_weight(sample_weight, X, dtype=np.float64)
    if weight.min() < 0:
        raise ValueError(f"sample_weight holds {weight.min():g}, but must not be negative.")
    if not weight.any():  # older versions of scikit-learn accept this
        raise ValueError("sample_weight is zero for every sample: let at least one count.")
    return weight


def _relative(weight: NDArray[np.float64], largest: float) -> NDArray[np.float32]:
    """Return the weights, the `largest` about 1: they count relatively."""
    # By a power of two, which rounds nothing and keeps sums in float32's range.
    return np.ldexp(weight, -np.frexp(largest)[1]).astype(np.float32)
