"""What is measured in processes of its own: rows of a page, cases that may end one, time, memory.

Linux only, but for the timing: it is `/proc` that tells what memory belongs to no file.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import selectors
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
import numpy as np
from _common import Row
from reference_loss import LEARNING_RATE
from skorch.callbacks import Callback

from sklearn_classvsc import CollapseWarning

MB = 2**20
#: Address space that a child may take beyond what it has when its cases begin, in bytes.
CHILD_MEMORY = 2 * 2**30
#: Seconds for the imports of a child.
START_SECONDS = 120


# -- a process of its own ----------------------------------------------------------------------


class ChildError(RuntimeError):
    """A process ended without an answer."""


def in_own_process(work: Callable[..., Any], *args: Any, threads: int = 1, **kwargs: Any) -> Any:
    """Call a function of a file of the benchmarks in a fresh interpreter; arguments are JSON."""
    module = Path(inspect.getfile(work)).stem
    code = (
        f"import json, sys, {module} as m; args, kwargs = json.loads(sys.argv[1])\n"
        f"print('\\n' + json.dumps(m.{work.__name__}(*args, **kwargs)))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, json.dumps([args, kwargs])]
    here, variables = Path(__file__).parent, os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, env=variables)
    if done.returncode:
        raise ChildError(f"{work.__name__}, exit status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Task(NamedTuple):
    """A row of a page: what is tried, what is asked of it, and the function that measures it.

    That is called in a process of its own, with `whole` or, for `--quick`, with `quick`, and with
    `more`. It returns "measured" and "met", which is None where nothing was asked.
    """

    what: str
    asked: str
    measure: Callable[..., Row]
    whole: Any
    quick: Any
    more: tuple[str, ...] = ()

    def run(self, quick: bool, packages: str) -> Row:
        """Return the row, with how long it took and where it ran."""
        size = self.quick if quick else self.whole
        with common.Stopwatch() as watch:
            found = in_own_process(self.measure, size, *self.more)
        where = {"environment": common.environment(packages.split())}
        return found | {"seconds": watch.seconds} | where


def page_of_rows(doc: str | None, name: str, tasks: Mapping[str, Task], packages: str) -> int:
    """Measure the rows that are missing, then write the page: what is asked, what was measured."""
    arguments = common.command_line(doc)
    if arguments.pages == common.PAGES and (common.DOCS / f"{name}.md").exists():
        arguments.pages = common.DOCS  # the site shows this page as it is
    rows, ok = common.run_tasks(
        arguments,
        name,
        ["row"],
        [{"row": key} for key in tasks],
        lambda task: tasks[task["row"]].run(arguments.quick, packages),
    )
    found = {key: common.of(rows, row=key)[-1] for key in tasks if common.of(rows, row=key)}
    body = [
        [tasks[key].what, tasks[key].asked, row["measured"], common.VERDICTS[row["met"]]]
        for key, row in found.items()
    ]
    missing = [task.what for key, task in tasks.items() if key not in found]
    parts = [common.markdown_table(["what", "asked", "measured", "met"], body)]
    parts += [f"Not measured yet: {'; '.join(missing)}."] if missing else []
    common.write_page(arguments, name, parts, rows)
    asked = [found[key]["met"] for key in arguments.only or tasks if key in found]
    return 0 if ok and False not in asked else 1


def not_installed(package: str) -> Row:
    """Return the row of what cannot be measured here."""
    return {"measured": f"not measured: `pip install {package}`", "met": None}


def tally(trials: Iterable[str]) -> Row:
    """Count the ways trials went; those named "miss: ..." are failures."""
    kinds = Counter(trials)
    misses = sum(n for kind, n in kinds.items() if kind.startswith("miss"))
    shown = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    return {"measured": shown, "met": not misses, "misses": misses}


# -- cases that may end their process ----------------------------------------------------------


def rows_of_child(command: list[str], seconds: float) -> Iterator[Row]:
    """Run a command that `tell`s each case twice; yield what it tells at the end of each.

    A case that takes longer than `seconds` counts as a hang, one that ends the process, by a
    signal or in whatever way, as a crash; the rest of the child's cases are then not run.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    running: Row = {"case": "the start"}
    limit: float = START_SECONDS
    buffer, hung = b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(limit):
            read = os.read(process.stdout.fileno(), 2**16)
            if not read:
                break
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                running, limit = json.loads(line), seconds
                if "kind" in running:
                    yield running
        else:
            process.kill()
            hung = True
            yield running | {"kind": "hang"}
    if (process.wait() or "kind" not in running) and not hung:
        yield running | {"kind": "crash", "told": f"exit status {process.returncode}"}


