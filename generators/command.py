"""Any program as a generator: Blender, a game engine's player, a script in whatever language.

`registry` makes it. It gives the program jobs as JSON lines and reads the image files that come of
them; the process is `worker`'s business. It knows nothing of what the program renders.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps

from gapclose.generators.base import check_parameters, checked_seeds
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.images import SOURCE_TYPES, ImageBatch, Pixels
from gapclose.generators.recipe import Draw
from gapclose.generators.worker import Worker

JOB: Final = "{job}"
"""The argument in whose place the name of a file with the job stands."""

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_LONGEST: Final = 400  # characters of what a program says
_MOST_LOGGED: Final = 8 << 20  # bytes of a log; then it begins anew beside the one before
_MOST_BYTES: Final = 1 << 28  # of an image file

_Made = tuple[Pixels, str | None]  # an image, and why it is invalid


class CommandGenerator:
    """A program that renders what JSON says.

    For each batch it reads one line from its standard input:

        {"job": 1, "images": [
          {"path": "/tmp/.../0.png", "seed": 5, "class": "ball", "noun": "ball",
           "prompt": "a photo of a ball", "parameters": {"light": 76.0}, "size": [64, 64]}, ...]}

    It writes each image to its path (`0.jpg` will do for `0.png`), and answers with one line on
    its standard output, `{"job": 1}`. Any other line that it writes is kept in the log. Then it
    waits for the next line; at the end of its input it ends. One that ends by itself after a job,
    with exit code 0, has answered, and is started again for the next.

    An answer may say more: "error": why there are no images; "invalid": {"0": "why"}, for images,
    by their place in the job, that must not be scored; "parameters": the names that it knows, so
    that others are refused.

    Args:
        run: The program and its arguments; no shell reads them. With an argument "{job}" it is
            started for each batch, with the name of a file that holds the line in its place.
        folder: Where it works; None is the current directory.
        once: Start it for each batch and close its input after the line, for a program that reads
            its input to the end.
        parameters: Names of the parameters that it takes, if it does not answer with them.
        size: Pixels, a side or (width, height), for draws that name none; None is the program's.
        batch_size: Images of a job, at most.
        timeout: Seconds that a job may take.
        revision: Which version of the program it is. None is a digest of `run` and of the files
            that it names.
        files: Further files that the images depend on, for that digest: scenes, textures.
        license: Of its images.
        source_type: "digitalCreation", or "trainedAlgorithmicMedia" where a network draws.

    Raises:
        GeneratorConfigError: If a value is none of the above, or the program is not there.
    """

    settings: Final[tuple[str, ...]] = ()

    def __init__(
        self,
        run: Sequence[str],
        *,
        folder: str | Path | None = None,
        once: bool = False,
        parameters: Collection[str] | None = None,
        size: int | Sequence[int] | None = None,
        batch_size: int = 8,
        timeout: float = 600.0,
        revision: str | None = None,
        files: Sequence[str | Path] = (),
        license: str | None = None,
        source_type: str = "digitalCreation",
    ) -> None:
        """Check the values; nothing is started yet."""
        if not run or not run[0] or not all(isinstance(word, str) for word in run):
            raise GeneratorConfigError(
                "name a program and its arguments, as a list of words", key="generator.run"
            )
        if source_type not in SOURCE_TYPES:
            raise GeneratorConfigError(f"unknown {source_type!r}", key="generator.source_type")
        if int(batch_size) < 1:
            raise GeneratorConfigError("must be at least 1", key="generator.batch_size")
        if not timeout > 0:
            raise GeneratorConfigError("must be above 0 seconds", key="generator.timeout")
        try:
            self._size = Draw(prompt="", size=size).size  # type: ignore[arg-type]
        except ValueError as error:
            raise GeneratorConfigError(f"generator.{error}") from None
        self._args = tuple(run)
        self._folder = None if folder is None else Path(folder).expanduser()
        self._once = once or JOB in run
        self._named = None if parameters is None else frozenset(parameters)
        self._batch_size, self._timeout = int(batch_size), float(timeout)
        self._given_revision, self._files = revision, tuple(Path(file) for file in files)
        self.license, self.source_type = license, source_type
        self._numbers = itertools.count(1)
        self._running: list[Worker] = []  # one, or none
        self._last_words = ""
        self._log = _Log()
        weakref.finalize(self, _end, self._running)

    @property
    def id(self) -> str:
        """`command:` and the name of the script that it runs, or of the program."""
        scripts = [Path(word).name for word in self._args[1:] if Path(word).is_file()]
        return f"command:{scripts[0] if scripts else Path(self._args[0]).name}"

    @cached_property
    def revision(self) -> str | None:
        """What the config says, or a digest of the arguments and of the files among them."""
        if self._given_revision is not None:
            return self._given_revision
        content = hashlib.sha256()
        for word in self._args:
            path = Path(word)
            is_file = os.sep in word and path.is_file()
            content.update(f"{path.name if is_file else word}\0".encode())
        named = [Path(word) for word in self._args if os.sep in word]
        for path in (*named, *self._files):
            if path.is_file():
                with path.open("rb") as file:
                    content.update(hashlib.file_digest(file, "sha256").digest())
        return f"sha256:{content.hexdigest()[:16]}"

    @property
    def parameters(self) -> frozenset[str] | None:
        """Names of the parameters that it takes; None until it says."""
        return self._named

    def keep_log(self, path: Path) -> None:
        """Keep what the program says, besides its answers, in a file."""
        self._log.path = path

    def check(self) -> None:
        """Refuse a program, or a folder, that is not there.

        Raises:
            GeneratorConfigError: Either is not there.
        """
        if self._folder is not None and not self._folder.is_dir():
            raise GeneratorConfigError(f"no folder {self._folder}", key="generator.folder")
        if shutil.which(self._args[0]) is None:
            raise GeneratorConfigError(
                f"there is no program {self._args[0]}; install it, or name it by its whole path",
                key="generator.run",
            )
        for file in self._files:
            if not file.is_file():
                raise GeneratorConfigError(f"no file {file}", key="generator.files")

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Have the program render one image per seed.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: The program does not know a parameter.
            GenerationError: It cannot be started, ended, was silent for too long, said that it has
                no images, or did not write them.
        """
        return self.generate_all([(draw, seeds)])[0]

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Have the images of several draws rendered, in batches that they share.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`, for all jobs at once.
        """
        plain = [(draw, checked_seeds(seeds)) for draw, seeds in jobs]
        asked = [(draw, seed) for draw, seeds in plain for seed in seeds]
        made: list[_Made] = []
        for first in range(0, len(asked), self._batch_size):
            made += self._rendered(asked[first : first + self._batch_size])
        rest = iter(made)
        return [
            ImageBatch.gather(seeds, {seed: next(rest) for seed in seeds}) for _, seeds in plain
        ]

    def close(self) -> None:
        """End the program, if it runs."""
        _end(self._running)

    def _rendered(self, asked: Sequence[tuple[Draw, int]]) -> list[_Made]:
        """Render a batch."""
        with tempfile.TemporaryDirectory(prefix="gapclose-") as scratch:
            folder = Path(scratch) / "images"
            folder.mkdir()
            images = [
                {
                    "path": str(folder / f"{place}.png"),
                    "seed": seed,
                    "class": draw.cls,
                    "noun": draw.noun,
                    "prompt": draw.prompt,
                    "parameters": {**draw.parameters},
                    "size": self._pixels(draw),
                }
                for place, (draw, seed) in enumerate(asked)
            ]
            job = {"job": next(self._numbers), "images": images}
            answer = self._ask(job, Path(scratch) / "job.json")
            self._learn(answer, {name for draw, _ in asked for name in draw.parameters})
            if (error := answer.get("error")) is not None:
                raise GenerationError(f"{self.id}: {_one_line(error)}")
            marks = answer.get("invalid")
            marks = marks if isinstance(marks, dict) else {}
            made: list[_Made] = []
            for place, (draw, _) in enumerate(asked):
                try:
                    image = _read(folder, place, size=self._pixels(draw))
                except GenerationError as error:
                    raise GenerationError(f"{self.id}: {error}{self._last_words}") from None
                why = marks.get(str(place))
                made.append((image, None if why is None else _one_line(why)))
            return made

    def _pixels(self, draw: Draw) -> tuple[int, int] | None:
        size = self._size if draw.size is None else draw.size
        return (size, size) if isinstance(size, int) else size

    def _ask(self, job: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
        """Have the program do a job; it is started where it does not run."""
        if JOB in self._args:
            file.write_text(json.dumps(job), encoding="utf-8")
        is_new = not self._running or not self._running[0].is_alive
        if is_new:
            self.close()
            args = [str(file) if word == JOB else word for word in self._args]
            self._running.append(Worker(args, folder=self._folder, log=self._log))
        worker = self._running[0]
        try:
            answer = worker.ask(job, timeout=self._timeout, last=self._once)
        finally:
            self._last_words = worker.last_words
            if self._once:
                self.close()
        if answer is None and not is_new:  # it was about to end when it was asked
            return self._ask(job, file)
        return answer or {}

    def _learn(self, answer: Mapping[str, Any], parameters: Collection[str]) -> None:
        """Take in which parameters the program says that it knows.

        Raises:
            GeneratorConfigError: It was given another.
        """
        known = answer.get("parameters")
        if isinstance(known, list) and all(isinstance(name, str) for name in known):
            self._named = frozenset(known)
            check_parameters(self, parameters)


class _Log:
    """What a program says besides its answers.

    Attributes:
        path: The file that keeps it; None keeps nothing.
    """

    def __init__(self) -> None:
        self.path: Path | None = None

    def __call__(self, line: bytes) -> None:
        """Keep a line; that it cannot be kept is no reason to fail."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            if self.path.exists() and self.path.stat().st_size > _MOST_LOGGED:
                self.path.replace(self.path.with_suffix(".old"))
            with open(self.path, "ab", opener=_regular) as file:
                file.write(line + b"\n")


def _end(running: list[Worker]) -> None:
    while running:
        running.pop().end()


def _one_line(said: object) -> str:
    return " ".join(str(said).split())[:_LONGEST]


def _read(folder: Path, place: int, *, size: tuple[int, int] | None) -> Pixels:
    """Read the image of a place.

    Raises:
        GenerationError: It is not there, is none, or has another size than was asked for.
    """
    there = [path for suffix in _SUFFIXES if (path := folder / f"{place}{suffix}").is_file()]
    if not there:
        try:
            n = sum(1 for _ in folder.iterdir())
        except OSError:
            raise GenerationError("the folder of its images is gone") from None
        raise GenerationError(f"no image {place}.png in its folder, which holds {n} files")
    path = there[0]
    try:
        with open(path, "rb", opener=_regular) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise GenerationError(f"{path.name} is larger than {_MOST_BYTES >> 20} MiB")
            with Image.open(file, formats=_FORMATS) as image:
                upright = ImageOps.exif_transpose(image)
                if size is not None and upright.size != size:
                    got, asked = (f"{w} x {h}" for w, h in (upright.size, size))
                    raise GenerationError(f"{path.name} has {got} pixels, not {asked}")
                return _rgb(upright)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise GenerationError(f"{path.name} cannot be read: {_one_line(error)}") from None


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    if "A" in image.getbands() or "transparency" in image.info:
        whole = image.convert("RGBA")
        white = Image.new("RGBA", whole.size, (255, 255, 255, 255))  # as photos are read
        image = Image.alpha_composite(white, whole)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _regular(path: str, flags: int) -> int:
    """Open a regular file, no link: a folder that others write to may hold anything."""
    found = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError("it is no regular file")
    return found
