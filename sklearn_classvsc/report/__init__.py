"""The factor report: one page on what a fitted code says about the classes.

`_inputs` checks the arguments, `_effects` and `_measure` compute, `_words` says it in sentences,
`_pictures` draws, and `_page` fills the template: page.html, page.css and page.js.
"""

from __future__ import annotations

import copy
import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

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
            f'<iframe title="{html.escape(self._data["title"])}" sandbox="allow-scripts" '
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
            for each, in order; "classes" within a dimension, and "class_order", hold positions.
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
    title: str | None = None,
) -> FactorReport:
    """Report what a fitted code says about the classes, on one page of HTML.

    What was learned, in words and figures; what the most specific dimension of each class does;
    every dimension in a table that sorts and filters; which class uses which dimension, and what
    classes share; a dimension moved by a slider; what the codes keep; and the training.

    Figures are of all of X. Effects, pictures and the linear classifier are of 2,000 samples at
    most, equally many of each class, drawn at random, the same at every call.

    Parameters
    ----------
    est : ClassVSCTransformer, VSCTransformer or VAETransformer
        Fitted.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Samples, best held out from training: figures of training samples flatter.
    y : array-like of shape (n_samples,)
        Class labels, at least two classes with five samples each. Samples with the label
        `est.unlabeled` are left out. Of several labels, one column of the indicator.
    class_names : sequence of length n_classes, default=None
        What to call the classes, in the order of ``np.unique(y)``. None: their labels.
    feature_names : sequence of length n_features, default=None
        What to call the features. None: the names that `est` was fitted with, or x0, x1 ...
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Show samples as images of this shape. None: as named features.
    title : str, default=None
        Heading of the page. None: "Factor report".

    Returns
    -------
    report : FactorReport
        With `save`, `to_dict`, and a picture in notebooks.

    Raises
    ------
    TypeError
        If `est` is none of the three transformers. In a pipeline, that is its last step: pass it,
        and X as the steps before it transform it.
    NotFittedError
        If `est` is not fitted.
    ValueError
        If another argument is not as described.
    ImportError
        If Jinja2 is missing.

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : All effects of all dimensions.
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
    ['active_dimensions', 'class_consistency']
    """
    inputs = check_inputs(est, X, y, class_names, feature_names, image_shape)
    findings = measure(inputs, "Factor report" if title is None else clean(title))
    return FactorReport(render(findings), findings.data)
