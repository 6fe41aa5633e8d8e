"""Specification of what can be passed as X, and of what an error says about what cannot."""

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from helpers import covering, small
from scipy import sparse
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

X = np.random.default_rng(0).random((40, 12)).astype(np.float32)
Y = np.arange(40) % 2
FRAME = pd.DataFrame(X, columns=[f"f{i}" for i in range(12)])
MASKED = np.ma.array(X, mask=X > 0.9)
METHODS = ["fit", "partial_fit", "transform", "score", "activation_proba", "inverse_transform"]


class Annotated:
    """A table with annotations, as AnnData is: each of its slices is another one."""

    shape = X.shape
    X = X

    def __len__(self):
        return len(X)

    def __getitem__(self, rows):
        pytest.fail("it was read, before it was refused")


class Lazy:
    """A query that has not run, as Polars' LazyFrame is."""

    columns = ("a",)

    def collect(self):
        return FRAME

    def __getitem__(self, item):
        raise TypeError("not sliceable")


class Samples(Dataset):
    """A map-style dataset of what it is given."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Convertible:
    """What NumPy can read, and no more."""

    def __array__(self, dtype=None, copy=None):
        return X


class Unsized(Dataset):
    def __getitem__(self, i):
        return X[i]


class Stored:
    """An array on disk, as h5py's datasets are: rows come by slices."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.largest = 0

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("all of it was read at once")

    def __getitem__(self, rows):
        taken = self.values[rows]
        self.largest = max(self.largest, taken.shape[0])
        return taken


Stored.__module__ = "h5py._hl.dataset"


def call(estimator, method, value):
    y = Y if method in ("fit", "partial_fit") and hasattr(value, "shape") else None
    args = (value, y) if isinstance(estimator, ClassVSCTransformer) and y is not None else (value,)
    return getattr(estimator, method)(*args)


#: What is no table, and what the error says of the way to one.
REFUSED = {
    "AnnData": (Annotated(), r"pass [XZ]\.X\b"),
    "LazyFrame": (Lazy(), r"pass [XZ]\.collect\(\)"),
    "masked": (MASKED, r"\d+ of its 480 values are masked: fill them, [XZ]\.filled"),
    "masked rows": (list(MASKED), r"masked: fill them"),
    "images": (X.reshape(40, 1, 3, 4), r"\(40, 1, 3, 4\).*[XZ]\.reshape\(len\([XZ]\), -1\)"),
    "image tensors": (torch.tensor(X).reshape(40, 1, 3, 4), r"reshape\(len\([XZ]\), -1\)"),
    "list of images": (list(X.reshape(40, 3, 4)), r"reshape\(len\([XZ]\), -1\)"),
    "equal chunks": ([X[:20], X[20:]], "list of .'ndarray', 'ndarray'."),
    "unequal chunks": ([X[:25], X[25:]], "list of .'ndarray', 'ndarray'."),
    "labeled chunks": ([(X[:25], Y[:25]), (X[25:], Y[25:])], "list of .'tuple', 'tuple'."),
    "frames": ([FRAME[:20], FRAME[20:]], "list of .'DataFrame'"),
    "sparse rows": ([sparse.csr_array(X[i : i + 1]) for i in range(9)], "list of .'csr_array'"),
    "complex": (X + 1j, r"Complex data not supported: [XZ] has the dtype complex64"),
    "structured": (np.zeros(3, [("a", float), ("b", float)]), "structured_to_unstructured"),
    "1d": (X[0], r"Expected 2D array, got 1D array instead.*\(12,\).*Reshape your data"),
    "1d sparse": (sparse.coo_array(X[0]), r"got 1D array.*\(12,\)"),
    "file name": ("data.csv", "read the file first"),
    "mapping": ({"a": X}, r"pandas\.DataFrame\([XZ]\)"),
    "nothing": (None, "not an array, DataFrame or sparse matrix"),
    "meta tensor": (torch.empty(3, 12, device="meta"), "tensor of torch.strided on meta"),
    "sparse tensor": (torch.tensor(X).to_sparse(), r"to_dense\(\)"),
    "dates": (X.astype("M8[s]"), r"[XZ]\b.*datetime64"),
    "no columns": (X[:, :0], "0 feature"),
}


@pytest.fixture(scope="module")
def fitted():
    return small(VSCTransformer, max_epochs=1).fit(X)


@pytest.mark.parametrize(("kind", "method"), covering(REFUSED, METHODS))
def test_what_is_no_table_is_refused_at_once_with_the_way_to_one(kind, method, fitted):
    value, way = REFUSED[kind]
    estimator = small(VSCTransformer) if "fit" in method else fitted
    before = dict(vars(estimator))
    with pytest.raises((TypeError, ValueError), match=way) as caught:
        call(estimator, method, value)
    assert len(str(caught.value)) < 500
    assert vars(estimator) == before


