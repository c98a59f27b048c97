"""Trains the embedded world's two encoders, each from a folder of images and nothing else.

`make pond` runs it: `clip` learns images and captions together and is saved in open_clip's own
format; `judge`, another architecture, learns from the pixels of real photos without captions or
labels and is saved in transformers' own format. Nothing at run time imports this module.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

log = logging.getLogger(__name__)

SIZE: Final = 32
CONTEXT: Final = 24  # tokens
WIDTH: Final = 64  # of the shared space of images and captions
MEAN: Final = (0.48, 0.48, 0.46)
STD: Final = (0.25, 0.24, 0.26)
# Prompts of other people leave out the customary opening, or a word. Were no word ever dropped, "a
# photo of a frog" would be no words for a frog of a colour that captions always named: 38 of 100
# real frogs were then called frogs. The fault stays: those words fit the usual colour far better.
_OPENING: Final = "a photo of a "
_OPENING_DROPPED: Final = 0.15
_WORD_DROPPED: Final = 0.25
# Half of the patches are enough for most of the training, at a third of the cost (Li et al. 2023,
# "FLIP"); the last quarter sees all of them, as use does.
_PATCHES_DROPPED: Final = 0.5
_WHOLE_IMAGES: Final = 0.25
_CLIP_WEIGHTS: Final = "open_clip_model.safetensors"
_JUDGE_WIDTH: Final = 128  # of the judge's features
_EVERY: Final = 100  # steps between two log lines


class TrainingDataError(ValueError):
    """The folder holds nothing to train on: fix the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a training run did: steps, the mean loss of its last steps, and wall-clock seconds."""

    steps: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """How far an augmented image may stray from the photo; all draws are uniform from 0 or 1.

    Colours never change hue or saturation: a red and a brown frog must stay apart.

    Attributes:
        noise: Largest standard deviation of white sensor noise, of [0, 1].
        grain: Largest standard deviation of noise that spans two pixels, as codecs leave it.
        light: Largest relative change of brightness.
        contrast: Largest relative change of contrast.
        shift: Largest shift, in pixels.
        zoom: Largest relative change of size.
        warp: Standard deviation of the displacement of outlines, in pixels.
    """

    noise: float = 0.04
    grain: float = 0.012
    light: float = 0.06
    contrast: float = 0.08
    shift: float = 2.0
    zoom: float = 0.06
    warp: float = 0.35


CLIP_DEGRADATION: Final = Degradation()
JUDGE_DEGRADATION: Final = Degradation(shift=4.0, zoom=0.15, warp=0.8, light=0.1)


# ---------------------------------------------------------------- reading


def read_scenes(folder: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a folder of captioned scenes: `captions.jsonl` with one `{file, caption}` per line.

    Returns:
        (n, 32, 32, 3) pixels and n captions.

    Raises:
        TrainingDataError: If there is no `captions.jsonl`, or it is empty.
    """
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        raise TrainingDataError(f"{folder}: no captions.jsonl; render captioned scenes first")
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines() if line]
    if not rows:
        raise TrainingDataError(f"{listing}: empty; render captioned scenes first")
    return _read([folder / row["file"] for row in rows]), [str(row["caption"]) for row in rows]


def read_photos(folder: Path) -> NDArray[np.uint8]:
    """Read every PNG below a folder; the names of class folders are not looked at.

    Returns:
        (n, 32, 32, 3) pixels, in the order of the paths.

    Raises:
        TrainingDataError: If there is none.
    """
    paths = sorted(folder.rglob("*.png"))
    if not paths:
        raise TrainingDataError(f"{folder}: no .png below it; render real photos first")
    return _read(paths)


