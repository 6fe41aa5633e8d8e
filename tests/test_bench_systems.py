"""What benchmarks share, and the systems' own measures; see _common.py and bench_systems.py."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sklearn_classvsc.datasets import make_class_factors

pytest.importorskip("matplotlib")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench_systems")


def test_true_codes_recover_all_factors_and_class_labels_only_where_factors_are(bench):
    made = make_class_factors(2000, n_global=2, n_shared=3, random_state=0)
    truth = bench.Truth(made.codes, made.supports, made.roles)
    rng = np.random.default_rng(0)
    shuffled = -3 * made.codes[:, rng.permutation(len(made.roles))]
    row = bench.recovery(truth, shuffled, made.target)
    assert row["role_recovery"] == 1
    for role in bench.ROLES:
        assert row[f"found_{role}"] == pytest.approx(1) == row[f"graded_{role}"]

    indicators = (made.target[:, None] == np.arange(5)).astype(float)
    row = bench.recovery(truth, indicators, made.target)
    assert row["found_class-specific"] > 0.7 and row["graded_class-specific"] == 0
    assert row["found_global"] == row["graded_global"] == 0


@pytest.mark.slow
def test_a_page_is_written_and_finished_runs_are_kept(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_systems.py", "systems", "--quick"]
    command += ["--n-train=300", "--epochs=1", f"--output={tmp_path}", "--only", "factors"]
    command += ["vae", "beta-tcvae", "classvsc-shuffled", "pca"]
    for told in ("4 runs, 0 of them", "4 runs, 4 of them"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert told in done.stdout
    page = (tmp_path / "systems.md").read_text()
    for label in ("VAE", "beta-TCVAE, beta 4", "PCA"):
        assert page.count(f"\n| {label} |") == 2
    assert "would have a correlation of 0." in page


def test_only_names_values_of_any_field_and_what_is_no_value_is_refused(bench):
    tasks = [{"table": table, "seed": seed} for table in ("iris", "wine") for seed in (0, 1)]
    asked_for = importlib.import_module("_common").asked_for
    assert asked_for(tasks, ["table", "seed"], ["wine"]) == tasks[2:]
    assert asked_for(tasks, ["table", "seed"], ["wine", "1"]) == tasks[3:]
    assert asked_for(tasks, ["table", "seed"], None) == tasks
    with pytest.raises(SystemExit, match=r"beer.* is none of 0, 1, iris, wine"):
        asked_for(tasks, ["table", "seed"], ["wine", "beer"])


def test_figures_are_written_below_the_words_of_a_page(bench, tmp_path, monkeypatch):
    common = importlib.import_module("_common")
    monkeypatch.setattr(common, "PAGES", tmp_path)
    page = tmp_path / "x.md"
    page.write_text(f"# By hand\n\nWords.\n\n{common.MARK}\n\nold figures\n")
    rows = [{"environment": common.environment()}]
    common.write_page(argparse.Namespace(pages=tmp_path), "x", ["new figures"], rows)
    text = page.read_text()
    assert text.startswith(f"# By hand\n\nWords.\n\n{common.MARK}\n\nnew figures\n\n## Where")
    assert "old figures" not in text


def test_every_page_says_where_its_figures_begin(bench):
    common = importlib.import_module("_common")
    pages = [*common.PAGES.glob("*.md"), common.DOCS / "reliability.md"]
    assert len(pages) > 5
    assert all(page.read_text().count(common.MARK) == 1 for page in pages)


def test_finished_runs_are_kept_and_a_line_cut_short_costs_that_run_alone(bench, tmp_path):
    common = importlib.import_module("_common")
    arguments = argparse.Namespace(results=tmp_path, only=None, fresh=False, jobs=1)
    file, tasks = tmp_path / "rows.jsonl", [{"seed": seed} for seed in range(3)]
    ran = []

    def work(task):
        ran.append(task["seed"])
        if task["seed"] == 2 and len(ran) <= 3:
            raise ValueError("this once")
        return {"twice": 2 * task["seed"]}

    rows, ok = common.run_tasks(arguments, "rows", ["seed"], tasks, work)
    assert rows == [{"seed": 0, "twice": 0}, {"seed": 1, "twice": 2}] and not ok
    file.write_text(file.read_text()[:-3])  # of seed 1
    rows, ok = common.run_tasks(arguments, "rows", ["seed"], tasks, work)
    assert ok and ran == [0, 1, 2, 1, 2]
    assert [row["twice"] for row in rows] == [0, 2, 4]
    lines = file.read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines if line.endswith("}")] == [0, 1, 2]


def test_all_networks_of_a_page_train_alike(bench):
    networks = [s for s in bench.SYSTEMS.values() if s.estimator.__module__.startswith("sklearn_c")]
    made = [system.make(4, 7, 0) for system in networks]
    assert len(made) > 10
    for system, est in zip(networks, made, strict=True):
        assert est.max_epochs == 7 * system.longer and est.batch_size == bench.BATCH_SIZE
        assert est.hidden_layer_sizes == (400,) or est.encoder is not None
