"""What sets the three transformers apart; what they share is in test_common.py."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers import small
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import explained_variance_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.utils.validation import validate_data

from sklearn_classvsc import (
    ClassVSCTransformer,
    CollapseWarning,
    VAETransformer,
    VSCTransformer,
)
from sklearn_classvsc.metrics import (
    class_consistency_score,
    class_contrast_score,
    consistency_scorer,
    contrast_scorer,
    dead_fraction,
    dimension_roles,
    fidelity_scorer,
    jensen_shannon_consistency,
)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)


@pytest.fixture(scope="module")
def default(digits):
    """The default constructor, fitted to digits."""
    X, _, y, _ = digits
    return ClassVSCTransformer(random_state=0).fit(X, y)


def test_vae_codes_are_dense_means(iris):
    X = iris[0]
    est = small(VAETransformer).fit(X)
    assert (est.transform(X) != 0).all()
    assert set(est.history_) == {"epoch", "train_loss", "reconstruction", "slab_kl"}


def test_hidden_layers_do_not_silence_the_code(digits):
    """Without residual layers three of them made every code the same: fidelity 0."""
    X, X_test, _, _ = digits
    est = VAETransformer(16, hidden_layer_sizes=(64,) * 3, max_epochs=100, random_state=0)
    assert fidelity_scorer(est.fit(X / 16), X_test / 16) > 0.4  # one layer: 0.58


def test_beta_vae_pays_less_divergence(digits):
    X = digits[0]
    slab_kl = [
        small(VAETransformer, kl_weight=beta, max_epochs=30).fit(X).history_["slab_kl"].iloc[-1]
        for beta in (0.1, 1, 10)
    ]
    assert slab_kl == sorted(slab_kl, reverse=True)


@pytest.fixture(scope="module")
def tied():
    """Samples of two factors that go together: the codes of a VAE are correlated."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(600, 2)) @ np.linalg.cholesky([[1, 0.8], [0.8, 1]]).T
    return np.hstack([np.repeat(factors, 3, axis=1), rng.normal(size=(600, 2))])


def test_the_disentangling_weight_lowers_what_it_weighs(tied):
    def figure(weight):
        est = small(VAETransformer, max_epochs=60, total_correlation_weight=weight).fit(tied)
        return est.history_["total_correlation"].iloc[-1]

    assert figure(20) < 0.8 * figure(1e-6)


@pytest.mark.parametrize("kl_weight", [1, 4])
def test_the_disentangling_terms_are_named_and_weighted(tied, kl_weight):
    est = small(VAETransformer, kl_weight=kl_weight, total_correlation_weight=3)
    est.fit(tied, sample_weight=np.arange(600) % 3)
    h = est.history_
    terms = h["reconstruction"] + kl_weight * h["slab_kl"]
    terms += 3 * h["total_correlation"]
    np.testing.assert_allclose(h["train_loss"], terms, rtol=1e-5)
    assert h["total_correlation"].max() > 0


def test_the_disentangling_terms_draw_no_noise(tied):
    """With hardly any weight the codes are the VAE's: the draws are the same."""
    plain = small(VAETransformer).fit(tied)
    weights = {"total_correlation_weight": 1e-12}
    almost = small(VAETransformer, **weights).fit(tied)
    np.testing.assert_allclose(almost.transform(tied), plain.transform(tied), atol=1e-4)
    none = dict.fromkeys(weights, 0)
    assert np.array_equal(
        small(VAETransformer, **none).fit(tied).transform(tied), plain.transform(tied)
    )


@pytest.mark.parametrize(
    "how",
    [
        {"batch_size": 1},
        {"batch_size": 599},
        {"early_stopping": True},
        {"n_components": 1},
        {"device": "cpu+bfloat16"},
        {"likelihood": "negative_binomial"},
    ],
    ids=str,
)
def test_the_disentangling_terms_go_with_everything(tied, how, tmp_path):
    X = np.round(abs(tied)) if "likelihood" in how else tied
    X = X[:40] if how.get("batch_size") == 1 else X
    est = small(VAETransformer, total_correlation_weight=5, **how).fit(X)
    assert np.isfinite(est.history_.to_numpy(float)).all()
    est.partial_fit(X[:1]).partial_fit(X[:30])
    assert np.isfinite(est.history_["total_correlation"].to_numpy()).all()
    est.save(tmp_path / "vae.safetensors")
    again = VAETransformer.load(tmp_path / "vae.safetensors")
    assert again.total_correlation_weight == 5
    assert np.array_equal(again.partial_fit(X).transform(X), est.partial_fit(X).transform(X))


