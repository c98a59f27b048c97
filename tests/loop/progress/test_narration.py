"""What a person reads of a run, line by line."""

from __future__ import annotations

import pytest
from histories import (
    CAMERA,
    evaluated,
    every_kind,
    every_notice,
    failed,
    opened,
    progress,
    row,
    run_state,
    tried,
    verdict,
)

from gapclose.loop.progress.narration import narrate, task_words
from gapclose.loop.progress.under_way import Reported
from gapclose.loop.run.events import (
    CameraChosen,
    MixturesGiven,
    PhotosListed,
    PromptsPrioritized,
    PromptsProposed,
    RoundStarted,
    RunFinished,
    SessionStarted,
    Stopped,
    StopReason,
    TrialProposed,
    VerdictsReached,
)
from gapclose.loop.run.notices import (
    StillWorking,
    TagAnswer,
    TagsRead,
    Task,
    TaskStarted,
    WarningRaised,
)

STATE = run_state({}, names=("frog", *"abcdefg"), used=1000.0, budget=8 * 3600.0)
EMBEDDING = TaskStarted(task=Task.EMBEDDING, side="real")
TESTING = TaskStarted(task=Task.TESTING)
TRAINING = TaskStarted(task=Task.TRAINING, classifier="cnn")

LINES: list[tuple[Reported, list[str]]] = [
    (SessionStarted(classes=("frog",), budget=8 * 3600.0), ["tuning 1 class, 7:43:20 left"]),
    (SessionStarted(classes=("frog", "ship")), ["tuning 2 classes, no time limit"]),
    (
        PhotosListed(tune={"frog": ("a",) * 1200, "ship": ("b",)}),
        ["1,201 photos to search with, the others confirm"],
    ),
    (
        MixturesGiven(source="pond", mixtures={"frog": (), "newt": ()}),
        ["frog begins with the mixture of pond"],
    ),
    (
        MixturesGiven(source="pond", mixtures=dict.fromkeys("abcdefg", ())),
        ["a, b, c, d, e and 2 more begin with the mixtures of pond"],
    ),
    (MixturesGiven(source="pond", mixtures={}), []),
    (RoundStarted(due=tuple("abcdefg")), ["searching for a, b, c, d, e and 2 more"]),
    (
        RoundStarted(due=("frog",), reopened={"frog": 0.01234}),
        [
            "searching for frog",
            "frog: its last confirmation failed, gap 0.0123; the search goes on",
        ],
    ),
    (PromptsPrioritized(cls="frog", prompts=({},)), ["frog: 1 prompt comes first, as tagged"]),
    (
        CameraChosen(
            camera=CAMERA | {"kernel": "area", "jpeg_quality": None}, turn="frog", progress={}
        ),
        ["the camera for all classes: noise 0.03, saturation 0.333, kernel area"],
    ),
    (TrialProposed(cls="frog", number=3, stage="joint", params={}, jobs=()), []),
    (
        tried("frog", 3, gap=0.2134, progress=progress(gap=0.041, floor=0.01)),
        ["frog, trial 3: gap 0.2134; best mixture 0.0410, 4.1 floors; 7:43:20 left"],
    ),
    (
        tried("frog", 4, gap=None, progress=progress(gap=0.041, floor=0.01, since_gain=1)),
        [
            "frog, trial 4: gap not measured; best mixture 0.0410, 4.1 floors, no better for "
            "1 trial; 7:43:20 left"
        ],
    ),
    (
        tried("frog", 5, gap=0.1, progress=progress(gap=-0.001, floor=0.01, closed=True)),
        [
            "frog, trial 5: gap 0.1000; best mixture -0.0010, -0.1 floors, closed for the "
            "search; 7:43:20 left"
        ],
    ),
    (
        tried("frog", 6, gap=0.1, progress=progress(gap=0.041, floor=0.01), copied=(5, 7)),
        [
            "frog, trial 6: gap 0.1000; best mixture 0.0410, 4.1 floors; 2 images copy "
            "their photos; 7:43:20 left"
        ],
    ),
    (
        PromptsProposed(
            cls="frog", prompts=(), progress=progress(), seconds=1.0, error="ValueError: no\nkey"
        ),
        ["frog: the proposer failed, ValueError: no key; errors.log says where"],
    ),
    (
        PromptsProposed(cls="frog", prompts=(), progress=progress(), seconds=1.0),
        ["frog: nothing new was proposed"],
    ),
    (
        failed("frog", 3, error="GenerationError: no\nfrog"),
        ["frog, trial 3 failed: GenerationError: no frog; 7:43:20 left"],
    ),
    (opened("frog", 1, photos=("a", "b")), ["confirming frog on 2 unseen photos"]),
    (
        evaluated(
            "frog",
            before=row(gap=0.2, ratio=20.0).to_json(),
            after=row(gap=0.009, ratio=0.9).to_json(),
        ),
        [
            "frog, unseen photos: gap 0.0090, 0.9 floors; the baseline's 0.2000, 20.0 floors; "
            "7:43:20 left"
        ],
    ),
    (
        VerdictsReached(
            verdicts={
                "frog": verdict(gap=0.009, ratio=0.9, closed=True, confirmed=True),
                "ship": verdict(gap=0.5, ratio=5.0),
            }
        ),
        ["frog: confirmed, gap 0.0090, 0.9 floors", "ship: open, gap 0.5000, 5.0 floors"],
    ),
    (
        RunFinished(stopped={"frog": Stopped(reason=StopReason.CONFIRMED)}),
        ["the search has ended: frog: confirmed"],
    ),
    (EMBEDDING, ["embedding real photos"]),
    (EMBEDDING.advanced(0, 5_000), ["embedding real photos: 0 of 5,000"]),
    (
        EMBEDDING.advanced(2_000, 5_000).model_copy(update={"seconds": 27.0, "left": 41.0}),
        ["embedding real photos: 2,000 of 5,000, 0:41 left"],
    ),
    (
        EMBEDDING.advanced(5_000, 5_000).model_copy(update={"seconds": 68.0, "left": 0.0}),
        ["embedding real photos: 5,000 of 5,000 in 1:08"],
    ),
    (TESTING.advanced(3, 10), ["testing each class: 3 of 10 classes"]),
    (
        TRAINING.advanced(3, 84).model_copy(update={"seconds": 27.0, "left": 730.0}),
        ["training cnn: 3 of 84, 12:10 left"],
    ),
    (
        StillWorking(task=Task.REPORTING, seconds=20.0),
        ["still writing the report, 0:20 so far"],
    ),
    (
        StillWorking(task=Task.TRIAL, cls="frog", number=3, seconds=80.0),
        ["still at frog, trial 3, 1:20 so far"],
    ),
    (
        StillWorking(task=Task.EXPORTING, seconds=20.0, done=3, total=40),
        ["still exporting: 3 of 40, 0:20 so far"],
    ),
    (WarningRaised(message="slow"), ["warning: slow"]),
    (
        WarningRaised(message="overflow", source="RuntimeWarning"),
        ["warning: overflow (RuntimeWarning)"],
    ),
]


