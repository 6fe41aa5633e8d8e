"""The pages of figures, and the short answers that the site gives from them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FIGURES, RESULTS = ROOT / "benchmarks" / "pages", ROOT / "docs" / "results"
INDEX = RESULTS / "index.md"
ANSWERS = sorted(set(RESULTS.glob("*.md")) - {INDEX})
PAGES = [*sorted(FIGURES.glob("*.md")), *ANSWERS, INDEX, ROOT / "benchmarks" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A number, with what is said of its spread.
NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)*"
FIGURE = re.compile(rf"{NUMBER}(?: ± {NUMBER}| \({NUMBER} (?:-|to) {NUMBER}\))?")

each_answer = pytest.mark.parametrize("page", ANSWERS, ids=lambda path: path.stem)


def figures(text):
    """Return the numbers of a text outside code and links, percentages written alike."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|[Cc]ommit \w+", "", text)
    return FIGURE.findall(text)


def stands(figure, text):
    """Say whether a figure is in a text, and not a part of a longer one."""
    return re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d]|[.,]\d)", text)


def table_of(text):
    """Return the lines of the table, without those of its heading."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_and_pictures_lead_to_a_file(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_each_page_of_figures_has_an_answer_and_each_answer_a_line_of_the_index():
    names = {path.stem for path in FIGURES.glob("*.md")}
    assert names == {path.stem for path in ANSWERS}
    text = INDEX.read_text(encoding="utf-8")
    assert len(re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("|", "").split()) <= 250
    lines = table_of(text)
    assert names == {name.removesuffix(".md") for line in lines for name in LINK.findall(line)}
    for line in lines:
        raw = (FIGURES / LINK.findall(line)[0]).read_text(encoding="utf-8")
        assert [figure for figure in figures(line) if not stands(figure, raw)] == []


@each_answer
def test_every_number_of_an_answer_stands_on_the_page_of_figures(page):
    raw = (FIGURES / page.name).read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert len([figure for line in table_of(text) for figure in figures(line)]) >= 8
    assert [figure for figure in figures(text) if not stands(figure, raw)] == []


@each_answer
def test_an_answer_is_short_and_names_its_weak_points_and_source(page):
    text = page.read_text(encoding="utf-8")
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    assert len(" ".join(prose).split()) <= 220
    assert re.match(r"# .*\?\n\n", text)
    assert text.count("\n**Caveat.** ") == 1
    assert 5 <= len(table_of(text)) <= 8
    assert {line.count("|") for line in table_of(text)} <= {4, 5, 6, 7}
    assert text.count("![") <= 1
    command, link = re.search(
        r"`python (\S+)[^`]*` makes the \[raw figures\]\((.*?)\)", text
    ).groups()
    assert (ROOT / command).is_file()
    assert (page.parent / link).resolve() == FIGURES / page.name
