"""Specification of the axes of a code: what a rotation leaves as it is, and what it names."""

import numpy as np
import pytest
import torch
from helpers import small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from torch import nn

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._data import ArrayDataset
from sklearn_classvsc._estimators import role_alpha
from sklearn_classvsc._rotation import apply_turn, find_turn, sees_codes, varimax
from sklearn_classvsc.bodies import ConvDecoder, Linear, ResidualMLP
from sklearn_classvsc.datasets import make_class_factors

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
#: Given, it leaves the code to begin at random.
ALPHA = role_alpha(6, 3)
RNG = np.random.default_rng(0)
FACTORS = make_class_factors(600, 24, n_classes=3, n_shared=0, n_specific=1, random_state=0)
X, Y = FACTORS.data.astype(np.float32), FACTORS.target
COUNTS = RNG.poisson(np.exp(X[:, :16] / 2)).astype(np.float32)
IMAGES = make_class_factors(300, image_shape=(8, 8), n_classes=3, random_state=0)


def turned(est, data, labels=None, rotation="varimax"):
    """Return codes, decoded samples and gates before and after a turn of a copy, and the turn."""
    module = est.module_
    standardization = est._fitted.model.standardization
    dataset = ArrayDataset(data, labels, standardization=standardization)
    x = next(dataset.slices(len(data)))
    turn = find_turn(module, dataset, rotation)

    def seen():
        with torch.no_grad():
            q = module.encode(x)
            z = q.sparse_mean()
            kl = q.slab_kl(module.prior_mean).sum(1)
            return z, module.decode(z), q.gamma, kl

    before = seen()
    apply_turn(module.requires_grad_(False), turn)
    return before, seen(), turn


@pytest.mark.parametrize("rotation", ["varimax", "principal"])
@pytest.mark.parametrize(
    ("cls", "data", "parameters"),
    [
        (ClassVSCTransformer, X, {"alpha": ALPHA}),
        (ClassVSCTransformer, X, {"objective": "balanced"}),
        (ClassVSCTransformer, X, {"decoder": Linear()}),
        (ClassVSCTransformer, X, {"decoder": ResidualMLP(8)}),
        (ClassVSCTransformer, X, {"hidden_layer_sizes": (), "alpha": ALPHA}),
        (ClassVSCTransformer, X, {"decoder": nn.Sequential(nn.Linear(6, 8), nn.Tanh())}),
        (ClassVSCTransformer, COUNTS, {"likelihood": "poisson"}),
        (ClassVSCTransformer, X.clip(0, 1), {"likelihood": "bernoulli"}),
        (VAETransformer, X, {}),
        (VSCTransformer, X, {}),
        (VSCTransformer, X, {"prior": "pseudo_inputs"}),
    ],
)
def test_a_turn_changes_no_reconstruction(cls, data, parameters, rotation):
    est = small(cls, max_epochs=60, rotation=None, **parameters).fit(data, Y)
    labels = Y if cls is ClassVSCTransformer else None
    (z, theta, gamma, _), (z2, theta2, gamma2, _), turn = turned(est, data, labels, rotation)
    same = ((gamma > 0.5).sum(1) == (gamma2 > 0.5).sum(1)).numpy()  # gates in doubt are averaged
    assert same.mean() > 0.95
    torch.testing.assert_close(theta2[same], theta[same], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        z2[same], (z[same].double() @ torch.from_numpy(turn.rotation)).float(), rtol=1e-3, atol=1e-3
    )
    assert ((z2 == 0) == (gamma2 <= 0.5)).all(), "zeros stay exact"


def test_a_convolutional_decoder_is_turned_too():
    images = IMAGES.data.astype(np.float32)
    decoder = ConvDecoder((1, 8, 8), channels=(4,))
    est = small(VAETransformer, max_epochs=10, rotation=None, decoder=decoder)
    (_, theta, *_), (_, theta2, *_), turn = turned(est.fit(images), images)
    assert not np.allclose(np.abs(turn.rotation).max(0), 1)
    torch.testing.assert_close(theta2, theta, rtol=1e-3, atol=1e-3)


def test_a_turn_is_orthogonal_and_keeps_alpha_gates_and_the_divergence_from_the_prior():
    est = small(ClassVSCTransformer, n_components=12, max_epochs=60, rotation=None).fit(X, Y)
    alpha = est.module_.alpha.numpy()
    before, after, turn = turned(est, X, Y)
    np.testing.assert_allclose(turn.rotation.T @ turn.rotation, np.eye(12), atol=1e-9)
    np.testing.assert_allclose(turn.mixing.sum(0), 1)
    moved = np.abs(turn.rotation) > 1e-12  # only dimensions of one alpha mix
    assert all(np.allclose(alpha[moved[:, j]], alpha[j]) for j in range(12))
    squares = (torch.tensor(turn.rotation).float()).square()
    assert float(after[2].mean()) == pytest.approx(float(before[2].mean()), rel=0.01)
    # But for the variances, which are mixed, the divergence is what it was.
    assert squares.sum(0).allclose(torch.ones(12))
    assert float(after[3].mean()) == pytest.approx(float(before[3].mean()), rel=0.1)


def test_the_moments_of_adam_turn_with_the_weights():
    """Training that goes on in the new axes is training that goes on in the old ones, turned."""
    est = small(VAETransformer, max_epochs=5, rotation=None).fit(X)
    one, two = (est._fitted.training.copy() for _ in range(2))
    for training in (one, two):
        training.prepare(est._how())
    module, optimizer = two.net.module_, two.net.optimizer_
    first = module.encoder_head.weight
    turn = find_turn(module, ArrayDataset(X, standardization=one.standardization), "principal")
    apply_turn(module, turn, optimizer)
    T = torch.from_numpy(turn.rotation).float()
    moments = optimizer.state[first]["exp_avg"][:6]
    before = one.net.optimizer_.state[one.net.module_.encoder_head.weight]["exp_avg"][:6]
    torch.testing.assert_close(moments, T.T @ before)


