"""
==============================================
What if only a few samples have a label?
==============================================

Ten digits of each class have a label, and more than a thousand have none. The model
learns from all of them. The samples without a label make the decoded digits better.
They hardly change which dimensions belong to a class: that comes from the labels.
"""

# %%
# Say which value means "no label"
# --------------------------------
#
# Set ``unlabeled`` to the value of ``y`` that stands for a missing label. It has no
# default: -1 and 1 may well be two classes of yours. The reconstruction learns from
# all samples, and the gates learn from those with a label.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.metrics import class_contrast_score, fidelity_scorer

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.3, stratify=y, random_state=0
)
rng = np.random.default_rng(0)
known = np.full_like(y_train, -1)
for label in np.unique(y_train):
    chosen = rng.choice(np.flatnonzero(y_train == label), 10, replace=False)
    known[chosen] = label
labelled = known != -1
print(f"{labelled.sum()} digits with a label, {(~labelled).sum()} without")

# %%
# Fit with and without the other samples
# --------------------------------------
#
# Three models are fitted for 500 steps each: to the digits with a label alone, to all
# digits with those labels, and to all digits with all labels. The table has three
# held-out figures: how much of the digits is decoded, how much classes differ in their
# supports, and how often a logistic regression on the codes names the right digit. The
# regression learns from the labels that the model had.


def scores(X_fit, y_fit, X_labelled, y_labelled):
    """Return what a code is worth on held-out digits."""
    epochs = 500 * 256 // max(len(X_fit), 256)
    est = ClassVSCTransformer(
        hidden_layer_sizes=(64,), max_epochs=epochs, unlabeled=-1, random_state=0
    ).fit(X_fit, y_fit)
    Z = est.transform(X_test)
    probe = LogisticRegression(max_iter=2000)
    return {
        "explained variance": fidelity_scorer(est, X_test),
        "contrast": class_contrast_score(Z, y_test),
        "accuracy": probe.fit(est.transform(X_labelled), y_labelled).score(Z, y_test),
    }


few = X_train[labelled], known[labelled]
table = pd.DataFrame(
    {
        "few labels, few digits": scores(*few, *few),
        "few labels, all digits": scores(X_train, known, *few),
        "all labels, all digits": scores(X_train, y_train, X_train, y_train),
    }
).T
print(table.round(2).to_string())

# %%
# The digits without a label raise the explained variance by more than a tenth. Contrast
# and accuracy stay about the same. All labels would raise them further: ten digits do
# not show all the ways to write a digit.

figure, axes = plt.subplots(1, 3, figsize=(10, 2.4), sharey=True, layout="constrained")
for ax, name in zip(axes, table, strict=True):
    ax.barh(table.index, table[name], color=["#E69F00", "#0072B2", "0.6"])
    ax.set(xlabel=name, xlim=(0, 1))
_ = axes[0].invert_yaxis()

# %%
# **What this shows.** Samples without a label help the decoder. Labels give the
# dimensions their roles.
#
# **What it does not show.** One draw of 100 labels cannot say how much the figures
# vary. :doc:`/results/labels` has more sets and shares of labels.
#
# **Next.** :doc:`/labels` explains how
# :class:`~sklearn_classvsc.ClassVSCTransformer` uses few labels, and the other kinds of
# labels: several for a sample, groups, and numbers.

# sphinx_gallery_start_ignore
assert labelled.sum() == 100 and (~labelled).sum() > 1000
alone, helped, every = table.to_numpy()
assert (every > helped).all()
assert helped[0] > alone[0] + 0.1
assert abs(helped - alone)[1:].max() < 0.05
assert every[1] > helped[1] + 0.1 and every[2] > helped[2] + 0.05
# sphinx_gallery_end_ignore
