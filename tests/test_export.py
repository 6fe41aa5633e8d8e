"""ONNX models say what the estimator says, in onnxruntime; and a pipeline is served from a file."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import covering, small
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import sklearn_classvsc
from sklearn_classvsc import ClassVSCTransformer, VAETransformer, VSCTransformer
from sklearn_classvsc._likelihoods import LIKELIHOODS
from sklearn_classvsc.bodies import ConvDecoder, ConvEncoder, ResidualMLP
from sklearn_classvsc.export import register_converters, to_onnx

onnx = pytest.importorskip("onnx", reason="what is tested")
onnxruntime = pytest.importorskip("onnxruntime", reason="what runs it")

# Small estimators, soon trained, may leave dimensions without use.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_classvsc.CollapseWarning")

ESTIMATORS = [VAETransformer, VSCTransformer, ClassVSCTransformer]
METHODS = ["transform", "activation_proba", "inverse_transform"]
#: Gates as close to the threshold as this may fall on either side of it.
NEAR = 1e-5


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(n_class=4, return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def table():
    """Features of very different units; one far from 0, which float32 cannot tell apart."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    X["far"] = 1e8 + X["petal width (cm)"]
    X["tiny"] = 1e-6 * X["petal length (cm)"]
    return X, y


def run(model, values):
    """Return what onnxruntime makes of the values."""
    session = onnxruntime.InferenceSession(
        model if isinstance(model, (str, bytes)) else model.SerializeToString()
    )
    (source,) = session.get_inputs()
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    (result,) = session.run(None, {source.name: np.asarray(values, kinds[source.type])})
    return result


def assert_same(model, est, method, values):
    """Hold the model against the estimator, wherever a gate is not about to fall either way."""
    expected, result = np.asarray(getattr(est, method)(values)), run(model, values)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    scale = 1.0
    sure = np.ones(expected.shape, bool)
    if method == "transform":
        sure = abs(est.activation_proba(values) - getattr(est, "threshold", 0.5)) > NEAR
        assert_array_equal((result == 0)[sure], (expected == 0)[sure])
        assert sure.mean() > 0.99
    if method == "inverse_transform":  # in units of each feature
        scale = expected.std(axis=0) + 1e-9 * abs(expected).max(axis=0) + 1e-12
    assert_allclose((result / scale)[sure], (expected / scale)[sure], rtol=1e-5, atol=1e-5)


