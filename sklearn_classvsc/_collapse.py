"""Room 9: the dimensions that each class activates in a fitted code, and two warnings about them.

`CollapseWarning` says that a code tells little about the classes, `GeneralizationWarning` that what
it tells does not hold on new samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ._data import ArrayDataset
from ._messages import brief, warn
from ._modules import SpikeSlabAutoencoder
from ._streams import StreamDataset

#: Samples to summarise, divided among the classes. They are enough for every figure, and bound the
#: cost after training. Each class has at least `OF_A_CLASS` of them, or all its samples.
SAMPLES, OF_A_CLASS = 10_000, 100
#: Alpha, at most, of a dimension that is meant to be unused.
UNUSED_ALPHA = 1e-3
#: Nats by which the cross-entropy of held-out labels may exceed that of learned ones.
APART = 0.5
#: Rows to sum at a time, in double precision. They should need less memory than a training step.
ROWS = 256


class CollapseWarning(UserWarning):
    """The code says little about the classes, or leaves many dimensions unused.

    The message says what was found, what it means and what to change.
    """


class GeneralizationWarning(UserWarning):
    """What the code says about the classes does not hold on new samples.

    The message gives the figures, and says what to change.
    """


class ClassSummary(NamedTuple):
    """Sums over the samples of each class: (C,) and (C, d)."""

    n_samples: NDArray[np.float64]
    support: NDArray[np.float64]  # number of samples in which the dimension is active
    gamma: NDArray[np.float64]  # sum of gamma
    first: NDArray[np.float64]  # sum of gamma mu
    second: NDArray[np.float64]  # sum of gamma (mu^2 + sigma^2)

    def __add__(self, other: Any) -> ClassSummary:
        """Return the summary of both sets of samples."""
        return ClassSummary(*(a + b for a, b in zip(self, other, strict=True)))

    def filled_from(self, last: ClassSummary) -> ClassSummary:
        """Return the summary, with the sums of `last` for classes without samples."""
        missing = self.n_samples == 0
        return ClassSummary(
            *(
                np.where(missing[:, None] if a.ndim == 2 else missing, b, a)
                for a, b in zip(self, last, strict=True)
            )
        )

    @property
    def on(self) -> NDArray[np.float64]:
        """How often each dimension is active in each class, (C, d); NaN without samples."""
        n = np.where(self.n_samples > 0, self.n_samples, np.nan)
        return self.support / n[:, None]

    def moments(self, c: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return, for class `c`, P(active) and the slab's mean and variance, (d,) each."""
        mass = np.maximum(self.gamma[c], np.finfo(float).tiny)
        mean = self.first[c] / mass
        variance = np.maximum(self.second[c] / mass - mean**2, 0)
        return self.gamma[c] / self.n_samples[c], mean, variance


