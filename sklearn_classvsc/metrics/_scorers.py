"""Scorers ``(estimator, X, y)`` of any transformer, for model selection, and ablation.

The estimator may be a pipeline that ends with the transformer. What ``transform`` gives is what
is scored: its non-zeros are the active dimensions. Labels are read as the estimator reads them in
``fit``: samples without one, by its ``unlabeled``, are not scored. A class that it has not seen is
a class like others.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_array, check_scalar

from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics._consistency import class_consistency_score, class_contrast_score
from sklearn_classvsc.metrics._counts import (
    MatrixLike,
    check_labels,
    check_matrix,
    row_batches,
    to_dense,
)
from sklearn_classvsc.metrics._probe import k_sparse_probe_score


def consistency_scorer(estimator: Any, X: MatrixLike, y: ArrayLike) -> float:
    """Score an estimator's codes by :func:`class_consistency_score`.

    Parameters
    ----------
    estimator : fitted transformer
        Has ``transform``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of them, as the estimator reads them. Samples without a label
        are left out.

    Returns
    -------
    score : float
        In [0, 1]; higher is more consistent.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or no sample has a label.

    Examples
    --------
    >>> from sklearn.decomposition import NMF
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_classvsc.datasets import make_class_factors
    >>> from sklearn_classvsc.metrics import consistency_scorer, fidelity_scorer
    >>> X, y = make_class_factors(300, noise=0.01, return_X_y=True, random_state=0)
    >>> search = GridSearchCV(
    ...     NMF(init="nndsvda", max_iter=500),
    ...     {"n_components": [2, 10]},
    ...     scoring={"consistency": consistency_scorer, "fidelity": fidelity_scorer},
    ...     refit="fidelity",
    ... )
    >>> search.fit(abs(X), y).best_params_
    {'n_components': 10}
    """
    return class_consistency_score(*labeled_rows(estimator, estimator.transform(X), y))


def contrast_scorer(estimator: Any, X: MatrixLike, y: ArrayLike) -> float:
    """Score an estimator's codes by :func:`class_contrast_score`, over non-global dimensions.

    Parameters
    ----------
    estimator : fitted transformer
        Has ``transform``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of them, as the estimator reads them. Samples without a label
        are left out.

    Returns
    -------
    score : float
        In [-1, 1]; higher is better.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or no sample has a label.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import contrast_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> contrast_scorer(PCA(2).fit(X), X, y)  # every dimension is always on
    0.0
    """
    return class_contrast_score(*labeled_rows(estimator, estimator.transform(X), y))


def probe_scorer(estimator: Any, X: MatrixLike, y: ArrayLike, *, k: int = 5) -> float:
    """Score an estimator's codes by :func:`k_sparse_probe_score`, in two folds.

    The probes are trained on one half of the held-out codes and scored on the other, and the
    reverse; the halves are stratified and the same for the same `y`.

    Parameters
    ----------
    estimator : fitted transformer
        Has ``transform``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : array-like of shape (n_samples,)
        Class labels, as the estimator reads them. Samples without a label are left out. Of an
        indicator, one column.
    k : int, default=5
        Dimensions per probe; ``functools.partial(probe_scorer, k=1)`` is a scorer too.

    Returns
    -------
    score : float
        In [0, 1]; higher is better, chance is 0.5.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or no sample has a label.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import probe_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> probe_scorer(PCA(2).fit(X), X, y, k=1) > 0.7
    True
    """
    Z, labels = labeled_rows(estimator, check_matrix(estimator.transform(X), "codes"), y)
    labels = check_labels(labels, Z)[1]
    folds = StratifiedKFold(n_splits=2, shuffle=True, random_state=0).split(Z, labels)
    scores = [k_sparse_probe_score(Z[a], labels[a], Z[b], labels[b], k=k) for a, b in folds]
    return float(np.mean(scores))


def elbo_scorer(estimator: Any, X: MatrixLike, y: ArrayLike | None = None) -> float:
    """Score an estimator by its evidence lower bound, ``estimator.score(X)``.

    Parameters
    ----------
    estimator : fitted estimator
        Has ``score``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : Ignored, default=None
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        In nats per sample; higher is better. Over ``-n_features * np.log(2)`` it is in bits per
        feature.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import elbo_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> round(elbo_scorer(PCA(2).fit(X), X), 1)
    -2.7
    """
    return float(estimator.score(X))


def fidelity_scorer(estimator: Any, X: MatrixLike, y: ArrayLike | None = None) -> float:
    r"""Explained variance of the data decoded from its codes.

    :math:`1 - \sum_f \operatorname{var}(X_f - \hat X_f) / \sum_f \operatorname{var}(X_f)` with
    :math:`\hat X` = ``inverse_transform(transform(X))``: residuals in X's units, pooled over
    features, so that features of large variance weigh more.

    Parameters
    ----------
    estimator : fitted transformer
        Has ``transform`` and ``inverse_transform``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : Ignored, default=None
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        At most 1; 0 for a decoder that gives the mean.

    Raises
    ------
    ValueError
        If all features of X are constant.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import fidelity_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> round(fidelity_scorer(PCA(2).fit(X), X), 2)
    0.98
    """
    X_hat = _dense(estimator.inverse_transform(estimator.transform(X)), "X_hat")
    X = check_matrix(X, "X")
    return 1 - _total_variance(X, X_hat) / _variance_of_data(X)


def inert_dimensions(estimator: Any, X: MatrixLike, *, eps: float = 1e-3) -> NDArray[np.bool_]:
    """Find the dimensions that are active but do not change the reconstruction.

    Each dimension is set to 0 where it is active, and the codes are decoded again. It is inert when
    the squared change, summed over features and averaged over the samples in which it is active,
    is less than `eps` times the total variance of X.

    Parameters
    ----------
    estimator : fitted transformer
        Has ``transform`` and ``inverse_transform``.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data, of which a few hundred samples suffice: every dimension decodes once more
        those in which it is active.
    eps : float, default=1e-3
        Smallest change that counts, as a fraction of the total variance.

    Returns
    -------
    inert : ndarray of bool of shape (n_dimensions,)
        False for a dimension that is never active: that one is dead.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import inert_dimensions
    >>> X, _ = load_iris(return_X_y=True)
    >>> inert_dimensions(PCA(4).fit(X), X, eps=0.01)
    array([False, False, False,  True])
    """
    check_scalar(eps, "eps", Real, min_val=0)
    threshold = eps * _variance_of_data(check_matrix(X, "X"))
    Z = _dense(estimator.transform(X), "codes")
    X_hat = _dense(estimator.inverse_transform(Z), "X_hat")
    inert = np.zeros(Z.shape[1], dtype=bool)
    for j, active in enumerate((Z != 0).T):
        if active.any():
            ablated = Z[active]
            ablated[:, j] = 0
            change = _dense(estimator.inverse_transform(ablated), "X_hat") - X_hat[active]
            inert[j] = np.square(change).sum(axis=1).mean() < threshold
    return inert


def _dense(matrix: MatrixLike, name: str) -> NDArray[np.floating]:
    dense: NDArray[np.floating] = check_array(
        to_dense(matrix),
        dtype=[np.float64, np.float32],
        input_name=name,
    )
    return dense


def _total_variance(X: Any, X_hat: NDArray[np.floating] | None = None) -> float:
    """Sum of the variances of the features, or of their residuals."""

    def batches() -> Iterator[NDArray[np.float64]]:
        for rows in row_batches(X):
            batch = to_dense(X[rows]).astype(np.float64)
            yield batch if X_hat is None else batch - X_hat[rows]

    # From the first sample, so that the variance of a constant is 0 whatever its size.
    origin = next(batches())[0]
    mean = sum((batch - origin).sum(axis=0) for batch in batches()) / X.shape[0]
    squares = (np.square(batch - origin - mean).sum() for batch in batches())
    return float(sum(squares) / X.shape[0])


def _variance_of_data(X: Any) -> float:
    if not (variance := _total_variance(X)):
        raise ValueError(
            "X has constant features only, but the reconstruction is measured against their "
            "variance: pass more, and different, samples."
        )
    return variance
