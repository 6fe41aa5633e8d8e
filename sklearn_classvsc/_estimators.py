"""Room 12: the three transformers. Each has its own parameters, prior and loss."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags

from ._classes import Labels, LabelSets, one_label_only
from ._cross_fit import cross_fit_sizes
from ._data import prefix_errors
from ._estimator import WEIGHT, Published, SpikeSlabTransformer
from ._messages import brief
from ._model import CodeMoments, Model
from ._objective import (
    BalancedObjective,
    CrossFittedObjective,
    LearnedPriorObjective,
    Objective,
    PaperObjective,
    VAEObjective,
    VSCObjective,
)
from ._sklearn import Interval, StrOptions, fit_context
from .labels import Indicator, check_y, has_label, position

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self

    from ._modules import Recipe, SpikeSlabAutoencoder
    from ._validation import FitData


class VAETransformer(SpikeSlabTransformer):
    r"""Variational autoencoder (VAE): dense codes, the baseline of the family.

    The encoder gives s ~ N(mu, sigma^2). With beta = `kl_weight`, training minimises, per sample,

    .. math:: -\mathbb{E} \log p(x | s) + \beta \sum_j KL(N(\mu_j, \sigma_j^2) \| N(0, 1)).

    A penalty on the total correlation makes the dimensions independent of each other
    (beta-TCVAE). Its weight is 0 by default.

    Parameters
    ----------
    n_components : int, default=32
        Number of dimensions of a code.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the encoder's hidden layers. The decoder mirrors them. Layers from the second on
        are residual.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation function of the hidden layers. LayerNorm normalises its input.
    likelihood : str or dict, default="auto"
        Distribution of the features, given a code.

        - "auto": "bernoulli" for bits and for images, which are shades of grey in [0, 1], many of
          them black or white. "gaussian" for all other data, whatever their unit.
        - "bernoulli": features in [0, 1].
        - "gaussian": real features. They are standardised, and share one learned noise level.
        - "multinomial", "poisson", "negative_binomial": counts, such as words or molecules. The
          decoder's output theta gives the means l softmax(theta), where l is the total of the
          sample. The encoder sees log(1 + x). "negative_binomial" also learns a dispersion for
          each feature.
        - "mixed": a table with several kinds of columns. Columns of zeros and ones are
          "bernoulli". All others are "gaussian", each with its own noise level.
        - dict: as "mixed", with the likelihood of some columns by name or position, such as
          ``{"age": "poisson"}``.
    encoder : nn.Module, recipe or None, default=None
        Body of the encoder, (n, n_features) -> (n, n_hidden). None: an MLP. A recipe, such as
        `bodies.ConvEncoder()`, builds a new body for every fit. If you pass a module, every
        fit trains a copy of it, starting from the weights that the module has.
    decoder : nn.Module, recipe or None, default=None
        Body of the decoder, (n, n_components) -> (n, n_hidden), as for `encoder`.
    kl_weight : float, default=1.0
        Weight beta of the divergence from the prior. 1 gives a VAE, a larger weight a beta-VAE.
    total_correlation_weight : float, default=0.0
        Weight of the total correlation of the codes, KL(q(s) || prod_j q(s_j)), estimated within
        each batch. The weight beta - 1 gives the beta-TCVAE. Time grows with the square of
        `batch_size`.
    max_epochs : int or "auto", default="auto"
        Passes over the training data. "auto": 20, or as many as make 600 gradient steps if that is
        more.
    batch_size : int, default=256
        Largest number of samples in a gradient step.
    learning_rate : float, default=0.016
        Peak learning rate of Adam. The rate rises over the first 5 % of training, and then falls
        to 0 along half a cosine.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples, and to stop once their loss has
        not fallen for `n_iter_no_change` epochs. `fit` keeps the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the samples that early stopping holds out, in (0, 1).
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends training.
    device : str, default="cpu"
        Device to compute on, by its name in torch ("cpu", "cuda", "cuda:1", "mps"). The suffix
        "+bfloat16" ("cuda+bfloat16") gives the networks' matrix products in training that
        precision, which is faster where the device supports it. The weights, the loss and
        everything after training stay float32.
    callbacks : list or None, default=None
        skorch callbacks. The history has a row for each epoch, not for each batch. `fit` refuses
        callbacks that schedule the learning rate, save, or score or show batches; the error says
        what to do instead. `EarlyStopping` needs ``monitor="train_loss"``, or "valid_loss" with
        `early_stopping`.
    rotation : {"auto", "varimax", "principal"} or None, default=None
        Rule for the axes of a fitted code. They turn within each set of dimensions that are
        active in the same samples.

        - "varimax": each dimension changes few features.
        - "principal": dimensions are uncorrelated, and the first ones vary most.
        - "auto": "principal" for the Bernoulli likelihood, that of images, else "varimax".
        - None: the axes stay as training leaves them.

        Reconstructions do not change. Scores change a little where the dimensions of a set are
        not equally certain. A decoder of your own must begin with a linear layer; with "auto",
        the axes stay as they are if it does not. `partial_fit` turns no axes.
    warm_start : bool, default=False
        Whether `fit` continues from the last fit instead of starting afresh.
    sparse_output : bool, default=False
        Whether `transform` returns a CSR array.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and noise. None: a new seed for each fit. No global
        random state is read or changed.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features. It exists only if X had column names that are all strings.
    n_iter_ : int
        Number of epochs trained, including those before a warm start. A chunk of `partial_fit`
        counts as one.
    stop_reason_ : str
        Why the last training ended: "max_epochs", "steps" (the 600 steps of "auto"),
        "early_stopping", "callback", "partial_fit", or "interrupted" (Ctrl-C).
    history_ : DataFrame
        Means of the loss and of each of its terms, in nats per sample, with a row for each epoch.
        After `partial_fit` it has a row for each of the last 1,000 chunks.
    generalization_ : DataFrame
        Terms of `history_` at the best epoch, on training and on held-out samples: columns
        "training" and "held_out". It is empty without `early_stopping`.
    likelihood_ : str
        Name of the model's likelihood: the parameter, or the choice of "auto".
    net_ : skorch.NeuralNet
        The net that was trained.
    module_ : torch.nn.Module
        The fitted model. No later training changes it.

    See Also
    --------
    VSCTransformer : Sparse codes, with exact zeros.
    ClassVSCTransformer : Sparse codes that the samples of a class share.

    References
    ----------
    Kingma, Welling: Auto-Encoding Variational Bayes, ICLR 2014.
    Higgins et al.: beta-VAE, ICLR 2017.
    Chen, Li, Grosse, Duvenaud: Isolating Sources of Disentanglement in Variational Autoencoders,
    NeurIPS 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VAETransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> vae = VAETransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (1797, 8)
    """

    gated = False

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **SpikeSlabTransformer._parameter_constraints,
        "total_correlation_weight": [WEIGHT],
    }

    def __init__(
        self,
        n_components: int = 32,
        *,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str | dict[Any, str] = "auto",
        encoder: nn.Module | Recipe | None = None,
        decoder: nn.Module | Recipe | None = None,
        kl_weight: float = 1.0,
        total_correlation_weight: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        learning_rate: float = 0.016,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str = "cpu",
        callbacks: list[Any] | None = None,
        rotation: str | None = None,
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
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            callbacks=callbacks,
            rotation=rotation,
            warm_start=warm_start,
            sparse_output=sparse_output,
            random_state=random_state,
            verbose=verbose,
        )
        self.total_correlation_weight = total_correlation_weight

    def _prior(self, given: FitData) -> dict[str, Any]:
        # The model needs an alpha of the right length. Without gates it is never used.
        return {"alpha": np.full(self.n_components, 0.5, np.float32), "prior_mean": 0.0}

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        assert self.kl_weight is not None
        return VAEObjective(self.kl_weight, self.total_correlation_weight)


class VSCTransformer(SpikeSlabTransformer):
    r"""Variational sparse coding (VSC): a VAE with a spike-and-slab prior, codes with exact zeros.

    A dimension is active with probability gamma(x), and exactly zero otherwise. Training
    minimises, per sample,

    .. math:: -\mathbb{E} \log p(x | z) + \sum_j \gamma_j KL(N(\mu_j, \sigma_j^2) \| N(0, 1))
              + \sum_j KL(Bern(\gamma_j) \| Bern(\alpha_j)),

    Over a batch, the last sum splits into two parts, each with its own weight. The *usage*
    compares how often a dimension is active with alpha. The *information* is what the active
    dimensions tell about the sample.

    ``prior="pseudo_inputs"`` learns the prior. The prior of a sample is then q(z | x_u), the
    posterior of one of a few learned inputs, which a learned selector picks. Training minimises,
    per sample,

    .. math:: -\mathbb{E} \log p(x | z) + KL(q(z | x) \| q(z | x_u))
              + J \, KL(Bern(\bar\gamma_u) \| Bern(\alpha)),

    where the mean of gamma over the dimensions lets alpha decide how many are active, but not
    which.

    Parameters
    ----------
    n_components : int, default=32
        Number of dimensions of a code.
    alpha : float or array-like of shape (n_components,), default=0.2
        Prior probability that a dimension is active, strictly between 0 and 1. For the learned
        prior it must be a number: the fraction of the dimensions that are active.
    threshold : float, default=0.5
        `transform` keeps the dimensions whose probability gamma is above this, in [0, 1).
    usage_weight : float or None, default=None
        Weight of the usage; for the learned prior, J. None: 1; for the learned prior,
        `n_components`.
    information_weight : float, default=1.0
        Weight of the information; for the learned prior, of the gates' whole divergence from it.
    warmup : float, default=0.0
        Fraction of training over which these two weights rise from 0. For the learned prior, the
        slabs come in instead: N(r mu, r sigma^2 + 1 - r), where r rises from 0 to 1.
    prior : {"fixed", "pseudo_inputs"}, default="fixed"
        "fixed": Bern(alpha) and N(0, 1) for every sample. "pseudo_inputs": the learned prior.
    n_pseudo_inputs : int, default=20
        Number of learned inputs of the learned prior.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the encoder's hidden layers. The decoder mirrors them. Layers from the second on
        are residual.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation function of the hidden layers. LayerNorm normalises its input.
    likelihood : str or dict, default="auto"
        Distribution of the features, given a code.

        - "auto": "bernoulli" for bits and for images, which are shades of grey in [0, 1], many of
          them black or white. "gaussian" for all other data, whatever their unit.
        - "bernoulli": features in [0, 1].
        - "gaussian": real features. They are standardised, and share one learned noise level.
        - "multinomial", "poisson", "negative_binomial": counts, such as words or molecules. The
          decoder's output theta gives the means l softmax(theta), where l is the total of the
          sample. The encoder sees log(1 + x). "negative_binomial" also learns a dispersion for
          each feature.
        - "mixed": a table with several kinds of columns. Columns of zeros and ones are
          "bernoulli". All others are "gaussian", each with its own noise level.
        - dict: as "mixed", with the likelihood of some columns by name or position, such as
          ``{"age": "poisson"}``.
    encoder : nn.Module, recipe or None, default=None
        Body of the encoder, (n, n_features) -> (n, n_hidden). None: an MLP. A recipe, such as
        `bodies.ConvEncoder()`, builds a new body for every fit. If you pass a module, every
        fit trains a copy of it, starting from the weights that the module has.
    decoder : nn.Module, recipe or None, default=None
        Body of the decoder, (n, n_components) -> (n, n_hidden), as for `encoder`.
    kl_weight : float, default=1.0
        Weight of the slabs' divergence from the prior.
    max_epochs : int or "auto", default="auto"
        Passes over the training data. "auto": 20, or as many as make 600 gradient steps if that is
        more.
    batch_size : int, default=256
        Largest number of samples in a gradient step.
    learning_rate : float, default=0.016
        Peak learning rate of Adam. The rate rises over the first 5 % of training, and then falls
        to 0 along half a cosine.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples, and to stop once their loss has
        not fallen for `n_iter_no_change` epochs. `fit` keeps the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the samples that early stopping holds out, in (0, 1).
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends training.
    device : str, default="cpu"
        Device to compute on, by its name in torch ("cpu", "cuda", "cuda:1", "mps"). The suffix
        "+bfloat16" ("cuda+bfloat16") gives the networks' matrix products in training that
        precision, which is faster where the device supports it. The weights, the loss and
        everything after training stay float32.
    callbacks : list or None, default=None
        skorch callbacks. The history has a row for each epoch, not for each batch. `fit` refuses
        callbacks that schedule the learning rate, save, or score or show batches; the error says
        what to do instead. `EarlyStopping` needs ``monitor="train_loss"``, or "valid_loss" with
        `early_stopping`.
    rotation : {"auto", "varimax", "principal"} or None, default=None
        Rule for the axes of a fitted code. They turn within each set of dimensions that are
        active in the same samples.

        - "varimax": each dimension changes few features.
        - "principal": dimensions are uncorrelated, and the first ones vary most.
        - "auto": "principal" for the Bernoulli likelihood, that of images, else "varimax".
        - None: the axes stay as training leaves them.

        Reconstructions do not change. Scores change a little where the dimensions of a set are
        not equally certain. A decoder of your own must begin with a linear layer; with "auto",
        the axes stay as they are if it does not. `partial_fit` turns no axes.
    warm_start : bool, default=False
        Whether `fit` continues from the last fit instead of starting afresh.
    sparse_output : bool, default=False
        Whether `transform` returns a CSR array.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and noise. None: a new seed for each fit. No global
        random state is read or changed.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features. It exists only if X had column names that are all strings.
    n_iter_ : int
        Number of epochs trained, including those before a warm start. A chunk of `partial_fit`
        counts as one.
    stop_reason_ : str
        Why the last training ended: "max_epochs", "steps" (the 600 steps of "auto"),
        "early_stopping", "callback", "partial_fit", or "interrupted" (Ctrl-C).
    history_ : DataFrame
        Means of the loss and of each of its terms, in nats per sample, with a row for each epoch.
        After `partial_fit` it has a row for each of the last 1,000 chunks.
    generalization_ : DataFrame
        Terms of `history_` at the best epoch, on training and on held-out samples: columns
        "training" and "held_out". It is empty without `early_stopping`.
    likelihood_ : str
        Name of the model's likelihood: the parameter, or the choice of "auto".
    net_ : skorch.NeuralNet
        The net that was trained.
    module_ : torch.nn.Module
        The fitted model. No later training changes it.

    See Also
    --------
    VAETransformer : Dense codes.
    ClassVSCTransformer : Sparse codes that the samples of a class share.

    References
    ----------
    Tonolini, Jensen, Murray-Smith: Variational Sparse Coding, UAI 2019.
    Tomczak, Welling: VAE with a VampPrior, AISTATS 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> X, _ = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> bool((vsc.transform(X) == 0).any())
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **SpikeSlabTransformer._parameter_constraints,
        "alpha": [Real, "array-like"],
        "threshold": [Interval(Real, 0, 1, closed="left")],
        "usage_weight": [WEIGHT, None],
        "information_weight": [WEIGHT],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "prior": [StrOptions({"fixed", "pseudo_inputs"})],
        "n_pseudo_inputs": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 32,
        *,
        alpha: float | ArrayLike = 0.2,
        threshold: float = 0.5,
        usage_weight: float | None = None,
        information_weight: float = 1.0,
        warmup: float = 0.0,
        prior: str = "fixed",
        n_pseudo_inputs: int = 20,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str | dict[Any, str] = "auto",
        encoder: nn.Module | Recipe | None = None,
        decoder: nn.Module | Recipe | None = None,
        kl_weight: float = 1.0,
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        learning_rate: float = 0.016,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str = "cpu",
        callbacks: list[Any] | None = None,
        rotation: str | None = None,
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
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            callbacks=callbacks,
            rotation=rotation,
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
        self.prior = prior
        self.n_pseudo_inputs = n_pseudo_inputs

    def _prior(self, given: FitData) -> dict[str, Any]:
        model = {"alpha": _check_alpha(self.alpha, self.n_components), "prior_mean": 0.0}
        if self.prior == "fixed":
            return model
        if np.ndim(self.alpha):
            raise ValueError(
                f"alpha has shape {np.shape(self.alpha)}, but prior='pseudo_inputs' learns which "
                "dimensions are active. Pass a number: alpha says only how many are."
            )
        return model | {"n_pseudo_inputs": int(self.n_pseudo_inputs)}

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        kl, information, warmup = self.kl_weight, self.information_weight, self.warmup
        assert kl is not None
        if module.pseudo_inputs is not None:  # after a change of the parameter too
            usage = default_to(self.n_components, self.usage_weight)
            return LearnedPriorObjective(kl, information, usage, warmup)
        return VSCObjective(kl, default_to(1.0, self.usage_weight), information, warmup)


