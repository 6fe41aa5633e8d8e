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
from _harness import epoch_of, in_own_process, interleave, ratios
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


def in_turn(
    systems: Mapping[str, Callable[[], Any]], repeats: int, each: float = 1.0
) -> dict[str, Row]:
    """Time systems in turn, in milliseconds a step, or what `each` counts."""
    return {
        name: {clock: (1e3 / each * np.array(s)).tolist() for clock, s in seconds.items()}
        for name, seconds in interleave(systems, repeats).items()
    }


def model_and_data(n_samples: int, **recipe: Any) -> tuple[Any, Any, Any]:
    """Return an estimator of this recipe, and samples and labels of its sizes."""
    size = Recipe(**recipe)
    return size.estimator(), *make_data(n_samples, size.n_features, size.n_classes)


# -- sections ----------------------------------------------------------------------------------


def quality(task: Row) -> dict[str, Row]:
    """Time fits to the end, each at its own defaults, and score the codes of held-out samples."""
    splits = {}
    for name, load in TABLES.items():
        X, y = load(return_X_y=True)
        X = minmax_scale(X).astype(np.float32)
        parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
        splits[name] = Split(*parts)
    splits["Fashion-MNIST"] = common.load_images(*task["images"], 1000 if task["quick"] else 10_000)
    return {
        f"{name}: {system}": row
        for name, split in splits.items()
        for system, row in compared(split, task).items()
    }


def compared(split: Split, task: Row) -> dict[str, Row]:
    """Fit all systems to one data set, in turn; the hand loop as long as the default trains."""
    X, X_test, y, y_test = split
    default = ClassVSCTransformer(random_state=0)
    if task["quick"]:
        default.set_params(max_epochs=5)
    d, n_classes = default.n_components, len(np.unique(y))
    loop_of = Recipe(X.shape[1], 256, d, n_classes, default.batch_size), X, y
    training = default.fit(X, y).n_iter_, default.learning_rate
    k = min(d, *X.shape)  # others have no more dimensions than features
    fits: dict[str, Callable[[], Any]] = {
        "ClassVSCTransformer()": lambda: default.fit(X, y),
        "plain hand loop": lambda: hand.PlainLoop(*loop_of, *training).train(),
        "NMF": lambda: NMF(k, random_state=0).fit(X),
        "MiniBatchDictionaryLearning": lambda: MiniBatchDictionaryLearning(k, **OMP).fit(X),
        "FactorAnalysis": lambda: common.DecodingFactorAnalysis(k, random_state=0).fit(X),
    }
    if task["extra"]:
        from bench_systems import LabelConsistentDictionary

        fits["dictlearn"] = lambda: LabelConsistentDictionary(k, random_state=0).fit(X, y)
    rows: dict[str, Row] = {name: {"fit, s": []} for name in fits}
    for i in range(1 if task["quick"] else 3):
        for name in list(fits)[:: -1 if i % 2 else 1]:
            if i and name == "dictlearn":
                continue  # minutes each
            with common.Stopwatch() as watch:
                model = fits[name]()
            rows[name]["fit, s"].append(watch.seconds)
            Z, Z_test = (model.transform(A)[:5000] for A in (X, X_test))
            rows[name]["accuracy"] = common.linear_accuracy(Z, y[:5000], Z_test, y_test[:5000])
            rows[name]["explained variance"] = common.explained_variance(model, X_test)
    return rows


