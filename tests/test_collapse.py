"""The summary of what classes use of a code, and the warnings of what is wrong with it."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import covering, small
from sklearn.datasets import load_iris

from sklearn_classvsc import (
    ClassVSCTransformer,
    CollapseWarning,
    GeneralizationWarning,
    VSCTransformer,
)
from sklearn_classvsc._collapse import ClassSampler, summarize, warn_of_collapse, warn_of_gap
from sklearn_classvsc._data import ArrayDataset

rng = np.random.default_rng(0)
X, Y = rng.random((60, 3)).astype(np.float32), np.arange(60) % 3
quiet = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")

N = 3000
ORDERS = {
    "sorted": np.repeat([0, 1, 2], N // 3),
    "interleaved": np.arange(N) % 3,
    "periodic": np.arange(N) // 50 % 3,
    "shuffled": rng.integers(0, 3, N),
    "one rare": np.where(np.arange(N) % 600 == 7, 2, np.arange(N) % 2),
}


def large():
    """Return an estimator for which many samples are no work."""
    return small(ClassVSCTransformer, max_epochs=1, batch_size=8192)


@pytest.mark.parametrize("several", [False, True], ids=["labels", "indicator"])
@pytest.mark.parametrize(("order", "piece"), covering(ORDERS, [N, 100, 7]))
def test_every_class_has_its_share_whatever_the_order_of_rows(order, several, piece):
    labels, n_each = ORDERS[order], 200
    sampler, found = ClassSampler(3, n_each), []
    for start in range(0, N, piece):
        part = labels[start : start + piece]
        rows, weight = sampler.pick(part[:, None] == np.arange(3) if several else part)
        found += zip(part[rows], weight, strict=True)
    drawn, weights = np.array([c for c, _ in found]), np.array([w for _, w in found])
    for c, n in enumerate(np.bincount(labels)):
        if n <= n_each:
            assert (drawn == c).sum() == n
        assert (drawn == c).sum() >= min(n, n_each) * 0.75
        np.testing.assert_allclose(weights[drawn == c].sum(), n, rtol=0.3)


def test_samples_without_a_label_are_never_picked():
    rows, weight = ClassSampler(2, 100).pick(np.array([-1, 1, -1, 0]))
    assert rows.tolist() == [1, 3] and weight.tolist() == [1, 1]
    assert not ClassSampler(2, 100).pick(np.zeros((4, 2), bool))[0].size


def test_the_summary_of_many_samples_is_about_that_of_all():
    model = small(ClassVSCTransformer, max_epochs=1).partial_fit(X, Y).module_
    x, labels = rng.random((30_000, 3)), np.arange(30_000) % 3
    found = summarize(model, ArrayDataset(x, labels), 0.5, 3)
    parts = [ArrayDataset(x[rows], labels[rows]) for rows in np.split(np.arange(30_000), 10)]
    whole = sum(
        (summarize(model, part, 0.5, 3) for part in parts[1:]), summarize(model, parts[0], 0.5, 3)
    )
    for c in range(3):
        for a, b in zip(found.moments(c), whole.moments(c), strict=True):
            np.testing.assert_allclose(a, b, atol=0.05)


@quiet
@pytest.mark.parametrize(("source", "rare"), [(True, False), (False, True)])
def test_every_class_of_many_samples_can_be_drawn(source, rare):
    n = 20_000
    x = rng.random((n, 3)).astype(np.float32)
    y = (
        np.isin(np.arange(n), [3, 501, 8002, 15_003, 19_999]).astype(int)
        if rare
        else np.arange(n) % 2
    )
    pieces = (lambda: [(x[:7000], y[:7000]), (x[7000:], y[7000:])],)
    est = large().fit(*pieces if source else (x, y))
    for c in (0, 1):
        assert len(np.unique(est.sample(50, y=c), axis=0)) > 10


def test_a_collapse_is_seen_in_many_interleaved_samples():
    x, y = rng.random((20_000, 3)).astype(np.float32), np.arange(20_000) % 2
    with pytest.warns(CollapseWarning, match="in one class than in another"):
        large().fit(x, y)


@quiet
def test_a_class_without_samples_keeps_its_summary_in_a_warm_start():
    est = small(ClassVSCTransformer, warm_start=True).fit(X, Y)
    before = est.sample(9, y=2)
    est.fit(X[Y < 2], Y[Y < 2])
    after = est.sample(9, y=2)
    assert len(np.unique(before, axis=0)) > 1 and len(np.unique(after, axis=0)) > 1


@quiet
@pytest.mark.parametrize("how", ["named", "weight 0", "unlabeled"])
def test_a_class_of_which_no_sample_has_come_cannot_be_drawn(how):
    est = small(ClassVSCTransformer, unlabeled=-1)
    y, weight = Y.copy(), np.ones(len(Y))
    if how == "weight 0":
        weight[Y == 2] = 0
    else:
        y[Y == 2] = -1 if how == "unlabeled" else 0
    est.partial_fit(X, y, classes=[0, 1, 2], sample_weight=weight)
    with pytest.raises(ValueError, match="y=2 is a class without labeled samples"):
        est.sample(y=2)
    est.partial_fit(X, Y)
    assert np.isfinite(est.sample(3, y=2)).all()


def test_the_check_names_classes_without_samples_and_judges_the_others():
    est = small(ClassVSCTransformer, warm_start=True).partial_fit(X, Y % 2, classes=[0, 1, 7])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.warns(
            CollapseWarning, match=r"says little .*1 of 3 classes, the first 7, have no labeled"
        ):
            est.fit(X, Y % 2)


def test_classes_without_samples_hide_no_collapse():
    p = np.array([[0.0, 0.1], [np.nan, np.nan], [0.0, 0.1]])
    said = r"2 of 2 classes.*Unused dimensions: 1 of 2.*1 of 3 classes"
    with pytest.warns(CollapseWarning, match=said):
        warn_of_collapse(p, np.array(list("abc")))


@quiet
def test_a_fit_afresh_forgets_the_classes_of_the_last():
    est = small(ClassVSCTransformer, max_epochs=1).fit(iter([(X, Y % 2)]))
    est.fit(iter([(X, Y)]))
    assert est.classes_.tolist() == [0, 1, 2]
    assert np.isfinite(est.sample(3, y=2)).all()


@pytest.mark.parametrize("y", [[0, 1], "0", 5, None], ids=str)
def test_only_one_class_can_be_drawn(y):
    est = small(ClassVSCTransformer).partial_fit(X, Y)
    if y is None:
        assert est.sample(2).shape == (2, 3)
    else:
        with pytest.raises(ValueError, match="not a class that the estimator knows"):
            est.sample(y=y)


# What holds on new samples ---------------------------------------------------------------------


@pytest.fixture
def flowers():
    return load_iris(return_X_y=True)


def noise(n=200, seed=0):
    """Samples whose labels have nothing to do with them."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 6)), rng.integers(0, 3, n)


