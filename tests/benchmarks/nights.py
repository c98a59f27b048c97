"""When a night of eight hours ends, on a clock that only the generator moves.

    python tests/benchmarks/nights.py [--only 2]

The whole loop runs, on a slow pond of ten classes. The nights are those where time is what ends
the search, or nearly so: many seconds an image, confirmations that take half of the night, a
machine that grows slower. What is not generating takes no time on this clock; on a real one it
is the 16 s and 3.3 s a class that are kept back for it. A night may end early where every class
is confirmed, or where no class can be tried and evaluated in what is left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import rig

from gapclose.generators.pond.renderer import BACKGROUNDS, CLASSES, COLORS, write_real
from gapclose.loop.report.run_view import Run

NIGHTS = (  # photos a class, seconds an image, by how much slower it is after eight hours
    (800, 4.0, 0.0),
    (800, 6.0, 0.0),
    (800, 6.0, 0.25),
    (800, 6.0, -0.25),
    (300, 8.0, 0.0),
    (300, 8.0, 0.25),
)
SPACE = {
    "prompt": "a photo of a {color} {class}{place}",
    "slots": {"color": ["", *COLORS], "place": ["", *(f" on {word}" for word in BACKGROUNDS)]},
    "guidance_scale": [1.0, 6.0],
    "num_inference_steps": [4, 8],
    "scheduler": ["one", "two"],
    "camera": {"noise": [0.0, 0.03]},
}


def night(folder: Path, *, photos: int, seconds: float, slower: float) -> str:
    """One row of the table."""
    real = folder / f"photos-{photos}"
    if not real.exists():
        write_real(real, per_class=photos, seed=5)
    out = folder / f"{photos}-{seconds}-{slower}"
    tune = {"budget": "8h", "trials": None, "images_per_trial": 8}
    changes = {"classes": list(CLASSES), "space": SPACE, "tune": tune, "confirm": {"images": 200}}
    config, clock = rig.written(out.with_suffix(".yaml"), real, **changes), rig.Clock(slower)
    code, error = rig.by_clock(clock, "tune", config, "--out", out, SLOW_POND_SECONDS=f"{seconds}")
    assert code == 0, error
    run = Run.open(out)
    allowed = run.state["budget_seconds"]
    confirmed = [row["name"] for row in run.gap["classes"] if row["confirmed"]]
    late = 100 * (clock.now / allowed - 1)
    why = run.state["stopped_because"]
    return (
        f"{photos:6} {seconds:10.1f} {100 * slower:+8.0f} % {late:+8.1f} % {len(run.trials):8}"
        f" {len(confirmed):9}  {why if len(why) < 60 else why[:57] + '...'}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, help="the number of one night")
    args = parser.parse_args()
    nights = NIGHTS if args.only is None else NIGHTS[args.only : args.only + 1]
    print("photos  s an image    slower        end   trials confirmed  why it ended")
    with tempfile.TemporaryDirectory() as folder:
        for photos, seconds, slower in nights:
            row = {"photos": photos, "seconds": seconds, "slower": slower}
            print(night(Path(folder), **row), flush=True)


if __name__ == "__main__":
    main()
