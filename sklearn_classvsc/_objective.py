"""Room 4: the loss, a sum of named terms, each with a weight and a schedule.

All terms are means over the batch in nats per sample, and sums over dimensions. Averaged over any
batch, the spike's divergence splits exactly (Y the label)::

    mean_x KL(Bern(gamma_x) || Bern(alpha)) =
          KL(Bern(pi) || Bern(alpha))              usage:         is it used as often as alpha says?
        + h(pi) - mean_c h(pi_c)                   information:   I(Gamma; Y)
        + mean_c h(pi_c) - mean_x h(gamma_x)       inconsistency: I(Gamma; X | Y)

so that VAE, VSC and the paper's ClassVSC differ in the weights of these terms alone. A sample
without a label is a class of its own: its spike informs about itself, and is never inconsistent.
Where a sample may have several labels, pi_c is replaced by what its labels together predict, see
`label_gates`: the sum is as exact, and inconsistency is what the spike tells beyond the labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._modules import Pass, SpikeSlabAutoencoder
from ._spike_slab import (
    SpikeSlab,
    bernoulli_entropy,
    bernoulli_kl,
    entropy_and_slope,
    pairwise_kl,
)
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
    pi_entropy: Tensor  # h(pi), (d,)
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
        pi_entropy = bernoulli_entropy(pi)
        return ClassGates(weight, weight[:0], pi, pi_entropy, gamma[:0], entropy, entropy)
    with torch.no_grad():
        # A row for each class, one for all, one for those with a label and one for those without.
        row = torch.where(labels < 0, n_classes + 2, labels)
        rows = weight.new_zeros(n_classes + 3, len(labels)).scatter_(0, row[None], weight[None])
        average = rows[:n_classes]
        share = processes.total(average.sum(1))
        average /= share.clamp_min(torch.finfo(share.dtype).tiny)[:, None]
        if balanced:
            present = (share > 0).to(weight.dtype)
            share = present / present.sum().clamp_min(1)
            weight = share @ average
            rows[-1] = 0
        rows[n_classes] = weight
        rows[n_classes + 1] = weight - rows[-1]
    # Few products, and one entropy, for all: of so small matrices it is their number that counts.
    means, entropies = rows[: n_classes + 1] @ gamma, rows[n_classes + 1 :] @ h
    if processes.size > 1:
        sums = processes.total(torch.cat([means, entropies]))
        means, entropies = sums.split([n_classes + 1, 2])
    h_labeled, h_unlabeled = entropies
    (pi_c, pi), (h_c, h_pi) = (x.split([n_classes, 1]) for x in (means, bernoulli_entropy(means)))
    # The same sum of those without a label in both: where there are no others they are equal, and
    # what is inconsistent is divided by a share of 0.
    conditional, entropy = share @ h_c + h_unlabeled, h_labeled + h_unlabeled
    return ClassGates(weight, share, pi.squeeze(0), h_pi.squeeze(0), pi_c, conditional, entropy)


def label_gates(
    gamma: Tensor,
    members: Tensor,
    weight: Tensor,
    profile: Tensor,
    balanced: bool = False,
    processes: Alone = ALONE,
) -> ClassGates:
    """Summarise the gates of a batch in which samples may have several labels.

    A dimension is on if one of the sample's labels switches it on (noisy-or): with pi_cj the
    probability that label c does,

        e_xj = 1 - prod_{c of x} (1 - pi_cj),

    and `conditional_entropy` is the cross-entropy of gamma and e, at least what any function of
    the labels leaves open. pi_c is an EM step from `profile`: each gate is attributed to the
    labels of its sample, in the ratio of what they were known to switch on. Where each sample has
    one label, e_x and pi_c are that label's mean, and all is as in `class_gates`.

    Parameters
    ----------
    gamma : Tensor of shape (n, d)
        Activation probabilities.
    members : Tensor of bool of shape (n, C)
        Which labels a sample has; a row of none is a sample without a label.
    weight : Tensor of shape (n,)
        Sample weights that sum to 1.
    profile : Tensor of shape (C, d)
        The last known pi_c.
    balanced : bool
        Give every label in the batch the same share, and samples without a label none. `pi` is
        then the mean of pi_c: how often a dimension stands for a label.
    processes : Alone or Processes
        Who have the parts of the batch.

    Returns
    -------
    ClassGates
        With C labels in place of classes.
    """
    info = torch.finfo(gamma.dtype)
    with torch.no_grad():
        member = members.to(gamma.dtype)
        count = member.sum(1, keepdim=True)  # (n, 1)
        share = processes.total((member / count.clamp_min(1) * weight[:, None]).sum(0))
        average = member * weight[:, None]  # (n, C)
        average = average / processes.total(average.sum(0)).clamp_min(info.tiny)
        if balanced:
            present = (share > 0).to(weight.dtype)
            share = present / present.sum().clamp_min(1)
            weight = average @ share
    own = weight  # of this process; below are all samples
    if processes.size > 1:  # the prediction for one sample depends on all
        parts = (gamma, member, average, weight, count)
        gamma, member, average, weight, count = map(processes.gather, parts)
    with torch.no_grad():
        before = profile.clamp(0.01, 1 - info.eps)  # from 0 there is no way back
        cause = -torch.expm1(member @ torch.log1p(-before))  # (n, d)
        labeled = weight * (count[:, 0] > 0)
        unlabeled = weight - labeled
    h = bernoulli_entropy(gamma)
    pi_c = before * (average.T @ (gamma / cause.clamp_min(info.eps)))  # (C, d)
    log_off = member @ torch.log1p(-pi_c.clamp_max(1 - info.eps))  # log(1 - e), (n, d)
    log_on = torch.log(-torch.expm1(log_off.clamp_max(-info.eps)))
    surprise = -(gamma * log_on + (1 - gamma) * log_off)
    pi = share @ pi_c if balanced else weight @ gamma
    h_unlabeled = unlabeled @ h  # the same sum in both, see `class_gates`
    return ClassGates(
        weight=own,
        share=share,
        pi=pi,
        pi_entropy=bernoulli_entropy(pi),
        pi_c=pi_c,
        conditional_entropy=labeled @ surprise + h_unlabeled,
        entropy=labeled @ h + h_unlabeled,
    )


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


class Dimensions(NamedTuple):
    """What the balanced objective makes of alpha, the same in every step."""

    specific: Tensor  # 1 for the dimensions that are not global, else 0, (d,)
    n_specific: Tensor  # their number, at least 1, ()
    alpha: Tensor  # the mean alpha of these, ()
    least: Tensor  # the usage that is free, (d,) each; see `free_usage`
    most: Tensor

    @classmethod
    def of(cls, alpha: Tensor) -> Dimensions:
        """Return this for alpha of shape (d,)."""
        specific = (alpha <= 0.5).to(alpha.dtype)
        n_specific = specific.sum().clamp_min(1)
        mean = ((alpha * specific).sum() / n_specific).clamp_min(1e-6)  # if there is none
        excess = (alpha - 0.12).clamp_min(0) * specific
        most = torch.maximum(alpha, (alpha + 0.8 * excess).clamp_max(0.5))
        return cls(specific, n_specific, mean, alpha - 0.1 * excess, most)


def free_usage(pi: Tensor, dimensions: Dimensions) -> Tensor:
    """Return the usage closest to `pi`, (d,), that the balanced objective does not charge for.

    With e the excess of alpha over 0.12, about its value for ten classes: alpha - 0.1 e to
    alpha + 0.8 e, at most one half. Where classes are few and alpha is large, one may have a
    dimension of its own, or two may share one instead of each having a copy. From alpha 0.12
    down, and for global dimensions, alpha alone is free.
    """
    # Where a divergence from it is 0, so is its derivative.
    return pi.detach().clamp(dimensions.least, dimensions.most)


def profile_terms(pi_c: Tensor, share: Tensor, dimensions: Dimensions) -> tuple[Tensor, Tensor]:
    """Return "class_usage" and "overlap", see `Objective`, of the dimensions that are not global.

    The overlap is 1 - contrast, with mean gammas in place of supports, see
    `metrics.class_contrast_score`. It is in [0, 2], and 0 where every class has dimensions of its
    own that all its samples use.

    Parameters
    ----------
    pi_c : Tensor of shape (C, d)
        Mean gamma of each class.
    share : Tensor of shape (C,)
        Share of each class; 0 for one that is absent.
    dimensions : Dimensions
        What alpha says of them.

    Returns
    -------
    class_usage, overlap : Tensor, scalars
    """
    usage, overlap = _ProfileTerms.apply(pi_c, share, dimensions)
    return usage, overlap


class _ProfileTerms(torch.autograd.Function):
    """In closed form: on matrices of a few classes it is the number of operations that counts."""

    @staticmethod
    def forward(
        ctx: Any, pi_c: Tensor, share: Tensor, dimensions: Dimensions
    ) -> tuple[Tensor, Tensor]:
        specific, n_specific, alpha = dimensions[:3]
        present = (share > 0).to(share.dtype)  # (C,)
        mask = torch.outer(present, specific)
        pi_c = pi_c * mask
        on = pi_c.sum(1)  # (C,)

        # n_s sum_c share_c KL(Bern(on_c / n_s) || Bern(alpha)), and its derivative by `on`
        mean, logit = on / n_specific, torch.logit(alpha)
        h, slope = entropy_and_slope(mean)
        kl = h.addcmul_(mean, logit).add_(torch.log1p(-alpha)).neg_()
        usage = share @ kl * n_specific
        usage_by_on = slope.add_(logit).mul_(-share)

        # 1 - the mean sharing within classes + that between two, and its derivative by pi_c:
        # through the products, and through the sizes that they are divided by
        n_present = present.sum().clamp_min(1)
        within, between = 2 / n_present, 2 / (n_present * (n_present - 1)).clamp_min(1)
        size = on + 1e-3  # the offset keeps a class without active dimensions finite
        scale = (size[:, None] + size).reciprocal_()
        by_product = scale * between
        by_product.diagonal().copy_(scale.diagonal() * -within)
        sharing = (pi_c @ pi_c.T).mul_(by_product)
        overlap = 1 + sharing.sum()
        by_size = sharing.mul_(scale).sum(1, keepdim=True)
        overlap_by_pi = torch.addmm(by_size, by_product, pi_c, beta=-2, alpha=2)

        ctx.save_for_backward(usage_by_on[:, None] * mask, overlap_by_pi.mul_(mask))
        return usage, overlap

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_usage: Tensor, to_overlap: Tensor) -> tuple[Tensor, None, None]:
        usage_by_pi, overlap_by_pi = ctx.saved_tensors
        return to_usage * usage_by_pi + to_overlap * overlap_by_pi, None, None


def recognition_loss(scores: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the labels given class scores (n, C), in nats; -1 is no label.

    Of several labels (n, C), the mean cross-entropy of each against those that the sample has not.
    """
    if labels.ndim == 1:
        losses = F.cross_entropy(scores, labels, reduction="none", ignore_index=-1)
        return weight @ losses
    others = scores.masked_fill(labels, torch.finfo(scores.dtype).min)
    losses = F.softplus(others.logsumexp(1, keepdim=True) - scores) * labels
    return weight @ (losses.sum(1) / labels.sum(1).clamp_min(1))


