"""The command line: compare the three transformers on the digits, or on a file of yours.

``python -m sklearn_classvsc --help`` says everything. Read from `main` down to `measure`; torch,
scikit-learn and pandas are imported only once there is work for them, so that help is instant.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

DESCRIPTION = """\
Train VAETransformer, VSCTransformer and ClassVSCTransformer with their defaults, on 70 % of
scikit-learn's handwritten digits or of a file of yours, compare their codes on the other 30 %, and
write a page on what ClassVSC has learned: factor_report.html.
"""

EPILOG = """\
files:
  .csv       one row per sample, the names of the columns in the first line
  .parquet   the same; needs pip install "sklearn-classvsc[parquet]"
  .npz       two arrays: the labels, which --target names, and the features, (samples, features)

  COLUMN holds the class of each sample: strings or whole numbers. Every other column is a feature
  and holds finite numbers: remove identifiers, encode categories and fill what is missing first.
  A class needs two samples, and two of the classes about 17, to be both trained on and measured.

several processes:
  torchrun --nproc_per_node N -m sklearn_classvsc trains in N processes together, the first of which
  prints and writes; needs pip install "sklearn-classvsc[distributed]"

exit status:
  0 for success; 2 for arguments or data that cannot be used, with one line that says why

examples:
  python -m sklearn_classvsc
  python -m sklearn_classvsc --data iris.csv --target species --out results
  python -m sklearn_classvsc --n-components 16 --seed 1 --verbose
"""

LEGEND = """\
All figures are of held-out data. A dimension is active in a sample when its code is not 0.
  explained variance   of the data decoded from the codes, in the data's units: 1 is perfect
  active dimensions    per sample, on average: fewer is a shorter explanation
  dead dimensions      used by no class: 0 is best
  class consistency    share of its active dimensions that a sample has in common with another of
                       its class: 0 to 1, and 1 also where everything is always active
  class sharing        the same for two samples of different classes, over all dimensions
  nonglobal contrast   consistency minus sharing, without the dimensions that every class has:
                       -1 to 1, high when the active dimensions tell classes apart, 0 if dense
  logistic accuracy    of a logistic regression on the standardised codes: 0 to 1
"""

#: Name of the page on ClassVSC.
REPORT = "factor_report.html"
#: Fraction of the samples that is measured, and not trained on.
HELD_OUT = 0.3
#: Held-out samples below which the metrics leave a class out.
MIN_SAMPLES = 5
#: How many columns or arrays an error lists.
LISTED = 20


class Split(NamedTuple):
    """Features (n, f) and labels (n,), to train on and held out."""

    X_train: pd.DataFrame
    X_test: pd.DataFrame
    y_train: NDArray[Any]
    y_test: NDArray[Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    status : int
        0, or 2 where the data or the arguments cannot be used.

    Raises
    ------
    SystemExit
        By argparse, for arguments that it cannot read and after ``--help``.
    """
    with nullcontext() if _is_first() else _silence():
        args = make_parser().parse_args(argv)
        try:
            run(args)
        except (ValueError, FloatingPointError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments.

    Returns
    -------
    parser : ArgumentParser
        With a help that says everything.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_classvsc",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE", help="a .csv, .parquet or .npz file (default: digits)")
    add("--target", metavar="COLUMN", help="column, or array, of FILE that holds the classes")
    files = f"{REPORT}, table.csv and roles.csv"
    no_out = "the page alone, into the current folder"
    add("--out", type=Path, metavar="DIR", help=f"write {files} into DIR (default: {no_out})")
    count, seed = _integer(1), _integer(0)
    default = "(default: the estimators')"
    add("--n-components", type=count, metavar="N", help=f"dimensions of the codes {default}")
    add("--max-epochs", type=count, metavar="N", help=f"passes over the data {default}")
    add("--seed", type=seed, default=0, metavar="N", help="of split and training (default: 0)")
    add("--verbose", action="store_true", help="show progress on the standard error stream")
    return parser


