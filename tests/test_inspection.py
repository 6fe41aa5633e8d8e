"""What a dimension does to the features: against brute force, and a generator that is known."""

import numpy as np
import pandas as pd
import pytest
from helpers import small
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import NMF
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.editing import class_profile, counterfactual
from sklearn_classvsc.inspection import (
    class_differences,
    feature_effects,
    top_features,
    top_samples,
    traverse,
)

# Small estimators, soon trained, may leave dimensions without use.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")


class TrueFactors(TransformerMixin, BaseEstimator):
    """The encoder and the decoder that made noiseless data: exact, linear, sparse."""

    def __init__(self, dictionary):
        self.dictionary = dictionary

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        codes = np.asarray(X) @ np.linalg.pinv(self.dictionary)
        return np.where(np.abs(codes) > 1e-9, codes, 0)

    def inverse_transform(self, Z):
        return Z @ self.dictionary


@pytest.fixture(scope="module")
def known():
    """Factors, of which each class has some, and the estimator that sees them as they are."""
    factors = make_class_factors(600, 20, n_classes=3, noise=0, activity=0.7, random_state=0)
    return factors, TrueFactors(factors.dictionary).fit(factors.data)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module", params=[VAETransformer, VSCTransformer, ClassVSCTransformer])
def fitted(request, iris):
    X, y = iris
    return small(request.param, max_epochs=100).fit(X, y)


def spread(values, low=0.1, high=0.9):
    """From one quantile to the other, over the non-zero values of each column."""
    return np.array([np.subtract(*np.quantile(v[v != 0], [high, low])) for v in values.T])


# -- feature_effects ---------------------------------------------------------------------------


def test_effects_of_known_factors_are_their_loadings(known):
    factors, est = known
    expected = spread(factors.codes)[:, None] * factors.dictionary
    assert_allclose(feature_effects(est, factors.data), expected, atol=1e-9)


def test_presence_is_from_off_to_the_median(known):
    factors, est = known
    medians = np.array([np.median(z[z != 0]) for z in factors.codes.T])
    effects = feature_effects(est, factors.data, kind="presence")
    assert_allclose(effects, medians[:, None] * factors.dictionary, atol=1e-9)


def test_effects_within_a_class_are_those_of_its_samples_alone(known):
    factors, est = known
    effects = feature_effects(est, factors.data, factors.target)
    assert effects.index.names == ["class", "dimension"]
    for c in range(3):
        alone = feature_effects(est, factors.data[factors.target == c])
        pd.testing.assert_frame_equal(effects.loc[c], alone, check_index_type=False)


def test_rows_of_dimensions_that_are_never_active_are_nan(known):
    factors, est = known
    effects = feature_effects(est, factors.data, factors.target)
    has = ~effects.isna().all(axis=1).to_numpy().reshape(3, -1)
    assert_array_equal(has, factors.supports)
    assert not effects[has.ravel()].isna().any(axis=None)


@pytest.mark.parametrize("by_class", [False, True])
def test_learned_factors_move_the_features_of_the_true_ones(by_class):
    """A code that follows a true factor moves the features as that factor does."""
    factors = make_class_factors(
        1000, n_classes=3, n_shared=2, activity=0.6, noise=0.05, image_shape=(8, 8), random_state=0
    )
    d = len(factors.roles)
    est = NMF(d, init="nndsvd", max_iter=2000).fit(factors.data)
    codes = est.transform(factors.data)
    codes_agree = np.corrcoef(codes.T, factors.codes.T)[:d, d:]
    learned, true = linear_sum_assignment(-codes_agree)
    assert codes_agree[learned, true].min() > 0.9
    y = factors.target if by_class else None
    effects = feature_effects(est, factors.data, y)
    if by_class:  # of a class that has the factor
        effects = pd.DataFrame(
            [
                effects.loc[(factors.supports[:, t].argmax(), j)]
                for j, t in zip(learned, true, strict=True)
            ]
        )
    agree = [np.corrcoef(effects.iloc[i], factors.dictionary[t])[0, 1] for i, t in enumerate(true)]
    assert min(agree) > 0.95


def test_a_class_vsc_that_finds_factors_finds_their_features():
    factors = make_class_factors(
        2000, 40, n_classes=4, n_global=1, n_specific=0, activity=0.8, random_state=1
    )
    est = ClassVSCTransformer(8, max_epochs=150, random_state=0).fit(factors.data, factors.target)
    d = 8
    agree = np.corrcoef(est.transform(factors.data).T, factors.codes.T)[:d, d:]
    learned, true = np.nonzero(np.abs(agree) > 0.85)
    assert len(learned) >= 3
    effects = feature_effects(est, factors.data)
    for j, t in zip(learned, true, strict=True):
        r = np.corrcoef(effects.loc[j], factors.dictionary[t])[0, 1]
        assert r * np.sign(agree[j, t]) > 0.9


