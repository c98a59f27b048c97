"""Tiny tokenizers, processors and text encoders of random weights, built without any download.

One byte-level vocabulary, learned in memory from a few sentences, serves every tokenizer of the
byte-pair kind. A word of those sentences is one token; any other text falls to shorter pieces, so
different prompts always differ.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaConfig,
    GemmaModel,
    GemmaTokenizer,
    GlmConfig,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    GlmImageImageProcessor,
    GlmImageProcessor,
    GlmModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    T5Config,
    T5EncoderModel,
    T5GemmaConfig,
    T5GemmaModuleConfig,
    T5Tokenizer,
)
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

WIDTH: Final = 16
"""Hidden size of every text encoder."""

_WIDE: Final = 0.5
"""Spread of text weights: at the usual 0.02 the prompt would hardly matter."""

_SENTENCES: Final = (
    "system",
    "user",
    "assistant",
    "think",
    "Describe",
    "Prompt Start You are an assistant designed to generate superior",
    "images with the superior degree of image text alignment based on textual prompts or user",
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial",
    "relationships of the objects and background: Comprehend and analyze the provided prompt.",
    "You are an AI that reasons about image descriptions. You give structured responses focusing",
    "on object relationships, object attribution and actions without speculation.",
    "You are an image generation assistant. Follow the user's prompt literally. Pay careful",
    "attention to spatial layout: objects described as on the left must appear on the left, on",
    "the right on the right. Match exact object counts and assign colors to the correct objects.",
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual",
    "descriptions suitable for image generation. Evaluate the level of detail in the prompt:",
    "a photo of a frog car dog ship plane cat horse bird deer truck in red green blue yellow",
    "brown white black grey on water sand grass sky road snow",
)

_CHAT_TOKENS: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<think>",
    "</think>",
)
_INSTRUCT_TOKENS: Final = (
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
)
_GLM_TOKENS: Final = ("<|endoftext|>", "[gMASK]", "<sop>")

_DRAW_TOKENS: Final = (
    "<|endoftext|>",
    "<|user|>",
    "<|image|>",
    "<|dit_token_16384|>",
    "<sop>",
    "<eop>",
)

_CONTENT: Final = (
    "{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endif %}"
)
_CHAT_TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    + _CONTENT
    + "<|im_end|>\n{% endfor %}"
    + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    + "{% if enable_thinking is defined and enable_thinking is false %}"
    + "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_INSTRUCT_TEMPLATE: Final = (
    "<s>{% for m in messages %}"
    "{% if m.role == 'system' %}[SYSTEM_PROMPT]" + _CONTENT + "[/SYSTEM_PROMPT]"
    "{% else %}[INST]" + _CONTENT + "[/INST]{% endif %}{% endfor %}"
)
_DRAW_TEMPLATE: Final = "{% for m in messages %}<|user|>" + _CONTENT + "{% endfor %}"

VISUAL_CODES: Final = 128
"""Visual tokens that the language model of GLM-Image chooses among."""


@cache
def _learned() -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return the tokens and the merges of the shared vocabulary, in their order."""
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(ByteLevel.alphabet()),
    )
    spaced = [f" {line}" for line in _SENTENCES]
    learner.train_from_iterator([*_SENTENCES, *spaced], trainer)
    ranks = learner.get_vocab()
    merges = json.loads(learner.to_str())["model"]["merges"]
    return tuple(sorted(ranks, key=ranks.__getitem__)), tuple((a, b) for a, b in merges)


