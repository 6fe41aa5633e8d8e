"""Room 3: the networks: x -> q(z | x) -> z -> theta, the decoder's output."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ._blocks import Blocks
from ._cross_fit import ClassScores, CrossFittedGates, strength
from ._guard import import_undisturbed
from ._layers import MLP, SINGLE, Linear, fill_missing, hide_features, initialize, linear, mlp
from ._likelihoods import Counts, Likelihood
from ._messages import brief
from ._mixed import Mixed
from ._spike_slab import SpikeSlab

#: Number of values of dense x above which theta, which has as many, is not held at once.
LARGE = 2**22


class Priors(NamedTuple):
    """The m priors that a sample may have, and the selector's score of each."""

    q: SpikeSlab  # (m, d)
    scores: Tensor  # (n, m)


class Pass(NamedTuple):
    """The results of one forward pass, under the names that the objective uses."""

    q: SpikeSlab  # posterior of the codes, (n, d)
    z: Tensor  # sampled codes, (n, d)
    theta: Tensor | Blocks  # decoder output, (n, p)
    priors: Priors | None = None  # None: one fixed prior for all samples
    scores: ClassScores | None = None  # if the gates follow the class


class Recipe(Protocol):
    """An object that builds a new body for every fit, such as those in `bodies`."""

    def build(self, n_in: int, generator: torch.Generator) -> nn.Module:
        """Return a body for input of shape (n, n_in), with weights drawn from `generator`."""


