"""What each kind of embedder promises besides the contract."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.embedding import TextEmbedder, make_embedder
from gapclose.analysis.errors import EmbedderError


def pictures(rng: np.random.Generator, n: int, *shape: int) -> list[NDArray[np.uint8]]:
    """Random blocks of colour, so that resizing leaves something to see."""
    height, width = shape
    small = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return [np.kron(s, np.ones((height // 4, width // 4, 1), np.uint8)) for s in small]


def test_clip_rows_are_those_of_open_clip_itself(
    clip_folder: Path, rng: np.random.Generator
) -> None:
    import open_clip
    import torch
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    model.eval()
    images = pictures(rng, 2, 32, 32) + pictures(rng, 2, 64, 96)
    with torch.no_grad():
        batch = torch.stack([transform(Image.fromarray(image)) for image in images])
        expected = torch.nn.functional.normalize(model.encode_image(batch)).numpy()
        text = open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["a frog"])
        expected_text = torch.nn.functional.normalize(model.encode_text(text)).numpy()
    ours = make_embedder(f"open_clip:local-dir:{clip_folder}", device="cpu")
    assert isinstance(ours, TextEmbedder)
    np.testing.assert_allclose(ours.embed(images), expected, atol=1e-5)
    np.testing.assert_allclose(ours.embed_text(["a frog"]), expected_text, atol=1e-5)


def test_a_pooler_without_weights_is_not_used(vit_folder: Path, rng: np.random.Generator) -> None:
    """Transformers fills it in at random: rows would differ from one loading to the next."""
    import torch

    images = pictures(rng, 3, 32, 32)
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        rows.append(make_embedder(f"transformers:{vit_folder}", device="cpu").embed(images))
    np.testing.assert_array_equal(rows[0], rows[1])


def test_of_two_towers_the_image_features_are_taken(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    tower["num_attention_heads"] = 2
    config = CLIPConfig(
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        text_config={**tower, "vocab_size": 50},
        projection_dim=12,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path)
    embedder = make_embedder(f"transformers:{tmp_path}", device="cpu")
    assert embedder.width == 12  # the shared space, not the tower's 16
    assert embedder.embed(pictures(rng, 2, 32, 64)).shape == (2, 12)


def test_half_precision_weights_are_computed_in_single(
    tmp_path: Path, resnet_folder: Path
) -> None:
    import torch
    from transformers import AutoImageProcessor, ResNetModel

    ResNetModel.from_pretrained(resnet_folder, dtype=torch.float16).save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(resnet_folder).save_pretrained(tmp_path)
    half = make_embedder(f"transformers:{tmp_path}", device="cpu")
    whole = make_embedder(f"transformers:{resnet_folder}", device="cpu")
    image = [np.full((32, 32, 3), 90, np.uint8)]
    np.testing.assert_allclose(half.embed(image), whole.embed(image), atol=5e-3)


def test_weights_that_lack_tensors_are_refused(tmp_path: Path, resnet_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((resnet_folder / name).read_bytes())
    weights = load_file(resnet_folder / "model.safetensors")
    weights.pop(next(key for key in weights if "encoder" in key and key.endswith("weight")))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbedderError, match="lack 1 tensors"):
        make_embedder(f"transformers:{tmp_path}", device="cpu")


def test_a_graph_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"pixels features but no graph")
    with pytest.raises(EmbedderError, match="not an ONNX graph") as caught:
        make_embedder(f"onnx:{path}")
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_refused(clip_folder: Path) -> None:
    with pytest.raises(EmbedderError, match="'gpu7': not on this machine"):
        make_embedder(f"open_clip:local-dir:{clip_folder}", device="gpu7")


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the code of a checkpoint would make; whoever is asked whether it may run says yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return tmp_path / "ran"


def edit(file: Path, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_code(folder: Path, ran: Path, *, of: str) -> Path:
    """Put code into a checkpoint, for its tokenizer, its model or its image processor."""
    folder.mkdir(exist_ok=True)
    touch = f"open({str(ran)!r}, 'w').close()\n"
    (folder / "own.py").write_text(touch + "class Own: pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(touch)
    auto = {
        "tokenizer_config.json": {
            "tokenizer_class": "Own",
            "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]},
        },
        "config.json": {
            "model_type": "of_my_own",
            "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"},
        },
        "preprocessor_config.json": {
            "image_processor_type": "Own",
            "auto_map": {"AutoImageProcessor": "own.Own"},
        },
    }
    file = folder / of
    if not file.exists():
        file.write_text("{}")
    edit(file, **auto[of])
    return folder


def words_of(name: str) -> NDArray[np.float32]:
    """Load an embedder, and its tokenizer with the first words."""
    embedder = make_embedder(name, device="cpu")
    assert isinstance(embedder, TextEmbedder)
    return embedder.embed_text(["a frog"])


@pytest.mark.parametrize("which", ["tokenizer", "text tower", "both", "as the folder wants it"])
def test_code_of_a_text_tower_is_never_run_nor_asked_about(
    clip_folder: Path, tmp_path: Path, ran: Path, which: str
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    write_code(folder, ran, of="tokenizer_config.json")
    tower = write_code(tmp_path / "tower", ran, of="config.json")
    model = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    model["text_cfg"] |= {
        "tokenizer": {"hf_tokenizer_name": "here"},
        "text tower": {"hf_model_name": str(tower)},
        "both": {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower)},
        "as the folder wants it": {
            "hf_tokenizer_name": "here",
            "tokenizer_kwargs": {"trust_remote_code": True},
        },
    }[which]
    edit(folder / "open_clip_config.json", model_cfg=model)
    says = "trust_remote_code" if "wants" in which else "needs code of its own, which is not run"
    with pytest.raises(EmbedderError, match=says) as told:
        words_of(f"open_clip:local-dir:{folder}")
    assert len(str(told.value).splitlines()) == 1
    assert not ran.exists()


@pytest.mark.parametrize("of", ["config.json", "preprocessor_config.json"])
def test_code_of_a_vision_model_is_never_run_nor_asked_about(
    resnet_folder: Path, tmp_path: Path, ran: Path, of: str
) -> None:
    folder = tmp_path / "resnet"
    shutil.copytree(resnet_folder, folder)
    write_code(folder, ran, of=of)
    with pytest.raises(EmbedderError, match="needs code of its own, which is not run") as told:
        make_embedder(f"transformers:{folder}", device="cpu")
    assert len(str(told.value).splitlines()) == 1
    assert not ran.exists()


def test_what_is_asked_elsewhere_is_asked_as_before(clip_folder: Path) -> None:
    from transformers import dynamic_module_utils

    seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    make_embedder(f"open_clip:local-dir:{clip_folder}", device="cpu")
    assert dynamic_module_utils.TIME_OUT_REMOTE_CODE == seconds > 0


def test_a_configuration_that_names_anything_is_refused_in_one_line(
    clip_folder: Path, tmp_path: Path
) -> None:
    for number, changes in enumerate(
        ({"vision_cfg": []}, {"embed_dim": "wide"}, {"text_cfg": None}, {"strange": 1})
    ):
        folder = tmp_path / str(number)
        shutil.copytree(clip_folder, folder)
        model = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
        edit(folder / "open_clip_config.json", model_cfg=model | changes)
        with pytest.raises(EmbedderError, match="cannot be loaded: ") as told:
            make_embedder(f"open_clip:local-dir:{folder}", device="cpu")
        assert len(str(told.value).splitlines()) == 1
