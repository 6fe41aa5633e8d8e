"""Match dimensions with another fit or with true factors, and compare their roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.preprocessing import normalize

from sklearn_classvsc.metrics._counts import (
    ClassCounts,
    MatrixLike,
    check_matrix,
    class_counts,
)
from sklearn_classvsc.metrics._roles import assign_roles


def match_dimensions(
    effects: ArrayLike, other_effects: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Pair the dimensions of two fits by their effects on the features.

    The pairing is one to one and maximises the sum of absolute cosine similarities between rows
    (the Hungarian method). The order, sign and scale of dimensions do not matter, since a fit does
    not determine them.

    Parameters
    ----------
    effects, other_effects : array-like of shape (n_dimensions, n_features)
        Effect of each dimension on the features: scikit-learn's ``components_``, or
        ``feature_effects(est, X)``. The numbers of dimensions may differ; surplus dimensions have
        no partner.

    Returns
    -------
    indices, other_indices : ndarray of shape (n_pairs,)
        Indices of partners, with ``indices`` ascending.
    similarity : ndarray of shape (n_pairs,)
        Absolute cosine similarity of partners, in [0, 1]; 0 for a dimension without effect.

    Raises
    ------
    ValueError
        If the numbers of features differ.

    See Also
    --------
    factor_recurrence : Pair dimensions by the codes of the same samples.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import match_dimensions
    >>> match_dimensions([[1, 0], [0, 2]], [[0, -1], [3, 0]])
    (array([0, 1]), array([1, 0]), array([1., 1.]))
    """
    E, F = (
        check_matrix(matrix, name, accept_sparse=False)
        for matrix, name in ((effects, "effects"), (other_effects, "other_effects"))
    )
    if E.shape[1] != F.shape[1]:
        raise ValueError(
            f"other_effects has {F.shape[1]} features, but effects has {E.shape[1]}: pass effects "
            "on the same features."
        )
    similarity = np.abs(normalize(E) @ normalize(F).T).clip(max=1)
    indices, other_indices = linear_sum_assignment(similarity, maximize=True)
    return indices, other_indices, similarity[indices, other_indices]


def role_stability_score(
    fit: tuple[ArrayLike, pd.DataFrame], other_fit: tuple[ArrayLike, pd.DataFrame]
) -> float:
    """Fraction of the dimensions that have the same role in another fit.

    Dimensions that are not dead are paired by :func:`match_dimensions`. A pair agrees if both have
    the same role and, if that is "shared" or "class-specific", the same classes. The score is the
    number of pairs that agree divided by the number of dimensions that are not dead, in the fit
    that has more of them. A dimension without a partner therefore counts as unstable.

    Parameters
    ----------
    fit, other_fit : tuple of (effects, roles)
        Two fits, typically with different ``random_state``. Each is a tuple of the effects,
        array-like of shape (n_dimensions, n_features) as in :func:`match_dimensions`, and the
        DataFrame of :func:`dimension_roles`, both on the same data.

    Returns
    -------
    score : float
        In [0, 1]; 1 for fits that are identical up to order, sign and scale. If most dimensions
        have one role, agreement by chance is high: look at the roles too.

    Raises
    ------
    ValueError
        If all dimensions of both fits are dead, or if effects and roles of a fit have different
        numbers of dimensions.

    See Also
    --------
    sklearn_classvsc.factor_stability : Which dimensions recur in several refits.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import dimension_roles, role_stability_score
    >>> y = np.repeat(["boot", "shirt"], 5)
    >>> roles = dimension_roles(np.column_stack([np.ones(10), y == "boot"]), y)
    >>> other = dimension_roles(np.column_stack([y == "boot", np.ones(10)]), y)
    >>> role_stability_score((np.eye(2), roles), ([[0, 1], [1, 0]], other))
    1.0
    """
    effects, roles = _live(fit, "fit")
    other_effects, other_roles = _live(other_fit, "other_fit")
    n_live = max(len(roles), len(other_roles))
    if not n_live:
        raise ValueError(
            "fit and other_fit have dead dimensions only: there are no roles to compare."
        )
    if not len(roles) or not len(other_roles):
        return 0.0
    pairs = match_dimensions(effects, other_effects)[:2]
    return sum(bool(roles[i] == other_roles[j]) for i, j in zip(*pairs, strict=True)) / n_live


