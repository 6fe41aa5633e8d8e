"""Pictures of the page: PNG images as data URLs, SVG path data, and the layout of the two maps.

SVG takes its colours from the style sheet of the page, and follows its light and dark schemes. The
report does not need matplotlib.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import ROLES
from . import _words

#: Steps of opacity in a map.
LEVELS = 10
#: Longest side of an embedded image, and most values of all images without those of the sliders.
#: Larger images lose rows and columns evenly.
MAX_SIDE, MAX_STILL = 64, 600_000
#: Most classes whose values are written into the cells of the matrix.
READABLE = 12
#: Longest label of a map.
LABEL = 24
#: Widest map, in CSS pixels, that a narrow screen shows whole, and a wide one beside text.
FITS = 460
#: Height of a line of the names of roles.
LANE = 14
#: Colours of brighter and darker pixels: Okabe and Ito's vermilion and blue.
MORE, LESS = (213, 94, 0), (0, 114, 178)


def png(pixels: NDArray[np.uint8]) -> str:
    """Encode grey (h, w), RGB (h, w, 3) or RGBA (h, w, 4) pixels as the data URL of a PNG."""
    height, width = pixels.shape[:2]
    kind = {1: 0, 3: 2, 4: 6}[pixels.size // (height * width)]
    rows = pixels.reshape(height, -1)
    scanlines = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()  # 0: no filter
    chunks = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(scanlines, 9)),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    encoded = base64.b64encode(b"".join([b"\x89PNG\r\n\x1a\n", *parts])).decode()
    return f"data:image/png;base64,{encoded}"


class ImageMaker:
    """Draw flattened images of one shape on one scale.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, 3).
    limits : tuple of (low, high)
        Smallest and largest value of the data, drawn black and white. If both are in [0, 1], the
        scale is [0, 1].
    n_pictures : int
        Number of pictures that will be drawn.
    """

    def __init__(
        self, image_shape: Sequence[int], limits: tuple[float, float], n_pictures: int
    ) -> None:
        self.image_shape = tuple(image_shape)
        low, high = limits
        self.low, self.high = (0.0, 1.0) if 0 <= low and high <= 1 else limits
        side = min(MAX_SIDE, int((MAX_STILL / (4 * n_pictures)) ** 0.5))  # up to 4 values a pixel
        self.step = -(-max(self.image_shape[:2]) // max(side, 8))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        height, width = (-(-side // self.step) for side in self.image_shape[:2])
        return height, width

    @property
    def n_values(self) -> int:
        """Number of values of a picture of a sample."""
        return prod((*self.size, *self.image_shape[2:]))

    def images(self, X: NDArray[Any]) -> str:
        """Draw the images of X, (n_images, n_features), one below the other."""
        return png(self._grey(self._shaped(X)))

    def grid(self, X: NDArray[Any]) -> str:
        """Draw the images of X, (n_rows, n_columns, n_features), as a grid."""
        n_rows, n_columns = X.shape[:2]
        stacked = self._shaped(X.reshape(n_rows * n_columns, -1)).reshape(
            n_rows, n_columns, *self.size, -1
        )
        joined = stacked.swapaxes(1, 2).reshape(n_rows * self.size[0], n_columns * self.size[1], -1)
        return png(self._grey(joined))

    def change(self, difference: NDArray[Any]) -> str:
        """Draw a difference of images, in one colour where it is positive and another where not.

        The largest change is opaque, whatever its size: such pictures show shapes, not strengths.
        """
        change = self._shaped(np.nan_to_num(difference)[None])
        change = change.mean(axis=2) if change.ndim == 3 else change
        colour = np.where((change > 0)[..., None], MORE, LESS)
        opacity = 255 * np.abs(change) / max(np.abs(change).max(), 1e-12)
        return png(np.dstack([colour, opacity.round()]).astype(np.uint8))

    def _grey(self, X: NDArray[np.float64]) -> NDArray[np.uint8]:
        scaled = (X - self.low) / max(self.high - self.low, 1e-12)
        return (255 * scaled.clip(0, 1)).round().astype(np.uint8)

    def _shaped(self, X: NDArray[Any]) -> NDArray[np.float64]:
        stacked = np.asarray(X, dtype=np.float64).reshape(len(X), *self.image_shape)
        stacked = stacked[:, :: self.step, :: self.step]
        return stacked.reshape(-1, *stacked.shape[2:])


def cells(values: NDArray[np.float64], width: int, height: int) -> list[tuple[int, str]]:
    """Draw a matrix of fractions as one path for each step of opacity.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        In [0, 1]; NaN is left blank.
    width, height : int
        Of a cell.

    Returns
    -------
    paths : list of (level, path)
        Level, from 1 to `LEVELS`, and SVG path data. One path holds all cells of a level, which
        keeps a map of 20,000 cells small.
    """
    level = np.round(np.nan_to_num(values).clip(0, 1) * LEVELS).astype(int)
    box = f"h{width - 1}v{height - 1}h-{width - 1}z"
    paths = []
    for step in range(1, LEVELS + 1):
        marks = np.argwhere(level == step)
        if len(marks):
            path = "".join(f"M{j * width} {i * height}{box}" for i, j in marks.tolist())
            paths.append((step, path))
    return paths


def bars(heights: Sequence[float], width: int, height: int) -> str:
    """Draw bars side by side, as SVG path data."""
    step = width / len(heights)
    return "".join(
        f"M{i * step:.1f} {height}v-{height * value:.1f}h{step - 0.5:.1f}V{height}z"
        for i, value in enumerate(heights)
        if value > 0
    )


def curve(values: Sequence[float | None], width: int, height: int, points: int = 200) -> str:
    """Draw a curve that fills the box, as SVG path data, with gaps for missing values."""
    y = np.array([np.nan if value is None else value for value in values], dtype=float)
    if not np.isfinite(y).any():
        return ""
    x = np.linspace(0, width, len(y)) if len(y) > 1 else np.array([width / 2])
    picked = np.unique(np.linspace(0, len(y) - 1, min(points, len(y))).round().astype(int))
    low, high = np.nanmin(y), np.nanmax(y)
    y = height - height * (y - low) / (high - low) if high > low else np.full(len(y), height / 2)
    path, pen = [], "M"
    for i in picked:
        if np.isnan(y[i]):
            pen = "M"
        else:
            path.append(f"{pen}{x[i]:.1f} {y[i]:.1f}")
            pen = "L"
    return "".join(path)


# -- the two maps: positions of cells, labels and brackets, in SVG units ---------------------------


def factor_order(data: dict[str, Any]) -> list[int]:
    """Return positions of factors, ordered by role, then by their classes, then by size.

    Inert factors come last.
    """
    position = {c: i for i, c in enumerate(data["class_order"])}

    def key(i: int) -> tuple[bool, int, list[int], float]:
        entry = data["factors"][i]
        classes = sorted(position[c] for c in entry["classes"])
        return entry["inert"], ROLES.index(entry["role"]), classes, -entry["size"]

    return sorted(range(len(data["factors"])), key=key)


def factor_map(data: dict[str, Any], rows: list[int], columns: list[int]) -> dict[str, Any]:
    """Lay out how often each class activates each factor, with the factors grouped by role."""
    rates, factors = np.array(data["activation_rates"]), data["factors"]
    of_factors = (
        np.array([rates[:, f["dimensions"]].mean(axis=1) for f in factors])
        .reshape(-1, len(rates))
        .T
    )
    height = 24 if len(rows) <= 6 else 18 if len(rows) <= 40 else 13
    left = _left(data, rows, height)
    width = max(13, min(36, (FITS - 8 - left) // max(1, len(columns))))
    grid = _grid(data, of_factors, rows, columns, (width, height))
    numbers = [factors[i]["dimensions"][0] for i in columns]
    full = [_words.called(factors[i], data) for i in columns]
    labels = [(str(j), name) for j, name in zip(numbers, full, strict=True)]
    grid |= _columns(labels or [("", "")], grid["cell"][0])
    grid["columns"] = grid["columns"][: len(columns)]
    roles = ["no effect" if factors[i]["inert"] else factors[i]["role"] for i in columns]
    grid["bracket"] = 6 + grid["column_height"]
    grid["groups"] = _groups(roles, width)
    lanes = 1 + max([lane for *_, lane in grid["groups"]], default=0)
    grid["top"] = grid["bracket"] + 12 + LANE * lanes
    return _sized(grid)


def _groups(roles: list[str], width: int) -> list[tuple[int, int, str, int]]:
    """Return the left and right end of each role's bracket, its name, and the line of the name.

    A name that is wider than its bracket, and would reach the next name, stands a line higher.
    """
    groups: list[tuple[int, int, str, int]] = []
    taken: list[float] = []  # the leftmost name or leader in each line, from the lowest
    end = len(roles)
    for role in reversed(list(dict.fromkeys(roles))):
        start = end - roles.count(role)
        left, lane = start * width + 1, 0
        while lane < len(taken) and left + _name_width(role) > taken[lane]:
            lane += 1
        taken[: lane + 1] = [left] * (lane + 1)
        groups.insert(0, (left, end * width - 3, role, lane))
        end = start
    return groups


def _name_width(role: str) -> float:
    return 6.6 * len(role) + 6


def sharing_map(data: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """Lay out the sharing of any two classes."""
    sharing = np.array(data["class_sharing"], dtype=float)
    readable = len(order) <= READABLE
    cell = (40, 26) if readable else (18, 18) if len(order) <= 40 else (13, 13)
    grid = _grid(data, sharing, order, order, cell)
    names = [(data["classes"][c]["name"], data["classes"][c]["name"]) for c in order]
    grid |= _columns([(_words.shorten(name, LABEL), full) for name, full in names], cell[0])
    grid["top"] = 10 + grid["column_height"]
    if readable:
        shown = sharing[np.ix_(order, order)]
        grid["texts"] = [
            ((j + 0.5) * cell[0], (i + 0.5) * cell[1], f"{100 * value:.0f}", _level(value))
            for (i, j), value in np.ndenumerate(shown)
            if np.isfinite(value)
        ]
    return _sized(grid)


def _level(value: float) -> int:
    return int(np.ceil(value * 10 - 1e-9))


def _grid(
    data: dict[str, Any],
    values: NDArray[np.float64],
    rows: list[int],
    columns: list[int],
    cell: tuple[int, int],
) -> dict[str, Any]:
    names = [data["classes"][c]["name"] for c in rows]
    labels = [_words.shorten(name, LABEL) for name in names]
    return {
        "cell": cell,
        "paths": cells(values[np.ix_(rows, columns)], *cell),
        "texts": [],
        "groups": [],
        "bracket": 0,
        "order": (rows, columns),
        "values": values,
        "row_size": _row_size(cell[1]),
        "rows": [
            (round((i + 0.5) * cell[1], 1), label, _words.shorten(name, 200))
            for i, (label, name) in enumerate(zip(labels, names, strict=True))
        ],
        "left": _left(data, rows, cell[1]),
    }


def _left(data: dict[str, Any], rows: list[int], height: int) -> int:
    """Return the room for the names of the rows."""
    names = [_words.shorten(data["classes"][c]["name"], LABEL) for c in rows]
    return 12 + round(0.62 * _row_size(height) * max(map(_width, names)))


def _row_size(height: int) -> int:
    return 11 if height > 13 else 10


def _columns(labels: list[tuple[str, str]], width: int) -> dict[str, Any]:
    size = 11 if width > 13 else 10
    longest = 0.62 * size * max(_width(label) for label, _ in labels)
    upright = longest > width - 2  # a gap between neighbours
    return {
        "column_size": size,
        "upright": upright,
        "column_height": round(longest if upright else size) + 6,
        "columns": [
            (round((j + 0.5) * width, 1), label, _words.shorten(full, 200))
            for j, (label, full) in enumerate(labels)
        ],
    }


def _width(text: str) -> float:
    """Return the width of a text in letters, where letters of wide scripts count double."""
    return sum(1 + (ord(letter) > 0x590) for letter in text)


def _sized(grid: dict[str, Any]) -> dict[str, Any]:
    names = [start + _name_width(name) for start, _, name, _ in grid["groups"]]
    grid["width"] = grid["left"] + round(max([len(grid["columns"]) * grid["cell"][0], *names])) + 8
    grid["fits"] = grid["width"] <= FITS
    grid["height"] = grid["top"] + len(grid["rows"]) * grid["cell"][1] + 2
    return grid
