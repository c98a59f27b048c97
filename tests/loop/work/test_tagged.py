from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import modes
import numpy as np
import pytest
from histories import class_state, evaluation, limits, run_state
from make_run import make_run
from safetensors.numpy import save_file

from gapclose.analysis.kernel import Kernel
from gapclose.loop.run.class_state import FAILURES, ClassState
from gapclose.loop.run.events import PromptsPrioritized
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import TagAnswer
from gapclose.loop.run.state import Round, apply
from gapclose.loop.run.tags import GAP, write_tags
from gapclose.loop.schedule.view import View
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.feedback import Selection, feedback_prompts
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.tagged import prioritize, selections


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two classes with images of every side, whose embeddings are their rows' numbers."""
    run = make_run(tmp_path / "run", classes=("frog", "ship"), per_class=6)
    numbered = np.arange(len(run.samples()), dtype=np.float32)[:, None]
    save_file({"embeddings": numbered}, run.embeddings_path("samples"))
    return run


@pytest.fixture
def real() -> dict[str, ClassReference]:
    fold = Fold(paths=(), photos=(), rows=np.full((3, 1), -1.0, dtype=np.float32))
    kernel = Kernel.fit(np.eye(3, dtype=np.float32))
    return {
        name: ClassReference(name=name, tune=fold, folds=(fold,), kernel=kernel)
        for name in ("frog", "ship")
    }


def rows_where(run: RunDir, **wanted: str) -> list[int]:
    return [
        i
        for i, row in enumerate(run.samples())
        if all(row[key] == value for key, value in wanted.items())
    ]


