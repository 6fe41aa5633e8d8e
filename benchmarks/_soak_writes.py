"""Writes that are stopped: by `kill -9`, a limit, a closed directory, Ctrl-C; and round trips."""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import os
import pickle
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import torch
from _common import Row, Stopwatch
from _soak_fits import ESTIMATORS, X, Y, digest, small, tally

from sklearn_classvsc import ClassVSCTransformer, _persistence
from sklearn_classvsc._checkpoint import Checkpoint

EPOCHS = 20  # of the fits that are stopped
Rng = np.random.Generator


def every_epoch_written() -> AbstractContextManager[Any]:
    """Write a checkpoint after every epoch, however short, so that a kill often meets one."""

    def write(self: Checkpoint, estimator: Callable[[], Any], plan: Any) -> None:
        self.write(estimator(), plan)

    return mock.patch.object(Checkpoint, "write_if_cheap", write)


# -- kill -9 ------------------------------------------------------------------------------------


def killed(n: int) -> Row:
    """Kill a fit at random instants, and resume it."""
    rng = np.random.default_rng(0)

    def trials() -> Iterator[str]:
        for i in range(n):
            cls = ESTIMATORS[i % 3]
            with tempfile.TemporaryDirectory() as folder, Stopwatch() as watch:
                whole = small(cls, max_epochs=EPOCHS, checkpoint=f"{folder}/whole").fit(X, Y)
            with tempfile.TemporaryDirectory() as folder:
                yield _kill(folder, cls, digest(whole), rng.uniform(0, watch.seconds))

    with every_epoch_written():
        return tally(trials())


def _kill(folder: str, cls: type[Any], whole: str, seconds: float) -> str:
    path = Path(folder) / "fit"

    def make() -> Any:
        return small(cls, max_epochs=EPOCHS, checkpoint=path)

    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            make().fit(X, Y)
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
    if digest(make().fit(X, Y, resume=True)) != whole:
        return f"miss: another result after epoch {epochs}"
    if os.listdir(folder) != ["fit"]:
        return "miss: files left behind"
    when = (
        "before the first file" if not epochs else "after it" if epochs < EPOCHS else "at the end"
    )
    return f"identical, killed {when}{' while writing' if left else ''}"


# -- writes that fail ---------------------------------------------------------------------------


class Writing:
    """A place with an old file, and two ways to write there: `save`, and a fit's checkpoint."""

    def __init__(self, folder: str, by_fit: bool) -> None:
        self.folder, self.path, self.by_fit = Path(folder), Path(folder) / "model", by_fit
        self.make = lambda: small(max_epochs=EPOCHS, checkpoint=self.path)
        self.fitted = self.make()
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
            self.fitted.fit(X, Y)
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
        if digest(self.make().fit(X, Y, resume=True)) != self.whole:
            return "miss: another result"
        file = "file readable, " if kept else ""
        return f"in fit: raised{when}, {file}resumed to the identical result"


def failed_writes(n: int, kind: str) -> Row:
    """Let a limit, the directory or the user stop a write, half of them in a fit."""
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
        return tally(trials())


@contextlib.contextmanager
def full_disk(writing: Writing, rng: Rng) -> Iterator[None]:
    """Limit the size of a file (EFBIG): the write fails in the midst, as on a disk that is full."""
    if writing.by_fit:  # between the sizes of the first and of the last file but one
        sizes, save = [], _persistence.save

        def save_and_note(estimator: Any, path: Path) -> None:
            save(estimator, path)
            sizes.append(path.stat().st_size)

        with (
            tempfile.TemporaryDirectory() as other,
            mock.patch.object(_persistence, "save", save_and_note),
        ):
            small(max_epochs=EPOCHS, checkpoint=f"{other}/fit").fit(X, Y)
        limit = int(rng.integers(sizes[0], sizes[-2]))
    else:
        limit = int(rng.integers(0, len(writing.new_content)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(writing: Writing, rng: Rng) -> Iterator[None]:
    """Close the directory, of a fit after some of its epochs."""
    save, left = _persistence.save, [int(rng.integers(1, EPOCHS)) if writing.by_fit else 0]

    def save_or_lock(estimator: Any, path: Any) -> None:
        if left[0] == 0:
            writing.folder.chmod(0o555)
        left[0] -= 1
        save(estimator, path)

    with mock.patch.object(_persistence, "save", save_or_lock):
        try:
            yield
        finally:
            writing.folder.chmod(0o755)


@contextlib.contextmanager
def control_c(writing: Writing, rng: Rng) -> Iterator[None]:
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


# -- round trips --------------------------------------------------------------------------------


def round_trips(n: int) -> Row:
    """Copy through files of each format, over and over, and continue both training runs."""
    formats, skipped = ["pickle", "joblib", "native", "skops"], {}
    try:
        importlib.import_module("skops.io")
    except ImportError:
        formats.remove("skops")
        skipped = {"skipped": "skops: `pip install skops`"}

    def trials(path: Path) -> Iterator[str]:
        for kind, cls in itertools.product(formats, ESTIMATORS):
            there = small(cls).fit(X, Y)
            back = copy.deepcopy(there)
            for i in range(-(-n // 3)):
                back = _trip(back, kind, path)
                same = digest(back) == digest(there)
                if i % 10 == 9:  # it trains on, as long as the files do not grow too large
                    same &= digest(back.partial_fit(X, Y)) == digest(there.partial_fit(X, Y))
                yield f"{kind} identical" if same else f"miss: {kind}"

    with tempfile.TemporaryDirectory() as folder:
        return tally(trials(Path(folder) / "file")) | skipped


def _trip(estimator: Any, kind: str, path: Path) -> Any:
    if kind == "pickle":
        return pickle.loads(pickle.dumps(estimator))
    if kind == "joblib":
        joblib.dump(estimator, path)
        return joblib.load(path)
    if kind == "native":
        estimator.save(path)
        return type(estimator).load(path)
    skops = importlib.import_module("skops.io")
    content = skops.dumps(estimator)
    return skops.loads(content, trusted=skops.get_untrusted_types(data=content))
