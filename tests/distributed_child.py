"""What `test_distributed.py` runs in several processes, and in one to compare.

    torchrun --nproc_per_node 2 tests/distributed_child.py FOLDER [kill|freeze [TIMEOUT]]

Each process leaves its findings in FOLDER, as a pickle.
"""

import contextlib
import copy
import io
import os
import pickle
import signal
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from helpers import small
from skorch.callbacks import Callback
from torch import nn

from sklearn_classvsc import (
    ClassVSCTransformer,
    VAETransformer,
    VSCTransformer,
    _checkpoint,
    _cross_fit,
    _modules,
    _persistence,
)
from sklearn_classvsc._classes import Labels, LabelSets
from sklearn_classvsc._likelihoods import LIKELIHOODS
from sklearn_classvsc._net import of_all
from sklearn_classvsc._objective import Evidence
from sklearn_classvsc._spike_slab import SpikeSlab
from sklearn_classvsc._validation import FitData
from sklearn_classvsc.distributed import current, data_parallel

CASES = {
    "VAE": VAETransformer(),
    "disentangled": VAETransformer(total_correlation_weight=3),
    "VSC": VSCTransformer(),
    "learned prior": VSCTransformer(prior="pseudo_inputs", n_pseudo_inputs=3),
    "balanced": ClassVSCTransformer(),
    "balanced, unlabeled": ClassVSCTransformer(unlabeled=2),
    "paper": ClassVSCTransformer(objective="paper"),
    "pairwise": ClassVSCTransformer(objective="paper", consistency="pairwise"),
    "indicator": ClassVSCTransformer(),
    "indicator, paper": ClassVSCTransformer(objective="paper"),
}


def table(n=103, n_classes=4):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, n)
    X = np.eye(n_classes)[y] @ rng.normal(size=(n_classes, 9)) + rng.normal(size=(n, 9))
    return X.astype(np.float32), y


def indicator(y):
    """Two labels of some samples, of all the others one, and none of a few."""
    members = y[:, None] == np.arange(4)
    members[::3, 0] = True
    members[::10] = False
    return members


@contextlib.contextmanager
def noise_off():
    with (
        mock.patch.object(SpikeSlab, "rsample", lambda q, *args, **kwargs: q.gamma * q.mu),
        mock.patch.object(_modules, "hide_features", lambda x, *args: x),
        mock.patch.object(_cross_fit, "hide_features", lambda x, *args: x),
    ):
        yield


def gradients(name, n, likelihood="gaussian", incomplete=False):
    """Return terms, gradients and buffers after a step on n samples, in double precision."""
    processes, est = current(), CASES[name]
    X, y = table(n)
    if incomplete:
        X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
    est.n_components = 6
    kind = LabelSets if name.startswith("indicator") else Labels
    header, data = mock.Mock(n_features_in_=9), mock.MagicMock()
    data.__len__.return_value, data.repeats.return_value = n, False
    data.incomplete = incomplete
    model = est._prior(FitData(data, header, kind(np.arange(4))))
    model["alpha"] = torch.tensor(model["alpha"], dtype=torch.float64)
    module = _modules.make_autoencoder(
        9,
        encoder=None,
        decoder=None,
        hidden_layer_sizes=[8],
        activation="gelu",
        likelihood=LIKELIHOODS[likelihood](9),
        gated=est.gated,
        generator=torch.Generator().manual_seed(0),
        **model,
    ).double()
    part = np.array_split(np.arange(n), processes.size)[processes.rank]
    x = torch.tensor(X[part] if likelihood == "gaussian" else X[part] > 0, dtype=torch.float64)
    unlabeled = y == est.unlabeled if isinstance(est, ClassVSCTransformer) else True
    labels = torch.tensor(np.where(unlabeled, -1, y)[part])
    if name.startswith("indicator"):
        labels = torch.tensor((y[part, None] == range(4)) | (part[:, None] % 5 == range(4)))
    weight = torch.tensor(1.0 + part % 3)
    objective = est._objective(module)
    with noise_off():
        out = module(x, incomplete=incomplete)
        misfit = module.likelihood.misfit(out.theta, x, incomplete)
        seen = Evidence(out.q, out.z, misfit, labels, weight, out.priors, out.scores)
        terms = objective.terms(module, of_all(seen, processes))
    objective.loss(terms, 0.5).backward()
    processes.add_gradients(module.parameters())
    return {
        "terms": {key: value.item() for key, value in terms.values.items()},
        "gradients": torch.cat([p.grad.flatten() for p in module.parameters()]).numpy(),
        "running": {key: value.detach().numpy() for key, value in terms.running.items()},
    }