def test_effects_are_the_brute_force_mean_of_differences(fitted, iris):
    X, _ = iris
    Z = fitted.transform(X)
    effects = feature_effects(fitted, X, max_samples=len(X))
    for j in range(Z.shape[1]):
        active = Z[Z[:, j] != 0]
        if not len(active):
            assert effects.loc[j].isna().all()
            continue
        low, high = np.quantile(active[:, j].astype(float), [0.1, 0.9])
        at_low, at_high = active.copy(), active.copy()
        at_low[:, j], at_high[:, j] = low, high
        difference = fitted.inverse_transform(at_high) - fitted.inverse_transform(at_low)
        assert_allclose(effects.loc[j], difference.mean(axis=0), atol=1e-5)


def test_effects_are_the_same_in_any_container(iris):
    X, y = iris
    dense = small(VSCTransformer, max_epochs=50).fit(X.to_numpy())
    sparse = small(VSCTransformer, max_epochs=50, sparse_output=True).fit(X.to_numpy())
    expected = feature_effects(dense, X.to_numpy(), y)
    assert list(expected) == ["x0", "x1", "x2", "x3"]
    assert_allclose(feature_effects(sparse, csr_array(X.to_numpy()), y), expected, atol=1e-5)
    frames = small(VSCTransformer, max_epochs=50).set_output(transform="pandas").fit(X)
    named = feature_effects(frames, X, y)
    assert_allclose(named, expected, atol=1e-5)
    assert list(named) == list(X)


def test_effects_of_a_pipeline_are_in_the_units_of_its_input(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), small(VSCTransformer, max_epochs=50)).fit(X, y)
    inside = feature_effects(pipeline[-1], pipeline[0].transform(X))
    effects = feature_effects(pipeline, X)
    assert list(effects) == list(X)
    assert_allclose(effects, inside * pipeline[0].scale_, atol=1e-5)


def test_a_bounded_number_of_samples_is_decoded(known):
    factors, _ = known
    decoded = []

    class Counting(TrueFactors):
        def inverse_transform(self, Z):
            decoded.append(len(Z))
            return super().inverse_transform(Z)

    feature_effects(Counting(factors.dictionary).fit(factors.data), factors.data, max_samples=7)
    assert max(decoded) == 7


def test_few_samples_stand_for_many(fitted, iris):
    X, _ = iris
    few, all_ = (feature_effects(fitted, X, max_samples=n).dropna() for n in (50, 150))
    assert len(few)
    assert np.corrcoef(few.to_numpy().ravel(), all_.to_numpy().ravel())[0, 1] > 0.99


def test_batches_do_not_change_the_effects(monkeypatch, fitted, iris):
    X, _ = iris
    expected = feature_effects(fitted, X)
    monkeypatch.setattr("sklearn_classvsc.inspection._BATCH_ELEMENTS", 12)  # 3 samples of 4
    pd.testing.assert_frame_equal(feature_effects(fitted, X), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "off"}, "kind is 'off', but must be 'range' or 'presence'"),
        ({"max_samples": 0}, "max_samples == 0, must be >= 1"),
        ({"y": [0, 1]}, "inconsistent numbers of samples"),
    ],
)
def test_wrong_arguments_of_feature_effects(known, arguments, message):
    factors, est = known
    with pytest.raises(ValueError, match=message):
        feature_effects(est, factors.data, **arguments)


def test_an_estimator_must_be_fitted(known):
    with pytest.raises(NotFittedError):
        feature_effects(VSCTransformer(), known[0].data)


# -- top_features ------------------------------------------------------------------------------


@pytest.fixture
def effects():
    frame = pd.DataFrame(
        {"area": [50.0, -10, np.nan], "smoothness": [0.1, 0.3, np.nan], "age": [-3.0, 1, np.nan]},
        index=pd.RangeIndex(3, name="dimension"),
    )
    frame.attrs["scale"] = {"area": 100.0, "smoothness": 0.1, "age": 10.0}
    return frame


def test_features_are_ranked_by_their_movement_in_standard_deviations(effects):
    expected = pd.DataFrame(
        {
            "dimension": [0, 0, 1, 1],
            "rank": [1, 2, 1, 2],
            "feature": ["smoothness", "area", "smoothness", "area"],
            "effect": [0.1, 50, 0.3, -10],
            "relative_effect": [1, 0.5, 3, -0.1],
            "measure": "SD",
        }
    )
    pd.testing.assert_frame_equal(top_features(effects, k=2), expected)


