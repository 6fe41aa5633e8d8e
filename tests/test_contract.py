"""What holds for the whole package: names, imports, docstrings."""

import ast
import contextlib
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpydoc.docscrape
import pytest

import sklearn_classvsc
from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

PACKAGE = Path(sklearn_classvsc.__file__).parent
#: The rooms in reading order, and the files of each; a file imports those before it only.
ROOMS = {
    1: ["_spike_slab"],
    2: ["_likelihoods", "_mixed"],
    3: ["_layers", "_cross_fit", "_modules"],
    4: ["_gates"],
    5: ["_objective"],
    6: ["_data"],
    7: ["_streams"],
    8: ["_classes"],
    9: ["_collapse", "_rotation", "_class_factors", "_model"],
    10: ["_net", "_training"],
    11: ["_validation", "_estimator"],
    12: ["_estimators"],
}
FILES = [name for names in ROOMS.values() for name in names]
#: What any room may import: they import no room.
BELOW = {
    *("_blocks", "_files", "_fingerprints", "_guard", "_messages", "_sklearn", "_tables"),
    *("distributed", "labels"),
}
#: Beside the rooms, and between which: the last that each imports, the first that it serves.
BESIDE = {
    "_persistence": ("_training", "_estimator"),
    "_checkpoint": ("_validation", "_estimator"),
}


def public_objects():
    for module_name in (
        "sklearn_classvsc",
        "sklearn_classvsc.anndata",
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


def is_module(name):
    file = PACKAGE.joinpath(*name.split("."))
    return bool(name) and (file.with_suffix(".py").exists() or (file / "__init__.py").exists())


def imports_of(path):
    """The modules of the package that a file names, for types and within functions too."""
    folder = path.parent.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = node.module.split(".") if node.module else []
            base = ".".join([*folder[: len(folder) - node.level + 1], *module])
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if is_module(name) else base for name in names}
    return found - {""}


@pytest.mark.parametrize("name", FILES)
def test_rooms_import_what_stands_before_them_only(name):
    before = set(FILES[: FILES.index(name)])
    beside = {
        file for file, (_, serves) in BESIDE.items() if FILES.index(serves) <= FILES.index(name)
    }
    assert imports_of(PACKAGE / f"{name}.py") <= before | beside | BELOW


@pytest.mark.parametrize("name", [*sorted(BELOW), *BESIDE])
def test_what_stands_beside_the_rooms_imports_no_higher_one(name):
    last = BESIDE.get(name, (None,))[0]
    lower = set(FILES[: FILES.index(last) + 1]) if last else set()
    assert imports_of(PACKAGE / f"{name}.py") <= lower | BELOW | set(BESIDE) | {"bodies"}


def test_no_file_imports_itself_by_way_of_others():
    files = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {name: imports_of(path) - {name} for name, path in files.items()}
    while graph:
        free = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


def classes_of_the_rooms():
    for name in FILES:
        module = importlib.import_module(f"sklearn_classvsc.{name}")
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == module.__name__:
                yield pytest.param(cls, id=f"{name}.{cls.__name__}")


@pytest.mark.parametrize("cls", classes_of_the_rooms())
def test_self_reaches_no_name_of_a_higher_room(cls):
    """All that a class asks of itself is its own, or of the classes that it is made from."""

    def names(cls, stored):
        return {
            node.attr
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
            and (not stored or isinstance(node.ctx, ast.Store))
        }

    own = [c for c in cls.__mro__ if c is not object and c.__module__ != "typing"]
    known = set(dir(cls)).union(*(inspect.get_annotations(c) for c in own))
    for base in own:
        with contextlib.suppress(OSError, TypeError):  # of builtins
            known |= names(base, stored=True)
    assert names(cls, stored=False) <= known


def test_the_estimators_are_siblings():
    for cls in (VAETransformer, VSCTransformer, ClassVSCTransformer):
        assert [c.__name__ for c in cls.__mro__[:2]] == [cls.__name__, "SpikeSlabTransformer"]


@pytest.mark.parametrize(
    ("cls", "most"), [(VAETransformer, 22), (VSCTransformer, 27), (ClassVSCTransformer, 29)]
)
def test_constructors_stay_within_their_budgets(cls, most):
    assert len(inspect.signature(cls).parameters) <= most


@pytest.mark.parametrize("number", ROOMS)
def test_rooms_carry_their_numbers(number):
    for name in ROOMS[number]:
        doc = importlib.import_module(f"sklearn_classvsc.{name}").__doc__
        assert doc.startswith(f"Room {number}:")
    assert f"{number}. `{'`, `'.join(ROOMS[number])}`:" in sklearn_classvsc.__doc__


def test_every_file_is_a_room_or_named_in_the_reading_order():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    others = files - set(FILES) - BELOW
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
    assert shared - vsc == {"total_correlation_weight"}
    spike = {"alpha", "threshold", "usage_weight", "information_weight", "warmup"}
    assert vsc - shared == {*spike, "prior", "n_pseudo_inputs"}
    assert class_vsc - shared == {
        *spike,
        *("consistency_weight", "consistency", "objective", "unlabeled"),
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
