"""Small untrained pipelines in diffusers' own format, and a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from gapclose.generators.pond.captions import build_tokenizer

_WIDTH = 16


def _unet(**options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        **{"cross_attention_dim": _WIDTH, **options},
    )


def _text() -> tuple[Any, CLIPTextConfig]:
    tokenizer = build_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=32,
        projection_dim=_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, config


def _vae(**options: Any) -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **options,
    )


def _parts() -> dict[str, Any]:
    """Everything but denoiser and scheduler; images of 16x16 from 8x8 latents."""
    tokenizer, text = _text()
    return {
        "vae": _vae(),
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(text),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _ddim() -> DDIMScheduler:
    # Stable Diffusion v1's schedule.
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _save(pipeline: Any, folder: Path) -> Path:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionPipeline with a model card."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(**_parts(), unet=_unet(), scheduler=_ddim())
        folder = _save(pipeline, tmp_path_factory.mktemp("tiny"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\nA card.\n")
    return folder


@pytest.fixture(scope="session")
def tiny_nan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose autoencoder decodes to NaN."""
    return _with_last_layer(tmp_path_factory.mktemp("nan"), weight=float("nan"))


@pytest.fixture(scope="session")
def tiny_gray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose autoencoder decodes everything to grey."""
    return _with_last_layer(tmp_path_factory.mktemp("gray"), weight=0.0)


def _with_last_layer(folder: Path, *, weight: float) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(**_parts(), unet=_unet(), scheduler=_ddim())
        with torch.no_grad():
            pipeline.vae.decoder.conv_out.weight.fill_(weight)
        return _save(pipeline, folder)


@pytest.fixture(scope="session")
def tiny_prude(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose safety checker flags every image."""
    vision = CLIPVisionConfig(
        hidden_size=_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=_WIDTH,
    )
    text = CLIPTextConfig(
        vocab_size=8,
        hidden_size=_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=_WIDTH,
    )
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=_WIDTH
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        checker = StableDiffusionSafetyChecker(config)
        with torch.no_grad():
            checker.concept_embeds_weights.fill_(-2.0)  # a cosine is always above
        parts = _parts() | {
            "safety_checker": checker,
            "feature_extractor": CLIPImageProcessor(
                size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
            ),
            "requires_safety_checker": True,
        }
        pipeline = StableDiffusionPipeline(**parts, unet=_unet(), scheduler=_ddim())
        return _save(pipeline, tmp_path_factory.mktemp("prude"))


@pytest.fixture(scope="session")
def tiny_lcm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LatentConsistencyModelPipeline, which takes no negative prompt."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = LatentConsistencyModelPipeline(
            **_parts(), unet=_unet(time_cond_proj_dim=32), scheduler=LCMScheduler()
        )
        return _save(pipeline, tmp_path_factory.mktemp("lcm"))


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusionXLPipeline: two text encoders, an autoencoder that is upcast."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer, text = _text()
        unet = _unet(
            cross_attention_dim=2 * _WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
        )
        pipeline = StableDiffusionXLPipeline(
            vae=_vae(),
            text_encoder=CLIPTextModel(text),
            text_encoder_2=CLIPTextModelWithProjection(text),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=unet,
            scheduler=_ddim(),
        )
        return _save(pipeline, tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A StableDiffusion3Pipeline: flow matching, a transformer, three text encoders."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer, text = _text()
        letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -1.0)]
        letters += [(letter, -2.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz"]
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=2 * _WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=2 * _WIDTH,
        )
        pipeline = StableDiffusion3Pipeline(
            vae=_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06),
            text_encoder=CLIPTextModelWithProjection(text),
            text_encoder_2=CLIPTextModelWithProjection(text),
            text_encoder_3=T5EncoderModel(
                T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
            ),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            tokenizer_3=T5TokenizerFast(vocab=letters, extra_ids=0),
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )
        return _save(pipeline, tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="session")
def tiny_adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An IP-Adapter for `tiny` in models/, its image encoder in models/image_encoder."""
    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_pretrained(tiny, subfolder="unet")
        weights = {}
        # Keys count all attention layers; those across to the text, every second one, look at
        # pictures as well.
        for number, name in enumerate(unet.attn_processors):
            if name.endswith("attn2.processor"):
                hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
                own = IPAdapterAttnProcessor2_0(hidden, _WIDTH).state_dict()
                for part in ("to_k_ip", "to_v_ip"):
                    weights[f"ip_adapter.{number}.{part}.weight"] = own[f"{part}.0.weight"]
        projection = ImageProjection(
            image_embed_dim=_WIDTH, cross_attention_dim=_WIDTH, num_image_text_embeds=4
        )
        for name, tensor in projection.state_dict().items():
            weights[f"image_proj.{name.replace('image_embeds', 'proj')}"] = tensor
        (folder / "models").mkdir()
        save_file(weights, folder / "models" / "adapter.safetensors")
        vision = CLIPVisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
            projection_dim=_WIDTH,
        )
        encoder = CLIPVisionModelWithProjection(vision)
        encoder.save_pretrained(folder / "models" / "image_encoder")
    return folder


@pytest.fixture(scope="session")
def sources() -> list[np.ndarray]:
    """Six pictures of several sizes, smooth, with colours of their own."""
    rng = np.random.default_rng(0)
    pictures = []
    for size in [(16, 16), (40, 24), (24, 40), (16, 16), (9, 7), (64, 64)]:
        coarse = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        pictures.append(np.asarray(image))
    return pictures


@pytest.fixture(scope="session")
def frogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders: 12 images of frog, 12 of tree_frog, 12 of automobile."""
    root = tmp_path_factory.mktemp("frogs")
    rng = np.random.default_rng(0)
    for name in ("frog", "tree_frog", "automobile"):
        (root / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    return root
