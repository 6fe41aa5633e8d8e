"""Plots of a code, by scikit-learn's Display convention, in the order to look at them.

1. `HistoryDisplay`: has training settled?
2. `ReconstructionDisplay`: what do the codes keep of a sample, and what do they lose?
3. `ActivationDisplay`: which dimensions does each class activate, and in which roles?
4. `SharingDisplay`: which classes share their dimensions?
5. `FactorDisplay`: which samples show what a dimension stands for?
6. `TraversalDisplay`: how does a dimension change a sample, in one class or in all?

Each has `from_estimator`, `plot(ax=None)`, which sets `ax_` and `figure_`, and `frame()`, which
returns the plotted data as a tidy DataFrame. They need matplotlib and import it when they plot.
"""

from sklearn_classvsc.displays._activation import ActivationDisplay
from sklearn_classvsc.displays._factor import FactorDisplay
from sklearn_classvsc.displays._history import HistoryDisplay
from sklearn_classvsc.displays._reconstruction import ReconstructionDisplay
from sklearn_classvsc.displays._sharing import SharingDisplay
from sklearn_classvsc.displays._traversal import TraversalDisplay

__all__ = [
    "ActivationDisplay",
    "FactorDisplay",
    "HistoryDisplay",
    "ReconstructionDisplay",
    "SharingDisplay",
    "TraversalDisplay",
]
