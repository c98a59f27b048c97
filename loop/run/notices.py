"""Notices: what a run says while it works and keeps in no journal, one frozen model a kind.

Reporters receive them beside the journal's events, in the same style and the same JSON. They hold
facts; what a person reads is made of them in `report` and `progress`. Only what others have put
into words, such as a library's warning, is a `message`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from gapclose.loop.run.fact import Fact, Text

__all__ = [
    "BaselinesCut",
    "ClassReported",
    "DataExported",
    "ImagesTooFew",
    "InterruptNoted",
    "Notice",
    "OverheadMeasured",
    "PhotosTooFew",
    "ReportWritten",
    "RunReported",
    "StillWorking",
    "TagAnswer",
    "TagsRead",
    "Task",
    "TaskAdvanced",
    "TaskStarted",
    "WarningRaised",
    "read_notice",
]


class Task(StrEnum):
    """What a run is at, where that can take more than a moment.

    `LOADING` is named by the room below that loads, in its words; `PREPARING` is what lies between
    two tasks.
    """

    LOADING_PACKAGES = "loading_packages"
    READING_PHOTOS = "reading_photos"
    COMPARING_FOLDERS = "comparing_folders"
    CHECKING = "checking"
    RENDERING = "rendering"
    LOADING = "loading"
    EMBEDDING = "embedding"
    SPECTRA = "spectra"
    REPEATS = "repeats"
    CAPTIONING = "captioning"
    FLOORS = "floors"
    REPLAYING = "replaying"
    PREPARING = "preparing"
    TRIAL = "trial"
    CAMERA = "camera"
    CONFIRMING = "confirming"
    BASELINES = "baselines"
    STORAGE = "storage"
    TESTING = "testing"
    RECALLS = "recalls"
    PROPOSING = "proposing"
    DIAGNOSING = "diagnosing"
    REPORTING = "reporting"
    EXPORTING = "exporting"
    TRAINING_IMAGES = "training_images"
    TRAINING = "training"
    LABELS = "labels"


class TagAnswer(StrEnum):
    """What comes of what a person tagged."""

    FIRST = "first"
    TRIED = "tried"
    FAILED = "failed"
    NO_PHOTOS_LEFT = "no_photos_left"
    NO_FOLDS_LEFT = "no_folds_left"
    ONLY_SEEN_LEFT = "only_seen_left"
    OUT_OF_BUDGET = "out_of_budget"
    NO_WORD = "no_word"


class _OfTask(Fact):
    """Which task it is.

    Attributes:
        task: What kind.
        side: real or synthetic, of the images that it is about.
        encoder: Named where it is not the tuning embedder.
        cls: Its class.
        number: Of the trial, or of the fold.
        classifier: That is trained.
        message: What is loaded, in the words of the room below.
    """

    task: Task
    side: Literal["real", "synthetic"] | None = None
    encoder: Text | None = None
    cls: Text | None = None
    number: int | None = None
    classifier: Text | None = None
    message: Text | None = None

    def is_of(self, other: _OfTask) -> bool:
        """Return whether both are about the same task."""
        shared = _OfTask.model_fields
        return all(getattr(self, name) == getattr(other, name) for name in shared)


class TaskStarted(_OfTask):
    """A task begins."""

    kind: Literal["task_started"] = "task_started"

    def advanced(self, done: int, total: int) -> TaskAdvanced:
        """Return how far it is."""
        return TaskAdvanced(**self.model_dump(exclude={"kind"}), done=done, total=total)


class TaskAdvanced(_OfTask):
    """How far a task is; it has ended where `done` is `total`.

    Attributes:
        seconds: Since it began.
        left: Seconds until it ends, at its rate so far. Both are set by the reporter.
    """

    kind: Literal["task_advanced"] = "task_advanced"
    done: int
    total: int
    seconds: float | None = None
    left: float | None = None


class StillWorking(_OfTask):
    """Nothing was said for a while, and this is why; made by the reporter.

    Attributes:
        seconds: Since the task began.
        done: How far it was when that was last reported.
        total: When it ends.
    """

    kind: Literal["still_working"] = "still_working"
    seconds: float
    done: int | None = None
    total: int | None = None


class WarningRaised(Fact):
    """Something is not as it should be, and the run goes on.

    Attributes:
        message: As it was raised.
        source: A library's logger, or the category of a Python warning; None for our own.
    """

    kind: Literal["warning_raised"] = "warning_raised"
    message: Text
    source: Text | None = None


class PhotosTooFew(Fact):
    """Classes that can never be called closed.

    Attributes:
        least: Held-out images that it takes.
        wanted: Photos a class that leave about as many.
    """

    kind: Literal["photos_too_few"] = "photos_too_few"
    classes: tuple[Text, ...]
    least: int
    wanted: int


class ImagesTooFew(Fact):
    """`confirm.images` is under `least`, so that no class can be called closed."""

    kind: Literal["images_too_few"] = "images_too_few"
    least: int


class BaselinesCut(Fact):
    """There is no time for whole baselines.

    Attributes:
        image_seconds: That an image takes.
        whole: Images of a whole baseline.
    """

    kind: Literal["baselines_cut"] = "baselines_cut"
    image_seconds: float
    whole: int


class TagsRead(Fact):
    """A person has tagged images of a class `gap`."""

    kind: Literal["tags_read"] = "tags_read"
    cls: Text
    images: int
    answer: TagAnswer


class InterruptNoted(Fact):
    """A person wants to stop; what is under way is finished first."""

    kind: Literal["interrupt_noted"] = "interrupt_noted"


class OverheadMeasured(Fact):
    """Share of the tuning that was neither generating nor embedding, in 0..1."""

    kind: Literal["overhead_measured"] = "overhead_measured"
    share: float


class ReportWritten(Fact):
    """The report's page is written."""

    kind: Literal["report_written"] = "report_written"
    path: Text


class DataExported(Fact):
    """The data set is written."""

    kind: Literal["data_exported"] = "data_exported"
    path: Text


class ClassReported(Fact):
    """A class of `RunReported`; figures as in gap.json, `verdict` in the report's words."""

    name: Text
    ratio: float | None = None
    optimism: float | None = None
    effect: float | None = None
    q_value: float | None = None
    closed: bool | None = None
    confirmed: bool | None = None
    verdict: str


class RunReported(Fact):
    """What came out, the last thing that is said of a run.

    Attributes:
        findings: The report's sentences.
        stopped: Why the search ended; None of an audit.
        path: The report's page.
    """

    kind: Literal["run_reported"] = "run_reported"
    classes: tuple[ClassReported, ...]
    findings: tuple[Text, ...]
    stopped: Text | None = None
    path: Text


Notice = Annotated[
    TaskStarted
    | TaskAdvanced
    | StillWorking
    | WarningRaised
    | PhotosTooFew
    | ImagesTooFew
    | BaselinesCut
    | TagsRead
    | InterruptNoted
    | OverheadMeasured
    | ReportWritten
    | DataExported
    | RunReported,
    Field(discriminator="kind"),
]

_NOTICE: TypeAdapter[Notice] = TypeAdapter(Notice)


def read_notice(line: bytes | str) -> Notice:
    """Read one line of `--json` that is no event of the journal.

    Raises:
        ValueError: It is no notice.
    """
    return _NOTICE.validate_json(line)
