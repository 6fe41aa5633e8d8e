"""Whether the default constructor needs tuning, on tables of all kinds.

Fits ``ClassVSCTransformer(random_state=seed)``, nothing else set, to scikit-learn's embedded
classification sets and to generated tables, and scores it on held-out rows. Finished runs are
kept: start it again after an interruption, and only what is missing runs.

    python benchmarks/bench_defaults.py --quick
    python benchmarks/bench_defaults.py --jobs 2
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import numpy as np
from _common import Column, ResultStore, Row, Split
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.datasets import (
    fetch_olivetti_faces,
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
    make_classification,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.utils import Bunch

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.metrics import role_recovery_score

N_SMALL = 200  # below: accuracy by cross-validation, the encoder fitted anew in each fold
FRESH_SEED = 200  # generated tables come from seeds that nothing was tuned on


# -- data --------------------------------------------------------------------------------------


class Table(NamedTuple):
    """A data set: how to make it from a seed, and which part of it to hold out."""

    label: str
    make: Callable[[int], Bunch]
    test_size: float = 0.3


def _fixed(load: Callable[..., Bunch]) -> Callable[[int], Bunch]:
    return lambda seed: load()


def _factors(**parameters: Any) -> Callable[[int], Bunch]:
    return lambda seed: make_class_factors(**parameters, random_state=FRESH_SEED + seed)


def _generated(make: Callable[..., Any], **parameters: Any) -> Callable[[int], Bunch]:
    def generate(seed: int) -> Bunch:
        X, y = make(**parameters, random_state=FRESH_SEED + seed)
        return Bunch(data=X, target=y)

    return generate


def _olivetti(seed: int) -> Bunch:
    return fetch_olivetti_faces(download_if_missing=False)


TABLES = {
    "digits": Table("digits", _fixed(load_digits)),
    "wine": Table("wine", _fixed(load_wine)),
    "breast_cancer": Table("breast cancer", _fixed(load_breast_cancer)),
    "iris": Table("iris", _fixed(load_iris)),
    # Ten images of a person: half of them, so that each class has the five a role needs.
    "olivetti": Table("Olivetti faces", _olivetti, test_size=0.5),
    "factors_small": Table(
        "factors: 4 classes, 600 rows",
        _factors(n_samples=600, n_features=32, n_classes=4, activity=0.95),
    ),
    "factors": Table("factors: 5 classes, 1,000 rows", _factors()),
    "factors_imbalanced": Table(
        "factors: 6 classes of 40 % to 4 %, 3,000 rows",
        _factors(n_samples=3000, n_classes=6, weights=[40, 25, 15, 10, 6, 4], activity=0.95),
    ),
    "factors_many": Table(
        "factors: 20 classes, 6,000 rows",
        _factors(
            n_samples=6000,
            n_features=128,
            n_classes=20,
            n_shared=6,
            classes_per_shared=3,
            activity=0.95,
        ),
    ),
    "classification": Table(
        "make_classification: 4 classes, 2,000 rows",
        _generated(
            make_classification,
            n_samples=2000,
            n_features=20,
            n_informative=10,
            n_classes=4,
            class_sep=1.5,
        ),
    ),
    "blobs": Table(
        "make_blobs: 8 classes, 1,500 rows",
        _generated(make_blobs, n_samples=1500, n_features=15, centers=8, cluster_std=4.0),
    ),
    "letters": Table(
        "make_classification: 26 classes, 10,000 rows",
        _generated(
            make_classification,
            n_samples=10_000,
            n_features=24,
            n_informative=16,
            n_classes=26,
            n_clusters_per_class=1,
            class_sep=2.0,
        ),
    ),
}


def available(download: bool) -> list[str]:
    """Return the names of the tables at hand; Olivetti is never fetched unless asked for."""
    try:
        fetch_olivetti_faces(download_if_missing=download)
    except OSError:
        return [name for name in TABLES if name != "olivetti"]
    return list(TABLES)


# -- one run -----------------------------------------------------------------------------------


def make_estimator(objective: str, seed: int, epochs: int | None) -> ClassVSCTransformer:
    """Return the default constructor's estimator, or the paper's objective instead."""
    parameters: dict[str, Any] = {} if objective == "default" else {"objective": objective}
    if epochs is not None:
        parameters["max_epochs"] = epochs
    return ClassVSCTransformer(**parameters, random_state=seed)


def run(task: Row) -> Row:
    """Fit one table with one seed, and score it on held-out rows."""
    table, seed = TABLES[task["table"]], task["seed"]
    data = table.make(seed)
    X, y = np.asarray(data.data), np.asarray(data.target)
    split = Split(*train_test_split(X, y, test_size=table.test_size, stratify=y, random_state=seed))
    estimator = make_estimator(task["objective"], seed, task["epochs"])
    with common.Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(split.X_train, split.y_train)
    if len(X) < N_SMALL:
        accuracies = cross_validated_accuracies(estimator, X, y, seed)
    else:
        accuracies = held_out_accuracies(estimator, split)
    return {
        "n_samples": len(X),
        "n_features": X.shape[1],
        **score(estimator, split),
        **dict(zip(("accuracy", "raw_accuracy"), accuracies, strict=True)),
        "accuracy_gain": accuracies[0] - accuracies[1],
        **recovery(estimator, data, split, seed, table.test_size),
        "seconds": watch.seconds,
        "warnings": common.warning_texts(caught),
        "collapse_warnings": sum(issubclass(w.category, CollapseWarning) for w in caught),
        "stop_reason": estimator.stop_reason_,
        "epochs_run": int(estimator.n_iter_),
        "environment": common.environment(),
    }


def score(estimator: ClassVSCTransformer, split: Split) -> Row:
    """Score the codes of the held-out rows; explained variance is of standardised features."""
    Z = estimator.transform(split.X_test)
    X_hat = estimator.inverse_transform(Z)
    finite = all(np.isfinite(a).all() for a in (Z, X_hat, *estimator.history_["train_loss"]))
    sd = split.X_train.std(axis=0)
    scores = common.score_codes(Z, split.y_test)
    return {
        "explained_variance": common.explained_variance(
            split.X_test, X_hat, np.where(sd > 0, sd, 1)
        ),
        **scores,
        "classes_without_own": scores["n_classes"] - scores["own"],
        "not_finite": int(not finite),
    }


def held_out_accuracies(estimator: ClassVSCTransformer, split: Split) -> NDArray[np.float64]:
    """Return the accuracies of a logistic regression on the codes and on the raw features."""
    Z_train, Z_test = (estimator.transform(X) for X in (split.X_train, split.X_test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.array(
            [
                common.linear_accuracy(train, split.y_train, test, split.y_test)
                for train, test in [(Z_train, Z_test), (split.X_train, split.X_test)]
            ]
        )


def cross_validated_accuracies(
    estimator: ClassVSCTransformer, X: NDArray[Any], y: NDArray[Any], seed: int
) -> NDArray[np.float64]:
    """Return the same accuracies, the mean over five folds, the encoder fitted anew in each."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
    accuracies = []
    for train, test in folds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)  # the fit that is scored reports it
            fitted = clone(estimator).fit(X[train], y[train])
        accuracies.append(held_out_accuracies(fitted, Split(X[train], X[test], y[train], y[test])))
    return np.mean(accuracies, axis=0)


