"""A session: one process at work on a run. Decide, execute, append; then report.

What an event names is on disk before the event is appended, so a kill loses at most what is under
way.
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from gapclose.analysis.attributes import DEFAULT_WORDS
from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.analysis.criteria import CRITERIA, Criterion
from gapclose.analysis.embedding import Embedder, make_embedders
from gapclose.analysis.image_folder import ImageSet
from gapclose.analysis.proposer import Proposer, make_proposer
from gapclose.loop.app.refresh import refresh_tags
from gapclose.loop.config.identity import measured_as
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.report.projections import Projections
from gapclose.loop.run.events import (
    Event,
    MixturesGiven,
    PhotosGrouped,
    PhotosListed,
    RoundStarted,
    RunFinished,
    RunStarted,
    SessionStarted,
    TrialFailed,
    TrialFinished,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import Journal, read_journal
from gapclose.loop.run.notices import (
    BaselinesCut,
    ImagesTooFew,
    InterruptNoted,
    OverheadMeasured,
    PhotosTooFew,
    ReportWritten,
    TagsRead,
    Task,
    TaskStarted,
    WarningRaised,
)
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.run.state import RunState, apply
from gapclose.loop.schedule.actions import (
    Action,
    AskProposer,
    ChooseCamera,
    EvaluateFold,
    Finish,
    Judge,
    MeasureRecalls,
    ProposeTrial,
    RunTrial,
    StartRound,
)
from gapclose.loop.schedule.budget import BASELINE_IMAGES, ClassLimits, Limits
from gapclose.loop.schedule.cost_model import probe
from gapclose.loop.schedule.decide import decide
from gapclose.loop.schedule.objective import Objective
from gapclose.loop.schedule.view import View
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.given import can_take, has_generator
from gapclose.loop.search.optuna_record import StudyRecords
from gapclose.loop.search.searches import Searches
from gapclose.loop.search.study_storage import Storage
from gapclose.loop.work.confirmation import Confirmation
from gapclose.loop.work.diagnostics import Diagnostics
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.kept_images import KeptImages
from gapclose.loop.work.photo_groups import open_groups
from gapclose.loop.work.photo_source import open_generator
from gapclose.loop.work.proposals import Proposals
from gapclose.loop.work.real_data import ClassReference
from gapclose.loop.work.recalls import Recalls
from gapclose.loop.work.run_generators import check_drawn
from gapclose.loop.work.source_copies import SourceCopies
from gapclose.loop.work.synthesis import Synthesis
from gapclose.loop.work.tagged import prioritize, selections
from gapclose.loop.work.trials import ScoredBy, Trials, gap_unit, make_searches

ROOM: Final = 1.25  # over the photos that a split needs: its share is met on average only


@dataclass(slots=True)
class Stopwatch:
    """Seconds of the budget that a run has used.

    Attributes:
        used_before: By earlier sessions.
        now: The clock; monotonic seconds.
    """

    used_before: float = 0.0
    now: Callable[[], float] = time.monotonic
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        """Start it."""
        self._started = self.now()

    @property
    def used(self) -> float:
        """Seconds used over all sessions."""
        return self.used_before + self.now() - self._started


@dataclass(slots=True, kw_only=True)
class Session:
    """One session of a run: its state, and the executors of what is decided.

    Attributes:
        state: Where the run stands.
        limits: What it may use.
        grouped: Photo groups that no session before has had.
        given: Mixtures of another run, where this session was given some.
        criteria: What a class must meet to be confirmed.
        interrupted: Whether a person wants it to stop after what is under way.
    """

    config: RunConfig
    rundir: RunDir
    journal: Journal
    state: RunState
    limits: Limits
    watch: Stopwatch
    reporter: Reporter
    synthesis: Synthesis
    trials: Trials
    confirmation: Confirmation
    recalls: Recalls
    proposals: Proposals
    diagnostics: Diagnostics
    projections: Projections
    grouped: Sequence[PhotosGrouped] = ()
    given: MixturesGiven | None = None
    criteria: Sequence[Criterion] = CRITERIA
    records: StudyRecords | None = None
    interrupted: bool = False
    _drawable: bool = False
    _slow: bool = False

    def begin(self, listed: PhotosListed, storage: Storage | None) -> None:
        """Replay the journal: rebuild what is expensive, repair what a kill tore."""
        if self.state.run:
            self.reporter.tell(TaskStarted(task=Task.REPLAYING))
            self.trials.replay(read_journal(self.rundir.journal_path))
        else:
            self.append(RunStarted(run=secrets.token_hex(4), config=measured_as(self.config)))
        rows = self.projections.restore(self.state)
        self.records = StudyRecords.open(
            storage,
            {name: search.space for name, search in self.trials.searches.items()},
            path=self.rundir.study_path,
            run=self.state.run,
            rows=rows,
        )
        names = tuple(self.limits.classes)
        self.append(SessionStarted(classes=names, budget=self.config.tune.budget, probe=probe()))
        if not _same(listed, self.state.listed):
            self.append(listed)
        for event in self.grouped:
            self.append(event)
        if self.given is not None and self.state.given is None:
            self.append(self.given)
            warn_of_left_out(self.given, self.trials.searches, self.reporter)
        warn_of_few(self.config, self.trials.real, self.reporter)
        for said in self.diagnostics.judge_notes():
            self.reporter.tell(WarningRaised(message=said))

    def append(self, event: Event) -> None:
        """Append an event, and have everything follow it that stands beside the journal."""
        event = self.journal.append(event, used=self.watch.used)
        self.state = apply(self.state, event)
        self.trials.searches.apply(event)
        row = self.projections.follow(event, self.state)
        if row is not None:
            assert self.records is not None, "no trial ends before the session has begun"
            self.records.tell(row)
        self.reporter.follow(event, self.state)

    def run(self) -> None:
        """Go on until nothing is worth another trial, then report.

        Raises:
            KeyboardInterrupt: A person ended it; what was under way is finished.
        """
        start, worked = time.perf_counter(), self.synthesis.seconds + self.recalls.seconds
        with interruptible(self):
            action = self.decide()
            if isinstance(action, StartRound):
                self.perform(action)
            self._prioritize()
            while not self.interrupted and not isinstance(action := self.decide(), Finish):
                self.perform(action)
        if self.interrupted:
            raise KeyboardInterrupt
        assert isinstance(action, Finish)
        spent = time.perf_counter() - start
        overhead = spent - (self.synthesis.seconds + self.recalls.seconds - worked)
        self.finish(action, tune_seconds=spent, loop_seconds=overhead)

    def decide(self) -> Action:
        """Return what comes next."""
        return decide(self.state, limits=self.limits, now=self.watch.used)

    def perform(self, action: Action) -> None:
        """Do what was decided, and append what comes of it."""
        for event in self.execute(action):
            self.append(event)

    def execute(self, action: Action) -> Iterator[Event]:
        """Do what was decided; each event is appended before the next is made."""
        match action:
            case ProposeTrial():
                self._check_loaded()
                self._warn_of_small_baselines(action)
                yield self.trials.propose(action)
            case RunTrial():
                trial = action.trial
                task = TaskStarted(task=Task.TRIAL, cls=trial.cls, number=trial.number)
                self.reporter.tell(task)
                yield self.trials.run(trial)
            case ChooseCamera():
                self.reporter.tell(TaskStarted(task=Task.CAMERA))
                yield self.trials.choose_camera(action)
            case AskProposer():
                self.reporter.tell(TaskStarted(task=Task.PROPOSING, cls=action.cls))
                yield self.proposals.ask(action)
            case MeasureRecalls():
                self.reporter.tell(TaskStarted(task=Task.RECALLS))
                yield self.recalls.measure(self.state)
            case EvaluateFold():
                search = self.trials.searches[action.cls]
                opened = self.state.of(action.cls).opened
                if opened is None:
                    opened = self.confirmation.open(action, self.state.of(action.cls), search)
                    yield opened
                else:
                    fold = opened.fold
                    task = TaskStarted(task=Task.CONFIRMING, cls=action.cls, number=fold)
                    self.reporter.tell(task)
                yield self.confirmation.evaluate(opened, search)
            case Judge():
                yield self.recalls.judge(self.state, self.criteria)
            case StartRound():
                yield RoundStarted(**asdict(action))

    def close(self) -> None:
        """Wait for what is written besides, and end a program that generates."""
        if self.records is not None:
            self.records.close()
        if (end := getattr(self.synthesis.generator, "close", None)) is not None:
            end()

    def _check_loaded(self) -> None:
        """Check the generator once more: what a hub's model takes is known once it is loaded."""
        if self.synthesis.generated and not self._drawable:
            check_drawn(self.config)
            self._drawable = True

    def _warn_of_small_baselines(self, action: ProposeTrial) -> None:
        """Say, once a session, that the machine is too slow for whole baselines."""
        if self._slow or action.baseline_images >= BASELINE_IMAGES:
            return
        self._slow = True
        seconds = View(self.state, self.limits, self.watch.used).costs.baseline_image
        assert seconds is not None, "only what an image takes makes a baseline smaller"
        self.reporter.tell(BaselinesCut(image_seconds=seconds, whole=BASELINE_IMAGES))

    def _prioritize(self) -> None:
        """Put what a person tagged `gap` first: its class, and the words that would close it."""
        refresh_tags(self.rundir)
        for selection in selections(self.rundir, self.trials.real):
            view = View(self.state, self.limits, self.watch.used)
            search = self.trials.searches[selection.cls]
            answer, event = prioritize(selection, view, search, self.synthesis.embedder)
            if event is not None:
                self.append(event)
            self.reporter.tell(TagsRead(cls=selection.cls, images=selection.images, answer=answer))

    def finish(self, action: Finish, *, tune_seconds: float, loop_seconds: float) -> None:
        """Find what there is to find, and write the report.

        Args:
            action: Why each class stopped.
            tune_seconds: That the loop of this session took.
            loop_seconds: Of them, neither generating nor embedding.
        """
        self.reporter.tell(TaskStarted(task=Task.DIAGNOSING))
        findings = self.diagnostics.run(self.state)
        trial_seconds = _trial_seconds(read_journal(self.rundir.journal_path))
        used = self.watch.used  # read once: in a first session both figures are the same
        findings["seconds"] = {
            "all_sessions": {
                "trials": trial_seconds,
                "all": used,
            },
            "last_session": {
                "generate": self.synthesis.generate_seconds,
                "embed": self.synthesis.embed_seconds,
                "tune": tune_seconds,
                "loop": loop_seconds,
                "all": used - self.watch.used_before,
            },
        }
        self.append(RunFinished(stopped=action.stopped, findings=findings))
        self.reporter.tell(TaskStarted(task=Task.REPORTING))
        from gapclose.loop.report.page import write_report

        page = write_report(self.rundir.path)
        self.projections.write_state(self.state)  # "done" promises the page
        if tune_seconds > 1.0:  # of less it says nothing
            share = loop_seconds / tune_seconds
            self.reporter.tell(OverheadMeasured(share=share))
        self.reporter.tell(ReportWritten(path=str(page)))