def test_features_of_one_unit_are_ranked_as_they_are(effects):
    top = top_features(effects, k=3, scale=1)
    assert top["feature"].tolist() == ["area", "age", "smoothness"] * 2
    assert_array_equal(top["relative_effect"], top["effect"])


def test_no_more_features_than_there_are(effects):
    assert len(top_features(effects, k=10)) == 6


def test_top_features_of_classes_name_the_class(known):
    factors, est = known
    effects = feature_effects(est, factors.data, factors.target)
    top = top_features(effects, k=1, scale=1)
    assert list(top)[:2] == ["class", "dimension"]
    strongest = np.abs(factors.dictionary).argmax(axis=1)
    assert top["feature"].tolist() == [f"x{strongest[j]}" for j in top["dimension"]]
    of_one = top_features(effects.loc[0], k=1, scale=1)  # selecting rows keeps what is needed
    pd.testing.assert_frame_equal(
        of_one, top[top["class"] == 0].drop(columns="class").reset_index(drop=True)
    )


def test_the_scale_is_the_standard_deviation_of_each_feature(iris):
    X, y = iris
    X = X.assign(constant=1.0)
    effects = feature_effects(small(VSCTransformer).fit(X), X, y)
    expected = X.std(ddof=0).replace(0, 1).to_dict()
    assert effects.attrs["scale"] == pytest.approx(expected)
    # Columns may be chosen before the features are ranked.
    chosen = top_features(effects[["constant", "petal width (cm)"]], k=2)
    ratio = chosen["effect"] / chosen["relative_effect"].where(chosen["relative_effect"] != 0)
    widths = chosen["feature"] == "petal width (cm)"
    assert_allclose(ratio[widths].dropna(), expected["petal width (cm)"])


def test_a_lost_scale_is_asked_for(effects):
    effects.attrs.clear()
    with pytest.raises(ValueError, match=r"no scale of 'area': pass the standard deviations"):
        top_features(effects)
    assert len(top_features(effects, scale=[100, 0.1, 10])) == 6


@pytest.mark.parametrize("scale", [0, [1, 2], [1, 1, -1]])
def test_wrong_scales(effects, scale):
    with pytest.raises(ValueError, match="must be a positive number, or one for each of the 3"):
        top_features(effects, scale=scale)


def test_k_must_be_positive(effects):
    with pytest.raises(ValueError, match="k == 0, must be >= 1"):
        top_features(effects, k=0)


# -- traverse ----------------------------------------------------------------------------------


def test_a_traversal_moves_one_dimension_over_its_quantiles_in_the_class(known):
    factors, est = known
    j = int(np.flatnonzero(factors.roles == "shared")[0])
    label = int(factors.supports[:, j].argmax())
    t = traverse(est, factors.data, factors.target, dimension=j, label=label, n_steps=5)
    of_class = factors.codes[factors.target == label, j]
    assert_allclose(t.quantiles, [0.05, 0.275, 0.5, 0.725, 0.95])
    assert_allclose(t.values, np.quantile(of_class[of_class != 0], t.quantiles))
    assert_allclose(t.codes[:, j], t.values)
    others = np.arange(len(factors.roles)) != j
    assert_allclose(t.codes[:, others], np.tile(factors.codes[t.sample, others], (5, 1)), atol=1e-9)
    assert_allclose(t.X_hat, t.codes @ factors.dictionary)


def test_a_traversal_starts_from_the_most_typical_sample(known):
    factors, est = known
    codes = factors.codes
    rows = np.flatnonzero((factors.target == 1) & (codes[:, 0] != 0))
    distance = np.linalg.norm(codes[rows] - codes[rows].mean(axis=0), axis=1)
    t = traverse(est, factors.data, factors.target, dimension=0, label=1)
    assert (t.dimension, t.label, t.sample) == (0, 1, rows[distance.argmin()])


def test_without_a_class_a_traversal_is_over_all_samples(known):
    factors, est = known
    t = traverse(est, factors.data, dimension=0, quantiles=(0, 1))
    values = factors.codes[:, 0]
    assert_allclose(t.values[[0, -1]], [values[values != 0].min(), values.max()])
    assert t.label is None