def run(args: argparse.Namespace) -> None:
    """Load, compare, print, write.

    Parameters
    ----------
    args : Namespace
        What `make_parser` reads.

    Raises
    ------
    ValueError, FloatingPointError, OSError
        If the arguments or the data cannot be used; the message is for the user.
    """
    name = "digits" if args.data is None else args.data.name
    with _together():
        X, y = load(args.data, args.target)
        split = split_data(X, y, args.seed)
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
        print(describe(name, split, args.seed), flush=True)
        sizes = {"n_components": args.n_components, "max_epochs": args.max_epochs}
        given = {name: value for name, value in sizes.items() if value is not None}
        verbose = int(args.verbose)
        table, class_vsc = compare(split, random_state=args.seed, verbose=verbose, **given)
    if not _is_first():
        return
    print(f"\n{format_table(table)}\n\n{LEGEND}", flush=True)
    written = []
    if args.out is not None:
        written = [args.out / "table.csv", args.out / "roles.csv"]
        table.to_csv(written[0])
        list_roles(class_vsc, split).to_csv(written[1], index=False)
    page = (args.out or Path.cwd()) / REPORT
    title, shape = f"Factor report: {name}", None if args.data else (8, 8)
    try:
        written.append(write_report(class_vsc, split, page, title=title, image_shape=shape))
    except (ImportError, OSError) as error:  # the table is what was asked for first
        print(f"warning: no {REPORT}: {_one_line(error)}.", file=sys.stderr)
    if written:
        print(f"Written: {', '.join(map(str, written))}")


# -- several processes -----------------------------------------------------------------------------


def _is_first() -> bool:
    """Return whether this process is the only one, or the first that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def _together() -> Iterator[None]:
    """Fit in all processes that torchrun has started; an error of one is raised in all."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    from sklearn_classvsc.distributed import ProcessLostError, data_parallel

    try:
        with data_parallel():
            yield
    except (ImportError, ProcessLostError) as error:
        raise OSError(str(error)) from error


# -- reading ---------------------------------------------------------------------------------------


