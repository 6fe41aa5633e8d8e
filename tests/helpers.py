"""What several test files share."""


def small(cls, **parameters):
    """Return an estimator that fits in a moment."""
    defaults = {"n_components": 6, "hidden_layer_sizes": (16,), "max_epochs": 3, "random_state": 0}
    return cls(**defaults | parameters)
