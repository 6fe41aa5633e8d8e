"""Measure what survives a kill, a full disk, Ctrl-C, bad input and a thousand fits.

Writes the figures of `docs/reliability.md`. Every row has its own process, on one thread: Linux
only.

    python benchmarks/soak.py --quick            # small counts
    python benchmarks/soak.py                    # everything
    python benchmarks/soak.py --only kill leak   # these rows
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import hashlib
import itertools
import math
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import _harness as harness
import fuzz
import joblib
import numpy as np
import torch
from _common import ROOT, TESTS, Row, Stopwatch
from _harness import MB, Task
from sklearn.datasets import load_iris

from sklearn_classvsc import (
    ClassVSCTransformer,
    VAETransformer,
    VSCTransformer,
    _checkpoint,
    _persistence,
)

ESTIMATORS = (VAETransformer, VSCTransformer, ClassVSCTransformer)
X, Y = load_iris(return_X_y=True)
EPOCHS = 20  # of the fits that are stopped
SHORT_EPOCHS = 2000  # of the fits whose time is compared
P, LARGE, SMALL = 1024, 10_240, 1024  # features of the large file, and rows of a batch


def small(cls: type[Any] = ClassVSCTransformer, **parameters: Any) -> Any:
    """Return an estimator that fits in a moment."""
    defaults = {"hidden_layer_sizes": (16,), "max_epochs": 3, "batch_size": 50, "random_state": 0}
    return cls(6, **defaults | parameters)


def digest(estimator: Any) -> str:
    """Return a hash of all that is learned, and of how learning goes on."""
    result = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                add(str(key))
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            result.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())

    free = ("callbacks", "stop_reason_")
    add({name: x for name, x in estimator.__getstate__().items() if name not in free})
    result.update(estimator.transform(X).tobytes())
    return result.hexdigest()


# -- threads and processes ----------------------------------------------------------------------


def threads(n: int) -> Row:
    """Transform in eight threads, at rest and while the estimator is trained."""
    sys.setswitchinterval(1e-5)
    differ, trained = 0, []
    for cls, training in itertools.product(ESTIMATORS, (False, True)):
        estimator = small(cls).fit(X, Y)
        twin, expected = copy.deepcopy(estimator), {estimator.transform(X).tobytes()}
        enough, n_trained = threading.Event(), 0
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(_transforms, estimator, n, enough) for _ in range(8)]
            try:
                while training and not all(job.done() for job in jobs):
                    estimator.partial_fit(X, Y)
                    n_trained += not all(job.done() for job in jobs)
                    expected.add(twin.partial_fit(X, Y).transform(X).tobytes())
                    if n_trained >= 3:  # however few the transforms
                        enough.set()
            finally:
                enough.set()
            differ += sum(len(job.result() - expected) for job in jobs)
        trained += [n_trained] * training
    text = (
        f"{differ} codes of {8 * n * 2 * len(ESTIMATORS):,} transforms differ, half of them while "
        f"partial_fit was called {', '.join(map(str, trained))} times, by estimator"
    )
    return {"measured": text, "met": not differ and min(trained) > 0}


def _transforms(estimator: Any, n: int, enough: threading.Event) -> set[bytes]:
    found, done = set(), 0
    while done < n or not enough.is_set():
        found.add(estimator.transform(X).tobytes())
        done += 1
    return found


def backends(n: int, *names: str) -> Row:
    """Fit with the same seeds under each of joblib's backends."""
    if "dask" in names and not find_spec("distributed"):
        return harness.not_installed('"dask[distributed]"')
    jobs = [(cls, seed) for seed in range(n) for cls in ESTIMATORS]
    serial = [_fit_digest(*job) for job in jobs]
    same = []
    for name in names:
        with contextlib.ExitStack() as stack:
            if name == "dask":
                from dask.distributed import Client, LocalCluster

                workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
                stack.enter_context(Client(stack.enter_context(LocalCluster(**workers))))
            with joblib.parallel_config(name):
                found = joblib.Parallel(n_jobs=2)(joblib.delayed(_fit_digest)(*job) for job in jobs)
        same.append(sum(a == b for a, b in zip(found, serial, strict=True)))
    text = (f"{name} {k} of {len(jobs)} identical" for name, k in zip(names, same, strict=True))
    return {"measured": ", ".join(text), "met": all(k == len(jobs) for k in same)}


