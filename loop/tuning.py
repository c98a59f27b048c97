"""The loop: ask, draw, photograph, embed, score, write, tell; then confirm and report.

`tune` is what the command line and notebooks call. What was drawn (images, embeddings, a line of
`trials.jsonl`) is on disk before any study is told, so a kill loses at most the trial under way.
"""

from __future__ import annotations

import logging
import math
import secrets
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gapclose.analysis.attributes import DEFAULT_WORDS
from gapclose.analysis.embedding import Embedder, check_embedders, make_embedder
from gapclose.analysis.gap import MIN_CLOSED, MIN_IMAGES, ClassGap, Floor
from gapclose.generators.base import GenerationError, GeneratorConfigError
from gapclose.generators.recipe import Camera
from gapclose.generators.registry import make_generator
from gapclose.loop.config.schema import ConfigError, PondReal, RunConfig
from gapclose.loop.report.findings import left_out as left_out_words
from gapclose.loop.report.progress import Reporter, SilentReporter
from gapclose.loop.report.text import LIMIT_REACHED, OUT_OF_BUDGET, TOO_LITTLE_TIME, size
from gapclose.loop.run.folder import RunDir, is_machines_fault, plain, write_bytes
from gapclose.loop.run.run import Run
from gapclose.loop.run.tags import GAP
from gapclose.loop.schedule.budget import FEWEST_FAIR, Budget
from gapclose.loop.schedule.cost_model import CostModel, probe
from gapclose.loop.schedule.reserve import (
    WORTHWHILE,
    ClassProgress,
    baseline_images,
    confirmation_reserve,
    reopen_candidates,
)
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.camera_choice import IMAGES, LEAST, choose_camera, views_of
from gapclose.loop.search.class_search import FAILURES, MOST_BATCH, ClassSearch
from gapclose.loop.search.feedback import Selection, feedback_prompts, selections
from gapclose.loop.search.importance import importances
from gapclose.loop.search.optuna_record import OptunaRecord, Storage, open_storage, open_study_file
from gapclose.loop.search.prior import word_prior
from gapclose.loop.search.shares import shares_of
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Images, Mixture, Proposal
from gapclose.loop.work.diagnostics import NAMED, clusters_of, in_short, shown_samples
from gapclose.loop.work.holdout import (
    Look,
    evaluate_holdout,
    evaluation_seeds,
    judged,
    score_evaluations,
    storage_of,
)
from gapclose.loop.work.real_data import (
    PARTS,
    ClassReference,
    check_device,
    check_drawn,
    check_real,
    compare_searched,
    looked_before,
    note_looked,
    open_gallery,
    rendered_pond,
    seen_before,
)
from gapclose.loop.work.sides import Side, left_out
from gapclose.loop.work.synthesis import Synthesis

__all__ = ["tune"]

log = logging.getLogger(__name__)

BASELINE_IMAGES: Final = 100  # enough to call a class closed or not
ROOM: Final = 1.25  # over the photos that a split needs: its share is met on average only
FLOOR_IMAGES: Final = 2000  # of a class's tune split: all pairs of more would not fit in memory
PROBED: Final = 8  # trials: so often it is measured how busy the machine is


def tune(
    config: RunConfig,
    *,
    out: Path | None = None,
    trust: bool = False,
    search: bool = True,
    reporter: Reporter | None = None,
) -> Run:
    """Tune every class until its gap is closed, the budget is out, or nothing gains any more.

    Started again on the same folder it resumes.

    Args:
        config: What to tune.
        out: The run folder; by default one under runs/ that the config's fingerprint names.
        trust: Let a run folder that was made elsewhere import the code its config names.
        search: False measures anew what the run has confirmed, and tries nothing.
        reporter: Told what happens.

    Raises:
        ConfigError, RealDataError, EmbedderError, GeneratorConfigError: The user's input is
            wrong; nothing has been written.
        RunBusyError, RunMismatchError: The folder is in use, or is another config's.
    """
    reporter = reporter or SilentReporter()
    out = Path("runs") / f"tune-{config.fingerprint()[:8]}" if out is None else Path(out)
    before = RunDir(out)
    before.check_trust(config, trust=trust)
    reporter.event("stage", name="reading the photo folder")
    images, classes = check_real(config)
    reporter.event("stage", name="checking encoders and generator")
    check_embedders(config.embedder, config.judge)
    check_device(config)
    check_drawn(config, () if before.holds_images else classes)
    if before.config_path.is_file():
        before.check_config(config)
        _check_classes(before, classes)
    # The last that can be wrong, for it may make a database.
    storage = None if config.storage is None else open_storage(config.storage)
    rundir = RunDir.create(out, config)
    with rundir.writing():
        state = rundir.read_json("state.json") if rundir.has("state.json") else {}
        if state.get("kind") == "audit":
            state = {}  # of the baseline, under the same name; this is the run it was made for
        # Rendering and embedding the real images is part of what a night has time for.
        budget = Budget(limits=config.tune, used_before=state.get("seconds_used", 0.0))
        if images is None:
            assert isinstance(config.real, PondReal)
            reporter.event("stage", name="render")
            images = rendered_pond(rundir, config.real, classes)
        reporter.event("stage", name="embed")
        gallery, side = open_gallery(
            images,
            classes,
            config=config,
            reporter=reporter,
            looked=looked_before(rundir),
            cuts=state.setdefault("cuts", {}),
            seen=seen_before(rundir),
        )
        missing = left_out([side], relative=rundir.relative)
        for said in [*left_out_words(missing), *compare_searched(rundir, gallery, side)]:
            reporter.event("warning", message=said)
        reporter.event("stage", name="loading the encoders")
        # A trial's matrices are small: threads that wait for each other over them cost ten times
        # what they gain where another process wants the cores.
        with threadpool_limits(1, user_api="blas"):
            tuning = _Tuning(
                config,
                rundir,
                gallery,
                side,
                budget,
                state,
                storage,
                reporter,
                search=search,
            )
            tuning.run()
    return Run(rundir.path)


