r"""
====================================
What would make this three an eight?
====================================

A sparse code says which factors a sample has. Switch off those that the class it is to become has
not, switch on those that the class has, and decode: a *counterfactual*, the sample as it would be
in the other class, and what would have to change for that.
"""

# %%
# What each class has
# -------------------
#
# ``class_profile`` counts how often each dimension is active in each class, and how strong it
# typically is. The first dimensions are of all classes. Where two rows are equal, the classes
# differ in the values of their dimensions alone: between them nothing is to be switched.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.editing import class_profile, counterfactual, interpolate

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
est = ClassVSCTransformer(hidden_layer_sizes=(128,), max_epochs=200, random_state=0)
est.fit(X_train, y_train)
profile = class_profile(est, X_train, y_train)
print((profile.activity >= 0.5).astype(int))

# %%
# Counterfactuals
# ---------------
#
# Held-out digits, one of each pair. The change is the difference of two decoded images, and so
# that of the switched dimensions alone: red pixels would have to become brighter, blue ones darker.
# A classifier that knows nothing of codes judges all of them.

PAIRS = [(3, 8), (1, 4), (9, 3), (5, 6)]
judge = LogisticRegression(max_iter=2000).fit(X_train, y_train)
DIGIT = {"cmap": "gray", "vmin": 0, "vmax": 1}

figure, axes = plt.subplots(len(PAIRS), 4, figsize=(6.4, 6.6), layout="constrained")
for (before, after), row in zip(PAIRS, axes, strict=True):
    sample = X_test[y_test == before][:1]
    result = counterfactual(est, sample, profile, to=after)
    change = result.change.to_numpy()
    images = [sample, result.X_hat, result.X_edited]
    for ax, image in zip(row, images, strict=False):
        ax.imshow(image.reshape(8, 8), **DIGIT)
    shown = row[3].imshow(change.reshape(8, 8), cmap="RdBu_r", vmin=-1, vmax=1)
    switched = np.flatnonzero((result.codes != 0) != (result.edited != 0))
    row[3].set_ylabel(f"{len(switched)} switched", rotation=270, labelpad=14)
    row[3].yaxis.set_label_position("right")
    row[0].set_ylabel(f"{before} to {after}")
    everyone = counterfactual(est, X_test[y_test == before], profile, to=after)
    taken_for = (judge.predict(everyone.X_edited) == after).mean()
    print(f"{before} to {after}: {taken_for:.0%} are taken for the new digit")
for ax, title in zip(axes[0], ["sample", "decoded", "counterfactual", "change"], strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
_ = figure.colorbar(shown, ax=axes[:, 3], shrink=0.5)

# %%
# Between two samples of a class
# ------------------------------
#
# What both have moves evenly; what one of them has is switched in the middle.

a, b = X_test[y_test == 4][[0, 3]]
way = interpolate(est, a, b, n_steps=7)
steps, row = plt.subplots(1, 7, figsize=(7, 1.4), layout="constrained")
for ax, image, weight in zip(row, way.X_hat, way.weights, strict=True):
    ax.imshow(image.reshape(8, 8), **DIGIT)
    ax.set(xticks=[], yticks=[], title=f"{weight:.2f}")

# sphinx_gallery_start_ignore
for before, after in PAIRS:
    sent = counterfactual(est, X_test[y_test == before], profile, to=after)
    assert (judge.predict(sent.X_edited) == after).mean() > 0.8
assert (profile.activity[:, :5] >= 0.5).all()  # the first dimensions are of all classes
# sphinx_gallery_end_ignore