def test_the_disentangling_terms_of_pieces(tied):
    est = small(VAETransformer, total_correlation_weight=5)
    est.fit(lambda: [tied[:250], tied[250:]])
    assert np.isfinite(est.transform(tied)).all()
    assert "total_correlation" in est.history_


@pytest.mark.parametrize("name", ["total_correlation_weight"])
def test_only_the_vae_has_the_disentangling_weights(iris, name):
    for value in (-1.0, np.nan, "much"):
        with pytest.raises(ValueError, match=rf"The '{name}' parameter"):
            small(VAETransformer, **{name: value}).fit(iris[0])
    for cls in (VSCTransformer, ClassVSCTransformer):
        assert name not in cls().get_params()
        with pytest.raises(TypeError, match=name):
            cls(**{name: 1.0})


def test_vsc_loss_is_the_elbo(iris):
    """With unit weights and no ramp, the loss is reconstruction + the whole divergence."""
    history = small(VSCTransformer).fit(iris[0]).history_
    terms = history[["reconstruction", "slab_kl", "usage", "information"]]
    np.testing.assert_allclose(history["train_loss"], terms.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("consistency", ["centroid", "pairwise"])
def test_paper_objective_is_vsc_plus_lambda_divergence(iris, consistency):
    est = small(
        ClassVSCTransformer,
        objective="paper",
        consistency=consistency,
        consistency_weight=7.0,
        warmup=0.0,
    ).fit(*iris)
    h = est.history_
    vsc = h[["reconstruction", "slab_kl", "usage", "information", "inconsistency"]].sum(axis=1)
    np.testing.assert_allclose(h["train_loss"], vsc + 7 * h["consistency"], rtol=1e-5)
    if consistency == "centroid":
        np.testing.assert_allclose(h["consistency"], h["inconsistency"], rtol=1e-4)
    assert (est.module_.alpha == 0.2).all() and (est.module_.prior_mean == 0).all()


def test_paper_objective_lowers_the_divergence_within_classes(digits):
    X, X_test, y, y_test = digits
    divergence = [
        jensen_shannon_consistency(
            small(ClassVSCTransformer, objective="paper", consistency_weight=weight, max_epochs=60)
            .fit(X, y)
            .activation_proba(X_test),
            y_test,
        )
        for weight in (0, 10)
    ]
    assert divergence[1] < divergence[0]


def test_default_has_class_consistent_codes_that_do_not_collapse(default, digits):
    _, X_test, _, y_test = digits
    codes = default.transform(X_test)
    assert class_consistency_score(codes, y_test) > 0.95
    assert class_contrast_score(codes, y_test) > 0.85
    assert dead_fraction(codes, y_test) < 0.1
    roles = dimension_roles(codes, y_test)
    assert (roles["role"] == "global").sum() >= 2
    owned = {c for classes in roles["classes"] if 1 <= len(classes) <= 3 for c in classes}
    assert owned == set(range(10))
    assert explained_variance_score(X_test.ravel(), default.inverse_transform(codes).ravel()) > 0.85


def test_samples_of_a_class_use_its_dimensions(default, digits):
    X_test, y_test = digits[1], digits[3]
    for label in (0, 7):
        drawn = default.transform(default.sample(100, y=label)) != 0
        own = (default.transform(X_test[y_test == label]) != 0).mean(0)
        others = [(default.transform(X_test[y_test == c]) != 0).mean(0) for c in range(10)]
        distances = [np.abs(drawn.mean(0) - other).sum() for other in others]
        assert int(np.argmin(distances)) == label
        assert np.abs(drawn.mean(0) - own).mean() < 0.2


def test_sample_names_an_unknown_label(default):
    with pytest.raises(ValueError, match=r"y='boot' is not a class .*\[0, 1, 2"):
        default.sample(3, y="boot")
    with pytest.raises(NotFittedError):
        ClassVSCTransformer().sample(y=1)


@pytest.mark.parametrize(
    ("names", "label", "others"),
    [
        ([0, 1, 2], 1, [np.int8(1), np.uint64(1), 1.0, np.float32(1), np.array(1), True]),
        (["a", "b", "c"], "b", [np.str_("b"), np.array("b"), np.array("b", dtype=object)]),
        ([0.0, 1.0, 2.0], 1.0, [1, np.float32(1), np.array(1)]),
    ],
)
def test_a_label_of_equal_value_names_the_class_whatever_its_type(iris, names, label, others):
    X, y = iris
    est = small(ClassVSCTransformer).fit(X, np.array(names)[y])
    expected = est.sample(3, y=label)
    for other in others:
        assert np.array_equal(est.sample(3, y=other), expected)
    for wrong in ("1.0", [label], names, np.nan, pd.NA, "x" * 10_000):
        with pytest.raises(ValueError, match="is not a class") as error:
            est.sample(3, y=wrong)
        assert len(str(error.value)) < 300


def test_string_labels_give_the_same_codes(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    est = small(ClassVSCTransformer).fit(X, names)
    assert list(est.classes_) == ["setosa", "versicolor", "virginica"]
    assert np.array_equal(est.transform(X), small(ClassVSCTransformer).fit(X, y).transform(X))
    assert est.sample(2, y="virginica").shape == (2, 4)
    assert small(ClassVSCTransformer).fit(X, names == "setosa").classes_.dtype == bool


@pytest.mark.parametrize("unlabeled", [-1, "none"])
def test_unlabeled_samples_are_no_class(iris, unlabeled):
    X, y = iris
    partly = y.astype(object if unlabeled == "none" else int)
    partly[::2] = unlabeled
    partly = partly.astype(str) if unlabeled == "none" else partly
    for objective in ("balanced", "paper"):
        est = small(ClassVSCTransformer, unlabeled=unlabeled, objective=objective)
        est.fit(X, partly)
        assert len(est.classes_) == 3 and unlabeled not in est.classes_
        assert np.isfinite(est.history_.to_numpy(float)).all()
    assert len(small(ClassVSCTransformer).fit(X, partly).classes_) == 4


@pytest.mark.parametrize("unlabeled", [[1, 2], np.nan])
def test_unlabeled_is_one_label(iris, unlabeled):
    with pytest.raises(ValueError, match=r"unlabeled=.* one label"):
        small(ClassVSCTransformer, unlabeled=unlabeled).fit(*iris)


def test_unlabeled_samples_still_train_the_reconstruction(digits):
    X, X_test, y, _ = digits
    few = np.full(len(y), -1)
    few[:50] = y[:50]
    est = small(ClassVSCTransformer, unlabeled=-1, max_epochs=200, n_components=16)
    alone = small(ClassVSCTransformer, max_epochs=1000, n_components=16).fit(X[:50], y[:50])
    error = [
        ((X_test - e.inverse_transform(e.transform(X_test))) ** 2).mean()
        for e in (est.fit(X, few), alone)
    ]
    assert error[0] < error[1]


def test_labels_are_required_and_at_least_two(iris):
    X, y = iris
    with pytest.raises(ValueError, match=r"requires y to be passed, but the target y is None"):
        ClassVSCTransformer().fit(X)
    with pytest.raises(ValueError, match=r"at least 2 classes, but y has 1 class: \[0\]"):
        small(ClassVSCTransformer).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match=r"Unknown label type: continuous"):
        small(ClassVSCTransformer).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        small(ClassVSCTransformer).fit(X, y[:-1])


def test_partial_fit_knows_all_classes_from_the_first_call(iris):
    X, y = iris
    est = small(ClassVSCTransformer)
    est.partial_fit(X[:50], y[:50], classes=[0, 1, 2]).partial_fit(X[50:], y[50:])
    assert list(est.classes_) == [0, 1, 2]
    assert est.sample(1, y=2).shape == (1, 4)
    with pytest.raises(ValueError, match=r"label 9, which is not one of the classes \[0, 1, 2\]"):
        est.partial_fit(X, np.full(len(X), 9))
    fresh = small(ClassVSCTransformer).partial_fit(X[40:60], y[40:60])
    with pytest.raises(ValueError, match=r"label 2, .*classes=\.\.\."):
        fresh.partial_fit(X, y)


@pytest.mark.parametrize("cls", [VSCTransformer, ClassVSCTransformer])
@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (0, r"alpha=0 must lie strictly between 0 and 1"),
        (1.0, r"alpha=1 must lie"),
        (-0.5, r"alpha=-0\.5 must lie"),
        ([0.5, 0.5], r"alpha has shape \(2,\).*n_components=6"),
        ([0.5] * 5 + [1.5], r"alpha=1\.5 must lie"),
        ([0.5] * 5 + [np.nan], r"alpha=nan must lie"),
    ],
)
def test_alpha_is_checked(iris, cls, alpha, message):
    est = small(cls, alpha=alpha)
    with pytest.raises(ValueError, match=message):
        est.fit(*iris)
    assert not hasattr(est, "module_")


