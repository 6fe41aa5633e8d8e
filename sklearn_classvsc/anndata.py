"""`AnnDataVSC`: fit transformers to an AnnData, which receives the codes and the marker genes.

This module does not import anndata; it only uses the attributes of the object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ._comparison import relative_effects
from ._messages import brief
from .inspection import class_differences, feature_effects, top_features
from .metrics import dimension_roles
from .metrics._counts import to_dense

__all__ = ["AnnDataVSC"]

#: Counts that the prior of the batch factors of a gene is worth; it keeps rare genes near 1.
PRIOR_COUNTS = 5.0


class AnnDataVSC(BaseEstimator):
    r"""Fit a transformer to an AnnData, and write the results into it.

    `fit` writes, with the default key,

    - ``obsm["X_classvsc"]``: the codes of the cells, for neighbours, UMAP and clustering;
    - ``varm["classvsc"]``: for each gene and dimension, the log2 fold change if it is active;
    - ``varm["classvsc_batches"]``: for each gene and batch, the batch factor (see below);
    - ``uns["classvsc"]``: the roles of the dimensions, and the keys that were read.

    With `batch_key`, the codes do not depend on the batch. The mean of gene j in cell i of batch b
    is :math:`\mu_j(z_i) \, f_{bj}`, with batch factors f that all classes share. A Poisson
    regression on class and batch estimates them before the fit, so that a class that only one batch
    has does not change. Counts are then thinned: gene j keeps each molecule with the probability
    :math:`\min_c f_{cj} / f_{bj}`, where c runs over the batches. A thinned negative binomial or
    Poisson count has the same distribution, with a smaller mean and the same dispersion. Under this
    model, cells of one kind are therefore alike in all batches. The price is lost molecules in
    batches of greater depth. Effects of a batch on a single class remain in the code.

    Parameters
    ----------
    estimator : transformer of this package
        The transformer to fit; `fit` fits a clone. ``likelihood="negative_binomial"`` suits counts.
    layer : str, default=None
        Layer with the counts. None takes ``adata.X``.
    label_key : str, default=None
        Column of `obs` with the classes. `ClassVSCTransformer` needs it.
    batch_key : str, default=None
        Column of `obs` with the batches. It needs raw counts, a likelihood of counts, and at least
        one class that two batches share.
    key : str, default="classvsc"
        Key of the results.
    random_state : int, RandomState instance or None, default=0
        Draws the thinning, and nothing else. It depends on the order of the cells.

    Attributes
    ----------
    estimator_ : estimator
        The fitted transformer.
    genes_ : ndarray of shape (n_genes,)
        Names of the genes.
    batch_factors_ : DataFrame of shape (n_batches, n_genes), or None
        The batch factors, relative to the mean of the classes.

    See Also
    --------
    sklearn_classvsc.ClassVSCTransformer : A transformer to fit.
    sklearn_classvsc.inspection.class_differences : What marks each class.

    References
    ----------
    Lopez, Regier, Cole, Jordan, Yosef: Deep generative modeling for single-cell transcriptomics,
    Nature Methods 2018.

    Examples
    --------
    >>> import scanpy as sc  # doctest: +SKIP
    >>> from sklearn_classvsc import ClassVSCTransformer
    >>> from sklearn_classvsc.anndata import AnnDataVSC
    >>> estimator = ClassVSCTransformer(16, likelihood="negative_binomial", random_state=0)
    >>> vsc = AnnDataVSC(estimator, layer="counts", label_key="cell_type", batch_key="donor")
    >>> vsc.fit(adata)  # doctest: +SKIP
    >>> sc.pp.neighbors(adata, use_rep="X_classvsc")  # doctest: +SKIP
    >>> vsc.marker_genes(adata, k=10)  # doctest: +SKIP
    """

    def __init__(
        self,
        estimator: Any,
        *,
        layer: str | None = None,
        label_key: str | None = None,
        batch_key: str | None = None,
        key: str = "classvsc",
        random_state: Any = 0,
    ) -> None:
        self.estimator = estimator
        self.layer = layer
        self.label_key = label_key
        self.batch_key = batch_key
        self.key = key
        self.random_state = random_state

    def fit(self, adata: Any) -> AnnDataVSC:
        """Fit to cells, and write the results into the AnnData.

        Parameters
        ----------
        adata : AnnData of n_cells and n_genes
            Cells, in memory.

        Returns
        -------
        self : AnnDataVSC
            The fitted estimator.

        Raises
        ------
        KeyError
            If `adata` lacks `layer`, `label_key` or `batch_key`.
        ValueError
            If `adata` is backed by a file, or if its data do not suit the estimator or `batch_key`.
        """
        X, y = self._counts(adata), self._column(adata, "label_key")
        batches = self._column(adata, "batch_key")
        genes, factors = np.asarray(adata.var_names, dtype=str), None
        if batches is not None:
            self._check_counts(X)
            names, values = batch_factors(X, np.zeros(len(batches)) if y is None else y, batches)
            factors = pd.DataFrame(values, index=names, columns=genes)
            X = self._thinned(X, batches, factors)
        estimator = clone(self.estimator)
        estimator.fit(X) if y is None else estimator.fit(X, y)
        self.estimator_, self.genes_, self.batch_factors_ = estimator, genes, factors
        self._write(adata, X, y)
        return self

    def transform(self, adata: Any) -> NDArray[Any]:
        """Encode cells of the batches of the fit, and write their codes into the AnnData.

        Parameters
        ----------
        adata : AnnData
            Cells with the genes of the fit, in any order.

        Returns
        -------
        codes : ndarray of shape (n_cells, n_components)
            The codes, also in ``obsm["X_classvsc"]``.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        KeyError
            If `adata` lacks `layer` or `batch_key`.
        ValueError
            If `adata` lacks a gene of the fit, or has a batch that the fit has not seen.
        """
        codes = self._codes(self._read(adata))
        adata.obsm[f"X_{self.key}"] = codes
        return codes

    def marker_genes(self, adata: Any, k: int = 10) -> pd.DataFrame:
        """List the genes that mark each class.

        Cells of the other classes are decoded with the support of the class. Genes are ranked by
        their fold change.

        Parameters
        ----------
        adata : AnnData
            Cells with labels. Pass held-out cells.
        k : int, default=10
            Number of genes for each class.

        Returns
        -------
        markers : DataFrame of n_classes * k rows
            Columns `class`, `rank`, `gene`, and those of
            :func:`~sklearn_classvsc.inspection.top_features`: `effect`, `relative_effect`, which
            ranks the genes, and `measure`, which is "log2 fold change" for a model of counts.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        ValueError
            If `label_key` is None, or for the reasons of `transform`.
        """
        y = self._column(adata, "label_key")
        if y is None:
            raise ValueError(
                "label_key is None, but marker genes need classes: name a column of adata.obs."
            )
        differences = class_differences(self.estimator_, self._read(adata), y)
        kinds = differences.index.get_level_values("kind")
        top = top_features(differences[kinds == "counterfactual"], k)
        top["feature"] = self.genes_[top["feature"].str[1:].astype(int)]
        return top.drop(columns="kind").rename(columns={"feature": "gene"})

    # -- reading -----------------------------------------------------------------------------------

    def _counts(self, adata: Any) -> Any:
        if getattr(adata, "isbacked", False):
            raise ValueError("adata is backed by a file: pass adata.to_memory().")
        if self.layer is None:
            return adata.X
        if self.layer not in adata.layers:
            raise KeyError(f"layer={self.layer!r} is not in adata.layers: {sorted(adata.layers)}.")
        return adata.layers[self.layer]

    def _column(self, adata: Any, parameter: str) -> NDArray[Any] | None:
        if (name := getattr(self, parameter)) is None:
            return None
        if name not in adata.obs:
            raise KeyError(
                f"{parameter}={name!r} is not a column of adata.obs: {brief(list(adata.obs))}."
            )
        return np.asarray(adata.obs[name])

    def _check_counts(self, X: Any) -> None:
        likelihood = self.estimator.likelihood
        if likelihood not in ("negative_binomial", "poisson", "multinomial"):
            raise ValueError(
                f"batch_key={self.batch_key!r} needs a likelihood of counts, but estimator has "
                f"likelihood={likelihood!r}: set it to 'negative_binomial'."
            )
        values = csr_array(X).data
        if not np.all((values >= 0) & (values % 1 == 0)):
            where = "adata.X" if self.layer is None else f"layer {self.layer!r}"
            raise ValueError(
                f"batch_key={self.batch_key!r} needs raw counts, but {where} holds other numbers: "
                "name the layer of counts with layer=."
            )

    def _read(self, adata: Any) -> Any:
        """Return the counts of the genes of the fit, thinned if there are batches."""
        check_is_fitted(self)
        X, names = self._counts(adata), np.asarray(adata.var_names, dtype=str)
        if not np.array_equal(names, self.genes_):
            places = pd.Index(names).get_indexer(pd.Index(self.genes_))
            if (places < 0).any():
                raise ValueError(
                    f"adata lacks {int((places < 0).sum())} of the {len(places)} genes of the fit, "
                    f"such as {str(self.genes_[places < 0][0])!r}."
                )
            X = X[:, places]
        if (factors := self.batch_factors_) is None:
            return X
        self._check_counts(X)
        batches = self._column(adata, "batch_key")
        assert batches is not None
        if unknown := sorted(set(batches.tolist()) - set(factors.index)):
            raise ValueError(
                f"{self.batch_key} {brief(unknown[0])} was not in the fit, which knows "
                f"{brief(list(factors.index))}: fit to all batches."
            )
        return self._thinned(X, batches, factors)

    def _thinned(self, X: Any, batches: NDArray[Any], factors: pd.DataFrame) -> Any:
        """Return counts of each gene thinned to the level of the batch with the smallest factor."""
        keep = (factors.min() / factors).to_numpy()
        counts = csr_array(X)
        rows = np.repeat(factors.index.get_indexer(pd.Index(batches)), np.diff(counts.indptr))
        rng = check_random_state(self.random_state)
        counts = csr_array(
            (
                rng.binomial(counts.data.astype(np.int64), keep[rows, counts.indices]),
                counts.indices.copy(),
                counts.indptr.copy(),
            ),
            shape=counts.shape,
            dtype=np.float32,
        )
        counts.eliminate_zeros()
        return counts if issparse(X) else counts.toarray()

    # -- writing -----------------------------------------------------------------------------------

    def _codes(self, X: Any) -> NDArray[Any]:
        return np.asarray(to_dense(self.estimator_.transform(X)))

    def _write(self, adata: Any, X: Any, y: NDArray[Any] | None) -> None:
        codes = self._codes(X)
        adata.obsm[f"X_{self.key}"] = codes
        effects = feature_effects(self.estimator_, X, kind="presence")
        changes = np.full(effects.shape, np.nan)
        active = effects.notna().all(axis=1).to_numpy()
        if active.any():
            changes[active] = relative_effects(effects[active])[0]
        adata.varm[self.key] = changes.T
        if (factors := self.batch_factors_) is not None:
            by_gene = factors.T.set_axis(adata.var_names, axis=0)
            adata.varm[f"{self.key}_batches"] = by_gene.rename(columns=str)
        keys = {name: getattr(self, name) for name in ("layer", "label_key", "batch_key")}
        found: dict[str, Any] = {name: value for name, value in keys.items() if value is not None}
        if y is not None:
            roles = dimension_roles(codes, y)
            roles["classes"] = [";".join(map(str, classes)) for classes in roles["classes"]]
            found["roles"] = roles.rename(index=str)
        adata.uns[self.key] = found


def batch_factors(
    X: Any, labels: NDArray[Any], batches: NDArray[Any], n_iter: int = 50
) -> tuple[pd.Index[Any], NDArray[np.float64]]:
    """Return the batches, and their factors for each gene.

    The mean count of gene j in class c and batch b is a[c, j] f[b, j]. Iterative proportional
    scaling fits this Poisson regression. A gamma prior keeps the factors of rare genes near 1.
    """
    of_class, classes = pd.factorize(labels)
    of_batch, names = pd.factorize(batches, sort=True)
    if (of_batch < 0).any():
        raise ValueError("batch_key has cells without a batch: leave them out, or give them one.")
    group, n_groups = of_class * len(names) + of_batch, len(classes) * len(names)
    labeled = np.flatnonzero(of_class >= 0)
    one_hot: Any = csr_array(
        (np.ones(len(labeled)), (group[labeled], labeled)), shape=(n_groups, len(group))
    )
    shape = len(classes), len(names)
    sizes: NDArray[np.float64] = np.asarray(one_hot.sum(axis=1)).reshape(shape)
    if len(names) > 1 and (np.count_nonzero(sizes, axis=1) < 2).all():
        raise ValueError(
            "No class is in two batches, so effects of batches and classes cannot be separated: "
            "leave out batch_key."
        )
    sums: NDArray[np.float64] = (one_hot @ csr_array(X)).toarray().reshape(*shape, -1)
    of_classes, of_batches = sums.sum(axis=1), sums.sum(axis=0) + PRIOR_COUNTS
    factors = np.ones_like(of_batches)
    for _ in range(n_iter):
        means = of_classes / np.maximum(sizes @ factors, 1e-12)
        factors = of_batches / (sizes.T @ means + PRIOR_COUNTS)
    return pd.Index(names), factors
