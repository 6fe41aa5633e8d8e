"""Interpretable, class-consistent sparse latents for scikit-learn.

How to read the code: the numbered rooms, from a sample to the fitted estimator. Each imports
lower numbers only.

1. `_spike_slab`: the distribution of a code, exact zeros included, and its divergences.
2. `_likelihoods`: what the decoder's output means, p(x | z).
3. `_modules`: the networks, x -> q(z | x) -> z -> theta.
4. `_objective`: the loss, a sum of named, weighted terms.
5. `_data`: arrays as batches of tensors.
6. `_streams`: data that come in pieces.
7. `_net`: the skorch net that trains.
8. `_inference`: what a fitted estimator does.
9. `_validation`: what goes into a fit.
10. `_state`: the model of an estimator, built, published, pickled and saved.
11. `_base`: how an estimator is fitted.
12. `_classes`: what labels say, as classes.
13. `_collapse`: what the classes use of a code, and the warning if that is nothing.
14. `_estimators`: the three transformers.

Beside them `_blocks` decodes sparse samples of many features, `labels` has hierarchies of classes,
`bodies` has networks for images and deep ones, `testing` checks networks of your own,
`_files` writes whole files or none, `_tables` reads those of the command line, `_persistence` saves
and loads, `_checkpoint` lets a training go on after a crash, `distributed` has several processes
train one model, `metrics` judges any codes, `inspection` says what a dimension does to the
features, `displays` and `report` show it, `editing` changes samples by their codes, `export` writes
ONNX models, and `datasets` makes data whose factors are known.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._collapse import CollapseWarning
    from ._estimators import ClassVSCTransformer, VAETransformer, VSCTransformer
    from ._persistence import ModelFileError

#: Where each public name lives.
_HOMES = {
    "ClassVSCTransformer": "._estimators",
    "CollapseWarning": "._collapse",
    "ModelFileError": "._persistence",
    "VAETransformer": "._estimators",
    "VSCTransformer": "._estimators",
}
__all__ = [
    "ClassVSCTransformer",
    "CollapseWarning",
    "ModelFileError",
    "VAETransformer",
    "VSCTransformer",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the estimators, and torch with them, when they are first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
