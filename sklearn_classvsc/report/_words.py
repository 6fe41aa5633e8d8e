"""The sentences of the factor report, written from its figures as plain text.

The template of the page escapes them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..displays._numbers import number
from ..metrics._fidelity import DEVIANCE, MEAN, POOLED

#: Longest name that is shown; `to_dict` has the full name.
LONGEST = 60
#: Control characters, line ends, and characters that reverse the direction of the text.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: Ninths of an image.
REGIONS = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
COLOURS = ("red", "green", "blue")
#: Title of the first figure, by its measure.
TITLES = {
    DEVIANCE: "Explained deviance of counts",
    POOLED: "Explained variance",
    MEAN: "Explained variance, mean over features",
}
NEW_SAMPLES = "Does it hold on new samples?"
REFITS = "Do other fits find the same factors?"
AGREEMENT = "Do the code and the data agree on what marks a class?"
#: The verdict is "yes" if the held-out cross-entropy exceeds the other by at most this, in nats.
APART = 0.2


#: A shared factor does the same in its classes if the mean cosine of its effects is at least this.
ALIKE = 0.8
#: Classes with fewer samples get a warning.
FEW = 20
#: Code and data agree, or agree in part, if their correlation is at least this.
AGREE, AGREE_IN_PART = 0.8, 0.5


def clean(name: Any) -> str:
    """Return a name as text that UTF-8 can hold."""
    return str(name).encode("utf-8", "replace").decode()


def shorten(name: str, length: int = LONGEST) -> str:
    """Return a name on one line, cut if it is too long to show."""
    name = UNPRINTABLE.sub(" ", name)
    return name if len(name) <= length else name[: length - 1] + "…"


def tied(text: str) -> str:
    """Keep a number and its unit on one line, and a name and its arrow."""
    return re.sub(r"(?<=\d) (?=%|SD)|(?<=×) (?=\d)| (?=[↑↓])", "\N{NO-BREAK SPACE}", text)


def percent(value: float | None) -> str:
    """Write a fraction as a percentage."""
    return "–" if value is None else f"{100 * value:.0f} %".replace("-", "\N{MINUS SIGN}")


def count(n: int, what: str) -> str:
    """Write a number and a noun, in the plural unless the number is 1."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}{'es' if what.endswith('ss') else 's'}"


def listed(names: list[str], at_most: int = 4) -> str:
    """Write the first names of a list, and how many more there are."""
    shown = [shorten(name) for name in names[:at_most]]
    if rest := len(names) - len(shown):
        return f"{', '.join(shown)} and {rest} more"
    return " and ".join([", ".join(shown[:-1])] * bool(shown[:-1]) + shown[-1:])


def date(days: float) -> str:
    """Write a date that is given in days since 1 January 1970."""
    return str(np.datetime64(round(days), "D"))


def decimal(value: float | None) -> str:
    """Write two decimals."""
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def relative(value: float, measure: str) -> str:
    """Write a relative change: +0.9 SD, or × 3.2 for a fold change."""
    if measure == "SD":
        return f"{value:+.2f} SD".replace("-", "\N{MINUS SIGN}")
    fold = float(2**value)
    decimals = max(0, 2 - int(np.floor(np.log10(fold))))  # three digits, so that columns align
    return f"× {fold:.{min(decimals, 4)}f}"


def called(entry: dict[str, Any], data: dict[str, Any]) -> str:
    """Return what a factor is called: the names of its dimensions, or their numbers."""
    names = [data["names"][str(j)] for j in entry["dimensions"] if str(j) in data["names"]]
    return " · ".join(names) or f"Factor {entry['dimensions'][0]}"


def stands_out(feature: dict[str, Any], counts: bool) -> str:
    """Write a feature of a sample with its value; of counts, the word alone."""
    name = shorten(feature["feature"], 40)
    if counts:
        return name
    if feature["kind"] == "date":
        return f"{name.removesuffix(' (days)')} {date(feature['value'])}"
    if feature["kind"] == "category":
        return name if feature["value"] else name.replace(" = ", " \N{NOT EQUAL TO} ", 1)
    return f"{name} {number(feature['value'])}"


