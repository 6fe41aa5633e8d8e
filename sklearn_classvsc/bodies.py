"""Bodies of the encoder and the decoder: convolutions, residual blocks, or your own module.

A *body* maps (n, n_in) to (n, n_hidden). The model adds the heads, which map the hidden features to
the parameters of the posterior and of the likelihood. `encoder=` and `decoder=` take

- a *recipe*, an object with `build(n_in, generator)`, which returns a new `nn.Module` whose weights
  are drawn from that `torch.Generator`. Every fit builds a new module, so that the weights depend
  only on its `random_state`. The classes of this module are recipes;
- an `nn.Module`. Every fit starts from a copy of it, with its present weights.

The module of a decoder with ``makes_theta = True`` returns the parameter of the likelihood itself,
(n, n_features), and has no head. `testing.check_body` checks your own bodies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ._layers import ACTIVATIONS, Residual
from ._messages import brief
from ._sklearn import Interval, StrOptions
from ._tables import positive_integers

__all__ = ["ConvDecoder", "ConvEncoder", "Linear", "ResidualMLP"]

#: Largest output of a layer for one sample, in numbers: 4 GB for a batch of 256.
LARGEST = 2**22
#: Width, stride and padding of a convolution that halves or doubles an image. The stride divides
#: the width, so that every pixel depends on as many others: this avoids checkerboard patterns.
HALVING = 4, 2, 1
#: Settings of layers without memory, in single precision whatever torch's default is.
META: dict[str, Any] = {"device": "meta", "dtype": torch.float32}


class Body(BaseEstimator):
    """Base class of the recipes. Equal recipes build equal layers.

    Recipes have parameters in the sense of scikit-learn: a search sets ``encoder__channels``.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "activation": [StrOptions(set(ACTIVATIONS))]
    }

    def build(self, n_in: int, generator: torch.Generator) -> nn.Module:
        """Return new layers with random weights.

        Parameters
        ----------
        n_in : int
            Width of the input: n_features for an encoder, n_components for a decoder.
        generator : torch.Generator
            Draws the weights.

        Returns
        -------
        module : nn.Module
            The layers.

        Raises
        ------
        ValueError
            If a parameter is not as described, or does not fit `n_in`.
        """
        module = self.layers(n_in).to_empty(device="cpu")
        for layer in module.modules():
            if isinstance(layer, nn.GroupNorm | nn.LayerNorm):
                layer.reset_parameters()
            elif isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                std = math.sqrt(2 / _fan_in(layer))
                nn.init.normal_(layer.weight, std=std, generator=generator)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        return module

    def layers(self, n_in: int) -> Layers:
        """Return the layers on torch's meta device, without memory or weights."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        return bool(_plain(self) == _plain(other))


class Layers(nn.Sequential):
    """Sequence of layers with their output width, and whether they make theta."""

    n_out: int
    makes_theta: bool = False

    @classmethod
    def of(cls, layers: list[nn.Module], n_out: int, makes_theta: bool = False) -> Layers:
        """Return a sequence of layers. The constructor stays torch's, since slices call it."""
        self = cls(*layers)
        self.n_out, self.makes_theta = n_out, makes_theta
        return self


class _Images(Body):
    """Recipe for images, whose features are pixels channel by channel and row by row."""

    image_shape: Sequence[int]
    channels: Sequence[int]
    activation: str

    def _stages(self) -> tuple[list[int], list[tuple[int, int]]]:
        """Return channels and sizes of the images, before the first halving and after each."""
        self._validate_params()
        shape = _positive(self, "image_shape", 3)
        channels = [shape[0], *_positive(self, "channels")]
        sizes = [(shape[1] >> i, shape[2] >> i) for i in range(len(channels))]
        if not min(sizes[-1]):
            raise ValueError(
                f"image_shape={brief(self.image_shape)} is too small to be halved "
                f"{len(channels) - 1} times, once for each of channels={brief(self.channels)} of "
                f"{type(self).__name__}: pass fewer channels."
            )
        for c, (height, width) in zip(channels, sizes, strict=True):
            _small_enough(self, c * height * width, f"{c} channels of {height} x {width}")
        if channels[-1] * math.prod(sizes[-1]) == 1:
            raise ValueError(
                f"image_shape={self.image_shape!r} and channels={self.channels!r} of "
                f"{type(self).__name__} leave one number of every sample, which normalisation "
                "sets to 0: raise the last of channels, or leave it out."
            )
        return channels, sizes


