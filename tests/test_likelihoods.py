"""Specification of the likelihoods."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck

from sklearn_classvsc import _blocks
from sklearn_classvsc._blocks import Blocks
from sklearn_classvsc._likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Gaussian,
    Likelihood,
    Multinomial,
    NegativeBinomial,
    Poisson,
)

each = pytest.mark.parametrize("name", sorted(LIKELIHOODS))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform_weight(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


def loss_of(likelihood, theta, x, weight):
    """The loss term of a batch, as the objectives have it."""
    likelihood.n_features = x.shape[1]
    return likelihood.reconstruction(likelihood.misfit(theta, x), weight)


# All -------------------------------------------------------------------------------------------


def test_the_registry_names_them():
    counts = {"poisson", "negative_binomial", "multinomial"}
    assert set(LIKELIHOODS) == {"bernoulli", "gaussian"} | counts
    for likelihood in LIKELIHOODS.values():
        assert issubclass(likelihood, Likelihood)
        assert isinstance(likelihood.standardize, bool)


@each
def test_shapes(name):
    likelihood, theta = LIKELIHOODS[name]().double(), normal(5, 3)
    x = likelihood.mean(normal(5, 3, seed=1))
    assert likelihood.log_prob(theta, x).shape == (5,)
    assert likelihood.mean(theta).shape == (5, 3)
    assert loss_of(likelihood, theta, x, uniform_weight(5)).shape == ()


@each
def test_the_mean_of_the_likeliest_theta_is_x(name):
    likelihood = LIKELIHOODS[name]().double()
    theta = normal(5, 3).requires_grad_()
    likelihood.log_prob(theta, likelihood.mean(theta).detach()).sum().backward()
    torch.testing.assert_close(theta.grad, torch.zeros_like(theta), rtol=0, atol=1e-12)


@each
@pytest.mark.parametrize("training", [False, True])
def test_gradients_equal_finite_differences(name, training):
    likelihood = LIKELIHOODS[name]().double().train(training)
    theta, x = normal(5, 3).requires_grad_(), likelihood.mean(normal(5, 3, seed=1))
    likelihood.momentum = 0  # finite differences need a function without memory
    assert gradcheck(lambda theta: loss_of(likelihood, theta, x, uniform_weight(5)), theta)


@each
def test_reconstruction_is_the_weighted_mean_of_minus_log_probability(name):
    likelihood = LIKELIHOODS[name]().double().eval()
    theta, x = normal(5, 3), likelihood.mean(normal(5, 3, seed=1))
    weight = torch.tensor([0.1, 0.4, 0.0, 0.2, 0.3], dtype=torch.float64)
    expected = -(weight * likelihood.log_prob(theta, x)).sum()
    torch.testing.assert_close(loss_of(likelihood, theta, x, weight), expected)


@each
def test_in_training_weights_act_as_repetitions(name):
    theta = normal(4, 3)
    x = LIKELIHOODS[name]().mean(normal(4, 3, seed=1))
    counts = torch.tensor([1, 3, 0, 2])
    weighted = loss_of(LIKELIHOODS[name]().double(), theta, x, counts.double() / 6)
    theta, x = theta.repeat_interleave(counts, dim=0), x.repeat_interleave(counts, dim=0)
    repeated = loss_of(LIKELIHOODS[name]().double(), theta, x, uniform_weight(6))
    torch.testing.assert_close(weighted, repeated)


def test_the_base_class_leaves_two_methods_to_write():
    with pytest.raises(NotImplementedError):
        Likelihood().log_prob(normal(1, 1), normal(1, 1))
    with pytest.raises(NotImplementedError):
        Likelihood().mean(normal(1, 1))


# Bernoulli -------------------------------------------------------------------------------------


def test_bernoulli_is_that_of_scipy():
    theta, x = normal(20, 4), (normal(20, 4, seed=1) > 0).double()
    expected = stats.bernoulli(torch.sigmoid(theta).numpy()).logpmf(x.numpy()).sum(axis=1)
    np.testing.assert_allclose(Bernoulli().log_prob(theta, x), expected, rtol=1e-12)
    torch.testing.assert_close(Bernoulli().mean(theta), torch.sigmoid(theta))


def test_bernoulli_takes_a_fraction_as_the_expected_bit():
    theta = normal(6, 2)
    of_one = Bernoulli().log_prob(theta, torch.ones_like(theta))
    of_zero = Bernoulli().log_prob(theta, torch.zeros_like(theta))
    quarter = Bernoulli().log_prob(theta, torch.full_like(theta, 0.25))
    torch.testing.assert_close(quarter, 0.25 * of_one + 0.75 * of_zero)


def test_bernoulli_is_finite_at_huge_logits():
    theta = torch.tensor([[1e4, -1e4]], requires_grad=True)
    log_prob = Bernoulli().log_prob(theta, torch.tensor([[0.0, 1.0]]))
    assert log_prob.item() == pytest.approx(-2e4)
    log_prob.backward()
    assert theta.grad.tolist() == [[-1.0, 1.0]]


def test_bernoulli_leaves_features_as_they_are():
    assert not Bernoulli.standardize
    assert not Bernoulli().state_dict()


# Gaussian --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [1.0, 0.01])
def test_gaussian_is_that_of_scipy(variance):
    likelihood = Gaussian().double()
    likelihood.noise_variance.fill_(variance)
    theta, x = normal(20, 4), normal(20, 4, seed=1)
    expected = stats.norm(theta.numpy(), math.sqrt(variance)).logpdf(x.numpy()).sum(axis=1)
    np.testing.assert_allclose(likelihood.log_prob(theta, x), expected, rtol=1e-12)
    torch.testing.assert_close(likelihood.mean(theta), theta)


def test_in_training_the_noise_variance_stands_at_its_optimum():
    theta, x, weight = normal(30, 4), normal(30, 4, seed=1), uniform_weight(30)
    loss = loss_of(Gaussian().double(), theta, x, weight)
    fixed = Gaussian().double().eval()
    mse = ((x - theta) ** 2).mean().item()
    losses = []
    for factor in (0.9, 1.0, 1.1):
        fixed.noise_variance.fill_(factor * mse)
        losses.append(loss_of(fixed, theta, x, weight).item())
    assert losses[1] < min(losses[0], losses[2])
    assert loss.item() == pytest.approx(losses[1], abs=1e-5)
    log_variance = torch.tensor(math.log(mse), dtype=torch.float64, requires_grad=True)
    fixed.noise_variance = log_variance.exp()
    (slope,) = torch.autograd.grad(loss_of(fixed, theta, x, weight), log_variance)
    assert abs(slope) < 1e-10


def test_in_training_the_gradient_is_that_at_the_optimal_noise_variance():
    theta, x, weight = normal(30, 4).requires_grad_(), normal(30, 4, seed=1), uniform_weight(30)
    (found,) = torch.autograd.grad(loss_of(Gaussian().double(), theta, x, weight), theta)
    fixed = Gaussian().double().eval()
    fixed.noise_variance.copy_(((x - theta) ** 2).mean().detach() + fixed.floor)
    (expected,) = torch.autograd.grad(loss_of(fixed, theta, x, weight), theta)
    torch.testing.assert_close(found, expected)


def test_a_perfect_reconstruction_has_a_finite_loss():
    x = torch.ones(3, 2, requires_grad=True)
    loss = loss_of(Gaussian(), x, x.detach(), torch.full((3,), 1 / 3))
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_the_noise_variance_is_a_running_mean_over_training_only():
    likelihood, x, weight = Gaussian(2).double(), torch.zeros(10, 2), uniform_weight(10)
    x = x.double()
    expected = 1.0
    for error in (2.0, 0.5, 3.0):
        running = likelihood.running(likelihood.misfit(x + error, x), weight)
        assert likelihood.noise_variance.item() == pytest.approx(expected, rel=1e-12)
        expected += likelihood.momentum * (error**2 + likelihood.floor - expected)
        assert running["noise_variance"].item() == pytest.approx(expected, rel=1e-12)
        likelihood.noise_variance.copy_(running["noise_variance"])
    likelihood.log_prob(x + 9, x)
    loss_of(likelihood.eval(), x + 9, x, weight)
    assert likelihood.noise_variance.item() == pytest.approx(expected, rel=1e-12)


def test_the_noise_variance_is_saved_but_not_trained():
    likelihood, theta = Gaussian(), torch.ones(3, 2, requires_grad=True)
    assert list(likelihood.state_dict()) == ["noise_variance"]
    assert not list(likelihood.parameters())
    misfit = likelihood.misfit(theta, torch.zeros(3, 2))
    running = likelihood.running(misfit, torch.full((3,), 1 / 3))
    assert not running["noise_variance"].requires_grad


def test_gaussian_standardises_features():
    assert Gaussian.standardize


# Counts ----------------------------------------------------------------------------------------

counts = pytest.mark.parametrize("name", ["poisson", "negative_binomial", "multinomial"])


def drawn(n, p, rate=2.0, seed=0):
    """Counts, of which the last sample has none."""
    x = torch.poisson(torch.full((n, p), rate), torch.Generator().manual_seed(seed)).double()
    x[-1] = 0
    return x


def profile(theta):
    return theta.softmax(1).numpy()


def test_poisson_is_that_of_scipy():
    theta, x = normal(20, 4), drawn(20, 4)
    rate = x.sum(1, keepdim=True).numpy() * profile(theta)
    expected = stats.poisson(rate).logpmf(x.numpy()).sum(axis=1)
    np.testing.assert_allclose(Poisson().log_prob(theta, x), expected, rtol=1e-12, atol=1e-12)


def test_multinomial_is_that_of_scipy():
    theta, x = normal(20, 4), drawn(20, 4)
    expected = stats.multinomial(x.sum(1).int().numpy(), profile(theta)).logpmf(x.numpy())
    np.testing.assert_allclose(Multinomial().log_prob(theta, x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("log_r", [-3.0, 0.0, 2.07, 2.09, 6.0])
def test_negative_binomial_is_that_of_scipy(log_r):
    likelihood, theta, x = NegativeBinomial(4).double(), normal(20, 4), drawn(20, 4)
    log_r = log_r + 0.01 * torch.arange(4.0, dtype=torch.float64)
    likelihood.log_inverse_dispersion.data.copy_(log_r)
    r, mu = log_r.exp().numpy(), x.sum(1, keepdim=True).numpy() * profile(theta)
    expected = stats.nbinom(r, r / (r + mu)).logpmf(x.numpy()).sum(axis=1)
    found = likelihood.log_prob(theta, x).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_negative_binomial_has_the_variance_it_says():
    mu, r, rng = 3.0, 0.7, np.random.default_rng(0)
    x = rng.poisson(rng.gamma(r, mu / r, size=100_000))
    assert x.var() == pytest.approx(mu + mu**2 / r, rel=0.03)
    likelihood = NegativeBinomial(2).double()
    likelihood.log_inverse_dispersion.data.fill_(math.log(r))
    # One feature of mean mu beside another that takes the rest of a library of 1,000.
    pair = np.c_[np.arange(200), 1000 - np.arange(200)]
    theta = torch.tensor([[mu, 1000 - mu]]).double().log().expand(200, 2)
    of_one = np.exp(stats.nbinom(r, r / (r + mu)).logpmf(pair[:, 0]))
    of_rest = stats.nbinom(r, r / (r + 1000 - mu)).logpmf(pair[:, 1])
    found = likelihood.log_prob(theta, torch.tensor(pair).double()).detach().numpy()
    np.testing.assert_allclose(np.exp(found - of_rest), of_one, rtol=1e-7)
    observed = np.bincount(x, minlength=200)[:6] / len(x)
    np.testing.assert_allclose(of_one[:6], observed, atol=0.006)


def test_large_inverse_dispersions_are_poisson():
    likelihood, theta, x = NegativeBinomial().double(), normal(20, 4), drawn(20, 4)
    likelihood.log_inverse_dispersion.data.fill_(50)  # as large as it can be
    expected = Poisson().log_prob(theta, x)
    torch.testing.assert_close(likelihood.log_prob(theta, x).detach(), expected, rtol=0, atol=0.02)


def test_multinomial_probabilities_of_a_total_add_up_to_one():
    total = 4
    x = torch.cartesian_prod(*3 * [torch.arange(total + 1)])
    x = x[x.sum(1) == total].double()
    log_p = Multinomial().log_prob(normal(1, 3).expand(len(x), 3), x)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_poisson_counts_given_their_total_are_multinomial():
    theta, x = normal(20, 4), drawn(20, 4)
    of_total = stats.poisson(x.sum(1).numpy()).logpmf(x.sum(1).numpy())
    given = Poisson().log_prob(theta, x) - torch.tensor(of_total)
    torch.testing.assert_close(given, Multinomial().log_prob(theta, x))


@counts
def test_a_sample_of_zeros_is_certain_and_moves_nothing(name):
    likelihood, theta = LIKELIHOODS[name](), normal(2, 4).float().requires_grad_()
    log_p = likelihood.log_prob(theta, torch.zeros(2, 4))
    log_p.sum().backward()
    np.testing.assert_allclose(log_p.detach(), 0, atol=1e-5)
    np.testing.assert_allclose(theta.grad, 0, atol=1e-12)


@pytest.mark.parametrize("size", [100.0, 1e4, 1e6])
@pytest.mark.parametrize(
    ("name", "log_r"),
    [("poisson", 0), ("multinomial", 0)]
    + [("negative_binomial", log_r) for log_r in (-10.0, 0.0, 2.0, 2.2, 10.0)],
)
def test_float32_is_close_to_float64(name, size, log_r):
    theta, x = 3 * normal(10, 50), (size * drawn(10, 50) / 100).round()
    found, expected = [], []
    for dtype, kept in ((torch.float32, found), (torch.float64, expected)):
        likelihood = LIKELIHOODS[name](50).to(dtype)
        for parameter in likelihood.parameters():
            parameter.data.fill_(log_r)
        t = theta.to(dtype).requires_grad_()
        log_p = likelihood.log_prob(t, x.to(dtype))
        log_p.sum().backward()
        kept += [log_p.detach(), t.grad, *(p.grad for p in likelihood.parameters())]
    for one, other in zip(found, expected, strict=True):
        scale = other.abs().max() + x.sum(1).max() * 1e-2
        assert ((one.double() - other).abs() / scale).max() < 2e-5


@counts
def test_huge_outputs_stay_finite(name):
    theta = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    log_p = LIKELIHOODS[name]().log_prob(theta, torch.tensor([[0.0, 3.0, 1e6]]))
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert theta.grad.isfinite().all()


@counts
def test_fractions_extend_the_formulas(name):
    likelihood, theta = LIKELIHOODS[name]().double(), normal(1, 4).expand(3, 4)
    x = torch.tensor([[0.0, 1, 2, 3], [0, 1.5, 2, 3], [0, 2, 2, 3]]).double()
    below, between, above = likelihood.log_prob(theta, x).tolist()
    assert min(below, above) - 1 < between < max(below, above) + 1


@counts
def test_decoded_counts_have_the_mean_library_size(name):
    likelihood = LIKELIHOODS[name]().double()
    likelihood.library_size.fill_(137)
    mean = likelihood.mean(normal(5, 4))
    torch.testing.assert_close(mean.sum(1), torch.full((5,), 137.0).double())
    assert "library_size" in likelihood.state_dict()


@counts
def test_the_encoder_sees_logarithms(name):
    x = drawn(5, 4)
    assert LIKELIHOODS[name].counts
    torch.testing.assert_close(LIKELIHOODS[name]().encoder_input(x), torch.log(1 + x))
    torch.testing.assert_close(
        LIKELIHOODS[name]().encoder_input(x.to_sparse()).to_dense(), torch.log(1 + x)
    )


def test_other_features_are_seen_as_they_are():
    x = normal(5, 4)
    assert Gaussian().encoder_input(x) is x
    assert not Bernoulli.counts


@counts
def test_stored_zeros_change_nothing(name):
    likelihood, theta = LIKELIHOODS[name](4), torch.randn(2, 3, generator=torch.Generator())
    weight = torch.randn(4, 3, generator=torch.Generator()).requires_grad_()
    x = torch.tensor([[0.0, 2, 0, 1], [3, 0, 0, 0]])
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(4)).T
    full = torch.sparse_coo_tensor(
        cells, x.flatten(), x.shape, is_coalesced=True, check_invariants=True
    )
    found = []
    for given in (full, x.to_sparse()):
        log_p = likelihood.log_prob(Blocks(theta, weight, torch.zeros(4), torch.float32), given)
        found.append([log_p.detach(), *torch.autograd.grad(log_p.sum(), weight)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


# In blocks -------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("training", [False, True])
def test_blocks_and_sparse_samples_change_nothing(name, training, monkeypatch):
    monkeypatch.setattr(_blocks, "ELEMENTS", 40)
    likelihood = LIKELIHOODS[name](30).double().train(training)
    x = (drawn(7, 30, rate=0.3) > 0) * normal(7, 30, seed=1).abs().clamp_max(1)
    parts = [normal(7, 4), normal(30, 4, seed=2), normal(30, seed=3)]
    parts = [part.requires_grad_() for part in parts]
    parts += likelihood.parameters()
    weight = torch.arange(1.0, 8).double() / 28
    hidden, head, bias = parts[:3]
    dense = loss_of(copy.deepcopy(likelihood), hidden @ head.T + bias, x, weight)
    theta = Blocks(hidden, head, bias, torch.float64)
    sparse = loss_of(likelihood, theta, x.to_sparse(), weight)
    torch.testing.assert_close(sparse, dense, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(loss_of(likelihood, hidden @ head.T + bias, x, weight), parts)
    for one, other in zip(torch.autograd.grad(sparse, parts), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
