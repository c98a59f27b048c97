"""Trainings: every arm's training sets, a classifier on each, and what came of it.

What came of a training is kept in the run folder under what it follows from (training images, test
photos, classifier, seed), so a validation that goes on, or is done again, trains nothing twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.downstream.classifier import Classifier, Predictor
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import Pixels
from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.files import read_arrays, write_bytes
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.validation.arms import REAL, Arm, Part
from gapclose.loop.validation.pools import Pool, make_ready
from gapclose.loop.validation.test_photos import TestPhotos

__all__ = ["Outcome", "Training", "Trainings"]

Labels = NDArray[np.int64]

_VERSION: Final = 1  # of what a training does: what another one did is not read back
_BATCH_BYTES: Final = 2**27  # of pixels in memory before they are prepared
_REVERSE: Final = "reverse."


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One classifier on one training set.

    Attributes:
        classifier: What is trained.
        arm: What it is trained on.
        draw: Number of the draw of its images.
        seed: Of the training; 0 where it changes nothing.
    """

    classifier: Classifier
    arm: Arm
    draw: int
    seed: int

    @classmethod
    def of(cls, classifier: Classifier, arm: Arm, *, draw: int, seed: int) -> Training:
        """Return the training that stands for this one: of what takes no seed there is one."""
        used = seed if classifier.seeded else 0
        return cls(classifier=classifier, arm=arm, draw=draw, seed=used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a training.

    Attributes:
        predicted: (m,) labels of the test photos.
        trained_on: (classes,) training images.
        reverse: After training on real photos, by pool (2, classes): of its images, how many were
            told right, and how many there are.
    """

    predicted: Labels
    trained_on: Labels
    reverse: Mapping[str, Labels]


@dataclass(slots=True, kw_only=True)
class Trainings:
    """The executor of trainings.

    Attributes:
        rundir: Keeps what came of them.
        pools: By name.
        test: The photos that all are tested on.
        versions: By classifier's id, what its name does not say: the size of its images, the
            weights that it sees through.
        per_class: Images of a class that pools are tested with, in reverse.
    """

    rundir: RunDir
    pools: Mapping[str, Pool]
    test: TestPhotos
    versions: Mapping[str, str]
    per_class: int
    _prepared: dict[tuple[str, str, int, int], tuple[NDArray[Any], Labels]] = field(
        default_factory=dict
    )
    _tested: dict[str, NDArray[Any]] = field(default_factory=dict)
    _keys: dict[tuple[str, int, int], list[str]] = field(default_factory=dict)

    def known(self, training: Training) -> Outcome | None:
        """Return what came of a training in an earlier session; None if it is still to be done."""
        try:
            read = read_arrays(self._path(training))
            outcome = Outcome(
                predicted=read["predicted"],
                trained_on=read["trained_on"],
                reverse={pool: read[_REVERSE + pool] for pool in self._reversed(training)},
            )
        except (FileNotFoundError, RunDamagedError, KeyError):
            return None
        return outcome if self._is_sound(training, outcome) else None

    def run(self, training: Training) -> None:
        """Train, test, and keep what came of it.

        Raises:
            GenerationError: The generator failed.
            UnreadableImageError: A photo has gone since it was listed.
        """
        classifier, classes = training.classifier, len(self.test.classes)
        parts = [self._part(classifier, part, training.draw) for part in training.arm.parts]
        x = np.concatenate([rows for rows, _ in parts])
        labels = np.concatenate([its for _, its in parts])
        predict = classifier.fit(x, labels, classes=classes, seed=training.seed)
        kept = {
            "predicted": _told(predict, self._test_rows(classifier)),
            "trained_on": np.bincount(labels, minlength=classes).astype(np.int64),
        }
        for pool in self._reversed(training):
            whole = Part(pool=pool, n=self.per_class)
            rows, truth = self._part(classifier, whole, training.draw)
            right = truth[_told(predict, rows) == truth]
            counts = [np.bincount(some, minlength=classes) for some in (right, truth)]
            kept[_REVERSE + pool] = np.stack(counts).astype(np.int64)
        write_bytes(self._path(training), save(kept))

    def generate(self, arms: Sequence[Arm], *, draw: int, reporter: Reporter) -> None:
        """Generate what some arms of a draw need and is not there, else the first would wait.

        Raises:
            GenerationError: The generator failed.
        """
        wanted = dict.fromkeys((part.pool, part.n) for arm in arms for part in arm.parts)
        make_ready(self.pools, wanted, self.test.classes, draw=draw, reporter=reporter)

    def forget_draws(self) -> None:
        """Let go of the images of the trainings so far."""
        self._prepared.clear()

    def _is_sound(self, training: Training, outcome: Outcome) -> bool:
        """Return whether a training can have ended so; a file may hold anything."""
        classes = len(self.test.classes)
        asked = sum(len(range(p.first, p.n, p.step)) for p in training.arm.parts)
        counts = [outcome.trained_on, *outcome.reverse.values()]
        return (
            all(rows.dtype == np.int64 for rows in (outcome.predicted, *counts))
            and outcome.predicted.shape == self.test.labels.shape
            and _within(outcome.predicted, classes - 1)
            and outcome.trained_on.shape == (classes,)
            and _within(outcome.trained_on, asked)
            and all(rows.shape == (2, classes) for rows in outcome.reverse.values())
            and all(_within(rows[1], self.per_class) for rows in outcome.reverse.values())
            and all(_within(rows[0], rows[1]) for rows in outcome.reverse.values())
        )

    def _reversed(self, training: Training) -> list[str]:
        """Name the pools whose images are predicted after a training."""
        if training.arm.name != REAL:
            return []
        return [name for name in self.pools if name != REAL]

    def _part(self, classifier: Classifier, part: Part, draw: int) -> tuple[NDArray[Any], Labels]:
        """Return what a classifier trains on of one part, and its labels."""
        whole = (classifier.id, part.pool, draw, part.n)
        if whole not in self._prepared:
            rows, labels = [], []
            for label, cls in enumerate(self.test.classes):
                images = self.pools[part.pool].images(cls, draw=draw, n=part.n)
                some = _prepared(images, classifier)
                rows += some
                labels += [np.full(len(own), label, dtype=np.int64) for own in some]
            if not rows:
                raise GenerationError(
                    f"no image of {part.pool} can be used; look at the generator"
                )
            self._prepared[whole] = np.concatenate(rows), np.concatenate(labels)
        x, y = self._prepared[whole]
        chosen = np.concatenate(
            [
                np.flatnonzero(y == label)[part.first :: part.step]
                for label in range(len(self.test.classes))
            ]
        )
        return x[chosen], y[chosen]

    def _test_rows(self, classifier: Classifier) -> NDArray[Any]:
        if classifier.id not in self._tested:
            rows = _prepared(map(read_rgb, self.test.paths), classifier)
            self._tested[classifier.id] = np.concatenate(rows)
        return self._tested[classifier.id]

    def _path(self, training: Training) -> Path:
        """Name the file of a training by all that it follows from."""
        name, draw = training.classifier.id, training.draw
        arm = [[self._key(p.pool, draw, p.n), p.first, p.step] for p in training.arm.parts]
        told = [self._key(pool, draw, self.per_class) for pool in self._reversed(training)]
        said = [_VERSION, name, self.versions[name], training.seed, self.test.key, arm, told]
        key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]
        return self.rundir.file(f"validation/predictions/{key}.safetensors")

    def _key(self, pool: str, draw: int, n: int) -> list[str]:
        """Say which images a pool has of each class."""
        wanted = (pool, draw, n)
        if wanted not in self._keys:
            images = self.pools[pool]
            self._keys[wanted] = [images.key(cls, draw=draw, n=n) for cls in self.test.classes]
        return self._keys[wanted]


def _within(numbers: Labels, most: int | Labels) -> bool:
    return bool(((numbers >= 0) & (numbers <= most)).all())


def _told(predict: Predictor, rows: NDArray[Any]) -> Labels:
    labels: Labels = predict(rows).argmax(axis=1).astype(np.int64)
    return labels


def _prepared(images: Iterable[Pixels], classifier: Classifier) -> list[NDArray[Any]]:
    """Turn images into what a classifier takes, some at a time: photos may be large."""
    return [classifier.prepare(some) for some in _batches(images)]


def _batches(images: Iterable[Pixels]) -> Iterator[Sequence[Pixels]]:
    batch: list[Pixels] = []
    held = 0
    for image in images:
        batch.append(image)
        held += image.nbytes
        if held >= _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
