"""The choice of a tempering: networks trained on blends of mixtures and even prompts.

`export --for scratch` asks it. A frozen encoder wants the shares of the real photos; a network
that learns its own features wants coverage as well, and how much of it is measured here, on the
tune split: never on a fold, and never on test photos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.downstream.classifier import Classifier
from gapclose.analysis.downstream.worth import Arm as ScoredArm
from gapclose.analysis.downstream.worth import Worth
from gapclose.analysis.embedding import Embedder, make_embedder
from gapclose.analysis.image_folder import split
from gapclose.generators.base import Generator
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.recipe import Recipe
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError
from gapclose.loop.exporting.even_prompts import (
    LABEL_SHARE,
    LabelReader,
    even_prompts,
    prompts_that_lose_the_class,
)
from gapclose.loop.exporting.plan import ClassPlan
from gapclose.loop.exporting.real_photos import read_real
from gapclose.loop.exporting.tempering import (
    QUARTERS,
    Tempering,
    keep_tempering,
    kept_tempering,
    tempering_key,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_run
from gapclose.loop.run.lock import lock
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.space import Space, prompt_by
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.arms import Arm, Part
from gapclose.loop.validation.classifiers import make_classifiers
from gapclose.loop.validation.folder import check_folder
from gapclose.loop.validation.pools import MixturePool, generated_pools, make_ready
from gapclose.loop.validation.test_photos import TestPhotos
from gapclose.loop.validation.trainings import Training, Trainings
from gapclose.loop.validation.word_groups import WordGroups
from gapclose.loop.work.real_data import FEWEST_TO_TEST
from gapclose.loop.work.sides import Side, photo_id
from gapclose.loop.work.synthesis import Synthesis

__all__ = ["choose_tempering", "smallest_as_good"]

SEEDS: Final = 3
MOST: Final = 200  # images of a class that a network is trained on
LEAST: Final = 20
PHOTOS: Final = 500  # of a class's tune split, that networks are tested on
_CLASSIFIER: Final = "cnn"
_TUNED, _EVEN = "tuned", "even"  # as `validate` has them, whose images are read back


def choose_tempering(
    rundir: RunDir,
    plans: Sequence[ClassPlan],
    generator: Generator,
    *,
    per_class: int,
    reporter: Reporter,
    embedder: Embedder | None = None,
    side: Side | None = None,
) -> Tempering:
    """Choose the share of even prompts that serves a network from scratch, or read it back.

    It writes into the run folder: images, what each network said, and RUN/tempering.json. What was
    interrupted goes on.

    Args:
        rundir: Of the run.
        plans: The classes to tell apart.
        generator: The run's.
        per_class: Images of a class that are exported; networks are trained on up to `MOST`.
        reporter: Receives the progress.
        embedder: The run's tuning embedder, where it is loaded already.
        side: The run's own photos of these classes, where `read_real` has read them already.

    Raises:
        ConfigError: There are fewer than two classes.
        RealDataError: The photos are gone, or too few of a class are left to test on.
        RunBusyError: Another process is writing the run.
        GenerationError: The generator failed.
    """
    if len(plans) < 2:
        raise ConfigError(
            "scratch needs two classes to tell apart; export with --for probe", where="--for"
        )
    images = min(max(per_class, LEAST), MOST) // QUARTERS * QUARTERS
    key = tempering_key(rundir, plans, generator, images=images)
    if (known := kept_tempering(rundir, key, plans)) is not None:
        return known
    check_folder(rundir)
    with lock(rundir):
        config = rundir.config()
        embedder = embedder or make_embedder(config.embedder, device=config.device)
        names = [plan.name for plan in plans]
        side = side or read_real(rundir, names, embedder=embedder, reporter=reporter)
        chosen = _Choice(
            rundir=rundir,
            config=config,
            plans=plans,
            images=images,
            synthesis=Synthesis(generator=generator, embedder=embedder, rundir=rundir),
            embedder=embedder,
            side=side,
            tune=_tune_split(rundir, config, side, names),
            reporter=reporter,
        ).made()
        keep_tempering(rundir, key, chosen)
    return chosen


def smallest_as_good(
    shares: Sequence[float], accuracies: Sequence[float], errors: Sequence[float]
) -> float:
    """Choose the smallest share whose accuracy is the best but for noise.

    What is confirmed is the mixture: it gives way only for what is seen.

    Args:
        shares: Rising.
        accuracies: Of each.
        errors: Standard errors of the differences to the best; one of them counts as noise.
    """
    best = max(accuracies)
    return next(
        share
        for share, accuracy, error in zip(shares, accuracies, errors, strict=True)
        if best - accuracy <= error
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What it takes to choose."""

    rundir: RunDir
    config: RunConfig
    plans: Sequence[ClassPlan]
    images: int
    synthesis: Synthesis
    embedder: Embedder
    side: Side
    tune: Mapping[str, tuple[Path, ...]]
    reporter: Reporter

    def made(self) -> Tempering:
        """Find the prompts that lose their class, then train on every blend of the others."""
        spaces = {plan.name: Space.of(self.config, plan.name) for plan in self.plans}
        lost = self._lost_prompts(spaces)
        tuned = {plan.name: plan.mixture for plan in self.plans}
        pools = self._pools({_TUNED: tuned, _EVEN: self._even(spaces, lost)})
        test = self._test_photos(pools)
        wanted = [(name, self.images) for name in pools]
        make_ready(pools, wanted, test.classes, draw=0, reporter=self.reporter)
        (classifier,), versions = make_classifiers(
            (_CLASSIFIER,),
            pools,
            test,
            per_class=self.images,
            config=self.config,
            loaded={self.config.embedder: self.embedder},
        )
        trainings = Trainings(
            rundir=self.rundir,
            pools=pools,
            test=test,
            versions=versions,
            per_class=self.images,
        )
        return self._weighed(self._said(trainings, classifier), test, lost)

    def _weighed(
        self, said: NDArray[np.int64], test: TestPhotos, lost: Mapping[str, tuple[str, ...]]
    ) -> Tempering:
        """Choose by what the networks said: (blends, seeds, photos) labels."""
        shares = [quarters / QUARTERS for quarters in range(QUARTERS + 1)]
        arms = [
            ScoredArm(name=f"{share:g}", n_per_class=self.images, predicted=said[None, quarters])
            for quarters, share in enumerate(shares)
        ]
        worth = Worth(arms, test.labels, classes=test.classes, classifier=_CLASSIFIER)
        accuracies = [worth.score(arm.name).accuracy.value for arm in arms]
        best = arms[int(np.argmax(accuracies))].name
        apart = [worth.difference(best, arm.name) for arm in arms]
        errors = [(d.high - d.low) / (2 * 1.96) for d in apart]
        return Tempering(
            share=smallest_as_good(shares, accuracies, errors),
            accuracies=dict(zip(shares, accuracies, strict=True)),
            lost={name: prompts for name, prompts in lost.items() if prompts},
            images=self.images,
            photos=len(test.labels),
        )

    def _even(
        self, spaces: Mapping[str, Space], lost: Mapping[str, tuple[str, ...]]
    ) -> dict[str, Mixture]:
        """Mix the prompts evenly, without what is lost; where all are, the class keeps its own."""
        seed = self.config.tune.seed
        return {
            plan.name: even_prompts(
                spaces[plan.name], plan.mixture, seed=seed, without=lost[plan.name]
            )
            or plan.mixture
            for plan in self.plans
        }

    def _pools(self, mixtures: Mapping[str, Mapping[str, Mixture]]) -> dict[str, MixturePool]:
        seeds = SeedBlocks(seed=self.config.tune.seed)
        return generated_pools(mixtures, synthesis=self.synthesis, seeds=seeds)

    def _test_photos(self, pools: Mapping[str, MixturePool]) -> TestPhotos:
        """Take photos that no image is made from: a network recognizes those better than others.

        Where nearly all of a class were used, all are taken.
        """
        chosen = {}
        for name, paths in self.tune.items():
            used = {photo for pool in pools.values() for photo in self._sources(name, pool)}
            unused = [p for p in paths if photo_id(self.side.digests[p]) not in used]
            chosen[name] = unused if len(unused) >= FEWEST_TO_TEST else paths
        none: dict[str, WordGroups] = {name: {} for name in self.tune}
        return TestPhotos.of(chosen, self.side, embedder=self.embedder, groups=none)

    def _sources(self, name: str, pool: MixturePool) -> Iterator[str]:
        """Return the photos that a pool's images of a class owe captions or pictures to."""
        generator = self.synthesis.generator
        if isinstance(generator, FromPhotos):
            for recipe, seeds in pool.jobs(name, draw=0, n=self.images):
                owed = (generator.photo_of(recipe.draw, seed) for seed in seeds)
                yield from (photo for photo in owed if photo is not None)

    def _lost_prompts(self, spaces: Mapping[str, Space]) -> dict[str, tuple[str, ...]]:
        """Generate images of every class's prompts, and find those that lose the class."""
        reader = LabelReader(
            {
                name: np.stack([self.side.rows[p] for p in paths])
                for name, paths in self.tune.items()
            },
            seed=self.config.tune.seed,
        )
        mixtures = self._even(spaces, dict.fromkeys(self.tune, ()))
        pool, doing = self._pools({_EVEN: mixtures})[_EVEN], TaskStarted(task=Task.LABELS)
        self.reporter.tell(doing)
        lost = {}
        for number, name in enumerate(mixtures, start=1):
            pool.images(name, draw=0, n=self.images)
            jobs = pool.jobs(name, draw=0, n=self.images)
            for recipe, seeds in jobs:
                self.synthesis.remember(name, recipe.draw.fingerprint(), seeds)
            batch = self.synthesis.generate(name, jobs)
            valid = Counter(batch.recipes)
            lost[name] = prompts_that_lose_the_class(
                spaces[name],
                [_asked(jobs[job][0]) for job in batch.recipes],
                reader.reads(name, batch.embeddings),
                least=LABEL_SHARE * reader.real[name],
                invalid=[
                    _asked(recipe)
                    for job, (recipe, seeds) in enumerate(jobs)
                    for _ in range(len(seeds) - valid[job])
                ],
            )
            self.reporter.tell(doing.advanced(number, len(mixtures)))
        return lost

    def _said(self, trainings: Trainings, classifier: Classifier) -> NDArray[np.int64]:
        """Train on every blend: (blends, seeds, photos) labels."""
        arms = [_blend(quarters, self.images) for quarters in range(QUARTERS + 1)]
        doing, done = TaskStarted(task=Task.TRAINING, classifier=classifier.id), 0
        self.reporter.tell(doing)
        total = len(arms) * SEEDS
        said: list[list[NDArray[np.int64]]] = [[] for _ in range(QUARTERS + 1)]
        for seed in range(SEEDS):
            for quarters, arm in enumerate(arms):
                training = Training.of(classifier, arm, draw=0, seed=seed)
                if trainings.known(training) is None:
                    trainings.run(training)
                outcome = trainings.known(training)
                assert outcome is not None, "it is kept once it is run"
                said[quarters].append(outcome.predicted)
                done += 1
                self.reporter.tell(doing.advanced(done, total))
        return np.array(said)