def _check_classes(rundir: RunDir, classes: Sequence[str]) -> None:
    """Refuse to resume a run without the images of a class that it has tried.

    Raises:
        ConfigError: A class is gone.
    """
    gone = sorted({row["class"] for row in rundir.trials()} - {*classes})
    if gone:
        raise ConfigError(
            f"{rundir.path}: the run has tried class {gone[0]}, which has no images now: put its "
            "folder back, or start a new run with --out"
        )


class _Tuning:
    """One session of a run: everything live, nothing that is not on disk as well."""

    def __init__(
        self,
        config: RunConfig,
        rundir: RunDir,
        gallery: dict[str, ClassReference],
        side: Side,
        budget: Budget,
        state: dict[str, Any],
        storage: Storage | None,
        reporter: Reporter,
        *,
        search: bool,
    ) -> None:
        self.config, self.rundir, self.reporter = config, rundir, reporter
        self.budget, self.searching = budget, search
        self.gallery, self.side = gallery, side
        new: dict[str, Any] = {"id": secrets.token_hex(4), "started": time.time()}
        new |= {"looks": {}, "classes": {}, "pointed": {}, "reopened": {}, "mended": {}}
        new |= {"shot": {}, "images": 0}
        new |= {"mendable": [], "spare": False, "camera": None}
        self.state = new | state
        self.images_before = int(self.state["images"])  # in earlier sessions
        self.spaces = {name: Space.of(config, name) for name in gallery}
        self.nouns = {name: space.words["noun"][0] for name, space in self.spaces.items()}
        self.groups = config.attributes or DEFAULT_WORDS
        self.embedder: Embedder = make_embedder(config.embedder, device=config.device)
        self.judge: Embedder | None = None
        if config.judge is not None:
            self.judge = make_embedder(config.judge, device=config.device)
        self.synthesis = Synthesis(
            generator=make_generator(config.generator.as_spec()),
            embedder=self.embedder,
            rundir=rundir,
        )
        self._save_state()  # the id names the run's studies: it is on disk before they are
        if storage is None:
            storage = open_study_file(rundir.study_path)
        self.records = {
            name: OptunaRecord(storage, space, run=self.state["id"])
            for name, space in self.spaces.items()
        }
        self.searches = {name: self._search(name) for name in gallery}
        self.winners: list[tuple[str, Params]] = []  # the settings that classes chose, as they did
        self.gaps: dict[str, ClassGap] = {}
        self.kept = self._verdicts()
        self.looks: dict[str, tuple[Look, Look]] = {}
        # At which part, after how many trials, with how many of them in the bank.
        self.looked: dict[str, tuple[int, int, int]] = {}
        self.pace = CostModel(
            trial_images=config.tune.images_per_trial,
            baseline_images=BASELINE_IMAGES,
            look_images=config.confirm.images,
        )
        self.tune_seconds = {"all": 0.0, "loop": 0.0}
        self.teller = ThreadPoolExecutor(1)
        self.told: Future[None] = self.teller.submit(lambda: None)  # the last trial's
        self.due: set[str] = set()  # to be tried, and then looked at, in this round
        self.halfway = 0.0  # seconds left when half of the round's time to search is used
        self.stage = ""
        self.failed: dict[str, str] = {}
        self.interrupted = False
        self.drawable = False
        self.slow = False  # whether it was said that the machine is too slow for whole baselines

    def _verdicts(self) -> dict[str, dict[str, Any]]:
        """An earlier session's rows of gap.json, of the looks that state.json knows."""
        gap = self.rundir.read_json("gap.json") if self.rundir.has("gap.json") else {}
        rows = gap.get("classes", ())
        return {row["name"]: row for row in rows if row["name"] in self.state["looks"]}

    def _search(self, name: str) -> ClassSearch:
        real, space = self.gallery[name], self.spaces[name]
        return ClassSearch(
            space=space,
            bank=AtomBank(kernel=real.kernel, real=real.tune.rows),
            prior=word_prior(space, real.tune.rows, self.embedder),
            floor=self._floor(real, self.config.confirm.images),
            baseline_floor=self._floor(real, BASELINE_IMAGES),
            images_per_trial=self.config.tune.images_per_trial,
            confirm_images=self.config.confirm.images,
            baseline_images=BASELINE_IMAGES,
            seed=self.config.tune.seed,
        )

    def _floor(self, real: ClassReference, n_synthetic: int) -> float:
        """`floor_p95` of the tune split against so many images; above 0, to be divided by."""
        rows = real.tune.rows
        few = rows[:: -(-len(rows) // FLOOR_IMAGES)]
        fitted = Floor.fit(few, kernel=real.kernel, seed=self.config.tune.seed)
        return max(fitted.floor_p95(n_real=len(rows), n_synthetic=n_synthetic), 1e-9)

    def _size_baseline(self, name: str, images: int) -> None:
        """Have a class's baseline drawn with so many images, or say that it was.

        Too few to call a class closed do not do so from the start either.
        """
        search = self.searches[name]
        if images == search.baseline_images:
            return
        search.baseline_images = images
        enough = images >= MIN_CLOSED
        search.baseline_floor = self._floor(self.gallery[name], images) if enough else -math.inf

    def run(self) -> None:
        """Replay; in rounds search, and confirm class by class; close.

        What has closed by half of a round's time is looked at then: if it does not hold, there is
        time for it. Time that was kept back for a class and not used is searched in before the
        next is looked at. A run that is only measured keeps its stage and why it ended: one that
        was interrupted is still to go on.
        """
        self._replay()
        if self.searching:
            self._begin()
        with _interruptible(self), self.teller:
            while not self.interrupted:
                while self.searching and (early := self._tune()):
                    self._look_early(early)
                if self.interrupted:
                    break
                if name := self._next_look():
                    self._confirm(name)
                    continue
                self._score()
                if not self.searching:
                    break
                self._reopen()
                if self._next_trial() is None:
                    break
            self._save_state()
            if self.interrupted:
                raise KeyboardInterrupt
        if self.searching:  # whether it ended with time left, but too little of it
            self.state["spare"] = self.budget.left > self._reserve() + self.pace.trial()
        self._close()

    def _begin(self) -> None:
        """Settle what this session tries first."""
        self.pace.note_probe(probe())
        self._note_mendable()
        self._warn_of_few()
        self._reopen()
        self._point()
        if (budget := self.budget.limits.budget) is not None:  # half of all sessions' time
            self.halfway = (budget + self._reserve()) / 2

    def _warn_of_few(self) -> None:
        """Say which classes can never be called closed, before a night is spent on them."""
        few = [name for name, real in self.gallery.items() if len(real.parts[0]) < MIN_CLOSED]
        if few:
            named = ", ".join(few[:NAMED]) + (" ..." if len(few) > NAMED else "")
            message = (
                f"{named}: under {MIN_CLOSED} photos to confirm with, so a gap can be seen but "
                "not called closed; give about "
                f"{round(ROOM * MIN_CLOSED / self.config.real.confirm_share)} photos a class"
            )
            self.reporter.event("warning", message=message)
        if self.config.confirm.images < MIN_CLOSED:
            message = f"confirm.images: under {MIN_CLOSED} images call no gap closed"
            self.reporter.event("warning", message=message)

    # Searching

    def _replay(self) -> None:
        """Rebuild every search from `trials.jsonl`, and repair the studies from it."""
        rows = self.rundir.trials()
        for row in rows:
            search = self.searches[row["class"]]
            self._retell(row["class"])
            self.pace.note_trial(row)
            search.images = row["images_total"]
            proposal = Proposal.from_row(row)
            if proposal.stage == "baseline":
                self._size_baseline(row["class"], len(row["seeds"]))
            if row["state"] == "complete":
                search.absorb(proposal, self._stored(_evidence(row["class"], row["number"])))
                for recipe, seeds in proposal.jobs:
                    self.synthesis.remember(row["class"], recipe.draw.fingerprint(), seeds)
            else:
                search.absorb_failure(proposal)
            self._note_winner(row["class"])
        for name, record in self.records.items():
            self._retell(name)
            record.repair([row for row in rows if row["class"] == name])
        for name, looks in self.state["shot"].items():
            for jobs in looks.values():
                for draw, first, count in jobs:
                    self.synthesis.remember(name, draw, range(first, first + count))

    def _note_mendable(self) -> None:
        """Note what three failures had stopped when the run ended, if there is time.

        Whoever starts such a run again has mended what failed, or wants to know.
        """
        if self.budget.left > self._reserve() and self.state.pop("stopped_because", None):
            self.state["mendable"] = [
                name
                for name, search in self.searches.items()
                if search.failures >= FAILURES and not self.budget.spent(search)
            ]

    def _mend(self, name: str) -> None:
        """Take up a class that three failures had stopped."""
        search = self.searches[name]
        search.reset_failures()
        self.state["mendable"].remove(name)
        self.state["mended"].setdefault(name, []).append(search.number)

    def _point(self) -> None:
        """Put what a person tagged `gap` first: its class, and the words that would mend it."""
        for selection in selections(self.rundir, self.gallery):
            said = self._point_at(selection)
            message = f"{selection.cls}: {selection.images} images are tagged {GAP}; {said}"
            self.reporter.event("tags", message=message)
        self._save_state()

    def _point_at(self, selection: Selection) -> str:
        """Have the prompts tried that bring more of some images; says what comes of it."""
        name = selection.cls
        search = self.searches[name]
        prompts = feedback_prompts(self.spaces[name], search.prior, self.embedder, selection)
        if prompts and self.state["pointed"].get(name, {}).get("prompts") == prompts:
            return "its prompts come first" if search.pending else "its prompts were tried"
        mendable = name in self.state["mendable"]
        if search.failures >= FAILURES and not mendable:
            return "but three failures in a row have stopped the class"
        if not self._parts_left(name):
            return f"but {self._no_part(name)}"
        look = self.state["looks"].get(name)
        if look is not None and look["part"] + 1 == len(self.gallery[name].parts):
            return "but only photos that you have seen are left to confirm it with: give more"
        due = [self._standing(n) for n in {*self.due, name} if self._drawn(n)]
        if self.budget.spent(search) or self.budget.left <= self._reserve_for(due):
            return "but the budget is out: give it more"
        before = search.prioritized
        search.prioritize(prompts)
        if not search.pending:
            search.prioritize(before)
            return "but no word that was not tried yet sets them apart"
        if mendable:
            self._mend(name)
        # A resumed run must take up the class again at this very trial.
        self.state["pointed"][name] = {"at": search.number, "prompts": prompts}
        if look is not None:
            look["tagged"] = True  # its photos chose the prompts, even if a mere baseline's
        self.due.add(name)
        note_looked(self.rundir, {name: self.gallery[name].parts[: self._next_part(name)]})
        search.reopen()
        return "its prompts come first"

    def _retell(self, name: str) -> None:
        """What an earlier session mended, reopened or pointed at, at the trial that followed."""
        search = self.searches[name]
        if search.number in self.state["mended"].get(name, []):
            search.reset_failures()
        for told in self.state["reopened"].get(name, []):
            if told["at"] == search.number:
                search.reopen(unseen_gap=told["gap"])
        pointed = self.state["pointed"].get(name)
        if pointed is not None and pointed["at"] == search.number:
            search.prioritize(pointed["prompts"])
            search.reopen()
        chosen = self.state["camera"]
        if chosen is not None and chosen["at"][name] == search.number and not search.imaged:
            images = self._stored(f"{name}-camera")
            search.change_camera(Camera.from_json(chosen["camera"]), images)
            self.spaces[name] = search.space

    def _stored(self, evidence: str) -> Images:
        arrays = load_file(self.rundir.embeddings_path(evidence))
        return Images(
            embeddings=arrays["embeddings"],
            recipes=tuple(int(i) for i in arrays["recipes"]),
            seeds=tuple(int(i) for i in arrays["seeds"]),
        )

    def _store(self, evidence: str, images: Images) -> None:
        arrays: dict[str, Any] = {
            "embeddings": images.embeddings,
            "recipes": np.asarray(images.recipes, dtype=np.int64),
            "seeds": np.asarray(images.seeds, dtype=np.int64),
        }
        write_bytes(self.rundir.embeddings_path(evidence), save(arrays))

    def _set_camera(self, name: str) -> None:
        """Choose the run's camera once the class to be tried has had its first prompts.

        All classes have their baselines then, and nothing is drawn for it.
        """
        search = self.searches[name]
        if self.state["camera"] is not None or not search.opened or not search.space.cameras:
            return
        known = [n for n, s in self.searches.items() if s.has_baseline]
        images = max(LEAST, IMAGES // len(known))
        views = [
            view
            for n in known
            for view in views_of(self.searches[n], self.gallery[n], self.synthesis, images=images)
        ]
        camera = choose_camera(
            views,
            cameras=search.space.cameras,
            start=search.space.camera,
            seed=self.config.tune.seed,
        )
        for n, its in self.searches.items():
            jobs = [(replace(recipe, camera=camera), seeds) for recipe, seeds in its.drawn()]
            shot = self.synthesis.generate(n, jobs, partly=True)
            images_of = Images(embeddings=shot.embeddings, recipes=shot.recipes, seeds=shot.seeds)
            self._store(f"{n}-camera", images_of)
        at = {n: its.number for n, its in self.searches.items()}
        self.state["camera"] = {"camera": camera.to_json(), "at": at}
        self._save_state()
        for n in self.searches:
            self._retell(n)

    def _tune(self) -> list[str]:
        """Try until nothing is to be tried, or some are to be looked at early: these."""
        early: list[str] = []
        start, worked = time.perf_counter(), self._worked()
        while not self.interrupted and (name := self._next_trial()):
            if early := self._early():
                break
            self._stage("tune")
            self._trial(name)
        self.told.result()
        spent = time.perf_counter() - start
        self.tune_seconds["all"] += spent
        self.tune_seconds["loop"] += spent - (self._worked() - worked)
        return early

    def _next_trial(self) -> str | None:
        """The class to try next: None when none wants it, or what time is left is kept back."""
        # Every class gets its baseline, whatever the budget: without one there is no report.
        if self.budget.left <= self._reserve() and all(
            s.has_baseline or s.stopped() or self.budget.spent(s) for s in self.searches.values()
        ):
            return None
        due = {n: s for n, s in self.searches.items() if n in self.due and not self._rests(n)}
        return self.budget.pick(due, seconds=self._takes(due))

    def _takes(self, due: Mapping[str, ClassSearch]) -> dict[str, float]:
        """Seconds that a trial of each class takes, of its own and of what others could have had.

        Where there is not the time to look at all, a class's first trial costs another its look.
        A part of it counts, or a slow machine would give many classes a trial or two, of which
        nothing comes, and spend its time on looks at them.
        """
        standings = [self._standing(name) for name in self.due if self._drawn(name)]
        wanted = [
            replace(s, tried=s.tried or self.searches[s.name].stopped() is None) for s in standings
        ]
        seconds = {name: self.pace.trial(name) for name in due}
        if self.budget.left < self._reserve_for(wanted):
            for standing in standings:
                if standing.name in due and not standing.tried:
                    seconds[standing.name] += standing.look / FEWEST_FAIR
        return seconds

    def _early(self) -> list[str]:
        """Classes to look at while others are tried: closed by half of the round's time.

        Only where time is what ends the search: of trials and images each class has its own.
        """
        if not self.budget.by_clock or self.budget.left > self.halfway:
            return []
        if self.budget.left < WORTHWHILE * self._reserve():
            return []  # what does not hold could not be searched on in
        standings = [
            self._standing(name)
            for name in self.due
            if self._drawn(name) and not self._rests(name) and self._closed(name)
        ]
        return [standing.name for standing in sorted(standings, key=lambda s: s.turn)]

    def _closed(self, name: str) -> bool:
        """Whether a class's search has ended, and its gap on the tune split is below the floor."""
        search = self.searches[name]
        why = search.stopped()
        return why is not None and (why.startswith("closed") or search.gap <= search.floor)

    def _worked(self) -> float:
        """Seconds of generating and embedding so far."""
        return self.synthesis.generate_seconds + self.synthesis.embed_seconds

    def _rests(self, name: str) -> bool:
        """Whether more trials would change nothing: confirmed, or no unseen part is left."""
        look, search = self.state["looks"].get(name), self.searches[name]
        if look is None:
            return False
        # What a person asked for is to be tried, and then looked at.
        asked = search.pending or (search.prioritized and look["atoms"] != search.evidence)
        return not self._parts_left(name) or (bool(look["confirmed"]) and not asked)

    def _parts_left(self, name: str) -> bool:
        """Whether photos are left that no confirmation has looked at."""
        return self._next_part(name) < len(self.gallery[name].parts)

    def _next_part(self, name: str) -> int:
        """The first unseen part; a look at the mere baseline has told no search anything."""
        look = self.state["looks"].get(name)
        if look is None:
            return 0
        mere = _untried(self.searches[name], look["atoms"]) and not look["tagged"]
        return int(look["part"]) + (0 if mere else 1)

    def _no_part(self, name: str) -> str:
        """Why a class cannot be looked at once more, and what would help."""
        if len(self.gallery[name].parts) < PARTS:
            return "no photos are left to confirm it with: give more, or start a new run"
        return f"all {PARTS} looks at photos that it had not seen are spent: start a new run"

    def _trial(self, name: str) -> None:
        search = self.searches[name]
        if self.synthesis.generated and not self.drawable:
            # What a hub's model takes is known only now that it has been loaded.
            check_drawn(self.config)
            self.drawable = True
        self._fit_baseline(name)
        self._set_camera(name)
        proposal = search.propose(
            settings_trials=self.budget.settings_trials(
                search,
                trial_seconds=self.pace.trial(),
                open_classes=sum(
                    s.stopped() is None and not self.budget.spent(s)
                    for n, s in self.searches.items()
                    if n in self.due
                ),
                reserve=self._reserve(),
            ),
            hints=self._hints(name),
            batch=self._batch(name),
        )
        start = time.perf_counter()
        row: dict[str, Any] = {
            "class": name,
            "number": proposal.number,
            "stage": proposal.stage,
            "params": proposal.params,
            "recipe": proposal.jobs[0][0].to_json(),
            "fingerprint": proposal.jobs[0][0].fingerprint(),
            "draw": proposal.jobs[0][0].draw.fingerprint(),
            "seeds": [seed for _, seeds in proposal.jobs for seed in seeds],
            "jobs": [{"recipe": r.to_json(), "seeds": list(s)} for r, s in proposal.jobs],
        }
        invalid = 0
        few = proposal.stage == "baseline" and search.baseline_images < BASELINE_IMAGES
        try:
            start = self._load(name, proposal)
            shot = self.synthesis.generate(name, proposal.jobs, partly=True)
            search.images += shot.generated
            invalid = shot.invalid
            if len(shot.seeds) < (MIN_IMAGES if few else 2):
                raise GenerationError(f"{shot.invalid} of its images are invalid{shot.why()}")
            images = Images(embeddings=shot.embeddings, recipes=shot.recipes, seeds=shot.seeds)
            finding = search.absorb(proposal, images)
        except Exception as error:
            if is_machines_fault(error):
                raise  # a full disk says nothing of a recipe: the trial is done again
            if isinstance(error, GeneratorConfigError) and not search.has_baseline:
                raise  # not even the baseline can be drawn: it is the config that is wrong
            self._log_error(f"trial {proposal.number} of {name} failed", error)
            search.absorb_failure(proposal)
            row |= {"state": "fail", "error": f"{type(error).__name__}: {error}"}
            row |= {"invalid": invalid, "gap": None, "mixture_gap": None, "value": None}
        else:
            self._store(_evidence(name, proposal.number), images)
            row |= {"state": "complete", "error": None, "invalid": shot.invalid}
            row |= {"gap": finding.gap, "mixture_gap": finding.mixture_gap}
            row["value"] = finding.value
        seconds = time.perf_counter() - start
        row |= {"images_total": search.images, "seconds": seconds}
        self.rundir.append_trial(row)
        self.told.result()
        self.told = self.teller.submit(self._tell, name, row)
        for recipe, seeds in proposal.jobs:
            if row["state"] == "complete":
                self.synthesis.remember(name, recipe.draw.fingerprint(), seeds)
        self.pace.note_trial(row)
        if proposal.number % PROBED == 0:
            self.pace.note_probe(probe())
        self._note_winner(name)
        self._say(name, row)

    def _batch(self, name: str) -> int | None:
        """Images of a mixture that there is time for; None for as many as are usual."""
        if not self.budget.by_clock:
            return None
        each = self.pace.trial(name) / self.config.tune.images_per_trial
        left = (self.budget.left - self._reserve()) / max(each, 1e-6)
        return int(min(max(left, self.config.tune.images_per_trial), MOST_BATCH))

    def _load(self, name: str, proposal: Proposal) -> float:
        """Load the models by one image, and return when: the pace is that of those after it."""
        if self.budget.by_clock and proposal.stage == "baseline" and not self.synthesis.generated:
            recipe, seeds = proposal.jobs[0]
            self.synthesis.generate(name, [(recipe, seeds[:1])])
        return time.perf_counter()

    def _fit_baseline(self, name: str) -> None:
        """Have a class's baseline drawn with fewer images where the machine is slow.

        Where trials or images end the search, and where a smaller one failed, it is whole.
        """
        search = self.searches[name]
        if search.has_baseline:
            return
        if not self.budget.by_clock or search.failures:
            self._size_baseline(name, BASELINE_IMAGES)
            return
        images = baseline_images(
            BASELINE_IMAGES,
            left=self.budget.left,
            spent=self.pace.baseline_seconds,
            reserve=self._reserve(),
            seconds=self.pace.baseline_image,
            classes=len(self.searches),
        )
        if images < BASELINE_IMAGES and not self.slow:
            self.slow = True
            message = (
                f"at {self.pace.baseline_image:.2g} s an image there is no time for whole "
                f"baselines: some have fewer than {BASELINE_IMAGES} images, and the classes with "
                "the largest gaps come first; a larger budget leaves time for all"
            )
            self.reporter.event("warning", message=message)
        self._size_baseline(name, images)

    def _tell(self, name: str, row: dict[str, Any]) -> None:
        """Tell the class's study of a trial: 20 ms in a database, while the next is drawn."""
        try:
            self.records[name].tell(row)
        except Exception as error:  # noqa: BLE001 - a locked or full storage; the next session repairs it
            log.warning("trial %d of %s is not in the study yet: %s", row["number"], name, error)

    def _note_winner(self, name: str) -> None:
        winner = self.searches[name].winner
        if winner and winner not in [known for _, known in self.winners]:
            self.winners.append((name, winner))

    def _hints(self, name: str) -> list[Params]:
        """Settings that won in other classes: a generator's faults are mostly the same in all.

        The first ones, so that what a stage tries first stays while other stages end; not the
        baseline's, which a stage begins with anyhow.
        """
        baseline = self.spaces[name].baseline_settings()
        won = (winner for other, winner in self.winners if other != name)
        return [winner for winner in won if winner != baseline][:2]

    def _reserve(self) -> float:
        """Seconds kept back for confirming every class, the map and the report."""
        return self._reserve_for([self._standing(n) for n in self.due if self._drawn(n)])

    def _reserve_for(self, due: Sequence[ClassProgress]) -> float:
        """The same, if these classes are due."""
        if self.budget.limits.budget is None:
            return 0.0
        known = {standing.name for standing in due} | {*self.looks}
        resting = [n for n in self.state["looks"] if n not in known and self._drawn(n)]
        reading = sum(map(self.pace.reading, resting))
        return confirmation_reserve(
            due,
            reading=reading,
            classes=len(self.searches),
            slowness=self.pace.slowness,
            budget=self.budget.limits.budget,
        )

    def _drawn(self, name: str) -> bool:
        """Whether a class has its baseline, without which there is nothing to look at."""
        return self.searches[name].has_baseline

    def _standing(self, name: str) -> ClassProgress:
        search, look = self.searches[name], self.state["looks"].get(name)
        tried = not _untried(search, search.evidence)
        gap = max(search.expected, 0.0 if look is None else look.get("gap", 0.0))
        return ClassProgress(
            name=name,
            gap=gap / search.floor,
            look=self.pace.look(name),
            tried=tried,
            new=tried and (look is None or look["atoms"] != search.evidence),
        )

    # Confirming

    def _look_early(self, names: Sequence[str]) -> None:
        """Look at what has closed while others are tried; what does not hold is searched on in."""
        for name in names:
            if self.interrupted:
                return
            self._confirm(name)
        self._score()
        self._reopen()

    def _next_look(self) -> str | None:
        """The class to look at next in this round.

        A run that is only measured, at what was looked at before and at nothing else.
        """
        wanted = [
            self._standing(name)
            for name in self.searches
            if self._drawn(name)
            and (self.searching or name in self.state["looks"])
            and (name in self.due or (name not in self.looks and name not in self.failed))
        ]
        return min(wanted, key=lambda standing: standing.turn).name if wanted else None

    def _confirm(self, name: str) -> None:
        """Look at a class: fresh seeds, an unseen part of the real images."""
        self._stage("confirm")
        self.due.discard(name)
        start, drawn = time.perf_counter(), self.synthesis.generated
        try:
            part, trials, atoms, mixture = self._look(name)
            if self.looked.get(name) == (part, trials, atoms):
                return
            self.looks[name] = self._shoot(name, part, atoms, mixture)
        except GeneratorConfigError:
            raise
        except Exception as error:
            if is_machines_fault(error):
                raise
            self._log_error(f"{name} could not be confirmed", error)
            self.failed[name] = f"its confirmation failed: {error}"
            return
        self.failed.pop(name, None)
        self.looked[name] = (part, trials, atoms)
        seconds, images = time.perf_counter() - start, self.synthesis.generated - drawn
        self.pace.note_look(name, seconds, images=images)
        self.pace.note_probe(probe())
        self._save_state()
        self.reporter.event(
            "progress", done=len(self.looks), total=len(self.searches), what="confirming"
        )
        self._say_time()

    def _look(self, name: str) -> tuple[int, int, int, Mixture]:
        """The part of the confirm split to look at, after how many trials and atoms, and at what.

        Each look uses an unseen part. Where nothing has joined the bank since the last one (its
        trials failed, or compared settings), the mixture is the same and so is the look; with no
        part left, what was looked at last stays.
        """
        search, last = self.searches[name], self.state["looks"].get(name)
        atoms = search.evidence
        if last is None:
            return 0, search.number, atoms, search.mixture()
        new = self.searching and last["atoms"] != atoms
        if new and self._parts_left(name):
            return self._next_part(name), search.number, atoms, search.mixture()
        return last["part"], last["trials"], last["atoms"], self._looked_at(name)

    def _shoot(self, name: str, part: int, atoms: int, mixture: Mixture) -> tuple[Look, Look]:
        """The looks at a class's baseline and at its mixture, or at what is kept in its place.

        As `_look` has them.
        """
        search, config = self.searches[name], self.config
        baseline = Mixture(
            recipes=(search.space.baseline,), weights=(1.0,), gap_tune=search.baseline_gap
        )
        shared: dict[str, Any] = {
            "real": self.gallery[name],
            "part": part,
            "judge": self.judge,
        }
        seeds: Sequence[int] = search.baseline_seeds
        before = evaluate_holdout(
            self.synthesis, mixture=baseline, stage="baseline", seeds=seeds, **shared
        )
        fresh_seeds = evaluation_seeds(part, config.confirm.images, seed=config.tune.seed)
        plain = [(recipe,) for recipe in dict.fromkeys((search.plain, search.space.baseline))]
        # The baseline was chosen by nobody, so its images of trial 0 serve once more, unless it
        # was by them that it closed from the start.
        by_them = search.baseline_gap <= search.baseline_floor
        if not _untried(search, atoms) and (by_them or mixture.recipes not in plain):
            seeds = fresh_seeds
        fresh: dict[str, Any] = {"stage": "tuned", "seeds": seeds} | shared
        after, drawn = (
            evaluate_holdout(self.synthesis, mixture=mixture, **fresh),
            mixture.jobs(seeds),
        )
        # No class may end worse than it began: what does not help is not kept. The baseline's
        # images under the run's camera are tried before those under its own.
        for recipes in plain:
            if after.mixture.recipes == plain[-1] or after.gap() < before.gap():
                break
            kept = Mixture(recipes=recipes, weights=(1.0,), gap_tune=math.nan)
            fresh["seeds"] = fresh_seeds if by_them else search.baseline_seeds
            after = evaluate_holdout(self.synthesis, mixture=kept, **fresh)
            drawn += kept.jobs(fresh["seeds"])
            # Under another camera they are the same images.
            self.synthesis.remember(name, recipes[0].draw.fingerprint(), fresh["seeds"])
        # A run that is interrupted now reads these images, and does not draw them again.
        self.state["shot"].setdefault(name, {})[str(part)] = [
            (recipe.draw.fingerprint(), block[0], len(block)) for recipe, block in drawn
        ]
        return before, after

    def _looked_at(self, name: str) -> Mixture:
        """What the last look at a class drew from."""
        return Mixture.from_json(self.rundir.read_json("mixtures.json")["classes"][name])

    def _score(self) -> None:
        """Judge all classes together, for their q-values are."""
        self.looks = {name: self.looks[name] for name in self.searches if name in self.looks}
        looks = self.looks
        before = {n: (look["part"], look["trials"]) for n, look in self.state["looks"].items()}
        options: dict[str, Any] = {
            "embedder": self.embedder,
            "groups": self.groups,
            "nouns": self.nouns,
            "seed": self.config.tune.seed,
        }
        befores = score_evaluations([b for b, _ in looks.values()], **options)
        afters = score_evaluations([a for _, a in looks.values()], **options)
        for name, old, new in zip(looks, befores, afters, strict=True):
            done = judged(new, looks[name][1], embedder=self.embedder, nouns=self.nouns)
            self.gaps[name] = replace(done, before=old)
            self.state["classes"].setdefault(name, {})
            shown = ("gap", "ratio", "floor_p95", "effect", "closed", "confirmed")
            verdict = {key: getattr(done, key) for key in shown}
            self.state["classes"][name] |= verdict
            self.reporter.event("class", cls=name, **verdict)
            part, trials, atoms = self.looked[name]
            last = self.state["looks"].get(name, {})
            self.state["looks"][name] = {
                "part": part,
                "trials": trials,
                "atoms": atoms,
                "confirmed": bool(done.confirmed),
                "gap": done.gap,
                "tagged": last.get("part") == part and last["tagged"],
            }
        seen = {n: a.real.parts[: self._next_part(n)] for n, (_, a) in looks.items()}
        note_looked(self.rundir, seen)
        # Of a class that could not be looked at this time, what an earlier look kept stays.
        kept = self.rundir.read_json("mixtures.json") if self.rundir.has("mixtures.json") else {}
        mixtures = kept.get("classes", {}) | {
            n: a.mixture.to_json() for n, (_, a) in looks.items()
        }
        ordered = {name: mixtures[name] for name in self.searches if name in mixtures}
        if before != {
            n: (look["part"], look["trials"]) for n, look in self.state["looks"].items()
        }:
            self.rundir.remove("gap.json")  # its verdicts are of other looks
        if plain(ordered) != kept.get("classes"):
            self.rundir.write_json("mixtures.json", {"schema": 1, "classes": ordered})
        self._save_state()

    def _reopen(self) -> None:
        """Begin a round: with what no look has seen yet, and the worst of what did not hold."""
        looks = self.state["looks"]
        self.due = {name for name in self.searches if name not in looks or self._afoot(name)}
        for name in [n for n in self.state["mendable"] if n in self.due]:
            if self.budget.left > self._reserve():
                self._mend(name)
        held = [name for name in looks if self._may_go_on(name)]
        for name in reopen_candidates(
            [self._standing(name) for name in held],
            [self._standing(name) for name in self.due if self._drawn(name)],
            left=self.budget.left,
            reserve=self._reserve_for,
        ):
            self.due.add(name)
            search = self.searches[name]
            if name in self.state["mendable"]:
                self._mend(name)
            if not _untried(search, search.evidence):  # such a class was never closed
                search.reopen(unseen_gap=looks[name].get("gap", 0.0))
                # A resumed run must take up the class again at this very trial.
                told = {"at": search.number, "gap": search.unseen_gap}
                self.state["reopened"].setdefault(name, []).append(told)
        self.halfway = (self.budget.left + self._reserve()) / 2
        self._save_state()

    def _afoot(self, name: str) -> bool:
        """Whether a class has gone on since its last look, or was told to and still can."""
        look, search = self.state["looks"][name], self.searches[name]
        if self._rests(name):
            return False
        if look["atoms"] != search.evidence:
            return True
        if search.stopped() or self.budget.spent(search):
            return False  # a look would see nothing new, and no time is to be kept back for it
        told = self.state["reopened"].get(name, [])
        begun = search.number > look["trials"] or any(t["at"] >= look["trials"] for t in told)
        return begun or search.pending

    def _may_go_on(self, name: str) -> bool:
        """Whether a class that did not hold, and is not due, can be searched on in."""
        search = self.searches[name]
        if name in self.due or self._rests(name):
            return False
        if self.budget.spent(search):
            return False
        if search.failures >= FAILURES:
            return name in self.state["mendable"]
        return not _untried(search, search.evidence) or search.stopped() is None

    # Closing

    def _close(self) -> None:
        if not (self.looks or self.searching):
            # An empty page would stand for a finished one.
            why = "; ".join(f"{name}: {why}" for name, why in self.failed.items())
            raise ConfigError(f"{self.rundir.path}: {why}; mend that and start it again")
        self._stage("report")
        from gapclose.loop.work.embedding_map import write_map  # umap takes seconds to import

        clusters, members = clusters_of(
            self.looks,
            embedder=self.embedder,
            groups=self.groups,
            nouns=self.nouns,
            seed=self.config.tune.seed,
        )
        if self.looks or not self.kept:
            self.rundir.write_json("gap.json", self._gap_json(clusters))
        rows, embeddings = shown_samples(self.rundir, self.looks, members, self.nouns)
        if rows:  # no class could be looked at: the report says why
            write_map(
                self.rundir,
                rows,
                np.stack(embeddings),
                embedder=self.embedder,
                nouns=self.nouns,
                seed=self.config.tune.seed,
            )
        if self.searching:
            self.state["stopped_because"] = self._stopped_because()
            self._save_state()
        from gapclose.loop.report.page import write_report

        page = write_report(self.rundir.path)
        if self.searching:
            self.state["stage"] = "done"
        self._save_state()
        if self.tune_seconds["all"] > 1.0:  # of less it says nothing
            share = self.tune_seconds["loop"] / self.tune_seconds["all"]
            self.reporter.event(
                "cost",
                message=f"{100 * share:.1f} % of the tuning was neither generating nor embedding",
            )
        self.reporter.event("done", message=str(page))

    def _gap_json(self, clusters: list[dict[str, Any]]) -> dict[str, Any]:
        afters = [after for _, after in self.looks.values()]
        confounds, stored = storage_of(afters, self.embedder, self.config)
        rows = {
            name: replace(gap, stored=stored.get(name)).to_json()
            | {"optimism": self._optimism(gap)}
            | self._where_the_weight_lies(name)
            for name, gap in self.gaps.items()
        }
        # What could not be looked at once more this time keeps its verdict.
        rows = {name: row for name, row in self.kept.items() if name in self.failed} | rows
        return {
            "schema": 1,
            "embedder": self.config.embedder,
            "judge": self.config.judge,
            "confounds": confounds,
            "equalized": False,
            "camera": (self.state["camera"] or {}).get("camera"),
            "classes": sorted(rows.values(), key=size, reverse=True),
            "clusters": clusters,
            **left_out([self.side], relative=self.rundir.relative),
            "skipped": [
                {
                    "class": name,
                    "why": self._stopped(name) if search.number else "no image of it was made",
                }
                for name, search in self.searches.items()
                if name not in rows
            ],
            "stopped": {name: self._stopped(name) for name in self.searches},
            "seconds": self._seconds(),
        }

    def _where_the_weight_lies(self, name: str) -> dict[str, Any]:
        mixture, search = self.looks[name][1].mixture, self.searches[name]
        return {
            "shares": shares_of(mixture.recipes, mixture.weights, search.space),
            "importances": importances(search.space, search.history()),
        }

    def _optimism(self, gap: ClassGap) -> float:
        """By how many floors the search thought its mixture better than unseen photos show it."""
        thought = self.looks[gap.name][1].mixture.gap_tune
        return (gap.gap - thought) / max(gap.floor_p95, 1e-9)

    def _stopped(self, name: str) -> str:
        """Why a class got no more trials."""
        search = self.searches[name]
        if name in self.failed:
            return self.failed[name]
        if name in self.looks:
            kept, thought = self.looks[name][1].mixture.recipes, search.mixture().recipes
            if kept != thought and kept in ((search.plain,), (search.space.baseline,)):
                return "no mixture did better on unseen photos: the baseline is kept"
        if search.failures >= FAILURES:
            rows = [row for row in self.rundir.trials() if row["class"] == name]
            return f"{search.stopped()}, of which the last: {rows[-1]['error']}"
        look = self.state["looks"].get(name)
        # Closed for the search alone is no reason to end: what kept it from going on is.
        held = look is None or look["confirmed"]
        if (why := search.stopped()) and (held or not why.startswith("closed")):
            return why
        if look is not None and look["confirmed"]:
            return "confirmed"
        if self.budget.spent(search):
            return LIMIT_REACHED
        if not self._parts_left(name) and not self.state["looks"][name]["confirmed"]:
            return self._no_part(name)
        if not self.searching and "stopped_because" not in self.state:
            return "interrupted; gapclose tune goes on"
        return TOO_LITTLE_TIME if self.state["spare"] else OUT_OF_BUDGET

    def _stopped_because(self) -> str:
        """Why the run ended, in a few words."""
        confirmed = {name for name, gap in self.gaps.items() if gap.confirmed}
        if confirmed == {*self.searches}:
            return "every class is closed and confirmed"
        return in_short({n: self._stopped(n) for n in self.searches if n not in confirmed})

    def _seconds(self) -> dict[str, float]:
        generate, embed = self.synthesis.generate_seconds, self.synthesis.embed_seconds
        return {
            "generate": generate,
            "embed": embed,
            "trials": float(sum(row["seconds"] for row in self.rundir.trials())),
            "tune": self.tune_seconds["all"],  # of this session, as the next
            "loop": self.tune_seconds["loop"],  # of it neither generating nor embedding
            "all": self.budget.used,
        }

    # Saying

    def _stage(self, name: str) -> None:
        if name == self.stage:
            return
        self.stage = name
        if self.searching:
            self.state["stage"] = name
            self._save_state()
        self.reporter.event("stage", name=name)

    def _log_error(self, what: str, error: Exception) -> None:
        """One line on the terminal; how it came about, in RUN/errors.log."""
        log.error("%s: %s", what, error)
        self.rundir.append_error(f"{what}\n{traceback.format_exc()}")

    def _say(self, name: str, row: dict[str, Any]) -> None:
        search = self.searches[name]
        now = {
            "gap": search.gap,
            "ratio": search.gap / search.floor,
            "floor_p95": search.floor,
            "trials": search.number,
            "images": search.images,
        }
        self.state["classes"][name] = self.state["classes"].get(name, {}) | now
        self._save_state()
        self.reporter.event("trial", cls=name, number=row["number"], stage=row["stage"], **now)
        self._say_time()

    def _say_time(self) -> None:
        self.reporter.event(
            "budget", seconds_used=self.budget.used, budget_seconds=self.budget.limits.budget
        )

    def _save_state(self) -> None:
        used = self.budget.used if self.searching else self.budget.used_before
        self.state |= {
            "seconds_used": used,  # a report takes nothing from a night
            "budget_seconds": self.budget.limits.budget,
            "images": self.images_before + self.synthesis.generated,
        }
        self.rundir.write_json("state.json", self.state)


def _untried(search: ClassSearch, atoms: int) -> bool:
    """Whether with so much evidence it had nothing but the baseline, time having run out.

    The baseline is then confirmed by the images of trial 0, which nothing was chosen by, and
    costs no more images. One that closed from the start was chosen by them.
    """
    return atoms <= 1 and search.baseline_gap > search.baseline_floor


def _evidence(cls: str, number: int) -> str:
    return f"{cls}-{number:05d}"


@contextmanager
def _interruptible(tuning: _Tuning) -> Iterator[None]:
    """Ctrl-C lets the trial under way finish; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        if tuning.interrupted:
            raise KeyboardInterrupt
        tuning.interrupted = True
        tuning.reporter.event("warning", message="finishing what is under way; again to stop now")

    old: Callable[..., Any] | int | None = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
