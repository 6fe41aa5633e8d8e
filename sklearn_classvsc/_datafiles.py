"""Files of samples for the command line: reading, choosing and encoding their columns.

`read_table` reads a file, `take_columns` splits it into features and labels, and `make_encoder`
turns features into numbers. A file that cannot be used raises an error of one line.
"""

from __future__ import annotations

import csv
import re
import reprlib
import shlex
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import (
    infer_dtype,
    is_datetime64_any_dtype,
    is_float_dtype,
    is_integer_dtype,
    is_numeric_dtype,
)
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

#: Most columns, arrays or classes that a message lists, and most categories of a column.
LISTED = 20
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


class UnusableError(ValueError):
    """Error for a file that can be read but not used; the message says what to do."""


# -- files -----------------------------------------------------------------------------------------


def _read_text(path: Path, sep: str, encoding: str = "utf-8", **options: Any) -> pd.DataFrame:
    read: Any = partial(pd.read_csv, path, encoding=encoding)
    try:
        with path.open("rb") as file:  # pandas may read UTF-16 or binary files without an error
            if encoding == "utf-8" and path.suffix.lower() in KINDS and b"\0" in file.read(4096):
                raise UnicodeError
        # Reads whole lines, since no text holds the separator \1.
        head = read(sep="\1", header=None, nrows=2, quoting=csv.QUOTE_NONE, dtype=str)
        head = head[0].astype(str)
    except UnicodeError as error:
        raise UnusableError(
            f"{path} is not text in {encoding}: name its encoding, as in --encoding latin-1 or "
            "--encoding utf-16. If it is a spreadsheet, export it as text."
        ) from error
    names = re.sub('"[^"]*"', "", head[0])
    likely = max(";\t|,", key=names.count)
    if sep not in names and likely in names:
        decimal = " --decimal ," if likely != "," and re.search(r"\d,\d", head.iloc[-1]) else ""
        raise UnusableError(
            f"The columns of {path} seem separated by {likely!r}: add --sep {likely!r}{decimal}."
        )
    with warnings.catch_warnings():  # pandas would cut rows longer than the header
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return read(sep=sep, index_col=False, low_memory=False, **options)


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    named = [name for name in table.index.names if name is not None]  # as in a CSV file
    return table.reset_index(named).reset_index(drop=True)


def _read_npz(path: Path, target: str | None) -> pd.DataFrame:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: np.asarray(array) for name, array in archive.items()}
    shapes = listing((f"{name} {np.shape(array)}" for name, array in arrays.items()), str)
    if target not in arrays:
        raise UnusableError(
            f"{_asked('target', target, 'array')}; the arrays of {path} are {shapes}."
        )
    y = arrays.pop(target)
    matrices = {name: X for name, X in arrays.items() if X.ndim == 2 and X.dtype.kind in "biuf"}
    if y.ndim != 1 or y.dtype.kind not in "biufSU" or [*map(len, matrices.values())] != [len(y)]:
        raise UnusableError(
            f"{path} holds {shapes}, but must hold the 1-d array {target!r} of labels (numbers or "
            "text) and one 2-d array of real numbers with a row for each label; found "
            f"{len(matrices)}. Turn images into rows with X.reshape(len(X), -1), and labels into "
            "1-d with y.ravel(). Save one of each with np.savez(file, X=features, y=labels)."
        )
    ((name, X),) = matrices.items()
    labels = np.char.decode(y, errors="backslashreplace") if y.dtype.kind == "S" else y
    table = pd.DataFrame(X.astype(float), columns=[f"{name}[:, {j}]" for j in range(X.shape[1])])
    return table.assign(**{str(target): labels.tolist()})


#: Reader of each kind of file, and what to do if it fails.
_TEXT = "its first line must name the columns, and every row must have as many fields"
KINDS: dict[str, tuple[Callable[..., pd.DataFrame], str]] = {
    ".csv": (partial(_read_text, sep=","), _TEXT),
    ".tsv": (partial(_read_text, sep="\t"), _TEXT),
    ".parquet": (_read_parquet, 'reading it needs pip install "sklearn-classvsc[parquet]"'),
    ".npz": (_read_npz, "write it with np.savez(file, X=features, y=labels.astype(str))"),
}
#: Endings of files that pandas decompresses.
COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"}


