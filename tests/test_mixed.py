"""Specification of likelihoods of single columns: tables of numbers, bits and counts."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import covering, small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from torch.autograd import gradcheck

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._data import Survey
from sklearn_classvsc._files import ModelFileError
from sklearn_classvsc._mixed import Mixed
from sklearn_classvsc.export import to_onnx

pytestmark = pytest.mark.filterwarnings("ignore:.*(collapsed|unused|does not hold)")
ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]

rng = np.random.default_rng(0)
FACTORS = rng.normal(size=(200, 3))
TABLE = pd.DataFrame(
    {
        "length": 100 + 5 * FACTORS[:, 0] + rng.normal(size=200),
        "smokes": (FACTORS[:, 0] + 0.3 * rng.normal(size=200) > 0).astype(int),
        "weight": 1e-3 * FACTORS[:, 1],
        "visits": rng.poisson(np.exp(1 + FACTORS[:, 1])),
        "rare": FACTORS[:, 2] > 1,
        "cells": rng.negative_binomial(2, 0.2, 200),
    }
)
Y = (FACTORS[:, 0] > 0).astype(int)
KINDS = {"visits": "poisson", "cells": "negative_binomial"}
PLACES = [0, 1, 0, 2, 1, 3]  # in Mixed.KINDS


def with_holes(table, fraction=0.2):
    return table.astype(float).mask(np.random.default_rng(1).random(table.shape) < fraction)


def made(kinds):
    """A likelihood that has learned something, in double precision."""
    likelihood = Mixed(len(kinds), kinds).double()
    generator = torch.Generator().manual_seed(0)
    for tensor in (likelihood.noise_variance, likelihood.log_inverse_dispersion.data):
        tensor.copy_(torch.rand(len(kinds), generator=generator) + 0.5)
    return likelihood


def drawn(kinds, n, seed=0, fraction=0.0):
    """theta, and x of these kinds."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(n, len(kinds), generator=generator, dtype=torch.float64)
    x = 3 * torch.rand(n, len(kinds), generator=generator, dtype=torch.float64)
    kinds = torch.as_tensor(kinds)
    x = torch.where(kinds == 1, (x > 1).double(), torch.where(kinds > 1, x.floor(), x))
    hidden = torch.rand(n, len(kinds), generator=generator, dtype=torch.float64) < fraction
    return theta, x.masked_fill(hidden, torch.nan)


def log_density(likelihood, kinds, theta, x):
    """log p(x_j | theta_j) of each cell, by scipy."""
    variance = likelihood.noise_variance.numpy()
    r = likelihood.log_inverse_dispersion.detach().double().exp().numpy()
    out = np.empty(np.shape(x))
    for j, kind in enumerate(kinds):
        t, v = theta[:, j], x[:, j]
        rate = np.exp(t)
        out[:, j] = [
            lambda t=t, v=v, j=j: stats.norm.logpdf(v, t, variance[j] ** 0.5),
            lambda t=t, v=v: stats.bernoulli.logpmf(v, 1 / (1 + np.exp(-t))),
            lambda v=v, rate=rate: stats.poisson.logpmf(v, rate),
            lambda v=v, rate=rate, j=j: stats.nbinom.logpmf(v, r[j], r[j] / (r[j] + rate)),
        ][kind]()
    return out


