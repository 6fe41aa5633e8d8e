"""Room 9: what the classes use of a fitted code, whether it has collapsed, and whether it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ._data import ArrayDataset
from ._messages import brief, warn
from ._modules import SpikeSlabAutoencoder
from ._streams import StreamDataset

#: Samples that are summarised, divided among the classes: enough for every figure, and a bounded
#: cost after training. Each class has at least `OF_A_CLASS` of them, or all it has.
SAMPLES, OF_A_CLASS = 10_000, 100
#: Alpha, at most, of a dimension that is meant to be unused.
UNUSED_ALPHA = 1e-3
#: Nats by which the cross-entropy of held-out labels may exceed that of learned ones.
APART = 0.5
#: Rows that are summed at a time, in double precision: they should need less memory than a step.
ROWS = 256


class CollapseWarning(UserWarning):
    """The code has lost what makes it readable; the message says what, and what to change."""


class GeneralizationWarning(UserWarning):
    """What a code says of training samples does not hold on new ones; the message has figures."""


class ClassSummary(NamedTuple):
    """Sums over the samples of each class: (C,) and (C, d)."""

    n_samples: NDArray[np.float64]
    support: NDArray[np.float64]  # how many samples have the dimension on
    gamma: NDArray[np.float64]  # sum of gamma
    first: NDArray[np.float64]  # sum of gamma mu
    second: NDArray[np.float64]  # sum of gamma (mu^2 + sigma^2)

    def __add__(self, other: Any) -> ClassSummary:
        """Return the summary of both sets of samples."""
        return ClassSummary(*(a + b for a, b in zip(self, other, strict=True)))

    def filled_from(self, last: ClassSummary) -> ClassSummary:
        """Return the same, but of classes without samples what `last` says."""
        missing = self.n_samples == 0
        return ClassSummary(
            *(
                np.where(missing[:, None] if a.ndim == 2 else missing, b, a)
                for a, b in zip(self, last, strict=True)
            )
        )

    @property
    def on(self) -> NDArray[np.float64]:
        """How often each dimension is on in each class, (C, d); NaN in one without samples."""
        n = np.where(self.n_samples > 0, self.n_samples, np.nan)
        return self.support / n[:, None]

    def moments(self, c: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return, for class `c`, P(on) and the slab's mean and variance, (d,) each."""
        mass = np.maximum(self.gamma[c], np.finfo(float).tiny)
        mean = self.first[c] / mass
        variance = np.maximum(self.second[c] / mass - mean**2, 0)
        return self.gamma[c] / self.n_samples[c], mean, variance


