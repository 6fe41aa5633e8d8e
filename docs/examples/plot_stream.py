"""
===================================================
How do I learn from chunks that come one by one?
===================================================

Two ways need only one chunk in memory. If you can read the data again, pass ``fit`` a
function that yields chunks: the parameters and the training schedule stay the same. If
the stream does not end, call ``partial_fit`` on each chunk. After some ten thousand
samples its held-out scores are close to those of ``fit``.
"""

# %%
# Chunks that can be read again: a function
# -----------------------------------------
#
# ``fit`` takes a function in place of X. The function returns an iterator over chunks
# (X, y), and ``fit`` calls it in every epoch. This one slices an array. In practice it
# reads files. The printed figures are held-out scores; *roles recovered* is the
# fraction of the true factors that a dimension has found, which only generated data can
# tell.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.datasets import make_class_factors
from sklearn_classvsc.metrics import (
    class_contrast_score,
    fidelity_scorer,
    role_recovery_score,
)

factors = make_class_factors(
    4000, 40, n_classes=4, n_global=2, n_shared=2, n_specific=1, random_state=0
)
X, y = factors.data[:3000], factors.target[:3000]
X_test, y_test = factors.data[3000:], factors.target[3000:]


def chunks(size=600):
    """Yield the samples as they would come from files."""
    for start in range(0, len(X), size):
        yield X[start : start + size], y[start : start + size]


settings = {"n_components": 16, "hidden_layer_sizes": (32,), "random_state": 0}
whole = ClassVSCTransformer(**settings).fit(chunks)


def scores(est):
    """Return what a code of held-out samples is worth."""
    Z = est.transform(X_test)
    return {
        "contrast": class_contrast_score(Z, y_test),
        "explained variance": fidelity_scorer(est, X_test),
        "roles recovered": role_recovery_score(factors.supports, Z, y_test),
    }


goals = scores(whole)
print({name: round(float(value), 2) for name, value in goals.items()})

# %%
# Chunks without an end: ``partial_fit``
# --------------------------------------
#
# Each call makes one pass over its chunk. Four things differ from ``fit``:
#
# - The first call must know all classes, from its own samples or from ``classes``.
# - The scales of the features follow the first 1,000 samples and then stay. Here these
#   come from two chunks.
# - The learning rate stays constant, since nobody knows when a stream ends.
# - The weights of the loss reach their final values after 300 steps. That is the
#   fraction ``warmup`` of 600.

stream = ClassVSCTransformer(batch_size=60, **settings)
seen, found = [], []
for epoch in range(1, 17):
    for chunk, labels in chunks():
        stream.partial_fit(chunk, labels, classes=np.arange(4))
    if epoch in (1, 2, 4, 8, 16):
        seen.append(3 * epoch)
        found.append(scores(stream))

# %%
# Compare the two
# ---------------
#
# Blue lines are the held-out scores of ``partial_fit``, by the number of samples seen.
# Dashed lines are those of ``fit``. The two codes are not the same, just as two seeds
# give two codes.

figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for ax, (name, goal) in zip(axes, goals.items(), strict=True):
    values = [row[name] for row in found]
    ax.plot(seen, values, "o-", color="#0072B2", label="partial_fit")
    ax.axhline(goal, color="#D55E00", ls="--", label="fit")
    ax.set(xscale="log", xticks=seen, xticklabels=seen, ylim=(0, 1.05))
    ax.set(xlabel="samples seen, thousands", title=name)
_ = axes[0].legend(loc="lower right")

# %%
# **What this shows.** Neither way holds all samples in memory, and held-out
# scores of both are close after ten thousand samples or more.
#
# **What it does not show.** The chunks here come from one distribution and in random
# order. A stream that changes, or that brings one class after the other, is harder.
#
# **Next.** :doc:`/scaling` lists the sources that ``fit`` reads, from Parquet files to
# sparse matrices. :meth:`~sklearn_classvsc.ClassVSCTransformer.partial_fit` has the
# details, and :doc:`/persistence` says how to continue after a crash.

# sphinx_gallery_start_ignore
for row in found[-2:]:
    assert row["contrast"] > goals["contrast"] - 0.15
    assert row["explained variance"] > goals["explained variance"] - 0.1
assert seen[-2] == 24 and factors.data.shape[0] == 4000
assert stream.warmup == 0.5
# sphinx_gallery_end_ignore
