"""Specification of the gates that follow the class: folds, branches, and what they leave open."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc._blocks import coo
from sklearn_classvsc._cross_fit import CrossFittedGates, cross_fit_sizes, strength
from sklearn_classvsc.metrics import class_contrast_score

quick = settings(max_examples=30, deadline=None)


def gates(p=6, n_classes=3, d=4, folds=5, repeats=2, multilabel=False, seed=0):
    """Gates whose weights are drawn, linear parts too."""
    made = CrossFittedGates(p, n_classes, d, folds, repeats, 8, multilabel)
    generator = torch.Generator().manual_seed(seed)
    made.initialize(torch.tensor([0.9, 0.3, 0.3, 0.3][:d]), generator)
    torch.nn.init.normal_(made.first.weight, generator=generator)
    return made.eval()


def samples(n=40, p=6, seed=0):
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed))


def overlapping(seed=0, n=600):
    """Classes that no classifier tells apart, and a fifth of whose labels are wrong."""
    sizes = {"n_features": 12, "n_informative": 6, "n_classes": 3, "class_sep": 0.7}
    X, y = make_classification(n, **sizes, flip_y=0.2, random_state=seed)
    return train_test_split(X, y, test_size=0.4, stratify=y, random_state=seed)


# Folds -----------------------------------------------------------------------------------------


def test_a_fold_follows_from_the_sample_alone():
    made, x = gates(), samples()
    folds = made.folds(x)
    assert folds.shape == (40, 2) and folds.min() >= 0 and folds.max() < 5
    assert all(torch.equal(made.folds(x[i : i + 1])[0], folds[i]) for i in range(40))
    assert torch.equal(gates(seed=7).folds(x), folds)  # whatever the weights are


def test_folds_are_about_as_large():
    counts = torch.bincount(gates().folds(samples(5000))[:, 0])
    assert counts.min() > 800 and counts.max() < 1200


def test_sparse_samples_are_in_the_folds_of_dense_ones():
    made, x = gates(), samples().relu()
    cells = x.nonzero().T
    assert torch.equal(made.folds(coo(cells, x[tuple(cells)], x.shape)), made.folds(x))


def test_samples_that_are_not_finite_have_a_fold():
    x = torch.tensor([[np.nan] * 6, [np.inf] * 6])
    assert gates().folds(x).min() >= 0


def test_folds_stay_when_the_scales_of_the_features_change():
    made, x = gates(), samples(2000)
    shift, scale = samples(2, seed=1)
    before = made.folds(x)
    made.rescale(shift, scale.exp())
    assert (made.folds((x - shift) / scale.exp()) == before).float().mean() > 0.999


def test_chunks_that_change_scales_leave_samples_in_their_folds():
    """Else a branch would speak for what it has learned."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 10)) * np.linspace(1, 20, 400)[:, None], np.arange(400) % 2
    est = ClassVSCTransformer(4, random_state=0)

    def folds():
        scaled = est._fitted.model.standardization.apply(X[:40])
        return est.module_.gates.folds(torch.tensor(scaled, dtype=torch.float32))

    first = est.partial_fit(X[:40], y[:40]) and folds()
    assert (est.partial_fit(X[200:], y[200:]) and folds() == first).float().mean() > 0.99


# Branches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folds", "repeats"), [(5, 2), (3, 1), (2, 1)])
def test_no_branch_speaks_for_a_sample_that_it_may_learn_from(folds, repeats):
    scores = gates(folds=folds, repeats=repeats)(samples())
    assert scores.speakers.shape == (40, repeats)
    assert (scores.learns.gather(1, scores.speakers) == 0).all()
    assert (scores.learns.sum(1) == (folds - 1) * repeats).all()


def test_without_folds_one_branch_learns_from_all_and_speaks_for_all():
    scores = gates(folds=1, repeats=1)(samples())
    assert (scores.learns == 1).all() and (scores.speakers == 0).all()


def test_a_branch_is_one_hidden_layer_beside_a_linear_one():
    made, x = gates(folds=2, repeats=1), samples()
    logits = made(x).logits
    weight, bias = made.first.weight, made.first.bias
    for b in range(2):
        hidden = x @ weight[8 * b : 8 * b + 8].T + bias[8 * b : 8 * b + 8]
        hidden = torch.relu(torch.nn.functional.layer_norm(hidden, (8,)))
        direct = slice(16 + 3 * b, 16 + 3 * b + 3)
        expected = hidden @ made.second[b] + x @ weight[direct].T + bias[direct]
        torch.testing.assert_close(logits[:, b], expected, rtol=1e-4, atol=1e-4)


def test_the_probability_is_the_mean_of_those_who_speak():
    made, x = gates(), samples()
    scores = made(x)
    p = made.probability(scores)
    for i in range(len(x)):
        own = torch.softmax(scores.logits[i, scores.speakers[i]], 1).mean(0)
        torch.testing.assert_close(p[i], own)


def test_the_prior_is_added_to_the_logits():
    made, x = gates(repeats=1), samples()
    even, prior = made.probability(made(x)), torch.tensor([0.6, 0.3, 0.1])
    expected = even * prior / (even * prior).sum(1, keepdim=True)
    torch.testing.assert_close(made.probability(made(x), prior.log()), expected)


# Gates -----------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 2**32 - 1))
def test_a_gate_is_the_mean_of_the_profiles_by_the_probability_of_the_classes(seed):
    made = gates(seed=seed % 1000)
    p = torch.softmax(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)), 1)
    expected = sum(p[:, c, None] * made.pi[c] for c in range(3))
    torch.testing.assert_close(made.gamma(p), expected)


