"""Specification of the spike-and-slab distribution and the divergences of its gates."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.autograd import gradcheck
from torch.distributions import Bernoulli, Normal, kl_divergence

from sklearn_classvsc._spike_slab import SpikeSlab, bernoulli_entropy, bernoulli_kl

quick = settings(max_examples=50, deadline=None)
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
each_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])

# gamma: 0, 1e-30, 1/2, 1 - 1e-7, 1; the ends from infinite logits and from merely huge ones.
LOGITS = [-math.inf, -1e4, math.log(1e-30), 0.0, math.log(1 / 1e-7 - 1), 1e4, math.inf]
GAMMAS = [0.0, 0.0, 1e-30, 0.5, 1 - 1e-7, 1.0, 1.0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_q(n=4, d=3, seed=0, dtype=torch.float64, requires_grad=False):
    logits, mu, log_var = torch.randn(3, n, d, generator=seeded(seed), dtype=dtype)
    parameters = [t.clone().requires_grad_(requires_grad) for t in (2 * logits, mu, log_var)]
    return SpikeSlab(*parameters)


def repeated(n, logits, mu, log_var):
    """A batch of `n` samples with the same posterior."""
    return SpikeSlab(*(torch.as_tensor(t).expand(n, -1) for t in (logits, mu, log_var)))


def log_density(z, gamma, normal):
    """Of a spike and slab, by the mixed measure: an atom at 0, and a density elsewhere."""
    on = torch.log(gamma) + normal.log_prob(z)
    return torch.where(z == 0, torch.log1p(-gamma), on)


def assert_mean(draws, expected, n_errors=5):
    """Hold a mean of independent rows to `n_errors` standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() <= n_errors * error + 1e-12).all()


# Entropy and divergence of Bernoulli variables -------------------------------------------------


def test_entropy_is_that_of_scipy():
    p = np.concatenate([np.logspace(-300, -1, 50), np.linspace(0.1, 0.9, 50)])
    expected = stats.bernoulli(p).entropy()
    np.testing.assert_allclose(bernoulli_entropy(torch.tensor(p)), expected, rtol=1e-9, atol=1e-13)


@each_precision
def test_entropy_is_zero_at_both_ends_and_its_derivative_finite(dtype):
    p = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
    h = bernoulli_entropy(p)
    torch.testing.assert_close(h.detach(), torch.zeros(2, dtype=dtype), rtol=0, atol=2e-6)
    h.sum().backward()
    assert p.grad.isfinite().all()
    assert p.grad[0] > 15 and p.grad[1] < -15


@quick
@given(st.floats(0, 1))
def test_entropy_is_symmetric_and_at_most_log_2(p):
    h, mirrored = bernoulli_entropy(torch.tensor([p, 1 - p], dtype=torch.float64))
    torch.testing.assert_close(h, mirrored, rtol=1e-6, atol=1e-12)
    assert 0 <= h <= math.log(2) + 1e-15


def test_divergence_is_that_of_torch():
    probabilities = torch.rand(2, 40, 3, generator=seeded(), dtype=torch.float64)
    p, alpha = probabilities.clamp(1e-6, 1 - 1e-6)
    close(bernoulli_kl(p, alpha), kl_divergence(Bernoulli(p), Bernoulli(alpha)))


def test_alpha_is_a_scalar_or_one_per_dimension():
    p = torch.rand(5, 3, generator=seeded(), dtype=torch.float64)
    scalar = torch.tensor(0.2, dtype=torch.float64)
    close(bernoulli_kl(p, scalar), bernoulli_kl(p, scalar.expand(3)))
    alpha = torch.tensor([0.1, 0.2, 0.9], dtype=torch.float64)
    for j in range(3):
        close(bernoulli_kl(p, alpha)[:, j], bernoulli_kl(p[:, j], alpha[j]))


@quick
@given(st.floats(0, 1), st.floats(0.001, 0.999))
def test_divergence_is_non_negative_and_zero_at_alpha(p, alpha):
    p, alpha = torch.tensor([p, alpha], dtype=torch.float64)
    assert bernoulli_kl(p, alpha) >= -1e-12
    assert bernoulli_kl(alpha, alpha).abs() < 1e-12


