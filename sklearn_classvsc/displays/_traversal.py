"""`TraversalDisplay`: how one dimension changes a sample."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_scalar

from sklearn_classvsc._factor_names import Names, read_names
from sklearn_classvsc._messages import brief
from sklearn_classvsc._pipelines import feature_names, unroll
from sklearn_classvsc._tables import check_image_shape
from sklearn_classvsc.displays._numbers import number
from sklearn_classvsc.inspection import Traversal, traverse, traverse_classes
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics._counts import MatrixLike, to_dense

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage
    from typing_extensions import Self

# Least limit of the colour scale, in standard deviations: small changes stay pale.
_SMALL_MOVE = 0.5


class TraversalDisplay:
    """Sample decoded while one of its active dimensions runs through its usual values.

    For images, it shows the sample, a decoded image for each value, and the last image minus the
    first (red where it is brighter, blue where it is darker). For tables, it shows the features
    that change most, with decoded values in the units of X, coloured by their change.

    With `by_class`, it shows one sample of each class that activates the dimension, all at the same
    values. For tables, it shows the features of each class that change most.

    Make it with `from_estimator`.

    Parameters
    ----------
    traversal : Traversal or list of Traversal
        Result of :func:`~sklearn_classvsc.inspection.traverse`, or a list with one for each class.
    original : ndarray of shape (n_features,) or (n_classes, n_features)
        The sample before the sweep, or one for each class.
    feature_names : list of str
        Names of the features.
    scale : ndarray of shape (n_features,)
        Standard deviations of the features, the unit of their changes.
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Shape of the samples as images. None shows samples as rows of a table.
    name : str, default=""
        Name of the dimension.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The images, or the coloured table.

    See Also
    --------
    sklearn_classvsc.inspection.traverse : The sweep as arrays.
    sklearn_classvsc.inspection.feature_effects : Effects as a table, averaged over samples.

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
        traversal: Traversal | list[Traversal],
        original: NDArray[Any],
        feature_names: list[str],
        scale: NDArray[np.float64],
        image_shape: Sequence[int] | None = None,
        name: str = "",
    ) -> None:
        self.traversal = traversal
        self.original = original
        self.feature_names = feature_names
        self.scale = scale
        self.image_shape = image_shape
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        est: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        dimension: int,
        label: Any = None,
        by_class: bool = False,
        n_steps: int = 7,
        quantiles: tuple[float, float] = (0.05, 0.95),
        image_shape: Sequence[int] | None = None,
        names: Names = None,
        k: int = 8,
        ax: Axes | None = None,
    ) -> Self:
        """Sweep a dimension, and plot the decoded samples.

        Parameters
        ----------
        est : estimator
            Fitted, with `transform` and `inverse_transform`, or a fitted Pipeline.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), default=None
            Class labels, as the estimator reads them. Needed with `label` and `by_class`.
        dimension : int
            The dimension to sweep.
        label : object, default=None
            A class in `y`: only its samples are used. None uses all samples.
        by_class : bool, default=False
            Whether to sweep the dimension in each class that activates it. The values are quantiles
            over all samples, the same for each class.
        n_steps : int, default=7
            Number of values, at least two.
        quantiles : tuple of (lowest, highest), default=(0.05, 0.95)
            Quantiles of the non-zero values of the dimension at the start and end of the sweep.
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
        display : TraversalDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If the dimension is active in no sample of the class, or an argument is not as
            described.
        ImportError
            If matplotlib is not installed.
        """
        est, X = unroll(est, X)
        if by_class:
            if label is not None:
                raise ValueError(
                    f"label is {brief(label)}, but by_class sweeps all classes: pass one of them."
                )
            if y is None:
                raise ValueError(
                    "y is None, but by_class needs classes: pass the labels of X as y."
                )
            X, y = labeled_rows(est, X, y)
            found = traverse_classes(est, X, y, dimension, n_steps, quantiles)
        else:
            found = [
                traverse(
                    est,
                    X,
                    y,
                    dimension=dimension,
                    label=label,
                    n_steps=n_steps,
                    quantiles=quantiles,
                )
            ]
        data = check_array(X, accept_sparse="csr", ensure_all_finite="allow-nan")
        given = read_names(names, found[0].codes.shape[1])
        samples = [each.sample for each in found]
        originals = to_dense(data[samples])
        display = cls(
            traversal=found if by_class else found[0],
            original=originals if by_class else originals[0],
            feature_names=feature_names(est, data.shape[1]),
            scale=StandardScaler(with_mean=False).fit(data).scale_,
            image_shape=image_shape,
            name=given.get(int(dimension), ""),
        )
        return display.plot(ax=ax, k=k)

    def plot(self, ax: Axes | None = None, *, k: int = 8) -> Self:
        """Plot the sweep.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.
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
        ImportError
            If matplotlib is not installed.
        """
        from sklearn_classvsc.displays import _plot

        check_scalar(k, "k", Integral, min_val=1)
        check_image_shape(self.image_shape, len(self.feature_names))
        t = self._all[0]
        if isinstance(self.traversal, list):
            self._plot_classes(ax, k)
        elif self.image_shape is None:
            self._plot_table(ax, k)
        else:
            self._plot_images(ax, self.image_shape)
        self.ax_.xaxis.tick_top()
        self.ax_.xaxis.set_label_position("top")
        alone = t.label is not None and not isinstance(self.traversal, list)
        where = f" in {_plot.literal(t.label, 20)}" if alone else ""
        what = f" ({_plot.literal(self.name)})" if self.name else ""
        low, high = 100 * t.quantiles[[0, -1]]
        title = f"dimension {t.dimension}{what}{where}: {low:.0f} % to {high:.0f} % quantile"
        if self.image_shape is not None and not isinstance(self.traversal, list):
            title += "; change: red brighter, blue darker"
        self.ax_.set_xlabel(title)
        return self

    def frame(self) -> pd.DataFrame:
        """Return the sweep.

        Returns
        -------
        frame : DataFrame of n_steps * n_features rows
            Columns `step`, `quantile` and `value` of the dimension, `feature`, and `decoded`, the
            value of the feature in the units of X. With several classes, `class` comes first.
        """
        frames = []
        for t in self._all:
            n_steps, n_features = t.X_hat.shape
            columns = {
                "step": np.repeat(np.arange(n_steps), n_features),
                "quantile": np.repeat(t.quantiles, n_features),
                "value": np.repeat(t.values, n_features),
                "feature": np.tile(self.feature_names, n_steps),
                "decoded": t.X_hat.ravel(),
            }
            frames.append(pd.DataFrame(columns))
            if isinstance(self.traversal, list):
                frames[-1].insert(0, "class", t.label)
        return pd.concat(frames, ignore_index=True)

    @property
    def _all(self) -> list[Traversal]:
        return self.traversal if isinstance(self.traversal, list) else [self.traversal]

    def _plot_classes(self, ax: Axes | None, k: int) -> None:
        """Plot a row for each class, or for each of its features that change most."""
        from sklearn_classvsc.displays import _plot

        names = [_plot.literal(t.label, 20) for t in self._all]
        values = [number(value, 2) for value in self._all[0].values]
        if self.image_shape is not None:
            images = [
                [x, *t.X_hat] for x, t in zip(np.atleast_2d(self.original), self._all, strict=True)
            ]
            n_rows, n_columns = len(images), len(images[0])
            pixels = _plot.as_pixels(np.concatenate(images), self.image_shape)
            aspect = self.image_shape[0] / self.image_shape[1]
            width = 0.9 * n_columns + _plot.text_extent(names)
            self.ax_ = ax = _plot.new_axes(ax, width, 0.85 * aspect * n_rows + 0.6)
            self.figure_ = ax.figure
            panels = pixels.reshape(n_rows, n_columns, *pixels.shape[1:])
            self.im_, rows, columns = _plot.mosaic(ax, panels)
            _plot.label_axis(ax.yaxis, names, rows)
            _plot.label_axis(ax.xaxis, ["sample", *values], columns)
            return
        rows_of, labels, moves = [], [], []
        for name, t in zip(names, self._all, strict=True):
            moved = (t.X_hat - t.X_hat[0]) / self.scale
            for i in np.argsort(-np.ptp(moved, axis=0), kind="stable")[: max(1, k // 2)]:
                rows_of.append(t.X_hat[:, i])
                moves.append(moved[:, i])
                labels.append(f"{name}: {_plot.literal(self.feature_names[i])}")
        self._plot_moves(ax, np.array(rows_of), np.array(moves), labels, values)

    def _plot_images(self, ax: Axes | None, image_shape: Sequence[int]) -> None:
        from matplotlib import colormaps

        from sklearn_classvsc.displays import _plot

        t = self._all[0]
        change = (t.X_hat[-1] - t.X_hat[0]).reshape(*image_shape[:2], -1).mean(axis=2)
        change = colormaps["RdBu_r"](0.5 + 0.5 * change / (np.abs(change).max() or 1))[..., :3]
        pixels = _plot.as_pixels([self.original, *t.X_hat], image_shape)
        panels = np.concatenate([pixels, change[None]])[None]
        n_panels, aspect = panels.shape[1], image_shape[0] / image_shape[1]
        self.ax_ = ax = _plot.new_axes(ax, 0.9 * n_panels, 0.85 * aspect + 0.5)
        self.figure_ = ax.figure
        self.im_, _, centres = _plot.mosaic(ax, panels)
        ax.set_yticks([])
        values = [number(value, 2) for value in t.values]
        _plot.label_axis(ax.xaxis, ["sample", *values, "change"], centres)

    def _plot_table(self, ax: Axes | None, k: int) -> None:
        from sklearn_classvsc.displays import _plot

        t = self._all[0]
        moved = (t.X_hat - t.X_hat[0]) / self.scale
        top = np.argsort(-np.ptp(moved, axis=0), kind="stable")[:k]
        names = [_plot.literal(self.feature_names[i]) for i in top]
        values = [number(value, 2) for value in t.values]
        self._plot_moves(ax, t.X_hat[:, top].T, moved[:, top].T, names, values)

    def _plot_moves(
        self,
        ax: Axes | None,
        decoded: NDArray[Any],
        moved: NDArray[np.float64],
        names: list[str],
        values: list[str],
    ) -> None:
        """Plot rows of decoded values, coloured by their change."""
        from sklearn_classvsc.displays import _plot

        self.ax_ = ax = _plot.new_axes(ax, 0.65 * len(values) + 3.2, 0.3 * len(names) + 1.2)
        self.figure_ = ax.figure
        limit = max(float(np.abs(moved).max()), _SMALL_MOVE)
        self.im_ = ax.imshow(
            moved, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="none"
        )
        colorbar = self.figure_.colorbar(self.im_, ax=ax, fraction=0.05, pad=0.02)
        colorbar.set_label("change, in standard deviations")
        _plot.label_axis(ax.yaxis, names)
        _plot.label_axis(ax.xaxis, values)
        _plot.lay_out(ax)
        size = min(8.0, _plot.pitch(ax.xaxis) / 5, 0.7 * _plot.pitch(ax.yaxis))
        for (row, step), value in np.ndenumerate(decoded):
            colour = _plot.text_colour(self.im_.cmap(self.im_.norm(moved[row, step])))
            ax.text(
                *(step, row, number(value)),
                ha="center",
                va="center",
                color=colour,
                fontsize=size,
            )
