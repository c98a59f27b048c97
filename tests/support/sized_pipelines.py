"""Pipelines of random weights in the sizes of known models, or tiny: nothing is downloaded.

`tests/benchmarks/gpu.py` measures them. Weights are drawn on the device that they are for, in the
precision that they are for: twelve billion of them take seconds on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tiny_parts import clip_tokenizer, ddim, euler, flow_euler, t5_tokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

__all__ = ["FAMILIES", "build"]


def build(name: str, *, device: str, dtype: torch.dtype, tiny: bool = False) -> Any:
    """Build one of `FAMILIES`, in evaluation mode.

    Args:
        name: Its key.
        device: What its weights are drawn on.
        dtype: Of all of its parts.
        tiny: Whether its widths are a few, to try the code on a CPU.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            parts = FAMILIES[name](tiny)
    finally:
        torch.set_default_dtype(before)
    kind = parts.pop("kind")
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False).to(device, dtype)
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _clip(kind: Any, tokenizer: Any, width: int, layers: int, heads: int) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _vae(tiny: bool, latents: int = 4, **options: Any) -> AutoencoderKL:
    widths = (8, 8, 8, 8) if tiny else (128, 256, 512, 512)
    return AutoencoderKL(
        latent_channels=latents,
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1 if tiny else 2,
        norm_num_groups=4 if tiny else 32,
        sample_size=512,
        **options,
    )


def _sd15(tiny: bool) -> dict[str, Any]:
    tokenizer = clip_tokenizer()
    width = 32 if tiny else 768
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 16) if tiny else (320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D",) * (1 if tiny else 3) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (1 if tiny else 3),
        layers_per_block=1 if tiny else 2,
        norm_num_groups=4 if tiny else 32,
        attention_head_dim=2 if tiny else 8,
        cross_attention_dim=width,
    )
    return {
        "kind": StableDiffusionPipeline,
        "vae": _vae(tiny),
        "text_encoder": _clip(CLIPTextModel, tokenizer, width, 1 if tiny else 12, width // 16),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": ddim(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _sdxl(tiny: bool) -> dict[str, Any]:
    tokenizer = clip_tokenizer()
    small, large = (16, 32) if tiny else (768, 1280)
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(8, 16, 16) if tiny else (320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1 if tiny else 2,
        norm_num_groups=4 if tiny else 32,
        transformer_layers_per_block=(1, 1, 2) if tiny else (1, 2, 10),
        attention_head_dim=(1, 2, 2) if tiny else (5, 10, 20),
        cross_attention_dim=small + large,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8 if tiny else 256,
        projection_class_embeddings_input_dim=6 * (8 if tiny else 256) + large,
    )
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    return {
        "kind": StableDiffusionXLPipeline,
        "vae": _vae(tiny),
        "text_encoder": _clip(kinds[0], tokenizer, small, 2 if tiny else 12, 2 if tiny else 12),
        "text_encoder_2": _clip(kinds[1], tokenizer, large, 2 if tiny else 32, 2 if tiny else 20),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "unet": unet,
        "scheduler": euler(),
        "add_watermarker": False,
    }


def _flux(tiny: bool) -> dict[str, Any]:
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    small, large = (32, 32) if tiny else (768, 4096)
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1 if tiny else 19,
        num_single_layers=2 if tiny else 38,
        attention_head_dim=16 if tiny else 128,
        num_attention_heads=2 if tiny else 24,
        joint_attention_dim=large,
        pooled_projection_dim=small,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8) if tiny else (16, 56, 56),
    )
    words = T5Config(
        vocab_size=len(t5),
        d_model=large,
        d_kv=8 if tiny else 64,
        d_ff=2 * large if tiny else 10240,
        num_layers=1 if tiny else 24,
        num_heads=2 if tiny else 64,
        feed_forward_proj="gated-gelu",
    )
    return {
        "kind": FluxPipeline,
        "vae": _vae(
            tiny,
            16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.1159,
            scaling_factor=0.3611,
        ),
        "text_encoder": _clip(CLIPTextModel, clip, small, 1 if tiny else 12, 2 if tiny else 12),
        "tokenizer": clip,
        "text_encoder_2": T5EncoderModel(words),
        "tokenizer_2": t5,
        "transformer": transformer,
        "scheduler": flow_euler(shift=3.0, use_dynamic_shifting=True),
    }


FAMILIES: Final[dict[str, Callable[[bool], dict[str, Any]]]] = {
    "SD 1.5": _sd15,
    "SDXL": _sdxl,
    "Flux": _flux,
}
"""Name of a model -> the parts of a pipeline of its size."""
