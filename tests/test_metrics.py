"""Specification of sklearn_classvsc.metrics."""

import itertools
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from scipy.special import digamma, entr, rel_entr
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import NMF, PCA
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    balanced_accuracy_score,
    explained_variance_score,
    mean_poisson_deviance,
    mutual_info_score,
)
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from sklearn_classvsc import metrics
from sklearn_classvsc.datasets import make_class_factors

quick = settings(max_examples=50, deadline=None)

SPARSE_FORMATS = [
    sparse.csr_array,
    sparse.csr_matrix,
    sparse.csc_array,
    sparse.coo_array,
    sparse.lil_matrix,
]


@st.composite
def labelled_activations(draw, min_samples_per_class=1):
    """Random (activations, y) with classes of several sizes, dead and global dimensions."""
    n_classes = draw(st.integers(2, 5))
    n_dimensions = draw(st.integers(1, 6))
    sizes = draw(
        st.lists(
            st.integers(min_samples_per_class, 9), min_size=n_classes, max_size=n_classes
        ).filter(lambda sizes: max(sizes) > 1)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rates = rng.choice([0, 0.2, 0.8, 1], size=(n_classes, n_dimensions))
    y = rng.permutation(np.repeat(np.arange(n_classes), sizes))
    return rng.uniform(size=(len(y), n_dimensions)) < rates[y], y


def random_codes(n=60, d=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    on = rng.uniform(size=(n, d)) < rng.choice([0.1, 0.5, 0.9], size=(n_classes, d))[y]
    return on * rng.normal(1, 1, size=(n, d)), y


def blocks(n_classes=4, n_per_class=6, d_per_class=2):
    """Each class has dimensions of its own, always on."""
    y = np.repeat(np.arange(n_classes), n_per_class)
    return np.repeat(np.eye(n_classes), d_per_class, axis=1)[y].astype(bool), y


# Straight from the definitions, over pairs of samples ------------------------------------------


def overlap(pairs):
    return np.mean([(a & b).sum() for a, b in pairs])


def reference_sharing(A, y):
    classes = np.unique(y)
    M = np.zeros((len(classes), len(classes)))
    for i, c in enumerate(classes):
        for j, other in enumerate(classes):
            of_c, of_other = A[y == c], A[y == other]
            if i == j:
                pairs = list(itertools.combinations(of_c, 2))
            else:
                pairs = list(itertools.product(of_c, of_other))
            size = (of_c.sum(axis=1).mean() + of_other.sum(axis=1).mean()) / 2
            M[i, j] = (overlap(pairs) / size if size else 0) if pairs else np.nan
    return M


def reference_roles(A, y, on=0.5, dead=0.01, rho=0.9, min_samples=5):
    classes = [c for c in np.unique(y) if (y == c).sum() >= min_samples]
    roles = []
    for j in range(A.shape[1]):
        p = [A[y == c, j].mean() for c in classes]
        m = sum(rate >= on for rate in p)
        if max(p) < dead:
            roles.append("dead")
        elif m >= max(2, np.ceil(rho * len(classes))):
            roles.append("global")
        elif m >= 2:
            roles.append("shared")
        else:
            roles.append("class-specific" if m else "sporadic")
    return np.array(roles)


# Consistency, sharing and contrast -------------------------------------------------------------


@quick
@given(labelled_activations())
def test_consistency_and_sharing_equal_the_definition_over_pairs(data):
    A, y = data
    M = reference_sharing(A, y)
    np.testing.assert_allclose(metrics.class_sharing_matrix(A, y), M, atol=1e-12)
    assert metrics.class_consistency_score(A, y) == pytest.approx(np.nanmean(M.diagonal()))


@quick
@given(labelled_activations(min_samples_per_class=5))
def test_contrast_equals_the_definition_with_and_without_global_dimensions(data):
    A, y = data
    for include_global in (False, True):
        kept = A if include_global else A[:, reference_roles(A, y) != "global"]
        M = reference_sharing(kept, y)
        off = M[~np.eye(len(M), dtype=bool)]
        contrast = metrics.class_contrast_score(A, y, include_global=include_global)
        assert contrast == pytest.approx(M.diagonal().mean() - off.mean())
        assert -1 <= contrast <= 1


@pytest.mark.parametrize(
    ("activations", "consistency", "contrast"),
    [
        (np.ones((24, 8)), 1, 0),
        (np.zeros((24, 8)), 0, 0),
        (blocks()[0], 1, 1),
    ],
    ids=["all on", "dead", "class blocks"],
)
def test_worked_values(activations, consistency, contrast):
    y = blocks()[1]
    assert metrics.class_consistency_score(activations, y) == consistency
    assert metrics.class_contrast_score(activations, y, include_global=True) == contrast
    assert metrics.class_contrast_score(activations, y) == contrast


def test_consistency_of_independent_activations_is_their_probability():
    rng = np.random.default_rng(0)
    A = rng.uniform(size=(4000, 20)) < 0.3
    assert metrics.class_consistency_score(A, np.arange(4000) % 2) == pytest.approx(0.3, abs=0.01)


def test_a_class_of_one_sample_is_left_out_of_consistency():
    A, y = np.array([[1, 1], [1, 0], [0, 1]]), ["a", "a", "b"]
    assert metrics.class_consistency_score(A, y) == pytest.approx(1 / 1.5)
    M = metrics.class_sharing_matrix(A, y)
    assert np.isnan(M[1, 1])
    assert M[0, 1] == M[1, 0] == pytest.approx(2 * 0.5 / 2.5)


def test_a_class_without_active_dimension_counts_zero():
    assert metrics.class_consistency_score([[1], [1], [0], [0]], [0, 0, 1, 1]) == 0.5


def test_consistency_without_any_pair_is_an_error():
    with pytest.raises(ValueError, match="3 classes of one sample each"):
        metrics.class_consistency_score(np.ones((3, 2)), ["a", "b", "c"])


def test_contrast_needs_two_classes():
    with pytest.raises(ValueError, match="at least 2 are needed"):
        metrics.class_contrast_score(np.ones((6, 2)), np.zeros(6), include_global=True)
    with pytest.raises(ValueError, match="1 of its 2 classes with at least 5 samples"):
        metrics.class_contrast_score(np.ones((6, 2)), [0, 0, 0, 0, 0, 1])


# Several labels of a sample --------------------------------------------------------------------


@quick
@given(labelled_activations())
def test_an_indicator_of_one_label_is_that_label(data):
    A, y = data
    Y = pd.get_dummies(y)
    for metric in (metrics.class_consistency_score, metrics.class_sharing_matrix):
        np.testing.assert_array_equal(metric(A, Y), metric(A, y))
    np.testing.assert_array_equal(
        metrics.class_contrast_score(A, Y, include_global=True),
        metrics.class_contrast_score(A, y, include_global=True),
    )


@quick
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_label_is_the_class_of_all_samples_that_have_it(seed, as_sparse):
    rng = np.random.default_rng(seed)
    A, Y = rng.uniform(size=(40, 5)) < 0.5, rng.uniform(size=(40, 3)) < 0.5
    p = np.array([A[Y[:, c]].mean(axis=0) for c in range(3)])
    within = [overlap(list(itertools.combinations(A[Y[:, c]], 2))) / p[c].sum() for c in range(3)]
    M = metrics.class_sharing_matrix(
        sparse.csr_array(A) if as_sparse else A, sparse.csr_matrix(Y) if as_sparse else Y
    )
    np.testing.assert_allclose(M.diagonal(), within)
    assert M[0, 1] == pytest.approx(2 * p[0] @ p[1] / (p[0].sum() + p[1].sum()))
    assert metrics.class_consistency_score(A, Y) == pytest.approx(np.mean(within))
    roles = metrics.dimension_roles(A, pd.DataFrame(Y, columns=["b", "a", "c"]))
    for j, held in enumerate(roles["classes"]):
        assert held == tuple(np.array(["b", "a", "c"])[p[:, j] >= 0.5])


def test_a_label_of_no_sample_is_left_out():
    A, Y = random_codes()[0], np.zeros((60, 3), int)
    Y[:30, 0] = Y[30:, 2] = 1
    M = metrics.class_sharing_matrix(A, Y)
    assert np.isnan(M[1, 1]) and not M[1, [0, 2]].any()
    expected = metrics.class_consistency_score(A, Y[:, 0])
    assert metrics.class_consistency_score(A, Y) == pytest.approx(expected)


def test_what_takes_one_label_names_an_indicator():
    with pytest.raises(ValueError, match=r"y has the shape \(4, 2\).*one column"):
        metrics.activation_information(np.eye(4), np.eye(4)[:, :2])


# Classes in an order ---------------------------------------------------------------------------


def test_sharing_that_falls_with_the_distance_scores_one():
    y = np.repeat(np.arange(6), 10)
    # Each class has a window of dimensions, so wide that all pairs share and none alike.
    windows = abs(np.arange(12) - 2 - 1.5 * y[:, None]) < 5
    assert metrics.ordinal_sharing_score(windows, y) == pytest.approx(1, abs=0.1)
    rng = np.random.default_rng(0)
    shuffled = [metrics.ordinal_sharing_score(windows, rng.permutation(6)[y]) for _ in range(50)]
    assert abs(np.mean(shuffled)) < 0.15
    assert metrics.ordinal_sharing_score(np.ones((60, 3)), y) == 0


def test_ordinal_sharing_is_minus_the_rank_correlation():
    Z, y = random_codes(n=200, d=20, n_classes=5)
    kept = (metrics.dimension_roles(Z, y)["role"] != "global").to_numpy()
    M = metrics.class_sharing_matrix(Z[:, kept], y)
    pairs = list(itertools.combinations(range(5), 2))
    expected = stats.spearmanr([b - a for a, b in pairs], [M[a, b] for a, b in pairs])
    assert metrics.ordinal_sharing_score(Z, y) == pytest.approx(-expected.statistic)
    with pytest.raises(ValueError, match="at least 3"):
        metrics.ordinal_sharing_score(Z, y > 2)


# What all class-wise metrics have in common ----------------------------------------------------

CLASSWISE = [
    metrics.class_consistency_score,
    metrics.class_contrast_score,
    partial(metrics.class_contrast_score, include_global=True),
    metrics.class_sharing_matrix,
    metrics.activation_information,
    partial(metrics.activation_information, of="value", random_state=0),
    metrics.dead_fraction,
    lambda A, y: metrics.dimension_roles(A, y).drop(columns="role").to_numpy(),
]


@pytest.mark.parametrize("metric", CLASSWISE)
@pytest.mark.parametrize("container", [*SPARSE_FORMATS, pd.DataFrame, np.ndarray.tolist])
def test_the_container_does_not_matter(metric, container):
    Z, y = random_codes()
    np.testing.assert_array_equal(metric(container(Z), y), metric(Z, y))


@pytest.mark.parametrize("metric", [m for m in CLASSWISE if "value" not in str(m)])
def test_only_the_support_matters(metric):
    Z, y = random_codes()
    stored_zeros = sparse.csr_array(Z)
    stored_zeros.data[::3] = 0
    for A, B in ((Z, Z != 0), (Z, -3 * Z), (stored_zeros, stored_zeros.toarray())):
        np.testing.assert_array_equal(metric(A, y), metric(B, y))


@quick
@given(labelled_activations(min_samples_per_class=5), st.randoms(use_true_random=False))
def test_the_order_of_samples_dimensions_and_the_names_of_classes_do_not_matter(data, random):
    A, y = data
    samples = random.sample(range(len(y)), len(y))
    dimensions = random.sample(range(A.shape[1]), A.shape[1])
    names = np.array([f"class {c}" for c in random.sample(range(9), 5)])
    B, named = A[samples][:, dimensions], names[y[samples]]
    for score in (
        metrics.class_consistency_score,
        metrics.class_contrast_score,
        metrics.dead_fraction,
    ):
        assert score(B, named) == pytest.approx(score(A, y))
    roles, of_named = metrics.dimension_roles(A, y), metrics.dimension_roles(B, named)
    np.testing.assert_array_equal(of_named["role"], roles["role"].to_numpy()[dimensions])
    np.testing.assert_allclose(of_named["specificity"], roles["specificity"][dimensions])
    np.testing.assert_allclose(
        metrics.activation_information(B, named),
        metrics.activation_information(A, y)[dimensions],
        atol=1e-12,
    )


@pytest.mark.parametrize("metric", CLASSWISE)
@pytest.mark.parametrize(
    ("activations", "y", "message"),
    [
        ([[1.0, np.nan]] * 3, [0, 0, 1], "activations contains NaN"),
        ([[1.0, 0.0]] * 3, [0, 1], r"inconsistent numbers of samples: \[3, 2\]"),
        ([1.0, 0.0, 1.0], [0, 0, 1], "Expected 2D array"),
        ([[1.0, 0.0]] * 3, [0.5, 0.1, 0.2], "Unknown label type: continuous"),
        ([[1.0, 0.0]] * 3, ["a", None, "b"], "y has 1 missing labels"),
        ([[1.0, 0.0]] * 3, [0, np.nan, 1], "y has 1 missing labels"),
    ],
)
def test_bad_input_is_named(metric, activations, y, message):
    with pytest.raises(ValueError, match=message):
        metric(activations, y)


def test_long_inputs_are_counted_in_full():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=90_000)
    A = rng.uniform(size=(90_000, 50)) < np.linspace(0, 1, 50)  # read in several batches
    M = metrics.class_sharing_matrix(A, y)
    p = np.array([A[y == c].mean(axis=0) for c in range(3)])
    for c, other in [(0, 1), (0, 2), (1, 2)]:
        expected = 2 * (p[c] * p[other]).sum() / (p[c] + p[other]).sum()
        assert M[c, other] == pytest.approx(expected)
    np.testing.assert_array_equal(metrics.class_sharing_matrix(sparse.csr_array(A), y), M)


def test_sparse_activations_are_never_densified():
    rng = np.random.default_rng(0)
    n, d = 1_000_000, 100_000  # 100 GB as booleans
    rows, columns = rng.integers(0, n, size=n), rng.integers(0, d, size=n)
    A = sparse.csr_array((np.ones(n), (rows, columns)), shape=(n, d))
    y = np.arange(n) % 3
    assert 0 <= metrics.class_consistency_score(A, y) < 0.01
    assert metrics.hoyer_sparsity_score(A) > 0.5
    assert metrics.activation_information(A, y).shape == (d,)


def test_importing_metrics_does_not_import_torch():
    code = "import sys, sklearn_classvsc.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Roles -----------------------------------------------------------------------------------------


@quick
@given(
    labelled_activations(min_samples_per_class=5),
    st.sampled_from([0.3, 0.5, 0.9]),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
)
def test_roles_equal_the_definition(data, on, rho):
    A, y = data
    roles = metrics.dimension_roles(A, y, on=on, rho=rho)
    np.testing.assert_array_equal(roles["role"], reference_roles(A, y, on=on, rho=rho))
    assert list(roles.columns) == ["dimension", "role", "classes", "specificity", "density"]
    np.testing.assert_array_equal(roles["dimension"], np.arange(A.shape[1]))
    np.testing.assert_allclose(roles["density"], A.mean(axis=0))
    assert roles["density"].sum() == pytest.approx(A.sum(axis=1).mean())  # L0
    dead = roles["role"] == "dead"
    np.testing.assert_array_equal(roles["specificity"].isna(), dead)
    assert roles["specificity"][~dead].between(0, 1).all()


def test_each_role_with_its_classes():
    y = np.repeat(["a", "b", "c", "d"], 10)
    rates = np.array(  # of a, b, c, d
        [[1, 1, 1, 1], [0.5, 0.5, 0, 0], [0.4, 0.4, 0.5, 0], [0.4, 0.4, 0.4, 0.4], [0, 0, 0, 0]]
    )
    A = np.tile(np.arange(10), 4)[:, None] < 10 * np.repeat(rates.T, 10, axis=0)
    roles = metrics.dimension_roles(A, y)
    assert roles["role"].tolist() == ["global", "shared", "class-specific", "sporadic", "dead"]
    assert roles["role"].tolist() == list(metrics.ROLES)
    assert roles["classes"].tolist() == [("a", "b", "c", "d"), ("a", "b"), ("c",), (), ()]


def test_specificity_is_one_for_one_class_and_zero_for_all_alike():
    y = np.repeat([0, 1, 2, 3], 8)
    A = np.column_stack([y == 2, y < 2, np.ones(32)])
    np.testing.assert_allclose(metrics.dimension_roles(A, y)["specificity"], [1, 0.5, 0])


@pytest.mark.parametrize(
    ("n_having", "n_classes", "rho", "role"),
    [
        (9, 10, 0.9, "global"),
        (8, 10, 0.9, "shared"),
        (7, 25, 0.28, "global"),  # 0.28 * 25 is 7.000000000000001 in floating point
        (2, 2, 0.9, "global"),
        (2, 3, 0.9, "shared"),
        (1, 2, 0.1, "class-specific"),  # one class is never global
        (2, 10, 0.1, "global"),
    ],
)
def test_a_dimension_is_global_from_a_fraction_rho_of_the_classes(n_having, n_classes, rho, role):
    y = np.repeat(np.arange(n_classes), 5)
    assert metrics.dimension_roles((y < n_having)[:, None], y, rho=rho)["role"].item() == role


def test_small_classes_have_no_say_in_roles():
    y = np.repeat(["a", "b", "rare"], [6, 6, 4])
    A = np.column_stack([y != "rare", y == "rare"])
    roles = metrics.dimension_roles(A, y)
    assert roles["role"].tolist() == ["global", "dead"]
    assert roles["density"].tolist() == [12 / 16, 4 / 16]
    assert metrics.dead_fraction(A, y) == 0.5
    roles = metrics.dimension_roles(A, y, min_samples=4)
    assert roles["role"].tolist() == ["shared", "class-specific"]
    assert roles["classes"].tolist() == [("a", "b"), ("rare",)]
    assert metrics.dead_fraction(A, y, min_samples=4) == 0


def test_roles_need_two_classes():
    with pytest.raises(ValueError, match="1 of its 2 classes with at least 5 samples"):
        metrics.dimension_roles(np.ones((9, 1)), [0] * 5 + [1] * 4)


@pytest.mark.parametrize(
    "params", [{"on": 0.0}, {"on": 1.5}, {"dead": 0.7}, {"rho": 0}, {"min_samples": 0}]
)
def test_thresholds_out_of_range_are_named(params):
    A, y = blocks()
    with pytest.raises(ValueError, match=next(iter(params))):
        metrics.dimension_roles(A, y, **params)


# Sparsity --------------------------------------------------------------------------------------


@quick
@given(labelled_activations(min_samples_per_class=5))
def test_dead_fraction_is_the_share_of_dead_roles(data):
    A, y = data
    assert metrics.dead_fraction(A, y) == np.mean(reference_roles(A, y) == "dead")


def test_dead_fraction_without_labels_goes_by_density():
    A = np.zeros((200, 3), dtype=bool)
    A[:, 0], A[:2, 1], A[:1, 2] = True, True, True  # densities 1, 0.01, 0.005
    assert metrics.dead_fraction(A) == pytest.approx(1 / 3)
    assert metrics.dead_fraction(A, dead=0.02) == pytest.approx(2 / 3)
    assert metrics.dead_fraction([[1, 0]]) == 0.5


@pytest.mark.parametrize(
    ("codes", "score"),
    [
        ([[0, -5, 0, 0]], 1),
        ([[2, -2, 2, 2]], 0),
        ([[0, 0, 0, 0]], 0),
        ([[3, 4]], (np.sqrt(2) - 7 / 5) / (np.sqrt(2) - 1)),
        ([[0, 1], [0, 0]], 0.5),
    ],
)
def test_hoyer_closed_forms(codes, score):
    assert metrics.hoyer_sparsity_score(codes) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("container", [*SPARSE_FORMATS, pd.DataFrame, np.ndarray.tolist])
@pytest.mark.parametrize("n_samples", [60, 6])  # 6: square, where a product of matrices exists
def test_the_container_does_not_matter_to_hoyer(container, n_samples):
    Z = random_codes()[0][:n_samples]
    score = metrics.hoyer_sparsity_score(Z)
    assert metrics.hoyer_sparsity_score(container(Z)) == pytest.approx(score, abs=1e-12)


def test_hoyer_ignores_the_scale_of_a_sample_and_needs_two_dimensions():
    Z, _ = random_codes()
    scaled = Z * np.linspace(0.1, 10, len(Z))[:, None]
    assert metrics.hoyer_sparsity_score(scaled) == pytest.approx(metrics.hoyer_sparsity_score(Z))
    with pytest.raises(ValueError, match="codes has 1 dimension"):
        metrics.hoyer_sparsity_score([[1.0], [2.0]])


# Category test ---------------------------------------------------------------------------------


def test_category_statistic_is_within_minus_across_over_non_global_dimensions():
    Z, y = random_codes(n=140, d=10, n_classes=7)
    Z[:, 0] = 1  # global
    groups = [{0, 3}, {1, 2, 6}]  # 4 and 5 are in no group
    result = metrics.category_sharing_test(Z, y, groups, n_permutations=1)
    non_global = reference_roles(Z != 0, y) != "global"
    M = reference_sharing((Z != 0)[:, non_global], y)
    group_of = {0: "x", 3: "x", 1: "y", 2: "y", 6: "y"}
    within, across = [], []
    for a, b in itertools.combinations(range(7), 2):
        if a in group_of and group_of.get(a) == group_of.get(b):
            within.append(M[a, b])
        elif a in group_of or b in group_of:
            across.append(M[a, b])
    assert result.within == pytest.approx(np.mean(within))
    assert result.across == pytest.approx(np.mean(across))
    assert result.statistic == pytest.approx(np.mean(within) - np.mean(across))


def test_category_pvalue_is_that_of_all_groupings():
    y = np.repeat([f"class {c}" for c in range(7)], 5)
    A = np.random.default_rng(1).uniform(size=(35, 8)) < 0.4
    groups = itertools.combinations(np.unique(y), 3)
    statistic, *others = (
        metrics.category_sharing_test(A, y, [group], n_permutations=1).statistic for group in groups
    )
    exact = np.mean(np.array([statistic, *others]) >= statistic - 1e-12)
    result = metrics.category_sharing_test(A, y, [np.unique(y)[:3]], random_state=0)
    assert result.pvalue == pytest.approx(exact, abs=0.02)


def test_category_test_finds_a_category():
    y = np.repeat(np.arange(10), 20)
    A = np.column_stack([np.isin(y, [5, 7, 9]), np.isin(y, [0, 2, 4, 6]), *np.eye(10)[:, y]])
    for groups in ([{5, 7, 9}], [{0, 2, 4, 6}], [{5, 7, 9}, {0, 2, 4, 6}]):
        result = metrics.category_sharing_test(A, y, groups, random_state=0)
        assert result.statistic > 0.4
        assert result.pvalue < 0.02
    again = metrics.category_sharing_test(A, y, groups, random_state=0)
    assert again == result


def test_category_pvalue_is_uniform_under_the_null():
    rng = np.random.RandomState(0)
    y = np.repeat(np.arange(12), 5)
    pvalues = [
        metrics.category_sharing_test(
            rng.uniform(size=(60, 6)) < rng.uniform(size=(12, 6))[y],
            y,
            [range(4), range(4, 7)],
            n_permutations=99,
            random_state=rng,
        ).pvalue
        for _ in range(300)
    ]
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01
    assert np.mean(np.array(pvalues) <= 0.05) < 0.08


def test_category_pvalue_counts_the_groupings_that_are_as_large():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(200), 5)  # so many pairs that the permutations come in batches
    A = rng.uniform(size=(1000, 6)) < rng.uniform(size=(200, 6))[y]
    statistic, *drawn = (
        metrics.category_sharing_test(A, y, [g[:90], g[90:180]], n_permutations=1).statistic
        for g in map(np.random.RandomState(0).permutation, [200] * 300)
    )
    groups = np.random.RandomState(0).permutation(200)
    result = metrics.category_sharing_test(
        A,
        y,
        [groups[:90], groups[90:180]],
        n_permutations=300,
        random_state=np.random.RandomState(0),
    )
    assert result.statistic == pytest.approx(statistic)
    assert result.pvalue == (2 + sum(s >= statistic for s in drawn)) / 301


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{0, 99}], r"groups names \[99\], but the classes of y are \[0, 1, 2, 3\]"),
        ([{0, 1}, {1, 2}], "each class may be in one group only"),
        ([{0}, {1}], "it needs a group of two classes"),
        ([{0, 1, 2, 3}], "a class outside it"),
        ([], "it needs a group of two classes"),
    ],
)
def test_bad_groups_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        metrics.category_sharing_test(*blocks(), groups)