# -- the same as the estimator -----------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("cls", "kind"), covering(ESTIMATORS, [np.float32, np.float64]))
def test_a_model_is_the_estimator_on_data_in_0_1(cls, kind, method, digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # torch's exporter is for other bodies
    X, y = digits[0].astype(kind), digits[1]
    est = small(cls, hidden_layer_sizes=(16, 8)).fit(X, y)
    values = est.transform(X) if method == "inverse_transform" else X
    dtype = np.float32 if method == "inverse_transform" else kind
    assert_same(to_onnx(est, method=method, dtype=dtype), est, method, values)


@pytest.mark.parametrize(("method", "cls"), covering(METHODS, ESTIMATORS))
def test_a_model_is_the_estimator_on_a_table(cls, method, table):
    X, y = table
    est = small(cls, max_epochs=60).fit(X, y)
    values = est.transform(X) if method == "inverse_transform" else X
    assert_same(to_onnx(est, method=method), est, method, values)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_every_likelihood(likelihood, method, digits):
    X, _ = digits
    X = X if likelihood == "bernoulli" else np.round(16 * X)
    est = small(VSCTransformer, likelihood=likelihood).fit(X)
    values = est.transform(X) if method == "inverse_transform" else X
    assert_same(to_onnx(est, method=method), est, method, values)


def test_features_far_from_0_keep_their_digits_by_default(table):
    X, _ = table
    est = small(VSCTransformer, max_epochs=60).fit(X)
    single = to_onnx(est, dtype=np.float32)
    assert abs(run(single, X) - est.transform(X)).max() > 1e-3  # what is at stake
    assert_same(to_onnx(est), est, "transform", X)


def test_data_of_float32_make_a_model_of_float32(table):
    X = table[0].drop(columns="far").astype(np.float32)
    est = small(VSCTransformer, max_epochs=60).fit(X)
    model = to_onnx(est)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert_same(model, est, "transform", X)
    assert_same(to_onnx(est, dtype=np.float64), est, "transform", X.astype(np.float64))
    decoder = to_onnx(est, method="inverse_transform")
    assert_same(decoder, est, "inverse_transform", est.transform(X))


@pytest.mark.parametrize(
    ("activation", "hidden"),
    [("relu", (8,)), ("gelu", (8,)), ("silu", (8,)), ("tanh", (8,)), ("relu", ())],
)
def test_every_activation(activation, hidden, digits):
    X, _ = digits
    est = small(VSCTransformer, activation=activation, hidden_layer_sizes=hidden).fit(X)
    assert_same(to_onnx(est), est, "transform", X)
    decoder = to_onnx(est, method="inverse_transform")
    assert_same(decoder, est, "inverse_transform", est.transform(X))


@pytest.mark.parametrize("n", [1, 2, 1025])
def test_any_number_of_samples(n, digits):
    est = small(VSCTransformer).fit(digits[0])
    assert_same(to_onnx(est), est, "transform", np.resize(digits[0], (n, 64)))


SMALL = (1, 8, 8)
BODIES = {
    "convolutions": {
        "encoder": ConvEncoder(SMALL, channels=(3, 4)),
        "decoder": ConvDecoder(SMALL, channels=(3, 4)),
    },
    "to one pixel": {
        "encoder": ConvEncoder(SMALL, channels=(2, 3, 4), activation="gelu"),
        "decoder": ConvDecoder(SMALL, channels=(2, 3, 4), activation="tanh"),
    },
    "residual": {"encoder": ResidualMLP(8), "decoder": ResidualMLP(8, activation="silu")},
}


@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("name", BODIES)
def test_every_body_of_the_package_takes_any_number_of_samples(name, n, digits, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", None)  # which takes seconds, and wants a sample
    est = small(VSCTransformer, **BODIES[name]).fit(digits[0])
    if not n:
        assert run(to_onnx(est), np.ones((0, 64))).shape == (0, est.n_components)
        made = run(to_onnx(est, method="inverse_transform"), np.ones((0, est.n_components)))
        assert made.shape == (0, 64)
        return
    assert_same(to_onnx(est), est, "transform", digits[0][:n])
    decoder = to_onnx(est, method="inverse_transform")
    codes = est.transform(digits[0][:n])
    assert_allclose(run(decoder, codes), est.inverse_transform(codes), rtol=1e-5, atol=1e-5)


def test_half_a_surrogate_in_a_name_or_label_is_written(table, tmp_path):
    X, y = table
    names = np.array([f"{i} \ud800" for i in range(X.shape[1])], object)
    labels = np.array(["\udfff", "b", "c"], object)[np.asarray(y) % 3]
    est = small(ClassVSCTransformer).fit(
        pd.DataFrame(np.asarray(X), columns=pd.Index(names, dtype=object)), labels
    )
    found = {p.key: p.value for p in to_onnx(est, tmp_path / "m.onnx").metadata_props}
    assert json.loads(found["feature_names_in"]) == names.tolist()


# -- zeros -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.999999])
def test_the_threshold_is_in_the_model(threshold, digits):
    X, _ = digits
    est = small(VSCTransformer, max_epochs=20, threshold=threshold).fit(X)
    assert_same(to_onnx(est), est, "transform", X)


def test_a_gate_on_the_threshold_is_off_and_one_just_above_is_on(digits):
    X, _ = digits
    est = small(VSCTransformer).fit(X)
    with torch.no_grad():
        head = est.module_.encoder_head
        head.weight[-6:] = 0
        head.bias[-6:] = torch.tensor([0, 1e-5, -1e-5, 100, -100, torch.inf])
        head.bias[:6] = 1 + head.bias[:6].abs()
    assert_array_equal(est.transform(X[:1]) != 0, [[False, True, False, True, False, True]])
    assert_array_equal(run(to_onnx(est), X[:1]) != 0, est.transform(X[:1]) != 0)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@pytest.mark.parametrize("method", ["transform", "activation_proba"])
def test_nan_is_a_missing_value(likelihood, method, digits):
    X = digits[0].copy()
    X[::2, ::3] = np.nan
    for cls in (VSCTransformer, ClassVSCTransformer):
        est = small(cls, likelihood=likelihood).fit(X, digits[1])
        assert_allclose(run(to_onnx(est, method=method), X), getattr(est, method)(X), atol=1e-5)


def test_infinity_is_not_off(digits):
    est = small(VSCTransformer).fit(digits[0])
    X = digits[0][:3].copy()
    X[1, 5] = np.inf
    assert_array_equal(np.isnan(run(to_onnx(est), X)).all(axis=1), [False, True, False])


def test_sparse_output_is_dense_in_onnx(digits):
    est = small(VSCTransformer, sparse_output=True).fit(digits[0])
    assert_allclose(run(to_onnx(est), digits[0]), est.transform(digits[0]).toarray(), atol=1e-5)


# -- the file ----------------------------------------------------------------------------------


def test_a_model_says_what_it_is(tmp_path, table):
    X, y = table
    est = small(ClassVSCTransformer).fit(X, np.array(["a", "b", "c"])[y])
    model = to_onnx(est, tmp_path / "m.onnx")
    loaded = onnx.load(tmp_path / "m.onnx")
    assert loaded == model
    assert [(o.domain, o.version) for o in loaded.opset_import] == [("", 18)]
    assert loaded.ir_version <= 8  # which the runtimes of the opset read
    assert loaded.graph.input[0].name == "X"
    properties = {p.key: p.value for p in loaded.metadata_props}
    assert json.loads(properties.pop("feature_names_in")) == X.columns.tolist()
    assert json.loads(properties.pop("feature_names_out")) == est.get_feature_names_out().tolist()
    assert json.loads(properties.pop("classes")) == ["a", "b", "c"]
    assert properties == {
        "estimator": "ClassVSCTransformer",
        "method": "transform",
        "version": sklearn_classvsc.__version__,
        "likelihood": "gaussian",
        "threshold": "0.5",
    }
    assert_same(str(tmp_path / "m.onnx"), est, "transform", X)


def test_the_estimator_stays_as_it_is(digits):
    est = small(VSCTransformer).fit(digits[0])
    before = est.transform(digits[0])
    to_onnx(est)
    assert_array_equal(est.transform(digits[0]), before)


# -- bodies of the user's own ------------------------------------------------------------------


class Convolutions(nn.Module):
    """Images of 8 x 8, with a residual connection."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.first(x.reshape(-1, 1, 8, 8)))
        return (x + self.second(x)).flatten(1)


class Shuffled(nn.Module):
    """What ONNX has no operator for."""

    def forward(self, x):
        return torch.from_numpy(np.sort(x.numpy(), axis=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_a_body_of_ones_own_goes_through_the_exporter_of_torch(digits):
    pytest.importorskip("onnxscript")
    X, _ = digits
    with torch.random.fork_rng():
        est = small(VSCTransformer, encoder=Convolutions()).fit(X)
    for rows in (X, X[:1]):
        assert_same(to_onnx(est), est, "transform", rows)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_a_body_that_cannot_be_exported_is_refused_by_name(digits):
    pytest.importorskip("onnxscript")
    est = small(VSCTransformer).fit(digits[0])
    model = est._fitted.model
    model.module.encoder, model.architecture["encoder"] = Shuffled().eval(), Shuffled()
    with pytest.raises(ValueError, match=r"encoder=Shuffled\(\) cannot be exported"):
        to_onnx(est)


# -- pipelines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "kind"), covering(ESTIMATORS, [np.float32, np.float64]))
def test_skl2onnx_converts_a_pipeline(cls, kind, digits):
    skl2onnx = pytest.importorskip("skl2onnx")
    X, y = digits[0].astype(kind), digits[1]
    pipe = make_pipeline(StandardScaler(), small(cls, max_epochs=20), LogisticRegression())
    pipe.fit(X, y)
    register_converters()
    model = skl2onnx.to_onnx(pipe, X[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    labels, probabilities = session.run(None, {"X": X})
    assert_array_equal(labels, pipe.predict(X))
    assert_allclose(probabilities, pipe.predict_proba(X), atol=1e-4)


def test_skl2onnx_converts_a_transformer_of_whole_numbers_twice_in_one_pipeline(digits):
    skl2onnx = pytest.importorskip("skl2onnx")
    X = (16 * digits[0]).astype(np.int64)
    pipe = make_pipeline(small(VSCTransformer, alpha=0.9), small(VAETransformer)).fit(X)
    register_converters()
    model = skl2onnx.to_onnx(pipe, X[:1])
    (Z,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"X": X})
    assert_allclose(Z, pipe.transform(X), rtol=1e-4, atol=1e-4)


def test_skl2onnx_converts_a_transformer_of_several_inputs(table):
    skl2onnx = pytest.importorskip("skl2onnx")
    X = table[0].set_axis([f"x{i}" for i in range(6)], axis=1)
    est = small(VSCTransformer, max_epochs=20).fit(X)
    register_converters()
    kind = skl2onnx.common.data_types.DoubleTensorType([None, 1])
    model = skl2onnx.to_onnx(est, initial_types=[(name, kind) for name in X.columns])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (Z,) = session.run(None, {name: X[[name]].to_numpy() for name in X.columns})
    assert_allclose(Z, est.transform(X), rtol=1e-5, atol=1e-5)


def test_skl2onnx_needs_an_opset_that_has_the_operators(digits):
    skl2onnx = pytest.importorskip("skl2onnx")
    est = small(VSCTransformer).fit(digits[0])
    register_converters()
    with pytest.raises(ValueError, match="target_opset is 15, but must be at least 18"):
        skl2onnx.to_onnx(est, digits[0][:1], target_opset=15)


# -- what is refused ---------------------------------------------------------------------------


def test_what_is_no_fitted_transformer_is_refused(digits):
    with pytest.raises(NotFittedError):
        to_onnx(VSCTransformer())
    with pytest.raises(ValueError, match=r"est is Pipeline.*register_converters\(\)"):
        to_onnx(make_pipeline(small(VSCTransformer)).fit(digits[0]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "predict"}, "method is 'predict'"),
        ({"dtype": np.int64}, "dtype is .*int64.*, but must be np.float32 or np.float64"),
    ],
)
def test_wrong_arguments_are_named(wrong, message, digits):
    est = small(VSCTransformer).fit(digits[0])
    with pytest.raises(ValueError, match=message):
        to_onnx(est, **wrong)


@pytest.mark.parametrize(
    ("call", "package"), [(to_onnx, "onnx"), (register_converters, "skl2onnx")]
)
def test_a_missing_package_is_named_with_its_command(call, package, monkeypatch, digits):
    monkeypatch.setitem(sys.modules, package, None)
    arguments = [small(VSCTransformer).fit(digits[0])] if call is to_onnx else []
    with pytest.raises(ImportError, match=f"pip install {package}"):
        call(*arguments)


# -- the page on deployment --------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "deployment.md"


@pytest.fixture(scope="module")
def scripts():
    """The blocks of code of the page, by the comment in their first line."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return dict(blocks)


@pytest.fixture(scope="module")
def folder(scripts, tmp_path_factory):
    """Where the first script of the page has saved the pipeline."""
    folder = tmp_path_factory.mktemp("served")
    code = scripts["save.py"].replace("random_state=0", "random_state=0, max_epochs=60")
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return folder


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serve.py", "serve_onnx.py"])
def test_the_scripts_of_the_page_serve_the_saved_pipeline(name, scripts, folder):
    pytest.importorskip("skops")
    pytest.importorskip("skl2onnx")
    code, port = scripts[name], free_port()
    assert len([line for line in code.splitlines() if line]) <= {"serve.py": 10}.get(name, 12)
    server = subprocess.Popen(
        [sys.executable, "-c", code.replace("8000", str(port))],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        X, y = load_digits(return_X_y=True)
        answer = _post(f"http://127.0.0.1:{port}", X[:200].tolist(), server)
    finally:
        server.kill()
        server.wait()
    assert np.mean(np.array(answer) == y[:200]) > 0.9


def _post(url, rows, server):
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, json.dumps(rows).encode()) as response:
                return json.load(response)
        except OSError:  # not yet there
            assert server.poll() is None
            time.sleep(0.1)
    raise AssertionError("the server never answered")


@pytest.mark.slow
def test_the_server_of_onnx_imports_neither_torch_nor_scikit_learn(scripts):
    imports = "\n".join(
        line for line in scripts["serve_onnx.py"].splitlines() if re.match("import|from", line)
    )
    check = f"{imports}\nimport sys; sys.exit(bool({{'torch', 'sklearn'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_names_of_features_reach_the_frame(table):
    """The page's advice: columns in the order of the model's property."""
    X, _ = table
    est = small(VSCTransformer).fit(X)
    properties = {p.key: p.value for p in to_onnx(est).metadata_props}
    shuffled = X[X.columns[::-1]]
    ordered = shuffled[json.loads(properties["feature_names_in"])]
    pd.testing.assert_frame_equal(ordered, X)
