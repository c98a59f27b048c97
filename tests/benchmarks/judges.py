"""Can a panel of judges be gamed by who sees the tuning embedder alone, and does it cry wolf?

    python tests/benchmarks/judges.py [--adversaries 20] [--repetitions 200]

Adversaries (tests/support/adversaries.py) make 100 images of frogs that the pond's CLIP takes for
real: half by its gradient, from noise or from green frogs; half by herding 100 of 1,008 images of
plain prompts, four fifths of 1,260, under the camera of the photos: without its noise even honest
images are refused for nothing but that. All are confirmed on a fold of unseen photos as a run
confirms them, by three judges: the pond's, the ResNet-56 of $GAPCLOSE_SHARED, and the power
spectrum. Each has to pass the embedder and must not be confirmed. Beside it stands what each judge
alone would have said, and what the panel says of honest images of the same generator: prompts in
the photos' own shares.

Then 200 photos against 200 others, dealt anew each time, where nothing ought to object. Alone, a
class is confirmed as often as two tests at 5 % each allow, 90.25 %; in runs of ten classes, whose
q-values are of all of them, at least nine in ten. Exit 1 if any of this is not met.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from adversaries import (
    CLS,
    Panel,
    Pixels,
    herded,
    optimized,
    parted,
    photos,
    speckled,
)
from spectral import SPECTRAL

from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.significance import LEVEL
from gapclose.generators.camera import apply_camera
from gapclose.generators.pond.renderer import CLASSES, REAL, SENSOR_NOISE
from gapclose.generators.recipe import Camera
from gapclose.generators.registry import make_generator
from gapclose.loop.config.reading import load_config
from gapclose.loop.search.space import Space
from gapclose.loop.work.real_data import Fold

SHARED: Final = Path(
    os.environ.get("GAPCLOSE_SHARED", Path(__file__).resolve().parents[3] / "shared")
)
RESNET: Final = f"onnx:{SHARED / 'encoders' / 'cifar-resnet56.onnx'}"
JUDGES: Final = ("pond-judge", RESNET, SPECTRAL)
IMAGES: Final = 100  # of an adversary
PHOTOS: Final = 3_000
PER_CLASS: Final = 700
SIZES: Final = (200, 200, 200)  # photos searched on, held out, and in the images' place
PER_PROMPT: Final = 20
STEPS: Final = 80
RATE: Final = 0.02
CONFIRMED: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The generator's images of plain prompts: every word, at the baseline's settings.

    They are under the camera of the photos but for those that a gradient starts from.

    Attributes:
        images: All of them.
        plain: Those of prompts without a colour, which make green frogs alone.
        by_words: The same by colour and place.
    """

    images: Sequence[Pixels]
    plain: Sequence[Pixels]
    by_words: Mapping[tuple[str, str], Sequence[Pixels]]

    @classmethod
    def generate(cls) -> Pool:
        """Generate them with the pond's pipeline."""
        config = load_config("pond")
        generator, space = make_generator(config.generator.as_spec()), Space.of(config, CLS)
        images: list[Pixels] = []
        plain: list[Pixels] = []
        by_words: dict[tuple[str, str], Sequence[Pixels]] = {}
        words = [
            (color, place) for color in space.words["color"] for place in space.words["place"]
        ]
        for number, (color, place) in enumerate(words):
            prompt = space.prompt({"color": color, "place": place})
            draw = replace(space.baseline.draw, prompt=prompt)
            first = number * PER_PROMPT
            made = generator.generate(draw, range(first, first + PER_PROMPT)).images
            plain += made if not color else []
            taken = [
                apply_camera(Camera(noise=SENSOR_NOISE), image, seed=seed)
                for seed, image in enumerate(made, start=first)
            ]
            images += taken
            by_words[color, place] = taken
        return cls(images=images, plain=plain, by_words=by_words)


