"""The factors of a code for the report: their dimensions, samples, effects and costs.

A factor is a set of dimensions that are active in the same samples. Everything is computed from the
codes, and samples are decoded in blocks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

from .. import metrics
from .._comparison import FOLD_CHANGE, first_of_each, fold_change
from ..metrics._counts import ClassCounts, balanced_rows, random_rows, to_dense
from ..metrics._fidelity import Fidelity, measure_fidelity
from ..metrics._scorers import inert_by_codes
from ._inputs import Inputs
from ._pictures import ImageMaker

#: Samples over which an effect is averaged; within one of several classes, at least so many.
EFFECT_SAMPLES, LEAST_EFFECT_SAMPLES = 100, 10
#: Samples that are decoded again for each factor, to see whether it is inert and what fixing it
#: costs: at most so many, with at most so many values in all, but no fewer than `LEAST_FIXED`.
FIXED_SAMPLES, FIXED_VALUES, LEAST_FIXED = 400, 2**22, 60
#: Most pixels of all sweeps, most pixels of all shown samples, and most values of all sweeps of a
#: table.
MAX_SWEEP_PIXELS, MAX_SAMPLE_PIXELS, MAX_VALUES = 1_100_000, 500_000, 60_000
#: Values of a sweep, most classes in it, and features that it shows.
STEPS, SWEEP_CLASSES, SWEEP_FEATURES = 7, 12, 3
#: Samples shown at each end of a dimension: images, and rows of a table or documents.
ENDS_IMAGES, ENDS_ROWS = 8, 3
#: Classes from which on each end shows one sample of each class.
ONE_EACH = 3
#: Most features named for a factor, and the least relative change that is named, by measure.
TOP_FEATURES = 10
#: Features named for a factor within one of its classes.
WITHIN_FEATURES = 3
LEAST = {"SD": 0.1, FOLD_CHANGE: 0.1}
#: Bars of a histogram.
BARS = 24
#: A class activates a dimension if at least this fraction of its samples does.
ON = 0.5


class Slider(NamedTuple):
    """A dimension of a factor, and what its slider shows."""

    dimension: int
    effect: NDArray[np.float64]  # (f,), from its 10 % to its 90 % quantile
    low: NDArray[np.intp]  # rows with the lowest values, the lowest first
    high: NDArray[np.intp]  # rows with the highest values, the highest last
    values: NDArray[np.float64]  # (STEPS,), quantiles from 5 % to 95 %
    classes: list[int]  # of the sweep, (k,)
    features: list[int]  # of the sweep of named features
    frames: NDArray[np.float64] | None  # (k, 1 + STEPS, f), the first with the factor inactive
    edges: tuple[float, float]
    histogram: list[tuple[int, list[float]]]  # for each class: heights, at most 1


class WithinClass(NamedTuple):
    """What a factor does in one of its classes."""

    c: int
    top: list[int]  # features that change most
    change: NDArray[np.float64]  # of these features


class Factor(NamedTuple):
    """Dimensions that are active in the same samples."""

    dimensions: list[int]
    role: str
    classes: list[int]  # that activate it
    density: float
    switched: bool  # whether its effect compares active with inactive, and not low with high
    effect: NDArray[np.float64]  # (f,)
    size: float
    cost: float
    inert: bool
    within: list[WithinClass]  # of the classes that activate it, if several do
    alignment: float | None  # mean cosine of the effects in these classes
    sliders: list[Slider]


class Scale(NamedTuple):
    """The units in which changes of features are compared."""

    means: NDArray[np.float64]  # (f,)
    sd: NDArray[np.float64]  # (f,)
    level: NDArray[np.float64] | None  # (f,), mean counts, scaled to the decoded total
    pooled: bool  # whether all features have the same unit
    origins: list[str]

    @property
    def measure(self) -> str:
        """Name of the unit of `relative`."""
        return "SD" if self.level is None else FOLD_CHANGE

    def relative(self, change: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return changes in the unit by which features are compared."""
        if self.level is None:
            return change / self.sd
        return fold_change(change, self.level, float(self.level.mean()))

    def size(self, change: NDArray[np.float64]) -> float:
        """Return the size of a change of all features, in standard deviations."""
        if self.pooled or self.level is not None:
            return float(np.sqrt((change**2).sum() / (self.sd**2).sum()))
        return float(np.sqrt(((change / self.sd) ** 2).mean()))

    def top(self, change: NDArray[np.float64], k: int = TOP_FEATURES) -> list[int]:
        """Return the features that change most, rising ones first; one for each column."""
        relative = self.relative(change)
        by = np.abs(relative) if self.level is None else relative
        order = np.argsort(-by, kind="stable")
        picked = first_of_each(order, self.origins, k)
        if (
            self.level is not None and len(order) > k
        ):  # few words rise: fill up with those that fall
            rising = [i for i in picked if relative[i] >= LEAST[self.measure]]
            falling = first_of_each(order[::-1], self.origins, k) if len(rising) < k else []
            picked = rising + [i for i in falling if i not in rising][: k - len(rising)]
        picked = [i for i in picked if abs(relative[i]) >= LEAST[self.measure]]
        return sorted(picked, key=lambda i: (relative[i] < 0, -abs(relative[i])))


