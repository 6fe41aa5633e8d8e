"""Recurrence of dimensions in another fit, and alignment of their effects between classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_array, check_consistent_length, check_random_state

from sklearn_classvsc.metrics._counts import MatrixLike, check_labels, check_matrix, to_dense

Floats = NDArray[np.float64]


class FactorRecurrence(NamedTuple):
    """Result of :func:`factor_recurrence`.

    Attributes
    ----------
    recurrence : ndarray of shape (n_dimensions,)
        Absolute correlation within classes of a dimension and its partner, in [0, 1]; NaN for a
        dimension that varies in no class.
    partner : ndarray of int of shape (n_dimensions,)
        Dimension of the other code that it is paired with; -1 for none.
    sign : ndarray of shape (n_dimensions,)
        Sign of the correlation with the partner, 1 or -1; 0 without a partner.
    ceiling : ndarray of shape (n_dimensions,)
        Multiple correlation with all dimensions of the other code: the recurrence that a rotation
        of the other code could reach. If the ceiling is large and the recurrence small, the other
        fit spreads the factor over several dimensions.
    chance : float
        Mean recurrence if the samples of each class are shuffled in the other code.
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
    r"""Pair the dimensions of two codes of the same samples, and correlate the partners.

    With :math:`\tilde z_{ij}` a code minus the mean of its class, the correlation of dimension j of
    one code and dimension k of the other is

    .. math:: r_{jk} = \frac{\sum_c n_c^{-1} \sum_{i \in c} \tilde z_{ij} \tilde z'_{ik}}
              {\sqrt{\sum_c n_c^{-1} \sum_{i \in c} \tilde z_{ij}^2 \;
              \sum_c n_c^{-1} \sum_{i \in c} \tilde z_{ik}'^2}}.

    Every class counts the same, and codes that agree only on the class are uncorrelated. Dimensions
    are paired one to one so that the sum of :math:`|r_{jk}|` is largest (the Hungarian method).

    Parameters
    ----------
    codes, other_codes : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Codes of the same samples by two fits. They may have different numbers of dimensions.
        Measure on samples that neither was fitted to.
    y : array-like of shape (n_samples,), default=None
        Class labels. None treats all samples as one class.
    random_state : int, RandomState instance or None, default=0
        Shuffles the samples for `chance`.

    Returns
    -------
    found : FactorRecurrence
        Named tuple of `recurrence`, `partner`, `sign`, `ceiling` and `chance`.

    Raises
    ------
    ValueError
        If the codes or labels are not as described, or have different numbers of samples.

    See Also
    --------
    sklearn_classvsc.factor_stability : The same over several refits of an estimator.
    match_dimensions : Pair dimensions by their effects on the features.

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
    r"""Measure how alike the effect of each dimension is in the classes that activate it.

    The alignment is the mean cosine over pairs of classes. It is 1 if a dimension changes the
    features in the same way in every class.

    Parameters
    ----------
    effects : array-like of shape (n_classes, n_dimensions, n_features)
        Effect of each dimension in each class; 0 or NaN if the class does not activate it. For a
        fitted estimator, ``feature_effects(est, X, y)`` returns them stacked: pass
        ``effects.to_numpy().reshape(len(est.classes_), -1, n_features)``.

    Returns
    -------
    alignment : ndarray of shape (n_dimensions,)
        In [-1, 1]; NaN for a dimension that fewer than two classes activate.

    Raises
    ------
    ValueError
        If `effects` does not have three axes.

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : Compute the effects.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import effect_alignment
    >>> effect_alignment([[[1, 0], [2, 0]], [[3, 0], [0, 1]], [[1, 0], [0, 0]]])
    array([1., 0.])
    """
    E = check_array(effects, allow_nd=True, ensure_all_finite="allow-nan", input_name="effects")
    if E.ndim != 3:
        raise ValueError(
            f"effects has the shape {E.shape}, but must have the shape (n_classes, n_dimensions, "
            "n_features): pass the effects within each class."
        )
    E = np.nan_to_num(E.astype(np.float64))
    norm = np.linalg.norm(E, axis=2, keepdims=True)
    unit = E / np.where(norm > 0, norm, 1)
    n = (norm[..., 0] > 0).sum(axis=0)
    pairs = n * (n - 1)
    total = (unit.sum(axis=0) ** 2).sum(axis=1) - n  # sum of cosines over pairs
    alignment: Floats = np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)
    return alignment


def _within(Z: Floats, labels: NDArray[np.intp]) -> Floats:
    """Return codes minus their class means, with classes of equal weight and unit columns or 0."""
    n = np.bincount(labels)
    means = np.zeros((len(n), Z.shape[1]))
    np.add.at(means, labels, Z)
    centered = (Z - (means / n[:, None])[labels]) / np.sqrt(n)[labels, None]
    length = np.linalg.norm(centered, axis=0)
    least = 1e-9 * np.abs(Z).max(axis=0, initial=0)  # what is shorter is a rounded constant
    unit: Floats = np.where(length > least, centered / np.where(length > least, length, 1), 0)
    return unit


def _shuffled(Z: Floats, labels: NDArray[np.intp], rng: np.random.RandomState) -> Floats:
    """Return the rows shuffled within each class."""
    at_random = rng.permutation(len(Z))
    order = np.argsort(labels, kind="stable")
    other = at_random[np.argsort(labels[at_random], kind="stable")]
    shuffled = np.empty_like(Z)
    shuffled[order] = Z[other]
    return shuffled


def _mean(values: Floats) -> float:
    """Return the mean of the positive values; 0 if there are none."""
    values = values[values > 0]
    return float(values.mean()) if values.size else 0.0
