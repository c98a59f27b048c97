"""Two generators in one run: `python tests/benchmarks/two_generators.py [--budget 4m]`.

One is the pond's diffusion model with a word for brown: its plain words make green frogs. The
other is a renderer that has no brown or green frogs, and no ships on snow. Each is tuned alone,
and both together, in the same time. Prints the gap of each class on photos and images that no
search has seen, and what the mixture of both is made of.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gapclose.generators.images import ImageBatch
from gapclose.generators.pond.renderer import Scene, quantize, render
from gapclose.generators.recipe import Draw
from gapclose.loop.config.reading import load_config
from gapclose.loop.tuning import tune

CLASSES = ("frog", "ship")
COLORS = {
    "frog": ["gray", "yellow", "red"],
    "ship": ["white", "gray", "red", "blue", "black"],
}
PLACES = [" on grass", " on water", " on sand", " on snow", " on clay"]
GROUNDS = {"frog": ["grass", "water", "clay", "sand"], "ship": ["water", "sand"]}


class Renderer:
    """Draws what it has words for."""

    id = "renderer"
    revision = "1"
    license = "mit"
    source_type = "digitalCreation"
    parameters = ("color", "ground")
    settings = ()

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Draw a scene for each seed."""
        scene = Scene(
            cls=str(draw.cls),
            color=str(draw.parameters["color"]),
            background=str(draw.parameters["ground"]),
        )
        # Without the pond's own sensor noise, which the run's camera finds for both.
        images = tuple(quantize(render(scene, seed)) for seed in seeds)
        return ImageBatch(images=images, seeds=tuple(seeds), invalid=(None,) * len(images))


GENERATORS: dict[str, dict[str, Any]] = {
    "pond": {"kind": "diffusers", "model": "pond", "size": 32, "batch_size": 32},
    "renderer": {"kind": f"{Path(__file__).resolve()}:Renderer"},
}


def config(names: Sequence[str], budget: str) -> dict[str, Any]:
    """The same world and time for one of the generators, or for several."""
    own = {
        "class_parameters": {c: {"color": COLORS[c], "ground": GROUNDS[c]} for c in CLASSES},
        "prompt": "{class}",
    }
    start = {"parameters": {"color": "gray", "ground": "water"}}
    plain: dict[str, Any] = {
        "prompt": "a photo of a {color} {class}{place}",
        "slots": {"color": ["", "brown"], "place": ["", *PLACES]},
        "camera": {"resize": 32, "kernel": ["area"], "noise": [0.0, 0.04]},
    }
    settings = {"guidance_scale": 1.0, "num_inference_steps": 12}
    shared = {
        "real": {"kind": "pond", "per_class": 1000, "confirm_share": 0.3},
        "classes": [*CLASSES],
        "embedder": "pond",
        "judge": "pond-judge",
        "tune": {"budget": budget},
        "confirm": {"images": 104},
    }
    if len(names) > 1:
        return {
            **shared,
            "generators": {name: GENERATORS[name] for name in names},
            "space": {**plain, "generators": {"renderer": own}},
            "baseline": {**settings, "generators": {"renderer": start}},
        }
    (name,) = names
    alone = name == "renderer"
    return {
        **shared,
        "generator": GENERATORS[name],
        "space": {**plain, **(own if alone else {})},
        "baseline": {"prompt": "{class}", **start} if alone else settings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--keep", type=Path, help="a folder for the runs")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="two-generators-"))
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for names in (["pond"], ["renderer"], ["pond", "renderer"]):
        title = " and ".join(names)
        file = folder / f"{'-'.join(names)}.yaml"
        file.write_text(yaml.safe_dump(config(names, args.budget)))
        tune(load_config(file), out=folder / file.stem)
        found[title] = json.loads((folder / file.stem / "gap.json").read_text())
    print("\nfloors on unseen photos           before   after  judge  confirmed")
    for title, gap in found.items():
        for row in sorted(gap["classes"], key=lambda row: str(row["name"])):
            judge = row["judge"]["ratio"] if row["judge"] else float("nan")
            print(
                f"{title:22} {row['name']:8} {row['before']['ratio']:8.1f} {row['ratio']:7.1f}"
                f" {judge:6.1f}  {row['confirmed']}"
            )
    print("\nthe mixture of both, and each alone by the same images")
    for row in found["pond and renderer"]["classes"]:
        both, floor = row["generators"], row["floor_p95"]
        parts = ", ".join(
            f"{its['name']} {its['weight']:.0%} (alone {its['gap'] / floor:.1f} floors)"
            for its in both["alone"]
        )
        print(f"{row['name']:8} {parts}; together {both['together'] / floor:.1f}")


if __name__ == "__main__":
    main()
