"""What the kinds of labels bring: few labels, several of a sample, groups of classes, numbers.

Four questions, each with its controls. Finished runs are kept, as by `bench_paper.py`.

    python benchmarks/bench_labels.py --quick
    python benchmarks/bench_labels.py --data-dir DIR --jobs 2
    python benchmarks/bench_labels.py --data-dir DIR --sections groups
"""

from __future__ import annotations

import warnings
from typing import Any

import _common as common
import numpy as np
from _common import Row
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer

NO_LABEL = -1
FRACTIONS = (0.001, 0.01, 0.1, 1.0)
FASHION = {"likelihood": "bernoulli", "hidden_layer_sizes": (400,), "n_components": 50}
BATCH = 256
GROUPS = {**dict.fromkeys((5, 7, 9), "footwear"), **dict.fromkeys((0, 2, 4, 6), "upper body")}


# -- few labels --------------------------------------------------------------------------------


def few_labels(task: Row) -> Row:
    """Fit to all images, few of them labeled, or to these alone."""
    split = common.load_images("Fashion-MNIST", *task["load"])
    rng = np.random.default_rng(task["seed"])
    y = keep_labels(split.y_train, task["setting"], rng)
    labeled = y != NO_LABEL
    if task["system"] == "shuffled":
        y[labeled] = rng.permutation(y[labeled])
    n_steps = task["epochs"] * -(-len(y) // BATCH)
    X = split.X_train
    parameters = FASHION | {"max_epochs": task["epochs"], "random_state": task["seed"]}
    estimator: Any = ClassVSCTransformer(**parameters, unlabeled=NO_LABEL)
    if task["system"] == "vsc":
        estimator = VSCTransformer(**parameters)
    elif task["system"] == "alone":  # as many steps
        X, y = X[labeled], y[labeled]
        estimator.set_params(max_epochs=n_steps // -(-len(y) // BATCH))
    seconds, texts = fit(estimator, X, y)
    Z, Z_labeled = estimator.transform(split.X_test), estimator.transform(split.X_train[labeled])
    return common.score_codes(Z, split.y_test) | {
        "explained_variance": common.explained_variance(
            split.X_test, estimator.inverse_transform(Z)
        ),
        "accuracy": accuracy(Z_labeled, split.y_train[labeled], Z, split.y_test),
        "n_labeled": int(labeled.sum()),
        "seconds": seconds,
        "warnings": texts,
    }


def keep_labels(
    y: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the labels of a fraction of the samples, at least one of each class."""
    order = rng.permutation(len(y))
    first = order[np.unique(y[order], return_index=True)[1]]
    rest = order[~np.isin(order, first)]
    kept = np.r_[first, rest][: max(len(first), round(fraction * len(y)))]
    few = np.full(len(y), NO_LABEL)
    few[kept] = y[kept]
    return few


def accuracy(Z: Any, y: Any, Z_test: Any, y_test: Any) -> float:
    """Return the accuracy of a logistic regression on the codes of the labeled samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return common.linear_accuracy(Z, y, Z_test, y_test)


def fit(estimator: Any, X: Any, y: Any) -> tuple[float, list[str]]:
    """Fit; return how long it took, and what it warned of."""
    with common.Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y)
    return watch.seconds, common.warning_texts(caught)
