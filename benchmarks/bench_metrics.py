"""How the metrics grow: seconds and memory at a million samples, 100 dimensions, 1,000 classes.

Calls every metric on the same code as a boolean array, as float32 values and as a CSR array;
halves and doubles the samples, the dimensions and the classes; and writes a page. What has been
measured is kept: start it again after an interruption, and only what is missing runs.

    python benchmarks/bench_metrics.py --quick
    python benchmarks/bench_metrics.py
"""

from __future__ import annotations

import argparse
import os
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import numpy as np
from _common import ResultStore, Row, Stopwatch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import FunctionTransformer

from sklearn_classvsc import metrics

N_GROUPS = 100  # of the category test
ENOUGH_SECONDS = 20  # for the repeats of one call

# -- inputs ------------------------------------------------------------------------------------

FORMS = {"boolean": "boolean array", "values": "float32 array", "csr": "float32 CSR"}
FLOAT_FORMS = ("values", "csr")


class Size(NamedTuple):
    """Shape of an input."""

    n_samples: int
    n_dimensions: int
    n_classes: int


class Code(NamedTuple):
    """A code in its three forms, and the labels."""

    forms: dict[str, Any]
    y: NDArray[np.intp]


def make_code(size: Size) -> Code:
    """Draw a code of which a sixth is active, at a rate of its own for each class and dimension."""
    rng = np.random.default_rng(0)
    n, d, n_classes = size
    y = rng.permutation(np.arange(n) % n_classes)
    rates = rng.beta(0.3, 1.5, size=(n_classes, d)).astype(np.float32)
    values = rng.random((n, d), dtype=np.float32)
    for start in range(0, n, 10_000):
        rows = slice(start, start + 10_000)
        values[rows] *= rng.random((len(y[rows]), d), dtype=np.float32) < rates[y[rows]]
    return Code({"boolean": values != 0, "values": values, "csr": sparse.csr_array(values)}, y)


def n_bytes(A: Any) -> int:
    """Return the size of an input, without labels."""
    parts = (A.data, A.indices, A.indptr) if sparse.issparse(A) else (A,)
    return sum(part.nbytes for part in parts)


# -- metrics -----------------------------------------------------------------------------------


class Metric(NamedTuple):
    """How a metric is called, and the forms of input it is for."""

    call: Callable[[Any, NDArray[np.intp]], Any]
    forms: Sequence[str] = tuple(FORMS)


def _recovery(A: Any, y: NDArray[np.intp]) -> float:
    supports = np.random.default_rng(0).uniform(size=(y.max() + 1, A.shape[1])) < 0.2
    return metrics.role_recovery_score(supports, A, y)


