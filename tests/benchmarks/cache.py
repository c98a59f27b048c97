"""How much faster the embedding stage of a second audit of the same folder is.

    python tests/benchmarks/cache.py [--embedder pond] [--images FOLDER] [--n 2000]

Each stage runs in a fresh process, as an audit does, and loads what it needs. Prints both times
and their ratio; the target is 20. Without a folder it draws noise images of 32 x 32.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

STAGE = """
import sys, time
start = time.perf_counter()
from pathlib import Path
from gapclose.analysis.cache import embed_files
from gapclose.analysis.image_folder import scan
paths = [file.path for file in scan(Path(sys.argv[1])).files][:int(sys.argv[3])]
found = embed_files(paths, sys.argv[2], device="cpu")
sys.stdout.write(f"{time.perf_counter() - start} {len(found.paths)} {found.n_new}")
"""


def stage(folder: Path, embedder: str, n: int, cache: Path) -> tuple[float, int, int]:
    """Seconds of one stage, files embedded, files that the cache lacked."""
    done = subprocess.run(
        [sys.executable, "-c", STAGE, str(folder), embedder, str(n)],
        env={**os.environ, "GAPCLOSE_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, n_paths, n_new = done.stdout.split()
    return float(seconds), int(n_paths), int(n_new)


def main() -> None:
    """Run both stages and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="pond")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--n", type=int, default=2000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.images
        if folder is None:
            folder = Path(scratch) / "images" / "noise"
            folder.mkdir(parents=True)
            rng = np.random.default_rng(0)
            for i in range(asked.n):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i:06}.png")
        cache = Path(scratch) / "cache"
        cold = stage(folder, asked.embedder, asked.n, cache)
        warm = stage(folder, asked.embedder, asked.n, cache)
    print(f"embedder {asked.embedder}, {cold[1]} images")
    print(f"first audit   {cold[0]:8.2f} s, {cold[2]} embedded")
    print(f"second audit  {warm[0]:8.2f} s, {warm[2]} embedded")
    print(f"{cold[0] / warm[0]:.0f} times faster (target: 20)")


if __name__ == "__main__":
    main()
