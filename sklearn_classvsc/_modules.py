"""Room 3: the networks, x -> q(z | x) -> z -> theta, the decoder's output."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ._blocks import Blocks, coo
from ._guard import import_undisturbed
from ._likelihoods import Counts, Likelihood
from ._messages import brief
from ._spike_slab import SpikeSlab

#: What models are made of, whatever torch's default is.
SINGLE = torch.float32
#: Values of dense x above which theta, as large, is not held at once.
LARGE = 2**22

#: Each follows a normalising layer, whose backward pass does not look at what came out of it: a
#: ReLU may write over that.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Priors(NamedTuple):
    """The m priors that a sample may have, and how well each suits it."""

    q: SpikeSlab  # (m, d)
    scores: Tensor  # (n, m)


class Pass(NamedTuple):
    """What one forward pass produces, under the names the objective uses."""

    q: SpikeSlab  # posterior of the codes, (n, d)
    z: Tensor  # sampled codes, (n, d)
    theta: Tensor | Blocks  # decoder output, (n, p)
    priors: Priors | None = None  # None: one for all, of fixed parameters


class Recipe(Protocol):
    """What makes a new body for every fit, such as those in `bodies`."""

    def build(self, n_in: int, generator: torch.Generator) -> nn.Module:
        """Return a body for input of shape (n, n_in), its weights drawn from `generator`."""


class SpikeSlabAutoencoder(nn.Module):
    """The whole model: prior p(z), decoder with likelihood p(x | z), encoder q(z | x).

    The *bodies* map to hidden features and may be the user's own; the *heads*, linear layers from
    the bodies' features to the parameters of the posterior and of the likelihood, are ours. A
    decoder that has `makes_theta` set has none: its output is theta.

    Parameters
    ----------
    n_features : int
        Size p of a sample.
    encoder, decoder : nn.Module
        Bodies (n, p) -> (n, h) and (n, d) -> (n, h).
    likelihood : Likelihood
        What theta means: p(x | z).
    alpha : Tensor of shape (d,)
        Prior probability of each dimension to be active.
    prior_mean : float
        Prior mean of the slabs; their prior variance is 1.
    gated : bool
        False leaves the spike out (gamma = 1): a plain VAE.
    input_dropout : float
        Fraction of the features hidden from the encoder, while the decoder must still make them.
    n_classes : int
        Number C of classes; 0 without labels.
    temperature : float
        Temperature of the straight-through gates.
    n_pseudo_inputs : int
        Number m of learned inputs whose posteriors are the priors; 0: the prior is fixed.
    """

    alpha: Tensor
    class_profile: Tensor  # running mean of gamma in each class, (C, d)
    pseudo_inputs: PseudoInputs | None

    def __init__(
        self,
        n_features: int,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        alpha: Tensor,
        prior_mean: float,
        gated: bool,
        input_dropout: float = 0.0,
        n_classes: int = 0,
        temperature: float = 0.5,
        n_pseudo_inputs: int = 0,
    ) -> None:
        super().__init__()
        self.prior_mean, self.gated, self.temperature = prior_mean, gated, temperature
        self.input_dropout = input_dropout
        n_components = len(alpha)
        self.register_buffer("alpha", alpha)
        profile = torch.full((n_classes, n_components), 0.5, dtype=SINGLE)
        self.register_buffer("class_profile", profile)
        self.encoder = encoder
        n_parameters = (3 if gated else 2) * n_components
        n_seen = _width(encoder, n_features, "encoder")
        self.encoder_head = linear(n_seen, n_parameters)
        self.decoder = decoder
        n_hidden = _width(decoder, n_components, "decoder")
        makes_theta = getattr(decoder, "makes_theta", False)
        if makes_theta and n_hidden != n_features:
            raise ValueError(
                f"decoder={brief(decoder)} has makes_theta=True and returns {n_hidden} features, "
                f"but a sample has {n_features}: they must be as many. A ConvDecoder makes those "
                "of its image_shape."
            )
        self.decoder_head = nn.Identity() if makes_theta else linear(n_hidden, n_features)
        self.likelihood = likelihood
        self.pseudo_inputs = (
            PseudoInputs(n_pseudo_inputs, n_features, n_seen) if n_pseudo_inputs else None
        )

    def encode(self, x: Tensor) -> SpikeSlab:
        """Return q(z | x) for x of shape (n, p), dense or a coalesced COO tensor."""
        return self._posterior(self._features(self.likelihood.encoder_input(x)))

    def _features(self, x: Tensor) -> Tensor:
        """Return what the encoder's body makes of what it sees, (n, h)."""
        if x.is_sparse and not isinstance(self.encoder, MLP):
            x = x.to_dense()
        features: Tensor = self.encoder(x)
        return features

    def _posterior(self, features: Tensor) -> SpikeSlab:
        parameters = self.encoder_head(features)  # (n, 3 d), or (n, 2 d) without gates
        # Under autocast they come in lower precision, and are converted back.
        # Views, not copies: over rows of their own a sigmoid rounds alike, whatever the batch.
        mu, log_var, *logits = parameters.to(self.alpha.dtype).split(len(self.alpha), dim=1)
        # Far outside what any code uses, and inside what exp and its gradient stand.
        log_var = F.hardtanh(log_var, -10, 6)
        return SpikeSlab(logits[0] if self.gated else None, mu, log_var)

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameter theta, of shape (n, p), for z of shape (n, d)."""
        theta: Tensor = self.decoder_head(self.decoder(z))
        return theta.to(z.dtype)

    def decode_for(self, z: Tensor, x: Tensor) -> Tensor | Blocks:
        """Return theta for z of shape (n, d), for this x: in blocks if x is sparse or large."""
        large = self.likelihood.dense_blocks and x.numel() > LARGE
        if not (x.is_sparse or large) or not isinstance(self.decoder_head, nn.Linear):
            return self.decode(z)
        hidden, kind = self.decoder(z).to(z.dtype), z.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
        return Blocks(hidden, self.decoder_head.weight, self.decoder_head.bias, low)

    @torch.no_grad()
    def start_at(self, means: Tensor) -> None:
        """Let a new decoder of counts start at these means of the features, (p,).

        A feature that is never seen counts half of the rarest.
        """
        assert isinstance(self.likelihood, Counts)
        self.likelihood.library_size.copy_(means.sum())
        if means.any() and isinstance(self.decoder_head, nn.Linear):
            least = means[means > 0].min() / 2
            self.decoder_head.bias.copy_((means.clamp_min(least) / means.sum()).log())

    def forward(
        self, x: Tensor, generator: torch.Generator | None = None, slab_fraction: float = 1.0
    ) -> Pass:
        """Encode, sample, decode; below 1, `slab_fraction` is as in `SpikeSlab.tempered`."""
        seen = self.likelihood.encoder_input(x)
        if self.training and self.input_dropout > 0:
            seen = hide_features(seen, self.input_dropout, generator)
        features = self._features(seen)
        q, priors = self._posterior(features), self._priors(features)
        if slab_fraction < 1:
            q = q.tempered(slab_fraction)
            priors = priors and priors._replace(q=priors.q.tempered(slab_fraction))
        z = q.rsample(generator, self.temperature)
        return Pass(q, z, self.decode_for(z, x), priors)

    # -- the prior ------------------------------------------------------------------------------

    def prior_posteriors(self) -> SpikeSlab:
        """Return the posteriors of the pseudo-inputs, (m, d): the parts of the learned prior."""
        assert self.pseudo_inputs is not None
        return self._posterior(
            self._features(self.likelihood.to_input_range(self.pseudo_inputs.free))
        )

    def _priors(self, features: Tensor) -> Priors | None:
        if self.pseudo_inputs is None:
            return None
        scores = self.pseudo_inputs.selector(features).to(self.alpha.dtype)
        return Priors(self.prior_posteriors(), scores)

    def prior_kl(self, q: SpikeSlab, x: Tensor) -> Tensor:
        """Return KL(q(z | x) || p(z)), or an upper bound, in nats, (n,); q is `encode(x)`.

        The learned prior is the mixture sum_u pi_u q(z | x_u), with pi_u how often u is selected.
        It is at least pi_u q(z | x_u) for the u that the selector names, hence the bound.
        """
        if self.pseudo_inputs is None:
            return q.kl(self.alpha, self.prior_mean).sum(1)
        priors = self._priors(self._features(self.likelihood.encoder_input(x)))
        assert priors is not None
        selected = priors.scores.argmax(1)
        prior = priors.q[selected]
        kl = (q.slab_kl_from(prior) + q.spike_kl_from(prior)).sum(1)
        return kl - self.pseudo_inputs.proportions().log()[selected]


class PseudoInputs(nn.Module):
    """Inputs that are learned: the posteriors that the encoder gives them make up the prior.

    Parameters
    ----------
    n_inputs : int
        Their number m.
    n_features : int
        Number p of features.
    n_seen : int
        Number h of features of the encoder's body, by which the selector names one for a sample.

    References
    ----------
    Tomczak, Welling: VAE with a VampPrior, AISTATS 2018.
    """

    share: Tensor  # running mean of how often each is selected, (m,)

    def __init__(self, n_inputs: int, n_features: int, n_seen: int) -> None:
        super().__init__()
        free = torch.zeros(n_inputs, n_features, dtype=SINGLE)
        self.free = nn.Parameter(free)  # see `Likelihood.to_input_range`
        self.selector = linear(n_seen, n_inputs)
        self.register_buffer("share", torch.full((n_inputs,), 1 / n_inputs, dtype=SINGLE))

    def proportions(self) -> Tensor:
        """Return the shares, (m,), none of them 0: what was never selected may be yet."""
        share = self.share + 1e-4 / len(self.share)
        return share / share.sum()

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw the inputs and the selector's weights."""
        self.free.normal_(generator=generator)
        initialize(self.selector, generator)


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


