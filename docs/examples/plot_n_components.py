"""
=====================================
How many dimensions do I need?
=====================================

Fit several numbers of dimensions and look at held-out scores. Explained variance rises
steeply and then levels off. Take a number beyond that bend, at which every class has a
dimension of its own. The data here have ten known factors. From ten dimensions on, the
code finds all ten with their roles, and leaves the other dimensions unused.
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
# Explained variance bends at ten, the number of true factors, and all roles are
# recovered there. With fewer dimensions, factors are missing. More dimensions change
# nothing: the code does not use them.

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
# **What it does not show.** A few factors explain these data. Most real tables vary in
# more ways. Then the code uses nearly all dimensions that you allow, and the curve
# bends less sharply. Where classes overlap, too many dimensions also cost a classifier
# accuracy: see :doc:`plot_pipeline`.
#
# **Next.** :doc:`/choosing` lists what to change when a code looks wrong, and
# :func:`~sklearn_classvsc.metrics.dimension_roles` explains the roles.

# sphinx_gallery_start_ignore
assert factors.supports.shape == (5, 10)
fidelity = table["explained variance"]
assert fidelity[10] - fidelity[4] > 3 * (fidelity[32] - fidelity[14])
assert abs(fidelity[32] - fidelity[20]) < 0.02
assert table["contrast"][32] > table["contrast"][20] - 0.05
assert table["roles recovered"][7] < 0.5
for n_components in [10, 14, 20, 32]:
    assert table["roles recovered"][n_components] == 1
    assert table["classes with their own"][n_components] == 5
    assert table["unused"][n_components] == n_components - 10
# sphinx_gallery_end_ignore