@each_precision
def test_divergence_at_the_ends_is_the_surprise_of_the_prior(dtype):
    alpha = torch.tensor([0.2, 0.2], dtype=dtype)
    kl = bernoulli_kl(torch.tensor([0.0, 1.0], dtype=dtype), alpha)
    expected = torch.tensor([-math.log(0.8), -math.log(0.2)], dtype=dtype)
    torch.testing.assert_close(kl, expected, rtol=1e-5, atol=0)


def test_gradients_of_entropy_and_divergence_equal_finite_differences():
    p = torch.linspace(0.01, 0.99, 12, dtype=torch.float64, requires_grad=True)
    alpha = torch.linspace(0.05, 0.9, 12, dtype=torch.float64, requires_grad=True)
    assert gradcheck(bernoulli_entropy, p)
    assert gradcheck(bernoulli_kl, (p, alpha))


# Divergence from the prior ---------------------------------------------------------------------


@pytest.mark.parametrize("prior_mean", [0.0, 1.0])
def test_kl_equals_its_monte_carlo_estimate(prior_mean):
    logits = torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    mu = torch.tensor([0.5, -2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    log_var = torch.tensor([0.0, -2.0, 1.0, -4.0, 0.5], dtype=torch.float64)
    alpha = torch.tensor([0.1, 0.2, 0.5, 0.3, 0.9], dtype=torch.float64)
    q = repeated(200_000, logits, mu, log_var)
    z = q.rsample(seeded())
    log_q = log_density(z, q.gamma, Normal(mu, (0.5 * log_var).exp()))
    log_p = log_density(z, alpha.expand_as(z), Normal(prior_mean, 1.0))
    assert_mean(log_q - log_p, q.kl(alpha, prior_mean)[0])


def test_kl_is_the_cost_of_the_spike_plus_that_of_the_slab_where_it_is_on():
    q, alpha = random_q(), torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    slab = kl_divergence(Normal(q.mu, (0.5 * q.log_var).exp()), Normal(1.0, 1.0))
    close(q.slab_kl(1.0), q.gamma * slab)
    close(q.spike_kl(alpha), bernoulli_kl(torch.sigmoid(q.logits), alpha))
    close(q.kl(alpha, 1.0), q.spike_kl(alpha) + q.slab_kl(1.0))


def test_kl_of_the_prior_from_itself_is_zero():
    alpha = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    prior = repeated(2, alpha.logit(), torch.full((3,), 0.7, dtype=torch.float64), torch.zeros(3))
    close(prior.kl(alpha, 0.7), torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", ["kl", "slab_kl", "spike_kl"])
def test_gradients_of_the_divergences_equal_finite_differences(name):
    alpha = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    arguments = {"kl": (alpha, 1.0), "slab_kl": (1.0,), "spike_kl": (alpha,)}[name]
    q = random_q(requires_grad=True)

    def divergence(logits, mu, log_var):
        return getattr(SpikeSlab(logits, mu, log_var), name)(*arguments)

    assert gradcheck(divergence, (q.logits, q.mu, q.log_var))


# Samples ---------------------------------------------------------------------------------------


@each_precision
def test_moments_of_the_samples(dtype):
    logits = torch.tensor([-3.0, -1.0, 0.0, 2.0], dtype=dtype)
    mu = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=dtype)
    log_var = torch.tensor([0.0, 1.0, -1.0, -6.0], dtype=dtype)
    q = repeated(200_000, logits, mu, log_var)
    z = q.rsample(seeded(1))
    gamma = torch.sigmoid(logits)
    assert z.dtype == dtype
    assert_mean(z, gamma * mu)
    assert_mean(z**2, gamma * (log_var.exp() + mu**2))
    assert_mean((z == 0).to(dtype), 1 - gamma)


def test_samples_that_are_on_follow_the_slab():
    mu, log_var = torch.tensor([1.5], dtype=torch.float64), torch.tensor([-1.0])
    z = repeated(20_000, torch.zeros(1), mu, log_var).rsample(seeded(2))
    on = z[z != 0].numpy()
    assert stats.kstest(on, stats.norm(1.5, math.exp(-0.5)).cdf).pvalue > 1e-3


def test_gradients_for_the_slab_equal_finite_differences():
    q = random_q(n=6, requires_grad=True)

    def sample(mu, log_var):
        return SpikeSlab(q.logits.detach(), mu, log_var).rsample(seeded(3))

    assert gradcheck(sample, (q.mu, q.log_var))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_gradient_for_the_gates_is_that_of_the_relaxed_draw(temperature):
    q = random_q(n=50, requires_grad=True)
    slab = SpikeSlab(torch.full_like(q.mu, math.inf), q.mu, q.log_var).rsample(seeded(4))
    # The noise u of a gate, logistic on the scale of logits: the logit at which the gate opens.
    low, high = torch.full_like(q.mu, -50), torch.full_like(q.mu, 50)
    for _ in range(70):
        middle = (low + high) / 2
        on = SpikeSlab(middle, q.mu, q.log_var).rsample(seeded(4)) != 0
        low, high = torch.where(on, low, middle), torch.where(on, middle, high)
    relaxed = torch.sigmoid((q.logits - high.detach()) / temperature) * slab.detach()
    (expected,) = torch.autograd.grad(relaxed.sum(), q.logits)
    (found,) = torch.autograd.grad(q.rsample(seeded(4), temperature).sum(), q.logits)
    assert found.abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_temperature_changes_gradients_only():
    q = random_q()
    cold, hot = (q.rsample(seeded(), temperature) for temperature in (0.1, 5.0))
    close(cold, hot, rtol=0, atol=0)


def test_noise_comes_from_the_generator_alone():
    q, state = random_q(), torch.get_rng_state()
    first, again, other = (q.rsample(seeded(seed)) for seed in (0, 0, 1))
    close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_common_noise_makes_a_sample_independent_of_its_batch():
    q = random_q(n=8)
    whole = q.rsample(seeded(), common_noise=True)
    for rows in (slice(0, 1), slice(3, 8)):
        part = SpikeSlab(q.logits[rows], q.mu[rows], q.log_var[rows])
        close(part.rsample(seeded(), common_noise=True), whole[rows], rtol=0, atol=0)


def test_equal_posteriors_get_equal_samples_only_under_common_noise():
    q = repeated(30, torch.zeros(4), torch.ones(4), torch.zeros(4))
    common = q.rsample(seeded(), common_noise=True)
    close(common, common[:1].expand(30, -1))
    assert len(q.rsample(seeded()).unique(dim=0)) == 30


# Both ends of gamma ----------------------------------------------------------------------------


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def saturated(request):
    """A column for each of `GAMMAS`, 100 samples."""
    logits = torch.tensor(LOGITS, dtype=request.param).repeat(100, 1).requires_grad_()
    mu = torch.full_like(logits, 1.5, requires_grad=True)
    log_var = torch.full_like(logits, -1.0, requires_grad=True)
    return SpikeSlab(logits, mu, log_var)


def test_gamma_is_right_at_both_ends(saturated):
    expected = torch.tensor(GAMMAS, dtype=saturated.mu.dtype)
    torch.testing.assert_close(saturated.gamma[0].detach(), expected, rtol=1e-4, atol=0)
    assert saturated.gamma[0, 0] == 0
    assert saturated.gamma[0, -1] == 1


def test_samples_are_exact_at_both_ends(saturated):
    z = saturated.rsample(seeded(5)).detach()
    assert (z[:, :3] == 0).all()
    assert 0 < (z[:, 3] == 0).sum() < 100
    assert (z[:, 4:] != 0).all()


def test_divergences_are_right_at_both_ends(saturated):
    gamma = torch.tensor(GAMMAS, dtype=torch.float64)
    alpha = torch.tensor(0.2, dtype=torch.float64)
    slab = 0.5 * (math.exp(-1) + 1.5**2 - 1 + 1)
    entropy = torch.special.entr(gamma) + torch.special.entr(1 - gamma)
    spike = -entropy - gamma * math.log(0.2) - (1 - gamma) * math.log(0.8)
    for found, expected in [
        (bernoulli_entropy(saturated.gamma), entropy),
        (saturated.spike_kl(alpha.to(saturated.mu.dtype)), spike),
        (saturated.slab_kl(), gamma * slab),
        (saturated.kl(alpha.to(saturated.mu.dtype)), spike + gamma * slab),
    ]:
        torch.testing.assert_close(found[0].detach().double(), expected, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize(
    "quantity",
    [
        lambda q: q.rsample(seeded(6)),
        lambda q: q.kl(torch.tensor(0.01, dtype=q.mu.dtype), 1.0),
        lambda q: q.slab_kl() + q.gamma,
        lambda q: bernoulli_entropy(q.gamma) + q.mu + q.log_var,
        lambda q: bernoulli_entropy(q.gamma.mean(0)) + q.mu + q.log_var,
    ],
    ids=["rsample", "kl", "slab_kl", "entropy", "entropy of the mean"],
)
def test_gradients_are_finite_at_both_ends(saturated, quantity):
    value = quantity(saturated)
    assert value.isfinite().all()
    value.sum().backward()
    for parameter in (saturated.logits, saturated.mu, saturated.log_var):
        assert parameter.grad.isfinite().all()


# The deterministic code ------------------------------------------------------------------------


@quick
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_code_is_mu_where_gamma_exceeds_the_threshold(seed, threshold):
    q = random_q(n=20, seed=seed)
    z = q.sparse_mean(threshold)
    close(z, q.mu * (q.gamma > threshold), rtol=0, atol=0)
    assert (z == 0).float().mean() == (q.gamma <= threshold).float().mean()


def test_codes_are_the_means_above_the_threshold_whatever_they_are():
    mu = torch.tensor([[-1.0, math.inf, -math.inf, math.nan, -2.0]])
    q = SpikeSlab(torch.tensor([[-1.0] * 4 + [0.0]]), mu, torch.zeros(1, 5))
    codes = q.sparse_mean()
    assert torch.equal(codes, torch.zeros(1, 5)) and not codes.signbit().any()
    q.gamma = torch.full((1, 5), 0.75)
    torch.testing.assert_close(q.sparse_mean(), mu, rtol=0, atol=0, equal_nan=True)


def test_a_gamma_at_the_threshold_is_off():
    q = SpikeSlab(torch.tensor([[0.0, 1e-3]]), torch.ones(1, 2), torch.zeros(1, 2))
    assert q.sparse_mean().tolist() == [[0.0, 1.0]]


@each_precision
def test_precision_is_that_of_the_parameters(dtype):
    q = random_q(dtype=dtype)
    alpha = torch.tensor(0.3, dtype=dtype)
    for tensor in (q.gamma, q.rsample(seeded()), q.sparse_mean(), q.kl(alpha), q.slab_kl()):
        assert tensor.dtype == dtype
        assert tensor.shape == (4, 3)


# Without gates ---------------------------------------------------------------------------------


def gaussian(n=4):
    q = random_q(n)
    return SpikeSlab(None, q.mu, q.log_var)


def test_without_gates_the_posterior_is_gaussian():
    q, alpha = gaussian(), torch.tensor(0.2, dtype=torch.float64)
    normal = Normal(q.mu, (0.5 * q.log_var).exp())
    close(q.kl(alpha, 0.5), kl_divergence(normal, Normal(0.5, 1.0)))
    close(q.spike_kl(alpha), torch.zeros(4, 3, dtype=torch.float64))
    close(q.gamma, torch.ones(4, 3, dtype=torch.float64))
    close(q.sparse_mean(), q.mu)


def test_without_gates_samples_are_those_of_gates_always_on():
    q = gaussian()
    gated = SpikeSlab(torch.full_like(q.mu, math.inf), q.mu, q.log_var)
    close(q.rsample(seeded()), gated.rsample(seeded()))
    mu, log_var = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.0, -2.0]])
    z = SpikeSlab(None, mu.expand(100_000, -1), log_var.expand(100_000, -1)).rsample(seeded())
    assert (z != 0).all()
    assert_mean(z, mu[0])
    assert_mean(z**2, mu[0] ** 2 + log_var[0].exp())
