"""Numbers as displays and reports write them."""

from __future__ import annotations

import numpy as np


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Write a few significant digits, with an exponent only for very small or large numbers."""
    if value is None:
        return "–"
    value = float(value)
    if value and not 1e-4 <= abs(value) < 1e7:
        text = f"{value:{'+' if sign else ''}.{digits - 1}e}"
    else:
        text = np.format_float_positional(value, digits, fractional=False, trim="-", sign=sign)
    return text.replace("-", "\N{MINUS SIGN}")
