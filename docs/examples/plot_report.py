"""
==========================================
How do I make and read a factor report?
==========================================

Two lines make the report: one page on what the code of each class consists of, for
readers who do not program. This example makes the report of three kinds of wine, says
what to look at in which order, and shows the same figures in Python.
"""

# sphinx_gallery_thumbnail_path = "images/report_factor.png"

# %%
# Make it
# -------
#
# The wines have thirteen measurements. Give the report samples that the model has not
# seen.

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
names = ["Barolo", "Grignolino", "Barbera"]
report = factor_report(est, X_test, y_test, class_names=names, title="Three wines")

# %%
# Read it
# -------
#
# Look at these parts, in this order:
#
# 1. **The sentence and the map**: which kinds of wine have which factors. Click a cell
#    to open the card of its factor.
# 2. **The three figures**: each comes with what you would get without this model.
# 3. **What to believe**: with ``n_refits=2``, the report fits again and says which
#    factors come back.
# 4. **A card for each class**: what marks it in the code and what marks it in the data.
# 5. **A card for each factor**: wines with its lowest and highest values, what it
#    changes, and a slider.
#
# ``report.save("wine.html")`` writes the page to a file that loads nothing from
# elsewhere. In a notebook, as on this page, the last line of a cell shows it:

report

# %%
# Use its figures in Python
# -------------------------
#
# ``to_dict`` returns everything that the page says.

figures = report.to_dict()["figures"]
for name, value in figures.items():
    print(f"{name:36}{value:.2f}" if isinstance(value, float) else f"{name:36}{value}")

# %%
# :class:`~sklearn_classvsc.displays.FactorDisplay` draws the card of one factor: real
# wines, from the lowest to the highest value.

strongest = report.to_dict()["factors"][0]["dimensions"][0]
FactorDisplay.from_estimator(est, X_test, y_test, factor=strongest, k=6)

# %%
# **What this shows.** A colleague can read what a model learned without any Python.
#
# **What it does not show.** There are only 72 held-out wines, 19 to 29 of each kind,
# and figures of so few vary. The sentences describe these wines. A classifier on the
# measurements themselves names as many of them right.
#
# **Next.** :doc:`/report` explains every part of the page and its options.
# :func:`~sklearn_classvsc.report.factor_report` lists the arguments, and :doc:`/faq`
# says when you can trust a factor.

# sphinx_gallery_start_ignore
assert len(X_test) == 72 and y_test.value_counts().between(19, 29).all()
assert X_train.shape[1] == 13
assert figures["class_consistency"] > 0.9
accuracies = figures["probe_accuracy"], figures["probe_accuracy_of_features"]
assert abs(accuracies[0] - accuracies[1]) < 0.04
assert all(entry["agreement"] > 0.7 for entry in report.to_dict()["classes"])
# sphinx_gallery_end_ignore
