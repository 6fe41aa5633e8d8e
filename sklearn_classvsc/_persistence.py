"""The contents of a model file: writing them, checking them, and restoring the estimator.

A file is a tree of `_files` with the estimator's parameters and its state (`__getstate__`). Loading
executes nothing in it.
"""

from __future__ import annotations

import io
import math
import os
import platform
import reprlib
import stat
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

from . import _files, bodies
from ._collapse import ClassSummary
from ._data import Moments, Standardization
from ._files import FORMAT, STEP, History, Labels, ModelFileError, expect, is_array, refuse
from ._guard import own_settings
from ._layers import ACTIVATIONS
from ._likelihoods import LIKELIHOODS
from ._mixed import Mixed, likelihood_class
from ._training import new_module

if TYPE_CHECKING:
    T = TypeVar("T", bound=BaseEstimator)

SCHEMA_VERSION = 4
#: Schema versions that can be read. Version 1 had batches in a history, and names as JSON. Version
#: 3 has gates that follow the class. Version 4 has a prior mean per dimension, and mixed columns.
READABLE = {str(version) for version in range(1, SCHEMA_VERSION + 1)}
CLASSES = ("VAETransformer", "VSCTransformer", "ClassVSCTransformer")
#: Bytes of a header to reserve, before training, for what training adds: names of terms.
RESERVE = 2**17
#: Largest numbers of epochs, hidden layers and dimensions, because a small file could declare huge
#: ones, on which loading would spend memory or time.
EPOCH_LIMIT, LAYER_LIMIT, COMPONENT_LIMIT = 10**6, 1000, 10**6
#: Arrays that may hold NaN, where an epoch has no value.
WITH_NAN = ("_pending_state/history/", "history_/")
#: A tree may hold these tuples, and the bodies of this package.
CODEC = _files.Codec((Standardization, ClassSummary), bodies.recipes)
LIBRARIES = (FORMAT, "numpy", "scikit-learn", "skorch", "torch")
#: Parameters that can hold code or a live generator, and what to do about them.
NOT_DATA = {
    "encoder": "retrain with encoder=None or one of `bodies`, as weights mean nothing without code",
    "decoder": "retrain with decoder=None or one of `bodies`, as weights mean nothing without code",
    "callbacks": "call set_params(callbacks=None), which does not change the trained weights",
    "random_state": "call set_params(random_state=0), which does not change the trained weights",
}


def save(path: str | os.PathLike[str], cls: type[Any], state: dict[str, Any]) -> None:
    """Write the state of a fitted estimator to a file, all of it or nothing.

    Parameters
    ----------
    path : str or path-like
        The file. An older file is replaced once the new one is safely on disk.
    cls : type
        Class of the estimator: one of the three.
    state : dict
        Result of its `__getstate__`, with numbers, strings and arrays as parameters. Metadata
        requests (`set_fit_request`) are not written.

    Raises
    ------
    ValueError
        If a parameter or label is not data, such as your own `encoder`. The message names it.
    OSError
        If the file cannot be written. An older file is then unchanged.
    """
    metadata, tensors = _describe(cls, state)
    for name, array in tensors.items():
        if not _is_finite(name, array):
            raise ValueError(f"{name} is not finite. Fit again with a lower learning_rate.")
    _files.write_tree(path, metadata, tensors)


def check_saves(
    cls: type[Any], state: dict[str, Any], module: torch.nn.Module, n_epochs: int
) -> None:
    """Raise, before training, the ValueError that `save` would raise after `n_epochs` epochs.

    `state` holds the parameters and the facts that are known before training. `module` is the
    module to train.
    """
    check_data_only(cls, _parameters(cls, state), state["_architecture"])
    # The check above comes before the weights, which a user's body may not have.
    arrays = {name: x.detach().cpu().numpy() for name, x in module.state_dict().items()}
    weights = [x.detach().cpu().numpy() for x in module.parameters()]
    moments = {
        i: {"step": np.float32(0), "exp_avg": x, "exp_avg_sq": x} for i, x in enumerate(weights)
    }
    trained = {"module": arrays, "optimizer": {"state": moments, "params": [*range(len(weights))]}}
    best = {"best": {"weights": arrays}} if state["early_stopping"] else {}
    _files.header(*_describe(cls, state | {"_pending_state": trained | best}), RESERVE)
    if n_epochs > EPOCH_LIMIT:
        raise ValueError(
            f"{n_epochs} epochs are more than the {EPOCH_LIMIT} that a model file can hold. Lower "
            "max_epochs."
        )


