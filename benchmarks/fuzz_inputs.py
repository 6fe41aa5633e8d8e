"""Fit to inputs of every kind: each must give finite results, or be refused by its name.

Draws cases by the strategies of `tests/strategies.py`: parameters, samples, labels, weights, new
samples and codes, of any kind and all at once. An estimator is fitted and all its methods are
called, in child processes with a limit of time for each case and of memory.

    python benchmarks/fuzz_inputs.py            # 2,000 cases
    python benchmarks/fuzz_inputs.py 200 --seed 1
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

from _fuzz import TESTS, Row, command_line, limit_memory, rows_of_child, tell

BATCH = 200  # cases of one child
SECONDS = 20.0  # for one case
#: How a case may end badly, and what that is called below; the others are `wrong`.
BAD = {
    "crash": "crashes",
    "hang": "hangs",
    "non-finite": "non_finite",
    "unnamed": "unnamed_errors",
    "untyped": "untyped_errors",
}


def main(n: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Run n cases and return the figures.

    Parameters
    ----------
    n : int
        Number of cases, a multiple of 200 or less than that.
    seed : int
        Cases of another seed are others.

    Returns
    -------
    figures : dict
        Numbers of `cases`, of those `not_run` because one before them ended the process, of those
        `accepted`, `refused`, `crashes`, `hangs`, `non_finite`, `unnamed_errors`, `untyped_errors`
        and `wrong` (refused in spite of being in order, or the reverse, or a trace left by a
        refused fit); `slowest`, in seconds; and the `findings`.
    """
    rows: list[Row] = []
    for start in range(0, n, BATCH):
        arguments = [str(10_000 * seed + start), str(min(BATCH, n - start))]
        rows += rows_of_child(__file__, arguments, SECONDS)
        print(f"{len(rows)} of {n}: {dict(Counter(row['kind'] for row in rows))}", file=sys.stderr)
    kinds = Counter(row["kind"] for row in rows)
    fine = kinds["accepted"] + kinds["refused"]
    return {
        "cases": len(rows),
        "not_run": n - len(rows),
        "accepted": kinds["accepted"],
        "refused": kinds["refused"],
        **{name: kinds[kind] for kind, name in BAD.items()},
        "wrong": len(rows) - fine - sum(kinds[kind] for kind in BAD),
        "slowest": max((row.get("seconds", SECONDS) for row in rows), default=0.0),
        "findings": [row for row in rows if row["kind"] not in ("accepted", "refused")],
    }


def child(batch: int, n: int) -> None:
    """Run n cases of a seed and tell of each."""
    sys.path.insert(0, str(TESTS))
    import strategies
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from trials import Violation, trial

    limit_memory()

    @seed(batch)
    @settings(
        max_examples=n,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.cases())
    def run(case: strategies.Case) -> None:
        tell(case=repr(case))
        start, told = time.perf_counter(), ""
        try:
            kind = trial(case)
        except Violation as violation:
            kind, told = violation.kind, str(violation)
        tell(case=repr(case), kind=kind, told=told, seconds=time.perf_counter() - start)

    run()


if __name__ == "__main__":
    command_line(main, child, 2000, __doc__)
