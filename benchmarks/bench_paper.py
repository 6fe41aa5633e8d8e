"""Whether class-consistent sparse codes keep what the paper promises, on two image sets.

Fits every system with the same number of dimensions, network, epochs and schedule, scores it on
the test images, and writes a page and pictures. Finished runs are kept: start it again after an
interruption, or with more systems or seeds, and only what is missing runs.

    python benchmarks/bench_paper.py --quick
    python benchmarks/bench_paper.py --data-dir DIR --jobs 2
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import joblib
import matplotlib as mpl
import numpy as np
import pandas as pd
from _common import Column, ResultStore, Row, Split
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc.displays import ActivationDisplay, SharingDisplay, TraversalDisplay
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.metrics import category_sharing_test, dimension_roles

N_COMPONENTS = 50
N_NONZERO = 10  # of the codes of the dictionaries
N_CODES = 15_000  # training codes for the logistic regression
N_LCDL = 10_000  # samples for label-consistent dictionary learning
PICTURED_SEED = 0
DATASETS = {"fashion-mnist": "Fashion-MNIST", "mnist": "mnist_784"}
FASHION = (
    "T-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(",")
)  # fmt: skip
FOOTWEAR, UPPER_BODY = {5, 7, 9}, {0, 2, 4, 6}
CATEGORIES = {
    "footwear_p": [FOOTWEAR],
    "upper_body_p": [UPPER_BODY],
    "categories_p": [FOOTWEAR, UPPER_BODY],
}


# -- systems -----------------------------------------------------------------------------------


class LabelConsistentDictionary(TransformerMixin, BaseEstimator):
    """Sparse codes of `dictlearn`'s LCDLClassifier: for ten classes, five atoms and non-zeros each.

    Its recommended initialisation trains the atoms of each class apart, and so allows no more
    non-zeros than a class has atoms.
    """

    def __init__(self, max_iter: int = 10, random_state: int | None = None) -> None:
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> LabelConsistentDictionary:
        """Fit to the first 10,000 samples."""
        from dictlearn.classification import LCDLClassifier

        self.n_nonzero_ = N_COMPONENTS // len(np.unique(y))
        model = LCDLClassifier(
            self.n_nonzero_,
            n_nonzero_coefs=self.n_nonzero_,
            init_method="trained",
            max_iter=self.max_iter,
            random_state=self.random_state,
        )
        self.components_ = model.fit(X[:N_LCDL], y[:N_LCDL]).dictionary_
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Encode by orthogonal matching pursuit."""
        from dictlearn import sparse_encode

        codes: NDArray[np.float64] = sparse_encode(
            X.astype(np.float64), self.components_, algorithm="omp", n_nonzero_coefs=self.n_nonzero_
        )
        return codes

    def inverse_transform(self, Z: NDArray[Any]) -> NDArray[np.float64]:
        """Add the atoms up."""
        decoded: NDArray[np.float64] = Z @ self.components_
        return decoded


class System(NamedTuple):
    """A row of the table: its label, and how to make it from common parameters."""

    label: str
    make: Callable[[dict[str, Any]], Any]
    optional: bool = False


