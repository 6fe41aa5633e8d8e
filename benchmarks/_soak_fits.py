"""What the rows of `soak.py` share: small fits of iris, hashes of them, counts of outcomes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from _common import Row
from sklearn.datasets import load_iris

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer

ESTIMATORS = (VAETransformer, VSCTransformer, ClassVSCTransformer)
X, Y = load_iris(return_X_y=True)


def small(cls: type[Any] = ClassVSCTransformer, **parameters: Any) -> Any:
    """Return an estimator that fits in a moment."""
    defaults = {"hidden_layer_sizes": (16,), "max_epochs": 3, "batch_size": 50, "random_state": 0}
    return cls(6, **defaults | parameters)


def digest(estimator: Any) -> str:
    """Return a hash of all that is learned, and of how learning goes on."""
    result = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                add(str(key))
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            result.update(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode())

    state = estimator.__getstate__()
    add({name: x for name, x in state.items() if name not in ("checkpoint", "stop_reason_")})
    result.update(estimator.transform(X).tobytes())
    return result.hexdigest()


def tally(trials: Iterable[str]) -> Row:
    """Count the ways trials went; those named "miss: ..." are failures."""
    kinds = Counter(trials)
    misses = sum(n for kind, n in kinds.items() if kind.startswith("miss"))
    shown = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    return {"measured": shown, "met": not misses, "misses": misses}
