"""Room 4: the loss, a sum of named terms, each with a weight and a schedule.

All terms are means over the batch in nats per sample, and sums over dimensions. Averaged over any
batch, the spike's divergence splits exactly (Y the label)::

    mean_x KL(Bern(gamma_x) || Bern(alpha)) =
          KL(Bern(pi) || Bern(alpha))              usage:         is it used as often as alpha says?
        + h(pi) - mean_c h(pi_c)                   information:   I(Gamma; Y)
        + mean_c h(pi_c) - mean_x h(gamma_x)       inconsistency: I(Gamma; X | Y)

so that VAE, VSC and ClassVSC differ in the weights of these terms alone. A sample without a label
is a class of its own: its spike informs about itself, and is never inconsistent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ._modules import Pass, SpikeSlabAutoencoder
from ._spike_slab import bernoulli_entropy, bernoulli_kl


class Weight(NamedTuple):
    """Weight of a term, reached linearly over the first `warmup` fraction of training."""

    value: float
    warmup: float = 0.0

    def at(self, progress: float) -> float:
        """Return the weight when the fraction `progress` of training is done."""
        return self.value * min(1.0, progress / self.warmup) if self.warmup else self.value


class ClassGates(NamedTuple):
    """How often each dimension is on, over a batch and in each of its classes."""

    pi: Tensor  # mean gamma, (d,)
    pi_c: Tensor  # mean gamma of each class, (C, d); 0 for a class that is absent
    mass: Tensor  # share of each class in the batch, (C,)
    conditional_entropy: Tensor  # mean_c h(pi_c), an unlabeled sample being its own class, (d,)
    entropy: Tensor  # mean_x h(gamma_x), (d,)


def class_gates(gamma: Tensor, labels: Tensor, n_classes: int, weight: Tensor) -> ClassGates:
    """Summarise the gates of a batch: one matrix product over the classes.

    Parameters
    ----------
    gamma : Tensor of shape (n, d)
        Activation probabilities.
    labels : Tensor of shape (n,)
        Class indices; -1 where there is no label.
    n_classes : int
        Number C of classes.
    weight : Tensor of shape (n,)
        Sample weights that sum to 1.

    Returns
    -------
    ClassGates
    """
    h = bernoulli_entropy(gamma)
    classes = torch.arange(n_classes, device=labels.device)
    member = (labels[:, None] == classes).to(gamma.dtype) * weight[:, None]  # (n, C)
    mass = member.sum(0)
    pi_c = (member.T @ gamma) / mass.clamp_min(torch.finfo(mass.dtype).tiny)[:, None]
    unlabeled = weight * (labels < 0)
    conditional = mass @ bernoulli_entropy(pi_c) + unlabeled @ h
    return ClassGates(weight @ gamma, pi_c, mass, conditional, weight @ h)


def centroid_divergence(gamma: Tensor, labels: Tensor, n_classes: int, weight: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the gates within the classes, over the labeled samples.

    The mean over classes, by their frequency, of h(pi_c) - mean_{x in c} h(gamma_x): the
    `inconsistency`, per labeled sample. Parameters as for `class_gates`; at most d log 2 nats.
    """
    labeled = weight * (labels >= 0)
    weight = labeled / labeled.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    gates = class_gates(gamma, labels, n_classes, weight)
    return (gates.conditional_entropy - gates.entropy).sum()


def pairwise_divergence(gamma: Tensor, labels: Tensor, n_classes: int, weight: Tensor) -> Tensor:
    """Jensen-Shannon divergence between the gates of two samples of a class.

    The mean over classes of the mean over distinct pairs of
    sum_j h((gamma_aj + gamma_bj) / 2) - h(gamma_aj) / 2 - h(gamma_bj) / 2. Parameters as for
    `class_gates`; time and memory grow with the number of pairs. At most d log 2 nats.
    """
    h = bernoulli_entropy(gamma).sum(1)  # (n,)
    means = []
    for c in range(n_classes):
        members = torch.nonzero(labels == c).squeeze(1)
        if len(members) < 2:
            continue
        a, b = members[torch.combinations(torch.arange(len(members), device=labels.device)).T]
        divergence = bernoulli_entropy((gamma[a] + gamma[b]) / 2).sum(1) - (h[a] + h[b]) / 2
        pair = weight[a] * weight[b]
        means.append(pair @ divergence / pair.sum())
    return torch.stack(means).mean() if means else gamma.sum() * 0


DIVERGENCES = {"centroid": centroid_divergence, "pairwise": pairwise_divergence}


class Objective:
    """A weighted sum of named terms.

    Parameters
    ----------
    weights : mapping of str to Weight
        The terms in use: "reconstruction", "slab_kl", "usage", "information", "inconsistency",
        "consistency".
    n_classes : int
        Number of classes; 0 without labels.
    consistency : {"centroid", "pairwise"}
        Form of the "consistency" term.
    """

    def __init__(
        self, weights: Mapping[str, Weight], n_classes: int = 0, consistency: str = "centroid"
    ) -> None:
        self.weights, self.n_classes, self.consistency = dict(weights), n_classes, consistency

    def terms(
        self, model: SpikeSlabAutoencoder, out: Pass, x: Tensor, labels: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms in use, each a scalar.

        `weight`, of shape (n,), holds the sample weights; they need not sum to 1.
        """
        weight = weight / weight.sum()
        q, used = out.q, self.weights.keys()
        terms = {
            "reconstruction": model.likelihood.reconstruction(out.theta, x, weight),
            "slab_kl": weight @ q.slab_kl(model.prior_mean).sum(1),
        }
        if used & {"usage", "information", "inconsistency"}:
            gates = class_gates(q.gamma, labels, self.n_classes, weight)
            terms["usage"] = bernoulli_kl(gates.pi, model.alpha).sum()
            terms["information"] = (bernoulli_entropy(gates.pi) - gates.conditional_entropy).sum()
            terms["inconsistency"] = (gates.conditional_entropy - gates.entropy).sum()
        if "consistency" in used:
            divergence = DIVERGENCES[self.consistency]
            terms["consistency"] = divergence(q.gamma, labels, self.n_classes, weight)
        return {name: terms[name] for name in self.weights}

    def loss(self, terms: Mapping[str, Tensor], progress: float) -> Tensor:
        """Return the weighted sum when the fraction `progress` of training is done."""
        first, *rest = (self.weights[name].at(progress) * term for name, term in terms.items())
        return sum(rest, first)
