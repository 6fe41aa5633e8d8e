"""Pictures of a code, by scikit-learn's Display convention, in the order to look at them.

1. `HistoryDisplay`: did training settle?
2. `ReconstructionDisplay`: what do the codes keep of a sample, and what do they lose?
3. `ActivationDisplay`: which dimensions has each class, and which role does each play?
4. `SharingDisplay`: which classes share their dimensions?
5. `FactorDisplay`: what does a dimension stand for, by real samples?
6. `TraversalDisplay`: what does it do to a sample, in one class or in all?

Each has `from_estimator`, `plot(ax=None)`, which sets `ax_` and `figure_`, and `frame()`, what is
plotted as a tidy DataFrame. They need matplotlib, which is imported when a plot is made.
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
