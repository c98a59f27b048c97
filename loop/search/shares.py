"""Shares: how much of a mixture's weight each word and each setting of the search space has.

Diagnostics call it at the end of a run, for gap.json and the report. It knows recipes and the
space they came from, no scores. The camera is the same for all recipes and has no part in it.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from optuna.distributions import CategoricalDistribution

from gapclose.generators.conditioning import captions_segment
from gapclose.generators.parameters import Parameter
from gapclose.generators.recipe import Draw, Recipe
from gapclose.generators.values import Value
from gapclose.loop.config.values import template_slots
from gapclose.loop.search.generator_part import setting
from gapclose.loop.search.space import GENERATOR, PHOTOS, Space

__all__ = ["marginal_shares", "readings", "shares_of"]

Shares = dict[str, dict[str, Any]]
"""What `marginal_shares` returns: "words", "unread", "choices" and "numbers"."""

_MOST_READINGS: Final = 4096  # of one prompt; more there are only where words are hardly words

_Any = TypeVar("_Any")
_Words = dict[str, str]
_Place = tuple[int, bool]  # characters of the prompt that are read, and whether a space is due


def shares_of(
    recipes: Sequence[Recipe], weights: Sequence[float], space: Space
) -> dict[str, Shares]:
    """Return the shares of a class's mixture beside those of its baseline.

    Returns:
        {"mixture": `marginal_shares` of it, "baseline": the same of the untouched recipe}, which
        has what the mixture has: a generator without weight is in neither.
    """
    mixture = marginal_shares(recipes, weights, space)
    baseline = marginal_shares([space.baseline], [1.0], space)
    # Of every generator where its own search began, whichever drew trial 0.
    bases = [(part.base, 1.0 / len(space.parts)) for part in space.parts]
    choices, numbers = _settings(bases, space)
    return {
        "mixture": mixture,
        "baseline": {
            "words": {slot: baseline["words"].get(slot, {}) for slot in mixture["words"]},
            "unread": {k: v for k, v in baseline["unread"].items() if k in mixture["words"]},
            "choices": {name: choices[name] for name in mixture["choices"]},
            "numbers": {name: numbers[name] for name in mixture["numbers"]},
        },
    }


def marginal_shares(recipes: Sequence[Recipe], weights: Sequence[float], space: Space) -> Shares:
    """Sum the weight of each word and each setting over all recipes that have it.

    Words are read back from the prompts. Several ways to read a prompt share its weight evenly.
    A template that lacks a slot says of it what its empty word says, if it has one; what a
    caption says is not read.

    Args:
        recipes: Of the mixture; at least one.
        weights: One each, >= 0; they are scaled to sum to 1.
        space: Only what has more than one choice in it is reported.

    Returns:
        Plain values, ready for `json.dumps`; shares are in [0, 1], the largest first, and what
        has none is left out:

        * "words": slot ("noun" and "prompt", the template, are two) -> word -> share. Of several
          generators those count whose prompts have the slot.
        * "unread": slot -> share of prompts that have no word of the space there, as a baseline
          may; with the slot's words it sums to 1. Slots that are read whole are left out.
        * "choices": setting -> choice -> share. Numbers are written shortest, a scheduler that is
          the generator's own is "".
        * "numbers": setting that has a range -> {"mean", "sd"}, weighted, in its own unit; a
          parameter of a few whole numbers is one of the choices.

    Raises:
        ValueError: If there is no weight, or not one for each recipe.
    """
    total = math.fsum(weights)
    if not total > 0:
        raise ValueError("a mixture without weight has no shares")
    shared = [(recipe.draw, w / total) for recipe, w in zip(recipes, weights, strict=True)]
    slots = {slot: words for slot, words in space.words.items() if len(words) > 1}
    read = {draw.prompt: readings(space, draw.prompt) for draw, _ in shared}
    names = {digest: name for name, digest in space.groups.items()}
    words: dict[str, dict[str, float]] = {}
    unread: dict[str, float] = {}
    for slot, choices in slots.items():
        named, lost = [], []
        for draw, weight in _having(slot, shared, space):
            known = {PHOTOS: names[draw.photos]} if draw.photos in names else {}
            if draw.generator is not None:
                known[GENERATOR] = draw.generator
            ways = [way | known for way in read[draw.prompt]] or [known]
            for word in (_word(way, slot, choices) for way in ways):
                if word is None:
                    lost.append(weight / len(ways))
                else:
                    named.append((word, weight / len(ways)))
        if not named and not lost:
            continue
        words[slot] = _summed(choices, named)
        if math.fsum(lost) > 0:
            unread[slot] = math.fsum(lost)
    choices_of, numbers = _settings(shared, space)
    return {"words": words, "unread": unread, "choices": choices_of, "numbers": numbers}


def _having(
    slot: str, shared: Sequence[tuple[Draw, float]], space: Space
) -> list[tuple[Draw, float]]:
    """Return the draws whose generator has a slot in any of its prompts, with their shares."""
    if len(space.parts) == 1 or slot not in space.word_slots:
        return [*shared]
    having = {
        part.name
        for part in space.parts
        if any(slot in template_slots(template) for template in part.templates)
    }
    return _scaled([(draw, weight) for draw, weight in shared if draw.generator in having])


def _settings(
    shared: Sequence[tuple[Draw, float]], space: Space
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Return "choices" and "numbers" of draws with their weights."""
    choices_of: dict[str, dict[str, float]] = {}
    numbers: dict[str, dict[str, float]] = {}
    for name, distribution in space.settings.items():
        values = _values_of(name, shared, space)
        if not values:
            continue
        if isinstance(distribution, CategoricalDistribution):
            choices_of[name] = _shares(distribution.choices, values)
        else:
            numbers[name] = _spread(values)
    for part in space.parts:
        own = _scaled([(draw, w) for draw, w in shared if draw.generator == part.name])
        for name, even in part.parameters.items():
            values = [
                (value, weight * share)
                for draw, weight in own
                for value, share in _values(draw.parameters[name])
            ]
            if not values:
                continue
            if (counted := even.counted) is not None:
                choices_of[part.parameter(name)] = _shares(counted, values)
            else:
                numbers[part.parameter(name)] = _spread(values)
    return choices_of, numbers


