r"""
================================
What classes of texts talk about
================================

Counts of words: many columns, almost all of them zero. ``likelihood="multinomial"`` says how such
data come about: a text of l words is l draws from what its code decodes to. Here there are 5,000
columns; a CSR matrix of 32,768 or more stays sparse in every batch, at 100,000 columns too.
"""

# %%
# Texts whose topics are known
# ----------------------------
#
# Words fall off in frequency as in a language. One topic is everybody's, some belong to two
# classes, and every class has one of its own. Words are named by what made them: "t3w0" is the
# most frequent word of topic 3, and "w0" that of no topic.
#
# Real texts come in the same form: ``fetch_20newsgroups_vectorized(subset="train",
# normalize=False)`` of scikit-learn, of 130,107 words.

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import gammaln
from sklearn.model_selection import train_test_split

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.datasets import make_class_topics
from sklearn_classvsc.displays import ActivationDisplay
from sklearn_classvsc.inspection import feature_effects, top_features

CLASSES = np.array(["autos", "graphics", "hockey", "medicine", "space"])
texts = make_class_topics(
    5000, 5000, n_classes=5, n_global=1, n_shared=2, length=120, background=0.4, random_state=0
)
X_train, X_test, y_train, y_test = train_test_split(
    texts.data, CLASSES[texts.target], test_size=0.2, stratify=texts.target, random_state=0
)
print(f"{X_train.shape}, {X_train.nnz / np.prod(X_train.shape):.2%} of the values are not zero")

# %%
# A code, and whether it has learned anything
# -------------------------------------------
#
# *Perplexity* is how many equally likely words each draw is as uncertain as: lower is better. For
# the model it is an upper bound, from the ELBO, which pays for the code of each text too; beside it
# the best that frequencies of words alone can do. More passes than these fit the training texts
# better, and others worse: words are many, and most are rare.

model = ClassVSCTransformer(
    12, likelihood="multinomial", hidden_layer_sizes=(64,), max_epochs=20, random_state=0
).fit(X_train, y_train)

frequency = (X_train.sum(axis=0).A1 + 0.5) / (X_train.sum() + 0.5 * X_train.shape[1])
n_words = X_test.sum()
n_orders = gammaln(X_test.sum(axis=1) + 1).sum() - gammaln(X_test.data + 1).sum()
perplexity = {
    "words alone": np.exp(-(X_test @ np.log(frequency)).sum() / n_words),
    "model": np.exp(-(model.score_samples(X_test).sum() - n_orders) / n_words),
}
print({name: f"{value:.0f}" for name, value in perplexity.items()})

# %%
# What the dimensions say
# -----------------------
#
# ``feature_effects`` decodes with a dimension on and with it off. Its columns get the words as
# names; as all are counts of one unit, they are compared as they are (``scale=1``).

effects = feature_effects(model, X_test, kind="presence", max_samples=20)
effects.columns = texts.feature_names
words = top_features(effects, k=4, scale=1)
rising = words[words["effect"] > 0]
print(rising.groupby("dimension")["feature"].agg(" ".join).to_string())

# %%
# To the left, which class uses which dimension; to the right, how many more of its words a text
# of 120 words has when the dimension is on.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.8), layout="constrained", width_ratios=[3, 2]
)
ActivationDisplay.from_estimator(model, X_test, y_test, ax=left)
strongest = rising.drop_duplicates("dimension").sort_values("effect")
labels = [f"{row.dimension}: {row.feature}" for row in strongest.itertuples()]
right.barh(labels, strongest["effect"], color="#0072B2")
_ = right.set(
    xlabel="more of the word, in counts",
    ylabel="dimension: its first word",
    title="What the dimensions add",
)

# sphinx_gallery_start_ignore
assert perplexity["model"] < 0.9 * perplexity["words alone"]
assert rising["feature"].str.startswith("t").mean() > 0.9  # words of topics
# sphinx_gallery_end_ignore
