"""Specification of the objective."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loss import Recipe, make_data, package_training, reference_training

from sklearn_classvsc._likelihoods import Bernoulli, Gaussian
from sklearn_classvsc._modules import Pass
from sklearn_classvsc._objective import (
    Dimensions,
    Objective,
    Weight,
    centroid_divergence,
    class_gates,
    covariance_penalty,
    free_usage,
    label_gates,
    pairwise_divergence,
    profile_terms,
    recognition_loss,
    total_correlation,
)
from sklearn_classvsc._spike_slab import SpikeSlab, bernoulli_entropy, bernoulli_kl
from sklearn_classvsc.metrics import class_contrast_score, jensen_shannon_consistency

quick = settings(max_examples=60, deadline=None)

BASE = ["reconstruction", "slab_kl"]
SPLIT = ["usage", "information", "inconsistency"]
PAPER = [*BASE, *SPLIT, "indecision", "consistency"]
BALANCED = [*BASE, *SPLIT, "indecision", "class_usage", "recognition", "overlap"]


class Example(SimpleNamespace):
    """A batch of gates: gamma (n, d), logits (n, d), labels (n,), weight (n,), C, and alpha."""

    @property
    def d(self):
        return self.gamma.shape[1]

    @property
    def normalised(self):
        return self.weight / self.weight.sum()


def make_example(
    n=12,
    d=3,
    n_classes=3,
    seed=0,
    unlabeled=0.2,
    weighted=True,
    saturated=0.2,
    vector=True,
    specific=False,
):
    """Gates of unbalanced classes, some saturated, some samples without a label.

    With `specific`, one that suits the balanced objective: not all dimensions are global, and
    logits are finite.
    """
    rng = np.random.default_rng(seed)
    gamma = rng.beta(0.5, 0.5, size=(n, d))
    ends = rng.uniform(size=(n, d)) < saturated
    gamma = np.where(ends, gamma.round(), gamma)
    labels = np.full(n, -1)
    if n_classes:
        labels = rng.choice(n_classes, size=n, p=rng.dirichlet(np.ones(n_classes)))
        labels[rng.uniform(size=n) < unlabeled] = -1
    alpha = np.array(rng.uniform(0.02, 0.98, size=d if vector else ()))
    if specific:
        alpha.flat[0] /= 2
    logits = torch.tensor(gamma).logit()
    logits = logits.clamp(-50, 50) if specific else logits
    return Example(
        gamma=torch.sigmoid(logits),
        logits=logits,
        labels=torch.tensor(labels),
        weight=torch.tensor(rng.exponential(size=n) + 1e-3 if weighted else np.ones(n)),
        n_classes=n_classes,
        alpha=torch.tensor(alpha),
    )


def examples(**fixed):
    choices = {
        "n": st.integers(1, 30),
        "d": st.integers(1, 5),
        "n_classes": st.integers(0, 5),
        "seed": st.integers(0, 2**32 - 1),
        "unlabeled": st.sampled_from([0, 0.3, 1]),
        "weighted": st.booleans(),
        "saturated": st.sampled_from([0, 0.3, 1]),
        "vector": st.booleans(),
    } | {name: st.just(value) for name, value in fixed.items()}
    return st.builds(make_example, **choices)


def balanced_examples(**fixed):
    return examples(n_classes=3, specific=True, vector=True, **fixed)


def a_model(e, likelihood=None, training=True):
    """What the terms need of a model."""
    return SimpleNamespace(
        likelihood=likelihood or Bernoulli(),
        prior_mean=0.5,
        alpha=e.alpha,
        class_profile=torch.full((e.n_classes, e.d), 0.5, dtype=torch.float64),
        training=training,
    )


def a_pass(e, seed=0):
    """What the network made of a batch with these gates, and the batch."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(4, len(e.gamma), e.d, generator=generator, dtype=e.gamma.dtype)
    mu, log_var, theta, x = parts
    q = SpikeSlab(e.logits, mu, log_var)
    return Pass(q, q.rsample(generator), theta), torch.sigmoid(x)


def terms_of(e, names, likelihood=None, model=None, **parameters):
    objective = Objective({name: Weight(1) for name in names}, e.n_classes, **parameters)
    out, x = a_pass(e)
    return objective.terms(model or a_model(e, likelihood), out, x, e.labels, e.weight)


def select(e, rows):
    kept = {name: getattr(e, name)[rows] for name in ("gamma", "logits", "labels", "weight")}
    return Example(**(vars(e) | kept))


def entropy(p):
    return float(bernoulli_entropy(torch.as_tensor(p, dtype=torch.float64)).sum())


def centroid(gamma, labels, n_classes, weight):
    return centroid_divergence(class_gates(gamma, labels, n_classes, weight))


DIVERGENCES = {"centroid": centroid, "pairwise": pairwise_divergence}


def divergence(name, e, n_classes=None):
    n_classes = e.n_classes if n_classes is None else n_classes
    return DIVERGENCES[name](e.gamma, e.labels, n_classes, e.normalised).item()


# Weights ---------------------------------------------------------------------------------------


def test_a_weight_is_constant_without_warm_up():
    assert [Weight(3.0).at(progress) for progress in (0, 0.5, 1)] == [3.0] * 3


def test_a_weight_goes_linearly_to_its_value_and_stays():
    weight = Weight(4.0, warmup=0.5)
    assert [weight.at(p) for p in (0, 0.125, 0.25, 0.5, 0.75, 1)] == [0, 1, 2, 4, 4, 4]


