"""Room 9: the factors of the classes, at which a training begins.

A factor analysis of each class finds which features change together. Classes share a factor if it
changes the same features in each. If few factors explain the data, there are as many global,
shared and class-specific dimensions as there are such factors, and the others stay unused.
Otherwise alpha sets the number of global dimensions, and these begin where all classes vary most.
See docs/objective.md, "Where a code begins".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ._collapse import OF_A_CLASS, ROWS, SAMPLES, UNUSED_ALPHA, ClassSampler
from ._data import ArrayDataset
from ._likelihoods import Gaussian
from ._modules import SpikeSlabAutoencoder
from ._rotation import varimax
from ._streams import StreamDataset

#: C max(C, p)^2 up to which the analysis takes a small part of the time of a fit.
MAX_SIZE = 2**19
#: Rounds of a factor analysis; the noise of the features hardly changes after three.
ROUNDS = 4
#: A direction is no noise if it varies this many times as much as normal noise can. Tails of real
#: noise are heavier.
NOISE_EDGE = 1.2
#: |cosine| above which the factors of two classes are one.
SAME_FACTOR = 0.75
#: Share of the variance by which factors may explain less than the dimensions that alpha gives.
MAX_LOSS = 0.04
#: The same, as a share of the variance that the factors leave.
MAX_LOSS_OF_REST = 0.6
#: Share of the variance of the class means that the factors may miss, and the least share of all
#: variance that class means have. A class that has a factor differs in its mean from others.
MISSED, BETWEEN = 0.5, 0.05
#: Logit of the profile of a support that is found. Training can change it, but hardly does.
SURE_LOGIT = 6.0
#: Mean of a dimension that is active, as the prior of the slabs has it; logarithm of its variance.
MEAN, LOG_VAR = 3.0, -2.0

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class ClassMoments(NamedTuple):
    """Weighted moments of the samples of each class, of standardised features."""

    n: Floats  # number of samples; of unequal weights, Kish's effective number, (C,)
    share: Floats  # share of the weight of all samples, (C,)
    mean: Floats  # less the mean over classes, (C, p)
    covariance: Floats  # (C, p, p)


class Beginning(NamedTuple):
    """The values at which k of the d dimensions begin, and the profiles of all d."""

    alpha: Floats  # (d,)
    profile: Floats  # logits, (C, d)
    places: NDArray[np.intp]  # the k dimensions, (k,)
    loadings: Floats  # effect of each on the features, (p, k)
    reading: Floats  # how each is read from the features, (k, p)
    origin: Floats  # features at which a dimension has its mean, (k, p)
    alone: bool = False  # whether the decoder begins with these loadings and nothing else


def can_begin(module: SpikeSlabAutoencoder) -> bool:
    """Return whether a module has linear paths to begin with, and few enough features."""
    gates = module.gates
    if gates is None or gates.multilabel or module.encoder_path is None:
        return False
    p = module.encoder_path.in_features
    paths = module.decoder_passes_codes and isinstance(module.decoder_head, nn.Linear)
    known = isinstance(module.likelihood, Gaussian)
    return paths and known and gates.n_classes * max(p, gates.n_classes) ** 2 <= MAX_SIZE


def find_beginning(
    module: SpikeSlabAutoencoder, dataset: ArrayDataset | StreamDataset
) -> Beginning | None:
    """Return where a new module should begin; None where the samples are too few to tell.

    Parameters
    ----------
    module : SpikeSlabAutoencoder
        A module that `can_begin`, as it was drawn.
    dataset : ArrayDataset or StreamDataset
        What it is to be trained on; about `SAMPLES` labeled samples are looked at.
    """
    assert module.gates is not None
    moments = _moments(dataset, module.gates.n_classes)
    if moments is None:
        return None
    alpha = module.alpha.double().cpu().numpy()
    profile = module.gates.profile.detach().double().cpu().numpy()
    return _found(moments, alpha) or _by_alpha(moments, alpha, profile)


@torch.no_grad()
def begin(module: SpikeSlabAutoencoder, beginning: Beginning) -> None:
    """Let a new module begin there, by its linear paths."""
    gates, path, head = module.gates, module.encoder_path, module.decoder_head
    assert gates is not None and path is not None and isinstance(head, nn.Linear)

    def as_tensor(x: Floats) -> Tensor:
        return torch.from_numpy(x).to(module.alpha)

    d, places = len(module.alpha), torch.from_numpy(beginning.places).to(module.alpha.device)
    A, W = beginning.loadings, beginning.reading
    module.alpha.copy_(as_tensor(beginning.alpha))
    gates.profile.copy_(as_tensor(beginning.profile))
    path.weight[places] = as_tensor(W)
    path.bias[places] = as_tensor(MEAN - (W * beginning.origin).sum(axis=1))
    if beginning.alone:
        head.weight.zero_()
    head.weight[:, head.in_features - d + places] = as_tensor(A)
    usage = gates.pi.double().cpu().numpy()[:, beginning.places].mean(axis=0)
    head.bias.copy_(as_tensor(-MEAN * A @ usage))
    module.encoder_head.weight[places] = 0
    module.encoder_head.bias[d + places] = LOG_VAR


def class_factors(covariance: Floats, n: Floats, share: Floats) -> tuple[list[Floats], Floats]:
    """Return the loadings of the factors of each class, (p, k_c), and the noise of features, (p,).

    A class has as many factors as directions that vary more than noise of its size could: the
    bound of Marchenko and Pastur, in features divided by their noise, which all classes have in
    common. Loadings are turned by varimax.
    """
    p = covariance.shape[1]
    noise = np.maximum(np.einsum("c,cpp->p", share, covariance), 1e-3)
    loadings: list[Floats] = []
    for _ in range(ROUNDS):
        loadings, left, root = [], np.zeros(p), np.sqrt(noise)
        for S, n_c, weight in zip(covariance, n, share, strict=True):
            if n_c < 3:
                loadings.append(np.zeros((p, 0)))
                continue
            values, V = np.linalg.eigh(S / np.outer(root, root))
            values, V = values[::-1], V[:, ::-1]
            edge = NOISE_EDGE * (1 + np.sqrt(p / n_c)) ** 2
            k = min(int((values > edge).sum()), p // 2)
            V, spread = V[:, :k], values[:k]
            loadings.append(V * np.sqrt(spread - 1) * root[:, None])
            rest = np.maximum(np.diag(S) - (V**2 @ spread) * noise, 0)
            left += weight * rest / (1 - k / min(n_c, p))
        noise = np.maximum(left, 1e-4)
    return [A @ varimax(A) if A.shape[1] > 1 else A for A in loadings], noise


def common_factors(loadings: list[Floats]) -> tuple[Bools, Floats]:
    """Return which factors are one, as supports, (C, K), and their mean loadings, (p, K)."""
    sums: list[Floats] = []
    members: list[list[int]] = []
    for c in map(int, np.argsort([-A.shape[1] for A in loadings], kind="stable")):
        A = loadings[c]
        partner: dict[int, tuple[int, float]] = {}
        if sums and A.shape[1]:
            M = np.stack(sums, axis=1)
            cosine = A.T @ M / np.outer(np.linalg.norm(A, axis=0), np.linalg.norm(M, axis=0))
            pairs = np.stack(linear_sum_assignment(np.abs(cosine), maximize=True), axis=1).tolist()
            partner = {f: (k, cosine[f, k]) for f, k in pairs if abs(cosine[f, k]) > SAME_FACTOR}
        for f, a in enumerate(A.T):
            if f in partner:
                k, sign = partner[f]
                sums[k] = sums[k] + np.sign(sign) * a
                members[k].append(c)
            else:
                sums.append(a)
                members.append([c])
    support = np.zeros((len(loadings), len(sums)), bool)
    for k, classes in enumerate(members):
        support[classes, k] = True
    together = np.stack(sums, axis=1) if sums else np.zeros((len(loadings[0]), 0))
    return support, together / support.sum(axis=0)


def _moments(dataset: ArrayDataset | StreamDataset, n_classes: int) -> ClassMoments | None:
    """Return the moments of about `SAMPLES` samples, of every class its share."""
    if dataset.incomplete:
        return None
    sampler = ClassSampler(n_classes, max(OF_A_CLASS, SAMPLES // n_classes))
    parts, classes, weights = [], [], []
    for x, labels, stands_for, weight in dataset.labeled(sampler.pick, ROWS):
        if x.is_sparse:  # too wide to be made dense
            return None
        parts.append(x.double().cpu().numpy())
        classes.append(labels)
        weights.append(stands_for * weight)
    if not parts:
        return None
    X, y, weight = map(np.concatenate, (parts, classes, weights))
    mass, p = np.bincount(y, weight, minlength=n_classes), X.shape[1]
    n, mean, covariance = np.zeros(n_classes), np.zeros((n_classes, p)), np.zeros((n_classes, p, p))
    for c in np.flatnonzero(mass):
        w = weight[y == c] / mass[c]
        mean[c] = w @ X[y == c]
        centered = X[y == c] - mean[c]
        n[c] = 1 / (w @ w)
        covariance[c] = (centered.T * w) @ centered / max(1 - w @ w, 1 / len(w))
    if (n >= 3).sum() < 2 or p < 2:
        return None
    mean[n > 0] -= mean[n > 0].mean(axis=0)
    return ClassMoments(n, mass / mass.sum(), mean, covariance)


def _found(moments: ClassMoments, alpha: Floats) -> Beginning | None:
    """Return a beginning with one dimension for each factor; None if the factors are refused."""
    loadings, noise = class_factors(moments.covariance, moments.n, moments.share)
    support, A = common_factors(loadings)
    n_classes, d, p = len(support), len(alpha), len(noise)
    everywhere = support.sum(axis=0) >= max(2, np.ceil(0.9 * n_classes))
    support[:, everywhere] = True
    # A class that shares all its factors has its mean for a factor.
    specific = support[:, ~everywhere]
    alike = (specific[:, None] == specific).all(axis=2).sum(axis=1) > 1
    lone = np.flatnonzero(alike | ~specific.any(axis=1))
    left = sum(
        share * _left(S, A[:, has])
        for share, S, has in zip(moments.share, moments.covariance, support, strict=True)
    )
    n_active = round(float(alpha.sum()))
    values = np.linalg.eigvalsh(moments.covariance)[:, : max(p - n_active, 0)]
    more = left - float(moments.share @ values.sum(axis=1))  # that alpha's dimensions would take
    if support.shape[1] + len(lone) > d or more > MAX_LOSS * p or more > MAX_LOSS_OF_REST * left:
        return None
    support = np.c_[support, np.eye(n_classes, dtype=bool)[:, lone]]
    A = np.c_[A, moments.mean[lone].T / MEAN]
    everywhere = np.r_[everywhere, np.zeros(len(lone), bool)]
    order = np.lexsort((-support.sum(axis=0), ~everywhere))
    support, A, everywhere, k = support[:, order], A[:, order], everywhere[order], len(order)
    factor_means = _factor_means(support, A, moments.mean)
    explained = support * factor_means @ A.T
    missed = (moments.mean - explained + explained.mean(axis=0)) ** 2
    between = float((moments.share @ moments.mean**2).sum())
    if between < BETWEEN * p or (moments.share @ missed).sum() > MISSED * between:
        return None
    # The mean of an active dimension is positive, and so is the largest effect of a global one.
    largest = A[np.abs(A).argmax(axis=0), np.arange(k)]
    A = A * np.where(np.where(everywhere, largest, factor_means) < 0, -1.0, 1.0)
    reading, origin = np.zeros((k, p)), np.zeros((k, p))
    for has, mean in zip(support, moments.mean, strict=True):
        part = A[:, has]
        reading[has] += _reading(part, noise)
        origin[has] += mean
    n_having = support.sum(axis=0)[:, None]
    usage = np.where(everywhere, 0.99, np.clip(support.mean(axis=0), UNUSED_ALPHA, 0.5))
    profile = np.full((n_classes, d), -SURE_LOGIT)
    profile[support.nonzero()] = SURE_LOGIT
    return Beginning(
        np.r_[usage, np.full(d - k, UNUSED_ALPHA)],
        profile,
        np.arange(k),
        A,
        reading / n_having,
        origin / n_having,
        alone=True,
    )


def _by_alpha(moments: ClassMoments, alpha: Floats, profile: Floats) -> Beginning:
    """Return a beginning of as many global dimensions as alpha says: where all classes vary most.

    The others begin as they were drawn.
    """
    p = moments.mean.shape[1]
    are_global = np.flatnonzero(alpha > 0.5)[: p // 2]
    k = len(are_global)
    values, V = np.linalg.eigh(np.einsum("c,cpq->pq", moments.share, moments.covariance))
    noise = max(float(np.median(values[: p - k])), 1e-3)
    A = V[:, p - k :] * np.sqrt(np.maximum(values[p - k :] - noise, 1e-3))
    if k > 1:
        A = A @ varimax(A)
    largest = A[np.abs(A).argmax(axis=0), np.arange(k)]
    A *= np.where(largest < 0, -1, 1)
    reading = _reading(A, np.full(p, noise))
    return Beginning(alpha, profile, are_global, A, reading, np.zeros((k, p)))


def _left(S: Floats, A: Floats) -> float:
    """Return the variance that directions leave of a covariance."""
    Q = np.linalg.qr(A)[0]
    return float(np.trace(S) - np.einsum("pk,pq,qk->", Q, S, Q))


def _reading(A: Floats, noise: Floats) -> Floats:
    """Return what reads factors from features, (k, p): their posterior mean."""
    scaled = A / noise[:, None]
    read = np.linalg.solve(np.eye(A.shape[1]) + A.T @ scaled, scaled.T)
    return np.asarray(read, np.float64)


def _factor_means(support: Bools, A: Floats, mean: Floats) -> Floats:
    """Return the mean of each factor, (k,), in a class that has it: a regression of class means."""
    having = support - support.mean(axis=0)
    products = (having.T @ having) * (A.T @ A)
    ridge = np.diag(1e-3 * np.diag(products) + 1e-6)
    means: Floats = np.linalg.solve(products + ridge, np.einsum("cj,cp,pj->j", having, mean, A))
    return means
