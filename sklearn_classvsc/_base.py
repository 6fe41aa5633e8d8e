"""Room 11: how an estimator is fitted: at once, in chunks, again, after a crash, by many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from numpy.typing import ArrayLike
from sklearn.utils import Tags
from torch import nn

from ._checkpoint import Checkpoint, Plan, check_same, fingerprint
from ._data import ArrayDataset, seed_from
from ._likelihoods import LIKELIHOODS
from ._modules import ACTIVATIONS
from ._net import check_device
from ._sklearn import HasMethods, Interval, StrOptions, fit_context
from ._state import SpikeSlabState
from ._streams import Source, StreamDataset, as_source
from .distributed import current

if TYPE_CHECKING:
    from typing_extensions import Self

#: `max_epochs="auto"`: so many passes, or as many as make so many gradient steps if that is more.
#: `partial_fit` ramps its weights over the same number of steps.
EPOCHS, STEPS = 20, 2000
#: Calls of `partial_fit` that `history_` goes back: a stream may never end.
HISTORY = 1000
#: What a weight of the loss may be: far beyond use, and far below what float32 cannot hold.
WEIGHT = Interval(Real, 0, 1e9, closed="both")


class SpikeSlabTransformer(SpikeSlabState):
    """What the transformers share. Each adds its parameters, its model and its objective."""

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
        _check_alike(self, {"resume": resume})
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
            _check_alike(work, data)
            if saved:
                plan = work._take_up(*saved, data)
                if plan.finished:
                    return self
            elif not go_on:
                work._build(train)
            if file:
                file.check(work)
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
                _check_alike(work, fingerprint(work, chunk))
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
            # Ctrl-C on the way into a `no_grad` would leave gradients off for all that comes after.
            with torch.set_grad_enabled(torch.is_grad_enabled()):
                yield work
        except BaseException:
            if in_place and self.net_.initialized_:
                self.net_.load_state(self._pending_state)
            raise
        self.__dict__ = work.__dict__

    def _seed(self) -> int:
        return seed_from(self.random_state)

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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        counts = [name for name, likelihood in LIKELIHOODS.items() if likelihood.counts]
        tags.input_tags.positive_only = self.likelihood in counts
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _check_alike(est: SpikeSlabTransformer, data: dict[str, Any]) -> None:
    """Check that the processes that train together have the same parameters and data."""
    if current().size == 1:
        return
    params = {name: repr(value) for name, value in est.get_params(deep=False).items()}
    params |= {"checkpoint": str(est.checkpoint is None), "class": type(est).__name__}
    for name in ("callbacks", "device", "random_state", "verbose"):
        del params[name]
    fitted = {"state (fitted or not)": est.__sklearn_is_fitted__()}
    differing = current().differing(params | fitted | data)
    if differing:
        rank = min(differing.values())
        names = ", ".join(name for name in differing if differing[name] == rank)
        raise ValueError(
            f"Process {rank} was given another {names} than process 0: every process needs the "
            "same parameters and all the data, and takes its part of each batch by itself."
        )
