"""Wide sparse data: an epoch's time and memory, time against non-zeros, sparse against dense."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _common import Row, process_memory
from _timing import epoch_of, interleave
from scipy import sparse
from scipy.special import gammaln

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning, _data
from sklearn_classvsc.datasets import make_class_topics
from sklearn_classvsc.metrics import role_recovery_score

GB = 1e9
#: Features, non-zeros of a sample, and classes: about those of the 20 newsgroups.
P, ROW, CLASSES = 100_000, 100, 20
COUNTS = ("multinomial", "poisson", "negative_binomial")


def words(n: int, p: int, row: int, seed: int = 0) -> tuple[sparse.csr_array, Any]:
    """Return n samples of exactly so many ones, at columns drawn by Zipf's law, and labels."""
    rng = np.random.default_rng(seed)
    log_p = -np.log(np.arange(1, p + 1))
    # The largest perturbed logarithms: so many columns, without repetition.
    columns = np.concatenate(
        [
            np.argpartition(-(log_p + rng.gumbel(size=(len(some), p))), row - 1)[:, :row]
            for some in np.array_split(np.arange(n), -(-n * p // 2**24))
        ]
    )
    columns.sort(axis=1)
    starts = np.arange(0, n * row + 1, row)
    ones = np.ones(n * row, np.float32)
    X = sparse.csr_array((ones, columns.ravel().astype(np.int32), starts), shape=(n, p))
    return X, rng.integers(0, CLASSES, n)


# -- an epoch ----------------------------------------------------------------------------------


def epoch(n: int, likelihood: str = "multinomial") -> Row:
    """Train the default estimator for an epoch of n x 100,000, in a process of its own."""
    command = [sys.executable, __file__, str(n), likelihood]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the epoch of {n} samples failed:\n{done.stderr}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    text = (
        f"{n:,} x {P:,} CSR, density {row['density']:.2%}, {likelihood}: an epoch of "
        f"{row['steps']} steps in {row['seconds'] / 60:.1f} min, on one thread; peak resident "
        f"memory of the whole process {row['peak'] / GB:.2f} GB, of which {row['before'] / GB:.2f} "
        f"before the fit, for {row['parameters'] / 1e6:.1f} million weights; made dense the data "
        f"would be {4 * n * P / GB:.0f} GB"
    )
    return row | {"measured": text, "met": row["peak"] < 2 * GB and row["seconds"] < 600}


def epochs_of_all(n: int) -> Row:
    """Do the same under each likelihood of counts."""
    rows = {name: epoch(n, name) for name in COUNTS}
    text = "; ".join(
        f"{name} {row['seconds'] / row['steps']:.2f} s a step, {row['peak'] / GB:.2f} GB"
        for name, row in rows.items()
    )
    return {"measured": text, "met": all(row["met"] for row in rows.values()), "rows": rows}


def _child(n: int, likelihood: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", CollapseWarning)
    # Texts have each word about 1.4 times.
    topics = make_class_topics(
        n, P, n_classes=CLASSES, n_shared=10, length=1.6 * ROW, random_state=0
    )
    X, y = topics.data, topics.target
    del topics
    estimator = ClassVSCTransformer(likelihood=likelihood, random_state=0)
    before, start = process_memory("VmRSS"), time.perf_counter()
    timing = epoch_of(estimator, X, y)()
    row = {
        "seconds": timing.wall,
        "whole": time.perf_counter() - start,
        "steps": -(-n // estimator.batch_size),
        "density": X.nnz / math.prod(X.shape),
        "before": before,
        "peak": process_memory("VmHWM"),
        "parameters": sum(w.numel() for w in estimator.module_.parameters()),
    }
    print(json.dumps(row))


# -- time --------------------------------------------------------------------------------------


def nonzeros(repeats: int, p: int = P) -> Row:
    """Double the non-zeros of a sample, four times, at fixed n and p."""
    n, rows = 1024, [25, 50, 100, 200, 400]
    systems = {}
    for row in rows:
        estimator = ClassVSCTransformer(likelihood="multinomial", random_state=0)
        systems[str(row)] = epoch_of(estimator, *words(n, p, row))
    with _quiet():
        timed = interleave("nonzeros", systems, repeats)
    seconds = np.array([min(r["wall"]) for r in timed]) / (n / 256)
    nnz = 256 * np.array(rows)
    slope, constant = np.polyfit(nnz, seconds, 1)
    off = np.abs(slope * nnz + constant - seconds).max() / seconds.mean()
    power = np.polyfit(np.log(nnz), np.log(seconds), 1)[0]
    text = (
        f"a step of 256 x {p:,} with {', '.join(map(str, rows))} non-zeros a sample takes "
        f"{', '.join(f'{1000 * s:.0f}' for s in seconds)} ms: {1000 * constant:.0f} ms, for the "
        f"normaliser and Adam need every column, + {1e6 * slope:.2f} µs a non-zero, off that "
        f"line by {off:.0%} at most; slope on log-log {power:.2f} (best of {repeats}, in turn)"
    )
    return {
        "measured": text,
        "met": bool(power <= 1 and off < 0.1),
        "ms": (1000 * seconds).tolist(),
    }


def against_dense(repeats: int, likelihood: str = "multinomial") -> Row:
    """Compare a step on sparse batches with one on the same batches made dense."""
    ratios = {}
    for p, row in itertools.product((1024, 2048, 4096, 8192, 16_384, 32_768), (20, 100, 800)):
        X, y = words(1024, p, row)
        systems = {}
        for name, wide in {"sparse": 0, "dense": 2**62}.items():
            fit = epoch_of(ClassVSCTransformer(likelihood=likelihood, random_state=0), X, y)
            systems[name] = lambda fit=fit, wide=wide: _under(wide, fit)
        with _quiet():
            one, other = interleave("against_dense", systems, repeats)
        ratios[p, row] = float(np.median(np.divide(one["wall"], other["wall"])))
    shown = "; ".join(
        f"{p:,}: {', '.join(f'{ratios[p, row]:.2f} at {row}' for _, row in group)}"
        for p, group in itertools.groupby(ratios, lambda key: key[0])
    )
    chosen = [ratio for (p, row), ratio in ratios.items() if p >= _data.WIDE]
    text = (
        f"time of an epoch on sparse batches, as a multiple of that on dense ones, by features and "
        f"non-zeros a sample ({likelihood}): {shown} (medians of {repeats} interleaved ratios)"
    )
    return {
        "measured": text,
        "met": max(chosen) < 1,
        "ratios": [[*k, v] for k, v in ratios.items()],
    }


def _under(wide: int, fit: Any) -> Any:
    kept, _data.WIDE = _data.WIDE, wide
    try:
        return fit()
    finally:
        _data.WIDE = kept


# -- learning ----------------------------------------------------------------------------------


def learns(n: int, p: int = 5000) -> Row:
    """Train each likelihood of counts on n generated texts, and score 1,000 others.

    Perplexities of the models are upper bounds, by the ELBO.
    """
    topics = make_class_topics(
        n + 1000, p, n_classes=5, n_global=1, n_shared=2, length=120, background=0.4, random_state=0
    )
    X, y, held = topics.data, topics.target, slice(n, None)
    frequency = (X[:n].sum(axis=0).A1 + 0.5) / (X[:n].sum() + 0.5 * p)
    sizes, held_out = X[held].sum(axis=1).A1, X[held].tocoo()
    orders = gammaln(sizes + 1).sum() - gammaln(held_out.data + 1).sum()
    totals = (sizes * np.log(sizes) - sizes - gammaln(sizes + 1)).sum()  # Poisson, of rates l
    share = topics.codes[held] / topics.codes[held].sum(axis=1, keepdims=True)
    of_topics = (share[held_out.row] * topics.dictionary[:, held_out.col].T).sum(axis=1)
    true = np.log(0.6 * of_topics + 0.4 * topics.language[held_out.col])

    def perplexity(log_p: float) -> float:
        return float(np.exp(-log_p / sizes.sum()))

    known = {
        "words alone": perplexity((X[held] @ np.log(frequency)).sum()),
        "the true topics": perplexity(held_out.data @ true),
    }
    models, recovered = {}, {}
    for name in COUNTS:
        model = ClassVSCTransformer(
            16, likelihood=name, hidden_layer_sizes=(64,), max_epochs=20, random_state=0
        )
        with _quiet():
            model.fit(X[:n], y[:n])
        elbo = model.score_samples(X[held]).sum(dtype=np.float64)
        models[name] = perplexity(elbo - orders - (0 if name == "multinomial" else totals))
        recovered[name] = role_recovery_score(topics.supports, model.transform(X[held]), y[held])
    text = (
        f"perplexity of 1,000 held-out texts, {p:,} words, {n:,} texts to learn from: "
        f"{', '.join(f'{k} {v:.0f}' for k, v in (known | models).items())} (models: upper bounds; "
        "of the counts of a text given its length); roles recovered: "
        f"{', '.join(f'{k} {v:.0%}' for k, v in recovered.items())}"
    )
    met = max(models.values()) < known["words alone"]
    return {"measured": text, "met": met, "known": known, "models": models, "roles": recovered}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        yield


if __name__ == "__main__":
    _child(int(sys.argv[1]), sys.argv[2])
