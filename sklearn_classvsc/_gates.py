"""Room 4: what the gates of a batch say about its classes.

Functions of one whole batch, without side effects: how often each dimension is active in each
class, how much that tells about the class, and how far samples or classes agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._spike_slab import bernoulli_entropy, entropy_and_slope

#: Step of the running means in the class profiles.
MOMENTUM = 0.1


class ClassGates(NamedTuple):
    """How often each dimension is active, in a batch and in each of its classes."""

    weight: Tensor  # weights of the samples in the means, (n,)
    share: Tensor  # share of each class in these weights, (C,); 0 for an absent class
    pi: Tensor  # mean gamma, (d,)
    pi_entropy: Tensor  # h(pi), (d,)
    pi_c: Tensor  # mean gamma of each class, (C, d); 0 for an absent class
    conditional_entropy: Tensor  # mean_c h(pi_c), (d,); an unlabeled sample is its own class
    entropy: Tensor  # mean_x h(gamma_x), (d,)


def class_gates(
    gamma: Tensor,
    labels: Tensor,
    n_classes: int,
    weight: Tensor,
    balanced: bool = False,
) -> ClassGates:
    """Summarise the gates of a batch in one matrix product over the classes.

    Parameters
    ----------
    gamma : Tensor of shape (n, d)
        Activation probabilities.
    labels : Tensor of shape (n,)
        Class indices; -1 for no label.
    n_classes : int
        Number C of classes.
    weight : Tensor of shape (n,)
        Sample weights that sum to 1.
    balanced : bool
        Whether every class in the batch has the same share, and samples without a label none.

    Returns
    -------
    ClassGates
    """
    h = bernoulli_entropy(gamma)
    if not n_classes and not balanced:  # every sample is its own class
        pi, entropy = weight @ gamma, weight @ h
        pi_entropy = bernoulli_entropy(pi)
        return ClassGates(weight, weight[:0], pi, pi_entropy, gamma[:0], entropy, entropy)
    with torch.no_grad():
        # A row for each class, then for all samples, for labeled ones and for unlabeled ones.
        row = torch.where(labels < 0, n_classes + 2, labels)
        rows = weight.new_zeros(n_classes + 3, len(labels)).scatter_(0, row[None], weight[None])
        average = rows[:n_classes]
        share = average.sum(1)
        average /= share.clamp_min(torch.finfo(share.dtype).tiny)[:, None]
        if balanced:
            present = (share > 0).to(weight.dtype)
            share = present / present.sum().clamp_min(1)
            weight = share @ average
            rows[-1] = 0
        rows[n_classes] = weight
        rows[n_classes + 1] = weight - rows[-1]
    # The matrices are small, so the number of operations sets the time: hence few products.
    means, entropies = rows[: n_classes + 1] @ gamma, rows[n_classes + 1 :] @ h
    h_labeled, h_unlabeled = entropies
    (pi_c, pi), (h_c, h_pi) = (x.split([n_classes, 1]) for x in (means, bernoulli_entropy(means)))
    # Both add the same sum over samples without a label. Without labeled samples they are exactly
    # equal. The inconsistency is then 0, and so is the share that divides it.
    conditional, entropy = share @ h_c + h_unlabeled, h_labeled + h_unlabeled
    return ClassGates(weight, share, pi.squeeze(0), h_pi.squeeze(0), pi_c, conditional, entropy)


def label_gates(
    gamma: Tensor,
    members: Tensor,
    weight: Tensor,
    profile: Tensor,
    balanced: bool = False,
) -> ClassGates:
    """Summarise the gates of a batch in which samples may have several labels.

    A dimension is active if one of the sample's labels activates it (noisy-or). If pi_cj is the
    probability that label c activates dimension j, the labels of sample x activate it with
    probability

        e_xj = 1 - prod_{c of x} (1 - pi_cj).

    `conditional_entropy` is the cross-entropy of gamma and e. It is at least the uncertainty that
    any function of the labels leaves. pi_c is an EM step from `profile`: it attributes each gate to
    the labels of its sample, in proportion to their last pi_c. If each sample has one label, e_x
    and pi_c are the mean of that label, and the result equals that of `class_gates`.

    Parameters
    ----------
    gamma : Tensor of shape (n, d)
        Activation probabilities.
    members : Tensor of bool of shape (n, C)
        Which labels a sample has. A sample without a label has a row of False.
    weight : Tensor of shape (n,)
        Sample weights that sum to 1.
    profile : Tensor of shape (C, d)
        The last known pi_c.
    balanced : bool
        Whether every label in the batch has the same share, and samples without a label none. `pi`
        is then the mean of pi_c.

    Returns
    -------
    ClassGates
        The summary, with C labels in place of classes.
    """
    info = torch.finfo(gamma.dtype)
    with torch.no_grad():
        member = members.to(gamma.dtype)
        count = member.sum(1, keepdim=True)  # (n, 1)
        share = (member / count.clamp_min(1) * weight[:, None]).sum(0)
        average = member * weight[:, None]  # (n, C)
        average = average / average.sum(0).clamp_min(info.tiny)
        if balanced:
            present = (share > 0).to(weight.dtype)
            share = present / present.sum().clamp_min(1)
            weight = average @ share
        before = profile.clamp(0.01, 1 - info.eps)  # an EM step from 0 stays at 0
        cause = -torch.expm1(member @ torch.log1p(-before))  # (n, d)
        labeled = weight * (count[:, 0] > 0)
        unlabeled = weight - labeled
    h = bernoulli_entropy(gamma)
    pi_c = before * (average.T @ (gamma / cause.clamp_min(info.eps)))  # (C, d)
    log_off = member @ torch.log1p(-pi_c.clamp_max(1 - info.eps))  # log(1 - e), (n, d)
    log_on = torch.log(-torch.expm1(log_off.clamp_max(-info.eps)))
    surprise = -(gamma * log_on + (1 - gamma) * log_off)
    pi = share @ pi_c if balanced else weight @ gamma
    h_unlabeled = unlabeled @ h  # both add the same sum, see `class_gates`
    return ClassGates(
        weight=weight,
        share=share,
        pi=pi,
        pi_entropy=bernoulli_entropy(pi),
        pi_c=pi_c,
        conditional_entropy=labeled @ surprise + h_unlabeled,
        entropy=labeled @ h + h_unlabeled,
    )


class ClassProfiles(NamedTuple):
    """Running means of the gates of each class, with which a batch is compared."""

    whole: Tensor  # the profiles of all classes, (C, d)
    rows: Tensor  # the profiles that this batch needs, (c, d)
    classes: Tensor | None  # the classes of `rows`, (c,); None: all

    @classmethod
    def of(cls, labels: Tensor, whole: Tensor) -> tuple[Tensor, ClassProfiles]:
        """Return the labels as indices of `rows`, and the profiles.

        If there are more classes than samples, `rows` holds only the classes in the batch, because
        time grows with the number of rows.
        """
        if labels.ndim == 2 or len(whole) <= len(labels):
            return labels, cls(whole, whole, None)
        classes = labels.unique()
        n_none = int(classes[0] < 0)  # -1 means no label
        labels, classes = torch.searchsorted(classes, labels) - n_none, classes[n_none:]
        return labels, cls(whole, whole[classes], classes)

    def gates(self, gamma: Tensor, labels: Tensor, weight: Tensor, balanced: bool) -> ClassGates:
        """Summarise the gates of a batch."""
        if labels.ndim == 2:
            return label_gates(gamma, labels, weight, self.rows, balanced)
        return class_gates(gamma, labels, len(self.rows), weight, balanced)

    def after(self, gates: ClassGates) -> ClassProfiles:
        """Return the profiles after an update with this batch."""
        step = MOMENTUM * (gates.share > 0)[:, None].to(self.rows.dtype)
        rows = self.rows.lerp(gates.pi_c.detach(), step)
        if self.classes is None:
            return self._replace(whole=rows, rows=rows)
        return self._replace(whole=self.whole.index_copy(0, self.classes, rows), rows=rows)


def centroid_divergence(gates: ClassGates) -> Tensor:
    """Return the Jensen-Shannon divergence of the gates within the classes.

    It is the mean over classes, weighted by their shares, of h(pi_c) - mean_{x in c} h(gamma_x):
    the inconsistency per labeled sample. It is at most d log 2 nats.
    """
    inconsistency = (gates.conditional_entropy - gates.entropy).sum()
    return inconsistency / gates.share.sum().clamp_min(torch.finfo(gates.share.dtype).tiny)


def pairwise_divergence(gamma: Tensor, labels: Tensor, n_classes: int, weight: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence between the gates of two samples of a class.

    It is the mean over classes of the mean over distinct pairs (a, b) of
    sum_j h((gamma_aj + gamma_bj) / 2) - h(gamma_aj) / 2 - h(gamma_bj) / 2, at most d log 2 nats.
    The weight of a pair is the product of the weights of its samples. Time and memory grow with
    the number of pairs. The parameters are those of `class_gates`.
    """
    h = bernoulli_entropy(gamma).sum(1)  # (n,)
    means = []
    for c in range(n_classes):
        members = torch.nonzero(labels == c).squeeze(1)
        if len(members) < 2:
            continue
        a, b = members[torch.combinations(torch.arange(len(members), device=labels.device)).T]
        divergence = bernoulli_entropy((gamma[a] + gamma[b]) / 2).sum(1) - (h[a] + h[b]) / 2
        relative = weight / weight[members].max()  # products of tiny weights would underflow
        pair = relative[a] * relative[b]
        means.append(pair @ divergence / pair.sum())
    return torch.stack(means).mean() if means else gamma.sum() * 0


