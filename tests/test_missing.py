"""Specification of missing values: NaN is what was not observed, everywhere."""

import json
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
from sklearn.datasets import load_iris, load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from sklearn_classvsc import (
    ClassVSCTransformer,
    VAETransformer,
    VSCTransformer,
    displays,
    factor_stability,
    metrics,
)
from sklearn_classvsc._blocks import Blocks
from sklearn_classvsc._data import ArrayDataset, Survey
from sklearn_classvsc._likelihoods import LIKELIHOODS
from sklearn_classvsc.editing import class_profile, counterfactual, edit
from sklearn_classvsc.inspection import class_differences, feature_effects, top_samples, traverse
from sklearn_classvsc.report import factor_report

ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
pytestmark = pytest.mark.filterwarnings("ignore:.*(collapsed|unused|does not hold)")

COUNTS = ["multinomial", "negative_binomial", "poisson"]
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)
each_likelihood = pytest.mark.parametrize("name", sorted(LIKELIHOODS))

WINE, Y = load_wine(return_X_y=True)


def with_holes(X, fraction=0.3, seed=0):
    X = np.array(X, float)
    X[np.random.default_rng(seed).random(X.shape) < fraction] = np.nan
    return X


HOLES = with_holes(WINE)
rng = np.random.default_rng(0)
BITS = with_holes(rng.random((60, 7)) < 0.4)
WORDS = with_holes(rng.poisson(2.0, (60, 7)))
DATA = {"gaussian": HOLES[:60, :7], "bernoulli": BITS} | dict.fromkeys(COUNTS, WORDS)


# The likelihood ---------------------------------------------------------------------------------


def made(name, p, seed=0):
    """A likelihood of p features that has learned something, in double precision."""
    likelihood = LIKELIHOODS[name](p).double().eval()
    for tensor in (*likelihood.parameters(), *likelihood.buffers()):
        generator = torch.Generator().manual_seed(seed)
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5)
    return likelihood


