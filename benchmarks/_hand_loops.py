"""The same training without the package: loops written by hand, skorch's own, bare products.

Everything here is what somebody would write instead of calling `fit`, in torch alone, for data in
[0, 1] and the default objectives of `VSCTransformer` and `ClassVSCTransformer`. That it is the
same mathematics is checked, not claimed: see `check_same_mathematics`.

- `PlainLoop`: as most people write it: a DataLoader of a TensorDataset, torch's default Adam, a
  line for each term of the loss, its value read out at each step.
- `LeanLoop`: the best that we could do without writing kernels: rows gathered from one tensor,
  fused Adam, terms merged, nothing read out before the end.
- `SkorchLoop`: `skorch.NeuralNet` with the plain module and loss, and its defaults otherwise.
- `PythaeLoop`: the trainer of `pythae` with a plain VAE: less mathematics, the same layers.
- `BareProducts`: nothing but the matrix products of the layers, forward and backward.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer

TEMPERATURE = 0.5  # of the straight-through gates
#: A quarter of the package's default: no time depends on it, and trainings of a few steps, which
#: rise to it in no time, stay finite. NaN would have times of its own.
LEARNING_RATE = 0.004

# -- the mathematics, written plainly ------------------------------------------------------------


class Recipe(NamedTuple):
    """Sizes of a model, and the constants of its objective."""

    n_features: int
    n_hidden: int
    n_components: int
    n_classes: int  # 0: the objective of VSC, which takes no labels
    batch_size: int

    @property
    def alpha(self) -> Tensor:
        """Prior probability of each dimension to be on: for the classes, 16 % are global."""
        d, n_classes = self.n_components, self.n_classes
        if not n_classes:
            return torch.full((d,), 0.2)
        n_global = round(0.16 * d)
        specific = min(0.4, max(1.2 / n_classes, 1.5 / (d - n_global)))
        return torch.tensor([0.99] * n_global + [specific] * (d - n_global))

    @property
    def prior_mean(self) -> float:
        """Prior mean of the slabs."""
        return 2.0 if self.n_classes else 0.0

    @property
    def input_dropout(self) -> float:
        """Fraction of the features that the encoder does not see."""
        return 0.1 if self.n_classes else 0.0

    def estimator(self, **parameters: Any) -> VSCTransformer:
        """Return the package's estimator of this model."""
        maker = ClassVSCTransformer if self.n_classes else VSCTransformer
        return maker(
            self.n_components,
            hidden_layer_sizes=(self.n_hidden,),
            batch_size=self.batch_size,
            **{"random_state": 0} | parameters,
        )


