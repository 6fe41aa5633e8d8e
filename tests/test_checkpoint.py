"""Specification of training that survives: checkpoints, resuming, Ctrl-C, disks that fail."""

import copy
import errno
import math
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import covering, small
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from sklearn_classvsc import (
    ClassVSCTransformer,
    ModelFileError,
    VAETransformer,
    VSCTransformer,
    _checkpoint,
    _files,
    _persistence,
)
from sklearn_classvsc._net import VSCNet
from sklearn_classvsc._training import Training

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
each_estimator = pytest.mark.parametrize(
    "cls", [VAETransformer, VSCTransformer, ClassVSCTransformer]
)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(50, 5)) * [1, 10, 1e3, 1, 1], np.arange(50) % 3
W = rng.integers(1, 4, 50).astype(float)
EPOCHS = 6


class Crash(BaseException):
    """The end of the process, as far as the estimator can tell."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fit.safetensors"


@pytest.fixture(autouse=True)
def every_epoch_is_written(monkeypatch):
    monkeypatch.setattr(_checkpoint, "COST", math.inf)


def make(cls=ClassVSCTransformer, **parameters):
    return small(cls, **{"max_epochs": EPOCHS, "batch_size": 20} | parameters)


def crash(estimator, epochs, *data, **kwargs):
    """Fit until the file of epoch `epochs` is written, and die there."""
    written, save = [], _persistence.save

    def save_and_crash(path, *args):
        save(path, *args)
        written.append(path)
        if len(written) == epochs:
            raise Crash

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(_persistence, "save", save_and_crash)
        estimator.fit(*data, **kwargs)


def assert_same(one, two, X=X):
    """Compare what is learned, and how it goes on learning, to the last bit."""
    np.testing.assert_equal(one.__getstate__(), two.__getstate__())
    for name in ("transform", "score_samples"):
        np.testing.assert_array_equal(getattr(one, name)(X), getattr(two, name)(X), strict=True)
    pd.testing.assert_frame_equal(one.history_, two.history_)


# Resuming --------------------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("cls", "epochs"),
    covering([VAETransformer, VSCTransformer, ClassVSCTransformer], [1, 3, EPOCHS]),
)
def test_a_fit_that_crashed_and_resumed_is_the_fit_that_did_not(cls, early_stopping, epochs, file):
    parameters = {"early_stopping": early_stopping, "validation_fraction": 0.3}
    whole = make(cls, **parameters).fit(X, Y, W)
    estimator = make(cls, **parameters)
    crash(estimator, epochs, X, Y, W, checkpoint=file)
    assert not hasattr(estimator, "module_")
    resumed = make(cls, **parameters).fit(X, Y, W, checkpoint=str(file), resume=True)
    assert_same(whole, resumed)
    assert_same(whole.partial_fit(X, Y), resumed.partial_fit(X, Y))
    assert os.listdir(file.parent) == [file.name]


def test_the_best_classifiers_so_far_are_in_the_file(file):
    """Those of later epochs are worse, and are taken back at the end."""
    parameters = {"max_epochs": 60, "learning_rate": 0.05}
    whole = make(**parameters).fit(X, Y)
    held_out = whole.history_["held_out_recognition"]
    assert held_out.idxmin() < 40 and held_out.iloc[-1] > held_out.min()
    crash(make(**parameters), 50, X, Y, checkpoint=file)
    saved = ClassVSCTransformer.load(file).__getstate__()["_pending_state"]["honest"]
    assert saved["loss"] == held_out[:50].min()
    assert_same(whole, make(**parameters).fit(X, Y, checkpoint=file, resume=True))


def test_a_fit_that_crashes_again_and_again_arrives(file):
    whole = make().fit(X, Y)
    for _ in range(EPOCHS - 1):
        crash(make(), 1, X, Y, checkpoint=file, resume=True)
    assert_same(whole, make().fit(X, Y, checkpoint=file, resume=True))


def test_early_stopping_goes_on_counting(file):
    parameters = {
        "early_stopping": True,
        "n_iter_no_change": 4,
        "max_epochs": 500,
        "learning_rate": 0.3,
    }
    whole = make(**parameters).fit(X, Y)
    assert whole.stop_reason_ == "early_stopping" and whole.n_iter_ > 5
    for epochs in (whole.n_iter_ - 1, whole.n_iter_ - 3):
        crash(make(**parameters), epochs, X, Y, checkpoint=file)
        assert_same(whole, make(**parameters).fit(X, Y, checkpoint=file, resume=True))


def test_without_a_seed_the_one_that_was_drawn_goes_on(file):
    """The whole fit is the one whose every file is kept; the resumed one starts from the third."""
    parameters = {"random_state": None, "early_stopping": True, "validation_fraction": 0.3}
    files, save = [], _persistence.save

    def keep(path, *args):
        save(path, *args)
        files.append(path.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_persistence, "save", keep)
        whole = make(**parameters).fit(X, Y, checkpoint=file)
    file.write_bytes(files[2])
    assert_same(whole, make(**parameters).fit(X, Y, checkpoint=file, resume=True))


def test_a_warm_start_resumes_with_its_history(file):
    first = make(warm_start=True).fit(X, Y)
    whole = pickle.loads(pickle.dumps(first)).fit(X, Y)
    crash(first, 2, X, Y, checkpoint=file)
    assert first.n_iter_ == EPOCHS
    resumed = make(warm_start=True).fit(X, Y, checkpoint=file, resume=True)
    assert resumed.n_iter_ == 2 * EPOCHS
    assert_same(whole, resumed)


@pytest.mark.parametrize(
    "data", [sparse.csr_array(X), pd.DataFrame(X, columns=list("abcde")), X.astype(np.float32)]
)
def test_data_of_every_kind_resume(data, file):
    crash(make(), 2, data, Y, checkpoint=file)
    assert_same(make().fit(data, Y), make().fit(data, Y, checkpoint=file, resume=True), data)


def test_labels_that_are_strings_and_missing_ones_resume(file):
    y = np.array(["a", "b", "", "c"])[np.arange(50) % 4]
    crash(make(unlabeled=""), 2, X, y, checkpoint=file)
    resumed = make(unlabeled="").fit(X, y, checkpoint=file, resume=True)
    assert_same(make(unlabeled="").fit(X, y), resumed)


def test_resume_without_a_file_starts_afresh_and_without_resume_the_file_is_replaced(file):
    whole = make().fit(X, Y)
    assert_same(whole, make().fit(X, Y, checkpoint=file, resume=True))
    crash(make(random_state=1), 2, X, Y, checkpoint=file)
    assert_same(whole, make().fit(X, Y, checkpoint=file))


def test_a_finished_fit_is_returned_without_training(file, monkeypatch):
    whole = make().fit(X, Y, checkpoint=file)
    before = file.stat().st_mtime_ns, file.read_bytes()
    monkeypatch.setattr("sklearn_classvsc._net.VSCNet.train", None)
    again = make().fit(X, Y, checkpoint=file, resume=True)
    monkeypatch.undo()
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    assert_same(whole, again)
    assert_same(whole.partial_fit(X, Y), again.partial_fit(X, Y))


def test_fit_transform_and_pipelines_pass_both_on(file):
    codes = make().fit_transform(X, Y)
    crash(make(), 2, X, Y, checkpoint=file)
    assert np.array_equal(make().fit_transform(X, Y, checkpoint=file, resume=True), codes)
    file.unlink()
    pipe, step = make_pipeline(StandardScaler(), make()), "classvsctransformer"
    named, resumed = {f"{step}__checkpoint": file}, {f"{step}__resume": True}
    whole = clone(pipe).fit(X, Y).transform(X)
    crash(clone(pipe), 2, X, Y, **named)
    assert np.array_equal(clone(pipe).fit(X, Y, **named, **resumed).transform(X), whole)
    with config_context(enable_metadata_routing=True):
        estimator = make().set_fit_request(checkpoint=True, resume=True)
        routed = make_pipeline(StandardScaler(), estimator)
        crash(clone(routed), 2, X, Y, checkpoint=file)
        resumed = routed.fit(X, Y, checkpoint=file, resume=True)
        assert np.array_equal(resumed.transform(X), whole)


def test_what_does_not_change_the_weights_may_differ(file):
    crash(make(), 2, X, Y, checkpoint=file)
    free = {"threshold": 0.7, "sparse_output": True, "warm_start": True, "verbose": 0}
    resumed = make(**free, hidden_layer_sizes=[16]).fit(X, Y, checkpoint=file, resume=True)
    whole = make(threshold=0.7).fit(X, Y)
    assert np.array_equal(resumed.transform(X).toarray(), whole.transform(X))


# Files of other fits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "named", "finished"),
    [
        ({"learning_rate": 0.1}, r"learning_rate=0\.016, now 0\.1", False),
        ({"max_epochs": EPOCHS + 1}, "max_epochs=6, now 7", True),
        ({"alpha": 0.3}, r"alpha=None, now 0\.3", False),
        ({"random_state": None}, "random_state=0, now None", True),
        ({"hidden_layer_sizes": (16, 16)}, "hidden_layer_sizes", False),
        (
            {"batch_size": 10, "warmup": 0.1},
            r"batch_size=20, now 10|warmup=0\.5, now 0\.1",
            False,
        ),
    ],
)
def test_other_parameters_are_refused_by_name(parameters, named, finished, file):
    make().fit(X, Y, checkpoint=file) if finished else crash(make(), 2, X, Y, checkpoint=file)
    content = file.read_bytes()
    estimator = make(**parameters)
    with pytest.raises(ValueError, match=f"checkpoint=.*{named}.*resume=False"):
        estimator.fit(X, Y, checkpoint=file, resume=True)
    assert file.read_bytes() == content
    assert not hasattr(estimator, "n_features_in_")


def changed(array, *place_and_value):
    *place, value = place_and_value
    copy = array.copy()
    copy[tuple(place)] = value
    return copy


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ((changed(X, 17, 3, 0.5), Y, W), "X"),
        ((X[::-1], Y, W), "X"),
        ((X[:49], Y[:49], W[:49]), r"shape \[50, 5\], now \[49, 5\]"),
        ((X.astype(np.float32), Y, W), "dtype float64, now float32"),
        ((sparse.csr_array(X), Y, W), "dtype float64, now sparse float64"),
        ((pd.DataFrame(X, columns=list("abcde")), Y, W), "features"),
        ((X, changed(Y, 4, 0), W), "y"),
        ((X, Y + 1, W), "y"),
        ((X, Y, changed(W, 9, 7)), "sample_weight"),
        ((X, Y), "sample_weight"),
    ],
)
def test_other_data_are_refused_by_name(data, named, file):
    crash(make(), 2, X, Y, W, checkpoint=file)
    with pytest.raises(ValueError, match=rf"data: .*\b{named}[;.]"):
        make().fit(*data, checkpoint=file, resume=True)


@pytest.mark.parametrize("kind", ["array", "pieces"])
def test_labels_in_another_order_are_other_data(kind, file):
    data, other = _held(kind, X, Y), _held(kind, X, np.r_[Y[1], Y[0], Y[2:]])
    crash(make(), 2, *data, checkpoint=file)
    with pytest.raises(ValueError, match=r"data: (X and )?y[;.]"):
        make().fit(*other, checkpoint=file, resume=True)


@pytest.mark.parametrize(
    ("kind", "row"), [("array", 1), ("array", 49), ("pieces", 7), ("pieces", 49)]
)
def test_another_row_anywhere_makes_other_data(kind, row, file):
    other = X.copy()
    other[row, 2] += 1e-9
    crash(make(), 2, *_held(kind, X, Y), checkpoint=file)
    with pytest.raises(ValueError, match=r"data: X( and y)?[;.]"):
        make().fit(*_held(kind, other, Y), checkpoint=file, resume=True)


@pytest.mark.parametrize("kind", ["array", "pieces"])
def test_how_numbers_are_printed_does_not_make_other_data(kind, file):
    crash(make(), 2, *_held(kind, X, Y), checkpoint=file)
    with np.printoptions(precision=1, threshold=2, edgeitems=1):
        resumed = make().fit(*_held(kind, X, Y), checkpoint=file, resume=True)
    assert resumed.n_iter_ == EPOCHS


def test_how_zeros_are_stored_does_not_make_other_data(file):
    Z = X * (abs(X) > 0.5)
    full = sparse.csr_array(np.ones_like(Z))
    full.data[:] = Z.ravel()
    crash(make(), 2, sparse.csr_array(Z), Y, checkpoint=file)
    assert make().fit(full, Y, checkpoint=file, resume=True).n_iter_ == EPOCHS


def _held(kind, X, y):
    """Return X and y as they are, or as pieces that hold both."""
    return (X, y) if kind == "array" else ([(X[:30], y[:30]), (X[30:], y[30:])].__iter__,)


def test_many_long_names_and_labels_are_written_and_resumed(file):
    names = np.char.add("n" * 160, np.arange(30_000).astype(str))
    frame = pd.DataFrame(np.eye(4, 30_000), columns=names)
    params = {"hidden_layer_sizes": (1,), "n_components": 1, "max_epochs": 1, "batch_size": 4}
    estimator = VAETransformer(**params, random_state=0).fit(frame, checkpoint=file)
    loaded = VAETransformer.load(file)
    np.testing.assert_array_equal(loaded.feature_names_in_, names.astype(object))
    np.testing.assert_array_equal(
        estimator.transform(frame),
        make(VAETransformer, **params).fit(frame, checkpoint=file, resume=True).transform(frame),
    )


def test_a_long_history_of_unlike_epochs_is_written(file):
    estimator = make(VAETransformer, max_epochs=2).fit(X)
    first = dict(estimator.net_.history[0])
    for i in range(3, 30_000):
        row = first | {"epoch": i} | ({"extra": 0.5} if i % 100 == 0 else {})
        estimator.net_.history.append(row)
    state = estimator.__getstate__() | {"n_iter_": i}
    _persistence.save(file, VAETransformer, state)
    loaded = VAETransformer.load(file)
    assert loaded.n_iter_ == len(loaded.history_) == i
    assert loaded.history_["extra"].notna().sum() == 299
    assert loaded.history_.train_loss.iloc[-1] == first["train_loss"]


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"max_epochs": 10**6 + 1}, "1000001 epochs.*Lower max_epochs"),
        ({"hidden_layer_sizes": (1,) * 1001}, "hidden layers is 1001.*at most 1000"),
    ],
)
def test_what_no_file_holds_is_refused_before_training(params, named, file, monkeypatch):
    monkeypatch.setattr(VSCNet, "train", None)
    with pytest.raises(ValueError, match=rf"(?s)checkpoint=.*{named}"):
        make(**params).fit(X, Y, checkpoint=file)
    assert not file.exists()


def test_a_model_a_damaged_file_and_another_class_are_refused(file):
    make().fit(X, Y).save(file)
    with pytest.raises(ModelFileError, match=r"without the plan.*resume=False"):
        make().fit(X, Y, checkpoint=file, resume=True)
    crash(make(), 2, X, Y, checkpoint=file)
    with pytest.raises(ModelFileError, match=r"class 'ClassVSCTransformer'"):
        make(VSCTransformer).fit(X, checkpoint=file, resume=True)
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match="SHA-256"):
        make().fit(X, Y, checkpoint=file, resume=True)


def test_resume_without_a_checkpoint_names_both():
    with pytest.raises(ValueError, match=r"resume=True.*checkpoint=None"):
        make().fit(X, Y, resume=True)


# What a checkpoint is --------------------------------------------------------------------------


@each_estimator
def test_a_checkpoint_is_a_model_of_the_last_finished_epoch(cls, file):
    crash(make(cls), 3, X, Y, checkpoint=file)
    model = cls.load(file)
    assert model.n_iter_ == len(model.history_) == 3
    assert model.stop_reason_ == "interrupted"
    assert np.isfinite(model.score(X))
    assert not hasattr(model, "_checkpoint")
    if cls is ClassVSCTransformer:
        assert np.isfinite(model.sample(3, y=1)).all()
    model.partial_fit(X, Y).save(file)
    assert cls.load(file).n_iter_ == 4
    whole = make(cls).fit(X, Y, checkpoint=file)
    assert_same(whole, cls.load(file))


@pytest.mark.parametrize("path", [1, True, ["m"], ""])
def test_a_checkpoint_that_names_no_file_is_refused(path):
    with pytest.raises(ValueError, match=r"checkpoint=.* names no file. Pass"):
        make().fit(X, Y, checkpoint=path)


def test_no_file_says_where_to_write(file):
    make().fit(X, Y, checkpoint=file)
    assert str(file.parent).encode() not in file.read_bytes()
    loaded = ClassVSCTransformer.load(file)
    assert "checkpoint" not in loaded.get_params()
    loaded.save(file)
    assert str(file.parent).encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": nn.Linear(5, 4)},
        {"decoder": nn.Linear(6, 4)},
        {"callbacks": [Callback()]},
        {"random_state": np.random.RandomState(0)},
    ],
    ids=lambda params: next(iter(params)),
)
def test_what_a_file_cannot_hold_is_refused_before_training(params, file, monkeypatch):
    monkeypatch.setattr("sklearn_classvsc._net.VSCNet.train", None)
    estimator = make(**params)
    with pytest.raises(ValueError, match=f"{next(iter(params))}="):
        estimator.fit(X, Y, checkpoint=file)
    assert not hasattr(estimator, "module_") and not file.exists()


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1 / 128, [1, 5, 9, 12]), (0.5, [1, 12]), (0, [*range(1, 13), 12])]
)
def test_writing_is_rare_where_epochs_are_short(seconds, expected, file, monkeypatch):
    now, writes, save = [0.0], [], _persistence.save

    def save_for_a_while(path, cls, state):
        save(path, cls, state)
        now[0] += seconds
        writes.append(state["n_iter_"])

    def epoch_of_an_eighth_of_a_second(self, *args):
        now[0] += 1 / 8
        return write_if_cheap(self, *args)

    write_if_cheap = _checkpoint.Checkpoint.write_if_cheap
    monkeypatch.setattr(_checkpoint, "COST", 1 / 64)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(_persistence, "save", save_for_a_while)
    monkeypatch.setattr(_checkpoint.Checkpoint, "write_if_cheap", epoch_of_an_eighth_of_a_second)
    make(max_epochs=12).fit(X, Y, checkpoint=file)
    assert writes == expected


def test_what_killed_writes_left_is_cleared_away_and_nothing_else(file):
    for name in (_files._temporary(file), file.with_name(".mine.tmp")):
        name.write_bytes(b"half")
    make().fit(X, Y, checkpoint=file)
    assert sorted(os.listdir(file.parent)) == [".mine.tmp", file.name]


def test_a_file_of_another_kind_is_not_replaced(file):
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"checkpoint='.*fit.safetensors' .*Name another"):
        make().fit(X, Y, checkpoint=file)
    assert file.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("parameters", "labels", "named"),
    [
        ({"alpha": pd.Series([0.2] * 6)}, Y, "params/alpha"),
        ({}, np.datetime64("2026-01-01") + Y, "classes_"),
    ],
)
def test_what_is_no_data_is_refused_before_training(parameters, labels, named, file):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="checkpoint=") as e:
        patch.setattr(VSCNet, "train", None)
        make(**parameters).fit(X, labels, checkpoint=file)
    assert named in str(e.value) and not file.exists()


def test_fits_that_share_a_file_do_not_disturb_each_other(file):
    def fit(alpha):
        make(alpha=alpha, max_epochs=20).fit(X, Y, checkpoint=file)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fit, (0.1, 0.2, 0.3, 0.4)))
    assert ClassVSCTransformer.load(file).n_iter_ == 20


SCRIPT = """
import os, sys, numpy as np
from sklearn_classvsc import VSCTransformer, _checkpoint
_checkpoint.COST = float("inf")
X = np.random.default_rng(0).normal(size=(200, 5))
est = VSCTransformer(4, hidden_layer_sizes=(8,), max_epochs=100, random_state=0)
codes = est.fit(X, checkpoint=sys.argv[1], resume=True).transform(X)
whole = est.fit(X).transform(X)
sys.exit(not np.array_equal(codes, whole))
"""


def test_kill_9_and_resume(file):
    command = [sys.executable, "-c", SCRIPT, os.fspath(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None and not file.exists():
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < VSCTransformer.load(file).n_iter_ < 100
    assert subprocess.run(command, env=environment).returncode == 0


# Ctrl-C ----------------------------------------------------------------------------------------


class ControlC(Callback):
    """Presses Ctrl-C in a batch of an epoch, or at its end."""

    def __init__(self, epoch, event="on_batch_end"):
        self.epoch, self.event = epoch, event

    def press(self, event, net):
        if event == self.event and len(net.history) == self.epoch:
            self.epoch = None
            signal.raise_signal(signal.SIGINT)

    def on_batch_end(self, net, **kwargs):
        self.press("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self.press("on_epoch_end", net)


@pytest.mark.parametrize(
    ("cls", "event"),
    covering(
        [VAETransformer, VSCTransformer, ClassVSCTransformer], ["on_batch_end", "on_epoch_end"]
    ),
)
def test_control_c_leaves_what_was_learned_and_is_raised(cls, event):
    estimator = make(cls, callbacks=[ControlC(4, event)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert estimator.stop_reason_ == "interrupted"
    assert estimator.n_iter_ == len(estimator.history_) == 3
    after = make(cls, max_epochs=3).fit(X, Y).score(X)
    assert estimator.score(X) == pytest.approx(after, abs=0.2 * abs(after))
    twin = pickle.loads(pickle.dumps(estimator))
    assert_same_learned(twin.partial_fit(X, Y), estimator.partial_fit(X, Y))


def test_after_control_c_the_file_resumes_to_the_identical_result(file):
    estimator = make()
    train_step = VSCNet.train_step

    def interrupt(net, batch, **kwargs):
        if len(net.history) == 4:
            raise KeyboardInterrupt
        return train_step(net, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(VSCNet, "train_step", interrupt)
        estimator.fit(X, Y, checkpoint=file)
    assert ClassVSCTransformer.load(file).n_iter_ == estimator.n_iter_ == 3
    assert_same(make().fit(X, Y), estimator.fit(X, Y, checkpoint=file, resume=True))


def test_control_c_within_an_optimiser_s_step_leaves_gradients_on():
    class WithinStep(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history) == 2:
                torch.set_grad_enabled(False)  # as Adam's step does, and then restores
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(callbacks=[WithinStep()]).fit(X, Y)
    assert torch.is_grad_enabled()


def test_control_c_while_weights_are_drawn_leaves_gradients_on():
    class Interrupted:
        def build(self, n_in, generator):
            torch.set_grad_enabled(False)  # as drawing does, and then restores
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(encoder=Interrupted()).fit(X, Y)
    assert torch.is_grad_enabled()


def test_control_c_before_an_epoch_is_finished_leaves_the_estimator_as_it_was():
    estimator = make(callbacks=[ControlC(1)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert vars(estimator) == vars(make(callbacks=estimator.callbacks))
    estimator.fit(X, Y)
    estimator.callbacks[0].epoch = 1
    before = pickle.dumps(estimator.__getstate__()["_pending_state"])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:30], Y[:30])
    assert pickle.dumps(estimator.__getstate__()["_pending_state"]) == before


def test_control_c_in_partial_fit_leaves_the_estimator_as_it_was():
    estimator = make(callbacks=[ControlC(None)]).fit(X, Y)
    twin = pickle.loads(pickle.dumps(estimator))
    estimator.callbacks[0].epoch = EPOCHS + 1
    with pytest.raises(KeyboardInterrupt):
        estimator.partial_fit(X, Y)
    assert_same_learned(twin, estimator)
    assert_same_learned(twin.partial_fit(X, Y), estimator.partial_fit(X, Y))


def assert_same_learned(one, two):
    assert_same(one.set_params(callbacks=None), two.set_params(callbacks=None))


def test_control_c_in_a_warm_start_keeps_the_epochs_before(file):
    estimator = make(warm_start=True).fit(X, Y)
    estimator.set_params(callbacks=[ControlC(EPOCHS + 3)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == EPOCHS + 2


def test_control_c_under_early_stopping_leaves_the_best_epoch_so_far():
    parameters = {"early_stopping": True, "learning_rate": 0.3, "max_epochs": 500}
    whole = make(**parameters).fit(X, Y)
    best = int(whole.history_["valid_loss"].idxmin()) + 1
    assert best < whole.n_iter_ - 3
    estimator = make(**parameters, callbacks=[ControlC(best + 3)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert estimator.n_iter_ == best + 2
    assert np.array_equal(estimator.transform(X), whole.transform(X))


def test_a_callback_that_stops_training_is_no_control_c():
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    estimator = make(callbacks=[Stop()]).fit(X, Y)
    assert estimator.stop_reason_ == "callback" and estimator.n_iter_ == 1


def press_control_c():
    signal.raise_signal(signal.SIGINT)


class Handler:
    """A handler of signals that is an object of the user's own."""

    def __call__(self, number, frame):
        self.stop()

    def stop(self):
        raise KeyboardInterrupt("mine")


