"""Specification of the factor report: what it says, and what the page does in a browser."""

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import explained_variance_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

import sklearn_classvsc
from sklearn_classvsc import (
    ClassVSCTransformer,
    CollapseWarning,
    VAETransformer,
    VSCTransformer,
    factor_stability,
    metrics,
)
from sklearn_classvsc.__main__ import measure
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.inspection import class_differences
from sklearn_classvsc.report import FactorReport, _factors, factor_report
from sklearn_classvsc.report._pictures import ImageMaker, _groups, bars, cells, curve, png
from sklearn_classvsc.report._words import (
    agreement,
    changed_regions,
    date,
    decimal,
    listed,
    number,
    percent,
    picture_text,
    relative,
    shorten,
    stands_out,
    tied,
)

pytest.importorskip("jinja2")

HOSTILE = [
    '<img src=x onerror="window.hacked=1">',
    "</script><script>window.hacked=1</script>",
    "$x_{1}$ {{ 7 * 7 }} {% raw %}",
    "\"double\" 'single' `back` & <b>bold</b> <!-- ",
    "very " * 100 + "long",
    "naïve 日本語 \u2028\u202e \ud800",
    7,
    True,
]


class Oracle(VSCTransformer):
    """Finds the true codes of `make_class_factors` without noise."""

    def transform(self, X):
        codes = np.asarray(X) @ np.linalg.pinv(self.dictionary)
        return np.where(np.abs(codes) > 1e-9, codes, 0)

    def inverse_transform(self, Z):
        return np.asarray(Z) @ self.dictionary


def oracle(n_samples=200, **parameters):
    """An `Oracle`, and data whose factors it knows."""
    data = make_class_factors(n_samples, noise=0, random_state=0, **parameters)
    est = Oracle(len(data.dictionary), hidden_layer_sizes=(4,), max_epochs=1, random_state=0)
    est.fit(data.data).dictionary = data.dictionary
    return est, data


def by_lead(report):
    """The factors of a report by their first dimension."""
    return {factor["dimensions"][0]: factor for factor in report.to_dict()["factors"]}


@pytest.fixture(scope="module")
def digits():
    """A fitted estimator, and held-out images with their classes."""
    X, y = load_digits(return_X_y=True)
    est = ClassVSCTransformer(16, hidden_layer_sizes=(64,), max_epochs=100, random_state=0)
    with warnings.catch_warnings():  # dead dimensions are welcome here
        warnings.simplefilter("ignore", CollapseWarning)
        return est.fit(X[::2] / 16, y[::2]), X[1::2] / 16, y[1::2]


@pytest.fixture(scope="module")
def flowers():
    """A fitted estimator, and a table with named columns and classes."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    y = np.array(["setosa", "versicolor", "virginica"])[y]
    est = ClassVSCTransformer(8, hidden_layer_sizes=(32,), max_epochs=300, random_state=0)
    return est.fit(X, y), X, y


@pytest.fixture(scope="module")
def digits_report(digits):
    return factor_report(*digits, image_shape=(8, 8), title="Digits")


@pytest.fixture(scope="module")
def images():
    """A report on images of five classes: a global, two shared and five specific dimensions."""
    est, data = oracle(n_classes=5, n_global=1, n_shared=2, activity=0.8, image_shape=(12, 12))
    return factor_report(est, data.data, data.target, image_shape=(12, 12))


@pytest.fixture(scope="module")
def table(flowers):
    return factor_report(*flowers)


@pytest.fixture(scope="module")
def hostile():
    """A report all of whose names come from somebody who means ill."""
    est, data = oracle(n_features=8, n_classes=5, n_global=1, n_shared=1, n_specific=1)
    y = np.array(HOSTILE[:5], dtype=object)[data.target]
    return factor_report(est, data.data, y, feature_names=HOSTILE, title=HOSTILE[0])


@pytest.fixture(scope="module")
def dead():
    """A report on a code that is never on."""
    est, data = oracle(n_classes=3)
    est.transform = lambda X: np.zeros((len(X), len(data.dictionary)))
    return factor_report(est, data.data, data.target)


def source_of(report):
    shown = re.search('srcdoc="(.*?)"', report._repr_html_(), flags=re.DOTALL)
    return html.unescape(shown[1])


def embedded(report):
    """Return the data that the script of the page reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', source_of(report))[1])


class Page(HTMLParser):
    """The elements of a page, its visible text, and whether every element is closed."""

    VOID = frozenset({"meta", "link", "img", "input", "rect", "path"})

    def __init__(self, report):
        super().__init__()
        self.source = source_of(report)
        self.elements, self.text, self.open, self.balanced = [], "", [], True
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


# -- what it says ----------------------------------------------------------------------------------


def test_figures_are_the_metrics_of_all_samples(digits, digits_report):
    est, X, y = digits
    Z, figures = est.transform(X), digits_report.to_dict()["figures"]
    sharing = metrics.class_sharing_matrix(Z, y)
    assert figures["class_consistency"] == metrics.class_consistency_score(Z, y)
    assert figures["class_sharing"] == pytest.approx(sharing[~np.eye(10, dtype=bool)].mean())
    assert figures["nonglobal_contrast"] == metrics.class_contrast_score(Z, y)
    assert figures["fidelity"] == pytest.approx(metrics.fidelity_scorer(est, X))
    assert figures["fidelity_measure"] == "pooled explained variance"
    pooled = metrics.pooled_fidelity_scorer(est, X)
    assert figures["pooled_explained_variance"] == pytest.approx(pooled)
    assert figures["active_dimensions"] == pytest.approx((Z != 0).sum(axis=1).mean())
    assert figures["support_information"] == metrics.support_information(Z, y)
    switches = metrics.independent_switches(Z)
    assert figures["n_factors"] == switches.max() + 1
    roles = metrics.dimension_roles(Z, y)
    assert figures["roles"] == {role: (roles["role"] == role).sum() for role in metrics.ROLES}


