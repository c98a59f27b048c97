"""Events and states of runs, made up: what is not told is as in the middle of a night."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gapclose.analysis.class_gap import ClassGap
from gapclose.loop.config.schema import TuneConfig
from gapclose.loop.run.class_state import ClassState, Evaluation
from gapclose.loop.run.events import (
    CameraChosen,
    ClassVerdict,
    ConfirmationFailed,
    Digests,
    Event,
    FoldEvaluated,
    FoldOpened,
    Job,
    MixturesGiven,
    PhotosGrouped,
    PhotosListed,
    Progress,
    PromptsPrioritized,
    PromptsProposed,
    Recall,
    RecallsMeasured,
    RoundStarted,
    RunFinished,
    RunStarted,
    SessionStarted,
    Stopped,
    StopReason,
    TrialFailed,
    TrialFinished,
    TrialProposed,
    VerdictsReached,
    read_event,
)
from gapclose.loop.run.fact import Fact
from gapclose.loop.run.notices import (
    BaselinesCut,
    ClassReported,
    DataExported,
    ImagesTooFew,
    InterruptNoted,
    Notice,
    OverheadMeasured,
    PhotosTooFew,
    ReportWritten,
    RunReported,
    StillWorking,
    TagAnswer,
    TagsRead,
    Task,
    TaskStarted,
    WarningRaised,
)
from gapclose.loop.run.state import RunState
from gapclose.loop.schedule.budget import ClassLimits, Limits

Made = TypeVar("Made", bound=Fact)

# Floats whose shortest decimals are long, or that a careless writer rounds.
AWKWARD = (0.1 + 0.2, 1 / 3, 5e-324, 2.0**-1074 * 3, 1.7976931348623157e308, -0.0, 1e-17, 2 / 7)

CAMERA = {"noise": 0.03, "saturation": 1 / 3}


TRIAL = {"class": "frog", "number": 0, "stage": "joint", "state": "complete"}
"""What a line of trials.jsonl has at least."""


def as_read(event: Event) -> Event:
    """The event as a reader of its line gets it."""
    return read_event(event.model_dump_json())


def progress(**facts: Any) -> Progress:
    """Of a search that has its baseline and wants more."""
    shown = {"floor": 0.1, "baseline_gap": 2.0, "gap": 0.2, "expected": 0.2, "evidence": 5}
    return made(Progress, **shown | facts)


def mixture(*fingerprints: str) -> dict[str, Any]:
    """What of mixtures.json is asked of it."""
    share = 1.0 / max(1, len(fingerprints))
    recipes = [
        {"fingerprint": key, "weight": share, "recipe": {"draw": {"prompt": key}}}
        for key in fingerprints
    ]
    return {"recipes": recipes, "gap_tune": 0.01}


def made(kind: type[Made], **facts: Any) -> Made:
    """An event of these facts; a misspelt one would be ignored, as a newer version's are."""
    assert facts.keys() <= kind.model_fields.keys(), facts.keys() - kind.model_fields.keys()
    return kind(**facts)


def proposed(cls: str = "frog", number: int = 9, **facts: Any) -> TrialProposed:
    images = facts.pop("images", 8)
    jobs = (Job(recipe={"draw": {"prompt": cls}}, seeds=tuple(range(images))),)
    shown = {"stage": "joint", "params": {}, "jobs": jobs}
    return made(TrialProposed, cls=cls, number=number, **shown | facts)


def tried(cls: str = "frog", number: int = 9, **facts: Any) -> TrialFinished:
    shown: dict[str, Any] = {"gap": 0.3, "value": -0.1, "mixture_gap": 0.2, "invalid": 0}
    shown |= {"images": 8, "seconds": 4.0, "progress": progress()}
    return made(TrialFinished, cls=cls, number=number, **shown | facts)


def failed(cls: str = "frog", number: int = 9, **facts: Any) -> TrialFailed:
    shown: dict[str, Any] = {"error": "GenerationError: no frog today", "invalid": 8, "images": 8}
    shown |= {"seconds": 4.0, "progress": progress()}
    return made(TrialFailed, cls=cls, number=number, **shown | facts)


