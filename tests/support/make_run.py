"""A small finished run folder, for tests of what reads one: report, viewer, export.

Images are the pond's own renderings (the baseline's frogs all green, the tuned ones in the real
shares); the numbers beside them are made up, plausible, and fixed by the seed. No model runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gapclose.generators.base import checked_seeds
from gapclose.generators.camera import apply_camera
from gapclose.generators.images import ImageBatch, write_png
from gapclose.generators.pond.renderer import (
    BACKGROUNDS,
    CLASSES,
    COLORS,
    Scene,
    expose,
    real_scene,
)
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.config.reading import parse_config
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.search.shares import shares_of
from gapclose.loop.search.space import Space

FAULTS = {"frog": ("color", "green"), "ship": ("place", "water"), "truck": ("place", "road")}
_WORDS = {"color": list(COLORS), "place": list(BACKGROUNDS)}


class Renderer:
    """A generator for tests: draws the scene whose words the prompt holds, the rest at random.

    Args:
        spoil: images whose seed this divides come out black and are marked so; 0 is none.
    """

    id = "pond-renderer"
    revision: str | None = "1"
    license: str | None = "apache-2.0"
    source_type = "digitalCreation"

    def __init__(self, spoil: int = 0) -> None:
        self.spoil = spoil

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """One scene per seed."""
        images, invalid = [], []
        for seed in checked_seeds(seeds):
            cls = next((c for c in CLASSES if c in draw.prompt), "frog")
            images.append(expose(_scene(cls, draw.prompt, seed), seed))
            bad = bool(self.spoil) and seed % self.spoil == 0
            if bad:
                images[-1] = np.zeros_like(images[-1])
            invalid.append("one colour" if bad else None)
        return ImageBatch(images=tuple(images), seeds=tuple(seeds), invalid=tuple(invalid))


def _scene(cls: str, prompt: str, seed: int) -> Scene:
    scene = real_scene(cls, seed)
    words = prompt.split()
    color = next((w for w in words if w in COLORS), scene.color)
    background = next((w for w in words if w in BACKGROUNDS), scene.background)
    return Scene(cls=cls, color=color, background=background)


def _recipe(cls: str, words: str = "", place: str = "", **camera: Any) -> Recipe:
    prompt = " ".join(["a photo of a", *words.split(), cls, *([f"on {place}"] if place else [])])
    return Recipe(
        draw=Draw(prompt=prompt, guidance_scale=3.0, num_inference_steps=12, scheduler="ddim"),
        camera=Camera(**camera),
    )


def mixture_of(cls: str) -> list[tuple[Recipe, float]]:
    """The recipes that the fixture's search ended with; weights sum to 1."""
    if cls != "frog":
        return [(_recipe(cls, noise=0.012), 0.7), (_recipe(cls, "", "grass", noise=0.012), 0.3)]
    rows = [("brown", "grass", 0.35), ("green", "water", 0.25), ("gray", "", 0.2)]
    rows += [("yellow", "clay", 0.12), ("red", "sand", 0.08)]
    return [(_recipe(cls, c, p, noise=0.018, jpeg_quality=90), w) for c, p, w in rows]


