"""What the kinds of labels bring: few labels, several of a sample, groups of classes, numbers.

Four questions, each with its controls. Finished runs are kept, as by `bench_paper.py`.

    python benchmarks/bench_labels.py --quick
    python benchmarks/bench_labels.py --data-dir DIR --jobs 2
    python benchmarks/bench_labels.py --data-dir DIR --sections groups
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import _common as common
import numpy as np
import torch
from _common import Column, ResultStore, Row
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch
from torch import Tensor

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer, _data, _objective
from sklearn_classvsc._objective import ClassGates
from sklearn_classvsc._spike_slab import bernoulli_entropy
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.labels import with_parents
from sklearn_classvsc.metrics import (
    category_sharing_test,
    class_consistency_score,
    class_contrast_score,
    dimension_roles,
    ordinal_sharing_score,
)

NO_LABEL = -1
N_CODES = 15_000  # training codes for a logistic regression
FRACTIONS = ("0.1 %", "1 %", "10 %", "100 %")
FASHION: Row = {"n_components": 50, "hidden_layer_sizes": (400,), "batch_size": 256}
FOOTWEAR, UPPER_BODY = {5, 7, 9}, {0, 2, 4, 6}
GROUPS = dict.fromkeys(FOOTWEAR, "footwear") | dict.fromkeys(UPPER_BODY, "upper body")


# -- few labels --------------------------------------------------------------------------------


def few_labels(task: Row) -> Row:
    """Fit to all images, few of them labeled, or to these alone."""
    split = common.load_images("Fashion-MNIST", *task["load"])
    seed, system, X = task["seed"], task["system"], split.X_train
    kept = {f: keep_labels(split.y_train, f, np.random.default_rng(seed)) for f in FRACTIONS}
    parameters = FASHION | {"max_epochs": task["epochs"], "random_state": seed}
    estimator: Any = ClassVSCTransformer(**parameters, unlabeled=NO_LABEL)
    y = kept.get(task["setting"])
    if system == "vsc":
        estimator, y = VSCTransformer(**parameters), None
    elif system == "alone":  # as many steps
        n_batches = [-(-n // 256) for n in (len(X), (y != NO_LABEL).sum())]
        X, y = X[y != NO_LABEL], y[y != NO_LABEL]
        estimator.set_params(max_epochs=task["epochs"] * n_batches[0] // n_batches[1])
    elif system == "shuffled":
        y[y != NO_LABEL] = np.random.default_rng(seed).permutation(y[y != NO_LABEL])
    part = 0.0 if system == "as they come" else _data.LABELED
    with mock.patch.object(_data, "LABELED", part):
        measured = fit(estimator, X, y)
    Z, Z_train = estimator.transform(split.X_test), estimator.transform(split.X_train)
    for fraction in [task["setting"]] if task["setting"] in kept else FRACTIONS:
        rows = np.flatnonzero(kept[fraction] != NO_LABEL)[:N_CODES]
        measured["accuracy" if task["setting"] in kept else f"accuracy {fraction}"] = accuracy(
            Z_train[rows], split.y_train[rows], Z, split.y_test
        )
    EV = common.explained_variance(split.X_test, estimator.inverse_transform(Z))
    return measured | common.score_codes(Z, split.y_test) | {"explained_variance": EV}


def keep_labels(y: NDArray[Any], fraction: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the labels of a fraction of the samples, at least one of each class."""
    order = rng.permutation(len(y))
    first = order[np.unique(y[order], return_index=True)[1]]
    rest = order[~np.isin(order, first)]
    kept = np.r_[first, rest][: max(len(first), round(float(fraction[:-2]) / 100 * len(y)))]
    few = np.full(len(y), NO_LABEL)
    few[kept] = y[kept]
    return few


