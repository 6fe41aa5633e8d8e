"""Values in messages, and where warnings point."""

import inspect
import warnings

import numpy as np
import pytest
from helpers import small
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc._messages import LONGEST, brief
from sklearn_classvsc.editing import class_profile, edit
from sklearn_classvsc.inspection import traverse
from sklearn_classvsc.labels import with_parents
from sklearn_classvsc.metrics import category_sharing_test

rng = np.random.default_rng(0)
X, Y = rng.random((40, 3)), np.arange(40) % 2  # noise: its code says nothing of the classes


@pytest.mark.parametrize(
    "value, text",
    [
        ([1, "a", None], "[1, 'a', None]"),
        (np.arange(3), "[0, 1, 2]"),
        (np.arange(20_000), "[0, 1, 2, 3, 4, 5, ... 20000 in all]"),
        (list(range(7)), "[0, 1, 2, 3, 4, 5, ... 7 in all]"),
        (np.str_("a"), "'a'"),
        (np.float32(0.5), "0.5"),
        (np.array(3), "3"),
        ("\ud800", r"'\ud800'"),
    ],
)
def test_values_show_as_python_writes_them_and_long_ones_their_beginning(value, text):
    assert brief(value) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, [["x" * 999] * 99] * 99, {i: "x" * 99 for i in range(99)}, rng.random((99, 99))],
)
def test_a_value_is_short_whatever_it_is(value):
    assert len(brief(value)) <= LONGEST + 3


FITS = {
    "fit": lambda est: est.fit(X, Y),
    "fit_transform": lambda est: est.fit_transform(X, Y),
    "pipeline": lambda est: make_pipeline(StandardScaler(), est).fit(X, Y),
    "search": lambda est: GridSearchCV(est, {"threshold": [0.5]}, cv=2).fit(X, Y),
    "source": lambda est: est.fit(lambda: [(X, Y)]),
    "set_output": lambda est: est.set_output(transform="pandas").fit_transform(X, Y),
}


@pytest.mark.parametrize("way", FITS)
def test_a_warning_points_at_the_line_that_called_fit(way):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FITS[way](small(ClassVSCTransformer, max_epochs=1))
    collapses = [w for w in caught if w.category is CollapseWarning]
    line = inspect.getsourcelines(FITS[way])[1]
    assert collapses
    assert {(w.filename, w.lineno) for w in collapses} == {(__file__, line)}


MANY = [f"class {i}" for i in range(2000)]


@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
@pytest.mark.parametrize(
    "what", ["sample", "labels", "columns", "traverse", "edit", "sharing", "circle"]
)
def test_messages_stay_short_with_many_classes(what):
    x, y = np.zeros((2000, 2)), np.array(MANY)
    x[:, 0] = np.arange(2000) % 2
    est = small(ClassVSCTransformer, max_epochs=1, batch_size=1000).partial_fit(x[:9], y[:9], MANY)
    calls = {
        "sample": lambda: est.sample(y="none"),
        "labels": lambda: est.partial_fit(x[:2], ["none", "class 1"]),
        "columns": lambda: small(ClassVSCTransformer).partial_fit(
            x[:9], np.eye(9, dtype=int), MANY
        ),
        "traverse": lambda: traverse(est, x, y=y, label="none", dimension=0),
        "edit": lambda: edit(
            est, x[:1], dimension=0, value="typical", profile=class_profile(est, x, y), label="none"
        ),
        "sharing": lambda: category_sharing_test(x, y, [["none", "nothing"]]),
        "circle": lambda: with_parents(MANY[:1], dict(zip(MANY, MANY[1:] + MANY[:1], strict=True))),
    }
    with pytest.raises(ValueError, match=r"none|columns|circle") as error:
        calls[what]()
    assert len(str(error.value)) < 1000
