"""The trainers of the embedded world's two encoders, each from a folder of images alone.

`make pond` runs it: `clip` learns images and captions together; `judge`, another architecture,
learns from real photos without captions or labels. Nothing at run time imports this module.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gapclose.analysis.errors import TrainingDataError
from gapclose.analysis.pond.clip_trainer import train_clip
from gapclose.analysis.pond.fitting import Result
from gapclose.analysis.pond.judge_trainer import train_judge

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Run `encoder_trainer {clip,judge} FOLDER --out DIR [--steps N]`."""
    parser = argparse.ArgumentParser(prog="encoder_trainer", description=__doc__)
    parser.add_argument("what", choices=["clip", "judge"])
    parser.add_argument("folder", type=Path, help="clip: captioned scenes; judge: real photos")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trained encoder")
    parser.add_argument("--steps", type=int, default=None, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=256, help="images per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, default=None, help="clip: go on from this folder")
    parser.add_argument("--threads", type=int, default=None, help="processor threads")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.start and args.what != "clip":
        parser.error("--start: only the clip goes on from an earlier training")
    given = {key: getattr(args, key) for key in ("steps", "start")}
    options = {key: value for key, value in given.items() if value is not None}
    train: Callable[..., Result] = {"clip": train_clip, "judge": train_judge}[args.what]
    try:
        result = train(args.folder, out=args.out, batch=args.batch, seed=args.seed, **options)
    except TrainingDataError as error:
        parser.error(str(error))
    log.info("%s -> %s: %d steps, %.0f s", args.what, args.out, result.steps, result.seconds)


if __name__ == "__main__":
    main()
