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
    was allocated is the peak of torch's own record plus that of NumPy's (`tracemalloc`), each of
    a fit of its own; the two peaks need not coincide, so that their sum is an upper bound.
    """
    import torch
    from _hand_loops import Recipe, make_data

    torch.set_num_threads(threads)
    size = Recipe(**recipe)
    model = size.estimator(max_epochs=1)
    n_classes = max(size.n_classes, 2)
    tiny = make_data(64, size.n_features, min(n_classes, 32))
    size._replace(n_hidden=8, n_components=8).estimator(max_epochs=2).fit(*tiny)  # all imports
    X, y = make_data(n_samples, size.n_features, n_classes)

    def fit() -> None:
        model.fit(X, y)

    resident = resident_rise(fit)
    n_parameters = sum(p.numel() for p in model.module_.parameters())
    return {
        "resident_bytes": resident,
        "torch_bytes": torch_peak(fit),
        "numpy_bytes": numpy_peak(fit),
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


def torch_peak(work: Callable[[], None]) -> int:
    """Return the most bytes of tensors that `work` has at one time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: float(event["ts"])):
        held += change["args"]["Bytes"]
        most = max(most, held)
    return most


def numpy_peak(work: Callable[[], None]) -> int:
    """Return the most bytes of arrays, and of Python's objects, that `work` has at one time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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
