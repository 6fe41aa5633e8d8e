"""Compare class-consistent, sparse, dense and disentangled codes, and networks.

Fits every system of a page with the same network, epochs and schedule, and scores it on held-out
data. The pages:

- paper: on two image sets, is the default code consistent within a class, different between
  classes, faithful and useful, and what do its dimensions show?
- systems: the same of more systems, and which of the known factors of a generated set each finds:
  global ones, or those of a class too?
- architectures: do convolutions, or residual blocks, make better codes of images than the MLP?

Finished runs are kept: start it again after an interruption, or with more seeds, and only what is
missing runs.

    python benchmarks/bench_systems.py paper --quick
    python benchmarks/bench_systems.py paper --data-dir DIR --jobs 2
    python benchmarks/bench_systems.py systems --data-dir DIR --jobs 2 --only factors vae classvsc
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import joblib
import matplotlib as mpl
import numpy as np
from _common import Column, Row, Split, columns
from _sets import FACTORS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer, metrics
from sklearn_classvsc._estimator import SpikeSlabTransformer
from sklearn_classvsc.bodies import ConvDecoder, ConvEncoder, ResidualMLP
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.displays import ActivationDisplay, TraversalDisplay
from sklearn_classvsc.inspection import feature_effects

BATCH_SIZE, N_NONZERO = 256, 10  # non-zeros of the codes of dictionaries
N_LCDL = 10_000  # samples for label-consistent dictionary learning
PICTURED_SEED = 0
FACTOR_SEED = 300  # of the generated set: no constant of the package was tuned on it
ROLES = ("global", "shared", "class-specific")
FASHION = "T-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")
CATEGORIES = {"footwear": [{5, 7, 9}], "upper_body": [{0, 2, 4, 6}]}
CATEGORIES["both"] = CATEGORIES["footwear"] + CATEGORIES["upper_body"]


class Data(NamedTuple):
    """A data set: its name on OpenML, and the number of dimensions of all codes of it."""

    heading: str
    name: str
    n_components: int


DATASETS = {
    "fashion-mnist": Data("Fashion-MNIST", "Fashion-MNIST", 50),
    "mnist": Data("MNIST", "mnist_784", 50),
    "factors": Data("Known factors", "", 32),
}


# -- systems -----------------------------------------------------------------------------------


class LabelConsistentDictionary(TransformerMixin, BaseEstimator):
    """Sparse codes of `dictlearn`'s LCDLClassifier: for ten classes, five atoms and non-zeros each.

    Its recommended initialisation trains the atoms of each class apart, and so allows no more
    non-zeros than a class has atoms. It is fitted to the first 10,000 samples.
    """

    def __init__(self, n_components: int = 50, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> LabelConsistentDictionary:
        """Learn a dictionary."""
        from dictlearn.classification import LCDLClassifier

        k = self.n_nonzero_ = self.n_components // len(np.unique(y))
        options = {"init_method": "trained", "max_iter": 10, "random_state": self.random_state}
        model = LCDLClassifier(k, n_nonzero_coefs=k, **options)
        self.components_ = model.fit(X[:N_LCDL], y[:N_LCDL]).dictionary_
        return self

    def transform(self, X: NDArray[Any]) -> Any:
        """Encode by orthogonal matching pursuit."""
        from dictlearn import sparse_encode

        options = {"algorithm": "omp", "n_nonzero_coefs": self.n_nonzero_}
        return sparse_encode(X.astype(np.float64), self.components_, **options)

    def inverse_transform(self, Z: NDArray[Any]) -> Any:
        """Add the atoms up."""
        return Z @ self.components_


class System(NamedTuple):
    """A row of the tables: its label, and how to make it."""

    label: str
    estimator: Callable[..., Any]
    parameters: Row | None = None
    longer: int = 1  # times the epochs of the others

    def make(self, n_components: int, epochs: int, seed: int) -> Any:
        """Return it, unfitted."""
        common, given = {"n_components": n_components, "random_state": seed}, self.parameters or {}
        if issubclass(self.estimator, SpikeSlabTransformer):
            common |= {"max_epochs": epochs * self.longer, "batch_size": BATCH_SIZE}
            common |= {"hidden_layer_sizes": (400,)} if "encoder" not in given else {}
        return self.estimator(**common, **given)


SHUFFLED = "classvsc-shuffled"
IMAGE = (1, 28, 28)
DICTIONARY = {"fit_algorithm": "cd", "batch_size": BATCH_SIZE, "transform_algorithm": "omp"}
RESIDUAL = {"encoder": ResidualMLP(), "decoder": ResidualMLP()}
CONV = {"encoder": ConvEncoder(IMAGE), "decoder": ConvDecoder(IMAGE)}
SYSTEMS = {
    "classvsc": System("**ClassVSC, default**", ClassVSCTransformer),
    "vae": System("VAE", VAETransformer),
    SHUFFLED: System("ClassVSC, default, shuffled labels (control)", ClassVSCTransformer),
    "vae-0.2": System("VAE, KL weight 0.2", VAETransformer, {"kl_weight": 0.2}),
    "beta-vae": System("beta-VAE, beta 4", VAETransformer, {"kl_weight": 4.0}),
    "beta-tcvae": System("beta-TCVAE, beta 4", VAETransformer, {"total_correlation_weight": 3.0}),
    "vsc": System("VSC", VSCTransformer),
    "vsc-learned": System("VSC, learned prior", VSCTransformer, {"prior": "pseudo_inputs"}),
    "paper-3": System("ClassVSC, paper, lambda 3", ClassVSCTransformer, {"objective": "paper"}),
    "pca": System("PCA", PCA),
    "nmf": System("NMF", NMF, {"init": "nndsvda"}),
    "dictionary": System(
        f"Dictionary learning, {N_NONZERO} non-zeros",
        MiniBatchDictionaryLearning,
        DICTIONARY | {"transform_n_nonzero_coefs": N_NONZERO},
    ),
    "dictlearn": System(
        f"Label-consistent dictionary (dictlearn, {N_LCDL:,} samples), 5 non-zeros",
        LabelConsistentDictionary,
    ),
    "mlp": System("MLP, 400 hidden", ClassVSCTransformer),
    # About the time of the convolutions.
    "mlp-long": System("MLP, 400 hidden, 8 times the epochs", ClassVSCTransformer, None, 8),
    "residual": System("residual MLP, 256 wide, 2 blocks", ClassVSCTransformer, RESIDUAL),
    "conv": System("convolutions, 32 and 64 channels", ClassVSCTransformer, CONV),
}


# -- one run -----------------------------------------------------------------------------------


class Truth(NamedTuple):
    """The factors that generated the held-out samples."""

    codes: NDArray[Any]  # (n_test, n_factors)
    supports: NDArray[np.bool_]  # (n_classes, n_factors)
    roles: NDArray[np.str_]  # (n_factors,)


def load(task: Row) -> tuple[Split, Truth | None]:
    """Return the data of a run, and their factors if they are known."""
    n_train, n_test = task["n_train"], task["n_test"]
    if task["dataset"] != "factors":
        name = DATASETS[task["dataset"]].name
        return common.load_images(name, task["data_dir"], n_train, n_test), None
    seed = FACTOR_SEED + task["seed"]
    made = make_class_factors(n_train + n_test, random_state=seed, **FACTORS)
    X, y = made.data.astype(np.float32), made.target
    split = Split(X[:n_train], X[n_train:], y[:n_train], y[n_train:])
    return split, Truth(made.codes[n_train:], made.supports, made.roles)


def run(task: Row) -> Row:
    """Fit one system to one data set with one seed, and score it on held-out data."""
    split, truth = load(task)
    system, y_train = SYSTEMS[task["system"]], split.y_train
    if task["system"] == SHUFFLED:
        y_train = np.random.default_rng(task["seed"]).permutation(y_train)
    n_components = DATASETS[task["dataset"]].n_components
    estimator = system.make(n_components, task["epochs"], task["seed"])
    row = common.fit(estimator, split.X_train, y_train)
    row["per_epoch"] = row["seconds"] / task["epochs"] / system.longer
    row |= score(estimator, split, task)
    if isinstance(estimator, SpikeSlabTransformer):
        row["elbo"] = estimator.score(split.X_test)
    if truth is not None:
        row |= recovery(truth, estimator.transform(split.X_test), split.y_test)
    if task["keep"]:
        joblib.dump(estimator, task["keep"])
    return row


def score(estimator: Any, split: Split, task: Row) -> Row:
    """Score a fitted system, with the true labels."""
    Z, y, n = estimator.transform(split.X_test), split.y_test, task["n_codes"]
    Z_train, y_train = estimator.transform(split.X_train[:n]), split.y_train[:n]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        one_dimension = metrics.k_sparse_probe_score(Z_train, y_train, Z, y, k=1)
    row = {
        "explained_variance": common.explained_variance(estimator, split.X_test),
        **common.score_codes(Z, y),
        "accuracy": common.linear_accuracy(Z_train, y_train, Z, y),
        "one_dimension": one_dimension,
    }
    if task["dataset"] == "fashion-mnist":
        for name, categories in CATEGORIES.items():
            test = metrics.category_sharing_test(Z, y, categories, random_state=task["seed"])
            row[f"{name}_p"] = float(test.pvalue)
    return row


def recovery(truth: Truth, Z: NDArray[Any], y: NDArray[Any]) -> Row:
    """Compare codes with the true factors, paired one to one with the dimensions they resemble.

    `found`, the mean for each role: |correlation| of a factor with its dimension over all samples.
    `graded`: the same over the samples of the classes that have the factor, where to know the class
    is no help.
    """
    similarity = common.absolute_correlation(truth.codes, Z)
    found, graded = np.zeros((2, len(similarity)))
    for f, j in zip(*linear_sum_assignment(similarity, maximize=True), strict=True):
        having = truth.supports[y, f]
        found[f] = similarity[f, j]
        of_having = common.absolute_correlation(truth.codes[having][:, [f]], Z[having][:, [j]])
        graded[f] = of_having.item()
    row: Row = {"role_recovery": metrics.role_recovery_score(truth.supports, Z, y)}
    for role in ROLES:
        row[f"found_{role}"] = float(found[truth.roles == role].mean())
        row[f"graded_{role}"] = float(graded[truth.roles == role].mean())
    return row


# -- the paper's question ----------------------------------------------------------------------


def paper_parts(
    arguments: argparse.Namespace, dataset: str, groups: Mapping[str, Sequence[Row]]
) -> list[str]:
    """Return pictures of what the default system has learned."""
    if not Path(model_path(arguments, dataset)).exists():
        return []
    estimator = joblib.load(model_path(arguments, dataset))
    split, _ = load(arguments.task | {"dataset": dataset})
    names = np.array(FASHION if dataset == "fashion-mnist" else [str(c) for c in range(10)])
    X, y = split.X_test, names[split.y_test]
    figures = {
        "traversals": draw_traversals(estimator, X, y),
        "activity": ActivationDisplay.from_estimator(estimator, X, y).figure_,
    }
    return [
        common.picture(arguments, f"bench_paper_{dataset}_{kind}", figure, CAPTIONS[kind])
        for kind, figure in figures.items()
        if figure is not None
    ]


CAPTIONS = {
    "traversals": (
        "Traversals of the default system. Left, a test image of the class; then its decoded code "
        "while one dimension takes the 5 % to 95 % quantiles of its active values within the "
        "class; right, the last image less the first: brighter is red, darker blue."
    ),
    "activity": (
        "Fraction of the test images of each class in which a dimension of the default system is "
        "active; dimensions sorted by role."
    ),
}


def choose_traversals(
    estimator: Any, X: NDArray[Any], y: NDArray[Any]
) -> list[tuple[str, int, str]]:
    """Choose the two class-specific dimensions that change most, and a global one in their classes.

    Two classes, so that a global dimension can be seen to act in both. Each comes with its role
    and the class to show it in.
    """
    roles = metrics.dimension_roles(estimator.transform(X), y).set_index("dimension")
    effects = feature_effects(estimator, X, y, max_samples=20)
    size = np.square(effects).sum(axis=1)  # 0 where never active
    everywhere = roles.index[roles["role"] == "global"]
    owners = roles["classes"][roles["role"] == "class-specific"].str[0]
    best: dict[str, int] = {}
    for j, label in sorted(owners.items(), key=lambda item: -size[item[1], item[0]]):
        best.setdefault(label, j)
    specific = [("class-specific", j, label) for label, j in best.items()][:2]
    labels = list(best)[:2] or np.unique(y)[:2].tolist()
    acting = sorted(everywhere, key=lambda j: min(size[label, j] for label in labels))[-1:]
    return [("global", j, label) for j in acting for label in labels] + specific


def draw_traversals(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> Figure | None:
    """Draw one line of images for each traversal; None if no dimension is global or specific."""
    chosen = choose_traversals(estimator, X, y)
    if not chosen:
        return None
    size = (9, 1.5 * len(chosen))
    figure, axes = plt.subplots(len(chosen), figsize=size, squeeze=False, layout="constrained")
    for ax, (role, dimension, label) in zip(axes[:, 0], chosen, strict=True):
        what = {"dimension": dimension, "label": label, "image_shape": IMAGE[1:]}
        TraversalDisplay.from_estimator(estimator, X, y, **what, ax=ax)
        ax.set_ylabel(role)
    return figure


# -- known factors -----------------------------------------------------------------------------

FACTOR_COLUMNS = [
    *(Column(f"{role} factors", f"found_{role}", 2) for role in ROLES),
    *(Column(f"{role}, within", f"graded_{role}", 2) for role in ROLES[1:]),
    Column("roles recovered", "role_recovery", 2),
]


def factor_parts(
    arguments: argparse.Namespace, dataset: str, groups: Mapping[str, Sequence[Row]]
) -> list[str]:
    """Return which factors each system has found, where they are known."""
    if dataset != "factors":
        return []
    return [
        f"A dimension that knows the class and nothing else, 1 for it and 0 for the others, would "
        f"have a correlation of {of_class(arguments):.2f} with a factor of that class.",
        *common.summary(groups, FACTOR_COLUMNS)[1:2],
    ]


def of_class(arguments: argparse.Namespace) -> float:
    """Return the mean |correlation| of class-specific factors with their class."""
    split, truth = load(arguments.task | {"dataset": "factors", "seed": 0})
    assert truth is not None
    member = split.y_test[:, None] == np.arange(FACTORS["n_classes"])
    similarity = common.absolute_correlation(truth.codes, member.astype(float))
    return float(similarity[truth.roles == "class-specific"].max(axis=1).mean())


# -- the pages ---------------------------------------------------------------------------------


class Page(NamedTuple):
    """A question: the systems, the data sets, and what the page shows of them."""

    systems: str
    datasets: str
    columns: list[Column]
    epochs: tuple[int, int]  # with --quick, and without
    n_train: tuple[int, int | None]
    n_codes: int  # training codes for the probes
    extra: str = ""  # systems with --extra
    parts: Callable[..., list[str]] | None = None


ROLE_FIELDS = "dead consistency off_class contrast global shared specific sporadic"
FIELDS = f"explained_variance active {ROLE_FIELDS}"
PAGES = {
    "paper": Page(
        "classvsc vae classvsc-shuffled vae-0.2 vsc paper-3 pca nmf dictionary",
        "fashion-mnist mnist",
        columns(
            f"{FIELDS} own accuracy",
            Column("p footwear", "footwear_p"),
            Column("p upper body", "upper_body_p"),
            Column("p both", "both_p"),
        ),
        (10, 10),  # about as many steps as on the page of systems
        (6000, None),
        15_000,
        "dictlearn",
        paper_parts,
    ),
    "systems": Page(
        "vae beta-vae beta-tcvae vsc vsc-learned paper-3 classvsc classvsc-shuffled pca nmf "
        "dictionary",
        "mnist fashion-mnist factors",
        [
            Column("ELBO", "elbo", 1),
            *columns("explained_variance"),
            Column("L0", "active", 1),
            *columns(f"{ROLE_FIELDS} accuracy"),
            Column("one dimension", "one_dimension"),
        ],
        (3, 50),
        (2000, 10_000),
        5000,
        parts=factor_parts,
    ),
    "architectures": Page(
        "mlp mlp-long residual conv",
        "fashion-mnist mnist",
        columns(f"{FIELDS} own accuracy", Column("seconds per epoch", "per_epoch", 1)),
        (3, 10),
        (2000, 10_000),
        15_000,
    ),
}


def model_path(arguments: argparse.Namespace, dataset: str) -> str:
    """Return where the fitted default system is kept for the pictures."""
    setting = f"{arguments.epochs}_{arguments.n_train or 'all'}"
    return str(arguments.results / f"bench_paper_{dataset}_{setting}.joblib")


def main() -> int:
    """Run what is missing of a page, then write it and its pictures."""
    names = [name for name in sys.argv[1:2] if name in PAGES]
    if not names and not {"-h", "--help"} & set(sys.argv):
        raise SystemExit(f"which page? {', '.join(PAGES)}")
    name = (names or ["paper"])[0]
    page = PAGES[name]
    defaults = {"epochs": page.epochs, "n_train": page.n_train, "seeds": ([0], [0, 1, 2])}
    arguments = common.command_line(
        __doc__, "jobs", "data_dir", "extra", argv=sys.argv[1 + len(names) :], **defaults
    )
    if arguments.extra and page.extra and find_spec("dictlearn") is None:
        raise SystemExit("dictlearn is not installed: pip install dictlearn")
    mpl.use("Agg")
    setting = {"page": name, "epochs": arguments.epochs, "n_train": arguments.n_train}
    arguments.task = setting | {
        "n_test": 2000 if arguments.quick else 10_000,
        "data_dir": arguments.data_dir,
        "n_codes": page.n_codes,
        "keep": "",
    }
    tasks = [
        arguments.task | {"dataset": dataset, "system": system, "seed": seed}
        for seed in arguments.seeds  # the first of everything before the second of anything
        for dataset in page.datasets.split()
        for system in f"{page.systems} {page.extra * arguments.extra}".split()
        if (dataset, system) != ("factors", "nmf")  # features of either sign
    ]
    key = ["page", "dataset", "system", "seed", "epochs", "n_train"]
    chosen = common.asked_for(tasks, key, arguments.only)
    for task in {task["dataset"]: task for task in chosen}.values():
        load(task)  # fails early, and fetches once rather than in each process
    for task in common.of(tasks, page="paper", system="classvsc", seed=PICTURED_SEED):
        task["keep"] = model_path(arguments, task["dataset"])
    rows, ok = common.run_tasks(arguments, "bench_systems", key, tasks, run)
    rows, parts = common.of(rows, **setting), []
    for dataset in page.datasets.split():
        groups = {name: common.of(rows, dataset=dataset, system=name) for name in SYSTEMS}
        groups = {name: found for name, found in groups.items() if found}
        if groups:
            labelled = {SYSTEMS[name].label: found for name, found in groups.items()}
            parts += [f"## {DATASETS[dataset].heading}", *common.summary(labelled, page.columns)]
            parts += page.parts(arguments, dataset, labelled) if page.parts else []
    common.write_page(arguments, name, parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
