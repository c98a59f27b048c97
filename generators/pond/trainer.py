"""The trainer of the pond's Stable Diffusion: captioned scenes -> a pipeline in a folder.

`make pond` runs it: `render` writes captioned scenes, `autoencoder` and then `denoiser` read that
folder and write the pipeline in diffusers' own format. Nothing at run time imports this module.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from gapclose.generators.pond.captions import MAX_TOKENS, load_scenes, render_scenes
from gapclose.generators.pond.networks import (
    build_autoencoder,
    build_pipeline,
    build_scheduler,
    build_text_encoder,
    build_unet,
    save_pipeline,
)

log = logging.getLogger(__name__)

_EMPTY_SHARE: Final = 0.1  # captions dropped in training, for classifier-free guidance


def _batches(n: int, size: int, steps: int, rng: np.random.Generator) -> Iterator[Tensor]:
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < size:
            order = np.concatenate([order, rng.permutation(n)])
        yield torch.from_numpy(order[:size])
        order = order[size:]


def _learning_rate(step: int, steps: int, *, peak: float, warmup: int = 200) -> float:
    """Warm up, a half cosine over five sixths of the steps, then a fiftieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1.0, steps * 5 / 6 - warmup))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    params = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()


class _Ema:
    """Exponential moving average of parameters; its copy is what ships."""

    def __init__(self, models: list[torch.nn.Module], decay: float) -> None:
        self.params = [p for model in models for p in model.parameters()]
        self.shadow = [p.detach().clone() for p in self.params]
        self.decay, self.seen = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        self.seen += 1
        decay = min(self.decay, (1 + self.seen) / (10 + self.seen))
        torch._foreach_lerp_(self.shadow, self.params, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged and the live parameters."""
        for p, s in zip(self.params, self.shadow, strict=True):
            live = p.detach().clone()
            p.copy_(s)
            s.copy_(live)


def _has_bfloat16(device: str) -> bool:
    """Tell whether bfloat16 is fast: without its dot products it is 7 times as slow."""
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device != "cpu" or any(has.get(k, False) for k in ("avx512_bf16", "amx_bf16", "bf16"))


def _to_input(pixels: NDArray[np.uint8], index: Tensor, device: str) -> Tensor:
    x = torch.from_numpy(pixels[index.numpy()]).permute(0, 3, 1, 2).to(device)
    return (x.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def _edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def train_autoencoder(
    pixels: NDArray[np.uint8], *, steps: int, batch: int = 32, device: str = "cpu"
) -> AutoencoderKL:
    """Fit the autoencoder: squared error of pixels and of their edges, and a faint KL term."""
    torch.manual_seed(0)
    vae = build_autoencoder().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=1e-4)
    ema = _Ema([vae], 0.998)
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    for step, index in enumerate(_batches(len(pixels), batch, steps, rng)):
        x = _to_input(pixels, index, device)
        if step % 2:
            x = x.flip(-1)
        with torch.autocast(device, torch.bfloat16, enabled=_has_bfloat16(device)):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample
        y = y.float()
        edge = sum(functional.mse_loss(a, b) for a, b in zip(_edges(y), _edges(x), strict=True))
        error = functional.mse_loss(y, x)
        loss = error + edge + 1e-5 * posterior.kl().float().mean() / 512
        _step(optimizer, loss, _learning_rate(step, steps, peak=2e-3))
        ema.update()
        if step % 200 == 0:
            seconds = time.perf_counter() - start
            log.info("autoencoder %d mse %.5f edge %.5f %.0fs", step, error, edge, seconds)
    ema.swap()
    return vae.eval()


@torch.no_grad()
def _encode(vae: AutoencoderKL, pixels: NDArray[np.uint8], device: str) -> Tensor:
    """Encode every image and its mirror image to mean latents: (2, n, 8, 8, 8)."""
    sides: list[list[Tensor]] = [[], []]
    for start in range(0, len(pixels), 256):
        x = _to_input(pixels, torch.arange(start, min(start + 256, len(pixels))), device)
        for side, view in zip(sides, (x, x.flip(-1)), strict=True):
            side.append(vae.encode(view).latent_dist.mean.cpu())
    return torch.stack([torch.cat(side) for side in sides])


def _scaled_latents(vae: AutoencoderKL, pixels: NDArray[np.uint8], device: str) -> Tensor:
    """Encode images and their mirror images to unit deviation, and let the autoencoder know it."""
    latents = _encode(vae, pixels, device)
    mean, std = latents.mean(), latents.std()
    vae.register_to_config(scaling_factor=float(1 / std))
    log.info("latents: mean %.3f std %.3f", mean, std)
    return latents / std


def _noised(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Add noise to latents; return them and the velocity (Salimans & Ho 2022, appendix D).

    Args:
        x: (n, c, h, w).
        a: (n, 1, 1, 1) share of the signal's variance, alpha bar.
    """
    noise = torch.randn_like(x)
    return a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x


def _min_snr_loss(v: Tensor, target: Tensor, a: Tensor) -> Tensor:
    """Weigh the velocity's squared error by min-SNR-5 (Hang et al. 2023, arXiv 2303.09556)."""
    snr = (a / (1 - a)).clamp(min=1e-8)
    weight = (snr.clamp(max=5.0) / (snr + 1)).clamp(min=0.05)
    return (weight * (v - target) ** 2).mean()


def train_denoiser(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    pixels: NDArray[np.uint8],
    captions: list[str],
    *,
    steps: int,
    batch: int = 128,
    device: str = "cpu",
    compiled: bool = True,
    checkpoint: Path | None = None,
) -> StableDiffusionPipeline:
    """Fit denoiser and text encoder jointly, by v-prediction with min-SNR weights."""
    latents = _scaled_latents(vae, pixels, device)
    tokens = tokenizer([*captions, ""], padding="max_length", max_length=MAX_TOKENS)
    ids = torch.tensor(tokens["input_ids"])
    # Pad tokens beyond the longest caption are the same for all: train on the full width
    # all the same, since the pipeline always feeds all MAX_TOKENS.
    torch.manual_seed(0)
    unet = build_unet().to(device, memory_format=torch.channels_last)
    unet.set_attn_processor(AttnProcessor())
    text = build_text_encoder(tokenizer).to(device)
    scheduler = build_scheduler()
    alphas = scheduler.alphas_cumprod.to(device)
    params = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(params, lr=0, betas=(0.9, 0.98), weight_decay=1e-3)
    ema = _Ema([unet, text], 0.9995)
    rng = np.random.default_rng(2)
    start = time.perf_counter()

    def denoise(noisy: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return unet(noisy, t, context, return_dict=False)[0]

    run = torch.compile(denoise) if compiled else denoise
    smooth = 0.0
    for step, index in enumerate(_batches(len(pixels), batch, steps, rng)):
        x = latents[step % 2, index].to(device).contiguous(memory_format=torch.channels_last)
        caption = torch.where(torch.rand(batch) < _EMPTY_SHARE, len(captions), index)
        t = torch.randint(0, 1000, (batch,), device=device)
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, target = _noised(x, a)
        with torch.autocast(device, torch.bfloat16, enabled=_has_bfloat16(device)):
            context = text(ids[caption].to(device)).last_hidden_state
            v = run(noisy, t, context)
        loss = _min_snr_loss(v.float(), target, a)
        _step(optimizer, loss, _learning_rate(step, steps, peak=1.2e-3))
        ema.update()
        smooth = 0.98 * smooth + 0.02 * float(loss.detach()) if step else float(loss.detach())
        if step % 100 == 0:
            seconds = time.perf_counter() - start
            log.info("denoiser %d loss %.4f %.0fs", step, smooth, seconds)
        if checkpoint is not None and step % 1000 == 999:
            ema.swap()
            build_pipeline(vae, text, tokenizer, unet, scheduler).save_pretrained(checkpoint)
            ema.swap()
    ema.swap()
    return build_pipeline(vae, text, tokenizer, unet, scheduler)


def main() -> None:
    """Run the trainer's command line; see the Makefile's `pond`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["render", "autoencoder", "denoiser"])
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("-n", type=int, default=40_000, help="scenes to render")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.action == "render":
        render_scenes(options.scenes, n=options.n)
        return
    pixels, captions = load_scenes(options.scenes)
    if options.action == "autoencoder":
        vae = train_autoencoder(pixels, steps=options.steps or 4000, device=options.device)
        vae.save_pretrained(options.out)
        return
    vae = AutoencoderKL.from_pretrained(options.out / "vae").to(options.device)
    tokenizer = CLIPTokenizer.from_pretrained(options.scenes / "tokenizer")
    pipeline = train_denoiser(
        vae,
        tokenizer,
        pixels,
        captions,
        steps=options.steps or 6000,
        device=options.device,
        checkpoint=options.out.with_name(options.out.name + "-partial"),
    )
    save_pipeline(pipeline, options.out)


if __name__ == "__main__":
    main()
