"""Units that make effects on features comparable, and differences between classes by codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from ._messages import brief
from ._pipelines import feature_names, origins_of
from .editing import profile_of, with_support_of
from .metrics._counts import balanced_rows, check_labels, check_matrix, class_sums, split_missing
from .metrics._fidelity import is_counts, sums_of

#: Name of the measure of counts in `top_features`.
FOLD_CHANGE = "log2 fold change"

# Most decoded values that are held at a time (32 MB of float64).
_BATCH_ELEMENTS = 2**22


def relative_effects(
    effects: pd.DataFrame, scale: ArrayLike | None = None
) -> tuple[NDArray[np.float64], str]:
    """Return effects in comparable units, and the name of the measure."""
    values = effects.to_numpy(dtype=np.float64)
    levels = effects.attrs.get("level", {})
    if scale is None and levels and all(name in levels for name in effects.columns):
        level = np.array([levels[name] for name in effects.columns])
        pseudo = float(np.mean(list(levels.values())))
        return fold_change(values, level, pseudo), FOLD_CHANGE
    return values / _check_scale(effects, scale), "SD" if scale is None else "scaled"


def fold_change(
    change: NDArray[np.float64], level: NDArray[np.float64], pseudo: float
) -> NDArray[np.float64]:
    """Return the log2 fold change of counts, with `pseudo` counts added on both sides."""
    pseudo = max(pseudo, 1e-12)
    return np.log2((np.maximum(level + change, 0) + pseudo) / (level + pseudo))


def differences_by_codes(est: Any, X: Any, Z: Any, y: Any, max_samples: int = 200) -> pd.DataFrame:
    """Return the DataFrame of `class_differences` from samples and their codes, as CSR."""
    classes, labels = check_labels(y, Z)
    if len(classes) < 2:
        raise ValueError(
            f"y has one class, {brief(classes[0])}, but classes are compared: pass at least two."
        )
    profile = profile_of(Z, y)
    first = np.asarray(est.inverse_transform(Z[[0]].toarray()))
    data = at_total(X, float(first.sum())) if is_counts(est) else X
    means = _class_means(data, labels, len(classes))
    picked = balanced_rows(labels, max(1, max_samples // (len(classes) - 1)))
    rows = []
    for c in range(len(classes)):
        of_others = picked[labels[picked] != c]
        weight = (
            1 / np.bincount(labels[of_others], minlength=len(classes)).clip(1)[labels[of_others]]
        )
        changed = np.zeros(first.shape[1])
        for block in gen_batches(len(of_others), max(1, _BATCH_ELEMENTS // first.shape[1])):
            codes = Z[of_others[block]].toarray()
            other = with_support_of(codes, profile, c)
            change = np.asarray(est.inverse_transform(other)) - est.inverse_transform(codes)
            changed += weight[block] @ change
        rest = np.delete(means, c, axis=0).mean(axis=0)
        rows += [changed / weight.sum(), means[c] - rest]
    index = pd.MultiIndex.from_product(
        [classes.tolist(), ["counterfactual", "difference"]], names=["class", "kind"]
    )
    return named_effects(est, X, np.stack(rows), index)


def _class_means(data: Any, labels: NDArray[np.intp], n_classes: int) -> NDArray[np.float64]:
    """Return the mean of each feature in each class, without missing values."""
    missing, known = split_missing(data)
    n_known = np.bincount(labels)[:, None] - class_sums(
        missing.astype(np.float64), labels, n_classes
    )
    sums: NDArray[np.float64] = class_sums(known, labels, n_classes)
    return sums / np.where(n_known > 0, n_known, np.nan)


def first_of_each(order: NDArray[np.intp], of: list[str], k: int) -> list[int]:
    """Return the first `k` features in an order, at most one for each column of the table."""
    picked: dict[str, int] = {}
    for column in order.tolist():
        picked.setdefault(of[column], column)
        if len(picked) == k:
            break
    return list(picked.values())


def named_effects(
    est: Any, X: Any, effects: NDArray[np.float64], index: pd.Index[Any]
) -> pd.DataFrame:
    """Return effects as a DataFrame with the names and the scales of the features."""
    # Names as objects, since they need not be valid UTF-8 as pandas' strings must be.
    names = feature_names(est, effects.shape[1])
    X = check_matrix(X, "X", missing=True)
    frame = pd.DataFrame(effects, index=index, columns=pd.Index(names, dtype=object))
    scaler = StandardScaler(with_mean=False).fit(X)
    frame.attrs["scale"] = dict(zip(names, scaler.scale_.tolist(), strict=True))
    if is_counts(est):
        total = float(np.sum(sums_of(X)))
        decoded = float(np.asarray(est.inverse_transform(_zero_code(est))).sum())
        level = np.asarray(sums_of(X), dtype=np.float64).ravel() * (decoded / max(total, 1e-12))
        frame.attrs["level"] = dict(zip(names, level.tolist(), strict=True))
    if (origins := origins_of(est, names)) != names:
        frame.attrs["origin"] = dict(zip(names, origins, strict=True))
    return frame


def _zero_code(est: Any) -> NDArray[np.float32]:
    return np.zeros((1, est.n_components), dtype=np.float32)


def at_total(X: Any, total: float) -> Any:
    """Return counts scaled to the same total in all samples."""
    X = X if hasattr(X, "tocsr") else np.asarray(X, dtype=np.float64)
    sizes = np.asarray(sums_of(X, 1), dtype=np.float64).reshape(-1, 1)
    weight = total / np.maximum(sizes, 1e-12)
    return (X.multiply(weight)).tocsr() if hasattr(X, "tocsr") else X * weight


def _check_scale(effects: pd.DataFrame, scale: ArrayLike | None) -> NDArray[np.float64]:
    if scale is None:
        kept = effects.attrs.get("scale", {})
        if missing := [name for name in effects.columns if name not in kept]:
            raise ValueError(
                f"scale is None, but effects.attrs has no scale of {brief(missing[0])}: pass the "
                "standard deviations of the features, or scale=1 to compare effects unscaled."
            )
        scale = [kept[name] for name in effects.columns]
    checked = np.asarray(scale, dtype=np.float64)
    if checked.shape not in {(), (effects.shape[1],)} or not (checked > 0).all():
        raise ValueError(
            f"scale is {brief(scale)}, but must be a positive number, or one for each of the "
            f"{effects.shape[1]} features."
        )
    return checked
