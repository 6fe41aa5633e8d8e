"""
=========================
Encoding with PySpark
=========================

`DataFrame.mapInPandas` hands each task an iterator of pandas DataFrames: load the model once, then
encode frame by frame. Nothing of Spark's is needed by this package, nor the reverse.

Needs ``pip install pyspark pandas pyarrow`` and a Java runtime (17 for Spark 4). Here on two local
workers; on a cluster, the model file lies where every worker can read it.
"""

# %%
# The model is a file that holds data only, so that no worker unpickles code. The columns are those
# of the fit, by name. Spark keeps no order of the rows: an ``id`` goes through with them.

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyspark
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits

from sklearn_classvsc import ClassVSCTransformer

X, y = load_digits(return_X_y=True, as_frame=True)
estimator = ClassVSCTransformer(16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0).fit(
    X, y
)
model = str(Path(tempfile.mkdtemp()) / "model.safetensors")
estimator.save(model)


def encode(frames):
    """Yield the codes of the frames that a task gets."""
    from sklearn_classvsc import ClassVSCTransformer

    estimator = ClassVSCTransformer.load(model).set_output(transform="pandas")  # once per task
    for frame in frames:
        Z = estimator.transform(frame[estimator.feature_names_in_])
        yield Z.assign(id=frame["id"], process=os.getpid())


# %%
# One torch thread for each worker: Spark runs as many workers as there are cores already. A batch
# has 1,024 rows, as ``transform`` takes them. Workers are to run this Python, not another in the
# path.

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.executorEnv.OMP_NUM_THREADS", "1")
    .config("spark.sql.execution.arrow.maxRecordsPerBatch", 1024)
    .getOrCreate()
)
columns = "".join(f"{name} float, " for name in estimator.get_feature_names_out())
table = spark.createDataFrame(X.assign(id=np.arange(len(X)))).repartitionByRange(2, "id")
codes = table.mapInPandas(encode, columns + "id long, process long")

# %%
# The schema is known before anything runs; the codes are those of one process.

print(codes.schema.simpleString())
found = codes.toPandas().sort_values("id")
spark.stop()
Z = found[estimator.get_feature_names_out()].to_numpy()
here = estimator.transform(X)
print(
    f"pyspark {pyspark.__version__}: {len(Z)} rows by {found['process'].nunique()} processes, "
    f"identical: {np.array_equal(Z, here)} (largest difference {np.abs(Z - here).max():.1g})"
)
