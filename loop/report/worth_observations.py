"""Observations: what the tables of a validation do not show at a glance, in sentences."""

from __future__ import annotations

from typing import Final

from gapclose.loop.report.text import count, from_to, percent
from gapclose.loop.report.worth import ClassifierWorth
from gapclose.loop.report.worth_text import arm_word, real_word, with_interval

__all__ = ["observations"]

_AGAINST: Final = {
    "even": "every prompt evenly",
    "baseline": "the plain images",
    "real": "{real} photos",
}
_LOST: Final = 0.02  # of a class's recall: what tuning took less from is not named
_CONFUSED: Final = 0.03  # of a class's photos: what they are taken for more rarely is not named
_NAMED: Final = 3


def observations(said: ClassifierWorth) -> list[str]:
    """Write them of one classifier: what tuning gained and lost, and where it fails."""
    return [
        *_held_against(said),
        *_way(said),
        *_few_photos(said),
        *_lost(said),
        *_groups(said),
        *_confused(said),
        *_reverse(said),
    ]


def _held_against(said: ClassifierWorth) -> list[str]:
    told = []
    for arm, name in _AGAINST.items():
        row = said.differences.get(arm)
        if row is None:
            continue
        how = "better" if row.is_more else "worse" if row.is_less else "not told apart"
        who, other = arm_word(said.primary).capitalize(), name.format(real=real_word(said))
        told.append(f"{who} against {other}: {how} ({with_interval(row)}).")
    return told


def _way(said: ClassifierWorth) -> list[str]:
    share = said.recovered
    if share is None:
        return []
    how = "all" if share >= 1 else "none" if share <= 0 else percent(share)
    return [f"Share of the way from the plain images to real photos: {how}."]


def _few_photos(said: ClassifierWorth) -> list[str]:
    """Say what the images bring to a person who has few photos, where it is beyond chance."""
    few, both = said.scores.get("few"), said.scores.get(f"few+{said.primary}")
    if few is None or both is None or both.low <= few.high:
        return []  # intervals that meet; they are of one set of photos, so this is strict
    return [
        f"{count(few.n_per_class)} real photos a class reach {percent(few.accuracy, 1)} alone, "
        f"and {percent(both.accuracy, 1)} with the {arm_word(said.primary)} images added."
    ]


def _lost(said: ClassifierWorth) -> list[str]:
    """Name the class that tuning took most from: an average hides it."""
    found = said.gains("tuned", "baseline")
    if not found or found[0][0] > -_LOST:
        return []
    _, cls, was, now = found[0]
    return [f"{cls} lost most by tuning: {from_to(was, now)}."]


def _groups(said: ClassifierWorth) -> list[str]:
    told, primary = [], said.primary
    before, after = said.worst_group("baseline"), said.worst_group(primary)
    if before is not None and primary == "tuned":
        change = from_to(before.recall["baseline"], before.recall[primary])
        told.append(
            f"Worst group of the plain images: {before.name} ({count(before.n)} test photos), "
            f"{change} with the tuned ones."
        )
    if after is not None and (after is not before or not told):
        real = after.recall.get("real")
        beside = "" if real is None else f"; with real photos {percent(real)}"
        told.append(
            f"Worst group of the {arm_word(primary)} images: {after.name} ({count(after.n)} test "
            f"photos), {percent(after.recall[primary])}{beside}."
        )
    return told


def _confused(said: ClassifierWorth) -> list[str]:
    worst, _ = said.worst_class(said.primary)
    shares = said.confusions(said.primary, worst)
    named = [f"{name} {percent(share)}" for name, share in shares if share >= _CONFUSED]
    if not named:
        return []
    return [f"{worst}, the worst class, is taken for {', '.join(named[:_NAMED])}."]


def _reverse(said: ClassifierWorth) -> list[str]:
    known = [f"{arm_word(arm)} {percent(share, 1)}" for arm, share in said.reverse.items()]
    if not known:
        return []
    return [
        "The other way round, trained on real photos it recognises of the images (GAN-test): "
        f"{', '.join(known)}. That sees what is wrong in them, not what is missing."
    ]