def _category_test(A: Any, y: NDArray[np.intp]) -> metrics.CategorySharing:
    classes = np.arange(y.max() + 1)
    groups = np.array_split(classes, min(N_GROUPS, len(classes) // 4))
    return metrics.category_sharing_test(A, y, groups, random_state=0)


def _fidelity(A: Any, y: NDArray[np.intp]) -> float:
    return metrics.fidelity_scorer(FunctionTransformer(accept_sparse=True).fit(A[:2]), A)


def _information_of_values(Z: Any, y: NDArray[np.intp]) -> NDArray[np.float64]:
    return metrics.activation_information(Z, y, of="value", random_state=0)


def _probe(Z: Any, y: NDArray[np.intp]) -> float:
    return metrics.k_sparse_probe_score(Z[::2], y[::2], Z[1::2], y[1::2])


def _pairwise_divergence(Z: Any, y: NDArray[np.intp]) -> float:
    return metrics.jensen_shannon_consistency(Z, y, form="pairwise")


METRICS = {
    "class_consistency_score": Metric(metrics.class_consistency_score),
    "class_sharing_matrix": Metric(metrics.class_sharing_matrix),
    "class_contrast_score": Metric(metrics.class_contrast_score),
    "dimension_roles": Metric(metrics.dimension_roles),
    "dead_fraction": Metric(metrics.dead_fraction),
    "activation_information": Metric(metrics.activation_information),
    "role_recovery_score": Metric(_recovery),
    "category_sharing_test": Metric(_category_test),
    "hoyer_sparsity_score": Metric(lambda Z, y: metrics.hoyer_sparsity_score(Z)),
    "jensen_shannon_consistency": Metric(metrics.jensen_shannon_consistency, ["values"]),
    "fidelity_scorer, of the identity": Metric(_fidelity, FLOAT_FORMS),
    'activation_information, of="value"': Metric(_information_of_values, FLOAT_FORMS),
}
# One regression for each class, and all pairs of a class: not for millions of samples.
SUBSAMPLED = {
    "k_sparse_probe_score": Metric(_probe, FLOAT_FORMS),
    'jensen_shannon_consistency, form="pairwise"': Metric(_pairwise_divergence, ["values"]),
}


# -- measuring ---------------------------------------------------------------------------------


def measure(metric: Metric, A: Any, y: NDArray[np.intp], repeats: int) -> Row:
    """Call a metric under `tracemalloc`, then time the repeats."""
    metric.call(*_tiny(A))  # so that no import counts
    resident = common.reset_peak()
    tracemalloc.start()
    try:
        metric.call(A, y)
        extra = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    risen = None if resident is None else common.process_memory("VmHWM") - resident
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < ENOUGH_SECONDS:
        with Stopwatch() as watch:
            metric.call(A, y)
        seconds.append(watch.seconds)
    return {
        "seconds": min(seconds),
        "all_seconds": seconds,
        "input_bytes": n_bytes(A),
        "extra_bytes": extra,
        "resident_bytes": risen,
        "load": os.getloadavg()[0],
        "environment": common.environment(),
    }


def _tiny(A: Any) -> tuple[Any, NDArray[np.intp]]:
    y = np.repeat(np.arange(2 * N_GROUPS), 10)
    return A[np.arange(len(y))], y


def run(
    plan: Mapping[Size, Sequence[tuple[str, str]]], store: ResultStore, repeats: int, fresh: bool
) -> bool:
    """Measure what is missing, one size after the other; return whether all succeeded."""
    ok = True
    for size, calls in plan.items():
        tasks = [
            {"metric": name, "form": form, "size": "x".join(map(str, size))} for name, form in calls
        ]
        if fresh or any(store.key(task) not in store.rows for task in tasks):
            code = make_code(size)

            def work(task: Row, code: Code = code) -> Row:
                metric = (METRICS | SUBSAMPLED)[task["metric"]]
                return measure(metric, code.forms[task["form"]], code.y, repeats)

            # One at a time: the memory is that of this process.
            ok &= common.run_tasks(tasks, work, store, 1, fresh)
    return ok


# -- page --------------------------------------------------------------------------------------

INTRODUCTION = """\
# Benchmark: how the metrics grow

Written by `benchmarks/bench_metrics.py`; do not edit.

*Do all metrics run in seconds, and in memory proportional to the input, on {size}?* The code is
random, a sixth of it active, at a rate of its own for each class and dimension.

- **Seconds**: the fastest of the repeats on one thread, which other programs disturb least; then
  the median and the slowest. At most {repeats} repeats, fewer where they took {enough} seconds
  together.
- **Extra memory**: the most that a call had allocated at one time, by `tracemalloc`, as a multiple
  of the bytes of the input (of the data, indices and row pointers of a CSR array; without the
  labels). NumPy reports every array to it, so that the figure is exact, the same in each run, and
  free of what the allocator keeps for itself; memory that C code takes without NumPy escapes it.
  {check}
"""
GROWTH = """\
## Growth

Seconds, and extra memory in MB, of the first form above, while one number doubles and the others
stay; and the factor of the last doubling. 2 is proportional.
"""
NOTES = """\
Two metrics cost more by their definition. The probe fits one regression for each class, and the
pairwise divergence compares all pairs of a class: score a subsample, as here ({size}); the
centroid form of the divergence needs none.
"""


def write_page(path: Path, store: ResultStore, quick: bool, repeats: int) -> None:
    """Write the tables of what has been measured, and what has not been."""
    base, small = base_size(quick), subsample(quick)
    rows = list(store.rows.values())
    intro = INTRODUCTION.format(
        size=_words(base), repeats=repeats, enough=ENOUGH_SECONDS, check=_resident_check(rows)
    )
    loads = [row["load"] for row in rows]
    parts = [
        intro.rstrip(),
        common.environment_text(rows),
        f"Load average while measuring: {min(loads):.1f} to {max(loads):.1f}; 1 is this process.",
        _unmeasured(store, quick),
        f"## {_words(base)}",
        _table(store, METRICS, base),
        f"## {_words(small)}",
        NOTES.format(size=_words(small)).rstrip(),
        _table(store, SUBSAMPLED, small),
        GROWTH.rstrip(),
    ]
    for axis, along in growth(quick).items():
        parts += [f"### {axis}", _growth_table(store, axis, along)]
    common.write(path, "\n\n".join(part for part in parts if part))


def _unmeasured(store: ResultStore, quick: bool) -> str:
    """Name the sizes of which calls are missing, or nothing."""
    lines = []
    for size, calls in make_plan(quick).items():
        missing = [
            f"{name} ({FORMS[form]})" for name, form in calls if not _row(store, name, form, size)
        ]
        if missing:
            which = "nothing measured" if len(missing) == len(calls) else "; ".join(missing)
            lines.append(f"- {_words(size)}: {which}")
    if not lines:
        return ""
    return "\n".join(
        ["**Not measured yet**; a line of a growth table needs all its sizes:\n", *lines]
    )


def _table(store: ResultStore, chosen: Mapping[str, Metric], size: Size) -> str:
    body = []
    for name, metric in chosen.items():
        for form in metric.forms:
            if row := _row(store, name, form, size):
                seconds = row["all_seconds"]
                multiple = row["extra_bytes"] / row["input_bytes"]
                body.append(
                    [
                        f"`{name.split(', ')[0]}`"
                        + "".join(f", {x}" for x in name.split(", ")[1:]),
                        FORMS[form],
                        f"{row['seconds']:.2f}",
                        f"{np.median(seconds):.2f}, {max(seconds):.2f} ({len(seconds)})",
                        f"{row['input_bytes'] / 1e6:,.0f}",
                        f"{row['extra_bytes'] / 1e6:,.0f}",
                        f"{multiple:.2f}",
                    ]
                )
    header = ["metric", "input", "seconds", "median, slowest (repeats)"]
    return common.markdown_table([*header, "input MB", "extra MB", "extra / input"], body)


def _growth_table(store: ResultStore, axis: str, sizes: Sequence[Size]) -> str:
    field = f"n_{axis}"
    body = []
    for name, metric in METRICS.items():
        rows = [_row(store, name, metric.forms[0], size) for size in sizes]
        if not all(rows):
            continue
        figures = {
            "seconds": [f"{row['seconds']:.2f}" for row in rows],
            "MB": [f"{row['extra_bytes'] / 1e6:,.0f}" for row in rows],
        }
        ratios = [
            f"{after[key] / before[key]:.1f}"
            for key in ("seconds", "extra_bytes")
            for before, after in list(pairwise(rows))[-1:]
        ]
        cells = [f"{s} s, {mb} MB" for s, mb in zip(*figures.values(), strict=True)]
        body.append([f"{name}", *cells, *ratios])
    heads = [f"{getattr(size, field):,}" for size in sizes]
    return common.markdown_table([f"{axis} =", *heads, "seconds x", "memory x"], body)


def _row(store: ResultStore, name: str, form: str, size: Size) -> Row | None:
    return store.rows.get((name, form, "x".join(map(str, size))))


def _words(size: Size) -> str:
    return f"{size.n_samples:,} samples, {size.n_dimensions} dimensions, {size.n_classes:,} classes"


def _resident_check(rows: Sequence[Row]) -> str:
    known = [row for row in rows if row["resident_bytes"] is not None]
    if not known:
        return "This system does not tell the resident memory."
    worst = max(known, key=lambda row: row["resident_bytes"] - row["extra_bytes"])
    beyond = max(0, worst["resident_bytes"] - worst["extra_bytes"]) / 1e6
    return (
        "The kernel's high-water mark of the resident memory, read beside it, rose by at most "
        f"{beyond:.0f} MB more (`{worst['metric']}`, {FORMS[worst['form']]})."
    )


# -- command line ------------------------------------------------------------------------------


def base_size(quick: bool) -> Size:
    """Return the size that the question asks for."""
    return Size(50_000, 50, 200) if quick else Size(1_000_000, 100, 1000)


def subsample(quick: bool) -> Size:
    """Return the size for the metrics that need a subsample: 20 samples of each class."""
    base = base_size(quick)
    return base._replace(n_samples=20 * base.n_classes)


def growth(quick: bool) -> dict[str, list[Size]]:
    """Return the sizes along which one number doubles."""
    base = base_size(quick)
    return {
        "samples": [base._replace(n_samples=base.n_samples // k) for k in (4, 2, 1)],
        "dimensions": [base._replace(n_dimensions=base.n_dimensions * k // 4) for k in (1, 2, 4)],
        "classes": [base._replace(n_classes=base.n_classes * k // 2) for k in (1, 2, 4)],
    }


def make_plan(quick: bool) -> dict[Size, list[tuple[str, str]]]:
    """List the calls of each size."""
    plan = {
        base_size(quick): [(name, form) for name, m in METRICS.items() for form in m.forms],
        subsample(quick): [(name, form) for name, m in SUBSAMPLED.items() for form in m.forms],
    }
    first_forms = [(name, metric.forms[0]) for name, metric in METRICS.items()]
    growing = {size: first_forms for along in growth(quick).values() for size in along}
    return plan | {size: calls for size, calls in growing.items() if size not in plan}


def main() -> int:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a fortieth of the input: under a minute")
    add("--repeats", type=int, help="timed calls of each metric; default: 5, 2 with --quick")
    add("--fresh", action="store_true", help="measure again what has been measured")
    arguments = parser.parse_args()
    repeats = arguments.repeats or (2 if arguments.quick else 5)
    results = common.RESULTS / ("quick" if arguments.quick else "")
    store = ResultStore(results / "bench_metrics.jsonl", ["metric", "form", "size"])
    ok = run(make_plan(arguments.quick), store, repeats, arguments.fresh)
    page = (results if arguments.quick else common.DOCS) / "benchmark_metrics.md"
    write_page(page, store, arguments.quick, repeats)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
