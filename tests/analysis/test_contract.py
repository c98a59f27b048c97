"""Every embedder that ships keeps the contract, in the suite that ships for others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gapclose.analysis.embedding import SHIPPED, Embedder, make_embedder
from gapclose.analysis.spectrum import Spectrum
from gapclose.analysis.testing import EmbedderContract, Make

KINDS = ("clip", "resnet", "vit", "onnx", "pond", "pond-judge")


@pytest.fixture(scope="module", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of one embedder of each kind."""
    kind = str(request.param)
    if kind in SHIPPED:
        if not Path(SHIPPED[kind].rpartition(":")[2]).is_dir():
            pytest.skip(f"the weights of {kind} are not trained yet")
        return kind
    if kind == "onnx":
        return f"onnx:{request.getfixturevalue('resnet56')}"
    folder = request.getfixturevalue(f"{kind}_folder")
    return f"open_clip:local-dir:{folder}" if kind == "clip" else f"transformers:{folder}"


@pytest.fixture(scope="module")
def loaded(name: str) -> Embedder:
    return make_embedder(name, device="cpu")


class TestEmbedder(EmbedderContract):
    @pytest.fixture
    def make(self, name: str) -> Make:
        return lambda: make_embedder(name, device="cpu")

    @pytest.fixture
    def embedder(self, loaded: Embedder) -> Embedder:
        return loaded

    def test_its_id_is_its_name(self, embedder: Embedder, name: str) -> None:
        assert embedder.id == name


class TestSpectrum(EmbedderContract):
    """Power spectra are cached as an embedder's rows are, in units of their own."""

    @pytest.fixture
    def make(self) -> Make:
        return Spectrum

    def test_rows_are_float32_unit_and_as_wide_as_said(self, embedder: Embedder) -> None:
        rows = embedder.embed([np.full((32, 32, 3), 90, np.uint8)] * 5)
        assert rows.dtype == np.float32
        assert rows.shape == (5, embedder.width)

    def test_resizing_is_antialiased(self, embedder: Embedder) -> None:
        pytest.skip("it resizes nothing: a spectrum is taken at the image's own resolution")