@pytest.mark.parametrize(
    ("handler", "number"),
    covering(
        [signal.default_int_handler, Handler(), Handler().__call__],
        [signal.SIGINT, signal.SIGTERM],
    ),
)
def test_a_handler_that_raises_is_no_callback_s_stop(number, handler):
    class Signal(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                signal.raise_signal(number)

    before = signal.signal(number, handler)
    try:
        estimator = make(callbacks=[Signal()])
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X, Y)
        assert estimator.stop_reason_ == "interrupted" and estimator.n_iter_ == 1
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_callback_stops_training_though_a_signal_came():
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            signal.raise_signal(signal.SIGTERM)
            raise KeyboardInterrupt

    seen = []
    before = signal.signal(signal.SIGTERM, lambda *given: seen.append(given))
    try:
        assert make(callbacks=[Stop()]).fit(X, Y).stop_reason_ == "callback"
        assert len(seen) == 1
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_callback_s_own_handler_is_left_to_it():
    class Installs(Callback):
        def on_epoch_end(self, net, **kwargs):
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    before = signal.getsignal(signal.SIGINT)
    try:
        make(callbacks=[Installs()]).fit(X, Y)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_callback_stops_training_in_a_thread():
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    estimator = make(callbacks=[Stop()])
    thread = threading.Thread(target=estimator.fit, args=(X, Y))
    thread.start()
    thread.join()
    assert estimator.stop_reason_ == "callback"


