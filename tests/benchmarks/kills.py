"""One run killed at 25 random moments, against one that nothing disturbed.

    python tests/benchmarks/kills.py [--kills 25] [--trials 40] [--seed 0]

After every death the finished lines of trials.jsonl must still stand, each with its images and
embeddings, and no number twice. At the end the mixtures must be those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "loop"))
import rig

from gapclose.generators.pond import write_real

SLOWNESS = 0.04  # seconds that an image takes more: most deaths fall into a trial
TRIAL_SECONDS = 8 * SLOWNESS + 0.5
START_SECONDS = 12.0  # to import, and to embed what the cache does not hold


def main() -> None:
    """Print the table; exit 1 if anything was lost, done twice, or came out otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        photos, run, other = (Path(scratch) / name for name in ("photos", "killed", "unbroken"))
        write_real(photos, per_class=100, classes=("frog", "ship"))
        tune = {"budget": None, "trials": options.trials, "images_per_trial": 8}
        config = rig.written(Path(scratch) / "c.yaml", photos, tune=tune)
        code, error = rig.finished(rig.command("tune", config, "--out", other))
        assert code == 0, error
        print(f"undisturbed: {rig.lines(other)} trials")
        print(f"| {'death':>5} | {'after':>7} | {'finished trials':>15} |")
        print("|-------|---------|-----------------|")
        # Moments of the run, not of a clock: machines differ, and a resumed run must start first.
        moments = sorted(rng.uniform(0, rig.lines(other) - 1) for _ in range(options.kills))
        kept = b""
        for death, moment in enumerate(moments, 1):
            start = time.monotonic()
            process = rig.command("tune", config, "--out", run, SLOW_POND_SECONDS=f"{SLOWNESS}")
            if rig.lines(run) > moment:  # it died there before: now as it starts, or soon after
                time.sleep(rng.uniform(0.0, 1.5 * START_SECONDS))
            else:
                while process.poll() is None and rig.lines(run) < int(moment):
                    time.sleep(0.005)
                time.sleep(moment % 1 * TRIAL_SECONDS)
            process.send_signal(signal.SIGKILL)
            lived = time.monotonic() - start
            code, error = rig.finished(process)
            if code == 0:
                print(f"it was done before death {death}: give it more --trials")
                raise SystemExit(1)
            assert code == -signal.SIGKILL, error
            kept = rig.evidence_holds(run, kept)
            print(f"| {death:>5} | {lived:>5.1f} s | {rig.lines(run):>15} |", flush=True)
        code, error = rig.finished(rig.command("tune", config, "--out", run))
        assert code == 0, error
        rig.evidence_holds(run, kept)
        same = (run / "mixtures.json").read_bytes() == (other / "mixtures.json").read_bytes()
        print(
            f"resumed {options.kills} times of {options.kills}; nothing lost, nothing done twice;"
        )
        print(f"mixtures {'the same as' if same else 'OTHER THAN'} undisturbed")
        raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
