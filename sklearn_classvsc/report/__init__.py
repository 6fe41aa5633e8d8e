"""The factor report: one page on what a fitted code says about the classes.

`_inputs` checks the arguments, `_factors`, `_baselines` and `_measure` compute, `_words` says it in
sentences, `_pictures` draws, and `_page` fills the template: page.html, page.css and page.js.
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
    """A page on what a fitted code says about the classes. Made by `factor_report`.

    Notebooks show it; `save` writes it to a file, and `to_dict` gives its figures.

    Parameters
    ----------
    html : str
        The page.
    data : dict
        What `to_dict` returns.

    See Also
    --------
    factor_report : Makes one.

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
            Strings, numbers, booleans, None, lists and dicts only, so that ``json.dumps`` takes it.
            None stands for what is undefined. Under "classes" and "dimensions" there is an entry
            for each, in order; under "factors" those that do most first. "classes" within a factor
            or a dimension, and "class_order", hold positions; "factors" within a class holds the
            first dimension of each.
        """
        return copy.deepcopy(self._data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, in UTF-8.

        At once: a failed write leaves an older file as it was.

        Parameters
        ----------
        path : str or path-like
            The file; by convention it ends in ".html".

        Returns
        -------
        path : Path
            The file.

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
    """Report what a fitted code says about the classes, on one page of HTML.

    In one sentence, a map of classes and factors, three figures, each beside what it is to be
    compared with, and what of it to believe. Then a card for each factor, which is a switch with
    its dimensions: real samples from the lowest to the highest values, the values by class, what it
    does, what fixing it costs, and a slider. Then a card for each class, with what marks it by the
    code and by the data.

    Figures are of all of X. Effects, class cards and baselines are of 2,000 samples at
    most, equally many of each class, drawn at random, the same at every call.

    Parameters
    ----------
    est : ClassVSCTransformer, VSCTransformer or VAETransformer
        Fitted; or a Pipeline that holds one, or a search over one. The page is then in the columns
        that go into the Pipeline: a category is one column again, and scaled numbers have their
        units.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples as `est` takes them, best held out from training: figures of training samples
        flatter.
    y : array-like of shape (n_samples,)
        Class labels, at least two classes with five samples each. Samples with the label
        `est.unlabeled` are left out. Of several labels, one column of the indicator.
    class_names : sequence of length n_classes, default=None
        What to call the classes, in the order of ``np.unique(y)``. None: their labels.
    feature_names : sequence of length n_features, default=None
        What to call the features. None: the names that `est` was fitted with, or x0, x1 ...; of a
        Pipeline those of its columns.
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Show samples as images of this shape. None: as named features.
    names : mapping, path or None, default=None
        What you call the dimensions: from their numbers to names, or the JSON file that the page
        exports.
    n_refits : int, default=0
        How often to fit again, to say what a figure alone cannot: with other seeds, whether the
        factors come back (:func:`~sklearn_classvsc.factor_stability`), and with shuffled labels,
        which contrast there is without any class. Each takes as long as a fit to X, twice.
    title : str, default=None
        Heading of the page. None: "Factor report".

    Returns
    -------
    report : FactorReport
        With `save`, `to_dict`, and a picture in notebooks.

    Raises
    ------
    TypeError
        If `est` is none of the three transformers, and holds none.
    NotFittedError
        If `est` is not fitted.
    ValueError
        If another argument is not as described.
    ImportError
        If Jinja2 is missing.

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : All effects of all dimensions.
    sklearn_classvsc.inspection.class_differences : What marks the classes.
    sklearn_classvsc.displays : The same pictures for matplotlib.

    Notes
    -----
    The page is one file and loads nothing: its content security policy forbids it.

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
