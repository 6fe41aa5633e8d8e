"""Model files that must not load: crafted, damaged, and forged with the hash made right.

`tests/test_persistence.py` loads the crafted ones and some of the others, and
`benchmarks/fuzz.py` all of them and many more. Crafted files are made of that of a
ClassVSCTransformer with these `PARAMETERS`, fitted to this `DATA`.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import zipfile

import joblib
import numpy as np
import torch

from sklearn_classvsc._files import HEADER_LIMIT, PREFIX

PARAMETERS = {"n_components": 3, "hidden_layer_sizes": (4,), "max_epochs": 2, "random_state": 0}
_rng = np.random.default_rng(0)
DATA = (
    _rng.normal(size=(40, 5)) * [1, 10, 1e3, 1e-3, 1] + [0, 1e6, 0, 0, 1],
    np.arange(40) % 4,
)


def parse(content):
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    metadata = header.pop("__metadata__")
    return {k: json.loads(v) if v[0] == "{" else v for k, v in metadata.items()}, header, n


def seal(text, data):
    """Return a file of this header and data, with the hash made right."""
    text = bytes(text).replace(_hash_of(text), b"", 1)
    digest = hashlib.sha256(text + data).hexdigest().encode()
    text = PREFIX + digest + text[len(PREFIX) :]
    return len(text).to_bytes(8, "little") + text + data


def _hash_of(text):
    return bytes(text[len(PREFIX) : text.index(b'"', len(PREFIX))])


def forge(content, change):
    """Let `change` edit a file's metadata, header and data, and make the hash right again."""
    metadata, header, n = parse(content)
    data = bytearray(content[8 + n :])
    data = change(metadata, header, data) or data
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    metadata.pop("sha256")
    return seal(json.dumps({"__metadata__": {"sha256": ""} | metadata} | header).encode(), data)


WEIGHT = "_pending_state/module/encoder.0.weight"
MOMENT = "_pending_state/optimizer/state/0/exp_avg"
OTHER = "_pending_state/module/encoder.0.bias"


def put(tree, *path_and_value):
    *path, key, value = path_and_value
    for step in path:
        tree = tree[step]
    tree[key] = value


def write(header, data, name, value):
    begin = header[name]["data_offsets"][0]
    size = np.asarray(value).nbytes
    data[begin : begin + size] = np.asarray(value).tobytes()


def swap(header, one, other):
    header[one], header[other] = header[other], header[one]


def rename(header, old, new):
    header[new] = header.pop(old)


def on_tensors(change):
    """Return what edits metadata and tensors, (code of the dtype, shape, bytes) by name."""

    def edit(metadata, header, data):
        tensors = {
            name: (x["dtype"], x["shape"], bytes(data[slice(*x["data_offsets"])]))
            for name, x in header.items()
        }
        change(metadata, tensors)
        header.clear()
        content = b""
        for name, (dtype, shape, part) in tensors.items():
            span = [len(content), len(content) + len(part)]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": span}
            content += part
        return content

    return edit


def with_tensor(name, *tensor):
    """Return what puts a tensor in the place of another."""
    return on_tensors(lambda metadata, tensors: put(tensors, name, tensor))


def with_history(n, code="F64"):
    """Return what makes the history two columns of so many rows."""

    def change(metadata, tensors):
        columns = history(metadata)
        for name in [name for name in columns if name not in ("epoch", "train_loss")]:
            del columns[name], tensors[f"{HISTORY}{name}"]
        epochs = np.arange(1, n + 1)
        tensors[f"{HISTORY}epoch"] = ("I64", [n], epochs.tobytes())
        tensors[LOSS] = (code, [n], epochs.tobytes()[: n * {"U8": 1, "F64": 8}[code]])

    return on_tensors(change)


def history(metadata):
    return metadata["state"]["_pending_state"]["history"]["columns"]


def with_names(data, dtype="|O"):
    """Return what gives a file names of features, as the bytes of a tensor."""

    def change(metadata, tensors):
        node = {"$": "array", "tensor": "names"}
        put(metadata, "state", "feature_names_in_", {"$": "strings", "dtype": dtype, "items": node})
        tensors["names"] = ("U8", [len(data)], data)

    return on_tensors(change)


def with_classes(node):
    """Return what puts this in the place of the classes, whose tensor goes."""

    def change(metadata, tensors):
        put(metadata, "state", "classes_", node)
        del tensors["classes_"]

    return on_tensors(change)


