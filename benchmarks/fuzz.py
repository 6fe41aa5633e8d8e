"""Try bad inputs and hostile model files: each must be handled, or refused by name, with no crash.

`inputs`: cases of `tests/strategies.py`, of any kind and all at once: parameters, samples, labels,
weights, new samples and codes. An estimator is fitted and all its methods are called; each case
must give finite results, or an error that names the argument.

`files`: model files and paths crafted by `tests/hostile_files.py`, then mutations: half of them
damage, which any change of a byte is; half of them lies, whose hash is right, so that only the
checks of what a model must be are left. An audit hook counts whatever looks like running code.

Cases run in child processes with a limit of time for each and of memory: Linux only.

    python benchmarks/fuzz.py inputs                # 2,000 cases
    python benchmarks/fuzz.py files 500 --seed 1    # 500 mutations, of another seed
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import Row
from _harness import CHILD_MEMORY, limit_memory, memory, reset_peak, rows_of_child, tell

from sklearn_classvsc import ClassVSCTransformer, ModelFileError, VAETransformer, VSCTransformer

SECONDS = 20.0  # for one case
#: How a case of inputs may end, and what that is called; the others are `wrong`.
KINDS = {
    **{"accepted": "accepted", "refused": "refused", "crash": "crashes", "hang": "hangs"},
    **{"non-finite": "non_finite", "unnamed": "unnamed_errors", "untyped": "untyped_errors"},
}
CODE_EVENTS = {"compile", "exec", "marshal.loads", "os.exec", "os.posix_spawn", "os.system"}
CODE_EVENTS |= {"ctypes.dlopen", "pickle.find_class", "subprocess.Popen"}


def rows_of(which: str, n: int, batch: int, seed: int) -> list[Row]:
    """Run n cases, so many in one child."""
    rows: list[Row] = []
    for start in range(0, n, batch):
        numbers = map(str, (start, min(n, start + batch), seed))
        command = [sys.executable, __file__, "--child", which, *numbers]
        rows += rows_of_child(command, SECONDS)
        kinds = dict(Counter(row["kind"] for row in rows))
        print(f"{which}, {len(rows)} of {n}: {kinds}", file=sys.stderr)
    return rows


# -- inputs -------------------------------------------------------------------------------------


def inputs(n: int = 2000, seed: int = 0) -> Row:
    """Fit to n cases; return how often each came of it.

    `not_run` are those whose child was ended by one before them; `wrong` were refused in spite of
    being in order, or the reverse, or left a trace.
    """
    rows = rows_of("inputs", n, 200, seed)
    kinds = Counter(row["kind"] for row in rows)
    known = {name: kinds.pop(kind, 0) for kind, name in KINDS.items()}
    return {
        "cases": len(rows),
        "not_run": n - len(rows),
        **known,
        "wrong": kinds.total(),
        "slowest": max((row.get("seconds", SECONDS) for row in rows), default=0.0),
        "findings": [row for row in rows if row["kind"] not in ("accepted", "refused")],
    }


def fit_cases(start: int, stop: int, seed: int) -> None:
    """Run cases, and tell of each."""
    import hypothesis
    import strategies
    from trials import Violation, trial

    limit_memory(CHILD_MEMORY, "AS")

    @hypothesis.seed(10_000 * seed + start)
    @hypothesis.settings(
        max_examples=stop - start,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategies.cases())
    def run(case: strategies.Case) -> None:
        tell(case=repr(case))
        begin, told = time.perf_counter(), ""
        try:
            kind = trial(case)
        except Violation as violation:
            kind, told = violation.kind, str(violation)
        tell(case=repr(case), kind=kind, told=told, seconds=time.perf_counter() - begin)

    run()


# -- files --------------------------------------------------------------------------------------


def files(n: int = 10_000, seed: int = 0) -> Row:
    """Load all crafted files and n mutations; return how often each came of it.

    `identical`: a mutation that changed nothing. `valid`: a lie that describes another sound model.
    `accepted`: damage that was loaded. `no_file`: an OSError for a path that leads to none.
    `megabytes` is the largest peak above what the process had before a `load`.
    """
    crafted = list(rows_of_child([sys.executable, __file__, "--child", "crafted"], SECONDS))
    rows = crafted + rows_of("files", n, 1000, seed)
    kinds = Counter(row["kind"] for row in rows)
    bad = ("accepted", "exception", "crash", "hang")
    return {
        "files": len(rows),
        "crafted": len(crafted),
        "not_run": len(crafted) + n - len(rows),
        **{kind: kinds[kind] for kind in ("refused", "no_file", "identical", "valid", "accepted")},
        "other_exceptions": kinds["exception"],
        "crashes": kinds["crash"],
        "hangs": kinds["hang"],
        "code_run": sum(bool(row.get("code")) for row in rows),
        "megabytes": max(row.get("megabytes", 0.0) for row in rows),
        "seconds": max(row.get("seconds", SECONDS) for row in rows),
        "findings": [row for row in rows if row["kind"] in bad or row.get("code")],
    }


class Reader:
    """Loads files of a folder, in little memory, and measures it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.canary = folder, folder / "canary"
        self.events: list[str] | None = None
        self.content = self._example()
        sys.addaudithook(self._audit)
        warnings.simplefilter("ignore")
        limit_memory(CHILD_MEMORY, "AS")

    def _audit(self, event: str, arguments: object) -> None:
        if self.events is not None and event in CODE_EVENTS:
            self.events.append(event)

    def _example(self) -> bytes:
        """Return the file of a model that does all it can once, so that all is imported."""
        from hostile_files import DATA, PARAMETERS

        X, y = DATA
        VAETransformer(**PARAMETERS).fit(X).save(self.folder / "other")
        ClassVSCTransformer(**PARAMETERS).fit(X, y).save(self.folder / "model")
        _use(ClassVSCTransformer.load(self.folder / "model"))
        return (self.folder / "model").read_bytes()

    def read(self, name: str, path: Any, loaded: str = "accepted", cls: Any = None) -> None:
        """Load a path, use what comes of it, and tell; `loaded` is what to call success."""
        tell(case=name)
        told, model, before = "", None, reset_peak()
        self.events, start = [], time.perf_counter()
        try:
            model, kind = (cls or ClassVSCTransformer).load(path), loaded
        except ModelFileError as error:
            kind, told = "refused", str(error)
        except OSError as error:
            kind, told = "no_file", str(error)
        except Exception as error:  # what is to be found: one type only is allowed
            kind, told = "exception", repr(error)
        seconds, (code, self.events) = time.perf_counter() - start, (self.events, None)
        measures = {"seconds": seconds, "megabytes": (memory("VmHWM") - before) / 1e6}
        if self.canary.exists():
            code.append("canary")
            self.canary.rmdir()
        if model is not None:
            _use(model)
        tell(case=name, kind=kind, told=told, code=code, **measures)

    def read_bytes(self, name: str, content: bytes, loaded: str = "accepted") -> None:
        """Load a file of this content."""
        (self.folder / "hostile").write_bytes(content)
        self.read(name, self.folder / "hostile", loaded)


