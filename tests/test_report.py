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
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import (
    ClassVSCTransformer,
    CollapseWarning,
    VAETransformer,
    VSCTransformer,
    metrics,
)
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.report import FactorReport, factor_report
from sklearn_classvsc.report._pictures import ImageMaker, cells, curve, png
from sklearn_classvsc.report._words import listed, number, percent, shorten

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
            self.text += data

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
    assert abs(figures["nonglobal_contrast_shuffled"]) < 0.05
    assert figures["explained_variance"] == pytest.approx(metrics.fidelity_scorer(est, X))
    assert figures["active_dimensions"] == pytest.approx((Z != 0).sum(axis=1).mean())
    roles = metrics.dimension_roles(Z, y)
    assert figures["roles"] == {role: (roles["role"] == role).sum() for role in metrics.ROLES}
    assert 0.7 < figures["probe_accuracy"] <= 1 and figures["probe_chance"] < 0.15


def test_dimensions_are_the_roles_of_all_samples(digits, digits_report):
    est, X, y = digits
    data = digits_report.to_dict()
    listed = pd.DataFrame(data["dimensions"])
    roles = metrics.dimension_roles(est.transform(X), y)
    assert listed["dimension"].tolist() == list(range(16))
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
    effects = [effect for entry in renamed["dimensions"] for effect in entry["effects"]]
    assert {effect["feature"] for effect in effects} <= {"a", "b", "c", "d"}


def test_it_says_what_the_generator_did():
    est, data = oracle(n_classes=4, n_global=1, n_shared=2, n_specific=1)
    report = factor_report(est, data.data, data.target).to_dict()
    assert report["figures"]["explained_variance"] == pytest.approx(1)
    assert [entry["role"] for entry in report["dimensions"]] == data.roles.tolist()
    for c, entry in enumerate(report["classes"]):
        factor = data.dictionary[entry["dimension"]]
        assert report["dimensions"][entry["dimension"]]["classes"] == [c]
        codes = data.codes[data.target == c, entry["dimension"]]
        for effect in entry["effects"]:
            weight = factor[int(effect["feature"][1:])]
            assert weight != 0
            assert effect["change"] == pytest.approx(weight * np.median(codes))
            assert (
                f"“{effect['feature']}” {number(effect['change'], sign=True)}" in entry["sentence"]
            )
        assert "which no other class has; it is on in 100 %" in entry["sentence"]
    assert report["summary"][0].startswith("Oracle describes each sample by 7 numbers")
    assert "1 belongs to nearly every class (global), 2 are shared" in report["summary"][0]


@pytest.mark.parametrize(
    ("n_sharing", "words"),
    [(2, r"shares with class \d;"), (3, r"shares with the classes \d and \d;")],
)
def test_it_says_who_else_has_the_dimension_of_a_class(n_sharing, words):
    est, data = oracle(
        n_classes=6, n_global=1, n_shared=4, n_specific=0, classes_per_shared=n_sharing
    )
    report = factor_report(est, data.data, data.target).to_dict()
    sentences = [entry["sentence"] for entry in report["classes"]]
    shared = data.supports[:, 1:].any(axis=1)
    assert [bool(re.search(words, text)) for text in sentences] == shared.tolist()
    assert all("which nearly all classes have" in sentences[c] for c in np.flatnonzero(~shared))


def test_images_change_where_the_factor_is():
    est, data = oracle(n_classes=3, n_global=0, n_shared=0, n_specific=1, image_shape=(12, 12))
    report = factor_report(est, data.data, data.target, image_shape=(12, 12)).to_dict()
    for entry in report["classes"]:
        factor = data.dictionary[entry["dimension"]].reshape(12, 12)
        thirds = factor.reshape(3, 4, 3, 4).sum(axis=(1, 3))
        rows, columns = ["top", "", "bottom"], ["left", "", "right"]
        i, j = np.unravel_index(thirds.argmax(), (3, 3))
        where = f"{rows[i]} {columns[j]}".strip() or "centre"
        assert entry["picture"]["brighter"] == where
        assert entry["picture"]["darker"] is None
        assert f"brighter {'in' if where == 'centre' else 'at'} the {where}" in entry["sentence"]


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
    assert "are of 2,000 samples, equally many of each class" in Page(report).text


