"""The turntable as a program: jobs on its standard input, images into folders.

What it is told to do wrong, it does: its first argument names it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from PIL import Image
from turntable import CLASSES, PARAMETERS, render


def say(text: str, to: TextIO = sys.stdout) -> None:
    to.write(f"{text}\n")
    to.flush()


def main(how: str) -> None:
    say("turntable 1.0, ready")  # as renderers chatter
    for line in sys.stdin:
        job = json.loads(line)
        say(f"rendering {len(job['images'])} images", sys.stderr)
        for place, image in enumerate(job["images"]):
            if place:
                spoil(how)
            if how != "few" or not place:
                draw(image, how)
        if how == "garbage":
            sys.stdout.buffer.write(os.urandom(3_000_000) + b"\n{]\n" + b"[1]\n{}\n")
        else:
            say(json.dumps(answer(job, how)))
        if how == "once":
            return


def spoil(how: str) -> None:
    """Do what ends a program between two images."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        time.sleep(600)
    if how == "dies":
        say("Error: out of paint", sys.stderr)
        raise SystemExit(3)


def answer(job: dict[str, Any], how: str) -> dict[str, Any]:
    answers: dict[str, dict[str, Any]] = {
        "knows": {"parameters": [*PARAMETERS]},
        "another": {"job": job["job"] + 1},
        "says": {"error": "no such\nscene"},
        "marks": {"invalid": {"0": "clipped"}},
    }
    return {"job": job["job"]} | answers.get(how, {})


def draw(asked: dict[str, Any], how: str) -> None:
    own = {"light": 45.0, "material": "steel", "count": 1, "tilt": 20.0} | asked["parameters"]
    cls = asked["class"] if asked["class"] in CLASSES else "ball"
    image = Image.fromarray(render(cls, own, asked["seed"]))
    if asked["size"]:
        image = image.resize(asked["size"])
    file = Path(asked["path"])
    if how == "link":
        file.symlink_to("/etc/hostname")
    elif how == "text":
        file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    elif how == "bomb":
        Image.new("1", (20_000, 20_000)).save(file)
    elif how == "removes":
        shutil.rmtree(file.parent, ignore_errors=True)
    elif how == "small":
        image.resize((8, 8)).save(file)
    else:
        image.save(file)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
