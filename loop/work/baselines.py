"""Baselines: fresh images of a config's baseline recipe, class by class, for its audit.

They are held against all of a class's photos: nothing was fitted, so no split is kept apart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.embedding import Embedder
from gapclose.generators.errors import GenerationError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.audit_scores import AuditMaterial
from gapclose.loop.work.audit_state import AuditState
from gapclose.loop.work.evaluation import EvaluationInput
from gapclose.loop.work.holdout import Holdout, evaluate_holdout, sample_row
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.sides import Side, left_out
from gapclose.loop.work.stored_formats import storage_of
from gapclose.loop.work.synthesis import Synthesis

log = logging.getLogger(__name__)

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """The baseline images of a run's classes.

    Attributes:
        synthesis: Generated them.
        spaces: By class.
        holdouts: The images.
        skipped: Classes that could not be generated, as in gap.json.
    """

    synthesis: Synthesis
    spaces: Mapping[str, Space]
    holdouts: tuple[Holdout, ...]
    skipped: tuple[dict[str, str], ...]

    @classmethod
    def generate(
        cls,
        synthesis: Synthesis,
        *,
        real: Mapping[str, ClassReference],
        spaces: Mapping[str, Space],
        seeds: Sequence[int],
        judges: Mapping[str, Embedder],
        state: AuditState,
        reporter: Reporter,
    ) -> Baselines:
        """Generate and embed them; what `state` lists as generated is read back.

        Raises:
            GenerationError: No class could be generated.
        """
        state.drawn.intersection_update(spaces)
        for name in state.drawn:
            synthesis.remember(name, spaces[name].baseline.draw.fingerprint(), seeds)
        generating = TaskStarted(task=Task.BASELINES)
        reporter.tell(generating)
        holdouts, skipped = [], []
        for done, (name, reference) in enumerate(real.items(), start=1):
            baseline = Mixture(
                recipes=(spaces[name].baseline,), weights=(1.0,), gap_tune=float("nan")
            )
            try:
                holdout = evaluate_holdout(
                    synthesis,
                    real=reference,
                    mixture=baseline,
                    stage="baseline",
                    fold=0,
                    seeds=seeds,
                    judges=judges,
                )
            except GenerationError as error:
                log.error("%s could not be audited: %s", name, error)
                skipped.append({"class": name, "why": str(error)})
            else:
                holdouts.append(holdout)
                state.drawn.add(name)
                state.write("baseline")
            reporter.tell(generating.advanced(done, len(real)))
        if not holdouts:
            raise GenerationError(skipped[0]["why"])
        return cls(
            synthesis=synthesis, spaces=spaces, holdouts=tuple(holdouts), skipped=tuple(skipped)
        )

    def material(self, side: Side, *, embedder: str, notes: Sequence[str] = ()) -> AuditMaterial:
        """Return what is to be scored.

        Args:
            side: The real side, whose files that are left out are named.
            embedder: The tuning embedder's name.
            notes: To be kept in gap.json.
        """
        rundir = self.synthesis.rundir
        nouns = {name: space.words["noun"][0] for name, space in self.spaces.items()}
        rows: list[dict[str, Any]] = []
        embeddings: list[Rows] = []
        for holdout in self.holdouts:
            real = holdout.real
            for split, seen in (("tune", real.tune), *(("confirm", p) for p in real.folds)):
                for path, row in zip(seen.paths, seen.rows, strict=True):
                    shown = sample_row(rundir, path, real.name, "real", None, None)
                    rows.append(shown | {"split": split})
                    embeddings.append(row)
            rows.extend(holdout.rows(rundir))
            embeddings.extend(holdout.images.embeddings)
        confounds, stored = storage_of(self.holdouts, self.synthesis, embedder)
        return AuditMaterial(
            inputs=[_against_all(h, nouns[h.real.name], rundir) for h in self.holdouts],
            nouns=nouns,
            stored=stored,
            facts={
                "confounds": confounds,
                "equalized": False,
                "skipped": list(self.skipped),
                **left_out([side], relative=rundir.relative),
                "notes": list(notes),
            },
            rows=rows,
            embeddings=embeddings,
        )


def _against_all(holdout: Holdout, noun: str, rundir: RunDir) -> EvaluationInput:
    """Hold fresh images against every real one."""
    everything = [holdout.real.tune, *holdout.real.folds]
    on_fold = holdout.input(noun, rundir)
    return replace(
        on_fold,
        real=np.concatenate([p.rows for p in everything]),
        judges={
            judge: replace(its, real=np.concatenate([p.judge_rows[judge] for p in everything]))
            for judge, its in on_fold.judges.items()
        },
        real_spectra=_joined([p.spectra for p in everything]),
        real_paths=tuple(rundir.relative(path) for part in everything for path in part.paths),
    )


def _joined(parts: Sequence[Rows | None]) -> Rows | None:
    rows = [p for p in parts if p is not None]
    return np.concatenate(rows) if rows else None