@pytest.mark.parametrize("in_place", [False, True])
def test_a_second_control_c_leaves_the_estimator_as_it_was(in_place, monkeypatch):
    """The first keeps what was learned; the second comes while that is put together."""
    estimator = make(warm_start=True)
    if in_place:
        estimator.fit(X, Y)
    twin, names = copy.deepcopy(estimator), set(vars(estimator))
    estimator.set_params(callbacks=[ControlC(EPOCHS * in_place + 2)])
    model = Training.model

    def interrupted(self, *args):
        press_control_c()
        return model(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "model", interrupted)
        estimator.fit(X, Y)
    estimator.set_params(callbacks=None)
    assert in_place or set(vars(estimator)) == names
    assert_same(twin.fit(X, Y), estimator.fit(X, Y))


@pytest.mark.parametrize(
    "around", [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu")]
)
def test_control_c_leaves_the_settings_of_torch_around_a_fit(around):
    def now():
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        return grad, inference, torch.is_autocast_enabled("cpu")

    outside = now()
    with around():
        before = now()
        estimator = make(callbacks=[ControlC(2)])
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X, Y)
        assert now() == before
    assert now() == outside
    estimator.set_params(callbacks=None).partial_fit(X, Y)


class Source:
    """Chunks of X and Y; the reading of this number fails."""

    def __init__(self, fails, error):
        self.fails, self.error, self.readings = fails, error, 0

    def __call__(self):
        self.readings += 1
        for start in (0, 25):
            if self.readings == self.fails and start:
                raise self.error
            yield X[start : start + 25], Y[start : start + 25]


