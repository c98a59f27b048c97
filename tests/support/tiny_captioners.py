"""Image-to-text models of some thousand random weights, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gapclose.analysis.captioner import INSTRUCTION

SIDE, PATCH = 32, 8  # pixels
_WORDS = ("a", "photo", "of", "frog", "cat", "on", "leaf", "mud", "green", "brown", "red", "User")
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
# Large enough that the image tells in what is written.
_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "initializer_range": 0.5,
}
_VISION = {**_TOWER, "image_size": SIDE, "patch_size": PATCH}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CHAT = (
    "{{ bos_token }}{% for message in messages %}User : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>{% endfor %}{% if add_generation_prompt %}Assistant :{% endif %}"
)


def save_blip(folder: Path) -> None:
    """BLIP, which reads images alone."""
    import transformers as hf

    tokenizer = _tokenizer()
    text = {**_TOWER, **_ENDS, "vocab_size": len(tokenizer), "max_position_embeddings": 128}
    config = hf.BlipConfig(
        text_config={**text, "encoder_hidden_size": 16, "sep_token_id": 2},
        vision_config=_VISION,
    )
    _save(hf.BlipForConditionalGeneration, config, folder)
    images = hf.BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    hf.BlipProcessor(images, tokenizer).save_pretrained(folder)


def save_encoder_decoder(folder: Path) -> None:
    """A ViT and a GPT-2, which no processor joins."""
    import transformers as hf

    tokenizer = _tokenizer()
    decoder = hf.GPT2Config(
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=128,
        vocab_size=len(tokenizer),
        initializer_range=0.5,
        **_ENDS,
    )
    both = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs
    config = both(hf.ViTConfig(**_VISION), decoder, decoder_start_token_id=1, **_ENDS)
    _save(hf.VisionEncoderDecoderModel, config, folder)
    hf.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_chat(folder: Path, *, template: str | None = CHAT, question: str = INSTRUCTION) -> None:
    """Idefics3, which chats, and reads a large image as several tiles and the whole.

    It knows the words of one question.
    """
    import transformers as hf

    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    image = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    tokenizer = _tokenizer(*image, *tiles, question=question)
    text = {**_TOWER, **_ENDS, "vocab_size": len(tokenizer), "max_position_embeddings": 1024}
    config = hf.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        vision_config=_VISION,
        text_config={**text, "model_type": "llama", "num_key_value_heads": 2},
        pad_token_id=0,
    )
    _save(hf.Idefics3ForConditionalGeneration, config, folder)
    images = hf.Idefics3ImageProcessor(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    per_tile = (SIDE // PATCH // 2) ** 2
    processor = hf.Idefics3Processor(
        images, tokenizer, image_seq_len=per_tile, chat_template=template
    )
    processor.save_pretrained(folder)


def _save(kind: Any, config: Any, folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    save_quietly(kind(config), folder)


def save_quietly(model: Any, folder: Path) -> None:
    """Save a model without a progress bar."""
    from transformers.utils import logging

    bars: Any = logging
    bars.disable_progress_bar()
    model.save_pretrained(folder)
    bars.enable_progress_bar()


def splitted(text: str) -> list[str]:
    """The words and marks that a text's tokens are of."""
    from tokenizers import pre_tokenizers

    return [word for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)]


def _tokenizer(*special: str, question: str = INSTRUCTION) -> Any:
    """One token a word, of a few words and those of a question."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = dict.fromkeys([*_SPECIAL, *special, *_WORDS, *splitted(question)])
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
    )
