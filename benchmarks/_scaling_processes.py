"""Rows on several processes: the same optimisation, an end if one is lost, and the speed.

Each row starts processes by ``torchrun`` that run this file.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer, _modules
from sklearn_classvsc._likelihoods import LIKELIHOODS
from sklearn_classvsc._spike_slab import SpikeSlab
from sklearn_classvsc.distributed import ProcessLostError, current, data_parallel

Row = dict[str, Any]
#: What is compared: the defaults, the paper's two forms, and both baselines.
ESTIMATORS = {
    "VAE": VAETransformer(),
    "VSC": VSCTransformer(),
    "ClassVSC": ClassVSCTransformer(),
    "centroid": ClassVSCTransformer(objective="paper"),
    "pairwise": ClassVSCTransformer(objective="paper", consistency="pairwise"),
}
SMALL = {"n_components": 6, "hidden_layer_sizes": (16,), "random_state": 0}


def gradients(size: int) -> Row:
    """Compare gradients, weights and steps of 2 and 4 processes with those of one."""
    expected = _compare()
    found: dict[str, float] = {}
    same = True
    for n in (2, 4):
        for process in _launch(n, "compare"):
            for kind in ("gradients", "weights"):
                difference = max(
                    np.abs(process[kind][name] - expected[kind][name]).max()
                    for name in expected[kind]
                )
                key = f"{kind}_{n}"
                found[key] = max(found.get(key, 0.0), float(difference))
            same &= process["steps"] == expected["steps"]
    met = same and max(found["gradients_2"], found["gradients_4"]) <= 1e-12
    return {
        "measured": (
            f"largest difference of a gradient (float64, noise off): 2 processes "
            f"{found['gradients_2']:.1e}, 4 processes {found['gradients_4']:.1e}; of a weight "
            f"after a fit: {found['weights_2']:.1e} and {found['weights_4']:.1e}; "
            f"{'as many' if same else 'another number of'} steps"
        ),
        "met": bool(met and max(found["weights_2"], found["weights_4"]) <= 1e-6),
        "same_steps": same,
    } | found


def uneven(size: int) -> Row:
    """Fit to numbers of samples and batches that do not divide, in 2 and 4 processes."""
    rows: list[Row] = []
    for n in (2, 4):
        start = time.perf_counter()
        first, *others = _launch(n, "uneven")
        same = all(other == first for other in others)
        rows.append({"processes": n, "same": same, "seconds": time.perf_counter() - start} | first)
    met = all(row["same"] and row["early stopping"] == "early_stopping" for row in rows)
    return {
        "measured": (
            f"103 samples in batches of 10 and of 512, 7 in batches of 1, and early stopping, in 2 "
            f"and 4 processes: {'no' if met else 'a'} difference between processes"
        ),
        "met": met,
        "rows": [{key: row[key] for key in ("processes", "same", "seconds")} for row in rows],
    }


def lost(size: int) -> Row:
    """Kill or freeze one of two processes in an epoch; count the seconds to the other's error."""
    seconds = {}
    for how, agent in (("kill", False), ("freeze", False), ("kill", True)):
        name = f"{how}, torchrun" if agent else how
        seconds[name] = _lose(how) if not agent else _lose_under_torchrun()
    met = all(value < 60 for value in seconds.values())
    return {
        "measured": (
            f"a process killed: the other's error after {seconds['kill']:.1f} s, torchrun's end "
            f"after {seconds['kill, torchrun']:.1f} s; frozen: after {seconds['freeze']:.1f} s"
        ),
        "met": met,
        "seconds": seconds,
    }


