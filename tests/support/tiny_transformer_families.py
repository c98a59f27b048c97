"""Text-to-image pipelines with a transformer, of tiny random weights, class name -> builder.

Every builder makes the pipeline in memory, always the same one: float32, on the CPU, its progress
bar off. Nothing is downloaded.

HeliosPipeline is not among them: it makes videos (`num_frames`, and its result has `frames`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import diffusers
import tiny_language_parts as language
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    CogVideoXDDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)

_CHANNELS: Final = 4
_PACKED: Final = 4 * _CHANNELS
_HEADS: Final = {"num_attention_heads": 2, "attention_head_dim": 16}
_AXES: Final = (8, 4, 4)


def _lively(module: Any) -> Any:
    """Draw every weight anew, so that none is zero and no layer's signal fades.

    Attention is made sharp and its values large: else a few words among hundreds of padding tokens
    would hardly matter.
    """
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() >= 2:
                gain = 3.0 if re.search(r"to_v|v_proj|kv_proj|qkv", name) else 1.0
                weight.normal_(std=gain / math.sqrt(weight[0].numel()))
            elif re.search(r"norm_(added_)?[qk]\b", name):
                weight.fill_(2.0)
            elif name.rsplit(".", 1)[-1] == "gate":
                weight.fill_(1.0)
            elif "pad_token" in name:
                weight.normal_()
    return module.eval()


def _loud(vae: Any) -> Any:
    """Raise an autoencoder's contrast: an untrained one decodes to near grey."""
    with torch.no_grad():
        for weight in vae.decoder.conv_out.parameters():
            weight.mul_(3.0)
    return vae.eval()


def _autoencoder(**options: Any) -> Any:
    """Build an autoencoder that shrinks a side to an eighth."""
    return _loud(
        AutoencoderKL(
            latent_channels=_CHANNELS,
            block_out_channels=(8,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            sample_size=64,
            force_upcast=False,
            **options,
        )
    )


def _autoencoder_dc() -> Any:
    """Build an autoencoder that shrinks a side to a thirty-second."""
    six: Any = ((),) * 6
    return _loud(
        AutoencoderDC(
            latent_channels=_CHANNELS,
            attention_head_dim=8,
            encoder_block_out_channels=(8,) * 6,
            decoder_block_out_channels=(8,) * 6,
            encoder_layers_per_block=(1,) * 6,
            decoder_layers_per_block=(1,) * 6,
            encoder_qkv_multiscales=six,
            decoder_qkv_multiscales=six,
            scaling_factor=0.41407,
        )
    )


def _autoencoder_flux2() -> Any:
    return _loud(
        AutoencoderKLFlux2(
            latent_channels=_CHANNELS,
            block_out_channels=(8,) * 4,
            layers_per_block=1,
            norm_num_groups=4,
            sample_size=64,
        )
    )


def _autoencoder_qwen() -> Any:
    return _loud(
        AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=_CHANNELS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * _CHANNELS,
            latents_std=[1.0] * _CHANNELS,
        )
    )


def _autoencoder_qwen21() -> Any:
    return _loud(
        AutoencoderKLQwenImage21(
            base_dim=8,
            decoder_base_dim=8,
            z_dim=_PACKED,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True, True],
            latents_mean=[0.0] * _PACKED,
            latents_std=[1.0] * _PACKED,
        )
    )


def _flow(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **options})


def _dynamic_flow(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    return _flow(shift=1.0, use_dynamic_shifting=True, **options)


def _gemma2_parts() -> dict[str, Any]:
    tokenizer = language.gemma_tokenizer()
    return {"tokenizer": tokenizer, "text_encoder": language.gemma2_model(tokenizer)}


def _qwen3_parts() -> dict[str, Any]:
    tokenizer = language.qwen_tokenizer()
    return {"tokenizer": tokenizer, "text_encoder": language.qwen3_model(tokenizer)}


def _sana_parts() -> dict[str, Any]:
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=language.WIDTH,
        sample_size=16,
    )
    return {**_gemma2_parts(), "vae": _autoencoder_dc(), "transformer": _lively(transformer)}


def _sana() -> Any:
    # The published checkpoints keep a multistep solver of flows, not the flow-matching one.
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(**_sana_parts(), scheduler=scheduler)


def _sana_pag() -> Any:
    return diffusers.SanaPAGPipeline(**_sana_parts(), scheduler=_flow())


def _qwen_image() -> Any:
    tokenizer = language.qwen_tokenizer()
    transformer = diffusers.QwenImageTransformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        out_channels=_CHANNELS,
        num_layers=1,
        joint_attention_dim=language.WIDTH,
        axes_dims_rope=_AXES,
    )
    return diffusers.QwenImagePipeline(
        tokenizer=tokenizer,
        text_encoder=language.qwen2_5_vl(tokenizer),
        vae=_autoencoder_qwen(),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(),
    )


