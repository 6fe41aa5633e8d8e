"""
==============================================
How do I encode a table with missing values?
==============================================

Leave missing values as NaN: ``fit`` and ``transform`` take them, and decoded samples
are complete. This example hides three tenths of a table and compares what is filled in
with the truth and with two imputers. The model is nearer to the truth than
``KNNImputer``; ``IterativeImputer`` is the nearest, unless few values are missing.
"""

# %%
# Fit, encode and fill in
# -----------------------
#
# The encoder does not see a missing value, and no term of the loss counts it. The first
# table has new rows with gaps, and the second has the same rows with decoded values in
# the gaps.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
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


def fill(est, X):
    """Return the decoded samples as a DataFrame."""
    X_hat = est.inverse_transform(est.transform(X))
    return pd.DataFrame(X_hat, X.index, X.columns)


given = with_holes(X_train, 0.3, seed=0)
est = ClassVSCTransformer(16, max_epochs=200, random_state=0).fit(given, y_train)
new = with_holes(X_test, 0.3, seed=1)
columns = ["mean radius", "mean texture", "worst area"]
print(new[columns].head(4).round(1).to_string(), end="\n\n")
print(new.fillna(fill(est, new))[columns].head(4).round(1).to_string())

# %%
# Compare with imputers
# ---------------------
#
# The model and both imputers are fitted once, to the same training rows. They then fill
# in new rows with fewer or more gaps. The error is the root mean square over the
# missing values, relative to the error of the feature's mean: 0 is perfect, and 1 is no
# better than the mean. The model has seen the labels of the training rows, which no
# imputer takes. It has not seen those of the new rows.

scaler = StandardScaler().fit(given)
imputers = {
    "KNNImputer": make_pipeline(scaler, KNNImputer()),
    "IterativeImputer": make_pipeline(scaler, IterativeImputer(random_state=0)),
}
with warnings.catch_warnings():
    # More rounds of the IterativeImputer change little.
    warnings.simplefilter("ignore", ConvergenceWarning)
    for imputer in imputers.values():
        imputer.fit(given)

truth = scaler.transform(X_test)
errors = {}
for fraction in [0.1, 0.3, 0.5, 0.7]:
    new = with_holes(X_test, fraction, seed=1)
    missing = new.isna().to_numpy()
    filled = {"ClassVSC": scaler.transform(fill(est, new))}
    filled |= {name: imputer.transform(new) for name, imputer in imputers.items()}
    of_mean = (truth[missing] ** 2).mean()
    errors[fraction] = {
        name: np.sqrt(((values - truth)[missing] ** 2).mean() / of_mean)
        for name, values in filled.items()
    }
errors = pd.DataFrame(errors).T.rename_axis("missing")
print(errors.round(2).to_string())

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
errors.plot(style="o-", color=["#D55E00", "#0072B2", "#009E73"], ax=ax)
ax.axhline(1, color="0.4", lw=0.8, ls="--", label="the mean")
ax.set(xticks=errors.index, ylim=(0, None))
ax.set(xlabel="fraction of new rows that is missing", ylabel="relative error")
_ = ax.legend(frameon=False)

# %%
# The iterative imputer is the nearest from three tenths on. Where one tenth is missing,
# its error is the largest of all: some of its regressions went astray.
#
# Encode a row with three values
# ------------------------------
#
# Few values are enough for a code. Three measurements of one patient are known. The
# gates of the row, the probabilities that a dimension is active, are close to the gates
# of benign samples.

row = X_test.iloc[[0]].copy()
row[row.columns.difference(columns)] = np.nan
gates = est.activation_proba(row)
distance = {}
for name in ("benign", "malignant"):
    typical = est.activation_proba(given[y_train == name]).mean(axis=0)
    distance[name] = abs(gates - typical).mean()
    print(f"mean difference from the gates of {name} samples: {distance[name]:.2f}")
print(f"the label: {y_test[0]}")

# %%
# **What this shows.** The model needs no imputer. What it fills in is better than the
# mean, and comes with the code.
#
# **What it does not show.** If filling in is all you want, an imputer may do it better:
# :doc:`/results/missing` has more tables. Values here are missing completely at random.
#
# **Next.** :doc:`/likelihoods` says what happens to a missing value inside.
# :meth:`~sklearn_classvsc.ClassVSCTransformer.inverse_transform` decodes, and
# :doc:`plot_mixed_table` has gaps in numbers and categories.

# sphinx_gallery_start_ignore
assert (errors["ClassVSC"] < errors["KNNImputer"]).all()
assert (errors["IterativeImputer"] < errors["ClassVSC"]).tolist() == [False] + 3 * [
    True
]
assert errors["IterativeImputer"].iloc[0] == errors.max(axis=None)
assert errors["ClassVSC"].max() < 1
assert distance["benign"] < 0.1 < 0.5 < distance["malignant"]
# sphinx_gallery_end_ignore