def read_table(path: Path, target: str | None = None, **text: Any) -> pd.DataFrame:
    """Read a table with named columns and a row for each sample, indexed from 0.

    Parameters
    ----------
    path : Path
        The file.
    target : str, default=None
        Array of labels in a .npz file; it becomes a column of the table.
    text : dict
        `sep`, `decimal`, `encoding` and `na_values` of `pandas.read_csv`.

    Raises
    ------
    ValueError, OSError
        If the file cannot be read.
    """
    kind = next((x for x in map(str.lower, path.suffixes[::-1]) if x not in COMPRESSED), "")
    if kind not in KINDS:
        raise ValueError(
            f"{path} ends in {path.suffix!r}, but must end in one of {listing(KINDS)}. Text may be "
            "compressed, as in .csv.gz."
        )
    read, remedy = KINDS[kind]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder." if path.is_dir() else f"No file {path}.")
    try:
        table = read(path, **({"target": target} if kind == ".npz" else text))
    except UnusableError:
        raise
    except Exception as error:  # a damaged file can raise anything in its reader
        found = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder="...")
        kind = kind[1:].upper()
        raise ValueError(
            f"{path} cannot be read as {kind}: {found.rstrip('.')}; {remedy}."
        ) from error
    table.columns = table.columns.map(str)
    if (twice := table.columns[table.columns.duplicated()]).size:
        raise ValueError(f"{path} has several columns of one name, {listing(twice)}: rename them.")
    return table


# -- columns ---------------------------------------------------------------------------------------

#: Names that programs give to an index of the rows, and names of identifiers.
UNNAMED = re.compile(r"|Unnamed: \d+.*|__index_level_\d+__|\.\.\.\d+")
INDEX = re.compile(r"index(\.\d+)?|level_\d+", re.IGNORECASE)
IDENTIFIER = re.compile(r"(?i:(^|[\W_])(id|uuid|guid|row|row_?(name|num|number))s?$)|[a-z]I[dD]$")
#: Fewest values that can show that a column counts the rows.
ENOUGH = 10
#: Kinds of numbers as `infer_dtype` calls them, and a pattern of text that may be a date.
NUMBERS = {"boolean", "decimal", "empty", "floating", "integer", "mixed-integer-float"}
DATE = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ]\d\d?:\d\d.*)?"


