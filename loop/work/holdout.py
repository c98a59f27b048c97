"""Confirmation: fresh seeds against real images that the search never saw, and the judge.

The controller calls it when a search rests. It decides nothing about what to try next; its
numbers are the run's headline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.confounds import LOSSLESS, Confounds, describe_confounds, read_confounds
from gapclose.analysis.coverage import duplicates
from gapclose.analysis.embedding import Embedder, finite_rows
from gapclose.analysis.gap import LEVEL, MIN_IMAGES, ClassGap, guard_objections, mmd2
from gapclose.analysis.spectrum import Spectrum
from gapclose.generators.base import GenerationError
from gapclose.generators.recipe import Recipe
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.folder import RunDir, write_images
from gapclose.loop.search.class_search import RUN_SEEDS
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.evaluation import EvaluationInput, evaluate, label_agreement_of
from gapclose.loop.work.real_data import ClassReference, one_size
from gapclose.loop.work.stored_formats import (
    compare_storage,
    describe_storage,
    embed_in_form,
    embed_sample,
    sampled,
)
from gapclose.loop.work.synthesis import SampleBatch, Synthesis

AGREEMENT_SLACK: Final = 0.05  # how far label agreement may fall below that of real images
INVALID_SHARE: Final = 0.05
_CONFIRM_SEEDS: Final = 15_000_000  # a class's trials would be 13,000 before they came so far
_LOOK_SEEDS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One class's fresh images and what they are held against.

    Attributes:
        mixture: What was drawn from; its gap is that of these very images to the tune split.
    """

    real: ClassReference
    part: int
    mixture: Mixture
    shot: SampleBatch
    judge_rows: NDArray[np.float32] | None
    spectra: NDArray[np.float32] | None
    rows: list[dict[str, Any]]  # of samples.jsonl
    real_paths: tuple[str, ...]  # of the part's photos, as samples.jsonl has them

    def gap(self) -> float:
        """Against its part of the confirm split, without a test."""
        real = self.real.parts[self.part].rows
        return mmd2(real=real, synthetic=self.shot.embeddings, kernel=self.real.kernel)

    def evidence(self, noun: str) -> EvaluationInput:
        """What is appraised: its images against its part of the confirm split."""
        part = self.real.parts[self.part]
        return EvaluationInput(
            cls=self.real.name,
            noun=noun,
            real=part.rows,
            synthetic=self.shot.embeddings,
            kernel=self.real.kernel,
            judge_real=part.judge_rows if self.judge_rows is not None else None,
            judge_synthetic=self.judge_rows,
            judge_kernel=self.real.judge_kernel,
            invalid=self.shot.invalid,
            real_spectra=part.spectra,
            synthetic_spectra=self.spectra,
            real_paths=self.real_paths,
            synthetic_paths=tuple(row["path"] for row in self.rows),
        )


def evaluate_holdout(
    synthesis: Synthesis,
    *,
    real: ClassReference,
    mixture: Mixture,
    stage: Literal["baseline", "tuned"],
    part: int,
    seeds: Sequence[int],
    judge: Embedder | None,
) -> Look:
    """Draw a mixture's images and keep them as a person will see them.

    Args:
        synthesis: Draws and embeds.
        real: The class.
        mixture: What to draw from.
        stage: Names the folder.
        part: Of the confirm split.
        seeds: Fresh ones for a mixture that was fitted. The baseline was chosen by nobody, so
            the images of trial 0 serve it, and cost nothing more.
        judge: Embeds them a second time.

    Raises:
        GenerationError: The generator failed, or fewer images are valid than a gap needs.
    """
    jobs = mixture.jobs(seeds)
    shot = synthesis.generate(real.name, jobs)
    judge_rows = None
    if judge is not None:
        judge_rows = judge.embed(list(shot.images))
        finite = finite_rows(judge_rows)
        shot, judge_rows = shot.only(finite), judge_rows[finite]
    if len(shot.seeds) < MIN_IMAGES:
        raise GenerationError(
            f"{real.name}: {len(shot.seeds)} of {len(seeds)} images are valid{shot.why()}; "
            f"a gap needs {MIN_IMAGES}"
        )
    paths = [synthesis.rundir.confirm_path(real.name, part, stage, seed) for seed in shot.seeds]
    files = dict(zip(paths, shot.images, strict=True))
    write_images(synthesis.rundir, files, source_type=synthesis.generator.source_type)
    rows = [
        sample_row(synthesis.rundir, path, real.name, stage, jobs[number][0], seed)
        for path, number, seed in zip(paths, shot.recipes, shot.seeds, strict=True)
    ]
    seen = mmd2(real=real.tune.rows, synthetic=shot.embeddings, kernel=real.kernel)
    return Look(
        real=real,
        part=part,
        mixture=replace(mixture, gap_tune=seen),
        shot=shot,
        judge_rows=judge_rows,
        # Frequencies are per pixel: of other sizes they would compare sizes.
        spectra=Spectrum().embed(shot.images)
        if one_size(shot.images, real.parts[part].paths)
        else None,
        rows=rows,
        real_paths=tuple(synthesis.rundir.relative(path) for path in real.parts[part].paths),
    )


