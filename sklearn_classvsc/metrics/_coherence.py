"""Topic coherence: whether the words of a factor occur in the same documents."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array
from sklearn.utils import check_array, check_scalar

from ._counts import MatrixLike, check_matrix, to_dense

__all__ = ["topic_coherence"]


def topic_coherence(
    components: ArrayLike,
    X: MatrixLike,
    *,
    top_k: int = 10,
    measure: Literal["npmi", "umass"] = "npmi",
) -> NDArray[np.float64]:
    r"""Measure whether the words that each factor raises most occur in the same documents.

    The coherence of a factor is a mean over all pairs of its `top_k` words of largest positive
    weight. With :math:`p_i` the share of the documents of X that contain word i, and :math:`p_{ij}`
    the share that contain both words, the measure of a pair is

    .. math:: \mathrm{npmi}(i, j) = \frac{\log p_{ij} - \log p_i p_j}{-\log p_{ij}},

    which is 1 for words that only occur together, 0 for independent words, and -1 for words that
    never occur together. With :math:`n_i` and :math:`n_{ij}` the numbers of these documents, and i
    the word of larger weight, the other measure is

    .. math:: \mathrm{umass}(i, j) = \log \frac{n_{ij} + 1}{n_i}.

    Parameters
    ----------
    components : array-like of shape (n_factors, n_words)
        Weights of the words: ``components_`` of an NMF or an LDA, or the DataFrame of
        :func:`sklearn_classvsc.inspection.feature_effects`. Only words of positive weight count.
    X : {array-like, sparse matrix} of shape (n_documents, n_words)
        Counts of words, in the order of the columns of `components`. Only whether a count is zero
        matters. Pass held-out documents.
    top_k : int, default=10
        Number of words, at least 2. Compare coherences only at the same number.
    measure : {"npmi", "umass"}, default="npmi"
        The measure of a pair.

    Returns
    -------
    coherence : ndarray of shape (n_factors,)
        Higher is better. NaN for a factor with fewer than two words of positive weight, such as
        an unused one.

    Raises
    ------
    ValueError
        If an argument is not as described, or if X lacks one of the words with "umass".

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : Weights of the words of each dimension.

    References
    ----------
    Bouma: Normalized (pointwise) mutual information in collocation extraction, GSCL 2009.

    Mimno et al.: Optimizing semantic coherence in topic models, EMNLP 2011.

    Röder, Both, Hinneburg: Exploring the space of topic coherence measures, WSDM 2015.

    Examples
    --------
    >>> from sklearn_classvsc.metrics import topic_coherence
    >>> X = [[1, 1, 0, 0], [2, 1, 0, 0], [0, 0, 1, 1], [0, 0, 3, 0]]
    >>> topics = [[0.7, 0.3, 0, 0], [0, 0.1, 0.9, 0]]
    >>> topic_coherence(topics, X, top_k=2)  # always together; never together
    array([ 1., -1.])
    """
    check_scalar(top_k, "top_k", Integral, min_val=2)
    if measure not in ("npmi", "umass"):
        raise ValueError(f"measure is {measure!r}, but must be 'npmi' or 'umass'.")
    weights: Any = check_array(
        components, dtype=np.float64, ensure_all_finite="allow-nan", input_name="components"
    )
    counts = check_matrix(X, "X", accept_sparse="csc")
    if weights.shape[1] != counts.shape[1]:
        raise ValueError(
            f"components has {weights.shape[1]} words, but X has {counts.shape[1]}: pass the same "
            "words in the same order."
        )
    weights = np.nan_to_num(weights, nan=0.0)
    order = np.argsort(-weights, axis=1, kind="stable")[:, :top_k]
    words, places = np.unique(order, return_inverse=True)
    places = places.reshape(order.shape)
    held = csc_array(counts[:, words] != 0, dtype=np.float64)
    together = to_dense(held.T @ held)  # (n_words, n_words), numbers of documents
    n_rising = (np.take_along_axis(weights, order, axis=1) > 0).sum(axis=1)
    values = np.full(len(weights), np.nan)
    for factor, (place, n) in enumerate(zip(places, n_rising, strict=True)):
        if n < 2:
            continue
        first, second = np.triu_indices(n, 1)
        i, j = place[first], place[second]
        if measure == "umass":
            if not (n_i := together[i, i]).all():
                raise ValueError(
                    f"no document of X has word {words[i[n_i == 0][0]]}, which measure='umass' "
                    "divides by: pass the documents of the fit, or use measure='npmi'."
                )
            values[factor] = np.log((together[i, j] + 1) / n_i).mean()
        else:
            pairs = ((i, j), (i, i), (j, j))
            values[factor] = _npmi(*(together[pair] / counts.shape[0] for pair in pairs)).mean()
    return values


def _npmi(
    p: NDArray[np.float64], p_i: NDArray[np.float64], p_j: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the NPMI of pairs: -1 if they never occur together, 1 if all documents have both."""
    npmi = np.where(p == 0, -1.0, 1.0)
    met = (p > 0) & (p < 1)
    npmi[met] = np.log(p_i[met] * p_j[met]) / np.log(p[met]) - 1
    return npmi
