r"""
==================================================================
How do I fit a table with numbers, categories, dates and gaps?
==================================================================

The table describes 344 penguins of three species as they were written down, with gaps.
A pipeline of scikit-learn's encoders prepares it, and NaN needs no preparation. The
pictures show what sets each species apart, in the columns of the table.

``python -m sklearn_classvsc --data penguins.csv --target Species`` does the same for a
file.
"""

# %%
# Load the table
# --------------
#
# The package ``palmerpenguins`` brings it. Columns that number or name the rows are
# left out, since they measure nothing. Dates become numbers: the table spans three
# seasons, so the day of the year is used.

import matplotlib.pyplot as plt
import pandas as pd
from palmerpenguins import load_penguins_raw
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.displays import ActivationDisplay
from sklearn_classvsc.inspection import class_differences
from sklearn_classvsc.metrics import dimension_roles

unused = ["studyName", "Sample Number", "Individual ID", "Region", "Stage", "Comments"]
table = load_penguins_raw().drop(columns=unused)
species = table.pop("Species").str.split().str[0]
dates = pd.to_datetime(table.pop("Date Egg"))
table["Day of egg"] = dates.dt.day_of_year
print(table.isna().sum().rename("gaps").to_string())

# %%
# Encode it in a pipeline
# -----------------------
#
# Each value of a category becomes a column of zeros and ones. A missing category counts
# as one more value. Numbers pass as they are, gaps included, and nothing has to be
# scaled.

encode = make_column_transformer(
    ("passthrough", make_column_selector(dtype_include="number")),
    (OneHotEncoder(sparse_output=False), make_column_selector(dtype_exclude="number")),
    verbose_feature_names_out=False,
)
X_train, X_test, y_train, y_test = train_test_split(
    table, species, test_size=0.3, stratify=species, random_state=0
)
pipe = make_pipeline(encode, ClassVSCTransformer(8, random_state=0))
pipe.fit(X_train, y_train)
Z = pipe.transform(X_test)
roles = dimension_roles(Z, y_test)
print(roles[["role", "classes", "density"]].round(2).to_string())

# %%
# See what sets a species apart
# -----------------------------
#
# :func:`~sklearn_classvsc.inspection.class_differences` takes held-out penguins of the
# other species. It activates the dimensions that a species has, deactivates those that
# it lacks, and decodes. The mean change is the *counterfactual*, in blue. The grey bars
# need no model: they are the *difference* between the means in the data. Bars are in
# standard deviations, so that you can compare grams, days and islands.
#
# The printed figures are correlations between the blue and the grey bars of a species.

marks = class_differences(pipe, X_test, y_test)
marks = marks / pd.Series(marks.attrs["scale"])
agreement = {}
figure, axes = plt.subplots(1, 4, figsize=(14, 4.6), layout="constrained")
ActivationDisplay.from_estimator(pipe, X_test, y_test, ax=axes[0])
for ax, (name, mark) in zip(axes[1:], marks.groupby(level="class"), strict=True):
    mark = mark.droplevel("class").T
    agreement[name] = mark.corr().iloc[0, 1]
    mark[::-1].plot.barh(ax=ax, color=["#0072B2", "0.7"], width=0.8, legend=False)
    ax.axvline(0, color="0.4", lw=0.8)
    ax.set(title=name, xlabel="standard deviations", ylabel="")
    if ax is not axes[1]:
        ax.set_yticklabels([])
figure.legend(*axes[3].get_legend_handles_labels(), loc="outside upper right", ncols=2)
print({name: f"{value:.2f}" for name, value in agreement.items()})

# %%
# Compare with a plain classifier
# -------------------------------
#
# A logistic regression tells the species of nearly every held-out penguin from the
# table, and also from the codes. The table needs medians in its gaps first; codes have
# no gaps.

accuracy = {}
for name, (A, B) in {
    "table": (pipe[:-1].transform(X_train), pipe[:-1].transform(X_test)),
    "codes": (pipe.transform(X_train), Z),
}.items():
    classifier = make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression()
    )
    accuracy[name] = classifier.fit(A, y_train).score(B, y_test)
print({name: round(value, 3) for name, value in accuracy.items()})

# %%
# **What this shows.** One pipeline takes the table as it is. Its code agrees with the
# data about what sets a species apart.
#
# **What it does not show.** These species are easy to tell apart, so a classifier gains
# nothing from the codes. What they add is the picture: which columns go together.
#
# **Next.** :doc:`plot_missing_values` asks how good the filled gaps are.
# :doc:`/likelihoods` explains ``likelihood="mixed"``, which treats columns of 0 and 1
# as such.

# sphinx_gallery_start_ignore
assert len(table) == 344 and dates.dt.year.nunique() == 3
assert min(agreement.values()) > 0.7 and max(agreement.values()) > 0.9
assert min(accuracy.values()) > 0.95
assert accuracy["codes"] <= accuracy["table"]
own = {classes[0] for classes in roles["classes"] if len(classes) == 1}
assert own == set(species)
# sphinx_gallery_end_ignore