HISTORY = "_pending_state/history/"
LOSS = f"{HISTORY}train_loss"
HTML = "<img src=x onerror=alert(1)>"
HUGE = 10**9
CRAFTED = {
    "format": (lambda m, h, d: put(m, "format", "pt"), "format 'pt'"),
    "newer schema": (lambda m, h, d: put(m, "schema_version", "5"), "version '5'.*Upgrade"),
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
        with_classes({"$": "labels", "dtype": "<U9999999", "items": [*"abcd"]}),
        "classes",
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
    "mixed likelihoods of no columns": (
        lambda m, h, d: put(m, "state", "_architecture", "likelihood", "mixed"),
        "likelihoods of other features",
    ),
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
CRAFTED |= {
    "NaN as a parameter": (
        lambda m, h, d: put(m, "params", "learning_rate", float("nan")),
        "'learning_rate' parameter",
    ),
    "infinite parameter": (
        lambda m, h, d: put(m, "params", json.dumps(m["params"]).replace("0.016", "1e999")),
        "'learning_rate' parameter",
    ),
    "endless integer": (
        lambda m, h, d: put(m, "params", '{"n_components": ' + "9" * 5000 + "}"),
        "ValueError",
    ),
    "state nested deeply": (lambda m, h, d: put(m, "state", '{"x":' * 10**4), None),
    "half a surrogate": (lambda m, h, d: put(m, "state", "\ud800", {"$": "\ud800"}), None),
    "class of the instance": (lambda m, h, d: put(m, "state", "__class__", "os"), "'__class__'"),
    "number of features a bool": (
        lambda m, h, d: put(m, "state", "_architecture", "n_features", True),
        "layers of widths",
    ),
    "no features": (lambda m, h, d: put(m, "state", "_architecture", "n_features", 0), "widths"),
    "double weight": (lambda m, h, d: put(h, WEIGHT, "dtype", "F64"), "by its shape"),
    "swapped tensors": (lambda m, h, d: swap(h, WEIGHT, OTHER), r"float32\(4,\)"),
    "infinite alpha": (
        lambda m, h, d: write(h, d, "_architecture/alpha", np.float32("inf")),
        "non-finite",
    ),
    "more columns than rows": (
        with_tensor(LOSS, "F64", [3], bytes(24)),
        "history",
    ),
    "short summary": (
        lambda m, h, d: put(m, "state", "x", {"$": "ClassSummary", "items": [1]}),
        "TypeError",
    ),
    "scalar that overflows": (
        lambda m, h, d: put(m, "state", "x", {"$": "scalar", "dtype": "U8", "value": 300}),
        "OverflowError|out-of-bound",
    ),
}


def state(name, value, of=None):
    """Return what puts a value into the state, or into a part of it."""
    return lambda m, h, d: put(m, "state", *[of] * (of is not None), name, value)


#: Names that scikit-learn or NumPy look for on an estimator: to show it, to route, to clone.
ATTRIBUTES = [
    "__doc_link_template", "_doc_link_template", "_doc_link_module", "_get_doc_link",
    "_doc_link_url_param_generator", "_repr_html_", "_repr_html_inner", "_repr_mimebundle_",
    "_sk_visual_block_",
    "_html_repr", "_metadata_request", "_parameter_constraints", "_estimator_type", "_more_tags",
    "__sklearn_tags__", "__sklearn_clone__", "_sklearn_auto_wrap_output_keys", "_sklearn_version",
    "_skl_callbacks", "_parent_callback_ctx", "_n_features_out", "feature_names_out_", "__doc__",
    "__module__", "__dict__", "__array__", "net_", "module_", "note", "_htmlrepr", "steps",
]  # fmt: skip
CRAFTED |= {
    f"attribute {name}": (
        lambda m, h, d, name=name: put(m, "state", name, f'https://x/"{HTML}'),
        "state named",
    )
    for name in ATTRIBUTES
}
#: Values of the wrong kind, at every name of the state and in its parts.
CRAFTED |= {
    f"{path} {value!r}": (
        lambda m, h, d, path=path, value=value: put(m, "state", *path.split("/"), value),
        None,
    )
    for path in (
        "n_iter_", "stop_reason_", "_several", "n_features_in_", "_standardization", "history_",
        "_sklearn_output_config", "_class_summary", "_checkpoint", "feature_names_in_",
        "bin_edges_", "_architecture/activation", "_architecture/gated",
        "_architecture/encoder", "_architecture/input_dropout", "_architecture/x",
        "_pending_state/x", "_pending_state/best", "_pending_state/honest",
        "_pending_state/schedule", "_architecture/cross_fit",
        "_pending_state/history", "_pending_state/optimizer",
    )
    for value in (HTML, -1.5, {"x": HTML}, [HTML])
}  # fmt: skip
#: Small files that would take much memory or time if they were believed.
CRAFTED |= {
    "no classes": (
        on_tensors(lambda m, t: t.pop("classes_") and m["state"].pop("classes_") and None),
        "classes",
    ),
    "names that are numbers": (
        state("feature_names_in_", {"$": "labels", "dtype": "|O", "items": [1, 2, 3, 4, 5]}),
        "names",
    ),
    "no settings of the optimiser": (
        lambda m, h, d: (
            m["state"]["_pending_state"]["optimizer"]["param_groups"][0].pop("lr") and None
        ),
        "optimizer settings",
    ),
    "column of nothing": (with_tensor(LOSS, "F64", [300, 300, 300, 0], b""), "sizes within"),
    "column of no end": (with_tensor(LOSS, "F64", [2000, 2000, 2000, 0], b""), "sizes within"),
    "column of rows": (with_tensor(LOSS, "F64", [2, 1], bytes(16)), "history"),
    "column of no rows": (with_tensor(LOSS, "F64", [0], b""), "history"),
    "column of bytes": (with_tensor(LOSS, "U8", [10**7], bytes(10**7)), "history"),
    "columns of bytes": (with_history(10**6, "U8"), "history"),
    "long columns": (with_history(1_000_001), "history"),
    "more epochs than trained": (with_history(10**5), "epochs"),
    "weight of nothing": (with_tensor(WEIGHT, "F32", [4, 300, 300, 0], b""), "float32|sizes"),
    "class profile of nothing": (
        with_tensor("_pending_state/module/gates.profile", "F32", [0, 3], b""),
        "float32",
    ),
    "names that are too few": (with_names(b"a\xffb\xff"), "names"),
    "names that are too many": (with_names(b"\xff" * 10**7), "names"),
    "names without an end": (with_names(b"a" * 10**7), "0 names"),
    "half a name": (with_names(b"a\xffb\xffc\xffd\xffe\xfff"), "5 names"),
    "names that are no text": (with_names(b"a\xffb\xffc\xffd\xff\xc3\xff"), "UnicodeDecodeError"),
    "names of wide strings": (with_names(b"a\xff" * 5, "<U9999999"), "names"),
    "classes of wide strings": (
        with_classes({"$": "labels", "dtype": "<U9999999", "items": [*"abcd"]}),
        "classes",
    ),
    "parameter of wide strings": (
        lambda m, h, d: put(
            m, "params", "alpha", {"$": "labels", "dtype": "<U9999999", "items": [*"abcd"]}
        ),
        "alpha",
    ),
    "many wide strings": (
        state(
            "history_",
            {f"{i}": {"$": "labels", "dtype": "<U999999", "items": ["a"] * 8} for i in range(999)},
        ),
        None,
    ),
    "classes one of which is a list": (
        with_classes({"$": "labels", "dtype": "|O", "items": [[1] * 9] * 4}),
        "labels",
    ),
    "many components": (lambda m, h, d: put(m, "params", "n_components", HUGE), "n_components"),
    "nested widths": (
        lambda m, h, d: put(m, "params", "hidden_layer_sizes", [[4]]),
        "hidden_layer",
    ),
    "a dict as a parameter": (lambda m, h, d: put(m, "params", "unlabeled", {"a": 1}), "unlabeled"),
    "a wide body as a parameter": (
        lambda m, h, d: put(
            m,
            "params",
            "encoder",
            {"$": "body", "of": "ConvEncoder", "params": {"channels": {"a": HTML}}},
        ),
        "encoder=",
    ),
    "1,001 layers": (
        lambda m, h, d: put(m, "state", "_architecture", "hidden_layer_sizes", [4] * 1001),
        "layer",
    ),
    "brackets that are escaped": (
        lambda m, h, d: put(m, "params", '{"alpha": [' + "[]," * 300_000 + "0]}"),
        "too many parts|header",
    ),
    "a scalar of many": (
        state("n_iter_", {"$": "scalar", "dtype": "F64", "value": [1.0] * 1000}),
        "scalar",
    ),
    "output of another kind": (state("_sklearn_output_config", {"transform": HTML}), "set_output"),
}


def _packed(data):
    """Return an archive of one compressed file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", data)
    return file.getvalue()


class _Payload:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def payloads(canary):
    """Return files by name that make the folder `canary` where they are unpickled."""
    files = {f"pickle {n}": pickle.dumps(_Payload(canary), protocol=n) for n in range(6)}
    joblib.dump(_Payload(canary), stream := io.BytesIO())
    array = np.array([_Payload(canary)], object)
    np.save(npy := io.BytesIO(), array, allow_pickle=True)
    np.savez_compressed(npz := io.BytesIO(), a=array)
    torch.save(_Payload(canary), checkpoint := io.BytesIO())
    streams = {"joblib": stream, "npy": npy, "npz": npz, "torch": checkpoint}
    files |= {name: stream.getvalue() for name, stream in streams.items()}
    header = b'{"__metadata__": {"format": "pt"}}'
    pickled = files["pickle 2"]
    return files | {
        "pickle behind a length": len(pickled).to_bytes(8, "little") + pickled,
        "pickle behind a header": len(header).to_bytes(8, "little") + header + pickled,
    }


def _foreign():
    """Return a safetensors file that some other tool wrote."""
    text = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(text).to_bytes(8, "little") + text + bytes(4)


#: What was never a model file.
NOT_FILES = {
    "empty": b"",
    "a length": b"\0" * 8,
    "text": b"a text file\n" * 9,
    "JSON": b'{"__metadata__": {}}',
    "long header": (HEADER_LIMIT + 1).to_bytes(8, "little") + b" " * 100,
    "longest header": b"\xff" * 200,
    "empty header": (2).to_bytes(8, "little") + b"{}",
    "null": (4).to_bytes(8, "little") + b"null",
    "not UTF-8": (3).to_bytes(8, "little") + "ß{".encode(),
    "nested deeply": (10**5).to_bytes(8, "little") + b"[" * 10**5,
    "endless integer": (5000).to_bytes(8, "little") + b"9" * 5000,
    "of another tool": _foreign(),
    "zip bomb": _packed(bytes(10**8)),
    "gzip bomb": gzip.compress(bytes(10**8)),
    "tar": b"data.pkl" + bytes(10232),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(500),
}


#: Headers that take the most memory to parse.
HEAVY = {
    name: b"[" + part * (HEADER_LIMIT // len(part) - 2) + b"0]"
    for name, part in {"lists": b"[],", "dicts": b'{"":0},', "texts": b'"ab",'}.items()
}


# -- mutations ----------------------------------------------------------------------------------

#: What a forger may put in the place of any part of the JSON.
ODD = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, -0.0, 0.5, float("nan"),
    "", "F64", "\0", "x" * 5000, "os.system", [], {}, [[]], [0] * 500, {"$": "array"},
    {"$": "array", "tensor": "classes_"}, {"$": "tuple", "items": [1]}, {"$": "pairs", "items": 3},
    {"$": "labels", "dtype": "<U3", "items": ["a", "b"]}, {"$": None}, "[" * 200, {"a": {"a": 1}},
]  # fmt: skip


def damage(content, rng):
    """Return a file with bits flipped, or parts cut, inserted, doubled, swapped or zeroed."""
    a, b = np.sort(rng.integers(0, len(content) + 1, 2))
    kind = rng.integers(7)
    if kind == 0:
        flipped = bytearray(content)
        for i in rng.integers(0, len(content), rng.integers(1, 9)):
            flipped[i] ^= 1 << rng.integers(8)
        return bytes(flipped)
    if kind == 1:
        return content[:a]
    if kind == 2:
        return content[:a] + rng.bytes(rng.integers(1, 100)) + content[a:]
    if kind == 3:
        return content[:a] + content[min(b, a + 100) :]
    if kind == 4:
        return content[:b] + content[a:b][:5000] + content[b:]
    if kind == 5:
        return content[b:] + content[a:b] + content[:a]
    return content[:a] + bytes(b - a) + content[b:]


def lie(content, rng):
    """Return a file with parts of the header or data replaced, and the hash made right."""
    if rng.integers(6) == 0:  # in the text or the data, byte by byte
        n = int.from_bytes(content[:8], "little")
        text, data = bytearray(content[8 : 8 + n]), bytearray(content[8 + n :])
        part = (text, data)[rng.integers(2)]
        for i in rng.integers(0, len(part), rng.integers(1, 5)):
            part[i] = rng.integers(256)
        try:
            return seal(text, bytes(data))
        except ValueError:  # no hash left to make right
            return len(text).to_bytes(8, "little") + text + data

    def change(metadata, header, data):
        for _ in range(rng.integers(1, 4)):
            kind = rng.integers(4)
            names = list(header)
            if kind == 0:
                swap(header, *rng.choice(names, 2, replace=False))
            elif kind == 1:
                one, other = (header[name] for name in rng.choice(names, 2, replace=False))
                key = rng.choice(list(one))
                one[key], other[key] = other[key], one[key]
            else:
                tree = (header, metadata)[kind - 2]
                while tree:  # down to a part at a random depth
                    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
                    key = keys[rng.integers(len(keys))]
                    if not isinstance(tree[key], dict | list) or rng.integers(4) == 0:
                        if rng.integers(4) or isinstance(tree, list):
                            tree[key] = ODD[rng.integers(len(ODD))]
                        else:
                            del tree[key]
                        break
                    tree = tree[key]

    try:
        return forge(content, change)
    except (KeyError, TypeError, AttributeError, ValueError):  # nothing left to change
        return damage(content, rng)
