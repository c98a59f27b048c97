"""The map beside the samples it is of."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import modes
import numpy as np
import pytest
from make_run import make_run

from gapclose.loop.report.page import write_report
from gapclose.loop.work.embedding_map import write_map


@pytest.mark.parametrize(
    "dies", ["work.embedding_map.fit_umap", "run.folder.RunDir.write_samples"]
)
def test_what_dies_halfway_leaves_no_map_of_other_images(tmp_path: Path, dies: str) -> None:
    run = make_run(tmp_path / "run", classes=("frog", "ship"), per_class=6)
    of = (run.path / "projection.safetensors", run.embeddings_path("samples"))
    rows = run.samples()[::-1]
    embeddings = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)

    def write() -> None:
        write_map(run, rows, embeddings, embedder=modes.Blind(), nouns={}, seed=0)

    write()
    old = [path.read_bytes() for path in of]
    with patch(f"gapclose.loop.{dies}", side_effect=KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            write()
        assert not of[0].exists()
        assert of[1].exists() == (dies == "work.embedding_map.fit_umap")
    write()
    assert [path.read_bytes() for path in of] == old


@pytest.mark.parametrize("what", ["the fit", "the import", "memory"])
def test_a_map_that_cannot_be_drawn_costs_nothing_else(
    tmp_path: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = make_run(tmp_path / "run", classes=("frog", "ship"), per_class=6)
    rows = run.samples()
    embeddings = np.random.default_rng(0).normal(size=(len(rows), 4)).astype(np.float32)
    if what == "the import":
        no_place = "cannot cache function 'rdist': no locator available for file 'layouts.py'"
        monkeypatch.setitem(sys.modules, "umap", None)  # as a failing import leaves it
        with patch("builtins.__import__", failing_import(no_place)):
            write_map(run, rows, embeddings, embedder=modes.Blind(), nouns={}, seed=0)
        assert no_place in caplog.text
    else:
        error = MemoryError() if what == "memory" else ValueError("no\nneighbours")
        with patch("gapclose.loop.work.embedding_map.fit_umap", side_effect=error):
            write_map(run, rows, embeddings, embedder=modes.Blind(), nouns={}, seed=0)
    (told,) = caplog.records
    assert told.getMessage().startswith("the map is left out: ")
    assert "\n" not in told.getMessage()
    assert not (run.path / "projection.safetensors").exists()
    assert len(run.samples()) == len(rows)
    assert run.embeddings_path("samples").is_file()
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "frog" in page


def failing_import(message: str) -> Any:
    real = builtins.__import__

    def importing(name: str, *args: Any, **options: Any) -> Any:
        if name == "umap":
            raise RuntimeError(message)
        return real(name, *args, **options)

    return importing
