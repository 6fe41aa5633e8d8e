"""Room 3: the layers of the networks, and the initial weights of these layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._blocks import coo

#: dtype of all weights, whatever torch's default is.
SINGLE = torch.float32
#: Each follows a normalising layer. The backward pass of that layer does not need its own output,
#: so a ReLU may overwrite it.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def hide_features(x: Tensor, fraction: float, generator: torch.Generator | None) -> Tensor:
    """Set about a `fraction` of the values of x to 0, and scale up the others to compensate.

    Positions are drawn with replacement, as many as hit each value with this probability. That
    takes a fifth of the time of a draw for every value. Of a few values, none may be hidden. In
    sparse x, only non-zero values are drawn, because a hidden zero changes nothing.
    """
    if x.is_sparse:
        return coo(x.indices(), hide_features(x.values(), fraction, generator), x.shape)
    n_draws = round(-math.log1p(-fraction) * x.numel())
    if not n_draws:
        return x
    hidden = torch.randint(x.numel(), (n_draws,), generator=generator, device=x.device)
    return (x / (1 - fraction)).flatten().index_fill_(0, hidden, 0).view_as(x)


def fill_missing(x: Tensor) -> Tensor:
    """Set the missing values of x, NaN, to 0. Infinity stays."""
    if x.is_sparse:
        return coo(x.indices(), fill_missing(x.values()), x.shape)
    return x.nan_to_num(0, math.inf, -math.inf)


class Linear(nn.Linear):
    """A linear layer that also takes sparse samples, as coalesced COO tensors."""

    def reset_parameters(self) -> None:
        """Leave the weights to `initialize`, because torch would draw from its global state."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_sparse:
            return super().forward(x)
        rows, columns = x.indices()
        is_used = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
        is_used[columns] = True
        used, place = is_used.nonzero()[:, 0], is_used.cumsum(0) - 1
        x = coo(torch.stack([rows, place[columns]]), x.values(), (len(x), len(used)))
        # Gather the used weights first. Without this, the product would read all of the weights.
        weight = self.weight.index_select(1, used).T.contiguous()
        with torch.autocast(x.device.type, enabled=False):
            return torch.sparse.mm(x, weight) + self.bias


class MLP(nn.Sequential):
    """A body that this package built."""


class Residual(nn.Sequential):
    """Layers that add their input to their output, cut or padded with zeros to fit."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        return out + F.pad(x, (0, out.shape[1] - x.shape[1]))


def mlp(n_in: int, hidden: Sequence[int], activation: str) -> MLP:
    """Return a body of (linear, LayerNorm, activation) layers, uninitialised.

    LayerNorm before each activation keeps features of any scale, and outliers, from saturating it.
    It depends on one sample only, so an output never depends on its batch. Layers from the second
    on are residual. Otherwise each layer would normalise the noise of the codes to the size of
    their signal, and the decoder would learn to ignore the codes.
    """
    layers: list[nn.Module] = []
    for n_out in hidden:
        layer = [linear(n_in, n_out), nn.LayerNorm(n_out, dtype=SINGLE), ACTIVATIONS[activation]()]
        layers += [Residual(*layer)] if layers else layer
        n_in = n_out
    return MLP(*layers)


def linear(n_in: int, n_out: int) -> Linear:
    """Return a linear layer without weights; `initialize` draws them."""
    return Linear(n_in, n_out, dtype=SINGLE)


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of the linear layers in `module` from `generator`.

    The layers of a body keep the variance through a ReLU (He, Zhang, Ren, Sun, ICCV 2015). A head,
    which is a single linear layer, has torch's default range.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            if layer is module:
                bound = 1 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
