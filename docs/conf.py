"""The site: `bash .ci/docs` builds it into build/site, and runs the gallery on the way."""

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import sklearn_classvsc
from sklearn_classvsc._likelihoods import LIKELIHOODS
from sklearn_classvsc._mixed import Mixed

sys.path.insert(0, str(Path(__file__).parent))  # for _gallery

project = "sklearn-classvsc"
author = "the sklearn-classvsc developers"
release = version = sklearn_classvsc.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # so that the site loads nothing from elsewhere
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["examples", "changes", "_build"]
smartquotes = False

# -- Markdown: what a code host shows as well ------------------------------------------------------

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# -- API: docstrings -------------------------------------------------------------------------------

default_role = "literal"
templates_path = ["_templates"]
autosummary_generate = True
# The page of the guide that the reference of a name, or of all names of a module, leads back to.
autosummary_context = {
    "guide": {
        "sklearn_classvsc.VAETransformer": "model_vae",
        "sklearn_classvsc.VSCTransformer": "model_vsc",
        "sklearn_classvsc.ClassVSCTransformer": "model_classvsc",
        "sklearn_classvsc.CollapseWarning": "faq",
        "sklearn_classvsc.GeneralizationWarning": "trust",
        "sklearn_classvsc.ModelFileError": "persistence",
        "sklearn_classvsc.factor_stability": "trust",
        "sklearn_classvsc.anndata": "tutorials",
        "sklearn_classvsc.bodies": "architectures",
        "sklearn_classvsc.datasets": "tutorials",
        "sklearn_classvsc.displays": "displays",
        "sklearn_classvsc.distributed": "distributed",
        "sklearn_classvsc.editing": "editing",
        "sklearn_classvsc.export": "deployment",
        "sklearn_classvsc.inspection": "displays",
        "sklearn_classvsc.labels": "labels",
        "sklearn_classvsc.metrics": "metrics",
        "sklearn_classvsc.report": "report",
        "sklearn_classvsc.testing": "architectures",
    }
}
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # the docstrings say it in words
numpydoc_show_class_members = False
# Inventories that Debian ships with these projects' documentation: the build reads nothing else.
intersphinx_mapping = {
    "pandas": ("https://pandas.pydata.org/docs/", "inventories/pandas.inv"),
    "python": ("https://docs.python.org/3/", "inventories/python.inv"),
    "sklearn": ("https://scikit-learn.org/stable/", "inventories/sklearn.inv"),
}
nitpick_ignore_regex = [
    ("py:.*", r"(accelerate|matplotlib|numpy|pandas|scipy|sklearn|skorch|torch)\..*"),
    ("py:.*", r"collections\.abc\..*"),
]

# -- Gallery ---------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(?!plot_)",
    "within_subsection_order": "_gallery.position",
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "doc_module": ("sklearn_classvsc",),
    "backreferences_dir": "generated/backreferences",
    "reference_url": {"sklearn_classvsc": None},
    "show_signature": False,
    "min_reported_time": 1,
    "write_computation_times": False,  # their page loads scripts from elsewhere
    # The code between these markers runs, and holds the text to what came out; it is not shown.
    # (sphinx_gallery_start_ignore ... sphinx_gallery_end_ignore)
}
# An example shows all warnings that its reader would see, but for this one of a frozen backend.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

# -- HTML ------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn-classvsc {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "tango",
}
html_sidebars = {"index": [], "getting_started": [], "tutorials": [], "changelog": []}


def link_to_the_gallery(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let a link to a script of the gallery, right on a code host, lead to its page here."""
    source[0] = re.sub(r"\]\(examples/(plot_\w+)\.py\)", r"](auto_examples/\1.rst)", source[0])


def offer_files_of_the_repository(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let a link to a file outside these pages, right on a code host, download it here."""
    source[0] = re.sub(
        r"\[([^]]+)\]\(((?:\.\./)+(?:benchmarks|tests)/[\w/.]+)\)",
        r"{download}`\1 <\2>`",
        source[0],
    )


def list_the_likelihoods(app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the sections of that page from the classes, so that a new one has its own."""
    if docname == "likelihoods":
        for name, likelihood in (LIKELIHOODS | {"mixed": Mixed}).items():
            path = f"{likelihood.__module__}.{likelihood.__name__}"
            source[0] += f"\n``{name!r}``\n{'-' * (len(name) + 6)}\n\n.. autoclass:: {path}\n"


def skip(app: Sphinx, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn brings or generates, and the fields of named tuples."""
    theirs = (getattr(item, "__module__", None) or "").startswith("sklearn.")
    return True if theirs or type(item).__name__ in ("_tuplegetter", "RequestMethod") else None


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", link_to_the_gallery)
    app.connect("source-read", offer_files_of_the_repository)
    app.connect("source-read", list_the_likelihoods)
    app.connect("autodoc-skip-member", skip)
