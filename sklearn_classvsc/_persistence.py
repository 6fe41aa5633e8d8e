"""A fitted estimator as one data file, in the safetensors format: loading it runs nothing.

The arrays of the estimator's state (`__getstate__`) are tensors named by their place in it, such
as `_pending_state/module/encoder.0.weight`; the rest is JSON in the file's metadata. A SHA-256 of
all other bytes detects damage. It does not tell who wrote the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import re
import reprlib
import stat
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._collapse import ClassSummary
from ._data import Standardization
from ._files import replacing
from ._likelihoods import LIKELIHOODS
from .bodies import Body, ConvDecoder, ConvEncoder, ResidualMLP

if TYPE_CHECKING:
    from ._base import SpikeSlabTransformer

    T = TypeVar("T", bound=SpikeSlabTransformer)

FORMAT, SCHEMA_VERSION = "sklearn-classvsc", 1
CLASSES = ("VAETransformer", "VSCTransformer", "ClassVSCTransformer")
#: Largest header, in bytes and in brackets: some 150,000 feature names, or 1,000 layers. Parsing
#: it takes less than 100 MB.
HEADER_LIMIT, BRACKET_LIMIT = 4 * 2**20, 200_000
#: How a header begins; the 64 digits of the hash follow.
PREFIX = b'{"__metadata__": {"sha256": "'
DTYPES = {
    "BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2",
    "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
#: The kinds of tuple that a file holds.
RECORDS: dict[str, Any] = {x.__name__: x for x in (tuple, Standardization, ClassSummary)}
#: The bodies that a file holds: as a name and parameters, from which their layers are built.
BODIES: dict[str, type[Body]] = {x.__name__: x for x in (ConvEncoder, ConvDecoder, ResidualMLP)}
LIBRARIES = (FORMAT, "numpy", "scikit-learn", "skorch", "torch")
#: Parameters that can hold code or a live generator, and what to do about them.
NOT_DATA = {
    "encoder": "retrain with encoder=None or one of `bodies`: weights mean nothing without code",
    "decoder": "retrain with decoder=None or one of `bodies`: weights mean nothing without code",
    "callbacks": "set_params(callbacks=None), which leaves the trained weights as they are",
    "random_state": "set_params(random_state=0), which leaves the trained weights as they are",
    "checkpoint": "save leaves it out, so that a file never says where to write",
}
#: The next step, where there is no better one.
STEP = "Copy the file again from where it came, or save the model anew."


class ModelFileError(ValueError):
    """A file is not a model that this version can load, or is damaged."""


def save(estimator: SpikeSlabTransformer, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file, all of it or nothing.

    Parameters
    ----------
    estimator : VAETransformer, VSCTransformer or ClassVSCTransformer
        The fitted estimator, with numbers, strings and arrays as parameters.
    path : str or path-like
        Where to write; a file there is replaced once the new one is safely on disk.
        Metadata requests (`set_fit_request`) and the path of a checkpoint are not in the file.

    Raises
    ------
    ValueError
        If a parameter or label is not data, such as an `encoder` of your own; it is named.
    OSError
        If the file cannot be written. A file that was there is then as it was.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import VAETransformer
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, max_epochs=1, random_state=0).fit(X)  # X of shape (150, 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(vae, os.path.join(folder, "vae.safetensors"))
    ...     again = load(os.path.join(folder, "vae.safetensors"), VAETransformer)
    >>> bool((again.transform(X) == vae.transform(X)).all())
    True
    """
    check_is_fitted(estimator)
    state = estimator.__getstate__()  # once: a training in another thread may change the estimator
    names = estimator._get_param_names()
    params = {name: state.pop(name) for name in names if name != "checkpoint"}
    for name in ("checkpoint", "_metadata_request"):  # where to write, and what to pass to `fit`
        state.pop(name, None)
    check_data_only(type(estimator), params, state["_architecture"])
    tensors: dict[str, NDArray[Any]] = {}
    metadata = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "class": type(estimator).__name__,
        "params": _encode(params, "params", tensors),
        "state": _encode(state, "", tensors),
        "versions": {"python": platform.python_version()} | {x: _version(x) for x in LIBRARIES},
    }
    for name, array in tensors.items():
        if not _is_finite(name, array):
            raise ValueError(f"{name} is not finite: fit again with a lower learning_rate.")
    head, blocks = _pack(metadata, tensors)
    if not _is_small(head[8:]):
        raise ValueError(
            f"All but the arrays takes {len(head)} bytes as JSON, of {HEADER_LIMIT} and "
            f"{BRACKET_LIMIT} brackets at most: fit without feature names (X.to_numpy()), or use "
            "joblib.dump, whose files run code when loaded."
        )
    with replacing(path) as file:
        file.writelines([head, *blocks])


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as those that `save` writes."""
    with open(path, "rb") as file:
        return file.read(8 + len(PREFIX))[8:] == PREFIX


def load(path: str | os.PathLike[str], cls: type[T]) -> T:
    """Read an estimator that `save` wrote. Nothing in the file is executed.

    Everything the header declares is checked, and bounded by the size of the file, before memory
    is taken for it; then the hash, and that weights are finite.

    Parameters
    ----------
    path : str or path-like
        The file.
    cls : type
        The class the file must hold: one of the three estimators.

    Returns
    -------
    estimator : cls
        It transforms, and continues `partial_fit`, as the saved one would.

    Raises
    ------
    ModelFileError
        If the file does not hold a model of this class that this version can load, or is
        damaged. The message names the path, what was found and expected, and what to do.
    OSError
        If the file cannot be opened, such as a FileNotFoundError.

    Examples
    --------
    See `save`.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            _refuse("something other than a regular file", "a file written by save")
        with open(path, "rb") as file:
            return _load(file, cls)
    except ModelFileError as error:
        raise ModelFileError(f"{name}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # of contents that no check above foresaw; `file` is all the input
        found = f"contents that raise {type(error).__name__} ({str(error)[:500]})"
        message = f"{name}: found {found}; expected a file written by save. {STEP}"
        raise ModelFileError(message) from error


# -- reading ------------------------------------------------------------------------------------


def _load(file: io.BufferedReader, cls: type[T]) -> T:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    _expect(size > 8, f"{size} bytes", "a safetensors file")
    found = f"a header of {length} bytes in a file of {size}"
    fits = length <= min(size - 8, HEADER_LIMIT)
    _expect(fits, found, f"at most {HEADER_LIMIT} bytes, within the file")
    text = file.read(length)
    _expect(_is_small(text), "a header of too many parts", f"at most {BRACKET_LIMIT} brackets")
    try:
        header = json.loads(text.decode())
        metadata = header.pop("__metadata__")
        found = metadata["format"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        _refuse("no readable header", "a file written by save")
    _expect(found == FORMAT, f"format {_short(found)}", repr(FORMAT))
    found = metadata["schema_version"]
    if found != str(SCHEMA_VERSION):
        found = f"schema version {_short(found)}, of {_short(metadata.get('versions'))}"
        step = "Upgrade sklearn-classvsc, or save the model with this version."
        _refuse(found, f"schema version {SCHEMA_VERSION}", step)
    found = metadata["class"]
    if found not in CLASSES or found != cls.__name__:
        step = f"Call {found}.load." if found in CLASSES else STEP
        _refuse(f"a model of class {_short(found)}", cls.__name__, step)

    data_size = size - 8 - length
    layout = _layout(header, data_size)
    blank = {name: np.broadcast_to(np.zeros((), dtype), shape) for name, dtype, shape in layout}
    _check_state(*_assemble(metadata, blank, cls), data_size, len(layout))

    digest_at = slice(len(PREFIX), len(PREFIX) + 64)
    digest = hashlib.sha256(text[: digest_at.start] + text[digest_at.stop :])
    arrays: dict[str, NDArray[Any]] = {}
    for name, dtype, shape in layout:
        array = arrays[name] = np.empty(shape, dtype)
        count = file.readinto(_bytes(array))
        _expect(count == array.nbytes, f"{count} bytes of {name}", str(array.nbytes))
        digest.update(_bytes(array))
    intact = text.startswith(PREFIX) and text[digest_at] == digest.hexdigest().encode()
    _expect(intact, "contents whose SHA-256 is not the one in the file", "undamaged ones")
    for name, array in arrays.items():
        _expect(_is_finite(name, array), f"non-finite values in {name}", "finite ones")
    estimator, state = _assemble(metadata, arrays, cls)
    _check_values(state)
    estimator.__setstate__(estimator.get_params(deep=False) | state)
    return estimator


def _layout(header: dict[str, Any], data_size: int) -> list[tuple[str, np.dtype[Any], list[int]]]:
    """Return (name, dtype, shape) of each tensor in the file's order; they tile its data."""
    end = 0
    layout = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, span = np.dtype(DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        what = f"tensor {_short(name)} of shape {_short(shape)} at bytes {_short(span)}"
        fits = len(shape) <= 32 and all(type(n) is int and 0 <= n <= data_size for n in shape)
        _expect(fits, what, f"sizes within the {data_size} bytes of data")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        _expect(span == [begin, end], what, f"bytes [{begin}, {end}], by its shape and place")
        layout.append((name, dtype, shape))
    _expect(end == data_size, f"{data_size} bytes of data", f"{end}, by the header")
    return layout


def _assemble(
    metadata: dict[str, Any], arrays: Mapping[str, NDArray[Any]], cls: type[T]
) -> tuple[T, dict[str, Any]]:
    """Return an unfitted estimator with the file's parameters, checked, and the state."""
    left = dict(arrays)
    params = _decode(json.loads(metadata["params"]), left)
    state = _decode(json.loads(metadata["state"]), left)
    _expect(not left, f"extra tensors {_short(sorted(left))}", "those its state refers to")
    names = cls._get_param_names()
    unknown = sorted(set(params) - set(names))
    _expect(not unknown, f"parameters {_short(unknown)}", f"those of {cls.__name__}")
    estimator = cls(**params)
    try:
        estimator._validate_params()
        check_data_only(cls, params, state["_architecture"])
    except ValueError as error:
        _refuse(f"an invalid parameter ({str(error)[:500]})", "a valid one")
    shadows = [name for name in state if name in names or callable(getattr(cls, name, None))]
    _expect(not shadows, f"state named {_short(shadows)}", "no parameter or method")
    return estimator, state


def _check_state(
    estimator: SpikeSlabTransformer, state: dict[str, Any], data_size: int, n_tensors: int
) -> None:
    """Check names, shapes and dtypes against those of a model of the declared architecture."""
    architecture, saved = state["_architecture"], state["_pending_state"]
    hidden, n_features = architecture["hidden_layer_sizes"], architecture["n_features"]
    widths = [n_features, *hidden, *architecture["alpha"].shape]
    widths += [architecture[x] for x in ("n_classes", "n_pseudo_inputs") if architecture.get(x)]
    fits = all(type(n) is int and 0 < n <= data_size for n in widths)
    least = _least_size(architecture) if fits else (0, 0)
    fits = fits and 4 * least[0] <= data_size and least[1] <= n_tensors
    bodies = [architecture[name] for name in ("encoder", "decoder")]
    _expect(
        fits,
        f"layers of widths {_short(widths)}, bodies {_short(bodies)}",
        f"ones that fit in the file ({n_tensors} tensors, {data_size} bytes)",
    )

    estimator.__dict__.update(state)
    module = estimator._make_net(0, "cpu").module  # no larger than the file
    _same_specs("module", saved["module"], {k: x.numpy() for k, x in module.state_dict().items()})
    weights = [x.detach().numpy() for x in module.parameters()]
    numbers = list(range(len(weights)))
    moments, (group,) = saved["optimizer"]["state"], saved["optimizer"]["param_groups"]
    # Before the first step there are none. Torch does not check them, and its kernels trust them.
    of = f"optimizer state of parameters {_short(list(moments))}"
    _expect(list(moments) in ([], numbers), of, _short(numbers))
    for i, moment in moments.items():
        both = {"exp_avg": weights[i], "exp_avg_sq": weights[i]}
        _same_specs(f"optimizer/state/{i}", moment, both | {"step": np.zeros((), np.float32)})
    betas = group["betas"]
    values = [*betas, *(x for name, x in group.items() if name not in ("params", "betas"))]
    valid = all(x is None or (isinstance(x, Real) and math.isfinite(x)) for x in values)
    valid = valid and group["params"] == numbers and len(betas) == 2
    _expect(valid, f"optimizer settings {_short(group)}", "finite numbers")

    best = saved.get("best")  # of a checkpoint under early stopping
    if best is not None:
        _same_specs("module", best["weights"], saved["module"])
        valid = type(best["misses"]) is int and type(best["loss"]) is float
        _expect(valid, f"best epoch {_short(best)}", "misses, loss and weights")

    done, planned, decay = saved["schedule"]
    valid = type(done) is type(planned) is int and type(decay) is bool and planned > 0 <= done
    _expect(valid, f"schedule {_short(saved['schedule'])}", "steps done, steps planned, decay")
    rows = all(isinstance(row, dict) for row in saved["history"])
    _expect(rows, f"history {_short(saved['history'])}", "rows")
    found = state["n_features_in_"]
    _expect(found == n_features, f"n_features_in_={_short(found)}", str(n_features))
    vectors, names = list(state["_standardization"] or ()), state.get("feature_names_in_")
    valid = len(vectors) == 2 * LIKELIHOODS[architecture["likelihood"]].standardize
    valid = valid and all(x.shape == (n_features,) and x.dtype.kind == "f" for x in vectors)
    valid = valid and (names is None or names.shape == (n_features,))
    _expect(valid, "a standardisation or names of other features", f"of {n_features}")


def _least_size(architecture: dict[str, Any]) -> tuple[int, int]:
    """Return how many weights and tensors a model has at least, without making them."""
    hidden, n_features = architecture["hidden_layer_sizes"], architecture["n_features"]
    (n_components,) = architecture["alpha"].shape
    n_weights, n_tensors = n_components * architecture.get("n_classes", 0), 0
    n_weights += n_features * architecture.get("n_pseudo_inputs", 0)
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
    """Check what only the values of the arrays tell."""
    saved, classes = state["_pending_state"], state.get("classes_")
    states = [saved["generator"], saved["noise_generator"]]
    try:
        for array in states[: 2 if states[0].shape == states[1].shape else 1]:  # a GPU's differs
            torch.Generator().set_state(torch.tensor(array))
    except (RuntimeError, TypeError) as error:
        _refuse(f"a generator state that torch refuses ({error})", "one of this version of torch")
    if state["_standardization"] is not None:
        positive = bool((state["_standardization"].scale > 0).all())
        _expect(positive, "scales that are not positive", "positive ones")
    share = saved["module"].get("pseudo_inputs.share")
    if share is not None:
        _expect(bool((share >= 0).all()), "shares below 0", "how often each pseudo-input is chosen")
    if classes is not None:
        valid = classes.ndim == 1 < len(classes) == len(set(classes.tolist()))
        several = state.get("_several", False)  # its columns are in the user's order
        _expect(type(several) is bool, f"_several={_short(several)}", "True or False")
        valid = valid and (several or np.array_equal(np.unique(classes), classes))
        _expect(valid, f"classes {_short(classes)}", "at least two, sorted")
        edges = state.get("bin_edges_", np.arange(len(classes) - 1.0))
        valid = edges.dtype.kind == "f" and edges.shape == (len(classes) - 1,)
        valid = valid and bool((np.diff(edges) > 0).all())
        _expect(valid, f"edges of bins {_short(edges)}", f"those of {len(classes)} bins")


# -- the file -----------------------------------------------------------------------------------


def _pack(
    metadata: dict[str, Any], tensors: dict[str, NDArray[Any]]
) -> tuple[bytes, list[memoryview]]:
    """Return the bytes of a safetensors file: length and header, then each tensor."""
    strings = {name: x if isinstance(x, str) else json.dumps(x) for name, x in metadata.items()}
    header: dict[str, Any] = {"__metadata__": {"sha256": ""} | strings}
    end = 0
    blocks = []
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # aligned
        array = tensors[name]
        begin, end = end, end + array.nbytes
        code = CODES[array.dtype]
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [begin, end]}
        blocks.append(_bytes(array))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256(text)
    for block in blocks:
        digest.update(block)
    text = PREFIX + digest.hexdigest().encode() + text[len(PREFIX) :]
    return len(text).to_bytes(8, "little") + text, blocks


def _encode(value: Any, path: str, tensors: dict[str, NDArray[Any]]) -> Any:
    """Return `value` as JSON; its arrays go to `tensors` under their path."""

    def encode(item: Any, name: Any) -> Any:
        return _encode(item, f"{path}/{name}" if path else str(name), tensors)

    if isinstance(value, np.generic) and value.dtype in CODES:
        return {"$": "scalar", "dtype": CODES[value.dtype], "value": value.item()}
    if isinstance(value, np.ndarray) and value.dtype.newbyteorder("<") in CODES:
        if path in tensors:
            raise ValueError(f"two arrays are named {path}.")
        tensors[path] = np.require(value, value.dtype.newbyteorder("<"), "C")
        return {"$": "array", "tensor": path}
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO" and value.ndim == 1:
        items = [x.item() if isinstance(x, np.generic) else x for x in value.tolist()]
        if _are_labels(items, value.dtype):
            return {"$": "labels", "dtype": value.dtype.str, "items": items}
    elif value is None or isinstance(value, str | int | float):
        return value
    elif type(value) in RECORDS.values():
        items = [encode(x, i) for i, x in enumerate(value)]
        return {"$": type(value).__name__, "items": items}
    elif type(value) in BODIES.values():
        params = value.get_params(deep=False).items()  # not as tensors: they decide on memory
        lists = {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in params}
        return {"$": "body", "of": type(value).__name__, "params": encode(lists, "params")}
    elif type(value) is list:
        keys = list(value[0]) if len(value) > 1 and type(value[0]) is dict else []
        if keys and all(type(row) is dict and list(row) == keys for row in value):  # a history
            columns = {key: _column([row[key] for row in value]) for key in keys}
            return {"$": "rows", "columns": _encode(columns, path, tensors)}
        return [encode(x, i) for i, x in enumerate(value)]
    elif type(value) is dict and all(type(key) in (str, int) for key in value):
        if all(type(key) is str and key != "$" for key in value):
            return {key: encode(x, key) for key, x in value.items()}
        return {"$": "pairs", "items": [[key, encode(x, key)] for key, x in value.items()]}
    kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise ValueError(
        f"{path} ({kind}) cannot be saved: numbers, booleans, strings, numeric arrays, and labels "
        "and lists of these can. Convert it, or use joblib.dump, whose files run code when loaded."
    )


def _column(values: list[Any]) -> Any:
    """Return values as an array if they come back from it as they are."""
    kinds = {type(x) for x in values}
    whole = kinds == {float} or (kinds == {int} and max(map(abs, values)) < 2**63)
    return np.array(values) if whole else values


def _decode(node: Any, tensors: dict[str, NDArray[Any]]) -> Any:
    """Undo `_encode`; takes the arrays out of `tensors`."""
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if "$" not in node:
        return {key: _decode(item, tensors) for key, item in node.items()}
    kind = node["$"]
    if kind == "array":
        _expect(node["tensor"] in tensors, f"no tensor {_short(node['tensor'])}", "each, once")
        return tensors.pop(node["tensor"])
    if kind == "scalar":
        return np.dtype(DTYPES[node["dtype"]]).type(node["value"])
    if kind == "labels":
        valid = re.fullmatch(r"[<>]U\d{1,7}|\|O", node["dtype"]) is not None
        valid = valid and _are_labels(node["items"], np.dtype(node["dtype"]))
        _expect(valid, f"labels {_short(node)}", "strings or numbers")
        labels = np.empty(len(node["items"]), node["dtype"])
        labels[:] = node["items"]
        return labels
    if kind == "rows":
        columns = _decode(node["columns"], tensors)
        values = [x.tolist() if isinstance(x, np.ndarray) else x for x in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    if kind == "body":
        _expect(node["of"] in BODIES, f"a body of class {_short(node['of'])}", ", ".join(BODIES))
        return BODIES[node["of"]](**_decode(node["params"], tensors))
    items = _decode(node["items"], tensors)
    if kind == "pairs":
        return dict(items)
    return tuple(items) if kind == "tuple" else RECORDS[kind](*items)


def check_data_only(
    cls: type[Any], params: dict[str, Any], architecture: dict[str, Any], classes: Any = None
) -> None:
    """Refuse what a data file cannot hold, or a loaded one must not."""
    if cls.__name__ not in CLASSES or getattr(sys.modules[__package__], cls.__name__) is not cls:
        raise ValueError(
            f"{cls.__qualname__} is not one of {', '.join(CLASSES)}, and a data file does not hold "
            "code: use joblib.dump, whose files run code when loaded."
        )
    for name, advice in NOT_DATA.items():
        for value in (params.get(name), architecture.get(name)):
            body = type(value) in BODIES.values() and name in ("encoder", "decoder")
            if not (body or value is None or isinstance(value, Integral) or value == []):
                raise ValueError(
                    f"{name}={_short(value)} cannot be in a model file, which holds data only: "
                    f"{advice}; or use joblib.dump, whose files run code when loaded."
                )
    _encode({"params": params, "classes_": classes}, "", {})


def _are_labels(items: list[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether JSON can hold the items, and their array takes little memory."""
    small = len(items) * dtype.itemsize <= 8 * HEADER_LIMIT
    return small and all(x is None or isinstance(x, str | int | float) for x in items)


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _is_small(text: bytes) -> bool:
    return len(text) <= HEADER_LIMIT and text.count(b"[") + text.count(b"{") <= BRACKET_LIMIT


def _is_finite(name: str, array: NDArray[Any]) -> bool:
    """Return whether an array is finite; a history may hold NaN for what an epoch lacked."""
    return "history" in name or array.dtype.kind != "f" or bool(np.isfinite(array).all())


# -- messages -----------------------------------------------------------------------------------


def _expect(met: bool, found: str, expected: str) -> None:
    if not met:
        _refuse(found, expected)


def _refuse(found: str, expected: str, step: str = STEP) -> NoReturn:
    raise ModelFileError(f"found {found}; expected {expected}. {step}")


@lru_cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # on the path, but not installed: sources sent to a cluster
        return "unknown"


def _short(value: Any) -> str:
    return reprlib.repr(value)


def _same_specs(where: str, found: dict[str, Any], expected: dict[str, NDArray[Any]]) -> None:
    """Compare names, dtypes and shapes."""
    specs = [
        {name: f"{x.dtype}{x.shape}" for name, x in arrays.items()} for arrays in (found, expected)
    ]
    for name in sorted(set(found) | set(expected), key=str):
        this, that = (spec.get(name, "no tensor") for spec in specs)
        _expect(this == that, f"{this} as {where}/{_short(name)[1:-1]}", that)