def class_terms(
    q: SpikeSlab, gates: ClassGates, labels: Tensor, dimensions: Dimensions, profile: Tensor
) -> dict[str, Tensor]:
    """Return the terms that tell classes apart, over the dimensions that are not global.

    Parameters
    ----------
    q : SpikeSlab
        Posterior of the codes.
    gates : ClassGates
        Their summary.
    labels : Tensor of shape (n,) or (n, C)
        Class indices, -1 where there is no label; or which labels a sample has.
    dimensions : Dimensions
        What alpha says of them.
    profile : Tensor of shape (C, d)
        What the logits of a sample are compared with, for each class; 0 where global.
    """
    assert q.logits is not None
    absent = (gates.share <= 0).to(profile.dtype) * (torch.finfo(profile.dtype).min / 2)  # (C,)
    scores = torch.addmm(absent, q.logits, profile.T)  # (n, C)
    usage, overlap = profile_terms(gates.pi_c, gates.share, dimensions)
    recognition = recognition_loss(scores, labels, gates.weight)
    return {"class_usage": usage, "recognition": recognition, "overlap": overlap}


def total_correlation(z: Tensor, mu: Tensor, log_var: Tensor, weight: Tensor) -> Tensor:
    """Total correlation of dense codes, KL(q(z) || prod_j q(z_j)), in nats.

    By minibatch-weighted sampling: q(z) is the mixture of the q(z | x) of this batch, and the mean
    over q(z) that over one draw from each. Of a batch that is all the data, exact but for the
    draws. Published code divides the mixture by the number N of samples as well: that adds
    (d - 1) log N, which has no gradient, so N is not needed.

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
    """One dimension after the other, forth and back: all at once would take n^2 d numbers."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mu: Tensor, log_var: Tensor, weight: Tensor) -> Tensor:
        log_weight = weight.log()
        joint = log_weight.expand(len(weight), -1).clone()  # log w_b q(z_a | x_b), (n, n)
        marginals = torch.empty_like(z)  # log q(z_aj), (n, d)
        for j, log_q in enumerate(_log_densities(z, mu, log_var)):
            joint += log_q
            marginals[:, j] = (log_q + log_weight).logsumexp(1)
        log_q = joint.logsumexp(1)  # log q(z_a), (n,)
        share = joint.sub_(log_q[:, None]).exp_()  # of each x_b in it
        ctx.save_for_backward(z, mu, log_var, weight, share, marginals)
        return weight @ (log_q - marginals.sum(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        z, mu, log_var, weight, share, marginals = ctx.saved_tensors
        log_weight, precision = weight.log(), torch.exp(-log_var)
        to_z, to_mu, to_log_var = (torch.empty_like(z) for _ in range(3))
        for j, log_q in enumerate(_log_densities(z, mu, log_var)):
            share_j = log_q.add_(log_weight).sub_(marginals[:, j, None]).exp_()
            slope = (share - share_j).mul_(weight[:, None])  # by log q(z_aj | x_bj)
            distance = z[:, j, None] - mu[:, j]
            pull = slope * distance
            to_z[:, j] = -(pull @ precision[:, j])
            to_mu[:, j] = pull.sum(0) * precision[:, j]
            to_log_var[:, j] = 0.5 * (pull.mul_(distance).sum(0) * precision[:, j] - slope.sum(0))
        return grad * to_z, grad * to_mu, grad * to_log_var, None


def _log_densities(z: Tensor, mu: Tensor, log_var: Tensor) -> Iterator[Tensor]:
    """Yield log q(z_aj | x_bj), but for a constant, of each dimension, (n, n)."""
    for z_j, mu_j, log_var_j in zip(z.T, mu.T, log_var.T, strict=True):
        square = (z_j[:, None] - mu_j).square_()
        yield torch.addcmul(-0.5 * log_var_j, square, torch.exp(-log_var_j), value=-0.5)


def covariance_penalty(mu: Tensor, log_var: Tensor, weight: Tensor) -> Tensor:
    """Squared distance of the codes' covariance, over a batch, from that of the prior.

    || Cov(mu) + mean diag(sigma^2) - I ||^2, the squares of all entries: DIP-VAE-II with
    lambda_d = lambda_od. Parameters as for `total_correlation`.

    References
    ----------
    Kumar, Sattigeri, Balakrishnan: Variational Inference of Disentangled Latent Concepts from
    Unlabeled Observations, ICLR 2018.
    """
    centred = mu - weight @ mu
    covariance = centred.T @ (weight[:, None] * centred)  # (d, d)
    excess = covariance + torch.diag(weight @ log_var.exp() - 1)
    return (excess**2).sum()


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
        - "overlap": 1 - contrast of the classes' profiles, over the non-global dimensions;
        - "total_correlation", "covariance": of codes without gates, whether their dimensions are
          independent, or at least uncorrelated; see `total_correlation`, `covariance_penalty`.
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
        self._known: tuple[Tensor, int, Dimensions] | None = None

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
        if self.weights.keys() & {"total_correlation", "covariance"}:
            terms |= self._code_terms(out, weight, processes)
        if not terms.keys() >= self.weights.keys():
            terms |= self._gate_terms(model, out, labels, weight, processes)
        if processes.size > 1:  # those that are still of this part alone
            parts = {name: terms[name] for name in ("slab_kl", "recognition") if name in terms}
            terms |= zip(parts, processes.total(torch.stack([*parts.values()])), strict=True)
        return {name: terms[name] for name in self.weights}

    def _code_terms(self, out: Pass, weight: Tensor, processes: Alone) -> dict[str, Tensor]:
        """Return the terms on how dimensions go together that are in use: of the whole batch."""
        q, terms = out.q, {}
        z, mu, log_var, weight = map(processes.gather, (out.z, q.mu, q.log_var, weight))
        if "total_correlation" in self.weights:
            terms["total_correlation"] = total_correlation(z, mu, log_var, weight)
        if "covariance" in self.weights:
            terms["covariance"] = covariance_penalty(mu, log_var, weight)
        return terms

    def _gate_terms(
        self,
        model: SpikeSlabAutoencoder,
        out: Pass,
        labels: Tensor,
        weight: Tensor,
        processes: Alone,
    ) -> dict[str, Tensor]:
        """Return the split of the spike's divergence, and the terms on classes that are in use."""
        n_classes, profile, several = self.n_classes, model.class_profile, labels.ndim == 2
        present: Tensor | None = None
        if n_classes > (len(labels) if processes.size == 1 else MANY) and not several:
            # Those in the batch are enough, and time grows with them.
            present = processes.gather(labels).unique()
            n_none = int(present[0] < 0)  # to which no label belongs
            labels, present = torch.searchsorted(present, labels) - n_none, present[n_none:]
            n_classes, profile = len(present), profile[present]
        if several:
            gates = label_gates(out.q.gamma, labels, weight, profile, self.balanced, processes)
        else:
            gates = class_gates(out.q.gamma, labels, n_classes, weight, self.balanced, processes)
        prior = model.alpha
        if self.balanced:
            prior = free_usage(gates.pi, self._dimensions_of(model.alpha))
        indecision, conditional = gates.entropy.sum(), gates.conditional_entropy.sum()
        terms = {
            "usage": bernoulli_kl(gates.pi, prior, gates.pi_entropy).sum(),
            "inconsistency": conditional - indecision,
            "indecision": indecision,
        }
        if "information" in self.weights:
            terms["information"] = gates.pi_entropy.sum() - conditional
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
        on_classes = self.weights.keys() & {"class_usage", "recognition", "overlap"}
        if model.training and (on_classes or several):
            step = self.momentum * (gates.share > 0)[:, None].to(profile.dtype)
            profile.lerp_(gates.pi_c.detach(), step)
            if present is not None:  # then it is a copy
                model.class_profile[present] = profile
        if on_classes:
            dimensions = self._dimensions_of(model.alpha)
            profile = profile * (dimensions.specific / self.temperature)
            terms |= class_terms(out.q, gates, labels, dimensions, profile)
        return terms

    def _dimensions_of(self, alpha: Tensor) -> Dimensions:
        """Return `Dimensions.of(alpha)`, made anew where alpha is another or has changed."""
        known = self._known
        if known is None or known[0] is not alpha or known[1] != alpha._version:
            self._known = known = alpha, alpha._version, Dimensions.of(alpha)
        return known[2]

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
