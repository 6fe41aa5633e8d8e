"""VSC with the learned prior: its divergences, its objective, and the estimator's promises."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from helpers import covering, expected_failures, small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_checkpoint import crash

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer, _checkpoint, _data
from sklearn_classvsc._files import ModelFileError
from sklearn_classvsc._likelihoods import LIKELIHOODS
from sklearn_classvsc._model import Model
from sklearn_classvsc._modules import Priors, make_autoencoder
from sklearn_classvsc._objective import Evidence, LearnedPriorObjective, VSCObjective
from sklearn_classvsc._spike_slab import SpikeSlab, bernoulli_kl, pairwise_kl
from sklearn_classvsc.bodies import ResidualMLP
from sklearn_classvsc.export import to_onnx

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def slabs(n, d, seed, scale=1.0):
    """Return n spike-and-slabs, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    parts = scale * torch.randn(3, n, d, generator=generator, dtype=torch.float64)
    return SpikeSlab(*parts)


def learned(**parameters):
    return small(VSCTransformer, **{"prior": "pseudo_inputs", "n_pseudo_inputs": 4} | parameters)


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:300]


# The divergence --------------------------------------------------------------------------------


def log_density(q, z):
    """Return the logarithm of the density of z: of the gates, and of the slabs that are on."""
    on = z != 0
    slab = torch.distributions.Normal(q.mu, (0.5 * q.log_var).exp()).log_prob(z)
    return torch.where(on, q.gamma.log() + slab, (1 - q.gamma).log())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_divergence_is_that_of_draws(seed):
    q, prior = slabs(1, 4, seed), slabs(1, 4, seed + 10)
    rows = torch.zeros(400_000, dtype=torch.int64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        z = q[rows].rsample()
    ratio = log_density(q, z) - log_density(prior, z)
    error = 5 * ratio.std(0) / math.sqrt(len(z))
    closed = (q.slab_kl_from(prior) + q.spike_kl_from(prior))[0]
    assert ((ratio.mean(0) - closed).abs() < error).all()


@quick
@given(seeds, st.floats(0.01, 0.99), st.floats(-2, 2))
def test_from_the_fixed_prior_it_is_the_fixed_divergence(seed, alpha, prior_mean):
    q, zero = slabs(5, 3, seed), torch.zeros(1, 3, dtype=torch.float64)
    alpha = torch.tensor(alpha, dtype=torch.float64)
    prior = SpikeSlab(zero + alpha.logit(), zero + prior_mean, zero)
    torch.testing.assert_close(q.slab_kl_from(prior), q.slab_kl(prior_mean))
    torch.testing.assert_close(q.spike_kl_from(prior), q.spike_kl(alpha), rtol=1e-7, atol=1e-12)


@quick
@given(seeds)
def test_it_is_zero_from_itself_and_positive_from_others(seed):
    q, other = slabs(5, 3, seed), slabs(5, 3, seed ^ 1)
    for name in ("slab_kl_from", "spike_kl_from"):
        assert getattr(q, name)(q).abs().max() < 1e-12
        assert getattr(q, name)(other).min() > 0


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_all_pairs_at_once_are_each_pair(seed, n, m):
    q, priors = slabs(n, 3, seed), slabs(m, 3, seed ^ 1)
    slab, spike = pairwise_kl(q, priors)
    for i in range(n):
        for u in range(m):
            torch.testing.assert_close(slab[i, u], q[i].slab_kl_from(priors[u]).sum())
            torch.testing.assert_close(spike[i, u], q[i].spike_kl_from(priors[u]).sum())


def test_tempered_slabs_go_from_standard_noise_to_their_own():
    q = slabs(4, 3, 0)
    nothing, half, all_ = (q.tempered(share) for share in (0.0, 0.5, 1.0))
    for tempered in (nothing, half, all_):
        assert torch.equal(tempered.logits, q.logits)
    assert nothing.mu.abs().max() == nothing.log_var.abs().max() == 0
    torch.testing.assert_close(half.mu, q.mu / 2)
    torch.testing.assert_close(half.log_var.exp(), q.log_var.exp() / 2 + 0.5)
    torch.testing.assert_close(all_.log_var, q.log_var)


# The model and the objective -------------------------------------------------------------------


def a_model(likelihood="gaussian", m=4, p=5, d=3, alpha=0.2, seed=0):
    return make_autoencoder(
        p,
        encoder=None,
        decoder=None,
        hidden_layer_sizes=[8],
        activation="tanh",
        likelihood=LIKELIHOODS[likelihood](),
        alpha=torch.full((d,), alpha),
        prior_mean=0.0,
        gated=True,
        n_pseudo_inputs=m,
        generator=torch.Generator().manual_seed(seed),
    ).double()


def a_batch(n=9, p=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator, dtype=torch.float64)
    weight = torch.rand(n, generator=generator, dtype=torch.float64) + 0.1
    return x, torch.full((n,), -1), weight


def an_objective(**changes):
    weights = {"kl_weight": 1.0, "information_weight": 1.0, "usage_weight": 1.0, "warmup": 0.0}
    return LearnedPriorObjective(**weights | changes)


def evidence_of(model, out=None):
    x, labels, weight = a_batch()
    out = out or model(x, torch.Generator().manual_seed(0))
    misfit = model.likelihood.misfit(out.theta, x)
    return Evidence(out.q, out.z, misfit, labels, weight, out.priors)


def terms_of(model, objective=None, out=None):
    return (objective or an_objective()).terms(model, evidence_of(model, out)).values


def test_the_terms_are_those_of_their_definitions():
    model = a_model().eval()
    x, _, weight = a_batch()
    terms = terms_of(model)
    q, priors = model.encode(x), model.prior_posteriors()
    scores = model.pseudo_inputs.selector(model.encoder(x))
    expected = dict.fromkeys(("slab_kl", "spike_kl", "usage"), 0.0)
    for i, w in enumerate((weight / weight.sum()).tolist()):
        prior = priors[int(scores[i].argmax())]
        g, p = q.gamma[i], prior.gamma
        var, prior_var = q.log_var[i].exp(), prior.log_var.exp()
        slab = (prior_var / var).log() + (var + (q.mu[i] - prior.mu) ** 2) / prior_var - 1
        spike = g * (g / p).log() + (1 - g) * ((1 - g) / (1 - p)).log()
        expected["slab_kl"] += w * (g * slab / 2).sum().item()
        expected["spike_kl"] += w * spike.sum().item()
        expected["usage"] += w * bernoulli_kl(p.mean(), torch.tensor(0.2)).item()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-6)


