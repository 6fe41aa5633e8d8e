"""The default losses written out plainly: a line for each term, and for each step of a training.

`tests/test_objective.py` trains beside them, and compares every term with what `history_` says;
`benchmarks/_hand_loops.py` times them. They are for data in [0, 1], all samples of which have one
label and the same weight, and know nothing of the package but its estimators' parameters.
"""

import math
import warnings
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skorch.callbacks import Callback
from torch import nn
from torch.overrides import TorchFunctionMode

from sklearn_classvsc import ClassVSCTransformer, VSCTransformer

TEMPERATURE = 0.5  # of the straight-through gates
#: A quarter of the package's default: no time depends on it, and trainings of a few steps, which
#: rise to it in no time, stay finite. NaN would have times of its own.
LEARNING_RATE = 0.004


class Recipe(NamedTuple):
    """Sizes of a model, and the constants of its objective: "vsc", "balanced" or "paper"."""

    n_features: int
    n_hidden: int
    n_components: int
    n_classes: int
    batch_size: int
    objective: str = "balanced"

    @property
    def alpha(self):
        """Prior probability of each dimension to be on: 16 % are global where classes differ."""
        d, n_classes = self.n_components, self.n_classes
        if self.objective != "balanced":
            return torch.full((d,), 0.2)
        n_global = round(0.16 * d)
        specific = min(0.4, max(1.2 / n_classes, 1.5 / (d - n_global)))
        return torch.tensor([0.99] * n_global + [specific] * (d - n_global))

    @property
    def prior_mean(self):
        """Prior mean of the slabs."""
        return 2.0 if self.objective == "balanced" else 0.0

    @property
    def input_dropout(self):
        """Fraction of the features that the encoder does not see."""
        return 0.1 if self.objective == "balanced" else 0.0

    def estimator(self, **parameters):
        """Return the package's estimator of this model."""
        sizes = {"hidden_layer_sizes": (self.n_hidden,), "batch_size": self.batch_size}
        parameters = {"random_state": 0, "likelihood": "bernoulli"} | sizes | parameters
        parameters["rotation"] = None  # the loss knows no axes
        if self.objective == "vsc":
            return VSCTransformer(self.n_components, **parameters)
        return ClassVSCTransformer(self.n_components, objective=self.objective, **parameters)


class ReferenceNet(nn.Module):
    """Encoder, gates and decoder; returns what the loss needs."""

    def __init__(self, recipe):
        super().__init__()
        p, h, d = recipe.n_features, recipe.n_hidden, recipe.n_components
        self.encoder = nn.Sequential(
            nn.Linear(p, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, 3 * d)
        )
        self.decoder = nn.Sequential(nn.Linear(d, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, p))
        self.dropout = nn.Dropout(recipe.input_dropout)

    def forward(self, x):
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


def entropy(p):
    """Return the entropy of Bernoulli variables."""
    p = p.clamp(1e-7, 1 - 1e-7)
    return -p * torch.log(p) - (1 - p) * torch.log(1 - p)


def divergence(p, alpha):
    """Return KL(Bern(p) || Bern(alpha))."""
    return -entropy(p) - p * torch.log(alpha) - (1 - p) * torch.log(1 - alpha)


class ReferenceLoss(nn.Module):
    """The loss of a batch; it counts its steps for the ramps."""

    def __init__(self, recipe, n_steps):
        super().__init__()
        self.recipe, self.n_steps, self.step = recipe, n_steps, 0
        self.register_buffer("alpha", recipe.alpha)
        self.register_buffer("profile", torch.full((recipe.n_classes, recipe.n_components), 0.5))

    def terms(self, output, x, y):
        """Return the terms by their names in `history_`, unweighted."""
        theta, mu, log_var, logits = output
        gamma, n_classes = torch.sigmoid(logits), self.recipe.n_classes
        nats = F.binary_cross_entropy_with_logits(theta, x, reduction="none")
        squares = (mu - self.recipe.prior_mean) ** 2
        slab = gamma * 0.5 * (log_var.exp() + squares - 1 - log_var)
        terms = {"reconstruction": nats.sum(1).mean(), "slab_kl": slab.sum(1).mean()}
        if self.recipe.objective == "vsc":
            pi = gamma.mean(0)
            information = (entropy(pi) - entropy(gamma).mean(0)).sum()
            return terms | {"usage": divergence(pi, self.alpha).sum(), "information": information}

        member = F.one_hot(y, n_classes).float()
        n_of = member.sum(0)
        present = (n_of > 0).float()
        # Every class of the batch counts the same, in the paper's objective every sample.
        mass = present / present.sum() if self.recipe.objective == "balanced" else n_of / len(y)
        weight = (mass / n_of.clamp(min=1))[y]
        pi_c = member.T @ gamma / n_of.clamp(min=1)[:, None]
        pi = mass @ pi_c
        conditional, within = mass @ entropy(pi_c), weight @ entropy(gamma)
        inconsistency = (conditional - within).sum()
        usage = divergence(pi, self.free(pi) if self.recipe.objective == "balanced" else self.alpha)
        terms |= {"usage": usage.sum(), "inconsistency": inconsistency}
        if self.recipe.objective == "paper":
            information = (entropy(pi) - conditional).sum()
            return terms | {"information": information, "consistency": inconsistency}

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
        return terms | {
            "class_usage": class_usage,
            "indecision": within.sum(),
            "recognition": recognition,
            "overlap": overlap,
        }

    def free(self, pi):
        """Return the usage closest to `pi` that the balanced objective does not charge for."""
        excess = (self.alpha - 0.12).clamp(min=0) * (self.alpha <= 0.5)  # where classes are few
        most = torch.maximum(self.alpha, (self.alpha + 0.8 * excess).clamp(max=0.5))
        return pi.detach().clamp(self.alpha - 0.1 * excess, most)

    def weights(self, progress):
        """Return the weights of the terms when this fraction of the training is done."""
        ramp = min(1.0, progress / 0.5)
        if self.recipe.objective == "vsc":
            return {"reconstruction": 1, "slab_kl": 1, "usage": 1, "information": 1}
        if self.recipe.objective == "paper":
            ones = dict.fromkeys(("reconstruction", "slab_kl", "usage", "information"), 1)
            return ones | {"inconsistency": 1, "consistency": 3 * ramp}
        usage = max(5.0, 1.2 / float(self.alpha[-1]))
        return {
            "reconstruction": 1,
            "slab_kl": 0.2,
            "usage": usage,
            "class_usage": usage / 2,
            "inconsistency": 1 + 3 * ramp,
            "indecision": 3 * ramp,
            "recognition": 50 * ramp,
            "overlap": 200 * ramp,
        }

    def forward(self, output, x, y):
        """Return the loss of a batch."""
        terms, weights = self.terms(output, x, y), self.weights(self.step / self.n_steps)
        self.step += self.training
        return sum(weights[name] * value for name, value in terms.items())


