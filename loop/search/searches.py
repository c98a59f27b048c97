"""The searches of all classes: what is too expensive to fold from the journal in its state.

They live beside `RunState`, and the same events bring them where they stand: the loop applies
each as it appends it, and a session that resumes replays the journal with the images it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np

from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.run.events import (
    CameraChosen,
    Event,
    MixturesGiven,
    PromptsPrioritized,
    PromptsProposed,
    RecallsMeasured,
    RoundStarted,
    TrialFailed,
    TrialFinished,
    TrialProposed,
)
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.given import starting_camera
from gapclose.loop.search.recording import Recording
from gapclose.loop.search.trial import Images, Proposal

Jobs = Sequence[tuple[Recipe, Sequence[int]]]

_NO_IMAGES: Final = Images(embeddings=np.empty((0, 0), np.float32), recipes=(), seeds=())


class Searches(Mapping[str, ClassSearch]):
    """A search for each class."""

    def __init__(
        self,
        searches: Mapping[str, ClassSearch],
        *,
        trial_images: Callable[[TrialFinished, Proposal], Images],
        camera_images: Callable[[CameraChosen, str, Jobs], Images],
        keep_recording: Callable[[str, int, Images, Recording], None],
    ) -> None:
        """Take new searches; `apply` and `replay` bring them where the run stands.

        Args:
            searches: By class.
            trial_images: What a trial brought, copies not marked.
            camera_images: The images of a class's jobs under the run's camera.
            keep_recording: Keeps what was computed anew for a trial, so the next resume reads it.
        """
        self._searches = dict(searches)
        self._trial_images = trial_images
        self._camera_images = camera_images
        self._keep_recording = keep_recording

    def __getitem__(self, name: str) -> ClassSearch:
        """Return the search of a class."""
        return self._searches[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the classes in the run's order."""
        return iter(self._searches)

    def __len__(self) -> int:
        """Number of classes."""
        return len(self._searches)

    def apply(self, event: Event) -> None:
        """Follow an event, but for results of trials: `Trials.run` has them absorbed."""
        match event:
            case TrialProposed():
                self[event.cls].begin(proposal_of(event))
            case MixturesGiven():
                self._give(event)
            case RoundStarted():
                self._start_round(event)
            case PromptsPrioritized():
                search = self[event.cls]
                if event.reset:
                    search.reset_failures()
                search.prioritize(event.prompts)
                search.reopen()
            case PromptsProposed():
                self[event.cls].prioritize(event.prompts)
            case CameraChosen():
                self._change_camera(event)
            case RecallsMeasured():
                for name, prompts in event.prompts.items():
                    self[name].prioritize(prompts)
            case _:
                pass

    def _give(self, event: MixturesGiven) -> None:
        rows = [row for its in event.mixtures.values() for row in its]
        for name, search in self.items():
            # Of a class that was given none too: until the run chooses, all have the same camera.
            camera = starting_camera(rows, search.space)
            search.state.give(event.mixtures.get(name, ()), camera)

    def _start_round(self, event: RoundStarted) -> None:
        for name in event.reset:
            self[name].reset_failures()
        for name in event.reopened:
            self[name].reopen()

    def _change_camera(self, event: CameraChosen) -> None:
        camera = Camera.from_json(event.camera)
        for name, search in self.items():
            if not search.imaged:  # else `Trials.choose_camera` has done so
                known = name in event.progress  # else its class has joined since
                jobs = under(camera, search.drawn())
                taken = self._camera_images(event, name, jobs) if known else _NO_IMAGES
                search.change_camera(camera, taken)

    def replay(self, events: Iterable[Event]) -> None:
        """Follow the events of earlier sessions, trials included.

        Args:
            events: Of the whole journal, in order.
        """
        proposed: dict[tuple[str, int], Proposal] = {}
        for event in events:
            match event:
                case TrialProposed():
                    proposed[event.cls, event.number] = proposal_of(event)
                    self.apply(event)
                case TrialFinished():
                    proposal = proposed.pop((event.cls, event.number))
                    self[event.cls].recall(event.progress.winner)
                    images = self._trial_images(event, proposal)
                    if event.copied:
                        images = replace(images, copied=frozenset(event.copied))
                    finding = self[event.cls].absorb(proposal, images)
                    recording = finding.recording
                    self._keep_recording(event.cls, event.number, images, recording)
                case TrialFailed():
                    proposal = proposed.pop((event.cls, event.number))
                    self[event.cls].recall(event.progress.winner)
                    self[event.cls].absorb_failure(proposal)
                case _:
                    self.apply(event)


def under(camera: Camera, jobs: Jobs) -> list[tuple[Recipe, Sequence[int]]]:
    """Return jobs under another camera."""
    return [(replace(recipe, camera=camera), seeds) for recipe, seeds in jobs]


def proposal_of(event: TrialProposed) -> Proposal:
    """Return the trial that an event proposes."""
    return Proposal(
        number=event.number,
        stage=event.stage,
        params=dict(event.params),
        jobs=tuple((_recipe(json.dumps(job.recipe)), job.seeds) for job in event.jobs),
    )


@lru_cache(maxsize=4096)
def _recipe(text: str) -> Recipe:
    """Read a recipe; a mixture's come again in trial after trial."""
    return Recipe.from_json(json.loads(text))
