"""Scorers ``(estimator, X, y)`` of any transformer, and the search for inert dimensions.

In a pipeline that holds a transformer of this package, that transformer is scored; of any other
pipeline, the last step. Labels are read as in ``fit``, and samples without one are not scored.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_scalar, gen_batches

from sklearn_classvsc._pipelines import unroll
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics._consistency import class_consistency_score, class_contrast_score
from sklearn_classvsc.metrics._counts import MatrixLike, check_labels, check_matrix
from sklearn_classvsc.metrics._fidelity import dense, fidelity_of, variance_of
from sklearn_classvsc.metrics._probe import k_sparse_probe_score


def consistency_scorer(estimator: Any, X: MatrixLike, y: ArrayLike) -> float:
    """Score the codes of an estimator by :func:`class_consistency_score`.

    Parameters
    ----------
    estimator : fitted transformer
        Any object with ``transform``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of several labels, as the estimator reads them. Samples
        without a label are not scored.

    Returns
    -------
    score : float
        In [0, 1]; higher is more consistent.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or if no sample has a label.

    See Also
    --------
    class_consistency_score : The score of given codes.
    contrast_scorer : Consistency minus the sharing between classes.

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
    estimator, X = unroll(estimator, X)
    return class_consistency_score(*labeled_rows(estimator, estimator.transform(X), y))


def contrast_scorer(estimator: Any, X: MatrixLike, y: ArrayLike) -> float:
    """Score the codes of an estimator by :func:`class_contrast_score`, without global dimensions.

    Parameters
    ----------
    estimator : fitted transformer
        Any object with ``transform``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of several labels, as the estimator reads them. Samples
        without a label are not scored.

    Returns
    -------
    score : float
        In [-1, 1]; higher is better.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or if no sample has a label.

    See Also
    --------
    class_contrast_score : The score of given codes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import contrast_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> contrast_scorer(PCA(2).fit(X), X, y)  # every dimension is always active
    0.0
    """
    estimator, X = unroll(estimator, X)
    return class_contrast_score(*labeled_rows(estimator, estimator.transform(X), y))


def probe_scorer(estimator: Any, X: MatrixLike, y: ArrayLike, *, k: int = 5) -> float:
    """Score the codes of an estimator by :func:`k_sparse_probe_score`, in two folds.

    The probes are fitted to one half of the codes and scored on the other, then the other way
    round. The halves are stratified, and the same for the same `y`.

    Parameters
    ----------
    estimator : fitted transformer
        Any object with ``transform``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : array-like of shape (n_samples,)
        Class labels, as the estimator reads them. Samples without a label are not scored. If
        samples have several labels, pass one column of the indicator.
    k : int, default=5
        Dimensions of a probe. ``functools.partial(probe_scorer, k=1)`` is a scorer too.

    Returns
    -------
    score : float
        In [0, 1]; higher is better. Chance is 0.5.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or if no sample has a label.

    See Also
    --------
    k_sparse_probe_score : The score of given codes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import probe_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> probe_scorer(PCA(2).fit(X), X, y, k=1) > 0.7
    True
    """
    estimator, X = unroll(estimator, X)
    Z, labels = labeled_rows(estimator, check_matrix(estimator.transform(X), "codes"), y)
    labels = check_labels(labels, Z)[1]
    folds = StratifiedKFold(n_splits=2, shuffle=True, random_state=0).split(Z, labels)
    scores = [k_sparse_probe_score(Z[a], labels[a], Z[b], labels[b], k=k) for a, b in folds]
    return float(np.mean(scores))


def elbo_scorer(estimator: Any, X: MatrixLike, y: ArrayLike | None = None) -> float:
    """Score an estimator by its evidence lower bound (ELBO), ``estimator.score(X)``.

    Parameters
    ----------
    estimator : fitted estimator
        Any object with ``score``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : Ignored, default=None
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        In nats per sample; higher is better. Divide by ``-n_features * np.log(2)`` to get bits per
        feature.

    Raises
    ------
    AttributeError
        If `estimator` has no ``score``.

    See Also
    --------
    fidelity_scorer : Explained variance, without the cost of the code.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import elbo_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> round(elbo_scorer(PCA(2).fit(X), X), 1)
    -2.7
    """
    estimator, X = unroll(estimator, X)
    return float(estimator.score(X))


