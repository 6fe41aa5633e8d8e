"""Overlap of supports within a class and between classes, and tests of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr
from sklearn.utils import check_random_state, check_scalar, gen_batches

from sklearn_classvsc._messages import brief
from sklearn_classvsc.metrics._counts import ClassCounts, MatrixLike, class_counts
from sklearn_classvsc.metrics._roles import assign_roles


def class_consistency_score(activations: MatrixLike, y: ArrayLike) -> float:
    r"""Share of the active dimensions of a sample that another sample of its class has too.

    With :math:`k_{cj}` the number of the :math:`n_c` samples of class c in which dimension j is
    active,

    .. math:: C_c = \frac{\sum_j k_{cj} (k_{cj} - 1) / (n_c (n_c - 1))}{\sum_j k_{cj} / n_c},

    the expected overlap of the supports of two distinct samples over their expected size. The
    score is the unweighted mean over classes. A class without active dimensions counts as 0, so
    that a code without active dimensions does not score 1. A class of one sample is left out.

    A code in which every dimension is always active scores 1. Read the score together with
    :func:`class_contrast_score`.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of several labels (see the page on metrics).

    Returns
    -------
    score : float
        In [0, 1]; higher is more consistent.

    Raises
    ------
    ValueError
        If no class has two samples.

    See Also
    --------
    class_sharing_matrix : The same for each class, and between classes.
    class_contrast_score : Consistency minus the sharing between classes.
    jensen_shannon_consistency : The divergence of activation probabilities.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import class_consistency_score
    >>> y = ["boot", "boot", "shirt", "shirt"]
    >>> class_consistency_score([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]], y)
    0.833...
    """
    return _mean_consistency(_consistency(class_counts(activations, y)))


def class_sharing_matrix(activations: MatrixLike, y: ArrayLike) -> NDArray[np.float64]:
    r"""Share of their active dimensions that samples of two classes have in common.

    Off the diagonal, with :math:`p_{cj}` the fraction of class c in which dimension j is active,

    .. math:: M_{cc'} = \frac{2 \sum_j p_{cj} p_{c'j}}{\sum_j p_{cj} + \sum_j p_{c'j}},

    the expected overlap of a sample of c and a sample of c'. It is 0 if neither class has an
    active dimension. The diagonal holds the consistency of each class, which compares two distinct
    samples.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Class labels, or an indicator of several labels (see the page on metrics).

    Returns
    -------
    M : ndarray of shape (n_classes, n_classes)
        Symmetric, in [0, 1], with classes in the order of ``np.unique(y)`` or of the columns of an
        indicator. The diagonal is NaN for a class with fewer than two samples.

    Raises
    ------
    ValueError
        If `activations` or `y` is not as described.

    See Also
    --------
    class_consistency_score : The mean of the diagonal.
    sklearn_classvsc.displays.SharingDisplay : A picture of the matrix.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import class_sharing_matrix
    >>> y = ["boot", "boot", "shirt", "shirt"]
    >>> class_sharing_matrix([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 1, 1]], y)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    return _sharing(class_counts(activations, y))


def class_contrast_score(
    activations: MatrixLike, y: ArrayLike, *, include_global: bool = False
) -> float:
    """Class consistency minus the mean sharing between different classes.

    A high score means that supports are alike within a class *and* differ between classes. A code
    with all dimensions always active, or always inactive, has contrast 0.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels of at least two classes, or an indicator of several labels (see the page on
        metrics).
    include_global : bool, default=False
        Whether to count global dimensions too. By default they are left out, since they do not
        tell classes apart; they are global by the defaults of :func:`dimension_roles`. A code whose
        dimensions are all global has contrast 0.

    Returns
    -------
    score : float
        In [-1, 1]; higher is better.

    Raises
    ------
    ValueError
        If there are fewer than two classes, or if no class has two samples. Unless
        `include_global`, at least two classes need five samples each.

    See Also
    --------
    class_consistency_score : The first term.
    class_sharing_matrix : The sharing of each pair of classes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import class_contrast_score
    >>> y = np.repeat(["boot", "shirt"], 5)
    >>> activations = np.column_stack([np.ones(10), y == "boot", y == "shirt"])
    >>> class_contrast_score(activations, y)
    1.0
    >>> class_contrast_score(activations, y, include_global=True)
    0.5
    """
    counts = class_counts(activations, y).with_min_samples(1, at_least=2)
    M = _sharing(counts if include_global else _without_global(counts))
    between = M[~np.eye(len(M), dtype=bool)]
    return _mean_consistency(M.diagonal()) - float(between.mean())


def ordinal_sharing_score(activations: MatrixLike, y: ArrayLike) -> float:
    """Score whether classes share fewer dimensions the further apart they are in their order.

    The score is the negative of Spearman's rank correlation, over pairs of classes, between their
    distance in the order of the labels and their :func:`class_sharing_matrix` without global
    dimensions. If classes are bins of a number, sharing should fall with the distance.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,)
        Labels of at least three classes, whose sorted order is that of the classes.

    Returns
    -------
    score : float
        In [-1, 1]; 1 if sharing falls with every step, 0 without a trend.

    Raises
    ------
    ValueError
        If there are fewer than three classes of five samples or more.

    See Also
    --------
    class_sharing_matrix : The sharing of each pair of classes.
    category_sharing_test : Classes that form categories.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import ordinal_sharing_score
    >>> size = np.repeat([36, 38, 40, 42], 5)
    >>> activations = np.column_stack([abs(size - first) < 3 for first in (34, 36, 38, 40, 42)])
    >>> round(ordinal_sharing_score(activations, size), 2)
    0.94
    """
    counts = class_counts(activations, y).with_min_samples(at_least=3)
    first, second = np.triu_indices(len(counts.classes), 1)
    sharing = _sharing(_without_global(counts))[first, second]
    if not np.ptp(sharing):
        return 0.0
    return -float(spearmanr(second - first, sharing).statistic)


class CategorySharing(NamedTuple):
    """Result of :func:`category_sharing_test`.

    Parameters
    ----------
    statistic : float
        `within` - `across`.
    pvalue : float
        Probability of a statistic at least as large for groups drawn at random.
    within : float
        Mean sharing of two different classes of one group.
    across : float
        Mean sharing of a class of a group and a class outside that group.
    """

    statistic: float
    pvalue: float
    within: float
    across: float


def category_sharing_test(
    activations: MatrixLike,
    y: ArrayLike,
    groups: Sequence[Collection[Any]],
    *,
    n_permutations: int = 9999,
    random_state: int | RandomState | None = None,
) -> CategorySharing:
    """Test whether classes of one category share more active dimensions than other classes.

    The statistic is the mean of :func:`class_sharing_matrix` over pairs of different classes of
    one group, minus its mean over pairs of a class of a group and a class outside that group.
    Global dimensions are left out. The null distribution draws groups of the same sizes at random
    from all classes.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
        Boolean activations, or codes, in which non-zero means active.
    y : array-like of shape (n_samples,)
        Class labels.
    groups : sequence of collections of class labels
        Disjoint categories, such as ``[{5, 7, 9}, {0, 2, 4, 6}]`` for the footwear and the upper
        body of Fashion-MNIST. They need not cover all classes. Pass one category to test it alone.
    n_permutations : int, default=9999
        Number of random groupings. The p-value, ``(1 + #{as large}) / (1 + n_permutations)``, is
        never 0. It cannot be much below one over the number of distinct groupings, which is 120 for
        three of ten classes.
    random_state : int, RandomState instance or None, default=None
        Draws the permutations.

    Returns
    -------
    result : CategorySharing
        Named tuple ``(statistic, pvalue, within, across)``. The test is one-sided: a small p-value
        means that classes of a category share more.

    Raises
    ------
    ValueError
        If a label of `groups` is not in `y` or is in two groups, if no group has two classes, or
        if no class is outside a group.

    See Also
    --------
    class_sharing_matrix : The sharing of each pair of classes.
    ordinal_sharing_score : Classes that have an order.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_classvsc.metrics import category_sharing_test
    >>> y = np.repeat(np.arange(8), 5)
    >>> activations = np.column_stack([y < 4, y >= 4, y % 2 == 0])
    >>> result = category_sharing_test(activations, y, [{0, 1, 2, 3}], random_state=0)
    >>> print(f"{result.statistic:.2f} more than across, p = {result.pvalue:.3f}")
    0.65 more than across, p = 0.028
    """
    check_scalar(n_permutations, "n_permutations", Integral, min_val=1)
    rng = check_random_state(random_state)
    counts = class_counts(activations, y)
    members, group = _check_groups(groups, counts.classes)
    M = _sharing(_without_global(counts))
    np.fill_diagonal(M, 0)
    total = M.sum(axis=1)
    same = group[:, None] == group
    first, second = np.nonzero(np.triu(same, 1))  # the pairs within a group
    n_within = 2 * len(first)
    n_across = 2 * len(group) * (len(M) - 1) - (len(group) * (len(group) - 1)) - n_within
    if not n_within or not n_across:
        raise ValueError(
            f"groups is {brief(groups)}, but the test compares pairs within a group with pairs "
            "across its border: it needs a group of two classes and a class outside it."
        )

    def sharing(members: NDArray[np.intp]) -> NDArray[np.float64]:
        """Mean sharing (within, across) of the groupings in the rows of `members`."""
        grouped = np.zeros((len(members), len(M)))
        np.put_along_axis(grouped, members, 1, axis=1)
        # Counts ordered pairs. Pairs across: all pairs that touch a group, minus pairs between
        # members, which were counted twice, minus pairs within a group.
        between = (grouped @ M * grouped).sum(axis=1)
        pairs = members[:, first] * len(M) + members[:, second]
        within = 2 * M.take(pairs).sum(axis=1)
        across = 2 * (grouped @ total) - between - within
        return np.array([within / n_within, across / n_across])

    within, across = sharing(members[None])[:, 0].tolist()
    n_as_large = 0
    for batch in gen_batches(n_permutations, max(1, 2**20 // max(len(first), len(M)))):
        drawn = [rng.permutation(len(M))[: len(group)] for _ in range(batch.stop - batch.start)]
        w, a = sharing(np.array(drawn))
        # The tolerance counts ties whose sums were rounded in another order.
        n_as_large += int((w - a >= within - across - 1e-12).sum())
    return CategorySharing(within - across, (1 + n_as_large) / (1 + n_permutations), within, across)


def _consistency(counts: ClassCounts) -> NDArray[np.float64]:
    """Consistency of each class, (C,): 0 without active dimensions, NaN without a pair."""
    n, k = counts.sizes, counts.active
    size = counts.rates.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0, the class of one sample
        overlap = (k * (k - 1)).sum(axis=1) / (n * (n - 1))
    consistency: NDArray[np.float64] = overlap / np.where(size > 0, size, 1)
    return consistency


def _mean_consistency(consistency: NDArray[np.float64]) -> float:
    if np.isnan(consistency).all():
        raise ValueError(
            f"y has {len(consistency)} classes of one sample each, but consistency compares two "
            "samples of a class: pass more samples."
        )
    return float(np.nanmean(consistency))


def _sharing(counts: ClassCounts) -> NDArray[np.float64]:
    p = counts.rates
    size = p.sum(axis=1)
    sizes = size[:, None] + size
    M: NDArray[np.float64] = 2 * (p @ p.T) / np.where(sizes > 0, sizes, 1)
    np.fill_diagonal(M, _consistency(counts))
    return M


def _without_global(counts: ClassCounts) -> ClassCounts:
    roles = assign_roles(counts.with_min_samples(at_least=2))
    return counts.restrict(dimensions=roles != "global")


def _check_groups(
    groups: Sequence[Collection[Any]], classes: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the grouped classes, and the group of each."""
    position = {label: i for i, label in enumerate(classes.tolist())}
    labels = [label for group in groups for label in group]
    if unknown := [label for label in labels if label not in position]:
        raise ValueError(
            f"groups names {brief(unknown)}, but the classes of y are {brief(list(position))}."
        )
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"groups is {brief(groups)}, but each class may be in one group only, and only once."
        )
    sizes = [len(group) for group in groups]
    return np.array([position[label] for label in labels], dtype=np.intp), np.repeat(
        np.arange(len(sizes)), sizes
    )
