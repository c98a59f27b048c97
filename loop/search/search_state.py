"""The state of one class's search: its nouns side by side, for the phases and absorbing.

`phases` reads it to say what comes next, `absorbing` changes it by what a trial brought.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gapclose.generators.recipe import Recipe
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.balance import Balance
from gapclose.loop.search.mixture_gap import MixtureGap
from gapclose.loop.search.prompt_queue import PromptQueue, Words
from gapclose.loop.search.screen import Screen
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.settings import SettingsStage
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture


@dataclass(slots=True, kw_only=True)
class SearchState:
    """Where the search of a class stands.

    Attributes:
        space: What may be varied.
        seed: Of the run.
        images_per_trial: Of settings and joint trials.
        baseline_images: Of trial 0.
        floor: `floor_p95` at the size of a confirmation, the unit of gains.
        atoms: The recipes that have images, and their weights.
        prompts: In the order that they are tried.
        screen: Of the prompts, where nothing orders them.
        settings: That the prompts share.
        mixture_gap: What fresh images of the mixture say of its gap.
        balance: Between new recipes and more images of the mixture.
        number: Of the next trial; those before it have been proposed.
        baseline_gap: Of trial 0; NaN before.
    """

    space: Space
    seed: int
    images_per_trial: int
    baseline_images: int
    floor: float
    atoms: Atoms
    prompts: PromptQueue
    screen: Screen
    settings: SettingsStage
    mixture_gap: MixtureGap
    balance: Balance = field(default_factory=Balance)
    number: int = 0
    baseline_gap: float = math.nan

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return not math.isnan(self.baseline_gap)

    @property
    def opened(self) -> bool:
        """Whether its first prompts have been tried: what it lacks is then not words alone."""
        return self.has_baseline and self.screen.over and self.prompts.opening is None

    @property
    def gap(self) -> float:
        """Of its mixture, on images of the tune split's that it was not fitted to."""
        measured = self.mixture_gap.gap
        return self.baseline_gap if math.isnan(measured) else measured

    @property
    def expected(self) -> float:
        """The estimate of its gap before fresh images were scored: it flatters itself."""
        if not math.isnan(self.mixture_gap.gap) or not self.atoms.fitted:
            return self.gap
        return min(self.baseline_gap, self.atoms.gap())

    def baseline_seeds(self) -> tuple[int, ...]:
        """Return those of trial 0."""
        return SeedBlocks(seed=self.seed).baseline(self.baseline_images)

    def fresh_seeds(self, n: int) -> tuple[int, ...]:
        """Return seeds of the trial that comes next."""
        return SeedBlocks(seed=self.seed).trial(self.number, n)

    def recipe(self, words: Words) -> Recipe:
        """Return a prompt's recipe at the settings that all share."""
        return self.space.recipe({**self.settings.shared, **words})

    def mixture(self) -> Mixture:
        """Return the mixture as it is fitted now, at the settings that won."""
        return self.atoms.mixture(
            self.space, lost=self.settings.reference, won=self.settings.shared
        )

    def end_screen(self) -> None:
        """Order the prompts by what was screened."""
        if self.screen.over:
            return
        if self.screen.done:
            self.prompts.order(self.screen.prior(self.atoms.weight_by_prompt()))
        self.screen.over = True
