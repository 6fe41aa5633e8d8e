"""Data whose factors are known, or can be measured of images; both judge, and train nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import _common as common
import numpy as np
from _common import Row, Split
from _tables import TABLES
from bench_systems import FACTORS, Truth
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata
from sklearn.datasets import load_digits, make_blobs
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from sklearn_classvsc.datasets import make_class_factors

IMAGES = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}
#: In the order in which they are shown.
ATTRIBUTES = {
    "mnist": ("slant", "thickness", "ink", "width"),
    "fashion-mnist": ("heel", "sleeve", "trouser"),
}
BLOBS = "blobs"
FRESH_SEED = 500  # of generated sets: none was looked at while anything was chosen
BOOT, SANDAL, T_SHIRT, TROUSER = 9, 5, 0, 1
N_SHOWN = 11  # images of a line

Floats = NDArray[np.float64]
Lit = NDArray[np.bool_]  # (n, 28, 28), whether a pixel is bright


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


def unequal(Z: Floats, D: Floats, rng: np.random.Generator) -> Any:
    """Add factors up that differ in strength."""
    return Z * rng.permutation(np.geomspace(0.5, 2, len(D))) @ D


def two_layers(Z: Floats, D: Floats, rng: np.random.Generator) -> Any:
    """Let every factor bear on every feature, through a random network."""
    k, p = D.shape
    A, B = rng.normal(size=(k, p)) / 3, rng.normal(size=(p, p)) / np.sqrt(p)
    return np.tanh(Z @ A) @ B


N_ROWS, TEST_SIZE = 5000, 0.4
KNOWN = {
    "linear": Known("linear, 5 classes", FACTORS),
    "unequal": Known("linear, strengths from 0.5 to 2", FACTORS, unequal),
    "saturating": Known("tanh of the linear one", FACTORS, lambda Z, D, _: np.tanh(Z @ D)),
    "mixed": Known("two layers, all factors in all features", FACTORS, two_layers),
    "two-global": Known("linear, 2 global factors", FACTORS | {"n_global": 2}),
    "no-global": Known("linear, no global factor", FACTORS | {"n_global": 0}),
    "2-classes": Known("linear, 2 classes", FACTORS | {"n_classes": 2, "n_shared": 0}),
    "20-classes": Known("linear, 20 classes", TABLES["factors_many"].parameters),
}


def load(task: Row) -> tuple[Split, Truth | None]:
    """Return the data of a run, and their factors if they are known."""
    name, seed = task["dataset"], FRESH_SEED + task["seed"]
    if name in IMAGES:
        return common.load_images(IMAGES[name], task["data_dir"], task["n_train"]), None
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


class Attribute(NamedTuple):
    """What is measured: a value of each image, and the classes in which it means something."""

    values: Floats
    classes: list[int]


@lru_cache(maxsize=2)
def attributes(dataset: str, data_dir: str | None) -> dict[str, Attribute]:
    """Return the attributes of the test images."""
    images = common.load_images(IMAGES[dataset], data_dir, 1).X_test.reshape(-1, 28, 28)
    if dataset == "mnist":
        found = moments(images.astype(float)) | {"thickness": thickness(images)}
        return {name: Attribute(found[name], list(range(10))) for name in ATTRIBUTES["mnist"]}
    lit = images > 0.2
    return {
        "heel": Attribute(heel_height(lit), [BOOT, SANDAL]),
        "sleeve": Attribute(sleeve_length(lit), [T_SHIRT]),
        "trouser": Attribute(trouser_width(lit), [TROUSER]),
    }


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


def heel_height(lit: Lit) -> Floats:
    """Return by how much the lower edge rises in the middle of a sole, in pixels."""
    lowest = np.where(lit.any(axis=1), 27 - lit[:, ::-1].argmax(axis=1), -1)  # of each column
    middle = np.where(lowest < 0, 27, lowest)[:, 10:20].min(axis=1)
    rise: Floats = (lowest.max(axis=1) - middle).astype(float)
    return rise


def sleeve_length(lit: Lit) -> Floats:
    """Return the share of rows in which something is lit beside the body, as wide as its hem."""
    hems = np.array([image[image.any(axis=1)][-5:-1].any(axis=0) for image in lit])
    beside = lit & ~ndimage.binary_dilation(hems, np.ones((1, 3)))[:, None]
    share: Floats = beside.any(axis=2).sum(axis=1) / lit.any(axis=2).sum(axis=1)
    return share


def trouser_width(lit: Lit) -> Floats:
    """Return how many pixels are lit in a row of the lower half: the two legs."""
    legs = lit[:, 14:]
    width: Floats = legs.sum((1, 2)) / np.maximum(legs.any(axis=2).sum(axis=1), 1)
    return width


def within_classes(Z: NDArray[Any], y: NDArray[Any], attribute: Attribute) -> Row:
    """Say how well one dimension, and one direction, tell an attribute within a class.

    `single`: mean over classes of the |rank correlation| among the samples that have a dimension,
    0 in a class of which fewer than half have it. `direction`: the same of a regression on all
    dimensions that nine tenths of every class have. Every other sample chooses, the rest judges.
    """
    judging, classes = np.arange(len(y)) % 2 == 1, attribute.classes
    rho = np.zeros((2, len(classes), Z.shape[1]))
    for half in (0, 1):
        for i, c in enumerate(classes):
            rows = (y == c) & (judging == half)
            for j in np.flatnonzero((Z[rows] != 0).mean(axis=0) >= 0.5):
                on = rows & (Z[:, j] != 0)
                rho[half, i, j] = rank_correlation(Z[on, j], attribute.values[on])
    best = int(rho[0].mean(axis=0).argmax())
    row: Row = {"single": float(rho[1, :, best].mean()), "best": best, "direction": None}
    everywhere = np.min([(Z[y == c] != 0).mean(axis=0) for c in classes], axis=0) > 0.9
    if everywhere.any():
        inputs, target = Z[:, everywhere].astype(float), attribute.values.copy()
        for c in classes:
            inputs[y == c] -= inputs[y == c].mean(axis=0)
            target[y == c] -= target[y == c].mean()
        rows = np.isin(y, classes) & ~judging
        told = LinearRegression().fit(inputs[rows], target[rows]).predict(inputs)
        judged = [(y == c) & judging for c in classes]
        row["direction"] = float(np.mean([rank_correlation(told[r], target[r]) for r in judged]))
    return row


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return |Spearman's correlation|; 0 for a constant."""
    return float(common.absolute_correlation(rankdata(a)[:, None], rankdata(b)[:, None]).item())


