"""Specification of model files: exact round trips, refusals, atomic writes, hostile files."""

import contextlib
import html
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from helpers import covering
from hostile_files import (
    CRAFTED,
    DATA,
    HEAVY,
    HTML,
    NOT_FILES,
    PARAMETERS,
    damage,
    forge,
    lie,
    on_tensors,
    parse,
    payloads,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._classes import Labels
from sklearn_classvsc._files import HEADER_LIMIT, ModelFileError
from sklearn_classvsc._persistence import SCHEMA_VERSION, load
from sklearn_classvsc.bodies import ConvDecoder, ConvEncoder, ResidualMLP

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
TINY = PARAMETERS
X, Y = DATA
IMAGE = (1, 4, 6)
PIXELS = np.random.default_rng(0).random((40, 24)), Y


@pytest.fixture(scope="module")
def model():
    return ClassVSCTransformer(**TINY).fit(X, Y)


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


def round_trip(estimator, folder):
    estimator.save(folder / "m")
    return load(folder / "m", type(estimator))


def assert_same(one, two, X=X):
    assert type(one) is type(two)
    np.testing.assert_equal(one.get_params(), two.get_params())
    np.testing.assert_equal(one.__getstate__(), two.__getstate__())
    for name in ("transform", "activation_proba", "score_samples"):
        np.testing.assert_array_equal(getattr(one, name)(X), getattr(two, name)(X), strict=True)
    Z = one.transform(X)
    np.testing.assert_array_equal(one.inverse_transform(Z), two.inverse_transform(Z), strict=True)
    pd.testing.assert_frame_equal(one.history_, two.history_)


# Round trips -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "data"), covering(ESTIMATORS, ["gaussian", "float32", "bernoulli"])
)
def test_a_loaded_model_is_the_saved_one_and_continues_identically(cls, data, tmp_path):
    samples = {"gaussian": X, "float32": X.astype("f4"), "bernoulli": (X > X.mean(0)) * 1.0}[data]
    estimator = cls(**TINY).fit(samples, Y)
    loaded = round_trip(estimator, tmp_path)
    assert_same(estimator, loaded, samples)
    for _ in range(2):
        assert_same(
            estimator.partial_fit(samples, Y),
            round_trip(loaded.partial_fit(samples, Y), tmp_path),
            samples,
        )
    assert_same(clone(estimator).fit(samples, Y), clone(loaded).fit(samples, Y), samples)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["été", "b", "", "d"]),
        np.array(["x", "yy", 'z"', "\\"], object),
        np.array(["a", "b", "c", "d"], "U40"),
        np.array([-3, 0, 7, 2**40]),
        np.array([0, 1, 2, 3], np.uint8),
        np.array([0.0, 1.0, 2.0, 3.0]),
        np.array([False, True, False, True]),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_come_back_with_their_dtype(labels, tmp_path):
    estimator = ClassVSCTransformer(**TINY).fit(X, labels[Y])
    loaded = round_trip(estimator, tmp_path)
    np.testing.assert_array_equal(loaded.classes_, estimator.classes_, strict=True)
    assert_same(estimator.partial_fit(X, labels[Y]), loaded.partial_fit(X, labels[Y]))


def test_feature_names_come_back(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "ß", "c d", "e/f", "$"])
    estimator = VSCTransformer(**TINY).fit(frame)
    loaded = round_trip(estimator, tmp_path)
    np.testing.assert_array_equal(
        loaded.feature_names_in_, estimator.feature_names_in_, strict=True
    )
    assert_same(estimator, loaded, frame)
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame.rename(columns={"a": "b"}))


def test_parameters_of_every_kind_of_data_come_back(tmp_path):
    params = TINY | {
        "alpha": np.array([0.1, 0.2, 0.3]),
        "hidden_layer_sizes": [4, 3],
        "learning_rate": np.float32(1e-3),
        "n_components": np.int64(3),
        "early_stopping": True,
        "callbacks": [],
        "random_state": np.int32(3),
    }
    estimator = VSCTransformer(**params).fit(X)
    loaded = round_trip(estimator, tmp_path)
    for name, value in estimator.get_params().items():
        assert type(loaded.get_params()[name]) is type(value), name
    assert_same(estimator.partial_fit(X), loaded.partial_fit(X))