def accuracy(Z: Any, y: Any, Z_test: Any, y_test: Any) -> float:
    """Return the accuracy of a logistic regression on codes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return common.linear_accuracy(Z, y, Z_test, y_test)


def fit(estimator: Any, X: Any, y: Any) -> Row:
    """Fit; return how long it took, what it warned of, and where it ran."""
    with common.Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y)
    return {
        "seconds": watch.seconds,
        "warnings": common.warning_texts(caught),
        "environment": common.environment(),
    }


# -- several labels ----------------------------------------------------------------------------

#: Sets of `make_class_factors`, each with two global factors and one of each label.
SEVERAL = {
    "5 labels, 2 of a sample": {"n_classes": 5, "n_labels": 2, "n_shared": 0},
    "5 labels, 1.5, 3 shared factors": {"n_classes": 5, "n_labels": 1.5, "n_shared": 3},
    "8 labels, 2.5, 3 shared factors": {"n_classes": 8, "n_labels": 2.5, "n_shared": 3},
}


def label_means(soft: bool) -> Callable[..., ClassGates]:
    """Return another `label_gates`: each label's samples are a class, or a share of each is."""

    def gates(
        gamma: Tensor, members: Tensor, weight: Tensor, _: Tensor, balanced: bool, *__: Any
    ) -> ClassGates:
        member = members.to(gamma.dtype)
        shares = member / member.sum(1, keepdim=True).clamp_min(1)
        share = weight @ shares
        average = (shares if soft else member) * weight[:, None]
        average = average / average.sum(0).clamp_min(torch.finfo(gamma.dtype).tiny)
        if balanced:
            share = (share > 0) / (share > 0).sum()
            weight = average @ share
        pi, pi_c, h = weight @ gamma, average.T @ gamma, bernoulli_entropy(gamma)
        open_ = share @ bernoulli_entropy(pi_c)
        return ClassGates(weight, share, pi, bernoulli_entropy(pi), pi_c, open_, weight @ h)

    return gates


def several_labels(task: Row) -> Row:
    """Fit to samples of several labels whose factors are known."""
    seed, system = task["seed"], task["system"]
    factors = make_class_factors(3000, **SEVERAL[task["setting"]], random_state=seed)
    names = ["data", "target", "codes"]
    halves = train_test_split(*(factors[n] for n in names), test_size=1000, random_state=seed)
    X, X_test, Y, Y_test, _, codes = halves
    parameters = {"n_components": 16, "hidden_layer_sizes": (128,), "random_state": seed}
    parameters["max_epochs"] = 10 * task["epochs"]
    estimator: Any = ClassVSCTransformer(**parameters)
    y, form = Y, _objective.label_gates
    if system == "vsc":
        estimator = VSCTransformer(**parameters)
    elif system == "sets":
        y = Y @ 2 ** np.arange(Y.shape[1])
    elif system == "shuffled":
        y = np.random.default_rng(seed).permutation(Y)
    elif system in ("soft", "whole"):
        form = label_means(soft=system == "soft")
    with mock.patch.object(_objective, "label_gates", form):
        measured = fit(estimator, X, y)
    Z = estimator.transform(X_test)
    agreement, n_labels = follow(codes != 0, Z != 0)[2:], Y.shape[1]
    shared, of_labels = agreement[:-n_labels], agreement[-n_labels:]
    return measured | {
        "explained_variance": common.explained_variance(X_test, estimator.inverse_transform(Z)),
        "active": float((Z != 0).sum(1).mean()),
        "active_true": float((codes != 0).sum(1).mean()),
        "followed": float(of_labels.mean()),
        "found": float((of_labels > 0.9).mean()),
        "found_shared": float((shared > 0.9).mean()) if shared.size else None,
        "consistency": class_consistency_score(Z, Y_test),
        "contrast": class_contrast_score(Z, Y_test),
        "contrast_true": class_contrast_score(codes, Y_test),
    }


