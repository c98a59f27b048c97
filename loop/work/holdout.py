"""The holdout: a mixture's fresh images, paired with the fold that they are compared with.

No search saw the fold. Confirmations and audits generate here, and its numbers are the run's
headline; it decides nothing about what to try next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder, finite_rows
from gapclose.analysis.gap import MIN_IMAGES, mmd2
from gapclose.analysis.spectrum import Spectrum
from gapclose.generators.errors import GenerationError
from gapclose.generators.recipe import Recipe
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.images import write_drawn
from gapclose.loop.search.atom_bank import near_real
from gapclose.loop.search.sources import NO_SOURCES, Sources
from gapclose.loop.search.trial import Images, Mixture
from gapclose.loop.work.evaluation import EvaluationInput, JudgeInput
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.real_data import ClassReference, one_size
from gapclose.loop.work.synthesis import Synthesis

HoldoutStage = Literal["baseline", "tuned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """A mixture's fresh images, paired with the fold of its class that they are compared with.

    Attributes:
        real: The class.
        fold: Number of the fold.
        stage: Names the folder that the images lie in.
        mixture: That they are of; its gap is that of these very images to the tune split.
        images: Their embeddings; `recipes` number those of the mixture.
        invalid: Images that could not be scored.
        judge_rows: By judge, in the config's order, its embeddings; none of what is read back.
        spectra: Power spectra; None where sizes differ, and of what is read back.
    """

    real: ClassReference
    fold: int
    stage: HoldoutStage
    mixture: Mixture
    images: Images
    invalid: int = 0
    judge_rows: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    spectra: NDArray[np.float32] | None = None

    def gap(self) -> float:
        """Return the squared MMD to the fold, without a test."""
        real = self.real.folds[self.fold].rows
        return mmd2(real=real, synthetic=self.images.embeddings, kernel=self.real.kernel)

    def paths(self, rundir: RunDir) -> list[Path]:
        """Return the images' files."""
        name = self.real.name
        return [
            rundir.confirm_path(name, self.fold, self.stage, seed) for seed in self.images.seeds
        ]

    def rows(self, rundir: RunDir) -> list[dict[str, Any]]:
        """Return the images' rows of samples.jsonl."""
        recipes = self.mixture.recipes
        return [
            sample_row(rundir, path, self.real.name, self.stage, recipes[number], seed)
            for path, number, seed in zip(
                self.paths(rundir), self.images.recipes, self.images.seeds, strict=True
            )
        ]

    def input(self, noun: str, rundir: RunDir) -> EvaluationInput:
        """Return what is evaluated: the images against the fold."""
        fold = self.real.folds[self.fold]
        return EvaluationInput(
            cls=self.real.name,
            noun=noun,
            real=fold.rows,
            synthetic=self.images.embeddings,
            kernel=self.real.kernel,
            judges={
                judge: JudgeInput(
                    real=fold.judge_rows[judge],
                    synthetic=rows,
                    kernel=self.real.judge_kernels[judge],
                )
                for judge, rows in self.judge_rows.items()
            },
            invalid=self.invalid,
            real_spectra=fold.spectra,
            synthetic_spectra=self.spectra,
            real_paths=tuple(map(rundir.relative, fold.paths)),
            synthetic_paths=tuple(map(rundir.relative, self.paths(rundir))),
        )


def evaluate_holdout(
    synthesis: Synthesis,
    *,
    real: ClassReference,
    mixture: Mixture,
    stage: HoldoutStage,
    fold: int,
    seeds: Sequence[int],
    judges: Mapping[str, Embedder],
    sources: Sources = NO_SOURCES,
) -> Holdout:
    """Generate a mixture's images and keep them as a person will see them.

    Args:
        synthesis: Generates and embeds.
        real: The class.
        mixture: What to generate.
        stage: Names the folder.
        fold: Number of the fold.
        seeds: Fresh ones for a mixture that was fitted. The baseline was chosen by nobody, so
            the images of trial 0 serve it, and cost nothing more.
        judges: By name, each embeds them once more.
        sources: The photos that its recipes may name; the gap to the tune split leaves them out.

    Raises:
        GenerationError: The generator failed, or fewer images are valid than a gap needs.
    """
    jobs = mixture.jobs(seeds)
    batch = synthesis.generate(real.name, jobs)
    judge_rows: dict[str, NDArray[np.float32]] = {}
    for name, judge in judges.items():
        rows = synthesis.embed(batch.images, by=judge)
        finite = finite_rows(rows)
        batch = batch.only(finite)
        judge_rows = {earlier: its[finite] for earlier, its in judge_rows.items()}
        judge_rows[name] = rows[finite]
    if len(batch.seeds) < MIN_IMAGES:
        raise GenerationError(
            f"{real.name}: {len(batch.seeds)} of {len(seeds)} images are valid{batch.why()}; "
            f"a gap needs {MIN_IMAGES}"
        )
    numbers = [mixture.recipes.index(recipe) for recipe, _ in jobs]
    images = batch.kept(shown=True)
    images = replace(images, recipes=tuple(numbers[job] for job in images.recipes))
    images = sources.named(images, [(recipe, ()) for recipe in mixture.recipes])
    # Frequencies are per pixel: of other sizes they would compare sizes.
    same_size = one_size(batch.images, real.folds[fold].paths)
    holdout = Holdout(
        real=real,
        fold=fold,
        stage=stage,
        mixture=replace(mixture, gap_tune=_gap_to_tune(real, images)),
        images=images,
        invalid=batch.invalid,
        judge_rows=judge_rows,
        spectra=Spectrum().embed(batch.images) if same_size else None,
    )
    draws = [jobs[job][0].draw for job in batch.recipes]
    write_drawn(
        synthesis.rundir,
        synthesis.generator,
        zip(holdout.paths(synthesis.rundir), batch.images, draws, strict=True),
    )
    return holdout


def _gap_to_tune(real: ClassReference, images: Images) -> float:
    """Return the squared MMD to the tune split, no image compared with its own source."""
    kernel, photos = real.kernel, real.tune.rows
    gap = mmd2(real=photos, synthetic=images.embeddings, kernel=kernel)
    if images.sources:
        near = near_real(kernel, images.embeddings, photos)
        gap += 2.0 * (near - near_real(kernel, images.embeddings, photos, images.sources)).mean()
    return float(gap)


def read_holdout(
    evidence: Evidence, *, real: ClassReference, mixture: Mixture, stage: HoldoutStage, fold: int
) -> Holdout:
    """Read what `evaluate_holdout` made in an earlier session, without judge rows and spectra.

    Raises:
        RunDamagedError: Its embeddings are gone.
    """
    images = evidence.fold(real.name, fold, stage)
    return Holdout(real=real, fold=fold, stage=stage, mixture=mixture, images=images)


def sample_row(
    rundir: RunDir, path: Any, cls: str, stage: str, recipe: Recipe | None, seed: int | None
) -> dict[str, Any]:
    """Return a row of samples.jsonl."""
    row: dict[str, Any] = {
        "path": rundir.relative(path),
        "class": cls,
        "side": "real" if stage == "real" else "synthetic",
        "stage": stage,
        "split": "confirm",
        "recipe": None if recipe is None else recipe.fingerprint(),
        "seed": seed,
    }
    if recipe is not None and seed is not None:
        draw = recipe.draw.of_seed(seed).to_json()
        settings = ("prompt", "guidance_scale", "num_inference_steps", "scheduler")
        names = (*settings, "parameters", "generator")
        row |= {name: draw[name] for name in names if name in draw}
        row["camera"] = recipe.camera.to_json()
    return row
