"""
=========================================
Global and class-specific parts of images
=========================================

Which parts do all images have, which only those of one class, and what does a part look like?

The digits come with scikit-learn. With the IDX files of Fashion-MNIST in a folder, the same script
is of clothes: ``python plot_image_factors.py FOLDER``.
"""

# %%
# A code of images
# ----------------

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
    X_train, X_test, y_train, y_test = fetch_images("Fashion-MNIST", data_dir=sys.argv[1])
    X_train, y_train, side, epochs = X_train[:20_000], y_train[:20_000], 28, 20
else:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=0.3, stratify=y, random_state=0
    )
    side, epochs = 8, 250

est = ClassVSCTransformer(32, hidden_layer_sizes=(128,), max_epochs=epochs, random_state=0)
est.fit(X_train, y_train)
roles = dimension_roles(est.transform(X_test), y_test)
print(roles["role"].value_counts().to_string())

# %%
# What each part adds
# -------------------
#
# ``feature_effects`` decodes samples with a dimension on and with it off: the difference is what it
# adds, as an image. Red: brighter; blue: darker. First row: five global ones, which move what all
# images have. Below, for each class, the one of its own dimensions that changes most, and the
# classes that have it: the hole of a zero, the gap in a six.

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
# Which classes share parts
# -------------------------
#
# The overlap of the active dimensions of two classes, without the global ones. Most pairs share
# little; the diagonal is how much two images of the same class share.

sharing = SharingDisplay.from_estimator(est, X_test, y_test)

# %%
# What holds: 1,797 images of 8 x 8 pixels are few and small. Every class has dimensions of its own,
# or shares them with one other; *which* classes share one differs from seed to seed.

# sphinx_gallery_start_ignore
assert len(everywhere) >= 5
if side == 8:
    assert local["specificity"].min() > 0.6
    assert shown["size"][5:].min() > 2
# sphinx_gallery_end_ignore
