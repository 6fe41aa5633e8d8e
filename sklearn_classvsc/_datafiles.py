"""Files of samples, for the command line: read as features and labels, or refused in one line.

`read_table` knows the kinds of files, and `take_columns` knows what their columns must hold.
"""

from __future__ import annotations

import csv
import re
import reprlib
import shlex
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import infer_dtype, is_complex_dtype, is_numeric_dtype

#: How many columns, arrays or classes a message lists.
LISTED = 20
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


class UnusableError(ValueError):
    """A file that can be read, but not used; the message says what to do."""


# -- files -----------------------------------------------------------------------------------------


def _read_csv(path: Path, sep: str = ",", encoding: str = "utf-8", **options: str) -> pd.DataFrame:
    read: Any = partial(pd.read_csv, path, encoding=encoding)
    try:  # whole lines, since no text holds the separator \1
        lines = read(sep="\1", header=None, nrows=2, quoting=csv.QUOTE_NONE, dtype=str)[0]
        if "\0" in lines[0]:  # UTF-16 without a mark at its beginning
            raise UnicodeError
    except UnicodeError as error:
        raise UnusableError(
            f"{path} is not text in {encoding}: name its encoding, as in --encoding latin-1 or "
            "--encoding utf-16."
        ) from error
    names, first = [re.sub('"[^"]*"', "", line) for line in [*lines.astype(str), ""][:2]]
    likely = max(";\t|,", key=names.count)
    if sep not in names and likely in names:
        decimal = " --decimal ," if likely != "," and re.search(r"\d,\d", first) else ""
        raise UnusableError(
            f"{path} looks separated by {likely!r}: add --sep {likely!r}{decimal} to read it."
        )
    with warnings.catch_warnings():  # rows longer than the header would be cut
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return read(sep=sep, index_col=False, low_memory=False, **options)


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    named = [name for name in table.index.names if name is not None]  # columns in a CSV file
    return table.reset_index(named).reset_index(drop=True)


def _read_npz(path: Path, target: str | None) -> pd.DataFrame:
    arrays: dict[str, NDArray[Any]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                arrays[name] = np.asarray(archive[name])
            except Exception as error:  # as in `read_table`
                raise ValueError(f"array {name!r}: {error}") from error
    shapes = listing((f"{name} {array.shape}" for name, array in arrays.items()), str)
    if target not in arrays:
        raise UnusableError(f"{_asked('target', target)} array: those of {path} are {shapes}.")
    y = arrays.pop(target)
    matrices = {name: array for name, array in arrays.items() if array.ndim == 2}
    if y.ndim != 1 or len(matrices) != 1 or {len(X) for X in matrices.values()} != {len(y)}:
        raise UnusableError(
            f"{path} holds {shapes}: expected the 1-d array {target!r} of labels and one 2-d array "
            f"of features, with a row for each label; found {len(matrices)}. Make rows of images "
            "with X.reshape(len(X), -1) and labels 1-d with y.ravel(), and keep one of each with "
            "np.savez(file, X=features, y=labels)."
        )
    ((name, X),) = matrices.items()
    for array in (X, y):
        if array.dtype.kind not in "biufSU":
            raise UnusableError(
                f"{path} holds {array.dtype}, but features and labels are real or text."
            )
    # pandas computes in this machine's byte order; objects are not checked to be UTF-8 yet.
    X, y = (x.astype(object if x.dtype.kind in "SU" else x.dtype.newbyteorder()) for x in (X, y))
    columns = [f"{name}[:, {j}]" for j in range(X.shape[1])]
    return pd.DataFrame(X, columns=columns).assign(**{target: y})


_TEXT = "its first line must name the columns, and each row have as many fields"
_PARQUET = 'write it anew; reading needs pip install "sklearn-classvsc[parquet]"'
_NPZ = "write it with np.savez(file, X=features, y=labels), strings as labels.astype(str)"
#: By ending: the kind, its reader, how a file begins, and what to do if one cannot be read.
KINDS: dict[str, tuple[str, Callable[..., pd.DataFrame], bytes, str]] = {
    ".csv": ("CSV", _read_csv, b"", _TEXT),
    ".parquet": ("Parquet", _read_parquet, b"PAR1", _PARQUET),
    ".npz": ("NPZ", _read_npz, b"PK", _NPZ),
    ".tsv": ("TSV", partial(_read_csv, sep="\t"), b"", _TEXT),
}
#: What pandas decompresses.
COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"}
#: How files begin that are no text, but may be named as if they were.
BINARY = {b"PAR1": ".parquet", b"PK": ".npz or .xlsx", b"\x93NUMPY": ".npy", b"\x1f\x8b": ".csv.gz"}


def read_table(path: Path, target: str | None = None, **text: str) -> pd.DataFrame:
    """Read a table with named columns; one row per sample, indexed from 0.

    `target` names the array of a .npz file that becomes a column beside those of its 2-d array.
    `text` are pandas' sep, decimal and encoding. A file that cannot be read raises a ValueError or
    an OSError, with a message for its owner.
    """
    ending, *inner = [suffix.lower() for suffix in reversed(path.suffixes)] or [""]
    compressed = ending in COMPRESSED
    if (plain := next((x for x in (ending, *inner) if x not in COMPRESSED), "")) not in KINDS:
        raise ValueError(
            f"{path} ends in {path.suffix!r}, expected one of {listing(KINDS)}; text may be "
            "compressed, as in .csv.gz."
        )
    kind, read, start, remedy = KINDS[plain]
    if text and start:
        raise ValueError(f"--{min(text)} is for text, but {path} is {kind}: leave it out.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder." if path.is_dir() else f"No file {path}.")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
        like = [f", as {name} does" for magic, name in BINARY.items() if head.startswith(magic)]
        if not head.startswith(start) or (like and not start and not compressed):
            raise ValueError("".join([f"it begins with {head!r}", *like]))
        table = read(path, **({"target": target} if read is _read_npz else text))
    except UnusableError:
        raise
    except Exception as error:  # a damaged file can raise anything in its reader
        found = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder="...")
        found = found.removeprefix("ValueError: ").rstrip(".")
        raise ValueError(f"{path} cannot be read as {kind}: {found}; {remedy}.") from error
    table.columns = table.columns.map(str)
    if (twice := table.columns[table.columns.duplicated()]).size:
        raise ValueError(f"{path} has several columns {listing(twice)}: rename them.")
    return table