def load(path: str | os.PathLike[str], cls: type[T]) -> T:
    """Read an estimator that `save` wrote, without executing anything in the file.

    First, everything that the header declares is checked, and bounded by the size of the file,
    before memory is allocated for it. Then the hash is checked, and that weights are finite.

    Parameters
    ----------
    path : str or path-like
        The file.
    cls : type
        Class that the file must hold: one of the three estimators.

    Returns
    -------
    estimator : cls
        The saved estimator. It transforms, and continues `partial_fit`, as the original would.

    Raises
    ------
    ModelFileError
        If the file is damaged, or does not hold a model of this class that this version can load.
        The message names the path, what was found and expected, and what to do.
    OSError
        If the file cannot be opened, such as a FileNotFoundError.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            refuse("something other than a regular file", "a file written by save")
        with open(path, "rb") as file, own_settings(gradients=True):
            return _load(file, cls)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # no check foresaw these contents; the file is the only input
        found = f"contents that raise {type(error).__name__} ({str(error)[:500]})"
        message = f"{name}: found {found}; expected a file written by save. {STEP}"
        raise ModelFileError(message) from error


# -- what a file may say -------------------------------------------------------------------------


class Kind(NamedTuple):
    """A requirement for a value in a file."""

    holds: Callable[[Any], bool]
    words: str
    needed: bool = True


def _is_whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**63


def _is_cross_fit(sizes: Any) -> bool:
    """Return whether a value holds the sizes of classifiers."""
    names = {"n_folds", "n_repeats", "width", "multilabel"}
    if type(sizes) is not dict or sizes.keys() != names or type(sizes["multilabel"]) is not bool:
        return False
    return all(_is_whole(sizes[name], 1) for name in names - {"multilabel"})


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300  # excludes NaN


def _is_labels(value: Any) -> bool:
    if type(value) is Labels:
        return isinstance(value.items, list) or is_array(value.items, "u", 1)
    return is_array(value, "biuf", 1)  # arrays of numbers and booleans


def _is_config(value: Any) -> bool:
    outputs = [None, "default", "pandas", "polars"]
    return type(value) is dict and all(k == "transform" and v in outputs for k, v in value.items())


def _is_history(value: Any) -> bool:
    """Return whether all columns have a value for each row, or say for which rows."""
    if type(value) is not History or type(value.columns) is not dict:
        return False
    columns = value.columns
    n = _length(columns.get("epoch"))
    if not 0 < n <= EPOCH_LIMIT:
        return False
    for column in columns.values():
        if type(column) is tuple:
            at, values = column if len(column) == 2 else ([], [])
            if not is_array(at, "i", 1) or not 0 < len(at) == _length(values) < n:
                return False
        elif _length(column) != n:
            return False
    return is_array(columns["epoch"], "i", 1) and is_array(columns.get("train_loss"), "f", 1)


def _length(column: Any) -> int:
    """Return the number of values in a column of a history; -1 if it is not a column."""
    if type(column) is list:
        return len(column) if _files.are_plain(column) else -1
    valid = isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.str in COLUMNS
    return len(column) if valid else -1


def _is_plan(value: Any) -> bool:
    valid = type(value) is dict and {name: type(x) for name, x in value.items()} == PLAN
    valid = valid and value["stop_reason"] in STOP_REASONS
    return valid and all(map(_is_mark, value["data"].values()))


def _is_seen(value: Any) -> bool:
    """Return whether a value holds the fields of `Moments`, with arrays of one length."""
    if type(value) is not dict or tuple(value) != Moments._fields:
        return False
    arrays = [value[name] for name in ("mean", "variance", "least", "most")]
    arrays = [x for i, x in enumerate(arrays) if i < 2 or x is not None]
    if not _is_number(value["weight"]):  # a weight per feature if values were missing
        arrays.append(value["weight"])
    valid = all(is_array(x, "f", 1) and len(x) == len(value["mean"]) for x in arrays)
    return valid and _is_whole(value["n_samples"], 1)


def _is_mark(value: Any) -> bool:
    """Return whether a value may be part of a fingerprint of data: a hash, a shape, a type."""
    if type(value) is list:
        return len(value) == 2 and all(map(_is_whole, value))
    return value is None or _is_whole(value) or (type(value) is str and len(value) < 100)


#: dtypes of columns of a history, as `_files` makes them.
COLUMNS = ("<i8", "<f8", "|b1")
STOP_REASONS = ("max_epochs", "steps", "early_stopping", "callback", "partial_fit", "interrupted")
PLAN = {
    "data": dict,
    "epochs": int,
    "start": int,
    "seed": int,
    "stop_reason": str,
    "finished": bool,
}

#: Everything that a file may hold of the estimator's state, in addition to the parameters.
STATE = {
    "_architecture": Kind(lambda x: type(x) is dict, "a dict"),
    "_pending_state": Kind(lambda x: type(x) is dict, "a dict"),
    "_standardization": Kind(lambda x: x is None or type(x) is Standardization, "offset and scale"),
    "n_features_in_": Kind(lambda x: _is_whole(x, 1), "a positive integer"),
    "n_iter_": Kind(lambda x: _is_whole(x, 1), "a positive integer"),
    "stop_reason_": Kind(lambda x: x in STOP_REASONS, f"one of {', '.join(STOP_REASONS)}"),
    "feature_names_in_": Kind(_is_labels, "strings", needed=False),
    "classes_": Kind(_is_labels, "labels", needed=False),
    "bin_edges_": Kind(lambda x: is_array(x, "f", 1), "numbers", needed=False),
    "_several": Kind(lambda x: type(x) is bool, "True or False", needed=False),
    "_class_summary": Kind(lambda x: type(x) is ClassSummary, "sums of each class", needed=False),
    "_start": Kind(lambda x: _is_whole(x, 1), "a positive integer", needed=False),
    "_seen": Kind(_is_seen, "moments of the features", needed=False),
    "_checkpoint": Kind(_is_plan, "the plan of a fit", needed=False),
    "_sklearn_output_config": Kind(_is_config, "what set_output sets", needed=False),
    # Only files of schema version 1 have these values, which are not used.
    "history_": Kind(lambda x: type(x) is dict, "a dict", needed=False),
    "total_correlation_weight": Kind(_is_number, "a number", needed=False),
    "covariance_weight": Kind(_is_number, "a number", needed=False),
}
UNUSED = ("history_", "total_correlation_weight", "covariance_weight")
ARCHITECTURE = {
    "alpha": Kind(lambda x: is_array(x, "f", 1), "an array"),
    "prior_mean": Kind(lambda x: _is_number(x) or is_array(x, "f", 1), "a number, or an array"),
    "input_dropout": Kind(lambda x: _is_number(x) and 0 <= x < 1, "within [0, 1)", needed=False),
    "n_features": Kind(lambda x: _is_whole(x, 1), "layers of widths of at least 1"),
    "n_classes": Kind(lambda x: _is_whole(x, 1), "a positive integer", needed=False),
    "n_pseudo_inputs": Kind(lambda x: _is_whole(x, 1), "a positive integer", needed=False),
    "encoder": Kind(lambda x: x is None or CODEC.is_body(x), "encoder=None or a body"),
    "decoder": Kind(lambda x: x is None or CODEC.is_body(x), "decoder=None or a body"),
    "hidden_layer_sizes": Kind(lambda x: type(x) is list and len(x) <= LAYER_LIMIT, "layers"),
    "activation": Kind(lambda x: x in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
    "likelihood": Kind(
        lambda x: x == "mixed" or x in LIKELIHOODS, f"one of mixed, {', '.join(LIKELIHOODS)}"
    ),
    "gated": Kind(lambda x: type(x) is bool, "True or False"),
    "kinds": Kind(lambda x: is_array(x, "i", 1), "an array", needed=False),
    "cross_fit": Kind(_is_cross_fit, "sizes of the gates' classifiers", needed=False),
}
TRAINING = {
    "module": Kind(lambda x: type(x) is dict, "weights"),
    "optimizer": Kind(
        lambda x: type(x) is dict and x.keys() == {"state", "param_groups"}, "Adam's"
    ),
    "generator": Kind(lambda x: is_array(x, "u", 1), "bytes"),
    "noise_generator": Kind(lambda x: is_array(x, "u", 1), "bytes"),
    "schedule": Kind(lambda x: type(x) is list and len(x) == 3, "steps done, planned, and decay"),
    "history": Kind(_is_history, "columns of one length"),
    "best": Kind(
        lambda x: type(x) is dict and x.keys() == {"weights", "misses", "loss"},
        "weights, misses and loss",
        needed=False,
    ),
    "honest": Kind(
        lambda x: type(x) is dict and x.keys() == {"weights", "loss"} and type(x["loss"]) is float,
        "weights and loss",
        needed=False,
    ),
}


#: Parameters of earlier versions. Models that were trained with them still load.
REMOVED = ("bins", "checkpoint", "covariance_weight", "precision")


def as_now(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters under their current names; a new one has the value of earlier versions."""
    kept = {"rotation": None} | {
        name: value for name, value in params.items() if name not in REMOVED
    }
    if params.get("precision") == "bfloat16":
        kept["device"] = f"{kept['device']}+bfloat16"
    return kept


