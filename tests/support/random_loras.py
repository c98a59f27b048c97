"""LoRAs of random weights, in files as diffusers writes them, strong enough to be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def write_lora(model: Path, folder: Path, *, seed: int = 0, part: str = "unet") -> Path:
    """Write a LoRA of a Stable Diffusion pipeline's U-Net, or of its text encoder.

    Args:
        model: Folder of the pipeline.
        folder: Where it is written.
        seed: Of its weights.
        part: "unet" or "text_encoder".
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    names = ["to_q", "to_v"] if part == "unet" else ["q_proj", "v_proj"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = StableDiffusionPipeline.from_pretrained(str(model), safety_checker=None)
        network = getattr(made, part)
        network.add_adapter(LoraConfig(r=2, target_modules=names))
        for name, weights in network.named_parameters():
            if "lora" in name:
                torch.nn.init.normal_(weights, std=1.0)
        state = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
        StableDiffusionPipeline.save_lora_weights(folder, **{f"{part}_lora_layers": state})
    return folder
