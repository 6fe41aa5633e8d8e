r"""
======================================================
Searching with Optuna: contrast *and* accuracy, pruned
======================================================

A grid tries every combination; Optuna proposes the next settings from the scores of those before.
It needs nothing of this package, and this package nothing of it: a trial's parameters go to the
constructor, scores come back. ``pip install optuna`` is all.

Two questions of one search space. Which settings are there to choose from, if a code is to differ
between classes *and* to tell the classes apart? And, if one score is all that counts, how much of
the search can be left out?
"""

# %%
# What a trial is
# ---------------
#
# ``suggest`` turns a trial into parameters, ``evaluate`` parameters into scores: the class contrast
# of held-out codes, and the accuracy of a logistic regression on them. ``random_state`` is an
# integer, so that a score is a function of the parameters alone. The same settings score the same
# in any order, process or study.

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
    return {
        "consistency_weight": trial.suggest_float("consistency_weight", 0.3, 10, log=True),
        "alpha": trial.suggest_float("alpha", 0.1, 0.4),
        "n_components": trial.suggest_int("n_components", 8, 40, step=8),
    }


def evaluate(parameters, fold):
    """Return contrast and accuracy on the samples that a fold holds out."""
    train, test = fold
    estimator = ClassVSCTransformer(
        **parameters, hidden_layer_sizes=(64,), max_epochs=60, random_state=0
    )
    with warnings.catch_warnings():  # some corners are bad on purpose; their scores say so
        warnings.simplefilter("ignore", CollapseWarning)
        Z = estimator.fit_transform(X[train], y[train])
    Z_test = estimator.transform(X[test])
    probe = LogisticRegression(max_iter=1000).fit(Z, y[train])
    return class_contrast_score(Z_test, y[test]), probe.score(Z_test, y[test])


# %%
# Two objectives: a front
# -----------------------
#
# With two directions a study has no best trial but a Pareto front: the trials that no other beats
# on both counts. The sampler has a seed, so the study proposes the same trials whenever it runs.

optuna.logging.set_verbosity(optuna.logging.WARNING)
fronts = optuna.create_study(
    directions=["maximize", "maximize"],
    sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=6),
)
fronts.optimize(lambda trial: evaluate(suggest(trial), folds[0]), n_trials=12)

front = sorted(fronts.best_trials, key=lambda trial: trial.values[0])
for trial in front:
    print(
        "contrast {:.3f}, accuracy {:.3f}:".format(*trial.values),
        ", ".join(f"{name} {value:.3g}" for name, value in trial.params.items()),
    )

# %%
# One objective: pruning
# ----------------------
#
# Optuna stops bad trials early where there is *one* objective; with more, ``trial.report`` raises.
# What to report? Not the loss: the parameters searched here weigh its terms, so that losses of two
# trials do not compare. The score does, and cross-validation has it step by step: a fold is a step.
# Trials whose mean so far is below the median of those before are given up.


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
study.optimize(contrast, n_trials=9)

pruned = study.get_trials(states=[optuna.trial.TrialState.PRUNED])
n_fits = sum(len(trial.intermediate_values) for trial in study.trials)
print(f"{len(pruned)} of {len(study.trials)} trials pruned; {n_fits} fits instead of 27")

# %%
# The score of the best trial is that of its parameters: fitted again, it is the same number.

again = [evaluate(study.best_params, fold)[0] for fold in folds]
assert np.mean(again) == study.best_value
print(f"best contrast {study.best_value:.3f}: {study.best_params}")

# %%
# Left, what the first study found, the worst trials beyond the corner; right, the second, a line
# for each trial.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
values = np.array([trial.values for trial in fronts.trials])
sizes = [trial.params["n_components"] for trial in fronts.trials]
points = left.scatter(*values.T, c=sizes, cmap="viridis", vmin=8, vmax=40, s=60)
best = np.array([trial.values for trial in front])
left.step(*best.T, "o-", where="pre", color="0.4", ms=12, mfc="none", label="front")
left.set(xlabel="class contrast, held out", ylabel="accuracy of a linear probe, held out")
left.set(xlim=(0.5, None), ylim=(0.9, 0.98))
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
_ = right.legend()

# sphinx_gallery_start_ignore
for trial in fronts.best_trials:
    assert not any(
        all(np.greater_equal(other.values, trial.values)) and other.values != trial.values
        for other in fronts.trials
    )
assert len(front) > 1 and pruned and n_fits < 27
assert evaluate(front[0].params, folds[0]) == tuple(front[0].values)
# sphinx_gallery_end_ignore
