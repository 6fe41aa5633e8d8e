"""Specification of the check of a user's own bodies: what it lets pass, and what it finds."""

import importlib
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.nn.utils import skip_init

from sklearn_classvsc.testing import check_body

P, D = 6, 4


class Perceptron(nn.Module):
    """What docs/architectures.md shows."""

    def __init__(self, n_in, n_hidden=16):
        super().__init__()
        self.linear = nn.Linear(n_in, n_hidden)
        self.norm = nn.LayerNorm(n_hidden)

    def forward(self, x):
        return torch.relu(self.norm(self.linear(x)))


class Orthogonal(BaseEstimator):
    """A recipe of one layer."""

    def build(self, n_in, generator):
        layer = skip_init(nn.Linear, n_in, 5)
        nn.init.orthogonal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        return nn.Sequential(layer, nn.Tanh())


class MakesTheta(nn.Linear):
    makes_theta = True


GOOD = {
    "an identity": nn.Identity(),
    "a layer": nn.Linear(P, 9),
    "a module": Perceptron(P),
    "a recipe": Orthogonal(),
    "frozen layers": nn.Linear(P, 9).requires_grad_(False),
    "integer buffers": nn.Sequential(nn.Linear(P, 9)),
    "convolutions": nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.GroupNorm(1, 4), nn.Flatten()
    ),
}
GOOD["integer buffers"].register_buffer("steps", torch.tensor(3))


@pytest.mark.parametrize("name", GOOD)
def test_bodies_that_keep_the_protocol_pass(name):
    check_body(GOOD[name], n_features=P)


def test_a_decoder_may_make_theta_and_must_then_have_the_width_of_a_sample():
    check_body(decoder=MakesTheta(D, P), n_features=P, n_components=D)
    check_body(Perceptron(P), Perceptron(D), n_features=P, n_components=D)
    with pytest.raises(AssertionError, match=r"decoder \(MakesTheta\): makes theta of width 5.* 6"):
        check_body(decoder=MakesTheta(D, 5), n_features=P, n_components=D)


@pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
def test_the_page_on_architectures_runs(tmp_path, monkeypatch):
    """Its blocks run as they stand, one after the other, as a module: classes must be picklable."""
    page = Path(__file__).parents[1] / "docs" / "architectures.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 4
    (tmp_path / "page_on_architectures.py").write_text("\n".join(blocks))
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("page_on_architectures").est.transform


# What is found ---------------------------------------------------------------------------------


class Function(nn.Module):
    """A body around a function of the input."""

    function = staticmethod(lambda x: x)

    def forward(self, x):
        return type(self).function(x)


def function(f):
    return type("Own", (Function,), {"function": staticmethod(f)})()


class PlainTensor(Perceptron):
    def __init__(self, n_in):
        super().__init__(n_in)
        self.shift = torch.ones(16)

    def forward(self, x):
        return super().forward(x) + self.shift


class Unused(Perceptron):
    def __init__(self, n_in):
        super().__init__(n_in)
        self.spare = nn.Linear(2, 2)


class Counts(Perceptron):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Dimmer(Perceptron):
    """A plain number decides the output, and `load_state_dict` does not bring it."""

    def __init__(self, n_in, dim):
        super().__init__(n_in)
        self.dim = dim

    def forward(self, x):
        return self.dim * super().forward(x)


class Dims(BaseEstimator):
    def build(self, n_in, generator):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(99, (), generator=generator)))
            return Dimmer(n_in, random.Random(generator.initial_seed()).random())


class Detached(Perceptron):
    def forward(self, x):
        return super().forward(x).detach()


class Rounds(nn.Linear):
    def forward(self, x):
        return super().forward(x.detach())


class Norm(nn.Linear):
    def forward(self, x):
        return super().forward(x.square().sum(1, keepdim=True).sqrt() * x)


class Anonymous:
    build = Orthogonal.build


def builds(function):
    return type("Own", (), {"build": lambda self, n_in, generator: function(n_in, generator)})()


