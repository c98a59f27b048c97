"""The search on worlds whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import modes
import numpy as np
import pytest
from histories import as_read

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.analysis.gap import mmd2
from gapclose.generators.recipe import Camera
from gapclose.loop.run.class_state import FAILURES
from gapclose.loop.run.events import Job, StopReason, TrialProposed
from gapclose.loop.search.balance import Balance
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.gains import GAIN
from gapclose.loop.search.image_rows import ImageRows
from gapclose.loop.search.phases import Ask
from gapclose.loop.search.prompt_queue import FIRST_PROMPTS
from gapclose.loop.search.searches import proposal_of
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Images, Proposal

TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}


def run(search: ClassSearch, trials: int, *, settings_trials: int = 6) -> list[Proposal]:
    done = []
    while search.number < trials and modes.stopped(search) is None:
        proposal = modes.propose(search, settings_trials=settings_trials)
        search.absorb(proposal, modes.generate(proposal))
        done.append(proposal)
    return done


def stages(done: Sequence[Proposal]) -> str:
    """The first letters of what came one after the other."""
    return "".join(proposal.stage[0] for proposal in done)


def places() -> Space:
    """Twenty prompts, four of each mode."""
    return modes.make_space(
        prompt="a {color} frog{place}",
        slots={"color": list(modes.WORDS), "place": ["", " here", " there", " afar"]},
        guidance_scale=[1.0, 9.0],
    )


def out_of_reach(n: int) -> modes.Rows:
    """Photos that no word draws."""
    real = modes.rows_of("plain", n, np.random.default_rng(8))
    real[:, 1] -= 0.8
    return np.asarray(real / np.linalg.norm(real, axis=1, keepdims=True))


def test_the_weights_of_a_known_mixture_are_found() -> None:
    real = modes.mixed(TRUTH, 300, np.random.default_rng(1))
    search = modes.make_search(real)
    done = run(search, 25)
    assert modes.stopped(search) == StopReason.CLOSED_ON_TUNE_SPLIT
    assert done[-1].stage == "mixture"
    mixture = search.mixture()
    found = modes.weights_by_word(mixture.recipes, mixture.weights)
    for word in modes.WORDS:
        assert found[word] == pytest.approx(TRUTH.get(word, 0.0), abs=0.05), found
    assert sum(mixture.weights) == pytest.approx(1.0)
    assert search.state.gap < 0.1 * search.baseline_gap


def test_a_prior_that_errs_does_not_hide_a_mode() -> None:
    real = modes.mixed(TRUTH, 300, np.random.default_rng(2))
    prior = {"plain": 0.6, "red": 0.36, "blue": 0.02, "brown": 0.01, "gray": 0.01}
    near = 0
    for seed in range(6):
        search = modes.make_search(real, prior=prior, seed=seed)
        first = run(search, 3)
        assert {modes.word_of(p.jobs[0][0]) for p in first[1:]} == {"plain", "red"}
        run(search, 40)
        mixture = search.mixture()
        found = modes.weights_by_word(mixture.recipes, mixture.weights)
        near += all(abs(found[word] - TRUTH.get(word, 0.0)) < 0.08 for word in modes.WORDS)
    assert near == 6


def test_where_the_baseline_is_real_nothing_is_searched() -> None:
    kept = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        search = modes.make_search(modes.sampled(TRUTH, 150, rng))
        proposal = modes.propose(search, settings_trials=4)
        images = modes.generate(proposal)
        fresh = Images(
            embeddings=modes.sampled(TRUTH, 100, rng), recipes=(0,) * 100, seeds=images.seeds
        )
        search.absorb(proposal, fresh)
        if modes.stopped(search) == StopReason.CLOSED_FROM_START:
            kept += 1
            assert search.mixture().recipes == (search.space.baseline,)
            assert search.mixture().weights == (1.0,)
    assert kept >= 27  # the floor is a 95th percentile


@pytest.mark.parametrize("blind", [False, True])
def test_the_stages_come_in_order_and_settings_are_paired(blind: bool) -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    real = modes.mixed(TRUTH, 200, np.random.default_rng(3))
    search = modes.make_search(real, space=space, blind=blind)
    done = run(search, 13)
    assert [p.number for p in done] == list(range(13))
    assert stages(done) == "b" + "j" * 5 + "s" * 6 + "m"
    assert {prompt_of(p) for p in done[1:6]} == {f"a {word} frog" for word in modes.WORDS}
    assert all(p.params["guidance_scale"] == 3.0 for p in done[1:6])  # the baseline's
    settings = done[6:12]
    assert all(p.params.keys() == {"guidance_scale"} for p in settings)
    assert len({p.params["guidance_scale"] for p in settings} - {3.0}) == 6
    # Each draws the same images of the first prompts again.
    known = {(r.draw.prompt, s) for p in done[:6] for r, seeds in p.jobs for s in seeds}
    again = {frozenset((r.draw.prompt, s) for r, its in p.jobs for s in its) for p in settings}
    assert len(again) == 1
    assert len(*again) == 24
    assert next(iter(again)) <= known
    fresh = [s for p in done if p.stage != "settings" for _, seeds in p.jobs for s in seeds]
    assert len(set(fresh)) == len(fresh)


def test_no_stage_of_settings_without_settings() -> None:
    search = modes.make_search(modes.mixed(TRUTH, 80, np.random.default_rng(3)))
    assert stages(run(search, 7)) == "bjjjjjm"
    assert search.state.settings.winner == {}


def test_settings_that_suit_the_class_win() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    for seed in range(5):
        real = modes.mixed(TRUTH, 200, np.random.default_rng([seed, 4]))
        search = modes.make_search(real, space=space, images_per_trial=32, seed=seed)
        done = run(search, 15, settings_trials=8)
        assert stages(done) == "bjjjjjssssssssm"
        assert search.state.settings.winner is not None
        assert abs(search.state.settings.winner["guidance_scale"] - 5.0) < 1.5
        # No prompt has to be drawn at them anew before the mixture has them.
        assert {r.draw.guidance_scale for r, _ in done[-1].jobs} >= {
            search.state.settings.winner["guidance_scale"]
        }


def test_settings_that_gain_nothing_leave_those_at_hand() -> None:
    # The baseline has the right guidance here, and nothing else changes an image.
    kept = 0
    space = modes.make_space(num_inference_steps=[10, 50], guidance_scale=[5.0])
    for seed in range(10):
        real = modes.mixed(TRUTH, 120, np.random.default_rng([seed, 5]))
        search = modes.make_search(real, space=space, images_per_trial=8, seed=seed)
        run(search, 13)
        kept += search.state.settings.winner == space.baseline_settings()
    assert kept == 10


def test_hints_are_tried_first_and_shorten_the_stage() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    real = modes.mixed(TRUTH, 120, np.random.default_rng(5))
    hint = {"guidance_scale": 5.0}
    # Where only two were to be tried, hints make it no more: some are left for whole recipes.
    for wanted, tried in ((6, 3), (2, 1)):
        search = modes.make_search(real, space=space)
        done = []
        while search.number < 12 and search.state.mixture_gap.current is None:
            done.append(modes.propose(search, settings_trials=wanted, hints=[hint]))
            search.absorb(done[-1], modes.generate(done[-1]))
        settings = [p for p in done if p.stage == "settings"]
        assert len(settings) == tried
        assert settings[0].params == hint


def test_without_a_prior_a_screen_orders_many_prompts() -> None:
    space = places()
    firsts = []
    for seed in range(6):
        real = modes.mixed({"brown": 0.7, "gray": 0.3}, 200, np.random.default_rng(seed))
        search = modes.make_search(real, space=space, images_per_trial=8, blind=True, seed=seed)
        done = run(search, 15, settings_trials=12)
        assert stages(done) == "b" + "s" * 5 + "j" * FIRST_PROMPTS + "s"
        assert [p.stage for p in done[1:6]] == ["screen"] * 5
        screened = [(r.draw.prompt, len(seeds)) for p in done[1:6] for r, seeds in p.jobs]
        assert sorted(screened) == sorted((space.prompt(w), 2) for w in space.prompts())
        assert all(r.draw.guidance_scale == 3.0 for p in done[1:6] for r, _ in p.jobs)
        fresh = [jobs for p in done[:-1] for jobs in p.jobs]
        seeds = [s for _, wanted in fresh for s in wanted]
        assert len(set(seeds)) == len(seeds)
        shares = search.prior["color"]
        assert sum(shares.values()) == pytest.approx(1.0)
        firsts.append(max(shares, key=lambda word: shares[word]))
    assert firsts.count("brown") >= 5
    # However many prompts there are, the screen leaves most of a small budget to the rest.
    hurried = modes.make_search(real, space=space, images_per_trial=8, blind=True)
    done = run(hurried, 4, settings_trials=4)
    assert [p.stage for p in done] == ["baseline", "screen", "screen", "joint"]
    # A few prompts are tried as they come, and all of them.
    few = modes.make_search(real, images_per_trial=8, blind=True)
    assert stages(run(few, 7)) == "bjjjjjm"


# -------------------------------------------------------------------------- a given mixture


def given(search: ClassSearch, shares: dict[str, float], **said: Any) -> ClassSearch:
    """The search, which is given the mixture of another run."""
    at = {"guidance_scale": 5.0} | said
    rows = [{"weight": w, "prompt": f"a {word} frog", **at} for word, w in shares.items()]
    search.state.give(rows)
    return search


def test_a_given_mixture_that_closes_the_class_is_measured_and_kept_as_it_is() -> None:
    closed = 0
    for seed in range(12):
        real = modes.sampled(TRUTH, 300, np.random.default_rng([seed, 11]))
        search = modes.make_search(real, space=places(), images_per_trial=8, seed=seed)
        done = run(given(search, TRUTH), 6)
        kept = search.mixture()
        assert search.state.given is not None
        if modes.stopped(search) != StopReason.CLOSED_ON_TUNE_SPLIT:
            continue
        closed += 1
        assert stages(done) == "bggg"
        # As many fresh images as a measurement needs, and no more; all are in the bank.
        assert [sum(len(s) for _, s in p.jobs) for p in done[1:]] == [40, 40, MIN_CLOSED - 80]
        assert sum(len(seeds) for _, seeds in search.drawn()) == MIN_CLOSED + 100
        assert replace(kept, gap_tune=math.nan).weights == search.state.given.mixture.weights
        assert kept.recipes == search.state.given.mixture.recipes
        assert kept.gap_tune == search.state.gap <= 0.5 * search.floor
        # It failed its confirmation: the search goes on from the bank.
        search.reopen()
        assert search.mixture() == kept
        (proposal,) = run(search, search.number + 1)
        assert proposal.stage == "mixture"
        assert search.mixture().weights != kept.weights
    assert closed >= 8, "of 40 worlds 35 and 36 closed, whatever the images' shares"


def test_from_a_given_mixture_with_a_gap_the_search_goes_on_without_first_prompts() -> None:
    real = modes.mixed({"brown": 0.7, "gray": 0.3}, 300, np.random.default_rng(12))
    for blind in (False, True):
        search = modes.make_search(real, space=places(), images_per_trial=8, blind=blind)
        done = run(given(search, {"plain": 0.6, "brown": 0.3, "red": 0.1}), 14)
        assert stages(done)[:4] == "bgmj", "a gap that cannot be missed takes one trial to see"
        assert {p.stage for p in done[2:]} == {"joint", "mixture"}
        assert search.state.settings.winner == {"guidance_scale": 5.0}
        assert search.progress().opened
        assert not search.progress().given
        tried = [prompt_of(p) for p in done if p.stage == "joint" and p.number % 2]
        assert not {"a plain frog", "a brown frog"} & {*tried}
        found = modes.weights_by_word(search.mixture().recipes, search.mixture().weights)
        assert found["brown"] > 0.4, found
    # Nothing else orders its prompts: the words of the given ones come first.
    assert max(search.prior["color"], key=search.prior["color"].__getitem__) == "plain"


def test_a_given_mixture_that_fails_twice_is_left_and_its_class_starts_cold() -> None:
    real = modes.mixed(TRUTH, 100, np.random.default_rng(13))
    search = given(modes.make_search(real, images_per_trial=8), {"brown": 0.5, "blue": 0.5})
    run(search, 1)
    assert search.progress().given
    for trial in range(2):
        proposal = modes.propose(search, settings_trials=4)
        assert proposal.stage == "given"
        search.absorb_failure(proposal)
        assert search.progress().given == (trial == 0)
    done = run(search, 9)
    assert stages(done) == "jjjjjm"
    cold = modes.make_search(real, images_per_trial=8)
    colder = run(cold, 7)
    assert [p.jobs[0][0] for p in done[:5]] == [p.jobs[0][0] for p in colder[1:6]]


def test_where_the_baseline_is_real_a_given_mixture_is_not_tried() -> None:
    real = modes.mixed({"plain": 1.0}, 150, np.random.default_rng(14))
    search = given(modes.make_search(real), {"brown": 1.0})
    assert stages(run(search, 5)) == "b"
    assert modes.stopped(search) == StopReason.CLOSED_FROM_START
    assert search.mixture().recipes == (search.space.baseline,)


def test_there_is_no_time_for_a_whole_measurement_but_the_given_mixture_is_the_class_s() -> None:
    real = modes.sampled(TRUTH, 300, np.random.default_rng(15))
    search = given(modes.make_search(real, images_per_trial=8), TRUTH)
    run(search, 1)
    assert search.mixture().recipes == (search.space.baseline,), "nothing has tried it yet"
    proposal = search.propose(Ask(settings_trials=4, batch=10))
    assert (proposal.stage, sum(len(s) for _, s in proposal.jobs)) == ("given", 10)
    search.begin(proposal)
    search.absorb(proposal, modes.generate(proposal))
    assert search.state.given is not None
    assert search.mixture().recipes == search.state.given.mixture.recipes
    assert search.progress().winner is None


# ------------------------------------------------------------------------------------ replay

Event = tuple[str, Any]
Story = list[tuple[list[Event], Proposal]]


def state(search: ClassSearch) -> str:
    """What a search knows, in words: NaN equals itself."""
    known = search.state
    told = {
        name: repr(getattr(of, name))
        for of, names in (
            (search, ("number", "pending", "prior", "reopened", "imaged")),
            (search.gains, ("since", "evidence", "best")),
            (known, ("gap", "expected", "baseline_gap", "opened", "screen", "balance")),
            (known.mixture_gap, ("gap", "closed")),
            (known.settings, ("winner", "done")),
        )
        for name in names
    }
    mixture = search.mixture()
    told["mixture"] = repr((mixture.recipes, mixture.weights, mixture.gap_tune))
    current = known.mixture_gap.current
    told["round"] = repr(None if current is None else (len(current), current.gap))
    told |= {"stopped": str(modes.stopped(search)), "history": repr(search.history())}
    return repr(told)


def tell(search: ClassSearch, event: Event) -> None:
    kind, what = event
    if kind == "reset":
        search.reset_failures()
    elif kind == "reopen":
        search.reopen()
    elif kind == "prioritize":
        search.prioritize(what)
        search.reopen()
    elif kind == "proposed":
        search.begin(what)
    elif kind == "failed":
        search.absorb_failure(what)
    else:
        search.absorb(*what)


def on_disk(proposal: Proposal) -> Proposal:
    """The proposal, from the event that records it."""
    jobs = tuple(Job(recipe=r.to_json(), seeds=s) for r, s in proposal.jobs)
    event = TrialProposed(
        cls="frog",
        number=proposal.number,
        stage=proposal.stage,
        params=proposal.params,
        jobs=jobs,
    )
    return proposal_of(as_read(event))


def valid(images: Images, share: float, rng: np.random.Generator) -> Images:
    """Some of the images: the others are invalid."""
    keep = np.flatnonzero(rng.random(len(images.seeds)) < share)
    return Images(
        embeddings=images.embeddings[keep],
        recipes=tuple(images.recipes[i] for i in keep),
        seeds=tuple(images.seeds[i] for i in keep),
    )


def live(search: ClassSearch, trials: int, *, seed: int, broken: str, invalid: float) -> Story:
    """A run with mishaps: what happened before each proposal, from the start."""
    rng = np.random.default_rng(seed)
    events: list[Event] = []
    story: Story = []
    failures = 0
    while len(story) < trials:
        before = len(events)
        if failures == FAILURES:
            events.append(("reset", None))
            failures = 0
        elif modes.stopped(search) is not None:
            events.append(("reopen", None))
        elif rng.random() < 0.08:
            combinations = search.space.prompts()
            events.append(("prioritize", [combinations[rng.integers(len(combinations))]]))
        for event in events[before:]:
            tell(search, event)
        proposal = modes.propose(search, settings_trials=6)
        story.append((list(events), proposal))
        events.append(("proposed", on_disk(proposal)))
        images = valid(modes.generate(proposal), 1 - invalid, rng)
        lost = proposal.stage in ("joint", "mixture") and rng.random() < 0.1
        if lost or prompt_of(proposal) == broken or len(images.seeds) < 2:
            events.append(("failed", on_disk(proposal)))
            failures += 1
        else:
            failures = 0
            events.append(("done", (on_disk(proposal), images)))
        tell(search, events[-1])
    return story


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (modes.make_space(), {}),
        (modes.make_space(guidance_scale=[1.0, 9.0]), {"confirm_images": 200}),
        (places(), {"blind": True}),
        (modes.make_space(prompt="a brown frog", slots={}), {"blind": True}),
        (modes.make_space(prompt=["a {color} frog", "a red frog"]), {"confirm_images": 40}),
        (modes.make_space(scheduler=["ddim", "euler"], guidance_scale=[1.0, 3.0, 5.0]), {}),
    ],
    ids=["words", "settings", "screen", "one prompt", "alike", "choices"],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_replaying_the_trials_gives_the_same_search(
    space: Space, options: dict[str, Any], seed: int
) -> None:
    def begin() -> ClassSearch:
        real = modes.mixed(TRUTH, 100, np.random.default_rng([6, seed]))
        search = modes.make_search(real, space=space, images_per_trial=8, **options)
        search.size_baseline(99)  # so few do not close it
        return search

    broken = ("", "a gray frog", "a gray frog here")[seed]
    story = live(begin(), 24, seed=seed, broken=broken, invalid=(0.0, 0.1, 0.4)[seed])
    assert {"b", "j", "m"} <= {p.stage[0] for _, p in story}
    for events, proposal in story:
        again = begin()
        for event in events:
            tell(again, event)
        assert modes.propose(again, settings_trials=6) == proposal
    # The state is that of the one that ran, too.
    events, proposal = story[-1]
    whole, again = begin(), begin()
    for event in events:
        if event[0] == "proposed":
            modes.propose(whole, settings_trials=6)
        else:
            tell(whole, event)
        tell(again, event)
        assert state(again) == state(whole)


def test_failures_spend_numbers_and_leave_the_mixture() -> None:
    real = modes.mixed(TRUTH, 80, np.random.default_rng(7))
    search = modes.make_search(real)
    proposal = modes.propose(search, settings_trials=4)
    search.absorb_failure(proposal)
    # Trial 0 failed: the baseline is still what comes first.
    again = modes.propose(search, settings_trials=4)
    assert (again.number, again.stage) == (1, "baseline")
    search.absorb(again, modes.generate(again))
    for _ in range(FAILURES):
        search.absorb_failure(modes.propose(search, settings_trials=4))
    assert search.number == 2 + FAILURES
    assert modes.stopped(search) is None  # the run's state counts them
    assert search.mixture().recipes == (proposal.jobs[0][0],)


def prompt_of(proposal: Proposal) -> str:
    return proposal.jobs[0][0].draw.prompt


def test_a_prompt_that_fails_does_not_take_the_others_with_it() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(9))
    search = modes.make_search(real)
    done: list[tuple[Proposal, bool]] = []
    while search.number < 9 and modes.stopped(search) is None:
        proposal = modes.propose(search, settings_trials=4)
        drawn = proposal.stage == "baseline" or prompt_of(proposal) != "a gray frog"
        if drawn:
            search.absorb(proposal, modes.generate(proposal))
        else:
            search.absorb_failure(proposal)
        done.append((proposal, drawn))
    tried = {prompt_of(p) for p, _ in done[1:]}
    assert tried == {f"a {word} frog" for word in modes.WORDS}
    failed = [number for number, (_, drawn) in enumerate(done) if not drawn]
    assert failed[:2] == [failed[0], len(modes.WORDS) + 1]  # once more, after all the others
    assert len(done) == 9
    # Replayed from what is on disk it goes on as it would have.
    again = modes.make_search(real)
    for proposal, drawn in done:
        again.begin(proposal)
        if drawn:
            again.absorb(proposal, modes.generate(proposal))
        else:
            again.absorb_failure(proposal)
    assert modes.propose(again, settings_trials=4) == modes.propose(search, settings_trials=4)
    # Once its failures are reset, what failed comes first.
    search.reset_failures()
    assert prompt_of(modes.propose(search, settings_trials=4)) == "a gray frog"


def test_a_prompt_that_has_had_its_chances_does_not_end_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(9))
    search = modes.make_search(real)
    while search.number < 14:  # all prompts are tried
        proposal = modes.propose(search, settings_trials=6)
        search.absorb(proposal, modes.generate(proposal))
    monkeypatch.setattr(Balance, "explores", lambda *_, **__: True)
    asked: list[int] = []

    def stubborn(*_: Any, seed: int, **__: Any) -> dict[str, Any]:
        """A sampler that comes back to one word, as TPE may to one that scored well once."""
        asked.append(seed)
        return {
            **(search.state.settings.winner or {}),
            "color": "blue" if len(asked) % 4 else "gray",
        }

    monkeypatch.setattr("gapclose.loop.search.phases.propose", stubborn)
    for _ in range(2):
        proposal = modes.propose(search, settings_trials=4)
        assert prompt_of(proposal) == "a blue frog"
        search.absorb_failure(proposal)
    assert prompt_of(modes.propose(search, settings_trials=4)) == "a gray frog"
    assert len(set(asked)) == len(asked) == 4  # each draw has a seed of its own


def test_a_prioritized_prompt_that_fails_is_pending_no_more() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(10))
    search = modes.make_search(real)
    run(search, 2)
    search.prioritize([{"color": "blue"}])
    assert search.pending
    proposal = modes.propose(search, settings_trials=4)
    assert prompt_of(proposal) == "a blue frog"
    search.absorb_failure(proposal)
    assert search.pending  # it may have been an accident
    search.absorb_failure(proposal)
    assert not search.pending


def test_settings_that_fail_do_not_come_again_at_once() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(11))
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    search = modes.make_search(real, space=space)
    run(search, 6)
    hints = [{"guidance_scale": 2.0}]
    asked = []
    for _ in range(FAILURES):
        proposal = modes.propose(search, settings_trials=6, hints=hints)
        assert proposal.stage == "settings"
        asked.append(proposal.params)
        search.absorb_failure(proposal)
    assert asked[0] == hints[0]
    assert len({p["guidance_scale"] for p in asked}) == FAILURES
    # Where none told anything, those at hand stay.
    search.reset_failures()
    proposal = modes.propose(search, settings_trials=3)
    assert proposal.stage == "mixture"
    assert search.state.settings.winner == space.baseline_settings()


def test_a_class_whose_only_prompt_fails_has_something_to_draw() -> None:
    space = modes.make_space(prompt="a brown frog", slots={}, guidance_scale=[1.0, 9.0])
    search = modes.make_search(modes.mixed(TRUTH, 80, np.random.default_rng(3)), space=space)
    run(search, 1)
    for _ in range(2):
        proposal = modes.propose(search, settings_trials=4)
        assert proposal.stage == "joint"
        search.absorb_failure(proposal)
    proposal = modes.propose(search, settings_trials=4)
    assert sum(len(seeds) for _, seeds in proposal.jobs) >= 2
    search.absorb(proposal, modes.generate(proposal))


def test_a_class_that_ends_inside_its_screen_has_a_mixture() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(12))
    search = modes.make_search(real, space=places(), blind=True, images_per_trial=8)
    done = run(search, 2)
    assert [p.stage for p in done] == ["baseline", "screen"]
    for _ in range(FAILURES):
        search.absorb_failure(modes.propose(search, settings_trials=12))
    assert sum(search.mixture().weights) == pytest.approx(1.0)


# ------------------------------------------------------------- how a class ends, and its gap


@pytest.mark.parametrize("images", [2, 3, 4, 8, 1000])
def test_an_open_class_never_rests(images: int) -> None:
    # The real side is a mode that no word draws.
    search = modes.make_search(out_of_reach(60), images_per_trial=images, baseline_images=40)
    trials = 40 if images < 1000 else 22
    done = run(search, trials)
    assert len(done) == trials
    assert modes.stopped(search) is None
    assert search.state.gap > search.floor
    # New recipes and images of the mixture come on, both.
    for part in (done[6 : trials // 2], done[trials // 2 :]):
        drawn = {"joint": 0, "mixture": 0}
        for p in part:
            drawn[p.stage] += sum(len(seeds) for _, seeds in p.jobs)
        assert drawn["mixture"] > drawn["joint"]
    tried = {prompt_of(p) for p in done if p.stage == "joint"}
    assert tried == {f"a {word} frog" for word in modes.WORDS}


def test_a_closed_class_may_be_reopened_and_closes_again() -> None:
    search = modes.make_search(modes.mixed(TRUTH, 200, np.random.default_rng(1)))
    run(search, 25)
    assert modes.stopped(search) == StopReason.CLOSED_ON_TUNE_SPLIT
    number, evidence = search.number, search.gains.evidence
    search.reopen()
    assert modes.stopped(search) is None
    run(search, 60)
    assert modes.stopped(search) == StopReason.CLOSED_ON_TUNE_SPLIT
    assert search.number > number
    assert search.gains.evidence > evidence


@pytest.mark.parametrize("confirm_images", [20, 99, 100, 300])
def test_a_class_is_closed_by_as_many_images_as_a_confirmation_has(confirm_images: int) -> None:
    search = modes.make_search(
        modes.mixed(TRUTH, 200, np.random.default_rng(1)), confirm_images=confirm_images,
        images_per_trial=8,
    )  # fmt: skip
    measured = 0
    while modes.stopped(search) is None:
        proposal = modes.propose(search, settings_trials=4)
        begun = (
            search.state.mixture_gap.current is not None
            and len(search.state.mixture_gap.current) > 0
        )
        if proposal.stage == "mixture":
            images = sum(len(seeds) for _, seeds in proposal.jobs)
            measured = images + (measured if begun else 0)
        search.absorb(proposal, modes.generate(proposal))
        assert search.number < 200
    assert modes.stopped(search) == StopReason.CLOSED_ON_TUNE_SPLIT
    assert measured >= max(confirm_images, MIN_CLOSED)
    assert search.state.gap <= 0.5 * search.floor


def fresh_gap(search: ClassSearch, *, first: int) -> float:
    """Of a thousand images of its mixture that it has not seen."""
    rows = modes.drawn_anew(search.mixture(), 1000, first=first)
    return mmd2(real=search.bank.real, synthetic=rows, kernel=search.bank.kernel)


@pytest.mark.parametrize("reach", [True, False])
def test_the_gap_that_is_told_is_that_of_fresh_images(reach: bool) -> None:
    # An open class's and a closed one's, though it is the one that was small that closes.
    away = []
    for seed in range(60):
        real = modes.sampled(TRUTH, 150, np.random.default_rng([seed, 9]))
        if not reach:
            real[:, -2] += 0.3
            real /= np.linalg.norm(real, axis=1, keepdims=True)
        search = modes.make_search(real, seed=seed)
        run(search, 20)
        assert (modes.stopped(search) is None) is not reach
        fresh = fresh_gap(search, first=50_000_000 + 20_000_000 * seed)
        assert reach or fresh > 5 * search.floor
        away.append((search.mixture().gap_tune - fresh) / search.floor)
    assert abs(np.mean(away)) < 0.2
    assert np.std(away) < 0.6


def test_before_anything_is_measured_the_gap_is_the_baselines() -> None:
    search = modes.make_search(modes.mixed(TRUTH, 120, np.random.default_rng(2)))
    assert math.isnan(search.state.gap)
    run(search, 6)
    assert search.state.gap == search.baseline_gap
    assert math.isnan(search.mixture().gap_tune)
    run(search, 7)
    assert search.state.gap == search.state.mixture_gap.gap == search.mixture().gap_tune


def test_what_counts_as_evidence_is_what_the_mixture_learns_from() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    search = modes.make_search(modes.mixed(TRUTH, 80, np.random.default_rng(2)), space=space)
    assert search.gains.evidence == 0
    told: list[tuple[str, int]] = []
    while len(told) < 14:
        proposal = modes.propose(search, settings_trials=6)
        before = search.mixture()
        if len(told) == 3:
            search.absorb_failure(proposal)
        else:
            search.absorb(proposal, modes.generate(proposal))
        told.append((proposal.stage, search.gains.evidence))
        if proposal.stage == "settings" or len(told) == 4:
            assert (search.mixture().recipes, search.mixture().weights) == (
                before.recipes, before.weights
            )  # fmt: skip
        assert (search.gains.evidence <= 1) is (len(told) == 1)
    assert [e for _, e in told] == [1, 2, 3, 3, 4, 5, 6, *[6] * 6, 7]


def test_a_gain_is_counted_from() -> None:
    search = modes.make_search(out_of_reach(60), images_per_trial=8)
    last, best = 0, math.inf
    for _ in range(30):
        proposal = modes.propose(search, settings_trials=4)
        search.absorb(proposal, modes.generate(proposal))
        gained = search.gains.best < best
        assert search.gains.since == (0 if gained else last + 1)
        assert not gained or search.gains.best < best - GAIN * search.floor
        last, best = search.gains.since, search.gains.best
    assert last > 0


def test_a_batch_of_the_mixture_may_be_smaller() -> None:
    search = modes.make_search(modes.mixed(TRUTH, 120, np.random.default_rng(2)))
    run(search, 6)
    sizes = []
    for batch in (None, 30, 1, 10_000):
        proposal = modes.propose(search, settings_trials=4, batch=batch)
        assert proposal.stage == "mixture"
        sizes.append(sum(len(seeds) for _, seeds in proposal.jobs))
    assert sizes == [120, 30, 2, 120]


def test_a_camera_is_taken_over_by_all_that_was_drawn() -> None:
    camera = Camera(noise=0.02)
    real = modes.mixed(TRUTH, 120, np.random.default_rng(2))
    search = modes.make_search(real)
    run(search, 6)
    before = search.mixture()
    jobs = tuple((replace(recipe, camera=camera), seeds) for recipe, seeds in search.drawn())
    images = modes.generate(Proposal(number=0, stage="mixture", params={}, jobs=jobs))
    search.change_camera(camera, images)
    # The images are the same here, so all but the camera is as it was.
    after = search.mixture()
    assert after.weights == pytest.approx(before.weights, abs=1e-3)
    assert [r.draw for r in after.recipes] == [r.draw for r in before.recipes]
    assert {r.camera for r in after.recipes} == {camera}
    done = run(search, 12)
    assert {r.camera for p in done for r, _ in p.jobs} == {camera}
    assert len(search.bank) == len(modes.WORDS)  # no recipe is there under two cameras


def test_too_few_valid_images_score_nothing() -> None:
    search = modes.make_search(modes.mixed(TRUTH, 80, np.random.default_rng(9)))
    proposal = modes.propose(search, settings_trials=4)
    images = modes.generate(proposal)
    one = Images(embeddings=images.embeddings[:1], recipes=(0,), seeds=images.seeds[:1])
    with pytest.raises(ValueError, match="fewer than 2"):
        search.absorb(proposal, one)
    assert not search.has_baseline
    assert len(search.bank) == 0


def test_what_a_trial_is_said_to_show() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(10))
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    search = modes.make_search(real, space=space, images_per_trial=8)
    seen = set()
    while search.number < 24:
        proposal = modes.propose(search, settings_trials=4)
        images = modes.generate(proposal)
        finding = search.absorb(proposal, images)
        seen.add(proposal.stage)
        wanted = mmd2(real=real, synthetic=images.embeddings, kernel=search.bank.kernel)
        assert finding.gap == pytest.approx(wanted, abs=1e-6)
        assert finding.mixture_gap == search.state.gap
        if proposal.stage in ("baseline", "mixture"):
            assert finding.value == finding.gap
        elif proposal.stage == "joint":
            past = {repr(p.params): p.value for p in search.history()}
            assert finding.value in past.values()
        if modes.stopped(search):
            search.reopen()
    assert seen == {"baseline", "joint", "settings", "mixture"}


def test_what_a_person_prioritized_is_tried_once_and_before_other_prompts() -> None:
    real = modes.mixed({"brown": 0.6, "gray": 0.4}, 120, np.random.default_rng(0))
    search = modes.make_search(real)
    run(search, 2)
    words = [p for p in search.space.prompts() if p["color"] == "blue"]
    assert not search.pending
    search.prioritize(words)
    assert search.pending
    assert modes.stopped(search) is None
    proposal = modes.propose(search, settings_trials=2)
    assert proposal.params["color"] == "blue"
    search.absorb(proposal, modes.generate(proposal))
    assert not search.pending
    rest = run(search, 6)
    assert {modes.word_of(p.jobs[0][0]) for p in rest} == {"brown", "gray", "red"}


def test_a_prioritized_prompt_comes_whatever_the_stage() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(0))
    for at in (1, 3, 5, 9, 15):
        search = modes.make_search(real, space=places(), blind=True, images_per_trial=8)
        search.baseline_floor = -1.0
        run(search, at)
        untried = [w for w in search.space.prompts() if w["place"] == " afar"][:2]
        search.prioritize(untried)
        assert search.pending
        for words in untried:
            if not search.pending:
                break  # it was among the first prompts
            proposal = modes.propose(search, settings_trials=6)
            assert (proposal.stage, prompt_of(proposal)) == ("joint", search.space.prompt(words))
            search.absorb(proposal, modes.generate(proposal))
        assert not search.pending


def test_a_closed_class_tries_what_a_person_prioritized() -> None:
    search = modes.make_search(
        modes.mixed({"brown": 1.0}, 120, np.random.default_rng(0)),
        prior={"brown": 0.9, "plain": 0.025, "gray": 0.025, "red": 0.025, "blue": 0.025},
    )
    run(search, 20)
    assert modes.stopped(search) == StopReason.CLOSED_ON_TUNE_SPLIT
    search.prioritize([p for p in search.space.prompts() if p["color"] == "red"])
    assert modes.stopped(search) is None
    proposal = modes.propose(search, settings_trials=4)
    assert prompt_of(proposal) == "a red frog"
    search.absorb(proposal, modes.generate(proposal))
    assert modes.stopped(search) == StopReason.CLOSED_ON_TUNE_SPLIT


def test_a_round_of_images_under_another_camera_is_begun_anew() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(2))
    search = modes.make_search(real, images_per_trial=8)
    run(search, 7)
    assert search.state.mixture_gap.current is not None
    gap, camera = search.state.gap, Camera(noise=0.02)
    jobs = tuple((replace(recipe, camera=camera), seeds) for recipe, seeds in search.drawn())
    images = modes.generate(Proposal(number=0, stage="mixture", params={}, jobs=jobs))
    search.change_camera(camera, images)
    assert search.state.mixture_gap.current is None
    assert search.state.gap == gap
    proposal = modes.propose(search, settings_trials=4)
    assert {recipe.camera for recipe, _ in proposal.jobs} == {camera}


def test_a_recording_brings_a_search_where_it_was_without_a_kernel_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    real = modes.mixed(TRUTH, 100, np.random.default_rng(3))
    search = modes.make_search(real, space=space, images_per_trial=8)
    fresh = modes.make_search(real, space=space, images_per_trial=8)
    others = modes.make_search(real[::-1].copy(), space=space, images_per_trial=8)
    done = []
    while search.number < 24:
        search.reopen()
        proposal = modes.propose(search, settings_trials=4)
        images = modes.generate(proposal)
        finding = search.absorb(proposal, images)
        done.append((proposal, replace(images, recording=finding.recording), finding))
    assert {p.stage for p, _, _ in done} == {"baseline", "joint", "settings", "mixture"}
    computed: list[int] = []
    sums = ImageRows.sums
    monkeypatch.setattr(
        ImageRows, "sums", lambda *own, **given: computed.append(1) or sums(*own, **given)
    )
    for proposal, images, finding in done:
        fresh.reopen()
        fresh.begin(proposal)
        assert fresh.absorb(proposal, images).recording.numbers.tobytes() == (
            finding.recording.numbers.tobytes()
        )
    assert computed == []
    assert state(fresh) == state(search)
    assert modes.propose(fresh, settings_trials=4) == modes.propose(search, settings_trials=4)
    for proposal, images, _ in done[:6]:  # noted against other photos they are of no use
        others.begin(proposal)
        others.absorb(proposal, images)
    assert len(computed) == 6
