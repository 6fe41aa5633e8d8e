"""What the figures mean, in sentences of plain text. The page escapes them, not this."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..metrics._fidelity import DEVIANCE, MEAN, POOLED

#: Longest name that is shown; `to_dict` has it in full.
LONGEST = 60
#: Control characters, line ends, and what would turn the direction of the text around a name.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: Ninths of an image.
REGIONS = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
#: Titles of what is kept of the data.
TITLES = {
    DEVIANCE: "Explained deviance of counts",
    POOLED: "Explained variance",
    MEAN: "Explained variance, mean over features",
}
#: Nats by which gates may tell held-out classes worse than learned ones.
APART = 0.2


def clean(name: Any) -> str:
    """Return a name as text that UTF-8 can hold."""
    return str(name).encode("utf-8", "replace").decode()


def shorten(name: str, length: int = LONGEST) -> str:
    """Return the name on one line, or the beginning of one that is too long to show."""
    name = UNPRINTABLE.sub(" ", name)
    return name if len(name) <= length else name[: length - 1] + "…"


def number(value: float | None, *, sign: bool = False) -> str:
    """Write three significant digits, without an exponent where that is readable."""
    if value is None:
        return "–"
    if value and not 1e-4 <= abs(value) < 1e7:
        text = f"{value:+.2e}" if sign else f"{value:.2e}"
    else:
        text = np.format_float_positional(value, 3, fractional=False, trim="-", sign=sign)
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: float | None) -> str:
    """Write a fraction as a percentage."""
    return "–" if value is None else f"{100 * value:.0f} %".replace("-", "\N{MINUS SIGN}")


def count(n: int, what: str) -> str:
    """Write a number of things."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}{'es' if what.endswith('ss') else 's'}"


def listed(names: list[str], at_most: int = 4) -> str:
    """Write a few names, and how many more there are."""
    shown = [shorten(name) for name in names[:at_most]]
    if rest := len(names) - len(shown):
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join([", ".join(shown[:-1])] * bool(shown[:-1]) + shown[-1:])


def date(days: float) -> str:
    """Write the date so many days after 1970 began."""
    return str(np.datetime64(round(days), "D"))


def decimal(value: float | None) -> str:
    """Write two decimals."""
    return "–" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def relative(value: float, measure: str) -> str:
    """Write a relative change: +0.9 SD, or × 3.2 for a fold change."""
    if measure == "SD":
        return f"{value:+.2f} SD".replace("-", "\N{MINUS SIGN}")
    return f"× {2**value:.2f}"


def called(entry: dict[str, Any], data: dict[str, Any]) -> str:
    """Return what a factor is called: the names of its dimensions, or their numbers."""
    names = [data["names"][str(j)] for j in entry["dimensions"] if str(j) in data["names"]]
    return " · ".join(names) or f"Factor {entry['dimensions'][0]}"


def stands_out(feature: dict[str, Any], counts: bool) -> str:
    """Write what a sample has of a feature: its value, a category, or the word alone."""
    name = shorten(feature["feature"], 40)
    if counts:
        return name
    if feature["kind"] == "date":
        return f"{name.removesuffix(' (days)')} {date(feature['value'])}"
    if feature["kind"] == "category":
        return name if feature["value"] else name.replace(" = ", " \N{NOT EQUAL TO} ", 1)
    return f"{name} {number(feature['value'])}"


def effects_text(effects: list[dict[str, Any]], measure: str, at_most: int = 3) -> str:
    """Write what happens to features: “radius” +3.1 (+0.90 SD), “area” −20 (−0.40 SD).

    Those that move most; of these, those that rise first.
    """
    if measure == "SD":
        largest = sorted(effects, key=lambda effect: -abs(effect["relative_change"]))[:at_most]
        effects = [effect for effect in effects if effect in largest]
    return ", ".join(
        f"“{shorten(effect['feature'])}” {number(effect['change'], sign=True)} "
        f"({relative(effect['relative_change'], measure)})"
        for effect in effects[:at_most]
    )


def changed_regions(
    change: NDArray[np.float64], image_shape: tuple[int, ...]
) -> dict[str, str | float | None]:
    """Find which ninths of an image gain most and lose most; None for less than a fifth of that."""
    image = change.reshape(*image_shape[:2], -1).mean(axis=2)
    means = np.array(
        [
            block.mean() if block.size else 0.0
            for band in np.array_split(image, 3, axis=0)
            for block in np.array_split(band, 3, axis=1)
        ]
    )
    least = max(np.abs(means).max() / 5, np.finfo(float).tiny)
    return {
        "brighter": REGIONS[means.argmax()] if means.max() >= least else None,
        "darker": REGIONS[means.argmin()] if -means.min() >= least else None,
        "largest_change": float(np.abs(image).max()),
    }


def picture_text(picture: dict[str, Any]) -> str:
    """Write what happens to an image: it gets brighter at the left and darker at the top."""
    parts = [
        f"{how} {'in' if picture[how] == 'centre' else 'at'} the {picture[how]}"
        for how in ("brighter", "darker")
        if picture[how]
    ]
    size = f"by up to {number(picture['largest_change'])}"
    return f"the image gets {' and '.join(parts)}, {size}" if parts else f"the image changes {size}"


