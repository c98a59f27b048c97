"""The demo on a busy machine: `gapclose demo` beside other processes that want the cores.

    python tests/benchmarks/busy.py [--loops 0 1 2] [--budget 4m30s]

Each demo runs from an empty folder beside so many endless loops. Exits 1 where frog's gap on
unseen photos fell by less than 80 %, or where the budget was overrun by more than 30 s. Five
minutes a demo; it means nothing while anything else is running.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gapclose.loop.report.run_view import Run

CLASS = "frog"
FALL = 80.0  # %, of the class's gap
LATE = 30.0  # seconds over the budget
DEMO = "import sys; from gapclose.loop.cli import main; sys.argv[0] = 'gapclose'; main()"


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many other processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def demo(folder: Path, *, loops: int, budget: str | None) -> tuple[str, bool]:
    """One row of the table, and whether the class fell and the budget was kept."""
    out = folder / f"beside-{loops}"
    words = ["demo", "--out", str(out), *([] if budget is None else ["--budget", budget])]
    with busy(loops):
        command = [sys.executable, "-c", DEMO, *words]
        start = time.perf_counter()
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - start
    if finished.returncode:
        raise SystemExit(finished.stderr)
    run = Run.open(out)
    rows = {row["name"]: row for row in run.gap["classes"]}
    after = rows[CLASS]
    before = after["before"]
    fall = 100.0 * (1.0 - max(after["gap"], 0.0) / before["gap"])
    confirmed = sum(bool(row["confirmed"]) for row in rows.values())
    worked_on = {row["class"] for row in run.trials if row["stage"] != "baseline"}
    used, allowed = run.state["seconds_used"], run.state["budget_seconds"]
    row = (
        f"{loops:5} {len(run.trials):7} {len(worked_on):7} {before['n_synthetic']:9}"
        f" {before['ratio']:8.1f} -> {after['ratio']:5.1f} {fall:6.1f} %"
        f" {confirmed:6} of {len(rows):2} {used:8.0f} of {allowed:.0f} s, {wall:.0f} s in all"
    )
    return row, fall >= FALL and used <= allowed + LATE


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit 1 where a demo is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--budget", help="in place of the demo's own")
    options = parser.parse_args(arguments)
    print(
        f"loops  trials classes baselines  {CLASS} in floors     fall    confirmed  of the budget"
    )
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for loops in options.loops:
            row, kept = demo(Path(folder), loops=loops, budget=options.budget)
            good &= kept
            print(row + ("" if kept else "  NOT MET"), flush=True)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
