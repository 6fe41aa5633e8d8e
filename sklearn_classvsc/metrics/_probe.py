"""Sparse probes: how well a few dimensions of a code tell a class from the rest."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_scalar
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.sparsefuncs import min_max_axis

from sklearn_classvsc.metrics._counts import (
    MatrixLike,
    check_labels,
    check_matrix,
    class_sums,
    to_dense,
)


def k_sparse_probe_score(
    codes: MatrixLike,
    y: ArrayLike,
    codes_test: MatrixLike,
    y_test: ArrayLike,
    *,
    k: int = 5,
) -> float:
    """Balanced accuracy of telling each class from the rest by the best `k` dimensions.

    A probe is fitted for each class against the rest, to the training codes. It standardises the
    dimensions, takes the `k` whose means differ most, and fits an L2-penalised logistic regression
    with balanced class weights. The score is its balanced accuracy on the test codes, averaged over
    classes. A high score at a small `k` means that single dimensions stand for classes.

    Parameters
    ----------
    codes : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Codes that the probes are fitted to.
    y : array-like of shape (n_samples,)
        Class labels of `codes`.
    codes_test : {array-like, sparse matrix} of shape (n_test_samples, n_dimensions)
        Codes that the probes are scored on.
    y_test : array-like of shape (n_test_samples,)
        Class labels of `codes_test`.
    k : int, default=5
        Dimensions of a probe; 1, 2, 5, 10 and 20 are customary. Dimensions that are constant on
        the training codes are left out. If fewer than `k` remain, the probe takes all of them.

    Returns
    -------
    score : float
        In [0, 1]; chance is 0.5. It is also 0.5 if all dimensions are constant. A class is left
        out if the class or the rest has fewer than two training samples or no test sample.

    Raises
    ------
    ValueError
        If all classes are left out, or an argument is not as described.

    See Also
    --------
    probe_scorer : The same as a scorer of an estimator.

    Notes
    -----
    It fits one regression for each class, to n x k numbers. With many classes, score a subsample.

    References
    ----------
    W. Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse Probing",
    Transactions on Machine Learning Research, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import k_sparse_probe_score
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1, 2], 20)
    >>> codes = np.eye(3)[y] * rng.uniform(1, 2, size=(60, 3))
    >>> k_sparse_probe_score(codes[::2], y[::2], codes[1::2], y[1::2], k=1)
    1.0
    """
    check_scalar(k, "k", Integral, min_val=1)
    Z = check_matrix(codes, "codes", accept_sparse="csc")
    Z_test = check_matrix(codes_test, "codes_test", accept_sparse="csc")
    if Z.shape[1] != Z_test.shape[1]:
        raise ValueError(
            f"codes_test has {Z_test.shape[1]} dimensions, but codes has {Z.shape[1]}: pass codes "
            "of one encoder."
        )
    classes, labels = check_labels(y, Z)
    test_classes, test_labels = check_labels(y_test, Z_test)
    unique_labels(classes, test_classes)  # refuses a mix of strings and numbers

    scale = StandardScaler(with_mean=False).fit(Z).scale_
    lowest, highest = min_max_axis(Z, 0) if issparse(Z) else (Z.min(axis=0), Z.max(axis=0))
    usable = np.flatnonzero(highest != lowest)
    sums = class_sums(Z, labels, len(classes))
    total = sums.sum(axis=0)

    def standardised(codes: Any, dimensions: NDArray[np.intp]) -> NDArray[np.float64]:
        # Makes only the chosen columns of sparse codes dense.
        columns = to_dense(codes[:, dimensions])
        scaled: NDArray[np.float64] = (columns - total[dimensions] / len(labels)) / scale[
            dimensions
        ]
        return scaled

    scores = []
    for c, label in enumerate(classes):
        is_class, is_class_test = labels == c, test_classes[test_labels] == label
        n_class, n_rest = is_class.sum(), (~is_class).sum()
        if min(n_class, n_rest) < 2 or is_class_test.all() or not is_class_test.any():
            continue
        difference = sums[c] / n_class - (total - sums[c]) / n_rest
        distance = np.abs(difference / scale)[usable]
        best = usable[np.argsort(-distance, kind="stable")[:k]]
        if not len(best):
            scores.append(0.5)
            continue
        probe = LogisticRegression(class_weight="balanced", solver="newton-cholesky")
        probe.fit(standardised(Z, best), is_class)
        predicted = probe.predict(standardised(Z_test, best))
        scores.append(balanced_accuracy_score(is_class_test, predicted))
    if not scores:
        raise ValueError(
            f"y has {len(classes)} classes, but none has two training samples, a test sample in "
            "y_test, and as many samples outside it: pass more samples. In cross-validation, split "
            "with StratifiedKFold."
        )
    return float(np.mean(scores))
