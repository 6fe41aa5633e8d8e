"""Specification of what recurs: of `factor_recurrence`, `effect_alignment`, `factor_stability`."""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import ortho_group
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_classvsc import (
    ClassVSCTransformer,
    CollapseWarning,
    VAETransformer,
    factor_stability,
)
from sklearn_classvsc._pipelines import core_of
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.metrics import effect_alignment, factor_recurrence

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RNG = np.random.default_rng(0)
Y = np.arange(300) % 3
Z = RNG.normal(size=(300, 5)) * (RNG.random((3, 5)) < 0.7)[Y]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_sign_nor_scale_nor_class_means_matter(seed):
    rng = np.random.default_rng(seed)
    order, scale = rng.permutation(5), rng.choice([-3.0, 0.5, 2.0], 5)
    other = (Z * scale)[:, order] + rng.normal(size=(3, 5))[Y]
    found = factor_recurrence(Z, other, Y)
    varies = Z.any(axis=0)
    np.testing.assert_allclose(found.recurrence[varies], 1)
    np.testing.assert_array_equal(order[found.partner[varies]], np.flatnonzero(varies))
    np.testing.assert_array_equal(found.sign[varies], np.sign(scale[varies]))


def test_recurrence_is_the_correlation_within_classes_by_brute_force():
    other = Z[:, ::-1] + RNG.normal(size=Z.shape)
    found = factor_recurrence(Z, other, Y)
    for j, k in enumerate(found.partner):
        a, b = (  # classes have one size
            np.concatenate([x[Y == c] - x[Y == c].mean() for c in range(3)])
            for x in (Z[:, j], other[:, k])
        )
        assert found.recurrence[j] == pytest.approx(abs(a @ b / np.sqrt((a @ a) * (b @ b))))


def test_a_rotation_is_seen_in_the_ceiling_and_not_in_the_recurrence():
    full = RNG.normal(size=(2000, 6))
    found = factor_recurrence(full, full @ ortho_group.rvs(6, random_state=0))
    assert found.recurrence.mean() < 0.8
    np.testing.assert_allclose(found.ceiling, 1)


def test_class_codes_alone_do_not_recur():
    """Two codes that agree on the class, and on nothing else, agree by chance."""
    means = 10 * RNG.normal(size=(3, 4))
    one, two = (means[Y] + RNG.normal(size=(300, 4)) for _ in range(2))
    found = factor_recurrence(one, two, Y)
    assert found.recurrence.mean() < 0.2
    assert found.recurrence.mean() == pytest.approx(found.chance, abs=0.1)


def test_what_varies_in_no_class_has_no_recurrence():
    constant = np.c_[Z, 7.0 * (Y == 1), np.zeros(300)]
    found = factor_recurrence(constant, constant, Y)
    assert np.isnan(found.recurrence[5:]).all() and np.isnan(found.ceiling[5:]).all()
    assert (found.partner[5:] == -1).all()


def test_sparse_codes_and_codes_of_other_widths():
    found = factor_recurrence(sparse.csr_array(Z), Z[:, :3], Y)
    assert (found.partner >= 0).sum() <= 3
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        factor_recurrence(Z, Z[1:], Y)


def test_alignment_is_the_mean_cosine_of_pairs_of_classes():
    E = RNG.normal(size=(4, 3, 7))
    E[0, 1], E[2:, 2], E[1, 2] = 0, np.nan, 0
    cosine = [
        [
            E[a, j] @ E[b, j] / np.linalg.norm(E[a, j]) / np.linalg.norm(E[b, j])
            for a in range(4)
            for b in range(a)
            if np.nan_to_num(E[a, j]).any() and np.nan_to_num(E[b, j]).any()
        ]
        for j in range(3)
    ]
    expected = [np.mean(x) if x else np.nan for x in cosine]
    np.testing.assert_allclose(effect_alignment(E), expected)
    with pytest.raises(ValueError, match=r"effects has the shape \(3, 7\)"):
        effect_alignment(E[0])


FACTORS = make_class_factors(400, 24, n_classes=3, n_shared=0, n_specific=1, random_state=0)