def open_session(
    config: RunConfig,
    rundir: RunDir,
    journal: Journal,
    state: RunState,
    real: dict[str, ClassReference],
    images: ImageSet,
    *,
    loaded: dict[str, Embedder],
    given: MixturesGiven | None,
    watch: Stopwatch,
    reporter: Reporter,
    objective: Objective,
    scored_by: ScoredBy,
    criteria: Sequence[Criterion],
) -> Session:
    """Load the models, and make the searches; `begin` brings them where the journal stands.

    The classes are searched for what the objective says, by the scores of their trials, and
    confirmed by the criteria. Embedders that are in `loaded` are not loaded again.
    """
    encoders = make_embedders(*config.encoders, loaded=loaded, device=config.device)
    embedder = encoders.pop(config.embedder)
    groups_of, grouped = open_groups(
        config,
        rundir,
        state.groups,
        images=images,
        real=real,
        embedder=embedder,
        reporter=reporter,
    )
    photos = {
        photo: path
        for reference in real.values()
        for photo, path in zip(reference.tune.photos, reference.tune.paths, strict=True)
    }
    synthesis = Synthesis(
        generator=open_generator(config, rundir, photos=photos), embedder=embedder, rundir=rundir
    )
    reporter.tell(TaskStarted(task=Task.FLOORS))
    evidence = Evidence(rundir)
    kept = KeptImages(synthesis=synthesis, evidence=evidence)
    searches = make_searches(config, real, embedder, kept, scored_by=scored_by, groups=groups_of)
    nouns = {name: search.space.words["noun"][0] for name, search in searches.items()}
    groups = config.attributes or DEFAULT_WORDS
    copies = SourceCopies(generator=synthesis.generator, real=real)
    shared: dict[str, Any] = {"synthesis": synthesis, "evidence": evidence, "real": real}
    worded: dict[str, Any] = {"config": config, "nouns": nouns, "groups": groups}
    limits = limits_of(config, real, searches, objective=objective, scored_by=scored_by)
    return Session(
        config=config,
        rundir=rundir,
        journal=journal,
        state=state,
        limits=limits,
        watch=watch,
        reporter=reporter,
        synthesis=synthesis,
        trials=Trials(
            **shared,
            searches=searches,
            copies=copies,
            seed=config.tune.seed,
            by_clock=limits.by_clock,
        ),
        confirmation=Confirmation(
            **shared,
            **worded,
            judges=encoders,
            copies=copies,
            floors={name: its.floor / its.gap_unit for name, its in limits.classes.items()},
        ),
        recalls=Recalls(**shared, searches=searches, seed=config.tune.seed, device=config.device),
        proposals=Proposals(
            proposer=_proposer(config),
            synthesis=synthesis,
            searches=searches,
            real=real,
            groups=groups,
        ),
        diagnostics=Diagnostics(**shared, **worded, searches=searches),
        projections=Projections(rundir),
        grouped=grouped,
        given=given,
        criteria=criteria,
    )


