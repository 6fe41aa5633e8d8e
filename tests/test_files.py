"""Specification of files that are written whole or not at all, and of trees in them."""

import io
import os
import signal
import stat
import subprocess
import sys
import threading
from typing import NamedTuple

import numpy as np
import pytest
from helpers import covering

from sklearn_classvsc import VAETransformer
from sklearn_classvsc._files import (
    FORMAT,
    HEADER_LIMIT,
    Codec,
    Labels,
    ModelFileError,
    Reading,
    check_writable,
    is_tree,
    label_array,
    replacing,
    rows,
    write_tree,
)
from sklearn_classvsc.export import to_onnx
from sklearn_classvsc.report import FactorReport

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and locks of POSIX")
WRITERS = ["file", "model", "report", "ONNX"]


@pytest.fixture(scope="module")
def vae():
    return VAETransformer(2, hidden_layer_sizes=(3,), max_epochs=1).fit(np.eye(8))


@pytest.fixture(params=WRITERS)
def write(request, vae):
    """Return what writes a file of this kind, of each one where a test says nothing else."""
    if request.param == "ONNX":
        pytest.importorskip("onnx")
    return {
        "file": _write,
        "model": vae.save,
        "report": FactorReport("<p>ü</p>", {}).save,
        "ONNX": lambda path: to_onnx(vae, path),
    }[request.param]


def _write(path, data=b"new"):
    with replacing(path) as file:
        file.write(data)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@posix
@pytest.mark.parametrize(
    ("old", "write"),
    covering([0o600, 0o640, 0o664, 0o444, 0o755], WRITERS),
    indirect=["write"],
)
def test_a_replaced_file_keeps_its_permissions(write, old, tmp_path):
    (tmp_path / "m").write_bytes(b"old")
    (tmp_path / "m").chmod(old)
    write(tmp_path / "m")
    assert mode(tmp_path / "m") == old
    assert (tmp_path / "m").read_bytes() != b"old" and os.listdir(tmp_path) == ["m"]


@posix
@pytest.mark.parametrize(
    ("umask", "write"), covering([0o022, 0o077, 0o002], WRITERS), indirect=["write"]
)
def test_a_new_file_has_the_permissions_of_any_new_file(umask, write, tmp_path):
    before = os.umask(umask)
    try:
        write(tmp_path / "m")
    finally:
        os.umask(before)
    assert mode(tmp_path / "m") == 0o666 & ~umask


@posix
def test_while_it_is_written_only_those_read_a_file_who_may_read_the_old_one(tmp_path):
    (tmp_path / "m").write_bytes(b"old")
    (tmp_path / "m").chmod(0o600)
    with replacing(tmp_path / "m"):
        (new,) = set(os.listdir(tmp_path)) - {"m"}
        assert mode(tmp_path / new) == 0o600


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_a_replaced_file_keeps_its_owner_and_group(tmp_path):
    (tmp_path / "m").write_bytes(b"old")
    os.chown(tmp_path / "m", 1234, 5678)
    _write(tmp_path / "m")
    found = os.stat(tmp_path / "m")
    assert (found.st_uid, found.st_gid) == (1234, 5678)


