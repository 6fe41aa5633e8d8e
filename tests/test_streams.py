"""Specification of data that come in pieces."""

import itertools

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._data import ArrayDataset, EvenBatches, Survey
from sklearn_classvsc._streams import Blocks, Chunk, StreamDataset, as_source
from sklearn_classvsc._validation import check_source, check_table

X, Y = load_digits(return_X_y=True)
X, Y = (X[:600] / 16).astype(np.float32), Y[:600]
SIZES = [250, 50, 300]  # of pieces
PIECES = [
    (X[stop - size : stop], Y[stop - size : stop])
    for size, stop in zip(SIZES, itertools.accumulate(SIZES), strict=True)
]
NAMES = [f"pixel{i}" for i in range(X.shape[1])]
FRAME = pd.DataFrame(X, columns=NAMES).assign(digit=Y)


class Stream(IterableDataset):
    """Samples, one by one."""

    def __iter__(self):
        return zip(X, Y.tolist(), strict=True)


class Plain(Dataset):
    """Samples by their indices, with nothing that torch does not ask for."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.tensor(X[i]), f"digit {Y[i]}"


def write_parquet(path):
    for i, part in enumerate(np.array_split(np.arange(len(X)), 2)):
        table = pa.Table.from_pandas(FRAME.iloc[part])
        pq.write_table(table, path / f"{i}.parquet", row_group_size=120)
    return ds.dataset(path)


#: How to give X and y in pieces: (what is passed as X, what is passed as y).
SOURCES = {
    "function": lambda path: (lambda: iter(PIECES), None),
    "iterable": lambda path: (DataLoader(TensorDataset(*map(torch.tensor, (X, Y))), 100), None),
    "CSR chunks": lambda path: (lambda: ((sparse.csr_array(x), y) for x, y in PIECES), None),
    "IterableDataset": lambda path: (Stream(), None),
    "TensorDataset": lambda path: (TensorDataset(*map(torch.tensor, (X, Y))), None),
    "Dataset": lambda path: (Plain(), None),
    "Dask array": lambda path: (da.from_array(X, (150, 20)), Y),
    "Dask arrays": lambda path: (da.from_array(X, (150, -1)), da.from_array(Y, 70)),
    "Dask DataFrame": lambda path: (dd.from_pandas(FRAME, npartitions=3), "digit"),
    "Parquet": lambda path: (write_parquet(path), "digit"),
    "filtered Parquet": lambda path: (write_parquet(path).filter(ds.field("pixel0") >= 0), "digit"),
}


@pytest.fixture(params=list(SOURCES))
def source(request, tmp_path):
    return SOURCES[request.param](tmp_path)


def small(cls=ClassVSCTransformer, **params):
    params = {"hidden_layer_sizes": (16,), "max_epochs": 2, "random_state": 0} | params
    return cls(8, **params)


def state(estimator):
    return {k: v.numpy() for k, v in estimator.module_.state_dict().items()}


def assert_same(a, b):
    a, b = state(a), state(b)
    assert all(np.array_equal(a[name], b[name]) for name in a)


# -- reading -------------------------------------------------------------------------------------


def test_a_source_yields_all_samples_in_order(source):
    chunks = list(as_source(*source).read())
    labels = [str(label).removeprefix("digit ") for chunk in chunks for label in chunk.y]
    assert labels == [str(label) for label in Y]
    dense = [x.toarray() if sparse.issparse(x) else np.asarray(x) for x, _, _ in chunks]
    np.testing.assert_array_equal(np.concatenate(dense), X)


def test_a_source_can_be_read_again(source):
    source = as_source(*source)
    first, second = ([len(chunk.y) for chunk in source.read()] for _ in range(2))
    assert first == second and sum(first) == len(X)


def test_a_shuffle_moves_pieces_or_samples_and_loses_none(source):
    generator = torch.Generator().manual_seed(0)
    source = as_source(*source)
    found = np.concatenate(
        [x.toarray() if sparse.issparse(x) else np.asarray(x) for x, _, _ in source.read(generator)]
    )
    np.testing.assert_array_equal(np.sort(found.sum(1)), np.sort(X.sum(1)))


@pytest.mark.parametrize(
    "table",
    [X, X.tolist(), sparse.csr_array(X), FRAME, memoryview(X), "data.csv", 3, None, {"a": [1]}],
    ids=lambda table: type(table).__name__,
)
def test_what_is_no_source_is_left_to_scikit_learn(table):
    assert as_source(table) is None


def test_columns_of_a_partitioned_dataset_are_read(tmp_path):
    table = pa.Table.from_pandas(FRAME.assign(half=np.arange(len(X)) % 2))
    pq.write_to_dataset(table, tmp_path, partition_cols=["half"])
    parts = ds.dataset(tmp_path, partitioning="hive")
    chunks = list(as_source(parts, "half").read())
    assert sorted(set(np.concatenate([chunk.y for chunk in chunks]))) == [0, 1]
    assert list(chunks[0].X) == [*NAMES, "digit"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: (lambda: iter(PIECES), Y),
            r"y=\[0, .* 600 in all\] was passed with X=.*yield \(X, y\)",
        ),
        (lambda p: (da.from_array(X, 100), Y[:-1]), r"y has the shape \(599,\), but X"),
        (lambda p: (da.from_array(X, 100), dd.from_pandas(FRAME, 2)["digit"]), "y has 2 blocks"),
        (lambda p: (write_parquet(p), "letter"), "y='letter' must name a column"),
        (lambda p: (dd.from_pandas(FRAME, 2), Y), r"y=\[0, .* 600 in all\] must name a column"),
    ],
)
def test_what_does_not_belong_to_a_source_is_refused(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        as_source(*make(tmp_path))


# -- batches -------------------------------------------------------------------------------------


def stream(sizes, **kwargs):
    """A stream of pieces of such sizes, whose samples are numbered."""
    numbers = np.arange(sum(sizes), dtype=np.float64)[:, None]
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    source = Blocks(len(parts), lambda i: iter([Chunk(parts[i])]))
    data = StreamDataset(source, lambda chunk: ArrayDataset(chunk.X, **kwargs), Survey(False))
    for part in parts:
        data.add(part, None, None)
    return data


@pytest.mark.parametrize("sizes", [[10], [7, 1, 1, 8, 3], [1] * 9, [100, 1]])
@pytest.mark.parametrize("seed", [None, 0])
def test_batches_hold_each_sample_once(sizes, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    data = stream(sizes)
    batches = list(data.batched(4, generator))
    assert sorted(torch.cat([batch.x for batch in batches]).flatten().tolist()) == list(
        range(sum(sizes))
    )
    assert max(len(batch.x) for batch in batches) <= 4
    if seed is None:
        assert len(batches) == data.n_batches(4)


def test_small_pieces_are_put_together():
    assert [len(batch.x) for batch in stream([1] * 10).batched(4, None)] == [4, 4, 2]


def test_a_survey_of_pieces_is_that_of_the_whole():
    whole, pieces = Survey(True).add(X), Survey(True)
    for x, _ in PIECES:
        pieces.add(x)
    assert (pieces.n_samples, pieces.low, pieces.high) == (whole.n_samples, whole.low, whole.high)
    for a, b in zip(pieces.standardization(), whole.standardization(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_samples_that_are_picked_come_piece_by_piece():
    def pick(labels):
        return np.flatnonzero(labels >= 0), np.arange(2.0)

    data = stream([3] * 10, labels=np.array([0, -1, 1]))
    found = [
        (some.x[:, 0].tolist(), *(part.tolist() for part in some[1:]))
        for some in data.labeled(pick, 2)
    ]
    assert found == [([3 * i, 3 * i + 2], [0, 1], [0, 1], [1, 1]) for i in range(10)]


# -- fit -----------------------------------------------------------------------------------------


def test_fit_reads_every_source(source):
    estimator = small().fit(*source)
    assert estimator.n_features_in_ == X.shape[1]
    assert len(estimator.classes_) == 10
    first, last = estimator.history_["reconstruction"].iloc[[0, -1]]
    assert last < first
    assert estimator.sample(3, y=estimator.classes_[3]).shape == (3, X.shape[1])


@pytest.mark.parametrize("scale", [1.0, 10.0], ids=["Bernoulli", "Gaussian"])
def test_one_piece_gives_the_batches_of_an_array(scale):
    """Same order, labels, weights and units."""
    weight = np.arange(len(X)) % 3 * 0.7
    estimator = small(likelihood="auto")
    array = check_table(estimator, scale * X, Y, weight, None).data
    piece = check_source(estimator, as_source(lambda: [(scale * X, Y, weight)]), None).data
    standardization = array.survey(True).standardization() if scale > 1 else None
    array.standardization = piece.standardization = standardization
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    rows = EvenBatches(len(array), 128, generators[0])
    assert len(rows) == piece.n_batches(128)
    for a, b in zip(map(array.__getitems__, rows), piece.batched(128, generators[1]), strict=True):
        assert all(torch.equal(*parts) for parts in zip(a[:3], b[:3], strict=True))
        assert not a.incomplete and not b.incomplete


def test_weights_are_relative_over_all_pieces():
    """Pieces of weights 1 and 3 are not pieces of the same weight."""
    pieces = [(X[:300], Y[:300], np.full(300, 1.0)), (X[300:], Y[300:], np.full(300, 3.0))]
    weight = np.repeat([1.0, 3.0], 300)
    together = small(VAETransformer, batch_size=600, max_epochs=1).fit(X, sample_weight=weight)
    apart = small(VAETransformer, batch_size=600, max_epochs=1).fit(lambda: iter(pieces))
    for name, values in state(together).items():
        np.testing.assert_allclose(state(apart)[name], values, atol=1e-5)


@pytest.mark.parametrize("cls", [VAETransformer, VSCTransformer, ClassVSCTransformer])
def test_fit_of_an_iterator_is_partial_fit_of_its_chunks(cls):
    """Chunk after chunk, each divided into batches alike."""
    streamed = small(cls, max_epochs=1, batch_size=40).fit(iter(PIECES))
    chunked = small(cls, max_epochs=1, batch_size=40)
    for x, y in PIECES:
        chunked.partial_fit(x, y)
    assert_same(streamed, chunked)
    pd.testing.assert_frame_equal(streamed.history_, chunked.history_)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "multinomial"])
def test_counts_in_pieces_start_where_those_of_an_array_do(likelihood):
    counts = np.round(16 * X)
    params = {"likelihood": likelihood, "max_epochs": 1, "learning_rate": 1e-12}
    array = state(small(VSCTransformer, **params).fit(counts))
    pieces = state(small(VSCTransformer, **params).fit(lambda: [counts[:200], counts[200:]]))
    for name in ("likelihood.library_size", "decoder_head.bias"):
        np.testing.assert_allclose(pieces[name], array[name], rtol=1e-5)


def test_partial_fit_reads_sources_chunk_by_chunk():
    chunked = small()
    for x, y in PIECES:
        chunked.partial_fit(x, y)
    assert_same(small().partial_fit(iter(PIECES)), chunked)


def test_fit_of_an_iterator_starts_afresh_unless_it_is_to_go_on():
    fitted = small().fit(X, Y)
    fitted.max_epochs = "auto"
    assert_same(fitted.fit(iter(PIECES)), small(max_epochs="auto").fit(iter(PIECES)))
    n_iter = fitted.n_iter_
    assert fitted.set_params(warm_start=True).fit(iter(PIECES)).n_iter_ == n_iter + len(PIECES)


@pytest.mark.parametrize("params", [{"max_epochs": 5}, {"early_stopping": True}])
def test_what_an_iterator_cannot_give_is_refused(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"{name}=.*only once"):
        small(**{"max_epochs": 1} | params).fit(iter(PIECES))


def test_a_fit_to_an_iterator_has_no_checkpoint(tmp_path):
    path = tmp_path / "fit"
    with pytest.raises(ValueError, match=f"checkpoint=.*{path.name}.*only once"):
        small(max_epochs=1).fit(iter(PIECES), checkpoint=path)
    assert not path.exists()


def test_what_pieces_cannot_give_is_refused():
    with pytest.raises(ValueError, match=r"early_stopping=True.*in pieces"):
        small(early_stopping=True).fit(lambda: PIECES)


def test_an_exhausted_iterator_is_refused():
    chunks = iter(PIECES)
    estimator = small(max_epochs=1).fit(chunks)
    with pytest.raises(ValueError, match="X holds no samples"):
        estimator.transform(chunks)
    with pytest.raises(ValueError, match="X holds no samples"):
        small(max_epochs=1).fit(chunks)
    with pytest.raises(ValueError, match="X holds no samples"):
        small().fit(lambda: [])


def test_every_piece_is_checked():
    bad = np.where(X[:5] > 0, np.inf, X[:5])
    with pytest.raises(ValueError, match="X contains infinity"):
        small(VAETransformer).fit(lambda: [X, bad])
    with pytest.raises(ValueError, match="X has 3 features"):
        small(VAETransformer).fit(lambda: [X, X[:, :3]])
    with pytest.raises(ValueError, match=r"X lies in \[0, 32\]"):
        small(VAETransformer, likelihood="bernoulli").fit(lambda: [X, 32 * X])
    with pytest.raises(ValueError, match="requires y"):
        small().fit(lambda: [X])


def test_a_label_that_a_later_reading_brings_is_refused():
    labels = itertools.chain([Y], itertools.repeat(Y + 1))
    with pytest.raises(ValueError, match="y holds the label 10"):
        small().fit(lambda: [(X, next(labels))])


def test_names_of_columns_are_kept(tmp_path):
    estimator = small().fit(write_parquet(tmp_path), "digit")
    assert estimator.feature_names_in_.tolist() == NAMES
    with pytest.raises(ValueError, match="feature names"):
        estimator.transform(ds.dataset(tmp_path))  # the labels are no feature


def test_an_interrupted_iterator_leaves_what_was_learned():
    def chunks():
        yield from PIECES
        raise KeyboardInterrupt

    estimator, chunked = small(max_epochs=1), small(max_epochs=1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(chunks())
    for x, y in PIECES:
        chunked.partial_fit(x, y)
    assert_same(estimator, chunked)
    assert estimator.stop_reason_ == "interrupted"


def test_a_fit_to_pieces_resumes_from_its_checkpoint(tmp_path):
    """Bit for bit, and only with the same pieces."""
    whole = small(max_epochs=4).fit(lambda: iter(PIECES))
    path = tmp_path / "fit"
    reads = itertools.count()

    def interrupted():
        for piece in PIECES:
            if next(reads) == 3 * len(PIECES):  # looked through, and two epochs
                raise KeyboardInterrupt
            yield piece

    with pytest.raises(KeyboardInterrupt):
        small(max_epochs=4).fit(interrupted, checkpoint=path)
    with pytest.raises(ValueError, match=r"other parameters or data: .*X"):
        small(max_epochs=4).fit(lambda: PIECES[::-1], checkpoint=path, resume=True)
    resumed = small(max_epochs=4).fit(lambda: PIECES, checkpoint=path, resume=True)
    assert_same(resumed, whole)


# -- use -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["transform", "activation_proba", "score_samples"])
@pytest.mark.parametrize("kind", [kind for kind in SOURCES if "Parquet" not in kind])
def test_a_fitted_estimator_reads_pieces(method, kind, tmp_path):
    estimator = small().fit(X, Y)
    pieces, names = SOURCES[kind](tmp_path)
    if isinstance(names, str):
        pieces = pieces.drop(columns=names)
    found = getattr(estimator, method)(pieces)
    np.testing.assert_array_equal(found, getattr(estimator, method)(X))


def test_sparse_codes_of_pieces():
    estimator = small(sparse_output=True).fit(X, Y)
    codes = estimator.transform(iter(PIECES))
    assert codes.format == "csr"
    np.testing.assert_array_equal(codes.toarray(), estimator.transform(X).toarray())


# -- memory --------------------------------------------------------------------------------------


def test_a_stream_that_does_not_end_leaves_a_bounded_history():
    estimator = small(VAETransformer)
    for _ in range(1005):
        estimator.partial_fit(X[:8])
    assert len(estimator.history_) == 1000
    assert estimator.n_iter_ == estimator.history_["epoch"].iloc[-1] == 1005
