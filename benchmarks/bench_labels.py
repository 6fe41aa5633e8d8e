"""Measure what few labels, several labels of a sample, groups of classes and numbers bring.

Compares each with a simpler way and with a control. Finished runs are kept.

    python benchmarks/bench_labels.py --quick
    python benchmarks/bench_labels.py --data-dir DIR --jobs 2
    python benchmarks/bench_labels.py --data-dir DIR --only groups
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import _common as common
import numpy as np
import pandas as pd
from _common import Column, Row, columns
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer, metrics
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.labels import with_parents

NO_LABEL = -1
N_CODES = 15_000  # training codes for a logistic regression
FRACTIONS = ("0.1 %", "1 %", "10 %", "100 %")
FASHION: Row = {"n_components": 50, "hidden_layer_sizes": (400,), "batch_size": 256}
FOOTWEAR, UPPER_BODY = {5, 7, 9}, {0, 2, 4, 6}
GROUPS = dict.fromkeys(FOOTWEAR, "footwear") | dict.fromkeys(UPPER_BODY, "upper body")


def model(system: str, parameters: Row, **of_labels: Any) -> Any:
    """Return VSC, which takes no labels, or ClassVSC."""
    if system == "vsc":
        return VSCTransformer(**parameters)
    return ClassVSCTransformer(**parameters, **of_labels)


# -- few labels --------------------------------------------------------------------------------


def few_labels(task: Row) -> Row:
    """Fit to all images, few of them labeled, or to these alone."""
    split = common.load_images("Fashion-MNIST", *task["load"])
    seed, system, setting, X = task["seed"], task["system"], task["setting"], split.X_train
    kept = {f: keep_labels(split.y_train, f, np.random.default_rng(seed)) for f in FRACTIONS}
    parameters = FASHION | {"max_epochs": task["epochs"], "random_state": seed}
    estimator, y = model(system, parameters, unlabeled=NO_LABEL), kept.get(setting)
    if system == "alone":  # as many steps
        n_batches = [-(-n // 256) for n in (len(X), (y != NO_LABEL).sum())]
        X, y = X[y != NO_LABEL], y[y != NO_LABEL]
        estimator.set_params(max_epochs=task["epochs"] * n_batches[0] // n_batches[1])
    elif system == "shuffled":
        y[y != NO_LABEL] = np.random.default_rng(seed).permutation(y[y != NO_LABEL])
    row = common.fit(estimator, X, y)
    Z, Z_train = estimator.transform(split.X_test), estimator.transform(split.X_train)
    for fraction in [setting] if setting in kept else FRACTIONS:
        rows = np.flatnonzero(kept[fraction] != NO_LABEL)[:N_CODES]
        name = "accuracy" if setting in kept else f"accuracy {fraction}"
        row[name] = common.linear_accuracy(Z_train[rows], split.y_train[rows], Z, split.y_test)
    EV = common.explained_variance(estimator, split.X_test)
    return row | common.score_codes(Z, split.y_test) | {"explained_variance": EV}


def keep_labels(y: NDArray[Any], fraction: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the labels of a fraction of the samples, at least one of each class."""
    order = rng.permutation(len(y))
    first = order[np.unique(y[order], return_index=True)[1]]
    rest = order[~np.isin(order, first)]
    kept = np.r_[first, rest][: max(len(first), round(float(fraction[:-2]) / 100 * len(y)))]
    few = np.full(len(y), NO_LABEL)
    few[kept] = y[kept]
    return few


# -- several labels ----------------------------------------------------------------------------

#: Sets of `make_class_factors`, each with two global factors and one of each label.
SEVERAL = {
    "5 labels, 2 of a sample": {"n_classes": 5, "n_labels": 2, "n_shared": 0},
    "5 labels, 1.5, 3 shared factors": {"n_classes": 5, "n_labels": 1.5, "n_shared": 3},
    "8 labels, 2.5, 3 shared factors": {"n_classes": 8, "n_labels": 2.5, "n_shared": 3},
}