def test_alpha_per_dimension_sets_the_roles(digits):
    X, X_test, y, _ = digits
    alpha = [0.95] * 3 + [0.15] * 9
    est = small(ClassVSCTransformer, n_components=12, alpha=alpha, max_epochs=300).fit(X, y)
    on = (est.transform(X_test) != 0).mean(0)
    assert on[:3].min() > 0.7 > 0.5 > on[3:].max()


def test_collapse_is_warned_of_with_figures(iris):
    X, y = iris
    shuffled = np.random.default_rng(0).permutation(y)
    with pytest.warns(CollapseWarning, match=r"differ by 0\.\d\d at most.*check the labels"):
        small(ClassVSCTransformer, objective="paper", max_epochs=200).fit(X, shuffled)
    with pytest.warns(CollapseWarning, match=r"Unused dimensions: \d+ of 30\."):
        small(
            ClassVSCTransformer, objective="paper", n_components=30, alpha=0.01, max_epochs=1000
        ).fit(X, y)


def test_grid_search_over_the_loss_weights(iris):
    X, y = iris
    search = GridSearchCV(
        small(ClassVSCTransformer),
        {"consistency_weight": [0.3, 3], "alpha": [0.1, 0.2]},
        scoring={"contrast": contrast_scorer, "consistency": consistency_scorer},
        refit="contrast",
        cv=2,
        n_jobs=2,
        error_score="raise",
    ).fit(X, y)
    assert search.cv_results_["mean_test_contrast"].shape == (4,)
    assert search.best_params_["alpha"] in (0.1, 0.2)


