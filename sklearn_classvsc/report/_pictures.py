"""Pictures for the page: PNG images as data URLs, and vector marks as SVG path data.

Vector marks take their colours from the page's style sheet, hence follow light and dark; that, and
not to need matplotlib for a page, is why they are drawn here.
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

#: Steps of opacity in a map.
LEVELS = 10
#: Longest side of an image that is embedded, and values that all of them may have but for the
#: slider's; larger ones lose rows and columns evenly.
MAX_SIDE, MAX_STILL = 64, 600_000
#: What raises a pixel and what lowers it: Okabe and Ito's vermilion and blue.
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
        Smallest and largest value of the data; black and white, unless both are in [0, 1], which
        is then the scale.
    n_pictures : int
        How many there will be.
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
        scaled = (self._shaped(X) - self.low) / max(self.high - self.low, 1e-12)
        return png((255 * scaled.clip(0, 1)).round().astype(np.uint8))

    def change(self, difference: NDArray[Any]) -> str:
        """Draw a difference of images: more in one colour, less in another, none clear.

        The largest change is opaque: pictures of changes compare in shape and not in strength.
        """
        change = self._shaped(np.nan_to_num(difference)[None])
        change = change.mean(axis=2) if change.ndim == 3 else change
        colour = np.where((change > 0)[..., None], MORE, LESS)
        opacity = 255 * np.abs(change) / max(np.abs(change).max(), 1e-12)
        return png(np.dstack([colour, opacity.round()]).astype(np.uint8))

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
        Level 1 to `LEVELS`, and SVG path data. One path holds many cells, so that a map of 20,000
        cells is small.
    """
    level = np.ceil(np.nan_to_num(values).clip(0, 1) * LEVELS - 1e-9).astype(int)
    box = f"h{width - 1}v{height - 1}h-{width - 1}z"
    paths = []
    for step in range(1, LEVELS + 1):
        marks = np.argwhere(level == step)
        if len(marks):
            path = "".join(f"M{j * width} {i * height}{box}" for i, j in marks.tolist())
            paths.append((step, path))
    return paths


def curve(values: Sequence[float | None], width: int, height: int, points: int = 200) -> str:
    """Draw a curve that fills the box, as SVG path data; gaps where a value is missing."""
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