def test_a_weight_starts_where_it_is_told():
    weight = Weight(5.0, warmup=0.5, start=1.0)
    assert [weight.at(p) for p in (0, 0.25, 0.5, 1)] == [1, 3, 5, 5]
    assert [Weight(0.0, 1.0, start=2.0).at(p) for p in (0, 0.5, 1)] == [2, 1, 0]


# The split of the spike's divergence -----------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(examples())
def test_usage_information_and_inconsistency_add_up_to_the_spike_divergence(e):
    terms = terms_of(e, [*BASE, *SPLIT])
    q = SpikeSlab(e.logits, torch.zeros_like(e.gamma), torch.zeros_like(e.gamma))
    spike = e.normalised @ q.spike_kl(e.alpha).sum(1)
    assert sum(terms[name] for name in SPLIT).item() == pytest.approx(spike.item(), abs=1e-10)


@quick
@given(examples())
def test_no_part_of_the_split_is_negative(e):
    terms = terms_of(e, [*PAPER])
    for name in [*SPLIT, "indecision", "consistency"]:
        assert terms[name] >= -1e-12


@quick
@given(examples())
def test_the_parts_are_those_of_their_definitions(e):
    terms = terms_of(e, [*BASE, *SPLIT, "indecision"])
    w, gamma, labels = e.normalised.numpy(), e.gamma.numpy(), e.labels.numpy()
    pi = w @ gamma
    h_gamma = sum(w[i] * entropy(gamma[i]) for i in range(len(w)))
    h_class = sum(w[i] * entropy(gamma[i]) for i in np.flatnonzero(labels < 0))
    for c in np.unique(labels[labels >= 0]):
        mass = w[labels == c].sum()
        h_class += mass * entropy(w[labels == c] @ gamma[labels == c] / mass)
    alpha = e.alpha.expand(e.d)
    expected = {
        "usage": bernoulli_kl(torch.tensor(pi), alpha).sum().item(),
        "information": entropy(pi) - h_class,
        "inconsistency": h_class - h_gamma,
        "indecision": h_gamma,
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=1e-10)


@quick
@given(examples(unlabeled=1))
def test_without_labels_nothing_is_inconsistent(e):
    for n_classes in (0, e.n_classes):
        e.n_classes = n_classes
        assert terms_of(e, [*BASE, *SPLIT])["inconsistency"].abs() < 1e-12
        for name in DIVERGENCES:
            assert divergence(name, e) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("several", [False, True])
def test_a_batch_without_labels_diverges_by_nothing_not_by_rounding_over_nothing(dtype, several):
    """Two sums of the same numbers may differ in a last digit: it was divided by a share of 0."""
    generator = torch.Generator().manual_seed(0)
    for n, d in itertools.product((1, 7, 10, 19, 256), (1, 2, 50)):
        gamma = torch.rand(n, d, generator=generator, dtype=dtype)
        weight = gamma.new_full((n,), 1 / n)
        if several:
            members, profile = torch.zeros(n, 3, dtype=torch.bool), gamma.new_full((3, d), 0.5)
            gates = label_gates(gamma, members, weight, profile)
        else:
            gates = class_gates(gamma, torch.full((n,), -1), 3, weight)
        assert centroid_divergence(gates) == 0


@quick
@given(examples())
def test_gates_at_the_prior_cost_nothing(e):
    e.gamma = e.alpha.expand_as(e.gamma)
    e.logits = e.gamma.logit()
    terms = terms_of(e, [*BASE, *SPLIT])
    for name in SPLIT:
        assert terms[name].abs() < 1e-12


def test_gates_that_follow_the_class_are_informative_and_consistent():
    e = make_example(n=8, d=2, n_classes=2, unlabeled=0, weighted=False)
    e.labels = torch.arange(8) % 2
    e.gamma = torch.eye(2, dtype=torch.float64)[e.labels]
    e.logits = e.gamma.logit()
    terms = terms_of(e, PAPER)
    assert terms["information"].item() == pytest.approx(2 * math.log(2))
    assert terms["inconsistency"].item() == pytest.approx(0, abs=1e-12)
    assert terms["indecision"].item() == pytest.approx(0, abs=1e-12)


def test_class_gates_summarise_the_batch():
    gamma = torch.tensor([[0.0, 1.0], [0.5, 1.0], [0.25, 0.0], [1.0, 1.0]])
    weight = torch.tensor([0.25, 0.25, 0.4, 0.1])
    gates = class_gates(gamma, torch.tensor([0, 0, 2, -1]), 3, weight)
    torch.testing.assert_close(gates.pi_c, torch.tensor([[0.25, 1.0], [0.0, 0.0], [0.25, 0.0]]))
    torch.testing.assert_close(gates.share, torch.tensor([0.5, 0.0, 0.4]))
    torch.testing.assert_close(gates.pi, weight @ gamma)


@quick
@given(examples(unlabeled=1))
def test_class_gates_without_classes_are_those_of_unlabeled_samples(e):
    without, unlabeled = (class_gates(e.gamma, e.labels, c, e.normalised) for c in (0, 3))
    for name in ("weight", "pi", "conditional_entropy", "entropy"):
        torch.testing.assert_close(getattr(without, name), getattr(unlabeled, name))


# The divergences within classes ----------------------------------------------------------------