class ClassSampler:
    """Picks random samples, about as many of every class, from labels that come in pieces.

    A class that has no more samples than its share is taken whole. `pick` also says how many
    samples a picked one stands for. Sums with these weights therefore estimate the sums over all
    samples, in whatever order they come. Every sampler draws from the same seed, because processes
    that train together must pick the same samples.

    Parameters
    ----------
    n_classes : int
        Number C of classes.
    n_each : int
        Share of each class, in samples.
    """

    def __init__(self, n_classes: int, n_each: int) -> None:
        self.n_each, self.n_seen = n_each, np.zeros(n_classes)
        self._rng = np.random.default_rng(0)

    def pick(self, labels: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the rows to take, ascending, and how many samples each stands for.

        `labels` are class indices, (n,), -1 for none; or an indicator, (n, C), in which the rarest
        label of a sample decides.
        """
        multilabel = labels.ndim == 2
        counts = (
            labels.sum(0)
            if multilabel
            else np.bincount(labels[labels >= 0], minlength=len(self.n_seen))
        )
        self.n_seen += counts
        chance = np.minimum(1, self.n_each / np.maximum(self.n_seen, 1))
        if multilabel:
            p = np.zeros(len(labels))
            for members, of_class in zip(labels.T, chance, strict=True):
                np.maximum(p, of_class, out=p, where=members)
        else:
            p = np.where(labels >= 0, chance[labels], 0)
        rows = np.flatnonzero(self._rng.random(len(p)) < p)
        return rows, 1 / p[rows]


def summarize(
    model: SpikeSlabAutoencoder,
    dataset: ArrayDataset | StreamDataset,
    threshold: float,
    n_classes: int,
) -> ClassSummary:
    """Summarise the codes of about `SAMPLES` labeled samples, with a share of every class."""
    sums = np.zeros((n_classes, 1 + 4 * len(model.alpha)))
    sampler = ClassSampler(n_classes, max(OF_A_CLASS, SAMPLES // n_classes))
    for x, labels, stands_for, _ in dataset.labeled(sampler.pick, ROWS):
        with torch.inference_mode():
            q = model.encode(x.to(model.alpha.device), dataset.incomplete)
            second = q.gamma * (q.mu**2 + q.log_var.exp())
            columns = [q.gamma > threshold, q.gamma, q.gamma * q.mu, second]
            values = torch.cat([column.double() for column in columns], dim=1).cpu().numpy()
        rows = np.c_[np.ones(len(labels)), values] * stands_for[:, None]
        if labels.ndim == 2:
            sums += labels.T.astype(float) @ rows
        else:
            np.add.at(sums, labels, rows)
    return ClassSummary(sums[:, 0], *np.split(sums[:, 1:], 4, axis=1))


def warn_of_collapse(
    p: NDArray[np.float64], classes: NDArray[Any], alpha: NDArray[Any] | None = None
) -> None:
    """Warn if a code says little about the classes, or leaves many dimensions unused.

    Parameters
    ----------
    p : ndarray of shape (C, d)
        How often each dimension is active in each class; NaN in a class without samples.
    classes : ndarray of shape (C,)
        Names of the classes.
    alpha : ndarray of shape (d,) or None
        Prior probability of each dimension. Those that are meant to be unused do not count.
    """
    unseen = np.isnan(p).any(axis=1)
    texts, seen = [], p[~unseen]
    if problems := _problems(seen, classes[~unseen]):
        texts.append(f"The code says little about the classes. {' '.join(problems)}")
    unused = (seen.max(axis=0) < 0.01) if seen.size else np.zeros(p.shape[1], bool)
    if alpha is not None:
        unused &= alpha > UNUSED_ALPHA
    if unused.mean() > 0.2:
        texts.append(
            f"Unused dimensions: {unused.sum()} of {unused.size}. No class activates them in 1 % "
            "of its samples. Lower n_components, raise usage_weight, or train longer."
        )
    if unseen.any():
        texts.append(
            f"{unseen.sum()} of {unseen.size} classes, the first "
            f"{brief(classes[unseen].tolist()[0])}, have no labeled training sample, so the code "
            "says nothing about them. Label some of their samples."
        )
    if texts:
        warn(" ".join(texts), CollapseWarning)


def _problems(p: NDArray[np.float64], classes: NDArray[Any]) -> list[str]:
    """Return sentences on what is wrong with a code, and what to do; all classes have samples."""
    if not p.size:
        return []
    silent = p.max(axis=1) < 0.5
    spread = p.max(axis=0) - p.min(axis=0)
    problems = []
    if silent.any():
        problems.append(
            f"{silent.sum()} of {silent.size} classes, the first "
            f"{brief(classes[silent].tolist()[0])}, activate no dimension: none is active in half "
            "of their samples. Raise n_components or alpha."
        )
    if len(p) > 1 and spread.max() < 0.5:
        problems.append(
            "No dimension is active much more often in one class than in another: the rates differ "
            f"by {spread.max():.2f} at most, and by 0.5 or more where a code tells classes apart. "
            "If the classes overlap in X, this is expected. Otherwise check the labels or train "
            "longer. With another objective than the default, raise consistency_weight."
        )
    return problems


def in_and_out(row: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the terms of an epoch that are known on training and on held-out samples."""
    pairs = {
        name: (value, row[f"valid_{name.removeprefix('train_')}"])
        for name, value in row.items()
        if f"valid_{name.removeprefix('train_')}" in row
    }
    if "held_out_recognition" in row:
        pairs["recognition"] = row["recognition"], row["held_out_recognition"]
    pairs.pop("held_out_recognition", None)
    return {name.removeprefix("train_"): pair for name, pair in pairs.items()}


def best_epoch(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the epoch whose weights are kept: the best on held-out samples, else the last."""
    for name in ("valid_loss", "held_out_recognition"):
        if name in rows[-1]:
            return min(rows, key=lambda row: row.get(name, np.inf))
    return rows[-1]


def warn_of_gap(
    rows: list[dict[str, Any]], n_samples: NDArray[np.float64], multilabel: bool
) -> None:
    """Warn if the gates tell the classes of training samples apart, but not of held-out samples.

    Parameters
    ----------
    rows : list of dict
        The history.
    n_samples : ndarray of shape (C,)
        Samples of each class.
    multilabel : bool
        Whether samples have several labels. Chance is then unknown: it is not the entropy of the
        classes' shares.
    """
    row = best_epoch(rows)
    learned, held_out = in_and_out(row).get("recognition", (0.0, 0.0))
    share = n_samples[n_samples > 0] / n_samples.sum()
    chance = np.inf if multilabel else -float(share @ np.log(share))
    own = "held_out_recognition" in row
    at_chance = own and held_out > 0.98 * chance
    if at_chance or held_out - learned > APART:
        found = "no better than chance" if at_chance else "far worse than of training samples"
        of_chance = "" if multilabel else f", chance {chance:.3g}"
        advice = "or train longer" if own else 'or use the default objective="cross_fitted"'
        warn(
            "What the code says about the classes does not hold on new samples. The gates tell the "
            f"classes of held-out samples apart {found}: cross-entropy {held_out:.3g} nats, on "
            f"training samples {learned:.3g}{of_chance}. Check the labels, fit more samples or "
            f"other features, merge classes that cannot be told apart, {advice}.",
            GeneralizationWarning,
        )
