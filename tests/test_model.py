"""Specification of scores: outside of what a likelihood allows there are none."""

import numpy as np
import pytest
from helpers import covering, small
from scipy import sparse
from sklearn.datasets import load_digits

from sklearn_classvsc import VAETransformer, VSCTransformer
from sklearn_classvsc.metrics import elbo_scorer

DIGITS = load_digits().data[:120] / 16
rng = np.random.default_rng(0)
COUNTS = rng.poisson(1.0, size=(60, 5))


@pytest.fixture(scope="module", params=[VAETransformer, VSCTransformer])
def bernoulli(request):
    return small(request.param).fit(DIGITS)


@pytest.mark.parametrize(
    ("value", "container", "wide"),
    [
        (-5.0, np.asarray, False),
        (-0.01, sparse.csr_array, False),
        (1.01, sparse.csr_array, True),
        (5.0, np.asarray, True),
        (1e10, sparse.csr_array, False),
    ],
)
def test_a_bernoulli_model_has_no_score_outside_of_0_and_1(
    bernoulli, value, container, wide, monkeypatch
):
    if wide:
        monkeypatch.setattr("sklearn_classvsc._data.WIDE", 1)
    outlier = DIGITS[:9].copy()
    outlier[4, 7] = value
    outlier = container(outlier)
    for score in (bernoulli.score_samples, bernoulli.score, lambda X: elbo_scorer(bernoulli, X)):
        with pytest.raises(ValueError, match=r"X lies in \[.*Bernoulli.*\[0, 1\].*clip=True"):
            score(outlier)
    assert np.isfinite(bernoulli.transform(outlier)).all()


def test_a_sample_beyond_by_rounding_has_the_score_of_the_end(bernoulli):
    beyond = np.where(DIGITS == 1, 1 + 1e-6, np.where(DIGITS == 0, -1e-6, DIGITS))
    np.testing.assert_allclose(
        bernoulli.score_samples(beyond), bernoulli.score_samples(DIGITS), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("likelihood", "container"),
    covering(["multinomial", "negative_binomial", "poisson"], [np.asarray, sparse.csr_array]),
)
def test_a_model_of_counts_has_no_score_of_negative_ones(likelihood, container):
    est = small(VSCTransformer, likelihood=likelihood).fit(container(COUNTS))
    outlier = COUNTS.copy()
    outlier[3, 2] = -5
    with pytest.raises(ValueError, match=rf"X holds -5, but likelihood='{likelihood}' needs"):
        est.score_samples(container(outlier))


def test_a_gaussian_model_scores_an_outlier_lower():
    X = rng.normal(size=(60, 4))
    est = small(VSCTransformer).fit(X)
    scores = [est.score(X * far) for far in (1, 10, 100)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_a_score_of_what_is_not_finite_says_so(bernoulli, bad):
    outlier = DIGITS[:9].copy()
    outlier[4, 7] = bad
    with pytest.raises(ValueError, match="infinity"):
        bernoulli.score_samples(outlier)
