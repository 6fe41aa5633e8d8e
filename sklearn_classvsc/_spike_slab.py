"""Room 1: the spike-and-slab distribution of a code, and its divergences from others.

A dimension is inactive (exactly zero) or active (normally distributed)::

    m ~ Bernoulli(gamma),   s ~ N(mu, sigma^2),   z = m * s
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def bernoulli_entropy(p: Tensor) -> Tensor:
    """Return the entropy of Bernoulli variables, in nats.

    Parameters
    ----------
    p : Tensor of any shape
        Probabilities in [0, 1]. Both ends have entropy 0 and a finite derivative.

    Returns
    -------
    Tensor, shape of `p`
        -p log p - (1 - p) log(1 - p).

    Examples
    --------
    >>> import torch
    >>> bernoulli_entropy(torch.tensor([0.5, 1.0])).round(decimals=4)  # log 2, 0
    tensor([0.6931, 0.0000])
    """
    h: Tensor = _BernoulliEntropy.apply(p)
    return h


class _BernoulliEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: Tensor) -> Tensor:
        h, slope = entropy_and_slope(p)
        ctx.save_for_backward(slope)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return grad * slope


def entropy_and_slope(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entropy h(p) and its derivative log((1 - p) / p)."""
    # The logarithms stay finite. At 0 and 1, an infinite derivative times d(gamma)/d(logit) = 0
    # would be NaN.
    info = torch.finfo(p.dtype)
    log_p = p.clamp_min(info.tiny).log_()
    log_q = (1 - p).clamp_min_(info.eps / 2).log_()
    slope = log_q - log_p
    return log_q.neg_().addcmul_(p, slope), slope


def bernoulli_kl(p: Tensor, alpha: Tensor, entropy: Tensor | None = None) -> Tensor:
    """Return KL(Bern(p) || Bern(alpha)), elementwise, in nats.

    Parameters
    ----------
    p : Tensor of shape (..., d)
        Probabilities in [0, 1].
    alpha : Tensor of shape () or (d,)
        Prior probabilities, strictly inside (0, 1).
    entropy : Tensor of shape (..., d) or None
        `bernoulli_entropy(p)`, if it is known already.

    Returns
    -------
    Tensor of shape (..., d)
        Divergences; 0 where `p` equals `alpha`.

    Examples
    --------
    >>> import torch
    >>> bernoulli_kl(torch.tensor(1.0), torch.tensor(0.5))  # log 2
    tensor(0.6931)
    """
    entropy = bernoulli_entropy(p) if entropy is None else entropy
    return -entropy - p * torch.logit(alpha) - torch.log1p(-alpha)


