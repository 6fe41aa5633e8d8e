"""The findings of the report, computed from estimator, X and y.

Figures use all samples; effects, baselines and examples use `Inputs.rows`.
"""

from __future__ import annotations

import platform
import warnings
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import spearmanr

import sklearn_classvsc

from .. import metrics
from .._collapse import CollapseWarning, warn_of_collapse
from .._comparison import differences_by_codes
from ..displays._sharing import similarity_order
from ..metrics._counts import ClassCounts, class_counts, to_dense
from ..metrics._fidelity import Fidelity, measure_fidelity
from . import _baselines, _words
from ._factors import Factor, Factors, measure_factors, told_by
from ._inputs import Inputs

#: Features named for a class.
CLASS_FEATURES = 8


class Findings(NamedTuple):
    """The dictionary of `FactorReport.to_dict`, and the arrays behind the pictures."""

    data: dict[str, Any]
    inputs: Inputs
    factors: Factors
    examples: NDArray[np.float64]  # (C, f), the first sample of each class
    decoded: NDArray[np.float64]  # (C, f)
    differences: dict[str, NDArray[np.float64]]  # "counterfactual" and "difference", (C, f)


def measure(inputs: Inputs, title: str) -> Findings:
    """Measure everything that the page reports."""
    est, y, rows, Z = inputs.est, inputs.y, inputs.rows, inputs.Z
    counts, roles = class_counts(Z, y), metrics.dimension_roles(Z, y)
    sharing = metrics.class_sharing_matrix(Z, y)
    kept = measure_fidelity(
        inputs.known(slice(None)),
        lambda block: est.inverse_transform(Z[block]),
        inputs.core.likelihood_,
    )
    factors = measure_factors(inputs, counts, roles)
    frame = differences_by_codes(est, inputs.known(rows), csr_array(Z[rows]), y[rows])
    kinds = ("counterfactual", "difference")
    differences = {kind: frame.xs(kind, level="kind").to_numpy() for kind in kinds}
    recurrence = _baselines.recurrence(inputs)
    data: dict[str, Any] = {
        "title": title,
        "estimator": _describe(inputs),
        "data": {
            "n_samples": len(y),
            "n_features": len(inputs.feature_names),
            "n_unlabeled_left_out": inputs.n_unlabeled,
            "missing": inputs.missing,
            "n_samples_inspected": len(rows),
            "image_shape": inputs.image_shape and [*inputs.image_shape],
            "feature_names": inputs.feature_names,
            "measure": factors.scale.measure,
        },
        "figures": _figures(inputs, kept, sharing, roles, factors, recurrence),
        "classes": _classes(inputs, counts, sharing, factors, differences),
        "factors": [_factor(f, inputs, factors, recurrence) for f in factors.factors],
        "dimensions": _dimensions(counts, roles, factors, recurrence),
        "names": {str(j): name for j, name in sorted(inputs.names.items())},
        "activation_rates": counts.rates.round(4).tolist(),
        "class_sharing": _numbers(sharing.round(4)),
        "class_order": similarity_order(sharing).tolist(),
        "feature_fidelity": _feature_fidelity(inputs.feature_names, kept),
        "generalization": {
            str(name): {"training": _number(row.training), "held_out": _number(row.held_out)}
            for name, row in inputs.core.generalization_.iterrows()
        },
        "history": _history(inputs.core.history_),
    }
    for entry in data["factors"]:
        entry["sentence"] = _words.factor_sentence(entry, data)
    for entry in data["classes"]:
        entry["sentence"] = _words.class_sentence(entry, data)
    data["summary"] = _words.summary(data)
    data["trust"] = _words.trust(data)
    data["warnings"] = _words.warning_texts(data, _collapse_messages(inputs, counts))
    first = rows[np.unique(inputs.labels[rows], return_index=True)[1]]
    examples = np.asarray(to_dense(inputs.X[first]), dtype=np.float64)
    decoded = np.asarray(est.inverse_transform(Z[first]), dtype=np.float64)
    return Findings(data, inputs, factors, examples, decoded, differences)


# -- figures ---------------------------------------------------------------------------------------


