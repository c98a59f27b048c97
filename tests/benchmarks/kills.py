"""One run killed at 25 random moments, against one that nothing disturbed.

    python tests/benchmarks/kills.py [--kills 25] [--trials 40] [--seed 0]

A fifth of the deaths come after the last trial, while it confirms, draws the map or writes the
page. After every death the finished lines of trials.jsonl must still stand, each with its images
and embeddings, and no number twice. At the end the mixtures must be those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import rig

from gapclose.generators.pond.renderer import write_real

SLOWNESS = 0.04  # seconds that an image takes more: most deaths fall into a trial
TRIAL_SECONDS = 8 * SLOWNESS + 0.5
START_SECONDS = 12.0  # to import, and to embed what the cache does not hold
CLOSING = 0.2  # of the deaths come after the last trial


def die(config: Path, run: Path, moment: float, *, last: int, closing: float, soon: float) -> None:
    """Start the run and kill it at a moment, counted in trials; of the last, while it closes.

    Args:
        config: Of the run.
        run: Its folder.
        moment: In trials, `last` or less.
        last: How many trials it has.
        closing: Seconds that it takes after the last.
        soon: How far into the trial, or the closing, it dies, in [0, 1].
    """
    code = 0
    while code == 0:  # it was done before it died: sooner, then
        process = rig.command("tune", config, "--out", run, SLOW_POND_SECONDS=f"{SLOWNESS}")
        if rig.lines(run) > moment:  # it died there before: now as it starts, or soon after
            time.sleep(soon * 1.5 * START_SECONDS)
        elif rig.lines(run) == last:
            time.sleep(soon * (START_SECONDS + closing))
        else:
            while process.poll() is None and rig.lines(run) < int(moment):
                time.sleep(0.005)
            time.sleep(soon * (closing if moment == last else TRIAL_SECONDS))
        process.send_signal(signal.SIGKILL)
        code, error = rig.finished(process)
        assert code in (0, -signal.SIGKILL), error
        soon *= 0.7


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
        last = rig.lines(other)
        ended = [(other / name).stat().st_mtime for name in ("trials.jsonl", "report.html")]
        closing = ended[1] - ended[0]
        print(f"undisturbed: {last} trials, then {closing:.1f} s to confirm and to close")
        print(f"| {'death':>5} | {'after':>7} | {'finished trials':>15} | {'stage':>8} |")
        print("|-------|---------|-----------------|----------|")
        # Moments of the run, not of a clock: machines differ, and a resumed run must start first.
        late = round(CLOSING * options.kills)
        moments = sorted(rng.uniform(0, last - 1) for _ in range(options.kills - late))
        kept = b""
        for death, moment in enumerate([*moments, *[float(last)] * late], 1):
            start = time.monotonic()
            die(config, run, moment, last=last, closing=closing, soon=rng.random())
            lived = time.monotonic() - start
            kept = rig.evidence_holds(run, kept)
            state = run / "state.json"
            stage = json.loads(state.read_text()).get("stage", "-") if state.is_file() else "-"
            row = f"| {death:>5} | {lived:>5.1f} s | {rig.lines(run):>15} | {stage:>8} |"
            print(row, flush=True)
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
