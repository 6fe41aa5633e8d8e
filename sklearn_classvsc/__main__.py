"""The command line: compare the three transformers on the digits, or on a file of yours.

``python -m sklearn_classvsc --help`` says everything. Read from `main` down to `measure`; torch,
scikit-learn and pandas are imported only once there is work for them, so that help is instant.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

DESCRIPTION = """\
Train VAETransformer, VSCTransformer and ClassVSCTransformer with their
defaults, on 70 % of scikit-learn's handwritten digits or of a file of yours,
compare their codes on the other 30 %, and write a page on what ClassVSC has
learned: factor_report.html.
"""

EPILOG = """\
files:
  .csv .tsv  a row per sample, below the names of the columns; also as .csv.gz
  .parquet   the same; needs pip install "sklearn-classvsc[parquet]"
  .npz       two arrays: labels, which --target names, and (samples, features)

  COLUMN holds the class of each sample: strings or whole numbers. Every other
  column is a feature: numbers as they are, dates in days, text as categories,
  of which the rarest count as one beyond 20. Numbers and dates may be missing,
  and are left out of what is learned and measured; a missing category is one
  more category. Samples without a class are left out. Columns that number or
  name the rows are refused, for they give away the order of the file. Two of
  the classes need 17 samples, and the others two, to be both trained on and
  measured.

  Where a spreadsheet would take text for a formula, table.csv and roles.csv
  have an apostrophe before it.

several processes:
  torchrun --nproc_per_node N -m sklearn_classvsc trains in N processes
  together, the first of which prints and writes; needs
  pip install "sklearn-classvsc[distributed]"

exit status:
  0 for success; 2 for arguments or data that cannot be used, with one line on
  the standard error stream that says why

examples:
  python -m sklearn_classvsc
  python -m sklearn_classvsc --data iris.csv --target species --out results
  python -m sklearn_classvsc --data eu.csv --target art --sep ';' --decimal ,
  python -m sklearn_classvsc --n-components 16 --seed 1 --verbose
"""

LEGEND = """\
All figures are of held-out data. A dimension is active where its code is not 0.
  explained variance   of a feature decoded from codes, on average: 1 is best
  active dimensions    per sample, on average: fewer is a shorter explanation
  dead dimensions      used by no class: 0 is best
  class consistency    share of the active dimensions of a sample that another
                       of its class has too: 0 to 1 (1 if all are active)
  class sharing        the same for two samples of different classes
  nonglobal contrast   consistency minus sharing, without dimensions that every
                       class has: -1 to 1, high if the others tell classes apart
  logistic accuracy    of a logistic regression on standardised codes: 0 to 1
"""

#: Name of the page on ClassVSC.
REPORT = "factor_report.html"
#: Fraction of the samples that is measured, and not trained on.
HELD_OUT = 0.3
#: Samples of which enough are held out: the metrics leave a class of fewer than five out.
ENOUGH = 17
#: What torchrun tells each of its processes.
LAUNCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: Text that a spreadsheet computes, some after trimming it; a number is none.
FORMULA = re.compile(
    r"(?!\s*[-+]?[\d.]+(e[-+]?\d+)?\s*$)(\s*[=+@＝＋－＠-]|[\t\r\n])", re.IGNORECASE
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 where arguments or data cannot be used.

    `argv` are the arguments; None takes those of the process. SystemExit is argparse's.
    """
    launched = all(name in os.environ for name in LAUNCH)
    rank, size = (int(os.environ[name]) for name in LAUNCH[:2]) if launched else (0, 1)
    try:
        with ExitStack() as stack:
            if rank:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            run(make_parser().parse_args(argv), rank, size)
    except (ValueError, FloatingPointError, OSError, MemoryError) as error:
        # All processes raise the same, but each knows alone that it cannot reach the others.
        if not rank or isinstance(error, ConnectionError):
            print(f"error: {_one_line(error)}.", file=sys.stderr)
        return 2
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_classvsc",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, positive, tab = parser.add_argument, _integer(1), methodcaller("replace", r"\t", "\t")
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    default = "(default: the estimators')"
    files = f"{REPORT}, table.csv and roles.csv"
    no_out = "the page alone, into the current folder"
    add("--data", type=Path, metavar="FILE", help=".csv, .tsv, .parquet or .npz (default: digits)")
    add("--target", metavar="COLUMN", help="column, or array, of FILE that holds the classes")
    add("--drop", **several, help="leave this column out (may be repeated)")
    add("--keep", **several, help="a feature, though it looks like an index (may be repeated)")
    add("--sep", type=tab, metavar="C", help="separates columns of text (default: , or tab)")
    add("--decimal", type=tab, metavar="C", help="decimal point of text (default: .)")
    add("--encoding", metavar="NAME", help="of text (default: utf-8)")
    add("--missing", metavar="TEXT", help="what stands for a missing value, beside nothing and NA")
    add("--out", type=Path, metavar="DIR", help=f"write {files} into DIR (default: {no_out})")
    add("--n-components", type=positive, metavar="N", help=f"dimensions of the codes {default}")
    add("--max-epochs", type=positive, metavar="N", help=f"passes over the data {default}")
    add("--seed", type=_integer(0), default=0, metavar="N", help="of split and fits (default: 0)")
    add("--threads", type=positive, default=1, metavar="N", help="to compute with (default: 1)")
    add("--verbose", action="store_true", help="show progress where standard error is no terminal")
    return parser


