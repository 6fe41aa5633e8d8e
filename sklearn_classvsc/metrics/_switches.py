"""Which dimensions switch together, and how much their switches say that the class does not."""

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
    r"""Find the dimensions that are on and off together: each set of them is one switch.

    Two dimensions belong to one switch if their supports correlate above `threshold` over the
    samples,

    .. math:: \frac{n n_{jk} - n_j n_k}{\sqrt{n_j (n - n_j) n_k (n - n_k)}} > t,

    with :math:`n_j` the samples in which j is active and :math:`n_{jk}` those in which both are; or
    if a chain of such pairs joins them. A dimension that is on in every sample is a switch of its
    own: it tells nothing by being on, and its values may be turned into those of another one.

    A switch with several dimensions is one factor with several values. The number of switches, and
    not that of dimensions, says how many things a code tells apart by its support.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, whose non-zeros are the active dimensions.
    threshold : float, default=0.95
        In [0, 1).

    Returns
    -------
    switches : ndarray of int of shape (n_dimensions,)
        The number of the switch that each dimension belongs to, counted from 0 in the order of the
        dimensions; -1 for a dimension that is never on.

    See Also
    --------
    support_information : What switches say beyond the class, in nats.

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
    spread = np.sqrt(active * (n - active))  # 0 for a dimension that is never or always on
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

    with :math:`n_{cs}` the samples of class c whose active dimensions are the set s. It is what
    the support tells of a sample that its class does not: 0 where all samples of a class have the
    same dimensions on, and then the support is a name of the class, and what differs within it is
    in the values alone.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, whose non-zeros are the active dimensions.
    y : array-like of shape (n_samples,)
        Class labels.

    Returns
    -------
    information : float
        From 0 to the mean of :math:`\log n_c`, which a code of so many different supports that
        each occurs once reaches whatever it means: compare codes on the same samples.

    See Also
    --------
    activation_information : What each dimension says about the class.
    independent_switches : Which dimensions switch together.

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
    # Each pair of a class and a support that occurs, and how often.
    pairs, counts = np.unique(labels * len(labels) + support, return_counts=True)
    sizes = np.bincount(labels, minlength=len(classes))[pairs // len(labels)]
    return float((counts * np.log(sizes / counts)).sum() / len(labels))
