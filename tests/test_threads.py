"""Specification of threads: every call sees one model, whole, and gives what it gives alone."""

import copy
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import covering, small
from sklearn.datasets import load_iris

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer, _net

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
X, Y = load_iris(return_X_y=True)
THREADS = 8
#: All that a fitted estimator does, deterministically.
USES = {
    "transform": lambda e: e.transform(X),
    "activation_proba": lambda e: e.activation_proba(X),
    "score_samples": lambda e: e.score_samples(X),
    "inverse_transform": lambda e: e.inverse_transform(np.ones((4, 6))),
    "sample": lambda e: e.sample(9),
    "pickle": lambda e: codes_and_next(pickle.loads(pickle.dumps(e))),
    "deepcopy": lambda e: codes_and_next(copy.deepcopy(e)),
}


def codes_and_next(estimator):
    """Return what a copy does now, and how it goes on."""
    codes = estimator.transform(X)
    return np.concatenate([codes, estimator.partial_fit(X, Y).transform(X)])


@pytest.fixture(autouse=True)
def switch_threads_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(function, *arguments):
    """Call the function in threads that start together."""
    barrier = threading.Barrier(len(arguments))

    def call(argument):
        barrier.wait()
        return function(argument)

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(call, arguments))


def during(train, use):
    """Return what `use` returned in another thread, while `train` ran and at least five times."""
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set() or len(seen) < 5:
            seen.append(use())

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            train()
        finally:
            done.set()
        watcher.result()
    return seen


@pytest.mark.parametrize(("use", "cls"), covering(USES, ESTIMATORS))
def test_calls_at_once_return_what_one_returns(cls, use):
    estimator = small(cls).fit(X, Y)
    expected = USES[use](estimator)
    for found in at_once(lambda _: [USES[use](estimator) for _ in range(5)], *range(THREADS)):
        assert all(np.array_equal(one, expected) for one in found)


def test_an_estimator_just_unpickled_serves_all_threads():
    estimator = small(ClassVSCTransformer).fit(X, Y)
    expected, content = estimator.transform(X), pickle.dumps(estimator)
    for _ in range(5):
        copy = pickle.loads(content)
        for found in at_once(lambda _, copy=copy: copy.transform(X), *range(THREADS)):
            assert np.array_equal(found, expected)


def test_fits_at_once_are_the_fits_one_after_the_other():
    def fit(seed):
        return codes_and_next(small(ClassVSCTransformer, random_state=seed).fit(X, Y))

    expected = [fit(seed) for seed in range(THREADS)]
    for found, alone in zip(at_once(fit, *range(THREADS)), expected, strict=True):
        assert np.array_equal(found, alone)


@pytest.mark.parametrize(("use", "training"), covering(USES, ["partial_fit", "fit", "warm_start"]))
def test_what_is_used_during_training_is_the_model_before_or_after(use, training):
    """Training on data of another scale, of which a mixture of old and new would be neither."""
    estimator = small(ClassVSCTransformer, max_epochs=20, warm_start=training == "warm_start")
    estimator.fit(X, Y)
    before = USES[use](estimator)
    train = estimator.partial_fit if training == "partial_fit" else estimator.fit
    seen = during(lambda: train(100 * X + 7, Y), lambda: USES[use](estimator))
    after = USES[use](estimator)
    assert not np.array_equal(before, after)
    assert all(np.array_equal(one, before) or np.array_equal(one, after) for one in seen)


def test_a_class_is_sampled_from_one_model_during_training():
    estimator = small(ClassVSCTransformer, max_epochs=20).fit(X, Y)
    before = estimator.sample(9, y=1)
    seen = during(lambda: estimator.fit(100 * X + 7, Y), lambda: estimator.sample(9, y=1))
    after = estimator.sample(9, y=1)
    assert not np.array_equal(before, after)
    assert all(np.array_equal(one, before) or np.array_equal(one, after) for one in seen)


def test_files_saved_during_partial_fit_are_of_some_moment_between(tmp_path):
    estimator, twin = (small(ClassVSCTransformer).fit(X, Y) for _ in range(2))
    files = []

    def save():
        files.append(tmp_path / str(len(files)))
        estimator.save(files[-1])

    def train():
        for _ in range(10):
            estimator.partial_fit(X, Y)

    during(train, save)
    moments = [
        codes_and_next(copy.deepcopy(twin.partial_fit(X, Y) if i else twin)) for i in range(11)
    ]
    for file in files:
        found = codes_and_next(ClassVSCTransformer.load(file))
        assert any(np.array_equal(found, moment) for moment in moments)


def test_a_copy_made_while_a_training_begins_is_whole(monkeypatch):
    """The training starts when the copy has taken half of what it copies."""
    estimator = small(VSCTransformer).fit(X)
    expected = codes_and_next(copy.deepcopy(estimator))
    state = _net.VSCNet.state

    def state_cut_in_two(net):
        monkeypatch.setattr(_net.VSCNet, "state", state)
        before = state(net)
        estimator.partial_fit(X)
        return state(net) | {"module": before["module"]}

    monkeypatch.setattr(_net.VSCNet, "state", state_cut_in_two)
    found = codes_and_next(pickle.loads(pickle.dumps(estimator)))
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, codes_and_next(estimator))


def test_a_training_that_fails_is_not_seen():
    estimator = small(VSCTransformer).fit(X)
    before = USES["pickle"](estimator)

    def train():
        for _ in range(10):
            with pytest.raises(FloatingPointError):
                estimator.partial_fit(1e200 * X)

    for found in during(train, lambda: USES["pickle"](estimator)):
        assert np.array_equal(found, before)
    assert np.array_equal(USES["pickle"](estimator), before)
    assert np.array_equal(codes_and_next(estimator), before)


@pytest.mark.parametrize(
    ("methods", "warm_start", "fitted"),
    [
        (["partial_fit"] * 3, False, False),
        (["partial_fit"] * 3, False, True),
        (["fit"] * 2, True, True),
        (["fit"] * 2, False, False),
        (["fit", "partial_fit"], False, True),
    ],
)
def test_threads_that_train_one_estimator_take_turns(methods, warm_start, fitted):
    estimator = small(VSCTransformer, warm_start=warm_start)
    if fitted:
        estimator.fit(X)
    twin = copy.deepcopy(estimator)
    orders = [methods, methods[::-1]]
    possible = []
    for order in orders:
        alone = copy.deepcopy(twin)
        for method in order:
            getattr(alone, method)(X)
        possible.append(codes_and_next(alone))
    at_once(lambda method: getattr(estimator, method)(X), *methods)
    found = codes_and_next(estimator)
    assert any(np.array_equal(found, one) for one in possible)


def test_a_thread_that_waits_for_its_turn_lets_copies_train():
    estimator = small(VSCTransformer, max_epochs=20).fit(X)

    def train(each):
        return each.partial_fit(X).transform(X)

    copies = [copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))]
    first, *others = at_once(train, estimator, *copies)
    assert all(np.array_equal(first, other) for other in others)