def test_unlabeled_samples_are_left_out(flowers):
    est, X, y = flowers
    partly = np.where(np.arange(150) % 3 == 0, "", y)
    est = clone(est).set_params(unlabeled="", max_epochs=1)
    with pytest.warns(match="collapsed"):
        est.fit(X, partly)
    data = factor_report(est, X, partly).to_dict()
    assert data["data"]["n_samples"] == 100
    assert "50 samples without a label left out." in data["warnings"]


@pytest.mark.parametrize(
    "container",
    [np.ndarray.tolist, pd.DataFrame, pd.Categorical],
)
def test_labels_may_come_in_any_container(flowers, container):
    est, X, y = flowers
    labeled = np.arange(150) % 3 != 0
    partly = clone(est).set_params(unlabeled="", max_epochs=1)
    with pytest.warns(match="collapsed"):
        partly.fit(X, np.where(labeled, y, ""))
    found = factor_report(partly, X, container(np.where(labeled, y, ""))).to_dict()
    expected = factor_report(partly, X[labeled], y[labeled]).to_dict()
    left_out = [each["data"].pop("n_unlabeled_left_out") for each in (found, expected)]
    assert left_out == [50, 0]
    for name in ("data", "figures", "classes", "dimensions", "feature_fidelity"):
        assert found[name] == expected[name]


def test_without_any_label_there_is_no_report(flowers):
    est, X, y = flowers
    est = clone(est).set_params(unlabeled="", max_epochs=1)
    with pytest.warns(match="collapsed"):
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


def test_it_warns_of_dead_and_inert_dimensions_and_small_classes():
    est, data = oracle(n_classes=4, n_global=1, n_shared=0, n_specific=2)
    dead, inert = (np.flatnonzero(data.supports[c])[-1] for c in (0, 1))
    transform, inverse_transform = est.transform, est.inverse_transform
    est.transform = lambda X: np.where(np.arange(9) == dead, 0, transform(X))
    est.inverse_transform = lambda Z: inverse_transform(np.where(np.arange(9) == inert, 1, Z))
    y = data.target.copy()
    y[np.flatnonzero(y == 2)[:3]] = 9
    warned = " ".join(factor_report(est, data.data, y).to_dict()["warnings"])
    assert "Never on (dead): 1 of 9 dimensions." in warned
    assert f"(inert): {inert}." in warned
    assert "left out of roles and contrast: 9." in warned


def test_a_dead_code_has_a_page(dead):
    data = dead.to_dict()
    assert data["figures"]["roles"]["dead"] == len(data["dimensions"])
    assert data["figures"]["nonglobal_contrast"] == 0
    assert all(entry["sentence"].startswith("No dimension is on") for entry in data["classes"])
    assert len(data["warnings"]) >= 3
    assert "there is nothing to move" in Page(dead).text


def test_it_says_what_collapsed(flowers):
    est, X, y = flowers
    est = clone(est).set_params(max_epochs=1)
    with pytest.warns(match="collapsed"):
        est.fit(X, y)
    (text,) = [t for t in factor_report(est, X, y).to_dict()["warnings"] if "collapsed" in t]
    assert "raise" in text


def test_a_dense_code_is_called_dense(flowers):
    _, X, y = flowers
    report = factor_report(VAETransformer(3, max_epochs=5, random_state=0).fit(X), X, y)
    data = report.to_dict()
    assert "The code is dense" in data["summary"][0]
    assert "not used in training" in data["summary"][2]
    assert "consistency" not in data["summary"][1]
    assert all("From its low to its high values" in entry["sentence"] for entry in data["classes"])


# -- what it refuses -------------------------------------------------------------------------------