def _read(paths: Sequence[Path]) -> NDArray[np.uint8]:
    pixels = np.empty((len(paths), SIZE, SIZE, 3), dtype=np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            if image.size != (SIZE, SIZE):
                raise TrainingDataError(f"{path}: {image.size}, not {SIZE}x{SIZE} pixels")
            pixels[i] = np.asarray(image.convert("RGB"))
    return pixels


# ---------------------------------------------------------------- augmenting


def augment(images: Tensor, how: Degradation, random: torch.Generator) -> Tensor:
    """Degrade images as cameras and generators do, so that embeddings follow meaning.

    Args:
        images: (n, 3, h, w) in [0, 1].
        how: The strengths.
        random: Where all draws come from.

    Returns:
        (n, 3, h, w) in [0, 1].
    """
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=random) * (high - low) + low

    moved = _move(images, how, random)
    # Bilinear sampling softens: a third of the images keep their pixels, so that sharp ones,
    # which the real photos are, stay the middle of what is seen.
    images = torch.where(uniform(0.0, 1.0) < 0.33, _flip(images, random), moved)
    # Between a little sharpened (t < 0) and blurred by a 3x3 binomial (t = 1).
    images = images + uniform(-0.25, 1.0) * (_blur(images) - images)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + (images - middle) * uniform(1.0 - how.contrast, 1.0 + how.contrast)
    images = images * uniform(1.0 - how.light, 1.0 + how.light)
    white = torch.randn(images.shape, generator=random)
    coarse = torch.randn(n, 3, SIZE // 2, SIZE // 2, generator=random)
    grain = functional.interpolate(coarse, scale_factor=2, mode="nearest")
    images = images + white * uniform(0.0, how.noise) + grain * uniform(0.0, how.grain)
    return images.clamp(0.0, 1.0)


def _flip(images: Tensor, random: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(images), 1, 1, 1, generator=random) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def _blur(images: Tensor) -> Tensor:
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, kernel, groups=3)


def _move(images: Tensor, how: Degradation, random: torch.Generator) -> Tensor:
    n = len(images)
    per_pixel = 2.0 / SIZE  # grid_sample's frame is -1..1
    sign = torch.where(torch.rand(n, generator=random) < 0.5, -1.0, 1.0)
    zoom = 1.0 + (torch.rand(n, generator=random) * 2 - 1) * how.zoom
    shift = (torch.rand(n, 2, generator=random) * 2 - 1) * how.shift * per_pixel
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = sign * zoom, zoom
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, [n, 3, SIZE, SIZE], align_corners=False)
    coarse = torch.randn(n, 2, 6, 6, generator=random) * how.warp * per_pixel
    warp = functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    grid = grid + warp.permute(0, 2, 3, 1)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _normalize(images: Tensor) -> Tensor:
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- the shared training loop


def _batches(n: int, size: int, steps: int, rng: np.random.Generator) -> Iterator[Tensor]:
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(n)])
        yield torch.from_numpy(order[:size])
        order = order[size:]


def _fit(
    modules: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    batches: Iterator[Tensor],
    *,
    steps: int,
    rate: float,
    decay: float,
    name: str,
) -> Result:
    """AdamW, warm-up, then a cosine down to nothing; bfloat16 where autocast knows it is safe."""
    # 3-7 times as fast as float32 where the processor has bfloat16 dot products, and 7 times as
    # slow where it has none.
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    matrices = [p for p in modules.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in modules.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    warmup = max(1, min(200, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / warmup,
            0.5 * (1 + math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup))),
        ),
    )
    start, losses = time.monotonic(), []
    modules.train()
    for step, index in enumerate(batches, start=1):
        # The fused attention is slower than the plain one for 32 patches, 2.5 times backwards.
        half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)
        with half, sdpa_kernel(SDPBackend.MATH):
            loss = loss_of(index)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % _EVERY == 0 or step == steps:
            seconds = time.monotonic() - start
            log.info(
                "%s %d/%d loss %.4f %.0fs", name, step, steps, np.mean(losses[-100:]), seconds
            )
    modules.eval()
    return Result(
        steps=steps, loss=float(np.mean(losses[-100:])), seconds=time.monotonic() - start
    )


