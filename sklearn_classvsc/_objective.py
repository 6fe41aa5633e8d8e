"""Room 4: the loss, a sum of named terms, each with a weight and a schedule.

All terms are means over the batch in nats per sample, and sums over dimensions. Averaged over any
batch, the spike's divergence splits exactly (Y the label)::

    mean_x KL(Bern(gamma_x) || Bern(alpha)) =
          KL(Bern(pi) || Bern(alpha))              usage:         is it used as often as alpha says?
        + h(pi) - mean_c h(pi_c)                   information:   I(Gamma; Y)
        + mean_c h(pi_c) - mean_x h(gamma_x)       inconsistency: I(Gamma; X | Y)

so that VAE, VSC and the paper's ClassVSC differ in the weights of these terms alone. A sample
without a label is a class of its own: its spike informs about itself, and is never inconsistent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._modules import Pass, SpikeSlabAutoencoder
from ._spike_slab import SpikeSlab, bernoulli_entropy, bernoulli_kl, pairwise_kl
from .distributed import ALONE, Alone

#: Classes from which on several processes look which of them are in a batch.
MANY = 1000


class Weight(NamedTuple):
    """Weight of a term, going linearly from `start` to `value` over the first part of training."""

    value: float
    warmup: float = 0.0  # the part, as a fraction
    start: float = 0.0

    def at(self, progress: float) -> float:
        """Return the weight when the fraction `progress` of training is done."""
        if progress >= self.warmup:
            return self.value
        return self.start + (self.value - self.start) * progress / self.warmup


class ClassGates(NamedTuple):
    """How often each dimension is on, over a batch and in each of its classes."""

    weight: Tensor  # weights of the samples that the means are taken with, (n,)
    share: Tensor  # share of each class in those weights, (C,); 0 for a class that is absent
    pi: Tensor  # mean gamma, (d,)
    pi_c: Tensor  # mean gamma of each class, (C, d); 0 for a class that is absent
    conditional_entropy: Tensor  # mean_c h(pi_c), an unlabeled sample being its own class, (d,)
    entropy: Tensor  # mean_x h(gamma_x), (d,)


def class_gates(
    gamma: Tensor,
    labels: Tensor,
    n_classes: int,
    weight: Tensor,
    balanced: bool = False,
    processes: Alone = ALONE,
) -> ClassGates:
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
    balanced : bool
        Give every class in the batch the same share, and samples without a label none.
    processes : Alone or Processes
        Who have the parts of the batch.

    Returns
    -------
    ClassGates
    """
    h = bernoulli_entropy(gamma)
    if not n_classes and not balanced:  # every sample is its own class
        pi, entropy = weight @ gamma, weight @ h
        if processes.size > 1:
            pi, entropy = processes.total(torch.stack([pi, entropy]))
        return ClassGates(weight, weight[:0], pi, gamma[:0], entropy, entropy)
    with torch.no_grad():
        classes = torch.arange(n_classes, device=labels.device)
        member = (labels[:, None] == classes) * weight[:, None]  # (n, C)
        share = processes.total(member.sum(0))
        average = (member / share.clamp_min(torch.finfo(share.dtype).tiny)).T  # (C, n)
        if balanced:
            present = (share > 0).to(weight.dtype)
            share = present / present.sum().clamp_min(1)
            weight = share @ average
        unlabeled = weight * (labels < 0)
    pi_c, pi, h_unlabeled, entropy = average @ gamma, weight @ gamma, unlabeled @ h, weight @ h
    if processes.size > 1:
        sums = processes.total(torch.cat([pi_c, torch.stack([pi, h_unlabeled, entropy])]))
        pi_c, (pi, h_unlabeled, entropy) = sums[:-3], sums[-3:]
    conditional = share @ bernoulli_entropy(pi_c) + h_unlabeled
    return ClassGates(weight, share, pi, pi_c, conditional, entropy)


def centroid_divergence(gates: ClassGates) -> Tensor:
    """Jensen-Shannon divergence of the gates within the classes, over the labeled samples.

    The mean over classes, by their share, of h(pi_c) - mean_{x in c} h(gamma_x): the
    `inconsistency`, per labeled sample. At most d log 2 nats.
    """
    inconsistency = (gates.conditional_entropy - gates.entropy).sum()
    return inconsistency / gates.share.sum().clamp_min(torch.finfo(gates.share.dtype).tiny)


