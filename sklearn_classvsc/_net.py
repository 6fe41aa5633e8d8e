"""Room 10: the skorch net that trains a module: steps, schedule, history and early stopping."""

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
#: Packages of modules that `copy_of` may copy by their attributes.
PLAIN = ("torch.nn.modules.", f"{__package__}.")

_SCORE = "it scores batches of (X, y): score in the on_epoch_end of your own callback"
_RESUME = "call fit(..., checkpoint=PATH), and continue with fit(..., resume=True) and that path"
#: skorch's callbacks that cannot work here, and what to do instead.
UNFIT = {
    "BatchScoring": _SCORE,
    "Checkpoint": _RESUME,
    "EpochScoring": _SCORE,
    "InputShapeSetter": "leave it out, because the model takes the width of its input from X",
    "LRScheduler": "set the parameter learning_rate, which has its own schedule",
    "LoadInitState": _RESUME,
    "PassthroughScoring": "leave it out, because the history has each term in each epoch",
    "ProgressBar": "set the parameter verbose=1, which shows a bar",
    "TrainEndCheckpoint": "call fit(..., checkpoint=PATH), or save after fit",
}
_SAVE = "and log the file that save writes after fit"
#: Settings of skorch's loggers that cannot work here, and what to do instead.
UNFIT_SETTINGS = {
    "create_artifact": f"set create_artifact=False, {_SAVE}",
    "log_on_batch_end": "set log_on_batch_end=False, because the history has a row per epoch",
    "save_model": f"set save_model=False, {_SAVE}",
}


#: Training takes back the classifiers if held-out recognition is this many times its best value.
WORSE = 1.1