def effects_text(effects: list[dict[str, Any]], measure: str, at_most: int = 3) -> str:
    """Write how features change: “radius” +3.1 (+0.90 SD), “area” −20 (−0.40 SD).

    It names the features that change most: first those that rise, then those that fall.
    """
    if measure == "SD":
        effects = _largest(effects, at_most)
    return ", ".join(
        f"“{shorten(effect['feature'])}” {number(effect['change'], sign=True)} "
        f"({relative(effect['relative_change'], measure)})"
        for effect in effects[:at_most]
    )


def hint(
    entry: dict[str, Any], data: dict[str, Any], c: int | None = None, at_most: int = 3
) -> str:
    """Say in a few words what a factor does, in class `c` if it is given: radius ↑, texture ↓."""
    if entry["inert"]:
        return "no effect"
    if "picture" in entry:
        return ", ".join(_where(entry["picture"]))
    effects = next((of["effects"] for of in entry["within"] if of["class"] == c), entry["effects"])
    if not effects:
        return "hardly any effect"
    if data["data"]["measure"] == "SD":
        effects = _largest(effects, at_most)
    return ", ".join(
        f"{shorten(effect['feature'], 32)} {'↑' if effect['change'] > 0 else '↓'}"
        for effect in effects[:at_most]
    )


