"""Files that are written whole or not at all, and a file format for trees of arrays and JSON.

A tree is stored in the safetensors format, and reading it runs no code. Its arrays are tensors that
are named by their path in the tree, such as `_pending_state/module/encoder.0.weight`. The rest is
JSON in the file's metadata. A SHA-256 of all other bytes detects damage, but does not show who
wrote the file.

This module imports only NumPy and the standard library, and knows no model.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from reprlib import repr as short
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # on Windows, where nobody can delete an open file
    fcntl = None  # type: ignore[assignment]

FORMAT = "sklearn-classvsc"
#: Largest header, in bytes and in brackets. It holds some 1,000 layers, and parsing it takes less
#: than 100 MB.
HEADER_LIMIT, BRACKET_LIMIT = 4 * 2**20, 200_000
#: Largest array of labels, in bytes, because a small file could declare a huge one.
LABEL_LIMIT = 2**24
#: End of each string in a tensor. UTF-8 never contains this byte.
END = b"\xff"
#: Beginning of a header. The 64 digits of the hash follow.
PREFIX = b'{"__metadata__": {"sha256": "'
DTYPES = {
    "BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2",
    "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
#: Default advice in errors.
STEP = "Copy the file again from its source, or save the model again."


class ModelFileError(ValueError):
    """A file is damaged, or is not a model that this version can load."""


# -- files that are written whole or not at all --------------------------------------------------


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` at the end of the block, if the block succeeds.

    Until then, `path` does not change. After an error, the new file is deleted. The new file keeps
    the permissions of the file that it replaces and, if the system allows it, owner and group. A
    symbolic link stays a link. After the block, file and directory are on the disk.

    Files that killed writes to the same path have left are deleted. A file that another process is
    writing is locked, and stays.

    Parameters
    ----------
    path : str or path-like
        Where to write. For text, wrap the file: `io.TextIOWrapper(file, "utf-8", newline="")`.

    Raises
    ------
    OSError
        If the file cannot be written, or `path` is not a regular file.
    """
    target, old = _target(path)
    _clear(target)
    temporary = _temporary(target)
    try:
        descriptor = _create(temporary, 0o666 if old is None else 0o600)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                yield file
            if old is not None:
                _take_after(descriptor, old)
            os.fsync(descriptor)
            if fcntl is not None:  # still locked, so that no other process deletes it
                os.replace(temporary, target)
        finally:
            os.close(descriptor)
        if fcntl is None:  # Windows moves closed files only
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(target.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `replacing` would raise now."""
    target, _ = _target(path)
    _clear(target)
    temporary = _temporary(target)
    try:
        os.close(_create(temporary, 0o600))
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """Return the file that a path leads to, and its status, or None if it does not exist."""
    target, found = Path(os.path.realpath(path)), None
    with suppress(FileNotFoundError):
        found = os.stat(target)
    if _is_descriptor(os.fspath(path)) or not (found is None or stat.S_ISREG(found.st_mode)):
        raise OSError(f"{os.fspath(path)} is not a regular file. Name another path.")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"The folder of {os.fspath(path)} does not exist. Make it first, or name another path."
        )
    return target, found


def _is_descriptor(path: str) -> bool:
    """Return whether a path, such as /dev/stdout, leads to an open file of this process."""
    while not os.path.realpath(os.path.dirname(path)).startswith(("/proc/", "/dev/fd")):
        if not os.path.islink(path):
            return False
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return True


def _temporary(target: Path) -> Path:
    return target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}.tmp")


def _prefix(target: Path) -> str:
    """Return the beginning of the names of new files for this target."""
    return f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}."


def _create(path: Path, mode: int) -> int:
    """Create a file and lock it until it is closed; the system unlocks it if the process dies."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        descriptor = os.open(path, flags, mode)
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks, where nothing is cleared
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return descriptor
        os.close(descriptor)  # another process deleted it before it was locked


def _take_after(descriptor: int, old: os.stat_result) -> None:
    """Give a file the owner, group and permissions of another, if the system allows it."""
    if not hasattr(os, "fchown"):
        return
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        with suppress(OSError):
            os.fchown(descriptor, owner, group)
    mode = stat.S_IMODE(old.st_mode)
    if (
        os.fstat(descriptor).st_gid != old.st_gid
    ):  # a different group gets the permissions of others
        mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)


def _clear(target: Path) -> None:
    """Delete files that killed writes to this target have left: those that no process locks."""
    with suppress(OSError):
        for name in os.listdir(target.parent):
            if name.startswith(_prefix(target)) and name.endswith(".tmp"):
                with suppress(OSError):
                    _delete_unlocked(target.with_name(name))