@quick
@given(examples(unlabeled=0))
def test_the_centroid_form_is_the_inconsistency_when_all_are_labeled(e):
    inconsistency = terms_of(e, [*BASE, *SPLIT])["inconsistency"].item()
    assert divergence("centroid", e) == pytest.approx(inconsistency, abs=1e-12)


@quick
@given(examples(unlabeled=0.3))
def test_the_centroid_form_is_the_inconsistency_per_labeled_sample(e):
    inconsistency = terms_of(e, [*BASE, *SPLIT])["inconsistency"].item()
    share = e.normalised[e.labels >= 0].sum().item()
    assert share * divergence("centroid", e) == pytest.approx(inconsistency, abs=1e-12)


@quick
@given(examples())
def test_samples_without_a_label_do_not_count(e):
    labeled = select(e, e.labels >= 0)
    for name in DIVERGENCES:
        expected = divergence(name, labeled) if len(labeled.gamma) else 0
        assert divergence(name, e) == pytest.approx(expected, abs=1e-12)


@quick
@given(examples())
def test_the_pairwise_form_is_that_of_a_double_loop(e):
    gamma, w, means = e.gamma.numpy(), e.weight.numpy(), []
    for c in range(e.n_classes):
        members = np.flatnonzero(e.labels.numpy() == c)
        pairs = list(itertools.combinations(members, 2))
        if not pairs:
            continue
        values = [
            entropy((gamma[a] + gamma[b]) / 2) - entropy(gamma[a]) / 2 - entropy(gamma[b]) / 2
            for a, b in pairs
        ]
        means.append(np.average(values, weights=[w[a] * w[b] for a, b in pairs]))
    expected = np.mean(means) if means else 0
    assert divergence("pairwise", e) == pytest.approx(expected, abs=1e-10)


@quick
@given(examples())
def test_both_forms_are_at_most_d_log_2(e):
    for name in DIVERGENCES:
        assert -1e-12 <= divergence(name, e) <= e.d * math.log(2) + 1e-12


def test_both_forms_reach_their_extremes():
    labels, weight = torch.zeros(2, dtype=torch.int64), torch.full((2,), 0.5)
    opposite, equal = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.full((2, 2), 0.3)
    for form in DIVERGENCES.values():
        assert form(opposite, labels, 1, weight).item() == pytest.approx(2 * math.log(2), abs=1e-5)
        assert form(equal, labels, 1, weight).item() == pytest.approx(0, abs=1e-6)


@quick
@given(st.integers(2, 8), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_for_classes_of_equal_size_pairwise_is_at_most_centroid(size, n_classes, d, seed):
    e = make_example(n=size * n_classes, d=d, seed=seed, weighted=False)
    e.n_classes, e.labels = n_classes, torch.arange(n_classes).repeat(size)
    assert divergence("pairwise", e) <= divergence("centroid", e) + 1e-12


@pytest.mark.parametrize("form", sorted(DIVERGENCES))
@given(e=examples(unlabeled=0, weighted=False))
@quick
def test_both_forms_are_the_metrics(form, e):
    if e.n_classes == 0:
        e.n_classes, e.labels = 1, torch.zeros_like(e.labels)
    metric = jensen_shannon_consistency(e.gamma.numpy(), e.labels.numpy(), form=form)
    assert divergence(form, e) == pytest.approx(metric, abs=1e-10)


@pytest.mark.parametrize("form", sorted(DIVERGENCES))
def test_the_consistency_term_has_the_form_asked_for(form):
    e = make_example()
    found = terms_of(e, PAPER, consistency=form)["consistency"]
    assert found.item() == pytest.approx(divergence(form, e), abs=1e-12)


def test_a_class_of_tiny_weight_has_a_finite_pairwise_divergence():
    gamma = torch.tensor([[0.2], [0.3], [0.4]])
    weight = torch.tensor([1.0, 1e-30, 1e-30])
    assert pairwise_divergence(gamma, torch.tensor([0, 1, 1]), 2, weight).isfinite()


# Sample weights --------------------------------------------------------------------------------


def repetitions(e, seed):
    """The batch with integer weights, and with samples repeated as often."""
    counts = torch.tensor(np.random.default_rng(seed).integers(1, 4, size=len(e.gamma)))
    weighted = Example(**(vars(e) | {"weight": counts.double()}))
    repeated = select(e, torch.arange(len(counts)).repeat_interleave(counts))
    repeated.weight = torch.ones(len(repeated.gamma), dtype=torch.float64)
    return weighted, repeated


def assert_same_terms(a, b, names):
    for name in names:
        assert a[name].item() == pytest.approx(b[name].item(), rel=1e-9, abs=1e-10), name


@quick
@given(examples(), st.integers(0, 2**32 - 1))
def test_integer_weights_are_repetitions(e, seed):
    a, b = (terms_of(each, PAPER) for each in repetitions(e, seed))
    assert_same_terms(a, b, PAPER[2:])


@quick
@given(balanced_examples(), st.integers(0, 2**32 - 1))
def test_integer_weights_are_repetitions_in_the_balanced_objective(e, seed):
    a, b = (terms_of(each, BALANCED, balanced=True) for each in repetitions(e, seed))
    assert_same_terms(a, b, BALANCED[2:])


@quick
@given(examples(), st.floats(1e-3, 1e3))
def test_only_relative_weights_matter(e, factor):
    scaled = Example(**(vars(e) | {"weight": factor * e.weight}))
    for form in DIVERGENCES:
        a, b = (terms_of(each, PAPER, consistency=form) for each in (e, scaled))
        assert_same_terms(a, b, PAPER)


@quick
@given(examples(), st.integers(0, 2**32 - 1))
def test_the_order_of_samples_and_the_names_of_classes_do_not_matter(e, seed):
    rng = np.random.default_rng(seed)
    moved = select(e, torch.tensor(rng.permutation(len(e.gamma))))
    names = torch.tensor([*rng.permutation(e.n_classes), -1])  # the last is no label
    moved.labels = names[moved.labels]
    for form in DIVERGENCES:
        assert divergence(form, moved) == pytest.approx(divergence(form, e), abs=1e-10)
    used = [*SPLIT, "indecision"]
    a, b = (terms_of(each, [*BASE, *used]) for each in (e, moved))
    assert_same_terms(a, b, used)


# Balanced classes ------------------------------------------------------------------------------


def balanced_weight(e):
    return class_gates(e.gamma, e.labels, e.n_classes, e.normalised, balanced=True).weight


@quick
@given(examples())
def test_balanced_weights_give_every_class_present_the_same_share(e):
    weight = balanced_weight(e)
    assert (weight[e.labels < 0] == 0).all()
    present = e.labels[e.labels >= 0].unique()
    for c in present:
        members = e.labels == c
        assert weight[members].sum().item() == pytest.approx(1 / len(present))
        ratio = weight[members] / e.normalised[members]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


@quick
@given(examples(n_classes=3, unlabeled=0))
def test_balanced_terms_are_those_of_the_balanced_weights(e):
    weight = balanced_weight(e)
    balanced = Example(**(vars(e) | {"weight": weight}))
    names = ["information", "inconsistency", "indecision"]
    found = terms_of(e, [*BASE, *names], balanced=True)
    expected = terms_of(balanced, [*BASE, *names])
    assert_same_terms(found, expected, names)


# Usage that is free ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "least", "most"),
    [
        (0.1, 0.1, 0.1),
        (0.2, 0.192, 0.264),
        (0.3, 0.282, 0.444),
        (0.5, 0.462, 0.5),
        (0.99, 0.99, 0.99),
    ],
)
def test_usage_is_free_around_alpha(alpha, least, most):
    pi = torch.linspace(0, 1, 101, dtype=torch.float64)
    nearest = free_usage(pi, Dimensions.of(torch.full_like(pi, alpha)))
    assert nearest.numpy() == pytest.approx(np.clip(pi, least, most))


