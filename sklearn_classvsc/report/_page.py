"""Fill the template of the page with the findings.

The template escapes whatever comes from the data.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..displays._numbers import number
from . import _words
from ._factors import BARS, LEAST, ONE_EACH, STEPS, Factor, Slider
from ._measure import Findings
from ._pictures import LANE, ImageMaker, bars, curve, factor_map, factor_order, sharing_map

#: Most features in the table of how well each is explained.
MAX_FEATURES = 40
#: Longest side of a picture on the page, in CSS pixels.
LARGE, SMALL = 84, 56
#: Length of the longest bar, in SVG units.
BAR = 45
#: Cards that are open at first.
OPEN = 1
#: Features of a dimension, one of several of a factor.
SLIDER_FEATURES = 5
#: Most classes of a dimension whose decoded values are all shown at once.
SHOWN_CLASSES = 3
#: Dimensions of a factor that are shown at once; the others are folded.
SLIDERS = 3


def render(findings: Findings) -> str:
    """Return the page as HTML.

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
    for name in ("count", "decimal", "number", "percent", "shorten", "tied"):
        environment.filters[name] = getattr(_words, name)
    style, script, template = (_read(f"page.{kind}") for kind in ("css", "js", "html"))
    # Forbids every request, and every other style sheet and script.
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
    """Return what the template shows in addition to `Findings.data`."""
    data, images = findings.data, findings.factors.images
    rows, columns = data["class_order"], factor_order(data)
    maps = {"map": factor_map(data, rows, columns), "sharing": sharing_map(data, rows)}
    place = {i: at for at, i in enumerate(columns)}
    cards = [
        _factor(factor, entry, findings) | {"place": place[i]}
        for i, (factor, entry) in enumerate(
            zip(findings.factors.factors, data["factors"], strict=True)
        )
    ]
    return {
        **maps,
        "images": images is not None,
        "lane": LANE,
        "large": _shown(images, LARGE),
        "small": _shown(images, SMALL),
        "grid_columns": 1 + STEPS,
        "steps": STEPS,
        "bars": BARS,
        "open": OPEN,
        "shown_sliders": SLIDERS,
        "figures": _words.figures(data),
        "shown_classes": SHOWN_CLASSES,
        "measure_note": _words.measure_note(data),
        "samples_note": _words.samples_note(data, set(findings.inputs.kinds)),
        "cards": [card for card in cards if not card["inert"]],
        "inert": [card for card in cards if card["inert"]],
        "unused": [str(j) for j in findings.factors.unused],
        "classes": [_class(c, findings) for c in rows],
        "rows_note": _words.rows_note(data),
        "fidelity": sorted(
            data["feature_fidelity"], key=lambda row: row["explained_variance"] or 0
        )[:MAX_FEATURES],
        "fidelity_note": (
            f"the {MAX_FEATURES} features that are explained worst, of {data['data']['n_features']}"
            if data["data"]["n_features"] > MAX_FEATURES
            else "how well each feature is explained, the worst first"
        ),
        "curves": _curves(data["history"]),
        "client": _client(findings, maps, columns),
    }


def _factor(factor: Factor, entry: dict[str, Any], findings: Findings) -> dict[str, Any]:
    data, images = findings.data, findings.factors.images
    names = [data["classes"][c]["name"] for c in entry["classes"]]
    every = len(names) == len(data["classes"])
    whose = "all classes" if every else _words.listed(names, 3)
    if entry["role"] == "sporadic":
        whose = f"most often {_words.shorten(_words.most_frequent(entry, data)[0])}"
    alone = len(factor.dimensions) == 1 and not factor.switched
    return {
        "entry": entry,
        "lead": factor.dimensions[0],
        "dimensions": factor.dimensions,
        "name": _words.called(entry, data),
        "inert": entry["inert"],
        "classes": whose,
        "figures": [
            (name, value)
            for name, value, shown in (
                ("effect", f"{_words.decimal(entry['size'])} SD", True),
                ("active in", f"{_words.percent(entry['density'])} of the samples", True),
                ("with its values fixed, the code explains", _lost(entry["cost"]), True),
                (
                    "alike in its classes (cosine)",
                    _words.decimal(entry["alignment"]),
                    entry["alignment"] is not None,
                ),
                (
                    "recurrence in refits",
                    _words.decimal(entry["recurrence"]),
                    data["figures"]["n_refits"] > 0,
                ),
            )
            if shown
        ],
        "caution": " · ".join(
            words
            for words, holds in (
                ("other fits do not find it", _words.recurs(entry, data) == "no"),
                ("differs between its classes", _words.differs(entry)),
            )
            if holds
        ),
        "hint": "" if images else _words.hint(entry, data),
        "does": "When it is active" if factor.switched else "From its low to its high values",
        "picture": images.change(factor.effect) if images else None,
        "features": _features(entry["effects"], data),
        "sliders": [
            _slider(slider, shown, findings, repeat=not alone)
            for slider, shown in zip(factor.sliders, entry["sliders"], strict=True)
        ],
    }


