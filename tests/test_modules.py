"""Specification of the networks."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_classvsc import _modules
from sklearn_classvsc._blocks import Blocks
from sklearn_classvsc._layers import (
    ACTIVATIONS,
    Linear,
    Residual,
    hide_features,
    initialize,
    linear,
    mlp,
)
from sklearn_classvsc._likelihoods import LIKELIHOODS, Bernoulli, Gaussian, Multinomial
from sklearn_classvsc._modules import make_autoencoder


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def autoencoder(p=5, d=3, seed=0, **changes):
    parts = {
        "encoder": None,
        "decoder": None,
        "hidden_layer_sizes": [8],
        "activation": "relu",
        "likelihood": Gaussian(),
        "alpha": torch.full((d,), 0.2),
        "prior_mean": 0.0,
        "gated": True,
        "generator": seeded(seed),
    }
    return make_autoencoder(p, **(parts | changes))


def samples(n=6, p=5, seed=0):
    return torch.randn(n, p, generator=seeded(seed))


def assert_equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def assert_same_weights(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, tensor in a.state_dict().items():
        assert_equal(tensor, b.state_dict()[name])


# Forward ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("hidden", [[], [8], [8, 4]])
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_shapes(gated, hidden, likelihood):
    model = autoencoder(
        gated=gated, hidden_layer_sizes=hidden, likelihood=LIKELIHOODS[likelihood]()
    )
    q, z, theta, priors, scores = model(samples(), seeded())
    assert q.gamma.shape == q.mu.shape == q.log_var.shape == z.shape == (6, 3)
    assert theta.shape == (6, 5)
    assert (q.logits is None) == (not gated) and priors is scores is None


def test_forward_is_encode_then_sample_then_decode():
    model, x = autoencoder(), samples()
    q, z, theta, *_ = model(x, seeded(7))
    expected = model.encode(x)
    for name in ("logits", "mu", "log_var"):
        assert_equal(getattr(q, name), getattr(expected, name))
    assert_equal(z, expected.rsample(seeded(7), model.temperature))
    assert_equal(theta, model.decode(z))


def test_encoder_is_its_body_and_its_head():
    model, x = autoencoder(), samples()
    parameters = model.encoder_head(model.encoder(x))
    q = model.encode(x)
    assert_equal(torch.cat([q.mu, q.log_var, q.logits], dim=1), parameters)
    z = samples(6, 3)
    assert_equal(model.decode(z), model.decoder_head(model.decoder(z)))


@pytest.mark.parametrize("training", [False, True])
def test_an_output_does_not_depend_on_its_batch(training):
    model, x = autoencoder().double().train(training), samples(20).double()
    whole, z = model.encode(x), samples(20, 3).double()
    for rows in (slice(0, 1), slice(5, 12)):
        torch.testing.assert_close(model.encode(x[rows]).logits, whole.logits[rows])
        torch.testing.assert_close(model.encode(x[rows]).mu, whole.mu[rows])
        torch.testing.assert_close(model.decode(z[rows]), model.decode(z)[rows])


def test_every_weight_gets_a_gradient():
    model = autoencoder(hidden_layer_sizes=[8, 4])
    out = model(samples(50), seeded())
    (out.theta.square().sum() + out.q.kl(model.alpha).sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_what_is_not_trained_travels_with_the_weights():
    state = autoencoder(alpha=torch.tensor([0.1, 0.2, 0.3])).state_dict()
    assert_equal(state["alpha"], torch.tensor([0.1, 0.2, 0.3]))
    assert "likelihood.noise_variance" in state
    assert "alpha" not in dict(autoencoder().named_parameters())


def test_hidden_layers_are_mirrored_in_the_decoder():
    model = autoencoder(hidden_layer_sizes=[8, 4])
    widths = {
        name: [layer.out_features for layer in body.modules() if isinstance(layer, nn.Linear)]
        for name, body in [("encoder", model.encoder), ("decoder", model.decoder)]
    }
    assert widths == {"encoder": [8, 4], "decoder": [4, 8]}


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_body_normalises_before_each_activation(activation):
    body = mlp(5, [8, 4], activation)
    one = [Linear, nn.LayerNorm, type(ACTIVATIONS[activation]())]
    assert [type(layer) for layer in body] == [*one, Residual]
    assert [type(layer) for layer in body[3]] == one
    initialize(body, seeded())
    x = samples()
    torch.testing.assert_close(body(x).isfinite().all(), torch.tensor(True))
    # Nothing saturates, whatever the scale: only the direction of the first layer's output counts.
    nn.init.zeros_(body[0].bias)
    torch.testing.assert_close(body(1e3 * x), body(1e6 * x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_gradients_of_a_body_equal_finite_differences(activation):
    """Also where an activation writes over its input."""
    body = mlp(5, [8, 8, 4], activation)
    initialize(body, seeded())
    body.double()
    assert torch.autograd.gradcheck(body, samples().double().requires_grad_())


def test_an_unseeded_pass_uses_the_noise_of_torch():
    model, x = autoencoder(), samples()
    assert not torch.equal(model(x).z, model(x).z)


def test_the_variances_of_the_slabs_stay_where_exp_stands():
    model, x = autoencoder(encoder=nn.Identity()), torch.linspace(-1e6, 1e6, 50).reshape(10, 5)
    q = model.encode(x)
    assert q.log_var.min() == -10
    assert q.log_var.max() == 6
    q.slab_kl().sum().backward()
    assert all(head.grad.isfinite().all() for head in model.encoder_head.parameters())


def test_an_output_without_dropout_is_that_of_all_features():
    model, x = autoencoder(input_dropout=0.5).eval(), samples()
    assert_equal(model(x, seeded()).q.mu, model.encode(x).mu)


def test_dropout_hides_features_from_the_encoder_and_keeps_their_mean():
    model = autoencoder(4, 4, encoder=nn.Identity(), input_dropout=0.25, gated=False)
    model.encoder_head.weight.data = torch.eye(4).repeat(2, 1)
    seen = model(torch.ones(10_000, 4), seeded()).q.mu
    shown = (seen != 0).float()
    torch.testing.assert_close(seen, shown / 0.75)
    assert shown.mean().item() == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(torch.corrcoef(shown.T), torch.eye(4), rtol=0, atol=0.05)


def test_dropout_draws_from_the_generator_alone():
    model, state = autoencoder(input_dropout=0.5), torch.get_rng_state()
    first, again, other = (model(samples(), seeded(seed)).q.mu for seed in (0, 0, 1))
    assert_equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_class_has_a_profile_that_starts_undecided():
    model = autoencoder(n_classes=4)
    assert_equal(model.state_dict()["class_profile"], torch.full((4, 3), 0.5))
    assert "class_profile" not in dict(model.named_parameters())
    assert autoencoder().class_profile.shape == (0, 3)


# Initial weights -------------------------------------------------------------------------------


def test_weights_come_from_the_generator_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (autoencoder(seed=seed, hidden_layer_sizes=[8, 4]) for seed in (0, 0, 1))
    assert_same_weights(first, again)
    assert not torch.equal(first.encoder_head.weight, other.encoder_head.weight)
    assert not torch.equal(first.decoder_head.weight, other.decoder_head.weight)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_forward_with_a_generator_leaves_the_global_state_alone():
    model, state = autoencoder(), torch.get_rng_state()
    model(samples(), seeded())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_head_starts_uniform_within_one_over_the_root_of_its_inputs():
    head = linear(100, 400)
    initialize(head, seeded())
    assert head.weight.abs().max() <= 0.1
    assert head.weight.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)
    assert (head.bias == 0).all()


def test_a_body_keeps_the_variance_through_its_rectifiers():
    body = mlp(200, [300, 400], "relu")
    initialize(body, seeded())
    for layer, n_in in [(body[0], 200), (body[3][0], 300)]:
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / n_in), rel=0.02)
        assert (layer.bias == 0).all()


@pytest.mark.parametrize("n_out", [3, 5, 8])
def test_layers_after_the_first_are_residual(n_out):
    body = mlp(7, [5, n_out], "relu")
    initialize(body, seeded())
    x = torch.randn(4, 7, generator=seeded())
    first = body[:3](x)
    kept = torch.zeros(4, n_out)
    kept[:, : min(5, n_out)] = first[:, :n_out]
    torch.testing.assert_close(body(x), kept + nn.Sequential(*body[3])(first))


def test_gates_that_the_prior_wants_on_start_on_and_the_others_undecided():
    model = autoencoder(alpha=torch.tensor([0.95, 0.5, 0.1]))
    assert model.encoder_head.bias.tolist() == [0.0] * 6 + [2.0, 0.0, 0.0]
    assert (autoencoder(alpha=torch.tensor([0.95, 0.1]), gated=False).encoder_head.bias == 0).all()


def test_every_weight_is_initialised():
    # Fresh memory may hold anything: build after filling it with NaN.
    for _ in range(5):
        rubbish = [torch.full((64, 64), math.nan) for _ in range(20)]
        del rubbish
        model = autoencoder(64, 64, hidden_layer_sizes=[64, 64])
        assert all(parameter.isfinite().all() for parameter in model.parameters())
        assert_same_weights(model, autoencoder(64, 64, hidden_layer_sizes=[64, 64]))


# A user's bodies -------------------------------------------------------------------------------


class Body(nn.Module):
    """Has weights, a buffer, and behaves differently in training."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(0.5)
        )

    def forward(self, x):
        return self.layers(x)


