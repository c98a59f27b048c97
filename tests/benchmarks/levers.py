"""What each lever is worth: words, captions of the real photos, and their pictures as prompts.

    python tests/benchmarks/levers.py [--worlds pond photos] [--images 300] [--n 100]

Each lever tunes the ten classes under the same limit of images, and `gapclose validate` trains on
what comes of it: a CNN from scratch and a linear probe, on photos that nothing has seen. What is
compared is the gain over the plain prompt in points of accuracy, for each 1,000 images that tuning
generated and for each 100 of its seconds. On `photos` (photo_world.py) the generator gives other
real photos by words, so captions are read from a file (30 % name a wrong colour) and pictures do
not apply; probes there see through the tuning embedder, since there is no judge.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from photo_generator import COLOURS, colour, read
from photo_world import PHOTOS, world

from gapclose.loop.config.reading import load_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.progress.reporters import open_reporter
from gapclose.loop.report.run_view import Run
from gapclose.loop.tuning import tune
from gapclose.loop.validating import validate_run

WRONG: Final = 0.3  # of the captions on `photos`
PICTURES: Final = ("space.strength=[0.1, 1.0]",)
CAPTIONS: Final = ("space.captions=words",)
PLAIN: Final = ("space.prompt=a photo of a {class}", "space.slots={}")
POND: Final[Mapping[str, tuple[str, ...]]] = {
    "words": (),
    "words and captions": CAPTIONS,
    "pictures alone": (*PLAIN, *PICTURES),
    "words and pictures": PICTURES,
    "words, captions, pictures": (*CAPTIONS, *PICTURES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One line of the table.

    Attributes:
        name: What is varied.
        config: Of its run.
        test: Photos that it has not seen; None where the pond renders some.
    """

    name: str
    config: RunConfig
    test: Path | None = None
    classifiers: tuple[str, ...] = field(default=("cnn", "linear"))


def on_the_pond(images: int) -> Iterator[Lever]:
    """The levers on the pond, which has words, captions made of words, and pictures."""
    limits = ["tune.budget=null", f"tune.images={images}", "real.per_class=600"]
    for name, overrides in POND.items():
        yield Lever(name=name, config=load_config("pond", [*limits, *overrides]))


def on_photos(images: int, folder: Path) -> Iterator[Lever]:
    """The levers on photos."""
    limits = ["tune.budget=null", f"tune.images={images}"]
    test = PHOTOS / "test"
    yield Lever(name="words", config=world(*limits), test=test)
    file = folder / "captions.jsonl"
    file.write_text("".join(map(_captioned, sorted((PHOTOS / "train").glob("*/*")))))
    captions = world(*limits, f"space.captions={file}")
    yield Lever(name="words and captions", config=captions, test=test)


def _captioned(photo: Path) -> str:
    """A line of the file: the photo's colour, or a wrong one."""
    rng = np.random.default_rng([*photo.name.encode()])
    word = colour(read(photo))
    if rng.random() < WRONG:
        word = str(rng.choice([other for other in COLOURS if other != word]))
    cls = photo.parent.name
    text = f"a photo of a {cls}, {word} behind"
    return json.dumps({"file_name": f"{cls}/{photo.name}", "text": text}) + "\n"


def tuned(lever: Lever, folder: Path) -> tuple[Run, int, float]:
    """Tune: the run, the images that it generated, and its seconds."""
    with open_reporter(as_json=False) as reporter:
        run = tune(lever.config, out=folder, trust=True, reporter=reporter)
    return run, int(run.state["images"]), float(run.state["seconds_used"])


def main() -> None:
    """Tune, validate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="+", default=["pond", "photos"])
    parser.add_argument("--images", type=int, default=300, help="of a class")
    parser.add_argument("--n", type=int, default=100, help="images of a class to train on")
    parser.add_argument("--work", type=Path, help="keep the runs here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for which in options.worlds:
            levers = (
                on_the_pond(options.images) if which == "pond" else on_photos(options.images, work)
            )
            lines = [line for lever in levers for line in measured(which, lever, work, options.n)]
            print("\n".join([f"\n{which}, {options.n} images a class to train on", *HEAD, *lines]))


HEAD: Final = (
    "| lever | classifier | plain | tuned | even | real | images | seconds | "
    "points / 1,000 images | points / 100 s | confirmed |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def measured(which: str, lever: Lever, work: Path, n: int) -> Iterator[str]:
    """Tune with a lever, validate, and word its lines of the table."""
    folder = work / f"{which}-{lever.name.replace(' ', '-').replace(',', '')}"
    run, images, seconds = tuned(lever, folder)
    with open_reporter(as_json=False) as reporter:
        validate_run(
            run.path,
            test=lever.test,
            classifiers=lever.classifiers,
            per_class=n,
            seeds=2,
            draws=2,
            trust=True,
            reporter=reporter,
        )
    found: dict[str, Any] = json.loads((run.path / "validation.json").read_text())
    confirmed = sum(row["confirmed"] is True for row in run.gap["classes"])
    by = {(row["arm"], row["classifier"]): row["accuracy"] for row in found["arms"]}
    for classifier in dict.fromkeys(row["classifier"] for row in found["arms"]):
        arms = {arm: 100 * by[arm, classifier] for arm in ("baseline", "tuned", "even", "real")}
        gain = arms["tuned"] - arms["baseline"]
        cells = [f"{value:.1f}" for value in arms.values()]
        cells += [f"{images:,}", f"{seconds:.0f}"]
        cells += [f"{1000 * gain / images:+.2f}", f"{100 * gain / seconds:+.2f}"]
        yield f"| {lever.name} | {classifier} | {' | '.join(cells)} | {confirmed} |"


if __name__ == "__main__":
    main()
