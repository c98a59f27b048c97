"""Recalls: what the images of all classes together are worth to a classifier.

The executor of `MeasureRecalls` and `Judge`. While a run searches, a small CNN is trained on some
images of the mixtures, and tells photos of the tune split. Its mixtures are judged by another kind
of classifier, nearest neighbours in the first judge's embeddings, on photos that no search saw:
what was searched for to please the one need not please the other. Nothing is generated anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.criteria import Criterion
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.downstream.classifier import SIDES, Classifier, make_classifier
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.neighbor_recall import NeighborRecall, neighbor_recalls
from gapclose.generators.images import Pixels
from gapclose.loop.run.events import Recall, RecallsMeasured, VerdictsReached
from gapclose.loop.run.faults import machines_fault
from gapclose.loop.run.state import RunState
from gapclose.loop.run.verdicts import verdicts_of
from gapclose.loop.schedule.worth import costs
from gapclose.loop.search.feedback import Selection, feedback_prompts
from gapclose.loop.search.prompt_queue import Words
from gapclose.loop.search.searches import Searches
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.kept_images import KeptImages, fold_jobs
from gapclose.loop.work.real_data import FEWEST_TO_TEST, ClassReference
from gapclose.loop.work.synthesis import Synthesis

log = logging.getLogger(__name__)

IMAGES: Final = 60  # of a class that the CNN is trained on: of a pond's it sees every fault
PHOTOS: Final = 200  # of a class that it tells
PROMPTS: Final = 2  # that a class which costs something tries first

Rows = NDArray[np.float32]


@dataclass(slots=True)
class _Photos:
    """A class's photos of the tune split: some to train on, and others that are told.

    Attributes:
        trained: (n, 32, 32, 3).
        asked: (m, 32, 32, 3).
        places: (m,) of the latter in the tune split.
        rows: (m, d) their embeddings.
    """

    trained: NDArray[Any]
    asked: NDArray[Any]
    places: NDArray[np.int64]
    rows: Rows

    @classmethod
    def of(cls, reference: ClassReference, classifier: Classifier) -> _Photos:
        """Read some, by content: files are often sorted by what they show."""
        tune = reference.tune
        order = sorted(range(len(tune)), key=lambda i: tune.photos[i])[: IMAGES + PHOTOS]
        read = [(image, i) for i in order if (image := _read(tune.paths[i])) is not None]
        n = min(IMAGES, len(read) // 2)
        pixels = classifier.prepare([image for image, _ in read])
        places = np.array([i for _, i in read[n:]])
        return cls(pixels[:n], pixels[n:], places, tune.rows[places])


def _read(path: Path) -> Pixels | None:
    """Read a photo; None if it has gone since the session began."""
    try:
        return read_rgb(path)
    except UnreadableImageError:
        return None


@dataclass(slots=True, kw_only=True)
class Recalls:
    """The executor of recalls.

    Attributes:
        synthesis: Reads images back; the text side of its embedder finds words.
        evidence: Holds the embeddings of evaluations.
        searches: By class.
        real: By class.
        seed: Of the run.
        device: Of the CNN.
        seconds: That measuring has taken in this session, besides what `synthesis` counts.
    """

    synthesis: Synthesis
    evidence: Evidence
    searches: Searches
    real: Mapping[str, ClassReference]
    seed: int
    device: str
    seconds: float = 0.0
    _photos: dict[str, _Photos] = field(default_factory=dict)
    _among_real: dict[tuple[tuple[str, int], ...], list[NDArray[np.bool_]]] = field(
        default_factory=dict
    )

    def measure(self, state: RunState) -> RecallsMeasured:
        """Train on the mixtures as they stand, and tell photos of the tune split.

        Where that fails, nothing is known anew, and the search goes on by what was known.

        Raises:
            Exception: Of the machine, as `machines_fault` tells; it is done again.
        """
        start, worked = time.perf_counter(), self.synthesis.seconds
        try:
            recalls, prompts = self._measured(state)
        except Exception as error:
            if machines_fault(error) is not None:
                raise
            self.synthesis.rundir.log_error("recalls could not be measured")
            recalls, prompts = {}, {}
        # Only once nothing can fail: the journal must know of all that searches were told.
        for name, first in prompts.items():
            self.searches[name].prioritize(first)
        seconds = time.perf_counter() - start
        self.seconds += seconds - (self.synthesis.seconds - worked)
        return RecallsMeasured(
            recalls=recalls,
            prompts=prompts,
            progress={name: self.searches[name].progress() for name in prompts},
            seconds=seconds,
        )

    def _measured(self, state: RunState) -> tuple[dict[str, Recall], dict[str, tuple[Words, ...]]]:
        """Return what is measured, and what comes first in the classes where that changes."""
        classifier = make_classifier("cnn", side=SIDES[0], device=self.device)
        with_baseline = (name for name in state.names if state.of(name).has_baseline)
        made = {name: images for name in with_baseline if len(images := self._made(name)) >= 2}
        if len(made) < 2:
            return {}, {}
        for name in made:
            if name not in self._photos:
                self._photos[name] = _Photos.of(self.real[name], classifier)
        # As many of a class on both sides: of fewer, less is learned.
        sizes = {n: min(len(its), len(self._photos[n].trained)) for n, its in made.items()}
        key = tuple(sizes.items())
        if key not in self._among_real:  # mostly the same in all of a session
            photos = {name: self._photos[name].trained[:n] for name, n in sizes.items()}
            self._among_real[key] = self._told(photos, classifier)
        taken = {name: classifier.prepare(made[name][:n]) for name, n in sizes.items()}
        told = self._told(taken, classifier)
        recalls: dict[str, Recall] = {}
        prompts: dict[str, tuple[Words, ...]] = {}
        for name, ours, theirs in zip(made, told, self._among_real[key], strict=True):
            unused = self._unused(name)
            recall = Recall(
                real=float(theirs[unused].mean()),
                synthetic=float(ours[unused].mean()),
                n=int(unused.sum()),
            )
            recalls[name] = recall
            cls = state.of(name)
            if (cls.asked or cls.proposing) and cls.progress.pending:
                continue  # what a person asked for, or a proposer, is not pushed aside
            first: tuple[Words, ...] = ()
            if costs(recall) and not _confirmed(state, name):
                first = self._prompts(name, ours | ~unused, made[name])
            if first or cls.progress.pending:
                prompts[name] = first
        return recalls, prompts

    def _made(self, name: str) -> list[Pixels]:
        """Read images of a class's mixture, in the shares of its weights and in random order.

        Those of a recipe that has too few images come again.
        """
        images: list[Pixels] = []
        for recipe, seeds, count in self.searches[name].shares(IMAGES):
            its = self.synthesis.images(name, [(recipe, seeds)])
            images += (its * -(-count // len(its)))[:count] if its else []
        order = np.random.default_rng(self.seed).permutation(len(images))
        return [images[i] for i in order]

    def _unused(self, name: str) -> NDArray[np.bool_]:
        """Return which of the photos that are told no image of the mixture was made from.

        What is trained on a photo's caption or picture recognizes that photo better than others.
        Where nearly all were used, all count: a recall that flatters says more than none.
        """
        search = self.searches[name]
        used = search.sources.of(search.sample(IMAGES))
        unused = ~np.isin(self._photos[name].places, [*used])
        return unused if unused.sum() >= FEWEST_TO_TEST else np.ones_like(unused)

    def _told(
        self, images: Mapping[str, NDArray[Any]], classifier: Classifier
    ) -> list[NDArray[np.bool_]]:
        """Train on images, and say of the photos of each class which are told right."""
        labels = np.repeat(np.arange(len(images)), [len(its) for its in images.values()])
        predict = classifier.fit(
            np.concatenate([*images.values()]), labels, classes=len(images), seed=self.seed
        )
        return [
            predict(self._photos[name].asked).argmax(axis=1) == label
            for label, name in enumerate(images)
        ]

    def _prompts(
        self, name: str, told: NDArray[np.bool_], made: Sequence[Pixels]
    ) -> tuple[Words, ...]:
        """Return untried prompts that would bring more of the photos that are told wrong.

        Args:
            name: The class.
            told: (m,) of its photos, which are told right.
            made: What it makes now.
        """
        missed, search = self._photos[name].rows[~told], self.searches[name]
        embedder = self.synthesis.embedder
        selection = Selection(
            cls=name, images=len(missed), wanted=missed, unwanted=self.synthesis.embed(made)
        )
        found = feedback_prompts(search.space, search.prior, embedder, selection)
        return tuple([words for words in found if search.holds_untried([words])][:PROMPTS])

    def judge(self, state: RunState, criteria: Sequence[Criterion]) -> VerdictsReached:
        """Judge all classes that were evaluated; by their recalls too, where the run goes by them.

        Args:
            state: Of the run.
            criteria: What a class must meet to be confirmed.
        """
        recalls = {} if state.recalls_at is None else self._of_folds(state)
        return verdicts_of(state, criteria=criteria, recalls=recalls)

    def _of_folds(self, state: RunState) -> dict[str, NeighborRecall]:
        """Return the recall of each evaluated class's fold, in the first judge's embeddings.

        Neighbours need one space: where a class's are lost, all go by the tuning embedder.
        """
        evaluations = {
            name: its for name in state.names if (its := state.of(name).evaluation) is not None
        }
        real: dict[str, Rows] = {}
        synthetic: dict[str, Rows] = {}
        for name, its in evaluations.items():
            photos = self.real[name].folds[its.opened.fold]
            seen = self.evidence.judge_rows(
                name, its.opened.fold, "tuned", its.result.digests.get("tuned")
            )
            if photos.judge_rows and seen:
                real[name], synthetic[name] = next(iter(photos.judge_rows.values())), seen[0]
            elif photos.judge_rows:
                log.warning(
                    "%s: the judge's embeddings of fold %d are gone or damaged; recalls go by the "
                    "tuning embedder's",
                    name,
                    its.opened.fold,
                )
        if len(real) < len(evaluations):
            real, synthetic = {}, {}
            kept = KeptImages(synthesis=self.synthesis, evidence=self.evidence)
            for name, its in evaluations.items():
                real[name] = self.real[name].folds[its.opened.fold].rows
                images = kept.restore_fold(its.result, "tuned", *fold_jobs(its.result))
                synthetic[name] = images.embeddings
        return neighbor_recalls(real=real, synthetic=synthetic)


def _confirmed(state: RunState, name: str) -> bool:
    evaluation = state.of(name).evaluation
    return evaluation is not None and evaluation.confirmed
