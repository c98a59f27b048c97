"""The search on worlds whose answer is known, and what asking it costs when a class is large.

    python tests/benchmarks/search_limits.py [--only truth|nothing|ask|weights] [--seeds 400]

`truth`: recipes are exact modes of a known mixture. First the photos have its exact shares, 300
to search with and 300 to confirm with, once. Then they are samples of it: 1,200 to search with (of
300 not even the counts are within 0.05 in 92 % of samples, but in 87 %), and twice 300 to confirm
with, as a class that does not hold is searched on. `nothing`: the baseline is the real thing, in
exact shares or sampled as well.
The search gets 25 trials before each evaluation, as a driver gives it a budget: an open class
does not rest.
`ask`: ten classes of 500 trials of eight random images, width 512. `weights`: the weights of 1,600
atoms of eight noisy images, fitted from nothing; most of a kernel value all have in common.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import modes

from gapclose.analysis.kernel import Kernel
from gapclose.analysis.two_sample import permutation_p_value
from gapclose.loop.run.events import StopReason
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.mixture_weights import solve_weights
from gapclose.loop.search.seeds import RUN
from gapclose.loop.search.trial import Images

TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}
LEVEL = 0.05
LIMIT = 25  # trials before each evaluation
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
    first = 10_000_000 + 1000 * part + seed * RUN
    fresh = modes.drawn_anew(search.mixture(), 300, first=first)
    p = permutation_p_value(real=unseen, synthetic=fresh, seed=seed)
    return p > LEVEL


def truth(seeds: int) -> None:
    """The weights that are found, and whether the class closes."""
    known(seeds, "exact", modes.mixed, photos=300, parts=1)
    known(seeds, "sampled", modes.sampled, photos=1200, parts=2)


def known(
    seeds: int, how: str, take: Callable[..., NDArray[np.float32]], *, photos: int, parts: int
) -> None:
    """The same of one way to take photos of the known mixture."""
    near, ended, images = 0, 0, []
    closed = np.zeros(parts, dtype=int)  # at the evaluation on each part
    for seed in range(seeds):
        photos_seen = take(TRUTH, photos, np.random.default_rng([seed, 1]))
        search = modes.make_search(photos_seen, confirm_images=300, seed=seed)
        for part in range(parts):
            drawn = drive(search, most=(part + 1) * LIMIT)
            if part == 0:
                images.append(drawn)
                ended += modes.stopped(search) is not None
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
        say("    closed at the first evaluation", "", closed[0] / seeds, None)
    say(f"    closed on the tune split within {LIMIT} trials", "", ended / seeds, None)
    say("    images until then, median", "", float(np.median(images)), None, "{:.0f}")


def drive(search: ClassSearch, *, most: int) -> int:
    """Until it is closed or has had so many trials; how many images that took."""
    drawn = 0
    while search.number < most and modes.stopped(search) is None:
        proposal = modes.propose(search, settings_trials=6)
        search.absorb(proposal, modes.generate(proposal))
        drawn += sum(len(seeds) for _, seeds in proposal.jobs)
    return drawn


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
        proposal = modes.propose(search, settings_trials=4)
        rows = take(TRUTH, 100, rng)
        seeds_used = modes.generate(proposal).seeds
        search.absorb(proposal, Images(embeddings=rows, recipes=(0,) * 100, seeds=seeds_used))
        at_once = modes.stopped(search) is StopReason.CLOSED_FROM_START
        kept += at_once and search.mixture().recipes == (search.space.baseline,)
    say(f"real == baseline, {how}, {seeds} seeds: stops, changes nothing", ">= 0.92",
        kept / seeds, kept >= 0.92 * seeds)  # fmt: skip


def ask(trials: int = 500, classes: int = 10, width: int = 512) -> None:
    """The time of the last asks, and the memory of all classes together."""
    slots = {f"slot{i}": [f"word{i}x{j}" for j in range(8)] for i in range(3)}
    space = modes.make_space(
        prompt="a {color} frog " + " ".join("{" + name + "}" for name in slots),
        slots={"color": list(modes.WORDS), **slots},
        guidance_scale=[1.0, 9.0],
    )
    kept, asked, told = [], [], []
    for cls in range(classes):
        rng = np.random.default_rng(cls)
        real = rng.standard_normal((300, width), dtype=np.float32)
        real /= np.linalg.norm(real, axis=1, keepdims=True)
        even = {slot: dict.fromkeys(words, 1 / len(words)) for slot, words in space.words.items()}
        search = ClassSearch(
            space=space,
            bank=AtomBank(kernel=Kernel.fit(real), real=real),
            prior=even,
            floor_at=lambda n: 1e-3 if n == 200 else -1.0,  # no baseline is closed
            images_per_trial=8,
            confirm_images=200,
            baseline_images=100,
            seed=0,
        )
        kept.append(search)
        for number in range(trials):
            start = time.perf_counter()
            proposal = modes.propose(search, settings_trials=12)
            ask_seconds = time.perf_counter() - start
            n = sum(len(seeds) for _, seeds in proposal.jobs)
            rows = rng.standard_normal((n, width), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            jobs = [i for i, (_, seeds) in enumerate(proposal.jobs) for _ in seeds]
            seeds = tuple(seed for _, seeds in proposal.jobs for seed in seeds)
            start = time.perf_counter()
            search.absorb(proposal, Images(embeddings=rows, recipes=tuple(jobs), seeds=seeds))
            tell_seconds = time.perf_counter() - start
            search.state.mixture_gap.closed = False  # by chance alone, of images that are noise
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


def weights(atoms: int = 1600, each: int = 8, width: int = 64, modes_of: int = 40) -> None:
    """How long it takes to weigh them from nothing."""
    seconds, carrying = [], []
    for seed in range(3):
        Q, q = noisy_bank(np.random.default_rng(seed), atoms, each, width, modes_of)  # noqa: N806
        start = time.perf_counter()
        found = solve_weights(Q, q)
        seconds.append(time.perf_counter() - start)
        carrying.append(int((found > 0).sum()))
        slope = Q @ found - q
        assert found @ slope - slope.min() < 1e-6
    middle = float(np.median(seconds))
    say(f"weights of {atoms:,} atoms from nothing, seconds", "<= 0.2", middle, middle <= 0.2)
    say("    atoms that carry some", "", float(np.median(carrying)), None, "{:.0f}")


def noisy_bank(
    rng: np.random.Generator, atoms: int, each: int, width: int, modes_of: int
) -> tuple[Rows, Rows]:
    """Q with its ridge, and q, of atoms of a few noisy images each; the photos mix the modes."""

    def unit(rows: Rows) -> Rows:
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))

    common, centres = unit(rng.normal(size=width)), unit(rng.normal(size=(modes_of, width)))

    def drawn(at: NDArray[np.int64]) -> NDArray[np.float32]:
        noise = rng.normal(size=(len(at), width)) * 0.9 / np.sqrt(width)
        return unit(common + 0.5 * centres[at] + noise).astype(np.float32)

    real = drawn(rng.choice(modes_of, 300, p=rng.dirichlet(np.full(modes_of, 0.5))))
    rows = drawn(np.repeat(rng.integers(modes_of, size=atoms), each))
    kernel = Kernel.fit(real)
    gram = kernel.gram(rows)
    np.fill_diagonal(gram, 0.0)
    pairs = np.full((atoms, atoms), each * each)
    np.fill_diagonal(pairs, each * (each - 1))
    Q = gram.reshape(atoms, each, atoms, each).sum((1, 3)) / pairs  # noqa: N806
    q = kernel.mean_rows(rows, real).reshape(atoms, each).mean(1)
    return Q + np.diag((1.0 - np.diag(Q)) / each), q


def main() -> None:
    """Print the table; exit 1 if a row misses its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["truth", "nothing", "ask", "weights"])
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
    if options.only in (None, "weights"):
        weights()
    raise SystemExit(0 if _passed else 1)


if __name__ == "__main__":
    main()
