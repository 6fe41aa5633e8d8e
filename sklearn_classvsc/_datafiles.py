"""Files of samples for the command line: reading, choosing and encoding their columns.

`read_table` reads a file, `take_columns` splits it into features and labels, and `make_encoder`
turns text into numbers. A file that cannot be used raises an error of one line.
"""

from __future__ import annotations

import codecs
import csv
import re
import reprlib
import shlex
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

#: Most columns, arrays or classes that a message lists, and most categories of a column.
LISTED = 20
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


class UnusableError(ValueError):
    """Error for a file that can be read but not used; the message says what to do."""


# -- files -----------------------------------------------------------------------------------------


def _read_text(
    path: Path, sep: str | None, decimal: str | None, encoding: str | None, missing: str | None
) -> pd.DataFrame:
    with path.open("rb") as file:
        start = file.read(4096)
    if encoding is None:
        utf_16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if utf_16 else "utf-8"
    # pandas may read UTF-16 or binary files without an error.
    if encoding == "utf-8" and path.suffix.lower() in KINDS and b"\0" in start:
        raise UnicodeError("not text in utf-8")
    read: Any = partial(pd.read_csv, path, encoding=encoding)
    # Reads whole lines, since no text holds the separator \1.
    lines = read(sep="\1", header=None, nrows=1000, quoting=csv.QUOTE_NONE, dtype=str)[0]
    names = re.sub('"[^"]*"', "", str(lines[0]))
    sep = sep or ("\t" if "\t" in names else max(",;|", key=names.count))
    if decimal is None:
        number = rf'(?:^|;)[" ]*{COMMA}[" ]*(?:;|$)'
        decimal = "," if sep == ";" and lines.str.contains(number, na=False).any() else "."
    read = partial(read, sep=sep, skipinitialspace=True, index_col=False)
    with warnings.catch_warnings():  # pandas would cut rows longer than the header
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = read(low_memory=False, decimal=decimal, na_values=missing)
    # pandas renames columns that share a name, and names columns without one.
    first = read(header=None, nrows=1, dtype=str).iloc[0]
    table.columns = [x if pd.isna(y) else y for x, y in zip(table, first, strict=True)]
    table.attrs["decimal"] = decimal
    return table.drop(columns=[x for x in table if UNNAMED.fullmatch(x) and table[x].isna().all()])


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    named = [name for name in table.index.names if name is not None]  # as in a CSV file
    return table.reset_index(named).reset_index(drop=True)


def _read_npz(path: Path, target: str | None) -> pd.DataFrame:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: np.asarray(array) for name, array in archive.items()}
    shapes = listing((f"{name} {np.shape(array)}" for name, array in arrays.items()), str)
    _check_name("target", target, arrays, f"the arrays of {path} are {shapes}", "an array")
    y = arrays.pop(str(target))
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
_TEXT = _read_text, "its first line must name the columns, and every row must have as many fields"
KINDS: dict[str, tuple[Callable[..., pd.DataFrame], str]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), _TEXT),
    ".parquet": (_read_parquet, 'reading it needs pip install "sklearn-classvsc[parquet]"'),
    ".npz": (_read_npz, "write it with np.savez(file, X=features, y=labels.astype(str))"),
}
#: Endings of files that pandas decompresses.
COMPRESSED = {".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"}


def read_table(path: Path, target: str | None, **text: str | None) -> pd.DataFrame:
    """Read a table with named columns and a row for each sample, indexed from 0.

    `target` names the array of labels in a .npz file, which becomes a column of the table. `text`
    holds `sep`, `decimal`, `encoding` and `missing`: what separates columns, the decimal point, and
    text that stands for nothing. A ValueError or an OSError says why the file cannot be read.
    """
    kind = next((x for x in map(str.lower, path.suffixes[::-1]) if x not in COMPRESSED), "")
    if kind not in KINDS:
        raise ValueError(
            f"{path} ends in {path.suffix!r}, but must end in one of {listing(KINDS)}. Text may be "
            "compressed, as in .csv.gz. Export a spreadsheet as .csv."
        )
    read, remedy = KINDS[kind]
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist: check the path"
        raise FileNotFoundError(f"--data {path} {what}.")
    options = {".npz": {"target": target}, ".parquet": {}}.get(kind, text)
    if options is not text and (unused := [f"--{x}" for x in text if text[x]]):
        raise ValueError(f"{path} is not text, so that {', '.join(unused)} cannot apply: omit it.")
    try:
        table = read(path, **options)
    except UnusableError:
        raise
    except Exception as error:  # a damaged file can raise anything in its reader
        if isinstance(error, UnicodeError) or "unknown encoding" in str(error):
            remedy = (
                "name its encoding, as in --encoding latin-1 or --encoding utf-16. If it is a "
                "spreadsheet, export it as text"
            )
        found = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder="...")
        raise ValueError(
            f"{path} cannot be read as {kind[1:].upper()}: {found.rstrip('.')}; {remedy}."
        ) from error
    table.columns = table.columns.map(str).str.strip()
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
#: What a column of days adds to the name of its dates.
IN_DAYS = " (days since 1970)"
#: Text that may be a date, a number with a decimal comma, and text of digits and marks only.
DATE = r"\d{1,4}([-/.]\d{1,2}[-/.]|[-/. ]+[A-Za-z]{3,9}[-/. ]+)\d{1,4}([T ]\d\d?:\d\d.*)?"
COMMA = r"\s*[-+]?\d*,\d+\s*"
DIGITS = r"\W*\d[\d\W]*"


