"""Interpretable, class-consistent sparse latents for scikit-learn.

How to read the code: the numbered rooms, from a sample to the fitted estimator. Each imports
lower numbers only.

1. `_spike_slab`: the distribution of a code, exact zeros included, and its divergences.
2. `_likelihoods`, `_mixed`: what the decoder's output means, p(x | z).
3. `_layers`, `_cross_fit`, `_modules`: layers, gates that follow the class, and the networks, x ->
   q(z | x) -> z -> theta.
4. `_gates`: what the gates of a batch say of its classes.
5. `_objective`: the loss. One class for each, a sum of named, weighted terms.
6. `_data`: arrays as batches of tensors.
7. `_streams`: data that come in pieces.
8. `_classes`: what labels say, as classes.
9. `_collapse`, `_rotation`, `_class_factors`, `_model`: what a training has made: its classes, its
   axes, the factors it begins from; and the model, which never changes: encode, decode, score,
   draw.
10. `_net`, `_training`: a training makes a model: the skorch net, its schedule, its state.
11. `_validation`, `_estimator`: what goes into a fit, checked; and all that a user calls.
12. `_estimators`: the three transformers, siblings: parameters, prior and loss.

**A Training makes a Model, an estimator holds both, a file knows neither.**

Beside them `_pipelines` sees a Pipeline as its transformer does, `_factor_names` reads names that
users give to dimensions, `_blocks` decodes samples of many features, `_tables` says what X may be,
`labels` has hierarchies of classes, `bodies` has networks for images and deep ones, `testing`
checks networks of your own, `_guard` keeps what goes on around a fit away from it, `_messages`
tells users what is wrong, `_files` writes whole files or none and holds trees of arrays,
`_fingerprints` recognises data, `_persistence` says what a model file holds, `_checkpoint` lets a
training go on after a crash, `distributed` has several processes train one model, `metrics` judges
any codes, `_stability` says which dimensions refits find again, `inspection` what a dimension does
to the features, `_comparison` what such changes are compared by, `displays` and `report` show it,
`editing` changes samples by their codes, `export` writes ONNX models, `anndata` reads and writes
cells, `_datafiles` reads the files of the command line, and `datasets` makes data whose factors are
known.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._collapse import CollapseWarning, GeneralizationWarning
    from ._estimators import ClassVSCTransformer, VAETransformer, VSCTransformer
    from ._files import ModelFileError
    from ._stability import factor_stability

#: Where each public name lives.
_HOMES = {
    "ClassVSCTransformer": "._estimators",
    "CollapseWarning": "._collapse",
    "GeneralizationWarning": "._collapse",
    "ModelFileError": "._files",
    "VAETransformer": "._estimators",
    "VSCTransformer": "._estimators",
    "factor_stability": "._stability",
}
__all__ = [
    "ClassVSCTransformer",
    "CollapseWarning",
    "GeneralizationWarning",
    "ModelFileError",
    "VAETransformer",
    "VSCTransformer",
    "factor_stability",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the estimators, and torch with them, when they are first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
