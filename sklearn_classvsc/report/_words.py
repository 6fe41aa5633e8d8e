"""What the figures mean, in sentences of plain text. The page escapes them, not this."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

#: Longest name that is shown; `to_dict` has it in full.
LONGEST = 60
#: Control characters, line ends, and what would turn the direction of the text around a name.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: Below this many standard deviations, a dimension hardly moves a feature.
SMALL_CHANGE = 0.1


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


def effects_text(effects: list[dict[str, Any]]) -> str:
    """Write what happens to features: “radius” +3.1 (0.9 SD), “area” −20 (0.4 SD)."""
    return ", ".join(
        f"“{shorten(effect['feature'])}” {number(effect['change'], sign=True)} "
        f"({abs(effect['change_in_sd']):.1f} SD)"
        for effect in effects
        if abs(effect["change_in_sd"]) >= SMALL_CHANGE
    )


def picture_text(picture: dict[str, Any]) -> str:
    """Write what happens to an image: it gets brighter at the left and darker at the top."""
    parts = [
        f"{how} {'in' if picture[how] == 'centre' else 'at'} the {picture[how]}"
        for how in ("brighter", "darker")
        if picture[how]
    ]
    size = f"by up to {number(picture['largest_change'])}"
    return f"the image gets {' and '.join(parts)}, {size}" if parts else f"the image changes {size}"


def class_sentence(c: int, data: dict[str, Any]) -> str:
    """Say what the most specific dimension of class number `c` does."""
    entry = data["classes"][c]
    j = entry["dimension"]
    if j is None:
        return "No dimension is on in at least half of its samples: the code does not describe it."
    dense = not data["estimator"]["sparse"]
    if dense:
        sentence = f"Dimension {j} is the one that moves it most."
    else:
        sentence = (
            f"Its most specific dimension is {j}, {_having(c, data)}; it is on in "
            f"{percent(data['activation_rates'][c][j])} of the samples of the class."
        )
    when = "From its low to its high values" if dense else "When it is on"
    if "picture" in entry:
        return f"{sentence} {when}, {picture_text(entry['picture'])}."
    if effects := effects_text(entry["effects"]):
        return f"{sentence} {when}: {effects}."
    return f"{sentence} {when}, no feature moves by {SMALL_CHANGE} standard deviations."


def _having(c: int, data: dict[str, Any]) -> str:
    dimension = data["dimensions"][data["classes"][c]["dimension"]]
    if dimension["role"] == "global":
        return "which nearly all classes have, so that none is its own"
    others = [data["classes"][other]["name"] for other in dimension["classes"] if other != c]
    if not others:
        return "which no other class has"
    return f"which it shares with {'the classes' if others[1:] else 'class'} {listed(others)}"


def summary(data: dict[str, Any]) -> list[str]:
    """Say in three paragraphs what was learned, what it is worth, and how far to trust it."""
    return [_learned(data), _told_apart(data), _trust(data)]


def _learned(data: dict[str, Any]) -> str:
    figures, estimator = data["figures"], data["estimator"]
    n = estimator["n_components"]
    explained = (
        "Decoded again, the codes give back "
        f"{percent(figures['explained_variance'])} of the variance of the data."
    )
    start = f"{estimator['name']} describes each sample by {count(n, 'number')}, its code. "
    if not estimator["sparse"]:
        return (
            f"{start}The code is dense: every dimension is on in every sample, so no dimension "
            f"belongs to a class, and roles say nothing here. {explained}"
        )
    meanings = {
        "global": ("belongs", "belong", "to nearly every class (global)"),
        "shared": ("is", "are", "shared by some of the classes (shared)"),
        "class-specific": ("belongs", "belong", "to one class alone (class-specific)"),
        "sporadic": ("is", "are", "on now and then, in no class regularly (sporadic)"),
        "dead": ("is", "are", "never on (dead)"),
    }
    roles = []
    for role, k in figures["roles"].items():
        one, many, meaning = meanings[role]
        if k:
            roles.append(f"{k} {one if k == 1 else many} {meaning}")
    return (
        f"{start}On average {number(figures['active_dimensions'])} of them are on, that is not 0, "
        f"in a sample. Of its {n} dimensions, {listed(roles, at_most=5)}. {explained}"
    )


def _told_apart(data: dict[str, Any]) -> str:
    figures = data["figures"]
    probe = (
        "From the codes, a linear classifier names the class of "
        f"{percent(figures['probe_accuracy'])} of the samples right; naming the commonest class "
        f"every time would be right for {percent(figures['probe_chance'])}."
    )
    if not data["estimator"]["sparse"]:
        return probe
    return (
        f"Two samples of one class have {percent(figures['class_consistency'])} of their active "
        "dimensions in common (class consistency), two samples of different classes "
        f"{percent(figures['class_sharing'])} (class sharing). Without the global dimensions, the "
        f"difference between the two is {figures['nonglobal_contrast']:.2f} (contrast, from −1 to "
        f"1); with the labels shuffled it is {abs(figures['nonglobal_contrast_shuffled']):.2f}: "
        f"that much is chance. {probe}"
    )


def _trust(data: dict[str, Any]) -> str:
    n = data["data"]["n_samples"]
    trained_for = (
        "Consistency and contrast are what this model is trained for: high values show that "
        "training worked, not that nature is made so. Fit once more with shuffled labels: the "
        "contrast of that model, on held-out samples, should be near 0. "
        if data["estimator"]["uses_labels"]
        else "The labels were not used in training, only to describe the codes. "
    )
    return (
        f"How far to trust this: all figures are of the {count(n, 'sample')} given to the report, "
        f"which should be held out: not those the model was trained on. {trained_for}What a "
        "dimension does is what the decoder makes of it: a description of the model and no proof "
        "of a cause, and with a dimension switched off the code may be like that of no sample."
    )


def warning_texts(data: dict[str, Any], collapse: list[str]) -> list[str]:
    """Say what should be mended or kept in mind before the page is believed."""
    figures, names = data["figures"], [entry["name"] for entry in data["classes"]]
    texts = list(collapse)
    if data["estimator"]["sparse"] and not collapse:
        if without := [e["name"] for e in data["classes"] if e["dimension"] is None]:
            texts.append(
                f"No dimension is on in at least half of the samples of {listed(without)}."
            )
        if dead := figures["roles"]["dead"]:
            texts.append(f"Never on (dead): {dead} of {len(data['dimensions'])} dimensions.")
        if figures["nonglobal_contrast"] < 0.1:
            texts.append(
                "The contrast is low: which dimensions are on says little about the class."
            )
    if inert := [str(d["dimension"]) for d in data["dimensions"] if d["inert"]]:
        texts.append(
            f"On, but without a visible effect on what is decoded (inert): {listed(inert, 10)}. "
            "Do not interpret them."
        )
    if figures["explained_variance"] < 0.2:
        texts.append(
            f"The codes give back {percent(figures['explained_variance'])} of the variance: what "
            "is decoded is not much like the data, so read the effects with care."
        )
    if small := [n for n, e in zip(names, data["classes"], strict=True) if e["n_samples"] < 5]:
        texts.append(f"Fewer than 5 samples, so left out of roles and contrast: {listed(small)}.")
    if n := data["data"]["n_unlabeled_left_out"]:
        texts.append(f"{count(n, 'sample')} without a label left out.")
    return texts


# -- what stands above the parts of the page -------------------------------------------------------


def classes_lead(data: dict[str, Any]) -> str:
    """Say what the part on the classes shows."""
    if data["estimator"]["sparse"]:
        which, change = "most specific of the dimensions that it has", "off to its median value"
    else:
        which, change = "dimension that moves it most", "its 10 % to its 90 % quantile"
    lead = (
        f"For each class, the {which}, and what it does: the mean change over samples of the "
        f"class as the dimension goes from {change}"
    )
    if data["data"]["image_shape"] is None:
        return f"{lead}, in the units of X, and (SD) in standard deviations of the feature."
    return f"{lead}. Orange is brighter, blue darker; beside it a typical sample of the class."


def effects_lead(data: dict[str, Any]) -> str:
    """Say what the last column of the table shows."""
    change = "off to its median" if data["estimator"]["sparse"] else "its 10 % to its 90 % quantile"
    lead = f"The last column is the mean change as the dimension goes from {change}"
    if data["data"]["image_shape"] is None:
        return f"{lead}, in the units of X, and (SD) in standard deviations of the feature."
    return f"{lead}: orange is brighter, blue darker, the number the largest change of a pixel."


def left_out(n: int, n_possible: int) -> str:
    """Say that the page has not all pairs of class and dimension, if so."""
    if n == n_possible:
        return ""
    return (
        f" To keep the page small it has {n:,} of {n_possible:,} pairs of class and dimension, the "
        "most specific ones of each class."
    )


def rows_note(data: dict[str, Any]) -> str:
    """Say what was computed of a part of the samples, if anything was."""
    n, inspected = data["data"]["n_samples"], data["data"]["n_samples_inspected"]
    if inspected == n:
        return ""
    return (
        f"Effects, pictures and the linear classifier are of {inspected:,} samples, equally many "
        f"of each class where there are enough; all other figures are of all {n:,}. "
    )