@pytest.mark.parametrize(
    ("kind", "cls"),
    covering(
        ["AnnData", "LazyFrame", "masked", "images"],
        [VAETransformer, VSCTransformer, ClassVSCTransformer],
    ),
)
def test_every_estimator_refuses_what_is_no_table(kind, cls):
    value, way = REFUSED[kind]
    with pytest.raises((TypeError, ValueError), match=way):
        call(small(cls), "fit", value)


#: What is no source, or yields no chunks, and what the error says.
NO_SOURCES = {
    "class": (Samples, r"X is the class Samples. Pass a dataset, Samples\(\.\.\.\)"),
    "arguments": (lambda path: [X], "function that needs arguments .*path"),
    "nothing": (lambda: None, "returned None, but a function must return"),
    "array": (lambda: X, r"returned \[\[0.*, but a function must return"),
    "rows": (lambda: iter(X), r"chunk of X has the shape \(12,\).*several samples at a time"),
    "samples": (lambda: zip(X, Y, strict=True), "chunk of X is a tuple .*'ndarray', 'int64'"),
    "numbers": (lambda: range(3), r"chunk of X is 0 \(int\)"),
    "images": (lambda: [(X.reshape(40, 1, 3, 4), Y)], r"reshape\(len\(X\), -1\)"),
    "four": (lambda: [(X, Y, Y, Y)], "X yields 4 parts"),
    "annotated": (lambda: [(Annotated(), Y)], r"chunk of X.*pass X\.X"),
    "mapping": (lambda: [{"x": X, "y": Y}], r"chunk of X is .*\(dict\)"),
    "masked": (lambda: [X, MASKED], "values are masked"),
    "unsized": (Unsized(), "X=.* without a length. Define __len__"),
    "no samples": (TensorDataset(torch.empty(0, 12)), "X holds no samples"),
    "sample images": (Samples(X.reshape(40, 1, 3, 4)), r"reshape\(len\(X\), -1\)"),
    "sample dicts": (Samples([{"x": X[0]}]), r"chunk of X is .*\(dict\)"),
    "sample objects": (Samples([object()] * 2), "X yields samples that do not form an array"),
    "sample numbers": (Samples([(1.0, 0), (2.0, 1)]), r"chunk of X has the shape \(2,\)"),
    "unequal samples": (Samples([X[0], X[0, :3]]), "X yields samples that do not form an array"),
    "sample fours": (Samples([(X[0], 1, 1, 1)]), "X yields 4 parts"),
}


@pytest.mark.parametrize(
    ("kind", "method"), covering(NO_SOURCES, ["fit", "partial_fit", "transform"])
)
def test_what_yields_no_chunks_is_refused_with_the_way_to_do_it(kind, method, fitted):
    value, way = NO_SOURCES[kind]
    estimator = small(VAETransformer) if "fit" in method else fitted
    with pytest.raises((TypeError, ValueError), match=way) as caught:
        getattr(estimator, method)(value)
    assert len(str(caught.value)) < 500


#: What holds the same numbers as X.
SAME = {
    "clean masked array": np.ma.array(X),
    "tensor with gradient": torch.tensor(X, requires_grad=True),
    "list of tensors": list(torch.tensor(X, requires_grad=True)),
    "objects": X.astype(object),
    "dok": sparse.dok_array(X),
    "coo": sparse.coo_array(X),
    "protocol": Convertible(),
    "on disk": Stored(X),
    "sparse on disk": Stored(sparse.csr_array(X)),
}


@pytest.mark.parametrize("kind", SAME)
def test_what_holds_the_same_numbers_gives_the_same_codes(kind, fitted):
    same = X.astype(np.float64) if kind == "objects" else X  # objects are read as float64
    np.testing.assert_array_equal(fitted.transform(SAME[kind]), fitted.transform(same))


def test_tensors_are_read_under_array_api_dispatch(monkeypatch):
    expected = small(ClassVSCTransformer).fit(X, Y).transform(X)
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    before = sklearn.get_config()
    try:
        with sklearn.config_context(array_api_dispatch=True):
            estimator = small(ClassVSCTransformer).fit(torch.tensor(X), torch.tensor(Y))
            codes = estimator.transform(torch.tensor(X))
            back = estimator.inverse_transform(torch.tensor(codes))
    except ImportError:
        pytest.skip("this SciPy has no array API")
    np.testing.assert_array_equal(codes, expected)
    assert back.shape == X.shape
    assert sklearn.get_config() == before


def test_an_array_on_disk_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr("sklearn_classvsc._streams.PIECE", 12 * 16)
    stored = Stored(X)
    estimator = small(ClassVSCTransformer).fit(stored, Y)
    assert estimator.transform(stored).shape == (40, 6)
    assert stored.largest == 16
    with pytest.raises(ValueError, match=r"y has the shape \(39,\), but X has the shape"):
        estimator.fit(stored, Y[1:])


def test_columns_that_are_no_numbers_are_named():
    frame = FRAME.assign(f3=pd.Timestamp("2020-01-01"), f5="a")
    with pytest.raises((TypeError, ValueError), match=r"'f3' \(datetime64.*'f5' \(") as caught:
        small(VSCTransformer).fit(frame)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("kind", [int, bool])
