"""What several test files share."""

from itertools import cycle, islice


def covering(*axes):
    """Return few tuples in which each value of each axis comes at least once, not each pair."""
    n = max(map(len, axes))
    return list(zip(*(islice(cycle(axis), n) for axis in axes), strict=True))


def small(cls, **parameters):
    """Return an estimator that fits in a moment."""
    defaults = {"n_components": 6, "hidden_layer_sizes": (16,), "max_epochs": 3, "random_state": 0}
    return cls(**defaults | parameters)


def expected_failures(estimator):
    """Return which of scikit-learn's checks must fail, and why."""
    reason = "noise and minibatches are stochastic; see test_sample_weight_equals_repetition"
    return {
        "check_sample_weight_equivalence_on_dense_data": reason,
        "check_sample_weight_equivalence_on_sparse_data": reason,
    }
