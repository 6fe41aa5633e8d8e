"""
======================
Encoding with Ray Data
======================

`Dataset.map_batches` makes actors from a class. Each actor loads the model once and
encodes batch by batch. This package needs nothing from Ray, and Ray nothing from this
package.

Install ``pip install "ray[data]"``. The script runs on one machine. On a cluster, put
the model file where every worker can read it.
"""

# %%
# The model file holds data only, so no worker unpickles code. The columns are found by
# their names at fit. Ray does not keep the order of blocks unless told to, so each row
# carries an ``id``.

import os
import tempfile
from pathlib import Path

import numpy as np
import ray
from sklearn.datasets import load_digits

from sklearn_classvsc import ClassVSCTransformer

X, y = load_digits(return_X_y=True, as_frame=True)
estimator = ClassVSCTransformer(
    16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0
).fit(X, y)
model = str(Path(tempfile.mkdtemp()) / "model.safetensors")
estimator.save(model)


class Encode:
    """Encode batches with the model in a file."""

    def __init__(self, path):
        from sklearn_classvsc import ClassVSCTransformer

        self.estimator = ClassVSCTransformer.load(path)  # once per actor

    def __call__(self, batch):
        """Return the codes of a DataFrame."""
        Z = self.estimator.transform(batch[self.estimator.feature_names_in_])
        return {"id": batch["id"], "z": Z, "process": np.full(len(Z), os.getpid())}


# %%
# Two actors take one CPU each, and a third CPU stays free. If actors held every CPU,
# the tasks that read data would get none, and the pipeline would wait for ever. Ray
# gives an actor of one CPU one torch thread.

ray.init(num_cpus=3, include_dashboard=False)
ray.data.DataContext.get_current().wait_for_min_actors_s = 120  # so that both take part
X_id = X.assign(id=np.arange(len(X)))
blocks = [X_id[i : i + 512] for i in range(0, len(X), 512)]
table = ray.data.from_pandas(blocks)  # or read_parquet
codes = table.map_batches(
    Encode,
    fn_constructor_args=(model,),
    batch_format="pandas",
    batch_size=None,  # a block at a time
    num_cpus=1,
    compute=ray.data.ActorPoolStrategy(size=2),
)

# %%
# The last line compares the codes with those of one process.

found = codes.to_pandas().sort_values("id")
ray.shutdown()
Z = np.stack(found["z"])
here = estimator.transform(X)
print(
    f"ray {ray.__version__}: "
    f"{len(Z)} rows by {found['process'].nunique()} processes, "
    f"identical: {np.array_equal(Z, here)} "
    f"(largest difference {np.abs(Z - here).max():.1g})"
)