def make_autoencoder(
    n_features: int,
    *,
    encoder: nn.Module | Recipe | None,
    decoder: nn.Module | Recipe | None,
    hidden_layer_sizes: Sequence[int],
    activation: str,
    likelihood: Likelihood,
    alpha: Tensor,
    generator: torch.Generator,
    **model: Any,
) -> SpikeSlabAutoencoder:
    """Build the model and draw the weights of all but a user's own modules.

    A body is None for an MLP, a recipe with `build`, or a module: this is copied, so that every fit
    starts from the weights it came with. Dimensions that the prior wants mostly on start mostly on;
    the others start undecided. `model` holds the remaining parameters of `SpikeSlabAutoencoder`.
    """
    hidden = list(hidden_layer_sizes)
    bodies: list[nn.Module] = []
    if encoder is not None or decoder is not None:  # what takes layers off the meta device
        import_undisturbed("torch.fx.experimental.symbolic_shapes")
    for name, own, n_in, sizes in [
        ("encoder", encoder, n_features, hidden),
        ("decoder", decoder, len(alpha), hidden[::-1]),
    ]:
        if own is None:
            bodies.append(mlp(n_in, sizes, activation))
            initialize(bodies[-1], generator)  # before the model asks the bodies for their widths
        else:
            if isinstance(own, nn.Module):
                body = copy.deepcopy(own)
            else:
                body = _built(own, n_in, generator, name)
            bodies.append(body.float())  # torch's default dtype may have been another
    module = SpikeSlabAutoencoder(
        n_features, bodies[0], bodies[1], likelihood=likelihood, alpha=alpha, **model
    )
    initialize(module.encoder_head, generator)
    initialize(module.decoder_head, generator)
    if module.gated:
        with torch.no_grad():
            module.encoder_head.bias[-len(alpha) :] = torch.where(alpha > 0.5, 2.0, 0.0)
    if module.pseudo_inputs is not None:
        module.pseudo_inputs.initialize(generator)
    return module


