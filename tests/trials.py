"""A trial of an estimator: fit it to a case of `tests/strategies.py`, and use all its methods."""

import copy
import re
import warnings

import numpy as np
from scipy import sparse
from sklearn.exceptions import NotFittedError
from strategies import TINY, Case, Part

#: The only errors that bad input may raise.
TYPED = (ValueError, TypeError, FloatingPointError, NotFittedError)


class Violation(AssertionError):  # noqa: N818  (a finding, not an error of the harness)
    """An estimator broke the rule; `kind` says how."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


REFUSED = object()


def trial(case: Case) -> str:
    """Return "accepted" or "refused"; raise Violation where the estimator does anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _trial(case)


def _trial(case: Case) -> str:
    given = {name: copy.deepcopy(part.value) for name, part in case.params.items()}
    estimator = case.cls(**TINY | given)
    before = estimator.__dict__.copy()
    parts = [*case.params.values(), case.X, case.y, case.sample_weight]
    X, y, weight = case.X.value, case.y.value, case.sample_weight.value
    if attempt(parts, estimator.fit, X, y, sample_weight=weight) is REFUSED:
        if estimator.__dict__.keys() != before.keys():
            raise Violation("a trace of a refused fit", str(estimator.__dict__.keys()))
        return "refused"
    # What was fitted to extremes may overflow later, too, and must then say of what.
    extreme = any(part.says for part in parts)
    may = [Part("", None, r"\b[XZ]\b", must=False)] if extreme else []
    n, d = X.shape[0] if hasattr(X, "shape") else len(X), estimator.n_components
    p = estimator.n_features_in_
    Z = attempt(may, estimator.transform, X, shape=(n, d))
    attempt(may, estimator.activation_proba, X, shape=(n, d))
    attempt(may, estimator.score_samples, X, shape=(n,))
    attempt(may, estimator.sample, 2, shape=(2, p))
    for label in getattr(estimator, "classes_", [])[:1]:
        attempt(may, estimator.sample, 2, y=label, shape=(2, p))
    if Z is not REFUSED:
        Z = Z.toarray() if sparse.issparse(Z) else np.asarray(Z)
        attempt([case.Z, *may], estimator.inverse_transform, case.Z.value(Z))
    for method in (estimator.transform, estimator.activation_proba):
        attempt([case.new, *may], method, case.new.value)
    outside = Part("", None, "X lies in .*Bernoulli", must=False)
    attempt([case.new, *may, outside], estimator.score_samples, case.new.value)
    again = [case.new, *parts, *may, outside]
    attempt(again, estimator.partial_fit, case.new.value, y, sample_weight=weight)
    attempt(may, estimator.transform, X, shape=(n, d))
    return "accepted"


def attempt(parts, call, *args, shape=None, **kwargs):
    """Return what a call gives, which must be finite and of this shape, or REFUSED."""
    what = f"{call.__self__} .{call.__name__}"
    reasons = [part for part in parts if part.says]
    try:
        out = call(*args, **kwargs)
    except TYPED as error:
        told = f"{what}: {type(error).__name__}: {error}"
        if not reasons:
            raise Violation("refused what is in order", told) from error
        if not any(re.search(part.says, str(error), re.DOTALL) for part in reasons):
            expected = " or ".join(part.says for part in reasons)
            raise Violation("unnamed", f"{told}\nexpected {expected}") from error
        return REFUSED
    except Exception as error:  # what is to be found: any other type
        raise Violation("untyped", f"{what}: {type(error).__name__}: {error}") from error
    wrong = [part.name for part in reasons if part.must]
    if wrong:
        raise Violation("accepted what is wrong", f"{what}: {wrong}")
    if out is not call.__self__:
        values = out.data if sparse.issparse(out) else np.asarray(out)
        if not np.isfinite(values).all():
            raise Violation("non-finite", f"{what} returned {values[~np.isfinite(values)][:3]}")
        if shape is not None and out.shape != shape:
            raise Violation("shape", f"{what} returned {out.shape}, not {shape}")
    return out
