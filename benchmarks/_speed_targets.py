"""What `bench_speed.py` must show: each target, and how its figure comes from what was timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from _common import Row
from numpy.typing import NDArray

Rows = Mapping[tuple[str, str], Row]  # by section and name


class Target(NamedTuple):
    """A figure to reach: the work, what is asked, and the figure of each round."""

    work: str
    text: str
    sign: str
    bound: float
    figure: Callable[[Rows], NDArray[Any] | None]
    shown: str = "{:.2f}"

    def cells(self, rows: Rows) -> list[str]:
        """Return the row of the table."""
        try:
            values = self.figure(rows)
        except KeyError:
            return [self.work, self.text, "not measured", "-"]
        if values is None:
            return [self.work, self.text, "not measured here", "-"]
        middle = float(np.median(values))
        met = middle <= self.bound if self.sign == "<=" else middle >= self.bound
        return [self.work, self.text, spread(values, self.shown), "yes" if met else "**no**"]


def spread(values: NDArray[Any], shown: str = "{:.2f}") -> str:
    """Write median (smallest - largest)."""
    middle, least, most = (shown.format(f(values)) for f in (np.median, np.min, np.max))
    return middle if len(values) == 1 else f"{middle} ({least} - {most})"


def ratio(section: str, a: str, b: str, field: str = "wall") -> Callable[[Rows], Any]:
    """Return how many times as long `a` took as `b`, in each round."""

    def figure(rows: Rows) -> Any:
        top, bottom = rows[section, a], rows[section, b]
        if "absent" in top or "absent" in bottom:
            return None
        n = min(len(top[field]), len(bottom[field]))
        return per_unit(top, field)[:n] / per_unit(bottom, field)[:n]

    return figure


def per_unit(row: Row, field: str = "wall") -> NDArray[np.float64]:
    """Return the seconds per step, or scaled to the rows that are shown."""
    scale = row["shown_rows"] / row["rows"] if "shown_rows" in row else 1.0
    return np.array(row[field]) / row.get("steps", 1) * scale


def class_share(objective: str, n_classes: int) -> Callable[[Rows], Any]:
    """Return the percentage of a step that the terms of the classes cost.

    Of the processor's time: a small difference drowns in what other programs do to the wall's.
    """
    with_without = ratio(
        "classes", f"{objective}, {n_classes}, without", f"{objective}, {n_classes}, with", "cpu"
    )
    return lambda rows: 100 * (1 - with_without(rows))


def quality_loss(field: str) -> Callable[[Rows], Any]:
    """Return how far bfloat16 stands from float32."""

    def figure(rows: Rows) -> Any:
        if "absent" in rows.get(("bfloat16", "package"), {}):
            return None
        both = [rows["bfloat16", f"quality, {name}"][field] for name in ("float32", "bfloat16")]
        return abs(np.diff(both))

    return figure


def memory_share(rows: Rows) -> Any:
    """Return the memory of a fit over what it may be."""
    row = rows["memory", "fit"]
    allowed = 3 * row["batch_bytes"] + 4 * row["model_bytes"]
    return np.array([row["allocated_bytes"] / allowed])


def beyond_lcdl(rows: Rows) -> Any:
    """Return by how much the codes classify better than LCDL's."""
    ours, theirs = rows["peers", "ClassVSCTransformer"], rows["peers", "LCDLClassifier"]
    if "absent" in theirs:
        return None
    return np.array([ours["accuracy"] - theirs["accuracy"]])


def slope(axis: str, field: str) -> Callable[[Rows], Any]:
    """Return the slope of a doubled number in logarithms."""

    def figure(rows: Rows) -> Any:
        points = growth_points(rows, axis)
        if not points:
            raise KeyError(axis)
        values = [np.median(row[field]) for row in points]
        return np.polyfit(np.log([row["size"] for row in points]), np.log(values), 1)[:1]

    return figure


