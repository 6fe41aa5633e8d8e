"""Specification of the training net."""

import copy
import weakref
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import small
from scipy import sparse
from skorch import callbacks
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sklearn_classvsc import VSCTransformer
from sklearn_classvsc._data import ArrayDataset
from sklearn_classvsc._likelihoods import Gaussian
from sklearn_classvsc._modules import make_autoencoder
from sklearn_classvsc._net import (
    VSCNet,
    check_device,
    copy_of,
    divergence_error,
    learning_rate_factor,
)
from sklearn_classvsc._objective import PaperObjective, Weight

TERMS = {
    "reconstruction": Weight(1),
    "slab_kl": Weight(0.5),
    "usage": Weight(2, warmup=0.5),
    "information": Weight(3, warmup=0.5),
    "inconsistency": Weight(4, warmup=0.5, start=1),
    "consistency": Weight(5, warmup=1.0),
}


def make_dataset(n=50, p=4, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, size=n)
    weight = rng.exponential(size=n).astype(np.float32)
    return ArrayDataset(scale * rng.normal(size=(n, p)), labels, weight)


def make_net(seed=0, lr=1e-3, batch_size=16, **parameters):
    generator = torch.Generator().manual_seed(seed)
    module = make_autoencoder(
        4,
        encoder=None,
        decoder=None,
        hidden_layer_sizes=[8],
        activation="relu",
        likelihood=Gaussian(4),
        alpha=torch.full((3,), 0.2),
        prior_mean=0.0,
        gated=True,
        n_classes=3,
        generator=generator,
    )
    objective = PaperObjective(5.0)
    objective.weights = TERMS
    net = VSCNet(module, objective, generator, lr=lr, batch_size=batch_size, **parameters)
    return net.initialize()


