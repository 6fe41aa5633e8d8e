"""The same training without the package: the loop that most people would write, and the best.

Everything here is torch alone, for data in [0, 1], and for `VSCTransformer` and
`ClassVSCTransformer(objective="balanced")`. The net and the loss are those that the tests compare
the package with, `tests/reference_loss.py`. `check_same_mathematics` checks that the loops compute
the same before they are timed.
"""

from __future__ import annotations

import math

import _common  # noqa: F401  (so that the helpers of the tests are found)
import numpy as np
import reference_loss as plain
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from reference_loss import Recipe
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


class PlainLoop:
    """As most people write it: a DataLoader, Adam's defaults, the loss read out at each step."""

    def __init__(
        self,
        recipe: Recipe,
        X: NDArray[np.float32],
        y: NDArray[np.int64],
        n_epochs: int,
        learning_rate: float = plain.LEARNING_RATE,
    ) -> None:
        dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        self.loader = DataLoader(dataset, batch_size=recipe.batch_size, shuffle=True)
        self.n_epochs, n_steps = n_epochs, n_epochs * len(self.loader)
        self.net, self.loss = plain.ReferenceNet(recipe), plain.ReferenceLoss(recipe, n_steps)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=learning_rate)
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

    def train(self) -> PlainLoop:
        """Train to the end."""
        for _ in range(self.n_epochs):
            self.epoch()
        return self

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return codes: the means of the active slabs."""
        with torch.inference_mode():
            mu, _, logits = self.net.encoder(torch.from_numpy(X)).chunk(3, dim=1)
            return (mu * (logits > 0)).numpy()

    def inverse_transform(self, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the decoded samples."""
        with torch.inference_mode():
            return torch.sigmoid(self.net.decoder(torch.from_numpy(Z))).numpy()


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