@quick
@given(examples())
def test_balanced_usage_is_the_divergence_from_the_nearest_free_usage(e):
    weight = balanced_weight(e)
    pi = (weight @ e.gamma).detach()
    expected = bernoulli_kl(pi, free_usage(pi, Dimensions.of(e.alpha))).sum().item()
    found = terms_of(e, [*BASE, "usage"], balanced=True)["usage"].item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_free_usage_has_no_gradient_and_a_dying_dimension_has_one():
    alpha = torch.full((3,), 0.2, dtype=torch.float64)
    pi = torch.tensor([0.195, 0.24, 0.01], dtype=torch.float64, requires_grad=True)
    bernoulli_kl(pi, free_usage(pi, Dimensions.of(alpha))).sum().backward()
    assert pi.grad[:2].abs().max() < 1e-12 < 1 < -pi.grad[2]


def test_an_alpha_that_changes_is_seen():
    e = make_example(specific=True)
    objective = Objective({name: Weight(1) for name in BALANCED}, e.n_classes, balanced=True)
    model, (out, x) = a_model(e, training=False), a_pass(e)
    model.alpha = e.alpha.clone()

    def class_usage():
        return objective.terms(model, out, x, e.labels, e.weight)["class_usage"].item()

    before = class_usage()
    model.alpha.mul_(0.5)
    in_place = class_usage()
    model.alpha = e.alpha.clone()
    assert class_usage() == before != in_place


def test_balance_leaves_reconstruction_and_slabs_alone():
    e = make_example(specific=True)
    plain, balanced = terms_of(e, BALANCED), terms_of(e, BALANCED, balanced=True)
    for name in BASE:
        assert plain[name] == balanced[name]
    assert plain["usage"] != balanced["usage"]


@quick
@given(balanced_examples())
def test_class_usage_is_that_of_its_definition(e):
    found = terms_of(e, BALANCED, balanced=True)["class_usage"].item()
    specific = e.alpha < 0.5
    w, expected = balanced_weight(e), 0.0
    for c in e.labels[e.labels >= 0].unique():
        members = e.labels == c
        mass = w[members].sum()
        on = (w[members] @ e.gamma[members])[specific].mean() / mass
        kl = bernoulli_kl(on, e.alpha[specific].mean()).item()
        expected += specific.sum().item() * mass.item() * kl
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_terms_are_finite_when_every_dimension_is_global():
    e = make_example(specific=True)
    e.alpha = torch.full((3,), 0.9, dtype=torch.float64)
    terms = terms_of(e, BALANCED, balanced=True)
    assert all(term.isfinite() for term in terms.values())


def test_global_dimensions_tell_no_classes_apart():
    e = make_example(n=40, d=4)
    e.alpha = torch.tensor([0.95, 0.9, 0.1, 0.2], dtype=torch.float64)
    e.logits = e.logits.clamp(-5, 5)
    changed = Example(**(vars(e) | {"logits": e.logits.clone()}))
    changed.logits[:, :2] *= -1
    a, b = (terms_of(each, BALANCED, balanced=True) for each in (e, changed))
    for name in ("class_usage", "recognition", "overlap"):
        assert a[name].item() == pytest.approx(b[name].item(), abs=1e-12)
    assert a["usage"] != b["usage"]


