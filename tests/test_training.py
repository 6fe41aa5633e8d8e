"""Specification of what the data of a fit decide: the likelihood, and the scales of features."""

import pickle
import warnings

import numpy as np
import pytest
from helpers import covering, small
from scipy import sparse
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import KFold
from sklearn.preprocessing import MinMaxScaler

from sklearn_classvsc import ClassVSCTransformer, VAETransformer
from sklearn_classvsc._data import Survey
from sklearn_classvsc._likelihoods import LIKELIHOODS

DIGITS = load_digits().data[:300] / 16
IRIS = load_iris().data
rng = np.random.default_rng(0)
BITS = rng.random((60, 8)) < 0.3


def quick(X, **params):
    return small(VAETransformer, n_components=2, hidden_layer_sizes=(4,), max_epochs=1, **params)


def chosen(X):
    return quick(X).fit(X).likelihood_


# The likelihood ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "likelihood"),
    [
        (DIGITS, "bernoulli"),
        (DIGITS.astype(np.float16), "bernoulli"),
        (sparse.csr_array(DIGITS), "bernoulli"),
        (DIGITS * (1 + 2**-52), "bernoulli"),
        (DIGITS - 1e-17, "bernoulli"),
        (np.float32(DIGITS) * np.float32(1 + 2**-23), "bernoulli"),
        (BITS, "bernoulli"),
        (BITS.astype(np.int8), "bernoulli"),
        (np.zeros((20, 3)), "bernoulli"),
        (16 * DIGITS, "gaussian"),
        (DIGITS / 1000, "gaussian"),
        (BITS * 1e-9, "gaussian"),
        (rng.random((60, 3)), "gaussian"),
        (rng.dirichlet(np.ones(4), 60), "gaussian"),
        (np.full((20, 3), 0.5), "gaussian"),
    ],
)
def test_auto_is_bernoulli_for_bits_and_images_only(X, likelihood):
    assert chosen(X) == likelihood


@pytest.mark.parametrize(
    ("factor", "dummies"), covering([1e-9, 1e-3, 0.01, 0.1, 1, 10, 1000], [0, 2])
)
def test_auto_is_the_same_in_every_unit(factor, dummies):
    X = np.c_[factor * IRIS, np.arange(150)[:, None] % [2, 3][:dummies] == 0]
    assert chosen(X) == chosen(np.c_[factor * (IRIS - IRIS.min()), X[:, 4:]]) == "gaussian"


@pytest.mark.parametrize("n_features", [1, 30])
def test_auto_is_the_same_in_every_fold_of_scaled_data(n_features):
    X = np.random.default_rng(n_features).normal(size=(40, n_features))
    found = set()
    for rows, _ in KFold(4).split(X):
        found.add(chosen(MinMaxScaler().fit_transform(X)[rows]))
        found.add(chosen(MinMaxScaler().fit_transform(X[rows])))
    assert len(found) == 1


def test_zeros_among_measurements_make_no_bits():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((300, 10)) < 0.5, 0, rng.random((300, 10)))  # one or two are near 1
    assert {chosen(part) for part in (X, 0.99 * X, X[:30], X[240:270])} == {"gaussian"}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_fit_with_a_given_likelihood_reads_the_range_of_X_once(likelihood, monkeypatch):
    read, add = [], Survey.add
    monkeypatch.setattr(
        Survey, "add", lambda self, X, *args: read.append(len(X)) or add(self, X, *args)
    )
    estimator = quick(BITS, likelihood=likelihood)
    estimator.fit(BITS * 1.0)
    assert sum(read) == len(BITS)
    read.clear()
    estimator.partial_fit(BITS * 1.0)
    assert sum(read) == len(BITS)


def test_the_likelihood_of_the_model_is_an_attribute(tmp_path):
    y = np.arange(60) % 2
    est = small(ClassVSCTransformer, max_epochs=1)
    assert not hasattr(est, "likelihood_")
    assert est.fit(BITS, y).likelihood_ == "bernoulli"
    est.save(tmp_path / "model.safetensors")
    for copy in (
        pickle.loads(pickle.dumps(est)),
        ClassVSCTransformer.load(tmp_path / "model.safetensors"),
    ):
        assert copy.likelihood_ == "bernoulli"
    assert est.set_params(likelihood="poisson").fit(BITS, y).likelihood_ == "poisson"


# The scales -------------------------------------------------------------------------------------


def factors(n=1200):
    """Four features of two factors, and one of noise that begins late, on a large scale."""
    r = np.random.default_rng(0)
    Z = r.normal(size=(n, 2))
    X = np.c_[Z, Z @ [[1, 1], [1, -1]]] + 0.1 * r.normal(size=(n, 4))
    return np.c_[X, np.where(np.arange(n) < 300, 5, 5000 * r.normal(size=n))]


def explained(est, X):
    """Return the part of the variance that is explained, the mean over the first features."""
    X_hat = est.inverse_transform(est.transform(X))
    return 1 - (((X - X_hat) ** 2).mean(0) / X.var(0))[:4].mean()


def in_chunks(X, sizes):
    est = small(VAETransformer, n_components=4, batch_size=10)
    for _ in range(6):
        start = 0
        for size in [*sizes, *[100] * len(X)]:
            if start >= len(X):
                break
            est.partial_fit(X[start : start + size])
            start += size
    return est


@pytest.mark.parametrize("sizes", [[300], [1, 1, 1, 2]])
@pytest.mark.filterwarnings("error")
def test_a_feature_that_begins_late_does_not_drown_the_others(sizes):
    X = factors()
    assert explained(in_chunks(X, sizes), X[300:]) > 0.7


