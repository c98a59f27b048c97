"""Diagnostics: what is measured at the end of a run, besides its verdicts.

Clusters that stand apart before and after tuning, how the sides are stored, what tells the classes
apart and how many are told, where the weight of a mixture lies, and the map of what was confirmed.
The session runs them; they read evaluated images back and generate nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.state import RunState
from gapclose.loop.search.importance import importances, parameter_importances
from gapclose.loop.search.searches import Searches
from gapclose.loop.search.shares import shares_of
from gapclose.loop.search.trial import Mixture
from gapclose.loop.work.cluster_report import find_groups
from gapclose.loop.work.embedding_map import write_map
from gapclose.loop.work.evaluation import EvaluationInput, witness_scores
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.generator_findings import class_generators, described
from gapclose.loop.work.holdout import Holdout, read_holdout, sample_row
from gapclose.loop.work.judge_notes import judge_notes, tune_rows
from gapclose.loop.work.kept_images import KeptImages, fold_jobs
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.shortcuts import find_shortcuts
from gapclose.loop.work.shortfalls import find_shortfalls
from gapclose.loop.work.stored_formats import storage_of
from gapclose.loop.work.synthesis import Synthesis

SHOWN_REAL: Final = 100  # real images per class on the map


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """The diagnostics of a run.

    Attributes:
        config: Of the run.
        synthesis: Its embedder names clusters; its run folder holds the images.
        evidence: Holds the embeddings.
        real: By class.
        searches: By class.
        nouns: By class.
        groups: Attribute groups and their words.
    """

    config: RunConfig
    synthesis: Synthesis
    evidence: Evidence
    real: Mapping[str, ClassReference]
    searches: Searches
    nouns: Mapping[str, str]
    groups: Mapping[str, Sequence[str]]

    def judge_notes(self) -> list[str]:
        """Say what speaks against the judges of the run."""
        return judge_notes(self.config, tune_rows(self.config, self.real))

    def run(self, state: RunState) -> dict[str, Any]:
        """Find what stands apart, and write the map.

        Returns:
            `RunFinished.findings`.
        """
        pairs = self._judged(state)
        inputs = self._inputs(pairs)
        seed = self.config.tune.seed
        clusters: list[dict[str, Any]] = []
        members: dict[str, list[int]] = {}
        for stage, of_stage in inputs.items():
            found, its = find_groups(
                of_stage,
                stage=stage,
                embedder=self.synthesis.embedder,
                groups=self.groups,
                first_id=len(clusters),
                seed=seed,
            )
            clusters += found
            for path, ids in its.items():
                members[path] = members.get(path, []) + ids
        self._write_map(pairs, inputs, members)
        confounds, stored = storage_of(
            [pair[1] for pair in pairs.values()], self.synthesis, self.config.embedder
        )
        recalls = find_shortfalls(inputs, self.synthesis.rundir, seed=seed)
        shortcuts = find_shortcuts(inputs, self.synthesis.rundir)
        return {
            "rows": {
                name: {
                    **recalls["tuned"].get(name, {}),
                    "before": recalls["baseline"].get(name, {}),
                    "stored": stored.get(name),
                    "shares": shares_of(
                        pair[1].mixture.recipes,
                        pair[1].mixture.weights,
                        self.searches[name].space,
                    ),
                    "importances": importances(
                        self.searches[name].space, self.searches[name].history()
                    ),
                    "parameter_importances": parameter_importances(
                        self.searches[name].space, self.searches[name].state.observed()
                    ),
                    **_some("generators", class_generators(self.searches[name], pair[1].mixture)),
                }
                for name, pair in pairs.items()
            },
            "confounds": confounds,
            "clusters": clusters,
            "shortcuts": shortcuts["tuned"],
            "shortcuts_before": shortcuts["baseline"],
            **_some("generators", described(self.synthesis.generator, state.timings.prices())),
            **_some("notes", self.judge_notes()),
        }

    def _judged(self, state: RunState) -> dict[str, tuple[Holdout, Holdout]]:
        """Return, by class, baseline's and mixture's images on the fold that judged them."""
        pairs = {}
        kept = KeptImages(synthesis=self.synthesis, evidence=self.evidence)
        for name in state.names:
            if (judged := state.of(name).judged) is None:
                continue
            baseline = Mixture(
                recipes=(self.searches[name].space.baseline,), weights=(1.0,), gap_tune=np.nan
            )
            mixture = Mixture.from_json(judged.result.mixture)
            fold, real = judged.opened.fold, self.real[name]
            own = [(baseline.recipes[0], self.searches[name].state.baseline_seeds())]
            kept.restore_fold(judged.result, "baseline", baseline, own)
            kept.restore_fold(judged.result, "tuned", *fold_jobs(judged.result))
            pairs[name] = (
                read_holdout(
                    self.evidence, real=real, mixture=baseline, stage="baseline", fold=fold
                ),
                read_holdout(self.evidence, real=real, mixture=mixture, stage="tuned", fold=fold),
            )
        return pairs

    def _inputs(
        self, pairs: Mapping[str, tuple[Holdout, Holdout]]
    ) -> dict[str, list[EvaluationInput]]:
        """Return, by stage, what every class is compared with."""
        rundir = self.synthesis.rundir
        return {
            stage: [pair[i].input(self.nouns[name], rundir) for name, pair in pairs.items()]
            for stage, i in (("tuned", 1), ("baseline", 0))
        }

    def _write_map(
        self,
        pairs: Mapping[str, tuple[Holdout, Holdout]],
        inputs: Mapping[str, Sequence[EvaluationInput]],
        members: Mapping[str, list[int]],
    ) -> None:
        rundir = self.synthesis.rundir
        scores: dict[str, float] = {}
        for stage in ("baseline", "tuned"):  # of a photo, how unlike the mixture it is
            scores |= witness_scores(inputs[stage])
        rows: list[dict[str, Any]] = []
        embeddings: list[Any] = []
        for name, pair in pairs.items():
            fold = pair[1].real.folds[pair[1].fold]
            for path, row in list(zip(fold.paths, fold.rows, strict=True))[:SHOWN_REAL]:
                rows.append(sample_row(rundir, path, name, "real", None, None))
                embeddings.append(row)
            for holdout in pair:
                rows.extend(holdout.rows(rundir))
                embeddings.extend(holdout.images.embeddings)
        if not rows:  # no class could be confirmed: the report says why
            return
        told = [
            row | {"clusters": members.get(row["path"], []), "witness": scores.get(row["path"])}
            for row in rows
        ]
        write_map(
            rundir,
            told,
            np.stack(embeddings),
            embedder=self.synthesis.embedder,
            nouns=self.nouns,
            seed=self.config.tune.seed,
        )


def _some(key: str, value: Any) -> dict[str, Any]:
    """Return a key with its value, unless there is nothing."""
    return {key: value} if value else {}
