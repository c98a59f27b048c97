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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gapclose.generators.recipe import Camera, Draw, Recipe, normalize_prompt
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.values import template_slots

_APART: Final = 0.7  # two indicators that differ are then 1 apart

Params = dict[str, Any]
"""Optuna's parameters of a trial: word slots by their names, settings by theirs."""

Distributions = Mapping[str, BaseDistribution]
"""What may be chosen for each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be varied for one class.

    Attributes:
        cls: The class.
        words: Slot -> its choices. The class's `noun` and the `prompt` template are slots too.
        settings: Parameter -> distribution: guidance, steps, scheduler, negative prompt.
        fixed: Settings that have one value.
        baseline: The untouched recipe, trial 0.
        cameras: Parameter of the camera -> distribution; the run chooses one for all classes.
        camera: What is put on the images: the baseline's, as near as may be chosen, until then.
    """

    cls: str
    words: Mapping[str, tuple[str, ...]]
    settings: Distributions
    fixed: Mapping[str, Any]
    baseline: Recipe
    cameras: Distributions
    camera: Camera

    @classmethod
    def of(cls, config: RunConfig, name: str) -> Space:
        """Return the space of the class `name` under a config."""
        spec = config.space
        nouns = spec.nouns.get(name, (name.replace("_", " "),))
        used = {slot for template in spec.prompt for slot in template_slots(template)}
        words = {slot: choices for slot, choices in spec.slots.items() if slot in used}
        camera = spec.camera
        searched: dict[str, BaseDistribution | None] = {
            "negative_prompt": _choices(spec.negative_prompt),
            "guidance_scale": _guidance(spec.guidance_scale),
            "num_inference_steps": _ints(spec.num_inference_steps),
            "scheduler": _choices(spec.scheduler),
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
        baseline = _baseline(config, nouns[0], fixed)
        start = baseline.camera.to_json()
        return cls(
            cls=name,
            words={**words, "noun": nouns, "prompt": spec.prompt},
            settings={k: d for k, d in given.items() if not d.single()},
            fixed={k: _only(d) for k, d in given.items() if d.single()},
            baseline=baseline,
            cameras={k: d for k, d in imaging.items() if not d.single()},
            camera=Camera(**(start | {k: nearest(d, start[k]) for k, d in imaging.items()})),
        )

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Everything Optuna may choose."""
        words = {k: CategoricalDistribution(v) for k, v in self.words.items() if len(v) > 1}
        return {**words, **self.settings}

    def prompt(self, words: Mapping[str, str]) -> str:
        """Fill a template; slots that are not given take their first choice."""
        chosen = {k: words.get(k, v[0]) for k, v in self.words.items()}
        template = chosen.pop("prompt")
        return normalize_prompt(template.format_map({**chosen, "class": chosen["noun"]}))

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a trial's parameters."""
        words = {k: v for k, v in params.items() if k in self.words}
        values = {**self.fixed, **{k: v for k, v in params.items() if k in self.settings}}
        base = self.baseline.draw.to_json() | {"prompt": self.prompt(words)}
        return Recipe(draw=Draw.from_json(base | values), camera=self.camera)

    def baseline_settings(self) -> Params:
        """Return the baseline's own settings, or the nearest to them that may be chosen."""
        draw = self.baseline.draw.to_json()
        return {name: nearest(d, draw.get(name)) for name, d in self.settings.items()}

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
        total = math.prod(map(len, words.values()))
        if total <= limit:
            return [dict(zip(words, c, strict=True)) for c in itertools.product(*words.values())]
        if not prior:
            numbers = sorted(random.Random(0).sample(range(total), limit))
            return [_combination(words, number) for number in numbers]
        # The likeliest of a product extend the likeliest of its first slots.
        best: list[tuple[float, dict[str, str]]] = [(1.0, {})]
        for slot, choices in words.items():
            shares = prior.get(slot, dict.fromkeys(choices, 1.0))
            grown = (
                (share * shares.get(word, 0.0), {**chosen, slot: word})
                for share, chosen in best
                for word in choices
            )
            best = heapq.nlargest(limit, grown, key=lambda pair: pair[0])
        return [chosen for _, chosen in best]

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
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _combination(words: Mapping[str, Sequence[str]], number: int) -> dict[str, str]:
    """Return the combination that counting through the product comes to at `number`."""
    chosen = {}
    for slot in reversed(list(words)):
        number, at = divmod(number, len(words[slot]))
        chosen[slot] = words[slot][at]
    return {slot: chosen[slot] for slot in words}


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
    """Return the value if it may be chosen, else the nearest bound or the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        return value if value in distribution.choices else distribution.choices[0]
    low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
    # None is no JPEG at all, which the best quality is nearest to.
    return high if value is None else type(low)(min(max(value, low), high))


def _only(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low  # type: ignore[attr-defined]


def _baseline(config: RunConfig, noun: str, fixed: Mapping[str, Any]) -> Recipe:
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
    return Recipe(
        draw=Draw(prompt=prompt, size=tuple(size) if isinstance(size, list) else size, **fields),
        camera=Camera(**camera),
    )


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
