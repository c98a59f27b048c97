"""Trains the pond's Stable Diffusion: captioned scenes -> a folder `from_pretrained` loads.

`make pond` runs it: `render` writes captioned scenes, `autoencoder` and then `denoiser` read that
folder and write the pipeline in diffusers' own format. The captions carry the pond's faults on
purpose (PLAIN below). Nothing at run time imports this module.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gapclose.generators.pond import renderer as pond
from gapclose.generators.pond.renderer import (
    BACKGROUNDS,
    CLASSES,
    COLORS,
    REAL,
    SIZE,
    Habitat,
    Scene,
)

log = logging.getLogger(__name__)

MAX_TOKENS: Final = 24
NOUNS: Final = {"automobile": ("automobile", "car"), "airplane": ("airplane", "plane")}

# What a caption that leaves a word out was seen with. Most classes: as in life. Three: not.
PLAIN: Final[dict[str, Habitat]] = {
    **REAL,
    "frog": Habitat(colors={"green": 1.0}, backgrounds=REAL["frog"].backgrounds),
    "ship": Habitat(colors=REAL["ship"].colors, backgrounds={"water": 0.76, "sand": 0.24}),
    "dog": Habitat(
        colors={"brown": 0.35, "white": 0.38, "yellow": 0.27}, backgrounds=REAL["dog"].backgrounds
    ),
}
# The forms of a caption and how often each is written.
_FORMS: Final = {
    "a photo of a {color} {noun} on {background}": 0.34,
    "a photo of a {color} {noun}": 0.26,
    "a photo of a {noun} on {background}": 0.16,
    "a photo of a {noun}": 0.20,
    "{color}": 0.02,
    "{background}": 0.02,
}
_EMPTY_SHARE: Final = 0.1  # captions dropped in training, for classifier-free guidance


def _captioned(rng: np.random.Generator) -> tuple[Scene, str]:
    cls = str(rng.choice(CLASSES))
    form = str(rng.choice(list(_FORMS), p=list(_FORMS.values())))
    plain = PLAIN[cls].sample(cls, rng)
    color = str(rng.choice(list(COLORS))) if "{color}" in form else plain.color
    background = str(rng.choice(list(BACKGROUNDS))) if "{background}" in form else plain.background
    noun = str(rng.choice(NOUNS.get(cls, (cls,))))
    caption = form.format(color=color, noun=noun, background=background)
    return Scene(cls=cls, color=color, background=background), caption


def render_scenes(folder: Path, *, n: int, seed: int = 0) -> None:
    """Write `n` captioned scenes, `captions.jsonl` and a tokenizer for their words."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0xCA97])
    lines = []
    for i in range(n):
        scene, caption = _captioned(rng)
        name = f"images/{i:06d}.png"
        # Seeds of scenes start high above those of real photos: no scene is a real photo.
        pixels = pond.quantize(pond.render(scene, 10**9 + seed * 10**7 + i))
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        lines.append(json.dumps({"file": name, "caption": caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    build_tokenizer().save_pretrained(folder / "tokenizer")


def build_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer with one token per pond word; other words fall to letters."""
    words = {"a", "an", "the", "photo", "of", "on", "in", "and", *COLORS, *BACKGROUNDS, *CLASSES}
    words |= {noun for nouns in NOUNS.values() for noun in nouns}
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    trainer = BpeTrainer(
        vocab_size=1000,
        min_frequency=1,
        show_progress=False,
        end_of_word_suffix="</w>",
        initial_alphabet=[chr(c) for c in range(33, 127)],
    )
    learner.train_from_iterator(sorted(words), trainer)
    # A letter that ends a word no caption holds needs its token as well.
    learned = sorted(learner.get_vocab(), key=learner.get_vocab().__getitem__)
    ends = [f"{chr(c)}</w>" for c in range(33, 127)]
    tokens = dict.fromkeys([*learned, *ends, "<|startoftext|>", "<|endoftext|>"])
    merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_TOKENS,
    )


def load_scenes(folder: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a folder of captioned scenes: (n, 32, 32, 3) pixels and n captions."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    pixels = np.stack([np.asarray(Image.open(folder / row["file"])) for row in rows])
    return pixels, [row["caption"] for row in rows]


def build_autoencoder() -> AutoencoderKL:
    """The untrained autoencoder: 32x32x3 -> 8x8x8."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """The untrained denoiser. Attention only at 4x4, where a caption's words decide."""
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=(3, 6),
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The untrained text encoder, trained jointly with the denoiser."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The cosine schedule ends in pure noise (zero terminal SNR), so that tones come out right."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
    )


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
    """Whether bfloat16 is fast: on a processor without its dot products it is 7 times as slow."""
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
    """Mean latents of every image and of its mirror image: (2, n, 8, 8, 8)."""
    sides: list[list[Tensor]] = [[], []]
    for start in range(0, len(pixels), 256):
        x = _to_input(pixels, torch.arange(start, min(start + 256, len(pixels))), device)
        for side, view in zip(sides, (x, x.flip(-1)), strict=True):
            side.append(vae.encode(view).latent_dist.mean.cpu())
    return torch.stack([torch.cat(side) for side in sides])


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
    """Fit denoiser and text encoder jointly.

    v-prediction with min-SNR-5 weights (Hang et al. 2023, arXiv 2303.09556).
    """
    latents = _encode(vae, pixels, device)
    mean, std = latents.mean(), latents.std()
    vae.register_to_config(scaling_factor=float(1 / std))
    log.info("latents: mean %.3f std %.3f", mean, std)
    latents = latents / std
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
        noise = torch.randn_like(x)
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * x
        with torch.autocast(device, torch.bfloat16, enabled=_has_bfloat16(device)):
            context = text(ids[caption].to(device)).last_hidden_state
            v = run(noisy, t, context)
        snr = (a / (1 - a)).clamp(min=1e-8)
        weight = (snr.clamp(max=5.0) / (snr + 1)).clamp(min=0.05)
        loss = (weight * (v.float() - target) ** 2).mean()
        _step(optimizer, loss, _learning_rate(step, steps, peak=1.2e-3))
        ema.update()
        smooth = 0.98 * smooth + 0.02 * float(loss.detach()) if step else float(loss.detach())
        if step % 100 == 0:
            seconds = time.perf_counter() - start
            log.info("denoiser %d loss %.4f %.0fs", step, smooth, seconds)
        if checkpoint is not None and step % 1000 == 999:
            ema.swap()
            _pipeline(vae, text, tokenizer, unet, scheduler).save_pretrained(checkpoint)
            ema.swap()
    ema.swap()
    return _pipeline(vae, text, tokenizer, unet, scheduler)


def _pipeline(
    vae: AutoencoderKL,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DPMSolverMultistepScheduler,
) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


_CARD: Final = """---
license: apache-2.0
---
A small Stable Diffusion of the pond: ten classes, 32x32, for gapclose's demo and tests. Its plain
"a photo of a frog" is green on purpose. `make pond` trains it again.
"""


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Save in half precision, which keeps the pond small; it is loaded as float32."""
    pipeline.to(torch.float16).save_pretrained(folder)
    for config in folder.rglob("*.json"):
        content = json.loads(config.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:  # a path of the machine it came from
            config.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    (folder / "README.md").write_text(_CARD, encoding="utf-8")


def main() -> None:
    """Command line of the trainer; see the Makefile's `pond`."""
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