def _asked(recipe: Recipe) -> str:
    return prompt_by(recipe.draw.prompt, recipe.draw.generator)


def _blend(quarters: int, n: int) -> Arm:
    """Take so many quarters of the even prompts' images, and the others of the mixture's."""
    firsts = {_TUNED: range(QUARTERS - quarters), _EVEN: range(QUARTERS - quarters, QUARTERS)}
    return Arm(
        name=f"{quarters}/{QUARTERS} even",
        parts=tuple(
            Part(pool=pool, n=n, first=first, step=QUARTERS)
            for pool, mine in firsts.items()
            for first in mine
        ),
    )


def _tune_split(
    rundir: RunDir, config: RunConfig, side: Side, names: Sequence[str]
) -> dict[str, tuple[Path, ...]]:
    """Return photos of each class's tune split, up to `PHOTOS`; without a journal it is cut."""
    searched = fold_run(rundir).photos
    share, seed = config.real.confirm_share, config.tune.seed
    found = {}
    for name in names:
        if name in searched:
            mine = {*searched[name]}
            paths = [p for p in side.paths[name] if photo_id(side.digests[p]) in mine]
        else:
            paths = [*split(side.paths[name], confirm_share=share, seed=seed)[0]]
        # In the order of their content, which is none.
        found[name] = tuple(sorted(paths, key=side.digests.__getitem__)[:PHOTOS])
    return found
