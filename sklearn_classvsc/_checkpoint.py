"""Checkpoints: a file that `fit` writes after epochs, and from which it continues after a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from . import _persistence
from ._files import ModelFileError, check_writable, is_tree
from ._fingerprints import checksum, digest
from ._messages import brief
from ._streams import StreamDataset
from .distributed import current

if TYPE_CHECKING:
    from torch import nn

    from ._validation import FitData

T = TypeVar("T")

#: If epochs are short: the largest fraction of the training time for writing, and the time in
#: seconds after which the end of an epoch is written anyway.
COST, INTERVAL = 0.005, 2.0
#: Version of the fingerprints. Version 1 used 1,000 rows, or the first row of each piece.
VERSION = 2
#: Parameters that may differ when a fit is resumed. The device may differ too, see `check_same`.
FREE = {"callbacks", "sparse_output", "threshold", "verbose", "warm_start"}
ADVICE = "or call fit with resume=False, which starts afresh and replaces the file."


class Plan(NamedTuple):
    """The facts, in addition to the state of training, that a fit needs to continue."""

    data: dict[str, Any]  # fingerprint
    epochs: int  # of the whole fit
    start: int  # number of rows in the history from earlier fits
    seed: int  # of the split of early stopping
    stop_reason: str  # if nothing ends the training earlier
    finished: bool = False


class NotWrittenError(Exception):
    """A checkpoint could not be written. The argument is the OSError.

    It distinguishes this OSError from those of the arguments, such as a source on a network.
    """


class Checkpoint:
    """A file that is replaced after epochs, as a whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ValueError(
                f"checkpoint={brief(path)} names no file. Pass a path, as a str or path-like, or "
                "None."
            )
        self.path = Path(path)
        self._next = 0.0  # earliest time of the next write

    def read(self, cls: type[T]) -> tuple[T, Plan] | None:
        """Return the estimator and the plan in the file; None if there is no file.

        Raises
        ------
        ModelFileError
            If the file is damaged, or is not a checkpoint of this class.
        """
        return current().from_rank_0(lambda: self._read(cls))

    def _read(self, cls: type[T]) -> tuple[T, Plan] | None:
        if not self.path.exists():
            return None
        estimator: Any = _persistence.load(self.path, cls)
        plan = estimator.__dict__.pop("_checkpoint", None)
        n_epochs = len(estimator.history_)
        if not (plan and 0 <= plan["start"] < n_epochs <= plan["start"] + plan["epochs"]):
            raise ModelFileError(
                f"{self.path}: found a model without the plan of its training; expected a "
                f"checkpoint, written by fit. Name another file, {ADVICE}"
            )
        return estimator, Plan(**plan)

    def check(self, cls: type[Any], state: dict[str, Any], module: nn.Module, plan: Plan) -> None:
        """Raise, before training, the errors that writing would raise after it.

        `state` is the estimator's state, without what training adds. `module` is the module to
        train.
        """
        current().from_rank_0(lambda: self._check(cls, state, module, plan))

    def _check(self, cls: type[Any], state: dict[str, Any], module: nn.Module, plan: Plan) -> None:
        try:
            _persistence.check_saves(cls, state, module, plan.start + plan.epochs)
        except ValueError as error:
            raise ValueError(
                f"checkpoint={os.fspath(self.path)!r} can hold only data. {error} For this fit, "
                "pass checkpoint=None."
            ) from error
        check_writable(self.path)
        if self.path.exists() and not is_tree(self.path):
            raise ValueError(
                f"checkpoint={os.fspath(self.path)!r} is a file that neither fit nor save wrote. "
                "Name another path, so that it is not replaced."
            )

    def write(self, cls: type[Any], state: dict[str, Any], plan: Plan) -> None:
        """Replace the file by this state of an estimator."""
        current().from_rank_0(lambda: self._write(cls, state, plan))

    def _write(self, cls: type[Any], state: dict[str, Any], plan: Plan) -> None:
        _persistence.save(self.path, cls, state | {"_checkpoint": plan._asdict()})

    def write_if_cheap(
        self, cls: type[Any], state: Callable[[], dict[str, Any]], plan: Plan
    ) -> None:
        """Write the result of `state()`, unless the last write was too recent.

        Raises
        ------
        NotWrittenError
            If the file cannot be written.
        """
        start = time.perf_counter()
        if start >= self._next and not current().rank:
            now = state()
            try:
                self._write(cls, now, plan)
            except OSError as error:
                raise NotWrittenError(error) from error
            end = time.perf_counter()
            self._next = end + min((end - start) / COST, INTERVAL)


