"""What the benchmark of factors measures: attributes of images, codes within a class, refits."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sklearn_classvsc.datasets import make_class_factors

pytest.importorskip("matplotlib")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench_factors")


@pytest.mark.parametrize("shear", [-0.4, 0.0, 0.3])
def test_slant_is_that_of_a_stroke_and_width_is_what_is_left(bench, shear):
    row, column = np.mgrid[:28, :28]
    bar = np.exp(-0.5 * ((column - 14 - shear * (row - 14)) / 1.5) ** 2) * (abs(row - 14) < 6)
    found = bench.moments(bar[None])
    assert found["slant"] == pytest.approx(shear, abs=0.01)
    assert found["width"] == pytest.approx(1.5, abs=0.01)
    assert found["ink"] == pytest.approx(bar.sum())


def test_a_thicker_stroke_is_thicker_however_long(bench):
    strokes = np.zeros((3, 28, 28))
    strokes[0, 4:24, 12:14] = strokes[1, 8:20, 12:14] = strokes[2, 4:24, 11:15] = 1
    thin, short, thick = bench.thickness(strokes)
    assert thick > 1.6 * thin and short == pytest.approx(thin, rel=0.1)


def test_an_attribute_in_one_dimension_is_told_from_one_in_two(bench):
    rng, y = np.random.default_rng(0), np.repeat([0, 1], 1000)
    value, other = rng.normal(size=(2, 2000))
    attribute = value + 5 * y
    turned = np.column_stack([value + other, value - other, y])
    found = bench.within_classes(np.column_stack([other, value, y]), y, attribute)
    assert found["best"] == 1 and found["single"] > 0.99
    found = bench.within_classes(turned, y, attribute)
    assert 0.6 < found["single"] < 0.8

    of_one_class = turned[:, :1] * (y == 0)[:, None]
    found = bench.within_classes(of_one_class, y, attribute)
    assert 0.3 < found["single"] < 0.4


def test_generators_differ_in_how_factors_become_features_alone(bench):
    parameters = {"n_samples": bench.N_ROWS} | bench.FACTORS
    linear = make_class_factors(**parameters, random_state=3)
    noise = linear.data - linear.codes @ linear.dictionary
    for name in ("linear", "saturating", "mixed"):
        made = bench.KNOWN[name].make(3)
        assert np.array_equal(made.codes, linear.codes) and np.array_equal(
            made.target, linear.target
        )
        assert np.allclose(made.data, linear.data) == (name == "linear")
    made = bench.KNOWN["saturating"].make(3)
    assert np.allclose(made.data - noise, np.tanh(linear.codes @ linear.dictionary))


def test_varimax_turns_components_and_changes_no_reconstruction(bench):
    X = make_class_factors(600, n_features=20, random_state=0).data
    turned, plain = bench.VarimaxPCA(8, whiten=True).fit(X), PCA(8).fit(X)
    decoded = turned.inverse_transform(turned.transform(X))
    np.testing.assert_allclose(decoded, plain.inverse_transform(plain.transform(X)), atol=1e-8)
    np.testing.assert_allclose(np.cov(turned.transform(X).T), np.eye(8), atol=1e-8)


def test_codes_that_come_back_in_another_order_recur(bench):
    rng, y = np.random.default_rng(0), np.repeat(np.arange(3), 100)
    Z = rng.normal(size=(300, 4)) * np.column_stack([np.ones((300, 2)), y == 0, y == 1])
    found = bench.recurrence(Z, -Z[:, [3, 1, 0, 2]], y)
    assert found["recurs_global"] == pytest.approx(1) == found["recurs_class"]
    assert found["chance_global"] < 0.2
    assert bench.recurrence(Z[:, 2:], Z[:, 2:], y)["recurs_global"] is None


def test_a_page_has_a_line_for_each_system(bench, tmp_path):
    arguments = bench.common.command_line(None, argv=["--quick", f"--output={tmp_path}"])
    vars(arguments).update(seeds=[0], epochs=1, n_train=None, data_dir=None)
    rows = []
    for name, system in (("digits", "pca-varimax"), ("no-global", "classvsc")):
        (task,) = bench.common.of(bench.plan(arguments), dataset=name, system=system)
        shown = {field: task[field] for field in ("dataset", "system", "seed")}
        rows.append(shown | bench.run(task))
    rows = bench.completed(rows)
    assert [row["seed"] for row in rows] == [0, 1, 2, 0]  # digits: three pairs of fits
    page = "\n\n".join(bench.parts_of(rows, ""))
    assert page.count("\n| **ClassVSC, default** |") == 0  # has no figure of the one table
    assert page.count("\n| PCA with varimax | - |") == 1
    assert page.count("\n| linear, no global factor | **ClassVSC, default** | 1 |") == 2
    assert page.count("\n| Digits | PCA with varimax | 3 | 1.00 ± 0.00 |") == 1