def make_run(
    path: Path,
    *,
    classes: Sequence[str] = CLASSES,
    per_class: int = 24,
    tuned: bool = True,
    names: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    closed: bool = False,
    words: bool = True,
) -> RunDir:
    """Makes RUN at `path` and its real photos beside it.

    Args:
        path: the run folder; must not exist.
        classes: pond classes; any other name is drawn as a frog.
        per_class: images per class and stage in samples.jsonl.
        tuned: False gives an audit: no trials, no mixtures, nothing called "before".
        names: other names for pond classes.
        config: keys that replace the fixture's.
        closed: True gives no class a gap, from the start.
        words: False leaves attributes out, as an embedder without a text encoder does.
    """
    names = names or {}
    real = path.parent / f"{path.name}-real"
    data: dict[str, Any] = {
        "real": {"path": str(real)},
        "generator": {"kind": "diffusers", "model": "pond"},
        "embedder": "pond",
        "judge": "pond-judge",
        "space": {"prompt": "a photo of a {color} {class}{place}",
                  "slots": {"color": ["", *COLORS], "place": ["", " on grass", " on water"]},
                  "camera": {"noise": [0.0, 0.03]}},
        "tune": {"budget": "4m", "images_per_trial": 8},
        "confirm": {"images": max(20, per_class)},
    }  # fmt: skip
    run = create_run(path, parse_config(data | (config or {})))
    rng = np.random.default_rng(0)
    samples: list[dict[str, Any]] = []
    xy: list[tuple[float, float]] = []
    rows, mixtures, states = [], {}, {}
    for index, source in enumerate(classes):
        name = names.get(source, source)
        stages = ("real", "baseline", "tuned") if tuned else ("real", "baseline")
        for stage in stages:
            for number in range(per_class):
                sample, scene = _sample(run, real, source, name, stage, number, per_class)
                samples.append(sample)
                xy.append(_place(index, len(classes), scene, source, stage, rng))
        row, trials, state = _numbers(source, name, index, rng, tuned=tuned, closed=closed)
        if not words:
            row["attributes"] = None
        rows.append(row)
        if tuned:
            states[name] = state
            recipes, weights = zip(*mixture_of(source), strict=True)
            space = Space.of(run.config(), source)
            row |= {
                "shares": shares_of(recipes, weights, space),
                "importances": _importances(space),
            }
            mixtures[name] = {
                "recipes": [
                    {"fingerprint": r.fingerprint(), "weight": w, "recipe": r.to_json()}
                    for r, w in mixture_of(source)
                ],
                "gap_tune": row["gap"] * 0.8,
                "effective": 1 / sum(w * w for _, w in mixture_of(source)),
            }
            for trial in trials:
                run.append_line("trials.jsonl", trial)
    clusters = [] if closed else _clusters(samples, names.get("frog", "frog"), words=words)
    run.write_samples(samples)
    save_file({"xy": np.asarray(xy, np.float32).reshape(-1, 2)}, path / "projection.safetensors")
    run.embeddings_path("samples").parent.mkdir(exist_ok=True)
    save_file({"embeddings": fake_embeddings(len(samples))}, run.embeddings_path("samples"))
    run.write_json(
        "gap.json",
        {
            "schema": 1,
            "embedder": "pond",
            "judge": "pond-judge",
            "confounds": [] if tuned else ["synthetic: png 512x512, real: jpeg 32x32"],
            "classes": rows,
            "clusters": clusters,
            "unreadable": [{"path": "frog/torn <b>.png", "why": "truncated file"}],
            "skipped": [{"class": "axolotl", "why": "too few: 7 real images"}],
        },
    )
    if tuned:
        run.write_json("mixtures.json", {"schema": 1, "classes": mixtures})
    run.write_json(
        "state.json",
        {
            "stage": "done",
            "started": "2026-11-23T22:00:00+00:00",
            "seconds_used": 221.4 if tuned else 12.3,
            "budget_seconds": 240.0 if tuned else None,
            "stopped_because": "budget",
            "classes": states,
        },
    )
    return run