def test_labels_in_an_array_of_objects_are_what_they_are(kind):
    y = Y.astype(kind)
    estimator = small(ClassVSCTransformer).fit(X, y.astype(object))
    assert estimator.classes_.dtype == y.dtype
    expected = small(ClassVSCTransformer).fit(X, y).transform(X)
    np.testing.assert_array_equal(estimator.transform(X), expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (pd.cut(X[:, 0], 3), r"y holds Interval.*y\.astype\(str\)"),
        (np.ma.array(Y, mask=Y == 1), "y is a masked array, and 20 of its 40"),
        ("digit", "y='digit' names a column"),
        (pd.array([pd.NA, *Y[1:]], dtype="Int64"), "y"),
    ],
    ids=["intervals", "masked", "name", "missing"],
)
def test_what_is_no_label_is_refused_with_the_way_to_one(y, message):
    with pytest.raises(ValueError, match=message) as caught:
        small(ClassVSCTransformer).fit(X, y)
    assert len(str(caught.value)) < 500


def test_a_tensor_of_labels_may_have_a_gradient():
    y = torch.tensor(Y, dtype=torch.float32, requires_grad=True)
    assert small(ClassVSCTransformer).fit(X, y).classes_.tolist() == [0, 1]


# -- sources that are read again ------------------------------------------------------------------


class Once:
    """Chunks that can be read one time only, though nothing says so."""

    def __init__(self, *chunks):
        self.chunks = iter(chunks)

    def __iter__(self):
        return self.chunks


class Exhausted(IterableDataset):
    def __init__(self):
        self.samples = iter(X)

    def __iter__(self):
        return self.samples


def readings(*counts):
    """Return a source that yields so many samples in each reading."""
    numbers = iter(counts)
    return lambda: [X[: next(numbers)]]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (lambda: Once(X[:20], X[20:]), "0 samples"),
        (lambda: partial(next, itertools.repeat(iter([X]))), "0 samples"),
        (Exhausted, "0 samples"),
        (lambda: readings(40, 30, 40, 40), "30 samples"),
        (lambda: readings(40, 40, 0, 40), "0 samples"),
    ],
    ids=["iterable", "function", "IterableDataset", "shorter", "empty"],
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_source_that_yields_less_when_read_again_is_refused(source, found, warm_start):
    estimator = small(VSCTransformer, max_epochs=3).fit(X).set_params(warm_start=warm_start)
    codes, history = estimator.transform(X), estimator.history_
    with pytest.raises(ValueError, match=rf"X yields {found} .*read again, but 40 the first time"):
        estimator.fit(source())
    np.testing.assert_array_equal(estimator.transform(X), codes)
    pd.testing.assert_frame_equal(estimator.history_, history)


def test_a_source_that_yields_more_when_read_again_is_refused():
    source = readings(30, 40, 40, 40)
    with pytest.raises(ValueError, match=r"X yields at least 40 samples .*, but 30 the first time"):
        small(VSCTransformer).fit(source)


def test_partial_fit_of_a_source_without_samples_is_refused():
    estimator = small(VAETransformer)
    with pytest.raises(ValueError, match="X holds no samples"):
        estimator.partial_fit(iter([]))
    assert not hasattr(estimator, "n_features_in_")


def test_a_function_may_return_any_source():
    dataset = TensorDataset(torch.tensor(X), torch.tensor(Y))
    a = small(ClassVSCTransformer).fit(lambda: dataset)
    b = small(ClassVSCTransformer).fit(dataset)
    np.testing.assert_array_equal(a.transform(X), b.transform(X))


@pytest.mark.parametrize("scale", [1, 5], ids=["Bernoulli", "Gaussian"])
def test_sparse_and_dense_chunks_may_alternate(scale):
    """They give what dense ones give."""
    chunks = [scale * X[:15], scale * X[15:30], scale * X[30:]]
    dense = small(VSCTransformer).fit(lambda: chunks).transform(chunks[0])
    for which in ([0], [1], [0, 2]):
        mixed = [sparse.csr_array(x) if i in which else x for i, x in enumerate(chunks)]
        estimator = small(VSCTransformer).fit(lambda mixed=mixed: mixed)
        np.testing.assert_allclose(estimator.transform(chunks[0]), dense, atol=1e-6)


def test_chunks_without_rows_hold_no_samples():
    chunks = [FRAME[:0], FRAME[:15], FRAME[15:15], FRAME[15:]]
    a = small(VSCTransformer).fit(lambda: chunks)
    b = small(VSCTransformer).fit(lambda: [FRAME[:15], FRAME[15:]])
    np.testing.assert_array_equal(a.transform(FRAME), b.transform(FRAME))


def test_chunks_with_columns_in_another_order_are_refused():
    with pytest.raises(ValueError, match=r"same order as they were in fit\.\nPass X\[estimator"):
        small(VSCTransformer).fit(lambda: [FRAME[:20], FRAME.iloc[20:, ::-1]])
