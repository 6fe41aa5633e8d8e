"""Room 11: the checks of what goes into a fit: samples, labels and weights, as a data set."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_array, validate_data

from ._classes import Labels, LabelSets
from ._data import ArrayDataset, Moments, Rows, Survey, prefix_errors
from ._messages import brief
from ._mixed import Mixed, likelihood_class
from ._model import check_columns, check_range
from ._net import check_callbacks
from ._sklearn import check_sample_weight
from ._streams import Chunk, Source, StreamDataset
from ._tables import as_table, columns_named, to_numpy
from .labels import Indicator, check_y, has_label, pick


class Header(BaseEstimator):
    """Number and names of the features, by which scikit-learn checks every table.

    scikit-learn writes both to the object that it gets. A header takes the place of the estimator,
    which must not change before a fit has succeeded.
    """

    n_features_in_: int
    feature_names_in_: NDArray[Any]

    @classmethod
    def of(cls, estimator: Any) -> Header:
        """Return an empty header whose errors name the estimator's class."""
        header: Header = type(type(estimator).__name__, (cls,), {})()
        return header


class FitData(NamedTuple):
    """The checked input of a training."""

    data: ArrayDataset | StreamDataset
    header: Header
    labels: Labels | LabelSets | None  # None: the estimator ignores labels


class Known(NamedTuple):
    """Facts from an earlier training, with which further data must agree."""

    header: Header
    labels: Labels | LabelSets | None
    likelihood: str
    kinds: NDArray[Any] | None = None  # of features, see `Mixed`


def check_table(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    known: Known | None,
    classes: Any = None,
    largest_weight: float | None = None,
) -> FitData:
    """Return the samples of a table to train on, in their own units.

    Parameters
    ----------
    estimator : SpikeSlabTransformer
        Estimator whose parameters say what is allowed. It is not changed.
    X, y, sample_weight : object
        Arguments of the user.
    known : Known or None
        Facts from an earlier training. None: everything is learned from these data.
    classes : array-like or None
        Labels that the user named.
    largest_weight : float or None
        Weight to which all weights are relative. None: the largest of these weights.
    """
    header = Header.of(estimator) if known is None else known.header
    reset = known is None
    X, y, weight = _check(estimator, header, X, y, sample_weight, reset, largest_weight)
    if weight is not None:
        weight = _relative(weight, largest_weight or weight.max())
    if known is None:
        labels = None if y is None else estimator._learn_labels(y, classes)
    else:
        labels = known.labels
    unlabeled = getattr(estimator, "unlabeled", None)
    encoded = None if labels is None else labels.encode(y, unlabeled, classes)
    data = ArrayDataset(X, encoded, weight)
    _check_range(data, estimator.likelihood, known)
    return FitData(data, header, labels)


def check_source(estimator: Any, source: Source, known: Known | None) -> FitData:
    """Read a source once, and return its samples to train on."""
    if estimator.early_stopping:
        raise ValueError(
            "early_stopping=True holds out random samples, which does not work with X that is "
            "read in pieces. Pass an array or a memory map, or set early_stopping=False."
        )
    header = Header.of(estimator) if known is None else known.header
    likelihood = as_name(estimator.likelihood) if known is None else known.likelihood
    unlabeled = getattr(estimator, "unlabeled", None)
    largest, seen = 0.0, []
    ends = known is None and likelihood in ("auto", "mixed")
    survey = Survey(moments=likelihood != "bernoulli", ends=ends)

    def check(chunk: Chunk) -> ArrayDataset:
        part = check_table(estimator, *chunk, settled, largest_weight=largest).data
        assert isinstance(part, ArrayDataset)
        of_all = data.standardization, data.incomplete
        return ArrayDataset(part.X, part.labels, part.weight, *of_all)

    data = StreamDataset(source, check, survey)
    for chunk in source.read():
        reset = known is None and not data.sizes
        X, y, weight = _check(estimator, header, *chunk, reset=reset)
        if weight is not None:
            largest = max(largest, weight.max())
        if y is not None:
            with prefix_errors("y", y):
                seen.append(_distinct(y, unlabeled))
        data.add(X[:], y, weight)
    labels = None if known is None else known.labels
    if seen:
        y = seen[0] if isinstance(seen[0], Indicator) else np.concatenate(seen)
        if known is None:
            labels = estimator._learn_labels(y, None)
        elif labels is not None:
            labels.encode(y)
    _check_range(data, estimator.likelihood, known)
    settled = Known(header, labels, likelihood, None if known is None else known.kinds)
    return FitData(data, header, labels)