class Factors(NamedTuple):
    """All factors, the largest effect first, and the dimensions that belong to none."""

    factors: list[Factor]
    unused: list[int]
    switches: NDArray[np.intp]  # (d,)
    scale: Scale
    images: ImageMaker | None


def measure_factors(inputs: Inputs, counts: ClassCounts, roles: pd.DataFrame) -> Factors:
    """Group the dimensions into factors, and measure their effects."""
    Z, gated = inputs.Z, bool(inputs.core.gated)
    switches = metrics.independent_switches(Z)
    scale = _scale(inputs)
    images = None
    if inputs.image_shape is not None:
        low, high = float(inputs.X.min()), float(inputs.X.max())
        images = ImageMaker(inputs.image_shape, (low, high), Z.shape[1] + 5 * len(counts.classes))
    n = max(LEAST_FIXED, min(FIXED_SAMPLES, FIXED_VALUES // inputs.X.shape[1]))
    fixed = balanced_rows(inputs.labels, max(2, n // len(counts.classes)))
    inert = inert_by_codes(inputs.est, inputs.X[fixed], Z[fixed])
    kept = _kept(inputs, fixed, Z[fixed])
    position = {label: c for c, label in enumerate(counts.classes.tolist())}

    found = []
    for switch in range(switches.max() + 1):
        dimensions = np.flatnonzero(switches == switch)
        lead = roles.iloc[dimensions[0]]
        switched = gated and lead["role"] != "global"
        effect = _effect(inputs, dimensions, switched)
        classes = [position[label] for label in lead["classes"]]
        within, alignment = _within(inputs, dimensions, switched, classes, scale)
        found.append(
            Factor(
                dimensions.tolist(),
                str(lead["role"]),
                classes,
                float((Z[:, dimensions[0]] != 0).mean()),
                switched,
                effect,
                scale.size(effect),
                kept.score - _kept(inputs, fixed, _at_mean(Z, fixed, dimensions)).score,
                bool(inert[dimensions].all()),
                within,
                alignment,
                [],
            )
        )
    found.sort(key=lambda factor: (factor.inert, -factor.size))
    budget = [MAX_VALUES, ENDS_ROWS]
    if images is not None:
        budget = [MAX_SWEEP_PIXELS // images.n_values, MAX_SAMPLE_PIXELS // images.n_values]
    factors = []
    for factor in found:
        sliders = [_slider(inputs, counts, factor, j, scale, budget) for j in factor.dimensions]
        sliders.sort(key=lambda slider: -scale.size(slider.effect))
        factors.append(factor._replace(sliders=sliders))
    return Factors(factors, np.flatnonzero(switches < 0).tolist(), switches, scale, images)


def _scale(inputs: Inputs) -> Scale:
    sd = StandardScaler(with_mean=False).fit(inputs.X).scale_
    means, level = np.asarray(inputs.X.mean(axis=0), dtype=np.float64).ravel(), None
    if inputs.counts:
        level = means.copy()
        decoded = inputs.est.inverse_transform(np.zeros((1, inputs.Z.shape[1]), dtype=np.float32))
        level *= float(np.sum(decoded)) / max(level.sum(), 1e-12)
    return Scale(means, sd, level, inputs.image_shape is not None, inputs.origins)


def _kept(inputs: Inputs, rows: NDArray[np.intp], codes: NDArray[Any]) -> Fidelity:
    return measure_fidelity(
        inputs.known(rows),
        lambda block: inputs.est.inverse_transform(codes[block]),
        inputs.core.likelihood_,
    )


def _at_mean(Z: NDArray[Any], rows: NDArray[np.intp], dimensions: NDArray[np.intp]) -> NDArray[Any]:
    """Return codes with some dimensions at their mean values where they are active."""
    codes = Z[rows].copy()
    for j in dimensions:
        on = Z[:, j] != 0
        codes[codes[:, j] != 0, j] = Z[on, j].mean(dtype=np.float64)
    return codes


def mean_decoded(inputs: Inputs, codes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the decoded codes, (f,)."""
    total = np.zeros(inputs.X.shape[1])
    for block in gen_batches(len(codes), max(1, 2**21 // inputs.X.shape[1])):
        total += np.asarray(inputs.est.inverse_transform(codes[block])).sum(axis=0, dtype=float)
    return total / len(codes)


def _within(
    inputs: Inputs,
    dimensions: NDArray[np.intp],
    switched: bool,
    classes: list[int],
    scale: Scale,
) -> tuple[list[WithinClass], float | None]:
    """Return the effect in each of several classes, and how alike the effects are."""
    if len(classes) < 2:
        return [], None
    classes = classes[:SWEEP_CLASSES]
    effects = [_effect(inputs, dimensions, switched, c, len(classes)) for c in classes]
    relative = np.stack(effects if scale.pooled else [scale.relative(e) for e in effects])
    alignment = float(metrics.effect_alignment(relative[:, None])[0])
    within = []
    for c, effect in zip(classes, effects, strict=True):
        top = scale.top(effect, WITHIN_FEATURES)
        within.append(WithinClass(c, top, effect[top]))
    return within, alignment if np.isfinite(alignment) else None


def _effect(
    inputs: Inputs,
    dimensions: NDArray[np.intp],
    switched: bool,
    c: int | None = None,
    n_classes: int = 1,
) -> NDArray[np.float64]:
    """Return the mean change from inactive to active, or from low to high unless `switched`.

    It is the mean over samples of class `c`, or of all classes. With `n_classes`, fewer samples of
    each do.
    """
    if not switched:
        return _range_effect(inputs, int(dimensions[0]), c, n_classes)
    codes = _active_codes(inputs, int(dimensions[0]), c, n_classes)
    off = codes.copy()
    off[:, dimensions] = 0
    return mean_decoded(inputs, codes) - mean_decoded(inputs, off)


def _range_effect(
    inputs: Inputs, j: int, c: int | None = None, n_classes: int = 1
) -> NDArray[np.float64]:
    codes = _active_codes(inputs, j, c, n_classes)
    values = inputs.Z[inputs.Z[:, j] != 0, j].astype(np.float64)
    low, high = codes.copy(), codes.copy()
    low[:, j], high[:, j] = np.quantile(values, [0.1, 0.9])
    return mean_decoded(inputs, high) - mean_decoded(inputs, low)


def _active_codes(inputs: Inputs, j: int, c: int | None = None, n_classes: int = 1) -> NDArray[Any]:
    """Return codes in which the dimension is active, of inspected samples if there are any."""
    active = np.flatnonzero(inputs.Z[:, j])
    if c is not None:
        active = active[inputs.labels[active] == c]
    inspected = active[np.isin(active, inputs.rows)]
    active = inspected if len(inspected) else active
    n = max(LEAST_EFFECT_SAMPLES, EFFECT_SAMPLES // n_classes)
    codes: NDArray[Any] = inputs.Z[active[random_rows(len(active), n)]].copy()
    return codes


def _slider(
    inputs: Inputs, counts: ClassCounts, factor: Factor, j: int, scale: Scale, budget: list[int]
) -> Slider:
    z = inputs.Z[:, j]
    active = np.flatnonzero(z)
    effect = factor.effect
    if factor.switched or len(factor.dimensions) > 1:
        effect = _range_effect(inputs, j)
    values = np.quantile(z[active].astype(np.float64), np.linspace(0.05, 0.95, STEPS))
    classes = [c for c in range(len(counts.classes)) if counts.rates[c, j] >= ON]
    classes = classes or [int(counts.rates[:, j].argmax())]
    classes = sorted(sorted(classes, key=lambda c: -counts.rates[c, j])[:SWEEP_CLASSES])
    low_rows, high_rows = _ends(inputs, z, classes, budget)
    features = [] if inputs.image_shape else scale.top(effect, SWEEP_FEATURES)
    if not inputs.image_shape and not features:
        features = np.argsort(-np.abs(scale.relative(effect)), kind="stable")[:2].tolist()
    size = (1 + STEPS) * len(classes) * max(1, len(features))
    frames = None
    if budget[0] >= size:
        budget[0] -= size
        frames = _sweep(inputs, factor, j, values, classes)
        if features:
            frames = frames[..., features]
    low, high = np.quantile(z[active].astype(np.float64), [0.01, 0.99])
    edges = (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)
    return Slider(
        j,
        effect,
        low_rows,
        high_rows,
        values,
        classes,
        features,
        frames,
        edges,
        _histogram(z, inputs.labels, classes, edges),
    )


def _ends(
    inputs: Inputs, z: NDArray[Any], classes: list[int], budget: list[int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows with the lowest values and with the highest, from low to high.

    If several classes activate the dimension, return one row of each, in the order of the classes.
    Otherwise the rows would show which classes have high values, and not what the dimension does.
    """
    n = ENDS_ROWS if inputs.image_shape is None else ENDS_IMAGES
    if len(classes) >= ONE_EACH:
        n = len(classes)
    if inputs.image_shape is not None:
        if budget[1] < 2 * n:
            n = 0
        budget[1] -= 2 * n
    active = np.flatnonzero(z)
    if len(classes) < ONE_EACH or not n:
        ordered = active[np.argsort(z[active], kind="stable")]
        n_low = min(n, (len(ordered) + 1) // 2)
        return ordered[:n_low], ordered[len(ordered) - min(n, len(ordered) - n_low) :]
    groups = [active[inputs.labels[active] == c] for c in classes]
    low, high = ([rows[pick(z[rows])] for rows in groups] for pick in (np.argmin, np.argmax))
    return np.array(low), np.array(high)


def _sweep(
    inputs: Inputs, factor: Factor, j: int, values: NDArray[np.float64], classes: list[int]
) -> NDArray[np.float64]:
    """Decode a typical sample of each class, with the factor inactive and then at each value."""
    frames = []
    for c in classes:
        rows = inputs.rows[inputs.labels[inputs.rows] == c]
        having = rows[inputs.Z[rows, j] != 0]
        if not len(having):
            having = np.flatnonzero((inputs.labels == c) & (inputs.Z[:, j] != 0))
        Z = inputs.Z[having]
        typical = Z[np.square(Z - Z.mean(axis=0)).sum(axis=1).argmin()]
        codes = np.tile(typical, (1 + STEPS, 1))
        codes[0, factor.dimensions] = 0
        codes[1:, j] = values
        frames.append(np.asarray(inputs.est.inverse_transform(codes), dtype=np.float64))
    return np.stack(frames)


def _histogram(
    z: NDArray[Any], labels: NDArray[np.intp], classes: list[int], edges: tuple[float, float]
) -> list[tuple[int, list[float]]]:
    """Return the histogram of each class that activates the dimension, scaled to at most 1."""
    shares = []
    for c in classes:
        values = z[(labels == c) & (z != 0)].clip(*edges)
        shares.append(np.histogram(values, BARS, edges)[0] / max(len(values), 1))
    highest = max(float(np.max(shares)), 1e-12)
    return [
        (c, (share / highest).round(3).tolist()) for c, share in zip(classes, shares, strict=True)
    ]


def told_by(inputs: Inputs, scale: Scale, row: int, first: list[int]) -> list[int]:
    """Return the features that tell a sample: some of `first`, then those that stand out in it.

    `first` are the features that a dimension changes most. Of a document, both are its words.
    """
    means = scale.means
    x = np.asarray(to_dense(inputs.X[[row]]), dtype=np.float64)[0]
    if inputs.counts or hasattr(inputs.X, "tocsr"):
        share, usual = x / max(x.sum(), 1e-12), means / max(means.sum(), 1e-12)
        told = x * np.log(np.maximum(share, 1e-12) / np.maximum(usual, 1e-12))
        order = np.argsort(-np.where(x > 0, told, -np.inf), kind="stable")
        order = np.array([*[i for i in first if x[i] > 0][:3], *order], dtype=np.intp)
        return [i for i in first_of_each(order, inputs.origins, 6) if x[i] > 0]
    order = np.argsort(-np.abs((x - means) / scale.sd), kind="stable")
    return first_of_each(np.array([*first[:2], *order], dtype=np.intp), inputs.origins, 4)
