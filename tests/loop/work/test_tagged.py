from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_run import make_run
from safetensors.numpy import save_file

from gapclose.analysis.kernel import Kernel
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.tags import GAP, write_tags
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.tagged import selections


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two classes with images of every side, whose embeddings are their rows' numbers."""
    run = make_run(tmp_path / "run", classes=("frog", "ship"), per_class=6)
    numbered = np.arange(len(run.samples()), dtype=np.float32)[:, None]
    save_file({"embeddings": numbered}, run.embeddings_path("samples"))
    return run


@pytest.fixture
def real() -> dict[str, ClassReference]:
    fold = Fold(paths=(), photos=(), rows=np.full((3, 1), -1.0, dtype=np.float32), judge_rows=None)
    kernel = Kernel.fit(np.eye(3, dtype=np.float32))
    return {
        name: ClassReference(name=name, tune=fold, folds=(fold,), kernel=kernel, judge_kernel=None)
        for name in ("frog", "ship")
    }


def rows_where(run: RunDir, **wanted: str) -> list[int]:
    return [
        i
        for i, row in enumerate(run.samples())
        if all(row[key] == value for key, value in wanted.items())
    ]


def test_real_images_that_are_tagged_are_what_is_missing(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    tagged = rows_where(run, **{"class": "frog"}, side="real")[:2]
    write_tags(run, {run.samples()[i]["path"]: [GAP] for i in tagged})
    (selection,) = selections(run, real)
    assert (selection.cls, selection.images) == ("frog", 2)
    assert selection.wanted[:, 0].tolist() == tagged
    assert selection.unwanted[:, 0].tolist() == rows_where(run, **{"class": "frog"}, stage="tuned")


def test_of_an_audit_the_baselines_images_are_those_it_makes(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    audited = [row for row in run.samples() if row["stage"] != "tuned"]
    run.write_samples(audited)
    rows = np.arange(2 * len(audited), dtype=np.float32).reshape(-1, 2)
    save_file({"embeddings": rows}, run.embeddings_path("samples"))
    tagged = rows_where(run, **{"class": "frog"}, side="real")[:2]
    assert [audited[i]["split"] for i in tagged] == ["tune", "confirm"]
    write_tags(run, {audited[i]["path"]: [GAP] for i in tagged})
    (selection,) = selections(run, real)
    assert selection.images == 2
    # What is to confirm the class does not choose what is tried.
    assert np.array_equal(selection.wanted, rows[tagged[:1]])
    made = rows_where(run, **{"class": "frog"}, stage="baseline")
    assert made
    assert np.array_equal(selection.unwanted, rows[made])


def test_synthetic_images_that_are_tagged_are_too_many(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    tagged = rows_where(run, **{"class": "ship"}, side="synthetic")[:3]
    write_tags(run, {run.samples()[i]["path"]: [GAP] for i in tagged})
    (selection,) = selections(run, real)
    assert selection.cls == "ship"
    assert selection.unwanted[:, 0].tolist() == tagged
    assert np.array_equal(selection.wanted, real["ship"].tune.rows)


def test_nothing_is_selected_where_nothing_is_tagged_or_shown(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    assert list(selections(run, real)) == []
    write_tags(run, {run.samples()[0]["path"]: [GAP]})
    save_file({"embeddings": np.zeros((1, 1), np.float32)}, run.embeddings_path("samples"))
    assert list(selections(run, real)) == []  # of another set of samples
    run.embeddings_path("samples").unlink()
    assert list(selections(run, real)) == []
