"""Room 10: how an estimator is fitted: validation, building, training, pickling."""

from __future__ import annotations

import copy
import os
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
from sklearn.utils.validation import assert_all_finite, column_or_1d
from torch import nn

from . import _persistence
from ._checkpoint import Checkpoint, Plan, check_same, fingerprint
from ._data import ArrayDataset, Rows, Survey, naming, seed_from
from ._inference import SpikeSlabInference
from ._likelihoods import LIKELIHOODS
from ._modules import ACTIVATIONS, SpikeSlabAutoencoder, make_autoencoder
from ._net import VSCNet, check_device, check_precision, divergence_error
from ._objective import Objective
from ._sklearn import HasMethods, Interval, StrOptions, check_sample_weight, fit_context
from ._streams import Chunk, Source, StreamDataset, as_source
from .distributed import current
from .labels import Indicator, as_indicator, pick

if TYPE_CHECKING:
    from typing_extensions import Self

#: `max_epochs="auto"`: so many passes, or as many as make so many gradient steps if that is more.
#: `partial_fit` ramps its weights over the same number of steps.
EPOCHS, STEPS = 20, 2000
#: Calls of `partial_fit` that `history_` goes back: a stream may never end.
HISTORY = 1000
#: What a weight of the loss may be: far beyond use, and far below what float32 cannot hold.
WEIGHT = Interval(Real, 0, 1e9, closed="both")


