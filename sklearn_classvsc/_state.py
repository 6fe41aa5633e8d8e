"""Room 10: the model of an estimator: built, trained on, published, pickled and saved."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch import nn

from . import _persistence
from ._data import ArrayDataset, Moments, Standardization, seed_from
from ._likelihoods import LIKELIHOODS
from ._modules import SpikeSlabAutoencoder, make_autoencoder
from ._net import VSCNet, check_device, check_precision, divergence_error
from ._objective import Objective
from ._streams import StreamDataset
from ._validation import SpikeSlabValidation

if TYPE_CHECKING:
    from typing_extensions import Self

#: Samples until which the chunks of `partial_fit` still change the scales of the features.
FEW = 1000
#: Standard deviations beyond which the root mean square of a feature is far outside.
FAR = 10


class SpikeSlabState(SpikeSlabValidation, BaseEstimator):
    """The net that is trained, the model it has made, and what a file holds of them."""

    gated: ClassVar[bool] = True
    # The state of training where the net does not have it: of a copy just unpickled, whose
    # optimiser no one has needed yet, and while the net is trained on.
    _pending_state: dict[str, Any] | None = None
    # The moments of all that `partial_fit` was given, where features are standardised.
    _seen: dict[str, Any] | None = None

    # -- what a subclass adds ------------------------------------------------------------------

    def _model(self) -> dict[str, Any]:
        """Return what the model needs to know: alpha, prior_mean, input_dropout, n_classes."""
        raise NotImplementedError  # room 14 has one for each transformer

    def _objective(self) -> Objective:
        """Return the loss."""
        raise NotImplementedError  # room 14, too

    # -- the model -----------------------------------------------------------------------------

    def _build(self, data: ArrayDataset | StreamDataset) -> None:
        """Build an untrained model for such data."""
        likelihood, survey = self.likelihood, data.survey(False)
        if likelihood == "auto":
            likelihood = "bernoulli" if survey.black_and_white else "gaussian"
        self._standardization = None
        if LIKELIHOODS[likelihood].standardize:
            self._standardization = data.survey(True).standardization()
            if not all(np.isfinite(part).all() for part in self._standardization):
                raise divergence_error(survey.magnitude, self.learning_rate, "before training")
        self._architecture = self._model() | {
            "n_features": survey.n_features,
            "encoder": _kept(self.encoder),
            "decoder": _kept(self.decoder),
            "hidden_layer_sizes": _sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "likelihood": likelihood,
            "gated": self.gated,
        }
        net = self._make_net(seed_from(self.random_state), check_device(self.device))
        if LIKELIHOODS[likelihood].counts:
            net.module.start_at(torch.from_numpy(data.survey(True).means()))
        self.net_, self._pending_state = net.initialize(), None
        self.likelihood_ = likelihood
        self.__dict__.pop("_seen", None)

    def _follow_scales(self, data: ArrayDataset | StreamDataset, first: bool = False) -> None:
        """Let later chunks tell the scales that the first ones cannot; warn of what is far outside.

        As long as few samples have come, the scales of all features; then of those that have had
        one value only, of which the network has seen nothing but zeros.
        """
        if self._standardization is None:
            return
        survey = data.survey(True)
        moments, scales = survey.moments(), self._standardization
        if first:
            self._seen = moments._asdict()
            return
        if self._seen is not None:
            before = Moments(**self._seen)
            together = before + moments
            dtype = np.promote_types(scales.scale.dtype, survey.dtype)
            if before.n_samples < FEW:
                scales = together.standardization(dtype)
            else:
                late = before.constant() & ~together.constant()
                scale = np.where(late, scales.spread(moments), scales.scale)
                scales = Standardization(scales.offset.astype(dtype), scale.astype(dtype))
            self._standardization, self._seen = scales, together._asdict()
            if together.n_samples >= FEW and not together.constant().any():
                del self._seen  # nothing is open any more
        spread = scales.spread(moments)
        if spread.max() > FAR:
            warnings.warn(
                f"X lies far outside the scales of the data before: feature {spread.argmax()} has "
                f"values of {spread.max():.3g} standard deviations, root mean square, and drowns "
                "the others. Pass partial_fit a larger first chunk, or all data to fit as a "
                "source, or scale X before (StandardScaler).",
                stacklevel=2,
            )

    def _make_net(self, seed: int, device: str) -> VSCNet:
        """Return a net around a new model of this architecture."""
        generator = torch.Generator().manual_seed(seed)
        parts = self._architecture | {
            "likelihood": LIKELIHOODS[self._architecture["likelihood"]](
                self._architecture["n_features"]
            ),
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
        if self._pending_state is not None:
            if not net.initialized_:  # just unpickled: the optimiser is built only if it is needed
                net.initialize()
            net.load_state(self._pending_state)
            self._pending_state = None
        net.lr, net.batch_size, net.verbose = self.learning_rate, self.batch_size, self.verbose
        check_precision(self.precision, net.device)
        net.criterion_, net.precision = self._objective(), self.precision
        if net.callbacks is not self.callbacks:
            net.callbacks = self.callbacks
            net.initialize_callbacks()
        return net

    def _finish(self, dataset: ArrayDataset | StreamDataset, stop_reason: str) -> None:
        """Publish what training made: a copy of the model that no later training touches."""
        net = self.net_
        self.module_ = _frozen_copy(net.module_)
        self.history_ = pd.DataFrame(
            [{key: value for key, value in row.items() if key != "batches"} for row in net.history]
        )
        self.n_iter_ = net.history[-1, "epoch"]
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
        """Read an estimator that `save` or a `checkpoint` wrote; nothing in the file is run.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        estimator : object
            As it was saved: it transforms, and continues `partial_fit`, identically. Of an
            unfinished fit, as it was after an epoch.

        Raises
        ------
        ModelFileError
            If the file is damaged, of another class or a newer version, or anything else than
            `save` writes. A ValueError that names the path, what was found and what to do.
        """
        estimator = _persistence.load(path, cls)
        estimator.__dict__.pop("_checkpoint", None)
        return estimator

    # -- scikit-learn's protocols --------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "module_")

    def _training_state(self) -> dict[str, Any]:
        if self._pending_state is not None:
            return self._pending_state
        return self.net_.state()

    def __getstate__(self) -> dict[str, Any]:
        """Return NumPy arrays and primitives only, so that any serialiser will do."""
        now = self._now()
        state: dict[str, Any] = dict(super(SpikeSlabState, now).__getstate__())
        state.pop("_parent_callback_ctx", None)  # scikit-learn's, while it fits a pipeline
        if now.__sklearn_is_fitted__():
            state["_pending_state"] = now._training_state()
            if now._pending_state is None and (
                self._pending_state is not None or self.module_ is not now.module_
            ):  # a training in another thread has changed the net while it was copied
                return self.__getstate__()
            state["history_"] = {name: now.history_[name].to_numpy() for name in now.history_}
            del state["net_"], state["module_"], state["likelihood_"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_pending_state" in state:
            self.likelihood_ = self._architecture["likelihood"]
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


def _kept(body: Any) -> Any:
    """Return a copy of a recipe, which set_params(encoder__channels=...) changes in place."""
    return body if isinstance(body, nn.Module) else copy.deepcopy(body)


def _sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the widths of the hidden layers, checked."""
    sizes = list(np.atleast_1d(hidden_layer_sizes))
    if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes={hidden_layer_sizes!r} must hold positive integers, "
            "one for each hidden layer."
        )
    return [int(size) for size in sizes]
