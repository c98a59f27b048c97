"""Narration: events and notices as lines that a person can read.

Logs are written from it, and what stands above the live table. Numbers are as in the tables: gaps
with four decimals, ratios in floors with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.unseen import one_line
from gapclose.loop.config.mixtures import is_mixtures_file
from gapclose.loop.progress.under_way import Reported
from gapclose.loop.report.spoken_time import countdown
from gapclose.loop.report.text import in_short, named, stopped_text, verdict
from gapclose.loop.run.events import (
    CameraChosen,
    ConfirmationFailed,
    FoldEvaluated,
    FoldOpened,
    MixturesGiven,
    PhotosListed,
    PromptsPrioritized,
    PromptsProposed,
    RecallsMeasured,
    RoundStarted,
    RunFinished,
    SessionStarted,
    TrialFailed,
    TrialFinished,
    VerdictsReached,
)
from gapclose.loop.run.notices import (
    BaselinesCut,
    DataExported,
    ImagesTooFew,
    InterruptNoted,
    OverheadMeasured,
    PhotosTooFew,
    ReportWritten,
    StillWorking,
    TagAnswer,
    TagsRead,
    Task,
    TaskAdvanced,
    TaskStarted,
    WarningRaised,
)
from gapclose.loop.run.state import RunState

__all__ = ["narrate", "task_words"]


WORST: Final = 5  # classes whose recall a line tells

_TASKS: Final = {
    Task.LOADING_PACKAGES: "loading packages",
    Task.READING_PHOTOS: "reading the photo folder",
    Task.COMPARING_FOLDERS: "comparing the two folders",
    Task.CHECKING: "checking encoders and generator",
    Task.RENDERING: "rendering the photos",
    Task.CAPTIONING: "captioning the photos",
    Task.FLOORS: "measuring the floor of each class",
    Task.REPLAYING: "reading back what the run has done",
    Task.PREPARING: "preparing what comes next",
    Task.CAMERA: "choosing the camera for all classes",
    Task.BASELINES: "generating baseline images",
    Task.STORAGE: "measuring the gap as stored",
    Task.TESTING: "testing each class",
    Task.RECALLS: "measuring what the images are worth to a classifier",
    Task.DIAGNOSING: "finding groups that stand apart, and the map",
    Task.REPORTING: "writing the report",
    Task.EXPORTING: "exporting",
    Task.TRAINING_IMAGES: "generating the images to train on",
    Task.LABELS: "generating images of all prompts, and reading their classes",
}
_OF_A_SIDE: Final = {
    Task.EMBEDDING: "embedding {images}{encoder}",
    Task.SPECTRA: "reading the power spectra of {images}",
    Task.REPEATS: "looking for repeats among {images}",
}
_COUNTED: Final = dict.fromkeys(
    (Task.REPEATS, Task.TESTING, Task.BASELINES, Task.LABELS), "classes"
)
_ANSWERS: Final = {
    TagAnswer.FIRST: "its prompts come first",
    TagAnswer.TRIED: "its prompts were tried",
    TagAnswer.FAILED: "but three failures in a row have stopped the class",
    TagAnswer.NO_PHOTOS_LEFT: (
        "but no photos are left to confirm it with: give more, or start a new run"
    ),
    TagAnswer.NO_FOLDS_LEFT: "but all 3 folds of unseen photos are spent: start a new run",
    TagAnswer.ONLY_SEEN_LEFT: (
        "but only photos that you have seen are left to confirm it with: give more"
    ),
    TagAnswer.OUT_OF_BUDGET: "but the budget is out: give it more",
    TagAnswer.NO_WORD: "but no word that was not tried yet sets them apart",
}


def narrate(reported: Reported, state: RunState | None = None) -> list[str]:
    """Put an event or a notice into lines; none where it says nothing to a person.

    Args:
        reported: The event or notice.
        state: Where the run stands after an event; the time left is taken from it.
    """
    return [one_line(" ".join(line.split())) for line in _lines(reported, state)]


def task_words(task: TaskStarted | TaskAdvanced | StillWorking) -> str:
    """Name a task, as in `embedding real photos`."""
    if task.task is Task.LOADING:
        return task.message or "loading"
    if task.task is Task.TRIAL:
        return f"{task.cls}, trial {task.number}"
    if task.task is Task.PROPOSING:
        return f"asking what {task.cls} lacks"
    if task.task is Task.CONFIRMING:
        return f"confirming {task.cls} on unseen photos"
    if task.task is Task.TRAINING:
        return f"training {task.classifier or 'classifiers'}"
    if form := _OF_A_SIDE.get(task.task):
        images = "synthetic images" if task.side == "synthetic" else "real photos"
        encoder = "" if task.encoder is None else f" with {task.encoder}"
        return form.format(images=images, encoder=encoder)
    return _TASKS[task.task]


@singledispatch
def _lines(reported: object, state: RunState | None) -> Iterator[str]:
    yield from ()


# ------------------------------------------------------------------------------------ the journal


@_lines.register
def _(event: SessionStarted, state: RunState | None) -> Iterator[str]:
    used = 0.0 if state is None else state.used
    again = "" if state is None or state.sessions <= 1 else f", session {state.sessions}"
    time = "no time limit" if event.budget is None else f"{countdown(event.budget - used)} left"
    yield f"tuning {_many(len(event.classes), 'class', 'classes')}{again}, {time}"


@_lines.register
def _(event: PhotosListed, state: RunState | None) -> Iterator[str]:
    photos = sum(map(len, event.tune.values()))
    yield f"{_many(photos, 'photo', 'photos')} to search with, the others confirm"


@_lines.register
def _(event: MixturesGiven, state: RunState | None) -> Iterator[str]:
    names = [*event.mixtures] if state is None else [n for n in state.names if n in event.mixtures]
    if len(names) == 1:
        yield f"{names[0]} begins with the mixture of {event.source}"
    elif names:
        yield f"{named(names)} begin with the mixtures of {event.source}"


@_lines.register
def _(event: RoundStarted, state: RunState | None) -> Iterator[str]:
    if event.due:
        yield f"searching for {named(event.due)}"
    for name, gap in event.reopened.items():
        yield f"{name}: its last confirmation failed, gap {gap:.4f}; the search goes on"


@_lines.register
def _(event: PromptsPrioritized, state: RunState | None) -> Iterator[str]:
    prompts = _many(len(event.prompts), "prompt comes", "prompts come")
    yield f"{event.cls}: {prompts} first, as tagged"


@_lines.register
def _(event: PromptsProposed, state: RunState | None) -> Iterator[str]:
    if event.error is not None:
        yield f"{event.cls}: the proposer failed, {event.error}; errors.log says where"
        return
    if not event.prompts:
        yield f"{event.cls}: nothing new was proposed"
        return
    prompts = _many(len(event.prompts), "prompt comes", "prompts come")
    yield f"{event.cls}: {prompts} first, as proposed: {event.prompts[0]['prompt']}"


@_lines.register
def _(event: CameraChosen, state: RunState | None) -> Iterator[str]:
    settings = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in event.camera.items()
        if value is not None
    ]
    yield f"the camera for all classes: {', '.join(settings) or 'none'}"


@_lines.register
def _(event: RecallsMeasured, state: RunState | None) -> Iterator[str]:
    if not event.recalls:
        yield "what the images are worth to a classifier could not be measured"
        return
    worst = sorted(event.recalls.items(), key=lambda item: -item[1].shortfall)
    told = [f"{name} {its.synthetic:.0%} ({its.real:.0%})" for name, its in worst[:WORST]]
    yield (
        "photos that a CNN tells right, trained on the images so far (on real photos): "
        f"{', '.join(told)}"
    )
    for name, first in event.prompts.items():
        if first:
            prompts = _many(len(first), "prompt comes", "prompts come")
            yield f"{name}: {prompts} first, for what is told wrong"


@_lines.register
def _(event: TrialFinished, state: RunState | None) -> Iterator[str]:
    progress = event.progress
    said = [f"{event.cls}, trial {event.number}: gap {_gap(event.gap)}"]
    if progress.gap is not None:
        ratio = progress.gap / progress.floor if progress.floor else None
        best = f"best mixture {_sized(progress.gap, ratio)}"
        if progress.closed:
            best += ", closed for the search"
        elif progress.since_gain:
            best += f", no better for {_many(progress.since_gain, 'trial', 'trials')}"
        said.append(best)
    if event.copied:
        said.append(_many(len(event.copied), "image copies its photo", "images copy their photos"))
    yield "; ".join([*said, *_left(state)])


@_lines.register
def _(event: TrialFailed, state: RunState | None) -> Iterator[str]:
    failed = f"{event.cls}, trial {event.number} failed: {event.error}"
    yield "; ".join([failed, *_left(state)])


@_lines.register
def _(event: FoldOpened, state: RunState | None) -> Iterator[str]:
    yield f"confirming {event.cls} on {_many(len(event.photos), 'unseen photo', 'unseen photos')}"


@_lines.register
def _(event: FoldEvaluated, state: RunState | None) -> Iterator[str]:
    before, after = (
        _sized(row.get("gap"), row.get("ratio")) for row in (event.before, event.after)
    )
    said = f"{event.cls}, unseen photos: gap {after}; the baseline's {before}"
    yield "; ".join([said, *_left(state)])


@_lines.register
def _(event: ConfirmationFailed, state: RunState | None) -> Iterator[str]:
    yield f"{event.cls} could not be confirmed: {event.error}"


@_lines.register
def _(event: VerdictsReached, state: RunState | None) -> Iterator[str]:
    for name, its in event.verdicts.items():
        word = verdict(its.model_dump(exclude={"fold", "q_value"}), tuned=True)
        yield f"{name}: {word}, gap {_sized(its.gap, its.ratio)}"


@_lines.register
def _(event: RunFinished, state: RunState | None) -> Iterator[str]:
    if event.stopped:
        why = in_short({name: stopped_text(its) for name, its in event.stopped.items()})
        yield f"the search has ended: {why}"


# -------------------------------------------------------------------------------------- notices


@_lines.register
def _(notice: TaskStarted, state: RunState | None) -> Iterator[str]:
    yield task_words(notice)


@_lines.register
def _(notice: TaskAdvanced, state: RunState | None) -> Iterator[str]:
    said = f"{task_words(notice)}: {_counted(notice.task, notice.done, notice.total)}"
    if notice.done >= notice.total:
        yield said if notice.seconds is None else f"{said} in {countdown(notice.seconds)}"
    else:
        yield said if notice.left is None else f"{said}, {countdown(notice.left)} left"


@_lines.register
def _(notice: StillWorking, state: RunState | None) -> Iterator[str]:
    said = f"still {'at ' if notice.task is Task.TRIAL else ''}{task_words(notice)}"
    if notice.done is not None and notice.total is not None:
        said += f": {_counted(notice.task, notice.done, notice.total)}"
    yield f"{said}, {countdown(notice.seconds)} so far"


@_lines.register
def _(notice: WarningRaised, state: RunState | None) -> Iterator[str]:
    source = "" if notice.source is None else f" ({notice.source})"
    yield f"warning: {notice.message}{source}"


@_lines.register
def _(notice: PhotosTooFew, state: RunState | None) -> Iterator[str]:
    yield (
        f"warning: {named(notice.classes)}: too few held-out images to declare a gap closed "
        f"(under {notice.least}); give about {notice.wanted} photos a class"
    )


@_lines.register
def _(notice: ImagesTooFew, state: RunState | None) -> Iterator[str]:
    yield f"warning: confirm.images: under {notice.least} images call no gap closed"


@_lines.register
def _(notice: BaselinesCut, state: RunState | None) -> Iterator[str]:
    yield (
        f"warning: at {notice.image_seconds:.2g} s an image there is no time for whole baselines: "
        f"some have fewer than {notice.whole} images, and the classes with the largest gaps come "
        "first; a larger budget leaves time for all"
    )


@_lines.register
def _(notice: TagsRead, state: RunState | None) -> Iterator[str]:
    yield f"{notice.cls}: {notice.images} images are tagged gap; {_ANSWERS[notice.answer]}"


@_lines.register
def _(notice: InterruptNoted, state: RunState | None) -> Iterator[str]:
    yield "finishing what is under way; again to stop now"


@_lines.register
def _(notice: OverheadMeasured, state: RunState | None) -> Iterator[str]:
    yield f"overhead: {100 * notice.share:.1f} % of tuning time"


@_lines.register
def _(notice: ReportWritten, state: RunState | None) -> Iterator[str]:
    yield f"report written: {notice.path}"


@_lines.register
def _(notice: DataExported, state: RunState | None) -> Iterator[str]:
    what = "mixtures" if is_mixtures_file(Path(notice.path)) else "data set"
    yield f"{what} written: {notice.path}"


# ---------------------------------------------------------------------------------------- words


def _left(state: RunState | None) -> list[str]:
    if state is None or state.budget is None:
        return []
    return [f"{countdown(state.budget - state.used)} left"]


def _gap(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"


def _sized(gap: Any, ratio: Any) -> str:
    return _gap(gap) if ratio is None else f"{_gap(gap)}, {ratio:.1f} floors"


def _counted(task: Task, done: int, total: int) -> str:
    unit = f" {_COUNTED[task]}" if task in _COUNTED else ""
    return f"{done:,} of {total:,}{unit}"


def _many(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