def speed_up(size: int) -> Row:
    """Time an epoch of `size` x 784 samples in two processes, and in one with 1 or 2 threads."""
    rounds, epochs = (5, 4) if size >= 10_000 else (1, 2)
    found: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        _write_images(Path(folder), size)
        for batch in (256, 2048):
            times: dict[str, list[float]] = {}
            for _ in range(rounds):
                for name, n, threads in (("2 x 1", 2, 1), ("1 x 1", 1, 1), ("1 x 2", 1, 2)):
                    job = ("speed", folder, str(batch), str(epochs))
                    (first, *_) = _launch(n, *job, threads=threads)
                    times.setdefault(name, []).append(first["seconds"])
            for one in ("1 x 1", "1 x 2"):
                ratios = [a / b for a, b in zip(times[one], times["2 x 1"], strict=True)]
                found[f"{batch}: {one}"] = statistics.median(ratios)
            found[f"seconds, {batch}"] = {name: statistics.median(x) for name, x in times.items()}
    parts = [
        f"batch {batch}: {found[f'{batch}: 1 x 1']:.2f} x one process on one thread, "
        f"{found[f'{batch}: 1 x 2']:.2f} x on two"
        for batch in (256, 2048)
    ]
    text = f"an epoch of {size:,} x 784, two processes of one thread, gloo: {'; '.join(parts)}"
    return {"measured": text, "met": None} | found


# -- what the processes do -------------------------------------------------------------------------


def _compare(folder: Path | None = None) -> Row:
    X, y = _table(103)
    with _noise_off():
        fits = {name: _fit(est, X, y, batch_size=10) for name, est in ESTIMATORS.items()}
        return {
            "gradients": {
                (name, n): _gradient(name, n) for name in ESTIMATORS for n in (103, 7, 1)
            },
            "weights": {name: _weights(est) for name, est in fits.items()},
            "steps": {name: est.net_.steps_done for name, est in fits.items()},
        }


def _uneven(folder: Path) -> Row:
    X, y = _table(103)
    early = {"early_stopping": True, "n_iter_no_change": 1, "learning_rate": 0.3, "max_epochs": 99}
    fits = [
        _fit(est, X[:n], y[:n], batch_size=batch)
        for est in ESTIMATORS.values()
        for n, batch in ((103, 10), (103, 512), (7, 1))
    ]
    stopped = _fit(ESTIMATORS["centroid"], X, y, **early)
    digests = [_weights(est).tobytes() for est in [*fits, stopped]]
    return {"digests": digests, "early stopping": stopped.stop_reason_}


def _lost(folder: Path, how: str) -> Row:
    X, y = _table(103)
    est = ClassVSCTransformer(**SMALL, max_epochs=10**6, batch_size=10, callbacks=[_Lose(how)])
    try:
        est.fit(X, y)
    except ProcessLostError as error:
        return {"error": str(error), "time": time.time()}
    raise AssertionError("the fit has no end")


class _Lose(Callback):
    """End or freeze process 1 in its third epoch, after noting the time."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        if current().rank == 1 and len(net.history) == 3:
            (Path(sys.argv[2]) / "time").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGSTOP)


def _speed(folder: Path, data: str, batch: str, epochs: str) -> Row:
    X, y = np.load(f"{data}/X.npy", mmap_mode="r"), np.load(f"{data}/y.npy")
    clock = _Clock()
    ClassVSCTransformer(
        hidden_layer_sizes=(400,),
        n_components=50,
        batch_size=int(batch),
        max_epochs=int(epochs),
        callbacks=[clock],
        random_state=0,
    ).fit(X, y)
    return {"seconds": statistics.median(clock.seconds[1:])}


class _Clock(Callback):
    """Time the epochs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.start_ = time.perf_counter()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self.start_)


JOBS: dict[str, Callable[..., Row]] = {
    "compare": _compare,
    "uneven": _uneven,
    "lost": _lost,
    "speed": _speed,
}