class SteppingNet(NeuralNet):
    """A skorch net over whole batches that synchronises with the device once per epoch.

    Parameters
    ----------
    module : SpikeSlabAutoencoder
        The model, which is trained in place.
    criterion : Objective or None
        The loss. None until training begins.
    generator : torch.Generator
        Source of shuffles and noise, on the processor.
    lr : float
        Peak learning rate of Adam.
    batch_size : int
        Largest size of a batch.
    device : str
        Device to train on.
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
        #: The processes that train this net together, and the source of noise of this process.
        self.processes: Alone = ALONE
        self._noise: torch.Generator | None = None
        if torch.device(device).type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            self.noise_generator = torch.Generator(device).manual_seed(seed)
        self.steps_done = 0  # since the schedule began
        self.steps_planned = 1
        self.decay = True

    def initialize_criterion(self) -> SteppingNet:
        """Take the objective as it is. skorch would instantiate a module."""
        self.criterion_ = self.criterion
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> SteppingNet:
        """Make the optimiser. The first one in a process imports a module, which takes seconds."""
        import_undisturbed("torch._dynamo")
        super().initialize_optimizer(*args, **kwargs)
        return self

    def get_default_callbacks(self) -> list[tuple[str, Callback]]:
        """Return no callbacks: skorch's defaults work per batch, and print."""
        return []

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any) -> None:
        """Continue the count of epochs, even if the history has lost its first rows."""
        super().on_epoch_begin(net, dataset_train=dataset_train, **kwargs)
        if len(self.history) > 1:
            self.history.record("epoch", self.history[-2, "epoch"] + 1)

    def on_batch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Add no rows for batches to the history."""

    def get_iterator(
        self, dataset: ArrayDataset | StreamDataset, training: bool = False
    ) -> DataLoader[Batch]:
        """Return a loader of whole batches, by `ArrayDataset.__getitems__`."""
        shuffle = self.generator if training else None
        part = self.processes.rank, self.processes.size
        how: dict[str, Any] = {"collate_fn": _identity, "generator": self.generator}
        if isinstance(dataset, StreamDataset):
            batched = dataset.batched(self.batch_size, shuffle, part)
            return DataLoader(batched, batch_size=None, **how)
        labeled = dataset.labeled_rows if training else None
        batches = EvenBatches(len(dataset), self.batch_size, shuffle, part, labeled)
        # torch's types ask for a Dataset, but anything with `__getitems__` works.
        return DataLoader(dataset, batch_sampler=batches, **how)  # type: ignore[arg-type]

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Take a step without skorch's closure, which Adam does not need."""
        self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        parameters = TeeGenerator(self.get_all_learnable_params())
        self.notify("on_grad_computed", named_parameters=parameters, batch=batch, training=True)
        self.optimizer_.step()
        return step

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Run the forward and backward pass of one batch."""
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
        """Fraction of the planned steps that are done."""
        return self.steps_done / self.steps_planned

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Run the forward pass of one batch, with every term at its full weight."""
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
        """Run an epoch, and record the means of the loss and its terms in one synchronisation."""
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
            weight = float(batch.weight.sum())  # is on the processor, so this does not synchronise
            names = ["loss", *step["terms"]]
            values = torch.stack([step["loss"], *step["terms"].values()]).detach() * weight
            total = values if total is None else total.add_(values)
            weight_sum += weight
            self.notify("on_batch_end", batch=batch, training=training, **step)
            del batch, step  # frees memory before the next batch
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
        # No cache: within an autocast of the caller, a cache would outlive the step.
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
    """The net of an estimator: runs whole trainings, ends them, and has their state."""

    #: With early stopping, the weights and loss of the best epoch, and the epochs since then.
    best: dict[str, Any] | None = None
    #: If gates follow the class, the classifiers that predicted held-out labels best, and the loss.
    honest: dict[str, Any] | None = None
    _epoch_ended: Callable[[], None] = staticmethod(noop)

    def schedule(self, steps: int, done: int = 0, decay: bool = True) -> None:
        """Plan a training of `steps` steps; with `decay`, the learning rate falls to 0 by the end.

        Without `decay`, the rate is constant, at the mean of the rates with `decay`.
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
        """Train for at most `epochs` epochs; return why training ended early, or None.

        With `valid`, stop once its loss has not fallen for `patience` epochs ("early_stopping"),
        and restore the weights of the best epoch. The user's callbacks may also stop training
        ("callback"). `after_epoch` is called after each epoch.

        If an error or Ctrl-C ends training, the net is as it was after its last step, or at its
        best epoch. The history is as it was after its last epoch.

        Within `distributed.data_parallel`, several processes train together.
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
            self.optimizer_.zero_grad()  # a fitted model needs no gradients, and they take memory
            self.callbacks_, self.train_split = callbacks, None
            self._epoch_ended, self.best, self.honest = noop, None, None
            self.processes, self._noise = ALONE, None
        return reason

    def _take_from_first(self) -> None:
        """Take the state of the net in the first process, if the state in any process differs.

        Seeds and the user's modules may differ. After training on processors of different kinds,
        the last digits may differ too.
        """
        if self.processes.size > 1:
            sums = [float(x.sum()) for x in self.module_.state_dict().values()]
            seen = {"sums": sums, "generator": self.generator.get_state().numpy().tobytes()}
            if self.processes.differing(seen):
                self.load_state(self.processes.from_rank_0(self.state))

    def _stop_early(self, patience: int) -> None:
        """Keep the weights of the best epoch; stop if it was `patience` epochs ago."""
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
        """Keep the classifiers that predict held-out labels best, and replace much worse ones.

        On small data, the classifiers memorise the labels long before the decoder is trained.
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
        """Return everything that training depends on, as NumPy arrays and primitives."""
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
        """Return a net that continues as this one would; both share only the user's callbacks."""
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
        """Load the module's weights from a `state`."""
        self.module.load_state_dict(_map_arrays(state["module"]))

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.load_weights(state)
        self.optimizer_.load_state_dict(_map_arrays(state["optimizer"]))
        self.generator.set_state(torch.tensor(state["generator"]))
        if len(state["noise_generator"]) == len(self.noise_generator.get_state()):
            self.noise_generator.set_state(torch.tensor(state["noise_generator"]))
        # else the state comes from another kind of device, and the noise starts from the seed
        self.steps_done, self.steps_planned, self.decay = state["schedule"]
        self.history = History(dict(row) for row in state["history"])
        for name in ("best", "honest"):
            kept = state.get(name)
            setattr(self, name, kept and kept | {"weights": _map_arrays(kept["weights"])})

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Notify the callbacks, and tell Ctrl-C from the KeyboardInterrupt by which they stop.

        If training ends after an epoch in one process, it ends in all processes.
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
    """Return the result of `copy.deepcopy` in a quarter of the time.

    `deepcopy` spends most of its time on the dicts for hooks, which are empty in most layers.
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
    """Return the evidence of the whole batch, of which each process has a part.

    Every process then computes the same loss of the same rows. In each process, the gradient flows
    back through its own rows, and by an equal share through what all processes have in common, such
    as the priors. The sum over the processes is the whole gradient.
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
    table = processes.gather(torch.cat(rows, dim=1))  # one call, because their number sets the time
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
    """Return the factor of the peak rate: a rise over 5 % of training, then half a cosine.

    Its mean over training is 0.5.
    """
    progress = min(progress, 1.0)  # a shuffled stream may have more batches than planned
    return min(1.0, (progress + 1e-3) / 0.05) * 0.5 * (1 + math.cos(math.pi * progress))


