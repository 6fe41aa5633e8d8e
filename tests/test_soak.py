"""The quick part of rows of the page on reliability; see benchmarks/soak.py."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import small
from sklearn.datasets import load_iris

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"
#: Not here: what other tests run anyway, times, and what takes minutes or many processes.
ROWS = ["kill", "full", "read_only", "leak"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_quick_rows_reach_their_figures(tmp_path):
    command = [sys.executable, str(SOAK), "--quick", "--output", str(tmp_path), "--only", *ROWS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "reliability.md").read_text()
    assert page.count("| yes") == len(ROWS)


@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
@pytest.mark.parametrize("cls", [VAETransformer, VSCTransformer, ClassVSCTransformer])
def test_a_fit_leaves_no_tensors_behind(cls):
    def count():
        gc.collect()
        return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())

    X, y = load_iris(return_X_y=True)
    small(cls).fit(X, y)
    before = count()
    for _ in range(3):
        small(cls, early_stopping=True).fit(X, y).partial_fit(X, y)
    assert count() == before