def test_with_the_fixed_prior_in_place_the_terms_are_those_of_the_fixed_objective():
    model = a_model().eval()
    out = model(a_batch()[0], torch.Generator().manual_seed(0))
    zero = torch.zeros(4, 3, dtype=torch.float64)
    fixed = SpikeSlab(zero + model.alpha.logit(), zero, zero)
    terms = terms_of(model, out=out._replace(priors=Priors(fixed, out.priors.scores)))
    plain = VSCObjective().terms(model, evidence_of(model, out)).values
    assert terms["reconstruction"].item() == plain["reconstruction"].item()
    assert terms["slab_kl"].item() == pytest.approx(plain["slab_kl"].item())
    spike = (plain["usage"] + plain["information"]).item()
    assert terms["spike_kl"].item() == pytest.approx(spike)
    assert terms["usage"].item() == pytest.approx(0, abs=1e-12)


def gradients(loss, model):
    of = list(model.parameters())
    grads = torch.autograd.grad(loss, of, allow_unused=True, retain_graph=True)
    names = [name for name, _ in model.named_parameters()]
    return {n: torch.zeros(()) if g is None else g for n, g in zip(names, grads, strict=True)}


def test_the_selector_learns_the_cheapest_and_the_priors_from_its_choice():
    model = a_model(alpha=0.1).eval()
    x, _, weight = a_batch()
    objective = an_objective(kl_weight=0.7, information_weight=1.3, usage_weight=5.0)
    out = model(x, torch.Generator().manual_seed(0))
    found = objective.terms(model, evidence_of(model, out))
    actual, terms = gradients(objective.loss(found, 1.0), model), found.values

    scores = model.pseudo_inputs.selector(model.encoder(x))
    q, priors, share = model.encode(x), model.prior_posteriors(), weight / weight.sum()
    costs = torch.stack([
        0.7 * q.slab_kl_from(prior).sum(1)
        + 1.3 * q.spike_kl_from(prior).sum(1)
        + 5.0 * bernoulli_kl(prior.gamma.mean(), torch.tensor(0.1))
        for prior in (priors[[u]] for u in range(4))
    ], dim=1)  # fmt: skip
    log_p = scores.log_softmax(1)
    selection = -(share @ log_p.gather(1, costs.argmin(1, keepdim=True))[:, 0])
    chosen = share @ costs.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    assert terms["selection"].item() == pytest.approx(selection.item())
    for name, part in [
        ("selector.weight", selection),
        ("selector.bias", selection),
        ("free", chosen),
    ]:
        expected = gradients(part, model)[f"pseudo_inputs.{name}"]
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(actual[f"pseudo_inputs.{name}"], expected)


