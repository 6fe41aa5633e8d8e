"""Effects of dimensions on features, differences between classes, and samples that show them."""

from __future__ import annotations

import itertools
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar, gen_batches

from ._comparison import (
    FOLD_CHANGE,
    differences_by_codes,
    first_of_each,
    named_effects,
    relative_effects,
)
from ._messages import brief
from ._pipelines import sparse_codes, unroll
from .labels import labeled_rows, position
from .metrics._counts import MatrixLike, check_labels, check_matrix, random_rows

__all__ = [
    "Traversal",
    "class_differences",
    "feature_effects",
    "top_features",
    "top_samples",
    "traverse",
]

Kind: TypeAlias = Literal["range", "presence"]

# Most decoded values that are held at a time (32 MB of float64).
_BATCH_ELEMENTS = 2**22


class Traversal(NamedTuple):
    """Sweep of one dimension of a sample, decoded. See :func:`traverse`."""

    dimension: int  # that is swept
    label: Any  # class of the samples; None: all samples
    quantiles: NDArray[np.float64]  # (n_steps,), of the dimension's non-zero values
    values: NDArray[np.float64]  # (n_steps,), of the dimension
    sample: int  # row of X that the sweep starts from
    codes: NDArray[Any]  # (n_steps, n_components), the code of the sample with these values
    X_hat: NDArray[Any]  # (n_steps, n_features), decoded, in X's units


def traverse(
    est: Any,
    X: MatrixLike,
    y: ArrayLike | None = None,
    *,
    dimension: int,
    label: Any = None,
    n_steps: int = 9,
    quantiles: tuple[float, float] = (0.05, 0.95),
) -> Traversal:
    """Decode a typical sample while one of its active dimensions runs through its usual values.

    The values are quantiles of the non-zero values of the dimension in the samples of a class, so
    that all steps lie within the data. The other dimensions keep their values. The sample is the
    most typical one: of the samples in which the dimension is active, its code is closest to their
    mean.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a Pipeline
        that holds one, or any other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,), default=None
        Class labels, as the estimator reads them. Only needed with `label`.
    dimension : int
        The dimension to sweep.
    label : object, default=None
        A class in `y`: only its samples are used. None uses all samples.
    n_steps : int, default=9
        Number of values, at least two.
    quantiles : tuple of (lowest, highest), default=(0.05, 0.95)
        Quantiles at the start and the end of the sweep, in [0, 1]. Steps are evenly spaced
        quantiles.

    Returns
    -------
    traversal : Traversal
        Named tuple:

        - `dimension`, `label`: as given;
        - `quantiles`, `values`: ndarrays of shape (n_steps,), the quantiles and their values;
        - `sample`: row of X of the sample;
        - `codes`: ndarray of shape (n_steps, n_components);
        - `X_hat`: ndarray of shape (n_steps, n_features), the decoded codes, in the units of X.

    Raises
    ------
    ValueError
        If the dimension is active in no sample of the class, if `label` is not a class of `y`, or
        if another argument is not as described.

    See Also
    --------
    feature_effects : Effects of all dimensions, averaged over samples.
    sklearn_classvsc.displays.TraversalDisplay : A picture of the sweep.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.inspection import traverse
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, alpha=0.9, max_epochs=2, random_state=0).fit(X)
    >>> traverse(vsc, X, y, dimension=0, label=3).X_hat.shape
    (9, 64)
    """
    check_scalar(n_steps, "n_steps", Integral, min_val=2)
    low, high = quantiles
    check_scalar(low, "quantiles[0]", Real, min_val=0, max_val=1)
    check_scalar(high, "quantiles[1]", Real, min_val=low, max_val=1, include_boundaries="right")
    est, X = unroll(est, X)
    Z = sparse_codes(est, X)
    check_scalar(dimension, "dimension", Integral, min_val=0, max_val=Z.shape[1] - 1)
    active = Z[:, [dimension]].toarray()[:, 0] != 0
    if label is None:
        rows = _where_active(active, dimension)
    else:
        label, rows = _where_active_in_class(est, active, y, dimension, label)
    steps = np.linspace(low, high, n_steps)
    values = np.quantile(Z[rows][:, [dimension]].toarray()[:, 0].astype(np.float64), steps)
    sample = int(rows[_most_typical(Z[rows])])
    codes = np.repeat(Z[[sample]].toarray(), n_steps, axis=0)
    codes[:, dimension] = values
    X_hat = np.asarray(est.inverse_transform(codes))
    return Traversal(int(dimension), label, steps, values, sample, codes, X_hat)


