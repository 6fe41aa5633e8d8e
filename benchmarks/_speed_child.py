"""What `bench_speed.py` measures in a process of its own: memory, imports, first calls.

    python benchmarks/_speed_child.py memory '{"n_samples": 60000, ...}'

prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def call(name: str, **parameters: Any) -> dict[str, Any]:
    """Run one of the functions below in a fresh interpreter."""
    command = [sys.executable, __file__, name, json.dumps(parameters)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} {parameters} failed:\n{done.stderr}")
    out: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return out


def memory(n_samples: int, threads: int, **recipe: Any) -> dict[str, Any]:
    """Fit one epoch; return the rise of the resident memory, and what was allocated exactly.

    The resident memory is the kernel's, with all that allocators keep and libraries set up. What
    was allocated is in torch's own record and NumPy's (`tracemalloc`), each of a fit of its own.
    Their peaks before, during and after the training are added; within one of these three they
    need not coincide, so that the largest sum is an upper bound.
    """
    import torch
    from _hand_loops import Recipe, make_data
    from _timing import Phases

    torch.set_num_threads(threads)
    size = Recipe(**recipe)
    model = size.estimator(max_epochs=1)
    n_classes = max(size.n_classes, 2)
    tiny = make_data(64, size.n_features, min(n_classes, 32))
    size._replace(n_hidden=8, n_components=8).estimator(max_epochs=2).fit(*tiny)  # all imports
    X, y = make_data(n_samples, size.n_features, n_classes)

    def fit(mark: Callable[[], None] = lambda: None) -> None:
        model.set_params(callbacks=[Phases(mark)]).fit(X, y)

    resident = resident_rise(fit)
    n_parameters = sum(p.numel() for p in model.module_.parameters())
    tensors, arrays = torch_peaks(fit), numpy_peaks(fit)
    return {
        "resident_bytes": resident,
        "torch_bytes": max(tensors),
        "numpy_bytes": max(arrays),
        "allocated_bytes": max(map(sum, zip(tensors, arrays, strict=True))),
        "model_bytes": 4 * n_parameters,
        "batch_bytes": 4 * size.batch_size * size.n_features,
        "data_bytes": X.nbytes,
    }


def resident_rise(work: Callable[[], None]) -> int:
    """Return how far the resident memory rises above where it stands.

    Linux lets the high-water mark be reset. Elsewhere `ru_maxrss` must do, which knows the largest
    size since the process began, and on Linux even that of the parent before it.
    """
    from _common import process_memory, reset_peak

    gc.collect()
    with contextlib.suppress(AttributeError):  # what the warm-up freed is not for the fit to use
        ctypes.CDLL(None).malloc_trim(0)
    resident = reset_peak()
    if resident is None:
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        return unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    work()
    return process_memory("VmHWM") - resident


def torch_peaks(work: Callable[[Callable[[], None]], None]) -> list[int]:
    """Return the most bytes of tensors at one time, until each call of `mark` and to the end."""
    from torch.profiler import ProfilerActivity, profile, record_function

    def mark() -> None:
        with record_function("mark"):
            pass

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work(mark)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    held, peaks = 0, [0]
    for event in sorted(
        (event for event in events if event.get("name") in ("[memory]", "mark")),
        key=lambda event: float(event["ts"]),
    ):
        if event["name"] == "mark":
            peaks.append(held)
        else:
            held += event["args"]["Bytes"]
            peaks[-1] = max(peaks[-1], held)
    return peaks


def numpy_peaks(work: Callable[[Callable[[], None]], None]) -> list[int]:
    """Return the most bytes of arrays and Python's objects at one time, as `torch_peaks` does."""
    peaks = []

    def mark() -> None:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        work(mark)
        mark()
    finally:
        tracemalloc.stop()
    return peaks


def imports(first: str, then: str) -> dict[str, Any]:
    """Return the seconds of `then` after `first`, and whether torch was imported by the end."""
    exec(first)
    start = time.perf_counter()
    exec(then, {})
    return {"wall": time.perf_counter() - start, "torch": "torch" in sys.modules}


def first_calls(threads: int, path: str, **recipe: Any) -> dict[str, Any]:
    """Return the seconds of loading a pickle, of its first two transforms, and of two fits."""
    import torch
    from _hand_loops import Recipe, make_data

    torch.set_num_threads(threads)
    size = Recipe(**recipe)
    X, y = make_data(1000, size.n_features, size.n_classes)
    seconds: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        out = work()
        seconds[name] = time.perf_counter() - start
        return out

    model = timed("load", lambda: pickle.loads(Path(path).read_bytes()))
    for name in ("first transform", "second transform"):
        timed(name, lambda: model.transform(X))
    for name in ("first fit", "second fit"):
        timed(name, lambda: size.estimator(max_epochs=1).fit(X, y))
    return seconds


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # a code after one epoch has collapsed
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