def _check_names(where: str, found: Any, kinds: dict[str, Kind]) -> None:
    """Check that a dict has exactly these names, with values of these kinds."""
    expect(type(found) is dict, f"{where or 'state'} {_short(found)}", "names and values")
    unknown = [name for name in found if name not in kinds]
    expect(not unknown, f"{where}state named {_short(unknown)}", "the names that save writes")
    for name, kind in kinds.items():
        if name in found or kind.needed:
            value = found.get(name)
            expect(kind.holds(value), f"{where}{name}={_short(value)}", kind.words)


# -- reading ------------------------------------------------------------------------------------


def _load(file: io.BufferedReader, cls: type[T]) -> T:
    reading = _files.Reading(file)
    metadata = reading.metadata
    found = metadata["schema_version"]
    if found not in READABLE:
        found = f"schema version {_short(found)}, of {_short(metadata.get('versions'))}"
        step = "Upgrade sklearn-classvsc, or save the model with this version."
        refuse(found, f"schema version {SCHEMA_VERSION} at most", step)
    found = metadata["class"]
    if found not in CLASSES or found != cls.__name__:
        step = f"Call {found}.load." if found in CLASSES else STEP
        refuse(f"a model of class {_short(found)}", cls.__name__, step)

    # First check everything that is said about the data, before memory is allocated for them.
    blank = reading.blank()
    _check_state(*_assemble(reading, blank, cls), reading.data_size, len(blank))

    arrays = reading.tensors()
    for name, array in arrays.items():
        expect(_is_finite(name, array), f"non-finite values in {name}", "finite ones")
    estimator, state = _assemble(reading, arrays, cls)
    _build(state)
    _check_values(state)
    estimator.__setstate__(estimator.get_params(deep=False) | state)
    return estimator


