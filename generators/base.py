"""The generator: what turns (draw, seeds) into images, and how it fails.

The controller and the exporter call a `Generator`; `registry` makes one from a config. A generator
never sees cameras or scores.
"""

from __future__ import annotations

import difflib
import errno
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import copy
from numbers import Integral
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from gapclose.generators.errors import (
    ContractError,
    GenerationError,
    GeneratorConfigError,
    said,
)
from gapclose.generators.images import (
    ONE_COLOUR,
    SOURCE_TYPES,
    ImageBatch,
    Pixels,
    is_one_colour,
)
from gapclose.generators.recipe import Draw

# What a full disk, a full machine or a failing one raises: no words about the contract help there.
_MACHINE: Final = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
    }
)
# Pillow warns of larger images, and of twice that it reads none back.
_MOST_PIXELS: Final = Image.MAX_IMAGE_PIXELS or 2**26

SETTINGS: Final = ("negative_prompt", "guidance_scale", "num_inference_steps", "scheduler")
"""What a draw may say to a diffusion model, and not to others."""

SEED_LIMIT: Final = 2**63
"""Seeds are below this: they fit SQLite's integers, torch's and numpy's."""

_RETURN: Final = (
    "return ImageBatch(images=..., seeds=..., invalid=...), one uint8 (h, w, 3) array per seed"
)


