"""
==============================================
How do I put a classifier behind the codes?
==============================================

You put the transformer into a pipeline, before the classifier. This example measures
what that costs. On digits, a logistic regression on the codes is nearly as accurate as
one on the pixels, and somewhat less sure. In return its inputs are factors, and you can
look at the few that it uses for each class.
"""

# %%
# Cross-validate whole pipelines
# ------------------------------
#
# The transformer learns from labels, so it belongs *inside* the cross-validation. In a
# pipeline it sees the training folds only. A transformer that was fitted to all samples
# beforehand would have seen the labels that the score is measured with.
#
# Three figures describe each pipeline:
#
# - *accuracy*: the fraction of held-out samples whose class is right;
# - *log loss* on held-out samples, in nats: it also depends on how sure the classifier
#   is, and lower is better;
# - *log loss on training rows*: if it is far below the held-out one, the pipeline has
#   learned training rows by heart.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer

folds = StratifiedKFold(3, shuffle=True, random_state=0)


def judge(inputs, X, y):
    """Cross-validate a logistic regression behind each kind of input."""
    rows, estimators = {}, {}
    for name, steps in inputs.items():
        result = cross_validate(
            make_pipeline(*steps, StandardScaler(), LogisticRegression(max_iter=2000)),
            X,
            y,
            cv=folds,
            scoring=("accuracy", "neg_log_loss"),
            return_train_score=True,
            return_estimator=True,
        )
        rows[name] = {
            "accuracy": result["test_accuracy"].mean(),
            "log loss": -result["test_neg_log_loss"].mean(),
            "log loss, training rows": -result["train_neg_log_loss"].mean(),
        }
        estimators[name] = result["estimator"]
    return pd.DataFrame(rows).T, estimators


# %%
# Classes that separate
# ---------------------
#
# On digits, codes lose less than 0.02 of accuracy against the pixels. Their log loss is
# higher, by less than 0.1 nats: a dimension is active or not, so a code says less about
# how sure a class is.

X, y = load_digits(return_X_y=True)
code = ClassVSCTransformer(hidden_layer_sizes=(128,), max_epochs=80, random_state=0)
digits, estimators = judge(
    {
        "64 pixels": [],
        "PCA, 32 components": [PCA(32)],
        "ClassVSC, 32 dimensions": [code],
    },
    X,
    y,
)
print(digits.round(3).to_string())

# %%
# Classes that overlap
# --------------------
#
# Here the classes are thirds of how far diabetes has gone after a year. No classifier
# tells them apart well, and the accuracies differ by no more than noise would explain.
# Compare the log losses:
#
# - Ten dimensions are close to the ten features. The gap between held-out and training
#   rows is no wider than the gap of the features.
# - With 32 dimensions, more than this table needs, the log loss is higher and the gap
#   wider.
# - ``objective="balanced"`` learns the labels of the very rows that it encodes. The
#   codes of training rows then give the labels away, and the classifier relies on them.
#   On held-out rows it is worse than guessing, which has a log loss of log 3 = 1.10.
#   The default objective avoids this.

X_overlap, progression = load_diabetes(return_X_y=True)
thirds = pd.qcut(progression, 3, labels=False)
settings = {"max_epochs": 150, "random_state": 0}
overlap, _ = judge(
    {
        "10 features": [],
        "10 dimensions": [ClassVSCTransformer(10, **settings)],
        "32 dimensions": [ClassVSCTransformer(32, **settings)],
        "10, balanced": [ClassVSCTransformer(10, objective="balanced", **settings)],
    },
    X_overlap,
    thirds,
)
print(overlap.round(3).to_string())

# %%
# Look at what the classifier uses
# --------------------------------
#
# The picture has the coefficients of one pipeline on digits. Red dimensions speak for a
# class and blue ones against it. Each class relies on a few dimensions. In an average
# digit, most of the 32 inputs are zero.

coder, _, linear = estimators["ClassVSC, 32 dimensions"][0]
train, test = next(folds.split(X, y))
active = (coder.transform(X[test]) != 0).mean(axis=0)
print(f"{active.sum():.1f} of {active.size} inputs differ from 0, on average")

order = np.lexsort((abs(linear.coef_).argmax(axis=0), -active.round(1)))
largest = abs(linear.coef_).max()
figure, ax = plt.subplots(figsize=(9, 3.6), layout="constrained")
image = ax.imshow(linear.coef_[:, order], cmap="RdBu_r", vmin=-largest, vmax=largest)
ax.set(xticks=range(32), yticks=range(10), xlabel="dimension", ylabel="class")
ax.set_aspect("auto")
ax.set_xticklabels(order, fontsize=8)
_ = figure.colorbar(image, label="coefficient")

# %%
# **What this shows.** A pipeline with codes loses little, and you can look at its
# inputs.
#
# **What it does not show.** If the class is all you want to know, a classifier on the
# features is simpler, and here it is better. Three folds of 442 patients cannot tell
# accuracies that differ by a few hundredths.
#
# **Next.** :doc:`/choosing` says how to search the parameters of
# :class:`~sklearn_classvsc.ClassVSCTransformer`, and :doc:`/objective` explains the
# objectives. :doc:`plot_serving` saves such a pipeline.

# sphinx_gallery_start_ignore
raw, coded = digits.loc["64 pixels"], digits.loc["ClassVSC, 32 dimensions"]
assert coded["accuracy"] > raw["accuracy"] - 0.02
assert raw["log loss"] < coded["log loss"] < raw["log loss"] + 0.1
assert active.sum() < 12 and active.size == 32

assert len(X_overlap) == 442 and X_overlap.shape[1] == 10
assert overlap["accuracy"].max() < 0.65
assert np.ptp(overlap["accuracy"]) < 0.07  # three standard errors: 3 sqrt(0.25 / 442)
gap = overlap["log loss"] - overlap["log loss, training rows"]
assert overlap["log loss"]["10 dimensions"] < overlap["log loss"]["10 features"] + 0.05
assert gap["10 dimensions"] < gap["10 features"] + 0.01 < gap["32 dimensions"]
assert overlap["log loss"]["10 dimensions"] < overlap["log loss"]["32 dimensions"]
assert overlap["log loss"]["32 dimensions"] < np.log(3)
learned = overlap.loc["10, balanced"]
assert learned["log loss, training rows"] < 0.6 < np.log(3) < learned["log loss"]
# sphinx_gallery_end_ignore
