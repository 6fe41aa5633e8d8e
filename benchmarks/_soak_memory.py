"""What a fit takes: memory that stays, memory beside a large file, time for a checkpoint."""

from __future__ import annotations

import ctypes
import gc
import math
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from _common import Row, process_memory
from _soak_fits import ESTIMATORS, X, Y, small
from _timing import interleave

from sklearn_classvsc import VAETransformer, VSCTransformer

MB = 2**20
#: Of the large file: features, and rows of a batch.
P, LARGE, SMALL = 1024, 10_240, 1024
EPOCHS = 2000  # of the fits whose time is compared: short ones


def resident() -> float:
    """Return the memory of this process that is no file's, in MB."""
    return process_memory("RssAnon") / MB


def leak(n: int) -> Row:
    """Fit over and over, and see what stays."""
    measured = []
    for i in range(n + 101):
        small(ESTIMATORS[i % 3], max_epochs=2).fit(X, Y).transform(X)
        if i >= 100 and (i - 100) % max(1, n // 10) == 0:
            gc.collect()
            measured.append(resident())
    growth = measured[-1] - measured[0]
    text = f"{growth:+.2f} MB over {n:,} fits, after 100 to warm up"
    return {"measured": text, "met": growth < 1, "course": [round(m, 2) for m in measured]}


def large_file(megabytes: int) -> Row:
    """Fit to a memory map ten times as large as the memory that may be taken."""
    whole, cap = megabytes * MB // (4 * P), megabytes / 10
    found = {
        (size, part): peak(whole // part, size, cap) for size in (LARGE, SMALL) for part in (1, 10)
    }
    batch = {size: 4 * P * size / MB for size in (LARGE, SMALL)}
    text = (
        f"{whole * 4 * P / MB:.0f} MB fit under a cap of {cap:.0f} MB above rest; in batches of "
        f"{batch[LARGE]:.0f} MB the peak is {found[LARGE, 1]:.0f} MB above rest, for a tenth of "
        f"the file {found[LARGE, 10]:.0f} MB. Blocks of the reconstruction, and 1,024 rows in "
        f"double precision, do not grow with the batch: in batches of {batch[SMALL]:.0f} MB it is "
        f"{found[SMALL, 1]:.0f} MB"
    )
    return {"measured": text, "met": found[LARGE, 1] < 2 * batch[LARGE]}


def peak(n_rows: int, batch_size: int, cap: float) -> float:
    """Return the largest memory above rest of a fit in a process of its own, in MB.

    It is infinite where the process does not survive the cap.
    """
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_fit, args=(n_rows, batch_size, cap, send)
    )
    process.start()
    send.close()
    try:
        return float(receive.recv())
    except EOFError:
        return math.inf
    finally:
        process.join()


def _fit(n_rows: int, batch_size: int, cap: float, send: Connection) -> None:
    """Fit to a file of so many rows, and send how far the memory rose."""
    ctypes.CDLL(None).mallopt(-3, 2**16)  # what is freed is given back at once, and seen

    def make(max_epochs: int) -> VSCTransformer:
        sizes = {"hidden_layer_sizes": (16,), "batch_size": batch_size}
        return VSCTransformer(8, max_epochs=max_epochs, random_state=0, **sizes)

    with tempfile.NamedTemporaryFile() as file:
        block = np.random.default_rng(0).normal(size=(1024, P)).astype(np.float32).tobytes()
        for _ in range(-(-n_rows // 1024)):
            file.write(block)
        file.flush()
        data = np.memmap(file.name, np.float32, "r", shape=(n_rows, P))
        make(1).fit(np.asarray(data[: 2 * batch_size]))  # libraries take what they keep
        gc.collect()
        before = resident()
        limit = process_memory("VmData") + int(cap * MB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        send.send(highest(lambda: make(2).fit(data)) - before)


def highest(work: Callable[[], object]) -> float:
    """Return the most memory that is resident while `work` runs, looking every millisecond.

    The kernel's high-water mark does not tell pages of the file from others.
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


def checkpoint_cost(n: int) -> Row:
    """Time default fits with a checkpoint and without."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {"without": None, "with": f"{folder}/fit"}
        systems = {
            name: VAETransformer(max_epochs=EPOCHS, random_state=0, checkpoint=path).fit
            for name, path in paths.items()
        }
        plain, written = interleave("cost", {k: lambda f=f: f(X) for k, f in systems.items()}, n)
    wall, cpu = (np.median(np.divide(written[field], plain[field])) for field in ("wall", "cpu"))
    text = (
        f"wall clock x {wall:.3f}, processor time x {cpu:.3f} with a checkpoint (medians of {n} "
        f"interleaved ratios; {EPOCHS:,} epochs of iris, of "
        f"{1000 * min(plain['wall']) / EPOCHS:.1f} ms)"
    )
    return {"measured": text, "met": bool(max(wall, cpu) < 1.02)}
