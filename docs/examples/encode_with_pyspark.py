"""
=========================
Encoding with PySpark
=========================

`DataFrame.mapInPandas` gives each task an iterator over pandas DataFrames. The task
loads the model once and encodes frame by frame. This package needs nothing from Spark,
and Spark nothing from this package.

Install ``pip install pyspark pandas pyarrow`` and a Java runtime (17 for Spark 4). The
script uses two local workers. On a cluster, put the model file where every worker can
read it.
"""

# %%
# The model file holds data only, so no worker unpickles code. The columns are found by
# their names at fit. Spark does not keep the order of rows, so each row carries an
# ``id``.

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
estimator = ClassVSCTransformer(
    16, hidden_layer_sizes=(64,), max_epochs=30, random_state=0
).fit(X, y)
model = str(Path(tempfile.mkdtemp()) / "model.safetensors")
estimator.save(model)


def encode(frames):
    """Yield the codes of the frames that a task gets."""
    from sklearn_classvsc import ClassVSCTransformer

    estimator = ClassVSCTransformer.load(model)  # once per task
    estimator.set_output(transform="pandas")
    for frame in frames:
        Z = estimator.transform(frame[estimator.feature_names_in_])
        yield Z.assign(id=frame["id"], process=os.getpid())


# %%
# Each worker gets one torch thread, because Spark already runs as many workers as there
# are cores. A batch has 1,024 rows, the number that ``transform`` takes at a time.
# ``PYSPARK_PYTHON`` makes the workers run this Python and not another one in the path.

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
X_id = X.assign(id=np.arange(len(X)))
table = spark.createDataFrame(X_id).repartitionByRange(2, "id")
codes = table.mapInPandas(encode, columns + "id long, process long")

# %%
# The schema is known before anything runs. The last line compares the codes with those
# of one process.

print(codes.schema.simpleString())
found = codes.toPandas().sort_values("id")
spark.stop()
Z = found[estimator.get_feature_names_out()].to_numpy()
here = estimator.transform(X)
print(
    f"pyspark {pyspark.__version__}: "
    f"{len(Z)} rows by {found['process'].nunique()} processes, "
    f"identical: {np.array_equal(Z, here)} "
    f"(largest difference {np.abs(Z - here).max():.1g})"
)
