"""One run on a disk that is full at every 50 kB of it, against one that nothing disturbed.

    python tests/benchmarks/disk_steps.py [--step 50] [--trials 7]

Whenever the disk is full the run must end in one line with no trial failed, and the same command
goes on once there are 50 kB more. At the end the mixtures must be those of the undisturbed run,
and its trials. It needs to mount a file system, so root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import rig
from small_disk import mounted, tune_in_steps

from gapclose.generators.pond.renderer import write_real

WHAT_COUNTS = ("class", "number", "stage", "state", "recipe", "seeds", "gap", "value")


def trials(run: Path) -> list[dict[str, object]]:
    """What counts of the trials of a run."""
    rows = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    return [{key: row.get(key) for key in WHAT_COUNTS} for row in rows]


def main() -> None:
    """Run both, and say how often the disk was full and what could not be written then."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=50, help="kB more each time")
    parser.add_argument("--trials", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GAPCLOSE_CACHE"] = str(folder / "cache")
        photos = folder / "photos"
        write_real(photos, per_class=100, classes=("frog", "ship"))
        tune = {"budget": None, "trials": options.trials, "images_per_trial": 8}
        config = rig.written(folder / "c.yaml", photos, tune=tune)
        code, err = rig.here("tune", config, "--out", folder / "undisturbed")
        assert code == 0, err
        start = time.perf_counter()
        with mounted(folder / "disk", kib=options.step) as disk:
            full = []
            for place in tune_in_steps(config, disk, first=options.step, step=options.step):
                full.append(place)
                print(f"full at {options.step * len(full)} kB: {place}", flush=True)
            run, other = disk / "run", folder / "undisturbed"
            same = (run / "mixtures.json").read_bytes() == (other / "mixtures.json").read_bytes()
            assert same, "other mixtures"
            assert trials(run) == trials(other), "other trials"
        seconds = time.perf_counter() - start
    print(f"{len(full)} times full in {seconds:.0f} s; same mixtures, no trial lost")


if __name__ == "__main__":
    main()
