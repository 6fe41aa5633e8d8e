"""Measure whether a dimension means one thing, in every class, and with another seed too.

Fits systems to images whose attributes can be measured, to generated sets whose factors are known,
to sets that have no common factor, and to digits with several seeds. No fit sees the data that
judge it. Finished runs are kept.

    python benchmarks/bench_factors.py --quick --only linear digits
    python benchmarks/bench_factors.py --data-dir DIR
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import _common as common
import joblib
import matplotlib as mpl
import numpy as np
from _common import Column, Row, Split, columns
from _sets import ATTRIBUTES, IMAGES, KNOWN, attributes
from bench_systems import FASHION, SHUFFLED, System, Truth, recovery
from bench_systems import SYSTEMS as OTHERS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.datasets import load_digits, make_blobs
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, metrics
from sklearn_classvsc._estimator import SpikeSlabTransformer
from sklearn_classvsc._rotation import varimax
from sklearn_classvsc.inspection import feature_effects

BLOBS = "blobs"
FRESH_SEED = 500  # of generated sets: none was looked at while anything was chosen
TEST_SIZE = 0.4
N_SHOWN = 11  # images of a line


# -- systems -----------------------------------------------------------------------------------


class VarimaxPCA(PCA):
    """Principal components, whitened, turned so that their loadings are simple."""

    def fit(self, X: NDArray[Any], y: Any = None) -> VarimaxPCA:
        """Find the components and the turn."""
        super().fit(X)
        loadings = self.components_.T * np.sqrt(self.explained_variance_)
        self.rotation_ = varimax(loadings.astype(float))
        return self

    def transform(self, X: NDArray[Any]) -> Any:
        """Encode."""
        return super().transform(X) @ self.rotation_

    def inverse_transform(self, Z: NDArray[Any]) -> Any:
        """Decode."""
        return super().inverse_transform(Z @ self.rotation_.T)


SYSTEMS = {
    "classvsc": OTHERS["classvsc"],
    "unrotated": System("ClassVSC, `rotation=None`", ClassVSCTransformer, {"rotation": None}),
    SHUFFLED: OTHERS[SHUFFLED],
    **{name: OTHERS[name] for name in ("paper-3", "vsc", "vae")},
    "vae-rotated": System('VAE, `rotation="auto"`', VAETransformer, {"rotation": "auto"}),
    "beta-tcvae": OTHERS["beta-tcvae"],
    "factor-analysis": System(
        "FactorAnalysis", common.DecodingFactorAnalysis, {"rotation": "varimax"}
    ),
    "pca-varimax": System("PCA with varimax", VarimaxPCA, {"whiten": True}),
    "nmf": OTHERS["nmf"],
}


# -- data --------------------------------------------------------------------------------------

HEADINGS = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "digits": "Digits",
    BLOBS: "5 isotropic blobs",
    **{name: known.heading for name, known in KNOWN.items()},
}
#: What is fitted to what, and how often, the most telling first.
PLAN = [
    ("linear digits", " ".join(SYSTEMS), 3),
    ("mnist", "classvsc", 3),
    ("fashion-mnist", "classvsc", 1),
    ("unequal saturating mixed", "classvsc factor-analysis pca-varimax", 3),
    ("two-global no-global blobs 2-classes 20-classes", "classvsc", 3),
    ("mnist", "unrotated beta-tcvae pca-varimax", 1),
]


def load(task: Row) -> tuple[Split, Truth | None]:
    """Return the data of a run, and their factors if they are known."""
    name, seed = task["dataset"], FRESH_SEED + task["seed"]
    if name in IMAGES:
        return common.load_images(IMAGES[name], task["data_dir"], task["n_train"]), None
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return Split(*train_test_split(X.astype("f"), y, test_size=1 / 3, random_state=0)), None
    if name == BLOBS:
        X, y = make_blobs(5000, 64, centers=5, random_state=seed)
        return Split(*train_test_split(X.astype("f"), y, test_size=TEST_SIZE, random_state=0)), None
    made = KNOWN[name].make(seed)
    X, X_test, y, y_test, _, codes = train_test_split(
        made.data.astype("f"), made.target, made.codes, test_size=TEST_SIZE, random_state=0
    )
    return Split(X, X_test, y, y_test), Truth(codes, made.supports, made.roles)


# -- attributes of images ----------------------------------------------------------------------


def within_classes(
    Z: NDArray[Any], y: NDArray[Any], values: NDArray[Any], classes: Sequence[int]
) -> Row:
    """Say how well the best dimension, and the best direction, tell an attribute within a class.

    `single`: mean over the classes of the |rank correlation| among the samples in which the
    dimension is active, 0 in a class of which they are fewer than half. `direction`: the same of a
    regression on all dimensions that nine tenths of each class activate. Every other sample chooses
    the dimension or fits the regression, the rest judges.
    """
    judging = np.arange(len(y)) % 2 == 1
    rho = np.zeros((2, len(classes), Z.shape[1]))
    for half in (0, 1):
        for i, c in enumerate(classes):
            rows = (y == c) & (judging == half)
            for j in np.flatnonzero((Z[rows] != 0).mean(axis=0) >= 0.5):
                active = rows & (Z[:, j] != 0)
                rho[half, i, j] = rank_correlation(Z[active, j], values[active])
    best = int(rho[0].mean(axis=0).argmax())
    found: Row = {"single": float(rho[1, :, best].mean()), "best": best, "direction": None}
    everywhere = np.min([(Z[y == c] != 0).mean(axis=0) for c in classes], axis=0) > 0.9
    if everywhere.any():
        inputs, target = Z[:, everywhere].astype(float), values.astype(float)
        for c in classes:
            inputs[y == c] -= inputs[y == c].mean(axis=0)
            target[y == c] -= target[y == c].mean()
        rows = np.isin(y, classes) & ~judging
        told = LinearRegression().fit(inputs[rows], target[rows]).predict(inputs)
        judged = [(y == c) & judging for c in classes]
        found["direction"] = float(np.mean([rank_correlation(told[r], target[r]) for r in judged]))
    return found


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return |Spearman's correlation|; 0 for a constant."""
    return float(common.absolute_correlation(rankdata(a)[:, None], rankdata(b)[:, None]).item())


