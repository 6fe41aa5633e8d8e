"""What a latent dimension does to the features, what marks a class, and samples that show it."""

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

# Decoded samples are held about this many values at a time (32 MB of float64).
_BATCH_ELEMENTS = 2**22


class Traversal(NamedTuple):
    """A real sample, decoded while one of its active dimensions is swept. See `traverse`."""

    dimension: int  # which is swept
    label: Any  # the class within which; None: all samples
    quantiles: NDArray[np.float64]  # (n_steps,), of the dimension's non-zero values
    values: NDArray[np.float64]  # (n_steps,), that the dimension takes
    sample: int  # row of X that the sweep starts from
    codes: NDArray[Any]  # (n_steps, n_components), those of the sample but for the dimension
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

    The values are quantiles of the dimension's non-zero values among the samples of a class, so
    that no step leaves what the data have. The other dimensions stay as they are in the sample,
    which is the most typical of the class: of the samples with the dimension active, the one
    whose code is closest to their mean.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a pipeline
        that holds one, or any other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,), default=None
        Class labels, as the estimator reads them. Needed with `label` alone.
    dimension : int
        The dimension to sweep.
    label : object, default=None
        The class to stay within, one of those in `y`. None: all samples.
    n_steps : int, default=9
        Number of values, at least two.
    quantiles : tuple of (lowest, highest), default=(0.05, 0.95)
        Where the sweep starts and ends, in [0, 1]; the steps between are evenly spaced quantiles.

    Returns
    -------
    traversal : Traversal
        Named tuple:

        - `dimension`, `label`: as given;
        - `quantiles`, `values`: ndarrays of shape (n_steps,), the quantiles and the values there;
        - `sample`: row of X the sweep starts from;
        - `codes`: ndarray of shape (n_steps, n_components);
        - `X_hat`: ndarray of shape (n_steps, n_features), the codes decoded, in X's units.

    Raises
    ------
    ValueError
        If no sample of the class has the dimension active, `label` is no class of `y`, or another
        argument is not as described.

    See Also
    --------
    feature_effects : The same, averaged over samples, for all dimensions.
    sklearn_classvsc.displays.TraversalDisplay : Draws it.

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
    """Traverse a dimension in each class that has it, all over the same values.

    A class has it that activates it in at least half of its samples; if none does, the classes that
    have it active at all are taken.
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
    r"""Measure how much each feature moves, in its own units, when a dimension changes.

    For dimension j, with :math:`A_j` the samples in which it is active and D the decoder,

    .. math:: \frac{1}{|A_j|} \sum_{i \in A_j} D(z_i \text{ with } z_{ij} = b)
              - D(z_i \text{ with } z_{ij} = a),

    with a and b the 10 % and 90 % quantiles of the dimension's non-zero values (`kind="range"`:
    what do its usual values do?), or zero and their median (`kind="presence"`: what does it do to
    be on at all?). All is taken over all samples or, with `y`, within each class.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a pipeline
        that holds one, or any other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,), default=None
        Class labels, as the estimator reads them. Samples without a label are left out. None: one
        effect of each dimension, over all samples.
    kind : {"range", "presence"}, default="range"
        The change. "presence" suits a dimension that a class has and others lack.
    max_samples : int, default=100
        The mean is over so many of the samples at most, drawn at random, the same at every call;
        quantiles are of all.

    Returns
    -------
    effects : DataFrame of n_components rows and n_features columns
        Indexed by `dimension`; with `y` by (`class`, `dimension`), n_classes * n_components rows.
        Columns are the names of the features, "x0" and so on where X had none. Rows of dimensions
        that are never active are NaN. ``effects.attrs["scale"]`` keeps the standard deviation of
        each feature in these samples (1 for constant ones), by which `top_features` compares them;
        of a model of counts, ``attrs["level"]`` has their means. Of a pipeline, columns are those
        of the table: numbers in their own units if the steps before say so, and of a category
        "island = Biscoe" as the share of it; ``attrs["origin"]`` has the columns that these are of.

    Raises
    ------
    ValueError
        If an argument is not as described.

    See Also
    --------
    top_features : The features that each dimension moves most.
    traverse : One sample, step by step.

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
    r"""List the features that each dimension, or class, moves most.

    Features are ranked by what an effect e is relative to the feature: :math:`|e| / s`, with s its
    standard deviation. Of a model of counts, by the logarithmic fold change
    :math:`\log_2 \frac{m + e + c}{m + c}`, with m the mean count of the feature and c that of all
    features, so that a rare word needs more than a word of many occurrences; those that rise come
    before those that fall, since what a sample has says more than what it lacks.

    Parameters
    ----------
    effects : DataFrame of shape (n_rows, n_features)
        From `feature_effects` or `class_differences`; all of it or some of its rows and columns.
    k : int, default=5
        Number of features for each row of `effects`. Of dummies of one column, that which moves
        most stands for all.
    scale : float or array-like of shape (n_features,), default=None
        What an effect is divided by to be compared across features. None: the standard deviation
        of the feature, from ``effects.attrs``, or for counts the fold change. 1 compares the
        effects as they are, which serves features of one unit, such as pixels.

    Returns
    -------
    top : DataFrame of at most n_rows * k rows
        - the index of `effects`: `class`, where it has that, and `dimension` or `kind`;
        - `rank`: 1 for the feature that moves most;
        - `feature`: its name;
        - `effect`: in the feature's units, signed;
        - `relative_effect`: what features are ranked by, signed;
        - `measure`: what that is, "SD", "log2 fold change", or "scaled" by `scale`.

        Dimensions without effects, because they are never active, have no rows.

    Raises
    ------
    ValueError
        If `scale` is None and `effects` has lost its own, or it is not positive.

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
    if measure == FOLD_CHANGE:  # those that rise first
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
    r"""Compare what the code says marks a class with what the data say.

    A class has a block of dimensions, and a sample has all of them or few. So the whole block is
    switched: samples of the other classes are decoded as they are, and with the support of the
    class, as :func:`~sklearn_classvsc.editing.counterfactual` gives it. The mean change is the
    *counterfactual*. Beside it stands the plain *difference* in the data, the mean of the class
    minus the mean of the means of the other classes, without any model.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a pipeline
        that holds one, or any other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,)
        Class labels, of at least two classes, as the estimator reads them.
    max_samples : int, default=200
        So many samples are made into each class at most, equally many of each other class, drawn
        at random, the same at every call. The difference is that of all samples.

    Returns
    -------
    differences : DataFrame of 2 * n_classes rows and n_features columns
        Indexed by `class` and `kind`, "counterfactual" or "difference"; in X's units. Counts of a
        model of counts are those of samples of the total that the model decodes. ``attrs`` are as
        those of `feature_effects`, so that `top_features` takes it.

    Raises
    ------
    ValueError
        If `y` has one class only, or another argument is not as described.

    See Also
    --------
    top_features : The features that mark each class most.

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

    Real samples, side by side, often say at once what a dimension stands for.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform`: a transformer of this package, a pipeline that holds one, or any
        other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    y : array-like of shape (n_samples,), default=None
        Class labels, as the estimator reads them. Samples without a label are left out.
    factor : int
        The dimension.
    k : int, default=5
        Number of samples of each end; fewer if it is active in fewer than 2 k.

    Returns
    -------
    top : DataFrame of at most 2 * k rows
        From the lowest to the highest value of those in which the dimension is active: `end`,
        "lowest" or "highest"; `sample`, its row in X; `class`, if y is given; and `value`.

    Raises
    ------
    ValueError
        If the dimension is active in none, or another argument is not as described.

    See Also
    --------
    sklearn_classvsc.displays.FactorDisplay : Draws them.

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
    """Return what `top_samples` does, of codes Z, CSR, of all samples."""
    check_scalar(factor, "factor", Integral, min_val=0, max_val=Z.shape[1] - 1)
    values = Z[:, [factor]].toarray()[:, 0]
    rows, labels = np.arange(len(values)), None
    if y is not None:
        rows, labels = labeled_rows(est, rows, y)
        if np.ndim(labels) != 1:
            check_labels(labels, rows)  # names the indicator
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
    """Rows in which the dimension is active."""
    if not active.any():
        raise ValueError(f"{name} is {dimension}, which is never active in X: choose another.")
    return np.flatnonzero(active)


def _where_active_in_class(
    est: Any, active: NDArray[np.bool_], y: ArrayLike | None, dimension: int, label: Any
) -> tuple[Any, NDArray[np.intp]]:
    """Return the label as Python has it, and the rows of its class with the dimension active."""
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
            f"{message}: choose another, or as label one of the classes that have it, "
            f"{brief(classes[np.unique(labels[having])])}."
        )
    return label, of_class


def _most_typical(Z: Any) -> int:
    """Position of the code nearest to the mean of all, up to the mean's own square."""
    distance = Z.multiply(Z).sum(axis=1) - 2 * (Z @ Z.mean(axis=0))
    return int(np.argmin(distance))


def effects_of_dimension(est: Any, X: Any, Z: Any, dimension: int) -> pd.DataFrame:
    """Return the row of `feature_effects` of one dimension, of samples whose codes are known."""
    effects = _mean_effects(est, Z, "range", 100, only=dimension)[[dimension]]
    return named_effects(est, X, effects, pd.Index([dimension], name="dimension"))


def _mean_effects(
    est: Any, Z: Any, kind: Kind, max_samples: int, only: int | None = None
) -> NDArray[np.float64]:
    """Mean effect of each dimension, (n_components, n_features), NaN where never active."""
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
    """Sum over samples of what they decode to with the dimension at a value, (n_features,)."""
    codes = codes.copy()
    codes[:, dimension] = value
    total: NDArray[np.float64] = np.asarray(est.inverse_transform(codes)).sum(axis=0, dtype=float)
    return total