@quiet
def test_labels_that_mean_nothing_are_warned_of():
    X, y = noise()
    with pytest.warns(GeneralizationWarning, match=r"no better than chance.*Check the labels"):
        ClassVSCTransformer(6, max_epochs=100, random_state=0).fit(X, y)


@quiet
def test_chance_is_that_of_the_shares_of_the_classes():
    X, _ = noise()
    y = np.random.default_rng(1).choice(2, len(X), p=[0.9, 0.1])
    with pytest.warns(GeneralizationWarning, match="no better than chance"):
        ClassVSCTransformer(6, max_epochs=100, random_state=0).fit(X, y)


@quiet
def test_what_holds_is_said_of_the_last_training_alone(flowers):
    X, y = flowers
    est = ClassVSCTransformer(6, max_epochs=60, warm_start=True, random_state=0).fit(X, y)
    before = est.generalization_.loc["recognition", "held_out"]
    shuffled = np.random.default_rng(0).permutation(y)
    with pytest.warns(GeneralizationWarning):
        est.fit(X, shuffled)
    assert est.generalization_.loc["recognition", "held_out"] > 2 * before
    again = pickle.loads(pickle.dumps(est))
    pd.testing.assert_frame_equal(again.generalization_, est.generalization_)
    est.partial_fit(X, y)
    last = est.history_["held_out_recognition"].iloc[-1]
    assert est.generalization_.loc["recognition", "held_out"] == last


def test_gates_that_learn_by_heart_are_warned_of_if_samples_are_held_out():
    row = {"train_loss": 1.0, "valid_loss": 2.0, "recognition": 0.1, "valid_recognition": 0.9}
    with pytest.warns(GeneralizationWarning, match=r"far worse .*0\.9 nats.*use the default"):
        warn_of_gap([row], n_samples=np.ones(3), multilabel=False)


def test_classes_that_separate_are_not_warned_of(flowers):
    with warnings.catch_warnings():
        warnings.simplefilter("error", GeneralizationWarning)
        ClassVSCTransformer(6, max_epochs=100, random_state=0).fit(*flowers)


def test_held_out_terms_stand_beside_those_of_training(flowers):
    est = VSCTransformer(4, max_epochs=30, early_stopping=True, random_state=0).fit(flowers[0])
    best = est.history_["valid_loss"].argmin()
    found = est.generalization_
    assert list(found.columns) == ["training", "held_out"]
    assert {"loss", "reconstruction", "slab_kl"} <= set(found.index)
    assert found.loc["loss", "held_out"] == est.history_["valid_loss"][best]
    assert found.loc["loss", "training"] == est.history_["train_loss"][best]
    assert VSCTransformer(4, max_epochs=2, random_state=0).fit(flowers[0]).generalization_.empty


def test_silent_dimensions_are_unused_and_no_collapse():
    p = np.array([[0.9, 0.0, 0.0], [0.0, 0.9, 0.0]])
    with pytest.warns(CollapseWarning, match=r"^Unused dimensions: 1 of 3\."):
        warn_of_collapse(p, np.arange(2))
