"""Report text: a run's figures in plain words, and numbers as they are shown.

The report's first sentence and its verdicts are written here, from the rows of gap.json. It
rounds and it names; it never decides what is open or closed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gapclose.generators.distributions import Distribution, TruncatedNormal, distribution_of
from gapclose.generators.values import Value
from gapclose.loop.config.parameters import PREFIX
from gapclose.loop.run.events import Stopped, StopReason

__all__ = [
    "STATES",
    "bare",
    "below_floor",
    "chance",
    "count",
    "effect",
    "effect_sort_key",
    "first_sentence",
    "from_to",
    "in_short",
    "interval",
    "mattered",
    "meaning",
    "number",
    "objections",
    "percent",
    "points",
    "ratio",
    "seconds",
    "setting",
    "shortest",
    "signed",
    "spread",
    "state_of",
    "stopped_text",
    "title",
    "verdict",
    "was_tuned",
]

Row = Mapping[str, Any]

# state -> (word, what it means); the page gives each a shape of its own.
STATES: Final = {
    "confirmed": (
        "confirmed",
        "closed on images and photos the search never saw; the judge agrees",
    ),
    "closed": ("closed", "the two sides cannot be told apart here"),
    "unconfirmed": ("not confirmed", "closed for this embedder, but the judge or a guard objects"),
    "none": ("no gap", "the two sides cannot be told apart"),
    "open": ("open", "the two sides can be told apart"),
    "unknown": ("too few to tell", "no gap was seen, but under 100 images a side prove nothing"),
    "untold": (
        "cannot be told",
        "the embedder gives every image the same features; nothing can be told",
    ),
}
# The same where a panel of judges was asked.
_OF_A_PANEL: Final = {
    "confirmed": "closed on images and photos the search never saw; every judge agrees",
    "unconfirmed": "closed for this embedder, but a judge or a guard objects",
}
# ... and where none was.
_WITHOUT_JUDGE: Final = {
    "confirmed": "closed on images and photos the search never saw; no judge was asked",
    "unconfirmed": "closed for this embedder, but a guard objects",
}
_BELOW: Final = (
    "open, below its floor",
    "the test sees a difference of another kind than the gap measures: in a few images that lie "
    "far out, at one scale alone, or in what hardly varies from image to image",
)

# What a table calls the parameters of the search; slots are called what the config calls them.
TITLES: Final = {
    "prompt": "template",
    "negative_prompt": "negative prompt",
    "guidance_scale": "guidance",
    "num_inference_steps": "steps",
    "ip_adapter_scale": "IP-Adapter",
    "photos": "photo group",
}


def title(name: str) -> str:
    """Return what a table calls a parameter of the search."""
    return TITLES.get(name, name.removeprefix(PREFIX))


_DIGITS: Final = {"guidance_scale": 1}  # of a setting; of others 2
COPIES: Final = 0.01  # of the synthetic images; more are reported, as after tuning they object
NAMED: Final = 5  # classes that a line names
_STOPPED: Final = {
    StopReason.CONFIRMED: "confirmed",
    StopReason.CLOSED_FROM_START: "closed from the start",
    StopReason.CLOSED_ON_TUNE_SPLIT: "closed on the tune split",
    StopReason.BASELINE_KEPT: "no mixture did better on unseen photos: the baseline is kept",
    StopReason.FAILURES: "3 failures in a row, of which the last: {detail}",
    StopReason.CONFIRMATION_FAILED: "its confirmation failed: {detail}",
    StopReason.LIMIT: "tune.trials or tune.images reached",
    StopReason.SEEDS_SPENT: "the seeds of all its trials are used: start a new run",
    StopReason.NO_PHOTOS_LEFT: (
        "no photos are left to confirm it with: give more, or start a new run"
    ),
    StopReason.NO_FOLDS_LEFT: "all 3 folds of unseen photos are spent: start a new run",
    StopReason.INTERRUPTED: "interrupted; gapclose tune goes on",
    StopReason.OUT_OF_BUDGET: "the budget is out",
    StopReason.TOO_LITTLE_TIME: "too little time is left to search and confirm once more",
    StopReason.OBJECTIVE: "the objective is met: {detail}",
}


def stopped_text(stopped: Stopped) -> str:
    """Say why a class gets no more trials."""
    return _STOPPED[stopped.reason].format(detail=stopped.detail or "no reason is given")


def named(names: Sequence[str]) -> str:
    """Name classes, a few of many."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def in_short(reasons: Mapping[str, str]) -> str:
    """Say why several classes get no more trials, each reason once.

    Args:
        reasons: By class, in words.
    """
    classes: dict[str, list[str]] = {}
    for name, why in reasons.items():
        classes.setdefault(why, []).append(name)
    return "; ".join(f"{named(names)}: {why}" for why, names in classes.items())