@pytest.mark.parametrize(
    ("fails", "error"),
    covering([1, 2, 4, EPOCHS + 2], [OSError("network"), TimeoutError("late"), ValueError("mine")]),
)
@pytest.mark.parametrize("fitted", [False, True])
def test_a_source_that_fails_leaves_the_estimator_as_it_was(error, fails, fitted, file):
    estimator = make()
    if fitted:
        estimator.fit(X, Y, checkpoint=file)
    before = copy.deepcopy(estimator)
    with pytest.raises(type(error), match=str(error)):
        estimator.fit(Source(fails, error), checkpoint=file)
    assert hasattr(estimator, "module_") == fitted
    if fitted:
        assert_same(before, estimator)


def test_a_callback_that_cannot_write_leaves_the_estimator_as_it_was():
    class Log(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise BrokenPipeError("log")

    estimator = make(callbacks=[Log()])
    with pytest.raises(BrokenPipeError, match="log"):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "module_")


@pytest.mark.parametrize(
    ("call", "error"),
    [("fsync", OSError(errno.ENOSPC, "disk full")), ("replace", KeyboardInterrupt())],
)
def test_a_failed_write_leaves_the_old_file_and_the_last_epoch(call, error, file, monkeypatch):
    calls, real = [], getattr(os, call)

    def fail_the_third_time(*args):
        if call == "fsync" and stat.S_ISDIR(os.fstat(*args).st_mode):
            return real(*args)
        calls.append(file.read_bytes() if file.exists() else None)
        if len(calls) == 3:
            raise error
        return real(*args)

    monkeypatch.setattr(os, call, fail_the_third_time)
    estimator = make()
    with pytest.raises(type(error)):
        estimator.fit(X, Y, checkpoint=file)
    assert estimator.stop_reason_ == "interrupted" and estimator.n_iter_ == 3
    assert file.read_bytes() == calls[2] and os.listdir(file.parent) == [file.name]
    monkeypatch.undo()
    assert ClassVSCTransformer.load(file).n_iter_ == 2
    assert_same(make().fit(X, Y), make().fit(X, Y, checkpoint=file, resume=True))