def take_columns(
    path: Path,
    table: pd.DataFrame,
    target: str | None,
    keep: Collection[str],
    drop: Collection[str],
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the features (float64 or text) and the labels (int64 or str).

    One ValueError names all columns that cannot be features: columns with values of several kinds,
    and columns that number or name the rows and are not in `keep`.
    """
    columns = f"the columns of {path} are {listing(table)}"
    if len(table.columns) == 1 or any(re.fullmatch(r"-?\d+[.,]\d+", x) for x in [*table]):
        columns += ". Its first line must name the columns, and --sep C what separates them"
    for option, names in (("target", [target]), ("keep", keep), ("drop", drop)):
        for name in names:
            _check_name(option, name, [*table], columns)
    if both := {target, *keep}.intersection(drop):
        raise ValueError(f"--drop {min(map(str, both))!r} is also --target or --keep: choose one.")
    decimal = table.attrs.get("decimal", ".")
    table = table[table[target].notna()].reset_index(drop=True)
    columns_left = table.drop(columns=[target, *drop])
    features = {str(name): read_column(x, decimal) for name, x in columns_left.items()}
    if not features or table.empty:
        what = f"column left but {target!r}: add features" if table.size else "rows with a class"
        raise ValueError(f"{path} has no {what}.")
    found: dict[str, list[str]] = {}
    ways: dict[str, None] = {}
    for name, column in features.items():
        if problem := _problem(name, column, decimal, name in keep):
            found.setdefault(problem[0], []).append(name)
            ways[problem[1]] = None
    if found:
        bad = [name for names in found.values() for name in names]
        options = " ".join("--drop" + " ="[name[:1] == "-"] + shlex.quote(name) for name in bad)
        each = options if len(options) < 300 else "--drop NAME for each"
        what = listing((f"{listing(names)} ({what})" for what, names in found.items()), str, "; ")
        raise ValueError(
            f"{path} has columns that cannot be used: {what}. "
            f"Leave them out with {'; or '.join([each, *ways])}."
        )
    return pd.concat(features.values(), axis=1), to_labels(table[target])


def read_column(column: pd.Series[Any], decimal: str = ".") -> pd.Series[Any]:
    """Return numbers as float64, dates as days in a column whose name says so, the rest as text."""
    if column.dtype == object:
        column = column.convert_dtypes()  # of numbers with gaps, as Parquet may hold
    if types.is_numeric_dtype(column):
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan), name=column.name)
    text = column.astype(object).where(column.notna(), np.nan).map(str, na_action="ignore")
    numbers = pd.to_numeric(text, errors="coerce")
    # Where a comma is the decimal point, 1.234 may be more than a thousand.
    if numbers.notna().equals(text.notna()) and (decimal != "," or numbers.isna().all()):
        return numbers.astype(np.float64)
    if types.is_datetime64_any_dtype(column) or text.dropna().str.fullmatch(DATE).all():
        # Month first (12/31/2020) if that reads all dates, else day first.
        for how in ({"format": "ISO8601"}, {}, {"dayfirst": True}):
            with suppress(ValueError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                times: Any = pd.to_datetime(text, utc=True, **how)
                days = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
                return days.rename(f"{column.name}{IN_DAYS}")
    return text.astype(object)


def _problem(name: str, column: pd.Series[Any], decimal: str, kept: bool) -> tuple[str, str] | None:
    """Return what is wrong with a feature and what to do, or None."""
    values = column.dropna()
    unread, is_text = values[:0], column.dtype == object
    if values.empty:
        return "no value", "fill them in the file"
    if not kept and _tells_rows_apart(name, values):
        if not is_text or IDENTIFIER.search(name) or values.str.fullmatch(DIGITS).mean() < 0.5:
            if is_text and values.str.count(r"\S+").mean() > 3:
                return (
                    "text, not a category",
                    "count its words first, with CountVectorizer in Python",
                )
            way = "use a measured column with --keep NAME"
            return "an index or identifier, not a measurement", way
        unread = values
    elif is_text and (numbers := _of_numbers(values)).any():
        marked = values.str.fullmatch(COMMA.replace(",", r"\." if decimal == "," else ","))
        unread = values[marked] if marked.any() else values[~numbers]
    elif not is_text and (infinite := values[np.isinf(values)]).size:
        way = "write infinite values as missing (row 1 is the first sample with a class)"
        return f"{infinite.iloc[0]} in row {infinite.index[0] + 1}", way
    if unread.empty:
        return None
    word = str(unread.iloc[0])
    way = f"read it as a missing value with --missing {shlex.quote(word)[:40]}"
    if re.fullmatch(COMMA.replace(",", "[.,]"), word):
        mark = "," if "," in word else "."
        way = (
            f"read {mark} as the decimal point with --decimal {mark} or write thousands without it"
        )
    elif re.fullmatch(DIGITS, word):
        way = "write numbers without thousands separator or unit, and dates like 2020-12-31"
    return f"{_short.repr(word)} reads neither as a number nor as a date", way


def _tells_rows_apart(name: str, values: pd.Series[Any]) -> bool:
    """Return whether a column looks like an index or an identifier, by its name or its values.

    Whole numbers look like an index if they always rise or always fall, or if they all differ
    although they fill a quarter of their range: measured values would repeat. Other numbers do if
    they change in equal steps. Text looks like an identifier if it hardly repeats.
    """
    n, n_different, named = len(values), values.nunique(), bool(IDENTIFIER.search(name))
    if UNNAMED.fullmatch(name):
        return True
    if values.dtype == object:
        many = n / 2 if named else max(LISTED, n / 3)
        return n_different > many and not _of_numbers(values).any()
    values = values[np.isfinite(values)]
    n, steps, whole = len(values), np.diff(values), bool((values % 1 == 0).all())
    if whole and n and INDEX.fullmatch(name):
        return True
    if named or n < ENOUGH:
        return named and n_different > n / 2
    if not whole:
        return bool(steps[0] and np.allclose(steps, steps[0], rtol=1e-6, atol=0))
    dense = n <= np.ptp(values) + 1 <= max(n, min(4 * n, n * n / 20))
    return bool((steps > 0).all() or (steps < 0).all() or (dense and values.is_unique))


def _of_numbers(values: pd.Series[Any]) -> pd.Series[bool]:
    """Return where text is a number; nowhere if most of it is not, since it holds categories."""
    plain = values.where(~values.str.fullmatch(COMMA), values.str.replace(",", "."))
    numbers = pd.to_numeric(plain, errors="coerce").notna()
    return numbers & bool(numbers.mean() > 0.5)


def to_labels(column: pd.Series[Any]) -> NDArray[Any]:
    """Return labels as int64 if all are whole numbers, else as text, without merging any."""
    with np.errstate(invalid="ignore"):  # infinite values are no whole numbers
        values = column.convert_dtypes()
    texts = values.astype(object).map(str)
    several = texts.nunique()
    if types.is_float_dtype(values):
        found = f"holds {column[(column % 1 != 0).to_numpy()].iloc[0]}"
    elif re.search("[\0\ud800-\udfff]", "".join(texts)):
        found = "holds NUL characters or lone surrogates"
    elif several > max(LISTED, len(texts) / 3):
        found = f"has {several} different values in {len(texts)} samples"
    else:
        whole = types.is_integer_dtype(values) and values.max() < 2**63
        return values.to_numpy(np.int64) if whole else texts.to_numpy(str)
    raise ValueError(
        f"--target {_short.repr(column.name)} {found}, but classes must be text or whole numbers "
        "that samples share: name another column, or cut this one into intervals."
    )


def constant_columns(X: pd.DataFrame) -> str:
    """List the features of one value; a missing category is a value, a missing number is none."""
    constant = [x for x in X.columns if X[x].nunique(dropna=X[x].dtype != object) == 1]
    return listing(str(x).removesuffix(IN_DAYS) for x in constant)


# -- numbers ---------------------------------------------------------------------------------------


def make_encoder() -> ColumnTransformer:
    """Return an encoder of text as categories, one-hot with rare ones merged.

    A missing number stays NaN. A missing category is a category.
    """
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=LISTED, sparse_output=False
    )
    named = SimpleImputer(strategy="constant", fill_value="missing")
    return make_column_transformer(
        ("passthrough", make_column_selector(dtype_include="number")),
        (make_pipeline(named, one_hot), make_column_selector(dtype_include=object)),
        verbose_feature_names_out=False,
    )


# -- words -----------------------------------------------------------------------------------------


def _check_name(
    option: str, name: str | None, names: Collection[str], there: str, what: str = "a column"
) -> None:
    if name in names:
        return
    if name is None:
        raise UnusableError(f"--{option} is missing: name {what}; {there}.")
    folded = {str(x).lower(): str(x) for x in names}
    close = get_close_matches(name.strip().lower(), folded, 1)
    hint = f" (did you mean {_short.repr(folded[close[0]])}?)" if close else ""
    raise UnusableError(f"--{option} {name!r} is not {what}{hint}; {there}.")


def listing(names: Iterable[Any], show: Callable[[str], str] = _short.repr, by: str = ", ") -> str:
    """Return the first names, shortened, and the number of others."""
    shown = [show(str(name)) for name in names]
    more = [f"{len(shown) - LISTED} more"] if len(shown) > LISTED else []
    return by.join(shown[:LISTED] + more)