def state_of(row: Row, *, tuned: bool) -> str:
    """Return what became of a class: a key of the legend (open, closed, confirmed ...)."""
    closed, confirmed = row.get("closed"), row.get("confirmed")
    if closed is False:
        return "open"
    if closed is None:
        # Only embeddings that are all alike leave no spread to divide the gap by and yet no gap.
        return "untold" if "effect" in row and row["effect"] is None else "unknown"
    if not tuned:
        return "none"
    return {True: "confirmed", False: "unconfirmed", None: "closed"}[confirmed]


def below_floor(row: Row) -> bool:
    """Return whether a class is open although its gap is no larger than its floor."""
    value = row.get("ratio")
    return row.get("closed") is False and value is not None and value <= 1


def verdict(row: Row, *, tuned: bool) -> str:
    """Return the word for what became of a class, the same wherever it is reported.

    Nothing while it is not known: a row has no "closed" before its class is tested.
    """
    if "closed" not in row:
        return ""
    return _BELOW[0] if below_floor(row) else STATES[state_of(row, tuned=tuned)][0]


def meaning(row: Row, *, tuned: bool) -> str:
    """Say what a verdict means, in a sentence without its first capital and its full stop."""
    if below_floor(row):
        return _BELOW[1]
    state = state_of(row, tuned=tuned)
    said = STATES[state][1]
    if row.get("judges"):
        return _OF_A_PANEL.get(state, said)
    return _WITHOUT_JUDGE.get(state, said) if row.get("judge", True) is None else said


def was_tuned(rows: Sequence[Row]) -> bool:
    """Return whether the classes of gap.json are those of a tuned run, not of an audit."""
    return any(row.get("before") for row in rows)


def first_sentence(
    rows: Sequence[Row], *, tuned: bool, tried: bool = True, skipped: int = 0
) -> str:
    """Write the finding, for somebody who reads one sentence only.

    Args:
        rows: the classes of gap.json.
        tuned: whether they were tuned (then each may have "before").
        tried: False if the budget left time for no more than baselines and some settings.
        skipped: how many classes could not be scored.
    """
    rows = sorted(rows, key=effect_sort_key, reverse=True)
    if not rows:
        return "Nothing could be measured: no class has enough readable images on both sides."
    if tuned and not tried:
        return (
            "Nothing was tuned: the budget left no time to try any recipe. Started again "
            "with a larger one, the run goes on."
        )
    said = _tuned_sentence(rows) if tuned else _audit_sentence(rows) + _copied(rows)
    if skipped:
        said += f" {skipped} more {'class' if skipped == 1 else 'classes'} could not be scored."
    return said


def _audit_sentence(rows: Sequence[Row]) -> str:
    n, states = len(rows), [state_of(row, tuned=False) for row in rows]
    n_open, n_unknown, n_same = map(states.count, ("open", "unknown", "untold"))
    few = f"; {_of(n_unknown, n)} {_have(n_unknown)} too few images to tell" if n_unknown else ""
    if n_same == n:
        return "Nothing can be told: the embedder gives every image the same features."
    if n_same:
        few += f"; {_of(n_same, n)} cannot be told"
    if not n_open:
        if n_unknown == n:
            return "No gap was seen, but there are too few images to tell."
        if n_same:  # "no gap" is not theirs to have
            n_told = n - n_unknown - n_same
            seen = f"In {_of(n_told, n)} no gap was seen" if n_told else "Nothing is sure"
            return f"{seen}{few}."
        if n_unknown:
            return f"No gap was seen{few}."
        return _no_gap(rows)
    worst = next(row for row in rows if state_of(row, tuned=False) == "open")
    times = _times(worst)
    if n == 1:
        return f"There is a gap{f': {times}' if times else ''}."
    if n_open == 1:
        rest = "" if n_unknown or n_same else "; in the others synthetic cannot be told from real"
        only = f"{worst['name']} is the only class with a gap"
        return f"{only}{f' ({times})' if times else ''}{rest}{few}."
    everybody = "Both classes" if n == 2 else f"All {n} classes"
    who = f"{everybody if n_open == n else f'{n_open} of {n} classes'} have a gap"
    return f"{who}; the largest is that of {worst['name']}{f' ({times})' if times else ''}{few}."


def _no_gap(rows: Sequence[Row]) -> str:
    """Say that an audit's embedder sees no gap in any class, and whether a judge does."""
    n, doubted = len(rows), sum(map(_doubted, rows))
    if n == 1 and not doubted:
        return "No gap: the synthetic images cannot be told from the real ones."
    if n == 1:  # how many of a panel do, its own sentence says
        but = "" if rows[0].get("judges") else ", but the judge sees one"
        return f"No gap for the embedder{but}."
    nowhere = "neither class" if n == 2 else f"none of the {n} classes"
    but = f" But a judge sees a gap in {doubted} of them." if doubted else ""
    return f"No gap: in {nowhere} can synthetic be told from real.{but}"


