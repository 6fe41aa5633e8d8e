"""What a latent dimension does to the features: sweeps, effects and the features that move."""

from __future__ import annotations

import itertools
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_scalar, gen_batches
from sklearn.utils.validation import check_is_fitted

from ._messages import brief
from .labels import labeled_rows, position
from .metrics._counts import MatrixLike, check_labels, random_rows

__all__ = ["Traversal", "feature_effects", "top_features", "traverse"]

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
        that ends in one, or any other whose zeros mean "not active".
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
        that ends in one, or any other whose zeros mean "not active".
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
        each feature in these samples (1 for constant ones), by which `top_features` compares them.

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
    # As objects: pandas' own strings must be valid UTF-8, names need not be.
    columns = pd.Index(feature_names(est, effects.shape[1]), dtype=object)
    frame = pd.DataFrame(effects, index=index, columns=columns)
    scale = StandardScaler(with_mean=False).fit(X).scale_
    frame.attrs["scale"] = dict(zip(frame.columns, scale.tolist(), strict=True))
    return frame


def top_features(
    effects: pd.DataFrame, k: int = 5, *, scale: ArrayLike | None = None
) -> pd.DataFrame:
    """List the features that each dimension moves most.

    Parameters
    ----------
    effects : DataFrame of shape (n_rows, n_features)
        From `feature_effects`; all of it or some of its rows and columns.
    k : int, default=5
        Number of features for each row of `effects`.
    scale : float or array-like of shape (n_features,), default=None
        What an effect is divided by to be compared across features. None: the standard deviation
        of the feature, from ``effects.attrs``. 1 compares the effects as they are, which serves
        features of one unit, such as pixels or counts.

    Returns
    -------
    top : DataFrame of at most n_rows * k rows
        - `class`, where `effects` has it, and `dimension`;
        - `rank`: 1 for the feature that moves most;
        - `feature`: its name;
        - `effect`: in the feature's units, signed;
        - `relative_effect`: `effect` divided by `scale`.

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
    ['dimension', 'rank', 'feature', 'effect', 'relative_effect']
    """
    check_scalar(k, "k", Integral, min_val=1)
    present = effects.dropna(how="all")
    relative = present.to_numpy() / _check_scale(effects, scale)
    order = np.argsort(-np.abs(relative), axis=1, kind="stable")[:, :k]
    n_rows, n_top = order.shape
    top = present.index.repeat(n_top).to_frame(index=False)
    return top.assign(
        rank=np.tile(np.arange(1, n_top + 1), n_rows),
        feature=present.columns.to_numpy()[order].ravel(),
        effect=np.take_along_axis(present.to_numpy(), order, axis=1).ravel(),
        relative_effect=np.take_along_axis(relative, order, axis=1).ravel(),
    )


def feature_names(est: Any, n_features: int) -> list[str]:
    """Return the names the estimator was fitted with, or x0, x1 ... as scikit-learn has them."""
    names = getattr(est, "feature_names_in_", None)
    return [f"x{i}" for i in range(n_features)] if names is None else [str(name) for name in names]


def sparse_codes(est: Any, X: MatrixLike) -> Any:
    """Return the codes as CSR, whatever `transform` returns."""
    check_is_fitted(est)
    Z = est.transform(X)
    return csr_array(Z if hasattr(Z, "toarray") else np.asarray(Z))


def _where_active(active: NDArray[np.bool_], dimension: int) -> NDArray[np.intp]:
    """Rows in which the dimension is active."""
    if not active.any():
        raise ValueError(f"dimension is {dimension}, which is never active in X: choose another.")
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


def _mean_effects(est: Any, Z: Any, kind: Kind, max_samples: int) -> NDArray[np.float64]:
    """Mean effect of each dimension, (n_components, n_features), NaN where never active."""
    n_features = np.asarray(est.inverse_transform(Z[[0]].toarray())).shape[1]
    batch_size = max(1, _BATCH_ELEMENTS // n_features)
    columns = Z.tocsc()
    effects = np.full((Z.shape[1], n_features), np.nan)
    for j, (start, stop) in enumerate(itertools.pairwise(columns.indptr)):
        if start == stop:
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


def _check_scale(effects: pd.DataFrame, scale: ArrayLike | None) -> NDArray[np.float64]:
    if scale is None:
        kept = effects.attrs.get("scale", {})
        if missing := [name for name in effects.columns if name not in kept]:
            raise ValueError(
                f"scale is None, but effects.attrs has no scale of {brief(missing[0])}: pass the "
                "standard deviations of the features, or scale=1 to compare effects as they are."
            )
        scale = [kept[name] for name in effects.columns]
    checked = np.asarray(scale, dtype=np.float64)
    if checked.shape not in {(), (effects.shape[1],)} or not (checked > 0).all():
        raise ValueError(
            f"scale is {brief(scale)}, but must be a positive number, or one for each of the "
            f"{effects.shape[1]} features."
        )
    return checked
