"""
======================
Encoding with Ray Data
======================

`Dataset.map_batches` with a class makes actors: each loads the model once, and encodes batch by
batch. Nothing of Ray's is needed by this package, nor the reverse.

Needs ``pip install "ray[data]"``. Here on one machine; on a cluster, the model file lies where
every worker can read it.
"""

# %%
# The model is a file that holds data only, so that no worker unpickles code. The columns are those
# of the fit, by name. Ray keeps no order of the blocks unless told to: an ``id`` goes through.

import os
import tempfile
from pathlib import Path

import numpy as np
import ray
from sklearn.datasets import load_digits

from sklearn_classvsc import ClassVSCTransformer

X, y = load_digits(return_X_y=True, as_frame=True)
estimator = ClassVSCTransformer(16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0).fit(
    X, y
)
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
# Two actors of one CPU each, and a CPU to spare: actors that hold every CPU leave none to the tasks
# that read, and the pipeline waits for ever. Ray gives an actor of one CPU one torch thread.

ray.init(num_cpus=3, include_dashboard=False)
ray.data.DataContext.get_current().wait_for_min_actors_s = 120  # so that both take part
X_id = X.assign(id=np.arange(len(X)))
table = ray.data.from_pandas([X_id[i : i + 512] for i in range(0, len(X), 512)])  # or read_parquet
codes = table.map_batches(
    Encode,
    fn_constructor_args=(model,),
    batch_format="pandas",
    batch_size=None,  # a block at a time
    num_cpus=1,
    compute=ray.data.ActorPoolStrategy(size=2),
)

# %%
# The codes are those of one process.

found = codes.to_pandas().sort_values("id")
ray.shutdown()
Z = np.stack(found["z"])
here = estimator.transform(X)
print(
    f"ray {ray.__version__}: {len(Z)} rows by {found['process'].nunique()} processes, "
    f"identical: {np.array_equal(Z, here)} (largest difference {np.abs(Z - here).max():.1g})"
)
