"""Pipelines around a transformer of this package, described in the columns of their input.

Functions of (est, X, y) begin with `unroll`: for a Pipeline, it returns an estimator that encodes
and decodes, and the X for it. The fitted steps say what becomes of each column: one-hot columns
know their category, and scaled columns their units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

#: Seconds of a day, the unit of dates.
DAY = 86_400.0


class Column(NamedTuple):
    """Input column of the transformer; value * scale + offset is in the units of `name`."""

    name: str  # "island = Biscoe"
    origin: str  # "island", the column of the table
    scale: float = 1.0
    offset: float = 0.0
    known: bool = True  # whether the steps say what it means
    kind: str = "number"  # or "category" (0 or 1), or "date" (days since 1970)


def unroll(est: Any, X: Any) -> tuple[Any, Any]:
    """Return an estimator that encodes and decodes samples, and the samples for it.

    Parameters
    ----------
    est : estimator
        A Pipeline with one transformer of this package and any steps before and after it, or a
        search over one. Any other estimator is returned unchanged.
    X : array-like
        Input of `est`.

    Returns
    -------
    est : estimator
        Has `transform`, `inverse_transform` and `feature_names_in_`. `core_of` returns its
        transformer.
    X : array, CSR or DataFrame
        Samples in the columns that `est` names. If the first steps can be undone, these are the
        columns of the table. Otherwise they are the columns that the steps make: numbers in their
        own units, and one-hot columns. A column that keeps its name, but may have other values,
        says that it is transformed.
    """
    steps = _steps(est)
    if steps is None:
        return getattr(est, "best_estimator_", est), X
    *before, core = steps
    if not before:
        return core, X
    head = Pipeline([(str(i), step) for i, step in enumerate(before)])
    first = _first_columns(head, X)
    columns = _columns(before, first)
    if not (columns and all(column.known for column in columns)) and _invertible(head, core):
        return Through.undone(core, head, X), X
    if columns is None or len(columns) != core.n_features_in_:
        columns = _fresh(getattr(core, "feature_names_in_", range(core.n_features_in_)))
    of_table = {column.name for column in first or []}
    columns = [c if c.known or c.name not in of_table else _transformed(c) for c in columns]
    through = Through.folded(core, columns)
    return through, through.shown(head.transform(X))


def sparse_codes(est: Any, X: Any) -> Any:
    """Return the codes as CSR, in whatever format `transform` returns them."""
    check_is_fitted(est)
    Z = est.transform(X)
    return csr_array(Z if hasattr(Z, "toarray") else np.asarray(Z))


def feature_names(est: Any, n_features: int) -> list[str]:
    """Return the names that the estimator was fitted with, or x0, x1 and so on."""
    names = getattr(est, "feature_names_in_", None)
    return [f"x{i}" for i in range(n_features)] if names is None else [str(name) for name in names]


def named_as(core: Any, X: Any) -> Any:
    """Return an array with the feature names of a fitted transformer, if it has any."""
    names = getattr(core, "feature_names_in_", None)
    if names is None or hasattr(X, "columns") or hasattr(X, "tocsr"):
        return X
    return pd.DataFrame(X, columns=names)


def core_of(est: Any) -> Any:
    """Return the transformer of this package in a Pipeline or a search, or else `est`."""
    steps = _steps(est)
    return (
        getattr(est, "core", getattr(est, "best_estimator_", est)) if steps is None else steps[-1]
    )


class Through:
    """A transformer behind other steps, which encodes and decodes samples as users see them.

    Parameters
    ----------
    core : estimator
        The transformer. Other attributes are read from it.
    names, origins, kinds : sequence
        Names of the visible columns, the columns of the table that they come from, and their kinds
        ("number", "category" or "date").
    into, out : callable
        Map visible samples to samples of the transformer, and back.
    """

    n_features_in_: int

    def __init__(
        self,
        core: Any,
        names: Sequence[str] | None,
        origins: Sequence[str] | None,
        kinds: Sequence[str] | None,
        into: Callable[[Any], Any],
        out: Callable[[Any], Any],
    ) -> None:
        self.core, self.origins, self.kinds = core, origins, kinds
        self._into, self._out = into, out
        self.feature_names_in_ = None if names is None else np.asarray(names, dtype=object)

    @classmethod
    def undone(cls, core: Any, head: Pipeline, X: Any) -> Through:
        """Show the columns of the table: the first steps are applied and undone."""
        names = getattr(head, "feature_names_in_", getattr(X, "columns", None))
        through = cls(core, names, None, None, head.transform, head.inverse_transform)
        through.n_features_in_ = head.n_features_in_
        return through

    @classmethod
    def folded(cls, core: Any, columns: list[Column]) -> Through:
        """Show the columns that the first steps make, in the units of the table."""
        scale = np.array([column.scale for column in columns])
        offset = np.array([column.offset for column in columns])
        if (scale == 1).all() and not offset.any():
            into = out = _as_is
        else:

            def into(X: Any) -> Any:
                return _times(X, 1 / scale) if hasattr(X, "tocsr") else (X - offset) / scale

            def out(X: Any) -> Any:
                if hasattr(X, "tocsr"):
                    return _times(X, scale)
                return np.asarray(X, dtype=np.float64) * scale + offset

        names = [column.name for column in columns]
        origins = [column.origin for column in columns]
        through = cls(core, names, origins, [column.kind for column in columns], into, out)
        through.n_features_in_ = len(columns)
        return through

    def around(self, core: Any) -> Through:
        """Return the same with another transformer of the same samples."""
        other = copy(self)
        other.core = core
        return other

    def into(self, X: Any) -> Any:
        """Return visible samples as the transformer takes them."""
        return named_as(self.core, self._into(X))

    def shown(self, X: Any) -> Any:
        """Return samples of the transformer as users see them."""
        return self._out(X.tocsr() if hasattr(X, "tocsr") else np.asarray(X))

    def transform(self, X: Any) -> Any:
        """Encode samples."""
        return self.core.transform(self.into(X))

    def inverse_transform(self, Z: Any) -> Any:
        """Decode codes into visible samples."""
        return self._out(self.core.inverse_transform(Z))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean ELBO of samples, in nats."""
        return float(self.core.score(self.into(X)))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the transformer."""
        if name == "core":  # a copy is empty at first
            raise AttributeError(name)
        return getattr(self.core, name)

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the transformer is fitted."""
        return bool(self.core.__sklearn_is_fitted__())