def load(path: Path | None = None, target: str | None = None) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the features and labels of a file, or of the digits.

    Parameters
    ----------
    path : Path, default=None
        A file for `read_table`; None takes scikit-learn's digits.
    target : str, default=None
        The column of the labels; needed with `path`, and only then.

    Returns
    -------
    X : DataFrame of shape (n_samples, n_features), float64
        Finite features, by name.
    y : ndarray of shape (n_samples,)
        Labels, int64 or str.

    Raises
    ------
    ValueError
        If the table cannot be used; the message says which row and column, and why.
    OSError
        If the file cannot be read.
    """
    if path is None:
        if target is not None:
            raise ValueError(f"--target {target!r} names a column of a file: give it with --data.")
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True, as_frame=True)
        return X, y.to_numpy()
    table = read_table(path, target)
    if target not in table:
        asked = "--target is missing" if target is None else f"--target {target!r} is no column"
        raise ValueError(f"{asked}: the columns of {path} are {_listing(table.columns)}.")
    if table.shape[1] < 2:
        raise ValueError(f"{path} has no column but {target!r}: add features.")
    if table.empty:
        raise ValueError(f"{path} has columns but no rows: it is empty.")
    features = table.drop(columns=target)
    _check_numeric(features)
    _check_complete(table)
    return _to_floats(features), _to_labels(table[target])


def read_table(path: Path, target: str | None = None) -> pd.DataFrame:
    """Read a table with named columns.

    Parameters
    ----------
    path : Path
        A .csv, .parquet or .npz file.
    target : str, default=None
        Which array of a .npz file becomes a column; the one 2-d array beside it becomes the others.

    Returns
    -------
    table : DataFrame
        One row per sample, indexed from 0.

    Raises
    ------
    ValueError
        If the file is empty, broken or of another kind.
    OSError
        If there is no such file.
    """
    readers: dict[str, Callable[[Path, str | None], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".parquet": _read_parquet,
        ".npz": _read_npz,
    }
    if (suffix := path.suffix.lower()) not in readers:
        raise ValueError(f"{path} ends in {suffix!r}, expected one of {_listing(readers)}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder." if path.is_dir() else f"No file {path}.")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty.")
    return readers[suffix](path, target)


def _read_csv(path: Path, target: str | None) -> pd.DataFrame:
    import pandas as pd

    try:
        with warnings.catch_warnings():  # of rows longer than the header, which would be cut
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, index_col=False, low_memory=False)
    except (ValueError, pd.errors.ParserWarning) as error:  # ValueErrors: pandas' and Unicode's
        raise ValueError(f"{path} cannot be read as CSV: {_one_line(error)}.") from error


def _read_parquet(path: Path, target: str | None) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path).reset_index(drop=True)
    except ImportError as error:
        raise ValueError(
            f'{path} needs a reader of Parquet: pip install "sklearn-classvsc[parquet]".'
        ) from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {_one_line(error)}.") from error


def _read_npz(path: Path, target: str | None) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    arrays = _load_arrays(path)
    listed = _listing([f"{name} {array.shape}" for name, array in arrays.items()], quote=False)
    if target not in arrays:
        asked = "--target is missing" if target is None else f"--target {target!r} is no array"
        raise ValueError(f"{asked}: the arrays of {path} are {listed}.")
    y = arrays.pop(target)
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if y.ndim != 1 or len(matrices) != 1:
        raise ValueError(
            f"{path} holds {listed}: expected the 1-d array {target!r} of labels and one 2-d array "
            f"of features beside it, found {len(matrices)}. Keep one with "
            f"np.savez(file, X=features, {target if target.isidentifier() else 'y'}=labels)."
        )
    (name,) = matrices
    X = arrays[name]
    if len(X) != len(y):
        raise ValueError(
            f"{path} holds {len(X)} rows of {name!r}, but {len(y)} labels {target!r}: one per row."
        )
    table = pd.DataFrame(X, columns=[f"{name}[:, {j}]" for j in range(X.shape[1])])
    labels = pd.Series(y.astype(str) if y.dtype.kind == "S" else np.asarray(y), name=target)
    return pd.concat([table, labels], axis=1)


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an archive, none of which may hold Python objects."""
    from zipfile import BadZipFile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        if "Object arrays" in str(error):
            hint = "an array holds Python objects; save strings with labels.astype(str)"
        else:
            hint = "it is no archive of arrays; write one with np.savez(file, X=..., y=...)"
        raise ValueError(f"{path} cannot be read as NPZ: {hint}.") from error


# -- checking --------------------------------------------------------------------------------------


def _check_numeric(features: pd.DataFrame) -> None:
    import pandas as pd
    from pandas.api.types import is_complex_dtype, is_numeric_dtype

    for name, column in features.items():
        if is_numeric_dtype(column) and not is_complex_dtype(column):
            continue
        values = column.astype(object).dropna()
        unread = values[pd.to_numeric(values.astype(str), errors="coerce").isna()]
        example = next(iter(unread if len(unread) else values), None)
        raise ValueError(
            f"column {str(name)!r} holds {example!r}, but features are numbers: encode or remove "
            "the column, or name it with --target if it holds the classes."
        )


def _check_complete(table: pd.DataFrame) -> None:
    import numpy as np

    missing = np.argwhere(table.isna().to_numpy())
    if len(missing):
        row, column = missing[0]
        others = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"row {row + 1}, column {str(table.columns[column])!r} is missing{others} (row 1 is "
            "the first sample): fill or remove what is missing."
        )


