"""The fuzzers' harness counts whatever may end a child; see benchmarks/_harness.py."""

import importlib
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no signals")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TELL = (
    "import json, os, signal, sys, time\ntell = lambda **row: print(json.dumps(row), flush=True)\n"
)
FINE = 'tell(case="a")\ntell(case="a", kind="fine")\ntell(case="b")\n'


@pytest.fixture
def run_child(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    harness = importlib.import_module("_harness")

    def run(code):
        script = tmp_path / "child.py"
        script.write_text(TELL + FINE + code)
        return list(harness.rows_of_child([sys.executable, str(script)], seconds=0.5))

    return run


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("os.abort()", -6),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),  # as the kernel's, out of memory
        ("os.kill(os.getpid(), signal.SIGSEGV)", -11),
        ("sys.exit(3)", 3),
        ("os._exit(0)", 0),
    ],
)
def test_whatever_ends_a_child_in_the_midst_of_a_case_is_a_crash(code, status, run_child):
    fine, crash = run_child(code)
    assert fine == {"case": "a", "kind": "fine"}
    assert crash == {"case": "b", "kind": "crash", "told": f"exit status {status}"}


def test_a_crash_after_the_last_case_is_a_crash(run_child):
    rows = run_child('tell(case="b", kind="fine")\nsys.exit(1)')
    assert [row["kind"] for row in rows] == ["fine", "fine", "crash"]


def test_a_case_that_takes_too_long_is_a_hang_and_no_crash(run_child):
    assert run_child("time.sleep(60)")[1:] == [{"case": "b", "kind": "hang"}]


def test_a_child_that_tells_of_every_case_has_not_crashed(run_child):
    rows = run_child('tell(case="b", kind="fine")')
    assert rows == [{"case": "a", "kind": "fine"}, {"case": "b", "kind": "fine"}]
