"""How far past memory, one process, dense data? The figures of `docs/benchmark_scaling.md`.

Every row is measured in a process of its own: Linux only. Rows that are finished are kept in
`benchmarks/results/benchmark_scaling.jsonl`.

    python benchmarks/bench_scaling.py --quick              # small sizes
    python benchmarks/bench_scaling.py                      # everything; 10 GB of disk at most
    python benchmarks/bench_scaling.py --rows memory_map    # this row
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a forked process has no threads of it

import _rows
import _scaling_engines as engines
import _scaling_memory as memory
import _scaling_processes as processes
import _scaling_sparse as sparse
from _rows import Task

TASKS = {
    "memory_map": Task(
        "a memory map of 10 GB under a limit of 1.5 GB",
        "trains for some hundred steps, and transforms",
        memory.memory_map,
        10.0,
        0.1,
    ),
    "endless": Task(
        "a stream that never ends, by `partial_fit`", "constant memory", memory.endless, 20_000, 50
    ),
    "sources": Task("the same table from every source", "", memory.sources, 50_000, 2000),
    "epoch": Task(
        "CSR of 50,000 x 100,000, 0.1 % of it not zero, multinomial",
        "an epoch in minutes, less than 2 GB",
        sparse.epoch,
        50_000,
        500,
    ),
    "likelihoods": Task("the same, other likelihoods", "", sparse.epochs_of_all, 50_000, 500),
    "nonzeros": Task("time, as the non-zeros double", "linear", sparse.nonzeros, 5, 1),
    "against_dense": Task(
        "sparse batches against dense ones",
        "faster where used",
        sparse.against_dense,
        5,
        1,
    ),
    "gradients": Task(
        "two and four processes against one: gradients (float64, noise off), weights, steps",
        "1e-12, 1e-6, as many",
        processes.gradients,
        1,
        1,
        fork=False,
    ),
    "uneven": Task(
        "data that do not divide, early stopping", "no hang", processes.uneven, 1, 1, fork=False
    ),
    "lost": Task(
        "a process killed, or frozen", "an error within 60 s", processes.lost, 1, 1, fork=False
    ),
    "speed_up": Task(
        "an epoch in two processes, beside one", "", processes.speed_up, 20_000, 1000, fork=False
    ),
    "search": Task(
        "a search on two Dask workers",
        "scores identical",
        engines.search_identical,
        6,
        2,
        fork=False,
    ),
    "search_time": Task("its time, beside one process", "", engines.search_time, 6, 2, fork=False),
    "transform": Task(
        "`map_blocks` on two Dask workers",
        "identical, with true shapes and dtypes",
        engines.transform_identical,
        20,
        3,
        fork=False,
    ),
    "rows_at_a_time": Task(
        "codes, by the number of rows in a call",
        "identical in blocks of 1,024",
        engines.rows_at_a_time,
        7,
        7,
    ),
    "spark": Task("`mapInPandas` of Spark", "identical", engines.spark, 1, 1, fork=False),
    "ray": Task("`map_batches` of Ray", "identical", engines.ray, 1, 1, fork=False),
}


def page(table: str) -> str:
    """Return the page."""
    return f"""# Scaling: what was asked, and what was measured

Written by `python benchmarks/bench_scaling.py`; do not edit. [Which engine for which need, and how
to use it](scaling.md).

{table}

How: every row in a process of its own, on one thread unless it says otherwise. Memory is the
resident memory that belongs to no file; pages of a memory map belong to the file, and the system
takes them back when it needs them.
"""


if __name__ == "__main__":
    packages = ["accelerate", "dask", "distributed", "pyarrow", "pyspark", "ray"]
    raise SystemExit(_rows.main(__doc__ or "", "benchmark_scaling", TASKS, page, packages))
