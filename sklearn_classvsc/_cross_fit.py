"""Room 3: gates that follow the class, as a sample that was not learned shows it.

A dimension is on in some classes, and a sample is in each of them with some probability::

    gamma_j(x) = sum_c p(c | x) pi_cj

Where classes overlap, a network that has learned the label of x is far too sure of it, so the
gates of training samples would say more than those of new ones. Several small classifiers, the
*branches*, therefore divide the work. Each sample belongs to a *fold*, which follows from its
observed values alone. A branch learns from the samples of all folds but one, and speaks for the
samples of that fold only. A sample's gates thus never come from what has learned its label, in
training or later: codes of training samples are as honest as those of new ones (cross-fitting).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._layers import SINGLE, hide_features, linear

#: How finely the line that folds are cut from is divided: about 8 pieces for a standard deviation.
FINENESS = 8.0
#: Of the profiles' logits at the start: standard deviation, and what favours a class.
SPREAD, FAVOUR = 1.25, 1.5
#: Fraction of its hidden units that a branch does not see in training.
UNITS_HIDDEN = 0.3


class ClassScores(NamedTuple):
    """What the B branches say of a batch, and which of them speak for a sample."""

    logits: Tensor  # of the classes, (n, B, C)
    #: The branches that have not learned from such samples, (n, n_repeats): they speak for it.
    speakers: Tensor
    learns: Tensor  # 1 where a branch may learn from a sample, else 0, (n, B)
    #: What does not depend on the batch: how often each dimension is on in each class, (C, d); and
    #: in training -log of the prior of all weights that have one, per sample, ().
    pi: Tensor
    penalty: Tensor | None = None

    @property
    def spoken(self) -> Tensor:
        """What those say who speak for a sample, (n, n_repeats, C)."""
        index = self.speakers[:, :, None].expand(-1, -1, self.logits.shape[2])
        return self.logits.gather(1, index)


class CrossFittedGates(nn.Module):
    """Branches that tell the classes of samples, and the profiles of the classes.

    Each branch is linear in x, plus one hidden layer.

    Parameters
    ----------
    n_features : int
        Number p of features of a sample.
    n_classes : int
        Number C of classes.
    n_components : int
        Number d of dimensions.
    n_folds : int
        Number K of folds; 1: no cross-fitting, one branch learns from all samples.
    n_repeats : int
        Number of ways in which samples are divided into folds. The branches that speak for a
        sample, one for each, are averaged; there are B = n_folds * n_repeats in all.
    width : int
        Width of the hidden layer of a branch.
    multilabel : bool
        Whether a sample may have several classes. It is then in each with a probability of its
        own, and a dimension is on if one of the classes switches it on (noisy-or).
    """

    directions: Tensor  # of the lines along which samples are divided, (p, n_repeats)
    origin: Tensor  # where the lines begin, (n_repeats,)
    n_samples: Tensor  # that are trained on, ()

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_components: int,
        n_folds: int,
        n_repeats: int,
        width: int,
        multilabel: bool,
    ) -> None:
        super().__init__()
        self.n_classes, self.n_folds, self.n_repeats = n_classes, n_folds, n_repeats
        self.width, self.multilabel = width, multilabel
        n_branches = n_folds * n_repeats
        #: The hidden layers of all branches, and then their linear parts: one matrix product.
        self.first = linear(n_features, n_branches * (width + n_classes))
        self.second = nn.Parameter(torch.zeros(n_branches, width, n_classes, dtype=SINGLE))
        #: Logits of how often each dimension is on in each class.
        self.profile = nn.Parameter(torch.zeros(n_classes, n_components, dtype=SINGLE))
        self.register_buffer("n_samples", torch.ones((), dtype=SINGLE))
        drawn = np.random.default_rng(0).normal(0, FINENESS, (n_features, n_repeats))
        self.register_buffer("directions", torch.from_numpy(drawn.astype(np.float32)))
        # Between two cuts: the mean of standardised features, 0, shall not lie on one.
        self.register_buffer("origin", torch.full((n_repeats,), 0.37, dtype=SINGLE))

    @torch.no_grad()
    def initialize(self, alpha: Tensor, generator: torch.Generator) -> None:
        """Draw the weights, and begin each dimension in some classes.

        Global dimensions, of an alpha above one half, begin in all classes. The others begin in
        about twice as many as alpha says, and every class is favoured by as many dimensions. Which
        classes share one is for the decoder to find: it drops a class more easily than it takes
        one up.
        """
        n_hidden = self.n_folds * self.n_repeats * self.width
        nn.init.kaiming_normal_(
            self.first.weight[:n_hidden], nonlinearity="relu", generator=generator
        )
        nn.init.zeros_(self.first.weight[n_hidden:])
        nn.init.zeros_(self.first.bias)
        bound = 1 / math.sqrt(self.width)
        nn.init.uniform_(self.second, -bound, bound, generator=generator)
        self.profile.normal_(0, SPREAD, generator=generator)
        self.profile[:, alpha > 0.5] = 2 + self.profile[:, alpha > 0.5] / 2
        specific = (alpha <= 0.5).nonzero()[:, 0]
        drawn = self.profile[:, specific]
        usual = torch.logit((2 * alpha[specific]).clamp_max(0.5)).to(drawn)
        self.profile[:, specific] = usual + drawn - drawn.mean(1, keepdim=True)
        n_rounds = -(-len(specific) // self.n_classes)
        turns = [torch.randperm(self.n_classes, generator=generator) for _ in range(n_rounds)]
        favoured = torch.cat(turns)[: len(specific)] if turns else specific
        self.profile[favoured, specific] += FAVOUR

    @property
    def pi(self) -> Tensor:
        """How often each dimension is on in each class, (C, d)."""
        return torch.sigmoid(self.profile)

    def classifier(self) -> Mapping[str, Tensor]:
        """Return what tells the classes, by its names in `state_dict`."""
        names = ("first.weight", "first.bias", "second")
        state = self.state_dict()
        return {name: state[name] for name in names}

    def folds(self, x: Tensor) -> Tensor:
        """Return which fold each sample, (n, p), belongs to, in each way, (n, n_repeats).

        In double precision, so that it does not depend on the batch; "mps" has single only.
        """
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        x, along = x.detach().to(wide), self.directions.to(wide)
        line = torch.sparse.mm(x, along) if x.is_sparse else x @ along
        line = line + self.origin
        return line.nan_to_num(0, 0, 0).floor().remainder(self.n_folds).long()

    @torch.no_grad()
    def rescale(self, shift: Tensor, scale: Tensor) -> None:
        """Leave the folds as they are, where x becomes (x - shift) / scale; both (p,).

        Not those of samples with missing values, which count as 0 on the new scale too.
        """
        self.origin += shift.to(self.directions) @ self.directions
        self.directions *= scale.to(self.directions)[:, None]

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> ClassScores:
        """Return what all branches say of x, (n, p)."""
        n, n_branches = x.shape[0], len(self.second)
        folds = self.folds(x)
        speakers = folds + self.n_folds * torch.arange(self.n_repeats, device=x.device)
        kind = self.second.dtype
        learns = torch.ones(n, n_branches, dtype=kind, device=x.device)
        if self.n_folds > 1:
            learns.scatter_(1, speakers, 0)
        hidden, direct = (
            self.first(x)
            .to(kind)
            .split([n_branches * self.width, n_branches * self.n_classes], dim=1)
        )
        hidden = F.relu(F.layer_norm(hidden.view(n, n_branches, self.width), (self.width,)))
        if self.training:
            hidden = hide_features(hidden, UNITS_HIDDEN, generator)
        logits = torch.baddbmm(
            direct.view(n, n_branches, self.n_classes).transpose(0, 1),
            hidden.transpose(0, 1),
            self.second,
        )
        return ClassScores(logits.to(kind).transpose(0, 1), speakers, learns, self.pi)

    def probability(self, scores: ClassScores, prior: Tensor | None = None) -> Tensor:
        """Return p(c | x) by those who speak for x, (n, C).

        `prior` holds logarithms of the classes' shares, (C,). Without it all classes are as
        frequent.
        """
        logits = scores.spoken if prior is None else scores.spoken + prior
        if not self.multilabel:
            return torch.softmax(logits, dim=2).mean(1)
        # A sigmoid, row by row: over a whole batch it would round by the place in it.
        return torch.softmax(torch.stack([logits, torch.zeros_like(logits)], 3), 3)[..., 0].mean(1)

    def gamma(self, p: Tensor) -> Tensor:
        """Return the probability of each dimension to be on, (n, d), for p(c | x), (n, C)."""
        if self.multilabel:
            gamma = 1 - (1 - p[:, :, None] * self.pi).clamp_min(1e-6).prod(1)
        else:
            gamma = p @ self.pi
        return gamma.clamp(1e-6, 1 - 1e-6)

    def penalty(self) -> Tensor:
        """Return -log of the prior of the branches' weights, standard normal, but for a constant.

        That of the hidden layers' own weights, which are normalised, is flat.
        """
        direct = self.first.weight[len(self.second) * self.width :]
        return 0.5 * (direct.square().sum() + self.second.square().sum())


def strength(gamma: Tensor) -> Tensor:
    """Return how strong a slab is behind a gate: 1/4 + 3/4 tanh(logit(gamma) / 4), at least 1/4.

    A dimension that is on by a narrow margin counts little, so what follows a code sees how sure
    its gates are. The square roots, which are the same, round alike whatever the batch.
    """
    on, off = gamma.detach().sqrt(), (1 - gamma.detach()).sqrt()
    return 0.25 + 0.75 * F.relu((on - off) / (on + off))


def cross_fit_sizes(
    n_samples: int, n_features: int, n_classes: int, multilabel: bool, repeated: bool
) -> dict[str, int | bool]:
    """Return the sizes of the `CrossFittedGates` for so much data.

    Few samples need many folds, so that a branch learns from most of them. Time grows with the
    widths of all branches together. Where samples are `repeated` each is in the fold of its
    copies, and a branch that knows no copy cannot tell their class; but what many copies share is
    not learned by heart.
    """
    if repeated:
        folds, repeats, width = 1, 1, 64
    elif n_samples < 5000 and n_features <= 1000 and n_classes <= 50:
        folds, repeats, width = 5, 2, 64
    elif n_classes <= 200:
        folds, repeats, width = (5, 1, 64) if n_features <= 5000 else (3, 1, 32)
    else:
        folds, repeats, width = 2, 1, 32
    return {"n_folds": folds, "n_repeats": repeats, "width": width, "multilabel": multilabel}