def test_parameters_set_since_the_fit_come_back_with_the_model_fitted_before(tmp_path):
    estimator = VSCTransformer(**TINY).fit(X)
    assert_same(
        estimator.set_params(n_components=7, threshold=0.3), round_trip(estimator, tmp_path)
    )


BODIES = [
    {
        "encoder": ConvEncoder(IMAGE, channels=(3, 4)),
        "decoder": ConvDecoder(IMAGE, channels=[3, 4]),
    },
    {"encoder": ResidualMLP(5), "decoder": None, "hidden_layer_sizes": (4, 4)},
    {"encoder": None, "decoder": ConvDecoder(np.array(IMAGE), channels=np.array([3]))},
    # Wider than the whole file, and not used.
    {"encoder": ResidualMLP(2), "decoder": ResidualMLP(2), "hidden_layer_sizes": (10_000, 10_000)},
]


@pytest.mark.parametrize(("bodies", "cls"), covering(BODIES, ESTIMATORS))
def test_bodies_of_the_package_come_back_with_their_weights(cls, bodies, tmp_path):
    X, Y = PIXELS
    estimator = cls(**TINY | bodies).fit(X, Y)
    loaded = round_trip(estimator, tmp_path)
    assert loaded.encoder == bodies["encoder"] and loaded.decoder == bodies["decoder"]
    assert_same(estimator, loaded, X)
    assert_same(estimator.partial_fit(X, Y), loaded.partial_fit(X, Y), X)


def test_a_model_of_partial_fit_or_from_a_pickle_is_saved_like_any(tmp_path):
    estimator = VSCTransformer(**TINY).partial_fit(X[:20])
    unpickled = pickle.loads(pickle.dumps(estimator))
    loaded = round_trip(unpickled, tmp_path)
    assert_same(estimator, loaded)
    assert_same(estimator.partial_fit(X), loaded.partial_fit(X))


def test_histories_of_unlike_epochs_come_back(tmp_path):
    estimator = VSCTransformer(**TINY, warm_start=True).fit(X)
    estimator.set_params(early_stopping=True).fit(X)  # from here on with a loss on held-out data
    assert estimator.history_.isna().any(axis=None)
    assert_same(estimator, round_trip(estimator, tmp_path))


def test_half_a_surrogate_in_a_label_or_name_comes_back(tmp_path):
    frame = pd.DataFrame(X, columns=pd.Index(["a", "\ud800", "\udfff b", "", "e"], dtype=object))
    for labels in (np.array(["\ud83d", "b", "c", "d"], object), np.array(["\udcff", *"bcd"])):
        estimator = ClassVSCTransformer(**TINY).fit(frame, labels[Y])
        loaded = round_trip(estimator, tmp_path)
        np.testing.assert_array_equal(loaded.classes_, estimator.classes_, strict=True)
        assert_same(estimator, loaded, frame)


def test_what_set_output_sets_comes_back_and_attributes_of_the_user_s_own_do_not(tmp_path):
    estimator = VSCTransformer(**TINY).fit(X).set_output(transform="pandas")
    estimator.note = "mine"
    loaded = round_trip(estimator, tmp_path)
    assert isinstance(loaded.transform(X), pd.DataFrame) and not hasattr(loaded, "note")


def test_saving_twice_gives_the_same_bytes_and_changes_nothing(model, content, tmp_path):
    round_trip(model, tmp_path).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content