def test_of_several_labels_each_may_switch_a_dimension_on():
    made = gates(multilabel=True)
    p = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    off = torch.ones(5, 4)
    for c in range(3):
        off = off * (1 - p[:, c, None] * made.pi[c])
    torch.testing.assert_close(made.gamma(p), 1 - off)


@quick
@given(st.floats(1e-6, 1 - 1e-6))
def test_the_strength_is_a_hyperbolic_tangent_of_the_log_odds(gamma):
    logit = np.log(gamma / (1 - gamma))
    expected = 0.25 + 0.75 * max(np.tanh(logit / 4), 0)
    assert float(strength(torch.tensor(gamma, dtype=torch.float64))) == pytest.approx(expected)


@pytest.mark.parametrize("n_classes", [2, 3, 10, 40])
def test_every_class_is_favoured_by_as_many_dimensions_at_the_start(n_classes):
    made = CrossFittedGates(3, n_classes, 20, 2, 1, 4, False)
    alpha = torch.tensor([0.9] * 2 + [0.3] * 18)
    drawn = [
        made.initialize(alpha, torch.Generator().manual_seed(s)) or made.pi for s in range(300)
    ]
    mean = torch.stack(drawn).detach().logit().mean(0)
    assert (mean[:, :2] > 1.5).all()
    by_class = mean[:, 2:].mean(1)
    assert float((by_class - by_class.mean()).abs().max()) < 0.1


def test_the_prior_of_the_weights_is_that_of_a_logistic_regression():
    made = gates(folds=2, repeats=1)
    direct = made.first.weight[16:]
    expected = 0.5 * (direct.square().sum() + made.second.square().sum())
    torch.testing.assert_close(made.penalty(), expected)


def test_few_samples_have_many_folds_and_copies_none():
    assert cross_fit_sizes(300, 10, 3, False, False)["n_folds"] == 5
    assert cross_fit_sizes(60_000, 784, 10, False, False)["n_repeats"] == 1
    assert cross_fit_sizes(300, 10, 3, False, True)["n_folds"] == 1


# What they are for -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_overlapping():
    X, X_new, y, y_new = overlapping()
    est = ClassVSCTransformer(12, random_state=0, max_epochs=150).fit(X, y)
    return est, X, X_new, y, y_new


def test_codes_say_as_much_of_training_samples_as_of_new_ones(of_overlapping):
    est, X, X_new, y, y_new = of_overlapping
    gap = class_contrast_score(est.transform(X), y) - class_contrast_score(
        est.transform(X_new), y_new
    )
    assert abs(gap) < 0.1


def test_gates_that_are_a_head_of_the_encoder_do_not(of_overlapping):
    _, X, X_new, y, y_new = of_overlapping
    est = ClassVSCTransformer(12, objective="balanced", random_state=0, max_epochs=150).fit(X, y)
    gap = class_contrast_score(est.transform(X), y) - class_contrast_score(
        est.transform(X_new), y_new
    )
    assert gap > 0.2


def test_a_classifier_behind_the_codes_is_not_misled():
    X, y = load_diabetes(return_X_y=True)
    y = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
    X, X_new, y, y_new = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    est = ClassVSCTransformer(10, random_state=0, max_epochs=150)
    losses = []
    for steps in ([], [est]):
        model = make_pipeline(*steps, StandardScaler(), LogisticRegression()).fit(X, y)
        losses.append(log_loss(y_new, model.predict_proba(X_new)))
    assert losses[1] < losses[0] + 0.1


def test_a_table_of_copies_is_told_by_its_rows():
    """A branch that knows no copy of a row could not tell its class."""
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 50, axis=0)
    y = np.repeat(["a", "b"], 50)
    est = ClassVSCTransformer(4, random_state=0, max_epochs=200).fit(X, y)
    assert est.module_.gates.n_folds == 1
    assert class_contrast_score(est.transform(X), y) > 0.9
    assert "held_out_recognition" not in est.history_


def test_samples_without_a_label_do_not_decide_on_folds():
    X, _, y, _ = overlapping()
    X, y = np.r_[X, np.zeros((4 * len(X), 12))], np.r_[y, np.full(4 * len(y), -1)]
    est = ClassVSCTransformer(4, unlabeled=-1, max_epochs=1, random_state=0).fit(X, y)
    assert est.module_.gates.n_folds == 5


@pytest.mark.parametrize("objective", ["balanced", "paper"])
def test_a_training_goes_on_with_the_gates_that_it_has(objective, of_overlapping):
    """Else it would train by another loss than the parameters, and a file, say."""
    _, X, _, y, _ = of_overlapping
    for before, after in ((objective, "cross_fitted"), ("cross_fitted", objective)):
        est = ClassVSCTransformer(4, objective=before, max_epochs=2, random_state=0).fit(X, y)
        codes = est.transform(X)
        with pytest.raises(ValueError, match=f"objective='{after}' cannot continue.*fit afresh"):
            est.set_params(objective=after).partial_fit(X, y)
        np.testing.assert_array_equal(est.transform(X), codes)
        est.fit(X, y)


def test_the_history_has_the_recognition_of_held_out_samples(of_overlapping):
    est = of_overlapping[0]
    held_out = est.history_["held_out_recognition"]
    assert held_out.min() < np.log(3)
    at_best = est.generalization_.loc["recognition"]
    assert at_best["held_out"] == held_out.min()
    assert at_best["training"] == est.history_["recognition"][held_out.argmin()]
