"""Helpers of the displays that need matplotlib; imported when a plot is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis, XAxis
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path
    from matplotlib.ticker import Formatter, Locator, MaxNLocator
except ImportError as error:
    raise ImportError(
        'The displays draw with matplotlib: pip install "sklearn-classvsc[plot]"'
    ) from error

#: Colours of Okabe and Ito's palette, which colour-blind readers can tell apart.
ORANGE, SKY, GREEN, BLUE, VERMILION, GREY = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#BBBBBB",
)

# An axis with more labels than this has small ones, of this size in points.
_MANY, _SMALL = 40, 7.0


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or the axes of a new pyplot figure of this size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def extent(n_labels: int) -> float:
    """Return the inches that so many lines of labels need, at most 15."""
    return min(n_labels * (0.19 if n_labels <= _MANY else 0.13), 15.0)


def text_extent(labels: Sequence[str]) -> float:
    """Return the width of the longest label in inches, at the usual size."""
    return max(_text_widths(labels, 10.0)) / 72


def literal(name: Any, width: int = 26) -> str:
    """Return a name from the data on one line, with its middle cut if it is long."""
    text = " ".join(str(name).encode("utf-8", "replace").decode().split())
    if len(text) > width:
        text = f"{text[: width - 10]}…{text[-9:]}"
    return text.replace("$", r"\$")  # no mathtext


def label_axis(axis: Axis, labels: Sequence[str], positions: Any = None) -> None:
    """Label categories, as many as fit without touching when the figure is drawn.

    Labels of the x-axis are vertical if they are too wide. Label the y-axis first, since its labels
    take width.
    """
    positions = np.arange(len(labels)) if positions is None else np.asarray(positions)
    size = float(axis.get_major_ticks(1)[0].label1.get_fontsize())
    size = min(size, _SMALL) if len(labels) > _MANY else size
    width, height = max(_text_widths(labels, size)) + size / 2, 1.3 * size
    axis.set_tick_params(labelsize=size, length=0)
    lay_out(axis.axes)
    upright = isinstance(axis, XAxis) and width > pitch(axis, _spacing(positions))
    if upright:
        axis.set_tick_params(labelrotation=90)
    lying = isinstance(axis, XAxis) and not upright
    axis.set_major_locator(_Categories(positions, width if lying else height))
    axis.set_major_formatter(_Labels(positions, labels))


def integer_ticks(axis: Axis) -> None:
    """Put ticks only at whole numbers."""
    axis.set_major_locator(MaxNLocator(integer=True))


def lay_out(ax: Axes) -> None:
    """Lay out the figure, so that the lengths of the axes are known."""
    figure = ax.figure.figure  # the root figure, even of a subfigure
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    ax.apply_aspect()


def pitch(axis: Any, step: float = 1.0) -> float:
    """Return the present distance in points between axis values that are `step` apart."""
    box = axis.axes.get_window_extent()
    pixels = box.width if isinstance(axis, XAxis) else box.height
    low, high = axis.get_view_interval()
    return float(pixels * step / abs(high - low) * 72 / axis.axes.figure.dpi)


def text_colour(rgba: Any) -> str:
    """Return black or white, whichever is readable on this colour."""
    return "black" if np.dot(rgba[:3], [0.299, 0.587, 0.114]) > 0.5 else "white"


def as_pixels(images: Any, image_shape: Sequence[int]) -> NDArray[np.float64]:
    """Return flattened images, (n, n_features), as RGB, (n, height, width, 3) in [0, 1].

    Values in [0, 1] are the levels themselves. Other values are scaled from the smallest to the
    largest.
    """
    images = np.asarray(images, dtype=np.float64)
    low, high = min(images.min(), 0.0), max(images.max(), 1.0)
    if (low, high) != (0.0, 1.0):
        low, high = images.min(), images.max()
    pixels = ((images - low) / ((high - low) or 1)).reshape(len(images), *image_shape)
    return pixels if pixels.ndim == 4 else np.repeat(pixels[..., None], 3, axis=3)


def mosaic(ax: Axes, pixels: NDArray[np.float64]) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """Draw a grid of images, (rows, columns, height, width, 3), as one image.

    Return the image artist, and the centres of the rows and of the columns.
    """
    rows, columns, height, width = pixels.shape[:4]
    gap = max(1, round(0.06 * width))
    padded = np.pad(pixels, [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)], constant_values=1.0)
    canvas = padded.transpose(0, 2, 1, 3, 4).reshape(rows * (height + gap), -1, 3)
    im = ax.imshow(canvas[:-gap, :-gap], interpolation="none")
    ax.spines[:].set_visible(False)
    centre_y = np.arange(rows) * (height + gap) + (height - 1) / 2
    centre_x = np.arange(columns) * (width + gap) + (width - 1) / 2
    return im, centre_y, centre_x


def _text_widths(labels: Sequence[str], size: float) -> list[float]:
    """Return the width of each label in points."""
    font, measure = FontProperties(size=size), text_to_path.get_text_width_height_descent
    return [measure(label.replace(r"\$", "$"), font, ismath=False)[0] for label in labels]


def _spacing(positions: NDArray[Any]) -> float:
    return float(positions[1] - positions[0]) if len(positions) > 1 else np.inf


class _Categories(Locator):
    """Ticks at the categories, or at every second or third one if labels need more room."""

    def __init__(self, positions: NDArray[Any], room: float) -> None:
        self.positions, self.room = positions, room  # room: points of one label

    def __call__(self) -> Any:
        step = math.ceil(self.room / max(pitch(self.axis, _spacing(self.positions)), 1e-3))
        return self.positions[:: max(1, step)]

    def tick_values(self, vmin: float, vmax: float) -> Any:
        return self.positions


class _Labels(Formatter):
    """The label of the category at a position."""

    def __init__(self, positions: NDArray[Any], labels: Sequence[str]) -> None:
        self.positions, self.labels = positions, labels

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self.labels[int(np.abs(self.positions - x).argmin())]
