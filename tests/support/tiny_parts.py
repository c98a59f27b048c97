"""Tiny parts of diffusion pipelines, built in memory: tokenizers, encoders, autoencoders.

Nothing is downloaded and nothing is trained. The tokenizers know a few words whole and spell all
others in letters, so two prompts that differ have different tokens. Every model is in evaluation
mode: one that is built, not loaded, starts in training mode, where dropout makes noise.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PriorTransformer,
    UnCLIPScheduler,
    VQModel,
)
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
    XLMRobertaTokenizer,
)

__all__ = [
    "WIDTH",
    "bert_encoder",
    "bert_tokenizer",
    "clip_encoder",
    "clip_projector",
    "clip_tokenizer",
    "clip_vision",
    "ddim",
    "ddpm",
    "dpm_solver",
    "euler",
    "flow_euler",
    "image_processor",
    "kl_autoencoder",
    "louder",
    "movq",
    "prior_parts",
    "ready",
    "t5_encoder",
    "t5_tokenizer",
    "umt5_encoder",
    "xlm_tokenizer",
]

WIDTH: Final = 32
"""Hidden size of every text encoder."""

WORDS: Final = (
    *("a", "an", "the", "photo", "of", "on", "in", "and"),
    *("red", "green", "blue", "cat", "dog", "frog", "car", "ship", "blurry"),
)
"""One token each; a byte-pair tokenizer needs more than one merge for a word, the others none."""

_LETTERS: Final = tuple(chr(code) for code in range(33, 127))
_SPACE: Final = "\u2581"  # what Unigram tokenizers put before a word
_T5_VOCABULARY: Final = 3 + 1 + len(_LETTERS) + len(WORDS)

_Model = TypeVar("_Model", bound=torch.nn.Module)


def ready(model: _Model) -> _Model:
    """Put a model into evaluation mode, without gradients, and with no layer that says nothing.

    Some layers start at zero, to be trained from there: a denoiser would ignore its prompt.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.endswith("bias") and not weight.any():
                weight.normal_(std=0.1)
    return model.eval().requires_grad_(False)


def louder(layer: Any, gain: float) -> None:
    """Scale a layer's weights, so that what it says is seen in the image."""
    with torch.no_grad():
        layer.weight.mul_(gain)


# Tokenizers.


def clip_tokenizer(length: int = 77) -> CLIPTokenizer:
    """Build a byte-pair tokenizer that reads `length` tokens, as CLIP's does."""
    merges = [pair for word in WORDS for pair in _merges_of(word)]
    tokens = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=length
    )


def _merges_of(word: str) -> list[tuple[str, str]]:
    symbols = [*word[:-1], f"{word[-1]}</w>"]
    return [("".join(symbols[:i]), symbols[i]) for i in range(1, len(symbols))]


def _unigrams(*special: str) -> list[tuple[str, float]]:
    pieces = [(token, 0.0) for token in special]
    pieces += [(_SPACE, -2.0)]
    pieces += [(letter, -4.0) for letter in _LETTERS]
    return pieces + [(_SPACE + word, -3.0) for word in WORDS]


def t5_tokenizer(length: int = 512) -> T5TokenizerFast:
    """Build a Unigram tokenizer, as T5's is."""
    return T5TokenizerFast(
        vocab=_unigrams("<pad>", "</s>", "<unk>"), extra_ids=0, model_max_length=length
    )


def xlm_tokenizer(length: int = 77) -> XLMRobertaTokenizer:
    """Build a Unigram tokenizer, as XLM-RoBERTa's is."""
    return XLMRobertaTokenizer(
        vocab=_unigrams("<s>", "<pad>", "</s>", "<unk>"), model_max_length=length
    )


def bert_tokenizer(length: int = 77) -> BertTokenizer:
    """Build a word-piece tokenizer, as BERT's is."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *_LETTERS]
    tokens += [f"##{letter}" for letter in _LETTERS]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return BertTokenizer(vocab=vocabulary, model_max_length=length)


# Text and image encoders.


def _clip_config(tokenizer: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def clip_encoder(tokenizer: Any) -> CLIPTextModel:
    """Build CLIP's text encoder."""
    return ready(CLIPTextModel(_clip_config(tokenizer)))


