"""Novelty: does the support of a code tell samples of an unknown class.

Trains on nine of the ten classes of scikit-learn's digits, each left out in turn, and scores
held-out samples of all ten; with `--data-dir`, also trains on Fashion-MNIST and scores it against
MNIST, and the other way round. What has been run is kept: start it again after an interruption,
and only what is missing runs.

    python benchmarks/bench_novelty.py --quick
    python benchmarks/bench_novelty.py --data-dir DIR --jobs 2
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import _common as common
import numpy as np
from _common import Column, ResultStore, Row, Split, Stopwatch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.editing import class_profile, support_score_samples

Scores = Mapping[str, NDArray[Any]]

#: Of the image sets: held-out samples of the known and of the unknown set each.
N_TRAIN, N_TEST = 20_000, 5_000
IMAGE_SETS = {"Fashion-MNIST": "mnist_784", "mnist_784": "Fashion-MNIST"}
_NAMES = {"Fashion-MNIST": "Fashion-MNIST", "mnist_784": "MNIST"}

SCORES = {
    "support": "**support**: probabilities to be active, nearest class (`support_score_samples`)",
    "hard_support": "support, on or off only",
    "reconstruction": "reconstruction error of the same model",
    "elbo": "ELBO of the same model (`score_samples`)",
    "mahalanobis_codes": "Mahalanobis distance of its codes",
    "mahalanobis": "Mahalanobis distance of X",
    "mahalanobis_classes": "Mahalanobis distance of X to the nearest class mean",
    "pca": "reconstruction error of a PCA with 90 % of the variance",
    "isolation_forest": "IsolationForest on X",
}


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit to the known classes; return the AUROC of every score."""
    data, is_known = load(task["data"], task["novel"], task["seed"], task["data_dir"])
    parameters = {"max_epochs": 5} if task["quick"] else {}
    with Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CollapseWarning)
        est = ClassVSCTransformer(random_state=task["seed"], **parameters)
        est.fit(data.X_train, data.y_train)
    scores = score(est, data, task["seed"])
    return {name: float(roc_auc_score(is_known, values)) for name, values in scores.items()} | {
        "seconds": watch.seconds,
        "warnings": common.warning_texts(caught),
        "environment": common.environment(),
    }


def load(name: str, novel: str, seed: int, data_dir: str | None) -> tuple[Split, NDArray[Any]]:
    """Return the data, with known and unknown samples to test on, and which are known."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X_train, X_test, y_train, y_test = train_test_split(
            X / 16, y, test_size=0.5, stratify=y, random_state=seed
        )
        known = y_train != int(novel)
        return Split(X_train[known], X_test, y_train[known], y_test), y_test != int(novel)
    known_set = common.load_images(name, data_dir)
    rows = np.random.default_rng(seed).choice(len(known_set.X_train), N_TRAIN, replace=False)
    X_train, y_train = known_set.X_train[rows], known_set.y_train[rows]
    X_test, y_test = known_set.X_test[:N_TEST], known_set.y_test[:N_TEST]
    unknown = common.load_images(novel, data_dir).X_test[:N_TEST]
    data = Split(X_train, np.concatenate([X_test, unknown]), y_train, y_test)
    return data, np.arange(len(data.X_test)) < N_TEST


def score(est: Any, data: Split, seed: int) -> Scores:
    """Return what each way has to say of the test samples; higher is more typical."""
    X, y, X_test = data.X_train, data.y_train, data.X_test
    profile = class_profile(est, X, y)
    Z, Z_test = est.transform(X), est.transform(X_test)
    pca = PCA(0.9, random_state=seed).fit(X)
    classes, labels = np.unique(y, return_inverse=True)
    means = np.stack([X[y == c].mean(axis=0) for c in classes])
    within = LedoitWolf(assume_centered=True).fit(X - means[labels])
    nearest = np.min([within.mahalanobis(X_test - mean) for mean in means], axis=0)
    return {
        "support": support_score_samples(est, X_test, profile),
        "hard_support": profile.log_likelihood(Z_test != 0).max(axis=1),
        "reconstruction": -_squares(X_test - est.inverse_transform(Z_test)),
        "elbo": est.score_samples(X_test),
        "mahalanobis_codes": -LedoitWolf().fit(Z).mahalanobis(Z_test),
        "mahalanobis": -LedoitWolf().fit(X).mahalanobis(X_test),
        "mahalanobis_classes": -nearest,
        "pca": -_squares(X_test - pca.inverse_transform(pca.transform(X_test))),
        "isolation_forest": IsolationForest(random_state=seed).fit(X).score_samples(X_test),
    }


def _squares(difference: NDArray[Any]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = (difference**2).sum(axis=1, dtype=np.float64)
    return squares


# -- the page ----------------------------------------------------------------------------------


def write_page(path: Path, rows: Sequence[Row], quick: bool) -> None:
    """Write the page of all finished runs."""
    n_seeds = len({row["seed"] for row in rows})
    digits = [row for row in rows if row["data"] == "digits"]
    images = {
        f"{_NAMES[data]}, unknown {_NAMES[novel]}": [row for row in rows if row["data"] == data]
        for data, novel in IMAGE_SETS.items()
    }
    groups = {"digits, a class left out": _mean_by_seed(digits)} | images
    groups = {name: group for name, group in groups.items() if group}
    text = f"""\