class ConvEncoder(_Images):
    """Convolutional body of an encoder of images.

    Each layer is a convolution with GroupNorm and an activation, and halves the sides of the image.

    Parameters
    ----------
    image_shape : (int, int, int), default=(1, 28, 28)
        Channels, height and width of a sample. Their product is the number of features, which are
        in the order of ``images.reshape(n, -1)``.
    channels : sequence of int, default=(32, 64)
        Output channels of each layer. The image must be large enough for so many halvings.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the layers.

    See Also
    --------
    ConvDecoder : The decoder that mirrors it.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.bodies import ConvDecoder, ConvEncoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(
    ...     n_components=8,
    ...     encoder=ConvEncoder((1, 8, 8), channels=(4, 8)),
    ...     decoder=ConvDecoder((1, 8, 8), channels=(4, 8)),
    ...     max_epochs=1,
    ...     random_state=0,
    ... ).fit(X / 16)
    >>> vsc.transform(X / 16).shape
    (1797, 8)
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        *,
        channels: Sequence[int] = (32, 64),
        activation: str = "relu",
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.activation = activation

    def layers(self, n_in: int) -> Layers:
        """Return the layers on the meta device: (n, n_in) -> (n, channels * height * width)."""
        channels, sizes = self._stages()
        shape = (channels[0], *sizes[0])
        if math.prod(shape) != n_in:
            raise ValueError(
                f"image_shape={brief(self.image_shape)} of {type(self).__name__} means samples of "
                f"{math.prod(shape)} features, but they have {n_in}: set it to (channels, height, "
                "width) of the images."
            )
        layers: list[nn.Module] = [nn.Unflatten(1, shape)]  # (n, p) -> (n, c, h, w)
        for before, after in pairwise(channels):
            layers += [
                nn.Conv2d(before, after, *HALVING, **META),
                nn.GroupNorm(1, after, **META),
                ACTIVATIONS[self.activation](),
            ]
        return Layers.of([*layers, nn.Flatten(1)], channels[-1] * math.prod(sizes[-1]))


class ConvDecoder(_Images):
    """Convolutional body of a decoder of images, the mirror of `ConvEncoder`.

    A linear layer is followed by transposed convolutions. Each doubles the sides of the image, and
    has GroupNorm and an activation before it. The last one makes theta, so that there is no head:
    a linear layer from all pixels to all pixels would cost more than all other layers.

    Parameters
    ----------
    image_shape : (int, int, int), default=(1, 28, 28)
        Channels, height and width of a sample, as for `ConvEncoder`.
    channels : sequence of int, default=(32, 64)
        Channels of the images between the layers, in the order of `ConvEncoder`. The decoder uses
        them from last to first.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the layers.

    See Also
    --------
    ConvEncoder : The encoder that it mirrors.

    Examples
    --------
    >>> import torch
    >>> from sklearn_classvsc.bodies import ConvDecoder
    >>> body = ConvDecoder((3, 32, 32)).build(16, torch.Generator())
    >>> body(torch.zeros(5, 16)).shape  # pixels of images of 3 x 32 x 32
    torch.Size([5, 3072])
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        *,
        channels: Sequence[int] = (32, 64),
        activation: str = "relu",
    ) -> None:
        self.image_shape = image_shape
        self.channels = channels
        self.activation = activation

    def layers(self, n_in: int) -> Layers:
        """Return the layers on the meta device: (n, n_in) -> (n, n_features)."""
        channels, sizes = self._stages()
        smallest = (channels[-1], *sizes[-1])
        layers: list[nn.Module] = [
            nn.Linear(n_in, math.prod(smallest), **META),
            nn.Unflatten(1, smallest),  # (n, c h w) -> (n, c, h, w)
        ]
        for i in reversed(range(len(channels) - 1)):
            odd = sizes[i][0] % 2, sizes[i][1] % 2
            before, after = channels[i + 1], channels[i]
            layers += [
                nn.GroupNorm(1, before, **META),
                ACTIVATIONS[self.activation](),
                nn.ConvTranspose2d(before, after, *HALVING, output_padding=odd, **META),
            ]
        n_features = channels[0] * math.prod(sizes[0])
        return Layers.of([*layers, nn.Flatten(1)], n_features, makes_theta=True)