def test_a_figure_has_one_value_wherever_it_stands(digits):
    est, X, y = clone(digits[0]).set_params(max_epochs=20), *digits[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = measure(est, (X, X, y, y))  # fits; what the command line prints
    report = factor_report(est, X, y, image_shape=(8, 8))
    data, text = report.to_dict(), Page(report).text
    assert data["figures"]["fidelity"] == pytest.approx(shown["explained_variance"])
    for name in ("active_dimensions", "class_consistency", "class_sharing", "nonglobal_contrast"):
        assert data["figures"][name] == pytest.approx(shown[name])
    assert percent(metrics.fidelity_scorer(est, X)) in text
    assert decimal(metrics.contrast_scorer(est, X, y)) in text
    for entry in data["factors"]:
        assert f"effect {number(round(entry['size'], 2))}" in text


def test_figures_stand_beside_baselines(digits, digits_report):
    X = digits[1]
    figures = digits_report.to_dict()["figures"]
    k = round(figures["active_dimensions"])
    best = PCA(k).fit(X).explained_variance_ratio_.sum()  # fitted to what it is judged on
    assert best - 0.1 < figures["baseline_fidelity"] < best
    assert 0.7 < figures["probe_accuracy"] <= 1 and figures["probe_chance"] < 0.15
    assert 0.85 < figures["probe_accuracy_of_features"] <= 1
    assert figures["nonglobal_contrast_of_refits"] is None and figures["recurrence"] is None
    assert "factor_report(..., n_refits=2)" in Page(digits_report).text


def test_refits_are_the_control_and_say_what_comes_back(digits, monkeypatch):
    est, X, y = digits
    asked = {}

    def stub(est, X, y, **arguments):
        asked.update(arguments, est=est, X=X, y=y)
        recurrence = np.where((est.transform(X) != 0).any(axis=0), 0.8, np.nan)
        return Bunch(recurrence=recurrence, chance=0.2)

    monkeypatch.setattr(sklearn_classvsc, "factor_stability", stub)
    quick = clone(est).set_params(max_epochs=3).fit(X, y)
    report = factor_report(quick, X, y, image_shape=(8, 8), n_refits=2)
    data, text = report.to_dict(), Page(report).text
    assert asked["est"] is quick and asked["n_refits"] == 2 and asked["X"].shape == X.shape
    assert data["figures"]["recurrence"] == pytest.approx(0.8)
    assert {factor["recurrence"] for factor in data["factors"]} == {0.8}
    control = data["figures"]["nonglobal_contrast_of_refits"]
    assert -0.1 < control < 0.5
    assert f"2 refits to shuffled labels: {control:.2f}".replace("-", "−") in text
    assert "correlation of a dimension with its match is 0.80 on average" in text
    assert "By chance it would be 0.20" in text
    assert [entry["verdict"] for entry in data["trust"]][1] == "yes"


def test_refits_of_a_pipeline_are_of_its_transformer(flowers):
    _, X, y = flowers
    est = ClassVSCTransformer(4, hidden_layer_sizes=(8,), max_epochs=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(StandardScaler(), est, LogisticRegression())
        search = GridSearchCV(pipeline, {"logisticregression__C": [1]}, cv=2).fit(X, y)
        report = factor_report(search, X, y, n_refits=1)
        inside = search.best_estimator_[0].transform(X)
        found = factor_stability(search.best_estimator_[1], inside, y, n_refits=1)
    figures = report.to_dict()["figures"]
    again = [entry["recurrence"] for entry in report.to_dict()["dimensions"]]
    np.testing.assert_allclose(np.array(again, dtype=float), found.recurrence, atol=1e-3)
    assert figures["recurrence_by_chance"] == pytest.approx(found.chance, abs=1e-3)
    assert np.isfinite(figures["nonglobal_contrast_of_refits"])


def test_dimensions_are_the_roles_of_all_samples(digits, digits_report):
    est, X, y = digits
    data = digits_report.to_dict()
    listed = pd.DataFrame(data["dimensions"])
    roles = metrics.dimension_roles(est.transform(X), y)
    assert listed["dimension"].tolist() == list(range(16))
    assert listed["switch"].tolist() == metrics.independent_switches(est.transform(X)).tolist()
    assert listed["role"].tolist() == roles["role"].tolist()
    assert [tuple(classes) for classes in listed["classes"]] == roles["classes"].tolist()
    np.testing.assert_allclose(listed["density"], roles["density"])
    np.testing.assert_allclose(listed["specificity"].astype(float), roles["specificity"], atol=1e-4)
    rates = [(est.transform(X[y == c]) != 0).mean(axis=0) for c in range(10)]
    np.testing.assert_allclose(data["activation_rates"], rates, atol=1e-4)


def test_the_dictionary_is_json_and_a_copy(images, table, hostile):
    for report in (images, table, hostile):
        data = report.to_dict()
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        data["figures"].clear()
        assert report.to_dict()["figures"]


def test_classes_keep_their_labels_and_take_names(digits, flowers, table):
    assert [entry["label"] for entry in table.to_dict()["classes"]] == sorted(set(flowers[2]))
    names = [f"digit {c}" for c in range(10)]
    classes = factor_report(*digits, class_names=names).to_dict()["classes"]
    assert [entry["label"] for entry in classes] == list(range(10))
    assert [entry["name"] for entry in classes] == names


def test_features_are_named_as_at_fit_or_as_given(digits, flowers, table):
    assert table.to_dict()["data"]["feature_names"] == flowers[1].columns.tolist()
    assert factor_report(*digits).to_dict()["data"]["feature_names"][:2] == ["x0", "x1"]
    renamed = factor_report(*flowers, feature_names=["a", "b", "c", "d"]).to_dict()
    marks = [mark for entry in renamed["classes"] for mark in entry["marks"]]
    assert marks and {mark["feature"] for mark in marks} <= {"a", "b", "c", "d"}


def test_it_says_what_the_generator_did():
    est, data = oracle(n_classes=4, n_global=1, n_shared=2, n_specific=1)
    report = factor_report(est, data.data, data.target)
    found, factors = report.to_dict(), by_lead(report)
    assert found["figures"]["fidelity"] == pytest.approx(1)
    assert [entry["role"] for entry in found["dimensions"]] == data.roles.tolist()
    assert found["summary"] == (
        "Oracle describes these 200 samples of 4 classes with 7 factors: 1 that nearly every class "
        "activates, 2 that some classes share and 4 that mark one class."
    )
    own = [j for j, role in enumerate(data.roles) if role == "class-specific"]
    codes = est.transform(data.data)
    for j in own:
        (c,) = factors[j]["classes"]
        assert factors[j]["switched"] and j in found["classes"][c]["factors"]
        rate = percent((codes[data.target == c, j] != 0).mean())
        assert factors[j]["sentence"].startswith(
            f"Class {c} activates it in {rate} of its samples; no sample of another class does. "
            "When it is active: "
        )
        values = data.codes[data.target == c, j]
        for effect in factors[j]["effects"]:
            weight = data.dictionary[j, int(effect["feature"][1:])]
            assert effect["change"] == pytest.approx(weight * values[values != 0].mean(), rel=0.3)
            assert weight != 0
    (everybody,) = np.flatnonzero(data.roles == "global")
    assert not factors[everybody]["switched"]
    assert "its low to its high values" in factors[everybody]["sentence"]


def test_a_class_specific_factor_names_the_rate_of_other_classes():
    est, data = oracle(n_classes=4, n_global=1, n_shared=0, n_specific=1)
    j = int(np.flatnonzero(data.supports[0])[-1])
    transform = est.transform
    elsewhere = np.flatnonzero(data.target == 1)[: (data.target == 1).sum() // 5]

    def also_elsewhere(X):
        codes = transform(X)
        if len(codes) == len(data.data):
            codes[elsewhere, j] = 1
        return codes

    est.transform = also_elsewhere
    sentence = by_lead(factor_report(est, data.data, data.target))[j]["sentence"]
    most = int(np.ceil(100 * len(elsewhere) / (data.target == 1).sum()))
    assert (
        f"Class 0 activates it in 100 % of its samples; no other class in more than {most} %."
        in (sentence)
    )


def test_dimensions_that_switch_together_are_one_factor_with_several_sliders():
    est, data = oracle(n_classes=3, n_global=1, n_shared=0, n_specific=2)
    report = factor_report(est, data.data, data.target)
    blocks = [factor["dimensions"] for factor in report.to_dict()["factors"]]
    assert sorted(map(len, blocks)) == [1, 2, 2, 2]
    text = Page(report).text
    assert "which are active together. Each has a slider." in text
    for factor in report.to_dict()["factors"]:
        assert sorted(s["dimension"] for s in factor["sliders"]) == factor["dimensions"]
        on = (data.codes[:, factor["dimensions"]] != 0).all(axis=1)
        expected = data.codes[on][:, factor["dimensions"]] @ data.dictionary[factor["dimensions"]]
        if factor["switched"]:
            for effect in factor["effects"]:
                change = expected[:, int(effect["feature"][1:])].mean()
                assert effect["change"] == pytest.approx(change, rel=0.35, abs=0.05)


def test_what_marks_a_class_is_its_whole_block_beside_the_data(flowers, table):
    est, X, y = flowers
    expected = class_differences(est, X, y)
    scale = X.std(ddof=0)
    for entry in table.to_dict()["classes"]:
        code = expected.loc[entry["label"], "counterfactual"]
        plain = expected.loc[entry["label"], "difference"]
        assert entry["agreement"] == pytest.approx(spearmanr(code / scale, plain / scale)[0])
        relative = [mark["relative_change"] for mark in entry["marks"]]
        assert relative == sorted(relative, key=lambda change: (change < 0, -abs(change)))
        for mark in entry["marks"]:
            assert mark["change"] == pytest.approx(code[mark["feature"]], abs=1e-4)
            assert mark["difference"] == pytest.approx(plain[mark["feature"]])


def test_real_samples_go_from_the_lowest_to_the_highest_value(table, flowers):
    Z = flowers[0].transform(flowers[1])
    for factor in table.to_dict()["factors"]:
        for slider in factor["sliders"]:
            values = np.sort(Z[Z[:, slider["dimension"]] != 0, slider["dimension"]])
            low, high = ([s["value"] for s in slider[end]] for end in ("low", "high"))
            if len(factor["classes"]) < 3:
                np.testing.assert_allclose(low, values[: len(low)])
                np.testing.assert_allclose(high, values[len(values) - len(high) :])
            else:  # of each class
                assert [s["class"] for s in slider["low"]] == factor["classes"]
                assert np.less(low, high).all()


def test_fixing_a_factor_costs_what_its_values_tell():
    est, data = oracle(n_classes=3, n_global=2, n_shared=0, n_specific=1)
    report = factor_report(est, data.data, data.target)
    Z = est.transform(data.data)
    whole = metrics.fidelity_scorer(est, data.data)
    for factor in report.to_dict()["factors"]:
        fixed = Z.copy()
        for j in factor["dimensions"]:
            on = Z[:, j] != 0
            fixed[on, j] = Z[on, j].mean()
        kept = explained_variance_score(
            data.data, est.inverse_transform(fixed), multioutput="raw_values"
        )
        kept = kept[np.ptp(data.data, axis=0) > 0]
        assert factor["cost"] == pytest.approx(whole - kept.mean(), abs=1e-6)


class Mixing(Oracle):
    """Decodes dimension 1, which classes 0 and 1 share, to other features in class 1."""

    def inverse_transform(self, Z):
        Z, D = np.array(Z), self.dictionary
        in_class_1 = Z[:, 3] != 0  # the class-specific factor
        moved = np.where(in_class_1[:, None], np.roll(D[1], 5), D[1])
        return Z @ D + Z[:, [1]] * (moved - D[1])


@pytest.mark.parametrize("kind", [Oracle, Mixing])
def test_a_shared_factor_says_what_it_does_in_each_class(kind):
    supports = np.array([[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 0, 0]])
    rng, y = np.random.default_rng(0), np.arange(200) % 3
    dictionary = rng.normal(size=(4, 20))
    X = (rng.normal(3, 0.1, (200, 4)) * supports[y]) @ dictionary
    est = kind(4, hidden_layer_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    est.dictionary = dictionary
    report = factor_report(est, X, y, class_names=["ant", "bee", "cow"])
    shared = by_lead(report)[1]
    assert shared["role"] == "shared" and [of["class"] for of in shared["within"]] == [0, 1]
    first = [of["effects"][0]["feature"] for of in shared["within"]]
    text = Page(report).text
    if kind is Oracle:
        assert shared["alignment"] == pytest.approx(1) and first[0] == first[1]
        assert "differ" not in shared["sentence"] and "differs between its classes" not in text
    else:
        assert shared["alignment"] < 0.8 and first[0] != first[1]
        assert f"differently in its classes: in ant, {first[0]} " in shared["sentence"]
        assert "differs between its classes" in text


def test_counts_are_told_in_words_that_rise():
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    rates = np.ones((3, 30))
    for c in range(3):
        rates[c, 10 * c : 10 * c + 5] = 8
    X = csr_array(rng.poisson(rates[y]))
    est = ClassVSCTransformer(
        6, likelihood="poisson", hidden_layer_sizes=(16,), max_epochs=60, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(X, y)
    report = factor_report(est, X, y)
    data = report.to_dict()
    assert data["figures"]["fidelity_measure"] == "explained deviance"
    assert data["figures"]["fidelity"] == pytest.approx(metrics.fidelity_scorer(est, X))
    assert 0 < data["figures"]["fidelity"] < 1 and data["figures"]["baseline"] == "NMF"
    for c, entry in enumerate(data["classes"]):
        first = [int(mark["feature"][1:]) for mark in entry["marks"][:5]]
        assert np.mean([10 * c <= j < 10 * c + 5 for j in first]) >= 0.8
        assert entry["marks"][0]["relative_change"] > 0
    text = Page(report).text
    assert "×" in text and "1 at best, 0 by chance" in text
    assert not re.search(r"\b(words?|documents?)\b", text)  # they may be genes


def test_a_pipeline_is_told_in_the_columns_of_its_table():
    rng = np.random.default_rng(0)
    y = np.array(["A", "B", "C"])[np.arange(150) % 3]
    X = pd.DataFrame(
        {
            "island": np.array(["Dream", "Biscoe", "Dream"])[np.arange(150) % 3],
            "mass": 4000 + 500 * (np.arange(150) % 3) + rng.normal(0, 100, 150),
            "sex": np.array(["F", "M"])[rng.integers(0, 2, 150)],
        }
    )
    encode = make_column_transformer(
        (OneHotEncoder(), ["island", "sex"]), (StandardScaler(), ["mass"])
    )
    est = ClassVSCTransformer(6, hidden_layer_sizes=(16,), max_epochs=150, random_state=0)
    pipeline = make_pipeline(encode, est, LogisticRegression())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit(X, y)
    report = factor_report(pipeline, X, y)
    data, text = report.to_dict(), Page(report).text
    assert data["estimator"]["name"] == "ClassVSCTransformer"
    assert "mass" in data["data"]["feature_names"] and "island = Dream" in text
    for entry in data["classes"]:
        origins = [mark["feature"].partition(" = ")[0] for mark in entry["marks"]]
        assert len(origins) == len(set(origins))  # a category once
    (mass,) = [m for m in data["classes"][2]["marks"] if m["feature"] == "mass"]
    assert mass["difference"] == pytest.approx(750, abs=60)
    assert "sex ≠ " in text or "sex = " in text


def test_images_change_where_the_factor_is():
    est, data = oracle(n_classes=3, n_global=0, n_shared=0, n_specific=1, image_shape=(12, 12))
    report = factor_report(est, data.data, data.target, image_shape=(12, 12)).to_dict()
    for entry in report["factors"]:
        factor = data.dictionary[entry["dimensions"][0]].reshape(12, 12)
        thirds = factor.reshape(3, 4, 3, 4).sum(axis=(1, 3))
        rows, columns = ["top", "", "bottom"], ["left", "", "right"]
        i, j = np.unravel_index(thirds.argmax(), (3, 3))
        where = f"{rows[i]} {columns[j]}".strip() or "centre"
        assert entry["picture"]["brighter"] == where
        assert entry["picture"]["darker"] is None
        share = entry["picture"]["largest_share"]
        assert f"by up to {percent(share)} of the way from black to white." in entry["sentence"]
        span = max(1, data.data.max()) - min(0, data.data.min())
        assert share == pytest.approx(entry["picture"]["largest_change"] / span)
        assert f"brighter {'in' if where == 'centre' else 'at'} the {where}" in entry["sentence"]


def test_colours_that_change_are_named():
    change = np.zeros((9, 9, 3))
    change[3:6, 3:6] = [0.6, 0, -0.5]
    picture = changed_regions(change, (9, 9, 3), 1.0)
    assert picture_text(picture) == (
        "the image gets more red in the centre and less blue in the centre, by up to 60 % of the "
        "way from none to full"
    )
    grey = changed_regions(np.broadcast_to(change[..., :1], change.shape), (9, 9, 3), 1.0)
    assert picture_text(grey) == (
        "the image gets brighter in the centre, by up to 60 % of the way from black to white"
    )


def test_similar_classes_are_neighbours():
    est, data = oracle(n_classes=4, n_global=0, n_shared=2, n_specific=1, classes_per_shared=2)
    sharing = metrics.class_sharing_matrix(est.transform(data.data), data.target)
    order = factor_report(est, data.data, data.target).to_dict()["class_order"]
    most = np.argmax(sharing - np.eye(4), axis=1)
    assert sorted(order) == [0, 1, 2, 3]
    assert all(abs(order.index(c) - order.index(most[c])) == 1 for c in range(4))


def test_the_same_data_give_the_same_page(digits, digits_report):
    again = factor_report(*digits, image_shape=(8, 8), title="Digits")
    assert source_of(again) == source_of(digits_report)


def test_any_container_gives_the_same_figures(flowers):
    est, X, y = flowers[0], flowers[1].to_numpy(), flowers[2]
    est = clone(est).fit(X, y)
    figures = factor_report(est, X, y).to_dict()["figures"]
    assert factor_report(est, csr_array(X), y).to_dict()["figures"] == figures
    assert factor_report(est, X.tolist(), y.tolist()).to_dict()["figures"] == figures
    est.set_output(transform="pandas")
    assert factor_report(est, X, y).to_dict()["figures"] == figures
    est.set_output(transform="default").set_params(sparse_output=True)
    assert factor_report(est, X, y).to_dict()["figures"] == figures


def test_what_decodes_is_of_a_balanced_sample():
    est, data = oracle(5000, n_classes=4, n_global=1, n_shared=1, n_specific=1)
    report = factor_report(est, data.data, data.target)
    assert report.to_dict()["data"]["n_samples"] == 5000
    assert report.to_dict()["data"]["n_samples_inspected"] == 2000
    assert "use 2,000 samples, equally many of each class" in Page(report).text


def test_unlabeled_samples_are_left_out(flowers):
    est, X, y = flowers
    partly = np.where(np.arange(150) % 3 == 0, "", y)
    est = clone(est).set_params(unlabeled="", max_epochs=1)
    with pytest.warns(match="says little"):
        est.fit(X, partly)
    data = factor_report(est, X, partly).to_dict()
    assert data["data"]["n_samples"] == 100
    assert "The page leaves out 50 samples without a label." in data["warnings"]


@pytest.mark.parametrize(
    "container",
    [np.ndarray.tolist, pd.DataFrame, pd.Categorical],
)
def test_labels_may_come_in_any_container(flowers, container):
    est, X, y = flowers
    labeled = np.arange(150) % 3 != 0
    partly = clone(est).set_params(unlabeled="", max_epochs=1)
    with pytest.warns(match="says little"):
        partly.fit(X, np.where(labeled, y, ""))
    found = factor_report(partly, X, container(np.where(labeled, y, ""))).to_dict()
    expected = factor_report(partly, X[labeled], y[labeled]).to_dict()
    left_out = [each["data"].pop("n_unlabeled_left_out") for each in (found, expected)]
    assert left_out == [50, 0]
    for name in ("data", "figures", "classes", "factors", "dimensions", "feature_fidelity"):
        assert found[name] == expected[name]


def test_without_any_label_there_is_no_report(flowers):
    est, X, y = flowers
    est = clone(est).set_params(unlabeled="", max_epochs=1)
    with pytest.warns(match="says little"):
        est.fit(X, y)
    with pytest.raises(ValueError, match="y holds no label: its 150 entries are unlabeled=''"):
        factor_report(est, X, np.full(150, ""))


def test_labels_may_be_of_any_type():
    est, data = oracle(n_classes=2, n_global=1, n_shared=0, n_specific=1)
    for labels in ([False, True], [-1, 1], ["no", "yes"]):
        report = factor_report(est, data.data, np.array(labels)[data.target]).to_dict()
        assert [entry["label"] for entry in report["classes"]] == labels
        assert [entry["name"] for entry in report["classes"]] == [str(label) for label in labels]


# -- what it warns of ------------------------------------------------------------------------------


def test_no_warnings_where_there_is_nothing_to_warn_of():
    est, data = oracle(n_classes=4)
    assert factor_report(est, data.data, data.target).to_dict()["warnings"] == []


def test_it_warns_of_a_code_that_says_nothing_of_the_classes():
    est, data = oracle(n_classes=4)
    y = np.random.default_rng(0).permutation(data.target)
    assert any(
        "contrast is low" in text for text in factor_report(est, data.data, y).to_dict()["warnings"]
    )


def test_it_warns_of_classes_that_have_only_global_factors():
    est, data = oracle(n_classes=4, n_global=2, n_shared=0, n_specific=1)
    own = [int(np.flatnonzero(support)[-1]) for support in data.supports]
    transform = est.transform
    est.transform = lambda X: np.where(np.isin(np.arange(6), own[:2]), 0, transform(X))
    report = factor_report(est, data.data, data.target).to_dict()
    (text,) = [text for text in report["warnings"] if "only global factors" in text]
    assert text.endswith("global factors: 0 and 1.")
    marked = ["hardly marks" not in entry["sentence"] for entry in report["classes"]]
    assert marked == [False, False, True, True]


def test_it_warns_at_the_top_of_what_does_not_hold():
    X = np.random.default_rng(0).normal(size=(120, 6))
    y = np.arange(120) % 4
    est = ClassVSCTransformer(6, hidden_layer_sizes=(16,), max_epochs=150, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = factor_report(est.fit(X, y), X, y).to_dict()
    held, agrees = (next(t for t in report["trust"] if w in t["text"]) for w in ("new", "the data"))
    warned = " ".join(report["warnings"])
    assert held["text"].endswith("The classes' frequencies alone give 25 %.")
    assert held["verdict"] == "no", "no better than chance, though training is no better either"
    assert "does not hold on new samples" in warned
    assert ("believe the data" in warned) == (agrees["verdict"] == "no")


@pytest.mark.parametrize(
    ("value", "verdict", "words"),
    [
        (0.8, "yes", "agree (correlation 0.80)"),
        (0.5, "in part", "agree in part (correlation 0.50)"),
        (0.49, "no", "disagree (correlation 0.49): believe the data"),
        (None, "unknown", "cannot be compared"),
    ],
)
def test_a_class_says_whether_code_and_data_agree(value, verdict, words):
    found = agreement(value)
    assert found[0] == verdict and found[1].endswith(words)


def test_a_sporadic_factor_names_its_most_frequent_class():
    est, data = oracle(n_classes=4, n_global=1, n_shared=0, n_specific=1, n_samples=800)
    j = int(np.flatnonzero(data.supports[2])[-1])
    rare = np.random.default_rng(0).random(800) < 0.6
    transform = est.transform
    est.transform = lambda X: np.where(rare[:, None] & (np.arange(5) == j), 0, transform(X))
    report = factor_report(est, data.data, data.target)
    factor = by_lead(report)[j]
    assert "most often 2" in Page(report).text
    assert factor["role"] == "sporadic" and factor["classes"] == []
    assert re.search(r"most frequent in class 2: [34]\d %\. When", factor["sentence"])


def test_unused_and_inert_factors_are_folded_away_and_small_classes_named():
    est, data = oracle(n_classes=4, n_global=1, n_shared=0, n_specific=1)
    dead, inert = (int(np.flatnonzero(data.supports[c])[-1]) for c in (0, 1))
    transform, inverse_transform = est.transform, est.inverse_transform
    est.transform = lambda X: np.where(np.arange(5) == dead, 0, transform(X))
    est.inverse_transform = lambda Z: inverse_transform(np.where(np.arange(5) == inert, 1, Z))
    y = data.target.copy()
    y[np.flatnonzero(y == 2)[:3]] = 9
    report = factor_report(est, data.data, y)
    text = Page(report).text
    assert "1 dimension unused" in text and f"spare dimensions: {dead}." in text
    assert "1 factor without effect (inert)" in text
    assert by_lead(report)[inert]["inert"] and dead not in by_lead(report)
    assert "collapse" not in text and "dead" not in text
    warned = " ".join(report.to_dict()["warnings"])
    assert "Roles and contrast leave out classes with fewer than 5 samples: 9." in warned


def test_a_dead_code_has_a_page(dead):
    data = dead.to_dict()
    assert data["figures"]["roles"]["dead"] == len(data["dimensions"])
    assert data["figures"]["nonglobal_contrast"] == 0 and data["factors"] == []
    assert all(entry["sentence"].startswith("It activates no factor") for entry in data["classes"])
    assert len(data["warnings"]) >= 2
    assert "there is nothing to show" in Page(dead).text


def test_it_says_what_collapsed(flowers):
    est, X, y = flowers
    est = clone(est).set_params(max_epochs=1)
    with pytest.warns(match="says little"):
        est.fit(X, y)
    (text,) = [t for t in factor_report(est, X, y).to_dict()["warnings"] if "says little" in t]
    assert "raise" in text


def test_a_dense_code_is_called_dense(flowers):
    _, X, y = flowers
    report = factor_report(VAETransformer(3, max_epochs=5, random_state=0).fit(X), X, y)
    data = report.to_dict()
    assert "The code is dense" in data["summary"]
    assert "Contrast" not in Page(report).text
    assert all(not factor["switched"] for factor in data["factors"])
    assert all("From its low to its high values" in f["sentence"] for f in data["factors"])


def test_it_says_whether_figures_hold_on_new_samples(flowers):
    est, X, y = flowers
    found = est.generalization_.loc["recognition"]
    (text,) = [
        entry["text"]
        for entry in factor_report(est, X, y).to_dict()["trust"]
        if "new samples" in entry["text"]
    ]
    for nats in found[["training", "held_out"]]:
        assert percent(np.exp(-nats)) in text
    vsc = VSCTransformer(3, max_epochs=2, random_state=0).fit(X)
    first = factor_report(vsc, X, y).to_dict()["trust"][0]
    assert first["verdict"] == "unknown" and "held no samples out" in first["text"]


# -- names -----------------------------------------------------------------------------------------


def test_names_are_read_from_a_mapping_or_a_file(flowers, tmp_path):
    est, X, y = flowers
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"0": "petal size", "2": ""}))
    report = factor_report(est, X, y, names=path)
    assert report.to_dict()["names"] == {"0": "petal size"}
    assert source_of(factor_report(est, X, y, names={0: "petal size"})) == source_of(report)
    if 0 in by_lead(report):
        assert "petal size" in Page(report).text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({8: "a"}, "names has the key 8, but the dimensions are 0 to 7"),
        ({"first": "a"}, "names has the key 'first'"),
        ([1], "must be a mapping of dimensions to names"),
    ],
)
def test_names_that_do_not_fit(names, words, flowers):
    with pytest.raises(ValueError, match=words):
        factor_report(*flowers, names=names)


def test_a_file_without_names_is_named(flowers, tmp_path):
    path = tmp_path / "names.json"
    path.write_text("<html>")
    with pytest.raises(ValueError, match=r"names is the file .* which is not JSON"):
        factor_report(*flowers, names=str(path))


# -- what it refuses -------------------------------------------------------------------------------


def test_missing_values_are_left_out_and_stand_as_decoded(flowers):
    _, X, y = flowers
    gaps = X.mask(np.random.default_rng(0).random(X.shape) < 0.1)
    est = ClassVSCTransformer(6, hidden_layer_sizes=(16,), max_epochs=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est.fit(gaps, y)
    report = factor_report(est, gaps, y)
    data = report.to_dict()
    assert data["figures"]["fidelity"] == pytest.approx(metrics.fidelity_scorer(est, gaps))
    share = percent(gaps.isna().to_numpy().mean())
    assert any(f"{share} of the values are missing" in text for text in data["warnings"])
    json.dumps(data, allow_nan=False)
    for entry in data["classes"]:
        plain = (
            gaps[y == entry["label"]].mean()
            - gaps[y != entry["label"]].groupby(y[y != entry["label"]]).mean().mean()
        )
        for mark in entry["marks"]:
            assert mark["difference"] == pytest.approx(plain[mark["feature"]])


def test_dates_are_written_as_dates():
    assert date(13828.2) == "2007-11-11"
    counted = {"feature": "seen (days)", "value": 13828.0, "kind": "date"}
    assert stands_out(counted, counts=False) == "seen 2007-11-11"
    absent = {"feature": "sex = M", "value": 0.0, "kind": "category"}
    assert stands_out(absent, counts=False) == "sex ≠ M"


def test_other_estimators_are_refused(flowers):
    _, X, y = flowers
    with pytest.raises(TypeError, match="est is a PCA"):
        factor_report(PCA(2).fit(X), X, y)
    with pytest.raises(NotFittedError):
        factor_report(ClassVSCTransformer(), X, y)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"class_names": ["a", "b"]}, "class_names has 2 entries, but must have 3"),
        ({"feature_names": ["a"]}, "feature_names has 1 entries, but must have 4"),
        ({"image_shape": (2, 3)}, r"image_shape is \(2, 3\)"),
        ({"image_shape": (4,)}, r"image_shape is \(4,\)"),
        ({"image_shape": (2, 1, 2)}, r"image_shape is \(2, 1, 2\)"),
        ({"y": ["a"] * 150}, "1 of its 1 classes"),
        ({"y": [0, 1]}, "inconsistent numbers of samples"),
        ({"y": [None, *"ab" * 74, "a"]}, "1 of 150 labels are missing"),
        ({"X": pd.DataFrame(np.zeros((150, 2)), columns=["a", "b"])}, "feature names"),
    ],
)
def test_arguments_that_do_not_fit(arguments, words, flowers):
    est, X, y = flowers
    with pytest.raises(ValueError, match=words):
        factor_report(est, **{"X": X, "y": y} | arguments)


