"""The search on worlds whose answer is known, and what asking it costs when a class is large.

    python tests/benchmarks/search_limits.py [--only truth|nothing|ask|rest] [--seeds 400]

`truth`: recipes are exact modes of a known mixture. First the photos have its exact shares, 300
to search with and 300 to confirm with, once. Then they are samples of it: 1,200 to search with (of
300 not even the counts are within 0.05 in 92 % of samples, but in 87 %), and twice 300 to confirm
with, as a class that does not hold is searched on. `nothing`: the baseline is the real thing, in
exact shares or sampled as well.
`ask`: ten classes of 500 trials of eight random images, width 512. `rest`: when a class should
rest, by what it has gained or by the Frank-Wolfe gap of the recipes that were tried; with and
without a residual that no recipe removes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "loop"))
import modes

from gapclose.analysis.gap import Floor, mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.analysis.two_sample import permutation_p_value
from gapclose.loop.mixture import Bank
from gapclose.loop.search import PROMISES, RUN_SEEDS, ClassSearch, Images, Proposal

TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}
LEVEL = 0.05
Rows = NDArray[np.float64]
_passed = True


def say(what: str, target: str, value: float, met: bool | None, form: str = "{:.3f}") -> None:
    """One row of the table."""
    global _passed
    _passed &= met is not False
    mark = {True: "yes", False: "NO", None: ""}[met]
    print(f"| {what:<64} | {target:>8} | {form.format(value):>9} | {mark:>3} |", flush=True)


def confirmed(search: ClassSearch, unseen: NDArray[np.float32], *, seed: int, part: int) -> bool:
    """Whether 300 fresh images of its mixture close against real ones that it never saw."""
    first = 10_000_000 + 1000 * part + seed * RUN_SEEDS
    jobs = search.mixture().jobs(range(first, first + 300))
    fresh = Proposal(
        number=0,
        stage="joint",
        params={},
        jobs=tuple((recipe, tuple(seeds)) for recipe, seeds in jobs),
    )
    p = permutation_p_value(real=unseen, synthetic=modes.shoot(fresh).embeddings, seed=seed)
    return p > LEVEL


def truth(seeds: int) -> None:
    """The weights that are found, and whether the class closes."""
    known(seeds, "exact", modes.mixed, photos=300, parts=1)
    known(seeds, "sampled", modes.sampled, photos=1200, parts=2)


def known(
    seeds: int, how: str, take: Callable[..., NDArray[np.float32]], *, photos: int, parts: int
) -> None:
    """The same of one way to take photos of the known mixture."""
    near, images = 0, []
    closed = np.zeros(parts, dtype=int)  # by the look at each part
    for seed in range(seeds):
        search = modes.make_search(take(TRUTH, photos, np.random.default_rng([seed, 1])))
        search.seed = seed
        for part in range(parts):
            drive(search)
            if part == 0:
                images.append(100 + 24 * (search.number - 1))
            unseen = take(TRUTH, 300, np.random.default_rng([seed, 2 + part]))
            if confirmed(search, unseen, seed=seed, part=part):
                closed[part] += 1
                break
            search.reopen()
        mixture = search.mixture()
        found = modes.weights_by_word(mixture.recipes, mixture.weights)
        near += max(abs(found[w] - TRUTH.get(w, 0.0)) for w in modes.WORDS) <= 0.05
    for what, hits in (("weights within 0.05", near), ("closed on unseen", int(closed.sum()))):
        say(f"known mixture, photos {how}, {seeds} seeds: {what}", ">= 0.92", hits / seeds,
            hits >= 0.92 * seeds)  # fmt: skip
    if parts > 1:
        say("    closed at the first look", "", closed[0] / seeds, None)
    say("    images until it rests, median", "", float(np.median(images)), None, "{:.0f}")


def drive(search: ClassSearch, most: int = 25) -> None:
    """Until it rests."""
    while search.number < most and search.stopped() is None:
        proposal = search.propose(settings_trials=6)
        search.absorb(proposal, modes.shoot(proposal))


def nothing(seeds: int) -> None:
    """Real images as the baseline: it stops at once and changes nothing."""
    unchanged(seeds, "exact", modes.mixed)
    unchanged(seeds, "sampled", modes.sampled)


def unchanged(seeds: int, how: str, take: Callable[..., NDArray[np.float32]]) -> None:
    """The same of one way to take photos, and the baseline's images."""
    kept = 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 3])
        search = modes.make_search(take(TRUTH, 150, rng))
        proposal = search.propose(settings_trials=4)
        rows = take(TRUTH, 100, rng)
        seeds_used = modes.shoot(proposal).seeds
        search.absorb(proposal, Images(embeddings=rows, recipes=(0,) * 100, seeds=seeds_used))
        at_once = search.stopped() == "closed from the start"
        kept += at_once and search.mixture().recipes == (search.space.baseline,)
    say(f"real == baseline, {how}, {seeds} seeds: stops, changes nothing", ">= 0.92",
        kept / seeds, kept >= 0.92 * seeds)  # fmt: skip


GAINED = "what it gained alone"
PATIENCES = (4, PROMISES, 12)  # trials in a row that promise no gain


def rest(seeds: int = 16) -> None:
    """When to rest by the Frank-Wolfe gap, and when by gains alone: trials, and what is left."""
    print(f"\n| {'residual, rule for resting':<50} | {'trials':>6} | {'left':>6} | {'worst':>6} |")
    print(f"|{'-' * 52}|{'-' * 8}|{'-' * 8}|{'-' * 8}|")
    for residual in (0.0, 0.15):
        runs = [rests(residual, seed) for seed in range(seeds)]
        for rule in runs[0]:
            trials, gaps = np.array([run[rule] for run in runs]).T
            print(f"| {f'{residual:.2f}, {rule}':<50} | {np.median(trials):>6.0f} |"
                  f" {gaps.mean():>6.2f} | {gaps.max():>6.2f} |", flush=True)  # fmt: skip


