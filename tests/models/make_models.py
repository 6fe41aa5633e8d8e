"""Writes the model files that every later version must load, and what they must give.

    python tests/models/make_models.py

A file that is there is left alone: it is the record of the version that wrote it. A new schema
version gets new files beside the old ones, by the same command.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._persistence import SCHEMA_VERSION

FOLDER = Path(__file__).parent
PARAMETERS = {
    "n_components": 4,
    "hidden_layer_sizes": (6,),
    "max_epochs": 8,
    "batch_size": 8,
    "learning_rate": 0.1,
    "random_state": 0,
}
COLUMNS = ["été", "b/c", "$"]
NAMES = np.array(["cat", "dog", "ß"])


def make():
    """Return the models, each with its samples and labels, by name."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = (rng.normal(size=(3, 3))[y] * 3 + rng.normal(size=(24, 3))) * [1, 1e3, 1e-3]
    frame = pd.DataFrame(X, columns=COLUMNS)
    bits = ((X > X.mean(0)) * 1.0).astype(np.float32)
    mixed = np.c_[bits[:, 0], np.where(rng.random((24, 2)) < 0.1, np.nan, X[:, 1:])]
    some = np.where(np.arange(24) % 4, NAMES[y], "?").astype(object)
    data = {
        "vae_float64": (VAETransformer(), X, None),
        "vae_names": (VAETransformer(activation="tanh"), frame, None),
        "vsc_float32": (
            VSCTransformer(alpha=[0.4, 0.5, 0.6, 0.9], kl_weight=0.1),
            np.float32(X),
            None,
        ),
        "vsc_bernoulli": (
            VSCTransformer(alpha=0.55, kl_weight=0.1, sparse_output=True),
            bits,
            None,
        ),
        "class_integers": (ClassVSCTransformer(), X, y),
        "class_strings": (ClassVSCTransformer(unlabeled="?"), frame, some),
        "class_mixed": (ClassVSCTransformer(likelihood={0: "bernoulli"}), mixed, y),
        "class_paper": (
            ClassVSCTransformer(objective="paper", alpha=0.55, kl_weight=0.1),
            bits,
            NAMES[y],
        ),
    }
    return {
        name: (estimator.set_params(**PARAMETERS).fit(X, y).partial_fit(X, y), X, y)
        for name, (estimator, X, y) in data.items()
    }


def expected(estimator, X, y):
    """Return what the model gives, and what it was asked, as arrays without pickles."""
    gamma, Z = estimator.activation_proba(X), estimator.transform(X)
    if type(estimator) is not VAETransformer:
        assert abs(gamma - 0.5).min() > 1e-3, "codes that another processor may switch off"
        assert 0.1 < (gamma > 0.5).mean() < 0.9, "codes that show little"
    arrays = {
        "X": np.asarray(X),
        "Z": Z.toarray() if hasattr(Z, "toarray") else Z,
        "gamma": gamma,
        "X_hat": estimator.inverse_transform(Z),
        "score": estimator.score_samples(X),
    }
    return arrays if y is None else arrays | {"y": np.asarray(y, dtype=str)}


if __name__ == "__main__":
    for name, (estimator, X, y) in make().items():
        path = FOLDER / f"v{SCHEMA_VERSION}_{name}.safetensors"
        if not path.exists():
            estimator.save(path)
            np.savez_compressed(path.with_suffix(".npz"), **expected(estimator, X, y))
            print(f"wrote {path}")
