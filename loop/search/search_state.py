"""The state of one class's search: its nouns side by side, for the phases and absorbing.

`phases` reads it to say what comes next, `absorbing` changes it by what a trial brought.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.balance import Balance
from gapclose.loop.search.copies import Copies
from gapclose.loop.search.given import Given, GivenRow
from gapclose.loop.search.mixture_gap import MixtureGap
from gapclose.loop.search.optuna_record import Observation
from gapclose.loop.search.parameter_stages import ParameterStages
from gapclose.loop.search.prompt_queue import PromptQueue, Words
from gapclose.loop.search.screen import Screen
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.settings import SettingsStage
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Images, Mixture, Proposal

RESTS: Final = 2  # failures of a generator in a row, before it is left out


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
        copies: Of photos, among its images.
        parameters: Of the generators' own, and how they are distributed.
        mixture_gap: What fresh images of the mixture say of its gap.
        given: The mixture of another run that it begins with, if there is one.
        balance: Between new recipes and more images of the mixture.
        faults: Failures in a row by generator, of trials that are one generator's.
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
    parameters: ParameterStages
    mixture_gap: MixtureGap
    copies: Copies
    given: Given | None = None
    balance: Balance = field(default_factory=Balance)
    faults: Counter[str | None] = field(default_factory=Counter)
    number: int = 0
    baseline_gap: float = math.nan

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return not math.isnan(self.baseline_gap)

    @property
    def opened(self) -> bool:
        """Whether its first prompts have been tried: what it lacks is then not words alone."""
        tried = self.settings.winner is not None or self.prompts.opening is None
        return self.has_baseline and self.parameters.over and self.screen.over and tried

    @property
    def tries_given(self) -> bool:
        """Whether the mixture that it was given is still to be tried, or measured further."""
        waits = self.given is not None and not self.given.hopeless
        return waits and self.settings.winner is None

    @property
    def resting(self) -> frozenset[str | None]:
        """Generators that have failed too often in a row, where others have not.

        Three failures in a row stop a class: the others are to go on before.
        """
        names = {part.name for part in self.space.parts}
        failed = frozenset(name for name in names if self.faults[name] >= RESTS)
        return failed if failed < names else frozenset()

    def note_fault(self, proposal: Proposal, *, failed: bool) -> None:
        """Count whether a trial that one generator draws for has failed."""
        drawn_by = {recipe.draw.generator for recipe, _ in proposal.jobs}
        if len(drawn_by) == 1:
            (name,) = drawn_by
            self.faults[name] = self.faults[name] + 1 if failed else 0
            self.prompts.resting = frozenset(str(its) for its in self.resting)

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

    def observed(self) -> dict[str | None, list[Observation]]:
        """Return images whose parameters were drawn evenly, by generator."""
        return self.parameters.observed(self.atoms)

    def forget_failures(self) -> None:
        """Give every prompt and generator all its chances again."""
        self.faults.clear()
        self.prompts.resting = frozenset()
        self.prompts.forget_failures()

    def baseline_seeds(self) -> tuple[int, ...]:
        """Return those of trial 0."""
        return SeedBlocks(seed=self.seed).baseline(self.baseline_images)

    def fresh_seeds(self, n: int) -> tuple[int, ...]:
        """Return seeds of the trial that comes next."""
        return SeedBlocks(seed=self.seed).trial(self.number, n)

    def recipe(self, params: Params) -> Recipe:
        """Return a recipe of words and settings, with the parameters that all share."""
        generator = self.space.part_of(params).name
        return self.space.recipe(params, self.parameters.shared(generator))

    def shared(self, words: Words) -> Recipe:
        """Return a prompt's recipe, at the settings and parameters that all share."""
        return self.recipe({**self.settings.shared, **words})

    def give(self, rows: Sequence[GivenRow], camera: Camera | None = None) -> None:
        """Begin with the mixture of another run; before any trial.

        Args:
            rows: Of the class; none where it was given nothing.
            camera: That the choice of the run's camera begins with; the space's if not given.
        """
        if camera is not None:
            self.space = replace(self.space, camera=camera)
        self.given = Given.of(rows, self.space)

    def change_camera(self, camera: Camera, images: Images) -> None:
        """Put a camera on everything; see `ClassSearch.change_camera`."""
        self.atoms = self.atoms.under(camera, images)
        self.space = replace(self.space, camera=camera)
        self.mixture_gap.abandon()
        if self.given is not None:
            self.given = self.given.under(camera)

    def given_mixture(self) -> Mixture:
        """Return the mixture that was given; there is one."""
        assert self.given is not None, "only a given mixture is measured by its trials"
        return self.given.mixture

    def mixture(self) -> Mixture:
        """Return the mixture as it is fitted now, at the settings that won.

        Where parameters are fitted, one that was found closed stays as it was measured.
        """
        found = self.mixture_gap.measured
        if self.parameters.searched and self.mixture_gap.closed and found is not None:
            return found
        return self.parameters.settled(
            self.atoms.mixture(self.space, lost=self.settings.reference, won=self.settings.shared)
        )

    def end_given(self) -> None:
        """Go on from the mixture that was given: its settings are chosen, its prompts are tried.

        A replayed trial may have recalled the settings already.
        """
        assert self.given is not None, "only what was given can end"
        self.mixture_gap.abandon()
        if self.settings.winner is None:
            self.settings.winner = self.given.settings
        if not self.parameters.over:
            self.parameters.end_with(self.given.heaviest)
        if not self.screen.over:
            self.prompts.order(self.screen.prior(self.given.weight_by(self.space.name_of_draw)))
            self.screen.over = True
        banked = {recipe.draw for recipe, _ in self.atoms.drawn()}
        self.prompts.note_known(
            self.space.name_of_draw(recipe.draw)
            for recipe in self.given.mixture.recipes
            if recipe.draw in banked
        )

    def end_screen(self) -> None:
        """Order the prompts by what was screened."""
        if self.screen.over:
            return
        if self.screen.done:
            self.prompts.order(self.screen.prior(self.atoms.weight_by(self.space.name_of_draw)))
        self.screen.over = True
