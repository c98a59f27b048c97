"""Absorbing: what the trial of each stage changes in a search; the same fresh or replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gapclose.loop.run.events import Stage
from gapclose.loop.search.balance import FEWEST_PROMISED
from gapclose.loop.search.search_state import SearchState
from gapclose.loop.search.trial import Images, Proposal

Absorb = Callable[[SearchState, Proposal, Images, float], float]
"""From the squared MMD of a trial's own images to the value in Optuna's record."""


def _baseline(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    state.atoms.keep(proposal.jobs[0][0], images.of_job(0))
    state.atoms.refit()
    state.baseline_gap = own
    return own


def _given(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    given = state.given
    assert given is not None, "its trials are proposed of what was given"
    outcome = state.mixture_gap.absorb(proposal.number, images, state.atoms.bank)
    for job, (recipe, _) in enumerate(proposal.jobs):
        given.keep(state.atoms, recipe, images.of_job(job))
    state.atoms.refit()
    # What stands is generated whole: a recipe that failed here would fail there.
    whole = len({*images.recipes}) == len(proposal.jobs)
    given.stands = outcome != "open" and whole
    # A replayed trial ended it if its session said so, whatever other photos say now.
    if outcome != "more" or state.settings.winner is not None:
        state.end_given()
    return own


def _screen(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    _keep_all(state, proposal, images)
    return own


def _parameters(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    _note_promise(state, images.of_job(0), cost=len(images))
    _keep_all(state, proposal, images)
    recipe, _ = proposal.jobs[0]
    state.parameters.of_recipe(recipe).absorb(recipe)
    return own


def _settings(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    state.settings.absorb(proposal.params, images)
    points, values = state.settings.scores(state.atoms.bank, state.atoms.weights)
    return float(values[-1]) if points[-1] == proposal.params else 0.0


def _joint(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    _note_promise(state, images, cost=len(images))
    state.prompts.note_tried(proposal.params)
    number = state.atoms.keep(proposal.jobs[0][0], images, proposal.params)
    state.atoms.refit()
    assert number is not None, "two images and more make an atom"
    return state.atoms.score(number)


def _note_promise(state: SearchState, images: Images, *, cost: int) -> None:
    """Note how far a recipe's fresh images pull the mixture that was fitted without them.

    Args:
        state: Of the search.
        images: The recipe's.
        cost: Images that its trial took in all; a promise is that of a usual trial.
    """
    if state.settings.winner is None:
        return
    promise = None
    if len(images) >= FEWEST_PROMISED:
        promise = state.atoms.bank.promise(
            state.atoms.weights, images.embeddings, images.seeds, sources=images.sources
        )
    if promise is not None:
        promise *= min(state.images_per_trial / max(cost, 1), 1.0)
    state.balance.note_recipe(cost, promise)


def _mixture(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    state.mixture_gap.absorb(proposal.number, images, state.atoms.bank)
    state.balance.note_mixture(len(images))
    _keep_all(state, proposal, images)
    return own


def _keep_all(state: SearchState, proposal: Proposal, images: Images) -> None:
    for job, (recipe, _) in enumerate(proposal.jobs):
        state.atoms.keep(recipe, images.of_job(job))
    state.atoms.refit()


ABSORB: Final[Mapping[Stage, Absorb]] = {
    "baseline": _baseline,
    "given": _given,
    "parameters": _parameters,
    "screen": _screen,
    "settings": _settings,
    "joint": _joint,
    "mixture": _mixture,
}


def absorb(state: SearchState, proposal: Proposal, images: Images, own: float) -> float:
    """Take in a trial's images, whose own squared MMD is given; return the value of its record."""
    if state.given is not None:
        state.given.stands = False  # but for what another trial of it says
    state.note_fault(proposal, failed=False)
    state.copies.note(proposal, images)
    value = ABSORB[proposal.stage](state, proposal, images, own)
    state.settings.avoid_copies()
    if state.copies.in_mixture(state.mixture_gap.measured):
        state.mixture_gap.refuse()
        if state.given is not None:
            state.given.stands = False
    return value


def note_failure(state: SearchState, proposal: Proposal) -> None:
    """Note that a trial brought nothing; what it tried in vain is not tried next again."""
    state.note_fault(proposal, failed=True)
    if proposal.stage == "joint":
        state.prompts.note_failed(proposal.params)
    if proposal.stage in ("given", "mixture"):
        state.mixture_gap.forget(proposal.number)
    if proposal.stage == "given" and state.given is not None:
        state.given.failures += 1
        if state.given.hopeless:
            state.given.stands = False
            state.mixture_gap.abandon()