def take_columns(
    path: Path, table: pd.DataFrame, target: str | None, keep: Sequence[str], drop: Sequence[str]
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the features (float64, datetime64 or text) and the labels (int64 or str).

    One ValueError names all columns that cannot be features: columns with values of several kinds,
    and columns that number or name the rows and are not in `keep`.
    """
    asked = [("target", target), *(("keep", x) for x in keep), *(("drop", x) for x in drop)]
    for option, name in asked:
        if name not in table:
            raise ValueError(
                f"{_asked(option, name, 'column')}; the columns of {path} are {listing(table)}."
            )
    assert target is not None
    if both := {target, *keep}.intersection(drop):
        raise ValueError(f"--drop {min(both)!r} is also --target or --keep: choose one.")
    table = table[table[target].notna()].reset_index(drop=True)
    X = table.drop(columns=[target, *drop]).apply(read_column)
    if not X.size:
        what = "rows with a class" if X.shape[1] else f"column left but {target!r}: add features"
        raise ValueError(f"{path} has no {what}.")
    names = [str(name) for name in X]
    index = [name for name in names if name not in keep and _tells_rows_apart(name, X[name])]
    problems = {x: problem for x in names if x not in index and (problem := _problem(X[x]))}
    found = [f"column {_short.repr(name)} {what}" for name, (what, _) in problems.items()]
    ways = [way for _, way in problems.values()]
    if index:
        found.insert(0, f"an index or identifier, not a measurement: {listing(index)}")
        ways.insert(0, "use a measured column with --keep NAME")
    if found:
        bad = [*index, *problems]
        options = " ".join("--drop" + " ="[name[:1] == "-"] + shlex.quote(name) for name in bad)
        each = options if len(options) < 300 else "--drop NAME for each"
        raise ValueError(
            f"{path} has columns that cannot be used: {listing(found, str, '; ')}. "
            f"Leave them out with {'; or '.join(dict.fromkeys([each, *ways]))}."
        )
    return X, to_labels(table[target])


def read_column(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return numbers as float64, dates as datetime64, and the rest as text, with NaN if missing."""
    if infer_dtype(column, skipna=True) in NUMBERS or is_numeric_dtype(column):
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan))
    if is_datetime64_any_dtype(column):
        return pd.Series(pd.to_datetime(column, utc=True).dt.tz_localize(None))
    text = column.astype(object).where(column.notna(), np.nan).map(str, na_action="ignore")
    if (numbers := pd.to_numeric(text, errors="coerce")).notna().equals(text.notna()):
        return numbers.astype(np.float64)
    if text.dropna().str.fullmatch(DATE).all():
        # Month first (12/31/2020) if that reads all dates, else day first.
        for how in ({"format": "ISO8601"}, {}, {"dayfirst": True}):
            with suppress(ValueError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dates: Any = pd.to_datetime(text, utc=True, **how)
                return dates.dt.tz_localize(None)
    return text.astype(object)


def to_days(X: pd.DataFrame) -> pd.DataFrame:
    """Return dates as days since 1970, in columns whose names say so."""
    days = X.apply(lambda dates: (dates - pd.Timestamp(0)) / pd.Timedelta(days=1))
    return days.set_axis(_in_days(None, X.columns), axis=1)


def _in_days(_: Any, names: Iterable[Any]) -> NDArray[Any]:
    return np.array([f"{name} (days since 1970)" for name in names], dtype=object)


def _tells_rows_apart(name: str, column: pd.Series[Any]) -> bool:
    """Return whether a column looks like an index or an identifier, by its name or its values.

    Whole numbers look like an index if they always rise or always fall, or if they all differ
    although they fill a quarter of their range: measured values would repeat. Other numbers do if
    they change in equal steps. Text looks like an identifier if it hardly repeats.
    """
    if UNNAMED.fullmatch(name):
        return True
    if column.dtype == object:
        share = 2 if IDENTIFIER.search(name) else 3
        many = max(LISTED * (share == 3), column.count() / share)
        return not _of_numbers(column).any() and column.nunique() > many
    numbers = to_days(column.to_frame()).iloc[:, 0] if is_datetime64_any_dtype(column) else column
    values = numbers[np.isfinite(numbers)].to_numpy()
    n, steps, whole = len(values), np.diff(values), bool(np.all(values % 1 == 0))
    if whole and n and INDEX.fullmatch(name):
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


def _of_numbers(text: pd.Series[Any]) -> pd.Series[bool]:
    """Return where text is a number; nowhere if most of it is not, since it holds categories."""
    plain = text.dropna().str.replace(r"^(\s*[-+]?\d*),(\d+\s*)$", r"\1.\2", regex=True)
    numbers = pd.to_numeric(plain, errors="coerce").notna()
    return numbers & bool(numbers.mean() > 0.5)


def _problem(column: pd.Series[Any]) -> tuple[str, str] | None:
    """Return what is wrong with a feature and what to do, or None."""
    if not column.notna().any():
        return "holds no value", "fill it"
    if column.dtype == object and (numbers := _of_numbers(column)).any():
        values = column.dropna()
        if (commas := values[values.str.fullmatch(r"\s*[-+]?\d*,\d+\s*")]).size:
            return f"holds {commas.iloc[0]!r}", "read decimal commas with --decimal ,"
        word = values[~numbers].iloc[0]
        return (
            f"holds {_short.repr(word)} among numbers",
            f"read it as a missing value with --missing {shlex.quote(word)[:40]}",
        )
    if is_float_dtype(column) and (infinite := np.flatnonzero(np.isinf(column))).size:
        return (
            f"is {column[infinite[0]]} in row {infinite[0] + 1}",
            "write infinite values as missing (row 1 is the first sample with a class)",
        )
    return None


def to_labels(column: pd.Series[Any]) -> NDArray[Any]:
    """Return labels as int64 if all are whole numbers, else as text, without merging any."""
    values = column.convert_dtypes()
    texts = values.astype(object).map(str)
    several = texts.nunique()
    if is_float_dtype(values):
        found = f"holds {column[(column % 1 != 0).to_numpy()].iloc[0]}"
    elif re.search("[\0\ud800-\udfff]", "".join(texts)):
        found = "holds NUL characters or lone surrogates"
    elif several > max(LISTED, len(texts) / 3):
        found = f"has {several} different values in {len(texts)} samples"
    else:
        whole = is_integer_dtype(values) and values.max() < 2**63
        return values.to_numpy(np.int64) if whole else texts.to_numpy(str)
    raise ValueError(
        f"--target {_short.repr(column.name)} {found}, but classes must be text or whole numbers "
        "that samples share: name another column, or cut this one into intervals."
    )


# -- numbers ---------------------------------------------------------------------------------------


def make_encoder() -> ColumnTransformer:
    """Return an encoder of columns: dates as days, and categories one-hot with rare ones merged.

    A missing number or date stays NaN. A missing category is a category.
    """
    days = FunctionTransformer(to_days, feature_names_out=_in_days)
    named = SimpleImputer(strategy="constant", fill_value="missing")
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=LISTED, sparse_output=False
    )
    return make_column_transformer(
        ("passthrough", make_column_selector(dtype_include="number")),
        (days, make_column_selector(dtype_include="datetime")),
        (make_pipeline(named, one_hot), make_column_selector(dtype_include=object)),
        verbose_feature_names_out=False,
    )


# -- words -----------------------------------------------------------------------------------------


def _asked(option: str, name: str | None, what: str) -> str:
    what = f"an {what}" if what == "array" else f"a {what}"
    if name is None:
        return f"--{option} is missing: name {what}"
    return f"--{option} {name!r} is not {what}"


def listing(names: Iterable[Any], show: Callable[[str], str] = _short.repr, by: str = ", ") -> str:
    """Return the first names, shortened, and the number of others."""
    shown = [show(str(name)) for name in names]
    more = [f"{len(shown) - LISTED} more"] if len(shown) > LISTED else []
    return by.join(shown[:LISTED] + more)