def _proposer(config: RunConfig) -> Proposer | None:
    name = config.space.proposer
    return None if name is None else make_proposer(name, device=config.device)


def limits_of(
    config: RunConfig,
    real: Mapping[str, ClassReference],
    searches: Searches,
    *,
    objective: Objective,
    scored_by: ScoredBy,
) -> Limits:
    """Return what a run may use, by its config, its photos and its searches."""
    return Limits(
        tune=config.tune,
        confirm_images=config.confirm.images,
        classes={
            name: ClassLimits(
                floor=search.floor,
                folds=len(real[name].folds),
                gap_unit=gap_unit(real[name], search, config, scored_by=scored_by),
            )
            for name, search in searches.items()
        },
        cameras=any(search.space.cameras for search in searches.values()),
        proposer=config.space.proposer is not None,
        objective=objective,
    )


def _trial_seconds(events: Iterable[Event]) -> float:
    return sum(e.seconds for e in events if isinstance(e, TrialFinished | TrialFailed))


def _same(listed: PhotosListed, before: PhotosListed | None) -> bool:
    """Return whether the real images are as they were."""
    when = {"at", "used"}
    return before is not None and before.model_dump(exclude=when) == listed.model_dump(
        exclude=when
    )


def warn_of_few(config: RunConfig, real: Mapping[str, ClassReference], reporter: Reporter) -> None:
    """Say which classes can never be called closed, before a night is spent on them."""
    few = [
        name
        for name, reference in real.items()
        if all(len(fold) < MIN_CLOSED for fold in reference.folds)
    ]
    if few:
        share = config.real.confirm_share * (1 - config.real.test_share)
        wanted = round(ROOM * MIN_CLOSED / share)
        reporter.tell(PhotosTooFew(classes=tuple(few), least=MIN_CLOSED, wanted=wanted))
    if config.confirm.images < MIN_CLOSED:
        reporter.tell(ImagesTooFew(least=MIN_CLOSED))


def warn_of_left_out(
    given: MixturesGiven, searches: Mapping[str, ClassSearch], reporter: Reporter
) -> None:
    """Say of which given mixtures a run leaves recipes out."""
    for name, search in searches.items():
        rows = given.mixtures.get(name, ())
        foreign = sum(not has_generator(row, search.space) for row in rows)
        lost = sum(not can_take(row, search.space) for row in rows)
        rest = "and the others have their weight" if lost < len(rows) else "so it has none of them"
        for n, why in (
            (foreign, "are of generators that this run has not"),
            (lost - foreign, "take captions or pictures of real photos, which this run does not"),
        ):
            if n:
                said = f"{n} of the {len(rows)} recipes that it was given {why}"
                message = f"{name}: {said}; they are left out, {rest}"
                reporter.tell(WarningRaised(message=message))


@contextmanager
def interruptible(session: Session) -> Iterator[None]:
    """Let the trial under way finish on Ctrl-C; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        if session.interrupted:
            raise KeyboardInterrupt
        session.interrupted = True
        # From a thread of its own: the signal may have come in the middle of a line.
        threading.Thread(
            target=session.reporter.tell, args=(InterruptNoted(),), daemon=True
        ).start()

    old: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
