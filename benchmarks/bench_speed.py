"""Measure how fast the package is, against loops written by hand and what people use instead.

Every ratio is of runs interleaved in one process: A, B, C, then C, B, A, and so on, after a warm-up
of each. Finished sections are kept: start it again after an interruption, and only what is missing
runs.

    python benchmarks/bench_speed.py --quick
    python benchmarks/bench_speed.py --data-dir DIR --extra    # on an idle machine, with dictlearn
    python benchmarks/bench_speed.py --only transform --fresh
"""

from __future__ import annotations

import json
import os
import tempfile
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
from _common import Row, Split, spread
from _harness import epoch_of, in_own_process, interleave, timed
from numpy.typing import NDArray
from reference_loss import Recipe, ReferenceNet, make_data
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import NMF, MiniBatchDictionaryLearning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import minmax_scale
from torch.profiler import ProfilerActivity, profile

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.metrics import class_consistency_score

IMAGES = Recipe(n_features=784, n_hidden=400, n_components=50, n_classes=10, batch_size=256)
SMALL = Recipe(n_features=128, n_hidden=128, n_components=16, n_classes=32, batch_size=256)
OMP = {"transform_algorithm": "omp", "transform_n_nonzero_coefs": 10, "random_state": 0}
AXES = {"samples": "n_samples", "features": "n_features"}
AXES |= {"dimensions": "n_components", "classes": "n_classes"}
TABLES = {"digits": load_digits, "breast cancer": load_breast_cancer, "wine": load_wine}
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


def load_split(task: Row, n_train: int) -> Split:
    """Return Fashion-MNIST, or data of its shape where it is not at hand."""
    n_test = 2000 if task["quick"] else 10_000
    try:
        return common.load_images("Fashion-MNIST", task["data_dir"], n_train, n_test)
    except (OSError, ValueError) as error:
        print(f"generated data instead of Fashion-MNIST: {error}")
    X, y = make_data(n_train + n_test, IMAGES.n_features, IMAGES.n_classes)
    return Split(X[:n_train], X[n_train:], y[:n_train], y[n_train:])


def quality(task: Row) -> list[Row]:
    """Time fits to the end, each at its own defaults, and score the codes of held-out samples."""
    rows = []
    for name in [*TABLES, "Fashion-MNIST"]:
        if name in TABLES:
            X, y = TABLES[name](return_X_y=True)
            X = minmax_scale(X).astype(np.float32)
            parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
            split = Split(*parts)
        else:
            split = load_split(task, 1000 if task["quick"] else 10_000)
        rows += [row | {"name": f"{name}: {row['name']}"} for row in compared(split, task)]
    return rows


def compared(split: Split, task: Row) -> list[Row]:
    """Fit all systems to one data set, in turn; the hand loop as long as the default trains."""
    X, X_test, y, y_test = split
    default = ClassVSCTransformer(random_state=0)
    if task["quick"]:
        default.set_params(max_epochs=5)
    d, n_classes = default.n_components, len(np.unique(y))
    n_epochs = default.fit(X, y).n_iter_
    recipe = Recipe(X.shape[1], 256, d, n_classes, default.batch_size)
    k = min(d, *X.shape)  # others have no more dimensions than features
    makers: dict[str, Callable[[], Any]] = {
        "ClassVSCTransformer()": lambda: default,
        "plain hand loop": lambda: HandLoop(recipe, n_epochs, default.learning_rate),
        "NMF": lambda: NMF(k, random_state=0),
        "MiniBatchDictionaryLearning": lambda: MiniBatchDictionaryLearning(k, **OMP),
        "FactorAnalysis": lambda: common.DecodingFactorAnalysis(k, random_state=0),
    }
    if task["extra"]:
        from bench_systems import LabelConsistentDictionary

        makers["dictlearn"] = lambda: LabelConsistentDictionary(k, random_state=0)
    rows = {name: {"name": name, "fit, s": []} for name in makers}
    for i in range(1 if task["quick"] else 3):
        for name in list(makers)[:: -1 if i % 2 else 1]:
            if i and name == "dictlearn":
                continue  # minutes each
            row, model = rows[name], makers[name]()
            row["fit, s"].append(timed(lambda m=model: m.fit(X, y))[0])
            Z, Z_test = (model.transform(A)[:5000] for A in (X, X_test))
            row["accuracy"] = common.linear_accuracy(Z, y[:5000], Z_test, y_test[:5000])
            row["explained variance"] = common.explained_variance(model, X_test)
    return list(rows.values())


class HandLoop:
    """The plain loop as an estimator."""

    def __init__(self, recipe: Recipe, n_epochs: int, learning_rate: float) -> None:
        self.recipe, self.n_epochs, self.learning_rate = recipe, n_epochs, learning_rate

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        """Train to the end."""
        loop = hand.PlainLoop(self.recipe, X, y, self.n_epochs, self.learning_rate)
        for _ in range(self.n_epochs):
            loop.epoch()
        self.transform, self.inverse_transform = loop.transform, loop.inverse_transform


