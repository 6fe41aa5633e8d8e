"""`ActivationDisplay`: which dimensions each class activates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_classvsc._factor_names import Names, read_names
from sklearn_classvsc._pipelines import unroll
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics import ROLES, dimension_roles
from sklearn_classvsc.metrics._counts import MatrixLike, class_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from typing_extensions import Self


class ActivationDisplay:
    """Map of how often each class activates each dimension.

    Columns are dimensions, grouped by role (global, shared, class-specific, sporadic, dead) and,
    within a role, by the classes that activate them. A strip above the map shows the roles.

    Make it with `from_estimator`, or with `from_codes` from the codes of any encoder.

    Parameters
    ----------
    activity : ndarray of shape (n_classes, n_dimensions)
        Fraction of the samples of a class in which a dimension is active.
    classes : ndarray of shape (n_classes,)
        Class labels.
    roles : DataFrame of n_dimensions rows
        From :func:`~sklearn_classvsc.metrics.dimension_roles`.
    names : mapping, default=None
        Names of dimensions, by index.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The map.
    order_ : ndarray of shape (n_dimensions,)
        Indices of the dimensions, from left to right.

    See Also
    --------
    SharingDisplay : How many active dimensions two classes share.
    sklearn_classvsc.metrics.dimension_roles : The role of each dimension.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import NMF
    >>> from sklearn_classvsc.displays import ActivationDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> codes = NMF(10, max_iter=1000).fit_transform(X)
    >>> display = ActivationDisplay.from_codes(codes, y)  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure | SubFigure
    im_: AxesImage
    order_: NDArray[np.intp]

    def __init__(
        self,
        *,
        activity: NDArray[Any],
        classes: NDArray[Any],
        roles: pd.DataFrame,
        names: Mapping[int, str] | None = None,
    ) -> None:
        self.activity = activity
        self.classes = classes
        self.roles = roles
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        est: Any,
        X: MatrixLike,
        y: ArrayLike,
        *,
        names: Names = None,
        ax: Axes | None = None,
    ) -> Self:
        """Encode samples, and plot which dimensions their classes activate.

        Parameters
        ----------
        est : estimator
            Fitted, with `transform`, or a fitted Pipeline.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, or an indicator of several labels, as the estimator reads them. At least
            two classes need five samples each. Samples without a label are left out.
        names : mapping, path or None, default=None
            Your names of the dimensions: a mapping from their indices to names, or the JSON file
            that the page of a report exports.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : ActivationDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If `y` does not fit the samples, if fewer than two classes have five samples, or if
            `names` names a dimension that does not exist.
        ImportError
            If matplotlib is not installed.
        """
        est, X = unroll(est, X)
        return cls.from_codes(*labeled_rows(est, est.transform(X), y), names=names, ax=ax)

    @classmethod
    def from_codes(
        cls, Z: MatrixLike, y: ArrayLike, *, names: Names = None, ax: Axes | None = None
    ) -> Self:
        """Plot which dimensions of given codes the classes activate.

        Parameters
        ----------
        Z : {array-like, sparse matrix} of shape (n_samples, n_dimensions)
            Codes of any encoder, in which non-zero means active.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, or an indicator of several labels. At least two classes need five samples
            each.
        names : mapping, path or None, default=None
            Your names of the dimensions: a mapping from their indices to names, or the JSON file
            that the page of a report exports.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : ActivationDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If `y` does not fit the samples, if fewer than two classes have five samples, or if
            `names` names a dimension that does not exist.
        ImportError
            If matplotlib is not installed.
        """
        counts = class_counts(Z, y)
        display = cls(
            activity=counts.rates,
            classes=counts.classes,
            roles=dimension_roles(Z, y),
            names=read_names(names, counts.rates.shape[1]),
        )
        return display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Plot the map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure that has room for the labels.

        Returns
        -------
        self : ActivationDisplay
            The display, with its attributes set.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from sklearn_classvsc.displays import _plot

        n_classes, d = self.activity.shape
        names = [_plot.literal(name) for name in self.classes]
        width = max(_plot.extent(d), 4) + _plot.text_extent(names) + 1.6
        self.ax_ = ax = _plot.new_axes(ax, width, max(_plot.extent(n_classes), 1.4) + 1.6)
        self.figure_ = ax.figure
        self.order_ = self._order()
        self.im_ = ax.imshow(
            self.activity[:, self.order_],
            cmap="cividis",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="none",
        )
        colorbar = self.figure_.colorbar(self.im_, ax=ax, fraction=0.04, pad=0.02)
        colorbar.set_label("fraction of samples in which it is active")
        ax.set(xlabel="dimension", ylabel="class")
        _plot.label_axis(ax.yaxis, names)
        called = self.names or {}
        labels = [
            f"{j}: {_plot.literal(called[j])}" if j in called else str(j) for j in self.order_
        ]
        _plot.label_axis(ax.xaxis, labels)
        self._mark_roles()
        return self

    def frame(self) -> pd.DataFrame:
        """Return the plotted data.

        Returns
        -------
        frame : DataFrame of n_classes * n_dimensions rows
            Columns `class`, `dimension`, `role` and `activity`, the fraction of the samples of the
            class in which the dimension is active.
        """
        n_classes, d = self.activity.shape
        return pd.DataFrame(
            {
                "class": np.repeat(self.classes, d),
                "dimension": np.tile(self.roles["dimension"], n_classes),
                "role": pd.concat([self.roles["role"]] * n_classes, ignore_index=True),
                "activity": self.activity.ravel(),
            }
        )

    def _mark_roles(self) -> None:
        """Draw a strip above the map with a colour for each role, and a legend."""
        from matplotlib.patches import Rectangle

        from sklearn_classvsc.displays._plot import BLUE, GREEN, GREY, ORANGE, SKY

        ax = self.ax_
        box = ax.get_window_extent()
        unit = (
            0.1 * ax.figure.dpi / box.height
        )  # a tenth of an inch, relative to the height of the axes
        role = self.roles["role"].to_numpy()[self.order_]
        for name, colour in zip(ROLES, [BLUE, SKY, ORANGE, GREEN, GREY], strict=True):
            columns = np.flatnonzero(role == name)
            if columns.size:
                strip = Rectangle(
                    (columns[0] - 0.5, 1 + 0.3 * unit),
                    columns.size,
                    unit,
                    transform=ax.get_xaxis_transform(),
                    color=colour,
                    clip_on=False,
                    linewidth=0,
                    label=f"{name} ({columns.size})",
                )
                ax.add_patch(strip)
                ax.axvline(columns[-1] + 0.5, color="white", linewidth=1)
        ax.set(xlim=(-0.5, len(role) - 0.5))
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1, 1 + 1.3 * unit),
            ncols=max(1, min(5, int(box.width / ax.figure.dpi))),  # each takes about an inch
            frameon=False,
            borderpad=0,
            fontsize=8,
            handlelength=1,
            columnspacing=1.2,
        )

    def _order(self) -> NDArray[np.intp]:
        """Return dimensions by role, then by their classes, then the most active first."""
        position = {label: i for i, label in enumerate(self.classes.tolist())}

        def key(j: int) -> tuple[Any, ...]:
            role, classes = self.roles["role"].iloc[j], self.roles["classes"].iloc[j]
            having = [position[label] for label in classes] or [int(self.activity[:, j].argmax())]
            return ROLES.index(role), having, -self.activity[:, j].sum()

        return np.array(sorted(range(self.activity.shape[1]), key=key), dtype=np.intp)
