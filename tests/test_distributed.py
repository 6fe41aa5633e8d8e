"""Processes that train together find what one finds, alike, and none waits for a lost one."""

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import distributed_child as child
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small

from sklearn_classvsc import VSCTransformer, distributed
from sklearn_classvsc.distributed import ProcessLostError, data_parallel

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def environment(**variables):
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH",)}
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | variables


def torchrun(*command, n=2, cwd=None):
    """Run a command in n processes."""
    return subprocess.run(
        [*TORCHRUN, f"--nproc_per_node={n}", *command],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


#: More than two, and no divisor of the numbers of samples.
N_PROCESSES = 3
#: Runs programs one after the other, keeps what each has printed, and tells its threads at the end.
RUN_EACH = """
import atexit, contextlib, json, os, runpy, sys
from pathlib import Path

@atexit.register  # before any other, to be called after them
def tell():
    tasks = Path("/proc/self/task").glob("*/comm")
    print("threads", sorted(task.read_text().strip() for task in tasks), flush=True)

for name, argv in json.loads(sys.argv[1]).items():
    sys.argv = argv
    run = runpy.run_path if argv[0].endswith(".py") else runpy.run_module
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(SystemExit))
        for stream in ("stdout", "stderr"):
            file = stack.enter_context(open(f"{name}.{os.environ['RANK']}.{stream}", "w"))
            stack.enter_context(getattr(contextlib, f"redirect_{stream}")(file))
        run(argv[0], run_name="__main__")
"""
EXAMPLE = TESTS.parent / "docs" / "examples" / "distributed_fit.py"
PROGRAMS = {
    "example": [str(EXAMPLE), "."],
    "command": ["sklearn_classvsc", "--max-epochs=1", "--out", "written"],
    "wrong": ["sklearn_classvsc", "--data", "no.csv", "--target", "y"],
}


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Return the folder in which one launch has run all programs, and what it printed at last."""
    folder = tmp_path_factory.mktemp("processes")
    X, y = child.table(300)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    (folder / "run_each.py").write_text(RUN_EACH)
    launch = torchrun("run_each.py", json.dumps(PROGRAMS), cwd=folder)
    assert launch.returncode == 0, launch.stderr
    return folder, launch.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what each process of a launch has found."""
    folder = tmp_path_factory.mktemp("found")
    launch = torchrun(TESTS / "distributed_child.py", folder, n=N_PROCESSES)
    assert launch.returncode == 0, launch.stderr
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(N_PROCESSES)]