def test_how_often_each_is_selected_is_kept_in_training_alone():
    model = a_model()
    x, _, weight = a_batch()
    selected = model.pseudo_inputs.selector(model.encoder(x)).argmax(1)
    hits = np.bincount(selected, weight / weight.sum(), minlength=4)
    assert not an_objective().terms(model.eval(), evidence_of(model)).running
    running = an_objective().terms(model.train(), evidence_of(model)).running
    expected = 0.25 + LearnedPriorObjective.momentum * (hits - 0.25)
    np.testing.assert_allclose(running["pseudo_inputs.share"], expected, rtol=1e-6)
    proportions = model.pseudo_inputs.proportions()
    assert proportions.sum().item() == pytest.approx(1) and proportions.min() > 0


def test_without_slabs_only_the_gates_tell_of_x():
    model = a_model().train()
    x = a_batch()[0]
    out = model(x, torch.Generator().manual_seed(0), 0.0)
    grads = gradients(out.z.square().sum() + terms_of(model, out=out)["slab_kl"], model)
    mu_and_log_var, logits = grads["encoder_head.weight"].split([6, 3])
    assert mu_and_log_var.abs().max() == 0 < logits.abs().max()
    assert terms_of(model, out=out)["slab_kl"].item() == pytest.approx(0, abs=1e-12)


def test_the_slabs_come_in_over_the_warm_up():
    objective = an_objective(warmup=0.5)
    assert [objective.slab_fraction(p) for p in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
    assert an_objective().slab_fraction(0) == VSCObjective().slab_fraction(0) == 1
    assert {w.warmup for w in objective.weights.values()} == {0.0}


def test_training_tempers_the_slabs_and_validation_does_not(iris, monkeypatch):
    shares = []
    tempered = SpikeSlab.tempered
    monkeypatch.setattr(
        SpikeSlab, "tempered", lambda q, share: shares.append(share) or tempered(q, share)
    )
    learned(warmup=0.5, max_epochs=8, batch_size=200, early_stopping=True).fit(iris)
    assert shares == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]  # of the samples, of the priors


@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_pseudo_inputs_are_what_the_encoder_may_see(likelihood):
    model = a_model(likelihood)
    with torch.no_grad():
        model.pseudo_inputs.free.mul_(100)
    seen = model.likelihood.to_input_range(model.pseudo_inputs.free)
    assert seen.min() >= model.likelihood.low and seen.max() <= model.likelihood.high
    assert model.prior_posteriors().mu.isfinite().all()


def test_the_divergence_from_the_prior_bounds_that_from_the_mixture():
    model = a_model().eval()
    model.pseudo_inputs.share.copy_(torch.tensor([0.7, 0.2, 0.1, 0.0]))
    x = a_batch()[0]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        q, priors = model.encode(x), model.prior_posteriors()
        bound = model.prior_kl(q, x)
        for i in range(len(x)):
            many = q[torch.full((20_000,), i)]
            z = many.rsample()
            parts = [log_density(priors[u : u + 1], z).sum(1) for u in range(4)]
            mixture = torch.stack(parts, 1) + model.pseudo_inputs.proportions().log()
            ratio = log_density(many, z).sum(1) - mixture.logsumexp(1)
            assert ratio.mean() - 5 * ratio.std() / math.sqrt(len(z)) < bound[i]


