"""Specification of the command line, python -m sklearn_classvsc."""

import io
import os
import re
import subprocess
import sys
import warnings
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_classvsc import __main__ as command_line
from sklearn_classvsc.__main__ import main, make_parser, split_data, to_csv
from sklearn_classvsc._datafiles import make_encoder
from sklearn_classvsc.metrics import ROLES

QUICK = ["--max-epochs", "2", "--n-components", "4"]
FIGURES = [
    "explained_variance",
    "active_dimensions",
    "unused_dimensions",
    "class_consistency",
    "class_sharing",
    "nonglobal_contrast",
    "logistic_accuracy",
]
SYSTEMS = ["VAE", "VSC", "ClassVSC"]
OPTIONS = (
    "data target drop keep sep decimal encoding missing out n-components max-epochs seed threads "
    "verbose".split()
)


def load(path, target, *argv):
    """Return the features and labels of a file that the arguments name."""
    argv = ["--data", str(path), "--target", target, *argv]
    return command_line.load(make_parser().parse_args(argv))


def flowers(n=60):
    """A table of two features and three classes, named by strings."""
    rng = np.random.default_rng(0)
    kind = np.arange(n) % 3
    return pd.DataFrame(
        {
            "length": rng.normal(kind, 0.3).round(3),
            "width": rng.normal(-2 * kind, 0.3).round(3),
            "kind": np.array(["iris", "lily", "rose"])[kind],
        }
    )


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory, monkeypatch):
    """Run in an empty folder, and return it: the page is written into the current one."""
    folder = tmp_path_factory.mktemp("current")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def write(tmp_path):
    """Write a table, or text, to a CSV file, and return its path as text."""

    def write(content):
        path = tmp_path / "data.csv"
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            content.to_csv(path, index=False)
        return str(path)

    return write


@pytest.fixture
def refused(capsys):
    """Run the command line, which must refuse in one line; return that line."""

    def refused(*argv):
        assert main([*argv, *QUICK]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ") and err.count("\n") == 1
        return err

    return refused


# -- what it prints and writes ---------------------------------------------------------------------


def test_help_says_everything_and_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "sklearn_classvsc", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for option in OPTIONS:
        assert f"--{option}" in done.stdout
    for word in [".csv", ".parquet", ".npz", "[parquet]", "examples:", "exit status:"]:
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "sklearn", "pandas", "numpy"}