def factor_sentence(entry: dict[str, Any], data: dict[str, Any]) -> str:
    """Say who has a factor, and what it does."""
    names = [data["classes"][c]["name"] for c in entry["classes"]]
    if not data["estimator"]["sparse"]:
        whose = "Every sample has it."
    elif entry["role"] == "global":
        whose = "Nearly every class has it, so what it says of a sample is in its values."
    elif entry["role"] == "class-specific":
        whose = f"Only {listed(names)} has it."
    elif entry["role"] == "shared":
        whose = f"{listed(names)} share it."
    else:
        whose = "It is on now and then, in no class regularly."
    if entry["inert"]:
        return f"{whose} It changes nothing that is decoded."
    when = "Where it is on" if entry["switched"] else "From its low to its high values"
    if "picture" in entry:
        return f"{whose} {when}, {picture_text(entry['picture'])}."
    if effects := effects_text(entry["effects"], data["data"]["measure"]):
        return f"{whose} {when}: {effects}."
    return f"{whose} {when}, no feature moves by 0.1 {data['data']['measure']}."


def class_sentence(entry: dict[str, Any], data: dict[str, Any]) -> str:
    """Say which factors a class has."""
    factors = {factor["dimensions"][0]: factor for factor in data["factors"]}
    own = [factors[j] for j in entry["factors"]]
    kinds = {
        "of its own": [f for f in own if f["role"] == "class-specific"],
        "shared": [f for f in own if f["role"] == "shared"],
        "of nearly every class": [f for f in own if f["role"] == "global"],
    }
    if not data["estimator"]["sparse"]:
        return "Every dimension is on in every sample."
    if not own:
        return "No factor is on in at least half of its samples: the code does not describe it."
    parts = [f"{len(found)} {kind}" for kind, found in kinds.items() if found]
    return f"It has {count(len(own), 'factor')}: {listed(parts)}."


def summary(data: dict[str, Any]) -> str:
    """Say in one sentence what was learned."""
    figures, estimator = data["figures"], data["estimator"]
    samples = count(data["data"]["n_samples"], "sample")
    of = f"these {samples} of {count(len(data['classes']), 'class')}"
    if not estimator["sparse"]:
        n = count(estimator["n_components"], "number")
        return (
            f"{estimator['name']} describes {of} by {n}. The code is dense: every dimension is on "
            "in every sample, so no dimension belongs to a class."
        )
    meanings = {
        "global": "that nearly every class has",
        "shared": "that some classes share",
        "class-specific": "of one class alone",
        "sporadic": "that are on now and then",
    }
    roles = [factor["role"] for factor in data["factors"]]
    parts = [f"{roles.count(role)} {words}" for role, words in meanings.items() if role in roles]
    n = figures["n_factors"]
    text = f"{estimator['name']} describes {of} by {count(n, 'factor')}"
    used = sum(len(factor["dimensions"]) for factor in data["factors"])
    if n < used or used < estimator["n_components"]:
        total = count(estimator["n_components"], "dimension")
        spare = used < estimator["n_components"]
        text += f", switches with {f'{used} of its ' * spare}{total}"
    text += f": {listed(parts)}" if parts else ""
    if inert := sum(factor["inert"] for factor in data["factors"]):
        text += f"; {inert} of them change{'s' * (inert == 1)} nothing that is decoded"
    return f"{text}."


