"""Room 12: the three transformers, siblings: parameters, prior and loss."""

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

    Minimises, per sample, with s ~ N(mu, sigma^2) from the encoder and beta = `kl_weight`,

    .. math:: -\mathbb{E} \log p(x | s) + \beta \sum_j KL(N(\mu_j, \sigma_j^2) \| N(0, 1)).

    One more weight, 0 by default, asks for dimensions that go each its own way: beta-TCVAE, by
    their total correlation.

    Parameters
    ----------
    n_components : int, default=32
        Number d of latent dimensions.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the encoder's hidden layers, from the second on residual; the decoder mirrors
        them.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the hidden layers, each normalised by LayerNorm before it.
    likelihood : str or dict, default="auto"
        "bernoulli" is for features in [0, 1]. "gaussian" standardises the features and learns one
        noise level. "mixed" takes columns of zeros and ones for "bernoulli" ones, and the others
        for "gaussian" ones, with a noise level each; a dict names the likelihood of some columns
        of a mixed table, by name or place. "auto" chooses "bernoulli" for bits, and for images:
        shades of grey in [0, 1], many of them black or white. It chooses "gaussian" for all else,
        in whatever unit X is.
        "multinomial", "poisson" and "negative_binomial", which learns one dispersion for each
        feature, are for counts, such as words or molecules. Their means are l softmax(theta),
        where l is the total of the sample, and the encoder sees log(1 + x).
    encoder : nn.Module, recipe or None, default=None
        Body of the encoder, (n, n_features) -> (n, n_hidden), in place of the MLP. A recipe, such
        as `bodies.ConvEncoder()`, builds one for every fit; of a module of your own, every fit
        starts from a copy, with its weights as they are.
    decoder : nn.Module, recipe or None, default=None
        Body of the decoder, (n, n_components) -> (n, n_hidden), likewise.
    kl_weight : float, default=1.0
        Weight beta of the divergence from the prior; 1 is the VAE, more the beta-VAE.
    total_correlation_weight : float, default=0.0
        Weight of the total correlation of the codes, KL(q(s) || prod_j q(s_j)), estimated within
        each batch: beta - 1 makes the beta-TCVAE. Time grows with the square of `batch_size`.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto": 20, or as many as make 600 gradient steps if that is more.
    batch_size : int, default=256
        Largest number of samples in a gradient step.
    learning_rate : float, default=0.016
        Peak learning rate of Adam, which rises over the first 5 % of training and then falls to 0
        by half a cosine.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the samples, stop once their loss has not fallen for
        `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the samples held out by early stopping, in (0, 1).
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    device : str, default="cpu"
        Where to compute, as torch names it ("cpu", "cuda", "cuda:1", "mps"). With "+bfloat16"
        behind it ("cuda+bfloat16"), the networks' matrix products in training have that precision:
        faster where the device has it. The weights, the loss and all that is done after training
        stay float32.
    callbacks : list or None, default=None
        skorch callbacks. History is recorded per epoch, not per batch. Those that schedule the
        learning rate, score batches, save, or show batches cannot work: `fit` refuses them, and
        says what to do instead. `EarlyStopping` needs ``monitor="train_loss"``, or "valid_loss"
        with `early_stopping`.
    rotation : {"auto", "varimax", "principal"} or None, default=None
        Axes that a fitted code is turned to, within each set of dimensions that the same samples
        have. "varimax" asks that a dimension change few features. "principal" asks that
        dimensions be uncorrelated within the classes, the first with the largest variance. "auto"
        is "principal" for the Bernoulli likelihood, that of images, and else "varimax". None
        leaves the axes as training leaves them. Reconstructions do not change; scores do a little
        where the dimensions of a set are not equally certain.
    warm_start : bool, default=False
        Let `fit` continue from the last fit instead of starting afresh.
    sparse_output : bool, default=False
        Let `transform` return a CSR array.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and noise. None: a new one at each fit. No global
        random state is read or changed.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only there if X had column names that are all strings.
    n_iter_ : int
        Epochs trained, those before a warm start included; a chunk of `partial_fit` counts as one.
    stop_reason_ : str
        What ended the last training: "max_epochs", "steps" (the 600 steps of "auto"),
        "early_stopping", "callback" or "partial_fit"; "interrupted" after Ctrl-C.
    history_ : DataFrame
        Mean of the loss and of each of its terms in each epoch, in nats per sample. After
        `partial_fit` it has the last 1,000 chunks.
    generalization_ : DataFrame
        Terms of `history_` that are known of training and of held-out samples alike, at the best
        epoch: columns "training" and "held_out". `early_stopping` holds samples out.
    likelihood_ : str
        Name of the model's likelihood: the parameter, or what "auto" chose.
    net_ : skorch.NeuralNet
        The net that was trained.
    module_ : torch.nn.Module
        The fitted model, a copy that no later training changes.

    See Also
    --------
    VSCTransformer : The same with codes that have exact zeros.
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
        # Without gates alpha is never used; the model still has one, of the right length.
        return {"alpha": np.full(self.n_components, 0.5, np.float32), "prior_mean": 0.0}

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        assert self.kl_weight is not None
        return VAEObjective(self.kl_weight, self.total_correlation_weight)


class VSCTransformer(SpikeSlabTransformer):
    r"""Variational sparse coding (VSC): a VAE with a spike-and-slab prior, codes with exact zeros.

    Each dimension is on with probability gamma(x), and zero otherwise. Minimises, per sample,

    .. math:: -\mathbb{E} \log p(x | z) + \sum_j \gamma_j KL(N(\mu_j, \sigma_j^2) \| N(0, 1))
              + \sum_j KL(Bern(\gamma_j) \| Bern(\alpha_j)),

    the last sum split, over a batch, into usage (is a dimension on as often as alpha says?) and
    information (what does its being on tell about the sample?), which can be weighted apart.

    With ``prior="pseudo_inputs"`` the prior of a sample is q(z | x_u), the posterior of one of a
    few learned inputs, which a selector, learned too, names for it. Minimises, per sample,

    .. math:: -\mathbb{E} \log p(x | z) + KL(q(z | x) \| q(z | x_u))
              + J \, KL(Bern(\bar\gamma_u) \| Bern(\alpha)),

    where the mean over dimensions lets alpha decide how many are on, but not which.

    Parameters
    ----------
    n_components : int, default=32
        Number d of latent dimensions.
    alpha : float or array-like of shape (n_components,), default=0.2
        Prior probability of a dimension to be on, strictly between 0 and 1. Of the learned prior
        a number, the fraction of the dimensions to be on.
    threshold : float, default=0.5
        `transform` keeps the dimensions with gamma above this, in [0, 1).
    usage_weight : float or None, default=None
        Weight of the usage; J of the learned prior. None: 1, and n_components for the learned
        prior.
    information_weight : float, default=1.0
        Weight of the information; of the learned prior, of the gates' whole divergence from it.
    warmup : float, default=0.0
        Fraction of training over which these two weights rise from 0. With the learned prior,
        over which the slabs come in: N(r mu, r sigma^2 + 1 - r), r rising from 0 to 1.
    prior : {"fixed", "pseudo_inputs"}, default="fixed"
        "fixed": Bern(alpha) and N(0, 1) for every sample. "pseudo_inputs": the learned prior.
    n_pseudo_inputs : int, default=20
        Number of learned inputs of the learned prior.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the encoder's hidden layers, from the second on residual; the decoder mirrors
        them.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the hidden layers, each normalised by LayerNorm before it.
    likelihood : str or dict, default="auto"
        "bernoulli" is for features in [0, 1]. "gaussian" standardises the features and learns one
        noise level. "mixed" takes columns of zeros and ones for "bernoulli" ones, and the others
        for "gaussian" ones, with a noise level each; a dict names the likelihood of some columns
        of a mixed table, by name or place. "auto" chooses "bernoulli" for bits, and for images:
        shades of grey in [0, 1], many of them black or white. It chooses "gaussian" for all else,
        in whatever unit X is.
        "multinomial", "poisson" and "negative_binomial", which learns one dispersion for each
        feature, are for counts, such as words or molecules. Their means are l softmax(theta),
        where l is the total of the sample, and the encoder sees log(1 + x).
    encoder : nn.Module, recipe or None, default=None
        Body of the encoder, (n, n_features) -> (n, n_hidden), in place of the MLP. A recipe, such
        as `bodies.ConvEncoder()`, builds one for every fit; of a module of your own, every fit
        starts from a copy, with its weights as they are.
    decoder : nn.Module, recipe or None, default=None
        Body of the decoder, (n, n_components) -> (n, n_hidden), likewise.
    kl_weight : float, default=1.0
        Weight of the slabs' divergence from the prior.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto": 20, or as many as make 600 gradient steps if that is more.
    batch_size : int, default=256
        Largest number of samples in a gradient step.
    learning_rate : float, default=0.016
        Peak learning rate of Adam, which rises over the first 5 % of training and then falls to 0
        by half a cosine.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the samples, stop once their loss has not fallen for
        `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the samples held out by early stopping, in (0, 1).
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    device : str, default="cpu"
        Where to compute, as torch names it ("cpu", "cuda", "cuda:1", "mps"). With "+bfloat16"
        behind it ("cuda+bfloat16"), the networks' matrix products in training have that precision:
        faster where the device has it. The weights, the loss and all that is done after training
        stay float32.
    callbacks : list or None, default=None
        skorch callbacks. History is recorded per epoch, not per batch. Those that schedule the
        learning rate, score batches, save, or show batches cannot work: `fit` refuses them, and
        says what to do instead. `EarlyStopping` needs ``monitor="train_loss"``, or "valid_loss"
        with `early_stopping`.
    rotation : {"auto", "varimax", "principal"} or None, default=None
        Axes that a fitted code is turned to, within each set of dimensions that the same samples
        have. "varimax" asks that a dimension change few features. "principal" asks that
        dimensions be uncorrelated within the classes, the first with the largest variance. "auto"
        is "principal" for the Bernoulli likelihood, that of images, and else "varimax". None
        leaves the axes as training leaves them. Reconstructions do not change; scores do a little
        where the dimensions of a set are not equally certain.
    warm_start : bool, default=False
        Let `fit` continue from the last fit instead of starting afresh.
    sparse_output : bool, default=False
        Let `transform` return a CSR array.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and noise. None: a new one at each fit. No global
        random state is read or changed.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only there if X had column names that are all strings.
    n_iter_ : int
        Epochs trained, those before a warm start included; a chunk of `partial_fit` counts as one.
    stop_reason_ : str
        What ended the last training: "max_epochs", "steps" (the 600 steps of "auto"),
        "early_stopping", "callback" or "partial_fit"; "interrupted" after Ctrl-C.
    history_ : DataFrame
        Mean of the loss and of each of its terms in each epoch, in nats per sample. After
        `partial_fit` it has the last 1,000 chunks.
    generalization_ : DataFrame
        Terms of `history_` that are known of training and of held-out samples alike, at the best
        epoch: columns "training" and "held_out". `early_stopping` holds samples out.
    likelihood_ : str
        Name of the model's likelihood: the parameter, or what "auto" chose.
    net_ : skorch.NeuralNet
        The net that was trained.
    module_ : torch.nn.Module
        The fitted model, a copy that no later training changes.

    See Also
    --------
    VAETransformer : Without the spike: dense codes.
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
                "dimensions are on, and alpha says only how many: pass a number."
            )
        return model | {"n_pseudo_inputs": int(self.n_pseudo_inputs)}

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        kl, information, warmup = self.kl_weight, self.information_weight, self.warmup
        assert kl is not None
        if module.pseudo_inputs is not None:  # a model keeps the prior that it was built with
            usage = default_to(self.n_components, self.usage_weight)
            return LearnedPriorObjective(kl, information, usage, warmup)
        return VSCObjective(kl, default_to(1.0, self.usage_weight), information, warmup)