def test_a_package_that_is_on_the_path_but_not_installed_saves(tmp_path):
    """As where a cluster's workers get its sources as an archive."""
    code = """
import importlib.metadata as metadata
def missing(name):
    raise metadata.PackageNotFoundError(name)
metadata.version, found = missing, metadata.version
from sklearn_classvsc import VAETransformer, _persistence
metadata.version = found
VAETransformer(2, max_epochs=1).fit([[0.0], [1.0], [2.0]]).save("model")
VAETransformer.load("model")
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_other_tools_read_the_tensors(model, content):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load(content)
    for name, value in model.module_.state_dict().items():
        np.testing.assert_array_equal(tensors[f"_pending_state/module/{name}"], value)


def _pickle(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def _joblib(estimator, folder):
    joblib.dump(estimator, folder / "m", compress=3)
    return joblib.load(folder / "m")


def _skops(estimator, folder):
    skops = pytest.importorskip("skops.io")
    skops.dump(estimator, folder / "m")
    untrusted = skops.get_untrusted_types(file=folder / "m")
    assert all(name.startswith("sklearn_classvsc.") for name in untrusted)
    return skops.load(folder / "m", trusted=untrusted)


@pytest.mark.parametrize(
    ("copy", "cls"), covering([round_trip, _pickle, _joblib, _skops], ESTIMATORS)
)
def test_a_chain_of_copies_stays_the_model_while_it_learns(cls, copy, tmp_path):
    names = np.array(["b", "ä", "", "cc"])[Y]
    one = two = cls(**TINY).partial_fit(X, names)
    for _ in range(4):
        two = copy(two, tmp_path)
        assert_same(one, two)
        assert_same(copy(one, tmp_path).partial_fit(X, names), two.partial_fit(X, names))
        one = copy(two, tmp_path)


# Files of earlier versions ---------------------------------------------------------------------

MODELS = sorted((Path(__file__).parent / "models").glob("*.safetensors"))


def test_every_schema_version_has_its_files():
    """`python tests/models/make_models.py` writes those of the current one."""
    kept = {path.name.split("_")[0] for path in MODELS}
    assert kept == {f"v{version}" for version in range(1, SCHEMA_VERSION + 1)}


def _kept(path):
    """Return a kept model, and what it was asked and gave when it was saved."""
    cls = dict(zip(("vae", "vsc", "class"), ESTIMATORS, strict=True))[path.stem.split("_")[1]]
    return cls.load(path), dict(np.load(path.with_suffix(".npz")))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_nothing_is_warned_of_when_a_model_is_loaded(path):
    _kept(path)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_that_were_kept_give_the_same_codes(path):
    model, expected = _kept(path)
    X, Z = expected["X"], model.transform(expected["X"])
    for name, found in {
        "Z": Z.toarray() if model.sparse_output else Z,
        "gamma": model.activation_proba(X),
        "score": model.score_samples(X),
        "X_hat": model.inverse_transform(Z),
    }.items():
        unit, atol = 1.0, 1e-5
        if name == "X_hat":  # whose columns differ by 1e6, and have seven digits each
            unit, atol = abs(expected[name]).max(0) + np.finfo(np.float32).tiny, 1e-6
        np.testing.assert_allclose(
            found / unit, expected[name] / unit, rtol=1e-4, atol=atol, err_msg=name
        )
        assert found.dtype == expected[name].dtype


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_that_were_kept_go_on_learning(path, tmp_path):
    model, expected = _kept(path)
    X, y, epochs = expected["X"], expected.get("y"), model.n_iter_
    if y is not None:
        y = y.astype(model.classes_.dtype)
    steps = model.__getstate__()["_pending_state"]["optimizer"]["state"][0]["step"]
    model.partial_fit(X, y)
    assert model.n_iter_ == epochs + 1 and len(model.history_) == epochs + 1
    assert model.__getstate__()["_pending_state"]["optimizer"]["state"][0]["step"] == steps + 3
    codes = model.activation_proba(X), model.score_samples(X)
    assert all(np.isfinite(array).all() for array in codes)
    np.testing.assert_allclose(codes[1].mean(), expected["score"].mean(), rtol=1)
    again = round_trip(model, tmp_path)
    np.testing.assert_array_equal(again.score_samples(X), codes[1])


@pytest.mark.parametrize("way", ["file", "pickle"])
def test_parameters_of_earlier_versions_load(way, model, content, tmp_path):
    """Those that are gone are left out, and what was not there yet is as fits went then."""
    gone = {"bins": None, "checkpoint": "fit", "covariance_weight": 0.0, "precision": "bfloat16"}

    def as_then(params):
        del params["rotation"]
        params |= gone

    if way == "file":
        path = tmp_path / "m"
        path.write_bytes(forge(content, lambda metadata, *rest: as_then(metadata["params"])))
        again = ClassVSCTransformer.load(path)
    else:
        as_then(state := model.__getstate__())
        again = ClassVSCTransformer.__new__(ClassVSCTransformer)
        again.__setstate__(state)
    changed = {"rotation": None, "device": "cpu+bfloat16"}
    np.testing.assert_equal(again.get_params(), model.get_params() | changed)
    assert not gone.keys() & vars(again).keys()
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    clone(again).fit(X, Y)


# Refusals at save ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "advice"),
    [
        ({"encoder": nn.Linear(5, 4)}, "encoder=.*joblib"),
        ({"decoder": nn.Sequential(nn.Linear(3, 4))}, "decoder=.*joblib"),
        ({"callbacks": [Callback()]}, r"callbacks=.*set_params\(callbacks=None\)"),
        ({"random_state": np.random.RandomState(0)}, r"random_state=.*set_params\(random_state"),
        ({"alpha": pd.Series([0.1, 0.2, 0.3])}, "params/alpha .Series"),
        ({"hidden_layer_sizes": range(4, 5)}, "params/hidden_layer_sizes .range"),
    ],
)
def test_what_is_not_data_is_refused_by_name_with_what_to_do(params, advice, tmp_path):
    estimator = VSCTransformer(**TINY | params).fit(X)
    with pytest.raises(ValueError, match=advice):
        estimator.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_weights_of_a_user_s_module_are_refused_even_once_the_parameter_is_reset(tmp_path):
    estimator = VSCTransformer(**TINY, encoder=nn.Linear(5, 4)).fit(X).set_params(encoder=None)
    with pytest.raises(ValueError, match=r"encoder=.*retrain"):
        estimator.save(tmp_path / "m")


def test_labels_that_json_cannot_hold_are_refused_by_name(tmp_path):
    days = np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    estimator = ClassVSCTransformer(**TINY).fit(X, Y)
    estimator._fitted.model.labels = Labels(days)
    with pytest.raises(ValueError, match=r"classes_ .*datetime64"):
        estimator.save(tmp_path / "m")


def test_an_unfitted_model_and_a_user_s_class_are_refused(tmp_path):
    class Own(VSCTransformer):
        pass

    with pytest.raises(NotFittedError):
        VSCTransformer().save(tmp_path / "m")
    own = Own.__new__(Own)
    own.__setstate__(VSCTransformer(**TINY).fit(X).__getstate__())
    with pytest.raises(ValueError, match="Own"):
        own.save(tmp_path / "m")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    estimator = VSCTransformer(**TINY).fit(X)
    next(estimator.net_.module_.parameters()).data.fill_(np.nan)
    with pytest.raises(ValueError, match="not finite"):
        estimator.save(tmp_path / "m")


# Atomic writes ---------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(model, tmp_path):
    resource = pytest.importorskip("resource")
    (tmp_path / "m").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            model.save(tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "m").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


def test_a_directory_that_takes_no_files_raises(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "none" / "m")
    with pytest.raises(OSError, match="not a regular file"):
        model.save(tmp_path)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            model.save(tmp_path / "m")


# Damaged and hostile files ---------------------------------------------------------------------


def refused(data, folder, match=None, cls=ClassVSCTransformer):
    """Load `data`, which must raise the one exception, naming the path."""
    path = folder / "hostile"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=match) as caught:
        load(path, cls)
    message = str(caught.value)
    assert message.startswith(f"{path}: found ") and "; expected " in message
    assert len(message) < 2500


@contextlib.contextmanager
def little_memory():
    """Check that a block takes less than 100 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_a_forged_file_that_changes_nothing_loads(model, content, tmp_path):
    for change in (lambda *parts: None, on_tensors(lambda *parts: None)):
        (tmp_path / "m").write_bytes(forge(content, change))
        assert_same(load(tmp_path / "m", ClassVSCTransformer), model)


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_refused_for_what_is_wrong_with_it(name, content, tmp_path):
    change, match = CRAFTED[name]
    forged = forge(content, change)
    with little_memory():
        refused(forged, tmp_path, match)


