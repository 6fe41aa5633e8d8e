r"""
=============================================================
How do I trade contrast against fidelity in a grid search?
=============================================================

A code should differ between classes, and it should keep what it encodes. The two goals
conflict: the fewer dimensions a sample may use, the more they differ between classes,
and the less of the sample they keep.

Two parameters set the balance. ``alpha`` is the prior probability that a dimension is
active. ``consistency_weight`` weighs the terms that make a class share its dimensions.
This grid search scores both goals and draws the *Pareto front*: the settings that no
other setting beats on both. From right to left along the front, ``alpha`` rises.
"""

# %%
# Use two scorers, and a rule to choose by
# ----------------------------------------
#
# Scorers are functions ``(estimator, X, y)``; pass them as they are. With several
# scorers, tell ``GridSearchCV`` which setting to refit. ``refit`` takes the name of a
# scorer, or a function of ``cv_results_``. Here the function takes the best contrast
# out of the settings that keep 95 % of the best fidelity.

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
    faithful = fidelity >= 0.95 * fidelity.max()
    return np.where(faithful, cv_results["mean_test_contrast"], -np.inf).argmax()


X, y = load_digits(return_X_y=True)
search = GridSearchCV(
    ClassVSCTransformer(32, hidden_layer_sizes=(64,), max_epochs=80, random_state=0),
    {"alpha": [0.15, 0.25, 0.4], "consistency_weight": [1, 3, 10]},
    scoring={"contrast": contrast_scorer, "fidelity": fidelity_scorer},
    refit=most_contrast_of_the_faithful,
    cv=StratifiedKFold(2, shuffle=True, random_state=0),
    n_jobs=2,
)
with warnings.catch_warnings():
    # Some corners of the grid are bad on purpose; their scores say so.
    warnings.simplefilter("ignore", CollapseWarning)
    search.fit(X / 16, y)

columns = {
    "param_alpha": "alpha",
    "param_consistency_weight": "consistency_weight",
    "mean_test_contrast": "contrast",
    "mean_test_fidelity": "fidelity",
}
results = pd.DataFrame(search.cv_results_)[list(columns)].rename(columns=columns)

# %%
# Find the Pareto front
# ---------------------
#
# A setting is on the front if no other setting is at least as good on both counts and
# better on one.

scores = results[["contrast", "fidelity"]].to_numpy()
as_good = (scores[:, None] >= scores).all(axis=2)
better = (scores[:, None] > scores).any(axis=2)
results["on_front"] = ~(as_good & better).any(axis=0)
front = results[results["on_front"]].sort_values("contrast")
print(front.round(3).to_string(index=False))

# %%
# Read the picture
# ----------------
#
# Colours tell ``alpha``, markers tell ``consistency_weight``, and a ring marks the
# setting that was refitted. On the lower right are the codes that differ most between
# classes, on the upper left those that keep most. Here a higher ``consistency_weight``
# raises the fidelity at every ``alpha``. At the smallest ``alpha`` it lowers the
# contrast.

COLORS = {0.15: "#E69F00", 0.25: "#CC79A7", 0.4: "#009E73"}
MARKERS = {1: "o", 3: "s", 10: "^"}

figure, ax = plt.subplots(figsize=(9, 4.5), layout="constrained")
ax.step(front["contrast"], front["fidelity"], color="0.5", zorder=1, label="front")
for row in results.itertuples():
    color, marker = COLORS[row.alpha], MARKERS[row.consistency_weight]
    ax.scatter(row.contrast, row.fidelity, s=90, color=color, marker=marker)
for alpha, color in COLORS.items():
    ax.scatter([], [], s=90, color=color, marker="D", label=f"alpha = {alpha}")
for weight, marker in MARKERS.items():
    label = f"consistency_weight = {weight}"
    ax.scatter([], [], s=90, color="0.5", marker=marker, label=label)
chosen = results.loc[search.best_index_]
ring = {"s": 300, "facecolors": "none", "edgecolors": "black", "label": "refitted"}
ax.scatter(chosen["contrast"], chosen["fidelity"], **ring)
ax.set(xlabel="class contrast, held out", ylabel="explained variance, held out")
ax.set_title("Digits: what the loss weights trade")
_ = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# **What this shows.** One grid gives you all settings worth choosing from. A rule for
# ``refit`` then makes the choice explicit.
#
# **What it does not show.** Training is short here, to keep the search fast, so all
# fidelities are lower than they could be. Two folds of one set cannot tell settings
# that are close to each other.
#
# **Next.** :doc:`/choosing` names the parameters that matter, in order.
# :doc:`/metrics` explains :func:`~sklearn_classvsc.metrics.contrast_scorer` and
# :func:`~sklearn_classvsc.metrics.fidelity_scorer`. :doc:`plot_optuna_search` searches
# without a grid.

# sphinx_gallery_start_ignore
for row in results.itertuples():
    rest = results[["contrast", "fidelity"]].drop(row.Index)
    at_least = (rest >= [row.contrast, row.fidelity]).all(axis=1)
    more = (rest > [row.contrast, row.fidelity]).any(axis=1)
    assert row.on_front == (not (at_least & more).any())
assert np.isfinite(scores).all() and len(front) >= 3
assert front["fidelity"].is_monotonic_decreasing
assert front["alpha"].is_monotonic_decreasing
assert chosen["on_front"]
assert chosen["fidelity"] >= 0.95 * results["fidelity"].max()
by_weight = results.set_index(["alpha", "consistency_weight"]).unstack()
assert (by_weight["fidelity"].diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
assert by_weight["contrast"].loc[0.15].is_monotonic_decreasing
# sphinx_gallery_end_ignore