def follow(factors: NDArray[np.bool_], dimensions: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how far a dimension follows each factor: correlation of supports, one to one."""
    n = factors.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.nan_to_num(np.corrcoef(factors.T, dimensions.T)[:n, n:])
    rows, columns = linear_sum_assignment(r, maximize=True)
    found = np.zeros(n)
    found[rows] = r[rows, columns]
    return found


# -- classes and their groups ------------------------------------------------------------------


def groups(task: Row) -> Row:
    """Fit to classes, or to classes and groups of them, the true ones or random ones."""
    split = common.load_images("Fashion-MNIST", *task["load"])
    seed, system = task["seed"], task["system"]
    parameters = FASHION | {"max_epochs": task["epochs"], "random_state": seed}
    estimator: Any = ClassVSCTransformer(**parameters)
    y: Any = split.y_train
    if system == "vsc":
        estimator = VSCTransformer(**parameters)
    elif system == "groups":
        y = with_parents(y, GROUPS)
    elif system == "random":
        other = np.random.default_rng(seed).permutation(10).tolist()
        y = with_parents(y, {other[c]: group for c, group in GROUPS.items()})
    measured = fit(estimator, split.X_train, y)
    Z, Z_train = estimator.transform(split.X_test), estimator.transform(split.X_train[:N_CODES])
    y_groups = np.array([GROUPS.get(c, str(c)) for c in split.y_test.tolist()])
    having = [set(held) for held in dimension_roles(Z, split.y_test)["classes"]]
    categories = [FOOTWEAR, UPPER_BODY]
    return (
        measured
        | common.score_codes(Z, split.y_test)
        | {
            "explained_variance": common.explained_variance(
                split.X_test, estimator.inverse_transform(Z)
            ),
            "group_consistency": class_consistency_score(Z, y_groups),
            "group_contrast": class_contrast_score(Z, y_groups),
            "footwear": having.count(FOOTWEAR),
            "upper_body": having.count(UPPER_BODY),
            "sharing": category_sharing_test(
                Z, split.y_test, categories, n_permutations=1
            ).statistic,
            "accuracy": accuracy(Z_train, split.y_train[:N_CODES], Z, split.y_test),
        }
    )


# -- numbers -----------------------------------------------------------------------------------


def make_windows(n_samples: int = 3000, random_state: int = 0) -> Bunch:
    """Generate samples of factors, each active in a window of a number y in [0, 1]."""
    rng = np.random.default_rng(random_state)
    y = rng.uniform(size=n_samples)
    centres = np.linspace(0, 1, 9)
    codes = (abs(y[:, None] - centres) < 0.2) * rng.gamma(4, 1 / 4, size=(n_samples, 9))
    data = codes @ rng.normal(size=(9, 32)) + rng.normal(scale=0.1, size=(n_samples, 32))
    return Bunch(data=data, target=y)


NUMBERS: dict[str, Callable[[int], Bunch]] = {
    "diabetes": lambda _: load_diabetes(),
    "Friedman's first": lambda seed: Bunch(
        **dict(
            zip(("data", "target"), make_friedman1(3000, noise=1.0, random_state=seed), strict=True)
        )
    ),
    "windows of a number": lambda seed: make_windows(random_state=seed),
}


def numbers(task: Row) -> Row:
    """Fit to a number in five bins."""
    seed, system = task["seed"], task["system"]
    data = NUMBERS[task["setting"]](seed)
    X, X_test, y, y_test = train_test_split(
        data.data, data.target, test_size=0.3, random_state=seed
    )
    parameters = {"n_components": 16, "random_state": seed}
    binned = ClassVSCTransformer(**parameters, bins=5)
    if system == "shuffled":
        y = np.random.default_rng(seed).permutation(y)
    estimator: Any = VSCTransformer(**parameters) if system == "vsc" else binned
    if task["quick"]:
        estimator.set_params(max_epochs=task["epochs"])
    measured = fit(estimator, X, y)
    if system == "vsc":  # where to cut
        binned.set_params(max_epochs=1).fit(X, y)
    Z, labels = estimator.transform(X_test), binned.labels_of(y_test)
    scale = X.std(axis=0)
    return measured | {
        "explained_variance": common.explained_variance(
            X_test, estimator.inverse_transform(Z), np.where(scale > 0, scale, 1)
        ),
        "active": float((Z != 0).sum(1).mean()),
        "consistency": class_consistency_score(Z, labels),
        "contrast": class_contrast_score(Z, labels),
        "ordinal": ordinal_sharing_score(Z, labels),
    }


# -- the page ----------------------------------------------------------------------------------


class Section(NamedTuple):
    """A question: how to answer it, the systems, what they are tried on, and what to say."""

    title: str
    run: Callable[[Row], Row]
    systems: dict[str, str]
    settings: Sequence[str]
    columns: Sequence[Column]
    text: str
    n_train: int | None = None  # images of Fashion-MNIST


EV = Column("EV", "explained_variance")
ACTIVE = Column("active", "active", 1)
C, CONTRAST = Column("C", "consistency"), Column("contrast", "contrast")
FEW = {
    "0.1 %": ["labeled", "as they come", "alone"],
    "1 %": ["labeled", "as they come", "alone", "shuffled"],
    "10 %": ["labeled", "as they come", "alone"],
    "100 %": ["labeled"],
    "no labels": ["vsc"],
}
SECTIONS = {
    "few": Section(
        "Few labels",
        few_labels,
        {
            "labeled": "**all images, this part labeled**",
            "as they come": "the same, batches are given no more labeled images",
            "alone": "the labeled part alone, as many steps",
            "shuffled": "all images, labels of the part shuffled (control)",
            "vsc": "VSC, all images",
        },
        [*FRACTIONS, "no labels"],
        [EV, ACTIVE, Column("dead", "dead", 1), C, CONTRAST, Column("own", "own", 1)]
        + [Column("accuracy", "accuracy")]
        + [Column(f"accuracy, {f}", f"accuracy {f}") for f in FRACTIONS],
        """{n_train} training images of Fashion-MNIST, {epochs} epochs. accuracy: of a logistic
regression on the codes of the labeled images alone; VSC has no use for labels, and is scored with
those of each part. own: classes with a dimension of their own, or shared by at most three. Of
0.1 % each class has at least one label.""",
        20_000,
    ),
    "several": Section(
        "Several labels of a sample",
        several_labels,
        {
            "labels": "**labels together (noisy-or)**",
            "whole": "each label a class, a sample in several",
            "soft": "each label a class, a sample divided among several",
            "sets": "each set of labels a class",
            "shuffled": "labels together, rows of the indicator shuffled (control)",
            "vsc": "VSC",
        },
        list(SEVERAL),
        [
            EV,
            ACTIVE,
            Column("active factors", "active_true", 1),
            Column("followed", "followed"),
            Column("found", "found", 2),
            Column("found, shared", "found_shared", 2),
            CONTRAST,
            Column("contrast of the factors", "contrast_true"),
        ],
        """`make_class_factors(3000, n_global=2, n_specific=1, noise=0.1)`, 16 dimensions, a third
of the samples held out. Each factor of one label is paired with a dimension: followed, the mean
correlation of their being active; found, the part of these factors with a correlation above 0.9;
the same for factors that two labels share. A factor counts as active where any label of the sample
has it. contrast takes every label's samples for a class, so that labels that come together lower
it; beside it that of the true factors.""",
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
            EV,
            ACTIVE,
            C,
            CONTRAST,
            Column("C of groups", "group_consistency"),
            Column("contrast of groups", "group_contrast"),
            Column("footwear", "footwear", 1),
            Column("upper body", "upper_body", 1),
            Column("sharing", "sharing"),
            Column("accuracy", "accuracy"),
        ],
        """{n_train} training images of Fashion-MNIST, {epochs} epochs; footwear is sandal, sneaker
and ankle boot, upper body T-shirt, pullover, coat and shirt. C and contrast of groups: of these two
and the other classes. footwear, upper body: dimensions that all classes of the group have and no
other class. sharing: of classes within a group minus across, as by `category_sharing_test`.
Indicators are made by `labels.with_parents`.""",
        10_000,
    ),
    "numbers": Section(
        "Numbers in five bins",
        numbers,
        {"bins": "**bins**", "shuffled": "bins of a shuffled y (control)", "vsc": "VSC"},
        list(NUMBERS),
        [EV, ACTIVE, C, CONTRAST, Column("ordinal", "ordinal")],
        """16 dimensions and defaults, 30 % held out. ordinal: `ordinal_sharing_score`, 1 where bins
share the less the further apart they are. diabetes: 442 samples. Friedman's first: 3,000 samples of
ten independent features, five of them without effect on y. windows: 32 features that are sums of
nine factors, each active for a window of y.""",
    ),
}


def systems_of(section: str, setting: str) -> list[str]:
    """Return the systems that are tried on a setting."""
    if section == "few":
        return FEW[setting]
    return list(SECTIONS[section].systems)


def write_page(path: Path, store: ResultStore, arguments: argparse.Namespace) -> None:
    """Write what was measured at this number of epochs."""
    rows = [row for row in store.rows.values() if row["epochs"] == arguments.epochs]
    if not rows:
        return
    command = "python benchmarks/bench_labels.py" + (" --quick" if arguments.quick else "")
    lines = [
        "# Benchmark: kinds of labels",
        f"Written by `{command}`" + (": a smoke test, not a result." if arguments.quick else "."),
        LEGEND,
    ]
    for name, section in SECTIONS.items():
        of_section = [row for row in rows if row["section"] == name]
        if of_section:
            n_train = f"{n_images(section, arguments):,}" if section.n_train else ""
            text = section.text.format(epochs=arguments.epochs, n_train=n_train)
            lines += [f"## {section.title}", text, *tables(section, of_section)]
    common.write(path, "\n\n".join([*lines, "## Where it ran", common.environment_text(rows)]))


LEGEND = """\
Held-out data; mean ± standard deviation over seeds. EV: explained variance of the samples decoded
from `transform`. active: mean number of non-zeros of a code. C: class consistency. contrast: C
minus the mean sharing between classes, over the dimensions that are not global. All systems have
the network, the epochs and the default parameters in common; nothing was tuned on these figures but
what [the page on labels](labels.md) says. How to pass each kind is said there too."""


def tables(section: Section, rows: Sequence[Row]) -> list[str]:
    """Return the tables of a section."""
    paragraphs = []
    for setting in section.settings:
        groups = {
            label: [r for r in rows if (r["setting"], r["system"]) == (setting, system)]
            for system, label in section.systems.items()
        }
        groups = {label: found for label, found in groups.items() if found}
        everything = [row for found in groups.values() for row in found]
        columns = [c for c in section.columns if common.figures(everything, c.field).size]
        if groups:
            seeds = ", ".join(map(str, sorted({row["seed"] for row in everything})))
            paragraphs += [
                f"**{setting[0].upper()}{setting[1:]}**, seeds {seeds}.",
                common.summary_table(groups, columns, "system"),
            ]
    said = collapses(section, rows)
    return [*paragraphs, "Warnings during `fit`:", said] if said else paragraphs


def collapses(section: Section, rows: Sequence[Row]) -> str:
    """List how many fits of each system warned, and the first of what they said."""
    warned: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["warnings"]:
            warned.setdefault((row["setting"], row["system"]), []).append(row["warnings"][0])
    return "\n".join(
        f"- {setting}, {section.systems[system]}: {len(texts)} fits; the first said: {texts[0]}"
        for (setting, system), texts in warned.items()
    )


def n_images(section: Section, arguments: argparse.Namespace) -> int:
    """Return how many training images a section takes."""
    return min(section.n_train or 0, 2000) if arguments.quick else section.n_train or 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--quick` fills in what is not given."""
    epochs = "on images; ten times as many on generated labels; default: 10"
    parser = common.argument_parser(__doc__, "a few minutes", epochs)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    arguments = parser.parse_args()
    common.fill_in(arguments, "bench_labels", epochs=(3, 10))
    return arguments


def run(task: Row) -> Row:
    """Run one task of any section."""
    return SECTIONS[task["section"]].run(task)


def main() -> int:
    """Run what is missing, then write the page."""
    arguments = parse_arguments()
    tasks = []
    for seed in arguments.seeds:  # the first of everything before the second of anything
        for name in arguments.sections:
            section, n_test = SECTIONS[name], 2000 if arguments.quick else None
            load = arguments.data_dir, n_images(section, arguments), n_test
            if section.n_train and seed == arguments.seeds[0]:
                common.load_images("Fashion-MNIST", *load)  # fails early
            tasks += [
                {"section": name, "setting": setting, "system": system, "seed": seed}
                | {"epochs": arguments.epochs, "quick": arguments.quick, "load": load}
                for setting in section.settings
                for system in systems_of(name, setting)
            ]
    store = ResultStore(arguments.results, ["section", "setting", "system", "seed", "epochs"])
    ok = common.run_tasks(tasks, run, store, arguments.jobs, arguments.fresh)
    write_page(arguments.output_dir / "benchmark_labels.md", store, arguments)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