def growth_points(rows: Rows, axis: str) -> list[Row]:
    """Return the rows of a number that doubles, in order."""
    points = [row for (section, _), row in rows.items() if section == "growth"]
    return sorted((row for row in points if row["axis"] == axis), key=lambda row: row["size"])


def torch_free(rows: Rows) -> Any:
    """Return 1 if importing the metrics imported torch, else 0."""
    return np.array([int(rows["imports", "metrics"]["torch"])])


def beyond_loading(rows: Rows) -> Any:
    """Return the first transform over the second plus the loading, in each round."""
    first, second, load = (
        np.array(rows["unpickling", name]["wall"])
        for name in ("first transform", "second transform", "load")
    )
    return first / (second + load)


AXES = ("samples", "features", "dimensions", "classes")
TARGETS = [
    Target(f"fit, {label}", text, "<=", bound, ratio(section, "package", other))
    for section, label in (("fit", "ClassVSC"), ("fit-vsc", "VSC"))
    for other, bound, text in (
        ("plain", 0.75, "<= 0.75 x the plain hand loop"),
        ("lean", 1.03, "<= 1.03 x the best hand loop"),
        ("products", 1.3, "<= 1.3 x the bare products"),
    )
] + [
    Target(
        "fit, bfloat16", "<= 0.7 x float32", "<=", 0.7, ratio("bfloat16", "bfloat16", "float32")
    ),
    *(
        Target("fit, bfloat16", f"{name} within 0.01", "<=", 0.01, quality_loss(field), "{:.4f}")
        for name, field in (
            ("explained variance", "explained_variance"),
            ("class consistency", "consistency"),
        )
    ),
    Target(
        "digits", "<= 1.25 x the best hand loop", "<=", 1.25, ratio("digits", "package", "lean")
    ),
    Target("digits", ">= 4 x skorch's speed", ">=", 4, ratio("digits", "skorch", "package")),
    *(
        Target(
            f"class terms, {label}, {n:,} classes",
            "<= 5 % of a step",
            "<=",
            5,
            class_share(objective, n),
            "{:.1f} %",
        )
        for objective, label in (("balanced", "default"), ("paper", "paper"))
        for n in (10, 1000)
    ),
    Target(
        "transform",
        "<= 1.05 x the bare forward pass",
        "<=",
        1.05,
        ratio("transform", "package", "forward pass"),
    ),
    Target(
        "transform",
        ">= 10 x OMP's speed, 10 non-zeros",
        ">=",
        10,
        ratio("transform", "OMP", "package"),
        "{:.0f}",
    ),
    Target(
        "fit and LCDLClassifier",
        "faster",
        "<=",
        1,
        ratio("peers", "ClassVSCTransformer", "LCDLClassifier"),
        "{:.2g} x its time",
    ),
    Target(
        "fit and LCDLClassifier",
        "accuracy of the codes: no worse",
        ">=",
        0,
        beyond_lcdl,
        "{:+.3f}",
    ),
    *(
        Target(f"growth in {axis}", "time: slope <= 1.1", "<=", 1.1, slope(axis, "wall"))
        for axis in AXES
    ),
    *(
        Target(
            f"growth in {axis}", "memory: slope <= 1.1", "<=", 1.1, slope(axis, "allocated_bytes")
        )
        for axis in AXES
    ),
    Target("memory of fit", "<= 3 batches + 4 x the model", "<=", 1, memory_share, "{:.2f} x that"),
    *(
        Target(
            f"import of the {name}",
            "<= 0.2 s beyond torch",
            "<=",
            0.2,
            lambda rows, name=name: np.array([min(rows["imports", name]["wall"])]),
            "{:.2f} s",
        )
        for name in ("package", "estimators")
    ),
    Target("import of the metrics", "without torch", "<=", 0, torch_free, "{:.0f}"),
    Target("unpickled", "1st transform <= 2nd + load", "<=", 1, beyond_loading),
]
