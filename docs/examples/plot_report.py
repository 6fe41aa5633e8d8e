"""
=========================
Reading the factor report
=========================

Everything about a code on one page, for somebody who looks rather than reads, and who does not
program.
"""

# sphinx_gallery_thumbnail_path = "images/report_factor.png"

# %%
# Two lines make it
# -----------------
#
# The code of three kinds of wine by thirteen measurements. Give the report samples that the model
# has not seen.

from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.displays import FactorDisplay
from sklearn_classvsc.report import factor_report

wine = load_wine(as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(
    wine.data, wine.target, test_size=0.4, stratify=wine.target, random_state=0
)
est = ClassVSCTransformer(10, hidden_layer_sizes=(64,), max_epochs=800, random_state=0)
est.fit(X_train, y_train)
report = factor_report(
    est, X_test, y_test, class_names=["Barolo", "Grignolino", "Barbera"], title="Three wines"
)

# %%
# What to look at, in this order:
#
# 1. **The sentence and the map**: which kinds of wine have which factors. Click a cell.
# 2. **The three figures**, each beside what is to be had without this model.
# 3. **What to believe.** ``n_refits=2`` fits again, and then says what of it comes back.
# 4. **A card for each class**: what marks it by the code, beside what the data say.
# 5. **A card for each factor**: wines with its lowest and highest values, what it does, a slider.
#
# ``report.save("wine.html")`` writes it to a file, which loads nothing from anywhere. In a
# notebook, and on this page, the object shows itself:

report

# %%
# Figures for a program
# ---------------------
#
# ``to_dict`` has all that the page says.

figures = report.to_dict()["figures"]
for name, value in figures.items():
    print(f"{name:36}{value:.2f}" if isinstance(value, float) else f"{name:36}{value}")

# %%
# The same for one factor, in a figure: real wines from the lowest to the highest value.

strongest = report.to_dict()["factors"][0]["dimensions"][0]
FactorDisplay.from_estimator(est, X_test, y_test, factor=strongest, k=6)

# %%
# What holds: 72 wines, 19 to 29 of a kind. Figures of so few may well be lower on the next ones.
# The sentences describe these wines.

# sphinx_gallery_start_ignore
assert len(X_test) == 72 and y_test.value_counts().between(19, 29).all()
assert figures["class_consistency"] > 0.9
assert all(entry["agreement"] > 0.7 for entry in report.to_dict()["classes"])
# sphinx_gallery_end_ignore