@posix
def test_a_group_that_cannot_be_kept_gives_no_other_group_its_rights(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError

    (tmp_path / "m").write_bytes(b"old")
    (tmp_path / "m").chmod(0o664)
    if os.geteuid() == 0:
        os.chown(tmp_path / "m", -1, 5678)
        monkeypatch.setattr(os, "fchown", refuse)
        _write(tmp_path / "m")
        assert mode(tmp_path / "m") == 0o644


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), ValueError("bug")])
def test_an_error_leaves_the_old_file_and_nothing_else(error, tmp_path):
    (tmp_path / "m").write_bytes(b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "m") as file:
        file.write(b"half")
        raise error
    assert (tmp_path / "m").read_bytes() == b"old" and os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize(
    ("call", "write"), covering(["fsync", "replace"], WRITERS), indirect=["write"]
)
def test_a_failed_write_leaves_the_old_file(write, call, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    (tmp_path / "m").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"old" and os.listdir(tmp_path) == ["m"]


@posix
def test_file_and_directory_are_on_the_disk_afterwards(write, tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(descriptor):
        synced.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "m")
    assert synced == [stat.S_IFREG, stat.S_IFDIR]


def test_a_wrapper_for_text_may_close_the_file(tmp_path):
    with replacing(tmp_path / "m") as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        text.write("ü\n")
    assert (tmp_path / "m").read_bytes() == "ü\n".encode()


KILLED = """
import os, signal, sys
from sklearn_classvsc._files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
@pytest.mark.parametrize("write", ["model"], indirect=True)
def test_what_a_killed_write_left_goes_with_the_next_write(write, tmp_path):
    result = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "m"], check=False)
    assert result.returncode == -signal.SIGKILL and len(os.listdir(tmp_path)) == 1
    write(tmp_path / "other")  # to another file leaves it
    assert len(os.listdir(tmp_path)) == 2
    write(tmp_path / "m")
    assert sorted(os.listdir(tmp_path)) == ["m", "other"]


@posix
def test_what_another_process_is_writing_stays(tmp_path):
    pause = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "print(); input()")
    command = [sys.executable, "-c", pause, tmp_path / "m"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        child.stdout.readline()
        _write(tmp_path / "m")
        assert len(os.listdir(tmp_path)) == 2
        child.communicate(b"\n")
    assert child.returncode == 0 and os.listdir(tmp_path) == ["m"]
    assert (tmp_path / "m").read_bytes() == b"half"


def test_threads_that_replace_one_file_do_not_disturb_each_other(tmp_path):
    errors = []

    def write(letter):
        try:
            for _ in range(50):
                _write(tmp_path / "m", letter * 10_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and os.listdir(tmp_path) == ["m"]
    assert len(set((tmp_path / "m").read_bytes())) == 1


@posix
@pytest.mark.parametrize(
    ("kind", "write"),
    covering(["directory", "pipe", "device", "descriptor", "link to one"], WRITERS),
    indirect=["write"],
)
def test_what_is_no_regular_file_is_refused_and_left_alone(kind, write, tmp_path):
    path = tmp_path / "m"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to one":
        path.symlink_to("/dev/null")
    elif kind == "device":
        path = "/dev/full"
    with open(tmp_path / "log", "wb") as log:
        if kind == "descriptor":
            path = f"/dev/fd/{log.fileno()}"
        with pytest.raises(OSError, match=r"is not a regular file\. Name another path"):
            write(path)
        with pytest.raises(OSError, match="is not a regular file"):
            check_writable(path)
        assert os.path.sameopenfile(log.fileno(), os.open(tmp_path / "log", os.O_RDONLY))


def test_a_missing_folder_is_named(write, tmp_path):
    path = tmp_path / "none" / "model"
    for attempt in (write, check_writable):
        with pytest.raises(FileNotFoundError, match=r"The folder of .*model does not exist"):
            attempt(path)


@posix
def test_links_stay_links_and_loops_are_refused(write, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "m").symlink_to("folder/m")
    for _ in range(2):  # where it leads there is nothing, then a file
        write(tmp_path / "m")
        assert (tmp_path / "m").is_symlink() and os.listdir(tmp_path / "folder") == ["m"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop"):
        write(tmp_path / "loop")
    assert (tmp_path / "loop").is_symlink()


def test_a_directory_that_is_not_there_is_an_error(write, tmp_path):
    for path in (tmp_path / "none" / "m", tmp_path / "file" / "m"):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError):
            write(path)
        with pytest.raises(OSError):
            check_writable(path)


# Trees of arrays and JSON -----------------------------------------------------------------------


class Pair(NamedTuple):
    one: object
    two: object


CODEC = Codec((Pair,), dict)
TREE = {
    "array": np.arange(6.0).reshape(2, 3),
    "big-endian": np.arange(3, dtype=">i4"),
    "scalar": np.float32(0.1),
    "list": [1, 0.1, True, None, "ä", [np.array([True])]],
    "pair": Pair((1, "two"), {"$": 3}),
    "numbers": {0: np.zeros(0, np.uint8), 7: {}},
}


def store(tree, path):
    tensors = {}
    write_tree(path, {"format": FORMAT, "tree": CODEC.encode(tree, "", tensors)}, tensors)


def restore(path):
    with open(path, "rb") as file:
        reading = Reading(file)
        tensors = reading.tensors()
        tree = CODEC.decode(reading.part("tree"), tensors)
    assert not tensors
    return tree


def test_a_tree_comes_back_with_its_types(tmp_path):
    store(TREE, tmp_path / "tree")
    tree = restore(tmp_path / "tree")
    np.testing.assert_equal(tree, TREE)
    assert list(tree) == list(TREE) and type(tree["pair"]) is Pair
    assert type(tree["scalar"]) is np.float32 and tree["array"].flags.writeable
    assert tree["big-endian"].dtype == np.dtype("<i4")
    assert is_tree(tmp_path / "tree")


@pytest.mark.parametrize("dtype", ["U3", object])
def test_labels_come_back_once_their_number_is_known(dtype, tmp_path):
    for labels in (np.array(["a", "", "ü\ud800"], dtype), np.array([1, None, "x"], object)):
        store(labels, tmp_path / "tree")
        held = restore(tmp_path / "tree")
        assert type(held) is Labels
        np.testing.assert_array_equal(label_array(held, 3), labels, strict=True)
    store(np.array(["a", "b", "c"]), tmp_path / "tree")
    with pytest.raises(ModelFileError, match="found 3 names"):
        label_array(restore(tmp_path / "tree"), 2)


def test_rows_of_unlike_keys_come_back(tmp_path):
    history = [
        {"batches": [], "epoch": 1, "loss": 0.5},
        {"batches": [], "epoch": 2, "loss": 0.25, "note": "a"},
    ]
    store(history, tmp_path / "tree")
    assert rows(restore(tmp_path / "tree").columns) == history


def test_what_a_tree_does_not_hold_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"some/where .set. cannot be saved"):
        store({"some": {"where": {1}}}, tmp_path / "tree")
    with pytest.raises(ValueError, match="two arrays are named a/b"):
        store({"a/b": np.zeros(1), "a": {"b": np.zeros(1)}}, tmp_path / "tree")
    with pytest.raises(ValueError, match="The parts that are not arrays take"):
        store("long" * HEADER_LIMIT, tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_what_is_declared_takes_no_memory(tmp_path):
    store(TREE, tmp_path / "tree")
    with open(tmp_path / "tree", "rb") as file:
        declared = Reading(file).blank()
    assert declared["array"].shape == (2, 3) and declared["array"].strides == (0, 0)


def test_a_flipped_bit_of_the_data_is_refused(tmp_path):
    store(TREE, tmp_path / "tree")
    content = (tmp_path / "tree").read_bytes()
    data = 8 + int.from_bytes(content[:8], "little")
    for i in range(data, len(content)):
        flipped = bytearray(content)
        flipped[i] ^= 1 << (i % 8)
        (tmp_path / "tree").write_bytes(flipped)
        with pytest.raises(ModelFileError, match="SHA-256"):
            restore(tmp_path / "tree")
