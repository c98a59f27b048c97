"""A LoRA's scale, searched: `python tests/benchmarks/lora.py [--seeds 3] [--all-words]`.

Trains a LoRA on 40 photos of brown frogs, which are none of the real side's, by the recipe of
diffusers' `train_text_to_image_lora.py`: attention's projections at rank 4, the plain prompt. The
frogs are then tuned by words alone, and by the same words with the LoRA's scale beside them. Of
the words, brown is left out, which the plain prompt does not make either: that is what people have
LoRAs for. With `--all-words` it is there, and the LoRA is hardly needed. Prints how many images
each takes to a gap on the tune split, the gap on unseen photos, and how many of the images are
near-copies of the LoRA's photos, beside as many where there is no LoRA.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.embedding import make_embedder
from gapclose.generators.checkpoint import POND
from gapclose.generators.images import Pixels
from gapclose.generators.pond.renderer import REAL, Scene, expose
from gapclose.loop.config.reading import load_config
from gapclose.loop.tuning import tune

PHOTOS = 40
LEVELS = (10.0, 5.0, 2.0, 1.0)  # floors
COLORS = ("", "red", "green", "blue", "yellow", "gray", "white", "black")
PROMPT = "a photo of a frog"


def brown_frogs(n: int) -> list[Pixels]:
    """Photos of brown frogs on the grounds that frogs have, by seeds that no run has."""
    rng = np.random.default_rng(40)
    grounds = REAL["frog"].backgrounds
    return [
        expose(
            Scene(
                cls="frog",
                color="brown",
                background=str(rng.choice([*grounds], p=[*grounds.values()])),
            ),
            10**7 + number,
        )
        for number in range(n)
    ]


def train(photos: list[Pixels], folder: Path, *, steps: int) -> None:
    """Train a LoRA on photos that all have one caption, and write it as diffusers does."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(0)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        str(POND), safety_checker=None, dtype=torch.float32, use_safetensors=True
    )
    unet, vae, text = pipeline.unet, pipeline.vae, pipeline.text_encoder
    for part in (unet, vae, text):
        part.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(
            r=4,
            lora_alpha=4,
            init_lora_weights="gaussian",
            target_modules=["to_k", "to_q", "to_v", "to_out.0"],
        )
    )
    noise: Any = DDPMScheduler.from_config(pipeline.scheduler.config)
    pixels = torch.tensor(np.stack(photos)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    words = pipeline.tokenizer(
        [PROMPT],
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    with torch.no_grad():
        latents, states = vae.encode(pixels).latent_dist, text(words)[0]
    weights = [its for its in unet.parameters() if its.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    batch = 16
    for _ in range(steps):
        rows = torch.randint(len(photos), (batch,))
        clean = latents.sample()[rows] * vae.config.scaling_factor
        added = torch.randn_like(clean)
        times = torch.randint(noise.config.num_train_timesteps, (batch,))
        noisy = noise.add_noise(clean, added, times)
        wanted = (
            added
            if noise.config.prediction_type == "epsilon"
            else noise.get_velocity(clean, added, times)
        )
        said = unet(noisy, times, states.expand(batch, -1, -1)).sample
        torch.nn.functional.mse_loss(said, wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(unet)),
        safe_serialization=True,
    )


def config(folder: Path | None, *, images: int, seed: int, all_words: bool) -> dict[str, Any]:
    """The pond's frogs by words, and with a LoRA's scale where there is one."""
    generator: dict[str, Any] = {
        "kind": "diffusers", "model": "pond", "size": 32, "batch_size": 32
    }  # fmt: skip
    space: dict[str, Any] = {
        "prompt": "a photo of a {color} {class}{place}",
        "slots": {
            "color": [*COLORS, *(["brown"] if all_words else [])],
            "place": [
                "",
                " on grass",
                " on water",
                " on sand",
                " on snow",
                " on road",
                " on clay",
            ],
        },
        "guidance_scale": [1.0, 4.0],
        "camera": {"resize": 32, "kernel": ["area"], "noise": [0.0, 0.04]},
    }
    baseline: dict[str, Any] = {"guidance_scale": 1.0, "num_inference_steps": 12}
    if folder is not None:
        generator["loras"] = [{"path": str(folder), "name": "brown"}]
        space["parameters"] = {"lora_brown": [0.0, 1.2]}
        baseline["parameters"] = {"lora_brown": 0.7}  # as one would try it first
    return {
        "real": {"kind": "pond", "per_class": 1000, "confirm_share": 0.3},
        "classes": ["frog"],
        "generator": generator,
        "embedder": "pond",
        "judge": "pond-judge",
        "space": space,
        "baseline": baseline,
        "tune": {"budget": None, "images": images, "seed": seed},
        "confirm": {"images": 104},
    }


def images_to(trials: list[dict[str, Any]], floor: float, level: float) -> int | None:
    """Images until the mixture's gap is at most so many floors, baseline included."""
    for row in trials:
        if row["mixture_gap"] is not None and row["mixture_gap"] <= level * floor:
            return int(row["images_total"])
    return None


def near_copies(run: Path, photos: list[Pixels]) -> tuple[float, float]:
    """Share of tuned images nearer to a photo of the LoRA's than 99 of 100 real photos are."""
    embedder = make_embedder("pond", device="cpu")
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]

    def embedded(stage: str) -> NDArray[np.float32]:
        paths = [run / row["path"] for row in rows if row["stage"] == stage]
        return embedder.embed([np.asarray(Image.open(path).convert("RGB")) for path in paths])

    known = embedder.embed(photos)
    real, tuned = embedded("real"), embedded("tuned")
    usual = np.quantile((real @ known.T).max(axis=1), 0.99)
    return float(((tuned @ known.T).max(axis=1) > usual).mean()), float(usual)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=700)
    parser.add_argument("--all-words", action="store_true")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--keep", type=Path, help="a folder for the LoRA and the runs")
    args = parser.parse_args()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    folder = args.keep or Path(tempfile.mkdtemp(prefix="lora-"))
    folder.mkdir(parents=True, exist_ok=True)
    photos = brown_frogs(PHOTOS)
    if not (folder / "brown").is_dir():
        train(photos, folder / "brown", steps=args.steps)
    found: dict[str, list[list[int | None]]] = {}
    lines = []
    for seed in range(args.seeds):
        for title, lora in (("words", None), ("words and LoRA", folder / "brown")):
            name = f"{title.replace(' ', '-')}-{seed}"
            file = folder / f"{name}.yaml"
            own = config(lora, images=args.images, seed=seed, all_words=args.all_words)
            file.write_text(yaml.safe_dump(own))
            run = tune(load_config(file), out=folder / name)
            floor = run.state["classes"]["frog"]["floor_p95"]
            reached = [images_to(run.trials, floor, level) for level in LEVELS]
            found.setdefault(title, []).append(reached)
            (row,) = run.gap["classes"]
            share, _ = near_copies(folder / name, photos)
            found_scale = row["shares"]["mixture"]["numbers"].get("parameters.lora_brown", {})
            scale = ", scale {mean:.2f} ± {sd:.2f}".format(**found_scale) if found_scale else ""
            lines.append(
                f"{title:15} seed {seed}: {row['before']['ratio']:5.1f} -> {row['ratio']:5.1f}"
                f" floors on unseen photos, judge {row['judge']['ratio']:.1f}, near-copies of the"
                f" LoRA's photos {share:.1%}, of real photos {len(row.get('copies') or ())}"
                f"{scale}"
            )
    print("\n" + "\n".join(lines))
    print("\nimages until the tune split sees at most ... floors, median over the seeds")
    print(f"{'':15} " + " ".join(f"{level:6g}" for level in LEVELS))
    for title, runs in found.items():
        most = [[its[i] for its in runs] for i in range(len(LEVELS))]
        said = [
            "never" if None in its else f"{median(n for n in its if n is not None):.0f}"
            for its in most
        ]
        print(f"{title:15} " + " ".join(f"{text:>6}" for text in said))


if __name__ == "__main__":
    main()