def run(args: argparse.Namespace, rank: int, size: int) -> None:
    """Load, compare, print, write; in the process `rank` of `size`, of which the first writes."""
    from threadpoolctl import threadpool_limits

    from sklearn_classvsc._files import check_writable, replacing
    from sklearn_classvsc.metrics import dimension_roles
    from sklearn_classvsc.report import factor_report

    name = "digits" if args.data is None else args.data.name
    tables = [] if args.out is None else [args.out / "table.csv", args.out / "roles.csv"]
    # After torch, whose threads are limited too.
    with threadpool_limits(args.threads), _together(size):
        X, y = load(args)
        _, X_test, y_train, y_test = split = split_data(X, y, args.seed)
        for path in tables:  # before the work, not after
            path.parent.mkdir(parents=True, exist_ok=True)
            check_writable(path)
        print(
            f"{name}: {len(y)} samples, {X.shape[1]} features, {len(set(y.tolist()))} classes; "
            f"{len(y_train)} to train, {len(y_test)} held out; seed {args.seed}",
            flush=True,
        )
        sizes = {"n_components": args.n_components, "max_epochs": args.max_epochs}
        given = {name: value for name, value in sizes.items() if value is not None}
        verbose = int(args.verbose or sys.stderr.isatty())
        table, pipe = compare(split, random_state=args.seed, verbose=verbose, **given)
        if rank:
            return
        print(f"\n{format_table(table)}\n\n{LEGEND}", flush=True)
        roles = dimension_roles(pipe.transform(X_test), y_test)
        roles["classes"] = [";".join(map(str, classes)) for classes in roles["classes"]]
        for path, content in zip(tables, (table.reset_index(), roles), strict=False):
            with replacing(path) as file:
                file.write(to_csv(content).encode())
        title, shape = f"Factor report: {name}", None if args.data else (8, 8)
        try:
            report = factor_report(pipe, X_test, y_test, title=title, image_shape=shape)
            tables.append(report.save((args.out or Path.cwd()) / REPORT))
        except (ImportError, OSError) as error:  # the table is what was asked for first
            print(f"warning: no {REPORT}: {_one_line(error)}.", file=sys.stderr)
        if tables:
            print(f"Written: {', '.join(map(str, tables))}")


@contextmanager
def _together(size: int) -> Iterator[None]:
    """Fit in all processes that torchrun has started; an error of one is raised in all."""
    if size == 1:
        yield
        return
    from torch.distributed import DistError

    from sklearn_classvsc.distributed import ProcessLostError, data_parallel

    try:
        with data_parallel():
            yield
    except (ImportError, DistError, ProcessLostError) as error:
        kind = OSError if isinstance(error, ImportError) else ConnectionError
        raise kind(str(error)) from error


# -- data ------------------------------------------------------------------------------------------