# The estimator ---------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_of_its_terms(iris):
    est = learned(kl_weight=0.5, information_weight=2.0).fit(iris)
    history = est.history_
    assert list(history)[2:] == [
        *("reconstruction", "slab_kl", "spike_kl", "usage", "selection"),
    ]
    weighted = history.iloc[:, 2:] @ [1, 0.5, 2, est.n_components, 1]
    np.testing.assert_allclose(history["train_loss"], weighted, rtol=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "container"), covering(sorted(LIKELIHOODS), [np.asarray, sparse.csr_array])
)
def test_every_method_works_under_every_likelihood(likelihood, container, digits, monkeypatch):
    monkeypatch.setattr(_data, "WIDE", 50)  # for what is sparse
    X = container((digits > 8) * 1.0 if likelihood == "bernoulli" else digits)
    est = learned(likelihood=likelihood).fit(X)
    Z = est.transform(X)
    assert (Z == 0).any() and np.array_equal(Z != 0, est.activation_proba(X) > 0.5)
    for made in (est.inverse_transform(Z), est.sample(7), est.score_samples(X)):
        assert np.isfinite(made).all()
    assert est.sample(7).shape == (7, 64)
    halves = np.r_[est.score_samples(X[:100]), est.score_samples(X[100:])]
    np.testing.assert_allclose(est.score_samples(X), halves, rtol=1e-5)


def test_the_priors_are_all_in_use_and_the_selector_names_the_cheapest(digits):
    X = digits / 16
    est = learned(max_epochs=100, n_components=12).fit(X)
    module = est.module_
    assert module.pseudo_inputs.share.min() > 0.02
    x = torch.tensor(X, dtype=torch.float32)
    q, scores = module.encode(x), module.pseudo_inputs.selector(module.encoder(x))
    cheapest = sum(pairwise_kl(q, module.prior_posteriors())).argmin(1)
    assert (scores.argmax(1) == cheapest).float().mean() > 0.6


def test_alpha_sets_how_many_dimensions_are_on(digits):
    X = digits / 16
    active = [
        (learned(alpha=alpha, usage_weight=200.0, n_components=12, max_epochs=40).fit(X))
        .activation_proba(X)
        .sum(1)
        .mean()
        for alpha in (0.1, 0.5, 0.9)
    ]
    assert active == sorted(active)


def test_the_same_seed_gives_the_same_model(iris):
    one, again = (learned().fit(iris) for _ in range(2))
    other = learned(random_state=1).fit(iris)
    for name, x in one.module_.state_dict().items():
        assert torch.equal(x, again.module_.state_dict()[name])
    assert np.array_equal(one.sample(5), again.sample(5))
    assert not torch.equal(one.module_.pseudo_inputs.free, other.module_.pseudo_inputs.free)


def test_samples_are_drawn_from_the_mixture_of_the_priors(iris, monkeypatch):
    est = learned().fit(iris)
    module = est.module_
    monkeypatch.setattr(Model, "decode", lambda model, Z: Z)
    module.pseudo_inputs.share.copy_(torch.tensor([0.0, 0.25, 0.75, 0.0]))
    q = module.prior_posteriors()
    Z = est.sample(40_000)
    part = np.array([0.25, 0.75])
    np.testing.assert_allclose((Z != 0).mean(0), part @ q.gamma[1:3].numpy(), atol=0.02)
    np.testing.assert_allclose(Z.mean(0), part @ (q.gamma * q.mu)[1:3].numpy(), atol=0.05)


