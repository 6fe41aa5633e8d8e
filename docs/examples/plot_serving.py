"""
==============================
Saving a model, and serving it
==============================

A pipeline is fitted here and used there: in another process, on another day, perhaps without
PyTorch. What are the ways, and do they give the same?
"""

# %%
# Three files
# -----------
#
# The transformer's own file holds data and no code: loading it runs nothing that is in it. For the
# steps of scikit-learn skops does the same. ONNX takes the pipeline as a whole, and needs neither
# of them afterwards.

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
pipe = Pipeline(
    [
        ("scale", StandardScaler()),
        ("code", ClassVSCTransformer(hidden_layer_sizes=(64,), max_epochs=60, random_state=0)),
        ("classify", LogisticRegression(max_iter=1000)),
    ]
).fit(X_train, y_train)

folder = Path(tempfile.mkdtemp())
pipe["code"].save(folder / "code.safetensors")
skops.io.dump(Pipeline(pipe.steps).set_params(code="passthrough"), folder / "rest.skops")
register_converters()
model = skl2onnx.to_onnx(pipe, X[:1], options={"zipmap": False})
(folder / "pipeline.onnx").write_bytes(model.SerializeToString())

# %%
# The other side
# --------------
#
# What a server does when it starts, and then for every request: rows of numbers in, predictions
# out.

loaded = skops.io.load(folder / "rest.skops").set_params(
    code=ClassVSCTransformer.load(folder / "code.safetensors")
)
session = onnxruntime.InferenceSession(folder / "pipeline.onnx")


def by_python(rows):
    """Return the probabilities of the classes."""
    return loaded.predict_proba(np.array(rows))


def by_onnx(rows):
    """Return the same without torch and scikit-learn."""
    return session.run(["probabilities"], {"X": np.array(rows, dtype=np.float64)})[0]


expected = pipe.predict_proba(X_test)
table = pd.DataFrame(
    {
        "kB": [
            sum((folder / name).stat().st_size for name in names) / 1000
            for names in (["code.safetensors", "rest.skops"], ["pipeline.onnx"])
        ],
        "largest difference": [
            abs(serve(X_test) - expected).max() for serve in (by_python, by_onnx)
        ],
        "same predictions": [
            (serve(X_test).argmax(axis=1) == expected.argmax(axis=1)).mean()
            for serve in (by_python, by_onnx)
        ],
    },
    index=["own file and skops", "ONNX"],
)
print(table.to_string(float_format="{:.3g}".format))

# %%
# From its files the pipeline gives the same numbers, bit for bit: the model's file also holds what
# it needs to go on training, which is why it is larger. ONNX rounds differently, in the sixth digit
# or so.
#
# What a client sees: a digit goes in, and the probabilities of the classes come out.

request = X_test[:3].tolist()
figure, axes = plt.subplots(2, 3, figsize=(7, 3.6), layout="constrained")
for image, answer, above, below in zip(request, by_onnx(request), *axes, strict=True):
    above.imshow(np.reshape(image, (8, 8)), cmap="gray_r")
    above.axis("off")
    below.bar(range(10), answer, color="#0072B2")
    below.set(ylim=(0, 1), xticks=range(10))
_ = axes[1, 0].set_ylabel("probability")

# sphinx_gallery_start_ignore
assert table["largest difference"].iloc[0] == 0
assert table["largest difference"].iloc[1] < 1e-3
assert table["same predictions"].eq(1).all()
assert table["kB"].iloc[0] > table["kB"].iloc[1]
# sphinx_gallery_end_ignore
