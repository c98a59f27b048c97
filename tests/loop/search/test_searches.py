"""Searches that follow a run as it goes, and searches that are brought there by its journal."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import modes
import numpy as np
import pytest
from histories import as_read, opened, stopped
from numpy.typing import NDArray

from gapclose.generators.recipe import Camera
from gapclose.loop.run.class_state import FAILURES
from gapclose.loop.run.events import (
    CameraChosen,
    Event,
    Job,
    MixturesGiven,
    PromptsPrioritized,
    RoundStarted,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.run.state import fold
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.recording import Recording
from gapclose.loop.search.score import Score
from gapclose.loop.search.searches import Jobs, Searches, proposal_of
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Images, Proposal

TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}
CLASSES = ("frog", "toad")
CAMERA = Camera(noise=0.05)


@dataclass
class Told:
    """A run that is told and kept: its journal, its evidence and its searches."""

    space: Space
    seed: int = 0
    prior: dict[str, float] | None = None
    truth: dict[str, float] = field(default_factory=lambda: TRUTH)
    photos: int = 100
    events: list[Event] = field(default_factory=list)
    trials: dict[tuple[str, int], Images] = field(default_factory=dict)
    cameras: dict[str, Images] = field(default_factory=dict)
    kept: dict[tuple[str, int], Recording] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)  # classes whose camera's images were asked for
    live: Searches = field(init=False)

    def __post_init__(self) -> None:
        self.live = self.begin()

    def begin(self) -> Searches:
        def camera_images(_: CameraChosen, cls: str, __: Jobs) -> Images:
            self.read.append(cls)
            return self.cameras[cls]

        rngs = [np.random.default_rng([self.seed, number]) for number in range(len(CLASSES))]
        return Searches(
            {
                name: modes.make_search(
                    modes.mixed(self.truth, self.photos, rng),
                    space=self.space,
                    images_per_trial=8,
                    prior=self.prior,
                    seed=self.seed,
                )
                for name, rng in zip(CLASSES, rngs, strict=True)
            },
            trial_images=lambda event, _: self.trials[event.cls, event.number],
            camera_images=camera_images,
            keep_recording=self.keep_recording,
        )

    def keep_recording(self, cls: str, number: int, images: Images, recording: Recording) -> None:
        assert images is self.trials[cls, number]
        self.kept[cls, number] = recording

    def resumed(self) -> Searches:
        again = self.begin()
        again.replay(iter(self.events))
        return again

    def append(self, event: Event) -> None:
        event = as_read(event)
        self.events.append(event)
        self.live.apply(event)

    def trial(self, cls: str, *, fails: bool = False, invalid: float = 0.0) -> None:
        self.absorb(cls, self.propose(cls), fails=fails, invalid=invalid)

    def propose(self, cls: str) -> Proposal:
        made = self.live[cls].propose(Ask(settings_trials=4))
        jobs = tuple(Job(recipe=r.to_json(), seeds=seeds) for r, seeds in made.jobs)
        self.append(
            TrialProposed(
                cls=cls, number=made.number, stage=made.stage, params=made.params, jobs=jobs
            )
        )
        (*_, proposed) = self.events
        assert isinstance(proposed, TrialProposed)
        proposal = proposal_of(proposed)
        assert proposal == made
        return proposal

    def absorb(
        self, cls: str, made: Proposal, *, fails: bool = False, invalid: float = 0.0
    ) -> None:
        search = self.live[cls]
        images = modes.generate(made)
        rng = np.random.default_rng([made.number, 5])
        keep = np.flatnonzero(rng.random(len(images.seeds)) >= invalid)
        images = Images(
            embeddings=images.embeddings[keep],
            recipes=tuple(images.recipes[i] for i in keep),
            seeds=tuple(images.seeds[i] for i in keep),
        )
        count = sum(len(seeds) for _, seeds in made.jobs)
        shared: dict[str, Any] = {"cls": cls, "number": made.number, "seconds": 1.0}
        shared |= {"invalid": count - len(keep), "images": count}
        if fails or len(keep) < 2:
            search.absorb_failure(made)
            self.append(TrialFailed(**shared, error="no", progress=search.progress()))
            return
        search.absorb(made, images)
        self.trials[cls, made.number] = images
        self.append(
            TrialFinished(
                **shared, gap=0.1, value=0.1, mixture_gap=0.1, progress=search.progress()
            )
        )

    def choose_camera(self) -> None:
        progress = {}
        for name, search in self.live.items():
            jobs = search.drawn()
            rows, recipes, seeds = [np.zeros((0, modes.WIDTH), np.float32)], [], []
            for number, (recipe, wanted) in enumerate(jobs):
                # The camera moves what an image shows a little.
                noise = [np.random.default_rng([seed, 99]).normal(size=12) for seed in wanted]
                row = modes.placed(modes.word_of(recipe), np.stack(noise))
                row[:, -1] += 0.05
                rows.append(row / np.linalg.norm(row, axis=1, keepdims=True))
                recipes += [number] * len(wanted)
                seeds += wanted
            taken = Images(
                embeddings=np.concatenate(rows), recipes=tuple(recipes), seeds=tuple(seeds)
            )
            self.cameras[name] = taken
            search.change_camera(CAMERA, taken)
            progress[name] = search.progress()
        self.append(CameraChosen(camera=CAMERA.to_json(), turn="frog", progress=progress))


def told_of(search: ClassSearch) -> dict[str, Any]:
    """What a search knows, and what it would do next."""
    known: dict[str, Any] = {
        name: getattr(search, name) for name in ("number", "reopened", "imaged", "prior", "gains")
    }
    state = search.state
    known["given"] = repr(state.given)
    known |= {"prioritized": state.prompts.prioritized, "winner": state.settings.winner}
    known |= {"baseline_images": state.baseline_images, "balance": deepcopy(state.balance)}
    known |= {"progress": search.progress(), "stopped": modes.stopped(search)}
    if search.has_baseline:
        known["weights"] = search.weights.tobytes()
        known["mixture"] = search.mixture().to_json()
        known["drawn"] = search.drawn()
    # Of a copy: what is proposed is run, and so a mixture that is proposed is held from then on.
    known["next"] = deepcopy(search).propose(Ask(settings_trials=4))
    return known


def assert_same(one: Searches, other: Searches) -> None:
    assert [*one] == [*other]
    for name in one:
        assert told_of(one[name]) == told_of(other[name]), name


GIVEN = MixturesGiven(
    source="another run",
    mixtures={
        "frog": (
            {"weight": 0.5, "prompt": "a brown frog", "guidance_scale": 5.0},
            {"weight": 0.3, "prompt": "a gray frog", "guidance_scale": 5.5},
            {"weight": 0.02, "prompt": "a red frog in the rain", "guidance_scale": 5.0},
        ),
        "newt": ({"weight": 1.0, "prompt": "a newt"},),
    },
)


def space_of(kind: str) -> Space:
    if kind != "words":
        return modes.make_space(guidance_scale=[1.0, 9.0])
    return modes.make_space()


def happen(told: Told, rng: np.random.Generator) -> str:
    """One thing that may happen to a run, as `decide` or a person would have it."""
    cls = str(rng.choice(CLASSES))
    search = told.live[cls]
    failures = fold(told.events).of(cls).failures
    if failures >= FAILURES:
        told.append(RoundStarted(due=CLASSES, reset=(cls,), reopened={cls: 0.2}))
        return "reset"
    if modes.stopped(search) is not None:
        told.append(RoundStarted(due=(cls,), reopened={cls: float(rng.random())}))
        return "reopened"
    dice = rng.random()
    if search.has_baseline and dice < 0.3:
        prompts = tuple(search.space.prompts()[int(rng.integers(5))] for _ in range(2))
        if search.holds_untried(prompts):  # else there is nothing to put first
            told.append(PromptsPrioritized(cls=cls, prompts=prompts, reset=dice < 0.1))
            return "prioritized"
    opened_all = all(search.state.opened for search in told.live.values())
    if opened_all and not told.cameras and dice < 0.6:
        told.choose_camera()
        return "camera"
    # What fails once fails again as a rule.
    fails = rng.random() < (0.7 if failures else 0.2)
    told.trial(cls, fails=fails, invalid=0.3 if dice > 0.9 else 0.0)
    return "failed" if isinstance(told.events[-1], TrialFailed) else "finished"


@pytest.mark.parametrize("kind", ["words", "settings", "given"])
@pytest.mark.parametrize("seed", range(3))
def test_the_journal_brings_searches_where_those_are_that_ran(kind: str, seed: int) -> None:
    told, rng = Told(space_of(kind), seed), np.random.default_rng([seed, 1])
    if kind == "given":
        told.append(GIVEN)
    wanted, seen = {"finished", "failed", "prioritized", "camera", "reset"}, set[str]()
    while len(told.events) < 90 or not wanted <= seen:
        seen.add(happen(told, rng))
        assert len(told.events) < 400, wanted - seen
        state = fold(told.events)
        for name, search in told.live.items():  # the state of the run says the same of them
            if state.of(name).failures < FAILURES:
                assert stopped(state.of(name)) == modes.stopped(search)
            assert state.of(name).reopened == search.reopened
            assert state.of(name).proposed == search.number
        if len(told.events) % 6 == 0:
            assert_same(told.resumed(), told.live)
    assert_same(told.resumed(), told.live)
    # Resumed, it goes on as it would have.
    again = told.resumed()
    told_too = replace(told, events=[*told.events], trials={**told.trials})
    told_too.live = again
    for _ in range(5):
        happen(told, np.random.default_rng(seed))
        happen(told_too, np.random.default_rng(seed))
        assert told_too.events == told.events
    assert_same(again, told.live)


def test_a_proposal_is_what_its_event_says() -> None:
    recipes = [modes.make_space().recipe({"color": word}) for word in modes.WORDS[:2]]
    jobs = ((recipes[0], (1, 2, 3)), (recipes[1], (7,)))
    params = {"guidance_scale": 0.1}
    event = TrialProposed(
        cls="frog",
        number=4,
        stage="mixture",
        params=params,
        jobs=tuple(Job(recipe=recipe.to_json(), seeds=seeds) for recipe, seeds in jobs),
    )
    proposal = Proposal(number=4, stage="mixture", params=params, jobs=jobs)
    assert proposal_of(event) == proposal_of(as_read(event)) == proposal


def test_a_small_baseline_closes_no_class_on_resume_either_and_its_own_images_are_read_back() -> (
    None
):
    told = Told(modes.make_space())
    told.live["frog"].size_baseline(24)
    told.trial("frog")
    told.trial("toad")
    small, whole = told.resumed().values()
    assert (small.state.baseline_images, whole.state.baseline_images) == (24, 100)
    assert small.baseline_floor == -np.inf < whole.baseline_floor
    assert_same(told.resumed(), told.live)


def test_settings_stay_chosen_when_photos_change_between_sessions() -> None:
    """Other photos order the prompts, and weigh the mixture, otherwise."""
    shares = (0.3, 0.3, 0.2, 0.1, 0.1)
    told = Told(space_of("settings"), prior=dict(zip(modes.WORDS, shares, strict=True)))
    while told.live["frog"].state.settings.winner is None:
        told.trial("frog")
        told.append(RoundStarted(due=("frog",), reopened={"frog": 0.25}))
    stages = [event.stage for event in told.events if isinstance(event, TrialProposed)]
    assert stages[:5] == ["baseline", *["joint"] * 4], "four prompts cover enough of the prior"
    chosen = told.live["frog"].state.settings
    shares = (0.31, 0.3, 0.25, 0.08, 0.06)  # three do
    others = dict(zip(modes.WORDS, shares, strict=True))
    truth = {"brown": 0.2, "gray": 0.3, "plain": 0.5}
    changed = replace(told, prior=others, truth=truth, photos=120)
    for upto in range(len(told.events) + 1):
        replayed = replace(changed, events=told.events[:upto]).resumed()["frog"].state.settings
        progress = fold(told.events[:upto]).of("frog").progress
        if upto and isinstance(told.events[upto - 1], TrialFinished):
            assert replayed.winner == progress.winner
    assert replayed.winner == chosen.winner != chosen.reference
    assert replayed.jobs() == chosen.jobs()
    assert len(replayed.scores(*_mixture_of(told))[0]) == 1 + stages.count("settings")


def _mixture_of(told: Told) -> tuple[Score, NDArray[np.float64]]:
    search = told.live["frog"]
    return search.bank, search.weights


def test_a_trial_that_was_proposed_and_not_finished_has_taught_nothing() -> None:
    told = Told(modes.make_space())
    for _ in range(3):
        told.trial("frog")
    before = told.resumed()
    modes.propose(before["frog"], settings_trials=4)
    told.trial("frog")
    told.events.pop()
    assert isinstance(told.events[-1], TrialProposed)
    assert_same(told.resumed(), before)
    # A session later it is run after all, without being proposed again.
    told.events.append(SessionStarted(classes=CLASSES))
    assert_same(told.resumed(), before)


def test_trials_of_one_class_teach_no_other() -> None:
    told = Told(modes.make_space())
    fresh = told_of(told.live["toad"])
    told.trial("frog")
    told.trial("frog", fails=True)
    assert told_of(told.live["toad"]) == fresh
    assert told_of(told.resumed()["toad"]) == fresh
    assert told.live["frog"].number == 2


def test_trials_may_be_proposed_in_two_classes_before_one_is_finished() -> None:
    told = Told(modes.make_space())
    for cls in ("frog", "frog", "toad"):  # a prompt of one, the baseline of the other
        told.trial(cls)
    (*before, frog, frogs, toad, toads) = told.events
    told.events = [*before, frog, toad, frogs, toads]
    assert_same(told.resumed(), told.live)


@pytest.mark.parametrize("kind", ["words", "settings"])
def test_several_trials_of_a_class_may_be_proposed_before_one_is_finished(kind: str) -> None:
    told, rng = Told(space_of(kind)), np.random.default_rng(0)
    told.trial("frog")
    stages = set[str]()
    for _ in range(12):
        flying = [told.propose("frog") for _ in range(int(rng.integers(1, 5)))]
        assert_same(told.resumed(), told.live)
        for proposal in flying:
            told.absorb("frog", proposal, fails=rng.random() < 0.2)
            stages.add(proposal.stage)
            assert_same(told.resumed(), told.live)
        told.append(RoundStarted(due=("frog",), reopened={"frog": 0.25}))
    assert stages >= {"joint", "mixture"} | ({"settings"} if kind == "settings" else set())
    made = [event for event in told.events if isinstance(event, TrialProposed)]
    assert [event.number for event in made] == [*range(len(made))]
    # Settings are compared on the same images; else no seed is used twice.
    fresh = [s for e in made if e.stage != "settings" for job in e.jobs for s in job.seeds]
    assert len({*fresh}) == len(fresh)
    prompts = [repr(e.params) for e in made[1 : 1 + len(modes.WORDS)] if e.stage == "joint"]
    assert len({*prompts}) == len(prompts), "what is under way is not proposed again"


@pytest.mark.parametrize("kind", ["words", "settings"])
def test_resumed_after_any_line_it_goes_on_from_a_given_mixture_as_it_would_have(
    kind: str,
) -> None:
    told = Told(space_of(kind))
    told.append(GIVEN)
    assert_same(told.resumed(), told.live)
    while told.live["frog"].number < 12:
        told.trial("frog", invalid=0.1)
        assert_same(told.resumed(), told.live)
        if modes.stopped(told.live["frog"]) is not None:
            told.append(RoundStarted(due=("frog",), reopened={"frog": 0.25}))
    stages = [event.stage for event in told.events if isinstance(event, TrialProposed)]
    tried = stages.count("given")
    assert stages[: tried + 2] == ["baseline", *["given"] * tried, "mixture"]
    assert 1 <= tried <= 4
    assert "settings" not in stages


def test_a_given_mixture_is_that_of_its_class_and_teaches_no_other() -> None:
    told = Told(modes.make_space())
    fresh = told_of(told.live["toad"])
    told.append(GIVEN)
    assert told_of(told.live["toad"]) == fresh
    given = told.live["frog"].state.given
    assert given is not None
    assert given.mixture.weights == pytest.approx((0.5 / 0.82, 0.3 / 0.82, 0.02 / 0.82))


def test_until_the_run_chooses_all_classes_have_the_camera_that_was_given() -> None:
    space = modes.make_space(camera={"noise": [0.0, 0.1]})
    told = Told(space)
    frog, red = GIVEN.mixtures["frog"][:2]
    camera = {"noise": 0.07}
    rows = tuple(row | {"camera": camera} for row in (frog, red))
    told.append(GIVEN.model_copy(update={"mixtures": {"frog": rows}}))
    assert {search.space.camera for search in told.live.values()} == {Camera(noise=0.07)}
    told.trial("frog")
    assert told.live["frog"].drawn()[0][0] == space.baseline, "the baseline is as it ever was"
    told.trial("frog")
    (*_, (recipe, _)) = told.live["frog"].drawn()
    assert recipe.camera == Camera(noise=0.07)
    told.choose_camera()
    given = told.live["frog"].state.given
    assert given is not None
    assert {recipe.camera for recipe in given.mixture.recipes} == {CAMERA}
    assert_same(told.resumed(), told.live)


def test_a_camera_is_applied_once_and_its_images_read_only_by_whoever_resumes() -> None:
    told = Told(modes.make_space())
    for _ in range(3):
        told.trial("frog")
    told.choose_camera()
    assert told.read == []
    told.live.apply(told.events[-1])
    assert told.read == []
    again = told.resumed()
    assert told.read == [*CLASSES]
    assert all(search.space.camera == CAMERA for search in again.values())
    assert_same(again, told.live)


def test_a_class_that_joins_after_the_camera_was_chosen_takes_it_over() -> None:
    """Its photos came between two sessions: there is no image of it under any camera."""
    told = Told(modes.make_space())
    told.trial("frog")
    told.choose_camera()
    event = told.events[-1]
    assert isinstance(event, CameraChosen)
    frog = {"frog": event.progress["frog"]}
    told.events[-1] = event.model_copy(update={"progress": frog})
    del told.cameras["toad"]
    resumed = told.resumed()
    assert told.read == ["frog"]
    for search in resumed.values():
        assert (search.imaged, search.space.camera) == (True, CAMERA)
    assert_same(resumed, told.live)


def test_what_concerns_no_search_changes_none() -> None:
    told = Told(modes.make_space())
    told.trial("frog")
    before = {name: told_of(search) for name, search in told.live.items()}
    for event in (
        *told.events[1:],  # whoever ran a trial has had it absorbed
        SessionStarted(classes=CLASSES),
        RoundStarted(due=CLASSES),
        opened("frog"),
    ):
        told.live.apply(event)
    assert {name: told_of(search) for name, search in told.live.items()} == before


def test_a_round_resets_before_it_reopens() -> None:
    told = Told(modes.make_space())
    told.trial("frog")
    for _ in range(FAILURES):
        told.trial("frog", fails=True)
    frog = told.live["frog"]
    assert not frog.reopened
    told.append(RoundStarted(due=("frog",), reopened={"frog": 0.25}, reset=("frog",)))
    assert frog.reopened
    assert not told.live["toad"].reopened
    assert_same(told.resumed(), told.live)


def test_prompts_come_first_and_reopen_their_class() -> None:
    told = Told(modes.make_space())
    told.trial("frog")
    told.append(RoundStarted(due=("frog",), reopened={"frog": 0.25}))
    blue = ({"color": "blue", "noun": "frog", "prompt": "a {color} frog"},)
    told.append(PromptsPrioritized(cls="frog", prompts=blue))
    frog = told.live["frog"]
    assert (frog.state.prompts.prioritized, frog.pending) == (blue, True)
    told.trial("frog")
    proposed = told.events[-2]
    assert isinstance(proposed, TrialProposed)
    assert proposed.params["color"] == "blue"
    assert not frog.pending
    assert_same(told.resumed(), told.live)


def test_they_are_a_mapping_in_the_runs_order() -> None:
    live = Told(modes.make_space()).live
    assert [*live] == [*live.keys()] == [*CLASSES]
    assert len(live) == 2
    assert live["toad"] is dict(live.items())["toad"]
    with pytest.raises(KeyError):
        live["cat"]


def test_what_is_computed_anew_for_a_trial_is_kept_for_the_next_time() -> None:
    told = Told(modes.make_space())
    for _ in range(4):
        told.trial("frog")
    told.resumed()
    assert [*told.kept] == [("frog", number) for number in range(4)]
    assert len({recording.basis for recording in told.kept.values()}) == 1
    assert all(len(recording.numbers) > 1 for recording in told.kept.values())
