"""Batches of gates, and what the objectives say of them: what the tests of rooms 4 and 5 share."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from sklearn_classvsc._gates import centroid_divergence, class_gates, pairwise_divergence
from sklearn_classvsc._likelihoods import Bernoulli
from sklearn_classvsc._objective import BalancedObjective, Evidence, PaperObjective
from sklearn_classvsc._spike_slab import SpikeSlab, bernoulli_entropy

quick = settings(max_examples=60, deadline=None)

BASE = ["reconstruction", "slab_kl"]
SPLIT = ["usage", "information", "inconsistency"]
PAPER = [*BASE, *SPLIT, "consistency"]
BALANCED = [
    *(*BASE, "usage", "class_usage"),
    *("inconsistency", "indecision", "recognition", "overlap"),
]


class Example(SimpleNamespace):
    """A batch of gates: gamma (n, d), logits (n, d), labels (n,), weight (n,), C, and alpha."""

    @property
    def d(self):
        return self.gamma.shape[1]

    @property
    def normalised(self):
        return self.weight / self.weight.sum()


def make_example(
    n=12,
    d=3,
    n_classes=3,
    seed=0,
    unlabeled=0.2,
    weighted=True,
    saturated=0.2,
    vector=True,
    specific=False,
):
    """Gates of unbalanced classes, some saturated, some samples without a label.

    With `specific`, one that suits the balanced objective: not all dimensions are global, and
    logits are finite.
    """
    rng = np.random.default_rng(seed)
    gamma = rng.beta(0.5, 0.5, size=(n, d))
    ends = rng.uniform(size=(n, d)) < saturated
    gamma = np.where(ends, gamma.round(), gamma)
    labels = np.full(n, -1)
    if n_classes:
        labels = rng.choice(n_classes, size=n, p=rng.dirichlet(np.ones(n_classes)))
        labels[rng.uniform(size=n) < unlabeled] = -1
    alpha = np.array(rng.uniform(0.02, 0.98, size=d if vector else ()))
    if specific:
        alpha.flat[0] /= 2
    logits = torch.tensor(gamma).logit()
    logits = logits.clamp(-50, 50) if specific else logits
    return Example(
        gamma=torch.sigmoid(logits),
        logits=logits,
        labels=torch.tensor(labels),
        weight=torch.tensor(rng.exponential(size=n) + 1e-3 if weighted else np.ones(n)),
        n_classes=n_classes,
        alpha=torch.tensor(alpha),
    )


def examples(**fixed):
    choices = {
        "n": st.integers(1, 30),
        "d": st.integers(1, 5),
        "n_classes": st.integers(0, 5),
        "seed": st.integers(0, 2**32 - 1),
        "unlabeled": st.sampled_from([0, 0.3, 1]),
        "weighted": st.booleans(),
        "saturated": st.sampled_from([0, 0.3, 1]),
        "vector": st.booleans(),
    } | {name: st.just(value) for name, value in fixed.items()}
    return st.builds(make_example, **choices)


def balanced_examples(**fixed):
    return examples(n_classes=3, specific=True, vector=True, **fixed)


def a_model(e, likelihood=None, training=True):
    """What the terms need of a model."""
    return SimpleNamespace(
        likelihood=likelihood or Bernoulli(),
        prior_mean=0.5,
        alpha=e.alpha,
        class_profile=torch.full((e.n_classes, e.d), 0.5, dtype=torch.float64),
        training=training,
    )


def evidence_of(e, likelihood=None, seed=0):
    """What the network made of a batch with these gates."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(4, len(e.gamma), e.d, generator=generator, dtype=e.gamma.dtype)
    mu, log_var, theta, x = parts
    q = SpikeSlab(e.logits, mu, log_var)
    misfit = (likelihood or Bernoulli()).misfit(theta, torch.sigmoid(x))
    return Evidence(q, q.rsample(generator), misfit, e.labels, e.weight)


def paper(e, consistency="centroid"):
    return PaperObjective(1.0, consistency)


def balanced(e):
    return BalancedObjective(e.alpha.expand(e.d))


def terms_of(e, objective=paper, model=None):
    """The terms of a batch; a model that trains keeps its running means."""
    model = model or a_model(e)
    terms = objective(e).terms(model, evidence_of(e, model.likelihood))
    if "class_profile" in terms.running:
        model.class_profile = terms.running["class_profile"]
    return terms.values


def select(e, rows):
    kept = {name: getattr(e, name)[rows] for name in ("gamma", "logits", "labels", "weight")}
    return Example(**(vars(e) | kept))


def entropy(p):
    return float(bernoulli_entropy(torch.as_tensor(p, dtype=torch.float64)).sum())


def centroid(gamma, labels, n_classes, weight):
    return centroid_divergence(class_gates(gamma, labels, n_classes, weight))


DIVERGENCES = {"centroid": centroid, "pairwise": pairwise_divergence}


def divergence(name, e, n_classes=None):
    n_classes = e.n_classes if n_classes is None else n_classes
    return DIVERGENCES[name](e.gamma, e.labels, n_classes, e.normalised).item()


def balanced_weight(e):
    return class_gates(e.gamma, e.labels, e.n_classes, e.normalised, balanced=True).weight


def assert_same_terms(a, b, names):
    for name in names:
        assert a[name].item() == pytest.approx(b[name].item(), rel=1e-9, abs=1e-10), name
