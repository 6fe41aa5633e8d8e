"""The pages lead where they say, name all that is public, and show what comes out.

That the examples run, and what they claim, the build of the site checks: `.ci/docs`.
"""

import ast
import importlib
import pkgutil
import re
import runpy
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers import small
from sklearn.datasets import load_iris

import sklearn_classvsc
from sklearn_classvsc import ClassVSCTransformer, _likelihoods, bodies
from sklearn_classvsc.testing import check_body

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
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
    new = {name: x for name, x in names.items() if name not in vars(module)}
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
