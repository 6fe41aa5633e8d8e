"""
============================================
A pipeline that ends with a classifier
============================================

Is anything lost for a classifier that sees codes instead of samples? And what does a classifier
look like whose inputs are factors?
"""

# %%
# Pipelines on the same folds
# ---------------------------
#
# A transformer that is fitted with labels belongs *inside* the cross-validation: in a pipeline it
# sees those of the training folds alone. Fitted beforehand, to all samples, it would have seen the
# labels that the score is then measured with.
#
# Two figures are of the rows that are left out. Accuracy is the fraction of classes that are right.
# Log loss, in nats, also asks how sure the classifier was. A third figure is the log loss on the
# training rows: where it is far below the second, much has been learned by heart.

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
        pipeline = make_pipeline(*steps, StandardScaler(), LogisticRegression(max_iter=2000))
        result = cross_validate(
            pipeline,
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

X, y = load_digits(return_X_y=True)
digits, estimators = judge(
    {
        "64 pixels": [],
        "PCA, 32 components": [PCA(32)],
        "ClassVSC, 32 dimensions": [ClassVSCTransformer(hidden_layer_sizes=(128,), random_state=0)],
    },
    X,
    y,
)
print(digits.round(3).to_string())

# %%
# Accuracy: the codes are a hundredth or two behind the pixels. Log loss: they are behind by less
# than a tenth of a nat, since a gate is on or off, and a code therefore says less of how sure the
# class is. The gain is another: the classifier has few inputs at a time, and you can look at each.

# %%
# Classes that overlap
# --------------------
#
# The classes are thirds of how far diabetes has gone after a year. No classifier tells them apart
# well.

X_overlap, progression = load_diabetes(return_X_y=True)
thirds = pd.qcut(progression, 3, labels=False)
overlap, _ = judge(
    {
        "10 features": [],
        "ClassVSC, 10 dimensions": [ClassVSCTransformer(10, random_state=0)],
        "ClassVSC, 32 dimensions": [ClassVSCTransformer(random_state=0)],
        'ClassVSC, 10, "balanced"': [ClassVSCTransformer(10, objective="balanced", random_state=0)],
    },
    X_overlap,
    thirds,
)
print(overlap.round(3).to_string())

# %%
# Accuracy: ten dimensions do as well as the ten features, as far as three folds can tell. Log loss:
# they are close to the features too, and the figure of the training rows promises no more than that
# of the features does. With 32 dimensions, more than this table needs, both figures are worse. The
# last row has gates that have learned the labels of the very rows that they are made for. The codes
# of training rows then give the labels away, and the classifier relies on it: its log loss on new
# rows is worse than that of guessing, which is log 3 = 1.10.

# %%
# What the classifier looks at
# ----------------------------
#
# The picture shows the coefficients of the first fold's pipeline on the digits. Each class weighs
# a few dimensions, most of which are its own, and hardly any of the others.

coder, _, linear = estimators["ClassVSC, 32 dimensions"][0]
train, test = next(folds.split(X, y))
active = (coder.transform(X[test]) != 0).mean(axis=0)
print(f"{active.sum():.1f} of {active.size} inputs differ from 0, on average")

order = np.lexsort((abs(linear.coef_).argmax(axis=0), -active.round(1)))
figure, ax = plt.subplots(figsize=(9, 3.6), layout="constrained")
largest = abs(linear.coef_).max()
image = ax.imshow(linear.coef_[:, order], cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
ax.set(xticks=range(32), yticks=range(10), xlabel="dimension", ylabel="class")
ax.set_xticklabels(order, fontsize=8)
_ = figure.colorbar(image, label="coefficient")

# sphinx_gallery_start_ignore
raw, code = digits.loc["64 pixels"], digits.loc["ClassVSC, 32 dimensions"]
assert code["accuracy"] > raw["accuracy"] - 0.02
assert raw["log loss"] < code["log loss"] < raw["log loss"] + 0.1
assert active.sum() < 12

raw, code = overlap.loc["10 features"], overlap.loc["ClassVSC, 10 dimensions"]
assert code["accuracy"] > raw["accuracy"] - 0.03
assert code["log loss"] < raw["log loss"] + 0.05
assert code["log loss"] - code["log loss, training rows"] < 0.1
assert code["log loss"] < overlap.loc["ClassVSC, 32 dimensions", "log loss"] < np.log(3)
learned = overlap.loc['ClassVSC, 10, "balanced"']
assert learned["log loss, training rows"] < 0.6 < np.log(3) < learned["log loss"]
# sphinx_gallery_end_ignore