def test_more_classes_than_a_batch_holds():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 5)), np.arange(120) % 40
    est = small(ClassVSCTransformer, batch_size=16).fit(X, y)
    assert np.isfinite(est.transform(X)).all() and len(est.classes_) == 40


# What is published -----------------------------------------------------------------------------


def test_what_a_user_does_to_the_history_changes_no_estimator(digits, tmp_path):
    est = small(VSCTransformer).fit(digits[0])
    codes = est.transform(digits[0])
    est.history_["epoch"] -= 1
    est.history_.set_index("epoch", inplace=True)
    assert est.n_iter_ == 3
    est.save(tmp_path / "model")
    loaded = VSCTransformer.load(tmp_path / "model")
    assert loaded.n_iter_ == 3 and list(loaded.history_["epoch"]) == [1, 2, 3]
    assert np.array_equal(loaded.transform(digits[0]), codes)


def test_a_subclass_may_validate_its_data_first(digits):
    class Own(VSCTransformer):
        def fit(self, X, y=None, **parameters):
            return super().fit(validate_data(self, X), y, **parameters)

    est = small(Own)
    assert not hasattr(est, "n_features_in_")
    est.fit(digits[0])
    assert est.n_features_in_ == 64 and est.transform(digits[0]).shape == (len(digits[0]), 6)


def test_a_warning_that_is_an_error_leaves_the_estimator_as_it_was():
    rng = np.random.default_rng(0)
    est = small(ClassVSCTransformer, max_epochs=1)
    with warnings.catch_warnings(), pytest.raises(CollapseWarning):
        warnings.simplefilter("error", CollapseWarning)
        est.fit(rng.normal(size=(60, 6)), np.arange(60) % 3)
    assert not hasattr(est, "n_iter_")


@pytest.mark.parametrize("n_samples", [0, 2.5, "3"])
def test_numbers_of_samples_are_checked(n_samples, digits):
    est = small(VSCTransformer, max_epochs=1).fit(digits[0])
    with pytest.raises(ValueError, match=r"n_samples=.* at least 1"):
        est.sample(n_samples)


def test_a_device_is_a_string_in_partial_fit_too(digits):
    est = small(VSCTransformer).partial_fit(digits[0])
    with pytest.raises(ValueError, match="device=None must be a string"):
        est.set_params(device=None).partial_fit(digits[0])
