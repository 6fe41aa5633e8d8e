"""
========================================
Few labels: what unlabeled samples bring
========================================

Labels are dear, samples are not. With ten labels of each digit, do the thousand digits without a
label help?
"""

# %%
# A label that means "none"
# -------------------------
#
# ``unlabeled`` names the value of ``y`` that stands for no label. It is a parameter, and not -1 by
# itself, so that labels -1 and 1 stay two classes. Samples without a label take part in the
# reconstruction; the gates learn from the others.

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


def with_labels(n_per_class, seed):
    """Return the labels, all but `n_per_class` of each class replaced by -1."""
    rng = np.random.default_rng(seed)
    known = np.full_like(y_train, -1)
    for label in np.unique(y_train):
        chosen = rng.choice(np.flatnonzero(y_train == label), n_per_class, replace=False)
        known[chosen] = label
    return known


def scores(X_fit, y_fit, labeled):
    """Return what a code is worth on held-out digits, and a classifier of the labeled ones."""
    epochs = 1000 * 256 // max(len(X_fit), 256)  # 1,000 steps for each
    est = ClassVSCTransformer(
        hidden_layer_sizes=(64,), max_epochs=epochs, unlabeled=-1, random_state=0
    ).fit(X_fit, y_fit)
    Z = est.transform(X_test)
    probe = LogisticRegression(max_iter=2000).fit(est.transform(X_train[labeled]), y_train[labeled])
    return {
        "explained variance": fidelity_scorer(est, X_test),
        "contrast": class_contrast_score(Z, y_test),
        "accuracy": probe.score(Z, y_test),
    }


rows = []
for seed in range(2):
    known = with_labels(10, seed)
    labeled = known != -1
    rows.append({"fitted to": "100 labeled", **scores(X_train[labeled], known[labeled], labeled)})
    rows.append({"fitted to": "100 labeled, 1,157 not", **scores(X_train, known, labeled)})
rows.append({"fitted to": "1,257 labeled", **scores(X_train, y_train, slice(None))})
table = pd.DataFrame(rows).groupby("fitted to", sort=False).mean()
print(table.round(2).to_string())

# %%
# What the others bring is a network that knows digits: held-out ones are decoded better. Which
# dimensions belong to which class is learned from the labels, and gains little. The gap to all
# labels stays: ten digits of a class do not show all the ways to write it.

figure, axes = plt.subplots(1, 3, figsize=(10, 2.4), sharey=True, layout="constrained")
for ax, name in zip(axes, table, strict=True):
    ax.barh(table.index, table[name], color=["#E69F00", "#0072B2", "0.6"])
    ax.set(xlabel=name, xlim=(0, 1))
_ = axes[0].invert_yaxis()

# sphinx_gallery_start_ignore
few, many, every = (table.loc[name] for name in table.index)
assert (every > many).all()
assert many["explained variance"] > few["explained variance"] + 0.1
# sphinx_gallery_end_ignore