def _figures(
    inputs: Inputs,
    kept: Fidelity,
    sharing: NDArray[np.float64],
    roles: pd.DataFrame,
    factors: Factors,
    recurrence: _baselines.Recurrence | None,
) -> dict[str, Any]:
    Z, y, rows = inputs.Z, inputs.y, inputs.rows
    active = float((Z != 0).sum(axis=1).mean())
    linear, n_numbers, linear_kept = _baselines.linear_codes(inputs, round(active))
    labels = inputs.labels[rows]
    again = None if recurrence is None else recurrence.of_dimensions[factors.switches >= 0]
    return {
        "fidelity": kept.score,
        "fidelity_measure": kept.measure,
        "pooled_explained_variance": kept.pooled,
        "baseline": linear,
        "baseline_numbers": n_numbers,
        "baseline_fidelity": linear_kept.score,
        "baseline_pooled_explained_variance": linear_kept.pooled,
        "active_dimensions": active,
        "n_factors": len(factors.factors),
        "roles": {role: int((roles["role"] == role).sum()) for role in metrics.ROLES},
        "support_information": metrics.support_information(Z, y),
        "class_consistency": metrics.class_consistency_score(Z, y),
        "class_sharing": float(sharing[~np.eye(len(sharing), dtype=bool)].mean()),
        "nonglobal_contrast": metrics.class_contrast_score(Z, y),
        "nonglobal_contrast_of_refits": _baselines.contrast_of_refits(inputs),
        "probe_accuracy": _baselines.linear_accuracy(Z[rows], labels),
        "probe_accuracy_of_features": _baselines.linear_accuracy(inputs.inspected, labels),
        "probe_chance": _baselines.commonest(labels),
        "recurrence": None if again is None else _mean(again),
        "recurrence_by_chance": None if recurrence is None else recurrence.chance,
        "n_refits": inputs.n_refits,
    }


def _collapse_messages(inputs: Inputs, counts: ClassCounts) -> list[str]:
    """Return the warnings that training would give if it had ended with these activations."""
    if not _uses_labels(inputs.core):
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CollapseWarning)
        warn_of_collapse(counts.rates, np.array(inputs.class_names, dtype=object))
    # The page lists unused dimensions elsewhere.
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if "says little about the classes" in text]


def _feature_fidelity(names: list[str], kept: Fidelity) -> list[dict[str, Any]]:
    columns = kept.explained_variance, kept.rmse, np.sqrt(kept.variance)
    keys = "explained_variance", "rmse", "standard_deviation"
    return [
        {"feature": name} | dict(zip(keys, values, strict=True))
        for name, values in zip(names, _numbers(np.column_stack(columns)), strict=True)
    ]


# -- classes and factors ---------------------------------------------------------------------------


def _classes(
    inputs: Inputs,
    counts: ClassCounts,
    sharing: NDArray[np.float64],
    factors: Factors,
    differences: dict[str, NDArray[np.float64]],
) -> list[dict[str, Any]]:
    entries = []
    for c, (label, name) in enumerate(
        zip(counts.classes.tolist(), inputs.class_names, strict=True)
    ):
        code, data = (differences[kind][c] for kind in ("counterfactual", "difference"))
        own = [f for f in factors.factors if c in f.classes]
        entry = {
            "label": label,
            "name": name,
            "n_samples": int(counts.sizes[c]),
            "active_dimensions": float(counts.rates[c].sum()),
            "consistency": _number(sharing[c, c]),
            "factors": [f.dimensions[0] for f in sorted(own, key=lambda f: len(f.classes))],
            "agreement": _agreement(code, data, factors),
            "marks": [
                _effect(i, code, factors, inputs)
                | {"difference": float(data[i]), "relative_difference": _of(data, i, factors)}
                for i in factors.scale.top(code, CLASS_FEATURES)
            ],
        }
        if inputs.image_shape:
            entry["picture"] = _regions(code, factors)
        entries.append(entry)
    return entries


def _agreement(
    code: NDArray[np.float64], data: NDArray[np.float64], factors: Factors
) -> float | None:
    """Return the correlation over features of what the code and the data say about a class.

    It is a rank correlation. For counts it is Pearson's, since most words have nothing to do with a
    class and their ranks are noise.
    """
    scale = factors.scale
    pair = (code, data) if scale.pooled else (scale.relative(code), scale.relative(data))
    if len(code) < 3 or not np.ptp(pair[0]) or not np.ptp(pair[1]):
        return None
    if scale.level is not None:
        return float(np.corrcoef(*pair)[0, 1])
    return float(spearmanr(*pair).statistic)


def _regions(change: NDArray[np.float64], factors: Factors) -> dict[str, Any]:
    images = factors.images
    assert images is not None
    return _words.changed_regions(change, images.image_shape, images.high - images.low)


def _effect(
    i: int, change: NDArray[np.float64], factors: Factors, inputs: Inputs
) -> dict[str, Any]:
    return {
        "feature": inputs.feature_names[i],
        "change": float(change[i]),
        "relative_change": _of(change, i, factors),
    }


def _of(change: NDArray[np.float64], i: int, factors: Factors) -> float:
    return float(factors.scale.relative(change)[i])


