"""Measure how well codes fill in missing values, and how well codes of such rows tell classes.

Hides a tenth, three tenths or half of the values of six tables completely at random, in training
rows and in held-out rows. Compares what the transformers decode with scikit-learn's imputers, and a
logistic regression on their codes with one on what was imputed. Finished runs are kept.

    python benchmarks/bench_missing.py --quick
    python benchmarks/bench_missing.py --jobs 2
"""

from __future__ import annotations

from typing import Any

import _common as common
import numpy as np
import pandas as pd
from _common import Column, Row, linear_accuracy
from _sets import TABLES, Table, shipped
from numpy.typing import NDArray
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (for the next line)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

FRACTIONS = [0.1, 0.3, 0.5]
IMPUTERS = {
    "mean": SimpleImputer,
    "KNNImputer": KNNImputer,
    "IterativeImputer": lambda: IterativeImputer(random_state=0),
}
TRANSFORMERS = {"VAE": VAETransformer, "VSC": VSCTransformer, "ClassVSC": ClassVSCTransformer}
WAYS = (*IMPUTERS, *TRANSFORMERS)


def penguins(package: str) -> Bunch:
    """Return four measurements of 342 penguins, and their species."""
    frame = pd.read_csv(shipped(package, "data/penguins.csv"))
    X = frame[["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]].dropna()
    return Bunch(data=X.to_numpy(float), target=pd.factorize(frame.loc[X.index, "species"])[0])


HELD = {name: TABLES[name] for name in ("breast_cancer", "wine", "diabetes", "digits")}
HELD["noisy_three"] = TABLES["noisy_three"]
HELD["penguins"] = Table("penguins (palmerpenguins)", penguins, {"package": "palmerpenguins"})


def with_holes(X: NDArray[Any], fraction: float, rng: np.random.Generator) -> NDArray[Any]:
    """Return a copy of X with a fraction of the values hidden."""
    return np.where(rng.random(X.shape) < fraction, np.nan, X)


def run(task: Row) -> Row:
    """Hide values of one table with one seed; fill them in, and tell the classes, in each way."""
    data, seed, fraction = HELD[task["table"]].load(task["seed"]), task["seed"], task["fraction"]
    whole, y = np.asarray(data.data, float), np.asarray(data.target)
    X, X_test, y, y_test = train_test_split(whole, y, test_size=0.3, stratify=y, random_state=seed)
    rng = np.random.default_rng(seed)
    given, given_test = (with_holes(part, fraction, rng) for part in (X, X_test))
    scaler, missing = StandardScaler().fit(given), np.isnan(given_test)

    def error(filled: NDArray[Any]) -> float:
        """Return the root mean square of errors in standard deviations."""
        return float(np.sqrt(np.mean(((filled - X_test) / scaler.scale_)[missing] ** 2)))

    row: Row = {"warnings": [], "whole_accuracy": linear_accuracy(X, y, X_test, y_test)}
    for name, make in IMPUTERS.items():
        imputer = make().fit(scaler.transform(given))
        filled, filled_test = (imputer.transform(scaler.transform(A)) for A in (given, given_test))
        row[f"{name}_error"] = error(scaler.inverse_transform(filled_test))
        row[f"{name}_accuracy"] = linear_accuracy(filled, y, filled_test, y_test)
    parameters = {} if task["epochs"] is None else {"max_epochs": task["epochs"]}
    for name, cls in TRANSFORMERS.items():
        estimator = cls(random_state=seed, **parameters)
        Z, fitted = common.measured(lambda est=estimator: est.fit_transform(given, y))
        Z_test = estimator.transform(given_test)
        row[f"{name}_error"] = error(estimator.inverse_transform(Z_test))
        row[f"{name}_accuracy"] = linear_accuracy(Z, y, Z_test, y_test)
        row[f"{name}_seconds"] = fitted["processor"]
        row["environment"] = fitted["environment"]
    return row | {f"{way}_relative": row[f"{way}_error"] / row["mean_error"] for way in WAYS}


FILLS = [Column(way, f"{way}_relative") for way in WAYS if way != "mean"]
TELLS = [
    Column("nothing hidden", "whole_accuracy"),
    *(Column(way, f"{way}_accuracy") for way in WAYS),
]


def main() -> int:
    """Run what is missing, then write the page."""
    arguments = common.command_line(__doc__, "jobs", seeds=([0], [0, 1, 2]), epochs=(20, None))
    tables = ["wine", "diabetes"] if arguments.quick else [k for k in HELD if not HELD[k].needs]
    tasks = [
        {"table": table, "fraction": fraction, "seed": seed, "epochs": arguments.epochs}
        for table in tables
        for fraction in FRACTIONS
        for seed in arguments.seeds
    ]
    key = ["table", "fraction", "seed", "epochs"]
    rows, ok = common.run_tasks(arguments, "bench_missing", key, tasks, run)
    rows, parts = common.of(rows, epochs=arguments.epochs), []
    for fraction in FRACTIONS:
        found = {t.label: common.of(rows, table=k, fraction=fraction) for k, t in HELD.items()}
        found = {label: some for label, some in found.items() if some}
        if found:
            parts += [f"## {fraction:.0%} hidden", "Error, relative to that of the mean:"]
            parts += common.summary(found, FILLS, "table")
            parts += ["Accuracy:", common.summary(found, TELLS, "table")[1]]
    common.write_page(arguments, "missing", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
