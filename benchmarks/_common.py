"""What the benchmarks share: the command line, resumable runs, scores, tables, pages, pictures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
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
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
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
DOCS, TESTS = ROOT / "docs", ROOT / "tests"
RESULTS, PAGES = ROOT / "benchmarks" / "results", ROOT / "benchmarks" / "pages"
sys.path.append(str(TESTS))  # whose helpers some benchmarks run: the plain loss, cases, files
#: Where the words of a page, written by hand, end and its figures begin.
MARK = "<!-- Figures from here on: written by the command above, not by hand. -->"

Row = dict[str, Any]


# -- the command line --------------------------------------------------------------------------

OPTIONS: dict[str, Row] = {
    "seeds": {"nargs": "+", "type": int, "help": "of the runs"},
    "epochs": {"type": int, "help": "of a fit"},
    "n_train": {"type": int, "help": "train on the first so many samples"},
    "repeats": {"type": int, "help": "timed rounds"},
    "jobs": {"type": int, "default": 1, "help": "runs at a time, one thread each"},
    "threads": {"type": int, "default": 1, "help": "of torch and the BLAS"},
    "data_dir": {"help": "folder of the IDX files; by default OpenML's sets are fetched"},
    "extra": {"action": "store_true", "help": "with what is slow, or has to be installed"},
}


def command_line(
    doc: str | None, *plain: str, argv: Sequence[str] | None = None, **defaults: tuple[Any, Any]
) -> argparse.Namespace:
    """Read the command line.

    `plain` names `OPTIONS` without a default; `defaults` gives others two, for `--quick` and for
    the whole.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test, that leaves the pages alone")
    add("--only", nargs="+", metavar="NAME", help="runs of these systems, data sets, rows ...")
    add("--fresh", action="store_true", help="run again what is finished")
    add("--output", type=Path, help="folder of the page, images/ and the finished runs")
    for name in (*plain, *defaults):
        shown = "; default: {1}, {0} with --quick".format(*defaults.get(name, ("", "")))
        more = {"help": OPTIONS[name]["help"] + (shown if name in defaults else "")}
        add(f"--{name.replace('_', '-')}", **OPTIONS[name] | more)
    arguments = parser.parse_args(argv)
    for name, (quick, whole) in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else whole)
    results = arguments.output or RESULTS / ("quick" if arguments.quick else "")
    arguments.results = results
    kept = not (arguments.quick or arguments.output)
    arguments.pages = PAGES if kept else results
    arguments.images = DOCS / "images" if kept else results / "images"
    return arguments


# -- finished runs -----------------------------------------------------------------------------


