"""A Pipeline is taken wherever an estimator is, and its columns are those of the table."""

import numpy as np
import pandas as pd
import pytest
from helpers import small
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer, metrics
from sklearn_classvsc._pipelines import core_of, kinds_of, origins_of, unroll
from sklearn_classvsc.displays import (
    ActivationDisplay,
    HistoryDisplay,
    ReconstructionDisplay,
    SharingDisplay,
    TraversalDisplay,
)
from sklearn_classvsc.editing import class_profile, counterfactual, edit, interpolate
from sklearn_classvsc.inspection import (
    class_differences,
    feature_effects,
    top_features,
    top_samples,
    traverse,
)
from sklearn_classvsc.report import factor_report

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_classvsc.CollapseWarning", "ignore::sklearn_classvsc.GeneralizationWarning"
)
SCORERS = {
    "consistency": metrics.consistency_scorer,
    "contrast": metrics.contrast_scorer,
    "elbo": metrics.elbo_scorer,
    "fidelity": metrics.fidelity_scorer,
    "pooled": metrics.pooled_fidelity_scorer,
    "probe": metrics.probe_scorer,
}


def penguins(n=90, seed=0):
    """A table of numbers and categories, and classes that have to do with them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    table = pd.DataFrame(
        {
            "island": np.array(["Biscoe", "Dream", "Torgersen"])[(y + (rng.random(n) < 0.2)) % 3],
            "mass": 3500.0 + 700 * y + rng.normal(0, 200, n),
            "sex": np.array(["F", "M"])[rng.integers(0, 2, n)],
            "flipper": 190.0 + 10 * y + rng.normal(0, 4, n),
        }
    )
    table.loc[3, "flipper"] = np.nan
    return table, np.array(["Adelie", "Chinstrap", "Gentoo"])[y]


def encoders():
    return make_column_transformer(
        (OneHotEncoder(drop="if_binary"), ["sex", "island"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["flipper", "mass"]),
    )


@pytest.fixture(scope="module")
def mixed():
    """A pipeline with encoders before and a classifier after, fitted to a table."""
    X, y = penguins()
    est = small(ClassVSCTransformer, n_components=8, max_epochs=60)
    return make_pipeline(encoders(), est, LogisticRegression()).fit(X, y), X, y


def test_any_other_estimator_is_returned_as_it_is():
    X, y = load_iris(return_X_y=True)
    for est in (PCA(2), make_pipeline(StandardScaler(), PCA(2)), small(VSCTransformer)):
        est.fit(X, y)
        assert unroll(est, X) == (est, X) if est is None else unroll(est, X)[0] is est
        assert core_of(est) is est


def test_names_and_units_are_those_of_the_table(mixed):
    pipe, X, _ = mixed
    est, shown = unroll(pipe, X)
    assert list(est.feature_names_in_) == [
        "sex = M",
        *("island = Biscoe", "island = Dream", "island = Torgersen"),
        *("flipper", "mass"),
    ]
    assert origins_of(est, []) == ["sex", "island", "island", "island", "flipper", "mass"]
    assert core_of(pipe) is pipe[1] and core_of(est) is pipe[1]
    assert_array_equal(shown[:, 2], X["island"] == "Dream")
    assert_allclose(shown[:, 5], X["mass"])
    assert_allclose(shown[:, 4], X["flipper"].fillna(X["flipper"].mean()))
    assert_allclose(est.transform(shown), pipe[:2].transform(X), atol=1e-5)
    assert_allclose(est.inverse_transform(pipe[:2].transform(X))[:, 5].mean(), 4200, rtol=0.05)


@pytest.mark.parametrize(
    "scaler",
    [StandardScaler(with_mean=False), MinMaxScaler((-1, 3)), MaxAbsScaler(), RobustScaler()],
)
def test_scalers_give_the_units_back(scaler):
    X, y = penguins()
    X = X[["mass"]].assign(double=2 * X["mass"])
    pipe = make_pipeline(SimpleImputer(), StandardScaler(), scaler, small(VSCTransformer)).fit(X, y)
    est, shown = unroll(pipe, X)
    assert_allclose(shown, X)
    assert list(est.feature_names_in_) == ["mass", "double"]


def test_rare_and_dropped_categories_are_read_from_the_encoder():
    X = pd.DataFrame({"a": [*"xxxxyyyyzw"] * 3, "b": [*"pq"] * 15})
    encoder = OneHotEncoder(drop="first", min_frequency=5)
    est, shown = unroll(make_pipeline(encoder, small(VSCTransformer)).fit(X), X)
    assert list(est.feature_names_in_) == ["a = y", "a = infrequent", "b = q"]
    assert_array_equal(shown[:, 0].toarray().ravel(), X["a"] == "y")


def test_columns_are_followed_through_nested_and_selecting_steps():
    X, y = penguins()
    select = ColumnTransformer(
        [("s", StandardScaler(), [3, 1]), ("o", OrdinalEncoder(), ["sex"]), ("d", "drop", [0])],
    )
    pipe = make_pipeline(
        make_pipeline(select, SimpleImputer()),
        FeatureUnion([("a", MinMaxScaler()), ("b", "passthrough")]),
        SelectKBest(k=4),
        small(VSCTransformer),
    ).fit(X, y)
    est, shown = unroll(pipe, X)
    assert set(est.feature_names_in_) <= {"flipper", "mass", "sex"}
    assert len(est.feature_names_in_) == 4
    mass = np.flatnonzero(est.feature_names_in_ == "mass")
    assert len(mass)
    for column in mass:
        assert_allclose(shown[:, column], X["mass"])


def test_columns_keep_their_origin_where_a_step_renames_them():
    X, y = penguins()
    first = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["sex"]), remainder="passthrough"
    ).set_output(transform="pandas")
    second = make_column_transformer(
        (StandardScaler(), ["remainder__mass"]), ("passthrough", ["onehotencoder__sex_M"])
    )
    est, shown = unroll(make_pipeline(first, second, small(VSCTransformer)).fit(X, y), X)
    assert list(est.feature_names_in_) == ["mass", "sex = M"]
    assert_allclose(shown[:, 0], X["mass"])


def test_steps_that_can_be_undone_leave_the_table_as_it_is():
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipe = make_pipeline(
        FunctionTransformer(np.log1p, np.expm1), PCA(3), small(VSCTransformer)
    ).fit(X, y)
    est, shown = unroll(pipe, X)
    assert shown is X
    assert list(feature_effects(pipe, X)) == list(X)
    assert_allclose(
        est.inverse_transform(est.transform(X)), pipe.inverse_transform(est.transform(X))
    )


@pytest.mark.parametrize(
    "first",
    [
        FunctionTransformer(np.log1p),
        FunctionTransformer(np.log1p, feature_names_out="one-to-one"),
        make_column_transformer((PowerTransformer(), ["sepal width (cm)", "petal width (cm)"])),
        make_pipeline(SimpleImputer(), PowerTransformer()),
    ],
    ids=["log", "named log", "some columns", "imputed"],
)
def test_columns_in_units_that_cannot_be_undone_say_that_they_are_transformed(first):
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipe = make_pipeline(first, small(VSCTransformer)).fit(X, y)
    est, shown = unroll(pipe, X)
    assert all(name.endswith(" (cm) (transformed)") for name in est.feature_names_in_)
    assert list(feature_effects(pipe, X)) == list(est.feature_names_in_) == est.origins
    assert_allclose(shown, pipe[:-1].transform(X))


def test_texts_are_told_in_words():
    texts = ["the cat sat", "the dog ran", "a cat ran", "the mat sat"] * 5
    y = np.arange(20) % 2
    for steps in (
        [CountVectorizer()],
        [CountVectorizer(), TfidfTransformer()],
        [TfidfVectorizer()],
    ):
        pipe = make_pipeline(*steps, small(VSCTransformer)).fit(texts, y)
        effects = feature_effects(pipe, texts)
        assert list(effects) == ["cat", "dog", "mat", "ran", "sat", "the"]
    frame = pd.DataFrame({"text": texts, "n": np.arange(20.0)})
    union = make_column_transformer((TfidfVectorizer(), "text"), ("passthrough", ["n"]))
    est, _ = unroll(make_pipeline(union, small(VSCTransformer)).fit(frame), frame)
    assert list(est.feature_names_in_)[-2:] == ["text: the", "n"]
    assert set(est.origins) == {"text", "n"}


def test_skrub_says_which_column_each_output_is_of():
    skrub = pytest.importorskip("skrub", reason="skrub's TableVectorizer is read: not installed")
    X, y = penguins()
    X["seen"] = pd.Timestamp("2007-11-01") + pd.to_timedelta(np.arange(90), unit="D")
    pipe = make_pipeline(skrub.TableVectorizer(), SimpleImputer(), small(VSCTransformer)).fit(X, y)
    est, shown = unroll(pipe, X)
    names = list(est.feature_names_in_)
    assert {"island = Dream", "sex = M", "mass", "flipper", "seen (days)", "seen, month"} <= set(
        names
    )
    assert set(est.origins) == set(X.columns)
    kinds = dict(zip(names, kinds_of(est, len(names)), strict=True))
    assert kinds["seen (days)"] == "date" and kinds["island = Dream"] == "category"
    assert kinds["seen, month"] == kinds["mass"] == "number"
    assert_allclose(np.diff(shown[:, names.index("seen (days)")]), 1, atol=0.01)  # float32 seconds


def test_a_category_counts_once_among_the_features_that_move_most(mixed):
    pipe, X, y = mixed
    top = top_features(class_differences(pipe, X, y), k=4)
    for _, rows in top.groupby(["class", "kind"]):
        origins = [feature.partition(" = ")[0] for feature in rows["feature"]]
        assert sorted(origins) == ["flipper", "island", "mass", "sex"]


@pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
def test_every_scorer_scores_the_transformer_inside(scorer, mixed):
    pipe, X, y = mixed
    est, shown = (
        (pipe[1], pipe[0].transform(X)) if scorer is not SCORERS["pooled"] else unroll(pipe, X)
    )
    inside = scorer(est, shown, y)  # pooled over the columns of the table, in their units
    assert scorer(pipe, X, y) == pytest.approx(inside, rel=1e-5)


def test_searches_over_pipelines_take_every_scorer():
    X, y = penguins()
    pipe = make_pipeline(encoders(), small(ClassVSCTransformer), LogisticRegression())
    search = GridSearchCV(
        pipe,
        {"classvsctransformer__alpha": [0.2, 0.4]},
        scoring=SCORERS,
        refit="fidelity",
        error_score="raise",
        cv=2,
    ).fit(X, y)
    assert all(np.isfinite(search.cv_results_[f"mean_test_{name}"]).all() for name in SCORERS)
    assert metrics.fidelity_scorer(search, X) == metrics.fidelity_scorer(search.best_estimator_, X)


def test_what_says_what_a_dimension_does_takes_a_pipeline(mixed):
    pipe, X, y = mixed
    effects = feature_effects(pipe, X, y)
    inside = feature_effects(pipe[1], pipe[0].transform(X), y)
    scaler = pipe[0].transformers_[1][1][-1]
    factor = np.r_[np.ones(4), scaler.scale_]
    assert_allclose(effects, inside * factor, atol=1e-2)
    codes = pipe[:2].transform(X)
    j = int((codes != 0).sum(axis=0).argmax())
    assert traverse(pipe, X, y, dimension=j).X_hat.shape == (9, 6)
    assert set(top_samples(pipe, X, y, factor=j)["class"]) <= set(y)
    profile = class_profile(pipe, X, y)
    gentoo = counterfactual(pipe, X[y == "Adelie"], profile, to="Gentoo")
    assert gentoo.change["mass"].mean() > 300
    assert edit(pipe, X[:5], j, 0).X_hat[:, 5].mean() > 1000
    assert interpolate(pipe, X.iloc[[0]], X.iloc[[1]]).X_hat.shape == (9, 6)


def test_displays_take_a_pipeline(mixed):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    pipe, X, y = mixed
    ax = Figure().subplots
    codes = pipe[:2].transform(X)
    j = int((codes != 0).sum(axis=0).argmax())
    activity = ActivationDisplay.from_estimator(pipe, X, y, ax=ax()).activity
    assert_array_equal(activity[0], (codes[y == "Adelie"] != 0).mean(axis=0))
    SharingDisplay.from_estimator(pipe, X, y, ax=ax())
    HistoryDisplay.from_estimator(pipe, ax=ax())
    kept = ReconstructionDisplay.from_estimator(pipe, X, y, ax=ax()).explained_variance
    assert kept.mean() == pytest.approx(metrics.fidelity_scorer(pipe, X))
    assert "mass" in TraversalDisplay.from_estimator(pipe, X, dimension=j, ax=ax()).feature_names


def test_labels_are_read_as_the_transformer_inside_reads_them():
    X, y = penguins()
    partly = np.where(np.arange(90) % 3 == 0, "", y)
    partly[::9] = y[::9]
    est = small(ClassVSCTransformer, unlabeled="", max_epochs=20)
    pipe = make_pipeline(encoders(), est).fit(X, partly)
    labeled = partly != ""
    expected = metrics.contrast_scorer(pipe, X[labeled], partly[labeled])
    assert metrics.contrast_scorer(pipe, X, partly) == expected
    assert list(class_differences(pipe, X, partly).index.levels[0]) == sorted(set(y))


def test_of_two_transformers_it_must_be_said_which():
    X, y = load_iris(return_X_y=True)
    pipe = make_pipeline(small(VSCTransformer), small(VSCTransformer)).fit(X, y)
    with pytest.raises(ValueError, match="a Pipeline with 2 transformers of this package"):
        feature_effects(pipe, X)


def test_a_pipeline_of_others_is_what_it_was():
    X, y = load_iris(return_X_y=True)
    pipe = make_pipeline(KMeans(2, n_init=1), LogisticRegression()).fit(X, y)
    with pytest.raises(AttributeError, match="transform"):
        metrics.consistency_scorer(pipe, X, y)


@pytest.mark.filterwarnings("error:X does not have valid feature names")
def test_a_transformer_that_knows_names_gets_them():
    X, y = load_iris(return_X_y=True, as_frame=True)
    est = small(ClassVSCTransformer, max_epochs=20)
    scaler = StandardScaler().set_output(transform="pandas")
    for fitted in (make_pipeline(scaler, est).fit(X, y), est.fit(X, y)):
        assert np.isfinite(metrics.elbo_scorer(fitted, X))
        class_differences(fitted, X, y)
        factor_report(fitted, X, y, n_refits=1)
