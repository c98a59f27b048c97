"""The search space: a config's `space` <-> Optuna distributions <-> recipes of one class.

`search` asks it what may be varied and turns the parameters Optuna proposes into recipes. It
holds no state and knows nothing of scores.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gapclose.generators.recipe import Camera, Draw, Recipe, normalize_prompt
from gapclose.loop.config import RunConfig, template_slots

Params = dict[str, Any]
"""Optuna's parameters of a trial: word slots by their names, settings by theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be varied for one class.

    Attributes:
        cls: The class.
        words: Slot -> its choices. The class's `noun` and the `prompt` template are slots too.
        settings: Parameter -> distribution: guidance, steps, scheduler, negative prompt, camera.
        fixed: Settings that have one value.
        baseline: The untouched recipe, trial 0.
    """

    cls: str
    words: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]
    baseline: Recipe

    @classmethod
    def of(cls, config: RunConfig, name: str) -> Space:
        """The space of the class `name` under a config."""
        spec = config.space
        nouns = spec.nouns.get(name, (name.replace("_", " "),))
        used = {slot for template in spec.prompt for slot in template_slots(template)}
        words = {slot: choices for slot, choices in spec.slots.items() if slot in used}
        camera = spec.camera
        searched: dict[str, BaseDistribution | None] = {
            "negative_prompt": _choices(spec.negative_prompt),
            "guidance_scale": _floats(spec.guidance_scale),
            "num_inference_steps": _ints(spec.num_inference_steps),
            "scheduler": _choices(spec.scheduler),
            "camera.resize": None if camera.resize is None else _choices((camera.resize,)),
            "camera.kernel": _choices(camera.kernel),
            "camera.jpeg_quality": _ints(camera.jpeg_quality),
            "camera.noise": _floats(camera.noise),
            "camera.saturation": _floats(camera.saturation),
        }
        given = {k: d for k, d in searched.items() if d is not None}
        fixed = {k: _only(d) for k, d in given.items() if d.single()}
        return cls(
            cls=name,
            words={**words, "noun": nouns, "prompt": spec.prompt},
            settings={k: d for k, d in given.items() if not d.single()},
            fixed=fixed,
            baseline=_baseline(config, nouns[0], fixed),
        )

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Everything Optuna may choose."""
        words = {k: CategoricalDistribution(v) for k, v in self.words.items() if len(v) > 1}
        return {**words, **self.settings}

    def camera_names(self) -> list[str]:
        """The settings that cost no generation."""
        return [name for name in self.settings if name.startswith("camera.")]

    def prompt(self, words: Mapping[str, str]) -> str:
        """Fill a template; slots that are not given take their first choice."""
        chosen = {k: words.get(k, v[0]) for k, v in self.words.items()}
        template = chosen.pop("prompt")
        return normalize_prompt(template.format_map({**chosen, "class": chosen["noun"]}))

    def recipe(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial's parameters."""
        words = {k: v for k, v in params.items() if k in self.words}
        values = {**self.fixed, **{k: v for k, v in params.items() if k in self.settings}}
        base = self.baseline.draw.to_json() | {"prompt": self.prompt(words)}
        draw = base | {k: v for k, v in values.items() if "." not in k}
        camera = {k.removeprefix("camera."): v for k, v in values.items() if "." in k}
        return Recipe(draw=Draw.from_json(draw), camera=Camera(**camera))

    def prompts(self, limit: int = 4096) -> list[dict[str, str]]:
        """Every combination of words, at most `limit` of them, in the order of the config."""
        names = list(self.words)
        product = itertools.product(*self.words.values())
        return [dict(zip(names, c, strict=True)) for c in itertools.islice(product, limit)]

    def digest(self) -> str:
        """16 hex digits that change with the space: a changed one breaks a study (optuna#2199)."""
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


def _choices(values: Sequence[Any]) -> BaseDistribution | None:
    return CategoricalDistribution(tuple(values)) if values else None


def _floats(values: Sequence[float]) -> BaseDistribution | None:
    """Two numbers are a range, one or three and more are choices."""
    return FloatDistribution(values[0], values[1]) if len(values) == 2 else _choices(values)


def _ints(values: Sequence[int]) -> BaseDistribution | None:
    return IntDistribution(values[0], values[1]) if len(values) == 2 else _choices(values)


def _only(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low  # type: ignore[attr-defined]


def _baseline(config: RunConfig, noun: str, fixed: Mapping[str, Any]) -> Recipe:
    """The config's baseline: what people do without gapclose.

    What the space holds fixed of the camera (the size everything is resized to) belongs to the
    baseline too, unless it names a camera of its own: only what the search may change should
    tell the two apart.
    """
    fields = config.baseline.draw_fields()
    prompt = normalize_prompt(fields.pop("prompt").format_map({"class": noun}))
    if config.baseline.camera is not None:
        camera = config.baseline.camera.model_dump()
    else:
        camera = {k.removeprefix("camera."): v for k, v in fixed.items() if "." in k}
    size = config.generator.as_spec().get("size")
    return Recipe(
        draw=Draw(prompt=prompt, size=tuple(size) if isinstance(size, list) else size, **fields),
        camera=Camera(**camera),
    )


def shares_product(
    shares: Mapping[str, Mapping[str, float]], words: Sequence[Mapping[str, str]]
) -> list[float]:
    """The prior share of each combination of words: the product of its slots' shares, rescaled."""
    raw = []
    for combination in words:
        share = 1.0
        for slot, word in combination.items():
            if slot in shares:
                share *= shares[slot].get(word, 0.0)
        raw.append(share)
    total = sum(raw)
    return [r / total if total else 1.0 / len(raw) for r in raw]