# The likelihood ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    kinds=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    fraction=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_log_probability_is_the_sum_of_scipys_over_what_was_observed(kinds, seed, fraction):
    likelihood, (theta, x) = made(kinds).eval(), drawn(kinds, 5, seed, fraction)
    seen = ~x.isnan().numpy()
    cells = log_density(likelihood, kinds, theta.numpy(), x.nan_to_num(0).numpy())
    found = likelihood.log_prob(theta, x, incomplete=fraction > 0).detach()
    assert_allclose(found, (cells * seen).sum(axis=1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_equal_finite_differences(training):
    likelihood, (theta, x) = made(PLACES).train(training), drawn(PLACES, 5, fraction=0.2)
    weight = torch.full((5,), 0.2, dtype=torch.float64)

    def loss(theta, log_r):
        likelihood.log_inverse_dispersion = torch.nn.Parameter(log_r)
        del likelihood._parameters["log_inverse_dispersion"]
        likelihood.log_inverse_dispersion = log_r
        return likelihood.reconstruction(likelihood.misfit(theta, x, True), weight)

    log_r = likelihood.log_inverse_dispersion.detach().clone().requires_grad_()
    assert gradcheck(loss, (theta.requires_grad_(), log_r))


def test_each_real_column_has_the_noise_of_its_observed_values():
    kinds = [0, 1, 0]
    likelihood, (theta, x) = made(kinds).train(), drawn(kinds, 50, fraction=0.3)
    likelihood.noise_variance.fill_(1.0)
    weight = torch.arange(1.0, 51, dtype=torch.float64)
    misfit = likelihood.misfit(theta, x, True)
    loss = likelihood.reconstruction(misfit, weight / weight.sum())
    running = likelihood.running(misfit, weight / weight.sum())["noise_variance"]
    seen, w = ~x.isnan().numpy(), weight.numpy()[:, None]
    errors = (x.nan_to_num(0) - theta).numpy()
    variance = (w * seen * errors**2).sum(0) / (w * seen).sum(0)
    assert_allclose(running, [0.95 + 0.05 * variance[0], 1, 0.95 + 0.05 * variance[2]], rtol=1e-5)
    likelihood.noise_variance.copy_(torch.tensor(variance))
    log_p = likelihood.eval().log_prob(theta, x, True)
    assert_allclose(loss, -(weight @ log_p) / weight.sum(), rtol=1e-4)


def test_means_and_what_the_encoder_sees():
    likelihood = made(PLACES)
    theta = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = likelihood.mean(theta)
    torch.testing.assert_close(mean[:, [0, 2]], theta[:, [0, 2]])
    torch.testing.assert_close(mean[:, [1, 4]], torch.sigmoid(theta[:, [1, 4]]))
    torch.testing.assert_close(mean[:, [3, 5]], theta[:, [3, 5]].exp())
    assert likelihood.mean(torch.full((1, 6), 1e6)).isfinite().all()
    x = torch.tensor([[-2.0, 0.0, 1.0, 0.0, 1.0, 7.0]])
    expected = torch.tensor([[-2.0, -1.0, 1.0, 0.0, 1.0, np.log(8)]])
    torch.testing.assert_close(likelihood.encoder_input(x), expected, check_dtype=False)
    seen = likelihood.encoder_input(likelihood.to_input_range(theta))
    assert seen.shape == (4, 6) and seen.isfinite().all()


# What columns are -------------------------------------------------------------------------------


def kinds_of(est):
    names = [Mixed.KINDS[k] for k in est._fitted.model.architecture["kinds"]]
    return dict(zip(TABLE.columns, names, strict=True))


BY_ITSELF = {"smokes": "bernoulli", "rare": "bernoulli"}
REAL = dict.fromkeys(TABLE.columns, "gaussian")


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        ("mixed", REAL | BY_ITSELF),
        ({}, REAL | BY_ITSELF),
        (KINDS, REAL | BY_ITSELF | KINDS),
        ({3: "poisson", -1: "negative_binomial"}, REAL | BY_ITSELF | KINDS),
        (
            {"smokes": "gaussian", np.int64(3): "poisson"},
            REAL | {"rare": "bernoulli", "visits": "poisson"},
        ),
    ],
)
@pytest.mark.parametrize("holes", [False, True])
def test_columns_are_what_they_hold_or_are_named(likelihood, expected, holes):
    table = with_holes(TABLE) if holes else TABLE
    est = small(VAETransformer, likelihood=likelihood).fit(table)
    assert est.likelihood_ == "mixed" and kinds_of(est) == expected
    pieces = [table[:50], table[50:]]
    stream = small(VAETransformer, likelihood=likelihood).fit(lambda: pieces)
    assert kinds_of(stream) == expected