# k-sparse probe --------------------------------------------------------------------------------


def reference_probe(Z, y, Z_test, y_test, k):
    scaler = StandardScaler().fit(Z)
    Z, Z_test = scaler.transform(Z), scaler.transform(Z_test)
    scores = []
    for c in np.unique(y):
        difference = np.abs(Z[y == c].mean(axis=0) - Z[y != c].mean(axis=0))
        best = np.argsort(-difference)[:k]
        probe = LogisticRegression(class_weight="balanced", tol=1e-8).fit(Z[:, best], y == c)
        scores.append(balanced_accuracy_score(y_test == c, probe.predict(Z_test[:, best])))
    return np.mean(scores)


@pytest.mark.parametrize("k", [1, 2, 5, 10, 20])
def test_probe_equals_its_definition(k):
    Z, y = random_codes(n=400, d=12, n_classes=4, seed=k)
    halves = Z[:200], y[:200], Z[200:], y[200:]
    score = metrics.k_sparse_probe_score(*halves, k=k)
    assert score == pytest.approx(reference_probe(*halves, k))
    Z_sparse = sparse.csr_array(Z)
    assert score == metrics.k_sparse_probe_score(
        Z_sparse[:200], y[:200], Z_sparse[200:], y[200:], k=k
    )
    names = np.array(["d", "b", "a", "c"])[y]
    assert score == pytest.approx(
        metrics.k_sparse_probe_score(
            1e4 + 7 * Z[:200], names[:200], 1e4 + 7 * Z[200:], names[200:], k=k
        )
    )