def test_real_images_that_are_tagged_are_what_is_missing(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    tagged = rows_where(run, **{"class": "frog"}, side="real")[:2]
    write_tags(run, {run.samples()[i]["path"]: [GAP] for i in tagged})
    (selection,) = selections(run, real)
    assert (selection.cls, selection.images) == ("frog", 2)
    assert selection.wanted[:, 0].tolist() == tagged
    assert selection.unwanted[:, 0].tolist() == rows_where(run, **{"class": "frog"}, stage="tuned")


def test_of_an_audit_the_baselines_images_are_those_it_makes(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    audited = [row for row in run.samples() if row["stage"] != "tuned"]
    run.write_samples(audited)
    rows = np.arange(2 * len(audited), dtype=np.float32).reshape(-1, 2)
    save_file({"embeddings": rows}, run.embeddings_path("samples"))
    tagged = rows_where(run, **{"class": "frog"}, side="real")[:2]
    assert [audited[i]["split"] for i in tagged] == ["tune", "confirm"]
    write_tags(run, {audited[i]["path"]: [GAP] for i in tagged})
    (selection,) = selections(run, real)
    assert selection.images == 2
    # What is to confirm the class does not choose what is tried.
    assert np.array_equal(selection.wanted, rows[tagged[:1]])
    made = rows_where(run, **{"class": "frog"}, stage="baseline")
    assert made
    assert np.array_equal(selection.unwanted, rows[made])


def test_synthetic_images_that_are_tagged_are_too_many(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    tagged = rows_where(run, **{"class": "ship"}, side="synthetic")[:3]
    write_tags(run, {run.samples()[i]["path"]: [GAP] for i in tagged})
    (selection,) = selections(run, real)
    assert selection.cls == "ship"
    assert selection.unwanted[:, 0].tolist() == tagged
    assert np.array_equal(selection.wanted, real["ship"].tune.rows)


def test_nothing_is_selected_where_nothing_is_tagged_or_shown(
    run: RunDir, real: dict[str, ClassReference]
) -> None:
    assert list(selections(run, real)) == []
    write_tags(run, {run.samples()[0]["path"]: [GAP]})
    save_file({"embeddings": np.zeros((1, 1), np.float32)}, run.embeddings_path("samples"))
    assert list(selections(run, real)) == []  # of another set of samples
    run.embeddings_path("samples").unlink()
    assert list(selections(run, real)) == []


# ---------------------------------------------------------------------- what comes of a selection

RNG = np.random.default_rng(0)
REAL = modes.mixed({"brown": 0.6, "red": 0.4}, 60, RNG)
MORE_RED = Selection(
    cls="frog",
    images=40,
    wanted=modes.mixed({"brown": 0.5, "red": 0.5}, 40, RNG),
    unwanted=modes.mixed({"brown": 1.0}, 40, RNG),
)


def searched() -> ClassSearch:
    """A search that has its baseline and has tried nothing else."""
    search = modes.make_search(REAL)
    proposal = modes.propose(search, settings_trials=4)
    search.absorb(proposal, modes.generate(proposal))
    return search


def prompts_of(selection: Selection) -> tuple[dict[str, str], ...]:
    search = searched()
    return tuple(feedback_prompts(search.space, search.prior, modes.Reader(), selection))


RED = prompts_of(MORE_RED)


def view_of(
    frog: ClassState,
    *,
    folds: int = 3,
    used: float = 0.0,
    ship: ClassState | None = None,
    due: frozenset[str] = frozenset(),
    **tune: Any,
) -> View:
    classes: Mapping[str, ClassState] = {"frog": frog, "ship": ship or class_state()}
    state = run_state(classes, round=Round(due=due, halfway=None))
    return View(state, limits(classes, folds=folds, **tune), used)


def asked(
    view: View, *, search: ClassSearch | None = None, selection: Selection = MORE_RED
) -> tuple[TagAnswer, PromptsPrioritized | None]:
    return prioritize(selection, view, search or searched(), modes.Reader())


def test_what_is_tagged_names_prompts_that_come_first() -> None:
    assert [words["color"] for words in RED] == ["red"]
    search = searched()
    answer, event = asked(view_of(class_state()), search=search)
    assert answer is TagAnswer.FIRST
    assert event == PromptsPrioritized(cls="frog", prompts=RED, reset=False)
    # It decides; who appends the event has the search follow it.
    assert not search.pending
    assert search.state.prompts.prioritized == ()


def test_the_same_tags_once_more_change_nothing() -> None:
    view = view_of(class_state())
    _, event = asked(view)
    assert event is not None
    state = apply(view.state, event)
    assert asked(View(state, view.limits, 0.0)) == (TagAnswer.FIRST, None)
    tried = view_of(class_state(prioritized=RED, pending=False))
    assert asked(tried) == (TagAnswer.TRIED, None)
    # That is told before anything that keeps new ones from coming first.
    stuck = class_state(prioritized=RED, pending=True, failures=FAILURES)
    assert asked(view_of(stuck)) == (TagAnswer.FIRST, None)
    # Other prompts are new ones.
    other = class_state(prioritized=({"color": "blue"},), pending=False)
    assert asked(view_of(other))[0] is TagAnswer.FIRST
    assert asked(view_of(other))[1] is not None


def test_a_class_that_failures_have_stopped_stays_so_unless_it_may_be_tried_again() -> None:
    assert asked(view_of(class_state(failures=FAILURES))) == (TagAnswer.FAILED, None)
    assert asked(view_of(class_state(failures=FAILURES - 1)))[0] is TagAnswer.FIRST
    for failures, reset in ((FAILURES, True), (FAILURES - 1, False), (0, False)):
        answer, event = asked(view_of(class_state(failures=failures, retryable=True)))
        assert answer is TagAnswer.FIRST
        assert event is not None
        assert event.reset is reset


@pytest.mark.parametrize(
    ("folds", "seen", "answer"),
    [
        (1, {"fold": 0}, TagAnswer.NO_PHOTOS_LEFT),
        (2, {"fold": 1}, TagAnswer.NO_PHOTOS_LEFT),
        (3, {"fold": 2}, TagAnswer.NO_FOLDS_LEFT),
        # A mere baseline spends no fold, but a person has seen its photos.
        (1, {"fold": 0, "spends": False}, TagAnswer.ONLY_SEEN_LEFT),
        (3, {"fold": 2, "spends": False}, TagAnswer.ONLY_SEEN_LEFT),
        (1, {"fold": 0, "spends": False, "tagged": True}, TagAnswer.NO_PHOTOS_LEFT),
        (2, {"fold": 0}, TagAnswer.FIRST),
        (2, {"fold": 0, "spends": False}, TagAnswer.FIRST),
        (3, {"fold": 1}, TagAnswer.FIRST),
    ],
)
def test_there_must_be_photos_that_nobody_has_seen_to_confirm_it_with(
    folds: int, seen: dict[str, Any], answer: TagAnswer
) -> None:
    told, event = asked(view_of(class_state(evaluation=evaluation(**seen)), folds=folds))
    assert told is answer
    assert (event is not None) == (answer is TagAnswer.FIRST)


def test_there_must_be_trials_images_and_time_left() -> None:
    assert asked(view_of(class_state(trials=9), trials=9)) == (TagAnswer.OUT_OF_BUDGET, None)
    assert asked(view_of(class_state(trials=8), trials=9))[0] is TagAnswer.FIRST
    assert asked(view_of(class_state(images=200), images=200)) == (TagAnswer.OUT_OF_BUDGET, None)
    assert asked(view_of(class_state(images=199), images=200))[0] is TagAnswer.FIRST
    budget = 10_000.0

    def at(left: float, **facts: Any) -> TagAnswer:
        view = view_of(class_state(), budget=budget, used=budget - left, **facts)
        return asked(view)[0]

    # What is kept back is for the class itself, too, though it was not due.
    view = view_of(class_state(), budget=budget)
    reserve = view.reserve(view.standings(["frog"]))
    assert reserve > view.reserve()
    assert at(reserve - 0.1) is TagAnswer.OUT_OF_BUDGET
    assert at(reserve + 0.1) is TagAnswer.FIRST
    # ... and for those that are due besides.
    assert at(reserve + 0.1, due=frozenset({"ship"})) is TagAnswer.OUT_OF_BUDGET


def test_a_word_must_set_them_apart_that_was_not_tried() -> None:
    alike = Selection(cls="frog", images=9, wanted=MORE_RED.wanted, unwanted=MORE_RED.wanted)
    assert prompts_of(alike) == ()
    assert asked(view_of(class_state()), selection=alike) == (TagAnswer.NO_WORD, None)
    search = searched()
    search.prioritize(RED)
    proposal = modes.propose(search, settings_trials=4)
    assert modes.word_of(proposal.jobs[0][0]) == "red"
    # While it is under way it may still fail, and would come first again.
    assert asked(view_of(class_state()), search=search)[0] is TagAnswer.FIRST
    search.absorb(proposal, modes.generate(proposal))
    assert asked(view_of(class_state()), search=search) == (TagAnswer.NO_WORD, None)
    # Nothing that names no word is taken for the prompts of before.
    none_before = class_state(prioritized=())
    assert asked(view_of(none_before), selection=alike) == (TagAnswer.NO_WORD, None)


def test_without_a_text_side_no_word_sets_them_apart() -> None:
    told = prioritize(MORE_RED, view_of(class_state()), searched(), modes.Blind())
    assert told == (TagAnswer.NO_WORD, None)