def _values_of(
    name: str, shared: Sequence[tuple[Draw, float]], space: Space
) -> list[tuple[Any, float]]:
    """Return the values of a setting, with the shares of the draws whose generator takes it."""
    found = []
    for draw, weight in shared:
        settings = space.part_drawing(draw).settings
        found += [(setting(draw, own), weight) for own, its in settings.items() if its == name]
    return _scaled(found)


def _scaled(pairs: Sequence[tuple[_Any, float]]) -> list[tuple[_Any, float]]:
    """Scale weights to sum to 1, unless there is none."""
    total = math.fsum(weight for _, weight in pairs)
    if not total > 0 or total == 1.0:
        return [*pairs] if total > 0 else []
    return [(its, weight / total) for its, weight in pairs]


def _values(own: Parameter) -> list[tuple[Value, float]]:
    """Return the values that a recipe's images have, with shares that sum to 1."""
    return [(own, 1.0)] if isinstance(own, Value) else own.values()


def readings(space: Space, prompt: str) -> list[dict[str, str]]:
    """Find all ways in which a space makes a prompt.

    Templates are matched piece by piece, so that a space of any size is read at once: its
    combinations are never gone through.

    Args:
        space: Of the class.
        prompt: As `normalize_prompt` gives it.

    Returns:
        For each way the template ("prompt") and the words of the slots that it has; empty if the
        space cannot make it. At most 4,096.
    """
    found = []
    captions = {captions_segment(name): name for name in space.groups}
    for template in space.words["prompt"]:
        for words in _matches(_pieces(template), prompt, {**space.words, "caption": [*captions]}):
            way = {"prompt": template, **words}
            if (caption := way.pop("caption", None)) is not None:
                way[PHOTOS] = captions[caption]
            # Articles were matched loosely: which of them agree is normalize_prompt's to say.
            if space.prompt(way) == prompt:
                found.append(way)
    return found[:_MOST_READINGS]


