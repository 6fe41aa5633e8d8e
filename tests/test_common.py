"""Every estimator through scikit-learn's checks, and the habits of the whole family."""

import copy
import pickle
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import covering, expected_failures, small
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from sklearn_classvsc import (
    ClassVSCTransformer,
    VAETransformer,
    VSCTransformer,
    _cross_fit,
    _estimator,
    _modules,
)
from sklearn_classvsc._spike_slab import SpikeSlab
from sklearn_classvsc._training import Training
from sklearn_classvsc.metrics import contrast_scorer

ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
each_estimator = pytest.mark.parametrize("cls", ESTIMATORS)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


@pytest.fixture
def few_steps(monkeypatch):
    """Train for two epochs, not 2,000 steps, where `max_epochs` is "auto", the default."""
    monkeypatch.setattr(_estimator, "EPOCHS", 2)
    monkeypatch.setattr(_estimator, "STEPS", 2)


@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
@pytest.mark.usefixtures("few_steps")
@parametrize_with_checks(
    [cls() for cls in ESTIMATORS], expected_failed_checks=expected_failures, xfail_strict=True
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


#: Checks that scikit-learn runs on its own estimators only.
INTERNAL_CHECKS = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_estimators_partial_fit_n_features,
    estimator_checks.check_get_feature_names_out_error,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_n_features_in_after_fitting,
    estimator_checks.check_param_validation,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]


@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
@pytest.mark.parametrize("check", INTERNAL_CHECKS, ids=lambda check: check.__name__)
@each_estimator
def test_scikit_learn_internal_checks(cls, check):
    check(cls.__name__, small(cls))


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@each_estimator
def test_sample_weight_equals_repetition(cls, container, iris, monkeypatch):
    """With noise off and one batch per epoch, weights are repetitions, to rounding.

    Exceptions are the prior of the networks' weights, which counts rows, and the beginning and the
    axes of a code, where every row counts alike.
    """
    monkeypatch.setattr(Training, "count", lambda training, *args, **kwargs: None)
    monkeypatch.setattr(Training, "begin", lambda training, data: None)
    monkeypatch.setattr(_cross_fit, "hide_features", lambda x, *args: x)
    monkeypatch.setattr(SpikeSlab, "rsample", lambda q, *args, **kwargs: q.gamma * q.mu)
    monkeypatch.setattr(_modules, "hide_features", lambda x, *args: x)
    X, y = iris
    repeats = np.random.default_rng(0).integers(0, 4, len(X))
    est = small(cls, batch_size=10_000, max_epochs=5, likelihood="gaussian", rotation=None)
    weighted = clone(est).fit(container(X), y, sample_weight=repeats).transform(X)
    repeated = clone(est).fit(container(X.repeat(repeats, axis=0)), y.repeat(repeats)).transform(X)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-3, atol=1e-4)


@each_estimator
def test_fit_changes_nothing_global(cls, iris):
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()
    threads, filters = torch.get_num_threads(), list(warnings.filters)
    dtype = torch.get_default_dtype()
    for seed in (0, None):
        small(cls, random_state=seed).fit(*iris).transform(iris[0])
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.get_num_threads() == threads
    assert list(warnings.filters) == filters
    assert torch.get_default_dtype() == dtype


def _fit_transform(cls, X, y):
    torch.set_num_threads(1)
    return small(cls).fit(X, y).transform(X)


@each_estimator
def test_serial_processes_and_threads_fit_identically(cls, iris):
    threads = torch.get_num_threads()
    try:
        serial = _fit_transform(cls, *iris)
        jobs = [joblib.delayed(_fit_transform)(cls, *iris) for _ in range(4)]
        for backend in ("loky", "threading"):
            for codes in joblib.Parallel(n_jobs=2, backend=backend)(jobs):
                assert np.array_equal(codes, serial)
    finally:
        torch.set_num_threads(threads)


@each_estimator
def test_transform_is_the_gated_mean(cls, digits):
    X, y = digits
    est = small(cls).fit(X, y)
    codes, gamma = est.transform(X), est.activation_proba(X)
    assert codes.dtype == gamma.dtype == np.float32
    assert np.array_equal(codes == 0, gamma <= 0.5)
    assert (codes == 0).mean() == (gamma <= 0.5).mean()
    if cls is VAETransformer:
        assert (gamma == 1).all()
    else:
        stricter = est.set_params(threshold=0.9).transform(X)
        assert np.array_equal(stricter, np.where(gamma > 0.9, codes, 0))