def _doubted(row: Row) -> bool:
    """Return whether a judge sees a gap in a class."""
    from gapclose.analysis.significance import LEVEL  # it loads numpy, which `status` does not

    judges = row.get("judges") or filter(None, [row.get("judge")])
    return any(j.get("q_value") is not None and j["q_value"] <= LEVEL for j in judges)


def _tuned_sentence(rows: Sequence[Row]) -> str:
    n, states = len(rows), [state_of(row, tuned=True) for row in rows]
    befores = [row.get("before") or row for row in rows]
    had_gap = [
        before.get("closed") is False or state == "open"
        for before, state in zip(befores, states, strict=True)
    ]
    if not any(had_gap):
        return _nothing_to_close(rows, states)
    leads = had_gap.index(True)
    first, before, state = rows[leads], befores[leads], states[leads]
    gap = "The gap" if n == 1 else f"The gap of {first['name']}"
    was, now = before.get("gap"), first.get("gap")
    if was is None or now is None or was <= 0:
        change = f"{gap} could not be compared"
    elif now <= 0:
        change = f"{gap} fell to nothing measurable"
    elif now <= was:
        change = f"{gap} fell by {math.floor(100 * (1 - now / was))} %"
    else:
        change = f"{gap} rose by {math.ceil(100 * (now / was - 1))} %"
    end = {
        "confirmed": " and is closed on images and photos the search never saw",
        "closed": " and is closed, though nothing has confirmed it yet",
        "unconfirmed": f" and is closed, but not confirmed: {objections(first)}",
        "open": ", but is still open",
        "unknown": ", but there are too few images to tell whether it is closed",
        "untold": ", but the embedder gives every image the same features: nothing can be told",
    }[state]
    return f"{change}{end}{_others(states, first=state)}."


def _copied(rows: Sequence[Row]) -> str:
    """Write an audit's clause on copies: a folder of them has no gap, and is no synthetic data."""
    counts = [(row.get("duplicates") or 0, row.get("n_synthetic") or 0, row) for row in rows]
    most, of, row = max(counts, key=lambda count: count[0] / max(count[1], 1))
    if most <= COPIES * of:
        return ""
    whose = "" if len(rows) == 1 else f" of {row['name']}"
    return f" But {most} of {of} synthetic images{whose} are near-copies of real ones."


def _nothing_to_close(rows: Sequence[Row], states: Sequence[str]) -> str:
    said, k = _audit_sentence(rows), states.count("unconfirmed")
    if not k:
        return said
    who = "this" if len(rows) == 1 else _of(k, len(rows))
    why = objections(rows[states.index("unconfirmed")])
    return f"{said[:-1]}; but {who} {_are(k)} not confirmed: {why}."


def _others(states: Sequence[str], *, first: str) -> str:
    n, n_confirmed = len(states), states.count("confirmed")
    if n == 1:
        return ""
    if n_confirmed == n:
        return "; so is the other class" if n == 2 else f"; so are all {n} classes"
    if n_confirmed == n - 1 and first != "confirmed":
        return "; the other class is confirmed" if n == 2 else "; the other classes are confirmed"
    counts = (
        (n_confirmed, "confirmed"),
        (states.count("unconfirmed") + states.count("closed"), "closed but not confirmed"),
        (states.count("unknown"), "too few to tell"),
        (states.count("open"), "still open"),
    )
    parts = [f"{k} {_are(k)} {what}" for k, what in counts if k]
    if n_same := states.count("untold"):
        parts.append(f"{n_same} cannot be told")
    return f". Of {n} classes " + ", ".join(parts)


def objections(row: Row) -> str:
    """Say what keeps a closed class from being confirmed."""
    return ", and ".join(row.get("objections") or ()) or "the judge or a guard objects"


def _of(k: int, n: int) -> str:
    return f"{k} of {n} classes"


def _are(k: int) -> str:
    return "is" if k == 1 else "are"


def _have(k: int) -> str:
    return "has" if k == 1 else "have"


def _times(row: Row) -> str:
    if below_floor(row):
        return "below its floor, but the test tells the sides apart"
    value = row.get("ratio")
    return "" if value is None else f"{ratio(value)} times the floor"


def mattered(importances: Mapping[str, float]) -> str:
    """Name importances, the largest first: "color 61 %, guidance 22 %"; small ones counted."""
    rows = sorted(importances.items(), key=lambda pair: -pair[1])
    named = [f"{title(name)} {percent(share)}" for name, share in rows if share >= 0.01]
    rest = f"{len(rows) - len(named)} more under {percent(0.01)}"
    return ", ".join(named) + (f" and {rest}" if len(named) < len(rows) else "")


