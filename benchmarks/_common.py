"""What the benchmarks share: scoring, resumable results, the environment, Markdown."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sklearn_classvsc import CollapseWarning
from sklearn_classvsc.datasets import fetch_images
from sklearn_classvsc.metrics import (
    ROLES,
    class_consistency_score,
    class_contrast_score,
    class_sharing_matrix,
    dimension_roles,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"

Row = dict[str, Any]


# -- the command line --------------------------------------------------------------------------


def argument_parser(doc: str | None, quick: str, epochs: str) -> argparse.ArgumentParser:
    """Return a parser of what the benchmarks of many runs have in common; see `fill_in`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help=f"one seed, few samples and epochs: {quick}")
    add("--data-dir", help="directory of the IDX files; by default OpenML's sets are used")
    add("--seeds", nargs="+", type=int, help="default: 0 1 2")
    add("--epochs", type=int, help=epochs)
    add("--jobs", type=int, default=1, help="runs at a time, one thread each")
    add("--fresh", action="store_true", help="run again what is finished")
    add("--output-dir", type=Path, help="of the page and images/; default: docs")
    add("--results", type=Path, help="file of JSON lines with the finished runs")
    return parser


def fill_in(arguments: argparse.Namespace, name: str, **defaults: tuple[Any, Any]) -> None:
    """Set what was not given: of a benchmark by name, to the value of `--quick` or the whole's."""
    results = RESULTS / ("quick" if arguments.quick else "")
    file = results / f"{name}.jsonl"
    defaults |= {"seeds": ([0], [0, 1, 2]), "output_dir": (results, DOCS), "results": (file, file)}
    for argument, (quick, whole) in defaults.items():
        if getattr(arguments, argument) is None:
            setattr(arguments, argument, quick if arguments.quick else whole)


# -- scoring -----------------------------------------------------------------------------------


def score_codes(Z: NDArray[Any], y: NDArray[Any]) -> Row:
    """Score the supports of held-out codes, in which non-zero means active, against the labels.

    `own` counts the classes that have a dimension of their own, or one shared by at most three
    classes, out of the `n_classes` that have the five samples a role is measured on.
    """
    roles = dimension_roles(Z, y)
    n_of = roles["role"].value_counts()
    sizes = np.unique(y, return_counts=True)[1]
    M = class_sharing_matrix(Z, y)
    return {
        "active": float((Z != 0).sum(axis=1).mean()),
        "consistency": class_consistency_score(Z, y),
        "off_class": float(M[~np.eye(len(M), dtype=bool)].mean()),
        "contrast": class_contrast_score(Z, y),
        **{_role_key(role): int(n_of[role]) for role in ROLES},
        "own": len({label for held in _narrow(roles) for label in held}),
        "n_classes": int((sizes >= 5).sum()),
        "n_components": int(Z.shape[1]),
    }


def _role_key(role: str) -> str:
    return role.replace("class-", "")


def _narrow(roles: Any) -> list[tuple[Any, ...]]:
    """Classes of each dimension that one, two or three classes have, but not nearly all."""
    narrow = roles["role"].isin(["class-specific", "shared"]) & (roles["classes"].map(len) <= 3)
    return list(roles["classes"][narrow])


def explained_variance(X: NDArray[Any], X_hat: NDArray[Any], scale: Any = 1.0) -> float:
    """Return the explained variance of X, pooled over features in units of `scale`."""
    residual = ((X - X_hat) / scale).var(axis=0, dtype=np.float64).sum()
    return float(1 - residual / (X / scale).var(axis=0, dtype=np.float64).sum())


def linear_accuracy(
    Z_train: NDArray[Any], y_train: NDArray[Any], Z_test: NDArray[Any], y_test: NDArray[Any]
) -> float:
    """Return the accuracy of a logistic regression on standardised columns."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(model.fit(Z_train, y_train).score(Z_test, y_test))


# -- data --------------------------------------------------------------------------------------


class Split(NamedTuple):
    """Data to train on and data held out."""

    X_train: NDArray[Any]
    X_test: NDArray[Any]
    y_train: NDArray[Any]
    y_test: NDArray[Any]


@lru_cache(maxsize=1)
def load_images(
    name: str, data_dir: str | None, n_train: int | None = None, n_test: int | None = None
) -> Split:
    """Load an image set, or the first rows of both its parts."""
    X_train, X_test, y_train, y_test = fetch_images(name, data_dir=data_dir)
    return Split(X_train[:n_train], X_test[:n_test], y_train[:n_train], y_test[:n_test])


# -- running -----------------------------------------------------------------------------------


class ResultStore:
    """Finished rows in a file of JSON lines, by the fields that identify them; the last counts."""

    def __init__(self, path: Path, key_fields: Sequence[str]) -> None:
        self.path, self.key_fields = path, tuple(key_fields)
        self.rows: dict[tuple[Any, ...], Row] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:  # cut short by an interruption
                    continue
                self.rows[self.key(row)] = row

    def key(self, fields: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what identifies a row."""
        return tuple(fields.get(name) for name in self.key_fields)

    def append(self, row: Row) -> None:
        """Keep a row, on disk before anything else can go wrong."""
        self.rows[self.key(row)] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"\n", b"")
        with self.path.open("a") as file:
            file.write(("" if whole else "\n") + json.dumps(row) + "\n")