def opened(cls: str = "frog", fold: int = 0, **facts: Any) -> FoldOpened:
    shown: dict[str, Any] = {"photos": (f"{cls}-{fold}",), "mixture": mixture("mixed")}
    shown |= {"trials": 9, "evidence": 5, "spends": True}
    return made(FoldOpened, cls=cls, fold=fold, **shown | facts)


def row(name: str = "frog", **facts: Any) -> ClassGap:
    """A row of gap.json of 200 images a side, as one class alone has it."""
    shown: dict[str, Any] = {"n_real": 200, "n_synthetic": 200, "gap": 0.5, "floor_p95": 0.1}
    shown |= {"ratio": 5.0, "effect": 0.6, "detectable": 0.05, "p_value": 0.001}
    return ClassGap(name=name, **shown | facts)


def gap_file(classes: Iterable[str], *, skipped: Iterable[str] = ()) -> dict[str, Any]:
    """What a gap.json has at least."""
    return {
        "schema": 1,
        "embedder": "pond",
        "judge": None,
        "classes": [row(name).to_json() for name in classes],
        "skipped": [{"class": name, "why": "too few"} for name in skipped],
    }


def evaluated(cls: str = "frog", fold: int = 0, **facts: Any) -> FoldEvaluated:
    shown: dict[str, Any] = {"mixture": mixture("mixed"), "before": row(cls, gap=2.0).to_json()}
    shown |= {"after": row(cls).to_json(), "agreement": None, "drawn": (("draw", 15, 100),)}
    shown |= {"images": 100, "seconds": 100.0}
    return made(FoldEvaluated, cls=cls, fold=fold, **shown | facts)


def verdict(**facts: Any) -> ClassVerdict:
    shown: dict[str, Any] = {"fold": 0, "gap": 0.5, "ratio": 5.0, "floor_p95": 0.1}
    shown |= {"effect": 0.6, "q_value": 0.001, "closed": False, "confirmed": False}
    return made(ClassVerdict, **shown | facts)


def evaluation(cls: str = "frog", *, gap: float = 0.5, **facts: Any) -> Evaluation:
    """One that failed, of all there was after nine trials."""
    parts: dict[str, Any] = {"confirmed": False, "fold": 0, "tagged": False, "judged": True}
    parts |= {key: facts.pop(key) for key in [*parts] if key in facts}
    kept = facts.pop("kept", ("mixed",))
    return Evaluation(
        opened=opened(cls, parts["fold"], **facts),
        result=evaluated(
            cls, parts["fold"], mixture=mixture(*kept), after=row(cls, gap=gap).to_json()
        ),
        verdict=verdict(fold=parts["fold"], gap=gap, confirmed=parts["confirmed"])
        if parts["judged"]
        else None,
        tagged=parts["tagged"],
    )


def stopped(cls: ClassState) -> StopReason | None:
    """Why a run for the gap would try no more of a class."""
    why = limits(["frog"]).stopped("frog", cls)
    return None if why is None else why.reason


def class_state(**facts: Any) -> ClassState:
    """Of a search that stands still: nine trials, five of them with evidence, and wants more.

    Args:
        facts: Of its state or of its progress; `open_fold` is the state's `opened`.
    """
    open_fold = facts.pop("open_fold", None)
    known = {key: facts.pop(key) for key in [*facts] if key not in Progress.model_fields}
    if "gap" in facts:
        facts.setdefault("expected", facts["gap"])
    shown: dict[str, Any] = {"trials": 9, "images": 200, "opened": open_fold}
    known.setdefault("proposed", known.get("trials", 9))
    known.setdefault("asked", bool(known.get("prioritized")))
    return ClassState(progress=progress(**facts), **shown | known)


def new_class(**facts: Any) -> ClassState:
    """Of a class that waits for its baseline."""
    facts.setdefault("proposed", facts.get("trials", 0))
    return ClassState(**{"progress": Progress(floor=0.1)} | facts)


