"""Edit samples by their codes: set a dimension, change the class, or interpolate."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_scalar

from ._messages import brief
from ._pipelines import feature_names, sparse_codes, unroll
from .labels import labeled_rows, position
from .metrics._counts import MatrixLike, check_labels, class_sums

__all__ = [
    "ClassProfile",
    "Edit",
    "Interpolation",
    "class_profile",
    "counterfactual",
    "edit",
    "interpolate",
]


class ClassProfile(NamedTuple):
    """Activity and typical values of each dimension in each class. See :func:`class_profile`."""

    classes: NDArray[Any]  # (n_classes,), sorted
    n_samples: NDArray[np.float64]  # (n_classes,)
    activity: NDArray[np.float64]  # (n_classes, n_components), fraction of active samples
    typical: NDArray[np.float64]  # (n_classes, n_components), mean of active values, or NaN

    def log_likelihood(self, activations: ArrayLike) -> NDArray[np.float64]:
        r"""Return the log-probability of supports in each class, with independent dimensions.

        .. math:: \sum_j a_j \log p_{cj} + (1 - a_j) \log (1 - p_{cj})

        :math:`p_{cj}` is the activity. It counts one more sample in each class, in which every
        dimension is half active, so that no support has probability zero.

        Parameters
        ----------
        activations : array-like of shape (n_samples, n_components)
            Whether a dimension is active: 0 or 1, or its probability.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples, n_classes)
            In nats, at most 0.

        Raises
        ------
        ValueError
            If `activations` is not a finite 2-D array of n_components columns.
        """
        A = check_array(activations, dtype=np.float64, input_name="activations")
        n = self.n_samples[:, None]
        p = (n * self.activity + 0.5) / (n + 1)
        log_likelihood: NDArray[np.float64] = A @ np.log(p).T + (1 - A) @ np.log1p(-p).T
        return log_likelihood


class Edit(NamedTuple):
    """Samples decoded before and after an edit. See :func:`edit` and :func:`counterfactual`."""

    codes: NDArray[Any]  # (n_samples, n_components), of the samples
    edited: NDArray[Any]  # (n_samples, n_components), after the edit
    X_hat: NDArray[Any]  # (n_samples, n_features), decoded from `codes`, in the units of X
    X_edited: NDArray[Any]  # (n_samples, n_features), decoded from `edited`
    change: pd.DataFrame  # X_edited - X_hat, with the names of the features


class Interpolation(NamedTuple):
    """Decoded steps from one sample to another. See :func:`interpolate`."""

    weights: NDArray[np.float64]  # (n_steps,), from 0 at the first sample to 1 at the second
    codes: NDArray[Any]  # (n_steps, n_components)
    X_hat: NDArray[Any]  # (n_steps, n_features), in the units of X


def class_profile(est: Any, X: MatrixLike, y: ArrayLike) -> ClassProfile:
    """Measure how often each class activates each dimension, and its typical values there.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform`: a transformer of this package, a Pipeline that holds one, or any
        other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Training or held-out samples.
    y : array-like of shape (n_samples,)
        Class labels, as the estimator reads them. Samples without a label are left out.

    Returns
    -------
    profile : ClassProfile
        Named tuple:

        - `classes`: ndarray of shape (n_classes,), sorted;
        - `n_samples`: ndarray of shape (n_classes,);
        - `activity`: ndarray of shape (n_classes, n_components), the fraction of the samples of a
          class in which a dimension is active;
        - `typical`: ndarray of shape (n_classes, n_components), the mean of the active values of a
          dimension in a class, NaN if it is never active there.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or if no sample has a label.

    See Also
    --------
    counterfactual : Change samples into another class, by a profile.
    sklearn_classvsc.metrics.dimension_roles : Which classes activate each dimension.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.editing import class_profile
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> class_profile(vsc, X, y).activity.shape
    (10, 8)
    """
    est, X = unroll(est, X)
    return profile_of(*labeled_rows(est, sparse_codes(est, X), y))


def profile_of(Z: Any, y: Any) -> ClassProfile:
    """Return the profile of classes from codes."""
    classes, labels = check_labels(y, Z)
    n = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    active = class_sums(Z, labels, len(classes), of_support=True)
    sums = class_sums(Z.astype(np.float64), labels, len(classes))
    typical = np.divide(sums, active, out=np.full_like(sums, np.nan), where=active > 0)
    return ClassProfile(classes, n, active / n[:, None], typical)


def edit(
    est: Any,
    X: MatrixLike,
    dimension: int,
    value: float | str = "typical",
    *,
    profile: ClassProfile | None = None,
    label: Any = None,
) -> Edit:
    """Set one dimension in the codes of samples, and decode them before and after.

    The other dimensions keep their values. Inactive dimensions stay exactly 0.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a Pipeline
        that holds one, or any other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    dimension : int
        The dimension to set.
    value : float or "typical", default="typical"
        New value; 0 makes the dimension inactive. "typical" is the mean of its active values: in
        the class `label` of `profile`, in all classes of `profile` if `label` is None, or in `X` if
        `profile` is None.
    profile : ClassProfile or None, default=None
        Result of `class_profile`, from which a typical value comes.
    label : object, default=None
        A class of the profile.

    Returns
    -------
    edit : Edit
        Named tuple:

        - `codes`, `edited`: ndarrays of shape (n_samples, n_components), before and after;
        - `X_hat`, `X_edited`: ndarrays of shape (n_samples, n_features), decoded from both, in the
          units of X. Their difference comes only from the edit, without reconstruction error;
        - `change`: DataFrame of shape (n_samples, n_features), `X_edited - X_hat`, with the names
          of the features, and the index of X if X is a DataFrame.

    Raises
    ------
    ValueError
        If the dimension has no typical value because it is never active, or another argument is
        not as described.

    See Also
    --------
    counterfactual : Set all dimensions in which a sample and a class differ.
    sklearn_classvsc.inspection.top_features : List the features of `change` that change most.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.editing import edit
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> off = edit(vsc, X[:5], dimension=3, value=0)
    >>> off.edited[:, 3]
    array([0., 0., 0., 0., 0.], dtype=float32)
    >>> off.change.shape
    (5, 64)
    """
    index = getattr(X, "index", None) if hasattr(X, "iloc") else None
    est, X = unroll(est, X)
    codes = sparse_codes(est, X).toarray()
    check_scalar(dimension, "dimension", Integral, min_val=0, max_val=codes.shape[1] - 1)
    if label is not None and (profile is None or value != "typical"):
        raise ValueError(
            f"label is {brief(label)}, which is for value='typical' with a profile, but value is "
            f"{brief(value)} and profile is {'None' if profile is None else 'given'}."
        )
    if isinstance(value, str):
        if value != "typical":
            raise ValueError(f"value is {brief(value)}, but must be a number or 'typical'.")
        value = _typical_value(codes, dimension, profile, label)
    check_scalar(value, "value", Real)
    if not np.isfinite(value):
        raise ValueError(f"value is {brief(value)}, but must be finite.")
    edited = codes.copy()
    edited[:, dimension] = value
    return _decoded(est, index, codes, edited)


def counterfactual(
    est: Any, X: MatrixLike, profile: ClassProfile, *, to: Any, min_activity: float = 0.5
) -> Edit:
    """Give samples the support of another class, and decode them before and after.

    What would make this sneaker a boot? A class *has* the dimensions that are active in at least
    `min_activity` of its samples. Dimensions that the class `to` does not have become inactive.
    Dimensions that the class has and the sample lacks become active, at their typical value in the
    class. Dimensions that both have keep their values. This is the smallest number of dimensions
    that must change to reach the support of the class. If the supports are the same, nothing
    changes.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a Pipeline
        that holds one, or any other transformer whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples, of any classes.
    profile : ClassProfile
        Result of `class_profile` for the same estimator.
    to : object
        The new class, one of the profile.
    min_activity : float, default=0.5
        Fraction of the samples of a class, in (0, 1].

    Returns
    -------
    counterfactual : Edit
        Named tuple, as `edit` returns. A dimension was switched where ``codes != 0`` and
        ``edited != 0`` differ. `change` is in the units of X.

    Raises
    ------
    ValueError
        If `to` is not a class of the profile, or if the profile has another number of dimensions.

    See Also
    --------
    edit : Set one dimension.
    sklearn_classvsc.inspection.class_differences : The mean change for each class.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import ClassVSCTransformer
    >>> from sklearn_classvsc.editing import class_profile, counterfactual
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> est = ClassVSCTransformer(n_components=8, max_epochs=600, random_state=0).fit(X, y)
    >>> setosas, profile = X[y == 0], class_profile(est, X, y)
    >>> virginicas = counterfactual(est, setosas, profile, to=2)
    >>> bool(virginicas.change["petal length (cm)"].mean() > 2)
    True
    """
    check_scalar(
        min_activity, "min_activity", Real, min_val=0, max_val=1, include_boundaries="right"
    )
    index = getattr(X, "index", None) if hasattr(X, "iloc") else None
    est, X = unroll(est, X)
    codes = sparse_codes(est, X).toarray()
    _check_width(profile, codes.shape[1])
    c = _class_index(profile, to, "to")
    return _decoded(est, index, codes, with_support_of(codes, profile, c, min_activity))


def with_support_of(
    codes: NDArray[Any], profile: ClassProfile, c: int, min_activity: float = 0.5
) -> NDArray[Any]:
    """Return codes with the support of class number `c`."""
    has = profile.activity[c] >= min_activity
    on = np.where(codes != 0, codes, np.nan_to_num(profile.typical[c]).astype(codes.dtype))
    return np.where(has, on, codes.dtype.type(0))


def interpolate(est: Any, a: ArrayLike, b: ArrayLike, n_steps: int = 9) -> Interpolation:
    """Decode steps from one sample to another.

    A dimension that is active in both samples changes evenly from one value to the other. A
    dimension that is active in only one sample keeps its value on the half of that sample, and is
    inactive on the other half and at the midpoint. Every step has the support of one of the
    samples, or at the midpoint their common support: no dimension takes a value between inactive
    and active, where there are no samples.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a Pipeline
        that holds one, or any other transformer whose zeros mean "not active".
    a, b : array-like of shape (n_features,) or (1, n_features)
        The two samples. Pass rows of a DataFrame as ``X.iloc[[0]]``.
    n_steps : int, default=9
        Number of steps, including both ends; at least two.

    Returns
    -------
    interpolation : Interpolation
        Named tuple:

        - `weights`: ndarray of shape (n_steps,), evenly from 0 (`a`) to 1 (`b`);
        - `codes`: ndarray of shape (n_steps, n_components), from the code of `a` to that of `b`;
        - `X_hat`: ndarray of shape (n_steps, n_features), the decoded codes, in the units of X.

    Raises
    ------
    ValueError
        If an argument is not as described.

    See Also
    --------
    sklearn_classvsc.inspection.traverse : Decode a sweep of one dimension.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.editing import interpolate
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> interpolate(vsc, X[0], X[10], n_steps=5).X_hat.shape
    (5, 64)
    """
    check_scalar(n_steps, "n_steps", Integral, min_val=2)
    (through, a), (_, b) = (
        unroll(est, _one(sample, name)) for sample, name in ((a, "a"), (b, "b"))
    )
    est = through
    z_a, z_b = sparse_codes(est, a).toarray()[0], sparse_codes(est, b).toarray()[0]
    weights = np.linspace(0, 1, n_steps)
    t = weights[:, None]
    both = (z_a != 0) & (z_b != 0)
    single = np.where(t < 0.5, z_a, np.where(t > 0.5, z_b, 0))
    codes = np.where(both, (1 - t) * z_a + t * z_b, single).astype(z_a.dtype)
    return Interpolation(weights, codes, np.asarray(est.inverse_transform(codes)))


def _typical_value(
    codes: NDArray[Any], dimension: int, profile: ClassProfile | None, label: Any
) -> float:
    if profile is None:
        values = codes[:, dimension]
        values, where = values[values != 0].astype(np.float64), "in X"
        typical = values.mean() if values.size else np.nan
    else:
        _check_width(profile, codes.shape[1])
        c = slice(None) if label is None else [_class_index(profile, label, "label")]
        where = "in the profile" if label is None else f"in class {brief(label)}"
        count = (profile.activity[c] * profile.n_samples[c, None])[:, dimension]
        total = (count * np.nan_to_num(profile.typical[c, dimension])).sum()
        typical = total / count.sum() if count.any() else np.nan
    if np.isnan(typical):
        raise ValueError(
            f"value is 'typical', but dimension {dimension} is never active {where}: "
            "pass a number, or choose another dimension."
        )
    return float(typical)


def _class_index(profile: ClassProfile, label: Any, name: str) -> int:
    c = position(profile.classes, label)
    if c is None:
        raise ValueError(
            f"{name} is {brief(label)}, but the classes of the profile are "
            f"{brief(profile.classes)}."
        )
    return c


def _check_width(profile: ClassProfile, n_components: int) -> None:
    if profile.activity.shape[1] != n_components:
        raise ValueError(
            f"profile has {profile.activity.shape[1]} dimensions, but est makes codes of "
            f"{n_components}: pass a class_profile of this estimator."
        )


def _one(sample: Any, name: str) -> Any:
    """Return one sample as a table of one row."""
    if np.ndim(sample) == 1:
        sample = np.asarray(sample)[None]
    if np.ndim(sample) != 2 or np.shape(sample)[0] != 1:
        raise ValueError(
            f"{name} has shape {np.shape(sample)}, but must be one sample: (n_features,) or "
            "(1, n_features)."
        )
    return sample


def _decoded(est: Any, index: Any, codes: NDArray[Any], edited: NDArray[Any]) -> Edit:
    X_hat, X_edited = (np.asarray(est.inverse_transform(Z)) for Z in (codes, edited))
    change = pd.DataFrame(
        X_edited - X_hat,
        index=index,
        columns=feature_names(est, X_hat.shape[1]),
    )
    return Edit(codes, edited, X_hat, X_edited, change)