@given(seed=st.integers(0, 10**6), k=st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_varimax_finds_the_axes_of_simple_structure(seed, k):
    rng = np.random.default_rng(seed)
    L = np.zeros((5 * k, k))
    L[np.arange(5 * k), np.arange(5 * k) % k] = rng.choice([-1, 1], 5 * k) * rng.uniform(0.5, 2)
    hidden = ortho_group.rvs(k, random_state=seed)
    R = varimax(L @ hidden.T)
    np.testing.assert_allclose(R.T @ R, np.eye(k), atol=1e-9)
    found = np.abs(hidden.T @ R)
    np.testing.assert_allclose(found.max(axis=0), 1, atol=1e-3)


def test_principal_axes_are_uncorrelated_within_the_classes_and_in_order():
    est = small(ClassVSCTransformer, n_components=12, max_epochs=60, rotation=None).fit(X, Y)
    _, (z, *_), _ = turned(est, X, Y, "principal")
    block = np.flatnonzero(est.module_.alpha.numpy() > 0.5)
    z = z[:, block].numpy().astype(float)
    for c in range(3):
        z[Y == c] -= z[Y == c].mean(0)
    correlation = np.corrcoef(z.T)
    assert np.abs(correlation - np.eye(len(block))).max() < 0.2


def test_global_factors_are_each_in_one_dimension():
    """What all classes have spans the global factors, and varimax tells them apart."""
    made = make_class_factors(
        900, 40, n_classes=3, n_global=3, n_shared=0, n_specific=1, random_state=0
    )
    train, test = slice(600), slice(600, None)

    def found(rotation):
        alpha = role_alpha(16, 3)  # given, it leaves the code to begin at random
        est = ClassVSCTransformer(16, alpha=alpha, rotation=rotation, max_epochs=80, random_state=0)
        Z = est.fit(made.data[train], made.target[train]).transform(made.data[test])
        r = np.corrcoef(made.codes[test][:, :3].T, Z.T)[:3, 3:]
        return np.nan_to_num(np.abs(r)).max(axis=1)

    assert found("varimax").min() > 0.9
    assert found(None).min() < 0.9


def test_the_first_dimension_explains_most_and_its_largest_effect_rises():
    alpha = role_alpha(12, 3)  # those of FACTORS are equally strong where they are found at once
    est = ClassVSCTransformer(12, alpha=alpha, max_epochs=60, random_state=0).fit(X, Y)
    Z, standard = est.transform(X), X.std(0)
    block = np.flatnonzero(est.module_.alpha.numpy() > 0.5)
    mean, power = Z.mean(0), []
    for j in block:
        step = 0.5 * np.eye(12)[j]
        effect = (est.inverse_transform([mean + step]) - est.inverse_transform([mean - step]))[0]
        effect = effect / standard
        assert effect[np.abs(effect).argmax()] > 0
        power.append(Z[:, j].var() * (effect**2).sum())
    assert power[0] > np.mean(power), "turned at two thirds of training, the order stays nearly"


def test_a_decoder_that_does_not_begin_with_a_linear_layer_is_left_or_refused():
    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 8)

        def forward(self, z):
            return self.layer(z)

    body = Body()
    plain = small(ClassVSCTransformer, decoder=body, rotation=None).fit(X, Y)
    auto = small(ClassVSCTransformer, decoder=body).fit(X, Y)
    assert sees_codes(auto.module_) is None
    np.testing.assert_array_equal(auto.transform(X), plain.transform(X))
    with pytest.raises(ValueError, match="rotation='varimax' cannot turn the codes of decoder="):
        small(ClassVSCTransformer, decoder=body, rotation="varimax").fit(X, Y)


@pytest.mark.parametrize("rotation", ["oblimin", True, 1])
def test_an_unknown_rotation_is_refused(rotation):
    with pytest.raises(ValueError, match="The 'rotation' parameter"):
        small(VAETransformer, rotation=rotation).fit(X)


def test_a_turned_model_is_saved_loaded_and_goes_on(tmp_path):
    est = small(ClassVSCTransformer, n_components=12, max_epochs=20).fit(X, Y)
    assert est.module_.prior_mean.unique().numel() > 1, "it was turned"
    est.save(tmp_path / "model")
    loaded = ClassVSCTransformer.load(tmp_path / "model")
    for name in ("transform", "score_samples"):
        np.testing.assert_array_equal(getattr(loaded, name)(X), getattr(est, name)(X))
    np.testing.assert_array_equal(loaded.sample(5), est.sample(5))
    np.testing.assert_array_equal(
        loaded.partial_fit(X, Y).transform(X), est.partial_fit(X, Y).transform(X)
    )


def test_a_stream_and_an_array_have_the_same_axes():
    array = small(ClassVSCTransformer, max_epochs=6, batch_size=600).fit(X, Y)
    stream = small(ClassVSCTransformer, max_epochs=6, batch_size=600).fit(lambda: [(X, Y)])
    Z, W = array.transform(X), stream.transform(X)
    assert np.isfinite(W).all() and (Z != 0).mean() == pytest.approx((W != 0).mean(), abs=0.2)


def test_early_stopping_before_the_turn_turns_all_the_same():
    parameters = {"early_stopping": True, "n_iter_no_change": 1, "learning_rate": 1.0}
    est = small(ClassVSCTransformer, n_components=12, max_epochs=50, **parameters).fit(X, Y)
    assert est.n_iter_ < 33
    assert est.module_.prior_mean.unique().numel() > 1