def _delete_unlocked(path: Path) -> None:
    if fcntl is None:
        path.unlink()
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    """Make the name of a new file survive a crash of the system, if the system can do that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- a tree as a file -----------------------------------------------------------------------------


class Labels(NamedTuple):
    """Labels or names in a file. After all checks, `label_array` makes an array from them."""

    items: Any  # a list; for strings, their UTF-8 bytes, with `END` after each string
    dtype: str


class History(NamedTuple):
    """The history of a training in a file. After all checks, `rows` makes rows from it."""

    columns: dict[str, Any]  # values of all rows, or (row numbers, values)


def header(metadata: dict[str, Any], tensors: dict[str, NDArray[Any]], reserve: int = 0) -> bytes:
    """Return the header of a file, with an empty hash.

    Raises
    ------
    ValueError
        If the header plus `reserve` bytes exceeds the limits for reading.
    """
    strings = {name: x if isinstance(x, str) else json.dumps(x) for name, x in metadata.items()}
    entries: dict[str, Any] = {"__metadata__": {"sha256": ""} | strings}
    end = 0
    for name in _in_order(tensors):
        array = tensors[name]
        begin, end = end, end + array.nbytes
        code = CODES[array.dtype]
        entries[name] = {"dtype": code, "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    if not _is_small(text, reserve):
        raise ValueError(
            f"The parts that are not arrays take {len(text) + reserve} bytes and {_brackets(text)} "
            f"brackets as JSON, but at most {HEADER_LIMIT} and {BRACKET_LIMIT} are allowed. Use "
            "fewer layers and shorter parameters, or joblib.dump, whose files run code when loaded."
        )
    return text


def write_tree(
    path: str | os.PathLike[str], metadata: dict[str, Any], tensors: dict[str, NDArray[Any]]
) -> None:
    """Write metadata, as strings and JSON, and tensors to a file, all of it or nothing."""
    text = header(metadata, tensors)
    blocks = [_bytes(tensors[name]) for name in _in_order(tensors)]
    digest = hashlib.sha256(text)
    for block in blocks:
        digest.update(block)
    text = PREFIX + digest.hexdigest().encode() + text[len(PREFIX) :]
    with replacing(path) as file:
        file.writelines([len(text).to_bytes(8, "little"), text, *blocks])


def is_tree(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a file of `write_tree` does."""
    with open(path, "rb") as file:
        return file.read(8 + len(PREFIX))[8:] == PREFIX


class Reading:
    """An open file of `write_tree`. Read its tensors after a check of what the header declares.

    The size of the file bounds what the header may declare, before memory is allocated for it.

    Parameters
    ----------
    file : binary file
        The file, which is read from its beginning.

    Attributes
    ----------
    metadata : dict
        Metadata from `write_tree`. Values that were not strings are JSON, see `part`.
    data_size : int
        Size of all tensors in bytes.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self.file = file
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        expect(size > 8, f"{size} bytes", "a safetensors file")
        found = f"a header of {length} bytes in a file of {size}"
        fits = length <= min(size - 8, HEADER_LIMIT)
        expect(fits, found, f"at most {HEADER_LIMIT} bytes, within the file")
        self.text = file.read(length)
        expect(
            _is_small(self.text), "a header of too many parts", f"at most {BRACKET_LIMIT} brackets"
        )
        try:
            self._entries = json.loads(self.text.decode())
            self.metadata = self._entries.pop("__metadata__")
            found = self.metadata["format"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            refuse("no readable header", "a file written by save")
        expect(found == FORMAT, f"format {short(found)}", repr(FORMAT))
        self.data_size = size - 8 - length

    def part(self, name: str) -> Any:
        """Return the value of a part of the metadata that is JSON."""
        text = self.metadata[name]
        expect(_is_small(text.encode("utf-8", "surrogatepass")), f"large {name}", "less")
        return json.loads(text)

    def layout(self) -> list[tuple[str, np.dtype[Any], list[int]]]:
        """Return (name, dtype, shape) of each tensor, in the order in which they tile the data."""
        end, data_size = 0, self.data_size
        layout = []
        for name, entry in sorted(self._entries.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape = np.dtype(DTYPES[entry["dtype"]]), entry["shape"]
            span = entry["data_offsets"]
            what = f"tensor {short(name)} of shape {short(shape)} at bytes {short(span)}"
            fits = len(shape) <= 4 and all(type(n) is int and 0 <= n <= data_size for n in shape)
            # Bound the other sizes too if one size is 0.
            fits = fits and math.prod(max(n, 1) for n in shape) <= data_size
            expect(fits, what, f"sizes within the {data_size} bytes of data")
            begin, end = end, end + math.prod(shape) * dtype.itemsize
            expect(span == [begin, end], what, f"bytes [{begin}, {end}], by its shape and place")
            layout.append((name, dtype, shape))
        expect(end == data_size, f"{data_size} bytes of data", f"{end}, by the header")
        return layout

    def blank(self) -> dict[str, NDArray[Any]]:
        """Return tensors of zeros with the declared shapes, which take no memory."""
        return {
            name: np.broadcast_to(np.zeros((), dtype), shape)
            for name, dtype, shape in self.layout()
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the tensors, which can be read only once; refuse a damaged file."""
        digest_at = slice(len(PREFIX), len(PREFIX) + 64)
        digest = hashlib.sha256(self.text[: digest_at.start] + self.text[digest_at.stop :])
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype, shape in self.layout():
            array = arrays[name] = np.empty(shape, dtype)
            count = self.file.readinto(_bytes(array))
            expect(count == array.nbytes, f"{count} bytes of {name}", str(array.nbytes))
            digest.update(_bytes(array))
        intact = self.text.startswith(PREFIX)
        intact = intact and self.text[digest_at] == digest.hexdigest().encode()
        expect(intact, "contents whose SHA-256 is not the one in the file", "undamaged ones")
        return arrays


