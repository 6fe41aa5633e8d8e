"""Measures of what sparse codes say about classes.

Most functions take arrays and do not depend on the estimators: they score the codes of a PCA, a
dictionary or any other encoder by the same definitions. ``activations`` is an (n, d) array or
sparse matrix of booleans or codes, in which *non-zero means active*. ``y`` holds one class label
for each sample. Measure on held-out data.

Functions that take ``(estimator, X, y)`` are scorers: pass them to ``GridSearchCV`` or
``cross_validate``. The density of each dimension is a column of :func:`dimension_roles`; its sum is
the mean number of active dimensions (L0).
"""

from sklearn_classvsc.metrics._coherence import topic_coherence
from sklearn_classvsc.metrics._consistency import (
    CategorySharing,
    category_sharing_test,
    class_consistency_score,
    class_contrast_score,
    class_sharing_matrix,
    ordinal_sharing_score,
)
from sklearn_classvsc.metrics._information import (
    activation_information,
    jensen_shannon_consistency,
)
from sklearn_classvsc.metrics._probe import k_sparse_probe_score
from sklearn_classvsc.metrics._recurrence import (
    FactorRecurrence,
    effect_alignment,
    factor_recurrence,
)
from sklearn_classvsc.metrics._roles import ROLES, dimension_roles
from sklearn_classvsc.metrics._scorers import (
    consistency_scorer,
    contrast_scorer,
    elbo_scorer,
    fidelity_scorer,
    inert_dimensions,
    pooled_fidelity_scorer,
    probe_scorer,
)
from sklearn_classvsc.metrics._sparsity import dead_fraction, hoyer_sparsity_score
from sklearn_classvsc.metrics._stability import (
    match_dimensions,
    role_recovery_score,
    role_stability_score,
)
from sklearn_classvsc.metrics._switches import independent_switches, support_information

__all__ = [
    "ROLES",
    "CategorySharing",
    "FactorRecurrence",
    "activation_information",
    "category_sharing_test",
    "class_consistency_score",
    "class_contrast_score",
    "class_sharing_matrix",
    "consistency_scorer",
    "contrast_scorer",
    "dead_fraction",
    "dimension_roles",
    "effect_alignment",
    "elbo_scorer",
    "factor_recurrence",
    "fidelity_scorer",
    "hoyer_sparsity_score",
    "independent_switches",
    "inert_dimensions",
    "jensen_shannon_consistency",
    "k_sparse_probe_score",
    "match_dimensions",
    "ordinal_sharing_score",
    "pooled_fidelity_scorer",
    "probe_scorer",
    "role_recovery_score",
    "role_stability_score",
    "support_information",
    "topic_coherence",
]
