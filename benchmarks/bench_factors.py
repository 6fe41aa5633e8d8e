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
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import joblib
import matplotlib as mpl
import numpy as np
from _common import Column, Row, Split, columns
from _tables import TABLES
from bench_systems import FACTORS, SHUFFLED, System, Truth, recovery
from bench_systems import SYSTEMS as OTHERS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata
from sklearn.datasets import load_digits, make_blobs
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, metrics
from sklearn_classvsc._estimator import SpikeSlabTransformer
from sklearn_classvsc._rotation import varimax
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.inspection import feature_effects

BLOBS = "blobs"
FRESH_SEED = 500  # of generated sets: none was looked at while anything was chosen
N_ROWS, TEST_SIZE = 5000, 0.4
N_SHOWN = 11  # images of a line
ATTRIBUTES = ("slant", "thickness", "ink", "width")  # of MNIST's digits

Floats = NDArray[np.float64]


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


# -- known factors -----------------------------------------------------------------------------


class Known(NamedTuple):
    """A generated set: how its factors are made, and, unless they add up, samples of them."""

    heading: str
    parameters: Row
    generate: Callable[..., Any] = lambda Z, D, _: Z @ D

    def make(self, seed: int) -> Any:
        """Return `make_class_factors`, its samples made anew of its codes, with its noise."""
        made = make_class_factors(**{"n_samples": N_ROWS} | self.parameters, random_state=seed)
        Z, D = made.codes, made.dictionary
        made.data += self.generate(Z, D, np.random.default_rng(seed)) - Z @ D
        return made


def two_layers(Z: Floats, D: Floats, rng: np.random.Generator) -> Any:
    """Let every factor bear on every feature, through a random network."""
    k, p = D.shape
    A, B = rng.normal(size=(k, p)) / 3, rng.normal(size=(p, p)) / np.sqrt(p)
    return np.tanh(Z @ A) @ B


KNOWN = {
    "linear": Known("linear, 5 classes", FACTORS),
    "saturating": Known("tanh of the linear one", FACTORS, lambda Z, D, _: np.tanh(Z @ D)),
    "mixed": Known("two layers, all factors in all features", FACTORS, two_layers),
    "two-global": Known("linear, 2 global factors", FACTORS | {"n_global": 2}),
    "no-global": Known("linear, no global factor", FACTORS | {"n_global": 0}),
    "2-classes": Known("linear, 2 classes", FACTORS | {"n_classes": 2, "n_shared": 0}),
    "20-classes": Known("linear, 20 classes", TABLES["factors_many"].parameters),
}


HEADINGS = {
    "mnist": "MNIST",
    "digits": "Digits",
    BLOBS: "5 isotropic blobs",
    **{name: known.heading for name, known in KNOWN.items()},
}
#: What is fitted to what, and how often, the most telling first.
PLAN = [
    ("linear digits", " ".join(SYSTEMS), 3),
    ("mnist", "classvsc", 3),
    ("saturating mixed", "classvsc factor-analysis pca-varimax", 3),
    ("two-global no-global blobs 2-classes 20-classes", "classvsc", 3),
    ("mnist", "unrotated beta-tcvae pca-varimax", 1),
]


def load(task: Row) -> tuple[Split, Truth | None]:
    """Return the data of a run, and their factors if they are known."""
    name, seed = task["dataset"], FRESH_SEED + task["seed"]
    if name == "mnist":
        return common.load_images("mnist_784", task["data_dir"], task["n_train"]), None
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return Split(*train_test_split(X.astype("f"), y, test_size=1 / 3, random_state=0)), None
    if name == BLOBS:
        X, y = make_blobs(N_ROWS, 64, centers=5, random_state=seed)
        return Split(*train_test_split(X.astype("f"), y, test_size=TEST_SIZE, random_state=0)), None
    made = KNOWN[name].make(seed)
    X, X_test, y, y_test, _, codes = train_test_split(
        made.data.astype("f"), made.target, made.codes, test_size=TEST_SIZE, random_state=0
    )
    return Split(X, X_test, y, y_test), Truth(codes, made.supports, made.roles)


# -- attributes of images ----------------------------------------------------------------------


@lru_cache(maxsize=1)
def attributes(data_dir: str | None) -> dict[str, Floats]:
    """Return the attributes of MNIST's test images."""
    images = common.load_images("mnist_784", data_dir, 1).X_test.reshape(-1, 28, 28)
    return moments(images.astype(float)) | {"thickness": thickness(images)}


