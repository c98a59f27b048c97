"""A small Stable Diffusion pipeline as one file, in the layout that it was first published in.

The names of weights are those of CompVis' latent diffusion; diffusers reads them by
`from_single_file`. It is the inverse of `convert_ldm_unet_checkpoint` and its siblings there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save_file

__all__ = ["ldm_state", "write_single_file"]

_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION: Final = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def write_single_file(pipeline: Any, path: Path) -> Path:
    """Write a StableDiffusionPipeline as one file."""
    save_file(ldm_state(pipeline), path)
    return path


def ldm_state(pipeline: Any) -> dict[str, Any]:
    """Return the weights of a StableDiffusionPipeline by the names of latent diffusion."""
    state = {}
    layers = pipeline.unet.config.layers_per_block + 1
    for name, weights in pipeline.unet.state_dict().items():
        state[f"model.diffusion_model.{_unet_name(name, layers)}"] = weights
    blocks = len(pipeline.vae.config.block_out_channels)
    for name, weights in pipeline.vae.state_dict().items():
        own = _vae_name(name, blocks)
        # Attention was a convolution of one pixel.
        is_flat = ".attn_1." in own and weights.ndim == 2
        state[f"first_stage_model.{own}"] = weights[..., None, None] if is_flat else weights
    for name, weights in pipeline.text_encoder.state_dict().items():
        own = name.removeprefix("text_model.")
        state[f"cond_stage_model.transformer.text_model.{own}"] = weights
    return {name: weights.contiguous().clone() for name, weights in state.items()}


def _unet_name(name: str, layers: int) -> str:
    side = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if side is not None:
        where, block, what, layer, rest = side.groups()
        first = int(block) * layers + int(layer)
        if what == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * layers}.0.{rest.replace('conv.', 'op.')}"
        if what == "upsamplers":  # behind the attention where the block has one
            return f"output_blocks.{(int(block) + 1) * layers - 1}.2.{rest}"
        place = f"input_blocks.{first + 1}" if where == "down" else f"output_blocks.{first}"
        if what == "resnets":
            return f"{place}.0.{_renamed(rest, _RESNET)}"
        return f"{place}.1.{rest}"
    middle = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name)
    if middle is not None:
        what, number, rest = middle.groups()
        if what == "attentions":
            return f"middle_block.1.{rest}"
        return f"middle_block.{2 * int(number)}.{_renamed(rest, _RESNET)}"
    return _renamed(name, _UNET)


def _vae_name(name: str, blocks: int) -> str:
    side = re.match(r"(encoder|decoder)\.(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)", name)
    if side is not None:
        coder, where, block, what, layer, rest = side.groups()
        number = int(block) if where == "down" else blocks - 1 - int(block)
        if what == "resnets":
            rest = rest.replace("conv_shortcut", "nin_shortcut")
            return f"{coder}.{where}.{number}.block.{layer}.{rest}"
        return f"{coder}.{where}.{number}.{where}sample.{rest}"
    middle = re.match(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name)
    if middle is not None:
        coder, what, number, rest = middle.groups()
        if what == "attentions":
            return f"{coder}.mid.attn_1.{_renamed(rest, _VAE_ATTENTION)}"
        return f"{coder}.mid.block_{int(number) + 1}.{rest}"
    return name.replace("conv_norm_out", "norm_out")


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for ours, theirs in table.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name