def test_prints_the_data_one_table_and_a_legend(write, capsys):
    assert main(["--data", write(flowers()), "--target", "kind", "--seed", "3", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert all(line.startswith("warning: ") for line in err.splitlines())  # no progress
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == (
        "data.csv: 60 samples, 2 features, 3 classes; 42 to train, 18 held out; seed 3"
    )
    assert lines[2].split() == [name.split("_")[0] for name in FIGURES]
    assert lines[3].split() == [name.split("_")[1] for name in FIGURES]
    assert [line.split()[0] for line in lines[4:7]] == SYSTEMS
    assert all(len(line.split()) == 1 + len(FIGURES) for line in lines[4:7])
    legend = "\n".join(lines[8:])
    assert all(name.replace("_", " ") in legend for name in FIGURES)


def test_the_page_is_written_into_the_current_folder(write, capsys, elsewhere):
    pytest.importorskip("jinja2")
    assert main(["--data", write(flowers()), "--target", "kind", *QUICK]) == 0
    (page,) = elsewhere.iterdir()
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {page}"
    text = page.read_text(encoding="utf-8")
    assert "Factor report: data.csv" in text and "18 samples" in text  # the held-out ones
    assert all(name in text for name in ["length", "width", "iris", "lily", "rose"])


def test_the_page_of_the_digits_has_images(capsys, elsewhere):
    pytest.importorskip("jinja2")
    assert main(QUICK) == 0
    assert "540 samples" in (elsewhere / "factor_report.html").read_text(encoding="utf-8")
    assert "<canvas" in (elsewhere / "factor_report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["jinja2", "permission"])
def test_without_the_page_there_is_one_line_and_the_table(missing, write, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "factor_report.html")

    if missing == "jinja2":
        monkeypatch.setitem(sys.modules, "jinja2", None)
    else:
        monkeypatch.setattr("sklearn_classvsc.report.FactorReport.save", fail)
    assert main(["--data", write(flowers()), "--target", "kind", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[4:7]] == SYSTEMS
    assert "Written" not in out
    (line,) = [line for line in err.splitlines() if "factor_report.html" in line]
    reason = (
        'pip install "sklearn-classvsc[report]"' if missing == "jinja2" else "Permission denied"
    )
    assert line.startswith("warning: no factor_report.html: ") and reason in line


def test_out_holds_the_table_the_roles_and_the_page(write, tmp_path, capsys, elsewhere):
    pytest.importorskip("jinja2")
    out = tmp_path / "new" / "results"
    assert main(["--data", write(flowers()), "--target", "kind", "--out", str(out), *QUICK]) == 0
    written = [out / name for name in ("table.csv", "roles.csv", "factor_report.html")]
    assert sorted(out.iterdir()) == sorted(written) and not list(elsewhere.iterdir())
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {', '.join(map(str, written))}"
    table = pd.read_csv(out / "table.csv", index_col="system")
    assert table.columns.tolist() == FIGURES
    assert table.index.tolist() == SYSTEMS
    assert np.isfinite(table).all(axis=None)
    assert table.loc["VAE", "active_dimensions"] == 4
    roles = pd.read_csv(out / "roles.csv", keep_default_na=False)
    assert roles.columns.tolist() == ["dimension", "role", "classes", "specificity", "density"]
    assert roles["dimension"].tolist() == [0, 1, 2, 3]
    assert set(roles["role"]) <= {*ROLES, "unused"} - {"dead"}
    named = {label for classes in roles["classes"] for label in classes.split(";") if label}
    assert named <= {"iris", "lily", "rose"}


def test_what_is_printed_and_written_says_unused_and_not_dead(write, tmp_path, capsys):
    argv = ["--data", write(flowers()), "--target", "kind", "--out", str(tmp_path)]
    assert main([*argv, "--n-components", "32", "--max-epochs", "2"]) == 0
    roles, table = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("roles", "table"))
    n_unused = table.set_index("system").loc["ClassVSC", "unused_dimensions"]
    assert (roles["role"] == "unused").sum() == n_unused > 0
    out, err = capsys.readouterr()
    assert "unused" in out and "dead" not in out + err


def test_csv_parquet_and_npz_give_the_same_table(tmp_path):
    pytest.importorskip("pyarrow")
    table = flowers()
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    X, kind = table[["length", "width"]].to_numpy(), table["kind"].to_numpy(dtype=str)
    np.savez(tmp_path / "a.npz", features=X, kind=kind, names=np.array(["length", "width"]))
    written = []
    for suffix in ["csv", "parquet", "npz"]:
        path, out = tmp_path / f"a.{suffix}", tmp_path / suffix
        assert main(["--data", str(path), "--target", "kind", "--out", str(out), *QUICK]) == 0
        written.append((out / "table.csv").read_text())
    assert written[0] == written[1] == written[2]


def test_a_seed_gives_one_table_and_another_seed_another(write, tmp_path):
    def table(seed):
        argv = ["--data", path, "--target", "kind", "--seed", seed, "--out", str(tmp_path)]
        assert main(argv + QUICK) == 0
        return (tmp_path / "table.csv").read_text()

    path = write(flowers())
    assert table("1") == table("1") != table("2")


@pytest.mark.parametrize("threads", [None, 2])
def test_one_thread_computes_unless_told_and_what_was_set_comes_back(threads, write, monkeypatch):
    seen = []

    def measure(pipe, split):
        pipe.fit(*split[::2])
        seen.append(torch.get_num_threads())
        return dict.fromkeys(FIGURES, 0.0)

    monkeypatch.setattr("sklearn_classvsc.__main__.measure", measure)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        argv = ["--data", write(flowers()), "--target", "kind", *QUICK]
        assert main(argv if threads is None else [*argv, "--threads", str(threads)]) == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == [threads or 1] * 3


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_shown_when_asked_and_at_a_terminal(terminal, write, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    argv = ["--data", write(flowers()), "--target", "kind", *QUICK]
    assert main(argv if terminal else [*argv, "--verbose"]) == 0
    err = capsys.readouterr().err
    assert all(system in err for system in SYSTEMS) and "epoch" in err


def test_warnings_are_one_line_with_the_system(write, capsys, monkeypatch):
    def measure(pipe, split):
        pipe.fit(*split[::2])
        warnings.warn("two\nlines.", UserWarning, stacklevel=2)
        return dict.fromkeys(FIGURES, 0.0)

    monkeypatch.setattr("sklearn_classvsc.__main__.measure", measure)
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # whatever threads of other tests have left behind
        assert main(["--data", write(flowers()), "--target", "kind", *QUICK]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert {f"warning: {system}: two lines." for system in SYSTEMS} <= set(lines)
    assert all(line.startswith("warning: ") for line in lines)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["a", "b"], ["a", "b"]),
        ([7, 8], [7, 8]),
        ([-1.0, 2.0], [-1, 2]),
        ([False, True], ["False", "True"]),
        (pd.Categorical(["no", "yes"]), ["no", "yes"]),
        (pd.array([1, 2], dtype="Int64"), [1, 2]),
        (np.array([2**64 - 1, 2**64 - 2], dtype=np.uint64), [str(2**64 - 1), str(2**64 - 2)]),
    ],
)
def test_labels_are_strings_or_whole_numbers_and_stay_apart(labels, classes, tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"x": [1.5, 2], "y": labels}).to_parquet(tmp_path / "a.parquet")
    X, y = load(tmp_path / "a.parquet", "y")
    assert X.columns.tolist() == ["x"] and X["x"].dtype == np.float64 and X.shape == (2, 1)
    assert y.tolist() == classes


@pytest.mark.parametrize(
    "ending", [".csv", ".tsv", ".csv.gz", ".CSV.BZ2", ".csv.xz", ".csv.zip", ".tsv.tar.gz"]
)
def test_text_is_read_compressed_or_not(ending, tmp_path):
    path = tmp_path / f"my.data{ending}"
    sep = "\t" if ".tsv" in ending else ","
    flowers().to_csv(path, index=False, sep=sep)
    X, _ = load(path, "kind")
    assert X.equals(flowers()[["length", "width"]])


def test_text_of_other_habits_is_read_when_told(tmp_path):
    path = tmp_path / "a.csv"
    table = flowers().rename(columns={"length": "Länge"})
    table.to_csv(path, index=False, sep=";", decimal=",", encoding="latin-1")
    X, _ = load(path, "kind", "--sep=;", "--decimal=,", "--encoding=latin-1")
    assert X.equals(table[["Länge", "width"]])


def test_objects_that_are_numbers_are_features(tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"d": [Decimal("1.5"), Decimal("2.5")], "b": [True, False], "y": [0, 1]})
    table.astype({"b": object}).assign(t=["3", "4e1"]).to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", "y")[0].to_numpy().tolist() == [[1.5, 1, 3], [2.5, 0, 40]]


