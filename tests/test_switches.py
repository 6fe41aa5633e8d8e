"""Which dimensions switch together, and what supports say beyond the class."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import entropy

from sklearn_classvsc.metrics import independent_switches, support_information


def switched(n=400, seed=0):
    """Codes of three switches of two, one and three dimensions, one always on, and one never."""
    rng = np.random.default_rng(seed)
    on = rng.random((n, 3)) < [0.5, 0.3, 0.1]
    A = on[:, [0, 1, 0, 2, 2, 2]]
    return np.column_stack([A, np.ones(n), np.ones(n), np.zeros(n)]) * rng.normal(3, 1, (n, 9))


def test_dimensions_that_are_on_together_are_one_switch():
    assert independent_switches(switched()).tolist() == [0, 1, 0, 2, 2, 2, 3, 4, -1]
    assert independent_switches(csr_array(switched())).tolist() == [0, 1, 0, 2, 2, 2, 3, 4, -1]


def test_opposite_switches_are_two():
    on = np.arange(20) % 2
    assert independent_switches(np.c_[on, 1 - on]).tolist() == [0, 1]


def test_the_threshold_is_that_of_the_correlation_of_supports():
    A = switched()
    A[:20, 0] = 0
    correlation = np.corrcoef(A[:, 0] != 0, A[:, 2] != 0)[0, 1]
    together = independent_switches(A, correlation - 1e-6)
    apart = independent_switches(A, correlation + 1e-6)
    assert together[0] == together[2] and apart[0] != apart[2]


def test_a_dimension_that_is_nearly_always_on_belongs_to_no_always_on_one():
    on = np.ones((50, 3))
    on[0, 2] = 0
    assert independent_switches(on).tolist() == [0, 1, 2]


def test_of_no_used_dimension_there_is_no_switch():
    assert independent_switches(np.zeros((4, 3))).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("threshold", [-0.1, 1, "a"])
def test_a_threshold_that_is_no_correlation_is_refused(threshold):
    with pytest.raises((ValueError, TypeError), match="threshold"):
        independent_switches(np.ones((4, 3)), threshold)


def test_support_information_is_the_entropy_of_supports_in_classes():
    rng = np.random.default_rng(0)
    A, y = rng.random((300, 3)) < 0.4, rng.integers(0, 3, 300)
    expected = 0.0
    for c in range(3):
        _, counts = np.unique(A[y == c] @ [1, 2, 4], return_counts=True)
        expected += (y == c).mean() * entropy(counts)
    assert support_information(A, y) == pytest.approx(expected)
    assert support_information(csr_array(A.astype(float)), y) == pytest.approx(expected)


def test_a_support_that_names_the_class_says_nothing_more():
    y = np.repeat([0, 1, 2], 5)
    assert support_information(np.eye(3)[y], y) == 0
    assert support_information(np.zeros((15, 3)), y) == 0
    assert support_information(np.eye(15), y) == pytest.approx(np.log(5))
