"""The search space: a config's `space` <-> Optuna distributions <-> recipes of one class.

`search` asks it what may be varied and turns the parameters Optuna proposes into recipes. It
holds no state and knows nothing of scores.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
)

from gapclose.generators.conditioning import captions_segment
from gapclose.generators.distributions import Categorical, Distribution
from gapclose.generators.parameters import Parameter, Parameters
from gapclose.generators.prompt_text import normalize_prompt
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.generators.values import Value
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.space import CameraSpace
from gapclose.loop.config.values import template_slots
from gapclose.loop.run.photo_groups import ALL_PHOTOS
from gapclose.loop.search.generator_part import GeneratorPart, setting
from gapclose.loop.search.optuna_distributions import (
    Distributions,
    choices,
    floats,
    ints,
    nearest,
    only,
)

PHOTOS: Final = "photos"
"""The slot that names a photo group."""

GENERATOR: Final = "generator"
"""The slot that names a generator, where there are several."""

Params = dict[str, Any]
"""Optuna's parameters of a trial: word slots by their names, settings by theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be varied for one class.

    Attributes:
        cls: The class.
        words: Slot -> its choices. The class's `noun`, the `prompt` template, the group of
            `photos` that captions and source pictures are taken from, and the `generator` where
            there are several, are slots too.
        parts: What each generator makes of it, in the config's order.
        baseline: The untouched recipe, trial 0; it is the first generator's.
        cameras: Parameter of the camera -> distribution; the run chooses one for all classes.
        camera: What is put on the images: the baseline's, as near as may be chosen, until then.
        groups: Name of a photo group -> its digest; without any there are words alone.
    """

    cls: str
    words: Mapping[str, tuple[str, ...]]
    parts: tuple[GeneratorPart, ...]
    baseline: Recipe
    cameras: Distributions
    camera: Camera
    groups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig, name: str, *, groups: Mapping[str, str] | None = None) -> Space:
        """Return the space of a class under a config.

        Args:
            config: Of the run.
            name: The class.
            groups: Its photo groups; without them what needs a photo is left out.
        """
        spec = config.space
        nouns = spec.nouns.get(name, (name.replace("_", " "),))
        imaging = _imaging(spec.camera)
        fixed = {k: only(d) for k, d in imaging.items() if d.single()}
        parts = tuple(
            GeneratorPart.of(config, its, name=name, noun=nouns[0], photos=bool(groups))
            for its in config.drawn_by
        )
        templates = tuple(dict.fromkeys(one for part in parts for one in part.templates))
        used = {slot for template in templates for slot in template_slots(template)}
        named = {GENERATOR: tuple(map(str, config.drawn_by))} if len(parts) > 1 else {}
        baseline = Recipe(draw=parts[0].base, camera=_camera(config, fixed))
        start = baseline.camera.to_json()
        return cls(
            cls=name,
            words={
                **named,
                **{slot: its for slot, its in spec.slots.items() if slot in used},
                **({PHOTOS: tuple(groups)} if groups else {}),
                "noun": nouns,
                "prompt": templates,
            },
            parts=parts,
            baseline=baseline,
            cameras={k: d for k, d in imaging.items() if not d.single()},
            camera=Camera(**(start | {k: nearest(d, start[k]) for k, d in imaging.items()})),
            groups=groups or {},
        )

    @property
    def settings(self) -> dict[str, BaseDistribution]:
        """Of guidance, steps, scheduler and negative prompt what is searched."""
        return {k: its for part in self.parts for k, its in part.distributions.items()}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Everything Optuna may choose."""
        words = {k: CategoricalDistribution(v) for k, v in self.words.items() if len(v) > 1}
        return {**words, **self.settings}

    def words_of(self, part: GeneratorPart) -> dict[str, str]:
        """Return the words that name a generator; none where there is one."""
        return {GENERATOR: str(part.name)} if len(self.parts) > 1 else {}

    def distributions_of(self, part: GeneratorPart) -> dict[str, BaseDistribution]:
        """Everything Optuna may choose of one generator."""
        slots = {slot for its in part.templates for slot in self.slots_of({"prompt": its})}
        words = {k: v for k, v in self.words.items() if k in slots}
        if len(self.parts) > 1:
            words.pop(GENERATOR, None)
        words["prompt"] = part.templates
        chosen = {k: CategoricalDistribution(v) for k, v in words.items() if len(v) > 1}
        return {**chosen, **part.distributions}

    @property
    def word_slots(self) -> tuple[str, ...]:
        """The slots that hold words to choose from, the class's nouns apart."""
        none = {"noun", "prompt", PHOTOS, *([GENERATOR] if len(self.parts) > 1 else [])}
        return tuple(slot for slot in self.words if slot not in none)

    @property
    def has_captions(self) -> bool:
        """Whether captions of the photos are prompts."""
        return any("caption" in template_slots(template) for template in self.words["prompt"])

    @property
    def has_sources(self) -> bool:
        """Whether images are made from pictures of the photos, not from prompts alone."""
        return any(
            {"strength", "ip_adapter_scale"} & {*part.settings, *part.fixed} for part in self.parts
        )

    def part_of(self, words: Mapping[str, Any]) -> GeneratorPart:
        """Return the part of the generator that words name; the first, where they name none."""
        name = words.get(GENERATOR)
        return next((part for part in self.parts if part.name == name), self.parts[0])

    def part_drawing(self, draw: Draw) -> GeneratorPart:
        """Return the part of the generator that a draw names."""
        return self.part_of({GENERATOR: draw.generator})

    def slots_of(self, words: Mapping[str, str]) -> tuple[str, ...]:
        """Name the slots of `words` that recipes of a template and generator depend on."""
        held = {"caption": PHOTOS, "class": "noun"}
        used = {held.get(slot, slot) for slot in template_slots(self._template(words))}
        used |= {"prompt", *([GENERATOR] if len(self.parts) > 1 else [])}
        if self.has_sources:
            used.add(PHOTOS)
        return tuple(slot for slot in self.words if slot in used)

    def _template(self, words: Mapping[str, str]) -> str:
        return words.get("prompt", self.part_of(words).templates[0])

    def prompt(self, words: Mapping[str, str]) -> str:
        """Fill a template; slots that are not given take their first choice.

        In the place of a caption stands, in braces, which photos' captions are taken.
        """
        chosen = {k: words.get(k, v[0]) for k, v in self.words.items()}
        named = captions_segment(str(chosen.get(PHOTOS)))
        values = {**chosen, "class": chosen["noun"], "caption": named}
        return normalize_prompt(self._template(words).format_map(values))

    def asked(self, words: Mapping[str, str]) -> str:
        """Name the prompt that words make, by `prompt_by`; whatever photos they name."""
        return prompt_by(self.prompt(words), self.part_of(words).name)

    def name_of(self, words: Mapping[str, str]) -> str:
        """Name what words ask for: their prompt, and what it does not name itself."""
        photos = words.get(PHOTOS, self.words[PHOTOS][0]) if self.has_sources else None
        return _name(self.prompt(words), photos, self.part_of(words).name)

    def name_of_draw(self, draw: Draw) -> str:
        """Name what a draw asks for, as `name_of` names the words that make it."""
        named = [name for name, digest in self.groups.items() if digest == draw.photos]
        return _name(draw.prompt, named[0] if named and self.has_sources else None, draw.generator)

    def recipe(
        self, params: Mapping[str, Any], parameters: Mapping[str, Parameter] | None = None
    ) -> Recipe:
        """Return the recipe of a trial's parameters.

        Args:
            params: Words and settings; those of other generators are left out.
            parameters: Of the generator's own, what is not the baseline's.
        """
        words = {k: v for k, v in params.items() if k in self.words}
        part = self.part_of(words)
        own = {**part.fixed_parameters, **(parameters or {}), **part.own(params)}
        draw = self.worded(part.base, words, own)
        base = draw.to_json() | part.values(params)
        if PHOTOS in self.slots_of(words):
            base["photos"] = self.groups[words.get(PHOTOS, self.words[PHOTOS][0])]
        return Recipe(draw=Draw.from_json(base), camera=self.camera)

    def worded(
        self,
        draw: Draw,
        words: Mapping[str, str],
        parameters: Mapping[str, Parameter] | None = None,
    ) -> Draw:
        """Return a draw with other words: their prompt, and their noun where it names one.

        Args:
            draw: Of the class, and of the generator that the words name.
            words: Slot -> word.
            parameters: Of the generator's own, which take the place of the draw's.
        """
        noun = None if draw.noun is None else words.get("noun", self.words["noun"][0])
        own = Parameters({**draw.parameters, **(parameters or {})})
        return replace(draw, prompt=self.prompt(words), noun=noun, parameters=own)

    def used(self, params: Mapping[str, Any]) -> Params:
        """Return parameters without the words that their template has no place for.

        A template that is none of their generator's gives way to its first.
        """
        part = self.part_of(params)
        template = self._template(params)
        template = template if template in part.templates else part.templates[0]
        params = {**params, **({"prompt": template} if "prompt" in params else {})}
        slots = self.slots_of(params)
        return {k: v for k, v in params.items() if k not in self.words or k in slots}

    def baseline_settings(self) -> Params:
        """Return the baseline's own settings, or the nearest to them that may be chosen."""
        return self.settings_of(self.baseline.draw)

    def settings_of(self, draw: Draw) -> Params:
        """Return the settings of a draw, those of other generators as their search begins."""
        own = self.part_drawing(draw)
        found = {}
        for part in (own, *self.parts):
            for name, called in part.settings.items():
                if called not in found:
                    value = setting(draw if part is own else part.base, name)
                    found[called] = nearest(part.distributions[called], value)
        return {name: found[name] for name in self.settings}

    def prompts(
        self,
        prior: Mapping[str, Mapping[str, float]] | None = None,
        *,
        held: Mapping[str, str] | None = None,
        limit: int = 4096,
    ) -> list[dict[str, str]]:
        """Return combinations of words: all, or where there are too many, the likeliest.

        Args:
            prior: Slot -> word -> share. Without one, some of too many are sampled at random, the
                same ones every time: the first would hold one word of the first slot.
            held: Slots whose word is given.
            limit: The most.

        Returns:
            All in the order of the config, or else the likeliest first.
        """
        words = {**self.words, **{slot: (word,) for slot, word in (held or {}).items()}}
        products = [
            {slot: words[slot] for slot in self.slots_of(named)}
            | {slot: (word,) for slot, word in named.items()}
            for named in self._templates
            if all(word in words[slot] for slot, word in named.items())
        ]
        return _combinations(products, prior, limit)

    @property
    def _templates(self) -> list[dict[str, str]]:
        """The templates of each generator, as words."""
        return [
            {**self.words_of(part), "prompt": template}
            for part in self.parts
            for template in part.templates
        ]


