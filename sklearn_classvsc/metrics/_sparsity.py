"""Sparsity of codes, and the fraction of unused dimensions."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar

from sklearn_classvsc.metrics._counts import (
    MatrixLike,
    check_matrix,
    class_counts,
    row_batches,
)
from sklearn_classvsc.metrics._roles import dead_dimensions


def hoyer_sparsity_score(codes: MatrixLike) -> float:
    r"""Mean Hoyer sparsity of the codes, from 0 (all values alike) to 1 (one non-zero value).

    The sparsity of a sample is :math:`(\sqrt d - \|z\|_1 / \|z\|_2) / (\sqrt d - 1)`. A sample
    without active dimensions counts as 0, so that an empty code does not look sparse.

    The measure depends on the values, not only on the support: dimensions of unequal scale look
    sparser than they are. To prevent that, divide the codes by the standard deviation of each
    dimension first.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Codes, of at least two dimensions.

    Returns
    -------
    score : float
        In [0, 1]; higher is sparser.

    Raises
    ------
    ValueError
        If `codes` has fewer than two dimensions.

    See Also
    --------
    dead_fraction : Fraction of unused dimensions.

    References
    ----------
    P. O. Hoyer, "Non-negative matrix factorization with sparseness constraints",
    Journal of Machine Learning Research 5, 2004.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import hoyer_sparsity_score
    >>> hoyer_sparsity_score([[0, 3, 0, 0], [1, 1, 1, 1]])
    0.5
    """
    Z = check_matrix(codes, "codes")
    n_samples, n_dimensions = Z.shape
    if n_dimensions < 2:
        raise ValueError(
            "codes has 1 dimension, but sparsity compares the dimensions of a code: pass at least "
            "2 columns."
        )
    total = 0.0
    for rows in row_batches(Z):
        magnitude = abs(Z[rows].astype(np.float64))
        l1 = np.asarray(magnitude.sum(axis=1)).ravel()
        l2 = np.sqrt(np.asarray((magnitude * magnitude).sum(axis=1))).ravel()
        ratio = l1[l2 > 0] / l2[l2 > 0]
        total += float((np.sqrt(n_dimensions) - ratio).sum())
    return float(total / (np.sqrt(n_dimensions) - 1) / n_samples)


def dead_fraction(
    activations: MatrixLike,
    y: ArrayLike | None = None,
    *,
    dead: float = 0.01,
    min_samples: int = 5,
) -> float:
    """Fraction of the dimensions that are unused by every class.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,), default=None
        Class labels. None treats all samples as one class.
    dead : float, default=0.01
        A dimension is dead if every class activates it in less than this fraction of its samples,
        as in :func:`dimension_roles`.
    min_samples : int, default=5
        Classes with fewer samples are left out. Has no effect without `y`.

    Returns
    -------
    fraction : float
        In [0, 1]; lower is better.

    Raises
    ------
    ValueError
        If no class has `min_samples` samples, or an argument is out of range.

    See Also
    --------
    dimension_roles : The role of each dimension.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import dead_fraction
    >>> dead_fraction([[0.7, 0.0, 1.2, 0.0], [0.0, 0.0, 0.3, 0.0]])
    0.5
    """
    check_scalar(dead, "dead", Real, min_val=0, max_val=1, include_boundaries="right")
    check_scalar(min_samples, "min_samples", Integral, min_val=1)
    if y is None:
        A = check_matrix(activations, "activations")
        counts = class_counts(A, np.zeros(A.shape[0], dtype=int))
    else:
        counts = class_counts(activations, y).with_min_samples(min_samples, at_least=1)
    return float(dead_dimensions(counts, dead).mean())