def traverse_classes(
    est: Any, X: Any, y: Any, dimension: int, n_steps: int, quantiles: tuple[float, float]
) -> list[Traversal]:
    """Traverse a dimension in each class that activates it, over the same values.

    If no class activates it in at least half of its samples, take all classes in which it is ever
    active.
    """
    overall = traverse(est, X, dimension=dimension, n_steps=n_steps, quantiles=quantiles)
    active = sparse_codes(est, X)[:, [dimension]].toarray()[:, 0] != 0
    classes, labels = check_labels(y, active)
    rates = np.bincount(labels, active) / np.bincount(labels)
    having = rates >= 0.5 if (rates >= 0.5).any() else rates > 0
    found = []
    for label in classes[having].tolist():
        t = traverse(est, X, y, dimension=dimension, label=label, n_steps=n_steps)
        codes = t.codes.copy()
        codes[:, dimension] = overall.values
        X_hat = np.asarray(est.inverse_transform(codes))
        found.append(
            t._replace(quantiles=overall.quantiles, values=overall.values, codes=codes, X_hat=X_hat)
        )
    return found


def feature_effects(
    est: Any,
    X: MatrixLike,
    y: ArrayLike | None = None,
    *,
    kind: Kind = "range",
    max_samples: int = 100,
) -> pd.DataFrame:
    r"""Measure how much each feature changes, in its own units, when a dimension changes.

    The effect of dimension j, with :math:`A_j` the samples in which it is active and D the decoder,
    is

    .. math:: \frac{1}{|A_j|} \sum_{i \in A_j} D(z_i \text{ with } z_{ij} = b)
              - D(z_i \text{ with } z_{ij} = a),

    With ``kind="range"``, a and b are the 10 % and 90 % quantiles of the non-zero values of the
    dimension. With ``kind="presence"``, they are zero and the median of these values. Samples are
    all samples or, with `y`, the samples of each class.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a Pipeline
        that holds one, or any other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,), default=None
        Class labels, as the estimator reads them. Samples without a label are left out. None
        measures one effect of each dimension, over all samples.
    kind : {"range", "presence"}, default="range"
        "range" compares low with high values of the dimension, and "presence" compares inactive
        with active. Use "presence" for a dimension that only some classes activate.
    max_samples : int, default=100
        The mean uses at most so many samples, drawn at random, the same at every call. Quantiles
        use all samples.

    Returns
    -------
    effects : DataFrame of n_components rows and n_features columns
        Indexed by `dimension`; with `y` by (`class`, `dimension`), with n_classes * n_components
        rows. Columns have the names of the features, or "x0" and so on. Rows of dimensions that are
        never active are NaN. ``effects.attrs["scale"]`` holds the standard deviation of each
        feature in these samples (1 for constant ones), which `top_features` uses. For a model of
        counts, ``attrs["level"]`` holds the means. For a Pipeline, columns are the columns of its
        table: numbers in their own units if the first steps can be undone, and a category as
        "island = Biscoe" with its share; ``attrs["origin"]`` holds the columns of the table.

    Raises
    ------
    ValueError
        If an argument is not as described.

    See Also
    --------
    top_features : The features that each dimension changes most.
    traverse : Decode one sample, step by step.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.inspection import feature_effects
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> vsc = VSCTransformer(n_components=3, max_epochs=5, random_state=0).fit(X)
    >>> feature_effects(vsc, X).shape
    (3, 4)
    >>> feature_effects(vsc, X, y).index.names
    FrozenList(['class', 'dimension'])
    """
    if kind not in ("range", "presence"):
        raise ValueError(f"kind is {kind!r}, but must be 'range' or 'presence'.")
    check_scalar(max_samples, "max_samples", Integral, min_val=1)
    est, X = unroll(est, X)
    if y is not None:
        X, y = labeled_rows(est, X, y)
    Z = sparse_codes(est, X)
    if y is None:
        index: pd.Index[Any] = pd.RangeIndex(Z.shape[1], name="dimension")
        effects = _mean_effects(est, Z, kind, max_samples)
    else:
        classes, labels = check_labels(y, Z)
        index = pd.MultiIndex.from_product(
            [classes.tolist(), range(Z.shape[1])], names=["class", "dimension"]
        )
        effects = np.concatenate(
            [
                _mean_effects(est, Z[np.flatnonzero(labels == c)], kind, max_samples)
                for c in range(len(classes))
            ]
        )
    return named_effects(est, X, effects, index)


