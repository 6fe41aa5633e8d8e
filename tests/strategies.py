"""Inputs of every kind, as hypothesis strategies, and what must become of them.

A `Part` is a value for one argument. It says what an error about it must tell; without that, the
value is in order, and a call that refuses it is wrong. `tests/trials.py` makes the calls;
`tests/test_robustness.py` has some of them made, `benchmarks/fuzz.py` many.
"""

import re
import tempfile
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from scipy import sparse

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
TINY = {"n_components": 3, "hidden_layer_sizes": (4,), "max_epochs": 1, "random_state": 0}


class Part(NamedTuple):
    """A value for an argument. `says`: what an error about it must match; "": there is none."""

    name: str
    value: Any
    says: str = ""
    must: bool = True  # be refused; False: it may also be fine
    size: float = 1.0  # largest absolute value, of samples


class Case(NamedTuple):
    """An estimator, what it is fitted to, and the samples that its methods get later."""

    cls: type
    params: dict[str, Part]
    X: Part
    y: Part
    sample_weight: Part
    new: Part
    Z: Part

    def __repr__(self) -> str:
        params = {name: part.value for name, part in self.params.items()}
        parts = (self.X, self.y, self.sample_weight, self.new, self.Z)
        return f"{self.cls.__name__}({params}) on " + ", ".join(part.name for part in parts)


# -- samples ------------------------------------------------------------------------------------

TOO_LARGE = r"largest absolute value in X|X .*(infinity|too large|not finite)"
#: Functions of (rng, n, p), and what an error must say.
CONTENTS: dict[str, tuple[Any, str]] = {
    "normal": (lambda r, n, p: r.normal(size=(n, p)), ""),
    "in [0, 1]": (lambda r, n, p: r.random((n, p)), ""),
    "bits": (lambda r, n, p: r.integers(0, 2, (n, p)), ""),
    "integers": (lambda r, n, p: r.integers(-100, 100, (n, p)), ""),
    "zeros": (lambda r, n, p: np.zeros((n, p)), ""),
    "constant": (lambda r, n, p: np.full((n, p), -7.25), ""),
    "a constant feature": (lambda r, n, p: r.normal(size=(n, p)) * (np.arange(p) > 0) + 3, ""),
    "duplicates": (lambda r, n, p: np.repeat(r.normal(size=(1, p)), n, 0), ""),
    "almost constant": (lambda r, n, p: 1 + 1e-14 * r.normal(size=(n, p)), ""),
    "far from 0": (lambda r, n, p: 1e15 + r.normal(size=(n, p)), ""),
    "scales": (lambda r, n, p: r.normal(size=(n, p)) * 10.0 ** r.integers(-30, 30, p), TOO_LARGE),
    "tiny": (lambda r, n, p: r.normal(size=(n, p)) * 1e-30, TOO_LARGE),
    "huge": (lambda r, n, p: r.normal(size=(n, p)) * 1e30, TOO_LARGE),
    "enormous": (lambda r, n, p: r.normal(size=(n, p)) * 1e300, TOO_LARGE),
    "subnormal": (lambda r, n, p: r.normal(size=(n, p)) * 1e-310, TOO_LARGE),
    "subnormal float32": (lambda r, n, p: r.normal(size=(n, p)) * 1e-40, TOO_LARGE),
    "outlier": (lambda r, n, p: np.where(r.random((n, p)) < 0.1, 1e30, 1.0), TOO_LARGE),
    "heavy tails": (lambda r, n, p: np.exp(r.normal(size=(n, p)) * 30), TOO_LARGE),
    "NaN": (lambda r, n, p: _with(r.normal(size=(n, p)), np.nan), ""),
    "infinity": (lambda r, n, p: _with(r.normal(size=(n, p)), np.inf), ""),
    "-infinity": (lambda r, n, p: _with(r.random((n, p)), -np.inf), ""),
}
EXOTIC = ("f2", "O", ">f8", "longdouble")
DTYPES = ("f8", "f8", "f4", "f4", "?", "i1", "i8", "u1", "u8", *EXOTIC)


def _with(X, value):
    X[-1, -1] = value
    return X


def _memmap(X):
    file = tempfile.TemporaryFile()  # the array keeps it open
    file.write(np.ascontiguousarray(X).tobytes())
    file.flush()
    return np.memmap(file, X.dtype, "r", shape=X.shape)


def _read_only(X):
    X.flags.writeable = False
    return X


