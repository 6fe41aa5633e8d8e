"""Files that are written whole or not at all. This module imports the standard library only."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # on Windows, which does not let anyone delete an open file
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` at the end of the block, if all went well.

    Until then `path` is as it was, and after an error nothing is left of the new file. The new file
    keeps the permissions of the file that it replaces and, where the system lets it, owner and
    group; a symbolic link stays one. After the block, file and directory are on the disk. Files
    that killed writes to the same path have left are deleted. A file that another process is
    writing is locked, and stays.

    Parameters
    ----------
    path : str or path-like
        Where to write. For text, wrap the file: `io.TextIOWrapper(file, "utf-8", newline="")`.

    Raises
    ------
    OSError
        If the file cannot be written, or `path` is no regular file.
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
            if fcntl is not None:  # while it is locked, so that no other process deletes it
                os.replace(temporary, target)
        finally:
            os.close(descriptor)
        if fcntl is None:  # Windows moves closed files only
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(target.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `replacing` would meet now."""
    target, _ = _target(path)
    _clear(target)
    temporary = _temporary(target)
    try:
        os.close(_create(temporary, 0o600))
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """Return the file that a path leads to, and what it is; None if there is none."""
    target, found = Path(os.path.realpath(path)), None
    with suppress(FileNotFoundError):
        found = os.stat(target)
    if _is_descriptor(os.fspath(path)) or not (found is None or stat.S_ISREG(found.st_mode)):
        raise OSError(f"{os.fspath(path)} is not a regular file: name another path.")
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
    """Return how the names of new files for this target begin."""
    return f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}."


def _create(path: Path, mode: int) -> int:
    """Create a file and lock it until it is closed; the system unlocks it if the process dies."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        descriptor = os.open(path, flags, mode)
        if fcntl is not None:
            with suppress(OSError):  # a file system has no locks, and nothing is cleared there
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return descriptor
        os.close(descriptor)  # another process found it before it was locked, and deleted it


def _take_after(descriptor: int, old: os.stat_result) -> None:
    """Give a file the owner, group and permissions of another, where the system lets it."""
    if not hasattr(os, "fchown"):
        return
    for owner, group in ((-1, old.st_gid), (old.st_uid, -1)):
        with suppress(OSError):
            os.fchown(descriptor, owner, group)
    mode = stat.S_IMODE(old.st_mode)
    if os.fstat(descriptor).st_gid != old.st_gid:  # another group may do what everyone may
        mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)


def _clear(target: Path) -> None:
    """Delete what killed writes to this target have left: files that no process has locked."""
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
    """Let the name of a new file survive a crash of the system, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