def top_features(
    effects: pd.DataFrame, k: int = 5, *, scale: ArrayLike | None = None
) -> pd.DataFrame:
    r"""List the features that each dimension, or each class, changes most.

    Features are ranked by the effect e relative to the standard deviation s of the feature,
    :math:`|e| / s`. For a model of counts, they are ranked by the logarithmic fold change
    :math:`\log_2 \frac{m + e + c}{m + c}`. Here m is the mean count of the feature and c the mean
    count of all features, so that rare words do not dominate. Words that rise come before words
    that fall, since the words that a document has say more than the words that it lacks.

    Parameters
    ----------
    effects : DataFrame of shape (n_rows, n_features)
        All rows and columns of `feature_effects` or `class_differences`, or some of them.
    k : int, default=5
        Number of features for each row of `effects`. Of the categories of one column, only the one
        that changes most is listed.
    scale : float or array-like of shape (n_features,), default=None
        Divisor of the effects, which makes features comparable. None takes the standard deviations
        from ``effects.attrs``, or the fold change for counts. 1 compares the effects as they are,
        for features of one unit such as pixels.

    Returns
    -------
    top : DataFrame of at most n_rows * k rows
        - the index of `effects`: `class`, if it has one, and `dimension` or `kind`;
        - `rank`: 1 for the feature that changes most;
        - `feature`: name of the feature;
        - `effect`: signed, in the units of the feature;
        - `relative_effect`: signed, the quantity that ranks the features;
        - `measure`: unit of `relative_effect`, "SD", "log2 fold change", or "scaled" by `scale`.

        Dimensions that are never active have no rows.

    Raises
    ------
    ValueError
        If `scale` is not positive, or if it is None and ``effects.attrs`` has no scale.

    See Also
    --------
    feature_effects : Effects of dimensions.
    class_differences : Differences between classes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.inspection import feature_effects, top_features
    >>> X, _ = load_iris(return_X_y=True, as_frame=True)
    >>> vsc = VSCTransformer(n_components=3, max_epochs=5, random_state=0).fit(X)
    >>> top_features(feature_effects(vsc, X), k=2).columns.tolist()
    ['dimension', 'rank', 'feature', 'effect', 'relative_effect', 'measure']
    """
    check_scalar(k, "k", Integral, min_val=1)
    present = effects.dropna(how="all")
    relative, measure = relative_effects(present, scale)
    order = np.argsort(-np.abs(relative), axis=1, kind="stable")
    if measure == FOLD_CHANGE:  # rising words first
        falling = np.take_along_axis(relative, order, axis=1) <= 0
        order = np.take_along_axis(order, np.argsort(falling, axis=1, kind="stable"), axis=1)
    origins = effects.attrs.get("origin", {})
    of = [origins.get(name, name) for name in present.columns]
    picked = [first_of_each(row, of, k) for row in order]
    rows = np.repeat(np.arange(len(picked)), [len(row) for row in picked])
    columns = np.concatenate([*picked, []]).astype(np.intp)
    top = present.index[rows].to_frame(index=False)
    return top.assign(
        rank=[rank for row in picked for rank in range(1, len(row) + 1)],
        feature=present.columns.to_numpy()[columns],
        effect=present.to_numpy()[rows, columns],
        relative_effect=relative[rows, columns],
        measure=measure,
    )


