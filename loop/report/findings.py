"""Findings: what a run says beside its numbers, in sentences that name images.

The console prints them under its table, the report in its head and under its own: which images
were left out and why, what is stored differently, what repeats. It reads gap.json alone, has one
sentence a kind, and decides nothing. A gap.json of an older version has fewer of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

from gapclose.loop.report.panel import panel_sentence
from gapclose.loop.report.shortcut_words import shortcut_warnings
from gapclose.loop.report.text import (
    count,
    meaning,
    objections,
    ratio,
    state_of,
    verdict,
    was_tuned,
)

__all__ = [
    "findings",
    "group_name",
    "largest",
    "left_out",
    "repeat_word",
    "stored_words",
    "warnings",
]

Row = Mapping[str, Any]

_NAMED: Final = 3
_WAYS: Final = 3  # lines of one kind that say different things
_DIFFERS: Final = {"quality": "JPEG quality", "chroma": "chroma subsampling"}
_KINDS: Final = {
    "exact": ("exact copies", "is an exact copy of another", "are exact copies of others"),
    "near": (
        "nearly the same",
        "is nearly the same as another",
        "are nearly the same as others",
    ),
    "group": ("one group", "is in one group with another", "are in one group with others"),
}


def findings(gap: Row) -> list[str]:
    """Write every sentence, what changes the reading of the numbers first.

    Args:
        gap: the parsed gap.json.
    """
    rows = gap["classes"]
    panel = panel_sentence(rows, tuned=was_tuned(rows))
    return [
        *warnings(gap),
        *([panel] if panel else ()),
        *_odd_verdicts(rows),
        *_skipped(gap),
        *left_out(gap),
    ]


def warnings(gap: Row) -> list[str]:
    """Note what concerns the whole run: what else than the gap the images show, and files."""
    return [*(gap.get("notes") or ()), *shortcut_warnings(gap), *_stored(gap)]


def left_out(gap: Row) -> list[str]:
    """Say which files were not used or not scored, and which images repeat others."""
    return [*_other_files(gap), *_unreadable(gap), *_invalid(gap), *_repeats(gap)]


# ------------------------------------------------------------------------------------ storage


def stored_words(stored: Row) -> str:
    """Say what a class's two sides differ in as files, and what that does to its gap."""
    return (
        f"Stored differently{_aspects(stored)}: real {stored['real']}, synthetic "
        f"{stored['synthetic']}; as stored {ratio(stored.get('ratio_as_stored'))} floors, both as "
        f"{stored['form']}: {ratio(stored.get('ratio_in_one_form'))}."
    )


def _aspects(stored: Row) -> str:
    words = [_DIFFERS.get(word, word) for word in stored.get("differs") or ()]
    return f" ({', '.join(words)})" if words else ""


def _stored(gap: Row) -> list[str]:
    """Write one sentence for all classes that are stored alike, a few at most."""
    rows = [row for row in gap["classes"] if row.get("stored")]
    equalized = gap.get("equalized", True)
    if not rows:
        return [
            f"The two sides were stored differently ({confound}). {_compared(equalized)}"
            for confound in gap.get("confounds") or ()  # of an older version: no class has its own
        ]
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        stored = row["stored"]
        key = (stored["real"], stored["synthetic"], stored["form"])
        alike.setdefault(key, []).append(row)
    ways = sorted(alike.values(), key=len, reverse=True)
    if len(ways) > _WAYS:
        ways = [*ways[: _WAYS - 1], [row for way in ways[_WAYS - 1 :] for row in way]]
    said = [_stored_alike(way, n=len(gap["classes"])) for way in ways]
    return [*said[:-1], f"{said[-1]} {_compared(equalized)}"]


def _stored_alike(rows: Sequence[Row], *, n: int) -> str:
    first = rows[0]["stored"]
    one_way = all(row["stored"]["form"] == first["form"] for row in rows) and all(
        (row["stored"]["real"], row["stored"]["synthetic"]) == (first["real"], first["synthetic"])
        for row in rows
    )
    names = [row["name"] for row in rows]
    where = "" if n == 1 else f" in {f'all {n} classes' if len(names) == n else _named(names)}"
    how = f"real {first['real']}, synthetic {first['synthetic']}"
    said = f"The two sides are stored differently{where}{_aspects(first)}: {how}"
    if not one_way:
        said = f"The two sides are stored differently{where}, such as {rows[0]['name']}: {how}"
    was, now = (
        _span([row["stored"].get(key) for row in rows])
        for key in ("ratio_as_stored", "ratio_in_one_form")
    )
    form = first["form"] if one_way else "one form"
    if not was or not now:
        return f"{said}."
    return f"{said}. As stored the gap is {was} floors; with both as {form} it is {now}."


def _compared(equalized: bool) -> str:
    if equalized:
        return "Both were put through one form before they were compared."
    return (
        "They were compared as they are: the camera (space.camera: resize, jpeg_quality) can do "
        "to the synthetic ones what was done to the real ones."
    )