def fidelity_scorer(estimator: Any, X: MatrixLike, y: ArrayLike | None = None) -> float:
    r"""Explained variance of the data decoded from its codes.

    It is the mean over features of
    :math:`1 - \operatorname{var}(X_f - \hat X_f) / \operatorname{var}(X_f)`, with
    :math:`\hat X` = ``inverse_transform(transform(X))``. Every feature counts the same, whatever
    its unit. Constant features are left out.

    For a Bernoulli model (`likelihood_` "bernoulli"), features are pooled as in
    :func:`pooled_fidelity_scorer`: they have one unit, and many pixels of an image hardly vary.

    For a model of counts (`likelihood_` "poisson", "multinomial" or "negative_binomial"), the score
    is the explained deviance, since a code does not hold the total of a sample, and most of the
    variance of a rare word is chance. With :math:`m_{if}` the decoded counts at the total of the
    sample, and :math:`m^0_{if}` the counts if all samples had the same shares, it is
    :math:`1 - \sum_{if} x_{if} \log (x_{if} / m_{if}) / \sum_{if} x_{if} \log (x_{if} / m^0_{if})`.

    Parameters
    ----------
    estimator : fitted transformer
        Any object with ``transform`` and ``inverse_transform``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data.
    y : Ignored, default=None
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        At most 1. It is 0 for a decoder that always returns the mean, or the mean shares of counts.

    Raises
    ------
    ValueError
        If all features of X are constant.

    See Also
    --------
    pooled_fidelity_scorer : The same with features weighted by their variance.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import fidelity_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> round(fidelity_scorer(PCA(2).fit(X), X), 2)
    0.93
    """
    return fidelity_of(*unroll(estimator, X)).score


def pooled_fidelity_scorer(estimator: Any, X: MatrixLike, y: ArrayLike | None = None) -> float:
    r"""Explained variance of the data decoded from its codes, pooled over features.

    :math:`1 - \sum_f \operatorname{var}(X_f - \hat X_f) / \sum_f \operatorname{var}(X_f)`: features
    of large variance weigh more. Use it for features of one unit, such as pixels. No linear code of
    the same size explains more of the training data than a PCA. If units differ, the feature of
    the smallest unit dominates: a column in seconds outweighs columns in years.

    Parameters
    ----------
    estimator : fitted transformer
        Any object with ``transform`` and ``inverse_transform``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data. Counts are decoded at the total of each sample.
    y : Ignored, default=None
        Not used, present for API consistency by convention.

    Returns
    -------
    score : float
        At most 1. It is 0 for a decoder that always returns the mean.

    Raises
    ------
    ValueError
        If all features of X are constant.

    See Also
    --------
    fidelity_scorer : The mean over features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import pooled_fidelity_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> round(pooled_fidelity_scorer(PCA(2).fit(X), X), 2)
    0.98
    """
    return fidelity_of(*unroll(estimator, X)).pooled


def inert_dimensions(estimator: Any, X: MatrixLike, *, eps: float = 1e-3) -> NDArray[np.bool_]:
    """Find the dimensions that are active but do not change the decoded samples.

    Each dimension is set to 0 where it is active, and the codes are decoded again. The squared
    change is averaged over these samples. A dimension is inert if the change is less than `eps`
    times the variance of X, both summed over all features and as the mean of this ratio over
    features.

    Parameters
    ----------
    estimator : fitted transformer
        Any object with ``transform`` and ``inverse_transform``, or a fitted Pipeline.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Held-out data. A few hundred samples suffice; each dimension decodes again the samples in
        which it is active.
    eps : float, default=1e-3
        Smallest change that counts, as a fraction of the variance.

    Returns
    -------
    inert : ndarray of bool of shape (n_dimensions,)
        False for a dimension that is never active.

    Raises
    ------
    ValueError
        If all features of X are constant, or `eps` is negative.

    See Also
    --------
    dimension_roles : The roles of dimensions, with the unused ones.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_classvsc.metrics import inert_dimensions
    >>> X, _ = load_iris(return_X_y=True)
    >>> inert_dimensions(PCA(4).fit(X), X, eps=0.02)
    array([False, False, False,  True])
    """
    check_scalar(eps, "eps", Real, min_val=0)
    estimator, X = unroll(estimator, X)
    codes = dense(estimator.transform(X), "codes")
    return inert_by_codes(estimator, check_matrix(X, "X", missing=True), codes, eps)


def inert_by_codes(estimator: Any, X: Any, Z: NDArray[Any], eps: float = 1e-3) -> NDArray[np.bool_]:
    """Find the inert dimensions from samples and their codes."""
    variance = variance_of(X)
    varies = variance > 0
    if not varies.any():
        raise ValueError(
            "X has constant features only, but the change is compared with their variance: pass "
            "more samples that differ."
        )
    inert = np.zeros(Z.shape[1], dtype=bool)
    for j, active in enumerate((Z != 0).T):
        if active.any():
            change = _squared_change(estimator, Z[active], j)
            relative = (change[varies] / variance[varies]).mean()
            inert[j] = max(relative, change.sum() / variance.sum()) < eps
    return inert


def _squared_change(estimator: Any, Z: NDArray[Any], dimension: int) -> NDArray[np.float64]:
    """Return the mean squared change of each feature if a dimension is set to 0, (f,)."""
    n_features = np.shape(estimator.inverse_transform(Z[:1]))[1]
    total = np.zeros(n_features)
    for rows in gen_batches(len(Z), max(1, 2**22 // n_features)):
        ablated = Z[rows].copy()
        ablated[:, dimension] = 0
        change = estimator.inverse_transform(ablated) - dense(
            estimator.inverse_transform(Z[rows]), "X_hat"
        )
        total += np.square(change, dtype=np.float64).sum(axis=0)
    return total / len(Z)