def check_samples(header: Header, X: Any, reset: bool = False, finite: bool = True) -> Any:
    """Return X as a table of real numbers, dense or CSR, `finite` except for NaN."""
    X, ensure = as_table(X), "allow-nan" if finite else False
    with prefix_errors("X", X), columns_named(X), config_context(array_api_dispatch=False):
        X = validate_data(
            header, X, accept_sparse="csr", dtype="numeric", ensure_all_finite=ensure, reset=reset
        )
        if X.dtype.kind == "O":  # a DataFrame of categories
            X = check_array(X, dtype=np.float64, ensure_all_finite=ensure)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"Expected real numbers, but found {X.dtype}.")
    return X


def check_observed(survey: Survey, header: Header) -> None:
    """Check that each feature has a value in some sample."""
    unseen = np.flatnonzero(survey.n_missing == survey.n_samples)
    if len(unseen):
        names = getattr(header, "feature_names_in_", np.arange(survey.n_features))
        raise ValueError(
            f"X has no observed value in {len(unseen)} of {survey.n_features} columns, "
            f"{brief(names[unseen].tolist())}. Drop these columns, or fill them."
        )


def _check(
    estimator: Any,
    header: Header,
    X: Any,
    y: Any,
    sample_weight: Any,
    reset: bool,
    largest_weight: float | None = None,
) -> tuple[Any, Any, NDArray[Any] | None]:
    """Return X, labels and weights, checked, without samples of weight 0."""
    check_callbacks(estimator.callbacks)
    X = check_samples(header, X, reset)
    y, sample_weight = to_numpy(y, "y"), to_numpy(sample_weight, "sample_weight")
    y = check_labels(estimator, X, y) if get_tags(estimator).target_tags.required else None
    if sample_weight is None:
        return X, y, None
    weight = _check_weight(X, sample_weight)
    # Samples of weight 0 are left out. A class that only they have is not learned.
    kept = np.flatnonzero(_relative(weight, largest_weight or weight.max()))
    if len(kept) < len(weight):
        X, weight, y = Rows(X, kept), weight[kept], None if y is None else pick(y, kept)
    return X, y, weight