def space_digest(space: Space) -> str:
    """Hash the space to 16 hex digits: a changed one breaks a study (optuna#2199)."""
    several = {"parts": [part.content() for part in space.parts]} if space.parts[1:] else {}
    content = {
        "words": {k: list(v) for k, v in space.words.items()},
        **(several or space.parts[0].content()),
        "baseline": space.baseline.fingerprint(),
        **({"groups": dict(space.groups)} if space.groups else {}),
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _name(prompt: str, photos: str | None, generator: str | None) -> str:
    name = prompt if photos is None else f"{prompt} from {photos}"
    return prompt_by(name, generator)


def prompt_by(prompt: str, generator: str | None) -> str:
    """Name a prompt, and where there are several generators the one that draws it."""
    return prompt if generator is None else f"{prompt} by {generator}"


def variants(space: Space) -> dict[str, Draw]:
    """Return the draw of a space's baseline with another value of one parameter, by its name.

    A fixed one's is the baseline's where they are the same.
    """
    draw, part = space.baseline.draw, space.parts[0]
    others = {
        **part.fixed_parameters,
        **{k: _other(its, draw.parameters[k]) for k, its in part.parameters.items()},
        **part.own(_far(space)),
    }
    return {name: space.worded(draw, {}, {name: value}) for name, value in others.items()}


def other_prompt(space: Space) -> Draw | None:
    """Return the draw of a space's baseline with another prompt; None where there is one."""
    words = space.prompts(held={"noun": space.words["noun"][0]})
    return space.worded(space.baseline.draw, words[-1]) if len(words) > 1 else None


def _far(space: Space) -> Params:
    """Return the setting of each parameter that is far from the baseline's, of one generator."""
    found = {}
    for name, value in space.baseline_settings().items():
        its = space.settings[name]
        if isinstance(its, CategoricalDistribution):
            found[name] = next((c for c in reversed(its.choices) if c != value), value)
        else:
            low, high = its.low, its.high  # type: ignore[attr-defined]
            found[name] = low if value - low > high - value else high
    return found


def _other(even: Distribution, value: Parameter) -> Value:
    """Return a value that is far from one, among those that may be chosen."""
    plain = value if isinstance(value, Value) else value.at(0.5)
    if isinstance(even, Categorical):
        return next((choice for choice in reversed(even.choices) if choice != plain), plain)
    assert isinstance(plain, int | float), "a range is of numbers, and so is the baseline's"
    at = even.place_of(min(max(float(plain), even.low), even.high))
    return even.at(0.0 if at > 0.5 else 1.0)


def _combinations(
    products: Sequence[Mapping[str, Sequence[str]]],
    prior: Mapping[str, Mapping[str, float]] | None,
    limit: int,
) -> list[dict[str, str]]:
    """Return what products hold, as `Space.prompts`."""
    totals = [math.prod(map(len, product.values())) for product in products]
    if sum(totals) <= limit:
        return [
            dict(zip(product, chosen, strict=True))
            for product in products
            for chosen in itertools.product(*product.values())
        ]
    if not prior:
        numbers = sorted(_sample(sum(totals), limit))
        return [_combination(products, totals, number) for number in numbers]
    best = [pair for product in products for pair in _likeliest(product, prior, limit)]
    return [chosen for _, chosen in heapq.nlargest(limit, best, key=lambda pair: pair[0])]


def _sample(total: int, n: int) -> set[int]:
    """Draw n different numbers below a total, the same ones every time."""
    rng = random.Random(0)
    if total <= sys.maxsize:  # what a range can be longer than is no length to Python
        return {*rng.sample(range(total), n)}
    found: set[int] = set()
    while len(found) < n:
        found.add(rng.randrange(total))
    return found


def takes_all_captions(draw: Draw) -> bool:
    """Return whether a draw asks for the captions of all photos, one after the other."""
    return captions_segment(ALL_PHOTOS) in draw.prompt


def _combination(
    products: Sequence[Mapping[str, Sequence[str]]], totals: Sequence[int], number: int
) -> dict[str, str]:
    """Return the combination that counting through some products comes to at `number`."""
    at = 0
    while number >= totals[at]:
        number, at = number - totals[at], at + 1
    words, chosen = products[at], {}
    for slot in reversed(list(words)):
        number, place = divmod(number, len(words[slot]))
        chosen[slot] = words[slot][place]
    return {slot: chosen[slot] for slot in words}


def _likeliest(
    words: Mapping[str, Sequence[str]], prior: Mapping[str, Mapping[str, float]], limit: int
) -> list[tuple[float, dict[str, str]]]:
    """Return the likeliest combinations of a product, each with its share.

    They extend the likeliest of the first slots.
    """
    best: list[tuple[float, dict[str, str]]] = [(1.0, {})]
    for slot, own in words.items():
        shares = prior.get(slot, dict.fromkeys(own, 1.0))
        grown = (
            (share * shares.get(word, 0.0), {**chosen, slot: word})
            for share, chosen in best
            for word in own
        )
        best = heapq.nlargest(limit, grown, key=lambda pair: pair[0])
    return best


def _imaging(camera: CameraSpace) -> dict[str, BaseDistribution]:
    """Return what may be chosen of the camera, by its parameter."""
    found: dict[str, BaseDistribution | None] = {
        "resize": None if camera.resize is None else choices((camera.resize,)),
        "kernel": choices(camera.kernel),
        "jpeg_quality": ints(camera.jpeg_quality),
        "noise": floats(camera.noise),
        "saturation": floats(camera.saturation),
    }
    return {name: its for name, its in found.items() if its is not None}


def _camera(config: RunConfig, fixed: Mapping[str, Any]) -> Camera:
    """Return the camera of the config's baseline: what people do without gapclose.

    What the space holds fixed of the camera (the size everything is resized to) belongs to the
    baseline too, unless it names a camera of its own: only what the search may change should
    tell the two apart.
    """
    own = config.baseline.camera
    return Camera(**(fixed if own is None else own.model_dump()))


def shares_product(
    shares: Mapping[str, Mapping[str, float]], words: Sequence[Mapping[str, str]]
) -> list[float]:
    """Return the prior share of each combination: the product of its words' shares, rescaled."""
    raw = []
    for combination in words:
        share = 1.0
        for slot, word in combination.items():
            if slot in shares:
                share *= shares[slot].get(word, 0.0)
        raw.append(share)
    total = sum(raw)
    return [r / total if total else 1.0 / len(raw) for r in raw]
