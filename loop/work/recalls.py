"""Recalls: what the images of all classes together are worth to a classifier.

The executor of `MeasureRecalls` and `Judge`. While a run searches, a small CNN is trained on some
images of the mixtures, and tells photos of the tune split. Its mixtures are judged by another kind
of classifier, nearest neighbours in the judge's embeddings, on photos that no search saw: what was
searched for to please the one need not please the other. Nothing is generated anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.criteria import CostsNoRecall, Criterion
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.downstream.classifier import SIDES, Classifier, make_classifier
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.neighbor_recall import NeighborRecall, neighbor_recalls
from gapclose.generators.images import Pixels
from gapclose.loop.errors import is_machines_fault
from gapclose.loop.run.class_state import Evaluation
from gapclose.loop.run.events import Progress, Recall, RecallsMeasured, VerdictsReached
from gapclose.loop.run.state import RunState
from gapclose.loop.run.verdicts import verdicts_of
from gapclose.loop.schedule.worth import costs
from gapclose.loop.search.feedback import Selection, feedback_prompts
from gapclose.loop.search.searches import Searches
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.synthesis import Synthesis

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
        rows: (m, d) embeddings of the latter.
    """

    trained: NDArray[Any]
    asked: NDArray[Any]
    rows: Rows

    @classmethod
    def of(cls, reference: ClassReference, classifier: Classifier) -> _Photos:
        first = slice(IMAGES + PHOTOS)
        tune = zip(reference.tune.paths[first], reference.tune.rows[first], strict=True)
        read = [(image, row) for path, row in tune if (image := _read(path)) is not None]
        n = min(IMAGES, len(read) // 2)
        pixels = classifier.prepare([image for image, _ in read])
        return cls(pixels[:n], pixels[n:], np.stack([row for _, row in read[n:]]))


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
    """

    synthesis: Synthesis
    evidence: Evidence
    searches: Searches
    real: Mapping[str, ClassReference]
    seed: int
    device: str
    _photos: dict[str, _Photos] = field(default_factory=dict)
    _among_real: dict[tuple[str, ...], list[NDArray[np.bool_]]] = field(default_factory=dict)

    def measure(self, state: RunState) -> RecallsMeasured:
        """Train on the mixtures as they stand, and tell photos of the tune split.

        Where that fails, nothing is known anew, and the search goes on by what was known.
        """
        try:
            return self._measured(state)
        except Exception as error:
            if is_machines_fault(error):
                raise
            self.synthesis.rundir.log_error("recalls could not be measured")
            return RecallsMeasured(recalls={})

    def _measured(self, state: RunState) -> RecallsMeasured:
        classifier = make_classifier("cnn", side=SIDES[0], device=self.device)
        names = tuple(name for name in state.names if state.of(name).has_baseline)
        for name in names:
            if name not in self._photos:
                self._photos[name] = _Photos.of(self.real[name], classifier)
        if names not in self._among_real:  # the same in all of a session
            photos = [self._photos[name].trained for name in names]
            self._among_real[names] = self._told(names, photos, classifier)
        batches = {
            name: self.synthesis.generate(name, self.searches[name].sample(IMAGES), partly=True)
            for name in names
        }
        images = [classifier.prepare(batch.images) for batch in batches.values()]
        told = self._told(names, images, classifier)
        recalls: dict[str, Recall] = {}
        progress: dict[str, Progress] = {}
        for name, ours, theirs in zip(names, told, self._among_real[names], strict=True):
            recall = Recall(real=float(theirs.mean()), synthetic=float(ours.mean()), n=len(ours))
            made = batches[name].embeddings
            prompts = self._prompts(name, ours, made) if costs(recall) else ()
            pending = state.of(name).progress.pending
            theirs_first = pending and bool(state.of(name).prioritized)  # a person's
            if (prompts or pending) and not theirs_first:
                recall = recall.model_copy(update={"prompts": prompts})
                self.searches[name].prioritize(prompts)
                progress[name] = self.searches[name].progress()
            recalls[name] = recall
        return RecallsMeasured(recalls=recalls, progress=progress)

    def _told(
        self, names: Sequence[str], images: Sequence[NDArray[Any]], classifier: Classifier
    ) -> list[NDArray[np.bool_]]:
        """Train on images, and say of the photos of each class which are told right."""
        labels = np.repeat(np.arange(len(names)), [len(its) for its in images])
        predict = classifier.fit(
            np.concatenate(images), labels, classes=len(names), seed=self.seed
        )
        return [
            predict(self._photos[name].asked).argmax(axis=1) == label
            for label, name in enumerate(names)
        ]

    def _prompts(
        self, name: str, told: NDArray[np.bool_], made: Rows
    ) -> tuple[dict[str, str], ...]:
        """Return the prompts that would bring more of the photos that are told wrong.

        Args:
            name: The class.
            told: (m,) of its photos, which are told right.
            made: (n, d) embeddings of what it makes now.
        """
        missed, search = self._photos[name].rows[~told], self.searches[name]
        selection = Selection(cls=name, images=len(missed), wanted=missed, unwanted=made)
        embedder = self.synthesis.embedder
        found = feedback_prompts(search.space, search.prior, embedder, selection)
        return tuple(found[:PROMPTS]) if search.holds_untried(found) else ()

    def judge(self, state: RunState, criteria: Sequence[Criterion]) -> VerdictsReached:
        """Judge all classes that were evaluated; by their recalls too, where the run goes by them.

        Args:
            state: Of the run.
            criteria: What a class must meet to be confirmed.
        """
        if state.recalls_at is None:
            return verdicts_of(state, criteria=criteria)
        recalls = self._of_folds(state)
        return verdicts_of(state, criteria=(*criteria, CostsNoRecall(recalls)), recalls=recalls)

    def _of_folds(self, state: RunState) -> dict[str, NeighborRecall]:
        """Return the recall of each evaluated class's fold."""
        evaluations = {
            name: its for name in state.names if (its := state.of(name).evaluation) is not None
        }
        judged = {name: self._judge_rows(name, its) for name, its in evaluations.items()}
        if all(rows is not None for sides in judged.values() for rows in sides):
            sides = judged
        else:  # there is no judge
            sides = {name: self._own_rows(name, its) for name, its in evaluations.items()}
        return neighbor_recalls(
            real={name: rows for name, (rows, _) in sides.items() if rows is not None},
            synthetic={name: rows for name, (_, rows) in sides.items() if rows is not None},
        )

    def _judge_rows(self, name: str, its: Evaluation) -> tuple[Rows | None, Rows | None]:
        fold = its.opened.fold
        real = self.real[name].folds[fold].judge_rows
        return real, self.evidence.judge_rows(name, fold, "tuned")

    def _own_rows(self, name: str, its: Evaluation) -> tuple[Rows | None, Rows | None]:
        fold = its.opened.fold
        images = self.evidence.fold(name, fold, "tuned")
        return self.real[name].folds[fold].rows, images.embeddings
