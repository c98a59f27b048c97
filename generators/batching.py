"""Batching: images of many draws, cut into batches that a pipeline's memory bears.

`diffusion` asks it. Draws that differ in their prompts alone share batches. Where memory is out,
what can be spared is; then the batch is halved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gapclose.generators.batch_size import BatchSize
from gapclose.generators.errors import (
    GenerationError,
    GeneratorConfigError,
    MemoryOutError,
    said,
)
from gapclose.generators.images import Pixels
from gapclose.generators.pipeline import Pipeline, Wanted
from gapclose.generators.recipe import Draw

__all__ = ["generate_in_batches"]

_NO_ROOM: Final = ("ALLOC_FAILED", "out of memory")  # of cuBLAS, cuDNN, MPS

Made = dict[int, tuple[Pixels, str | None]]
"""By seed, an image and why it must not be scored; None if it may."""


def generate_in_batches(
    pipeline: Pipeline,
    size: BatchSize,
    draws: Sequence[Draw],
    seeds: Sequence[Sequence[int]],
    sources: Sequence[Sequence[Pixels | None]],
) -> list[Made]:
    """Generate images of each draw.

    Args:
        pipeline: That takes all of them.
        size: Of the batches; it grows and shrinks with what memory bears.
        draws: (n,) to draw.
        seeds: (n,) theirs.
        sources: (n,) of each image its source picture, where its draw takes one.

    Raises:
        GenerationError: If the pipeline fails.
        MemoryOutError: If memory is out at a batch of one.
    """
    made: list[Made] = [{} for _ in draws]
    for waiting in _alike(draws, seeds, sources):
        while waiting:
            chosen = waiting[: 1 if pipeline.draws_alone else size.images]
            batch = _try_batch(pipeline, size, [wanted for _, wanted in chosen])
            if batch is None:
                continue
            for (job, (_, seed, _)), image, why in zip(chosen, *batch, strict=True):
                made[job][seed] = image, why
            del waiting[: len(chosen)]
    return made


def _try_batch(
    pipeline: Pipeline, size: BatchSize, wanted: Sequence[Wanted]
) -> tuple[list[Pixels], list[str | None]] | None:
    """Generate one batch; None if memory was out and a smaller one is to be tried."""
    import torch

    try:
        made = pipeline.generate(wanted)
    except GeneratorConfigError:
        raise
    except Exception as error:  # a pipeline may raise anything
        if not _is_memory_out(error):
            raise GenerationError(said(error)) from error
        if len(wanted) == 1:
            raise MemoryOutError(
                "memory is out at one image a time; choose a smaller size or dtype, or set "
                "generator.offload to model"
            ) from None
    else:
        size.grow_after(len(wanted))
        return made
    # Only here, where the traceback no longer holds the tensors of the failed batch.
    saved = pipeline.spare_memory()
    torch.cuda.empty_cache()
    if not saved:
        size.halve_after(len(wanted))
    return None


def _is_memory_out(error: BaseException | None) -> bool:
    """Return whether memory is out, in any of the forms that torch and its libraries tell it."""
    import torch

    while error is not None:  # some wrap it in what they raise
        said = str(error)
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or (
            isinstance(error, RuntimeError) and any(form in said for form in _NO_ROOM)
        ):
            return True
        # Sana warns of it where it decodes, and goes on without an image.
        if isinstance(error, UnboundLocalError) and "'image'" in said:
            return True
        error = error.__cause__ or error.__context__
    return False


def _alike(
    draws: Sequence[Draw],
    seeds: Sequence[Sequence[int]],
    sources: Sequence[Sequence[Pixels | None]],
) -> list[list[tuple[int, Wanted]]]:
    """Group all images, each with its job, by what of their draws must be one in a batch."""
    groups: dict[str, list[tuple[int, Wanted]]] = {}
    for job, (draw, own, pictures) in enumerate(zip(draws, seeds, sources, strict=True)):
        # Of none at all some families make other images than of an empty one beside others.
        negative = "some" if draw.negative_prompt else ""
        key = replace(draw, prompt="", negative_prompt=negative).fingerprint()
        wanted = [(draw, seed, source) for seed, source in zip(own, pictures, strict=True)]
        groups.setdefault(key, []).extend((job, one) for one in wanted)
    return list(groups.values())
