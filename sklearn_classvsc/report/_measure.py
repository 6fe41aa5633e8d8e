"""What the report says, as numbers: estimator, X and y -> plain Python, and the decoded arrays.

The figures are of all rows; effects, the linear probe and the examples are of `Inputs.rows`.
"""

from __future__ import annotations

import platform
import warnings
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_classvsc

from .. import metrics
from .._collapse import CollapseWarning, warn_of_collapse
from ..displays._sharing import similarity_order
from ..labels import take
from ..metrics._counts import ClassCounts, class_counts, to_dense
from ._effects import ON, Effects, add_effects, measure_effects
from ._inputs import Inputs
from ._words import class_sentence, summary, warning_texts

#: Label shuffles of the control.
SHUFFLES = 5


class Findings(NamedTuple):
    """What `to_dict` gives, and the arrays behind the pictures."""

    data: dict[str, Any]
    effects: Effects
    examples: NDArray[np.float64]  # (C, f), the first sample of each class
    decoded: NDArray[np.float64]  # (C, f)


def measure(inputs: Inputs, title: str) -> Findings:
    """Measure everything that is reported."""
    est, y, rows = inputs.est, inputs.y, inputs.rows
    Z = np.asarray(to_dense(est.transform(inputs.X)))
    counts, roles = class_counts(Z, y), metrics.dimension_roles(Z, y)
    sharing = metrics.class_sharing_matrix(Z, y)
    effects = measure_effects(inputs, counts.rates, roles["specificity"].to_numpy())
    samples = np.asarray(to_dense(take(inputs.X, rows)), dtype=np.float64)
    decoded = np.asarray(est.inverse_transform(Z[rows]), dtype=np.float64)
    data: dict[str, Any] = {
        "title": title,
        "estimator": _describe(est),
        "data": {
            "n_samples": len(y),
            "n_features": len(inputs.feature_names),
            "n_unlabeled_left_out": inputs.n_unlabeled,
            "n_samples_inspected": len(rows),
            "image_shape": inputs.image_shape and [*inputs.image_shape],
            "feature_names": inputs.feature_names,
        },
        "figures": _figures(inputs, Z, sharing, roles) | _probe(Z[rows], inputs.labels[rows]),
        "classes": _classes(inputs, counts, sharing, effects),
        "dimensions": _dimensions(counts, roles, effects),
        "activation_rates": counts.rates.round(4).tolist(),
        "class_sharing": _numbers(sharing.round(4)),
        "class_order": similarity_order(sharing).tolist(),
        "feature_fidelity": _feature_fidelity(inputs.feature_names, samples, decoded),
        "history": _history(est.history_),
    }
    add_effects(data["dimensions"], effects.of_dimensions, inputs, effects.scale)
    add_effects(data["classes"], effects.of_classes, inputs, effects.scale)
    for c, entry in enumerate(data["classes"]):
        entry["sentence"] = class_sentence(c, data)
    data["summary"] = summary(data)
    data["warnings"] = warning_texts(data, _collapse_messages(inputs, counts))
    first = np.unique(inputs.labels[rows], return_index=True)[1]
    return Findings(data, effects, samples[first], decoded[first])


# -- figures ---------------------------------------------------------------------------------------


