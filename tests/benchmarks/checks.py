"""What an audit's checks of its folders cost: repeats, storage, validity, what is no image.

    python tests/benchmarks/checks.py [--per-class 2000] [--classes 10]

Audits two ponds of 20,000 photos each with the encoders that ship, from an empty cache, and
prints how long each check took of the whole run, and the memory's peak. The pond is the worst case
of the search for repeats: its scenes are all alike, so that every image is looked at. Exit 1 if
the checks take more than 15 %.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST = 0.15


class Clock:
    """Wraps functions where they are looked up, and adds up what they take."""

    def __init__(self) -> None:
        """Start from zero."""
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, what: str, module: Any, name: str, *, threads: bool = False) -> None:
        """Time a function of a module; one that several threads call, by their own time."""
        clock = time.thread_time if threads else time.perf_counter
        inner: Callable[..., Any] = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[what] += clock() - start

        setattr(module, name, timed)


def main() -> None:
    """Render, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=2_000)
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    from gapclose.analysis import decode
    from gapclose.generators.pond.renderer import CLASSES, write_real
    from gapclose.loop import auditing
    from gapclose.loop.work import audit_scores, folder_pair, sides

    clock = Clock()
    clock.watch("finding images by their first bytes", folder_pair, "scan_sides")
    clock.watch("storage, by headers", folder_pair, "read_confounds")
    clock.watch("storage, gap as stored", folder_pair, "embed_sample")
    clock.watch("repeats", sides, "find_repeats")
    clock.watch("blank images", decode, "_is_blank", threads=True)
    clock.watch("most unlike", audit_scores, "witness_scores")
    work = Path(tempfile.mkdtemp(prefix="gapclose-checks-"))
    os.environ["GAPCLOSE_CACHE"] = str(work / "cache")
    try:
        for seed, side in enumerate(("real", "synthetic")):
            write_real(
                work / side,
                per_class=options.per_class,
                seed=seed,
                classes=CLASSES[: options.classes],
            )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        auditing.audit_folders(
            real=work / "real",
            synthetic=work / "synthetic",
            embedder="pond",
            judge="pond-judge",
            out=work / "run",
        )
        whole = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    finally:
        shutil.rmtree(work, ignore_errors=True)
    n = options.per_class * options.classes
    print(f"audit of {n:,} + {n:,} photos: {whole:.0f} s, peak {peak / 2**20:.2f} GiB "
          f"({before / 2**20:.2f} GiB before it)")  # fmt: skip
    print(f"| {'check':<40} | seconds | share |")
    print(f"|{'-' * 42}|---------|-------|")
    for what, seconds in clock.seconds.items():
        print(f"| {what:<40} | {seconds:7.1f} | {seconds / whole:5.1%} |")
    share = sum(clock.seconds.values()) / whole
    met = share <= MOST
    print(f"all checks: {share:.1%} of the run (<= {MOST:.0%}): {'met' if met else 'NOT MET'}")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