def limits(
    classes: Iterable[str],
    *,
    floors: Mapping[str, float] | None = None,
    folds: int | Mapping[str, int] = 3,
    confirm_images: int = 100,
    cameras: bool = False,
    **tune: Any,
) -> Limits:
    """Of a run; by default trials end it.

    Args:
        classes: Their names.
        floors: Of those that have another one than 0.1.
        folds: Of each class, or of those that have not three.
        confirm_images: As in `Limits`.
        cameras: As in `Limits`.
        tune: Keys of the config; where one of those that end the search is given, no other does.
    """
    ends = {"budget", "trials", "images"} & {*tune}
    config = {"budget": None} | ({} if ends else {"trials": 100}) | tune
    some = folds if isinstance(folds, Mapping) else dict.fromkeys(classes, folds)
    return Limits(
        tune=TuneConfig.model_validate(config),
        confirm_images=confirm_images,
        classes={
            name: ClassLimits(floor=(floors or {}).get(name, 0.1), folds=some.get(name, 3))
            for name in classes
        },
        cameras=cameras,
    )


def run_state(classes: Mapping[str, ClassState], **facts: Any) -> RunState:
    """Of a run between two steps."""
    return RunState(
        **{"run": "abcd", "sessions": 1, "names": (*classes,), "classes": classes} | facts
    )