def several_labels(task: Row) -> Row:
    """Fit to samples of several labels whose factors are known."""
    seed, system = task["seed"], task["system"]
    factors = make_class_factors(3000, **SEVERAL[task["setting"]], random_state=seed)
    halves = (factors[name] for name in ("data", "target", "codes"))
    X, X_test, Y, Y_test, _, codes = train_test_split(*halves, test_size=1000, random_state=seed)
    parameters = {"n_components": 16, "hidden_layer_sizes": (128,), "random_state": seed}
    y = Y
    if system == "sets":
        y = Y @ 2 ** np.arange(Y.shape[1])
    elif system == "shuffled":
        y = np.random.default_rng(seed).permutation(Y)
    estimator = model(system, parameters | {"max_epochs": 10 * task["epochs"]})
    row = common.fit(estimator, X, y)
    Z = estimator.transform(X_test)
    similarity = common.absolute_correlation(codes != 0, Z != 0)
    agreement = similarity[linear_sum_assignment(similarity, maximize=True)]  # of each factor
    shared, of_labels = np.split(agreement[2:], [-Y.shape[1]])
    return row | {
        "explained_variance": common.explained_variance(estimator, X_test),
        "active": float((Z != 0).sum(1).mean()),
        "followed": float(of_labels.mean()),
        "found": float((of_labels > 0.9).mean()),
        "found_shared": float((shared > 0.9).mean()) if shared.size else None,
        "consistency": metrics.class_consistency_score(Z, Y_test),
        "contrast": metrics.class_contrast_score(Z, Y_test),
    }


# -- classes and their groups ------------------------------------------------------------------


def groups(task: Row) -> Row:
    """Fit to classes, or to classes and groups of them, the true ones or random ones."""
    split = common.load_images("Fashion-MNIST", *task["load"])
    seed, system = task["seed"], task["system"]
    y: Any = split.y_train
    if system == "groups":
        y = with_parents(y, GROUPS)
    elif system == "random":
        other = np.random.default_rng(seed).permutation(10).tolist()
        y = with_parents(y, {other[c]: group for c, group in GROUPS.items()})
    estimator = model(system, FASHION | {"max_epochs": task["epochs"], "random_state": seed})
    row = common.fit(estimator, split.X_train, y)
    Z, Z_train = estimator.transform(split.X_test), estimator.transform(split.X_train[:N_CODES])
    y_groups = np.array([GROUPS.get(c, str(c)) for c in split.y_test.tolist()])
    having = [set(held) for held in metrics.dimension_roles(Z, split.y_test)["classes"]]
    categories = [FOOTWEAR, UPPER_BODY]
    sharing = metrics.category_sharing_test(Z, split.y_test, categories, n_permutations=1)
    codes = Z_train, split.y_train[:N_CODES], Z, split.y_test
    return row | {
        **common.score_codes(Z, split.y_test),
        "explained_variance": common.explained_variance(estimator, split.X_test),
        "group_consistency": metrics.class_consistency_score(Z, y_groups),
        "group_contrast": metrics.class_contrast_score(Z, y_groups),
        "footwear": having.count(FOOTWEAR),
        "upper_body": having.count(UPPER_BODY),
        "sharing": float(sharing.statistic),
        "accuracy": common.linear_accuracy(*codes),
    }


# -- numbers -----------------------------------------------------------------------------------


