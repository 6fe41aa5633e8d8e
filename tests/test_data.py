"""Specification of the batches."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch.utils.data import DataLoader

from sklearn_classvsc import _data
from sklearn_classvsc._data import (
    ArrayDataset,
    EvenBatches,
    Rows,
    Standardization,
    chunk_size,
    is_wide,
    seed_from,
)

quick = settings(max_examples=50, deadline=None)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def array(n=20, p=4, seed=0):
    return np.random.default_rng(seed).integers(-50, 50, size=(n, p)).astype(np.float64)


def read_only(X):
    X.flags.writeable = False
    return X


STORAGES = {
    "float64": lambda X, path: X,
    "float32": lambda X, path: X.astype(np.float32),
    "Fortran order": lambda X, path: np.asfortranarray(X, dtype=np.float32),
    "int64": lambda X, path: X.astype(np.int64),
    "int8": lambda X, path: X.astype(np.int8),
    "big-endian": lambda X, path: X.astype(">f4"),
    "strided": lambda X, path: np.repeat(np.repeat(X, 2, 0), 3, 1).astype(np.float32)[::2, ::3],
    "read-only": lambda X, path: read_only(X.astype(np.float32)),
    "CSR matrix": lambda X, path: sparse.csr_matrix(X),
    "CSR array": lambda X, path: sparse.csr_array(X.astype(np.float32)),
}


def memory_map(X, path, mode="r"):
    np.save(path / "X.npy", X.astype(np.float32))
    return np.load(path / "X.npy", mmap_mode=mode)


STORAGES["read-only memory map"] = memory_map


@pytest.fixture(params=list(STORAGES))
def stored(request, tmp_path):
    """The samples of `array()`, stored in one way or another."""
    return STORAGES[request.param](array(), tmp_path)


ROWS = [
    pytest.param(np.array([3, 1, 17]), id="some"),
    pytest.param(np.arange(20), id="all"),
    pytest.param(slice(5, 12), id="slice"),
    pytest.param(slice(0, 20), id="whole slice"),
    pytest.param(np.array([7]), id="one"),
]


# Samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", ROWS)
def test_samples_are_the_rows_as_contiguous_float32(stored, rows):
    x = ArrayDataset(stored).samples(rows)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    np.testing.assert_array_equal(x, array()[rows].astype(np.float32))


@pytest.mark.parametrize("standardization", [None, Standardization(np.zeros(4), np.ones(4))])
@pytest.mark.parametrize("rows", ROWS)
def test_a_batch_is_never_a_view_of_the_callers_memory(stored, rows, standardization):
    x = ArrayDataset(stored, standardization=standardization).samples(rows)
    x.fill_(1e9)
    after = stored.toarray() if sparse.issparse(stored) else stored
    np.testing.assert_array_equal(after, array())


def test_a_batch_never_reaches_a_writable_memory_map(tmp_path):
    X = memory_map(array(), tmp_path, mode="r+")
    for rows in (slice(0, 20), np.arange(20)):
        ArrayDataset(X).samples(rows).fill_(1e9)
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), array())


def test_samples_are_standardised_in_the_precision_of_the_data(stored):
    standardization = Standardization(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2, 4, 8]))
    x = ArrayDataset(stored, standardization=standardization).samples(np.arange(20))
    expected = (array() - standardization.offset) / standardization.scale
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x, expected.astype(np.float32))


def test_a_batch_takes_the_memory_of_one_batch(tmp_path):
    X = memory_map(np.zeros((400, 1000)), tmp_path)
    standardization = Standardization(np.ones(1000, np.float32), np.full(1000, 2, np.float32))
    dataset = ArrayDataset(X, standardization=standardization)
    indices = np.arange(0, 400, 2)
    tracemalloc.start()
    try:
        x = dataset.samples(indices)
        assert tracemalloc.get_traced_memory()[1] < 1.1 * x.numpy().nbytes
    finally:
        tracemalloc.stop()
    assert torch.equal(x, torch.full((200, 1000), -0.5))


def test_a_large_offset_costs_no_precision():
    X = 1e8 + np.random.default_rng(0).normal(size=(50, 2))
    standardization = Standardization(X.mean(axis=0), X.std(axis=0))
    x = ArrayDataset(X, standardization=standardization).samples(slice(0, 50))
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0, correction=0), 1, rtol=1e-6)


@quick
@given(st.floats(-1e8, 1e8), st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_standardising_and_undoing_it_is_a_round_trip(offset, scale, seed):
    X = offset + scale * np.random.default_rng(seed).normal(size=(10, 3))
    standardization = Standardization(np.full(3, offset), np.full(3, scale))
    back = standardization.undo(standardization.apply(X))
    assert back.dtype == np.float64
    # In the units of the noise: what rounding X itself costs, at an offset of 1e8 about 1e-8.
    tolerance = 4 * (np.spacing(abs(X).max()) + np.spacing(abs(offset)))
    np.testing.assert_allclose(back, X, rtol=0, atol=tolerance)


def test_undo_is_in_the_precision_of_the_offset():
    standardization = Standardization(np.array([1e8]), np.array([2.0]))
    back = standardization.undo(np.array([[0.25], [0.5]], dtype=np.float32))
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, [[1e8 + 0.5], [1e8 + 1]])


def test_what_overflows_becomes_infinite_in_silence(recwarn):
    x = ArrayDataset(np.array([[1e300, -1e300, 1.0]])).samples(slice(0, 1))
    assert x.tolist() == [[np.inf, -np.inf, 1.0]]
    assert not recwarn


@pytest.mark.parametrize("batch_size", [1, 6, 20, 100])
def test_slices_are_the_samples_in_order(stored, batch_size):
    parts = list(ArrayDataset(stored).slices(batch_size))
    assert max(map(len, parts)) <= batch_size
    np.testing.assert_array_equal(torch.cat(parts), array().astype(np.float32))


# Batches ---------------------------------------------------------------------------------------


def test_a_batch_holds_samples_labels_and_weights_of_the_same_rows(stored):
    labels = np.arange(20) % 3 - 1
    weight = np.arange(20, dtype=np.float32)
    rows = np.array([2, 9, 4])
    batch = ArrayDataset(stored, labels, weight).__getitems__(rows)
    np.testing.assert_array_equal(batch.x, array()[rows].astype(np.float32))
    np.testing.assert_array_equal(batch.labels, labels[rows])
    np.testing.assert_array_equal(batch.weight, weight[rows])
    assert (batch.labels.dtype, batch.weight.dtype) == (torch.int64, torch.float32)


def test_labels_and_weights_are_copied_too():
    labels, weight = np.arange(20), np.ones(20, np.float32)
    batch = ArrayDataset(array(), labels, weight).__getitems__(slice(0, 20))
    batch.labels.fill_(9)
    batch.weight.fill_(9)
    np.testing.assert_array_equal(labels, np.arange(20))
    np.testing.assert_array_equal(weight, np.ones(20))


def test_without_labels_and_weights_there_are_none_and_all_count_one():
    batch = ArrayDataset(array()).__getitems__(np.arange(5))
    assert batch.labels.tolist() == [-1] * 5
    assert batch.weight.tolist() == [1.0] * 5
    assert (batch.labels.dtype, batch.weight.dtype) == (torch.int64, torch.float32)


def test_an_item_is_a_batch_of_one(stored):
    dataset = ArrayDataset(stored, np.arange(20))
    assert len(dataset) == 20
    batch = dataset[7]
    np.testing.assert_array_equal(batch.x, array()[[7]].astype(np.float32))
    assert batch.labels.tolist() == [7]


class Counting(ArrayDataset):
    """Counts how often it is asked for a batch, and for a sample."""

    batches = samples_one_by_one = 0

    def __getitems__(self, indices):
        self.batches += 1
        return super().__getitems__(indices)

    def __getitem__(self, index):
        self.samples_one_by_one += 1
        return super().__getitem__(index)


def test_a_data_loader_fetches_whole_batches(stored):
    dataset = Counting(stored, np.arange(20))
    loader = DataLoader(
        dataset, batch_sampler=EvenBatches(20, 6, seeded()), collate_fn=lambda batch: batch
    )
    batches = list(loader)
    assert (dataset.batches, dataset.samples_one_by_one) == (len(batches), 0)
    labels = torch.cat([batch.labels for batch in batches])
    x = torch.cat([batch.x for batch in batches])
    assert sorted(labels.tolist()) == list(range(20))
    np.testing.assert_array_equal(x, array()[labels].astype(np.float32))


# Indices ---------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 500), st.integers(1, 600), st.booleans())
def test_batches_hold_each_index_once_and_are_even(n, batch_size, shuffle):
    batches = EvenBatches(n, batch_size, seeded() if shuffle else None)
    parts = list(batches)
    sizes = [len(part) for part in parts]
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert len(batches) == len(parts) == int(np.ceil(n / batch_size))
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_without_a_generator_the_order_is_kept():
    for _ in range(2):
        assert np.concatenate(list(EvenBatches(25, 4))).tolist() == list(range(25))


def test_each_epoch_is_shuffled_anew():
    batches = EvenBatches(40, 10, seeded())
    first, second = ([part.tolist() for part in batches] for _ in range(2))
    assert first != second


def test_batches_read_in_ascending_order():
    for part in EvenBatches(40, 10, seeded()):
        assert (np.diff(part) > 0).all()


def test_shuffles_come_from_the_generator_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (
        [part.tolist() for part in EvenBatches(40, 10, seeded(seed))] for seed in (0, 0, 1)
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_any_two_samples_can_share_a_batch():
    batches = EvenBatches(6, 2, seeded())
    pairs = {tuple(part.tolist()) for _ in range(200) for part in batches}
    assert len(pairs) == 15


# Seeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("random_state", [7, np.int32(7), np.uint64(7)])
def test_an_integer_is_the_seed(random_state):
    seed = seed_from(random_state)
    assert type(seed) is int
    assert seed == 7


def test_a_random_state_is_drawn_from():
    rng = np.random.RandomState(0)
    first, second = seed_from(rng), seed_from(rng)
    assert first != second
    assert seed_from(np.random.RandomState(0)) == first


def test_none_is_a_fresh_seed_each_time():
    assert len({seed_from(None) for _ in range(20)}) == 20


@pytest.mark.parametrize("random_state", [None, 0, 2**32 - 1, np.random.RandomState(1)])
def test_a_seed_leaves_the_global_state_alone_and_suits_torch(random_state):
    state = np.random.get_state()[1].copy()
    torch.Generator().manual_seed(seed_from(random_state))
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_borrowed_slices_are_views_where_nothing_forbids_it():
    X = np.arange(12, dtype=np.float32).reshape(4, 3)
    (x,) = ArrayDataset(X).slices(4, borrow=True)
    assert np.shares_memory(x.numpy(), X)
    (x,) = ArrayDataset(X).slices(4)
    assert not np.shares_memory(x.numpy(), X)
    X.flags.writeable = False
    (x,) = ArrayDataset(X).slices(4, borrow=True)
    assert not np.shares_memory(x.numpy(), X)


# -- surveys and rows ------------------------------------------------------------------------------


def test_a_survey_knows_range_mean_and_deviation(stored):
    X = array()
    survey = ArrayDataset(stored).survey(moments=True)
    assert (survey.n_samples, survey.n_features) == X.shape
    assert (survey.low, survey.high, survey.magnitude) == (X.min(), X.max(), abs(X).max())
    offset, scale = survey.standardization()
    np.testing.assert_allclose(scale, X.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(offset, X.mean(axis=0), rtol=1e-6)


def test_rows_are_read_again_only_for_what_was_not_looked_for():
    X = array()
    data = ArrayDataset(X)
    ranges = data.survey(False)
    moments = data.survey(True)
    assert ranges is not moments and data.survey(False) is moments is data.survey(True)
    assert data.survey(False, ends=True) is not moments


def test_a_survey_counts_samples_by_their_weights():
    X, weight = array(), np.arange(20, dtype=np.float32)
    offset, scale = ArrayDataset(X, weight=weight).survey(moments=True).standardization()
    mean = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(offset, mean)
    np.testing.assert_allclose(scale, np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight)))


@pytest.mark.parametrize("indices", ROWS)
def test_rows_of_a_table_are_read_when_asked_for(stored, indices):
    kept = np.flatnonzero(np.arange(40) % 2)[:20] % 20
    rows = Rows(stored, np.sort(kept))
    assert rows.shape == (20, 4)
    expected = array()[np.sort(kept)][indices]
    np.testing.assert_array_equal(ArrayDataset(rows).samples(indices), expected.astype(np.float32))


def test_held_out_parts_are_no_copies(tmp_path):
    data = ArrayDataset(memory_map(array(), tmp_path))
    kept, held = data.hold_out(0.25, 0)
    assert (len(kept), len(held)) == (15, 5)
    assert kept.X.X is data.X and held.X.X is data.X


# Wide sparse data ------------------------------------------------------------------------------


@pytest.fixture
def wide(monkeypatch):
    """Let four features be many."""
    monkeypatch.setattr(_data, "WIDE", 4)


def counts(n=20, p=4):
    return sparse.csr_array(np.maximum(array(n, p), 0))


def test_width_alone_says_what_stays_sparse():
    p = _data.WIDE
    assert is_wide(sparse.csr_array((2, p)))
    assert is_wide(sparse.csr_matrix(np.ones((2, p))))
    assert not is_wide(sparse.csr_array((2, p - 1)))
    assert not is_wide(np.zeros((2, p)))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, bool])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_sparse_batches_are_coalesced_tensors_of_the_same_values(wide, rows, dtype, index):
    X = counts().astype(dtype)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    x = ArrayDataset(X).samples(rows)
    assert x.is_sparse
    assert x.is_coalesced()
    assert x.dtype == torch.float32
    checked = torch.sparse_coo_tensor(x.indices(), x.values(), x.shape, check_invariants=True)
    np.testing.assert_array_equal(checked.to_dense(), X.toarray()[rows].astype(np.float32))
    x.values().fill_(9)
    np.testing.assert_array_equal(X.toarray(), counts().astype(dtype).toarray())


def test_cells_that_come_twice_or_in_no_order_are_added_up_in_a_copy(wide):
    data, columns = np.array([1.0, 2, 3, 4]), np.array([2, 0, 2, 1])
    X = sparse.csr_array((data, columns, [0, 3, 4]), shape=(2, 4))
    x = ArrayDataset(X).samples(slice(0, 2))
    assert x.is_coalesced()
    assert x.indices().tolist() == [[0, 0, 1], [0, 2, 1]]
    np.testing.assert_array_equal(x.to_dense(), [[2, 0, 4, 0], [0, 4, 0, 0]])
    assert X.indices.tolist() == [2, 0, 2, 1]


def test_wide_sparse_data_are_scaled_and_not_centred(wide):
    X = counts()
    standardization = ArrayDataset(X).survey(moments=True).standardization()
    np.testing.assert_array_equal(standardization.offset, 0)
    np.testing.assert_allclose(standardization.scale, X.toarray().std(axis=0))
    x = ArrayDataset(X, standardization=standardization).samples(slice(0, 20))
    assert x.is_sparse
    np.testing.assert_allclose(x.to_dense(), X.toarray() / standardization.scale, rtol=1e-6)


def test_an_offset_makes_them_dense(wide):
    standardization = Standardization(np.array([1.0, 0, 0, 0]), np.ones(4))
    x = ArrayDataset(counts(), standardization=standardization).samples(slice(0, 20))
    assert not x.is_sparse
    np.testing.assert_array_equal(x, counts().toarray() - [1, 0, 0, 0])


def test_parts_of_them_are_sparse_too(wide):
    kept, held = ArrayDataset(counts()).hold_out(0.3, 0)
    assert kept.samples(slice(0, 9)).is_sparse
    assert held.samples(slice(0, 9)).is_sparse


def test_of_wide_dense_data_fewer_rows_are_looked_at():
    assert chunk_size(4) == chunk_size(16_384) == _data.CHUNK
    assert chunk_size(100_000) == 167
    assert chunk_size(10**9) == 1


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_means_of_counts_are_weighted(container, monkeypatch):
    monkeypatch.setattr(_data, "CHUNK", 7)
    X, weight = container(counts().toarray()), np.arange(20, dtype=np.float32)
    dense = counts().toarray()
    np.testing.assert_allclose(ArrayDataset(X).survey(True).means(), dense.mean(axis=0), rtol=1e-6)
    weighted = ArrayDataset(X, weight=weight).survey(True).means()
    np.testing.assert_allclose(weighted, np.average(dense, axis=0, weights=weight), rtol=1e-6)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("several", [False, True], ids=["labels", "indicator"])
@pytest.mark.parametrize("seed", range(5))
def test_every_class_keeps_a_row_to_train_on(fraction, several, seed):
    labels = np.full(40, -1)
    labels[[3, 17, 18]] = [0, 1, 1]
    if several:
        labels = labels[:, None] == np.arange(2)
    data = ArrayDataset(np.arange(40.0)[:, None], labels)
    kept, held = data.hold_out(fraction, seed)
    rows = [part.samples(np.arange(len(part)))[:, 0].tolist() for part in (kept, held)]
    assert sorted(rows[0] + rows[1]) == list(range(40))
    assert len(held) == 40 * fraction
    found = kept.labels.any(0).sum() if several else len(set(kept.labels.tolist()) - {-1})
    assert found == 2
