"""Helpers for tests of code that extends this package."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ._guard import own_settings

__all__ = ["check_body"]


def check_body(
    encoder: Any = None, decoder: Any = None, *, n_features: int, n_components: int = 32
) -> None:
    """Check whether your own bodies follow the protocol, like scikit-learn's `check_estimator`.

    It runs them on random samples, in training and in evaluation mode. It changes neither the
    bodies nor the global random states. Call it in the tests of your project.

    Parameters
    ----------
    encoder : nn.Module, recipe or None, default=None
        Body (n, n_features) -> (n, n_hidden); see `sklearn_classvsc.bodies` for recipes.
    decoder : nn.Module, recipe or None, default=None
        Body (n, n_components) -> (n, n_hidden), or -> (n, n_features) with ``makes_theta = True``.
    n_features : int
        Number of features of the samples.
    n_components : int, default=32
        Number of dimensions of the codes.

    Raises
    ------
    AssertionError
        If a body breaks the protocol. The message says which body, how, and what to do.
    ValueError
        If no body is given.

    See Also
    --------
    sklearn_classvsc.bodies : Bodies that follow the protocol.

    Notes
    -----
    The protocol has these rules:

    - A batch of any size, even an empty one, becomes finite float32 features of one width.
    - The features of a sample depend neither on other samples of its batch nor on chance.
    - The input does not change.
    - Gradients reach every parameter, and the input of the decoder.
    - Copies, pickles and `load_state_dict` restore everything that the output depends on.
    - A recipe draws random numbers only from its generator.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_classvsc.testing import check_body
    >>> check_body(nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU()), n_features=8)
    >>> check_body(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16)), n_features=8)
    Traceback (most recent call last):
    ...
    AssertionError: encoder (Sequential), in training: ...LayerNorm or GroupNorm...
    """
    if encoder is None and decoder is None:
        raise ValueError("encoder=None and decoder=None leave nothing to check: pass a body.")
    for name, body, n_in in (("encoder", encoder, n_features), ("decoder", decoder, n_components)):
        if body is not None:
            with own_settings(gradients=True), _global_state_kept():
                _Check(f"{name} ({type(body).__name__})", body, n_in).run(
                    n_features if name == "decoder" else None
                )


class _Check:
    """The checks of one body."""

    def __init__(self, name: str, body: Any, n_in: int) -> None:
        self.name, self.body, self.n_in = name, body, n_in
        draws = torch.Generator().manual_seed(0)
        self.x = torch.randn(16, n_in, generator=draws, dtype=torch.float32)
        self.x[0] = 0  # codes may be all zero

    def run(self, n_theta: int | None) -> None:
        """Run the checks; `n_theta` is the width of theta, for a decoder."""
        module = self._build(0)
        self._check_state(module)
        for training in (True, False):
            self._check_outputs(module.train(training), ", in training" if training else "")
        if n_theta is not None and getattr(module, "makes_theta", False):
            width = self._run(module, self.x).shape[1]
            self._expect(
                width == n_theta,
                f"makes theta of width {width}, but the samples have {n_theta} features",
                "make it that wide, or leave out makes_theta",
            )
        self._check_gradients(module.train(), n_theta is not None)
        self._check_copies(module.eval())

    def _expect(self, met: bool, found: str, advice: str, where: str = "") -> None:
        if not met:
            raise AssertionError(f"{self.name}{where}: {found}: {advice}.")

    def _build(self, seed: int) -> nn.Module:
        if isinstance(self.body, nn.Module):
            return copy.deepcopy(self.body)
        self._expect(
            hasattr(self.body, "build") and not isinstance(self.body, type),
            "is neither an nn.Module nor an object with a method build(n_in, generator)",
            "pass an instance of one",
        )
        before = _global_state()
        modules = [
            self.body.build(self.n_in, torch.Generator().manual_seed(s)) for s in (seed, seed, 7)
        ]
        self._expect(
            _global_state() == before,
            "build draws from, or sets, a global random state",
            "make layers with torch.nn.utils.skip_init, and draw their weights by "
            "torch.nn.init with generator=generator",
        )
        self._expect(
            all(isinstance(module, nn.Module) for module in modules),
            f"build returns a {type(modules[0]).__name__}",
            "return an nn.Module",
        )
        first, again, other = (list(module.parameters()) for module in modules)
        self._expect(
            all(map(torch.equal, first, again)),
            "build makes different weights from the same generator",
            "draw all of them from the generator",
        )
        self._expect(
            not first or not all(map(torch.equal, first, other)),
            "build makes the same weights from different generators",
            "draw them from the generator",
        )
        return modules[0]

    def _check_state(self, module: nn.Module) -> None:
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            self._expect(
                not is_lazy(tensor),
                f"{name} is lazy, and its values would come from torch's global random state",
                f"give the layer its input width, which is {self.n_in} for the first",
            )
            self._expect(
                tensor.dtype == torch.float32 or not tensor.is_floating_point(),
                f"{name} is {tensor.dtype}",
                "make it float32, as the samples are",
            )
        for prefix, layer in module.named_modules():
            for name, value in vars(layer).items():
                self._expect(
                    not isinstance(value, Tensor),
                    f"{prefix}.{name}".lstrip(".") + " is a tensor that devices and files miss",
                    f"register_buffer({name!r}, ...), or make it an nn.Parameter",
                )

    def _check_outputs(self, module: nn.Module, where: str) -> None:
        x, before = self.x, _global_state()
        given = x.clone()
        out = self._run(module, given, where)
        self._expect(
            _global_state() == before,
            "a pass draws from a global random state, so that a random_state does not decide it",
            "leave dropout and noise out",
            where,
        )
        self._expect(
            torch.equal(given, x), "writes into its input", "use x * 2, not x.mul_(2)", where
        )
        again = self._run(module, x, where)
        self._expect(
            torch.equal(again, out),
            "the same samples have other features the second time",
            "let a pass change nothing and draw nothing",
            where,
        )
        others = x.clone()
        others[1:] = 1 - 3 * x[1:].flip(0)
        self._expect(
            _close(self._run(module, others, where)[:1], out[:1]),
            "the features of a sample depend on the other samples of its batch",
            "normalise each sample separately, with LayerNorm or GroupNorm instead of BatchNorm",
            where,
        )
        for n in (1, 0):
            self._expect(
                _close(self._run(module, x[:n], where), out[:n]),
                f"a batch of {n} has another output, or width, than its rows in a batch of "
                f"{len(x)}",
                "treat every sample separately",
                where,
            )

    def _check_gradients(self, module: nn.Module, of_input: bool) -> None:
        x = self.x.clone().requires_grad_(of_input)
        out = self._run(module, x)
        # Random weights, since the gradient of the plain sum of a normalised output is zero.
        draws = torch.Generator().manual_seed(1)
        weight = torch.randn(out.shape, generator=draws, dtype=torch.float32)
        missing = "gradients do not reach "
        self._expect(
            out.requires_grad or not any(p.requires_grad for p in module.parameters()),
            missing + "any parameter",
            "compute in torch, without detach() or no_grad()",
        )
        if out.requires_grad:
            (out * weight).sum().backward()
        parameters = module.named_parameters()
        learned: dict[str, Tensor] = {name: p for name, p in parameters if p.requires_grad}
        if of_input:
            learned["the codes, from which the encoder learns"] = x
        for name, tensor in learned.items():
            self._expect(
                tensor.grad is not None and bool(tensor.grad.any()),
                missing + name,
                "use it in forward, in torch, and without detach() or no_grad(), or remove it",
            )
            assert tensor.grad is not None
            self._expect(
                bool(tensor.grad.isfinite().all()),
                f"the gradient of {name} is not finite",
                "look for divisions by zero, roots and logarithms: one of the samples is zero",
            )

    def _check_copies(self, module: nn.Module) -> None:
        module.zero_grad()
        out = self._run(module, self.x)
        loaded = self._build(1).eval()
        loaded.load_state_dict(module.state_dict())
        try:
            pickled, body = pickle.loads(pickle.dumps((module, self.body)))
        except Exception as error:  # a user's code may raise anything
            raise AssertionError(
                f"{self.name}: cannot be pickled ({error!r}), but searches in several processes "
                "need that: define its classes and functions at the top of a module."
            ) from error
        self._expect(
            repr(body) == repr(self.body),
            f"another repr after pickle, {body!r} for {self.body!r}",
            "derive the recipe from sklearn.base.BaseEstimator: processes that train together "
            "compare reprs",
        )
        for how, twin in (
            ("copy.deepcopy", copy.deepcopy(module)),
            ("pickle", pickled),
            ("load_state_dict", loaded),
        ):
            self._expect(
                torch.equal(self._run(twin, self.x), out),
                f"another output after {how}",
                "keep what the output depends on in parameters, buffers and the arguments of the "
                "constructor",
            )

    def _run(self, module: nn.Module, x: Tensor, where: str = "") -> Tensor:
        """Return the output for a batch, after checking its kind."""
        shape = tuple(x.shape)
        try:
            out = module(x)
        except Exception as error:  # a user's code may raise anything
            raise AssertionError(
                f"{self.name}{where}: for a batch of shape {shape} it raised {error!r}: accept "
                "batches of any size, even empty ones, which a process without a part of it gets."
            ) from error
        found = f"{tuple(out.shape)}, {out.dtype}" if isinstance(out, Tensor) else repr(type(out))
        valid = isinstance(out, Tensor) and out.ndim == 2 and len(out) == len(x)
        valid = valid and out.shape[1] > 0 and out.dtype == torch.float32
        self._expect(
            valid,
            f"for a batch of shape {shape} it returned {found}",
            f"return a float32 tensor of shape ({len(x)}, n_hidden)",
            where,
        )
        finite, advice = bool(out.isfinite().all()), "look for divisions by zero, roots and logs"
        self._expect(finite, "returned features that are not finite", advice, where)
        assert isinstance(out, Tensor)
        return out


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def _global_state() -> bytes:
    return pickle.dumps((torch.get_rng_state().numpy(), np.random.get_state(), random.getstate()))


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Restore the global random states."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