# Recognition and overlap -----------------------------------------------------------------------


def test_recognition_is_the_cross_entropy_of_the_labels():
    scores = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 3.0]], dtype=torch.float64)
    weight = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    p = np.exp(scores.numpy())
    p /= p.sum(axis=1, keepdims=True)
    found = recognition_loss(scores, torch.tensor([1, 0, -1]), weight).item()
    assert found == pytest.approx(-0.5 * np.log(p[0, 1]) - 0.25 * np.log(p[1, 0]))


def test_recognition_scores_gates_against_the_running_profiles():
    e = make_example(n=20, unlabeled=0.3, specific=True)
    model, out = a_model(e, training=False), a_pass(e)[0]
    model.class_profile = torch.rand(
        3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = terms_of(e, BALANCED, model=model, balanced=True)["recognition"]
    specific = (e.alpha < 0.5).double()
    scores = (out.q.logits * specific) @ model.class_profile.T / Objective.temperature
    weight = balanced_weight(e)
    torch.testing.assert_close(found, recognition_loss(scores, e.labels, weight))


def test_recognition_is_among_the_classes_in_the_batch():
    e = make_example(n=20, unlabeled=0, specific=True)
    e.labels[e.labels == 2] = 0
    found = terms_of(e, BALANCED, balanced=True)["recognition"].item()
    e.n_classes = 2
    assert found == pytest.approx(terms_of(e, BALANCED, balanced=True)["recognition"].item())


@pytest.mark.parametrize("unlabeled", [0, 0.3, 1])
def test_classes_that_are_not_in_the_batch_change_nothing(unlabeled):
    few = make_example(n=20, unlabeled=unlabeled, specific=True)
    many = Example(**(vars(few) | {"n_classes": 1000, "labels": few.labels.clone()}))
    many.labels[few.labels >= 0] = 7 + 400 * few.labels[few.labels >= 0]
    models = [a_model(e) for e in (few, many)]
    for _ in range(2):
        a, b = (
            terms_of(e, BALANCED, model=model, balanced=True)
            for e, model in zip((few, many), models, strict=True)
        )
        assert_same_terms(a, b, BALANCED)
    of_few, of_many = (model.class_profile for model in models)
    torch.testing.assert_close(of_many[[7, 407, 807]], of_few)
    assert (of_many[8:400] == 0.5).all()


def test_recognition_falls_when_gates_follow_the_class():
    e = make_example(n=30, d=3, unlabeled=0, weighted=False, saturated=0)
    e.alpha = torch.full((3,), 0.3, dtype=torch.float64)
    e.labels = torch.arange(30) % 3
    followed = torch.eye(3, dtype=torch.float64)[e.labels]
    losses = []
    for gamma in (torch.full_like(followed, 0.3), 0.9 * followed + 0.05):
        e.gamma, e.logits = gamma, gamma.logit()
        model = a_model(e)
        for _ in range(50):
            found = terms_of(e, BALANCED, model=model, balanced=True)["recognition"].item()
        losses.append(found)
    assert losses[0] == pytest.approx(math.log(3))
    assert losses[1] < losses[0] - 0.3


def test_profiles_are_running_means_of_the_classes_present_in_training_only():
    e = make_example(n=20, specific=True)
    e.labels[e.labels == 2] = 0
    model = a_model(e)
    weight = balanced_weight(e)
    pi_c = class_gates(e.gamma, e.labels, 3, weight).pi_c
    terms_of(e, BALANCED, model=model, balanced=True)
    expected = 0.5 + Objective.momentum * (pi_c - 0.5)
    expected[2] = 0.5
    torch.testing.assert_close(model.class_profile, expected)
    model.training = False
    terms_of(e, BALANCED, model=model, balanced=True)
    torch.testing.assert_close(model.class_profile, expected)


def profiles(seed, n_classes, d):
    """Mean gates of the classes, and which of these are there."""
    rng = np.random.default_rng(seed)
    pi_c = torch.tensor(rng.beta(0.3, 0.3, size=(n_classes, d)))
    present = torch.tensor(rng.integers(0, 2, size=n_classes), dtype=torch.float64)
    return pi_c, present


def shares(present):
    return present / present.sum().clamp_min(1)


def overlap_of(pi_c, present):
    dimensions = Dimensions.of(torch.full((pi_c.shape[1],), 0.2, dtype=torch.float64))
    return profile_terms(pi_c, shares(present), dimensions)[1].item()


def plain_profile_terms(pi_c, share, alpha):
    """The formulas, a class and a pair of classes at a time."""
    specific = alpha <= 0.5
    mean_alpha, pi_c = alpha[specific].mean(), pi_c[:, specific]
    present = torch.nonzero(share).flatten().tolist()
    usage = sum(share[c] * bernoulli_kl(pi_c[c].mean(), mean_alpha) for c in present)

    def sharing(a, b):
        return 2 * (pi_c[a] @ pi_c[b]) / (pi_c[a].sum() + pi_c[b].sum() + 2e-3)

    within = [sharing(c, c) for c in present]
    between = [sharing(a, b) for a in present for b in present if a != b]
    zero = pi_c.sum() * 0
    mean_within, mean_between = (
        torch.stack(values).mean() if values else zero for values in (within, between)
    )
    return specific.sum() * usage + zero, 1 - mean_within + mean_between


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 8))
def test_profile_terms_and_their_gradients_are_those_of_the_plain_formulas(seed, n_classes, d):
    pi_c, present = profiles(seed, n_classes, d)
    alpha = torch.linspace(0.1, 0.9, d, dtype=torch.float64)
    terms = [
        profile_terms(pi_c.requires_grad_(), shares(present), Dimensions.of(alpha)),
        plain_profile_terms(pi_c, shares(present), alpha),
    ]
    for found, expected in zip(*terms, strict=True):
        torch.testing.assert_close(found, expected)
        slopes = [torch.autograd.grad(x, pi_c, retain_graph=True)[0] for x in (found, expected)]
        torch.testing.assert_close(*slopes)


