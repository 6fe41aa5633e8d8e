"""Specification of what goes on around a model's work, and does not reach it."""

import copy
import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import covering, small
from sklearn.base import clone
from torch import nn

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc.bodies import ConvDecoder, ConvEncoder, ResidualMLP
from sklearn_classvsc.testing import check_body

pytestmark = pytest.mark.filterwarnings("ignore")
rng = np.random.default_rng(0)
X, Y = rng.random((30, 16)), np.arange(30) % 3


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def everything():
    with default_dtype(torch.float64), torch.device("meta"), torch.autocast("cpu"):
        with torch.inference_mode():
            yield


SETTINGS = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "default device": lambda: default_device("meta"),
    "device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients set off": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic": deterministic,
    "anomaly": torch.autograd.detect_anomaly,
    "everything": everything,
}
MODELS = {
    "vae": lambda: small(VAETransformer),
    "class": lambda: small(ClassVSCTransformer),
    "learned prior": lambda: small(VSCTransformer, prior="pseudo_inputs", n_pseudo_inputs=4),
    "bfloat16": lambda: small(VSCTransformer, device="cpu+bfloat16"),
    "counts": lambda: small(VSCTransformer, likelihood="negative_binomial"),
    "convolutions": lambda: small(
        VSCTransformer,
        encoder=ConvEncoder((1, 4, 4), channels=(2,)),
        decoder=ConvDecoder((1, 4, 4), channels=(2,)),
    ),
}
settings = pytest.mark.parametrize("setting", SETTINGS)
models = pytest.mark.parametrize(
    ("setting", "model"),
    [(setting, "class") for setting in SETTINGS] + [("everything", model) for model in MODELS],
)


def found(est):
    """Return what an estimator does."""
    Z = est.transform(X)
    return [
        Z,
        est.activation_proba(X),
        est.score_samples(X),
        est.inverse_transform(Z),
        est.sample(3),
    ]


def now():
    """Return how torch is set."""
    autocast = torch.is_autocast_enabled("cpu")
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast
    return *modes, torch.get_default_dtype(), torch.empty(0).device.type


@functools.cache
def undisturbed(model):
    """Return what a model does that was fitted under the settings of torch as they are."""
    return found(MODELS[model]().fit(X, Y).partial_fit(X, Y))


@models
def test_a_fit_is_the_same_whatever_torch_is_set_to(setting, model):
    expected = undisturbed(model)
    with SETTINGS[setting]():
        before = now()
        inside = MODELS[model]().fit(X, Y)
        assert now() == before
        np.testing.assert_equal(found(copy.deepcopy(inside).partial_fit(X, Y)), expected)
    np.testing.assert_equal(found(inside.partial_fit(X, Y)), expected)


@pytest.mark.parametrize(("setting", "model"), covering(SETTINGS, MODELS))
def test_what_is_loaded_or_copied_is_the_same_whatever_torch_is_set_to(setting, model, tmp_path):
    est = MODELS[model]().fit(X, Y)
    est.save(tmp_path / "model")
    content, expected = pickle.dumps(est), found(est)
    expected_next = found(copy.deepcopy(est).partial_fit(X, Y))
    with SETTINGS[setting]():
        copies = [est, type(est).load(tmp_path / "model"), pickle.loads(content)]
        copies += [copy.deepcopy(est), pickle.loads(pickle.dumps(est))]
        for each in copies:
            np.testing.assert_equal(found(each), expected)
    for each in copies:
        np.testing.assert_equal(found(each.partial_fit(X, Y)), expected_next)


@settings
def test_a_module_made_and_cloned_under_any_setting_of_torch_is_a_body(setting):
    with SETTINGS[setting]():
        if torch.empty(0).device.type == "meta":
            pytest.skip("a module without numbers is none")
        body = nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8), nn.ReLU())
        est = clone(small(VSCTransformer, encoder=body)).fit(X)
    assert np.isfinite(est.partial_fit(X).transform(X)).all()
    assert np.isfinite(clone(est).fit(X).transform(X)).all()


@settings
def test_bodies_are_checked_alike_whatever_torch_is_set_to(setting):
    with SETTINGS[setting]():
        check_body(ResidualMLP(8), n_features=16)


def test_an_error_in_a_pass_leaves_inference_mode_behind():
    class Refuses(nn.Flatten):
        def forward(self, x):
            if len(x) > 20 and not self.training:
                raise ZeroDivisionError("mine")
            return super().forward(x)

    est = small(VSCTransformer, encoder=Refuses()).fit(X)
    with pytest.raises(ZeroDivisionError) as caught:
        est.transform(X)
    assert caught.tb and not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_a_source_is_read_with_the_callers_settings():
    modes = []

    def chunks():
        modes.append(torch.is_inference_mode_enabled())
        yield X

    small(VSCTransformer).fit(X).transform(chunks)
    assert modes == [False]


# Processes ---------------------------------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def ends_in_fork(work):
    """Return whether `work` comes to its end in a forked process."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    for _ in range(300):
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("use", ["transform", "fit", "partial_fit"])
def test_a_model_is_used_after_a_fork(use, two_threads):
    wide = rng.random((2000, 300))
    est = small(VSCTransformer, hidden_layer_sizes=(128,), max_epochs=1).fit(wide)
    est.transform(wide)
    assert ends_in_fork(lambda: getattr(est, use)(wide))
    assert torch.get_num_threads() == 2


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
from sklearn_classvsc import VSCTransformer

def press():
    while "sympy.core" not in sys.modules:
        pass
    os.kill(os.getpid(), signal.SIGINT)

fit = VSCTransformer(2, hidden_layer_sizes=(4,), max_epochs=1).fit
X = np.random.default_rng(0).normal(size=(20, 3))
threading.Thread(target=press, daemon=True).start()
try:
    fit(X)
    raise SystemExit("not interrupted")
except KeyboardInterrupt:
    fit(X)
"""


@pytest.mark.slow
def test_control_c_in_the_first_fit_of_a_process_leaves_the_next_whole():
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
