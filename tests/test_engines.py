"""Specification of the engines: a search and a transform on a cluster give what they give here.

The recipes of `docs/engines.md`. Bit for bit means on as many torch threads: one, as Dask's workers
have.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc.metrics import contrast_scorer, elbo_scorer, fidelity_scorer

distributed = pytest.importorskip(
    "dask.distributed", reason='needs a cluster: pip install "dask[array,distributed]"'
)
dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array", reason='needs arrays: pip install "dask[array,distributed]"')

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
DOCS = Path(__file__).parents[1] / "docs"
X, Y = load_digits(return_X_y=True)
#: `transform` reads 1,024 rows at a time; a worker that does the same does the same sums.
BLOCK = 1024


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread each."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def fitted():
    return coding(small(ClassVSCTransformer, n_components=8, max_epochs=20).fit(X, Y))


def coding(estimator):
    """Return the estimator, whose codes are not all zero: those would be equal too easily."""
    codes = sparse.csr_array(estimator.transform(X))
    assert 0.02 < codes.nnz / np.prod(codes.shape) < 0.9
    return estimator


def search():
    return GridSearchCV(
        small(ClassVSCTransformer),
        {"consistency_weight": [0.3, 3], "alpha": [0.1, 0.3]},
        scoring={"contrast": contrast_scorer, "fidelity": fidelity_scorer, "elbo": elbo_scorer},
        refit="elbo",
        cv=2,
        error_score="raise",
    )


def scores(search):
    """Return everything in `cv_results_` that is no time."""
    results = search.cv_results_
    return {name: list(results[name]) for name in results if not name.endswith("_time")}


def encode(block, estimator):
    return estimator.transform(block)


def by_blocks(method, X, n_columns, dtype=np.float32, meta=None):
    """Return the recipe: a method over blocks of rows, with the shape and dtype it will have."""
    meta = np.empty((0, 0), dtype) if meta is None else meta
    return X.map_blocks(method, dtype=dtype, chunks=(X.chunks[0], (n_columns,)), meta=meta)


# -- search ------------------------------------------------------------------------------------


def test_a_search_on_the_cluster_is_the_search_here(client):
    here = search().fit(X, Y)
    with joblib.parallel_config("dask"):
        there = search().fit(X, Y)
    assert scores(there) == scores(here)
    assert len(set(scores(here)["mean_test_elbo"])) == 4  # there was something to tell apart
    assert np.array_equal(there.best_estimator_.transform(X), here.best_estimator_.transform(X))


def test_both_workers_search(client):
    def process(estimator, X, y):
        return os.getpid()

    grid = {"kl_weight": np.linspace(0.1, 1, 12)}
    search = GridSearchCV(small(VAETransformer), grid, scoring=process, cv=2, refit=False)
    with joblib.parallel_config("dask"):
        results = search.fit(X, Y).cv_results_
    ran = {*results["split0_test_score"], *results["split1_test_score"]}
    assert ran == {*client.run(os.getpid).values()}


@pytest.mark.parametrize("cls", [VAETransformer, VSCTransformer, ClassVSCTransformer])
def test_a_pipeline_is_cross_validated_on_the_cluster_as_here(client, cls):
    pipeline = make_pipeline(StandardScaler(), small(cls), LogisticRegression())
    here = cross_val_score(pipeline, X, Y, cv=3)
    with joblib.parallel_config("dask"):
        assert cross_val_score(pipeline, X, Y, cv=3).tolist() == here.tolist()


def test_a_search_is_the_same_on_workers_of_several_threads():
    """Whose fits share a process, and everything global in it."""
    here = search().fit(X, Y)
    options = {"n_workers": 1, "threads_per_worker": 3, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, processes=False) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        there = search().fit(X, Y)
    assert scores(there) == scores(here)


# -- batch inference ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_have_their_shape_and_dtype_before_they_are_computed(client, fitted, dtype):
    lazy = da.from_array(X.astype(dtype), chunks=(BLOCK, -1))
    Z = by_blocks(fitted.transform, lazy, 8)
    assert (Z.shape, Z.dtype, Z.chunks[0]) == ((1797, 8), np.float32, (1024, 773))
    assert isinstance(Z._meta, np.ndarray)
    computed = Z.compute()
    assert (computed.shape, computed.dtype) == (Z.shape, Z.dtype)
    assert np.array_equal(computed, fitted.transform(X.astype(dtype)))


def test_blocks_of_any_size_give_the_codes_up_to_rounding(client, fitted):
    """BLAS rounds a product of few rows otherwise than one of many."""
    lazy = da.from_array(X, chunks=(130, -1))
    gamma = by_blocks(fitted.activation_proba, lazy, 8).compute()
    np.testing.assert_allclose(gamma, fitted.activation_proba(X), atol=1e-5)


def test_other_methods_go_by_blocks_likewise(client):
    # Of double precision, as the model standardises it, and decodes.
    vsc = coding(small(VSCTransformer, max_epochs=20).fit(X))
    lazy = da.from_array(X, chunks=(BLOCK, -1))
    Z = by_blocks(vsc.transform, lazy, 6)
    back = by_blocks(vsc.inverse_transform, Z, 64, dtype=np.float64)
    gamma = by_blocks(vsc.activation_proba, lazy, 6)
    elbo = lazy.map_blocks(
        vsc.score_samples, dtype=np.float32, drop_axis=1, meta=np.empty(0, np.float32)
    )
    expected = {
        "inverse_transform": (back, vsc.inverse_transform(vsc.transform(X))),
        "activation_proba": (gamma, vsc.activation_proba(X)),
        "score_samples": (elbo, vsc.score_samples(X)),
    }
    for name, (found, here) in expected.items():
        assert (found.shape, found.dtype) == (here.shape, here.dtype), name
        assert np.array_equal(found.compute(), here), name


def test_sparse_codes_stay_sparse(client):
    estimator = small(ClassVSCTransformer, sparse_output=True, max_epochs=20).fit(X, Y)
    coding(estimator)
    lazy = da.from_array(X, chunks=(BLOCK, -1))
    meta = sparse.csr_array((0, 0), dtype=np.float32)
    Z = by_blocks(estimator.transform, lazy, 6, meta=meta)
    assert (Z.shape, Z.dtype, type(Z._meta)) == ((1797, 6), np.float32, sparse.csr_array)
    computed, here = Z.compute(), estimator.transform(X)
    assert isinstance(computed, sparse.csr_array)
    assert computed.dtype == np.float32
    assert (computed != here).nnz == 0
    assert computed.nnz == here.nnz


def test_data_frames_go_by_partitions(client):
    dd = pytest.importorskip("dask.dataframe", reason="needs dask[dataframe]")
    table = pd.DataFrame(X).add_prefix("pixel")
    estimator = small(ClassVSCTransformer, max_epochs=20).set_output(transform="pandas")
    estimator.fit(table, Y)
    partitions = dd.from_pandas(table, npartitions=1).repartition(divisions=[0, BLOCK, 1796])
    Z = partitions.map_partitions(estimator.transform, meta=estimator.transform(table[:1])[:0])
    here = estimator.transform(table)
    assert Z.dtypes.to_dict() == here.dtypes.to_dict()
    pd.testing.assert_frame_equal(Z.compute(), here, check_exact=True)


class Counted(VSCTransformer):
    """Counts how often it is unpickled in a process."""

    unpickled = 0

    def __setstate__(self, state):
        type(self).unpickled += 1
        super().__setstate__(state)


def test_a_delayed_estimator_is_sent_to_a_worker_once(client):
    """A bound method is sent with every block."""
    estimator = small(Counted).fit(X)
    lazy = da.from_array(X, chunks=(100, -1))

    def sent(Z):
        client.run(setattr, Counted, "unpickled", 0)
        Z.compute()
        return max(client.run(getattr, Counted, "unpickled").values())

    kwargs = {"dtype": np.float32, "chunks": (lazy.chunks[0], (6,)), "meta": np.empty((0, 0), "f")}
    assert sent(lazy.map_blocks(encode, dask.delayed(estimator), **kwargs)) == 1
    assert sent(lazy.map_blocks(estimator.transform, **kwargs)) > 1


# -- the page and its scripts ------------------------------------------------------------------


@pytest.mark.slow
def test_the_snippets_of_the_page_run(tmp_path, monkeypatch):
    """One after the other, as they stand."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "engines.md").read_text(encoding="utf-8")
    # As "__main__", so that the workers get the functions themselves.
    namespace = {"__name__": "__main__"}
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert snippets
    try:
        for code in snippets:
            exec(code, namespace)
    finally:
        for name in ("client", "cluster"):
            if name in namespace:
                namespace[name].close()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pyspark", "ray"])
def test_other_engines_give_the_codes(package):
    if find_spec(package) is None:
        pytest.skip(f"runs if it is there: see docs/examples/encode_with_{package}.py")
    script = DOCS / "examples" / f"encode_with_{package}.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "by 2 processes, identical: True" in result.stdout
