"""Fit one model in several processes.

Run it with: torchrun --nproc_per_node 2 distributed_fit.py FOLDER
"""

import sys

import numpy as np

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.distributed import data_parallel

X = np.load(f"{sys.argv[1]}/X.npy", mmap_mode="r")
y = np.load(f"{sys.argv[1]}/y.npy")
with data_parallel() as accelerator:
    est = ClassVSCTransformer(max_epochs=5, random_state=0).fit(X, y)
    if accelerator.is_main_process:
        est.save(f"{sys.argv[1]}/model.safetensors")