class ClassVSCTransformer(SpikeSlabTransformer):
    r"""Class-consistent variational sparse coding: sparse codes that the samples of a class share.

    A dimension is *global* (active for nearly every class), *shared* by some classes, or
    *specific* to one class.

    By default, ``objective="cross_fitted"``, the gates follow the class:

    .. math:: \gamma_j(x) = \sum_c p(c | x) \pi_{cj},

    where pi_cj is the probability that dimension j is active in class c. Small classifiers learn
    p(c | x). Each learns from a part of the samples, and predicts for samples that it has not
    learned from. Codes of training samples therefore say no more about the class than codes of new
    samples do. Other terms of the loss give every class its dimensions, and make the classes
    differ in them. The page :doc:`/objective` describes every term.

    With the other two objectives, the gates are a head of the encoder, which learns the label of
    every training sample. ``objective="balanced"`` gives each part of the spike's divergence its
    own weight. ``objective="paper"`` minimises

    .. math:: L_{VSC} + \lambda L_{JSD},

    where L_JSD is the Jensen-Shannon divergence of the activation probabilities within each class.

    Parameters
    ----------
    n_components : int, default=32
        Number of dimensions of a code. For many classes, use at least 1.5 times their number.
    consistency_weight : float, default=3.0
        Weight lambda of the terms that make the samples of a class, and no others, share
        dimensions.
    consistency : {"centroid", "pairwise"}, default="centroid"
        Form of the paper's divergence: of samples from the mean of their class ("centroid"), or of
        pairs of samples ("pairwise"). Only ``objective="paper"`` uses it.
    objective : {"cross_fitted", "balanced", "paper"}, default="cross_fitted"
        The loss, and the source of the gates. A weight of None below takes the default of the
        objective.
    unlabeled : object, default=None
        The value in `y` that means "no label", in the type that it has there. None: every sample
        has a label. Leave it None for an indicator, where a row of zeros means "no label".
    alpha : float, array-like of shape (n_components,) or None, default=None
        Prior probability that a dimension is active, strictly between 0 and 1. The loss treats a
        dimension as global if its alpha exceeds one half ("paper" does not). None: 0.99 for 16 %
        of the dimensions, and max(1.2 / n_classes, 1.5 / m), at most 0.4, for the other m. With
        "paper", None means 0.2 for all. With "cross_fitted", where few factors explain the classes
        of a table of real numbers, None means what `fit` finds: as many global, shared and
        class-specific dimensions as there are factors. The others stay unused.
    threshold : float, default=0.5
        `transform` keeps the dimensions whose probability gamma is above this, in [0, 1).
    usage_weight : float or None, default=None
        Weight of the usage of each dimension. Half of it is the weight of the usage by each class.
        None: 1.2 divided by the mean alpha of the dimensions that are not global, at least 5. With
        "paper", None means 1.
    information_weight : float or None, default=None
        Weight of the term that concerns the class.

        - "cross_fitted": cross-entropy of the labels, against the prior of the classifiers'
          weights. None: 1.
        - "balanced": reward for gates that recognise the class. None: 50.
        - "paper": information, a part of the spike's divergence from the prior. None: 1.
    warmup : float, default=0.5
        Fraction of training over which `consistency_weight` rises from 0. With "balanced", the
        reward rises too.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the encoder's hidden layers. The decoder mirrors them. Layers from the second on
        are residual.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation function of the hidden layers. LayerNorm normalises its input.
    likelihood : str or dict, default="auto"
        Distribution of the features, given a code.

        - "auto": "bernoulli" for bits and for images, which are shades of grey in [0, 1], many of
          them black or white. "gaussian" for all other data, whatever their unit.
        - "bernoulli": features in [0, 1].
        - "gaussian": real features. They are standardised, and share one learned noise level.
        - "multinomial", "poisson", "negative_binomial": counts, such as words or molecules. The
          decoder's output theta gives the means l softmax(theta), where l is the total of the
          sample. The encoder sees log(1 + x). "negative_binomial" also learns a dispersion for
          each feature.
        - "mixed": a table with several kinds of columns. Columns of zeros and ones are
          "bernoulli". All others are "gaussian", each with its own noise level.
        - dict: as "mixed", with the likelihood of some columns by name or position, such as
          ``{"age": "poisson"}``.
    encoder : nn.Module, recipe or None, default=None
        Body of the encoder, (n, n_features) -> (n, n_hidden). None: an MLP. A recipe, such as
        `bodies.ConvEncoder()`, builds a new body for every fit. If you pass a module, every
        fit trains a copy of it, starting from the weights that the module has.
    decoder : nn.Module, recipe or None, default=None
        Body of the decoder, (n, n_components) -> (n, n_hidden), as for `encoder`.
    kl_weight : float or None, default=None
        Weight of the slabs' divergence from the prior. None: 0.2; 1 with "paper", and with
        "cross_fitted" for counts.
    max_epochs : int or "auto", default="auto"
        Passes over the training data. "auto": 20, or as many as make 600 gradient steps if that is
        more.
    batch_size : int, default=256
        Largest number of samples in a gradient step.
    learning_rate : float, default=0.016
        Peak learning rate of Adam. The rate rises over the first 5 % of training, and then falls
        to 0 along half a cosine.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples, and to stop once their loss has
        not fallen for `n_iter_no_change` epochs. `fit` keeps the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the samples that early stopping holds out, in (0, 1).
    n_iter_no_change : int, default=10
        Number of epochs without improvement after which early stopping ends training.
    device : str, default="cpu"
        Device to compute on, by its name in torch ("cpu", "cuda", "cuda:1", "mps"). The suffix
        "+bfloat16" ("cuda+bfloat16") gives the networks' matrix products in training that
        precision, which is faster where the device supports it. The weights, the loss and
        everything after training stay float32.
    callbacks : list or None, default=None
        skorch callbacks. The history has a row for each epoch, not for each batch. `fit` refuses
        callbacks that schedule the learning rate, save, or score or show batches; the error says
        what to do instead. `EarlyStopping` needs ``monitor="train_loss"``, or "valid_loss" with
        `early_stopping`.
    rotation : {"auto", "varimax", "principal"} or None, default="auto"
        Rule for the axes of a fitted code. They turn within each set of dimensions that are
        active in the same samples.

        - "varimax": each dimension changes few features.
        - "principal": dimensions are uncorrelated within the classes, and the first ones vary
          most.
        - "auto": "principal" for the Bernoulli likelihood, that of images, else "varimax".
        - None: the axes stay as training leaves them.

        Reconstructions do not change. Scores change a little where the dimensions of a set are
        not equally certain. A decoder of your own must begin with a linear layer; with "auto",
        the axes stay as they are if it does not. `partial_fit` turns no axes.
    warm_start : bool, default=False
        Whether `fit` continues from the last fit instead of starting afresh.
    sparse_output : bool, default=False
        Whether `transform` returns a CSR array.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and noise. None: a new seed for each fit. No global
        random state is read or changed.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted. For an indicator, the names or numbers of its columns.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features. It exists only if X had column names that are all strings.
    n_iter_ : int
        Number of epochs trained, including those before a warm start. A chunk of `partial_fit`
        counts as one.
    stop_reason_ : str
        Why the last training ended: "max_epochs", "steps" (the 600 steps of "auto"),
        "early_stopping", "callback", "partial_fit", or "interrupted" (Ctrl-C).
    history_ : DataFrame
        Means of the loss and of each of its terms, in nats per sample, with a row for each epoch.
        After `partial_fit` it has a row for each of the last 1,000 chunks. With "cross_fitted",
        the column "held_out_recognition" is not part of the loss. It is the cross-entropy of the
        labels by the classifiers that have not learned them.
    generalization_ : DataFrame
        Terms of `history_` at the best epoch, on training and on held-out samples: columns
        "training" and "held_out". Without `early_stopping`, it has only the row "recognition", and
        only with "cross_fitted".
    likelihood_ : str
        Name of the model's likelihood: the parameter, or the choice of "auto".
    net_ : skorch.NeuralNet
        The net that was trained.
    module_ : torch.nn.Module
        The fitted model. No later training changes it.

    Warns
    -----
    CollapseWarning
        By `fit`, if no dimension is much more active in one class than in another, if a class
        activates no dimension or has no labeled sample, or if more than a fifth of the dimensions
        are unused.
    GeneralizationWarning
        By `fit`, if the gates tell the classes of held-out samples apart no better than chance, or
        far worse than those of the samples that they learned from.

    See Also
    --------
    VSCTransformer : Sparse codes without labels.
    factor_stability : Which dimensions refits with other seeds find again.
    sklearn_classvsc.metrics : Measures of codes.

    References
    ----------
    Sangari Abiz, Hosseini, Araabi: Enhancing Interpretability of Sparse Latent Representations
    with Class Information, arXiv 2505.14476.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import ClassVSCTransformer
    >>> from sklearn_classvsc.metrics import class_contrast_score
    >>> X, y = load_iris(return_X_y=True)
    >>> est = ClassVSCTransformer(n_components=6, max_epochs=200, random_state=0).fit(X, y)
    >>> class_contrast_score(est.transform(X), y) > 0.5
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **SpikeSlabTransformer._parameter_constraints,
        "threshold": VSCTransformer._parameter_constraints["threshold"],
        "warmup": VSCTransformer._parameter_constraints["warmup"],
        "consistency_weight": [WEIGHT],
        "consistency": [StrOptions({"centroid", "pairwise"})],
        "objective": [StrOptions({"cross_fitted", "balanced", "paper"})],
        "unlabeled": "no_validation",
        "alpha": [Real, "array-like", None],
        "usage_weight": [WEIGHT, None],
        "information_weight": [WEIGHT, None],
        "kl_weight": [WEIGHT, None],
    }

    def __init__(
        self,
        n_components: int = 32,
        *,
        consistency_weight: float = 3.0,
        consistency: str = "centroid",
        objective: str = "cross_fitted",
        unlabeled: Any = None,
        alpha: float | ArrayLike | None = None,
        threshold: float = 0.5,
        usage_weight: float | None = None,
        information_weight: float | None = None,
        warmup: float = 0.5,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str | dict[Any, str] = "auto",
        encoder: nn.Module | Recipe | None = None,
        decoder: nn.Module | Recipe | None = None,
        kl_weight: float | None = None,
        max_epochs: int | str = "auto",
        batch_size: int = 256,
        learning_rate: float = 0.016,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        device: str = "cpu",
        callbacks: list[Any] | None = None,
        rotation: str | None = "auto",
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
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            callbacks=callbacks,
            rotation=rotation,
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
        self.consistency_weight = consistency_weight
        self.consistency = consistency
        self.objective = objective
        self.unlabeled = unlabeled

    def _prior(self, given: FitData) -> dict[str, Any]:
        assert given.labels is not None
        paper, alpha, n_classes = self.objective == "paper", self.alpha, len(given.labels.classes)
        if alpha is None:
            alpha = 0.2 if paper else role_alpha(self.n_components, n_classes)
        prior: dict[str, Any] = {
            "alpha": _check_alpha(alpha, self.n_components),
            # Slabs away from 0 let a linear model see from z whether a dimension is active.
            "prior_mean": {"paper": 0.0, "balanced": 2.0, "cross_fitted": 3.0}[self.objective],
            # Hidden features keep gates that are a head of the encoder from memorising the class.
            # For incomplete samples they teach the encoder to infer what is missing.
            "input_dropout": {"balanced": 0.1, "cross_fitted": 0.2 * given.data.incomplete}.get(
                self.objective, 0.0
            ),
            "n_classes": n_classes,
        }
        if self.objective == "cross_fitted":
            multilabel = isinstance(given.labels, LabelSets)
            of = len(given.data), given.header.n_features_in_, n_classes, multilabel
            prior["cross_fit"] = cross_fit_sizes(*of, given.data.repeats())
        return prior

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        kl, usage, information = self.kl_weight, self.usage_weight, self.information_weight
        weight, warmup = self.consistency_weight, self.warmup
        if (self.objective == "cross_fitted") != (module.gates is not None):
            has = "have not" if module.gates is None else "have"
            raise ValueError(
                f"objective={self.objective!r} cannot continue from a model whose gates {has} been "
                "cross-fitted. Set the objective back, or fit afresh with warm_start=False."
            )
        if module.gates is not None:
            kl = default_to(1.0 if module.likelihood.counts else 0.2, kl)
            information = default_to(1.0, information)
            of = module.alpha, weight, kl, usage, information, warmup, len(module.gates.second)
            return CrossFittedObjective(*of)
        if self.objective == "balanced":
            kl, information = default_to(0.2, kl), default_to(50.0, information)
            return BalancedObjective(module.alpha, weight, kl, usage, information, warmup)
        kl, usage, information = (default_to(1.0, each) for each in (kl, usage, information))
        return PaperObjective(weight, self.consistency, kl, usage, information, warmup)

    def _learn_labels(self, y: NDArray[Any] | Indicator, classes: Any) -> Labels | LabelSets:
        if not isinstance(y, Indicator):
            return Labels.learn(y, self.unlabeled, classes)
        if self.objective == "paper" and self.consistency == "pairwise":
            raise one_label_only("consistency", self.consistency, y)
        return LabelSets.learn(y, self.unlabeled, classes)

    def _finds_factors(self) -> bool:
        return self.objective == "cross_fitted" and self.alpha is None

    classes_ = Published(lambda fitted: _classes(fitted.model))

    def labels_of(self, y: ArrayLike) -> NDArray[Any]:
        """Return labels as an array, checked as in `fit`.

        The functions of `metrics` take such arrays.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator of several labels.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The labels; for an indicator, zeros and ones.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `y` is neither labels nor an indicator.
        """
        self._now()
        with prefix_errors("y", y):
            checked = check_y(y)
        return checked.members.astype(np.int8) if isinstance(checked, Indicator) else checked

    def _has_label(self, y: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which samples have a label, (n,), for `labels.labeled_rows`."""
        return has_label(y, self.unlabeled)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train for one pass over a chunk of labeled data, at a constant learning rate.

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
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels, which are required. A sample without a label has the value `unlabeled`, or
            zeros in an indicator.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that will ever come. The first call needs them unless its `y` holds them
            all. For an indicator, the names of the columns.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples. None means 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or `y` holds a label that the first call did not
            name.
        FloatingPointError
            If the loss stops being finite. After this and any other error, the estimator is as it
            was before the call, even if the error occurs in a later piece of a source.
        KeyboardInterrupt
            After Ctrl-C. If a piece of a source was finished, the estimator is as it was after the
            last step. Otherwise it is as it was before the call.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def sample(self, n_samples: int = 1, y: Any = None) -> NDArray[Any]:
        """Draw new samples from the prior or from one class.

        In the codes of a class, each dimension is active as often, and as strongly, as in the
        training samples of the class. Dimensions are drawn independently.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples, at least 1.
        y : object, default=None
            One of `classes_`. None draws from the prior.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of p(x | z), without observation noise.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `n_samples` is below 1, or if `y` is not a class or is a class without labeled
            samples.
        """
        if y is None:
            return super().sample(n_samples)

        def moments(model: Model) -> CodeMoments:
            assert model.labels is not None and model.summary is not None
            c = position(model.labels.classes, y)
            if c is None:
                raise ValueError(
                    f"y={brief(y)} is not a class that the estimator knows. Pass one of "
                    f"{brief(model.labels.classes)}."
                )
            if not model.summary.n_samples[c]:
                raise ValueError(
                    f"y={brief(y)} is a class without labeled samples, so there is nothing to draw "
                    "from. Fit samples of this class, or draw from the prior with y=None."
                )
            return CodeMoments(*model.summary.moments(c))

        return self._sample(n_samples, moments)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def role_alpha(n_components: int, n_classes: int) -> NDArray[np.float64]:
    """Return the default alpha: 0.99 for 16 % of the dimensions, a lower one for the others."""
    n_global = round(0.16 * n_components)
    n_specific = n_components - n_global
    specific = min(0.4, max(1.2 / n_classes, 1.5 / n_specific))
    return np.repeat([0.99, specific], [n_global, n_specific])


def _check_alpha(alpha: Any, n_components: int) -> NDArray[np.float32]:
    """Return alpha as one checked value for each dimension, (d,)."""
    alpha = np.asarray(alpha, dtype=np.float32)
    if alpha.shape not in {(), (n_components,)}:
        raise ValueError(
            f"alpha has shape {alpha.shape}, but must be a number or hold one for each of the "
            f"n_components={n_components} dimensions."
        )
    outside = alpha[~((alpha > 0) & (alpha < 1))]
    if outside.size:
        raise ValueError(
            f"alpha={float(outside.flat[0]):g} must lie strictly between 0 and 1: "
            "it is the prior probability that a dimension is active."
        )
    return np.broadcast_to(alpha, n_components).copy()


def default_to(default: float, value: float | None) -> float:
    """Return `value`, or `default` where it is None."""
    return default if value is None else value


def _classes(model: Model) -> NDArray[Any]:
    assert model.labels is not None
    return model.labels.classes