def test_probe_is_perfect_on_class_blocks_and_at_chance_on_noise():
    A, y = blocks(n_per_class=20)
    assert metrics.k_sparse_probe_score(A[::2], y[::2], A[1::2], y[1::2], k=1) == 1
    Z = np.random.default_rng(0).normal(size=(2000, 10))
    y = np.arange(2000) % 5
    assert metrics.k_sparse_probe_score(Z[:1000], y[:1000], Z[1000:], y[1000:]) == pytest.approx(
        0.5, abs=0.04
    )


@pytest.mark.parametrize("dtype", [bool, int, np.float32])
def test_probe_takes_any_numbers(dtype):
    Z, y = random_codes(n=200)
    Z = Z.astype(dtype)
    score = metrics.k_sparse_probe_score(Z, y, Z, y)
    assert score == pytest.approx(reference_probe(Z, y, Z, y, k=5), abs=0.01)
    assert score == metrics.k_sparse_probe_score(sparse.csr_array(Z), y, sparse.coo_array(Z), y)


def test_probe_selects_on_the_training_codes_alone():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    Z, Z_test = rng.normal(size=(2, 200, 2))
    Z[:, 0] += 3 * y  # tells the classes apart in training, and dimension 1 in the test alone
    Z_test[:, 1] += 3 * y
    assert metrics.k_sparse_probe_score(Z, y, Z_test, y, k=1) == pytest.approx(0.5, abs=0.1)


