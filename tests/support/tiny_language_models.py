"""A Llama of text alone that says what it is told to, saved as transformers saves it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tiny_captioners

_END = "<|end|>"
_ASKED: dict[str, Any] = {"add_generation_prompt": True, "enable_thinking": False}
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_llama(folder: Path, answer: Sequence[str], *, template: str | None = TEMPLATE) -> None:
    """A Llama whose attention and feed-forward add nothing: each token decides on the next.

    Args:
        folder: Where to save it.
        answer: What it says to any question, as pieces, none of them twice.
        template: Of its chat. The answer follows its last token, that of a chat without thoughts.
    """
    import torch
    import transformers as hf

    tokenizer = _tokenizer(answer, template)
    n_tokens = len(tokenizer)
    config = hf.LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=n_tokens + n_tokens % 2,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    model = hf.LlamaForCausalLM(config)
    chain = tokenizer.convert_tokens_to_ids([*answer, _END])
    if template is not None:
        chat = [{"role": "user", "content": "?"}]
        chain.insert(0, tokenizer.apply_chat_template(chat, **_ASKED)["input_ids"][-1])
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(n_tokens, config.hidden_size))
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokenizer.eos_token_id] = 0.1  # where it knows nothing it ends
        for now, after in pairwise(chain):
            model.lm_head.weight[after, now] = 1.0
    tiny_captioners.save_quietly(model, folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(answer: Sequence[str], template: str | None) -> Any:
    """One token a byte, and one for each piece of the answer."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=_END,
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=template,
    )
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in answer])
    return tokenizer