def test_an_index_of_parquet_is_a_column_if_it_has_a_name(tmp_path):
    pytest.importorskip("pyarrow")
    table = flowers().sample(frac=1, random_state=0)
    table.to_parquet(tmp_path / "a.parquet")
    table.set_index("kind").to_parquet(tmp_path / "b.parquet")
    for name in ["a", "b"]:
        X, y = load(tmp_path / f"{name}.parquet", "kind")
        assert X.columns.tolist() == ["length", "width"] and y.tolist() == table["kind"].tolist()


def test_spreadsheets_compute_nothing_of_what_is_written():
    cells = ["=A1", " +1+x", "@a", "\tx", "a;=b", "-x;-1", "-1", "-1.5e3", "+2;1", "a-b", "＝A1"]
    table = pd.DataFrame({"=h": cells, "n": -1.5})
    read = pd.read_csv(io.StringIO(to_csv(table)), dtype=str, keep_default_na=False)
    assert read.columns.tolist() == ["'=h", "n"] and set(read["n"]) == {"-1.5"}
    assert read["'=h"].tolist() == [
        *["'=A1", "' +1+x", "'@a", "'\tx", "a;'=b", "'-x;-1"],
        *["-1", "-1.5e3", "+2;1", "a-b", "'＝A1"],
    ]


def test_roles_name_classes_that_look_like_formulas_as_text(write, tmp_path):
    kinds = {"iris": "=1+1", "lily": "-x", "rose": "-1"}
    path = write(flowers().replace({"kind": kinds}))
    assert main(["--data", path, "--target", "kind", "--out", str(tmp_path), *QUICK]) == 0
    roles = pd.read_csv(tmp_path / "roles.csv", keep_default_na=False)
    named = {label for classes in roles["classes"] for label in classes.split(";") if label}
    assert named and named <= {"'=1+1", "'-x", "-1"}


def test_the_digits_are_the_default_and_30_percent_is_held_out():
    X, y = command_line.load(make_parser().parse_args([]))
    X_train, X_test, _, y_test = split_data(X, y, 0)
    assert X_train.shape == (1257, 64) and X_test.shape == (540, 64)
    assert abs(np.bincount(y_test) - 0.3 * np.bincount(y)).max() < 1


@pytest.mark.slow
def test_the_main_job(tmp_path, capsys):
    pytest.importorskip("jinja2")
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("digits: 1797 samples, 64 features, 10 classes")
    table = pd.read_csv(tmp_path / "table.csv", index_col="system")
    assert table.index.tolist() == SYSTEMS
    assert np.isfinite(table.loc["ClassVSC"]).all()
    assert (tmp_path / "factor_report.html").stat().st_size < 1e6


# -- what is an index ------------------------------------------------------------------------------

N = 60
rng = np.random.default_rng(0)
LARGE = rng.choice(10**9, N, replace=False)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Unnamed: 0", rng.normal(size=N)),
        ("__index_level_0__", rng.permutation(N)),
        ("index", np.tile(np.arange(20), 3)),
        ("id", LARGE),
        ("Patient_ID", LARGE.astype(float)),
        ("customerId", LARGE),
        ("rowname", LARGE),
        ("count", np.arange(1, N + 1)),
        ("down", np.arange(N)[::-1] * 10),
        ("floats", np.arange(N) * 1.0),
        ("scaled", np.linspace(0, 1, N)),
        ("sorted", np.sort(LARGE)),
        ("shuffled", rng.permutation(N)),
        ("drawn", rng.permutation(2 * N)[:N]),
    ],
)
def test_what_numbers_or_names_the_rows_is_no_feature_unless_kept(name, values, tmp_path):
    path = tmp_path / "a.csv"
    flowers().assign(**{name: values}).to_csv(path, index=False)
    with pytest.raises(ValueError, match="index or identifier") as refusal:
        load(path, "kind")
    assert f"'{name}'" in str(refusal.value) and "--keep NAME" in str(refusal.value)
    assert f"--drop {name}" in str(refusal.value).replace("'Unnamed: 0'", "Unnamed: 0")
    assert load(path, "kind", f"--keep={name}")[0].columns.tolist() == ["length", "width", name]
    assert load(path, "kind", f"--drop={name}")[0].columns.tolist() == ["length", "width"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("population", rng.choice(10**6, N, replace=False)),
        ("float", rng.normal(size=N)),
        ("sorted", np.sort(rng.normal(size=N))),
        ("index", rng.normal(size=N)),
        ("site_id", np.arange(N) % 4),
        ("acid", LARGE),
        ("grid", rng.integers(0, N, N)),
        ("constant", np.ones(N)),
    ],
)
def test_what_is_measured_is_a_feature_though_all_values_differ(name, values, write):
    X, _ = load(Path(write(flowers().assign(**{name: values}))), "kind")
    assert X[name].tolist() == pytest.approx(values.tolist())


