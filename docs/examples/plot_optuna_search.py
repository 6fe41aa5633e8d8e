r"""
============================================
How do I search the parameters with Optuna?
============================================

A grid tries every combination. Optuna proposes the next settings from the scores of the
earlier ones. Pass a trial's parameters to the constructor and return the scores;
neither package needs an adapter. Install Optuna with ``pip install optuna``.

This example runs two searches of one space. The first has two goals, contrast and
accuracy, and finds a front of settings. The second has one goal and *prunes*: it gives
up bad trials early, and saves at least a third of the fits.
"""

# %%
# Define a trial
# --------------
#
# ``suggest`` turns a trial into parameters. ``evaluate`` turns parameters into held-out
# scores: the class contrast of the codes, and the accuracy of a logistic regression on
# them. With an integer ``random_state``, the scores depend on the parameters alone. The
# same settings score the same in any order, process or study.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sklearn_classvsc import ClassVSCTransformer, CollapseWarning
from sklearn_classvsc.metrics import class_contrast_score

X, y = load_digits(return_X_y=True)
X = X / 16
folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))


def suggest(trial):
    """Return the parameters of a trial."""
    weight = trial.suggest_float("consistency_weight", 0.3, 10, log=True)
    return {
        "consistency_weight": weight,
        "alpha": trial.suggest_float("alpha", 0.1, 0.4),
        "n_components": trial.suggest_int("n_components", 8, 40, step=8),
    }


def evaluate(parameters, fold):
    """Return contrast and accuracy on the samples that a fold holds out."""
    train, test = fold
    estimator = ClassVSCTransformer(
        **parameters, hidden_layer_sizes=(64,), max_epochs=40, random_state=0
    )
    with warnings.catch_warnings():
        # Some corners of the space are bad on purpose; their scores say so.
        warnings.simplefilter("ignore", CollapseWarning)
        Z = estimator.fit_transform(X[train], y[train])
    Z_test = estimator.transform(X[test])
    probe = LogisticRegression(max_iter=1000).fit(Z, y[train])
    return class_contrast_score(Z_test, y[test]), probe.score(Z_test, y[test])


# %%
# Search with two goals: a front
# ------------------------------
#
# A study with two directions has no best trial. It has a Pareto front: the trials that
# no other trial beats on both goals. The sampler has a seed, so the study proposes the
# same trials in every run.

optuna.logging.set_verbosity(optuna.logging.WARNING)
fronts = optuna.create_study(
    directions=["maximize", "maximize"],
    sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=6),
)
fronts.optimize(lambda trial: evaluate(suggest(trial), folds[0]), n_trials=8)

front = sorted(fronts.best_trials, key=lambda trial: trial.values[0])
for trial in front:
    print(
        "contrast {:.3f}, accuracy {:.3f}:".format(*trial.values),
        ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items()),
    )

# %%
# Search with one goal: pruning
# -----------------------------
#
# Optuna prunes only with *one* goal; with more, ``trial.report`` raises an error.
# Report the score of each fold, and not a loss. The parameters of this space weigh the
# terms of the loss, so the losses of two trials do not compare. A trial is pruned if
# its mean so far is below the median of the earlier trials.


def contrast(trial):
    """Return the mean contrast over the folds, or give up before the last."""
    parameters, scores = suggest(trial), []
    for step, fold in enumerate(folds):
        scores.append(evaluate(parameters, fold)[0])
        trial.report(np.mean(scores), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return np.mean(scores)


study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
)
study.optimize(contrast, n_trials=6)

pruned = study.get_trials(states=[optuna.trial.TrialState.PRUNED])
n_fits = sum(len(trial.intermediate_values) for trial in study.trials)
print(f"{len(pruned)} of 6 trials pruned; {n_fits} fits instead of {6 * len(folds)}")
print(f"best contrast {study.best_value:.3f}: {study.best_params}")

# %%
# Draw both searches
# ------------------
#
# Each point on the left is a trial of the first search, and the circles on the line are
# the front. Each line on the right is a trial of the second search. Pruned trials end
# early.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
values = np.array([trial.values for trial in fronts.trials])
sizes = [trial.params["n_components"] for trial in fronts.trials]
points = left.scatter(*values.T, c=sizes, cmap="viridis", vmin=8, vmax=40, s=60)
best = np.array([trial.values for trial in front])
left.step(*best.T, "o-", color="0.4", ms=12, mfc="none", label="front")
left.set(xlabel="class contrast, held out", ylabel="accuracy, held out")
left.legend(loc="lower left")
figure.colorbar(points, ax=left, label="n_components")
for trial in study.trials:
    steps, means = zip(*trial.intermediate_values.items(), strict=True)
    is_best = trial.number == study.best_trial.number
    color = "#D55E00" if is_best else "0.6" if trial in pruned else "#0072B2"
    right.plot(np.add(steps, 1), means, "o-", color=color, zorder=2 + is_best)
for color, label in {"#D55E00": "best", "#0072B2": "finished", "0.6": "pruned"}.items():
    right.plot([], [], "o-", color=color, label=label)
right.set(xlabel="folds", xticks=[1, 2, 3], ylabel="mean class contrast so far")
_ = right.legend(loc="center right", bbox_to_anchor=(1, 0.3))

# %%
# **What this shows.** Any search that sets parameters and reads scores can drive these
# estimators.
#
# **What it does not show.** Fourteen short trials find no optimum. Use more trials, and
# train as long as you will in the end.
#
# **Next.** :doc:`/engines` runs a search on several machines, and :doc:`/choosing`
# names the parameters of :class:`~sklearn_classvsc.ClassVSCTransformer` that matter.

# sphinx_gallery_start_ignore
for trial in fronts.best_trials:
    assert not any(
        all(np.greater_equal(other.values, trial.values))
        and other.values != trial.values
        for other in fronts.trials
    )
assert len(fronts.trials) + len(study.trials) == 14
assert len(front) > 1 and pruned and n_fits <= 12
assert evaluate(front[0].params, folds[0]) == tuple(front[0].values)
# sphinx_gallery_end_ignore
