"""What dimensions do: effects, sweeps, and where an image changes. All of `Inputs.rows`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from .. import metrics
from ..inspection import Kind, Traversal, feature_effects, top_features, traverse
from ..labels import take
from ..metrics._counts import to_dense
from ._inputs import Inputs, spread
from ._pictures import ImageMaker

#: Samples whose effects are averaged, for a dimension and for a dimension within a class.
EFFECT_SAMPLES, CLASS_EFFECT_SAMPLES = 100, 20
#: Samples, as many of each class, that a dimension must change for it not to count as inert.
INERT_SAMPLES = 400
#: Numbers that all sweeps may hold together: pixels, and values of named features.
MAX_PIXELS, MAX_VALUES = 1_400_000, 100_000
#: Features shown of a sweep, and named for a dimension.
SWEEP_FEATURES, TOP_FEATURES = 8, 3
#: Steps of a sweep.
STEPS = 9
#: A class has a dimension if at least this fraction of its samples activates it.
ON = 0.5
#: Ninths of an image.
REGIONS = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)


class Sweep(NamedTuple):
    """A dimension moved in a sample of a class, and the same sample with it off."""

    class_index: int
    traversal: Traversal
    off: NDArray[np.float64]  # (n_features,), decoded with the dimension at 0

    @property
    def frames(self) -> NDArray[np.float64]:
        """Decoded samples, (1 + n_steps, n_features), the first with the dimension off."""
        return np.vstack([self.off, self.traversal.X_hat])


class Effects(NamedTuple):
    """What dimensions do, overall and within classes."""

    of_dimensions: NDArray[np.float64]  # (d, f); NaN where never on
    of_classes: NDArray[np.float64]  # (C, f), of the first dimension in the class's order
    order: list[list[int]]  # for each class the dimensions that it has, the most specific first
    inert: NDArray[np.bool_]  # (d,)
    scale: NDArray[np.float64]  # (f,), standard deviations
    sweeps: list[Sweep]
    images: ImageMaker | None

    @property
    def n_sweeps_possible(self) -> int:
        """How many sweeps there would be on a page of any size."""
        return sum(map(len, self.order))


def measure_effects(
    inputs: Inputs, rates: NDArray[np.float64], specificity: NDArray[np.float64]
) -> Effects:
    """Measure what dimensions do, given how often each class has them, (C, d)."""
    est, rows, labels = inputs.est, inputs.rows, inputs.labels[inputs.rows]
    X = take(inputs.X, rows)
    dense = np.asarray(to_dense(X), dtype=np.float64)
    scale = StandardScaler().fit(dense).scale_
    n_each = max(2, INERT_SAMPLES // len(rates))
    inert = metrics.inert_dimensions(est, take(X, spread(labels, n_each)))
    kind: Kind = "presence" if est.gated else "range"
    of_dimensions = feature_effects(est, X, kind=kind, max_samples=EFFECT_SAMPLES).to_numpy()

    groups = [take(X, np.flatnonzero(labels == c)) for c in range(len(rates))]
    order, of_classes = [], []
    for group, rate in zip(groups, rates, strict=True):
        within = feature_effects(est, group, kind=kind, max_samples=CLASS_EFFECT_SAMPLES).to_numpy()
        # Dimensions that are always on are equally specific: rank them by how much they do.
        interest = specificity if est.gated else np.linalg.norm(within / scale, axis=1)
        order.append(_rank(rate, interest, inert))
        of_classes.append(within[order[-1][0]] if order[-1] else np.full(len(scale), np.nan))

    images = None
    if inputs.image_shape is not None:
        n_pictures = rates.shape[1] + 5 * len(rates)  # 5: off, on, change, sample, decoded
        images = ImageMaker(inputs.image_shape, (dense.min(), dense.max()), n_pictures)
    sweeps = _sweeps(est, groups, order, images)
    return Effects(of_dimensions, np.stack(of_classes), order, inert, scale, sweeps, images)


def _rank(
    rates: NDArray[np.float64], interest: NDArray[np.float64], inert: NDArray[np.bool_]
) -> list[int]:
    """Return the dimensions that a class has, best first; if it has none, its commonest."""
    has = np.flatnonzero(rates >= ON)
    if not has.size and rates.any():
        has = np.flatnonzero(rates == rates.max())[:1]
    ranked: list[int] = has[np.lexsort((-rates[has], -interest[has], inert[has]))].tolist()
    return ranked


def add_effects(
    entries: list[dict[str, Any]],
    effects: NDArray[np.float64],
    inputs: Inputs,
    scale: NDArray[np.float64],
) -> None:
    """Add to each entry the features that move most, and for images where the image changes."""
    for entry, change in zip(entries, effects, strict=True):
        entry["effects"] = []
        if inputs.image_shape and np.isfinite(change).all():
            entry["picture"] = _changed_regions(change, inputs.image_shape)
    frame = pd.DataFrame(effects).rename_axis("row")
    rows: Any = top_features(frame, TOP_FEATURES, scale=scale).itertuples(index=False)
    for top in rows:
        entries[top.row]["effects"].append(
            {
                "feature": inputs.feature_names[top.feature],
                "change": float(top.effect),
                "change_in_sd": float(top.relative_effect),
            }
        )


def _changed_regions(
    change: NDArray[np.float64], image_shape: tuple[int, ...]
) -> dict[str, str | float | None]:
    """Find which ninths of an image gain most and lose most; None for less than a fifth of that."""
    image = change.reshape(*image_shape[:2], -1).mean(axis=2)
    means = np.array(
        [
            block.mean() if block.size else 0.0
            for band in np.array_split(image, 3, axis=0)
            for block in np.array_split(band, 3, axis=1)
        ]
    )
    least = max(np.abs(means).max() / 5, np.finfo(float).tiny)
    return {
        "brighter": REGIONS[means.argmax()] if means.max() >= least else None,
        "darker": REGIONS[means.argmin()] if -means.min() >= least else None,
        "largest_change": float(np.abs(image).max()),
    }


def _sweeps(
    est: Any, groups: list[Any], order: list[list[int]], images: ImageMaker | None
) -> list[Sweep]:
    """Sweep the dimensions that each class has, as many as a page can hold.

    The most specific of every class come first, so that no class is left out before another.
    """
    if images is None:
        n_kept = MAX_VALUES // ((STEPS + 1) * SWEEP_FEATURES)
    else:
        n_kept = MAX_PIXELS // ((STEPS + 1) * images.n_values)
    ranked = sorted((rank, c, j) for c, js in enumerate(order) for rank, j in enumerate(js))
    sweeps = []
    for _, c, j in ranked[:n_kept]:
        try:
            traversal = traverse(est, groups[c], dimension=j, n_steps=STEPS)
        except ValueError:  # on in the class, but in none of the samples that are inspected
            continue
        code = traversal.codes[:1].copy()
        code[:, j] = 0
        sweeps.append(Sweep(c, traversal, np.asarray(est.inverse_transform(code))[0]))
    return sorted(sweeps, key=lambda sweep: sweep.class_index)