@quick
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 8))
def test_overlap_of_exact_supports_is_one_minus_contrast(seed, n_classes, d):
    supports = np.random.default_rng(seed).uniform(size=(n_classes, d)) < 0.5
    y = np.arange(n_classes).repeat(3)
    found = overlap_of(torch.tensor(supports, dtype=torch.float64), torch.ones(n_classes).double())
    contrast = class_contrast_score(supports[y], y, include_global=True)
    assert found == pytest.approx(1 - contrast, abs=2e-3)


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 8))
def test_overlap_is_within_0_and_2_and_ignores_absent_classes(seed, n_classes, d):
    pi_c, present = profiles(seed, n_classes, d)
    overlap = overlap_of(pi_c, present)
    assert 0 <= overlap <= 2
    assert overlap == pytest.approx(overlap_of(pi_c[present > 0], present[present > 0]), abs=1e-12)


def test_classes_with_dimensions_of_their_own_do_not_overlap():
    present = torch.ones(3, dtype=torch.float64)
    own = overlap_of(torch.eye(3, dtype=torch.float64), present)
    shared = overlap_of(torch.ones(3, 3, dtype=torch.float64), present)
    assert own == pytest.approx(0, abs=2e-3)
    assert shared == pytest.approx(1, abs=2e-3)


# Gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", sorted(DIVERGENCES))
@pytest.mark.parametrize("size", [100.0, 1e4, math.inf])
def test_gradients_are_finite_where_gates_are_saturated(dtype, form, size):
    signs = torch.tensor([[1, 1, -1, 1], [1, -1, -1, 0], [1, 1, -1, -1], [1, -1, -1, 0]])
    logits = torch.where(signs == 0, 0.0, signs * size).to(dtype).requires_grad_()
    e = make_example(n=4, d=4)
    e.alpha, e.weight, e.logits = e.alpha.to(dtype), torch.ones(4, dtype=dtype), logits
    e.gamma = torch.sigmoid(logits.detach())
    for labels in ([0, 0, 1, 1], [0, 0, 0, 0], [0, -1, 2, -1]):
        e.labels = torch.tensor(labels)
        terms = terms_of(e, PAPER, consistency=form)
        for name in PAPER[2:]:
            assert terms[name].isfinite()
            (gradient,) = torch.autograd.grad(terms[name], logits, retain_graph=True)
            assert gradient.isfinite().all(), name


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [2, 2, 2, 2], [0, -1, 2, -1], [-1] * 4])
def test_gradients_of_the_balanced_terms_are_finite_where_gates_are_saturated(labels):
    signs = torch.tensor([[1, 1, -1], [-1, -1, -1], [1, 1, -1], [1, -1, -1]])
    e = make_example(n=4, d=3, specific=True)
    e.logits = (1e4 * signs.double()).requires_grad_()
    e.gamma, e.labels = torch.sigmoid(e.logits.detach()), torch.tensor(labels)
    terms = terms_of(e, BALANCED, balanced=True)
    for name in BALANCED[2:]:
        assert terms[name].isfinite(), name
        (gradient,) = torch.autograd.grad(terms[name], e.logits, retain_graph=True)
        assert gradient.isfinite().all(), name


@pytest.mark.parametrize("form", sorted(DIVERGENCES))
def test_gradients_of_the_divergences_equal_finite_differences(form):
    e = make_example(n=9, saturated=0)
    gamma = e.gamma.clamp(0.05, 0.95).requires_grad_()

    def function(gamma):
        return DIVERGENCES[form](gamma, e.labels, e.n_classes, e.normalised)

    assert torch.autograd.gradcheck(function, gamma)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("unlabeled", [0, 0.3, 1])
@pytest.mark.parametrize("n_classes", [0, 3, 5])  # of five, one or more are absent
def test_gradients_of_the_class_gates_equal_finite_differences(n_classes, unlabeled, balanced):
    e = make_example(n=7, n_classes=n_classes, unlabeled=unlabeled, saturated=0)
    gamma = e.gamma.clamp(0.05, 0.95).requires_grad_()

    def means(gamma):
        gates = class_gates(gamma, e.labels, n_classes, e.normalised, balanced)
        return gates.pi, gates.pi_c, gates.conditional_entropy, gates.entropy

    assert torch.autograd.gradcheck(means, gamma)


def test_gradients_of_the_profile_terms_equal_finite_differences():
    pi_c = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = shares(torch.tensor([1.0, 1, 0, 1], dtype=torch.float64))
    dimensions = Dimensions.of(torch.tensor([0.1, 0.9, 0.3], dtype=torch.float64))

    def terms(pi_c):
        return profile_terms(pi_c, share, dimensions)

    assert torch.autograd.gradcheck(terms, pi_c.requires_grad_())