def fingerprint(given: FitData) -> dict[str, Any]:
    """Return the values, by name, that identify training data."""
    data, names = given.data, getattr(given.header, "feature_names_in_", None)
    classes = None if given.labels is None else given.labels.classes
    found = {"version": VERSION, "features": None if names is None else digest(names)}
    if isinstance(data, StreamDataset):
        shape = [len(data), data.survey(False).n_features]
        return found | {"shape": shape, "dtype": "pieces", "X and y": data.digest()}
    kind = "sparse " if hasattr(data.X[:0], "toarray") else ""
    return found | {
        "shape": list(data.X.shape),
        "dtype": f"{kind}{data.X.dtype}",
        "X": checksum(data.X),
        "y": None if data.labels is None else digest(classes, data.labels),
        "sample_weight": None if data.weight is None else digest(data.weight),
    }


def check_same(
    path: Any,
    estimator: Any,
    data: dict[str, Any],
    saved: Any,
    plan: Plan,
) -> None:
    """Raise a ValueError that names the differences, unless a fit is the one in the file.

    Parameters
    ----------
    path : str or path-like
        The file.
    estimator : estimator
        The estimator that resumes the fit.
    data : dict
        Fingerprint of the data for this fit.
    saved : estimator
        The estimator in the file.
    plan : Plan
        The plan in the file.
    """
    if plan.data.get("version") != VERSION:
        raise ValueError(
            f"checkpoint={os.fspath(path)!r} comes from a version of sklearn-classvsc that "
            "identified data differently. Finish the fit with that version, name another file, "
            f"{ADVICE}"
        )
    before, now = saved.get_params(deep=False), estimator.get_params(deep=False)
    # The device may differ, with other last digits. Its precision may not.
    for params in (before, now):
        params["device"] = "".join(params["device"].partition("+")[1:])
    differing = [
        f"{name}={brief(before[name])}, now {brief(now[name])}"
        for name in now
        if name not in FREE and not _equal(before[name], now[name])
    ]
    for name, value in data.items():
        if plan.data.get(name) != value:
            short = name in ("shape", "dtype")
            differing.append(f"{name} {plan.data.get(name)}, now {value}" if short else name)
    if differing:
        raise ValueError(
            f"checkpoint={os.fspath(path)!r} comes from a fit with other parameters or data: "
            f"{'; '.join(differing)}. Fit as before, name another file, {ADVICE}"
        )


def _equal(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.all(np.asarray(a) == np.asarray(b)))


def check_alike(est: Any, data: dict[str, Any]) -> None:
    """Check that processes that train together have the same parameters and data."""
    if current().size == 1:
        return
    params = {name: digest(value) for name, value in est.get_params(deep=False).items()}
    params["class"] = type(est).__name__
    for name in ("callbacks", "device", "random_state", "verbose"):
        del params[name]
    fitted = {"state (fitted or not)": est.__sklearn_is_fitted__()}
    differing = current().differing(params | fitted | data)
    if differing:
        rank = min(differing.values())
        names = ", ".join(name for name in differing if differing[name] == rank)
        raise ValueError(
            f"Process {rank} has another {names} than process 0. Give every process the same "
            "parameters and all data: it takes its part of each batch by itself."
        )
