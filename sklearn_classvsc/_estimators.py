"""Room 9: the three transformers: parameters, prior and objective."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ._base import SpikeSlabTransformer
from ._objective import DIVERGENCES, Objective, Weight
from ._sklearn import Interval, StrOptions, fit_context

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self


class VAETransformer(SpikeSlabTransformer):
    """Variational autoencoder (VAE): dense codes, the baseline of the family.
    """

    gated = False

    def __init__(
        self,
        n_components: int = 32,
        *,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str = "auto",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        kl_weight: float = 1.0,
        max_epochs: int | str = "auto",
        max_steps: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str = "cpu",
        callbacks: list[Any] | None = None,
        warm_start: bool = False,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.encoder = encoder
        self.decoder = decoder
        self.kl_weight = kl_weight
        self.max_epochs = max_epochs
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.random_state = random_state
        self.verbose = verbose

    def _prior(self) -> tuple[NDArray[np.float32], float]:
        return np.full(self.n_components, 0.5, np.float32), 0.0

    def _objective(self) -> Objective:
        return Objective({"reconstruction": Weight(1), "slab_kl": Weight(self.kl_weight)})


class VSCTransformer(VAETransformer):
    gated = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **SpikeSlabTransformer._parameter_constraints,
        "alpha": [Interval(Real, 0, 1, closed="neither"), "array-like"],
        "threshold": [Interval(Real, 0, 1, closed="left")],
        "usage_weight": [Interval(Real, 0, None, closed="left")],
        "information_weight": [Interval(Real, 0, None, closed="left")],
        "warmup": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        n_components: int = 32,
        *,
        alpha: float | ArrayLike = 0.2,
        threshold: float = 0.5,
        usage_weight: float = 1.0,
        information_weight: float = 1.0,
        warmup: float = 0.0,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str = "auto",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        kl_weight: float = 1.0,
        max_epochs: int | str = "auto",
        max_steps: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str = "cpu",
        callbacks: list[Any] | None = None,
        warm_start: bool = False,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            likelihood=likelihood,
            encoder=encoder,
            decoder=decoder,
            kl_weight=kl_weight,
            max_epochs=max_epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            callbacks=callbacks,
            warm_start=warm_start,
            sparse_output=sparse_output,
            random_state=random_state,
            verbose=verbose,
        )
        self.alpha = alpha
        self.threshold = threshold
        self.usage_weight = usage_weight
        self.information_weight = information_weight
        self.warmup = warmup

    def _prior(self) -> tuple[NDArray[np.float32], float]:
        alpha = np.asarray(self.alpha, dtype=np.float32)
        if alpha.ndim and alpha.shape != (self.n_components,):
            raise ValueError(
                f"alpha has shape {alpha.shape}, expected a scalar or one value for each of the "
                f"n_components={self.n_components} dimensions."
            )
        outside = alpha[~((alpha > 0) & (alpha < 1))]
        if outside.size:
            raise ValueError(
                f"alpha={outside.flat[0]:g} must lie strictly between 0 and 1: "
                "it is a probability to be active."
            )
        return np.broadcast_to(alpha, self.n_components).copy(), 0.0

    def _objective(self) -> Objective:
        return Objective(
            {
                "reconstruction": Weight(1),
                "slab_kl": Weight(self.kl_weight),
                "usage": Weight(self.usage_weight, self.warmup),
                "information": Weight(self.information_weight, self.warmup),
            }
        )


class ClassVSCTransformer(VSCTransformer):
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **VSCTransformer._parameter_constraints,
        "consistency_weight": [Interval(Real, 0, None, closed="left")],
        "consistency": [StrOptions(set(DIVERGENCES))],
        "objective": [StrOptions({"paper"})],
        "unlabeled": "no_validation",
    }

    def __init__(
        self,
        n_components: int = 32,
        *,
        consistency_weight: float = 3.0,
        consistency: str = "centroid",
        objective: str = "paper",
        unlabeled: Any = None,
        alpha: float | ArrayLike = 0.2,
        threshold: float = 0.5,
        usage_weight: float = 1.0,
        information_weight: float = 1.0,
        warmup: float = 0.5,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str = "auto",
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        kl_weight: float = 1.0,
        max_epochs: int | str = "auto",
        max_steps: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str = "cpu",
        callbacks: list[Any] | None = None,
        warm_start: bool = False,
        sparse_output: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components,
            alpha=alpha,
            threshold=threshold,
            usage_weight=usage_weight,
            information_weight=information_weight,
            warmup=warmup,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            likelihood=likelihood,
            encoder=encoder,
            decoder=decoder,
            kl_weight=kl_weight,
            max_epochs=max_epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            callbacks=callbacks,
            warm_start=warm_start,
            sparse_output=sparse_output,
            random_state=random_state,
            verbose=verbose,
        )
        self.consistency_weight = consistency_weight
        self.consistency = consistency
        self.objective = objective
        self.unlabeled = unlabeled

    def _objective(self) -> Objective:
        one = Weight(1)
        weights = {"reconstruction": one, "slab_kl": Weight(self.kl_weight)}
        weights |= {"usage": one, "information": one, "inconsistency": one}
        weights["consistency"] = Weight(self.consistency_weight, self.warmup)
        return Objective(weights, len(self.classes_), self.consistency)

    def _encode_labels(self, y: Any, classes: Any, reset: bool) -> NDArray[np.int64] | None:
        check_classification_targets(y)
        y = np.asarray(y)
        labeled = np.ones(len(y), bool) if self.unlabeled is None else y != self.unlabeled
        if reset:
            self.classes_ = np.unique(y[labeled] if classes is None else classes)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"ClassVSCTransformer needs samples of at least 2 classes, but y holds "
                    f"{len(self.classes_)} class(es): {self.classes_.tolist()}."
                )
        unseen = np.setdiff1d(y[labeled], self.classes_)
        if unseen.size:
            raise ValueError(
                f"y holds the label {unseen[0]!r}, which is none of the classes "
                f"{self.classes_.tolist()} of the first fit: name all of them there (`classes`)."
            )
        labels = np.full(len(y), -1)
        labels[labeled] = np.searchsorted(self.classes_, y[labeled])
        return labels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def partial_fit(
        self, X: ArrayLike, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        return self._partial_fit(X, y, sample_weight, classes)
