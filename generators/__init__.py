"""(draw, seeds) -> images."""

import os

# As in gapclose.analysis, whichever loads torch first; neither imports the other.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    os.environ.setdefault("KMP_BLOCKTIME", "1")
