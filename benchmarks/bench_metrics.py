"""Measure the metrics: seconds and memory at a million samples, 100 dimensions, 1,000 classes.

Calls metrics on the same code as a float32 array and as a CSR array, of all samples and of half of
them. Finished runs are kept.

    python benchmarks/bench_metrics.py --quick
    python benchmarks/bench_metrics.py           # on an otherwise idle machine
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import _common as common
import numpy as np
from _common import Row, Stopwatch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import FunctionTransformer

from sklearn_classvsc import metrics

N_GROUPS = 100  # of the category test
ENOUGH_SECONDS = 20  # for the repeats of one call

# -- inputs ------------------------------------------------------------------------------------

FORMS = {"values": "float32 array", "csr": "float32 CSR"}


class Size(NamedTuple):
    """Shape of an input."""

    n_samples: int
    n_dimensions: int
    n_classes: int


@lru_cache(maxsize=1)
def make_code(size: Size) -> tuple[dict[str, Any], NDArray[np.intp]]:
    """Draw a code of which a sixth is active, at a rate of its own for each class and dimension.

    Returns it in both forms, and the labels.
    """
    rng = np.random.default_rng(0)
    n, d, n_classes = size
    y = rng.permutation(np.arange(n) % n_classes)
    rates = rng.beta(0.3, 1.5, size=(n_classes, d)).astype(np.float32)
    values = rng.random((n, d), dtype=np.float32)
    for start in range(0, n, 10_000):
        rows = slice(start, start + 10_000)
        values[rows] *= rng.random((len(y[rows]), d), dtype=np.float32) < rates[y[rows]]
    return {"values": values, "csr": sparse.csr_array(values)}, y


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
    "fidelity_scorer, of the identity": Metric(
        lambda A, y: metrics.fidelity_scorer(FunctionTransformer(accept_sparse=True).fit(A[:2]), A)
    ),
    'activation_information, of="value"': Metric(
        partial(metrics.activation_information, of="value", random_state=0)
    ),
}
# One regression for each class, and all pairs of a class: not for millions of samples.
SUBSAMPLED = {
    "k_sparse_probe_score": Metric(
        lambda Z, y: metrics.k_sparse_probe_score(Z[::2], y[::2], Z[1::2], y[1::2])
    ),
    'jensen_shannon_consistency, form="pairwise"': Metric(
        partial(metrics.jensen_shannon_consistency, form="pairwise"), ["values"]
    ),
}


# -- measuring ---------------------------------------------------------------------------------


def measure(task: Row) -> Row:
    """Call a metric under `tracemalloc`, then time the repeats."""
    metric = (METRICS | SUBSAMPLED)[task["metric"]]
    forms, y = make_code(Size(*task["size"]))
    A, few = forms[task["form"]], np.repeat(np.arange(2 * N_GROUPS), 10)
    metric.call(A[np.arange(len(few))], few)  # so that no import counts
    tracemalloc.start()
    metric.call(A, y)
    extra = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds: list[float] = []
    while len(seconds) < task["repeats"] and sum(seconds) < ENOUGH_SECONDS:
        with Stopwatch() as watch:
            metric.call(A, y)
        seconds.append(watch.seconds)
    parts = (A.data, A.indices, A.indptr) if sparse.issparse(A) else (A,)
    return {
        "all_seconds": seconds,
        "seconds": min(seconds),
        "input_bytes": sum(part.nbytes for part in parts),  # without labels
        "extra_bytes": extra,
        "load": os.getloadavg()[0],
        "environment": common.environment(),
    }


def main() -> int:
    """Measure what is missing, then write the page."""
    arguments = common.command_line(__doc__, repeats=(2, 5))
    whole = Size(50_000, 50, 200) if arguments.quick else Size(1_000_000, 100, 1000)
    half, small = (whole._replace(n_samples=n) for n in (whole[0] // 2, 20 * whole.n_classes))
    chosen = {half: METRICS, whole: METRICS, small: SUBSAMPLED}
    tasks = [
        {"metric": name, "form": form, "size": [*size], "repeats": arguments.repeats}
        for size, several in chosen.items()  # each size is made once
        for name, metric in several.items()
        for form in metric.forms
    ]
    rows, ok = common.run_tasks(
        arguments, "bench_metrics", ["metric", "form", "size"], tasks, measure
    )
    parts = [common.load_text(rows)]
    for size, before in ((whole, half), (small, None)):
        n, d, c = size
        parts += [f"## {n:,} samples, {d} dimensions, {c:,} classes", table(rows, size, before)]
    common.write_page(arguments, "metrics", parts, rows)
    return 0 if ok else 1


def table(rows: Sequence[Row], size: Size, half: Size | None) -> str:
    """Write a line for each metric and form at this size, with the growth from half of it."""
    body = []
    for row in common.of(rows, size=[*size]):
        several, megabytes = row["all_seconds"], row["input_bytes"] / 1e6
        cells = [
            f"`{row['metric']}`",
            FORMS[row["form"]],
            f"{row['seconds']:.2f}",
            f"{np.median(several):.2f}, {max(several):.2f} ({len(several)})",
            f"{megabytes:,.0f}",
            f"{row['extra_bytes'] / 1e6:,.0f}",
            f"{row['extra_bytes'] / 1e6 / megabytes:.2f}",
        ]
        less = common.of(
            rows, size=list(half) if half else None, metric=row["metric"], form=row["form"]
        )
        for field in ("seconds", "extra_bytes"):
            cells.append(f"{row[field] / less[0][field]:.1f}" if less else "-")
        body.append(cells)
    header = ["metric", "input", "seconds", "median, slowest (repeats)", "input MB", "extra MB"]
    header += ["extra / input", "seconds / of half the samples", "extra / of half"]
    return common.markdown_table(header, body)


if __name__ == "__main__":
    raise SystemExit(main())