def test_without_jinja2_it_names_the_command(flowers, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-classvsc\[report\]"'):
        factor_report(*flowers)


def test_importing_it_imports_neither_jinja2_nor_matplotlib():
    code = (
        "import sklearn_classvsc.report, sys; "
        "sys.exit(bool({'jinja2', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- the file --------------------------------------------------------------------------------------


def test_save_writes_utf8_and_returns_the_path(hostile, tmp_path):
    path = tmp_path / "報告.html"
    assert hostile.save(str(path)) == path
    assert path.read_bytes().decode("utf-8") == source_of(hostile)
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_save_leaves_the_older_file(images, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("older")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        images.save(path)
    assert path.read_text() == "older" and os.listdir(tmp_path) == ["report.html"]


def test_notebooks_show_it_in_a_frame_of_its_own():
    report = FactorReport('<p title="a">&amp;</p>', {"title": '"T"'})
    shown = report._repr_html_()
    assert source_of(report) == '<p title="a">&amp;</p>'
    assert 'sandbox="allow-scripts allow-downloads"' in shown and 'title="&quot;T&quot;"' in shown
    assert repr(report).startswith("<FactorReport '\"T\"'")


@pytest.mark.parametrize("kind", ["images", "table", "hostile"])
def test_page_is_well_formed_and_accessible(kind, request):
    page = Page(request.getfixturevalue(kind))
    assert page.balanced and not page.open
    assert page.source.startswith("<!doctype html>") and page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1 and len(page.all("h2")) == 4
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in page.all("a")} <= {f"#{name}" for name in ids}
    labelled = {attrs["for"] for attrs in page.all("label")}
    controls = ("select", "input", "textarea")
    assert labelled == {attrs["id"] for tag in controls for attrs in page.all(tag)}
    assert all(attrs["alt"] for attrs in page.all("img"))
    charts = [attrs for attrs in page.all("svg") if "role" in attrs]
    assert len(charts) > 2 and all(attrs["aria-label"] for attrs in charts)
    assert [attrs["id"] for attrs in charts if attrs.get("tabindex") == "0"] == ["map", "sharing"]


@pytest.mark.parametrize("kind", ["images", "table", "hostile"])
def test_page_loads_nothing_and_allows_its_own_script_only(kind, request):
    page = Page(request.getfixturevalue(kind))
    assert all(attrs["src"].startswith("data:image/png;base64,") for attrs in page.all("img"))
    assert [attrs["href"] for attrs in page.all("link")] == ["data:,"]
    assert [attrs.get("type") for attrs in page.all("script")] == ["application/json", None]
    assert not any(name.startswith("on") or name == "style" for _, a in page.elements for name in a)
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; img-src data:; ") and "unsafe" not in policy
    for tag in ("style", "script"):
        (source,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.source, flags=re.DOTALL)
        digest = base64.b64encode(sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_names_stay_text(hostile):
    page = Page(hostile)
    for name in HOSTILE[:3]:
        assert name in page.text
    assert HOSTILE[4] not in page.text and shorten(HOSTILE[4]) in page.text
    assert hostile.to_dict()["data"]["feature_names"][4] == HOSTILE[4]
    assert "\ud800" not in page.source
    data = re.search(r'id="data">(.*?)</script>', page.source)[1]
    assert not set("<>&\u2028") & set(data)
    assert set(embedded(hostile)["classes"]) == {shorten(name) for name in HOSTILE[:5]}


def test_many_pixels_make_a_bounded_page():
    rng = np.random.default_rng(0)
    X = rng.random((300, 28 * 28), dtype=np.float32)
    est = VAETransformer(50, max_epochs=1, random_state=0).fit(X)
    report = factor_report(est, X, np.arange(300) % 10, image_shape=(28, 28))
    assert len(source_of(report).encode()) < 3e6


def test_large_images_lose_rows_and_columns():
    X = np.random.default_rng(0).random((40, 200 * 100))
    est = VAETransformer(2, hidden_layer_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    report = factor_report(est, X, np.arange(40) % 2, image_shape=(200, 100))
    assert Page(report).all("img")[0]["height"] == "84"  # as shown
    image = embedded(report)["image"]
    assert image == {"height": 50, "width": 25}
    assert len(source_of(report).encode()) < 5e5


def test_a_hundred_classes_make_a_bounded_page():
    est, data = oracle(1000, n_features=200, n_classes=100, n_global=2, n_shared=5)
    report = factor_report(est, data.data, data.target)
    assert len(source_of(report).encode()) < 3e6
    assert len(report.to_dict()["classes"]) == 100


def test_colour_images_have_a_page():
    X = np.random.default_rng(0).random((60, 5 * 4 * 3))
    est = VSCTransformer(3, alpha=0.5, max_epochs=1, random_state=0).fit(X)
    page = Page(factor_report(est, X, np.arange(60) % 2, image_shape=(5, 4, 3)))
    assert len(page.all("img")) >= 4


# -- words and pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14159, "+3.14"),
        (420.4, "+420"),
        (12345, "+12300"),
        (-0.00144, "−0.00144"),
        (2.5e9, "+2.50e+09"),
        (-1e-7, "−1.00e−07"),
        (0.0, "+0"),
        (None, "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value, sign=True) == text


def test_long_and_unprintable_names_are_shown_on_one_line():
    assert shorten("a" * 60) == "a" * 60
    assert shorten("a" * 61) == "a" * 59 + "…"
    assert shorten("a\nb\x00c\u202ed\u2028e") == "a b c d e"


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (np.log2(2.1), "fold change", "× 2.10"),
        (np.log2(30.96), "fold change", "× 31.0"),
        (np.log2(0.0421), "fold change", "× 0.0421"),
        (np.log2(1234.2), "fold change", "× 1234"),
        (-0.896, "SD", "−0.90 SD"),
    ],
)
def test_relative_changes_have_as_many_digits(value, measure, text):
    assert relative(value, measure) == text


def test_numbers_stay_with_their_units():
    assert tied("× 3 is 5 % or −2.1 SD of 8 SDs") == "×\xa03 is 5\xa0% or −2.1\xa0SD of 8\xa0SDs"


def test_lists_and_percentages_read_as_words():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdef")) == "a, b, c, d and 2 more"
    assert (percent(0.756), percent(-0.5), percent(None)) == ("76 %", "−50 %", "–")


def decoded(url):
    image = pytest.importorskip("matplotlib.image")
    pixels = image.imread(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    return (255 * pixels).round().astype(int)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3), (3, 4, 4)])
def test_png_holds_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(decoded(png(pixels)), pixels)


def test_changes_are_vermilion_for_more_and_blue_for_less():
    change = decoded(ImageMaker((1, 3), (0, 1), 1).change(np.array([0.2, -0.1, 0])))
    assert change.tolist() == [[[213, 94, 0, 255], [0, 114, 178, 128], [0, 114, 178, 0]]]


@pytest.mark.parametrize(
    ("limits", "grey"),
    [((0, 0.5), [0, 128, 255]), ((-1, 3), [64, 96, 128]), ((0, 2), [0, 64, 128])],
)
def test_images_keep_to_the_unit_interval_or_fill_the_limits(limits, grey):
    images = ImageMaker((1, 3), limits, 1).images(np.array([[0, 0.5, 1], [9, 9, 9]]))
    np.testing.assert_array_equal(decoded(images), [grey, [255] * 3])


def test_a_grid_holds_images_side_by_side():
    X = np.arange(2 * 3 * 4).reshape(2, 3, 4) / 23
    grid = decoded(ImageMaker((2, 2), (0, 1), 1).grid(X))
    assert grid.shape == (4, 6)
    np.testing.assert_array_equal(grid[2:, 4:], (255 * X[1, 2].reshape(2, 2)).round())


def test_bars_stand_on_the_ground():
    assert bars([1, 0, 0.5], 30, 10) == "M0.0 10v-10.0h9.5V10zM20.0 10v-5.0h9.5V10z"


@pytest.mark.parametrize("width", [13, 20, 36])
@pytest.mark.parametrize("counts", [(1, 1, 1, 1), (5, 2, 8, 11), (5, 0, 1, 0), (0, 0, 1, 1)])
def test_names_of_roles_are_whole_and_apart(counts, width):
    roles = [role for role, n in zip(metrics.ROLES, counts, strict=False) for _ in range(n)]
    groups = _groups(roles, width)
    assert [name for _, _, name, _ in groups] == list(dict.fromkeys(roles))
    for i, (left, _, name, lane) in enumerate(groups):
        for later, _, _, other in groups[i + 1 :]:
            # Neither its name nor the leader of a higher name crosses this one.
            assert other < lane or left + 6 * len(name) < later


def test_cells_are_grouped_by_opacity():
    paths = dict(cells(np.array([[0, 0.04, 0.31], [1, np.nan, 0.4]]), 10, 8))
    assert paths == {3: "M20 0h9v7h-9z", 4: "M20 8h9v7h-9z", 10: "M0 8h9v7h-9z"}


def test_curves_fill_the_box_and_skip_what_is_missing():
    assert curve([3, 1, 2], 20, 10) == "M0.0 0.0L10.0 10.0L20.0 5.0"
    assert curve([3, None, 1], 20, 10) == "M0.0 0.0M20.0 10.0"
    assert curve([None], 20, 10) == ""
    assert curve(range(10_000), 20, 10).count("L") == 199


# -- in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="the page is tested in a browser by selenium: not installed"
    )
    names = ["chromium", "chromium-browser", "google-chrome"]
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium with chromedriver; on Debian: apt install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in [
        *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("disable-dev-shm-usage", "window-size=1200,900", f"user-data-dir={profile}"),
    ]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