def _fit(estimator: Any, X: Any, y: Any, **params: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(estimator).set_params(**SMALL | {"max_epochs": 3} | params).fit(X, y)


def _weights(est: Any) -> Any:
    return np.concatenate([x.numpy().ravel() for x in est.module_.state_dict().values()])


def _gradient(name: str, n: int) -> Any:
    """Return the gradient of the first n samples, in double precision."""
    processes, est = current(), copy.deepcopy(ESTIMATORS[name]).set_params(n_components=6)
    est.classes_ = np.arange(4)
    X, y = _table(n)
    model = est._model()
    model["alpha"] = torch.tensor(model["alpha"], dtype=torch.float64)
    module = _modules.make_autoencoder(
        X.shape[1],
        encoder=None,
        decoder=None,
        hidden_layer_sizes=[16],
        activation="gelu",
        likelihood=LIKELIHOODS["gaussian"](),
        gated=est.gated,
        generator=torch.Generator().manual_seed(0),
        **model,
    ).double()
    part = np.array_split(np.arange(n), processes.size)[processes.rank]
    x, labels = torch.tensor(X[part], dtype=torch.float64), torch.tensor(y[part])
    objective, weight = est._objective(), torch.ones(len(part), dtype=torch.float64)
    terms = objective.terms(module, module(x), x, labels, weight, processes)
    objective.loss(terms, 0.5).backward()
    processes.add_gradients(module.parameters())
    return torch.cat([p.grad.flatten() for p in module.parameters()]).numpy()  # type: ignore[union-attr]


@contextlib.contextmanager
def _noise_off() -> Iterator[None]:
    with (
        mock.patch.object(SpikeSlab, "rsample", lambda q, *args, **kwargs: q.gamma * q.mu),
        mock.patch.object(_modules, "hide_features", lambda x, *args: x),
    ):
        yield


def _table(n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 103)
    X = np.eye(4)[y] @ rng.normal(size=(4, 9)) + rng.normal(size=(103, 9))
    return X[:n].astype(np.float32), y[:n]


def _write_images(folder: Path, n: int) -> None:
    """Write n samples in [0, 1] with 784 features and ten classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, n)
    means = rng.random((10, 784), dtype=np.float32)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (n, 784))
    for start in range(0, n, 5000):
        rows = y[start : start + 5000]
        X[start : start + 5000] = means[rows] * rng.random((len(rows), 784), dtype=np.float32)
    X.flush()
    np.save(folder / "y.npy", y)


# -- starting them ---------------------------------------------------------------------------------


def _environment(threads: int = 1, **variables: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(threads)} | variables


def _launch(n: int, *job: str, threads: int = 1) -> list[Row]:
    """Run a job in n processes; return what each has found."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, job[0], folder, *job[1:]]
        if n > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n}"]
            command[1:1] = torchrun
        run = subprocess.run(
            command, env=_environment(threads), capture_output=True, text=True, timeout=600
        )
        if run.returncode:
            raise RuntimeError(run.stderr)
        return [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(n)]


def _lose(how: str) -> float:
    """Return the seconds until the other process has its error; no agent ends it."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        first, second = (
            subprocess.Popen(
                [sys.executable, __file__, "lost", folder, how],
                env=_environment(RANK=str(rank), LOCAL_RANK=str(rank), **where),
            )
            for rank in range(2)
        )
        try:
            first.wait(timeout=200)
        finally:
            for process in (first, second):
                process.kill()
                process.wait()
        end = pickle.loads((Path(folder) / "0").read_bytes())["time"]
        return float(end - float((Path(folder) / "time").read_text()))


def _lose_under_torchrun() -> float:
    """Return the seconds until torchrun has ended all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc_per_node=2", __file__, "lost", folder, "kill"]
        run = subprocess.run(command, env=_environment(), capture_output=True, text=True)
        assert run.returncode and "Signal 9 (SIGKILL) received" in run.stderr
        return time.time() - float((Path(folder) / "time").read_text())


def _main(job: str, folder: Path, *rest: str) -> None:
    if os.environ.get("WORLD_SIZE", "1") == "1":
        found, rank = JOBS[job](folder, *rest), 0
    else:
        found, rank = None, int(os.environ["RANK"])
        with contextlib.suppress(ProcessLostError), data_parallel():
            found = JOBS[job](folder, *rest)
    (folder / str(rank)).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