def _factor(
    factor: Factor,
    inputs: Inputs,
    factors: Factors,
    recurrence: _baselines.Recurrence | None,
) -> dict[str, Any]:
    again = None
    if recurrence is not None:
        again = _mean(recurrence.of_dimensions[factor.dimensions])
    entry: dict[str, Any] = {
        "dimensions": factor.dimensions,
        "role": factor.role,
        "classes": factor.classes,
        "density": factor.density,
        "switched": factor.switched,
        "inert": factor.inert,
        "size": factor.size,
        "cost": factor.cost,
        "recurrence": again,
        "alignment": factor.alignment,
        "within": [_within(of, inputs, factors) for of in factor.within],
        "effects": [
            _effect(i, factor.effect, factors, inputs) for i in factors.scale.top(factor.effect)
        ],
        "sliders": [_slider(slider, inputs, factors) for slider in factor.sliders],
    }
    if inputs.image_shape:
        entry["picture"] = _regions(factor.effect, factors)
    return entry


def _within(of: Any, inputs: Inputs, factors: Factors) -> dict[str, Any]:
    change = np.zeros(len(inputs.feature_names))
    change[of.top] = of.change
    return {"class": of.c, "effects": [_effect(i, change, factors, inputs) for i in of.top]}


def _slider(slider: Any, inputs: Inputs, factors: Factors) -> dict[str, Any]:
    relative, ends = np.abs(factors.scale.relative(slider.effect)), {}
    changed = sorted(factors.scale.top(slider.effect), key=lambda i: -relative[i])
    for end in ("low", "high"):
        ends[end] = [
            _sample(int(row), slider.dimension, changed, inputs, factors)
            for row in getattr(slider, end)
        ]
    return {
        "dimension": slider.dimension,
        "effects": [
            _effect(i, slider.effect, factors, inputs) for i in factors.scale.top(slider.effect)
        ],
        **ends,
    }


def _sample(
    row: int, j: int, changed: list[int], inputs: Inputs, factors: Factors
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "class": int(inputs.labels[row]),
        "value": float(inputs.Z[row, j]),
    }
    if inputs.image_shape is None:
        entry["features"] = [
            {
                "feature": inputs.feature_names[i],
                "value": float(
                    inputs.X[row, i] if inputs.kinds[i] == "number" else round(inputs.X[row, i])
                ),
                "kind": inputs.kinds[i],
            }
            for i in told_by(inputs, factors.scale, row, changed)
        ]
    return entry


def _dimensions(
    counts: ClassCounts,
    roles: pd.DataFrame,
    factors: Factors,
    recurrence: _baselines.Recurrence | None,
) -> list[dict[str, Any]]:
    position = {label: c for c, label in enumerate(counts.classes.tolist())}
    inert = {j for factor in factors.factors if factor.inert for j in factor.dimensions}
    rows: Any = roles.itertuples(index=False)  # its types are too wide for mypy
    return [
        {
            "dimension": j,
            "switch": int(factors.switches[j]),
            "role": str(role.role),
            "classes": [position[label] for label in role.classes],
            "specificity": _number(round(role.specificity, 4)),
            "density": float(role.density),
            "inert": j in inert,
            "recurrence": None if recurrence is None else _number(recurrence.of_dimensions[j]),
        }
        for j, role in enumerate(rows)
    ]


# -- the estimator ---------------------------------------------------------------------------------


def _uses_labels(core: Any) -> bool:
    return isinstance(core, sklearn_classvsc.ClassVSCTransformer)


def _describe(inputs: Inputs) -> dict[str, Any]:
    core = inputs.core
    libraries = ["sklearn-classvsc", "scikit-learn", "torch", "skorch", "numpy"]
    return {
        "name": type(core).__name__,
        "sparse": bool(core.gated),
        "uses_labels": _uses_labels(core),
        "n_classes": len(core.classes_) if _uses_labels(core) else None,
        "likelihood": str(core.likelihood_),
        "n_components": int(core.n_components),
        "parameters": {name: repr(value) for name, value in core.get_params(deep=False).items()},
        "n_epochs": int(core.n_iter_),
        "stop_reason": str(core.stop_reason_),
        "versions": {"python": platform.python_version()} | {x: version(x) for x in libraries},
    }


def _history(history: pd.DataFrame) -> dict[str, list[float | None]]:
    numeric = history.select_dtypes("number")
    return {str(name): _numbers(numeric[[name]].T.to_numpy(float))[0] for name in numeric}


def _numbers(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in matrix]


def _mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of the finite values, or None."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _number(value: float) -> float | None:
    """Return a float, or None for NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None
