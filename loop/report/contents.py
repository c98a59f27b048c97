"""Contents: what the projections of a run hold, as pure functions of its events and its state.

`projections` writes them and restores them; nothing here writes a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gapclose.generators.recipe import Recipe
from gapclose.loop.report.text import effect_sort_key, in_short, stopped_text
from gapclose.loop.run.events import (
    Event,
    Stopped,
    StopReason,
    TrialFailed,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.shapes import fingerprint_of, mixture_key
from gapclose.loop.run.state import RunState

TRIALS: Final = "trials.jsonl"
STATE: Final = "state.json"
MIXTURES: Final = "mixtures.json"
GAP: Final = "gap.json"
VALIDATION: Final = "validation.json"
_INVALID: Final = 0.05  # share of the images of a confirmation that may be missing
_NOT_ITS: Final = "mixtures.json does not hold the mixture that was confirmed"
_ALL_CLOSED: Final = "every class is closed and confirmed"


def verdict_files(state: RunState) -> set[str]:
    """Return those of mixtures.json and gap.json that a run has where it stands."""
    if any(state.of(name).judged is not None for name in state.names):
        return {MIXTURES, GAP}
    return {GAP} if state.finished is not None else set()


@dataclass(slots=True)
class TrialRows:
    """The rows of trials.jsonl, made from the events of a journal in their order.

    Several trials may be under way, of one class too.
    """

    _proposed: dict[tuple[str, int], TrialProposed] = field(default_factory=dict)
    _images: dict[str, int] = field(default_factory=dict)

    def of_all(self, events: Iterable[Event]) -> list[dict[str, Any]]:
        """Return the rows that some events complete."""
        return [row for event in events if (row := self.of(event)) is not None]

    def of(self, event: Event) -> dict[str, Any] | None:
        """Return the row that an event completes."""
        if isinstance(event, TrialProposed):
            self._proposed[event.cls, event.number] = event
        if not isinstance(event, TrialFinished | TrialFailed):
            return None
        proposed = self._proposed.pop((event.cls, event.number))
        done = isinstance(event, TrialFinished)
        self._images[event.cls] = self._images.get(event.cls, 0) + event.images
        recipe = Recipe.from_json(proposed.jobs[0].recipe)
        return {
            "class": event.cls,
            "number": event.number,
            "stage": proposed.stage,
            "params": proposed.params,
            "recipe": proposed.jobs[0].recipe,
            "fingerprint": recipe.fingerprint(),
            "draw": recipe.draw.fingerprint(),
            "seeds": [seed for job in proposed.jobs for seed in job.seeds],
            "jobs": [{"recipe": job.recipe, "seeds": list(job.seeds)} for job in proposed.jobs],
            "state": "complete" if done else "fail",
            "error": None if isinstance(event, TrialFinished) else event.error,
            "invalid": event.invalid,
            "gap": event.gap if isinstance(event, TrialFinished) else None,
            "mixture_gap": event.mixture_gap if isinstance(event, TrialFinished) else None,
            "value": event.value if isinstance(event, TrialFinished) else None,
            "images_total": self._images[event.cls],
            "seconds": event.seconds,
        }


def mixtures_json(state: RunState) -> dict[str, Any]:
    """Return mixtures.json: the mixtures that the last verdicts are of."""
    judged = {name: e for name in state.names if (e := state.of(name).judged) is not None}
    return {"schema": 1, "classes": {name: e.result.mixture for name, e in judged.items()}}


def mixtures_key(mixtures: Mapping[str, Any]) -> str:
    """Return 32 hex digits that say which mixtures they are.

    Args:
        mixtures: By class, as in mixtures.json.
    """
    return hashlib.sha256(json.dumps(mixtures, sort_keys=True).encode()).hexdigest()[:32]


def own_verdicts(
    gap: dict[str, Any], mixtures: Mapping[str, Any], shown: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """Confirm no class of a gap.json whose mixture is not the one that is there.

    Args:
        gap: As gap.json, of a run whose journal is gone.
        mixtures: By class, as in mixtures.json.
        shown: By class, how many images of each recipe confirmed it, by fingerprint; an older
            gap.json does not name its mixture.
    """

    def belongs(row: Mapping[str, Any]) -> bool:
        mixture = mixtures.get(row["name"])
        if mixture is None:
            return False
        if "mixture" in row:
            return bool(row["mixture"] == mixture_key(mixture))
        return _has_shown(mixture, shown.get(row["name"], {}))

    def own(row: dict[str, Any]) -> dict[str, Any]:
        if not row["confirmed"] or (_can_be_confirmed(row) and belongs(row)):
            return row
        return row | {"confirmed": False, "objections": [_NOT_ITS]}

    return gap | {"classes": [own(row) for row in gap["classes"]]}


def _can_be_confirmed(row: Mapping[str, Any]) -> bool:
    """Return whether the figures of a class do not contradict that it is confirmed."""
    from gapclose.analysis.significance import LEVEL  # numpy, which `status` need not wait for

    judges = row.get("judges") or filter(None, [row.get("judge")])
    q_values = [row["q_value"], *(judge["q_value"] for judge in judges)]
    return row["closed"] is True and all(q is None or q > LEVEL for q in q_values)


def _has_shown(mixture: Mapping[str, Any], shown: Mapping[str, int]) -> bool:
    """Return whether images are of a mixture, each recipe by its weight but for a few of them.

    Images that could not be scored are not among them.
    """
    n = sum(shown.values())
    weights: dict[str, float] = {}
    for part in mixture["recipes"]:
        key = fingerprint_of(part["recipe"])
        weights[key] = weights.get(key, 0.0) + part["weight"]
    expected = {key: weight * n for key, weight in weights.items() if weight > 0}
    return bool(shown) and all(
        key in expected and abs(shown.get(key, 0) - expected[key]) <= 2 + _INVALID * n
        for key in {*expected, *shown}
    )


def state_json(state: RunState) -> dict[str, Any]:
    """Return state.json: where the run stands."""
    value: dict[str, Any] = {
        "id": state.run,
        "started": state.started,
        "stage": state.stage,
        "seconds_used": state.used,
        "budget_seconds": state.budget,
        "images": state.images,
        "classes": {name: _class_json(state, name) for name in state.names},
        "camera": None if state.camera is None else state.camera.camera,
    }
    if state.given is not None:
        value["given"] = state.given.source
    if state.finished is not None:
        value["stopped_because"] = stopped_because(state)
    return value


def _class_json(state: RunState, name: str) -> dict[str, Any]:
    cls = state.of(name)
    progress, floor = cls.progress, cls.progress.floor
    row: dict[str, Any] = {
        "gap": progress.gap,
        "ratio": None if progress.gap is None or not floor else progress.gap / floor,
        "floor_p95": floor,
        "trials": cls.trials,
        "failed": cls.failed,
        "images": cls.images,
    }
    if cls.judged is not None and cls.judged.verdict is not None:
        said = {"effect", "closed", "confirmed"}
        if state.finished is not None or cls.trials == cls.judged.opened.trials:
            said |= {"gap", "ratio", "floor_p95"}  # else it has gone on since
        row |= cls.judged.verdict.model_dump(include=said)
    return row


def gap_json(state: RunState, rundir: RunDir) -> dict[str, Any]:
    """Return gap.json, schema 1.

    It has no findings (clusters, confounds, shares, seconds ...) before the run has ended with
    these verdicts. A session that goes on leaves them: they are of the images that were judged.
    """
    from gapclose.loop.run.verdicts import judged_rows  # scipy, which `status` need not wait for

    config = rundir.config()
    found = dict(state.findings)
    own: dict[str, dict[str, Any]] = found.pop("rows", {})
    judged = {name: e for name in state.names if (e := state.of(name).judged) is not None}
    rows = []
    for name, row in judged_rows(state).items():
        extra = dict(own.get(name, {}))
        said = replace(row, stored=extra.pop("stored", None)).to_json()
        said["before"] |= extra.pop("before", {})
        thought = judged[name].result.mixture["gap_tune"]
        optimism = None if thought is None else (row.gap - thought) / max(row.floor_p95, 1e-9)
        verdict = judged[name].verdict
        kept = None if verdict is None else verdict.mixture
        named = {} if kept is None else {"mixture": kept}
        if (generator := judged[name].result.generator) is not None:
            named["generator"] = generator
        rows.append(said | named | {"optimism": optimism} | extra)
    stopped = {name: _stopped(state, name) for name in state.names}
    none = "no image of it was made"
    return {
        "schema": 1,
        "embedder": config.embedder,
        **config.judge_keys(),
        "confounds": found.pop("confounds", []),
        "equalized": False,
        "camera": None if state.camera is None else state.camera.camera,
        "classes": sorted(rows, key=effect_sort_key, reverse=True),
        "clusters": found.pop("clusters", []),
        **state.left_out,
        "skipped": [
            {"class": name, "why": stopped_text(stopped[name]) if state.of(name).trials else none}
            for name in state.names
            if name not in judged
        ],
        "stopped": {name: stopped_text(why) for name, why in stopped.items()},
        "stop_reasons": {name: str(why.reason) for name, why in stopped.items()},
        **found,
    }


def _stopped(state: RunState, name: str) -> Stopped:
    if state.finished is not None:
        return state.finished.stopped[name]
    evaluation = state.of(name).evaluation
    confirmed = evaluation is not None and evaluation.confirmed
    return Stopped(reason=StopReason.CONFIRMED if confirmed else StopReason.INTERRUPTED)


def stopped_because(state: RunState) -> str:
    """Say why a run ended, in a few words."""
    judged = {name: state.of(name).judged for name in state.names}
    left = [name for name, e in judged.items() if e is None or not e.confirmed]
    if not left:
        return _ALL_CLOSED
    return in_short({name: stopped_text(_stopped(state, name)) for name in left})