def origins_of(est: Any, names: Sequence[str]) -> list[str]:
    """Return the column of the table of each feature, for an estimator of `unroll`."""
    origins = est.origins if isinstance(est, Through) else None
    return list(names) if origins is None else list(origins)


def kinds_of(est: Any, n_features: int) -> list[str]:
    """Return whether features are numbers, categories or dates, for an estimator of `unroll`."""
    kinds = est.kinds if isinstance(est, Through) else None
    return ["number"] * n_features if kinds is None else list(kinds)


def _steps(est: Any) -> list[Any] | None:
    """Return the steps up to the transformer of this package, or None if there is none."""
    est = getattr(est, "best_estimator_", est)
    if not isinstance(est, Pipeline):
        return None
    steps = list(_flat(est))
    ours = [i for i, step in enumerate(steps) if hasattr(step, "activation_proba")]
    if not ours:
        return None
    if len(ours) > 1:
        raise ValueError(
            f"est is a Pipeline with {len(ours)} transformers of this package, but must have one: "
            "pass the part that ends with the one to inspect."
        )
    return [step for step in steps[: ours[0] + 1] if step not in (None, "passthrough")]


def _flat(pipeline: Pipeline) -> Any:
    for _, step in pipeline.steps:
        yield from _flat(step) if isinstance(step, Pipeline) else [step]


def _as_is(X: Any) -> Any:
    return X


def _times(X: Any, scale: NDArray[np.float64]) -> Any:
    return X.multiply(scale).tocsr()


