"""What tests of whole runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapclose.generators.pond.renderer import write_real


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred real frogs and as many ships, for one file of tests."""
    folder = tmp_path_factory.mktemp("photos")
    write_real(folder, per_class=100, classes=("frog", "ship"))
    return folder
