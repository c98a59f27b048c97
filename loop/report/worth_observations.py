"""Observations: what the tables of a validation do not show at a glance, in sentences."""

from __future__ import annotations

from typing import Final

from gapclose.loop.report.text import count, from_to, percent
from gapclose.loop.report.worth import ClassifierWorth
from gapclose.loop.report.worth_advice import few_photos
from gapclose.loop.report.worth_text import arm_word, with_interval

__all__ = ["observations"]

_AGAINST: Final = {
    "even": "every prompt evenly",
    "baseline": "the plain images",
    "real": "as many real photos",
}
_LOST: Final = 0.02  # of a class's recall: what tuning took less from is not named
_CONFUSED: Final = 0.03  # of a class's photos: what they are taken for more rarely is not named
_NAMED: Final = 3


def observations(said: ClassifierWorth) -> list[str]:
    """Write them of one classifier: what tuning gained and lost, and where it fails."""
    return [
        *_held_against(said),
        *_way(said),
        *few_photos(said),
        *_lost(said),
        *_groups(said),
        *_confused(said),
        *_reverse(said),
    ]


def _held_against(said: ClassifierWorth) -> list[str]:
    told = []
    for arm, name in _AGAINST.items():
        row = said.differences.get(arm)
        if row is None or row.value is None:
            continue
        how = "better" if row.is_more else "worse" if row.is_less else "not told apart"
        who = arm_word(said.primary).capitalize()
        told.append(f"{who} against {name}: {how} ({with_interval(row)}).")
    return told


def _way(said: ClassifierWorth) -> list[str]:
    share = said.recovered
    if share is None:
        return []
    how = "all" if share >= 1 else "none" if share <= 0 else percent(share)
    return [f"Share of the way from the plain images to real photos: {how}."]


def _lost(said: ClassifierWorth) -> list[str]:
    """Name the class that tuning took most from: an average hides it."""
    found = said.gains("tuned", "baseline")
    if not found or found[0][0] > -_LOST:
        return []
    _, cls, was, now = found[0]
    return [f"{cls} lost most by tuning: {from_to(was, now)}."]


def _groups(said: ClassifierWorth) -> list[str]:
    told, primary = [], said.primary or ""
    before, after = said.worst_group("baseline"), said.worst_group(primary)
    if before is not None and primary == "tuned" and before.recall.get(primary) is not None:
        change = from_to(before.recall["baseline"] or 0.0, before.recall[primary] or 0.0)
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
    worst = said.worst_class(said.primary)
    if worst is None:
        return []
    shares = said.confusions(said.primary, worst[0])
    named = [f"{name} {percent(share)}" for name, share in shares if share >= _CONFUSED]
    if not named:
        return []
    return [f"{worst[0]}, the worst class, is taken for {', '.join(named[:_NAMED])}."]


def _reverse(said: ClassifierWorth) -> list[str]:
    names = {"baseline": "plain", "tuned": "tuned", "synthetic": "synthetic", "even": "even"}
    known = [f"{name} {percent(said.reverse[arm], 1)}" for arm, name in names.items()
             if arm in said.reverse]  # fmt: skip
    if not known:
        return []
    return [
        "The other way round, trained on real photos it recognises of the images (GAN-test): "
        f"{', '.join(known)}. That sees what is wrong in them, not what is missing."
    ]