def _built(recipe: Recipe, n_in: int, generator: torch.Generator, name: str) -> nn.Module:
    """Return what `recipe` builds."""
    if isinstance(recipe, type):
        raise ValueError(f"{name}={recipe!r} is a class: pass an instance, {recipe.__name__}().")
    body = recipe.build(n_in, generator)
    if not isinstance(body, nn.Module):
        raise ValueError(
            f"{name}={recipe!r} must build an nn.Module, but built a {type(body).__name__}."
        )
    return body


def _width(body: nn.Module, n_in: int, name: str) -> int:
    """Return how many features `body` makes of `n_in`, by asking it."""
    if any(map(is_lazy, body.parameters())):
        raise ValueError(
            f"{name}={brief(body)} has lazy layers, whose weights would come from torch's global "
            f"random state: give it the shape (n, {n_in}) of its input."
        )
    expected = f"{name}={brief(body)} must map a batch of shape (n, {n_in}) to (n, n_hidden)"
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():
            out = body(torch.zeros(1, n_in, dtype=SINGLE))
    except Exception as error:  # a user's code may raise anything
        raise ValueError(f"{expected}; for n = 1 it raised {error!r}.") from error
    finally:
        body.train(was_training)
    shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 1 or not out.shape[1]:
        raise ValueError(f"{expected}; for n = 1 it returned {shape}.")
    return int(out.shape[1])