def class_differences(
    est: Any, X: MatrixLike, y: ArrayLike, *, max_samples: int = 200
) -> pd.DataFrame:
    r"""Compare what marks a class by the code with what marks it by the data.

    The *counterfactual* is the mean change of samples of the other classes if they are decoded with
    the support of the class, as by :func:`~sklearn_classvsc.editing.counterfactual`. All dimensions
    of the class change together, since its samples have most of them or few. The *difference* is
    the mean of the class in the data minus the mean of the means of the other classes. It needs no
    model.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a Pipeline
        that holds one, or any other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,)
        Labels of at least two classes, as the estimator reads them.
    max_samples : int, default=200
        The counterfactual of a class uses at most so many samples, equally many of each other
        class. They are drawn at random, the same at every call. The difference uses all samples.

    Returns
    -------
    differences : DataFrame of 2 * n_classes rows and n_features columns
        Indexed by `class` and `kind`, "counterfactual" or "difference", in the units of X. For a
        model of counts, samples are scaled to the total that the model decodes. ``attrs`` are those
        of `feature_effects`, so that `top_features` takes the DataFrame.

    Raises
    ------
    ValueError
        If `y` has only one class, or another argument is not as described.

    See Also
    --------
    top_features : The features that mark each class most.
    sklearn_classvsc.editing.counterfactual : The change of each sample.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import ClassVSCTransformer
    >>> from sklearn_classvsc.inspection import class_differences
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> est = ClassVSCTransformer(n_components=8, max_epochs=600, random_state=0).fit(X, y)
    >>> marks = class_differences(est, X, y)["petal length (cm)"]
    >>> bool(marks[0, "counterfactual"] < -1) and bool(marks[0, "difference"] < -1)
    True
    """
    check_scalar(max_samples, "max_samples", Integral, min_val=1)
    est, X = unroll(est, X)
    X, y = labeled_rows(est, X, y)
    table = check_matrix(X, "X", missing=True)
    return differences_by_codes(est, table, sparse_codes(est, X), y, max_samples)


def top_samples(
    est: Any, X: MatrixLike, y: ArrayLike | None = None, *, factor: int, k: int = 5
) -> pd.DataFrame:
    """List the samples in which a dimension has its lowest and its highest values.

    Samples at the two ends often show what a dimension stands for.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform`: a transformer of this package, a Pipeline that holds one, or any
        other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,), default=None
        Class labels, as the estimator reads them. Samples without a label are left out.
    factor : int
        The dimension.
    k : int, default=5
        Number of samples at each end. It is less if the dimension is active in fewer than 2 k
        samples.

    Returns
    -------
    top : DataFrame of at most 2 * k rows
        Samples in which the dimension is active, from the lowest to the highest value: `end`
        ("lowest" or "highest"), `sample` (row in X), `class` if `y` is given, and `value`.

    Raises
    ------
    ValueError
        If the dimension is active in no sample, or another argument is not as described.

    See Also
    --------
    sklearn_classvsc.displays.FactorDisplay : A picture of the samples.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.inspection import top_samples
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, alpha=0.9, max_epochs=2, random_state=0).fit(X)
    >>> top_samples(vsc, X, y, factor=0, k=2)["end"].tolist()
    ['lowest', 'lowest', 'highest', 'highest']
    """
    check_scalar(k, "k", Integral, min_val=1)
    est, X = unroll(est, X)
    return samples_at_ends(est, sparse_codes(est, X), y, factor, k)


