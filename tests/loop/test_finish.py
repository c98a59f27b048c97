"""The map beside the samples it is of."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from gapclose.loop.finish import write_map

sys.path.insert(0, str(Path(__file__).parent))
import modes
from make_run import make_run


@pytest.mark.parametrize("dies", ["finish.fit_umap", "rundir.RunDir.write_samples"])
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
        assert of[1].exists() == (dies == "finish.fit_umap")
    write()
    assert [path.read_bytes() for path in of] == old
