"""Measure what data larger than memory, wide sparse data, processes and other engines cost.

Writes the figures of `benchmarks/pages/scaling.md`. Every row has its own process: Linux only.

    python benchmarks/bench_scaling.py --quick              # small sizes
    python benchmarks/bench_scaling.py                      # everything; 10 GB of disk at most
    python benchmarks/bench_scaling.py --only memory_map    # this row
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _harness as harness
import joblib
import numpy as np
import torch
from _common import DOCS, ROOT, Row, spread
from _harness import MB, Task
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.datasets import make_class_factors, make_class_topics
from sklearn_classvsc.distributed import data_parallel
from sklearn_classvsc.metrics import contrast_scorer, elbo_scorer, fidelity_scorer

GB = 1e9
#: Of the memory map: features, rows of a batch, and the memory in MB that the process may have.
P, BATCH, LIMIT = 1024, 8192, 1536
CHUNK = 256  # rows, of the stream
#: Features, non-zeros of a sample, and classes: about those of the 20 newsgroups.
VOCABULARY, ROW, CLASSES = 100_000, 100, 20


# -- larger than memory ------------------------------------------------------------------------


def memory_map(gigabytes: float) -> Row:
    """Fit to a sparse file, most of it zeros, under a limit of 1.5 GB on what is no file's."""
    n = int(gigabytes * 1024 * MB) // (4 * P) // BATCH * BATCH
    with tempfile.NamedTemporaryFile() as file:
        X = np.memmap(file.name, np.float32, "w+", shape=(n, P))
        factors, labels = make_class_factors(2048, P, return_X_y=True, random_state=0)
        rng = np.random.default_rng(0)
        for place in rng.choice(n // 2048, size=min(64, n // 2048), replace=False):
            X[place * 2048 : (place + 1) * 2048] = factors
        X.flush()
        X, y = np.memmap(file.name, np.float32, "r", shape=(n, P)), np.resize(labels, n)
        # The system counts what libraries reserve and never use: that first, in a small fit. So
        # much more may then be taken as makes LIMIT resident.
        ClassVSCTransformer(max_epochs=1).fit(X[:8192], y[:8192])
        rest = harness.resident()
        harness.limit_memory((LIMIT - rest) * MB)
        sizes = {"hidden_layer_sizes": (64,), "batch_size": BATCH, "max_epochs": 1}
        estimator = ClassVSCTransformer(**sizes, random_state=0)
        works = {"fit": lambda: estimator.fit(X, y), "transform": lambda: estimator.transform(X)}
        seconds, peaks = {}, []
        for name, work in works.items():
            start = time.perf_counter()
            peaks.append(harness.highest(work))
            seconds[name] = time.perf_counter() - start
    text = (
        f"{n:,} x {P:,} float32 ({n * P * 4 / GB:.1f} GB), one epoch of {-(-n // BATCH):,} steps "
        f"of {BATCH:,} rows in {seconds['fit']:.0f} s, `transform` in {seconds['transform']:.0f} s "
        f"under a limit of {LIMIT} MB (RLIMIT_DATA); peak resident memory that is no file's "
        f"{max(peaks):.0f} MB, {rest:.0f} MB of it the imports"
    )
    return {"measured": text, "met": max(peaks) < LIMIT}


def endless(n_chunks: int) -> Row:
    """Call `partial_fit` on and on; memory and time per call must not grow."""
    estimator = ClassVSCTransformer(hidden_layer_sizes=(64,), random_state=0)
    X, y = make_class_factors(20_000, n_features=64, return_X_y=True, random_state=0)
    rng, warm, held, seconds = np.random.default_rng(0), max(1, n_chunks // 5), [], []
    for i in range(-warm, n_chunks):
        rows = rng.integers(len(X), size=CHUNK)
        chunk = X[rows] + rng.normal(scale=0.01, size=(CHUNK, 64))
        start = time.perf_counter()
        estimator.partial_fit(chunk, y[rows])
        if i >= 0:
            seconds.append(time.perf_counter() - start)
            if i % max(1, n_chunks // 20) == 0:
                held.append(harness.resident())
    first, last = (np.median(part) for part in np.array_split(np.array(seconds), 10)[::9])
    growth = float(np.mean(held[-5:]) - np.mean(held[:5]))
    text = (
        f"{n_chunks:,} chunks of {CHUNK} x 64 after {warm:,} to warm up: resident memory "
        f"{growth:+.2f} MB, time per call x {last / first:.2f} ({1000 * last:.1f} ms)"
    )
    return {"measured": text, "met": growth < 1, "course": [round(m, 2) for m in held]}


def sources(n: int) -> Row:
    """Fit to the same table from every source, and compare the time with that of an array."""
    from torch.utils.data import TensorDataset

    X, y = make_class_factors(n, n_features=256, return_X_y=True, random_state=0)
    X = X.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/X.npy", X)
        mapped = np.load(f"{folder}/X.npy", mmap_mode="r")

        def chunks() -> Iterator[tuple[Any, Any]]:
            for start in range(0, n, 4096):
                yield mapped[start : start + 4096], y[start : start + 4096]

        given: dict[str, tuple[Any, Any]] = {
            "array": (X, y),
            "memory map": (mapped, y),
            "chunks": (chunks, None),
            "torch Dataset": (TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), None),
        }
        if find_spec("dask"):
            import dask.array as da

            given["Dask array"] = da.from_array(mapped, (8192, -1)), y
        if find_spec("pyarrow"):
            import pyarrow as pa
            import pyarrow.dataset as ds
            import pyarrow.parquet as pq

            table = pa.table({f"x{j}": X[:, j] for j in range(X.shape[1])} | {"y": y})
            pq.write_table(table, f"{folder}/table.parquet", row_group_size=8192)
            given["Parquet"] = ds.dataset(f"{folder}/table.parquet"), "y"

        def fit(data: tuple[Any, Any]) -> Any:
            return ClassVSCTransformer(max_epochs=3, random_state=0).fit(*data)

        systems = {name: partial(fit, data) for name, data in given.items()}
        timings = harness.interleave(systems, 3, warm_up=False)
    shown = (
        f"{name} {np.median(harness.ratios(timings, name, 'array')):.2f}" for name in [*given][1:]
    )
    text = (
        f"{n:,} x 256, 3 epochs, time against an array in memory (medians of 3 ratios): "
        f"{', '.join(shown)}"
    )
    return {"measured": text, "met": None, "timings": timings}


# -- wide sparse data --------------------------------------------------------------------------


def epoch(n: int) -> Row:
    """Train on counts of n x 100,000 for an epoch."""
    torch.set_num_threads(1)
    # Texts have each word about 1.4 times.
    sizes = {"n_classes": CLASSES, "n_shared": 10, "length": 1.6 * ROW}
    topics = make_class_topics(n, VOCABULARY, **sizes, random_state=0)
    X, y = topics.data, topics.target
    del topics
    estimator, before = counts(), harness.memory("VmRSS")
    seconds = harness.epoch_of(estimator, X, y)()[0]
    peak = harness.memory("VmHWM")
    n_weights = sum(w.numel() for w in estimator.module_.parameters())
    text = (
        f"{n:,} x {VOCABULARY:,} CSR, density {X.nnz / math.prod(X.shape):.2%}, multinomial: an "
        f"epoch of {-(-n // estimator.batch_size)} steps in {seconds / 60:.1f} min, on one thread; "
        f"peak resident memory {peak / GB:.2f} GB, of which {before / GB:.2f} before the fit, for "
        f"{n_weights / 1e6:.1f} million weights; made dense the data would be "
        f"{4 * n * VOCABULARY / GB:.0f} GB"
    )
    return {"measured": text, "met": bool(peak < 2 * GB and seconds < 600)}


def counts() -> ClassVSCTransformer:
    """Return a model of counts."""
    return ClassVSCTransformer(likelihood="multinomial", random_state=0)


def against_dense(repeats: int, widest: int = 65_536) -> Row:
    """Compare an epoch of a CSR array with one of the same array made dense."""
    found: dict[int, dict[int, float]] = {}
    rng = np.random.default_rng(0)
    for p, row in itertools.product((4096, 16_384, widest), (20, 100, 800)):
        # Ones, at random columns.
        X = sparse.random_array((1024, p), density=row / p, format="csr", rng=rng)
        X, y = X.sign().astype(np.float32), rng.integers(0, CLASSES, 1024)
        given = {"sparse": X, "dense": X.toarray()}
        systems = {name: harness.epoch_of(counts(), data, y) for name, data in given.items()}
        several = harness.ratios(harness.interleave(systems, repeats), "sparse", "dense")
        found.setdefault(p, {})[row] = statistics.median(several)
    shown = "; ".join(
        f"{p:,}: {', '.join(f'{ratio:.2f} at {row}' for row, ratio in of_p.items())}"
        for p, of_p in found.items()
    )
    text = (
        "time of an epoch of a CSR array, as a multiple of that of the same array made dense, by "
        f"features and non-zeros a sample: {shown} (medians of {repeats} interleaved ratios)"
    )
    return {"measured": text, "met": max(found[widest].values()) < 1}


# -- several processes -------------------------------------------------------------------------


def torchrun(n: int, *command: Any) -> None:
    """Run a command in n processes that know of each other."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}"]
    done = subprocess.run(
        [*run, *map(str, command)], env=variables(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


def variables() -> dict[str, str]:
    """Return the environment of another process."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def speed_up(size: int) -> Row:
    """Time an epoch of `size` x 784 samples in two processes, and in one with 1 or 2 threads."""
    rounds, epochs = (5, 4) if size >= 10_000 else (1, 2)
    parts = []
    for batch in (256, 2048):

        def run(n: int, threads: int, batch: int = batch) -> tuple[float, float]:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "seconds"
                torchrun(n, __file__, "--child", size, batch, epochs, threads, path)
                return float(path.read_text()), 0.0

        systems = {"2 x 1": partial(run, 2, 1), "1 x 1": partial(run, 1, 1)}
        systems["1 x 2"] = partial(run, 1, 2)
        timings = harness.interleave(systems, rounds, warm_up=False)
        one, two = (
            statistics.median(harness.ratios(timings, k, "2 x 1")) for k in ("1 x 1", "1 x 2")
        )
        parts.append(f"batch {batch}: {one:.2f} x one process on one thread, {two:.2f} x on two")
    text = f"an epoch of {size:,} x 784, two processes of one thread, gloo: {'; '.join(parts)}"
    return {"measured": text, "met": None}


def train_together(n: int, batch: int, epochs: int, threads: int, path: str) -> None:
    """Train in this process, one of several; note the seconds of an epoch."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    y = np.random.default_rng(0).integers(0, 10, n)
    rng, timer = np.random.default_rng(1), harness.EpochTimer()
    X = rng.random((10, 784), np.float32)[y] * rng.random((n, 784), np.float32)
    sizes = {"hidden_layer_sizes": (400,), "batch_size": batch, "max_epochs": epochs}
    with data_parallel() as accelerator:
        ClassVSCTransformer(50, **sizes, random_state=0, callbacks=[timer]).fit(X, y)
    if accelerator.is_main_process:
        Path(path).write_text(str(statistics.median(timer.seconds[1:])))


# -- other engines -----------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(threads: int) -> Iterator[None]:
    """Two worker processes, warm, and this process on one torch thread."""
    from dask.distributed import Client, LocalCluster

    torch.set_num_threads(1)
    options = {"n_workers": 2, "threads_per_worker": threads, "dashboard_address": ":0"}
    with LocalCluster(**options) as local, Client(local) as client:
        X, y = load_digits(return_X_y=True)  # what a fit imports, the first optimiser's too
        client.run(fit_search, 1, X[:200], y[:200])
        yield


def fit_search(n: int, X: Any, y: Any, backend: str | None = None) -> dict[str, Any]:
    """Search over n settings, in two folds each, here or by Dask; return all scores."""
    warnings.simplefilter("ignore")
    search = GridSearchCV(
        ClassVSCTransformer(16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0),
        {"consistency_weight": np.geomspace(0.3, 3, n)},
        scoring={"contrast": contrast_scorer, "fidelity": fidelity_scorer, "elbo": elbo_scorer},
        refit=False,
        cv=2,
        error_score="raise",
    )
    with joblib.parallel_config(backend) if backend else contextlib.nullcontext():
        found = search.fit(X, y).cv_results_
    return {name: found[name].tolist() for name in found if name.startswith("split")}


def search(n: int) -> Row:
    """Search over n settings here, and on two workers of one and of two threads."""
    if not find_spec("distributed"):
        return harness.not_installed('"dask[distributed]"')
    X, y = load_digits(return_X_y=True)
    work, same = partial(fit_search, n, X, y), {}
    for threads in (2, 1):
        with cluster(threads):
            same[threads] = work() == work("dask")
            if threads == 1:
                systems = {"here": work, "dask": partial(work, "dask")}
                timings = harness.interleave(systems, 5, warm_up=False)
    text = (
        f"scores of a search of {2 * n} fits on two Dask workers are "
        f"{'bit-identical' if all(same.values()) else f'the same, by threads: {same}'}; in "
        f"one process it takes {spread(harness.ratios(timings, 'here', 'dask'))} times as long (5 "
        f"interleaved ratios; {statistics.median(timings['here']['wall']):.1f} s), on "
        f"{os.cpu_count()} cores"
    )
    return {"measured": text, "met": all(same.values())}


def engine(size: int, package: str) -> Row:
    """Run the example that encodes with "pyspark" or "ray"."""
    if not find_spec(package):
        return harness.not_installed(package)
    script = DOCS / "examples" / f"encode_with_{package}.py"
    with tempfile.TemporaryDirectory() as folder:
        options = {"capture_output": True, "text": True, "timeout": 300}
        command = [sys.executable, str(script)]
        result = subprocess.run(command, cwd=folder, env=variables(), **options)
    found = re.search(rf"^{package} .*", result.stdout, re.MULTILINE)
    text = found[0] if found else (result.stderr.strip().splitlines() or ["no output"])[-1]
    return {"measured": text, "met": "by 2 processes, identical: True" in text}


TASKS = {
    "memory_map": Task(
        "a memory map of 10 GB under a limit of 1.5 GB",
        "trains for some hundred steps, and transforms",
        memory_map,
        10.0,
        0.1,
    ),
    "endless": Task(
        "a stream that never ends, by `partial_fit`", "constant memory", endless, 20_000, 50
    ),
    "sources": Task("the same table from every source", "", sources, 50_000, 2000),
    "epoch": Task(
        "CSR of 50,000 x 100,000, 0.1 % of it not zero",
        "an epoch in minutes, less than 2 GB",
        epoch,
        50_000,
        500,
    ),
    "against_dense": Task("a CSR array against a dense one", "faster if wide", against_dense, 5, 1),
    "speed_up": Task("an epoch in two processes, against one", "", speed_up, 20_000, 1000),
    "search": Task("a search on two Dask workers", "scores identical", search, 6, 2),
    "spark": Task("`mapInPandas` of Spark", "identical", engine, 1, 1, ("pyspark",)),
    "ray": Task("`map_batches` of Ray", "identical", engine, 1, 1, ("ray",)),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        train_together(*map(int, sys.argv[2:6]), sys.argv[6])
    else:
        packages = "accelerate dask distributed pyarrow pyspark ray"
        raise SystemExit(harness.page_of_rows(__doc__, "scaling", TASKS, packages))
