"""The same training without the package: loops written by hand, skorch's own, bare products.

Everything here is what somebody would write instead of calling `fit`, in torch alone, for data in
[0, 1] and the default objectives of `VSCTransformer` and `ClassVSCTransformer`. The net and the
loss are those that the tests compare the package with, `tests/reference_loss.py`; that the loops
are the same mathematics is checked before they are timed: see `check_same_mathematics`.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import _common  # noqa: F401  (so that the helpers of the tests are found)
import numpy as np
import reference_loss as plain
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from reference_loss import Recipe
from skorch import NeuralNet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class PlainLoop:
    """As most people write it: a DataLoader, Adam's defaults, the loss read out at each step."""

    def __init__(self, recipe: Recipe, X: NDArray[np.float32], y: NDArray[np.int64], n_epochs: int):
        dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        self.loader = DataLoader(dataset, batch_size=recipe.batch_size, shuffle=True)
        n_steps = n_epochs * len(self.loader)
        self.net, self.loss = plain.ReferenceNet(recipe), plain.ReferenceLoss(recipe, n_steps)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=plain.LEARNING_RATE)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: plain.learning_rate_factor(step / n_steps)
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


class LeanLoop:
    """The best that we could do without kernels: rows of one tensor, fused Adam, terms merged."""

    def __init__(self, recipe: Recipe, X: NDArray[np.float32], y: NDArray[np.int64], n_epochs: int):
        self.recipe, self.X, self.y = recipe, torch.from_numpy(X), torch.from_numpy(y)
        self.net = plain.ReferenceNet(recipe)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=plain.LEARNING_RATE, fused=True)
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
            self.optimizer.param_groups[0]["lr"] = plain.LEARNING_RATE * plain.learning_rate_factor(
                progress
            )
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
        soft = torch.sigmoid((logits - u.logit_(1e-7)) * (1 / plain.TEMPERATURE))
        theta = net.decoder((hard + (soft - soft.detach())) * slab)
        nats = F.binary_cross_entropy_with_logits(theta, x, reduction="sum")
        squares = (mu - recipe.prior_mean).square()
        slab_nats = 0.5 * (gamma * (log_var.exp() + squares - 1 - log_var)).sum()
        # h(gamma) = softplus(logits) - gamma logits: no clamps
        h = F.softplus(logits) - gamma * logits
        if recipe.objective == "vsc":
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


def check_same_mathematics(recipe: Recipe, n_steps: int = 8) -> dict[str, float]:
    """Train the package and both loops alike, without noise, and compare their losses.

    One batch holds all samples, so that an epoch is a step. All start from the package's initial
    weights; the losses of the first step compare the objective at the same weights, those of the
    last compare gradients, optimiser and schedule as well. Returns the largest relative
    differences; raises AssertionError if a first loss differs by 1e-5, or any by 1e-3.
    """
    X, y = plain.make_data(recipe.batch_size, recipe.n_features, recipe.n_classes)
    start, history = plain.package_training(recipe, X, y, n_steps)
    differences = {}
    for name, maker in (("plain", PlainLoop), ("lean", LeanLoop)):
        loop = maker(recipe, X, y, n_steps)
        plain.copy_weights(start, loop.net)
        loop.net.dropout.p = 0.0
        with plain.WithoutNoise():
            for _ in range(n_steps):
                loop.epoch()
        relative = abs(np.array(loop.losses) / history["train_loss"].to_numpy() - 1)
        assert relative[0] < 1e-5 and max(relative) < 1e-3, (name, loop.losses, history)
        differences |= {f"{name}, first step": float(relative[0])}
        differences |= {f"{name}, {n_steps} steps": float(max(relative))}
    return differences


# -- other people's ways -----------------------------------------------------------------------


class _WithInput(nn.Module):
    """skorch's criterion sees the output and y only, so the input travels with the output."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.net = plain.ReferenceNet(recipe)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x, *self.net(x))


class _SkorchLoss(plain.ReferenceLoss):
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
            lr=plain.LEARNING_RATE / 2,
            batch_size=recipe.batch_size,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks__print_log=None,
        ).initialize()

    def epoch(self, n_epochs: int = 1) -> None:
        """Train for one pass over the data, or some."""
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
                layers = nn.Linear(d, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, p)
                self.body = nn.Sequential(*layers, nn.Sigmoid())

            def forward(self, z: Tensor) -> Any:
                return ModelOutput(reconstruction=self.body(z))

        for name in list(logging.root.manager.loggerDict):
            if name.startswith("pythae"):
                logging.getLogger(name).setLevel(logging.ERROR)
        config = VAEConfig(input_dim=(p,), latent_dim=d, reconstruction_loss="bce")
        self.folder = tempfile.TemporaryDirectory()
        size = {"num_epochs": 1, "per_device_train_batch_size": recipe.batch_size}
        training = BaseTrainerConfig(self.folder.name, **size, learning_rate=1e-3, no_cuda=True)
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