def role_recovery_score(supports: ArrayLike, activations: MatrixLike, y: ArrayLike) -> float:
    r"""Fraction of the true factors whose role a dimension has.

    Factors and dimensions are paired one to one (the Hungarian method). The pairing maximises the
    agreement of the true support :math:`s_{cf}` with the activity :math:`p_{cj}`, which is the mean
    over classes of :math:`1 - |p_{cj} - s_{cf}|`. A factor is recovered if its partner has the role
    of the factor, by the rules of :func:`dimension_roles`, and, if that is "shared" or
    "class-specific", the same classes. A factor without a partner is not recovered.

    Parameters
    ----------
    supports : array-like of shape (n_classes, n_factors)
        Which factors each class has, as booleans, with classes in the order of ``np.unique(y)``.
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,)
        Class labels, of at least two classes.

    Returns
    -------
    score : float
        In [0, 1]; higher is better.

    Raises
    ------
    ValueError
        If `supports` does not have one row for each class, or if there are fewer than two classes.

    See Also
    --------
    sklearn_classvsc.datasets.make_class_factors : Make data with known supports.

    Notes
    -----
    The score compares only supports, not effects. Factors with equal supports are interchangeable,
    and a dimension that mixes them still counts. Surplus dimensions cost nothing. Among pairings
    that agree equally well, the one that recovers most factors counts, whatever the order of the
    dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import role_recovery_score
    >>> y = np.repeat(["boot", "shirt"], 5)
    >>> supports = [[1, 1, 0], [1, 0, 1]]  # one global, one factor for each class
    >>> role_recovery_score(supports, np.column_stack([y == "shirt", np.ones(10)]), y)
    0.666...
    """
    counts = class_counts(activations, y).with_min_samples(1, at_least=2)
    S = check_matrix(supports, "supports", accept_sparse=False).astype(bool)
    if len(S) != len(counts.classes):
        raise ValueError(
            f"supports has {len(S)} rows, but y has {len(counts.classes)} classes: pass one row "
            "for each class, in the order of np.unique(y)."
        )
    truth = ClassCounts(counts.classes, np.ones(len(S)), S.astype(np.float64))
    factor_roles, roles = (
        _comparable(assign_roles(c), map(tuple, (c.rates >= 0.5).T)) for c in (truth, counts)
    )
    same = np.array([[factor == role for role in roles] for factor in factor_roles])
    agreement = 1 - cdist(truth.rates.T, counts.rates.T, "cityblock") / len(S)
    # The bonus decides only between pairings of equal agreement.
    pairs = linear_sum_assignment(agreement + 1e-9 * same, maximize=True)
    return float(same[pairs].sum() / len(factor_roles))


def _live(
    fit: tuple[ArrayLike, pd.DataFrame], name: str
) -> tuple[NDArray[Any], list[tuple[str, Any]]]:
    """Return effects and comparable roles of the dimensions that are not dead."""
    effects, roles = fit
    effects = np.asarray(effects)
    if len(effects) != len(roles):
        raise ValueError(
            f"{name} has {len(effects)} rows of effects, but {len(roles)} of roles: pass one of "
            "each for each dimension."
        )
    live = (roles["role"] != "dead").to_numpy()
    return effects[live], _comparable(roles["role"][live], roles["classes"][live])


def _comparable(roles: Iterable[str], classes: Iterable[Any]) -> list[tuple[str, Any]]:
    """Return roles, each with the classes that must agree too."""
    return [
        (role, held if role in ("shared", "class-specific") else ())
        for role, held in zip(roles, classes, strict=True)
    ]