def _word(way: Mapping[str, str], slot: str, choices: Sequence[str]) -> str | None:
    """Return what a reading says of a slot; None if nothing."""
    if slot in way or not way or "caption" in template_slots(way.get("prompt", "{caption}")):
        return way.get(slot)
    return next((word for word in choices if not word.strip()), None)


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Cut a template into texts, each with the slot that follows it; None for the last."""
    parsed = string.Formatter().parse(template)
    return [(text, "noun" if slot == "class" else slot) for text, slot, _, _ in parsed]


def _matches(
    pieces: Sequence[tuple[str, str | None]], prompt: str, words: Mapping[str, Sequence[str]]
) -> list[_Words]:
    """Find the words with which a template's pieces read as a prompt; articles may disagree."""

    @functools.cache  # from one place the rest reads the same, whatever words led there
    def rest(number: int, place: _Place) -> list[_Words]:
        if number == len(pieces):
            return [{}] if place[0] == len(prompt) else []
        text, slot = pieces[number]
        found: dict[tuple[tuple[str, str], ...], _Words] = {}  # articles lead to some twice
        for begin in _read(prompt, text, place):
            for word in ("",) if slot is None else words[slot]:
                own = {} if slot is None else {slot: word}
                for end in _read(prompt, word, begin):
                    for more in rest(number + 1, end):
                        if slot is None or more.get(slot, word) == word:
                            way = own | more
                            found[tuple(sorted(way.items()))] = way
        return list(found.values())[:_MOST_READINGS]

    return rest(0, (0, False))


def _read(prompt: str, text: str, start: _Place) -> set[_Place]:
    """Return where reading a text from a place may end; nowhere if the prompt differs.

    White space of the text is one space, and none at the ends of the prompt. An "a" of the one
    may be an "an" of the other.
    """
    places = {start}
    for letter in text:
        if letter.isspace():
            places = {(at, True) for at, _ in places}
            continue
        reached: set[_Place] = set()
        for at, due in places:
            after_a = at > 0 and prompt[at - 1] in "aA"
            if due and at > 0:
                nexts = [at + 1] if prompt[at : at + 1] == " " else []
                if after_a and prompt[at : at + 2] == "n ":  # the prompt's "an" is the text's "a"
                    nexts.append(at + 2)
            else:
                nexts = [at]
                if after_a and letter == "n" and prompt[at : at + 1] == " ":  # and the reverse
                    reached.add((at, False))
            reached |= {(to + 1, False) for to in nexts if prompt[to : to + 1] == letter}
        places = reached
    return places


def _summed(order: Iterable[str], pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sum shares by word, the largest first; equal ones in the order of the config."""
    parts: dict[str, list[float]] = {word: [] for word in order}
    for word, share in pairs:
        parts.setdefault(word, []).append(share)
    sums = {word: math.fsum(shares) for word, shares in parts.items()}
    return {w: s for w, s in sorted(sums.items(), key=lambda pair: -pair[1]) if s > 0}


def _shares(choices: Sequence[Any], values: Sequence[tuple[Any, float]]) -> dict[str, float]:
    return _summed(map(_text, choices), ((_text(value), share) for value, share in values))


def _spread(values: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the weighted mean and standard deviation of values, whose weights sum to 1."""
    mean = math.fsum(weight * value for value, weight in values)
    variance = math.fsum(weight * (value - mean) ** 2 for value, weight in values)
    return {"mean": mean, "sd": math.sqrt(variance)}


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