@pytest.fixture
def visit(browser, request, tmp_path):
    """Open a report by the name of its fixture; afterwards there must be no complaint."""

    def visit(kind, width=1200, **media):
        page = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", page)
        features = [
            {"name": name.replace("_", "-"), "value": value} for name, value in media.items()
        ]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        path = request.getfixturevalue(kind).save(tmp_path / "page.html")
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(path.as_uri())
        return browser

    yield visit
    assert browser.get_log("browser") == []


def find(browser, selector):
    return browser.find_element("css selector", selector)


def pixels(browser, canvas):
    """Return the pixels of a canvas."""
    script = (
        "const canvas = arguments[0];"
        "const context = new OffscreenCanvas(canvas.width, canvas.height)"
        "    .getContext('2d', {willReadFrequently: true});"
        "context.drawImage(canvas, 0, 0);"
        "return Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data);"
    )
    return browser.execute_script(script, canvas)


def card_of(browser, report, several=False):
    """Return the first open card, of a factor of several dimensions or not."""
    for factor in report.to_dict()["factors"]:
        card = find(browser, f"#factor-{factor['dimensions'][0]}")
        if card.get_attribute("open") and (len(factor["dimensions"]) > 1) >= several:
            return factor, card
    raise LookupError


def wait_until(browser, condition):
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 10, 0.02).until(lambda _: condition())