def _unaligned(X):
    return np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape)


def _long_indices(X):
    X = sparse.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def _duplicate_entries(X):
    """Store every entry as two halves, the later columns first."""
    order = [column for column in reversed(range(X.shape[1])) for _ in range(2)]
    indptr = np.arange(X.shape[0] + 1) * len(order)
    halves = (X / 2)[:, order].ravel()
    return sparse.csr_array((halves, np.tile(order, X.shape[0]), indptr), shape=X.shape)


def _frame(X):
    return pd.DataFrame(X, columns=[f"f{j}" for j in range(X.shape[1])])


ARRAYS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(np.repeat(X, 2, 0), 3, 1)[::2, ::3],
    "negative strides": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "broadcast": lambda X: np.broadcast_to(X[:1], X.shape),
    "read-only": _read_only,
    "list": lambda X: X.tolist(),
    "DataFrame": _frame,
    "DataFrame of objects": lambda X: _frame(X).astype(object),
}
#: Not for exotic dtypes.
NUMBERS = {
    "DataFrame of categories": lambda X: _frame(X).astype("category"),
    "memmap": _memmap,
    "unaligned": _unaligned,
    "tensor": lambda X: torch.tensor(np.ascontiguousarray(X)),
    "nullable DataFrame": lambda X: _frame(X).convert_dtypes(),
    "Arrow DataFrame": lambda X: _frame(X).convert_dtypes(dtype_backend="pyarrow"),
}
SPARSE = {
    f"{fmt}_{kind}": getattr(sparse, f"{fmt}_{kind}")
    for fmt in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
    for kind in ("matrix", "array")
} | {
    "CSR of int64": _long_indices,
    "CSR with duplicates": _duplicate_entries,
    "sparse DataFrame": lambda X: _frame(X).astype(pd.SparseDtype(X.dtype, X.dtype.type(0))),
}
#: What is no table of numbers, made of one, and what the error must say.
NOT_SAMPLES: dict[str, tuple[Any, str]] = {
    "1-D": (lambda X: X[:, 0], r"\bX\b.*1D array"),
    "3-D": (lambda X: X[:, :, None], r"\bX\b.*flatten each sample"),
    "no samples": (lambda X: X[:0], r"\bX\b.*0 sample"),
    "no features": (lambda X: X[:, :0], r"\bX\b.*0 feature"),
    "scalar": (lambda X: 1.5, r"\bX\b.*(0D|is not an) array"),
    "None": (lambda X: None, r"\bX\b.*None"),
    "dict": (lambda X: {"a": [1.0]}, r"\bX\b.*dict"),
    "text": (lambda X: "samples", r"\bX\b.*samples"),
    "ragged": (lambda X: [[1.0, 2.0], [3.0]], r"\bX\b.*sequence"),
    "words": (lambda X: np.full(X.shape, "cat"), r"\bX\b.*(string|'cat')"),
    "object words": (lambda X: np.full(X.shape, "cat", object), r"\bX\b.*'cat'"),
    "numbers as text": (lambda X: X.astype(str), r"\bX\b.*string"),
    "bytes": (lambda X: np.full(X.shape, b"cat"), r"\bX\b.*bytes"),
    "complex": (lambda X: X + 1j, r"\bX\b.*[Cc]omplex"),
    "sparse complex": (lambda X: sparse.csr_array(X + 1j), r"\bX\b.*[Cc]omplex"),
    "dates": (lambda X: np.full(X.shape, "2020-01-01", "M8[D]"), r"\bX\b.*(date|Timestamp)"),
    "dates in a DataFrame": (
        lambda X: _frame(np.full(X.shape, "2020-01-01", "M8[ns]")),
        r"\bX\b.*(date|Timestamp|DateTime)",
    ),
    "DataFrame of words": (lambda X: _frame(np.full(X.shape, "cat")), r"\bX\b.*('cat'|string)"),
    "lists in cells": (lambda X: _with(X.astype(object), [1, 2]), r"\bX\b.*sequence"),
    "np.matrix": (np.asmatrix, r"\bX\b.*np\.matrix"),
}


