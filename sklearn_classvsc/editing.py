"""What a code is good for: edit its factors, and go from one class or sample to another."""

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
    """What the samples of each class have active, and how strongly. See `class_profile`."""

    classes: NDArray[Any]  # (n_classes,), sorted
    n_samples: NDArray[np.float64]  # (n_classes,)
    activity: NDArray[np.float64]  # (n_classes, n_components), fraction that has it active
    typical: NDArray[np.float64]  # (n_classes, n_components), mean active value; NaN: never active

    def log_likelihood(self, activations: ArrayLike) -> NDArray[np.float64]:
        r"""Return the log-probability of supports in each class, dimensions independent.

        .. math:: \sum_j a_j \log p_{cj} + (1 - a_j) \log (1 - p_{cj})

        with :math:`p_{cj}` the activity, each class counted as one sample more, of which every
        dimension is half active: nothing that was never seen is impossible.

        Parameters
        ----------
        activations : array-like of shape (n_samples, n_components)
            Whether a dimension is active: 0 or 1, or its probability.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples, n_classes)
            In nats, at most 0.
        """
        A = check_array(activations, dtype=np.float64, input_name="activations")
        n = self.n_samples[:, None]
        p = (n * self.activity + 0.5) / (n + 1)
        log_likelihood: NDArray[np.float64] = A @ np.log(p).T + (1 - A) @ np.log1p(-p).T
        return log_likelihood


class Edit(NamedTuple):
    """Samples decoded before and after their codes were changed. See `edit`, `counterfactual`."""

    codes: NDArray[Any]  # (n_samples, n_components), as the samples have them
    edited: NDArray[Any]  # (n_samples, n_components), changed
    X_hat: NDArray[Any]  # (n_samples, n_features), decoded from `codes`, in X's units
    X_edited: NDArray[Any]  # (n_samples, n_features), decoded from `edited`
    change: pd.DataFrame  # X_edited - X_hat, columns by the names of the features


class Interpolation(NamedTuple):
    """The way from one sample's code to another's, decoded. See `interpolate`."""

    weights: NDArray[np.float64]  # (n_steps,), from 0 at the first sample to 1 at the second
    codes: NDArray[Any]  # (n_steps, n_components)
    X_hat: NDArray[Any]  # (n_steps, n_features), in X's units


def class_profile(est: Any, X: MatrixLike, y: ArrayLike) -> ClassProfile:
    """Measure what the samples of each class have active, and how strongly.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform`: a transformer of this package, a pipeline that holds one, or
        any other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples; those of the fit, or held out.
    y : array-like of shape (n_samples,)
        Class labels, as the estimator reads them. Samples without a label are left out.

    Returns
    -------
    profile : ClassProfile
        Named tuple:

        - `classes`: ndarray of shape (n_classes,), sorted;
        - `n_samples`: ndarray of shape (n_classes,);
        - `activity`: ndarray of shape (n_classes, n_components), the fraction of the class's
          samples that have a dimension active;
        - `typical`: ndarray of shape (n_classes, n_components), the mean of its values where it
          is active, NaN where it never is.

    Raises
    ------
    ValueError
        If `y` does not fit `X`, or no sample has a label.

    See Also
    --------
    counterfactual : Uses it.
    sklearn_classvsc.metrics.dimension_roles : Which dimensions are of which classes.

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
    """Measure what classes have active, by their codes."""
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
    """Set one dimension of the samples' codes, and see what changes in the samples.

    The other dimensions stay as they are: what was off stays exactly 0.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a pipeline
        that holds one, or any other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples.
    dimension : int
        The dimension to set.
    value : float or "typical", default="typical"
        What to set it to; 0 switches it off. "typical" is the mean of its active values: in the
        class `label` of `profile`, in all classes of `profile` if `label` is None, or in `X` if
        there is no `profile`.
    profile : ClassProfile or None, default=None
        What `class_profile` returns: where a typical value comes from.
    label : object, default=None
        One of the profile's classes.

    Returns
    -------
    edit : Edit
        Named tuple:

        - `codes`, `edited`: ndarrays of shape (n_samples, n_components), before and after;
        - `X_hat`, `X_edited`: ndarrays of shape (n_samples, n_features), both decoded, in X's
          units. The difference is that of the edit alone, without the error of reconstruction;
        - `change`: DataFrame of shape (n_samples, n_features), `X_edited - X_hat`, with the names
          of the features, and X's index if it is a DataFrame.

    Raises
    ------
    ValueError
        If the dimension is never active where its typical value is asked for, or another argument
        is not as described.

    See Also
    --------
    counterfactual : Sets all dimensions in which two classes differ.
    sklearn_classvsc.inspection.top_features : Lists the features of `change` that move most.

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
            f"label is {brief(label)}, which is for value='typical' with a profile: "
            f"value is {brief(value)} and profile {'None' if profile is None else 'given'}."
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
    """Make samples into those of another class.

    What would make this sneaker a boot? A class *has* the dimensions that are active in at least
    `min_activity` of its samples. Those that a sample has active and the class `to` has not are
    switched off; those that the class has and the sample has not are switched on, at their typical
    value in the class. What both have stays as it is in the sample: of all ways to the support of
    the class, it is the one that changes the fewest dimensions. Between classes of the same support
    nothing is switched, and nothing changes.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a pipeline
        that holds one, or any other whose zeros mean "not active".
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples, of any classes.
    profile : ClassProfile
        What `class_profile` returns for the same estimator.
    to : object
        The class to go to, one of the profile's.
    min_activity : float, default=0.5
        Fraction of a class's samples, in (0, 1].

    Returns
    -------
    counterfactual : Edit
        Named tuple, see `edit`. A dimension was switched where one of ``codes != 0`` and
        ``edited != 0`` is true. `change` says what would have to differ, in X's units.

    Raises
    ------
    ValueError
        If `to` is none of the profile's classes, or the profile is of another code.

    See Also
    --------
    edit : Sets one dimension.

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
    """Return codes with the dimensions that class number `c` has, and no others."""
    has = profile.activity[c] >= min_activity
    on = np.where(codes != 0, codes, np.nan_to_num(profile.typical[c]).astype(codes.dtype))
    return np.where(has, on, codes.dtype.type(0))


def interpolate(est: Any, a: ArrayLike, b: ArrayLike, n_steps: int = 9) -> Interpolation:
    """Decode the way from one sample to another.

    A dimension that is active in both moves evenly from the one value to the other. A dimension
    that is active in one only keeps its value there, and is switched once, in the middle: off on
    the other sample's half, and off at the midpoint itself, which has what both have. So every
    step has a support that a sample has, and no value between "off" and "on", where no sample is.
    Samples of one class share most of their support, and little is switched between them.

    Parameters
    ----------
    est : estimator
        Fitted, with `transform` and `inverse_transform`: a transformer of this package, a pipeline
        that holds one, or any other whose zeros mean "not active".
    a, b : array-like of shape (n_features,) or (1, n_features)
        Two samples; rows of a DataFrame as ``X.iloc[[0]]``.
    n_steps : int, default=9
        Number of steps with both ends, at least two.

    Returns
    -------
    interpolation : Interpolation
        Named tuple:

        - `weights`: ndarray of shape (n_steps,), evenly from 0 to 1;
        - `codes`: ndarray of shape (n_steps, n_components), that of `a` first, of `b` last;
        - `X_hat`: ndarray of shape (n_steps, n_features), the codes decoded, in X's units.

    Raises
    ------
    ValueError
        If an argument is not as described.

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
            f"{n_components}: pass the class_profile of this estimator."
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