def test_no_table_is_mixed_by_itself():
    for X, expected in ((TABLE, "gaussian"), (TABLE[["smokes", "rare"]], "bernoulli")):
        assert small(VAETransformer, max_epochs=1).fit(X).likelihood_ == expected


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_bits_are_zeros_and_ones_up_to_rounding(container):
    X = np.array([[0, 0, 0, 1, 1e-50], [1, 2, 0, 1, 1], [1, 1, 0, 1, 1 - 1e-6], [np.nan] * 5])
    assert_array_equal(Survey(False, ends=True).add(container(X)).bits, [1, 0, 0, 0, 1])


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_columns_of_arrays_are_named_by_place(container):
    X = container(TABLE.to_numpy(float))
    est = small(VAETransformer, likelihood={3: "poisson"}).fit(X)
    assert_array_equal(est._fitted.model.architecture["kinds"], [0, 1, 0, 2, 1, 0])
    assert np.isfinite(est.score(X))


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (
            {"age": "gaussian"},
            r"names the column 'age', but X has the names \['length', .* 6 columns",
        ),
        ({6: "gaussian"}, "names the column 6, but"),
        (
            {"length": "multinomial"},
            "likelihood 'multinomial'. A column can have 'gaussian', 'bern",
        ),
        ({"length": ["gaussian"]}, "A column can have"),
        (
            {"length": "bernoulli"},
            r"holds 11.* in column 'length', .*'bernoulli' and needs \[0, 1\]",
        ),
        ({"weight": "poisson"}, "holds -0.00.* in column 'weight', .*needs counts, not negative"),
    ],
)
def test_what_cannot_be_is_named(likelihood, message):
    est = small(VAETransformer, likelihood=likelihood)
    for fit in (est.fit, est.partial_fit, lambda X: est.fit(lambda: [X])):
        with pytest.raises(ValueError, match=message):
            fit(TABLE)
    with pytest.raises(ValueError, match="no names, because it is not a DataFrame"):
        small(VAETransformer, likelihood={"length": "gaussian"}).fit(TABLE.to_numpy(float))


def test_later_data_must_be_of_their_kinds():
    est = small(VAETransformer, likelihood=KINDS, warm_start=True).fit(TABLE)
    for column, value in (("smokes", 2), ("visits", -3)):
        bad = TABLE.astype(float)
        bad.loc[7, column] = value
        for method in (est.fit, est.partial_fit):
            with pytest.raises(ValueError, match=f"{value} in column '{column}'"):
                method(bad)
        with pytest.raises(ValueError, match=f"{value} in column"):
            est.score_samples(bad)
        assert np.isfinite(est.transform(bad)).all()


