"""Specification of the likelihoods."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck

from sklearn_classvsc._likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Likelihood

each = pytest.mark.parametrize("name", sorted(LIKELIHOODS))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform_weight(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


# All -------------------------------------------------------------------------------------------


def test_the_registry_names_them():
    assert {"bernoulli", "gaussian"} <= set(LIKELIHOODS)
    for likelihood in LIKELIHOODS.values():
        assert issubclass(likelihood, Likelihood)
        assert isinstance(likelihood.standardize, bool)


@each
def test_shapes(name):
    likelihood, theta = LIKELIHOODS[name]().double(), normal(5, 3)
    x = likelihood.mean(normal(5, 3, seed=1))
    assert likelihood.log_prob(theta, x).shape == (5,)
    assert likelihood.mean(theta).shape == (5, 3)
    assert likelihood.reconstruction(theta, x, uniform_weight(5)).shape == ()


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
    assert gradcheck(lambda theta: likelihood.reconstruction(theta, x, uniform_weight(5)), theta)


@each
def test_reconstruction_is_the_weighted_mean_of_minus_log_probability(name):
    likelihood = LIKELIHOODS[name]().double().eval()
    theta, x = normal(5, 3), likelihood.mean(normal(5, 3, seed=1))
    weight = torch.tensor([0.1, 0.4, 0.0, 0.2, 0.3], dtype=torch.float64)
    expected = -(weight * likelihood.log_prob(theta, x)).sum()
    torch.testing.assert_close(likelihood.reconstruction(theta, x, weight), expected)


@each
def test_in_training_weights_act_as_repetitions(name):
    theta = normal(4, 3)
    x = LIKELIHOODS[name]().mean(normal(4, 3, seed=1))
    counts = torch.tensor([1, 3, 0, 2])
    weighted = LIKELIHOODS[name]().double().reconstruction(theta, x, counts.double() / 6)
    theta, x = theta.repeat_interleave(counts, dim=0), x.repeat_interleave(counts, dim=0)
    repeated = LIKELIHOODS[name]().double().reconstruction(theta, x, uniform_weight(6))
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
    loss = Gaussian().double().reconstruction(theta, x, weight)
    fixed = Gaussian().double().eval()
    mse = ((x - theta) ** 2).mean().item()
    losses = []
    for factor in (0.9, 1.0, 1.1):
        fixed.noise_variance.fill_(factor * mse)
        losses.append(fixed.reconstruction(theta, x, weight).item())
    assert losses[1] < min(losses[0], losses[2])
    assert loss.item() == pytest.approx(losses[1], abs=1e-5)
    log_variance = torch.tensor(math.log(mse), dtype=torch.float64, requires_grad=True)
    fixed.noise_variance = log_variance.exp()
    (slope,) = torch.autograd.grad(fixed.reconstruction(theta, x, weight), log_variance)
    assert abs(slope) < 1e-10


def test_in_training_the_gradient_is_that_at_the_optimal_noise_variance():
    theta, x, weight = normal(30, 4).requires_grad_(), normal(30, 4, seed=1), uniform_weight(30)
    (found,) = torch.autograd.grad(Gaussian().double().reconstruction(theta, x, weight), theta)
    fixed = Gaussian().double().eval()
    fixed.noise_variance.copy_(((x - theta) ** 2).mean().detach() + fixed.floor)
    (expected,) = torch.autograd.grad(fixed.reconstruction(theta, x, weight), theta)
    torch.testing.assert_close(found, expected)


def test_a_perfect_reconstruction_has_a_finite_loss():
    x = torch.ones(3, 2, requires_grad=True)
    loss = Gaussian().reconstruction(x, x.detach(), torch.full((3,), 1 / 3))
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_the_noise_variance_is_a_running_mean_over_training_only():
    likelihood, x, weight = Gaussian().double(), torch.zeros(10, 2), uniform_weight(10)
    x = x.double()
    expected = 1.0
    for error in (2.0, 0.5, 3.0):
        likelihood.reconstruction(x + error, x, weight)
        new = error**2 + likelihood.floor
        expected += likelihood.momentum * (new - expected)
        assert likelihood.noise_variance.item() == pytest.approx(expected, rel=1e-12)
    likelihood.log_prob(x + 9, x)
    likelihood.eval()
    likelihood.reconstruction(x + 9, x, weight)
    assert likelihood.noise_variance.item() == pytest.approx(expected, rel=1e-12)


def test_the_noise_variance_is_saved_but_not_trained():
    likelihood, theta = Gaussian(), torch.ones(3, 2, requires_grad=True)
    assert list(likelihood.state_dict()) == ["noise_variance"]
    assert not list(likelihood.parameters())
    likelihood.reconstruction(theta, torch.zeros(3, 2), torch.full((3,), 1 / 3))
    assert not likelihood.noise_variance.requires_grad


def test_gaussian_standardises_features():
    assert Gaussian.standardize