def test_probe_takes_all_usable_dimensions_and_is_at_chance_without_any():
    Z, y = random_codes()
    constant = np.full((60, 2), 0.1)
    with_constant = np.hstack([constant, Z])
    assert metrics.k_sparse_probe_score(with_constant, y, with_constant, y, k=99) == pytest.approx(
        metrics.k_sparse_probe_score(Z, y, Z, y, k=6)
    )
    assert metrics.k_sparse_probe_score(constant, y, constant, y) == 0.5


def test_probe_leaves_out_classes_it_cannot_train_or_test():
    Z, y = random_codes(n=90, n_classes=3)
    score = metrics.k_sparse_probe_score(Z, y, Z, y)
    rare_in_training = np.append(y, 3)
    Z_train = np.vstack([Z, Z[:1]])
    per_class = metrics.k_sparse_probe_score(Z_train, rare_in_training, Z, y)
    assert per_class == pytest.approx(score, abs=0.1)
    with pytest.raises(ValueError, match="none has two training samples"):
        metrics.k_sparse_probe_score(Z[:3], [0, 1, 2], Z, y)
    with pytest.raises(ValueError, match="none has two training samples"):
        metrics.k_sparse_probe_score(Z, y, Z, y + 10)
    with pytest.raises(ValueError, match="none has two training samples"):
        metrics.k_sparse_probe_score(Z, np.zeros(90), Z, np.zeros(90))
    with pytest.raises(ValueError, match="none has two training samples"):
        metrics.k_sparse_probe_score(Z, y, Z, np.zeros(90))


