"""Measure whether what the default shows on training samples holds on held-out ones.

Fits `ClassVSCTransformer(random_state=seed)` to tables whose classes separate, to tables whose
classes overlap, and, with a likelihood of counts, to texts and cells. Compares held-out samples
with training samples, and codes with raw features, boosted trees, PCA and NMF. Finished runs are
kept.

    python benchmarks/bench_defaults.py --quick
    python benchmarks/bench_defaults.py --jobs 2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import _common as common
import numpy as np
from _common import Column, Row, Split, Target, columns
from _sets import COUNTS, TABLES, available, words
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln
from scipy.stats import mannwhitneyu
from sklearn.decomposition import NMF, PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.inspection import feature_effects
from sklearn_classvsc.metrics import dimension_roles, role_recovery_score, topic_coherence

QUICK = ["wine", "iris", "factors_small", "diabetes", "noisy_tiny", *COUNTS]
N_WORDS, N_MARKERS, N_SIGNIFICANT = 10, 5, 50  # of a topic, of a dimension, of a class


# -- one run -----------------------------------------------------------------------------------


def run(task: Row) -> Row:
    """Fit one data set with one seed, and score it on both sides of the split."""
    name, seed = task["table"], task["seed"]
    parameters: Row = {"random_state": seed}
    parameters |= {} if task["epochs"] is None else {"max_epochs": task["epochs"]}
    table = (TABLES | COUNTS)[name]
    data = table.load(seed)
    y = np.asarray(data.target)
    train, test = train_test_split(np.arange(len(y)), test_size=0.3, stratify=y, random_state=seed)
    split = Split(data.data[train], data.data[test], y[train], y[test])
    if "codes" in data:  # the true factors are known
        data.codes = data.codes[test]
    if name == "texts":
        return of_texts(split, data.reference, parameters)
    if name == "cells":
        return of_cells(split, parameters)
    return of_table(split, data, parameters)


def fitted(split: Split, **parameters: Any) -> tuple[Any, NDArray[Any], NDArray[Any], Row]:
    """Fit; return the estimator, the codes of both sides, and figures of both.

    Codes are predicted from as in a Pipeline: by `fit_transform` of training rows.
    """
    estimator, (X, X_test, y, y_test) = ClassVSCTransformer(**parameters), split
    piped, row = common.measured(lambda: estimator.fit_transform(X, y))
    Z, Z_test = estimator.transform(X), estimator.transform(X_test)
    of_training = common.score_codes(Z, y)
    row |= common.score_codes(Z_test, y_test) | {
        f"{field}_train": of_training[field] for field in ("contrast", "consistency", "dead")
    }
    row |= common.predictions(common.linear(), piped, y, Z_test, y_test) | {
        "contrast_gap": row["contrast_train"] - row["contrast"],
        "classes_without_own": row["n_classes"] - row["own"],
        "not_finite": int(not all(map(np.all, map(np.isfinite, (Z, Z_test, piped))))),
    }
    return estimator, piped, Z_test, row


def of_table(split: Split, data: Bunch, parameters: Row) -> Row:
    """Fit a table, and compare with raw features, boosted trees and a PCA of as many components."""
    X, X_test, y, y_test = split
    estimator, piped, Z_test, row = fitted(split, **parameters)
    k = int(np.clip(round(row["active"]), 1, min(X.shape)))
    scaler, pca = StandardScaler().fit(X), PCA(k, random_state=0)
    scores = pca.fit_transform(scaler.transform(X))
    scores_test = pca.transform(scaler.transform(X_test))
    decoded = scaler.inverse_transform(pca.inverse_transform(scores_test))
    # Stopped early, on the same rows in both: unstopped, it is sure of noise, and differences too.
    trees = HistGradientBoostingClassifier(random_state=0, early_stopping=True)
    both, both_test = np.hstack([X, piped]), np.hstack([X_test, Z_test])
    row |= {
        "n_pca": k,
        "explained_variance": mean_r2(X_test, estimator.inverse_transform(Z_test)),
        "explained_variance_train": mean_r2(X, estimator.inverse_transform(estimator.transform(X))),
        "pca_explained_variance": mean_r2(X_test, decoded),
        **common.predictions(common.linear(), X, y, X_test, y_test, "raw_"),
        **common.predictions(common.linear(), scores, y, scores_test, y_test, "pca_"),
        **common.predictions(trees, X, y, X_test, y_test, "trees_"),
        **common.predictions(trees, both, y, both_test, y_test, "both_"),
    }
    if "supports" in data:
        similarity = common.absolute_correlation(data.codes, Z_test)
        pairs = linear_sum_assignment(similarity, maximize=True)
        row["factor_correlation"] = float(similarity[pairs].sum() / len(similarity))
        row["role_recovery"] = role_recovery_score(data.supports, Z_test, y_test)
    return row | {
        "accuracy_gain": row["accuracy"] - row["raw_accuracy"],
        "loss_excess": row["log_loss"] - row["raw_log_loss"],
        "trees_excess": row["both_log_loss"] - row["trees_log_loss"],
        "variance_gain": row["explained_variance"] - row["pca_explained_variance"],
    }


def mean_r2(X: NDArray[Any], decoded: NDArray[Any]) -> float:
    """Return the explained variance, the mean over the features that vary in these rows."""
    varies = X.var(axis=0) > 0
    return float(r2_score(X[:, varies], decoded[:, varies]))


# -- counts ------------------------------------------------------------------------------------


def of_texts(split: Split, reference: Sequence[str], parameters: Row) -> Row:
    """Fit counts of words: how well it predicts new texts, and what its dimensions say."""
    counter, y, y_test = words().fit(split.X_train), split.y_train, split.y_test
    X, X_test = (counter.transform(d).astype(np.float32) for d in (split.X_train, split.X_test))
    counts = Split(X, X_test, y, y_test)
    estimator, _, Z_test, row = fitted(counts, **parameters, likelihood="multinomial")
    frequency = (X.sum(axis=0).A1 + 0.5) / (X.sum() + 0.5 * X.shape[1])
    effects = feature_effects(estimator, X, kind="presence", max_samples=20).to_numpy()
    effects = effects[dimension_roles(Z_test, y_test)["role"].to_numpy() != "dead"]
    effects = effects[np.isfinite(effects).all(axis=1)]
    tfidf = TfidfTransformer().fit(X)
    T, T_test = tfidf.transform(X), tfidf.transform(X_test)
    all_counts = counter.transform(reference)
    nmf = NMF(max(1, len(effects)), random_state=0, max_iter=400)
    W, W_test = nmf.fit_transform(T), nmf.transform(T_test)
    regression = LogisticRegression(max_iter=1000)
    return row | {
        "n_topics": len(effects),
        "perplexity": perplexity(estimator.score_samples(X_test).sum() - orders(X_test), X_test),
        "perplexity_train": perplexity(estimator.score_samples(X).sum() - orders(X), X),
        "words_perplexity": perplexity((X_test @ np.log(frequency)).sum(), X_test),
        "coherence": coherence(effects, all_counts),
        "nmf_coherence": coherence(nmf.components_, all_counts),
        **common.predictions(regression, T, y, T_test, y_test, "raw_"),
        **common.predictions(common.linear(), W, y, W_test, y_test, "nmf_"),
    }


def perplexity(log_p: float, X: Any) -> float:
    """Return the number of equally likely words that each word is as uncertain as."""
    return float(np.exp(-log_p / X.sum()))


def orders(X: Any) -> float:
    """Return the logarithm of the number of orders of the words, summed: the ELBO is of counts."""
    return float(gammaln(X.sum(axis=1) + 1).sum() - gammaln(X.data + 1).sum())


def coherence(weights: NDArray[Any], counts: Any) -> float | None:
    """Return the mean NPMI of pairs among the first words of each topic, in these texts."""
    values = topic_coherence(weights, counts, top_k=N_WORDS) if len(weights) else np.array([])
    return float(np.nanmean(values)) if np.isfinite(values).any() else None


def of_cells(split: Split, parameters: Row) -> Row:
    """Fit counts of genes: how likely new cells are, and whether dimensions name markers."""
    X, X_test, y, y_test = split
    estimator, _, _, row = fitted(split, **parameters, likelihood="negative_binomial")
    rates, rates_test = (np.log1p(A / A.sum(axis=1, keepdims=True) * 1e4) for A in (X, X_test))
    roles = dimension_roles(estimator.transform(X), y)
    effects = feature_effects(estimator, X, kind="presence").to_numpy() / (X.std(axis=0) + 1e-12)
    found, ranked = [], []
    for j in np.flatnonzero(roles["role"] == "class-specific"):
        (label,) = roles["classes"][j]
        markers = ranks(rates_test, y_test == label)[:N_SIGNIFICANT]
        found.append(np.isin(np.argsort(-effects[j])[:N_MARKERS], markers).mean())
        ranked.append(np.isin(ranks(rates, y == label)[:N_MARKERS], markers).mean())
    return row | {
        "elbo": estimator.score(X_test),
        "elbo_train": estimator.score(X),
        "markers": float(np.mean(found)) if found else None,
        "ranked_markers": float(np.mean(ranked)) if ranked else None,
        **common.predictions(common.linear(), rates, y, rates_test, y_test, "raw_"),
    }


def ranks(rates: NDArray[Any], of_class: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Order the genes by how surely they are higher in a class, in a rank test."""
    test = mannwhitneyu(rates[of_class], rates[~of_class], alternative="greater")
    return np.argsort(test.pvalue, kind="stable")