def fit(task: Row, objective: str = "balanced") -> list[Row]:
    """Time an epoch of the package and of the hand loops."""
    recipe = IMAGES._replace(objective=objective)
    X, y = make_data(task["n_samples"], recipe.n_features, recipe.n_classes)
    epochs, n_steps = task["repeats"] + 1, -(-len(X) // recipe.batch_size)
    loops = {"plain loop": hand.PlainLoop, "best loop": hand.LeanLoop}
    built = {name: loop(recipe, X, y, epochs) for name, loop in loops.items()}
    systems = {"package": epoch_of(recipe.estimator(), X, y)}
    systems |= {name: loop.epoch for name, loop in built.items()}
    rows = rows_of(systems, task["repeats"], n_steps)
    assert all(np.isfinite(loop.losses).all() for loop in built.values())
    return rows


def bfloat16(task: Row) -> list[Row]:
    """Time an epoch in bfloat16 and in float32, and compare what a fit reaches."""
    info = Path("/proc/cpuinfo")
    if not BFLOAT16_FLAGS & set(info.read_text().split() if info.exists() else ()):
        return []
    X, y = make_data(task["n_samples"], IMAGES.n_features, IMAGES.n_classes)
    both = {"float32": "cpu", "bfloat16": "cpu+bfloat16"}
    systems = {name: epoch_of(IMAGES.estimator(device=at), X, y) for name, at in both.items()}
    rows = rows_of(systems, task["repeats"], -(-len(X) // IMAGES.batch_size))
    n_train, epochs = (5000, 2) if task["quick"] else (20_000, 10)
    split = load_split(task, n_train)
    for row in rows:
        estimator = IMAGES.estimator(device=both[row["name"]], max_epochs=epochs)
        Z = estimator.fit(split.X_train, split.y_train).transform(split.X_test)
        row["explained variance"] = common.explained_variance(estimator, split.X_test)
        row["class consistency"] = class_consistency_score(Z, split.y_test)
    return rows


def transform(task: Row) -> list[Row]:
    """Time `transform`, the bare forward pass, and sparse coding by orthogonal matching pursuit."""
    X, y = make_data(task["n_samples"], IMAGES.n_features, IMAGES.n_classes)
    few = X[:2000]  # of what is slow; its time is linear in the rows
    model = IMAGES.estimator(max_epochs=1).fit(X[:5120], y[:5120])
    encoder = ReferenceNet(IMAGES).encoder.eval()
    x, Z = torch.from_numpy(X), torch.empty(len(X), 3 * IMAGES.n_components)
    omp = MiniBatchDictionaryLearning(IMAGES.n_components, max_iter=2, **OMP).fit(few)

    def forward() -> None:
        with torch.inference_mode():
            for start in range(0, len(x), 1024):
                Z[start : start + 1024] = encoder(x[start : start + 1024])

    systems: dict[str, Callable[[], Any]] = {
        "package": lambda: model.transform(X),
        "forward pass": forward,
        "OMP": lambda: omp.transform(few),
    }
    rows = rows_of(systems, task["repeats"], len(X) / 1000)
    rows[-1] |= {k: [t * len(X) / len(few) for t in rows[-1][k]] for k in ("wall", "cpu")}
    return rows


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
    need not coincide, so that the sum is an upper bound.
    """
    size = Recipe(**recipe)
    model = size.estimator(max_epochs=1)
    tiny = make_data(64, size.n_features, min(size.n_classes, 32))
    size._replace(n_hidden=8, n_components=8).estimator(max_epochs=2).fit(*tiny)  # all imports
    X, y = make_data(n_samples, size.n_features, size.n_classes)

    tensors, arrays = torch_peak(lambda: model.fit(X, y)), numpy_peak(lambda: model.fit(X, y))
    found = {
        "data": X.nbytes,
        "4 batches": 4 * 4 * size.batch_size * size.n_features,
        "4 models": 4 * 4 * sum(p.numel() for p in model.module_.parameters()),
        "tensors at their peak": tensors,
        "arrays and objects at their peak": arrays,
        "together": tensors + arrays,
    }
    return {name: value / 1e6 for name, value in found.items()}


def torch_peak(work: Callable[[], Any]) -> int:
    """Return the most bytes that tensors had at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    events = [event for event in events if event.get("name") == "[memory]"]
    changes = [e["args"]["Bytes"] for e in sorted(events, key=lambda e: float(e["ts"]))]
    return int(np.cumsum(changes).max())


def numpy_peak(work: Callable[[], Any]) -> int:
    """Return the most bytes that arrays and Python's objects had at one time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Section(NamedTuple):
    """What is timed: its heading, the work, and the system that the others are compared with."""

    heading: str
    work: Callable[[Row], list[Row]]
    against: Sequence[str] = ()


SECTIONS = {
    "quality": Section("Time to the quality of the default", quality),
    "fit": Section("A step of ClassVSC, 784-400-50, batch 256: ms", fit, ["best loop"]),
    "fit-vsc": Section("A step of VSC: ms", partial(fit, objective="vsc"), ["best loop"]),
    "bfloat16": Section("A step of ClassVSC in bfloat16: ms", bfloat16, ["float32"]),
    "transform": Section("Transform: ms for 1,000 rows", transform, ["forward pass"]),
    "growth": Section("Growth: ms an epoch", growth),
    "memory": Section("Memory of a fit", memory),
}


# -- targets -----------------------------------------------------------------------------------


def ratio(section: str, a: str, b: str) -> Callable[[Rows], Any]:
    """Return how many times as long `a` took as `b`, in each round."""
    return lambda rows: np.divide(rows[section][a]["wall"], rows[section][b]["wall"])


def slope(axis: str, field: str) -> Callable[[Rows], Any]:
    """Return the slope of a number that doubles, in logarithms."""

    def figure(rows: Rows) -> Any:
        found = [row for name, row in rows["growth"].items() if name.endswith(axis)]
        sizes = [int(row["name"].split()[0]) for row in found]
        return np.polyfit(*np.log([sizes, [np.median(row[field]) for row in found]]), 1)[:1]

    return figure


def memory_share(rows: Rows) -> Any:
    """Return the memory of a fit over what it may be."""
    MB = {name: row["MB"] for name, row in rows["memory"].items()}
    return np.array([MB["together"] / (MB["4 batches"] + MB["4 models"])])


class Target(NamedTuple):
    """A figure to reach, by the median of the rounds."""

    work: str
    asked: str  # with the bound in its place
    bound: float
    figure: Callable[[Rows], Any]

    def cells(self, rows: Rows) -> list[str]:
        """Return the row of the table; of a section or system that was not measured, too."""
        asked = self.asked.format(self.bound)
        try:
            values = self.figure(rows)
        except KeyError:
            return [self.work, asked, "not measured", "-"]
        middle = float(np.median(values))
        met = middle >= self.bound if asked.startswith(">=") else middle <= self.bound
        return [self.work, asked, spread(values), common.VERDICTS[met]]


TARGETS = [
    Target("fit, ClassVSC", "<= {} x the best loop", 1.05, ratio("fit", "package", "best loop")),
    Target("fit, VSC", "<= {} x the best loop", 1.05, ratio("fit-vsc", "package", "best loop")),
    Target("fit, bfloat16", "<= {} x float32", 0.75, ratio("bfloat16", "bfloat16", "float32")),
    Target("transform", "<= {} x the layers", 1.05, ratio("transform", "package", "forward pass")),
    Target("transform", ">= {} x OMP's speed", 10, ratio("transform", "OMP", "package")),
    *(
        Target(f"growth in {axis}", f"{what}: slope <= {{}}", 1.1, slope(axis, field))
        for axis in AXES
        for what, field in (("time", "wall"), ("memory", "MB"))
    ),
    Target("memory of a fit", "<= {} x (4 batches + 4 models)", 1, memory_share),
]


# -- the page ----------------------------------------------------------------------------------


def table(rows: Sequence[Row], against: Sequence[str]) -> str:
    """Write the times of each system and their ratios to some, or whatever figures rows have."""
    by_name, body = {row["name"]: row for row in rows}, []
    heads = {k: None for row in rows for k in row if k not in ("name", "wall", "cpu")}
    for row in rows:
        cells = [row["name"]]
        if "wall" in row:
            cells.append(spread(row["wall"], "{:.3g}"))
            cells.append(f"{sum(row['cpu']) / sum(row['wall']):.2f}")
            cells += [spread(np.divide(row["wall"], by_name[name]["wall"])) for name in against]
        for head in heads:
            cell = row.get(head, "-")
            cells.append(spread(cell, "{:.3g}") if isinstance(cell, list) else cell)
        body.append([cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells])
    timed_ = ["time", "CPU / wall", *(f"/ {name}" for name in against)]
    return common.markdown_table(["", *(timed_ if "wall" in rows[0] else []), *heads], body)


def same_mathematics() -> str:
    """Check that the hand loops do what the package does; an error if not."""
    differences = [
        hand.check_same_mathematics(IMAGES._replace(objective=objective))
        for objective in ("balanced", "vsc")
    ]
    largest = {name: max(d[name] for d in differences) for name in differences[0]}
    found = ", ".join(f"{x:.0e} ({name})" for name, x in largest.items())
    return f"Largest relative differences of the losses of hand loops from the package's: {found}."


def run(task: Row) -> Row:
    """Measure a section."""
    with common.Stopwatch() as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # codes after one epoch, and peers at their defaults
        rows = SECTIONS[task["section"]].work(task)
    where = {"environment": common.environment(["dictlearn"])}
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
            parts += [f"## {section.heading}", table(list(known[name].values()), section.against)]
    common.write_page(arguments, "speed", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