def every_kind() -> list[Event]:
    """Two of each kind of event: what is optional left out, and everything said."""
    a, b, c, d, e, f, g, h = AWKWARD
    full = Progress(
        floor=a,
        baseline_gap=b,
        gap=c,
        expected=d,
        since_gain=3,
        evidence=7,
        closed_from_start=True,
        closed=True,
        opened=True,
        pending=True,
        given=True,
        winner={"guidance_scale": h, "scheduler": "two", "steps": 4},
    )
    recipe = {"draw": {"prompt": 'ein Frosch \N{FROG FACE}\n\u2028"x"', "guidance_scale": g}}
    whole_row = row(
        "frog",
        gap=a,
        q_value=b,
        closed=False,
        judge={"gap": c, "floor_p95": d, "ratio": None, "effect": h, "p_value": g, "q_value": b},
        guards={"precision": f},
        witness={"real": ("a.png",), "synthetic": ()},
        standard_error=f,
        objections=("one", "two"),
    ).to_json()
    return [
        RunStarted(run="0a1b2c3d"),
        RunStarted(at=1.25, used=a, run=""),
        SessionStarted(classes=()),
        SessionStarted(classes=("frog", "ship"), budget=e, probe=b),
        PhotosListed(tune={}),
        PhotosListed(
            tune={"frog": ("00ff", "11"), "ship": ()},
            cuts={"frog": 2},
            left_out={"unreadable": [{"path": "x/\N{FROG FACE}.png", "why": ""}], "n": 1},
        ),
        PhotosGrouped(cls="frog", groups={}),
        PhotosGrouped(cls="frog", groups={"all photos": "0f" * 8, "group 1": "ff" * 8}),
        MixturesGiven(source="", mixtures={}),
        MixturesGiven(
            source="runs/\N{FROG FACE}",
            mixtures={
                "frog": (
                    {"weight": a, "prompt": "a frog", "scheduler": None, "camera": {"noise": b}},
                    {"weight": f, "prompt": '"a" frog', "guidance_scale": g},
                ),
                "ship": (),
            },
        ),
        RoundStarted(due=()),
        RoundStarted(
            due=("frog", "ship"), reopened={"ship": a, "frog": f}, reset=("frog",), halfway=b
        ),
        PromptsPrioritized(cls="frog", prompts=()),
        PromptsPrioritized(cls="frog", prompts=({"color": "gray"}, {"color": ""}), reset=True),
        PromptsProposed(cls="frog", prompts=(), progress=Progress(), seconds=a),
        PromptsProposed(
            cls="frog", prompts=({"prompt": "a {{x}} frog"},), progress=full, seconds=b
        ),
        CameraChosen(camera={}, turn="frog", progress={}),
        CameraChosen(
            camera=CAMERA,
            turn="ship",
            progress={"frog": full, "ship": Progress()},
            digests={"frog": Digests(rows="0a1b", images="")},
        ),
        RecallsMeasured(recalls={}),
        RecallsMeasured(
            recalls={
                "frog": Recall(real=a, synthetic=b, n=300, prompts=({"color": "gray"},)),
                "ship": Recall(real=1.0, synthetic=h, n=20),
            },
            progress={"frog": full},
        ),
        TrialProposed(cls="frog", number=0, stage="baseline", params={}, jobs=()),
        TrialProposed(
            cls="frog",
            number=4,
            stage="mixture",
            params={"guidance_scale": d, "color": "gray"},
            jobs=(
                Job(recipe=recipe, seeds=(2_004_000, 2_004_001)),
                Job(recipe={"draw": {"prompt": "x"}}, seeds=()),
            ),
        ),
        tried(gap=None, value=None, mixture_gap=None),
        tried(
            gap=a,
            value=f,
            mixture_gap=c,
            seconds=b,
            invalid=2,
            progress=full,
            probe=h,
            digests=Digests(rows="00ff", images="12"),
        ),
        failed(),
        failed(error="x" * 300, seconds=g, progress=full, probe=d),
        opened(),
        opened("ship", 2, spends=False, early=True, mixture=mixture("a") | {"gap_tune": None}),
        evaluated(),
        evaluated(
            "ship",
            2,
            before=whole_row,
            after=whole_row,
            agreement=b,
            drawn=(("0f", 15_000_000, 24), ("0e", 0, 100)),
            seconds=h,
            probe=g,
            digests={"tuned": Digests(rows="00ff", images="12")},
        ),
        ConfirmationFailed(cls="frog", fold=0, error=""),
        ConfirmationFailed(cls="frog", fold=1, error="RuntimeError: \N{SNOWMAN}"),
        VerdictsReached(verdicts={}),
        VerdictsReached(
            verdicts={
                "frog": verdict(ratio=None, effect=None, closed=None),
                "ship": verdict(
                    fold=2,
                    gap=f,
                    ratio=a,
                    effect=g,
                    q_value=b,
                    closed=True,
                    confirmed=True,
                    objections=(),
                    recall=Recall(real=c, synthetic=d, n=100),
                ),
            }
        ),
        RunFinished(stopped={}),
        RunFinished(
            stopped={
                "frog": Stopped(reason=StopReason.FAILURES, detail="E: x"),
                "ship": Stopped(reason=StopReason.OUT_OF_BUDGET),
            },
            findings={"clusters": [], "share": b, "rows": {"frog": {"stored": None}}},
        ),
    ]


def every_notice() -> list[Notice]:
    """One of each kind of notice, and what is optional both ways where it matters."""
    embedding = TaskStarted(task=Task.EMBEDDING, side="real")
    figures = {"ratio": 0.9, "effect": None, "q_value": 0.3, "closed": True, "confirmed": True}
    return [
        embedding,
        embedding.advanced(2_000, 5_000),
        StillWorking(task=Task.TRIAL, cls="frog", number=3, seconds=AWKWARD[0], done=1, total=2),
        WarningRaised(message="two\nlines \N{FROG FACE}"),
        WarningRaised(message="overflow", source="RuntimeWarning"),
        PhotosTooFew(classes=("frog",), least=100, wanted=250),
        ImagesTooFew(least=100),
        BaselinesCut(image_seconds=AWKWARD[1], whole=100),
        TagsRead(cls="frog", images=40, answer=TagAnswer.NO_WORD),
        InterruptNoted(),
        OverheadMeasured(share=0.074),
        ReportWritten(path="run/report.html"),
        DataExported(path="run/export"),
        RunReported(
            classes=(ClassReported(name="frog", verdict="confirmed", **figures),),
            findings=("One.",),
            stopped="the budget is out",
            path="run/report.html",
        ),
    ]