@pytest.fixture(scope="module")
def alone():
    """Return what one process finds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {"gradients": child.all_gradients(), "noiseless": child.noiseless_fits()}
    finally:
        torch.set_num_threads(threads)


def test_gradients_are_those_of_one_process(found, alone):
    for case, expected in alone["gradients"].items():
        assert np.abs(expected["gradients"]).max() > 1e-3
        for process in found:
            actual = process["gradients"][case]
            np.testing.assert_allclose(
                actual["gradients"], expected["gradients"], rtol=0, atol=1e-12
            )
            assert actual["running"].keys() == expected["running"].keys()
            for name, value in expected["running"].items():
                np.testing.assert_allclose(actual["running"][name], value, rtol=0, atol=1e-12)
            assert actual["terms"] == pytest.approx(expected["terms"], rel=1e-12, abs=1e-12)


def test_noiseless_fits_reach_the_weights_of_one_process(found, alone):
    for case, expected in alone["noiseless"].items():
        for process in found:
            actual = process["noiseless"][case]
            assert actual["steps"] == expected["steps"]
            assert actual["stop_reason"] == expected["stop_reason"]
            pd.testing.assert_frame_equal(actual["history"], expected["history"], rtol=1e-4)
            n_rounded = 0
            for name, weights in expected["weights"].items():
                away = np.abs(actual["weights"][name] - weights)
                # A few of so many gradients are nearly 0, and Adam steps by their rounding.
                if name.startswith("gates."):
                    assert (away > 1e-6).mean() < 0.005 and away.max(initial=0) <= 1e-4, name
                else:
                    n_rounded += (away > 1e-6).sum()
                    assert away.max(initial=0) <= 3e-6, name
            assert n_rounded <= 1  # on some processors one, of a LayerNorm after 99 steps
    assert alone["noiseless"]["early stopping"]["stop_reason"] == "early_stopping"


def test_all_processes_have_the_same_estimator(found):
    first, *others = found
    assert first["noisy"]["seeded"]["digest"] == first["noisy"]["again"]["digest"]
    assert first["noisy"]["seeded"]["digest"] == first["noisy"]["after the errors"]["digest"]
    for other in others:
        for kind in ("noiseless", "noisy"):
            for case, expected in first[kind].items():
                if isinstance(expected, dict):
                    assert other[kind][case]["digest"] == expected["digest"], case
                    if case != "own module":  # which is a parameter, and the process's own
                        np.testing.assert_equal(state(other[kind][case]), state(expected), case)
                    assert other[kind][case]["history"].equals(expected["history"]), case


def state(summary):
    return pickle.loads(summary["pickle"]).__getstate__()


def test_the_estimator_goes_on_alone(found):
    X, y = child.table()
    twins = [pickle.loads(process["noisy"]["seeded"]["pickle"]) for process in found]
    codes = [est.partial_fit(X, y).transform(X) for est in twins]
    for other in codes[1:]:
        assert np.array_equal(other, codes[0])


def test_each_process_draws_its_own_noise(found, alone):
    X, y = child.table()
    one = small(child.ClassVSCTransformer).fit(X, y)
    noisy = found[0]["noisy"]["seeded"]
    assert noisy["steps"] == one.net_.steps_done
    assert noisy["digest"] != [x.numpy().tobytes() for x in one.module_.state_dict().values()]
    last = noisy["history"]["train_loss"].iloc[-1]
    assert last == pytest.approx(one.history_["train_loss"].iloc[-1], rel=0.2)


def test_a_callback_of_one_process_stops_all(found):
    for process in found:
        assert process["noisy"]["callback"]["stop_reason"] == "callback"
        assert len(process["noisy"]["callback"]["history"]) == 2


def test_the_first_process_shows_progress(found):
    assert "3/3" in found[0]["noisy"]["bar"]
    assert [process["noisy"]["bar"] for process in found[1:]] == [""] * (len(found) - 1)


def test_which_process_is_the_first_is_known_after_the_context(found):
    main = [process["main"] for process in found]
    assert main == [(rank == 0, len(found)) for rank in range(len(found))]


@pytest.mark.parametrize(
    ("case", "kind", "message"),
    [
        ("other data", ValueError, "Process 1 has another X than process 0"),
        ("other labels", ValueError, "Process 1 has another y than process 0"),
        (
            "other parameters",
            ValueError,
            r"another n_components than process 0\. Give every process",
        ),
        ("bad input", ValueError, "Input X contains infinity"),
        ("callback's error", ZeroDivisionError, "by it"),
        ("divergence", FloatingPointError, "loss is not finite"),
        ("checkpoint", OSError, "no"),
        ("full disk", OSError, "the disk is full"),
    ],
)
def test_an_error_of_one_process_is_raised_in_all(found, case, kind, message):
    for process in found:
        error = process["noisy"][case]
        assert isinstance(error, kind) and re.search(message, str(error))


def test_an_error_between_trainings_is_raised_in_all(found):
    assert [repr(process["between"]) for process in found] == [
        "LookupError('nothing there')" for process in found
    ]


def test_an_error_within_an_epoch_is_no_hang(found):
    assert isinstance(found[1]["within"], ZeroDivisionError)
    for process in (found[0], *found[2:]):
        assert isinstance(process["within"], ProcessLostError)
        assert re.search(r"Process \d of \d has lost another", str(process["within"]))


def test_a_fit_goes_on_from_the_first_process_s_checkpoint(found):
    for process in found:
        noisy = process["noisy"]
        assert noisy["interrupted"]["stop_reason"] == "interrupted"
        assert len(noisy["interrupted"]["history"]) == 5
        for again in ("resumed", "finished"):
            assert noisy[again]["digest"] == noisy["undisturbed"]["digest"]
            assert noisy[again]["history"].equals(noisy["undisturbed"]["history"])


@pytest.mark.parametrize(
    ("how", "message"), [("kill", r"peer|reset"), ("freeze", "Timed out waiting 5000ms")]
)
def test_a_lost_process_is_an_error_in_the_others(how, message, tmp_path):
    """Without torchrun's agent, which would end the others itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, str(TESTS / "distributed_child.py"), str(tmp_path), how]
    first, second = (
        subprocess.Popen(
            command,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **where),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    )
    try:
        _, err = first.communicate(timeout=100)
    finally:
        for process in (first, second):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        second.communicate()
    assert first.returncode == 1
    last = err.strip().splitlines()[-1]
    assert "ProcessLostError: Process 0 of 2 has lost another" in last
    assert re.search(message, last) and "With checkpoint=..., fit(..., resume=True)" in last
    found = pickle.loads((tmp_path / "0.pickle").read_bytes())
    assert found["as before"] and found["seconds"] < 60


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for the threads")
def test_no_thread_of_the_connection_outlives_python(launched):
    """It would abort the process, now and then: here 4 of 12, on busy processors."""
    _, at_the_end = launched
    assert at_the_end.count("threads") == 2 and "python" in at_the_end
    assert "gloo" not in at_the_end


