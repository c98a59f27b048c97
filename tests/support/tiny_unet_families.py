"""Tiny untrained pipelines of many text-to-image families of diffusers, built in memory.

`FAMILIES` maps the class name of a pipeline to what builds one: random weights of a fixed seed,
float32, on the CPU. Sizes and schedulers follow the trained models where that decides how the
pipeline treats its arguments: eight pixels a latent, two stages where the family has two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import diffusers
import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    ChromaTransformer2DModel,
    DDPMWuerstchenScheduler,
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    Kandinsky3UNet,
    LCMScheduler,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableCascadeUNet,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.deprecated.wuerstchen import (
    PaellaVQModel,
    WuerstchenDiffNeXt,
    WuerstchenPrior,
)
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from tiny_parts import (
    WIDTH,
    bert_encoder,
    bert_tokenizer,
    clip_encoder,
    clip_projector,
    clip_tokenizer,
    ddim,
    ddpm,
    dpm_solver,
    euler,
    flow_euler,
    kl_autoencoder,
    louder,
    movq,
    prior_parts,
    ready,
    t5_encoder,
    t5_tokenizer,
    umt5_encoder,
    xlm_tokenizer,
)

__all__ = ["FAMILIES", "VARIANTS"]

Parts = dict[str, Any]


def _heeding(model: Any, gain: float, *, where: str = "attn2") -> Any:
    """Scale what the attention to the text adds; random weights hardly hear a few tokens."""
    for name, module in model.named_modules():
        if name.endswith(where) and hasattr(module, "to_out"):
            louder(module.to_v, gain)
            louder(module.to_out[0], gain)
            if getattr(module, "add_v_proj", None) is not None:
                louder(module.add_v_proj, gain)
    return model


def _seeded(name: str, parts: Callable[[], Parts]) -> Callable[[], Any]:
    return _seeded_whole(lambda: getattr(diffusers, name)(**parts()))


def _seeded_whole(make: Callable[[], Any]) -> Callable[[], Any]:
    def build() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline = make()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return build


# Stable Diffusion, XL and latent consistency: a U-Net, CLIP.


def _unet(gain: float = 4.0, **options: Any) -> UNet2DConditionModel:
    model = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        **{"cross_attention_dim": WIDTH, **options},
    )
    return ready(_heeding(model, gain))


def _sd(**unet: Any) -> Parts:
    tokenizer = clip_tokenizer()
    return {
        "vae": kl_autoencoder(),
        "tokenizer": tokenizer,
        "text_encoder": clip_encoder(tokenizer),
        "unet": _unet(**unet),
        "scheduler": ddim(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _lcm() -> Parts:
    parts = _sd(gain=8.0, time_cond_proj_dim=WIDTH) | {"scheduler": LCMScheduler()}
    louder(parts["unet"].time_embedding.cond_proj, 10.0)  # where its guidance comes in
    return parts


def _sdxl() -> Parts:
    tokenizer = clip_tokenizer()
    return {
        "vae": kl_autoencoder(),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "text_encoder": clip_encoder(tokenizer),
        "text_encoder_2": clip_projector(tokenizer),
        "unet": _unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        ),
        "scheduler": euler(),
        "add_watermarker": False,
    }


# Stable Diffusion 3, Flux, Chroma, AuraFlow: a transformer, flow matching.


def _sd3() -> Parts:
    tokenizer = clip_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
    )
    vae = kl_autoencoder(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06)
    return {
        "vae": vae,
        "text_encoder": clip_projector(tokenizer),
        "text_encoder_2": clip_projector(tokenizer),
        "text_encoder_3": t5_encoder(2 * WIDTH),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "tokenizer_3": t5_tokenizer(),
        "transformer": ready(transformer),
        "scheduler": flow_euler(shift=3.0),
    }


def _flux_vae() -> Any:
    return kl_autoencoder(
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    )


def _flux(*, guidance_embeds: bool = True) -> Parts:
    tokenizer = clip_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 8),
    )
    return {
        "scheduler": flow_euler(shift=3.0, use_dynamic_shifting=True),
        "vae": _flux_vae(),
        "text_encoder": clip_encoder(tokenizer),
        "tokenizer": tokenizer,
        "text_encoder_2": t5_encoder(),
        "tokenizer_2": t5_tokenizer(),
        "transformer": ready(_heeding(transformer, 4.0, where="attn")),
    }


def _chroma() -> Parts:
    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=WIDTH,
        approximator_layers=1,
    )
    return {
        "scheduler": flow_euler(),
        "vae": _flux_vae(),
        "text_encoder": t5_encoder(),
        "tokenizer": t5_tokenizer(),
        "transformer": ready(transformer),
    }


def _auraflow() -> Parts:
    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=WIDTH,
        pos_embed_max_size=256,
    )
    for block in transformer.joint_transformer_blocks:
        louder(block.norm1.linear, 5.0)  # holds the gate of the attention
    return {
        "tokenizer": t5_tokenizer(),
        "text_encoder": umt5_encoder(),
        "vae": kl_autoencoder(),
        "transformer": ready(_heeding(transformer, 15.0, where="attn")),
        "scheduler": flow_euler(shift=1.73),
    }


# PixArt and Hunyuan-DiT: a transformer, noise.


def _pixart() -> Parts:
    transformer = PixArtTransformer2DModel(
        sample_size=32,  # one of three that have a table of sizes
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=WIDTH,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=16,
        use_additional_conditions=False,
    )
    return {
        "tokenizer": t5_tokenizer(),
        "text_encoder": t5_encoder(),
        "vae": kl_autoencoder(),
        "transformer": ready(_heeding(transformer, 4.0)),
        "scheduler": dpm_solver(),
    }


def _hunyuan() -> Parts:
    tokenizer = bert_tokenizer()
    transformer = HunyuanDiT2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        hidden_size=16,
        cross_attention_dim=WIDTH,
        cross_attention_dim_t5=WIDTH,
        pooled_projection_dim=16,
    )
    return {
        "vae": kl_autoencoder(),
        "text_encoder": bert_encoder(tokenizer),
        "tokenizer": tokenizer,
        "text_encoder_2": t5_encoder(),
        "tokenizer_2": t5_tokenizer(256),
        "transformer": ready(_heeding(transformer, 4.0)),
        "scheduler": ddpm(
            beta_start=0.00085,
            beta_end=0.03,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type="v_prediction",
            steps_offset=1,
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


# DeepFloyd IF: a U-Net on pixels.


def _added_kv_unet(**options: Any) -> UNet2DConditionModel:
    model = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        **options,
    )
    return ready(model)


def _deepfloyd() -> Parts:
    unet = _added_kv_unet(
        in_channels=3,
        out_channels=6,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        act_fn="gelu",
    )
    unet.register_to_config(sample_size=64)
    return {
        "tokenizer": t5_tokenizer(77),
        "text_encoder": t5_encoder(),
        "unet": unet,
        "scheduler": ddpm(
            beta_schedule="squaredcos_cap_v2",
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            sample_max_value=1.5,
            variance_type="learned_range",
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }


# Kandinsky: a prior from text to an image's embedding, then a U-Net; the third has one stage.


def _kandinsky() -> Parts:
    tokenizer = xlm_tokenizer()
    config = MCLIPConfig(
        numDims=WIDTH,
        transformerDimensions=WIDTH,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=len(tokenizer),
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = _added_kv_unet(
        in_channels=4,
        out_channels=8,
        addition_embed_type="text_image",
        encoder_hid_dim_type="text_image_proj",
    )
    return prior_parts() | {
        "text_encoder": ready(MultilingualCLIP(config)),
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": ddim(beta_schedule="linear"),
        "movq": movq(),
    }


def _kandinsky22() -> Parts:
    unet = _added_kv_unet(
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
    )
    return prior_parts() | {
        "unet": unet,
        "scheduler": ddpm(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="linear",
            clip_sample=False,
            variance_type="learned_range",
        ),
        "movq": movq(),
    }


def _kandinsky3() -> Parts:
    unet = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=WIDTH,
        groups=2,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=(16, 32),
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
    )
    return {
        "tokenizer": t5_tokenizer(128),
        "text_encoder": t5_encoder(),
        "unet": ready(_heeding(unet, 3.0, where="attention")),
        "scheduler": ddpm(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="squaredcos_cap_v2",
            clip_sample=True,
            steps_offset=1,
        ),
        "movq": movq(),
    }


# Wuerstchen and Stable Cascade: a prior to small latents, a decoder to those of a VQGAN.


def _vqgan() -> PaellaVQModel:
    model = PaellaVQModel(
        levels=2, bottleneck_blocks=1, embed_dim=16, latent_channels=4, num_vq_embeddings=16
    )
    louder(model.out_block[0], 0.1)  # random decoders end in large latents
    with torch.no_grad():
        model.out_block[0].bias.fill_(0.5)
    return ready(model)


def _two_stages(encoder: Callable[[Any], Any], prior: Any, decoder: Any) -> Parts:
    tokenizer = clip_tokenizer()
    return {
        "tokenizer": tokenizer,
        "text_encoder": encoder(tokenizer),
        "decoder": ready(decoder),
        "vqgan": _vqgan(),
        "scheduler": DDPMWuerstchenScheduler(),
        "prior_tokenizer": tokenizer,
        "prior_text_encoder": encoder(tokenizer),
        "prior_prior": ready(prior),
        "prior_scheduler": DDPMWuerstchenScheduler(),
    }


def _wuerstchen() -> Parts:
    prior = WuerstchenPrior(c_in=16, c=32, c_cond=WIDTH, c_r=8, depth=2, nhead=2)
    decoder = WuerstchenDiffNeXt(
        c_r=8,
        c_cond=WIDTH,
        c_hidden=[16, 32],
        nhead=[-1, 2],
        blocks=[1, 1],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        clip_embd=WIDTH,
    )
    return _two_stages(clip_encoder, _heeding(prior, 3.0, where="attention"), decoder)


def _cascade() -> Parts:
    shared: Parts = {
        "timestep_ratio_embedding_dim": 8,
        "conditioning_dim": WIDTH,
        "block_out_channels": (16, 32),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "clip_text_pooled_in_channels": WIDTH,
    }
    prior = StableCascadeUNet(
        num_attention_heads=(2, 2),
        clip_text_in_channels=WIDTH,
        clip_image_in_channels=WIDTH,
        switch_level=(False,),
        **shared,
    )
    decoder = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        patch_size=2,
        num_attention_heads=(0, 2),
        block_types_per_layer=(
            ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ),
        effnet_in_channels=16,
        pixel_mapper_in_channels=3,
        timestep_conditioning_type=("sca",),
        **shared,
    )
    decoder = _heeding(decoder, 3.0, where="attention")
    return _two_stages(clip_projector, _heeding(prior, 3.0, where="attention"), decoder)


# No text: a transformer that is told a label, U-Nets on pixels that are told nothing.


def _dit() -> Any:
    transformer = DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,  # the class after the last is none of them
    )
    parts = {"transformer": ready(transformer), "vae": kl_autoencoder(), "scheduler": ddim()}
    pipeline = diffusers.DiTPipeline(**parts)
    # As it is in the index of those that are published; diffusers does not save it.
    pipeline.register_to_config(id2label={"0": "frog, tree frog", "1": "ship", "2": "Siamese cat"})
    return pipeline


def _pixels() -> Parts:
    unet = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return {"unet": ready(unet), "scheduler": ddpm()}


_PARTS: Final[dict[str, Callable[[], Parts]]] = {
    "StableDiffusionPipeline": _sd,
    "StableDiffusionXLPipeline": _sdxl,
    "StableDiffusion3Pipeline": _sd3,
    "StableDiffusion3PAGPipeline": _sd3,
    "IFPipeline": _deepfloyd,
    "HunyuanDiTPipeline": _hunyuan,
    "HunyuanDiTPAGPipeline": _hunyuan,
    "KandinskyCombinedPipeline": _kandinsky,
    "KandinskyV22CombinedPipeline": _kandinsky22,
    "Kandinsky3Pipeline": _kandinsky3,
    "WuerstchenCombinedPipeline": _wuerstchen,
    "StableCascadeCombinedPipeline": _cascade,
    "LatentConsistencyModelPipeline": _lcm,
    "PixArtAlphaPipeline": _pixart,
    "PixArtSigmaPipeline": _pixart,
    "PixArtSigmaPAGPipeline": _pixart,
    "StableDiffusionPAGPipeline": _sd,
    "StableDiffusionXLPAGPipeline": _sdxl,
    "AuraFlowPipeline": _auraflow,
    "FluxPipeline": _flux,
    "ChromaPipeline": _chroma,
    "DDPMPipeline": _pixels,
    "DDIMPipeline": _pixels,
}

FAMILIES: Final[dict[str, Callable[[], Any]]] = {
    name: _seeded(name, parts) for name, parts in _PARTS.items()
} | {"DiTPipeline": _seeded_whole(_dit)}
"""Class name of a pipeline -> what builds a tiny one."""

VARIANTS: Final[dict[str, Callable[[], Any]]] = {
    "FluxPipeline, few steps": _seeded("FluxPipeline", lambda: _flux(guidance_embeds=False)),
}
"""Others of the same classes: Flux distilled to few steps takes no guidance."""
