"""Lay out the two maps of the page: where cells, labels and brackets stand, in SVG units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics import ROLES
from . import _words
from ._pictures import cells

#: Up to so many classes have their values written into the cells of the matrix.
READABLE = 12
#: Longest label.
LABEL = 24


def dimension_order(data: dict[str, Any]) -> list[int]:
    """Order dimensions by role, then by the first of their classes, then by specificity."""
    position = {c: i for i, c in enumerate(data["class_order"])}

    def key(entry: dict[str, Any]) -> tuple[int, list[int], float]:
        classes = sorted(position[c] for c in entry["classes"])
        return ROLES.index(entry["role"]), classes, -(entry["specificity"] or 0)

    return [entry["dimension"] for entry in sorted(data["dimensions"], key=key)]


def dimension_map(data: dict[str, Any], rows: list[int], columns: list[int]) -> dict[str, Any]:
    """Lay out how often each class has each dimension on, the dimensions grouped by role."""
    rates = np.array(data["activation_rates"])
    width = 18 if len(columns) <= 64 else 12
    grid = _grid(data, rates, rows, columns, (width, 18 if len(rows) <= 40 else 13))
    grid |= _columns([(str(j), f"dimension {j}") for j in columns], grid["cell"][0])
    roles = [data["dimensions"][j]["role"] for j in columns]
    grid["bracket"] = 6 + grid["column_height"]
    grid["groups"], start = [], 0
    for role in dict.fromkeys(roles):
        end = start + roles.count(role)
        grid["groups"].append(
            (start * width + 1, end * width - 3, _group(role, end - start, width))
        )
        start = end
    grid["top"] = grid["bracket"] + 26
    return _sized(grid)


def _group(role: str, n: int, width: int) -> str:
    """Return the role's name if it fits above its columns, or as much of it as does."""
    room = max(1, int(n * width / 6.5))
    return role if len(role) <= room else role[: max(1, room - 1)] + "…" * (room > 2)


def sharing_map(data: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """Lay out what any two classes share."""
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
    size = 11 if cell[1] > 13 else 10
    return {
        "cell": cell,
        "paths": cells(values[np.ix_(rows, columns)], *cell),
        "texts": [],
        "groups": [],
        "bracket": 0,
        "order": (rows, columns),
        "values": values,
        "row_size": size,
        "rows": [
            (round((i + 0.5) * cell[1], 1), label, _words.shorten(name, 200))
            for i, (label, name) in enumerate(zip(labels, names, strict=True))
        ],
        "left": 12 + round(0.62 * size * max(map(_width, labels))),
    }


def _columns(labels: list[tuple[str, str]], width: int) -> dict[str, Any]:
    size = 11 if width > 13 else 10
    longest = 0.62 * size * max(_width(label) for label, _ in labels)
    upright = longest > width
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
    """Return the width of a text in letters; those of wide scripts count double."""
    return sum(1 + (ord(letter) > 0x590) for letter in text)


def _sized(grid: dict[str, Any]) -> dict[str, Any]:
    grid["width"] = grid["left"] + len(grid["columns"]) * grid["cell"][0] + 8
    grid["height"] = grid["top"] + len(grid["rows"]) * grid["cell"][1] + 2
    return grid