def run_tasks(
    arguments: argparse.Namespace,
    name: str,
    key: Sequence[str],
    tasks: Iterable[Row],
    work: Callable[[Row], Row],
) -> tuple[list[Row], bool]:
    """Run the tasks that are asked for and not finished yet, some at a time.

    A task has the fields of `key`, which identify a row in the file of this name, and whatever
    else `work` needs; that returns the rest of the row. Returns all finished rows, of this call
    and of earlier ones, and whether none failed.
    """
    path = arguments.results / f"{name}.jsonl"
    done = {_identity(row, key): row for row in _read(path)}
    tasks = asked_for(list(tasks), key, arguments.only)
    pending = [task for task in tasks if arguments.fresh or _identity(task, key) not in done]
    print(f"{len(tasks)} runs, {len(tasks) - len(pending)} of them already in {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    jobs = getattr(arguments, "jobs", 1)
    for n, (task, row, error) in enumerate(_results(pending, work, jobs), start=1):
        named = " ".join(str(task[field]) for field in key)
        print(f"[{n}/{len(pending)}] {named}: {error or _brief(row)}", flush=True)
        failed += bool(error)
        if not error:
            done[_identity(task, key)] = row = {field: task[field] for field in key} | row
            with path.open("a") as file:
                file.write("\n" + json.dumps(row))  # apart from what an interruption cut short
    return list(done.values()), not failed


def asked_for(tasks: list[Row], key: Sequence[str], only: Sequence[str] | None) -> list[Row]:
    """Leave out what `--only` does not name, of each field that it names a value of."""
    values = {field: {str(task[field]) for task in tasks} for field in key}
    unknown = set(only or ()) - set().union(*values.values())
    if unknown:
        names = sorted(set().union(*values.values()))
        raise SystemExit(f"--only: {sorted(unknown)} is none of {', '.join(names)}")
    named = {field: found & set(only or ()) or found for field, found in values.items()}
    return [task for task in tasks if all(str(task[field]) in named[field] for field in key)]


def _identity(fields: Row, key: Sequence[str]) -> str:
    return json.dumps([fields.get(field) for field in key])


def _read(path: Path) -> Iterator[Row]:
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # cut short, or empty
            continue


def _results(
    tasks: list[Row], work: Callable[[Row], Row], n_jobs: int
) -> Iterator[tuple[Row, Row, str]]:
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        yield from parallel(delayed(_attempt)(work, task) for task in tasks)


def _attempt(work: Callable[[Row], Row], task: Row) -> tuple[Row, Row, str]:
    """Run one task; an exception is a result, so that it does not cost the other runs."""
    threads = task.get("threads", 1)
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            return task, work(task), ""
    except Exception:  # one run that fails is shown, and does not end the others
        return task, {}, traceback.format_exc()


def _brief(row: Row) -> str:
    shown = ("measured", "explained_variance", "consistency", "contrast", "accuracy", "seconds")
    values = ((name, row[name]) for name in shown if name in row)
    return ", ".join(f"{name} {x:.3g}" if name != "measured" else x for name, x in values)


def of(rows: Iterable[Row], **fields: Any) -> list[Row]:
    """Return the rows with these values."""
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


# -- fits and scores ---------------------------------------------------------------------------


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


class DecodingFactorAnalysis(FactorAnalysis):
    """scikit-learn's, which decodes too."""

    def inverse_transform(self, Z: NDArray[Any]) -> Any:
        """Decode."""
        return Z @ self.components_ + self.mean_


class Stopwatch:
    """Time a block: `seconds` on the wall, and `processor` seconds, which other programs spare."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self._start[0]
        self.processor = time.process_time() - self._start[1]


def fit(estimator: Any, X: Any, y: Any = None, **parameters: Any) -> Row:
    """Fit; return how long it took, what it warned of, and where it ran."""
    return measured(lambda: estimator.fit(X, y, **parameters))[1]


def measured(fitted: Callable[[], Any]) -> tuple[Any, Row]:
    """Return what a call that fits returns, and the row that `fit` returns."""
    with Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        returned = fitted()
    collapses = [w for w in caught if issubclass(w.category, CollapseWarning)]
    others = Counter(w.category.__name__ for w in caught if w not in collapses)
    return returned, {
        "seconds": watch.seconds,
        "processor": watch.processor,
        "warnings": [f"{w.category.__name__}: {w.message}" for w in collapses]
        + [f"{name} ({n} times)" for name, n in sorted(others.items())],
        "collapse_warnings": len(collapses),
        "environment": environment(),
    }


def score_codes(Z: NDArray[Any], y: NDArray[Any]) -> Row:
    """Score the supports of held-out codes, in which non-zero means active, against the labels.

    `own` counts the classes that have a dimension of their own, or one shared by at most three
    classes, out of the `n_classes` that have the five samples a role is measured on.
    """
    roles = dimension_roles(Z, y)
    counts = roles["role"].value_counts()
    narrow = roles["role"].isin(["class-specific", "shared"]) & (roles["classes"].map(len) <= 3)
    M = class_sharing_matrix(Z, y)
    return {
        "active": float((Z != 0).sum(axis=1).mean()),
        "consistency": class_consistency_score(Z, y),
        "off_class": float(M[~np.eye(len(M), dtype=bool)].mean()),
        "contrast": class_contrast_score(Z, y),
        **{role.replace("class-", ""): int(counts[role]) for role in ROLES},
        "own": len({label for held in roles["classes"][narrow] for label in held}),
        "n_classes": int((np.unique(y, return_counts=True)[1] >= 5).sum()),
    }


def explained_variance(estimator: Any, X: NDArray[Any], scale: Any = 1.0) -> float:
    """Return the explained variance of X as decoded from its codes, features in units of `scale`.

    It is pooled over features; a scale of 0 is that of a constant one.
    """
    residual, scale = X - estimator.inverse_transform(estimator.transform(X)), scale + (scale == 0)
    unexplained = (residual / scale).var(axis=0, dtype=np.float64).sum()
    return float(1 - unexplained / (X / scale).var(axis=0, dtype=np.float64).sum())


def linear_accuracy(Z: Any, y: Any, Z_test: Any, y_test: Any) -> float:
    """Return the accuracy of a logistic regression on standardised columns."""
    return predictions(linear(), Z, y, Z_test, y_test)["accuracy"]


def linear() -> Any:
    """Return a logistic regression on standardised columns."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def predictions(model: Any, Z: Any, y: Any, Z_test: Any, y_test: Any, prefix: str = "") -> Row:
    """Return the accuracy and the log loss of a classifier fitted to Z; fields get the prefix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(Z, y)
    P = model.predict_proba(Z_test)
    right = model.classes_[P.argmax(axis=1)] == y_test
    loss = log_loss(y_test, P, labels=model.classes_)
    return {f"{prefix}accuracy": float(right.mean()), f"{prefix}log_loss": float(loss)}


def absolute_correlation(A: NDArray[Any], B: NDArray[Any]) -> NDArray[np.float64]:
    """Return |Pearson correlation| of the columns of A with those of B; 0 for a constant one."""
    A, B = (M - M.mean(axis=0, dtype=np.float64) for M in (A, B))
    norms = np.linalg.norm(A, axis=0)[:, None] * np.linalg.norm(B, axis=0)
    correlation: NDArray[np.float64] = abs(A.T @ B) / np.where(norms > 0, norms, 1)
    return correlation


# -- tables ------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a table: its heading, the field it shows, and the digits after the point."""

    heading: str
    field: str
    digits: int = 3


#: Of most tables, by their fields.
COLUMNS = {
    column.field: column
    for column in (
        Column("EV", "explained_variance"),
        Column("active", "active", 1),
        Column("C", "consistency"),
        Column("off-class", "off_class"),
        Column("contrast", "contrast"),
        Column("dead", "dead", 1),
        Column("global", "global", 1),
        Column("shared", "shared", 1),
        Column("class-specific", "specific", 1),
        Column("sporadic", "sporadic", 1),
        Column("own", "own", 1),
        Column("accuracy", "accuracy"),
    )
}


def columns(fields: str, *more: Column) -> list[Column]:
    """Return the columns of these fields, divided by blanks, and more."""
    return [*(COLUMNS[field] for field in fields.split()), *more]


class Target(NamedTuple):
    """A figure to reach, by the mean over seeds or by each."""

    figure: str
    field: str
    sign: str
    bound: float
    digits: int = 3
    every_seed: bool = False

    def met(self, values: NDArray[np.float64]) -> bool | None:
        """Say whether these figures reach it; None if there are none."""
        if not values.size:
            return None
        judged = values if self.every_seed else values.mean(keepdims=True)
        return bool((judged >= self.bound if self.sign == ">=" else judged <= self.bound).all())


VERDICTS = {True: "yes", False: "**no**", None: "-"}


def figures(rows: Iterable[Row], field: str) -> NDArray[np.float64]:
    """Return the figures that the rows have for a field."""
    values = (row.get(field) for row in rows)
    return np.array([value for value in values if value is not None], dtype=np.float64)


def mean_sd(rows: Sequence[Row], field: str, digits: int = 3) -> str:
    """Write mean ± standard deviation over the seeds; "-" if the field does not apply."""
    values = figures(rows, field)
    if not values.size or np.isnan(values).all():
        return "-"
    sd = f" ± {np.nanstd(values, ddof=1):.{digits}f}" if values.size > 1 else ""
    return f"{np.nanmean(values):.{digits}f}{sd}"


def spread(values: Any, shown: str = "{:.2f}") -> str:
    """Write median (smallest - largest)."""
    middle, least, most = (shown.format(f(values)) for f in (np.median, np.min, np.max))
    return middle if len(values) == 1 else f"{middle} ({least} - {most})"


def markdown_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def summary(
    groups: Mapping[str, Sequence[Row]], columns: Sequence[Column], of: str = "system"
) -> list[str]:
    """Return the seeds, a table of mean ± standard deviation, and what the fits warned of."""
    everything = [row for rows in groups.values() for row in rows]
    shown = [column for column in columns if figures(everything, column.field).size]
    body = (
        [label, *(mean_sd(rows, column.field, column.digits) for column in shown)]
        for label, rows in groups.items()
    )
    seeds = ", ".join(map(str, sorted({row["seed"] for row in everything})))
    few = "" if len(set(map(len, groups.values()))) == 1 else " (not all lines have all of them)"
    texts = [
        f"- {label}: {len(warned)} of {len(rows)} fits; the first said: {warned[0]}"
        for label, rows in groups.items()
        if (warned := [text for row in rows for text in row["warnings"][:1]])
    ]
    return [
        f"Seeds {seeds}{few}.",
        markdown_table([of, *(column.heading for column in shown)], body),
        *(["Warnings during `fit`:", "\n".join(texts)] if texts else []),
    ]


# -- pages -------------------------------------------------------------------------------------


def environment(packages: Sequence[str] = ()) -> Row:
    """Describe the software and the hardware of a run, to be stored with it."""
    names = ["sklearn-classvsc", "numpy", "scipy", "scikit-learn", "torch", "skorch", *packages]
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "versions": {name: _version(name) for name in names},
        "cpu": cpu[0] if cpu else platform.processor() or "unknown",
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


def load_text(rows: Sequence[Row]) -> str:
    """Write how busy the machine was."""
    least, most = (f(row["load"] for row in rows) if rows else 0 for f in (min, max))
    return f"Load average while measuring: {least:.1f} to {most:.1f}; 1 is this process."


def write_page(
    arguments: argparse.Namespace, name: str, parts: Iterable[str], rows: Sequence[Row]
) -> None:
    """Write the figures of a page and where they come from, below the words that it has."""
    path = arguments.pages / f"{name}.md"
    words = f"# {name}: figures alone\n\n"
    if arguments.pages in (PAGES, DOCS):
        words, mark, _ = path.read_text().partition(MARK)
        assert mark, f"{path} does not say where its figures begin"
    parts = [words + MARK, *filter(None, parts), "## Where it ran", environment_text(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part.rstrip() for part in parts) + "\n")
    print(f"wrote {path}")


def picture(arguments: argparse.Namespace, name: str, figure: Any, caption: str) -> str:
    """Save a figure, of pages that are kept in the documentation; return what shows it there."""
    path = arguments.images / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(f"wrote {path}")
    link = Path(os.path.relpath(path, arguments.pages)).as_posix()
    return f"![{caption}]({link})\n\n*{caption}*"
