"""The search of one class: what to generate next, and what a trial taught.

It goes through the phases of `phases.py`: the baseline as it is; where the class was given a
mixture, that one, and then neither of what follows; the first prompts at the baseline's settings,
after a screen where there are many and no text encoder orders them; settings (guidance, steps,
scheduler) on images of those prompts. Then come two things in turn, new recipes and more images of
the mixture, which are scored before it is fitted to them. The session drives it; it
proposes and absorbs, and touches neither files nor models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.generators.recipe import Camera, Recipe
from gapclose.loop.run.events import Progress
from gapclose.loop.search.absorbing import absorb, note_failure
from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.copies import Copies
from gapclose.loop.search.gains import Gains
from gapclose.loop.search.mixture_gap import MixtureGap
from gapclose.loop.search.optuna_record import Observation
from gapclose.loop.search.parameter_stages import ParameterStages
from gapclose.loop.search.phases import Ask, begin, next_trial
from gapclose.loop.search.prior import Shares
from gapclose.loop.search.prompt_queue import PromptQueue, Words
from gapclose.loop.search.score import Score
from gapclose.loop.search.screen import Screen
from gapclose.loop.search.search_state import SearchState
from gapclose.loop.search.settings import SettingsStage
from gapclose.loop.search.sources import NO_SOURCES, Sources
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Finding, Images, Mixture, Proposal


class ClassSearch:
    """The search of one class, rebuilt from its finished trials on resume.

    Attributes:
        state: What it knows.
        baseline_floor: `floor_p95` at the size of the baseline, which it is closed under.
        gains: How its gap has fallen.
        imaged: Whether it has taken the run's camera over.
        reopened: Whether it goes on after a confirmation.
        sources: The photos that its recipes may name.
    """

    def __init__(
        self,
        *,
        space: Space,
        bank: Score,
        prior: Shares,
        floor_at: Callable[[int], float],
        images_per_trial: int,
        confirm_images: int,
        baseline_images: int,
        seed: int,
        sources: Sources = NO_SOURCES,
    ) -> None:
        """Begin, with the baseline to try.

        Args:
            space: What may be varied.
            bank: An empty one, with the real tune split.
            prior: Shares of the words, which order the first prompts; of none, a screen does.
            floor_at: `floor_p95` at a number of synthetic images.
            images_per_trial: Of settings and joint trials.
            confirm_images: Images of a confirmation.
            baseline_images: Of trial 0.
            seed: Of the run.
            sources: See the attribute.
        """
        floor, copies = floor_at(confirm_images), Copies()
        self.state = SearchState(
            space=space,
            seed=seed,
            images_per_trial=images_per_trial,
            baseline_images=baseline_images,
            floor=floor,
            atoms=Atoms(bank, copies),
            prompts=PromptQueue(space, prior),
            screen=Screen(space, seed, images_per_trial, needed=not prior),
            settings=SettingsStage(
                space=space, reference=space.baseline_settings(), seed=seed, copies=copies
            ),
            copies=copies,
            parameters=ParameterStages.of(space, seed),
            mixture_gap=MixtureGap(floor=floor, confirm_images=confirm_images),
        )
        self._floor_at, self.sources = floor_at, sources
        self.size_baseline(baseline_images)
        self.gains = Gains(floor)
        self.imaged = self.reopened = False

    # ------------------------------------------------------------------------ where it stands

    @property
    def space(self) -> Space:
        """What may be varied."""
        return self.state.space

    @property
    def bank(self) -> Score:
        """Its images, and the real tune split."""
        return self.state.atoms.bank

    @property
    def prior(self) -> Shares:
        """Shares of the words."""
        return self.state.prompts.prior

    @property
    def weights(self) -> NDArray[np.float64]:
        """(n,) of the bank's atoms, as they were fitted last; it has its baseline."""
        return self.state.atoms.weights

    @property
    def floor(self) -> float:
        """`floor_p95` at the size of a confirmation."""
        return self.state.floor

    @property
    def number(self) -> int:
        """Of the next trial."""
        return self.state.number

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 has been scored; nothing else is tried before."""
        return self.state.has_baseline

    @property
    def baseline_gap(self) -> float:
        """Of trial 0; NaN before."""
        return self.state.baseline_gap

    @property
    def closed_from_start(self) -> bool:
        """Whether its baseline has no gap."""
        return self.baseline_gap <= self.baseline_floor

    @property
    def pending(self) -> bool:
        """Whether a prioritized prompt is still to be tried."""
        return self.state.prompts.urgent is not None

    @property
    def plain(self) -> Recipe:
        """The baseline's draw, under the run's camera once there is one."""
        base = self.space.baseline
        return replace(base, camera=self.space.camera) if self.imaged else base

    def progress(self) -> Progress:
        """Return where it stands, as the journal's events have it."""
        state = self.state
        return Progress(
            floor=state.floor,
            baseline_gap=_finite(state.baseline_gap),
            gap=_finite(state.gap),
            expected=_finite(state.expected),
            since_gain=self.gains.since,
            evidence=self.gains.evidence,
            closed_from_start=self.closed_from_start,
            closed=state.mixture_gap.closed,
            opened=state.opened,
            pending=self.pending,
            given=state.tries_given,
            winner=state.settings.winner,
        )

    def mixture(self) -> Mixture:
        """Return what is kept of the class: the mixture as it was fitted last.

        Its gap is that of the mixture before, measured on images that this one is fitted to
        besides: more images can be expected to make it smaller. A given mixture stays as it is
        until it has a gap: weights that are fitted to its few images here say less.
        """
        searched = self.reopened or self.gains.evidence > 1
        unsearched = self.closed_from_start and not searched
        given = self.state.given
        if given is not None and given.stands:
            return replace(given.mixture, gap_tune=self.state.mixture_gap.gap)
        if not self.state.atoms.fitted or unsearched:
            return Mixture(recipes=(self.plain,), weights=(1.0,), gap_tune=self.baseline_gap)
        return replace(self.state.mixture(), gap_tune=self.state.mixture_gap.gap)

    def history(self) -> list[Observation]:
        """Return the recipes that trials tried, with their scores as they stand now."""
        return self.state.atoms.history()

    # ---------------------------------------------------------------- what happens around it

    def size_baseline(self, images: int) -> None:
        """Have trial 0 generated with so many images, or say that it was.

        Too few to call a class closed do not do so from the start either.
        """
        self.state.baseline_images = images
        self.baseline_floor = self._floor_at(images) if images >= MIN_CLOSED else -math.inf

    def reopen(self) -> None:
        """Go on after a confirmation that failed, or because of what a person asked for."""
        self.gains.since = 0
        self.reopened, self.state.mixture_gap.closed = True, False

    def reset_failures(self) -> None:
        """Forget the failures: a restart implies that their cause was fixed."""
        self.state.forget_failures()

    def prioritize(self, prompts: Sequence[Words]) -> None:
        """Try these prompts before all others, those that no trial has tried."""
        self.state.prompts.prioritize(prompts)

    def holds_untried(self, prompts: Sequence[Words]) -> bool:
        """Return whether one of some prompts is still to be tried, or is being tried."""
        return self.state.prompts.holds_untried(prompts)

    def sample(self, images: int) -> list[tuple[Recipe, tuple[int, ...]]]:
        """Return images of the bank, by the weights of their recipes."""
        return self.state.atoms.sample(images)

    def shares(self, images: int) -> list[tuple[Recipe, tuple[int, ...], int]]:
        """Allot images to the bank's recipes by their weights; see `Atoms.shares`."""
        return self.state.atoms.shares(images)

    def drawn(self) -> list[tuple[Recipe, tuple[int, ...]]]:
        """Return all that the bank holds."""
        return self.state.atoms.drawn()

    def change_camera(self, camera: Camera, images: Images) -> None:
        """Take the run's camera over, for all images to come and all in the bank.

        Args:
            camera: From now on put on every image but the baseline's in a report.
            images: Of `drawn`, in its order, under that camera.
        """
        self.state.change_camera(camera, self.sources.named(images, self.drawn()))
        self.imaged = True

    # ------------------------------------------------------------------------------- trials

    def propose(self, ask: Ask) -> Proposal:
        """Return what to generate next; the same until it has begun."""
        return next_trial(self.state, ask)

    def begin(self, proposal: Proposal) -> None:
        """Note that a proposed trial is under way; the next one may be proposed beside it."""
        if proposal.stage == "baseline":
            self.size_baseline(len(proposal.jobs[0][1]))
        begin(self.state, proposal)

    def recall(self, winner: Params | None) -> None:
        """Take over the settings that were chosen by the time a replayed trial had a result.

        Chosen anew they might be others, for a few photos may have come or gone since.
        """
        self.state.settings.winner = winner

    def absorb(self, proposal: Proposal, images: Images) -> Finding:
        """Take in what a trial under way brought; those of a class are absorbed in their order.

        Raises:
            ValueError: Fewer than two images, which score nothing.
        """
        if len(images) < 2:
            raise ValueError("fewer than 2 valid images")
        images = self.sources.named(images, proposal.jobs)
        with self.bank.noting(images.recording) as recorder:
            own = self.bank.gap_of(images.embeddings, sources=images.sources)
            value = absorb(self.state, proposal, images, own)
        if proposal.stage != "settings":
            self.gains.note(self.state.expected)
        return Finding(
            gap=own, value=value, mixture_gap=self.state.gap, recording=recorder.recording
        )

    def absorb_failure(self, proposal: Proposal) -> None:
        """Note that a trial under way failed: what it tried is not tried next."""
        note_failure(self.state, proposal)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