def figures(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the three figures, each with what it stands beside."""
    f, sparse = data["figures"], data["estimator"]["sparse"]
    numbers = count(f["baseline_numbers"], "number")
    linear = f"{f['baseline']} with {numbers} a sample, fitted to half of these rows"
    beside = f"{linear}: {percent(f['baseline_fidelity'])}"
    if f["fidelity_measure"] == MEAN:
        beside += (
            f". Pooled over features: {percent(f['pooled_explained_variance'])}, and "
            f"{percent(f['baseline_pooled_explained_variance'])}"
        )
    kept = (TITLES[f["fidelity_measure"]], percent(f["fidelity"]), beside)
    told = (
        "Classes named right from the code",
        percent(f["probe_accuracy"]),
        "by a linear classifier; the same on the features: "
        f"{percent(f['probe_accuracy_of_features'])}; naming the commonest class: "
        f"{percent(f['probe_chance'])}",
    )
    if not sparse:
        return [kept, told]
    control = f["nonglobal_contrast_of_refits"]
    if not data["estimator"]["uses_labels"]:
        beside = "the labels had no part in the fit"
    elif control is None:
        beside = "its control is a refit to shuffled labels: factor_report(..., n_refits=2)"
    else:
        fits = f"{count(f['n_refits'], 'refit')} to shuffled labels"
        beside = f"{fits}: {decimal(control)}"
    contrast = (
        "Contrast of classes",
        decimal(f["nonglobal_contrast"]),
        f"overlap of factors within a class, {percent(f['class_consistency'])}, less that between "
        f"classes, without those that all have; {beside}",
    )
    return [kept, told, contrast]


def trust(data: dict[str, Any]) -> list[dict[str, str]]:
    """Say whether the figures hold on new rows, recur, and agree with the data."""
    verdicts = [_of_new_rows(data), _of_refits(data)]
    agreement = [entry["agreement"] for entry in data["classes"]]
    known = [value for value in agreement if value is not None]
    if known:
        worst = min(
            range(len(agreement)), key=lambda c: agreement[c] if agreement[c] is not None else 2
        )
        mean = float(np.mean(known))
        is_ranked = data["data"]["measure"] == "SD"
        what = "Rank correlation" if is_ranked else "Correlation of fold changes"
        verdicts.append(
            {
                "verdict": "yes" if mean >= 0.8 else "in part" if mean >= 0.5 else "no",
                "text": "Does what marks a class agree with the plain differences in the data? "
                f"{what} over features {decimal(mean)} on average; least for "
                f"{shorten(data['classes'][worst]['name'])}, {decimal(agreement[worst])}.",
            }
        )
    return verdicts


def _of_new_rows(data: dict[str, Any]) -> dict[str, str]:
    question = "Does it hold on new rows?"
    found = data["generalization"].get("recognition")
    if not found or None in found.values():
        loss = data["generalization"].get("loss")
        if loss and None not in loss.values():
            gap = loss["held_out"] - loss["training"]
            return {
                "verdict": "yes" if gap < 0.1 * abs(loss["training"]) else "in part",
                "text": f"{question} The loss of held-out rows is {number(loss['held_out'])} nats, "
                f"that of training rows {number(loss['training'])}.",
            }
        return {
            "verdict": "unknown",
            "text": f"{question} This fit held no rows out. The figures here are of the rows that "
            "were given: believe them if these are not those of the fit.",
        }
    gap = found["held_out"] - found["training"]
    return {
        "verdict": "yes" if gap <= APART else "in part" if gap <= 0.5 else "no",
        "text": f"{question} The gates tell the classes of rows whose labels they have not learned "
        f"with a cross-entropy of {number(found['held_out'])} nats, those of learned ones with "
        f"{number(found['training'])}.",
    }


def _of_refits(data: dict[str, Any]) -> dict[str, str]:
    question, figures = "Do the factors come back?", data["figures"]
    found, chance = figures["recurrence"], figures["recurrence_by_chance"]
    if found is None or chance is None:
        return {
            "verdict": "unknown",
            "text": f"{question} Nobody has fitted again: factor_report(..., n_refits=2) does.",
        }
    share = (found - chance) / max(1 - chance, 1e-12)
    return {
        "verdict": "yes" if share >= 0.7 else "in part" if share >= 0.35 else "no",
        "text": f"{question} In {count(figures['n_refits'], 'refit')} with other seeds, a "
        f"dimension correlates with its match by {decimal(found)} on average; "
        f"by chance {decimal(chance)}.",
    }


def warning_texts(data: dict[str, Any], collapse: list[str]) -> list[str]:
    """Say what should be mended or kept in mind before the page is believed."""
    figures, names = data["figures"], [entry["name"] for entry in data["classes"]]
    texts = list(collapse)
    if data["estimator"]["sparse"] and not collapse:
        if without := [e["name"] for e in data["classes"] if not e["factors"]]:
            texts.append(f"No factor is on in at least half of the samples of {listed(without)}.")
        if figures["nonglobal_contrast"] < 0.1:
            texts.append("The contrast is low: which factors are on says little about the class.")
    kept = figures["fidelity"]
    if kept < (0.02 if figures["fidelity_measure"] == DEVIANCE else 0.2):
        texts.append(
            f"The codes give back {percent(kept)} of the data: what is decoded is not much like "
            "them, so read the effects with care."
        )
    if small := [n for n, e in zip(names, data["classes"], strict=True) if e["n_samples"] < 5]:
        texts.append(f"Fewer than 5 samples, so left out of roles and contrast: {listed(small)}.")
    if missing := data["data"]["missing"]:
        texts.append(
            f"{percent(missing)} of the values are missing. No figure of what the code keeps or of "
            "what marks a class counts them; where values must be there, they stand as decoded."
        )
    if n := data["data"]["n_unlabeled_left_out"]:
        texts.append(f"{count(n, 'sample')} without a label left out.")
    return texts


# -- what stands above the parts of the page -------------------------------------------------------


def measure_note(data: dict[str, Any]) -> str:
    """Say in which units changes are."""
    if data["data"]["image_shape"] is not None:
        return "Orange is brighter, blue darker."
    if data["data"]["measure"] == "SD":
        return (
            "Changes are in the units of the data, and in standard deviations of the feature (SD)."
        )
    return (
        "Changes are in counts of a document of the usual length, and × says how many times its "
        "mean a word then has; rare words are held back by the mean count of all."
    )


def rows_note(data: dict[str, Any]) -> str:
    """Say what was computed of a part of the samples, if anything was."""
    n, inspected = data["data"]["n_samples"], data["data"]["n_samples_inspected"]
    if inspected == n:
        return ""
    return (
        f"Effects, class cards and baselines are of {inspected:,} samples, equally many "
        f"of each class where there are enough; all other figures are of all {n:,}. "
    )
