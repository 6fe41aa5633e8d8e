"""Dimensions that are active together, and the information of supports beyond the class."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.utils import check_scalar

from sklearn_classvsc.metrics._counts import (
    MatrixLike,
    check_labels,
    check_matrix,
    row_batches,
    to_dense,
)


def independent_switches(activations: MatrixLike, threshold: float = 0.95) -> NDArray[np.intp]:
    r"""Group the dimensions that are active in the same samples: each group is one switch.

    Two dimensions belong to one switch if their activity correlates above `threshold` over the
    samples,

    .. math:: \frac{n n_{jk} - n_j n_k}{\sqrt{n_j (n - n_j) n_k (n - n_k)}} > t,

    with :math:`n_j` the number of samples in which j is active and :math:`n_{jk}` the number in
    which both are, or if a chain of such pairs joins them. A dimension that is active in every
    sample is a switch alone, since its activity says nothing.

    A switch with several dimensions is one factor with several values. The number of switches, not
    the number of dimensions, says how many things a code tells apart by its support.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    threshold : float, default=0.95
        Smallest correlation of dimensions of one switch, in [0, 1).

    Returns
    -------
    switches : ndarray of int of shape (n_dimensions,)
        Index of the switch of each dimension, counted from 0 in the order of the dimensions; -1
        for a dimension that is never active.

    Raises
    ------
    ValueError
        If `threshold` is out of range, or `activations` is not as described.

    See Also
    --------
    support_information : What the support says beyond the class, in nats.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import independent_switches
    >>> independent_switches([[1, 2, 3, 0, 1], [1, 1, 2, 0, 1], [1, 0, 0, 0, 1]])
    array([ 0,  1,  1, -1,  2])
    """
    check_scalar(threshold, "threshold", Real, min_val=0, max_val=1, include_boundaries="left")
    A = check_matrix(activations, "activations")
    n, d = A.shape
    both = np.zeros((d, d))
    for rows in row_batches(A):
        on = (A[rows] != 0).astype(np.float32)
        both += to_dense(on.T @ on)
    active = both.diagonal()
    spread = np.sqrt(active * (n - active))  # 0 for a dimension that is never or always active
    covariance = n * both - np.outer(active, active)
    together = covariance > threshold * np.outer(spread, spread)
    together &= np.outer(spread, spread) > 0
    component = connected_components(together, directed=False)[1]
    used = active > 0
    _, first, index = np.unique(component[used], return_index=True, return_inverse=True)
    switches = np.full(d, -1, dtype=np.intp)
    switches[used] = np.argsort(np.argsort(first))[index]
    return switches


def support_information(activations: MatrixLike, y: ArrayLike) -> float:
    r"""Entropy of the supports within a class, H(support | class), in nats.

    .. math:: -\sum_c \frac{n_c}{n} \sum_s \frac{n_{cs}}{n_c} \log \frac{n_{cs}}{n_c},

    with :math:`n_{cs}` the number of samples of class c with support s. It is the information of
    the support that the class does not have. It is 0 if all samples of a class have the same
    support; then samples of a class differ only in their values.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,)
        Class labels.

    Returns
    -------
    information : float
        From 0 to the mean of :math:`\log n_c`. A code in which every support occurs once reaches
        this upper limit, whatever it means. Compare codes only on the same samples.

    Raises
    ------
    ValueError
        If `activations` or `y` is not as described.

    See Also
    --------
    activation_information : What each dimension says about the class.
    independent_switches : Which dimensions are active together.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import support_information
    >>> y = ["boot", "boot", "shirt", "shirt"]
    >>> support_information([[1, 0], [1, 0], [0, 1], [0, 1]], y)
    0.0
    >>> support_information([[1, 0], [1, 1], [0, 1], [0, 1]], y)
    0.346...
    """
    A = check_matrix(activations, "activations")
    classes, labels = check_labels(y, A)
    packed = [np.packbits(to_dense(A[rows]) != 0, axis=1) for rows in row_batches(A)]
    support = np.unique(np.concatenate(packed), axis=0, return_inverse=True)[1].ravel()
    # Pairs of class and support, and how often each occurs.
    pairs, counts = np.unique(labels * len(labels) + support, return_counts=True)
    sizes = np.bincount(labels, minlength=len(classes))[pairs // len(labels)]
    return float((counts * np.log(sizes / counts)).sum() / len(labels))