def add_findings(run: RunDir) -> None:
    """Puts into a run of `make_run` whatever an audit of a messy folder finds.

    Its first class is stored differently, its second below its floor, and its last cannot be told.
    """
    gap, samples = run.read_json("gap.json"), run.samples()
    rows = gap["classes"]

    def paths(cls: str, side: str) -> list[str]:
        return [s["path"] for s in samples if (s["class"], s["side"]) == (cls, side)]

    for number, sample in enumerate(samples):
        sample["witness"] = round(math.sin(number), 4)
    rows[1] |= {"ratio": 0.6, "gap": 0.0007, "closed": False, "q_value": 0.01}
    rows[-1] |= {"ratio": None, "effect": None, "closed": None, "p_value": 1.0, "q_value": 1.0}
    for row in rows:
        name = row["name"]
        row |= {"invalid_real": 0, "repeats": {"real": 0, "synthetic": 0}, "stored": None}
        row["witness"] = None
        if row["closed"] is False:
            row["witness"] = {s: paths(name, s)[:12] for s in ("real", "synthetic")}
        if row not in rows[1:-1]:
            row["stored"] = {
                "real": "jpeg quality 95 32x32", "synthetic": "jpeg quality 30 32x32",
                "differs": ["quality"], "form": "JPEG quality 30",
                "gap_as_stored": 0.013, "ratio_as_stored": 11.7,
                "gap_in_one_form": 0.0009, "ratio_in_one_form": 0.8,
            }  # fmt: skip
    first = rows[0]["name"]
    real, synthetic = paths(first, "real"), paths(first, "synthetic")
    rows[0] |= {"invalid_real": 2, "invalid": 3, "repeats": {"real": 6, "synthetic": 0}}
    group = {"class": first, "kind": "exact", "side": "real", "counted": False}
    gap |= {
        "notes": ["Every class differs a little and in the same way, as where an encoder was "
                  "trained on the real images: give real images that it has not seen."],
        "confounds": ["synthetic: jpeg 32x32, real: jpeg 32x32"],
        "other_files": [
            {"path": f"{real[0]}.txt", "side": "real", "why": "no image"},
            {"path": f"{real[0]}.heic", "side": "real",
             "why": "HEIF: install gapclose[heif]"},
            *({"path": f"photos/{n:03d}.png", "side": "real",
               "why": "lies beside the class folders and belongs to no class"}
              for n in range(120)),
        ],
        "n_other_files": {"real": 122, "synthetic": 3},
        "invalid_images": [
            {"path": path, "why": "one colour", "side": "real", "class": first}
            for path in real[:2]
        ],
        "repeats": [
            group | {"kept": real[0], "copies": real[1:3]},
            group | {"kept": real[3], "copies": real[4:8]},
            group | {"kind": "near", "side": "synthetic", "counted": True,
                     "kept": synthetic[0], "copies": synthetic[1:]},
        ],
    }  # fmt: skip
    run.write_json("gap.json", gap)
    run.write_samples(samples)


def _sample(
    run: RunDir, real: Path, source: str, name: str, stage: str, number: int, per_class: int
) -> tuple[dict[str, Any], Scene]:
    seed = {"real": 0, "baseline": 3_000_000, "tuned": 4_000_000}[stage] + number
    cls = source if source in CLASSES else "frog"
    recipe: Recipe | None = None
    scene = real_scene(cls, seed)
    if stage == "real":
        path = real / name / f"{number:05d}.png"
    else:
        path = run.confirm_path(name, 1, "baseline" if stage == "baseline" else "tuned", seed)
        recipe = _recipe(cls) if stage == "baseline" else _drawn(cls, number, per_class)
        scene = _scene(cls, recipe.draw.prompt, seed)
        fault = FAULTS.get(cls)
        if stage == "baseline" and fault is not None:
            group, word = fault
            scene = Scene(
                cls=cls,
                color=word if group == "color" else scene.color,
                background=word if group == "place" else scene.background,
            )
    write_png(path, _pixels(scene, seed, Camera() if recipe is None else recipe.camera))
    sample = {
        "path": run.relative(path),
        "class": name,
        "side": "real" if stage == "real" else "synthetic",
        "stage": stage,
        "split": "confirm" if stage != "real" or number % 2 else "tune",
        "recipe": recipe.fingerprint() if recipe else None,
        "seed": None if stage == "real" else seed,
        "prompt": recipe.draw.prompt if recipe else None,
        "guidance_scale": recipe.draw.guidance_scale if recipe else None,
        "num_inference_steps": recipe.draw.num_inference_steps if recipe else None,
        "scheduler": recipe.draw.scheduler if recipe else None,
        "camera": recipe.camera.to_json() if recipe else None,
        "label": name if number % 5 else "axolotl",
        "confidence": 0.9 if stage == "baseline" else 0.6,
        "nearest_real": round(0.05 + 0.001 * number, 4),
    }
    if stage == "real" and number == 2:
        sample["outlier"] = 2.5
    return sample, scene


