"""Training that survives: the file that `fit` leaves after its epochs, to go on from."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _persistence
from ._data import ArrayDataset
from ._files import check_writable
from ._streams import StreamDataset
from .distributed import current

if TYPE_CHECKING:
    from ._base import SpikeSlabTransformer

#: Largest part of the time of training that writing may take where epochs are short, and the
#: longest time, in seconds, after which the end of an epoch is written all the same.
SHARE, INTERVAL = 0.005, 2.0
#: Rows of X that identify the data.
ROWS = 1000
#: Parameters that may differ when a fit is resumed. Another device computes other last digits.
FREE = {"callbacks", "checkpoint", "device", "sparse_output", "threshold", "verbose", "warm_start"}
ADVICE = "or call fit with resume=False, which starts afresh and replaces the file."


class Plan(NamedTuple):
    """What a fit needs to know, beside the state of training, to go on as it began."""

    data: dict[str, Any]  # fingerprint
    epochs: int  # to train in all
    start: int  # rows of the history that are from earlier fits
    seed: int  # of the split of early stopping
    stop_reason: str  # if nothing ends the training before
    finished: bool = False


class Checkpoint:
    """A file that is replaced after epochs, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._next = 0.0  # when the next epoch's end is written

    def read(self, cls: type[SpikeSlabTransformer]) -> tuple[SpikeSlabTransformer, Plan] | None:
        """Return the estimator and the plan in the file; None if there is no file.

        Raises
        ------
        ModelFileError
            If the file is no checkpoint of this class, or is damaged.
        """
        return current().first(lambda: self._read(cls))

    def _read(self, cls: type[SpikeSlabTransformer]) -> tuple[SpikeSlabTransformer, Plan] | None:
        if not self.path.exists():
            return None
        estimator = _persistence.load(self.path, cls)
        plan = estimator.__dict__.pop("_checkpoint", None)
        if not _is_plan(plan, len(estimator.history_)):
            raise _persistence.ModelFileError(
                f"{self.path}: found a model without the plan of its training; expected a "
                f"checkpoint, written by fit. Name another file, {ADVICE}"
            )
        return estimator, Plan(**plan)

    def check(self, estimator: SpikeSlabTransformer) -> None:
        """Raise, before any time is spent on training, what writing would raise after it."""
        current().first(lambda: self._check(estimator))

    def _check(self, estimator: SpikeSlabTransformer) -> None:
        params = estimator.get_params(deep=False) | {"checkpoint": None}
        classes = getattr(estimator, "classes_", None)
        try:
            _persistence.check_data_only(type(estimator), params, estimator._architecture, classes)
        except ValueError as error:
            raise ValueError(
                f"checkpoint={os.fspath(self.path)!r} can hold data only. {error} For this fit, "
                "set checkpoint=None."
            ) from error
        check_writable(self.path)
        if self.path.exists() and not _persistence.is_model_file(self.path):
            raise ValueError(
                f"checkpoint={os.fspath(self.path)!r} is a file that neither fit nor save wrote: "
                "name another path, so that it is not replaced."
            )

    def write(self, estimator: SpikeSlabTransformer, plan: Plan) -> None:
        """Replace the file by this estimator, which is not changed."""
        current().first(lambda: self._write(estimator, plan))

    def _write(self, estimator: SpikeSlabTransformer, plan: Plan) -> None:
        copy = estimator._now()
        copy.__dict__["_checkpoint"] = plan._asdict()
        _persistence.save(copy, self.path)

    def write_if_cheap(self, estimator: Callable[[], SpikeSlabTransformer], plan: Plan) -> None:
        """Write what `estimator` returns, unless the last writing was too short a time ago."""
        start = time.perf_counter()
        if start >= self._next and not current().rank:
            self._write(estimator(), plan)
            end = time.perf_counter()
            self._next = end + min((end - start) / SHARE, INTERVAL)


def fingerprint(
    estimator: SpikeSlabTransformer, data: ArrayDataset | StreamDataset
) -> dict[str, Any]:
    """Return what tells training data from others: hashes of X, in 1,000 rows, and of the rest."""
    names = getattr(estimator, "feature_names_in_", None)
    classes = getattr(estimator, "classes_", np.array([]))
    found = {
        "features": None if names is None else _hash(repr(names.tolist()).encode()),
        "y": _hash(repr(classes.tolist()).encode()),
        "sample_weight": None,
    }
    if isinstance(data, StreamDataset):
        shape = [len(data), data.survey(False).n_features]
        return found | {"shape": shape, "dtype": "pieces", "X": data.digest()}
    X, digest, kind = data.X, hashlib.sha256(), ""
    n = X.shape[0]
    for i in np.unique(np.linspace(0, n - 1, min(n, ROWS)).astype(np.intp)):
        row = X[i : i + 1]
        if hasattr(row, "indices"):
            digest.update(row.indices.astype(np.int64).tobytes())
            row, kind = row.data, "sparse "
        digest.update(np.asarray(row).tobytes())
    return found | {
        "shape": list(X.shape),
        "dtype": f"{kind}{X.dtype}",
        "X": digest.hexdigest(),
        "y": None if data.labels is None else _hash(repr(classes.tolist()).encode(), data.labels),
        "sample_weight": None if data.weight is None else _hash(data.weight),
    }


def check_same(
    estimator: SpikeSlabTransformer,
    data: dict[str, Any],
    saved: SpikeSlabTransformer,
    plan: Plan,
) -> None:
    """Raise a ValueError, naming what differs, unless a fit is the one in the file.

    Parameters
    ----------
    estimator : SpikeSlabTransformer
        The estimator that is asked to resume.
    data : dict
        Fingerprint of the data that it is given.
    saved : SpikeSlabTransformer
        The estimator in the file.
    plan : Plan
        The plan in the file.
    """
    before, now = saved.get_params(deep=False), estimator.get_params(deep=False)
    differing = [
        f"{name}={before[name]!r}, now {now[name]!r}"
        for name in now
        if name not in FREE and not _equal(before[name], now[name])
    ]
    for name, value in data.items():
        if plan.data.get(name) != value:
            short = name in ("shape", "dtype")
            differing.append(f"{name} {plan.data.get(name)}, now {value}" if short else name)
    if differing:
        raise ValueError(
            f"checkpoint={estimator.checkpoint!r} is of a fit with other parameters or data: "
            f"{'; '.join(differing)}. Fit as before, name another file, {ADVICE}"
        )


def _equal(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.all(np.asarray(a) == np.asarray(b)))


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _is_plan(plan: Any, n_epochs: int) -> bool:
    """Return whether what a file holds is a plan, of a fit that has come this far."""
    kinds = dict(zip(Plan._fields, (dict, int, int, int, str, bool), strict=True))
    valid = isinstance(plan, dict) and plan.keys() == kinds.keys()
    valid = valid and all(type(plan[name]) is kind for name, kind in kinds.items())
    return valid and 0 <= plan["start"] < n_epochs <= plan["start"] + plan["epochs"]
