"""`SharingDisplay`: how many active dimensions two classes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import diags_array
from scipy.spatial.distance import squareform

from sklearn_classvsc._pipelines import unroll
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics import class_sharing_matrix, dimension_roles
from sklearn_classvsc.metrics._counts import MatrixLike, check_matrix, class_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from typing_extensions import Self

# Cells wider than this, in points, show their values.
_READABLE = 20


class SharingDisplay:
    """Map of the share of their active dimensions that any two classes have in common.

    The diagonal shows the consistency of each class, and the other cells the overlap of two
    classes. Both are in [0, 1]; see :func:`~sklearn_classvsc.metrics.class_sharing_matrix`. Similar
    classes are neighbours.

    Make it with `from_estimator`, or with `from_codes` from the codes of any encoder.

    Parameters
    ----------
    sharing : ndarray of shape (n_classes, n_classes)
        The symmetric matrix.
    classes : ndarray of shape (n_classes,)
        Class labels.
    include_global : bool, default=True
        Whether the matrix counts global dimensions.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The map.
    order_ : ndarray of shape (n_classes,)
        Positions of the classes, from top to bottom.

    See Also
    --------
    ActivationDisplay : Which dimensions each class activates.
    sklearn_classvsc.metrics.class_sharing_matrix : The matrix.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import NMF
    >>> from sklearn_classvsc.displays import SharingDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> codes = NMF(10, max_iter=1000).fit_transform(X)
    >>> display = SharingDisplay.from_codes(codes, y)  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure | SubFigure
    im_: AxesImage
    order_: NDArray[np.intp]

    def __init__(
        self, *, sharing: NDArray[np.float64], classes: NDArray[Any], include_global: bool = True
    ) -> None:
        self.sharing = sharing
        self.classes = classes
        self.include_global = include_global

    @classmethod
    def from_estimator(
        cls,
        est: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        include_global: bool = False,
        order: Literal["similarity", "label"] = "similarity",
        ax: Axes | None = None,
    ) -> Self:
        """Encode samples, and plot how many active dimensions their classes share.

        Parameters
        ----------
        est : estimator
            Fitted, with `transform`, or a fitted Pipeline.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, or an indicator of several labels, as the estimator reads them. Samples
            without a label are left out.
        include_global : bool, default=False
            Whether to count global dimensions too. By default they are left out, since all classes
            share them (see :func:`~sklearn_classvsc.metrics.dimension_roles`), as in
            :func:`~sklearn_classvsc.metrics.class_contrast_score`.
        order : {"similarity", "label"}, default="similarity"
            Order of the classes; see `plot`.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : SharingDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If `y` does not fit the samples, if `order` is unknown, or, unless `include_global`, if
            fewer than two classes have five samples.
        ImportError
            If matplotlib is not installed.
        """
        est, X = unroll(est, X)
        codes, labels = labeled_rows(est, est.transform(X), y)
        return cls.from_codes(codes, labels, include_global=include_global, order=order, ax=ax)

    @classmethod
    def from_codes(
        cls,
        Z: MatrixLike,
        y: ArrayLike,
        *,
        include_global: bool = False,
        order: Literal["similarity", "label"] = "similarity",
        ax: Axes | None = None,
    ) -> Self:
        """Plot how many active dimensions the classes of given codes share.

        Parameters
        ----------
        Z : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
            Codes of any encoder, in which non-zero means active.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, or an indicator of several labels.
        include_global : bool, default=False
            Whether to count global dimensions too. By default they are left out, since all classes
            share them (see :func:`~sklearn_classvsc.metrics.dimension_roles`), as in
            :func:`~sklearn_classvsc.metrics.class_contrast_score`.
        order : {"similarity", "label"}, default="similarity"
            Order of the classes; see `plot`.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : SharingDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If `y` does not fit the samples, if `order` is unknown, or, unless `include_global`, if
            fewer than two classes have five samples.
        ImportError
            If matplotlib is not installed.
        """
        codes = check_matrix(Z, "Z")
        if not include_global:
            kept = (dimension_roles(codes, y)["role"] != "global").to_numpy(dtype=float)
            codes = codes @ diags_array(kept)
        display = cls(
            sharing=class_sharing_matrix(codes, y),
            classes=class_counts(codes, y).classes,
            include_global=include_global,
        )
        return display.plot(order=order, ax=ax)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        order: Literal["similarity", "label"] = "similarity",
    ) -> Self:
        """Plot the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure that has room for the labels.
        order : {"similarity", "label"}, default="similarity"
            "similarity" orders the classes by average linkage, so that neighbours share much.
            "label" sorts them by label.

        Returns
        -------
        self : SharingDisplay
            The display, with its attributes set.

        Raises
        ------
        ValueError
            If `order` is neither "similarity" nor "label".
        ImportError
            If matplotlib is not installed.
        """
        from sklearn_classvsc.displays import _plot

        if order not in ("similarity", "label"):
            raise ValueError(f"order is {order!r}, but must be 'similarity' or 'label'.")
        n = len(self.classes)
        self.order_ = similarity_order(self.sharing) if order == "similarity" else np.arange(n)
        names = [_plot.literal(name) for name in self.classes[self.order_]]
        side = max(_plot.extent(n), 0.34 * min(n, 12), 1) + _plot.text_extent(names) + 0.3
        self.ax_ = ax = _plot.new_axes(ax, side + 1, side)
        self.figure_ = ax.figure
        matrix = self.sharing[np.ix_(self.order_, self.order_)]
        self.im_ = ax.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="none")
        colorbar = self.figure_.colorbar(self.im_, ax=ax, fraction=0.046, pad=0.03)
        which = "active" if self.include_global else "non-global"
        colorbar.set_label(f"overlap of\n{which} dimensions", fontsize=8)
        _plot.label_axis(ax.yaxis, names)
        _plot.label_axis(ax.xaxis, names)
        _plot.lay_out(ax)
        if _plot.pitch(ax.xaxis) > _READABLE:
            for (i, j), value in np.ndenumerate(matrix):
                colour = _plot.text_colour(self.im_.cmap(value))
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
        return self

    def frame(self) -> pd.DataFrame:
        """Return the plotted data.

        Returns
        -------
        frame : DataFrame of n_classes ** 2 rows
            Columns `class`, `other` and `sharing`. `sharing` of a class with itself is its
            consistency.
        """
        n = len(self.classes)
        return pd.DataFrame(
            {
                "class": np.repeat(self.classes, n),
                "other": np.tile(self.classes, n),
                "sharing": self.sharing.ravel(),
            }
        )


def similarity_order(sharing: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the order, among those of average linkage, in which neighbours share most."""
    if len(sharing) < 3:
        return np.arange(len(sharing))
    distance = squareform(1 - sharing, checks=False)  # ignores the diagonal
    return leaves_list(linkage(distance, method="average", optimal_ordering=True)).astype(np.intp)