def recovery(
    estimator: ClassVSCTransformer, data: Bunch, split: Split, seed: int, test_size: float
) -> Row:
    """Compare the codes with the true factors, where there are any.

    `role_recovery` compares supports; `factor_correlation` is the mean |correlation| of the
    factors' true codes with those of the dimensions paired with them, one to one.
    """
    if "supports" not in data:
        return {}
    true = train_test_split(
        data.codes, test_size=test_size, stratify=data.target, random_state=seed
    )[1]
    Z = estimator.transform(split.X_test)
    similarity = absolute_correlation(true, Z)
    pairs = linear_sum_assignment(similarity, maximize=True)
    return {
        "role_recovery": role_recovery_score(data.supports, Z, split.y_test),
        "factor_correlation": float(similarity[pairs].sum() / len(similarity)),
        "n_factors": len(similarity),
    }


def absolute_correlation(A: NDArray[Any], B: NDArray[Any]) -> NDArray[np.float64]:
    """Return |Pearson correlation| of the columns of A with those of B; 0 for a constant one."""
    A, B = (M - M.mean(axis=0, dtype=np.float64) for M in (A, B))
    norms = np.linalg.norm(A, axis=0)[:, None] * np.linalg.norm(B, axis=0)
    correlation: NDArray[np.float64] = abs(A.T @ B) / np.where(norms > 0, norms, 1)
    return correlation