def _span(values: Iterable[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    if not known:
        return ""
    low, high = ratio(known[0]), ratio(known[-1])
    return low if low == high else f"{low} to {high}"


# ----------------------------------------------------------------------------------- verdicts


def _odd_verdicts(rows: Sequence[Row]) -> list[str]:
    """Explain the verdicts that a ratio does not: below its floor, closed but not confirmed."""
    tuned = was_tuned(rows)
    said: dict[str, list[str]] = {}
    for row in rows:
        word = verdict(row, tuned=tuned)
        state = state_of(row, tuned=tuned)
        if state == "untold" or (state == "open" and word != state):
            said.setdefault(f"{word} ({meaning(row, tuned=tuned)})", []).append(row["name"])
        elif state == "unconfirmed":
            why = f"closed, but not confirmed: {objections(row)}"
            said.setdefault(why, []).append(row["name"])
    return [f"{_named(names)}: {words}." for words, names in said.items()]


def _skipped(gap: Row) -> list[str]:
    skipped = [f"{row['class']} ({row['why']})" for row in gap.get("skipped") or ()]
    return [f"Not scored: {_named(skipped)}."] if skipped else []


# -------------------------------------------------------------------------------------- files


def _other_files(gap: Row) -> list[str]:
    """Say what lies in the folders and is in no class: no image, or beside the class folders."""
    said = []
    for side in ("real", "synthetic"):
        files = [row for row in gap.get("other_files") or () if row["side"] == side]
        total = (gap.get("n_other_files") or {}).get(side, len(files))
        ways = _by_reason(files)[:_WAYS]
        for why, paths in ways:
            n = len(paths)
            said.append(f"{_many(n, f'{side} file')} {_was(n)} left out ({why}): {_named(paths)}.")
        if rest := total - sum(len(paths) for _, paths in ways):
            what = f"{'more ' if ways else ''}{side} file"
            said.append(f"{_many(rest, what)} {_was(rest)} left out as well.")
    return said


def _unreadable(gap: Row) -> list[str]:
    files = gap.get("unreadable") or ()
    if not files:
        return []
    names = [f"{_name(row, row['path'])} ({row['why']})" for row in files[:_NAMED]]
    return [f"{_many(len(files), 'image')} cannot be read: {_with_rest(names, len(files))}."]


def _invalid(gap: Row) -> list[str]:
    """One-colour images and the like: of folders by name, of a generator by class."""
    listed = gap.get("invalid_images") or ()
    said = [
        f"{_many(len(paths), f'{side} image')} {_was(len(paths))} never scored ({why}): "
        f"{_named(paths)}."
        for side in ("real", "synthetic")
        for why, paths in _by_reason([row for row in listed if row["side"] == side])[:_WAYS]
    ]
    named = Counter(row.get("class") for row in listed if row["side"] == "synthetic")
    rows = gap.get("classes") or ()
    left = Counter({row["name"]: row.get("invalid") or 0 for row in rows}) - named
    if n := left.total():
        names = [f"{name} {count(k)}" for name, k in left.most_common()]
        said.append(
            f"{_many(n, 'generated image')} {_was(n)} invalid and never scored: {_named(names)}."
        )
    return said


def _repeats(gap: Row) -> list[str]:
    """Write one sentence for each kind of repeat on each side, the largest groups by name."""
    alike: dict[tuple[str, str, bool], list[Row]] = {}
    for row in gap.get("repeats") or ():
        key = (row["side"], row["kind"], bool(row.get("counted")))
        alike.setdefault(key, []).append(row)
    said = []
    for (side, kind, counted), groups in alike.items():
        n = sum(len(row["copies"]) for row in groups)
        names = [group_name(row) for row in largest(groups)[:_NAMED]]
        all_ = "the group" if len(groups) == 1 else f"each of the {_many(len(groups), 'group')}"
        if not counted:
            so = f"{all_} counts once"
        elif side == "synthetic":
            so = f"this is a sign of a generator that has collapsed, and {all_} counts in full"
        else:
            so = f"{all_} counts in full"
        said.append(
            f"{_many(n, f'{side} image')} {_KINDS[kind][1 if n == 1 else 2]}; {so}: "
            f"{_with_rest(names, len(groups))}."
        )
    return said


def largest(groups: Iterable[Row]) -> list[Row]:
    """Sort groups of repeats, those of the most copies first."""
    return sorted(groups, key=lambda row: -len(row["copies"]))


def group_name(row: Row) -> str:
    """Name a group of repeats by the image that stands for it."""
    return f"{_name(row, row['kept'])} (and {count(len(row['copies']))} like it)"


def repeat_word(row: Row) -> str:
    """Say what the images of a group of repeats are to each other."""
    return _KINDS[row["kind"]][0]


# -------------------------------------------------------------------------------------- words


def _name(row: Row, path: str) -> str:
    """Name a file as a sentence does: with its class, or else the folder that it lies in."""
    parts = PurePath(path).parts[-2:]
    return "/".join([row["class"], *parts[-1:]] if row.get("class") else parts)


def _by_reason(files: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Group short names by reason, the commonest first."""
    found: dict[str, list[str]] = {}
    for row in files:
        found.setdefault(str(row["why"]), []).append(_name(row, row["path"]))
    return sorted(found.items(), key=lambda item: -len(item[1]))


def _named(names: Sequence[str]) -> str:
    return _with_rest(names[:_NAMED], len(names))


def _with_rest(names: Sequence[str], total: int) -> str:
    *first, last = [*names, f"{count(rest)} more"] if (rest := total - len(names)) else names
    return f"{', '.join(first)} and {last}" if first else last


def _many(n: int, what: str) -> str:
    return f"{count(n)} {what}{'' if n == 1 else 's'}"


def _was(n: int) -> str:
    return "was" if n == 1 else "were"
