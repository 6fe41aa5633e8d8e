"""Factors edited, classes exchanged, ways between samples, and what is untypical."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import small
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.editing import (
    ClassProfile,
    class_profile,
    counterfactual,
    edit,
    interpolate,
)

# Small estimators, soon trained, may leave dimensions without use.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")


class TrueFactors(TransformerMixin, BaseEstimator):
    """The encoder and the decoder that made noiseless data: exact, linear, sparse."""

    def __init__(self, dictionary):
        self.dictionary = dictionary

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        codes = np.asarray(X) @ np.linalg.pinv(self.dictionary)
        return np.where(np.abs(codes) > 1e-9, codes, 0)

    def inverse_transform(self, Z):
        return Z @ self.dictionary


@pytest.fixture(scope="module")
def known():
    """Factors, of which each class has some, and the estimator that sees them as they are."""
    factors = make_class_factors(600, 20, n_classes=3, noise=0, activity=0.9, random_state=0)
    return factors, TrueFactors(factors.dictionary).fit(factors.data)


@pytest.fixture(scope="module")
def profile(known):
    factors, est = known
    return class_profile(est, factors.data, factors.target)


@pytest.fixture(scope="module")
def table():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X.set_index(np.arange(1000, 1150)), y.to_numpy()


@pytest.fixture(scope="module")
def fitted(table):
    X, y = table
    return make_pipeline(StandardScaler(), small(ClassVSCTransformer, max_epochs=300)).fit(X, y)


# -- class_profile -----------------------------------------------------------------------------


def test_a_profile_counts_what_is_active_and_averages_it(known, profile):
    factors, _ = known
    assert profile.classes.tolist() == [0, 1, 2]
    for c in range(3):
        codes = factors.codes[factors.target == c]
        assert profile.n_samples[c] == len(codes)
        assert_allclose(profile.activity[c], (codes != 0).mean(axis=0))
        for j, z in enumerate(codes.T):
            expected = z[z != 0].mean() if z.any() else np.nan
            assert_allclose(profile.typical[c, j], expected)
    assert_array_equal(np.isnan(profile.typical), ~factors.supports)


def test_the_log_likelihood_of_a_support_is_that_of_coins(profile):
    rng = np.random.default_rng(0)
    A = rng.random((5, profile.activity.shape[1])) < 0.5
    result = profile.log_likelihood(A)
    for i, c in np.ndindex(result.shape):
        p = (profile.n_samples[c] * profile.activity[c] + 0.5) / (profile.n_samples[c] + 1)
        assert_allclose(result[i, c], np.log(np.where(A[i], p, 1 - p)).sum())


def test_the_log_likelihood_of_probabilities_is_the_mean_over_their_draws(profile):
    gamma = np.full((1, profile.activity.shape[1]), 0.3)
    draws = np.random.default_rng(0).random((200_000, gamma.shape[1])) < gamma
    mean = profile.log_likelihood(draws).mean(axis=0)
    assert_allclose(profile.log_likelihood(gamma)[0], mean, rtol=0.01)


# -- edit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1.5])
def test_an_edit_changes_what_the_dimension_loads_on_and_no_more(known, value):
    factors, est = known
    X = factors.data[:50]
    result = edit(est, X, 3, value)
    others = np.arange(result.codes.shape[1]) != 3
    assert_array_equal(result.edited[:, others], result.codes[:, others])
    assert (result.edited[:, 3] == value).all()
    step = value - factors.codes[:50, 3]
    assert_allclose(result.change, np.outer(step, factors.dictionary[3]), atol=1e-9)
    assert_allclose(result.X_hat, X, atol=1e-9)
    assert_allclose(result.X_edited - result.X_hat, result.change)


def test_the_typical_value_is_of_the_class_or_of_all_or_of_x(known, profile):
    factors, est = known
    X, shared = factors.data, 0
    z = factors.codes[:, shared]
    assert_allclose(edit(est, X, shared).edited[:, shared], z[z != 0].mean())
    all_classes = edit(est, X[:3], shared, profile=profile)
    assert_allclose(all_classes.edited[:, shared], z[z != 0].mean())
    of_class = edit(est, X[:3], shared, profile=profile, label=2)
    assert_allclose(of_class.edited[:, shared], z[(z != 0) & (factors.target == 2)].mean())


def test_an_edit_keeps_exact_zeros_names_and_index(fitted, table):
    X, _ = table
    result = edit(fitted, X, 1, 0.5)
    others = np.arange(6) != 1
    assert_array_equal((result.edited == 0)[:, others], (fitted.transform(X) == 0)[:, others])
    assert result.change.columns.tolist() == X.columns.tolist()
    assert result.change.index.tolist() == X.index.tolist()
    assert_allclose(result.X_edited, fitted.inverse_transform(result.edited))


def test_samples_may_be_lists(known):
    factors, est = known
    X = factors.data[:4]
    pd.testing.assert_frame_equal(edit(est, X.tolist(), 3, 0).change, edit(est, X, 3, 0).change)
    assert_array_equal(
        interpolate(est, X[0].tolist(), [X[1].tolist()]).X_hat, interpolate(est, X[0], X[1]).X_hat
    )


@pytest.mark.parametrize(
    ("names", "same", "wrong"),
    [
        (["boot", "shirt", "bag"], [np.str_("bag"), np.array("bag")], ["b", ["bag"], None, 2]),
        ([5, 6, 7], [np.int8(7), 7.0, np.array(7)], ["7", [7], [5, 6, 7], np.nan, pd.NA]),
    ],
)
def test_a_label_of_equal_value_is_the_class_whatever_its_type(known, names, same, wrong):
    factors, est = known
    X, y = factors.data, np.array(names)[factors.target]
    profile = class_profile(est, X, y)
    j = int(np.flatnonzero(profile.activity[profile.classes == names[2]][0])[0])
    expected = counterfactual(est, X[:3], profile, to=names[2]).edited
    typical = edit(est, X[:3], j, profile=profile, label=names[2]).edited
    for label in same:
        assert_array_equal(counterfactual(est, X[:3], profile, to=label).edited, expected)
        assert_array_equal(edit(est, X[:3], j, profile=profile, label=label).edited, typical)
    for label in wrong:
        with pytest.raises(ValueError, match=r"to is .*, but the classes of the profile are"):
            counterfactual(est, X[:3], profile, to=label)


def test_unknown_classes_are_named_in_short(known, profile):
    factors, est = known
    many = [np.repeat(part[:1], 20_000, axis=0) for part in profile[1:]]
    profile = ClassProfile(np.array([f"class {i}" for i in range(20_000)]), *many)
    with pytest.raises(ValueError, match=r"to is 'xx.*, but the classes .* 20000 in all") as error:
        counterfactual(est, factors.data, profile, to="x" * 10_000)
    assert len(str(error.value)) < 300


# -- counterfactual ----------------------------------------------------------------------------


def test_a_counterfactual_has_the_support_of_the_other_class(known, profile):
    factors, est = known
    X, y = factors.data, factors.target
    result = counterfactual(est, X[y == 0], profile, to=1)
    assert ((result.edited != 0) == factors.supports[1]).all()
    both = (result.codes != 0) & factors.supports[1]
    assert_array_equal(result.edited[both], result.codes[both])
    on = (result.codes == 0) & factors.supports[1]
    typical = np.broadcast_to(profile.typical[1], on.shape)
    assert_array_equal(result.edited[on], typical[on])
    changed = np.flatnonzero(np.abs(result.change).max(axis=0) > 1e-9)
    switched = factors.supports[0] != factors.supports[1]
    switched |= on.any(axis=0)  # what a sample happened to lack of what both classes have
    assert_array_equal(changed, np.flatnonzero(factors.dictionary[switched].any(axis=0)))


def test_a_counterfactual_to_the_samples_own_class_adds_only_what_it_lacks(known, profile):
    factors, est = known
    X = factors.data[factors.target == 0]
    result = counterfactual(est, X, profile, to=0)
    whole = ((result.codes != 0) == factors.supports[0]).all(axis=1)
    assert 0 < whole.sum() < len(whole)
    assert_array_equal((np.abs(result.change) < 1e-9).all(axis=1), whole)


@pytest.mark.parametrize(("min_activity", "has"), [(1e-9, True), (1.0, False)])
def test_min_activity_says_what_a_class_has(known, profile, min_activity, has):
    factors, est = known
    result = counterfactual(est, factors.data[:1], profile, to=1, min_activity=min_activity)
    assert (result.edited != 0).any() == has  # no factor is active in all samples


def test_a_learned_counterfactual_goes_where_the_other_class_is(fitted, table):
    X, y = table
    profile = class_profile(fitted, X, y)
    result = counterfactual(fitted, X[y == 0], profile, to=2)
    means = [X[y == c].to_numpy().mean(axis=0) for c in (0, 2)]
    near = [np.linalg.norm(result.X_edited - mean, axis=1) for mean in means]
    assert (near[1] < near[0]).mean() > 0.9


# -- interpolate -------------------------------------------------------------------------------


def codes_of(known, **conditions):
    """Rows whose true factors are on or off as told."""
    factors, _ = known
    rows = np.ones(len(factors.codes), bool)
    for name, on in conditions.items():
        rows &= (factors.codes[:, int(name[1:])] != 0) == on
    return factors.data[rows], factors.codes[rows]


def test_a_way_goes_from_the_one_sample_to_the_other(known):
    factors, est = known
    a, b = factors.data[0], factors.data[1]
    way = interpolate(est, a, b, 7)
    assert_allclose(way.weights, np.linspace(0, 1, 7))
    assert_allclose(way.X_hat[[0, -1]], [a, b], atol=1e-9)
    assert_allclose(way.X_hat, est.inverse_transform(way.codes))
    back = interpolate(est, b, a, 7)
    assert_allclose(back.codes, way.codes[::-1], atol=1e-12)


def test_what_is_on_in_both_moves_evenly_and_what_is_on_in_one_switches_once(known):
    _, est = known
    (a, z_a), (b, z_b) = ([part[0] for part in codes_of(known, f0=True, f3=on)] for on in (1, 0))
    way = interpolate(est, a, b, 5)
    assert_allclose(way.codes[:, 0], np.linspace(z_a[0], z_b[0], 5))
    assert_allclose(way.codes[:, 3], z_a[3] * np.array([1, 1, 0, 0, 0]))


def test_ends_may_be_rows_of_a_frame(fitted, table):
    X, _ = table
    way = interpolate(fitted, X.iloc[[0]], X.iloc[[1]], 3)
    assert_allclose(way.codes[[0, 2]], fitted.transform(X.iloc[:2]), rtol=1e-5)


# -- the page ---------------------------------------------------------------------------------


def test_the_lines_of_the_page_run():
    page = (Path(__file__).parents[1] / "docs" / "editing.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    X, y = load_digits(return_X_y=True)
    est = small(ClassVSCTransformer, alpha=0.9).fit(X, y)  # every dimension in use
    exec(code, {"est": est, "X": X, "X_train": X, "y_train": y})


# -- what is refused ---------------------------------------------------------------------------


def test_a_profile_of_another_code_is_refused(known, profile):
    factors, _ = known
    other = small(VSCTransformer).fit(factors.data)
    for use in (
        lambda: counterfactual(other, factors.data, profile, to=1),
        lambda: edit(other, factors.data, 0, profile=profile),
    ):
        with pytest.raises(ValueError, match="but est makes codes of 6"):
            use()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 99}, "dimension == 99, must be <="),
        ({"value": np.nan}, "value is nan, but must be finite"),
        ({"value": "usual"}, "value is 'usual', but must be a number or 'typical'"),
        ({"label": 1}, "label is 1, which is for value='typical' with a profile"),
    ],
)
def test_wrong_edits_are_refused(known, arguments, message):
    factors, est = known
    with pytest.raises(ValueError, match=message):
        edit(est, factors.data, **{"dimension": 0} | arguments)


def test_a_dimension_that_is_never_active_has_no_typical_value(known, profile):
    factors, est = known
    (missing,) = np.flatnonzero(~factors.supports[0] & factors.supports[1])[:1]
    with pytest.raises(ValueError, match=f"dimension {missing} is never active in class 0"):
        edit(est, factors.data, missing, profile=profile, label=0)
    with pytest.raises(ValueError, match=f"dimension {missing} is never active in X"):
        edit(est, factors.data[factors.target == 0], missing)


def test_unknown_classes_are_named(known, profile):
    factors, est = known
    with pytest.raises(ValueError, match=r"to is 'boot', but the classes of the profile are \[0"):
        counterfactual(est, factors.data, profile, to="boot")
    with pytest.raises(ValueError, match=r"label is 7, but the classes"):
        edit(est, factors.data, 0, profile=profile, label=7)


def test_ends_that_are_not_one_sample_are_refused(known):
    factors, est = known
    with pytest.raises(ValueError, match=r"b has shape \(2, 20\), but must be one sample"):
        interpolate(est, factors.data[0], factors.data[:2])
    with pytest.raises(ValueError, match="n_steps == 1, must be >= 2"):
        interpolate(est, factors.data[0], factors.data[1], 1)


def test_a_profile_can_be_taken_apart_and_built_again(known, profile):
    """It is plain arrays: to keep beside the model, as a file of them."""
    factors, est = known
    again = ClassProfile(**{name: np.asarray(part) for name, part in profile._asdict().items()})
    frame = pd.DataFrame(factors.data)
    for of in (again, profile):
        assert counterfactual(est, frame, of, to=1).change.shape == frame.shape
