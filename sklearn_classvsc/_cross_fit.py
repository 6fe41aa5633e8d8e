"""Room 3: gates that follow the predicted class, by classifiers that have not learned the sample.

A dimension is active in some classes, and a sample is in each class with some probability::

    gamma_j(x) = sum_c p(c | x) pi_cj

If classes overlap, a network that has learned the label of x is far too sure of it. The gates of
training samples would then say more about the class than the gates of new samples. Cross-fitting
prevents this. Several small classifiers, the *branches*, divide the samples. Each sample belongs to
a *fold*, which depends only on its observed values. A branch learns from the samples of all folds
but one, and predicts only for the samples of that fold. It *speaks* for these samples. The gates of
a sample therefore never come from a branch that has learned its label, in training or later.
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

#: Pieces per standard deviation of the line that is cut into folds.
FINENESS = 8.0
#: Standard deviation of the profiles' first logits, and the bonus of a favoured class.
SPREAD, FAVOUR = 1.25, 1.5
#: Fraction of a branch's hidden units that are hidden in training.
UNITS_HIDDEN = 0.3


class ClassScores(NamedTuple):
    """The predictions of the B branches for a batch, and which branches speak for a sample."""

    logits: Tensor  # of the classes, (n, B, C)
    #: The branches that speak for a sample, because they do not learn from its fold.
    speakers: Tensor  # (n, n_repeats)
    learns: Tensor  # 1 where a branch may learn from a sample, else 0, (n, B)
    #: How often each dimension is active in each class. It does not depend on the batch.
    pi: Tensor  # (C, d)
    #: In training, -log of the prior of all weights that have a prior, per training sample.
    penalty: Tensor | None = None  # ()

    @property
    def spoken(self) -> Tensor:
        """The logits of the branches that speak for a sample, (n, n_repeats, C)."""
        index = self.speakers[:, :, None].expand(-1, -1, self.logits.shape[2])
        return self.logits.gather(1, index)


class CrossFittedGates(nn.Module):
    """Branches that predict the classes of samples, and the profiles of the classes.

    A branch is the sum of a linear layer and a network with one hidden layer.

    Parameters
    ----------
    n_features : int
        Number p of features of a sample.
    n_classes : int
        Number C of classes.
    n_components : int
        Number d of dimensions.
    n_folds : int
        Number K of folds. 1: no cross-fitting, one branch learns from all samples.
    n_repeats : int
        Number of divisions of the samples into folds. In each division, one branch speaks for a
        sample, and their predictions are averaged. There are B = n_folds * n_repeats branches.
    width : int
        Width of the hidden layer of a branch.
    multilabel : bool
        Whether a sample may have several classes. Each class then has its own probability, and a
        dimension is active if one of the classes activates it (noisy-or).
    """

    directions: Tensor  # of the lines along which samples are divided, (p, n_repeats)
    origin: Tensor  # offsets of the lines, (n_repeats,)
    n_samples: Tensor  # number of training samples, ()

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
        #: The hidden layers of all branches, then their linear layers, in one matrix product.
        self.first = linear(n_features, n_branches * (width + n_classes))
        self.second = nn.Parameter(torch.zeros(n_branches, width, n_classes, dtype=SINGLE))
        #: Logits of pi.
        self.profile = nn.Parameter(torch.zeros(n_classes, n_components, dtype=SINGLE))
        self.register_buffer("n_samples", torch.ones((), dtype=SINGLE))
        drawn = np.random.default_rng(0).normal(0, FINENESS, (n_features, n_repeats))
        self.register_buffer("directions", torch.from_numpy(drawn.astype(np.float32)))
        # The mean of standardised features, 0, must not lie on a cut, but between two.
        self.register_buffer("origin", torch.full((n_repeats,), 0.37, dtype=SINGLE))

    @torch.no_grad()
    def initialize(self, alpha: Tensor, generator: torch.Generator) -> None:
        """Draw the weights, and the classes in which each dimension starts active.

        Global dimensions, whose alpha exceeds one half, start active in all classes. The others
        start active in about twice as many classes as alpha says, and favour each class equally
        often. The decoder then finds which classes share a dimension: it drops a class more easily
        than it adds one.
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
        """How often each dimension is active in each class, (C, d)."""
        return torch.sigmoid(self.profile)

    def classifier(self) -> Mapping[str, Tensor]:
        """Return the weights of the branches, by their names in `state_dict`."""
        names = ("first.weight", "first.bias", "second")
        state = self.state_dict()
        return {name: state[name] for name in names}

    def folds(self, x: Tensor) -> Tensor:
        """Return the fold of each sample of x, (n, p), in each division, (n, n_repeats).

        Double precision keeps the fold independent of the batch. "mps" has only single precision.
        """
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        x, along = x.detach().to(wide), self.directions.to(wide)
        line = torch.sparse.mm(x, along) if x.is_sparse else x @ along
        line = line + self.origin
        return line.nan_to_num(0, 0, 0).floor().remainder(self.n_folds).long()

    @torch.no_grad()
    def rescale(self, shift: Tensor, scale: Tensor) -> None:
        """Keep the folds of samples when x becomes (x - shift) / scale; both (p,).

        Samples with missing values may change folds: their missing values count as 0 on the new
        scale too.
        """
        self.origin += shift.to(self.directions) @ self.directions
        self.directions *= scale.to(self.directions)[:, None]

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> ClassScores:
        """Return the predictions of all branches for x, (n, p)."""
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
        """Return p(c | x), (n, C), by the branches that speak for x.

        `prior` holds the logarithms of the classes' shares, (C,). Without it, all classes are
        equally frequent.
        """
        logits = scores.spoken if prior is None else scores.spoken + prior
        if not self.multilabel:
            return torch.softmax(logits, dim=2).mean(1)
        # A sigmoid as a softmax of two: the rounding of torch.sigmoid depends on the place in the
        # batch.
        return torch.softmax(torch.stack([logits, torch.zeros_like(logits)], 3), 3)[..., 0].mean(1)

    def gamma(self, p: Tensor) -> Tensor:
        """Return the probability that each dimension is active, (n, d), for p(c | x), (n, C)."""
        if self.multilabel:
            gamma = 1 - (1 - p[:, :, None] * self.pi).clamp_min(1e-6).prod(1)
        else:
            gamma = p @ self.pi
        return gamma.clamp(1e-6, 1 - 1e-6)

    def penalty(self) -> Tensor:
        """Return -log of the standard normal prior of the branches' weights, up to a constant.

        The weights of the hidden layers have a flat prior, because their output is normalised.
        """
        direct = self.first.weight[len(self.second) * self.width :]
        return 0.5 * (direct.square().sum() + self.second.square().sum())


def strength(gamma: Tensor) -> Tensor:
    """Return the strength of a slab: 1/4 + 3/4 tanh(logit(gamma) / 4), at least 1/4.

    A dimension that is active by a narrow margin counts little. A model that takes the codes
    therefore sees how sure the gates are. The formula with square roots is equivalent, and its
    rounding does not depend on the batch.
    """
    on, off = gamma.detach().sqrt(), (1 - gamma.detach()).sqrt()
    return 0.25 + 0.75 * F.relu((on - off) / (on + off))


def cross_fit_sizes(
    n_samples: int, n_features: int, n_classes: int, multilabel: bool, repeated: bool
) -> dict[str, int | bool]:
    """Return the sizes of the `CrossFittedGates` for data of this size.

    Few samples need many folds, so that a branch learns from most samples. Time grows with the sum
    of the widths of all branches. If samples are `repeated`, one branch learns from all of them.
    All copies of a sample are in one fold, and a branch that has seen no copy could not tell its
    class. What many copies share is not memorised.
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
