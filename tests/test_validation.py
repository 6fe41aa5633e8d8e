"""Specification of what a fit takes: the range of X, weights, and CSR in any layout."""

import warnings

import numpy as np
import pytest
from helpers import covering, small
from scipy import sparse
from sklearn.datasets import load_digits

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer, _data

rng = np.random.default_rng(0)
DIGITS = load_digits().data[:120] / 16
X = rng.normal(size=(60, 4))
Y = np.arange(60) % 3
COUNTS = ["multinomial", "negative_binomial", "poisson"]

# The range --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_rounding_beyond_the_range_is_tolerated(dtype, container):
    if dtype is np.float16 and container is sparse.csr_array:
        pytest.skip("SciPy has no sparse arrays of float16")
    rounded = DIGITS.astype(dtype) * (1 + np.finfo(dtype).eps)
    rounded = container(rounded - np.finfo(dtype).eps / 4)
    assert rounded.max() > 1 > 0 > rounded.min()
    est = small(VSCTransformer, likelihood="bernoulli").fit(rounded)
    exact = small(VSCTransformer, likelihood="bernoulli").fit(DIGITS)
    assert est.score(rounded) == pytest.approx(exact.score(DIGITS), rel=0.05)
    assert est.partial_fit(rounded).likelihood_ == "bernoulli"


def test_the_message_tells_the_range_from_what_it_should_be():
    for value in (1.001, 1 + 2**-9, -0.001, -0.002):
        Z = np.array([[0.0, 1.0], [value, 0.5]])
        with pytest.raises(ValueError, match=r"X lies in \[(.+), (.+)\], but the Bern") as caught:
            small(VAETransformer, likelihood="bernoulli").fit(Z)
        assert "X lies in [0, 1]," not in str(caught.value)


@pytest.mark.parametrize("likelihood", COUNTS)
def test_rounding_below_zero_is_no_negative_count(likelihood):
    counts = rng.poisson(2.0, size=(60, 5)).astype(float)
    est, rounded = (
        small(VSCTransformer, likelihood=likelihood).fit(Z) for Z in (counts, counts - 1e-9)
    )
    found, expected = rounded.score_samples(counts - 1e-9), est.score_samples(counts)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"X holds -0\.5"):
        est.fit(counts - 0.5)


# Weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiny", "cls"),
    covering(
        [1e-39, 1e-45, 1e-60, 1e-300, 5e-324],
        [VAETransformer, VSCTransformer, ClassVSCTransformer],
    ),
)
def test_a_weight_that_float32_cannot_hold_beside_the_others_is_none(cls, tiny):
    weight = np.where(np.arange(60) < 30, 1, tiny)
    params = {"batch_size": 4, "max_epochs": 2}  # some batches would hold such samples only
    est = small(cls, **params).fit(X, Y, sample_weight=weight)
    none = small(cls, **params).fit(X, Y, sample_weight=np.where(weight < 1, 0, 1))
    np.testing.assert_array_equal(est.transform(X), none.transform(X))


@pytest.mark.parametrize("tiny", [1e-37, 1e-30, 1e-20])
def test_small_weights_are_weights(tiny):
    weight = np.where(np.arange(60) < 30, 1, tiny)
    est = small(ClassVSCTransformer, batch_size=4).fit(X, Y, sample_weight=weight)
    assert np.isfinite(est.score(X))
    vae = small(VAETransformer, batch_size=4, total_correlation_weight=1)
    assert np.isfinite(vae.fit(X, sample_weight=weight).score(X))


@pytest.mark.parametrize(
    ("how", "factor"),
    covering(["array", "source", "iterator", "partial_fit"], [1e-300, 1e-60, 1e300, 1e60]),
)
def test_only_the_proportions_of_weights_count(how, factor):
    scale = 2.0 ** np.round(np.log2(factor))
    weight = 1 + np.arange(60) % 3

    def codes(weight):
        est = small(VAETransformer, max_epochs=1)
        pieces = [(X[:30], None, weight[:30]), (X[30:], None, weight[30:])]
        if how == "array":
            est.fit(X, sample_weight=weight)
        elif how == "partial_fit":
            est.partial_fit(X, sample_weight=weight)
        else:
            est.fit((lambda: pieces) if how == "source" else iter(pieces))
        return est.transform(X)

    np.testing.assert_array_equal(codes(scale * weight), codes(weight))