def test_a_body_of_the_users_is_copied_with_its_weights():
    encoder, decoder = Body(5, 7), Body(3, 9)
    before = copy.deepcopy(encoder), copy.deepcopy(decoder)
    model = autoencoder(encoder=encoder, decoder=decoder)
    assert_same_weights(model.encoder, encoder)
    assert_same_weights(model.decoder, decoder)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(1)
    model(samples(), seeded())
    assert_same_weights(encoder, before[0])
    assert_same_weights(decoder, before[1])
    assert model.encoder_head.in_features == 7
    assert model.decoder_head.in_features == 9


@pytest.mark.parametrize("training", [False, True])
def test_asking_a_body_for_its_width_leaves_its_mode(training):
    encoder = Body(5, 7).train(training)
    model = autoencoder(encoder=encoder)
    assert encoder.training == model.encoder.training == training


def test_the_same_module_may_be_both_bodies():
    body = nn.Linear(4, 4)
    model = autoencoder(4, 4, encoder=body, decoder=body)
    assert model.encoder is not model.decoder
    assert model(samples(p=4), seeded()).theta.shape == (6, 4)


def test_a_body_reshapes_as_it_likes_inside():
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(1)
    )
    model = autoencoder(6, 3, encoder=encoder, likelihood=Bernoulli())
    assert model(samples(p=6), seeded()).theta.shape == (6, 6)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