def _invertible(head: Pipeline, core: Any) -> bool:
    """Return whether the first steps can be undone, with numbers as the result."""
    for _, step in head.steps:
        if isinstance(step, FunctionTransformer) and step.func is not None:
            if step.inverse_func is None:  # scikit-learn then leaves the values as they are
                return False
    try:
        undone = head.inverse_transform(np.zeros((1, core.n_features_in_)))
        return bool(np.asarray(undone).dtype.kind == "f" and hasattr(head, "n_features_in_"))
    # Authors of steps choose what a step without an inverse raises.
    except (AttributeError, ValueError, TypeError, NotImplementedError):
        return False


# -- columns after fitted steps --------------------------------------------------------------------


def _first_columns(head: Pipeline, X: Any) -> list[Column] | None:
    """Return the columns of the table, or None if X is not a table, but texts for example."""
    names = getattr(head, "feature_names_in_", getattr(X, "columns", None))
    if names is None:
        shape = np.shape(X) if not hasattr(X, "shape") else X.shape
        names = [f"x{i}" for i in range(shape[1])] if len(shape) == 2 else None
    return None if names is None else [Column(str(name), str(name)) for name in names]


def _columns(steps: list[Any], columns: list[Column] | None) -> list[Column] | None:
    for step in steps:
        columns = _after(step, columns)
    return columns


def _after(step: Any, columns: list[Column] | None) -> list[Column] | None:
    """Return the columns after a fitted step, or None if the step does not say."""
    if step in (None, "passthrough"):
        return columns
    if isinstance(step, FunctionTransformer) and step.func is None:
        return columns
    if step == "drop":
        return []
    if isinstance(step, Pipeline):
        return _columns([part for _, part in step.steps], columns)
    if isinstance(step, FeatureUnion):
        return _joined([_after(part, columns) for _, part in step.transformer_list])
    if columns is not None:
        if isinstance(step, ColumnTransformer):
            return _of_column_transformer(step, columns)
        if hasattr(step, "input_to_outputs_"):  # skrub's TableVectorizer
            return _of_table_vectorizer(step, columns)
        if (units := _units(step)) is not None:
            return [
                column._replace(
                    scale=column.scale * scale, offset=column.offset + column.scale * offset
                )
                for column, scale, offset in zip(columns, *units, strict=True)
            ]
        if isinstance(step, OneHotEncoder):
            return [
                Column(f"{column.name} = {level}", column.origin, kind="category")
                for column, levels in zip(columns, _levels(step), strict=True)
                for level in levels
            ]
        if hasattr(step, "extracted_features_"):  # skrub's DatetimeEncoder
            return [_of_date(columns[0], part) for part in step.extracted_features_]
        if hasattr(step, "get_support"):
            return [columns[i] for i in np.flatnonzero(step.get_support())]
    return _by_names(step, columns)


def _names_in(step: Any, columns: list[Column]) -> list[str]:
    """Return the names of the input columns of a step."""
    names = getattr(step, "feature_names_in_", None)
    if names is not None and len(names) == len(columns):
        return [str(name) for name in names]
    return [column.name for column in columns]


def _of_column_transformer(step: ColumnTransformer, columns: list[Column]) -> list[Column] | None:
    made: dict[int, Column] = {}
    names = np.array(_names_in(step, columns), dtype=object)
    for name, part, chosen in step.transformers_:
        where = step.output_indices_[name]
        if where.start == where.stop:
            continue
        picked = np.arange(len(columns))
        if isinstance(chosen, str) or (np.size(chosen) and isinstance(np.ravel(chosen)[0], str)):
            picked = np.flatnonzero(np.isin(names, chosen))
            order = {name: i for i, name in enumerate(np.ravel(chosen))}
            picked = picked[np.argsort([order[names[i]] for i in picked])]
        else:
            picked = np.ravel(picked[chosen])
        is_text = isinstance(chosen, str | int)  # one column, passed as a vector
        after = _after(part, [columns[i] for i in picked])
        if is_text and after is not None and hasattr(part, "vocabulary_"):
            origin = columns[picked[0]]
            after = [Column(f"{origin.name}: {word.name}", origin.origin) for word in after]
        if after is None or len(after) != where.stop - where.start:
            return None
        made |= dict(zip(range(where.start, where.stop), after, strict=True))
    return [made[i] for i in range(len(made))] if sorted(made) == [*range(len(made))] else None