def learning_rate_factor(progress):
    """Rise over the first 5 % of training, then fall by half a cosine."""
    return min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


# -- the same training, without noise --------------------------------------------------------------


class WithoutNoise(TorchFunctionMode):
    """Replace every draw of noise by its median: normal 0, uniform 0.5."""

    MEDIANS: ClassVar = {
        **dict.fromkeys(("rand", "rand_like", "uniform_"), 0.5),
        **dict.fromkeys(("randn", "randn_like", "normal_"), 0.0),
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        median = self.MEDIANS.get(getattr(func, "__name__", ""))
        return out if median is None else out.fill_(median)


class NoiseOff(Callback):
    """Train without noise and without input dropout, from weights drawn at random."""

    def on_train_begin(self, net, **kwargs):
        assert hasattr(net.module_, "input_dropout")
        net.module_.input_dropout = 0.0
        self.mode_ = WithoutNoise()
        self.mode_.__enter__()

    def on_train_end(self, net, **kwargs):
        self.mode_.__exit__(None, None, None)


def package_training(recipe, X, y, n_steps):
    """Train the package on one batch without noise; return its weights as drawn, and `history_`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a code of a few steps has collapsed
        # So small a step leaves every weight as it was drawn.
        start = recipe.estimator(max_epochs=1, learning_rate=1e-30).fit(X, y)
        rate = {"learning_rate": LEARNING_RATE, "callbacks": [NoiseOff()]}
        history = recipe.estimator(max_epochs=n_steps, **rate).fit(X, y).history_
    return list(start.module_.parameters()), history


def reference_training(recipe, start, X, y, n_steps):
    """Do the same by hand, from these weights; return the loss and the terms of each step."""
    net, loss = ReferenceNet(recipe), ReferenceLoss(recipe, n_steps)
    copy_weights(start, net)
    net.dropout.p = 0.0
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step / n_steps)
    )
    x, y, history = torch.from_numpy(X), torch.from_numpy(y), []
    for step in range(n_steps):
        with WithoutNoise():
            terms = loss.terms(net(x), x, y)
        weights = loss.weights(step / n_steps)
        total = sum(weights[name] * value for name, value in terms.items())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
        terms = {"train_loss": total} | terms
        history.append({name: value.item() for name, value in terms.items()})
    return history


def copy_weights(start, net):
    """Copy parameters, which the package's module and ours have in the same order and shapes."""
    with torch.no_grad():
        for theirs, ours in zip(start, net.parameters(), strict=True):
            assert theirs.shape == ours.shape, (theirs.shape, ours.shape)
            ours.copy_(theirs)


def make_data(n_samples, n_features, n_classes):
    """Return samples in [0, 1] that a few factors make, around the mean of their class."""
    rng, n_factors = np.random.default_rng(0), 20
    y = rng.permutation(np.arange(n_samples) % n_classes)
    factors = rng.standard_normal((n_classes, n_factors), dtype=np.float32)[y]
    factors += 0.5 * rng.standard_normal(factors.shape, dtype=np.float32)
    X = factors @ (0.5 * rng.standard_normal((n_factors, n_features), dtype=np.float32))
    for in_place in (np.negative, np.exp, lambda X, out: np.add(X, 1, out=out), np.reciprocal):
        in_place(X, out=X)  # a second array of this size would be in the memory that is measured
    return X, y