class SpikeSlabTransformer(SpikeSlabInference, BaseEstimator):
    """What the transformers share. Each adds its parameters, its model and its objective."""

    gated: ClassVar[bool] = True
    # The state of training where the net does not have it: of a copy just unpickled, whose
    # optimiser no one has needed yet, and while the net is trained on.
    _pending_state: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [StrOptions({"auto", *LIKELIHOODS})],
        "encoder": [nn.Module, HasMethods(["build"]), None],
        "decoder": [nn.Module, HasMethods(["build"]), None],
        "kl_weight": [WEIGHT],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "callbacks": [list, None],
        "checkpoint": [str, os.PathLike, None],
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

    def _encode_labels(self, y: Any, classes: Any, reset: bool) -> NDArray[Any] | None:
        """Return class indices, -1 for none, or which labels; None if it takes no labels."""
        return None

    def _seen_labels(self, y: Any) -> Any:
        """Return what to remember of the labels of a piece, for `_encode_labels` to learn from."""
        return pick(y, slice(0)) if isinstance(y, Indicator) else np.unique(y)

    # -- fitting -------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: Any = None, sample_weight: Any = None, *, resume: bool = False
    ) -> Self:
        """Fit the model afresh, or from where `resume` or `warm_start` let it go on.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Training samples, finite. Under the Bernoulli likelihood within [0, 1], counts not
            negative. CSR data of 32,768 features or more are never made dense, not even a batch,
            unless `encoder` is a body of your own. A source is read in pieces, in every epoch anew
            and once before the first: a torch dataset, a Dask array or DataFrame, a
            `pyarrow.dataset.Dataset`, or an iterable of chunks (X, y), or a function that returns
            one. An iterator is read once, as by `partial_fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), or str, default=None
            Labels; of a source with columns the name of one, and None where the source has them.
            A binary indicator, an array, DataFrame or sparse matrix with a column for each label,
            where samples have several; a row of zeros has none. Ignored by `VAETransformer` and
            `VSCTransformer`.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Non-negative weights of the samples in every term of the loss, given as `y` is; None
            means 1.
        resume : bool, default=False
            Go on from the file `checkpoint`, if there is one, with the same data and parameters,
            to the result that an undisturbed fit would have had, bit for bit. A fit that was
            finished is returned as it is.

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
        OSError
            If `checkpoint` cannot be written. A file that was there is then as it was, and the
            estimator is fitted as far as it came.
        KeyboardInterrupt
            After Ctrl-C. The estimator is then fitted as far as the last step, or, if no epoch
            was finished, as it was before the call.
        """
        if resume and self.checkpoint is None:
            raise ValueError(
                "resume=True goes on from a file, but checkpoint=None names none: "
                "set checkpoint to the path of one."
            )
        self._check_alike({"resume": resume})
        source = as_source(X, y, sample_weight)
        if source is not None and source.once:
            return self._fit_once(source)
        file = None if self.checkpoint is None else Checkpoint(self.checkpoint)
        saved = file.read(type(self)) if file and resume else None
        go_on = saved is None and self.warm_start and self.__sklearn_is_fitted__()
        with self._all_or_nothing(in_place=go_on) as work:
            train: ArrayDataset | StreamDataset
            with current().agreed():
                if source is None:
                    train = work._validate(X, y, sample_weight, None, reset=not go_on)
                else:
                    train = work._look_through(source, reset=not go_on)
            data = fingerprint(work, train) if file or current().size > 1 else {}
            work._check_alike(data)
            if saved:
                plan = work._take_up(*saved, data)
                if plan.finished:
                    return self
            elif not go_on:
                work._build(train)
            if file:
                file.check(work, resume)
            train.standardization = work._standardization
            valid, seed = None, 0
            if self.early_stopping and isinstance(train, ArrayDataset):
                seed = plan.seed if saved else current().first(self._seed)
                train, valid = train.hold_out(self.validation_fraction, seed)
            if not saved:
                plan = work._make_plan(train.n_batches(self.batch_size), seed, data)
            interruption = work._train(train, valid, plan, file)
        if interruption is not None:
            raise interruption
        if file:
            file.write(self, plan._replace(finished=True))
        return self

    def _train(
        self,
        train: ArrayDataset | StreamDataset,
        valid: ArrayDataset | None,
        plan: Plan,
        file: Checkpoint | None,
    ) -> BaseException | None:
        """Train as planned; return the Ctrl-C or OSError that cut it short after an epoch."""
        net = self._training_net()

        def unfinished() -> SpikeSlabTransformer:
            now = self._now()
            now._finish(train, "interrupted")
            return now

        def after_epoch() -> None:
            if file:
                file.write_if_cheap(unfinished, plan)

        remaining = plan.start + plan.epochs - len(net.history)
        try:
            reason = net.train(train, remaining, valid, self.n_iter_no_change, after_epoch)
            self._finish(train, reason or plan.stop_reason)
        except (KeyboardInterrupt, OSError) as error:
            if len(net.history) == plan.start or not net.is_finite():
                raise
            self._finish(train, "interrupted")
            return error
        return None

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over a chunk of data, at a constant learning rate.

        The first call builds the model: its chunk decides how features are standardised, what
        `likelihood="auto"` means and, of counts, the total of decoded samples. Weights that ramp
        reach their value after 2,000 steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, finite. The pieces of a source, see `fit`, are taken one after the other.
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

    def _partial_fit(
        self, X: Any, y: Any, sample_weight: Any, classes: Any = None, afresh: bool = False
    ) -> Self:
        source = as_source(X, y, sample_weight)
        if source is not None:
            for piece in source.read():
                self._partial_fit(*piece, classes, afresh)
                afresh = False
            return self
        first = afresh or not self.__sklearn_is_fitted__()
        with self._all_or_nothing(in_place=not first) as work:
            with current().agreed():
                chunk = work._validate(X, y, sample_weight, classes, reset=first)
            if current().size > 1:
                work._check_alike(fingerprint(work, chunk))
            if first:
                work._build(chunk)
            net = work._training_net()
            if first or net.decay:  # what `fit` has trained is past its ramps
                net.schedule(STEPS, done=0 if first else STEPS, decay=False)
            chunk.standardization = work._standardization
            net.train(chunk, 1, None, self.n_iter_no_change)
            del net.history[:-HISTORY]
            work._finish(chunk, "partial_fit")
        return self

    def _fit_once(self, source: Source) -> Self:
        """Fit to chunks that come one time only: by `partial_fit`, chunk by chunk."""
        once = "X is an iterator, which can be read one time only"
        unfit = [
            f"{name}={getattr(self, name)!r}"
            for name, fit_for_once in (
                ("max_epochs", self.max_epochs in ("auto", 1)),
                ("early_stopping", not self.early_stopping),
                ("checkpoint", self.checkpoint is None),
            )
            if not fit_for_once
        ]
        if unfit:
            raise ValueError(
                f"{' and '.join(unfit)} cannot be had, for {once}: pass a function that returns a "
                "new iterator, or leave the default."
            )
        go_on = self.warm_start and self.__sklearn_is_fitted__()
        interruption, n_chunks = None, 0
        with self._all_or_nothing(in_place=go_on) as work:
            try:
                for n_chunks, chunk in enumerate(source.read(), start=1):
                    work._partial_fit(*chunk, afresh=n_chunks == 1 and not go_on)
            except KeyboardInterrupt as error:
                if n_chunks < 2:
                    raise
                interruption, work.stop_reason_ = error, "interrupted"
            if not n_chunks:
                raise ValueError(f"X holds no samples: {once}, and it has come to its end.")
        if interruption is not None:
            raise interruption
        return self

    @contextmanager
    def _all_or_nothing(self, in_place: bool) -> Iterator[Self]:
        """Work on a copy; the estimator takes over its state at once, unless the block raises.

        `in_place` says that the block trains the estimator's own net. What the net was is then
        kept: for what other threads save meanwhile, and in case the block raises, by Ctrl-C too.
        """
        work = self._now()
        if in_place:
            self._pending_state = self._training_state()
        try:
            yield work
        except BaseException:
            if in_place and self.net_.initialized_:
                self.net_.load_state(self._pending_state)
            raise
        self.__dict__ = work.__dict__

    def _seed(self) -> int:
        return seed_from(self.random_state)

    def _check_alike(self, data: dict[str, Any]) -> None:
        """Check that the processes that train together have the same parameters and data."""
        if current().size == 1:
            return
        params = {name: repr(value) for name, value in self.get_params(deep=False).items()}
        params |= {"checkpoint": str(self.checkpoint is None), "class": type(self).__name__}
        for name in ("callbacks", "device", "random_state", "verbose"):
            del params[name]
        fitted = {"state (fitted or not)": self.__sklearn_is_fitted__()}
        differing = current().differing(params | fitted | data)
        if differing:
            rank = min(differing.values())
            names = ", ".join(name for name in differing if differing[name] == rank)
            raise ValueError(
                f"Process {rank} was given another {names} than process 0: every process needs the "
                "same parameters and all the data, and takes its part of each batch by itself."
            )

    def _make_plan(self, n_batches: int, seed: int, data: dict[str, Any]) -> Plan:
        """Plan, and schedule, a fit in epochs of so many batches."""
        epochs, reason = self.max_epochs, "max_epochs"
        if epochs == "auto":
            epochs = max(EPOCHS, -(-STEPS // n_batches))
            reason = "max_epochs" if epochs == EPOCHS else "steps"
        net = self._training_net()
        net.schedule(epochs * n_batches)
        return Plan(data, int(epochs), len(net.history), seed, reason)

    def _take_up(self, saved: Self, plan: Plan, data: dict[str, Any]) -> Plan:
        """Become what a checkpoint holds, if it is of this fit."""
        check_same(self, data, saved, plan)
        check_device(self.device)
        names = self._get_param_names()
        state = saved.__getstate__().items()
        self.__setstate__({name: x for name, x in state if name not in names})
        return plan

    def _validate(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: Any,
        reset: bool,
        largest_weight: float | None = None,
    ) -> ArrayDataset:
        """Return the samples to train on, checked, in their own units.

        Weights count relatively: to `largest_weight`, or to the largest here.
        """
        X, y, weight = self._check(X, y, sample_weight, reset)
        if weight is not None:
            weight = _relative(weight, largest_weight or weight.max())
        data = ArrayDataset(X, self._encode_labels(y, classes, reset), weight)
        self._check_range(data, reset)
        return data

    def _look_through(self, source: Source, reset: bool) -> StreamDataset:
        """Return the samples to train on, after reading all of them once."""
        if self.early_stopping:
            raise ValueError(
                "early_stopping=True holds out samples at random, which X cannot give that is read "
                "in pieces: pass an array or a memory map, or set early_stopping=False."
            )
        likelihood = self.likelihood if reset else self._architecture["likelihood"]
        largest = 0.0

        def check(chunk: Chunk) -> ArrayDataset:
            part = self._validate(*chunk, None, reset=False, largest_weight=largest)
            part.standardization = data.standardization
            return part

        data = StreamDataset(source, check, Survey(moments=reset and likelihood != "bernoulli"))
        labels = []
        for chunk in source.read():
            X, y, weight = self._check(*chunk, reset=reset and not data.sizes)
            if weight is not None:
                largest = max(largest, weight.max())
            if y is not None:
                with naming("y", y):
                    labels.append(y := self._seen_labels(y))
            data.add(X[:], y, weight)
        if not data.sizes:
            raise ValueError("X holds no samples: pass a source that yields some when it is read.")
        if labels and isinstance(labels[0], Indicator):
            self._encode_labels(labels[0], None, reset)
        else:
            self._encode_labels(np.concatenate(labels) if labels else None, None, reset)
        self._check_range(data, reset)
        return data

    def _check(
        self, X: Any, y: Any, sample_weight: Any, reset: bool
    ) -> tuple[Any, Any, NDArray[Any] | None]:
        """Return X, labels and weights, checked, without the samples of weight 0."""
        _check_callbacks(self.callbacks)
        X = self._check_samples(X, reset)
        y = self._check_labels(X, y) if get_tags(self).target_tags.required else None
        if sample_weight is None:
            return X, y, None
        weight = _check_weight(X, sample_weight)
        kept = np.flatnonzero(weight)  # a sample of weight 0 is no sample, nor is its class a class
        if len(kept) < len(weight):
            X, weight, y = Rows(X, kept), weight[kept], None if y is None else pick(y, kept)
        return X, y, weight

    def _check_range(self, data: ArrayDataset | StreamDataset, reset: bool) -> None:
        """Check that the likelihood allows the values, if it is not to be chosen by them."""
        likelihood = self.likelihood if reset else self._architecture["likelihood"]
        if likelihood in ("auto", "gaussian"):
            return
        survey = data.survey(False)
        if likelihood == "bernoulli" and not (survey.low >= 0 and survey.high <= 1):
            raise ValueError(
                f"X lies in [{survey.low:.3g}, {survey.high:.3g}], but the Bernoulli likelihood "
                "needs [0, 1]: rescale X (MinMaxScaler), or set likelihood='gaussian'."
            )
        if survey.low < 0:
            raise ValueError(
                f"Negative values in data: X holds {survey.low:.3g}, but likelihood={likelihood!r} "
                "needs counts: pass the counts themselves, or set likelihood='gaussian'."
            )

    def _check_labels(self, X: Any, y: Any) -> NDArray[Any] | Indicator:
        """Return y as a vector, one label for each sample, or as the indicator that it is."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        with naming("y", y):
            indicator = as_indicator(y)
            if indicator is None:
                y = column_or_1d(y, warn=True)
                assert_all_finite(y, input_name="y")
        if indicator is None and (missing := y[pd.isna(y)]).size:
            raise ValueError(
                f"y holds {missing[0]!r}, which is no label: leave such samples out, or give them "
                "a label that unlabeled names."
            )
        n_labels = len(y if indicator is None else indicator.members)
        if n_labels != X.shape[0]:
            raise ValueError(
                "X and y have inconsistent numbers of samples: "
                f"X has {X.shape[0]} and y {n_labels}."
            )
        return y if indicator is None else indicator

    # -- the model -----------------------------------------------------------------------------

    def _build(self, data: ArrayDataset | StreamDataset) -> None:
        """Build an untrained model for such data."""
        likelihood, survey = self.likelihood, data.survey(False)
        if likelihood == "auto":
            likelihood = "bernoulli" if survey.low >= 0 and survey.high <= 1 else "gaussian"
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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        counts = [name for name, likelihood in LIKELIHOODS.items() if likelihood.counts]
        tags.input_tags.positive_only = self.likelihood in counts
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _training_state(self) -> dict[str, Any]:
        if self._pending_state is not None:
            return self._pending_state
        return self.net_.state()

    def __getstate__(self) -> dict[str, Any]:
        """Return NumPy arrays and primitives only, so that any serialiser will do."""
        now = self._now()
        state: dict[str, Any] = dict(super(SpikeSlabTransformer, now).__getstate__())
        state.pop("_parent_callback_ctx", None)  # scikit-learn's, while it fits a pipeline
        if now.__sklearn_is_fitted__():
            state["_pending_state"] = now._training_state()
            if now._pending_state is None and (
                self._pending_state is not None or self.module_ is not now.module_
            ):  # a training in another thread has changed the net while it was copied
                return self.__getstate__()
            state["history_"] = {name: now.history_[name].to_numpy() for name in now.history_}
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


def _kept(body: Any) -> Any:
    """Return a copy of a recipe, which set_params(encoder__channels=...) changes in place."""
    return body if isinstance(body, nn.Module) else copy.deepcopy(body)


def _check_callbacks(callbacks: list[Any] | None) -> None:
    """Check that skorch can use the callbacks: instances or classes, or named as (name, one)."""
    for item in callbacks or []:
        callback = item[-1] if isinstance(item, tuple) else item
        if not hasattr(callback, "on_train_begin"):
            raise TypeError(f"callbacks={callbacks!r} must hold skorch callbacks, not {item!r}.")


def _check_weight(X: Any, sample_weight: Any) -> NDArray[np.float64]:
    """Return weights, one for each sample."""
    with naming("sample_weight", sample_weight):
        weight: NDArray[np.float64] = check_sample_weight(sample_weight, X, dtype=np.float64)
    if weight.min() < 0:
        raise ValueError(f"sample_weight holds {weight.min():g}, but must not be negative.")
    return weight


def _relative(weight: NDArray[np.float64], largest: float) -> NDArray[np.float32]:
    """Return the weights, the `largest` about 1: they count relatively."""
    # By a power of two, which rounds nothing and keeps sums in float32's range.
    return np.ldexp(weight, -np.frexp(largest)[1]).astype(np.float32)


def _sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the widths of the hidden layers, checked."""
    sizes = list(np.atleast_1d(hidden_layer_sizes))
    if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes={hidden_layer_sizes!r} must hold positive integers, "
            "one for each hidden layer."
        )
    return [int(size) for size in sizes]
