"""Any input gives finite results, or an error that names the argument and what was found.

Also what was found to break that, case by case. `benchmarks/fuzz.py` runs more of this.
"""

import numpy as np
import pandas as pd
import pytest
from helpers import covering
from hypothesis import HealthCheck, given, settings
from scipy import sparse
from strategies import ESTIMATORS, TINY, VALUES, Part, cases
from trials import Violation, attempt, trial

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer

pytestmark = pytest.mark.filterwarnings("ignore")
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
rng = np.random.default_rng(0)
X = rng.normal(size=(12, 3))
Y = np.arange(12) % 3
PARTS = ["params", "X", "y", "sample_weight", "new", "Z"]


def examples(n):
    """Draw the same n cases in every run."""
    return settings(
        max_examples=n,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("part", PARTS)
def test_an_argument_of_any_kind(part):
    @examples(100 if part == "params" else 40)
    @given(cases([part]))
    def run(case):
        assert trial(case) in {"accepted", "refused"}

    run()


@examples(60)
@given(cases())
def test_arguments_of_any_kind_together(case):
    assert trial(case) in {"accepted", "refused"}


@pytest.mark.parametrize(
    ("kind", "parts", "X"),
    [
        ("refused what is in order", [], X[:0]),
        ("unnamed", [Part("X", None, "a message")], X[:0]),
        ("accepted what is wrong", [Part("X", None, "a message")], X),
        ("untyped", [], None),
        ("non-finite", [], X),
    ],
)
def test_the_trial_notices_what_breaks_the_rule(kind, parts, X, monkeypatch):
    estimator = VSCTransformer(**TINY)
    if kind in ("untyped", "non-finite"):
        estimator.fit(rng.normal(size=(12, 3)))
        result = {"untyped": lambda X: X[0], "non-finite": lambda X: X * np.nan}[kind]

        def transform(self, X):
            return result(X) if X is not None else {}["key"]

        monkeypatch.setattr(VSCTransformer, "transform", transform)
        call = estimator.transform
    else:
        call = estimator.fit
    with pytest.raises(Violation) as caught:
        attempt(parts, call, X)
    assert caught.value.kind == kind


@each_estimator
def test_every_parameter_is_tried(cls):
    """A new parameter needs values in order and wrong ones; these are tried elsewhere."""
    elsewhere = {"encoder", "decoder", "unlabeled"}
    assert set(cls._get_param_names()) - elsewhere <= set(VALUES)


# What was found, by argument ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "dates",
    [np.full((12, 3), "2020-01-01", "M8[D]"), np.full((12, 3), 5, "m8[s]")],
    ids=["dates", "durations"],
)
def test_dates_are_no_numbers(dates):
    with pytest.raises(ValueError, match=r"real numbers, but X has the dtype (datetime|timedelta)"):
        ClassVSCTransformer(**TINY).fit(dates, Y)


@each_estimator
def test_a_data_frame_of_categories_holds_numbers_or_is_refused(cls):
    frame = pd.DataFrame(np.round(X))
    codes = cls(**TINY).fit(frame.astype("category"), Y).transform(frame.astype("category"))
    np.testing.assert_array_equal(codes, cls(**TINY).fit(frame, Y).transform(frame))
    with pytest.raises(ValueError, match=r"X .*'cat'"):
        cls(**TINY).fit(frame.astype(str).replace("-0.0", "cat").astype("category"), Y)
    with pytest.raises(ValueError, match=r"X .*infinity"):
        cls(**TINY).fit(frame.replace(0.0, np.inf).astype("category"), Y)


@pytest.mark.parametrize("bad", [X[:, 0], X[:, :0], X.astype(str), X + 1j, [[1.0], [2.0, 3.0]]])
@pytest.mark.parametrize(
    ("method", "cls"), covering(["fit", "partial_fit", "transform", "score_samples"], ESTIMATORS)
)
def test_errors_about_samples_name_them(cls, method, bad):
    estimator = cls(**TINY)
    arguments = [bad, Y] if "fit" in method else [bad]
    if "fit" not in method:
        estimator.fit(X, Y)
    with pytest.raises(ValueError, match=r"\bX\b"):
        getattr(estimator, method)(*arguments)