# -- the page ----------------------------------------------------------------------------------


def sides(heading: str, field: str, digits: int = 3) -> list[Column]:
    """Return the columns of training rows and of held-out rows."""
    return [
        Column(f"{heading}, training", f"{field}_train", digits),
        Column(f"{heading}, held out", field, digits),
    ]


WAYS = {
    "raw + LR": "raw_",
    "codes + LR": "",
    "PCA + LR": "pca_",
    "raw + HGB": "trees_",
    "raw, codes + HGB": "both_",
}
SPARSE = [*sides("contrast", "contrast"), *sides("C", "consistency")]
PROCESSOR = Column("processor, s", "processor", 1)
HOLDS = [
    *SPARSE,
    *sides("EV", "explained_variance"),
    Column("EV, PCA", "pca_explained_variance"),
    *sides("dead", "dead", 1),
    *columns("active"),
    PROCESSOR,
]
PREDICTS = [
    Column(f"{figure}: {way}", f"{prefix}{field}")
    for figure, field in (("log loss", "log_loss"), ("accuracy", "accuracy"))
    for way, prefix in WAYS.items()
]
FINDS = [
    *columns("own"),
    Column("of classes", "n_classes", 0),
    *columns("global shared specific sporadic"),
    Column("roles recovered", "role_recovery", 2),
    Column("factor correlation", "factor_correlation", 2),
    Column("collapse warnings", "collapse_warnings", 1),
]
OF_COUNTS = [
    *sides("perplexity", "perplexity", 0),
    Column("perplexity, words alone", "words_perplexity", 0),
    Column("factors", "n_topics", 1),
    Column("NPMI", "coherence"),
    Column("NPMI, NMF", "nmf_coherence"),
    *sides("ELBO", "elbo", 1),
    Column("markers", "markers", 2),
    Column("markers, rank test", "ranked_markers", 2),
    Column("accuracy, codes + LR", "accuracy"),
    Column("accuracy, NMF + LR", "nmf_accuracy"),
    Column("accuracy, LR", "raw_accuracy"),
    Column("log loss, codes + LR", "log_loss"),
    Column("log loss, LR", "raw_log_loss"),
    *SPARSE,
    *columns("active"),
    PROCESSOR,
]
TARGETS = [
    Target("contrast: training - held out <= 0.10", "contrast_gap", "<=", 0.10),
    Target("log loss: codes - raw, LR, <= 0.03", "loss_excess", "<=", 0.03),
    Target("accuracy: codes - raw, LR, >= -0.02", "accuracy_gain", ">=", -0.02),
    Target("log loss: raw, codes - raw, HGB, <= 0", "trees_excess", "<=", 0),
    Target("EV: codes - PCA >= -0.05", "variance_gain", ">=", -0.05),
    Target("finite", "not_finite", "<=", 0, every_seed=True),
]
N_COMPARED = 5  # the first of them, whose figures are told if they are met too
SEPARATE = [
    Target("C >= 0.88", "consistency", ">=", 0.88),
    Target("contrast >= 0.65", "contrast", ">=", 0.65),
    Target("own: every class", "classes_without_own", "<=", 0, every_seed=True),
    Target("roles >= 0.9", "role_recovery", ">=", 0.9),
]