def test_the_ways_to_fit(iris):
    weight = np.arange(len(iris)) % 3
    weighted = learned().fit(iris, sample_weight=weight)
    assert np.array_equal(
        weighted.transform(iris), learned().fit(iris, sample_weight=4 * weight).transform(iris)
    )
    chunks = learned().partial_fit(iris[:70]).partial_fit(iris[70:])
    assert len(chunks.history_) == 2
    stopped = learned(early_stopping=True, n_iter_no_change=2, max_epochs=2000).fit(iris)
    assert stopped.stop_reason_ == "early_stopping"
    pieces = learned().fit(lambda: [(iris[:70], None), (iris[70:], None)])
    low = learned(device="cpu+bfloat16", encoder=ResidualMLP(16)).fit(iris)
    for est in (weighted, chunks, stopped, pieces, low):
        assert np.isfinite(est.score(iris))


@pytest.mark.parametrize("way", ["file", "pickle", "copy"])
def test_a_copy_is_the_same_and_goes_on_alike(way, iris, tmp_path):
    est = learned().fit(iris)
    if way == "file":
        est.save(tmp_path / "m")
        twin = VSCTransformer.load(tmp_path / "m")
    else:
        twin = pickle.loads(pickle.dumps(est)) if way == "pickle" else copy.deepcopy(est)
    for _ in range(2):
        assert np.array_equal(twin.score_samples(iris), est.score_samples(iris))
        assert np.array_equal(twin.sample(5), est.sample(5))
        for one in (est, twin):
            one.partial_fit(iris)
    assert clone(twin).get_params() == est.get_params()


def test_a_fit_that_crashed_goes_on_to_the_same_result(iris, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "COST", math.inf)  # every epoch is written
    parameters = {"max_epochs": 5, "warmup": 0.5, "early_stopping": True}
    whole = learned(**parameters).fit(iris)
    est, path = learned(**parameters), tmp_path / "m"
    crash(est, 2, iris, checkpoint=path)
    assert not hasattr(est, "module_")
    est.fit(iris, checkpoint=path, resume=True)
    assert np.array_equal(est.score_samples(iris), whole.score_samples(iris))
    assert np.array_equal(est.sample(5), whole.sample(5))


def test_onnx_has_no_part_of_the_prior(iris):
    reference = pytest.importorskip("onnx.reference")
    est = learned(alpha=0.6).fit(iris)
    for method in ("transform", "activation_proba"):
        model = to_onnx(est, method=method)
        (made,) = reference.ReferenceEvaluator(model).run(None, {"X": iris})
        np.testing.assert_allclose(made, getattr(est, method)(iris), rtol=1e-4, atol=1e-5)


def test_a_model_keeps_the_prior_that_it_was_built_with(iris):
    for before, after in (("fixed", "pseudo_inputs"), ("pseudo_inputs", "fixed")):
        est = learned(prior=before).fit(iris).set_params(prior=after)
        twin = pickle.loads(pickle.dumps(est)).partial_fit(iris)
        assert (twin.module_.pseudo_inputs is not None) == (before == "pseudo_inputs")
        assert (est.fit(iris).module_.pseudo_inputs is not None) == (after == "pseudo_inputs")


def test_what_the_learned_prior_cannot_take_is_named(iris):
    with pytest.raises(ValueError, match=r"alpha has shape \(6,\), but prior='pseudo_inputs'"):
        learned(alpha=[0.2] * 6).fit(iris)
    with pytest.raises(ValueError, match=r"'prior' parameter .* Got 'learned'"):
        learned(prior="learned").fit(iris)
    with pytest.raises(ValueError, match=r"'n_pseudo_inputs' parameter .* Got 0"):
        learned(n_pseudo_inputs=0).fit(iris)
    assert not {"prior", "n_pseudo_inputs"} & ClassVSCTransformer().__dict__.keys()


@pytest.mark.parametrize("change", ["a share below 0", "more inputs than the file holds"])
def test_a_file_of_another_prior_is_refused(change, iris, tmp_path):
    est = learned().fit(iris)
    if change == "a share below 0":
        est.net_.module_.pseudo_inputs.share[0] = -1
    else:
        est._fitted.model.architecture["n_pseudo_inputs"] = 10**9
    est.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"shares below 0|layers of widths"):
        VSCTransformer.load(tmp_path / "m")


@parametrize_with_checks([learned(n_components=2)], expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