BAD = {
    "another width": (nn.Linear(P + 1, 9), r"batch of shape \(16, 6\) it raised RuntimeError"),
    "one axis": (function(lambda x: x.sum(1)), r"returned \(16,\).*\(16, n_hidden\)"),
    "no tensor": (function(lambda x: (x, x)), "returned <class 'tuple'>"),
    "no features": (function(lambda x: x[:, :0]), r"returned \(16, 0\)"),
    "float64": (function(lambda x: x.double()), "torch.float64"),
    "weights in float64": (nn.Linear(P, 9).double(), "weight is torch.float64"),
    "lazy": (nn.LazyLinear(4), "weight is lazy.*width, which is 6"),
    "not finite": (function(lambda x: 1 / x), "not finite"),
    "no empty batch": (
        function(lambda x: x / len(x) ** 0 + 0 / x.shape[0]),
        r"batch of shape \(0, 6\) it raised ZeroDivisionError",
    ),
    "squeezes": (function(lambda x: x.squeeze()), r"shape \(1, 6\) it returned \(6,\)"),
    "BatchNorm": (nn.Sequential(nn.Linear(P, 9), nn.BatchNorm1d(9)), "in training.*LayerNorm"),
    "mean of the batch": (function(lambda x: x - x.mean(0)), "depend on the other samples"),
    "dropout": (nn.Dropout(0.5), "in training: a pass draws from a global random state"),
    "noise of numpy": (
        function(lambda x: x + float(np.random.random())),
        "draws from a global random state",
    ),
    "noise of random": (function(lambda x: x + random.random()), "draws from a global random"),
    "own noise": (
        function(lambda x: x + float(np.random.default_rng().random())),
        "other features the second time",
    ),
    "counts": (Counts(P), "other features the second time"),
    "writes": (function(lambda x: x.mul_(2)), "writes into its input"),
    "plain tensor": (PlainTensor(P), "shift is a tensor.*register_buffer"),
    "unused": (Unused(P), "do not reach spare.weight"),
    "detached": (Detached(P), "do not reach any parameter"),
    "no pickle": (nn.Sequential(nn.Linear(P, 9), function(torch.relu)), "cannot be pickled"),
    "class": (Perceptron, "neither an nn.Module nor an object with a method build"),
    "no module": (builds(lambda n, g: torch.relu), "build returns a builtin_function"),
    "global draw": (builds(lambda n, g: nn.Linear(n, 3)), "build draws from.*skip_init"),
    "other weights": (
        builds(lambda n, g: _filled(n, float(np.random.default_rng().random()))),
        "different weights from the same generator",
    ),
    "same weights": (builds(lambda n, g: _filled(n, 1.0)), "same weights from different"),
    "no repr": (Anonymous(), "another repr after pickle.*BaseEstimator"),
    "state outside": (Dims(), "another output after load_state_dict"),
}


def _filled(n_in, value):
    layer = skip_init(nn.Linear, n_in, 3)
    nn.init.constant_(layer.weight, value)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_protocol_is_found_and_named(name):
    body, message = BAD[name]
    with pytest.raises(AssertionError, match=rf"(?s)encoder \({type(body).__name__}\).*{message}"):
        check_body(body, n_features=P)


def test_a_decoder_must_let_gradients_through_to_the_codes():
    check_body(Rounds(P, 9), n_features=P)
    with pytest.raises(AssertionError, match=r"decoder \(Rounds\): gradients do not reach the cod"):
        check_body(decoder=Rounds(D, 9), n_features=P, n_components=D)


def test_gradients_that_are_not_finite_are_found():
    with pytest.raises(AssertionError, match=r"gradient.* not finite"):
        check_body(decoder=Norm(D, 9), n_features=P, n_components=D)


def test_nothing_is_changed():
    body = Perceptron(P)
    body.eval()
    before = {name: x.clone() for name, x in body.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    check_body(body, n_features=P)
    with pytest.raises(AssertionError):
        check_body(nn.Dropout(0.5), n_features=P)
    assert not body.training and body.linear.weight.grad is None
    assert all(torch.equal(x, before[name]) for name, x in body.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all() and random.getstate() == states[2]


def test_no_body_is_an_error():
    with pytest.raises(ValueError, match="encoder=None and decoder=None"):
        check_body(n_features=math.prod((2, 3)))