def parts_of(groups: Mapping[str, Sequence[Row]], targets: Sequence[Target]) -> list[str]:
    """Return the paragraphs on some tables."""
    verdicts = []
    for label, rows in groups.items():
        cells = []
        for t in targets:
            met = t.met(common.figures(rows, t.field))
            told = met is False or (met is True and t in TARGETS[:N_COMPARED])
            cells.append(common.VERDICTS[met] + told * f" ({common.mean_sd(rows, t.field)})")
        verdicts.append([label, *cells])
    totals = [
        f"{sum(bool(t.met(common.figures(rows, t.field))) for rows in groups.values())} of "
        f"{sum(common.figures(rows, t.field).size > 0 for rows in groups.values())}"
        for t in targets
    ]
    better = [
        sum(common.figures(rows, field).mean() < 0 for rows in groups.values())
        for field in ("loss_excess", "trees_excess")
    ]
    return [
        "What holds on new rows:",
        *common.summary(groups, HOLDS, "table"),
        "What predicts the classes of new rows:",
        common.summary(groups, PREDICTS, "table")[1],
        f"The mean log loss is lower with codes than with raw features in {better[0]} of "
        f"{len(groups)} tables (LR), and lower with both than with raw features in {better[1]} "
        "(HGB).",
        "What dimensions do on new rows:",
        common.summary(groups, FINDS, "table")[1],
        "Whether it meets what it must show:",
        common.markdown_table(
            ["table", *(t.figure for t in targets)], [*verdicts, ["tables that do", *totals]]
        ),
    ]


def main() -> int:
    """Run what is missing, then write the page."""
    arguments = common.command_line(__doc__, "jobs", seeds=([0], [0, 1, 2]), epochs=(100, None))
    tasks = [
        {"table": table, "seed": seed, "epochs": arguments.epochs}
        for table in available(QUICK if arguments.quick else TABLES | COUNTS)
        for seed in arguments.seeds
    ]
    rows, ok = common.run_tasks(
        arguments, "bench_defaults", ["table", "seed", "epochs"], tasks, run
    )
    rows, parts = common.of(rows, epochs=arguments.epochs), []
    found = {k: common.of(rows, table=k) for k in TABLES | COUNTS}
    for kind, overlaps in (("separate", False), ("overlap", True)):
        groups = {
            table.label: found[k]
            for k, table in TABLES.items()
            if found[k] and table.overlaps == overlaps
        }
        if groups:
            targets = [*TARGETS, *([] if overlaps else SEPARATE)]
            parts += [f"## Classes that {kind}", *parts_of(groups, targets)]
    for name in COUNTS:
        if found[name]:
            parts += [f"## {name.capitalize()}"]
            parts += common.summary({name: found[name]}, OF_COUNTS, "counts")
    common.write_page(arguments, "defaults", parts, rows)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
