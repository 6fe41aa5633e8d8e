"""`ReconstructionDisplay`: samples and their reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_scalar

from sklearn_classvsc._pipelines import feature_names, sparse_codes, unroll
from sklearn_classvsc._tables import check_image_shape
from sklearn_classvsc.labels import labeled_rows
from sklearn_classvsc.metrics._counts import MatrixLike, check_labels, random_rows, to_dense
from sklearn_classvsc.metrics._fidelity import measure_fidelity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from typing_extensions import Self

# Inches of an image.
_CELL = 0.85


class ReconstructionDisplay:
    """Samples compared with their reconstructions, which are encoded and decoded.

    For images, it shows some samples above their reconstructions. For tables, it shows the
    explained variance of each feature, the worst first: 1 is perfect, and 0 is no better than the
    mean of the feature. Decoded counts are scaled to the total of each sample.

    Make it with `from_estimator`.

    Parameters
    ----------
    originals, reconstructions : ndarray of shape (n_shown, n_features)
        Some samples and their reconstructions.
    labels : ndarray of shape (n_shown,) or None
        Classes of these samples.
    explained_variance : Series of length n_features
        Explained variance of each feature over all samples, indexed by the names of the features;
        NaN for a constant feature.
    image_shape : tuple of (height, width) or (height, width, 3), default=None
        Shape of the samples as images. None shows samples as rows of a table.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    sklearn_classvsc.metrics.fidelity_scorer : The mean over features.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.displays import ReconstructionDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(
    ...     vsc, X, y, image_shape=(8, 8)
    ... )  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(
        self,
        *,
        originals: NDArray[Any],
        reconstructions: NDArray[Any],
        labels: NDArray[Any] | None,
        explained_variance: pd.Series[float],
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.originals = originals
        self.reconstructions = reconstructions
        self.labels = labels
        self.explained_variance = explained_variance
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        est: Any,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        image_shape: Sequence[int] | None = None,
        n_samples: int = 10,
        k: int = 30,
        ax: Axes | None = None,
    ) -> Self:
        """Encode and decode samples, and plot both.

        Parameters
        ----------
        est : estimator
            Fitted, with `transform` and `inverse_transform`, or a fitted Pipeline.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples. Pass held-out samples to see how well the codes explain new data.
        y : array-like of shape (n_samples,), default=None
            Class labels, as the estimator reads them. Samples without a label are left out. The
            display shows the first image of each class, then the second, and so on up to
            `n_samples`. Without `y`, it shows random images.
        image_shape : tuple of (height, width) or (height, width, 3), default=None
            Shape of the samples as images. None shows samples as rows of a table.
        n_samples : int, default=10
            Number of images to show.
        k : int, default=30
            Number of features of a table to show.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : ReconstructionDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If an argument is not as described.
        ImportError
            If matplotlib is not installed.
        """
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        est, X = unroll(est, X)
        if y is not None:
            X, y = labeled_rows(est, X, y)
        Z = sparse_codes(est, X)
        data = check_array(X, accept_sparse="csr", ensure_all_finite="allow-nan")
        names = feature_names(est, data.shape[1])
        rows, labels = _first_of_each(y, Z, n_samples)
        likelihood = getattr(est, "likelihood_", None)
        kept = measure_fidelity(
            data, lambda rows: est.inverse_transform(Z[rows].toarray()), likelihood
        )
        display = cls(
            originals=to_dense(data[rows]),
            reconstructions=np.asarray(est.inverse_transform(Z[rows].toarray())),
            labels=labels,
            explained_variance=pd.Series(kept.explained_variance, index=names),
            image_shape=image_shape,
        )
        return display.plot(ax=ax, k=k)

    def plot(self, ax: Axes | None = None, *, k: int = 30) -> Self:
        """Plot the images, or the explained variances.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.
        k : int, default=30
            Number of features of a table to show.

        Returns
        -------
        self : ReconstructionDisplay
            The display, with its attributes set.

        Raises
        ------
        ValueError
            If `k` is below 1, or `image_shape` does not fit the features.
        ImportError
            If matplotlib is not installed.
        """
        check_scalar(k, "k", Integral, min_val=1)
        check_image_shape(self.image_shape, len(self.explained_variance))
        if self.image_shape is None:
            self._plot_table(ax, k)
        else:
            self._plot_images(ax, self.image_shape)
        return self

    def frame(self) -> pd.DataFrame:
        """Return the plotted data.

        Returns
        -------
        frame : DataFrame
            For images, the columns are `sample`, `class` if there are labels, `feature`,
            `original` and `reconstruction`. For tables, they are `feature` and
            `explained_variance`, with all features, the worst first.
        """
        names = self.explained_variance.index
        if self.image_shape is None:
            return (
                self.explained_variance.sort_values(kind="stable")
                .rename_axis("feature")
                .reset_index(name="explained_variance")
            )
        n_shown, n_features = self.originals.shape
        frame = pd.DataFrame(
            {
                "sample": np.repeat(np.arange(n_shown), n_features),
                "feature": np.tile(names, n_shown),
                "original": self.originals.ravel(),
                "reconstruction": self.reconstructions.ravel(),
            }
        )
        if self.labels is not None:
            frame.insert(1, "class", np.repeat(self.labels, n_features))
        return frame

    def _plot_images(self, ax: Axes | None, image_shape: Sequence[int]) -> None:
        from sklearn_classvsc.displays import _plot

        n_shown, aspect = len(self.originals), image_shape[0] / image_shape[1]
        pixels = _plot.as_pixels([*self.originals, *self.reconstructions], image_shape)
        names = [] if self.labels is None else [_plot.literal(name) for name in self.labels]
        room = (
            _plot.text_extent(names) if names else 0
        )  # above the images, if the names are vertical
        height = 1.7 * aspect + (room + 0.1 if room > _CELL - 0.1 else 0.4)
        self.ax_ = ax = _plot.new_axes(ax, _CELL * n_shown + 0.8, height)
        self.figure_ = ax.figure
        _, rows, columns = _plot.mosaic(ax, pixels.reshape(2, n_shown, *pixels.shape[1:]))
        _plot.label_axis(ax.yaxis, ["original", "decoded"], rows)
        if names:
            ax.xaxis.tick_top()
            _plot.label_axis(ax.xaxis, names, columns)
        else:
            ax.set_xticks([])

    def _plot_table(self, ax: Axes | None, k: int) -> None:
        from sklearn_classvsc.displays import _plot

        frame = self.frame()
        shown = frame.dropna().head(k)
        self.ax_ = ax = _plot.new_axes(ax, 6.5, max(_plot.extent(len(shown)) + 0.8, 2))
        self.figure_ = ax.figure
        ax.barh(np.arange(len(shown)), shown["explained_variance"], color=_plot.BLUE)
        lowest = float(shown["explained_variance"].min())
        ax.set(
            xlabel="explained variance",
            xlim=(max(-1.0, min(0.0, lowest)), 1),  # cuts bars of features that are worse
            ylim=(len(shown) - 0.4, -0.6),
        )
        if len(shown) < len(frame):
            ax.set_ylabel(f"worst {len(shown)} of {len(frame)} features")
        names = [_plot.literal(name) for name in shown["feature"]]
        _plot.label_axis(ax.yaxis, names)


def _first_of_each(
    y: ArrayLike | None, Z: Any, n_shown: int
) -> tuple[NDArray[np.intp], NDArray[Any] | None]:
    """Return rows to show and their labels: the first sample of each class, then the second."""
    n_samples = Z.shape[0]
    n_shown = min(n_shown, n_samples)
    if y is None:
        return random_rows(n_samples, n_shown), None
    classes, labels = check_labels(y, Z)
    occurrence = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    rows = np.lexsort((labels, occurrence))[:n_shown]
    return rows, classes[labels[rows]]
