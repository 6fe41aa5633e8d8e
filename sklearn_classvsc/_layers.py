"""Room 3: the layers that networks are made of, and how their weights begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._blocks import coo

#: What models are made of, whatever torch's default is.
SINGLE = torch.float32
#: Each follows a normalising layer, whose backward pass does not look at what came out of it: a
#: ReLU may write over that.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def hide_features(x: Tensor, fraction: float, generator: torch.Generator | None) -> Tensor:
    """Set about a `fraction` of the values of x to 0, and scale the others up to make up for it.

    So many positions are drawn, with replacement, that each of many is hit with that probability:
    a fifth of the time of a draw for every value. A handful of values may have none hidden. Of
    sparse x the non-zero values are drawn from: to hide a zero changes nothing.
    """
    if x.is_sparse:
        return coo(x.indices(), hide_features(x.values(), fraction, generator), x.shape)
    n_draws = round(-math.log1p(-fraction) * x.numel())
    if not n_draws:
        return x
    hidden = torch.randint(x.numel(), (n_draws,), generator=generator, device=x.device)
    return (x / (1 - fraction)).flatten().index_fill_(0, hidden, 0).view_as(x)


def fill_missing(x: Tensor) -> Tensor:
    """Set the values of x that were not observed, NaN, to 0; infinity stays."""
    if x.is_sparse:
        return coo(x.indices(), fill_missing(x.values()), x.shape)
    return x.nan_to_num(0, math.inf, -math.inf)


class Linear(nn.Linear):
    """A linear layer that takes sparse samples too, coalesced COO tensors."""

    def reset_parameters(self) -> None:
        """Leave the weights to `initialize`: torch would draw them from its global state."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_sparse:
            return super().forward(x)
        rows, columns = x.indices()
        is_used = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
        is_used[columns] = True
        used, place = is_used.nonzero()[:, 0], is_used.cumsum(0) - 1
        x = coo(torch.stack([rows, place[columns]]), x.values(), (len(x), len(used)))
        # The used weights are brought together first: the product would go through all memory.
        weight = self.weight.index_select(1, used).T.contiguous()
        with torch.autocast(x.device.type, enabled=False):
            return torch.sparse.mm(x, weight) + self.bias


class MLP(nn.Sequential):
    """A body of our own."""


class Residual(nn.Sequential):
    """Add to the features of a layer those it is made of, cut or filled with zeros to fit."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        return out + F.pad(x, (0, out.shape[1] - x.shape[1]))


def mlp(n_in: int, hidden: Sequence[int], activation: str) -> MLP:
    """Return a body of (linear, LayerNorm, activation) layers, uninitialised.

    Normalising before each activation keeps features of any scale, and outliers, from
    saturating it; it depends on one sample only, so an output never depends on its batch. From the
    second on layers are residual: each would else normalise noise of the codes to the size of
    what they say, and the decoder learn to ignore them.
    """
    layers: list[nn.Module] = []
    for n_out in hidden:
        layer = [linear(n_in, n_out), nn.LayerNorm(n_out, dtype=SINGLE), ACTIVATIONS[activation]()]
        layers += [Residual(*layer)] if layers else layer
        n_in = n_out
    return MLP(*layers)


def linear(n_in: int, n_out: int) -> Linear:
    """Return a linear layer whose weights are left to `initialize`."""
    return Linear(n_in, n_out, dtype=SINGLE)


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of the linear layers in `module` from `generator`, not torch's global one.

    A body's layers keep the variance through a ReLU (He, Zhang, Ren, Sun, ICCV 2015); a head, a
    bare linear layer, has torch's own default.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            if layer is module:
                bound = 1 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
