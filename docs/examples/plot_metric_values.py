r"""
============================
What values the metrics take
============================

Five codes whose structure is known, and what each metric says of them. No single figure tells
them apart: consistency alone likes a code that is always on, the probe alone likes a dense code,
and labels that mean nothing are found out by the classes' difference only.
"""

# %%
# Five codes of four classes
# --------------------------
#
# *All on*: every dimension is active in every sample. *Dead*: none ever is. *Class blocks*: two
# dimensions for each class, active in its samples and no others. *Dense*: every value differs from
# 0, as in the codes of a PCA, and depends on the class. *Shuffled labels*: the class blocks, read
# with labels at random.

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


values = pd.DataFrame({name: score(*code) for name, code in codes.items()}).T.round(2) + 0.0
print(values.to_string())

# %%
# The samples by class above, the class-sharing matrix below: its diagonal is the consistency of
# each class, and contrast is the mean of the diagonal minus that of the rest.

BLOCKY = {"aspect": "auto", "interpolation": "none"}
figure, axes = plt.subplots(2, 5, figsize=(11, 5.2), layout="constrained")
for (name, (Z, labels)), (above, below) in zip(codes.items(), axes.T, strict=True):
    by_class = np.argsort(labels, kind="stable")
    above.imshow(Z[by_class] != 0, cmap="Greys", vmin=0, vmax=1, **BLOCKY)
    above.set_title(name)
    above.set(xticks=[], yticks=50 + 100 * np.arange(4), yticklabels="abcd")
    image = below.imshow(class_sharing_matrix(Z, labels), cmap="cividis", vmin=0, vmax=1)
    below.set(xticks=range(4), xticklabels="abcd", yticks=range(4), yticklabels="abcd")
    row = values.loc[name]
    below.set_xlabel(f"consistency {row['consistency']:.2f}\ncontrast {row['contrast']:.2f}")
    above.set_xlabel("dimensions (black: active)" if name == "class blocks" else "")
axes[0, 0].set_ylabel("samples, by class")
axes[1, 0].set_ylabel("class")
_ = figure.colorbar(image, ax=axes[1, :], label="sharing")

# sphinx_gallery_start_ignore
assert values["consistency"].tolist() == [1, 0, 1, 1, 0.25]
assert abs(values["contrast"] - [0, 0, 1, 0, 0]).max() < 0.02
assert values["dead fraction"].tolist() == [0, 1, 0, 0, 0]
probe = values["probe, k = 1"]
assert probe["class blocks"] == 1 and probe["dense"] > 0.6  # which contrast does not see
assert abs(probe[["all on", "dead", "shuffled labels"]] - 0.5).max() < 0.1
# A support that tells one class of four apart: ln 4 - 3/4 ln 3.
information = values["information of support (nats)"]
assert abs(information["class blocks"] - (np.log(4) - 0.75 * np.log(3))) < 0.005
assert information["dense"] == 0
# sphinx_gallery_end_ignore