def fit(task: Row, objective: str = "balanced") -> dict[str, Row]:
    """Time an epoch of the package and of the hand loops."""
    recipe, repeats = IMAGES._replace(objective=objective), task["repeats"]
    model, X, y = model_and_data(task["n_samples"], **recipe._asdict())
    plain, best = (loop(recipe, X, y, repeats + 1) for loop in (hand.PlainLoop, hand.LeanLoop))
    systems = {"plain loop": plain.epoch, "best loop": best.epoch}
    n_steps = -(-len(X) // recipe.batch_size)
    rows = in_turn({"package": epoch_of(model, X, y)} | systems, repeats, n_steps)
    assert np.isfinite(plain.losses + best.losses).all()
    return rows


def bfloat16(task: Row) -> dict[str, Row]:
    """Time an epoch in bfloat16 and in float32, and compare what a fit reaches."""
    info = Path("/proc/cpuinfo")
    if not BFLOAT16_FLAGS & set(info.read_text().split() if info.exists() else ()):
        return {}
    _, X, y = model_and_data(task["n_samples"], **IMAGES._asdict())
    both = {"float32": "cpu", "bfloat16": "cpu+bfloat16"}
    systems = {name: epoch_of(IMAGES.estimator(device=at), X, y) for name, at in both.items()}
    rows = in_turn(systems, task["repeats"], -(-len(X) // IMAGES.batch_size))
    n_train, epochs = (5000, 2) if task["quick"] else (20_000, 10)
    split = common.load_images(*task["images"], n_train)
    for name, row in rows.items():
        estimator = IMAGES.estimator(device=both[name], max_epochs=epochs)
        Z = estimator.fit(split.X_train, split.y_train).transform(split.X_test)
        row["explained variance"] = common.explained_variance(estimator, split.X_test)
        row["class consistency"] = class_consistency_score(Z, split.y_test)
    return rows


def transform(task: Row) -> dict[str, Row]:
    """Time `transform`, the bare forward pass, and sparse coding by orthogonal matching pursuit."""
    model, X, y = model_and_data(task["n_samples"], **IMAGES._asdict())
    model.set_params(max_epochs=1).fit(X[:5120], y[:5120])
    encoder = ReferenceNet(IMAGES).encoder.eval()
    x, Z = torch.from_numpy(X), torch.empty(len(X), 3 * IMAGES.n_components)
    few = X[:2000]  # of what is slow; its time is linear in the rows
    omp = MiniBatchDictionaryLearning(IMAGES.n_components, max_iter=2, **OMP).fit(few)

    def forward() -> None:
        with torch.inference_mode():
            for start in range(0, len(x), 1024):
                Z[start : start + 1024] = encoder(x[start : start + 1024])

    systems = {"package": lambda: model.transform(X), "forward pass": forward}
    rows = in_turn(systems | {"OMP": lambda: omp.transform(few)}, task["repeats"], len(X) / 1000)
    rows["OMP"] = {clock: [t * len(X) / len(few) for t in ts] for clock, ts in rows["OMP"].items()}
    return rows


def growth(task: Row) -> dict[str, Row]:
    """Time an epoch and measure the memory while one number doubles and the others stay."""
    rows, start = {}, SMALL._asdict() | {"n_samples": 2048}
    for axis, field in AXES.items():
        doubled = [start[field] * 2**k for k in range(2 if task["quick"] else 5)]
        sizes = {f"{size} {axis}": start | {field: size} for size in doubled}
        systems = {name: epoch_of(*model_and_data(**size)) for name, size in sizes.items()}
        for name, row in in_turn(systems, task["repeats"]).items():
            found = in_own_process(memory_of_fit, threads=task["threads"], **sizes[name])
            rows[name] = row | {"MB": found["together"]}
    return rows


def memory(task: Row) -> dict[str, Row]:
    """Measure the memory of a fit beyond the data."""
    size = IMAGES._asdict() | {"n_samples": task["n_samples"]}
    found = in_own_process(memory_of_fit, threads=task["threads"], **size)
    return {name: {"MB": value} for name, value in found.items()}


def memory_of_fit(n_samples: int, **recipe: Any) -> Row:
    """Fit one epoch in this process, which then ends; return what was allocated exactly, in MB.

    It is in torch's own record and NumPy's (`tracemalloc`), each of a fit of its own. Their peaks
    need not coincide, so that the sum is an upper bound.
    """
    tiny = recipe | {"n_hidden": 8, "n_components": 8, "n_classes": min(recipe["n_classes"], 32)}
    model, X, y = model_and_data(64, **tiny)
    model.set_params(max_epochs=2).fit(X, y)  # all imports
    model, X, y = model_and_data(n_samples, **recipe)
    model.set_params(max_epochs=1)
    tensors = torch_peak(lambda: model.fit(X, y))
    tracemalloc.start()
    model.fit(X, y)
    arrays = tracemalloc.get_traced_memory()[1]
    found = {
        "data": X.nbytes,
        "4 batches": 4 * 4 * model.batch_size * X.shape[1],
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


class Section(NamedTuple):
    """What is timed: its heading, the work, and the system that the others are compared with."""

    heading: str
    work: Callable[[Row], dict[str, Row]]
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
    return lambda rows: ratios(rows[section], a, b)


def slope(axis: str, field: str) -> Callable[[Rows], Any]:
    """Return the slope of a number that doubles, in logarithms."""

    def figure(rows: Rows) -> Any:
        found = {name: row for name, row in rows["growth"].items() if name.endswith(axis)}
        sizes = [int(name.split()[0]) for name in found]
        return np.polyfit(*np.log([sizes, [np.median(row[field]) for row in found.values()]]), 1)[
            :1
        ]

    return figure


def memory_share(rows: Rows) -> Any:
    """Return the memory of a fit over what it may be."""
    MB = {name: row["MB"] for name, row in rows["memory"].items()}
    return [MB["together"] / (MB["4 batches"] + MB["4 models"])]


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


def table(rows: Mapping[str, Row], against: Sequence[str]) -> str:
    """Write the times of each system and their ratios to some, or whatever figures rows have."""
    lines: dict[str, Row] = {}
    for name, row in rows.items():
        lines[name] = {}
        if "wall" in row:
            lines[name]["time"] = spread(row["wall"], "{:.3g}")
            lines[name]["CPU / wall"] = f"{sum(row['cpu']) / sum(row['wall']):.2f}"
            lines[name] |= {f"/ {other}": spread(ratios(rows, name, other)) for other in against}
        for head in [head for head in row if head not in ("wall", "cpu")]:
            values = row[head] if isinstance(row[head], list) else [row[head]]
            lines[name][head] = spread(values, "{:.4g}")
    heads = list(dict.fromkeys(head for line in lines.values() for head in line))
    body = [[name, *(line.get(head, "-") for head in heads)] for name, line in lines.items()]
    return common.markdown_table(["", *heads], body)


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
    options = {name: getattr(arguments, name) for name in ("quick", "repeats", "threads", "extra")}
    options |= {"n_samples": 4096 if arguments.quick else 60_000}
    options |= {"images": ("Fashion-MNIST", arguments.data_dir)}
    tasks = [{"section": name} | options for name in SECTIONS]
    checked = same_mathematics()
    runs, ok = common.run_tasks(arguments, "bench_speed", ["section", "threads"], tasks, run)
    runs = common.of(runs, threads=arguments.threads)
    rows = {run["section"]: run["rows"] for run in runs}
    cells = (target.cells(rows) for target in TARGETS)
    targets = common.markdown_table(["work", "target", "figure", "met"], cells)
    parts = [checked, common.load_text(runs), "## What it must show", targets]
    for name, section in SECTIONS.items():
        if rows.get(name):
            parts += [f"## {section.heading}", table(rows[name], section.against)]
    common.write_page(arguments, "speed", parts, runs)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