def test_probe_refuses_codes_and_labels_that_do_not_belong_together():
    Z, y = random_codes()
    with pytest.raises(ValueError, match="codes_test has 5 dimensions, but codes has 6"):
        metrics.k_sparse_probe_score(Z, y, Z[:, :5], y)
    with pytest.raises(ValueError, match="Mix of label input types"):
        metrics.k_sparse_probe_score(Z, y, Z, y.astype(str))
    with pytest.raises(ValueError, match="k == 0"):
        metrics.k_sparse_probe_score(Z, y, Z, y, k=0)


# Information -----------------------------------------------------------------------------------


@quick
@given(labelled_activations())
def test_support_information_is_the_mutual_information_of_two_labels(data):
    A, y = data
    expected = [mutual_info_score(column, y) for column in A.T]
    np.testing.assert_allclose(metrics.activation_information(A, y), expected, atol=1e-12)


def test_support_information_closed_forms():
    A, y = blocks(n_classes=2)
    information = metrics.activation_information(np.column_stack([A, np.ones(12)]), y)
    np.testing.assert_allclose(information, [np.log(2)] * 4 + [0], atol=1e-12)


def test_value_information_adds_what_the_values_tell():
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    on = rng.uniform(size=(600, 3)) < [0.5, 0.5, 1]
    Z = on * np.column_stack([rng.normal(1, 1, 600), 5 + 4 * y, rng.normal(3 * y, 1)])
    Z += on * rng.normal(scale=0.1, size=Z.shape)
    support = metrics.activation_information(Z, y)
    value = metrics.activation_information(Z, y, of="value", random_state=0)
    assert (value >= support).all()
    assert value[0] == pytest.approx(support[0], abs=0.05)
    assert value[1] == pytest.approx(np.log(2) / 2, abs=0.05)  # told whenever it is active
    dense = mutual_info_classif(Z[:, [2]], y, discrete_features=False, random_state=0)
    assert value[2] == pytest.approx(dense[0], abs=0.02)
    again = metrics.activation_information(Z, y, of="value", random_state=0)
    np.testing.assert_array_equal(again, value)


def reference_neighbour_information(z, y, k=3):
    """Ross's estimate, over pairs of samples."""
    met = np.isin(y, np.flatnonzero(np.bincount(y) > 1))
    z, y = z[met], y[met]
    terms = []
    for i, c in enumerate(y):
        own = np.sort(np.abs(z[y == c] - z[i]))
        n_neighbours = min(k, len(own) - 1)
        n_nearer = (np.abs(z - z[i]) < own[n_neighbours]).sum()
        terms.append(digamma(n_neighbours) - digamma(len(own)) - digamma(n_nearer))
    return max(0, digamma(len(z)) + np.mean(terms))


@pytest.mark.parametrize("n_classes", [2, 10, 25])  # 60 samples: of some classes one, two, three
def test_value_information_of_a_dense_code_is_that_of_its_nearest_neighbours(n_classes):
    rng = np.random.default_rng(n_classes)
    y = rng.integers(n_classes, size=60)
    z = rng.normal(y % 3, 1)
    information = metrics.activation_information(z[:, None], y, of="value", random_state=0)
    assert information.item() == pytest.approx(reference_neighbour_information(z, y), abs=1e-9)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_value_information_is_that_of_scikit_learn_with_ties_too(decimals):
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=300)
    z = rng.normal(y, 1, size=300).round(decimals)[:, None] + 10
    ours = metrics.activation_information(z, y, of="value", random_state=0)
    theirs = mutual_info_classif(z, y, discrete_features=False, random_state=0)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_the_values_of_booleans_and_of_single_samples_add_nothing():
    A, y = random_codes()
    np.testing.assert_array_equal(
        metrics.activation_information(A != 0, y, of="value"),
        metrics.activation_information(A, y),
    )
    Z = np.array([[1.0], [0], [2], [0]])  # each class is active once: no neighbour to compare
    np.testing.assert_array_equal(
        metrics.activation_information(Z, [0, 0, 1, 1], of="value"),
        metrics.activation_information(Z, [0, 0, 1, 1]),
    )


@st.composite
def labelled_probabilities(draw):
    A, y = draw(labelled_activations())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.where(rng.uniform(size=A.shape) < 0.5, A, rng.uniform(size=A.shape)), y


def entropy(p):
    return entr(p) + entr(1 - p)