def draw_factors(
    dataset: str, data_dir: str | None, estimator: Any, dimensions: Mapping[str, int]
) -> Figure:
    """Draw real images by the value of a dimension, a line for each class with the attribute."""
    split, values = common.load_images(IMAGES[dataset], data_dir, 1), attributes(dataset, data_dir)
    Z, y = estimator.transform(split.X_test), split.y_test
    lines = [(name, j, c) for name, j in dimensions.items() for c in ATTRIBUTES[dataset][name]]
    size = (0.72 * N_SHOWN + 2.4, 0.74 * len(lines) + 0.5)
    figure, axes = plt.subplots(len(lines), figsize=size, layout="constrained")
    for ax, (name, j, c) in zip(axes, lines, strict=True):
        rows = np.flatnonzero((y == c) & (Z[:, j] != 0))
        order = rows[np.argsort(Z[rows, j])]
        ranks = np.linspace(0.01, 0.99, N_SHOWN) * (len(order) - 1)
        shown = split.X_test[order[ranks.round().astype(int)]].reshape(-1, 28, 28)
        ax.imshow(1 - np.hstack(shown), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        label = str(c) if dataset == "mnist" else f"{FASHION[c]}\ndimension {j}"
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
        rho = rank_correlation(Z[rows, j], values[name][rows])
        ax.text(1.01, 0.5, f"{name}\n$|\\rho|$ {rho:.2f}", transform=ax.transAxes, va="center")
    axes[0].set_title("lowest value", loc="left")
    axes[0].set_title("highest value", loc="right")
    return figure


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit one system to one data set, with one seed or, to digits, all; score it held out."""
    split, truth = load(task)
    system, image = SYSTEMS[task["system"]], task["dataset"] in IMAGES
    rows, codes = [], []
    for seed in task["fits"]:
        y = split.y_train
        if task["system"] == SHUFFLED:
            y = np.random.default_rng(seed).permutation(y)
        if image:
            estimator = system.make(50, task["epochs"], seed)
        else:  # as the constructor has it
            options = {"n_components": 32, "random_state": seed} | (system.parameters or {})
            if task["epochs"] and issubclass(system.estimator, SpikeSlabTransformer):
                options["max_epochs"] = task["epochs"]
            estimator = system.estimator(**options)
        row = common.fit(estimator, split.X_train, y)
        Z = np.asarray(estimator.transform(split.X_test))
        rows.append(row | score(estimator, Z, split))
        codes.append(Z)
    row = rows[0]
    if truth is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of factors of a role there is none
            row |= recovery(truth, Z, split.y_test)
    if image:
        values = attributes(task["dataset"], task["data_dir"])
        for name, classes in ATTRIBUTES[task["dataset"]].items():
            found = within_classes(Z, split.y_test, values[name], classes)
            row |= {f"{name}_{field}": value for field, value in found.items()}
    if len(codes) > 1:
        row["pairs"] = [recurrence(A, B, split.y_test) for A, B in combinations(codes, 2)]
    if task["keep"]:
        joblib.dump(estimator, task["keep"])
    return row


def score(estimator: Any, Z: NDArray[Any], split: Split) -> Row:
    """Score a fitted system on held-out data, by the true labels."""
    X, y, roles = split.X_test, split.y_test, metrics.dimension_roles(Z, split.y_test)["role"]
    effects = feature_effects(estimator, X, y, max_samples=20).to_numpy()
    aligned = metrics.effect_alignment(effects.reshape(len(np.unique(y)), Z.shape[1], -1))
    row = {
        "explained_variance": common.explained_variance(estimator, X),
        **common.score_codes(Z, y),
        "switches": int(metrics.independent_switches(Z).max() + 1),
        "support_information": metrics.support_information(Z, y),
    }
    for role in ("global", "shared"):
        alike = aligned[(roles == role).to_numpy() & np.isfinite(aligned)]
        row[f"aligned_{role}"] = float(alike.mean()) if alike.size else None
    return row


def recurrence(A: NDArray[Any], B: NDArray[Any], y: NDArray[Any]) -> Row:
    """Say how alike two fits are: their global blocks, and all dimensions of a class, paired."""
    of_all = [(Z != 0).mean(axis=0) > 0.9 for Z in (A, B)]
    row: Row = {name: None for name in ("recurs_global", "ceiling_global", "chance_global")}
    if of_all[0].any() and of_all[1].any():
        row = summarised(A[:, of_all[0]], B[:, of_all[1]], y, "global")
    parts = []
    for c in np.unique(y):
        a, b = (Z[y == c][:, (Z[y == c] != 0).mean(axis=0) > 0.5] for Z in (A, B))
        if a.size and b.size:
            parts.append(summarised(a, b, None, "class"))
    for field in parts[0] if parts else ():
        row[field] = float(np.mean([part[field] for part in parts]))
    return row


def summarised(A: NDArray[Any], B: NDArray[Any], y: Any, name: str) -> Row:
    """Return the means of a recurrence over the dimensions that have a partner."""
    found = metrics.factor_recurrence(A, B, y)
    paired = found.partner >= 0
    return {
        f"recurs_{name}": float(found.recurrence[paired].mean() if paired.any() else 0.0),
        f"ceiling_{name}": float(found.ceiling[paired].mean() if paired.any() else 0.0),
        f"chance_{name}": found.chance,
    }


# -- the page ----------------------------------------------------------------------------------

WITHIN = Column("shared, within", "graded_shared", 2)
RECOVERY = [
    Column("global", "found_global", 2),
    Column("shared", "found_shared", 2),
    Column("class-specific", "found_class-specific", 2),
    WITHIN,
    Column("class-specific, within", "graded_class-specific", 2),
    Column("roles", "role_recovery", 2),
]
MEANING = [
    *columns("explained_variance consistency contrast global shared specific dead"),
    Column("alike, global", "aligned_global", 2),
    Column("alike, shared", "aligned_shared", 2),
    Column("switches", "switches", 0),
    Column("H(support, class)", "support_information", 2),
    Column("processor, s", "processor", 0),
]
RECURS = [
    Column(f"{heading}{more}", f"{field}_{kind}", 2)
    for kind, heading in (("global", "global block"), ("class", "dimensions of a class"))
    for more, field in (("", "recurs"), (", ceiling", "ceiling"), (", chance", "chance"))
]
#: Of the one table: what is asked of every system.
ANSWERS = [
    ("mnist", Column("MNIST: EV", "explained_variance", 2)),
    *(("mnist", Column(name, f"{name}_single", 2)) for name in ATTRIBUTES["mnist"]),
    *(("linear", Column(f"known: {c.heading}", c.field, 2)) for c in RECOVERY if c != WITHIN),
    ("digits", Column("digits again: global", "recurs_global", 2)),
    ("digits", Column("digits again: of a class", "recurs_class", 2)),
]


def completed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows; of digits, one for each pair of fits."""
    pairs = ((row, enumerate(row.get("pairs", [{}]))) for row in rows)
    return [row | pair | {"seed": row["seed"] + i} for row, of_row in pairs for i, pair in of_row]


def parts_of(rows: Sequence[Row], drawn: Mapping[str, str]) -> list[str]:
    """Return the tables and pictures."""

    def table(datasets: Iterable[str], shown: Sequence[Column]) -> str:
        """Write a line for each set and system."""
        body = [
            [HEADINGS[dataset], SYSTEMS[system].label, str(len(found))]
            + [common.mean_sd(found, column.field, column.digits) for column in shown]
            for dataset in datasets
            for system in SYSTEMS
            if (found := common.of(rows, dataset=dataset, system=system))
        ]
        header = ["set", "system", "seeds", *(column.heading for column in shown)]
        return common.markdown_table(header, body)

    answers = []
    for system, (label, *_) in SYSTEMS.items():
        fits = {name: common.of(rows, dataset=name, system=system) for name, _ in ANSWERS}
        cells = [common.mean_sd(fits[name], c.field, c.digits) for name, c in ANSWERS]
        answers += [[label, *cells]] * any(fits.values())
    parts = [
        "## The answer",
        common.markdown_table(["system", *(c.heading for _, c in ANSWERS)], answers),
    ]
    for dataset, names in ATTRIBUTES.items():
        shown = [
            Column(f"{name}{more}", f"{name}_{field}", 2)
            for name in names
            for more, field in (("", "single"), (", direction", "direction"))
        ]
        if common.of(rows, dataset=dataset):
            parts += [f"## {HEADINGS[dataset]}", table([dataset], shown)]
            parts += [drawn.get(dataset, ""), table([dataset], MEANING)]
    parts += ["## Known factors", table(KNOWN, RECOVERY), table([*KNOWN, BLOBS], MEANING)]
    return [*parts, "## Digits, three fits in pairs", table(["digits"], RECURS)]


#: Attributes that a picture shows, and its caption.
PICTURES = {
    "mnist": (
        ["slant"],
        "The dimension of the default that follows the slant best, over all ten classes",
    ),
    "fashion-mnist": (
        list(ATTRIBUTES["fashion-mnist"]),
        "The dimension that follows an attribute best, in the classes that have it",
    ),
}
RANKS = (
    ": test images from its lowest to its highest value, evenly spaced in rank from 1 % to 99 %. "
    "Right: the rank correlation, without its sign, of dimension and attribute in the class."
)


def pictures(arguments: argparse.Namespace, rows: Sequence[Row]) -> dict[str, str]:
    """Draw factors of the default, where it is kept; return what shows them on the page."""
    drawn = {}
    for dataset, (names, caption) in PICTURES.items():
        path = model_path(arguments, dataset)
        found = common.of(rows, dataset=dataset, system="classvsc", seed=0)
        if found and Path(path).exists():
            best = {name: found[-1][f"{name}_best"] for name in names}
            figure = draw_factors(dataset, arguments.data_dir, joblib.load(path), best)
            name = f"bench_factors_{dataset}"
            drawn[dataset] = common.picture(arguments, name, figure, caption + RANKS)
    return drawn


def model_path(arguments: argparse.Namespace, dataset: str) -> str:
    """Return where the fitted default system is kept for the picture."""
    return str(arguments.results / f"bench_factors_{dataset}.joblib")


def plan(arguments: argparse.Namespace) -> list[Row]:
    """Return the runs: tables as the constructor trains, images for `--epochs`."""
    tasks = []
    for datasets, systems, n_seeds in PLAN:
        for dataset in datasets.split():
            image, digits = dataset in IMAGES, dataset == "digits"
            shared = {
                "dataset": dataset,
                "epochs": arguments.epochs if image or arguments.quick else None,
                "n_train": arguments.n_train if image else None,
                "data_dir": arguments.data_dir,
            }
            for system in systems.split():
                for seed in arguments.seeds[: 1 if digits else n_seeds]:
                    fits = [seed + 10 * i for i in range(3)] if digits else [seed]
                    kept = image and (system, seed) == ("classvsc", 0)
                    keep = model_path(arguments, dataset) if kept else ""
                    mine = {"system": system, "seed": seed, "fits": fits, "keep": keep}
                    tasks.append(shared | mine)
    return [task for task in tasks if (task["dataset"], task["system"]) != ("linear", "nmf")]


def main() -> int:
    """Run what is missing, then write the page and its picture."""
    arguments = common.command_line(
        __doc__, "jobs", "data_dir", seeds=([0], [0, 1, 2]), epochs=(2, 26), n_train=(2000, 20_000)
    )
    mpl.use("Agg")
    key = ["dataset", "system", "seed", "epochs", "n_train"]
    rows, ok = common.run_tasks(arguments, "bench_factors", key, plan(arguments), run)
    full = completed(rows)
    parts = parts_of(full, pictures(arguments, full))
    common.write_page(arguments, "factors", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