def _z_image_parts(**options: Any) -> dict[str, Any]:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=_CHANNELS,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=language.WIDTH,
        axes_dims=list(_AXES),
        axes_lens=[1024, 128, 128],
        **options,
    )
    return {
        **_qwen3_parts(),
        "vae": _autoencoder(shift_factor=0.1),
        "transformer": _lively(transformer),
        "scheduler": _flow(),
    }


def _z_image() -> Any:
    return diffusers.ZImagePipeline(**_z_image_parts())


def _z_image_omni() -> Any:
    from transformers import Siglip2VisionConfig, Siglip2VisionModel
    from transformers.models.siglip2.image_processing_siglip2 import Siglip2ImageProcessor

    config = Siglip2VisionConfig(
        hidden_size=language.WIDTH,
        intermediate_size=2 * language.WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_patches=16,
        patch_size=16,
    )
    return diffusers.ZImageOmniPipeline(
        **_z_image_parts(siglip_feat_dim=language.WIDTH),
        siglip=Siglip2VisionModel(config).eval(),
        siglip_processor=Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
    )


def _flux2_transformer(*, guidance_embeds: bool) -> Any:
    transformer = diffusers.Flux2Transformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=3 * language.WIDTH,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    return _lively(transformer)


def _flux2() -> Any:
    processor = language.pixtral_processor()
    return diffusers.Flux2Pipeline(
        tokenizer=processor,
        text_encoder=language.mistral3(processor, layers=30),
        vae=_autoencoder_flux2(),
        transformer=_flux2_transformer(guidance_embeds=True),
        scheduler=_dynamic_flow(),
    )


def _flux2_klein() -> Any:
    tokenizer = language.qwen_tokenizer()
    return diffusers.Flux2KleinPipeline(
        tokenizer=tokenizer,
        text_encoder=language.qwen3_for_causal_lm(tokenizer, layers=27),
        vae=_autoencoder_flux2(),
        transformer=_flux2_transformer(guidance_embeds=False),
        scheduler=_dynamic_flow(),
        is_distilled=False,
    )


def _lumina2() -> Any:
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=_CHANNELS,
        hidden_size=32,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=_AXES,
        axes_lens=(300, 128, 128),
        cap_feat_dim=language.WIDTH,
    )
    return diffusers.Lumina2Pipeline(
        **_gemma2_parts(),
        vae=_autoencoder(shift_factor=0.1),
        transformer=_lively(transformer),
        scheduler=_flow(shift=6.0),
    )


def _cogview4() -> Any:
    tokenizer = language.glm_tokenizer()
    transformer = diffusers.CogView4Transformer2DModel(
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=language.WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        sample_size=8,
    )
    return diffusers.CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=language.glm_model(tokenizer),
        vae=_autoencoder(),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(base_shift=0.25, max_shift=0.75, time_shift_type="linear"),
    )


def _lumina() -> Any:
    tokenizer = language.gemma_tokenizer()
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=8,
        in_channels=_CHANNELS,
        hidden_size=32,
        num_layers=1,
        num_attention_heads=2,
        num_kv_heads=2,
        multiple_of=16,
        cross_attention_dim=language.WIDTH,
    )
    return diffusers.LuminaPipeline(
        tokenizer=tokenizer,
        text_encoder=language.gemma_model(tokenizer),
        vae=_autoencoder(),
        transformer=_lively(transformer),
        scheduler=_flow(shift=1.0),
    )


def _cogview3_plus() -> Any:
    tokenizer = language.t5_tokenizer()
    transformer = diffusers.CogView3PlusTransformer2DModel(
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=language.WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=32,
        sample_size=8,
    )
    return diffusers.CogView3PlusPipeline(
        tokenizer=tokenizer,
        text_encoder=language.t5_encoder(tokenizer),
        vae=_autoencoder(),
        transformer=_lively(transformer),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=4.0,
        ),
    )


def _qwen_image21() -> Any:
    processor = language.qwen3_vl_processor()
    transformer = diffusers.QwenImage21Transformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        out_channels=_PACKED,
        num_layers=1,
        context_in_dim=language.WIDTH,
        axes_dims_rope=_AXES,
    )
    return diffusers.QwenImage21Pipeline(
        processor=processor,
        text_encoder=language.qwen3_vl(processor.tokenizer, layers=2),
        vae=_autoencoder_qwen21(),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(),
    )


def _ovis_image() -> Any:
    transformer = diffusers.OvisImageTransformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        out_channels=_PACKED,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=language.WIDTH,
        axes_dims_rope=_AXES,
    )
    return diffusers.OvisImagePipeline(
        **_qwen3_parts(),
        vae=_autoencoder(shift_factor=0.1),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(),
    )


def _prx() -> Any:
    tokenizer = language.gemma_tokenizer(max_length=256)
    transformer = diffusers.PRXTransformer2DModel(
        in_channels=_CHANNELS,
        context_in_dim=language.WIDTH,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[8, 8],
    )
    return diffusers.PRXPipeline(
        tokenizer=tokenizer,
        text_encoder=language.t5gemma_encoder(tokenizer),
        vae=_autoencoder(shift_factor=0.1),
        transformer=_lively(transformer),
        scheduler=_flow(),
        default_sample_size=256,
    )


