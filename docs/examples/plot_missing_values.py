"""
======================================
Missing values: left out and filled in
======================================

Three tenths of the measurements of a table are missing, in training rows and in new ones. Codes
come from what is there. How near does what they decode come to what is not?
"""

# %%
# NaN is a missing value
# ----------------------
#
# The encoder does not see it, and no term of the loss counts it, so an incomplete table is fitted
# as it is. Decoded samples are complete.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (for the next line)
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer

cancer = load_breast_cancer(as_frame=True)
labels = cancer.target_names[cancer.target]
X_train, X_test, y_train, y_test = train_test_split(
    cancer.data, labels, test_size=0.3, stratify=labels, random_state=0
)


def with_holes(X, fraction, seed):
    """Hide a fraction of the values, completely at random."""
    return X.mask(np.random.default_rng(seed).random(X.shape) < fraction)


given = with_holes(X_train, 0.3, seed=0)
est = ClassVSCTransformer(16, max_epochs=200, random_state=0).fit(given, y_train)
new = with_holes(X_test, 0.3, seed=1)
filled = est.inverse_transform(est.transform(new))
columns = ["mean radius", "mean texture", "worst area"]
print(new[columns].head(4).round(1).to_string())
print()
shown = [X_test.columns.get_loc(name) for name in columns]
print(np.where(new.isna(), filled, new)[:4, shown].round(1))

# %%
# Beside imputers
# ---------------
#
# Each way is fitted once, to the same training rows, and fills in new rows of which more or less is
# missing. The error is that of missing values, in standard deviations, relative to the error of
# the feature's mean. The transformer has seen labels of the training rows, which no imputer takes;
# those of new rows it has not.

ways = {
    name: make_pipeline(StandardScaler(), imputer).fit(given)
    for name, imputer in {
        "KNNImputer": KNNImputer(),
        "IterativeImputer": IterativeImputer(random_state=0),
    }.items()
}
scaler = StandardScaler().fit(given)
truth = scaler.transform(X_test)
fractions, errors = [0.1, 0.3, 0.5, 0.7], {name: [] for name in ("ClassVSC", *ways)}
for fraction in fractions:
    new = with_holes(X_test, fraction, seed=1)
    missing = new.isna().to_numpy()
    decoded = pd.DataFrame(est.inverse_transform(est.transform(new)), columns=X_test.columns)
    for name in errors:
        values = ways[name].transform(new) if name in ways else scaler.transform(decoded)
        squares = (values - truth)[missing] ** 2
        errors[name].append(np.sqrt(squares.mean() / (truth[missing] ** 2).mean()))
print(pd.DataFrame(errors, index=pd.Index(fractions, name="missing")).round(2))

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
colors = ["#D55E00", "#0072B2", "#009E73"]
for (name, values), color in zip(errors.items(), colors, strict=True):
    ax.plot(fractions, values, "o-", color=color, label=name)
ax.axhline(1, color="0.4", lw=0.8, ls="--", label="the mean")
ax.set(xlabel="part of new rows that is missing", ylabel="error, relative to the mean's")
ax.set(xticks=fractions, ylim=(0, None))
_ = ax.legend(frameon=False)

# %%
# The iterative imputer is nearest from three tenths on; where little is missing, one of its
# regressions went astray in some row, and its error is the largest. A benchmark has more tables:
# `docs/benchmark_missing.md`.
#
# A row of three measurements
# ---------------------------
#
# Few values can be encoded, too. Of one patient three measurements are known: which class has gates
# like this one's, and what is decoded?

few = X_test.iloc[[0]].copy()
few[few.columns.difference(columns)] = np.nan
gamma = est.activation_proba(few)
for name in ("benign", "malignant"):
    profile = est.activation_proba(given[y_train == name]).mean(axis=0)
    print(f"mean difference from the gates of {name} ones: {abs(gamma - profile).mean():.2f}")
print(f"the label: {y_test[0]}")

# sphinx_gallery_start_ignore
nearness = pd.DataFrame(errors)
assert (nearness["ClassVSC"] < nearness["KNNImputer"]).all()
assert (nearness["IterativeImputer"][1:] < nearness["ClassVSC"][1:]).all()
assert nearness["IterativeImputer"][0] == nearness.max(axis=None)
profiles = [
    est.activation_proba(given[y_train == name]).mean(axis=0) for name in ("benign", "malignant")
]
assert abs(gamma - profiles[0]).mean() < abs(gamma - profiles[1]).mean()
# sphinx_gallery_end_ignore
