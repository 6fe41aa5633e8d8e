"""
====================================================
Which parts do images share, and which mark a class?
====================================================

The model learns a code of handwritten digits. Pictures show what each dimension adds to
an image: the hole of a zero, or the gap in a six. A few dimensions belong to all
images, and every class has some that at most a few other classes activate.

With the IDX files of Fashion-MNIST in a folder, the same script works on clothes:
``python plot_image_factors.py FOLDER``.
"""

# %%
# Fit a code of images
# --------------------
#
# Pixels between 0 and 1 need no preparation. The table counts how many dimensions have
# each role on held-out images.

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.datasets import fetch_images
from sklearn_classvsc.displays import SharingDisplay
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.metrics import dimension_roles

if len(sys.argv) > 1:
    X_train, X_test, y_train, y_test = fetch_images(
        "Fashion-MNIST", data_dir=sys.argv[1]
    )
    X_train, y_train, side, epochs = X_train[:20_000], y_train[:20_000], 28, 20
else:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=0.3, stratify=y, random_state=0
    )
    side, epochs = 8, 120

est = ClassVSCTransformer(
    32, hidden_layer_sizes=(128,), max_epochs=epochs, random_state=0
)
est.fit(X_train, y_train)
roles = dimension_roles(est.transform(X_test), y_test)
print(roles["role"].value_counts().to_string())

# %%
# See what each dimension adds
# ----------------------------
#
# With ``kind="presence"``, :func:`~sklearn_classvsc.inspection.feature_effects` decodes
# images twice: once with a dimension at its usual value and once with the dimension at
# zero. The difference is an image. Red pixels become brighter, blue ones darker.
#
# The first row has five global dimensions. Each further panel belongs to one class. It
# shows the dimension that changes most, out of those that the class shares with few
# others or with none. The title names the classes that activate it.

presence = feature_effects(est, X_test, kind="presence")
size = presence.abs().sum(axis=1)
everywhere = roles[roles["role"] == "global"]
local = roles[roles["role"].isin(["shared", "class-specific"])].assign(size=size)
largest = [
    local[local["classes"].map(lambda classes, c=c: c in classes)].nlargest(1, "size")
    for c in np.unique(y_test)
]
shown = pd.concat([everywhere[:5], *largest])
figure, axes = plt.subplots(3, 5, figsize=(6.6, 4.8), layout="constrained")
for ax, row in zip(axes.flat, shown.itertuples(), strict=True):
    effect = presence.loc[row.dimension].to_numpy().reshape(side, side)
    image = ax.imshow(effect, cmap="RdBu_r", vmin=-0.6, vmax=0.6)
    classes = "all" if row.role == "global" else ", ".join(map(str, row.classes))
    ax.set_title(f"{classes}: dim. {row.dimension}", fontsize=8)
    ax.axis("off")
_ = figure.colorbar(image, ax=axes, shrink=0.5, label="change of a pixel")

# %%
# See which classes share dimensions
# ----------------------------------
#
# Each cell is the overlap between the supports of two classes, without the global
# dimensions. Most pairs of classes share little. The diagonal is the overlap between
# two images of the same class.

sharing = SharingDisplay.from_estimator(est, X_test, y_test)

# %%
# **What this shows.** Every class of digits has at least one dimension of its own, or
# shares one with few others. You can look at what such a dimension adds.
#
# **What it does not show.** These 1,797 images of 8 x 8 pixels are few and small.
# Another seed pairs other classes.
#
# **Next.** :doc:`/displays` has the pictures of 10,000 images of clothes.
# :doc:`/architectures` has convolutions for larger images, and
# :doc:`plot_counterfactual` turns a digit into another.

# sphinx_gallery_start_ignore
assert len(everywhere) >= 5
if side == 8:
    assert X.shape == (1797, 64)
    assert local["specificity"].min() > 0.6
    assert shown["size"][5:].min() > 2
    assert local["classes"].map(len).max() <= 3  # few others
    shares = sharing.frame()
    same = shares["class"] == shares["other"]
    assert (
        shares.loc[~same, "sharing"].median() < 0.2 < shares.loc[same, "sharing"].min()
    )
# sphinx_gallery_end_ignore