def _fit_digest(cls: type[Any], seed: int) -> str:
    torch.set_num_threads(1)
    return digest(small(cls, random_state=seed).fit(X, Y))


# -- writes that are stopped --------------------------------------------------------------------


def every_epoch_written() -> Any:
    """Write a checkpoint after every epoch, however short, so that a kill often meets one."""
    return mock.patch.object(_checkpoint, "COST", math.inf)


def killed(n: int) -> Row:
    """Kill a fit at random instants, and resume it."""
    rng = np.random.default_rng(0)

    def trials() -> Iterator[str]:
        for i in range(n):
            cls = ESTIMATORS[i % 3]
            with tempfile.TemporaryDirectory() as folder, Stopwatch() as watch:
                whole = small(cls, max_epochs=EPOCHS).fit(X, Y, checkpoint=f"{folder}/whole")
            with tempfile.TemporaryDirectory() as folder:
                yield _kill(folder, cls, digest(whole), rng.uniform(0, watch.seconds))

    with every_epoch_written():
        return harness.tally(trials())


def _kill(folder: str, cls: type[Any], whole: str, seconds: float) -> str:
    path = Path(folder) / "fit"

    def make() -> Any:
        return small(cls, max_epochs=EPOCHS)

    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            make().fit(X, Y, checkpoint=path)
        os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    epochs, left = 0, len(os.listdir(folder)) - path.exists()
    if path.exists():
        try:
            epochs = cls.load(path).n_iter_
        except ValueError as error:
            return f"miss: unreadable ({error})"
    if digest(make().fit(X, Y, checkpoint=path, resume=True)) != whole:
        return f"miss: another result after epoch {epochs}"
    if os.listdir(folder) != ["fit"]:
        return "miss: files left behind"
    when = "before the first file"
    if epochs:
        when = "after it" if epochs < EPOCHS else "at the end"
    return f"identical, killed {when}{' while writing' if left else ''}"


class Writing:
    """A place with an old file, and two ways to write there: `save`, and a fit's checkpoint."""

    def __init__(self, folder: str, by_fit: bool) -> None:
        self.folder, self.path, self.by_fit = Path(folder), Path(folder) / "model", by_fit
        self.fitted = small(max_epochs=EPOCHS)
        if by_fit:
            self.whole = digest(small(max_epochs=EPOCHS).fit(X, Y))
        else:
            self.new = small().fit(X, Y)
            self.new.save(self.path)
            self.new_content = self.path.read_bytes()
            small(random_state=1).fit(X, Y).save(self.path)
            self.old_content = self.path.read_bytes()

    def write(self) -> None:
        """Write anew."""
        if self.by_fit:
            self.fitted.fit(X, Y, checkpoint=self.path)
        else:
            self.new.save(self.path)

    def outcome(self, expected: type[BaseException], error: BaseException | None) -> str:
        """Say what has come of it."""
        if not isinstance(error, expected):
            return f"miss: {error!r} raised"
        if not torch.is_grad_enabled():  # a setting of the process, which `fit` switches
            torch.set_grad_enabled(True)
            return "miss: gradients left switched off"
        files = set(os.listdir(self.folder)) - {"model"}
        if files:
            return f"miss: {files} left"
        return self._of_fit() if self.by_fit else self._of_save(expected)

    def _of_save(self, expected: type[BaseException]) -> str:
        content = self.path.read_bytes()
        if content == self.old_content:
            return "in save: raised, old file intact"
        if content == self.new_content and expected is KeyboardInterrupt:
            return "in save: raised, new file complete"
        return "miss: a torn file"

    def _of_fit(self) -> str:
        """Use the estimator that was stopped, read its file, and resume from that."""
        reached, when = 0, " before the end of an epoch"
        if hasattr(self.fitted, "module_"):
            reached, when = self.fitted.n_iter_, ", estimator usable"
            # The last writing of all comes after the training.
            reasons = {"interrupted", "max_epochs" if reached == EPOCHS else "interrupted"}
            if self.fitted.stop_reason_ not in reasons:
                return f"miss: stop_reason_={self.fitted.stop_reason_!r}"
            if not np.isfinite(self.fitted.transform(X)).all():
                return "miss: codes that are not finite"
        kept = ClassVSCTransformer.load(self.path).n_iter_ if self.path.exists() else 0
        if not reached - 1 <= kept <= reached:
            return f"miss: {kept} epochs in the file, {reached} in the estimator"
        resumed = small(max_epochs=EPOCHS).fit(X, Y, checkpoint=self.path, resume=True)
        if digest(resumed) != self.whole:
            return "miss: another result"
        file = "file readable, " if kept else ""
        return f"in fit: raised{when}, {file}resumed to the identical result"