def _of_table_vectorizer(step: Any, columns: list[Column]) -> list[Column]:
    """Return the columns after a TableVectorizer, by the fitted transformer of each input."""
    made: dict[str, Column] = {}
    for name, column in zip(_names_in(step, columns), columns, strict=True):
        outputs = step.input_to_outputs_.get(name, [])
        after = _after(step.transformers_.get(name), [column])
        if after is None or len(after) != len(outputs) or not all(c.known for c in after):
            # It keeps the column, or makes topics or n-grams from it.
            alone = len(outputs) == 1
            after = [Column(column.name if alone else o, column.origin) for o in outputs]
        made |= dict(zip(outputs, after, strict=True))
    return [made[name] for name in step.all_outputs_]


def _units(step: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and offset that undo a fitted scaler."""
    if isinstance(step, StandardScaler | RobustScaler | MaxAbsScaler):
        n = step.n_features_in_
        scale = getattr(step, "scale_", None)
        offset = getattr(step, "mean_", None) if getattr(step, "with_mean", False) else None
        if isinstance(step, RobustScaler):
            offset = step.center_
        return (
            np.ones(n) if scale is None else np.asarray(scale, dtype=float),
            np.zeros(n) if offset is None else np.asarray(offset, dtype=float),
        )
    if isinstance(step, MinMaxScaler):
        return 1 / step.scale_, -step.min_ / step.scale_
    return None


def _levels(step: OneHotEncoder) -> list[list[Any]]:
    """Return the categories that have a column, for each input."""
    rare = getattr(step, "infrequent_categories_", None)
    levels = []
    for i, categories in enumerate(step.categories_):
        dropped = None if step.drop_idx_ is None else step.drop_idx_[i]
        kept = [level for j, level in enumerate(categories.tolist()) if j != dropped]
        if rare is not None and rare[i] is not None:
            kept = [level for level in kept if level not in set(rare[i].tolist())] + ["infrequent"]
        levels.append(kept)
    return levels


def _of_date(column: Column, part: str) -> Column:
    if part == "total_seconds":
        return Column(f"{column.name} (days)", column.origin, 1 / DAY, kind="date")
    return Column(f"{column.name}, {part.replace('_', ' ')}", column.origin)


def _by_names(step: Any, columns: list[Column] | None) -> list[Column] | None:
    """Return the columns after a step that only names them, or None if it does not."""
    given = None if columns is None else _names_in(step, columns)
    try:
        wanted = None if hasattr(step, "feature_names_in_") else given
        names = [str(name) for name in step.get_feature_names_out(wanted)]
    except (AttributeError, ValueError, TypeError):
        return None
    if hasattr(step, "vocabulary_"):
        return [Column(name, name) for name in names]
    if columns is None or given is None:
        return _fresh(names)
    # Columns that keep their names keep their meaning, such as imputed ones.
    of_names = dict(zip(given, columns, strict=True))
    kept = [of_names.get(name, Column(name, name, known=False)) for name in names]
    is_imputer = hasattr(step, "statistics_") or hasattr(step, "indicator_")
    # Other steps may change the values.
    return kept if is_imputer else [c._replace(scale=1.0, offset=0.0, known=False) for c in kept]


def _joined(parts: list[list[Column] | None]) -> list[Column] | None:
    if any(part is None for part in parts):
        return None
    return [column for part in parts for column in part or []]


def _transformed(column: Column) -> Column:
    name = f"{column.name} (transformed)"
    return column._replace(name=name, origin=name)


def _fresh(names: Any) -> list[Column]:
    names = [f"x{name}" if isinstance(name, int) else str(name) for name in names]
    return [Column(name, name, known=False) for name in names]