def test_text_in_a_file_is_escaped_where_the_estimator_is_displayed(content, tmp_path):
    def change(metadata, header, data):
        metadata["params"] |= dict.fromkeys(("device", "unlabeled", "likelihood"), HTML)
        metadata["params"] |= {"likelihood": "auto", "hidden_layer_sizes": [HTML]}

    (tmp_path / "m").write_bytes(forge(content, change))
    loaded = load(tmp_path / "m", ClassVSCTransformer)
    shown = loaded._repr_html_() + make_pipeline(StandardScaler(), loaded)._repr_html_()
    assert HTML not in shown and html.escape(HTML) in shown


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    """Return a file whose encoder is a recipe."""
    path = tmp_path_factory.mktemp("bodies") / "model.safetensors"
    ClassVSCTransformer(**TINY | BODIES[0]).fit(*PIXELS).save(path)
    return path.read_bytes()


LIES_ON_BODIES = {
    "no such class": ({"of": "Dense"}, "a body of class 'Dense'"),
    "class of the system": ({"of": "os.system"}, "a body of class 'os.system'"),
    "wide": ({"params": {"channels": [10**7]}}, "numbers, but"),
    "an array": ({"params": {"channels": {"$": "array", "tensor": "n_iter"}}}, "no tensor"),
    "huge": ({"params": {"channels": [10**40]}}, "numbers, but"),
    "negative": ({"params": {"channels": [-3]}}, "positive"),
    "more weights than the file": ({"params": {"channels": [3000, 3000]}}, "fit in the file"),
    "other weights": ({"params": {"channels": [4, 4]}}, r"encoder\.1\.bias"),
    "other depth": ({"params": {"channels": [3]}}, None),
    "deep": ({"params": {"channels": [1] * 10**5}}, "too small"),
    "other images": ({"params": {"image_shape": [1, 28, 28]}}, "784 features"),
    "huge images": ({"params": {"image_shape": [1, 10**9, 10**9]}}, "numbers, but"),
    "unknown parameter": ({"params": {"build": 1}}, "build"),
    "another recipe": ({"of": "ResidualMLP", "params": {"width": 10**5}}, "fit in the file"),
    "endless": ({"of": "ResidualMLP", "params": {"n_blocks": 10**9}}, "'n_blocks'"),
    "many blocks": ({"of": "ResidualMLP", "params": {"n_blocks": 1000}}, "fit in the file"),
}