def all_gradients():
    return {
        (name, *case): gradients(name, *case)
        for name in CASES
        for case in [(32, "gaussian"), (7, "gaussian"), (1, "bernoulli"), (9, "gaussian", True)]
    }


def weights(est):
    return {name: x.numpy() for name, x in est.module_.state_dict().items()}


def summary(est):
    return {
        "weights": weights(est),
        "history": est.history_,
        "steps": est.net_.steps_done,
        "stop_reason": est.stop_reason_,
        "digest": [x.tobytes() for x in weights(est).values()],
        "pickle": pickle.dumps(clone_of(est)),
    }


def clone_of(est):
    """Return the estimator without what cannot be pickled, or is not the same everywhere."""
    return copy.deepcopy(est).set_params(callbacks=None, random_state=0, encoder=None)


def noiseless_fits():
    """Fits whose weights do not depend on the number of processes, but for rounding."""
    X, y = table()
    weight = 1 + np.arange(len(X)) % 3
    with noise_off(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            (cls.__name__, n, batch): summary(
                small(cls, batch_size=batch).fit(X[:n], y[:n], sample_weight=weight[:n])
            )
            for cls in (VAETransformer, VSCTransformer, ClassVSCTransformer)
            for n, batch in [(103, 10), (103, 512), (97, 3)]
        } | {
            "early stopping": summary(
                small(
                    ClassVSCTransformer,
                    max_epochs=60,
                    learning_rate=0.1,
                    early_stopping=True,
                    n_iter_no_change=1,
                    validation_fraction=0.3,
                    objective="paper",
                ).fit(X, y)
            ),
            "indicator": summary(small(ClassVSCTransformer).fit(X, indicator(y))),
            "partial_fit": summary(partial_fits(X, y)),
            "learned prior": summary(
                small(VSCTransformer, prior="pseudo_inputs", batch_size=10, warmup=0.5).fit(X)
            ),
            "counts": summary(
                small(VSCTransformer, likelihood="negative_binomial").fit(np.round(abs(X)))
            ),
            "pieces": summary(
                small(ClassVSCTransformer, batch_size=16).fit(
                    lambda: [(X[:50], y[:50], weight[:50]), (X[50:], y[50:], weight[50:])]
                )
            ),
        }


def partial_fits(X, y, cls=ClassVSCTransformer):
    est = small(cls, batch_size=16)
    for start in (0, 40, 80):
        est.partial_fit(X[start : start + 40], y[start : start + 40])
    return est


class At(Callback):
    """Raise at the end of an epoch, or of a batch of it, in one process; "kill" it, or "freeze"."""

    def __init__(self, rank, epoch, error, batch=False):
        self.rank, self.epoch, self.error, self.batch = rank, epoch, error, batch

    def on_epoch_end(self, net, **kwargs):
        if not self.batch:
            self.act(net)

    def on_batch_end(self, net, **kwargs):
        if self.batch:
            self.act(net)

    def act(self, net):
        if len(net.history) != self.epoch or current().rank != self.rank:
            return
        if isinstance(self.error, BaseException):
            raise self.error
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}[self.error])


def error_of(function):
    try:
        function()
    except BaseException as error:
        return error
    return None


