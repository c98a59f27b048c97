"""Trials: what a proposed trial brings, and the run's camera.

The executor of `ProposeTrial`, `RunTrial` and `ChooseCamera`. Images and embeddings are on disk
when it returns the event that names them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gapclose.analysis.embedding import Embedder
from gapclose.analysis.floor import Floor
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.several import spent_by
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.events import (
    CameraChosen,
    Event,
    FoldEvaluated,
    Job,
    TrialFailed,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.run.faults import (
    is_device_lost,
    is_embedders,
    is_machines_fault,
    is_memory_out,
    released,
    told,
)
from gapclose.loop.schedule.actions import ChooseCamera, ProposeTrial
from gapclose.loop.schedule.budget import BASELINE_IMAGES
from gapclose.loop.schedule.cost_model import probe
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.camera_choice import IMAGES, LEAST, choose_camera
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.prior import word_prior
from gapclose.loop.search.score import Score
from gapclose.loop.search.searches import Searches, proposal_of, under
from gapclose.loop.search.sources import Sources
from gapclose.loop.search.space import Space
from gapclose.loop.work.camera_views import view_of
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.kept_images import KeptImages
from gapclose.loop.work.photo_groups import Groups
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.source_copies import SourceCopies
from gapclose.loop.work.synthesis import Synthesis

PROBED: Final = 8  # trials: so often it is measured how busy the machine is
FLOOR_IMAGES: Final = 2000  # of a tune split: all pairs of more would not fit in memory
HINTS: Final = 2  # settings of other classes that a settings stage begins with

ScoredBy = Callable[[ClassReference, int], tuple[Score, Callable[[int], float]]]
"""From a class and the run's seed to an empty score, and its 95th percentile, above 0, of real
images by their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """The executor of trials.

    Attributes:
        synthesis: Generates and embeds.
        evidence: Where embeddings are kept.
        searches: Propose trials, and absorb what they bring.
        copies: Compares images with the photos that they are made from.
        real: By class.
        seed: Of the run.
        by_clock: Whether nothing but time ends the search.
        unfinished: The trial that the session before this one ended in, by class and number.
    """

    synthesis: Synthesis
    evidence: Evidence
    searches: Searches
    copies: SourceCopies
    real: Mapping[str, ClassReference]
    seed: int
    by_clock: bool
    unfinished: set[tuple[str, int]] = field(default_factory=set)

    @property
    def kept(self) -> KeptImages:
        """What trials have brought."""
        return KeptImages(synthesis=self.synthesis, evidence=self.evidence)

    def propose(self, action: ProposeTrial) -> TrialProposed:
        """Settle a class's next trial: its number, recipes and seeds."""
        search = self.searches[action.cls]
        if not search.has_baseline:
            search.size_baseline(action.baseline_images)
        # A generator's faults are mostly the same in all classes. The first ones, so that what a
        # stage tries first stays while other stages end; with the baseline's it begins anyhow.
        baseline = search.space.baseline_settings()
        hints = [dict(won) for won in action.hints if won != baseline][:HINTS]
        ask = Ask(
            settings_trials=action.settings_trials,
            hints=hints,
            batch=action.batch,
            prices=action.prices,
        )
        proposal = search.propose(ask)
        return TrialProposed(
            cls=action.cls,
            number=proposal.number,
            stage=proposal.stage,
            params=proposal.params,
            jobs=tuple(Job(recipe=r.to_json(), seeds=tuple(s)) for r, s in proposal.jobs),
        )

    def run(self, proposed: TrialProposed) -> TrialFinished | TrialFailed:
        """Generate, embed and score a trial.

        Raises:
            GeneratorConfigError: Not even the baseline can be generated as configured.
            EmbedderError: Not even the baseline can be embedded.
            Exception: Of the machine, as `machines_fault` tells; the trial is done again.
        """
        name, search = proposed.cls, self.searches[proposed.cls]
        proposal = proposal_of(proposed)
        baseline = proposal.stage == "baseline"
        few = baseline and search.state.baseline_images < BASELINE_IMAGES
        invalid = generated = 0
        # Nothing can be asked of a lost device, so what works without the recipe is asked before.
        worked = (name, proposal.number) in self.unfinished and self._baseline_works(proposed)
        start = time.perf_counter()
        before = spent_by(self.synthesis.generator)
        result: dict[str, Any] = {"cls": name, "number": proposal.number}
        try:
            if self.by_clock and baseline and not self.synthesis.generated:
                # One image loads the models, so that the seconds per image are of those after it.
                recipe, seeds = proposal.jobs[0]
                generated += self.synthesis.generate(name, [(recipe, seeds[:1])]).generated
                start = time.perf_counter()
            batch = self.synthesis.generate(name, proposal.jobs, partly=True)
            invalid, generated = batch.invalid, generated + batch.generated
            if len(batch.seeds) < (MIN_IMAGES if few else 2):
                raise GenerationError(f"{batch.invalid} of its images are invalid{batch.why()}")
            jobs = zip(batch.recipes, batch.seeds, strict=True)
            made = [(proposal.jobs[job][0], seed) for job, seed in jobs]
            copied = frozenset(self.copies.of(name, batch.images, made))
        except Exception as error:
            if self._is_not_the_recipes_fault(error, proposed, worked=worked):
                raise  # the trial is done again
            if isinstance(error, GeneratorConfigError) and not search.has_baseline:
                raise  # not even the baseline can be generated: it is the config that is wrong
            self.synthesis.rundir.log_error(f"trial {proposal.number} of {name} failed")
            search.absorb_failure(proposal)
            result["error"] = told(error)
        else:
            images = replace(batch.kept(), copied=copied)
            # Outside of the try: what fails here would leave half a trial in the bank.
            finding = search.absorb(proposal, images)
            images = replace(images, recording=finding.recording)
            digests = self.evidence.keep_trial(name, proposal.number, images)
            self.kept.remember(name, proposal.jobs, images)
            result |= {
                "gap": _finite(finding.gap),
                "value": _finite(finding.value),
                "mixture_gap": _finite(finding.mixture_gap),
                "copied": tuple(sorted(copied)),
                "digests": digests,
            }
        drawn = {its: now - before[its] for its, now in spent_by(self.synthesis.generator).items()}
        if costs := {its: spent.pair for its, spent in drawn.items() if spent.images}:
            result["costs"] = costs
        result |= {"invalid": invalid, "images": generated}
        result |= {"seconds": time.perf_counter() - start, "progress": search.progress()}
        if proposal.number % PROBED == 0:
            result["probe"] = probe()
        return TrialFailed(**result) if "error" in result else TrialFinished(**result)

    def _is_not_the_recipes_fault(
        self, error: Exception, proposed: TrialProposed, *, worked: bool
    ) -> bool:
        """Return whether the machine is to blame for a trial that failed, or the embedder.

        Where memory is out, the embedder fails or a device is lost, it is the recipe's fault if
        the baseline works all the same. After a device is lost nothing works in this process: the
        session ends, and the next one, which begins with the same trial, asks before it.

        Args:
            error: That the trial ended with.
            proposed: The trial.
            worked: Whether the session before ended in it too, and the baseline worked before it.
        """
        if is_device_lost(error):
            if worked:
                return False
        elif is_machines_fault(error) or not (is_memory_out(error) or is_embedders(error)):
            return is_machines_fault(error)
        released(error)
        return not self._baseline_works(proposed)

    def _baseline_works(self, proposed: TrialProposed) -> bool:
        """Return whether as many images of the baseline can be generated and embedded just now."""
        search = self.searches[proposed.cls]
        images = sum(len(job.seeds) for job in proposed.jobs)
        baseline = (search.space.baseline, search.state.baseline_seeds()[:images])
        return search.has_baseline and self.synthesis.suffices(*baseline)

    def replay(self, events: Iterable[Event]) -> None:
        """Bring the searches where the journal stands, and have its images read back.

        Args:
            events: Of the whole journal, in order; they are read once.
        """
        self.searches.replay(self._remembering(events))

    def _remembering(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on, and remember what folds have had generated, and what was cut off."""
        proposed: dict[tuple[str, int], TrialProposed] = {}
        for event in events:
            match event:
                case TrialProposed():
                    proposed[event.cls, event.number] = event
                case TrialFinished() | TrialFailed():
                    proposed.pop((event.cls, event.number))
                case FoldEvaluated():
                    self.kept.remember_fold(event)
                case _:
                    pass
            yield event
        self.unfinished.update([*proposed][:1])  # those after it were not begun

    def choose_camera(self, action: ChooseCamera) -> CameraChosen:
        """Choose the camera on images that exist, for all classes have their baselines then."""
        known = [name for name, search in self.searches.items() if search.has_baseline]
        images = max(LEAST, IMAGES // len(known))
        views = [
            view_of(self.searches[name], self.real[name], self.synthesis, images=images)
            for name in known
        ]
        turn = self.searches[action.turn]
        camera = choose_camera(
            [view for view in views if view is not None],
            cameras=turn.space.cameras,
            start=turn.space.camera,
            seed=self.seed,
        )
        progress, digests = {}, {}
        for name, search in self.searches.items():
            batch = self.synthesis.generate(name, under(camera, search.drawn()), partly=True)
            taken = batch.kept()
            digests[name] = self.evidence.keep_camera(name, taken)
            search.change_camera(camera, taken)
            progress[name] = search.progress()
        return CameraChosen(
            camera=camera.to_json(), turn=action.turn, progress=progress, digests=digests
        )


def make_searches(
    config: RunConfig,
    real: Mapping[str, ClassReference],
    embedder: Embedder,
    kept: KeptImages,
    *,
    scored_by: ScoredBy,
    groups: Groups | None = None,
) -> Searches:
    """Make a search for each class of a run, at its beginning.

    Args:
        config: Of the run.
        real: By class.
        embedder: Its text side orders the prompts.
        kept: What trials have brought.
        scored_by: What trials are scored by.
        groups: Photo groups by class, where recipes may name some.
    """

    def search(name: str) -> ClassSearch:
        mine, reference = (groups or {}).get(name, ()), real[name]
        space = Space.of(config, name, groups={group.name: group.digest for group in mine})
        score, floor_at = scored_by(reference, config.tune.seed)
        return ClassSearch(
            space=space,
            bank=score,
            prior=word_prior(
                space,
                reference.tune.rows,
                embedder,
                photos={group.name: len(group) for group in mine},
            ),
            floor_at=floor_at,
            images_per_trial=config.tune.images_per_trial,
            confirm_images=config.confirm.images,
            baseline_images=BASELINE_IMAGES,
            seed=config.tune.seed,
            sources=Sources(
                groups={group.digest: group for group in mine},
                rows={photo: row for row, photo in enumerate(reference.tune.photos)},
            ),
        )

    return Searches(
        {name: search(name) for name in real},
        trial_images=kept.trial,
        camera_images=kept.camera,
        keep_recording=kept.evidence.keep_recording,
    )


def by_gap(real: ClassReference, seed: int) -> tuple[Score, Callable[[int], float]]:
    """Return what scores by the gap to the tune split, and its `floor_p95`; see `ScoredBy`."""
    rows = real.tune.rows
    few = rows[:: -(-len(rows) // FLOOR_IMAGES)]
    fitted = Floor.fit(few, kernel=real.kernel, seed=seed)
    bank = AtomBank(kernel=real.kernel, real=rows)
    return bank, lambda n: max(fitted.floor_p95(n_real=len(rows), n_synthetic=n), 1e-9)


def gap_unit(
    real: ClassReference, search: ClassSearch, config: RunConfig, *, scored_by: ScoredBy
) -> float:
    """Return what a gap of 1 is in units of a search's score: both measure real images alike.

    Folds are measured by the gap whatever trials are scored by.
    """
    if scored_by is by_gap:
        return 1.0  # both floors are one, and fitting it takes a while
    _, floor_at = by_gap(real, config.tune.seed)
    return search.floor / floor_at(config.confirm.images)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
