"""The page: findings -> HTML. Whatever comes from the data is escaped by the template."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from typing import Any

import numpy as np

from ..metrics import ROLES
from . import _words
from ._effects import STEPS, SWEEP_FEATURES, Effects, Sweep
from ._measure import Findings
from ._pictures import (
    LESS,
    MORE,
    ImageMaker,
    curve,
    dimension_map,
    dimension_order,
    sharing_map,
)

#: Features listed with how well they are decoded.
MAX_FEATURES = 40
#: Sides of pictures on the page, in CSS pixels.
LARGE, MEDIUM, SMALL = 84, 56, 56


def render(findings: Findings) -> str:
    """Write the page.

    Raises
    ------
    ImportError
        If Jinja2 is missing.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ImportError(
            'The report needs Jinja2: pip install "sklearn-classvsc[report]"'
        ) from error

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    for name in ("count", "number", "percent", "shorten"):
        environment.filters[name] = getattr(_words, name)
    style, script, template = (_read(f"page.{kind}") for kind in ("css", "js", "html"))
    # Nothing is loaded, and only this style sheet and this script are obeyed.
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.from_string(template).render(
        data=findings.data, view=_view(findings), style=style, script=script, policy=policy
    )


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _view(findings: Findings) -> dict[str, Any]:
    """Return what the template shows beside `Findings.data`."""
    data, effects, images = findings.data, findings.effects, findings.effects.images
    dense = not data["estimator"]["sparse"]
    rows, columns = data["class_order"], dimension_order(data)
    maps = {"map": dimension_map(data, rows, columns), "sharing": sharing_map(data, rows)}
    quantiles = effects.sweeps[0].traversal.quantiles if effects.sweeps else [0.05, 0.95]
    view = {
        **maps,
        "images": images is not None,
        "large": _shown(images, LARGE),
        "medium": _shown(images, MEDIUM),
        "small": _shown(images, SMALL),
        "figures": _figures(data),
        "classes_lead": _words.classes_lead(data),
        "class_pictures": [],
        "examples": [],
        "effects_title": "What it does" if dense else "What being on does",
        "effects_lead": _words.effects_lead(data),
        "low": _words.percent(quantiles[0]),
        "high": _words.percent(quantiles[-1]),
        "steps": STEPS,
        "sweeps_note": _words.left_out(len(effects.sweeps), effects.n_sweeps_possible),
        "rows_note": _words.rows_note(data),
        "table": _table(data, effects, columns),
        "fidelity": sorted(
            data["feature_fidelity"], key=lambda row: row["explained_variance"] or 0
        )[:MAX_FEATURES],
        "fidelity_note": (
            f": the {MAX_FEATURES} worst of {data['data']['n_features']}"
            if data["data"]["n_features"] > MAX_FEATURES
            else ", the worst first"
        ),
        "curves": _curves(data["history"]),
        "client": _client(data, effects, maps),
    }
    if images:
        view["class_pictures"] = _class_pictures(data, effects, images)
        view["examples"] = [
            (images.images(x[None]), images.images(x_hat[None]))
            for x, x_hat in zip(findings.examples, findings.decoded, strict=True)
        ]
    return view