def _vae(**parameters: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda common: VAETransformer(N_COMPONENTS, **common, **parameters)


def _class_vsc(**parameters: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda common: ClassVSCTransformer(N_COMPONENTS, **common, **parameters)


def _peer(estimator: Callable[..., Any], **parameters: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda common: estimator(random_state=common["random_state"], **parameters)


DEFAULT, VAE, SAME_SLAB_VAE, SHUFFLED = "classvsc", "vae", "vae-0.2", "classvsc-shuffled"
SYSTEMS = {
    DEFAULT: System("**ClassVSC, default**", _class_vsc()),
    VAE: System("VAE", _vae(kl_weight=1.0)),
    SHUFFLED: System("ClassVSC, default, shuffled labels (control)", _class_vsc()),
    SAME_SLAB_VAE: System("VAE, KL weight 0.2", _vae(kl_weight=0.2)),
    "classvsc-kl-1": System("ClassVSC, default at KL weight 1", _class_vsc(kl_weight=1.0)),
    "beta-vae-4": System("beta-VAE, KL weight 4", _vae(kl_weight=4.0)),
    "vsc": System("VSC", lambda common: VSCTransformer(N_COMPONENTS, alpha=0.2, **common)),
    **{
        f"paper-{weight}": System(
            f"ClassVSC, paper, lambda {weight}",
            _class_vsc(objective="paper", consistency_weight=weight),
        )
        for weight in (1, 3, 10)
    },
    "pca": System("PCA", _peer(PCA, n_components=N_COMPONENTS)),
    "nmf": System("NMF", _peer(NMF, n_components=N_COMPONENTS, init="nndsvda")),
    "dictionary": System(
        f"Dictionary learning, {N_NONZERO} non-zeros",
        _peer(
            MiniBatchDictionaryLearning,
            n_components=N_COMPONENTS,
            fit_algorithm="cd",
            batch_size=256,
            transform_algorithm="omp",
            transform_n_nonzero_coefs=N_NONZERO,
        ),
    ),
    "dictlearn": System(
        f"Label-consistent dictionary (dictlearn, {N_LCDL:,} samples), 5 non-zeros",
        _peer(LabelConsistentDictionary),
        optional=True,
    ),
    "paper-pairwise-3": System(
        "ClassVSC, paper, pairwise, lambda 3",
        _class_vsc(objective="paper", consistency="pairwise", consistency_weight=3),
        optional=True,
    ),
}


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit one system to one data set with one seed, and score it."""
    split = common.load_images(DATASETS[task["dataset"]], *task["load"])
    seed, shuffled = task["seed"], task["system"] == SHUFFLED
    rng = np.random.default_rng(seed)
    y_train = rng.permutation(split.y_train) if shuffled else split.y_train
    estimator = make_system(task["system"], seed, task["epochs"])
    with common.Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(split.X_train, y_train)
    row = score(estimator, split, seed)
    if shuffled:
        other = common.score_codes(estimator.transform(split.X_test), rng.permutation(split.y_test))
        row |= {f"shuffled_{name}": value for name, value in other.items()}
    if task["keep"]:
        Path(task["keep"]).parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(estimator, task["keep"])
    return row | {
        "seconds": watch.seconds,
        "warnings": common.warning_texts(caught),
        "environment": common.environment(["dictlearn"]),
    }


def make_system(name: str, seed: int, epochs: int) -> Any:
    """Build a system, unfitted."""
    parameters = {"hidden_layer_sizes": (400,), "max_epochs": epochs, "batch_size": 256}
    return SYSTEMS[name].make(parameters | {"random_state": seed})


def score(estimator: Any, split: Split, seed: int) -> Row:
    """Score a fitted system on the test images."""
    Z = estimator.transform(split.X_test)
    Z_train, y_train = estimator.transform(split.X_train[:N_CODES]), split.y_train[:N_CODES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        accuracy = common.linear_accuracy(Z_train, y_train, Z, split.y_test)
    return {
        "explained_variance": common.explained_variance(
            split.X_test, estimator.inverse_transform(Z)
        ),
        **common.score_codes(Z, split.y_test),
        "accuracy": accuracy,
        **{
            name: category_sharing_test(Z, split.y_test, groups, random_state=seed).pvalue
            for name, groups in CATEGORIES.items()
        },
    }


# -- the page ----------------------------------------------------------------------------------

COLUMNS = [
    Column("EV", "explained_variance"),
    Column("active", "active", 1),
    Column("dead", "dead", 1),
    Column("C", "consistency"),
    Column("off-class", "off_class"),
    Column("contrast", "contrast"),
    Column("global", "global", 1),
    Column("shared", "shared", 1),
    Column("class-specific", "specific", 1),
    Column("sporadic", "sporadic", 1),
    Column("own", "own", 1),
    Column("accuracy", "accuracy"),
]
P_COLUMNS = [
    Column("p footwear", "footwear_p"),
    Column("p upper body", "upper_body_p"),
    Column("p both", "categories_p"),
]

LEGEND = """\
Test data; mean ± standard deviation over seeds. EV: explained variance of the images decoded from
`transform`. active: mean number of non-zeros of a code. dead, global, shared, class-specific,
sporadic: number of dimensions in that role. C: class consistency. off-class: mean sharing between
different classes, all dimensions. contrast: consistency minus that sharing, over the dimensions
that are not global. own: classes with a dimension of their own, or shared by at most three.
accuracy: logistic regression on {n_codes:,} standardised training codes. p: category test,
one-sided; about 0.008 is the smallest that three classes of ten allow.

Non-zero means active for every system. PCA and the VAEs have no zeros: their C is 1 and says
nothing; read contrast. The zeros of NMF and of the dictionaries are exact; the number of non-zeros
of the dictionaries is set and not learned. All systems have {n_components} dimensions; the networks
are the same, 784-400-{n_components}, trained for {epochs} epochs in batches of 256 with one
schedule; training images: {n_train}.

The control is trained on shuffled labels. Against shuffled test labels its code should have no
contrast. Against the true ones it is an unsupervised code, and has the contrast that the images
give by themselves: compare VSC, which sees no labels.

The seed draws everything but the data; the pictures are of seed {pictured}."""


class Target(NamedTuple):
    """A figure to reach: how to name it, the bound, and the field that holds it."""

    figure: str
    field: str
    sign: str
    bound: float
    digits: int = 3
    every_seed: bool = False  # judged by the worst seed, otherwise by the mean
    system: str = DEFAULT

    def line(self, rows: Sequence[Row]) -> list[str]:
        """Return the cells: figure, target, reached, whether it is met."""
        values = common.figures(rows, self.field)
        if not values.size:
            return [self.figure, self._target(), "-", "not run"]
        judged = values if self.every_seed else values.mean(keepdims=True)
        met = judged >= self.bound if self.sign == ">=" else judged <= self.bound
        verdict = "yes" if met.all() else "**no**"
        return [
            self.figure,
            self._target(),
            common.mean_sd(rows, self.field, self.digits),
            verdict,
        ]

    def _target(self) -> str:
        each = ", every seed" if self.every_seed else ""
        return f"{self.sign} {self.bound:.{self.digits}f}{each}"


def targets(dataset: str, groups: Mapping[str, Sequence[Row]]) -> list[Target]:
    """Return what the default system must show."""
    fashion = dataset == "fashion-mnist"
    slack = 0.005 if fashion else 0.04
    ev = {
        name: float(common.figures(groups.get(name, ()), "explained_variance").mean())
        for name in (VAE, SAME_SLAB_VAE)
        if groups.get(name)
    }
    labels = {VAE: "the VAE's", SAME_SLAB_VAE: "that of the VAE at KL weight 0.2 (for comparison)"}
    wanted = [
        Target(f"EV, {labels[name]} - {slack}", "explained_variance", ">=", value - slack)
        for name, value in ev.items()
    ]
    wanted += [
        Target("class consistency C", "consistency", ">=", 0.93 if fashion else 0.97),
        Target("contrast, non-global dimensions", "contrast", ">=", 0.79 if fashion else 0.90),
        Target("dead dimensions", "dead", "<=", 0, 0, every_seed=True),
        Target("global dimensions", "global", ">=", 2, 0, every_seed=True),
        Target("classes with own, or shared by <= 3", "own", ">=", 10, 0, every_seed=True),
        Target("accuracy on the codes", "accuracy", ">=", 0.86 if fashion else 0.965),
        Target("active dimensions", "active", "<=", 13, 1),
    ]
    if fashion:
        wanted += [
            Target("category test, footwear, p", "footwear_p", "<=", 0.05, every_seed=True),
            Target("category test, upper body, p", "upper_body_p", "<=", 0.05, every_seed=True),
        ]
    control = "shuffled training labels: contrast against "
    wanted += [
        Target(control + "the true test labels", "contrast", "<=", 0.1, system=SHUFFLED),
        Target(control + "shuffled ones", "shuffled_contrast", "<=", 0.1, system=SHUFFLED),
    ]
    return wanted


def write_page(path: Path, store: ResultStore, arguments: argparse.Namespace) -> None:
    """Write the tables and the pictures' places."""
    by_dataset = {dataset: rows_of(store, dataset, arguments) for dataset in arguments.datasets}
    everything = [row for groups in by_dataset.values() for rows in groups.values() for row in rows]
    if not everything:
        return
    lines = [
        "# Benchmark: the paper's question",
        "Written by `python benchmarks/bench_paper.py"
        + (" --quick`: a smoke test, not a result." if arguments.quick else "`."),
        LEGEND.format(
            n_codes=N_CODES,
            pictured=PICTURED_SEED,
            n_components=N_COMPONENTS,
            epochs=arguments.epochs,
            n_train=arguments.n_train or "all 60,000",
        ),
    ]
    for dataset, groups in by_dataset.items():
        if groups:
            lines += [f"## {DATASETS[dataset]}", *dataset_section(dataset, groups, path.parent)]
    lines += ["## Where it ran", common.environment_text(everything)]
    if "dictlearn" not in arguments.systems:
        lines.append("`dictlearn`'s label-consistent dictionary was not asked for (`--dictlearn`).")
    common.write(path, "\n\n".join(lines))


def rows_of(
    store: ResultStore, dataset: str, arguments: argparse.Namespace
) -> dict[str, list[Row]]:
    """Return the finished rows of each system, whatever systems this call was asked to run."""
    groups: dict[str, list[Row]] = {name: [] for name in SYSTEMS}
    for row in store.rows.values():
        setting = (row["dataset"], row["epochs"], row["n_train"])
        if setting == (dataset, arguments.epochs, arguments.n_train) and row["system"] in groups:
            groups[row["system"]].append(row)
    return {name: rows for name, rows in groups.items() if rows}


def dataset_section(
    dataset: str, groups: Mapping[str, Sequence[Row]], directory: Path
) -> list[str]:
    """Return the paragraphs on one data set."""
    seeds = sorted({row["seed"] for rows in groups.values() for row in rows})
    columns = [*COLUMNS, *(P_COLUMNS if dataset == "fashion-mnist" else [])]
    labelled = {SYSTEMS[name].label: rows for name, rows in groups.items()}
    verdicts = [t.line(groups.get(t.system, ())) for t in targets(dataset, groups)]
    counts = {len(rows) for rows in groups.values()}
    few = "" if len(counts) == 1 else " (not all systems have all of them yet)"
    paragraphs = [
        f"Seeds {', '.join(map(str, seeds))}{few}.",
        common.summary_table(labelled, columns, "system"),
        "What the default system must show:",
        common.markdown_table(["figure", "target", "reached", "met"], verdicts),
    ]
    said = [
        f"- {SYSTEMS[name].label}, seed {row['seed']}: {text}"
        for name, rows in groups.items()
        for row in rows
        for text in row["warnings"]
    ]
    if said:
        paragraphs += ["Warnings during `fit`:", "\n".join(said)]
    for kind, caption in CAPTIONS.items():
        picture = Path("images") / picture_name(dataset, kind)
        if (directory / picture).exists():
            paragraphs.append(f"![{caption}]({picture.as_posix()})\n\n*{caption}*")
    return paragraphs


# -- pictures ----------------------------------------------------------------------------------

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
    "sharing": (
        "Class-sharing matrix of the default system: expected overlap of the active dimensions of "
        "two images; on the diagonal, the consistency of the class."
    ),
}


def picture_name(dataset: str, kind: str) -> str:
    """Return the file name of a picture."""
    return f"bench_paper_{dataset}_{kind}.png"


def draw_pictures(dataset: str, estimator: Any, split: Split, directory: Path) -> None:
    """Draw what the default system has learned."""
    names = np.array(FASHION if dataset == "fashion-mnist" else [str(c) for c in range(10)])
    X, y = split.X_test, names[split.y_test]
    drawn = {
        "traversals": draw_traversals(estimator, X, y),
        "activity": ActivationDisplay.from_estimator(estimator, X, y).figure_,
        "sharing": draw_sharing(estimator, X, y),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for kind, figure in drawn.items():
        if figure is not None:
            figure.savefig(directory / picture_name(dataset, kind), dpi=110, bbox_inches="tight")
            plt.close(figure)


def choose_traversals(
    estimator: Any, X: NDArray[Any], y: NDArray[Any]
) -> list[tuple[str, int, str]]:
    """Choose the two class-specific dimensions that change most, and a global one in their classes.

    Two classes, so that a global dimension can be seen to act in both. Each comes with its role
    and the class to show it in.
    """
    roles = dimension_roles(estimator.transform(X), y).set_index("dimension")
    effects = feature_effects(estimator, X, y, max_samples=20)
    size = np.square(effects).sum(axis=1)  # 0 where never active
    specific = roles.index[roles["role"] == "class-specific"]
    best = pd.DataFrame(
        [(size[roles.at[j, "classes"][0], j], j, roles.at[j, "classes"][0]) for j in specific],
        columns=["size", "dimension", "label"],
    )
    best = best.sort_values("size", ascending=False).drop_duplicates("label")[:2]
    labels = best["label"].tolist() or np.unique(y)[:2].tolist()
    everywhere = roles.index[roles["role"] == "global"]
    of_global = [min(size[label, j] for label in labels) for j in everywhere]
    chosen = [("global", everywhere[np.argmax(of_global)], x) for x in labels if of_global]
    return [
        *chosen,
        *(("class-specific", row.dimension, row.label) for row in best.itertuples()),
    ]


def draw_traversals(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> Figure | None:
    """Draw one line of images for each traversal; None if no dimension is global or specific."""
    chosen = choose_traversals(estimator, X, y)
    if not chosen:
        return None
    size = (9, 1.5 * len(chosen))
    figure, axes = plt.subplots(len(chosen), figsize=size, squeeze=False, layout="constrained")
    for ax, (role, dimension, label) in zip(axes[:, 0], chosen, strict=True):
        TraversalDisplay.from_estimator(
            estimator, X, y, dimension=dimension, label=label, image_shape=(28, 28), ax=ax
        )
        ax.set_ylabel(role)
    return figure


def draw_sharing(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> Figure:
    """Draw the class-sharing matrix of all dimensions, and of those that are not global."""
    figure, axes = plt.subplots(1, 2, figsize=(13.5, 6), layout="constrained")
    for ax, include_global in zip(axes, (True, False), strict=True):
        SharingDisplay.from_estimator(estimator, X, y, include_global=include_global, ax=ax)
        ax.set_title("all dimensions" if include_global else "dimensions that are not global")
    return figure


# -- command line ------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--quick` fills in what is not given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one seed, few images and epochs: under 3 minutes")
    add("--data-dir", help="directory of the IDX files; by default OpenML's sets are used")
    add("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    add("--seeds", nargs="+", type=int, help="default: 0 1 2")
    add("--systems", nargs="+", choices=list(SYSTEMS), help="default: all that are not optional")
    add("--dictlearn", action="store_true", help="add dictlearn's LCDLClassifier (minutes)")
    add("--pairwise", action="store_true", help="add the paper's objective over pairs")
    add("--epochs", type=int, help="default: 20")
    add("--n-train", type=int, help="train on the first so many images")
    add("--jobs", type=int, default=1, help="runs at a time, one thread each")
    add("--fresh", action="store_true", help="run again what is finished")
    add("--output-dir", type=Path, help="of the page and images/; default: docs")
    add("--results", type=Path, help="file of JSON lines with the finished runs")
    arguments = parser.parse_args()
    for name, value in _defaults(arguments.quick).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.systems += ["dictlearn"] * arguments.dictlearn
    arguments.systems += ["paper-pairwise-3"] * arguments.pairwise
    arguments.systems = list(dict.fromkeys(arguments.systems))
    if "dictlearn" in arguments.systems and find_spec("dictlearn") is None:
        parser.error("dictlearn is not installed: pip install dictlearn")
    return arguments


def _defaults(quick: bool) -> dict[str, Any]:
    results = common.RESULTS / ("quick" if quick else "")
    return {
        "seeds": [0] if quick else [0, 1, 2],
        "systems": [name for name, system in SYSTEMS.items() if not system.optional],
        "epochs": 10 if quick else 20,
        "n_train": 6000 if quick else None,
        "output_dir": results if quick else common.DOCS,
        "results": results / "bench_paper.jsonl",
    }


def make_tasks(arguments: argparse.Namespace) -> list[Row]:
    """List the runs: the first seed of everything before the second of anything."""
    return [
        {
            "dataset": dataset,
            "system": system,
            "seed": seed,
            "epochs": arguments.epochs,
            "n_train": arguments.n_train,
            "load": loading(arguments),
            "keep": str(model_path(arguments, dataset))
            if (system, seed) == (DEFAULT, PICTURED_SEED)
            else "",
        }
        for seed in arguments.seeds
        for dataset in arguments.datasets
        for system in arguments.systems
    ]


def loading(arguments: argparse.Namespace) -> tuple[str | None, int | None, int | None]:
    """Return the directory and the numbers of training and test images."""
    return arguments.data_dir, arguments.n_train, 2000 if arguments.quick else None


def model_path(arguments: argparse.Namespace, dataset: str) -> Path:
    """Return where the fitted default system is kept for the pictures."""
    setting = f"{arguments.epochs}_{arguments.n_train or 'all'}"
    return Path(arguments.results).parent / f"bench_paper_{dataset}_{setting}.joblib"


def main() -> int:
    """Run what is missing, then write the page and the pictures."""
    arguments = parse_arguments()
    mpl.use("Agg")
    for dataset in arguments.datasets:  # fails early, and fetches once rather than in each process
        common.load_images(DATASETS[dataset], *loading(arguments))
    store = ResultStore(arguments.results, ["dataset", "system", "seed", "epochs", "n_train"])
    ok = common.run_tasks(make_tasks(arguments), run, store, arguments.jobs, arguments.fresh)
    for dataset in arguments.datasets:
        path = model_path(arguments, dataset)
        if path.exists():
            split = common.load_images(DATASETS[dataset], *loading(arguments))
            draw_pictures(dataset, joblib.load(path), split, arguments.output_dir / "images")
    write_page(arguments.output_dir / "benchmark_paper.md", store, arguments)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
