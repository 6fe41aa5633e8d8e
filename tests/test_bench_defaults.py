"""The data sets of the benchmark of the defaults, and its measures; nothing is downloaded."""

import importlib
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench_defaults")


@pytest.fixture
def tables(bench):
    return importlib.import_module("_sets")


def test_generated_tables_follow_the_seed_and_others_do_not(tables):
    generated = [tables.TABLES["noisy_tiny"].load(seed).data for seed in (0, 0, 1)]
    assert np.array_equal(*generated[:2]) and not np.array_equal(*generated[1:])
    assert generated[0].shape == (200, 8)
    wine = tables.TABLES["wine"]
    assert np.array_equal(wine.load(0).data, wine.load(1).data)
    assert sorted(np.bincount(tables.TABLES["diabetes"].load(0).target)) == [147, 147, 148]
    assert sum(table.overlaps for table in tables.TABLES.values()) >= 10
    shares = np.bincount(tables.TABLES["noisy_rare"].load(0).target) / 2000
    assert shares.min() < 0.2


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that fails to be imported, as one does whose dependencies are absent."""
    folder = tmp_path / "some_pets"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError")
    rows = ["kind,age,code,sound", "cat,3,1,0.5", "dog,?,2,0", "dog, 5,2,0", "cat,4,7,2"]
    (folder / "pets.csv").write_text("\n".join(rows))
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


def test_shipped_tables_are_read_without_an_import_complete_rows_alone(tables, package):
    made = tables.read(package, "pets.csv", nominal=["code"], label=lambda sound: sound > 0)
    assert made.target.tolist() == [1, 0, 1]
    assert made.data.tolist() == [[3, 1, 0, 1, 0, 0], [5, 0, 1, 0, 1, 0], [4, 1, 0, 0, 0, 1]]
    assert made.data.dtype == np.float64


def test_what_is_absent_is_named_with_what_to_install(tables, package, monkeypatch, capsys):
    make = {name: tables.Table(name, tables.read, {"package": name}) for name in (package, "a_b")}
    make |= {name: tables.Table(name, tables.texts, {"command": "no-such"}) for name in ("c", "d")}
    monkeypatch.setattr(tables, "TABLES", make)
    assert tables.available(make) == [package]
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "skipped, for want of `pip install a-b`: a_b",
        "skipped, for want of `no-such of Debian`: c, d",
    ]
    with pytest.raises(ModuleNotFoundError, match=r"x\.csv is read from a_b"):
        tables.shipped("a_b", "x.csv")


def test_packages_of_one_source_are_one_document(tables, monkeypatch):
    many = "alpha beta gamma delta epsilon zeta theta"
    records = [
        f"Package: {section}{i}{part}\nSource: {section}{i} (1.0)\nSection: {section}\n"
        f"Description: {many} {part} {section}number: {i}\nTag: x"
        for section in ("math", "contrib/net")
        for i in range(3)
        for part in ("library", "manual")
    ]
    records += ["Package: short\nSection: math\nDescription: brief", "Package: none\nSection: math"]
    listed = SimpleNamespace(stdout="\n\n".join(records))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: listed)
    made = tables.texts(4, per_section=2)
    assert made.target.tolist() == ["math"] * 2 + ["net"] * 2 and len(made.reference) == 6
    assert all("library" in text and "manual" in text for text in made.data)
    with pytest.raises(LookupError, match="apt-get update"):
        tables.texts(4, per_section=4)


def test_words_that_meet_cohere(bench, monkeypatch):
    monkeypatch.setattr(bench, "N_WORDS", 2)
    counts = csr_array(np.array([[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 3]]))
    assert bench.coherence(np.array([[2.0, 1, 0, 0]]), counts) == pytest.approx(1)
    assert bench.coherence(np.array([[0.0, 0, 2, 1], [2, 1, 0, 0]]), counts) == pytest.approx(0)
    assert bench.coherence(np.empty((0, 4)), counts) is None


def test_perplexity_of_equally_likely_words_is_their_number(bench):
    counts = csr_array(np.array([[1, 2, 0, 1], [0, 3, 0, 0]]))
    assert bench.perplexity(7 * np.log(1 / 4), counts) == pytest.approx(4)
    assert bench.orders(counts) == pytest.approx(np.log(12))


def test_markers_are_what_a_class_has_more_of(bench):
    rates = np.random.default_rng(0).random((60, 5))
    of_class = np.arange(60) < 20
    rates[of_class, 3] += 1
    rates[of_class, 1] -= 1
    order = bench.ranks(rates, of_class)
    assert order[0] == 3 and order[-1] == 1


def test_both_sides_of_a_split_stand_beside_simpler_ways(bench, tables):
    task = {"table": "factors_small", "seed": 0, "epochs": 3}
    row = bench.run(task)
    shown = [*bench.HOLDS, *bench.PREDICTS, *bench.FINDS]
    fields = {c.field for c in shown} | {t.field for t in [*bench.TARGETS, *bench.SEPARATE]}
    assert all(np.isfinite(row[field]) for field in fields)
    assert row["contrast_gap"] == row["contrast_train"] - row["contrast"]

    made = tables.TABLES["factors_small"].load(0)
    parts = {"test_size": 0.3, "stratify": made.target, "random_state": 0}
    # Each side by its own scale, in which the mean over features is that of all numbers.
    X, X_test = map(StandardScaler().fit_transform, train_test_split(made.data, **parts))
    assert row["n_pca"] == round(row["active"])
    pca = PCA(row["n_pca"], random_state=0).fit(X)
    lost = ((X_test - pca.inverse_transform(pca.transform(X_test))) ** 2).mean()
    assert row["pca_explained_variance"] == pytest.approx(1 - lost, abs=0.02)

    others = {field: value for field, value in row.items() if field != "role_recovery"}
    groups = {"some factors": [row | {"seed": 0}], "unknown ones": [others | {"seed": 0}]}
    page = bench.parts_of(groups, [*bench.TARGETS, *bench.SEPARATE])
    for label in groups:
        assert sum(f"| {label} |" in part for part in page) == 4
    (verdicts,) = (part for part in page if "tables that do" in part)
    assert verdicts.splitlines()[-2].endswith("| - |") and verdicts.endswith(" of 1 |")