@lru_cache(maxsize=512)
def _pixels(scene: Scene, seed: int, camera: Camera) -> NDArray[np.uint8]:
    """A scene's image; that of many classes, all drawn as frogs, is one."""
    return apply_camera(camera, expose(scene, seed), seed=seed)


def _clusters(samples: list[dict[str, Any]], name: str, *, words: bool) -> list[dict[str, Any]]:
    """The frogs' synthetic group and one that the generator misses; marks the samples in them."""
    found = []
    for side, stage, title in (("synthetic", "baseline", "green"), ("real", "real", "brown")):
        own = [s for s in samples if s["class"] == name and s["stage"] == stage]
        own = own if side == "synthetic" else own[::3]
        if not own:
            continue
        for sample in own:
            sample["clusters"] = [len(found)]
        n = len(own)
        found.append(
            {
                "id": len(found), "size": n, "n_real": n if side == "real" else 0,
                "n_synthetic": n if side == "synthetic" else 0, "class": name, "class_share": 1.0,
                "side": side, "q_value": 0.001, "name": f"{title} frog" if words else None,
                "stage": "baseline", "samples": [s["path"] for s in own[:12]],
            }
        )  # fmt: skip
    return found


def _importances(space: Space) -> dict[str, float]:
    """Each parameter matters a third as much as the one before it."""
    raw = {name: 3.0**-k for k, name in enumerate(space.distributions)}
    return {name: share / sum(raw.values()) for name, share in raw.items()}


def _drawn(cls: str, number: int, per_class: int) -> Recipe:
    reached, share = 0.0, (number + 0.5) / per_class
    for recipe, weight in mixture_of(cls):
        reached += weight
        if share <= reached:
            return recipe
    return mixture_of(cls)[-1][0]


def _place(
    index: int, n: int, scene: Scene, cls: str, stage: str, rng: np.random.Generator
) -> tuple[float, float]:
    """A stand-in for UMAP: classes on a ring, colours and backgrounds round each."""
    angle = 2 * math.pi * index / n
    color = 2 * math.pi * list(COLORS).index(scene.color) / len(COLORS)
    x = (
        9 * math.cos(angle)
        + 0.9 * math.cos(color)
        + 0.25 * list(BACKGROUNDS).index(scene.background)
    )
    y = 9 * math.sin(angle) + 0.9 * math.sin(color)
    if stage == "baseline" and cls in FAULTS:
        x, y = x + 1.5 * math.cos(angle), y + 1.5 * math.sin(angle)
    noise = rng.normal(scale=0.22, size=2)
    return x + float(noise[0]), y + float(noise[1])