def test_stability_has_a_figure_for_each_dimension():
    X, y = FACTORS.data, np.where(np.arange(400) % 9 == 0, -1, FACTORS.target)
    est = small(ClassVSCTransformer, max_epochs=30, unlabeled=-1).fit(X, y)
    before = est.transform(X)
    found = factor_stability(est, X, y, n_refits=2)
    assert found.recurrence.shape == found.recurrence_std.shape == found.ceiling.shape == (6,)
    assert 0 <= found.chance < np.nanmean(found.recurrence) <= np.nanmean(found.ceiling) <= 1
    assert found.partners.shape == (2, 6) and len(found.estimators) == 2
    np.testing.assert_array_equal(found.recurs, found.recurrence >= 0.8)
    np.testing.assert_array_equal(est.transform(X), before)
    seeds = [refit.random_state for refit in found.estimators]
    assert len({*seeds, est.random_state}) == 3
    again = factor_stability(est, X, y, n_refits=2, n_jobs=2)
    np.testing.assert_array_equal(again.recurrence, found.recurrence)


def test_the_consensus_of_identical_fits_is_their_effect():
    est = small(VAETransformer).fit(FACTORS.data)

    class Same(VAETransformer):
        def fit(self, X, y=None):
            self.random_state = 0
            return super().fit(X, y)

    same = small(Same).fit(FACTORS.data)
    found = factor_stability(same, FACTORS.data, n_refits=2)
    np.testing.assert_allclose(found.recurrence, 1)
    pd.testing.assert_frame_equal(found.effects, feature_effects(est, FACTORS.data).fillna(0.0))


def test_of_a_pipeline_the_transformer_is_fitted_anew():
    pipe = make_pipeline(StandardScaler(), small(ClassVSCTransformer))
    pipe.fit(FACTORS.data, FACTORS.target)
    found = factor_stability(pipe, FACTORS.data, FACTORS.target, n_refits=1)
    assert isinstance(found.estimators[0], ClassVSCTransformer)
    assert found.recurrence.shape == (6,)
    alone = small(ClassVSCTransformer).fit(pipe[0].transform(FACTORS.data), FACTORS.target)
    inside = factor_stability(alone, pipe[0].transform(FACTORS.data), FACTORS.target, n_refits=1)
    np.testing.assert_allclose(found.recurrence, inside.recurrence, atol=1e-3)
    np.testing.assert_allclose(found.effects / pipe[0].scale_, inside.effects, atol=1e-3)


def test_the_effects_are_on_the_columns_of_a_mixed_table():
    X = pd.DataFrame(FACTORS.data[:, :4], columns=[*"abcd"]).mask(RNG.random((400, 4)) < 0.1)
    X["island"] = np.array(["Biscoe", "Dream", "Torgersen"])[FACTORS.target]
    encode = make_column_transformer(
        (StandardScaler(), [*"abcd"]), (OneHotEncoder(sparse_output=False), ["island"])
    )
    pipe = make_pipeline(encode, small(ClassVSCTransformer), LogisticRegression())
    search = GridSearchCV(pipe, {"classvsctransformer__n_components": [4, 6]}, cv=2)
    search.fit(X, FACTORS.target)
    for est in (pipe.fit(X, FACTORS.target), search):
        found = factor_stability(est, X, FACTORS.target, n_refits=1)
        assert found.effects.columns.tolist() == [
            *"abcd",
            *("island = Biscoe", "island = Dream", "island = Torgersen"),
        ]
        assert found.effects.shape[0] == len(found.recurrence) == core_of(est).n_components
        assert np.isfinite(found.effects).all(axis=None)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_warnings_of_refits_are_counted_and_point_at_the_caller(n_jobs):
    noise, y = RNG.random((40, 3)), np.arange(40) % 2
    est = small(ClassVSCTransformer, max_epochs=1).fit(noise, y)

    def call():
        return factor_stability(est, noise, y, n_refits=2, n_jobs=n_jobs)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    (collapse,) = [w for w in caught if w.category is CollapseWarning]
    assert str(collapse.message).startswith("2 of 2 refits gave this warning, the first of them: ")
    assert collapse.filename == __file__
    assert collapse.lineno == inspect.getsourcelines(call)[1] + 1


def test_what_is_not_fitted_or_out_of_range_is_refused():
    with pytest.raises(NotFittedError):
        factor_stability(small(VAETransformer), FACTORS.data)
    est = small(VAETransformer).fit(FACTORS.data)
    with pytest.raises(ValueError, match="n_refits == 0"):
        factor_stability(est, FACTORS.data, n_refits=0)
