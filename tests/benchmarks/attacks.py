"""Hostile run folders, image folders and configs, each given to a command that is watched.

    python tests/benchmarks/attacks.py [--runs 500] [--images 300] [--configs 200] [--seed 0]
    python tests/benchmarks/attacks.py --only runs:17

Each ends in 20 s with exit code 0, 1 or 2, in 3 GiB, with one line where it refuses. Nothing
outside of what it was given is read, written or run; no control character reaches a terminal or a
text; nothing is exported as confirmed that the undamaged run would not export so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

# A process that has started threads must not be forked; what it imported is inherited.
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "attacking"))
import open_clip  # noqa: F401 - forks have it
import rig
import sklearn.linear_model  # noqa: F401
import torch  # noqa: F401
from config_attacks import config_case_of
from image_attacks import image_case_of
from run_attacks import run_case_of
from watched import Case, Outcome, clear, run_case
from worlds import World

import gapclose.loop.auditing
import gapclose.loop.cli
import gapclose.loop.export
import gapclose.loop.init_config
import gapclose.loop.remeasure
import gapclose.loop.report.page
import gapclose.loop.tuning  # noqa: F401

KINDS: Final[dict[str, Callable[[int, int, Path, World], Case]]] = {
    "runs": run_case_of,
    "images": image_case_of,
    "configs": config_case_of,
}
FAILURES: Final = (
    *("timeout", "memory", "exit", "traceback", "line", "escape", "control", "false"),
)


def attack(kind: str, number: int, seed: int, world: World) -> tuple[Case, Outcome]:
    """Make a case, and watch it."""
    folder = world.root / "case"
    folder.mkdir()
    try:
        case = KINDS[kind](number, seed, folder, world)
        return case, run_case(case, world.canary)
    finally:
        clear(folder)


def main() -> None:
    """Print each failure in a line, and the table; exit 1 if there was any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--configs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one case, such as runs:17; shows what it prints")
    options = parser.parse_args()
    names = [f"{kind}:{number}" for kind in KINDS for number in range(getattr(options, kind))]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    longest: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as scratch, rig.quick():
        world = World.make(Path(scratch))
        before = world.digest()
        for name in [options.only] if options.only else names:
            kind, number = name.split(":")
            case, outcome = attack(kind, int(number), options.seed, world)
            counts[kind]["cases"] += 1
            counts[kind][f"exit {outcome.code}"] += 1
            counts[kind].update({what for what, _ in outcome.failures})
            longest[kind] = max(longest[kind], outcome.seconds)
            command = " ".join(case.words).replace(str(case.folder), "CASE")
            for what, why in outcome.failures:
                print(f"{name} {what}: {why} | {case.what} | {command[:200]}", flush=True)
            if options.only:
                print(f"{case.what}\n$ gapclose {command}\nexit {outcome.code}")
                print(f"{outcome.out}\n{outcome.err}\n{outcome.seconds:.1f} s")
        assert world.digest() == before, "a case has changed what others are made of"
    columns = ("cases", "exit 0", "exit 1", "exit 2", *FAILURES)
    print(f"| {'':8} |" + "".join(f" {column} |" for column in columns) + " longest |")
    print("|---" * (len(columns) + 2) + "|")
    for kind, its in counts.items():
        cells = "".join(f" {its[column]:>{len(column)}} |" for column in columns)
        print(f"| {kind:8} |{cells} {longest[kind]:5.1f} s |")
    raise SystemExit(any(its[what] for its in counts.values() for what in FAILURES))


if __name__ == "__main__":
    main()