@pytest.mark.parametrize("name", LIES_ON_BODIES)
def test_a_lie_on_a_body_is_refused_before_memory_is_taken(name, convolutional, tmp_path):
    lie, match = LIES_ON_BODIES[name]

    def change(metadata, header, data):
        encoder = metadata["state"]["_architecture"]["encoder"]
        own = {} if lie.get("of") == "ResidualMLP" else encoder["params"]
        encoder |= lie | {"params": own | lie.get("params", {})}

    with little_memory():
        refused(forge(convolutional, change), tmp_path, match)


def test_a_body_in_another_place_is_refused(convolutional, tmp_path):
    def change(metadata, header, data):
        metadata["params"]["callbacks"] = metadata["params"]["encoder"]

    refused(forge(convolutional, change), tmp_path, "callbacks")


@pytest.mark.parametrize("key", ["_architecture", "_pending_state", "n_features_in_", "classes_"])
def test_a_state_without_what_a_model_needs_is_refused(key, content, tmp_path):
    def change(metadata, header, data):
        """Keep the tensors, under another name, so that nothing else is wrong."""
        metadata["state"][f"other{key}"] = metadata["state"].pop(key)

    refused(forge(content, change), tmp_path)


@pytest.mark.parametrize("name", NOT_FILES)
def test_what_is_no_model_file_is_refused(name, tmp_path):
    refused(NOT_FILES[name], tmp_path)


