"""The command line: compare the three transformers on the digits or on a file.

``python -m sklearn_classvsc --help`` documents it. Functions import torch, scikit-learn and pandas
when they need them, so that help is instant.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

DESCRIPTION = """\
Train VAETransformer, VSCTransformer and ClassVSCTransformer with their default
parameters on 70 % of scikit-learn's handwritten digits, or of your file.
Compare their codes on the other 30 %. Write factor_report.html, a page on what
ClassVSCTransformer has learned.
"""

EPILOG = """\
files:
  .csv .tsv  The first line names the columns, and shows what separates them: a
  .txt       tab, or else the most frequent of , ; and |. Each row is a sample.
             If it is ; and commas stand in numbers, they are decimal commas.
             Files may be compressed, as in .csv.gz.
  .parquet   The same. Needs pip install "sklearn-classvsc[parquet]".
  .npz       Two arrays: the labels, which --target names, and the features, of
             shape (samples, features).

  COLUMN holds the class of each sample, as text or whole numbers. Every other
  column is a feature. Numbers stay as they are, dates become days, and text
  becomes categories: at most 20 in a column, where the last one stands for all
  rarer ones. Numbers and dates may be missing; training and figures ignore
  missing values. A missing category counts as one more category. Samples
  without a class are left out. Columns that number or name the rows are
  refused, because they reveal the order of the file. At least two classes need
  17 samples each, and every other class needs 2, so that all can be trained on
  and measured.

  Text in table.csv and roles.csv that a spreadsheet would take for a formula
  begins with an apostrophe.

several processes:
  torchrun --nproc_per_node N -m sklearn_classvsc trains in N processes
  together. The first process prints and writes. Needs
  pip install "sklearn-classvsc[distributed]".

exit status:
  0 for success. 2 if the arguments or the data cannot be used; one line on the
  standard error stream says why.

examples:
  python -m sklearn_classvsc
  python -m sklearn_classvsc --data iris.csv --target species --out results
  python -m sklearn_classvsc --data eu.csv --target art --encoding latin-1
  python -m sklearn_classvsc --n-components 16 --seed 1 --verbose
"""

LEGEND = """\
All figures are of held-out data. A dimension is active if its number is not 0.
  explained variance   of the features decoded from the codes, mean over
                       features: 1 is best
  active dimensions    of a sample, on average: fewer are easier to explain
  unused dimensions    which every class activates in less than 1 % of its
                       samples: 0 is best
  class consistency    share of the active dimensions of a sample that another
                       sample of its class has too: 0 to 1 (1 if all are active)
  class sharing        the same for two samples of different classes
  nonglobal contrast   consistency minus sharing, without the dimensions that
                       every class activates: -1 to 1, high if the others tell
                       classes apart
  logistic accuracy    of a logistic regression on standardised codes: 0 to 1