class ClassVSCTransformer(SpikeSlabTransformer):
    r"""Class-consistent variational sparse coding: sparse codes that the samples of a class share.

    Each latent dimension reads as a factor: a *global* one, active for every class; one *shared*
    by some classes; or one *specific* to a class.

    By default, ``objective="cross_fitted"``, gates follow the class:

    .. math:: \gamma_j(x) = \sum_c p(c | x) \pi_{cj},

    where pi_cj says how often dimension j is on in class c. Small classifiers learn p(c | x), each
    from a part of the samples, and each speaks for samples that it has not learned from. Codes of
    training samples therefore say no more about the class than those of new samples do. Other
    terms leave no class without dimensions, and let classes differ in them; see
    `sklearn_classvsc._objective.CrossFittedObjective` for each.

    In the other two objectives the gates are a head of the encoder, which learns the label of
    every training sample. ``objective="balanced"``, the default of before, gives each part of the
    spike's divergence a weight of its own; see `sklearn_classvsc._objective.BalancedObjective`.
    ``objective="paper"`` is

    .. math:: L_{VSC} + \lambda L_{JSD}

    with the Jensen-Shannon divergence of the activation probabilities within each class.

    Parameters
    ----------
    n_components : int, default=32
        Number d of latent dimensions. With many classes, at least 1.5 times as many.
    consistency_weight : float, default=3.0
        Weight lambda of all that makes the samples of a class, and no others, share dimensions.
    consistency : {"centroid", "pairwise"}, default="centroid"
        Form of the paper's divergence: of the samples from their class, or of pairs of samples.
        Used by ``objective="paper"``.
    objective : {"cross_fitted", "balanced", "paper"}, default="cross_fitted"
        The loss, and where gates come from. None in a weight below stands for the objective's own.
    unlabeled : object, default=None
        The value in `y` that means "no label", in the type that it has there; None: every sample
        has one. In an indicator, a row of zeros means it.
    alpha : float, array-like of shape (n_components,) or None, default=None
        Prior probability of a dimension to be on, strictly between 0 and 1. A dimension is global
        if its alpha exceeds one half, but for the paper. None: 0.99 for 16 % of the dimensions
        and, for the others, max(1.2 / n_classes, 1.5 / their number) but at most 0.4; for the
        paper 0.2 for all. Under "cross_fitted", where few factors explain the classes of a table
        of real numbers, None means what `fit` finds: as many global, shared and class-specific
        dimensions as there are factors. The others stay unused.
    threshold : float, default=0.5
        `transform` keeps the dimensions with gamma above this, in [0, 1).
    usage_weight : float or None, default=None
        Weight of the usage of the dimensions, and half of it that of the classes' usage. None:
        1.2 over the mean alpha of the dimensions that are not global, at least 5; for the paper 1.
    information_weight : float or None, default=None
        Weight of what tells the class. Under "cross_fitted" it is that of the labels against the
        prior of the classifiers' weights (None: 1). Under "balanced" it is that of a reward for
        gates that recognise the class (None: 50). For the paper it is that of a part of the
        divergence from the prior (None: 1).
    warmup : float, default=0.5
        Fraction of training over which `consistency_weight` rises from 0, and under "balanced" the
        reward too.
    hidden_layer_sizes : array-like of int, default=(256,)
        Widths of the encoder's hidden layers, from the second on residual; the decoder mirrors
        them.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of the hidden layers, each normalised by LayerNorm before it.
    likelihood : str or dict, default="auto"
        "bernoulli" is for features in [0, 1]. "gaussian" standardises the features and learns one
        noise level. "mixed" takes columns of zeros and ones for "bernoulli" ones, and the others
        for "gaussian" ones, with a noise level each; a dict names the likelihood of some columns
        of a mixed table, by name or place. "auto" chooses "bernoulli" for bits, and for images:
        shades of grey in [0, 1], many of them black or white. It chooses "gaussian" for all else,
        in whatever unit X is.
        "multinomial", "poisson" and "negative_binomial", which learns one dispersion for each
        feature, are for counts, such as words or molecules. Their means are l softmax(theta),
        where l is the total of the sample, and the encoder sees log(1 + x).
    encoder : nn.Module, recipe or None, default=None
        Body of the encoder, (n, n_features) -> (n, n_hidden), in place of the MLP. A recipe, such
        as `bodies.ConvEncoder()`, builds one for every fit; of a module of your own, every fit
        starts from a copy, with its weights as they are.
    decoder : nn.Module, recipe or None, default=None
        Body of the decoder, (n, n_components) -> (n, n_hidden), likewise.
    kl_weight : float or None, default=None
        Weight of the slabs' divergence from the prior. None: 0.2, but 1 for counts and for
        the paper.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto": 20, or as many as make 600 gradient steps if that is more.
    batch_size : int, default=256
        Largest number of samples in a gradient step.
    learning_rate : float, default=0.016
        Peak learning rate of Adam, which rises over the first 5 % of training and then falls to 0
        by half a cosine.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the samples, stop once their loss has not fallen for
        `n_iter_no_change` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Fraction of the samples held out by early stopping, in (0, 1).
    n_iter_no_change : int, default=10
        Patience of early stopping, in epochs.
    device : str, default="cpu"
        Where to compute, as torch names it ("cpu", "cuda", "cuda:1", "mps"). With "+bfloat16"
        behind it ("cuda+bfloat16"), the networks' matrix products in training have that precision:
        faster where the device has it. The weights, the loss and all that is done after training
        stay float32.
    callbacks : list or None, default=None
        skorch callbacks. History is recorded per epoch, not per batch. Those that schedule the
        learning rate, score batches, save, or show batches cannot work: `fit` refuses them, and
        says what to do instead. `EarlyStopping` needs ``monitor="train_loss"``, or "valid_loss"
        with `early_stopping`.
    rotation : {"auto", "varimax", "principal"} or None, default="auto"
        Axes that a fitted code is turned to, within each set of dimensions that the same samples
        have. "varimax" asks that a dimension change few features. "principal" asks that
        dimensions be uncorrelated within the classes, the first with the largest variance. "auto"
        is "principal" for the Bernoulli likelihood, that of images, and else "varimax". None
        leaves the axes as training leaves them. Reconstructions do not change; scores do a little.
        A decoder of your own is turned if it begins with a linear layer; `partial_fit` turns
        nothing.
    warm_start : bool, default=False
        Let `fit` continue from the last fit instead of starting afresh.
    sparse_output : bool, default=False
        Let `transform` return a CSR array.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, shuffling and noise. None: a new one at each fit. No global
        random state is read or changed.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted; of an indicator the names or numbers of its columns.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only there if X had column names that are all strings.
    n_iter_ : int
        Epochs trained, those before a warm start included; a chunk of `partial_fit` counts as one.
    stop_reason_ : str
        What ended the last training: "max_epochs", "steps" (the 600 steps of "auto"),
        "early_stopping", "callback" or "partial_fit"; "interrupted" after Ctrl-C.
    history_ : DataFrame
        Mean of the loss and of each of its terms in each epoch, in nats per sample. Under
        "cross_fitted", "held_out_recognition" is no part of the loss: it is the cross-entropy of
        labels by the classifiers that have not learned them. After `partial_fit` the history has
        the last 1,000 chunks.
    generalization_ : DataFrame
        Terms of `history_` that are known of training and of held-out samples alike, at the best
        epoch: columns "training" and "held_out". `early_stopping` holds samples out.
    likelihood_ : str
        Name of the model's likelihood: the parameter, or what "auto" chose.
    net_ : skorch.NeuralNet
        The net that was trained.
    module_ : torch.nn.Module
        The fitted model, a copy that no later training changes.

    Warns
    -----
    CollapseWarning
        By `fit`, if the classes share everything, a class has no active dimension or no labeled
        sample, or more than a tenth of the dimensions are unused.
    GeneralizationWarning
        By `fit`, if the gates tell the classes of held-out samples no better than chance, or far
        worse than those that they learned from.

    See Also
    --------
    VSCTransformer : The same without labels.
    sklearn_classvsc.metrics : What to judge the codes by.

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
    >>> est = ClassVSCTransformer(n_components=8, max_epochs=600, random_state=0).fit(X, y)
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
            # Slabs away from 0 let a linear model see from z whether a dimension is on.
            "prior_mean": {"paper": 0.0, "balanced": 2.0, "cross_fitted": 3.0}[self.objective],
            # Gates that are a head of the encoder must recognise a class, and hiding features keeps
            # them from memorising it. Codes of incomplete samples must tell what is missing, and
            # hiding more of them teaches the encoder to.
            "input_dropout": {"balanced": 0.1, "cross_fitted": 0.2 * given.data.incomplete}.get(
                self.objective, 0.0
            ),
            "n_classes": n_classes,
        }
        if self.objective == "cross_fitted":
            several = isinstance(given.labels, LabelSets)
            of = len(given.data), given.header.n_features_in_, n_classes, several
            prior["cross_fit"] = cross_fit_sizes(*of, given.data.repeats())
        return prior

    def _objective(self, module: SpikeSlabAutoencoder) -> Objective:
        kl, usage, information = self.kl_weight, self.usage_weight, self.information_weight
        weight, warmup = self.consistency_weight, self.warmup
        if (self.objective == "cross_fitted") != (module.gates is not None):
            has = "have not" if module.gates is None else "have"
            raise ValueError(
                f"objective={self.objective!r} cannot go on from a model whose gates {has} been "
                "cross-fitted: fit afresh, with warm_start=False, or set the objective back."
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
        """Return labels as `fit` reads them: checked, as an array.

        For `metrics` and the like, which take arrays.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or an indicator of them.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The labels; of an indicator 0 and 1.
        """
        self._now()
        with prefix_errors("y", y):
            checked = check_y(y)
        return checked.members.astype(np.int8) if isinstance(checked, Indicator) else checked

    def _has_label(self, y: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which labels are one, (n,); `labels.labeled_rows` asks for it."""
        return has_label(y, self.unlabeled)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train for one pass over a chunk of labeled data, at a constant learning rate.

        The first call builds the model: its chunk decides what `likelihood="auto"` means and, of
        counts, the total of decoded samples. The scales of the features follow the chunks up to
        the first 1,000 samples, and then stay. A feature that is constant until then gets its
        scale from the first chunk in which it varies. A warning tells of later chunks far outside
        these scales. Weights that rise reach their value with the fraction `warmup` of 600
        steps.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features), or a source
            Samples, see `fit`. The pieces of a source are taken one after the other. The first
            chunk needs a value of each feature.
        y : array-like of shape (n_samples,) or (n_samples, n_labels), default=None
            Labels, required; `unlabeled`, or in an indicator zeros, where there is none.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that will ever come, needed at the first call unless its `y` has them all.
            For an indicator, the names of the columns.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples; None means 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument is not as described, or `y` has a label that the first call did not
            name.
        FloatingPointError
            If the loss stops being finite. After this and any other error, also in a later piece
            of a source, the estimator is as it was before the call.
        KeyboardInterrupt
            After Ctrl-C. The estimator is then as after the last step if a piece of a source was
            finished, otherwise as it was before the call.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def sample(self, n_samples: int = 1, y: Any = None) -> NDArray[Any]:
        """Draw new samples, of the prior or of one class.

        A class's codes have each dimension on as often, and as strong, as in its training
        samples; dimensions are drawn independently.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples, at least 1.
        y : object, default=None
            One of `classes_`; None draws from the prior.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Means of p(x | z): no observation noise is added.

        Raises
        ------
        ValueError
            If `n_samples` is below 1, or `y` is none of the classes, or one of which no sample has
            come.
        """
        if y is None:
            return super().sample(n_samples)

        def moments(model: Model) -> CodeMoments:
            assert model.labels is not None and model.summary is not None
            c = position(model.labels.classes, y)
            if c is None:
                raise ValueError(
                    f"y={brief(y)} is none of the classes the estimator knows: "
                    f"{brief(model.labels.classes)}."
                )
            if not model.summary.n_samples[c]:
                raise ValueError(
                    f"y={brief(y)} is a class of which no labeled sample has come, so there is "
                    "nothing to draw from: fit some, or leave y=None to draw from the prior."
                )
            return CodeMoments(*model.summary.moments(c))

        return self._sample(n_samples, moments)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def role_alpha(n_components: int, n_classes: int) -> NDArray[np.float64]:
    """Return the default alpha: 16 % global dimensions, the rest for the classes to divide."""
    n_global = round(0.16 * n_components)
    n_specific = n_components - n_global
    specific = min(0.4, max(1.2 / n_classes, 1.5 / n_specific))
    return np.repeat([0.99, specific], [n_global, n_specific])


def _check_alpha(alpha: Any, n_components: int) -> NDArray[np.float32]:
    """Return alpha, one value for each dimension."""
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
            "it is the prior probability of a dimension to be on."
        )
    return np.broadcast_to(alpha, n_components).copy()


def default_to(default: float, value: float | None) -> float:
    """Return a weight, or the objective's own where it is None."""
    return default if value is None else value


def _classes(model: Model) -> NDArray[Any]:
    assert model.labels is not None
    return model.labels.classes