class SpikeSlabAutoencoder(nn.Module):
    """The whole model: prior p(z), decoder with likelihood p(x | z), encoder q(z | x).

    The *bodies* map to hidden features. A user may pass them. The *heads* are linear layers of this
    package, from the hidden features to the parameters of the posterior and of the likelihood. A
    decoder that sets `makes_theta` has no head: its output is theta.

    Parameters
    ----------
    n_features : int
        Number p of features.
    encoder, decoder : nn.Module
        Bodies (n, p) -> (n, h) and (n, d) -> (n, h).
    likelihood : Likelihood
        Meaning of theta: p(x | z).
    alpha : Tensor of shape (d,)
        Prior probability that each dimension is active.
    prior_mean : float or ndarray of shape (d,)
        Prior mean of the slabs. Their prior variance is 1.
    gated : bool
        False leaves out the spike (gamma = 1), which gives a VAE.
    input_dropout : float
        Fraction of the values hidden from the encoder. The decoder must still reconstruct them.
    n_classes : int
        Number C of classes. 0: no labels.
    temperature : float
        Temperature of the straight-through gates.
    n_pseudo_inputs : int
        Number m of learned inputs whose posteriors are the priors. 0: the prior is fixed.
    cross_fit : dict or None
        Sizes of the `CrossFittedGates`. If the bodies are MLPs of this package, encoder and decoder
        then also have linear paths: linear relations are learned best from few samples. None: the
        gates are a head of the encoder.
    """

    alpha: Tensor
    prior_mean: Tensor  # (d,)
    class_profile: Tensor  # running mean of gamma in each class, (C, d)
    pseudo_inputs: PseudoInputs | None
    gates: CrossFittedGates | None
    encoder_path: Linear | None  # from x to mu, parallel to the encoder's body

    def __init__(
        self,
        n_features: int,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        alpha: Tensor,
        prior_mean: float | NDArray[Any],
        gated: bool,
        input_dropout: float = 0.0,
        n_classes: int = 0,
        temperature: float = 0.5,
        n_pseudo_inputs: int = 0,
        cross_fit: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.gated, self.temperature = gated, temperature
        self.input_dropout = input_dropout
        n_components = len(alpha)
        self.register_buffer("alpha", alpha)
        mean = torch.tensor(prior_mean, dtype=SINGLE).expand(n_components).clone()
        self.register_buffer("prior_mean", mean, persistent=False)
        n_profiles = 0 if cross_fit else n_classes
        profile = torch.full((n_profiles, n_components), 0.5, dtype=SINGLE)
        self.register_buffer("class_profile", profile)
        self.encoder = encoder
        n_parameters = (3 if gated and not cross_fit else 2) * n_components
        n_seen = _width(encoder, n_features, "encoder")
        self.encoder_head = linear(n_seen, n_parameters)
        self.decoder = decoder
        n_hidden = _width(decoder, n_components, "decoder")
        makes_theta = getattr(decoder, "makes_theta", False)
        if makes_theta and n_hidden != n_features:
            raise ValueError(
                f"decoder={brief(decoder)} has makes_theta=True and returns {n_hidden} features, "
                f"but a sample has {n_features}. Both numbers must be equal. A ConvDecoder returns "
                "the features of its image_shape."
            )
        self.decoder_passes_codes = bool(cross_fit) and isinstance(decoder, MLP)
        n_hidden += n_components * self.decoder_passes_codes
        self.decoder_head = nn.Identity() if makes_theta else linear(n_hidden, n_features)
        passes = bool(cross_fit) and isinstance(encoder, MLP)
        self.encoder_path = linear(n_features, n_components) if passes else None
        self.gates = (
            CrossFittedGates(n_features, n_classes, n_components, **cross_fit)
            if cross_fit
            else None
        )
        self.likelihood = likelihood
        self.pseudo_inputs = (
            PseudoInputs(n_pseudo_inputs, n_features, n_seen) if n_pseudo_inputs else None
        )

    def encode(self, x: Tensor, incomplete: bool = False) -> SpikeSlab:
        """Return q(z | x) for x of shape (n, p), dense or a coalesced COO tensor.

        The missing values of `incomplete` x are NaN.
        """
        seen = self._seen(x, incomplete)
        scores = None if self.gates is None else self.gates(seen)
        return self._posterior(self._features(seen), seen, scores)

    def _seen(self, x: Tensor, incomplete: bool) -> Tensor:
        """Return the encoder's input for x, (n, p), with 0 for missing values."""
        seen = self.likelihood.encoder_input(x)
        return fill_missing(seen) if incomplete else seen

    def _features(self, x: Tensor) -> Tensor:
        """Return the hidden features of the encoder's body, (n, h)."""
        if not isinstance(self.encoder, MLP):
            x = x.to_dense() if x.is_sparse else x
            if self.gates is not None:  # the gates see x too, and a body may write into it
                x = x.clone()
        features: Tensor = self.encoder(x)
        return features

    def _posterior(
        self, features: Tensor, seen: Tensor, scores: ClassScores | None = None
    ) -> SpikeSlab:
        parameters = self.encoder_head(features)  # (n, 3 d), or (n, 2 d) if gates follow the class
        # Under autocast, the parameters have lower precision.
        # The parts are views, not copies: with this memory layout, the rounding of a sigmoid does
        # not depend on the batch.
        mu, log_var, *logits = parameters.to(self.alpha.dtype).split(len(self.alpha), dim=1)
        # The limits lie far outside the range that codes use. exp and its gradient stay finite.
        log_var = F.hardtanh(log_var, -10, 6)
        if self.gates is None:
            return SpikeSlab(logits[0] if self.gated else None, mu, log_var)
        assert scores is not None
        if self.encoder_path is not None:
            mu = mu + self.encoder_path(seen).to(mu.dtype)
        # The classifiers learn from the labels only, not from the reconstruction.
        gamma = self.gates.gamma(self.gates.probability(scores).detach())
        return SpikeSlab(torch.logit(gamma), mu * strength(gamma), log_var, gamma)

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameter theta, of shape (n, p), for z of shape (n, d)."""
        theta: Tensor = self.decoder_head(self._decoded(z))
        return theta.to(z.dtype)

    def _decoded(self, z: Tensor) -> Tensor:
        """Return the input of the decoder's head, (n, h)."""
        hidden: Tensor = self.decoder(z)
        return torch.cat([hidden, z.to(hidden.dtype)], 1) if self.decoder_passes_codes else hidden

    def decode_for(self, z: Tensor, x: Tensor) -> Tensor | Blocks:
        """Return theta for z of shape (n, d), in blocks if x is sparse or large."""
        large = self.likelihood.dense_blocks and x.numel() > LARGE
        blocks = large or (x.is_sparse and self.likelihood.sparse_blocks)
        if not blocks or not isinstance(self.decoder_head, nn.Linear):
            return self.decode(z)
        hidden, kind = self._decoded(z).to(z.dtype), z.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
        return Blocks(hidden, self.decoder_head.weight, self.decoder_head.bias, low)

    @torch.no_grad()
    def start_at(self, means: Tensor) -> None:
        """Make a new decoder of counts start at these means of the features, (p,).

        A feature without counts starts at half the mean of the rarest feature.
        """
        of_all = isinstance(self.likelihood, Counts)
        if isinstance(self.likelihood, Counts):
            self.likelihood.library_size.copy_(means.sum())
            counts = torch.ones_like(means, dtype=torch.bool)
        else:
            assert isinstance(self.likelihood, Mixed)
            counts = self.likelihood.is_count
        means = means[counts]
        if means.any() and isinstance(self.decoder_head, nn.Linear):
            least = means[means > 0].min() / 2
            rates = means.clamp_min(least) / (means.sum() if of_all else 1)
            self.decoder_head.bias[counts] = rates.log()

    def forward(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        slab_fraction: float = 1.0,
        incomplete: bool = False,
    ) -> Pass:
        """Encode, draw and decode. `SpikeSlab.tempered` explains a `slab_fraction` below 1."""
        seen = self._seen(x, incomplete)
        scores = None
        if self.gates is not None:
            scores = self.gates(seen, generator)._replace(penalty=self.weight_penalty())
        if self.training and self.input_dropout > 0:
            seen = hide_features(seen, self.input_dropout, generator)
        features = self._features(seen)
        q, priors = self._posterior(features, seen, scores), self._priors(features)
        if slab_fraction < 1:
            q = q.tempered(slab_fraction)
            priors = priors and priors._replace(q=priors.q.tempered(slab_fraction))
        z = q.rsample(generator, self.temperature)
        return Pass(q, z, self.decode_for(z, x), priors, scores)

    def weight_penalty(self) -> Tensor:
        """Return -log of the prior of the weights, per training sample, ().

        The prior is standard normal for the classifiers, and normal with variance 1 / h for the
        heads that take h hidden features. Biases have a flat prior. Linear paths also have a flat
        prior, except for the path to counts, which has too many weights for it.
        """
        assert self.gates is not None
        d, penalty = len(self.alpha), self.gates.penalty()
        to_mu = self.encoder_head.weight[:d]
        penalty = penalty + 0.5 * to_mu.shape[1] * to_mu.square().sum()
        if isinstance(self.decoder_head, nn.Linear):
            to_theta = self.decoder_head.weight
            if self.decoder_passes_codes and not self.likelihood.counts:
                to_theta = to_theta[:, :-d]
            penalty = penalty + 0.5 * to_theta.shape[1] * to_theta.square().sum()
        return penalty / self.gates.n_samples

    # -- the prior ------------------------------------------------------------------------------

    def prior_posteriors(self) -> SpikeSlab:
        """Return the posteriors of the pseudo-inputs, (m, d), the parts of the learned prior."""
        assert self.pseudo_inputs is not None
        seen = self.likelihood.to_input_range(self.pseudo_inputs.free)
        return self._posterior(self._features(seen), seen)

    def _priors(self, features: Tensor) -> Priors | None:
        if self.pseudo_inputs is None:
            return None
        scores = self.pseudo_inputs.selector(features).to(self.alpha.dtype)
        return Priors(self.prior_posteriors(), scores)

    def prior_kl(self, q: SpikeSlab, x: Tensor, incomplete: bool = False) -> Tensor:
        """Return KL(q(z | x) || p(z)), or an upper bound, in nats, (n,); q is `encode(x)`.

        The learned prior is the mixture sum_u pi_u q(z | x_u), where pi_u is how often u is
        selected. The mixture is at least pi_u q(z | x_u) for the u that the selector picks, which
        gives the bound.
        """
        if self.pseudo_inputs is None:
            return q.kl(self.alpha, self.prior_mean).sum(1)
        priors = self._priors(self._features(self._seen(x, incomplete)))
        assert priors is not None
        selected = priors.scores.argmax(1)
        prior = priors.q[selected]
        kl = (q.slab_kl_from(prior) + q.spike_kl_from(prior)).sum(1)
        return kl - self.pseudo_inputs.proportions().log()[selected]


class PseudoInputs(nn.Module):
    """Learned inputs whose posteriors are the parts of the prior.

    Parameters
    ----------
    n_inputs : int
        Number m of inputs.
    n_features : int
        Number p of features.
    n_seen : int
        Number h of hidden features of the encoder, from which the selector picks an input.

    References
    ----------
    Tomczak, Welling: VAE with a VampPrior, AISTATS 2018.
    """

    share: Tensor  # running mean of how often each input is selected, (m,)

    def __init__(self, n_inputs: int, n_features: int, n_seen: int) -> None:
        super().__init__()
        free = torch.zeros(n_inputs, n_features, dtype=SINGLE)
        self.free = nn.Parameter(free)  # see `Likelihood.to_input_range`
        self.selector = linear(n_seen, n_inputs)
        self.register_buffer("share", torch.full((n_inputs,), 1 / n_inputs, dtype=SINGLE))

    def proportions(self) -> Tensor:
        """Return the shares, (m,). None is 0, because any input may still be selected."""
        share = self.share + 1e-4 / len(self.share)
        return share / share.sum()

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw the inputs and the selector's weights."""
        self.free.normal_(generator=generator)
        initialize(self.selector, generator)


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
    """Build the model, and draw all weights except those of a user's modules.

    A body is None for an MLP, a recipe with `build`, or a module. A module is copied, so that every
    fit starts from its weights. Dimensions that the prior wants mostly active start mostly active.
    The others start undecided. `model` holds the other parameters of `SpikeSlabAutoencoder`.
    """
    hidden = list(hidden_layer_sizes)
    bodies: list[nn.Module] = []
    if (
        encoder is not None or decoder is not None
    ):  # torch needs it to move layers off the meta device
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
            bodies.append(body.float())  # the user's default dtype may differ
    module = SpikeSlabAutoencoder(
        n_features, bodies[0], bodies[1], likelihood=likelihood, alpha=alpha, **model
    )
    initialize(module.encoder_head, generator)
    initialize(module.decoder_head, generator)
    if module.gates is not None:
        module.gates.initialize(alpha, generator)
        if module.encoder_path is not None:  # linear paths start at 0
            nn.init.zeros_(module.encoder_path.weight)
            nn.init.zeros_(module.encoder_path.bias)
        if module.decoder_passes_codes and isinstance(module.decoder_head, nn.Linear):
            nn.init.zeros_(module.decoder_head.weight[:, -len(alpha) :])
    elif module.gated:
        with torch.no_grad():
            module.encoder_head.bias[-len(alpha) :] = torch.where(alpha > 0.5, 2.0, 0.0)
    if module.pseudo_inputs is not None:
        module.pseudo_inputs.initialize(generator)
    return module


def _built(recipe: Recipe, n_in: int, generator: torch.Generator, name: str) -> nn.Module:
    """Return the module that `recipe` builds."""
    if isinstance(recipe, type):
        raise ValueError(f"{name}={recipe!r} is a class: pass an instance, {recipe.__name__}().")
    body = recipe.build(n_in, generator)
    if not isinstance(body, nn.Module):
        raise ValueError(
            f"{name}={recipe!r} must build an nn.Module, but built a {type(body).__name__}."
        )
    return body


def _width(body: nn.Module, n_in: int, name: str) -> int:
    """Return how many features `body` returns for `n_in`, by calling it."""
    if any(map(is_lazy, body.parameters())):
        raise ValueError(
            f"{name}={brief(body)} has lazy layers, whose weights would come from torch's global "
            f"random state. Use layers with sizes: the input has the shape (n, {n_in})."
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
