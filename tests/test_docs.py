"""The pages lead where they say, name all that is public, and show what comes out.

That the examples run, and what they claim, the build of the site checks: `.ci/docs`.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import runpy
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import small
from sklearn.datasets import load_iris

import sklearn_classvsc
from sklearn_classvsc import ClassVSCTransformer, CollapseWarning, _likelihoods, bodies
from sklearn_classvsc.testing import check_body

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("results/*.md"))]
PAGES = [ROOT / "README.md", *SITE]
EXAMPLES = sorted((DOCS / "examples").glob("plot_*.py"))
BUILT = re.compile(r"auto_examples/|generated/")  # by Sphinx

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def code_blocks(text):
    return re.findall(r"^( *)```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def anchors(text):
    """Return the anchors of the headings, as code hosts and MyST make them."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_and_pictures_are_there(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")) or BUILT.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@every_page
def test_code_on_pages_is_python(page):
    for indent, code in code_blocks(page.read_text(encoding="utf-8")):
        ast.parse(re.sub(f"^{indent}", "", code, flags=re.MULTILINE))


def test_the_reference_names_all_that_is_public():
    modules = [sklearn_classvsc] + [
        importlib.import_module(f"sklearn_classvsc.{module.name}")
        for module in pkgutil.iter_modules(sklearn_classvsc.__path__)
        if module.name[0] != "_"
    ]
    reference = (DOCS / "api.rst").read_text(encoding="utf-8")
    for module in modules:
        part = reference.partition(f"currentmodule:: {module.__name__}\n")[2]
        part = part.partition("module:: ")[0] if part else ""
        names = {name for name in module.__all__ if name[0].isalpha() and not name.isupper()}
        assert names == set(re.findall(r"^   (\w+)$", part, re.MULTILINE)), module.__name__


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/getting_started.md"])
def test_the_first_code_that_a_reader_meets_runs_and_gives_what_it_says(
    page, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    ((_, code),) = code_blocks((ROOT / page).read_text(encoding="utf-8"))
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        exec(code, names)
    if "Z" in names:
        assert names["Z"].shape == (450, 32)
        assert (names["Z"] == 0).mean() > 0.5
    if page == "README.md":
        assert names["X_hat"].shape == names["X_test"].shape
        assert (tmp_path / "report.html").is_file()
    if page == "docs/getting_started.md":
        table = capsys.readouterr().out
        assert all(role in table for role in ["global", "shared", "class-specific"])


def test_figures_of_the_readme_are_those_of_the_benchmarks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    claimed = set(re.findall(r"\b0\.\d+\b", text))
    assert claimed
    pages = [path.read_text(encoding="utf-8") for path in ROOT.glob("benchmarks/pages/*.md")]
    assert claimed <= {number for page in pages for number in re.findall(r"\b0\.\d+\b", page)}


def test_the_readme_is_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 600


def test_results_are_at_most_a_quarter_of_the_site():
    words = {path: len(path.read_text(encoding="utf-8").split()) for path in SITE}
    results = sum(n for path, n in words.items() if path.parent.name == "results")
    assert 4 * results <= sum(words.values())


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {sklearn_classvsc.__version__}\n" in citation


def public_docstrings():
    """Yield the name and the docstring of all that the reference names."""
    for name, path in re.findall(
        r"   (\w+)$|currentmodule:: (\S+)$", (DOCS / "api.rst").read_text("utf-8"), re.MULTILINE
    ):
        if path:
            module = importlib.import_module(path)
        elif name != "toctree":
            thing = getattr(module, name)
            yield name, inspect.getdoc(thing) or ""
            if inspect.isclass(thing):
                for method, value in inspect.getmembers(thing, callable):
                    module_name = getattr(value, "__module__", None) or ""
                    if method[0] != "_" and module_name.startswith("sklearn_classvsc"):
                        yield f"{name}.{method}", inspect.getdoc(value) or ""


def test_public_docstrings_name_nothing_private():
    private = re.compile(r"(?<![\w*^}])_[a-z]{2,}\w*")
    docs = dict(public_docstrings())
    assert len(docs) > 60
    assert not {name: private.findall(text) for name, text in docs.items() if private.search(text)}


@every_example
def test_examples_have_a_place_and_assert_what_they_claim(example):
    order = runpy.run_path(str(DOCS / "_gallery.py"))["ORDER"]
    assert example.stem.removeprefix("plot_") in order
    hidden = re.findall(
        r"# sphinx_gallery_start_ignore\n(.*?)# sphinx_gallery_end_ignore",
        example.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    claims = [node for code in hidden for node in ast.walk(ast.parse(code))]
    assert any(isinstance(node, ast.Assert) for node in claims)


def test_the_order_of_the_gallery_names_examples_only():
    order = runpy.run_path(str(DOCS / "_gallery.py"))["ORDER"]
    assert sorted(order) == [path.stem.removeprefix("plot_") for path in EXAMPLES]


def test_links_of_the_built_site_are_checked(tmp_path):
    faults = runpy.run_path(str(DOCS / "check_links.py"))["faults"]
    (tmp_path / "a.html").write_text(
        '<h1 id="one">A</h1><a href="b.html#two">b</a><a href="#one">here</a><a href="#no">not</a>'
        '<a href="https://example.org/">out</a><img src="gone.png">'
    )
    (tmp_path / "b.html").write_text(
        '<p id="two"><a href="c.html">c</a><a href="a.html#three">a</a>'
        '<script src="https://example.org/x.js"></script><img src="data:,">'
    )
    found, n_outside = faults(tmp_path)
    assert n_outside == 2
    assert found == [
        "a.html: #no has no such anchor",
        "a.html: gone.png leads nowhere",
        "b.html: a.html#three has no such anchor",
        "b.html: c.html leads nowhere",
        "b.html: https://example.org/x.js is loaded from elsewhere",
    ]


@pytest.mark.slow
def test_the_snippets_of_the_metrics_page_print_what_stands_below_them(capsys):
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(snippets) == page.count("```python") == 2
    namespace = {}
    for code, output in snippets:
        exec(code, namespace)
        assert capsys.readouterr().out == output


def guide(title):
    """Return the code of a section of the contributor's guide, each block on its own."""
    text = (DOCS / "contributing.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in code_blocks(section)]


def added(monkeypatch, module, code):
    """Run code as if it stood at the end of a module, which has again what it had afterwards."""
    names = dict(vars(module))
    exec(compile(code, module.__file__, "exec"), names)
    new = {name: x for name, x in names.items() if vars(module).get(name) is not x}
    for name, value in new.items():
        monkeypatch.setattr(module, name, value, raising=False)
    return new


def test_an_architecture_is_added_as_the_guide_says(tmp_path, monkeypatch):
    (code,) = guide("To add an architecture")
    wide = added(monkeypatch, bodies, code)["Wide"]
    monkeypatch.setattr(bodies, "__all__", [*bodies.__all__, "Wide"])
    X, y = load_iris(return_X_y=True)
    check_body(wide(8), wide(8), n_features=4, n_components=3)
    est = small(ClassVSCTransformer, encoder=wide(8), decoder=wide(9)).fit(X, y)
    est.save(tmp_path / "model")
    loaded = ClassVSCTransformer.load(tmp_path / "model")
    assert loaded.encoder == wide(8)
    assert np.array_equal(loaded.transform(X), est.transform(X))
    assert np.array_equal(loaded.partial_fit(X, y).transform(X), est.partial_fit(X, y).transform(X))
    with pytest.raises(ValueError, match="width"):
        small(ClassVSCTransformer, encoder=wide(10**9)).fit(X, y)


def test_a_likelihood_is_added_as_the_guide_says(tmp_path, monkeypatch):
    (code,) = guide("To add a likelihood")
    laplace = added(monkeypatch, _likelihoods, code)["Laplace"]
    monkeypatch.setitem(_likelihoods.LIKELIHOODS, "laplace", laplace)
    constraints = ClassVSCTransformer._parameter_constraints | {"likelihood": [str]}
    monkeypatch.setattr(ClassVSCTransformer, "_parameter_constraints", constraints)
    X, y = load_iris(return_X_y=True)
    est = small(ClassVSCTransformer, likelihood="laplace", max_epochs=60).fit(X, y)
    assert est.history_["reconstruction"].iloc[-1] < est.history_["reconstruction"].iloc[0]
    assert 0 < est.module_.likelihood.scale < 1
    est.save(tmp_path / "model")
    loaded = ClassVSCTransformer.load(tmp_path / "model")
    assert np.array_equal(loaded.score_samples(X), est.score_samples(X))