@st.composite
def samples(draw, n, p, ordinary=np.inf):
    """Return X, of any kind, for n samples of p features; larger numbers may be refused."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.integers(0, 7)) == 0:
        name = draw(st.sampled_from(list(NOT_SAMPLES)))
        make, says = NOT_SAMPLES[name]
        return Part(f"X: {name}", make(rng.normal(size=(n, p))), says)
    name = draw(st.sampled_from(list(CONTENTS)))
    make, says = CONTENTS[name]
    dtype = draw(st.sampled_from(DTYPES))
    kinds = ARRAYS | NUMBERS | SPARSE
    kind = draw(st.sampled_from(list(kinds)))
    if kind not in ARRAYS and dtype in EXOTIC:
        dtype = "f8"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        X = make(rng, n, p).astype(dtype)
        if kind == "broadcast":
            X = X[-1:].repeat(n, 0)
        value = kinds[kind](X)
    missing = np.isnan(X.astype(float))
    size = np.abs(X.astype(float)).max(where=~missing, initial=0)
    finite = np.isfinite(size)
    if size >= ordinary:
        says = TOO_LARGE
    elif missing.all(axis=0).any():  # which fit refuses, and what is fitted takes
        says = r"\bX\b.*no observed value"
    if not finite:
        says = r"\bX\b.*(infinity|largest absolute)"
    return Part(f"X: {name}, {dtype}, {kind}, {X.shape}", value, says, not finite, size)


# -- labels -------------------------------------------------------------------------------------

NAMES = {
    "ints": np.arange(9) * 7 - 8,
    "bytes of an int": np.arange(9, dtype=np.uint8),
    "large ints": 2**62 + np.arange(9),
    "largest ints": 2**64 - 9 + np.arange(9, dtype=np.uint64),
    "whole floats": np.arange(9.0) - 3,
    "strings": np.array(list("abcdefghß")),
    "objects": np.array(["", "b b", "é", "D", "\0e", "f", "g", "h", "i" * 99], object),
    "bools": np.array([False, True]),
}
LABELS = {
    "array": np.asarray,
    "list": lambda y: y.tolist(),
    "tuple": lambda y: tuple(y.tolist()),
    "Series": lambda y: pd.Series(y, index=np.arange(len(y))[::-1]),
    "categorical": lambda y: pd.Series(y).astype("category"),
    "Categorical": lambda y: pd.Categorical(y),
    "strided": lambda y: np.repeat(y, 2)[::2],
    "reversed": lambda y: np.ascontiguousarray(y[::-1])[::-1],
    "read-only": lambda y: _read_only(y.copy()),
    "column": lambda y: np.asarray(y)[:, None],
    "nullable": lambda y: pd.Series(y).convert_dtypes(),
    "Arrow": lambda y: pd.Series(y).convert_dtypes(dtype_backend="pyarrow"),
}
#: Functions of the right labels, which are integers, and what the error must say.
NOT_LABELS: dict[str, tuple[Any, str]] = {
    "None": (lambda y: None, r"\by\b.*None"),
    "too few": (lambda y: y[:-1] if len(y) > 1 else np.r_[y, y], r"\by\b.*\d+"),
    "too many": (lambda y: np.r_[y, y], r"\by\b.*\d+"),
    "empty": (lambda y: y[:0], r"\by\b.*0"),
    "scalar": (lambda y: 1, r"\by\b.*(\(\)|1)"),
    "two columns": (lambda y: np.c_[y, y], r"\by\b.*2\)"),
    "3-D": (lambda y: y[:, None, None], r"\by\b.*1, 1\)"),
    "NaN": (lambda y: _last(y * 1.0, np.nan), r"\by\b.*(NaN|nan)"),
    "infinity": (lambda y: _last(y * 1.0, np.inf), r"\by\b.*(inf)"),
    "fractions": (lambda y: y + 0.5, r"\by\b.*continuous"),
    "object None": (lambda y: _last(y.astype(str).astype(object), None), r"\by\b.*None"),
    "object NaN": (lambda y: _last(y.astype(str).astype(object), np.nan), r"\by\b.*(NaN|nan)"),
    "object NA": (lambda y: _last(y.astype(str).astype(object), pd.NA), r"\by\b.*(NA|NaN)"),
    "nullable NA": (lambda y: _last(pd.Series(y, dtype="Int64"), pd.NA), r"\by\b.*(NA|NaN)"),
    "Arrow NA": (lambda y: _last(pd.Series(y, dtype="int64[pyarrow]"), pd.NA), r"\by\b.*(NA|NaN)"),
    "categorical NaN": (
        lambda y: pd.Series(_last(y.astype(str).astype(object), None)).astype("category"),
        r"\by\b.*(NaN|nan|None)",
    ),
    "strings and numbers": (lambda y: _last(y.astype(object), "cat"), r"\by\b.*(str|unknown)"),
    "lists": (lambda y: [[int(label)] * (1 + label % 2) for label in y], r"\by\b"),
    "dicts": (lambda y: np.array([{} for _ in y], object), r"\by\b.*(dict|unknown)"),
    "bytes": (lambda y: y.astype("S"), r"\by\b.*bytes"),
    "complex": (lambda y: y + 1j, r"\by\b.*[Cc]omplex"),
    "sparse": (lambda y: sparse.csr_array(y[:, None]), r"Sparse.*\by\b"),
    "text": (lambda y: "labels", r"\by\b.*(\(\)|names a column)"),
}


def _last(y, value):
    y[len(y) - 1] = value
    return y


@st.composite
def labels(draw, n, weight, required):
    """Return y, and the value of `unlabeled`."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.integers(0, 7)) == 0:
        name = draw(st.sampled_from(list(NOT_LABELS)))
        make, says = NOT_LABELS[name]
        says += f"|{weight.says or '$^'}"
        counts = weight.value is None or bool(np.all(weight.value))  # all samples
        return Part(f"y: {name}", make(np.arange(n) % 3), says if required else "", counts), None
    name = draw(st.sampled_from(list(NAMES)))
    n_classes = draw(st.integers(1, len(NAMES[name])))  # at times more than a batch holds
    codes = np.arange(n) % n_classes if draw(st.booleans()) else rng.integers(0, n_classes, n)
    y = NAMES[name][codes]
    unlabeled = draw(st.sampled_from([None, None, NAMES[name][0]]))
    if isinstance(unlabeled, np.generic) and draw(st.booleans()):
        unlabeled = unlabeled.item()
    kept = np.ones(n, bool) if unlabeled is None else y != unlabeled
    if not weight.says and weight.value is not None:
        relative = np.asarray(weight.value, np.float64) / np.max(weight.value)
        kept &= np.broadcast_to(np.float32(relative) > 0, n)
    few = required and len(np.unique(y[kept])) < 2
    kind = draw(st.sampled_from(list(LABELS)))
    if "large" in name and kind in ("nullable", "Arrow"):  # which scikit-learn reads as floats
        kind = "array"
    says = r"\by\b.*class" if few else ""
    return Part(f"y: {name}, {kind}, {len(set(codes))} classes", LABELS[kind](y), says), unlabeled


