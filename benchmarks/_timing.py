"""Timing of runs in turn, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import _hand_loops as hand
from _common import Row
from numpy.typing import NDArray
from skorch.callbacks import Callback


class Timing(NamedTuple):
    """Seconds of one run: on the wall, and of the processor."""

    wall: float
    cpu: float
    whole: float = 0.0  # of the call around it


class EpochTimer(Callback):
    """Time the epoch of a fit of one epoch, without what `fit` does before and after.

    Until `on_train_end`: what the package does after an epoch comes after `on_epoch_end`.
    """

    wall_ = cpu_ = 0.0

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start."""
        self.start_ = time.perf_counter(), time.process_time()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Stop."""
        self.wall_ = time.perf_counter() - self.start_[0]
        self.cpu_ = time.process_time() - self.start_[1]


class Phases(Callback):
    """Call `mark` where training begins and where it ends."""

    def __init__(self, mark: Callable[[], None]) -> None:
        self.mark = mark

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Mark."""
        self.mark()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Mark."""
        self.mark()


def timed(work: Callable[[], Any]) -> Timing:
    """Time a call; if it has timed a part of itself, take that."""
    wall, cpu = time.perf_counter(), time.process_time()
    part = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return part._replace(whole=wall) if isinstance(part, Timing) else Timing(wall, cpu, wall)


def interleave(
    section: str, systems: Mapping[str, Callable[[], Any]], repeats: int, steps: int = 1
) -> list[Row]:
    """Time the systems in turn, there and back again; one row for each."""
    for work in systems.values():
        work()
    timings: dict[str, list[Timing]] = {name: [] for name in systems}
    for i in range(repeats):
        for name in list(systems)[:: -1 if i % 2 else 1]:
            timings[name].append(timed(systems[name]))
    return [
        {"section": section, "name": name, "steps": steps}
        | {field: [getattr(t, field) for t in several] for field in Timing._fields}
        for name, several in timings.items()
    ]


def epoch_of(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> Callable[[], Timing]:
    """Return a fit of one epoch that times the epoch."""

    def fit() -> Timing:
        timer = EpochTimer()
        estimator.set_params(max_epochs=1, learning_rate=hand.LEARNING_RATE, callbacks=[timer])
        estimator.fit(X, y)
        return Timing(timer.wall_, timer.cpu_)

    return fit