# -- columns ---------------------------------------------------------------------------------------

#: Names that writers of tables give to the index of the rows, and names of identifiers.
UNNAMED = re.compile(r"|Unnamed: \d+.*|__index_level_\d+__|\.\.\.\d+")
INDEX = re.compile(r"index(\.\d+)?|level_\d+", re.IGNORECASE)
IDENTIFIER = re.compile(r"(?i:(^|[\W_])(id|uuid|guid|row|row_?(name|num|number))s?$)|[a-z]I[dD]$")
#: Rows from which on the values of a column can show that it counts them.
ENOUGH = 10
#: What pandas calls objects that are numbers.
NUMBERS = {"boolean", "decimal", "empty", "floating", "integer", "mixed-integer-float"}


def take_columns(
    path: Path, table: pd.DataFrame, target: str | None, keep: Sequence[str], drop: Sequence[str]
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the features, float64, and the labels, int64 or str.

    One ValueError names all columns that cannot be features: text, gaps, infinities, and what
    numbers or names the rows, unless it is in `keep`.
    """
    asked = [("target", target), *(("keep", x) for x in keep), *(("drop", x) for x in drop)]
    for option, name in asked:
        if name not in table:
            raise ValueError(
                f"{_asked(option, name)} column: those of {path} are {listing(table)}."
            )
    if both := {target, *keep}.intersection(drop):
        raise ValueError(f"--drop {min(map(str, both))!r} is --target or --keep too: choose one.")
    table = table.drop(columns=[*drop])
    if table.shape[1] < 2:
        raise ValueError(f"{path} has no column left but {target!r}: add features.")
    if table.empty:
        raise ValueError(f"{path} has columns but no rows: it is empty.")
    X: dict[str, NDArray[np.float64]] = {}
    index, bad, found, ways = [], [], [], []
    for label, column in table.items():
        name, numbers = str(label), None if label == target else _to_numbers(column)
        if numbers is not None and name not in keep and _tells_rows_apart(name, numbers):
            index.append(name)
        elif problem := _problem(column, numbers, is_feature=name != target):
            found.append(problem[0])
            ways.append(problem[1])
            bad += [name] * (name != target)
        elif numbers is not None:
            X[name] = numbers
    if index:
        found.insert(0, f"an index or identifier, not a measurement: {listing(index)}")
        ways.insert(0, "keep a column that is measured with --keep NAME")
    if bad := index + bad:
        options = " ".join("--drop" + " ="[name[:1] == "-"] + shlex.quote(name) for name in bad)
        each = options if len(options) < 300 else "--drop NAME for each"
        ways.insert(0, f"leave columns out with {each}")
    if found:
        raise ValueError(
            f"{path} has columns that cannot be used: {listing(found, str, '; ')}. "
            f"What to do: {'; or '.join(dict.fromkeys(ways))}."
        )
    return pd.DataFrame(X), to_labels(table[str(target)])


def _to_numbers(column: pd.Series[Any]) -> NDArray[np.float64] | None:
    """Return a column as float64, with NaN where it is missing; None if it holds anything else."""
    numeric = is_numeric_dtype(column) or infer_dtype(column, skipna=True) in NUMBERS
    if not numeric or is_complex_dtype(column):
        return None
    return column.to_numpy(np.float64, na_value=np.nan)


def _tells_rows_apart(name: str, values: NDArray[np.float64]) -> bool:
    """Return whether a column looks like an index or an identifier, by its name or its values.

    Values that count the rows are whole and rise (or fall) throughout, or change in equal steps, or
    are all different although they fill a quarter of their range, where measured values repeat.
    """
    values = values[np.isfinite(values)]
    n, steps, whole = len(values), np.diff(values), bool(np.all(values % 1 == 0))
    if UNNAMED.fullmatch(name) or (whole and INDEX.fullmatch(name)):
        return True
    if IDENTIFIER.search(name):
        return len(np.unique(values)) > n / 2
    if n < ENOUGH:
        return False
    if not whole:
        return bool(steps[0] and np.allclose(steps, steps[0], rtol=1e-6, atol=0))
    dense = n <= np.ptp(values) + 1 <= max(n, min(4 * n, n * n / 20))
    rises = bool(np.all(steps > 0) or np.all(steps < 0))
    return rises or bool(dense and len(np.unique(values)) == n)


def _problem(
    column: pd.Series[Any], numbers: NDArray[np.float64] | None, is_feature: bool
) -> tuple[str, str] | None:
    """Return what is wrong with a column, and what to do about it."""
    named = f"column {_short.repr(column.name)}"
    if is_feature and numbers is None:
        values = column.dropna().astype(object)
        unread = values[pd.to_numeric(values.astype(str), errors="coerce").isna()]
        example = next(iter(unread if len(unread) else values))
        if isinstance(example, str) and re.fullmatch(r"\s*[-+]?\d*,\d+\s*", example):
            return f"{named} holds {example!r}", "let --decimal , read decimal commas"
        return f"{named} holds {_short.repr(example)}", "encode what is no number"
    missing = column.isna().to_numpy()
    rows = np.flatnonzero(missing if numbers is None else ~np.isfinite(numbers))
    if not len(rows):
        return None
    found = "missing" if numbers is None or np.isnan(numbers[rows[0]]) else f"{numbers[rows[0]]}"
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    way = "fill what is missing or infinite" if is_feature else "remove samples without a class"
    way += " (row 1 is the first sample)"
    return f"row {rows[0] + 1}, {named} is {found}{more}", way


def to_labels(column: pd.Series[Any]) -> NDArray[Any]:
    """Return labels as int64 if all are whole numbers, else as text; different ones stay so."""

    def plain(value: Any) -> Any:  # 1 for 1.0; but 1e300 may be rounded, and stays
        if isinstance(value, bytes):
            return value.decode(errors="backslashreplace")
        whole = isinstance(value, real) and value % 1 == 0 and abs(value) < 2**63
        return int(value) if whole else value

    real: Any = (float, Decimal, np.floating)
    values: list[Any] = [plain(value) for value in column.tolist()]
    texts = [str(value) for value in values]
    fractions = [value for value in values if isinstance(value, real) and value % 1]
    several = len(set(texts))
    found = f"has {several} different values in {len(texts)} samples"
    if fractions:
        found = f"holds {fractions[0]}"
    elif re.search("[\0\ud800-\udfff]", "".join(texts)):
        found = "holds NUL characters or lone surrogates"
    elif several <= max(LISTED, len(texts) / 3):
        whole = all(
            isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
            for value in values
        )
        return np.array(values, dtype=np.int64) if whole else np.array(texts)
    raise ValueError(
        f"--target {_short.repr(column.name)} {found}, but classes are strings or whole numbers, "
        "which samples share: name another column, or cut this one into intervals."
    )


# -- words -----------------------------------------------------------------------------------------


def _asked(option: str, name: str | None) -> str:
    return f"--{option} is missing: name a" if name is None else f"--{option} {name!r} is no"


def listing(names: Iterable[Any], show: Callable[[str], str] = _short.repr, by: str = ", ") -> str:
    """Return the first names, shortened, and how many more there are."""
    shown = [show(str(name)) for name in names]
    more = [f"{len(shown) - LISTED} more"] if len(shown) > LISTED else []
    return by.join(shown[:LISTED] + more)
