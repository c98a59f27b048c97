"""The search of one class: what to draw next, and what a trial taught.

Stages: the baseline as it is; the first prompts at the baseline's settings, after a screen where
there are many and no text encoder orders them; settings (guidance, steps, scheduler) on images of
those prompts; the other prompts. Then two things in turn, whichever has gained more an image: new
recipes, and more images of the mixture, which are scored before it is fitted to them. The
controller drives it; it proposes and absorbs, and touches neither files nor models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.run.events import Progress, StopReason
from gapclose.loop.run.state import FAILURES
from gapclose.loop.search.atom_bank import AtomBank, allot, drop_small
from gapclose.loop.search.heldout import Round
from gapclose.loop.search.optuna_record import Observation, derive_seed, propose
from gapclose.loop.search.prior import Shares
from gapclose.loop.search.seeds import TRIAL, SeedBlocks
from gapclose.loop.search.settings import SettingsStage
from gapclose.loop.search.space import Params, Space, shares_product
from gapclose.loop.search.trial import Finding, Images, Mixture, Proposal, Stage

PRIOR_COVERAGE: Final = 0.85  # prompts of the prior come first until they cover this share
PRIOR_PROMPTS: Final = 40  # ... and at most so many
SCREENED_FROM: Final = 16  # prompts: fewer are tried as they come
SCREENED: Final = 2  # images that a prompt gets in the screen
SCREEN_DOUBT: Final = 0.5  # share of a screened slot that is spread evenly: few images say little
FIRST_PROMPTS: Final = 8  # before the settings, which are held against what these lack
GAIN: Final = 0.1  # what counts as a gain, in floors
BATCH: Final = 5  # trials' images that a batch of the mixture has
MOST_BATCH: Final = TRIAL
FEWEST_PROMISED: Final = 4  # images of a recipe that can promise anything: two halves of two
REMEMBERED: Final = 8  # recipes that what a new one promises is read from
LEAST_SHARE: Final = 0.1  # of the images goes to new recipes, whatever they promise
LEAST_UNTRIED: Final = 0.4  # ... while prompts of the prior have not been tried
MOST_SHARE: Final = 0.3  # beyond the least
CHANCES: Final = 2  # of a prompt that fails: the first time may have been an accident
REDRAWS: Final = 8  # of a whole recipe, while its prompt has had its chances


@dataclass(slots=True)
class _Atom:
    """A recipe whose images the bank holds.

    Attributes:
        params: Of the trial that tried it; None of the baseline, and of what was only screened.
    """

    recipe: Recipe
    params: Params | None = None


@dataclass(slots=True)
class ClassSearch:
    """The state of one class's search, rebuilt from its finished trials on resume.

    Attributes:
        space: What may be varied.
        bank: Its atoms, and the real tune split.
        prior: Shares of the words, which order the first prompts; of none, a screen comes first.
        floor_at: `floor_p95` at a number of synthetic images.
        images_per_trial: Of settings and joint trials.
        confirm_images: Images of a confirmation.
        baseline_images: Of trial 0.
        seed: Of the run.
        floor: `floor_p95` at the size of a confirmation, the unit of gains.
        baseline_floor: The same at the size of the baseline, which it is closed under.
        unseen_gap: What the confirmation that reopened it saw.
        evidence: How many times its mixture has been fitted or scored anew.
    """

    space: Space
    bank: AtomBank
    prior: Shares
    floor_at: Callable[[int], float]
    images_per_trial: int
    confirm_images: int
    baseline_images: int
    seed: int
    number: int = 0
    images: int = 0
    failures: int = 0
    since_gain: int = 0
    evidence: int = 0
    best_gap: float = float("inf")
    measured_gap: float = float("nan")
    baseline_gap: float = float("nan")
    winner: Params | None = None
    closed: bool = False
    imaged: bool = False
    reopened: bool = False
    unseen_gap: float = 0.0
    prioritized: tuple[dict[str, str], ...] = ()
    round: Round | None = None
    floor: float = field(init=False)
    baseline_floor: float = field(init=False)
    _settings: SettingsStage = field(init=False)
    _atoms: list[_Atom] = field(default_factory=list)
    _atom_of: dict[str, int] = field(default_factory=dict)  # fingerprint -> number
    _weights: NDArray[np.float64] | None = None
    _prompts: list[dict[str, str]] = field(default_factory=list)
    _unlikely: list[dict[str, str]] = field(default_factory=list)  # prompts beyond the coverage
    _tried: set[str] = field(default_factory=set)  # prompts
    _failed: Counter[str] = field(default_factory=Counter)
    _to_screen: list[dict[str, str]] = field(default_factory=list)
    _screened: int = 0
    _measured: bool = False  # whether a round has ended
    _promises: list[float] = field(default_factory=list)
    _explored: int = 0  # images of new recipes since the prompts were tried, and of the mixture
    _exploited: int = 0

    def __post_init__(self) -> None:
        """Order the prompts by their prior share, or plan the screen that will."""
        self.floor = self.floor_at(self.confirm_images)
        self.size_baseline(self.baseline_images)
        combinations = self.space.prompts(self.prior)
        if not self.prior and len(combinations) > SCREENED_FROM:
            # Words that follow each other in a config are alike: a few of all, not the first.
            order = np.random.default_rng(derive_seed(self.seed, self.space.cls, "screen"))
            drawn = order.permutation(len(combinations))[:PRIOR_PROMPTS]
            self._to_screen = [combinations[i] for i in drawn]
        self._settings = SettingsStage(
            space=self.space, reference=self.space.baseline_settings(), seed=self.seed
        )
        self._order_prompts()

    def _order_prompts(self) -> None:
        combinations = self.space.prompts(self.prior)
        shares = shares_product(self.prior, combinations)
        order = sorted(range(len(shares)), key=lambda i: (-shares[i], i))
        covered, most = 0.0, 0
        while most < min(PRIOR_PROMPTS, len(order)) and covered < PRIOR_COVERAGE:
            covered += shares[order[most]]
            most += 1
        if not self.prior and len(order) <= SCREENED_FROM:
            most = len(order)  # nothing says which could be left out
        self._prompts = [combinations[i] for i in order[:most]]
        self._unlikely = [combinations[i] for i in order[most:]]

    # State

    def size_baseline(self, images: int) -> None:
        """Have trial 0 generated with so many images, or say that it was.

        Too few to call a class closed do not do so from the start either.
        """
        self.baseline_images = images
        self.baseline_floor = self.floor_at(images) if images >= MIN_CLOSED else -math.inf

    @property
    def closed_from_start(self) -> bool:
        """Whether its baseline has no gap."""
        return self.baseline_gap <= self.baseline_floor

    def progress(self) -> Progress:
        """Where it stands, as the journal's events have it."""
        return Progress(
            floor=self.floor,
            baseline_gap=_finite(self.baseline_gap),
            gap=_finite(self.gap),
            expected=_finite(self.expected),
            since_gain=self.since_gain,
            evidence=self.evidence,
            closed_from_start=self.closed_from_start,
            closed=self.closed,
            opened=self.opened,
            pending=self.pending,
            winner=self.winner,
        )

    @property
    def gap(self) -> float:
        """Of its mixture, on images of the tune split's that it was not fitted to."""
        return self.baseline_gap if math.isnan(self.measured_gap) else self.measured_gap

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return not math.isnan(self.baseline_gap)

    @property
    def untried(self) -> bool:
        """Whether nothing but the baseline has been tried."""
        return self.evidence <= 1

    @property
    def baseline_seeds(self) -> tuple[int, ...]:
        """Of trial 0."""
        return SeedBlocks(seed=self.seed).baseline(self.baseline_images)

    @property
    def opened(self) -> bool:
        """Whether its first prompts have been tried: what it lacks is then not words alone."""
        return self.has_baseline and not self._to_screen and self._first(self._opening) is None

    @property
    def _opening(self) -> list[dict[str, str]]:
        return self._prompts[:FIRST_PROMPTS]

    @property
    def _shared(self) -> Params:
        """The settings that its prompts share."""
        return self._settings.reference if self.winner is None else self.winner

    def stopped(self) -> StopReason | None:
        """Why the class needs no more trials, if so."""
        if self.failures >= FAILURES:
            return StopReason.FAILURES
        if self.pending:
            return None
        if self.closed_from_start and not self.reopened:
            return StopReason.CLOSED_FROM_START
        if self.closed:
            return StopReason.CLOSED_ON_TUNE_SPLIT
        return None

    def reopen(self, *, unseen_gap: float = 0.0) -> bool:
        """Go on after a confirmation that failed, at this gap; False if the class can't."""
        if self.failures >= FAILURES:
            return False
        self.since_gain = 0
        self.unseen_gap = unseen_gap
        self.reopened, self.closed = True, False
        return True

    def reset_failures(self) -> None:
        """Forget the failures: whoever started the run again has mended what failed."""
        self.failures = 0
        self._failed.clear()

    def prioritize(self, prompts: Sequence[dict[str, str]]) -> None:
        """Try these prompts before all others, those that no trial has tried."""
        self.prioritized = tuple(prompts)

    @property
    def pending(self) -> bool:
        """Whether a prompt that a person pointed at is still to be tried."""
        return self._first(self.prioritized) is not None

    def holds_untried(self, prompts: Sequence[dict[str, str]]) -> bool:
        """Whether one of some prompts is still to be tried."""
        return self._first(prompts) is not None

    def _first(self, prompts: Sequence[dict[str, str]]) -> dict[str, str] | None:
        """The first prompt that no trial has tried."""
        # What failed comes after all others, once: three failures in a row stop the class.
        failed = [(self._failed[text], words) for words in prompts
                  if (text := self.space.prompt(words)) not in self._tried]  # fmt: skip
        for times in range(CHANCES):
            for failures, words in failed:
                if failures == times:
                    return words
        return None

    # Proposing

    def propose(
        self, *, settings_trials: int, hints: Sequence[Params] = (), batch: int | None = None
    ) -> Proposal:
        """What to draw next.

        Args:
            settings_trials: How many trials the settings stage gets; fewer with hints.
            hints: Settings that won in other classes, tried first.
            batch: Images of the mixture at a time, where there is not the time for as many as are
                usual.
        """
        if not self.has_baseline:
            return self._proposal("baseline", {}, [(self.space.baseline, self.baseline_seeds)])
        if (words := self._first(self.prioritized)) is not None:
            return self._propose_joint({**self._shared, **words})
        if self._to_screen:
            each = max(1, self.images_per_trial // SCREENED)
            if self._screened < min(-(-len(self._to_screen) // each), settings_trials // 2):
                return self._propose_screen(each)
            self._end_screen()
        if self.winner is None:
            if (words := self._first(self._opening)) is not None:
                return self._propose_joint({**self._shared, **words})
            if self._settings.done < self._wanted(settings_trials, hints):
                params = self._settings.propose(self.bank, self.weights, hints)
                if params is not None:
                    return self._propose_settings(params)
            self._pick_winner()
        return self._propose_recipe() if self._explores() else self._propose_mixture(batch)

    def _wanted(self, settings_trials: int, hints: Sequence[Params]) -> int:
        """How many trials of settings: fewer with hints, which are all tried if there is room."""
        if not self.space.settings or not self._paired():
            return 0
        return min(settings_trials, max(len(hints), settings_trials // 2) if hints else MOST_BATCH)

    def _proposal(
        self, stage: Stage, params: Params, jobs: Sequence[tuple[Recipe, tuple[int, ...]]]
    ) -> Proposal:
        return Proposal(number=self.number, stage=stage, params=params, jobs=tuple(jobs))

    def _block(self, n: int) -> tuple[int, ...]:
        """Fresh seeds of the trial that comes next."""
        return SeedBlocks(seed=self.seed).trial(self.number, n)

    def _propose_screen(self, each: int) -> Proposal:
        """Some more prompts at the settings that all begin with, a few images each."""
        prompts = self._to_screen[self._screened * each : (self._screened + 1) * each]
        seeds = self._block(SCREENED * len(prompts))
        jobs = [
            (self._recipe(words), seeds[SCREENED * i : SCREENED * (i + 1)])
            for i, words in enumerate(prompts)
        ]
        return self._proposal("screen", {}, jobs)

    def _recipe(self, words: dict[str, str]) -> Recipe:
        return self.space.recipe({**self._shared, **words})

    def _end_screen(self) -> None:
        """Order the prompts by the weights that fit what was screened to the real images."""
        if self._screened:
            assert self._weights is not None
            found: dict[str, float] = {}
            for atom, weight in zip(self._atoms, self._weights, strict=True):
                prompt = atom.recipe.draw.prompt
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

    def _propose_settings(self, params: Params) -> Proposal:
        """Other settings, on images that the bank holds already."""
        jobs = [
            (self.space.recipe({**params, **words}), seeds)
            for words, seeds in self._settings.jobs()
        ]
        return self._proposal("settings", params, jobs)

    def _paired(self) -> bool:
        """Whether there are images to try settings on, chosen when they are asked for first."""
        if not self._settings.paired:
            atoms = [
                ({k: v for k, v in atom.params.items() if k in self.space.words}, number)
                for number, atom in enumerate(self._atoms)
                if atom.params is not None
            ]
            weights = [float(self.weights[number]) for _, number in atoms]
            self._settings.pair_with(self.bank, atoms, weights, self.images_per_trial)
        return self._settings.paired

    def _pick_winner(self) -> None:
        """The settings that promise most; those at hand, where none promises a gain."""
        self.winner = self._settings.reference
        if self._settings.done and self._settings.paired:
            assert self._weights is not None
            best, gain = self._settings.best(self.bank, self._weights)
            if gain >= GAIN * self.floor:
                self.winner = best

    def _propose_joint(self, params: Params) -> Proposal:
        seeds = self._block(self.images_per_trial)
        return self._proposal("joint", params, [(self.space.recipe(params), seeds)])

    def _propose_recipe(self) -> Proposal:
        """The next prompt, or a recipe that TPE makes of the Frank-Wolfe scores as they stand now.

        Every other one has the settings that all share: of recipes with few images each, each with
        settings of its own, the weights are chance. These are first prompts with words that no
        trial has tried: the prior errs, and of a word that it rules out TPE knows nothing.
        """
        if (words := self._first(self._prompts)) is not None:
            return self._propose_joint({**self._shared, **words})
        sharing = self.number % 2 == 1
        if sharing and (words := self._first(self._with_new_words())) is not None:
            return self._propose_joint({**self._shared, **words})
        past = self.history()
        fixed = self._shared if sharing and len(self.space.prompts()) > 1 else {}
        for again in range(REDRAWS):
            seed = derive_seed(self.seed, self.space.cls, self.number, *([again] if again else []))
            params = propose(self.space.distributions, past, seed=seed, fixed=fixed)
            if self._failed[self.space.prompt(params)] < CHANCES:
                break
        return self._propose_joint(params)

    def _with_new_words(self) -> list[dict[str, str]]:
        """Prompts beyond the coverage, likeliest first: those with a word that no trial has tried.

        None once as many prompts were tried as the prior is followed for: words may be hundreds.
        """
        if len(self._tried) >= PRIOR_PROMPTS:
            return []
        tried = {word for atom in self._atoms for word in (atom.params or {}).items()}
        return [words for words in self._unlikely if not words.items() <= tried]

    def _explores(self) -> bool:
        """Whether a new recipe comes next, or more images of the mixture.

        Whichever has gained more an image. More images take away what the weights flatter
        themselves by, in proportion to how many there are already.
        """
        if not self._explored or not self._exploited:
            return self._exploited > 0
        share = self._explored / (self._explored + self._exploited)
        least = LEAST_SHARE if self._first(self._prompts) is None else LEAST_UNTRIED
        if not least <= share <= least + MOST_SHARE:
            return share < least
        assert self._weights is not None
        flattered = max(self.gap - self.bank.gap(self._weights), 0.0)
        held = float(self.bank.sizes[self._weights > 0].sum())
        promised = float(np.mean(self._promises[-REMEMBERED:] or [0.0]))
        return promised / self.images_per_trial > flattered / held

    def _propose_mixture(self, batch: int | None = None) -> Proposal:
        if self.round is None:
            self.round = Round(
                mixture=self._fitted(), floor=self.floor, confirm_images=self.confirm_images
            )
        usual = min(BATCH * self.images_per_trial, MOST_BATCH)
        seeds = self._block(usual if batch is None else max(2, min(batch, usual)))
        jobs = [(recipe, tuple(its)) for recipe, its in self.round.mixture.jobs(seeds)]
        return self._proposal("mixture", {}, jobs)

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
        value = own
        self._catch_up(proposal)
        if proposal.stage == "screen":
            for job, (recipe, _) in enumerate(proposal.jobs):
                self._keep(recipe, *images.of_job(job))
            self._screened += 1
            self._refit()
        elif proposal.stage == "settings":
            value = self._absorb_settings(proposal, images)
        elif proposal.stage == "mixture":
            self._absorb_mixture(proposal, images)
        else:
            value = self._absorb_recipe(proposal, images)
        if proposal.stage == "baseline":
            self.baseline_gap = value = own
        if proposal.stage != "settings":
            self.evidence += 1
            self._note_gain()
        self.number += 1
        self.failures = 0
        return Finding(gap=own, value=value, mixture_gap=self.gap)

    @property
    def expected(self) -> float:
        """What is believed of its gap before fresh images have told: it flatters itself."""
        if not math.isnan(self.measured_gap) or self._weights is None:
            return self.gap
        return min(self.baseline_gap, self.bank.gap(self._weights))

    def _note_gain(self) -> None:
        """Whether its gap fell, as far as it is known."""
        self.since_gain += 1
        if self.expected < self.best_gap - GAIN * self.floor:
            self.since_gain, self.best_gap = 0, self.expected

    def _catch_up(self, proposal: Proposal) -> None:
        """End the stages that this trial comes after: a replayed one was not proposed here."""
        if not self.has_baseline or proposal.stage == "screen" or self._is_prioritized(proposal):
            return
        if self._to_screen:
            self._end_screen()
        if proposal.stage == "settings":
            self._paired()
            return
        opening = proposal.stage == "joint" and self._first(self._opening) is not None
        if self.winner is None and not opening:
            self._pick_winner()
        if proposal.stage == "mixture" and self.round is None:
            self._propose_mixture()

    def _is_prioritized(self, proposal: Proposal) -> bool:
        text = self.space.prompt(proposal.params)
        return proposal.stage == "joint" and text in map(self.space.prompt, self.prioritized)

    def _absorb_recipe(self, proposal: Proposal, images: Images) -> float:
        recipe, params = proposal.jobs[0][0], proposal.params
        rows, seeds = images.of_job(0)
        if proposal.stage == "joint":
            text = self.space.prompt(params)
            if self.winner is not None:
                self._explored += len(seeds)
                if len(seeds) >= FEWEST_PROMISED:
                    # How far its fresh images pull the mixture that was fitted without them.
                    self._promises.append(self.bank.promise(self.weights, rows, seeds))
            self._tried.add(text)
        number = self._keep(recipe, rows, seeds, params if proposal.stage == "joint" else None)
        self._refit()
        assert self._weights is not None
        assert number is not None
        return float(self.bank.scores(self._weights)[number])

    def _absorb_settings(self, proposal: Proposal, images: Images) -> float:
        self._settings.absorb(proposal.params, images)
        self._settings.note(proposal.params)
        points, values = self._settings.scores(self.bank, self.weights)
        return float(values[-1]) if points[-1] == proposal.params else 0.0

    def _absorb_mixture(self, proposal: Proposal, images: Images) -> None:
        assert self.round is not None
        self.round.add(images, self.bank)
        self._exploited += len(images.seeds)
        outcome = self.round.outcome(len(self.bank.real))
        # A few images of the next round say less than all of the last one's.
        if self.round.whole or outcome == "open" or not self._measured:
            self.measured_gap = self.round.gap
        self._measured |= outcome != "more"
        self.closed = outcome == "closed"
        if outcome != "more":
            self.round = None
        for job, (recipe, _) in enumerate(proposal.jobs):
            self._keep(recipe, *images.of_job(job))
        self._refit()

    def _keep(
        self,
        recipe: Recipe,
        rows: NDArray[np.float32],
        seeds: Sequence[int],
        params: Params | None = None,
    ) -> int | None:
        """Put images into the bank, with those of their recipe; one of a new recipe is lost."""
        key = recipe.fingerprint()
        known = self._atom_of.get(key)
        if len(seeds) < (2 if known is None else 1):
            return known
        number = self.bank.add(rows, seeds, atom=known)
        if known is None:
            self._atom_of[key] = number
            self._atoms.append(_Atom(recipe))
        atom = self._atoms[number]
        if params is not None and atom.params is None:
            atom.params = params
        return number

    def absorb_failure(self, proposal: Proposal) -> None:
        """A trial failed; its number is spent, and what it tried does not come next again."""
        self._catch_up(proposal)
        if proposal.stage == "screen":
            self._screened += 1
        if proposal.stage == "settings":
            self._settings.note(proposal.params)
        if proposal.stage == "joint":
            self._failed[self.space.prompt(proposal.params)] += 1
        self.number += 1
        self.failures += 1

    def _refit(self) -> None:
        start = self._weights
        if start is not None:
            start = np.concatenate([start, np.zeros(len(self.bank) - len(start))])
        self._weights = self.bank.fit(start=start)

    def _fitted(self) -> Mixture:
        """The mixture of today's weights, the smallest dropped; nothing has measured it.

        Prompts that have not been drawn at the settings that won are to be drawn at those.
        """
        assert self._weights is not None
        merged: dict[str, tuple[Recipe, float]] = {}
        for atom, weight in zip(self._atoms, drop_small(self._weights), strict=True):
            if weight > 0.0:
                recipe = self._moved(atom)
                key = recipe.fingerprint()
                merged[key] = (recipe, merged.get(key, (recipe, 0.0))[1] + float(weight))
        found = sorted(merged.values(), key=lambda item: -item[1])
        return Mixture(
            recipes=tuple(recipe for recipe, _ in found),
            weights=tuple(weight for _, weight in found),
            gap_tune=math.nan,
        )

    def _moved(self, atom: _Atom) -> Recipe:
        lost = self._settings.reference
        if self._shared == lost or atom.params is None:
            return atom.recipe
        if any(atom.params.get(name) != value for name, value in lost.items()):
            return atom.recipe
        moved = self.space.recipe({**atom.params, **self._shared})
        return atom.recipe if moved.fingerprint() in self._atom_of else moved

    @property
    def weights(self) -> NDArray[np.float64]:
        """(n,) of the bank's atoms, as they were fitted last; it has its baseline."""
        assert self._weights is not None
        return self._weights

    @property
    def plain(self) -> Recipe:
        """The baseline's draw, under the run's camera once there is one."""
        base = self.space.baseline
        return replace(base, camera=self.space.camera) if self.imaged else base

    def sample(self, images: int) -> list[tuple[Recipe, tuple[int, ...]]]:
        """Images of the bank by the weights of their recipes."""
        found = []
        for number, count in enumerate(allot([*self.weights], images)):
            seeds = self.bank.rows_of(number)[1][:count].tolist()
            if seeds:
                found.append((self._atoms[number].recipe, tuple(seeds)))
        return found

    def drawn(self) -> list[tuple[Recipe, tuple[int, ...]]]:
        """All that the bank holds."""
        return [
            (atom.recipe, tuple(self.bank.rows_of(number)[1].tolist()))
            for number, atom in enumerate(self._atoms)
        ]

    def change_camera(self, camera: Camera, images: Images) -> None:
        """Take the run's camera over, for all that is drawn and all that was.

        Args:
            camera: From now on put on every image but the baseline's in a report.
            images: Of `drawn`, in its order, under that camera.
        """
        jobs = self.drawn()
        atoms, self._atoms, self._atom_of = self._atoms, [], {}
        self.bank = AtomBank(kernel=self.bank.kernel, real=self.bank.real)
        self.space = replace(self.space, camera=camera)
        self._settings.space = self.space
        self.imaged, self._weights = True, None
        for job, ((recipe, _), atom) in enumerate(zip(jobs, atoms, strict=True)):
            self._keep(replace(recipe, camera=camera), *images.of_job(job), atom.params)
        if self._atoms:
            self._refit()

    def history(self) -> list[Observation]:
        """The recipes that trials tried, with their Frank-Wolfe scores as they stand now."""
        if self._weights is None:
            return []
        scores = self.bank.scores(self._weights)
        return [
            Observation(params=atom.params, value=float(score))
            for atom, score in zip(self._atoms, scores, strict=True)
            if atom.params is not None
        ]

    def mixture(self) -> Mixture:
        """What is kept of the class: the mixture as it was fitted last.

        Its gap is that of the one before, which the images were drawn to measure that it is
        fitted to besides: more images can be expected to make it smaller.
        """
        if self._weights is None or self.stopped() is StopReason.CLOSED_FROM_START:
            return Mixture(recipes=(self.plain,), weights=(1.0,), gap_tune=self.baseline_gap)
        return replace(self._fitted(), gap_tune=self.measured_gap)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