# -- the page ----------------------------------------------------------------------------------

COLUMNS = [
    Column("EV", "explained_variance"),
    Column("C", "consistency"),
    Column("contrast", "contrast"),
    Column("dead", "dead", 1),
    Column("own", "own", 1),
    Column("of classes", "n_classes", 0),
    Column("global", "global", 1),
    Column("shared", "shared", 1),
    Column("class-specific", "specific", 1),
    Column("sporadic", "sporadic", 1),
    Column("active", "active", 1),
    Column("accuracy", "accuracy"),
    Column("raw features", "raw_accuracy"),
    Column("roles recovered", "role_recovery", 2),
    Column("factor correlation", "factor_correlation", 2),
    Column("collapse warnings", "collapse_warnings", 1),
    Column("fit, s", "seconds", 1),
]

LEGEND = """\
Held-out rows (30 %, stratified; half of Olivetti); mean ± standard deviation over seeds. Nothing
is set but `random_state`. EV: explained variance of the standardised features decoded from
`transform`. C: class consistency. contrast: consistency minus the mean sharing between classes,
over the dimensions that are not global. dead, global, shared, class-specific, sporadic: number of
dimensions in that role. own: classes with a dimension of their own, or shared by at most three, of
those with five held-out rows. active: mean number of non-zeros of a code. accuracy: logistic
regression on the standardised codes, and on the standardised raw features; for sets under 200 rows
the mean over five folds, the encoder fitted anew in each. roles recovered: fraction of the true
factors whose partner has the factor's role and classes. factor correlation: mean |correlation| of
the factors' true codes with those of their partners. The seed draws the split, the fit and the
generated tables, from seed 200 on; constants of the default were chosen on digits, iris, and
generated tables of seeds 100 and 101."""


class Target(NamedTuple):
    """A figure to reach, on every table."""

    heading: str
    field: str
    sign: str
    bound: float
    every_seed: bool = False  # judged by the worst seed, otherwise by the mean

    def verdict(self, rows: Sequence[Row]) -> str:
        """Return "yes", "**no** (figure)", or "-" where the figure does not apply."""
        values = common.figures(rows, self.field)
        if not values.size:
            return "-"
        worst = values.min() if self.sign == ">=" else values.max()
        judged = worst if self.every_seed else values.mean()
        met = judged >= self.bound if self.sign == ">=" else judged <= self.bound
        return "yes" if met else f"**no** ({judged:.3g})"


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


def write_page(path: Path, store: ResultStore, arguments: argparse.Namespace) -> None:
    """Write the tables."""
    sections = {o: rows_of(store, o, arguments) for o in ("default", "paper")}
    everything = [row for groups in sections.values() for rows in groups.values() for row in rows]
    if not everything:
        return
    lines = [
        "# Benchmark: the defaults",
        "Written by `python benchmarks/bench_defaults.py"
        + (" --quick`: a smoke test of 100 epochs, not a result." if arguments.quick else "`."),
        LEGEND,
    ]
    headings = {"default": "The default constructor", "paper": 'With `objective="paper"`'}
    for objective, groups in sections.items():
        if groups:
            lines += [f"## {headings[objective]}", *objective_section(groups)]
    if "olivetti" not in arguments.tables:
        lines.append("Olivetti faces are left out where they are not at hand (`--download`).")
    lines += ["## Where it ran", common.environment_text(everything)]
    common.write(path, "\n\n".join(lines))