def _to_floats(features: pd.DataFrame) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    X: NDArray[np.float64] = features.to_numpy(dtype=np.float64)
    infinite = np.argwhere(~np.isfinite(X))
    if len(infinite):
        row, column = infinite[0]
        raise ValueError(
            f"row {row + 1}, column {str(features.columns[column])!r} is {X[row, column]} (row 1 "
            "is the first sample): features are finite numbers."
        )
    return pd.DataFrame(X, columns=features.columns.astype(str))


def _to_labels(column: pd.Series[Any]) -> NDArray[Any]:
    """Return labels as int64 where they are whole numbers, else as strings."""
    import numpy as np
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if not is_numeric_dtype(column) or is_bool_dtype(column):
        return np.array([str(value) for value in column])
    values = column.to_numpy()
    fractional = values[values % 1 != 0]
    if len(fractional):
        raise ValueError(
            f"--target {str(column.name)!r} holds {fractional[0]:g}, but classes are strings or "
            "whole numbers: name another column, or cut this one into intervals."
        )
    return np.asarray(values, dtype=np.int64)


def split_data(X: pd.DataFrame, y: NDArray[Any], seed: int) -> Split:
    """Hold out 30 % of the samples of each class.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
        Features.
    y : ndarray of shape (n_samples,)
        Labels.
    seed : int
        Seed of the split.

    Returns
    -------
    split : Split
        Both parts.

    Raises
    ------
    ValueError
        If there is one class only, a class has one sample, or the held-out part is too small to
        measure.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    classes, sizes = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"all {len(y)} samples are of the class {classes[0]!s}: 2 are needed.")
    if sizes.min() < 2:
        alone = _listing(classes[sizes == 1].tolist())
        raise ValueError(
            f"there is a single sample of the class {alone}, which cannot be both trained on and "
            "held out: add samples or remove it, or name the right column with --target."
        )
    too_small = ValueError(
        f"{len(y)} samples of {len(classes)} classes are too few: of 30 % held out, at least 2 "
        f"classes need {MIN_SAMPLES} samples each. Add samples, or merge or remove rare classes."
    )
    if math.ceil(HELD_OUT * len(y)) < len(classes):
        raise too_small
    split = Split(*train_test_split(X, y, test_size=HELD_OUT, stratify=y, random_state=seed))
    _, held_out = np.unique(split.y_test, return_counts=True)
    if (held_out >= MIN_SAMPLES).sum() < 2:
        raise too_small
    return split


# -- comparing -------------------------------------------------------------------------------------


def compare(split: Split, **params: Any) -> tuple[pd.DataFrame, Any]:
    """Train the three transformers and measure their codes on the held-out data.

    Warnings go to the standard error stream, with the name of the system.

    Parameters
    ----------
    split : Split
        The data.
    **params : dict
        Parameters of all three constructors.

    Returns
    -------
    table : DataFrame
        One row per system, with the figures of `measure` as columns.
    class_vsc : ClassVSCTransformer
        The last of them, fitted.
    """
    import pandas as pd

    from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

    systems = {"VAE": VAETransformer, "VSC": VSCTransformer, "ClassVSC": ClassVSCTransformer}
    rows = {}
    for name, make in systems.items():
        if params.get("verbose"):
            print(name, file=sys.stderr)
        with warnings.catch_warnings(record=True) as caught:
            estimator = make(**params).fit(split.X_train, split.y_train)
            rows[name] = measure(estimator, split)
        for warning in caught:
            print(f"warning: {name}: {_one_line(warning.message)}.", file=sys.stderr)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("system"), estimator


def measure(estimator: Any, split: Split) -> dict[str, float]:
    """Return the figures of a fitted transformer, in the order of the table.

    Parameters
    ----------
    estimator : fitted transformer
        Trained on the first part of `split`.
    split : Split
        The data; the second part is measured.

    Returns
    -------
    figures : dict of str to float
        By name. Definitions are those of :mod:`sklearn_classvsc.metrics`.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sklearn_classvsc import metrics

    Z, y = estimator.transform(split.X_test), split.y_test
    sharing = metrics.class_sharing_matrix(Z, y)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(estimator.transform(split.X_train), split.y_train)
    return {
        "explained_variance": metrics.fidelity_scorer(estimator, split.X_test),
        "active_dimensions": float((Z != 0).sum(axis=1).mean()),
        "dead_dimensions": round(metrics.dead_fraction(Z, y) * Z.shape[1]),
        "class_consistency": metrics.class_consistency_score(Z, y),
        "class_sharing": float(sharing[~np.eye(len(sharing), dtype=bool)].mean()),
        "nonglobal_contrast": metrics.class_contrast_score(Z, y),
        "logistic_accuracy": float(classifier.score(Z, y)),
    }