@quick
@given(labelled_probabilities())
def test_divergence_equals_the_definition_and_its_bounds(data):
    gamma, y = data
    d = gamma.shape[1]
    centroid, pairwise = 0.0, []
    for c in np.unique(y):
        g = gamma[y == c]
        centroid += len(g) * (entropy(g.mean(axis=0)) - entropy(g).mean(axis=0)).sum()
        pairs = [
            (entropy((a + b) / 2) - (entropy(a) + entropy(b)) / 2).sum()
            for a, b in itertools.combinations(g, 2)
        ]
        pairwise += [np.mean(pairs)] if pairs else []
        of_class = partial(metrics.jensen_shannon_consistency, g, np.zeros(len(g)))
        assert 0 <= of_class(form="pairwise") <= of_class() + 1e-9 <= d * np.log(2) + 2e-9
    of = partial(metrics.jensen_shannon_consistency, gamma, y)
    assert of() == of(form="centroid") == pytest.approx(centroid / len(y), abs=1e-9)
    assert of(form="pairwise") == pytest.approx(np.mean(pairwise), abs=1e-9)


@quick
@given(labelled_probabilities(), st.floats(0.05, 0.95))
def test_usage_information_and_divergence_add_up_to_the_spike_term(data, alpha):
    gamma, y = data
    pi = gamma.mean(axis=0)
    weights = np.bincount(y) / len(y)
    means = np.array([gamma[y == c].mean(axis=0) for c in np.unique(y)])

    def kl(p):
        return (rel_entr(p, alpha) + rel_entr(1 - p, 1 - alpha)).sum(axis=-1)

    information = (entropy(pi) - weights @ entropy(means)).sum()
    total = kl(pi) + information + metrics.jensen_shannon_consistency(gamma, y)
    assert total == pytest.approx(kl(gamma).mean(), abs=1e-9)


def test_divergence_closed_forms():
    y = ["a", "a", "b", "b"]
    for form in ("centroid", "pairwise"):
        of = partial(metrics.jensen_shannon_consistency, y=y, form=form)
        assert of([[0.3, 0.9]] * 4) == pytest.approx(0, abs=1e-15)
        assert of([[1, 0], [1, 0], [0.2, 0.7], [0.2, 0.7]]) == pytest.approx(0, abs=1e-15)
        assert of([[0, 1], [1, 0], [0, 1], [1, 0]]) == pytest.approx(2 * np.log(2))
        assert metrics.jensen_shannon_consistency([[0.1], [0.9]], ["a", "b"], form=form) == 0
    assert metrics.jensen_shannon_consistency([[0.4]] * 6, [0] * 6) == 0  # -1e-16 by rounding


@pytest.mark.parametrize(
    ("gamma", "form", "message"),
    [
        ([[0.5], [1.5]], "centroid", r"gamma has values from 0.5 to 1.5"),
        ([[0.5], [-0.1]], "pairwise", r"gamma has values from -0.1 to 0.5"),
        ([[0.5], [0.5]], "mean", "form is 'mean', but must be"),
        (sparse.csr_array([[0.5], [0.5]]), "centroid", "[Ss]parse"),
    ],
)
def test_bad_probabilities_are_named(gamma, form, message):
    with pytest.raises((ValueError, TypeError), match=message):
        metrics.jensen_shannon_consistency(gamma, [0, 0], form=form)


def test_unknown_information_is_named():
    with pytest.raises(ValueError, match="of is 'code', but must be"):
        metrics.activation_information([[1], [0]], [0, 1], of="code")


# Matching, stability, recovery -----------------------------------------------------------------


def test_matching_undoes_order_sign_and_scale():
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(6, 20))
    order = rng.permutation(6)
    other = effects[order] * rng.choice([-3, 0.5], size=(6, 1)) + 0.01 * rng.normal(size=(6, 20))
    indices, partners, similarity = metrics.match_dimensions(effects, other)
    np.testing.assert_array_equal(order[partners], indices)
    assert (similarity > 0.99).all()


def test_matching_is_optimal_and_leaves_the_surplus():
    rng = np.random.default_rng(0)
    E, F = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    cosine = np.abs(E @ F.T) / np.outer(np.linalg.norm(E, axis=1), np.linalg.norm(F, axis=1))
    best = max(sum(cosine[range(3), p]) for p in itertools.permutations(range(5), 3))
    indices, partners, similarity = metrics.match_dimensions(E, F)
    np.testing.assert_array_equal(indices, [0, 1, 2])
    np.testing.assert_allclose(similarity, cosine[indices, partners])
    assert similarity.sum() == pytest.approx(best)
    assert metrics.match_dimensions(np.zeros((1, 4)), F)[2] == 0
    with pytest.raises(ValueError, match="other_effects has 3 features, but effects has 4"):
        metrics.match_dimensions(E, F[:, :3])


def fitted_roles(seed=0):
    factors = make_class_factors(400, n_classes=4, random_state=seed)
    return factors.dictionary, metrics.dimension_roles(factors.codes, factors.target)


def test_stability_is_one_up_to_order_sign_and_scale_whatever_the_dead_dimensions():
    effects, roles = fitted_roles()
    order = np.random.default_rng(0).permutation(len(roles))
    dead = roles.iloc[:1].assign(role="dead")
    other = pd.concat([roles.iloc[order], dead])
    other_effects = np.vstack([-2 * effects[order], effects[:1]])
    fits = (effects, roles), (other_effects, other)
    assert metrics.role_stability_score(*fits) == 1
    assert metrics.role_stability_score(*fits[::-1]) == 1


def test_stability_counts_changed_roles_classes_and_missing_partners():
    effects, roles = fitted_roles()
    n = len(roles)
    changed = roles.copy()
    changed.loc[0, "role"] = "sporadic"
    assert metrics.role_stability_score((effects, roles), (effects, changed)) == 1 - 1 / n
    swapped = roles.copy()  # two class-specific dimensions take each other's class
    swapped.loc[[n - 1, n - 2], "classes"] = roles.loc[[n - 2, n - 1], "classes"].to_numpy()
    assert metrics.role_stability_score((effects, roles), (effects, swapped)) == 1 - 2 / n
    fewer = effects[:-1], roles.iloc[:-1]
    assert metrics.role_stability_score((effects, roles), fewer) == 1 - 1 / n
    wider = roles.copy()  # a global dimension stays global when it loses one class of many
    wider.at[0, "classes"] = roles.at[0, "classes"][:-1]
    assert metrics.role_stability_score((effects, roles), (effects, wider)) == 1


def test_stability_of_dead_fits():
    effects, roles = fitted_roles()
    dead = effects, roles.assign(role="dead")
    assert metrics.role_stability_score((effects, roles), dead) == 0
    with pytest.raises(ValueError, match="dead dimensions only"):
        metrics.role_stability_score(dead, dead)
    with pytest.raises(ValueError, match=r"other_fit has \d+ rows of effects, but 1 of roles"):
        metrics.role_stability_score((effects, roles), (effects, roles.iloc[:1]))