def press(element, *names):
    from selenium.webdriver.common.keys import Keys

    element.send_keys(*(getattr(Keys, name) for name in names))


def test_slider_moves_the_pictures_of_all_classes(visit, images):
    browser = visit("images")
    factor, card = card_of(browser, images)
    part = card.find_element("css selector", ".slider")
    slider = part.find_element("css selector", "input.value")
    canvases = part.find_elements("css selector", ".frames canvas")
    assert len(canvases) == max(1, len(factor["classes"]))
    wait_until(browser, lambda: len(pixels(browser, canvases[0])) == 12 * 12 * 4)
    press(slider, "HOME")
    low, at = [pixels(browser, c) for c in canvases], part.find_element("css selector", ".at").text
    press(slider, "END")
    high = [pixels(browser, c) for c in canvases]
    assert all(a != b for a, b in zip(low, high, strict=True))
    assert (
        at == "Decoded with the factor inactive."
        if factor["switched"]
        else "the 5 % quantile" in at
    )
    assert "the 95 % quantile" in part.find_element("css selector", ".at").text
    assert "95 % quantile" in slider.get_attribute("aria-valuetext")
    press(slider, "ARROW_LEFT")
    assert pixels(browser, canvases[0]) not in (low[0], high[0])


def test_slider_changes_the_values_of_features(visit, table):
    browser = visit("table")
    card = card_of(browser, table)[1]
    slider = card.find_element("css selector", "input.value")
    frames = card.find_element("css selector", "table.frames")
    names = [frames.find_elements("css selector", "thead th")[1].text]
    assert set(names) <= set(table.to_dict()["data"]["feature_names"])
    press(slider, "HOME")
    low = frames.text
    press(slider, "END")
    assert frames.text != low


