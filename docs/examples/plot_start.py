"""
==================================
Ten lines: a code of sparse parts
==================================

What do handwritten digits of a class have in common, and what do classes share? A code of 32
dimensions, most of them zero in any one digit, answers both.
"""

# %%
# The ten lines. Everything is left at its default.

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.displays import ActivationDisplay
from sklearn_classvsc.metrics import dimension_roles

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
est = ClassVSCTransformer(random_state=0).fit(X_train, y_train)
Z = est.transform(X_test)
roles = dimension_roles(Z, y_test)
print(roles["role"].value_counts().to_string())

# %%
# ``Z`` is an ordinary array with exact zeros. The code of one held-out digit, a four:

four = Z[y_test == 4][0]
print(f"{(four != 0).sum()} of {four.size} dimensions are active:")
print({int(j): round(float(four[j]), 1) for j in four.nonzero()[0]})

# %%
# The picture says which class uses which dimension: a column is a dimension, yellow where all
# digits of a class have it. To the left stand the global ones, which every class has, then those
# that two classes share, then those of a single class. All of it is of digits that the model has
# not seen. A column without yellow is spare: no class needs it. Another seed finds other pairs;
# that there are such dimensions for every class comes out with each.

display = ActivationDisplay.from_estimator(est, X_test, y_test)
figure = display.figure_

# sphinx_gallery_start_ignore
counts = roles["role"].value_counts()
assert counts["dead"] < 6 and counts["global"] > 1 and counts["class-specific"] > 10
few = roles[roles["role"].isin(["shared", "class-specific"])]
assert all(few["classes"].map(lambda classes, c=c: c in classes).any() for c in range(10))
assert 4 <= (four != 0).sum() <= 12
# sphinx_gallery_end_ignore