@runtime_checkable
class Generator(Protocol):
    """What turns draws into images; `gapclose.generators.testing` holds each kind to it.

    The same draw and seed give the same pixels: to the bit in batches of the same size, within
    1/255 in others. Global random state is neither read nor changed. Images that must not be
    scored are marked in the batch, not raised.
    """

    @property
    def id(self) -> str:
        """Stable name of the generator, e.g. "diffusers:CompVis/stable-diffusion-v1-4"."""

    @property
    def revision(self) -> str | None:
        """Which version of it: a commit, or a digest of its files; None if it is not known."""

    @property
    def license(self) -> str | None:
        """The licence that the generator came under, as its card names it."""

    @property
    def source_type(self) -> str:
        """IPTC's word for its images: "trainedAlgorithmicMedia" or "digitalCreation"."""

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Generate one image per seed, in their order.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: If the generator cannot do what the draw asks for.
            GenerationError: If no images came out.
        """


class BatchingGenerator(Generator, Protocol):
    """A generator that is faster with several prompts in one batch."""

    def generate_all(self, jobs: Sequence[tuple[Draw, Sequence[int]]]) -> list[ImageBatch]:
        """Generate one batch per job, in their order; each is `generate`'s within 1/255.

        Raises:
            ValueError, GeneratorConfigError, GenerationError: As `generate`, for all jobs at once.
        """


class ParametricGenerator(Generator, Protocol):
    """A generator that says what of a draw it gives a meaning to, beside the prompt and the class.

    Of one that does not say, each parameter is tried, and one that changes nothing is refused.
    """

    @property
    def parameters(self) -> Collection[str]:
        """Names of the parameters that it takes."""

    @property
    def settings(self) -> Collection[str]:
        """Those of `SETTINGS` that it takes."""


SourcedJob = tuple[Draw, Sequence[int], Sequence[Pixels]]
"""A draw with `strength` or `ip_adapter_scale`, its seeds, and one source picture per seed."""


class SourcedGenerator(Generator, Protocol):
    """A generator whose images may start from a source picture, or be shown one."""

    def generate_from(self, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
        """Generate one batch per job, in their order, each seed from a source of its own.

        The same draw, seed and source give the same pixels, as in `generate`. Sizes of images
        never depend on those of their sources.

        Raises:
            ValueError: As `generate`, or if there is not one source per seed.
            GeneratorConfigError, GenerationError: As `generate`, for all jobs at once.
        """


def generate_all(
    generator: Generator, jobs: Sequence[tuple[Draw, Sequence[int]]]
) -> list[ImageBatch]:
    """Generate the images of several draws, in one batch where the generator can.

    All images from text alone are generated through here: what comes back is checked and copied,
    an image of one colour that it left unmarked is marked, and the process is as it was. A
    generator is given values only: of a draw that varies, each image is a job of its own.

    Raises:
        GeneratorConfigError: The generator cannot do what a draw asks for.
        GenerationError: No images came out: it says so, raises anything else, ends itself, or
            returns no batches of these seeds.
        OSError, MemoryError: The machine's trouble, not the draw's.
    """
    plain = [(part, its) for draw, seeds in jobs for part, its in _parts(draw, seeds)]

    def generate() -> Sequence[object]:
        # Not isinstance: it would ask for every attribute, a digest of all weights among them.
        own = getattr(generator, "generate_all", None)
        if own is None:
            return [generator.generate(copy(draw), copy(seeds)) for draw, seeds in plain]
        batches: Sequence[object] = own([(copy(draw), copy(seeds)) for draw, seeds in plain])
        return batches

    found = _checked_batches(generator, generate, [seeds for _, seeds in plain], "generate_all")
    return _joined(found, [draw.varies for draw, _ in jobs], [len(seeds) for _, seeds in jobs])


def generate_from(generator: Generator, jobs: Sequence[SourcedJob]) -> list[ImageBatch]:
    """Generate the images of several draws from source pictures, checked as by `generate_all`.

    Args:
        generator: A `SourcedGenerator`; any other one is refused.
        jobs: Draws, seeds, and one source per seed.

    Raises:
        GeneratorConfigError: The generator takes no pictures, or cannot do what a draw asks for.
        GenerationError: As `generate_all`.
    """
    own = getattr(generator, "generate_from", None)
    if own is None:
        started = any(draw.strength is not None for draw, _, _ in jobs)
        raise takes_no_pictures("strength" if started else "ip_adapter_scale")

    plain: list[SourcedJob] = []
    for draw, seeds, sources in jobs:
        if draw.varies:
            pairs = zip(seeds, sources, strict=True)
            plain += [(draw.of_seed(seed), [seed], [source]) for seed, source in pairs]
        else:
            plain.append((draw, seeds, sources))

    def generate() -> Sequence[object]:
        copies = [(copy(draw), copy(seeds), sources) for draw, seeds, sources in plain]
        batches: Sequence[object] = own(copies)
        return batches

    found = _checked_batches(generator, generate, [its for _, its, _ in plain], "generate_from")
    return _joined(
        found, [draw.varies for draw, _, _ in jobs], [len(seeds) for _, seeds, _ in jobs]
    )


def _parts(draw: Draw, seeds: Sequence[int]) -> list[tuple[Draw, Sequence[int]]]:
    """Return a job as what a generator is given: values only."""
    if not draw.varies:
        return [(draw, seeds)]
    return [(draw.of_seed(seed), [seed]) for seed in checked_seeds(seeds)]


def _joined(
    batches: Sequence[ImageBatch], varies: Sequence[bool], sizes: Sequence[int]
) -> list[ImageBatch]:
    """Put the images of each job that was given in parts together again."""
    rest = iter(batches)
    joined = []
    for apart, size in zip(varies, sizes, strict=True):
        if not apart:
            joined.append(next(rest))
            continue
        parts = list(itertools.islice(rest, size))
        joined.append(
            ImageBatch(
                images=tuple(image for part in parts for image in part.images),
                seeds=tuple(seed for part in parts for seed in part.seeds),
                invalid=tuple(why for part in parts for why in part.invalid),
            )
        )
    return joined


def drawing(generator: Generator, draw: Draw) -> Generator:
    """Return the generator that draws a draw: of several one, else the generator itself."""
    of: Callable[[Draw], Generator] | None = getattr(generator, "drawing", None)
    return generator if of is None else of(draw)


def version_of(generator: Generator) -> str:
    """Name a generator with its revision, where it has one: what a verdict was reached with."""
    revision = generator.revision
    return generator.id if revision is None else f"{generator.id} ({revision})"


def takes_no_pictures(name: str) -> GeneratorConfigError:
    """Return the refusal of a setting of a draw that needs a generator that takes pictures."""
    return GeneratorConfigError(
        "this generator takes no pictures; leave it out", key=f"space.{name}"
    )


def check_parameters(generator: Generator, names: Collection[str]) -> None:
    """Refuse parameters that a generator says it does not take.

    Raises:
        GeneratorConfigError: One line with the nearest that it takes.
    """
    known = getattr(generator, "parameters", None)
    if known is None:
        return
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"it takes {_listed(known)}"
            raise GeneratorConfigError(
                f"{_name(generator)} takes no such parameter; {hint}",
                key=f"space.parameters.{name}",
            )


def try_out(
    generator: Generator,
    draw: Draw,
    variants: Mapping[str, Draw] | None = None,
    other_prompt: Draw | None = None,
) -> None:
    """Generate a first image, so that a generator that breaks the contract is found early.

    Args:
        generator: What is tried.
        draw: Of the image.
        variants: The same draw with another value of one parameter, by its name; each is tried,
            and unless the generator says that it takes the parameter, the image must change.
        other_prompt: The same draw with another prompt, which must change the image, too.

    Raises:
        GeneratorConfigError: It lacks an attribute, raises anything but GenerationError, or
            returns no batch of one image, in words that say what to return; or a parameter is
            refused, or changes nothing.
    """
    _check_attributes(generator)
    try:
        (plain,) = generate_all(generator, [(draw, [0])])
    except ContractError as error:
        raise GeneratorConfigError(f"{error}", key="generator.kind") from error.__cause__
    except GenerationError:  # as the contract has it: this draw fails, others need not
        return
    if other_prompt is not None and other_prompt.prompt != draw.prompt:
        try:
            (worded,) = generate_all(generator, [(other_prompt, [0])])
        except GenerationError:  # this prompt fails, others need not
            return
        if np.array_equal(worded.images[0], plain.images[0]):
            raise GeneratorConfigError(
                f"changes nothing in an image of {_name(generator)}, which reads no prompt: give "
                'it one, such as "{class}"; what it takes are parameters',
                key="space.prompt",
            )
    said = {*(getattr(generator, "parameters", None) or ())}
    said -= {*getattr(generator, "doubted", ())}
    for name, image in _varied(generator, variants or {}).items():
        varied = variants is not None and variants[name] != draw
        if varied and name not in said and np.array_equal(image, plain.images[0]):
            raise GeneratorConfigError(
                f"changes nothing in an image of {_name(generator)}; take it out, or name it in "
                "the generator's attribute `parameters` if it matters beside others",
                key=f"space.parameters.{name}",
            )


def _varied(generator: Generator, variants: Mapping[str, Draw]) -> dict[str, Pixels]:
    """Generate an image of each variant, in one batch if that can be.

    Raises:
        GeneratorConfigError: One fails; its parameter is named.
    """
    jobs = {name: (draw, [0]) for name, draw in variants.items()}
    try:
        batches = generate_all(generator, [*jobs.values()])
    except (GenerationError, GeneratorConfigError):  # of which one?
        batches = []
        for name, job in jobs.items():
            try:
                batches += generate_all(generator, [job])
            except (GenerationError, GeneratorConfigError) as error:
                value = job[0].parameters[name]
                raise GeneratorConfigError(
                    f"{value!r} gives no image: {error}", key=f"space.parameters.{name}"
                ) from error
    return {name: batch.images[0] for name, batch in zip(jobs, batches, strict=True)}


def _check_attributes(generator: Generator) -> None:
    lacking = [
        n
        for n in ("id", "revision", "license", "source_type", "generate")
        if not hasattr(generator, n)
    ]
    if lacking:
        raise GeneratorConfigError(
            f"{type(generator).__name__} has no {lacking[0]}; a generator has id, "
            "revision, license, source_type and generate(draw, seeds)",
            key="generator.kind",
        )
    if generator.source_type not in SOURCE_TYPES:
        raise GeneratorConfigError(
            f"{type(generator).__name__}.source_type is "
            f"{generator.source_type!r}; say one of {', '.join(SOURCE_TYPES)}",
            key="generator.kind",
        )


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Check seeds, and return them as plain integers.

    Raises:
        ValueError: If one is no integer, negative, 2**63 or more, or there twice: two images of
            one seed are one image, and kernel means would count it as two.
    """
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            raise ValueError(f"a seed must be an integer, not {seed!r}")
        if not 0 <= seed < SEED_LIMIT:
            raise ValueError(f"a seed must be in [0, 2**63), not {seed!r}")
    plain = tuple(int(seed) for seed in seeds)
    if len(set(plain)) != len(plain):
        raise ValueError("a seed was given twice")
    return plain