def test_the_page_and_its_script_write_the_same_numbers(visit, table):
    browser = visit("table")
    _, card = card_of(browser, table)
    slider = card.find_element("css selector", "input.value")
    frames = card.find_element("css selector", "table.frames")
    press(slider, "ARROW_LEFT", "ARROW_RIGHT")  # the middle, as it was written
    (source,) = re.findall(
        rf'id="{card.get_attribute("id")}".*?<table class="frames">.*?<tbody>(.*?)</tbody>',
        source_of(table),
        flags=re.DOTALL,
    )
    assert re.findall('<td class="n">(.*?)</td>', source) == [
        cell.text for cell in frames.find_elements("css selector", "tbody td")
    ]


def test_the_map_opens_cards_by_click_and_by_keyboard(visit, images):
    from selenium.webdriver import ActionChains

    browser, data = visit("images"), images.to_dict()
    chart, readout = find(browser, "#map"), find(browser, "#map-readout")
    browser.execute_script(
        "document.querySelectorAll('details').forEach((d) => { d.open = false; });"
        "document.getElementById('map').focus()"
    )
    press(chart, "ARROW_DOWN", "ARROW_UP", "ARROW_DOWN")
    c = data["class_order"][1]
    (j,) = [int(word) for word in re.findall(r"Factor (\d+)", readout.text)]
    rate = round(100 * data["activation_rates"][c][j])
    assert readout.text.startswith(data["classes"][c]["name"] + ",") and f"{rate} %" in readout.text
    press(chart, "ARROW_RIGHT", "ENTER")
    (j,) = [int(word) for word in re.findall(r"Factor (\d+)", readout.text)]
    assert find(browser, f"#factor-{j}").get_attribute("open")
    assert browser.switch_to.active_element.find_element("xpath", "..").get_attribute("id") == (
        f"factor-{j}"
    )
    grid = embedded(images)["maps"]["map"]
    width, height = grid["cell"]
    size = chart.size
    last = len(grid["columns"]) - 1
    x = grid["left"] + (last + 0.5) * width - size["width"] / 2
    y = grid["top"] + 0.5 * height - size["height"] / 2
    ActionChains(browser).move_to_element_with_offset(chart, int(x), int(y)).click().perform()
    lead = embedded(images)["factors"][grid["columns"][last]][0]
    assert find(browser, f"#factor-{lead}").get_attribute("open")
    browser.execute_script(
        "document.querySelector('svg a[href^=\"#class-\"] text').dispatchEvent("
        "new MouseEvent('click', {bubbles: true}))"
    )
    assert browser.switch_to.active_element.get_attribute("id").startswith("class-")