@pytest.mark.parametrize("seed", range(5))
def test_the_true_codes_recover_all_roles_in_any_order(seed):
    factors = make_class_factors(300, n_classes=5, activity=0.8, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(factors.roles))
    codes, y = factors.codes[:, order], factors.target
    extra = np.random.default_rng(seed).uniform(size=(300, 4)) < 0.3
    assert metrics.role_recovery_score(factors.supports, codes, y) == 1
    assert metrics.role_recovery_score(factors.supports, sparse.csr_array(codes), y) == 1
    assert metrics.role_recovery_score(factors.supports, np.hstack([extra, codes]), y) == 1
    half = codes[:, : len(order) // 2]
    assert metrics.role_recovery_score(factors.supports, half, y) == half.shape[1] / len(order)


def test_recovery_needs_the_same_classes_and_resolves_ties_in_favour_of_recovery():
    y = np.repeat([0, 1, 2, 3], 4)
    A = np.column_stack([y == 1, y == 2])
    supports = np.eye(4)[:, :2]  # factors of classes 0 and 1
    assert metrics.role_recovery_score(supports, A, y) == 0.5
    # Both dimensions agree with the factor of class 0 to 3/4; only the second has its role.
    rates = np.array([[1, 1, 0, 0], [0.5, 0.25, 0.25, 0]])
    A = np.tile(np.arange(4), 4)[:, None] < 4 * np.repeat(rates.T, 4, axis=0)
    for order in ([0, 1], [1, 0]):
        assert metrics.role_recovery_score(supports[:, :1], A[:, order], y) == 1


def test_recovery_needs_a_row_of_supports_for_each_class():
    with pytest.raises(ValueError, match="supports has 3 rows, but y has 4 classes"):
        metrics.role_recovery_score(np.eye(3), *blocks())


# Scorers ---------------------------------------------------------------------------------------

SCORERS = {
    "consistency": metrics.consistency_scorer,
    "contrast": metrics.contrast_scorer,
    "elbo": metrics.elbo_scorer,
    "fidelity": metrics.fidelity_scorer,
    "pooled": metrics.pooled_fidelity_scorer,
    "probe": metrics.probe_scorer,
}


@pytest.fixture(scope="module")
def factors():
    return make_class_factors(240, 30, n_classes=4, noise=0.05, random_state=0)


def test_scorers_serve_cross_validation_and_search_over_pipelines(factors):
    pipeline = make_pipeline(StandardScaler(), PCA())
    scores = cross_validate(
        pipeline, factors.data, factors.target, scoring=SCORERS, error_score="raise", cv=3
    )
    for name in SCORERS:
        assert np.isfinite(scores[f"test_{name}"]).all()
    search = GridSearchCV(
        pipeline,
        {"pca__n_components": [1, 9]},
        scoring=SCORERS,
        refit="fidelity",
        error_score="raise",
        cv=3,
    ).fit(factors.data, factors.target)
    assert search.best_params_ == {"pca__n_components": 9}


@pytest.mark.parametrize("scorer", [*SCORERS.values(), partial(metrics.probe_scorer, k=1)])
def test_scorers_can_be_pickled(scorer, factors):
    estimator = PCA(3).fit(factors.data)
    copy = pickle.loads(pickle.dumps(scorer))
    data = estimator, factors.data, factors.target
    assert copy(*data) == scorer(*data)
    assert isinstance(scorer(*data), float)


def test_scorers_score_the_codes_of_transform(factors):
    X, y = factors.data, factors.target
    nmf = make_pipeline(MinMaxScaler(), NMF(6, init="nndsvd", max_iter=1000)).fit(X)
    Z = nmf.transform(X)
    assert metrics.consistency_scorer(nmf, X, y) == metrics.class_consistency_score(Z, y)
    assert metrics.contrast_scorer(nmf, X, y) == metrics.class_contrast_score(Z, y)
    assert metrics.probe_scorer(nmf, X, y) > 0.9
    pca = PCA(3).fit(X)
    score = metrics.consistency_scorer(pca, X, y)
    assert metrics.consistency_scorer(pca.set_output(transform="pandas"), X, y) == score
    assert metrics.elbo_scorer(pca, X) == pca.score(X)


def test_fidelity_is_explained_variance_by_feature_or_pooled(factors):
    X = np.hstack([factors.data * np.r_[1e6, np.ones(29)], np.zeros((240, 1))])
    pca = PCA(4).fit(X)
    X_hat = pca.inverse_transform(pca.transform(X))
    each = explained_variance_score(X, X_hat, multioutput="raw_values")[:-1]
    assert metrics.fidelity_scorer(pca, X) == pytest.approx(each.mean())
    assert metrics.fidelity_scorer(pca, X) < 0.8
    expected = pca.explained_variance_ratio_.sum()
    assert metrics.pooled_fidelity_scorer(pca, X) == pytest.approx(expected)
    assert metrics.fidelity_scorer(pca, pd.DataFrame(X).set_axis(range(31), axis=1)) > 0
    assert metrics.fidelity_scorer(PCA(31).fit(X), X) == pytest.approx(1)
    scaled = make_pipeline(StandardScaler(), PCA(30)).fit(factors.data)
    assert metrics.fidelity_scorer(scaled, factors.data) == pytest.approx(1)


def test_pooled_fidelity_alone_counts_errors_on_constant_features():
    X = np.column_stack([[0.0, 2.0], [1.0, 1.0]])  # total variance 1
    wrong = FunctionTransformer(
        inverse_func=lambda Z: np.column_stack([Z[:, 0], Z[:, 1] + Z[:, 0] / 2]),
        check_inverse=False,
    ).fit(X)
    assert metrics.pooled_fidelity_scorer(wrong, X) == pytest.approx(1 - 0.25)
    assert metrics.fidelity_scorer(wrong, X) == 1
    with pytest.raises(ValueError, match="X has constant features only"):
        metrics.fidelity_scorer(wrong, np.full((3, 2), 0.1))


class Shares(FunctionTransformer):
    """A model of counts that decodes to shares of its own, whatever the sample."""

    likelihood_ = "multinomial"

    def inverse_transform(self, Z):
        return np.asarray(Z.toarray() if sparse.issparse(Z) else Z) * 1.0


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_fidelity_of_counts_is_the_explained_deviance(container):
    rng = np.random.default_rng(0)
    X = rng.poisson(rng.gamma(0.5, 2, (1, 20)) * np.ones((50, 1))) + np.eye(50, 20, dtype=int)
    exact = Shares(accept_sparse=True).fit(X)
    assert metrics.fidelity_scorer(exact, container(X)) == pytest.approx(1)
    mean = Shares(
        lambda X: np.tile(np.asarray(X.sum(0)).ravel() * 7.0, (50, 1)), accept_sparse=True
    )
    assert metrics.fidelity_scorer(mean.fit(X), container(X)) == pytest.approx(0, abs=1e-12)
    halfway = Shares(lambda Z: Z + 0.5).fit(X)
    m = (X + 0.5) * (X.sum(1) / (X + 0.5).sum(1))[:, None]
    null = np.outer(X.sum(1), X.sum(0)) / X.sum()
    expected = 1 - mean_poisson_deviance(X.ravel(), m.ravel()) / mean_poisson_deviance(
        X.ravel(), null.ravel()
    )
    assert metrics.fidelity_scorer(halfway, X) == pytest.approx(expected)


def test_fidelity_leaves_missing_values_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) + 100
    X[:, 2] = 7
    halves = FunctionTransformer(inverse_func=lambda Z: np.nan_to_num(Z, nan=5) / 2).fit(X)
    gaps = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    assert metrics.fidelity_scorer(halves, gaps) == pytest.approx(0.75)
    assert metrics.pooled_fidelity_scorer(halves, gaps) == pytest.approx(0.75)


