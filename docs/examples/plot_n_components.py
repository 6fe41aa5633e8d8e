"""
=======================
How many dimensions?
=======================

Too few, and classes have to share what is not theirs; too many, and some do nothing. Data whose
factors are known show what the curve looks like, so that it can be recognised on data of one's own.
"""

# %%
# Ten factors
# -----------
#
# Five classes; two factors that all have, three that two classes share, one for each class. A code
# of ten dimensions could hold them, if nothing went wrong.

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

rows = []
for n_components in [4, 7, 10, 14, 20, 32]:
    est = ClassVSCTransformer(
        n_components, hidden_layer_sizes=(64,), max_epochs=200, random_state=0
    )
    with warnings.catch_warnings():  # the small ones cannot have a dimension for each class
        warnings.simplefilter("ignore", CollapseWarning)
        est.fit(X, y)
    Z = est.transform(X_test)
    roles = dimension_roles(Z, y_test)
    classes_with_own = {c[0] for c in roles["classes"][roles["role"] == "class-specific"]}
    rows.append(
        {
            "n_components": n_components,
            "explained variance": fidelity_scorer(est, X_test),
            "contrast": class_contrast_score(Z, y_test),
            "roles recovered": role_recovery_score(factors.supports, Z, y_test),
            "classes with a dimension of their own": len(classes_with_own),
            "dead": (roles["role"] == "dead").sum(),
        }
    )
table = pd.DataFrame(rows).set_index("n_components")
print(table.round(2).to_string())

# %%
# Reading the curve
# -----------------
#
# The explained variance rises steeply, then hardly any more: that bend is about where the data have
# no more factors. The roles of the true factors take more room than that, as a dimension that
# finds its factor taken has to find another. Beyond, nothing is gained, and little is lost.
#
# On data of your own the roles are not known. Take the smallest number beyond the bend at which
# every class has a dimension of its own; if in doubt, the larger one.

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, color in [
    ("explained variance", "#0072B2"),
    ("contrast", "#D55E00"),
    ("roles recovered", "#009E73"),
]:
    ax.plot(table.index, table[name], "o-", color=color, label=name)
ax.axvline(10, color="0.6", ls=":", label="true factors")
ax.set(xlabel="n_components", ylim=(0, 1.05), xticks=table.index, ylabel="held out")
_ = ax.legend(loc="lower right")

# sphinx_gallery_start_ignore
fidelity = table["explained variance"]
assert fidelity[10] - fidelity[4] > 3 * (fidelity[32] - fidelity[14])
assert table["roles recovered"][20] > table["roles recovered"][7] + 0.2
# sphinx_gallery_end_ignore
