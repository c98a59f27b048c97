"""Worth in words: the report's first sentence where a run was validated, and the console's line.

All of it is from the figures of validation.json, and a difference is called one only where its
interval leaves out 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gapclose.loop.report.text import bare, from_to, percent, points
from gapclose.loop.report.validation_file import Difference
from gapclose.loop.report.worth import ClassifierWorth, Problem, Worth

__all__ = [
    "PROBLEMS",
    "accuracy_lines",
    "arm_word",
    "classifier_name",
    "real_word",
    "with_interval",
    "worth_sentence",
]

_NAMES: Final = {"cnn": "a small CNN", "lenet": "LeNet", "vgg16": "VGG16"}
_WORDS: Final = {"baseline": "plain"}
_LEAST: Final = 0.01  # of a class's recall: what differs by less is not named

PROBLEMS: Final = {
    Problem.DAMAGED: (
        "validation.json is damaged and was left out: run `gapclose validate` again."
    ),
    Problem.OTHER_CLASSES: (
        "validation.json is of other classes than this run and was left out: run "
        "`gapclose validate` again."
    ),
    Problem.OUTDATED: (
        "What the images are worth was validated before the last session, and the mixtures have "
        "changed since: run `gapclose validate` again."
    ),
}


def classifier_name(name: str) -> str:
    """Name a classifier in a sentence."""
    if name.startswith("linear"):
        return "a linear probe"
    return _NAMES.get(name, name.removeprefix("timm:"))


def arm_word(arm: str) -> str:
    """Say which images an arm's are: "the tuned images"."""
    return _WORDS.get(arm, arm)


def real_word(said: ClassifierWorth) -> str:
    """Say which photos the primary arm is held against: "as many real photos"."""
    return "as many real" if said.has_as_many_real else "real"


def worth_sentence(worth: Worth) -> str:
    """Write what images are worth, for somebody who reads one sentence only."""
    said = worth.headline
    who, was = classifier_name(said.id), said.accuracy("baseline")
    now = percent(said.accuracy(said.primary), 1)
    tuned = f", on the tuned ones {now}"
    if said.at_ceiling:
        return (
            f"Too easy to tell: trained on the plain images, {who} already recognises "
            f"{percent(was, 1)} of real photos{tuned if said.primary == 'tuned' else ''}"
            f"{_and_real(said)}."
        )
    if said.primary != "tuned" or was is None:
        return (
            f"Trained on the {arm_word(said.primary)} images, {who} recognises "
            f"{now} of real photos{_and_real(said)}{_most_short(said)}."
        )
    gain = said.differences["baseline"]
    if gain.is_more:
        return (
            f"Trained on the plain images, {who} recognises {percent(was, 1)} of real photos"
            f"{tuned}{_and_real(said)}{_most_gained(said)}."
        )
    verdict = "Tuning made the images worth less" if gain.is_less else "Tuning gained nothing"
    return (
        f"{verdict}: trained on the plain images, {who} recognises {percent(was, 1)} of real "
        f"photos{tuned} ({with_interval(gain)}){_and_real(said)}."
    )


def accuracy_lines(accuracies: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Write a line for each classifier, for the console.

    Args:
        accuracies: By classifier and arm.
    """
    return [
        f"worth: {classifier_name(name)} recognises of real photos, trained on "
        + ", ".join(f"{arm} {percent(share, 1)}" for arm, share in arms.items())
        for name, arms in accuracies.items()
    ]


def with_interval(row: Difference) -> str:
    """Write a difference of accuracies with its 95 % interval."""
    return f"{points(row.value)} points, {points(row.low)} to {points(row.high)}"


def _and_real(said: ClassifierWorth) -> str:
    real = said.accuracy("real")
    return "" if real is None else f", on {real_word(said)} ones {percent(real, 1)}"


def _most_gained(said: ClassifierWorth) -> str:
    found = said.gains(said.primary, "baseline")
    if len(found) < 2:
        return ""
    gain, cls, was, now = found[-1]
    return f"; {cls} {from_to(was, now)}" if gain >= _LEAST else ""


def _most_short(said: ClassifierWorth) -> str:
    found = said.gains("real", said.primary)
    if len(found) < 2 or found[-1][0] < _LEAST:
        return ""
    _, cls, now, real = found[-1]
    return f"; {cls} falls short most, {bare(now)} against {percent(real)}"