def attacks(count: int, panel: Panel, pool: Pool) -> Iterator[tuple[str, Sequence[Pixels]]]:
    """Yield adversaries of all kinds in turn, each with photos of its own."""
    rows = panel.embedder.embed(pool.images)
    for number in range(count):
        rng = np.random.default_rng([number, 5])
        own = panel.embedder.embed(photos(1_000_000 + number * 1_000, 400))
        if number % 2:
            part = rng.permutation(len(rows))[: len(rows) * 4 // 5]
            kept = [int(part[i]) for i in herded(rows[part], own, IMAGES)]
            yield "herded, of plain prompts", [pool.images[i] for i in kept]
            continue
        targets = own[herded(own, own, IMAGES)]
        if number % 4:
            chosen = rng.permutation(len(pool.plain))[:IMAGES]
            start, name = [pool.plain[i] for i in chosen], "gradient, from green frogs"
        else:
            start, name = speckled(IMAGES, seed=number), "gradient, from noise"
        yield name, optimized(start, targets, steps=STEPS, rate=RATE)


def honest(pool: Pool) -> list[Pixels]:
    """Images of the pool in the shares of the real frogs' colours and places."""
    habitat, rng = REAL[CLS], np.random.default_rng(11)
    found = []
    for _ in range(IMAGES):
        scene = habitat.sample(CLS, rng)
        mine = pool.by_words[scene.color, f" on {scene.background}"]
        found.append(mine[int(rng.integers(len(mine)))])
    return found


def refused(count: int, panel: Panel, real: Fold) -> bool:
    """Print what becomes of adversaries; return whether all pass and none is confirmed."""
    if not count:
        return True
    began = time.perf_counter()
    pool = Pool.generate()
    print(f"{len(pool.images):,} images of plain prompts: {time.perf_counter() - began:.0f} s\n")
    heads = " | ".join(f"{_short(name):>13}" for name in JUDGES)
    print(f"| {'adversary':<27} | embedder: p, floors | {heads} | verdict       |")
    print(f"|{'-' * 29}|{'-' * 21}|" + f"{'-' * 15}|" * len(JUDGES) + f"{'-' * 15}|")
    passed, seen = 0, []
    for number, (name, images) in enumerate(attacks(count, panel, pool)):
        tune, fold = parted(real, sizes=(200, 200), seed=number)
        row = panel.decide(tune=tune, fold=fold, synthetic=panel.see(images))
        seen.append(row)
        passed += row.closed is True and row.confirmed is False and _judges_object(row)
        cells = " | ".join(f"{its['ratio']:13.1f}" for its in row.judges or ())
        said = "confirmed" if row.confirmed else "not confirmed" if row.closed else "open"
        print(f"| {name:<27} | {row.p_value:9.3f} {row.ratio:9.1f} | {cells} | {said:<13} |",
              flush=True)  # fmt: skip
    tune, fold = parted(real, sizes=(200, 200), seed=count)
    row = panel.decide(tune=tune, fold=fold, synthetic=panel.see(honest(pool)))
    cells = " | ".join(f"{its['ratio']:13.1f}" for its in row.judges or ())
    said = "confirmed" if row.confirmed else "not confirmed" if row.closed else "open"
    print(f"| {'honest: the right shares':<27} | {row.p_value:9.3f} {row.ratio:9.1f} | {cells} "
          f"| {said:<13} |")  # fmt: skip
    print(f"\npass the embedder and are refused by judges: {passed} of {count}")
    for name in JUDGES:
        alone = sum(row.closed is True and not _alone(row, name) for row in seen)
        print(f"would pass {_short(name)} as the only judge: {alone} of {count}")
    return passed == count


def confirmed(count: int, panel: Panel, frogs: Fold) -> bool:
    """Print how often real photos are confirmed against others; return whether often enough."""
    alone = []
    for number in range(count):
        tune, fold, other = parted(frogs, sizes=SIZES, seed=10_000 + number)
        alone.append(panel.decide(tune=tune, fold=fold, synthetic=other))
    n = _say("runs of one class", alone)
    # Each of the two tests, the embedder's and the panel's, errs once in twenty.
    chance = float(binomtest(n, count, (1 - LEVEL) ** 2, alternative="less").pvalue)
    print(f"chance of so few or fewer where two tests err at {LEVEL:.0%} each: {chance:.2f} "
          f"(> {LEVEL:g}: {'met' if chance > LEVEL else 'NOT MET'})")  # fmt: skip
    classes = {cls: panel.see(photos(0, PER_CLASS, cls=cls)) for cls in CLASSES}
    together: list[ClassGap] = []
    for number in range(-(-count // len(classes))):
        cases = {}
        for cls, seen in classes.items():
            seed = 20_000 + number * len(classes) + [*classes].index(cls)
            tune, fold, other = parted(seen, sizes=SIZES, seed=seed)
            cases[cls] = (tune, fold, other)
        together += panel.decide_all(cases).values()
    n = _say(f"runs of {len(classes)} classes", together)
    met = n >= CONFIRMED * len(together)
    print(f"at least {CONFIRMED:.0%} of a run's classes: {'met' if met else 'NOT MET'}")
    return met and chance > LEVEL


def _say(what: str, rows: Sequence[ClassGap]) -> int:
    """Print what became of real photos; return how many sets of them are confirmed."""
    n = sum(row.confirmed is True for row in rows)
    open_ = sum(row.closed is not True for row in rows)
    judged = sum(row.closed is True and _judges_object(row) for row in rows)
    print(f"\nreal against real, {len(JUDGES)} judges, {what}: {n} of {len(rows)} confirmed "
          f"({n / len(rows):.1%}); {open_} open for the embedder, to {judged} a judge objects, "
          f"to {len(rows) - n - open_ - judged} a guard", flush=True)  # fmt: skip
    return n


def _judges_object(row: ClassGap) -> bool:
    return any(its["q_value"] <= LEVEL for its in row.judges or ())


def _alone(row: ClassGap, name: str) -> bool:
    """Return whether a judge would object if there were no other: its p-value as it is."""
    return any(its["p_value"] <= LEVEL for its in row.judges or () if its["name"] == name)


def _short(name: str) -> str:
    return {RESNET: "ResNet-56", SPECTRAL: "spectrum"}.get(name, name)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adversaries", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    panel = Panel.of(*JUDGES)
    real = panel.see(photos(0, PHOTOS))
    met = [
        refused(options.adversaries, panel, real),
        confirmed(options.repetitions, panel, real),
    ]
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
