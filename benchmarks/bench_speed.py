"""How fast the package is: beside loops written by hand, the bare products, and its peers.

Every ratio is of runs interleaved in one process: A, B, C, then C, B, A, and so on, after a
warm-up of each. What has been measured is kept by section: start it again after an interruption,
and only what is missing runs.

    python benchmarks/bench_speed.py --quick
    python benchmarks/bench_speed.py --data-dir DIR --dictlearn    # on an otherwise idle machine
    python benchmarks/bench_speed.py --sections digits --fresh
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import _hand_loops as hand
import _speed_child as child
import _speed_page as page
import numpy as np
import torch
from _common import ResultStore, Row
from _hand_loops import Recipe, make_data
from _timing import epoch_of, interleave, timed
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning, VSCTransformer
from sklearn_classvsc.metrics import class_consistency_score

IMAGES = Recipe(n_features=784, n_hidden=400, n_components=50, n_classes=10, batch_size=256)
DIGITS = Recipe(n_features=64, n_hidden=64, n_components=16, n_classes=10, batch_size=128)
SMALL = Recipe(n_features=128, n_hidden=128, n_components=16, n_classes=32, batch_size=256)
DIGITS_EPOCHS = 20
N_NONZERO = 10  # of orthogonal matching pursuit
CHUNK = 1024  # rows of the bare forward pass
#: Instructions without which bfloat16 is emulated, and slow.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


class Settings(NamedTuple):
    """What the command line says."""

    quick: bool
    repeats: int
    threads: int
    data_dir: str | None
    dictlearn: bool

    @property
    def n_samples(self) -> int:
        """Rows of the large fits and transforms."""
        return 16 * 256 if self.quick else 60_000

    @property
    def doublings(self) -> int:
        """How often each number doubles."""
        return 1 if self.quick else 4


# -- sections ----------------------------------------------------------------------------------


def fit(settings: Settings) -> list[Row]:
    """Time an epoch of both objectives beside the hand loops, the products, skorch and pythae."""
    X, y = make_data(settings.n_samples, IMAGES.n_features, IMAGES.n_classes)
    epochs, n_steps = settings.repeats + 1, -(-len(X) // IMAGES.batch_size)
    rows = []
    for section, recipe in {"fit": IMAGES, "fit-vsc": IMAGES._replace(n_classes=0)}.items():
        plain, lean = (loop(recipe, X, y, epochs) for loop in (hand.PlainLoop, hand.LeanLoop))
        systems: dict[str, Callable[[], Any]] = {
            "package": epoch_of(recipe.estimator(), X, y),
            "plain": plain.epoch,
            "lean": lean.epoch,
            "skorch": hand.SkorchLoop(recipe, X, y, epochs).epoch,
            "products": bare(recipe, n_steps),
        }
        try:
            systems["pythae"] = hand.PythaeLoop(recipe, X, y, epochs).epoch
        except ImportError as error:
            rows.append(absent(section, "pythae", f"{error}: `pip install pythae`"))
        rows += interleave(section, systems, settings.repeats, n_steps)
        assert np.isfinite(plain.losses + lean.losses).all(), "not a training"
    return rows


def absent(section: str, name: str, why: str) -> Row:
    """Return the row of what cannot be measured here."""
    return {"section": section, "name": name, "absent": why}


def bare(recipe: Recipe, n_steps: int, dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Return the matrix products of so many steps."""
    products = hand.BareProducts(recipe, dtype)
    return lambda: products.run(n_steps)


