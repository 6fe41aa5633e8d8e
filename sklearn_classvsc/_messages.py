"""Messages to users: shortened values, and warnings that point at the user's line."""

from __future__ import annotations

import os
import reprlib
import sys
import warnings
from typing import Any

import joblib
import numpy as np
import sklearn

#: Longest text of a value, in characters.
LONGEST = 300
#: Folders of code between the user's line and a warning: this package, and its usual callers.
INSIDE = tuple(
    os.path.join(os.path.dirname(str(file)), "")
    for file in (__file__, sklearn.__file__, joblib.__file__)
)


class _Brief(reprlib.Repr):
    """Show the first values of a long sequence, and their number."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80

    def repr_list(self, x: list[Any], level: int) -> str:
        text = super().repr_list(x, level)
        return f"{text[:-1]} {len(x)} in all]" if len(x) > self.maxlist else text

    def repr_ndarray(self, x: Any, level: int) -> str:
        first = x.tolist() if x.ndim == 0 else x[: self.maxlist].tolist()
        text = self.repr1(first, level)
        return f"{text[:-1]}, ... {len(x)} in all]" if x.ndim and len(x) > self.maxlist else text

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, np.generic):
            return self.repr1(x.item(), level)
        return " ".join(super().repr_instance(x, level).split())


_BRIEF = _Brief()


def brief(value: Any) -> str:
    """Return the repr of a value on one line, cut if it is long."""
    return cut(_BRIEF.repr(value))


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text, cut if it is too long for a message."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package, also through scikit-learn or joblib."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
