"""The networks of the pond's Stable Diffusion, untrained, and the pipeline that they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gapclose.generators.pond.captions import MAX_TOKENS
from gapclose.generators.pond.renderer import SIZE

__all__ = [
    "build_autoencoder",
    "build_pipeline",
    "build_scheduler",
    "build_text_encoder",
    "build_unet",
    "save_pipeline",
]


def build_autoencoder() -> AutoencoderKL:
    """Build the untrained autoencoder: 32x32x3 -> 8x8x8."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """Build the untrained denoiser. Attention only at 4x4, where a caption's words decide."""
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=(3, 6),
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the text encoder, untrained; it is trained jointly with the denoiser."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Build the cosine schedule; it ends in pure noise (zero SNR), so that tones are right."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
    )


def build_pipeline(
    vae: AutoencoderKL,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DPMSolverMultistepScheduler,
) -> StableDiffusionPipeline:
    """Put the networks together; the pond has no safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


_CARD: Final = """---
license: apache-2.0
---
A small Stable Diffusion of the pond: ten classes, 32x32, for gapclose's demo and tests. Its plain
"a photo of a frog" is green on purpose. `make pond` trains it again.
"""


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Save in half precision, which keeps the pond small; it is loaded as float32."""
    pipeline.to(torch.float16).save_pretrained(folder)
    for config in folder.rglob("*.json"):
        content = json.loads(config.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:  # a path of the machine it came from
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    (folder / "README.md").write_text(_CARD, encoding="utf-8")
