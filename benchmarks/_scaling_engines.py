"""Searches and transforms on other engines: do they give what one process gives, and how fast.

Two local Dask workers of one thread each, in place of a cluster; Spark and Ray where they are
installed. Each function returns a row of figures.
"""

from __future__ import annotations

import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import _common as common
import joblib
import numpy as np
import torch
from _common import Row
from _timing import timed
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.metrics import contrast_scorer, elbo_scorer, fidelity_scorer

DASK = {
    "measured": "not run: Dask is not installed",
    "met": None,
    "skipped": 'Dask: `pip install "dask[array,distributed]"`',
}
#: Rows that `transform` takes at a time.
BLOCK = 1024


@contextmanager
def cluster(**options: Any) -> Iterator[Any]:
    """Two worker processes of one thread each, warm, and this process on one torch thread."""
    from dask.distributed import Client, LocalCluster

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"} | options
    try:
        with LocalCluster(**options) as local, Client(local) as client:
            client.run(_warm_up)
            yield client
    finally:
        torch.set_num_threads(threads)


def _warm_up() -> None:
    """Import what a fit imports, the first optimiser's seconds included."""
    X, y = load_digits(return_X_y=True)
    _search(1).fit(X[:200], y[:200])


def _search(n: int) -> GridSearchCV:
    """Return a search over n settings, in two folds each."""
    warnings.simplefilter("ignore", CollapseWarning)
    scoring = {"contrast": contrast_scorer, "fidelity": fidelity_scorer, "elbo": elbo_scorer}
    return GridSearchCV(
        ClassVSCTransformer(16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0),
        {"consistency_weight": np.geomspace(0.3, 3, n)},
        scoring=scoring,
        refit=False,
        cv=2,
        error_score="raise",
    )


def _fit(n: int, X: NDArray[Any], y: NDArray[Any], backend: str | None) -> GridSearchCV:
    """Fit a search here, or under one of joblib's backends."""
    if backend is None:
        return _search(n).fit(X, y)
    with joblib.parallel_config(backend):
        return _search(n).fit(X, y)


def _scores(search: GridSearchCV) -> dict[str, NDArray[Any]]:
    names = [name for name in search.cv_results_ if name.startswith("split")]
    return {name: search.cv_results_[name] for name in names}


def search_identical(size: int) -> Row:
    """Search over `size` settings here, and on workers of one and of two threads."""
    if not find_spec("distributed"):
        return DASK
    X, y = load_digits(return_X_y=True)
    same, n_scores = {}, 0
    for threads in (1, 2):
        with cluster(threads_per_worker=threads):
            here, there = (_scores(_fit(size, X, y, backend)) for backend in (None, "dask"))
        n_scores = sum(map(len, here.values()))
        same[threads] = sum(int((there[name] == here[name]).sum()) for name in here)
    text = ", ".join(f"{n} of {n_scores} with {k} a worker" for k, n in same.items())
    return {
        "measured": f"scores of a search on two Dask workers that are bit-identical, by threads: "
        f"{text}",
        "met": all(n == n_scores for n in same.values()),
        "identical": same,
        "scores": n_scores,
    }


def search_time(size: int) -> Row:
    """Time a search of `size` settings on two warm workers against one process, in turn."""
    if not find_spec("distributed"):
        return DASK
    X, y = load_digits(return_X_y=True)
    ratios, here, there = [], [], []
    with cluster():
        for repeat in range(5):
            pair = [(here, None), (there, "dask")]
            for seconds, backend in pair[:: -1 if repeat % 2 else 1]:
                seconds.append(timed(partial(_fit, size, X, y, backend)).wall)
            ratios.append(here[-1] / there[-1])
    return {
        "measured": f"a search of {2 * size} fits on two warm Dask workers is "
        f"{statistics.median(ratios):.2f} times as fast as in one process (median of 5 interleaved "
        f"ratios, {min(ratios):.2f} to {max(ratios):.2f}; {statistics.median(here):.1f} s in one "
        f"process) on {os.cpu_count()} cores",
        "met": None,
        "ratios": ratios,
        "seconds": {"one process": here, "two workers": there},
    }


def _encode(block: NDArray[Any], estimator: Any) -> Any:
    return estimator.transform(block)