class Codec:
    """Conversion of values to JSON and tensors, and back.

    Values are numbers, booleans, strings, None, numeric arrays and labels; lists, tuples and dicts
    of these; and the records and bodies below.

    Parameters
    ----------
    records : tuple of types
        Named tuples that values may be.
    bodies : callable
        Returns a dict, by name, of classes whose objects are stored by their parameters.
    """

    def __init__(
        self, records: tuple[type[Any], ...], bodies: Callable[[], dict[str, Any]]
    ) -> None:
        kinds: tuple[Any, ...] = (tuple, *records)
        self.records = {kind.__name__: kind for kind in kinds}
        self.bodies = bodies

    def is_body(self, value: Any) -> bool:
        """Return whether a value is an object of one of the bodies."""
        return type(value) in self.bodies().values()

    def encode(self, value: Any, path: str, tensors: dict[str, NDArray[Any]]) -> Any:
        """Return `value` as JSON; its arrays go to `tensors` under their paths."""

        def encode(item: Any, name: Any) -> Any:
            return self.encode(item, f"{path}/{name}" if path else str(name), tensors)

        if isinstance(value, np.generic) and value.dtype in CODES:
            return {"$": "scalar", "dtype": CODES[value.dtype], "value": value.item()}
        if isinstance(value, np.ndarray) and value.dtype.newbyteorder("<") in CODES:
            if path in tensors:
                raise ValueError(f"two arrays are named {path}.")
            tensors[path] = np.require(value, value.dtype.newbyteorder("<"), "C")
            return {"$": "array", "tensor": path}
        small = isinstance(value, np.ndarray) and (
            value.dtype.kind == "O" or value.nbytes < LABEL_LIMIT
        )
        if small and value.dtype.kind in "UO" and value.ndim == 1:
            items = [x.item() if isinstance(x, np.generic) else x for x in value.tolist()]
            if all(type(x) is str for x in items):
                data = b"".join(x.encode("utf-8", "surrogatepass") + END for x in items)
                node = encode(np.frombuffer(data, np.uint8), "utf-8")
                return {"$": "strings", "dtype": value.dtype.str, "items": node}
            if are_plain(items):
                return {"$": "labels", "dtype": value.dtype.str, "items": items}
        elif value is None or isinstance(value, str | int | float):
            return value
        elif type(value) in self.records.values():
            items = [encode(x, i) for i, x in enumerate(value)]
            return {"$": type(value).__name__, "items": items}
        elif self.is_body(value):
            params = value.get_params(
                deep=False
            ).items()  # not tensors: they decide on memory before tensors are read
            lists = {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in params}
            return {"$": "body", "of": type(value).__name__, "params": encode(lists, "params")}
        elif type(value) is list:
            if value and all(type(row) is dict and "epoch" in row for row in value):
                nodes = {name: encode(x, name) for name, x in columns(value).items()}
                return {"$": "rows", "columns": nodes}
            return [encode(x, i) for i, x in enumerate(value)]
        elif type(value) is dict and all(type(key) in (str, int) for key in value):
            if all(type(key) is str and key != "$" for key in value):
                return {key: encode(x, key) for key, x in value.items()}
            return {"$": "pairs", "items": [[key, encode(x, key)] for key, x in value.items()]}
        kind = type(value).__name__
        kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else kind
        raise ValueError(
            f"{path} ({kind}) cannot be saved. Convert it to numbers, booleans, strings, a numeric "
            "array, labels, or a list of these. Or use joblib.dump, whose files run code when "
            "loaded."
        )

    def decode(self, node: Any, tensors: dict[str, NDArray[Any]]) -> Any:
        """Undo `encode`, taking arrays out of `tensors`; keep `Labels` and `History`."""
        if isinstance(node, list):
            return [self.decode(item, tensors) for item in node]
        if not isinstance(node, dict):
            return node
        if "$" not in node:
            return {key: self.decode(item, tensors) for key, item in node.items()}
        kind = node["$"]
        if kind == "array":
            expect(node["tensor"] in tensors, f"no tensor {short(node['tensor'])}", "each, once")
            return tensors.pop(node["tensor"])
        if kind == "scalar":
            expect(isinstance(node["value"], int | float), f"scalar {short(node)}", "a number")
            return np.dtype(DTYPES[node["dtype"]]).type(node["value"])
        if kind in ("labels", "strings"):
            items = self.decode(node["items"], tensors)
            valid = type(items) is list and all(
                x is None or isinstance(x, str | int | float) for x in items
            )
            valid = valid or (
                kind == "strings" and is_array(items, "u", 1) and items.dtype == np.uint8
            )
            valid = valid and re.fullmatch(r"[<>]U\d{1,7}|\|O", node["dtype"]) is not None
            expect(valid, f"labels {short(node)}", "strings or numbers")
            return Labels(items, node["dtype"])
        if kind == "rows":
            found = self.decode(node["columns"], tensors)
            if not any(found.get("batches", ())):
                found.pop("batches", None)  # from schema version 1
            return History(found)
        if kind == "body":
            known = self.bodies()
            expect(node["of"] in known, f"a body of class {short(node['of'])}", ", ".join(known))
            return known[node["of"]](**self.decode(node["params"], tensors))
        items = self.decode(node["items"], tensors)
        if kind == "pairs":
            return dict(items)
        return tuple(items) if kind == "tuple" else self.records[kind](*items)


def columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the columns of a history. If rows lack a column, it is (row numbers, values)."""
    names = dict.fromkeys(name for row in rows for name in row)
    found: dict[str, Any] = {}
    for name in names:
        at = [i for i, row in enumerate(rows) if name in row]
        values = [rows[i][name] for i in at]
        if name != "batches" or any(values):  # this package records nothing per batch
            column = _column(values)
            found[name] = column if len(at) == len(rows) else (np.array(at), column)
    return found


def _column(values: list[Any]) -> Any:
    """Return values as an array if that preserves them exactly."""
    kinds = {type(x) for x in values}
    whole = kinds in ({float}, {bool}) or (kinds == {int} and max(map(abs, values)) < 2**63)
    return np.array(values) if whole else values


def rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Undo `columns`."""
    found: list[dict[str, Any]] = [{"batches": []} for _ in columns["epoch"]]
    for name, column in columns.items():
        at, values = column if type(column) is tuple else (range(len(found)), column)
        for i, value in zip(at, values if type(values) is list else values.tolist(), strict=True):
            found[i][name] = value
    return found


def label_array(labels: Labels, n: int) -> NDArray[Any]:
    """Return n labels as an array with its original dtype."""
    items = labels.items
    if not isinstance(items, list):
        data = items.tobytes()
        valid = data.count(END) == n and data.endswith(END)
        expect(valid, f"{data.count(END)} names, {short(data[:30])}", f"{n}, each ended")
        items = [x.decode("utf-8", "surrogatepass") for x in data[:-1].split(END)]
    array = np.empty(len(items), labels.dtype)
    array[:] = items
    return array


def are_plain(values: Any) -> bool:
    """Return whether values are a list or a tuple of plain values."""
    plain = bool | int | float | str | np.generic | None
    return type(values) in (list, tuple) and all(isinstance(x, plain) for x in values)


def is_array(value: Any, kinds: str, ndim: int) -> bool:
    """Return whether a value is an array with these kinds of dtype and number of axes."""
    return isinstance(value, np.ndarray) and value.dtype.kind in kinds and value.ndim == ndim


def _in_order(tensors: dict[str, NDArray[Any]]) -> list[str]:
    """Return the names of tensors in an order that aligns each."""
    return sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _is_small(text: bytes, reserve: int = 0) -> bool:
    return len(text) + reserve <= HEADER_LIMIT and _brackets(text) <= BRACKET_LIMIT


def _brackets(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


# -- messages -------------------------------------------------------------------------------------


def expect(met: bool, found: str, expected: str) -> None:
    """Refuse a file unless a condition is met."""
    if not met:
        refuse(found, expected)


def refuse(found: str, expected: str, step: str = STEP) -> NoReturn:
    """Refuse a file; the caller that knows its path adds it in front."""
    raise ModelFileError(f"found {found}; expected {expected}. {step}")
