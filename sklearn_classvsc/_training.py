"""Room 10: a training makes a model: where it starts, how it goes on, what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from skorch.utils import noop

from ._class_factors import begin, can_begin, find_beginning
from ._classes import Labels, LabelSets
from ._collapse import ClassSummary
from ._data import ArrayDataset, Moments, Standardization
from ._messages import warn
from ._mixed import likelihood_class
from ._model import Model
from ._modules import SpikeSlabAutoencoder, make_autoencoder
from ._net import VSCNet, check_device, check_precision, copy_of
from ._objective import Objective
from ._rotation import apply_turn, check_rotation, find_turn
from ._streams import StreamDataset
from .distributed import current

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Samples until which the chunks of `partial_fit` still change the scales of the features.
FEW = 1000
#: Part of a training after which its code is turned. Gates are then known, and the rest of training
#: fits the posterior's variances to the new axes.
TURN = 2 / 3
#: Standard deviations beyond which the root mean square of a feature is far outside.
FAR = 10


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
        Offset and scale of the features; None where the likelihood takes them as they are.
    saved : dict or None
        What `state` returned, if only the weights have been taken from it so far: the optimiser of
        a loaded estimator is built when it is needed.
    seen : Moments or None
        Moments of all chunks so far, as long as later chunks may still change scales.
    """

    def __init__(
        self,
        net: VSCNet,
        architecture: dict[str, Any],
        standardization: Standardization | None,
        saved: dict[str, Any] | None = None,
        seen: Moments | None = None,
    ) -> None:
        self.net, self.architecture, self.standardization = net, architecture, standardization
        self._saved, self.seen = saved, seen
        self.rotation: str | None = None  # what the code is yet to be turned by

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
        seen: Moments | None = None,
    ) -> Training:
        """Return the training that `state` described."""
        try:
            device = check_device(device)
        except ValueError:  # trained on a GPU, loaded where there is none
            device = "cpu"
        net = _net(architecture, 0, device)
        net.load_weights(state)
        return cls(net, architecture, standardization, state, seen)

    def copy(self) -> Training:
        """Return one that goes on as this one would, and leaves this one as it is."""
        if self._saved is not None:
            of = self._saved, self.architecture, self.standardization
            return Training.from_state(*of, self.net.device, self.seen)
        return Training(self.net.copy(), self.architecture, self.standardization, seen=self.seen)

    def begin(self, data: ArrayDataset | StreamDataset) -> None:
        """Begin where the factors of the classes are, where that can be told."""
        module = self.net.module
        if not can_begin(module):
            return
        data.standardization = self.standardization
        found = current().from_rank_0(lambda: find_beginning(module, data))
        if found is not None:
            begin(module, found)
            self.architecture = self.architecture | {"alpha": module.alpha.cpu().numpy()}

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

    def follow_scales(self, data: ArrayDataset | StreamDataset, first: bool = False) -> None:
        """Let later chunks tell the scales that the first ones cannot; warn of what is far outside.

        As long as few samples have come, chunks change the scales of all features. Later they
        change those of features that have had one value only, of which the network has seen
        nothing but zeros. `first` says that the scales are of these data.
        """
        if self.standardization is None:
            return
        survey = data.survey(True)
        moments, scales = survey.moments(), self.standardization
        if first:
            self.seen = moments
            return
        if self.seen is not None:
            before, together = self.seen, self.seen + moments
            dtype = np.promote_types(scales.scale.dtype, survey.dtype)
            if before.n_samples < FEW:
                scales = self._of_real(together.standardization(dtype))
            else:
                late = before.constant() & ~together.constant()
                scale = np.where(late, scales.spread(moments), scales.scale)
                of_all = Standardization(scales.offset.astype(dtype), scale.astype(dtype))
                scales = self._of_real(of_all)
            gates = self.net.module_.gates
            if gates is not None:
                old, ratio = self.standardization, scales.scale / self.standardization.scale
                shift = (scales.offset - old.offset) / old.scale
                gates.rescale(*(torch.from_numpy(np.asarray(x, float)) for x in (shift, ratio)))
            is_open = together.n_samples < FEW or together.constant().any()
            self.standardization, self.seen = scales, together if is_open else None
        spread = scales.spread(moments)
        if (kinds := self.architecture.get("kinds")) is not None:
            spread = np.where(kinds == 0, spread, 0)  # bits and counts have no scale
        if spread.max() > FAR:
            warn(
                f"X lies far outside the scales of the data before: feature {spread.argmax()} has "
                f"values of {spread.max():.3g} standard deviations, root mean square, and drowns "
                "the others. Pass partial_fit a larger first chunk, or all data to fit as a "
                "source, or scale X before (StandardScaler).",
                UserWarning,
            )

    def _of_real(self, scales: Standardization) -> Standardization:
        """Return the scales of the features that are standardised."""
        kinds = self.architecture.get("kinds")
        return scales if kinds is None else scales.only(kinds == 0)

    def count(self, n_samples: int, further: bool = False) -> None:
        """Say how many samples are trained on, or how many further ones.

        The more there are, the less the prior of the weights matters.
        """
        gates = self.net.module_.gates
        if gates is not None:
            gates.n_samples.copy_(n_samples + further * gates.n_samples)

    def run(
        self,
        data: ArrayDataset | StreamDataset,
        epochs: int,
        valid: ArrayDataset | None = None,
        patience: int = 1,
        after_epoch: Callable[[], None] = noop,
    ) -> str | None:
        """Train for at most `epochs` epochs; return what ended it early, see `VSCNet.train`."""

        def epoch_ended() -> None:
            self.turn(data)
            after_epoch()

        return self.net.train(data, epochs, valid, patience, epoch_ended)

    def will_turn(self, rotation: str | None, resumed: bool) -> None:
        """Say by which rule the code is to be turned, once; None: not at all.

        Raises
        ------
        ValueError
            If the decoder does not allow it, and the rule is not "auto".
        """
        due = not (resumed and self.net.progress >= TURN)
        can = rotation is not None and check_rotation(rotation, self.net.module_)
        self.rotation = rotation if due and can else None

    def turn(self, data: ArrayDataset | StreamDataset, at_last: bool = False) -> None:
        """Give the code the axes that it is to have, if it is time."""
        if self.rotation is None or not (at_last or self.net.progress >= TURN):
            return
        module, rotation = self.net.module_.eval(), self.rotation
        turn = current().from_rank_0(lambda: find_turn(module, data, rotation))
        apply_turn(module, turn, self.net.optimizer_)
        self.architecture = self.architecture | {"prior_mean": module.prior_mean.cpu().numpy()}
        self.net.best = None  # of other axes
        self.rotation = None

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

        `summarize` returns what the classes use of the code that a module makes.
        """
        module = self.net.module_ if self.net.initialized_ else self.net.module
        frozen = copy_of(module).eval().requires_grad_(False).to(self.net.device)
        summary = summarize(frozen)
        return Model(frozen, self.architecture, self.standardization, labels, summary)

    def rows(self) -> list[dict[str, Any]]:
        """Return the terms of the loss in each epoch. It may not go back to the first."""
        return list(self.net.history if self._saved is None else self._saved["history"])

    def state(self) -> dict[str, Any]:
        """Return all that training depends on, as NumPy arrays and primitives."""
        return self.net.state() if self._saved is None else self._saved


def new_module(architecture: dict[str, Any], seed: int) -> SpikeSlabAutoencoder:
    """Return a new module of this architecture."""
    return _module(architecture, torch.Generator().manual_seed(seed))


def _module(architecture: dict[str, Any], generator: torch.Generator) -> SpikeSlabAutoencoder:
    kinds = [] if architecture.get("kinds") is None else [architecture["kinds"]]
    parts = {name: value for name, value in architecture.items() if name != "kinds"} | {
        "likelihood": likelihood_class(architecture["likelihood"])(
            architecture["n_features"], *kinds
        ),
        "alpha": torch.tensor(architecture["alpha"], dtype=torch.float32),
    }
    return make_autoencoder(**parts, generator=generator)


def _net(architecture: dict[str, Any], seed: int, device: str) -> VSCNet:
    """Return a net around a new module; it draws on from where the weights' draws stopped."""
    generator = torch.Generator().manual_seed(seed)
    module = _module(architecture, generator)
    return VSCNet(module, None, generator, lr=0.0, batch_size=1, device=device)