def list_roles(estimator: Any, split: Split) -> pd.DataFrame:
    """Return the roles of the dimensions on the held-out data.

    Parameters
    ----------
    estimator : fitted transformer
        Trained on the first part of `split`.
    split : Split
        The data; the second part is looked at.

    Returns
    -------
    roles : DataFrame
        Of ``dimension_roles``, the classes joined by ";".
    """
    from sklearn_classvsc.metrics import dimension_roles

    roles = dimension_roles(estimator.transform(split.X_test), split.y_test)
    roles["classes"] = [";".join(map(str, classes)) for classes in roles["classes"]]
    return roles


def write_report(estimator: Any, split: Split, path: Path, **kwargs: Any) -> Path:
    """Write the factor report of the held-out data.

    Parameters
    ----------
    estimator : fitted transformer
        Trained on the first part of `split`.
    split : Split
        The data; the second part is reported.
    path : Path
        The file.
    **kwargs : dict
        Of ``factor_report``: title, image_shape.

    Returns
    -------
    path : Path
        The same.

    Raises
    ------
    ImportError
        If Jinja2 is missing.
    OSError
        If the file cannot be written.
    """
    from sklearn_classvsc.report import factor_report

    return factor_report(estimator, split.X_test, split.y_test, **kwargs).save(path)


# -- showing ---------------------------------------------------------------------------------------


def describe(name: str, split: Split, seed: int) -> str:
    """Say in one line what was measured.

    Parameters
    ----------
    name : str
        Name of the data.
    split : Split
        The data.
    seed : int
        Seed of split and training.

    Returns
    -------
    line : str
        Data, sizes and seed.
    """
    n_train, n_features = split.X_train.shape
    n_test = len(split.X_test)
    n_classes = len({*split.y_train.tolist(), *split.y_test.tolist()})
    return (
        f"{name}: {n_train + n_test} samples, {n_features} features, {n_classes} classes; "
        f"{n_train} to train, {n_test} held out; seed {seed}"
    )


def format_table(table: pd.DataFrame) -> str:
    """Lay the table out narrowly, the names of the figures in two lines.

    Parameters
    ----------
    table : DataFrame
        Of `compare`.

    Returns
    -------
    text : str
        A row per system.
    """
    import pandas as pd

    columns = pd.MultiIndex.from_tuples([tuple(name.split("_")) for name in table.columns])
    shown = table.set_axis(columns, axis="columns").rename_axis(None)
    return shown.to_string(float_format="{:.3f}".format, sparsify=False)


def _integer(low: int) -> Callable[[str], int]:
    """Return a reader of integers of at least `low`, within 32 bits."""

    def integer(text: str) -> int:
        if not low <= (value := int(text)) < 2**32:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {2**32 - 1}")
        return value

    return integer


def _listing(names: Any, quote: bool = True) -> str:
    """Return the first names, and how many more there are."""
    shown = [repr(str(name)) if quote else str(name) for name in names]
    more = [f"{len(shown) - LISTED} more"] if len(shown) > LISTED else []
    return ", ".join(shown[:LISTED] + more)


def _one_line(message: object) -> str:
    """Return the message without line breaks and the full stop."""
    return " ".join(str(message).split()).rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