def _figures(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    figures = data["figures"]
    shown = [
        (
            "Explained variance",
            _words.percent(figures["explained_variance"]),
            "of the data, decoded from the codes; features of large variance weigh more",
        ),
        (
            "Linear classifier",
            _words.percent(figures["probe_accuracy"]),
            "of classes named right from the codes, by one trained on other samples of these data; "
            f"the commonest class is {_words.percent(figures['probe_chance'])}",
        ),
    ]
    if not data["estimator"]["sparse"]:
        return shown
    shuffled = abs(figures["nonglobal_contrast_shuffled"])
    return [
        shown[0],
        (
            "On in a sample",
            f"{figures['active_dimensions']:.1f} of {data['estimator']['n_components']}",
            "dimensions, on average: fewer is a shorter explanation",
        ),
        (
            "Class consistency",
            _words.percent(figures["class_consistency"]),
            "of its active dimensions that a sample has in common with another of its class",
        ),
        (
            "Class sharing",
            _words.percent(figures["class_sharing"]),
            "the same for two samples of different classes",
        ),
        (
            "Contrast",
            f"{figures['nonglobal_contrast']:.2f}".replace("-", "−"),
            "consistency minus sharing, without global dimensions: −1 to 1; "
            f"{shuffled:.2f} with shuffled labels",
        ),
        shown[1],
    ]


def _class_pictures(
    data: dict[str, Any], effects: Effects, images: ImageMaker
) -> list[list[tuple[str, str]] | None]:
    dense = not data["estimator"]["sparse"]
    sweeps = {(s.class_index, s.traversal.dimension): s for s in effects.sweeps}
    pictures: list[list[tuple[str, str]] | None] = []
    for c, entry in enumerate(data["classes"]):
        sweep = sweeps.get((c, entry["dimension"]))
        if sweep is None:
            pictures.append(None)
            continue
        first, last = (1, STEPS) if dense else (0, 1 + STEPS // 2)
        names = ("low", "high") if dense else ("off", "on")
        pictures.append(
            [
                (images.images(sweep.frames[[first]]), names[0]),
                (images.images(sweep.frames[[last]]), names[1]),
                (images.change(effects.of_classes[c]), "change"),
            ]
        )
    return pictures


def _table(data: dict[str, Any], effects: Effects, columns: list[int]) -> list[dict[str, Any]]:
    images = effects.images
    names = [entry["name"] for entry in data["classes"]]
    movable = {sweep.traversal.dimension for sweep in effects.sweeps}
    rows = []
    for j in columns:
        entry = data["dimensions"][j]
        own = [names[c] for c in entry["classes"]]
        pictured = images is not None and np.isfinite(effects.of_dimensions[j]).all()
        rows.append(
            {
                "dimension": j,
                "movable": j in movable,
                "role": entry["role"],
                "role_rank": ROLES.index(entry["role"]),
                "inert": entry["inert"],
                "n_classes": len(own),
                "classes": "all" if len(own) == len(names) else _words.listed(own, 5),
                "specificity": _decimal(entry["specificity"]),
                "specificity_rank": -1 if entry["specificity"] is None else entry["specificity"],
                "density": _words.percent(entry["density"]),
                "density_rank": entry["density"],
                "picture": images.change(effects.of_dimensions[j]) if images and pictured else None,
                "effects": _effect(entry, images is not None),
            }
        )
    return rows


def _effect(entry: dict[str, Any], pictured: bool) -> str:
    if not entry["effects"]:
        return "–"
    if pictured:
        return f"up to {_words.number(entry['picture']['largest_change'])}"
    return _words.effects_text(entry["effects"]) or "hardly anything"


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _curves(history: dict[str, list[float | None]]) -> list[dict[str, str]]:
    curves = []
    for name, values in history.items():
        if name == "epoch" or not any(value is not None for value in values):
            continue
        ends = _words.number(values[0]), _words.number(values[-1])
        path = curve(values, 200, 60)
        curves.append(
            {"name": name.replace("_", " "), "path": path, "first": ends[0], "last": ends[1]}
        )
    return curves


# -- what the script reads -------------------------------------------------------------------------


def _client(
    data: dict[str, Any], effects: Effects, maps: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    images, features = effects.images, data["data"]["feature_names"]
    names = [entry["name"] for entry in data["classes"]]
    return {
        "classes": [_words.shorten(name) for name in names],
        "dimensions": [
            {"role": entry["role"], "text": _searchable(entry, names, images is None)}
            for entry in data["dimensions"]
        ],
        "maps": {
            name: {
                "cell": grid["cell"],
                "left": grid["left"],
                "top": grid["top"],
                "rows": grid["order"][0],
                "columns": grid["order"][1],
                "values": [[_percent(value) for value in row] for row in grid["values"].tolist()],
            }
            for name, grid in maps.items()
        },
        "image": images
        and {"height": images.size[0], "width": images.size[1]} | {"more": MORE, "less": LESS},
        "sweeps": [_client_sweep(sweep, effects, features) for sweep in effects.sweeps],
    }


def _searchable(entry: dict[str, Any], names: list[str], features: bool) -> str:
    found = [entry["role"], *(names[c] for c in entry["classes"])]
    if entry["inert"]:
        found.append("inert")
    if features:
        found += [effect["feature"] for effect in entry["effects"]]
    return "\n".join(_words.shorten(text, 200) for text in found).lower()


def _client_sweep(sweep: Sweep, effects: Effects, names: list[str]) -> dict[str, Any]:
    traversal, frames = sweep.traversal, sweep.frames
    shown: dict[str, Any] = {
        "c": sweep.class_index,
        "j": traversal.dimension,
        "values": _rounded(traversal.values),
        "quantiles": _rounded(traversal.quantiles),
    }
    if effects.images:
        return shown | {"src": effects.images.images(frames)}
    moved = np.ptp(frames, axis=0) / effects.scale
    top = np.argsort(-moved, kind="stable")[:SWEEP_FEATURES]
    return shown | {
        "features": [_words.shorten(names[i]) for i in top],
        "scale": _rounded(effects.scale[top]),
        "frames": [_rounded(frame[top]) for frame in frames],
    }


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.4g}") for value in np.asarray(values).tolist()]


def _percent(value: float) -> int | None:
    return None if np.isnan(value) else round(100 * value)


def _shown(images: ImageMaker | None, side: int) -> tuple[int, int]:
    """Return the width and height at which a picture is shown."""
    if images is None:
        return side, side
    height, width = images.size
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