class Column(nn.Module):
    def forward(self, x):
        return x[:, [99]]


class Nothing(nn.Module):
    def forward(self, x):
        return x[:, :0]


@pytest.mark.parametrize("name", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(nn.Linear(99, 4), id="takes another width"),
        pytest.param(nn.Conv2d(1, 4, 2), id="takes images"),
        pytest.param(nn.Flatten(0), id="loses the samples"),
        pytest.param(nn.Unflatten(1, (1, -1)), id="returns three axes"),
        pytest.param(nn.Embedding(4, 4), id="takes indices"),
        pytest.param(Pair(), id="returns a tuple"),
        pytest.param(TwoInputs(), id="takes two arguments"),
        pytest.param(Column(), id="indexes out of range"),
        pytest.param(nn.BatchNorm2d(5), id="raises its own ValueError"),
        pytest.param(Nothing(), id="returns no features"),
    ],
)
def test_a_body_of_the_wrong_shape_is_named(name, body):
    with pytest.raises(ValueError, match=rf"(?s){name}={type(body).__name__}.*shape"):
        autoencoder(5, 5, **{name: body})


def test_a_body_that_would_draw_its_own_weights_is_refused():
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"encoder=LazyLinear.*lazy"):
        autoencoder(encoder=nn.LazyLinear(4))
    assert torch.equal(torch.get_rng_state(), state)


# Sparse samples and counts ---------------------------------------------------------------------


