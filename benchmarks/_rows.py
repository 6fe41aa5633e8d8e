"""Pages whose rows are measured one by one, each in a process of its own."""

from __future__ import annotations

import argparse
import inspect
import json
import multiprocessing
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common as common
from _common import Row


class Task(NamedTuple):
    """A row of a page."""

    what: str
    asked: str
    measure: Callable[[Any], Row]  # -> {"measured": text, "met": bool or None, ...}
    full: Any  # how much of it
    quick: Any
    fork: bool = True  # False for what starts processes: a fresh one, that imports what it needs


def main(
    doc: str, name: str, tasks: Mapping[str, Task], page: Callable[[str], str], packages: list[str]
) -> int:
    """Measure the rows that are missing, then write the page.

    Parameters
    ----------
    doc : str
        What `--help` says.
    name : str
        Of the page and, with `.jsonl`, of the finished rows.
    tasks : mapping of str to Task
        The rows.
    page : callable
        Makes the page of the table.
    packages : list of str
        Whose versions are noted, beside those that all benchmarks need.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small counts: under two minutes")
    add("--rows", nargs="+", choices=tasks, default=list(tasks), help="which rows to measure")
    add("--fresh", action="store_true", help="measure again what has been measured")
    add("--output-dir", type=Path, help="of the page; default: docs")
    add("--results", type=Path, help="file of JSON lines with the finished rows")
    arguments = parser.parse_args()
    results = common.RESULTS / ("quick" if arguments.quick else "")
    output_dir = arguments.output_dir or (results if arguments.quick else common.DOCS)
    store = common.ResultStore(arguments.results or results / f"{name}.jsonl", ["row"])
    ok = True
    for key in arguments.rows:
        if "skipped" not in store.rows.get((key,), {"skipped": "all"}) and not arguments.fresh:
            continue
        task = tasks[key]
        with common.Stopwatch() as watch:
            row = _in_own_process(task, task.quick if arguments.quick else task.full)
        ok &= row.get("met", False) is not False
        shown = json.dumps({k: v for k, v in row.items() if k != "findings"})
        print(f"{key}: {row.get('error') or shown} ({watch.seconds:.0f} s)", flush=True)
        if "error" not in row:
            environment = common.environment(packages)
            store.append({"row": key, **row, "seconds": watch.seconds, "environment": environment})
    _write_page(output_dir / f"{name}.md", tasks, store, page)
    return 0 if ok else 1


def _in_own_process(task: Task, size: Any) -> Row:
    if not task.fork:
        function = task.measure.__qualname__
        module = Path(inspect.getfile(task.measure)).stem
        code = f"import json, {module} as m; print(json.dumps(m.{function}({size!r})))"
        command = [sys.executable, "-W", "ignore", "-c", code]
        here = Path(__file__).parent
        result = subprocess.run(command, capture_output=True, text=True, cwd=here)
        last = result.stdout.strip().splitlines()[-1:]
        return json.loads(last[0]) if last and not result.returncode else {"error": result.stderr}
    receive, send = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        try:
            row = task.measure(size)
        except Exception:
            row = {"error": traceback.format_exc()}
        send.send(row)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return {"error": "the process died"}
    finally:
        process.join()


def _write_page(
    path: Path, tasks: Mapping[str, Task], store: common.ResultStore, page: Callable[[str], str]
) -> None:
    rows = {name: store.rows[(name,)] for name in tasks if (name,) in store.rows}
    body = [[tasks[name].what, tasks[name].asked, *_cells(row)] for name, row in rows.items()]
    table = common.markdown_table(["what", "asked", "measured", "met"], body)
    missing = [tasks[name].what for name in tasks if name not in rows]
    if missing:
        table += f"\n\nNot measured yet: {'; '.join(missing)}."
    common.write(path, f"{page(table)}\n{common.environment_text(rows.values())}\n")


def _cells(row: Row) -> Sequence[str]:
    """Return what was measured, and whether that is what was asked."""
    met = {True: "yes", False: "**no**", None: "-"}[row["met"]]
    if "skipped" not in row:
        return row["measured"], met
    measured = [row["measured"]] if row["measured"] else []
    return "; ".join([*measured, f"not installed, skipped: {row['skipped']}"]), "skipped"
