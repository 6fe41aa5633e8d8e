"""Counts, and sparse data of many features, through the whole of an estimator."""

import pickle

import numpy as np
import pytest
import torch
from helpers import small
from scipy import sparse
from sklearn.utils import estimator_checks, get_tags
from test_blocks import LargestTensor
from torch import nn

from sklearn_classvsc import (
    ClassVSCTransformer,
    VAETransformer,
    VSCTransformer,
    _blocks,
    _cross_fit,
    _data,
    _estimators,
)
from sklearn_classvsc._checkpoint import Checkpoint
from sklearn_classvsc._training import Training
from sklearn_classvsc.datasets import make_class_topics
from sklearn_classvsc.inspection import feature_effects, top_features

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
COUNTS = ["multinomial", "negative_binomial", "poisson"]
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
each_likelihood = pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", *COUNTS])
each_count = pytest.mark.parametrize("likelihood", COUNTS)


@pytest.fixture(scope="module")
def topics():
    return make_class_topics(400, 200, n_classes=4, length=40, random_state=0)


@pytest.fixture
def wide(monkeypatch):
    """Let 50 features be many, and a block hold few columns."""
    monkeypatch.setattr(_data, "WIDE", 50)
    monkeypatch.setattr(_blocks, "ELEMENTS", 5000)


def samples_for(likelihood, X):
    return (X > 0).astype(np.float32) if likelihood == "bernoulli" else X


# What stays sparse -----------------------------------------------------------------------------


@each_estimator
@each_likelihood
def test_a_wide_sparse_fit_is_the_dense_one(cls, likelihood, topics, wide, monkeypatch):
    """But for rounding, with nothing hidden, and the same standardisation and beginning."""
    X, y = samples_for(likelihood, topics.data), topics.target
    changes = {"likelihood": likelihood, "learning_rate": 1e-3, "max_epochs": 2}
    prior = cls._prior
    monkeypatch.setattr(cls, "_prior", lambda *args: prior(*args) | {"input_dropout": 0.0})
    monkeypatch.setattr(_cross_fit, "hide_features", lambda x, *args: x)
    monkeypatch.setattr(Training, "begin", lambda training, data: None)
    sparse_est = small(cls, **changes).fit(X, y)
    standardization = _data.Survey(moments=True).add(X).standardization()  # the dense one centres
    monkeypatch.setattr(_data.Survey, "standardization", lambda survey: standardization)
    dense_est = small(cls, **changes).fit(X.toarray(), y)
    np.testing.assert_allclose(sparse_est.history_, dense_est.history_, rtol=1e-3, atol=1e-3)
    for name in ("activation_proba", "score_samples"):
        of_sparse, of_dense = (
            getattr(est, name)(Z) for est, Z in ((sparse_est, X), (dense_est, X.toarray()))
        )
        np.testing.assert_allclose(of_sparse, of_dense, rtol=2e-3, atol=2e-3)


@each_likelihood
def test_neither_a_step_nor_a_score_makes_a_dense_batch(likelihood, topics, monkeypatch):
    monkeypatch.setattr(_data, "WIDE", 50)
    monkeypatch.setattr(_blocks, "ELEMENTS", 1000)
    narrow = {"n_folds": 2, "n_repeats": 1, "width": 4, "multilabel": False}
    monkeypatch.setattr(_estimators, "cross_fit_sizes", lambda *args: narrow)
    X, y = samples_for(likelihood, topics.data), topics.target
    est = small(ClassVSCTransformer, likelihood=likelihood, hidden_layer_sizes=(4,), max_epochs=1)
    with LargestTensor() as seen:
        est.fit(X, y)
        est.transform(X)
        est.score_samples(X)
    values = 4 * X.nnz  # those fetched of the first layer's output, and of indices
    assert seen.size <= values < X.shape[0] * X.shape[1]


def test_narrow_sparse_data_are_the_dense_ones_bit_for_bit(topics):
    X, y = topics.data, topics.target
    codes = [
        small(ClassVSCTransformer, likelihood="multinomial").fit(Z, y).transform(Z)
        for Z in (X, X.toarray())
    ]
    np.testing.assert_array_equal(*codes)


@each_estimator
def test_any_sparse_format_and_width_of_index_will_do(cls, topics, wide):
    X, y = topics.data, topics.target
    est = small(cls, likelihood="poisson", max_epochs=1).fit(X, y)
    Z, scores = est.transform(X), est.score_samples(X)
    long = X.copy()
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    shuffled = twice_and_unsorted(X)
    before = shuffled.indices.copy()
    for same in (long, sparse.csr_array(X), X.tocsc(), X.tocoo(), X.astype(np.float64), shuffled):
        np.testing.assert_array_equal(est.transform(same), Z)
        np.testing.assert_array_equal(est.score_samples(same), scores)
        np.testing.assert_array_equal(shuffled.indices, before)
    for same in (long, X.tocsc(), shuffled):
        again = small(cls, likelihood="poisson", max_epochs=1).fit(same, y)
        np.testing.assert_array_equal(again.transform(X), Z)


