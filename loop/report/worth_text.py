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


def arm_word(arm: str | None) -> str:
    """Say which images an arm's are: "the tuned images"."""
    return _WORDS.get(arm or "", arm or "")


def worth_sentence(worth: Worth) -> str | None:
    """Write what images are worth, for somebody who reads one sentence only; None if unknown."""
    said = worth.headline
    if said is None:
        return None
    who, was, now = (
        classifier_name(said.id),
        said.accuracy("baseline"),
        said.accuracy(said.primary),
    )
    tuned = f", on the tuned ones {percent(now, 1)}"
    if said.at_ceiling:
        return (
            f"Too easy to tell: trained on the plain images, {who} already recognises "
            f"{percent(was, 1)} of real photos{tuned if said.primary == 'tuned' else ''}"
            f"{_and_real(said)}."
        )
    if said.primary != "tuned" or was is None:
        return (
            f"Trained on the {arm_word(said.primary)} images, {who} recognises "
            f"{percent(now, 1)} of real photos{_and_real(said)}{_most_short(said)}."
        )
    gain = said.differences.get("baseline")
    if gain.is_more if gain is not None else (now or 0.0) > was:
        return (
            f"Trained on the plain images, {who} recognises {percent(was, 1)} of real photos"
            f"{tuned}{_and_real(said)}{_most_gained(said)}."
        )
    lost = gain is not None and gain.is_less
    verdict = "Tuning made the images worth less" if lost else "Tuning gained nothing"
    beside = "" if gain is None else f" ({with_interval(gain)})"
    return (
        f"{verdict}: trained on the plain images, {who} recognises {percent(was, 1)} of real "
        f"photos{tuned}{beside}{_and_real(said)}."
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
    said = f"{points(row.value)} points"
    if row.low is None or row.high is None:
        return said
    return f"{said}, {points(row.low)} to {points(row.high)}"


def _and_real(said: ClassifierWorth) -> str:
    real, primary = said.scores.get("real"), said.scores.get(said.primary or "")
    if real is None or real.accuracy is None:
        return ""
    alike = primary is not None and real.n_per_class == primary.n_per_class
    return f", on {'as many real' if alike else 'real'} ones {percent(real.accuracy, 1)}"


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
