"""A convolutional network with random weights, as transformers saves one: a judge that costs
nothing. What nobody trained nobody can have trained against, and it sees texture and noise.
"""

from __future__ import annotations

from pathlib import Path


def write_random_encoder(folder: Path, *, width: int = 32, seed: int = 0) -> str:
    """Write a ResNet of two stages for 32 x 32 images, and return its name as an embedder."""
    import torch
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = ResNetConfig(
            embedding_size=width,
            hidden_sizes=[width, 2 * width],
            depths=[1, 1],
            layer_type="basic",
        )
        ResNetModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"transformers:{folder}"
