"""What closing a gap costs in real photos: the same images, their weights fitted to more and more.

    python tests/benchmarks/photo_cost.py [--cls frog] [--seed 1] [--images 1333]

The search of sample_cost.py draws its images, and every recipe as many once more. Weights are
fitted to the first images and to photos that the search never saw; what is left of the gap is told
by the fresh images of the same recipes and 12,000 other photos. The last row is fitted to as many:
what stands there these images cannot close. Between columns chance is about 0.2, between rows it
is little: the images are the same. Settings trials are left out, as they are of a search's own
fit.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sample_cost import PHOTOS, Bench, Rows, drive, new_search

from gapclose.generators.pond import renderer as pond
from gapclose.generators.recipe import Recipe
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.mixture_weights import drop_small

WORLD: Final = 12_000  # photos that stand for all there are; twice: to fit to, and to tell by
FIRST: Final = 5_000_000
TWINS: Final = 900_000_000  # seeds from here on, 10,000 a recipe
SPLITS: Final = 20
SIZES: Final = (300, 600, 1200, WORLD)
Part = tuple[Recipe, Rows, tuple[int, ...], int]  # the last: images drawn when it was scored


def parts_of(bench: Bench, images: int) -> list[Part]:
    """The images of a search that does not end before, by trial and recipe."""
    found: list[Part] = []
    known: set[Recipe] = set()
    for proposal, taken in drive(bench, new_search(bench), images=images, far=images):
        if proposal.stage == "settings":
            continue
        for job, (recipe, _) in enumerate(proposal.jobs):
            mine = taken.of_job(job)
            rows, seeds = mine.embeddings, mine.seeds
            if len(seeds) >= (1 if recipe in known else 2):
                known.add(recipe)
                found.append((recipe, rows, tuple(seeds), bench.drawn))
    return found


def bank_of(bench: Bench, parts: list[Part], photos: Rows) -> AtomBank:
    """An atom for each recipe, in the order that they came, and the photos to fit to."""
    bank = AtomBank(kernel=bench.kernel, real=photos)
    numbers: dict[Recipe, int] = {}
    for recipe, embeddings, seeds, _ in parts:
        numbers[recipe] = bank.add(embeddings, seeds, atom=numbers.get(recipe))
    return bank


def twins_of(bench: Bench, parts: list[Part]) -> list[Part]:
    """Every recipe drawn anew, as often as it was."""
    counts: Counter[Recipe] = Counter()
    for recipe, _, seeds, _ in parts:
        counts[recipe] += len(seeds)
    twins: list[Part] = []
    for number, (recipe, count) in enumerate(counts.items()):
        fresh = tuple(range(TWINS + 10_000 * number, TWINS + 10_000 * number + count))
        twins.append((recipe, bench.clip.embed(bench.generate(recipe, fresh)), fresh, 0))
        bench.forget()
    return twins


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cls", default="frog")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=1333)
    options = parser.parse_args()
    bench = Bench(options.cls, seed=options.seed, photos=PHOTOS)
    parts = parts_of(bench, options.images)
    to_fit, to_tell = (
        bench.clip.embed([photo for _, photo in pond.real_photos(options.cls, which)])
        for which in (range(FIRST, FIRST + WORLD), range(FIRST + WORLD, FIRST + 2 * WORLD))
    )
    truth = bank_of(bench, twins_of(bench, parts), to_tell)
    marks = [mark for mark in (400, 800) if mark < options.images] + [options.images]

    def left(first: int, photos: Rows) -> float:
        fitted = drop_small(bank_of(bench, parts[:first], photos).fit())
        weights: NDArray[np.float64] = np.zeros(len(truth))
        weights[: len(fitted)] = fitted
        return truth.gap(weights) / bench.floors[0]

    print(f"{options.cls}: floors left on photos and images that no weight was fitted to")
    print("| photos |" + "".join(f" {mark:>6,} images |" for mark in marks))
    print("|--------|" + "---------------|" * len(marks))
    for size in SIZES:
        cells = []
        for mark in marks:
            first = sum(drawn <= mark for _, _, _, drawn in parts)
            splits = np.split(to_fit, WORLD // size)[:SPLITS]
            cells.append(np.mean([left(first, photos) for photos in splits]))
        print(f"| {size:>6,} |" + "".join(f" {cell:>13.2f} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
