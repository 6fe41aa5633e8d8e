r"""
==========================================
What is a good value of each metric?
==========================================

It depends on the other metrics. This example computes them for five codes whose
structure is known, and no metric tells all five apart. Consistency is perfect for a
code that is always active. The probe likes a dense code. Only metrics that compare
classes notice labels that mean nothing.
"""

# %%
# Make five codes of four classes
# -------------------------------
#
# - *all on*: every dimension is active in every sample;
# - *dead*: no dimension is ever active;
# - *class blocks*: each class has two dimensions, active in all its samples and in no
#   others;
# - *dense*: every value differs from 0, as in a PCA, and depends on the class;
# - *shuffled labels*: the class blocks, with the labels in random order.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_classvsc.metrics import (
    activation_information,
    class_consistency_score,
    class_contrast_score,
    class_sharing_matrix,
    dead_fraction,
    hoyer_sparsity_score,
    k_sparse_probe_score,
)

rng = np.random.default_rng(0)
y = np.repeat(np.arange(4), 100)
blocks = np.repeat(np.eye(4), 2, axis=1)[y]
scale = rng.uniform(0.5, 1.5, size=blocks.shape)
codes = {
    "all on": (np.ones_like(blocks), y),
    "dead": (np.zeros_like(blocks), y),
    "class blocks": (blocks * scale, y),
    "dense": (rng.normal(np.linspace(-1, 1, 8) * y[:, None], 0.7), y),
    "shuffled labels": (blocks * scale, rng.permutation(y)),
}


def score(Z, y):
    """Return the figures of a code."""
    half = rng.permutation(len(y)) % 2 == 0
    return {
        "consistency": class_consistency_score(Z, y),
        "contrast": class_contrast_score(Z, y),
        "contrast, with global": class_contrast_score(Z, y, include_global=True),
        "probe, k = 1": k_sparse_probe_score(Z[half], y[half], Z[~half], y[~half], k=1),
        "information of support (nats)": activation_information(Z, y).max(),
        "Hoyer sparsity": hoyer_sparsity_score(Z),
        "dead fraction": dead_fraction(Z, y),
    }


values = pd.DataFrame({name: score(*code) for name, code in codes.items()}).round(2)
values += 0.0  # no negative zeros
print(values.to_string())

# %%
# Read the table by rows: each code needs another metric to be recognised. Consistency
# is 1 for three of the five codes. Contrast is 1 for the class blocks alone, and does
# not see that the dense code depends on the class; the probe does. Hoyer sparsity does
# not notice that the labels are shuffled.
#
# Draw the sharing of classes
# ---------------------------
#
# Above are the supports, sorted by class, and below the class-sharing matrices. The
# diagonal of a matrix has the consistency of each class. Contrast is the mean of the
# diagonal minus the mean of the rest, without the global dimensions.

BLOCKY = {"aspect": "auto", "interpolation": "none"}
MATRIX = {"cmap": "cividis", "vmin": 0, "vmax": 1}
figure, axes = plt.subplots(2, 5, figsize=(11, 5.2), layout="constrained")
for (name, (Z, labels)), (above, below) in zip(codes.items(), axes.T, strict=True):
    by_class = np.argsort(labels, kind="stable")
    above.imshow(Z[by_class] != 0, cmap="Greys", vmin=0, vmax=1, **BLOCKY)
    above.set_title(name)
    above.set(xticks=[], yticks=50 + 100 * np.arange(4), yticklabels="abcd")
    image = below.imshow(class_sharing_matrix(Z, labels), **MATRIX)
    below.set(xticks=range(4), xticklabels="abcd", yticks=range(4), yticklabels="abcd")
    consistency, contrast = values.loc[["consistency", "contrast"], name]
    below.set_xlabel(f"consistency {consistency:.2f}\ncontrast {contrast:.2f}")
axes[0, 2].set_xlabel("dimensions (black: active)")
axes[0, 0].set_ylabel("samples, by class")
axes[1, 0].set_ylabel("class")
_ = figure.colorbar(image, ax=axes[1, :], label="sharing")

# %%
# **What this shows.** Read at least two metrics together, and compare each with its
# value for shuffled labels: what is left there is chance.
#
# **What it does not show.** These codes are made by hand. The codes of real data lie
# between them.
#
# **Next.** :doc:`/metrics` has the formula of each metric and says when it misleads.
# :doc:`plot_neighbours` applies them to codes of five methods.

# sphinx_gallery_start_ignore
values = values.T
assert values["consistency"].tolist() == [1, 0, 1, 1, 0.25]
assert abs(values["contrast"] - [0, 0, 1, 0, 0]).max() < 0.02
assert values["dead fraction"].tolist() == [0, 1, 0, 0, 0]
assert values.nunique().max() < 5
probe = values["probe, k = 1"]
assert probe["class blocks"] == 1
assert probe["dense"] > 0.6  # which contrast does not see
assert abs(probe[["all on", "dead", "shuffled labels"]] - 0.5).max() < 0.1
sparsity = values["Hoyer sparsity"]
assert sparsity["class blocks"] == sparsity["shuffled labels"]
# A support that tells one class of four apart: ln 4 - 3/4 ln 3.
information = values["information of support (nats)"]
assert abs(information["class blocks"] - (np.log(4) - 0.75 * np.log(3))) < 0.005
assert information["dense"] == 0
# sphinx_gallery_end_ignore
