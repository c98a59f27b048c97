"""Small models of each kind, made once, and folders of images."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(os.environ.get("GAPCLOSE_SHARED", Path(__file__).parents[2].parent / "shared"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache of whoever runs it."""
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A random generator that every run seeds alike."""
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of two layers in open_clip's own format."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    model = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "head_width": 16,
            "layers": 2,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}
    config = {"model_cfg": model, "preprocess_cfg": {**preprocess, "resize_mode": "shortest"}}
    torch.manual_seed(0)
    weights = open_clip.model.CLIP(**model).state_dict()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(
        {k: v.contiguous() for k, v in weights.items()}, folder / "open_clip_model.safetensors"
    )
    return folder


@pytest.fixture(scope="session")
def resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ResNet with its image processor, as transformers saves them."""
    import torch
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ViT whose checkpoint lacks the pooler, as DINO's does."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def resnet56() -> Path:
    """The ResNet-56 that lies beside the project."""
    path = SHARED / "encoders" / "cifar-resnet56.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set GAPCLOSE_SHARED")
    return path


@pytest.fixture(scope="session")
def captioner_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random image-to-text models by kind: two classic ones, and one that chats."""
    import tiny_captioners

    folder = tmp_path_factory.mktemp("captioners")
    tiny_captioners.save_blip(folder / "blip")
    tiny_captioners.save_encoder_decoder(folder / "encoder-decoder")
    tiny_captioners.save_chat(folder / "chat")
    return {path.name: path for path in folder.iterdir()}