def printed(folder, name, stream):
    """Return what both processes of a program have printed."""
    files = list(folder.glob(f"{name}.*.{stream}"))
    assert len(files) == 2
    return "".join(file.read_text() for file in files)


def test_the_example_trains_and_saves_one_model(launched):
    folder, _ = launched
    assert len(re.findall(r"^\S|^ +\S", EXAMPLE.read_text(), re.MULTILINE)) <= 13
    est = child.ClassVSCTransformer.load(folder / "model.safetensors")
    assert est.n_iter_ == 5 and est.transform(child.table(300)[0]).shape == (300, 32)


def test_the_command_line_prints_once(launched):
    """Both processes print the same, but only the first is heard; so are errors."""
    folder, _ = launched
    out = printed(folder, "command", "stdout")
    assert out.count("1797 samples") == out.count("Written: ") == 1
    written = {path.name for path in (folder / "written").iterdir()}
    assert written >= {"factor_report.html", "table.csv"}


def test_the_command_line_says_once_what_is_wrong(launched):
    folder, _ = launched
    assert printed(folder, "wrong", "stdout") == ""
    assert printed(folder, "wrong", "stderr").count("does not exist") == 1


# -- one process -----------------------------------------------------------------------------------


def test_one_process_fits_as_ever():
    X, _ = child.table()
    threads = torch.get_num_threads()
    with data_parallel() as accelerator:
        est = small(VSCTransformer).fit(X)
    assert accelerator.is_main_process and accelerator.num_processes == 1
    assert np.array_equal(est.transform(X), small(VSCTransformer).fit(X).transform(X))
    assert torch.get_num_threads() == threads and not torch.distributed.is_initialized()


def test_missing_accelerate_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-classvsc\[distributed\]"'):
        with data_parallel():
            pass


def test_processes_that_were_not_started_are_missed(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(RuntimeError, match=r"(?s)MASTER_ADDR is set.*torchrun"):
        with data_parallel():
            pass


def test_one_process_sums_to_itself():
    x = torch.ones(3)
    one = distributed.current()
    assert one.size == 1 and one.total(x) is x and one.gather(x) is x
