"""The parameters of all generators of a class: a stage for each that has some."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gapclose.generators.parameters import Parameter
from gapclose.generators.recipe import Recipe
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.optuna_record import Observation
from gapclose.loop.search.parameter_stage import ParameterStage
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture

__all__ = ["ParameterStages"]


@dataclass(frozen=True, slots=True)
class ParameterStages:
    """The stages of one class, by the name of the generator.

    Attributes:
        stages: In the config's order.
    """

    stages: Mapping[str | None, ParameterStage]

    @classmethod
    def of(cls, space: Space, seed: int) -> ParameterStages:
        """Begin those of a class, under the seed of the run."""
        return cls({part.name: ParameterStage(part, space.cls, seed) for part in space.parts})

    @property
    def searched(self) -> list[ParameterStage]:
        """Those of generators whose parameters are searched."""
        return [stage for stage in self.stages.values() if stage.part.parameters]

    @property
    def over(self) -> bool:
        """Whether what comes next has begun."""
        return all(stage.over for stage in self.stages.values())

    def end(self) -> None:
        """Begin with what comes next."""
        for stage in self.stages.values():
            stage.over = True

    def end_with(self, recipe: Recipe) -> None:
        """Go on with the parameters of a recipe that was given."""
        self.of_recipe(recipe).end_with(recipe)
        self.end()

    def due(self, trials: int, *, resting: Collection[str | None] = ()) -> ParameterStage | None:
        """Return the first whose trials come before all others; see `ParameterStage.is_due`.

        Args:
            trials: That there are.
            resting: Generators that are left out.
        """
        stages = (its for its in self.stages.values() if its.part.name not in resting)
        return next((its for its in stages if its.is_due(trials)), None)

    def of_recipe(self, recipe: Recipe) -> ParameterStage:
        """Return the stage of the generator that a recipe names."""
        return self.stages[recipe.draw.generator]

    def shared(self, generator: str | None) -> Mapping[str, Parameter]:
        """Return what recipes of a generator have of each parameter that is searched."""
        return self.stages[generator].shared

    def settled(self, mixture: Mixture) -> Mixture:
        """Return a mixture at the parameters of the last fits; see `ParameterStage.settled`."""
        for stage in self.searched:
            mixture = stage.settled(mixture)
        return mixture

    def observed(self, atoms: Atoms) -> dict[str | None, list[Observation]]:
        """Return what `ParameterStage.observed` does, by generator."""
        return {stage.part.name: stage.observed(atoms) for stage in self.searched}
