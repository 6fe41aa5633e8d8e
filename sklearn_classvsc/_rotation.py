"""Room 9: the axes of a code: a rotation of dimensions that are active together, by a fixed rule.

Dimensions that are active in the same samples form a *block*. The loss does not determine the axes
of a block: for an orthogonal R, codes z R, a decoder that sees z R^T and a prior N(m R, I) give
the same reconstruction and the same divergence. Training leaves R to chance. Two classical rules
choose it, see docs/objective.md:

- *varimax*: each dimension changes few features, and each feature depends on few dimensions.
- *principal*: the dimensions are uncorrelated within the classes, and the first ones vary most.

The layers next to the code absorb R. Apart from its axes, the network stays the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ._collapse import OF_A_CLASS, ROWS, SAMPLES, ClassSampler
from ._data import ArrayDataset
from ._likelihoods import Bernoulli
from ._messages import brief
from ._modules import LARGE, SpikeSlabAutoencoder
from ._streams import StreamDataset

#: Largest number of features for varimax, which takes those that change most.
FEATURES = 5000
#: Probability, or its complement, that a dimension needs in every class to turn with others.
DECIDED = 0.9
#: Step of a dimension, in both directions, that measures its effect: half of the slabs' prior
#: deviation.
STEP = 0.5
#: Largest number of steps of varimax, which usually takes some tens.
ITERATIONS = 200

Floats = NDArray[np.float64]


class Turn(NamedTuple):
    """New axes of a code."""

    rotation: Floats  # codes become z @ rotation, (d, d), orthogonal
    #: Gates become gates @ mixing, (d, d). Within a block they are alike; the order may change.
    mixing: Floats
    #: Correction of the mixed logarithms of variances, (d,). Precisions along the new axes are
    #: averages of the old precisions, which gives the nearest posterior of independent dimensions.
    log_var: Floats


class Codes(NamedTuple):
    """Codes of labeled samples, with their class indices."""

    z: Floats  # (n, d), exactly zero where a dimension is inactive
    log_var: Floats  # of the slabs
    classes: NDArray[np.intp]  # (n,)

    def centered(self, rows: NDArray[np.bool_], block: NDArray[np.intp]) -> Floats:
        """Return codes of a block minus their class means, with equal weight for all classes."""
        z, classes = self.z[rows][:, block], self.classes[rows]
        n = np.bincount(classes, minlength=classes.max(initial=0) + 1)
        total = np.zeros((len(n), len(block)))
        np.add.at(total, classes, z)
        z = z - (total / np.maximum(n, 1)[:, None])[classes]
        centered: Floats = z / np.sqrt(n)[classes, None]
        return centered


def sees_codes(module: SpikeSlabAutoencoder) -> nn.Linear | None:
    """Return the layer of the decoder that takes the codes; None if it is not known."""
    body: nn.Module = module.decoder
    while isinstance(body, nn.Sequential) and len(body):
        body = body[0]
    if isinstance(body, nn.Identity | nn.Sequential):
        body = module.decoder_head
    d = len(module.alpha)
    return body if isinstance(body, nn.Linear) and body.in_features in (d, 2 * d) else None


def check_rotation(rotation: str, module: SpikeSlabAutoencoder) -> bool:
    """Return whether codes can be turned.

    Raises
    ------
    ValueError
        If they cannot, and `rotation` is not "auto".
    """
    known = sees_codes(module) is not None
    if not known and rotation != "auto":
        raise ValueError(
            f"rotation={rotation!r} cannot turn the codes of decoder={brief(module.decoder)}, "
            "because it does not begin with a linear layer. Pass an nn.Sequential that begins with "
            "nn.Linear, or set rotation=None."
        )
    return known


def find_turn(
    module: SpikeSlabAutoencoder, dataset: ArrayDataset | StreamDataset, rotation: str
) -> Turn:
    """Return the axes that a trained module should have.

    Parameters
    ----------
    module : SpikeSlabAutoencoder
        The module, in evaluation mode.
    dataset : ArrayDataset or StreamDataset
        The training data, of which about `SAMPLES` labeled samples are used.
    rotation : {"auto", "varimax", "principal"}
        The rule. "auto" is "principal" for the Bernoulli likelihood, that of images, else
        "varimax".

    Returns
    -------
    Turn
        The new axes. Dimensions with the same alpha are in the order of the variance that they
        explain. The sign of a dimension makes the feature that it changes most rise with it.
    """
    if rotation == "auto":
        rotation = "principal" if isinstance(module.likelihood, Bernoulli) else "varimax"
    codes, alpha = _codes(module, dataset), module.alpha.cpu().numpy()
    d, n = len(alpha), len(codes.z)
    turned, mixing, power = np.eye(d), np.eye(d), np.zeros(d)
    for block in _blocks(module, codes.z != 0, alpha):
        rows = (codes.z[:, block] != 0).all(axis=1)
        if not rows.any():
            continue
        effects = _effects(module, codes, rows, block)  # (G, p, k)
        R = np.eye(len(block))
        if len(block) > 1:
            mixing[np.ix_(block, block)] = 1 / len(block)
            if rotation == "varimax":
                R = varimax(effects.reshape(-1, len(block)))
            else:
                R = np.linalg.eigh(np.cov(codes.centered(rows, block).T, bias=True))[1]
        effects = effects @ R
        mean = effects.mean(axis=0)
        R = R * np.where(mean[np.abs(mean).argmax(axis=0), np.arange(len(block))] < 0, -1, 1)
        turned[np.ix_(block, block)] = R
        power[block] = (codes.z[:, block] @ R).var(axis=0) * (effects**2).sum(1).mean(0)
    order = np.lexsort((np.arange(d), -power))
    slots = np.lexsort((np.arange(d), -alpha))  # alpha stays where it is
    places = np.empty(d, int)
    places[slots] = order[np.argsort(-alpha[order], kind="stable")]
    T, M = turned[:, places], mixing[:, places]
    log_var = codes.log_var.mean(axis=0) if n else np.zeros(d)
    return Turn(T, M, -np.log(np.exp(-log_var) @ T**2) - log_var @ T**2)


@torch.no_grad()
def apply_turn(
    module: SpikeSlabAutoencoder, turn: Turn, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Give a module new axes, and transform the running moments of Adam with them."""
    entry, decoder_head = sees_codes(module), module.decoder_head
    assert entry is not None

    def as_tensor(x: Floats) -> Tensor:
        return torch.from_numpy(x).to(module.alpha)

    T, mixing = as_tensor(turn.rotation), as_tensor(turn.mixing)
    squares = T.square()
    d, state = len(T), {} if optimizer is None else optimizer.state

    def of_all(parameter: Tensor, begin: int, by: Tensor, column: bool = False) -> None:
        """Transform d rows, or columns, of a parameter and of its moments in Adam."""
        moments = state.get(parameter, {})
        kinds = [(parameter, by)]
        if moments:
            kinds += [(moments["exp_avg"], by), (moments["exp_avg_sq"], by.square())]
        for x, how in kinds:
            part = x[..., begin : begin + d] if column else x[begin : begin + d]
            part.copy_(part @ how if column else how.T @ part)

    head, gates = module.encoder_head, module.gates
    for parameter in (head.weight, head.bias):
        of_all(parameter, 0, T)
        of_all(parameter, d, squares)
        if len(parameter) > 2 * d:
            of_all(parameter, 2 * d, mixing)
    head.bias[d : 2 * d] += as_tensor(turn.log_var)
    if module.encoder_path is not None:
        of_all(module.encoder_path.weight, 0, T)
        of_all(module.encoder_path.bias, 0, T)
    for begin in range(0, entry.in_features, d):
        of_all(entry.weight, begin, T, column=True)
    if module.decoder_passes_codes and isinstance(decoder_head, nn.Linear):
        if entry is not decoder_head:
            of_all(decoder_head.weight, decoder_head.in_features - d, T, column=True)
    if gates is not None:
        of_all(gates.profile, 0, mixing, column=True)
    module.class_profile.copy_(module.class_profile @ mixing)
    module.prior_mean.copy_(module.prior_mean @ T)


