r"""
=========================================
What do groups of documents talk about?
=========================================

The documents are docstrings of SciPy, and the group of each is its module. The model
counts words. Its factors are lists of words that rise together, and the picture shows
which module uses which factor. Its factors are more coherent than the topics of an LDA,
and about as coherent as the topics of an NMF, which knows no groups.
"""

# %%
# Collect documents and groups
# ----------------------------
#
# Nothing is downloaded: the texts come from your installed SciPy.

import importlib
import inspect

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.bodies import Linear
from sklearn_classvsc.displays import ActivationDisplay
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.metrics import dimension_roles, topic_coherence


def docstrings(name):
    """Return the docstrings of the public functions and classes of a module."""
    module = importlib.import_module(f"scipy.{name}")
    things = {key: getattr(module, key) for key in module.__all__}
    texts = {key: inspect.getdoc(thing) for key, thing in things.items()}
    texts = {key: text or "" for key, text in texts.items() if callable(things[key])}
    frame = pd.DataFrame({"text": texts, "module": name})
    return frame.rename_axis("name").reset_index()


modules = ["linalg", "ndimage", "optimize", "signal", "special", "stats"]
documents = pd.concat(map(docstrings, modules)).drop_duplicates("text")
documents = documents[documents["text"].str.len() >= 300]
print(documents["module"].value_counts().to_string())

# %%
# Count words and fit
# -------------------
#
# ``likelihood="multinomial"`` fits counts of words: a text of n words is n draws from
# the words that its code decodes to. A linear decoder is the easiest to read. The
# matrix of counts may be sparse.

train, test = train_test_split(
    documents, test_size=0.4, stratify=documents["module"], random_state=1
)
counter = CountVectorizer(
    stop_words="english", token_pattern="[a-z]{3,}", min_df=10, max_df=0.5
)
X_train = counter.fit_transform(train["text"]).astype(np.float32)
X_test = counter.transform(test["text"]).astype(np.float32)
print(f"{X_train.shape[1]} words, {X_train.nnz / np.prod(X_train.shape):.1%} not zero")
model = ClassVSCTransformer(
    12, likelihood="multinomial", decoder=Linear(), max_epochs=60, random_state=1
)
model.fit(X_train, train["module"])
Z = model.transform(X_test)
roles = dimension_roles(Z, test["module"])

# %%
# Read each factor
# ----------------
#
# With ``kind="presence"``, :func:`~sklearn_classvsc.inspection.feature_effects` says
# how many more of each word a document has when a dimension is active. Divided by the
# standard deviation of the counts, the words that rise most name the factor. The last
# line has the held-out documents with the largest values. All modules activate a global
# dimension, so it has words that all of them use.

effects = feature_effects(model, X_train, kind="presence")
effects.columns = counter.get_feature_names_out()
rise = effects / np.std(X_train.toarray(), axis=0)
for j in range(12):
    words = rise.loc[j].nlargest(10).index
    first = test["name"].iloc[np.argsort(-Z[:, j])[:3]]
    print(f"{j}, {roles.loc[j, 'role']}: {', '.join(roles.loc[j, 'classes'])}")
    print(f"    {' '.join(words)}\n    in {', '.join(first)}")

# %%
# Compare with NMF and LDA
# ------------------------
#
# Both have as many topics. :func:`~sklearn_classvsc.metrics.topic_coherence` asks
# whether the ten words of a factor occur in the same held-out documents (NPMI): 0 is
# chance, 1 is always. Accuracy is the fraction of held-out documents whose module a
# logistic regression tells from their code.

tfidf = TfidfTransformer().fit(X_train)
nmf = make_pipeline(tfidf, NMF(12, max_iter=500, random_state=1)).fit(X_train)
lda = LatentDirichletAllocation(12, max_iter=30, random_state=1).fit(X_train)


def accuracy(encoder):
    """Return how often a classifier on the codes is right."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(encoder.transform(X_train), train["module"])
    return classifier.score(encoder.transform(X_test), test["module"])


npmi = {
    "ClassVSC": topic_coherence(rise, X_test),
    "NMF": topic_coherence(nmf[-1].components_, X_test),
    "LDA": topic_coherence(lda.components_, X_test),
}
mean = {name: np.nanmean(values) for name, values in npmi.items()}
table = pd.DataFrame({"NPMI": mean})
table["accuracy"] = [accuracy(encoder) for encoder in (model, nmf, lda)]
print(table.round(2).to_string())

# %%
# The codes know more about the module than the topics do, since they have seen the
# labels of the training documents. The left picture shows what these labels add: which
# module uses which dimension.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.2), layout="constrained", width_ratios=[3, 2]
)
ActivationDisplay.from_estimator(model, X_test, test["module"], ax=left)
finite = [values[np.isfinite(values)] for values in npmi.values()]
right.boxplot(finite, tick_labels=list(npmi))
_ = right.set(ylabel="NPMI, held-out documents", title="Do its words occur together?")

# %%
# **What this shows.** Counts of words need one argument, and the factors can be read as
# lists of words.
#
# **What it does not show.** About a thousand docstrings are few, and much of their text
# is boilerplate: some factors are about that. With another SciPy the figures change.
#
# **Next.** :doc:`/scaling` takes texts of 100,000 words, and :doc:`/likelihoods` the
# other likelihoods of counts. :doc:`plot_cells` counts molecules in cells.
# :doc:`/results/defaults` compares codes and NMF on other texts.

# sphinx_gallery_start_ignore
assert 900 < len(documents) < 1200
assert table.loc["ClassVSC", "NPMI"] > table.loc["LDA", "NPMI"] + 0.05
assert abs(table.loc["ClassVSC", "NPMI"] - table.loc["NMF", "NPMI"]) < 0.1
assert table.loc["ClassVSC", "accuracy"] > table["accuracy"].drop("ClassVSC").max()
own = {classes[0] for classes in roles["classes"] if len(classes) == 1}
assert len(own) >= 2
# sphinx_gallery_end_ignore
