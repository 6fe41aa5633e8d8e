"""What dense, disentangled, sparse and class-consistent codes find, side by side.

Fits every system with the same network, epochs and schedule to two image sets, and to a generated
one whose global, shared and class-specific factors are known; scores it on held-out data, and
writes a page and a picture. Finished runs are kept, as by `bench_paper.py`.

    python benchmarks/bench_systems.py --quick
    python benchmarks/bench_systems.py --data-dir DIR --jobs 2
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import matplotlib as mpl
import numpy as np
from _common import Column, ResultStore, Row, Split
from bench_defaults import absolute_correlation
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.metrics import k_sparse_probe_score, role_recovery_score

N_TEST = 10_000
N_NONZERO = 10  # of the codes of the dictionary
BATCH_SIZE = 256
N_PROBED = 5_000  # training codes for the probes
FACTORS = {"n_global": 4, "n_shared": 3, "n_specific": 2, "activity": 0.9}
N_CLASSES = 5
FACTOR_SEED = 300  # of the generated set: no constant of the package was tuned on it
GENERATED = "factors"
ROLES = ("global", "shared", "class-specific")


class Data(NamedTuple):
    """A data set: its heading, its name on OpenML, and what all systems have alike on it."""

    heading: str
    name: str
    n_components: int


DATASETS = {
    "mnist": Data("MNIST", "mnist_784", 50),
    "fashion-mnist": Data("Fashion-MNIST", "Fashion-MNIST", 50),
    GENERATED: Data("Known factors", "", 32),
}


# -- systems -----------------------------------------------------------------------------------


class System(NamedTuple):
    """A row of the tables: its label, and how to make it from common parameters."""

    label: str
    make: Callable[[Row], Any]


def _own(estimator: Callable[..., Any], **parameters: Any) -> Callable[[Row], Any]:
    return lambda common: estimator(**common, **parameters)


def _peer(estimator: Callable[..., Any], **parameters: Any) -> Callable[[Row], Any]:
    names = ("n_components", "random_state")
    return lambda common: estimator(**{name: common[name] for name in names}, **parameters)


SHUFFLED, NONNEGATIVE = "classvsc-shuffled", "nmf"
SYSTEMS = {
    "vae": System("VAE", _own(VAETransformer)),
    "beta-vae": System("beta-VAE, beta 4", _own(VAETransformer, kl_weight=4.0)),
    "beta-tcvae": System("beta-TCVAE, beta 4", _own(VAETransformer, total_correlation_weight=3.0)),
    "dip-vae": System("DIP-VAE-II, lambda 10", _own(VAETransformer, covariance_weight=10.0)),
    "vsc": System("VSC", _own(VSCTransformer)),
    "vsc-learned": System("VSC, learned prior", _own(VSCTransformer, prior="pseudo_inputs")),
    "paper": System("ClassVSC, paper, lambda 3", _own(ClassVSCTransformer, objective="paper")),
    "classvsc": System("**ClassVSC, default**", _own(ClassVSCTransformer)),
    SHUFFLED: System("ClassVSC, default, shuffled labels (control)", _own(ClassVSCTransformer)),
    "pca": System("PCA", _peer(PCA)),
    NONNEGATIVE: System("NMF", _peer(NMF, init="nndsvda")),
    "dictionary": System(
        f"Dictionary learning, {N_NONZERO} non-zeros",
        _peer(
            MiniBatchDictionaryLearning,
            fit_algorithm="cd",
            batch_size=BATCH_SIZE,
            transform_algorithm="omp",
            transform_n_nonzero_coefs=N_NONZERO,
        ),
    ),
}


# -- data --------------------------------------------------------------------------------------


class Truth(NamedTuple):
    """The factors that generated the held-out samples."""

    codes: NDArray[Any]  # (n_test, n_factors)
    supports: NDArray[np.bool_]  # (n_classes, n_factors)
    roles: NDArray[np.str_]  # (n_factors,)


def load(task: Row) -> tuple[Split, Truth | None]:
    """Return the data of a run, and their factors if they are known."""
    n_train, n_test = task["n_train"], task["n_test"]
    if task["dataset"] != GENERATED:
        name = DATASETS[task["dataset"]].name
        return common.load_images(name, task["data_dir"], n_train, n_test), None
    made = make_class_factors(
        n_train + n_test, n_classes=N_CLASSES, random_state=FACTOR_SEED + task["seed"], **FACTORS
    )
    X, y = made.data.astype(np.float32), made.target
    split = Split(X[:n_train], X[n_train:], y[:n_train], y[n_train:])
    return split, Truth(made.codes[n_train:], made.supports, made.roles)


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit one system to one data set with one seed, and score it on held-out data."""
    split, truth = load(task)
    rng = np.random.default_rng(task["seed"])
    shuffled = task["system"] == SHUFFLED
    y_train = rng.permutation(split.y_train) if shuffled else split.y_train
    parameters = {
        "n_components": DATASETS[task["dataset"]].n_components,
        "hidden_layer_sizes": (400,),
        "max_epochs": task["epochs"],
        "batch_size": BATCH_SIZE,
        "random_state": task["seed"],
    }
    estimator = SYSTEMS[task["system"]].make(parameters)
    with common.Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(split.X_train, y_train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        row = score(estimator, split)
    if truth is not None:
        row |= recovery(truth, estimator.transform(split.X_test), split.y_test)
    return row | {
        "seconds": watch.seconds,
        "warnings": common.warning_texts(caught),
        "environment": common.environment(),
    }


def score(estimator: Any, split: Split) -> Row:
    """Score a fitted system, with the true labels."""
    Z, y = estimator.transform(split.X_test), split.y_test
    Z_train, y_train = estimator.transform(split.X_train[:N_PROBED]), split.y_train[:N_PROBED]
    X_hat = estimator.inverse_transform(Z)
    return {
        "elbo": estimator.score(split.X_test) if isinstance(estimator, VAETransformer) else None,
        "explained_variance": common.explained_variance(split.X_test, X_hat),
        **common.score_codes(Z, y),
        "accuracy": common.linear_accuracy(Z_train, y_train, Z, y),
        "one_dimension": k_sparse_probe_score(Z_train, y_train, Z, y, k=1),
        "between_classes": float(between_classes(Z, y).mean()),
    }


def between_classes(Z: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the share of each dimension's variance that is between classes; 0 if constant."""
    classes, sizes = np.unique(y, return_counts=True)
    means = np.array([Z[y == c].mean(axis=0, dtype=np.float64) for c in classes])
    total = Z.var(axis=0, dtype=np.float64)
    between = sizes @ (means - Z.mean(axis=0, dtype=np.float64)) ** 2 / len(y)
    share: NDArray[np.float64] = between / np.where(total > 0, total, 1)
    return share


def recovery(truth: Truth, Z: NDArray[Any], y: NDArray[Any]) -> Row:
    """Compare codes with the true factors, paired one to one with the dimensions they resemble.

    `found`: |correlation| of each factor with its dimension over all samples. `graded`: the same
    over the samples of the classes that have the factor, where to know the class is no help.
    """
    similarity = absolute_correlation(truth.codes, Z)
    found, graded = np.zeros((2, len(similarity)))
    for f, j in zip(*linear_sum_assignment(similarity, maximize=True), strict=True):
        having = truth.supports[y, f]
        found[f] = similarity[f, j]
        graded[f] = absolute_correlation(truth.codes[having][:, [f]], Z[having][:, [j]]).item()
    row: Row = {"found": found.tolist(), "graded": graded.tolist(), "roles": truth.roles.tolist()}
    for role in ROLES:
        row[f"found_{role}"] = float(found[truth.roles == role].mean())
        row[f"graded_{role}"] = float(graded[truth.roles == role].mean())
    return row | {"role_recovery": role_recovery_score(truth.supports, Z, y)}


# -- the page ----------------------------------------------------------------------------------

COLUMNS = [
    Column("ELBO", "elbo", 1),
    Column("EV", "explained_variance"),
    Column("L0", "active", 1),
    Column("dead", "dead", 1),
    Column("C", "consistency"),
    Column("off-class", "off_class"),
    Column("contrast", "contrast"),
    Column("global", "global", 1),
    Column("shared", "shared", 1),
    Column("class-specific", "specific", 1),
    Column("sporadic", "sporadic", 1),
    Column("accuracy", "accuracy"),
    Column("one dimension", "one_dimension"),
    Column("between classes", "between_classes"),
]
FACTOR_COLUMNS = [
    *(Column(f"{role} factors", f"found_{role}", 2) for role in ROLES),
    Column("class-specific less global", "gap", 2),
    *(Column(f"{role}, within", f"graded_{role}", 2) for role in ROLES[1:]),
    Column("roles recovered", "role_recovery", 2),
]

LEGEND = """\
Held-out data; mean ± standard deviation over seeds. ELBO: evidence lower bound of the test samples
in nats, by each model's own prior, where there is one. EV: explained variance of what is decoded
from `transform`. L0: mean number of non-zeros of a code. dead, global, shared, class-specific,
sporadic: number of dimensions in that role. C: class consistency. off-class: mean sharing between
different classes. contrast: consistency minus that sharing, over the dimensions that are not
global. accuracy: logistic regression on all dimensions of {n_probed:,} training codes.

Those from L0 to sporadic count non-zeros. A dense code has none to lose: it is global in every
dimension whatever it has learned. Two figures treat dense and sparse codes alike, without a
threshold. one dimension: balanced accuracy, by logistic regression, of telling a class from the
rest by the one dimension whose mean differs most, averaged over classes; chance is 0.5. between
classes: the share of a dimension's variance that lies between classes (eta squared), averaged over
dimensions, a constant one counting 0. Both are expected to be higher where labels were seen.

All systems have the same number of dimensions. All networks have one hidden layer of 400, and
train on {n_train:,} samples for {epochs} epochs in batches of 256, {steps:,} steps, with one
schedule. Each system has the weights in its name, which were not tuned, and otherwise its defaults.
Those of ClassVSC were chosen on training images of both image sets, and on generated tables of
other seeds ([how](objective.md)): an advantage. Only ClassVSC sees labels, of the training data;
the control sees them shuffled, and is scored with the true ones."""

FACTOR_LEGEND = """\
`make_class_factors`: {n_classes} classes; {n_global} factors that all classes have, {n_shared} that
two have, {n_specific} of each class's own; each is active in {activity:.0%} of the samples of its
classes, with a graded value; 64 features, noise of standard deviation 0.1. Factors are paired with
dimensions one to one, so that the sum of the |correlations| of their values over all samples is
largest; global, shared, class-specific factors: the mean |correlation| of the pairs. A dimension
that knows the class and nothing else, 1 for it and 0 for the others, would have {of_class:.2f} with
a factor of that class. within: the mean of the same pairs over the samples of the factor's own
classes, where knowing the class is no help. roles recovered: fraction of the factors whose partner,
chosen by support, has their role and classes. NMF is left out: features are of either sign."""


def write_page(path: Path, store: ResultStore, arguments: argparse.Namespace) -> None:
    """Write what was measured in this setting."""
    groups = {dataset: rows_of(store, dataset, arguments) for dataset in DATASETS}
    everything = [row for systems in groups.values() for rows in systems.values() for row in rows]
    if not everything:
        return
    command = "python benchmarks/bench_systems.py"
    lines = [
        "# Benchmark: the systems side by side",
        f"Written by `{command} --quick`: a smoke test, not a result."
        if arguments.quick
        else f"Written by `{command} --n-train {arguments.n_train} --epochs {arguments.epochs}`.",
        LEGEND.format(
            n_probed=N_PROBED,
            epochs=arguments.epochs,
            n_train=arguments.n_train,
            steps=arguments.epochs * -(-arguments.n_train // BATCH_SIZE),
        ),
    ]
    for dataset, systems in groups.items():
        if systems:
            lines += [f"## {DATASETS[dataset].heading}", *section(dataset, systems)]
    if groups[GENERATED]:
        picture = draw_factors(groups[GENERATED], path.parent / "images" / "bench_systems.png")
        lines.append(f"![{CAPTION}](images/{picture.name})\n\n*{CAPTION}*")
    common.write(
        path, "\n\n".join([*lines, "## Where it ran", common.environment_text(everything)])
    )


def rows_of(
    store: ResultStore, dataset: str, arguments: argparse.Namespace
) -> dict[str, list[Row]]:
    """Return the finished rows of each system in this setting."""
    setting = (dataset, arguments.epochs, arguments.n_train)
    rows = [r for r in store.rows.values() if (r["dataset"], r["epochs"], r["n_train"]) == setting]
    groups = {name: [row for row in rows if row["system"] == name] for name in SYSTEMS}
    return {name: found for name, found in groups.items() if found}


def section(dataset: str, systems: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the paragraphs on one data set."""
    seeds = sorted({row["seed"] for rows in systems.values() for row in rows})
    few = "" if len({len(x) for x in systems.values()}) == 1 else " (not all systems have all)"
    labelled = {SYSTEMS[name].label: rows for name, rows in systems.items()}
    paragraphs = [
        f"Seeds {', '.join(map(str, seeds))}{few}; {DATASETS[dataset].n_components} dimensions.",
        common.summary_table(labelled, COLUMNS, "system"),
    ]
    if dataset == GENERATED:
        differing = {
            label: [row | {"gap": x} for row, x in zip(rows, gap(rows), strict=True)]
            for label, rows in labelled.items()
        }
        paragraphs += [
            FACTOR_LEGEND.format(n_classes=N_CLASSES, of_class=of_class(seeds), **FACTORS),
            common.summary_table(differing, FACTOR_COLUMNS, "system"),
            answer(systems),
        ]
    said = [
        f"- {SYSTEMS[name].label}, seed {row['seed']}: {text}"
        for name, rows in systems.items()
        for row in rows
        for text in row["warnings"]
    ]
    return [*paragraphs, "Warnings during `fit`:", "\n".join(said)] if said else paragraphs


def of_class(seeds: Sequence[int]) -> float:
    """Return the mean |correlation| of class-specific factors with their class."""
    found = []
    for seed in seeds:
        task = {"dataset": GENERATED, "seed": seed, "n_train": 1, "n_test": N_TEST}
        split, truth = load(task)
        assert truth is not None
        member = split.y_test[:, None] == np.arange(N_CLASSES)
        similarity = absolute_correlation(truth.codes, member.astype(float))
        found.append(similarity[truth.roles == "class-specific"].max(axis=1).mean())
    return float(np.mean(found))


def answer(systems: Mapping[str, Sequence[Row]]) -> str:
    """Say which kind of factors each system finds better, from the figures alone."""
    better: dict[str, list[str]] = {"global": [], "class-specific": [], "neither": []}
    for name, rows in systems.items():
        signs = set(np.sign(gap(rows)))
        kind = {frozenset({1}): "class-specific", frozenset({-1}): "global"}
        better[kind.get(frozenset(signs), "neither")].append(SYSTEMS[name].label)
    named = {kind: ", ".join(labels) or "none" for kind, labels in better.items()}
    return (
        "Do methods without labels find global factors only? Global factors are found better than "
        f"class-specific ones, in every seed, by: {named['global']}. Class-specific ones better, "
        f"in every seed, by: {named['class-specific']}. Neither in every seed: {named['neither']}."
    )


def gap(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Return by how much class-specific factors are found better than global ones."""
    return common.figures(rows, "found_class-specific") - common.figures(rows, "found_global")


# -- the picture -------------------------------------------------------------------------------

CAPTION = (
    "How well each true factor is found: |correlation| with the dimension paired with it. Within a "
    "role, from the factor found best to that found worst; mean over seeds."
)


def draw_factors(systems: Mapping[str, Sequence[Row]], path: Path) -> Path:
    """Draw systems against factors."""
    roles = next(iter(systems.values()))[0]["roles"]
    starts = [roles.index(role) for role in ROLES]

    def in_order(row: Row) -> NDArray[np.float64]:
        return np.concatenate([-np.sort(-part) for part in np.split(row["found"], starts[1:])])

    found = np.array([np.mean([in_order(row) for row in x], axis=0) for x in systems.values()])
    figure, ax = plt.subplots(figsize=(9, 0.36 * len(found) + 1.2), layout="constrained")
    image = ax.imshow(found, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    ax.set_yticks(range(len(found)), [SYSTEMS[name].label.strip("*") for name in systems])
    ends = [*starts[1:], len(roles)]
    for start in starts[1:]:
        ax.axvline(start - 0.5, color="white", linewidth=3)
    centres = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    ax.set_xticks(centres, ROLES)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.colorbar(image, label="|correlation|")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


# -- command line ------------------------------------------------------------------------------


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `--quick` fills in what is not given."""
    parser = common.argument_parser(__doc__, "two minutes", "default: 50")
    add = parser.add_argument
    add("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    add("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    add("--n-train", type=int, help="samples to train on; default: 10000")
    arguments = parser.parse_args(argv)
    common.fill_in(arguments, "bench_systems", epochs=(3, 50), n_train=(2000, 10_000))
    return arguments


def make_tasks(arguments: argparse.Namespace) -> list[Row]:
    """List the runs: the first seed of everything before the second of anything."""
    return [
        {
            "dataset": dataset,
            "system": system,
            "seed": seed,
            "epochs": arguments.epochs,
            "n_train": arguments.n_train,
            "n_test": 2000 if arguments.quick else N_TEST,
            "data_dir": arguments.data_dir,
        }
        for seed in arguments.seeds
        for dataset in arguments.datasets
        for system in arguments.systems
        if (dataset, system) != (GENERATED, NONNEGATIVE)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then write the page and the picture."""
    arguments = parse_arguments(argv)
    mpl.use("Agg")
    tasks = make_tasks(arguments)
    for task in {task["dataset"]: task for task in tasks}.values():  # fails early
        load(task)
    store = ResultStore(arguments.results, ["dataset", "system", "seed", "epochs", "n_train"])
    ok = common.run_tasks(tasks, run, store, arguments.jobs, arguments.fresh)
    write_page(arguments.output_dir / "benchmark_systems.md", store, arguments)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
