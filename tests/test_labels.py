"""Specification of the kinds of labels: indicators, hierarchies, quantities, few labels."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gate_examples import (
    SPLIT,
    Example,
    a_model,
    balanced,
    balanced_examples,
    examples,
    make_example,
    paper,
    quick,
    terms_of,
)
from helpers import covering, small
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning, VSCTransformer
from sklearn_classvsc._data import ArrayDataset, EvenBatches
from sklearn_classvsc._gates import class_gates, label_gates, recognition_loss
from sklearn_classvsc._spike_slab import SpikeSlab
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.editing import class_profile
from sklearn_classvsc.inspection import feature_effects, top_features, traverse
from sklearn_classvsc.labels import with_parents
from sklearn_classvsc.metrics import (
    class_contrast_score,
    consistency_scorer,
    contrast_scorer,
    probe_scorer,
)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def factors():
    return make_class_factors(300, 16, n_labels=2, n_shared=0, random_state=0)


def indicator_of(labels, n_classes):
    return labels[:, None] == torch.arange(n_classes)


def several(e, seed=0, p=0.5):
    """The same batch with labels drawn for each sample; some have none."""
    rng = np.random.default_rng(seed)
    members = torch.tensor(rng.uniform(size=(len(e.gamma), e.n_classes)) < p)
    return Example(**(vars(e) | {"labels": members}))


def random_profile(e, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.uniform(0.05, 0.95, size=(e.n_classes, e.d)))


# The objective, of several labels --------------------------------------------------------------


@pytest.mark.parametrize("is_balanced", [False, True])
@given(e=examples(n_classes=3))
@quick
def test_one_label_for_each_sample_is_its_class(e, is_balanced):
    members = indicator_of(e.labels, 3)
    of_classes = class_gates(e.gamma, e.labels, 3, e.normalised, is_balanced)
    of_labels = label_gates(e.gamma, members, e.normalised, random_profile(e), is_balanced)
    for name in of_classes._fields:
        torch.testing.assert_close(getattr(of_labels, name), getattr(of_classes, name), msg=name)


@pytest.mark.parametrize("objective", [paper, balanced])
@given(e=balanced_examples())
@quick
def test_one_label_for_each_sample_gives_the_terms_of_classes(e, objective):
    same = Example(**(vars(e) | {"labels": indicator_of(e.labels, 3)}))
    found, expected = (terms_of(each, objective) for each in (same, e))
    for name in expected:
        assert found[name].item() == pytest.approx(expected[name].item(), rel=1e-6, abs=1e-8), name


@quick
@given(examples(n_classes=4, n=12), st.integers(0, 2**32 - 1))
def test_label_gates_are_those_of_their_definition(e, seed):
    e, before = several(e, seed), random_profile(e, seed)
    gates = label_gates(e.gamma, e.labels, e.normalised, before)
    w, gamma, members, q = (x.numpy() for x in (e.normalised, e.gamma, e.labels, before))
    pi_c = np.zeros_like(q)
    for c in range(4):
        of_label = [i for i in range(len(w)) if members[i, c]]
        for i in of_label:
            cause = 1 - np.prod([1 - q[k] for k in range(4) if members[i, k]], axis=0)
            pi_c[c] += w[i] * gamma[i] * q[c] / cause
        pi_c[c] /= sum(w[i] for i in of_label) or 1
    open_ = np.zeros(e.d)
    for i in range(len(w)):
        on = 1 - np.prod([1 - pi_c[k] for k in range(4) if members[i, k]], axis=0)
        on = on if members[i].any() else gamma[i]  # without a label it is its own class
        on = np.clip(on, 1e-16, 1 - 1e-16)
        open_ -= w[i] * (gamma[i] * np.log(on) + (1 - gamma[i]) * np.log(1 - on))
    np.testing.assert_allclose(gates.pi_c, pi_c, atol=1e-9)
    np.testing.assert_allclose(gates.conditional_entropy, open_, atol=1e-9)
    np.testing.assert_allclose(gates.pi, w @ gamma, atol=1e-12)


@quick
@given(examples(n_classes=4), st.integers(0, 2**32 - 1))
def test_with_several_labels_the_split_is_as_exact(e, seed):
    e = several(e, seed)
    terms = terms_of(e)
    q = SpikeSlab(e.logits, torch.zeros_like(e.gamma), torch.zeros_like(e.gamma))
    spike = e.normalised @ q.spike_kl(e.alpha).sum(1)
    assert sum(terms[name] for name in SPLIT).item() == pytest.approx(spike.item(), abs=1e-9)
    assert terms["inconsistency"] >= -1e-9


@quick
@given(examples(n_classes=3, unlabeled=0, n=12), st.integers(0, 2**32 - 1))
def test_the_prediction_leaves_no_less_open_than_the_sets_of_labels(e, seed):
    e = several(e, seed)
    found = label_gates(e.gamma, e.labels, e.normalised, random_profile(e)).conditional_entropy
    sets = (e.labels.long() @ torch.tensor([1, 2, 4])) - 1  # -1 for none
    least = class_gates(e.gamma, sets, 7, e.normalised).conditional_entropy
    assert (found >= least - 1e-9).all()


def test_dimensions_of_labels_that_come_together_are_consistent():
    members = torch.tensor([[1, 0], [0, 1], [1, 1]] * 4).bool()
    gamma = members.double()  # a dimension for each label
    weight = torch.full((12,), 1 / 12, dtype=torch.float64)
    profile = torch.full((2, 2), 0.5, dtype=torch.float64)
    for _ in range(200):
        gates = label_gates(gamma, members, weight, profile)
        profile = gates.pi_c
    assert gates.conditional_entropy.sum() < 0.05
    torch.testing.assert_close(profile, torch.eye(2, dtype=torch.float64), atol=0.02, rtol=0)


@quick
@given(examples(n_classes=3, unlabeled=0))
def test_recognition_of_one_label_is_that_of_a_class(e):
    scores = torch.tensor(np.random.default_rng(0).normal(size=(len(e.gamma), 3)))
    of_class = recognition_loss(scores, e.labels, e.normalised)
    of_label = recognition_loss(scores, indicator_of(e.labels, 3), e.normalised)
    torch.testing.assert_close(of_label, of_class)


def test_recognition_compares_a_label_with_those_that_the_sample_has_not():
    scores = torch.tensor([[1.0, 5.0, 2.0], [0.0, 1.0, 0.0]])
    members = torch.tensor([[True, True, False], [False, False, False]])
    found = recognition_loss(scores, members, torch.tensor([0.25, 0.75])).item()
    p = [np.exp(s) / (np.exp(s) + np.exp(2)) for s in (1, 5)]
    assert found == pytest.approx(-0.25 * np.mean(np.log(p)), rel=1e-5)


@pytest.mark.parametrize("objective", [paper, balanced])
def test_gradients_of_the_terms_of_several_labels_equal_finite_differences(objective):
    e = several(make_example(n=9, n_classes=3, specific=True))
    e.logits = e.logits.clamp(-3, 3).requires_grad_()
    model = a_model(e, training=False)

    def function(logits):
        changed = Example(**(vars(e) | {"logits": logits}))
        return tuple(terms_of(changed, objective, model).values())[1:]

    assert torch.autograd.gradcheck(function, e.logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_several_labels_are_finite_where_gates_are_saturated(dtype):
    e = several(make_example(n=8, d=3, n_classes=3, specific=True))
    signs = torch.randint(0, 2, (8, 3), generator=torch.Generator().manual_seed(0)) * 2 - 1
    logits = (1e3 * signs).to(dtype).requires_grad_()
    profile = torch.tensor([[0, 1, 0.5]] * 3, dtype=dtype)
    gates = label_gates(torch.sigmoid(logits), e.labels, e.normalised.to(dtype), profile, True)
    (gradient,) = torch.autograd.grad(gates.conditional_entropy.sum() + gates.pi.sum(), logits)
    assert gates.conditional_entropy.isfinite().all() and gradient.isfinite().all()


# Indicators ------------------------------------------------------------------------------------


def test_a_fit_to_one_label_for_each_sample_is_that_to_classes(iris):
    X, y = iris
    members = (y[:, None] == np.arange(3)).astype(int)
    for objective in ("balanced", "paper"):
        a, b = (
            small(ClassVSCTransformer, max_epochs=2, objective=objective).fit(X, labels)
            for labels in (y, members)
        )
        np.testing.assert_allclose(a.activation_proba(X), b.activation_proba(X), atol=1e-3)
        np.testing.assert_allclose(a.sample(2, y=1).shape, b.sample(2, y=1).shape)


def test_containers_of_an_indicator_do_not_matter(factors):
    X, Y = factors.data, factors.target
    fits = [
        small(ClassVSCTransformer).fit(X, y)
        for y in (Y, Y.astype(bool), Y.tolist(), sparse.csr_matrix(Y), pd.DataFrame(Y))
    ]
    for est in fits:
        assert est.classes_.tolist() == [0, 1, 2, 3, 4]
        assert np.array_equal(est.transform(X), fits[0].transform(X))


def test_columns_name_the_labels_in_their_order(factors, tmp_path):
    X, names = factors.data, ["shoe", "boot", "red", "old", "dear"]
    Y = pd.DataFrame(factors.target, columns=names)
    est = small(ClassVSCTransformer).fit(X, Y)
    assert est.classes_.tolist() == names
    assert est.sample(3, y="boot").shape == (3, 16)
    est.save(tmp_path / "model")
    again = ClassVSCTransformer.load(tmp_path / "model")
    for each in (est, again):
        each.partial_fit(X, Y).partial_fit(X, factors.target)
    assert np.array_equal(est.transform(X), again.transform(X))
    with pytest.raises(ValueError, match=r"columns \['boot', 'dear'.*in this order"):
        est.partial_fit(X, Y[sorted(names)])


def test_a_row_of_zeros_is_a_sample_without_a_label(factors):
    X, Y = factors.data, factors.target.copy()
    Y[::2] = 0
    est = small(ClassVSCTransformer).fit(X, Y)
    assert np.isfinite(est.history_.to_numpy(float)).all()
    np.testing.assert_array_equal(est._fitted.model.summary.n_samples, Y.sum(0))


def test_pieces_of_an_indicator_are_those_of_the_whole(factors):
    X, Y = factors.data.astype(np.float32), factors.target
    pieces = small(ClassVSCTransformer, max_epochs=1).fit(
        lambda: [(X[:150], Y[:150]), (X[150:], Y[150:])]
    )
    assert pieces.classes_.tolist() == [0, 1, 2, 3, 4]
    chunks = small(ClassVSCTransformer)
    for rows in (slice(150), slice(150, None)):
        chunks.partial_fit(X[rows], Y[rows], classes=list("abcde"))
    assert chunks.classes_.tolist() == list("abcde")


def test_a_fit_to_an_indicator_goes_on_from_its_checkpoint(factors, tmp_path):
    X, Y = factors.data, pd.DataFrame(factors.target, columns=list("edcba"))
    path = tmp_path / "file"
    est = small(ClassVSCTransformer).fit(X, Y, checkpoint=path)
    again = small(ClassVSCTransformer).fit(X, Y, checkpoint=path, resume=True)
    assert np.array_equal(again.transform(X), est.transform(X))
    with pytest.raises(ValueError, match=r"other parameters or data: y"):
        again.fit(X, Y.replace({0: 1}), checkpoint=path, resume=True)


def test_early_stopping_and_weights_take_an_indicator(factors):
    X, Y = factors.data, factors.target
    weight = np.arange(len(X)) % 3
    est = small(ClassVSCTransformer, early_stopping=True).fit(X, Y, sample_weight=weight)
    assert est._fitted.model.summary.n_samples.max() <= Y[weight > 0].sum(0).max()


@pytest.mark.parametrize(
    "params, y, message",
    [
        ({}, [[0, 2]] * 10, r"y has the shape \(10, 2\) and holds 2.*indicator"),
        ({}, [[0.5, 1.0]] * 10, r"holds 0\.5.*MultiLabelBinarizer"),
        ({}, [[0, 1]] * 10, r"at least 2 classes, but only 1 of the 2 labels"),
        ({}, [[0, 1]] * 9, r"X has 10 and y 9"),
        ({"unlabeled": -1}, [[0, 1], [1, 0]] * 5, r"unlabeled=-1 works with one label"),
        (
            {"objective": "paper", "consistency": "pairwise"},
            [[0, 1], [1, 0]] * 5,
            r"consistency='pairwise' works with one label",
        ),
        ({}, pd.DataFrame([[0, 1], [1, 0]] * 5, columns=["a", "a"]), r"a different name for each"),
    ],
)
def test_bad_indicators_are_named(params, y, message):
    with pytest.raises(ValueError, match=message):
        small(ClassVSCTransformer, **params).fit(np.random.default_rng(0).normal(size=(10, 3)), y)


def test_what_a_sample_has_stays_one_label_or_several(iris):
    X, y = iris
    members = (y[:, None] == np.arange(3)).astype(int)
    with pytest.raises(ValueError, match=r"several labels.* fitted to one label"):
        small(ClassVSCTransformer).fit(X, y).partial_fit(X, members)
    with pytest.raises(ValueError, match=r"one label.* fitted to several labels"):
        small(ClassVSCTransformer).fit(X, members).partial_fit(X, y)


# Classes and their groups ----------------------------------------------------------------------


def test_groups_are_columns_beside_their_classes():
    y = ["poodle", "pug", "cat", "?"]
    parents = {"poodle": "dog", "pug": "dog", "dog": "pet", "cat": "pet"}
    found = with_parents(y, parents, unlabeled="?")
    expected = pd.DataFrame(
        {"cat": [0, 0, 1, 0], "poodle": [1, 0, 0, 0], "pug": [0, 1, 0, 0],
         "pet": [1, 1, 1, 0], "dog": [1, 1, 0, 0]}
    )  # fmt: skip
    pd.testing.assert_frame_equal(found[expected.columns], expected, check_dtype=False)
    assert set(found) == set(expected)


def test_groups_may_have_names_of_another_type_than_classes(iris, tmp_path):
    X, y = iris
    est = small(ClassVSCTransformer).fit(X, with_parents(y, {1: "v", 2: "v"}))
    assert est.classes_.tolist() == [0, 1, 2, "v"]
    est.save(tmp_path / "model")
    assert ClassVSCTransformer.load(tmp_path / "model").sample(2, y="v").shape == (2, 4)


@pytest.mark.parametrize(
    "container", [lambda y: [[label] for label in y], pd.Series, pd.Categorical, pd.DataFrame]
)
def test_groups_of_labels_in_any_container(container):
    found = with_parents(container(["boot", "?", "shirt"]), {"boot": "shoe"}, unlabeled="?")
    assert found.to_dict("list") == {"boot": [1, 0, 0], "shirt": [0, 0, 1], "shoe": [1, 0, 0]}


def test_groups_are_of_one_class_of_each_sample():
    with pytest.raises(ValueError, match=r"y is an indicator of 2 labels.* pass a vector"):
        with_parents([[1, 0], [0, 1]], {})


def test_a_circle_of_groups_is_named():
    with pytest.raises(ValueError, match=r"'a' in a circle, a -> b -> a"):
        with_parents(["a"], {"a": "b", "b": "a"})


# A quantity ------------------------------------------------------------------------------------


def test_a_continuous_y_asks_for_bins(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"continuous.*pd\.qcut\(y, 5, labels=False\)"):
        small(ClassVSCTransformer).fit(X, y + 0.5 * X[:, 0])
    bins = pd.qcut(y + 0.5 * X[:, 0], 5, labels=False)
    assert small(ClassVSCTransformer).fit(X, bins).classes_.tolist() == [0, 1, 2, 3, 4]


# Few labels ------------------------------------------------------------------------------------


def test_a_quarter_of_a_batch_has_labels():
    labeled = np.array([3, 500, 900])
    batches = list(EvenBatches(1000, 100, torch.Generator().manual_seed(0), labeled=labeled))
    assert len(batches) == 10
    for batch in batches:
        assert (np.diff(batch) >= 0).all() and len(batch) == 125
        assert 25 <= np.isin(batch, labeled).sum() <= 28
    assert set(np.unique(np.concatenate(batches))) == set(range(1000))
    parts = [
        list(EvenBatches(1000, 100, torch.Generator().manual_seed(0), (i, 2), labeled))
        for i in range(2)
    ]
    for whole, *both in zip(batches, *parts, strict=True):
        assert np.array_equal(np.concatenate(both), whole)


@pytest.mark.parametrize("n_labeled", [0, 25, 100])
def test_batches_are_as_ever_where_no_label_or_enough_are(n_labeled):
    data = ArrayDataset(np.zeros((100, 1)), np.where(np.arange(100) < n_labeled, 0, -1))
    plain, same = (
        list(EvenBatches(100, 30, torch.Generator().manual_seed(0), labeled=labeled))
        for labeled in (None, data.labeled_rows)
    )
    assert all(map(np.array_equal, plain, same))


def test_unlabeled_changes_nothing_where_all_have_labels(iris):
    X, y = iris
    a = small(ClassVSCTransformer).fit(X, y)
    b = small(ClassVSCTransformer, unlabeled=-1).fit(X, y)
    assert np.array_equal(a.transform(X), b.transform(X))


def test_few_labels_keep_their_classes_apart():
    """On clusters, five labels of each do what all do, and far more than they alone."""
    X, y = make_class_factors(2000, 32, n_classes=4, n_shared=0, return_X_y=True, random_state=0)
    few = np.full(1000, -1)
    for c in range(4):
        few[np.flatnonzero(y[:1000] == c)[:5]] = c
    est = small(ClassVSCTransformer, unlabeled=-1, n_components=8, max_epochs=60)
    est.fit(X[:1000], few)
    assert contrast_scorer(est, X[1000:], y[1000:]) > 0.5


# What judges a fit reads y as the fit did -------------------------------------------------------

SCORERS = {"consistency": consistency_scorer, "contrast": contrast_scorer, "probe": probe_scorer}
#: What takes (estimator, X, y) and gives numbers, the same whatever the classes are called.
READERS = SCORERS | {
    "profile": lambda est, X, y: np.hstack(class_profile(est, X, y)[2:]),
    "effects": lambda est, X, y: feature_effects(est, X, y).to_numpy(),
    "top": lambda est, X, y: top_features(feature_effects(est, X, y))["relative_effect"],
    "traversal": lambda est, X, y: (
        traverse(est, X, y, dimension=0, label=est.classes_[0], quantiles=(0, 1)).X_hat
    ),
}
#: One label for each sample, in what `fit` takes.
CONTAINERS = {
    "array": np.asarray,
    "list": np.ndarray.tolist,
    "column": lambda y: y[:, None],
    "frame": lambda y: pd.DataFrame({"kind": y}),
    "series": lambda y: pd.Series(y, index=np.arange(len(y))[::-1]),
    "categorical": pd.Categorical,
    "nullable": lambda y: pd.Series(y).convert_dtypes(),
}


@pytest.fixture(scope="module", params=["numbers", "strings"])
def partly(request, iris):
    """An estimator, X, y with the labels of some samples, and which samples these are."""
    X, y = iris
    names, none = (range(3), -1) if request.param == "numbers" else ([*"abc"], "?")
    labeled = np.random.default_rng(0).random(150) < 0.3
    y = np.where(labeled, np.array(names)[y], none)
    est = small(ClassVSCTransformer, unlabeled=none, max_epochs=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return est.fit(X, y), X, y, labeled


@pytest.mark.parametrize(("reader", "container"), covering(READERS, CONTAINERS))
def test_samples_without_a_label_are_left_out_in_any_container(partly, reader, container):
    est, X, y, labeled = partly
    expected = READERS[reader](est, X[labeled], y[labeled])
    found = READERS[reader](est, X, CONTAINERS[container](y))
    assert np.isfinite(expected).any()
    np.testing.assert_array_equal(found, expected)


def test_objects_are_read_as_what_they_are(partly):
    est, X, y, labeled = partly
    expected = contrast_scorer(est, X[labeled], y[labeled])
    assert contrast_scorer(est, X, y.astype(object)) == expected
    assert contrast_scorer(PCA(2).fit(X), X, y.astype(object)) == 0


#: What spoils y, given it and what means "no label" in it, and the message that comes of it.
SPOILT = {
    "no label": (
        lambda y, none: np.full(150, none),
        r"y holds no label: its 150 .*unlabeled=.*fewer folds",
    ),
    "short": (lambda y, none: y[:9], "inconsistent numbers of samples: X has 150 and y 9"),
    "None": (lambda y, none: [*y[:-1].tolist(), None], "y holds (None|nan), which is not a label"),
    "lists": (
        lambda y, none: [[1, 2], [1]] * 75,
        "y is not an array of labels .*MultiLabelBinarizer",
    ),
    "3-D": (lambda y, none: np.ones((150, 2, 2)), r"y has the shape \(150, 2, 2\), but must be"),
}


@pytest.mark.parametrize(("reader", "spoilt"), covering(READERS, SPOILT))
def test_labels_that_cannot_be_read_are_named(partly, reader, spoilt):
    est, X, y, _ = partly
    spoil, message = SPOILT[spoilt]
    with pytest.raises(ValueError, match=message):
        READERS[reader](est, X, spoil(y, est.unlabeled))


@pytest.mark.parametrize("scorer", SCORERS.values())
def test_scorers_ask_for_labels(partly, scorer):
    with pytest.raises(ValueError, match="y is None, but labels are needed"):
        scorer(*partly[:2], None)


def test_the_part_that_takes_labels_says_which_are_none(partly, iris):
    """It may be a step, one of several transformers, frozen, or what a search has found."""
    est, X, y, labeled = partly
    kind = small(ClassVSCTransformer, unlabeled=est.unlabeled)
    search = GridSearchCV(kind, {"alpha": [0.4]}, scoring=contrast_scorer, cv=StratifiedKFold(2))
    for whole in (
        make_pipeline(StandardScaler(), kind),
        make_pipeline(kind, MaxAbsScaler()),
        make_union(kind, PCA(2)),
        search,
        make_pipeline(StandardScaler(), search),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            whole.fit(X, y)
        expected = consistency_scorer(whole, X[labeled], y[labeled])
        assert consistency_scorer(whole, X, y) == expected
        assert consistency_scorer(FrozenEstimator(whole), X, y) == expected


def test_a_search_scores_the_labeled_samples_of_each_fold(partly):
    est, X, y, labeled = partly
    est = clone(est).set_params(max_epochs=10)
    ((train, test), _) = folds = [*StratifiedKFold(2).split(X, y)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        search = GridSearchCV(
            est, {"alpha": [0.4]}, scoring=SCORERS, refit=False, cv=folds, error_score="raise"
        ).fit(X, y)
        est.set_params(alpha=0.4).fit(X[train], y[train])
    test = test[labeled[test]]
    for name, scorer in SCORERS.items():
        assert search.cv_results_[f"split0_test_{name}"][0] == scorer(est, X[test], y[test])


def test_a_fold_without_labels_counts_as_failed(partly):
    est, X, y, labeled = partly
    folds = [(np.arange(150), np.flatnonzero(~labeled)), (np.arange(150), np.arange(150))]
    with pytest.warns(UserWarning, match="y holds no label"):
        scores = cross_validate(
            clone(est).set_params(max_epochs=3), X, y, cv=folds, scoring=SCORERS
        )
    for name in SCORERS:
        assert np.isnan(scores[f"test_{name}"]).tolist() == [True, False]


def test_a_class_that_the_fit_has_not_seen_is_scored_like_others(iris):
    X, y = iris
    est = small(ClassVSCTransformer).fit(X[:100], y[:100])
    assert contrast_scorer(est, X, y) == class_contrast_score(est.transform(X), y)
    assert class_profile(est, X, y).classes.tolist() == [0, 1, 2]


def test_scorers_take_the_indicator_without_its_rows_of_zeros(factors):
    X, y = factors.data, pd.DataFrame(factors.target, columns=[*"abcde"])
    y[::3] = 0
    est = small(ClassVSCTransformer).fit(X, y)
    kept = y.any(axis=1).to_numpy()
    for scorer in (consistency_scorer, contrast_scorer):
        expected = scorer(est, X[kept], y[kept])
        for container in (y, y.to_numpy(), sparse.csr_array(y), y.to_numpy().tolist()):
            assert scorer(est, X, container) == expected
        with pytest.raises(ValueError, match="y holds no label: its 300 entries are rows of zeros"):
            scorer(est, X, y * 0)
    for reader in ("probe", "profile", "effects", "traversal"):
        with pytest.raises(ValueError, match="one column of the indicator"):
            READERS[reader](est, X, y)


def test_what_takes_no_labels_leaves_none_out(iris):
    X, y = iris
    y = np.where(np.arange(150) % 3, y, -1)
    for est in (small(VSCTransformer).fit(X, y), PCA(2).fit(X)):
        Z = est.transform(X)
        for container in CONTAINERS.values():
            assert contrast_scorer(est, X, container(y)) == class_contrast_score(Z, y)


def test_labels_of_reads_labels_as_fit_does(partly):
    est, _, y, _ = partly
    for container in CONTAINERS.values():
        np.testing.assert_array_equal(est.labels_of(container(y)), y)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        est.labels_of(y[0])


def test_labels_of_an_indicator_are_its_columns(factors):
    y = pd.DataFrame(factors.target, columns=[*"abcde"])
    est = small(ClassVSCTransformer).fit(factors.data, y)
    for container in (y, sparse.csr_array(y), y.to_numpy().astype(bool)):
        np.testing.assert_array_equal(est.labels_of(container), factors.target)


# The page --------------------------------------------------------------------------------------


def test_the_page_on_labels_runs(capsys):
    page = (Path(__file__).parents[1] / "docs" / "labels.md").read_text(encoding="utf-8")
    namespace = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
            exec(compile(code, "labels.md", "exec"), namespace)
    assert "['red' 'old' 'tall' 'dear']" in capsys.readouterr().out
    assert namespace["tall"].shape == (5, 64) and namespace["new"].shape == (3, 64)
    assert namespace["ordinal"] > 0 and namespace["score"] > 0


AS_NONE = {  # y, and values that mean "no label" in another type than it has
    "integers": (np.array([0, 1, -1] * 4), ["-1", True, -1.5, b"-1", 2**70, {}]),
    "unsigned": (np.array([0, 1, 255] * 4, np.uint8), [-1, 256]),
    "floats": (np.array([0.0, 1, -1] * 4), ["-1", "-1.0", True]),
    "booleans": (np.array([True, False] * 6), [-1, 0, "False"]),
    "strings": (np.array(["a", "b", "-1"] * 4), [-1, -1.0, b"-1"]),
    "objects": (np.array(["a", "b", "-1"] * 4, object), [-1, -1.0, b"-1"]),
    "mixed": (np.array(["a", "b", -1] * 4, object), ["-1", "-1.0"]),
}
WAYS = ["fit", "partial_fit", "source"]


@pytest.mark.parametrize(
    "case, way",
    covering([(k, u) for k, (_, us) in AS_NONE.items() for u in us], WAYS),
    ids=str,
)
def test_no_label_in_another_type_than_y_is_refused(case, way):
    kind, unlabeled = case
    y, _ = AS_NONE[kind]
    X = np.arange(36.0).reshape(12, 3)
    est = small(ClassVSCTransformer, unlabeled=unlabeled)
    with pytest.raises(ValueError, match=r"unlabeled=.* cannot be in y"):
        est.fit(lambda: [(X, y)]) if way == "source" else getattr(est, way)(X, y)


@pytest.mark.parametrize(
    "y, unlabeled, n, pieces",
    [
        (np.array([0, 1, -1] * 4), -1.0, 2, False),
        (np.array([0, 1, -1] * 4), np.int8(-1), 2, True),
        (np.array([0.0, 1, -1] * 4), -1, 2, False),
        (np.array(["a", "b", ""] * 4), np.str_(""), 2, True),
        (np.array(["a", "b", -1] * 4, object), -1, 2, True),
        (np.array(["a", "b", "c"] * 4, object), -1, 3, False),
        (np.array(["a", "b"] * 6), "unlabeled", 2, True),
        (np.array([0, 1, 2] * 4), -1, 3, False),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
def test_no_label_is_found_where_y_can_hold_it(y, unlabeled, n, pieces):
    X = np.arange(36.0).reshape(12, 3)
    est = small(ClassVSCTransformer, max_epochs=1, unlabeled=unlabeled)
    est = est.fit(lambda: [(X, y)]) if pieces else est.fit(X, y)
    assert len(est.classes_) == n and unlabeled not in est.classes_.tolist()


@pytest.mark.parametrize(
    "classes, message",
    [
        ([-1, 0, 1], "classes holds -1, which means no label by unlabeled=-1"),
        ([0, 1, np.nan], "classes holds nan, which is not a label"),
        ([0, 1, None], "classes holds None, which is not a label"),
        ([[0, 1]], "must be a list or a 1-d array of labels"),
        ({0, 1}, "must be a list or a 1-d array of labels"),
        (["0", "1"], "y holds the label 0, which is not one of the classes"),
    ],
)
def test_classes_are_a_list_of_labels(classes, message):
    est = small(ClassVSCTransformer, unlabeled=-1)
    with pytest.raises(ValueError, match=message):
        est.partial_fit(np.zeros((3, 2)), [0, 1, -1], classes=classes)


def test_parents_take_no_label_in_the_type_of_y_only():
    assert with_parents([0, 1, -1], {}, unlabeled=-1).columns.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"unlabeled='-1'.* cannot be in y"):
        with_parents([0, 1, -1], {}, unlabeled="-1")


@pytest.mark.parametrize("dtype", ["category", "boolean", object])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
def test_booleans_of_pandas_stay_booleans(dtype, bare):
    """scikit-learn makes numbers of them, and `unlabeled=False` is none."""
    y = pd.Series(np.arange(30) % 3 > 0, dtype=dtype)
    X = np.random.default_rng(0).normal(size=(30, 2))
    est = ClassVSCTransformer(max_epochs=1).fit(X, y.array if bare else y)
    assert est.classes_.dtype == bool


# -- labels that are none ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(["a", "b", pd.NA] * 20, dtype="string"),
        np.array(["a", "b", np.nan] * 20, dtype=object),
    ],
    ids=["string", "object"],
)
def test_a_missing_label_is_named(y):
    X = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(ValueError, match=r"holds .* not a label \(20 of 60 labels are missing\)"):
        small(ClassVSCTransformer).fit(X, y)


def test_later_chunks_name_the_same_classes_or_none():
    X, y = load_iris(return_X_y=True)
    est = small(ClassVSCTransformer).partial_fit(X, y, classes=[0, 1, 2])
    est.partial_fit(X, y, classes=[2, 1, 0]).partial_fit(X, y)
    before = est.transform(X)
    with pytest.raises(ValueError, match=r"classes=\[0, 1\], but the estimator knows the classes"):
        est.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_array_equal(est.transform(X), before)