def _largest(effects: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Return the largest effects, in the order given."""
    largest = sorted(effects, key=lambda effect: -abs(effect["relative_change"]))[:n]
    return [effect for effect in effects if effect in largest]


def changed_regions(
    change: NDArray[np.float64], image_shape: tuple[int, ...], span: float
) -> dict[str, str | float | None]:
    """Find which ninths of an image get brighter and darker most, or change their colour.

    An entry is None if its change is less than a fifth of the largest. `span` is the difference
    between white and black. The colours are None where all channels change alike.
    """
    image = change.reshape(*image_shape[:2], -1)
    means = np.array(
        [
            block.mean(axis=(0, 1)) if block.size else np.zeros(image.shape[2])
            for band in np.array_split(image, 3, axis=0)
            for block in np.array_split(band, 3, axis=1)
        ]
    )  # (9, channels)
    of_all = means.mean(axis=1, keepdims=True)
    coloured = image.shape[2] == len(COLOURS) and np.abs(of_all).max() < np.abs(means).max() / 2
    if not coloured:
        means, image = of_all, image.mean(axis=2)
    least = max(np.abs(means).max() / 5, np.finfo(float).tiny)
    (up, channel_up), (down, channel_down) = (
        np.unravel_index(i, means.shape) for i in (means.argmax(), means.argmin())
    )
    return {
        "brighter": REGIONS[up] if means.max() >= least else None,
        "darker": REGIONS[down] if -means.min() >= least else None,
        "more_of": COLOURS[channel_up] if coloured else None,
        "less_of": COLOURS[channel_down] if coloured else None,
        "largest_change": float(np.abs(image).max()),
        "largest_share": float(np.abs(image).max() / max(span, 1e-12)),
    }


def picture_text(picture: dict[str, Any]) -> str:
    """Write how an image changes: it gets brighter at the left and darker at the top."""
    parts = _where(picture)
    way = "of the way from none to full" if picture["more_of"] else "of the way from black to white"
    size = f"by up to {percent(picture['largest_share'])} {way}"
    return f"the image gets {' and '.join(parts)}, {size}" if parts else f"the image changes {size}"


def _where(picture: dict[str, Any]) -> list[str]:
    words = {
        "brighter": f"more {picture['more_of']}" if picture["more_of"] else "brighter",
        "darker": f"less {picture['less_of']}" if picture["less_of"] else "darker",
    }
    return [
        f"{word} {'in' if picture[how] == 'centre' else 'at'} the {picture[how]}"
        for how, word in words.items()
        if picture[how]
    ]


def factor_sentence(entry: dict[str, Any], data: dict[str, Any]) -> str:
    """Say which classes activate a factor, and what it does."""
    whose = _who_activates(entry, data)
    if entry["inert"]:
        return f"{whose} It changes nothing in the decoded samples."
    when = "When it is active" if entry["switched"] else "From its low to its high values"
    if "picture" in entry:
        unlike = " Its classes change differently." if differs(entry) else ""
        return f"{whose} {when}, {picture_text(entry['picture'])}.{unlike}"
    if differs(entry):
        parts = [
            f"in {shorten(data['classes'][of['class']]['name'])}, {hint(entry, data, of['class'])}"
            for of in entry["within"][:4]
        ]
        return f"{whose} {when}, it acts differently in its classes: {'; '.join(parts)}."
    if effects := effects_text(entry["effects"], data["data"]["measure"]):
        return f"{whose} {when}: {effects}."
    return f"{whose} {when}, no feature changes by 0.1 {data['data']['measure']} or more."


def differs(entry: dict[str, Any]) -> bool:
    """Return whether a shared factor does something else in each class."""
    found = entry["alignment"]
    return entry["role"] == "shared" and found is not None and found < ALIKE


def recurs(entry: dict[str, Any], data: dict[str, Any]) -> str | None:
    """Say whether refits find a factor again; None if there were none."""
    chance = data["figures"]["recurrence_by_chance"]
    if entry["recurrence"] is None or chance is None:
        return None
    return _found_again(entry["recurrence"], chance)


def _found_again(recurrence: float, chance: float) -> str:
    share = (recurrence - chance) / max(1 - chance, 1e-12)
    return "yes" if share >= 0.7 else "in part" if share >= 0.35 else "no"


def _who_activates(entry: dict[str, Any], data: dict[str, Any]) -> str:
    names = [data["classes"][c]["name"] for c in entry["classes"]]
    if not data["estimator"]["sparse"]:
        return "It is active in every sample."
    if entry["role"] == "global":
        which = "Every" if len(names) == len(data["classes"]) else "Nearly every"
        return f"{which} class activates it, so only its values tell samples apart."
    if entry["role"] == "shared":
        return f"The classes {listed(names)} activate it."
    if entry["role"] == "class-specific":
        rates = np.array(data["activation_rates"])[:, entry["dimensions"]].mean(axis=1)
        own = percent(rates[entry["classes"][0]])
        # Rounded up, so that "no more than" stays true.
        most = int(np.ceil(100 * np.delete(rates, entry["classes"][0]).max() - 1e-9))
        others = (
            f"no other class in more than {most} %" if most else "no sample of another class does"
        )
        return f"Class {listed(names)} activates it in {own} of its samples; {others}."
    often, rate = most_frequent(entry, data)
    return (
        "It is active now and then, but in fewer than half of the samples of each class. It is "
        f"most frequent in class {shorten(often)}: {percent(rate)}."
    )


def most_frequent(entry: dict[str, Any], data: dict[str, Any]) -> tuple[str, float]:
    """Return the class that activates a factor most often, and in which fraction of its samples."""
    rates = np.array(data["activation_rates"])[:, entry["dimensions"]].mean(axis=1)
    return data["classes"][rates.argmax()]["name"], float(rates.max())


def class_sentence(entry: dict[str, Any], data: dict[str, Any]) -> str:
    """Say how many factors a class activates, by role."""
    factors = {factor["dimensions"][0]: factor for factor in data["factors"]}
    own = [factors[j]["role"] for j in entry["factors"]]
    if not data["estimator"]["sparse"]:
        return "Every dimension is active in every sample."
    if not own:
        return "It activates no factor, so the code does not describe it."
    roles = ("class-specific", "shared", "global")
    parts = [f"{own.count(role)} {role}" for role in roles if role in own]
    text = f"It activates {count(len(own), 'factor')}: {listed(parts)}."
    if set(own) == {"global"}:
        text += " Nearly every class has these, so the code hardly marks this class."
    return text


def agreement(value: float | None) -> tuple[str, str]:
    """Say whether code and data agree on a class: the verdict, and the words."""
    if value is None:
        return "unknown", "code and data cannot be compared"
    found = f"(correlation {decimal(value)})"
    if value >= AGREE:
        return "yes", f"code and data agree {found}"
    if value >= AGREE_IN_PART:
        return "in part", f"code and data agree in part {found}"
    return "no", f"code and data disagree {found}: believe the data"


def summary(data: dict[str, Any]) -> str:
    """Say in one to three sentences what was learned."""
    figures, estimator = data["figures"], data["estimator"]
    samples = count(data["data"]["n_samples"], "sample")
    of = f"these {samples} of {count(len(data['classes']), 'class')}"
    if not estimator["sparse"]:
        n = count(estimator["n_components"], "number")
        return (
            f"{estimator['name']} describes {of} with {n}. The code is dense: every dimension is "
            "active in every sample, so no dimension belongs to a class."
        )
    meanings = {
        "global": "that nearly every class activates",
        "shared": "that some classes share",
        "class-specific": "that mark one class",
        "sporadic": "active now and then",
    }
    roles = [factor["role"] for factor in data["factors"]]
    parts = [f"{roles.count(role)} {words}" for role, words in meanings.items() if role in roles]
    n = figures["n_factors"]
    text = f"{estimator['name']} describes {of} with {count(n, 'factor')}"
    text += f": {listed(parts)}." if parts else "."
    used = sum(len(factor["dimensions"]) for factor in data["factors"])
    if n < used or used < estimator["n_components"]:
        total = count(estimator["n_components"], "dimension")
        share = f"{used} of its {total}" if used < estimator["n_components"] else f"all its {total}"
        text += f" The factors use {share}." if used else f" It has {total}."
    if inert := sum(factor["inert"] for factor in data["factors"]):
        text += (
            f" {inert} of the factors change{'s' * (inert == 1)} nothing in the decoded samples."
        )
    return text


def figures(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the three figures, each with its title and what to compare it with."""
    f, sparse = data["figures"], data["estimator"]["sparse"]
    linear, numbers = f["baseline"], count(f["baseline_numbers"], "number")
    article = "An" if linear.startswith("N") else "A"
    compared = (
        f"{article} {linear} with {numbers} per sample explains {percent(f['baseline_fidelity'])}; "
        "it is fitted to half of these samples and judged on the other half."
    )
    if f["fidelity_measure"] == MEAN:
        compared += (
            " Pooled over all features, where those with the largest variance count most, the code "
            "explains "
            f"{percent(f['pooled_explained_variance'])} and the {linear} "
            f"{percent(f['baseline_pooled_explained_variance'])}."
        )
    kept = (TITLES[f["fidelity_measure"]], percent(f["fidelity"]), compared)
    knows = ""
    if data["estimator"]["uses_labels"]:
        knows = (
            " The code has an advantage: the encoder knows the labels of all its training samples."
        )
    told = (
        "Classes recognised from the code",
        percent(f["probe_accuracy"]),
        "This is the accuracy of a linear classifier on the codes. It learns from half of these "
        f"samples. On the features, it reaches {percent(f['probe_accuracy_of_features'])}."
        f"{knows} Naming the most frequent class every time reaches {percent(f['probe_chance'])}.",
    )
    if not sparse:
        return [kept, told]
    control = f["nonglobal_contrast_of_refits"]
    if not data["estimator"]["uses_labels"]:
        compared = "The fit did not use the labels."
    elif control is None:
        compared = "For comparison, factor_report(..., n_refits=2) fits to shuffled labels."
    else:
        fits = f"{count(f['n_refits'], 'refit')} to shuffled labels"
        compared = f"For comparison, {fits}: {decimal(control)}."
    contrast = (
        "Contrast of classes",
        decimal(f["nonglobal_contrast"]),
        "Two samples of one class have so much more of their active dimensions in common than two "
        f"of different classes: 1 at best, 0 by chance. Global dimensions do not count. {compared}",
    )
    return [kept, told, contrast]


def trust(data: dict[str, Any]) -> list[dict[str, str]]:
    """Say whether the figures hold on new samples, recur, and agree with the data."""
    verdicts = [_of_new_samples(data), _of_refits(data)]
    found = [entry["agreement"] for entry in data["classes"]]
    known = [value for value in found if value is not None]
    if known:
        worst = found.index(min(known))
        mean = float(np.mean(known))
        is_ranked = data["data"]["measure"] == "SD"
        what = "rank correlation" if is_ranked else "correlation of fold changes"
        verdicts.append(
            {
                "verdict": agreement(mean)[0],
                "text": f"{AGREEMENT} Their {what} over features is {decimal(mean)} on average, "
                f"and lowest for class {shorten(data['classes'][worst]['name'])}: "
                f"{decimal(found[worst])}.",
            }
        )
    return verdicts


def _of_new_samples(data: dict[str, Any]) -> dict[str, str]:
    question = NEW_SAMPLES
    found = data["generalization"].get("recognition")
    if not found or None in found.values():
        loss = data["generalization"].get("loss")
        if loss and None not in loss.values():
            gap = loss["held_out"] - loss["training"]
            return {
                "verdict": "yes" if gap < 0.1 * abs(loss["training"]) else "in part",
                "text": f"{question} The loss is {number(loss['held_out'])} nats on held-out "
                f"samples and {number(loss['training'])} nats on training samples.",
            }
        return {
            "verdict": "unknown",
            "text": f"{question} The fit held no samples out, so it cannot say. Believe the "
            "figures on this page only if the model was not trained on these samples.",
        }
    gap = found["held_out"] - found["training"]
    verdict = "yes" if gap <= APART else "in part" if gap <= 0.5 else "no"
    chance = _chance(data)
    by_chance = ""
    if np.isfinite(chance):
        by_chance = f" The classes' frequencies alone give {percent(np.exp(-chance))}."
    if found["held_out"] > 0.98 * chance:  # as GeneralizationWarning has it
        verdict = "no"
    return {
        "verdict": verdict,
        "text": f"{question} Judged by which dimensions are active, the true class of a training "
        f"sample has a typical probability of {percent(np.exp(-found['held_out']))} if the gates "
        f"have not seen its label, and of {percent(np.exp(-found['training']))} if they have. "
        f"(Typical: the geometric mean.){by_chance}",
    }


def _chance(data: dict[str, Any]) -> float:
    """Return the entropy of the classes; infinity if samples had several labels in training."""
    if data["estimator"]["n_classes"] != len(data["classes"]):
        return np.inf
    sizes = np.array([entry["n_samples"] for entry in data["classes"]])
    share = sizes / sizes.sum()
    return -float(share @ np.log(share))


def _of_refits(data: dict[str, Any]) -> dict[str, str]:
    question, figures = REFITS, data["figures"]
    found, chance = figures["recurrence"], figures["recurrence_by_chance"]
    if found is None or chance is None:
        return {
            "verdict": "unknown",
            "text": f"{question} This was not tested: factor_report(..., n_refits=2) does it.",
        }
    n = figures["n_refits"]
    refits = "one refit with another seed" if n == 1 else f"{n} refits with other seeds"
    return {
        "verdict": _found_again(found, chance),
        "text": f"{question} In {refits}, the correlation of a dimension with its match is "
        f"{decimal(found)} on average. By chance it would be {decimal(chance)}.",
    }


def warning_texts(data: dict[str, Any], collapse: list[str]) -> list[str]:
    """Say what to mend or keep in mind before believing the page."""
    figures, names = data["figures"], [entry["name"] for entry in data["classes"]]
    texts = list(collapse)
    for entry in data["trust"]:
        if entry["verdict"] == "no" and entry["text"].startswith(NEW_SAMPLES):
            texts.append("What the code says about the classes does not hold on new samples.")
        if entry["verdict"] == "no" and entry["text"].startswith(REFITS):
            texts.append(
                "Other fits find other factors: do not interpret single factors. What marks a "
                "class may still hold."
            )
        if entry["verdict"] == "no" and entry["text"].startswith(AGREEMENT):
            texts.append(
                "The code and the data disagree on what marks the classes: believe the data."
            )
    if data["estimator"]["sparse"] and not collapse:
        if without := [e["name"] for e in data["classes"] if not e["factors"]]:
            texts.append(f"Classes that activate no factor: {listed(without)}.")
        common = {f["dimensions"][0] for f in data["factors"] if f["role"] == "global"}
        alike = [
            e["name"] for e in data["classes"] if e["factors"] and common.issuperset(e["factors"])
        ]
        if alike:
            texts.append(
                "The code hardly marks these classes, because they activate only global factors: "
                f"{listed(alike, 12)}."
            )
        if figures["nonglobal_contrast"] < 0.1:
            texts.append(
                "The contrast is low: which factors are active says little about the class."
            )
    kept = figures["fidelity"]
    if kept < (0.02 if figures["fidelity_measure"] == DEVIANCE else 0.2):
        texts.append(
            f"The codes explain only {percent(kept)} of the data. Decoded samples are not much "
            "like the data, so read the effects with care."
        )
    if small := [n for n, e in zip(names, data["classes"], strict=True) if e["n_samples"] < 5]:
        texts.append(
            f"Roles and contrast leave out classes with fewer than 5 samples: {listed(small)}."
        )
    if few := [n for n, e in zip(names, data["classes"], strict=True) if 5 <= e["n_samples"] < FEW]:
        texts.append(f"Figures of classes with fewer than {FEW} samples are rough: {listed(few)}.")
    if missing := data["data"]["missing"]:
        what = "deviance" if figures["fidelity_measure"] == DEVIANCE else "variance"
        share = percent(missing) if missing >= 0.005 else "Less than 1 %"
        texts.append(
            f"{share} of the values are missing. The explained {what} and the "
            "differences between classes leave them out. Where the page needs a value, it uses the "
            "decoded one."
        )
    if n := data["data"]["n_unlabeled_left_out"]:
        texts.append(f"The page leaves out {count(n, 'sample')} without a label.")
    return texts


# -- notes on the sections of the page -------------------------------------------------------------


def measure_note(data: dict[str, Any]) -> str:
    """Say in which units changes are."""
    if data["data"]["image_shape"] is not None:
        return (
            "Orange means brighter, blue means darker; the largest change of each picture has the "
            "full colour. An effect is the root mean square over "
            "pixels, in standard deviations (SD)."
        )
    if data["data"]["measure"] == "SD":
        return (
            "Changes are in the units of the data, and in standard deviations (SD) of the feature."
        )
    return (
        "Changes are in counts of a sample of the usual total. “× 3” says that a feature has three "
        "times its mean count. The mean count of all features is added on both sides, so that rare "
        "ones do not dominate."
    )


def samples_note(data: dict[str, Any], kinds: set[str]) -> str:
    """Say how samples are told, and what the value of a category means."""
    if data["data"]["image_shape"] is not None:
        return ""
    if data["data"]["measure"] != "SD":
        return (
            " A sample is told by the features that the dimension changes most, if it has them, "
            "and by those that it has most of, compared with the average."
        )
    text = (
        " A sample is told by the features that the dimension changes most, and by those in which "
        "the sample is farthest from the average."
    )
    if "category" in kinds:
        text += (
            " A category is 1 in samples that have it, and 0 in others; decoded values can lie "
            "beyond."
        )
    return text


def rows_note(data: dict[str, Any]) -> str:
    """Say which results use only some of the samples, if any do."""
    n, inspected = data["data"]["n_samples"], data["data"]["n_samples_inspected"]
    if inspected == n:
        return ""
    return (
        f"Effects, class cards and baselines use {inspected:,} samples, equally many of each class "
        f"where there are enough. All other figures use all {n:,} samples. "
    )