def _vocabulary(special: tuple[str, ...]) -> dict[str, int]:
    """Put the special tokens before the learned ones."""
    tokens, _ = _learned()
    return {token: number for number, token in enumerate((*special, *tokens))}


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Build a Qwen2Tokenizer with the tokens and a template of a chat."""
    return Qwen2Tokenizer(
        vocab=_vocabulary(_CHAT_TOKENS),
        merges=list(_learned()[1]),
        extra_special_tokens=list(_CHAT_TOKENS),
        chat_template=_CHAT_TEMPLATE,
        model_max_length=4096,
    )


def gemma_tokenizer(*, max_length: int = 4096) -> GemmaTokenizer:
    """Build a GemmaTokenizer of words and bytes."""
    words = sorted({word for line in _SENTENCES for word in line.split()})
    letters = [chr(code) for code in range(33, 127)]
    pieces: dict[str, None] = dict.fromkeys(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"])
    pieces |= dict.fromkeys(f"<0x{byte:02X}>" for byte in range(256))
    pieces |= dict.fromkeys(["\u2581", *letters])
    merges: dict[Any, None] = {}
    for word in words:
        left = word[0]
        for letter in f"{word[1:]}\u2581":
            merges[left, letter] = None
            left += letter
            pieces[left] = None
    tokenizer = GemmaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=list(merges),
        model_max_length=max_length,
        padding_side="right",
        add_bos_token=True,
    )
    return tokenizer


def glm_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer that pads on the left and opens every text as GLM does."""
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.processors import TemplateProcessing

    vocabulary = _vocabulary(_GLM_TOKENS)
    raw = Tokenizer(BPE(vocab=vocabulary, merges=list(_learned()[1])))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    raw.decoder = Decoder()
    raw.post_processor = TemplateProcessing(
        single="[gMASK] <sop> $A",
        special_tokens=[(name, vocabulary[name]) for name in ("[gMASK]", "<sop>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        extra_special_tokens=["[gMASK]", "<sop>"],
        padding_side="left",
        model_max_length=4096,
    )


def t5_tokenizer() -> T5Tokenizer:
    """Build a T5Tokenizer of letters."""
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -1.0)]
    letters += [("\u2581", -2.0), *((chr(code), -2.0) for code in range(33, 127))]
    return T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=4096)


def byte_tokenizer() -> ByT5Tokenizer:
    """Build a ByT5Tokenizer, which needs no vocabulary."""
    return ByT5Tokenizer()


def pixtral_processor() -> PixtralProcessor:
    """Build a PixtralProcessor whose tokenizer pads on the left."""
    raw = Tokenizer(BPE(vocab=_vocabulary(_INSTRUCT_TOKENS), merges=list(_learned()[1])))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=list(_INSTRUCT_TOKENS[4:]),
        padding_side="left",
        model_max_length=4096,
    )
    return PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 64}, patch_size=8),
        tokenizer=tokenizer,
        patch_size=8,
        chat_template=_INSTRUCT_TEMPLATE,
    )


def qwen3_vl_processor() -> Qwen3VLProcessor:
    """Build a Qwen3VLProcessor for images of 16x16 patches."""
    sides = {"shortest_edge": 1024, "longest_edge": 4096}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, merge_size=2, size=sides),
        tokenizer=qwen_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(patch_size=16, merge_size=2),
        chat_template=_CHAT_TEMPLATE,
    )


def glm_image_processor() -> GlmImageProcessor:
    """Build a GlmImageProcessor, which writes the size of the image behind the prompt."""
    raw = Tokenizer(BPE(vocab=_vocabulary(_DRAW_TOKENS), merges=list(_learned()[1])))
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    named = {
        "image_token": "<|image|>",
        "grid_bos_token": "<sop>",
        "grid_eos_token": "<eop>",
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|dit_token_16384|>",
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        extra_special_tokens=named,
        padding_side="left",
        model_max_length=4096,
    )
    return GlmImageProcessor(
        image_processor=GlmImageImageProcessor(patch_size=8, merge_size=1),
        tokenizer=tokenizer,
        chat_template=_DRAW_TEMPLATE,
    )