def transform_identical(size: int) -> Row:
    """Transform `size` blocks of rows here and on two workers; count what is shipped."""
    if not find_spec("distributed"):
        return DASK
    import dask
    import dask.array as da

    n = size * BLOCK - 100  # the last block is shorter
    X = np.random.default_rng(0).random((n, 784), np.float32)
    y = np.arange(n) % 10
    warnings.simplefilter("ignore", CollapseWarning)
    estimator = ClassVSCTransformer(50, hidden_layer_sizes=(400,), max_epochs=1, random_state=0)
    estimator.fit(X[:BLOCK], y[:BLOCK])
    estimator.set_params(threshold=0.15)  # so that codes of an untrained model are not all zero
    with cluster():
        here = estimator.transform(X)
        blocks = da.from_array(X, chunks=(BLOCK, -1)).persist()
        kwargs = {
            "dtype": np.float32,
            "chunks": (blocks.chunks[0], (50,)),
            "meta": np.empty((0, 0), np.float32),
        }
        recipes = {
            "delayed": lambda: blocks.map_blocks(_encode, dask.delayed(estimator), **kwargs),
            "bound": lambda: blocks.map_blocks(estimator.transform, **kwargs),
        }
        Z = recipes["delayed"]()
        known = (Z.shape, Z.dtype) == (here.shape, here.dtype)
        same = all(np.array_equal(recipe().compute(), here) for recipe in recipes.values())
        ratios = []
        for _ in range(5):
            bound, delayed = (
                timed(lambda k=k: recipes[k]().compute()).wall for k in ("bound", "delayed")
            )
            ratios.append(bound / delayed)
    megabytes, state = len(pickle.dumps(estimator)) / 1e6, estimator.__getstate__()
    weights = len(pickle.dumps(state["_pending_state"]["module"])) / 1e6
    on = float((here != 0).mean())
    return {
        "measured": f"codes of {n:,} rows in {size} blocks on two Dask workers are "
        f"{'bit-identical' if same else 'not identical'}, {on:.0%} of them non-zero; shape and "
        f"dtype before compute {'true' if known else 'wrong'}; the pickle of a 784-400-50 model "
        f"has {megabytes:.1f} MB, {weights:.1f} MB of them weights; sent with every block it takes "
        f"{statistics.median(ratios):.1f} times as long as sent once to a worker",
        "met": same and known and 0.01 < on < 0.99,
        "ratios": ratios,
        "megabytes": megabytes,
    }


def rows_at_a_time(size: int) -> Row:
    """Transform the same rows in batches of other sizes, and count where codes differ at all."""
    X, y = load_digits(return_X_y=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        estimator = ClassVSCTransformer(16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0)
        whole = estimator.fit(X, y).activation_proba(X)
        differ, largest = {}, 0.0
        for n in (1, 5, 7, 16, 48, 100, BLOCK)[:size]:
            parts = [estimator.activation_proba(X[i : i + n]) for i in range(0, len(X), n)]
            gamma = np.concatenate(parts)
            differ[n] = int((gamma != whole).any(axis=1).sum())
            largest = max(largest, float(np.abs(gamma - whole).max()))
    finally:
        torch.set_num_threads(threads)
    text = ", ".join(f"{k} at {n}" for n, k in differ.items())
    return {
        "measured": f"of {len(X):,} rows have activations that differ in some bit, by rows at a "
        f"time: {text}; largest difference {largest:.0e}",
        "met": not differ.get(BLOCK),
        "differ": differ,
        "largest": largest,
    }


def other_engine(package: str) -> Row:
    """Run the example that encodes with "pyspark" or "ray"."""
    if not find_spec(package):
        skipped = f"{package}: see `docs/examples/encode_with_{package}.py`"
        return {"measured": f"not run: no {package}", "met": None, "skipped": skipped}
    script = common.DOCS / "examples" / f"encode_with_{package}.py"
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(common.ROOT)},
            timeout=300,
        )
    found = re.search(rf"^{package} .*", result.stdout, re.MULTILINE)
    text = found[0] if found else (result.stderr.strip().splitlines() or ["no output"])[-1]
    return {"measured": text, "met": "by 2 processes, identical: True" in text}


def spark(size: int) -> Row:
    """Run the example that encodes with Spark."""
    return other_engine("pyspark")


def ray(size: int) -> Row:
    """Run the example that encodes with Ray."""
    return other_engine("ray")