# -- weights ------------------------------------------------------------------------------------

WEIGHTS: dict[str, tuple[Any, str]] = {
    "none": (lambda r, n: None, ""),
    "random": (lambda r, n: r.random(n), ""),
    "list": (lambda r, n: r.random(n).tolist(), ""),
    "Series": (lambda r, n: pd.Series(r.random(n)), ""),
    "int": (lambda r, n: 1 + r.integers(0, 4, n), ""),
    "bool": (lambda r, n: np.arange(n) % 3 < 2, ""),
    "number": (lambda r, n: 2.0, ""),
    "one counts": (lambda r, n: np.arange(n) == 0, ""),
    "tiny": (lambda r, n: 1e-30 * (1 + r.random(n)), ""),
    "subnormal": (lambda r, n: 1e-42 * (1 + r.random(n)), ""),
    "huge": (lambda r, n: 1e30 * (1 + r.random(n)), ""),
    "largest": (lambda r, n: np.full(n, 3e38), ""),
    "scales": (lambda r, n: 10.0 ** r.integers(-20, 20, n), ""),
    "float16": (lambda r, n: (1 + r.random(n)).astype("f2"), ""),
    "object": (lambda r, n: (1 + r.random(n)).astype(object), ""),
    "zero": (lambda r, n: np.zeros(n), r"sample_weight.*zero"),
    "negative": (lambda r, n: _last(r.random(n), -1.5), r"sample_weight.*-1\.5"),
    "NaN": (lambda r, n: _last(r.random(n), np.nan), r"sample_weight.*NaN"),
    "infinity": (lambda r, n: _last(r.random(n), np.inf), r"sample_weight.*infinity"),
    "beyond float32": (lambda r, n: 1e300 * (1 + r.random(n)), ""),
    "below float32": (lambda r, n: np.full(n, 1e-300), ""),
    "too few": (lambda r, n: r.random(n + 1)[: n - 1], r"sample_weight.*\d"),
    "too many": (lambda r, n: r.random(n + 1), r"sample_weight.*\d"),
    "2-D": (lambda r, n: r.random((n, 1)), r"sample_weight.*(1\)|2D)"),
    "words": (lambda r, n: np.full(n, "cat"), r"sample_weight.*'cat'"),
    "complex": (lambda r, n: np.full(n, 1j), r"sample_weight.*[Cc]omplex"),
    "None within": (lambda r, n: _last(np.ones(n, object), None), r"sample_weight.*(NaN|None)"),
    "text": (lambda r, n: "balanced", r"sample_weight.*balanced"),
}


