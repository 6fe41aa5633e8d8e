"""Room 10: the skorch net that trains: steps, schedules, history, early stopping."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import skorch.callbacks
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from skorch.history import History
from skorch.utils import TeeGenerator, noop, to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ._cross_fit import ClassScores
from ._data import ArrayDataset, Batch, EvenBatches
from ._guard import import_undisturbed, raised_by_signals
from ._messages import brief
from ._modules import Priors, SpikeSlabAutoencoder
from ._objective import Evidence, Objective
from ._spike_slab import SpikeSlab
from ._streams import StreamDataset
from .distributed import ALONE, Alone, current

M = TypeVar("M", bound=nn.Module)
#: Where the classes of modules are defined whose attributes are all that there is to copy.
PLAIN = ("torch.nn.modules.", f"{__package__}.")

_SCORE = "it scores batches of (X, y): score in the on_epoch_end of a callback of your own"
_RESUME = "call fit(..., checkpoint=PATH), and go on by fit(..., resume=True) of the same path"
#: skorch's callbacks that cannot work here, and what to do instead.
UNFIT = {
    "BatchScoring": _SCORE,
    "Checkpoint": _RESUME,
    "EpochScoring": _SCORE,
    "InputShapeSetter": "leave it out, as the model takes the width of its input from X",
    "LRScheduler": "set the parameter learning_rate, which has a schedule of its own",
    "LoadInitState": _RESUME,
    "PassthroughScoring": "leave it out, as the history has the mean of each term in each epoch",
    "ProgressBar": "set the parameter verbose=1, which shows a bar",
    "TrainEndCheckpoint": "call fit(..., checkpoint=PATH), or save after fit",
}
_SAVE = "and log the file that save writes, after fit"
#: Settings of skorch's loggers that cannot work here, and what to do instead.
UNFIT_SETTINGS = {
    "create_artifact": f"set create_artifact=False, {_SAVE}",
    "log_on_batch_end": "set log_on_batch_end=False, as the history is recorded in each epoch",
    "save_model": f"set save_model=False, {_SAVE}",
}


#: Of held-out recognition, how many times as bad as its best is not gone on from.
WORSE = 1.1


class SteppingNet(NeuralNet):
    """A skorch net over whole batches, synchronising with the device once per epoch.

    Parameters
    ----------
    module : SpikeSlabAutoencoder
        The model to train; it is trained in place.
    criterion : Objective or None
        The loss; None until training begins.
    generator : torch.Generator
        Source of shuffles and noise, on the processor.
    lr : float
        Learning rate of Adam at the start.
    batch_size : int
        Largest size of a batch.
    device : str
        Where to train.
    callbacks : list or None
        The user's skorch callbacks.
    verbose : int
        1 shows a progress bar.
    precision : {"float32", "bfloat16"}
        Precision of the networks' matrix products in training.
    """

    module_: SpikeSlabAutoencoder
    callbacks_: list[tuple[str, Callback]]

    def __init__(
        self,
        module: SpikeSlabAutoencoder,
        criterion: Objective | None,
        generator: torch.Generator,
        lr: float,
        batch_size: int,
        device: str = "cpu",
        callbacks: Any = None,
        verbose: int = 0,
        precision: str = "float32",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("optimizer", torch.optim.Adam)
        kwargs.setdefault("optimizer__fused", True)
        kwargs.setdefault("train_split", None)
        super().__init__(
            module,
            criterion,
            lr=lr,
            batch_size=batch_size,
            device=device,
            callbacks=callbacks,
            verbose=verbose,
            **kwargs,
        )
        self.generator = generator
        self.precision = precision
        self.noise_generator = generator
        #: The processes that train this net together, and where this one draws its noise from.
        self.processes: Alone = ALONE
        self._noise: torch.Generator | None = None
        if torch.device(device).type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            self.noise_generator = torch.Generator(device).manual_seed(seed)
        self.steps_done = 0  # since the schedule began
        self.steps_planned = 1
        self.decay = True

    def initialize_criterion(self) -> SteppingNet:
        """Take the objective as it is: a plain callable, not a module to instantiate."""
        self.criterion_ = self.criterion
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> SteppingNet:
        """Make the optimiser; the first of a process imports what takes torch seconds."""
        import_undisturbed("torch._dynamo")
        super().initialize_optimizer(*args, **kwargs)
        return self

    def get_default_callbacks(self) -> list[tuple[str, Callback]]:
        """Leave skorch's out: they work per batch, and print."""
        return []

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any) -> None:
        """Count on from the epoch before, where the history is no longer whole."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        if len(self.history) > 1:
            self.history.record("epoch", self.history[-2, "epoch"] + 1)

    def on_batch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the history per epoch."""

    def get_iterator(
        self, dataset: ArrayDataset | StreamDataset, training: bool = False
    ) -> DataLoader[Batch]:
        """Fetch whole batches; torch finds `ArrayDataset.__getitems__`."""
        shuffle = self.generator if training else None
        part = self.processes.rank, self.processes.size
        how: dict[str, Any] = {"collate_fn": _identity, "generator": self.generator}
        if isinstance(dataset, StreamDataset):
            batched = dataset.batched(self.batch_size, shuffle, part)
            return DataLoader(batched, batch_size=None, **how)
        labeled = dataset.labeled_rows if training else None
        batches = EvenBatches(len(dataset), self.batch_size, shuffle, part, labeled)
        # torch's types ask for a Dataset; it takes anything that has `__getitems__`.
        return DataLoader(dataset, batch_sampler=batches, **how)  # type: ignore[arg-type]

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Take a step, without the closure that skorch keeps for optimisers other than Adam."""
        self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        parameters = TeeGenerator(self.get_all_learnable_params())
        self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
        self.optimizer_.step()
        return step

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Forward and backward pass of one batch."""
        progress = self.progress
        for group in self.optimizer_.param_groups:
            group["lr"] = self.lr * (learning_rate_factor(progress) if self.decay else 0.5)
        step = self._forward(batch, min(progress, 1.0))
        step["loss"].backward()
        self.processes.add_gradients(self.module_.parameters())
        self.steps_done += 1
        return step

    @property
    def progress(self) -> float:
        """Part of the planned steps that has been taken."""
        return self.steps_done / self.steps_planned

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Forward pass of one batch, with every term at its full weight."""
        with torch.no_grad():
            return self._forward(batch, 1.0)

    def run_single_epoch(
        self,
        iterator: DataLoader[Batch] | None,
        training: bool,
        prefix: str,
        step_fn: Callable[[Batch], dict[str, Any]],
        **fit_params: Any,
    ) -> None:
        """Run an epoch; record the mean of the loss and of each term, in one synchronisation."""
        if iterator is None:
            return
        self._set_training(training)
        if training:
            self._noise = self.processes.generator(self.generator, self.noise_generator)
        total: Tensor | None = None
        weight_sum, names = 0.0, ["loss"]
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            weight = float(batch.weight.sum())  # on the processor: no synchronisation
            names = ["loss", *step["terms"]]
            values = torch.stack([step["loss"], *step["terms"].values()]).detach() * weight
            total = values if total is None else total.add_(values)
            weight_sum += weight
            self.notify("on_batch_end", batch=batch, training=training, **step)
            del batch, step  # else both would still be there while the next are made
        assert total is not None, "an epoch has at least one batch"
        whole = self.processes.total(torch.cat([total, total.new_tensor([weight_sum])]))
        for name, value in zip(names, (whole[:-1] / whole[-1]).tolist(), strict=True):
            self.history.record(
                f"{prefix}_{name}" if name == "loss" or not training else name, value
            )
        if not math.isfinite(self.history[-1, f"{prefix}_loss"]):
            dataset = iterator.dataset
            assert isinstance(dataset, ArrayDataset | StreamDataset)
            epoch = self.history[-1, "epoch"]
            raise divergence_error(dataset.survey(False).magnitude, self.lr, f"in epoch {epoch}")

    def _forward(self, batch: Batch, progress: float) -> dict[str, Any]:
        x, labels, weight = to_device(tuple(batch[:3]), self.device)
        low = self.precision == "bfloat16" and self.module_.training
        # Without a cache: within an autocast of the caller's it would outlive the step.
        lower = torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False) if low else None
        with lower or nullcontext():
            noise = self._noise or self.noise_generator
            fraction = self.criterion_.slab_fraction(progress)
            out = self.module_(x, noise, fraction, batch.incomplete)
        misfit = self.module_.likelihood.misfit(out.theta, x, batch.incomplete)
        seen = Evidence(out.q, out.z, misfit, labels, weight, out.priors, out.scores)
        terms = self.criterion_.terms(self.module_, of_all(seen, self.processes))
        loss = self.criterion_.loss(terms, progress)
        for name, value in terms.running.items():
            self.module_.get_buffer(name).copy_(value.detach())
        return {"loss": loss, "terms": terms.values, "y_pred": out.theta}


class VSCNet(SteppingNet):
    """The net of an estimator: whole trainings, what ends them, and their state."""

    #: Under early stopping, the best epoch's weights and loss, and the epochs since.
    best: dict[str, Any] | None = None
    #: Of gates that follow the class, the weights that told held-out classes best, and their loss.
    honest: dict[str, Any] | None = None
    _epoch_ended: Callable[[], None] = staticmethod(noop)

    def schedule(self, steps: int, done: int = 0, decay: bool = True) -> None:
        """Plan a training of `steps` steps; `decay` takes the learning rate to 0 by the end.

        Without it the rate is constant, at what it is on average with it.
        """
        self.steps_done, self.steps_planned, self.decay = done, steps, decay
        self.best = self.honest = None

    def train(
        self,
        dataset: ArrayDataset | StreamDataset,
        epochs: int,
        valid: ArrayDataset | None,
        patience: int,
        after_epoch: Callable[[], None] = noop,
    ) -> str | None:
        """Train for at most `epochs` epochs; return what ended it before, if anything did.

        With `valid`, stop once its loss has not fallen for `patience` epochs ("early_stopping"),
        and restore the weights of the best epoch. The user's callbacks may stop it too
        ("callback"). `after_epoch` is called after each epoch.

        If an error or Ctrl-C ends it, the net is as after its last step, or at its best epoch,
        and the history as after its last epoch.

        Several processes train together within `distributed.data_parallel`.
        """
        _check_settings(self.callbacks_, valid is not None)
        self.processes = processes = current()
        self._take_from_first()
        finished = len(self.history)

        def epoch_ended() -> None:
            nonlocal finished
            finished = len(self.history)
            self._keep_honest()
            if valid is not None:
                self._stop_early(patience)
            after_epoch()

        bar, reason = ProgressBar(epochs), None
        self.train_split = None if valid is None else predefined_split(valid)
        callbacks, self._epoch_ended = self.callbacks_, epoch_ended
        if self.verbose and not processes.rank:
            self.callbacks_ = [*callbacks, ("progress", bar)]
        try:
            self.notify("on_train_begin", X=dataset, y=None)
            try:
                self.fit_loop(dataset, epochs=epochs)
            except TrainingStopped as stop:
                reason = str(stop)
            self._restore_best()
            self._take_from_first()
            self.notify("on_train_end", X=dataset, y=None)
        except BaseException as error:
            processes.leave(error)
            del self.history[finished:]
            self._restore_best()
            raise
        finally:
            bar.close()
            self.optimizer_.zero_grad()  # a fitted model needs no gradients, and they are as large
            self.callbacks_, self.train_split = callbacks, None
            self._epoch_ended, self.best, self.honest = noop, None, None
            self.processes, self._noise = ALONE, None
        return reason

    def _take_from_first(self) -> None:
        """Become what the net is in the first process: seeds and the user's modules may differ.

        So may the last digits, after training on processors of different kinds.
        """
        if self.processes.size > 1:
            sums = [float(x.sum()) for x in self.module_.state_dict().values()]
            seen = {"sums": sums, "generator": self.generator.get_state().numpy().tobytes()}
            if self.processes.differing(seen):
                self.load_state(self.processes.from_rank_0(self.state))

    def _stop_early(self, patience: int) -> None:
        """Keep the weights of the best epoch; end training if it was `patience` epochs ago."""
        loss = self.history[-1, "valid_loss"]
        if self.best is None or loss < self.best["loss"]:
            weights = copy.deepcopy(self.module_.state_dict())
            self.best = {"loss": loss, "misses": 0, "weights": weights}
        else:
            self.best = self.best | {"misses": self.best["misses"] + 1}
        if self.best["misses"] >= patience:
            raise TrainingStopped("early_stopping")

    def _restore_best(self) -> None:
        if self.best is not None:
            self.module_.load_state_dict(self.best["weights"])
        elif self.honest is not None:
            self._take_back()

    def _keep_honest(self) -> None:
        """Keep the classifiers that tell held-out classes best; take back what is a tenth worse.

        Small data are learned by heart long before the decoder is done.
        """
        gates = self.module_.gates
        loss = self.history[-1].get("held_out_recognition")
        if gates is None or loss is None or not self.decay:
            return
        if self.honest is None or loss < self.honest["loss"]:
            weights = {name: x.clone() for name, x in gates.classifier().items()}
            self.honest = {"loss": loss, "weights": weights}
        elif loss > WORSE * self.honest["loss"]:
            self._take_back()

    def _take_back(self) -> None:
        assert self.honest is not None and self.module_.gates is not None
        self.module_.gates.load_state_dict(self.honest["weights"], strict=False)

    def is_finite(self) -> bool:
        """Return whether all weights are finite numbers."""
        return all(bool(x.isfinite().all()) for x in self.module_.state_dict().values())

    def state(self) -> dict[str, Any]:
        """Return all that training depends on, as NumPy arrays and primitives."""
        self.check_is_fitted()
        return {
            "module": _map_tensors(self.module_.state_dict(), _to_numpy),
            "optimizer": _map_tensors(self.optimizer_.state_dict(), _to_numpy),
            "generator": self.generator.get_state().numpy(),
            "noise_generator": self.noise_generator.get_state().numpy(),
            "schedule": [self.steps_done, self.steps_planned, self.decay],
            "history": [dict(row) for row in self.history],
        } | {
            name: _map_tensors(kept, _to_numpy)
            for name, kept in (("best", self.best), ("honest", self.honest))
            if kept is not None
        }

    def copy(self) -> VSCNet:
        """Return a net that goes on as this one would; the two share the user's callbacks alone."""
        how = {"lr": self.lr, "batch_size": self.batch_size, "device": self.device}
        generator = torch.Generator().set_state(self.generator.get_state())
        twin = VSCNet(copy_of(self.module_), self.criterion_, generator, **how)
        twin.initialize()
        twin.generator.set_state(self.generator.get_state())
        twin.noise_generator.set_state(self.noise_generator.get_state())
        twin.optimizer_.load_state_dict(_map_tensors(self.optimizer_.state_dict(), Tensor.clone))
        twin.callbacks, twin.callbacks_ = self.callbacks, self.callbacks_
        twin.verbose, twin.precision = self.verbose, self.precision
        twin.schedule(self.steps_planned, self.steps_done, self.decay)
        twin.history = History(dict(row) for row in self.history)
        return twin

    def load_weights(self, state: dict[str, Any]) -> None:
        """Give the module the weights in what `state` returned."""
        self.module.load_state_dict(_map_arrays(state["module"]))

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.load_weights(state)
        self.optimizer_.load_state_dict(_map_arrays(state["optimizer"]))
        self.generator.set_state(torch.tensor(state["generator"]))
        if len(state["noise_generator"]) == len(self.noise_generator.get_state()):
            self.noise_generator.set_state(torch.tensor(state["noise_generator"]))
        # else the state is of another kind of device, and noise goes on from the seed
        self.steps_done, self.steps_planned, self.decay = state["schedule"]
        self.history = History(dict(row) for row in state["history"])
        for name in ("best", "honest"):
            kept = state.get(name)
            setattr(self, name, kept and kept | {"weights": _map_arrays(kept["weights"])})

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Take KeyboardInterrupt for a stop where skorch's callbacks mean one, else for Ctrl-C.

        What ends training after an epoch in one process ends it in all.
        """
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        with self.processes.raise_in_all():
            stopped = False
            with raised_by_signals() if self.callbacks_ else nullcontext() as by_signals:
                try:
                    super().notify(method_name, **kwargs)
                except KeyboardInterrupt:
                    if by_signals or not self.callbacks_:
                        raise
                    stopped = True
            self._epoch_ended()
            if stopped:
                raise TrainingStopped("callback")


def copy_of(module: M, memo: dict[int, Any] | None = None) -> M:
    """Return what `copy.deepcopy` returns, in a quarter of the time.

    Most of what that copies are the dicts for hooks that each layer has, and they are empty.
    """
    memo, kind = {} if memo is None else memo, type(module)
    own_way = getattr(kind, "__setstate__", None) is not nn.Module.__setstate__
    if id(module) in memo or own_way or not kind.__module__.startswith(PLAIN):
        return copy.deepcopy(module, memo)
    twin: M = object.__new__(kind)
    memo[id(module)] = twin
    for name, value in vars(module).items():
        if type(value) in (dict, OrderedDict) and not value:
            value = type(value)()
        elif name == "_modules":
            parts = {key: copy_of(part, memo) for key, part in value.items()}
            value = type(value)(parts)
        else:
            value = copy.deepcopy(value, memo)
        vars(twin)[name] = value
    return twin


def of_all(seen: Evidence, processes: Alone) -> Evidence:
    """Return the evidence of the whole batch, where each process has a part of it.

    The loss is then the same function of the same rows everywhere. Its gradient flows back through
    a process's own rows, and by an equal part through what all have alike, the priors: the sum
    over processes is whole.
    """
    if processes.size == 1:
        return seen
    q, priors = seen.q, seen.priors
    alone = seen.misfit.ndim == 1
    misfits = seen.misfit[:, None] if alone else seen.misfit
    rows = [q.mu, q.log_var, seen.z, misfits, seen.weight[:, None]]
    rows += [] if q.logits is None else [q.logits]
    rows += [] if priors is None else [priors.scores]
    scores = seen.scores
    rows += [] if scores is None else [x.flatten(1) for x in scores[:3]]
    table = processes.gather(torch.cat(rows, dim=1))  # at once: it is their number that counts
    mu, log_var, z, misfit, weight, *more = table.split([x.shape[1] for x in rows], dim=1)
    if priors is not None:
        logits = priors.q.logits
        assert logits is not None
        alike = SpikeSlab(*map(processes.alike, (logits, priors.q.mu, priors.q.log_var)))
        priors = Priors(alike, more.pop())
    if scores is not None:
        shape = (-1, *scores.logits.shape[1:])
        logits, speakers, learns = more[-3:]
        assert scores.penalty is not None
        alike_in_all = map(processes.alike, (scores.pi, scores.penalty))
        scores = ClassScores(logits.reshape(shape), speakers.long(), learns, *alike_in_all)
        del more[-3:]
    logits = more.pop() if more else None
    labels = processes.gather(seen.labels)
    q = SpikeSlab(logits, mu, log_var)
    misfit = misfit[:, 0] if alone else misfit
    return Evidence(q, z, misfit, labels, weight[:, 0], priors, scores)


def learning_rate_factor(progress: float) -> float:
    """Rise over the first 5 % of training, then fall by half a cosine; 0.5 on average."""
    progress = min(progress, 1.0)  # a stream may have more batches than at first
    return min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


class TrainingStopped(Exception):  # noqa: N818  (nothing went wrong)
    """Training has ended before its last epoch, for the reason that the message names."""


class ProgressBar(Callback):
    """A bar over the epochs, with the loss."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=self.epochs, unit="epoch")

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Move on by an epoch."""
        self.bar_.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4g}", refresh=False)
        self.bar_.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if hasattr(self, "bar_"):
            self.bar_.close()


def check_callbacks(callbacks: list[Any] | None) -> None:
    """Check that there are callbacks, as instances, classes or (name, one), that can work here."""
    for item in callbacks or []:
        callback = item[-1] if isinstance(item, tuple) and item else item
        if not hasattr(callback, "on_train_begin"):
            raise TypeError(
                f"callbacks={brief(callbacks)} must hold skorch callbacks, not {brief(item)}."
            )
        kind = callback if isinstance(callback, type) else type(callback)
        for name, advice in UNFIT.items():
            if issubclass(kind, getattr(skorch.callbacks, name, ())):
                raise ValueError(
                    f"callbacks holds {kind.__name__}, which cannot work here: {advice}."
                )


def _check_settings(callbacks: list[tuple[str, Callback]], validates: bool) -> None:
    """Check that skorch's callbacks are set to what they find here, before they look for it."""
    for _, callback in callbacks:
        kinds = [kind for kind in type(callback).__mro__ if kind not in (Callback, object)]
        if not any(kind.__module__.startswith("skorch.") for kind in kinds):
            continue
        held = f"callbacks holds {type(callback).__name__} with"
        for name, advice in UNFIT_SETTINGS.items():
            if getattr(callback, name, False) is True:
                raise ValueError(f"{held} {name}=True, which cannot work here: {advice}.")
        monitor = getattr(callback, "monitor", None)
        if not validates and isinstance(monitor, str) and monitor.startswith("valid_"):
            raise ValueError(
                f"{held} monitor={monitor!r}, which only fit with early_stopping=True records: "
                "set that, or monitor='train_loss'."
            )


