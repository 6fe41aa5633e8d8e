"""Specification of the bodies that come with the package."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from helpers import small
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer, _data
from sklearn_classvsc.bodies import LARGEST, ConvDecoder, ConvEncoder, Linear, ResidualMLP
from sklearn_classvsc.export import to_onnx
from sklearn_classvsc.testing import check_body

ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
SHAPE = (1, 8, 8)
ENCODER, DECODER = ConvEncoder(SHAPE, channels=(3, 4)), ConvDecoder(SHAPE, channels=(3, 4))
RECIPES = [(ENCODER, 64), (DECODER, 6), (ResidualMLP(8), 5)]
each_recipe = pytest.mark.parametrize(
    ("recipe", "n_in"), RECIPES, ids=[type(recipe).__name__ for recipe, _ in RECIPES]
)


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(module):
    return torch.cat([parameter.detach().ravel() for parameter in module.parameters()])


@pytest.mark.parametrize("cls", [VAETransformer, VSCTransformer, ClassVSCTransformer])
def test_a_linear_decoder_adds_up_what_its_dimensions_do(cls, images, tmp_path):
    X, y = images
    est = small(cls, decoder=Linear(), likelihood="gaussian").fit(X, y)
    Z = est.transform(X)
    one, other, zero = (est.inverse_transform(z) for z in (Z[:1], Z[1:2], 0 * Z[:1]))
    np.testing.assert_allclose(
        est.inverse_transform(Z[:1] + Z[1:2]) - zero, (one - zero) + (other - zero), atol=1e-5
    )
    est.save(tmp_path / "linear")
    np.testing.assert_array_equal(cls.load(tmp_path / "linear").transform(X), Z)


# The layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_shape", "channels"),
    [
        ((1, 28, 28), (32, 64)),
        ((3, 32, 32), (8,)),
        ((1, 8, 8), (2, 3, 4)),
        ((2, 13, 7), (4, 5)),
        ([1, 5, 64], np.array([3, 3])),
    ],
)
def test_bodies_for_images_of_any_shape_keep_the_protocol(image_shape, channels):
    n_features = math.prod(image_shape)
    check_body(
        ConvEncoder(image_shape, channels=channels),
        ConvDecoder(image_shape, channels=channels),
        n_features=n_features,
        n_components=5,
    )


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
@pytest.mark.parametrize("n_blocks", [1, 3])
def test_residual_bodies_keep_the_protocol(activation, n_blocks):
    body = ResidualMLP(7, n_blocks=n_blocks, activation=activation)
    check_body(body, body, n_features=9, n_components=4)


def test_each_convolution_halves_the_image():
    encoder = ConvEncoder((1, 28, 28), channels=(5, 6)).build(784, seeded())
    shapes, x = [], torch.zeros(2, 784)
    for layer in encoder:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(5, 14, 14), (6, 7, 7)]
    assert x.shape == (2, 6 * 7 * 7)


def test_features_are_pixels_channel_by_channel_and_row_by_row():
    """A pixel moves what the convolution sees in its own place and channel, and nothing else."""
    encoder = ConvEncoder((2, 8, 8), channels=(1,)).build(128, seeded())
    first = nn.Sequential(*encoder[:2])
    images = torch.zeros(2, 2, 8, 8)
    images[1, 1, 7, 0] = 1  # the lower left corner of the second channel
    before, after = first(images.reshape(2, -1))
    moved = (before - after)[0].nonzero()
    assert moved.tolist() == [[3, 0]]
    kernel = encoder[1].weight[0, 1]
    assert (after - before)[0, 3, 0].item() == pytest.approx(kernel[2, 1].item())


def test_a_decoder_makes_theta_itself_so_that_no_head_is_needed(images):
    est = small(VSCTransformer, decoder=DECODER).fit(images[0])
    assert isinstance(est.module_.decoder_head, nn.Identity)
    z = torch.zeros(3, 6)
    assert torch.equal(est.module_.decode(z), est.module_.decoder(z))
    assert small(VSCTransformer, encoder=ENCODER).fit(images[0]).module_.encoder_head.in_features


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson", "negative_binomial"])
def test_images_in_sparse_arrays_are_as_good_as_dense_ones(likelihood, monkeypatch):
    monkeypatch.setattr(_data, "WIDE", 64)  # so that batches stay sparse
    X = np.random.default_rng(0).binomial(1, 0.1, (40, 64)).astype(np.float32)
    est = small(VSCTransformer, encoder=ENCODER, decoder=DECODER, likelihood=likelihood)
    wide = clone(est).fit(sparse.csr_array(X))
    # A Gaussian's wide sparse samples are scaled and not centred: another model.
    expected = (wide if likelihood == "gaussian" else est.fit(X)).score_samples(X)
    np.testing.assert_allclose(wide.score_samples(sparse.csr_array(X)), expected, rtol=1e-3)


def test_a_residual_block_adds_to_what_it_is_given():
    body = ResidualMLP(6, n_blocks=1).build(4, seeded())
    first, block = nn.Sequential(*body[:3]), body[3]
    x = torch.randn(5, 4, generator=seeded())
    h = first(x)
    branch = nn.Sequential(*block)(h)
    torch.testing.assert_close(body(x), h + branch)


# Weights ---------------------------------------------------------------------------------------


@each_recipe
def test_weights_come_from_the_generator_alone(recipe, n_in):
    before = torch.get_rng_state()
    first, again, other = (recipe.build(n_in, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_keep_the_variance_through_their_rectifiers():
    encoder = ConvEncoder((8, 16, 16), channels=(64, 96)).build(2048, seeded())
    decoder = ConvDecoder((8, 16, 16), channels=(64, 96)).build(50, seeded())
    for layer, fan_in in [(encoder[1], 8 * 16), (encoder[4], 64 * 16), (decoder[4], 96 * 4)]:
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
        assert (layer.bias == 0).all()
    x = torch.randn(8, 96, 4, 4, generator=seeded()).relu()
    inside = decoder[4](x)[:, :, 1:-1, 1:-1]  # at the border fewer meet
    assert inside.var().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_random_state_decides_a_fit_and_nothing_global_does(cls, images):
    parameters = {"encoder": ENCODER, "decoder": DECODER, "max_epochs": 1}
    codes = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(codes))
        codes.append(small(cls, **parameters, random_state=seed).fit(*images).transform(images[0]))
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])


def test_fitting_again_starts_from_new_weights(images):
    est = small(VSCTransformer, encoder=ENCODER, decoder=DECODER)
    first = est.fit(images[0]).transform(images[0])
    assert np.array_equal(est.fit(images[0]).transform(images[0]), first)


@pytest.mark.slow
def test_convolutions_learn_images_as_the_mlp_does(images):
    X = load_digits(return_X_y=True)[0] / 16
    error = {}
    for name, bodies in {
        "mlp": {"hidden_layer_sizes": (64,)},
        "conv": {
            "encoder": ConvEncoder(SHAPE, channels=(8, 16)),
            "decoder": ConvDecoder(SHAPE, channels=(8, 16)),
        },
        "residual": {"encoder": ResidualMLP(64), "decoder": ResidualMLP(64)},
    }.items():
        vae = VAETransformer(8, **bodies, max_epochs=50, random_state=0).fit(X)
        error[name] = np.mean((X - vae.inverse_transform(vae.transform(X))) ** 2) / X.var(0).mean()
    assert error["conv"] < 1.2 * error["mlp"] < 1.2 * 0.5
    assert error["residual"] < 1.2 * error["mlp"]


# As parameters ---------------------------------------------------------------------------------


@each_recipe
def test_recipes_are_equal_if_their_parameters_are(recipe, n_in):
    twins = [clone(recipe), copy.deepcopy(recipe), pickle.loads(pickle.dumps(recipe))]
    assert all(twin == recipe and twin is not recipe for twin in twins)
    assert recipe != clone(recipe).set_params(activation="tanh")
    assert recipe != "another kind"
    assert ENCODER != DECODER
    assert repr(type(recipe)(**recipe.get_params())) == repr(recipe)


def test_a_list_an_array_and_a_tuple_of_channels_are_equal():
    channels = ([3, 4], np.array([3, 4]), (3, 4))
    one, two, three = (ConvEncoder(SHAPE, channels=c) for c in channels)
    assert one == two == three
    assert one != ConvEncoder(SHAPE, channels=(3, 4, 5))


def test_a_search_goes_over_bodies_and_into_them(images):
    X, y = images
    est = small(ClassVSCTransformer, encoder=ENCODER, max_epochs=1)
    assert est.get_params()["encoder__channels"] == (3, 4)
    for grid in (
        {"encoder": [None, ENCODER, ResidualMLP(8)]},
        {"encoder__channels": [(2,), (3, 4)], "n_components": [4, 5]},
    ):
        search = GridSearchCV(est, grid, cv=2, error_score="raise").fit(X, y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert ENCODER.channels == (3, 4)


def test_what_is_fitted_outlives_a_change_of_the_recipe(images):
    X, _ = images
    est = small(VSCTransformer, encoder=clone(ENCODER), max_epochs=1).fit(X)
    codes = est.transform(X)
    est.set_params(encoder__channels=(9,))
    again = pickle.loads(pickle.dumps(est))
    assert np.array_equal(again.transform(X), codes)
    assert again.partial_fit(X).transform(X).shape == codes.shape


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_a_checkpoint_knows_them(cls, images, tmp_path):
    X, y = images
    path = tmp_path / "fit"
    est = small(cls, encoder=ENCODER, decoder=DECODER).fit(X, y, checkpoint=path)
    same = ConvEncoder(list(SHAPE), channels=[3, 4])
    resumed = small(cls, encoder=same, decoder=DECODER).fit(X, y, checkpoint=path, resume=True)
    assert np.array_equal(resumed.transform(X), est.transform(X))
    with pytest.raises(ValueError, match=r"encoder=ConvEncoder\(.*, now ConvEncoder\("):
        other = ConvEncoder(SHAPE, channels=(5,))
        small(cls, encoder=other, decoder=DECODER).fit(X, y, checkpoint=path, resume=True)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_skops_keeps_them(cls, images):
    skops = pytest.importorskip("skops.io")
    X, y = images
    est = small(cls, encoder=ENCODER, decoder=ResidualMLP(8), max_epochs=1).fit(X, y)
    data = skops.dumps(est)
    again = skops.loads(data, trusted=skops.get_untrusted_types(data=data))
    assert np.array_equal(again.transform(X), est.transform(X))
    assert again.encoder == est.encoder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_onnx_models_have_them(method, images):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    X = images[0].astype(np.float32)
    est = small(VSCTransformer, encoder=ENCODER, decoder=DECODER).fit(X)
    given = X if method == "transform" else est.transform(X)
    session = runtime.InferenceSession(to_onnx(est, method=method).SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: given})
    np.testing.assert_allclose(found, getattr(est, method)(given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_html_shows_them(cls):
    assert "ConvEncoder" in cls(encoder=ENCODER)._repr_html_()
    assert "ConvEncoder" in ENCODER._repr_html_()


# Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (ConvEncoder((1, 28, 28)), r"image_shape=\(1, 28, 28\).*784 features, but they have 64"),
        (ConvEncoder((8, 8)), r"image_shape=\(8, 8\) of ConvEncoder must hold 3 positive"),
        (ConvEncoder("abc"), "image_shape='abc'"),
        (ConvEncoder((1, 8, 8.0)), r"image_shape=\(1, 8, 8.0\)"),
        (ConvEncoder((1, 8, 0)), r"image_shape=\(1, 8, 0\)"),
        (ConvEncoder(SHAPE, channels=()), r"channels=\(\)"),
        (ConvEncoder(SHAPE, channels=4), "channels=4"),
        (ConvEncoder(SHAPE, channels=(4, -1)), r"channels=\(4, -1\)"),
        (ConvEncoder(SHAPE, channels=(4,) * 4), "too small to be halved 4 times"),
        (ConvEncoder(SHAPE, channels=(LARGEST,)), f"at most {LARGEST} are allowed"),
        (ConvEncoder(SHAPE, activation="swish"), "'activation' parameter of ConvEncoder"),
        (ResidualMLP(0), "'width' parameter of ResidualMLP"),
        (ResidualMLP(n_blocks=0), "'n_blocks' parameter"),
        (ResidualMLP(n_blocks=10**9), "'n_blocks' parameter"),
        (ConvEncoder, r"encoder=.* is a class: pass an instance, ConvEncoder\(\)"),
    ],
)
def test_a_recipe_that_cannot_be_built_is_refused_at_fit(recipe, message, images):
    with pytest.raises(ValueError, match=message):
        small(VSCTransformer, encoder=recipe).fit(images[0])


def test_images_of_another_size_than_the_samples_are_refused(images):
    message = r"decoder=.*makes_theta=True and returns 784 features, but a sample has 64"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        small(VSCTransformer, decoder=ConvDecoder((1, 28, 28))).fit(images[0])


def test_a_recipe_of_the_users_own_is_built_for_every_fit(images):
    class Own:
        built = 0

        def build(self, n_in, generator):
            type(self).built += 1
            layer = nn.utils.skip_init(nn.Linear, n_in, 5)
            nn.init.orthogonal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
            return layer

    X, _ = images
    est = small(VSCTransformer, encoder=Own(), decoder=Own(), max_epochs=1)
    codes = est.fit(X).transform(X)
    assert Own.built == 2
    assert np.array_equal(clone(est).fit(X).transform(X), codes)
    Own.build = lambda self, n_in, generator: lambda x: x
    with pytest.raises(ValueError, match=r"must build an nn\.Module, but built a function"):
        clone(est).fit(X)


@pytest.mark.parametrize("recipe", [ConvEncoder, ConvDecoder])
@pytest.mark.parametrize(
    ("image_shape", "channels"), [((1, 8, 8), (4, 8, 1)), ((16, 2, 2), (1,)), ((1, 3, 3), (1,))]
)
def test_a_convolution_that_leaves_one_number_is_refused(recipe, image_shape, channels):
    """Normalisation would make it 0, and all samples the same."""
    with pytest.raises(ValueError, match=r"image_shape=.* and channels=.* leave one number"):
        recipe(image_shape, channels=channels).layers(int(np.prod(image_shape)))


def test_a_convolution_to_one_pixel_of_several_channels_tells_samples_apart():
    body = ConvEncoder((1, 8, 8), channels=(4, 8, 16)).build(64, torch.Generator().manual_seed(0))
    out = body(torch.rand(3, 64, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (3, 16)
    assert (out.std(0) > 0).any()


def test_residual_blocks_of_one_feature_are_refused():
    with pytest.raises(ValueError, match="'width' parameter of ResidualMLP"):
        ResidualMLP(1).layers(4)


def test_a_decoder_of_images_of_another_size_is_refused_in_few_words():
    with pytest.raises(ValueError, match=r"decoder=.*784 features.*has 64.*image_shape") as caught:
        VSCTransformer(2, decoder=ConvDecoder((1, 28, 28)), max_epochs=1).fit(np.zeros((4, 64)))
    assert len(str(caught.value)) < 400