def _decoder(vocabulary: int, *, layers: int = 2, heads: int = 2) -> dict[str, Any]:
    """Settings that all decoder-only language models share."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": WIDTH // heads,
        "max_position_embeddings": 4096,
        "initializer_range": _WIDE,
        "pad_token_id": 0,
    }


def gemma_model(tokenizer: Any) -> Any:
    """Build the text encoder of Lumina."""
    return GemmaModel(GemmaConfig(**_decoder(len(tokenizer)))).eval()


def gemma2_model(tokenizer: Any) -> Any:
    """Build the text encoder of Sana and Lumina 2."""
    return Gemma2Model(Gemma2Config(**_decoder(len(tokenizer)), query_pre_attn_scalar=8)).eval()


def glm_model(tokenizer: Any) -> Any:
    """Build the text encoder of CogView 4."""
    return GlmModel(GlmConfig(**_decoder(len(tokenizer)))).eval()


def qwen3_model(tokenizer: Any) -> Any:
    """Build the text encoder of Z-Image and Ovis-Image."""
    return Qwen3Model(Qwen3Config(**_decoder(len(tokenizer), layers=3))).eval()


def qwen3_for_causal_lm(tokenizer: Any, *, layers: int) -> Any:
    """Build the text encoder of FLUX.2 klein, which reads its deep layers."""
    return Qwen3ForCausalLM(Qwen3Config(**_decoder(len(tokenizer), layers=layers))).eval()


def mistral3(processor: Any, *, layers: int) -> Any:
    """Build the text encoder of FLUX.2, which reads its deep layers."""
    vision = PixtralVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=8,
    )
    tokenizer = processor.tokenizer
    config = Mistral3Config(
        text_config=MistralConfig(**_decoder(len(tokenizer), layers=layers)),
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=1,
    )
    return Mistral3ForConditionalGeneration(config).eval()


def qwen2_5_vl(tokenizer: Any) -> Any:
    """Build the text encoder of Qwen-Image."""
    text = _decoder(len(tokenizer))
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
    config = Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope},
        vision_config={
            "depth": 1,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0],
        },
        **_picture_tokens(tokenizer),
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen3_vl(tokenizer: Any, *, layers: int) -> Any:
    """Build the text encoder of Qwen-Image 2.1 and of Nucleus."""
    return Qwen3VLForConditionalGeneration(_qwen3_vl_config(tokenizer, layers)).eval()


def qwen3_vl_model(tokenizer: Any, *, layers: int) -> Any:
    """Build the text encoder of Krea 2 and Ideogram 4."""
    return Qwen3VLModel(_qwen3_vl_config(tokenizer, layers)).eval()


def _qwen3_vl_config(tokenizer: Any, layers: int) -> Qwen3VLConfig:
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10_000.0}
    return Qwen3VLConfig(
        text_config={**_decoder(len(tokenizer), layers=layers), "rope_parameters": rope},
        vision_config={
            "depth": 1,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **_picture_tokens(tokenizer),
    )


def glm_image(processor: Any) -> Any:
    """Build the language model that writes GLM-Image's first draft as visual tokens."""
    tokenizer = processor.tokenizer
    text = _decoder(len(tokenizer))
    del text["head_dim"]
    config = GlmImageConfig(
        text_config={
            **text,
            "vision_vocab_size": VISUAL_CODES,
            "eos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 1, 1],
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": WIDTH,
            "num_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "intermediate_size": 2 * WIDTH,
        },
        vq_config={
            "embed_dim": WIDTH,
            "num_embeddings": VISUAL_CODES,
            "latent_channels": WIDTH,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        image_start_token_id=VISUAL_CODES,
        image_end_token_id=VISUAL_CODES + 1,
    )
    return GlmImageForConditionalGeneration(config).eval()


def _picture_tokens(tokenizer: Any) -> dict[str, Any]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}


def t5_encoder(tokenizer: Any, *, vocabulary: int | None = None) -> Any:
    """Build a T5 encoder for a tokenizer."""
    config = T5Config(
        vocab_size=vocabulary or len(tokenizer),
        d_model=WIDTH,
        d_kv=8,
        d_ff=2 * WIDTH,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def t5gemma_encoder(tokenizer: Any) -> Any:
    """Build the text encoder of PRX."""
    settings = {**_decoder(len(tokenizer)), "query_pre_attn_scalar": 8}
    half = T5GemmaModuleConfig(**settings)
    # The encoder alone reads the settings of its half at the top of the config.
    config = T5GemmaConfig(encoder=half, decoder=half, **{**half.to_dict(), **settings})
    return T5GemmaEncoder(config).eval()


def clip_tokenizer() -> CLIPTokenizer:
    """Build a CLIPTokenizer of letters."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[],
        model_max_length=77,
    )


def clip_model(tokenizer: Any) -> Any:
    """Build the encoder of the pooled text of FLUX."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_factor=10.0,
    )
    return CLIPTextModel(config).eval()