def samples_at_ends(est: Any, Z: Any, y: ArrayLike | None, factor: int, k: int) -> pd.DataFrame:
    """Return the DataFrame of `top_samples` from the codes of all samples, as CSR."""
    check_scalar(factor, "factor", Integral, min_val=0, max_val=Z.shape[1] - 1)
    values = Z[:, [factor]].toarray()[:, 0]
    rows, labels = np.arange(len(values)), None
    if y is not None:
        rows, labels = labeled_rows(est, rows, y)
        if np.ndim(labels) != 1:
            check_labels(labels, rows)  # refuses the indicator, with its shape
    active = rows[_where_active(values[rows] != 0, factor, "factor")]
    ordered = active[np.argsort(values[active], kind="stable")]
    n_low = min(k, (len(ordered) + 1) // 2)
    n_high = min(k, len(ordered) - n_low)
    chosen = np.concatenate([ordered[:n_low], ordered[len(ordered) - n_high :]])
    top = pd.DataFrame({"end": ["lowest"] * n_low + ["highest"] * n_high, "sample": chosen})
    if labels is not None:
        top["class"] = pd.Series(labels, index=rows).loc[chosen].to_numpy()
    return top.assign(value=values[chosen])


def _where_active(
    active: NDArray[np.bool_], dimension: int, name: str = "dimension"
) -> NDArray[np.intp]:
    """Return the rows in which the dimension is active."""
    if not active.any():
        raise ValueError(f"{name} is {dimension}, which is never active in X: choose another.")
    return np.flatnonzero(active)


def _where_active_in_class(
    est: Any, active: NDArray[np.bool_], y: ArrayLike | None, dimension: int, label: Any
) -> tuple[Any, NDArray[np.intp]]:
    """Return the label as a Python object, and the rows of its class in which it is active."""
    if y is None:
        raise ValueError(f"label is {label!r}, but y is None: pass the labels of X as y.")
    rows, y = labeled_rows(est, np.arange(len(active)), y)
    classes, labels = check_labels(y, rows)
    c = position(classes, label)
    if c is None:
        raise ValueError(f"label is {brief(label)}, but the classes of y are {brief(classes)}.")
    label = classes.tolist()[c]  # 'boot', not np.str_('boot')
    having = active[rows]
    of_class = rows[(labels == c) & having]
    if not of_class.size:
        message = f"dimension is {dimension}, which is never active in class {label!r}"
        if not having.any():
            raise ValueError(f"{message}, nor elsewhere in X with a label: choose another.")
        raise ValueError(
            f"{message}: choose another, or a label of the classes where it is active, "
            f"{brief(classes[np.unique(labels[having])])}."
        )
    return label, of_class


def _most_typical(Z: Any) -> int:
    """Return the position of the code that is nearest to the mean."""
    # Without the square of the mean, which is the same for all.
    distance = Z.multiply(Z).sum(axis=1) - 2 * (Z @ Z.mean(axis=0))
    return int(np.argmin(distance))


def effects_of_dimension(est: Any, X: Any, Z: Any, dimension: int) -> pd.DataFrame:
    """Return the row of `feature_effects` of one dimension, from samples and their codes."""
    effects = _mean_effects(est, Z, "range", 100, only=dimension)[[dimension]]
    return named_effects(est, X, effects, pd.Index([dimension], name="dimension"))


def _mean_effects(
    est: Any, Z: Any, kind: Kind, max_samples: int, only: int | None = None
) -> NDArray[np.float64]:
    """Return the mean effect of each dimension, (n_components, n_features), NaN if never active."""
    n_features = np.asarray(est.inverse_transform(Z[[0]].toarray())).shape[1]
    batch_size = max(1, _BATCH_ELEMENTS // n_features)
    columns = Z.tocsc()
    effects = np.full((Z.shape[1], n_features), np.nan)
    for j, (start, stop) in enumerate(itertools.pairwise(columns.indptr)):
        if start == stop or only not in (None, j):
            continue
        values = columns.data[start:stop].astype(np.float64)
        ends = np.quantile(values, [0.1, 0.9]) if kind == "range" else [0.0, np.median(values)]
        picked = random_rows(len(values), max_samples)
        codes = Z[columns.indices[start:stop][picked]].toarray()
        effects[j] = sum(
            _decoded_sum(est, codes[rows], j, ends[1]) - _decoded_sum(est, codes[rows], j, ends[0])
            for rows in gen_batches(len(codes), batch_size)
        ) / len(codes)
    return effects


def _decoded_sum(
    est: Any, codes: NDArray[Any], dimension: int, value: float
) -> NDArray[np.float64]:
    """Return the sum of the samples decoded with the dimension at a value, (n_features,)."""
    codes = codes.copy()
    codes[:, dimension] = value
    total: NDArray[np.float64] = np.asarray(est.inverse_transform(codes)).sum(axis=0, dtype=float)
    return total