class Dimensions(NamedTuple):
    """Constants that the default objectives compute from alpha once."""

    specific: Tensor  # 1 for the dimensions that are not global, else 0, (d,)
    n_specific: Tensor  # their number, at least 1, ()
    alpha: Tensor  # their mean alpha, ()
    least: Tensor  # the range of usage without cost, (d,) each; see `free_usage`
    most: Tensor

    @classmethod
    def of(cls, alpha: Tensor) -> Dimensions:
        """Return the constants for alpha of shape (d,)."""
        specific = (alpha <= 0.5).to(alpha.dtype)
        n_specific = specific.sum().clamp_min(1)
        mean = ((alpha * specific).sum() / n_specific).clamp_min(1e-6)  # if all are global
        excess = (alpha - 0.12).clamp_min(0) * specific
        most = torch.maximum(alpha, (alpha + 0.8 * excess).clamp_max(0.5))
        return cls(specific, n_specific, mean, alpha - 0.1 * excess, most)


def free_usage(pi: Tensor, dimensions: Dimensions) -> Tensor:
    """Return the usage closest to `pi`, (d,), that the default objectives do not penalise.

    Let e be the excess of alpha over 0.12, which is about the alpha for ten classes. Usage from
    alpha - 0.1 e to alpha + 0.8 e, at most one half, has no cost. If classes are few, alpha is
    large. A class may then have its own dimension, or two classes may share one instead of each
    having a copy. If alpha is 0.12 or less, and for global dimensions, only alpha has no cost.
    """
    # Detached, because the derivative of a divergence is 0 where the divergence is 0.
    return pi.detach().clamp(dimensions.least, dimensions.most)