def varimax(L: Floats) -> Floats:
    """Return the rotation R, (k, k), for which L R, (p, k), has the simplest columns.

    It maximises the variance of the squared loadings in each column: a few large ones, the rest 0.

    References
    ----------
    Kaiser: The varimax criterion for analytic rotation in factor analysis, Psychometrika 1958.
    """
    if len(L) > FEATURES:
        largest = np.argpartition((L**2).sum(axis=1), -FEATURES)[-FEATURES:]
        L = L[np.sort(largest)]
    R = np.eye(L.shape[1])
    for _ in range(ITERATIONS):
        A = L @ R
        mean = (A**2).mean(axis=0)
        # This is the criterion's gradient, plus three times the largest mean times A. That adds a
        # constant to the criterion and makes it convex, so each step increases it.
        U, _, Vt = np.linalg.svd(L.T @ (A**3 + A * (3 * mean.max() - mean)))
        last, R = R, U @ Vt
        if np.abs(R - last).max() < 1e-5:
            break
    return R


def _codes(module: SpikeSlabAutoencoder, dataset: ArrayDataset | StreamDataset) -> Codes:
    """Return codes of about `SAMPLES` samples, with a share of every class."""
    n_classes = max(1, len(module.class_profile))
    if module.gates is not None:
        n_classes = module.gates.n_classes
    sampler = ClassSampler(n_classes, max(OF_A_CLASS, SAMPLES // n_classes))
    z, log_var, classes = [], [], []
    for x, labels, *_ in dataset.labeled(sampler.pick, ROWS):
        with torch.inference_mode():
            q = module.encode(x.to(module.alpha.device), dataset.incomplete)
            z.append(q.sparse_mean().double().cpu().numpy())
            log_var.append(q.log_var.double().cpu().numpy())
        if labels.ndim == 2:  # the rarest label of a sample
            labels = np.where(labels, sampler.n_seen, np.inf).argmin(axis=1)
        classes.append(labels)
    if not z:
        empty = np.zeros((0, len(module.alpha)))
        return Codes(empty, empty, np.zeros(0, np.intp))
    return Codes(*map(np.concatenate, (z, log_var, classes)))


def _blocks(
    module: SpikeSlabAutoencoder, active: NDArray[np.bool_], alpha: NDArray[np.float32]
) -> list[NDArray[np.intp]]:
    """Return blocks of dimensions with the same alpha that are active together, ascending.

    If the gates follow the class, the dimensions of a block are active in the same classes.
    Otherwise they are active in the same samples, by `active`. A dimension whose probability is not
    clear in some class is alone.
    """
    alone = np.zeros(len(alpha), int)
    if module.gates is not None:
        pi = module.gates.pi.detach().cpu().numpy()
        active, open_ = pi > 0.5, (np.abs(pi - 0.5) < DECIDED - 0.5).any(axis=0)
        alone[open_] = 1 + np.flatnonzero(open_)
    pattern = np.vstack([alpha, alone, active])
    _, block = np.unique(pattern, axis=1, return_inverse=True)
    return [np.flatnonzero(block.ravel() == b) for b in range(block.max() + 1)]


def _effects(
    module: SpikeSlabAutoencoder,
    codes: Codes,
    rows: NDArray[np.bool_],
    block: NDArray[np.intp],
) -> Floats:
    """Return the effects of a block's dimensions on the features at mean codes of classes.

    The result, (G, p, k), has as many classes G as fit in memory. Effects on counts are on the
    scale of their square roots, where the noise of frequent and rare counts is alike.
    """
    classes, likelihood = np.unique(codes.classes[rows]), module.likelihood
    with torch.no_grad():
        p = module.decode(module.prior_mean[None]).shape[1]
    most = min(len(classes), max(1, LARGE // (p * len(block))))
    picked = classes[np.unique(np.linspace(0, len(classes) - 1, most).round().astype(int))]

    def decode(z: Tensor) -> Tensor:
        x = likelihood.mean(module.decode(z))
        return 2 * x.sqrt() if likelihood.counts else x

    effects = []
    for c in picked:
        z = torch.from_numpy(codes.z[rows & (codes.classes == c)].mean(axis=0)).to(module.alpha)
        step = torch.eye(len(z), dtype=z.dtype, device=z.device)[block] * STEP
        with torch.no_grad():
            effect = (decode(z + step) - decode(z - step)) / (2 * STEP)
        effects.append(effect.double().cpu().numpy().T)
    return np.stack(effects)
