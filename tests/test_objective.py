"""Specification of the objectives: the terms, their weights, and what they are made of."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from gate_examples import (
    BALANCED,
    BASE,
    DIVERGENCES,
    PAPER,
    SPLIT,
    Example,
    a_model,
    assert_same_terms,
    balanced,
    balanced_examples,
    balanced_weight,
    divergence,
    entropy,
    evidence_of,
    examples,
    make_example,
    paper,
    quick,
    select,
    terms_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loss import Recipe, make_data, package_training, reference_training

from sklearn_classvsc._gates import MOMENTUM, Dimensions, class_gates, free_usage, recognition_loss
from sklearn_classvsc._likelihoods import Bernoulli, Gaussian
from sklearn_classvsc._objective import (
    BalancedObjective,
    PaperObjective,
    VAEObjective,
    VSCObjective,
    Weight,
    total_correlation,
)
from sklearn_classvsc._spike_slab import SpikeSlab, bernoulli_entropy, bernoulli_kl

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
    terms = terms_of(e)
    q = SpikeSlab(e.logits, torch.zeros_like(e.gamma), torch.zeros_like(e.gamma))
    spike = e.normalised @ q.spike_kl(e.alpha).sum(1)
    assert sum(terms[name] for name in SPLIT).item() == pytest.approx(spike.item(), abs=1e-10)


@quick
@given(examples())
def test_no_part_of_the_split_is_negative(e):
    terms = terms_of(e)
    for name in [*SPLIT, "consistency"]:
        assert terms[name] >= -1e-12


@quick
@given(examples())
def test_the_parts_are_those_of_their_definitions(e):
    terms = terms_of(e)
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
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, abs=1e-10)


@quick
@given(examples(unlabeled=1))
def test_without_labels_nothing_is_inconsistent(e):
    for n_classes in (0, e.n_classes):
        e.n_classes = n_classes
        assert terms_of(e)["inconsistency"].abs() < 1e-12
        for name in DIVERGENCES:
            assert divergence(name, e) == 0


@quick
@given(examples())
def test_gates_at_the_prior_cost_nothing(e):
    e.gamma = e.alpha.expand_as(e.gamma)
    e.logits = e.gamma.logit()
    terms = terms_of(e)
    for name in SPLIT:
        assert terms[name].abs() < 1e-12


def test_gates_that_follow_the_class_are_informative_and_consistent():
    e = make_example(n=8, d=2, n_classes=2, unlabeled=0, weighted=False)
    e.labels = torch.arange(8) % 2
    e.gamma = torch.eye(2, dtype=torch.float64)[e.labels]
    e.logits = e.gamma.logit()
    terms = terms_of(e)
    assert terms["information"].item() == pytest.approx(2 * math.log(2))
    assert terms["inconsistency"].item() == pytest.approx(0, abs=1e-12)


# The divergences within classes ----------------------------------------------------------------


@quick
@given(examples(unlabeled=0))
def test_the_centroid_form_is_the_inconsistency_when_all_are_labeled(e):
    inconsistency = terms_of(e)["inconsistency"].item()
    assert divergence("centroid", e) == pytest.approx(inconsistency, abs=1e-12)


@quick
@given(examples(unlabeled=0.3))
def test_the_centroid_form_is_the_inconsistency_per_labeled_sample(e):
    inconsistency = terms_of(e)["inconsistency"].item()
    share = e.normalised[e.labels >= 0].sum().item()
    assert share * divergence("centroid", e) == pytest.approx(inconsistency, abs=1e-12)


@pytest.mark.parametrize("form", sorted(DIVERGENCES))
def test_the_consistency_term_has_the_form_asked_for(form):
    e = make_example()
    found = terms_of(e, partial(paper, consistency=form))["consistency"]
    assert found.item() == pytest.approx(divergence(form, e), abs=1e-12)


# Sample weights --------------------------------------------------------------------------------


def repetitions(e, seed):
    """The batch with integer weights, and with samples repeated as often."""
    counts = torch.tensor(np.random.default_rng(seed).integers(1, 4, size=len(e.gamma)))
    weighted = Example(**(vars(e) | {"weight": counts.double()}))
    repeated = select(e, torch.arange(len(counts)).repeat_interleave(counts))
    repeated.weight = torch.ones(len(repeated.gamma), dtype=torch.float64)
    return weighted, repeated


@quick
@given(examples(), st.integers(0, 2**32 - 1))
def test_integer_weights_are_repetitions(e, seed):
    a, b = (terms_of(each) for each in repetitions(e, seed))
    assert_same_terms(a, b, PAPER[2:])


@quick
@given(balanced_examples(), st.integers(0, 2**32 - 1))
def test_integer_weights_are_repetitions_in_the_balanced_objective(e, seed):
    a, b = (terms_of(each, balanced) for each in repetitions(e, seed))
    assert_same_terms(a, b, BALANCED[2:])


@quick
@given(examples(), st.floats(1e-3, 1e3))
def test_only_relative_weights_matter(e, factor):
    scaled = Example(**(vars(e) | {"weight": factor * e.weight}))
    for form in DIVERGENCES:
        a, b = (terms_of(each, partial(paper, consistency=form)) for each in (e, scaled))
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
    a, b = (terms_of(each) for each in (e, moved))
    assert_same_terms(a, b, SPLIT)


# Balanced classes ------------------------------------------------------------------------------


@quick
@given(examples(n_classes=3, unlabeled=0))
def test_balanced_terms_are_those_of_the_balanced_weights(e):
    even = Example(**(vars(e) | {"weight": balanced_weight(e)}))
    found, expected = terms_of(e, balanced), terms_of(even)
    assert_same_terms(found, expected, ["inconsistency"])
    q = SpikeSlab(e.logits, torch.zeros_like(e.gamma), torch.zeros_like(e.gamma))
    indecision = even.normalised @ bernoulli_entropy(q.gamma).sum(1)
    assert found["indecision"].item() == pytest.approx(indecision.item(), abs=1e-10)


# Usage that is free ----------------------------------------------------------------------------


@quick
@given(examples())
def test_balanced_usage_is_the_divergence_from_the_nearest_free_usage(e):
    weight = balanced_weight(e)
    pi = (weight @ e.gamma).detach()
    expected = bernoulli_kl(pi, free_usage(pi, Dimensions.of(e.alpha))).sum().item()
    found = terms_of(e, balanced)["usage"].item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_balance_leaves_reconstruction_and_slabs_alone():
    e = make_example(specific=True)
    plain, even = terms_of(e), terms_of(e, balanced)
    for name in BASE:
        assert plain[name] == even[name]
    assert plain["usage"] != even["usage"]


@quick
@given(balanced_examples())
def test_class_usage_is_that_of_its_definition(e):
    found = terms_of(e, balanced)["class_usage"].item()
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
    terms = terms_of(e, balanced)
    assert all(term.isfinite() for term in terms.values())


def test_global_dimensions_tell_no_classes_apart():
    e = make_example(n=40, d=4)
    e.alpha = torch.tensor([0.95, 0.9, 0.1, 0.2], dtype=torch.float64)
    e.logits = e.logits.clamp(-5, 5)
    changed = Example(**(vars(e) | {"logits": e.logits.clone()}))
    changed.logits[:, :2] *= -1
    a, b = (terms_of(each, balanced) for each in (e, changed))
    for name in ("class_usage", "recognition", "overlap"):
        assert a[name].item() == pytest.approx(b[name].item(), abs=1e-12)
    assert a["usage"] != b["usage"]


# Recognition and overlap -----------------------------------------------------------------------


def test_recognition_scores_gates_against_the_running_profiles():
    e = make_example(n=20, unlabeled=0.3, specific=True)
    model, q = a_model(e, training=False), evidence_of(e).q
    model.class_profile = torch.rand(
        3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    found = terms_of(e, balanced, model)["recognition"]
    specific = (e.alpha < 0.5).double()
    scores = (q.logits * specific) @ model.class_profile.T / BalancedObjective.temperature
    weight = balanced_weight(e)
    torch.testing.assert_close(found, recognition_loss(scores, e.labels, weight))


def test_recognition_is_among_the_classes_in_the_batch():
    e = make_example(n=20, unlabeled=0, specific=True)
    e.labels[e.labels == 2] = 0
    found = terms_of(e, balanced)["recognition"].item()
    e.n_classes = 2
    assert found == pytest.approx(terms_of(e, balanced)["recognition"].item())


@pytest.mark.parametrize("unlabeled", [0, 0.3, 1])
def test_classes_that_are_not_in_the_batch_change_nothing(unlabeled):
    few = make_example(n=20, unlabeled=unlabeled, specific=True)
    many = Example(**(vars(few) | {"n_classes": 1000, "labels": few.labels.clone()}))
    many.labels[few.labels >= 0] = 7 + 400 * few.labels[few.labels >= 0]
    models = [a_model(e) for e in (few, many)]
    for _ in range(2):
        a, b = (terms_of(e, balanced, model) for e, model in zip((few, many), models, strict=True))
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
            found = terms_of(e, balanced, model)["recognition"].item()
        losses.append(found)
    assert losses[0] == pytest.approx(math.log(3))
    assert losses[1] < losses[0] - 0.3


def test_profiles_are_running_means_of_the_classes_present_in_training_only():
    e = make_example(n=20, specific=True)
    e.labels[e.labels == 2] = 0
    model = a_model(e)
    weight = balanced_weight(e)
    pi_c = class_gates(e.gamma, e.labels, 3, weight).pi_c
    terms_of(e, balanced, model)
    expected = 0.5 + MOMENTUM * (pi_c - 0.5)
    expected[2] = 0.5
    torch.testing.assert_close(model.class_profile, expected)
    model.training = False
    terms_of(e, balanced, model)
    torch.testing.assert_close(model.class_profile, expected)


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
        terms = terms_of(e, partial(paper, consistency=form))
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
    terms = terms_of(e, balanced)
    for name in BALANCED[2:]:
        assert terms[name].isfinite(), name
        (gradient,) = torch.autograd.grad(terms[name], e.logits, retain_graph=True)
        assert gradient.isfinite().all(), name


@pytest.mark.parametrize("objective", [paper, balanced])
def test_gradients_of_all_terms_equal_finite_differences(objective):
    e = make_example(n=9, specific=True)
    e.logits = e.logits.clamp(-3, 3).requires_grad_()
    model = a_model(e, training=False)

    def function(logits):
        changed = Example(**(vars(e) | {"logits": logits}))
        return tuple(terms_of(changed, objective, model).values())

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


def test_a_sample_of_weight_two_is_two_samples():
    z, mu, log_var, _ = gaussian_codes(n=3)
    twice = [0, 0, 1, 2]
    whole = total_correlation(
        *(x[twice] for x in (z, mu, log_var)), torch.full((4,), 0.25).double()
    )
    weighted = total_correlation(z, mu, log_var, torch.tensor([0.5, 0.25, 0.25]).double())
    torch.testing.assert_close(weighted, whole)


@pytest.mark.parametrize("n, d", [(6, 3), (1, 2), (4, 1)])
def test_gradients_of_the_total_correlation_equal_finite_differences(n, d):
    *codes, weight = gaussian_codes(n, d)
    leaves = [x.detach().requires_grad_() for x in codes]
    assert torch.autograd.gradcheck(lambda *x: total_correlation(*x, weight), leaves)


@pytest.mark.parametrize("scale", [0, 1, 1e4])
@pytest.mark.parametrize("log_var", [-10, 6])
def test_the_total_correlation_is_finite_in_float32(log_var, scale):
    z, mu, _, weight = (x.float() for x in gaussian_codes(n=9, scale=scale))
    leaves = [x.requires_grad_() for x in (z, mu, torch.full_like(mu, log_var))]
    weight[0] = 1e-45
    term = total_correlation(*leaves, weight / weight.sum())
    term.backward()
    assert term.isfinite()
    assert all(x.grad.isfinite().all() for x in leaves if x.grad is not None)


# The sum ---------------------------------------------------------------------------------------


OBJECTIVES = {
    "vae": (lambda e: VAEObjective(), BASE),
    "beta-tcvae": (lambda e: VAEObjective(1, 2), [*BASE, "total_correlation"]),
    "vsc": (lambda e: VSCObjective(), [*BASE, "usage", "information"]),
    "paper": (paper, PAPER),
    "balanced": (balanced, BALANCED),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_are_those_in_use_each_a_scalar(name):
    objective, names = OBJECTIVES[name]
    e = make_example(specific=True)
    terms = terms_of(e, objective)
    assert list(terms) == names == list(objective(e).weights)
    assert all(term.shape == () for term in terms.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_change_nothing(name):
    objective, e = OBJECTIVES[name][0], make_example(specific=True)
    for likelihood in (Bernoulli(), Gaussian(3).double()):
        model = a_model(e, likelihood.train())
        before = likelihood.state_dict() | {"profile": model.class_profile.clone()}
        before = {name: value.clone() for name, value in before.items()}
        first, second = (objective(e).terms(model, evidence_of(e, likelihood)) for _ in range(2))
        assert_same_terms(first.values, second.values, first.values)
        after = likelihood.state_dict() | {"profile": model.class_profile}
        for key, value in before.items():
            assert torch.equal(after[key], value)


def test_the_running_means_are_there_in_training_only():
    e = make_example(specific=True)
    for training in (True, False):
        likelihood = Gaussian(3).double().train(training)
        model = a_model(e, likelihood, training=training)
        running = balanced(e).terms(model, evidence_of(e, likelihood)).running
        names = {"likelihood.noise_variance", "class_profile"} if training else set()
        assert set(running) == names


@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian])
def test_reconstruction_and_slab_divergence_are_weighted_means(likelihood):
    e = make_example()
    kind = likelihood(3).double().eval()
    seen, terms = evidence_of(e, kind), terms_of(e, model=a_model(e, kind, training=False))
    torch.testing.assert_close(terms["reconstruction"], e.normalised @ seen.misfit)
    slab = e.normalised @ seen.q.slab_kl(0.5).sum(1)
    torch.testing.assert_close(terms["slab_kl"], slab)


def test_the_loss_is_the_weighted_sum():
    e = make_example(specific=True)
    for objective in (PaperObjective(2.0, warmup=0.5), balanced(e)):
        terms = objective.terms(a_model(e), evidence_of(e))
        for progress in (0, 0.25, 0.5, 1):
            expected = sum(w.at(progress) * terms.values[n] for n, w in objective.weights.items())
            torch.testing.assert_close(objective.loss(terms, progress), expected)


def test_without_gates_the_terms_of_the_gates_are_constant():
    e = make_example()
    e.logits = None
    e.gamma = torch.ones_like(e.gamma)
    terms = terms_of(e)
    for name in ("information", "inconsistency", "consistency"):
        assert terms[name].item() == pytest.approx(0, abs=1e-12)
    e.alpha = e.alpha.expand(e.d)
    assert terms["usage"].item() == pytest.approx(-e.alpha.log().sum().item())


def test_equal_weights_give_the_negative_elbo():
    e = make_example()
    seen = evidence_of(e)
    expected = e.normalised @ (seen.misfit + seen.q.kl(e.alpha, 0.5).sum(1))
    for objective in (VSCObjective(), PaperObjective(0.0)):
        loss = objective.loss(objective.terms(a_model(e), seen), 1.0)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-10)


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
