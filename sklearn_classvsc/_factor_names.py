"""Names of dimensions that users give, in the page of a report or in code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ._messages import brief

#: A mapping of dimensions to names, or the JSON file that the page exports.
Names: TypeAlias = Mapping[Any, Any] | str | os.PathLike[str] | None


def read_names(names: Names, n_components: int) -> dict[int, str]:
    """Return the name of each dimension that has one.

    Parameters
    ----------
    names : mapping, path or None
        Mapping from the index of a dimension, as an integer or a string, to a name, or the JSON
        file that the page of a report exports.
    n_components : int
        Number of dimensions.

    Raises
    ------
    ValueError
        If it is not such a mapping, or names a dimension that does not exist.
    OSError
        If the file cannot be read.
    """
    if names is None:
        return {}
    given: Any = names
    if isinstance(names, str | os.PathLike):
        try:
            given = json.loads(Path(names).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"names is the file {brief(str(names))}, which is not JSON ({error}): pass the "
                "file that the page exports."
            ) from error
    if not isinstance(given, Mapping):
        raise ValueError(
            f"names is {brief(given)}, but must be a mapping of dimensions to names, such as "
            '{3: "heel height"}.'
        )
    read = {}
    for key, name in given.items():
        text = str(key)
        if not (text.isascii() and text.isdecimal() and int(text) < n_components):
            raise ValueError(
                f"names has the key {brief(key)}, but the dimensions are 0 to {n_components - 1}."
            )
        if str(name).strip():
            read[int(text)] = str(name)
    return read
