"""Does the default constructor need tuning, on tables of all kinds.

Fits `ClassVSCTransformer(random_state=seed)`, nothing else set, to scikit-learn's embedded
classification sets and to generated tables, small and large, balanced and not, and scores it on
held-out rows: does it find the factors where they are known? Finished runs are kept.

    python benchmarks/bench_defaults.py --quick
    python benchmarks/bench_defaults.py --jobs 2
    python benchmarks/bench_defaults.py --extra     # with objective="paper", and Olivetti's faces
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import _common as common
import numpy as np
from _common import Column, Row, Target, columns
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn import datasets
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.utils import Bunch

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.metrics import role_recovery_score

N_SMALL = 200  # below: accuracy by cross-validation, the encoder fitted anew in each fold
FRESH_SEED = 200  # generated tables come from seeds that nothing was tuned on


class Table(NamedTuple):
    """A data set: how to make it, from a seed if it is generated, and which part to hold out."""

    label: str
    make: Callable[..., Any]
    parameters: Row | None = None  # of what is generated
    test_size: float = 0.3

    def load(self, seed: int) -> Bunch:
        """Return the data."""
        if self.parameters is None:
            return self.make()
        made = self.make(**self.parameters, random_state=FRESH_SEED + seed)
        return made if isinstance(made, Bunch) else Bunch(data=made[0], target=made[1])


WEIGHTS = [40, 25, 15, 10, 6, 4]
TABLES = {
    "digits": Table("digits", datasets.load_digits),
    "wine": Table("wine", datasets.load_wine),
    "breast_cancer": Table("breast cancer", datasets.load_breast_cancer),
    "iris": Table("iris", datasets.load_iris),
    # Ten images of a person: half of them, so that each class has the five a role needs.
    "olivetti": Table("Olivetti faces", datasets.fetch_olivetti_faces, test_size=0.5),
    "factors_small": Table(
        "factors: 4 classes, 600 rows",
        make_class_factors,
        {"n_samples": 600, "n_features": 32, "n_classes": 4, "activity": 0.95},
    ),
    "factors": Table("factors: 5 classes, 1,000 rows", make_class_factors, {}),
    "factors_imbalanced": Table(
        "factors: 6 classes of 40 % to 4 %, 3,000 rows",
        make_class_factors,
        {"n_samples": 3000, "n_classes": 6, "weights": WEIGHTS, "activity": 0.95},
    ),
    "factors_many": Table(
        "factors: 20 classes, 6,000 rows",
        make_class_factors,
        {"n_samples": 6000, "n_features": 128, "n_classes": 20, "activity": 0.95}
        | {"n_shared": 6, "classes_per_shared": 3},
    ),
    "classification": Table(
        "make_classification: 4 classes, 2,000 rows",
        datasets.make_classification,
        {
            "n_samples": 2000,
            "n_features": 20,
            "n_informative": 10,
            "n_classes": 4,
            "class_sep": 1.5,
        },
    ),
    "blobs": Table(
        "make_blobs: 8 classes, 1,500 rows",
        datasets.make_blobs,
        {"n_samples": 1500, "n_features": 15, "centers": 8, "cluster_std": 4.0},
    ),
    "letters": Table(
        "make_classification: 26 classes, 10,000 rows",
        datasets.make_classification,
        {"n_samples": 10_000, "n_features": 24, "n_informative": 16, "n_classes": 26}
        | {"n_clusters_per_class": 1, "class_sep": 2.0},
    ),
}


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit one table with one seed, and score it on held-out rows."""
    table, seed = TABLES[task["table"]], task["seed"]
    data = table.load(seed)
    X, y = np.asarray(data.data), np.asarray(data.target)
    parts = {"test_size": table.test_size, "stratify": y, "random_state": seed}
    train, test = train_test_split(np.arange(len(y)), **parts)
    parameters = {} if task["epochs"] is None else {"max_epochs": task["epochs"]}
    if task["objective"] != "default":
        parameters["objective"] = task["objective"]
    estimator = ClassVSCTransformer(**parameters, random_state=seed)
    row = common.fit(estimator, X[train], y[train])
    Z = estimator.transform(X[test])
    decoded, losses = estimator.inverse_transform(Z), estimator.history_["train_loss"]
    scale = X[train].std(axis=0)
    given, several = {"X": X, "y": y}, []
    if len(X) < N_SMALL:
        for fold in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y):
            fitted = clone(estimator)
            common.fit(fitted, X[fold[0]], y[fold[0]])
            several.append(accuracies(fitted, *fold, given))
    accuracy, raw = np.mean(several or [accuracies(estimator, train, test, given)], axis=0)
    row |= common.score_codes(Z, y[test])
    row |= {
        "n_samples": len(X),
        "n_features": X.shape[1],
        "explained_variance": common.explained_variance(estimator, X[test], scale),
        "classes_without_own": row["n_classes"] - row["own"],
        "not_finite": int(not all(np.isfinite(a).all() for a in (Z, decoded, losses))),
        "accuracy": float(accuracy),
        "raw_accuracy": float(raw),
        "accuracy_gain": float(accuracy - raw),
        "stop_reason": estimator.stop_reason_,
        "epochs_run": int(estimator.n_iter_),
    }
    if "supports" in data:  # the true factors are known
        similarity = common.absolute_correlation(data.codes[test], Z)
        pairs = linear_sum_assignment(similarity, maximize=True)
        row["factor_correlation"] = float(similarity[pairs].sum() / len(similarity))
        row["role_recovery"] = role_recovery_score(data.supports, Z, y[test])
    return row


