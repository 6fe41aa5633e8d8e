r"""
===============================================
A mixed table: numbers, categories, dates, gaps
===============================================

344 penguins of three species, as they were written down: measurements, the island, the sex, the day
on which the egg was seen, and gaps. What marks a species?

``python -m sklearn_classvsc --data penguins.csv --target Species`` does the same for a file.
"""

# %%
# The table as it is
# ------------------
#
# It comes with the package ``palmerpenguins``. Columns that number or name the rows are no
# measurements, and left out.

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

table = load_penguins_raw().drop(
    columns=["studyName", "Sample Number", "Individual ID", "Region", "Stage", "Comments"]
)
species = table.pop("Species").str.split().str[0]
# Dates become numbers. The table spans three seasons, so it is the day of the year that counts.
table["Day of egg"] = pd.to_datetime(table.pop("Date Egg")).dt.day_of_year
print(table.isna().sum().to_string())

# %%
# A pipeline of scikit-learn's encoders
# -------------------------------------
#
# A category becomes a column of zeros and ones for each of its values, and a missing one a value
# of its own. Numbers pass as they are, gaps too: NaN is a missing value. Nothing has to be scaled.

numbers = make_column_selector(dtype_include="number")
categories = make_column_selector(dtype_exclude="number")
encode = make_column_transformer(
    ("passthrough", numbers),
    (OneHotEncoder(sparse_output=False), categories),
    verbose_feature_names_out=False,
)
X_train, X_test, y_train, y_test = train_test_split(
    table, species, test_size=0.3, stratify=species, random_state=0
)
pipe = make_pipeline(encode, ClassVSCTransformer(8, random_state=0)).fit(X_train, y_train)
Z = pipe.transform(X_test)
roles = dimension_roles(Z, y_test)
print(roles[["role", "classes", "density"]].round(2).to_string())

# %%
# What marks a species
# --------------------
#
# Take penguins of the other species that the model has not seen, switch on the dimensions that a
# species has, and off those that it has not, and decode. The mean change is what the model takes
# for the mark of the species. Beside it, without a model, the plain difference of the means. The
# pipeline is read back to the columns of the table; in standard deviations, grams, days and islands
# can be compared.

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
# The species are easy to tell apart: a logistic regression on the encoded table is right of nearly
# every held-out penguin, and so is one on the codes. The table needs medians for its gaps first;
# codes have none. What the codes add is the picture: which measurements go together, in which
# species.

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

# sphinx_gallery_start_ignore
assert min(agreement.values()) > 0.7 and max(agreement.values()) > 0.9
assert min(accuracy.values()) > 0.95
own = {classes[0] for classes in roles["classes"] if len(classes) == 1}
assert own == set(species)
# sphinx_gallery_end_ignore