class SpikeSlab:
    """The posterior q(z | x) of a batch: independent spike-and-slab dimensions.

    Parameters
    ----------
    logits : Tensor of shape (n, d) or None
        log(gamma / (1 - gamma)). Infinities are allowed. None means gamma = 1 everywhere: the
        Gaussian posterior of a VAE.
    mu : Tensor of shape (n, d)
        Means of the slabs.
    log_var : Tensor of shape (n, d)
        Logarithms of the slabs' variances.
    gamma : Tensor of shape (n, d) or None
        The probabilities, if they are known already. None: they follow from `logits`.

    References
    ----------
    Tonolini, Jensen, Murray-Smith: Variational Sparse Coding, UAI 2019.

    Examples
    --------
    >>> import torch
    >>> q = SpikeSlab(torch.tensor([[-3.0, 3.0]]), torch.ones(1, 2), torch.zeros(1, 2))
    >>> q.sparse_mean()
    tensor([[0., 1.]])
    """

    def __init__(
        self, logits: Tensor | None, mu: Tensor, log_var: Tensor, gamma: Tensor | None = None
    ) -> None:
        self.logits, self.mu, self.log_var = logits, mu, log_var
        if gamma is None:
            gamma = torch.ones_like(mu) if logits is None else torch.sigmoid(logits)
        self.gamma = gamma

    def rsample(
        self,
        generator: torch.Generator | None = None,
        temperature: float = 0.5,
        common_noise: bool = False,
    ) -> Tensor:
        """Draw z, with gradients for all three parameters.

        The gates are Bernoulli(gamma), exactly 0 or 1. Their gradient is the gradient of the
        binary concrete relaxation of the same draw (straight-through).

        Parameters
        ----------
        generator : torch.Generator or None
            Source of the noise, on the device of `mu`.
        temperature : float
            Temperature of the relaxation, > 0. It changes only gradients.
        common_noise : bool
            Whether all samples have the same noise, so that none depends on its batch.

        Returns
        -------
        Tensor of shape (n, d)
            Draws, exactly zero where a gate is 0.

        References
        ----------
        Jang, Gu, Poole: Categorical Reparameterization with Gumbel-Softmax, ICLR 2017.
        """
        shape = (1, *self.mu.shape[1:]) if common_noise else self.mu.shape
        dtype, device = self.mu.dtype, self.mu.device
        noise = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        slab = torch.addcmul(self.mu, torch.exp(0.5 * self.log_var), noise)
        if self.logits is None:
            return slab
        u = torch.rand(shape, generator=generator, dtype=dtype, device=device)
        hard = (u < self.gamma).to(u.dtype)
        soft = torch.sigmoid((self.logits - u.logit_(torch.finfo(u.dtype).eps)) / temperature)
        return (hard + (soft - soft.detach())) * slab

    def sparse_mean(self, threshold: float = 0.5) -> Tensor:
        """Return the deterministic code mu * 1[gamma > threshold], of shape (n, d)."""
        return torch.where(self.gamma <= threshold, 0.0, self.mu)  # NaN stays NaN

    def slab_kl(self, prior_mean: float | Tensor = 0.0) -> Tensor:
        """Return gamma * KL(N(mu, sigma^2) || N(prior_mean, 1)), in nats, of shape (n, d)."""
        kl = 0.5 * (self.log_var.exp() + (self.mu - prior_mean) ** 2 - 1 - self.log_var)
        return kl if self.logits is None else self.gamma * kl

    def spike_kl(self, alpha: Tensor) -> Tensor:
        """Return KL(Bern(gamma) || Bern(alpha)), in nats, of shape (n, d); 0 without gates."""
        if self.logits is None:
            return torch.zeros_like(self.mu)
        return bernoulli_kl(self.gamma, alpha)

    def kl(self, alpha: Tensor, prior_mean: float | Tensor = 0.0) -> Tensor:
        """Return KL(q(z | x) || p(z)), in nats, of shape (n, d).

        The prior is z = m * s with m ~ Bern(alpha), s ~ N(prior_mean, 1).
        """
        return self.slab_kl(prior_mean) + self.spike_kl(alpha)

    # -- divergence from another spike-and-slab distribution, also with gates ------------------

    def __getitem__(self, rows: Any) -> SpikeSlab:
        """Return the distributions of these rows."""
        logits = None if self.logits is None else self.logits[rows]
        return SpikeSlab(logits, self.mu[rows], self.log_var[rows])

    def tempered(self, fraction: float) -> SpikeSlab:
        """Return the same gates with slabs N(fraction mu, fraction sigma^2 + 1 - fraction).

        At 0, a slab is standard normal noise, and only the gates depend on x.
        """
        log_var = (fraction * self.log_var.exp() + (1 - fraction)).log()
        return SpikeSlab(self.logits, fraction * self.mu, log_var)

    def slab_kl_from(self, prior: SpikeSlab) -> Tensor:
        """Return gamma * KL(N(mu, sigma^2) || the slab of `prior`), in nats, of shape (n, d)."""
        squares = self.log_var.exp() + (self.mu - prior.mu) ** 2
        difference = prior.log_var - self.log_var
        return self.gamma * 0.5 * (squares * (-prior.log_var).exp() - 1 + difference)

    def spike_kl_from(self, prior: SpikeSlab) -> Tensor:
        """Return KL(Bern(gamma) || Bern(gamma of `prior`)), in nats, of shape (n, d)."""
        assert prior.logits is not None
        return F.softplus(prior.logits) - self.gamma * prior.logits - bernoulli_entropy(self.gamma)


def pairwise_kl(q: SpikeSlab, priors: SpikeSlab) -> tuple[Tensor, Tensor]:
    """Return the divergences of each of n distributions from each of m, in nats.

    Matrix products need no more memory than the result. They round more than the methods of
    `SpikeSlab` where a prior is narrow.

    Parameters
    ----------
    q, priors : SpikeSlab of n and of m rows
        The distributions, with gates.

    Returns
    -------
    slab, spike : Tensor of shape (n, m)
        Sums over the dimensions of `slab_kl_from` and `spike_kl_from`.
    """
    assert priors.logits is not None
    precision = (-priors.log_var).exp()  # (m, d)
    at_zero = priors.log_var + priors.mu**2 * precision
    slab = (
        q.gamma @ at_zero.T
        + (q.gamma * (q.log_var.exp() + q.mu**2)) @ precision.T
        - 2 * (q.gamma * q.mu) @ (priors.mu * precision).T
        - (q.gamma * (q.log_var + 1)).sum(1, keepdim=True)
    )
    spike = F.softplus(priors.logits).sum(1) - q.gamma @ priors.logits.T
    return 0.5 * slab, spike - bernoulli_entropy(q.gamma).sum(1, keepdim=True)