def pairwise_divergence(gamma: Tensor, labels: Tensor, n_classes: int, weight: Tensor) -> Tensor:
    """Jensen-Shannon divergence between the gates of two samples of a class.

    The mean over classes of the mean over distinct pairs of
    sum_j h((gamma_aj + gamma_bj) / 2) - h(gamma_aj) / 2 - h(gamma_bj) / 2. Parameters as for
    `class_gates`; time and memory grow with the number of pairs, and a pair has the product of
    its weights. At most d log 2 nats.
    """
    h = bernoulli_entropy(gamma).sum(1)  # (n,)
    means = []
    for c in range(n_classes):
        members = torch.nonzero(labels == c).squeeze(1)
        if len(members) < 2:
            continue
        a, b = members[torch.combinations(torch.arange(len(members), device=labels.device)).T]
        divergence = bernoulli_entropy((gamma[a] + gamma[b]) / 2).sum(1) - (h[a] + h[b]) / 2
        share = weight / weight[members].max()  # products of tiny weights would underflow
        pair = share[a] * share[b]
        means.append(pair @ divergence / pair.sum())
    return torch.stack(means).mean() if means else gamma.sum() * 0


def free_usage(pi: Tensor, alpha: Tensor) -> Tensor:
    """Return the usage closest to `pi`, (d,), that the balanced objective does not charge for.

    With e the excess of alpha over 0.12, about its value for ten classes: alpha - 0.1 e to
    alpha + 0.8 e, at most one half. Where classes are few and alpha is large, one may have a
    dimension of its own, or two may share one instead of each having a copy. From alpha 0.12
    down, and for global dimensions, alpha alone is free.
    """
    pi = pi.detach()  # where a divergence from it is 0, so is its derivative
    excess = (alpha - 0.12).clamp_min(0) * (alpha <= 0.5)
    most = torch.maximum(alpha, (alpha + 0.8 * excess).clamp_max(0.5))
    return pi.clamp(alpha - 0.1 * excess, most)


def class_overlap(pi_c: Tensor, present: Tensor) -> Tensor:
    """1 - contrast, with mean gammas in place of supports; see `metrics.class_contrast_score`.

    Parameters
    ----------
    pi_c : Tensor of shape (C, d)
        Mean gamma of each class.
    present : Tensor of shape (C,)
        1 for the classes in the batch, else 0.

    Returns
    -------
    Tensor, a scalar
        In [0, 2]; 0 where every class has dimensions of its own that all its samples use.
    """
    with torch.no_grad():  # within: a class with itself; between: the mean over pairs of classes
        n_present = present.sum().clamp_min(1)
        pair = 2 * present[:, None] * present / (n_present * (n_present - 1)).clamp_min(1)
        share = pair.diagonal_scatter(-2 * present / n_present)
    active = pi_c.sum(1) + 1e-3  # the offset keeps a class without active dimensions finite
    return 1 + (share * (pi_c @ pi_c.T) / (active[:, None] + active)).sum()