def test_a_pipeline_is_told_to_pass_its_last_step(flowers):
    est, X, y = flowers
    pipeline = make_pipeline(StandardScaler(), clone(est).set_params(max_epochs=100)).fit(X, y)
    with pytest.raises(TypeError, match=r"pass est\[-1\], and est\[:-1\].transform\(X\) as X"):
        factor_report(pipeline, X, y)
    assert factor_report(pipeline[-1], pipeline[:-1].transform(X), y).to_dict()["figures"]


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
        ({"y": [None, *"ab" * 74, "a"]}, "1 missing label"),
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
    assert 'sandbox="allow-scripts"' in shown and 'title="&quot;T&quot;"' in shown
    assert repr(report).startswith("<FactorReport '\"T\"'")


@pytest.mark.parametrize("kind", ["images", "table", "hostile"])
def test_page_is_well_formed_and_accessible(kind, request):
    page = Page(request.getfixturevalue(kind))
    assert page.balanced and not page.open
    assert page.source.startswith("<!doctype html>") and page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1 and len(page.all("h2")) == 8
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in page.all("a")} <= {f"#{name}" for name in ids}
    labelled = {attrs["for"] for attrs in page.all("label")}
    assert labelled == {attrs["id"] for tag in ("select", "input") for attrs in page.all(tag)}
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
    assert "it has 178 of 500 pairs" in Page(report).text


def test_large_images_lose_rows_and_columns():
    X = np.random.default_rng(0).random((40, 200 * 100))
    est = VAETransformer(2, hidden_layer_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    report = factor_report(est, X, np.arange(40) % 2, image_shape=(200, 100))
    assert Page(report).all("img")[0]["height"] == "84"  # as shown
    image = embedded(report)["image"]
    assert (image["height"], image["width"]) == (50, 25)
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


def test_cells_are_grouped_by_opacity():
    paths = dict(cells(np.array([[0, 0.05, 0.31], [1, np.nan, 0.4]]), 10, 8))
    assert paths == {1: "M10 0h9v7h-9z", 4: "M20 0h9v7h-9zM20 8h9v7h-9z", 10: "M0 8h9v7h-9z"}


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


def visible_rows(browser, column):
    script = (
        "return [...document.querySelectorAll('#dimension-table tbody tr')]"
        ".filter((row) => row.offsetHeight).map((row) => row.cells[arguments[0]].dataset.value)"
    )
    return [float(value) for value in browser.execute_script(script, column)]


def pixels(browser, canvas="canvas-now"):
    """Return the pixels of a canvas, once the picture is drawn."""
    script = (
        "const done = arguments[1], canvas = document.getElementById(arguments[0]);"
        "const look = () => canvas.width > 100 ? setTimeout(look, 10) : done(Array.from("
        "copy(canvas).getImageData(0, 0, canvas.width, canvas.height).data));"
        "const copy = (canvas) => {"
        "  const context = new OffscreenCanvas(canvas.width, canvas.height)"
        "    .getContext('2d', {willReadFrequently: true});"
        "  context.drawImage(canvas, 0, 0); return context; };"
        "look();"
    )
    return browser.execute_async_script(script, canvas)


def wait_until(browser, condition):
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 10, 0.02).until(lambda _: condition())


def press(element, *names):
    from selenium.webdriver.common.keys import Keys

    element.send_keys(*(getattr(Keys, name) for name in names))


def test_slider_changes_the_picture(visit):
    browser = visit("images")
    slider, off = find(browser, "#mover-value"), pixels(browser, "canvas-off")
    press(slider, "HOME")
    low, readout = pixels(browser), find(browser, "#mover-readout").text
    press(slider, "END")
    high = pixels(browser)
    assert len(low) == 12 * 12 * 4 and low != high
    assert pixels(browser, "canvas-off") == off
    assert "the 5 % quantile" in readout
    assert "the 95 % quantile" in find(browser, "#mover-readout").text
    assert "95 % quantile" in slider.get_attribute("aria-valuetext")
    press(slider, "ARROW_LEFT")
    assert pixels(browser) not in (low, high)


