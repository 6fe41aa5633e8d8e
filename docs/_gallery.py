"""The order of the examples: first the tutorials, then by question as in `tutorials.md`."""

ORDER = [
    "start",
    # Tutorials, by kind of data
    "image_factors",
    "table",
    "mixed_table",
    "texts",
    "cells",
    "pipeline",
    # Read a code and judge it
    "report",
    "counterfactual",
    "metric_values",
    "neighbours",
    # Choose parameters
    "n_components",
    "loss_weights",
    "optuna_search",
    # Data with gaps, few labels, or no end
    "missing_values",
    "few_labels",
    "stream",
    # Use it elsewhere
    "serving",
]


def position(filename: str) -> tuple[int, str]:
    """Return the sort key of an example; one that `ORDER` does not name comes last."""
    name = filename.removeprefix("plot_").removesuffix(".py")
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