@each_estimator
def test_same_seed_same_codes_other_seed_other_codes(cls, iris):
    X, y = iris
    first, again = (small(cls).fit(X, y).transform(X) for _ in range(2))
    other = small(cls, random_state=1).fit(X, y).transform(X)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@each_estimator
def test_inverse_transform_returns_the_units_of_X(cls, iris):
    X, y = iris
    shifted = X * [1, 1e3, 1e-3, 1] + [0, 1e6, 0, -50]
    est = small(cls, max_epochs=300).fit(shifted, y)
    back = est.inverse_transform(est.transform(shifted))
    assert back.dtype == np.float64
    residual = ((shifted - back) ** 2).mean(0) / shifted.var(0)
    assert residual.mean() < 0.5
    np.testing.assert_allclose(back.mean(0), shifted.mean(0), rtol=0.1)
    assert est.inverse_transform(est.transform(np.float32(X))).shape == X.shape


@each_estimator
def test_sparse_in_sparse_out(cls, digits):
    X, y = digits
    dense, codes = small(cls).fit(X, y), small(cls, sparse_output=True)
    for container in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        out = codes.fit(container(X), y).transform(container(X))
        assert sparse.issparse(out) and out.format == "csr" and out.dtype == np.float32
        np.testing.assert_allclose(out.toarray(), dense.transform(X), atol=1e-5)
    np.testing.assert_allclose(
        codes.inverse_transform(out), dense.inverse_transform(out.toarray()), rtol=1e-4, atol=1e-4
    )


@each_estimator
def test_data_frames_with_any_column_names(cls, iris):
    X, y = iris
    for columns in (["petal width", "y", "self", "None"], [0, 1, 2, 3], list("XyZW")):
        frame = pd.DataFrame(X, columns=columns)
        est = small(cls).fit(frame, pd.Series(y))
        assert np.array_equal(est.transform(frame), small(cls).fit(X, y).transform(X))
    assert list(est.feature_names_in_) == list("XyZW")
    out = est.set_output(transform="pandas").transform(frame)
    assert list(out.columns) == [f"{cls.__name__.lower()}{j}" for j in range(6)]


@each_estimator
def test_pipeline_and_grid_search(cls, iris):
    X, y = iris
    pipe = make_pipeline(StandardScaler(), small(cls), LogisticRegression())
    assert pipe.fit(X, y).score(X, y) > 0.3
    weight = "consistency_weight" if cls is ClassVSCTransformer else "kl_weight"
    searches = [
        GridSearchCV(
            small(cls),
            {weight: [0.3, 3.0]},
            scoring=contrast_scorer,
            cv=2,
            n_jobs=n_jobs,
            error_score="raise",
        ).fit(X, y)
        for n_jobs in (1, 2)
    ]
    serial, parallel = (search.cv_results_["mean_test_score"] for search in searches)
    assert np.array_equal(serial, parallel)


@each_estimator
def test_clone_has_the_parameters_and_nothing_learned(cls, iris):
    est = small(cls).fit(*iris)
    twin = clone(est)
    assert not hasattr(twin, "module_")
    assert twin.get_params() == est.get_params()


@pytest.mark.parametrize("copy_of", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy])
@each_estimator
def test_copies_transform_and_continue_identically(cls, copy_of, iris):
    X, y = iris
    est = small(cls).fit(X, y)
    twin = copy_of(est)
    assert np.array_equal(twin.transform(X), est.transform(X))
    assert twin.history_.equals(est.history_)
    for _ in range(2):
        est.partial_fit(X, y)
        twin.partial_fit(X, y)
        assert np.array_equal(twin.transform(X), est.transform(X))
        twin = copy_of(twin)


@each_estimator
def test_joblib_round_trip(cls, iris, tmp_path):
    est = small(cls).fit(*iris)
    joblib.dump(est, tmp_path / "est.joblib")
    again = joblib.load(tmp_path / "est.joblib")
    assert np.array_equal(again.transform(iris[0]), est.transform(iris[0]))


