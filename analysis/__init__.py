"""Embeddings -> what is wrong, and how sure we are."""

import os

# OpenMP reads these when torch loads it. By default its threads spin for milliseconds while they
# wait for each other: beside another busy process an image of the pond took eight times as long.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # GNU's, in steps: about 0.1 ms
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # LLVM's and Intel's, in ms
