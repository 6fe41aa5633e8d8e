"""
=============================================
How do I save a pipeline and serve it?
=============================================

You fit a pipeline here and use it there: in another process, on another day, perhaps
without PyTorch. There are two ways. With its own file and skops, the pipeline returns
the same numbers, bit for bit. As ONNX it needs neither PyTorch nor scikit-learn, rounds
differently, and predicts the same classes.
"""

# %%
# Write the files
# ---------------
#
# The transformer saves itself to a file that holds data and no code: loading it runs
# nothing that is in the file. skops does the same for the other steps. ONNX holds the
# whole pipeline in one file.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pandas as pd
import skl2onnx
import skops.io
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.export import register_converters

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
code = ClassVSCTransformer(hidden_layer_sizes=(64,), max_epochs=60, random_state=0)
classify = LogisticRegression(max_iter=1000)
pipe = Pipeline([("scale", StandardScaler()), ("code", code), ("classify", classify)])
pipe.fit(X_train, y_train)

folder = Path(tempfile.mkdtemp())
pipe["code"].save(folder / "code.safetensors")
rest = Pipeline(pipe.steps).set_params(code="passthrough")
skops.io.dump(rest, folder / "rest.skops")

register_converters()
model = skl2onnx.to_onnx(pipe, X[:1], options={"zipmap": False})
(folder / "pipeline.onnx").write_bytes(model.SerializeToString())

# %%
# Load them and predict
# ---------------------
#
# A server loads the files once. For each request it gets rows of numbers, and returns
# the probabilities of the classes. The table compares both ways with the pipeline that
# was fitted.

loaded = skops.io.load(folder / "rest.skops").set_params(
    code=ClassVSCTransformer.load(folder / "code.safetensors")
)
session = onnxruntime.InferenceSession(folder / "pipeline.onnx")


def by_python(rows):
    """Return the probabilities of the classes."""
    return loaded.predict_proba(np.array(rows))


def by_onnx(rows):
    """Return the same without torch and scikit-learn."""
    inputs = {"X": np.array(rows, dtype=np.float64)}
    return session.run(["probabilities"], inputs)[0]


expected = pipe.predict_proba(X_test)
ways = {
    "own file and skops": (by_python, ["code.safetensors", "rest.skops"]),
    "ONNX": (by_onnx, ["pipeline.onnx"]),
}
table = {}
for way, (serve, names) in ways.items():
    found = serve(X_test)
    table[way] = {
        "kB": sum((folder / name).stat().st_size for name in names) / 1000,
        "largest difference": abs(found - expected).max(),
        "same class": (found.argmax(axis=1) == expected.argmax(axis=1)).mean(),
    }
table = pd.DataFrame(table).T
print(table.to_string(float_format="{:.3g}".format))

# %%
# The transformer's own file is larger, because it also holds what further training
# needs.
#
# Answer a request
# ----------------
#
# Three digits go in, and for each the probabilities of ten classes come out.

request = X_test[:3].tolist()
figure, axes = plt.subplots(2, 3, figsize=(7, 3.6), layout="constrained")
for image, answer, above, below in zip(request, by_onnx(request), *axes, strict=True):
    above.imshow(np.reshape(image, (8, 8)), cmap="gray_r")
    above.axis("off")
    below.bar(range(10), answer, color="#0072B2")
    below.set(ylim=(0, 1), xticks=range(10))
_ = axes[1, 0].set_ylabel("probability")

# %%
# **What this shows.** Both ways serve a whole pipeline, and no file here runs code when
# it is loaded. Choose ONNX if PyTorch is too large for the server, and the own file if
# you want to train on.
#
# **What it does not show.** The difference of ONNX, below 0.001 here, depends on the
# model and the data. Compare on your own rows.
#
# **Next.** :doc:`/deployment` has two servers, and :doc:`/persistence` the
# format of the file. :func:`~sklearn_classvsc.export.to_onnx` exports a transformer
# without a pipeline.

# sphinx_gallery_start_ignore
python, onnx = table.to_numpy()
assert python[1] == 0 < onnx[1] < 1e-3
assert table["same class"].eq(1).all()
assert python[0] > onnx[0]
# sphinx_gallery_end_ignore