def _figures(
    inputs: Inputs, Z: NDArray[Any], sharing: NDArray[np.float64], roles: pd.DataFrame
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shuffled = [metrics.class_contrast_score(Z, rng.permutation(inputs.y)) for _ in range(SHUFFLES)]
    return {
        "explained_variance": float(metrics.fidelity_scorer(inputs.est, inputs.X)),
        "active_dimensions": float((Z != 0).sum(axis=1).mean()),
        "roles": {role: int((roles["role"] == role).sum()) for role in metrics.ROLES},
        "class_consistency": metrics.class_consistency_score(Z, inputs.y),
        "class_sharing": float(sharing[~np.eye(len(sharing), dtype=bool)].mean()),
        "nonglobal_contrast": metrics.class_contrast_score(Z, inputs.y),
        "nonglobal_contrast_shuffled": float(np.mean(shuffled)),
    }


def _probe(Z: NDArray[Any], labels: NDArray[np.intp]) -> dict[str, float]:
    """Train a linear classifier on half of each class, at random, and score it on the rest."""
    rank = pd.Series(np.random.default_rng(0).random(len(labels))).groupby(labels).rank().to_numpy()
    train, test = rank % 2 == 1, rank % 2 == 0
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    with warnings.catch_warnings():  # near enough for a figure of two digits
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(Z[train], labels[train])
    return {
        "probe_accuracy": float(classifier.score(Z[test], labels[test])),
        "probe_chance": float(np.bincount(labels[test]).max() / test.sum()),
    }


def _collapse_messages(inputs: Inputs, counts: ClassCounts) -> list[str]:
    """Return what training would warn of, had it ended on these data."""
    if not isinstance(inputs.est, sklearn_classvsc.ClassVSCTransformer):
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CollapseWarning)
        warn_of_collapse(counts.rates, np.array(inputs.class_names, dtype=object))
    return [str(warning.message) for warning in caught]


def _feature_fidelity(
    names: list[str], X: NDArray[np.float64], X_hat: NDArray[np.float64]
) -> list[dict[str, Any]]:
    error, variance = X - X_hat, X.var(axis=0)
    explained = 1 - error.var(axis=0) / np.where(variance > 0, variance, np.nan)
    columns = explained, np.sqrt((error**2).mean(axis=0)), np.sqrt(variance)
    keys = "explained_variance", "rmse", "standard_deviation"
    return [
        {"feature": name} | dict(zip(keys, values, strict=True))
        for name, values in zip(names, _numbers(np.column_stack(columns)), strict=True)
    ]


# -- what classes have, and dimensions do ----------------------------------------------------------


def _classes(
    inputs: Inputs, counts: ClassCounts, sharing: NDArray[np.float64], effects: Effects
) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "name": name,
            "n_samples": int(counts.sizes[c]),
            "active_dimensions": float(counts.rates[c].sum()),
            "consistency": _number(sharing[c, c]),
            "dimension": _factor(counts.rates[c], effects.order[c]),
        }
        for c, (label, name) in enumerate(
            zip(counts.classes.tolist(), inputs.class_names, strict=True)
        )
    ]


def _dimensions(counts: ClassCounts, roles: pd.DataFrame, effects: Effects) -> list[dict[str, Any]]:
    position = {label: c for c, label in enumerate(counts.classes.tolist())}
    rows: Any = roles.itertuples(index=False)  # its types are too wide for mypy
    return [
        {
            "dimension": j,
            "role": str(role.role),
            "classes": [position[label] for label in role.classes],
            "specificity": _number(round(role.specificity, 4)),
            "density": float(role.density),
            "inert": bool(effects.inert[j]),
        }
        for j, role in enumerate(rows)
    ]


def _factor(rates: NDArray[np.float64], ranked: list[int]) -> int | None:
    """Return the most specific dimension that a class has."""
    return ranked[0] if ranked and rates[ranked[0]] >= ON else None


# -- what was trained ------------------------------------------------------------------------------


def _describe(est: Any) -> dict[str, Any]:
    libraries = ["sklearn-classvsc", "scikit-learn", "torch", "skorch", "numpy"]
    return {
        "name": type(est).__name__,
        "sparse": bool(est.gated),
        "uses_labels": isinstance(est, sklearn_classvsc.ClassVSCTransformer),
        "n_components": int(est.n_components),
        "parameters": {name: repr(value) for name, value in est.get_params(deep=False).items()},
        "n_epochs": int(est.n_iter_),
        "stop_reason": str(est.stop_reason_),
        "versions": {"python": platform.python_version()} | {x: version(x) for x in libraries},
    }


def _history(history: pd.DataFrame) -> dict[str, list[float | None]]:
    numeric = history.select_dtypes("number")
    return {str(name): _numbers(numeric[[name]].T.to_numpy(float))[0] for name in numeric}


def _numbers(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in matrix]


def _number(value: float) -> float | None:
    """Return a float, or None: JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
