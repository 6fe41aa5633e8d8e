"""Interpretable, class-consistent sparse codes for scikit-learn.

Read the code in the order of its numbered rooms, from a sample to the fitted estimator. Each room
imports only rooms with lower numbers.

1. `_spike_slab`: the distribution of a code, with exact zeros, and its divergences.
2. `_likelihoods`, `_mixed`: the likelihood p(x | z), which gives the decoder's output its meaning.
3. `_layers`, `_cross_fit`, `_modules`: layers, gates that follow the class, and the networks,
   x -> q(z | x) -> z -> theta.
4. `_gates`: what the gates of a batch say about its classes.
5. `_objective`: the losses. Each is a class, and a sum of named, weighted terms.
6. `_data`: arrays as batches of tensors.
7. `_streams`: data that come in pieces.
8. `_classes`: labels as class indices.
9. `_collapse`, `_rotation`, `_class_factors`, `_model`: the dimensions of the classes, the axes of
   a code, the factors at which a training begins, and the model that it makes, which encodes,
   decodes, scores and draws, and never changes.
10. `_net`, `_training`: the training that makes a model: skorch net, schedule and state.
11. `_validation`, `_estimator`: the checks of what goes into a fit, and the public methods.
12. `_estimators`: the three transformers, each with its parameters, prior and loss.

**A Training makes a Model, an estimator holds both, a file knows neither.**

The other modules support the rooms or build on the estimators.

Data and labels:

- `_tables`: what X may be.
- `labels`: how y is read, and hierarchies of classes.
- `datasets`: data whose factors are known.
- `_datafiles`: the data files of the command line.
- `anndata`: reading and writing cells.
- `_fingerprints`: checksums that recognise data.

Networks and training:

- `_blocks`: decoding samples of many features.
- `bodies`: networks for images, and deep networks.
- `testing`: checks for your own networks.
- `distributed`: several processes that train one model.
- `_guard`: protection of a fit from settings, threads, forks and signals around it.

Files:

- `_files`: files that are written whole or not at all, and trees of arrays in them.
- `_persistence`: the contents of a model file.
- `_checkpoint`: continuing a training after a crash.
- `export`: ONNX models.

Interpretation:

- `metrics`: measures of any codes.
- `_stability`: which dimensions refits find again.
- `inspection`: what a dimension does to the features.
- `_comparison`: measures of such changes.
- `displays`, `report`: figures, and a page about a model.
- `editing`: changing samples by their codes.
- `_pipelines`: a Pipeline as its transformer sees it.
- `_factor_names`: names that users give to dimensions.

Throughout:

- `_messages`: values in messages, and warnings at the user's line.
- `_sklearn`: the private parts of scikit-learn that the package uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._collapse import CollapseWarning, GeneralizationWarning
    from ._estimators import ClassVSCTransformer, VAETransformer, VSCTransformer
    from ._files import ModelFileError
    from ._stability import factor_stability

#: The module of each public name.
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
    """Import a public name on first use, because the estimators import torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
