"""Room 5: the losses. Each is a class: a weighted sum of named terms.

All terms are means over the batch, in nats per sample, and sums over dimensions. Averaged over any
batch, the spike's divergence splits exactly (Y is the label)::

    mean_x KL(Bern(gamma_x) || Bern(alpha)) =
          KL(Bern(pi) || Bern(alpha))              usage:         is it active as often as alpha?
        + h(pi) - mean_c h(pi_c)                   information:   I(Gamma; Y)
        + mean_c h(pi_c) - mean_x h(gamma_x)       inconsistency: I(Gamma; X | Y)

VAE, VSC and the paper's ClassVSC therefore differ only in the weights of these terms. A sample
without a label is its own class: its spike informs about itself, and is never inconsistent. If
samples may have several labels, pi_c is replaced by the joint prediction of the labels of a sample,
see `label_gates`. The split stays exact, and the inconsistency is what the spike tells beyond the
labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._cross_fit import ClassScores
from ._gates import (
    ClassProfiles,
    Dimensions,
    centroid_divergence,
    class_gates,
    free_usage,
    pairwise_divergence,
    profile_terms,
    recognition_loss,
)
from ._modules import Priors, SpikeSlabAutoencoder
from ._spike_slab import SpikeSlab, bernoulli_entropy, bernoulli_kl, pairwise_kl


class Weight(NamedTuple):
    """Weight of a term. It goes linearly from `start` to `value` in the first part of training."""

    value: float
    warmup: float = 0.0  # the first part, as a fraction of training
    start: float = 0.0

    def at(self, progress: float) -> float:
        """Return the weight when the fraction `progress` of training is done."""
        if progress >= self.warmup:
            return self.value
        return self.start + (self.value - self.start) * progress / self.warmup


class Evidence(NamedTuple):
    """The inputs of the loss, for a whole batch."""

    q: SpikeSlab  # posterior of the codes, (n, d)
    z: Tensor  # sampled codes, (n, d)
    misfit: Tensor  # see `Likelihood.misfit`, (n,) or (n, k)
    labels: Tensor  # class indices, -1 for no label, (n,), int64; or an indicator, (n, C), bool
    weight: Tensor  # sample weights, which need not sum to 1, (n,)
    priors: Priors | None = None  # if the prior is learned
    scores: ClassScores | None = None  # if the gates follow the class


class Terms(NamedTuple):
    """The terms of the loss for a batch."""

    values: dict[str, Tensor]  # scalars; terms without a weight are only for the history
    #: If the model trains on this batch, its new running means, by the names of its buffers.
    running: dict[str, Tensor]


class Objective:
    """Base of the losses: a weighted sum of named terms."""

    #: Weights of the terms in use, by name.
    weights: Mapping[str, Weight]

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms of a batch, in the order of `weights`, without side effects."""
        raise NotImplementedError

    def loss(self, terms: Terms, progress: float) -> Tensor:
        """Return the weighted sum when the fraction `progress` of training is done."""
        values = torch.stack([terms.values[name] for name in self.weights])
        return values @ values.new_tensor([x.at(progress) for x in self.weights.values()])

    def slab_fraction(self, progress: float) -> float:
        """Return the fraction for `SpikeSlab.tempered` when `progress` of training is done."""
        return 1.0


