"""Room 9: the trained model, which never changes: encode, decode, score and draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ._blocks import row_sums
from ._classes import Labels, LabelSets
from ._collapse import ClassSummary
from ._data import CHUNK, ROUNDING, ArrayDataset, Standardization, chunk_size
from ._guard import own_settings
from ._likelihoods import LIKELIHOODS
from ._mixed import Mixed, likelihood_class
from ._modules import SpikeSlabAutoencoder

#: Draws of the code per sample in `Model.elbo`.
DRAWS = 16


class CodeMoments(NamedTuple):
    """Moments of independent spike-and-slab dimensions, or of a mixture of m such codes."""

    pi: NDArray[Any]  # P(active), (d,) or (m, d)
    mean: NDArray[Any]  # of the slabs
    variance: NDArray[Any]
    mixture: NDArray[Any] | None = None  # probabilities of the parts, (m,)


class Model:
    """A trained autoencoder with its standardisation and labels. It never changes.

    The methods take checked tables X: real numbers, dense or CSR, in the units of the data.

    Parameters
    ----------
    module : SpikeSlabAutoencoder
        The network. No later training changes it.
    architecture : dict
        Arguments of the network: "n_features", "likelihood", "encoder", "decoder" and more.
    standardization : Standardization or None
        Offset and scale of the features. None: the likelihood takes the features as they are.
    labels : Labels, LabelSets or None
        The classes. None: no labels.
    summary : ClassSummary or None
        How the classes use the code. None: no labels.
    """

    def __init__(
        self,
        module: SpikeSlabAutoencoder,
        architecture: dict[str, Any],
        standardization: Standardization | None,
        labels: Labels | LabelSets | None = None,
        summary: ClassSummary | None = None,
    ) -> None:
        self.module, self.architecture, self.standardization = module, architecture, standardization
        self.labels, self.summary = labels, summary

    @property
    def n_components(self) -> int:
        """Number d of dimensions."""
        return len(self.module.alpha)

    @property
    def spreads_nan(self) -> bool:
        """Whether a value that is missing or not finite makes the whole code not finite.

        LayerNorm in the encoder's MLP does that. A check of the output is then enough, and takes
        far less time than a check of X. Without gates, it is not enough.
        """
        own, sizes = self.architecture["encoder"], self.architecture["hidden_layer_sizes"]
        return self.module.gated and own is None and len(sizes) > 0

    def codes(self, X: Any, threshold: float, as_sparse: bool = False) -> Any:
        """Return mu * 1[gamma > threshold], (n, d), dense or as a CSR array."""

        def encode(x: Tensor, incomplete: bool) -> Any:
            Z = self.module.encode(x, incomplete).sparse_mean(threshold).cpu().numpy()
            return sparse.csr_array(Z) if as_sparse else Z

        return self._map(encode, X)

    def activation_proba(self, X: Any) -> NDArray[np.float32]:
        """Return gamma, (n, d)."""

        def encode(x: Tensor, incomplete: bool) -> NDArray[np.float32]:
            gamma: NDArray[np.float32] = self.module.encode(x, incomplete).gamma.cpu().numpy()
            return gamma

        gamma: NDArray[np.float32] = self._map(encode, X)
        return gamma

    def elbo(self, X: Any) -> NDArray[np.float32]:
        """Return the evidence lower bound of each sample, in nats, for densities in X's units.

        For a sample with missing values, it is the bound of the observed values.

        Raises
        ------
        ValueError
            If a sample is outside the range of the likelihood.
        """
        log_scale = None
        if self.standardization is not None:
            log_scale = np.log(self.standardization.scale.astype(np.float64))

        def bound(x: Tensor, incomplete: bool) -> NDArray[np.float32]:
            low, high = _range(x, incomplete)
            # If X is not finite, the scores are not finite either, and the caller reports that.
            if not self.spreads_nan or math.isfinite(high - low):
                check_range(self.architecture["likelihood"], low, high)
            if "kinds" in self.architecture:
                table = x.to_dense().cpu().numpy()
                ends = np.fmin.reduce(table, axis=0), np.fmax.reduce(table, axis=0)
                check_columns(self.architecture["kinds"], *ends)
            q = self.module.encode(x, incomplete)
            generator = torch.Generator(x.device).manual_seed(0)
            log_p = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            for _ in range(DRAWS):
                z = q.rsample(generator, common_noise=True)
                theta = self.module.decode_for(z, x)
                log_p += self.module.likelihood.log_prob(theta, x, incomplete)
            elbo = log_p / DRAWS - self.module.prior_kl(q, x, incomplete)
            if (
                incomplete and log_scale is not None
            ):  # undo the subtraction below for missing features
                elbo += _missing_sums(x, torch.from_numpy(log_scale).to(elbo))
            return elbo.float().cpu().numpy()

        scores: NDArray[np.float32] = self._map(bound, X)
        if log_scale is not None:  # density of X, not of standardised features
            scores -= np.float32(log_scale.sum())
        return scores

    def decode(self, Z: Any) -> NDArray[Any]:
        """Return E[x | z] in the data's units, (n, p), for codes Z, (n, d), dense or CSR."""

        def mean(z: Tensor) -> NDArray[Any]:
            x: NDArray[Any] = self.module.likelihood.mean(self.module.decode(z)).cpu().numpy()
            return x if self.standardization is None else self.standardization.undo(x)

        with own_settings():
            return np.concatenate([mean(z) for z in self._chunks(ArrayDataset(Z))])

    def prior(self) -> CodeMoments:
        """Return the prior distribution of codes."""
        module = self.module
        if module.pseudo_inputs is not None:
            with own_settings():
                q, mixture = module.prior_posteriors(), module.pseudo_inputs.proportions()
                parts = (q.gamma, q.mu, q.log_var.exp(), mixture.double())
                return CodeMoments(*(x.cpu().numpy() for x in parts))
        alpha, mean = module.alpha.cpu().numpy(), module.prior_mean.cpu().numpy()
        return CodeMoments(alpha, mean, np.ones(self.n_components))

    def draw(
        self, n_samples: int, of: CodeMoments, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw codes of independent dimensions with these moments, (n_samples, d)."""
        pi, mean, variance, mixture = of
        if mixture is not None:
            part = rng.choice(len(mixture), n_samples, p=mixture / mixture.sum())
            pi, mean, variance = pi[part], mean[part], variance[part]
        shape = (n_samples, pi.shape[-1])
        slab = mean + np.sqrt(variance) * rng.standard_normal(shape)
        gate = rng.random(shape) < (pi if self.module.gated else 1)
        codes: NDArray[np.float64] = np.where(gate, slab, 0)
        return codes

    def _map(self, function: Callable[[Tensor, bool], Any], X: Any) -> Any:
        """Apply `function` to the samples in chunks, and stack the results.

        The second argument of `function` says whether values may be missing. If missing values make
        the result not finite (`spreads_nan`), only such a result causes a search for them.
        """
        data, incomplete = ArrayDataset(X, standardization=self.standardization), False

        def result(x: Tensor) -> Any:
            nonlocal incomplete
            if not (incomplete or self.spreads_nan):
                incomplete = _is_missing(x)
            part = function(x, incomplete)
            if not (incomplete or is_finite(part)) and _is_missing(x):
                incomplete = True
                part = function(x, incomplete)
            return part

        with own_settings():
            return _gather(map(result, self._chunks(data)), len(data))

    def _chunks(self, data: ArrayDataset) -> Iterator[Tensor]:
        device = self.module.alpha.device
        # A user's body may write into its input. The MLPs of this package do not.
        borrow = self.architecture["encoder"] is None and self.architecture["decoder"] is None
        size = CHUNK if data.sparse else chunk_size(self.architecture["n_features"])
        for x in data.slices(size, borrow):
            yield x.to(device)


def check_range(likelihood: str, low: float, high: float) -> None:
    """Check that the likelihood allows values in [low, high], up to rounding."""
    allowed = likelihood_class(likelihood)
    if low >= allowed.low - ROUNDING and high <= allowed.high + ROUNDING:
        return
    if math.isfinite(allowed.high):
        raise ValueError(
            f"X lies in [{low:.6g}, {high:.6g}], but the {allowed.__name__} likelihood needs "
            f"[{allowed.low:g}, {allowed.high:g}]. Rescale X (MinMaxScaler(clip=True)), or set "
            "likelihood='gaussian'."
        )
    raise ValueError(
        f"Negative values in data: X holds {low:.6g}, but likelihood={likelihood!r} "
        "needs counts. Pass the counts themselves, or set likelihood='gaussian'."
    )


def check_columns(
    kinds: NDArray[Any], least: NDArray[Any], most: NDArray[Any], names: Any = None
) -> None:
    """Check that the likelihood of each feature allows values in its range, up to rounding."""
    for k, name in enumerate(Mixed.KINDS):
        low, high = LIKELIHOODS[name].low - ROUNDING, LIKELIHOODS[name].high + ROUNDING
        for j in np.flatnonzero((kinds == k) & ((least < low) | (most > high))):
            value = least[j] if least[j] < low else most[j]
            column = int(j) if names is None else names[j]
            needed = "[0, 1]" if math.isfinite(high) else "counts, not negative"
            raise ValueError(
                f"X holds {value:.6g} in column {column!r}, whose likelihood is {name!r} and needs "
                f"{needed}. Correct the values, or name another likelihood for the column."
            )


def _range(x: Tensor, incomplete: bool) -> tuple[float, float]:
    """Return the smallest and the largest value; 0 if no value is stored or observed."""
    values = x.values() if x.is_sparse else x
    if incomplete:
        values = values[~values.isnan()]
    if not values.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(values)
    return float(low), float(high)


def _is_missing(x: Tensor) -> bool:
    """Return whether any value is missing."""
    values = x.values() if x.is_sparse else x
    return bool(values.sum().isnan()) and bool(values.isnan().any())  # a sum is fast


def _missing_sums(x: Tensor, of_feature: Tensor) -> Tensor:
    """Return sums, (n,), of a value for each feature, (p,), over the missing features."""
    if not x.is_sparse:
        return x.isnan().to(of_feature.dtype) @ of_feature
    rows, columns = x.indices()
    return row_sums(len(x), rows, x.values().isnan() * of_feature[columns])


def stack(parts: list[Any]) -> Any:
    """Return the rows of all parts, dense or CSR, as one table."""
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, "csr") if sparse.issparse(parts[0]) else np.concatenate(parts)


def is_finite(table: Any) -> bool:
    """Return whether a table, dense or CSR, holds only finite numbers."""
    return bool(np.isfinite(table.data if isinstance(table, sparse.csr_array) else table).all())


def _gather(parts: Iterator[Any], n_rows: int) -> Any:
    """Return the rows of all parts as one table, without a second copy if it is dense."""
    first = next(parts)
    if sparse.issparse(first):
        return stack([first, *parts])
    table, start = np.empty((n_rows, *first.shape[1:]), first.dtype), 0
    for part in itertools.chain([first], parts):
        table[start : start + len(part)] = part
        start += len(part)
    return table