def test_an_index_among_the_features_of_an_archive_is_refused(refused, tmp_path):
    table = flowers()
    X = np.c_[table[["length", "width"]], np.arange(N)]
    np.savez(tmp_path / "a.npz", X=X, y=table["kind"].to_numpy(dtype=str))
    assert "--drop 'X[:, 2]'" in refused("--data", str(tmp_path / "a.npz"), "--target", "y")


# -- processes and folders -------------------------------------------------------------------------


def test_without_all_variables_of_torchrun_there_is_one_process_that_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["--data", "none.csv", "--target", "kind"]) == 2
    assert capsys.readouterr().err == "error: --data none.csv does not exist: check the path.\n"


def test_a_process_that_loses_the_others_says_so(write, capsys, monkeypatch):
    from sklearn_classvsc import distributed

    def lose():
        raise distributed.ProcessLostError("no other process")

    monkeypatch.setattr(distributed, "data_parallel", lose)
    for name, value in [
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "x"),
        ("MASTER_PORT", "1"),
    ]:
        monkeypatch.setenv(name, value)
    assert main(["--data", write(flowers()), "--target", "kind"]) == 2
    assert capsys.readouterr().err == "error: no other process.\n"


def test_the_demo_runs_where_the_caller_is(elsewhere, tmp_path):
    demo = Path(__file__).parents[1] / ".ci" / "demo"
    if not demo.exists():
        pytest.skip("the scripts are part of the repository, not of the package")
    (tmp_path / "bin").mkdir()
    for name in ["python", "pip"]:  # an environment that says what is run, and where
        (tmp_path / "bin" / name).write_text('#!/bin/sh\necho "$(pwd): $*"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "activate").write_text(f'PATH="{tmp_path}/bin:$PATH"\n')
    done = subprocess.run(
        ["bash", os.path.relpath(demo), "--data", "a.csv"],
        env=os.environ | {"VENV": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"{elsewhere}: -m sklearn_classvsc --data a.csv"


# -- what it refuses -------------------------------------------------------------------------------


def test_missing_file(refused, tmp_path):
    assert "none.csv" in refused("--data", str(tmp_path / "none.csv"), "--target", "y")


def test_folder(refused, tmp_path):
    (tmp_path / "a.csv").mkdir()
    assert "is a folder" in refused("--data", str(tmp_path / "a.csv"), "--target", "y")


def test_unknown_extension(refused, tmp_path):
    err = refused("--data", str(tmp_path / "a.xlsx"), "--target", "y")
    assert "'.xlsx'" in err and "'.csv', '.tsv', '.txt', '.parquet', '.npz'" in err


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_empty_file(suffix, refused, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.touch()
    assert f"{path} cannot be read as {suffix.upper()}" in refused(
        "--data", str(path), "--target", "y"
    )


def test_no_rows(refused, write):
    assert "no rows" in refused("--data", write("x,y\n"), "--target", "y")


def test_no_features(refused, write):
    assert "add features" in refused("--data", write("y\na\nb\n"), "--target", "y")


def encrypted(content):
    """Return a zip archive that says that its members are encrypted."""
    content = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(mark, place + 4)
    return bytes(content)


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def array(shape):
    """Return a .npy file of zeros that says that it has this shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(960)


SOUND = zipped(X=array("(60, 2)"), y=array("(60,)"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"not that", "np.savez"),
        ("a.npz", SOUND[:-30], "np.savez"),
        ("a.npz", SOUND[:60] + b"\xff" * 9 + SOUND[69:], "np.savez"),
        ("a.npz", encrypted(SOUND), "encrypted"),
        ("a.npz", zipped(X=array("(10**9, 10**9)"), y=array("(60,)")), "malformed"),
        ("a.npz", zipped(X=array("(1000000000, 1000000000)"), y=array("(60,)")), "MemoryError"),
        ("a.npz", zipped(X=array("(-5, 2)"), y=array("(60,)")), "negative"),
        ("a.npz", zipped(X=b"text", y=array("(60,)")), "X ()"),
        ("a.npz", array("(60, 2)"), "np.savez"),
        ("a.parquet", b"not that", "[parquet]"),
        ("a.parquet", b"PAR1" + bytes(40) + b"PAR1", "[parquet]"),
        ("a.csv", b"PAR1" + bytes(40), "not text"),
        ("a.csv", zipped(sheet=b"x"), "If it is a spreadsheet, export it as text"),
        ("a.csv", b"x,y\n\xff\xfe,1\n", "--encoding latin-1"),
        ("a.csv", "x,y\n1,2\n".encode("utf-16-le"), "--encoding utf-16"),
        ("a.csv", b"x,y\n1.5,a\x00\n2,a\n", "not text"),
        ("a.csv", b'x,y\n1,"a\n', "EOF inside string"),
        ("a.csv", b"\n\n", "first line"),
        ("a.csv.gz", b"x,y\n1,2\n", "gzip"),
        ("a.csv.zip", encrypted(zipped(a=b"x,y\n")), "encrypted"),
        ("a.csv.zip", zipped(a=b"x,y\n", b=b""), "Multiple files"),
        ("a.csv", b"x\ty\n1,5\ta\n", "--decimal ,"),
        ("a.csv", b'"x","y"\n"1,5",a\n', "--decimal ,"),
    ],
)
def test_every_bad_file_is_one_line_that_names_it_and_the_way(
    name, content, words, refused, tmp_path
):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    err = refused("--data", str(path), "--target", "y")
    assert words in err and len(err) < 600
    assert str(path) in err or "--target 'y'" in err


@pytest.mark.parametrize("text", ["x,y\n1,a\n2,b,3,4\n", "x,y\n1,a,5\n2,b,5\n"])
def test_csv_with_rows_longer_than_the_header(text, refused, write):
    assert "cannot be read as CSV" in refused("--data", write(text), "--target", "y")


def test_parquet_without_a_reader(refused, tmp_path, monkeypatch):
    def missing(path):
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd, "read_parquet", missing)
    path = tmp_path / "a.parquet"
    path.write_text("PAR1 and more")
    err = refused("--data", str(path), "--target", "y")
    assert 'pip install "sklearn-classvsc[parquet]"' in err


def test_target_that_is_not_there(refused, write):
    err = refused("--data", write(flowers()), "--target", "species")
    assert "'species'" in err and "'length', 'width', 'kind'" in err


def test_data_without_target(refused, write):
    err = refused("--data", write(flowers()))
    assert "--target is missing" in err and "'length', 'width', 'kind'" in err


@pytest.mark.parametrize("option", ["target", "keep", "drop", "sep", "decimal", "encoding"])
def test_options_of_files_need_a_file(option, refused):
    assert f"--{option} needs a file: name it with --data" in refused(f"--{option}", "y")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_options_of_text_need_text(suffix, refused, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.touch()
    err = refused("--data", str(path), "--target", "y", "--sep", ";", "--missing", "?")
    assert f"{path} is not text, so that --sep, --missing cannot apply" in err


def test_many_columns_are_not_all_listed(refused, write):
    wide = pd.DataFrame(np.zeros((2, 50)), columns=[f"c{j}" for j in range(50)])
    err = refused("--data", write(wide), "--target", "y")
    assert "'c19', 30 more" in err and "c20" not in err


def test_all_columns_that_cannot_be_used_are_named_at_once(refused, write):
    table = flowers().assign(name=[f"n{i}" for i in range(60)], red="red", row=range(60), ok=1)
    table = table.assign(price="1,5", level=table["width"], gap=None, rate="1.5")
    table.loc[[4, 7], "width"] = None
    table.loc[4, "rate"] = "?"
    table.loc[[5, 6], "length"] = np.inf
    err = refused("--data", write(table), "--target", "kind")
    for words in [
        "'name', 'row' (an index or identifier, not a measurement)",
        "'length' (inf in row 6)",
        "'gap' (no value)",
        "'price' ('1,5' reads neither as a number nor as a date)",
        "'rate' ('?' reads neither as a number nor as a date)",
        "--drop length --drop name --drop row --drop price --drop gap --drop rate;",
        "--keep NAME",
        "--decimal ,",
        "--missing '?'",
    ]:
        assert words in err
    assert not any(f"'{name}'" in err for name in ["ok", "level", "red", "width"])
    drop = [f"--drop={name}" for name in ["name", "row", "length", "price", "gap"]]
    X, _ = load(write(table), "kind", "--missing=?", *drop)
    assert X.columns.tolist() == ["width", "red", "ok", "level", "rate"]
    assert X["rate"].isna().sum() == 1 and X["rate"].max() == 1.5


def test_messages_are_short_whatever_the_names(refused, write):
    names = [f"{'x' * 1000}{j}" for j in range(100)]
    table = pd.DataFrame({name: [f"{'y' * 1000}{i}" for i in range(60)] for name in names})
    err = refused("--data", write(table.assign(kind="a")), "--target", "kind")
    assert "has columns that cannot be used" in err and len(err) < 1e4 / 4


# -- what newcomers bring --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.csv", {"sep": ";", "decimal": ","}),
        ("a.csv", {"sep": ";"}),
        ("a.csv", {"sep": ";", "decimal": ",", "encoding": "utf-8-sig"}),
        ("a.csv", {"sep": "\t"}),
        ("a.tsv", {"sep": ","}),
        ("a.csv", {"sep": "|"}),
        ("a.csv", {"sep": "\t", "encoding": "utf-16"}),
        ("a.txt", {"sep": "\t", "encoding": "utf-16-le"}),
        ("a.tsv.gz", {"sep": "\t"}),
    ],
)
def test_the_first_line_and_the_mark_of_utf_16_say_how_to_read_text(name, options, tmp_path):
    table = flowers()
    if options.get("encoding") == "utf-16-le":
        table = table.rename(columns={"length": "\ufefflength"})
    table.to_csv(tmp_path / name, index=False, **options)
    assert load(tmp_path / name, "kind")[0].equals(flowers()[["length", "width"]])


def test_what_the_first_line_says_can_be_overruled(write):
    path = write("a;b,kind\n1;5,x\n2;5,y\n")
    assert load(path, "kind", "--sep=,", "--decimal=;")[0]["a;b"].tolist() == [1.5, 2.5]


def test_spaces_around_names_and_empty_columns_at_the_end_do_not_matter(write):
    X, y = load(write('"the ""long"" one", wi dth , kind,,\n1.5, 2,a,,\n2.5, 3,b,,\n'), "kind")
    assert X.columns.tolist() == ['the "long" one', "wi dth"] and y.tolist() == ["a", "b"]
    assert X["wi dth"].tolist() == [2, 3]


def test_two_columns_of_one_name_are_refused(refused, write):
    err = refused("--data", write("x,kind,kind\n1.5,a,a\n"), "--target", "kind")
    assert "several columns of one name, 'kind': rename them" in err


@pytest.mark.parametrize(
    ("option", "name"), [("target", "kid"), ("target", "Kind "), ("drop", "kimd"), ("keep", "KIND")]
)
def test_a_name_that_is_nearly_right_is_told_before_all_else(option, name, refused, write):
    path = write(flowers().assign(id=range(60)))
    target = [] if option == "target" else ["--target", "length"]
    err = refused("--data", path, *target, f"--{option}", name)
    assert f"--{option} {name!r} is not a column (did you mean 'kind'?)" in err


@pytest.mark.parametrize("text", ["0.5,1.25,iris\n0.5,1.5,lily\n", "x y\n1 a\n"])
def test_a_file_without_names_is_told_to_need_them(text, refused, write):
    err = refused("--data", write(text), "--target", "kind")
    assert "first line must name the columns" in err and "--sep C" in err


@pytest.mark.parametrize("form", ["{:.1f} %", "${:.2f}", "{:,.2f}", "1.{:07.3f}"])
def test_numbers_that_are_not_written_as_such_are_no_identifiers(form, refused, write):
    texts = [form.format(1234.5 + 17 * i) for i in range(60)]
    err = refused("--data", write(flowers().assign(cost=texts)), "--target", "kind")
    assert f"'cost' ({texts[0]!r} reads neither" in err and "numbers without thousands" in err
    assert "identifier" not in err and "--drop cost" in err


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("1.234", "'1.234' reads neither as a number nor as a date"),
        ("1.234,5", "write numbers without thousands separator"),
        ("n/k", "with --missing n/k"),
    ],
)
def test_beside_decimal_commas_a_dot_is_not_taken_for_one(cell, words, refused, tmp_path):
    path = tmp_path / "a.csv"
    table = flowers().assign(price=flowers()["length"] + 7)
    table.to_csv(path, sep=";", decimal=",", index=False)
    head, first, rest = path.read_text().split("\n", 2)
    path.write_text("\n".join([head, f"{first.rsplit(';', 1)[0]};{cell}", rest]))
    err = refused("--data", str(path), "--target", "kind")
    assert words in err and "--decimal ," not in err and "--drop price" in err
    if cell == "1.234":
        assert "--decimal . or write thousands without it" in err


def test_dates_of_two_formats_are_told(refused, write):
    days = pd.date_range("2020-02-01", periods=60)
    texts = np.where(np.arange(60) % 2, days.strftime("%Y-%m-%d"), days.strftime("%d.%m.%Y"))
    err = refused("--data", write(flowers().assign(day=texts)), "--target", "kind")
    assert "'day' ('01.02.2020' reads neither" in err and "dates like 2020-12-31" in err


def test_constant_columns_are_told_in_one_line(write, capsys):
    table = flowers().assign(
        site="A", day="2020-01-01", unit=[1.0, None] * 30, left=["a", None] * 30
    )
    assert main(["--data", write(table), "--target", "kind", *QUICK]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "constant" in line]
    assert line.startswith("warning: ") and "--drop" in line
    assert line.endswith("'site', 'day', 'unit'.")


def test_constant_pixels_of_the_digits_are_not_told(capsys):
    assert main(QUICK) == 0
    assert "constant" not in capsys.readouterr().err


def test_an_unknown_encoding_names_the_option(refused, write):
    err = refused("--data", write(flowers()), "--target", "kind", "--encoding", "utf16x")
    assert "unknown encoding: utf16x; name its encoding, as in --encoding latin-1" in err


# -- mixed tables ----------------------------------------------------------------------------------


def mixed():
    """Numbers, a category, a date and gaps; and a class that is not always known."""
    table = flowers().assign(
        colour=np.resize(["red", "blue", "red", None, "green"], N),
        seen=pd.date_range("2020-02-01", periods=N)[np.arange(N) * 7 % N].astype(str),
        open=np.resize([True, False, True, None], N),
    )
    table.loc[7, ["width", "seen"]] = None
    table.loc[8, "kind"] = None
    return table


def test_numbers_stay_dates_are_days_and_text_is_categories(write):
    X, y = load(write(mixed()), "kind", "--keep=seen")
    assert len(X) == len(y) == N - 1
    encoded = make_encoder().set_output(transform="pandas").fit_transform(X)
    days = "seen (days since 1970)"
    colours = [f"colour_{name}" for name in ["blue", "green", "missing", "red"]]
    assert encoded.columns.tolist() == ["length", "width", days, "open", *colours]
    assert encoded[days].iloc[0] == (pd.Timestamp(mixed()["seen"][0]) - pd.Timestamp(0)).days
    assert (encoded[colours].sum(axis=1) == 1).all()
    assert encoded["colour_missing"].tolist() == mixed()["colour"].drop(8).isna().tolist()
    for name, column in encoded.items():
        gaps = X[name].isna() if name in X else np.zeros(N - 1, bool)
        assert column.isna().tolist() == gaps.tolist()
    assert encoded["open"].sum() == mixed()["open"].drop(8).eq(True).sum()
    assert encoded["length"].tolist() == X["length"].tolist()


def test_a_column_without_a_value_to_train_on_is_left_out(write, capsys, elsewhere):
    X, y = flowers()[["length", "width"]], flowers()["kind"].to_numpy()
    held_out = split_data(X, y, 0)[1].index[0]
    path = write(flowers().assign(gap=np.where(np.arange(N) == held_out, 1.5, np.nan)))
    assert main(["--data", path, "--target", "kind", *QUICK]) == 0
    err = capsys.readouterr().err
    assert "warning: left out columns without a value in the training samples: 'gap'.\n" in err


def test_categories_that_are_new_or_rare_are_one(write):
    town = pd.Series(np.resize([f"t{i:02}" for i in range(15)], 600))
    town[:30] = [f"t{i}" for i in range(15, 45)]
    X = pd.DataFrame({"town": town.astype(object)})
    encoder = make_encoder().set_output(transform="pandas").fit(X)
    assert len(encoder.get_feature_names_out()) == 20
    new = encoder.transform(pd.DataFrame({"town": ["nowhere"]}, dtype=object))
    assert new.columns[new.iloc[0] == 1].tolist() == ["town_infrequent_sklearn"]


@pytest.mark.parametrize(
    "dates",
    [
        ["2020-01-31", "2021-12-03"],
        ["2020-01-31 10:00", "2021-12-03 22:30:10"],
        ["2020-01-31T10:00:00+02:00", "2021-12-03T10:00:00+02:00"],
        ["1/31/2020", "12/3/2021"],
        ["31/1/2020", "3/12/2021"],
        ["31.1.2020", "3.12.2021"],
        ["31 Jan 2020", "3 Dec 2021"],
    ],
)
def test_dates_are_read_as_they_are_written(dates, write):
    X, _ = load(write(flowers().assign(when=np.resize(dates, N))), "kind")
    days = pd.to_datetime(X["when (days since 1970)"], unit="D").dt.normalize().unique()
    assert [f"{day:%Y-%m-%d}" for day in days] == ["2020-01-31", "2021-12-03"]


@pytest.mark.parametrize("text", ["12-13-14x", "99/99/2020", "2020"])
def test_what_is_no_date_is_none(text, write):
    X, _ = load(write(flowers().assign(when=text)), "kind")
    assert X["when"].dtype in (object, np.float64)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("person", [f"n{i}" for i in range(N)]),
        ("patient_id", [f"p{2 * i // 3}" for i in range(N)]),
        ("day", pd.date_range("2020-01-01", periods=N).astype(str)),
        ("comment", [f"patient {i} is doing fine" for i in range(N)]),
    ],
)
def test_text_and_dates_that_tell_rows_apart_are_refused_unless_kept(name, values, write, refused):
    path = write(flowers().assign(**{name: values}))
    what = "text, not a category" if name == "comment" else "an index or identifier"
    assert f"'{name}' ({what}" in refused("--data", path, "--target", "kind")
    kept = load(path, "kind", "--keep", name)[0].columns
    assert kept[-1].removesuffix(" (days since 1970)") == name


def test_a_mixed_table_is_compared_and_reported_without_preparation(write, capsys, elsewhere):
    pytest.importorskip("jinja2")
    assert main(["--data", write(mixed()), "--target", "kind", "--keep", "seen", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("data.csv: 59 samples, 5 features, 3 classes; ")
    assert "warning: left out samples without a class: 1." in err
    page = (elsewhere / "factor_report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ["length", "seen (days", "colour = red"])
    assert "colour_red" not in page  # a category of the file, not a column of the encoder


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0.5, 1], "holds 0.5"),
        ([0.1 + 0.2, 0.3], "holds 0.3"),
        ([3.0000000000000004, 3], "holds 3.0000000000000004"),
        ([np.inf, 1], "holds inf"),
        (np.random.default_rng(0).permutation(60), "has 60 different values in 60 samples"),
        ([f"n{i}" for i in range(30)], "has 30 different values in 60 samples"),
    ],
)
def test_a_quantity_is_no_class(labels, found, refused, write):
    table = flowers().assign(kind=np.resize(np.array(labels), 60))
    err = refused("--data", write(table), "--target", "kind")
    assert f"'kind' {found}" in err and "intervals" in err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--drop", "no"], "--drop 'no' is not a column"),
        (["--keep", "no"], "--keep 'no' is not a column"),
        (["--drop", "kind"], "--drop 'kind' is also --target or --keep"),
        (["--drop", "width", "--drop", "length"], "no column left but 'kind'"),
    ],
)
def test_columns_to_drop_or_keep_that_cannot_be(argv, words, refused, write):
    assert words in refused("--data", write(flowers()), "--target", "kind", *argv)


def test_class_with_a_single_sample(refused, write):
    table = flowers()
    table.loc[4, "kind"] = "tulip"
    err = refused("--data", write(table), "--target", "kind")
    assert "the class 'tulip' has a single sample" in err


def test_single_class(refused, write):
    err = refused("--data", write(flowers().assign(kind="iris")), "--target", "kind")
    assert (
        "60 samples of 1 class, 'iris', are too few to hold out 30 %: all are of one class" in err
    )


@pytest.mark.parametrize("n", [6, 24])
def test_too_few_samples_to_measure(n, refused, write):
    assert "are too few" in refused("--data", write(flowers(n)), "--target", "kind")


def test_values_too_large_to_train_on(write, capsys):
    table = flowers()
    table["width"] *= 1e300
    assert main(["--data", write(table), "--target", "kind", *QUICK]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: .*e\+300.*learning_rate.*\n", err)


def test_out_that_cannot_be_written_is_refused_before_the_work(refused, write, tmp_path):
    argv = ["--data", write(flowers()), "--target", "kind", "--out"]
    assert "data.csv" in refused(*argv, argv[1])
    (tmp_path / "roles.csv").mkdir()
    assert "roles.csv" in refused(*argv, str(tmp_path))


@pytest.mark.parametrize(
    "argv",
    [
        ["--seed", "-1"],
        ["--seed", "x"],
        ["--n-components", "0"],
        ["--max-epochs", "0"],
        ["--sep", ", "],
        ["--decimal", ""],
        ["--what"],
    ],
)
def test_arguments_that_argparse_refuses(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err


# -- archives --------------------------------------------------------------------------------------

X, Y = np.zeros((4, 2)), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": X, "y": Y, "V": X}, ["found 2", "V (4, 2)", "np.savez(file, X=features, y=labels)"]),
        ({"y": Y}, ["found 0", "y (4,)"]),
        ({"X": X.reshape(4, 2, 1), "y": Y}, ["found 0", "X (4, 2, 1)", "X.reshape(len(X), -1)"]),
        ({"X": X, "y": Y.reshape(4, 1)}, ["1-d array 'y'", "y.ravel()"]),
        ({"X": np.float64(1), "y": Y}, ["X ()", "found 0"]),
        ({"X": X + 1j, "y": Y}, ["found 0", "real numbers"]),
        ({"X": X, "y": Y + 1j}, ["numbers or text"]),
        ({"X": X, "y": np.zeros(4, dtype=[("a", int)])}, ["numbers or text"]),
        ({"X": X, "y": np.array(["\ud800", "a"] * 2)}, ["surrogates"]),
        ({"X": X, "labels": Y}, ["'y' is not an array", "X (4, 2), labels (4,)"]),
        ({"X": X, "y": Y[:3]}, ["X (4, 2), y (3,)", "a row for each label"]),
        ({"X": X, "y": Y.astype(object)}, ["labels.astype(str)"]),
        ({"X": X.astype(str), "y": Y}, ["found 0", "real numbers"]),
        ({"X": X * np.nan, "y": Y}, ["'X[:, 0]', 'X[:, 1]' (no value)"]),
    ],
)
def test_archives_that_cannot_be_used(arrays, words, refused, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    err = refused("--data", str(path), "--target", "y")
    assert all(word in err for word in words)


def test_archive_of_bytes_labels_and_other_arrays(tmp_path):
    path = tmp_path / "a.NPZ"
    with path.open("wb") as file:
        y = np.array([b"a", b"b", b"a", b"b"])
        np.savez(file, X=X.astype(">f4"), y=y, names=np.array(["p", "q"]))
    features, labels = load(path, "y")
    assert features.columns.tolist() == ["X[:, 0]", "X[:, 1]"] and not features.any(axis=None)
    assert labels.tolist() == ["a", "b", "a", "b"]