def make_data(
    n_samples: int, n_features: int, n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return samples in [0, 1] that a few factors make, around the mean of their class."""
    rng, n_factors = np.random.default_rng(0), 20
    y = rng.permutation(np.arange(n_samples) % n_classes)
    factors = rng.standard_normal((n_classes, n_factors), dtype=np.float32)[y]
    factors += 0.5 * rng.standard_normal(factors.shape, dtype=np.float32)
    X = factors @ (0.5 * rng.standard_normal((n_factors, n_features), dtype=np.float32))
    for in_place in (np.negative, np.exp, lambda X, out: np.add(X, 1, out=out), np.reciprocal):
        in_place(X, out=X)  # a second array of this size would be in the memory that is measured
    return X, y


class PlainNet(nn.Module):
    """Encoder, gates and decoder; returns what the loss needs."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        p, h, d = recipe.n_features, recipe.n_hidden, recipe.n_components
        self.encoder = nn.Sequential(
            nn.Linear(p, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, 3 * d)
        )
        self.decoder = nn.Sequential(nn.Linear(d, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, p))
        self.dropout = nn.Dropout(recipe.input_dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the decoder's logits, (n, p), and mu, log_var and the gates' logits, (n, d)."""
        mu, log_var, logits = self.encoder(self.dropout(x)).chunk(3, dim=1)
        log_var = log_var.clamp(-10, 6)
        gamma = torch.sigmoid(logits)
        slab = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        u = torch.rand_like(gamma)
        hard = (u < gamma).float()
        soft = torch.sigmoid((logits - torch.logit(u, eps=1e-7)) / TEMPERATURE)
        z = (hard + soft - soft.detach()) * slab
        return self.decoder(z), mu, log_var, logits


def entropy(p: Tensor) -> Tensor:
    """Return the entropy of Bernoulli variables."""
    p = p.clamp(1e-7, 1 - 1e-7)
    return -p * torch.log(p) - (1 - p) * torch.log(1 - p)


def divergence(p: Tensor, alpha: Tensor) -> Tensor:
    """Return KL(Bern(p) || Bern(alpha))."""
    return -entropy(p) - p * torch.log(alpha) - (1 - p) * torch.log(1 - alpha)


class PlainLoss(nn.Module):
    """The default objective, a line for each term; it counts its steps for the ramps."""

    alpha: Tensor
    profile: Tensor

    def __init__(self, recipe: Recipe, n_steps: int) -> None:
        super().__init__()
        self.recipe, self.n_steps, self.step = recipe, n_steps, 0
        self.register_buffer("alpha", recipe.alpha)
        self.register_buffer("profile", torch.full((recipe.n_classes, recipe.n_components), 0.5))

    def forward(self, output: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch."""
        theta, mu, log_var, logits = output
        gamma = torch.sigmoid(logits)
        reconstruction = (
            F.binary_cross_entropy_with_logits(theta, x, reduction="none").sum(1).mean()
        )
        squares = (mu - self.recipe.prior_mean) ** 2
        slab_kl = (gamma * 0.5 * (log_var.exp() + squares - 1 - log_var)).sum(1).mean()
        if not self.recipe.n_classes:
            return reconstruction + slab_kl + divergence(gamma, self.alpha).sum(1).mean()

        # Every class of the batch counts the same.
        member = F.one_hot(y, self.recipe.n_classes).float()
        n_of = member.sum(0)
        present = (n_of > 0).float()
        mass = present / present.sum()
        weight = (mass / n_of.clamp(min=1))[y]
        pi_c = member.T @ gamma / n_of.clamp(min=1)[:, None]
        pi = mass @ pi_c
        conditional, within = mass @ entropy(pi_c), weight @ entropy(gamma)

        usage = divergence(pi, self.alpha).sum()
        inconsistency = (conditional - within).sum()
        indecision = within.sum()

        # The terms that tell classes apart leave the global dimensions out.
        specific = (self.alpha <= 0.5).float()
        n_specific = specific.sum()
        alpha = (self.alpha * specific).sum() / n_specific
        pi_c = pi_c * specific
        class_usage = n_specific * (mass @ divergence(pi_c.sum(1) / n_specific, alpha))
        with torch.no_grad():
            here = present[:, None]
            profile = member.T @ gamma / n_of.clamp(min=1)[:, None]
            self.profile.copy_(
                here * (0.9 * self.profile + 0.1 * profile) + (1 - here) * self.profile
            )
        scores = (logits * specific) @ self.profile.T / 4.0
        recognition = weight @ F.cross_entropy(scores, y, reduction="none")
        active = pi_c.sum(1) + 1e-3
        own = (pi_c**2).sum(1) / active
        sharing = 2 * (pi_c @ pi_c.T) / (active[:, None] + active)
        pairs = (present[:, None] * present).fill_diagonal_(0)
        overlap = 1 - (own * present).sum() / present.sum() + (sharing * pairs).sum() / pairs.sum()

        ramp = min(1.0, self.step / self.n_steps / 0.5)
        if self.training:
            self.step += 1
        usage_weight = max(5.0, 1.2 / float(alpha))
        return (
            reconstruction
            + 0.2 * slab_kl
            + usage_weight * usage
            + usage_weight / 2 * class_usage
            + (1 + 3 * ramp) * inconsistency
            + 3 * ramp * indecision
            + 50 * ramp * recognition
            + 200 * ramp * overlap
        )


def learning_rate_factor(progress: float) -> float:
    """Rise over the first 5 % of training, then fall by half a cosine."""
    return min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


class PlainLoop:
    """As most people write it."""

    def __init__(self, recipe: Recipe, X: NDArray[np.float32], y: NDArray[np.int64], n_epochs: int):
        dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        self.loader = DataLoader(dataset, batch_size=recipe.batch_size, shuffle=True)
        n_steps = n_epochs * len(self.loader)
        self.net, self.loss = PlainNet(recipe), PlainLoss(recipe, n_steps)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step / n_steps)
        )
        self.losses: list[float] = []  # the mean of each epoch

    def epoch(self) -> None:
        """Train for one pass over the data."""
        total = 0.0
        for x, y in self.loader:
            self.optimizer.zero_grad()
            loss = self.loss(self.net(x), x, y)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item() * len(x)
        self.losses.append(total / len(self.loader.dataset))