def bfloat16(settings: Settings) -> list[Row]:
    """Time an epoch in bfloat16 beside float32, and compare what a fit reaches."""
    if not BFLOAT16_FLAGS & set(page.cpu_flags()):
        return [absent("bfloat16", "package", "not on this processor")]
    X, y = make_data(settings.n_samples, IMAGES.n_features, IMAGES.n_classes)
    n_steps = -(-len(X) // IMAGES.batch_size)
    both = ("float32", "bfloat16")
    systems = {name: epoch_of(IMAGES.estimator(precision=name), X, y) for name in both}
    systems |= {f"products, {name}": bare(IMAGES, n_steps, getattr(torch, name)) for name in both}
    rows = interleave("bfloat16", systems, settings.repeats, n_steps)
    data, split = load_split(settings, n_train=5_000 if settings.quick else 20_000)
    for name in both:
        epochs = 2 if settings.quick else 10
        estimator = IMAGES.estimator(precision=name, max_epochs=epochs)
        estimator.fit(split.X_train, split.y_train)
        Z = estimator.transform(split.X_test)
        rows.append(
            {
                "section": "bfloat16",
                "name": f"quality, {name}",
                "data": f"{data}, {len(split.X_train):,} rows, {epochs} epochs",
                "explained_variance": common.explained_variance(
                    split.X_test, estimator.inverse_transform(Z)
                ),
                "consistency": class_consistency_score(Z, split.y_test),
            }
        )
    return rows


def digits(settings: Settings) -> list[Row]:
    """Time whole fits of a small table: building, checking and all."""
    X, y = load_digits(return_X_y=True)
    X, epochs = (X / 16).astype(np.float32), DIGITS_EPOCHS

    def by(loop: type[Any]) -> Callable[[], None]:
        def train() -> None:
            built = loop(DIGITS, X, y, epochs)
            for _ in range(epochs):
                built.epoch()

        return train

    model = DIGITS.estimator(max_epochs=epochs, learning_rate=hand.LEARNING_RATE)
    systems: dict[str, Callable[[], Any]] = {
        "package": lambda: model.fit(X, y),
        "plain": by(hand.PlainLoop),
        "lean": by(hand.LeanLoop),
        "skorch": lambda: hand.SkorchLoop(DIGITS, X, y, epochs).fit(epochs),
        "products": bare(DIGITS, epochs * 15),
    }
    return interleave("digits", systems, settings.repeats, epochs * 15)


class _Classless(ClassVSCTransformer):
    """The same model without the terms of the classes: VSC's objective instead."""

    prior = "fixed"

    def _objective(self) -> Any:
        return VSCTransformer._objective(self)


def classes(settings: Settings) -> list[Row]:
    """Time steps with and without the terms of the classes."""
    rows = []
    n_steps = 20 if settings.quick else 60
    for n_classes in (10, 1000):
        X, y = make_data(n_steps * IMAGES.batch_size, IMAGES.n_features, n_classes)
        weights = {"usage_weight": 1.0, "information_weight": 1.0, "kl_weight": 1.0}
        systems = {
            f"{objective}, {n_classes}, {label}": epoch_of(
                maker(
                    IMAGES.n_components,
                    objective=objective,
                    hidden_layer_sizes=(IMAGES.n_hidden,),
                    batch_size=IMAGES.batch_size,
                    random_state=0,
                    **weights,
                ),
                X,
                y,
            )
            for objective in ("balanced", "paper")
            for label, maker in (("with", ClassVSCTransformer), ("without", _Classless))
        }
        # A small difference of short runs: more of them.
        rows += interleave("classes", systems, 3 * settings.repeats, n_steps)
    return rows


def transform(settings: Settings) -> list[Row]:
    """Time `transform` beside the bare forward pass and the transforms of its peers."""
    X, y = make_data(settings.n_samples, IMAGES.n_features, IMAGES.n_classes)
    few = slice(0, 2_000)  # of what is slow; its time is linear in the rows
    model = IMAGES.estimator(max_epochs=1).fit(X[:5_120], y[:5_120])
    encoder = hand.PlainNet(IMAGES).encoder.eval()
    W = [layer.weight for layer in encoder if isinstance(layer, torch.nn.Linear)]
    x, Z = torch.from_numpy(X), torch.empty(len(X), 3 * IMAGES.n_components)
    peers = {
        "OMP": MiniBatchDictionaryLearning(
            IMAGES.n_components,
            max_iter=2,
            transform_algorithm="omp",
            transform_n_nonzero_coefs=N_NONZERO,
            random_state=0,
        ),
        "PCA": PCA(IMAGES.n_components, random_state=0),
        "NMF": NMF(IMAGES.n_components, max_iter=20, random_state=0),
    }
    for peer in peers.values():
        peer.fit(X[few])

    def through(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        def forward() -> None:
            with torch.inference_mode():
                for start in range(0, len(x), CHUNK):
                    rows = slice(start, start + CHUNK)
                    Z[rows] = function(x[rows])

        return forward

    systems: dict[str, Callable[[], Any]] = {
        "package": lambda: model.transform(X),
        "forward pass": through(encoder),
        "products": through(lambda x: x @ W[0].T @ W[1].T),
        "OMP": lambda: peers["OMP"].transform(X[few]),
        "PCA": lambda: peers["PCA"].transform(X),
        "NMF": lambda: peers["NMF"].transform(X[few]),
    }
    rows = interleave("transform", systems, settings.repeats)
    for row in rows:
        row["rows"] = few.stop if row["name"] in ("OMP", "NMF") else len(X)
        row["shown_rows"] = len(X)
    return rows


def load_split(settings: Settings, n_train: int) -> tuple[str, common.Split]:
    """Return Fashion-MNIST, or data of its shape where it is not at hand."""
    n_test = 2_000 if settings.quick else 10_000
    try:
        return "Fashion-MNIST", common.load_images(
            "Fashion-MNIST", settings.data_dir, n_train, n_test
        )
    except (OSError, ValueError) as error:
        print(f"generated data instead of Fashion-MNIST: {error}")
    X, y = make_data(n_train + n_test, IMAGES.n_features, IMAGES.n_classes)
    return "generated", common.Split(X[:n_train], X[n_train:], y[:n_train], y[n_train:])


def peers(settings: Settings) -> list[Row]:
    """Time fits and transforms of what people would use instead, with a probe of the codes."""
    data, split = load_split(settings, n_train=1_000 if settings.quick else 10_000)
    d, seed = IMAGES.n_components, {"random_state": 0}
    makers: dict[str, Callable[[], Any]] = {
        "ClassVSCTransformer": lambda: IMAGES.estimator(
            max_epochs=20 if settings.quick else "auto"
        ),
        "PCA": lambda: PCA(d, **seed),
        "NMF": lambda: NMF(d, init="nndsvda", **seed),
        "MiniBatchDictionaryLearning": lambda: MiniBatchDictionaryLearning(
            d, transform_algorithm="omp", transform_n_nonzero_coefs=N_NONZERO, **seed
        ),
    }
    repeats = 1 if settings.quick else 3
    if settings.dictlearn:
        from bench_paper import LabelConsistentDictionary

        makers["LCDLClassifier"] = lambda: LabelConsistentDictionary(**seed)
    rows: dict[str, Row] = {
        name: {"section": "peers", "name": name, "data": data, "rows": len(split.X_train)}
        | {"wall": [], "transform": []}
        for name in makers
    }
    for i in range(repeats):
        for name in list(makers)[:: -1 if i % 2 else 1]:
            if i and name == "LCDLClassifier":
                continue  # minutes each
            estimator = makers[name]()
            rows[name]["wall"].append(
                timed(lambda e=estimator: e.fit(split.X_train, split.y_train)).wall
            )
            rows[name]["transform"].append(
                timed(lambda e=estimator: e.transform(split.X_test)).wall
            )
            if not i:
                codes = [estimator.transform(X)[:5_000] for X in (split.X_train, split.X_test)]
                rows[name]["accuracy"] = common.linear_accuracy(
                    codes[0], split.y_train[:5_000], codes[1], split.y_test[:5_000]
                )
    left_out = []
    if not settings.dictlearn:
        why = "not asked for with `--dictlearn`"
        if find_spec("dictlearn") is None:
            why = "not installed: `pip install dictlearn`, then `--dictlearn`"
        left_out = [absent("peers", "LCDLClassifier", why)]
    return [*rows.values(), *left_out]


def growth(settings: Settings) -> list[Row]:
    """Time an epoch and measure the memory while one number doubles and the others stay."""
    rows = []

    @cache  # the sizes that all doublings start from
    def memory_of(n: int, recipe: Recipe) -> Row:
        return child.call("memory", n_samples=n, threads=settings.threads, **recipe._asdict())

    for axis, sizes in growth_sizes(settings).items():
        systems = {
            str(size): epoch_of(
                recipe.estimator(), *make_data(n, recipe.n_features, recipe.n_classes)
            )
            for size, (n, recipe) in sizes.items()
        }
        timings = {row["name"]: row for row in interleave("growth", systems, settings.repeats)}
        for size, (n, recipe) in sizes.items():
            row = timings[str(size)] | {"name": f"{axis} {size}", "axis": axis, "size": size}
            rows.append(row | memory_of(n, recipe))
    return rows


def growth_sizes(settings: Settings) -> dict[str, dict[int, tuple[int, Recipe]]]:
    """Return, for each number that doubles, its values with the rows and sizes of a fit."""
    doubled = [2**k for k in range(settings.doublings + 1)]
    n = 2_048
    sizes = {"samples": {n * k: (n * k, SMALL) for k in doubled}}
    for axis, field in (
        ("features", "n_features"),
        ("dimensions", "n_components"),
        ("classes", "n_classes"),
    ):
        start = getattr(SMALL, field)
        sizes[axis] = {start * k: (n, SMALL._replace(**{field: start * k})) for k in doubled}
    return sizes


def memory(settings: Settings) -> list[Row]:
    """Measure the memory of a fit beyond the data."""
    found = child.call(
        "memory", n_samples=settings.n_samples, threads=settings.threads, **IMAGES._asdict()
    )
    return [{"section": "memory", "name": "fit", "rows": settings.n_samples} | found]


def imports(settings: Settings) -> list[Row]:
    """Time imports, each in fresh interpreters."""
    estimators = "from sklearn_classvsc import ClassVSCTransformer"
    needed = (
        "import torch, numpy, scipy.sparse, pandas, skorch, sklearn.base, sklearn.preprocessing"
    )
    cases = {
        "torch": ("", "import torch"),
        "package": ("import torch", "import sklearn_classvsc"),
        "estimators": ("import torch", estimators),
        "estimators, libraries imported": (needed, estimators),
        "metrics": ("", "import sklearn_classvsc.metrics"),
    }
    rows: dict[str, Row] = {
        name: {"section": "imports", "name": name, "first": first, "then": then, "wall": []}
        for name, (first, then) in cases.items()
    }
    for _ in range(1 if settings.quick else settings.repeats):
        for name, (first, then) in cases.items():
            found = child.call("imports", first=first, then=then)
            rows[name]["wall"].append(found["wall"])
            rows[name]["torch"] = found["torch"]
    return list(rows.values())


def unpickling(settings: Settings) -> list[Row]:
    """Time the first and the second transform after unpickling."""
    X, y = make_data(1_000, IMAGES.n_features, IMAGES.n_classes)
    saved = pickle.dumps(IMAGES.estimator(max_epochs=2).fit(X, y))
    timings: dict[str, list[float]] = {"load": [], "first transform": [], "second transform": []}
    for _ in range(settings.repeats + 1):
        with common.Stopwatch() as watch:
            loaded = pickle.loads(saved)
        timings["load"].append(watch.seconds)
        for name in list(timings)[1:]:
            with common.Stopwatch() as watch:
                loaded.transform(X)
            timings[name].append(watch.seconds)
    rows = [
        {"section": "unpickling", "name": name, "wall": walls[1:]}
        for name, walls in timings.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pickle"
        path.write_bytes(saved)
        fresh = [
            child.call("first_calls", threads=settings.threads, path=str(path), **IMAGES._asdict())
            for _ in range(1 if settings.quick else settings.repeats)
        ]
    return rows + [
        {"section": "unpickling", "name": f"fresh, {name}", "wall": [run[name] for run in fresh]}
        for name in fresh[0]
    ]


def same_mathematics() -> Row:
    """Check that the hand loops do what the package does; an error if not."""
    recipes = [r._replace(n_classes=c) for r in (IMAGES, DIGITS) for c in (r.n_classes, 0)]
    differences = [hand.check_same_mathematics(recipe) for recipe in recipes]
    largest = {name: max(d[name] for d in differences) for name in differences[0]}
    print("same mathematics: " + ", ".join(f"{name} {x:.1e}" for name, x in largest.items()))
    return {"section": "check", "name": "same mathematics", "differences": largest}


SECTIONS: dict[str, Callable[[Settings], list[Row]]] = {
    work.__name__: work
    for work in (
        fit, bfloat16, digits, classes, transform, peers, growth, memory, imports, unpickling
    )
}  # fmt: skip


# -- command line ------------------------------------------------------------------------------


def run(settings: Settings, sections: list[str], store: ResultStore, fresh: bool) -> None:
    """Measure the sections that are missing, one after the other."""
    done = {row["measured"] for row in latest(store, settings.threads)}
    missing = [name for name in sections if fresh or name not in done]
    rows = [same_mathematics()] if missing else []
    for name in missing:
        when = {"measured": name, "when": time.time(), "load": os.getloadavg()[0]}
        with common.Stopwatch() as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)  # a code after one epoch
            warnings.simplefilter("ignore", ConvergenceWarning)  # of peers, at their defaults
            rows += SECTIONS[name](settings)
        print(f"{name}: {watch.seconds:.0f} s", flush=True)
        for row in rows:
            row |= when | {"threads": settings.threads}
            store.append(row | {"environment": common.environment(["pythae", "dictlearn"])})
        rows = []


def latest(store: ResultStore, threads: int) -> list[Row]:
    """Return the rows of the last run of each section."""
    rows = [row for row in store.rows.values() if row["threads"] == threads]
    last: dict[str, float] = {}
    for row in rows:
        last[row["measured"]] = max(row["when"], last.get(row["measured"], 0.0))
    return [
        row for row in rows if row["section"] == "check" or row["when"] == last[row["measured"]]
    ]


def main() -> int:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="3 repeats of less data: under 2 minutes")
    add("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    add("--repeats", type=int, help="rounds of interleaved runs; default: 7, 3 with --quick")
    add("--threads", type=int, default=1, help="of torch and the BLAS; joblib's workers have one")
    add("--data-dir", help="directory of Fashion-MNIST's IDX files; by default OpenML's is used")
    add("--dictlearn", action="store_true", help="with dictlearn's LCDLClassifier: minutes more")
    add("--fresh", action="store_true", help="measure again what has been measured")
    a = parser.parse_args()
    if a.dictlearn and find_spec("dictlearn") is None:
        parser.error("dictlearn is not installed: pip install dictlearn")
    settings = Settings(
        a.quick, a.repeats or (3 if a.quick else 7), a.threads, a.data_dir, a.dictlearn
    )
    results = common.RESULTS / ("quick" if a.quick else "")
    store = ResultStore(results / "bench_speed.jsonl", ["section", "name", "threads"])
    torch.set_num_threads(a.threads)
    with threadpool_limits(a.threads):
        run(settings, a.sections, store, a.fresh)
    folder = results if a.quick else common.DOCS
    page.write_page(folder, latest(store, a.threads), a.quick, a.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
