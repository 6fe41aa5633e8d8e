"""Specification of sklearn_classvsc.anndata: cells in, codes and genes out, batches left out."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import small
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer
from sklearn_classvsc.anndata import AnnDataVSC, batch_factors

try:
    from anndata import AnnData
except ImportError:  # as under pandas 3, which it does not take yet

    class AnnData(SimpleNamespace):
        """What the module needs of an AnnData."""

        def __init__(self, X, obs, var):
            super().__init__(X=X, obs=obs, var_names=var.index, layers={}, obsm={}, varm={}, uns={})


pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_classvsc.CollapseWarning", "ignore::sklearn_classvsc.GeneralizationWarning"
)
N_GENES, MARKERS = 60, {"B": range(10), "NK": range(10, 20), "T": range(20, 30)}


def cells(n=300, *, seed=0, batch_effect=0.6, sparse=False):
    """Return negative binomial counts of three types of cells in two batches, one of them deep."""
    rng = np.random.default_rng(seed)
    rates = np.tile(np.random.default_rng(1).lognormal(0.5, 0.7, N_GENES), (3, 1))
    for row, genes in zip(rates, MARKERS.values(), strict=True):
        row[genes] *= 5
    factors = np.exp(np.random.default_rng(2).normal(0, batch_effect, (2, N_GENES)))
    types, batches = rng.integers(0, 3, n), rng.integers(0, 2, n)
    means = rates[types] * (factors * [[1], [2]])[batches]
    X = rng.poisson(rng.gamma(3, means / 3)).astype(np.float32)
    obs = {"type": np.array([*MARKERS])[types], "donor": np.array(["d1", "d2"])[batches]}
    names = [f"gene{j}" for j in range(N_GENES)]
    index = [f"cell{i}" for i in range(n)]
    return AnnData(
        csr_matrix(X) if sparse else X,
        obs=pd.DataFrame(obs, index=index).astype("category"),
        var=pd.DataFrame(index=names),
    )


def model(**parameters):
    estimator = small(ClassVSCTransformer, likelihood="negative_binomial")
    return AnnDataVSC(estimator, **{"label_key": "type"} | parameters)


def told_apart(Z, y, Z_test, y_test):
    """Return the accuracy of a linear probe."""
    return (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        .fit(Z, y)
        .score(Z_test, y_test)
    )


def test_codes_fold_changes_and_roles_are_written_beside_the_counts():
    adata = cells()
    before = adata.X.copy()
    vsc = model().fit(adata)
    assert adata.obsm["X_classvsc"].shape == (300, 6)
    assert np.array_equal(adata.obsm["X_classvsc"], vsc.estimator_.transform(before))
    assert adata.varm["classvsc"].shape == (N_GENES, 6)
    assert set(adata.uns["classvsc"]) == {"label_key", "roles"}
    assert adata.uns["classvsc"]["roles"]["role"].notna().all()
    assert np.array_equal(adata.X, before) and vsc.batch_factors_ is None


def test_layer_and_key_are_named():
    adata = cells()
    adata.layers["counts"] = adata.X
    adata.X = np.log1p(adata.X)
    vsc = model(layer="counts", key="own").fit(adata)
    assert np.array_equal(vsc.estimator_.transform(adata.layers["counts"]), adata.obsm["X_own"])
    assert adata.uns["own"]["layer"] == "counts" and "own" in adata.varm


def test_an_estimator_without_labels_needs_no_key():
    adata = cells()
    vsc = AnnDataVSC(small(VSCTransformer, likelihood="poisson")).fit(adata)
    assert adata.obsm["X_classvsc"].shape == (300, 6) and adata.uns["classvsc"] == {}
    with pytest.raises(ValueError, match="label_key is None"):
        vsc.marker_genes(adata)


def test_it_is_an_estimator_that_can_be_cloned():
    vsc = model(batch_key="donor")
    assert clone(vsc).get_params()["estimator__n_components"] == 6
    assert not hasattr(vsc.fit(cells()).estimator, "module_")


def test_fits_of_sparse_counts_are_those_of_dense_ones():
    codes = []
    for sparse in (False, True):
        adata = cells(sparse=sparse)
        model(batch_key="donor").fit(adata)
        codes.append(adata.obsm["X_classvsc"])
    assert np.allclose(*codes, atol=1e-4)


def test_cells_are_read_by_the_names_of_their_genes():
    adata, new = cells(), cells(50, seed=5)
    vsc = model().fit(adata)
    codes = vsc.transform(new).copy()
    order = np.random.default_rng(0).permutation(N_GENES)
    shuffled = AnnData(
        new.X[:, order], obs=new.obs, var=pd.DataFrame(index=np.array(new.var_names)[order])
    )
    assert np.array_equal(vsc.transform(shuffled), codes)
    lacking = AnnData(new.X[:, 1:], obs=new.obs, var=pd.DataFrame(index=new.var_names[1:]))
    with pytest.raises(ValueError, match="lacks 1 of the 60 genes of the fit, such as 'gene0'"):
        vsc.transform(lacking)


@pytest.mark.slow
def test_codes_do_not_tell_the_batch_and_keep_the_type():
    train, test = cells(500), cells(600, seed=3)
    types = [np.asarray(a.obs["type"]) for a in (train, test)]
    donors = [np.asarray(a.obs["donor"]) for a in (train, test)]
    probes = {}
    for batch_key in (None, "donor"):
        estimator = ClassVSCTransformer(
            8,
            likelihood="negative_binomial",
            max_epochs=60,
            hidden_layer_sizes=(16,),
            random_state=0,
        )
        vsc = AnnDataVSC(estimator, label_key="type", batch_key=batch_key).fit(train)
        codes = train.obsm["X_classvsc"], vsc.transform(test)
        probes[batch_key] = [told_apart(codes[0], y[0], codes[1], y[1]) for y in (types, donors)]
    assert probes[None][1] > 0.9
    assert probes["donor"][1] < 0.57  # chance is 0.5
    assert probes["donor"][0] > 0.9
    markers = vsc.marker_genes(test, k=10)
    assert markers.columns.tolist() == [
        "class",
        "rank",
        "gene",
        "effect",
        "relative_effect",
        "measure",
    ]
    true = {name: {f"gene{j}" for j in genes} for name, genes in MARKERS.items()}
    found = [row.gene in true[row["class"]] for _, row in markers.iterrows()]
    assert len(found) == 30 and np.mean(found) > 0.85
    assert set(markers["measure"]) == {"log2 fold change"}


# -- batches ---------------------------------------------------------------------------------------


def test_factors_are_those_of_batches_though_classes_are_unequal_in_them():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    batches = (rng.uniform(size=20_000) < np.where(labels, 0.9, 0.2)).astype(int)
    rates = np.array([[5.0, 1, 20, 0], [1, 5, 20, 0]])
    factors = np.array([[1, 1, 1, 1], [2, 1, 0.5, 1]])
    X = rng.poisson(rates[labels] * factors[batches])
    names, found = batch_factors(X, labels, batches)
    assert names.tolist() == [0, 1]
    assert found[1] / found[0] == pytest.approx([2, 1, 0.5, 1], rel=0.05)
    assert np.array_equal(batch_factors(csr_matrix(X), labels, batches)[1], found)


def test_rare_genes_have_no_factor_to_speak_of():
    X = np.zeros((200, 2), dtype=int)
    X[:100, 0] = 1
    X[0, 1] = 1
    _, found = batch_factors(X, np.zeros(200), np.repeat([0, 1], 100))
    assert found[0, 0] / found[1, 0] > 5 and found[0, 1] / found[1, 1] < 1.3


def test_thinned_counts_have_one_distribution_in_all_batches():
    adata = cells(2000)
    vsc = model(batch_key="donor").fit(adata)
    X = vsc._read(adata)
    assert (X <= adata.X).all() and (X % 1 == 0).all()
    donors, types = np.asarray(adata.obs["donor"]), np.asarray(adata.obs["type"])
    for name in MARKERS:
        first, second = (X[(types == name) & (donors == d)] for d in ("d1", "d2"))
        assert np.corrcoef(first.mean(axis=0), second.mean(axis=0))[0, 1] > 0.99
        assert first.sum(axis=1).mean() == pytest.approx(second.sum(axis=1).mean(), rel=0.05)
        common = first.mean(axis=0) > 1
        ratio = (first.var(axis=0) / second.var(axis=0))[common]
        assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert np.array_equal(vsc._read(adata), X)  # the same at every call
    by_gene = adata.varm["classvsc_batches"]
    assert by_gene.columns.tolist() == ["d1", "d2"] and len(by_gene) == N_GENES


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"layer": "raw"}, KeyError, "layer='raw' is not in adata.layers"),
        ({"label_key": "kind"}, KeyError, "label_key='kind' is not a column of adata.obs"),
        ({"batch_key": "kit"}, KeyError, "batch_key='kit' is not a column"),
        ({"layer": "log", "batch_key": "donor"}, ValueError, "raw counts, but layer 'log'"),
        ({"label_key": "both", "batch_key": "donor"}, ValueError, "No class is in two batches"),
        ({"batch_key": "gap"}, ValueError, "cells without a batch"),
        (
            {"estimator": small(ClassVSCTransformer), "batch_key": "donor"},
            ValueError,
            "likelihood='auto': set it to 'negative_binomial'",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, error, words):
    adata = cells()
    adata.layers["log"] = np.log1p(adata.X)
    adata.obs["both"] = adata.obs["type"].astype(str) + adata.obs["donor"].astype(str)
    adata.obs["gap"] = [None, *["d1"] * 299]
    with pytest.raises(error, match=re.escape(words)):
        model().set_params(**change).fit(adata)
    assert not dict(adata.obsm)


def test_what_is_backed_by_a_file_is_refused():
    class Backed:
        isbacked = True

    with pytest.raises(ValueError, match=re.escape("pass adata.to_memory()")):
        model().fit(Backed())


def test_a_batch_that_the_fit_has_not_seen_is_refused():
    vsc = model(batch_key="donor").fit(cells())
    new = cells(50)
    new.obs["donor"] = "d9"
    with pytest.raises(ValueError, match="donor 'd9' was not in the fit, which knows"):
        vsc.transform(new)