@st.composite
def weights(draw, n):
    """Return sample weights."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    name = draw(st.sampled_from(["none"] * len(WEIGHTS) + list(WEIGHTS)))
    make, says = WEIGHTS[name]
    return Part(f"sample_weight: {name}", make(rng, n), says)


# -- parameters ---------------------------------------------------------------------------------

#: For each parameter values in order, values that may be refused, and values that must be.
VALUES: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
    "n_components": ([1, 2, np.int64(5)], [], [0, -1, 1.5, "3", None, np.nan]),
    "hidden_layer_sizes": (
        [(), (3,), [3, 2], np.array([4])],
        [5],
        [(0,), (-2,), (1.5,), ("a",), "abc", None, (3, None), (True, 0)],
    ),
    "activation": (["relu", "gelu", "silu", "tanh"], [], ["sigmoid", None, 1]),
    "likelihood": (["auto", "gaussian"], [], ["binomial", None]),
    "kl_weight": ([0, 0.5, 1e-30], [1e9], [1e300, -1, np.nan, np.inf, "1"]),
    "total_correlation_weight": ([0, 3.5], [1e9], [1e300, -1, np.nan, np.inf, "1"]),
    "max_epochs": ([1, 2], [], [0, -1, 1.5, "all", None]),
    "batch_size": ([1, 2, 7, 10**12], [], [0, -1, 2.5, "auto", None]),
    "learning_rate": ([1e-3, 1e-30, 1], [1e-300, 1e6, 1e30, 1e300], [0, -1, np.nan, np.inf, "1"]),
    "early_stopping": ([False], [True], ["yes", None]),
    "validation_fraction": ([0.1, 0.5], [1e-9, 0.999], [0.0, 1.0, -0.5, np.nan, "0.1"]),
    "n_iter_no_change": ([1, 10**9], [], [0, -1, 0.5, None]),
    "device": (["cpu", "cpu+bfloat16"], [], ["nonsense", 0, None, "cuda:99", "", "cpu+float16"]),
    "callbacks": ([None, []], [], ["print", 1, ["print"], [("name", 1)], [None]]),
    "rotation": ([None, "auto", "varimax", "principal"], [], ["promax", 1, True]),
    "warm_start": ([False, True], [], ["yes", None]),
    "sparse_output": ([False, True], [], ["yes", None]),
    "random_state": ([0, 2**32 - 1, np.random.RandomState(0), None], [2**40], [-1, "0", 1.5]),
    "verbose": ([0, False], [], [-1, "loud"]),
    "alpha": ([0.2, 0.9, 1e-6], [1e-30, 1 - 1e-7], [0.0, 1.0, -1, np.nan, [0.1] * 99, [[0.2]]]),
    "threshold": ([0, 0.5, 0.999], [], [1, -0.1, np.nan, "0.5"]),
    "usage_weight": ([0, 3.5], [1e9], [1e300, -1, np.nan, np.inf, "1"]),
    "information_weight": ([0, 3.5], [1e9], [1e300, -1, np.nan, np.inf, "1"]),
    "warmup": ([0, 0.5, 1], [], [1.5, -0.1, np.nan, "all"]),
    "prior": (["fixed", "pseudo_inputs"], [], ["learned", None, 1]),
    "n_pseudo_inputs": ([1, 3, 20], [], [0, -1, 1.5, "3", None]),
    "consistency_weight": ([0, 3.5], [1e9], [1e300, -1, np.nan, np.inf, "1"]),
    "consistency": (["centroid", "pairwise"], [], ["cosine", None]),
    "objective": (["balanced", "paper"], [], ["fair", None]),
}


@st.composite
def parameters(draw, cls):
    """Return up to four parameters, at most one of them wrong."""
    known = [name for name in VALUES if name in cls._get_param_names()]
    names = draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
    parts = {}
    for i, name in enumerate(names):
        good, may, bad = VALUES[name]
        grade = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2])) if i == 0 else 0
        values = (good, may or good, bad)[grade]
        value = values[draw(st.integers(0, len(values) - 1))]
        says = rf"\b{name}\b.*{_shown(value)}" if (grade == 2 or value in may) else ""
        parts[name] = Part(name, value, says, grade == 2)
    return parts


def _shown(value):
    """Match a value as a message writes it; of an array, its shape or a wrong entry."""
    if isinstance(value, list | tuple):
        return r"(\(99,\)|\(1, 1\)|" + re.escape(repr(value)) + ")"
    return (
        f"({re.escape(repr(value))}|{re.escape(f'{value:g}')})"
        if _is_real(value)
        else re.escape(str(value).split(":")[0])
    )


def _is_real(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- cases --------------------------------------------------------------------------------------

CODES: dict[str, tuple[Any, str]] = {
    "its own": (lambda Z: Z, ""),
    "zeros": (lambda Z: Z * 0, ""),
    "CSR": (sparse.csr_matrix, ""),
    "COO": (sparse.coo_array, ""),
    "DataFrame": (pd.DataFrame, ""),
    "list": (lambda Z: Z.tolist(), ""),
    "int": (lambda Z: Z.astype(int), ""),
    "huge": (lambda Z: Z * 0 + 1e30, r"\bZ\b"),
    "largest": (lambda Z: Z * 0 + 3e38, r"\bZ\b"),
    "beyond float32": (lambda Z: np.full(Z.shape, 1e200), r"\bZ\b.*(inf|1e\+200)"),
    "NaN": (lambda Z: Z * np.nan, r"\bZ\b.*NaN"),
    "infinity": (lambda Z: np.full(Z.shape, np.inf), r"\bZ\b.*inf"),
    "wide": (lambda Z: np.c_[Z, Z], r"\bZ\b.*\d columns"),
    "1-D": (lambda Z: Z[:, 0], r"\bZ\b.*1D"),
    "no codes": (lambda Z: Z[:0], r"\bZ\b.*0 sample"),
    "words": (lambda Z: np.full(Z.shape, "cat"), r"\bZ\b.*'cat'"),
    "None": (lambda Z: None, r"\bZ\b.*None"),
    "complex": (lambda Z: Z + 1j, r"\bZ\b.*[Cc]omplex"),
}
MAY_CODES = {"huge", "largest"}


@st.composite
def cases(draw, vary=("params", "X", "y", "sample_weight", "new", "Z")):
    """Return a case in which the parts named in `vary` are of any kind, the others ordinary."""
    cls = draw(st.sampled_from(ESTIMATORS))
    required = cls is ClassVSCTransformer
    n = draw(st.sampled_from([1, 2, 3, 9, 9, 40, 40])) if len(vary) > 1 else 12
    p = draw(st.sampled_from([1, 2, 5]))
    rng = np.random.default_rng(0)
    X, new = (Part(f"X: normal, ({n}, {p})", rng.normal(size=(n, p))) for _ in range(2))
    params = draw(parameters(cls)) if "params" in vary else {}
    if "X" in vary:
        X = draw(samples(n, p))
    weight = draw(weights(n)) if "sample_weight" in vary else Part("unweighted", None)
    y = Part("y: ints", np.arange(n) % 3, r"\by\b.*class" if required and n < 2 else "")
    if "y" in vary or "sample_weight" in vary:
        y, unlabeled = draw(labels(n, weight, required))
        if required and unlabeled is not None:
            params["unlabeled"] = Part("unlabeled", unlabeled)
    if "new" in vary:
        wide = draw(st.integers(0, 9)) == 0
        far = X.size > 1e9 or X.says  # from each other: what is ordinary for one overflows
        new = draw(samples(n, p + wide, ordinary=0 if far else 1e9))
        if wide:
            says = rf"X.*{p + 1} features|feature names|{new.says or '$^'}"
            new = new._replace(says=says, must=True)
    Z = Part("Z: its own", lambda Z: Z)
    if "Z" in vary:
        name = draw(st.sampled_from(list(CODES)))
        Z = Part(f"Z: {name}", CODES[name][0], CODES[name][1], name not in MAY_CODES)
    return Case(cls, params, X, y, weight, new, Z)