@pytest.mark.parametrize("sparse_output", [False, True])
def test_traversals_of_sparse_data_and_codes(sparse_output):
    X, y = load_digits(return_X_y=True)
    est = small(VSCTransformer, alpha=0.9, sparse_output=sparse_output).fit(X)
    names = np.array([f"digit {i}" for i in range(10)])[y]
    t = traverse(est, csr_array(X), names, dimension=1, label=names[0], n_steps=3)
    assert (t.codes.shape, t.X_hat.shape, t.label) == ((3, 6), (3, 64), "digit 0")
    assert names[t.sample] == "digit 0"
    assert_allclose(t.X_hat, est.inverse_transform(t.codes))


def test_a_traversal_keeps_to_the_rows_of_x_and_to_labels_of_equal_value(iris):
    X, y = iris
    names = np.where(np.arange(150) % 3, np.array([*"abc"])[y], "?")
    est = small(ClassVSCTransformer, unlabeled="?", max_epochs=100).fit(X, names)
    expected = traverse(est, X, names, dimension=0, label="b")
    assert names[expected.sample] == "b"
    assert_array_equal(
        np.delete(expected.codes[0], 0), np.delete(est.transform(X)[expected.sample], 0)
    )
    for label in (np.str_("b"), np.array("b")):
        found = traverse(est, X, pd.DataFrame(names), dimension=0, label=label)
        assert found.sample == expected.sample and type(found.label) is str
    for label in ("?", ["b"], np.nan, 1):
        with pytest.raises(ValueError, match=r"label is .*, but the classes of y are \['a', 'b'"):
            traverse(est, X, names, dimension=0, label=label)


def test_a_dimension_that_is_never_active_says_where_it_is(known):
    factors, est = known
    j = int(np.flatnonzero(factors.roles == "class-specific")[0])
    names = np.array(["boot", "shirt", "bag"])[factors.target]
    with pytest.raises(ValueError, match=r"never active in class 'shirt': .* \['boot'\]"):
        traverse(est, factors.data, names, dimension=j, label="shirt")
    dead = TrueFactors(np.vstack([factors.dictionary, np.eye(20)[0] * 0])).fit(factors.data)
    with pytest.raises(ValueError, match="never active in class 'bag', nor elsewhere in X"):
        traverse(dead, factors.data, names, dimension=len(factors.roles), label="bag")
    with pytest.raises(ValueError, match="never active in X: choose another"):
        traverse(dead, factors.data, dimension=len(factors.roles))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": -1}, "dimension == -1, must be >= 0"),
        ({"dimension": 99}, "dimension == 99, must be <="),
        ({"n_steps": 1}, "n_steps == 1, must be >= 2"),
        ({"quantiles": (0.9, 0.1)}, r"quantiles\[1\] == 0.1, must be > 0.9"),
        ({"quantiles": (-1, 1)}, r"quantiles\[0\] == -1, must be >= 0"),
        ({"label": 7}, r"label is 7, but the classes of y are \[0, 1, 2\]"),
        ({"label": 1, "y": None}, "label is 1, but y is None: pass the labels"),
    ],
)
def test_wrong_arguments_of_traverse(known, arguments, message):
    factors, est = known
    with pytest.raises(ValueError, match=message):
        traverse(est, factors.data, **({"y": factors.target, "dimension": 0} | arguments))


class Product(TransformerMixin, BaseEstimator):
    """Decodes a code to the product of its two numbers."""

    def fit(self, X, y=None):
        self.n_features_in_ = 2
        return self

    def transform(self, X):
        return np.asarray(X)

    def inverse_transform(self, Z):
        return np.repeat(np.prod(Z, axis=1, keepdims=True), 2, axis=1)


def test_effects_are_of_samples_of_every_kind_in_whatever_order_they_come():
    X = np.c_[np.ones(399), 1.0 + np.arange(399) % 2]
    effects = feature_effects(Product().fit(X), X, kind="presence", max_samples=200)
    assert effects.loc[0, "x0"] == pytest.approx(1.5, abs=0.1)
    assert_array_equal(
        effects, feature_effects(Product().fit(X), X, kind="presence", max_samples=200)
    )


def test_names_of_features_may_be_no_text():
    X = pd.DataFrame(np.eye(4, 2), columns=pd.Index(["a\ud800", "b"], dtype=object))
    est = Product().fit(X)
    est.feature_names_in_ = X.columns.to_numpy()
    assert feature_effects(est, X).columns.tolist() == ["a\ud800", "b"]