def profile_terms(pi_c: Tensor, share: Tensor, dimensions: Dimensions) -> tuple[Tensor, Tensor]:
    """Return the terms "class_usage" and "overlap" of the non-global dimensions.

    `BalancedObjective` explains the terms. The overlap is 1 - contrast, as in
    `metrics.class_contrast_score`, with mean gammas in place of supports. It lies in [0, 2]. It is
    0 if every class has its own dimensions, which are active in all its samples.

    Parameters
    ----------
    pi_c : Tensor of shape (C, d)
        Mean gamma of each class.
    share : Tensor of shape (C,)
        Share of each class; 0 for an absent class.
    dimensions : Dimensions
        Constants from alpha.

    Returns
    -------
    class_usage, overlap : Tensor, scalars
    """
    usage, overlap = _ProfileTerms.apply(pi_c, share, dimensions)
    return usage, overlap


class _ProfileTerms(torch.autograd.Function):
    """Derivatives in closed form, because many small operations would set the time."""

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

        # 1 - mean sharing within classes + mean sharing between two. Its derivative by pi_c goes
        # through the products, and through the sizes that divide them.
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
    """Return the cross-entropy of the labels given class scores, (n, C), in nats.

    The label -1 means no label. If samples have several labels, (n, C), the cross-entropy is the
    mean over the labels of a sample, each against all labels that the sample does not have.
    """
    if labels.ndim == 1:
        losses = F.cross_entropy(scores, labels, reduction="none", ignore_index=-1)
        return weight @ losses
    others = scores.masked_fill(labels, torch.finfo(scores.dtype).min)
    losses = F.softplus(others.logsumexp(1, keepdim=True) - scores) * labels
    return weight @ (losses.sum(1) / labels.sum(1).clamp_min(1))