def reconstruction_terms(
    model: SpikeSlabAutoencoder, seen: Evidence, weight: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return -E log p(x | z) and the likelihood's running means; `weight` sums to 1."""
    running = model.likelihood.running(seen.misfit, weight) if model.training else {}
    loss = model.likelihood.reconstruction(seen.misfit, weight)
    return loss, {f"likelihood.{name}": value for name, value in running.items()}


# -- without labels -------------------------------------------------------------------------------


class VAEObjective(Objective):
    """The objective of a VAE: the negative ELBO, with a weight for the divergence.

    Parameters
    ----------
    kl_weight : float
        Weight of "slab_kl": KL(N(mu, sigma^2) || N(m0, 1)).
    total_correlation_weight : float
        Weight of "total_correlation", see `total_correlation`. 0 leaves out the term.
    """

    def __init__(self, kl_weight: float = 1.0, total_correlation_weight: float = 0.0) -> None:
        self.weights = {"reconstruction": Weight(1), "slab_kl": Weight(kl_weight)}
        if total_correlation_weight:
            self.weights["total_correlation"] = Weight(total_correlation_weight)

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms; see `Objective.terms`."""
        q, weight = seen.q, seen.weight / seen.weight.sum()
        reconstruction, running = reconstruction_terms(model, seen, weight)
        values = {
            "reconstruction": reconstruction,
            "slab_kl": weight @ q.slab_kl(model.prior_mean).sum(1),
        }
        if "total_correlation" in self.weights:
            values["total_correlation"] = total_correlation(seen.z, q.mu, q.log_var, weight)
        return Terms(values, running)


class VSCObjective(Objective):
    """The objective of VSC: the negative ELBO, with the spike's divergence in two parts.

    Parameters
    ----------
    kl_weight : float
        Weight of "slab_kl": gamma KL(N(mu, sigma^2) || N(m0, 1)).
    usage_weight : float
        Weight of "usage": KL(Bern(pi) || Bern(alpha)), where pi is the mean gamma of a dimension.
    information_weight : float
        Weight of "information": h(pi) - mean_x h(gamma_x).
    warmup : float
        Fraction of training over which the last two weights rise from 0.
    """

    def __init__(
        self,
        kl_weight: float = 1.0,
        usage_weight: float = 1.0,
        information_weight: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        self.weights = {
            "reconstruction": Weight(1),
            "slab_kl": Weight(kl_weight),
            "usage": Weight(usage_weight, warmup),
            "information": Weight(information_weight, warmup),
        }

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms; see `Objective.terms`."""
        q, weight = seen.q, seen.weight / seen.weight.sum()
        gates = class_gates(q.gamma, seen.labels, 0, weight)
        reconstruction, running = reconstruction_terms(model, seen, weight)
        return Terms(
            {
                "reconstruction": reconstruction,
                "slab_kl": weight @ q.slab_kl(model.prior_mean).sum(1),
                "usage": bernoulli_kl(gates.pi, model.alpha, gates.pi_entropy).sum(),
                "information": gates.pi_entropy.sum() - gates.entropy.sum(),
            },
            running,
        )


class LearnedPriorObjective(Objective):
    """The objective of VSC with the learned prior (Tonolini et al. 2019).

    A selector picks the prior of each sample: q(z | x_u) of a pseudo-input x_u. It learns to pick
    the prior that costs least. All other weights learn from the prior that it picks.

    Parameters
    ----------
    kl_weight : float
        Weight of "slab_kl": gamma KL(slab || slab of the prior).
    information_weight : float
        Weight of "spike_kl": KL(Bern(gamma) || Bern(gamma of the prior)).
    usage_weight : float
        Weight J of "usage": KL(Bern(mean_j gamma of the prior) || Bern(alpha)). It compares the
        number of active dimensions of the prior with alpha, whichever these dimensions are.
    warmup : float
        Fraction of training over which the slabs come in, from 0 to 1.

    Notes
    -----
    "selection" is the cross-entropy of the selector's scores, with the cheapest prior as the
    label. The alternative is an expected cost under the softmax of the scores. Its gradient
    vanishes once the scores are sure, which happens after a few steps, and nearly all priors would
    then never be selected.
    """

    #: Step of the running mean of how often each pseudo-input is selected.
    momentum = 0.01

    def __init__(
        self, kl_weight: float, information_weight: float, usage_weight: float, warmup: float
    ) -> None:
        self.weights = {
            "reconstruction": Weight(1),
            "slab_kl": Weight(kl_weight),
            "spike_kl": Weight(information_weight),
            "usage": Weight(usage_weight),
            "selection": Weight(1),
        }
        self.slab = Weight(1, warmup)

    def slab_fraction(self, progress: float) -> float:
        """Return the fraction for `SpikeSlab.tempered` when `progress` of training is done."""
        return self.slab.at(progress)

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms; see `Objective.terms`."""
        assert seen.priors is not None and model.pseudo_inputs is not None
        q, weight = seen.q, seen.weight / seen.weight.sum()
        priors, scores = seen.priors
        selected = scores.argmax(1)
        prior = priors[selected]
        usage = bernoulli_kl(priors.gamma.mean(1), model.alpha.mean())  # (m,)
        reconstruction, running = reconstruction_terms(model, seen, weight)
        values = {
            "reconstruction": reconstruction,
            "slab_kl": weight @ q.slab_kl_from(prior).sum(1),
            "spike_kl": weight @ q.spike_kl_from(prior).sum(1),
            "usage": weight @ usage[selected],
            "selection": recognition_loss(scores, self._cheapest(q, priors, usage), weight),
        }
        if model.training:
            share = model.pseudo_inputs.share
            hits = torch.zeros_like(share).index_add(0, selected, weight.to(share.dtype))
            running["pseudo_inputs.share"] = share.lerp(hits, self.momentum)
        return Terms(values, running)

    @torch.no_grad()
    def _cheapest(self, q: SpikeSlab, priors: SpikeSlab, usage: Tensor) -> Tensor:
        """Return the index of the cheapest prior for each sample, (n,)."""
        slab, spike = pairwise_kl(q, priors)  # (n, m) each
        costs = zip(("slab_kl", "spike_kl", "usage"), (slab, spike, usage), strict=True)
        cost = sum((self.weights[name].value * x for name, x in costs), torch.zeros_like(slab))
        return cost.argmin(1)


# -- with labels ----------------------------------------------------------------------------------


class PaperObjective(Objective):
    """The objective of the paper: that of VSC, plus a divergence within the classes.

    Classes count by their frequency. "usage", "information" and "inconsistency" therefore add up to
    the spike's divergence.

    Parameters
    ----------
    consistency_weight : float
        Weight lambda of "consistency": the Jensen-Shannon divergence of the gates within the
        classes, per labeled sample.
    consistency : {"centroid", "pairwise"}
        Form of the divergence, see `centroid_divergence` and `pairwise_divergence`.
    kl_weight, usage_weight : float
        As for `VSCObjective`.
    information_weight : float
        Weight of "information": h(pi) - mean_c h(pi_c). "inconsistency" has the weight 1.
    warmup : float
        Fraction of training over which `consistency_weight` rises from 0.
    """

    def __init__(
        self,
        consistency_weight: float,
        consistency: str = "centroid",
        kl_weight: float = 1.0,
        usage_weight: float = 1.0,
        information_weight: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        self.consistency = consistency
        self.weights = {
            "reconstruction": Weight(1),
            "slab_kl": Weight(kl_weight),
            "usage": Weight(usage_weight),
            "information": Weight(information_weight),
            "inconsistency": Weight(1),
            "consistency": Weight(consistency_weight, warmup),
        }

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms; see `Objective.terms`."""
        q, weight = seen.q, seen.weight / seen.weight.sum()
        labels, profile = ClassProfiles.of(seen.labels, model.class_profile)
        gates = profile.gates(q.gamma, labels, weight, balanced=False)
        reconstruction, running = reconstruction_terms(model, seen, weight)
        if model.training and labels.ndim == 2:  # only `label_gates` needs the profile
            running["class_profile"] = profile.after(gates).whole
        conditional = gates.conditional_entropy.sum()
        if self.consistency == "centroid":
            consistency = centroid_divergence(gates)
        else:
            consistency = pairwise_divergence(q.gamma, labels, len(profile.rows), weight)
        return Terms(
            {
                "reconstruction": reconstruction,
                "slab_kl": weight @ q.slab_kl(model.prior_mean).sum(1),
                "usage": bernoulli_kl(gates.pi, model.alpha, gates.pi_entropy).sum(),
                "information": gates.pi_entropy.sum() - conditional,
                "inconsistency": conditional - gates.entropy.sum(),
                "consistency": consistency,
            },
            running,
        )


class CrossFittedObjective(Objective):
    """The default objective of `ClassVSCTransformer`. docs/objective.md explains each term.

    The gates follow the class, gamma_j(x) = sum_c p(c | x) pi_cj, see `CrossFittedGates`. p learns
    only from the labels, and pi from all other terms. Every class counts the same. A dimension is
    *global* if its alpha exceeds one half. The terms that tell classes apart leave out global
    dimensions.

    - "usage" compares how often a dimension is active with a range around alpha, see `free_usage`.
    - "class_usage" compares how many of the non-global dimensions each class has active with alpha,
      d_s mean_c KL(Bern(mean_j pi_cj) || Bern(alpha_s)).
    - "indecision" is mean_c h(pi_c), the uncertainty that remains within a class.
    - "overlap" is 1 - contrast of the classes' profiles.
    - "recognition" is the cross-entropy of the label, a mean over the branches that may learn it.
    - "weights" is the prior of the networks' weights, see `SpikeSlabAutoencoder.weight_penalty`.

    The history also has "held_out_recognition", which is not part of the loss. It is the
    cross-entropy of the label by the branches that have not learned it.

    Parameters
    ----------
    alpha : Tensor of shape (d,)
        Prior probability that each dimension is active.
    consistency_weight : float
        Weight lambda of the terms that make the samples of a class, and no others, share
        dimensions: "indecision" and "overlap".
    kl_weight : float
        Weight of "slab_kl".
    usage_weight : float or None
        Weight of "usage". Half of it is the weight of "class_usage". None: see `usage_by_alpha`.
    information_weight : float
        Weight of "recognition", for each branch.
    warmup : float
        Fraction of training over which the weights of "indecision" and "overlap" rise from 0.
    n_branches : int
        Number of branches.
    """

    def __init__(
        self,
        alpha: Tensor,
        consistency_weight: float = 3.0,
        kl_weight: float = 0.2,
        usage_weight: float | None = None,
        information_weight: float = 1.0,
        warmup: float = 0.5,
        n_branches: int = 1,
    ) -> None:
        self.dimensions = Dimensions.of(alpha)
        usage_weight = usage_by_alpha(alpha) if usage_weight is None else usage_weight
        self.weights = {
            "reconstruction": Weight(1),
            "slab_kl": Weight(kl_weight),
            "usage": Weight(usage_weight),
            "class_usage": Weight(usage_weight / 2),
            "indecision": Weight(consistency_weight, warmup),
            "overlap": Weight(200 / 3 * consistency_weight, warmup),
            "recognition": Weight(information_weight * n_branches),
            "weights": Weight(1),
        }

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms; see `Objective.terms`."""
        assert model.gates is not None and seen.scores is not None
        weight = seen.weight / seen.weight.sum()
        reconstruction, running = reconstruction_terms(model, seen, weight)
        pi, penalty = seen.scores.pi, seen.scores.penalty
        assert penalty is not None
        if seen.labels.ndim == 1 and len(pi) > len(weight):  # time grows with the classes
            classes = seen.labels.unique()
            pi = pi[classes[classes >= 0]]
        share = pi.new_full((len(pi),), 1 / max(len(pi), 1))
        class_usage, overlap = profile_terms(pi, share, self.dimensions)
        mean = share @ pi
        usage = bernoulli_kl(mean, free_usage(mean, self.dimensions)).sum()
        recognition, held_out = class_losses(model, seen.scores, seen.labels, weight)
        # With one fold, the branch that speaks has learned the label.
        known = {"held_out_recognition": held_out} if model.gates.n_folds > 1 else {}
        return Terms(
            {
                "reconstruction": reconstruction,
                "slab_kl": weight @ seen.q.slab_kl(model.prior_mean).sum(1),
                "usage": usage,
                "class_usage": class_usage,
                "indecision": (share @ bernoulli_entropy(pi)).sum(),
                "overlap": overlap,
                "recognition": recognition,
                "weights": penalty,
            }
            | known,
            running,
        )


def class_losses(
    model: SpikeSlabAutoencoder, scores: ClassScores, labels: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of the labels by branches that learn them, and by others.

    The loss of a branch is a mean over the samples that it may learn from, and "recognition" is the
    mean over branches. A branch learns the logits of equally frequent classes: only the loss adds
    the logarithms of their shares in the batch. If samples have several labels, the loss is the sum
    of the cross-entropies of all labels.

    Parameters
    ----------
    model : SpikeSlabAutoencoder
        The model, with `gates`.
    scores : ClassScores
        The predictions of its branches for the batch.
    labels : Tensor of shape (n,) or (n, C)
        Class indices, -1 for no label; or an indicator. Samples without a label are left out.
    weight : Tensor of shape (n,)
        Sample weights that sum to 1.

    Returns
    -------
    recognition, held_out : Tensor, scalars

    References
    ----------
    Menon et al.: Long-Tail Learning via Logit Adjustment, ICLR 2021.
    """
    assert model.gates is not None
    tiny = torch.finfo(weight.dtype).tiny
    if labels.ndim == 2:
        weight = weight * labels.any(1)
        target = labels[:, None].to(weight.dtype).expand_as(scores.logits)
        losses = F.binary_cross_entropy_with_logits(scores.logits, target, reduction="none").sum(2)
        p = model.gates.probability(scores).clamp(1e-7, 1 - 1e-7)
        held_out = F.binary_cross_entropy(p, target[:, 0], reduction="none").sum(1)
    else:
        labeled = labels >= 0
        weight, index = weight * labeled, labels.clamp_min(0)
        share = weight.new_zeros(model.gates.n_classes).index_add(0, index, weight)
        prior = (share / share.sum().clamp_min(tiny)).clamp_min(tiny).log()
        logits = scores.logits + prior
        target = index[:, None, None].expand(-1, logits.shape[1], 1)
        losses = logits.logsumexp(2) - logits.gather(2, target)[:, :, 0]
        p = model.gates.probability(scores, prior)
        held_out = -p.gather(1, index[:, None])[:, 0].clamp_min(1e-7).log()
    learned = weight[:, None] * scores.learns
    recognition = ((learned * losses).sum(0) / learned.sum(0).clamp_min(tiny)).mean()
    return recognition, (weight @ held_out / weight.sum().clamp_min(tiny)).detach()


def usage_by_alpha(alpha: Tensor) -> float:
    """Return the default weight of the usage, for alpha of shape (d,).

    It is the smallest weight for which an unused dimension costs more than one that is active for
    one class, and at least 5.
    """
    specific = alpha[alpha <= 0.5].cpu().numpy()
    return max(5.0, 1.2 / max(float(specific.mean()), 1e-6)) if specific.size else 5.0


class BalancedObjective(Objective):
    """The earlier default objective, for gates that are a head of the encoder.

    Every class of a batch counts the same. A dimension is *global* if its alpha exceeds one half.
    The terms that tell classes apart leave out global dimensions.

    - "usage" compares how often a dimension is active with a range around alpha, see `free_usage`.
    - "class_usage" compares how many of the non-global dimensions each class has active with alpha,
      d_s mean_c KL(Bern(mean_j pi_cj) || Bern(alpha_s)).
    - "inconsistency" is what the gates tell beyond the class.
    - "indecision" is mean_x h(gamma_x), the uncertainty of the gates of each sample.
    - "recognition" is the cross-entropy of the label among the classes in the batch. The score of a
      class is how well the sample's gates match its running profile. The term bounds I(Gamma; Y)
      without new parameters.
    - "overlap" is 1 - contrast of the classes' profiles.

    Parameters
    ----------
    alpha : Tensor of shape (d,)
        Prior probability that each dimension is active.
    consistency_weight : float
        Weight lambda of the terms that make the samples of a class, and no others, share
        dimensions: "inconsistency", "indecision" and "overlap".
    kl_weight : float
        Weight of "slab_kl".
    usage_weight : float or None
        Weight of "usage". Half of it is the weight of "class_usage". None: see `usage_by_alpha`.
    information_weight : float
        Weight of "recognition".
    warmup : float
        Fraction of training over which `consistency_weight` and `information_weight` rise from 0.
    """

    temperature = 4.0  # of the recognition; a higher one is softer

    def __init__(
        self,
        alpha: Tensor,
        consistency_weight: float = 3.0,
        kl_weight: float = 0.2,
        usage_weight: float | None = None,
        information_weight: float = 50.0,
        warmup: float = 0.5,
    ) -> None:
        self.dimensions = Dimensions.of(alpha)
        usage_weight = usage_by_alpha(alpha) if usage_weight is None else usage_weight
        self.weights = {
            "reconstruction": Weight(1),
            "slab_kl": Weight(kl_weight),
            "usage": Weight(usage_weight),
            "class_usage": Weight(usage_weight / 2),
            "inconsistency": Weight(1 + consistency_weight, warmup, start=1),
            "indecision": Weight(consistency_weight, warmup),
            "recognition": Weight(information_weight, warmup),
            "overlap": Weight(200 / 3 * consistency_weight, warmup),
        }

    def terms(self, model: SpikeSlabAutoencoder, seen: Evidence) -> Terms:
        """Return the terms; see `Objective.terms`."""
        q, weight, dimensions = seen.q, seen.weight / seen.weight.sum(), self.dimensions
        labels, profile = ClassProfiles.of(seen.labels, model.class_profile)
        gates = profile.gates(q.gamma, labels, weight, balanced=True)
        reconstruction, running = reconstruction_terms(model, seen, weight)
        if model.training:
            profile = profile.after(gates)
            running["class_profile"] = profile.whole

        assert q.logits is not None
        absent = (gates.share <= 0).to(weight.dtype) * (torch.finfo(weight.dtype).min / 2)  # (C,)
        specific = profile.rows * (dimensions.specific / self.temperature)  # (C, d)
        scores = torch.addmm(absent, q.logits, specific.T)  # (n, C)
        class_usage, overlap = profile_terms(gates.pi_c, gates.share, dimensions)
        free = free_usage(gates.pi, dimensions)
        indecision = gates.entropy.sum()
        return Terms(
            {
                "reconstruction": reconstruction,
                "slab_kl": weight @ q.slab_kl(model.prior_mean).sum(1),
                "usage": bernoulli_kl(gates.pi, free, gates.pi_entropy).sum(),
                "class_usage": class_usage,
                "inconsistency": gates.conditional_entropy.sum() - indecision,
                "indecision": indecision,
                "recognition": recognition_loss(scores, labels, gates.weight),
                "overlap": overlap,
            },
            running,
        )


# -- codes without gates --------------------------------------------------------------------------


def total_correlation(z: Tensor, mu: Tensor, log_var: Tensor, weight: Tensor) -> Tensor:
    """Return the total correlation of dense codes, KL(q(z) || prod_j q(z_j)), in nats.

    The estimate uses minibatch-weighted sampling: q(z) is the mixture of the q(z | x) of the batch,
    and the mean over q(z) is a mean over one draw from each. If the batch holds all data, the
    estimate is exact except for the draws. Published code also divides the mixture by the number N
    of samples. That adds (d - 1) log N, which has no gradient, so this function needs no N.

    Parameters
    ----------
    z : Tensor of shape (n, d)
        Draws from q(z | x), one for each sample.
    mu, log_var : Tensor of shape (n, d)
        Means and logarithms of the variances of q(z | x).
    weight : Tensor of shape (n,)
        Sample weights that sum to 1.

    Returns
    -------
    Tensor, a scalar
        0 for a single sample or a single dimension. Time grows with n^2 d, memory with n^2.

    References
    ----------
    Chen, Li, Grosse, Duvenaud: Isolating Sources of Disentanglement in Variational Autoencoders,
    NeurIPS 2018.
    """
    tc: Tensor = _TotalCorrelation.apply(z, mu, log_var, weight)
    return tc


class _TotalCorrelation(torch.autograd.Function):
    """Work on one dimension at a time: all dimensions at once would take n^2 d numbers."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mu: Tensor, log_var: Tensor, weight: Tensor) -> Tensor:
        log_weight = weight.log()
        joint = log_weight.expand(len(weight), -1).clone()  # log w_b q(z_a | x_b), (n, n)
        marginals = torch.empty_like(z)  # log q(z_aj), (n, d)
        for j, log_q in enumerate(_log_densities(z, mu, log_var)):
            joint += log_q
            marginals[:, j] = (log_q + log_weight).logsumexp(1)
        log_q = joint.logsumexp(1)  # log q(z_a), (n,)
        responsibility = joint.sub_(log_q[:, None]).exp_()  # share of each x_b in q(z_a)
        ctx.save_for_backward(z, mu, log_var, weight, responsibility, marginals)
        return weight @ (log_q - marginals.sum(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        z, mu, log_var, weight, responsibility, marginals = ctx.saved_tensors
        log_weight, precision = weight.log(), torch.exp(-log_var)
        to_z, to_mu, to_log_var = (torch.empty_like(z) for _ in range(3))
        for j, log_q in enumerate(_log_densities(z, mu, log_var)):
            alone = log_q.add_(log_weight).sub_(marginals[:, j, None]).exp_()
            slope = (responsibility - alone).mul_(weight[:, None])  # by log q(z_aj | x_bj)
            distance = z[:, j, None] - mu[:, j]
            pull = slope * distance
            to_z[:, j] = -(pull @ precision[:, j])
            to_mu[:, j] = pull.sum(0) * precision[:, j]
            to_log_var[:, j] = 0.5 * (pull.mul_(distance).sum(0) * precision[:, j] - slope.sum(0))
        return grad * to_z, grad * to_mu, grad * to_log_var, None


def _log_densities(z: Tensor, mu: Tensor, log_var: Tensor) -> Iterator[Tensor]:
    """Yield log q(z_aj | x_bj), up to a constant, for each dimension, (n, n)."""
    for z_j, mu_j, log_var_j in zip(z.T, mu.T, log_var.T, strict=True):
        square = (z_j[:, None] - mu_j).square_()
        yield torch.addcmul(-0.5 * log_var_j, square, torch.exp(-log_var_j), value=-0.5)