def load(args: argparse.Namespace) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the features and labels of a file, or of the digits.

    A ValueError or OSError says why a file cannot be used.
    """
    names = {"sep": "sep", "decimal": "decimal", "encoding": "encoding", "missing": "na_values"}
    text = {names[x]: getattr(args, x) for x in names if getattr(args, x) is not None}
    if args.data is None:
        if unused := [f"--{x}" for x in ("target", "drop", "keep", *names) if getattr(args, x)]:
            raise ValueError(f"{', '.join(unused)} needs a file: give it with --data.")
        from sklearn.datasets import load_digits

        digits = load_digits(as_frame=True)
        return digits.data, digits.target.to_numpy()
    from sklearn_classvsc._datafiles import read_table, take_columns

    table = read_table(args.data, args.target, **text)
    X, y = take_columns(args.data, table, args.target, args.keep, args.drop)
    if len(y) < len(table):
        print(f"warning: left out {len(table) - len(y)} samples without a class.", file=sys.stderr)
    return X, y


def split_data(X: pd.DataFrame, y: NDArray[Any], seed: int) -> list[Any]:
    """Return X and y to train on and held out, 30 % of each class, as `train_test_split` does.

    A column that holds nothing in the rows to train on is left out, with a warning.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    from sklearn_classvsc._datafiles import listing

    classes, sizes = np.unique(y, return_counts=True)
    problem = ""
    if (sizes >= ENOUGH).sum() < 2 or HELD_OUT * len(y) < len(classes):
        problem = f"two classes need {ENOUGH} samples each"
    elif sizes.min() < 2:
        problem = f"the class {listing(classes[sizes < 2])} has a single sample"
    if problem:
        raise ValueError(
            f"{len(y)} samples of {len(classes)} classes, {listing(classes)}, are too few to hold "
            f"30 % out: {problem}. Add samples, merge or remove rare classes, or name the right "
            "column with --target."
        )
    X_train, X_test, *labels = train_test_split(
        X, y, test_size=HELD_OUT, stratify=y, random_state=seed
    )
    empty = X.columns[X_train.isna().all()]
    if len(empty) == X.shape[1]:
        raise ValueError("No row to train on has any value: add samples, or choose another --seed.")
    if len(empty):
        print(
            f"warning: left out columns without a value in the rows to train on: {listing(empty)}.",
            file=sys.stderr,
        )
    return [X_train.drop(columns=empty), X_test.drop(columns=empty), *labels]


# -- comparing -------------------------------------------------------------------------------------


def compare(split: Sequence[Any], **params: Any) -> tuple[pd.DataFrame, Any]:
    """Train the three transformers, behind an encoder of the columns.

    Return their figures, a row each, and the fitted pipeline of ClassVSC. Warnings go to the
    standard error stream, with the name of the system.
    """
    import pandas as pd
    from sklearn.pipeline import make_pipeline

    from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
    from sklearn_classvsc._datafiles import make_encoder

    systems = {"VAE": VAETransformer, "VSC": VSCTransformer, "ClassVSC": ClassVSCTransformer}
    rows = {}
    for name, make in systems.items():
        if params.get("verbose"):
            print(name, file=sys.stderr)
        with warnings.catch_warnings(record=True) as caught:
            pipe = make_pipeline(make_encoder(), make(**params))
            rows[name] = measure(pipe, split)
        for warning in caught:
            print(f"warning: {name}: {_one_line(warning.message)}.", file=sys.stderr)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("system"), pipe


def measure(pipe: Any, split: Sequence[Any]) -> dict[str, float]:
    """Fit, and return the figures of the held-out data, in the table's order."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sklearn_classvsc import metrics

    X_train, X_test, y_train, y = split
    Z_train, Z = pipe.fit_transform(X_train, y_train), pipe.transform(X_test)
    sharing = metrics.class_sharing_matrix(Z, y)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return {
        "explained_variance": metrics.fidelity_scorer(pipe, X_test),
        "active_dimensions": float((Z != 0).sum(axis=1).mean()),
        "dead_dimensions": round(metrics.dead_fraction(Z, y) * Z.shape[1]),
        "class_consistency": metrics.class_consistency_score(Z, y),
        "class_sharing": float(sharing[~np.eye(len(sharing), dtype=bool)].mean()),
        "nonglobal_contrast": metrics.class_contrast_score(Z, y),
        "logistic_accuracy": float(classifier.fit(Z_train, y_train).score(Z, y)),
    }


# -- showing ---------------------------------------------------------------------------------------


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV of which a spreadsheet computes nothing.

    An apostrophe precedes text that it would take for a formula, in names and cells, and after
    each ";", at which some split.
    """

    def plain(cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell
        return ";".join("'" * bool(FORMULA.match(part)) + part for part in cell.split(";"))

    text = table.map(plain).rename(columns=plain).to_csv(index=False, lineterminator="\n")
    assert text is not None
    return text


def format_table(table: pd.DataFrame) -> str:
    """Lay the table out narrowly, the names of the figures in two lines."""
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


def _one_line(message: object) -> str:
    """Return the message without line breaks and the full stop."""
    return " ".join(str(message).split()).rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
