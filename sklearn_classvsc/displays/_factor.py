"""`FactorDisplay`: samples that show what a dimension stands for."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_scalar

from sklearn_classvsc._comparison import relative_effects
from sklearn_classvsc._factor_names import Names, read_names
from sklearn_classvsc._pipelines import sparse_codes, unroll
from sklearn_classvsc._tables import check_image_shape
from sklearn_classvsc.displays._numbers import number
from sklearn_classvsc.inspection import effects_of_dimension, samples_at_ends, top_features
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics._counts import MatrixLike, split_missing, to_dense

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from typing_extensions import Self

# Bars of a histogram, most histograms, and least share of the values of a class that has one.
_BINS, _CLASSES, _SHARE = 24, 10, 0.02


class FactorDisplay:
    """Samples with the lowest and the highest values of a dimension, and its effect.

    The upper part shows the samples. Images are drawn. Rows of a table show the features that the
    dimension changes most, coloured by their distance from the mean. The lower part shows the
    distribution of the values in each class that activates the dimension, and its mean effect from
    the 10 % to the 90 % quantile of its values.

    Make it with `from_estimator`.

    Parameters
    ----------
    factor : int
        The dimension.
    samples : DataFrame
        Result of :func:`~sklearn_classvsc.inspection.top_samples`.
    originals : ndarray of shape (n_shown, n_features)
        Features of these samples.
    values : ndarray of shape (n_active,)
        Values of the dimension in all samples in which it is active.
    labels : ndarray of shape (n_active,)
        Classes of these samples.
    effect : DataFrame of one row
        Row of :func:`~sklearn_classvsc.inspection.feature_effects`.
    means : ndarray of shape (n_features,)
        Means of the features.
    name : str, default=""
        Name of the dimension.
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Shape of the samples as images. None shows samples as rows of a table.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot. Its parts are in ``ax_.child_axes``: samples, histograms, effect.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    TraversalDisplay : One sample, decoded at several values.
    sklearn_classvsc.inspection.top_samples : The samples as a table.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.displays import FactorDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, alpha=0.9, max_epochs=2, random_state=0).fit(X)
    >>> display = FactorDisplay.from_estimator(
    ...     vsc, X, y, factor=0, image_shape=(8, 8)
    ... )  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        factor: int,
        samples: pd.DataFrame,
        originals: NDArray[Any],
        values: NDArray[Any],
        labels: NDArray[Any],
        effect: pd.DataFrame,
        means: NDArray[np.float64],
        name: str = "",
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.factor = factor
        self.samples = samples
        self.originals = originals
        self.values = values
        self.labels = labels
        self.effect = effect
        self.means = means
        self.name = name
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        est: Any,
        X: MatrixLike,
        y: ArrayLike,
        factor: int,
        *,
        n_samples: int = 5,
        image_shape: Sequence[int] | None = None,
        names: Names = None,
        k: int = 8,
        ax: Axes | None = None,
    ) -> Self:
        """Find the samples at both ends, and plot them.

        Parameters
        ----------
        est : estimator
            Fitted, with `transform` and `inverse_transform`, or a fitted Pipeline.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Class labels, as the estimator reads them. Samples without a label are left out.
        factor : int
            The dimension.
        n_samples : int, default=5
            Number of samples at each end.
        image_shape : tuple of (height, width) or (height, width, 3), default=None
            Shape of the samples as images. None shows samples as rows of a table.
        names : mapping, path or None, default=None
            Your names of the dimensions: a mapping from their indices to names, or the JSON file
            that the page of a report exports.
        k : int, default=8
            Number of features of a table to show.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : FactorDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If the dimension is active in no sample, or an argument is not as described.
        ImportError
            If matplotlib is not installed.
        """
        est, X = unroll(est, X)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        Z = sparse_codes(est, X)
        samples = samples_at_ends(est, Z, y, factor, n_samples)
        table: Any = check_array(X, accept_sparse="csr", ensure_all_finite="allow-nan")
        originals = to_dense(table[samples["sample"].to_numpy()])
        rows, labels = labeled_rows(est, np.arange(Z.shape[0]), y)
        Z, table = Z[rows], table[rows]
        z = Z[:, [factor]].toarray()[:, 0]
        active = z != 0
        display = cls(
            factor=int(factor),
            samples=samples,
            originals=np.asarray(originals, dtype=np.float64),
            values=z[active],
            labels=np.asarray(labels)[active],
            effect=effects_of_dimension(est, table, Z, int(factor)),
            means=_means(table),
            name=read_names(names, Z.shape[1]).get(int(factor), ""),
            image_shape=image_shape,
        )
        return display.plot(ax=ax, k=k)

    def plot(self, ax: Axes | None = None, *, k: int = 8) -> Self:
        """Plot the samples, the values and the effect.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.
        k : int, default=8
            Number of features of a table to show.

        Returns
        -------
        self : FactorDisplay
            The display, with its attributes set.

        Raises
        ------
        ValueError
            If `k` is below 1, or `image_shape` does not fit the features.
        ImportError
            If matplotlib is not installed.
        """
        from sklearn_classvsc.displays import _plot

        check_scalar(k, "k", Integral, min_val=1)
        check_image_shape(self.image_shape, self.effect.shape[1])
        n = len(self.samples)
        shares = pd.Series(self.labels).value_counts(normalize=True)
        classes = list(shares.index[shares >= _SHARE][:_CLASSES])
        height = 1.2 + max(1.0, 0.2 * len(classes))
        rows = 1.0 if self.image_shape else 0.26 * n + 0.9
        self.ax_ = ax = _plot.new_axes(ax, max(6.4, 0.75 * n), height + rows + 0.5)
        self.figure_ = ax.figure
        title = f"dimension {self.factor}" + (f": {_plot.literal(self.name)}" if self.name else "")
        ax.set_title(title)
        ax.set_axis_off()
        part = rows / (height + rows)
        above = ax.inset_axes((0.0, 1 - 0.9 * part, 1.0, 0.9 * part))
        below = 0.72 * (1 - part)
        left = ax.inset_axes((0.14, 0.1, 0.32, below))
        right = ax.inset_axes((0.74, 0.1, 0.26, below))
        if self.image_shape is None:
            self._plot_rows(above, k)
        else:
            self._plot_images(above, self.image_shape)
        self._plot_values(left, sorted(classes, key=str))
        self._plot_effect(right, k)
        return self

    def frame(self) -> pd.DataFrame:
        """Return the samples that are plotted.

        Returns
        -------
        frame : DataFrame
            Columns `end` ("lowest" or "highest"), `sample` (the row in X), `class` and `value`,
            from the lowest value to the highest.
        """
        return self.samples.copy()

    def _plot_images(self, ax: Axes, image_shape: Sequence[int]) -> None:
        from sklearn_classvsc.displays import _plot

        pixels = _plot.as_pixels(self.originals, image_shape)
        _, _, centres = _plot.mosaic(ax, pixels[None])
        ax.set_yticks([])
        labels = [
            f"{_plot.literal(label, 12)}\n{number(value, 2)}"
            for label, value in zip(self.samples["class"], self.samples["value"], strict=True)
        ]
        ax.set_xticks(centres, labels, fontsize=7)
        ax.tick_params(length=0)
        above = ax.get_xaxis_transform()
        for end, at in self._ends():
            text = f"{end} value{'s' * (len(at) > 1)}"
            middle, half = centres[at].mean(), 0.46 * image_shape[1]
            ax.text(middle, 1.1, text, transform=above, ha="center", va="bottom", fontsize=8)
            span = [centres[at[0]] - half, centres[at[-1]] + half]
            ax.plot(span, [1.06] * 2, "0.4", transform=above, clip_on=False, scalex=False)

    def _plot_rows(self, ax: Axes, k: int) -> None:
        from sklearn_classvsc.displays import _plot

        top = self._columns(k)
        scale = np.array([self.effect.attrs["scale"][self.effect.columns[i]] for i in top])
        shown = self.originals[:, top].astype(np.float64)
        z = np.nan_to_num((shown - self.means[top]) / scale)
        ax.imshow(z, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="none")
        for (row, column), value in np.ndenumerate(shown):
            colour = "white" if abs(z[row, column]) > 1.8 else "black"
            text = "" if np.isnan(value) else number(value)
            ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        names = [_plot.literal(self.effect.columns[i], 22) for i in top]
        ax.xaxis.tick_top()
        ax.set_xticks(range(len(top)), names, rotation=30, ha="left", fontsize=7)
        labels = [
            f"{_plot.literal(label, 14)} {number(value, 2)}"
            for label, value in zip(self.samples["class"], self.samples["value"], strict=True)
        ]
        ax.set_yticks(range(len(labels)), labels, fontsize=7)
        ax.tick_params(length=0)
        ax.axhline(self._n_low - 0.5, color="black", linewidth=1)
        ax.xaxis.set_label_position("bottom")
        ax.set_xlabel("colour: standard deviations from the mean, −2.5 to 2.5", fontsize=7)
        right = ax.get_yaxis_transform()
        for end, at in self._ends():
            ax.text(
                *(1.01, at.mean(), end),
                transform=right,
                rotation=270,
                ha="left",
                va="center",
                fontsize=7,
            )

    @property
    def _n_low(self) -> int:
        return int((self.samples["end"] == "lowest").sum())

    def _ends(self) -> list[tuple[str, NDArray[np.intp]]]:
        """Return the name of each end, and the positions of its samples."""
        at = np.arange(len(self.samples))
        ends = [("lowest", at[: self._n_low]), ("highest", at[self._n_low :])]
        return [(end, places) for end, places in ends if len(places)]

    def _plot_values(self, ax: Axes, classes: list[Any]) -> None:
        from sklearn_classvsc.displays import _plot

        low, high = np.quantile(self.values.astype(np.float64), [0.01, 0.99])
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
        for row, label in enumerate(classes):
            values = self.values[self.labels == label].clip(edges[0], edges[-1])
            heights = np.histogram(values, edges)[0].astype(float)
            heights *= 0.9 / max(heights.max(), 1)
            ax.bar(
                edges[:-1],
                -heights,
                np.diff(edges),
                bottom=row + 0.5,
                align="edge",
                color=_plot.BLUE,
            )
        ax.set_ylim(len(classes) - 0.5, -0.5)
        names = [f"{_plot.literal(c, 16)} ({(self.labels == c).sum():,})" for c in classes]
        ax.set_yticks(range(len(classes)), names, fontsize=7)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=7)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel("value, by class (samples)", fontsize=8)

    def _plot_effect(self, ax: Axes, k: int) -> None:
        from sklearn_classvsc.displays import _plot

        if self.image_shape is not None:
            change = self.effect.to_numpy()[0].reshape(*self.image_shape[:2], -1).mean(axis=2)
            limit = np.abs(change).max() or 1
            ax.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="none")
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel("change, low to high\n(red: brighter, blue: darker)", fontsize=8)
            return
        top = self._columns(k)
        relative, measure = relative_effects(self.effect)
        colours = [_plot.VERMILION if relative[0, i] > 0 else _plot.BLUE for i in top]
        ax.barh(range(len(top)), relative[0, top], color=colours)
        names = [_plot.literal(self.effect.columns[i], 22) for i in top]
        ax.set_yticks(range(len(top)), names, fontsize=7)
        ax.set_ylim(len(top) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.tick_params(axis="x", labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(f"change, low to high ({measure})", fontsize=8)

    def _columns(self, k: int) -> list[int]:
        """Return the features that change most."""
        names = top_features(self.effect, k)["feature"]
        position = {name: i for i, name in enumerate(self.effect.columns)}
        return [position[name] for name in names]


def _means(data: Any) -> NDArray[np.float64]:
    """Return the mean of each feature, without missing values."""
    missing, known = split_missing(data)
    n_known = data.shape[0] - missing.sum(axis=0)
    means: NDArray[np.float64] = known.sum(axis=0) / np.maximum(n_known, 1)
    return means