@pytest.mark.parametrize("names, balanced", [(PAPER, False), (BALANCED, True)])
def test_gradients_of_all_terms_equal_finite_differences(names, balanced):
    e = make_example(n=9, specific=True)
    e.logits = e.logits.clamp(-3, 3).requires_grad_()
    model = a_model(e, training=False)

    def function(logits):
        changed = Example(**(vars(e) | {"logits": logits}))
        return tuple(terms_of(changed, names, model=model, balanced=balanced).values())

    out = torch.cat([term.reshape(1) for term in function(e.logits)])
    assert out.isfinite().all()
    # Without the reconstruction, all of it smooth in the gates.
    assert torch.autograd.gradcheck(lambda logits: function(logits)[1:], e.logits)


# Codes without gates ---------------------------------------------------------------------------


def gaussian_codes(n=7, d=3, seed=0, scale=1.0):
    """Draws, means, logarithms of variances, (n, d), and weights, (n,), that sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    noise, mu, log_var = torch.randn(3, n, d, generator=generator, dtype=torch.float64)
    weight = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    z = scale * mu + torch.exp(0.5 * log_var) * noise
    return z, scale * mu, log_var, weight / weight.sum()


def published_total_correlation(z, mu, log_var, n_samples):
    """Minibatch-weighted sampling as published, pair by pair: log 1/(N M) sum_b q(z_a | x_b)."""
    n, d = z.shape
    total = 0.0
    for a in range(n):
        log_q = np.zeros((n, d))
        for b in range(n):
            for j in range(d):
                sd = math.exp(log_var[b, j] / 2)
                t = (z[a, j] - mu[b, j]) / sd
                log_q[b, j] = -0.5 * t * t - math.log(sd * math.sqrt(2 * math.pi))
        joint = np.log(np.exp(log_q.sum(1)).sum() / (n_samples * n))
        marginals = np.log(np.exp(log_q).sum(0) / (n_samples * n))
        total += joint - marginals.sum()
    return total / n


@pytest.mark.parametrize("n, d", [(7, 3), (5, 1), (2, 4), (1, 3)])
def test_the_total_correlation_is_the_published_one_less_a_constant(n, d):
    z, mu, log_var, _ = gaussian_codes(n, d)
    weight = torch.full((n,), 1 / n, dtype=torch.float64)
    for n_samples in (n, 60_000):
        published = published_total_correlation(z.numpy(), mu.numpy(), log_var.numpy(), n_samples)
        assert total_correlation(z, mu, log_var, weight).item() == pytest.approx(
            published - (d - 1) * math.log(n_samples), abs=1e-12
        )


def test_independent_dimensions_have_no_total_correlation():
    """All the data in one batch, on a grid: q(z) is the product of its marginals."""
    axes = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (5, 4, 3)]
    mu = torch.cartesian_prod(*axes).double()
    z = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_var = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64).expand_as(mu)
    weight = torch.full((60,), 1 / 60, dtype=torch.float64)
    assert total_correlation(z, mu, log_var, weight).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rho", [0, 0.5, 0.9])
def test_the_total_correlation_of_correlated_gaussians(rho):
    """Of q(z) = N(0, C) it is -log(1 - rho^2) / 2."""
    generator = torch.Generator().manual_seed(0)
    n, variance = 1500, 0.1
    noise, e = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    covariance = torch.tensor([[1, rho], [rho, 1]]).double() - variance * torch.eye(2)
    mu = e @ torch.linalg.cholesky(covariance).T
    log_var = torch.full((n, 2), math.log(variance), dtype=torch.float64)
    z = mu + math.sqrt(variance) * noise
    weight = torch.full((n,), 1 / n, dtype=torch.float64)
    expected = -0.5 * math.log(1 - rho**2)
    assert total_correlation(z, mu, log_var, weight).item() == pytest.approx(expected, abs=0.06)


def test_the_covariance_penalty_is_the_squared_distance_from_the_identity():
    _, mu, log_var, weight = gaussian_codes(n=20)
    covariance = np.cov(mu.T, aweights=weight, bias=True)
    covariance += np.diag(weight.numpy() @ log_var.exp().numpy())
    penalty = covariance_penalty(mu, log_var, weight)
    assert penalty.item() == pytest.approx(((covariance - np.eye(3)) ** 2).sum())


def test_codes_distributed_as_the_prior_says_have_no_covariance_penalty():
    """A dimension may be informative or not, as long as its variance is 1 in all."""
    mu = torch.cartesian_prod(*[torch.tensor([-0.8, 0.8])] * 2, torch.zeros(1)).double()
    log_var = torch.log(torch.tensor([0.36, 0.36, 1])).double().expand_as(mu)
    weight = torch.full((4,), 0.25, dtype=torch.float64)
    assert covariance_penalty(mu, log_var, weight).item() == pytest.approx(0, abs=1e-12)


CODES = {
    "total_correlation": total_correlation,
    "covariance": lambda z, *rest: covariance_penalty(*rest),
}


@pytest.mark.parametrize("name", sorted(CODES))
def test_a_sample_of_weight_two_is_two_samples(name):
    z, mu, log_var, _ = gaussian_codes(n=3)
    twice = [0, 0, 1, 2]
    whole = CODES[name](*(x[twice] for x in (z, mu, log_var)), torch.full((4,), 0.25).double())
    weighted = CODES[name](z, mu, log_var, torch.tensor([0.5, 0.25, 0.25]).double())
    torch.testing.assert_close(weighted, whole)


@pytest.mark.parametrize("name", sorted(CODES))
@pytest.mark.parametrize("n, d", [(6, 3), (1, 2), (4, 1)])
def test_gradients_of_the_terms_on_codes_equal_finite_differences(name, n, d):
    *codes, weight = gaussian_codes(n, d)
    leaves = [x.detach().requires_grad_() for x in codes]
    assert torch.autograd.gradcheck(lambda *x: CODES[name](*x, weight), leaves)


@pytest.mark.parametrize("scale", [0, 1, 1e4])
@pytest.mark.parametrize("log_var", [-10, 6])
@pytest.mark.parametrize("name", sorted(CODES))
def test_the_terms_on_codes_are_finite_in_float32(name, log_var, scale):
    z, mu, _, weight = (x.float() for x in gaussian_codes(n=9, scale=scale))
    leaves = [x.requires_grad_() for x in (z, mu, torch.full_like(mu, log_var))]
    weight[0] = 1e-45
    term = CODES[name](*leaves, weight / weight.sum())
    term.backward()
    assert term.isfinite()
    assert all(x.grad.isfinite().all() for x in leaves if x.grad is not None)


# The sum ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, balanced", [(BASE, False), (PAPER, False), (BALANCED, True), ([*BASE, *CODES], False)]
)
def test_terms_are_those_in_use_each_a_scalar(names, balanced):
    terms = terms_of(make_example(specific=True), names, balanced=balanced)
    assert list(terms) == names
    assert all(term.shape == () for term in terms.values())


def test_terms_keep_the_order_of_the_weights():
    assert list(terms_of(make_example(), PAPER[::-1])) == PAPER[::-1]


@pytest.mark.parametrize(
    "names",
    [
        ["reconstruction"],
        ["reconstruction", "usage"],
        [*BASE, "class_usage"],
        [*BASE, "overlap"],
    ],
    ids=", ".join,
)
def test_any_terms_may_be_used_together(names):
    assert list(terms_of(make_example(), names)) == names


@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian])
def test_reconstruction_and_slab_divergence_are_weighted_means(likelihood):
    e = make_example()
    out, x = a_pass(e)
    terms = terms_of(e, BASE, likelihood().double().eval())
    expected = -(e.normalised @ likelihood().double().log_prob(out.theta, x))
    torch.testing.assert_close(terms["reconstruction"], expected)
    slab = e.normalised @ out.q.slab_kl(0.5).sum(1)
    torch.testing.assert_close(terms["slab_kl"], slab)


def test_the_loss_is_the_weighted_sum():
    weights = {name: Weight(2.0 + i, 0.5, start=1.0) for i, name in enumerate(PAPER)}
    objective, terms = Objective(weights, 3), terms_of(make_example(), PAPER)
    for progress in (0, 0.25, 0.5, 1):
        expected = sum(weights[name].at(progress) * terms[name] for name in PAPER)
        torch.testing.assert_close(objective.loss(terms, progress), expected)


def test_without_gates_the_terms_of_the_gates_are_constant():
    e = make_example()
    e.logits = None
    e.gamma = torch.ones_like(e.gamma)
    terms = terms_of(e, PAPER)
    for name in ("information", "inconsistency", "indecision", "consistency"):
        assert terms[name].item() == pytest.approx(0, abs=1e-12)
    e.alpha = e.alpha.expand(e.d)
    assert terms["usage"].item() == pytest.approx(-e.alpha.log().sum().item())


def test_the_weights_of_the_three_parts_give_vsc():
    e = make_example()
    objective = Objective({name: Weight(1) for name in [*BASE, *SPLIT]}, e.n_classes)
    out, x = a_pass(e)
    loss = objective.loss(objective.terms(a_model(e), out, x, e.labels, e.weight), 1.0)
    kl = e.normalised @ out.q.kl(e.alpha, 0.5).sum(1)
    reconstruction = -(e.normalised @ Bernoulli().log_prob(out.theta, x))
    assert loss.item() == pytest.approx((reconstruction + kl).item(), abs=1e-10)


def test_the_divergences_take_batches_without_any_label():
    gamma = torch.rand(4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, weight = torch.full((4,), -1), torch.full((4,), 0.25)
    for form in DIVERGENCES.values():
        form(gamma, labels, 3, weight).backward()
        assert gamma.grad.isfinite().all()


# -- the plain reference -------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["vsc", "paper", "balanced"])
@pytest.mark.parametrize("n_classes, d", [(2, 5), (4, 16), (10, 16)])
def test_a_training_is_that_of_the_loss_written_out(objective, n_classes, d):
    recipe = Recipe(7, 12, d, n_classes, batch_size=50, objective=objective)
    X, y = make_data(50, recipe.n_features, n_classes)
    y[:10] = 0  # so that classes differ in size
    start, history = package_training(recipe, X, y, n_steps=6)
    reference = pd.DataFrame(reference_training(recipe, start, X, y, n_steps=6))
    assert set(reference) == set(history) - {"epoch"}
    for name in reference:  # the first step before any update, the last after five
        np.testing.assert_allclose(history[name], reference[name], rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(history[name][0], reference[name][0], rtol=2e-5, atol=2e-6)