def sparse_samples(n=6, p=9, seed=0):
    x = samples(n, p, seed).abs()
    x[x < 1] = 0
    x[2] = 0
    x[:, 4] = 0
    return x


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_linear_layer_takes_sparse_samples():
    layer, x = linear(9, 4), sparse_samples()
    initialize(layer, seeded())
    layer.bias.data.fill_(0.5)
    gradients = []
    for given in (x, x.to_sparse()):
        out = layer(given)
        assert_close(out, torch.nn.functional.linear(x, layer.weight, layer.bias))
        gradients.append(torch.autograd.grad(out.sin().sum(), list(layer.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other)


def test_a_linear_layer_takes_samples_of_nothing():
    layer = linear(9, 4)
    initialize(layer, seeded())
    out = layer(torch.zeros(3, 9).to_sparse())
    assert_close(out, layer.bias.expand(3, 4))
    out.sum().backward()
    assert_close(layer.weight.grad, torch.zeros(4, 9))


@pytest.mark.parametrize("hidden", [[], [8], [8, 4]])
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_sparse_samples_give_the_same_codes_and_blocks_of_the_same_theta(hidden, likelihood):
    parts = {"hidden_layer_sizes": hidden, "likelihood": LIKELIHOODS[likelihood](9)}
    model, x = autoencoder(9, **parts), sparse_samples()
    dense, sparse = model(x, seeded(1)), model(x.to_sparse(), seeded(1))
    assert_close(sparse.q.mu, dense.q.mu)
    assert_close(sparse.z, dense.z)
    assert isinstance(sparse.theta, Blocks)
    hidden, weight, bias, _ = sparse.theta
    assert_close(hidden @ weight.T + bias, dense.theta)


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_large_dense_samples_get_blocks_where_features_stand_alone(likelihood, monkeypatch):
    model = autoencoder(9, likelihood=LIKELIHOODS[likelihood](9))
    x = sparse_samples()
    monkeypatch.setattr(_modules, "LARGE", x.numel())
    whole = model(x, seeded(1)).theta
    monkeypatch.setattr(_modules, "LARGE", x.numel() - 1)
    theta = model(x, seeded(1)).theta
    assert isinstance(whole, torch.Tensor)
    assert isinstance(theta, Blocks) == LIKELIHOODS[likelihood].dense_blocks
    weight = torch.full((len(x),), 1 / len(x))
    misfits = [model.likelihood.misfit(out, x) for out in (theta, whole)]
    losses = [model.likelihood.reconstruction(misfit, weight) for misfit in misfits]
    torch.testing.assert_close(*losses)
    grads = [torch.autograd.grad(loss, model.decoder_head.weight) for loss in losses]
    torch.testing.assert_close(*grads)


def test_the_encoder_sees_counts_through_the_likelihood():
    model, x = autoencoder(likelihood=Multinomial()), samples().abs().round()
    expected = model.encoder_head(model.encoder(torch.log1p(x)))
    assert_close(model.encode(x).mu, expected[:, :3])
    assert_close(model(x, seeded()).q.mu, expected[:, :3])


def test_of_sparse_samples_only_non_zeros_are_hidden():
    x = (torch.arange(2000) % 10 == 0).float().view(20, 100).to_sparse()
    hidden = hide_features(x, 0.25, seeded())
    assert hidden.is_coalesced()
    assert torch.equal(hidden.indices(), x.indices())
    assert set(hidden.values().tolist()) <= {0.0, torch.tensor(1 / 0.75).item()}
    assert 0.15 < (hidden.values() == 0).float().mean() < 0.35
    assert torch.equal(x.values(), torch.ones(200))


def test_a_users_own_encoder_gets_dense_samples():
    class Body(nn.Linear):
        def forward(self, x):
            assert not x.is_sparse
            return super().forward(x)

    model, x = autoencoder(9, encoder=Body(9, 4)), sparse_samples()
    assert_close(model.encode(x.to_sparse()).mu, model.encode(x).mu)


def test_counts_start_at_their_means():
    model = autoencoder(likelihood=Multinomial())
    model.start_at(torch.tensor([4.0, 2.0, 0.0, 1.0, 3.0]))
    assert model.likelihood.library_size == 10
    assert_close(model.decoder_head.bias.exp(), torch.tensor([0.4, 0.2, 0.05, 0.1, 0.3]))


def test_counts_of_nothing_leave_the_start_as_it_is():
    model = autoencoder(likelihood=Multinomial())
    model.start_at(torch.zeros(5))
    assert model.likelihood.library_size == 0
    assert_close(model.decoder_head.bias, torch.zeros(5))


def test_autocast_reaches_the_blocks():
    model, x = autoencoder(9), sparse_samples().to_sparse()
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x, seeded(1))
    whole = model(x, seeded(1))
    assert low.theta.dtype == torch.bfloat16
    assert whole.theta.dtype == torch.float32
    torch.testing.assert_close(low.q.mu, whole.q.mu, rtol=0.1, atol=0.05)
    loss = model.likelihood.misfit(low.theta, x).mean()
    loss.backward()
    assert loss.dtype == model.decoder_head.weight.grad.dtype == torch.float32