# -- counts ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts():
    """Counts of sixty words, of which each class uses ten more often, and a fit to them."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    rates = rng.gamma(1.0, 1.0, 60) + 0.05
    more = np.ones((3, 60))
    for c in range(3):
        more[c, 20 * c : 20 * c + 10] = 6
    X = rng.poisson(rates * more[y])
    est = small(ClassVSCTransformer, likelihood="multinomial", n_components=8, max_epochs=120)
    return est.fit(X, y), X, y


def test_words_are_ranked_by_fold_change_rising_first(texts):
    est, X, y = texts
    marks = class_differences(est, X, y)
    top = top_features(marks, k=8)
    assert set(top["measure"]) == {"log2 fold change"}
    assert (top.groupby(["class", "kind"])["relative_effect"].diff().dropna() <= 0).all()
    assert (top["effect"] > 0).all()
    for (c, kind), rows in top.groupby(["class", "kind"]):
        words = rows["feature"].str[1:].astype(int)
        right = words.between(20 * c, 20 * c + 9).mean()
        assert right >= (0.7 if kind == "counterfactual" else 1)


def test_falling_words_come_after_all_that_rise():
    frame = pd.DataFrame({"a": [-5.0], "b": [1.0], "c": [2.0], "d": [0.0]}).rename_axis("dimension")
    frame.attrs["level"] = {"a": 5.0, "b": 1.0, "c": 4.0, "d": 2.0}
    top = top_features(frame, k=4)
    assert top["feature"].tolist() == ["c", "b", "a", "d"]
    # The mean count of all is 3.
    assert_allclose(top["relative_effect"], np.log2([9 / 7, 5 / 4, 3 / 8, 1]))


def test_renamed_words_need_a_scale(texts):
    effects = feature_effects(texts[0], texts[1])
    renamed = effects.set_axis([f"word {i}" for i in range(60)], axis=1)
    with pytest.raises(ValueError, match="no scale of 'word 0'"):
        top_features(renamed)
    assert top_features(renamed, scale=1)["measure"].unique().tolist() == ["scaled"]


# -- what marks a class ------------------------------------------------------------------------


def test_differences_of_classes_are_those_of_their_means(known):
    factors, est = known
    X, y = factors.data, factors.target
    found = class_differences(est, X, y)
    assert found.index.names == ["class", "kind"] and found.shape == (6, 20)
    means = np.stack([X[y == c].mean(axis=0) for c in range(3)])
    for c in range(3):
        expected = means[c] - np.delete(means, c, axis=0).mean(axis=0)
        assert_allclose(found.loc[c, "difference"], expected)


def test_differences_leave_missing_values_out(iris):
    X, y = iris
    gaps = X.mask(np.random.default_rng(0).random(X.shape) < 0.2)
    est = small(ClassVSCTransformer, max_epochs=60).fit(gaps, y)
    found = class_differences(est, gaps, y)
    means = gaps.groupby(y).mean()
    expected = means.loc[0] - means.loc[[1, 2]].mean()
    assert_allclose(found.loc[0, "difference"], expected)
    assert np.isfinite(found).all(axis=None)


def test_the_counterfactual_switches_the_whole_block(known):
    factors, est = known
    X, y = factors.data, factors.target
    found = class_differences(est, X, y, max_samples=10_000).xs("counterfactual", level="kind")
    profile = class_profile(est, X, y)
    for c in range(3):
        changes = [
            counterfactual(est, X[y == other], profile, to=c).change.mean()
            for other in range(3)
            if other != c
        ]
        assert_allclose(found.loc[c], np.mean(changes, axis=0), atol=1e-9)


def test_one_class_has_nothing_to_differ_from(known):
    factors, est = known
    with pytest.raises(ValueError, match="y has one class, 1"):
        class_differences(est, factors.data, np.ones(600, dtype=int))


def test_top_samples_have_the_lowest_and_the_highest_values(known):
    factors, est = known
    Z = est.transform(factors.data)
    j = int(np.flatnonzero(factors.roles == "class-specific")[0])
    top = top_samples(est, factors.data, factors.target, factor=j, k=4)
    values = np.sort(Z[Z[:, j] != 0, j])
    assert top["end"].tolist() == ["lowest"] * 4 + ["highest"] * 4
    assert_allclose(top["value"], [*values[:4], *values[-4:]])
    assert_allclose(Z[top["sample"], j], top["value"])
    assert_array_equal(factors.target[top["sample"]], top["class"])
    assert "class" not in top_samples(est, factors.data, factor=j)


def test_few_active_samples_stand_at_one_end_only(known):
    factors, est = known
    j = int(np.flatnonzero(factors.roles == "class-specific")[0])
    active = np.flatnonzero(est.transform(factors.data)[:, j])[:3]
    top = top_samples(est, factors.data[active], factor=j, k=5)
    assert sorted(top["sample"]) == [0, 1, 2]
    with pytest.raises(ValueError, match="factor is 0, which is never active"):
        top_samples(est, np.zeros((2, 20)), factor=0)
