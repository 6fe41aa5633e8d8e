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


@pytest.fixture
def sets(bench):
    return importlib.import_module("_sets")


@pytest.mark.parametrize("shear", [-0.4, 0.0, 0.3])
def test_slant_is_that_of_a_stroke_and_width_is_what_is_left(sets, shear):
    row, column = np.mgrid[:28, :28]
    bar = np.exp(-0.5 * ((column - 14 - shear * (row - 14)) / 1.5) ** 2) * (abs(row - 14) < 6)
    found = sets.moments(bar[None])
    assert found["slant"] == pytest.approx(shear, abs=0.01)
    assert found["width"] == pytest.approx(1.5, abs=0.01)
    assert found["ink"] == pytest.approx(bar.sum())


def test_a_thicker_stroke_is_thicker_however_long(sets):
    strokes = np.zeros((3, 28, 28))
    strokes[0, 4:24, 12:14] = strokes[1, 8:20, 12:14] = strokes[2, 4:24, 11:15] = 1
    thin, short, thick = sets.thickness(strokes)
    assert thick > 1.6 * thin and short == pytest.approx(thin, rel=0.1)


def test_heels_sleeves_and_legs_are_measured_in_pixels(sets):
    shoes, shirts, trousers = np.zeros((3, 2, 28, 28), bool)
    shoes[:, 10:16, 2:26] = True  # flat
    shoes[1, 10:22, 20:26] = shoes[1, 10:22, 2:7] = True  # on a heel of 6 pixels, and a toe
    assert sets.heel_height(shoes).tolist() == [0, 6]
    shirts[:, 4:24, 9:19] = True
    shirts[0, 4:9, 3:25] = shirts[1, 4:19, 3:25] = True
    assert sets.sleeve_width(shirts).tolist() == [5 / 20, 15 / 20]
    trousers[:, 2:26, 6:10] = trousers[0, 2:26, 16:20] = trousers[1, 2:26, 14:20] = True
    assert sets.trouser_width(trousers).tolist() == [8, 10]


def test_an_attribute_in_one_dimension_is_told_from_one_in_two(bench):
    rng, y = np.random.default_rng(0), np.repeat([0, 1], 1000)
    value, other = rng.normal(size=(2, 2000))
    attribute, classes = value + 5 * y, [0, 1]
    turned = np.column_stack([value + other, value - other, y])
    found = bench.within_classes(np.column_stack([other, value, y]), y, attribute, classes)
    assert found["best"] == 1 and found["single"] > 0.99 and found["direction"] > 0.99
    found = bench.within_classes(turned, y, attribute, classes)
    assert 0.6 < found["single"] < 0.8 and found["direction"] > 0.99

    of_one_class = turned[:, :1] * (y == 0)[:, None]
    found = bench.within_classes(of_one_class, y, attribute, classes)
    assert 0.3 < found["single"] < 0.4 and found["direction"] is None


def test_generators_differ_in_how_factors_become_features_alone(sets):
    linear = make_class_factors(5000, **sets.FACTORS, random_state=3)
    noise = linear.data - linear.codes @ linear.dictionary
    for name in ("linear", "unequal", "saturating", "mixed"):
        made = sets.KNOWN[name].make(3)
        assert np.array_equal(made.codes, linear.codes) and np.array_equal(
            made.target, linear.target
        )
        assert np.allclose(made.data, linear.data) == (name == "linear")
    made = sets.KNOWN["saturating"].make(3)
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
    page = "\n\n".join(bench.parts_of(rows, {}))
    assert page.count("\n| **ClassVSC, default** |") == 0  # has no figure of the one table
    assert page.count("\n| PCA with varimax | - |") == 1
    assert page.count("\n| linear, no global factor | **ClassVSC, default** | 1 |") == 2
    assert page.count("\n| Digits | PCA with varimax | 3 | 1.00 ± 0.00 |") == 1
