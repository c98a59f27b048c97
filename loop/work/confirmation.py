"""Confirmation: what one fold says of one class.

The executor of `EvaluateFold`: it generates, embeds and measures. What all classes' folds say
together is judged by `gapclose.loop.run.verdicts`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.coverage import copied
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import Embedder
from gapclose.generators.base import version_of
from gapclose.generators.errors import GeneratorConfigError
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.class_state import ClassState
from gapclose.loop.run.events import (
    ConfirmationFailed,
    Digests,
    FoldEvaluated,
    FoldOpened,
)
from gapclose.loop.run.faults import machines_fault, told
from gapclose.loop.schedule.actions import EvaluateFold
from gapclose.loop.schedule.cost_model import probe
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.evaluation import label_agreement_of, measure
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.holdout import Holdout, evaluate_holdout
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.source_copies import SourceCopies
from gapclose.loop.work.synthesis import Synthesis

SHOWN_COPIES: Final = 6
"""Near-copies that are kept with the photos that they copy, for a person to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The executor of evaluations.

    Attributes:
        config: Of the run.
        synthesis: Generates and embeds.
        evidence: Where embeddings are kept.
        real: By class.
        judges: The other embedders, by name.
        copies: Compares images with the photos that they are made from.
        nouns: By class.
        groups: Attribute groups and their words.
        floors: By class, `floor_p95` of the squared MMD at the size of a confirmation.
    """

    config: RunConfig
    synthesis: Synthesis
    evidence: Evidence
    real: Mapping[str, ClassReference]
    judges: Mapping[str, Embedder]
    copies: SourceCopies
    nouns: Mapping[str, str]
    groups: Mapping[str, Any]
    floors: Mapping[str, float]

    def open(self, action: EvaluateFold, cls: ClassState, search: ClassSearch) -> FoldOpened:
        """Settle which mixture a fold judges."""
        name = action.cls
        return FoldOpened(
            cls=name,
            fold=action.fold,
            photos=self.real[name].folds[action.fold].photos,
            mixture=search.mixture().to_json(),
            trials=cls.trials,
            evidence=cls.progress.evidence,
            spends=not cls.untried,
            early=action.early,
        )

    def evaluate(
        self, opened: FoldOpened, search: ClassSearch
    ) -> FoldEvaluated | ConfirmationFailed:
        """Measure the baseline and a mixture on a fold.

        Raises:
            GeneratorConfigError: The generator cannot be used as configured.
            Exception: Of the machine, as `machines_fault` tells; it is done again.
        """
        start, generated = time.perf_counter(), self.synthesis.generated
        try:
            before, after, drawn = self._generate(opened, search)
            rows = self.measured(before), self.measured(after, copies=True)
        except GeneratorConfigError:
            raise
        except Exception as error:
            if machines_fault(error) is not None:
                raise
            self.synthesis.rundir.log_error(f"{opened.cls} could not be confirmed")
            return ConfirmationFailed(cls=opened.cls, fold=opened.fold, error=told(error))
        digests: dict[str, Digests] = {
            holdout.stage: self.evidence.keep_fold(
                opened.cls,
                opened.fold,
                holdout.stage,
                holdout.images,
                [*holdout.judge_rows.values()],
            )
            for holdout in (before, after)
        }
        return FoldEvaluated(
            cls=opened.cls,
            fold=opened.fold,
            mixture=after.mixture.to_json(),
            before=rows[0].to_json(),
            after=rows[1].to_json(),
            agreement=label_agreement_of(
                self.real[opened.cls].folds[opened.fold].rows,
                cls=opened.cls,
                embedder=self.synthesis.embedder,
                nouns=self.nouns,
            ),
            drawn=tuple(drawn),
            images=self.synthesis.generated - generated,
            seconds=time.perf_counter() - start,
            generator=version_of(self.synthesis.generator),
            probe=probe(),
            digests=digests,
        )

    def _generate(
        self, opened: FoldOpened, search: ClassSearch
    ) -> tuple[Holdout, Holdout, list[tuple[str, int, int]]]:
        """Generate the baseline's images, and those of the mixture or of what is kept instead.

        Returns:
            Both, and of every draw its fingerprint, first seed and count of seeds.
        """
        name, mixture = opened.cls, Mixture.from_json(opened.mixture)
        shared: dict[str, Any] = {
            "real": self.real[name],
            "fold": opened.fold,
            "judges": self.judges,
            "sources": search.sources,
        }
        baseline = Mixture(
            recipes=(search.space.baseline,), weights=(1.0,), gap_tune=search.baseline_gap
        )
        own = search.state.baseline_seeds()
        before = evaluate_holdout(
            self.synthesis, mixture=baseline, stage="baseline", seeds=own, **shared
        )
        fresh = SeedBlocks(seed=self.config.tune.seed).fold(
            opened.fold, self.config.confirm.images
        )
        plain = [(recipe,) for recipe in dict.fromkeys((search.plain, search.space.baseline))]
        # The baseline was not selected, so its images of trial 0 serve once more, unless it was
        # by them that it closed from the start.
        seeds = own
        if opened.spends and (search.closed_from_start or mixture.recipes not in plain):
            seeds = fresh
        after = evaluate_holdout(
            self.synthesis, mixture=mixture, stage="tuned", seeds=seeds, **shared
        )
        drawn = mixture.jobs(seeds)
        # No class may end worse than it began: what does not help is not kept. Only the baseline
        # under the run's camera may be worse by what chance makes of two sets of images: a camera
        # of its own would tell the class from all others.
        for recipes in plain:
            room = self.floors[name] if after.mixture.recipes == plain[0] else 0.0
            if after.mixture.recipes == plain[-1] or after.gap() < before.gap() + room:
                break
            kept = Mixture(recipes=recipes, weights=(1.0,), gap_tune=math.nan)
            seeds = fresh if search.closed_from_start else own
            after = evaluate_holdout(
                self.synthesis, mixture=kept, stage="tuned", seeds=seeds, **shared
            )
            drawn += kept.jobs(seeds)
            # Under another camera they are the same images.
            self.synthesis.remember(name, recipes[0].draw.fingerprint(), seeds)
        return (
            before,
            after,
            [(recipe.draw.fingerprint(), block[0], len(block)) for recipe, block in drawn],
        )

    def measured(self, holdout: Holdout, *, copies: bool = False) -> ClassGap:
        """Measure a class's row of gap.json, q-values of the class alone.

        Args:
            holdout: Its images, and the fold.
            copies: Find near-copies of all real images: the search saw the tune split.
        """
        real = holdout.real
        row = measure(
            holdout.input(self.nouns[real.name], self.synthesis.rundir),
            embedder=self.synthesis.embedder,
            groups=self.groups,
            nouns=self.nouns,
            seed=self.config.tune.seed,
            classes=len(self.real),
        )
        if not copies:
            return row
        found = self._near_copies(holdout)
        relative = self.synthesis.rundir.relative
        pairs = [
            {"synthetic": relative(image), "real": relative(photo)}
            for image, photo in [*found.items()][:SHOWN_COPIES]
        ]
        return replace(row, duplicates=len(found), copies=tuple(pairs) or None)

    def _near_copies(self, holdout: Holdout) -> dict[Path, Path]:
        """Find the images that are near-copies of real ones, and of which.

        Of any by their embeddings; of the photo that an image is made from by its looks.
        """
        parts = (holdout.real.tune, *holdout.real.folds)
        paths = [path for part in parts for path in part.paths]
        of_any = copied(
            real=np.concatenate([part.rows for part in parts]),
            synthetic=holdout.images.embeddings,
        )
        tune = dict(zip(holdout.real.tune.photos, holdout.real.tune.paths, strict=True))
        of_source = self._source_copies(holdout)
        found = {}
        shown = holdout.paths(self.synthesis.rundir)
        for image, seed, near in zip(shown, holdout.images.seeds, of_any.tolist(), strict=True):
            if seed in of_source:
                found[image] = tune[of_source[seed]]
            elif near >= 0:
                found[image] = paths[near]
        return found

    def _source_copies(self, holdout: Holdout) -> Mapping[int, str]:
        """Find the images that copy the photo that they are made from."""
        recipes, own = holdout.mixture.recipes, holdout.images
        if not any(recipe.draw.takes_source for recipe in recipes):
            return {}
        made = [(recipes[i], seed) for i, seed in zip(own.recipes, own.seeds, strict=True)]
        shown = [read_rgb(path) for path in holdout.paths(self.synthesis.rundir)]
        return self.copies.of(holdout.real.name, shown, made)
