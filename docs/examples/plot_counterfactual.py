r"""
====================================
What would make this three an eight?
====================================

A *counterfactual* is a sample as it would be in another class. Deactivate the
dimensions that the other class lacks, activate those that it has, and decode. A
classifier that knows nothing of codes takes more than 80 % of the digits that are
changed this way for the new digit.
"""

# %%
# Count what each class has
# -------------------------
#
# :func:`~sklearn_classvsc.editing.class_profile` counts how often each class activates
# each dimension, and how large its values usually are. In the table, a row is a class,
# a column is a dimension, and 1 means that the class activates it. All classes activate
# the first five dimensions.

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.editing import class_profile, counterfactual, interpolate

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, stratify=y, random_state=0
)
est = ClassVSCTransformer(hidden_layer_sizes=(128,), max_epochs=120, random_state=0)
est.fit(X_train, y_train)
profile = class_profile(est, X_train, y_train)
print((profile.activity >= 0.5).astype(int))

# %%
# Turn digits into others
# -----------------------
#
# Each row of the picture is one held-out digit. The change is the difference between
# two decoded images, so it comes from the edited dimensions alone. The number on the
# right says how many they are. Red pixels would have to become brighter, blue ones
# darker. The printed figures are for all held-out digits of the class.

PAIRS = [(3, 8), (1, 4), (9, 3), (5, 6)]
judge = LogisticRegression(max_iter=2000).fit(X_train, y_train)
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1}
taken = {}

figure, axes = plt.subplots(len(PAIRS), 4, figsize=(6.4, 6.6), layout="constrained")
for (before, after), row in zip(PAIRS, axes, strict=True):
    result = counterfactual(est, X_test[y_test == before], profile, to=after)
    taken[before, after] = (judge.predict(result.X_edited) == after).mean()
    print(
        f"{before} to {after}: {taken[before, after]:.0%} are taken for the new digit"
    )
    images = X_test[y_test == before][0], result.X_hat[0], result.X_edited[0]
    for ax, image in zip(row, images, strict=False):
        ax.imshow(image.reshape(8, 8), **GREY)
    change = result.change.to_numpy()[0].reshape(8, 8)
    shown = row[3].imshow(change, cmap="RdBu_r", vmin=-1, vmax=1)
    n_edited = ((result.codes[0] != 0) != (result.edited[0] != 0)).sum()
    row[3].set_ylabel(f"{n_edited} edited", rotation=270, labelpad=14)
    row[3].yaxis.set_label_position("right")
    row[0].set_ylabel(f"{before} to {after}")
titles = ["sample", "decoded", "counterfactual", "change"]
for ax, title in zip(axes[0], titles, strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
_ = figure.colorbar(shown, ax=axes[:, 3], shrink=0.5)

# %%
# Move between two samples
# ------------------------
#
# :func:`~sklearn_classvsc.editing.interpolate` decodes the way from one four to
# another. Dimensions that both samples have active move evenly. A dimension that only
# one of them has active is activated or deactivated once, in the middle.

a, b = X_test[y_test == 4][[0, 3]]
way = interpolate(est, a, b, n_steps=7)
steps, row = plt.subplots(1, 7, figsize=(7, 1.4), layout="constrained")
for ax, image, weight in zip(row, way.X_hat, way.weights, strict=True):
    ax.imshow(image.reshape(8, 8), **GREY)
    ax.set(xticks=[], yticks=[], title=f"{weight:.2f}")

# %%
# **What this shows.** A few dimensions separate one digit from another, and you can see
# which pixels they change.
#
# **What it does not show.** A counterfactual says what the model would have to see. It
# does not say what causes what. Between two classes with the same support,
# nothing changes. These digits are few, small and easy.
#
# **Next.** :doc:`/editing` explains edits, counterfactuals and ways between samples.
# :func:`~sklearn_classvsc.editing.edit` sets a single dimension.

# sphinx_gallery_start_ignore
assert min(taken.values()) > 0.8
assert (profile.activity[:, :5] >= 0.5).all()
# sphinx_gallery_end_ignore
