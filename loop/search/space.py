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

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gapclose.generators.conditioning import captions_segment
from gapclose.generators.distributions import Categorical, Distribution
from gapclose.generators.parameters import Parameter, Parameters
from gapclose.generators.prompt_text import normalize_prompt
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.generators.values import Value
from gapclose.loop.config.parameters import ParameterChoices
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.values import template_slots
from gapclose.loop.run.photo_groups import ALL_PHOTOS

PHOTOS: Final = "photos"
"""The slot that names a photo group."""

_APART: Final = 0.7  # two indicators that differ are then 1 apart
_WITHOUT_PHOTO: Final = {"strength": 1.0, "ip_adapter_scale": 0.0}

Params = dict[str, Any]
"""Optuna's parameters of a trial: word slots by their names, settings by theirs."""

Distributions = Mapping[str, BaseDistribution]
"""What may be chosen for each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be varied for one class.

    Attributes:
        cls: The class.
        words: Slot -> its choices. The class's `noun`, the `prompt` template and the group of
            `photos` that captions and source pictures are taken from are slots too.
        settings: Parameter -> distribution: guidance, steps, scheduler, negative prompt.
        fixed: Settings that have one value.
        baseline: The untouched recipe, trial 0.
        cameras: Parameter of the camera -> distribution; the run chooses one for all classes.
        camera: What is put on the images: the baseline's, as near as may be chosen, until then.
        groups: Name of a photo group -> its digest; without any there are words alone.
        parameters: Those of the generator's own that are searched, each evenly distributed over
            what may be chosen.
        fixed_parameters: Those that every recipe but the baseline has as they are.
    """

    cls: str
    words: Mapping[str, tuple[str, ...]]
    settings: Distributions
    fixed: Mapping[str, Any]
    baseline: Recipe
    cameras: Distributions
    camera: Camera
    groups: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Distribution] = field(default_factory=dict)
    fixed_parameters: Mapping[str, Value] = field(default_factory=dict)

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
        templates = _templates(config, captions=bool(groups))
        used = {slot for template in templates for slot in template_slots(template)}
        words = {slot: choices for slot, choices in spec.slots.items() if slot in used}
        camera = spec.camera
        sources = (spec.strength, spec.ip_adapter_scale) if groups else ((), ())
        searched: dict[str, BaseDistribution | None] = {
            "negative_prompt": _choices(spec.negative_prompt),
            "guidance_scale": _guidance(spec.guidance_scale),
            "num_inference_steps": _ints(spec.num_inference_steps),
            "scheduler": _choices(spec.scheduler),
            "strength": _floats(sources[0]),
            "ip_adapter_scale": _floats(sources[1]),
        }
        of_camera: dict[str, BaseDistribution | None] = {
            "resize": None if camera.resize is None else _choices((camera.resize,)),
            "kernel": _choices(camera.kernel),
            "jpeg_quality": _ints(camera.jpeg_quality),
            "noise": _floats(camera.noise),
            "saturation": _floats(camera.saturation),
        }
        given = {k: d for k, d in searched.items() if d is not None}
        imaging = {k: d for k, d in of_camera.items() if d is not None}
        fixed = {k: _only(d) for k, d in imaging.items() if d.single()}
        baseline = _baseline(config, name, nouns[0], fixed)
        start = baseline.camera.to_json()
        own = spec.parameters_of(name)
        return cls(
            cls=name,
            words={
                **words,
                **({PHOTOS: tuple(groups)} if groups else {}),
                "noun": nouns,
                "prompt": templates,
            },
            settings={k: d for k, d in given.items() if not d.single()},
            fixed={k: _only(d) for k, d in given.items() if d.single()},
            baseline=baseline,
            cameras={k: d for k, d in imaging.items() if not d.single()},
            camera=Camera(**(start | {k: nearest(d, start[k]) for k, d in imaging.items()})),
            groups=groups or {},
            parameters={k: its.even for k, its in own.items() if not its.is_fixed},
            fixed_parameters={k: its.example for k, its in own.items() if its.is_fixed},
        )

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Everything Optuna may choose."""
        words = {k: CategoricalDistribution(v) for k, v in self.words.items() if len(v) > 1}
        return {**words, **self.settings}

    @property
    def word_slots(self) -> tuple[str, ...]:
        """The slots that hold words to choose from, the class's nouns apart."""
        return tuple(slot for slot in self.words if slot not in ("noun", "prompt", PHOTOS))

    @property
    def has_captions(self) -> bool:
        """Whether captions of the photos are prompts."""
        return any("caption" in template_slots(template) for template in self.words["prompt"])

    @property
    def has_sources(self) -> bool:
        """Whether images are made from pictures of the photos, not from prompts alone."""
        return bool({"strength", "ip_adapter_scale"} & {*self.settings, *self.fixed})

    def slots_of(self, template: str) -> tuple[str, ...]:
        """Name the slots of `words` that a template's recipes depend on."""
        held = {"caption": PHOTOS, "class": "noun"}
        used = {held.get(slot, slot) for slot in template_slots(template)} | {"prompt"}
        if self.has_sources:
            used.add(PHOTOS)
        return tuple(slot for slot in self.words if slot in used)

    def prompt(self, words: Mapping[str, str]) -> str:
        """Fill a template; slots that are not given take their first choice.

        In the place of a caption stands, in braces, which photos' captions are taken.
        """
        chosen = {k: words.get(k, v[0]) for k, v in self.words.items()}
        template = chosen.pop("prompt")
        named = captions_segment(str(chosen.get(PHOTOS)))
        values = {**chosen, "class": chosen["noun"], "caption": named}
        return normalize_prompt(template.format_map(values))

    def name_of(self, words: Mapping[str, str]) -> str:
        """Name what words ask for: their prompt, and the photos that it does not name itself."""
        prompt = self.prompt(words)
        photos = words.get(PHOTOS, self.words[PHOTOS][0]) if self.has_sources else None
        return prompt if photos is None else f"{prompt} from {photos}"

    def name_of_draw(self, draw: Draw) -> str:
        """Name what a draw asks for, as `name_of` names the words that make it."""
        named = [name for name, digest in self.groups.items() if digest == draw.photos]
        return f"{draw.prompt} from {named[0]}" if named and self.has_sources else draw.prompt

    def recipe(
        self, params: Mapping[str, Any], parameters: Mapping[str, Parameter] | None = None
    ) -> Recipe:
        """Return the recipe of a trial's parameters.

        Args:
            params: Words and settings.
            parameters: Of the generator's own, what is not the baseline's.
        """
        words = {k: v for k, v in params.items() if k in self.words}
        values = {**self.fixed, **{k: v for k, v in params.items() if k in self.settings}}
        draw = self.worded(
            self.baseline.draw, words, {**self.fixed_parameters, **(parameters or {})}
        )
        base = draw.to_json() | values
        if PHOTOS in self.slots_of(words.get("prompt", self.words["prompt"][0])):
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
            draw: Of the class.
            words: Slot -> word.
            parameters: Of the generator's own, which take the place of the draw's.
        """
        noun = None if draw.noun is None else words.get("noun", self.words["noun"][0])
        own = Parameters({**draw.parameters, **(parameters or {})})
        return replace(draw, prompt=self.prompt(words), noun=noun, parameters=own)

    def used(self, params: Mapping[str, Any]) -> Params:
        """Return parameters without the words that their template has no place for."""
        slots = self.slots_of(params.get("prompt", self.words["prompt"][0]))
        return {k: v for k, v in params.items() if k not in self.words or k in slots}

    def baseline_settings(self) -> Params:
        """Return the baseline's own settings, or the nearest to them that may be chosen."""
        return {
            name: nearest(distribution, setting(self.baseline.draw, name))
            for name, distribution in self.settings.items()
        }

    def coordinates(self, params: Mapping[str, Any]) -> list[float]:
        """Return where settings lie; see `coordinates`."""
        return coordinates(self.settings, params)

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
            {slot: words[slot] for slot in self.slots_of(template)} | {"prompt": (template,)}
            for template in words["prompt"]
        ]
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

    def _own_parameters(self) -> dict[str, Any]:
        return {k: its.to_json() for k, its in self.parameters.items()} | dict(
            self.fixed_parameters
        )

    def digest(self) -> str:
        """Hash the space to 16 hex digits: a changed one breaks a study (optuna#2199)."""
        content = {
            "words": {k: list(v) for k, v in self.words.items()},
            "fixed": dict(self.fixed),
            "settings": {
                k: json.loads(optuna.distributions.distribution_to_json(v))
                for k, v in self.settings.items()
            },
            "baseline": self.baseline.fingerprint(),
            **({"groups": dict(self.groups)} if self.groups else {}),
            **({"parameters": own} if (own := self._own_parameters()) else {}),
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def variants(space: Space) -> dict[str, Draw]:
    """Return the draw of a space's baseline with another value of one parameter, by its name.

    A fixed one's is the baseline's where they are the same.
    """
    draw = space.baseline.draw
    others = {
        **space.fixed_parameters,
        **{k: _other(its, draw.parameters[k]) for k, its in space.parameters.items()},
    }
    return {name: space.worded(draw, {}, {name: value}) for name, value in others.items()}


def _other(even: Distribution, value: Parameter) -> Value:
    """Return a value that is far from one, among those that may be chosen."""
    plain = value if isinstance(value, Value) else value.at(0.5)
    if isinstance(even, Categorical):
        return next((choice for choice in reversed(even.choices) if choice != plain), plain)
    assert isinstance(plain, int | float), "a range is of numbers, and so is the baseline's"
    at = even.place_of(min(max(float(plain), even.low), even.high))
    return even.at(0.0 if at > 0.5 else 1.0)


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


def _templates(config: RunConfig, *, captions: bool) -> tuple[str, ...]:
    """Return the prompt templates; a caption stands alone where no template has a place for it."""
    templates = config.space.prompt
    captioned = {template for template in templates if "caption" in template_slots(template)}
    if not captions:
        return tuple(t for t in templates if t not in captioned) or (config.baseline.prompt,)
    return templates if captioned or config.space.captions is None else (*templates, "{caption}")


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
    for slot, choices in words.items():
        shares = prior.get(slot, dict.fromkeys(choices, 1.0))
        grown = (
            (share * shares.get(word, 0.0), {**chosen, slot: word})
            for share, chosen in best
            for word in choices
        )
        best = heapq.nlargest(limit, grown, key=lambda pair: pair[0])
    return best


def setting(draw: Draw, name: str) -> Any:
    """Return a setting of a draw; that of one made without a photo is what changes nothing."""
    value = getattr(draw, name)
    return _WITHOUT_PHOTO[name] if value is None and name in _WITHOUT_PHOTO else value


def _choices(values: Sequence[Any]) -> BaseDistribution | None:
    return CategoricalDistribution(tuple(values)) if values else None


def _floats(values: Sequence[float]) -> BaseDistribution | None:
    """Take two numbers for a range, one or three and more for choices."""
    return FloatDistribution(values[0], values[1]) if len(values) == 2 else _choices(values)


def _guidance(values: Sequence[float]) -> BaseDistribution | None:
    """Search a range of guidance by its logarithm: from 1 to 4 is where training data lies.

    About 2 is best for it (Fan et al. 2024; arXiv 2502.15588), and guidance 10 is hardly 9.
    """
    if len(values) == 2 and values[0] >= 1.0:
        return FloatDistribution(values[0], values[1], log=True)
    return _floats(values)


def _ints(values: Sequence[int]) -> BaseDistribution | None:
    return IntDistribution(values[0], values[1]) if len(values) == 2 else _choices(values)


def coordinates(distributions: Distributions, params: Mapping[str, Any]) -> list[float]:
    """Return where parameters lie: every range is [0, 1], every two choices are 1 apart."""
    found: list[float] = []
    for name, distribution in distributions.items():
        value = params[name]
        if isinstance(distribution, CategoricalDistribution):
            found += [_APART * (value == choice) for choice in distribution.choices]
            continue
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
        if distribution.log:  # type: ignore[attr-defined]
            value, low, high = math.log(value), math.log(low), math.log(high)
        found.append((value - low) / (high - low))
    return found


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """Return the value if it may be chosen, else what is nearest; of words the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if value in choices:
            return value
        numbers = [choice for choice in choices if isinstance(choice, int | float)]
        if not isinstance(value, int | float) or len(numbers) < len(choices):
            return choices[0]
        return min(numbers, key=lambda number: abs(number - value))
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    # None is no JPEG at all, which the best quality is nearest to.
    return high if value is None else type(low)(min(max(value, low), high))


def _only(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low  # type: ignore[attr-defined]


def _baseline(config: RunConfig, name: str, noun: str, fixed: Mapping[str, Any]) -> Recipe:
    """Return the config's baseline: what people do without gapclose.

    What the space holds fixed of the camera (the size everything is resized to) belongs to the
    baseline too, unless it names a camera of its own: only what the search may change should
    tell the two apart.
    """
    fields = config.baseline.draw_fields()
    prompt = normalize_prompt(fields.pop("prompt").format_map({"class": noun}))
    if config.baseline.camera is not None:
        camera = config.baseline.camera.model_dump()
    else:
        camera = dict(fixed)
    size = config.generator.as_spec().get("size")
    fields["parameters"] = _baseline_parameters(config, name)
    if config.generator.reads_class:
        fields |= {"cls": name, "noun": noun}
    return Recipe(
        draw=Draw(prompt=prompt, size=tuple(size) if isinstance(size, list) else size, **fields),
        camera=Camera(**camera),
    )


def _baseline_parameters(config: RunConfig, name: str) -> dict[str, Parameter]:
    """Return the parameters of a class's baseline, each of the type that the search gives it."""
    own = config.space.class_parameters.get(name, {})
    found: dict[str, Parameter] = {
        key: value
        for key, value in config.baseline.parameters.items()
        if own.get(key, True) is not None
    }
    for key, parameter in config.space.parameters_of(name).items():
        value = found.setdefault(key, parameter.example)  # it is fixed, where it is not given
        if isinstance(value, int | float) and not isinstance(parameter, ParameterChoices):
            found[key] = int(value) if parameter.whole else float(value)
    return found


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
