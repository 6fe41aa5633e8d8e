"""Specification of model files: exact round trips, refusals, atomic writes, hostile files."""

import hashlib
import json
import os
import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn

from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._persistence import HEADER_LIMIT, PREFIX, ModelFileError, load, save

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")
TINY = {"n_components": 3, "hidden_layer_sizes": (4,), "max_epochs": 2, "random_state": 0}
ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
rng = np.random.default_rng(0)
X = rng.normal(size=(40, 5)) * [1, 10, 1e3, 1e-3, 1] + [0, 1e6, 0, 0, 1]
Y = np.arange(40) % 4


@pytest.fixture(scope="module")
def model():
    return ClassVSCTransformer(**TINY).fit(X, Y)


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(model, path)
    return path.read_bytes()


def round_trip(estimator, folder):
    save(estimator, folder / "m")
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


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("data", ["gaussian", "float32", "bernoulli"])
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


def test_saving_twice_gives_the_same_bytes_and_changes_nothing(model, content, tmp_path):
    save(round_trip(model, tmp_path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content


def test_other_tools_read_the_tensors(model, content):
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load(content)
    for name, value in model.module_.state_dict().items():
        np.testing.assert_array_equal(tensors[f"_pending_state/module/{name}"], value)


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
        save(estimator, tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_weights_of_a_user_s_module_are_refused_even_once_the_parameter_is_reset(tmp_path):
    estimator = VSCTransformer(**TINY, encoder=nn.Linear(5, 4)).fit(X).set_params(encoder=None)
    with pytest.raises(ValueError, match=r"encoder=.*retrain"):
        save(estimator, tmp_path / "m")


def test_labels_that_json_cannot_hold_are_refused_by_name(tmp_path):
    days = np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    estimator = ClassVSCTransformer(**TINY).fit(X, Y)
    estimator.classes_ = days
    with pytest.raises(ValueError, match=r"classes_ .*datetime64"):
        save(estimator, tmp_path / "m")


def test_an_unfitted_model_and_a_user_s_class_are_refused(tmp_path):
    class Own(VSCTransformer):
        pass

    with pytest.raises(NotFittedError):
        save(VSCTransformer(), tmp_path / "m")
    own = Own.__new__(Own)
    own.__setstate__(VSCTransformer(**TINY).fit(X).__getstate__())
    with pytest.raises(ValueError, match="Own"):
        save(own, tmp_path / "m")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    estimator = VSCTransformer(**TINY).fit(X)
    next(estimator.net_.module_.parameters()).data.fill_(np.nan)
    with pytest.raises(ValueError, match="not finite"):
        save(estimator, tmp_path / "m")


# Atomic writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    model, tmp_path, monkeypatch, call, error
):
    def fail(*args):
        raise error

    (tmp_path / "m").write_bytes(b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        save(model, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


def test_a_full_disk_leaves_the_old_file(model, tmp_path):
    resource = pytest.importorskip("resource")
    (tmp_path / "m").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            save(model, tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "m").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m"]


def test_a_directory_that_takes_no_files_raises(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        save(model, tmp_path / "none" / "m")
    with pytest.raises(OSError, match="not a regular file"):
        save(model, tmp_path)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError):
            save(model, tmp_path / "m")


def test_a_symbolic_link_stays_one(model, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "m")
    save(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert_same(load(tmp_path / "link", ClassVSCTransformer), model)


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


def parse(content):
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    metadata = header.pop("__metadata__")
    return {k: json.loads(v) if v[0] == "{" else v for k, v in metadata.items()}, header, n


def forge(content, change):
    """Let `change` edit a file's metadata, header and data, and make the hash right again."""
    metadata, header, n = parse(content)
    data = bytearray(content[8 + n :])
    data = change(metadata, header, data) or data
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    metadata["sha256"] = ""
    text = json.dumps({"__metadata__": {"sha256": ""} | metadata} | header).encode()
    digest = hashlib.sha256(text + data).hexdigest().encode()
    text = PREFIX + digest + text[len(PREFIX) :]
    return len(text).to_bytes(8, "little") + text + data


def test_a_forged_file_that_changes_nothing_loads(model, content, tmp_path):
    (tmp_path / "m").write_bytes(forge(content, lambda *parts: None))
    assert_same(load(tmp_path / "m", ClassVSCTransformer), model)


WEIGHT = "_pending_state/module/encoder.0.weight"
MOMENT = "_pending_state/optimizer/state/0/exp_avg"


def put(tree, *path_and_value):
    *path, key, value = path_and_value
    for step in path:
        tree = tree[step]
    tree[key] = value


def write(header, data, name, value):
    begin = header[name]["data_offsets"][0]
    size = np.asarray(value).nbytes
    data[begin : begin + size] = np.asarray(value).tobytes()


def rename(header, old, new):
    header[new] = header.pop(old)


HUGE = 10**9
CRAFTED = {
    "format": (lambda m, h, d: put(m, "format", "pt"), "format 'pt'"),
    "newer schema": (lambda m, h, d: put(m, "schema_version", "2"), "version '2'.*Upgrade"),
    "other class": (lambda m, h, d: put(m, "class", "VAETransformer"), "Call VAETransformer.load"),
    "class of the system": (lambda m, h, d: put(m, "class", "os.system"), "class 'os.system'"),
    "no class": (lambda m, h, d: m.pop("class") and None, "KeyError"),
    "no state": (lambda m, h, d: put(m, "state", {}), None),
    "state a list": (lambda m, h, d: put(m, "state", "[]"), None),
    "params a number": (lambda m, h, d: put(m, "params", "1"), None),
    "nested deeply": (lambda m, h, d: put(m, "params", "[" * 10**5), None),
    "unknown param": (lambda m, h, d: put(m, "params", "gamma", 1), "'gamma'"),
    "param outside": (lambda m, h, d: put(m, "params", "kl_weight", -1), "'kl_weight' parameter"),
    "param a list": (lambda m, h, d: put(m, "params", "device", [1]), "'device' parameter"),
    "callbacks": (lambda m, h, d: put(m, "params", "callbacks", ["os"]), "callbacks="),
    "encoder": (lambda m, h, d: put(m, "params", "encoder", "os"), "'encoder' parameter"),
    "own encoder": (lambda m, h, d: put(m, "state", "_architecture", "encoder", "os"), "encoder="),
    "method": (lambda m, h, d: put(m, "state", "transform", 1), "'transform'"),
    "kind": (lambda m, h, d: put(m, "state", "n_iter_", {"$": "eval"}), "KeyError"),
    "labels": (
        lambda m, h, d: put(
            m, "state", "x", {"$": "labels", "dtype": "<U9999999", "items": ["a"] * 1000}
        ),
        "labels",
    ),
    "dtype of labels": (
        lambda m, h, d: put(m, "state", "x", {"$": "labels", "dtype": "i8,i8", "items": [1]}),
        "labels",
    ),
    "no such tensor": (
        lambda m, h, d: put(m, "state", "x", {"$": "array", "tensor": "y"}),
        "no tensor 'y'",
    ),
    "tensor twice": (
        lambda m, h, d: put(m, "state", "x", {"$": "array", "tensor": WEIGHT}),
        "no tensor",
    ),
    "extra tensor": (
        lambda m, h, d: (
            put(h, "x", {"dtype": "U8", "shape": [4], "data_offsets": [len(d), len(d) + 4]})
            or d + b"1234"
        ),
        "extra tensors",
    ),
    "renamed tensor": (lambda m, h, d: rename(h, WEIGHT, "x"), "no tensor"),
    "other weight": (
        lambda m, h, d: (
            put(m, "state", "_pending_state", "module", "x", {"$": "array", "tensor": "x"})
            or put(m, "state", "_pending_state", "module", "encoder.0.weight", 0)
            or rename(h, WEIGHT, "x")
        ),
        None,
    ),
    "turned weight": (lambda m, h, d: put(h, WEIGHT, "shape", [5, 4]), r"float32\(5, 4\)"),
    "turned moment": (lambda m, h, d: put(h, MOMENT, "shape", [20]), r"float32\(20,\)"),
    "integer weight": (lambda m, h, d: put(h, WEIGHT, "dtype", "I32"), "int32"),
    "unknown dtype": (lambda m, h, d: put(h, WEIGHT, "dtype", "O"), "KeyError"),
    "longer shape": (lambda m, h, d: put(h, WEIGHT, "shape", [4, 6]), "by its shape"),
    "huge shape": (lambda m, h, d: put(h, WEIGHT, "shape", [HUGE, HUGE]), "sizes within"),
    "negative shape": (lambda m, h, d: put(h, WEIGHT, "shape", [-4, -5]), "sizes within"),
    "huge and empty": (lambda m, h, d: put(h, WEIGHT, "shape", [HUGE, 0]), "sizes within"),
    "many dimensions": (lambda m, h, d: put(h, WEIGHT, "shape", [1] * 40), "sizes within"),
    "shape of floats": (lambda m, h, d: put(h, WEIGHT, "shape", [4.0, 5.0]), "sizes within"),
    "no shape": (lambda m, h, d: h[WEIGHT].pop("shape") and None, None),
    "overlap": (
        lambda m, h, d: put(h, WEIGHT, "data_offsets", h[MOMENT]["data_offsets"]),
        "at bytes",
    ),
    "negative offset": (lambda m, h, d: put(h, WEIGHT, "data_offsets", [-80, 0]), "at bytes"),
    "offset beyond": (lambda m, h, d: put(h, WEIGHT, "data_offsets", [HUGE, HUGE + 80]), None),
    "offsets of text": (lambda m, h, d: put(h, WEIGHT, "data_offsets", "ab"), None),
    "trailing data": (lambda m, h, d: d + b"1234", "bytes of data"),
    "NaN weight": (lambda m, h, d: write(h, d, WEIGHT, np.float32("nan")), "non-finite"),
    "infinite moment": (lambda m, h, d: write(h, d, MOMENT, np.float32("inf")), "non-finite"),
    "scale of 0": (lambda m, h, d: write(h, d, "_standardization/1", 0.0), "not positive"),
    "unsorted classes": (lambda m, h, d: write(h, d, "classes_", np.array([3, 2])), "classes"),
    "generator": (
        lambda m, h, d: write(h, d, "_pending_state/generator", np.full(5056, 255, "u1")),
        "generator",
    ),
    "features": (lambda m, h, d: put(m, "state", "n_features_in_", 6), "n_features_in_=6"),
    "schedule": (
        lambda m, h, d: put(m, "state", "_pending_state", "schedule", [0, 0, True]),
        "schedule",
    ),
    "optimiser": (
        lambda m, h, d: put(
            m, "state", "_pending_state", "optimizer", "param_groups", 0, "eps", "1"
        ),
        "optimizer settings",
    ),
    "parameters of the optimiser": (
        lambda m, h, d: put(
            m, "state", "_pending_state", "optimizer", "param_groups", 0, "params", [0]
        ),
        "optimizer settings",
    ),
    "history": (lambda m, h, d: put(m, "state", "_pending_state", "history", [1]), None),
    "likelihood": (lambda m, h, d: put(m, "state", "_architecture", "likelihood", "x"), None),
    "other likelihood": (
        lambda m, h, d: put(m, "state", "_architecture", "likelihood", "bernoulli"),
        "noise_variance",
    ),
}
for name, value in {
    "n_features": HUGE,
    "hidden_layer_sizes": [HUGE, HUGE],
    "n_classes": HUGE,
}.items():
    CRAFTED[f"huge {name}"] = (
        lambda m, h, d, name=name, value=value: put(m, "state", "_architecture", name, value),
        "layers of widths|n_features",
    )
CRAFTED["wide layer"] = (
    lambda m, h, d: put(m, "state", "_architecture", "hidden_layer_sizes", [9000]),
    "layers of widths",
)
CRAFTED["many layers"] = (
    lambda m, h, d: put(m, "state", "_architecture", "hidden_layer_sizes", [1] * 1000),
    "layers of widths",
)


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_file_is_refused_for_what_is_wrong_with_it(name, content, tmp_path):
    change, match = CRAFTED[name]
    refused(forge(content, change), tmp_path, match)


@pytest.mark.parametrize("key", ["_architecture", "_pending_state", "n_features_in_", "classes_"])
def test_a_state_without_what_a_model_needs_is_refused(key, content, tmp_path):
    def change(metadata, header, data):
        """Keep the tensors, under another name, so that nothing else is wrong."""
        metadata["state"][f"other{key}"] = metadata["state"].pop(key)

    refused(forge(content, change), tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"a text file\n" * 9,
        (HEADER_LIMIT + 1).to_bytes(8, "little") + b" " * 100,
        b"\xff" * 200,
        (2).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"null",
        (3).to_bytes(8, "little") + "ß{".encode(),
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
        (5000).to_bytes(8, "little") + b"9" * 5000,
    ],
)
def test_what_is_no_model_file_is_refused(data, tmp_path):
    refused(data, tmp_path)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    refused(pickle.dumps(Payload()), tmp_path)
    assert os.listdir(tmp_path) == ["hostile"]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none", VAETransformer)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelFileError, match="regular file"):
            load(path, VAETransformer)
    with pytest.raises(ModelFileError, match="null"):
        load("a\0b", VAETransformer)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("other", ESTIMATORS)
def test_a_model_of_another_class_is_refused_naming_both(cls, other, tmp_path):
    if cls is not other:
        save(cls(**TINY).fit(X, Y), tmp_path / "m")
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
    max_examples=300,
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


@pytest.mark.parametrize("parts", [b"[],", b'{"":0},', b'"ab",'], ids=["lists", "dicts", "text"])
def test_a_huge_file_is_refused_within_little_memory(parts, tmp_path):
    path = tmp_path / "hostile"
    text = b"[" + parts * (HEADER_LIMIT // len(parts) - 2) + b"0]"
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(2**36)  # sparse: it takes no room on the disk
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            load(path, VAETransformer)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_names_that_fill_more_than_a_header_are_refused_at_save(tmp_path):
    estimator = VAETransformer(**TINY).fit(X)
    estimator.feature_names_in_ = np.array(["name" * HEADER_LIMIT] * 5, object)
    with pytest.raises(ValueError, match="feature names"):
        save(estimator, tmp_path / "m")
