"""The examples in the order to read them in."""

ORDER = [
    "start",
    "table",
    "mixed_table",
    "missing_values",
    "image_factors",
    "report",
    "pipeline",
    "few_labels",
    "stream",
    "texts",
    "cells",
    "text_counts",
    "metric_values",
    "n_components",
    "loss_weights",
    "optuna_search",
    "neighbours",
    "counterfactual",
    "serving",
]


def position(filename: str) -> tuple[int, str]:
    """Return what to sort the examples by; one without a place comes last."""
    name = filename.removeprefix("plot_").removesuffix(".py")
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