def tell(**row: Any) -> None:
    """Tell the parent that a case begins, or, with a `kind`, how it ended."""
    print(json.dumps(row), flush=True)


# -- memory ------------------------------------------------------------------------------------


def memory(field: str) -> int:
    """Return a field of `/proc/self/status` in bytes: "VmRSS", "VmHWM", "RssAnon", "VmData"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def resident() -> float:
    """Return the memory of this process that is no file's, in MB."""
    return memory("RssAnon") / MB


def limit_memory(n_bytes: float, which: str = "DATA") -> None:
    """Let this process take no more than that beyond what it has, of "DATA" or all of it, "AS"."""
    held = memory({"DATA": "VmData", "AS": "VmSize"}[which])
    limit = held + int(n_bytes)
    resource.setrlimit(getattr(resource, f"RLIMIT_{which}"), (limit, limit))


def reset_peak() -> int:
    """Set the peak of the resident memory, "VmHWM", to what it is now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmHWM")


def highest(work: Callable[[], object]) -> float:
    """Return the most memory that is no file's while `work` runs, looking every millisecond, in MB.

    The kernel's high-water mark does not tell pages of a file from others.
    """
    seen, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(resident())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(seen)


# -- time --------------------------------------------------------------------------------------


class EpochTimer(Callback):
    """Time the epochs, `seconds` each, and the training from the first to its end, `trained`.

    What the package does after an epoch comes after `on_epoch_end`, and before `on_train_end`.
    """

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Begin."""
        self.seconds: list[float] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start."""
        self.start_ = time.perf_counter(), time.process_time()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Note an epoch."""
        self.seconds.append(time.perf_counter() - self.start_[0])

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Note the last epoch with what comes after it."""
        wall, cpu = self.start_
        self.trained = time.perf_counter() - wall, time.process_time() - cpu


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of a call, on the wall and of the processor, or such as it returns."""
    wall, cpu = time.perf_counter(), time.process_time()
    part = work()
    whole = time.perf_counter() - wall, time.process_time() - cpu
    return part if isinstance(part, tuple) else whole


def epoch_of(estimator: Any, X: Any, y: Any) -> Callable[[], tuple[float, float]]:
    """Return a fit of one epoch that returns the seconds of the epoch."""

    def fit() -> tuple[float, float]:
        timer = EpochTimer()
        estimator.set_params(max_epochs=1, learning_rate=LEARNING_RATE, callbacks=[timer])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)  # a code after one epoch
            estimator.fit(X, y)
        return timer.trained

    return fit


def interleave(
    systems: Mapping[str, Callable[[], Any]], repeats: int, warm_up: bool = True
) -> dict[str, dict[str, list[float]]]:
    """Time systems in turn, there and back again, so that whatever else runs meets all of them.

    Returns the seconds of each: "wall" and "cpu", a value for each round.
    """
    for work in systems.values() if warm_up else ():
        work()
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    for i in range(repeats):
        for name in list(systems)[:: -1 if i % 2 else 1]:
            timings[name].append(timed(systems[name]))
    return {
        name: dict(zip(("wall", "cpu"), map(list, zip(*several, strict=True)), strict=True))
        for name, several in timings.items()
    }


def ratios(timings: Mapping[str, Mapping[str, list[float]]], a: str, b: str) -> list[float]:
    """Return how many times as long `a` took as `b`, in each round."""
    return np.divide(timings[a]["wall"], timings[b]["wall"]).tolist()
