"""An audit's scores: images of both sides, class by class -> gap.json and the map.

Both kinds of audit, of two folders and of a config's baseline, gather the same material and end
here. Nothing is fitted to the images that are scored.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import DEFAULT_WORDS
from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.embedding import Embedder
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.work.cluster_report import find_groups
from gapclose.loop.work.embedding_map import write_map
from gapclose.loop.work.evaluation import (
    EvaluationInput,
    evaluate,
    notes_of,
    witness_scores,
)
from gapclose.loop.work.shortcuts import find_shortcuts
from gapclose.loop.work.shortfalls import find_shortfalls

SHOWN: Final = 200  # images per class and side on the map
SAVED: Final = ("gap", "ratio", "floor_p95", "effect", "closed")  # of a class, for `status`

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditMaterial:
    """What an audit has gathered.

    Attributes:
        inputs: The classes to score.
        nouns: Class -> noun of every class.
        stored: By class what its sides differ in as files; only those that do.
        facts: What gap.json has besides: `skipped`, `confounds`, files that are left out ...
        rows: Of samples.jsonl, of every image that the map might show.
        embeddings: Of these, row by row.
    """

    inputs: Sequence[EvaluationInput]
    nouns: Mapping[str, str]
    stored: Mapping[str, dict[str, Any]]
    facts: Mapping[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    embeddings: list[Rows] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditScores:
    """What the material says.

    Attributes:
        gaps: Those of the largest effect first.
        clusters: Groups that stand apart, as in gap.json.
        members: By image, the groups that it is in.
    """

    config: RunConfig
    embedder: Embedder
    material: AuditMaterial
    gaps: Sequence[ClassGap]
    clusters: Sequence[dict[str, Any]]
    members: Mapping[str, list[int]]

    @classmethod
    def of(
        cls,
        material: AuditMaterial,
        *,
        config: RunConfig,
        embedder: Embedder,
        reporter: Reporter,
    ) -> AuditScores:
        """Test every class, and find what stands apart."""
        seed, groups = config.tune.seed, config.attributes or DEFAULT_WORDS
        testing = TaskStarted(task=Task.TESTING)
        reporter.tell(testing)
        gaps = evaluate(
            material.inputs,
            embedder=embedder,
            groups=groups,
            nouns=material.nouns,
            seed=seed,
            progress=lambda done, total: reporter.tell(testing.advanced(done, total)),
        )
        gaps = [replace(gap, stored=material.stored.get(gap.name)) for gap in gaps]
        reporter.tell(TaskStarted(task=Task.DIAGNOSING))
        clusters, members = find_groups(
            material.inputs, stage="baseline", embedder=embedder, groups=groups, seed=seed
        )
        return cls(
            config=config,
            embedder=embedder,
            material=material,
            gaps=sorted(gaps, key=lambda gap: -(gap.effect or 0.0)),
            clusters=clusters,
            members=members,
        )

    def write(self, rundir: RunDir) -> None:
        """Write gap.json and the map."""
        facts, inputs = self.material.facts, self.material.inputs
        stages = {"baseline": inputs}
        recalls = find_shortfalls(stages, rundir, seed=self.config.tune.seed)["baseline"]
        rundir.write_json(
            "gap.json",
            {
                "schema": 1,
                "embedder": self.config.embedder,
                **self.config.judge_keys(),
                "classes": [gap.to_json() | recalls.get(gap.name, {}) for gap in self.gaps],
                "clusters": list(self.clusters),
                "shortcuts": find_shortcuts(stages, rundir)["baseline"],
                **facts,
                "notes": [*facts.get("notes", ()), *notes_of(self.gaps)],
            },
        )
        self._write_map(rundir)

    def saved(self) -> dict[str, dict[str, Any]]:
        """Return by class what state.json keeps."""
        return {gap.name: {key: getattr(gap, key) for key in SAVED} for gap in self.gaps}

    def _write_map(self, rundir: RunDir) -> None:
        rows, seed = self.material.rows, self.config.tune.seed
        scores = witness_scores(self.material.inputs)
        chosen = _shown(rows, self._examples(), seed)
        shown = [
            rows[i] | {"clusters": self.members.get(path, []), "witness": scores.get(path)}
            for i in chosen
            for path in (rows[i]["path"],)
        ]
        write_map(
            rundir,
            shown,
            np.stack([self.material.embeddings[i] for i in chosen]),
            embedder=self.embedder,
            nouns=self.material.nouns,
            seed=seed,
        )

    def _examples(self) -> set[str]:
        """Return the images that the report names."""
        found = {path for cluster in self.clusters for path in cluster["samples"]}
        for gap in self.gaps:
            found |= {path for side in (gap.witness or {}).values() for path in side}
        return found


def _shown(rows: Sequence[Mapping[str, Any]], examples: set[str], seed: int) -> list[int]:
    """Choose the rows that the map shows: SHOWN a class and side, at random, and the examples."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row["class"], row["stage"]), []).append(i)
    chosen = {i for i, row in enumerate(rows) if row["path"] in examples}
    for key, members in groups.items():
        chosen.update(random.Random(f"{seed}/{key}").sample(members, min(SHOWN, len(members))))
    return sorted(chosen)
