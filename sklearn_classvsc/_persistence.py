"""A fitted estimator as one data file, in the safetensors format: loading it runs nothing.

The arrays of the estimator's state (`__getstate__`) are tensors named by their place in it, such
as `_pending_state/module/encoder.0.weight`; the rest is JSON in the file's metadata. A SHA-256 of
all other bytes detects damage. It does not tell who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import reprlib
import secrets
import stat
import sys
from collections.abc import Mapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._data import Standardization
from ._likelihoods import LIKELIHOODS

if TYPE_CHECKING:
    from ._base import SpikeSlabTransformer

    T = TypeVar("T", bound=SpikeSlabTransformer)

FORMAT, SCHEMA_VERSION = "sklearn-classvsc", 1
CLASSES = ("VAETransformer", "VSCTransformer", "ClassVSCTransformer")
#: Largest header in bytes: some 150,000 feature names. Parsing it takes less than 100 MB.
HEADER_LIMIT = 4 * 2**20
#: How a header begins; the 64 digits of the hash follow.
PREFIX = b'{"__metadata__": {"sha256": "'
DTYPES = {
    "BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2",
    "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
LIBRARIES = (FORMAT, "numpy", "scikit-learn", "skorch", "torch")
OWN_MODULE = "it is code, without which the trained weights mean nothing: retrain with None"
#: Parameters that can hold code or a live generator, and what to do about them.
CODE = {
    "encoder": OWN_MODULE,
    "decoder": OWN_MODULE,
    "callbacks": "the trained weights do without: set_params(callbacks=None)",
    "random_state": "the trained weights do without: set_params(random_state=<an int>)",
}


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
    cls = type(estimator)
    if cls.__name__ not in CLASSES or getattr(sys.modules[__package__], cls.__name__) is not cls:
        raise ValueError(
            f"{cls.__qualname__} is not one of {', '.join(CLASSES)}, and a data file does not hold "
            "code: use joblib.dump, whose files run code when loaded."
        )
    params = estimator.get_params(deep=False)
    state = {name: x for name, x in estimator.__getstate__().items() if name not in params}
    _check_data_only(params, state["_architecture"])
    tensors: dict[str, NDArray[Any]] = {}
    metadata = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "class": cls.__name__,
        "params": _encode(params, "params", tensors),
        "state": _encode(state, "", tensors),
        "versions": {name: version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
    }
    for name, array in tensors.items():
        if not _is_finite(name, array):
            raise ValueError(f"{name} is not finite: fit again with a lower learning_rate.")
    head, blocks = _pack(metadata, tensors)
    if len(head) - 8 > HEADER_LIMIT:
        raise ValueError(
            f"All but the arrays takes {len(head)} bytes as JSON, more than {HEADER_LIMIT}: "
            "fit without feature names (X.to_numpy()), or use joblib.dump."
        )
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise OSError(f"{target} is not a regular file: name another path.")
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    file = open(temporary, "xb")
    try:
        with file:
            for block in [head, *blocks]:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


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
        raise ModelFileError(f"{name}: {_message(found, 'a file written by save')}") from error


# -- reading ------------------------------------------------------------------------------------


def _load(file: BinaryIO, cls: type[T]) -> T:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    _expect(size > 8, f"{size} bytes", "a safetensors file")
    _expect(
        length <= min(size - 8, HEADER_LIMIT),
        f"a header of {length} bytes in a file of {size}",
        f"one of at most {HEADER_LIMIT} bytes, within the file",
    )
    text = file.read(length)
    try:
        header = json.loads(text.decode())
        metadata = header.pop("__metadata__")
        found = metadata["format"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        _refuse("no readable header", "a file written by save")
    _expect(found == FORMAT, f"format {_short(found)}", repr(FORMAT))
    found = metadata["schema_version"]
    if found != str(SCHEMA_VERSION):
        _refuse(
            f"schema version {_short(found)}, written by {_short(metadata.get('versions'))}",
            f"schema version {SCHEMA_VERSION}",
            "Upgrade sklearn-classvsc, or save the model with this version.",
        )
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
        count = file.readinto(_bytes(array))  # type: ignore[attr-defined]
        _expect(count == array.nbytes, f"{count} bytes of {name}", str(array.nbytes))
        digest.update(_bytes(array))
    _expect(
        text.startswith(PREFIX) and text[digest_at] == digest.hexdigest().encode(),
        "contents whose SHA-256 differs",
        f"{_short(metadata.get('sha256'))}, the SHA-256 in the file",
    )
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
        dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
        _expect(
            len(shape) <= 32 and all(type(n) is int and 0 <= n <= data_size for n in shape),
            f"shape {_short(shape)} of tensor {_short(name)}",
            f"sizes within the {data_size} bytes of data",
        )
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        _expect(
            entry["data_offsets"] == [begin, end],
            f"tensor {_short(name)} at bytes {_short(entry['data_offsets'])}",
            f"[{begin}, {end}], by its shape, dtype and place",
        )
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
        _check_data_only(params, state["_architecture"])
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
    n_features, alpha = architecture["n_features"], architecture["alpha"]
    widths = [n_features, *architecture["hidden_layer_sizes"], *alpha.shape]
    _expect(
        all(type(n) is int and 0 < n <= data_size for n in widths)
        and 4 * sum(a * b for a, b in pairwise(widths)) <= data_size
        and 8 * len(architecture["hidden_layer_sizes"]) <= n_tensors,
        f"layers of widths {_short(widths)}",
        f"positive ones, whose weights fit in the file ({n_tensors} tensors, {data_size} bytes)",
    )
    vars(estimator).update(state)
    module = estimator._make_net(0, "cpu").module  # no larger than the file
    _same_specs("module", saved["module"], {k: x.numpy() for k, x in module.state_dict().items()})
    weights = [x.detach().numpy() for x in module.parameters()]
    moments, (group,) = saved["optimizer"]["state"], saved["optimizer"]["param_groups"]
    # Before the first step there are none. Torch does not check them, and its kernels trust them.
    _expect(
        list(moments) == list(range(len(weights)) if moments else ()),
        f"optimizer state of parameters {_short(list(moments))}",
        f"of 0 to {len(weights) - 1}",
    )
    for i, moment in moments.items():
        step = np.zeros((), np.float32)
        expected = {"step": step, "exp_avg": weights[i], "exp_avg_sq": weights[i]}
        _same_specs(f"optimizer/state/{i}", moment, expected)
    params, betas = group["params"], group["betas"]
    numbers = [*betas, *(x for name, x in group.items() if name not in ("params", "betas"))]
    _expect(
        params == list(range(len(weights)))
        and len(betas) == 2
        and all(x is None or (isinstance(x, int | float) and math.isfinite(x)) for x in numbers),
        f"optimizer settings {_short(group)}",
        "numbers",
    )
    generators = {name: saved[name] for name in ("generator", "noise_generator")}
    _expect(
        all(x.dtype == np.uint8 and x.ndim == 1 for x in generators.values()),
        f"generator states {_specs(generators)}",
        "vectors of uint8",
    )
    _expect(
        all(isinstance(row, dict) for row in saved["history"]), "a history of other things", "rows"
    )
    done, planned, decay = saved["schedule"]
    _expect(
        type(done) is type(planned) is int and type(decay) is bool and planned > 0 <= done,
        f"schedule {_short(saved['schedule'])}",
        "steps done, steps planned and whether the learning rate decays",
    )
    n_found = state["n_features_in_"]
    _expect(n_found == n_features, f"n_features_in_={_short(n_found)}", str(n_features))
    vectors = list(state["_standardization"] or ())
    names = state.get("feature_names_in_")
    likelihood = LIKELIHOODS[architecture["likelihood"]]
    _expect(
        len(vectors) == 2 * likelihood.standardize
        and all(x.shape == (n_features,) and x.dtype.kind == "f" for x in vectors)
        and (names is None or names.shape == (n_features,)),
        "a standardisation or feature names of another size",
        f"{n_features} values",
    )


def _check_values(state: dict[str, Any]) -> None:
    """Check what only the values of the arrays tell."""
    try:
        torch.Generator().set_state(torch.tensor(state["_pending_state"]["generator"]))
    except RuntimeError as error:
        _refuse(f"a generator state that torch refuses ({error})", "one of this version of torch")
    standardization, classes = state["_standardization"], state.get("classes_")
    if standardization is not None:
        _expect(bool((standardization.scale > 0).all()), "scales that are not positive", "positive")
    if classes is not None:
        valid = classes.ndim == 1 < len(classes) and np.array_equal(np.unique(classes), classes)
        _expect(valid, f"classes {_short(classes)}", "at least two, sorted")


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

    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        array = np.require(value, value.dtype.newbyteorder("<"), "C")
        if array.dtype in CODES and path not in tensors:
            tensors[path] = array
            return {"$": "array" if isinstance(value, np.ndarray) else "scalar", "tensor": path}
    elif isinstance(value, np.ndarray) and value.dtype.kind in "UO" and value.ndim == 1:
        items = [x.item() if isinstance(x, np.generic) else x for x in value.tolist()]
        if all(x is None or isinstance(x, str | int | float) for x in items):
            return {"$": "text" if value.dtype.kind == "U" else "objects", "items": items}
    elif value is None or isinstance(value, str | int | float):
        return value
    elif isinstance(value, Standardization):
        return {"$": "standardization", "items": [encode(x, i) for i, x in enumerate(value)]}
    elif type(value) is tuple:
        return {"$": "tuple", "items": [encode(x, i) for i, x in enumerate(value)]}
    elif type(value) is list:
        keys = list(value[0]) if value and type(value[0]) is dict else []
        if keys and all(type(row) is dict and list(row) == keys for row in value):
            columns = {key: _column([row[key] for row in value]) for key in keys}
            return {"$": "rows", "columns": encode(columns, "rows")}
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
    whole = {type(x) for x in values} in ({float}, {int}) and all(-(2**63) <= x < 2**63 or x != x or isinstance(x, float) for x in values)
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
    if kind in ("array", "scalar"):
        name = node["tensor"]
        _expect(name in tensors, f"no tensor {_short(name)}", "one for each reference")
        array = tensors.pop(name)
        return array if kind == "array" else array[()]
    if kind in ("text", "objects"):
        items = node["items"]
        width = max((len(x) for x in items), default=0) if kind == "text" else 0
        _expect(len(items) * width <= HEADER_LIMIT, f"{len(items)} labels of {width}", "shorter")
        return np.array([*items, None], object)[:-1].astype(str if kind == "text" else object)
    if kind == "rows":
        columns = _decode(node["columns"], tensors)
        values = [x.tolist() if isinstance(x, np.ndarray) else x for x in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    items = _decode(node["items"], tensors)
    if kind == "pairs":
        return dict(items)
    return {"tuple": tuple, "standardization": Standardization._make}[kind](items)


def _check_data_only(params: dict[str, Any], architecture: dict[str, Any]) -> None:
    """Refuse what a data file cannot hold, or a loaded one must not."""
    for name, advice in CODE.items():
        for value in (params.get(name), architecture.get(name)):
            if not (value is None or value == [] or (name == "random_state" and isinstance(value, int | np.integer))):
                raise ValueError(
                    f"{name}={_short(value)} cannot be in a model file, which holds data only: "
                    f"{advice}, or use joblib.dump, whose files run code when loaded."
                )


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _is_finite(name: str, array: NDArray[Any]) -> bool:
    """Return whether an array is finite; a history may hold NaN for what an epoch lacked."""
    return "history" in name or array.dtype.kind != "f" or bool(np.isfinite(array).all())


# -- messages -----------------------------------------------------------------------------------

STEP = "Copy the file again from where it came, or save the model anew."
