"""`HistoryDisplay`: the loss and its terms during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklearn_classvsc._pipelines import core_of
from sklearn_classvsc.displays._numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D
    from typing_extensions import Self


class HistoryDisplay:
    """Curves of the loss and of each of its terms, by epoch.

    Terms differ by orders of magnitude. Each therefore has its own lane, scaled from its smallest
    to its largest value, with the first and the last value next to it. The loss is the weighted sum
    of the terms. Weights may rise during training, so that the loss may rise while every term
    falls.

    Make it with `from_estimator`.

    Parameters
    ----------
    history : DataFrame
        The `history_` of an estimator of this package. Its columns are `epoch`, `train_loss` and
        the terms, and with early stopping `valid_loss` and the terms with the prefix `valid_`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the plot.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : list of matplotlib Line2D
        The curves in the order of the lanes, with training before validation.

    See Also
    --------
    ReconstructionDisplay : How well the codes explain the data.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.displays import HistoryDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=8, max_epochs=2, random_state=0).fit(X)
    >>> display = HistoryDisplay.from_estimator(vsc)  # doctest: +SKIP
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]

    def __init__(self, *, history: pd.DataFrame) -> None:
        self.history = history

    @classmethod
    def from_estimator(
        cls, est: Any, X: Any = None, y: Any = None, *, ax: Axes | None = None
    ) -> Self:
        """Plot the history of a fitted estimator.

        Parameters
        ----------
        est : estimator
            A fitted transformer of this package, or a fitted Pipeline that holds one.
        X, y : Ignored, default=None
            Not used, present for consistency with the other displays.
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure.

        Returns
        -------
        display : HistoryDisplay
            The display, plotted.

        Raises
        ------
        NotFittedError
            If `est` is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        est = core_of(est)
        check_is_fitted(est)
        return cls(history=est.history_).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. None makes a new figure that has room for all lanes.

        Returns
        -------
        self : HistoryDisplay
            The display, with its attributes set.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from sklearn_classvsc.displays import _plot

        lanes = list(self.frame().groupby("term", sort=False))
        self.ax_ = ax = _plot.new_axes(ax, 6.5, 0.45 * len(lanes) + 0.9)
        self.figure_ = ax.figure
        self.lines_ = []
        styles = {"train": (_plot.BLUE, "-"), "valid": (_plot.VERMILION, "--")}
        for lane, (_, curves) in enumerate(lanes):
            low, high = curves["value"].min(), curves["value"].max()
            last = {}
            for part, curve in curves.groupby("part", sort=False):
                colour, style = styles[str(part)]
                # From 0.1 to 0.9 of the lane, upside down because the axis points down.
                height = 0.9 - 0.8 * (curve["value"] - low) / ((high - low) or 1)
                label = {"train": "training", "valid": "validation"}[str(part)]
                marker = "o" if len(curve) == 1 else None
                self.lines_ += ax.plot(
                    curve["epoch"], lane + height, style, color=colour, label=label, marker=marker
                )
                last[part] = " → ".join(number(curve["value"].iloc[i]) for i in (0, -1))
            note = " | ".join(last.values())
            ax.text(
                1.015, lane + 0.5, note, transform=ax.get_yaxis_transform(), va="center", fontsize=8
            )
            ax.axhline(lane, color="0.85", linewidth=0.8, zorder=0)
        ax.text(1.015, 1, "first → last", transform=ax.transAxes, va="top", fontsize=8, color="0.4")
        ax.set(xlabel="epoch", ylim=(len(lanes), 0))
        _plot.integer_ticks(ax.xaxis)
        n_parts = self.frame()["part"].nunique()
        if n_parts > 1:
            ax.legend(
                handles=self.lines_[:2],
                loc="lower left",
                bbox_to_anchor=(0, 1),
                ncols=2,
                frameon=False,
            )
        _plot.label_axis(ax.yaxis, [str(term) for term, _ in lanes], np.arange(len(lanes)) + 0.5)
        return self

    def frame(self) -> pd.DataFrame:
        """Return the plotted data.

        Returns
        -------
        frame : DataFrame
            Columns `epoch`, `term` ("loss", then its terms), `part` ("train" or "valid") and
            `value`, in nats per sample.
        """
        tidy = self.history.melt(id_vars="epoch", var_name="column")
        valid = tidy["column"].str.startswith("valid_")
        return pd.DataFrame(
            {
                "epoch": tidy["epoch"],
                "term": tidy["column"].str.replace("^(train|valid)_", "", regex=True),
                "part": np.where(valid, "valid", "train"),
                "value": tidy["value"],
            }
        )
