"""Room 11: the estimator. It has every method that a user calls.

It holds a training and the model that the training has made. `fit` publishes both by one
assignment.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted
from torch import nn

from . import _persistence
from ._checkpoint import Checkpoint, NotWrittenError, Plan, check_alike, check_same, fingerprint
from ._classes import Labels, LabelSets
from ._collapse import (
    ClassSummary,
    best_epoch,
    in_and_out,
    summarize,
    warn_of_collapse,
    warn_of_gap,
)
from ._data import ArrayDataset, Moments, Standardization, prefix_errors, seed_from
from ._guard import own_settings, undisturbed
from ._layers import ACTIVATIONS
from ._likelihoods import LIKELIHOODS
from ._messages import brief
from ._mixed import likelihood_class
from ._model import CodeMoments, Model, is_finite, stack
from ._modules import SpikeSlabAutoencoder
from ._net import check_device, divergence_error, split_device
from ._objective import Objective
from ._persistence import as_now
from ._sklearn import HasMethods, Interval, StrOptions, fit_context
from ._streams import Chunk, Source, as_source
from ._tables import as_table
from ._training import How, Training
from ._validation import (
    FitData,
    Header,
    Known,
    as_name,
    check_observed,
    check_samples,
    check_source,
    check_table,
    choose_likelihood,
)
from .distributed import current

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._modules import Recipe

T = TypeVar("T")
#: `max_epochs="auto"`: the passes, and the gradient steps that the passes must make at least.
#: `partial_fit` lets weights rise as if training had this number of steps.
EPOCHS, STEPS = 20, 600
#: Most chunks of `partial_fit` in `history_`: a stream may never end.
HISTORY = 1000
#: Range of a weight of the loss. The upper end is far above any use, and float32 can hold it.
WEIGHT = Interval(Real, 0, 1e9, closed="both")
#: Names in the state of an estimator that belong to `Fitted`.
PUBLISHED = {
    "_start",
    *("n_features_in_", "feature_names_in_", "classes_", "history_", "n_iter_", "stop_reason_"),
    *("_architecture", "_standardization", "_pending_state", "_class_summary", "_several", "_seen"),
}


@dataclass(frozen=True)
class Fitted:
    """The results of a training, published by one assignment. Nothing in it changes."""

    header: Header
    training: Training
    model: Model
    rows: list[dict[str, Any]]
    n_iter: int
    stop_reason: str
    start: int = 0  # number of rows of earlier trainings

    @cached_property
    def history(self) -> pd.DataFrame:
        """The terms of the loss in each epoch, as a table that a user may change.

        It is cached, not made by `fit`: each chunk of `partial_fit` adds a row.
        """
        return _table(self.rows)

    @cached_property
    def generalization(self) -> pd.DataFrame:
        """The terms known on training and on held-out samples, at the best epoch."""
        pairs = in_and_out(best_epoch(self.rows[self.start :]))
        columns = ["training", "held_out"]
        return pd.DataFrame.from_dict(pairs, orient="index", columns=columns, dtype=float)

    @classmethod
    def from_state(cls, state: dict[str, Any], header: Header, device: str) -> Fitted:
        """Restore the results from a state; training can continue, on `device` if it exists."""
        header.n_features_in_ = state["n_features_in_"]
        if "feature_names_in_" in state:
            header.feature_names_in_ = state["feature_names_in_"]
        labels: Labels | LabelSets | None = None
        if "classes_" in state:
            labels = (LabelSets if state.get("_several") else Labels)(state["classes_"])
        of = state["_pending_state"], state["_architecture"], state["_standardization"]
        seen = state.get("_seen")
        training = Training.from_state(*of, device, seen and Moments(**seen))
        model = training.model(labels, lambda _: state.get("_class_summary"))
        of_fit = (
            training.rows(),
            int(state["n_iter_"]),
            state["stop_reason_"],
            state.get("_start", 0),
        )
        return cls(header, training, model, *of_fit)

    def state(self) -> dict[str, Any]:
        """Return the results as NumPy arrays and primitives, by their names in files."""
        model = self.model
        state = known_state(self.header, model.labels, model.architecture, model.standardization)
        if model.summary is not None:
            state["_class_summary"] = model.summary
        if self.start:
            state["_start"] = self.start
        if self.training.seen is not None:
            state["_seen"] = self.training.seen._asdict()
        history = _table(self.training.rows())
        return state | {
            "_pending_state": self.training.state(),
            "history_": {name: history[name].to_numpy() for name in history},
            "n_iter_": self.n_iter,
            "stop_reason_": self.stop_reason,
        }

    @property
    def known(self) -> Known:
        """What the data of a continued training must agree with."""
        architecture = self.model.architecture
        of = architecture["likelihood"], architecture.get("kinds")
        return Known(self.header, self.model.labels, *of)


class Published(Generic[T]):
    """A fitted attribute, read from the published results of a fit.

    It exists once there are results. A value that is set on the object takes precedence: a
    subclass whose `fit` validates its data first sets such values.

    Parameters
    ----------
    read : callable
        Returns the value from a `Fitted`.
    """

    def __init__(self, read: Callable[[Fitted], T]) -> None:
        self.read = read

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, estimator: None, owner: type[Any]) -> Published[T]: ...
    @overload
    def __get__(self, estimator: Any, owner: type[Any]) -> T: ...
    def __get__(self, estimator: Any, owner: type[Any]) -> Published[T] | T:
        """Return the value.

        Raises
        ------
        AttributeError
            If the estimator is not fitted.
        """
        if estimator is None:
            return self
        if estimator._fitted is None:
            raise AttributeError(
                f"{owner.__name__} has no {self.name!r} yet, because it is not fitted: call fit."
            )
        return self.read(estimator._fitted)


def known_state(
    header: Header,
    labels: Labels | LabelSets | None,
    architecture: dict[str, Any],
    standardization: Standardization | None,
) -> dict[str, Any]:
    """Return the state that is known before training, by its names in files."""
    state: dict[str, Any] = {
        "n_features_in_": header.n_features_in_,
        "_architecture": architecture,
        "_standardization": standardization,
    }
    if hasattr(header, "feature_names_in_"):
        state["feature_names_in_"] = header.feature_names_in_
    if labels is not None:
        state |= {"classes_": labels.classes, "_several": isinstance(labels, LabelSets)}
    return state


class SpikeSlabTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the three transformers: every method. Each class adds its parameters and loss."""

    gated: ClassVar[bool] = True
    _fitted: Fitted | None = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": ["array-like"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "likelihood": [StrOptions({"auto", "mixed", *LIKELIHOODS}), dict],
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
        "callbacks": [list, None],
        "rotation": [StrOptions({"auto", "varimax", "principal"}), None],
        "warm_start": ["boolean"],
        "sparse_output": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components: int,
        *,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        likelihood: str | dict[Any, str],
        encoder: nn.Module | Recipe | None,
        decoder: nn.Module | Recipe | None,
        kl_weight: float | None,
        max_epochs: int | str,
        batch_size: int,
        learning_rate: float,
        early_stopping: bool,
        validation_fraction: float,
        n_iter_no_change: int,
        device: str,
        callbacks: list[Any] | None,
        rotation: str | None,
        warm_start: bool,
        sparse_output: bool,
        random_state: int | np.random.RandomState | None,
        verbose: int,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.encoder = encoder
        self.decoder = decoder
        self.kl_weight = kl_weight
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.callbacks = callbacks
        self.rotation = rotation
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.random_state = random_state
        self.verbose = verbose

    # -- what each transformer adds --------------------------------------------------------------

    def _prior(self, given: FitData) -> dict[str, Any]:
        """Return the arguments of the model that depend on the prior: alpha, prior_mean, ..."""
        raise NotImplementedError

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        """Return the loss for a module."""
        raise NotImplementedError

    def _learn_labels(self, y: Any, classes: Any) -> Labels | LabelSets:
        """Return the labels in `classes`, or else in y, if the estimator takes labels."""
        raise NotImplementedError

    # -- training --------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
    @undisturbed
    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        sample_weight: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Fit the model to samples.

        Training starts afresh unless `resume` or `warm_start` lets it continue.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Training samples.

            NaN is a missing value. The encoder does not see it, and no term of the loss counts
            it. In CSR data, only stored values can be missing. Infinity is an error, and so is a
            feature without any value.

            The Bernoulli likelihood needs values in [0, 1]. Counts must not be negative. Rounding
            errors (0.001) are tolerated.

            CSR data of 32,768 features or more are never made dense, not even a batch, unless
            `encoder` is your own body or the likelihood is "mixed".

            A source is a torch dataset, a Dask array or DataFrame, an HDF5 or Zarr array, a
            `pyarrow.dataset.Dataset`, an iterable of chunks (X, y), or a function that returns a
            source. It is read in pieces: once before the first epoch, and again in each epoch. An
            iterator can be read only once; training then proceeds as in `partial_fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), or str, default=None
            Labels. If samples have several labels, pass a binary indicator: an array, DataFrame
            or sparse matrix with a column for each label. A row of zeros has no label. For a
            source with columns, pass the name of a column. If the chunks of a source hold the
            labels, leave it None. `VAETransformer` and `VSCTransformer` ignore `y`.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Non-negative weights of the samples in every term of the loss, passed in the same way
            as `y`. None means 1. Only their ratios matter. A weight below 1e-38 of the largest
            counts as 0. The axes of `rotation` do not depend on the weights.
        checkpoint : str, path-like or None, default=None
            File to write after each epoch, or every two seconds if epochs are shorter.
            ``resume=True`` continues from it after a crash. It cannot hold what `save` refuses:
            callbacks, your own bodies, or a RandomState.
        resume : bool, default=False
            Whether to continue from the file `checkpoint`, if it exists, with the same data and
            parameters. The result equals that of an uninterrupted fit, bit for bit. If the fit in
            the file was finished, it is returned as it is.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described. The message names the argument.
        FloatingPointError
            If the loss stops being finite. The estimator is then as it was before the call.
        OSError
            If `checkpoint` cannot be written. An older file is then unchanged, and the estimator
            is fitted up to the last step. An OSError of a source, like any other error from the
            arguments, leaves the estimator as it was before the call.
        KeyboardInterrupt
            After Ctrl-C. If an epoch was finished, the estimator is fitted up to the last step.
            Otherwise it is as it was before the call.
        """
        if resume and checkpoint is None:
            raise ValueError(
                "resume=True continues from a file, but checkpoint=None names no file. Pass the "
                "path of the file as checkpoint."
            )
        check_alike(self, {"resume": resume, "checkpoint": str(checkpoint is None)})
        source = as_source(X, y, sample_weight)
        if source is not None and source.once:
            return self._fit_once(source, checkpoint)
        file = None if checkpoint is None else Checkpoint(checkpoint)
        saved = file.read(type(self)) if file and resume else None
        last = self._fitted if self.warm_start and saved is None else None
        if saved and saved[1].start:  # that fit continued an earlier one
            last = saved[0]._now()

        with current().raise_in_all():
            known = None if last is None else last.known
            if source is None:
                given = check_table(self, X, y, sample_weight, known)
            else:
                given = check_source(self, source, known)
        identity = fingerprint(given) if file or current().size > 1 else {}
        check_alike(self, identity)

        if saved:
            before, plan = saved
            check_same(checkpoint, self, identity, before, plan)
            device = check_device(split_device(self.device)[0])  # may differ from before
            last = Fitted.from_state(before.__getstate__(), Header.of(self), device)
            if plan.finished:
                self._fitted = last
                return self
            training = last.training
        elif last is None:
            training = self._start(given)
            if self._finds_factors():
                training.begin(given.data)
        else:
            training = self._continue(last.training)
            training.follow_scales(given.data)
        training.prepare(self._how())
        training.count(len(given.data))
        training.will_turn(self.rotation, resumed=bool(saved))

        train, valid, seed = given.data, None, 0
        train.standardization = training.standardization
        if self.early_stopping and isinstance(train, ArrayDataset):
            seed = plan.seed if saved else current().from_rank_0(self._seed)
            train, valid = train.hold_out(self.validation_fraction, seed)
        if not saved:
            plan = self._plan(training, train.n_batches(self.batch_size), seed, identity)
        if file:
            of = training.architecture, training.standardization
            state = self._state(None) | known_state(given.header, given.labels, *of)
            file.check(type(self), state, training.net.module_, plan)

        def make(stop_reason: str) -> Fitted:
            return self._make(given._replace(data=train), training, stop_reason, last, plan.start)

        def after_epoch() -> None:
            if file:
                file.write_if_cheap(type(self), lambda: self._state(make("interrupted")), plan)

        interruption: BaseException | None = None  # raised after the partial fit is published
        try:
            remaining = plan.start + plan.epochs - training.n_epochs
            reason = training.run(train, remaining, valid, self.n_iter_no_change, after_epoch)
            reason = reason or plan.stop_reason
        except (KeyboardInterrupt, NotWrittenError) as error:
            interruption = error.args[0] if isinstance(error, NotWrittenError) else error
            if training.n_epochs == plan.start or not training.net.is_finite():
                raise interruption from None
            reason = "interrupted"
        training.turn(train, at_last=True)
        self._publish(make(reason))
        if interruption is not None:
            raise interruption
        if file:
            file.write(type(self), self._state(self._fitted), plan._replace(finished=True))
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over a chunk of data, at a constant learning rate.

        The first call builds the model. Its chunk decides what `likelihood="auto"` means and, for
        counts, the total of decoded samples.

        The scales of the features follow the chunks up to the first 1,000 samples, and then stay.
        A feature that is constant until then gets its scale from the first chunk in which it
        varies. A warning reports later chunks that lie far outside the scales. A weight that
        rises reaches its value after the fraction `warmup` of 600 steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, as for `fit`. A source is read piece by piece. The first chunk must have a
            value of each feature.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples. None means 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described. The message names the argument.
        FloatingPointError
            If the loss stops being finite. After this and any other error, the estimator is as it
            was before the call, even if the error occurs in a later piece of a source.
        KeyboardInterrupt
            After Ctrl-C. If a piece of a source was finished, the estimator is as it was after the
            last step. Otherwise it is as it was before the call.
        """
        return self._partial_fit(X, y, sample_weight)

    @undisturbed
    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        source = as_source(X, y, sample_weight)
        pieces = [Chunk(X, y, sample_weight)] if source is None else source.read()
        return self._train_on(pieces, self._fitted, classes)

    def _fit_once(self, source: Source, checkpoint: Any) -> Self:
        """Fit to chunks that can be read only once, as `partial_fit` does."""
        unfit = [
            f"{name}={brief(value)}"
            for name, value, fit_for_once in (
                ("max_epochs", self.max_epochs, self.max_epochs in ("auto", 1)),
                ("early_stopping", self.early_stopping, not self.early_stopping),
                ("checkpoint", checkpoint, checkpoint is None),
            )
            if not fit_for_once
        ]
        if unfit:
            raise ValueError(
                f"{' and '.join(unfit)} does not work with an iterator X, which can be read only "
                "once. Pass a function that returns a new iterator, or leave the default."
            )
        return self._train_on(source.read(), self._fitted if self.warm_start else None)

    def _train_on(self, pieces: Iterable[Chunk], last: Fitted | None, classes: Any = None) -> Self:
        """Train for one pass over each piece, continuing `last`; publish the result."""
        made, training = last, None
        try:
            for piece in pieces:
                with current().raise_in_all():
                    known = None if made is None else made.known
                    given = check_table(self, *piece, known, classes)
                if current().size > 1:
                    check_alike(self, fingerprint(given))
                if training is None:
                    training = self._start(given) if last is None else self._continue(last.training)
                    training.prepare(self._how())
                    if last is None or training.net.decay:
                        done = (
                            0 if last is None else STEPS
                        )  # after `fit`, weights have risen already
                        training.net.schedule(STEPS, done, decay=False)
                training.follow_scales(given.data, first=made is None)
                training.count(len(given.data), further=made is not None)
                given.data.standardization = training.standardization
                training.run(given.data, 1)
                del training.net.history[:-HISTORY]
                made = self._make(given, training, "partial_fit", made)
        except KeyboardInterrupt:
            if (
                made is not last
                and made is not None
                and training is not None
                and (training.net.is_finite())
            ):
                model = training.model(made.model.labels, lambda _: made.model.summary)
                self._publish(replace(made, model=model, stop_reason="interrupted"))
            raise
        assert made is not None, "a source without samples raises"
        return self._publish(made)

    def _finds_factors(self) -> bool:
        """Return whether a fit begins where the factors of the classes are."""
        return False

    def _start(self, given: FitData) -> Training:
        """Return the training of a new model for the data."""
        likelihood, kinds = choose_likelihood(self.likelihood, given)
        standardization = means = None
        kind = likelihood_class(likelihood)
        survey = given.data.survey(kind.standardize or kind.counts)
        check_observed(survey, given.header)
        if kind.standardize:
            standardization = survey.standardization()
            if kinds is not None:
                standardization = standardization.only(kinds == 0)
            if not all(np.isfinite(part).all() for part in standardization):
                raise divergence_error(survey.magnitude, self.learning_rate, "before training")
        if kind.counts or kinds is not None:
            means = survey.means()
        device, _ = split_device(self.device)
        architecture = self._prior(given) | {
            "n_features": given.header.n_features_in_,
            "encoder": _kept(self.encoder),
            "decoder": _kept(self.decoder),
            "hidden_layer_sizes": _sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "likelihood": likelihood,
            "gated": self.gated,
        }
        if kinds is not None:
            architecture["kinds"] = kinds
        return Training.start(architecture, standardization, self._seed(), device, means)

    def _continue(self, last: Training) -> Training:
        """Return a training that continues the last one, whose network the parameters describe."""
        kept = last.architecture
        likelihood = kept["likelihood"] if self.likelihood == "auto" else as_name(self.likelihood)
        now = {
            "n_components": self.n_components,
            "hidden_layer_sizes": _sizes(self.hidden_layer_sizes),
            "activation": self.activation,
            "likelihood": likelihood,
        }
        for name, value in now.items():
            was = len(kept["alpha"]) if name == "n_components" else kept[name]
            if value != was:
                raise ValueError(
                    f"{name}={brief(getattr(self, name))} cannot continue from a model with "
                    f"{name}={brief(was)}. Set it back, or fit afresh with warm_start=False."
                )
        return last.copy()

    def _how(self) -> How:
        """Return how to train, from the current parameters."""
        _, precision = split_device(self.device)
        of = (self.learning_rate, self.batch_size, precision, self.callbacks, self.verbose)
        return How(self._objective, *of)

    def _plan(
        self, training: Training, n_batches: int, seed: int, identity: dict[str, Any]
    ) -> Plan:
        """Plan and schedule a fit in epochs of `n_batches` batches."""
        if self.max_epochs == "auto":
            epochs = max(EPOCHS, -(-STEPS // n_batches))
            reason = "max_epochs" if epochs == EPOCHS else "steps"
        else:
            epochs, reason = int(self.max_epochs), "max_epochs"
        training.net.schedule(epochs * n_batches)
        return Plan(identity, epochs, training.n_epochs, seed, reason)

    def _make(
        self,
        given: FitData,
        training: Training,
        stop_reason: str,
        last: Fitted | None,
        start: int = 0,
    ) -> Fitted:
        """Return the results of the training so far, after `last` and its `start` epochs."""

        def summary(module: SpikeSlabAutoencoder) -> ClassSummary | None:
            if given.labels is None:
                return None
            found = summarize(module, given.data, self._threshold(), len(given.labels.classes))
            before = None if last is None else last.model.summary
            if before is None:
                return found
            return before + found if stop_reason == "partial_fit" else found.filled_from(before)

        model = training.model(given.labels, summary)
        rows = training.rows()
        if stop_reason == "partial_fit":
            start = len(rows) - 1
        of_fit = rows, int(rows[-1]["epoch"]), stop_reason, start
        return Fitted(given.header, training, model, *of_fit)

    def _publish(self, made: Fitted) -> Self:
        """Publish results, after the warnings: one that is an error must leave all as it was."""
        labels, summary = made.model.labels, made.model.summary
        if labels and summary and made.stop_reason not in ("partial_fit", "interrupted"):
            warn_of_collapse(summary.on, labels.classes, made.model.module.alpha.cpu().numpy())
            rows = made.rows[made.start :]
            warn_of_gap(rows, summary.n_samples, isinstance(labels, LabelSets))
        self._fitted = made
        return self

    def _seed(self) -> int:
        return seed_from(self.random_state)

    # -- use -------------------------------------------------------------------------------------

    def transform(self, X: ArrayLike) -> Any:
        """Encode samples as sparse codes: mu * 1[gamma > threshold].

        The codes are deterministic, and their zeros are exact. `VAETransformer` has gamma = 1, and
        returns dense codes mu.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, in the units of the training data. NaN is a missing value. A sample without
            any value gets the code of a sample whose features have their mean (0 for bits and
            counts). A source is read in pieces, as in `fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components), float32
            Codes. With `sparse_output=True`, a CSR array.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If `X` is not as described, or has values so large that codes are not finite.
        """
        threshold, as_sparse = self._threshold(), self.sparse_output
        return self._apply(lambda model, table: model.codes(table, threshold, as_sparse), X)

    def activation_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the probability that each dimension is active in each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, as for `transform`.

        Returns
        -------
        gamma : ndarray of shape (n_samples, n_components), float32
            Probabilities. For `VAETransformer`, all are 1.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If `X` is not as described.
        """
        gamma: NDArray[np.float32] = self._apply(Model.activation_proba, X)
        return gamma

    def inverse_transform(self, Z: ArrayLike) -> NDArray[Any]:
        """Decode codes into samples, in the units of the training data.

        Parameters
        ----------
        Z : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of p(x | z), for all features: ``inverse_transform(transform(X))`` fills in the
            missing values of X. The dtype is float64 if the features are standardised and the
            training data were not float32, else float32. For counts, every sample has the mean
            total of the training data, because codes do not hold the total.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If `Z` is not a table with a column for each dimension, or has values so large that the
            samples are not finite.
        """
        return self._decode(self._now().model, Z)

    def _decode(self, model: Model, Z: Any) -> NDArray[Any]:
        Z = as_table(Z, "Z")
        with prefix_errors("Z", Z), config_context(array_api_dispatch=False):
            codes = check_array(Z, accept_sparse="csr", dtype=np.float32, input_name="Z")
        if codes.shape[1] != model.n_components:
            raise ValueError(
                f"Z has {codes.shape[1]} columns, but {type(self).__name__} has n_components="
                f"{model.n_components} dimensions. Pass codes as transform returns them."
            )
        X = model.decode(codes)
        if not is_finite(X):
            raise _not_finite("Z", codes)
        return X

    def score_samples(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the evidence lower bound (ELBO) of each sample.

        The bound is E_q log p(x | z) - KL(q(z | x) || p(z)), which is at most log p(x). The
        expectation is a mean over 16 draws. Their noise is the same for every sample, call and
        model. Scores are therefore deterministic and independent of the batch, and compare models
        under common noise.

        A learned prior is a mixture. Its divergence is replaced by an upper bound: the divergence
        from the part that the selector names, minus the logarithm of the share of that part. The
        score is still a lower bound.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, as for `transform`. Unlike there, they must be in the range of the likelihood:
            in [0, 1] for the Bernoulli likelihood, and not negative for counts. Rounding errors
            are tolerated.

        Returns
        -------
        elbo : ndarray of shape (n_samples,), float32
            Bounds in nats, for densities in the units of X. Higher is better. For counts, the
            bound is conditional on the total of each sample. For a sample with missing values, it
            is the bound of the observed values. Compare only samples that miss the same values.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If `X` is not as described. A sample outside the range of the likelihood has no score.
        """
        scores: NDArray[np.float32] = self._apply(Model.elbo, X)
        return scores

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean ELBO of the samples, in nats per sample. Higher is better.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, as for `score_samples`.
        y : Ignored, default=None
            Not used, present for API consistency by convention.

        Returns
        -------
        elbo : float
            Mean of `score_samples`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If `X` is not as described.
        """
        return float(self.score_samples(X).mean(dtype=np.float64))

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """Draw codes from the prior, and decode them into new samples.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples, at least 1.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of p(x | z), as `inverse_transform` returns them, without observation noise.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `n_samples` is below 1.
        """
        return self._sample(n_samples, lambda model: model.prior())

    def _sample(self, n_samples: int, moments: Callable[[Model], CodeMoments]) -> NDArray[Any]:
        """Draw codes with the given moments, and decode them."""
        model = self._now().model
        if not isinstance(n_samples, Integral) or int(n_samples) < 1:
            raise ValueError(f"n_samples={n_samples!r} must be an integer of at least 1.")
        rng = np.random.default_rng(self._seed())
        return self._decode(model, model.draw(n_samples, moments(model), rng))

    def _apply(self, function: Callable[[Model, Any], Any], X: Any) -> Any:
        """Apply `function` to each piece of the samples, and stack the results."""
        fitted = self._now()
        source, parts = as_source(X), []
        for piece in [X] if source is None else (chunk.X for chunk in source.read()):
            table = check_samples(fitted.header, piece, finite=not fitted.model.spreads_nan)
            part = function(fitted.model, table)
            if not is_finite(part):
                check_samples(fitted.header, piece)  # raises if X itself is not finite
                raise _not_finite("X", table)
            parts.append(part)
        return stack(parts)

    def _now(self) -> Fitted:
        """Return the published results, which a fit in another thread may replace at any time."""
        check_is_fitted(self)
        assert self._fitted is not None
        return self._fitted

    def _threshold(self) -> float:
        """Return the probability above which a dimension counts as active."""
        return float(getattr(self, "threshold", 0.5))

    # -- what is published -----------------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    n_features_in_ = Published(lambda fitted: fitted.header.n_features_in_)
    feature_names_in_ = Published(lambda fitted: fitted.header.feature_names_in_)
    likelihood_ = Published(lambda fitted: str(fitted.model.architecture["likelihood"]))
    n_iter_ = Published(lambda fitted: fitted.n_iter)
    stop_reason_ = Published(lambda fitted: fitted.stop_reason)
    history_ = Published(lambda fitted: fitted.history)
    generalization_ = Published(lambda fitted: fitted.generalization)
    net_ = Published(lambda fitted: fitted.training.net)
    module_ = Published(lambda fitted: fitted.model.module)
    _n_features_out = Published(lambda fitted: fitted.model.n_components)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that holds data and no code.

        The file is in the safetensors format, and holds the parameters, the weights and the state
        of training. A failed write leaves an older file unchanged.

        Parameters
        ----------
        path : str or path-like
            The file. By convention its name ends in ".safetensors".

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If a parameter or a label is not data, such as your own module or a callback.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        _persistence.save(path, type(self), self.__getstate__())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an estimator from a file of `save` or of a checkpoint, without running any code.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        estimator : object
            The saved estimator. It transforms, and continues `partial_fit`, as the original would.
            From the checkpoint of an unfinished fit, the estimator as it was after an epoch.

        Raises
        ------
        ModelFileError
            If the file is damaged, holds another class, comes from a newer version, or is not a
            file of `save`. It is a ValueError that names the path, what was found and what to do.
        OSError
            If the file cannot be read.
        """
        estimator = _persistence.load(path, cls)
        estimator.__dict__.pop("_checkpoint", None)
        return estimator

    # -- scikit-learn's protocols ----------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return NumPy arrays and primitives, which any serialiser can handle."""
        return self._state(self._fitted)

    def _state(self, fitted: Fitted | None) -> dict[str, Any]:
        """Return the state of the estimator with these results, published or not."""
        state: dict[str, Any] = dict(super().__getstate__())
        for name in ("_fitted", "_parent_callback_ctx"):  # the second is scikit-learn's
            state.pop(name, None)
        return state if fitted is None else state | fitted.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = {name: state[name] for name in PUBLISHED if name in state}
        rest = {name: x for name, x in as_now(state).items() if name not in PUBLISHED}
        super().__setstate__(rest)
        if own:
            with own_settings(gradients=True):
                self._fitted = Fitted.from_state(own, Header.of(self), split_device(self.device)[0])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = tags.input_tags.allow_nan = True
        counts = [name for name, likelihood in LIKELIHOODS.items() if likelihood.counts]
        tags.input_tags.positive_only = self.likelihood in counts
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows of a history as a table, without their batches."""
    return pd.DataFrame(
        [{key: value for key, value in row.items() if key != "batches"} for row in rows]
    )


def _kept(body: Any) -> Any:
    """Copy a recipe, because set_params(encoder__channels=...) would change it in place."""
    return body if isinstance(body, nn.Module) else copy.deepcopy(body)


def _sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the widths of the hidden layers, checked."""
    sizes = list(np.atleast_1d(hidden_layer_sizes))
    if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes={brief(hidden_layer_sizes)} must hold a positive integer for "
            "each hidden layer."
        )
    return [int(size) for size in sizes]


def _not_finite(name: str, given: Any) -> ValueError:
    """Return the error for values too large for the model."""
    values = given.data if hasattr(given, "toarray") else given
    largest = np.fmax.reduce(abs(values), axis=None, initial=0)  # NaN is missing
    return ValueError(
        f"{name} has absolute values up to {largest:.3g}, for which the model returns numbers "
        f"that are not finite. Pass {name} on the scale of the training data."
    )
