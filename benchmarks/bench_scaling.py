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
import _scaling_memory as memory
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
    packages = ["accelerate", "dask", "distributed", "pyarrow", "optuna"]
    raise SystemExit(_rows.main(__doc__ or "", "benchmark_scaling", TASKS, page, packages))
