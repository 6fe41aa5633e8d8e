"""`factor_stability`: which dimensions of a fitted code other seeds find again."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import Bunch, check_random_state, check_scalar
from tqdm import tqdm

from sklearn_classvsc._collapse import CollapseWarning, GeneralizationWarning
from sklearn_classvsc._messages import warn
from sklearn_classvsc._pipelines import Through, core_of, sparse_codes, unroll
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics import FactorRecurrence, factor_recurrence

#: Warnings of the refits that are counted, and given once.
COUNTED = (CollapseWarning, GeneralizationWarning)


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
    """Fit an estimator again with other seeds, and measure which of its dimensions recur.

    Another seed may find other dimensions. What most fits find is in the data. The idea comes from
    consensus NMF, which matches the components of many fits and keeps those that recur. The cost is
    `n_refits` fits, each as long as the first, and the memory of one fit for each job. Refits weigh
    all samples equally, even if `est` was fitted with sample weights.

    Parameters
    ----------
    est : estimator
        A fitted transformer of this package, or a fitted Pipeline that holds one. Only the
        transformer is fitted again, as a clone; `est` does not change.
    X : array-like, or what the first step of a Pipeline takes
        The samples that `est` was fitted to. Codes are compared on them.
    y : array-like of shape (n_samples,), default=None
        Labels of the samples, as `est` takes them. The comparison leaves out samples without a
        label. None treats all samples as one class.
    n_refits : int, default=5
        Number of refits, at least 1.
    threshold : float, default=0.8
        A dimension recurs if its mean recurrence is at least this value, in [0, 1].
    random_state : int, RandomState instance or None, default=0
        Draws the seeds of the refits, which all differ.
    n_jobs : int or None, default=None
        Number of refits at a time; see `joblib.Parallel`. Fits of small tables are fastest with one
        thread each.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    stability : Bunch
        - `recurrence`, `recurrence_std`: ndarrays of shape (n_components,), the mean and standard
          deviation over the refits of the absolute correlation within classes of a dimension and
          its partner (see :func:`~sklearn_classvsc.metrics.factor_recurrence`); NaN for a dimension
          that varies in no class;
        - `ceiling`: ndarray of shape (n_components,), the mean multiple correlation with all
          dimensions of a refit;
        - `chance`: float, the mean recurrence if the samples of each class are shuffled;
        - `recurs`: bool ndarray of shape (n_components,), whether `recurrence` is at least
          `threshold`;
        - `partners`: int ndarray of shape (n_refits, n_components), -1 for none;
        - `effects`: DataFrame of shape (n_components, n_features), the consensus: the median over
          all fits of the effects of a dimension and its partners, with their signs aligned. They
          are in the units of the features; for a Pipeline, of the columns of its table (see
          :func:`~sklearn_classvsc.inspection.feature_effects`);
        - `estimators`: list of the refitted transformers.

    Raises
    ------
    NotFittedError
        If `est` is not fitted.
    ValueError
        If `n_refits` or `threshold` is out of range.

    Warns
    -----
    CollapseWarning, GeneralizationWarning
        If refits give these warnings: one warning of each kind says how many refits gave it.

    See Also
    --------
    sklearn_classvsc.metrics.factor_recurrence : The recurrence of two given codes.
    sklearn_classvsc.metrics.effect_alignment : Whether effects are the same in every class.

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
    estimators, found, others, messages = [], [], [], []
    for refit, said in tqdm(refits, total=n_refits, unit="refit", disable=not verbose):
        around = est.around(refit) if isinstance(est, Through) else refit
        other_codes, other_effects = _seen(around, X)
        pair = _compare(core, codes, other_codes, y)
        estimators.append(refit)
        messages.append(said)
        found.append(pair)
        others.append(pair.sign[:, None] * other_effects.to_numpy()[pair.partner])
    _warn_of(messages)
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
    """Return n different seeds, without the seed of the estimator."""
    seeds = rng.choice(10**6, n + 1, replace=False).tolist()
    return [seed for seed in seeds if seed != core.random_state][:n]


def _refit(core: Any, X: Any, y: Any, seed: int) -> tuple[Any, list[Warning]]:
    """Fit a clone with another seed; return it and its warnings that are counted."""
    est = clone(core).set_params(random_state=seed, verbose=0)
    if threading.current_thread() is not threading.main_thread():
        return est.fit(X, y), []  # catching warnings is safe in one thread only
    with warnings.catch_warnings(record=True) as caught:
        for kind in COUNTED:
            warnings.simplefilter("always", kind)
        est.fit(X, y)
    for entry in caught:
        if not isinstance(entry.message, COUNTED):
            warnings.warn_explicit(entry.message, entry.category, entry.filename, entry.lineno)
    return est, [entry.message for entry in caught if isinstance(entry.message, COUNTED)]


def _warn_of(messages: Sequence[list[Warning]]) -> None:
    """Warn once of each kind, with the number of refits that gave the warning."""
    for kind in COUNTED:
        texts = [str(said) for found in messages for said in found if isinstance(said, kind)]
        if texts:
            refits = f"{len(texts)} of {len(messages)} refits"
            warn(f"{refits} gave this warning, the first of them: {texts[0]}", kind)


def _seen(est: Any, X: Any) -> tuple[Any, pd.DataFrame]:
    """Return the codes of samples, and the effects of the dimensions on the features."""
    return sparse_codes(est, X), feature_effects(est, X).fillna(0.0)


def _compare(core: Any, codes: Any, other_codes: Any, y: Any) -> FactorRecurrence:
    """Compare codes of the samples that have a label; each set of labels is one class."""
    if y is None:
        return factor_recurrence(codes, other_codes)
    rows, labels = labeled_rows(core, np.arange(codes.shape[0])[:, None], y)
    rows, labels = np.ravel(rows), np.asarray(labels)
    if labels.ndim == 2:
        labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    return factor_recurrence(codes[rows], other_codes[rows], labels)