def _checked_batches(
    generator: Generator,
    generate: Callable[[], Sequence[object]],
    seeds: Sequence[Sequence[int]],
    method: str,
) -> list[ImageBatch]:
    """Generate, and check that there is a batch per job.

    Raises:
        GenerationError: If there is not, or if the generator raises what it should not.
    """
    try:
        with _process_as_it_is():
            batches = generate()
    except (GenerationError, GeneratorConfigError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # sys.exit among them, which would end the run as if done
        if isinstance(error, OSError) and error.errno in _MACHINE:
            raise
        raise ContractError(_name(generator), _raised(generator, error)) from error
    if not isinstance(batches, list | tuple) or len(batches) != len(seeds):
        raise ContractError(
            _name(generator),
            f"{method} must return one ImageBatch per job, {len(seeds)} here; got "
            f"{_describe(batches)}",
        )
    return [
        _checked(generator, batch, checked_seeds(own))
        for batch, own in zip(batches, seeds, strict=True)
    ]


def _checked(generator: Generator, batch: object, seeds: tuple[int, ...]) -> ImageBatch:
    """Check that it is a batch of these seeds, and mark its images of one colour.

    Raises:
        GenerationError: If it is none; in words that say what to return.
    """
    name, wrong = _name(generator), f"{_RETURN}; got"
    if not isinstance(batch, ImageBatch):
        raise ContractError(name, f"{wrong} {_describe(batch)}")
    whole = all(isinstance(seed, Integral) for seed in batch.seeds)
    if not whole or tuple(batch.seeds) != seeds:
        given = f"{len(batch)} images for {len(seeds)} seeds"
        if len(batch) == len(seeds):
            given = f"seeds {_few(batch.seeds)} for {_few(seeds)}"
        raise ContractError(name, f"{wrong} {given}")
    if not all(why is None or isinstance(why, str) for why in batch.invalid):
        raise ContractError(
            name, f"{wrong} marks {_few(batch.invalid)}; a mark is a word, or None"
        )
    for image in batch.images:
        height, width = image.shape[:2]
        if image.size == 0:
            raise ContractError(name, f"{wrong} an image without pixels")
        if height * width > _MOST_PIXELS:
            raise ContractError(
                name,
                f"generate returned an image of {width} x {height} pixels; {_MOST_PIXELS:,} are "
                "the most",
            )
    marks = tuple(
        why or (ONE_COLOUR if is_one_colour(image) else None)
        for image, why in zip(batch.images, batch.invalid, strict=True)
    )
    # Copies: the generator may draw its next images into the same arrays.
    images = tuple(np.array(image) for image in batch.images)
    return ImageBatch(images=images, seeds=seeds, invalid=marks)


@contextmanager
def _process_as_it_is() -> Iterator[None]:
    """Put back what somebody's code may have changed, and our own would be blamed for.

    It is the working directory (paths of the run may be relative to it), what the console writes
    to, and what NumPy does of a division by zero.
    """
    before = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))  # its name may be gone
    try:
        with np.errstate(), redirect_stdout(sys.stdout), redirect_stderr(sys.stderr):
            yield
    finally:
        os.fchdir(before)
        os.close(before)


def _name(generator: Generator) -> str:
    try:
        return str(generator.id)
    except Exception:  # noqa: BLE001 - a property of somebody's own class
        return type(generator).__name__


def _raised(generator: Generator, error: BaseException) -> str:
    """Say what a generator raised, and where in its own file."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(sys.modules.get(type(generator).__module__), "__file__", None)
    at = [frame for frame in frames if frame.filename == file] or frames
    where = f"{Path(at[-1].filename).name}, line {at[-1].lineno}"
    return f"generate raised {said(error)} ({where}); {_RETURN}"


def _describe(value: object) -> str:
    if isinstance(value, list | tuple) and value:
        return f"a {type(value).__name__} of {len(value)} {type(value[0]).__name__}"
    return type(value).__name__ if value is not None else "None"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _few(values: Sequence[object]) -> str:
    return ", ".join(map(repr, values[:3])) + (" ..." if len(values) > 3 else "")