def test_difference_is_that_of_the_two_pictures(visit):
    browser = visit("images")
    press(find(browser, "#mover-value"), "END")
    off, now, change = (
        np.reshape(pixels(browser, f"canvas-{name}"), (-1, 4)) for name in ("off", "now", "change")
    )
    difference = now[:, 0] - off[:, 0]
    visible = change[:, 3] > 0
    np.testing.assert_array_equal(visible, difference != 0)
    np.testing.assert_array_equal(change[visible, 0] > 100, difference[visible] > 0)  # vermilion


def test_slider_changes_the_values_of_features(visit, flowers):
    browser = visit("table")
    press(find(browser, "#mover-value"), "HOME")
    low = find(browser, "#mover-table tbody").text
    press(find(browser, "#mover-value"), "END")
    assert find(browser, "#mover-table tbody").text != low
    rows = [row.split("\n") for row in low.split("\n")]
    assert len(rows) == 4
    assert {name for name in flowers[1].columns if name in low} == set(flowers[1].columns)


def test_only_dimensions_of_the_class_are_offered(visit, images):
    browser, data = visit("images"), images.to_dict()
    chooser = find(browser, "#mover-class")
    for c, entry in enumerate(data["classes"][:4]):
        assert chooser.get_attribute("value") == str(c)
        offered = browser.execute_script(
            "return [...document.getElementById('mover-dimension').options].map((o) => o.value)"
        )
        on = {str(j) for j, rate in enumerate(data["activation_rates"][c]) if rate >= 0.5}
        assert set(offered) == on and offered[0] == str(entry["dimension"])
        before = pixels(browser)
        press(chooser, "ARROW_DOWN")
        wait_until(browser, lambda before=before: pixels(browser) != before)


def test_table_sorts_by_mouse_and_keyboard(visit):
    browser = visit("images")
    headers = browser.find_elements("css selector", "#dimension-table thead th[aria-sort]")
    for column in range(5):
        button = headers[column].find_element("css selector", "button")
        button.click()
        assert visible_rows(browser, column) == sorted(visible_rows(browser, column))
        press(button, "ENTER")
        values = visible_rows(browser, column)
        assert values == sorted(values, reverse=True)
        states = [header.get_attribute("aria-sort") for header in headers]
        assert states == ["none"] * column + ["descending"] + ["none"] * (4 - column)
    assert "sorted by density, descending" in find(browser, "#shown").text


def test_table_filters_and_announces(visit, images):
    browser, data = visit("images"), images.to_dict()
    text, role = find(browser, "#filter-text"), find(browser, "#filter-role")
    assert find(browser, "#shown").text == "8 of 8 dimensions shown"
    text.send_keys("class-specific")
    expected = [d["dimension"] for d in data["dimensions"] if d["role"] == "class-specific"]
    assert sorted(visible_rows(browser, 0)) == expected
    assert find(browser, "#shown").text == f"{len(expected)} of 8 dimensions shown"
    text.clear()
    text.send_keys("zebra")
    assert find(browser, "#shown").text == "0 of 8 dimensions shown"
    text.clear()
    press(text, "ENTER")  # is no form to submit
    role.send_keys("shared")
    expected = [d["dimension"] for d in data["dimensions"] if d["role"] == "shared"]
    assert sorted(visible_rows(browser, 0)) == expected
    assert find(browser, "#shown").get_attribute("role") == "status"


def test_a_row_takes_its_dimension_to_the_slider(visit):
    browser = visit("images")
    row = browser.find_elements("css selector", "#dimension-table tbody tr")[-1]
    row.find_element("css selector", "button").click()
    dimension = row.get_attribute("data-dimension")
    assert find(browser, "#mover-dimension").get_attribute("value") == dimension
    assert browser.switch_to.active_element.get_attribute("id") == "mover-value"