def accuracies(estimator: Any, train: NDArray[Any], test: NDArray[Any], given: Row) -> list[float]:
    """Return the accuracies of a logistic regression on the codes and on the raw features."""
    X, y = given["X"], given["y"]
    return [
        common.linear_accuracy(F(X[train]), y[train], F(X[test]), y[test])
        for F in (estimator.transform, np.asarray)
    ]


# -- the page ----------------------------------------------------------------------------------

COLUMNS = [
    *columns("explained_variance consistency contrast dead own"),
    Column("of classes", "n_classes", 0),
    *columns("global shared specific sporadic active accuracy"),
    Column("raw features", "raw_accuracy"),
    Column("roles recovered", "role_recovery", 2),
    Column("factor correlation", "factor_correlation", 2),
    Column("collapse warnings", "collapse_warnings", 1),
    Column("fit, s", "seconds", 1),
]
TARGETS = [
    Target("dead = 0", "dead", "<=", 0, every_seed=True),
    Target("no collapse warning", "collapse_warnings", "<=", 0, every_seed=True),
    Target("finite", "not_finite", "<=", 0, every_seed=True),
    Target("C >= 0.88", "consistency", ">=", 0.88),
    Target("contrast >= 0.65", "contrast", ">=", 0.65),
    Target("own: every class", "classes_without_own", "<=", 0, every_seed=True),
    Target("accuracy >= raw - 0.02", "accuracy_gain", ">=", -0.02),
    Target("roles >= 0.9", "role_recovery", ">=", 0.9),
    Target("fit <= 30 s", "seconds", "<=", 30, every_seed=True),
]


def parts_of(groups: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the paragraphs on one objective."""
    verdicts, stops = [], []
    for label, rows in groups.items():
        met = {target: target.met(common.figures(rows, target.field)) for target in TARGETS}
        cells = [
            common.VERDICTS[ok] + (f" ({common.mean_sd(rows, t.field)})" if ok is False else "")
            for t, ok in met.items()
        ]
        verdicts.append([label, *cells])
        reasons = ", ".join(sorted({row["stop_reason"] for row in rows}))
        sizes = [str(rows[0][name]) for name in ("n_samples", "n_features")]
        stops.append([label, *sizes, common.mean_sd(rows, "epochs_run", 0), reasons])
    return [
        *common.summary(groups, COLUMNS, "table"),
        "Whether it meets what it must show; counts and seconds by the worst seed, the others by "
        "the mean:",
        common.markdown_table(["table", *(t.figure for t in TARGETS)], verdicts),
        "How long it trained, and what ended it:",
        common.markdown_table(["table", "rows", "features", "epochs", "ended by"], stops),
    ]


def main() -> int:
    """Run what is missing, then write the page."""
    arguments = common.command_line(
        __doc__, "jobs", "extra", seeds=([0], [0, 1, 2, 3, 4]), epochs=(100, None)
    )
    quick = ["wine", "iris", "factors_small"]
    objectives = ["default", *["paper"] * arguments.extra]
    tasks = [
        {"table": table, "objective": objective, "seed": seed, "epochs": arguments.epochs}
        for seed in arguments.seeds
        for objective in objectives
        for table in (quick if arguments.quick else TABLES)
        if table != "olivetti" or arguments.extra
    ]
    key = ["table", "objective", "seed", "epochs"]
    rows, ok = common.run_tasks(arguments, "bench_defaults", key, tasks, run)
    rows, parts = common.of(rows, epochs=arguments.epochs), []
    for objective in ("default", "paper"):
        groups = {t.label: common.of(rows, objective=objective, table=k) for k, t in TABLES.items()}
        groups = {label: found for label, found in groups.items() if found}
        if groups:
            parts += [f"## objective: {objective}", *parts_of(groups)]
    common.write_page(arguments, "benchmark_defaults", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