def check_labels(estimator: Any, X: Any, y: Any) -> NDArray[Any] | Indicator:
    """Return y as a vector, one label for each sample, or as the indicator that it is."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None."
        )
    if isinstance(y, str):
        raise ValueError(
            f"y={brief(y)} names a column, which works only with a Dask DataFrame or a Parquet "
            f"dataset. Pass the labels, X[{brief(y)}], and X without them."
        )
    with prefix_errors("y", y):
        return check_y(y, X.shape[0], warn=True)


def _check_range(
    data: ArrayDataset | StreamDataset, likelihood: str | dict[Any, str], known: Known | None
) -> None:
    """Check that the likelihood allows the values, unless the values choose it.

    A new model of counts also needs means, so one reading gathers both. A new mixed model is
    checked later, when the kinds of its columns are known.
    """
    likelihood = as_name(likelihood) if known is None else known.likelihood
    if known is not None and known.kinds is not None:
        moments = data.survey(True).moments()
        _check_kinds(known.kinds, moments, known.header)
    elif likelihood != "auto" and not likelihood_class(likelihood).standardize:
        survey = data.survey(known is None and likelihood_class(likelihood).counts)
        check_range(likelihood, survey.low, survey.high)


def _check_kinds(kinds: NDArray[Any], moments: Moments, header: Header) -> None:
    if moments.least is not None and moments.most is not None:
        names = getattr(header, "feature_names_in_", None)
        check_columns(kinds, moments.least, moments.most, names)


def as_name(likelihood: str | Mapping[Any, str]) -> str:
    """Return the name of a likelihood; a mapping of columns is "mixed"."""
    return likelihood if isinstance(likelihood, str) else "mixed"


def choose_likelihood(
    likelihood: str | Mapping[Any, str], given: FitData
) -> tuple[str, NDArray[np.int64] | None]:
    """Return the name of the likelihood of a new model, and the kinds of features, see `Mixed`.

    Columns of a mixed table that are not named are bits if they hold only zeros and ones. All
    others are real numbers.
    """
    data, name = given.data, as_name(likelihood)
    if name == "auto":
        are_images = data.survey(False, ends=True).black_and_white
        return "bernoulli" if are_images else "gaussian", None
    if name != "mixed":
        return name, None
    survey = data.survey(True, ends=True)
    kinds = np.where(survey.bits, Mixed.KINDS.index("bernoulli"), 0).astype(np.int64)
    if not isinstance(likelihood, str):
        for column, of in likelihood.items():
            kinds[_place(column, likelihood, given.header)] = _kind(of, likelihood)
    _check_kinds(kinds, survey.moments(), given.header)
    return name, kinds


def _place(column: Any, likelihood: Mapping[Any, str], header: Header) -> int:
    """Return the position of a column that is given by name or position."""
    names = list(getattr(header, "feature_names_in_", ()))
    if column in names:
        return names.index(column)
    if isinstance(column, Integral) and abs(int(column) + 0.5) < header.n_features_in_:
        return int(column)
    known = f"the names {brief(names)}" if names else "no names, because it is not a DataFrame"
    raise ValueError(
        f"likelihood={brief(likelihood)} names the column {column!r}, but X has {known}, and "
        f"{header.n_features_in_} columns. Give the name or the position of a column."
    )


def _kind(name: Any, likelihood: Mapping[Any, str]) -> int:
    if name not in Mixed.KINDS:
        raise ValueError(
            f"likelihood={brief(likelihood)} gives a column the likelihood {name!r}. A column can "
            f"have {', '.join(map(repr, Mixed.KINDS))}."
        )
    return Mixed.KINDS.index(name)


def _distinct(y: Any, unlabeled: Any) -> Any:
    """Return the distinct labels of a piece, from which the classes are learned later."""
    if isinstance(y, Indicator):
        return pick(y, slice(0))
    return np.unique(y[has_label(y, unlabeled)])  # "no label" may have another type than labels


def _check_weight(X: Any, sample_weight: Any) -> NDArray[np.float64]:
    """Return weights, one for each sample."""
    with prefix_errors("sample_weight", sample_weight):
        weight: NDArray[np.float64] = check_sample_weight(sample_weight, X, dtype=np.float64)
    if weight.min() < 0:
        raise ValueError(f"sample_weight holds {weight.min():g}, but must not be negative.")
    if not weight.any():  # older versions of scikit-learn accept this
        raise ValueError("sample_weight is zero for every sample. Give one a positive weight.")
    return weight


def _relative(weight: NDArray[np.float64], largest: float) -> NDArray[np.float32]:
    """Return the weights in a unit in which `largest` is about 1.

    Weights too small for the full precision of float32 become 0.
    """
    # A division by a power of two does not round, and keeps sums in the range of float32.
    relative = np.ldexp(weight, -np.frexp(largest)[1])
    return np.where(relative < np.finfo(np.float32).tiny, 0, relative).astype(np.float32)