def test_a_link_into_the_page_opens_the_card(visit, images):
    browser = visit("images")
    last = images.to_dict()["factors"][-1]["dimensions"][0]
    assert not find(browser, f"#factor-{last}").get_attribute("open")
    page = browser.current_url
    browser.get(f"{page}#factor-{last}")
    assert find(browser, f"#factor-{last}").get_attribute("open")
    browser.get(f"{page}#%zz")
    find(browser, "#map")


def test_closed_cards_and_the_map_say_what_factors_do(visit, table):
    browser, data = visit("table"), table.to_dict()
    for factor in data["factors"]:
        card = find(browser, f"#factor-{factor['dimensions'][0]}")
        largest = max(factor["effects"], key=lambda effect: abs(effect["relative_change"]))
        hint = f"{largest['feature']} {'↑' if largest['change'] > 0 else '↓'}"
        shown = card.find_element("css selector", "summary").text
        assert (hint in shown) != bool(card.get_attribute("open"))  # there, a sentence says it
        if factor["role"] != "global":
            chips = f".own li:has(a[data-dimensions='{' '.join(map(str, factor['dimensions']))}'])"
            own = browser.find_elements("css selector", chips)
            assert len(own) == len(factor["classes"]) and all(hint in li.text for li in own)
    press(find(browser, "#map"), "ARROW_RIGHT")
    (j,) = re.findall(r"Factor (\d+)", find(browser, "#map-readout").text)
    feature = by_lead(table)[int(j)]["effects"][0]["feature"]
    assert feature in find(browser, "#map-readout").text


def test_what_to_believe_is_on_the_first_screen(visit):
    browser = visit("images", width=1280)
    last = find(browser, ".trust li:last-child").rect
    chart = find(browser, "#map").rect
    assert last["y"] + last["height"] < 900 and last["x"] > chart["x"] + chart["width"]