def _ideogram4_transformer() -> Any:
    transformer = diffusers.Ideogram4Transformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        num_layers=1,
        intermediate_size=32,
        adaln_dim=16,
        llm_features_dim=13 * language.WIDTH,
        mrope_section=(4, 2, 2),
    )
    return _lively(transformer)


def _ideogram4() -> Any:
    tokenizer = language.qwen_tokenizer()
    return diffusers.Ideogram4Pipeline(
        tokenizer=tokenizer,
        text_encoder=language.qwen3_vl_model(tokenizer, layers=36),
        vae=_autoencoder_flux2(),
        transformer=_ideogram4_transformer(),
        unconditional_transformer=_ideogram4_transformer(),
        scheduler=_flow(shift=1.0),
    )


def _krea2() -> Any:
    tokenizer = language.qwen_tokenizer()
    transformer = diffusers.Krea2Transformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        num_layers=1,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=16,
        text_hidden_dim=language.WIDTH,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=_AXES,
    )
    return diffusers.Krea2Pipeline(
        tokenizer=tokenizer,
        text_encoder=language.qwen3_vl_model(tokenizer, layers=2),
        vae=_autoencoder_qwen(),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(),
        text_encoder_select_layers=(1, 2),
    )


def _glm_image() -> Any:
    processor, letters = language.glm_image_processor(), language.byte_tokenizer()
    transformer = diffusers.GlmImageTransformer2DModel(
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=language.WIDTH,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=language.VISUAL_CODES,
    )
    return diffusers.GlmImagePipeline(
        tokenizer=letters,
        processor=processor,
        text_encoder=language.t5_encoder(letters),
        vision_language_encoder=language.glm_image(processor),
        vae=_autoencoder(latents_mean=[0.0] * _CHANNELS, latents_std=[1.0] * _CHANNELS),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(base_shift=0.25, max_shift=0.75, time_shift_type="linear"),
    )


def _nucleus_moe_image() -> Any:
    processor = language.qwen3_vl_processor()
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        out_channels=_CHANNELS,
        num_layers=5,
        num_key_value_heads=1,
        joint_attention_dim=language.WIDTH,
        axes_dims_rope=_AXES,
        mlp_ratio=6.0,
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    )
    return diffusers.NucleusMoEImagePipeline(
        processor=processor,
        text_encoder=language.qwen3_vl(processor.tokenizer, layers=8),
        vae=_autoencoder_qwen(),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(),
    )


def _flux_kontext() -> Any:
    clip_tokenizer, t5 = language.clip_tokenizer(), language.t5_tokenizer()
    transformer = diffusers.FluxTransformer2DModel(
        **_HEADS,
        in_channels=_PACKED,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=language.WIDTH,
        pooled_projection_dim=language.WIDTH,
        axes_dims_rope=_AXES,
        guidance_embeds=True,
    )
    return diffusers.FluxKontextPipeline(
        tokenizer=clip_tokenizer,
        text_encoder=language.clip_model(clip_tokenizer),
        tokenizer_2=t5,
        text_encoder_2=language.t5_encoder(t5),
        vae=_autoencoder(shift_factor=0.1),
        transformer=_lively(transformer),
        scheduler=_dynamic_flow(),
    )


_BUILDERS: Final[dict[str, Callable[[], Any]]] = {
    "SanaPipeline": _sana,
    "QwenImagePipeline": _qwen_image,
    "ZImagePipeline": _z_image,
    "Flux2Pipeline": _flux2,
    "Flux2KleinPipeline": _flux2_klein,
    "Lumina2Pipeline": _lumina2,
    "CogView4Pipeline": _cogview4,
    "LuminaPipeline": _lumina,
    "CogView3PlusPipeline": _cogview3_plus,
    "SanaPAGPipeline": _sana_pag,
    "QwenImage21Pipeline": _qwen_image21,
    "OvisImagePipeline": _ovis_image,
    "PRXPipeline": _prx,
    "Ideogram4Pipeline": _ideogram4,
    "Krea2Pipeline": _krea2,
    "GlmImagePipeline": _glm_image,
    "NucleusMoEImagePipeline": _nucleus_moe_image,
    "ZImageOmniPipeline": _z_image_omni,
    "FluxKontextPipeline": _flux_kontext,
}


def _seeded(build: Callable[[], Any]) -> Callable[[], Any]:
    """Make a builder draw the same weights every time, and leave torch's own state alone."""

    def make() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline = build()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


FAMILIES: Final[dict[str, Callable[[], Any]]] = {
    name: _seeded(build) for name, build in _BUILDERS.items()
}
"""Class name of diffusers -> builder of a tiny pipeline of it."""