def failed_writes(n: int, kind: str) -> Row:
    """Let a limit, the directory or the user stop a write, half of them in a fit."""
    with tempfile.TemporaryDirectory() as folder:  # imports what a user other than root may not
        small().fit(X, Y, checkpoint=f"{folder}/fit")
    if not os.geteuid():
        os.seteuid(65534)  # root may write anywhere
    if kind == "interrupt":  # which a shell's background jobs ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = np.random.default_rng(0)
    stop = {"full": full_disk, "read_only": read_only, "interrupt": control_c}[kind]
    expected = KeyboardInterrupt if kind == "interrupt" else OSError

    def trial(i: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            writing = Writing(folder, by_fit=bool(i % 2))
            error: BaseException | None = None
            try:
                with stop(writing, rng):
                    writing.write()
            except BaseException as caught:
                error = caught
            return writing.outcome(expected, error)

    def trials() -> Iterator[str]:
        counted = attempts = 0
        while counted < n and attempts < 5 * n:
            outcome, attempts = trial(counted), attempts + 1
            if outcome == "miss: None raised" and kind == "interrupt":
                continue  # it was over before Ctrl-C
            counted += 1
            yield outcome
        yield from ["miss: too few trials"] * (counted < n)

    with every_epoch_written():
        return harness.tally(trials())


@contextlib.contextmanager
def full_disk(writing: Writing, rng: np.random.Generator) -> Iterator[None]:
    """Limit the size of a file (EFBIG): the write fails in the midst, as on a disk that is full."""
    if writing.by_fit:  # between the sizes of an early file and of a late one
        with tempfile.TemporaryDirectory() as folder:
            sizes = []
            for epochs in (2, EPOCHS - 1):
                small(max_epochs=epochs).fit(X, Y, checkpoint=f"{folder}/{epochs}")
                sizes.append((Path(folder) / str(epochs)).stat().st_size)
        limit = int(rng.integers(*sizes))
    else:
        limit = int(rng.integers(0, len(writing.new_content)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(writing: Writing, rng: np.random.Generator) -> Iterator[None]:
    """Close the directory, of a fit after some of its epochs."""
    save, left = _persistence.save, int(rng.integers(1, EPOCHS)) if writing.by_fit else 0

    def save_or_close(*args: Any) -> None:
        nonlocal left
        if left == 0:
            writing.folder.chmod(0o555)
        left -= 1
        save(*args)

    with mock.patch.object(_persistence, "save", save_or_close):
        try:
            yield
        finally:
            writing.folder.chmod(0o755)


@contextlib.contextmanager
def control_c(writing: Writing, rng: np.random.Generator) -> Iterator[None]:
    """Send a SIGINT at a random instant of the time that such a write takes."""
    with tempfile.TemporaryDirectory() as folder:
        other = Writing(folder, writing.by_fit)
        with Stopwatch() as watch:
            other.write()
    done = threading.Event()

    def press() -> None:
        if not done.wait(rng.uniform(0, 0.9 * watch.seconds)):
            os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        yield
    finally:
        done.set()
        presser.join()


def round_trips(n: int) -> Row:
    """Copy through files of each format, over and over, and continue both training runs."""
    formats = ["pickle", "joblib", "native", *["skops"] * bool(find_spec("skops"))]

    def trials(path: Path) -> Iterator[str]:
        for kind, cls in itertools.product(formats, ESTIMATORS):
            there = small(cls).fit(X, Y)
            back = copy.deepcopy(there)
            for i in range(-(-n // 3)):
                back = _trip(back, kind, path)
                same = digest(back) == digest(there)
                if i % 10 == 9:
                    same &= digest(back.partial_fit(X, Y)) == digest(there.partial_fit(X, Y))
                yield f"{kind} identical" if same else f"miss: {kind}"

    with tempfile.TemporaryDirectory() as folder:
        return harness.tally(trials(Path(folder) / "file"))


def _trip(estimator: Any, kind: str, path: Path) -> Any:
    if kind == "pickle":
        return pickle.loads(pickle.dumps(estimator))
    if kind == "joblib":
        joblib.dump(estimator, path)
        return joblib.load(path)
    if kind == "native":
        estimator.save(path)
        return type(estimator).load(path)
    from skops import io

    content = io.dumps(estimator)
    return io.loads(content, trusted=io.get_untrusted_types(data=content))


# -- memory and time ----------------------------------------------------------------------------


def leak(n: int) -> Row:
    """Fit over and over, and see what stays."""
    measured = []
    for i in range(n + 101):
        small(ESTIMATORS[i % 3], max_epochs=2).fit(X, Y).transform(X)
        if i >= 100 and (i - 100) % max(1, n // 10) == 0:
            gc.collect()
            measured.append(harness.resident())
    growth = measured[-1] - measured[0]
    text = f"{growth:+.2f} MB over {n:,} fits, after 100 to warm up"
    return {"measured": text, "met": growth < 1, "course": [round(m, 2) for m in measured]}


def large_file(megabytes: int) -> Row:
    """Fit to a memory map ten times as large as the memory that may be taken."""
    whole, cap = megabytes * MB // (4 * P), megabytes / 10
    try:
        peaks = {
            (size, part): harness.in_own_process(rise_of_fit, whole // part, size, cap)
            for size in (LARGE, SMALL)
            for part in (1, 10)
        }
    except harness.ChildError as error:
        return {"measured": f"it does not survive the cap: {error}", "met": False}
    batch = {size: 4 * P * size / MB for size in (LARGE, SMALL)}
    text = (
        f"{whole * 4 * P / MB:.0f} MB fit under a cap of {cap:.0f} MB above rest; in batches of "
        f"{batch[LARGE]:.0f} MB the peak is {peaks[LARGE, 1]:.0f} MB above rest, for a tenth of "
        f"the file {peaks[LARGE, 10]:.0f} MB. Blocks of the reconstruction, and 1,024 rows in "
        f"double precision, do not grow with the batch: in batches of {batch[SMALL]:.0f} MB it is "
        f"{peaks[SMALL, 1]:.0f} MB"
    )
    return {"measured": text, "met": peaks[LARGE, 1] < 2 * batch[LARGE]}


def rise_of_fit(n_rows: int, batch_size: int, cap: float) -> float:
    """Return how far the memory rises above rest in a fit to a file of so many rows, in MB."""
    ctypes.CDLL(None).mallopt(-3, 2**16)  # what is freed is given back at once, and seen

    def make(max_epochs: int) -> VSCTransformer:
        sizes: Row = {"hidden_layer_sizes": (16,), "batch_size": batch_size}
        return VSCTransformer(8, max_epochs=max_epochs, random_state=0, **sizes)

    with tempfile.NamedTemporaryFile() as file:
        block = np.random.default_rng(0).normal(size=(1024, P)).astype(np.float32).tobytes()
        for _ in range(-(-n_rows // 1024)):
            file.write(block)
        file.flush()
        data = np.memmap(file.name, np.float32, "r", shape=(n_rows, P))
        make(1).fit(np.asarray(data[: 2 * batch_size]))  # libraries take what they keep
        gc.collect()
        before = harness.resident()
        harness.limit_memory(cap * MB)
        return harness.highest(lambda: make(2).fit(data)) - before


def checkpoint_cost(n: int) -> Row:
    """Time default fits with a checkpoint and without."""
    with tempfile.TemporaryDirectory() as folder:
        est, path = VAETransformer(max_epochs=SHORT_EPOCHS, random_state=0), f"{folder}/fit"
        systems = {"without": lambda: est.fit(X), "with": lambda: est.fit(X, checkpoint=path)}
        timings = harness.interleave(systems, n)
    wall = np.median(harness.ratios(timings, "with", "without"))
    cpu = np.median(np.divide(timings["with"]["cpu"], timings["without"]["cpu"]))
    text = (
        f"wall clock x {wall:.3f}, processor time x {cpu:.3f} with a checkpoint (medians of {n} "
        f"interleaved ratios; {SHORT_EPOCHS:,} epochs of iris, of "
        f"{1000 * min(timings['without']['wall']) / SHORT_EPOCHS:.1f} ms)"
    )
    return {"measured": text, "met": bool(max(wall, cpu) < 1.02)}


# -- what others measure ------------------------------------------------------------------------


def checks(which: str) -> Row:
    """Run scikit-learn's checks, on all processors: one may take over half an hour."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which]
    command += ["--numprocesses", "auto", "--dist", "worksteal", str(TESTS / "test_common.py")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    last = result.stdout.strip().splitlines()[-1]
    counts = re.findall(r"\d+ (?:passed|failed|xfailed|errors?|skipped)", last)
    return {"measured": ", ".join(counts), "met": result.returncode == 0}


def fuzzed(n: int, which: str) -> Row:
    """Run one of the fuzzers."""
    found = fuzz.FUZZERS[which](n)
    shown = {"seconds": ".2f", "slowest": ".1f", "megabytes": ".0f"}
    figures = {name: value for name, value in found.items() if name != "findings"}
    text = (f"{k.replace('_', ' ')} {v:{shown.get(k, ',')}}" for k, v in figures.items())
    met = not found["findings"] and not found["not_run"]
    met &= found.get("megabytes", 0) < 100 and found.get("seconds", 0) < 1
    return {"measured": ", ".join(text), "met": met, "findings": found["findings"]}


RAISED = "error raised, old file intact, 50 of 50"
TASKS = {
    "checks": Task(
        "scikit-learn's checks and those it runs on its own estimators only, 3 estimators",
        "100 %; only the stochastic sample-weight equivalence xfailed, strictly",
        checks,
        "scikit_learn or sample_weight",
        "scikit_learn_internal_checks and VAETransformer",
    ),
    "inputs": Task(
        "bad inputs, fuzzed",
        "2,000; no crash, hang or non-finite output; each error names the argument",
        fuzzed,
        2000,
        20,
        ("inputs",),
    ),
    "backends": Task(
        "same seed: serial = loky = threading",
        "bit-identical",
        backends,
        20,
        1,
        ("loky", "threading"),
    ),
    "dask": Task("same seed: serial = Dask", "bit-identical", backends, 20, 1, ("dask",)),
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
        failed_writes,
        50,
        4,
        ("full",),
    ),
    "read_only": Task("directory read-only", RAISED, failed_writes, 50, 4, ("read_only",)),
    "interrupt": Task(
        "Ctrl-C while saving and fitting", RAISED, failed_writes, 50, 4, ("interrupt",)
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
        fuzzed,
        10_000,
        100,
        ("files",),
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

PACKAGES = "joblib dask distributed skops hypothesis"

if __name__ == "__main__":
    raise SystemExit(harness.page_of_rows(__doc__, "reliability", TASKS, PACKAGES))