def test_cards_sort_by_keyboard_and_announce(visit, images):
    browser, data = visit("images"), images.to_dict()

    def order(key):
        script = (
            "return [...document.querySelectorAll('#cards > .factor')]"
            ".map((card) => card.dataset[arguments[0]])"
        )
        return [float(value) for value in browser.execute_script(script, key)]

    sort = find(browser, "#sort")
    assert order("size") == sorted(order("size"), reverse=True)
    assert order("size") == pytest.approx([factor["size"] for factor in data["factors"]])
    press(sort, "ARROW_DOWN")
    assert order("place") == sorted(order("place"))
    assert find(browser, "#sorted").text == "8 factors, sorted by place in the map"
    press(sort, "ARROW_DOWN")
    assert order("cost") == sorted(order("cost"), reverse=True)
    assert find(browser, "#sorted").get_attribute("role") == "status"


def test_names_are_edited_exported_and_read_back(visit, images, tmp_path):
    browser = visit("images")
    factor, card = card_of(browser, images)
    j = factor["dimensions"][0]
    name = '<b>heel</b> & "height" {{ 7 * 7 }}'
    field = find(browser, f"#name-{j}")
    field.send_keys(name)
    assert card.find_element("css selector", "summary .title").text == name
    chips = browser.find_elements("css selector", f".chips a[data-dimensions='{j}']")
    assert chips and {chip.text for chip in chips} == {name}
    assert browser.find_elements("css selector", "main b") == []
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    press(find(browser, "#names summary"), "ENTER")
    shown = find(browser, "#names-json").get_attribute("textContent")
    assert json.loads(shown) == {str(j): name}
    press(find(browser, "#names-file"), "ENTER")
    path = tmp_path / "names.json"
    wait_until(browser, path.exists)
    assert path.read_text() == shown
    est, data = oracle(n_classes=5, n_global=1, n_shared=2, activity=0.8, image_shape=(12, 12))
    again = factor_report(est, data.data, data.target, image_shape=(12, 12), names=path)
    assert name in Page(again).text and f'value="{html.escape(name)}"' in source_of(again).replace(
        "&#34;", "&quot;"
    )
    field.clear()
    press(field, "SPACE", "BACKSPACE")
    assert card.find_element("css selector", "summary .title").text == f"Factor {j}"


def test_keyboard_reaches_everything(visit, images):
    browser = visit("images")
    press(find(browser, "body"), "TAB")
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the report" and skip.is_displayed()
    press(skip, "ENTER")
    reached = set()
    for _ in range(60):
        press(browser.switch_to.active_element, "TAB")
        reached.add(browser.switch_to.active_element.get_attribute("id"))
    j = images.to_dict()["factors"][0]["sliders"][0]["dimension"]
    assert {"map", "sort", f"value-{j}", f"name-{j}"} <= reached


def test_hostile_names_do_nothing_in_a_browser(visit):
    browser = visit("hostile")
    assert browser.title == find(browser, "h1").text == HOSTILE[0]
    browser.execute_script(
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    for slider in browser.find_elements("css selector", "input.value"):
        press(slider, "END")
    for field in browser.find_elements("css selector", "input.name")[:2]:
        field.clear()
        field.send_keys(HOSTILE[1])
    press(find(browser, "#map"), "ARROW_DOWN", "ENTER")
    text = find(browser, "main").text
    for name in HOSTILE[:3]:
        assert name in text
    assert browser.execute_script("return window.hacked === undefined")
    assert browser.find_elements("css selector", "img, b, main script") == []


@pytest.mark.parametrize("kind", ["images", "table", "hostile", "dead"])
def test_no_request_leaves_the_page(kind, visit):
    browser = visit(kind)
    browser.execute_script(
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    for slider in browser.find_elements("css selector", "input.value")[:4]:
        press(slider, "END")
    press(find(browser, "#sort"), "ARROW_DOWN")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert urls and all(url.startswith(("file:///", "data:")) for url in urls)
    assert sum(url.startswith("file:") for url in urls) == 1


def test_policy_stops_what_would_be_injected(visit):
    browser = visit("images")
    script = (
        "const done = arguments[0], seen = [];"
        "addEventListener('securitypolicyviolation', (event) => {"
        "  seen.push(event.effectiveDirective); if (seen.length === 2) done(seen.sort()); });"
        "const image = new Image(); image.src = 'http://localhost:9/x.png';"
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(image, script);"
    )
    assert browser.execute_async_script(script) == ["img-src", "script-src-elem"]
    assert browser.execute_script("return window.hacked === undefined")
    assert len(browser.get_log("browser")) == 2  # both complaints


@pytest.mark.parametrize("kind", ["images", "table", "hostile"])
def test_narrow_page_does_not_overflow(kind, visit):
    browser = visit(kind, width=390)
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    content, window = browser.execute_script(widths)
    assert content <= window == 390
    chart = find(browser, "#map")
    fits = "fits" in chart.get_attribute("class").split()
    assert fits == (chart.rect["x"] + chart.rect["width"] <= 390)
    assert not fits or not browser.find_elements("css selector", "#map + .swipe")
    browser.execute_script(
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
    )
    cut = (
        "return [...document.querySelectorAll('.scroll:has(table)')]"
        ".filter((box) => box.scrollWidth > box.clientWidth).length"
    )
    if kind == "table":
        assert browser.execute_script(cut) == 0
    for row in browser.find_elements("css selector", ".classes .row-of-pictures"):
        tops = {img.rect["y"] for img in row.find_elements("css selector", "img")}
        assert len(tops) == 1


def test_page_follows_the_colour_scheme(visit):
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert (
        visit("images", prefers_color_scheme="light").execute_script(ground) == "rgb(255, 255, 255)"
    )
    assert visit("images", prefers_color_scheme="dark").execute_script(ground) == "rgb(20, 23, 27)"


def test_print_shows_what_is_folded_away(visit):
    browser = visit("images")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not find(browser, "#sort").is_displayed()
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert browser.execute_script(
        "return [...document.querySelectorAll('details')].every((d) => d.open)"
    )


def test_notebook_frame_works_and_is_isolated(browser, images, tmp_path):
    page = tmp_path / "notebook.html"
    page.write_text(f"<!doctype html><title>n</title>{images._repr_html_()}", encoding="utf-8")
    browser.get(page.as_uri())
    browser.switch_to.frame(0)
    slider = find(browser, "input.value")
    press(slider, "HOME")
    low = find(browser, ".at").text
    press(slider, "END")
    assert find(browser, ".at").text != low
    reach = "try { return parent.document.title } catch (error) { return error.name }"
    assert browser.execute_script(reach) == "SecurityError"
    browser.switch_to.default_content()


def test_inert_dimensions_are_judged_on_every_class_in_whatever_order_rows_come(monkeypatch):
    seen = []
    judge = _factors.inert_by_codes
    monkeypatch.setattr(
        _factors, "inert_by_codes", lambda est, X, Z: seen.append(X) or judge(est, X, Z)
    )
    y = np.arange(1600) % 2
    X = np.c_[y, np.random.default_rng(0).random((1600, 2))]
    est = ClassVSCTransformer(4, hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        factor_report(est.fit(X, y), X, y)
    assert np.bincount(seen[0][:, 0].astype(int)).tolist() == [200, 200]


def test_the_baseline_says_how_many_numbers_it_has():
    X, y = load_iris(return_X_y=True)
    est = VAETransformer(8, hidden_layer_sizes=(16,), max_epochs=3, random_state=0).fit(X)
    report = factor_report(est, X, y)
    assert report.to_dict()["figures"]["baseline_numbers"] == 3, "of four features, not eight"
    assert "A PCA with 3 numbers per sample" in report._repr_html_()