# Novelty: do supports tell samples of an unknown class?

*Written by `benchmarks/bench_novelty.py`; do not edit.*{" **A smoke test of 5 epochs.**" * quick}

A `ClassVSCTransformer` with its default parameters is fitted to the known classes, and its scores
and those of simple baselines rank held-out samples, known and unknown. The figure is the area
under the ROC curve (AUROC): the probability that a known sample is scored higher than an unknown
one; 0.5 is chance. Mean ± standard deviation over {n_seeds} seeds. The digits: half of the samples
to train on, each of the ten classes left out in turn, a seed's figure the mean of the ten. The
images: {N_TRAIN:,} to train on, {N_TEST:,} held-out ones of either set.

{_table(groups)}

{_verdict(groups)}

## The digits, by the class that was left out

{_by_class(digits)}

No score has seen an unknown sample. That the support is scored by probabilities, not by on or off
alone, was chosen after a look at five of the digits with the first seed; nothing else was tuned.
The covariances of the Mahalanobis distances are shrunk (Ledoit, Wolf). {_warned(rows)}

{common.environment_text(rows)}
"""
    common.write(path, text)


def _mean_by_seed(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each seed: the mean over the classes left out."""
    seeds = sorted({row["seed"] for row in rows})
    return [
        {name: _mean([row for row in rows if row["seed"] == seed], name) for name in SCORES}
        for seed in seeds
    ]


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(common.figures(rows, name).mean())


def _table(groups: Mapping[str, Sequence[Row]]) -> str:
    body = (
        [label, *(common.mean_sd(rows, name) for rows in groups.values())]
        for name, label in SCORES.items()
    )
    return common.markdown_table(["score", *groups], body)


def _verdict(groups: Mapping[str, Sequence[Row]]) -> str:
    """Say in words what is better than the support."""
    sentences = []
    for name, rows in groups.items():
        means = {score: _mean(rows, score) for score in SCORES}
        better = sorted((s for s in SCORES if means[s] > means["support"]), key=lambda s: -means[s])
        names = ", ".join(f"{_short(s)} ({means[s]:.3f})" for s in better)
        found = f"better are: {names}" if better else "none of the others is better"
        sentences.append(f"- **{name}**: the support has {means['support']:.3f}; {found}.")
    return "\n".join(sentences)


def _short(name: str) -> str:
    return SCORES[name].replace("**", "").partition(" (`")[0]


def _by_class(rows: Sequence[Row]) -> str:
    groups = {
        novel: [row for row in rows if row["novel"] == novel]
        for novel in sorted({row["novel"] for row in rows})
    }
    names = ("support", "reconstruction", "elbo", "mahalanobis_classes", "pca", "isolation_forest")
    columns = [Column(name.replace("_", " "), name) for name in names]
    return common.summary_table(groups, columns, of="left out")


def _warned(rows: Sequence[Row]) -> str:
    n = sum(bool(row["warnings"]) for row in rows)
    return f"{n} of the {len(rows)} fits warned of a collapse."


# -- command line ------------------------------------------------------------------------------


def make_tasks(seeds: int, data_dir: str | None, quick: bool) -> list[Row]:
    """List the runs."""
    pairs = [("digits", str(digit)) for digit in range(10)]
    if data_dir is not None:
        pairs += IMAGE_SETS.items()
    return [
        {"data": data, "novel": novel, "seed": seed, "data_dir": data_dir, "quick": quick}
        for seed in range(seeds)
        for data, novel in pairs
    ]


def main() -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Callable[..., Any] = parser.add_argument
    add("--quick", action="store_true", help="5 epochs, one seed: under a minute")
    add("--seeds", type=int, help="number of seeds; default: 3, 1 with --quick")
    add("--data-dir", help="folder of the IDX files of MNIST and Fashion-MNIST")
    add("--jobs", type=int, default=1, help="runs at a time")
    add("--fresh", action="store_true", help="run again what has been run")
    arguments = parser.parse_args()
    quick = arguments.quick
    results = common.RESULTS / ("quick" if quick else "")
    store = ResultStore(results / "bench_novelty.jsonl", ["data", "novel", "seed"])
    tasks = make_tasks(arguments.seeds or (1 if quick else 3), arguments.data_dir, quick)
    ok = common.run_tasks(tasks, run, store, arguments.jobs, arguments.fresh)
    page = (results if quick else common.DOCS) / "benchmark_novelty.md"
    write_page(page, list(store.rows.values()), quick)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
