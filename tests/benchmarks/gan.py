"""A GAN's truncation, found: `python tests/benchmarks/gan.py [--train 120] [--budget 3m]`.

Trains a small class-conditional GAN on rendered frogs and ships, exports it to ONNX, and draws a
"real" side from it at a truncation that nobody tells the search. The baseline is what a careful
person takes for clean images, a low truncation: few kinds of images, so a gap in diversity. Prints
the truncation that the search came to, and gap and diversity before and after.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from onnx_files import field, model, node, tensor, value_info

from gapclose.generators.base import generate_all
from gapclose.generators.onnx import OnnxGenerator
from gapclose.generators.pond import renderer as pond
from gapclose.generators.recipe import Draw
from gapclose.loop.config.reading import load_config
from gapclose.loop.tuning import tune

CLASSES = ("frog", "ship")
LATENT, SIDE = 16, 32
PIXELS = 3 * SIDE * SIDE
TRUE, BASELINE = 1.1, 0.3  # truncations


class Net(nn.Sequential):
    """Two hidden layers, from an image or noise and a class."""

    def __init__(self, inputs: int, outputs: int) -> None:
        sizes = (inputs + len(CLASSES), 256, 512)
        hidden = [
            layer
            for before, after in itertools.pairwise(sizes)
            for layer in (nn.Linear(before, after), nn.LeakyReLU(0.2))
        ]
        super().__init__(*hidden, nn.Linear(sizes[-1], outputs))


def scenes(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rendered images (2n, PIXELS) in [-1, 1], and their classes, one of two being 1."""
    images, labels = [], []
    for number, cls in enumerate(CLASSES):
        for seed in range(n):
            images.append(pond.expose(pond.real_scene(cls, seed), seed))
            labels.append(number)
    pixels = torch.tensor(np.stack(images)).permute(0, 3, 1, 2).reshape(2 * n, PIXELS)
    return pixels.float() / 127.5 - 1.0, torch.eye(len(CLASSES))[labels]


def trained(seconds: float) -> Net:
    """A generator after so many seconds against a discriminator, by the hinge loss."""
    torch.manual_seed(0)
    real, labels = scenes(2000)
    generator, judge = Net(LATENT, PIXELS), Net(PIXELS, 1)
    steps = [
        torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.9)) for net in (generator, judge)
    ]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(2):
            rows = torch.randint(len(real), (64,))
            fake = made(generator, labels[rows]).detach()
            noisy = [its + 0.1 * torch.randn_like(its) for its in (real[rows], fake)]
            true, false = (judge(torch.cat([its, labels[rows]], 1)) for its in noisy)
            loss = (1 - true).relu().mean() + (1 + false).relu().mean()
            steps[1].zero_grad()
            loss.backward()
            steps[1].step()
        rows = torch.randint(len(real), (64,))
        fake = made(generator, labels[rows])
        loss = -judge(torch.cat([fake + 0.1 * torch.randn_like(fake), labels[rows]], 1)).mean()
        steps[0].zero_grad()
        loss.backward()
        steps[0].step()
    return generator