class Linear(Body):
    """Empty body: encoder or decoder is only its head, a linear layer.

    A linear decoder is the easiest to interpret. If a dimension rises by 1, theta changes by one
    row of ``est.module_.decoder_head.weight.T``, whatever the other dimensions are. For counts,
    theta holds the logarithms of the rates; for standardised features, their means.

    See Also
    --------
    ResidualMLP : A deep body.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import ClassVSCTransformer
    >>> from sklearn_classvsc.bodies import Linear
    >>> X, y = load_iris(return_X_y=True)
    >>> est = ClassVSCTransformer(4, decoder=Linear(), max_epochs=300, random_state=0).fit(X, y)
    >>> est.module_.decoder_head.weight.T.shape
    torch.Size([4, 4])
    """

    def __init__(self) -> None:
        """Take no parameters."""

    def layers(self, n_in: int) -> Layers:
        """Return no layers: (n, n_in) -> (n, n_in)."""
        return Layers.of([], n_in)


class ResidualMLP(Body):
    """Body of residual blocks for an encoder or a decoder, deep but easy to train.

    A linear layer with LayerNorm and an activation makes `width` features h. Each block adds
    LayerNorm(W2 activation(LayerNorm(W1 h))) to h. LayerNorm follows every matrix, so that the
    size of the weights does not matter. With LayerNorm only before the matrices, training
    collapses at the learning rate of the estimators.

    Parameters
    ----------
    width : int, default=256
        Number of features between the blocks, at least 2.
    n_blocks : int, default=2
        Number of blocks, from 1 to 1,000.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the layers.

    See Also
    --------
    Linear : No hidden layers.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import VAETransformer
    >>> from sklearn_classvsc.bodies import ResidualMLP
    >>> X, _ = load_iris(return_X_y=True)
    >>> vae = VAETransformer(2, encoder=ResidualMLP(16), max_epochs=1, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (150, 2)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Body._parameter_constraints,
        "width": [Interval(Integral, 2, LARGEST, closed="both")],  # LayerNorm makes one number 0
        "n_blocks": [Interval(Integral, 1, 1000, closed="both")],
    }

    def __init__(self, width: int = 256, *, n_blocks: int = 2, activation: str = "relu") -> None:
        self.width = width
        self.n_blocks = n_blocks
        self.activation = activation

    def layers(self, n_in: int) -> Layers:
        """Return the layers on the meta device: (n, n_in) -> (n, width)."""
        self._validate_params()
        width, act = int(self.width), ACTIVATIONS[self.activation]
        first = _normalized(n_in, width)
        blocks = [
            Residual(*_normalized(width, width), act(), *_normalized(width, width))
            for _ in range(self.n_blocks)
        ]
        return Layers.of([*first, act(), *blocks], width)


def _normalized(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out, **META), nn.LayerNorm(n_out, **META)]


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Return the number of inputs that an output sums."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    taps = math.prod(layer.kernel_size)
    if isinstance(layer, nn.ConvTranspose2d):  # only every second weight of a row reaches a pixel
        taps //= math.prod(layer.stride)
    return layer.in_channels * taps


def _positive(recipe: Body, name: str, length: int | None = None) -> list[int]:
    """Return a parameter that must hold positive integers, as a list."""
    value = getattr(recipe, name)
    numbers = positive_integers(value)
    if not numbers or (length and len(numbers) != length):
        many = f"{length} positive integers" if length else "one positive integer for each layer"
        raise ValueError(f"{name}={brief(value)} of {type(recipe).__name__} must hold {many}.")
    return numbers


def _small_enough(recipe: Body, size: int, what: str) -> None:
    if size > LARGEST:
        raise ValueError(
            f"{recipe!r} makes {what} of every sample, which are {size} numbers, but at most "
            f"{LARGEST} are allowed: use smaller images or fewer channels."
        )


def _plain(recipe: Body) -> dict[str, Any]:
    """Return the parameters, with all sequences as lists."""
    params = recipe.get_params(deep=False).items()
    return {name: x if isinstance(x, str) or not np.ndim(x) else list(x) for name, x in params}


def recipes() -> dict[str, type[Body]]:
    """Return the recipes of this module by name, which a model file may name."""
    found = {name: globals()[name] for name in __all__}
    return {name: kind for name, kind in found.items() if issubclass(kind, Body)}