@each_estimator
def test_pickled_state_is_arrays_and_primitives(cls, iris):
    def leaves(tree):
        if isinstance(tree, dict):
            for value in tree.values():
                yield from leaves(value)
        elif isinstance(tree, list | tuple):
            for value in tree:
                yield from leaves(value)
        else:
            yield tree

    state = small(cls).fit(*iris).__getstate__()
    allowed = (np.ndarray, np.generic, int, float, str, bool, type(None))
    assert {type(leaf) for leaf in leaves(state) if not isinstance(leaf, allowed)} == set()


@each_estimator
def test_score_is_the_mean_elbo_and_deterministic(cls, digits):
    X, y = digits
    est = small(cls).fit(X, y)
    scores = est.score_samples(X)
    assert scores.shape == (len(X),) and np.isfinite(scores).all()
    assert np.array_equal(scores, est.score_samples(X))
    assert scores.dtype == np.float32 and est.score(X) == scores.mean(dtype=np.float64)
    np.testing.assert_allclose(est.score_samples(X[:7]), scores[:7], rtol=1e-4)
    assert small(cls, max_epochs=60).fit(X, y).score(X) > est.score(X)


@each_estimator
def test_score_is_a_density_in_the_units_of_X(cls, iris):
    X, y = iris
    score = small(cls).fit(X, y).score(X)
    np.testing.assert_allclose(
        small(cls).fit(1000 * X, y).score(1000 * X), score - 4 * np.log(1000), rtol=1e-3
    )


@each_estimator
def test_sample_draws_plausible_data(cls, iris):
    X, y = iris
    est = small(cls, max_epochs=200).fit(X, y)
    drawn = est.sample(500)
    assert drawn.shape == (500, 4)
    assert (np.abs(drawn.mean(0) - X.mean(0)) < 2 * X.std(0)).all()
    with pytest.raises(ValueError, match=r"n_samples=0"):
        est.sample(0)


@each_estimator
def test_history_and_attributes(cls, iris):
    est = small(cls).fit(*iris)
    assert list(est.history_["epoch"]) == [1, 2, 3] and est.n_iter_ == 3
    assert {"train_loss", "reconstruction", "slab_kl"} <= set(est.history_)
    assert est.stop_reason_ == "max_epochs"
    assert est.net_.module_ is not est.module_
    assert not est.module_.training


def test_by_default_a_fit_has_600_steps_at_least(iris, monkeypatch):
    assert _estimator.STEPS == 600
    monkeypatch.setattr(_estimator, "EPOCHS", 2)
    monkeypatch.setattr(_estimator, "STEPS", 100)
    est = VAETransformer(hidden_layer_sizes=(4,), n_components=2, batch_size=1)
    assert est.fit(iris[0][::5]).stop_reason_ == "steps" and est.n_iter_ == 4


@each_estimator
def test_verbose_shows_a_bar_and_silence_is_silent(cls, iris, capfd):
    small(cls).fit(*iris)
    assert capfd.readouterr() == ("", "")
    small(cls, verbose=1).fit(*iris)
    out, err = capfd.readouterr()
    assert out == "" and "3/3" in err and "loss=" in err


@each_estimator
def test_early_stopping_keeps_the_best_weights(cls, digits):
    X, y = digits
    est = small(cls, max_epochs=500, early_stopping=True, n_iter_no_change=3, learning_rate=0.1)
    est.fit(X, y)
    assert est.stop_reason_ == "early_stopping" and est.n_iter_ < 500
    losses = est.history_["valid_loss"]
    assert losses.idxmin() == est.n_iter_ - 1 - 3


@each_estimator
def test_early_stopping_on_too_few_samples_names_the_fraction(cls, iris):
    X, y = iris[0][48:52], iris[1][48:52]
    with pytest.raises(ValueError, match=r"validation_fraction=0\.9"):
        small(cls, early_stopping=True, validation_fraction=0.9).fit(X, y)


@each_estimator
def test_warm_start_continues(cls, iris):
    X, y = iris
    est = small(cls, warm_start=True).fit(X, y)
    first = est.history_["train_loss"].iloc[-1]
    est.fit(X, y)
    assert est.n_iter_ == 6
    assert est.history_["train_loss"].iloc[-1] < first
    assert small(cls).fit(X, y).fit(X, y).n_iter_ == 3