def made(generator: Net, labels: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(len(labels), LATENT)
    return torch.tanh(generator(torch.cat([noise, labels], 1)))


def export(net: Net, path: Path) -> None:
    """Write it as ONNX: z (n, 16) and class (n,) to images (n, 3, 32, 32)."""
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    tensors = [
        tensor("one", np.eye(len(CLASSES), dtype=np.float32)),
        tensor("shape", np.array([-1, 3, SIDE, SIDE], np.int64)),
    ]
    nodes = [node("Gather", ["one", "class"], "label"), joined()]
    last = "h0"
    for i, layer in enumerate(layers):
        weight = layer.weight.detach().numpy().T.copy()
        tensors += [tensor(f"w{i}", weight), tensor(f"b{i}", layer.bias.detach().numpy())]
        nodes += [
            node("MatMul", [last, f"w{i}"], f"m{i}"),
            node("Add", [f"m{i}", f"b{i}"], f"a{i}"),
        ]
        slope = field(1, "alpha") + b"\x15" + np.float32(0.2).tobytes() + field(20, 1)
        nodes.append(
            node("Tanh", [f"a{i}"], "flat")
            if i == len(layers) - 1
            else node("LeakyRelu", [f"a{i}"], f"h{i + 1}", slope)
        )
        last = f"h{i + 1}"
    nodes.append(node("Reshape", ["flat", "shape"], "image"))
    said = field(14, field(1, "classes") + field(2, json.dumps(CLASSES)))
    path.write_bytes(
        model(
            nodes,
            tensors,
            inputs=[value_info("z", ["n", LATENT]), value_info("class", ["n"], 7)],
            outputs=[value_info("image", ["n", 3, SIDE, SIDE])],
            metadata=said,
        )
    )


def joined() -> bytes:
    axis = field(1, "axis") + field(3, 1) + field(20, 2)
    return node("Concat", ["z", "label"], "h0", axis)


def photos(path: Path, folder: Path, n: int) -> None:
    """The real side: images at the true truncation, by seeds that no run has."""
    generator = OnnxGenerator(path)
    for cls in CLASSES:
        (folder / cls).mkdir(parents=True)
        draw = Draw(prompt=cls, cls=cls, parameters={"truncation": TRUE})
        (batch,) = generate_all(generator, [(draw, range(2**40, 2**40 + n))])
        for number, image in enumerate(batch.images):
            Image.fromarray(image).save(folder / cls / f"{number:04}.png")


def sheet(path: Path, out: Path) -> None:
    """A picture of images at the baseline's truncation and at the true one."""
    generator = OnnxGenerator(path)
    rows: list[NDArray[np.uint8]] = []
    for cls in CLASSES:
        for truncation in (BASELINE, TRUE):
            draw = Draw(prompt=cls, cls=cls, parameters={"truncation": truncation})
            rows.append(np.concatenate(generate_all(generator, [(draw, range(16))])[0].images, 1))
    Image.fromarray(np.concatenate(rows)).save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=float, default=120.0, help="seconds")
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--keep", type=Path, help="a folder for the model, the run and a picture")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="gan-"))
    folder.mkdir(parents=True, exist_ok=True)
    export(trained(args.train), folder / "gan.onnx")
    sheet(folder / "gan.onnx", folder / "gan.png")
    photos(folder / "gan.onnx", folder / "photos", 600)
    config: dict[str, Any] = {
        "real": {"path": str(folder / "photos")},
        "generator": {"kind": "onnx", "model": str(folder / "gan.onnx")},
        "embedder": "pond",
        "judge": "pond-judge",
        "space": {"prompt": "a {class}", "parameters": {"truncation": [0.1, 2.5]}},
        "baseline": {"prompt": "a {class}", "parameters": {"truncation": BASELINE}},
        "tune": {"budget": args.budget},
    }
    (folder / "gan.yaml").write_text(yaml.safe_dump(config))
    tune(load_config(folder / "gan.yaml"), out=folder / "run")
    found = json.loads((folder / "run" / "gap.json").read_text())
    print(f"\ntruncation of the real side {TRUE}, of the baseline {BASELINE}")
    print("class  truncation found  floors before  after  diversity before  after  confirmed")
    for row in found["classes"]:
        own = row["shares"]["mixture"]["numbers"]["parameters.truncation"]
        before = row["before"]
        print(
            f"{row['name']:5}  {own['mean']:8.2f} ± {own['sd']:.2f}  {before['ratio']:13.1f}"
            f"  {row['ratio']:5.1f}  {before['vendi_ratio']:16.2f}  {row['vendi_ratio']:5.2f}"
            f"  {row['confirmed']}"
        )


if __name__ == "__main__":
    main()