def test_a_feature_that_begins_after_many_samples_gets_its_scale_then():
    """It was constant in all of the samples that fixed the scales of the others."""
    X = factors(2400)
    X[:1500, 4] = 5
    est = small(VAETransformer, max_epochs=1).partial_fit(X[:1500])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.partial_fit(X[1500:1600])
        again = pickle.loads(pickle.dumps(est))
        for one in (est, again):
            one.partial_fit(X[1600:])
    np.testing.assert_array_equal(est.transform(X), again.transform(X))
    sd = np.std(est.inverse_transform(rng.normal(size=(500, 6)))[:, 4])
    assert sd > 50  # of 5,000: what is decoded is on the new scale


@pytest.mark.parametrize(("weighted", "container"), [(False, sparse.csr_array), (True, np.asarray)])
def test_the_first_chunks_together_have_the_scales_of_one(weighted, container):
    X, weight = factors(), rng.random(1200) if weighted else np.ones(1200)
    weight[[0, 1, 3, 10, 200]] = 1  # the largest of each chunk, to which the others count
    X, still = container(X), {"learning_rate": 1e-12, "max_epochs": 1}
    est, whole = (small(VAETransformer, **still) for _ in range(2))
    for rows in np.split(np.arange(1200), [1, 3, 10, 200]):
        est.partial_fit(X[rows], sample_weight=weight[rows] if weighted else None)
    whole.fit(X, sample_weight=weight)
    Z = np.eye(6)
    np.testing.assert_allclose(
        est.inverse_transform(Z), whole.inverse_transform(Z), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("how", ["partial_fit", "warm start", "warm start on a source"])
def test_data_far_outside_the_scales_are_told(how):
    X = factors()[:, :4]
    est = small(VAETransformer, max_epochs=1, warm_start=True).fit(X)
    X[:, 2] *= 1000
    with pytest.warns(UserWarning, match=r"Feature 2 .*e\+0[23] standard dev.*larger first chunk"):
        est.partial_fit(X) if how == "partial_fit" else est.fit((lambda: [X]) if "so" in how else X)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_components": 3}, "n_components=3 cannot continue from a model with n_components=4"),
        ({"hidden_layer_sizes": (8,)}, "hidden_layer_sizes=.*8.* cannot continue"),
        ({"activation": "tanh"}, "activation='tanh' cannot continue"),
        ({"likelihood": "poisson"}, "likelihood='poisson' cannot continue .* likelihood='gauss"),
        ({"likelihood": {0: "bernoulli"}}, "likelihood=.* cannot continue"),
    ],
    ids=lambda of: next(iter(of)) if isinstance(of, dict) else "",
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_model_of_another_kind_is_not_continued(changed, message, method):
    X = np.round(abs(factors()))
    est = small(VAETransformer, n_components=4, max_epochs=1, warm_start=True)
    before = est.fit(X).transform(X)
    with pytest.raises(ValueError, match=message):
        getattr(est.set_params(**changed), method)(X)
    np.testing.assert_array_equal(est.transform(X), before)


def test_an_iterator_tells_the_scales_as_it_goes():
    X = factors()
    chunks = np.split(X, [1, 3, 100, 300, 700])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est = small(VAETransformer, n_components=4, max_epochs=1).fit(iter(chunks))
    decoded = est.inverse_transform(rng.normal(size=(500, 4)))
    assert np.ptp(decoded[:, 4]) > 100 * np.ptp(decoded[:, 0])


# Values of a kind of their own ------------------------------------------------------------------


def test_times_in_nanoseconds_do_not_drown_the_others():
    """They vary little beside their size, and StandardScaler takes them for constant."""
    X = factors(600)[300:, :4]
    times = 1_700_000_000_000_000_000 + (1e5 * rng.normal(size=300)).astype(np.int64)
    est = small(VAETransformer, n_components=4, max_epochs=150, batch_size=50)
    assert explained(est.fit(np.c_[X, times]), np.c_[X, times]) > 0.8


@pytest.mark.parametrize("constant", [1e20, 1e300, -1e300, 0.1, 5e-324])
def test_a_constant_feature_changes_nothing_however_large(constant):
    X = IRIS - IRIS.mean(0)
    est, plain = (small(VAETransformer).fit(np.c_[X, np.full(150, x)]) for x in (constant, 0))
    codes = est.transform(np.c_[X, np.full(150, constant)])
    np.testing.assert_array_equal(codes, plain.transform(np.c_[X, np.zeros(150)]))


@pytest.mark.parametrize("factor", [1e-170, 1e-300])
def test_features_whose_squares_underflow_are_seen(factor):
    X = IRIS * factor
    est = small(VAETransformer, max_epochs=200, batch_size=50).fit(X)
    X_hat = est.inverse_transform(est.transform(X)) / factor
    assert 1 - ((IRIS - X_hat) ** 2).mean() / IRIS.var(0).mean() > 0.5


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, np.int64, np.uint64, np.float32])
def test_integers_and_half_precision_are_numbers_like_others(dtype):
    X = np.random.default_rng(0).integers(-128 * (np.dtype(dtype).kind != "u"), 128, (60, 4))
    X[0] = [127, 0, 64, 1]
    X = X.astype(dtype)
    est, same = (small(VAETransformer, likelihood="gaussian").fit(Z) for Z in (X, X.astype(float)))
    np.testing.assert_allclose(est.transform(X), same.transform(X), rtol=1e-3, atol=1e-3)