def stored_of(looks: Sequence[Look]) -> tuple[dict[str, Confounds], dict[str, Confounds]]:
    """By class how the photos are stored, and what its camera made of the synthetic images."""
    real, synthetic = {}, {}
    for look in looks:
        photos = read_confounds(look.real.parts[look.part].paths)
        shots = [
            (image, row["camera"]["jpeg_quality"])
            for image, row in zip(look.shot.images, look.rows, strict=True)
        ]
        qualities = tuple(quality for _, quality in shots if quality is not None)
        # What went through no JPEG is as good as whatever lossless codec the photos are in.
        lossless = next((codec for codec in photos.codecs if codec in LOSSLESS), "png")
        real[look.real.name] = photos
        synthetic[look.real.name] = Confounds(
            codecs=tuple(lossless if quality is None else "jpeg" for _, quality in shots),
            heights=tuple(image.shape[0] for image, _ in shots),
            widths=tuple(image.shape[1] for image, _ in shots),
            qualities=qualities,
            chromas=("4:2:0",) * len(qualities),  # as the camera's JPEGs are
        )
    return real, synthetic


def storage_of(
    looks: Sequence[Look], embedder: Embedder, config: RunConfig
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """What of codec, quality, size and aspect still sets photos and images apart, by class.

    Returns:
        As `describe_confounds`, and by class as `describe_storage`.
    """
    stored = stored_of(looks)
    storage = compare_storage(*stored)
    told = {}
    for look in looks:
        if (kept := storage.get(look.real.name)) is None:
            continue
        part = look.real.parts[look.part]
        told[look.real.name] = describe_storage(
            kept,
            as_stored=(
                np.stack(sampled(list(part.rows))),
                np.stack(sampled(list(look.shot.embeddings))),
            ),
            in_one_form=(
                embed_sample(part.paths, embedder, config.embedder, form=kept.form),
                embed_in_form(look.shot.images, embedder, kept.form),
            ),
        )
    return describe_confounds(*stored), told


def evaluation_seeds(part: int, images: int, *, seed: int) -> range:
    """Seeds that no trial uses: one block per look at the confirm split."""
    first = _CONFIRM_SEEDS + part * _LOOK_SEEDS + seed * RUN_SEEDS
    return range(first, first + images)


def sample_row(
    rundir: RunDir, path: Any, cls: str, stage: str, recipe: Recipe | None, seed: int | None
) -> dict[str, Any]:
    """A row of samples.jsonl."""
    row: dict[str, Any] = {
        "path": rundir.relative(path),
        "class": cls,
        "side": "real" if stage == "real" else "synthetic",
        "stage": stage,
        "split": "confirm",
        "recipe": None if recipe is None else recipe.fingerprint(),
        "seed": seed,
    }
    if recipe is not None:
        draw = recipe.draw.to_json()
        names = ("prompt", "guidance_scale", "num_inference_steps", "scheduler")
        row |= {name: draw[name] for name in names}
        row["camera"] = recipe.camera.to_json()
    return row


def score_evaluations(
    looks: Sequence[Look],
    *,
    embedder: Embedder,
    groups: Mapping[str, Sequence[str]],
    nouns: Mapping[str, str],
    seed: int,
) -> list[ClassGap]:
    """Appraise each class's look against its unseen part, q-values over all."""
    evidence = [look.evidence(nouns[look.real.name]) for look in looks]
    return evaluate(evidence, embedder=embedder, groups=groups, nouns=nouns, seed=seed)


def judged(gap: ClassGap, look: Look, *, embedder: Embedder, nouns: Mapping[str, str]) -> ClassGap:
    """Set `confirmed`: closed here, the judge sees no gap either, and the guards pass.

    What objects to a closed class stands in `objections`.

    Near-copies are looked for among all real images of the class: the search saw the tune split.
    """
    everything = [look.real.tune.rows, *(part.rows for part in look.real.parts)]
    copies = duplicates(real=np.concatenate(everything), synthetic=look.shot.embeddings)
    gap = replace(gap, duplicates=copies)
    if not gap.closed:
        return replace(gap, confirmed=False)
    told = guard_objections(gap)
    judge_q = None if gap.judge is None else gap.judge["q_value"]
    if judge_q is not None and judge_q <= LEVEL:
        told.insert(0, f"the judge still sees a gap (q\N{NO-BREAK SPACE}{judge_q:.3f})")
    real = label_agreement_of(
        look.real.parts[look.part].rows, cls=gap.name, embedder=embedder, nouns=nouns
    )
    agreement = gap.label_agreement
    if real is not None and agreement is not None and agreement < real - AGREEMENT_SLACK:
        told.append(f"{agreement:.0%} are read as {gap.name}, of real images {real:.0%}")
    invalid = look.shot.invalid / max(1, look.shot.invalid + len(look.shot.seeds))
    if invalid > INVALID_SHARE:
        told.append(f"{invalid:.0%} of its images are invalid")
    return replace(gap, confirmed=not told, objections=tuple(told))