def train(net, epochs=3, dataset=None, valid=None, patience=5, steps=None, **schedule):
    dataset = dataset or make_dataset()
    net.schedule(steps or epochs * -(-len(dataset) // net.batch_size), **schedule)
    return net.train(dataset, epochs, valid, patience)


def weights(net):
    return copy.deepcopy(net.module_.state_dict())


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def rows(net):
    return [{k: v for k, v in row.items() if k != "batches"} for row in net.history]


class Recorder(Callback):
    """Keeps what every step of training and validation produced, and the learning rates."""

    def __init__(self):
        self.steps, self.valid, self.rates, self.calls = [], [], [], []

    def on_batch_end(self, net, batch=None, training=False, **step):
        values = {name: term.item() for name, term in step["terms"].items()}
        values |= {"loss": step["loss"].item(), "weight": float(batch.weight.sum())}
        values["epoch"] = len(net.history)
        (self.steps if training else self.valid).append(values)
        if training:
            self.rates.append(net.optimizer_.param_groups[0]["lr"])

    def on_train_begin(self, net, **kwargs):
        self.calls.append("on_train_begin")

    def on_epoch_begin(self, net, **kwargs):
        self.calls.append("on_epoch_begin")

    def on_epoch_end(self, net, **kwargs):
        self.calls.append("on_epoch_end")

    def on_train_end(self, net, **kwargs):
        self.calls.append("on_train_end")


# History ---------------------------------------------------------------------------------------


def test_history_holds_the_loss_and_every_term_of_each_epoch():
    net = make_net()
    assert train(net, epochs=3) is None
    assert [row["epoch"] for row in net.history] == [1, 2, 3]
    for row in rows(net):
        assert row.keys() >= {"epoch", "train_loss", *TERMS}
        assert all(type(row[name]) is float for name in ("train_loss", *TERMS))


def test_history_holds_the_validation_too():
    net = make_net()
    train(net, valid=make_dataset(seed=1))
    for row in rows(net):
        assert row.keys() >= {"valid_loss", *(f"valid_{name}" for name in TERMS)}


def test_history_is_the_mean_over_the_samples_by_weight():
    recorder = Recorder()
    net = make_net(callbacks=[recorder])
    train(net, valid=make_dataset(30, seed=1))
    for steps, prefix in [(recorder.steps, ""), (recorder.valid, "valid_")]:
        for row in net.history:
            batches = [step for step in steps if step["epoch"] == row["epoch"]]
            assert len(batches) > 1
            weight = [step["weight"] for step in batches]
            for name in TERMS:
                mean = np.average([step[name] for step in batches], weights=weight)
                assert row[f"{prefix}{name}"] == pytest.approx(mean, rel=1e-5, abs=1e-6)
            mean = np.average([step["loss"] for step in batches], weights=weight)
            assert row[f"{prefix or 'train_'}loss"] == pytest.approx(mean, rel=1e-5)


def test_a_batch_and_its_reconstruction_are_gone_before_the_next_is_made():
    class Watcher(Callback):
        def __init__(self):
            self.seen, self.alive = [], []

        def on_batch_begin(self, net, batch=None, **kwargs):
            self.alive += [ref() for ref in self.seen]
            self.seen = [weakref.ref(batch.x)]

        def on_batch_end(self, net, y_pred=None, **kwargs):
            self.seen.append(weakref.ref(y_pred))

    watcher = Watcher()
    train(make_net(callbacks=[watcher]))
    assert watcher.seen
    assert not any(x is not None for x in watcher.alive)


def test_history_goes_on_when_training_does():
    net = make_net()
    train(net, epochs=2)
    train(net, epochs=3)
    assert [row["epoch"] for row in net.history] == [1, 2, 3, 4, 5]


def test_training_lowers_the_loss():
    dataset = make_dataset(200)
    dataset.X[:, 1:] = dataset.X[:, :1]
    net = make_net(lr=1e-2)
    train(net, epochs=15, dataset=dataset)
    assert net.history[-1, "reconstruction"] < net.history[0, "reconstruction"] - 0.5


def test_sparse_data_train_as_their_dense_form():
    dense, compressed = make_dataset(), make_dataset()
    compressed.X = sparse.csr_array(compressed.X)
    nets = make_net(), make_net()
    for net, dataset in zip(nets, (dense, compressed), strict=True):
        train(net, dataset=dataset)
    assert_same_weights(weights(nets[0]), weights(nets[1]))


# Randomness ------------------------------------------------------------------------------------


def test_the_same_generator_gives_the_same_weights():
    first, again, other = (make_net(seed) for seed in (0, 0, 1))
    for net in (first, again, other):
        train(net)
    assert_same_weights(weights(first), weights(again))
    assert rows(first) == rows(again)
    assert rows(first) != rows(other)


def test_training_leaves_the_global_random_states_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(make_net(), valid=make_dataset(seed=1))
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_validation_keeps_the_order_and_training_shuffles():
    net, labels = make_net(), np.arange(50)
    dataset = ArrayDataset(make_dataset().X, labels)
    seen = torch.cat([batch.labels for batch in net.get_iterator(dataset)])
    assert seen.tolist() == labels.tolist()
    shuffled = torch.cat([batch.labels for batch in net.get_iterator(dataset, training=True)])
    assert shuffled.tolist() != labels.tolist()
    assert sorted(shuffled.tolist()) == labels.tolist()


# Schedules -------------------------------------------------------------------------------------


def test_the_learning_rate_rises_then_falls_to_zero():
    progress = np.linspace(0, 1, 10_001)
    factor = np.array([learning_rate_factor(p) for p in progress])
    np.testing.assert_allclose(factor[0], 0.02)
    rising, falling = progress <= 0.048, progress >= 0.05
    assert (np.diff(factor[rising]) > 0).all()
    np.testing.assert_allclose(
        factor[falling], 0.5 * (1 + np.cos(np.pi * progress[falling])), atol=1e-15
    )
    assert factor.mean() == pytest.approx(0.5, abs=0.05)


def test_each_step_has_the_learning_rate_of_its_place_in_training():
    recorder = Recorder()
    train(make_net(lr=0.02, callbacks=[recorder]), epochs=5)
    expected = [0.02 * learning_rate_factor(step / 20) for step in range(20)]
    assert recorder.rates == pytest.approx(expected)


def test_without_decay_the_learning_rate_is_half_throughout():
    recorder = Recorder()
    train(make_net(lr=0.02, callbacks=[recorder]), epochs=5, decay=False)
    assert recorder.rates == pytest.approx([0.01] * 20)


def test_each_step_has_the_weights_of_its_place_in_training():
    recorder = Recorder()
    train(make_net(callbacks=[recorder]), epochs=5)
    assert len(recorder.steps) == 20
    for number, step in enumerate(recorder.steps):
        loss = sum(weight.at(number / 20) * step[name] for name, weight in TERMS.items())
        assert step["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("done", [3, 7, 100])
def test_past_its_plan_training_has_the_full_weights(done):
    recorder = Recorder()
    train(make_net(callbacks=[recorder]), epochs=2, steps=3, done=done, decay=False)
    for step in recorder.steps:
        loss = sum(weight.value * step[name] for name, weight in TERMS.items())
        assert step["loss"] == pytest.approx(loss, rel=1e-5)


def test_validation_has_the_full_weights_from_the_start():
    net = make_net()
    train(net, valid=make_dataset(seed=1))
    for row in net.history:
        loss = sum(weight.value * row[f"valid_{name}"] for name, weight in TERMS.items())
        assert row["valid_loss"] == pytest.approx(loss, rel=1e-5)


def test_validation_trains_nothing():
    net = make_net()
    before = weights(net)
    dataset = make_dataset()
    for batch in net.get_iterator(dataset):
        net._set_training(False)
        net.validation_step(batch)
    assert_same_weights(weights(net), before)


# Early stopping --------------------------------------------------------------------------------


class Snapshots(Callback):
    """Keeps the weights of every epoch."""

    def __init__(self):
        self.weights = []

    def on_epoch_end(self, net, **kwargs):
        self.weights.append(weights(net))


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping_restores_the_weights_of_the_best_epoch(patience):
    snapshots = Snapshots()
    net = make_net(lr=0.05, callbacks=[snapshots])
    stopped = train(net, 300, valid=make_dataset(30, seed=1), patience=patience, decay=False)
    losses = net.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert stopped == "early_stopping"
    assert len(losses) == best + 1 + patience < 300
    assert_same_weights(weights(net), snapshots.weights[best])


def test_the_best_weights_are_restored_without_an_early_stop_too():
    snapshots = Snapshots()
    net = make_net(lr=0.05, callbacks=[snapshots])
    assert train(net, 20, valid=make_dataset(30, seed=1), patience=100, decay=False) is None
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert best < 19
    assert_same_weights(weights(net), snapshots.weights[best])


def test_early_stopping_starts_afresh_with_each_training():
    net = make_net(lr=0.05)
    for _ in range(2):
        done = len(net.history)
        train(net, 300, valid=make_dataset(30, seed=1), patience=2, decay=False)
        losses = net.history[done:, "valid_loss"]
        assert len(losses) == int(np.argmin(losses)) + 3
    assert train(net, 2) is None
    assert "valid_loss" not in net.history[-1]


# A user's callbacks ----------------------------------------------------------------------------


def test_callbacks_are_told_of_every_event():
    recorder = Recorder()
    train(make_net(callbacks=[recorder]), epochs=2)
    epoch = ["on_epoch_begin", "on_epoch_end"]
    assert recorder.calls == ["on_train_begin", *epoch, *epoch, "on_train_end"]
    assert len(recorder.steps) == 8


def test_callbacks_have_names_or_not():
    unnamed, named = Recorder(), Recorder()
    train(make_net(callbacks=[unnamed, ("mine", named)]), epochs=2)
    assert unnamed.steps == named.steps


def test_clipping_gradients_works():
    class Norms(Callback):
        def __init__(self):
            self.norms = []

        def on_grad_computed(self, net, named_parameters, **kwargs):
            grads = [parameter.grad.flatten() for _, parameter in named_parameters]
            self.norms.append(float(torch.cat(grads).norm()))

    free, clipped = Norms(), Norms()
    train(make_net(callbacks=[free]))
    train(make_net(callbacks=[GradientNormClipping(1e-2), clipped]))
    assert max(free.norms) > 0.1
    assert clipped.norms == pytest.approx([1e-2] * len(clipped.norms), rel=1e-3)


def test_a_users_early_stopping_on_the_training_loss_stops():
    stopping = EarlyStopping(monitor="train_loss", patience=2, sink=lambda text: None)
    net = make_net(lr=0.05, callbacks=[stopping])
    assert train(net, 300, decay=False) == "callback"
    assert len(net.history) < 300


def test_a_callback_stops_training_by_a_keyboard_interrupt_at_the_end_of_an_epoch():
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    recorder = Recorder()
    net = make_net(callbacks=[recorder, Stop()])
    assert train(net, epochs=5) == "callback"
    assert len(net.history) == 2
    assert recorder.calls[-1] == "on_train_end"


@pytest.mark.parametrize("hook", ["on_batch_begin", "on_batch_end", "on_epoch_begin"])
def test_ctrl_c_is_passed_on(hook):
    def interrupt(self, net, **kwargs):
        raise KeyboardInterrupt

    net = make_net(callbacks=[type("CtrlC", (Callback,), {hook: interrupt})()])
    with pytest.raises(KeyboardInterrupt):
        train(net, valid=make_dataset(seed=1))


def test_an_error_in_a_callback_is_passed_on_and_training_can_go_on():
    class Fail(Callback):
        armed = True

        def on_batch_end(self, net, **kwargs):
            if self.armed:
                raise RuntimeError("mine")

    fail = Fail()
    net = make_net(callbacks=[fail])
    with pytest.raises(RuntimeError, match="mine"):
        train(net, valid=make_dataset(seed=1))
    fail.armed = False
    assert train(net, 2) is None
    assert "valid_loss" not in net.history[-1]


def score(*given, **also):
    return 1.0


UNFIT = [
    callbacks.BatchScoring(score),
    callbacks.Checkpoint(),
    callbacks.EpochScoring(score, use_caching=False, on_train=True),
    callbacks.InputShapeSetter(),
    callbacks.LRScheduler(),
    callbacks.LoadInitState(callbacks.Checkpoint()),
    callbacks.PassthroughScoring("train_loss"),
    callbacks.ProgressBar(),
    callbacks.TrainEndCheckpoint(),
]
FIT = [
    callbacks.EpochTimer(),
    callbacks.Freezer("encoder.*"),
    callbacks.Unfreezer("encoder.*"),
    callbacks.Initializer("decoder.*", fn=torch.nn.init.zeros_),
    callbacks.ParamMapper("encoder.*", fn=lambda parameter: None),
    callbacks.GradientNormClipping(1.0),
    callbacks.PrintLog(sink=lambda text: None),
    callbacks.TensorBoard(Mock()),
    callbacks.SacredLogger(Mock()),
    callbacks.WandbLogger(Mock(), save_model=False),
    callbacks.MlflowLogger(Mock(), Mock(), create_artifact=False),
    Callback(),
]


@pytest.mark.parametrize("callback", UNFIT, ids=lambda x: type(x).__name__)
def test_callbacks_that_cannot_work_are_refused_by_name_before_training(callback, tmp_path):
    X, name = np.ones((10, 3)), type(callback).__name__
    heir = type("Heir", (type(callback),), {})
    for item in (callback, type(callback), ("mine", callback), heir):
        est = small(VSCTransformer, callbacks=[Callback(), item])
        named = "Heir" if item is heir else name
        for method in (est.fit, est.partial_fit):
            with pytest.raises(ValueError, match=f"callbacks holds {named}, which cannot .*: .*"):
                method(X)
        assert not hasattr(est, "module_")


@pytest.mark.parametrize(
    ("callback", "advice"),
    [
        (callbacks.WandbLogger(Mock()), "save_model=True.*set save_model=False"),
        (callbacks.MlflowLogger(Mock(), Mock()), "create_artifact=True.*create_artifact=False"),
        (callbacks.SacredLogger(Mock(), log_on_batch_end=True), "set log_on_batch_end=False"),
        (callbacks.EarlyStopping(), "monitor='valid_loss'.*early_stopping=True"),
        (callbacks.EarlyStopping, "monitor='valid_loss'.*early_stopping=True"),
    ],
)
def test_settings_of_callbacks_that_cannot_work_are_refused_before_training(callback, advice):
    est = small(VSCTransformer, callbacks=[callback])
    with pytest.raises(ValueError, match=advice):
        est.fit(np.ones((10, 3)))
    assert not hasattr(est, "module_")


@pytest.mark.parametrize("callback", FIT, ids=lambda x: type(x).__name__)
def test_callbacks_that_work_are_called(callback, tmp_path):
    calls = []

    class Follows(type(callback)):
        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net, **kwargs)
            calls.append(dict(net.history[-1]))

    callback.__class__ = Follows
    X = np.random.default_rng(0).normal(size=(20, 3))
    est = small(VSCTransformer, callbacks=[callback]).fit(X)
    assert [row["epoch"] for row in calls] == [1, 2, 3]
    assert ("dur" in est.history_) == isinstance(callback, callbacks.EpochTimer)
    est.set_params(callbacks=None).save(tmp_path / "model")
    loaded = VSCTransformer.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.transform(X), est.transform(X))
    assert np.isfinite(loaded.partial_fit(X).transform(X)).all()


@pytest.mark.parametrize(
    ("monitor", "early_stopping"), [("train_loss", False), ("valid_loss", True)]
)
def test_skorchs_early_stopping_stops_on_the_loss(monitor, early_stopping):
    stopping = callbacks.EarlyStopping(monitor, patience=1, threshold=10, sink=lambda text: None)
    X = np.random.default_rng(0).normal(size=(20, 3))
    est = small(VSCTransformer, callbacks=[stopping], early_stopping=early_stopping).fit(X)
    assert est.stop_reason_ == "callback" and est.n_iter_ == 2


# Output ----------------------------------------------------------------------------------------


def test_silence_at_verbose_0(capfd, recwarn):
    train(make_net(verbose=0), valid=make_dataset(seed=1), patience=1, epochs=10)
    assert capfd.readouterr() == ("", "")
    assert not recwarn


def test_a_progress_bar_with_the_loss_at_verbose_1(capfd):
    train(make_net(verbose=1), epochs=3, valid=make_dataset(seed=1))
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "loss=" in err


def test_the_progress_bar_is_closed_after_an_error(capfd):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError

    net = make_net(verbose=1, callbacks=[Fail()])
    with pytest.raises(RuntimeError):
        train(net)
    assert capfd.readouterr().err.endswith("\n")


# Divergence ------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_scale_and_learning_rate():
    dataset = make_dataset(scale=1e30)
    scale = f"{abs(dataset.X).max():.3g}"
    with pytest.raises(FloatingPointError, match="in epoch 1") as caught:
        train(make_net(lr=0.123), dataset=dataset)
    assert scale in str(caught.value)
    assert "learning_rate=0.123" in str(caught.value)


def test_a_validation_loss_that_is_not_finite_raises_too():
    with pytest.raises(FloatingPointError, match="in epoch 1"):
        train(make_net(), valid=make_dataset(scale=1e30))


def test_the_error_names_the_scale_of_sparse_data():
    X = sparse.csr_array(np.array([[0.0, -3e20], [1.0, 0.0]]))
    assert "3e+20" in str(divergence_error(float(abs(X).max()), 0.1, "now"))


# State -----------------------------------------------------------------------------------------


def plain(tree):
    """Whether nested dicts and lists hold NumPy arrays and primitives only."""
    if isinstance(tree, dict):
        return all(type(key) in (str, int) and plain(value) for key, value in tree.items())
    if isinstance(tree, list | tuple):
        return all(map(plain, tree))
    return tree is None or type(tree) in (np.ndarray, bool, int, float, str)


def test_state_is_made_of_arrays_and_primitives():
    net = make_net()
    assert plain(net.state())
    train(net, valid=make_dataset(seed=1))
    assert plain(net.state())


@pytest.mark.parametrize("first", [0, 2])
def test_training_continues_identically_from_a_state(first):
    net, copied = make_net(seed=0), make_net(seed=99)
    net.schedule(5 * 4)
    if first:
        net.train(make_dataset(), first, None, 5)
    copied.load_state(net.state())
    for each in (net, copied):
        each.train(make_dataset(), 5 - first, None, 5)
    assert_same_weights(weights(net), weights(copied))
    assert rows(net) == rows(copied)
    assert len(copied.history) == 5


def test_a_state_is_a_snapshot():
    net = make_net()
    train(net)
    state = net.state()
    kept = copy.deepcopy(state)
    train(net)
    np.testing.assert_equal(state, kept)
    other = make_net(seed=99)
    other.load_state(state)
    train(other)
    np.testing.assert_equal(state, kept)


def test_a_state_may_be_loaded_twice():
    net = make_net()
    train(net)
    state, results = net.state(), []
    for _ in range(2):
        net.load_state(state)
        train(net)
        results.append((weights(net), rows(net)))
    assert_same_weights(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_weights_may_be_loaded_alone():
    net, other = make_net(), make_net(seed=99)
    train(net)
    other.load_weights(net.state())
    assert_same_weights(weights(other), weights(net))
    assert len(other.history) == 0


def test_a_copy_goes_on_as_the_net_would_and_leaves_it_as_it_is():
    net = make_net()
    train(net, epochs=2, steps=20)
    state = copy.deepcopy(net.state())
    twin = net.copy()
    np.testing.assert_equal(twin.state(), state)
    twin.train(make_dataset(), 3, None, 5)
    np.testing.assert_equal(net.state(), state)
    net.train(make_dataset(), 3, None, 5)
    np.testing.assert_equal(net.state(), twin.state())


class Own(nn.Module):
    """A module whose attributes are not all modules and parameters, and may be each other."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 3), nn.Sequential())
        self.tied = weight_norm(nn.Linear(3, 3))
        self.tied.bias = self.first[0].bias
        self.first[0].weight.requires_grad_(False)
        self.seen, self.parts = [], (self.first, self.tied)
        self.first.register_forward_hook(self.note)
        self.nothing = None

    def note(self, module, args, out):
        self.seen.append(len(out))

    def forward(self, x):
        return self.tied(self.first(x))


@pytest.mark.parametrize("wrap", [lambda m: m, nn.Sequential], ids=["own", "within"])
def test_a_copied_module_is_the_module_and_shares_nothing_with_it(wrap):
    module = wrap(Own())
    twin, x = copy_of(module), torch.ones(2, 3)
    assert torch.equal(twin(x), module(x))
    pairs = list(zip(twin.state_dict().values(), module.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)
    of = [(p.requires_grad, p.shape) for p in module.parameters()]
    assert [(p.requires_grad, p.shape) for p in twin.parameters()] == of
    own = next(part for part in twin.modules() if isinstance(part, Own))
    assert own.parts == (own.first, own.tied) and own.tied.bias is own.first[0].bias
    assert own.seen == [2]


def test_a_module_with_a_way_of_its_own_to_be_copied_has_it():
    """An LSTM knows its weights by weak references too."""
    twin = copy_of(nn.Sequential(nn.LSTM(2, 2)))[0]
    assert all(a() is b for a, b in zip(twin._flat_weight_refs, twin.parameters(), strict=True))


# Device ----------------------------------------------------------------------------------------


def test_the_processor_is_a_device():
    assert check_device("cpu") == "cpu"


@pytest.mark.parametrize(
    "device",
    [
        "gpu",
        "",
        "CPU",
        "cuda:99",
        "xla",
        "cpu:-1",
        "meta",
        "hpu",
    ],
)
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ValueError, match=rf"device='{device}' cannot be used .*such as 'cpu'"):
        check_device(device)
