"""The page that `bench_speed.py` writes: what it must show, the tables, the plot of the growth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import _common as common
import numpy as np
from _common import Row
from _speed_targets import (
    AXES,
    TARGETS,
    Rows,
    growth_points,
    per_unit,
    ratio,
    slope,
    spread,
)

INTRODUCTION = """\
# Benchmark: speed

Written by `python benchmarks/bench_speed.py{quick}; do not edit.

*Is it as fast as PyTorch written by hand, and faster than what people would use instead?*

- **Interleaved**: the systems of a table run in one process in turn, there and back again, after a
  warm-up of each. A ratio is of two runs of the same round: its median, then the smallest and the
  largest in brackets. A target is judged by the median.
- **Threads**: {threads} for torch and the BLAS, which is what joblib gives a worker. CPU / wall is
  the processor's time of this process over the time on the wall: below the number of threads, the
  machine was busy with something else.
- **Steps**: an epoch of {n_samples:,} rows where nothing else is said. In `fit`, a callback times
  the epoch and what the package does at its end, without what `fit` does once (checking, building,
  and summing up at most 10,000 codes); that part is named below the table.
- **The same mathematics**: before anything is timed, the hand loops start from the package's
  initial weights and train beside it for eight steps on one batch, the noise replaced by its
  medians. {check}
"""
SYSTEMS = {
    "package": "this package",
    "plain": "plain hand loop: DataLoader of a TensorDataset, Adam's defaults, `.item()` each step",
    "lean": "best hand loop: whole batches, fused Adam, terms merged, nothing read out",
    "skorch": "skorch's default path: same module and loss",
    "pythae": "`pythae`'s trainer, a VAE of the same layers (no gates, no classes)",
    "products": "bare matrix products",
}


def cpu_flags() -> list[str]:
    """Return the instructions that the processor says it has; none where it does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.split() for x in lines if x.startswith(("flags", "Features"))), [])


# -- tables --------------------------------------------------------------------------------------


def seconds_table(
    rows: Sequence[Row], labels: Mapping[str, str], unit: str, to: Sequence[str]
) -> str:
    """Write a line for each system: its times, and the package's times over them."""
    factor = {"ms": 1e3, "s": 1.0}[unit.split()[0]]
    by_name = {("", row["name"]): row for row in rows}
    body = []
    for name, label in labels.items():
        row = by_name.get(("", name))
        if row is None:
            continue
        if "absent" in row:
            body.append([label, f"not available: {row['absent']}", *["-"] * (3 + len(to))])
            continue
        values = factor * per_unit(row)
        cells = [f"{f(values):.3g}" for f in (np.min, np.median, np.max)]
        busy = sum(row["cpu"]) / sum(row["wall"])
        ratios = ["1" if name == other else spread(ratio("", name, other)(by_name)) for other in to]
        body.append([label, *cells, f"{busy:.2f}", *ratios])
    heads = [
        f"{unit}, min",
        "median",
        "max",
        "CPU / wall",
        *(f"/ {labels[x].split(':')[0]}" for x in to),
    ]
    return common.markdown_table(["", *heads], body)


def fit_section(rows: Rows, section: str) -> list[str]:
    """Return the table of one objective."""
    chosen = of(rows, section)
    if not chosen:
        return []
    package = rows[section, "package"]
    once = np.array(package["whole"]) - package["wall"]
    epoch = np.median(package["wall"])
    return [
        seconds_table(chosen, SYSTEMS, "ms a step", ["lean", "products"]),
        f"Once a fit, beside the epochs: {spread(once)} s, "
        f"{100 * np.median(once) / (20 * epoch):.1f} % of 20 epochs.",
    ]


def of(rows: Rows, section: str) -> list[Row]:
    """Return the rows of a section."""
    return [row for (name, _), row in rows.items() if name == section]


def bfloat16_section(rows: Rows) -> list[str]:
    chosen = of(rows, "bfloat16")
    if any("absent" in row for row in chosen):
        return [f"Not available: {chosen[0]['absent']}."]
    labels = {
        "float32": "fit, float32",
        "bfloat16": "fit, bfloat16",
        "products, float32": "bare products, float32",
        "products, bfloat16": "bare products, bfloat16",
    }
    quality = [row for row in chosen if row["name"].startswith("quality")]
    body = [
        [
            row["name"].split(", ")[1],
            f"{row['explained_variance']:.4f}",
            f"{row['consistency']:.4f}",
        ]
        for row in quality
    ]
    return [
        seconds_table(chosen, labels, "ms a step", ["float32"]),
        f"What a fit reaches ({quality[0]['data']}), on test rows:",
        common.markdown_table(["", "explained variance", "class consistency"], body),
    ]


def classes_section(rows: Rows) -> list[str]:
    names = [row["name"] for row in of(rows, "classes")]
    words = {"balanced": "default objective", "paper": '`objective="paper"`'}
    labels = {}
    for name in names:
        objective, n, which = name.split(", ")
        labels[name] = f"{words[objective]}; {int(n):,} classes; {which} the terms of the classes"
    return [
        "The same model twice, trained by ClassVSC's objective and by VSC's, whose terms know no "
        "classes: the difference is what the terms of the classes cost, forward and backward. In "
        "the default objective that is all of them, in the paper's its consistency term and the "
        "split of the spike's divergence by class. The share is of the processor's time.",
        seconds_table(of(rows, "classes"), labels, "ms a step", []),
    ]


def transform_section(rows: Rows) -> list[str]:
    chosen = of(rows, "transform")
    n, few = chosen[0]["rows"], rows["transform", "OMP"]["rows"]
    labels = {
        "package": "this package, `transform`",
        "forward pass": "bare forward pass",
        "products": "its two matrix products",
        "OMP": f"MiniBatchDictionaryLearning, OMP, 10 non-zeros (from {few:,} rows)",
        "PCA": "PCA",
        "NMF": f"NMF (from {few:,} rows)",
    }
    return [
        f"{n:,} rows. The bare forward pass is the encoder's layers (linear, LayerNorm, ReLU, "
        "linear) in `inference_mode`, 1,024 rows at a time into memory that is there already: no "
        "checks, no gates.",
        seconds_table(chosen, labels, "s", ["forward pass"]),
    ]


def peers_section(rows: Rows) -> list[str]:
    chosen = [row for row in of(rows, "peers") if "absent" not in row]
    body = [
        [
            f"`{row['name']}`",
            spread(np.array(row["wall"])),
            str(len(row["wall"])),
            spread(np.array(row["transform"]), "{:.3f}"),
            f"{row['accuracy']:.3f}",
        ]
        for row in chosen
    ]
    table = common.markdown_table(
        ["", "fit, s", "repeats", "transform of the test rows, s", "accuracy of the codes"], body
    )
    text = (
        f"{chosen[0]['data']}, {chosen[0]['rows']:,} rows, 50 components, each with its own "
        "default stopping rule, in turn in one process. Accuracy: logistic regression on the codes "
        "of at most 5,000 rows, on test rows."
    )
    if len(chosen) < len(of(rows, "peers")):
        text += f" `dictlearn`'s LCDLClassifier is {rows['peers', 'LCDLClassifier']['absent']}."
    else:
        text += " LCDLClassifier: five atoms and non-zeros for each class."
    return [text, table]


def growth_section(rows: Rows) -> list[str]:
    parts = [
        "One number doubles, the others stay; slopes are of the logarithms over all sizes, 1 is "
        "proportional, below 1 the fixed cost of a step still counts. Memory: the most that "
        "tensors and arrays had together, beyond the data; the batch stays the same.",
        "![Growth of time and memory](images/bench_speed_growth.png)",
    ]
    body = []
    for axis in AXES:
        points = growth_points(rows, axis)
        for name, shown, field, scale in (
            ("ms an epoch", "{:.0f}", "wall", 1e3),
            ("MB", "{:.2f}", "allocated_bytes", 1e-6),
        ):
            values = [scale * np.median(row[field]) for row in points]
            cells = [
                f"{row['size']:,}: " + shown.format(v)
                for row, v in zip(points, values, strict=True)
            ]
            last = values[-1] / values[-2]
            body.append(
                [axis, name, ", ".join(cells), f"{slope(axis, field)(rows)[0]:.2f}", f"{last:.2f}"]
            )
    return [*parts, common.markdown_table(["", "", "at", "slope", "last doubling x"], body)]


def memory_section(rows: Rows) -> list[str]:
    row = rows["memory", "fit"]
    fields = {
        "data": "data_bytes",
        "3 batches": ("batch_bytes", 3),
        "4 x the model": ("model_bytes", 4),
        "tensors at their peak (torch's record)": "torch_bytes",
        "arrays and Python objects at their peak (tracemalloc)": "numpy_bytes",
        "both together": "allocated_bytes",
        "rise of the resident memory": "resident_bytes",
    }
    body = []
    for label, field in fields.items():
        name, times = field if isinstance(field, tuple) else (field, 1)
        body.append([label, f"{times * row[name] / 1e6:.1f}"])
    return [
        f"A fit of one epoch of {row['rows']:,} rows in a process of its own. torch and NumPy "
        "report every allocation, so that these figures are exact and the same in each run. The "
        "tensors' peak is in training, that of the arrays after it, where codes are summed up: "
        "together is the largest sum of the two peaks before, during or after training. The "
        "resident memory is the kernel's: it also holds what allocators keep, and what the BLAS "
        "sets up for its first product of a size, whatever the model.",
        common.markdown_table(["", "MB"], body),
    ]


def imports_section(rows: Rows) -> list[str]:
    body = [
        [
            f"`{row['then']}`",
            f"`{row['first']}`" if row["first"] else "nothing",
            spread(np.array(row["wall"])),
            f"{min(row['wall']):.3f}",
            "yes" if row["torch"] else "no",
        ]
        for row in of(rows, "imports")
    ]
    return [common.markdown_table(["import", "after", "s", "min", "torch is imported"], body)]


def unpickling_section(rows: Rows) -> list[str]:
    body = [
        [row["name"], spread(1e3 * np.array(row["wall"]), "{:.1f}")]
        for row in of(rows, "unpickling")
    ]
    return [
        "A model of the large fit, transforms of 1,000 rows; then in fresh processes, where the "
        "first call also waits for libraries to set themselves up, and the first fit for imports.",
        common.markdown_table(["", "ms"], body),
    ]


# -- page ----------------------------------------------------------------------------------------

HEADINGS: dict[str, tuple[str, Callable[[Rows], list[str]]]] = {
    "fit": (
        "Fit: 784 features, 400 hidden, 50 dimensions, batch 256",
        lambda rows: fit_section(rows, "fit"),
    ),
    "fit-vsc": ("The same with VSC's objective", lambda rows: fit_section(rows, "fit-vsc")),
    "bfloat16": ("The same in bfloat16", bfloat16_section),
    "digits": (
        "Fit: digits, 64 features, 64 hidden, 16 dimensions, batch 128",
        lambda rows: [
            "The whole of `fit`, 20 epochs, and the whole of the loops, building included.",
            seconds_table(of(rows, "digits"), SYSTEMS, "ms a step", ["lean", "skorch"]),
        ],
    ),
    "classes": ("What the terms of the classes cost", classes_section),
    "transform": ("Transform", transform_section),
    "peers": ("Beside what people would use instead", peers_section),
    "growth": ("Growth", growth_section),
    "memory": ("Memory of a fit", memory_section),
    "imports": ("Imports", imports_section),
    "unpickling": ("After unpickling", unpickling_section),
}


def write_page(folder: Path, rows: Sequence[Row], quick: bool, threads: int) -> None:
    """Write the page and the plot of what has been measured."""
    known = {(row["section"], row["name"]): row for row in rows}
    measured = [row for row in rows if "environment" in row]
    memory = known.get(("memory", "fit"), {})
    parts = [
        INTRODUCTION.format(
            quick=" --quick`: a smoke test, no result" if quick else "`",
            threads=threads,
            n_samples=memory.get("rows", 60_000),
            check=check_text(known),
        ),
        common.environment_text(measured),
        "Load average while measuring: {:.1f} to {:.1f}; 1 is this process.".format(
            *(f(row["load"] for row in measured) for f in (min, max))
        ),
        disturbed(measured, threads),
        absent_text(known),
        "## What it must show",
        common.markdown_table(
            ["work", "target", "figure", "met"], [target.cells(known) for target in TARGETS]
        ),
    ]
    for section, (heading, write) in HEADINGS.items():
        if of(known, section):
            parts += [f"## {heading}", *write(known)]
    if growth_points(known, "samples"):
        plot_growth(known, folder / "images" / "bench_speed_growth.png")
    common.write(
        folder / "benchmark_speed.md", "\n\n".join(part.rstrip() for part in parts if part)
    )


def disturbed(rows: Sequence[Row], threads: int) -> str:
    """Name the sections whose runs other programs disturbed: their ratios are loose."""
    busy: dict[str, float] = {}
    for row in rows:
        if row.get("cpu"):
            share = sum(row["cpu"]) / sum(row["wall"])
            busy[row["section"]] = min(share, busy.get(row["section"], share))
    names = ", ".join(f"{name} ({share:.2f})" for name, share in busy.items() if share < 0.9)
    if threads > 1 or not names:
        return ""
    return f"**Measured on a busy machine**, with the smallest CPU / wall: {names}."


def absent_text(rows: Rows) -> str:
    """Name what is not in the tables, and why."""
    reasons = {
        f"{name} ({row['absent']})": None for (_, name), row in rows.items() if "absent" in row
    }
    return f"Not measured: {', '.join(reasons)}." if reasons else ""


def check_text(rows: Rows) -> str:
    """Say how well the hand loops and the package agree."""
    row = rows.get(("check", "same mathematics"))
    if row is None:
        return "It has not been checked."
    found = ", ".join(f"{x:.0e} ({name})" for name, x in row["differences"].items())
    return f"Largest relative differences of the losses: {found}."


def plot_growth(rows: Rows, path: Path) -> None:
    """Draw time and memory against the number that doubles."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        axes = figure.subplots(2, len(AXES), sharey="row")
        for column, axis in zip(axes.T, AXES, strict=True):
            points = growth_points(rows, axis)
            sizes = np.array([row["size"] for row in points])
            walls = 1e3 * np.array([row["wall"] for row in points])  # (sizes, rounds)
            megabytes = 1e-6 * np.array([row["allocated_bytes"] for row in points])
            panels = {
                "ms an epoch": (walls.min(1), np.median(walls, axis=1), walls.max(1), "wall"),
                "MB beyond the data": (*[megabytes] * 3, "allocated_bytes"),
            }
            for ax, (name, (least, middle, most, field)) in zip(
                column, panels.items(), strict=True
            ):
                ax.fill_between(sizes, least, most, alpha=0.2, linewidth=0)
                ax.loglog(sizes, middle, "o-", markersize=4)
                ax.loglog(sizes, middle[0] * sizes / sizes[0], ":", color="gray")
                fitted = slope(axis, field)(rows)[0]
                ax.text(0.04, 0.96, f"slope {fitted:.2f}", transform=ax.transAxes, va="top")
                ax.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
                ax.minorticks_off()
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                ax.spines[["top", "right"]].set_visible(False)
                if axis == AXES[0]:
                    ax.set_ylabel(name)
            column[0].set_title(axis)
        figure.supxlabel("dotted: proportional; band: fastest to slowest round", fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        print(f"wrote {path}")
