"""Proposals: the prompts that a proposer makes of what a class lacks.

The executor of `AskProposer`. It puts the diagnosis together from images that exist, and nothing
is generated for it. A proposer is a user's code or a language model: whatever goes wrong in it is
logged, and the search goes on without.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import AttributeGap, compare_words
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import TextEmbedder
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.proposer import Diagnosis, Proposer
from gapclose.analysis.significance import LEVEL
from gapclose.analysis.unseen import one_line
from gapclose.generators.conditioning import takes_caption
from gapclose.generators.images import Pixels
from gapclose.generators.prompt_text import normalize_prompt
from gapclose.loop.run.events import PromptsProposed
from gapclose.loop.run.faults import is_machines_fault, told
from gapclose.loop.schedule.actions import AskProposer
from gapclose.loop.search.atom_bank import near_real
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.prompt_queue import Words
from gapclose.loop.search.searches import Searches
from gapclose.loop.search.trial import Images
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.synthesis import Synthesis

Rows = NDArray[np.float32]

IMAGES: Final = 200  # of the mixture that are compared
SHOWN: Final = 12  # images of a side that a proposer sees
MOST: Final = 8  # prompts that are tried of what it says
HEARD: Final = 1000  # prompts that are looked at: a generator may go on without end
LONGEST: Final = 2000  # characters of a prompt
FAILURE: Final = 200  # characters that are kept of what it failed with


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """The executor of proposals.

    Attributes:
        proposer: Who is asked; None where the config names nobody.
        synthesis: Reads images back; the text side of its embedder finds words.
        searches: By class.
        real: By class.
        groups: Words that attributes are told by.
    """

    proposer: Proposer | None
    synthesis: Synthesis
    searches: Searches
    real: Mapping[str, ClassReference]
    groups: Mapping[str, Sequence[str]]

    def ask(self, action: AskProposer) -> PromptsProposed:
        """Ask what would close a class's gap; the class then tries that first.

        Raises:
            UnwritableError: The disk is full, or whatever else `is_machines_fault`.
        """
        name, start = action.cls, time.perf_counter()
        search = self.searches[name]
        prompts: tuple[Words, ...] = ()
        failed: str | None = None
        try:
            assert self.proposer is not None, "only a run with a proposer is to ask it"
            prompts = untried(search, self.proposer(self.diagnosis(name)))
        except BaseException as error:  # it may be a script that ends itself
            if isinstance(error, KeyboardInterrupt) or is_machines_fault(error):
                raise
            self.synthesis.rundir.log_error(f"no prompts could be proposed for {name}")
            failed = told(error)[:FAILURE]
        if prompts:  # only once nothing can fail: the journal must know of it
            search.prioritize(prompts)
        seconds = time.perf_counter() - start
        return PromptsProposed(
            cls=name,
            prompts=prompts,
            progress=search.progress(),
            seconds=seconds,
            error=failed,
        )

    def diagnosis(self, name: str) -> Diagnosis:
        """Put together what is known of a class."""
        search, reference = self.searches[name], self.real[name]
        jobs = search.sample(IMAGES)
        batch = self.synthesis.generate(name, jobs, partly=True)
        noun = search.space.words["noun"][0]
        weights = search.state.atoms.weight_by(lambda draw: draw.prompt)
        tried = sorted(weights.items(), key=lambda item: -item[1])
        images = Images(
            embeddings=batch.embeddings, recipes=tuple(batch.recipes), seeds=tuple(batch.seeds)
        )
        missed, odd = _furthest(reference, search.sources.named(images, jobs))
        return Diagnosis(
            cls=name,
            noun=noun,
            gap=search.state.gap / search.floor,
            attributes=self._attributes(reference.tune.rows, batch.embeddings, noun),
            prompts=tuple(tried),
            real=_read([reference.tune.paths[i] for i in missed]),
            synthetic=tuple(batch.images[i] for i in odd),
        )

    def _attributes(self, real: Rows, synthetic: Rows, noun: str) -> tuple[AttributeGap, ...]:
        text = self.synthesis.embedder
        if not isinstance(text, TextEmbedder):
            return ()
        found = compare_words(
            real=real, synthetic=synthetic, text=text, noun=noun, groups=self.groups
        )
        return tuple(gap for gap in found if gap.q_value <= LEVEL)


def untried(search: ClassSearch, said: Sequence[str] | Iterator[str]) -> tuple[Words, ...]:
    """Return the prompts among what a proposer says that no trial has tried, as templates.

    Args:
        search: Of the class.
        said: A list, or a generator, whose first `HEARD` prompts are looked at.

    Raises:
        TypeError: It is not texts.
    """
    # A set has no order that the next session would see again.
    listed = isinstance(said, Sequence | Iterator) and not isinstance(said, str | bytes)
    heard = [*islice(said, HEARD)] if listed else []
    if not listed or not all(isinstance(prompt, str) for prompt in heard):
        raise TypeError(f"a proposer returns a list of prompts, not {type(said).__name__}")
    found: list[Words] = []
    short = (prompt for prompt in heard if len(prompt) <= 2 * LONGEST)  # white space collapses
    for text in dict.fromkeys(normalize_prompt(one_line(prompt)) for prompt in short):
        if takes_caption(text):  # it echoes what stands for captions in a diagnosis
            continue
        # Braces are text here: what a model says fills no slot.
        words = {"prompt": text.replace("{", "{{").replace("}", "}}")}
        if text and len(text) <= LONGEST and search.holds_untried([words]):
            found.append(words)
    return tuple(found[:MOST])


def _furthest(reference: ClassReference, images: Images) -> tuple[list[int], list[int]]:
    """Find the photos that are furthest from synthetic images, and the reverse: the witness.

    No image is compared with the photo that it was made from.

    Returns:
        Numbers of photos and of images, the furthest first.
    """
    kernel, real, synthetic = reference.kernel, reference.tune.rows, images.embeddings
    of_real = _near_images(reference, images) - kernel.mean_rows(real, real)
    near = near_real(kernel, synthetic, real, images.sources)
    of_synthetic = near - kernel.mean_rows(synthetic, synthetic)
    return (
        np.argsort(of_real, kind="stable")[:SHOWN].tolist(),
        np.argsort(of_synthetic, kind="stable")[:SHOWN].tolist(),
    )


def _near_images(reference: ClassReference, images: Images) -> NDArray[np.float64]:
    """Return (n,) the mean kernel value of each photo to the images that are not made from it."""
    kernel, real, synthetic = reference.kernel, reference.tune.rows, images.embeddings
    sums, counts = len(images) * kernel.mean_rows(real, synthetic), np.full(len(real), len(images))
    for number, source in enumerate(images.sources):
        if source >= 0:
            sums[source] -= kernel.gram(real[[source]], synthetic[[number]])[0, 0]
            counts[source] -= 1
    return np.asarray(sums / np.maximum(counts, 1))


def _read(paths: Sequence[Path]) -> tuple[Pixels, ...]:
    """Read photos, those that are still there."""
    found = []
    for path in paths:
        try:
            found.append(read_rgb(path))
        except UnreadableImageError:
            continue
    return tuple(found)