def test_a_dimension_of_one_small_column_is_not_inert():
    X = np.random.default_rng(0).normal(size=(50, 2)) * [1e6, 1]
    identity = FunctionTransformer().fit(X)
    assert not metrics.inert_dimensions(identity, X).any()


def test_fidelity_of_long_data_far_from_zero_is_exact():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90_000, 50)) + 1e6  # read in several batches
    halves = FunctionTransformer(
        inverse_func=lambda Z: 1e6 + 3 + (Z - 1e6) / 2, check_inverse=False
    ).fit(X)
    assert metrics.fidelity_scorer(halves, X) == pytest.approx(0.75, abs=1e-9)
    X = X.astype(np.float32)  # whose steps are of 0.06
    expected = 1 - (X - halves.inverse_transform(X)).var(dtype=float) / X.var(dtype=float)
    assert metrics.fidelity_scorer(halves, X) == pytest.approx(expected, abs=0.001)


def test_scorers_take_sparse_data_and_sparse_codes(factors):
    X = sparse.csr_array(factors.codes)
    identity = FunctionTransformer(accept_sparse=True).fit(X)
    assert metrics.fidelity_scorer(identity, X) == 1
    assert metrics.consistency_scorer(identity, X, factors.target) == 1
    assert metrics.probe_scorer(identity, X, factors.target) > 0.9
    assert not metrics.inert_dimensions(identity, X).any()


def test_inert_dimensions_are_active_without_effect():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(50, 2)), np.zeros(50)])
    # Codes of five dimensions: two that decode to X, one that nothing reads, one dead, one faint.
    coder = FunctionTransformer(
        func=lambda X: np.column_stack([X[:, :2], np.ones(len(X)), X[:, 2], np.ones(len(X))]),
        inverse_func=lambda Z: np.column_stack([Z[:, :2], 0.01 * Z[:, 4]]),
        check_inverse=False,
    ).fit(X)
    inert = metrics.inert_dimensions(coder, X)
    np.testing.assert_array_equal(inert, [False, False, True, False, True])
    faint = metrics.inert_dimensions(coder, X, eps=1e-6)
    np.testing.assert_array_equal(faint, [False, False, True, False, False])
    with pytest.raises(ValueError, match="eps == -1"):
        metrics.inert_dimensions(coder, X, eps=-1)


def test_a_pipeline_that_ends_with_a_predictor_has_no_codes_to_score():
    X, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(KMeans(2, n_init=1), LogisticRegression()).fit(X, y)
    with pytest.raises(AttributeError, match="transform"):
        metrics.consistency_scorer(pipeline, X, y)


# -- topic_coherence -------------------------------------------------------------------------------

#: Eight documents of four words: 0 and 1 always together, 2 and 3 in halves that are independent.
DOCUMENTS = np.array([[1, 1, 0, 0, 1, 1, 0, 0], [2, 1, 0, 0, 1, 1, 0, 0]]).T
DOCUMENTS = np.column_stack([DOCUMENTS, [1, 0, 1, 0, 1, 0, 1, 0], [3, 1, 0, 0, 0, 0, 1, 1]])


def pair(i, j):
    """A factor that raises two of the four words, the first one more."""
    return 2.0 * np.eye(4)[i] + np.eye(4)[j]


@pytest.mark.parametrize(
    ("i", "j", "expected"),
    [
        (0, 1, 1),
        (0, 2, 0),
        (2, 3, 0),
        (0, 3, 0),
    ],
)
def test_coherence_is_1_of_words_that_always_meet_and_0_of_independent_ones(i, j, expected):
    value = metrics.topic_coherence([pair(i, j)], DOCUMENTS, top_k=2)
    assert value == pytest.approx([expected], abs=1e-12)


def test_coherence_of_words_that_never_meet_and_that_all_documents_have():
    X = [[1, 0, 1, 1], [0, 1, 1, 1]]
    value = metrics.topic_coherence([pair(0, 1), pair(2, 3), pair(0, 2)], X, top_k=2)
    assert value.tolist() == [-1, 1, 0]


def test_coherence_is_the_mean_over_pairs_of_the_formula():
    X = np.random.default_rng(0).poisson(0.7, size=(50, 6))
    held = X > 0
    p, both = held.mean(axis=0), (held.T.astype(float) @ held) / 50
    pairs = list(itertools.combinations([4, 1, 3], 2))
    npmi = [np.log(both[i, j] / (p[i] * p[j])) / -np.log(both[i, j]) for i, j in pairs]
    umass = [np.log((50 * both[i, j] + 1) / (50 * p[i])) for i, j in pairs]
    factor = [[0, 0.8, 0, 0.1, 0.9, 0.05]]
    assert metrics.topic_coherence(factor, X, top_k=3) == pytest.approx([np.mean(npmi)])
    value = metrics.topic_coherence(factor, X, top_k=3, measure="umass")
    assert value == pytest.approx([np.mean(umass)])


@pytest.mark.parametrize("make", SPARSE_FORMATS)
def test_coherence_of_sparse_counts_is_that_of_dense_ones(make):
    rng = np.random.default_rng(0)
    X, components = rng.poisson(0.3, size=(40, 30)), rng.normal(size=(5, 30))
    value = metrics.topic_coherence(components, X)
    assert np.isfinite(value).all()
    assert np.array_equal(metrics.topic_coherence(pd.DataFrame(components), make(X)), value)


def test_only_words_that_a_factor_raises_count():
    falling, empty = pair(0, 1) - 5 * np.eye(4)[2], np.full(4, np.nan)
    value = metrics.topic_coherence([falling, empty, -pair(0, 1), np.eye(4)[0]], DOCUMENTS)
    assert value[0] == 1 and np.isnan(value[1:]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"top_k": 1}, "top_k == 1"),
        ({"measure": "cv"}, "measure is 'cv'"),
        ({"components": [[1, 2]]}, "components has 2 words, but X has 4"),
        ({"X": DOCUMENTS * [0, 1, 1, 1], "measure": "umass"}, "no document of X has word 0"),
    ],
)
def test_coherence_refuses_what_it_cannot_measure(arguments, words):
    with pytest.raises(ValueError, match=words):
        metrics.topic_coherence(**{"components": [pair(0, 1)], "X": DOCUMENTS} | arguments)