def run_tasks(
    tasks: Iterable[Row], work: Callable[[Row], Row], store: ResultStore, n_jobs: int, fresh: bool
) -> bool:
    """Run the tasks that are not in the store, in parallel; return whether none failed.

    A task is a row's identifying fields and whatever else `work` needs; `work` returns the rest
    of the row.
    """
    tasks = list(tasks)
    pending = [task for task in tasks if fresh or store.key(task) not in store.rows]
    print(f"{len(tasks)} runs, {len(tasks) - len(pending)} of them already in {store.path}")
    n_failed = 0
    for done, (task, row, error) in enumerate(_results(pending, work, n_jobs), start=1):
        name = " ".join(str(task[field]) for field in store.key_fields)
        print(f"[{done}/{len(pending)}] {name}: {error or _brief(row)}", flush=True)
        n_failed += bool(error)
        if not error:
            store.append({field: task[field] for field in store.key_fields} | row)
    return not n_failed


def _results(
    tasks: list[Row], work: Callable[[Row], Row], n_jobs: int
) -> Iterator[tuple[Row, Row, str]]:
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        yield from parallel(delayed(_on_one_thread)(work, task) for task in tasks)


def _on_one_thread(work: Callable[[Row], Row], task: Row) -> tuple[Row, Row, str]:
    """Run one task; an exception is a result, so that it does not cost the other runs."""
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return task, work(task), ""
    except Exception:  # one run that fails is shown, and does not end the others
        return task, {}, traceback.format_exc()


def _brief(row: Row) -> str:
    shown = ("explained_variance", "consistency", "contrast", "dead", "accuracy", "seconds")
    return ", ".join(f"{name} {row[name]:.3g}" for name in shown if name in row)


def warning_texts(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Name the warnings: the collapse of a code in full, the others by category and number."""
    full = [w for w in caught if issubclass(w.category, CollapseWarning)]
    texts = [f"{w.category.__name__}: {w.message}" for w in full]
    others = Counter(w.category.__name__ for w in caught if w not in full)
    return [*texts, *(f"{name} ({n} times)" for name, n in sorted(others.items()))]


class Stopwatch:
    """Wall-clock time of a block, in `seconds`."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self._start


def process_memory(field: str) -> int:
    """Return a field of `/proc/self/status` in bytes: "VmRSS", "VmHWM", "RssAnon", "VmData"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def reset_peak() -> int | None:
    """Set the peak of the resident memory, "VmHWM", to what it is now, and return that.

    None where the system is no Linux.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return process_memory("VmHWM")


# -- writing -----------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a table: its heading, the field it shows, and the digits after the point."""

    heading: str
    field: str
    digits: int = 3


def figures(rows: Iterable[Row], field: str) -> NDArray[np.float64]:
    """Return the figures that the rows have for a field."""
    values = (row.get(field) for row in rows)
    return np.array([value for value in values if value is not None], dtype=np.float64)


def mean_sd(rows: Sequence[Row], field: str, digits: int = 3) -> str:
    """Write mean ± standard deviation over the seeds; "-" if the field does not apply."""
    values = figures(rows, field)
    if not values.size or np.isnan(values).all():
        return "-"
    mean, sd = np.nanmean(values), np.nanstd(values, ddof=1) if values.size > 1 else math.nan
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{digits}f}")


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def summary_table(groups: Mapping[str, Sequence[Row]], columns: Sequence[Column], of: str) -> str:
    """Write one line of mean ± standard deviation for each group of rows."""
    body = (
        [label, *(mean_sd(rows, column.field, column.digits) for column in columns)]
        for label, rows in groups.items()
    )
    return markdown_table([of, *(column.heading for column in columns)], body)


def environment(packages: Sequence[str] = ()) -> Row:
    """Describe the software and the hardware of a run, to be stored with it."""
    names = ["sklearn-classvsc", "numpy", "scipy", "scikit-learn", "torch", "skorch", *packages]
    return {"versions": {name: _version(name) for name in names}, "cpu": cpu_model()} | {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def cpu_model() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def environment_text(rows: Iterable[Row]) -> str:
    """Write where the rows come from; a line for each different environment."""
    lines = []
    for text in sorted({json.dumps(row["environment"], sort_keys=True) for row in rows}):
        e = json.loads(text)
        versions = ", ".join(f"{name} {v}" for name, v in e["versions"].items() if v != "absent")
        lines.append(
            f"- Python {e['python']}, {versions}; {e['cpu']} ({e['cpu_count']} cores seen), "
            f"{e['system']}, {e['threads']} thread for each run."
        )
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Write a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.rstrip() + "\n")
    print(f"wrote {path}")
