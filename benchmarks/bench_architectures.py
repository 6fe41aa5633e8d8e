"""Whether convolutions, or residual blocks, make better codes of images than the default MLP.

Fits ClassVSC, by default parameters but for the bodies, to two image sets for the same number of
epochs, and the MLP for about the same time too, and scores it on the test images. Finished runs are
kept, as by `bench_paper.py`.

    python benchmarks/bench_architectures.py --quick
    python benchmarks/bench_architectures.py --data-dir DIR
    python benchmarks/bench_architectures.py --data-dir DIR --n-train 60000 --epochs 20
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import _common as common
from _common import Column, ResultStore, Row
from bench_paper import COLUMNS, DATASETS, N_COMPONENTS, score

from sklearn_classvsc import ClassVSCTransformer
from sklearn_classvsc.bodies import ConvDecoder, ConvEncoder, ResidualMLP

IMAGE = (1, 28, 28)
#: What is compared with what.
PAIRS = [("conv", "mlp"), ("conv", "mlp-long"), ("residual", "mlp")]
#: How each system differs from the default constructor.
BODIES: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_layer_sizes": (400,)},
    "mlp-long": {"hidden_layer_sizes": (400,)},
    "residual": {"encoder": ResidualMLP(), "decoder": ResidualMLP()},
    "conv": {"encoder": ConvEncoder(IMAGE), "decoder": ConvDecoder(IMAGE)},
}
#: Epochs, as multiples of the others': so that the MLP has about the time of the convolutions.
LONGER = {"mlp-long": 8}
LABELS = {
    "mlp": "MLP, 400 hidden",
    "mlp-long": "MLP, 400 hidden, 8 times the epochs",
    "residual": "residual MLP, 256 wide, 2 blocks",
    "conv": "convolutions, 32 and 64 channels",
}
TABLE = [*COLUMNS, Column("seconds per epoch", "per_epoch", 1)]
COMPARED = [
    ("EV", "explained_variance"),
    ("C", "consistency"),
    ("contrast", "contrast"),
    ("accuracy", "accuracy"),
]
LEGEND = """\
Test data; mean ± standard deviation over seeds. The columns are those of
[the paper's question](benchmark_paper.md): EV, explained variance of the images decoded from
`transform`; active, mean number of non-zeros of a code; dead, global, shared, class-specific and
sporadic dimensions; C, class consistency; off-class, mean sharing between classes; contrast, over
the dimensions that are not global; own, classes with a dimension of their own or shared by at most
three; accuracy of a logistic regression on the codes. seconds per epoch: of `fit`, on one thread
of a machine that had other work too, so only their size counts.

All systems are `ClassVSCTransformer({n_components})` with its default objective and learning rate,
trained for {epochs} epochs of {n_train} images in batches of 256. Equal epochs are equal numbers of
gradient steps, and not equal time; hence the MLP that trains longer. Nothing was tuned for any of
them.{short}"""
SHORT = """ So few images and epochs leave them unfinished, and say little about which is best
once all are trained to the end."""


def run(task: Row) -> Row:
    """Fit one system to one data set with one seed, and score it."""
    split = common.load_images(DATASETS[task["dataset"]], *task["load"])
    epochs = task["epochs"] * LONGER.get(task["system"], 1)
    estimator = ClassVSCTransformer(
        N_COMPONENTS,
        max_epochs=epochs,
        batch_size=256,
        random_state=task["seed"],
        **BODIES[task["system"]],
    )
    with common.Stopwatch() as watch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(split.X_train, split.y_train)
    return score(estimator, split, task["seed"]) | {
        "n_weights": sum(x.numel() for x in estimator.module_.parameters()),
        "seconds": watch.seconds,
        "per_epoch": watch.seconds / epochs,
        "warnings": common.warning_texts(caught),
        "environment": common.environment(),
    }


def write_page(path: Path, store: ResultStore, arguments: argparse.Namespace) -> None:
    """Write what was measured at this number of epochs and images."""
    setting = (arguments.epochs, arguments.n_train)
    rows = [row for row in store.rows.values() if (row["epochs"], row["n_train"]) == setting]
    if not rows:
        return
    command = "python benchmarks/bench_architectures.py"
    if arguments.quick:
        command += " --quick`: a smoke test, not a result."
    else:
        command += f" --n-train {arguments.n_train} --epochs {arguments.epochs}`."
    lines = [
        "# Benchmark: convolutions against the MLP",
        f"Written by `{command}",
        LEGEND.format(
            n_components=N_COMPONENTS,
            epochs=arguments.epochs,
            n_train=f"{arguments.n_train:,}",
            short=SHORT if arguments.n_train * arguments.epochs < 60_000 * 20 else "",
        ),
    ]
    for dataset, name in DATASETS.items():
        groups = {
            system: [row for row in rows if (row["dataset"], row["system"]) == (dataset, system)]
            for system in BODIES
        }
        if any(groups.values()):
            lines += [f"## {name}", *section(groups)]
    common.write(path, "\n\n".join([*lines, "## Where it ran", common.environment_text(rows)]))


def section(groups: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the paragraphs on one data set."""
    seeds = sorted({row["seed"] for rows in groups.values() for row in rows})
    few = "" if len({len(x) for x in groups.values()}) == 1 else " (not all systems have all)"
    labelled = {
        f"{LABELS[system]}: {rows[0]['n_weights']:,} weights": rows
        for system, rows in groups.items()
        if rows
    }
    paragraphs = [
        f"Seeds {', '.join(map(str, seeds))}{few}.",
        common.summary_table(labelled, TABLE, "system"),
    ]
    compared = [compare(one, other, groups[one], groups[other]) for one, other in PAIRS]
    paragraphs.append("\n".join(filter(None, compared)))
    said = [
        f"- {LABELS[system]}, seed {row['seed']}: {text}"
        for system, rows in groups.items()
        for row in rows
        for text in row["warnings"]
    ]
    return [*paragraphs, "Warnings during `fit`:", "\n".join(said)] if said else paragraphs


def compare(one: str, other: str, rows: Sequence[Row], others: Sequence[Row]) -> str:
    """Write how a system differs from another, over the seeds that both have."""
    pairs = [(a, b) for a in rows for b in others if a["seed"] == b["seed"]]
    if not pairs:
        return ""
    parts = []
    for name, field in COMPARED:
        differences = [a[field] - b[field] for a, b in pairs]
        mean = sum(differences) / len(differences)
        span = f"{min(differences):+.3f} to {max(differences):+.3f}"
        parts.append(f"{name} {mean:+.3f} ({span})")
    ratio = sum(a["seconds"] for a, _ in pairs) / sum(b["seconds"] for _, b in pairs)
    return (
        f"- **{LABELS[one]}** less **{LABELS[other]}** of the same seed, mean and range of "
        f"{len(pairs)}: {', '.join(parts)}; {ratio:.1f} times the time."
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `--quick` fills in what is not given."""
    parser = common.argument_parser(__doc__, "about a minute", "default: 10")
    add = parser.add_argument
    add("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    add("--systems", nargs="+", choices=list(BODIES), default=list(BODIES))
    add("--n-train", type=int, help="train on the first so many images; default: 10000")
    arguments = parser.parse_args()
    common.fill_in(arguments, "bench_architectures", epochs=(3, 10), n_train=(2000, 10_000))
    return arguments


def main() -> int:
    """Run what is missing, then write the page."""
    arguments = parse_arguments()
    load = arguments.data_dir, arguments.n_train, 2000 if arguments.quick else None
    for dataset in arguments.datasets:  # fails early
        common.load_images(DATASETS[dataset], *load)
    tasks = [
        {
            "dataset": dataset,
            "system": system,
            "seed": seed,
            "epochs": arguments.epochs,
            "n_train": arguments.n_train,
            "load": load,
        }
        for seed in arguments.seeds  # the first of everything before the second of anything
        for dataset in arguments.datasets
        for system in arguments.systems
    ]
    store = ResultStore(arguments.results, ["dataset", "system", "seed", "epochs", "n_train"])
    ok = common.run_tasks(tasks, run, store, arguments.jobs, arguments.fresh)
    write_page(arguments.output_dir / "benchmark_architectures.md", store, arguments)
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
