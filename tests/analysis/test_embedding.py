"""Names of embedders: what is refused, in which words, and what an identity depends on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gapclose.analysis.embedding import check_embedder, identity, is_code, make_embedder, unit_rows
from gapclose.analysis.errors import EmbedderError


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, and nothing in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("pnd", "did you mean 'pond'"),
        ("pond_judge", "did you mean 'pond-judge'"),
        ("open-clip:ViT-B-32/openai", "did you mean 'open_clip:ViT-B-32/openai'"),
        ("transformer:facebook/dinov2-base", "did you mean 'transformers:facebook/dinov2-base'"),
        ("open_clip:ViT-B32/laion2b_s34b_b79k", "did you mean 'open_clip:ViT-B-32/"),
        ("open_clip:ViT-B-32/laion2b_s34b", "did you mean 'open_clip:ViT-B-32/laion2b_s34b_b79k'"),
        ("open_clip:ViT-B-32", "did you mean 'open_clip:ViT-B-32/"),
        ("open_clip:", "write open_clip:NAME/TAG"),
        ("onnx:", "write onnx:PATH"),
        ("models/encoder.onnx", "did you mean 'onnx:models/encoder.onnx'"),
        ("onnx:nowhere/a.onnx", "nowhere/a.onnx does not exist; give the path"),
        ("open_clip:local-dir:nowhere", "nowhere does not exist; give the model's folder"),
        ("transformers:./nowhere", "nowhere does not exist; give the model's folder"),
        ("no.such.module:Thing", "no module no.such.module"),
        ("", "did you mean"),
    ],
)
def test_refusals_name_the_culprit_and_the_remedy_in_one_line(name: str, remedy: str) -> None:
    for ask in (check_embedder, identity, make_embedder):
        with pytest.raises(EmbedderError) as caught:
            ask(name)
        assert remedy in str(caught.value)
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip:local-dir:PATH"),
        ("transformers:facebook/dinov2-base", "transformers:PATH"),
    ],
)
def test_a_hub_out_of_reach_says_how_to_use_a_folder(name: str, remedy: str) -> None:
    with pytest.raises(EmbedderError, match="the model hub cannot be reached") as caught:
        check_embedder(name)
    assert str(caught.value).endswith(remedy)


@pytest.mark.usefixtures("offline")
def test_a_hub_model_in_the_cache_needs_no_hub(tmp_path: Path, resnet_folder: Path) -> None:
    """Laid out as the hub's client does it: snapshots of links to blobs named by their etag."""
    repo = tmp_path / "hub" / "models--some--resnet"
    snapshot = repo / "snapshots" / "abc"
    for folder in (repo / "refs", repo / "blobs", snapshot):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    for i, name in enumerate(("config.json", "preprocessor_config.json", "model.safetensors")):
        shutil.copy(resnet_folder / name, repo / "blobs" / f"etag{i}")
        (snapshot / name).symlink_to(repo / "blobs" / f"etag{i}")
    check_embedder("transformers:some/resnet")
    before = identity("transformers:some/resnet")
    (snapshot / "model.safetensors").unlink()
    (repo / "blobs" / "etag9").write_bytes(b"other weights")
    (snapshot / "model.safetensors").symlink_to(repo / "blobs" / "etag9")
    assert identity("transformers:some/resnet") != before
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(EmbedderError, match="cannot be reached"):
        check_embedder("transformers:some/resnet")


def test_a_bare_model_folder_is_recognised(clip_folder: Path, resnet_folder: Path) -> None:
    with pytest.raises(EmbedderError, match="did you mean 'open_clip:local-dir:"):
        check_embedder(str(clip_folder))
    with pytest.raises(EmbedderError, match="did you mean 'transformers:"):
        check_embedder(str(resnet_folder))


@pytest.mark.parametrize("pickle", ["open_clip_pytorch_model.bin", "weights.pt"])
def test_pickled_clip_weights_are_refused(tmp_path: Path, clip_folder: Path, pickle: str) -> None:
    shutil.copytree(clip_folder, tmp_path / "m")
    weights = tmp_path / "m" / "open_clip_model.safetensors"
    name = f"open_clip:local-dir:{tmp_path / 'm'}"
    (tmp_path / "m" / pickle).write_bytes(b"pickled")
    check_embedder(name)  # open_clip takes the safe one of the two
    make_embedder(name, device="cpu")
    weights.rename(weights.with_name("other.safetensors"))  # now it would take the pickle
    with pytest.raises(EmbedderError, match=f"{pickle}; pickled weights are refused"):
        make_embedder(name)
    (tmp_path / "m" / "other.safetensors").unlink()
    with pytest.raises(EmbedderError, match="pickled weights are refused"):
        check_embedder(name)