def moments(images: Floats) -> dict[str, Floats]:
    """Return the ink of images, and by their second moments slant, and width once it is undone."""
    ink, pixels = images.sum((1, 2)), np.mgrid[:28, :28]
    dy, dx = (at - ((images * at).sum((1, 2)) / ink)[:, None, None] for at in pixels)
    xx, xy, yy = ((images * a * b).sum((1, 2)) / ink for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    return {"slant": xy / yy, "ink": ink, "width": np.sqrt(np.maximum(xx - xy**2 / yy, 0))}


def thickness(images: NDArray[Any]) -> Floats:
    """Return the mean distance of a stroke's points from its edge, in quarters of a pixel."""
    strokes = (ndimage.zoom(image, 4, order=1) > 0.5 for image in images)
    return np.array([ndimage.distance_transform_edt(s)[s].mean() for s in strokes])


def within_classes(Z: NDArray[Any], y: NDArray[Any], attribute: Floats) -> Row:
    """Say how well the best dimension tells an attribute within a class.

    `single`: mean over classes of the |rank correlation| among the samples in which the dimension
    is active, 0 in a class of which they are fewer than half. Every other sample chooses the
    dimension, the rest judges.
    """
    judging, classes = np.arange(len(y)) % 2 == 1, np.unique(y)
    rho = np.zeros((2, len(classes), Z.shape[1]))
    for half in (0, 1):
        for i, c in enumerate(classes):
            rows = (y == c) & (judging == half)
            for j in np.flatnonzero((Z[rows] != 0).mean(axis=0) >= 0.5):
                active = rows & (Z[:, j] != 0)
                rho[half, i, j] = rank_correlation(Z[active, j], attribute[active])
    best = int(rho[0].mean(axis=0).argmax())
    return {"single": float(rho[1, :, best].mean()), "best": best}


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return |Spearman's correlation|; 0 for a constant."""
    return float(common.absolute_correlation(rankdata(a)[:, None], rankdata(b)[:, None]).item())


def draw_slant(estimator: Any, data_dir: str | None, j: int) -> Figure:
    """Draw real digits by the value of the dimension that follows the slant, a line for a class."""
    split, slant = common.load_images("mnist_784", data_dir, 1), attributes(data_dir)["slant"]
    z, y = estimator.transform(split.X_test)[:, j], split.y_test
    figure, axes = plt.subplots(10, figsize=(0.72 * N_SHOWN + 2.4, 7.9), layout="constrained")
    for c, ax in enumerate(axes):
        rows = np.flatnonzero((y == c) & (z != 0))
        order = rows[np.argsort(z[rows])]
        ranks = np.linspace(0.01, 0.99, N_SHOWN) * (len(order) - 1)
        shown = split.X_test[order[ranks.round().astype(int)]].reshape(-1, 28, 28)
        ax.imshow(1 - np.hstack(shown), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_ylabel(str(c), rotation=0, ha="right", va="center")
        rho = rank_correlation(z[rows], slant[rows])
        ax.text(1.01, 0.5, f"slant\n{rho:.2f}", transform=ax.transAxes, va="center")
    axes[0].set_title("lowest value", loc="left")
    axes[0].set_title("highest value", loc="right")
    return figure


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit one system to one data set, with one seed or, to digits, all; score it held out."""
    split, truth = load(task)
    system, image = SYSTEMS[task["system"]], task["dataset"] == "mnist"
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
        for name, attribute in attributes(task["data_dir"]).items():
            found = within_classes(Z, split.y_test, attribute)
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
    *(("mnist", Column(name, f"{name}_single", 2)) for name in ATTRIBUTES),
    *(("linear", Column(f"known: {c.heading}", c.field, 2)) for c in RECOVERY if c != WITHIN),
    ("digits", Column("digits again: global", "recurs_global", 2)),
    ("digits", Column("digits again: of a class", "recurs_class", 2)),
]


def completed(rows: Sequence[Row]) -> list[Row]:
    """Return the rows; of digits, one for each pair of fits."""
    pairs = ((row, enumerate(row.get("pairs", [{}]))) for row in rows)
    return [row | pair | {"seed": row["seed"] + i} for row, of_row in pairs for i, pair in of_row]


def parts_of(rows: Sequence[Row], drawn: str) -> list[str]:
    """Return the tables, and a picture of digits."""

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
        *("## MNIST", drawn, table(["mnist"], MEANING)),
    ]
    parts += ["## Known factors", table(KNOWN, RECOVERY), table([*KNOWN, BLOBS], MEANING)]
    return [*parts, "## Digits, three fits in pairs", table(["digits"], RECURS)]


CAPTION = (
    "The dimension of the default that follows the slant best, over all ten classes: test images "
    "from its lowest to its highest value, evenly spaced in rank from 1 % to 99 %. Right: the rank "
    "correlation, without its sign, of dimension and attribute in the class."
)


def picture(arguments: argparse.Namespace, rows: Sequence[Row]) -> str:
    """Draw the slant in the default, where it is kept; return what shows it on the page."""
    found = common.of(rows, dataset="mnist", system="classvsc", seed=0)
    if not found or not Path(model_path(arguments)).exists():
        return ""
    estimator = joblib.load(model_path(arguments))
    figure = draw_slant(estimator, arguments.data_dir, found[-1]["slant_best"])
    return common.picture(arguments, "bench_factors_mnist", figure, CAPTION)


def model_path(arguments: argparse.Namespace) -> str:
    """Return where the fitted default system is kept for the picture."""
    return str(arguments.results / "bench_factors_mnist.joblib")


def plan(arguments: argparse.Namespace) -> list[Row]:
    """Return the runs: tables as the constructor trains, images for `--epochs`."""
    tasks = []
    for datasets, systems, n_seeds in PLAN:
        for dataset in datasets.split():
            image, digits = dataset == "mnist", dataset == "digits"
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
                    keep = model_path(arguments) if kept else ""
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
    parts = parts_of(full, picture(arguments, full))
    common.write_page(arguments, "factors", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
