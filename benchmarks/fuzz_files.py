"""Read hostile model files: each must be refused, fast, in little memory, without running it.

Crafted files and paths, then mutations: half of them damage, which any change of a byte is; half
of them lies, whose hash is right, so that only the checks of what a model must be are left.
`tests/hostile_files.py` makes them. They are read in child processes with a limit of memory, in
which an audit hook counts whatever looks like running code. Linux only, for `/proc`.

    python benchmarks/fuzz_files.py             # 10,000 mutations
    python benchmarks/fuzz_files.py 500 --seed 1
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _common import process_memory, reset_peak
from _fuzz import TESTS, command_line, limit_memory, rows_of_child, tell

BATCH = 1000  # mutations read by one child
SECONDS = 20.0  # for one file
CODE_EVENTS = {"compile", "exec", "marshal.loads", "os.exec", "os.posix_spawn", "os.system"}
CODE_EVENTS |= {"ctypes.dlopen", "pickle.find_class", "subprocess.Popen"}


def main(n: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Load all crafted files and n mutations and return the figures.

    Parameters
    ----------
    n : int
        Number of mutations.
    seed : int
        Mutations of another seed are others.

    Returns
    -------
    figures : dict
        Numbers of `files`, `crafted` among them, mutations `not_run` because one before them ended
        the process, `refused` with ModelFileError, `no_file` (an OSError for a path that leads to
        none), `identical` (a mutation that changed nothing), `valid` (lies that describe another
        sound model), `accepted` (damage that was loaded), `other_exceptions`, `crashes`, `hangs`,
        `code_run`; `megabytes`, the largest peak of memory of a `load` above what the process had
        before; `seconds`, the slowest `load`; and the `findings`.
    """
    rows = list(rows_of_child(__file__, ["0", "0", str(seed)], SECONDS))
    n_crafted = len(rows)
    for start in range(0, n, BATCH):
        arguments = [str(start), str(min(n, start + BATCH)), str(seed)]
        rows += rows_of_child(__file__, arguments, SECONDS)
        print(f"{len(rows)} files", file=sys.stderr)
    kinds = Counter(row["kind"] for row in rows)
    return {
        "files": len(rows),
        "crafted": n_crafted,
        "not_run": n_crafted + n - len(rows),
        **{kind: kinds[kind] for kind in ("refused", "no_file", "identical", "valid", "accepted")},
        "other_exceptions": kinds["exception"],
        "crashes": kinds["crash"],
        "hangs": kinds["hang"],
        "code_run": sum(bool(row.get("code")) for row in rows),
        "megabytes": max(row.get("megabytes", 0.0) for row in rows),
        "seconds": max(row.get("seconds", SECONDS) for row in rows),
        "findings": [
            row
            for row in rows
            if row["kind"] in ("accepted", "exception", "crash", "hang") or row.get("code")
        ],
    }


# -- the child ----------------------------------------------------------------------------------


class Reader:
    """Loads files, and measures it."""

    def __init__(self, folder: Path) -> None:
        from sklearn_classvsc import ClassVSCTransformer

        self.folder, self.cls = folder, ClassVSCTransformer
        self.canary = folder / "canary"
        self.events: list[str] | None = None
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: object) -> None:
        if self.events is not None and event in CODE_EVENTS:
            self.events.append(event)

    def read(self, name: str, path: Any, loaded: str = "accepted", cls: Any = None) -> None:
        """Load a path, use what comes of it, and tell; `loaded` is what to call success."""
        from sklearn_classvsc._persistence import ModelFileError

        tell(case=name)
        told, model = "", None
        before = reset_peak()
        assert before is not None, "only Linux tells the peak of the memory"
        self.events, start = [], time.perf_counter()
        try:
            model, kind = (cls or self.cls).load(path), loaded
        except ModelFileError as error:
            kind, told = "refused", str(error)
        except OSError as error:
            kind, told = "no_file", str(error)
        except Exception as error:  # what is to be found: one type only is allowed
            kind, told = "exception", repr(error)
        seconds, (code, self.events) = time.perf_counter() - start, (self.events, None)
        measures = {"seconds": seconds, "megabytes": (process_memory("VmHWM") - before) / 1e6}
        if self.canary.exists():
            code.append("canary")
            self.canary.rmdir()
        if model is not None:
            _use(model)
        tell(case=name, kind=kind, told=told, code=code, **measures)

    def read_bytes(self, name: str, content: bytes, loaded: str = "accepted") -> None:
        """Load a file of this content."""
        path = self.folder / "hostile"
        path.write_bytes(content)
        self.read(name, path, loaded)


def child(start: int, stop: int, seed: int) -> None:
    """Load the mutations `start` to `stop`, or, if there are none, what is crafted."""
    import warnings

    warnings.simplefilter("ignore")
    sys.path.insert(0, str(TESTS))
    import hostile_files
    import numpy as np

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reader = Reader(folder)
        content = _example(folder)
        limit_memory()
        if start == stop:
            for name, crafted in _crafted(content, reader.canary):
                reader.read_bytes(name, crafted)
            for name, path, cls in _paths(folder):
                reader.read(name, path, cls=cls)
        for i in range(start, stop):
            rng = np.random.default_rng([seed, i])
            mutate: Callable[..., bytes] = (hostile_files.damage, hostile_files.lie)[i % 2]
            mutated = mutate(content, rng)
            loaded = "valid" if i % 2 else "accepted"
            if mutated == content:
                loaded = "identical"
            reader.read_bytes(f"{mutate.__name__} {seed} {i}", mutated, loaded)


def _example(folder: Path) -> bytes:
    """Return the file of a model that does all it can once, so that all it needs is imported."""
    from hostile_files import DATA, PARAMETERS

    from sklearn_classvsc import ClassVSCTransformer, VAETransformer

    X, y = DATA
    path = folder / "model"
    VAETransformer(**PARAMETERS).fit(X).save(folder / "other")
    ClassVSCTransformer(**PARAMETERS).fit(X, y).save(path)
    _use(ClassVSCTransformer.load(path))
    return path.read_bytes()


def _use(model: Any) -> None:
    """Transform and train on; what nonsense comes of it is no matter, that the process lives is."""
    from hostile_files import DATA

    with contextlib.suppress(Exception):
        model.transform(DATA[0])
    with contextlib.suppress(Exception):
        model.partial_fit(*DATA)


def _crafted(content: bytes, canary: Path) -> Iterator[tuple[str, bytes]]:
    import hostile_files

    for name, (change, _) in hostile_files.CRAFTED.items():
        yield f"crafted: {name}", hostile_files.forge(content, change)
    yield from hostile_files.NOT_FILES.items()
    yield from hostile_files.payloads(canary).items()


def _paths(folder: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield paths that are no model file, and the class to load."""
    from hostile_files import HEAVY

    from sklearn_classvsc import VAETransformer, VSCTransformer

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


if __name__ == "__main__":
    command_line(main, child, 10_000, __doc__)