def make_windows(seed: int, n_samples: int = 3000) -> tuple[NDArray[Any], NDArray[Any]]:
    """Generate samples of factors, each active in a window of a number y in [0, 1]."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(size=n_samples)
    open_ = abs(y[:, None] - np.linspace(0, 1, 9)) < 0.2
    codes = open_ * rng.gamma(4, 1 / 4, size=(n_samples, 9))
    return codes @ rng.normal(size=(9, 32)) + rng.normal(scale=0.1, size=(n_samples, 32)), y


NUMBERS: dict[str, Callable[[int], Any]] = {
    "diabetes": lambda _: load_diabetes(return_X_y=True),
    "Friedman's first": lambda seed: make_friedman1(3000, noise=1.0, random_state=seed),
    "windows of a number": make_windows,
}


def numbers(task: Row) -> Row:
    """Fit to a number cut into five bins of as many samples, by `pandas.qcut`."""
    seed, system = task["seed"], task["system"]
    data = NUMBERS[task["setting"]](seed)
    X, X_test, y, y_test = train_test_split(*data, test_size=0.3, random_state=seed)
    bins, edges = pd.qcut(y, 5, labels=False, retbins=True)
    labels = np.searchsorted(edges[1:-1], y_test)  # of numbers beyond the edges too
    if system == "shuffled":
        bins = np.random.default_rng(seed).permutation(bins)
    estimator = model(system, {"n_components": 16, "random_state": seed})
    if task["quick"]:
        estimator.set_params(max_epochs=task["epochs"])
    row = common.fit(estimator, X, bins)
    Z = estimator.transform(X_test)
    return row | {
        "explained_variance": common.explained_variance(estimator, X_test, X.std(axis=0)),
        "active": float((Z != 0).sum(1).mean()),
        "consistency": metrics.class_consistency_score(Z, labels),
        "contrast": metrics.class_contrast_score(Z, labels),
        "ordinal": metrics.ordinal_sharing_score(Z, labels),
    }


# -- the page ----------------------------------------------------------------------------------


class Section(NamedTuple):
    """A question: how to answer it, the systems, what they are tried on, and what to show."""

    title: str
    run: Callable[[Row], Row]
    systems: dict[str, str]
    settings: Sequence[str]
    columns: Sequence[Column]
    n_train: int | None = None  # images of Fashion-MNIST


SECTIONS = {
    "few": Section(
        "Few labels",
        few_labels,
        {
            "labeled": "**all images, this part labeled**",
            "alone": "the labeled part alone, as many steps",
            "shuffled": "all images, labels of the part shuffled (control)",
            "vsc": "VSC, all images",
        },
        [*FRACTIONS, "no labels"],
        columns(
            "explained_variance active dead consistency contrast own accuracy",
            *(Column(f"accuracy, {f}", f"accuracy {f}") for f in FRACTIONS),
        ),
        20_000,
    ),
    "several": Section(
        "Several labels of a sample",
        several_labels,
        {
            "labels": "**labels together (noisy-or)**",
            "sets": "each set of labels a class",
            "shuffled": "labels together, rows of the indicator shuffled (control)",
            "vsc": "VSC",
        },
        list(SEVERAL),
        [
            *columns("explained_variance active"),
            Column("followed", "followed"),
            Column("found", "found", 2),
            Column("found, shared", "found_shared", 2),
            *columns("contrast"),
        ],
    ),
    "groups": Section(
        "Groups of classes",
        groups,
        {
            "groups": "**classes and their groups**",
            "classes": "classes",
            "random": "classes and random groups of them (control)",
            "vsc": "VSC",
        },
        ["footwear and upper body"],
        [
            *columns("explained_variance active consistency contrast"),
            Column("C of groups", "group_consistency"),
            Column("contrast of groups", "group_contrast"),
            Column("footwear", "footwear", 1),
            Column("upper body", "upper_body", 1),
            Column("sharing", "sharing"),
            *columns("accuracy"),
        ],
        10_000,
    ),
    "numbers": Section(
        "Numbers in five bins",
        numbers,
        {"bins": "**bins**", "shuffled": "bins of a shuffled y (control)", "vsc": "VSC"},
        list(NUMBERS),
        columns("explained_variance active consistency contrast", Column("ordinal", "ordinal")),
    ),
}


def systems_of(section: str, setting: str) -> list[str]:
    """Return the systems that are tried on a setting."""
    if section != "few":
        return list(SECTIONS[section].systems)
    labeled = {"0.1 %": ["alone"], "1 %": ["alone", "shuffled"], "10 %": ["alone"]}
    return ["vsc"] if setting == "no labels" else ["labeled", *labeled.get(setting, [])]


def run(task: Row) -> Row:
    """Run one task of any section."""
    return SECTIONS[task["section"]].run(task)


def main() -> int:
    """Run what is missing, then write the page."""
    defaults = {"seeds": ([0], [0, 1, 2]), "epochs": (3, 10)}
    arguments = common.command_line(__doc__, "jobs", "data_dir", **defaults)
    n_train, n_test = (2000, 2000) if arguments.quick else (20_000, None)
    tasks = [
        {"section": name, "setting": setting, "system": system, "seed": seed}
        | {"epochs": arguments.epochs, "quick": arguments.quick}
        | {"load": (arguments.data_dir, min(section.n_train or 0, n_train), n_test)}
        for seed in arguments.seeds  # the first of everything before the second of anything
        for name, section in SECTIONS.items()
        for setting in section.settings
        for system in systems_of(name, setting)
    ]
    key = ["section", "setting", "system", "seed", "epochs"]
    rows, ok = common.run_tasks(arguments, "bench_labels", key, tasks, run)
    rows, parts = common.of(rows, epochs=arguments.epochs), []
    for name, section in SECTIONS.items():
        of_section = common.of(rows, section=name)
        parts += [f"## {section.title}"] if of_section else []
        for setting in section.settings:
            found = {
                label: common.of(of_section, setting=setting, system=system)
                for system, label in section.systems.items()
            }
            if any(found.values()):
                found = {label: several for label, several in found.items() if several}
                parts += [f"**{setting}**", *common.summary(found, section.columns)]
    common.write_page(arguments, "labels", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
