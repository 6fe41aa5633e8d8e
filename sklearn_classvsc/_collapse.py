"""Room 14: what the classes use of a fitted code, and whether it has collapsed."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ._data import ArrayDataset
from ._modules import SpikeSlabAutoencoder
from ._streams import StreamDataset

#: Samples that are summarised: enough for every figure, and a bounded cost after training.
SAMPLES = 10_000
#: Of them at a time: the sums are in double precision, and should need less memory than a step.
ROWS = 256


class CollapseWarning(UserWarning):
    """The code has lost what makes it readable; the message says what, and what to change."""


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

    def moments(self, c: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return, for class `c`, P(on) and the slab's mean and variance, (d,) each."""
        mass = np.maximum(self.gamma[c], np.finfo(float).tiny)
        mean = self.first[c] / mass
        variance = np.maximum(self.second[c] / mass - mean**2, 0)
        return self.gamma[c] / max(self.n_samples[c], 1), mean, variance


def summarize(
    model: SpikeSlabAutoencoder,
    dataset: ArrayDataset | StreamDataset,
    threshold: float,
    n_classes: int,
) -> ClassSummary:
    """Summarise the codes of at most `SAMPLES` labeled samples, spread evenly over the data."""
    sums = np.zeros((n_classes, 1 + 4 * len(model.alpha)))
    for x, labels in dataset.labeled(SAMPLES, ROWS):
        with torch.inference_mode():
            q = model.encode(x.to(model.alpha.device))
            second = q.gamma * (q.mu**2 + q.log_var.exp())
            columns = [q.gamma > threshold, q.gamma, q.gamma * q.mu, second]
            values = torch.cat([column.double() for column in columns], dim=1).cpu().numpy()
        rows = np.c_[np.ones(len(labels)), values]
        if labels.ndim == 2:
            sums += labels.T.astype(float) @ rows
        else:
            np.add.at(sums, labels, rows)
    return ClassSummary(sums[:, 0], *np.split(sums[:, 1:], 4, axis=1))


def warn_of_collapse(p: NDArray[np.float64], classes: NDArray[Any]) -> None:
    """Warn if a code is dead, or says nothing about the classes.

    Parameters
    ----------
    p : ndarray of shape (C, d)
        How often each dimension is on in each class.
    classes : ndarray of shape (C,)
        Names of the classes.
    """
    dead = p.max(axis=0) < 0.01
    silent = p.max(axis=1) < 0.5
    spread = p.max(axis=0) - p.min(axis=0)
    problems = []
    if dead.mean() > 0.1:
        problems.append(
            f"{dead.sum()} of {dead.size} dimensions are off for every class (dead): train "
            "longer, raise usage_weight, or lower n_components"
        )
    if silent.any():
        problems.append(
            f"{silent.sum()} of {silent.size} classes, the first "
            f"{classes[silent].tolist()[0]!r}, have no dimension that most of their samples use: "
            "raise n_components or alpha"
        )
    if spread.max() < 0.5:
        problems.append(
            "no dimension is much more active in one class than in another (largest difference "
            f"{spread.max():.2f}), so the code says little about the classes: raise "
            "information_weight or consistency_weight, train longer, or check the labels"
        )
    if problems:
        warnings.warn(
            "The code has collapsed: " + "; ".join(problems) + ".", CollapseWarning, stacklevel=5
        )
