"""Pictures as prompts through the pond's own pipeline: copies are caught, sources are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pond_config import pond_config
from rig import quick

from gapclose.loop.export import export
from gapclose.loop.run.events import FoldOpened, TrialFinished, TrialProposed
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_journal, read_journal
from gapclose.loop.tuning import tune


@pytest.mark.slow
def test_copies_are_caught_and_every_source_is_of_the_tune_split(tmp_path: Path) -> None:
    config = pond_config(
        real={"kind": "pond", "per_class": 120},
        classes=["frog"],
        judge=None,
        space={"prompt": "a photo of a {class}", "strength": [0.1, 0.5, 0.95]},
        baseline={"guidance_scale": 2.0, "num_inference_steps": 6},
        tune={"budget": None, "trials": 10, "images_per_trial": 8},
        confirm={"images": 24},
    )
    with quick():
        run = RunDir.open(tune(config, out=tmp_path / "run").path)
    events = [*read_journal(run.journal_path)]
    jobs = {e.number: e.jobs for e in events if isinstance(e, TrialProposed)}
    shares: dict[float, list[bool]] = {}
    for event in events:
        if isinstance(event, TrialFinished):
            for job in jobs[event.number]:
                strength = job.recipe["draw"].get("strength")
                if strength is not None:
                    shares.setdefault(strength, []).extend(s in event.copied for s in job.seeds)
    low = [copied for strength, found in shares.items() if strength < 0.2 for copied in found]
    assert sum(low) > 0.5 * len(low), "at a low strength most are copies"

    tuned = fold_journal(run.journal_path).photos["frog"]
    folds = {photo for e in events if isinstance(e, FoldOpened) for photo in e.photos}
    out = export(run.path, tmp_path / "out", per_class=30)
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    strengths = [row["recipe"]["draw"].get("strength") for row in rows]
    assert 0.1 not in strengths
    sourced = [row for row, strength in zip(rows, strengths, strict=True) if strength]
    assert sourced
    assert all((row["photo"] in tuned) and (row["photo"] not in folds) for row in sourced)
    assert all((run.real_path / row["photo_path"]).is_file() for row in sourced)
