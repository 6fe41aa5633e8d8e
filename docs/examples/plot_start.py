"""
================================================
What do classes share, and what sets them apart?
================================================

Ten lines of code fit a model to handwritten digits and print what it learned. Each
digit becomes a code of 32 numbers, most of them exactly zero. The picture at the end
shows which dimensions all classes share, and which ones a single class has.
"""

# %%
# Fit and encode
# --------------
#
# Every parameter keeps its default. The fit takes a few seconds on one core.
# :func:`~sklearn_classvsc.metrics.dimension_roles` then says which classes activate
# each dimension, and the last line counts these roles.

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
# Look at one code
# ----------------
#
# ``Z`` is an ordinary array with exact zeros. Here is the code of one held-out four:
# only its active dimensions are printed.

four = Z[y_test == 4][0]
print(f"{(four != 0).sum()} of {four.size} dimensions are active:")
print({int(j): round(float(four[j]), 1) for j in four.nonzero()[0]})

# %%
# See which class uses which dimension
# ------------------------------------
#
# Each column is a dimension and each row a class. A cell is yellow if all held-out
# digits of the class activate the dimension. The columns on the left are *global*:
# every class activates them. Next come the *shared* and the *class-specific* ones. No
# class needs a column without yellow.

display = ActivationDisplay.from_estimator(est, X_test, y_test)
figure = display.figure_

# %%
# **What this shows.** Every class activates at least one dimension that few or no other
# classes activate.
#
# **What it does not show.** Which two classes share a dimension depends on the seed.
# What a dimension stands for is another question: you have to look at what it decodes
# to.
#
# **Next.** :doc:`plot_image_factors` decodes the dimensions of such a model.
# :doc:`/model_classvsc` explains :class:`~sklearn_classvsc.ClassVSCTransformer`, and
# :doc:`/displays` the other pictures.

# sphinx_gallery_start_ignore
counts = roles["role"].value_counts()
assert Z.shape[1] == 32 and (Z == 0).mean() > 0.5
assert counts["dead"] < 6 and counts["global"] > 1 and counts["class-specific"] > 10
few = roles[roles["role"].isin(["shared", "class-specific"])]
assert all(
    few["classes"].map(lambda classes, c=c: c in classes).any() for c in range(10)
)
assert 4 <= (four != 0).sum() <= 12
# sphinx_gallery_end_ignore
