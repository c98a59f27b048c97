"""The search of one class: what to shoot next, and what a shot taught.

Stages: the baseline as it is; where no text encoder names the words, a screen of the prompts;
settings (guidance, steps, scheduler, camera) on fixed prompts and paired seeds; then whole
recipes, judged by what they would add to the mixture. The controller drives it; it proposes and
absorbs, and touches neither files nor models.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from gapclose.generators.recipe import Recipe
from gapclose.loop.mixture import Bank, allot, drop_small, effective_number
from gapclose.loop.prior import Shares
from gapclose.loop.space import Params, Space, shares_product
from gapclose.loop.study import Past, derive_seed, propose

Stage = Literal["baseline", "screen", "settings", "joint"]

PRIOR_COVERAGE: Final = 0.85  # prompts of the prior are tried until they cover this share
PRIOR_PROMPTS: Final = 40  # ... and at most so many
SCREENED: Final = 2  # images that a prompt gets in the screen
SCREEN_DOUBT: Final = 0.5  # share of a screened slot that is spread evenly: few images say little
PATIENCE: Final = 16  # whole-recipe trials without gain before a class rests
# Recipes in a row of which none promised a gain by the Frank-Wolfe gap. On a plateau that saves a
# quarter of the trials at the same gap (tests/benchmarks/search_limits.py --only rest).
PROMISES: Final = 8
GAIN: Final = 0.1  # what counts as a gain, in floors
CHANCES: Final = 2  # of a prompt that fails: the first time may have been an accident
REDRAWS: Final = 8  # of a whole recipe, while its prompt has had its chances
FAILURES: Final = 3  # in a row stop a class

# Seeds come in blocks, so that no two uses of one class ever share one unless they mean to.
_SETTINGS_SEEDS: Final = 1_000_000
_BANK_SEEDS: Final = 2_000_000
RUN_SEEDS: Final = 20_000_000  # apart between runs of different seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A trial to run: recipes with the seeds each gets."""

    number: int
    stage: Stage
    params: Params
    jobs: tuple[tuple[Recipe, tuple[int, ...]], ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Proposal:
        """The proposal that a line of `trials.jsonl` records."""
        return cls(
            number=row["number"],
            stage=row["stage"],
            params=dict(row["params"]),
            jobs=tuple(
                (Recipe.from_json(job["recipe"]), tuple(job["seeds"])) for job in row["jobs"]
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a trial showed.

    Attributes:
        gap: Squared MMD of the trial's own images to the tune split.
        value: What Optuna's record is told: the gap, or the Frank-Wolfe score of an atom.
        mixture_gap: Of the best mixture so far (ridge fit), in steps that count as a gain.
    """

    gap: float
    value: float
    mixture_gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Recipes with weights that sum to 1."""

    recipes: tuple[Recipe, ...]
    weights: tuple[float, ...]
    gap_tune: float

    @property
    def effective(self) -> float:
        """Effective number of recipes."""
        return effective_number(np.asarray(self.weights))

    def jobs(self, seeds: Sequence[int]) -> list[tuple[Recipe, Sequence[int]]]:
        """Draw a sample of the mixture: each seed's recipe by weight, the same for the same seeds.

        Images in exact shares scatter less than independent ones do, and the unbiased MMD^2,
        which counts on those, comes out too small: by half a floor for some thirty recipes.
        """
        names = [recipe.fingerprint() for recipe in self.recipes]
        rng = np.random.default_rng(derive_seed(seeds[0], *names))
        shares = np.asarray(self.weights) / np.sum(self.weights)
        jobs, start = [], 0
        for recipe, count in zip(self.recipes, rng.multinomial(len(seeds), shares), strict=True):
            if count:
                jobs.append((recipe, seeds[start : start + count]))
            start += count
        return jobs

    def to_json(self) -> dict[str, Any]:
        """As in `mixtures.json`."""
        return {
            "recipes": [
                {"fingerprint": r.fingerprint(), "weight": w, "recipe": r.to_json()}
                for r, w in zip(self.recipes, self.weights, strict=True)
            ],
            "gap_tune": self.gap_tune,
            "effective": self.effective,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Mixture:
        """Read what `to_json` wrote."""
        rows = value["recipes"]
        return cls(
            recipes=tuple(Recipe.from_json(r["recipe"]) for r in rows),
            weights=tuple(float(r["weight"]) for r in rows),
            gap_tune=float(value["gap_tune"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The part of a shot that a search keeps: unit rows, their job and their seed."""

    embeddings: NDArray[np.float32]
    recipes: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(slots=True)
class ClassSearch:
    """The state of one class's search, rebuilt from its finished trials on resume.

    Attributes:
        space: What may be varied.
        bank: Its atoms, and the real tune split.
        prior: Shares of the words, which order the first prompts; of none, a screen comes first.
        floor: `floor_p95` at the size of a confirmation, the unit of gains.
        baseline_floor: The same at the size of the baseline, which it is closed under.
        images_per_trial: Of settings and joint trials.
        baseline_images: Of trial 0.
        seed: Of the run.
        unseen_gap: What the confirmation that reopened it saw.
    """

    space: Space
    bank: Bank
    prior: Shares
    floor: float
    baseline_floor: float
    images_per_trial: int
    baseline_images: int
    seed: int
    number: int = 0
    images: int = 0
    failures: int = 0
    joint_since_gain: int = 0
    unpromising: int = 0
    best_gap: float = float("inf")
    baseline_gap: float = float("nan")
    winner: Params | None = None
    reopened: bool = False
    unseen_gap: float = 0.0
    pointed: tuple[dict[str, str], ...] = ()
    _atoms: list[tuple[Recipe, Params | None]] = field(default_factory=list)
    _settings: list[tuple[Params, float, Proposal, Images]] = field(default_factory=list)
    _weights: NDArray[np.float64] | None = None
    _ridge: NDArray[np.float64] | None = None
    _prompts: list[dict[str, str]] = field(default_factory=list)
    _prompt_shares: list[float] = field(default_factory=list)
    _tried: set[str] = field(default_factory=set)
    _failed: Counter[str] = field(default_factory=Counter)
    _failed_settings: int = 0
    _to_screen: list[dict[str, str]] = field(default_factory=list)
    _screened: int = 0

    def __post_init__(self) -> None:
        """Order the prompts by their prior share, or plan the screen that will."""
        combinations = self.space.prompts(self.prior)
        if not self.prior and len(combinations) > 1:
            # Words that follow each other in a config are alike: a few of all, not the first.
            order = np.random.default_rng(derive_seed(self.seed, self.space.cls, "screen"))
            drawn = order.permutation(len(combinations))[:PRIOR_PROMPTS]
            self._to_screen = [combinations[i] for i in drawn]
        self._order_prompts()

    def _order_prompts(self) -> None:
        combinations = self.space.prompts(self.prior)
        shares = shares_product(self.prior, combinations)
        order = sorted(range(len(shares)), key=lambda i: (-shares[i], i))
        covered, most = 0.0, 0
        while most < min(PRIOR_PROMPTS, len(order)) and covered < PRIOR_COVERAGE:
            covered += shares[order[most]]
            most += 1
        self._prompts = [combinations[i] for i in order[:most]]
        self._prompt_shares = [shares[i] for i in order[:most]]

    @property
    def gap(self) -> float:
        """Of the best mixture so far, on the tune split."""
        return min(self.best_gap, self.baseline_gap) if self.has_baseline else float("nan")

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return not math.isnan(self.baseline_gap)

    @property
    def baseline_seeds(self) -> tuple[int, ...]:
        """Of trial 0."""
        return self._seeds(0, self.baseline_images)

    def stopped(self) -> str | None:
        """Why the class needs no more trials, if so."""
        if self.failures >= FAILURES:
            return f"{FAILURES} failures in a row"
        if self.pending:
            return None
        if self.baseline_gap <= self.baseline_floor and not self.reopened:
            return "closed from the start"
        if self._tried and self.gap <= 0.0 and not self.reopened:
            return "closed on the tune split"
        if self.joint_since_gain >= PATIENCE + len(self._prompts) // 2:
            return "no gain for a while"
        if self.unpromising >= PROMISES:
            return "no recipe promises a gain"
        return None

    def reopen(self, *, unseen_gap: float = 0.0) -> bool:
        """Go on after a confirmation that failed, at this gap; False if the class can't."""
        if self.failures >= FAILURES:
            return False
        self.joint_since_gain = self.unpromising = 0
        self.unseen_gap = unseen_gap
        self.reopened = True
        return True

    def mend(self) -> None:
        """Forget the failures: whoever started the run again has mended what failed."""
        self.failures = 0
        self._failed.clear()

    def point(self, prompts: Sequence[dict[str, str]]) -> None:
        """Try these prompts before all others, those that no trial has tried."""
        self.pointed = tuple(prompts)

    @property
    def pending(self) -> bool:
        """Whether a prompt that a person pointed at is still to be tried."""
        return self._first_untried(self.pointed) is not None

    def _first_untried(self, prompts: Sequence[dict[str, str]]) -> dict[str, str] | None:
        # What failed comes after all others, once: three failures in a row stop the class.
        failed = [(self._failed[text], p) for p in prompts
                  if (text := self.space.prompt(p)) not in self._tried]  # fmt: skip
        for times in range(CHANCES):
            for failures, words in failed:
                if failures == times:
                    return words
        return None

    # Proposing

    def propose(self, *, settings_trials: int, hints: Sequence[Params] = ()) -> Proposal:
        """What to shoot next.

        Args:
            settings_trials: How many trials the settings stage gets; fewer with hints.
            hints: Settings that won in other classes, tried first.
        """
        if not self.has_baseline:
            return self._proposal("baseline", {}, [(self.space.baseline, self.baseline_seeds)])
        if self._to_screen:
            each = max(1, self.images_per_trial // SCREENED)
            if self._screened < min(-(-len(self._to_screen) // each), settings_trials // 2):
                return self._propose_screen(each)
            self._end_screen()
        if self.space.settings and not self._tried and self.winner is None:
            wanted = settings_trials
            if hints:  # the stage is shorter, but they are all tried if there is room
                wanted = min(wanted, max(2 + len(hints), wanted // 2))
            if len(self._settings) < wanted:
                return self._propose_settings(hints)
        if self.winner is None:
            self._pick_winner()
        return self._propose_joint()

    def _proposal(
        self, stage: Stage, params: Params, jobs: Sequence[tuple[Recipe, tuple[int, ...]]]
    ) -> Proposal:
        return Proposal(number=self.number, stage=stage, params=params, jobs=tuple(jobs))

    def _seeds(self, start: int, n: int) -> tuple[int, ...]:
        first = start + self.seed * RUN_SEEDS
        return tuple(range(first, first + n))

    def _propose_screen(self, each: int) -> Proposal:
        """Some more prompts at the baseline's settings, a few images each."""
        first = self._screened * each
        prompts = self._to_screen[first : first + each]
        seeds = self._seeds(_BANK_SEEDS + self.number * 1000, SCREENED * len(prompts))
        jobs = [
            (self._screen_recipe(words), seeds[SCREENED * i : SCREENED * (i + 1)])
            for i, words in enumerate(prompts)
        ]
        return self._proposal("screen", {}, jobs)

    def _screen_recipe(self, words: dict[str, str]) -> Recipe:
        baseline = self.space.baseline
        return replace(baseline, draw=replace(baseline.draw, prompt=self.space.prompt(words)))

    def _end_screen(self) -> None:
        """Order the prompts by the weights that fit what was screened to the real images."""
        if self._screened:
            assert self._ridge is not None
            found: dict[str, float] = {}
            for (recipe, _), weight in zip(self._atoms, self._ridge, strict=True):
                prompt = recipe.draw.prompt
                found[prompt] = found.get(prompt, 0.0) + float(weight)
            shares = {
                slot: dict.fromkeys(words, SCREEN_DOUBT / len(words))
                for slot, words in self.space.words.items()
            }
            known = [w for w in self.space.prompts() if self.space.prompt(w) in found]
            ways = Counter(self.space.prompt(words) for words in known)
            for words in known:
                prompt = self.space.prompt(words)
                for slot, word in words.items():
                    shares[slot][word] += (1 - SCREEN_DOUBT) * found[prompt] / ways[prompt]
            self.prior = {
                slot: {word: share / sum(of.values()) for word, share in of.items()}
                for slot, of in shares.items()
            }
            self._order_prompts()
        self._to_screen = []

    def _propose_settings(self, hints: Sequence[Params]) -> Proposal:
        """Settings on the commonest prompts, the same seeds in every trial.

        Every third trial keeps the best draw so far and changes only its camera: its images
        exist, so it costs no generation.
        """
        done = len(self._settings) + self._failed_settings
        past = [Past(params=p, value=v) for p, v, _, _ in self._settings]
        queue = [self.space.baseline_settings(), *hints]
        if done < len(queue):
            params = queue[done]
        else:
            fixed: Params = {}
            if done % 3 == 2 and self._settings and self.space.camera_names():
                best = min(self._settings, key=lambda s: s[1])[0]
                fixed = {k: v for k, v in best.items() if not k.startswith("camera.")}
            params = propose(
                self.space.settings,
                past,
                seed=derive_seed(self.seed, self.space.cls, self.number),
                fixed=fixed,
                startup=6,
            )
        n = max(2, self.images_per_trial // 2)
        prompts, shares = self._prompts[: min(4, n)], self._prompt_shares[: min(4, n)]
        seeds = self._seeds(_SETTINGS_SEEDS, self.images_per_trial)
        jobs, start = [], 0
        for words, count in zip(prompts, allot(shares, len(seeds)), strict=True):
            if count:
                jobs.append((self.space.recipe({**params, **words}), seeds[start : start + count]))
            start += count
        return self._proposal("settings", params, jobs)

    def _pick_winner(self) -> None:
        """The settings with the best smoothed score; their images join the bank.

        Those of the other settings do not: they have the winner's seeds, which makes them
        dependent, and atoms under settings that lost only lengthen every fit.
        """
        if not self._settings:
            self.winner = {}
            return
        points = np.asarray([self.space.coordinates(p) for p, _, _, _ in self._settings])
        best = int(np.argmin(smooth(points, [v for _, v, _, _ in self._settings])))
        self.winner = self._settings[best][0]
        _, _, proposal, images = self._settings[best]
        for number, (recipe, _) in enumerate(proposal.jobs):
            mine = [i for i, r in enumerate(images.recipes) if r == number]
            if len(mine) >= 2:
                self.bank.add(images.embeddings[mine], [images.seeds[i] for i in mine])
                self._atoms.append((recipe, None))
        self._refit()

    def _propose_joint(self) -> Proposal:
        words = self._first_untried([*self.pointed, *self._prompts])
        if words is not None:
            params: Params = {**self.winner, **words}  # type: ignore[dict-item]
        else:
            assert self._weights is not None
            scores = self.bank.scores(self._weights)
            past = [
                Past(params=params, value=float(score))
                for (_, params), score in zip(self._atoms, scores, strict=True)
                if params is not None
            ]
            for again in range(REDRAWS):
                seed = derive_seed(
                    self.seed, self.space.cls, self.number, *([again] if again else [])
                )
                params = propose(self.space.distributions, past, seed=seed)
                if self._failed[self.space.prompt(params)] < CHANCES:
                    break
        seeds = self._seeds(_BANK_SEEDS + self.number * 1000, self.images_per_trial)
        return self._proposal("joint", params, [(self.space.recipe(params), seeds)])

    # Absorbing

    def absorb(self, proposal: Proposal, images: Images) -> Finding:
        """Take in what a trial brought; the same for a fresh trial and a replayed one.

        Raises:
            ValueError: Fewer than two images, which score nothing.
        """
        if len(images.seeds) < 2:
            raise ValueError("fewer than 2 valid images")
        e = images.embeddings
        kernel = self.bank.kernel
        own = kernel.mean_distinct(e) - 2 * kernel.mean(e, self.bank.real) + self.bank.real_real
        if proposal.stage in ("settings", "joint") and self._to_screen:
            self._end_screen()  # replayed: the stage ended before this trial
        if proposal.stage == "screen":
            self._absorb_screen(proposal, images)
            value = own
        elif proposal.stage == "settings":
            self._settings.append((proposal.params, own, proposal, images))
            value = own
        else:
            if proposal.stage == "joint" and self.winner is None:
                self._pick_winner()  # replayed: the stage ended before this trial
            self.bank.add(e, images.seeds)
            params = proposal.params if proposal.stage == "joint" else None
            self._atoms.append((proposal.jobs[0][0], params))
            # How far its fresh images would pull the mixture that was fitted without them.
            before = _padded(self._weights, len(self.bank))
            promise = None if before is None else self.bank.step_gain(before)
            self._refit()
            assert self._weights is not None
            value = float(self.bank.scores(self._weights)[-1])
        if proposal.stage == "baseline":
            self.baseline_gap = value = own
        if proposal.stage == "joint":
            self._tried.add(self.space.prompt(proposal.params))
            self._note_gain(promise)
        self.number += 1
        self.failures = 0
        return Finding(gap=own, value=value, mixture_gap=self.gap)

    def _absorb_screen(self, proposal: Proposal, images: Images) -> None:
        """Every prompt that gave two images or more is an atom."""
        for job, (recipe, _) in enumerate(proposal.jobs):
            mine = [i for i, r in enumerate(images.recipes) if r == job]
            if len(mine) >= 2:
                self.bank.add(images.embeddings[mine], [images.seeds[i] for i in mine])
                self._atoms.append((recipe, None))
        self._refit()
        self._screened += 1

    def absorb_failure(self, proposal: Proposal) -> None:
        """A trial failed; its number is spent, and what it tried does not come next again."""
        if proposal.stage == "screen":
            self._screened += 1
        elif self.has_baseline and self._to_screen:
            self._end_screen()  # replayed: the stage ended before this trial
        if proposal.stage == "settings":
            self._failed_settings += 1
        if proposal.stage == "joint":
            if self.winner is None:
                self._pick_winner()  # replayed: the stage ended before this trial
            self._failed[self.space.prompt(proposal.params)] += 1
        self.number += 1
        self.failures += 1

    def _refit(self) -> None:
        self._weights = self.bank.fit(start=_padded(self._weights, len(self.bank)))
        self._ridge = self.bank.fit(start=_padded(self._ridge, len(self.bank)), ridge=True)

    def _note_gain(self, promise: float | None) -> None:
        assert self._ridge is not None
        hopeful = promise is None or promise >= GAIN * self.floor
        hopeful |= self._first_untried(self._prompts) is not None
        self.unpromising = 0 if hopeful else self.unpromising + 1
        gap = self.bank.gap(self._ridge)
        if gap < self.best_gap - GAIN * self.floor:
            self.joint_since_gain = 0
            self.best_gap = gap
        else:
            self.joint_since_gain += 1

    def mixture(self) -> Mixture:
        """The final solve: ridge fit, small weights dropped, one entry a recipe."""
        if self._ridge is None or self.stopped() == "closed from the start":
            return Mixture(
                recipes=(self.space.baseline,), weights=(1.0,), gap_tune=self.baseline_gap
            )
        weights = drop_small(self._ridge)
        merged: dict[str, tuple[Recipe, float]] = {}
        for (recipe, _), w in zip(self._atoms, weights, strict=True):
            if w > 0:
                key = recipe.fingerprint()
                merged[key] = (recipe, merged.get(key, (recipe, 0.0))[1] + float(w))
        ordered = sorted(merged.values(), key=lambda item: -item[1])
        return Mixture(
            recipes=tuple(r for r, _ in ordered),
            weights=tuple(w for _, w in ordered),
            gap_tune=self.bank.gap(weights),
        )


def _padded(weights: NDArray[np.float64] | None, n: int) -> NDArray[np.float64] | None:
    if weights is None:
        return None
    return np.concatenate([weights, np.zeros(n - len(weights))])


def smooth(points: NDArray[np.float64], values: Sequence[float]) -> NDArray[np.float64]:
    """Scores with their noise smoothed away by a Gaussian process over the settings.

    Picking the lowest raw score picks the luckiest trial (the winner's curse).

    Args:
        points: (n, d), `Space.coordinates` of each trial's settings.
        values: Per trial; lower is better.

    Returns:
        (n,) posterior means at the tried settings; the raw values where n < 5.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(y) < 5 or np.ptp(y) == 0:
        return y
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(0.7, (0.2, 5.0), nu=2.5)
    kernel += WhiteKernel(0.1, (1e-3, 2.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(points, y)
    return np.asarray(process.predict(points), dtype=np.float64)
