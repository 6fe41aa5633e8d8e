"""
=============================================================
How does it compare with PCA, NMF and dictionary learning?
=============================================================

Five methods encode the same digits, and the same metrics judge the codes. PCA keeps the
most: take it if that is what you want. ClassVSC keeps less, activates about a quarter
of its dimensions in each digit, and gives them to classes, because it learns from the
labels.
"""

# %%
# Encode the same digits in 32 dimensions
# ---------------------------------------
#
# For all five codes, *active* means not zero. PCA and VAE have no zeros, so all their
# dimensions are active everywhere. A dictionary does not learn how many dimensions it
# uses: it is set to 8 here, about as many as ClassVSC activates.
#
# The table has these columns, all for held-out digits:
#
# - *explained variance*: how much of the digits is decoded;
# - *active*: the mean number of active dimensions;
# - *consistency*: the overlap between the supports of two digits of a class;
# - *contrast*: how much larger that is than the overlap between classes;
# - *one dimension*: how well the best single dimension tells a class from all others,
#   where 0.5 is chance;
# - *accuracy*: how often a logistic regression on all dimensions is right.

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
network = {"hidden_layer_sizes": (128,), "max_epochs": 160, "random_state": 0}
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

codes, table = {}, {}
for name, encoder in encoders.items():
    with warnings.catch_warnings():
        # More passes of NMF change little.
        warnings.simplefilter("ignore", ConvergenceWarning)
        Z_train = encoder.fit(X_train, y_train).transform(X_train)
        Z = codes[name] = encoder.transform(X_test)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    table[name] = {
        "explained variance": pooled_fidelity_scorer(encoder, X_test),
        "active": (Z != 0).sum(axis=1).mean(),
        "consistency": class_consistency_score(Z, y_test),
        "contrast": class_contrast_score(Z, y_test),
        "one dimension": k_sparse_probe_score(Z_train, y_train, Z, y_test, k=1),
        "accuracy": probe.fit(Z_train, y_train).score(Z, y_test),
    }
table = pd.DataFrame(table).T
print(table.round(2).to_string())

# %%
# See which class uses which dimension
# ------------------------------------
#
# The pictures are of the three codes with zeros. In the code of ClassVSC, most columns
# are yellow in few rows.

figure, axes = plt.subplots(3, 1, figsize=(8, 9), layout="constrained")
for ax, name in zip(axes, ["NMF", "Dictionary", "ClassVSC"], strict=True):
    ActivationDisplay.from_codes(codes[name], y_test, ax=ax)
    ax.set_xlabel(name)

# %%
# **What this shows.** No linear code of 32 numbers decodes better than PCA, and PCA
# needs no tuning. ClassVSC lets a single dimension tell a class from the others.
#
# **What it does not show.** Contrast and accuracy compare unlike methods: ClassVSC has
# seen the labels and trains for contrast, and the others have not. The VAE keeps the
# least here, since its prior weighs more in its loss.
#
# **Next.** :doc:`/comparison` says when you need none of this, and names other
# packages. :doc:`/results/systems` has larger sets and more methods. :doc:`/metrics`
# explains the columns.

# sphinx_gallery_start_ignore
assert table["explained variance"].idxmax() == "PCA"
assert table["explained variance"].idxmin() == "VAE"
assert encoders["VAE"].kl_weight == 1  # ClassVSC: 0.2
others = table.drop("ClassVSC")
assert table.loc["ClassVSC", "contrast"] > others["contrast"].max() + 0.3
assert table["one dimension"].idxmax() == "ClassVSC"
assert 6 < table.loc["ClassVSC", "active"] < 10
assert (table.loc[["PCA", "VAE"], "active"] == 32).all()
assert table.loc["Dictionary", "active"] <= 8
# sphinx_gallery_end_ignore