def rests(residual: float, seed: int, most: int = 60) -> dict[str, tuple[int, float]]:
    """Where each rule would have let one search rest."""
    real = modes.mixed(TRUTH, 300, np.random.default_rng([seed, 1]))
    space = modes.make_space(guidance_scale=[3.0, 7.0])
    search = modes.make_search(real, space=space, images_per_trial=8, seed=seed)
    floor = Floor.fit(real, kernel=search.bank.kernel)
    search.floor = floor.floor_p95(n_real=300, n_synthetic=300)
    rested: dict[int, tuple[int, float]] = {}
    promised = 0  # trials since a recipe promised a gain
    while search.stopped() is None and search.number < most:
        proposal = search.propose(settings_trials=8)
        search.absorb(proposal, pushed(modes.shoot(proposal), residual))
        promised = promised + 1 if search.unpromising else 0
        search.unpromising = 0  # it goes on, whatever it thinks
        for patience in PATIENCES:
            if promised >= patience and patience not in rested:
                rested[patience] = left(search, residual, seed)
    end = left(search, residual, seed)
    rules = {k: f"Frank-Wolfe gap, none in {k}" for k in PATIENCES}
    rules[PROMISES] += " (ships)"
    return {rule: rested.get(k, end) for k, rule in rules.items()} | {GAINED: end}


def pushed(images: Images, residual: float) -> Images:
    """The same with a direction that real images do not have, whatever the recipe."""
    rows = images.embeddings.copy()
    rows[:, -2] += residual
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return replace(images, embeddings=rows)


def left(search: ClassSearch, residual: float, seed: int) -> tuple[int, float]:
    """Trials so far, and the gap in floors of 1,500 fresh images to as many unseen ones."""
    first = 10_000_000 + seed * RUN_SEEDS
    jobs = search.mixture().jobs(range(first, first + 1500))
    fresh = Proposal(
        number=0, stage="joint", params={}, jobs=tuple((r, tuple(s)) for r, s in jobs)
    )
    unseen = modes.mixed(TRUTH, 1500, np.random.default_rng([seed, 2]))
    made = pushed(modes.shoot(fresh), residual).embeddings
    gap = mmd2(real=unseen, synthetic=made, kernel=search.bank.kernel)
    return search.number, gap / search.floor


def ask(trials: int = 500, classes: int = 10, width: int = 512) -> None:
    """The time of the last asks, and the memory of all classes together."""
    slots = {f"slot{i}": [f"word{i}x{j}" for j in range(8)] for i in range(3)}
    space = modes.make_space(
        prompt="a {color} frog " + " ".join("{" + name + "}" for name in slots),
        slots={"color": list(modes.WORDS), **slots},
        guidance_scale=[1.0, 9.0],
        camera={"noise": [0.0, 0.1]},
    )
    kept, asked, told = [], [], []
    for cls in range(classes):
        rng = np.random.default_rng(cls)
        real = rng.standard_normal((300, width), dtype=np.float32)
        real /= np.linalg.norm(real, axis=1, keepdims=True)
        even = {slot: dict.fromkeys(words, 1 / len(words)) for slot, words in space.words.items()}
        search = ClassSearch(
            space=space,
            bank=Bank(kernel=Kernel.fit(real), real=real),
            prior=even,
            floor=1e-3,
            baseline_floor=-1.0,
            images_per_trial=8,
            baseline_images=100,
            seed=0,
        )
        kept.append(search)
        for number in range(trials):
            start = time.perf_counter()
            proposal = search.propose(settings_trials=12)
            ask_seconds = time.perf_counter() - start
            n = sum(len(seeds) for _, seeds in proposal.jobs)
            rows = rng.standard_normal((n, width), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            jobs = [i for i, (_, seeds) in enumerate(proposal.jobs) for _ in seeds]
            seeds = tuple(seed for _, seeds in proposal.jobs for seed in seeds)
            start = time.perf_counter()
            search.absorb(proposal, Images(embeddings=rows, recipes=tuple(jobs), seeds=seeds))
            tell_seconds = time.perf_counter() - start
            search.joint_since_gain = search.unpromising = 0
            if number >= trials - 20:
                asked.append(ask_seconds)
                told.append(tell_seconds)
    waits = np.add(asked, told)
    say(f"asked and told at {trials} trials, median seconds", "", float(np.median(waits)), None)
    slowest = float(waits.max())
    say("    the slowest of all classes' last 20", "<= 0.5", slowest, slowest <= 0.5)
    say("    of it asked: the slowest", "", max(asked), None)
    say("    of it told, the mixture fitted anew: the slowest", "", max(told), None)
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    say(f"    memory of {classes} classes, GiB", "<= 4", gib, gib <= 4)


def main() -> None:
    """Print the table; exit 1 if a row misses its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["truth", "nothing", "ask", "rest"])
    parser.add_argument("--seeds", type=int, default=400)
    options = parser.parse_args()
    print(f"| {'what':<64} | {'target':>8} | {'measured':>9} | met |")
    print(f"|{'-' * 66}|{'-' * 10}|{'-' * 11}|-----|")
    if options.only in (None, "truth"):
        truth(options.seeds)
    if options.only in (None, "nothing"):
        nothing(options.seeds)
    if options.only in (None, "ask"):
        ask()
    if options.only in (None, "rest"):
        rest()
    raise SystemExit(0 if _passed else 1)


if __name__ == "__main__":
    main()
