"""What a pond run's images are worth: validated beside every prompt evenly, at two sizes.

    python tests/benchmarks/worth.py --run RUN [--narrow RUN] [--n 50 200] [--seeds 3] [--draws 2]

RUN is a finished run on the pond, such as the demo's; it is copied. Three tables:

* `gapclose validate` with a CNN and the judge's probe, and the paired differences;
* the CNN's recalls on scenes without sensor noise, of which none was trained on: a class that is
  known by its noise falls there, beside every prompt evenly;
* the same as the first for `--narrow`, a run whose template lacks half of the world's colours
  (`--set 'space.slots.color=["", green, blue, red, white]'`).

Trainings are kept beside the copies (`--work`), so that a second call prints at once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gapclose.generators.images import write_pngs
from gapclose.generators.pond.renderer import CLASSES, quantize, real_scene, render
from gapclose.loop.progress.reporters import open_reporter
from gapclose.loop.validating import validate_run

ARMS: Final = ("baseline", "tuned", "even", "mixed", "real", "few", "few+tuned")
SCENES: Final = 200  # of a class, without noise
FIRST: Final = 700_000  # seed of the first: no run's photos come so far
Row = Mapping[str, Any]


def noise_free(folder: Path) -> Path:
    """Render scenes without sensor noise, once."""
    if not folder.exists():
        rough = folder.with_name(f".{folder.name}")
        for number, cls in enumerate(CLASSES):
            images = {}
            for seed in range(FIRST, FIRST + SCENES):
                pixels = quantize(render(real_scene(cls, seed), seed * len(CLASSES) + number))
                images[rough / cls / f"{seed}.png"] = pixels
            write_pngs(images, source_type="digitalCreation")
        rough.rename(folder)
    return folder


def validated(run: Path, *, test: Path | None = None, **how: Any) -> dict[str, Any]:
    """validation.json of a run."""
    with open_reporter(as_json=False) as reporter:
        validate_run(run, test=test, reporter=reporter, **how)
    found: dict[str, Any] = json.loads((run / "validation.json").read_text())
    return found


def say_accuracies(found: Row, n: int) -> None:
    """Print the first table."""
    classifiers = list(dict.fromkeys(row["classifier"] for row in found["arms"]))
    by = {(row["arm"], row["classifier"]): row for row in found["arms"]}
    how = f"{n} images a class, {found['draws']} draws x {found['seeds']} trainings"
    print(f"\n| {how:<44} | {' | '.join(f'{name:<20}' for name in classifiers)} |")
    print(f"|{'-' * 46}|{'|'.join('-' * 22 for _ in classifiers)}|")
    for arm in ARMS:
        rows = [by.get((arm, name)) for name in classifiers]
        if any(rows):
            cells = [accuracy(row) if row else "" for row in rows]
            print(f"| {arm:<44} | {' | '.join(f'{cell:<20}' for cell in cells)} |")
    for row in found["differences"]:
        low, high = 100 * row["low"], 100 * row["high"]
        said = f"{100 * row['value']:+.1f} [{low:+.1f}, {high:+.1f}]"
        print(f"{row['classifier']}: {row['arm']} - {row['against']}: {said} points")
    print(f"share of the way: {found['recovered']}; too easy: {found.get('too_easy', [])}")
    for row in found.get("worst_groups", ()):
        if row["arm"] in ("baseline", "tuned", "even", "real"):
            print(
                f"worst {row['group']} of {row['arm']}, {row['classifier']}: "
                f"{row['name']} {row['recall']:.3f} of {row['n']}"
            )


def accuracy(row: Row) -> str:
    """Word a cell."""
    return f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def say_noise_free(found: Row, n: int) -> None:
    """Print the second table."""
    by = {row["arm"]: row["recall"] for row in found["arms"]}
    print(f"\n| {n} images a class, scenes without noise | {' | '.join(CLASSES)} | worst - even |")
    print(f"|---|{'---|' * (len(CLASSES) + 1)}")
    for arm in ARMS:
        if arm in by:
            recalls = [by[arm][cls] for cls in CLASSES]
            worst = min(by[arm][cls] - by["even"][cls] for cls in CLASSES)
            cells = " | ".join(f"{100 * recall:.1f}" for recall in recalls)
            print(f"| {arm} | {cells} | {100 * worst:+.1f} |")


def copied(run: Path, work: Path) -> Path:
    """Copy a run, once: a benchmark writes into it."""
    copy = work / run.resolve().name
    if not copy.exists():
        shutil.copytree(run, copy)
    return copy


def main(arguments: Sequence[str] | None = None) -> None:
    """Validate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--narrow", type=Path)
    parser.add_argument("--n", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gapclose-worth"
    )
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    how = {"seeds": options.seeds, "draws": options.draws}
    scenes = noise_free(options.work / "noise-free")
    for n in options.n:
        for run in filter(None, (options.run, options.narrow)):
            copy, start = copied(run, options.work), time.monotonic()
            print(f"\n{run.name}")
            say_accuracies(validated(copy, per_class=n, **how), n)
            print(f"{time.monotonic() - start:.0f} s")
            if run == options.run:
                one = validated(copy, per_class=n, test=scenes, classifiers=("cnn",), **how)
                say_noise_free(one, n)


if __name__ == "__main__":
    main()
