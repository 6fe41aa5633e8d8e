"""Whether dimensions come back in another fit, and mean the same in every class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_array, check_consistent_length, check_random_state

from sklearn_classvsc.metrics._counts import MatrixLike, check_labels, check_matrix, to_dense

Floats = NDArray[np.float64]


class FactorRecurrence(NamedTuple):
    """What :func:`factor_recurrence` returns; (d,) each but for `chance`.

    Attributes
    ----------
    recurrence : ndarray of shape (n_dimensions,)
        Absolute correlation within classes with the partner, in [0, 1]; NaN for a dimension that
        varies in no class.
    partner : ndarray of int of shape (n_dimensions,)
        The dimension of the other code that it is paired with; -1 for none.
    sign : ndarray of shape (n_dimensions,)
        1 or -1, by the sign of that correlation; 0 without a partner.
    ceiling : ndarray of shape (n_dimensions,)
        Multiple correlation with all dimensions of the other code: what a rotation of it could
        reach. A large ceiling above a small recurrence says that the other fit has the factor, but
        in several dimensions.
    chance : float
        Mean recurrence where the samples of each class are shuffled in the other code.
    """

    recurrence: Floats
    partner: NDArray[np.intp]
    sign: Floats
    ceiling: Floats
    chance: float


def factor_recurrence(
    codes: MatrixLike,
    other_codes: MatrixLike,
    y: ArrayLike | None = None,
    *,
    random_state: int | np.random.RandomState | None = 0,
) -> FactorRecurrence:
    r"""Pair the dimensions of two codes of the same samples, and say how alike partners are.

    With :math:`\tilde z_{ij}` a code less the mean of its class, the likeness of dimension j of one
    code and k of the other is

    .. math:: r_{jk} = \frac{\sum_c n_c^{-1} \sum_{i \in c} \tilde z_{ij} \tilde z'_{ik}}
              {\sqrt{\sum_c n_c^{-1} \sum_{i \in c} \tilde z_{ij}^2 \;
              \sum_c n_c^{-1} \sum_{i \in c} \tilde z_{ik}'^2}}.

    Every class counts the same, and to know the class is no help. Dimensions are paired one to one
    so that the sum of :math:`|r_{jk}|` is largest (the Hungarian method).

    Parameters
    ----------
    codes, other_codes : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Codes of the same samples by two fits, which may have different numbers of dimensions.
        Measure on samples that neither was fitted to.
    y : array-like of shape (n_samples,), default=None
        Class labels; None takes all samples for one class.
    random_state : int, RandomState instance or None, default=0
        Shuffles the samples for `chance`.

    Returns
    -------
    FactorRecurrence
        Named tuple of `recurrence`, `partner`, `sign`, `ceiling` and `chance`.

    See Also
    --------
    sklearn_classvsc.factor_stability : The same over several refits of an estimator.
    match_dimensions : Pair dimensions by what they do to the features.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import factor_recurrence
    >>> Z = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = factor_recurrence(Z, -Z[:, ::-1])
    >>> found.partner, found.sign
    (array([1, 0]), array([-1., -1.]))
    >>> found.recurrence.round(2), found.chance < 0.1
    (array([1., 1.]), True)
    """
    A, B = (
        to_dense(check_matrix(matrix, name)).astype(np.float64)
        for matrix, name in ((codes, "codes"), (other_codes, "other_codes"))
    )
    check_consistent_length(A, B)
    labels = np.zeros(len(A), int) if y is None else check_labels(y, A)[1]
    A, B = _within(A, labels), _within(B, labels)
    r = A.T @ B
    rows, partners = linear_sum_assignment(np.abs(r), maximize=True)
    paired = np.abs(r[rows, partners]) > 0
    rows, partners = rows[paired], partners[paired]
    varies, d = A.any(axis=0), A.shape[1]
    recurrence, sign = np.where(varies, 0.0, np.nan), np.zeros(d)
    partner = np.full(d, -1)
    partner[rows], sign[rows] = partners, np.sign(r[rows, partners])
    recurrence[rows] = np.abs(r[rows, partners]).clip(max=1)
    shuffled = A.T @ _shuffled(B, labels, check_random_state(random_state))
    by_chance = np.abs(shuffled)[linear_sum_assignment(np.abs(shuffled), maximize=True)]
    explained = B @ np.linalg.lstsq(B, A, rcond=1e-8)[0]
    ceiling = np.where(varies, np.sqrt((explained**2).sum(axis=0)).clip(max=1), np.nan)
    return FactorRecurrence(recurrence, partner, sign, ceiling, _mean(by_chance))


def effect_alignment(effects: ArrayLike) -> Floats:
    r"""Return how alike each dimension's effect is in the classes that have it.

    The mean cosine over pairs of classes. A dimension that means one thing raises the same features
    in every class.

    Parameters
    ----------
    effects : array-like of shape (n_classes, n_dimensions, n_features)
        Effect of each dimension in each class; 0 or NaN where a class lacks it. From a fitted
        estimator, ``feature_effects(est, X, y)`` has them one below the other:
        ``effects.to_numpy().reshape(len(est.classes_), -1, n_features)``.

    Returns
    -------
    alignment : ndarray of shape (n_dimensions,)
        In [-1, 1]; NaN for a dimension that fewer than two classes have.

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : The effects.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import effect_alignment
    >>> effect_alignment([[[1, 0], [2, 0]], [[3, 0], [0, 1]], [[1, 0], [0, 0]]])
    array([1., 0.])
    """
    E = check_array(effects, allow_nd=True, ensure_all_finite="allow-nan", input_name="effects")
    if E.ndim != 3:
        raise ValueError(
            f"effects has the shape {E.shape}, but (n_classes, n_dimensions, n_features) is "
            "needed: pass the effects within each class."
        )
    E = np.nan_to_num(E.astype(np.float64))
    norm = np.linalg.norm(E, axis=2, keepdims=True)
    unit = E / np.where(norm > 0, norm, 1)
    n = (norm[..., 0] > 0).sum(axis=0)
    pairs = n * (n - 1)
    total = (unit.sum(axis=0) ** 2).sum(axis=1) - n  # sum of the cosines of all pairs
    alignment: Floats = np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)
    return alignment


def _within(Z: Floats, labels: NDArray[np.intp]) -> Floats:
    """Return codes less the mean of their class, classes as heavy, columns of length 1 or 0."""
    n = np.bincount(labels)
    means = np.zeros((len(n), Z.shape[1]))
    np.add.at(means, labels, Z)
    centered = (Z - (means / n[:, None])[labels]) / np.sqrt(n)[labels, None]
    length = np.linalg.norm(centered, axis=0)
    least = 1e-9 * np.abs(Z).max(axis=0, initial=0)  # below it, a constant that was rounded
    unit: Floats = np.where(length > least, centered / np.where(length > least, length, 1), 0)
    return unit


def _shuffled(Z: Floats, labels: NDArray[np.intp], rng: np.random.RandomState) -> Floats:
    """Return the rows in another order, each in the place of one of its class."""
    at_random = rng.permutation(len(Z))
    order = np.argsort(labels, kind="stable")
    other = at_random[np.argsort(labels[at_random], kind="stable")]
    shuffled = np.empty_like(Z)
    shuffled[order] = Z[other]
    return shuffled


def _mean(values: Floats) -> float:
    """Return the mean of those that are not 0; 0 for none."""
    values = values[values > 0]
    return float(values.mean()) if values.size else 0.0
