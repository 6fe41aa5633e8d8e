"""What the fuzzers share: cases run in child processes, so that a crash or a hang is counted."""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
#: Address space that a child may take beyond what it has when it begins, in bytes.
MEMORY = 2 * 2**30
#: Seconds for the imports of a child.
START_SECONDS = 120

Row = dict[str, Any]


def rows_of_child(script: str, arguments: list[str], seconds: float) -> Iterator[Row]:
    """Run `script --child ...`, which `tell`s each case twice; yield what it tells at the end.

    A case that takes longer than `seconds` counts as a hang, one that ends the process, by a
    signal or in whatever way, as a crash; the rest of the child's cases are then not run.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, "--child", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    running: Row = {"case": "the start"}
    limit: float = START_SECONDS
    buffer, hung = b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(limit):
            read = os.read(process.stdout.fileno(), 2**16)
            if not read:
                break
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                running, limit = json.loads(line), seconds
                if "kind" in running:
                    yield running
        else:
            process.kill()
            hung = True
            yield running | {"kind": "hang"}
    if (process.wait() or "kind" not in running) and not hung:
        yield running | {"kind": "crash", "told": f"exit status {process.returncode}"}


def tell(**row: Any) -> None:
    """Tell the parent that a case begins, or, with a `kind`, how it ended."""
    print(json.dumps(row), flush=True)


def command_line(
    main: Callable[..., Row], child: Callable[..., None], n: int, description: str | None
) -> None:
    """Run a fuzzer from the command line, or be one of its children."""
    if sys.argv[1:2] == ["--child"]:
        child(*map(int, sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=n, help="cases [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the cases [%(default)s]")
    found = main(**vars(parser.parse_args()))
    print(json.dumps(found, indent=2))
    raise SystemExit(bool(found["findings"] or found["not_run"]))


def limit_memory() -> None:
    """Let this process take no more than `MEMORY` beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