def split_device(device: str) -> tuple[str, str]:
    """Return the device and the precision of matrix products: "cuda+bfloat16" names both."""
    if not isinstance(device, str):  # partial_fit does not validate parameters again
        raise ValueError(f"device={device!r} must be a string, such as 'cpu'.")
    name, _, precision = device.partition("+")
    if precision not in ("", "bfloat16"):
        raise ValueError(
            f"device={device!r} asks for the precision {precision!r}, but there are float32, which "
            "needs no name, and 'bfloat16', as in 'cpu+bfloat16'."
        )
    return name, precision or "float32"


def check_device(device: str) -> str:
    """Return `device` if a tensor can live there."""
    try:
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"device={device!r} cannot be used ({str(error).splitlines()[0]}): "
            "name a device of this machine, such as 'cpu'."
        ) from error
    return device


def check_precision(precision: str, device: str) -> None:
    """Raise a ValueError if `device` cannot compute in `precision`."""
    kind = torch.device(device).type
    if precision == "bfloat16" and not (
        torch.amp.is_autocast_available(kind) and (kind != "cuda" or torch.cuda.is_bf16_supported())
    ):
        raise ValueError(
            f"device='{device}+{precision}' has no {precision}: set device={device!r}, or name "
            "another device."
        )


def divergence_error(magnitude: float, learning_rate: float, when: str) -> FloatingPointError:
    """Say why numbers stopped being finite."""
    return FloatingPointError(
        f"The loss is not finite {when}. The largest absolute value in X is {magnitude:.3g} and "
        f"learning_rate={learning_rate}: scale the features to ordinary magnitudes "
        "(StandardScaler), or lower learning_rate."
    )


def _identity(batch: Any) -> Any:
    return batch


def _to_numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy().copy()


def _map_tensors(tree: Any, convert: Callable[[Tensor], Any]) -> Any:
    """Convert the tensors in nested dicts and lists."""
    if isinstance(tree, Tensor):
        return convert(tree)
    if isinstance(tree, dict):
        return {key: _map_tensors(value, convert) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_map_tensors(value, convert) for value in tree]
    return tree


def _map_arrays(tree: Any) -> Any:
    """Undo `_map_tensors`; the tensors own their memory."""
    if isinstance(tree, np.ndarray | np.generic):
        return torch.tensor(np.asarray(tree))
    if isinstance(tree, dict):
        return {key: _map_arrays(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_map_arrays(value) for value in tree]
    return tree