def twice_and_unsorted(X):
    """The same counts, in cells that come more than once and in no order."""
    rng, coo = np.random.default_rng(0), X.tocoo()
    repeated = np.repeat(np.arange(coo.nnz), coo.data)
    order = rng.permutation(repeated)
    order = order[np.argsort(coo.row[order], kind="stable")]
    starts = np.r_[0, np.bincount(coo.row[order], minlength=X.shape[0]).cumsum()]
    ones = np.ones(len(order), X.dtype)
    return sparse.csr_matrix((ones, coo.col[order], starts), shape=X.shape)


@each_likelihood
def test_a_sample_does_not_depend_on_those_beside_it(likelihood, topics, wide):
    X, y = samples_for(likelihood, topics.data), topics.target
    est = small(VSCTransformer, likelihood=likelihood, max_epochs=1).fit(X, y)
    for name in ("transform", "activation_proba", "score_samples"):
        whole = getattr(est, name)(X)
        for rows in (slice(0, 1), slice(50, 90)):
            part = getattr(est, name)(X[rows])
            np.testing.assert_allclose(part, whole[rows], rtol=1e-4, atol=1e-4)


def test_what_was_fitted_to_dense_data_takes_sparse_ones(topics, wide):
    X, y = topics.data, topics.target
    est = small(VSCTransformer, likelihood="gaussian").fit(X.toarray(), y)
    np.testing.assert_array_equal(est.transform(X), est.transform(X.toarray()))


def test_a_users_own_encoder_gets_dense_batches(topics, wide):
    class Dense(nn.Linear):
        def forward(self, x):
            assert not x.is_sparse
            return super().forward(x)

    body = Dense(200, 8)
    est = small(ClassVSCTransformer, encoder=body, likelihood="multinomial", max_epochs=1)
    est.fit(topics.data, topics.target)
    np.testing.assert_allclose(
        est.transform(topics.data), est.transform(topics.data.toarray()), rtol=1e-4, atol=1e-5
    )


def test_dense_results_of_many_features_are_made_a_few_rows_at_a_time(topics, monkeypatch):
    est = small(VAETransformer, likelihood="multinomial").fit(topics.data)
    Z = est.transform(topics.data)
    X_hat = est.inverse_transform(Z)
    monkeypatch.setattr(_data, "VALUES", 200 * 7)
    with LargestTensor() as seen:
        again = est.inverse_transform(Z)
    assert seen.size <= 200 * 16  # weights are larger than seven rows
    np.testing.assert_allclose(again, X_hat, rtol=1e-5)


# Counts ----------------------------------------------------------------------------------------


@each_estimator
@each_count
def test_decoded_samples_have_the_mean_total_of_the_training_data(cls, likelihood, topics):
    X, y = topics.data, topics.target
    weight = np.arange(len(y)) % 3
    est = small(cls, likelihood=likelihood).fit(X, y, sample_weight=weight)
    total = np.average(X.sum(axis=1).A1, weights=weight)
    for decoded in (est.inverse_transform(est.transform(X[:9])), est.sample(9)):
        np.testing.assert_allclose(decoded.sum(axis=1), total, rtol=1e-4)


@each_count
def test_a_new_model_starts_at_the_frequencies_of_the_features(likelihood, topics):
    X = topics.data
    est = small(VAETransformer, likelihood=likelihood, learning_rate=1e-9, max_epochs=1).fit(X)
    found = est.module_.decoder_head.bias.softmax(0).numpy()
    frequency = X.sum(axis=0).A1 / X.sum()
    seen = frequency > 0
    np.testing.assert_allclose(found[seen] / found[seen].sum(), frequency[seen], rtol=1e-4)


@pytest.mark.parametrize(
    "likelihood", [pytest.param(x, marks=[pytest.mark.slow] * (x != "poisson")) for x in COUNTS]
)
def test_it_learns_more_than_the_frequencies(likelihood):
    topics = make_class_topics(1500, 300, n_classes=4, background=0.2, random_state=0)
    X, y = topics.data, topics.target
    est = small(ClassVSCTransformer, likelihood=likelihood, n_components=12, max_epochs=40)
    est.fit(X[:1000], y[:1000])
    first = small(ClassVSCTransformer, likelihood=likelihood, learning_rate=1e-9, max_epochs=1)
    held_out = X[1000:]
    assert est.score(held_out) > first.fit(X[:1000], y[:1000]).score(held_out) + 20
    words = top_features(
        feature_effects(est, X, kind="presence").set_axis(topics.feature_names, axis=1),
        k=1,
        scale=1,
    )["feature"]
    assert words.str.startswith("t").mean() > 0.8  # of a topic, and not of the language