def _lost(cost: float) -> str:
    points = 100 * cost
    if points < 0.05:
        return "just as much"
    return f"{number(round(points, 1))} percentage points less"


def _slider(
    slider: Slider, entry: dict[str, Any], findings: Findings, *, repeat: bool
) -> dict[str, Any]:
    data, images = findings.data, findings.factors.images
    names = [data["classes"][c]["name"] for c in slider.classes]
    view: dict[str, Any] = {
        "dimension": slider.dimension,
        "name": data["names"].get(str(slider.dimension), ""),
        "ends": [],
        "histogram": [
            (data["classes"][c]["name"], bars(heights, 6 * BARS, 18))
            for c, heights in slider.histogram
        ],
        "edges": [number(round(edge, 2)) for edge in slider.edges],
        "classes": names,
        "movable": slider.frames is not None,
        "grid": None,
        "picture": images.change(slider.effect) if images and repeat else None,
        "features": _features(entry["effects"], data)[:SLIDER_FEATURES] if repeat else [],
        "columns": [data["data"]["feature_names"][i] for i in slider.features],
        "middle": [],
    }
    if images:
        X = findings.inputs.X
        for name, rows in zip(_ends(slider, images), (slider.low, slider.high), strict=True):
            if len(rows):
                samples = _dense(X[rows])[None]
                view["ends"].append(
                    (name, images.grid(samples), len(rows), _told(entry, name, data))
                )
        if slider.frames is not None:
            view["grid"] = images.grid(slider.frames)
    else:
        view["ends"] = [
            (name, [_sample(s, data) for s in entry[key]])
            for name, key in zip(_ends(slider, images), ("low", "high"), strict=True)
            if entry[key]
        ]
        if slider.frames is not None:
            middle = slider.frames[:, 1 + STEPS // 2]
            dates = _dates(slider, findings)
            view["middle"] = [
                (name, _written(values, dates)) for name, values in zip(names, middle, strict=True)
            ]
    return view


def _dates(slider: Slider, findings: Findings) -> list[bool]:
    """Return which features of a sweep are dates."""
    return [findings.inputs.kinds[i] == "date" for i in slider.features]


def _written(values: NDArray[np.float64], dates: list[bool]) -> list[str]:
    rounded = _rounded(values)
    return [
        _words.date(value) if is_date else number(few)
        for value, few, is_date in zip(values.tolist(), rounded, dates, strict=True)
    ]


def _ends(slider: Slider, images: ImageMaker | None) -> tuple[str, str]:
    each = " of each class, in the order below" if images else ", one sample of each class"
    if len(slider.classes) < ONE_EACH:
        each = ""
    return f"lowest values{each}", f"highest values{each}"


def _told(entry: dict[str, Any], name: str, data: dict[str, Any]) -> str:
    """Name the classes of a strip of samples, from left to right."""
    samples = entry["low" if name.startswith("lowest") else "high"]
    names = [_words.shorten(data["classes"][s["class"]]["name"], 24) for s in samples]
    return ", ".join(names)


def _sample(sample: dict[str, Any], data: dict[str, Any]) -> tuple[str, str, str]:
    """Return the class of a sample, its value, and the features that stand out in it."""
    counts = data["data"]["measure"] != "SD"
    told = ", ".join(_words.stands_out(feature, counts) for feature in sample["features"])
    name = _words.shorten(data["classes"][sample["class"]]["name"], 24)
    return name, number(round(sample["value"], 2)), told


def _features(effects: list[dict[str, Any]], data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a list of features, each with a bar."""
    if data["data"]["image_shape"]:
        return []
    longest = max([abs(effect["relative_change"]) for effect in effects], default=1)
    return [
        {
            "feature": effect["feature"],
            "change": number(effect["change"], sign=True),
            "relative": _words.relative(effect["relative_change"], data["data"]["measure"]),
            "bar": _bar(effect["relative_change"], longest),
        }
        for effect in effects
    ]


def _bar(value: float, longest: float) -> tuple[float, float, str]:
    """Return the start, the length and the direction of a bar."""
    length = round(BAR * min(abs(value) / max(longest, 1e-12), 1), 1)
    return (BAR, length, "up") if value > 0 else (BAR - length, length, "down")


def _class(c: int, findings: Findings) -> dict[str, Any]:
    data, images = findings.data, findings.factors.images
    entry = data["classes"][c]
    measure = data["data"]["measure"]
    leads = {f["dimensions"][0]: f for f in data["factors"]}
    factors = [leads[j] for j in entry["factors"]]
    longest = max(
        [abs(m[key]) for m in entry["marks"] for key in ("relative_change", "relative_difference")],
        default=1,
    )
    view: dict[str, Any] = {
        "c": c,
        "entry": entry,
        "agreement": _words.agreement(entry["agreement"]),
        "own": [_own(f, c, findings) for f in factors if f["role"] != "global"],
        "common": [_own(f, c, findings) for f in factors if f["role"] == "global"],
        "marks": [
            {
                "feature": mark["feature"],
                "code": _words.relative(mark["relative_change"], measure),
                "data": _words.relative(mark["relative_difference"], measure),
                "code_bar": _bar(mark["relative_change"], longest),
                "data_bar": _bar(mark["relative_difference"], longest),
                "unlike": mark["relative_change"] * mark["relative_difference"] <= 0
                or abs(mark["relative_difference"]) < LEAST[measure],
            }
            for mark in entry["marks"]
        ],
        "pictures": [],
    }
    if images:
        view["marks"] = []
        code, plain = (findings.differences[k][c] for k in ("counterfactual", "difference"))
        view["pictures"] = [
            (images.images(findings.examples[c][None]), "a sample"),
            (images.images(findings.decoded[c][None]), "decoded"),
            (images.change(code), "the code says"),
            (images.change(plain), "the data say"),
        ]
    return view


def _own(factor: dict[str, Any], c: int, findings: Findings) -> dict[str, Any]:
    """Return a factor as the card of a class shows it."""
    data = findings.data
    others = [data["classes"][other]["name"] for other in factor["classes"] if other != c]
    return {
        "dimensions": factor["dimensions"],
        "name": _words.called(factor, data),
        "whose": f"shared with {_words.listed(others, 3)}" if others else "only this class",
        "hint": "" if findings.factors.images else _words.hint(factor, data, c),
    }


def _curves(history: dict[str, list[float | None]]) -> list[dict[str, str]]:
    curves = []
    for name, values in history.items():
        if name == "epoch" or not any(value is not None for value in values):
            continue
        ends = number(values[0]), number(values[-1])
        path = curve(values, 200, 60)
        curves.append(
            {"name": name.replace("_", " "), "path": path, "first": ends[0], "last": ends[1]}
        )
    return curves


# -- the data that the script of the page reads ----------------------------------------------------


def _client(
    findings: Findings, maps: dict[str, dict[str, Any]], columns: list[int]
) -> dict[str, Any]:
    data, images = findings.data, findings.factors.images
    sliders = [slider for factor in findings.factors.factors for slider in factor.sliders]
    return {
        "classes": [_words.shorten(entry["name"]) for entry in data["classes"]],
        "names": {j: _words.shorten(name, 200) for j, name in data["names"].items()},
        "factors": [data["factors"][i]["dimensions"] for i in range(len(data["factors"]))],
        "roles": [entry["role"] for entry in data["factors"]],
        "hints": [_words.hint(entry, data) for entry in data["factors"]],
        "within": [
            {str(of["class"]): _words.hint(entry, data, of["class"]) for of in entry["within"]}
            if images is None
            else {}
            for entry in data["factors"]
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
        "image": images and {"height": images.size[0], "width": images.size[1]},
        "sweeps": {
            str(slider.dimension): {
                "values": _rounded(slider.values),
                "frames": None if images else _frames(slider.frames, _dates(slider, findings)),
                "dates": _dates(slider, findings),
            }
            for slider in sliders
            if slider.frames is not None
        },
    }


def _frames(frames: NDArray[np.float64], dates: list[bool]) -> list[list[list[float]]]:
    """Return decoded values with three digits, and dates as whole days."""
    rounded = np.where(dates, np.round(frames), frames)
    return [
        [
            [v if is_date else _rounded([v])[0] for v, is_date in zip(step, dates, strict=True)]
            for step in steps
        ]
        for steps in rounded.tolist()
    ]


def _dense(X: Any) -> NDArray[np.float64]:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=np.float64)


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.3g}") for value in np.asarray(values).tolist()]


def _percent(value: float) -> int | None:
    return None if np.isnan(value) else round(100 * value)


def _shown(images: ImageMaker | None, side: int) -> tuple[int, int]:
    """Return the width and height of a picture on the page, in CSS pixels."""
    if images is None:
        return side, side
    height, width = images.size
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
