"""Export fitted models to ONNX, as graphs that run without Python and torch."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import DTypeLike
from sklearn.utils.validation import check_is_fitted
from torch import nn

from . import __version__
from ._cross_fit import CrossFittedGates
from ._data import Standardization
from ._estimator import SpikeSlabTransformer
from ._estimators import ClassVSCTransformer, VAETransformer, VSCTransformer
from ._files import replacing
from ._guard import own_settings
from ._layers import Residual
from ._messages import brief
from ._mixed import LARGEST, Mixed
from ._model import Model
from .bodies import Layers

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["register_converters", "to_onnx"]

Method: TypeAlias = Literal["transform", "activation_proba", "inverse_transform"]

#: Version of the ONNX operators, which onnxruntime 1.14 (2023) and later run.
OPSET = 18
#: Input and output of each method.
_ENDS = {
    "transform": ("X", "Z"),
    "activation_proba": ("X", "gamma"),
    "inverse_transform": ("Z", "X_hat"),
}
SINGLE = np.dtype(np.float32)


def to_onnx(
    est: Any,
    path: str | PathLike[str] | None = None,
    method: Method = "transform",
    *,
    dtype: DTypeLike | None = None,
) -> ModelProto:
    """Return a method of a fitted estimator as an ONNX model, for any number of samples.

    The model contains the standardisation of the features, in the precision of the estimator, so
    that features far from 0 keep their digits. Codes are dense arrays with exact zeros. Results
    agree with the estimator up to the rounding of float32. If the probability of a gate is within
    about 1e-6 of `threshold`, the dimension may be active in one and inactive in the other, as
    between two processors. NaN is a missing value, as for the estimator. The estimator refuses
    infinity; the ONNX model returns NaN for it.

    Parameters
    ----------
    est : estimator
        A fitted transformer of this package. For a Pipeline, use `register_converters`.
    path : str, path-like or None, default=None
        File to write the model to; by convention it ends in ".onnx". None writes no file.
    method : {"transform", "activation_proba", "inverse_transform"}, default="transform"
        Method that the model computes. Input and output are called "X" and "Z" for "transform", "X"
        and "gamma" for "activation_proba", and "Z" and "X_hat" for "inverse_transform".
    dtype : {np.float32, np.float64} or None, default=None
        Type of the input. None means float64 for samples if the estimator standardises and was
        fitted to float64, since float32 might lose digits that matter. Otherwise, and for codes, it
        means float32.

    Returns
    -------
    model : onnx.ModelProto
        Model of opset 18. Its `metadata_props` hold the class of the estimator, `method`, the
        version of this package, likelihood, threshold and, as JSON, the names of features,
        dimensions and classes.

    Raises
    ------
    ImportError
        If onnx is not installed.
    ValueError
        If an argument is not as described, if a custom body cannot be exported, or if the model is
        larger than the 2 GiB that an ONNX file holds.
    NotFittedError
        If `est` is not fitted.
    OSError
        If the file cannot be written. An existing file then stays as it was.

    See Also
    --------
    register_converters : Convert Pipelines.

    Notes
    -----
    The graph is written node by node, which takes milliseconds and needs only onnx. For a custom
    body, torch's exporter translates the body. It needs onnxscript and some seconds, may print
    messages, and its result may need at least one sample.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.export import to_onnx
    >>> X, _ = load_iris(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=3, max_epochs=2, random_state=0).fit(X)
    >>> model = to_onnx(vsc)
    >>> [node.op_type for node in model.graph.node][:3]
    ['Sub', 'Div', 'Cast']
    """
    onnx = _import("onnx")
    if not isinstance(est, SpikeSlabTransformer):
        raise ValueError(
            f"est is {type(est).__name__}, but must be a transformer of this package. Convert a "
            "Pipeline with skl2onnx, after sklearn_classvsc.export.register_converters()."
        )
    check_is_fitted(est)
    if method not in _ENDS:
        raise ValueError(f"method is {method!r}, but must be one of {list(_ENDS)}.")
    model, threshold = est._now().model, est._threshold()
    decodes = method == "inverse_transform"
    kind = _check_dtype(dtype, None if decodes else model.standardization)
    source, target = _ENDS[method]
    graph = _Graph()
    if decodes:
        result, result_kind = _decode(graph, model, source, kind)
    else:
        result, result_kind = _encode(graph, model, threshold, method, source, kind)
    graph.add("Identity", result, output=target)
    widths = [model.architecture["n_features"], model.n_components]
    if decodes:
        widths.reverse()
    given, made = (
        onnx.helper.make_tensor_value_info(name, _tensor_type(of), ["n", width])
        for name, of, width in zip((source, target), (kind, result_kind), widths, strict=True)
    )
    onnx_model = onnx.helper.make_model_gen_version(
        onnx.helper.make_graph(graph.nodes, method, [given], [made], graph.initializers),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="sklearn-classvsc",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(onnx_model, _metadata(est, model, threshold, method))
    size = sum(tensor.ByteSize() for tensor in graph.initializers)
    if size > onnx.checker.MAXIMUM_PROTOBUF:
        raise ValueError(
            f"est has {size} bytes of weights, but an ONNX file holds "
            f"{onnx.checker.MAXIMUM_PROTOBUF}: fit narrower layers, or save it with est.save."
        )
    onnx.checker.check_model(onnx_model, full_check=True)
    if path is not None:
        with replacing(path) as file:
            file.write(onnx_model.SerializeToString())
    return onnx_model


def register_converters() -> None:
    """Let skl2onnx convert Pipelines with a transformer of this package.

    Call it once, before `skl2onnx.to_onnx` or `skl2onnx.convert_sklearn`, whose target opset must
    be at least 18. It adds the three transformers to the converters of skl2onnx.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    to_onnx : Convert one transformer, including its `inverse_transform`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skl2onnx import to_onnx
    >>> from sklearn_classvsc import VSCTransformer
    >>> from sklearn_classvsc.export import register_converters
    >>> X, y = load_iris(return_X_y=True)
    >>> vsc = VSCTransformer(n_components=3, alpha=0.9, max_epochs=20, random_state=0)
    >>> pipe = make_pipeline(vsc, LogisticRegression()).fit(X, y)
    >>> register_converters()
    >>> model = to_onnx(pipe, X[:1])
    """
    skl2onnx = _import("skl2onnx")
    for cls in (VAETransformer, VSCTransformer, ClassVSCTransformer):
        skl2onnx.update_registered_converter(cls, f"Classvsc{cls.__name__}", _infer_shape, _convert)


# -- the computation ---------------------------------------------------------------------------


def _encode(
    graph: _Graph, model: Model, threshold: float, method: str, x: str, kind: np.dtype[Any]
) -> tuple[str, np.dtype[Any]]:
    """Add `transform` or `activation_proba` of x; return the result and its type."""
    standardization, module = model.standardization, model.module
    if standardization is not None:
        offset, scale = standardization
        wide = np.result_type(kind, offset)
        x = graph.cast(x, kind, wide)
        x = graph.add("Sub", x, graph.constant(offset.astype(wide)))
        x, kind = graph.add("Div", x, graph.constant(scale.astype(wide))), wide
    x = graph.cast(x, kind, SINGLE)
    if module.likelihood.counts:
        x = graph.add("Log", graph.add("Add", x, graph.constant(np.float32(1))))
    if isinstance(module.likelihood, Mixed):
        one = graph.constant(np.float32(1))
        bits = graph.add("Sub", graph.add("Add", x, x), one)
        x = graph.add("Where", graph.constant(module.likelihood.is_bit), bits, x)
        counts = graph.add("Log", graph.add("Add", graph.add("Relu", x), one))
        x = graph.add("Where", graph.constant(module.likelihood.is_count), counts, x)
    x = graph.add("Where", graph.add("IsNaN", x), graph.constant(np.float32(0)), x)
    hidden = _add_body(graph, model, "encoder", x)
    d, head = model.n_components, module.encoder_head
    mu = graph.linear(hidden, head.weight[:d], head.bias[:d])
    if module.encoder_path is not None:
        path = graph.linear(x, module.encoder_path.weight, module.encoder_path.bias)
        mu = graph.add("Add", mu, path)
    if module.gates is not None:
        gamma = _add_gates(graph, module.gates, x)
        mu = graph.add("Mul", mu, _add_strength(graph, gamma))
    elif module.gated:
        gamma = graph.add("Sigmoid", graph.linear(hidden, head.weight[2 * d :], head.bias[2 * d :]))
    else:
        gamma = graph.add("Exp", graph.add("Mul", mu, graph.constant(np.float32(0))))
    if method == "activation_proba":
        return gamma, SINGLE
    # `Where(gamma > threshold, mu, 0)` would return 0 for NaN.
    off = graph.add("LessOrEqual", gamma, graph.constant(np.float32(threshold)))
    return graph.add("Where", off, graph.constant(np.float32(0)), mu), SINGLE


def _decode(graph: _Graph, model: Model, z: str, kind: np.dtype[Any]) -> tuple[str, np.dtype[Any]]:
    """Add `inverse_transform` of z; return the result and its type."""
    module, likelihood = model.module, model.architecture["likelihood"]
    z = graph.cast(z, kind, SINGLE)
    hidden = _add_body(graph, model, "decoder", z)
    if module.decoder_passes_codes:
        hidden = graph.add("Concat", hidden, z, axis=1)
    head = module.decoder_head  # the identity, if the decoder makes theta itself
    x = graph.linear(hidden, head.weight, head.bias) if isinstance(head, nn.Linear) else hidden
    if module.likelihood.counts:
        size = graph.constant(module.likelihood.library_size)
        x = graph.add("Mul", graph.add("Softmax", x, axis=1), size)
    elif likelihood == "bernoulli":
        x = graph.add("Sigmoid", x)
    elif isinstance(module.likelihood, Mixed):
        largest = graph.constant(np.float32(LARGEST))
        rates = graph.add("Exp", graph.add("Min", x, largest))
        bits = graph.constant(module.likelihood.is_bit)
        real = graph.add("Where", bits, graph.add("Sigmoid", x), x)
        x = graph.add("Where", graph.constant(module.likelihood.is_count), rates, real)
    if model.standardization is None:
        return x, SINGLE
    offset, scale = model.standardization
    x = graph.add("Mul", graph.cast(x, SINGLE, scale.dtype), graph.constant(scale))
    return graph.add("Add", x, graph.constant(offset)), scale.dtype


def _add_gates(graph: _Graph, gates: CrossFittedGates, x: str) -> str:
    """Add the probability that each dimension is active, see `CrossFittedGates`."""

    def number(value: float, dtype: Any = np.float32) -> str:
        return graph.constant(np.array(value, dtype))

    def axes(*of: int) -> str:
        return graph.constant(np.array(of, np.int64))

    n_branches, width, n_classes = gates.second.shape
    wide = np.dtype(np.float64)
    line = graph.add(
        "MatMul", graph.cast(x, SINGLE, wide), graph.constant(gates.directions.double())
    )
    line = graph.add("Add", line, graph.constant(gates.origin.double()))
    piece, n_folds = graph.add("Floor", line), number(gates.n_folds, wide)
    turn = graph.add("Mul", graph.add("Floor", graph.add("Div", piece, n_folds)), n_folds)
    fold = graph.add("Unsqueeze", graph.add("Sub", piece, turn), axes(2))
    is_of = graph.add("Equal", fold, graph.constant(np.arange(gates.n_folds, dtype=wide)))
    is_of = graph.add("Cast", is_of, to=_tensor_type(SINGLE))
    speaks = graph.add("Reshape", is_of, axes(-1, n_branches, 1))

    n_hidden = n_branches * width
    first, bias = gates.first.weight, gates.first.bias
    hidden = graph.linear(x, first[:n_hidden], bias[:n_hidden])
    hidden = graph.add("Reshape", hidden, axes(-1, n_branches, width))
    ones = graph.constant(np.ones(width, np.float32))
    hidden = graph.add("Relu", graph.add("LayerNormalization", hidden, ones, epsilon=1e-5))
    hidden = graph.add("Transpose", hidden, perm=[1, 0, 2])
    logits = graph.add("MatMul", hidden, graph.constant(gates.second))
    logits = graph.add("Transpose", logits, perm=[1, 0, 2])
    direct = graph.linear(x, first[n_hidden:], bias[n_hidden:])
    direct = graph.add("Reshape", direct, axes(-1, n_branches, n_classes))
    logits = graph.add("Add", logits, direct)
    p = graph.add("Sigmoid", logits) if gates.multilabel else graph.add("Softmax", logits, axis=2)
    p = graph.add("ReduceSum", graph.add("Mul", p, speaks), axes(1), keepdims=0)
    p = graph.add("Div", p, number(gates.n_repeats))

    pi = gates.pi
    if gates.multilabel:
        p = graph.add("Unsqueeze", p, axes(2))
        off = graph.add("Sub", number(1), graph.add("Mul", p, graph.constant(pi)))
        off = graph.add("ReduceProd", graph.add("Max", off, number(1e-6)), axes(1), keepdims=0)
        gamma = graph.add("Sub", number(1), off)
    else:
        gamma = graph.add("MatMul", p, graph.constant(pi))
    return graph.add("Clip", gamma, number(1e-6), number(1 - 1e-6))


def _add_strength(graph: _Graph, gamma: str) -> str:
    """Add the strength of the slabs behind these gates, see `strength`."""
    one, quarter, rest = (graph.constant(np.float32(x)) for x in (1, 0.25, 0.75))
    on, off = graph.add("Sqrt", gamma), graph.add("Sqrt", graph.add("Sub", one, gamma))
    sure = graph.add("Div", graph.add("Sub", on, off), graph.add("Add", on, off))
    return graph.add("Add", quarter, graph.add("Mul", rest, graph.add("Relu", sure)))


def _add_body(graph: _Graph, model: Model, name: str, x: str) -> str:
    body = getattr(model.module, name)
    known = isinstance(body, Layers) and all(isinstance(x, tuple(_LAYERS)) for x in body)
    if model.architecture[name] is None or known:
        return _chain(graph, body, x)
    width = model.architecture["n_features"] if name == "encoder" else model.n_components
    return graph.include(_translated(body, width, name), x)


def _chain(graph: _Graph, layers: Any, x: str) -> str:
    for layer in layers:
        add = next(add for kind, add in _LAYERS.items() if isinstance(layer, kind))
        x = add(graph, layer, x)
    return x


def _translated(body: nn.Module, width: int, name: str) -> Any:
    """Return the ONNX graph of a body, from torch's exporter."""
    _import("onnxscript")
    try:
        with own_settings(gradients=True):
            program = torch.onnx.export(
                copy.deepcopy(body).cpu(),
                (torch.zeros(2, width, dtype=torch.float32),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
    except Exception as error:  # a custom body and the exporter may raise anything
        raise ValueError(
            f"{name}={brief(body)} cannot be exported: torch.onnx.export raised {error!r}."
        ) from error
    foreign = sorted({node.op_type for node in model.graph.node if node.domain})
    nested = sorted({n.op_type for n in model.graph.node for a in n.attribute if a.g.ByteSize()})
    if foreign or nested:
        raise ValueError(
            f"{name}={brief(body)} cannot be exported: it needs {foreign + nested}, which are not "
            "plain ONNX operators."
        )
    return model.graph


def _relu(graph: _Graph, layer: Any, x: str) -> str:
    return graph.add("Relu", x)


def _tanh(graph: _Graph, layer: Any, x: str) -> str:
    return graph.add("Tanh", x)


def _silu(graph: _Graph, layer: Any, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _gelu(graph: _Graph, layer: Any, x: str) -> str:
    erf = graph.add("Erf", graph.add("Mul", x, graph.constant(np.float32(np.sqrt(0.5)))))
    both = graph.add("Mul", x, graph.add("Add", erf, graph.constant(np.float32(1))))
    return graph.add("Mul", both, graph.constant(np.float32(0.5)))


def _linear(graph: _Graph, layer: Any, x: str) -> str:
    return graph.linear(x, layer.weight, layer.bias)


def _layer_norm(graph: _Graph, layer: Any, x: str) -> str:
    weight, bias = graph.constant(layer.weight), graph.constant(layer.bias)
    return graph.add("LayerNormalization", x, weight, bias, epsilon=layer.eps)


def _residual(graph: _Graph, layer: Any, x: str) -> str:
    added, width = _chain(graph, layer, x), layer[0].out_features - layer[0].in_features
    if width > 0:
        x = graph.add("Pad", x, graph.constant(np.array([0, 0, 0, width])))
    elif width < 0:
        cut = (graph.constant(np.array([i])) for i in (0, layer[0].out_features, 1))
        x = graph.add("Slice", x, *cut)
    return graph.add("Add", added, x)


def _conv(graph: _Graph, layer: Any, x: str) -> str:
    settings: dict[str, Any] = {"strides": layer.stride, "pads": [*layer.padding] * 2}
    operator = "Conv"
    if isinstance(layer, nn.ConvTranspose2d):
        operator, settings["output_padding"] = "ConvTranspose", layer.output_padding
    return graph.add(
        operator, x, graph.constant(layer.weight), graph.constant(layer.bias), **settings
    )


def _group_norm(graph: _Graph, layer: Any, x: str) -> str:
    """Add a GroupNorm whose single group has all pixels and channels."""
    axes = graph.constant(np.array([1, 2, 3]))
    x = graph.add("Sub", x, graph.add("ReduceMean", x, axes))
    variance = graph.add("ReduceMean", graph.add("Mul", x, x), axes)
    above_0 = graph.add("Add", variance, graph.constant(np.float32(layer.eps)))
    x = graph.add("Div", x, graph.add("Sqrt", above_0))
    weight, bias = (graph.constant(part[:, None, None]) for part in (layer.weight, layer.bias))
    return graph.add("Add", graph.add("Mul", x, weight), bias)


def _unflatten(graph: _Graph, layer: Any, x: str) -> str:
    return graph.add("Reshape", x, graph.constant(np.array([-1, *layer.unflattened_size])))


def _flatten(graph: _Graph, layer: Any, x: str) -> str:
    return graph.add("Flatten", x, axis=1)


#: Layers of the bodies of this package.
_LAYERS: dict[type[nn.Module], Callable[[_Graph, Any, str], str]] = {
    Residual: _residual,
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _conv,
    nn.GroupNorm: _group_norm,
    nn.Unflatten: _unflatten,
    nn.Flatten: _flatten,
    nn.ReLU: _relu,
    nn.GELU: _gelu,
    nn.SiLU: _silu,
    nn.Tanh: _tanh,
}


# -- the graph ---------------------------------------------------------------------------------


class _Graph:
    """Nodes and constants of a graph, referred to by the names of their results."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, value: Any) -> str:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        name = f"constant_{len(self.initializers)}"
        from_array = import_module("onnx.numpy_helper").from_array
        self.initializers.append(from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        make_node = import_module("onnx.helper").make_node
        self.nodes.append(make_node(operator, inputs, [name], name, **attributes))
        return name

    def cast(self, x: str, before: np.dtype[Any], after: np.dtype[Any]) -> str:
        return x if before == after else self.add("Cast", x, to=_tensor_type(after))

    def linear(self, x: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
        return self.add("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def include(self, other: Any, x: str) -> str:
        """Add an ONNX graph of one input and one output as a function of x."""
        prefix, given = f"body_{len(self.nodes)}/", other.input[0].name

        def rename(name: str) -> str:
            return x if name == given else prefix + name

        initializers, nodes = _renamed(other.initializer, other.node, rename)
        self.initializers += initializers
        self.nodes += nodes
        return rename(other.output[0].name)


def _renamed(
    initializers: Any, nodes: Any, rename: Callable[[str], str]
) -> tuple[list[Any], list[Any]]:
    """Return copies whose results have other names."""
    initializers, nodes = copy.deepcopy([list(initializers), list(nodes)])
    for tensor in initializers:
        tensor.name = rename(tensor.name)
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [name and rename(name) for name in names]  # "" is an input left out
        node.name = node.output[0]
    return initializers, nodes


# -- skl2onnx ----------------------------------------------------------------------------------


def _infer_shape(operator: Any) -> None:
    """Tell skl2onnx the type of `transform`: float64 for float64, else float32."""
    kinds = import_module("skl2onnx.common.data_types")
    given = operator.inputs[0].type
    kind = kinds.DoubleTensorType if _is_double(operator) else kinds.FloatTensorType
    operator.outputs[0].type = kind([given.shape[0], operator.raw_operator._n_features_out])


def _is_double(operator: Any) -> bool:
    return type(operator.inputs[0].type).__name__ == "DoubleTensorType"


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add `transform` to the graph of skl2onnx."""
    if container.target_opset_onnx < OPSET:
        raise ValueError(
            f"target_opset is {container.target_opset_onnx}, but must be at least {OPSET}."
        )
    onnx, graph = _import("onnx"), _Graph()
    names = {variable.full_name: variable.full_name for variable in operator.inputs}
    single = type(operator.inputs[0].type).__name__ == "FloatTensorType"
    kind = np.dtype(np.float32 if single else np.float64)
    x, *more = names
    if more:
        x = graph.add("Concat", x, *more, axis=1)
    if not single:  # integers too
        x = graph.add("Cast", x, to=_tensor_type(kind))
    est = operator.raw_operator
    result, _ = _encode(graph, est._now().model, est._threshold(), "transform", x, kind)
    if _is_double(operator):
        result = graph.cast(result, SINGLE, kind)
    names[result] = operator.outputs[0].full_name

    def rename(name: str) -> str:
        if name not in names:
            names[name] = scope.get_unique_variable_name(name)
        return names[name]

    initializers, nodes = _renamed(graph.initializers, graph.nodes, rename)
    for tensor in initializers:
        container.add_initializer(tensor.name, tensor.data_type, list(tensor.dims), tensor)
    for node in nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        container.add_node(
            node.op_type, list(node.input), list(node.output), name=node.name, **attributes
        )


# -- helpers -----------------------------------------------------------------------------------


def _import(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"{package} is needed for this but not installed: pip install {package}"
        ) from error


def _check_dtype(dtype: Any, standardization: Standardization | None) -> np.dtype[Any]:
    """Return the type of the input, or its default."""
    if dtype is None:
        return SINGLE if standardization is None else standardization.offset.dtype
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"dtype is {dtype!r}, but must be np.float32 or np.float64.")
    return kind


def _tensor_type(kind: np.dtype[Any]) -> int:
    return int(import_module("onnx.helper").np_dtype_to_tensor_dtype(kind))


def _metadata(est: Any, model: Model, threshold: float, method: str) -> dict[str, str]:
    """Return the metadata of the model."""
    names = {
        "feature_names_in": getattr(est, "feature_names_in_", None),
        "feature_names_out": est.get_feature_names_out(),
        "classes": getattr(est, "classes_", None),
    }
    return {
        "estimator": type(est).__name__,
        "method": method,
        "version": __version__,
        "likelihood": model.architecture["likelihood"],
        "threshold": str(threshold),
        **{
            name: json.dumps(values.tolist(), default=str)
            for name, values in names.items()
            if values is not None
        },
    }
