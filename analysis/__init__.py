"""Embeddings -> what is wrong, and how sure we are."""

import os
import time
from pathlib import Path


def _others_run() -> bool:
    """Tell whether another process wants the cores just now, where the system says so."""
    try:
        for _ in range(3):  # what runs for a moment is no load
            running = Path("/proc/stat").read_text(encoding="ascii").split("procs_running ")[1]
            if int(running.split()[0]) < 2:  # this one runs, too
                return False
            time.sleep(0.002)
    except (OSError, IndexError, ValueError):
        return False
    return True


# OpenMP reads these when torch loads it. By default its threads spin for milliseconds while they
# wait for each other: beside another busy process an image of the pond took eight times as long.
# Drawing alone, eight images at a time take a fifth longer with the shorter spin, which beside
# another process saves a third.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000" if _others_run() else "4000")  # GNU's, in steps
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's, in ms