# The estimator ----------------------------------------------------------------------------------


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(("cls", "likelihood"), covering(ESTIMATORS, ["mixed", KINDS]))
def test_the_score_is_the_bound_in_the_units_of_the_table(cls, likelihood, holes):
    table = with_holes(TABLE) if holes else TABLE.astype(float)
    est = small(cls, likelihood=likelihood).fit(table, Y)
    module, (offset, scale) = est.module_, est._fitted.model.standardization
    kinds = est._fitted.model.architecture["kinds"]
    assert_array_equal(offset[kinds > 0], 0)
    assert_array_equal(scale[kinds > 0], 1)
    x = (table.to_numpy(float)[:6] - offset) / scale
    with torch.no_grad():
        full = torch.tensor(x, dtype=torch.float32)
        q, generator = module.encode(full, incomplete=True), torch.Generator().manual_seed(0)
        cells = [
            log_density(
                module.likelihood,
                kinds,
                module.decode(q.rsample(generator, common_noise=True)).double().numpy(),
                np.nan_to_num(x),
            )
            - np.log(scale)
            for _ in range(16)
        ]
        expected = (np.mean(cells, axis=0) * ~np.isnan(x)).sum(axis=1)
        expected -= module.prior_kl(q, full, incomplete=True).numpy()
    assert_allclose(est.score_samples(table[:6]), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_decoded_samples_are_in_the_units_and_ranges_of_the_columns(cls):
    est = small(cls, likelihood=KINDS, max_epochs=100).fit(TABLE, Y)
    decoded = pd.DataFrame(est.inverse_transform(est.transform(TABLE)), columns=TABLE.columns)
    assert decoded["length"].between(80, 120).all() and decoded["weight"].abs().max() < 0.01
    assert decoded[["smokes", "rare"]].stack().between(0, 1).all()
    assert (decoded[["visits", "cells"]] > 0).all(axis=None)
    assert_allclose(
        decoded[["visits", "cells"]].mean(), TABLE[["visits", "cells"]].mean(), rtol=0.3
    )


def test_what_columns_have_in_common_is_learned():
    est = VAETransformer(4, likelihood=KINDS, max_epochs=150, random_state=0).fit(TABLE[:150])
    given = TABLE[150:].astype(float)
    given["smokes"] = np.nan
    filled = est.inverse_transform(est.transform(given))[:, 1]
    assert np.mean((filled > 0.5) == TABLE["smokes"][150:]) > 0.8


@pytest.mark.parametrize("store", ["file", "pickle"])
def test_a_stored_estimator_goes_on_alike(store, tmp_path):
    est = small(ClassVSCTransformer, likelihood=KINDS).fit(with_holes(TABLE), Y)
    if store == "file":
        est.save(tmp_path / "model.safetensors")
        twin = ClassVSCTransformer.load(tmp_path / "model.safetensors")
    else:
        twin = pickle.loads(pickle.dumps(est))
    assert twin.likelihood == est.likelihood and clone(twin).likelihood == est.likelihood
    for each in (est, twin):
        each.partial_fit(TABLE, Y)
    assert_array_equal(twin.score_samples(TABLE), est.score_samples(TABLE))


@pytest.mark.parametrize(("cls", "holes"), covering(ESTIMATORS, [False, True]))
def test_onnx_gives_the_same(cls, holes):
    runtime = pytest.importorskip("onnxruntime")
    table = with_holes(TABLE) if holes else TABLE.astype(float)
    est = small(cls, likelihood=KINDS).fit(table, Y)
    Z = est.transform(table)
    for method, name, put_in, expected in (
        ("transform", "X", table.to_numpy(), Z),
        ("inverse_transform", "Z", Z, est.inverse_transform(Z)),
    ):
        model = to_onnx(est, method=method).SerializeToString()
        (found,) = runtime.InferenceSession(model).run(None, {name: put_in})
        assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_chunks_leave_bits_and_counts_as_they_are():
    est = small(VAETransformer, likelihood={"visits": "poisson"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of counts that are far from 0
        for part in (TABLE[:90], TABLE[90:].assign(visits=TABLE["visits"] * 1000)):
            est.partial_fit(part)
    offset, scale = est._fitted.model.standardization
    assert_allclose(
        offset, [TABLE["length"].mean(), 0, TABLE["weight"].mean(), 0, 0, TABLE["cells"].mean()]
    )
    assert_allclose(scale[[1, 3, 4]], 1)


@pytest.mark.parametrize("how", [{"device": "cpu+bfloat16"}, {"early_stopping": True}])
def test_every_way_of_training_takes_them(how):
    est = small(ClassVSCTransformer, likelihood=KINDS, **how).fit(with_holes(TABLE), Y)
    assert np.isfinite(est.score(TABLE))


def test_real_columns_of_an_array_may_have_a_noise_level_each():
    X = load_breast_cancer().data
    est = small(VSCTransformer, likelihood="mixed").fit(X)
    assert len(est.module_.likelihood.noise_variance.unique()) == X.shape[1]


def test_a_file_of_unknown_likelihoods_is_refused(tmp_path):
    est = small(VAETransformer, likelihood=KINDS).fit(TABLE)
    est._fitted.model.architecture["kinds"] = np.array([0, 1, 0, 2, 1, 4])
    est.save(tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="unknown likelihoods of features"):
        VAETransformer.load(tmp_path / "model.safetensors")