def effect_sort_key(row: Row) -> float:
    """Return what the table is sorted by: the effect that the user came with."""
    source = row.get("before") or row
    value = source.get("effect")
    return -math.inf if value is None else float(value)


# ------------------------------------------------------------------------------------ numbers


def ratio(value: float | None) -> str:
    """Format a multiple of the floor: 0.7, 9.4, 88, 1 200; what is not above 0 is no gap."""
    if value is None:
        return "\N{EN DASH}"
    if value <= 0:
        return "\N{LESS-THAN OR EQUAL TO}\N{THIN SPACE}0"
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}".replace(",", "\N{THIN SPACE}")


def number(value: float | None, digits: int = 2) -> str:
    """Format to a fixed number of decimals, without a minus before zero."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def spread(mean: float, deviation: float) -> str:
    """Format a mean and a standard deviation, as 2.1 ± 0.4; one value alone as 7.5 or 30.

    Units are the generator's own: the deviation has one digit that counts.
    """
    if deviation <= 0.005 * abs(mean):
        return shortest(mean)
    digits = max(0, -math.floor(math.log10(deviation)))
    return f"{number(mean, digits)} ± {number(deviation, digits)}"


def setting(value: object, key: str) -> str:
    """Format a setting of a recipe; what it does not say is a dash."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, Mapping):
        return _distributed(distribution_of(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return shortest(value) if key.startswith(PREFIX) else number(value, _DIGITS.get(key, 2))
    return str(value)


def _distributed(own: Distribution) -> str:
    """Say how a parameter is distributed: 85 ± 20, 0 to 180, or steel 70 %, brass 30 %."""
    if isinstance(own, TruncatedNormal):
        ends = f"{shortest(own.low)} to {shortest(own.high)}"
        return ends if own.mean is None else spread(*own.moments())
    rows = sorted(own.values(), key=lambda pair: -pair[1])
    named = [f"{_choice(its)} {percent(share)}" for its, share in rows if share >= 0.01]
    return ", ".join(named[:NAMED]) + (", ..." if len(named) > NAMED else "")


def _choice(value: Value) -> str:
    """Write a choice so that its share stands apart from it."""
    text = setting(value, PREFIX)
    return text if isinstance(value, str) else f"{text}:"


def shortest(value: float) -> str:
    """Format to three digits that count, and no more than there are: 0.071, 7.5, 1 200."""
    digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "\N{MINUS SIGN}").replace(",", "\N{THIN SPACE}")


def signed(value: float | None) -> str:
    """Format a difference to one decimal, as +1.2 or -0.3; a dash for None."""
    return ("+" if value is not None and value >= 0.05 else "") + number(value, 1)


def effect(value: float | None) -> str:
    """Format an effect: three decimals while they say something."""
    return number(value, 3) if value is None or abs(value) < 0.995 else number(value, 2)


def chance(value: float | None) -> str:
    """Format a q-value."""
    if value is None:
        return "\N{EN DASH}"
    return "<\N{THIN SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Format a share in percent; what is above 0 never reads 0, nor 100.0 what is below 1."""
    if value is None:
        return "\N{EN DASH}"
    least = 10.0**-digits
    if 0 < value < least / 100:
        return f"<\N{THIN SPACE}{least:.{digits}f}\N{THIN SPACE}%"
    if digits and 1 - least / 200 <= value < 1:
        return f">\N{THIN SPACE}{100 - least:.{digits}f}\N{THIN SPACE}%"
    return f"{100 * value:.{digits}f}\N{THIN SPACE}%"


def from_to(was: float, now: float) -> str:
    """Format two shares, the unit once: 10 -> 84 %."""
    return f"{bare(was)} \N{RIGHTWARDS ARROW} {percent(now)}"


def bare(value: float | None, digits: int = 0) -> str:
    """Format a share as `percent` does, without a unit that follows later."""
    return percent(value, digits).removesuffix("\N{THIN SPACE}%")


def points(value: float | None) -> str:
    """Format a difference of shares in percentage points, as +13.4."""
    return signed(None if value is None else 100 * value)


def interval(low: float, high: float) -> str:
    """Format the interval of a share in percent, without the unit: 48.0-52.0."""
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}"


def seconds(value: float | None) -> str:
    """Format a time span: 41 s, 3 min 41 s, 7 h 12 min."""
    if value is None:
        return "\N{EN DASH}"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(value: float | None) -> str:
    """Format a whole number, in groups of three."""
    return "\N{EN DASH}" if value is None else f"{value:,.0f}".replace(",", "\N{THIN SPACE}")
