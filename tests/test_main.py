"""Specification of the command line, python -m sklearn_classvsc."""

import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_classvsc.__main__ import load, main, split_data
from sklearn_classvsc._tables import read_table
from sklearn_classvsc.metrics import ROLES

QUICK = ["--max-epochs", "2", "--n-components", "4"]
FIGURES = [
    "explained_variance",
    "active_dimensions",
    "dead_dimensions",
    "class_consistency",
    "class_sharing",
    "nonglobal_contrast",
    "logistic_accuracy",
]
SYSTEMS = ["VAE", "VSC", "ClassVSC"]


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
    for option in ["data", "target", "out", "n-components", "max-epochs", "seed", "verbose"]:
        assert f"--{option}" in done.stdout
    for word in [".csv", ".parquet", ".npz", "[parquet]", "examples:", "exit status:"]:
        assert word in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "sklearn", "pandas", "numpy"}


def test_prints_the_data_one_table_and_a_legend(write, capsys):
    assert main(["--data", write(flowers()), "--target", "kind", "--seed", "3", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert all(line.startswith("warning: ") for line in err.splitlines())  # no progress
    lines = out.splitlines()
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
    assert 'id="canvas-now"' in (elsewhere / "factor_report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["jinja2", "permission"])
def test_without_the_page_there_is_one_line_and_the_table(missing, write, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "factor_report.html")

    if missing == "jinja2":
        monkeypatch.setitem(sys.modules, "jinja2", None)
    else:
        monkeypatch.setattr("sklearn_classvsc.__main__.write_report", fail)
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
    assert set(roles["role"]) <= set(ROLES)
    named = {label for classes in roles["classes"] for label in classes.split(";") if label}
    assert named <= {"iris", "lily", "rose"}


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


def test_progress_only_when_asked(write, capsys):
    argv = ["--data", write(flowers()), "--target", "kind", "--verbose", *QUICK]
    assert main(argv) == 0
    err = capsys.readouterr().err
    assert all(system in err for system in SYSTEMS) and "epoch" in err


def test_warnings_are_one_line_with_the_system(write, capsys, monkeypatch):
    def measure(estimator, split):
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
        ([1.0, 2.0], [1, 2]),
        ([False, True], ["False", "True"]),
        (pd.Categorical(["no", "yes"]), ["no", "yes"]),
    ],
)
def test_labels_are_strings_or_whole_numbers(labels, classes, monkeypatch, tmp_path):
    table = pd.DataFrame({"x": [1, 2], "y": labels})
    monkeypatch.setattr("sklearn_classvsc.__main__.read_table", lambda path, target: table)
    X, y = load(tmp_path / "any.csv", "y")
    assert X.columns.tolist() == ["x"] and X["x"].dtype == np.float64 and X.shape == (2, 1)
    assert y.tolist() == classes


def test_the_digits_are_the_default_and_30_percent_is_held_out():
    X, y = load()
    split = split_data(X, y, 0)
    assert split.X_train.shape == (1257, 64) and split.X_test.shape == (540, 64)
    assert abs(np.bincount(split.y_test) - 0.3 * np.bincount(y)).max() < 1


@pytest.mark.slow
def test_the_main_job(tmp_path, capsys):
    pytest.importorskip("jinja2")
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("digits: 1797 samples, 64 features, 10 classes")
    table = pd.read_csv(tmp_path / "table.csv", index_col="system")
    assert table.index.tolist() == SYSTEMS
    assert np.isfinite(table.loc["ClassVSC"]).all()
    assert (tmp_path / "factor_report.html").stat().st_size < 1e6


# -- what it refuses -------------------------------------------------------------------------------


def test_missing_file(refused, tmp_path):
    assert "none.csv" in refused("--data", str(tmp_path / "none.csv"), "--target", "y")


def test_folder(refused, tmp_path):
    (tmp_path / "a.csv").mkdir()
    assert "is a folder" in refused("--data", str(tmp_path / "a.csv"), "--target", "y")


def test_unknown_extension(refused, tmp_path):
    err = refused("--data", str(tmp_path / "a.xlsx"), "--target", "y")
    assert "'.xlsx'" in err and "'.csv', '.parquet', '.npz'" in err


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_empty_file(suffix, refused, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.touch()
    assert "is empty" in refused("--data", str(path), "--target", "y")


def test_no_rows(refused, write):
    assert "no rows" in refused("--data", write("x,y\n"), "--target", "y")


def test_no_features(refused, write):
    assert "add features" in refused("--data", write("y\na\nb\n"), "--target", "y")


@pytest.mark.parametrize(("suffix", "kind"), [("parquet", "Parquet"), ("npz", "NPZ")])
def test_broken_file(suffix, kind, refused, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / f"a.{suffix}"
    path.write_text("not that")
    assert f"cannot be read as {kind}" in refused("--data", str(path), "--target", "y")


def test_csv_that_is_not_text(refused, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,y\n\xff\xfe,1\n")
    assert "cannot be read as CSV" in refused("--data", str(path), "--target", "y")


@pytest.mark.parametrize("text", ["x,y\n1,a\n2,b,3,4\n", "x,y\n1,a,5\n2,b,5\n"])
def test_csv_with_rows_longer_than_the_header(text, refused, write):
    assert "cannot be read as CSV" in refused("--data", write(text), "--target", "y")


def test_parquet_without_a_reader(refused, tmp_path, monkeypatch):
    def missing(path):
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd, "read_parquet", missing)
    path = tmp_path / "a.parquet"
    path.write_text("anything")
    err = refused("--data", str(path), "--target", "y")
    assert 'pip install "sklearn-classvsc[parquet]"' in err


def test_target_that_is_not_there(refused, write):
    err = refused("--data", write(flowers()), "--target", "species")
    assert "'species'" in err and "'length', 'width', 'kind'" in err


def test_data_without_target(refused, write):
    err = refused("--data", write(flowers()))
    assert "--target is missing" in err and "'length', 'width', 'kind'" in err


def test_target_without_data(refused):
    assert "--data" in refused("--target", "y")


def test_many_columns_are_not_all_listed(refused, write):
    wide = pd.DataFrame(np.zeros((2, 50)), columns=[f"c{j}" for j in range(50)])
    err = refused("--data", write(wide), "--target", "y")
    assert "'c19', 30 more" in err and "c20" not in err


@pytest.mark.parametrize("column", ["width", "kind"])
def test_missing_value(column, refused, write):
    table = flowers()
    table.loc[[4, 7], column] = None
    err = refused("--data", write(table), "--target", "kind")
    assert f"row 5, column '{column}' is missing, and 1 more" in err


def test_infinite_value(refused, write):
    table = flowers()
    table.loc[4, "width"] = np.inf
    assert "row 5, column 'width' is inf" in refused("--data", write(table), "--target", "kind")


@pytest.mark.parametrize("bad", ["red", "1,5", "?"])
def test_feature_that_is_no_number(bad, refused, write):
    table = flowers().astype({"width": object})
    table.loc[4, "width"] = bad
    err = refused("--data", write(table), "--target", "kind")
    assert f"column 'width' holds '{bad}'" in err


def test_fractional_labels(refused, write):
    err = refused("--data", write("x,y\n1,0.5\n2,1\n"), "--target", "y")
    assert "'y' holds 0.5" in err and "intervals" in err


def test_class_with_a_single_sample(refused, write):
    table = flowers()
    table.loc[4, "kind"] = "tulip"
    err = refused("--data", write(table), "--target", "kind")
    assert "single sample of the class 'tulip'" in err


def test_single_class(refused, write):
    err = refused("--data", write(flowers().assign(kind="iris")), "--target", "kind")
    assert "all 60 samples are of the class iris" in err


@pytest.mark.parametrize("n", [6, 24])
def test_too_few_samples_to_measure(n, refused, write):
    assert "are too few" in refused("--data", write(flowers(n)), "--target", "kind")


def test_values_too_large_to_train_on(write, capsys):
    table = flowers()
    table["width"] *= 1e300
    assert main(["--data", write(table), "--target", "kind", *QUICK]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: .*e\+300.*learning_rate.*\n", err)


def test_out_that_is_a_file(refused, write):
    path = write(flowers())
    assert "data.csv" in refused("--data", path, "--target", "kind", "--out", path)


@pytest.mark.parametrize(
    "argv",
    [["--seed", "-1"], ["--seed", "x"], ["--n-components", "0"], ["--max-epochs", "0"], ["--what"]],
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
        ({"X": X.reshape(4, 2, 1), "y": Y}, ["found 0", "X (4, 2, 1)"]),
        ({"X": X, "y": Y.reshape(2, 2)}, ["1-d array 'y'"]),
        ({"X": X, "labels": Y}, ["'y' is no array", "X (4, 2), labels (4,)"]),
        ({"X": X, "y": Y[:3]}, ["4 rows of 'X'", "3 labels 'y'"]),
        ({"X": X, "y": Y.astype(object)}, ["labels.astype(str)"]),
        ({"X": X.astype(str), "y": Y}, ["column 'X[:, 0]' holds '0.0'"]),
        ({"X": X * np.nan, "y": Y}, ["row 1, column 'X[:, 0]' is missing, and 7 more"]),
    ],
)
def test_archives_that_cannot_be_used(arrays, words, refused, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    err = refused("--data", str(path), "--target", "y")
    assert all(word in err for word in words)


def test_array_in_place_of_an_archive(refused, tmp_path):
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, X)
    assert "np.savez" in refused("--data", str(path), "--target", "y")


def test_archive_of_bytes_labels_and_other_arrays(tmp_path):
    path = tmp_path / "a.NPZ"
    with path.open("wb") as file:
        np.savez(file, X=X, y=np.array([b"a", b"b", b"a", b"b"]), names=np.array(["p", "q"]))
    table = read_table(path, "y")
    assert table.columns.tolist() == ["X[:, 0]", "X[:, 1]", "y"]
    assert table["y"].tolist() == ["a", "b", "a", "b"]
