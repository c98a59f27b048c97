"""Worth advice: what to do next with a run that was validated, in a sentence or two.

It says nothing that a figure of validation.json does not hold: a class is called short where its
shortfall holds over all classes, prompts better where the interval says so.
"""

from __future__ import annotations

from typing import Final

from gapclose.loop.report.text import bare, count, number, percent
from gapclose.loop.report.worth import ClassifierWorth, Worth
from gapclose.loop.report.worth_text import real_word

__all__ = ["next_steps"]

_STEPS: Final = 2
_REMEDIES: Final = {
    # A run keeps its objective: resumed with another one it would be refused.
    "tuned": "start a new run with `tune.objective: worth`, which goes there first",
    "baseline": "let `gapclose tune` search there",
}
_EASIER: Final = 50  # images of a class: they tell arms apart that 200 do not


def next_steps(worth: Worth) -> list[str]:
    """Say what to do next, the most pressing first; at most two sentences."""
    said = worth.headline
    steps = [*_shortcut(worth), *_too_easy(said), *_even(worth), *_short(said)]
    return (steps or _nothing_short(said))[:_STEPS]


def _shortcut(worth: Worth) -> list[str]:
    found = [row.objection for row in worth.shortcuts if row.objection]
    return [f"A shortcut is in the images: {found[0].rstrip('.')}."] if found else []


def _too_easy(said: ClassifierWorth) -> list[str]:
    if not said.too_easy:
        return []
    if not said.at_ceiling:
        return [
            "Real photos are not worth more than the plain images beyond chance: more test "
            "photos, or more trainings (`--seeds`, `--draws`), tell whether there is more to gain."
        ]
    n = said.scores[said.primary].n_per_class
    fewer = _EASIER if n > _EASIER else max(2, n // 2)
    return [f"To tell them apart, validate with fewer images a class (`--per-class {fewer}`)."]


def _even(worth: Worth) -> list[str]:
    """Say where a careful person's prompts beat the mixtures, of the quoted classifier first."""
    steps = []
    for one in sorted(worth.classifiers, key=lambda one: one is not worth.headline):
        row = one.differences.get("even")
        if row is None or not row.is_less:
            continue
        figures = (
            f"({bare(one.accuracy('even'), 1)} against {percent(one.accuracy(one.primary), 1)})"
        )
        if one.primary != "tuned":
            steps.append(f"Every prompt evenly does better {figures}: let `gapclose tune` search.")
        elif one.learns_features:
            steps.append(
                "A classifier that learns its own features does better with every prompt evenly "
                f"{figures}: `gapclose export --for scratch` tempers the shares."
            )
        else:
            steps.append(
                f"A linear probe does better with every prompt evenly {figures}: the shares of "
                "the mixtures are not right yet, so give `gapclose tune` more --budget."
            )
    return steps[:1]


def _short(said: ClassifierWorth) -> list[str]:
    rows = said.short()
    if not rows:
        return []
    worst = rows[0]
    group = said.worst_group(said.primary, worst.cls)
    named = f" ({group.name}: {percent(group.recall[said.primary])})" if group else ""
    also = ""
    if len(rows) > 1:
        others = rows[1].cls if len(rows) == 2 else f"{count(len(rows) - 1)} more classes"
        also = f", and {others} {'falls' if len(rows) == 2 else 'fall'} short, too"
    short = number(100 * worst.shortfall, 0)
    return [
        f"{worst.cls} still falls {short} points short of real photos{named}{also}: "
        f"{_REMEDIES.get(said.primary, 'vary its images')}, or add real photos."
    ]


def _nothing_short(said: ClassifierWorth) -> list[str]:
    if not said.shortfalls:
        return []
    told = f"No class falls short of {real_word(said)} photos beyond chance"
    return [f"{told}: `gapclose export` the images."]
