"""Does it keep working, lose nothing and let nobody in? The figures of `docs/reliability.md`.

Every row is measured in a process of its own, on one thread, forked from this one: Linux only.
Rows that are finished are kept in `benchmarks/results/reliability.jsonl`.

    python benchmarks/soak.py --quick            # small counts
    python benchmarks/soak.py                    # everything
    python benchmarks/soak.py --rows kill leak   # these rows
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a forked process must not wait for its threads

import _common as common
import _rows
import joblib
import torch
from _common import Row
from _rows import Task
from _soak_fits import ESTIMATORS, X, Y, digest, small
from _soak_memory import checkpoint_cost, large_file, leak
from _soak_writes import failed_writes, killed, round_trips

from sklearn_classvsc import CollapseWarning

# -- threads and processes ----------------------------------------------------------------------


def threads(n: int) -> Row:
    """Transform in eight threads, at rest and while the estimator is trained."""
    sys.setswitchinterval(1e-5)
    at_least = 3  # calls of partial_fit, however few the transforms

    def codes(estimator: Any, enough: threading.Event) -> set[bytes]:
        found, done = set(), 0
        while done < n or not enough.is_set():
            found.add(estimator.transform(X).tobytes())
            done += 1
        return found

    bad, trained = 0, []
    for cls, training in itertools.product(ESTIMATORS, (False, True)):
        estimator = small(cls).fit(X, Y)
        twin, known = copy.deepcopy(estimator), {estimator.transform(X).tobytes()}
        enough, n_trained = threading.Event(), 0
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(codes, estimator, enough) for _ in range(8)]
            try:
                while training and not all(job.done() for job in jobs):
                    estimator.partial_fit(X, Y)
                    n_trained += not all(job.done() for job in jobs)
                    known.add(twin.partial_fit(X, Y).transform(X).tobytes())
                    if n_trained >= at_least:
                        enough.set()
            finally:
                enough.set()
            bad += sum(len(job.result() - known) for job in jobs)
        trained += [n_trained] * training
    calls = 8 * n * 2 * len(ESTIMATORS)
    text = (
        f"{bad} codes of {calls:,} transforms differ, half of them while partial_fit was called "
        f"{', '.join(map(str, trained))} times, by estimator"
    )
    return {"measured": text, "met": not bad and min(trained) > 0}


def fit_digest(cls: type[Any], seed: int) -> str:
    """Fit, and return a hash of the result."""
    warnings.simplefilter("ignore", CollapseWarning)
    torch.set_num_threads(1)
    return digest(small(cls, random_state=seed).fit(X, Y))


def backends(n: int, names: Sequence[str] = ("loky", "threading")) -> Row:
    """Fit with the same seeds under each of joblib's backends."""
    jobs = [(cls, seed) for seed in range(n) for cls in ESTIMATORS]
    serial = [fit_digest(*job) for job in jobs]
    same = []
    for name in names:
        with joblib.parallel_config(name):
            found = joblib.Parallel(n_jobs=2)(joblib.delayed(fit_digest)(*job) for job in jobs)
        same.append(sum(a == b for a, b in zip(found, serial, strict=True)))
    text = (f"{name} {k} of {len(jobs)} identical" for name, k in zip(names, same, strict=True))
    return {"measured": ", ".join(text), "met": all(k == len(jobs) for k in same)}


def dask(n: int) -> Row:
    """Do the same in a cluster of Dask's."""
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError:
        return {"measured": "", "met": None, "skipped": 'Dask: `pip install "dask[distributed]"`'}
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster):
        return backends(n, ["dask"])


# -- what others measure ------------------------------------------------------------------------