def _numbers(
    source: str, name: str, index: int, rng: np.random.Generator, *, tuned: bool, closed: bool
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    floor = float(0.0011 + 0.0002 * rng.random())
    before = (
        0.6
        if closed
        else {"frog": 88.0, "ship": 9.4, "truck": 6.8}.get(source, 0.5 + 2.2 * rng.random())
    )
    after = {"frog": 0.7, "truck": 1.9}.get(source, min(before, -0.2 + 1.1 * rng.random()))
    after = after if not closed else 0.4

    def row(ratio: float, *, confirmed: bool | None) -> dict[str, Any]:
        is_open = ratio > 1.2
        return {
            "name": name, "n_real": 300, "n_synthetic": 300,
            "gap": floor * ratio, "floor_p95": floor, "ratio": ratio,
            "effect": floor * ratio / 0.62, "detectable": floor * 1.3,
            "p_value": 0.0025 if is_open else 0.31, "q_value": 0.0042 if is_open else 0.44,
            "closed": not is_open, "confirmed": confirmed,
            "auc": 0.52 + 0.47 * (1 - math.exp(-max(ratio, 0) / 8)), "precision": 0.91,
            "recall": 0.88, "density": 0.97, "coverage": 0.93 - min(0.6, max(ratio, 0) / 140),
            "vendi_ratio": 0.96, "label_agreement": 0.97, "spectrum_gap": 0.02,
            "duplicates": 0, "invalid": 0,
            "judge": {"gap": floor * ratio * 1.6, "floor_p95": floor * 1.7,
                      "ratio": ratio * 0.94, "effect": 0.04,
                      "p_value": 0.0025 if is_open else 0.2,
                      "q_value": 0.0042 if is_open else 0.4},
            "standard_error": floor * (0.25 + 0.04 * abs(ratio)),
            "attributes": _attributes(source, gap=is_open or source == "frog", closed=not is_open),
            "reference": {"kid": 0.0012 * max(ratio, 0), "fid": 0.04, "cmmd": 0.31},
            "spectrum": {
                "frequency": [(i + 0.5) / 32 for i in range(16)],
                "real": [3.2 - 0.2 * i for i in range(16)],
                "synthetic": [3.2 - 0.2 * i - 0.002 * ratio * i for i in range(16)],
            },
            "zeroshot": {
                "n_labels": 10,
                "real": {"agreement": 0.94, "counts": {name: [9, 60, 213], "axolotl": [3, 12, 3]}},
                "synthetic": {"agreement": 0.98, "counts": {name: [1, 20, 273], "<i>": [6, 0, 0]}},
            },
        }  # fmt: skip

    baseline = row(before, confirmed=None)
    if not tuned:
        return baseline, [], {}
    final = row(after, confirmed=after <= 1.2) | {"before": baseline, "optimism": 0.2 * after}
    final["n_real"] = final["n_synthetic"] = 150
    trials = _trials(source, name, floor, before, after, rng, seed=index)
    state = {
        "gap": final["gap"], "ratio": after, "floor_p95": floor, "trials": len(trials),
        "images": trials[-1]["images_total"], "closed": final["closed"],
        "confirmed": final["confirmed"],
    }  # fmt: skip
    return final, trials, state


def _attributes(source: str, *, gap: bool, closed: bool) -> list[dict[str, Any]]:
    if not gap:
        return [{"group": "color", "word": "red", "real": 0.08, "synthetic": 0.09, "q_value": 0.8}]
    if source == "frog":
        figures = {"green": (0.25, 0.97), "brown": (0.35, 0.01), "gray": (0.2, 0.01),
                   "yellow": (0.12, 0.0), "red": (0.08, 0.0)}  # fmt: skip
        rows = [("color", word, *shares, 1e-9) for word, shares in figures.items()]
        rows += [("place", "water", 0.35, 0.27, 0.03)]
    else:
        word = FAULTS.get(source, ("place", "road"))[1]
        rows = [("place", word, 0.45, 0.93, 1e-6), ("place", "clay", 0.2, 0.04, 0.002)]
    if closed:
        rows = [(group, word, share, share + 0.02, 0.6) for group, word, share, _, _ in rows]
    keys = ("group", "word", "real", "synthetic", "q_value")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _trials(
    source: str, name: str, floor: float, before: float, after: float,
    rng: np.random.Generator, *, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    trials, images, best = [], 0, before
    cls = source if source in CLASSES else "frog"
    target = max(after * 0.8, 0.15)
    for number in range(18):
        stage = "baseline" if number == 0 else "settings" if number < 6 else "joint"
        drawn = 100 if number == 0 else 0 if number in (3, 5) else 8
        images += drawn
        if number:
            best = min(best, target + (best - target) * float(rng.uniform(0.55, 1.02)))
        recipe = _recipe(cls, str(rng.choice(_WORDS["color"])) if number else "")
        failed = number == 9 and source == "truck"
        trials.append(
            {
                "class": name, "number": number, "state": "fail" if failed else "complete",
                "stage": stage, "recipe": recipe.to_json(), "fingerprint": recipe.fingerprint(),
                "draw": recipe.draw.fingerprint(),
                "seeds": [1000 * seed + 10 * number + i for i in range(drawn)], "invalid": 0,
                "gap": None if failed else floor * (best + before * float(rng.random())),
                "mixture_gap": None if failed else floor * best,
                "images_total": images, "seconds": 0.4,
                "error": "GenerationError: the decoder returned NaN" if failed else None,
            }
        )  # fmt: skip
    return trials


def fake_embeddings(n: int, width: int = 8) -> NDArray[np.float32]:
    """Unit rows (n, width), for what stores embeddings and does not read meaning into them."""
    rows = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
