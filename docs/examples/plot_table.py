"""
=====================================
A table: what marks a class, in words
=====================================

Thirty measurements of cell nuclei, benign or malignant. Which measurements go together, in which
class, and by how much, in the units of the table?
"""

# %%
# From a DataFrame to factors
# ---------------------------
#
# Columns keep their names, and nothing has to be scaled: the Gaussian likelihood standardises
# inside. Two classes need few dimensions: with more than these each class gets copies of its own.

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
print(Z.head(3).round(1).to_string())

# %%
# Which dimensions each class has, on held-out patients:

roles = dimension_roles(Z, y_test)
print(roles[["role", "classes", "specificity", "density"]].round(2).to_string())

# %%
# What the classes differ in
# --------------------------
#
# Take benign samples, switch off the dimensions that malignant ones have not, switch on those that
# they have, and decode: what changes is what the model takes for the difference. Red: larger in
# malignant samples.

profile = class_profile(est, X_train, y_train)
benign = X_test[y_test == "benign"]
change = counterfactual(est, benign, profile, to="malignant").change.mean() / X_train.std()
strongest = change.reindex(change.abs().sort_values().index[-10:])
print((strongest[::-1] * X_train.std()[strongest.index[::-1]]).round(3).to_string())

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.barh(strongest.index, strongest, color=["#D55E00" if x > 0 else "#0072B2" for x in strongest])
ax.axvline(0, color="0.4", lw=0.8)
_ = ax.set(xlabel="mean change from benign to malignant, standard deviations")

# %%
# What one dimension says
# -----------------------
#
# Within a class, a dimension that is on can be large or small. The measurements that move most from
# its 5 % to its 95 % quantile, in the units of the table:

effects = feature_effects(est, X_test)
top = top_features(effects, k=3)
top.insert(1, "of", [" and ".join(roles.loc[j, "classes"]) for j in top["dimension"]])
print(top.drop(columns="rank").round(3).to_string(index=False))

# %%
# What holds: 171 held-out patients of one hospital. The contrast, which the training aims at, is
# that of these; a code is a description of measurements, and no finding about a disease.

contrast = class_contrast_score(Z, y_test)
print(f"contrast {contrast:.2f}")

# sphinx_gallery_start_ignore
assert contrast > 0.6
assert set(roles["classes"]) >= {("benign",), ("malignant",)}
assert (change[["worst area", "worst concave points", "mean radius"]] > 0.3).all()
# sphinx_gallery_end_ignore