def _assemble(
    reading: _files.Reading, arrays: Mapping[str, NDArray[Any]], cls: type[T]
) -> tuple[T, dict[str, Any]]:
    """Return an unfitted estimator with the file's parameters, and the state, after checks."""
    left = dict(arrays)
    params, state = (CODEC.decode(reading.part(name), left) for name in ("params", "state"))
    expect(not left, f"extra tensors {_short(sorted(left))}", "those its state refers to")
    params, names = as_now(params), cls._get_param_names()
    unknown = sorted(set(params) - set(names))
    expect(not unknown, f"parameters {_short(unknown)}", f"those of {cls.__name__}")
    for name, value in params.items():
        if type(value) is Labels:
            found = f"{name} of strings, {_short(value)}"
            expect(value.dtype == "|O" and type(value.items) is list, found, "numbers")
            params[name] = _files.label_array(value, len(value.items))
    first = reading.metadata["schema_version"] == "1"
    _check_names("", state, {k: x for k, x in STATE.items() if first or k not in UNUSED})
    _check_names("_architecture/", state["_architecture"], ARCHITECTURE)
    if type(rows := state["_pending_state"].get("history")) is list:  # of schema version 1
        state["_pending_state"]["history"] = History(_files.columns(rows))
    estimator = cls(**params)
    try:
        estimator._validate_params()
        check_data_only(cls, params, state["_architecture"])
    except ValueError as error:
        refuse(f"an invalid parameter ({str(error)[:500]})", "a valid one")
    return estimator, state


