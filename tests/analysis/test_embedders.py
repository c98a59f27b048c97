"""The contract of every embedder, and what each kind promises besides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.embedding import (
    SHIPPED,
    Embedder,
    EmbedderError,
    TextEmbedder,
    make_embedder,
)

KINDS = ("clip", "resnet", "vit", "onnx", "pond", "pond-judge")


@pytest.fixture(scope="module", params=KINDS)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    """One embedder of each kind."""
    kind = request.param
    if kind in SHIPPED:
        if not Path(SHIPPED[kind].rpartition(":")[2]).is_dir():
            pytest.skip(f"the weights of {kind} are not trained yet")
        return make_embedder(kind, device="cpu")
    if kind == "onnx":
        return make_embedder(f"onnx:{request.getfixturevalue('resnet56')}", device="cpu")
    folder = request.getfixturevalue(f"{kind}_folder")
    prefix = "open_clip:local-dir" if kind == "clip" else "transformers"
    return make_embedder(f"{prefix}:{folder}", device="cpu")


def pictures(rng: np.random.Generator, n: int, *shape: int) -> list[NDArray[np.uint8]]:
    """Random blocks of colour, so that resizing leaves something to see."""
    height, width = shape
    small = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return [np.kron(s, np.ones((height // 4, width // 4, 1), np.uint8)) for s in small]


def test_rows_are_float32_unit_and_as_wide_as_said(
    embedder: Embedder, rng: np.random.Generator
) -> None:
    rows = embedder.embed(pictures(rng, 5, 32, 32))
    assert isinstance(embedder, Embedder)
    assert rows.dtype == np.float32
    assert rows.shape == (5, embedder.width)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert embedder.embed([]).shape == (0, embedder.width)


def test_a_row_does_not_depend_on_batch_or_order(
    embedder: Embedder, rng: np.random.Generator
) -> None:
    images = pictures(rng, 67, 32, 32) + pictures(rng, 2, 48, 64)
    together = embedder.embed(images)
    alone = np.concatenate([embedder.embed([image]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(embedder.embed(images[::-1])[::-1], together, atol=1e-4)
    assert np.linalg.matrix_rank(together) > 3  # different images, different rows


def test_no_global_random_state_and_no_change_of_the_input(
    embedder: Embedder, rng: np.random.Generator
) -> None:
    import torch

    images = pictures(rng, 3, 40, 32)
    before = [image.copy() for image in images]
    state = torch.random.get_rng_state()
    first, second = embedder.embed(images), embedder.embed(images)
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.stack(images), np.stack(before))


def test_resizing_is_antialiased(embedder: Embedder) -> None:
    """A fine checkerboard of dark and light, seen from afar, is the grey between them."""
    board = np.where(np.indices((512, 512)).sum(axis=0) % 2, 240, 110).astype(np.uint8)
    fine = np.repeat(board[:, :, None], 3, axis=2)
    row, dark, between, light = embedder.embed(
        [fine, *(np.full_like(fine, value) for value in (110, 175, 240))]
    )
    assert row @ between > 0.99
    assert row @ between >= max(row @ dark, row @ light) - 1e-5  # some see no brightness


def test_words_live_in_the_same_space(embedder: Embedder) -> None:
    if not isinstance(embedder, TextEmbedder):
        pytest.skip("knows no words")
    words = embedder.embed_text(["a photo of a frog", "a ship", "a photo of a frog " * 50])
    assert words.shape == (3, embedder.width)
    assert words.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_text(["a ship"])[0], words[1], atol=1e-4)


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
