"""A world whose answer is known: words are modes, and the real side is a mixture of them.

Embeddings only: an image's row is its word's centre on the unit sphere plus noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.floor import Floor
from gapclose.analysis.kernel import Kernel
from gapclose.generators.recipe import Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import StopReason
from gapclose.loop.schedule.objective import OBJECTIVE
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.score import Score
from gapclose.loop.search.sources import NO_SOURCES, Sources
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Images, Mixture, Proposal

WORDS = ("plain", "brown", "gray", "red", "blue")
WIDTH = 12
Rows = NDArray[np.float32]


def rows_of(word: str, n: int, rng: np.random.Generator, *, spread: float = 0.25) -> Rows:
    """(n, 12) unit rows of one mode."""
    return placed(word, rng.normal(size=(n, WIDTH)), spread=spread)


def placed(word: str, noise: NDArray[np.float64], *, spread: float = 0.25) -> Rows:
    """Unit rows of one mode with this noise, (n, 12)."""
    rows = noise * spread / np.sqrt(WIDTH)
    rows[:, 0] += 1.0  # a class's images are alike more than not
    rows[:, 1 + WORDS.index(word)] += 0.8
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def mixed(shares: Mapping[str, float], n: int, rng: np.random.Generator) -> Rows:
    """Rows of a mixture whose counts are exact."""
    return np.concatenate([rows_of(w, round(s * n), rng) for w, s in shares.items()])


def sampled(shares: Mapping[str, float], n: int, rng: np.random.Generator) -> Rows:
    """A sample of a mixture: its counts are chance."""
    counts = rng.multinomial(n, list(shares.values()))
    return np.concatenate([rows_of(w, k, rng) for w, k in zip(shares, counts, strict=True)])


class Blind:
    """An embedder without a text side."""

    id = "blind"
    width = WIDTH

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        raise AssertionError("no image is embedded")


class Reader(Blind):
    """Its texts lie where the modes of their words do."""

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rng = np.random.default_rng(0)
        words = [next(w for w in text.split() if w in WORDS) for text in texts]
        return np.concatenate([rows_of(w, 1, rng, spread=0.0) for w in words])


def make_space(*, parameters: Mapping[str, Any] | None = None, **space: Any) -> Space:
    """Words to choose from; what else is given may be varied too.

    A baseline has the first value of each of the generator's parameters.
    """
    own = dict(parameters or {})
    start = {k: p["low"] if isinstance(p, dict) else p[0] for k, p in own.items()}
    words = {"prompt": "a {color} frog", "slots": {"color": list(WORDS)}}
    config = parse_config(
        {
            "real": {"path": "nowhere"},
            "classes": ["frog"],
            "generator": {"kind": "modes:Modes"},
            "embedder": "pond",
            "space": words | space | {"parameters": own},
            # 5 is right; where guidance is searched, the baseline has it wrong.
            "baseline": {
                "prompt": "a plain frog",
                "guidance_scale": 3.0 if "guidance_scale" in space else 5.0,
                "parameters": start,
            },
        }
    )
    return Space.of(config, "frog")


def make_search(
    real: Rows,
    *,
    space: Space | None = None,
    images_per_trial: int = 24,
    confirm_images: int = 100,
    baseline_images: int = 100,
    prior: Mapping[str, float] | None = None,
    blind: bool = False,
    seed: int = 0,
    bank: Score | None = None,
    sources: Sources = NO_SOURCES,
) -> ClassSearch:
    """A search that knows nothing yet; a blind one has no text side to tell words by."""
    space = space or make_space()
    kernel = Kernel.fit(real)
    even = {slot: dict.fromkeys(words, 1 / len(words)) for slot, words in space.words.items()}
    floor = Floor.fit(real, kernel=kernel)
    return ClassSearch(
        space=space,
        bank=AtomBank(kernel=kernel, real=real) if bank is None else bank,
        prior={} if blind else even | ({"color": dict(prior)} if prior else {}),
        floor_at=lambda n: floor.floor_p95(n_real=len(real), n_synthetic=n),
        images_per_trial=images_per_trial,
        confirm_images=confirm_images,
        baseline_images=baseline_images,
        seed=seed,
        sources=sources,
    )


def stopped(search: ClassSearch) -> StopReason | None:
    """Why a run would try no more of it, failures aside."""
    state = ClassState(progress=search.progress(), reopened=search.reopened)
    if not state.has_baseline or search.pending:
        return None
    why = OBJECTIVE.stopped(state, floor=search.floor)
    return None if why is None else why.reason


def propose(search: ClassSearch, **ask: Any) -> Proposal:
    """What it would generate next, which is under way from then on."""
    proposal = search.propose(Ask(**ask))
    search.begin(proposal)
    return proposal


def generate(proposal: Proposal, *, baseline: Mapping[str, float] | None = None) -> Images:
    """What the proposal's recipes give; `baseline` overrides what trial 0 looks like.

    An image is its recipe's and its seed's: one seed has the same noise under every recipe.
    Guidance away from 5 pushes every image off its mode.
    """
    rows, recipes, seeds = [], [], []
    for number, (recipe, wanted) in enumerate(proposal.jobs):
        if proposal.stage == "baseline" and baseline is not None:
            drawn = mixed(baseline, len(wanted), np.random.default_rng([wanted[0], 99]))
        else:
            noise = [np.random.default_rng([seed, 99]).normal(size=WIDTH) for seed in wanted]
            drawn = placed(word_of(recipe), np.stack(noise))
            drawn[:, -1] += 0.2 * abs((recipe.draw.guidance_scale or 0.0) - 5.0)
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        rows.append(drawn)
        recipes += [number] * len(wanted)
        seeds += list(wanted)
    return Images(embeddings=np.concatenate(rows), recipes=tuple(recipes), seeds=tuple(seeds))


def taken(rows: Rows, seeds: Sequence[int], *, sources: Sequence[int] = ()) -> Images:
    """Images of one recipe."""
    return Images(
        embeddings=rows, recipes=(0,) * len(seeds), seeds=tuple(seeds), sources=tuple(sources)
    )


def drawn_anew(mixture: Mixture, n: int, *, first: int) -> Rows:
    """Fresh images of a mixture, with seeds from `first` on."""
    jobs = tuple((r, tuple(s)) for r, s in mixture.jobs(range(first, first + n)))
    return generate(Proposal(number=0, stage="mixture", params={}, jobs=jobs)).embeddings


def word_of(recipe: Recipe) -> str:
    """The mode that a recipe draws."""
    return next(w for w in recipe.draw.prompt.split() if w in WORDS)


def weights_by_word(recipes: Sequence[Recipe], weights: Sequence[float]) -> dict[str, float]:
    """A mixture's weights summed by the word in its prompts."""
    shares = dict.fromkeys(WORDS, 0.0)
    for recipe, weight in zip(recipes, weights, strict=True):
        shares[word_of(recipe)] += weight
    return shares