def noisy_fits(folder):
    """What holds with the noise on: the same estimator everywhere, the same error everywhere."""
    rank = current().rank
    X, y = table()
    found = {}
    found["seeded"] = summary(small(ClassVSCTransformer).fit(X, y))
    found["again"] = summary(small(ClassVSCTransformer).fit(X, y))
    found["unseeded"] = summary(
        small(VSCTransformer, random_state=None, early_stopping=True).fit(X)
    )
    torch.manual_seed(rank)
    own = nn.Sequential(nn.Linear(9, 5), nn.ReLU())
    found["own module"] = summary(small(VAETransformer, encoder=own).fit(X))
    found["many small batches"] = summary(small(VSCTransformer, batch_size=1).fit(X[:7]))
    with contextlib.redirect_stderr(io.StringIO()) as err:
        small(VSCTransformer, verbose=1).fit(X)
    found["bar"] = err.getvalue()

    stop = At(1, 2, KeyboardInterrupt())
    found["callback"] = summary(small(VSCTransformer, max_epochs=9, callbacks=[stop]).fit(X))
    for name, fit in {
        "other data": lambda: small(VSCTransformer).fit(X + rank),
        "other labels": lambda: small(ClassVSCTransformer).fit(X, np.roll(y, rank)),
        "other parameters": lambda: small(VSCTransformer, n_components=3 + rank).fit(X),
        "bad input": lambda: small(VSCTransformer).fit(X if rank else X + np.inf),
        "callback's error": lambda: small(
            VSCTransformer, callbacks=[At(1, 2, ZeroDivisionError("by it"))]
        ).fit(X),
        "divergence": lambda: small(VAETransformer, learning_rate=1e30).fit(X),
        "checkpoint": lambda: small(VSCTransformer).fit(X, checkpoint=folder / "no" / "such"),
    }.items():
        found[name] = error_of(fit)
    found["after the errors"] = summary(small(ClassVSCTransformer).fit(X, y))

    path = folder / "checkpoint.safetensors"
    found["undisturbed"] = summary(small(VSCTransformer, max_epochs=8).fit(X))
    est = small(VSCTransformer, max_epochs=8)
    full = mock.patch.object(_persistence, "save", writing(4))
    with full, mock.patch.object(_checkpoint, "COST", np.inf):
        found["full disk"] = error_of(lambda: est.fit(X, checkpoint=path))
    found["interrupted"] = summary(est)
    found["resumed"] = summary(est.fit(X, checkpoint=path, resume=True))
    found["finished"] = summary(est.fit(X, checkpoint=path, resume=True))
    return found


def writing(times, save=_persistence.save):
    """Return what saves so many times, and then fails."""
    calls = iter(range(times))

    def write(*args):
        assert current().rank == 0
        if next(calls, None) is None:
            raise OSError("the disk is full")
        save(*args)

    return write


def lost(folder, how, timeout=5):
    """Fit, and lose process 1 in the middle of an epoch."""
    X, y = table()
    with data_parallel(timeout=timeout):
        est = small(ClassVSCTransformer, batch_size=10).fit(X, y)
        before = summary(est)["digest"]
        est.set_params(max_epochs=10**6, callbacks=[At(1, 3, how, batch=True)])
        start = time.perf_counter()
        try:
            est.fit(X, y)
        finally:
            seconds = time.perf_counter() - start
            found = {"seconds": seconds, "as before": before == summary(est)["digest"]}
            (folder / f"{current().rank}.pickle").write_bytes(pickle.dumps(found))


def main(folder):
    found = {}
    with data_parallel() as accelerator:
        found["gradients"] = all_gradients()
        found["noiseless"] = noiseless_fits()
    with data_parallel() as accelerator:
        found["noisy"] = noisy_fits(folder)
    found["main"] = accelerator.is_main_process, accelerator.num_processes
    rank = accelerator.process_index

    def fail_between():
        with data_parallel():
            if rank:
                raise LookupError("nothing there")
            small(VSCTransformer).fit(table()[0])

    found["between"] = error_of(fail_between)

    def fail_within():
        with data_parallel():
            callbacks = [At(1, 2, ZeroDivisionError("in a batch"), batch=True)]
            small(VSCTransformer, callbacks=callbacks, batch_size=10).fit(table()[0])

    found["within"] = error_of(fail_within)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        lost(Path(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:]))
    else:
        main(Path(sys.argv[1]))