@each_estimator
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_samples_too_far_from_the_data_are_refused_with_their_size(cls, container):
    """The codes of numbers that overflow were NaN."""
    estimator = cls(**TINY).fit(X * 1e-30, Y)
    for name in ["transform", "score_samples"] + ["activation_proba"] * cls.gated:
        method = getattr(estimator, name)
        with pytest.raises(ValueError, match=r"X has absolute values up to 1e\+10"):
            method(container(np.full((2, 3), 1e10)))
        assert np.isfinite(method(container(X * 1e-30))).all()


@each_estimator
def test_codes_too_large_to_decode_are_refused_with_their_size(cls):
    estimator = cls(**TINY).fit(X, Y)
    with pytest.raises(ValueError, match=r"Z has absolute values up to 3e\+38"):
        estimator.inverse_transform(np.full((2, 3), 3e38))


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (Y[:-1], "X has 12 and y 11"),
        (None, "y to be passed, but the target y is None"),
        (np.r_[Y[:-1], 0.5], r"\by\b.*continuous"),
        (np.array([*"abcabcabcab", None], object), "y holds None, which is not a label"),
        (np.array([*"abcabcabcab", np.nan], object), "y holds nan, which is not a label"),
        ([{}] * 12, r"y holds .* of type dict, which is not a label"),
    ],
    ids=["too few", "none", "fraction", "None", "NaN", "dicts"],
)
def test_errors_about_labels_name_them(y, match):
    with pytest.raises((ValueError, TypeError), match=match):
        ClassVSCTransformer(**TINY).fit(X, y)


@pytest.mark.parametrize("callbacks", [["print"], [1], [("name", 1)], [None]])
def test_what_is_no_callback_is_named(callbacks):
    with pytest.raises(TypeError, match=r"callbacks=.* must hold skorch callbacks"):
        VSCTransformer(**TINY, callbacks=callbacks).fit(X, Y)


@pytest.mark.parametrize("classes", [["a", 1, None], [[0, 1], [2]], {}])
def test_errors_about_classes_name_them(classes):
    with pytest.raises((ValueError, TypeError), match="classes"):
        ClassVSCTransformer(**TINY).partial_fit(X, Y, classes=classes)


@pytest.mark.parametrize(("factor", "cls"), covering([1e300, 1e38, 2.0**-40, 1e-300], ESTIMATORS))
def test_weights_count_relatively_however_large_or_small(cls, factor):
    """Their sum overflowed float32, or all of them were 0 in it."""
    weight = 2.0 ** (np.arange(12) % 4)
    codes = cls(**TINY).fit(X, Y, sample_weight=weight).activation_proba(X)
    scaled = cls(**TINY).fit(X, Y, sample_weight=weight * factor).activation_proba(X)
    np.testing.assert_allclose(scaled, codes, rtol=1e-5)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.r_[np.ones(11), -1.5], "sample_weight holds -1.5, but must not be negative"),
        (np.zeros(12), "sample_weight .*zero"),
        (np.ones((12, 1)), "sample_weight .*[12]D"),
        (np.full(12, 1j), "sample_weight .*[Cc]omplex"),
        ("balanced", "sample_weight .*balanced"),
    ],
    ids=["negative", "zeros", "2-D", "complex", "text"],
)
def test_errors_about_weights_name_them(weight, match):
    with pytest.raises(ValueError, match=match):
        ClassVSCTransformer(**TINY).fit(X, Y, sample_weight=weight)


@each_estimator
def test_weights_of_the_loss_that_float32_cannot_hold_are_refused_by_name(cls):
    names = [name for name in cls._get_param_names() if f"{name}".endswith("_weight")]
    assert "kl_weight" in names
    for name in names:
        with pytest.raises(ValueError, match=rf"'{name}' parameter.*Got 1e\+300"):
            cls(**TINY, **{name: 1e300}).fit(X, Y)