def test_pickled_transformers_weights_are_refused(tmp_path: Path, resnet_folder: Path) -> None:
    shutil.copytree(resnet_folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(EmbedderError, match=r"pytorch_model.bin; pickled weights are refused"):
        check_embedder(f"transformers:{tmp_path / 'm'}")


def test_folders_that_lack_a_part(tmp_path: Path, resnet_folder: Path) -> None:
    with pytest.raises(EmbedderError, match=r"has no open_clip_config.json"):
        check_embedder(f"open_clip:local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(EmbedderError, match=r"open_clip_config.json is damaged"):
        check_embedder(f"open_clip:local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(EmbedderError, match="has no model_cfg"):
        check_embedder(f"open_clip:local-dir:{tmp_path}")
    shutil.copytree(resnet_folder, tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").unlink()
    with pytest.raises(EmbedderError, match=r"has no preprocessor_config.json"):
        check_embedder(f"transformers:{tmp_path / 'm'}")


def test_a_graph_without_the_agreed_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"input pixels, output logits")
    with pytest.raises(EmbedderError, match="names no features; export it with"):
        check_embedder(f"onnx:{tmp_path / 'a.onnx'}")
    (tmp_path / "b.onnx").touch()
    with pytest.raises(EmbedderError, match="is empty"):
        check_embedder(f"onnx:{tmp_path / 'b.onnx'}")


def test_identity_follows_content_and_not_the_path(tmp_path: Path, clip_folder: Path) -> None:
    def named(folder: Path) -> str:
        return identity(f"open_clip:local-dir:{folder}")

    copy = tmp_path / "copy"
    shutil.copytree(clip_folder, copy)
    assert named(copy) == named(clip_folder)
    # The transform is part of it: open_clip's default for a bare file is open_clip#1068.
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.4, 0.4, 0.4]
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    other_transform = named(copy)
    assert other_transform != named(clip_folder)
    weights = bytearray((copy / "open_clip_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "open_clip_model.safetensors").write_bytes(bytes(weights))
    assert named(copy) not in (other_transform, named(clip_folder))


def test_every_clip_name_of_open_clip_is_known() -> None:
    """The table is read without importing open_clip; it must say what open_clip says."""
    import open_clip

    from gapclose.analysis.weights import find_tag

    known = refused = 0
    for architecture, tag in open_clip.list_pretrained():
        repo, _, filename = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].rpartition(
            "/"
        )
        if not repo or filename.endswith(".pt"):
            with pytest.raises(EmbedderError, match="only pickled"):
                find_tag("name", f"{architecture}/{tag}")
            refused += 1
            continue
        tagged = find_tag("name", f"{architecture}/{tag}")
        known += 1
        assert tagged.hub.repo == repo
        assert tagged.filename.endswith(".safetensors")
    assert known > 100
    assert refused < 20


def test_names_of_code() -> None:
    assert is_code("my.package:Class")
    assert not is_code("transformers:PATH")
    assert not is_code("open_clip:local-dir:a.b:C")
    with pytest.raises(EmbedderError, match="has no class Nothing"):
        make_embedder("json.decoder:Nothing")


def test_a_class_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_embedders").mkdir()
    source = tmp_path / "own_embedders" / "mean.py"
    source.write_text(
        "class Mean:\n    id, width = 'own_embedders.mean:Mean', 3\n"
        "    def __init__(self, *, device): self.device = device\n"
        "    def embed(self, images):\n"
        "        rows = [i.mean((0, 1)) + 1 for i in images]\n"
        "        return [row / (row @ row) ** 0.5 for row in rows]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = identity("own_embedders.mean:Mean")
    assert make_embedder("own_embedders.mean:Mean", device="cpu").width == 3
    source.write_text(source.read_text() + "# changed\n")
    assert identity("own_embedders.mean:Mean") != before


def test_unit_rows() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)
    odd = unit_rows(np.array([[np.nan, 1.0], [np.inf, 1.0], [0.0, 2.0]]))
    assert np.isnan(odd[:2]).all()
    assert odd[2].tolist() == [0.0, 1.0]


def test_checking_a_name_imports_no_heavy_package(clip_folder: Path, resnet_folder: Path) -> None:
    names = [
        f"open_clip:local-dir:{clip_folder}",
        f"transformers:{resnet_folder}",
        "open_clip:ViT-B-32/wrong",
    ]
    heavy = "torch open_clip transformers onnxruntime torchvision timm sklearn"
    code = f"""
import sys
from gapclose.analysis.embedding import check_embedder, identity
from gapclose.analysis.errors import EmbedderError
for name in {names!r}:
    try:
        check_embedder(name); identity(name)
    except EmbedderError:
        pass
sys.exit(' '.join(m for m in {heavy!r}.split() if m in sys.modules) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