def draw_factors(
    dataset: str, data_dir: str | None, estimator: Any, dimensions: Mapping[str, int], names: Any
) -> Figure:
    """Draw real images by the value of a dimension, a line for each class with the attribute."""
    split, found = common.load_images(IMAGES[dataset], data_dir, 1), attributes(dataset, data_dir)
    Z, y = estimator.transform(split.X_test), split.y_test
    lines = [(name, j, c) for name, j in dimensions.items() for c in found[name].classes]
    size = (0.72 * N_SHOWN + 2.4, 0.74 * len(lines) + 0.5)
    figure, axes = plt.subplots(len(lines), figsize=size, squeeze=False, layout="constrained")
    for ax, (name, j, c) in zip(axes[:, 0], lines, strict=True):
        rows = np.flatnonzero((y == c) & (Z[:, j] != 0))
        order = rows[np.argsort(Z[rows, j])]
        ranks = np.linspace(0.01, 0.99, N_SHOWN) * (len(order) - 1)
        shown = split.X_test[order[ranks.round().astype(int)]].reshape(-1, 28, 28)
        ax.imshow(1 - np.hstack(shown), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        label = f"{names[c]}\ndimension {j}" if len(dimensions) > 1 else names[c]
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
        rho = rank_correlation(Z[rows, j], found[name].values[rows])
        ax.text(1.01, 0.5, f"{name}\n{rho:.2f}", transform=ax.transAxes, va="center")
    axes[0, 0].set_title("lowest value", loc="left")
    axes[0, 0].set_title("highest value", loc="right")
    return figure