def recognition_loss(scores: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the labels given class scores (n, C), in nats; -1 is no label."""
    losses = F.cross_entropy(scores, labels, reduction="none", ignore_index=-1)
    return weight @ losses


def class_terms(
    q: SpikeSlab, gates: ClassGates, labels: Tensor, alpha: Tensor, profile: Tensor
) -> dict[str, Tensor]:
    """Return the terms that tell classes apart, over the dimensions that are not global.

    Parameters
    ----------
    q : SpikeSlab
        Posterior of the codes.
    gates : ClassGates
        Their summary.
    labels : Tensor of shape (n,)
        Class indices; -1 where there is no label.
    alpha : Tensor of shape (d,)
        Prior probability of each dimension to be active.
    profile : Tensor of shape (C, d)
        What the logits of a sample are compared with, for each class.
    """
    assert q.logits is not None
    specific = (alpha <= 0.5).to(alpha.dtype)  # (d,)
    n_specific = specific.sum().clamp_min(1)
    alpha = (alpha @ specific / n_specific).clamp_min(1e-6)  # if there is none
    pi_c, present = gates.pi_c * specific, gates.share > 0
    on = pi_c.sum(1)  # (C,)
    scores = q.logits @ (profile * specific).T  # (n, C)
    scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
    return {
        "class_usage": gates.share @ bernoulli_kl(on / n_specific, alpha) * n_specific,
        "recognition": recognition_loss(scores, labels, gates.weight),
        "overlap": class_overlap(pi_c, present.to(pi_c.dtype)),
    }


class Objective:
    """A weighted sum of named terms.

    Parameters
    ----------
    weights : mapping of str to Weight
        The terms in use, by name:

        - "reconstruction": -E log p(x | z);
        - "slab_kl": gamma KL(N(mu, sigma^2) || N(m0, 1));
        - "usage", "information", "inconsistency": the split of the spike's divergence; with
          `balanced`, usage is free within a range around alpha, see `free_usage`;
        - "indecision": mean_x h(gamma_x), what is left where gates toss a coin for every sample;
        - "consistency": the paper's divergence within classes, per labeled sample;
        - "class_usage": whether every class uses as many of the non-global dimensions as alpha
          says, d_s mean_c KL(Bern(mean_j pi_cj) || Bern(alpha_s));
        - "recognition": cross-entropy of the label among the classes in the batch, each scored by
          how well the sample's gates match its running profile: a bound on I(Gamma; Y) without
          new parameters;
        - "overlap": 1 - contrast of the classes' profiles, over the non-global dimensions.
    n_classes : int
        Number C of classes; 0 without labels.
    consistency : {"centroid", "pairwise"}
        Form of the "consistency" term.
    balanced : bool
        Let every class of a batch count the same in the terms of the gates. Without it, each
        counts by its frequency, and the split is that of the spike's divergence.

    Notes
    -----
    A dimension is *global* if its alpha exceeds one half.
    """

    #: Softness of the recognition, and the step of the running profiles it compares with.
    temperature = 4.0
    momentum = 0.1

    def __init__(
        self,
        weights: Mapping[str, Weight],
        n_classes: int = 0,
        consistency: str = "centroid",
        balanced: bool = False,
    ) -> None:
        self.weights, self.n_classes = dict(weights), n_classes
        self.consistency, self.balanced = consistency, balanced

    def terms(
        self,
        model: SpikeSlabAutoencoder,
        out: Pass,
        x: Tensor,
        labels: Tensor,
        weight: Tensor,
        processes: Alone = ALONE,
    ) -> dict[str, Tensor]:
        """Return the terms in use, each a scalar.

        `weight`, of shape (n,), holds the sample weights; they need not sum to 1. Where several
        `processes` have a part of the batch each, the terms are of the whole batch.
        """
        weight = weight / processes.total(weight.sum())
        terms = {
            "reconstruction": model.likelihood.reconstruction(out.theta, x, weight, processes),
            "slab_kl": weight @ out.q.slab_kl(model.prior_mean).sum(1),
        }
        if not terms.keys() >= self.weights.keys():
            terms |= self._gate_terms(model, out, labels, weight, processes)
        if processes.size > 1:  # those that are still of this part alone
            parts = {name: terms[name] for name in ("slab_kl", "recognition") if name in terms}
            terms |= zip(parts, processes.total(torch.stack([*parts.values()])), strict=True)
        return {name: terms[name] for name in self.weights}

    def _gate_terms(
        self,
        model: SpikeSlabAutoencoder,
        out: Pass,
        labels: Tensor,
        weight: Tensor,
        processes: Alone,
    ) -> dict[str, Tensor]:
        """Return the split of the spike's divergence, and the terms on classes that are in use."""
        n_classes, profile = self.n_classes, model.class_profile
        if n_classes > (len(labels) if processes.size == 1 else MANY):
            # Those in the batch are enough, and time grows with them.
            everyone = processes.gather(labels)
            present = everyone[everyone >= 0].unique()
            labels = torch.where(labels < 0, labels, torch.searchsorted(present, labels))
            n_classes, profile = len(present), profile[present]
        gates = class_gates(out.q.gamma, labels, n_classes, weight, self.balanced, processes)
        prior = free_usage(gates.pi, model.alpha) if self.balanced else model.alpha
        indecision, conditional = gates.entropy.sum(), gates.conditional_entropy.sum()
        terms = {
            "usage": bernoulli_kl(gates.pi, prior).sum(),
            "inconsistency": conditional - indecision,
            "indecision": indecision,
        }
        if "information" in self.weights:
            terms["information"] = bernoulli_entropy(gates.pi).sum() - conditional
        if "consistency" in self.weights:
            terms["consistency"] = (
                centroid_divergence(gates)
                if self.consistency == "centroid"
                else pairwise_divergence(
                    processes.gather(out.q.gamma),
                    processes.gather(labels),
                    n_classes,
                    processes.gather(weight),
                )
            )
        if self.weights.keys() & {"class_usage", "recognition", "overlap"}:
            if model.training:
                step = self.momentum * (gates.share > 0)[:, None]
                profile = profile.lerp(gates.pi_c.detach(), step.to(profile.dtype))
                if n_classes < self.n_classes:
                    model.class_profile[present] = profile
                else:
                    model.class_profile.copy_(profile)
            terms |= class_terms(out.q, gates, labels, model.alpha, profile / self.temperature)
        return terms

    def loss(self, terms: Mapping[str, Tensor], progress: float) -> Tensor:
        """Return the weighted sum when the fraction `progress` of training is done."""
        values = torch.stack(list(terms.values()))
        return values @ values.new_tensor([self.weights[name].at(progress) for name in terms])

    def slab_share(self, progress: float) -> float:
        """Return how much of the slabs is used when the fraction `progress` of training is done."""
        return 1.0


class LearnedPriorObjective(Objective):
    """The objective of VSC with the learned prior (Tonolini et al. 2019).

    A selector names the prior of each sample, q(z | x_u) of a pseudo-input x_u. It learns to name
    the one that costs least, and the others learn from the one that it names.

    Parameters
    ----------
    kl_weight : float
        Weight of "slab_kl": gamma KL(slab || slab of the prior).
    information_weight : float
        Weight of "spike_kl": KL(Bern(gamma) || Bern(gamma of the prior)).
    usage_weight : float
        Weight J of "usage": KL(Bern(mean_j gamma of the prior) || Bern(alpha)), whether the prior
        has as many dimensions on as alpha says, whichever they are.
    warmup : float
        Fraction of training over which the slabs are tempered, from 0 to 1.

    Notes
    -----
    "selection" is the cross-entropy of the selector's scores, with the cheapest prior as the
    label. An expected cost under their softmax has a gradient that vanishes where they are sure:
    after a few steps they are, and nearly all the priors are left aside.
    """

    #: Step of the running mean of how often each pseudo-input is selected.
    momentum = 0.01

    def __init__(
        self, kl_weight: float, information_weight: float, usage_weight: float, warmup: float
    ) -> None:
        super().__init__(
            {
                "reconstruction": Weight(1),
                "slab_kl": Weight(kl_weight),
                "spike_kl": Weight(information_weight),
                "usage": Weight(usage_weight),
                "selection": Weight(1),
            }
        )
        self.slab = Weight(1, warmup)

    def slab_share(self, progress: float) -> float:
        """Return how much of the slabs is used when the fraction `progress` of training is done."""
        return self.slab.at(progress)

    def terms(
        self,
        model: SpikeSlabAutoencoder,
        out: Pass,
        x: Tensor,
        labels: Tensor,
        weight: Tensor,
        processes: Alone = ALONE,
    ) -> dict[str, Tensor]:
        """Return the terms, each a scalar; see `Objective.terms`."""
        assert out.priors is not None and model.pseudo_inputs is not None
        priors, scores = out.priors
        selected = scores.argmax(1)
        prior = priors[selected]
        usage = bernoulli_kl(priors.gamma.mean(1), model.alpha.mean())  # (m,)
        weight = weight / processes.total(weight.sum())
        parts = {
            "slab_kl": weight @ out.q.slab_kl_from(prior).sum(1),
            "spike_kl": weight @ out.q.spike_kl_from(prior).sum(1),
            "usage": weight @ usage[selected],
            "selection": recognition_loss(scores, self._cheapest(out.q, priors, usage), weight),
        }
        totals = processes.total(torch.stack([*parts.values()]))
        if model.training:
            with torch.no_grad():
                share = model.pseudo_inputs.share
                hits = torch.zeros_like(share).index_add(0, selected, weight.to(share.dtype))
                share.lerp_(processes.total(hits), self.momentum)
        reconstruction = model.likelihood.reconstruction(out.theta, x, weight, processes)
        return {"reconstruction": reconstruction} | dict(zip(parts, totals, strict=True))

    @torch.no_grad()
    def _cheapest(self, q: SpikeSlab, priors: SpikeSlab, usage: Tensor) -> Tensor:
        """Return which of the priors costs least, for each sample, (n,)."""
        slab, spike = pairwise_kl(q, priors)  # (n, m) each
        costs = zip(("slab_kl", "spike_kl", "usage"), (slab, spike, usage), strict=True)
        cost = sum((self.weights[name].value * x for name, x in costs), torch.zeros_like(slab))
        return cost.argmin(1)
