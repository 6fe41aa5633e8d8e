"""
====================================================
Which measurements set the classes of a table apart?
====================================================

The table has thirty measurements of cell nuclei, and its classes are benign and
malignant. The model finds which measurements go together and by how much they differ
between the classes, in the units of the table: malignant nuclei are larger, and their
outlines have more concave points.
"""

# %%
# From a DataFrame to a code
# --------------------------
#
# You need not scale anything, because the Gaussian likelihood standardises inside.
# Column names are kept. Two classes need few dimensions: with many more, several
# dimensions of a class are active together and repeat each other.

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.editing import class_profile, counterfactual
from sklearn_classvsc.inspection import feature_effects, top_features
from sklearn_classvsc.metrics import class_contrast_score, dimension_roles

cancer = load_breast_cancer(as_frame=True)
labels = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(
    cancer.data, labels, test_size=0.3, stratify=labels, random_state=0
)
est = ClassVSCTransformer(6, hidden_layer_sizes=(64,), max_epochs=400, random_state=0)
est.set_output(transform="pandas").fit(X_train, y_train)
Z = est.transform(X_test)
print(Z.rename(columns=lambda name: name[-1]).head(3).round(1).to_string())

# %%
# Roles tell which class activates each dimension in held-out samples. Density is the
# fraction of samples in which the dimension is active.

roles = dimension_roles(Z, y_test)
print(roles[["role", "classes", "specificity", "density"]].round(2).to_string())

# %%
# See what the classes differ in
# ------------------------------
#
# :func:`~sklearn_classvsc.editing.counterfactual` takes benign samples, deactivates the
# dimensions that malignant samples lack, activates those that they have, and decodes.
# The mean change is the difference between the classes as the model sees it. Red bars
# are larger in malignant samples. The table above the figure has the units of the data,
# and the bars have standard deviations.

profile = class_profile(est, X_train, y_train)
benign = X_test[y_test == "benign"]
change = counterfactual(est, benign, profile, to="malignant").change.mean()
relative = change / X_train.std()
strongest = relative.reindex(relative.abs().sort_values().index[-10:])
print(change[strongest.index[::-1]].round(3).to_string())

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
colors = ["#D55E00" if value > 0 else "#0072B2" for value in strongest]
ax.barh(strongest.index, strongest, color=colors)
ax.axvline(0, color="0.4", lw=0.8)
_ = ax.set(xlabel="mean change from benign to malignant, standard deviations")

# %%
# See what one dimension stands for
# ---------------------------------
#
# An active dimension can have a low or a high value.
# :func:`~sklearn_classvsc.inspection.feature_effects` moves it from the 10 % to the 90
# % quantile of its values. :func:`~sklearn_classvsc.inspection.top_features` lists the
# measurements that move most. The column ``effect`` has the units of the table.

effects = feature_effects(est, X_test)
top = top_features(effects, k=3)
top.insert(1, "of", [" and ".join(roles.loc[j, "classes"]) for j in top["dimension"]])
print(top.drop(columns=["rank", "measure"]).round(3).to_string(index=False))

# %%
# Contrast says how much more two samples of a class share than two samples of different
# classes: 1 at best, 0 by chance.

contrast = class_contrast_score(Z, y_test)
print(f"contrast {contrast:.2f}")

# %%
# **What this shows.** A code describes a table in its own units, and each class has
# dimensions of its own.
#
# **What it does not show.** These are 171 held-out patients of one hospital. The code
# describes measurements; it is no finding about a disease. The training aims at
# contrast, so a high contrast alone proves nothing.
#
# **Next.** :doc:`plot_mixed_table` takes categories, dates and gaps.
# :doc:`/faq` says when you can trust a factor, and
# :class:`~sklearn_classvsc.ClassVSCTransformer` lists all parameters.

# sphinx_gallery_start_ignore
assert len(X_test) == 171 and X_train.shape[1] == 30
assert contrast > 0.6
assert set(roles["classes"]) >= {("benign",), ("malignant",)}
assert (relative[["worst area", "worst concave points", "mean radius"]] > 0.3).all()
# sphinx_gallery_end_ignore
