"""What holds for the whole package: names, imports, docstrings."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpydoc.docscrape
import pytest

import sklearn_classvsc
from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

PACKAGE = Path(sklearn_classvsc.__file__).parent
#: The rooms in reading order; a room imports lower numbers only.
ROOMS = [
    "_spike_slab",
    "_likelihoods",
    "_modules",
    "_objective",
    "_data",
    "_streams",
    "_net",
    "_inference",
    "_validation",
    "_state",
    "_base",
    "_classes",
    "_collapse",
    "_estimators",
]
#: Imported by any room, and importing none.
SHIMS = {"_blocks", "_files", "labels", "_sklearn"}
#: Beside the rooms: what rooms may use although they have no number.
BESIDE = {"_persistence", "_checkpoint", "distributed"}


def public_objects():
    for module_name in (
        "sklearn_classvsc",
        "sklearn_classvsc.bodies",
        "sklearn_classvsc.metrics",
        "sklearn_classvsc.datasets",
        "sklearn_classvsc.displays",
        "sklearn_classvsc.distributed",
        "sklearn_classvsc.editing",
        "sklearn_classvsc.export",
        "sklearn_classvsc.inspection",
        "sklearn_classvsc.labels",
        "sklearn_classvsc.report",
        "sklearn_classvsc.testing",
    ):
        module = importlib.import_module(module_name)
        names = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        for name in names:
            item = getattr(module, name)
            if callable(item):
                yield pytest.param(item, id=f"{module_name}.{name}")


def public_methods():
    for cls in (VAETransformer, VSCTransformer, ClassVSCTransformer):
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            if name[0] != "_" and method.__module__.startswith("sklearn_classvsc"):
                yield pytest.param(method, id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_lower_numbers_only(room):
    tree = ast.parse((PACKAGE / f"{room}.py").read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            imported |= {node.module} if node.module else {alias.name for alias in node.names}
    assert imported <= {*ROOMS[: ROOMS.index(room)], *SHIMS, *BESIDE}


@pytest.mark.parametrize("number", range(1, len(ROOMS) + 1))
def test_rooms_carry_their_numbers(number):
    room = ROOMS[number - 1]
    assert importlib.import_module(f"sklearn_classvsc.{room}").__doc__.startswith(f"Room {number}:")
    assert f"{number}. `{room}`" in sklearn_classvsc.__doc__


def test_every_file_is_a_room_or_named_in_the_reading_order():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    others = files - set(ROOMS) - SHIMS
    assert all(f"`{name}`" in sklearn_classvsc.__doc__ for name in others), others


@pytest.mark.parametrize("item", list(public_objects()))
def test_public_names_are_documented(item):
    doc = numpydoc.docscrape.get_doc_object(item)
    assert doc["Summary"]
    if isinstance(item, type) and issubclass(item, Exception):
        return
    callable_item = item.__init__ if inspect.isclass(item) else item
    if inspect.isclass(item) and issubclass(item, tuple):
        return
    check_parameters(doc, callable_item)
    assert doc["Examples"], "an example that runs"


@pytest.mark.parametrize("method", list(public_methods()))
def test_public_methods_are_documented(method):
    doc = numpydoc.docscrape.FunctionDoc(method)
    assert (doc["Summary"] and doc["Returns"]) or method.__name__ in {"save", "load"}
    check_parameters(doc, method)


def check_parameters(doc, function):
    """Hold the documented parameters and defaults against the signature."""
    signature = [p for name, p in inspect.signature(function).parameters.items() if name != "self"]
    documented = [(name, p.type) for p in doc["Parameters"] for name in p.name.split(", ")]
    assert [name for name, _ in documented] == [p.name for p in signature]
    for (name, described), actual in zip(documented, signature, strict=True):
        stated = re.search(r"default=(.+)$", described)
        if actual.default is inspect.Parameter.empty:
            assert stated is None, name
        else:
            assert stated, f"{name}: no default stated"
            assert ast.literal_eval(stated[1]) == actual.default, name


def test_fixed_names_of_the_constructors():
    shared = set(inspect.signature(VAETransformer).parameters)
    vsc = set(inspect.signature(VSCTransformer).parameters)
    class_vsc = set(inspect.signature(ClassVSCTransformer).parameters)
    assert shared - vsc == {"total_correlation_weight", "covariance_weight"}
    spike = {"alpha", "threshold", "usage_weight", "information_weight", "warmup"}
    assert vsc - shared == {*spike, "prior", "n_pseudo_inputs"}
    assert class_vsc - shared == {
        *spike,
        *("consistency_weight", "consistency", "objective", "unlabeled", "bins"),
    }


@pytest.mark.parametrize("module", ["sklearn_classvsc", "sklearn_classvsc.metrics"])
def test_torch_is_imported_only_for_the_estimators(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_are_attribute_errors():
    assert set(sklearn_classvsc.__all__) <= set(dir(sklearn_classvsc))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        sklearn_classvsc.Nonsense  # noqa: B018


def test_readme_runs(tmp_path, monkeypatch):
    """The lines of the README run as they stand, one after the other."""
    readme = PACKAGE.parent / "README.md"
    first, *more = re.findall(r"```python\n(.*?)```", readme.read_text(), flags=re.DOTALL)
    assert len(first.strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code in (first, *more):
        exec(compile(code, "README.md", "exec"), namespace)
    assert (tmp_path / "report.html").stat().st_size > 10_000