def test_a_place_that_takes_no_file_raises_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_classvsc._net.VSCNet.train", None)
    with pytest.raises(FileNotFoundError):
        make().fit(X, Y, checkpoint=tmp_path / "none" / "fit")
    for path in (tmp_path, "/dev/full"):
        with pytest.raises(OSError, match="not a regular file"):
            make().fit(X, Y, checkpoint=path)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            make().fit(X, Y, checkpoint=tmp_path / "fit")


def test_a_last_write_that_fails_leaves_the_finished_fit(file, monkeypatch):
    write = _checkpoint.Checkpoint.write

    def fail(self, cls, state, plan):
        if plan.finished:
            raise OSError(errno.ENOSPC, "disk full")
        write(self, cls, state, plan)

    monkeypatch.setattr(_checkpoint.Checkpoint, "write", fail)
    estimator = make()
    with pytest.raises(OSError, match="disk full"):
        estimator.fit(X, Y, checkpoint=file)
    assert_same(make().fit(X, Y), estimator)


def test_a_fit_in_a_thread_writes_and_resumes(file):
    whole = make().fit(X, Y)
    crash(make(), 2, X, Y, checkpoint=file)
    estimator = make()
    how = {"checkpoint": file, "resume": True}
    thread = threading.Thread(target=estimator.fit, args=(X, Y), kwargs=how)
    thread.start()
    thread.join()
    assert_same(whole, estimator)


# Found on the way ------------------------------------------------------------------------------


def test_a_copy_that_is_fitted_afresh_is_copied_as_it_is_then():
    copy = pickle.loads(pickle.dumps(make().fit(X, Y)))
    copy.fit(X[:30], Y[:30])
    assert_same(copy, pickle.loads(pickle.dumps(copy)))