def drawn(name, n, p, fraction, seed=0):
    """theta, and x with holes."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(n, p, generator=generator, dtype=torch.float64)
    x = torch.rand(n, p, generator=generator, dtype=torch.float64) * 5
    x = {"gaussian": x - 2, "bernoulli": (x > 3).double()}.get(name, x.floor())
    hidden = torch.rand(n, p, generator=generator, dtype=torch.float64) < fraction
    return theta, x.masked_fill(hidden, torch.nan)


@each_likelihood
@settings(deadline=None, max_examples=15)
@given(p=st.integers(1, 6), fraction=st.sampled_from([0.0, 0.2, 0.6, 1.0]), seed=st.integers(0, 99))
def test_to_hide_a_feature_is_to_leave_it_out(name, p, fraction, seed):
    likelihood, (theta, x) = made(name, p), drawn(name, 4, p, fraction, seed)
    found = likelihood.log_prob(theta, x, incomplete=True)
    for i, seen in enumerate(~x.isnan()):
        fewer = made(name, int(seen.sum()))
        fewer.load_state_dict(
            {k: v[seen] if v.ndim else v for k, v in likelihood.state_dict().items()}
        )
        expected = fewer.log_prob(theta[i : i + 1, seen], x[i : i + 1, seen])[0]
        torch.testing.assert_close(found[i], expected)


@each_likelihood
@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_containers_and_blocks_agree_and_so_do_their_gradients(name, fraction):
    likelihood, (theta, x) = made(name, 5), drawn(name, 6, 5, fraction)
    hidden = torch.eye(6, dtype=torch.float64)
    weight, bias = theta.T.contiguous(), torch.zeros(5, dtype=torch.float64)
    results = []
    for container in (x, x.to_sparse()):
        for blocks in (False, True):
            if blocks and not (container.is_sparse or likelihood.dense_blocks):
                continue
            w = weight.clone().requires_grad_()
            out = Blocks(hidden, w, bias, torch.float64) if blocks else hidden @ w.T
            log_p = likelihood.log_prob(out, container, incomplete=True)
            (gradient,) = torch.autograd.grad(log_p.sum(), w)
            results.append((log_p, gradient))
            assert (gradient.T[x.isnan()].abs() < 1e-12).all()  # what rounding leaves
    for log_p, gradient in results[1:]:
        # By a difference where all is missing: a share that rounds to 1.
        torch.testing.assert_close(log_p, results[0][0], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-6, atol=1e-6)


def test_the_noise_of_a_batch_is_that_of_the_observed_values():
    likelihood, (theta, x) = (
        LIKELIHOODS["gaussian"](5).double().train(),
        drawn("gaussian", 9, 5, 0.4),
    )
    weight = torch.arange(1.0, 10, dtype=torch.float64)
    misfit = likelihood.misfit(theta, x, incomplete=True)
    loss = likelihood.reconstruction(misfit, weight / weight.sum())
    weights, seen = weight[:, None].expand_as(x).numpy(), ~x.isnan().numpy()
    errors = (x - theta).numpy()
    variance = np.average(errors[seen] ** 2, weights=weights[seen]) + likelihood.floor
    log_p = np.where(seen, stats.norm.logpdf(errors, scale=variance**0.5), 0).sum(axis=1)
    # At the best variance, but for the floor, the mean square is 1.
    assert_allclose(loss, -np.average(log_p, weights=weight), rtol=1e-5)
    running = likelihood.running(misfit, weight / weight.sum())["noise_variance"]
    assert_allclose(running, 0.95 + 0.05 * variance)


def test_a_batch_of_nothing_teaches_nothing_of_the_noise():
    likelihood = LIKELIHOODS["gaussian"](2).train()
    theta = torch.zeros(3, 2, requires_grad=True)
    misfit = likelihood.misfit(theta, torch.full((3, 2), torch.nan), incomplete=True)
    loss = likelihood.reconstruction(misfit, torch.full((3,), 1 / 3))
    loss.backward()
    assert loss == 0 and not theta.grad.any()
    assert likelihood.running(misfit, torch.full((3,), 1 / 3))["noise_variance"] == 1


# The score --------------------------------------------------------------------------------------


def density(name, module, theta, x):
    """log p(x | theta) of observed standardised x, by scipy."""
    theta, likelihood = theta.double().numpy(), module.likelihood
    if name == "gaussian":
        return stats.norm.logpdf(x, theta, float(likelihood.noise_variance) ** 0.5).sum()
    if name == "bernoulli":
        return stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-theta))).sum()
    share, total = np.exp(theta) / np.exp(theta).sum(), x.sum()
    if name == "poisson":
        return stats.poisson.logpmf(x, total * share).sum()
    return stats.multinomial.logpmf(x, total, share)


@pytest.mark.parametrize(
    ("cls", "name"), covering(ESTIMATORS, ["gaussian", "bernoulli", "poisson", "multinomial"])
)
def test_the_bound_of_a_row_is_that_of_its_observed_values(cls, name):
    X = DATA[name]
    est = small(cls, likelihood=name).fit(X, np.arange(60) % 2)
    module, standardization = est.module_, est._fitted.model.standardization
    x = X if standardization is None else standardization.apply(X)
    for i in range(5):
        seen = ~np.isnan(x[i])
        with torch.no_grad():
            full = torch.tensor(x[i : i + 1], dtype=torch.float32)
            q = module.encode(full, incomplete=True)
            generator = torch.Generator().manual_seed(0)
            thetas = [module.decode(q.rsample(generator, common_noise=True)) for _ in range(16)]
            expected = np.mean([density(name, module, t[0, seen], x[i, seen]) for t in thetas])
            expected -= float(module.prior_kl(q, full))
        if standardization is not None:
            expected -= np.log(standardization.scale[seen]).sum()
        assert_allclose(est.score_samples(X[i : i + 1]), [expected], rtol=1e-4, atol=1e-4)


@each_estimator
def test_a_row_of_nothing_is_encoded_as_the_mean_and_its_bound_is_at_most_0(cls):
    est = small(cls).fit(WINE, Y)
    nothing, mean = np.full((1, 13), np.nan), est._fitted.model.standardization.offset[None]
    assert_array_equal(est.transform(nothing), est.transform(mean))
    assert_array_equal(est.activation_proba(nothing), est.activation_proba(mean))
    assert est.score_samples(nothing) <= 0
    assert np.isfinite(est.inverse_transform(est.transform(nothing))).all()


# Training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "name"), covering(ESTIMATORS, [*DATA]))
def test_training_on_incomplete_data_lowers_the_loss(cls, name):
    X = DATA[name]
    est = small(cls, likelihood=name, max_epochs=40).fit(X, np.arange(60) % 2)
    losses = est.history_["reconstruction"]
    assert losses.iloc[-1] < losses.iloc[0]
    filled = est.inverse_transform(est.transform(X))
    assert filled.shape == X.shape and np.isfinite(filled).all()


def test_what_is_filled_in_is_nearer_than_the_mean():
    X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 10)) + 0.1 * rng.normal(size=(300, 10))
    given = with_holes(X)
    est = VAETransformer(4, random_state=0, max_epochs=100).fit(given[:200])
    missing, filled = np.isnan(given[200:]), est.inverse_transform(est.transform(given[200:]))
    errors = [(at - X[200:])[missing] for at in (filled, np.nanmean(given[:200], axis=0))]
    assert np.square(errors[0]).mean() < 0.3 * np.square(errors[1]).mean()


@each_estimator
def test_a_feature_hidden_everywhere_but_once_is_learned_from_that(cls):
    X = WINE.copy()
    X[1:, 3] = np.nan
    est = small(cls).fit(X, Y)
    assert_allclose(est.inverse_transform(est.transform(X))[:, 3], X[0, 3], rtol=1)


def test_features_are_standardised_by_their_observed_values():
    weight = rng.random(len(WINE)) + 0.1
    for passed, of in ((None, np.ones(len(WINE))), (weight, weight)):
        est = small(VAETransformer).fit(HOLES, sample_weight=passed)
        offset, scale = est._fitted.model.standardization
        seen = np.where(np.isnan(HOLES), 0, of[:, None])
        mean = (seen * np.nan_to_num(HOLES)).sum(0) / seen.sum(0)
        variance = (seen * np.nan_to_num(HOLES - mean) ** 2).sum(0) / seen.sum(0)
        assert_allclose(offset, mean)
        assert_allclose(scale, variance**0.5)


@pytest.mark.parametrize(("cls", "device"), covering(ESTIMATORS, ["cpu", "cpu+bfloat16"]))
def test_every_way_of_training_takes_them(cls, device):
    how = {"early_stopping": True, "device": device, "batch_size": 50}
    est = small(cls, **how).fit(HOLES, Y)
    assert "valid_loss" in est.history_ and np.isfinite(est.history_["valid_loss"]).all()
    est.partial_fit(HOLES, Y)
    assert np.isfinite(est.transform(HOLES)).all()


@pytest.mark.parametrize("objective", ["cross_fitted", "balanced", "paper"])
def test_every_objective_takes_them(objective):
    est = small(ClassVSCTransformer, objective=objective).fit(HOLES, Y)
    assert np.isfinite(est.transform(HOLES)).all()


def test_the_learned_prior_takes_them():
    est = small(VSCTransformer, prior="pseudo_inputs").fit(HOLES)
    assert np.isfinite(est.score(HOLES))


def test_a_fold_follows_from_the_observed_values():
    gates = small(ClassVSCTransformer).fit(HOLES, Y).module_.gates
    x = torch.from_numpy(HOLES).float()
    est = small(ClassVSCTransformer).fit(HOLES, Y)
    std = est._fitted.model.standardization
    x = torch.from_numpy(std.apply(HOLES).astype(np.float32))
    module = est.module_
    folds = module.gates.folds(module._seen(x, True))
    assert_array_equal(folds, gates.folds(torch.from_numpy(np.nan_to_num(x.numpy()))))
    assert len(folds.unique()) == gates.n_folds
    some = torch.arange(0, len(x), 3)
    assert_array_equal(module.gates.folds(module._seen(x[some], True)), folds[some])


def test_rows_with_holes_in_different_places_are_no_copies():
    data = ArrayDataset(HOLES, np.zeros(len(HOLES), int))
    assert not data.repeats()
    assert ArrayDataset(np.tile(HOLES[:4], (20, 1)), np.zeros(80, int)).repeats()


# What likelihood="auto" takes -------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_holes_do_not_change_what_auto_takes(container):
    grey = np.clip(rng.normal(size=(200, 12)), 0, 1)
    for X, expected in ((BITS, "bernoulli"), (with_holes(grey), "bernoulli"), (HOLES, "gaussian")):
        assert small(VAETransformer, max_epochs=1).fit(container(X)).likelihood_ == expected


# Containers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "name"), covering(ESTIMATORS, [*DATA]))
def test_in_csr_what_is_stored_may_be_missing_and_the_rest_is_0(cls, name):
    X = np.where(rng.random((60, 7)) < 0.3, 0, DATA[name])
    y = np.arange(60) % 2
    dense, csr = (small(cls, likelihood=name).fit(Z, y) for Z in (X, sparse.csr_array(X)))
    assert_allclose(csr.transform(sparse.csr_array(X)), dense.transform(X), atol=1e-5)
    scores = dense.score_samples(X)
    assert_allclose(csr.score_samples(sparse.csr_array(X)), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*DATA])
def test_wide_csr_stays_sparse(name, monkeypatch):
    X = np.where(rng.random((60, 7)) < 0.5, 0, DATA[name])
    X = sparse.csr_array(abs(X))
    for wide in (10**6, 1):
        monkeypatch.setattr("sklearn_classvsc._data.WIDE", wide)
        est = small(VSCTransformer, likelihood=name).fit(X)
        assert ArrayDataset(X).sparse == (wide == 1)
        assert np.isfinite(est.transform(X)).all() and np.isfinite(est.score(X))
    x = ArrayDataset(X).samples(slice(None))
    whole, theta = x.to_dense(), torch.randn(60, 7, generator=torch.Generator().manual_seed(0))
    found, expected = (
        est.module_.likelihood.log_prob(theta, given, incomplete=True) for given in (x, whole)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "of",
    [
        lambda X: pd.DataFrame(X).convert_dtypes(),
        lambda X: np.where(np.isnan(X), None, X),
        lambda X: X.astype(np.float32).astype(np.float64),
        lambda X: torch.from_numpy(X),
    ],
    ids=["NA", "None", "float32", "tensor"],
)
def test_all_that_means_missing_is(of):
    X = HOLES.astype(np.float32).astype(np.float64)
    codes = [small(VSCTransformer).fit(Z).transform(Z) for Z in (X, of(X))]
    assert_array_equal(*codes)


def test_streams_are_read_as_arrays_are():
    pieces = [HOLES[:60].copy(), WINE[60:100], HOLES[100:]]
    pieces[0][:, 2] = np.nan
    X = np.concatenate(pieces)
    whole = small(VAETransformer).fit(X)
    stream = small(VAETransformer).fit(lambda: pieces)
    for found, expected in zip(
        *(e._fitted.model.standardization for e in (stream, whole)), strict=True
    ):
        assert_allclose(found, expected)
    assert np.isfinite(stream.transform(lambda: pieces)).all()
    by_piece = np.concatenate([whole.transform(piece) for piece in pieces])
    assert_array_equal(whole.transform(lambda: pieces), by_piece)


def test_complete_rows_have_the_same_codes_beside_others():
    est = small(ClassVSCTransformer).fit(HOLES, Y)
    complete = ~np.isnan(HOLES).any(axis=1)
    mixed = WINE.copy()
    mixed[::2] = HOLES[::2]
    for method in (est.transform, est.activation_proba, est.score_samples):
        assert_array_equal(method(mixed)[1::2], method(WINE)[1::2])
        assert_allclose(method(HOLES)[complete], method(HOLES[complete]), atol=1e-5)


# partial_fit ------------------------------------------------------------------------------------


def test_chunks_have_the_scales_of_all_that_was_observed():
    parts = np.array_split(HOLES, 4)
    parts[2] = parts[2].copy()
    parts[2][:, 5] = np.nan
    est = small(VAETransformer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of scales that a chunk of nothing is far outside of
        for part in parts:
            est.partial_fit(part)
    X = np.concatenate(parts)
    offset, scale = est._fitted.model.standardization
    assert_allclose(offset, np.nanmean(X, axis=0))
    assert_allclose(scale, np.nanstd(X, axis=0))


def test_what_was_not_observed_in_a_late_chunk_changes_nothing_else():
    X = np.tile(WINE, (6, 1))
    X[:, 0] = 3.0  # constant so far, so that its scale stays open
    est = small(VAETransformer).partial_fit(X)
    chunk = HOLES.copy()
    chunk[:, 0] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.partial_fit(chunk)
    assert est._fitted.model.standardization.scale[0] == 1


@pytest.mark.parametrize("store", ["file", "pickle"])
def test_a_stored_estimator_goes_on_alike(store, tmp_path):
    est = small(ClassVSCTransformer).partial_fit(HOLES[:90], Y[:90], classes=[0, 1, 2])
    if store == "file":
        est.save(tmp_path / "model.safetensors")
        twin = ClassVSCTransformer.load(tmp_path / "model.safetensors")
    else:
        twin = pickle.loads(pickle.dumps(est))
    codes = [e.partial_fit(HOLES[90:], Y[90:]).transform(HOLES) for e in (est, twin)]
    assert_array_equal(*codes)


def test_a_fit_resumes(tmp_path):
    file = tmp_path / "fit.safetensors"
    est = small(VSCTransformer).fit(HOLES, checkpoint=file)
    again = small(VSCTransformer).fit(HOLES, checkpoint=file, resume=True)
    assert_array_equal(again.transform(HOLES), est.transform(HOLES))
    other = np.where(np.isnan(HOLES), 0, HOLES)
    with pytest.raises(ValueError, match="resume"):
        small(VSCTransformer).fit(other, checkpoint=file, resume=True)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, pd.DataFrame])
@pytest.mark.parametrize(("cls", "name"), covering(ESTIMATORS, [*DATA]))
def test_a_feature_that_was_never_observed_is_named(cls, name, container):
    X = DATA[name].copy()
    X[:, [2, 5]] = np.nan
    est = small(cls, likelihood=name)
    for method in (est.fit, est.partial_fit):
        with pytest.raises(ValueError, match=r"no observed value in 2 of 7 columns, \[2, 5\]"):
            method(container(X), np.arange(60) % 2)
    frame = pd.DataFrame(X, columns=[*"abcdefg"])
    with pytest.raises(ValueError, match=r"\['c', 'f'\]. Drop these"):
        est.fit(lambda: [(frame[:30], np.arange(30) % 2), (frame[30:], np.arange(30) % 2)])
    assert np.isfinite(est.fit(DATA[name], np.arange(60) % 2).transform(X)).all()


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@each_estimator
def test_infinity_is_refused_beside_what_is_missing(cls, value, container):
    X = HOLES.copy()
    X[7, 1] = value
    est = small(cls)
    with pytest.raises(ValueError, match=r"X contains infinity .* in row 7, column 1\."):
        est.fit(container(X), Y)
    with pytest.raises(ValueError, match=r"X contains infinity .* in row 7, column 'b'\."):
        est.fit(pd.DataFrame(X, columns=[*"abcdefghijklm"]), Y)
    est.fit(HOLES, Y)
    for method in (est.transform, est.activation_proba, est.score_samples, est.partial_fit):
        given = (container(X), Y) if method == est.partial_fit else (container(X),)
        with pytest.raises(ValueError, match="X contains infinity"):
            method(*given)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_what_is_too_large_is_told_beside_what_is_missing(container):
    X = HOLES.copy()
    X[5, 0] = 1e300
    est = small(VSCTransformer).fit(HOLES)
    with pytest.raises(ValueError, match=r"X has absolute values up to 1e\+300"):
        est.transform(container(X))


def test_values_outside_the_range_are_refused_beside_what_is_missing():
    est = small(VAETransformer, likelihood="bernoulli").fit(BITS)
    for value in (-0.5, 1.5):
        X = BITS.copy()
        X[0, 0] = value
        for method in (est.fit, est.partial_fit, est.score_samples):
            with pytest.raises(ValueError, match=r"X lies in \[.*needs \[0, 1\]"):
                method(X)


@each_estimator
def test_the_tag_says_so(cls):
    assert get_tags(cls()).input_tags.allow_nan


def test_codes_that_are_missing_are_refused():
    est = small(VAETransformer).fit(HOLES)
    with pytest.raises(ValueError, match="Z contains NaN"):
        est.inverse_transform(np.full((1, 6), np.nan))


# The survey -------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), cut=st.integers(1, 19), fraction=st.sampled_from([0.2, 0.8, 1.0]))
def test_the_moments_of_two_parts_make_those_of_all(container, seed, cut, fraction):
    X = with_holes(np.random.default_rng(seed).normal(3, 2, (20, 3)), fraction, seed)
    if container is not np.asarray:
        X[np.random.default_rng(seed).random(X.shape) < 0.3] = 0
    parts = [Survey(True).add(container(part)).moments() for part in (X[:cut], X[cut:])]
    both = Survey(True).add(container(X[:cut])).add(container(X[cut:]))
    for found in (parts[0] + parts[1], both.moments()):
        n = (~np.isnan(X)).sum(axis=0)
        seen = n > 0
        assert_array_equal(np.broadcast_to(found.weight, 3), n)
        assert_allclose(found.mean[seen], np.nanmean(X[:, seen], axis=0))
        assert_allclose(found.variance[seen], np.nanvar(X[:, seen], axis=0), atol=1e-12)
        assert_array_equal(found.least[seen], np.nanmin(X[:, seen], axis=0))
        assert_array_equal(found.most[seen], np.nanmax(X[:, seen], axis=0))
    assert_array_equal(both.n_missing, len(X) - n)


def test_a_chunk_is_read_once(monkeypatch):
    read, add = [], Survey.add
    monkeypatch.setattr(Survey, "add", lambda self, X, *args: read.append(1) or add(self, X, *args))
    small(VSCTransformer).fit(with_holes(load_iris().data))
    assert len(read) == 2  # for the choice of the likelihood, and for the moments


# What takes (est, X, y) --------------------------------------------------------------------------

NAMES = load_wine().feature_names
TABLE = pd.DataFrame(with_holes(WINE, 0.2), columns=NAMES)


def as_csr(table):
    """CSR of the values, half of them zeros; what is missing is stored."""
    return sparse.csr_array(np.where(np.random.default_rng(1).random(table.shape) < 0.5, 0, table))


CONTAINERS = {
    "DataFrame": lambda table: table,
    "nullable": lambda table: table.convert_dtypes(),
    "CSR": lambda table: as_csr(table.to_numpy()),
}


@pytest.fixture(scope="module", params=["alone", "nullable", "CSR", "Pipeline"])
def incomplete(request):
    """An estimator, fitted to a table of which a fifth is missing, and the table."""
    table = CONTAINERS.get(request.param, CONTAINERS["DataFrame"])(TABLE)
    est = small(ClassVSCTransformer, max_epochs=40)
    if request.param == "Pipeline":
        est = make_pipeline(StandardScaler(), est)
    return est.fit(table, Y), table


SCORERS = [name for name in metrics.__all__ if name.endswith("_scorer")]


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_take_missing_values(name, incomplete):
    assert np.isfinite(getattr(metrics, name)(*incomplete, Y))


def test_a_class_differs_by_the_means_of_what_is_known(incomplete):
    est, X = incomplete
    found = class_differences(est, X, Y).xs("difference", level="kind")
    table = pd.DataFrame(X.toarray() if sparse.issparse(X) else X.to_numpy(float, na_value=np.nan))
    means = table.groupby(Y).mean()
    for c in range(3):
        assert_allclose(found.loc[c], means.loc[c] - means.drop(c).mean())
    assert np.isfinite(class_differences(est, X, Y)).all(axis=None)


def test_what_dimensions_do_is_known_though_values_are_missing(incomplete):
    est, X = incomplete
    effects = feature_effects(est, X)
    assert np.isfinite(effects.dropna(how="all")).all(axis=None)  # without what is never active
    table = X.toarray() if sparse.issparse(X) else X.to_numpy(float, na_value=np.nan)
    assert_allclose(list(effects.attrs["scale"].values()), np.nanstd(table, axis=0), rtol=1e-6)
    assert not metrics.inert_dimensions(est, X).all()
    assert np.isfinite(traverse(est, X, Y, dimension=0).X_hat).all()
    assert len(top_samples(est, X, Y, factor=0)) == 10


def test_samples_with_missing_values_are_edited(incomplete):
    est, X = incomplete
    profile = class_profile(est, X, Y)
    changed = counterfactual(est, X[:5], profile, to=2)
    assert changed.change.shape == (5, 13) and np.isfinite(changed.change).all(axis=None)
    assert np.isfinite(edit(est, X[:5], 0, profile=profile).X_edited).all()


@pytest.mark.parametrize(
    ("display", "arguments"),
    [
        (displays.ActivationDisplay, {}),
        (displays.SharingDisplay, {}),
        (displays.FactorDisplay, {"factor": 0}),
        (displays.TraversalDisplay, {"dimension": 0}),
        (displays.ReconstructionDisplay, {}),
    ],
)
def test_displays_take_missing_values(display, arguments, incomplete):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = display.from_estimator(*incomplete, Y, **arguments).figure_
    figures = [text.get_text() for text in figure.findobj(pyplot.Text)]
    assert any(figures) and "nan" not in figures
    pyplot.close(figure)


def test_a_report_says_how_much_is_missing_and_has_no_figure_of_nan(incomplete):
    pytest.importorskip("jinja2")
    est, X = incomplete
    found = factor_report(est, X, Y).to_dict()
    part = np.isnan(X.data).sum() / (178 * 13) if sparse.issparse(X) else X.isna().to_numpy().mean()
    assert found["data"]["missing"] == pytest.approx(part)
    assert "NaN" not in json.dumps(found)


def test_refits_learn_from_what_is_known(incomplete):
    est, X = incomplete
    found = factor_stability(est, X, Y, n_refits=1)
    assert found.chance < np.nanmean(found.recurrence) <= 1
    assert list(found.effects) == list(feature_effects(est, X))
    assert found.effects.to_numpy().any() and np.isfinite(found.effects).all(axis=None)