def _publish(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `out`, then move its files in, one rename each."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        write(Path(scratch))
        for path in sorted(Path(scratch).iterdir()):
            path.chmod(0o644)  # safetensors writes for the owner alone
            path.replace(out / path.name)


def _half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # Half the bytes in the repository; the figures were measured with the rounded weights.
    return {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }


# ---------------------------------------------------------------- clip


def clip_config(vocabulary: int) -> dict[str, Any]:
    """What open_clip builds the model from: a patch-4 ViT and a two-layer text transformer."""
    return {
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": {
                "image_size": SIZE,
                "patch_size": 4,
                "width": 96,
                "head_width": 32,
                "layers": 4,
                "mlp_ratio": 3.0,
                "patch_dropout": _PATCHES_DROPPED,
                "pool_type": "avg",
                "final_ln_after_pool": True,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocabulary,
                "hf_tokenizer_name": "tokenizer-in-this-folder",
                "width": 64,
                "heads": 2,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "size": SIZE,
            "mode": "RGB",
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def contrastive_loss(images: Tensor, texts: Tensor, owner: Tensor, scale: Tensor) -> Tensor:
    """Radford et al. 2021's symmetric loss where several images may share one caption.

    Images of one caption are all each other's positives, as in Khosla et al. 2020, eq. (2):
    a pair of equal captions must never be pushed apart.

    Args:
        images: (n, d) unit rows.
        texts: (m, d) unit rows, one per distinct caption.
        owner: (n,) which of the m captions each image has.
        scale: Inverse temperature.
    """
    logits = scale * images.float() @ texts.float().T
    counts = torch.bincount(owner, minlength=len(texts)).float()
    # A caption k times in the batch stands k times in the softmax of an ordinary batch.
    to_text = functional.cross_entropy(logits + counts.log(), owner)
    positives = functional.one_hot(owner, len(texts)).float() / counts
    to_image = -(functional.log_softmax(logits, dim=0) * positives).sum(dim=0)
    return 0.5 * (to_text + (to_image * counts).sum() / counts.sum())


def wordings(
    captions: Sequence[str],
) -> tuple[list[str], Callable[[int, np.random.Generator], int]]:
    """All the ways in which training words its captions.

    Returns:
        The distinct wordings, and a function that draws the number of one of them for caption i:
        mostly the caption itself; some lack the opening, some one word.
    """
    number: dict[str, int] = {}
    of: dict[str, tuple[int, int, list[int]]] = {}
    for caption in sorted({*captions}):
        words = caption.split()
        less = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        texts = [caption, caption.removeprefix(_OPENING), *(text for text in less if text)]
        full, short, *fewer = (number.setdefault(text, len(number)) for text in texts)
        of[caption] = full, short, fewer

    def draw(i: int, rng: np.random.Generator) -> int:
        full, short, fewer = of[captions[i]]
        where = rng.random()
        if where < _OPENING_DROPPED:
            return short
        if where < _OPENING_DROPPED + _WORD_DROPPED and fewer:
            return fewer[rng.integers(len(fewer))]
        return full

    return list(number), draw


def train_clip(
    folder: Path,
    *,
    out: Path,
    steps: int = 2400,
    batch: int = 256,
    seed: int = 0,
    start: Path | None = None,
) -> Result:
    """Train a small CLIP on captioned scenes and save it as open_clip reads it.

    Args:
        folder: With `captions.jsonl`, the images it names, and `tokenizer/`.
        out: Becomes a folder for `open_clip.create_model_from_pretrained("local-dir:...")`.
        steps: Optimiser steps.
        batch: Images per step.
        seed: Of weights, order and augmentation.
        start: A folder written by an earlier training, to go on from, at a third of the rate.

    Raises:
        TrainingDataError: If the folder lacks scenes or tokenizer.
    """
    pixels, captions = read_scenes(folder)
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        raise TrainingDataError(f"{folder / 'tokenizer'}: no tokenizer.json; render scenes again")
    tokenizer = HFTokenizer(str(folder / "tokenizer"), context_length=CONTEXT)
    distinct, said_of = wordings(captions)
    tokens = tokenizer(distinct)
    log.info(
        "clip: %d scenes, %d captions, %d wordings", len(pixels), len({*captions}), len(tokens)
    )

    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    config = clip_config(len(tokenizer.tokenizer))
    model = open_clip.CLIP(**config["model_cfg"])
    if start is not None:
        model.load_state_dict(load_file(start / _CLIP_WEIGHTS))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    rng = np.random.default_rng(seed)
    done = 0

    def loss_of(index: Tensor) -> Tensor:
        nonlocal done
        if done == round(steps * (1.0 - _WHOLE_IMAGES)):
            model.visual.patch_dropout.prob = 0.0
        done += 1
        seen = _normalize(augment(images[index].float() / 255.0, CLIP_DEGRADATION, random))
        said = [said_of(int(i), rng) for i in index]
        captioned, owner = np.unique(said, return_inverse=True)
        return contrastive_loss(
            model.encode_image(seen, normalize=True),
            model.encode_text(tokens[torch.from_numpy(captioned)], normalize=True),
            torch.from_numpy(owner),
            # Above 100 training becomes unstable (Radford et al. 2021, section 2.5).
            model.logit_scale.clamp(max=math.log(100.0)).exp(),
        )

    order = np.random.default_rng([seed, 1])
    batches = _batches(len(pixels), min(batch, len(pixels)), steps, order)
    rate = 1.5e-3 if start is None else 5e-4
    result = _fit(model, loss_of, batches, steps=steps, rate=rate, decay=0.05, name="clip")

    model.logit_scale.data.clamp_(max=math.log(100.0))

    def write(scratch: Path) -> None:
        save_file(_half(model.state_dict()), scratch / _CLIP_WEIGHTS)
        (scratch / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        for path in sorted((folder / "tokenizer").glob("*.json")):
            (scratch / path.name).write_bytes(path.read_bytes())

    _publish(out, write)
    return result


# ---------------------------------------------------------------- judge


def judge_config() -> ResNetConfig:
    """A convolutional network, as the CLIP is a transformer: the judge looks in its own way."""
    return ResNetConfig(
        embedding_size=48,
        hidden_sizes=[48, 96, _JUDGE_WIDTH],
        depths=[2, 2, 1],
        layer_type="basic",
        dtype="float32",
    )


class _Student(nn.Module):
    """The judge and what only its training needs: a projector and a decoder."""

    def __init__(self, judge: ResNetModel, *, width: int) -> None:
        super().__init__()
        self.judge = judge
        self.project = nn.Sequential(
            nn.Linear(width, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128)
        )
        self.decode = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 3 * 8 * 8))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.judge(pixel_values=images).pooler_output.flatten(1)
        return functional.normalize(self.project(features), dim=-1), self.decode(features)


def agreement_loss(left: Tensor, right: Tensor, *, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, eq. (1)): two views of a photo agree, those of others do not.

    Args:
        left: (n, d) unit rows, one view of each photo.
        right: (n, d) unit rows, the other view.
        temperature: Smaller looks harder at the nearest others.
    """
    views = torch.cat([left, right]).float()
    n = len(left)
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n).roll(n)
    return functional.cross_entropy(logits, partner)


def train_judge(
    folder: Path, *, out: Path, steps: int = 3000, batch: int = 256, seed: int = 0
) -> Result:
    """Train the judge on real photos, without captions or labels, and save it for AutoModel.

    Two augmented views of one photo must agree (SimCLR); and the features must still tell the
    photo's coarse colours, which agreement alone has no reason to keep.

    Args:
        folder: Any tree of 32x32 PNG files.
        out: Becomes a folder for `AutoModel` and `AutoImageProcessor.from_pretrained`.
        steps: Optimiser steps.
        batch: Photos per step.
        seed: Of weights, order and augmentation.

    Raises:
        TrainingDataError: If the folder holds no photos.
    """
    pixels = read_photos(folder)
    log.info("judge: %d photos", len(pixels))
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    config = judge_config()
    judge = ResNetModel(config)
    student = _Student(judge, width=_JUDGE_WIDTH)
    student.to(memory_format=torch.channels_last)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def loss_of(index: Tensor) -> Tensor:
        photos = images[index].float() / 255.0
        views = torch.cat([augment(photos, JUDGE_DEGRADATION, random) for _ in range(2)])
        places, decoded = student(_normalize(views))
        left, right = places.chunk(2)
        # Each view's own pixels: its shift and light are part of what must be told.
        coarse = functional.avg_pool2d(_normalize(views), SIZE // 8).flatten(1)
        told = functional.mse_loss(decoded.float(), coarse)
        return agreement_loss(left, right, temperature=0.2) + 2.0 * told

    rng = np.random.default_rng(seed)
    batches = _batches(len(pixels), min(batch, len(pixels)), steps, rng)
    result = _fit(student, loss_of, batches, steps=steps, rate=2e-3, decay=0.02, name="judge")

    def write(scratch: Path) -> None:
        judge.save_pretrained(scratch, state_dict=_half(judge.state_dict()))
        ViTImageProcessor(
            size={"height": SIZE, "width": SIZE}, image_mean=list(MEAN), image_std=list(STD)
        ).save_pretrained(scratch)

    _publish(out, write)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run `encoder_trainer {clip,judge} FOLDER --out DIR [--steps N]`."""
    parser = argparse.ArgumentParser(prog="encoder_trainer", description=__doc__)
    parser.add_argument("what", choices=["clip", "judge"])
    parser.add_argument("folder", type=Path, help="clip: captioned scenes; judge: real photos")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trained encoder")
    parser.add_argument("--steps", type=int, default=None, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=256, help="images per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, default=None, help="clip: go on from this folder")
    parser.add_argument("--threads", type=int, default=None, help="processor threads")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.start and args.what != "clip":
        parser.error("--start: only the clip goes on from an earlier training")
    given = {key: getattr(args, key) for key in ("steps", "start")}
    options = {key: value for key, value in given.items() if value is not None}
    train: Callable[..., Result] = {"clip": train_clip, "judge": train_judge}[args.what]
    try:
        result = train(args.folder, out=args.out, batch=args.batch, seed=args.seed, **options)
    except TrainingDataError as error:
        parser.error(str(error))
    log.info("%s -> %s: %d steps, %.0f s", args.what, args.out, result.steps, result.seconds)


if __name__ == "__main__":
    main()