class ClassSampler:
    """Picks samples at random, of every class about as many, as their labels come in pieces.

    A class that has no more than its share is taken whole. Each sample counts for as many as it
    stands for, so that sums estimate those over all, whatever the order of the samples. The
    generator is its own, with one seed: processes that train together must pick the same.

    Parameters
    ----------
    n_classes : int
        Number C of classes.
    n_each : int
        The share of a class.
    """

    def __init__(self, n_classes: int, n_each: int) -> None:
        self.n_each, self.n_seen = n_each, np.zeros(n_classes)
        self._rng = np.random.default_rng(0)

    def pick(self, labels: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return rows to take, ascending, and what each counts for.

        `labels` are indices of classes, (n,), -1 for none; or which labels, (n, C), of which the
        rarest decides.
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
    """Summarise the codes of about `SAMPLES` labeled samples, of every class its share."""
    sums = np.zeros((n_classes, 1 + 4 * len(model.alpha)))
    sampler = ClassSampler(n_classes, max(OF_A_CLASS, SAMPLES // n_classes))
    for x, labels, weight in dataset.labeled(sampler.pick, ROWS):
        with torch.inference_mode():
            q = model.encode(x.to(model.alpha.device), dataset.incomplete)
            second = q.gamma * (q.mu**2 + q.log_var.exp())
            columns = [q.gamma > threshold, q.gamma, q.gamma * q.mu, second]
            values = torch.cat([column.double() for column in columns], dim=1).cpu().numpy()
        rows = np.c_[np.ones(len(labels)), values] * weight[:, None]
        if labels.ndim == 2:
            sums += labels.T.astype(float) @ rows
        else:
            np.add.at(sums, labels, rows)
    return ClassSummary(sums[:, 0], *np.split(sums[:, 1:], 4, axis=1))


def warn_of_collapse(
    p: NDArray[np.float64], classes: NDArray[Any], alpha: NDArray[Any] | None = None
) -> None:
    """Warn if a code has lost its classes, or leaves many dimensions unused.

    Parameters
    ----------
    p : ndarray of shape (C, d)
        How often each dimension is on in each class; NaN in a class without samples.
    classes : ndarray of shape (C,)
        Names of the classes.
    alpha : ndarray of shape (d,) or None
        Prior probability of each dimension. Those meant to be unused are no loss.
    """
    unseen = np.isnan(p).any(axis=1)
    texts, seen = [], p[~unseen]
    if problems := _problems(seen, classes[~unseen]):
        texts.append(f"The code has collapsed: {'; '.join(problems)}.")
    unused = (seen.max(axis=0) < 0.01) if seen.size else np.zeros(p.shape[1], bool)
    if alpha is not None:
        unused &= alpha > UNUSED_ALPHA
    if unused.mean() > 0.1:
        texts.append(
            f"{unused.sum()} of {unused.size} dimensions are unused, off for every class: lower "
            "n_components, raise usage_weight, or train longer."
        )
    if unseen.any():
        texts.append(
            f"{unseen.sum()} of {unseen.size} classes, the first "
            f"{brief(classes[unseen].tolist()[0])}, had no labeled sample to train on, so the code "
            "knows nothing of them: label some."
        )
    if texts:
        warn(" ".join(texts), CollapseWarning)


def _problems(p: NDArray[np.float64], classes: NDArray[Any]) -> list[str]:
    """Return what is wrong with a code of classes that all have samples, and what to do."""
    if not p.size:
        return []
    silent = p.max(axis=1) < 0.5
    spread = p.max(axis=0) - p.min(axis=0)
    problems = []
    if silent.any():
        problems.append(
            f"{silent.sum()} of {silent.size} classes, the first "
            f"{brief(classes[silent].tolist()[0])}, have no dimension that most of their samples "
            "use: raise n_components or alpha"
        )
    if len(p) > 1 and spread.max() < 0.5:
        problems.append(
            "no dimension is much more active in one class than in another (largest difference "
            f"{spread.max():.2f}), so the code says little about the classes: raise "
            "information_weight or consistency_weight, train longer, or check the labels"
        )
    return problems


def in_and_out(row: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the terms of an epoch that are known of training and of held-out samples alike."""
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
    """Return the epoch whose weights are kept: the best on held-out samples, or the last."""
    for name in ("valid_loss", "held_out_recognition"):
        if name in rows[-1]:
            return min(rows, key=lambda row: row.get(name, np.inf))
    return rows[-1]


def warn_of_gap(
    rows: list[dict[str, Any]], n_samples: NDArray[np.float64], multilabel: bool
) -> None:
    """Warn if the classes are told on training samples only.

    Parameters
    ----------
    rows : list of dict
        The history.
    n_samples : ndarray of shape (C,)
        Samples of each class.
    multilabel : bool
        Whether samples have several, and chance is not the entropy of their shares.
    """
    row = best_epoch(rows)
    learned, held_out = in_and_out(row).get("recognition", (0.0, 0.0))
    share = n_samples[n_samples > 0] / n_samples.sum()
    chance = np.inf if multilabel else -float(share @ np.log(share))
    own = "held_out_recognition" in row
    at_chance = own and held_out > 0.98 * chance
    if at_chance or held_out - learned > APART:
        found = "no better than chance does" if at_chance else "far worse"
        of_chance = "" if multilabel else f"; chance {chance:.3g}"
        advice = ", or train longer" if own else ', or leave the default objective="cross_fitted"'
        warn(
            "What the code says of the classes does not hold on new samples: the gates tell the "
            f"classes of samples that were held out {found} (cross-entropy {held_out:.3g} nats; "
            f"of those they learned from {learned:.3g}{of_chance}). Check the labels, "
            "fit more samples or other features, or merge classes that cannot be told apart"
            f"{advice}.",
            GeneralizationWarning,
        )