def rows_of(
    store: ResultStore, objective: str, arguments: argparse.Namespace
) -> dict[str, list[Row]]:
    """Return the finished rows of each table."""
    groups: dict[str, list[Row]] = {name: [] for name in TABLES}
    for row in store.rows.values():
        if (row["objective"], row["epochs"]) == (objective, arguments.epochs):
            groups[row["table"]].append(row)
    return {TABLES[name].label: rows for name, rows in groups.items() if rows}


def objective_section(groups: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the paragraphs on one objective."""
    seeds = sorted({row["seed"] for rows in groups.values() for row in rows})
    verdicts = [[label, *(t.verdict(rows) for t in TARGETS)] for label, rows in groups.items()]
    stops = [
        [
            label,
            str(rows[0]["n_samples"]),
            str(rows[0]["n_features"]),
            common.mean_sd(rows, "epochs_run", 0),
            ", ".join(sorted({row["stop_reason"] for row in rows})),
        ]
        for label, rows in groups.items()
    ]
    paragraphs = [
        f"Seeds {', '.join(map(str, seeds))}.",
        common.summary_table(groups, COLUMNS, "table"),
        "Whether it meets what it must show; counts and seconds by the worst seed, the others by "
        "the mean:",
        common.markdown_table(["table", *(t.heading for t in TARGETS)], verdicts),
        "How long it trained, and what ended it:",
        common.markdown_table(["table", "rows", "features", "epochs", "ended by"], stops),
    ]
    said = [
        f"- {label}, seed {row['seed']}: {text}"
        for label, rows in groups.items()
        for row in rows
        for text in row["warnings"]
    ]
    return [*paragraphs, *(["Warnings during `fit`:", "\n".join(said)] if said else [])]


# -- command line ------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--quick` fills in what is not given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one seed, few tables and epochs: under 3 minutes")
    add("--tables", nargs="+", choices=list(TABLES), help="default: all at hand")
    add("--seeds", nargs="+", type=int, help="default: 0 1 2 3 4")
    add("--objectives", nargs="+", choices=["default", "paper"], default=["default"])
    add("--jobs", type=int, default=1, help="runs at a time, one thread each")
    add("--fresh", action="store_true", help="run again what is finished")
    add("--download", action="store_true", help="fetch Olivetti faces if they are not at hand")
    add("--output-dir", type=Path, help="of the page; default: docs")
    add("--results", type=Path, help="file of JSON lines with the finished runs")
    arguments = parser.parse_args()
    quick = arguments.quick
    results = common.RESULTS / ("quick" if quick else "")
    defaults: dict[str, Any] = {
        "seeds": [0] if quick else [0, 1, 2, 3, 4],
        "tables": ["wine", "iris", "factors_small"] if quick else available(arguments.download),
        "output_dir": results if quick else common.DOCS,
        "results": results / "bench_defaults.jsonl",
    }
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.epochs = 100 if quick else None
    return arguments


def main() -> int:
    """Run what is missing, then write the page."""
    arguments = parse_arguments()
    store = ResultStore(arguments.results, ["table", "objective", "seed", "epochs"])
    tasks = [
        {"table": table, "objective": objective, "seed": seed, "epochs": arguments.epochs}
        for seed in arguments.seeds
        for objective in arguments.objectives
        for table in arguments.tables
    ]
    ok = common.run_tasks(tasks, run, store, arguments.jobs, arguments.fresh)
    write_page(arguments.output_dir / "benchmark_defaults.md", store, arguments)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