def clip_projector(tokenizer: Any) -> CLIPTextModelWithProjection:
    """Build CLIP's text encoder with a pooled projection that is as large as a trained one's."""
    model = CLIPTextModelWithProjection(_clip_config(tokenizer))
    louder(model.text_projection, 5.0)
    return ready(model)


def _t5_options(width: int) -> dict[str, Any]:
    return {
        "vocab_size": _T5_VOCABULARY,
        "d_model": width,
        "d_kv": 8,
        "d_ff": 2 * width,
        "num_layers": 1,
        "num_heads": 2,
    }


def t5_encoder(width: int = WIDTH) -> T5EncoderModel:
    """Build T5's encoder, for `t5_tokenizer`."""
    return ready(T5EncoderModel(T5Config(**_t5_options(width))))


def umt5_encoder() -> UMT5EncoderModel:
    """Build UMT5's encoder, for `t5_tokenizer`."""
    return ready(UMT5EncoderModel(UMT5Config(**_t5_options(WIDTH))))


def bert_encoder(tokenizer: Any) -> BertModel:
    """Build BERT's encoder."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        initializer_range=0.2,
    )
    return ready(BertModel(config))


def clip_vision(size: int = 32) -> CLIPVisionModelWithProjection:
    """Build CLIP's image encoder for images of `size` pixels."""
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=size,
        patch_size=8,
        projection_dim=WIDTH,
    )
    return ready(CLIPVisionModelWithProjection(config))


def image_processor(size: int = 32) -> CLIPImageProcessor:
    """Build what prepares an image for `clip_vision`."""
    return CLIPImageProcessor(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    )


# Autoencoders.


def kl_autoencoder(latents: int = 4, **options: Any) -> AutoencoderKL:
    """Build an autoencoder of eight pixels a latent, as the trained ones have."""
    model = AutoencoderKL(
        latent_channels=latents,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=64,
        **options,
    )
    return ready(model)


def movq() -> VQModel:
    """Build the autoencoder of the Kandinsky family, eight pixels a latent."""
    model = VQModel(
        latent_channels=4,
        block_out_channels=(32,) * 4,  # its norms are of 32 groups, whatever else is asked
        down_block_types=(*("DownEncoderBlock2D",) * 3, "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * 3),
        norm_num_groups=4,
        norm_type="spatial",
        num_vq_embeddings=16,
        vq_embed_dim=4,
    )
    louder(model.decoder.conv_out, 0.5)
    return ready(model)


# Schedulers, as the trained pipelines of each family are saved with.


def ddim(beta_schedule: str = "scaled_linear") -> DDIMScheduler:
    """Build the noise schedule of Stable Diffusion v1, or, linear, of Kandinsky 2.1."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule=beta_schedule,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def euler() -> EulerDiscreteScheduler:
    """Build the noise schedule of Stable Diffusion XL."""
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )


def ddpm(**options: Any) -> DDPMScheduler:
    """Build an ancestral scheduler of a thousand steps."""
    return DDPMScheduler(**options)


def dpm_solver() -> DPMSolverMultistepScheduler:
    """Build the noise schedule of PixArt."""
    return DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")


def flow_euler(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    """Build a scheduler for flow matching."""
    return FlowMatchEulerDiscreteScheduler(**options)


# The first stage of Kandinsky 2, from text to the embedding of an image.


def prior_parts() -> dict[str, Any]:
    """Build the parts of Kandinsky's prior, by the names that its combined pipelines have."""
    tokenizer = clip_tokenizer()
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        embedding_dim=WIDTH,
        num_embeddings=tokenizer.model_max_length,
    )
    with torch.no_grad():
        prior.clip_std.fill_(1.0)  # zero, as built: every embedding would be zero
    return {
        "prior_prior": ready(prior),
        "prior_image_encoder": clip_vision(),
        "prior_text_encoder": clip_projector(tokenizer),
        "prior_tokenizer": tokenizer,
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            clip_sample=True,
            clip_sample_range=5.0,
        ),
        "prior_image_processor": image_processor(),
    }
