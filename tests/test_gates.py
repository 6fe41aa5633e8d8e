"""Specification of what the gates of a batch say of its classes."""

import itertools
import math

import numpy as np
import pytest
import torch
from gate_examples import (
    DIVERGENCES,
    balanced_weight,
    divergence,
    entropy,
    examples,
    make_example,
    quick,
    select,
)
from hypothesis import given
from hypothesis import strategies as st

from sklearn_classvsc._gates import (
    Dimensions,
    centroid_divergence,
    class_gates,
    free_usage,
    label_gates,
    pairwise_divergence,
    profile_terms,
    recognition_loss,
)
from sklearn_classvsc._spike_slab import bernoulli_kl
from sklearn_classvsc.metrics import class_contrast_score, jensen_shannon_consistency


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


def test_a_class_of_tiny_weight_has_a_finite_pairwise_divergence():
    gamma = torch.tensor([[0.2], [0.3], [0.4]])
    weight = torch.tensor([1.0, 1e-30, 1e-30])
    assert pairwise_divergence(gamma, torch.tensor([0, 1, 1]), 2, weight).isfinite()


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


def test_free_usage_has_no_gradient_and_a_dying_dimension_has_one():
    alpha = torch.full((3,), 0.2, dtype=torch.float64)
    pi = torch.tensor([0.195, 0.24, 0.01], dtype=torch.float64, requires_grad=True)
    bernoulli_kl(pi, free_usage(pi, Dimensions.of(alpha))).sum().backward()
    assert pi.grad[:2].abs().max() < 1e-12 < 1 < -pi.grad[2]


def test_recognition_is_the_cross_entropy_of_the_labels():
    scores = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 3.0]], dtype=torch.float64)
    weight = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    p = np.exp(scores.numpy())
    p /= p.sum(axis=1, keepdims=True)
    found = recognition_loss(scores, torch.tensor([1, 0, -1]), weight).item()
    assert found == pytest.approx(-0.5 * np.log(p[0, 1]) - 0.25 * np.log(p[1, 0]))


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


def test_the_divergences_take_batches_without_any_label():
    gamma = torch.rand(4, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, weight = torch.full((4,), -1), torch.full((4,), 0.25)
    for form in DIVERGENCES.values():
        form(gamma, labels, 3, weight).backward()
        assert gamma.grad.isfinite().all()