class TrainingStopped(Exception):  # noqa: N818  (nothing went wrong)
    """Training ends before its last epoch. The message is the reason."""


class ProgressBar(Callback):
    """A progress bar over the epochs, with the loss."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=self.epochs, unit="epoch")

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Advance the bar by an epoch."""
        self.bar_.set_postfix(loss=f"{net.history[-1, 'train_loss']:.4g}", refresh=False)
        self.bar_.update()

    def close(self) -> None:
        """Close the bar, and leave it on the screen."""
        if hasattr(self, "bar_"):
            self.bar_.close()


def check_callbacks(callbacks: list[Any] | None) -> None:
    """Check that all items are callbacks that can work here: instances, classes or (name, item)."""
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
    """Check the settings of skorch's callbacks before training, where they would fail."""
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
                f"{held} monitor={monitor!r}, which fit records only with early_stopping=True. "
                "Set early_stopping=True, or monitor='train_loss'."
            )


def split_device(device: str) -> tuple[str, str]:
    """Return the device and the precision of matrix products in a name like "cuda+bfloat16"."""
    if not isinstance(device, str):  # partial_fit validates parameters only once
        raise ValueError(f"device={device!r} must be a string, such as 'cpu'.")
    name, _, precision = device.partition("+")
    if precision not in ("", "bfloat16"):
        raise ValueError(
            f"device={device!r} names the precision {precision!r}, but only 'bfloat16' can be "
            "named, as in 'cpu+bfloat16'. Leave it out for float32."
        )
    return name, precision or "float32"


def check_device(device: str) -> str:
    """Return `device`, or raise a ValueError if it cannot hold a tensor."""
    try:
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"device={device!r} cannot be used ({str(error).splitlines()[0]}). "
            "Name a device of this machine, such as 'cpu'."
        ) from error
    return device


def check_precision(precision: str, device: str) -> None:
    """Raise a ValueError if `device` cannot compute in `precision`."""
    kind = torch.device(device).type
    if precision == "bfloat16" and not (
        torch.amp.is_autocast_available(kind) and (kind != "cuda" or torch.cuda.is_bf16_supported())
    ):
        raise ValueError(
            f"device='{device}+{precision}' does not support {precision}. Set device={device!r}, "
            "or name another device."
        )


def divergence_error(magnitude: float, learning_rate: float, when: str) -> FloatingPointError:
    """Return the error for a loss that is not finite."""
    return FloatingPointError(
        f"The loss is not finite {when}. The largest absolute value in X is {magnitude:.3g} and "
        f"learning_rate={learning_rate}. Scale the features to ordinary magnitudes "
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
