"""Measure what survives a kill, a full disk, Ctrl-C, bad input and a thousand fits.

Writes the figures of `docs/reliability.md`. Every row has its own process, on one thread: Linux
only.

    python benchmarks/soak.py --quick            # small counts
    python benchmarks/soak.py                    # everything
    python benchmarks/soak.py --only kill leak   # these rows
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import math
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import _harness as harness
import fuzz
import numpy as np
import torch
from _common import Row, Stopwatch
from _harness import Task
from sklearn.datasets import load_iris

from sklearn_classvsc import (
    ClassVSCTransformer,
    VAETransformer,
    VSCTransformer,
    _checkpoint,
)

ESTIMATORS = (VAETransformer, VSCTransformer, ClassVSCTransformer)
X, Y = load_iris(return_X_y=True)
EPOCHS = 20  # of the fits that are stopped
SHORT_EPOCHS = 2000  # of the fits whose time is compared


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
    """Let a limit or the user stop a write, half of them in a fit."""
    with tempfile.TemporaryDirectory() as folder:  # imports what a user other than root may not
        small().fit(X, Y, checkpoint=f"{folder}/fit")
    if not os.geteuid():
        os.seteuid(65534)  # root may write anywhere
    if kind == "interrupt":  # which a shell's background jobs ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = np.random.default_rng(0)
    stop = {"full": full_disk, "interrupt": control_c}[kind]
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
    "inputs": Task(
        "bad inputs, fuzzed",
        "2,000; no crash, hang or non-finite output; each error names the argument",
        fuzzed,
        2000,
        20,
        ("inputs",),
    ),
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
    "interrupt": Task(
        "Ctrl-C while saving and fitting", RAISED, failed_writes, 50, 4, ("interrupt",)
    ),
    "files": Task(
        "hostile model files",
        "10,000 mutations and 50 crafted: no code run, no crash, < 100 MB, < 1 s, one exception",
        fuzzed,
        10_000,
        100,
        ("files",),
    ),
    "leak": Task("memory that 1,000 fits leave", "< 1 MB", leak, 1000, 60),
    "cost": Task(
        "time that a checkpoint costs, where epochs are short", "< 2 %", checkpoint_cost, 25, 1
    ),
}

if __name__ == "__main__":
    raise SystemExit(harness.page_of_rows(__doc__, "reliability", TASKS, "hypothesis"))