def test_pickles_are_refused_and_not_run(tmp_path):
    files = payloads(tmp_path / "canary")
    for data in files.values():
        refused(data, tmp_path)
    assert os.listdir(tmp_path) == ["hostile"]
    pickle.loads(files["pickle 5"])  # the canary is alive
    assert (tmp_path / "canary").is_dir()


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none", VAETransformer)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for link in ("dangling", "loop"):
        with pytest.raises(OSError, match=link):
            load(tmp_path / link, VAETransformer)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelFileError, match="regular file"):
            load(path, VAETransformer)
    with pytest.raises(ModelFileError, match="null"):
        load("a\0b", VAETransformer)


@pytest.mark.parametrize(
    ("cls", "other"), zip(ESTIMATORS, [*ESTIMATORS[1:], ESTIMATORS[0]], strict=True)
)
def test_a_model_of_another_class_is_refused_naming_both(cls, other, tmp_path):
    cls(**TINY).fit(X, Y).save(tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    refused(data, tmp_path, rf"'{cls.__name__}'; expected {other.__name__}\.", other)


def test_a_file_cut_anywhere_is_refused(content, tmp_path):
    _, _, n = parse(content)
    for size in [1, 7, 8, 9, n, n + 7, n + 8, n + 9, *range(50, len(content), 997)]:
        refused(content[:size], tmp_path)
    refused(content[:-1], tmp_path)


def test_a_flipped_bit_anywhere_is_refused(content, tmp_path):
    for i in [*range(120), *range(120, len(content), 61)]:
        flipped = bytearray(content)
        flipped[i] ^= 1 << (i % 8)
        refused(bytes(flipped), tmp_path)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_mutation_is_refused(content, tmp_path, data):
    begin = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 40))
    new = data.draw(st.binary(max_size=40))
    mutated = content[:begin] + new + content[begin + length :]
    if mutated != content:
        refused(mutated, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_every_kind_is_refused(seed, content, tmp_path):
    rng = np.random.default_rng(seed)
    for damaged in [damage(content, rng) for _ in range(20)]:
        if damaged != content:
            refused(damaged, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_a_lie_is_refused_or_makes_a_model_that_does_no_harm(seed, content, tmp_path):
    """What passes every check is data: at worst of a model that computes nonsense."""
    rng = np.random.default_rng(seed)
    n_refused = 0
    for _ in range(20):
        (tmp_path / "m").write_bytes(lie(content, rng))
        try:
            loaded = load(tmp_path / "m", ClassVSCTransformer)
        except ModelFileError:
            n_refused += 1
            continue
        with contextlib.suppress(ValueError, FloatingPointError):
            assert loaded.transform(X).shape == (40, 3)
            loaded.partial_fit(X, Y)
    assert n_refused > 5


@pytest.mark.parametrize("name", HEAVY)
def test_a_huge_file_is_refused_within_little_memory(name, tmp_path):
    path = tmp_path / "hostile"
    with open(path, "wb") as file:
        file.write(len(HEAVY[name]).to_bytes(8, "little") + HEAVY[name])
        file.truncate(2**36)  # sparse: it takes no room on the disk
    with little_memory(), pytest.raises(ModelFileError):
        load(path, VAETransformer)


def test_names_that_fill_more_than_a_header_come_back(tmp_path):
    names = np.array([f"{i}" + "name" * HEADER_LIMIT for i in range(5)], object)
    estimator = VAETransformer(**TINY).fit(pd.DataFrame(X, columns=names))
    np.testing.assert_array_equal(round_trip(estimator, tmp_path).feature_names_in_, names)