def _check_state(
    estimator: BaseEstimator, state: dict[str, Any], data_size: int, n_tensors: int
) -> None:
    """Check names, shapes and dtypes against a model of the declared architecture."""
    architecture, saved = state["_architecture"], state["_pending_state"]
    hidden, n_features = architecture["hidden_layer_sizes"], architecture["n_features"]
    _check_names("_pending_state/", saved, TRAINING)
    valid = architecture["gated"] is estimator.gated
    takes_labels = get_tags(estimator).target_tags.required
    valid = valid and ("n_classes" in architecture) is takes_labels
    mean = np.asarray(architecture["prior_mean"])
    valid = valid and mean.shape in ((), architecture["alpha"].shape) and np.isfinite(mean).all()
    expect(valid, f"an architecture {_short(architecture)}", f"one of {type(estimator).__name__}")
    widths = [n_features, *hidden, *architecture["alpha"].shape]
    widths += [architecture[x] for x in ("n_classes", "n_pseudo_inputs") if architecture.get(x)]
    widths += [n for n in architecture.get("cross_fit", {}).values() if type(n) is int]
    fits = all(type(n) is int and 0 < n <= data_size for n in widths)
    least = _least_size(architecture) if fits else (0, 0)
    fits = fits and 4 * least[0] <= data_size and least[1] <= n_tensors
    recipes = [architecture[name] for name in ("encoder", "decoder")]
    expect(
        fits,
        f"layers of widths {_short(widths)}, bodies {_short(recipes)}",
        f"ones that fit in the file ({n_tensors} tensors, {data_size} bytes)",
    )

    kinds = architecture.get("kinds")
    valid = (kinds is not None) is (architecture["likelihood"] == "mixed")
    valid = valid and (kinds is None or len(kinds) == n_features)
    expect(valid, "likelihoods of other features", f"one for each of {n_features} if mixed")
    module = new_module(architecture, 0)  # no larger than the file
    _same_specs("module", saved["module"], {k: x.numpy() for k, x in module.state_dict().items()})
    weights = [x.detach().numpy() for x in module.parameters()]
    numbers = [*range(len(weights))]
    moments, (group,) = saved["optimizer"]["state"], saved["optimizer"]["param_groups"]
    # Parameters before the first step, and frozen ones, have no moments. Torch does not check
    # moments, and its kernels rely on their shapes.
    of = f"optimizer state of parameters {_short(list(moments))}"
    expect(list(moments) == [i for i in numbers if i in moments], of, _short(numbers))
    for i, moment in moments.items():
        both = {"exp_avg": weights[i], "exp_avg_sq": weights[i]}
        _same_specs(f"optimizer/state/{i}", moment, both | {"step": np.zeros((), np.float32)})
    named = {"lr", "betas", "eps", "weight_decay", "amsgrad", "params"} <= group.keys()
    expect(named, f"optimizer settings {_short(group)}", "those of Adam")
    betas = group["betas"]
    values = [*betas, *(x for name, x in group.items() if name not in ("params", "betas"))]
    valid = all(x is None or (isinstance(x, Real) and math.isfinite(x)) for x in values)
    valid = valid and group["params"] == numbers and len(betas) == 2
    expect(valid, f"optimizer settings {_short(group)}", "finite numbers")

    best = saved.get("best")  # of a checkpoint under early stopping
    if best is not None:
        _same_specs("module", best["weights"], saved["module"])
        valid = type(best["misses"]) is int and type(best["loss"]) is float
        expect(valid, f"best epoch {_short(best)}", "misses, loss and weights")
    honest = saved.get("honest")  # of a checkpoint of gates that follow the class
    if honest is not None:
        expect(module.gates is not None, "classifiers of a model without them", "none")
        assert module.gates is not None
        learned = {k: x.numpy() for k, x in module.gates.classifier().items()}
        _same_specs("module/gates", honest["weights"], learned)

    done, planned, decay = saved["schedule"]
    valid = type(done) is type(planned) is int and type(decay) is bool and planned > 0 <= done
    expect(valid, f"schedule {_short(saved['schedule'])}", "steps done, steps planned, decay")
    found = state["n_features_in_"]
    expect(found == n_features, f"n_features_in_={_short(found)}", str(n_features))
    likelihood = likelihood_class(architecture["likelihood"])
    vectors = list(state["_standardization"] or ())
    valid = len(vectors) == 2 * likelihood.standardize
    valid = valid and all(is_array(x, "f", 1) and len(x) == n_features for x in vectors)
    valid = valid and len((state.get("_seen") or {"mean": range(n_features)})["mean"]) == n_features
    expect(valid, "a standardisation of other features", f"one of {n_features}")
    if "feature_names_in_" in state:
        names = state["feature_names_in_"]
        valid = type(names) is Labels and names.dtype == "|O" and _is_count(names, n_features)
        valid = valid and (
            type(names.items) is not list or all(type(x) is str for x in names.items)
        )
        expect(valid, f"names {_short(names)}", f"strings, one for each of {n_features} features")
    if "n_classes" not in architecture:
        alien = {"classes_", "bin_edges_", "_several", "_class_summary"} & state.keys()
        expect(not alien, f"{_short(sorted(alien))} of a model without classes", "none")
        return
    n_classes, d = architecture["n_classes"], len(architecture["alpha"])
    valid = "classes_" in state and n_classes > 1 and _is_count(state["classes_"], n_classes)
    expect(valid, f"classes {_short(state.get('classes_'))}", f"{n_classes}, and at least two")
    shapes = [np.shape(x) for x in state["_class_summary"]]
    valid = shapes == [(n_classes,), *4 * [(n_classes, d)]]
    valid = valid and all(x.dtype.str == "<f8" for x in state["_class_summary"])
    expect(valid, f"sums of shapes {_short(shapes)}", f"of {n_classes} classes, {d} dimensions")


