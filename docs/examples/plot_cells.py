r"""
=================================
Cells: types, markers and batches
=================================

Counts of genes in cells, as an AnnData. Which genes mark a type of cells, and what does the code
know of the donor that a cell comes from?
"""

# %%
# Cells whose markers are known
# -----------------------------
#
# Counts are negative binomial, as those of molecules are. Fifteen genes are four times as frequent
# in each of five types of cells. Three donors differ in all genes, and in depth: that is how many
# molecules are read.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import mannwhitneyu
from sklearn.decomposition import NMF, PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.anndata import AnnDataVSC

rng = np.random.default_rng(0)
types = ["B", "mono", "NK", "T4", "T8"]
genes = np.array([f"g{j}" for j in range(400)])
of_type = rng.permutation(400)[:75].reshape(5, 15)
rates = np.tile(rng.lognormal(-0.5, 1, 400), (5, 1))
for rate, own in zip(rates, of_type, strict=True):
    rate[own] *= 4
donors = np.exp(rng.normal(0, 0.5, (3, 400))) * [[1.0], [0.6], [1.5]]
type_, donor = rng.integers(0, 5, 1200), rng.integers(0, 3, 1200)
means = rates[type_] * donors[donor] * rng.lognormal(0, 0.3, (1200, 1))
counts = rng.poisson(rng.gamma(2, means / 2)).astype(np.float32)
cells = AnnData(
    counts,
    obs=pd.DataFrame(
        {"type": np.array(types)[type_], "donor": np.array(["d1", "d2", "d3"])[donor]},
        index=[f"cell{i}" for i in range(1200)],
    ),
    var=pd.DataFrame(index=genes),
)
train, test = cells[::2].copy(), cells[1::2].copy()

# %%
# In and out of an AnnData
# ------------------------
#
# Layer, labels and batches are named; codes, fold changes and roles are written beside the counts.
# The second model knows of donors. It does not see them in the counts: these are thinned to what
# all donors would have, as :class:`~sklearn_classvsc.anndata.AnnDataVSC` says.

models = {}
for batch_key in (None, "donor"):
    estimator = ClassVSCTransformer(
        16, likelihood="negative_binomial", max_epochs=80, random_state=0
    )
    key = "blind" if batch_key else "plain"
    models[key] = AnnDataVSC(estimator, label_key="type", batch_key=batch_key, key=key)
    models[key].fit(train).transform(test)
print(train)

# %%
# What the codes know
# -------------------
#
# Logistic regressions are asked for the type and for the donor of cells that no model has seen.
# Chance is 0.20 and 0.33.


def log_counts(adata):
    """Return the logarithms of counts per thousand."""
    return np.log1p(adata.X / adata.X.sum(axis=1, keepdims=True) * 1e3)


nmf = NMF(16, max_iter=1000, random_state=0).fit(log_counts(train))
codes = {
    "all genes": (log_counts(train), log_counts(test)),
    "NMF": (nmf.transform(log_counts(train)), nmf.transform(log_counts(test))),
    "codes": (train.obsm["X_plain"], test.obsm["X_plain"]),
    "codes, batch_key": (train.obsm["X_blind"], test.obsm["X_blind"]),
}
known = {}
for name, (A, B) in codes.items():
    known[name] = {}
    for what in ("type", "donor"):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        known[name][what] = classifier.fit(A, train.obs[what]).score(B, test.obs[what])
known = pd.DataFrame(known).T
print(known.round(2).to_string())

# %%
# Thinning costs molecules of the deeper donors, and with them some certainty of the type.

figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
for i, name in enumerate(["all genes", "codes, batch_key"]):
    plane = PCA(2, random_state=0).fit_transform(codes[name][1])
    for ax, what in zip(axes[2 * i : 2 * i + 2], ("type", "donor"), strict=True):
        for label in sorted(test.obs[what].unique()):
            rows = (test.obs[what] == label).to_numpy()
            ax.scatter(*plane[rows].T, s=5, label=label)
        ax.set(title=f"{name}: {what}", xticks=[], yticks=[], xlabel="PCA 1", ylabel="PCA 2")
        ax.legend(markerscale=2, fontsize="small")

# %%
# Marker genes
# ------------
#
# Ten genes of each type by the fold change that its dimensions bring, and ten by the rank test that
# is usual for it, on the same held-out cells. How many are among the fifteen that are right?

markers = models["blind"].marker_genes(test, k=10)
print(markers[markers["rank"] <= 2].round(1).to_string(index=False))
right = {"model": [], "rank test": []}
for name, own in zip(types, of_type, strict=True):
    of_model = markers.loc[markers["class"] == name, "gene"]
    inside = (test.obs["type"] == name).to_numpy()
    values = log_counts(test)
    rank_test = mannwhitneyu(values[inside], values[~inside], alternative="greater")
    ranked = genes[np.argsort(rank_test.pvalue)]
    for key, found in (("model", of_model), ("rank test", ranked[:10])):
        right[key].append(np.isin(found, genes[own]).mean())
print({key: f"{np.mean(value):.2f}" for key, value in right.items()})

# %%
# On 559 real cells (those that the package ``celltypist`` ships, of six clusters; three splits in
# halves) 0.89 of the model's ten genes of a cluster were among the first fifty of a rank test on
# the other half, and 0.97 of the ten of a rank test. Of the clusters of held-out cells 0.95 were
# told right from the codes, 0.95 from an NMF and 0.94 from all genes.

# sphinx_gallery_start_ignore
assert known.loc["codes", "donor"] > 0.9
assert known.loc["codes, batch_key", "donor"] < 0.42
assert known.loc["codes, batch_key", "type"] > 0.9
assert min(np.mean(value) for value in right.values()) > 0.9
# sphinx_gallery_end_ignore
