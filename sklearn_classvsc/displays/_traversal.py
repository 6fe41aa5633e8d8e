"""What one dimension does to a sample."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_scalar

from sklearn_classvsc._pipelines import feature_names, unroll
from sklearn_classvsc._tables import check_image_shape
from sklearn_classvsc.inspection import Traversal, traverse
from sklearn_classvsc.metrics._counts import MatrixLike, to_dense

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from typing_extensions import Self

# Movements of less than this many standard deviations are not coloured as if they were large.
_SMALL_MOVE = 0.5


class TraversalDisplay:
    """A real sample, decoded while one of its active dimensions runs through its usual values.

    Images: the sample itself, one decoded image for each value, and the last less the first (red
    where the dimension makes the image brighter, blue where darker). Tables: the features that
    move most, their decoded values written in X's units, coloured by how far they have moved.

    Use `from_estimator`.

    Parameters
    ----------
    traversal : Traversal
        From :func:`~sklearn_classvsc.inspection.traverse`.
    original : ndarray of shape (n_features,)
        The sample that the sweep starts from.
    feature_names : list of str
        Names of the features.
    scale : ndarray of shape (n_features,)
        Standard deviations of the features, by which their movements are compared.
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Shape of a sample that is an image; None means a table.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was plotted.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    im_ : matplotlib AxesImage
        The images, or the coloured table.

    See Also
    --------
    sklearn_classvsc.inspection.feature_effects : The same in figures, averaged over samples.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.displays import TraversalDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, alpha=0.9, max_epochs=2, random_state=0).fit(X)
    >>> display = TraversalDisplay.from_estimator(
    ...     vsc, X, y, dimension=0, label=3, image_shape=(8, 8)
    ... )  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure | SubFigure
    im_: AxesImage

    def __init__(
        self,
        *,
        traversal: Traversal,
        original: NDArray[Any],
        feature_names: list[str],
        scale: NDArray[np.float64],
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.traversal = traversal
        self.original = original
        self.feature_names = feature_names
        self.scale = scale
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        est: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        dimension: int,
        label: Any = None,
        n_steps: int = 7,
        quantiles: tuple[float, float] = (0.05, 0.95),
        image_shape: Sequence[int] | None = None,
        k: int = 8,
        ax: Axes | None = None,
    ) -> Self:
        """Sweep a dimension, and plot what is decoded.

        Parameters
        ----------
        est : estimator
            Fitted, with `transform` and `inverse_transform`.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), default=None
            Class labels, as the estimator reads them. Needed with `label` alone.
        dimension : int
            The dimension to sweep.
        label : object, default=None
            The class to stay within. None: all samples.
        n_steps : int, default=7
            Number of values, at least two.
        quantiles : tuple of (lowest, highest), default=(0.05, 0.95)
            Where the sweep starts and ends among the dimension's non-zero values.
        image_shape : tuple of (height, width) or (height, width, 3), default=None
            Shape of a sample that is an image; None means a table.
        k : int, default=8
            Number of features of a table to show.
        ax : matplotlib Axes, default=None
            Where to plot; None makes a figure.

        Returns
        -------
        display : TraversalDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If no sample of the class has the dimension active, or an argument is not as described.
        """
        est, X = unroll(est, X)
        traversal = traverse(
            est, X, y, dimension=dimension, label=label, n_steps=n_steps, quantiles=quantiles
        )
        data = check_array(X, accept_sparse="csr")
        display = cls(
            traversal=traversal,
            original=to_dense(data[[traversal.sample]])[0],
            feature_names=feature_names(est, data.shape[1]),
            scale=StandardScaler(with_mean=False).fit(data).scale_,
            image_shape=image_shape,
        )
        return display.plot(ax=ax, k=k)

    def plot(self, ax: Axes | None = None, *, k: int = 8) -> Self:
        """Plot the sweep.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to plot; None makes a figure.
        k : int, default=8
            Number of features of a table to show.

        Returns
        -------
        self : TraversalDisplay
            The display, with its attributes set.

        Raises
        ------
        ValueError
            If `k` is below 1, or `image_shape` does not fit the features.
        """
        from sklearn_classvsc.displays import _plot

        check_scalar(k, "k", Integral, min_val=1)
        check_image_shape(self.image_shape, len(self.feature_names))
        t = self.traversal
        if self.image_shape is None:
            self._plot_table(ax, k)
        else:
            self._plot_images(ax, self.image_shape)
        self.ax_.xaxis.tick_top()
        self.ax_.xaxis.set_label_position("top")
        where = "" if t.label is None else f" in {_plot.literal(t.label, 20)}"
        low, high = t.quantiles[[0, -1]]
        self.ax_.set_xlabel(f"dimension {t.dimension}{where}: {low:.0%} to {high:.0%} quantile")
        return self

    def frame(self) -> pd.DataFrame:
        """Return the sweep.

        Returns
        -------
        frame : DataFrame of n_steps * n_features rows
            Columns `step`, `quantile` and `value` of the dimension, `feature` and `decoded`, the
            feature's value in X's units.
        """
        t = self.traversal
        n_steps, n_features = t.X_hat.shape
        return pd.DataFrame(
            {
                "step": np.repeat(np.arange(n_steps), n_features),
                "quantile": np.repeat(t.quantiles, n_features),
                "value": np.repeat(t.values, n_features),
                "feature": np.tile(self.feature_names, n_steps),
                "decoded": t.X_hat.ravel(),
            }
        )

    def _plot_images(self, ax: Axes | None, image_shape: Sequence[int]) -> None:
        from matplotlib import colormaps

        from sklearn_classvsc.displays import _plot

        t = self.traversal
        change = (t.X_hat[-1] - t.X_hat[0]).reshape(*image_shape[:2], -1).mean(axis=2)
        change = colormaps["RdBu_r"](0.5 + 0.5 * change / (np.abs(change).max() or 1))[..., :3]
        pixels = _plot.as_pixels([self.original, *t.X_hat], image_shape)
        panels = np.concatenate([pixels, change[None]])[None]
        n_panels, aspect = panels.shape[1], image_shape[0] / image_shape[1]
        self.ax_ = ax = _plot.new_axes(ax, 0.9 * n_panels, 0.85 * aspect + 0.5)
        self.figure_ = ax.figure
        self.im_, _, centres = _plot.mosaic(ax, panels)
        ax.set_yticks([])
        values = [f"{value:.2g}" for value in t.values]
        _plot.label_axis(ax.xaxis, ["sample", *values, "change"], centres)

    def _plot_table(self, ax: Axes | None, k: int) -> None:
        from sklearn_classvsc.displays import _plot

        t = self.traversal
        moved = (t.X_hat - t.X_hat[0]) / self.scale
        top = np.argsort(-np.ptp(moved, axis=0), kind="stable")[:k]
        self.ax_ = ax = _plot.new_axes(ax, 0.65 * len(t.values) + 3.2, 0.3 * len(top) + 1.2)
        self.figure_ = ax.figure
        limit = max(float(np.abs(moved[:, top]).max()), _SMALL_MOVE)
        self.im_ = ax.imshow(
            moved[:, top].T,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            interpolation="none",
        )
        colorbar = self.figure_.colorbar(self.im_, ax=ax, fraction=0.05, pad=0.02)
        colorbar.set_label("moved, in standard deviations")
        _plot.label_axis(ax.yaxis, [_plot.literal(self.feature_names[i]) for i in top])
        _plot.label_axis(ax.xaxis, [f"{value:.2g}" for value in t.values])
        _plot.lay_out(ax)
        size = min(8.0, _plot.pitch(ax.xaxis) / 5, 0.7 * _plot.pitch(ax.yaxis))
        for (row, step), value in np.ndenumerate(t.X_hat[:, top].T):
            colour = _plot.text_colour(self.im_.cmap(self.im_.norm(moved[step, top[row]])))
            ax.text(
                step, row, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=size
            )