@pytest.mark.parametrize("small_first", [True, False])
def test_weights_of_a_source_may_differ_by_any_factor(small_first):
    weights = [np.full(30, 1e-300), np.full(30, 1e300)][:: 1 if small_first else -1]
    pieces = [(X[:30], None, weights[0]), (X[30:], None, weights[1])]
    est = small(VAETransformer, max_epochs=2).fit(lambda: pieces)
    assert np.isfinite(est.transform(X)).all()


@pytest.mark.parametrize("bad", [np.inf, np.nan, -1.0])
def test_weights_that_are_none_are_named(bad):
    with pytest.raises(ValueError, match="sample_weight"):
        small(VAETransformer).fit(X, sample_weight=np.r_[np.ones(59), bad])


# CSR --------------------------------------------------------------------------------------------


def stored_otherwise(Z, how):
    """Return the same CSR data in another layout."""
    Z = sparse.csr_array(Z)
    if how == "zeros":
        full = sparse.coo_array(np.ones(Z.shape))
        data = Z.toarray()[full.coords]
        return sparse.csr_array((data, full.coords), shape=Z.shape)
    if how == "some zeros":
        Z = stored_otherwise(Z, "zeros")
        keep = (Z.data != 0) | (rng.random(Z.nnz) < 0.3)
        coords = [x[keep] for x in Z.tocoo().coords]
        data = np.where(Z.data == 0, -0.0, Z.data)[keep]
        return sparse.csr_array((data, coords), shape=Z.shape)
    if how == "unsorted":
        same = Z.copy()
        for a, b in zip(Z.indptr[:-1], Z.indptr[1:], strict=True):
            same.indices[a:b], same.data[a:b] = Z.indices[a:b][::-1], Z.data[a:b][::-1]
        same.has_sorted_indices = False
        return sparse.csr_array((same.data, same.indices, same.indptr), shape=Z.shape)
    if how == "duplicates":
        parts = [np.repeat(x, 2) for x in (Z.data / 2, Z.indices)]
        return sparse.csr_array((*parts, 2 * Z.indptr), shape=Z.shape)
    if how == "cancelled":
        free = np.argmin(Z.toarray(), axis=1)  # a zero in each row
        rows, columns = (
            np.r_[old, new, new]
            for old, new in zip(Z.tocoo().coords, (np.arange(len(free)), free), strict=True)
        )
        data = np.r_[Z.data, np.full(len(free), 3), np.full(len(free), -3)]
        order = np.argsort(rows, kind="stable")
        return sparse.csr_array(
            (data[order], columns[order], Z.indptr + 2 * np.arange(len(free) + 1)), shape=Z.shape
        )
    if how == "int64":
        return sparse.csr_array((Z.data, Z.indices.astype(np.int64), Z.indptr.astype(np.int64)))
    return sparse.csr_matrix(Z)


@pytest.mark.parametrize(
    ("how", "likelihood", "wide"),
    covering(
        2 * ["zeros", "some zeros", "unsorted", "duplicates", "cancelled", "int64", "csr_matrix"],
        ["auto", "gaussian", "bernoulli", "poisson", "poisson"],
        [True, False],
    ),
)
def test_the_layout_of_csr_data_changes_nothing(how, likelihood, wide, monkeypatch):
    if wide:
        monkeypatch.setattr(_data, "WIDE", 1)
    r = np.random.default_rng(1)
    Z = r.poisson(0.4, size=(60, 9)).astype(float)
    Z[:, 0] = 0  # so that each row has a zero
    Z = Z.clip(0, 1) if likelihood == "bernoulli" else Z
    other = stored_otherwise(Z, how)
    kept = other.copy()
    results = []
    for data in (sparse.csr_array(Z), other):
        est = small(ClassVSCTransformer, likelihood=likelihood).fit(data, Y)
        est.partial_fit(data, Y)
        results.append((type(est.module_.likelihood), est.transform(data), est.score_samples(data)))
    (kind, codes, scores), (other_kind, other_codes, other_scores) = results
    assert kind == other_kind
    np.testing.assert_array_equal(codes, other_codes)
    np.testing.assert_array_equal(scores, other_scores)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(other, part), getattr(kept, part))


@pytest.mark.parametrize("likelihood", COUNTS)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_samples_without_counts_are_samples(likelihood, container):
    Z = rng.poisson(1.0, size=(60, 5))
    Z[::4] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        est = small(VSCTransformer, likelihood=likelihood).fit(container(Z))
        assert np.isfinite(est.score_samples(container(Z))).all()
        assert np.isfinite(small(VSCTransformer, likelihood=likelihood).fit(0 * Z).score(0 * Z))
