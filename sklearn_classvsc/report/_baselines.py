"""Baselines of the factor report: linear codes of the same size, raw features, and refits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.decomposition import NMF, PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

import sklearn_classvsc

from .. import metrics
from ..metrics._fidelity import Fidelity, measure_fidelity
from ._inputs import Inputs


class Recurrence(NamedTuple):
    """How well refits find the dimensions again."""

    of_dimensions: NDArray[np.float64]  # (d,), NaN where unused
    chance: float


def halves(labels: NDArray[np.intp]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two random halves of each class as masks, the same at every call."""
    rank = pd.Series(np.random.default_rng(0).random(len(labels))).groupby(labels).rank().to_numpy()
    return rank % 2 == 1, rank % 2 == 0


def linear_accuracy(X: Any, labels: NDArray[np.intp]) -> float:
    """Train a linear classifier on half of each class, and score it on the rest."""
    train, test = halves(labels)
    scaler = MaxAbsScaler() if hasattr(X, "tocsr") else StandardScaler()
    classifier = make_pipeline(scaler, LogisticRegression(max_iter=2000))
    with _quiet():  # good enough for a figure of two digits
        classifier.fit(X[train], labels[train])
    return float(classifier.score(X[test], labels[test]))


def commonest(labels: NDArray[np.intp]) -> float:
    """Return the accuracy of naming the most frequent class, on the rows of `linear_accuracy`."""
    test = halves(labels)[1]
    return float(np.bincount(labels[test]).max() / test.sum())


def linear_codes(inputs: Inputs, n_numbers: int) -> tuple[str, int, Fidelity]:
    """Fit a linear code of `n_numbers` to half of the samples, and judge it on the other half.

    The code has fewer numbers if the data allow no more. It is a PCA; the features of a table are
    standardised first. For counts it is an NMF with the Kullback-Leibler loss. A tenth of its
    shares comes from the mean shares, so that no word is impossible.

    Returns
    -------
    name : str
        "PCA" or "NMF".
    k : int
        Size of the code.
    fidelity : Fidelity
        What the code explains of the other half.
    """
    X = inputs.inspected
    train, test = halves(inputs.labels[inputs.rows])
    k = max(1, min(n_numbers, min(int(train.sum()), X.shape[1]) - 1))
    if inputs.counts:
        model: Any = NMF(k, beta_loss="kullback-leibler", solver="mu", max_iter=100, random_state=0)
    elif hasattr(X, "tocsr"):
        model = PCA(k, svd_solver="arpack", random_state=0)
    elif inputs.image_shape:
        model = PCA(k, random_state=0)
    else:
        model = make_pipeline(StandardScaler(), PCA(k, random_state=0))
    held_out = X[test]
    with _quiet():
        Z = model.fit(X[train]).transform(held_out)
    decode = model.inverse_transform
    if inputs.counts:
        usual = np.asarray(X[train].sum(axis=0), dtype=np.float64).ravel()
        usual = (usual + 1e-3 * usual.mean()) / usual.sum()

        def decode(codes: Any) -> NDArray[np.float64]:
            X_hat = model.inverse_transform(codes)
            return 0.9 * X_hat / np.maximum(X_hat.sum(axis=1, keepdims=True), 1e-12) + 0.1 * usual

    likelihood = inputs.core.likelihood_
    kept = measure_fidelity(held_out, lambda rows: decode(Z[rows]), likelihood)
    return ("NMF" if inputs.counts else "PCA"), k, kept


def contrast_of_refits(inputs: Inputs) -> float | None:
    """Return the mean contrast of models that are fitted to shuffled labels.

    Each model is fitted to one half of the samples and judged on the other, by the shuffled labels.
    None if the estimator does not use labels.
    """
    if not inputs.n_refits or not hasattr(inputs.core, "_has_label"):
        return None
    train, test = halves(inputs.labels)
    contrasts = []
    for seed in range(inputs.n_refits):
        y = inputs.y[np.random.default_rng(seed).permutation(len(inputs.y))]
        est = clone(inputs.core).set_params(random_state=seed, verbose=0)
        with warnings.catch_warnings():  # there is nothing to learn
            warnings.simplefilter("ignore")
            est.fit(inputs.inside(train), y[train])
        Z = est.transform(inputs.inside(test))
        contrasts.append(metrics.class_contrast_score(np.asarray(Z), y[test]))
    return float(np.mean(contrasts))


def recurrence(inputs: Inputs) -> Recurrence | None:
    """Measure how well fits with other seeds find the dimensions again."""
    if not inputs.n_refits:
        return None
    X = inputs.inside(slice(None))
    found = sklearn_classvsc.factor_stability(
        inputs.core, X, inputs.y, n_refits=inputs.n_refits, random_state=0
    )
    return Recurrence(np.asarray(found.recurrence, dtype=np.float64), float(found.chance))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
