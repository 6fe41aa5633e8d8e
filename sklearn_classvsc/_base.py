"""Room 9: how an estimator is fitted: validation, building, training, pickling."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import validate_data
from torch import nn

from . import _persistence
from ._data import ArrayDataset, measure, seed_from
from ._inference import SpikeSlabInference
from ._likelihoods import LIKELIHOODS
from ._modules import ACTIVATIONS, SpikeSlabAutoencoder, make_autoencoder
from ._net import VSCNet, check_device, divergence_error
from ._objective import Objective
from ._sklearn import Interval, StrOptions, check_sample_weight, fit_context

if TYPE_CHECKING:
    from typing_extensions import Self

#: `max_epochs="auto"`: so many passes, or as many as make so many gradient steps if that is more.
#: `partial_fit` ramps its weights over the same number of steps.
EPOCHS, STEPS = 20, 2000


class SpikeSlabTransformer(SpikeSlabInference, BaseEstimator):
    """What the transformers share. Each adds its parameters, its model and its objective."""

    gated: ClassVar[bool] = True
    # The pending state of a copy just unpickled, whose optimiser no one has needed yet.
    _pending_state: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [StrOptions({"auto", *LIKELIHOODS})],
        "encoder": [nn.Module, None],
        "decoder": [nn.Module, None],
        "kl_weight": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "callbacks": [list, None],
        "warm_start": ["boolean"],
        "sparse_output": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # -- what a subclass adds ------------------------------------------------------------------

    def _model(self) -> dict[str, Any]:
        """Return what the model needs to know: alpha, prior_mean, input_dropout, n_classes."""
        raise NotImplementedError

    def _objective(self) -> Objective:
        """Return the loss."""
        raise NotImplementedError

    def _encode_labels(self, y: Any, classes: Any, reset: bool) -> NDArray[np.int64] | None:
        """Return class indices, -1 for none; None if the estimator takes no labels."""
        return None

    # -- fitting -------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model afresh, or, with `warm_start=True`, from where it stands.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples, finite. Under the Bernoulli likelihood within [0, 1].
        y : array-like of shape (n_samples,), default=None
            Labels. Ignored by `VAETransformer` and `VSCTransformer`.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples in every term of the loss; None means 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument is not as described; the message names it.
        FloatingPointError
            If the loss stops being finite. The estimator is then as it was before the call.
        """
        with self._all_or_nothing():
            first = not (self.warm_start and self.__sklearn_is_fitted__())
            X, labels, weight = self._validate(X, y, sample_weight, None, reset=first)
            if first:
                self._build(X, weight)
            train, valid = ArrayDataset(X, labels, weight, self._standardization), None
            if self.early_stopping:
                train, valid = train.hold_out(self.validation_fraction, self.random_state)
            per_epoch = -(-len(train) // self.batch_size)
            epochs, stop_reason = self.max_epochs, "max_epochs"
            if epochs == "auto":
                epochs = max(EPOCHS, -(-STEPS // per_epoch))
                stop_reason = "max_epochs" if epochs == EPOCHS else "steps"
            net = self._training_net()
            net.schedule(epochs * per_epoch)
            if net.train(train, epochs, valid, self.n_iter_no_change):
                stop_reason = "callback" if valid is None else "early_stopping"
            self._finish(train, stop_reason)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over a chunk of data, at a constant learning rate.

        The first call builds the model: its chunk decides how features are standardised and what
        `likelihood="auto"` means. Weights that ramp reach their value after 2,000 steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, finite.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples; None means 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument is not as described; the message names it.
        FloatingPointError
            If the loss stops being finite. The estimator is then as it was before the call.
        """
        return self._partial_fit(X, y, sample_weight)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        with self._all_or_nothing():
            first = not self.__sklearn_is_fitted__()
            X, labels, weight = self._validate(X, y, sample_weight, classes, reset=first)
            if first:
                self._build(X, weight)
            net = self._training_net()
            if first or net.decay:  # what `fit` has trained is past its ramps
                net.schedule(STEPS, done=0 if first else STEPS, decay=False)
            chunk = ArrayDataset(X, labels, weight, self._standardization)
            net.train(chunk, 1, None, self.n_iter_no_change)
            self._finish(chunk, "partial_fit")
        return self

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave the estimator as it was if the block raises, Ctrl-C included."""
        before = self.__dict__.copy()
        state = self._training_state() if self.__sklearn_is_fitted__() else None
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            if state is not None and self.net_.initialized_:
                self.net_.load_state(state)
            raise

    def _validate(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, reset: bool
    ) -> tuple[Any, NDArray[np.int64] | None, NDArray[np.float32] | None]:
        """Return X, class indices and weights, without the samples of weight 0."""
        checks = {"accept_sparse": "csr", "dtype": "numeric", "reset": reset}
        if get_tags(self).target_tags.required:
            X, y = validate_data(self, X, y, **checks)
        else:
            X, y = validate_data(self, X, **checks), None
        weight = None
        if sample_weight is not None:
            weight = check_sample_weight(
                sample_weight, X, dtype=np.float32, ensure_non_negative=True
            )
            kept = weight > 0  # a sample of weight 0 is no sample, nor is its class a class
            if not kept.any():
                raise ValueError(
                    "Sample weights must contain at least one non-zero number: "
                    f"all {len(weight)} values of sample_weight are zero."
                )
            if not kept.all():
                X, weight, y = X[kept], weight[kept], None if y is None else y[kept]
        labels = self._encode_labels(y, classes, reset)
        likelihood = self.likelihood if reset else self._architecture["likelihood"]
        if likelihood == "bernoulli" and not (X.min() >= 0 and X.max() <= 1):
            raise ValueError(
                f"X lies in [{X.min():.3g}, {X.max():.3g}], but the Bernoulli likelihood needs "
                "[0, 1]: rescale X (MinMaxScaler), or set likelihood='gaussian'."
            )
        return X, labels, weight

    # -- the model -----------------------------------------------------------------------------

    def _build(self, X: Any, weight: NDArray[np.float32] | None) -> None:
        """Build an untrained model for data like X."""
        likelihood = self.likelihood
        if likelihood == "auto":
            likelihood = "bernoulli" if X.min() >= 0 and X.max() <= 1 else "gaussian"
        self._standardization = None
        if LIKELIHOODS[likelihood].standardize:
            self._standardization = standardization = measure(X, weight)
            if not all(np.isfinite(part).all() for part in standardization):
                raise divergence_error(X, self.learning_rate, "before training")
        self._architecture = self._model() | {
            "n_features": X.shape[1],
            "encoder": self.encoder,
            "decoder": self.decoder,
            "hidden_layer_sizes": _sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "likelihood": likelihood,
            "gated": self.gated,
        }
        self.net_ = self._make_net(
            seed_from(self.random_state), check_device(self.device)
        ).initialize()

    def _make_net(self, seed: int, device: str) -> VSCNet:
        """Return a net around a new model of this architecture."""
        generator = torch.Generator().manual_seed(seed)
        parts = self._architecture | {
            "likelihood": LIKELIHOODS[self._architecture["likelihood"]](),
            "alpha": torch.tensor(self._architecture["alpha"], dtype=torch.float32),
        }
        return VSCNet(
            make_autoencoder(**parts, generator=generator),
            self._objective(),
            generator,
            lr=self.learning_rate,
            batch_size=self.batch_size,
            device=device,
            callbacks=self.callbacks,
            verbose=self.verbose,
        )

    def _training_net(self) -> VSCNet:
        """Return the net, ready to train, under the current parameters."""
        net = self.net_
        if not net.initialized_:  # just unpickled: the optimiser is built only if it is needed
            net.initialize().load_state(self._training_state())
            self._pending_state = None
        net.lr, net.batch_size, net.verbose = self.learning_rate, self.batch_size, self.verbose
        net.criterion_ = self._objective()
        return net

    def _finish(self, dataset: ArrayDataset, stop_reason: str) -> None:
        """Publish what training made: a copy of the model that no later training touches."""
        net = self.net_
        self.module_ = _frozen_copy(net.module_)
        self.history_ = pd.DataFrame(
            [{key: value for key, value in row.items() if key != "batches"} for row in net.history]
        )
        self.n_iter_ = len(net.history)
        self.stop_reason_ = stop_reason

    # -- files ---------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted estimator to a file that holds data only, no code.

        One safetensors file with parameters, weights and the state of training, written at once:
        a failed write leaves an older file as it was.

        Parameters
        ----------
        path : str or path-like
            The file; by convention it ends in ".safetensors".

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If a parameter or a label is not data: a module of the user's own, a callback.
        OSError
            If the file cannot be written.
        """
        _persistence.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read an estimator that `save` wrote; nothing in the file is run.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        estimator : object
            As it was saved: it transforms, and continues `partial_fit`, identically.

        Raises
        ------
        ModelFileError
            If the file is damaged, of another class or a newer version, or anything else than
            `save` writes. A ValueError that names the path, what was found and what to do.
        """
        return _persistence.load(path, cls)

    # -- scikit-learn's protocols --------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _training_state(self) -> dict[str, Any]:
        if self._pending_state is not None:
            return self._pending_state
        return self.net_.state()

    def __getstate__(self) -> dict[str, Any]:
        """Return NumPy arrays and primitives only, so that any serialiser will do."""
        state: dict[str, Any] = dict(super().__getstate__())
        if self.__sklearn_is_fitted__():
            state["_pending_state"] = self._training_state()
            state["history_"] = {name: self.history_[name].to_numpy() for name in self.history_}
            del state["net_"], state["module_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_pending_state" in state:
            self.history_ = pd.DataFrame(state["history_"])
            try:
                device = check_device(self.device)
            except ValueError:  # trained on a GPU, loaded where there is none
                device = "cpu"
            self.net_ = self._make_net(seed=0, device=device)
            self.net_.load_weights(self._pending_state)
            self.module_ = _frozen_copy(self.net_.module).to(device)


def _frozen_copy(module: SpikeSlabAutoencoder) -> SpikeSlabAutoencoder:
    return copy.deepcopy(module).eval().requires_grad_(False)


def _sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the widths of the hidden layers, checked."""
    sizes = list(np.atleast_1d(hidden_layer_sizes))
    if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes={hidden_layer_sizes!r} must hold positive integers, "
            "one for each hidden layer."
        )
    return [int(size) for size in sizes]
