"""Specification of fingerprints: the same data, however they are held, and no others."""

import mmap

import numpy as np
import pytest
from scipy import sparse

from sklearn_classvsc import _fingerprints
from sklearn_classvsc._fingerprints import checksum, digest

X = np.random.default_rng(0).normal(size=(3000, 4)) * (np.arange(12000).reshape(3000, 4) % 3 > 0)


@pytest.mark.parametrize("row", [0, 1, 1500, 2999])
@pytest.mark.parametrize("convert", [np.asarray, np.asfortranarray, sparse.csr_array])
def test_every_row_in_memory_counts(row, convert):
    other = X.copy()
    other[row, 1] += 1e-12
    assert checksum(convert(X)) != checksum(convert(other))


def test_the_order_of_rows_and_of_columns_counts():
    sums = {checksum(Z) for Z in (X, X[::-1], X[:, ::-1], X.astype("f4"))}
    assert len(sums) == 4


def test_how_an_array_is_held_does_not_count(monkeypatch):
    expected = checksum(X)
    assert checksum(np.asfortranarray(X)) == checksum(np.repeat(X, 2, axis=0)[::2]) == expected
    monkeypatch.setattr(_fingerprints, "BLOCK", 1000)
    assert checksum(X) == expected


def test_explicit_zeros_duplicates_and_the_order_of_columns_do_not_count():
    expected = checksum(sparse.csr_array(X))
    full = sparse.csr_array(np.ones_like(X))
    full.data[:] = X.ravel()  # a third of them are zeros
    turned = full.copy()
    turned.indices[:] = np.tile([3, 2, 1, 0], 3000)
    turned.data[:] = X[:, ::-1].ravel()
    turned.has_sorted_indices = False
    rows, columns = np.nonzero(X)
    ends = np.r_[0, np.cumsum(2 * (X != 0).sum(1))]
    halves = sparse.csr_array(
        (np.repeat(X[rows, columns] / 2, 2), np.repeat(columns, 2), ends), X.shape
    )
    wide = sparse.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for same in (full, turned, halves, wide):
        before = same.data.copy(), same.indices.copy()
        assert checksum(same) == expected
        assert np.array_equal(same.data, before[0]) and np.array_equal(same.indices, before[1])


def test_a_large_memory_map_is_known_by_some_rows_and_a_small_one_by_all(tmp_path, monkeypatch):
    mapped = np.memmap(tmp_path / "X", float, "w+", shape=X.shape)
    mapped[:] = X
    view = np.asarray(mapped)[:]
    assert checksum(view) == checksum(mapped) == checksum(X)
    monkeypatch.setattr(_fingerprints, "FULL", 1000)
    some = checksum(view)
    assert some != checksum(X)
    view[1] += 1  # not one of the 1,000
    assert checksum(view) == some
    view[0] += 1
    assert checksum(view) != some
    buffer = mmap.mmap(-1, X.nbytes)
    assert checksum(np.frombuffer(buffer, float).reshape(X.shape)) != checksum(np.zeros(X.shape))


def test_labels_count_in_their_order_with_their_type():
    y = np.array([0, 1, 1, 0])
    others = [y[::-1][[1, 0, 2, 3]], y.astype(float), y.astype("i4"), y.astype(bool), y.astype(str)]
    others += [y[:, None], np.array([0, 1, 1.0, None], object), None, list(y[:3])]
    assert len({digest(value) for value in [y, *others]}) == 10


def test_how_strings_are_held_does_not_count():
    names = ["été", "b", "", "\ud800", "a b"]
    same = [
        np.array(names),
        np.array(names, "U40"),
        np.array(names, object),
        np.array(names, ">U9"),
    ]
    assert len({digest(value) for value in same}) == 1
    assert digest(np.array(["ab", "c"])) != digest(np.array(["a", "bc"]))


def test_how_numbers_are_printed_does_not_count():
    values = np.linspace(0, 1, 5000), np.array([1 / 3, "a", None, np.float64(2 / 3)], object)
    expected = digest(*values)
    with np.printoptions(precision=2, threshold=3, legacy="1.13"):
        assert digest(*values) == expected
    other = values[0].copy()
    other[2500] = 0
    assert digest(other) != digest(values[0])
