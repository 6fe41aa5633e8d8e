"""Roles of dimensions: global, shared, class-specific, sporadic or dead (unused)."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.utils import check_scalar

from sklearn_classvsc.metrics._counts import ClassCounts, MatrixLike, class_counts

ROLES = ("global", "shared", "class-specific", "sporadic", "dead")
"""The roles of :func:`dimension_roles`, exhaustive and exclusive."""


def dimension_roles(
    activations: MatrixLike,
    y: ArrayLike,
    *,
    on: float = 0.5,
    dead: float = 0.01,
    rho: float = 0.9,
    min_samples: int = 5,
) -> pd.DataFrame:
    r"""Name the role of each dimension by how often each class activates it.

    Let :math:`p_{cj}` be the fraction of the samples of class c in which dimension j is active,
    :math:`m_j` the number of classes with :math:`p_{cj} \ge` `on`, and K the number of classes. The
    role is the first of these that applies:

    - *dead* (unused): :math:`\max_c p_{cj} <` `dead`;
    - *global*: :math:`m_j \ge \max(2, \lceil \rho K \rceil)`;
    - *shared*: :math:`2 \le m_j < \lceil \rho K \rceil`;
    - *class-specific*: :math:`m_j = 1`;
    - *sporadic*: all other dimensions.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of several labels (see the page on metrics).
    on : float, default=0.5
        A class activates a dimension if at least this fraction of its samples does.
    dead : float, default=0.01
        A dimension is dead if every class activates it in less than this fraction of its samples.
    rho : float, default=0.9
        A dimension is global if at least this fraction of the classes activates it.
    min_samples : int, default=5
        Classes with fewer samples are left out, except from `density`.

    Returns
    -------
    roles : DataFrame of n_dimensions rows
        - `dimension`: index of the dimension;
        - `role`: one of the five roles, categorical;
        - `classes`: tuple of the labels of the classes that activate it;
        - `specificity`: :math:`1 - H(p_{\cdot j} / \sum_c p_{cj}) / \log K`, which is 1 if
          one class alone activates the dimension, and 0 if all classes activate it equally often;
          NaN for dead dimensions;
        - `density`: fraction of all samples in which it is active.

    Raises
    ------
    ValueError
        If fewer than two classes have `min_samples` samples, or an argument is out of range.

    See Also
    --------
    role_stability_score : Whether another fit gives the same roles.
    role_recovery_score : Whether dimensions have the roles of the true factors.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import dimension_roles
    >>> y = np.repeat(["boot", "shirt"], 5)
    >>> activations = np.column_stack([np.ones(10), y == "boot", np.zeros(10)])
    >>> dimension_roles(activations, y)
       dimension            role        classes  specificity  density
    0          0          global  (boot, shirt)          0.0      1.0
    1          1  class-specific        (boot,)          1.0      0.5
    2          2            dead             ()          NaN      0.0
    """
    check_scalar(on, "on", Real, min_val=0, max_val=1, include_boundaries="right")
    check_scalar(dead, "dead", Real, min_val=0, max_val=on, include_boundaries="right")
    check_scalar(rho, "rho", Real, min_val=0, max_val=1, include_boundaries="right")
    check_scalar(min_samples, "min_samples", Integral, min_val=1)
    everyone = class_counts(activations, y)
    counts = everyone.with_min_samples(min_samples, at_least=2)
    role = assign_roles(counts, on=on, dead=dead, rho=rho)
    return pd.DataFrame(
        {
            "dimension": np.arange(len(role)),
            "role": pd.Categorical(role, categories=list(ROLES)),
            "classes": [tuple(counts.classes[has].tolist()) for has in (counts.rates >= on).T],
            "specificity": np.where(role == "dead", np.nan, _specificity(counts.rates)),
            "density": everyone.active.sum(axis=0) / everyone.sizes.sum(),
        }
    )


def assign_roles(
    counts: ClassCounts, *, on: float = 0.5, dead: float = 0.01, rho: float = 0.9
) -> NDArray[np.str_]:
    """Return the role of each dimension, (d,); see `dimension_roles`."""
    n_having = (counts.rates >= on).sum(axis=0)
    # Rounds first, since 0.28 * 25 is 7.000000000000001, whose ceiling is 8.
    n_global = max(2, math.ceil(round(rho * len(counts.classes), 9)))
    is_dead = dead_dimensions(counts, dead)
    return np.select(
        [is_dead, n_having >= n_global, n_having >= 2, n_having == 1],
        ["dead", "global", "shared", "class-specific"],
        default="sporadic",
    )


def dead_dimensions(counts: ClassCounts, dead: float) -> NDArray[np.bool_]:
    """Return which dimensions every class activates in less than `dead` of its samples."""
    is_dead: NDArray[np.bool_] = counts.rates.max(axis=0) < dead
    return is_dead


def _specificity(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    total = rates.sum(axis=0)
    share = rates / np.where(total > 0, total, 1)
    specificity: NDArray[np.float64] = 1 - entr(share).sum(axis=0) / np.log(len(rates))
    return specificity.clip(0, 1).round(12)  # undoes rounding errors