def _is_count(labels: Any, n: int) -> bool:
    """Return whether there are n labels whose array takes little memory."""
    if type(labels) is not Labels:
        return len(labels) == n
    size = np.dtype(labels.dtype).itemsize * n
    least = len(labels.items) == n if isinstance(labels.items, list) else len(labels.items) >= n
    return least and (labels.dtype == "|O" or size < _files.LABEL_LIMIT)


def _build(state: dict[str, Any]) -> None:
    """Make arrays of labels, and rows of the history, in place in a checked state."""
    architecture = state["_architecture"]
    for name, count in {"feature_names_in_": "n_features", "classes_": "n_classes"}.items():
        if type(state.get(name)) is Labels:
            state[name] = _files.label_array(state[name], architecture[count])
    for name in UNUSED:
        state.pop(name, None)
    saved = state["_pending_state"]
    columns = saved["history"].columns
    epochs = columns["epoch"]
    valid = bool((np.diff(epochs) == 1).all()) and epochs[-1] == state["n_iter_"] and epochs[0] > 0
    expect(valid, f"epochs {_short(epochs)}", f"each, up to n_iter_={state['n_iter_']}")
    saved["history"] = _files.rows(columns)
    if any(type(column) is not np.ndarray for column in columns.values()):
        frame = pd.DataFrame(
            [{k: v for k, v in row.items() if k != "batches"} for row in saved["history"]]
        )
        columns = {name: frame[name].to_numpy() for name in frame}
    state["history_"] = columns


