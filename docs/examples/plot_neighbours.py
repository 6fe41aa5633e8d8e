"""
=================================================
Beside PCA, NMF and dictionary learning
=================================================

Five codes of the same digits, by the same metrics: what does each know of the classes, how much
does it keep, and how short is it?
"""

# %%
# The same data, 32 dimensions each
# ---------------------------------
#
# *Non-zero means active*, for each of them. That is what the zeros of NMF, dictionaries and
# ClassVSC are for; a PCA and a VAE have none, and are active everywhere. How many atoms a
# dictionary uses for a sample is set, and not learned: here 8, about as many as ClassVSC takes.

import warnings

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer, VAETransformer
from sklearn_classvsc.displays import ActivationDisplay
from sklearn_classvsc.metrics import (
    class_consistency_score,
    class_contrast_score,
    k_sparse_probe_score,
    pooled_fidelity_scorer,
)

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.3, stratify=y, random_state=0
)
network = {"hidden_layer_sizes": (128,), "max_epochs": 250, "random_state": 0}
encoders = {
    "PCA": PCA(32, random_state=0),
    "NMF": NMF(32, init="nndsvda", max_iter=500, random_state=0),
    "Dictionary": MiniBatchDictionaryLearning(
        32,
        fit_algorithm="cd",
        max_iter=50,
        transform_algorithm="omp",
        transform_n_nonzero_coefs=8,
        random_state=0,
    ),
    "VAE": VAETransformer(32, **network),
    "ClassVSC": ClassVSCTransformer(32, **network),
}

codes, rows = {}, []
for name, encoder in encoders.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of NMF: more passes change little
        Z_train = encoder.fit(X_train, y_train).transform(X_train)
        Z = codes[name] = encoder.transform(X_test)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    rows.append(
        {
            "code": name,
            "explained variance": pooled_fidelity_scorer(encoder, X_test),
            "active": (Z != 0).sum(axis=1).mean(),
            "consistency": class_consistency_score(Z, y_test),
            "contrast": class_contrast_score(Z, y_test),
            "one dimension": k_sparse_probe_score(Z_train, y_train, Z, y_test, k=1),
            "accuracy": probe.fit(Z_train, y_train).score(Z, y_test),
        }
    )
table = pd.DataFrame(rows).set_index("code")
print(table.round(2).to_string())

# %%
# *one dimension* is how well the best single dimension tells a class from all others (0.5 is
# chance), *accuracy* that of a logistic regression on all of them.
#
# PCA decodes best: it is the best that a linear code of 32 numbers can be, and needs no training.
# If that is what you want, take it. ClassVSC keeps less, uses a quarter of the dimensions, and has
# them belong to classes: a single one tells a class from the others. It has also seen the labels,
# which the others have not: contrast is what it was trained for. The VAE keeps least, as the prior
# weighs five times as much in its loss.

figure, axes = plt.subplots(3, 1, figsize=(8, 9), layout="constrained")
for ax, name in zip(axes, ["NMF", "Dictionary", "ClassVSC"], strict=True):
    ActivationDisplay.from_codes(codes[name], y_test, ax=ax)
    ax.set_xlabel(name)

# sphinx_gallery_start_ignore
assert table["explained variance"].idxmax() == "PCA"
assert table.loc["ClassVSC", "contrast"] > table["contrast"].drop("ClassVSC").max() + 0.3
assert table["one dimension"].idxmax() == "ClassVSC"
assert 6 < table.loc["ClassVSC", "active"] < 11
# sphinx_gallery_end_ignore