def pytest_row(which: str) -> Row:
    """Run scikit-learn's checks, on all processors: one may take over half an hour."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which]
    command += ["--numprocesses", "auto", "--dist", "worksteal"]
    command.append(str(common.ROOT / "tests" / "test_common.py"))
    result = subprocess.run(command, capture_output=True, text=True, cwd=common.ROOT)
    last = result.stdout.strip().splitlines()[-1]
    counts = re.findall(r"\d+ (?:passed|failed|xfailed|errors?|skipped)", last)
    return {"measured": ", ".join(counts), "met": result.returncode == 0}


def fuzz(name: str, bad: tuple[str, ...], n: int) -> Row:
    """Run one of the fuzzers."""
    with contextlib.redirect_stderr(io.StringIO()):
        found = importlib.import_module(name).main(n)
    figures = {"seconds": ".2f", "slowest": ".1f", "megabytes": ".0f"}
    text = ", ".join(
        f"{name.replace('_', ' ')} {value:{figures.get(name, ',')}}"
        for name, value in found.items()
        if name != "findings"
    )
    met = not any(found[key] for key in bad)
    if "megabytes" in found:
        met = met and found["megabytes"] < 100 and found["seconds"] < 1
    return {"measured": text, "met": met, "findings": found.get("findings")}


INPUTS = ("not_run", "crashes", "hangs", "non_finite", "unnamed_errors", "untyped_errors", "wrong")
FILES = ("not_run", "accepted", "other_exceptions", "crashes", "hangs", "code_run")
RAISED = "error raised, old file intact, 50 of 50"
TASKS = {
    "checks": Task(
        "scikit-learn's checks and those it runs on its own estimators only, 3 estimators",
        "100 %; only the stochastic sample-weight equivalence xfailed, strictly",
        pytest_row,
        "scikit_learn or sample_weight",
        "scikit_learn_internal_checks and VAETransformer",
    ),
    "inputs": Task(
        "bad inputs, fuzzed",
        "2,000; no crash, hang or non-finite output; each error names the argument",
        lambda n: fuzz("fuzz_inputs", INPUTS, n),
        2000,
        20,
    ),
    "backends": Task(
        "same seed: serial = loky = threading", "bit-identical", backends, 20, 1, fork=False
    ),
    "dask": Task("same seed: serial = Dask", "bit-identical", dask, 20, 1, fork=False),
    "kill": Task(
        "`kill -9` at random instants of a fit, then `resume`",
        "100: identical hash, no unreadable checkpoint",
        killed,
        100,
        6,
    ),
    "full": Task(
        "disk full while saving: a limit on the size of the file (EFBIG)",
        RAISED,
        lambda n: failed_writes(n, "full"),
        50,
        4,
    ),
    "read_only": Task(
        "directory read-only", RAISED, lambda n: failed_writes(n, "read_only"), 50, 4
    ),
    "interrupt": Task(
        "Ctrl-C while saving and fitting",
        RAISED,
        lambda n: failed_writes(n, "interrupt"),
        50,
        4,
    ),
    "round_trips": Task(
        "round trips through pickle, joblib, native files, skops",
        "1,000 of each bit-identical; partial_fit continues identically",
        round_trips,
        1000,
        30,
    ),
    "files": Task(
        "hostile model files",
        "10,000 mutations and 50 crafted: no code run, no crash, < 100 MB, < 1 s, one exception",
        lambda n: fuzz("fuzz_files", FILES, n),
        10_000,
        100,
    ),
    "threads": Task(
        "8 threads x 1,000 transforms, at rest and during partial_fit",
        "identical to serial; partial_fit ran meanwhile",
        threads,
        1000,
        20,
    ),
    "large_file": Task(
        "a file ten times as large as the memory it may take",
        "fits; resident < 2 batches + model",
        large_file,
        1000,
        800,  # a tenth, the cap, is just above what large batches take
    ),
    "leak": Task("memory that 1,000 fits leave", "< 1 MB", leak, 1000, 60),
    "cost": Task(
        "time that a checkpoint costs, where epochs are short", "< 2 %", checkpoint_cost, 25, 1
    ),
}


def page(table: str) -> str:
    """Return the page."""
    return f"""# Reliability: what was asked, and what was measured

Written by `python benchmarks/soak.py`; do not edit. [How to save, load and resume](persistence.md).

{table}

Two processes against one are measured with the [engines](benchmark_scaling.md).

How: the fits are of iris with small models, by all three estimators in turn. No disk was full: what
stands for one is a limit on the size of a file, at a random byte, whose error is EFBIG instead of
ENOSPC. A read-only directory is one that its owner has closed, as a user other than root; Ctrl-C is
a SIGINT at a random instant. Half of these writes are `save`'s, the others a fit's, which writes
after every epoch here: the estimator that was stopped must give finite codes, its file must be
readable, and a fit resumed from that must end as if nothing had happened. A hash covers weights,
optimiser, random states, history and codes. Memory is the resident memory that belongs to no file;
its cap is `RLIMIT_DATA`.
"""


def main() -> int:
    """Measure what is missing, then write the page."""
    warnings.simplefilter("ignore", CollapseWarning)
    with tempfile.TemporaryDirectory() as folder:  # imports what a user other than root may not
        small(checkpoint=f"{folder}/fit").fit(X, Y)
    packages = ["joblib", "dask", "distributed", "skops"]
    return _rows.main(__doc__, "reliability", TASKS, page, packages)


if __name__ == "__main__":
    raise SystemExit(main())
