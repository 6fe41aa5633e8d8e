"""How fast the package is: beside loops written by hand, the bare products, and its peers.

Every ratio is of runs interleaved in one process: A, B, C, then C, B, A, and so on, after a warm-up
of each. What has been measured is kept by section: start it again after an interruption, and only
what is missing runs.

    python benchmarks/bench_speed.py --quick
    python benchmarks/bench_speed.py --data-dir DIR --extra    # on an idle machine, with dictlearn
    python benchmarks/bench_speed.py --only digits --fresh
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import _hand_loops as hand
import numpy as np
import torch
from _common import Row, spread
from _harness import epoch_of, in_own_process, interleave, timed
from numpy.typing import NDArray
from reference_loss import LEARNING_RATE, Recipe, ReferenceNet, make_data
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from skorch.callbacks import Callback

from sklearn_classvsc.metrics import class_consistency_score

IMAGES = Recipe(n_features=784, n_hidden=400, n_components=50, n_classes=10, batch_size=256)
DIGITS = Recipe(n_features=64, n_hidden=64, n_components=16, n_classes=10, batch_size=128)
SMALL = Recipe(n_features=128, n_hidden=128, n_components=16, n_classes=32, batch_size=256)
DIGITS_EPOCHS = 20
OMP = {"transform_algorithm": "omp", "transform_n_nonzero_coefs": 10, "random_state": 0}
AXES = {"samples": "n_samples", "features": "n_features"}
AXES |= {"dimensions": "n_components", "classes": "n_classes"}
#: Instructions without which bfloat16 is emulated, and slow.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
Rows = Mapping[str, Mapping[str, Row]]  # by section and name


def rows_of(
    systems: Mapping[str, Callable[[], Any]], repeats: int, each: float = 1.0, unit: float = 1e3
) -> list[Row]:
    """Time systems in turn, in milliseconds a step, or what `each` counts."""
    timings = interleave(systems, repeats)
    return [
        {"name": name} | {k: (unit / each * np.array(v)).tolist() for k, v in timing.items()}
        for name, timing in timings.items()
    ]


# -- sections ----------------------------------------------------------------------------------


def fit(task: Row, objective: str = "balanced") -> list[Row]:
    """Time an epoch beside the hand loops, the products, skorch and pythae."""
    recipe = IMAGES._replace(objective=objective)
    X, y = make_data(task["n_samples"], recipe.n_features, recipe.n_classes)
    epochs, n_steps = task["repeats"] + 1, -(-len(X) // recipe.batch_size)
    loops = {"plain loop": hand.PlainLoop, "lean loop": hand.LeanLoop, "skorch": hand.SkorchLoop}
    built = {name: loop(recipe, X, y, epochs) for name, loop in loops.items()}
    systems = {"package": epoch_of(recipe.estimator(), X, y)}
    systems |= {name: loop.epoch for name, loop in built.items()}
    systems["products"] = partial(hand.BareProducts(recipe).run, n_steps)
    try:
        systems["pythae"] = hand.PythaeLoop(recipe, X, y, epochs).epoch
    except ImportError:
        print("not measured: pythae (`pip install pythae`)")
    rows = rows_of(systems, task["repeats"], n_steps)
    assert np.isfinite(built["plain loop"].losses + built["lean loop"].losses).all()
    return rows


def bfloat16(task: Row) -> list[Row]:
    """Time an epoch in bfloat16 beside float32, and compare what a fit reaches."""
    info = Path("/proc/cpuinfo")
    if not BFLOAT16_FLAGS & set(info.read_text().split() if info.exists() else ()):
        return []
    X, y = make_data(task["n_samples"], IMAGES.n_features, IMAGES.n_classes)
    n_steps = -(-len(X) // IMAGES.batch_size)
    both = {"float32": "cpu", "bfloat16": "cpu+bfloat16"}
    systems = {name: epoch_of(IMAGES.estimator(device=at), X, y) for name, at in both.items()}
    for name in both:
        products = hand.BareProducts(IMAGES, getattr(torch, name))
        systems[f"products, {name}"] = partial(products.run, n_steps)
    rows = rows_of(systems, task["repeats"], n_steps)
    n_train, epochs = (5000, 2) if task["quick"] else (20_000, 10)
    split = load_split(task, n_train)
    for row in rows[:2]:
        estimator = IMAGES.estimator(device=both[row["name"]], max_epochs=epochs)
        Z = estimator.fit(split.X_train, split.y_train).transform(split.X_test)
        row["explained variance"] = common.explained_variance(estimator, split.X_test)
        row["class consistency"] = class_consistency_score(Z, split.y_test)
    return rows


def digits(task: Row) -> list[Row]:
    """Time whole fits of a small table: building, checking and all."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    model = DIGITS.estimator(max_epochs=DIGITS_EPOCHS, learning_rate=LEARNING_RATE)

    def train(loop: Any) -> None:
        built = loop(DIGITS, X, y, DIGITS_EPOCHS)
        for _ in range(DIGITS_EPOCHS):
            built.epoch()

    n_steps = DIGITS_EPOCHS * -(-len(X) // DIGITS.batch_size)
    systems: dict[str, Callable[[], Any]] = {
        "package": lambda: model.fit(X, y),
        "plain loop": partial(train, hand.PlainLoop),
        "lean loop": partial(train, hand.LeanLoop),
        "skorch": lambda: hand.SkorchLoop(DIGITS, X, y, DIGITS_EPOCHS).epoch(DIGITS_EPOCHS),
        "products": partial(hand.BareProducts(DIGITS).run, n_steps),
    }
    return rows_of(systems, task["repeats"], n_steps)


def classes(task: Row) -> list[Row]:
    """Time steps with the terms of the classes, and of VSC, which has none, in the same layers."""
    rows, n_steps = [], 20 if task["quick"] else 60
    for n_classes in (10, 1000):
        recipe = IMAGES._replace(n_classes=n_classes)
        data = make_data(n_steps * IMAGES.batch_size, IMAGES.n_features, n_classes)
        systems = {
            f"{objective}, {n_classes} classes": epoch_of(
                recipe._replace(objective=objective).estimator(), *data
            )
            for objective in ("balanced", "paper", "vsc")
        }
        rows += rows_of(systems, 3 * task["repeats"], n_steps)  # of a small difference: more
    return rows


def transform(task: Row) -> list[Row]:
    """Time `transform` beside the bare forward pass and the transforms of its peers."""
    X, y = make_data(task["n_samples"], IMAGES.n_features, IMAGES.n_classes)
    few = X[:2000]  # of what is slow; its time is linear in the rows
    model = IMAGES.estimator(max_epochs=1).fit(X[:5120], y[:5120])
    encoder = ReferenceNet(IMAGES).encoder.eval()
    W = [layer.weight for layer in encoder if isinstance(layer, torch.nn.Linear)]
    x, Z = torch.from_numpy(X), torch.empty(len(X), 3 * IMAGES.n_components)
    omp = MiniBatchDictionaryLearning(IMAGES.n_components, max_iter=2, **OMP).fit(few)
    pca = PCA(IMAGES.n_components, random_state=0).fit(few)
    nmf = NMF(IMAGES.n_components, max_iter=20, random_state=0).fit(few)

    def through(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with torch.inference_mode():
            for start in range(0, len(x), 1024):
                Z[start : start + 1024] = function(x[start : start + 1024])

    systems: dict[str, Callable[[], Any]] = {
        "package": lambda: model.transform(X),
        "forward pass": partial(through, encoder),
        "products": partial(through, lambda x: x @ W[0].T @ W[1].T),
        "PCA": lambda: pca.transform(X),
        "OMP": lambda: omp.transform(few),
        "NMF": lambda: nmf.transform(few),
    }
    rows = rows_of(systems, task["repeats"], len(X) / 1000)
    for row in rows[-2:]:
        row |= {k: [x * len(X) / len(few) for x in row[k]] for k in ("wall", "cpu")}
    return rows


def load_split(task: Row, n_train: int) -> common.Split:
    """Return Fashion-MNIST, or data of its shape where it is not at hand."""
    n_test = 2000 if task["quick"] else 10_000
    try:
        return common.load_images("Fashion-MNIST", task["data_dir"], n_train, n_test)
    except (OSError, ValueError) as error:
        print(f"generated data instead of Fashion-MNIST: {error}")
    X, y = make_data(n_train + n_test, IMAGES.n_features, IMAGES.n_classes)
    return common.Split(X[:n_train], X[n_train:], y[:n_train], y[n_train:])


def peers(task: Row) -> list[Row]:
    """Time fits and transforms of what people would use instead, with a probe of the codes."""
    split = load_split(task, 1000 if task["quick"] else 10_000)
    d = IMAGES.n_components
    makers: dict[str, Callable[[], Any]] = {
        "package": lambda: IMAGES.estimator(max_epochs=20 if task["quick"] else "auto"),
        "PCA": lambda: PCA(d, random_state=0),
        "NMF": lambda: NMF(d, init="nndsvda", random_state=0),
        "MiniBatchDictionaryLearning": lambda: MiniBatchDictionaryLearning(d, **OMP),
    }
    if task["extra"]:
        from bench_systems import LabelConsistentDictionary

        makers["LCDLClassifier"] = lambda: LabelConsistentDictionary(d, random_state=0)
    rows = {name: {"name": name, "fit, s": [], "transform, s": []} for name in makers}
    for i in range(1 if task["quick"] else 3):
        for name in list(makers)[:: -1 if i % 2 else 1]:
            if i and name == "LCDLClassifier":
                continue  # minutes each
            row, model = rows[name], makers[name]()
            row["fit, s"].append(timed(lambda m=model: m.fit(split.X_train, split.y_train))[0])
            row["transform, s"].append(timed(lambda m=model: m.transform(split.X_test))[0])
            codes = [model.transform(X)[:5000] for X in (split.X_train, split.X_test)]
            labels = split.y_train[:5000], split.y_test[:5000]
            row["accuracy"] = common.linear_accuracy(codes[0], labels[0], codes[1], labels[1])
    return list(rows.values())


def growth(task: Row) -> list[Row]:
    """Time an epoch and measure the memory while one number doubles and the others stay."""
    rows, start = [], SMALL._asdict() | {"n_samples": 2048}
    for axis, field in AXES.items():
        doubled = [start[field] * 2**k for k in range(2 if task["quick"] else 5)]
        sizes = {str(size): start | {field: size} for size in doubled}
        systems = {}
        for name, size in sizes.items():
            n = size["n_samples"]
            recipe = Recipe(**{k: v for k, v in size.items() if k != "n_samples"})
            data = make_data(n, recipe.n_features, recipe.n_classes)
            systems[name] = epoch_of(recipe.estimator(), *data)
        for row in rows_of(systems, task["repeats"]):
            size = sizes[row["name"]]
            found = in_own_process(memory_of_fit, threads=task["threads"], **size)
            rows.append(row | {"name": f"{row['name']} {axis}", "MB": found["together"]})
    return rows


def memory(task: Row) -> list[Row]:
    """Measure the memory of a fit beyond the data."""
    size = IMAGES._asdict() | {"n_samples": task["n_samples"]}
    found = in_own_process(memory_of_fit, threads=task["threads"], **size)
    return [{"name": name, "MB": value} for name, value in found.items()]


def memory_of_fit(n_samples: int, **recipe: Any) -> Row:
    """Fit one epoch; return what was allocated exactly, in MB.

    It is in torch's own record and NumPy's (`tracemalloc`), each of a fit of its own. Their peaks
    before, during and after the training are added; within one of these three they need not
    coincide, so that the largest sum is an upper bound.
    """
    size = Recipe(**recipe)
    model = size.estimator(max_epochs=1)
    tiny = make_data(64, size.n_features, min(size.n_classes, 32))
    size._replace(n_hidden=8, n_components=8).estimator(max_epochs=2).fit(*tiny)  # all imports
    X, y = make_data(n_samples, size.n_features, size.n_classes)

    def train(mark: Callable[[], None]) -> None:
        model.set_params(callbacks=[Phases(mark)]).fit(X, y)

    tensors, arrays = torch_peaks(train), numpy_peaks(train)
    found = {
        "data": X.nbytes,
        "3 batches": 3 * 4 * size.batch_size * size.n_features,
        "4 x the model": 4 * 4 * sum(p.numel() for p in model.module_.parameters()),
        "tensors at their peak": max(tensors),
        "arrays and objects at their peak": max(arrays),
        "together": max(map(sum, zip(tensors, arrays, strict=True))),
    }
    return {name: value / 1e6 for name, value in found.items()}


class Phases(Callback):
    """Call `mark` where training begins and where it ends."""

    def __init__(self, mark: Callable[[], None]) -> None:
        self.mark = mark

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Mark."""
        self.mark()

    on_train_end = on_train_begin


def torch_peaks(work: Callable[[Callable[[], None]], None]) -> list[int]:
    """Return the most bytes of tensors at one time, until each call of `mark` and to the end."""
    from torch.profiler import ProfilerActivity, profile, record_function

    def mark() -> None:
        with record_function("mark"):
            pass

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work(mark)
    with tempfile.TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    held, peaks = 0, [0]
    events = [event for event in events if event.get("name") in ("[memory]", "mark")]
    for event in sorted(events, key=lambda event: float(event["ts"])):
        if event["name"] == "mark":
            peaks.append(held)
        else:
            held += event["args"]["Bytes"]
            peaks[-1] = max(peaks[-1], held)
    return peaks


def numpy_peaks(work: Callable[[Callable[[], None]], None]) -> list[int]:
    """Return the most bytes of arrays and Python's objects at one time, as `torch_peaks` does."""
    peaks = []

    def mark() -> None:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        work(mark)
        mark()
    finally:
        tracemalloc.stop()
    return peaks


def imports(task: Row) -> list[Row]:
    """Time imports, each in fresh interpreters."""
    estimators = "from sklearn_classvsc import ClassVSCTransformer"
    needed = (
        "import torch, numpy, scipy.sparse, pandas, skorch, sklearn.base, sklearn.preprocessing"
    )
    cases = {
        "torch": ("pass", "import torch"),
        "package, after torch": ("import torch", "import sklearn_classvsc"),
        "estimators, after torch": ("import torch", estimators),
        "estimators, after all libraries": (needed, estimators),
        "metrics": ("pass", "import sklearn_classvsc.metrics"),
    }
    rows = {name: {"name": name, "s": []} for name in cases}
    for _ in range(1 if task["quick"] else task["repeats"]):
        for name, (first, then) in cases.items():
            code = f"import sys, time\n{first}\nstart = time.perf_counter()\n{then}\n"
            code += "print(time.perf_counter() - start, int('torch' in sys.modules))"
            run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            seconds, rows[name]["torch is imported"] = map(float, run.stdout.split())
            rows[name]["s"].append(seconds)
    return list(rows.values())


def unpickling(task: Row) -> list[Row]:
    """Time the first and the second transform after unpickling, here and in fresh processes."""
    X, y = make_data(1000, IMAGES.n_features, IMAGES.n_classes)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.pickle"
        Path(path).write_bytes(pickle.dumps(IMAGES.estimator(max_epochs=2).fit(X, y)))
        here = [first_calls(path) for _ in range(task["repeats"] + 1)][1:]
        n = 1 if task["quick"] else task["repeats"]
        fresh = [in_own_process(first_calls, path, threads=task["threads"]) for _ in range(n)]
    return [
        {"name": name, "ms": [run[name] for run in here], "ms, fresh": [r[name] for r in fresh]}
        for name in here[0]
    ]


def first_calls(path: str) -> Row:
    """Return the milliseconds of loading a pickle, and of what is first done with it."""
    X, y = make_data(1000, IMAGES.n_features, IMAGES.n_classes)
    found: Row = {}

    def note(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        out = work()
        found[name] = 1e3 * (time.perf_counter() - start)
        return out

    model = note("load", lambda: pickle.loads(Path(path).read_bytes()))
    for name in ("first transform", "second transform"):
        note(name, lambda: model.transform(X))
    for name in ("first fit", "second fit"):
        note(name, lambda: IMAGES.estimator(max_epochs=1).fit(X, y))
    return found


class Section(NamedTuple):
    """What is timed: its heading, the work, and the systems that the others are compared with."""

    heading: str
    work: Callable[[Row], list[Row]]
    beside: Sequence[str] = ()


SECTIONS = {
    "fit": Section("Fit: ms a step, 784-400-50, batch 256", fit, ("lean loop", "products")),
    "fit-vsc": Section("The same with VSC's", partial(fit, objective="vsc"), ("lean loop",)),
    "bfloat16": Section("The same in bfloat16", bfloat16, ("float32",)),
    "digits": Section("Fit: ms a step, 64-64-16, batch 128", digits, ("lean loop", "skorch")),
    "classes": Section("What the terms of the classes cost: ms a step", classes),
    "transform": Section("Transform: ms for 1,000 rows", transform, ("forward pass",)),
    "peers": Section("Beside what people would use instead", peers),
    "growth": Section("Growth: ms an epoch", growth),
    "memory": Section("Memory of a fit", memory),
    "imports": Section("Imports", imports),
    "unpickling": Section("After unpickling", unpickling),
}


# -- targets -----------------------------------------------------------------------------------


def ratio(section: str, a: str, b: str, field: str = "wall") -> Callable[[Rows], Any]:
    """Return how many times as long `a` took as `b`, in each round."""

    def figure(rows: Rows) -> Any:
        both = rows[section][a][field], rows[section][b][field]
        return np.divide(*(x[: min(map(len, both))] for x in both))

    return figure


def gap(section: str, a: str, b: str, field: str, f: Callable[[float], float] = float) -> Any:
    """Return how far a figure of `b` is beyond that of `a`."""
    return lambda rows: np.array([f(rows[section][b][field] - rows[section][a][field])])


def class_share(objective: str, n: int) -> Callable[[Rows], Any]:
    """Return the percentage of a step that the terms of the classes cost, by processor time."""
    of_vsc = ratio("classes", f"vsc, {n} classes", f"{objective}, {n} classes", "cpu")
    return lambda rows: 100 * (1 - of_vsc(rows))


def points(rows: Rows, axis: str, field: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the sizes of a number that doubles, and the median of a field at each."""
    found = [row for name, row in rows["growth"].items() if name.endswith(axis)]
    sizes = np.array([int(row["name"].split()[0]) for row in found])
    return sizes, np.array([np.median(row[field]) for row in found])


def slope(axis: str, field: str) -> Callable[[Rows], Any]:
    """Return the slope of a number that doubles, in logarithms."""
    return lambda rows: np.polyfit(*np.log(points(rows, axis, field)), 1)[:1]


def memory_share(rows: Rows) -> Any:
    """Return the memory of a fit over what it may be."""
    MB = {name: row["MB"] for name, row in rows["memory"].items()}
    return np.array([MB["together"] / (MB["3 batches"] + MB["4 x the model"])])


def beyond_loading(rows: Rows) -> Any:
    """Return the first transform over the second plus the loading, in each round."""
    ms = {name: np.array(row["ms"]) for name, row in rows["unpickling"].items()}
    return ms["first transform"] / (ms["second transform"] + ms["load"])


class Target(NamedTuple):
    """A figure to reach, by the median of the rounds."""

    work: str
    asked: str  # with the bound in its place
    bound: float
    figure: Callable[[Rows], Any]
    shown: str = "{:.2f}"

    def cells(self, rows: Rows) -> list[str]:
        """Return the row of the table; of a section or system that was not measured, too."""
        asked = self.asked.format(self.bound)
        try:
            values = self.figure(rows)
        except KeyError:
            return [self.work, asked, "not measured", "-"]
        middle = float(np.median(values))
        met = middle >= self.bound if asked.startswith(">=") else middle <= self.bound
        return [self.work, asked, spread(values, self.shown), common.VERDICTS[met]]


def imported(name: str, field: str = "s") -> Callable[[Rows], Any]:
    """Return the least of the figures of an import."""
    return lambda rows: np.array([np.min(rows["imports"][name][field])])


LCDL, BOTH = "LCDLClassifier", ("float32", "bfloat16")
TARGETS = [
    *(
        Target(f"fit, {label}", f"<= {{}} x the {b}", bound, ratio(section, "package", b))
        for section, label in (("fit", "ClassVSC"), ("fit-vsc", "VSC"))
        for b, bound in (("plain loop", 0.75), ("lean loop", 1.03), ("products", 1.3))
    ),
    Target("fit, bfloat16", "<= {} x float32", 0.7, ratio("bfloat16", *BOTH[::-1])),
    *(
        Target("fit, bfloat16", f"{f} within {{}}", 0.01, gap("bfloat16", *BOTH, f, abs), "{:.4f}")
        for f in ("explained variance", "class consistency")
    ),
    Target("digits", "<= {} x the lean loop", 1.25, ratio("digits", "package", "lean loop")),
    Target("digits", ">= {} x skorch's speed", 4, ratio("digits", "skorch", "package")),
    *(
        Target(f"class terms, {o}, {n:,} classes", "<= {} % of a step", 5, class_share(o, n))
        for o in ("balanced", "paper")
        for n in (10, 1000)
    ),
    Target("transform", "<= {} x the layers", 1.05, ratio("transform", "package", "forward pass")),
    Target("transform", ">= {} x OMP's speed", 10, ratio("transform", "OMP", "package")),
    Target("fit", f"<= {{}} x {LCDL}'s time", 1, ratio("peers", "package", LCDL, "fit, s")),
    Target(
        "accuracy", f">= {LCDL}'s + {{}}", 0, gap("peers", LCDL, "package", "accuracy"), "{:+.3f}"
    ),
    *(
        Target(f"growth in {axis}", f"{what}: slope <= {{}}", 1.1, slope(axis, field))
        for axis in AXES
        for what, field in (("time", "wall"), ("memory", "MB"))
    ),
    Target("memory of fit", "<= {} x (3 batches + 4 x the model)", 1, memory_share),
    Target("import of the package", "<= {} s beyond torch", 0.2, imported("package, after torch")),
    Target("of the estimators", "<= {} s beyond torch", 0.2, imported("estimators, after torch")),
    Target("import of the metrics", "torch: {}", 0, imported("metrics", "torch is imported")),
    Target("unpickled", "1st transform <= {} x (2nd + load)", 1, beyond_loading),
]


# -- the page ----------------------------------------------------------------------------------


def table(rows: Sequence[Row], beside: Sequence[str]) -> str:
    """Write the times of each system and their ratios to some, or whatever figures rows have."""
    by_name, body = {row["name"]: row for row in rows}, []
    heads = {k: None for row in rows for k in row if k not in ("name", "wall", "cpu")}
    for row in rows:
        cells = [row["name"]]
        if "wall" in row:
            cells += [f"{f(row['wall']):.3g}" for f in (np.min, np.median, np.max)]
            cells.append(f"{sum(row['cpu']) / sum(row['wall']):.2f}")
            cells += [spread(np.divide(row["wall"], by_name[name]["wall"])) for name in beside]
        for head in heads:
            cell = row.get(head, "-")
            cells.append(spread(cell, "{:.3g}") if isinstance(cell, list) else cell)
        body.append([cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells])
    timed_ = ["min", "median", "max", "CPU / wall", *(f"/ {name}" for name in beside)]
    return common.markdown_table(["", *(timed_ if "wall" in rows[0] else []), *heads], body)


def same_mathematics() -> str:
    """Check that the hand loops do what the package does; an error if not."""
    recipes = [r._replace(objective=o) for r in (IMAGES, DIGITS) for o in ("balanced", "vsc")]
    differences = [hand.check_same_mathematics(recipe) for recipe in recipes]
    largest = {name: max(d[name] for d in differences) for name in differences[0]}
    found = ", ".join(f"{x:.0e} ({name})" for name, x in largest.items())
    return f"Largest relative differences of the losses of hand loops from the package's: {found}."


def run(task: Row) -> Row:
    """Measure a section."""
    with common.Stopwatch() as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # codes after one epoch, and peers at their defaults
        rows = SECTIONS[task["section"]].work(task)
    where = {"environment": common.environment(["pythae", "dictlearn"])}
    return {"rows": rows, "load": os.getloadavg()[0], "seconds": watch.seconds} | where


def main() -> int:
    """Measure what is missing, then write the page."""
    arguments = common.command_line(__doc__, "threads", "data_dir", "extra", repeats=(3, 7))
    common_ = {name: getattr(arguments, name) for name in ("quick", "repeats", "threads", "extra")}
    common_ |= {"n_samples": 4096 if arguments.quick else 60_000, "data_dir": arguments.data_dir}
    tasks = [{"section": name} | common_ for name in SECTIONS]
    checked = same_mathematics()
    rows, ok = common.run_tasks(arguments, "bench_speed", ["section", "threads"], tasks, run)
    rows = common.of(rows, threads=arguments.threads)
    known = {row["section"]: {r["name"]: r for r in row["rows"]} for row in rows}
    cells = (target.cells(known) for target in TARGETS)
    targets = common.markdown_table(["work", "target", "figure", "met"], cells)
    parts = [checked, common.load_text(rows), "## What it must show", targets]
    for name, section in SECTIONS.items():
        if known.get(name):
            parts += [f"## {section.heading}", table(list(known[name].values()), section.beside)]
    common.write_page(arguments, "speed", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