@each_estimator
def test_partial_fit_learns_from_a_stream(cls, digits):
    X, y = digits[0] / 16, digits[1]
    est = small(cls)
    for _ in range(30):
        for rows in np.array_split(np.arange(len(X)), 3):
            est.partial_fit(X[rows], y[rows])
    assert est.n_iter_ == 90
    reconstruction = est.history_["reconstruction"]
    assert reconstruction.iloc[-1] < reconstruction.iloc[2] - 1
    assert est.stop_reason_ == "partial_fit"


@each_estimator
def test_transform_during_partial_fit_sees_one_model(cls, digits):
    X, y = digits
    est = small(cls).fit(X, y)
    before, seen, done = est.transform(X), [], threading.Event()

    def watch():
        while not done.is_set():
            seen.append(est.transform(X))

    watcher = threading.Thread(target=watch)
    watcher.start()
    est.partial_fit(X, y)
    done.set()
    watcher.join()
    after = est.transform(X)
    assert seen and all(np.array_equal(z, before) or np.array_equal(z, after) for z in seen)


class Hiding(nn.Module):
    """A body that makes numbers of what is none."""

    def forward(self, x):
        return x.nan_to_num(0, 1, -1)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("body", [{}, {"hidden_layer_sizes": ()}, {"encoder": Hiding()}])
@pytest.mark.parametrize(("cls", "value"), covering(ESTIMATORS, [np.inf, -np.inf]))
def test_a_value_that_is_infinite_is_refused_wherever_it_is(cls, body, container, value, iris):
    X, y = iris
    est = small(cls, **body).fit(X, y)
    bad = np.tile(X, (8, 1))  # of more than one chunk
    bad[-1, 2] = value
    for method in (est.transform, est.activation_proba, est.score_samples, est.score):
        with pytest.raises(ValueError, match="X contains infinity"):
            method(container(bad))


@pytest.mark.parametrize("value", [-np.inf, np.inf])
@each_estimator
def test_a_failed_fit_leaves_the_estimator_as_it_was(cls, value, iris):
    X, y = iris
    bad = X.copy()
    bad[3, 1] = value
    est = small(cls)
    with pytest.raises(ValueError, match="infinity"):
        est.fit(bad, y)
    assert vars(est) == vars(small(cls))
    codes = est.fit(X, y).transform(X)
    for method in (est.fit, est.partial_fit):
        with pytest.raises(ValueError, match="infinity"):
            method(bad, y)
        assert np.array_equal(est.transform(X), codes)
    with pytest.raises(ValueError, match=r"3 features, but .* is expecting 4"):
        est.transform(X[:, :3])


@each_estimator
def test_numbers_that_overflow_name_scale_and_learning_rate(cls, iris):
    X, y = iris
    for huge in (X * 1e300, np.float64(X) * 1e154):
        est = small(cls)
        with pytest.raises(FloatingPointError, match=r"largest absolute value.*learning_rate=0"):
            est.fit(huge, y)
        assert not hasattr(est, "module_")
    with pytest.raises(FloatingPointError, match="learning_rate"):
        small(cls, learning_rate=1e38, max_epochs=50).fit(X, y)


@each_estimator
def test_a_failed_partial_fit_restores_weights_and_optimiser(cls, iris):
    X, y = iris
    est, twin = small(cls).fit(X, y), small(cls).fit(X, y)
    with pytest.raises(FloatingPointError):
        est.partial_fit(X * 1e200, y)
    assert np.array_equal(est.partial_fit(X, y).transform(X), twin.partial_fit(X, y).transform(X))


@each_estimator
def test_likelihood_follows_the_data(cls, digits):
    X, y = digits
    assert type(small(cls).fit(X, y).module_.likelihood).__name__ == "Gaussian"
    est = small(cls).fit(X / 16, y)
    assert type(est.module_.likelihood).__name__ == "Bernoulli"
    back = est.inverse_transform(est.transform(X / 16))
    assert back.min() >= 0 and back.max() <= 1
    with pytest.raises(ValueError, match=r"X lies in \[0, 16\].*Bernoulli.*gaussian"):
        small(cls, likelihood="bernoulli").fit(X, y)
    with pytest.raises(ValueError, match=r"X lies in \[0, 16\]"):
        est.partial_fit(X, y)


