"""Room 10: a training, which makes a model: its start, its continuation and its results."""

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


#: Number of samples after which chunks of `partial_fit` no longer change the scales of features.
FEW = 1000
#: Fraction of a training after which the code is turned. The gates are known by then, and the rest
#: of the training fits the posterior's variances to the new axes.
TURN = 2 / 3
#: Root mean square of a feature, in standard deviations, above which a chunk is far outside.
FAR = 10


class How(NamedTuple):
    """The parameters of training, which may change between two trainings of an estimator."""

    objective: Callable[[SpikeSlabAutoencoder], Objective]  # the loss for a module
    learning_rate: float
    batch_size: int
    precision: str
    callbacks: list[Any] | None
    verbose: int


class Training:
    """A net with its optimiser and schedule, which makes a `Model` and can continue.

    A training that has made a model does not continue itself. The next training starts from a
    `copy`.

    Parameters
    ----------
    net : VSCNet
        The net.
    architecture : dict
        Arguments of its module, see `Model`.
    standardization : Standardization or None
        Offset and scale of the features. None: the likelihood takes the features as they are.
    saved : dict or None
        A `state` of which only the weights are loaded so far. The optimiser of a loaded estimator
        is built when training continues.
    seen : Moments or None
        Moments of all chunks so far, while later chunks may still change scales.
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
        self.rotation: str | None = None  # rule of a turn that is still to come

    # -- start -----------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        architecture: dict[str, Any],
        standardization: Standardization | None,
        seed: int,
        device: str,
        means: NDArray[Any] | None = None,
    ) -> Training:
        """Return the training of a new model; a decoder of counts starts at the `means`, (p,)."""
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
        """Restore a training from its `state`."""
        try:
            device = check_device(device)
        except ValueError:  # trained on a GPU, and loaded on a machine without one
            device = "cpu"
        net = _net(architecture, 0, device)
        net.load_weights(state)
        return cls(net, architecture, standardization, state, seen)

    def copy(self) -> Training:
        """Return a training that continues as this one would, and does not change this one."""
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

    # -- continuation ----------------------------------------------------------------------------

    def prepare(self, how: How) -> None:
        """Set the parameters of training."""
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
        """Update the scales of the features by a chunk, and warn if it lies far outside them.

        The first `FEW` samples change the scales of all features. Later chunks change only the
        scales of features that were constant so far, for which the network has seen only zeros.
        `first` says that the scales come from these data.
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
                f"X lies far outside the scales of the earlier data. Feature {spread.argmax()} has "
                f"a root mean square of {spread.max():.3g} standard deviations, and dominates the "
                "loss. Scale X first (StandardScaler), pass a larger first chunk to partial_fit, "
                "or pass all data to fit as a source.",
                UserWarning,
            )

    def _of_real(self, scales: Standardization) -> Standardization:
        """Return scales for the real features, the only ones that are standardised."""
        kinds = self.architecture.get("kinds")
        return scales if kinds is None else scales.only(kinds == 0)

    def count(self, n_samples: int, further: bool = False) -> None:
        """Set the number of training samples, or add `further` ones.

        The prior of the weights counts less for more samples.
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
        """Train for at most `epochs` epochs; return why it ended early, see `VSCNet.train`."""

        def epoch_ended() -> None:
            self.turn(data)
            after_epoch()

        return self.net.train(data, epochs, valid, patience, epoch_ended)

    def will_turn(self, rotation: str | None, resumed: bool) -> None:
        """Set the rule by which the code will be turned once. None: no turn.

        Raises
        ------
        ValueError
            If the decoder does not allow a turn, and the rule is not "auto".
        """
        due = not (resumed and self.net.progress >= TURN)
        can = rotation is not None and check_rotation(rotation, self.net.module_)
        self.rotation = rotation if due and can else None

    def turn(self, data: ArrayDataset | StreamDataset, at_last: bool = False) -> None:
        """Turn the axes of the code, if it is time."""
        if self.rotation is None or not (at_last or self.net.progress >= TURN):
            return
        module, rotation = self.net.module_.eval(), self.rotation
        turn = current().from_rank_0(lambda: find_turn(module, data, rotation))
        apply_turn(module, turn, self.net.optimizer_)
        self.architecture = self.architecture | {"prior_mean": module.prior_mean.cpu().numpy()}
        self.net.best = None  # has the old axes
        self.rotation = None

    @property
    def n_epochs(self) -> int:
        """Number of rows in the history."""
        return len(self.net.history)

    # -- results ---------------------------------------------------------------------------------

    def model(
        self,
        labels: Labels | LabelSets | None,
        summarize: Callable[[SpikeSlabAutoencoder], ClassSummary | None],
    ) -> Model:
        """Return the current model, as a copy that no later training changes.

        `summarize` takes a module, and returns how the classes use its code.
        """
        module = self.net.module_ if self.net.initialized_ else self.net.module
        frozen = copy_of(module).eval().requires_grad_(False).to(self.net.device)
        summary = summarize(frozen)
        return Model(frozen, self.architecture, self.standardization, labels, summary)

    def rows(self) -> list[dict[str, Any]]:
        """Return the terms of the loss in each epoch; the first epochs may be missing."""
        return list(self.net.history if self._saved is None else self._saved["history"])

    def state(self) -> dict[str, Any]:
        """Return everything that training depends on, as NumPy arrays and primitives."""
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
    """Return a net with a new module; its noise continues the draws of the weights."""
    generator = torch.Generator().manual_seed(seed)
    module = _module(architecture, generator)
    return VSCNet(module, None, generator, lr=0.0, batch_size=1, device=device)
