"""
=====================================
How many dimensions do I need?
=====================================

Fit several numbers of dimensions and look at held-out scores. Explained variance rises
steeply and then levels off. Take a number beyond that bend, at which every class has a
dimension of its own. The data here have ten known factors, so you can see what the
curve looks like before you draw it for your data.
"""

# %%
# Fit several numbers of dimensions
# ---------------------------------
#
# There are five classes and ten factors: all classes have two of them, three factors
# belong to two classes each, and each class has one alone. For each number of
# dimensions, the table has
#
# - *explained variance*: how much of the held-out samples is decoded;
# - *contrast*: how much the supports of the classes differ;
# - *roles recovered*: the fraction of true factors whose classes a dimension has found,
#   which only generated data can tell;
# - *classes with their own*: how many classes have a class-specific dimension;
# - *unused*: how many dimensions are almost never active.

import warnings

import matplotlib.pyplot as plt
import pandas as pd

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.metrics import (
    class_contrast_score,
    dimension_roles,
    fidelity_scorer,
    role_recovery_score,
)

factors = make_class_factors(
    1500, 40, n_classes=5, n_global=2, n_shared=3, n_specific=1, random_state=0
)
X, y = factors.data[:1000], factors.target[:1000]
X_test, y_test = factors.data[1000:], factors.target[1000:]

table = {}
for n_components in [4, 7, 10, 14, 20, 32]:
    est = ClassVSCTransformer(
        n_components, hidden_layer_sizes=(64,), max_epochs=80, random_state=0
    )
    with warnings.catch_warnings():
        # With few dimensions, some classes cannot have one of their own.
        warnings.simplefilter("ignore", CollapseWarning)
        est.fit(X, y)
    Z = est.transform(X_test)
    roles = dimension_roles(Z, y_test)
    own = roles.loc[roles["role"] == "class-specific", "classes"]
    table[n_components] = {
        "explained variance": fidelity_scorer(est, X_test),
        "contrast": class_contrast_score(Z, y_test),
        "roles recovered": role_recovery_score(factors.supports, Z, y_test),
        "classes with their own": own.nunique(),
        "unused": (roles["role"] == "dead").sum(),
    }
table = pd.DataFrame(table).T.rename_axis("n_components")
print(table.round(2).to_string())

# %%
# Read the curve
# --------------
#
# Explained variance bends near ten, the number of true factors. The roles need more
# room: two dimensions may start on the same factor, and then other factors are left
# out. Beyond twenty dimensions nothing is gained, and nothing is lost.

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
colors = {
    "explained variance": "#0072B2",
    "contrast": "#D55E00",
    "roles recovered": "#009E73",
}
for name, color in colors.items():
    ax.plot(table.index, table[name], "o-", color=color, label=name)
ax.axvline(10, color="0.6", ls=":", label="true factors")
ax.set(xlabel="n_components", ylim=(0, 1.05), xticks=table.index, ylabel="held out")
_ = ax.legend(loc="lower right")

# %%
# **What this shows.** With your data you do not know the true roles. Take the smallest
# number beyond the bend at which every class has a dimension of its own. If in doubt,
# take the larger number.
#
# **What it does not show.** These classes separate well. Where classes overlap, too
# many dimensions cost more: see :doc:`plot_pipeline`.
#
# **Next.** :doc:`/choosing` lists what to change when a code looks wrong, and
# :func:`~sklearn_classvsc.metrics.dimension_roles` explains the roles.

# sphinx_gallery_start_ignore
assert factors.supports.shape == (5, 10)
fidelity = table["explained variance"]
assert fidelity[10] - fidelity[4] > 3 * (fidelity[32] - fidelity[14])
assert abs(fidelity[32] - fidelity[20]) < 0.02
assert table["contrast"][32] > table["contrast"][20] - 0.05
assert table["roles recovered"][20] > table["roles recovered"][7] + 0.2
assert table["roles recovered"][20] > table["roles recovered"][10]
assert table["classes with their own"][20] == 5 > table["classes with their own"][10]
# sphinx_gallery_end_ignore