# -- the same, tuned ------------------------------------------------------------------------------


class LeanLoop:
    """The best that we could do without writing kernels."""

    def __init__(self, recipe: Recipe, X: NDArray[np.float32], y: NDArray[np.int64], n_epochs: int):
        self.recipe, self.X, self.y = recipe, torch.from_numpy(X), torch.from_numpy(y)
        self.net = PlainNet(recipe)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE, fused=True)
        self.n_steps = n_epochs * math.ceil(len(X) / recipe.batch_size)
        self.step = 0
        self.losses: list[float] = []
        alpha = recipe.alpha
        self.n_global = int((alpha > 0.5).sum())
        self.n_specific = recipe.n_components - self.n_global
        # KL(Bern(p) || Bern(alpha)) = -h(p) - p logit(alpha) - log(1 - alpha), summed over d.
        self.alpha_logit = torch.logit(alpha)
        self.alpha_rest = float(torch.log1p(-alpha).sum())
        self.specific = float(alpha[-1])
        self.identity = torch.eye(recipe.n_classes)
        self.profile = torch.full((recipe.n_classes, self.n_specific), 0.5)

    def epoch(self) -> None:
        """Train for one pass over the data."""
        batch_size, n = self.recipe.batch_size, len(self.X)
        total = torch.zeros(())
        for rows in torch.randperm(n).split(batch_size):
            rows = rows.sort().values
            progress = self.step / self.n_steps
            self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(progress)
            loss = self.forward(self.X[rows], self.y[rows], progress)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.step += 1
            total += loss.detach() * len(rows)
        self.losses.append(total.item() / n)

    def forward(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        """Return the loss of a batch."""
        recipe, net, n = self.recipe, self.net, len(x)
        hidden = net.dropout.p
        seen = hide(x, hidden) if hidden else x
        mu, log_var, logits = net.encoder(seen).chunk(3, dim=1)
        log_var = log_var.clamp(-10, 6)
        gamma = torch.sigmoid(logits)
        slab = torch.addcmul(mu, torch.exp(0.5 * log_var), torch.randn_like(mu))
        u = torch.rand_like(gamma)
        hard = (u < gamma).float()
        soft = torch.sigmoid((logits - u.logit_(1e-7)) * (1 / TEMPERATURE))
        theta = net.decoder((hard + (soft - soft.detach())) * slab)
        nats = F.binary_cross_entropy_with_logits(theta, x, reduction="sum")
        squares = (mu - recipe.prior_mean).square()
        slab_nats = 0.5 * (gamma * (log_var.exp() + squares - 1 - log_var)).sum()
        # h(gamma) = softplus(logits) - gamma logits: no clamps
        h = F.softplus(logits) - gamma * logits
        if not recipe.n_classes:
            spike = -(h + gamma * self.alpha_logit).sum() / n - self.alpha_rest
            return (nats + slab_nats) / n + spike

        member = self.identity[y]
        n_of = member.sum(0)
        present = n_of > 0
        mass = present / present.sum()
        share = 1 / n_of.clamp_min(1)
        weight = (mass * share)[y]
        # At 0 and 1 the entropy's derivative is infinite, and rounding goes beyond.
        pi_c = ((member * share).T @ gamma).clamp(1e-7, 1 - 1e-7)
        pi = mass @ pi_c
        within = (weight @ h).sum()
        h_c, h_pi = torch.special.entr(pi_c), torch.special.entr(pi)
        conditional = (mass @ (h_c + torch.special.entr(1 - pi_c))).sum()
        usage = -(h_pi + torch.special.entr(1 - pi)).sum() - pi @ self.alpha_logit - self.alpha_rest

        own = pi_c[:, self.n_global :]
        size = own.sum(1)
        mean = size / self.n_specific
        class_kl = -(torch.special.entr(mean) + torch.special.entr(1 - mean)) - (
            mean * math.log(self.specific / (1 - self.specific)) + math.log1p(-self.specific)
        )
        class_usage = self.n_specific * (mass @ class_kl)
        self.profile.lerp_(own.detach(), 0.1 * present[:, None])
        scores = logits[:, self.n_global :] @ self.profile.T / 4.0
        recognition = weight @ F.cross_entropy(scores, y, reduction="none")
        active = size + 1e-3
        products = own @ own.T
        sharing = 2 * products / (active[:, None] + active)
        pairs = (mass[:, None] * mass).fill_diagonal_(0)
        overlap = 1 - mass @ (products.diagonal() / active) + (sharing * pairs).sum() / pairs.sum()

        ramp = min(1.0, progress / 0.5)
        usage_weight = max(5.0, 1.2 / self.specific)
        # (1 + 3 r) (conditional - within) + 3 r within
        return (
            (nats + 0.2 * slab_nats) / n
            + usage_weight * (usage + 0.5 * class_usage)
            + (1 + 3 * ramp) * conditional
            - within
            + (50 * ramp) * recognition
            + (200 * ramp) * overlap
        )


def hide(x: Tensor, fraction: float) -> Tensor:
    """Drop values as dropout does, drawing the places of those that go: several times as fast."""
    n_draws = round(-math.log1p(-fraction) * x.numel())
    places = torch.randint(x.numel(), (n_draws,))
    return (x * (1 / (1 - fraction))).view(-1).index_fill_(0, places, 0).view_as(x)


# -- that it is the same ---------------------------------------------------------------------------


class _WithoutNoise(TorchFunctionMode):
    """Replace every draw of noise by its median: normal 0, uniform 0.5."""

    MEDIANS: ClassVar[dict[str, float]] = {
        **dict.fromkeys(("rand", "rand_like", "uniform_"), 0.5),
        **dict.fromkeys(("randn", "randn_like", "normal_"), 0.0),
    }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        median = self.MEDIANS.get(getattr(func, "__name__", ""))
        return out if median is None else out.fill_(median)


class _NoiseOff(Callback):
    """Train without noise and without input dropout, from weights drawn at random."""

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        assert hasattr(net.module_, "input_dropout")
        net.module_.input_dropout = 0.0
        self.mode_ = _WithoutNoise()
        self.mode_.__enter__()

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        self.mode_.__exit__(None, None, None)


def check_same_mathematics(recipe: Recipe, n_steps: int = 8) -> dict[str, float]:
    """Train the package and both loops alike, without noise, and compare their losses.

    One batch holds all samples, so that an epoch is a step. All start from the package's initial
    weights; the losses of the first step compare the objective at the same weights, those of the
    last compare gradients, optimiser and schedule as well.

    Returns
    -------
    dict
        Largest relative differences from the package, by name.

    Raises
    ------
    AssertionError
        If a first loss differs by more than 1e-5, or any by more than 1e-3.
    """
    X, y = make_data(recipe.batch_size, recipe.n_features, max(recipe.n_classes, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a code of eight steps has collapsed
        # So small a step leaves every weight as it was drawn.
        start = recipe.estimator(max_epochs=1, learning_rate=1e-30).fit(X, y)
        silent = recipe.estimator(
            max_epochs=n_steps, learning_rate=LEARNING_RATE, callbacks=[_NoiseOff()]
        ).fit(X, y)
    expected = silent.history_["train_loss"].to_numpy()
    differences = {}
    for name, maker in (("plain", PlainLoop), ("lean", LeanLoop)):
        loop = maker(recipe, X, y, n_steps)
        copy_weights(start.module_, loop.net)
        loop.net.dropout.p = 0.0
        with _WithoutNoise():
            for _ in range(n_steps):
                loop.epoch()
        relative = abs(np.array(loop.losses) / expected - 1)
        differences |= {
            f"{name}, first step": relative[0],
            f"{name}, {n_steps} steps": max(relative),
        }
        assert relative[0] < 1e-5 and max(relative) < 1e-3, (name, loop.losses, expected.tolist())
    return {name: float(value) for name, value in differences.items()}


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the parameters, which both modules have in the same order and shapes."""
    with torch.no_grad():
        for theirs, ours in zip(source.parameters(), target.parameters(), strict=True):
            assert theirs.shape == ours.shape, (theirs.shape, ours.shape)
            ours.copy_(theirs)


# -- other people's ways -----------------------------------------------------------------------


class _WithInput(nn.Module):
    """skorch's criterion sees the output and y only, so the input travels with the output."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.net = PlainNet(recipe)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x, *self.net(x))


class _SkorchLoss(PlainLoss):
    def forward(self, output: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return super().forward(output[1:], output[0], y)


class SkorchLoop:
    """skorch's default path: samples fetched one by one, the loss read out at each step.

    In its favour, it does not withhold a fifth of the data, does not print, and has a constant
    learning rate.
    """

    def __init__(self, recipe: Recipe, X: NDArray[np.float32], y: NDArray[np.int64], n_epochs: int):
        self.X, self.y = X, y
        self.net = NeuralNet(
            _WithInput,
            _SkorchLoss,
            module__recipe=recipe,
            criterion__recipe=recipe,
            criterion__n_steps=n_epochs * math.ceil(len(X) / recipe.batch_size),
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE / 2,
            batch_size=recipe.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks__print_log=None,
        ).initialize()

    def epoch(self) -> None:
        """Train for one pass over the data."""
        self.fit(1)

    def fit(self, n_epochs: int) -> None:
        """Train for some passes over the data."""
        self.net.partial_fit(self.X, self.y, epochs=n_epochs)


class PythaeLoop:
    """The trainer of `pythae`: a Gaussian VAE of the same layers, without gates or classes.

    Its progress bar and its messages are off; that it saves each epoch's model is part of it.
    """

    def __init__(self, recipe: Recipe, X: NDArray[np.float32], y: NDArray[np.int64], n_epochs: int):
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        p, h, d = recipe.n_features, recipe.n_hidden, recipe.n_components

        class Encoder(BaseEncoder):
            def __init__(self) -> None:
                super().__init__()
                self.body = nn.Sequential(nn.Linear(p, h), nn.LayerNorm(h), nn.ReLU())
                self.mean, self.log_var = nn.Linear(h, d), nn.Linear(h, d)

            def forward(self, x: Tensor) -> Any:
                hidden = self.body(x)
                return ModelOutput(embedding=self.mean(hidden), log_covariance=self.log_var(hidden))

        class Decoder(BaseDecoder):
            def __init__(self) -> None:
                super().__init__()
                self.body = nn.Sequential(
                    nn.Linear(d, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, p), nn.Sigmoid()
                )

            def forward(self, z: Tensor) -> Any:
                return ModelOutput(reconstruction=self.body(z))

        for name in list(logging.root.manager.loggerDict):
            if name.startswith("pythae"):
                logging.getLogger(name).setLevel(logging.ERROR)
        config = VAEConfig(input_dim=(p,), latent_dim=d, reconstruction_loss="bce")
        self.folder = tempfile.TemporaryDirectory()
        training = BaseTrainerConfig(
            output_dir=self.folder.name,
            per_device_train_batch_size=recipe.batch_size,
            num_epochs=1,
            learning_rate=1e-3,
            no_cuda=True,
        )
        data = BaseDataset(torch.from_numpy(X), torch.from_numpy(y))
        self.trainer = BaseTrainer(VAE(config, Encoder(), Decoder()), data, None, training)

    def epoch(self) -> None:
        """Train for one pass over the data."""
        with open(os.devnull, "w") as sink, redirect_stderr(sink), redirect_stdout(sink):
            self.trainer.train()


class BareProducts:
    """The matrix products of a step, into memory that is there already; nothing else.

    For each layer y = x W^T forward, dW = g^T x and dx = g W backward; the encoder's first layer
    needs no dx. Four layers, so eleven products.
    """

    def __init__(self, recipe: Recipe, dtype: torch.dtype = torch.float32) -> None:
        p, h, d, n = recipe.n_features, recipe.n_hidden, recipe.n_components, recipe.batch_size
        self.products: list[tuple[Tensor, Tensor, Tensor]] = []
        for i, (n_in, n_out) in enumerate([(p, h), (h, 3 * d), (d, h), (h, p)]):
            x, g = torch.randn(n, n_in).to(dtype), torch.randn(n, n_out).to(dtype)
            W = torch.randn(n_out, n_in).to(dtype)
            self.products += [(x, W.T, torch.empty_like(g)), (g.T, x, torch.empty_like(W))]
            if i:
                self.products.append((g, W, torch.empty_like(x)))

    def run(self, n_steps: int) -> None:
        """Compute them so many times."""
        with torch.inference_mode():
            for _ in range(n_steps):
                for a, b, out in self.products:
                    torch.mm(a, b, out=out)
