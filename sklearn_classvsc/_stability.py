"""Which factors can be trusted: those that refits find again."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import Bunch, check_random_state, check_scalar
from tqdm import tqdm

from sklearn_classvsc._pipelines import Through, core_of, sparse_codes, unroll
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics import FactorRecurrence, factor_recurrence


def factor_stability(
    est: Any,
    X: Any,
    y: ArrayLike | None = None,
    *,
    n_refits: int = 5,
    threshold: float = 0.8,
    random_state: int | np.random.RandomState | None = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Bunch:
    """Fit an estimator anew with other seeds, and say which of its dimensions come back.

    A fit has one answer, and another seed may have another. What most fits find is in the data.
    This is the idea of consensus NMF: many fits, matched, of which what recurs is kept. It costs
    `n_refits` fits, as long as the first, and as much memory as one for each job.

    Parameters
    ----------
    est : estimator
        Fitted; a transformer of this package, or a Pipeline that holds one, of which only the
        transformer is fitted anew. It stays as it is.
    X : array-like, or what the first step of a Pipeline takes
        The samples that it was fitted to. Codes are compared on them.
    y : array-like of shape (n_samples,), default=None
        Their labels, as the estimator reads them. Samples without one are left out of the
        comparison. None: there are no classes.
    n_refits : int, default=5
        Number of refits, at least 1.
    threshold : float, default=0.8
        A dimension recurs if its mean recurrence is at least this.
    random_state : int, RandomState instance or None, default=0
        Draws the seeds of the refits, all different.
    n_jobs : int or None, default=None
        Refits at a time, see `joblib.Parallel`. Fits of small tables run best on one thread each.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    stability : Bunch
        - `recurrence`, `recurrence_std`: ndarrays (n_components,), mean and standard deviation
          over the refits of the absolute correlation within classes with the dimension that it is
          paired with, see :func:`~sklearn_classvsc.metrics.factor_recurrence`; NaN for a dimension
          that varies in no class;
        - `ceiling`: ndarray (n_components,), the mean multiple correlation with all dimensions of
          a refit;
        - `chance`: float, mean recurrence where the samples of each class are shuffled;
        - `recurs`: bool ndarray (n_components,), whether `recurrence` is at least `threshold`;
        - `partners`: int ndarray (n_refits, n_components), -1 for none;
        - `effects`: DataFrame (n_components, n_features), the consensus: median over all fits of
          what a dimension and its partners, of one sign, do to the features, in their units; of a
          Pipeline to the columns of its table, see
          :func:`~sklearn_classvsc.inspection.feature_effects`;
        - `estimators`: list of the refits.

    Raises
    ------
    NotFittedError
        If `est` is not fitted.
    ValueError
        If `n_refits` or `threshold` is out of range.

    References
    ----------
    Kotliar et al.: Identifying gene expression programs of cell-type identity and cellular
    activity with single-cell RNA-Seq, eLife 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn_classvsc import ClassVSCTransformer, factor_stability
    >>> X, y = load_wine(return_X_y=True)
    >>> est = ClassVSCTransformer(n_components=8, max_epochs=100, random_state=0).fit(X, y)
    >>> found = factor_stability(est, X, y, n_refits=2)
    >>> found.recurrence.shape, found.effects.shape
    ((8,), (8, 13))
    """
    check_scalar(n_refits, "n_refits", Integral, min_val=1)
    check_scalar(threshold, "threshold", Real, min_val=0, max_val=1)
    core, (est, X) = core_of(est), unroll(est, X)
    codes, effects = _seen(est, X)
    inside = est.into(X) if isinstance(est, Through) else X
    seeds = _seeds(core, n_refits, check_random_state(random_state))
    jobs = (delayed(_refit)(core, inside, y, seed) for seed in seeds)
    refits = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    estimators, found, others = [], [], []
    for refit in tqdm(refits, total=n_refits, unit="refit", disable=not verbose):
        around = est.around(refit) if isinstance(est, Through) else refit
        other_codes, other_effects = _seen(around, X)
        pair = _compare(core, codes, other_codes, y)
        estimators.append(refit)
        found.append(pair)
        others.append(pair.sign[:, None] * other_effects.to_numpy()[pair.partner])
    recurrence = np.array([pair.recurrence for pair in found])
    mean = recurrence.mean(axis=0)
    consensus = np.median([effects.to_numpy(), *others], axis=0)
    return Bunch(
        recurrence=mean,
        recurrence_std=recurrence.std(axis=0),
        ceiling=np.mean([pair.ceiling for pair in found], axis=0),
        chance=float(np.mean([pair.chance for pair in found])),
        recurs=mean >= threshold,
        partners=np.array([pair.partner for pair in found]),
        effects=pd.DataFrame(consensus, effects.index, effects.columns),
        estimators=estimators,
    )


def _seeds(core: Any, n: int, rng: np.random.RandomState) -> list[int]:
    """Return n different seeds, none that of the estimator."""
    seeds = rng.choice(10**6, n + 1, replace=False).tolist()
    return [seed for seed in seeds if seed != core.random_state][:n]


def _refit(core: Any, X: Any, y: Any, seed: int) -> Any:
    """Fit a clone with another seed."""
    return clone(core).set_params(random_state=seed, verbose=0).fit(X, y)


def _seen(est: Any, X: Any) -> tuple[Any, pd.DataFrame]:
    """Return the codes of samples, and what the dimensions do to the features."""
    return sparse_codes(est, X), feature_effects(est, X).fillna(0.0)


def _compare(core: Any, codes: Any, other_codes: Any, y: Any) -> FactorRecurrence:
    """Compare codes of the samples that have a label; a set of labels is a class of its own."""
    if y is None:
        return factor_recurrence(codes, other_codes)
    rows, labels = labeled_rows(core, np.arange(codes.shape[0])[:, None], y)
    rows, labels = np.ravel(rows), np.asarray(labels)
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    return factor_recurrence(codes[rows], other_codes[rows], labels)
