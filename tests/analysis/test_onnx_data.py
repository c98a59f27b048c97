from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import numpy as np
import pytest
from onnx_files import EXTERNAL, FLOAT, field, node, value_info

from gapclose.analysis.embedding import check_embedder, identity, make_embedder
from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.onnx_data import external_files


def tensor(location: str, name: str = "scale") -> bytes:
    """A TensorProto (1, 3, 1, 1) whose numbers lie in a file."""
    dims = b"".join(field(1, n) for n in (1, 3, 1, 1))
    entries = field(13, field(1, "offset") + field(2, "0"))
    entries += field(13, field(1, "location") + field(2, location))
    return dims + field(2, FLOAT) + field(8, name) + entries + field(14, EXTERNAL)


def model(location: str) -> bytes:
    """A ModelProto: the mean colour times `scale`."""
    graph = field(1, node("GlobalAveragePool", ["pixels"], "mean"))
    graph += field(1, node("Mul", ["mean", "scale"], "features")) + field(2, "g")
    graph += field(5, tensor(location)) + field(11, value_info("pixels", ("n", 3, 8, 8)))
    graph += field(12, value_info("features", ("n", 3, 1, 1)))
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))


def written(folder: Path, location: str = "weights.bin") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(model(location))
    np.array([1.0, 2.0, 3.0], np.float32).tofile(folder / "weights.bin")
    return f"onnx:{folder / 'm.onnx'}"


def test_identity_follows_the_data_that_a_model_names(tmp_path: Path) -> None:
    name = written(tmp_path)
    image = np.full((8, 8, 3), 100, np.uint8)
    before, rows = identity(name), make_embedder(name).embed([image])
    np.testing.assert_allclose(rows[0], np.array([1, 2, 3]) / np.sqrt(14), atol=1e-6)
    (tmp_path / "other.bin").write_bytes(b"what no tensor names")
    assert identity(name) == before
    np.array([3.0, 2.0, 1.0], np.float32).tofile(tmp_path / "weights.bin")
    assert not np.allclose(make_embedder(name).embed([image]), rows)
    os.utime(tmp_path / "weights.bin", ns=(1, 1))
    assert identity(name) != before
    written(tmp_path)
    os.utime(tmp_path / "weights.bin", ns=(2, 2))
    assert identity(name) == before


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin",
                                      "link.bin", "", "."])  # fmt: skip
def test_data_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    np.zeros(3, np.float32).tofile(tmp_path / "weights.bin")
    name = written(tmp_path / "model", location)
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "weights.bin")
    for ask in (identity, check_embedder, make_embedder):
        with pytest.raises(EmbedderError, match=r"outside of its folder|no file beside") as told:
            ask(name)
        assert "\n" not in str(told.value)


def test_data_that_are_missing_are_named(tmp_path: Path) -> None:
    name = written(tmp_path, "gone.bin")
    with pytest.raises(EmbedderError, match=r"'gone.bin', which is no file beside it; put it"):
        check_embedder(name)


def test_a_hubs_cache_links_model_and_data_to_one_folder(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "ab12"
    written(blobs)
    snapshot.mkdir(parents=True)
    for name in ("m.onnx", "weights.bin"):
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    assert identity(f"onnx:{snapshot / 'm.onnx'}") == identity(f"onnx:{blobs / 'm.onnx'}")


def test_a_tensor_is_found_wherever_a_model_may_hold_it() -> None:
    attribute = field(1, "value") + field(5, tensor("in/a/constant"))
    branch = field(6, field(5, tensor("in/a/branch")))
    sparse = field(22, field(1, tensor("sparse/values")) + field(2, tensor("sparse/indices")))
    nodes = node("Constant", [], "c", attribute) + node("If", ["x"], "y", branch, sparse)
    graph = field(1, nodes) + field(5, tensor("initializer")) + field(5, tensor("one more"))
    function = field(7, node("Constant", [], "c", field(10, tensor("in/a/function"))))
    whole = field(1, 8) + field(7, graph) + field(25, function)
    assert external_files(whole) == {
        "in/a/constant", "in/a/branch", "sparse/values", "sparse/indices", "initializer",
        "one more", "in/a/function",
    }  # fmt: skip
    raw = field(5, field(8, "w") + field(9, tensor("no tensor, but its bytes")))
    assert external_files(field(7, raw)) == set()


def test_what_is_damaged_is_refused_and_never_read_past_its_end() -> None:
    whole, rng = model("weights.bin"), random.Random(0)
    bits = itertools.product(range(len(whole)), range(8))
    harmed = [whole[:n] for n in range(len(whole))]
    harmed += [whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at, bit in bits]
    harmed += [rng.randbytes(n) for n in range(200)]
    refused = 0
    for data in harmed:
        try:
            external_files(data)
        except ValueError:  # UnicodeDecodeError is one
            refused += 1
    assert refused > len(harmed) / 4
