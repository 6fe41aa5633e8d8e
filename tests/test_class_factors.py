"""Specification of where a code begins: how many factors are found, and in which classes."""

import warnings

import numpy as np
import pytest
from helpers import small
from scipy import sparse
from sklearn.datasets import load_digits, make_blobs

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc._class_factors import class_factors, common_factors, find_beginning
from sklearn_classvsc._data import ArrayDataset
from sklearn_classvsc._estimators import role_alpha
from sklearn_classvsc._training import Training
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.metrics import dimension_roles, role_recovery_score

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def moments(X, y):
    """Return covariances, sizes and shares of the classes, features standardised."""
    X = (X - X.mean(0)) / X.std(0)
    parts = [X[y == c] for c in np.unique(y)]
    n = np.array([len(part) for part in parts])
    return np.array([np.cov(part.T) for part in parts]), n, n / len(X)


def beginning(X, y, weight=None, n_components=32, seed=0):
    """Return where a fit with this seed begins."""
    est = ClassVSCTransformer(
        n_components, random_state=seed, max_epochs=1, alpha=role_alpha(n_components, len(set(y)))
    )
    training = est.fit(X[:60], y[:60])._fitted.training  # for its module alone
    fresh = Training.start(training.architecture, training.standardization, seed, "cpu")
    standardization = ArrayDataset(X, weight=weight).survey(True).standardization()
    return find_beginning(fresh.net.module, ArrayDataset(X, y, weight, standardization))


@pytest.mark.parametrize("n_global", [4, 2, 0])
def test_as_many_factors_are_found_as_there_are_in_their_classes(n_global):
    made = make_class_factors(
        3000, n_classes=5, n_global=n_global, n_shared=3, n_specific=2, random_state=0
    )
    loadings, noise = class_factors(*moments(made.data, made.target))
    support, A = common_factors(loadings)
    several = support[:, support.sum(0) > 1]
    true = made.supports[:, made.supports.sum(0) > 1]
    assert sorted(map(tuple, several.T)) == sorted(map(tuple, true.T))
    assert A.shape == (64, support.shape[1])
    assert (noise > 0).all()


def test_noise_has_no_factor():
    X, y = make_blobs(3000, 64, centers=5, random_state=0)
    loadings, _ = class_factors(*moments(X, y))
    assert sum(A.shape[1] for A in loadings) <= 1
    alpha = beginning(X.astype("f"), y).alpha
    assert (alpha <= 0.5).all(), "none is global"
    assert (alpha > 0.1).sum() == 5, "each class has its mean for a factor"


def test_roles_of_known_factors_are_found_and_the_others_stay_unused_in_silence():
    made = make_class_factors(
        2000, n_classes=5, n_global=2, n_shared=3, n_specific=2, random_state=1
    )
    X, y = made.data.astype("f"), made.target
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est = ClassVSCTransformer(max_epochs=25, random_state=0).fit(X, y)
    Z = est.transform(X)
    roles = dimension_roles(Z, y)["role"].value_counts()
    assert role_recovery_score(made.supports, Z, y) == 1
    assert roles["global"] == 2
    assert roles["shared"] == 3
    assert roles["dead"] >= 10
    r = np.abs(np.corrcoef(made.codes.T, Z[:, Z.any(0)].T)[:15, 15:])
    assert r.max(axis=1).min() > 0.9
    assert (est._fitted.training.architecture["alpha"] == est.module_.alpha.numpy()).all()


def test_where_factors_are_too_many_alpha_says_how_many_are_global():
    X, y = load_digits(return_X_y=True)
    one, two = (beginning(X.astype("f"), y, seed=seed) for seed in (0, 1))
    np.testing.assert_allclose(one.alpha, role_alpha(32, 10), rtol=1e-6)
    np.testing.assert_allclose(one.loadings, two.loadings, atol=1e-6)  # whatever the seed
    assert one.places.tolist() == [0, 1, 2, 3, 4], "the others begin as they were drawn"


@pytest.mark.parametrize("kind", ["alpha", "balanced", "missing", "bits", "several", "sparse"])
def test_other_fits_begin_where_they_did_or_can(kind, monkeypatch):
    made = make_class_factors(300, 24, n_classes=3, n_shared=0, random_state=0)
    X, y = made.data.astype("f"), made.target
    parameters = {"alpha": {"alpha": 0.3}, "balanced": {"objective": "balanced"}}.get(kind, {})
    if kind == "missing":
        X = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    elif kind == "bits":
        X = (X > 0).astype("f")
    elif kind == "several":
        y = np.eye(3, dtype=int)[y] | (np.arange(300) % 7 == 0)[:, None]
    elif kind == "sparse":
        X = sparse.csr_array(np.where(np.abs(X) < 0.3, 0, X))
    est = small(ClassVSCTransformer, **parameters).fit(X, y)
    assert np.isfinite(est.history_["train_loss"]).all()
    alpha = est.module_.alpha.numpy()
    if kind in ("missing", "bits", "several"):
        np.testing.assert_allclose(alpha, role_alpha(6, 3), rtol=1e-6)
    elif kind == "alpha":
        np.testing.assert_allclose(alpha, 0.3, rtol=1e-6)


@pytest.mark.parametrize("d", [1, 2, 6, 40])
@pytest.mark.parametrize("p", [1, 2, 4, 30])
def test_any_number_of_dimensions_and_features_can_begin(d, p):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [40, 40, 1])
    X = (rng.normal(size=(81, p)) + y[:, None]).astype("f")
    est = ClassVSCTransformer(d, max_epochs=2, random_state=0, hidden_layer_sizes=(8,)).fit(X, y)
    assert np.isfinite(est.transform(X)).all()
    constant = np.c_[X, np.ones(81, "f")]
    assert np.isfinite(small(ClassVSCTransformer).fit(constant, y).transform(constant)).all()


def test_samples_count_by_their_weights():
    made = make_class_factors(600, 24, n_classes=3, n_global=2, random_state=0)
    X, y = made.data.astype("f"), made.target
    noise = np.random.default_rng(0).normal(size=X.shape).astype("f")
    one = beginning(X, y)
    with_noise = np.r_[X, 9 * noise], np.r_[y, y], np.repeat([1, 0], 600).astype("f")
    for a, b in zip(one, beginning(*with_noise), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    twice = beginning(X, y, np.full(600, 2, "f"))
    for a, b in zip(one, twice, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    heavy = np.r_[np.full(599, 1e-12), 1].astype("f")
    found = beginning(X, y, heavy)
    assert found is None or all(np.isfinite(x).all() for x in found)


def rings():
    """Return classes with equal means that vary in different directions."""
    rng = np.random.default_rng(0)
    y, angle = np.arange(800) % 4, rng.uniform(0, 2 * np.pi, (800, 1))
    waves = np.c_[np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    X = np.einsum("nk,nkp->np", waves, rng.normal(size=(4, 4, 32))[y])
    return X + 0.2 * rng.normal(size=X.shape), y


def tiny_classes():
    """Return factors of classes, of which all but one have three samples."""
    made = make_class_factors(
        600, 24, n_classes=4, n_global=2, n_shared=1, n_specific=1, random_state=0
    )
    y = np.zeros(600, int)
    y[:12] = 1 + np.arange(12) % 4
    return made.data, y


@pytest.mark.parametrize("data", [rings, tiny_classes])
def test_factors_that_do_not_explain_the_class_means_are_no_beginning(data):
    X, y = data()
    found = beginning(X.astype("f"), y)
    alpha = role_alpha(32, len(set(y)))
    assert found is None or np.allclose(found.alpha, alpha)
