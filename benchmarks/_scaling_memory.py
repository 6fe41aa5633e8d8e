"""Data larger than memory: a memory map under a limit, a stream without an end, every source."""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _common import Row, process_memory
from _soak_memory import MB, highest, resident

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.datasets import make_class_factors

#: Features of the memory map, and the memory in MB that the process may have in all.
P, LIMIT = 1024, 1536
BATCH = 8192
#: Of the stream: rows of a chunk.
CHUNK = 256


def memory_map(gigabytes: float) -> Row:
    """Fit to a sparse file, most of it zeros, under a limit of 1.5 GB on what is no file's."""
    n = int(gigabytes * 1024 * MB) // (4 * P) // BATCH * BATCH
    with tempfile.NamedTemporaryFile() as file:
        X = np.memmap(file.name, np.float32, "w+", shape=(n, P))
        rng = np.random.default_rng(0)
        factors, labels = make_class_factors(2048, P, return_X_y=True, random_state=0)
        places = rng.choice(n // 2048, size=min(64, n // 2048), replace=False)
        for place in places:
            X[place * 2048 : (place + 1) * 2048] = factors
        X.flush()
        del X
        found = _in_limit(file.name, n, labels)
    if "error" in found:
        return {"measured": found["error"], "met": False}
    text = (
        f"{n:,} x {P:,} float32 ({n * P * 4 / 1e9:.1f} GB), one epoch of {found['steps']:,} steps "
        f"of {BATCH:,} rows in {found['fit']:.0f} s, and `transform` in {found['transform']:.0f} s,"
        f" under a limit of {LIMIT} MB (RLIMIT_DATA); peak resident memory that is no file's "
        f"{found['peak']:.0f} MB, {found['rest']:.0f} MB of it the imports"
    )
    return {"measured": text, "met": found["peak"] < LIMIT, **found}


def _in_limit(path: str, n: int, labels: Any) -> Row:
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_fit_memory_map, args=(path, n, labels, send)
    )
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return {"error": f"killed: it needs more than {LIMIT} MB"}
    finally:
        process.join()


def _fit_memory_map(path: str, n: int, labels: Any, send: Connection) -> None:
    warnings.simplefilter("ignore", CollapseWarning)
    X = np.memmap(path, np.float32, "r", shape=(n, P))
    y = np.resize(labels, n)
    # The system counts what libraries reserve and never use: that first, in a small fit. So much
    # more may then be taken as makes LIMIT resident.
    ClassVSCTransformer(max_epochs=1).fit(X[: 4 * len(labels)], y[: 4 * len(labels)])
    limit = process_memory("VmData") + int((LIMIT - resident()) * MB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    found: Row = {"rest": resident(), "peak": 0.0}
    estimator = ClassVSCTransformer(
        hidden_layer_sizes=(64,), batch_size=BATCH, max_epochs=1, random_state=0
    )

    def timed(name: str, work: Callable[[], Any]) -> None:
        start = time.perf_counter()
        found["peak"] = max(found["peak"], highest(work))
        found[name] = time.perf_counter() - start

    timed("fit", lambda: estimator.fit(X, y))
    timed("transform", lambda: estimator.transform(X))
    found["steps"] = -(-n // BATCH)
    send.send(found)


def endless(n_chunks: int) -> Row:
    """Call `partial_fit` on and on; memory and time per call must not grow."""
    warnings.simplefilter("ignore", CollapseWarning)
    estimator = ClassVSCTransformer(hidden_layer_sizes=(64,), random_state=0)
    warm = max(1, n_chunks // 5)
    memory, seconds = [], []
    for i, (X, y) in enumerate(itertools.islice(_stream(), warm + n_chunks)):
        start = time.perf_counter()
        estimator.partial_fit(X, y)
        if i >= warm:
            seconds.append(time.perf_counter() - start)
            if i % max(1, n_chunks // 20) == 0:
                memory.append(resident())
    first, last = (np.median(part) for part in np.array_split(np.array(seconds), 10)[::9])
    growth = float(np.mean(memory[-5:]) - np.mean(memory[:5]))
    text = (
        f"{n_chunks:,} chunks of {CHUNK} x 64 after {warm:,} to warm up: resident memory "
        f"{growth:+.2f} MB, time per call x {last / first:.2f} ({1000 * last:.1f} ms)"
    )
    return {"measured": text, "met": growth < 1, "course": [round(m, 2) for m in memory]}


def _stream() -> Iterator[tuple[Any, Any]]:
    X, y = make_class_factors(20_000, n_features=64, return_X_y=True, random_state=0)
    rng = np.random.default_rng(0)
    while True:
        rows = rng.integers(len(X), size=CHUNK)
        yield X[rows] + rng.normal(scale=0.01, size=(CHUNK, 64)), y[rows]


def sources(n: int) -> Row:
    """Fit to the same table from every source: what it takes beside an array, time and memory."""
    import dask.array as da
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
    import torch
    from torch.utils.data import TensorDataset

    warnings.simplefilter("ignore", CollapseWarning)
    X, y = make_class_factors(n, n_features=256, return_X_y=True, random_state=0)
    X = X.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/X.npy", X)
        table = pa.table({f"x{j}": X[:, j] for j in range(X.shape[1])} | {"y": y})
        pq.write_table(table, f"{folder}/table.parquet", row_group_size=8192)
        del table
        mapped = np.load(f"{folder}/X.npy", mmap_mode="r")

        def chunks() -> Iterator[tuple[Any, Any]]:
            for start in range(0, n, 4096):
                yield mapped[start : start + 4096], y[start : start + 4096]

        given: dict[str, tuple[Any, Any]] = {
            "array": (X, y),
            "memory map": (mapped, y),
            "chunks": (chunks, None),
            "torch Dataset": (TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), None),
            "Dask array": (da.from_array(mapped, (8192, -1)), y),
            "Parquet": (ds.dataset(Path(folder) / "table.parquet"), "y"),
        }
        times: dict[str, list[float]] = {name: [] for name in given}
        for _ in range(3):
            for name, data in given.items():
                estimator = ClassVSCTransformer(max_epochs=3, random_state=0)
                start = time.perf_counter()
                estimator.fit(*data)
                times[name].append(time.perf_counter() - start)
    ratios = {
        name: float(np.median(np.divide(seconds, times["array"])))
        for name, seconds in times.items()
        if name != "array"
    }
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    text = (
        f"{n:,} x 256, 3 epochs, time beside an array in memory (medians of 3 interleaved ratios): "
        f"{shown}"
    )
    return {"measured": text, "met": None, "ratios": ratios}