@each_estimator
def test_a_users_own_bodies(cls, iris):
    X, y = iris
    bodies = {
        "encoder": torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh()),
        "decoder": torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.ReLU()),
    }
    weights = bodies["encoder"][0].weight.detach().clone()
    est = small(cls, **bodies).fit(X, y)
    codes = est.transform(X)
    assert torch.equal(bodies["encoder"][0].weight, weights)
    assert np.array_equal(est.fit(X, y).transform(X), codes)
    assert np.array_equal(pickle.loads(pickle.dumps(est)).transform(X), codes)
    with pytest.raises(ValueError, match="encoder=Linear"):
        small(cls, encoder=torch.nn.Linear(3, 5)).fit(X, y)


@each_estimator
def test_a_users_own_body_may_write_into_what_it_is_given(cls, iris):
    class Doubles(torch.nn.Module):
        def forward(self, x):
            return x.mul_(2)

    X, y = iris[0].astype(np.float32), iris[1]
    before = X.copy()
    likelihood = {"likelihood": "bernoulli"}  # nothing is standardised, so X itself is read
    est = small(cls, encoder=Doubles(), max_epochs=1, **likelihood).fit(X / 8, y)
    est.transform(X)
    np.testing.assert_array_equal(X, before)


@each_estimator
def test_a_device_that_is_not_there_is_named(cls, iris):
    with pytest.raises(ValueError, match="device='tpu9'"):
        small(cls, device="tpu9").fit(*iris)


@each_estimator
def test_trained_on_a_device_that_the_loader_lacks(cls, iris):
    est = small(cls).fit(*iris)
    codes = est.transform(iris[0])
    est.device = "cuda:99"
    assert np.array_equal(pickle.loads(pickle.dumps(est)).transform(iris[0]), codes)


@each_estimator
def test_bfloat16_lowers_the_precision_of_training_alone(cls, digits):
    X, y = digits
    error, weights = {}, {}
    for precision, device in {"float32": "cpu", "bfloat16": "cpu+bfloat16"}.items():
        estimator = small(cls, max_epochs=20, device=device).fit(X, y)
        Z = estimator.transform(X)
        error[precision] = ((X - estimator.inverse_transform(Z)) ** 2).mean()
        weights[precision] = torch.cat([p.ravel() for p in estimator.module_.parameters()])
        assert weights[precision].dtype == torch.float32
        np.testing.assert_allclose(estimator.transform(X[:3]), Z[:3], rtol=1e-4, atol=1e-5)
    assert error["bfloat16"] == pytest.approx(error["float32"], rel=0.05)
    assert not torch.equal(weights["bfloat16"], weights["float32"])


@each_estimator
def test_hidden_layer_sizes_are_checked(cls, iris):
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(0,\)"):
        small(cls, hidden_layer_sizes=(0,)).fit(*iris)
    deep = small(cls, hidden_layer_sizes=[8, 4]).fit(*iris)
    for body, sizes in ((deep.module_.encoder, [8, 4]), (deep.module_.decoder, [4, 8])):
        linear = [layer for layer in body.modules() if isinstance(layer, torch.nn.Linear)]
        assert [layer.out_features for layer in linear] == sizes


@each_estimator
def test_inverse_transform_names_the_wrong_width(cls, iris):
    est = small(cls).fit(*iris)
    with pytest.raises(ValueError, match=r"Z has 5 columns.*n_components=6"):
        est.inverse_transform(np.zeros((2, 5)))


@each_estimator
def test_tags_are_true(cls):
    tags = get_tags(cls())
    assert tags.input_tags.sparse
    assert tags.transformer_tags.preserves_dtype == ["float32"]
    assert tags.target_tags.required is (cls is ClassVSCTransformer)


@each_estimator
def test_metadata_routing(cls, iris):
    X, y = iris
    with config_context(enable_metadata_routing=True):
        est = small(cls).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        classifier = LogisticRegression().set_fit_request(sample_weight=True)
        pipe = make_pipeline(scaler, est, classifier)
        pipe.fit(X, y, sample_weight=np.ones(len(X)))
