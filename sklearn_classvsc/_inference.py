"""Room 8: what a fitted estimator does: X -> codes -> X-hat, scores and samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn import config_context
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from ._data import CHUNK, ArrayDataset, Standardization, chunk_size, naming, seed_from
from ._streams import as_source
from ._tables import as_table, columns_named

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._modules import SpikeSlabAutoencoder

#: Draws of the code per sample in `score_samples`.
DRAWS = 16


class SpikeSlabInference(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Deterministic use of a fitted model. Nothing here changes the estimator."""

    module_: SpikeSlabAutoencoder
    sparse_output: bool
    random_state: Any
    _standardization: Standardization | None
    _architecture: dict[str, Any]

    @property
    def _n_features_out(self) -> int:
        return len(self.module_.alpha)

    def _now(self) -> Self:
        """Return the estimator as it is now: a fit in another thread replaces its state at once."""
        now = object.__new__(type(self))
        now.__dict__ = self.__dict__.copy()
        return now

    def _threshold(self) -> float:
        """Return the probability above which a dimension counts as active."""
        return float(getattr(self, "threshold", 0.5))

    def transform(self, X: ArrayLike) -> Any:
        """Encode samples as sparse codes: mu * 1[gamma > threshold].

        Deterministic, with exact zeros. A `VAETransformer` has gamma = 1, and dense codes mu.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, in the units of the data the model was fitted to. A source is read in pieces,
            see `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components), float32
            Codes; a CSR array with `sparse_output=True`.
        """
        now = self._now()

        def encode(x: Tensor) -> Any:
            q = now.module_.encode(x)
            codes = q.sparse_mean(now._threshold())
            if q.gamma.sum().isnan():  # NaN is not off
                codes = torch.where(q.gamma.isnan(), q.gamma, codes)
            Z = codes.cpu().numpy()
            return sparse.csr_array(Z) if now.sparse_output else Z

        return now._map(encode, X)

    def activation_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the probability of each dimension to be active for each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, see `transform`.

        Returns
        -------
        gamma : ndarray of shape (n_samples, n_components), float32
            Probabilities; all 1 for a `VAETransformer`.
        """
        now = self._now()
        gamma: NDArray[np.float32] = now._map(
            lambda x: now.module_.encode(x).gamma.cpu().numpy(), X
        )
        return gamma

    def inverse_transform(self, Z: ArrayLike) -> NDArray[Any]:
        """Decode codes into samples, in the units of the data.

        Parameters
        ----------
        Z : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of p(x | z), float32, or float64 where standardised features were. Of counts, for
            samples of the mean total of the training data, as codes do not tell the total.

        Raises
        ------
        ValueError
            If `Z` has another number of columns than the model has dimensions, or numbers so
            large that the samples are not finite.
        """
        now = self._now()
        check_is_fitted(now)
        Z = as_table(Z, "Z")
        with naming("Z", Z), config_context(array_api_dispatch=False):
            codes = check_array(Z, accept_sparse="csr", dtype=np.float32, input_name="Z")
        if codes.shape[1] != now._n_features_out:
            raise ValueError(
                f"Z has {codes.shape[1]} columns, but {type(self).__name__} has n_components="
                f"{now._n_features_out} dimensions: pass codes as transform returns them."
            )
        parts = [now._decode(z) for z in now._chunks(ArrayDataset(codes))]
        X = np.concatenate(parts)
        if not _is_finite(X):
            raise _not_finite("Z", codes)
        return X

    def score_samples(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the evidence lower bound (ELBO) of each sample.

        E_q log p(x | z) - KL(q(z | x) || p(z)), a lower bound of log p(x). The expectation is a
        mean over 16 draws whose noise is the same for every sample, call and model: scores are
        deterministic, do not depend on the batch, and compare models under common noise. Where the
        prior is learned, a mixture, the divergence is bounded by that from the part of it that the
        selector names, less the logarithm of its share: still a lower bound.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, see `transform`. Under the Bernoulli likelihood within [0, 1], counts not
            negative.

        Returns
        -------
        elbo : ndarray of shape (n_samples,), float32
            In nats, for densities in the units of X. Higher is better. Of counts,
            given the total of each sample.
        """
        now = self._now()

        def elbo(x: Tensor) -> NDArray[np.float32]:
            model = now.module_
            q = model.encode(x)
            generator = torch.Generator(x.device).manual_seed(0)
            log_p = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            for _ in range(DRAWS):
                z = q.rsample(generator, common_noise=True)
                log_p += model.likelihood.log_prob(model.decode_for(z, x), x)
            return (log_p / DRAWS - model.prior_kl(q, x)).float().cpu().numpy()

        scores: NDArray[np.float32] = now._map(elbo, X)
        if now._standardization is not None:  # density of X, not of the standardised features
            scores -= np.float32(np.log(now._standardization.scale.astype(np.float64)).sum())
        return scores

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean ELBO of the samples, in nats per sample. Higher is better.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : Ignored, default=None
            Not used, present for API consistency by convention.

        Returns
        -------
        elbo : float
            Mean of `score_samples`.
        """
        return float(self.score_samples(X).mean(dtype=np.float64))

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """Draw new samples: codes from the prior, decoded.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples, at least 1.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of p(x | z), as `inverse_transform` returns them: no observation noise is added.

        Raises
        ------
        ValueError
            If `n_samples` is below 1.
        """
        now = self._now()
        check_is_fitted(now)
        model, n_components = now.module_, now._n_features_out
        if model.pseudo_inputs is not None:
            with torch.inference_mode():
                q, share = model.prior_posteriors(), model.pseudo_inputs.proportions()
                parts = [x.cpu().numpy() for x in (q.gamma, q.mu, q.log_var.exp(), share.double())]
            return now._sample(n_samples, *parts)
        moments = np.full(n_components, model.prior_mean), np.ones(n_components)
        return now._sample(n_samples, model.alpha.cpu().numpy(), *moments)

    def _sample(
        self,
        n_samples: int,
        pi: NDArray[Any],
        mean: NDArray[Any],
        variance: NDArray[Any],
        share: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Decode n draws of independent spike-and-slab dimensions with these moments, (d,) each.

        With `share`, (m,), of a mixture of m such distributions, whose moments are (m, d).
        """
        if n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} must be at least 1.")
        rng = np.random.default_rng(seed_from(self.random_state))
        if share is not None:
            part = rng.choice(len(share), n_samples, p=share / share.sum())
            pi, mean, variance = pi[part], mean[part], variance[part]
        shape = (n_samples, pi.shape[-1])
        slab = mean + np.sqrt(variance) * rng.standard_normal(shape)
        gate = rng.random(shape) < (pi if self.module_.gated else 1)
        return self.inverse_transform(np.where(gate, slab, 0))

    def _map(self, function: Callable[[Tensor], Any], X: ArrayLike) -> Any:
        """Apply `function` to X in chunks, and stack what it returns."""
        check_is_fitted(self)
        source = as_source(X)
        parts = []
        for piece in [X] if source is None else (chunk.X for chunk in source.read()):
            checked = self._check_samples(piece, reset=False, finite=not self._spreads_nan)
            dataset = ArrayDataset(checked, standardization=self._standardization)
            part = _gather(map(function, self._chunks(dataset)), len(dataset))
            if not _is_finite(part):
                self._check_samples(piece, reset=False)  # raises if it is for the samples
                raise _not_finite("X", checked)
            parts.append(part)
        return _stack(parts)

    @property
    def _spreads_nan(self) -> bool:
        """Whether a value that is not finite leaves nothing finite of its sample.

        A layer that normalises, as ours do, sees to that. It is then enough to look at what comes
        out, which takes far less time than all of X. Gates that are always open do not tell.
        """
        own, sizes = self._architecture["encoder"], self._architecture["hidden_layer_sizes"]
        return self.module_.gated and own is None and len(sizes) > 0

    def _check_samples(self, X: Any, reset: bool, finite: bool = True) -> Any:
        """Return X as a table of real numbers, dense or CSR, that are `finite`."""
        X = as_table(X)
        with naming("X", X), columns_named(X), config_context(array_api_dispatch=False):
            X = validate_data(
                self, X, accept_sparse="csr", dtype="numeric", ensure_all_finite=finite, reset=reset
            )
            if X.dtype.kind == "O":  # a DataFrame of categories
                X = check_array(X, dtype=np.float64)
            if X.dtype.kind not in "biuf":
                raise ValueError(f"Expected real numbers, found {X.dtype}.")
        return X

    def _chunks(self, dataset: ArrayDataset) -> Iterator[Tensor]:
        device = self.module_.alpha.device
        # A body of the user's own may write into what it is given; ours do not.
        borrow = self._architecture["encoder"] is None and self._architecture["decoder"] is None
        with torch.inference_mode():
            size = CHUNK if dataset.sparse else chunk_size(self._architecture["n_features"])
            for x in dataset.slices(size, borrow):
                yield x.to(device)

    def _decode(self, z: Tensor) -> NDArray[Any]:
        """Return E[x | z] in the data's units."""
        with torch.inference_mode():
            x: NDArray[Any] = self.module_.likelihood.mean(self.module_.decode(z)).cpu().numpy()
        return x if self._standardization is None else self._standardization.undo(x)


def _gather(parts: Iterator[Any], n_rows: int) -> Any:
    """Return the rows of all parts as one table, without a second copy of it if it is dense."""
    first = next(parts)
    if sparse.issparse(first):
        return _stack([first, *parts])
    table, start = np.empty((n_rows, *first.shape[1:]), first.dtype), 0
    for part in itertools.chain([first], parts):
        table[start : start + len(part)] = part
        start += len(part)
    return table


def _stack(parts: list[Any]) -> Any:
    """Return the rows of all parts, dense or CSR, as one table."""
    if len(parts) == 1:
        return parts[0]
    return sparse.vstack(parts, "csr") if sparse.issparse(parts[0]) else np.concatenate(parts)


def _is_finite(out: Any) -> bool:
    return bool(np.isfinite(out.data if isinstance(out, sparse.csr_array) else out).all())


def _not_finite(name: str, given: Any) -> ValueError:
    """Say what is too far from the data of the fit."""
    return ValueError(
        f"{name} has absolute values up to {float(abs(given).max()):.3g}, for which this model "
        "returns numbers that are not finite: pass what is on the scale of the data that it "
        "was fitted to."
    )