"""

#: File name of the page on ClassVSC.
REPORT = "factor_report.html"
#: Fraction of the samples that is held out from training and measured.
HELD_OUT = 0.3
#: Size of a class of which five samples are held out, the fewest that the metrics count.
ENOUGH = 17
#: Variables that torchrun sets in each of its processes.
LAUNCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: Place in text where a spreadsheet would compute: at the start, or after ";", where some split a
#: cell. Some trim the text first. A number is no formula.
FORMULA = re.compile(
    r"(?:^|(?<=;))(?!\s*[-+]?[\d.]+(e[-+]?\d+)?\s*(;|$))(?=\s*[=+@＝＋－＠-]|[\t\r\n])",
    re.IGNORECASE,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 if arguments or data cannot be used.

    `argv` holds the arguments; None takes the arguments of the process. argparse raises SystemExit.
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
        # All processes raise the same error, except where one cannot reach the others.
        if not rank or isinstance(error, ConnectionError):
            _say("error", error)
        return 2
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_classvsc",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    several: Any = {"action": "append", "default": [], "metavar": "NAME"}
    number: Any = {"type": partial(_integer, 1), "metavar": "N"}
    default = "(default: each estimator's own)"
    files = f"{REPORT}, table.csv and roles.csv"
    page = "(default: only the page, into the current folder)"
    add("--data", type=Path, metavar="FILE", help="table of samples (default: the digits)")
    add("--target", metavar="COLUMN", help="column, or array, of FILE that holds the classes")
    add("--drop", **several, help="leave out this column (may be repeated)")
    add("--keep", **several, help="use this column though it looks like an index (may be repeated)")
    add("--sep", type=_character, metavar="C", help="separator of columns (default: see below)")
    add("--decimal", type=_character, metavar="C", help="decimal point (default: see below)")
    add("--encoding", metavar="NAME", help="encoding of text (default: utf-8, or marked utf-16)")
    add("--missing", metavar="TEXT", help="text of a missing value, in addition to nothing and NA")
    add("--out", type=Path, metavar="DIR", help=f"write {files} into DIR {page}")
    add("--n-components", **number, help=f"dimensions of the codes {default}")
    add("--max-epochs", **number, help=f"passes over the data {default}")
    number["default"] = 1
    add("--threads", **number, help="threads to compute with (default: 1)")
    number.update(type=partial(_integer, 0), default=0)
    add("--seed", **number, help="seed of split and fits (default: 0)")
    add("--verbose", action="store_true", help="show progress even without a terminal to show it")
    return parser


def run(args: argparse.Namespace, rank: int, size: int) -> None:
    """Load, compare, print and write, in process `rank` of `size`; only the first one writes."""
    from threadpoolctl import threadpool_limits

    from sklearn_classvsc._datafiles import constant_columns
    from sklearn_classvsc._files import check_writable, replacing
    from sklearn_classvsc.metrics import dimension_roles
    from sklearn_classvsc.report import factor_report

    name = "digits" if args.data is None else args.data.name
    tables = [] if args.out is None else [args.out / "table.csv", args.out / "roles.csv"]
    # Imports have loaded torch by now, so that its threads are limited too.
    with threadpool_limits(args.threads), _together(size):
        X, y = load(args)
        _, X_test, y_train, y_test = split = split_data(X, y, args.seed)
        if args.data and (constant := constant_columns(X)):
            _say("warning", f"columns that are constant tell nothing; --drop leaves out {constant}")
        for path in tables:  # fail before the work, not after it
            path.parent.mkdir(parents=True, exist_ok=True)
            check_writable(path)
        print(
            f"{name}: {len(y)} samples, {X.shape[1]} features, {len(set(y.tolist()))} classes; "
            f"{len(y_train)} to train, {len(y_test)} held out; seed {args.seed}",
            flush=True,
        )
        params = {x: vars(args)[x] for x in ("n_components", "max_epochs") if vars(args)[x]}
        params["verbose"] = int(args.verbose or sys.stderr.isatty())
        table, pipe = compare(split, random_state=args.seed, **params)
        if rank:
            return
        print(f"\n{format_table(table)}\n\n{LEGEND}", flush=True)
        roles = dimension_roles(pipe.transform(X_test), y_test)
        roles["role"] = roles["role"].cat.rename_categories({"dead": "unused"})
        roles["classes"] = [";".join(map(str, classes)) for classes in roles["classes"]]
        for path, content in zip(tables, (table.reset_index(), roles), strict=False):
            with replacing(path) as file:
                file.write(to_csv(content).encode())
        title, shape = f"Factor report: {name}", None if args.data else (8, 8)
        try:
            report = factor_report(pipe, X_test, y_test, title=title, image_shape=shape)
            tables.append(report.save((args.out or Path.cwd()) / REPORT))
        except (ImportError, OSError) as error:  # the table is done; the page is an extra
            _say(f"warning: no {REPORT}", error)
        if tables:
            print(f"Written: {', '.join(map(str, tables))}")


@contextmanager
def _together(size: int) -> Iterator[None]:
    """Fit in all processes that torchrun has started; all raise the error of one."""
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

    A ValueError or an OSError says why a file cannot be used.
    """
    text = {x: getattr(args, x) for x in ("sep", "decimal", "encoding", "missing")}
    if args.data is None:
        if unused := [f"--{x}" for x in ("target", "drop", "keep", *text) if getattr(args, x)]:
            raise ValueError(f"{', '.join(unused)} needs a file: name it with --data.")
        from sklearn.datasets import load_digits

        digits = load_digits(as_frame=True)
        return digits.data, digits.target.to_numpy()
    from sklearn_classvsc._datafiles import read_table, take_columns

    table = read_table(args.data, args.target, **text)
    X, y = take_columns(args.data, table, args.target, args.keep, args.drop)
    if len(y) < len(table):
        _say("warning", f"left out samples without a class: {len(table) - len(y)}")
    return X, y


