"""How long the FiftyOne App takes to open on a large run.

    python tests/benchmarks/app.py [--images 20000]

A run of ten classes; the time from the command to the page that answers, the first time (the
dataset is built) and again (it is found).
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from make_run import make_run

from gapclose.generators.pond.renderer import CLASSES

TARGET = 90.0  # seconds


def opened(run: Path, home: Path) -> float:
    """Seconds from the command to a page that answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"HOME": str(home), "FIFTYONE_DATABASE_DIR": str(home / "db")}
    command = [sys.executable, "-m", "gapclose.loop.cli", "app", str(run), "--port", str(port)]
    start = time.monotonic()
    with (home / "said.txt").open("w") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        while True:
            said_so_far = (home / "said.txt").read_text()
            assert process.poll() is None, said_so_far
            if url := re.search(r"http\S+", said_so_far):
                with urllib.request.urlopen(url[0], timeout=60) as answer:
                    assert answer.status == 200
                return time.monotonic() - start
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()


def main() -> None:
    """Print the table; exit 1 if the first opening takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        per_class = -(-options.images // (3 * len(CLASSES)))
        run = make_run(home / "run", per_class=per_class)
        n = len(run.samples())
        print(f"| {'images':>7} | {'opening':<9} | {'seconds':>7} |")
        print("|---------|-----------|---------|")
        first = opened(run.path, home)
        print(f"| {n:>7,} | the first | {first:>7.1f} |", flush=True)
        print(f"| {n:>7,} | the next  | {opened(run.path, home):>7.1f} |")
    raise SystemExit(0 if first <= TARGET else 1)


if __name__ == "__main__":
    main()