def _least_size(architecture: dict[str, Any]) -> tuple[int, int]:
    """Return lower bounds of a model's numbers of weights and tensors, without making them."""
    hidden, n_features = architecture["hidden_layer_sizes"], architecture["n_features"]
    (n_components,) = architecture["alpha"].shape
    n_weights, n_tensors = n_components * architecture.get("n_classes", 0), 0
    n_weights += n_features * architecture.get("n_pseudo_inputs", 0)
    if sizes := architecture.get("cross_fit"):
        n_classes, n_branches = architecture["n_classes"], sizes["n_folds"] * sizes["n_repeats"]
        n_weights += n_features * n_branches * (sizes["width"] + n_classes)
        n_weights += n_branches * sizes["width"] * n_classes
    for name, n_in, n_head, sizes in (
        ("encoder", n_features, n_components, hidden),
        ("decoder", n_components, n_features, hidden[::-1]),
    ):
        body = architecture[name]
        if body is None:
            n_weights += sum(a * b for a, b in pairwise([n_in, *sizes, n_head]))
            n_tensors += 4 * len(sizes)
        else:
            layers = body.layers(n_in)
            n_weights += sum(x.numel() for x in layers.parameters())
            n_weights += 0 if layers.makes_theta else layers.n_out * n_head
            n_tensors += len(list(layers.parameters()))
    return n_weights, n_tensors


def _check_values(state: dict[str, Any]) -> None:
    """Check the values of the arrays."""
    saved, classes = state["_pending_state"], state.get("classes_")
    states = [saved["generator"], saved["noise_generator"]]
    try:
        for array in states[
            : 2 if states[0].shape == states[1].shape else 1
        ]:  # that of a GPU differs
            torch.Generator().set_state(torch.tensor(array))
    except (RuntimeError, TypeError) as error:
        refuse(f"a generator state that torch refuses ({error})", "one of this version of torch")
    if state["_standardization"] is not None:
        positive = bool((state["_standardization"].scale > 0).all())
        expect(positive, "scales that are not positive", "positive ones")
    kinds = state["_architecture"].get("kinds", np.zeros(1, int))
    known = ((kinds >= 0) & (kinds < len(Mixed.KINDS))).all()
    expect(bool(known), "unknown likelihoods of features", f"those of {', '.join(Mixed.KINDS)}")
    share = saved["module"].get("pseudo_inputs.share")
    if share is not None:
        expect(bool((share >= 0).all()), "shares below 0", "how often each pseudo-input is chosen")
    if classes is not None:
        valid = classes.ndim == 1 < len(classes) == len(set(classes.tolist()))
        several = state.get("_several", False)  # columns of an indicator are in the user's order
        expect(type(several) is bool, f"_several={_short(several)}", "True or False")
        valid = valid and (several or np.array_equal(np.unique(classes), classes))
        expect(valid, f"classes {_short(classes)}", "at least two, sorted")
        edges = state.get("bin_edges_", np.arange(len(classes) - 1.0))
        valid = edges.dtype.kind == "f" and edges.shape == (len(classes) - 1,)
        valid = valid and bool((np.diff(edges) > 0).all())
        expect(valid, f"edges of bins {_short(edges)}", f"those of {len(classes)} bins")


# -- the file -----------------------------------------------------------------------------------