def test_maps_are_read_by_arrow_keys_and_pointer(visit, images):
    from selenium.webdriver import ActionChains

    browser, data = visit("images"), images.to_dict()
    readout, chart = find(browser, "#map-readout"), find(browser, "#map")
    browser.execute_script("document.getElementById('map').focus()")
    press(chart, "ARROW_DOWN", "ARROW_UP", "ARROW_DOWN")
    c = data["class_order"][1]
    (j,) = [int(word) for word in re.findall(r"dimension (\d+)", readout.text)]
    rate = round(100 * data["activation_rates"][c][j])
    assert readout.text.startswith(data["classes"][c]["name"] + ",") and f"{rate} %" in readout.text
    before = readout.text
    press(chart, "ARROW_RIGHT")
    assert readout.text != before
    sharing = find(browser, "#sharing")
    ActionChains(browser).move_to_element(sharing).perform()
    assert "in common" in find(browser, "#sharing-readout").text


def test_keyboard_reaches_everything(visit):
    browser = visit("images")
    press(find(browser, "body"), "TAB")
    skip = browser.switch_to.active_element
    assert skip.text == "Skip to the report" and skip.is_displayed()
    press(skip, "ENTER")
    reached = set()
    for _ in range(60):
        press(browser.switch_to.active_element, "TAB")
        reached.add(browser.switch_to.active_element.get_attribute("id"))
    controls = {"mover-class", "mover-dimension", "mover-value", "filter-text", "filter-role"}
    assert controls | {"map", "sharing"} <= reached


def test_hostile_names_do_nothing_in_a_browser(visit):
    browser = visit("hostile")
    assert browser.title == find(browser, "h1").text == HOSTILE[0]
    press(find(browser, "#mover-value"), "END")
    options = [o.text for o in browser.find_elements("css selector", "#mover-class option")]
    assert set(options) <= {shorten(name).strip() for name in HOSTILE[:5]}
    assert HOSTILE[0] in options
    table = find(browser, "#mover-table").get_attribute("textContent")
    assert any(shorten(str(name)) in table for name in HOSTILE)
    assert browser.execute_script("return window.hacked === undefined")
    assert browser.find_elements("css selector", "img, b, main script") == []


@pytest.mark.parametrize("kind", ["images", "table", "hostile", "dead"])
def test_no_request_leaves_the_page(kind, visit):
    browser = visit(kind)
    for slider in browser.find_elements("css selector", "#mover-value"):
        press(slider, "END")
    find(browser, "#dimension-table thead button").click()
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
    browser = visit(kind, width=400)
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    content, window = browser.execute_script(widths)
    assert content <= window == 400


def test_page_follows_the_colour_scheme(visit):
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert (
        visit("images", prefers_color_scheme="light").execute_script(ground) == "rgb(255, 255, 255)"
    )
    assert visit("images", prefers_color_scheme="dark").execute_script(ground) == "rgb(20, 23, 27)"


def test_print_shows_what_is_filtered_away(visit):
    browser = visit("images")
    find(browser, "#filter-text").send_keys("zebra")
    assert visible_rows(browser, 0) == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(visible_rows(browser, 0)) == 8
    assert not find(browser, "#filter-text").is_displayed()
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
    press(find(browser, "#mover-value"), "HOME")
    low = pixels(browser)
    press(find(browser, "#mover-value"), "END")
    assert pixels(browser) != low
    reach = "try { return parent.document.title } catch (error) { return error.name }"
    assert browser.execute_script(reach) == "SecurityError"
    browser.switch_to.default_content()


def test_inert_dimensions_are_judged_on_every_class_in_whatever_order_rows_come(monkeypatch):
    seen = []
    judge = metrics.inert_dimensions
    monkeypatch.setattr(metrics, "inert_dimensions", lambda est, X: seen.append(X) or judge(est, X))
    y = np.arange(1600) % 2
    X = np.c_[y, np.random.default_rng(0).random((1600, 2))]
    est = ClassVSCTransformer(4, hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        factor_report(est.fit(X, y), X, y)
    assert np.bincount(seen[0][:, 0].astype(int)).tolist() == [200, 200]