def split_data(X: pd.DataFrame, y: NDArray[Any], seed: int) -> list[Any]:
    """Split X and y like `train_test_split`, with 30 % of each class held out.

    Leaves out columns without a value in the training samples, with a warning.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    from sklearn_classvsc._datafiles import listing

    classes, sizes = np.unique(y, return_counts=True)
    problem = ""
    if len(classes) == 1:
        problem = "all are of one class, and the figures compare classes"
    elif (sizes >= ENOUGH).sum() < 2 or HELD_OUT * len(y) < len(classes):
        problem = f"two classes need {ENOUGH} samples each"
    elif sizes.min() < 2:
        problem = f"the class {listing(classes[sizes < 2])} has a single sample"
    if problem:
        raise ValueError(
            f"{len(y)} samples of {len(classes)} class{'es' * (len(classes) > 1)}, "
            f"{listing(classes)}, are too few to hold out 30 %: {problem}. Add samples, merge or "
            "remove rare classes, or name another column with --target."
        )
    X_train, X_test, *labels = train_test_split(
        X, y, test_size=HELD_OUT, stratify=y, random_state=seed
    )
    empty = X.columns[X_train.isna().all()]
    if len(empty):
        where = "left out columns without a value in the training samples"
        _say("warning", f"{where}: {listing(empty)}")
    return [X_train.drop(columns=empty), X_test.drop(columns=empty), *labels]


# -- comparing -------------------------------------------------------------------------------------


def compare(split: Sequence[Any], **params: Any) -> tuple[pd.DataFrame, Any]:
    """Train the three transformers, each behind an encoder of the columns.

    Return a table of their figures, with a row for each, and the fitted pipeline of ClassVSC. Print
    warnings to the standard error stream, with the name of the transformer.
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
            _say(f"warning: {name}", warning.message)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("system"), pipe


def measure(pipe: Any, split: Sequence[Any]) -> dict[str, float]:
    """Fit, and return the figures of the held-out data in the order of the table."""
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
        "unused_dimensions": round(metrics.dead_fraction(Z, y) * Z.shape[1]),
        "class_consistency": metrics.class_consistency_score(Z, y),
        "class_sharing": float(sharing[~np.eye(len(sharing), dtype=bool)].mean()),
        "nonglobal_contrast": metrics.class_contrast_score(Z, y),
        "logistic_accuracy": float(classifier.fit(Z_train, y_train).score(Z, y)),
    }


# -- showing ---------------------------------------------------------------------------------------


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV in which an apostrophe precedes all text that is like a formula."""

    def plain(cell: Any) -> Any:
        return FORMULA.sub("'", cell) if isinstance(cell, str) else cell

    return str(table.map(plain).rename(columns=plain).to_csv(index=False, lineterminator="\n"))


def format_table(table: pd.DataFrame) -> str:
    """Format the table for 80 columns, with the names of the figures in two lines."""
    shown = table.set_axis(table.columns.str.split("_", expand=True), axis="columns")
    return shown.rename_axis(None).to_string(float_format="{:.3f}".format, sparsify=False)


def _character(text: str) -> str:
    if len(text := text.replace(r"\t", "\t")) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character, such as ; or \\t")
    return text


def _integer(low: int, text: str) -> int:
    with suppress(ValueError):
        if low <= int(text) < 2**32:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {2**32 - 1}")


def _say(kind: str, message: object) -> None:
    """Print a message to the standard error stream, on one line that ends in a full stop."""
    print(f"{kind}: {' '.join(str(message).split()).rstrip('.')}.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