def _describe(
    cls: type[Any], state: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the metadata and the tensors of a file for a result of `__getstate__`."""
    params = _parameters(cls, state)
    check_data_only(cls, params, state["_architecture"])
    kept = {name: x for name, x in state.items() if name in STATE and name not in UNUSED}
    tensors: dict[str, NDArray[Any]] = {}
    metadata = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "class": cls.__name__,
        "params": CODEC.encode(params, "params", tensors),
        "state": CODEC.encode(kept, "", tensors),
        "versions": {"python": platform.python_version()} | {x: _version(x) for x in LIBRARIES},
    }
    return metadata, tensors


def _parameters(cls: type[Any], state: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that a file holds."""
    return {name: state[name] for name in cls._get_param_names()}


def check_data_only(cls: type[Any], params: dict[str, Any], architecture: dict[str, Any]) -> None:
    """Refuse what a data file cannot hold, or what loading must not accept."""
    if cls.__name__ not in CLASSES or getattr(sys.modules[__package__], cls.__name__) is not cls:
        raise ValueError(
            f"{cls.__qualname__} is not one of {', '.join(CLASSES)}, and a data file does not hold "
            "code. Use joblib.dump, whose files run code when loaded."
        )
    for name, advice in NOT_DATA.items():
        for value in (params.get(name), architecture.get(name)):
            body = CODEC.is_body(value) and name in ("encoder", "decoder")
            if not (body or value is None or isinstance(value, Integral) or value == []):
                raise ValueError(
                    f"{name}={_short(value)} cannot be in a model file, which holds only data: "
                    f"{advice}; or use joblib.dump, whose files run code when loaded."
                )
    for name, value in params.items():
        if not (_is_parameter(value) or (name == "likelihood" and _names_columns(value))):
            CODEC.encode(value, f"params/{name}", {})  # its error names the type
            raise ValueError(
                f"{name}={_short(value)} cannot be in a model file. Pass a number, a string, a "
                "body, or an array or list of numbers."
            )
    limits = {"n_components": COMPONENT_LIMIT, "n_pseudo_inputs": COMPONENT_LIMIT}
    sizes = {name: params[name] for name in limits if name in params}
    sizes["the number of hidden layers"] = len(architecture["hidden_layer_sizes"])
    limits["the number of hidden layers"] = LAYER_LIMIT
    for name, size in sizes.items():
        if size > limits[name]:
            raise ValueError(f"{name} is {size}, but a model file holds at most {limits[name]}.")


def _is_parameter(value: Any) -> bool:
    """Return whether a value is plain, an array, a list of plain values, or a body of these."""
    if CODEC.is_body(value):
        return all(map(_is_parameter, value.get_params(deep=False).values()))
    return _files.are_plain(value) or _files.are_plain([value]) or isinstance(value, np.ndarray)


def _names_columns(value: Any) -> bool:
    """Return whether a value gives columns, by name or position, a likelihood by name."""
    if type(value) is not dict:
        return False
    return all(type(k) in (str, int) and type(x) is str for k, x in value.items())


def _is_finite(name: str, array: NDArray[Any]) -> bool:
    return name.startswith(WITH_NAN) or array.dtype.kind != "f" or bool(np.isfinite(array).all())


# -- messages -----------------------------------------------------------------------------------


class _Short(reprlib.Repr):
    """Show a body or an estimator by its class. For a hostile file, its repr would take minutes."""

    def repr_instance(self, x: Any, level: int) -> str:
        if isinstance(x, BaseEstimator):
            return f"{type(x).__name__}(...)"
        return super().repr_instance(x, level)


_short = _Short().repr


@lru_cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # imported from sources that are not installed, as on a cluster
        return "unknown"


def _same_specs(where: str, found: dict[str, Any], expected: dict[str, NDArray[Any]]) -> None:
    """Compare names, dtypes and shapes."""
    specs = [
        {name: f"{x.dtype}{x.shape}" for name, x in arrays.items()} for arrays in (found, expected)
    ]
    for name in sorted(set(found) | set(expected), key=str):
        this, that = (spec.get(name, "no tensor") for spec in specs)
        expect(this == that, f"{this} as {where}/{_short(name)[1:-1]}", that)
