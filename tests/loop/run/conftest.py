from __future__ import annotations

from pathlib import Path

import pytest
from pond_config import pond_config

from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return create_run(tmp_path / "runs" / "r", pond_config())
