r"""
===================================================
Choosing the loss weights: contrast *and* fidelity
===================================================

A code is to differ between classes, and to keep what it encodes. These pull apart: the fewer
dimensions a sample may use, the easier it is for them to be those of its class, and the less is
left to rebuild the sample from.

Two parameters set the balance: ``alpha``, the prior probability of a dimension to be on, and
``consistency_weight``, the weight of everything that makes a class share its dimensions. A grid
search over both, scored by two metrics, shows what there is to choose from: the *Pareto front*,
the settings that no other beats on both counts.
"""

# %%
# Two scorers, and a rule to choose by
# ------------------------------------
#
# Scorers are plain functions ``(estimator, X, y)``, passed as they are. With several,
# ``GridSearchCV`` has to be told which setting to refit: the name of a scorer, or a function of
# ``cv_results_``. Here: the best contrast among the settings that keep 95 % of the best fidelity.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.metrics import contrast_scorer, fidelity_scorer


def most_contrast_of_the_faithful(cv_results):
    """Return the index of the setting to refit."""
    fidelity = cv_results["mean_test_fidelity"]
    return np.where(
        fidelity >= 0.95 * fidelity.max(), cv_results["mean_test_contrast"], -np.inf
    ).argmax()


X, y = load_digits(return_X_y=True)
search = GridSearchCV(
    ClassVSCTransformer(32, hidden_layer_sizes=(128,), max_epochs=120, random_state=0),
    {"alpha": [0.15, 0.2, 0.3, 0.4], "consistency_weight": [1, 3, 10]},
    scoring={"contrast": contrast_scorer, "fidelity": fidelity_scorer},
    refit=most_contrast_of_the_faithful,
    cv=StratifiedKFold(2, shuffle=True, random_state=0),
    n_jobs=2,
)
with warnings.catch_warnings():
    # Some corners of the grid are bad on purpose; their scores say so.
    warnings.simplefilter("ignore", CollapseWarning)
    search.fit(X / 16, y)

results = pd.DataFrame(search.cv_results_)
results = results.rename(columns=lambda name: name.removeprefix("param_"))[
    ["alpha", "consistency_weight", "mean_test_contrast", "mean_test_fidelity"]
].rename(columns={"mean_test_contrast": "contrast", "mean_test_fidelity": "fidelity"})

# %%
# The Pareto front
# ----------------
#
# A setting is on the front when no other is at least as good on both counts and better on one.

scores = results[["contrast", "fidelity"]].to_numpy()
as_good = (scores[:, None] >= scores).all(axis=2)
better = (scores[:, None] > scores).any(axis=2)
results["on_front"] = ~(as_good & better).any(axis=0)
front = results[results["on_front"]].sort_values("contrast")
print(front.round(3).to_string(index=False))

# %%
# Colours tell ``alpha`` apart, markers ``consistency_weight``.

COLORS = {0.15: "#E69F00", 0.2: "#56B4E9", 0.3: "#CC79A7", 0.4: "#009E73"}
MARKERS = {1: "o", 3: "s", 10: "^"}

figure, ax = plt.subplots(figsize=(9, 5), layout="constrained")
ax.step(front["contrast"], front["fidelity"], where="pre", color="0.5", zorder=1, label="front")
for row in results.itertuples():
    color, marker = COLORS[row.alpha], MARKERS[row.consistency_weight]
    ax.scatter(row.contrast, row.fidelity, s=90, color=color, marker=marker, alpha=0.9)
for alpha, color in COLORS.items():
    ax.scatter([], [], s=90, color=color, marker="D", label=f"alpha = {alpha}")
for weight, marker in MARKERS.items():
    ax.scatter([], [], s=90, color="0.5", marker=marker, label=f"consistency_weight = {weight}")
chosen = results.loc[search.best_index_]
ring = {"s": 300, "facecolors": "none", "edgecolors": "black", "label": "refitted"}
ax.scatter(chosen["contrast"], chosen["fidelity"], **ring)
ax.set(
    xlabel="class contrast, held out",
    ylabel="explained variance, held out",
    title="Digits: what the loss weights trade",
)
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# To the lower right, the codes that differ most between classes; to the upper left, those that
# rebuild best. From right to left along the front ``alpha`` rises, and the codes become denser.
# More ``consistency_weight`` is not more contrast: at 10 the samples of a class are more alike
# still, but dimensions die, and classes share those that remain.

# sphinx_gallery_start_ignore
for row in results.itertuples():
    rest = results[["contrast", "fidelity"]].drop(row.Index)
    at_least = (rest >= [row.contrast, row.fidelity]).all(axis=1)
    more = (rest > [row.contrast, row.fidelity]).any(axis=1)
    assert row.on_front == (not (at_least & more).any())
assert np.isfinite(scores).all() and len(front) >= 3
assert front["fidelity"].is_monotonic_decreasing
assert front["alpha"].iloc[0] > front["alpha"].iloc[-1]
assert chosen["on_front"] and chosen["fidelity"] >= 0.95 * results["fidelity"].max()
# sphinx_gallery_end_ignore