@each_count
def test_samples_of_nothing_are_no_harm(likelihood, topics, wide):
    X = topics.data.copy().tolil()
    X[::5] = 0
    for Z in (X.tocsr(), X.toarray()):
        est = small(ClassVSCTransformer, likelihood=likelihood).fit(Z, topics.target)
        assert np.isfinite(est.score_samples(Z)).all()
    only_zeros = small(VAETransformer, likelihood=likelihood).fit(sparse.csr_array((20, 60)))
    np.testing.assert_array_equal(only_zeros.inverse_transform(np.zeros((1, 6))), 0)


@each_count
def test_what_is_negative_is_no_count(likelihood, topics):
    X = topics.data.toarray() - 1
    with pytest.raises(ValueError, match=rf"X holds -1.*likelihood='{likelihood}'.*gaussian"):
        small(VAETransformer, likelihood=likelihood).fit(X)
    est = small(VAETransformer, likelihood=likelihood).fit(topics.data)
    with pytest.raises(ValueError, match="X holds -1"):
        est.partial_fit(X)


@each_count
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_positive_only_tag_during_fit,
        estimator_checks.check_estimator_sparse_array,
        estimator_checks.check_fit_idempotent,
        estimator_checks.check_methods_subset_invariance,
        estimator_checks.check_readonly_memmap_input,
    ],
)
def test_scikit_learn_knows_that_counts_are_positive(likelihood, check):
    assert get_tags(VAETransformer(likelihood=likelihood)).input_tags.positive_only
    assert not get_tags(VAETransformer()).input_tags.positive_only
    check("VSCTransformer", small(VSCTransformer, likelihood=likelihood))


@each_count
def test_fractions_and_other_dtypes_are_taken(likelihood, topics):
    X = topics.data.toarray()
    for Z in (X.astype(np.uint8), X > 0, X / X.max()):
        assert np.isfinite(small(VAETransformer, likelihood=likelihood).fit(Z).score(Z))


# Files -----------------------------------------------------------------------------------------


@each_estimator
@each_count
@pytest.mark.parametrize("via", ["file", "pickle"])
def test_a_copy_transforms_and_goes_on_identically(cls, likelihood, via, topics, wide, tmp_path):
    X, y = topics.data, topics.target
    est = small(cls, likelihood=likelihood).fit(X, y)
    if via == "file":
        est.save(tmp_path / "model")
        copy = cls.load(tmp_path / "model")
    else:
        copy = pickle.loads(pickle.dumps(est))
    for _ in range(2):
        for name in ("transform", "score_samples"):
            np.testing.assert_array_equal(getattr(copy, name)(X), getattr(est, name)(X))
        np.testing.assert_array_equal(copy.sample(3), est.sample(3))
        est.partial_fit(X, y)
        copy.partial_fit(X, y)
    if likelihood == "negative_binomial":
        learned = est.module_.likelihood.log_inverse_dispersion
        assert learned.shape == (200,)
        assert learned.abs().min() > 0
        torch.testing.assert_close(
            copy.module_.likelihood.log_inverse_dispersion, learned, rtol=0, atol=0
        )


def test_skops_keeps_it(topics, wide):
    skops = pytest.importorskip("skops.io")
    est = small(ClassVSCTransformer, likelihood="negative_binomial").fit(topics.data, topics.target)
    content = skops.dumps(est)
    again = skops.loads(content, trusted=skops.get_untrusted_types(data=content))
    np.testing.assert_array_equal(again.transform(topics.data), est.transform(topics.data))


def test_a_fit_resumes_bit_for_bit(topics, wide, tmp_path):
    changes = {"likelihood": "negative_binomial", "max_epochs": 4}
    whole = small(ClassVSCTransformer, **changes).fit(topics.data, topics.target)
    path = tmp_path / "fit"

    class InterruptError(Exception):
        pass

    write, seen = Checkpoint.write_if_cheap, []

    def stop_after_two(self, *args):
        write(self, *args)
        seen.append(1)
        if len(seen) == 2:
            raise InterruptError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptError):
        patch.setattr("sklearn_classvsc._checkpoint.INTERVAL", 0)
        patch.setattr(Checkpoint, "write_if_cheap", stop_after_two)
        small(ClassVSCTransformer, **changes).fit(topics.data, topics.target, checkpoint=path)
    resumed = small(ClassVSCTransformer, **changes)
    resumed.fit(topics.data, topics.target, checkpoint=path, resume=True)
    np.testing.assert_array_equal(resumed.transform(topics.data), whole.transform(topics.data))
