"""The factor report: one HTML page on what a fitted code says about the classes.

`_inputs` checks the arguments; `_factors`, `_baselines` and `_measure` compute the figures;
`_words` writes the sentences; `_pictures` draws; `_page` fills page.html, page.css and page.js.
"""

from __future__ import annotations

import copy
import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from .._factor_names import Names
from .._files import replacing
from ._inputs import check_inputs
from ._measure import measure
from ._page import render
from ._words import clean

__all__ = ["FactorReport", "factor_report"]


class FactorReport:
    """Page on what a fitted code says about the classes.

    :func:`factor_report` makes it. Notebooks show it, `save` writes it to a file, and `to_dict`
    returns its figures.

    Parameters
    ----------
    html : str
        The page.
    data : dict
        What `to_dict` returns.

    See Also
    --------
    factor_report : Make a report of a fitted estimator.

    Examples
    --------
    >>> from sklearn_classvsc.report import FactorReport
    >>> FactorReport("<!doctype html><title>A page</title>", {"title": "A page"})
    <FactorReport 'A page', 0.0 MB>
    """

    def __init__(self, html: str, data: dict[str, Any]) -> None:
        self._html = html
        self._data = data

    def __repr__(self) -> str:
        """Return the title and the size."""
        size = len(self._html.encode()) / 1e6
        return f"<FactorReport {self._data['title']!r}, {size:.1f} MB>"

    def _repr_html_(self) -> str:
        """Return the page in a frame, so that neither it nor the notebook can touch the other."""
        return (
            f'<iframe title="{html.escape(self._data["title"])}" '
            'sandbox="allow-scripts allow-downloads" '
            'width="100%" height="720" style="border: 1px solid #8888; resize: vertical" '
            f'srcdoc="{html.escape(self._html)}"></iframe>'
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures of the page.

        Returns
        -------
        data : dict
            Holds only strings, numbers, booleans, None, lists and dicts, so that ``json.dumps``
            takes it. None stands for an undefined value. "classes" and "dimensions" have an entry
            for each, in order; "factors" has those with the largest effect first. "classes" in a
            factor or a dimension, and "class_order", hold positions of classes. "factors" in a
            class holds the first dimension of each factor.
        """
        return copy.deepcopy(self._data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, in UTF-8.

        A failed write leaves an existing file as it was.

        Parameters
        ----------
        path : str or path-like
            Where to write; by convention it ends in ".html".

        Returns
        -------
        path : Path
            The written file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        with replacing(path) as file:
            file.write(self._html.encode())
        return Path(path)


def factor_report(
    est: Any,
    X: Any,
    y: ArrayLike,
    *,
    class_names: Sequence[Any] | None = None,
    feature_names: Sequence[Any] | None = None,
    image_shape: Sequence[int] | None = None,
    names: Names = None,
    n_refits: int = 0,
    title: str | None = None,
) -> FactorReport:
    """Report what a fitted code says about the classes, on one HTML page.

    The page begins with a summary, a map of classes and factors, three figures with baselines, and
    what to believe. A card for each factor follows. It shows samples with the lowest and the
    highest values, the values by class, the effect of the factor, the loss when its values are
    fixed at their means, and a slider for each of its dimensions. A card for each class shows what
    marks the class, by the code and by the data.

    Figures use all samples of X. Effects, class cards and baselines use at most 2,000 samples,
    equally many of each class. These are drawn at random with a fixed seed: every call draws the
    same.

    Parameters
    ----------
    est : ClassVSCTransformer, VSCTransformer or VAETransformer
        A fitted transformer, a Pipeline that holds one, or a search over one. For a Pipeline, the
        page describes the columns that enter the Pipeline: a one-hot encoded category is one column
        again, and scaled numbers have their units.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples as `est` takes them. Pass held-out samples: figures of training samples are too
        good.
    y : array-like of shape (n_samples,)
        Class labels, of at least two classes with five samples each. The page leaves out samples
        with the label `est.unlabeled`. If samples have several labels, pass one column of the
        indicator.
    class_names : sequence of length n_classes, default=None
        Names of the classes, in the order of ``np.unique(y)``. None takes their labels.
    feature_names : sequence of length n_features, default=None
        Names of the features. None takes the names that `est` was fitted with, or x0, x1 and so
        on; for a Pipeline, the names of its columns.
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Shape of the images to show samples as. None shows samples as named features.
    names : mapping, path or None, default=None
        Your names of the dimensions: a mapping from their indices to names, or the JSON file that
        the page exports.
    n_refits : int, default=0
        How often to fit again, for each of two questions. Refits with other seeds show whether
        other fits find the same factors (:func:`~sklearn_classvsc.factor_stability`). Refits to
        shuffled labels show which contrast arises without classes; they are left out if `est`
        does not use labels. Each refit takes as long as a fit to X.
    title : str, default=None
        Heading of the page. None takes "Factor report".

    Returns
    -------
    report : FactorReport
        The page, with the methods `save` and `to_dict`. Notebooks show it.

    Raises
    ------
    TypeError
        If `est` is not one of the three transformers and does not hold one.
    NotFittedError
        If `est` is not fitted.
    ValueError
        If X, y or another argument is not as described.
    ImportError
        If Jinja2 is missing.

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : Effects of all dimensions on all features.
    sklearn_classvsc.inspection.class_differences : What marks each class.
    sklearn_classvsc.factor_stability : Which dimensions other fits find again.
    sklearn_classvsc.displays : The same pictures, drawn by matplotlib.

    Notes
    -----
    The page is one file. Its content security policy forbids it to load anything.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import ClassVSCTransformer
    >>> from sklearn_classvsc.report import factor_report
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> est = ClassVSCTransformer(n_components=8, max_epochs=300, random_state=0).fit(X, y)
    >>> report = factor_report(est, X, y, class_names=["setosa", "versicolor", "virginica"])
    >>> path = report.save("iris.html")  # doctest: +SKIP
    >>> sorted(report.to_dict()["figures"])[:2]
    ['active_dimensions', 'baseline']
    """
    inputs = check_inputs(est, X, y, class_names, feature_names, image_shape, names, n_refits)
    findings = measure(inputs, "Factor report" if title is None else clean(title))
    return FactorReport(render(findings), findings.data)