def _use(model: Any) -> None:
    """Transform and train on; what nonsense comes of it is no matter, that the process lives is."""
    from hostile_files import DATA

    with contextlib.suppress(Exception):
        model.transform(DATA[0])
    with contextlib.suppress(Exception):
        model.partial_fit(*DATA)


def read_mutations(start: int, stop: int, seed: int) -> None:
    """Load mutations of these numbers."""
    import hostile_files

    with tempfile.TemporaryDirectory() as name:
        reader = Reader(Path(name))
        for i in range(start, stop):
            mutate: Callable[..., bytes] = (hostile_files.damage, hostile_files.lie)[i % 2]
            mutated = mutate(reader.content, np.random.default_rng([seed, i]))
            loaded = "valid" if i % 2 else "accepted"
            loaded = "identical" if mutated == reader.content else loaded
            reader.read_bytes(f"{mutate.__name__} {seed} {i}", mutated, loaded)


def read_crafted() -> None:
    """Load what is crafted, and paths that are no model file."""
    import hostile_files

    with tempfile.TemporaryDirectory() as name:
        reader = Reader(Path(name))
        for name, (change, _) in hostile_files.CRAFTED.items():
            reader.read_bytes(f"crafted: {name}", hostile_files.forge(reader.content, change))
        for name, content in hostile_files.NOT_FILES.items():
            reader.read_bytes(name, content)
        for name, content in hostile_files.payloads(reader.canary).items():
            reader.read_bytes(name, content)
        for name, path, cls in _paths(reader.folder):
            reader.read(name, path, cls=cls)


def _paths(folder: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield paths that are no model file, and the class to load."""
    from hostile_files import HEAVY

    (folder / "dangling").symlink_to(folder / "none")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    for name, text in HEAVY.items():
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(2**36)  # takes no room on the disk
    for name in ("none", "dangling", "loop", "pipe", ".", *HEAVY):
        yield f"path: {name}", folder / name, None
    yield "path: /dev/zero", "/dev/zero", None
    yield "path: NUL", "a\0b", None
    yield "class: VSC of ClassVSC", folder / "model", VSCTransformer
    yield "class: VAE of ClassVSC", folder / "model", VAETransformer
    yield "class: ClassVSC of VAE", folder / "other", None


FUZZERS = {"inputs": inputs, "files": files}
CHILDREN: dict[str, Callable[..., None]] = {
    "inputs": fit_cases,
    "files": read_mutations,
    "crafted": read_crafted,
}


def main() -> bool:
    """Run a fuzzer, and print its figures; return whether anything was found or left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=list(FUZZERS))
    parser.add_argument("n", type=int, nargs="?", help="cases; default: those of the page")
    parser.add_argument("--seed", type=int, default=0, help="of the cases")
    arguments = vars(parser.parse_args())
    figures = FUZZERS[arguments.pop("which")](
        **{k: v for k, v in arguments.items() if v is not None}
    )
    print(json.dumps(figures, indent=2))
    return bool(figures["findings"] or figures["not_run"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](*map(int, sys.argv[3:]))
    else:
        raise SystemExit(main())