@pytest.mark.parametrize(("told", "lines"), LINES, ids=lambda case: getattr(case, "kind", None))
def test_what_is_told(told: Reported, lines: list[str]) -> None:
    assert narrate(told, STATE) == lines


@pytest.mark.parametrize("told", [*every_kind(), *every_notice()], ids=lambda told: told.kind)
def test_whatever_happens_can_be_told_in_whole_lines(told: Reported) -> None:
    for line in [*narrate(told), *narrate(told, STATE)]:
        assert line == " ".join(line.split())
        assert line
        assert "None" not in line


def test_without_a_budget_nothing_is_left_of_it() -> None:
    assert "left" not in narrate(tried(), run_state({}))[0]


def test_every_task_has_words_of_its_own() -> None:
    told = {
        task: task_words(TaskStarted(task=task, cls="frog", number=1, side="real", message="x"))
        for task in Task
    }
    assert len({*told.values()}) == len(Task)
    judged = TaskStarted(task=Task.EMBEDDING, side="synthetic", encoder="pond-judge")
    assert task_words(judged) == "embedding synthetic images with pond-judge"


def test_every_answer_to_tags_is_said_in_words_of_its_own() -> None:
    told = {
        answer: narrate(TagsRead(cls="frog", images=40, answer=answer))[0] for answer in TagAnswer
    }
    assert len({*told.values()}) == len(TagAnswer)
    assert all(text.startswith("frog: 40 images are tagged gap; ") for text in told.values())
    assert told[TagAnswer.FIRST].endswith("; its prompts come first")
    assert told[TagAnswer.NO_FOLDS_LEFT].endswith(
        "all 3 folds of unseen photos are spent: start a new run"
    )
    refused = {*TagAnswer} - {TagAnswer.FIRST, TagAnswer.TRIED}
    assert all("; but " in told[answer] for answer in refused)
