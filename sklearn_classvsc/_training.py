"""Room 10: a training makes a model: where it starts, how it goes on, what it leaves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from skorch.utils import noop

from ._classes import Labels, LabelSets
from ._collapse import ClassSummary
from ._data import ArrayDataset, Standardization
from ._likelihoods import LIKELIHOODS
from ._model import Model
from ._modules import SpikeSlabAutoencoder, make_autoencoder
from ._net import VSCNet, check_device, check_precision
from ._objective import Objective
from ._streams import StreamDataset

if TYPE_CHECKING:
    from numpy.typing import NDArray


class How(NamedTuple):
    """How to train, by the parameters of an estimator that may change between two trainings."""

    objective: Callable[[SpikeSlabAutoencoder], Objective]  # the loss for a module
    learning_rate: float
    batch_size: int
    precision: str
    callbacks: list[Any] | None
    verbose: int


class Training:
    """A net, its optimiser and its schedule: all that makes a `Model`, and can go on.

    What has made a model is never trained again: the next training starts from a `copy`.

    Parameters
    ----------
    net : VSCNet
        The net.
    architecture : dict
        What its module is built by, see `Model`.
    standardization : Standardization or None
        Of the features.
    saved : dict or None
        What `state` returned, where only the weights have been taken from it yet: the optimiser
        of what was just loaded is built when it is needed.
    """

    def __init__(
        self,
        net: VSCNet,
        architecture: dict[str, Any],
        standardization: Standardization | None,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self.net, self.architecture, self.standardization = net, architecture, standardization
        self._saved = saved

    # -- where it starts -------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        architecture: dict[str, Any],
        standardization: Standardization | None,
        seed: int,
        device: str,
        means: NDArray[Any] | None = None,
    ) -> Training:
        """Return the training of a new model; one of counts starts at the `means`, (p,)."""
        net = _net(architecture, seed, check_device(device))
        if means is not None:
            net.module.start_at(torch.from_numpy(means))
        return cls(net, architecture, standardization)

    @classmethod
    def from_state(
        cls,
        state: dict[str, Any],
        architecture: dict[str, Any],
        standardization: Standardization | None,
        device: str,
    ) -> Training:
        """Return the training that `state` described."""
        try:
            device = check_device(device)
        except ValueError:  # trained on a GPU, loaded where there is none
            device = "cpu"
        net = _net(architecture, 0, device)
        net.load_weights(state)
        return cls(net, architecture, standardization, state)

    def copy(self) -> Training:
        """Return one that goes on as this one would, and leaves this one as it is."""
        if self._saved is not None:
            device = self.net.device
            return Training.from_state(self._saved, self.architecture, self.standardization, device)
        return Training(self.net.copy(), self.architecture, self.standardization)

    # -- how it goes on --------------------------------------------------------------------------

    def prepare(self, how: How) -> None:
        """Train from now on as `how` says."""
        net = self.net
        if not net.initialized_:
            net.initialize()
        if self._saved is not None:
            net.load_state(self._saved)
            self._saved = None
        net.lr, net.batch_size, net.verbose = how.learning_rate, how.batch_size, how.verbose
        check_precision(how.precision, net.device)
        net.criterion_, net.precision = how.objective(net.module_), how.precision
        if net.callbacks is not how.callbacks:
            net.callbacks = how.callbacks
            net.initialize_callbacks()

    def run(
        self,
        data: ArrayDataset | StreamDataset,
        epochs: int,
        valid: ArrayDataset | None = None,
        patience: int = 1,
        after_epoch: Callable[[], None] = noop,
    ) -> str | None:
        """Train for at most `epochs` epochs; return what ended it before, see `VSCNet.train`."""
        return self.net.train(data, epochs, valid, patience, after_epoch)

    @property
    def n_epochs(self) -> int:
        """Rows of the history."""
        return len(self.net.history)

    # -- what it leaves --------------------------------------------------------------------------

    def model(
        self,
        labels: Labels | LabelSets | None,
        summarize: Callable[[SpikeSlabAutoencoder], ClassSummary | None],
    ) -> Model:
        """Return the model as it is now: a copy that no later training touches.

        `summarize` returns what the classes use of the code of a module.
        """
        module = self.net.module_ if self.net.initialized_ else self.net.module
        frozen = copy.deepcopy(module).eval().requires_grad_(False).to(self.net.device)
        summary = summarize(frozen)
        return Model(frozen, self.architecture, self.standardization, labels, summary)

    def history(self) -> pd.DataFrame:
        """Return the terms of the loss in each epoch."""
        rows = self.net.history if self._saved is None else self._saved["history"]
        return pd.DataFrame(
            [{key: value for key, value in row.items() if key != "batches"} for row in rows]
        )

    def state(self) -> dict[str, Any]:
        """Return all that training depends on, as NumPy arrays and primitives."""
        return self.net.state() if self._saved is None else self._saved


def new_module(architecture: dict[str, Any], seed: int) -> SpikeSlabAutoencoder:
    """Return a new module of this architecture."""
    return _module(architecture, torch.Generator().manual_seed(seed))


def _module(architecture: dict[str, Any], generator: torch.Generator) -> SpikeSlabAutoencoder:
    parts = architecture | {
        "likelihood": LIKELIHOODS[architecture["likelihood"]](architecture["n_features"]),
        "alpha": torch.tensor(architecture["alpha"], dtype=torch.float32),
    }
    return make_autoencoder(**parts, generator=generator)


def _net(architecture: dict[str, Any], seed: int, device: str) -> VSCNet:
    """Return a net around a new module, which goes on drawing where that stopped."""
    generator = torch.Generator().manual_seed(seed)
    module = _module(architecture, generator)
    return VSCNet(module, None, generator, lr=0.0, batch_size=1, device=device)
