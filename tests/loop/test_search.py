"""The search on worlds whose answer is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapclose.analysis.gap import mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.loop.search import (
    FAILURES,
    PATIENCE,
    PROMISES,
    ClassSearch,
    Images,
    Mixture,
    Proposal,
    smooth,
)

sys.path.insert(0, str(Path(__file__).parent))
import modes

TRUTH = {"brown": 0.5, "gray": 0.3, "plain": 0.2}


def run(search: ClassSearch, trials: int, *, settings_trials: int = 6) -> list[Proposal]:
    done = []
    while search.number < trials and search.stopped() is None:
        proposal = search.propose(settings_trials=settings_trials)
        search.absorb(proposal, modes.shoot(proposal))
        done.append(proposal)
    return done


def test_the_weights_of_a_known_mixture_are_found() -> None:
    real = modes.mixed(TRUTH, 300, np.random.default_rng(1))
    search = modes.make_search(real)
    run(search, 25)
    mixture = search.mixture()
    found = modes.weights_by_word(mixture.recipes, mixture.weights)
    for word in modes.WORDS:
        assert found[word] == pytest.approx(TRUTH.get(word, 0.0), abs=0.05), found
    assert sum(mixture.weights) == pytest.approx(1.0)
    assert search.gap < 0.1 * search.baseline_gap


def test_a_prior_that_errs_does_not_hide_a_mode() -> None:
    real = modes.mixed(TRUTH, 300, np.random.default_rng(2))
    prior = {"plain": 0.6, "red": 0.36, "blue": 0.02, "brown": 0.01, "gray": 0.01}
    search = modes.make_search(real, prior=prior)
    run(search, 40)
    mixture = search.mixture()
    found = modes.weights_by_word(mixture.recipes, mixture.weights)
    for word in modes.WORDS:
        assert found[word] == pytest.approx(TRUTH.get(word, 0.0), abs=0.08), found


def test_where_the_baseline_is_real_nothing_is_searched() -> None:
    kept = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        search = modes.make_search(modes.sampled(TRUTH, 150, rng))
        proposal = search.propose(settings_trials=4)
        images = modes.shoot(proposal)
        fresh = Images(
            embeddings=modes.sampled(TRUTH, 100, rng), recipes=(0,) * 100, seeds=images.seeds
        )
        search.absorb(proposal, fresh)
        if search.stopped() == "closed from the start":
            kept += 1
            assert search.mixture().recipes == (search.space.baseline,)
            assert search.mixture().weights == (1.0,)
    assert kept >= 27  # the floor is a 95th percentile


def test_the_stages_come_in_order_and_settings_are_paired() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0], camera={"noise": [0.0, 0.1]})
    real = modes.mixed(TRUTH, 200, np.random.default_rng(3))
    search = modes.make_search(real, space=space)
    done = run(search, 14)
    assert [p.number for p in done] == list(range(14))
    assert [p.stage for p in done] == ["baseline"] + ["settings"] * 6 + ["joint"] * 7
    settings = [p for p in done if p.stage == "settings"]
    assert len({tuple(s for _, s in p.jobs) for p in settings}) == 1  # the same seeds
    assert len({tuple(r.draw.prompt for r, _ in p.jobs) for p in settings}) == 1
    # The first are the baseline's own; every third keeps the best draw and moves the camera.
    assert settings[0].params == {"guidance_scale": 3.0, "camera.noise": 0.0}
    for p in (settings[2], settings[5]):
        earlier = {q.params["guidance_scale"] for q in settings[: settings.index(p)]}
        assert p.params["guidance_scale"] in earlier
    fresh = [s for p in done if p.stage != "settings" for _, seeds in p.jobs for s in seeds]
    paired = {s for p in settings for _, seeds in p.jobs for s in seeds}
    assert len(set(fresh)) == len(fresh)
    assert not paired & set(fresh)


def test_settings_that_suit_the_class_win() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    real = modes.mixed(TRUTH, 200, np.random.default_rng(4))
    search = modes.make_search(real, space=space, images_per_trial=32)
    run(search, 16, settings_trials=12)
    assert search.winner is not None
    assert abs(search.winner["guidance_scale"] - 5.0) < 1.5


def test_hints_are_tried_first_and_shorten_the_stage() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    real = modes.mixed(TRUTH, 120, np.random.default_rng(5))
    search = modes.make_search(real, space=space)
    hint = {"guidance_scale": 5.0}
    stages = []
    for _ in range(6):
        proposal = search.propose(settings_trials=6, hints=[hint])
        stages.append((proposal.stage, proposal.params.get("guidance_scale")))
        search.absorb(proposal, modes.shoot(proposal))
    assert stages[2] == ("settings", 5.0)
    assert [s for s, _ in stages] == ["baseline"] + ["settings"] * 3 + ["joint"] * 2
    # Where only two were to be tried, hints make it no more: some are left for whole recipes.
    search = modes.make_search(real, space=space)
    stages = []
    for _ in range(4):
        proposal = search.propose(settings_trials=2, hints=[hint])
        stages.append((proposal.stage, proposal.params.get("guidance_scale")))
        search.absorb(proposal, modes.shoot(proposal))
    assert [s for s, _ in stages] == ["baseline"] + ["settings"] * 2 + ["joint"]
    assert stages[2] == ("settings", 5.0)


def test_without_a_prior_a_screen_orders_the_prompts() -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    firsts = []
    for seed in range(6):
        real = modes.mixed({"brown": 0.7, "gray": 0.3}, 200, np.random.default_rng(seed))
        search = modes.make_search(real, space=space, images_per_trial=8, blind=True, seed=seed)
        done = run(search, 8, settings_trials=6)
        assert [p.stage for p in done[:4]] == ["baseline", "screen", "screen", "settings"]
        screened = [r.draw.prompt for p in done[1:3] for r, _ in p.jobs]
        assert sorted(screened) == sorted(space.prompt({"color": w}) for w in modes.WORDS)
        assert all(r.draw.guidance_scale == 3.0 for p in done[1:3] for r, _ in p.jobs)
        fresh = [jobs for p in done if p.stage != "settings" for jobs in p.jobs]
        seeds = [s for _, wanted in fresh for s in wanted]
        assert len(set(seeds)) == len(seeds)
        shares = search.prior["color"]
        assert sum(shares.values()) == pytest.approx(1.0)
        firsts.append(max(shares, key=lambda word: shares[word]))
    assert firsts.count("brown") >= 5
    # However many prompts there are, the screen leaves most of a small budget to the rest.
    hurried = modes.make_search(real, space=space, images_per_trial=8, blind=True)
    assert [p.stage for p in run(hurried, 3, settings_trials=2)][1:] == ["screen", "settings"]


@pytest.mark.parametrize("blind", [False, True])
def test_replaying_the_finished_trials_gives_the_same_search(blind: bool) -> None:
    space = modes.make_space(guidance_scale=[1.0, 9.0])
    real = modes.mixed(TRUTH, 120, np.random.default_rng(6))
    options: dict[str, Any] = {"space": space, "images_per_trial": 8, "blind": blind}
    whole = modes.make_search(real, **options)
    done = run(whole, 14)
    assert ("screen" in {p.stage for p in done}) is blind
    for cut in (1, 2, 3, 4, 7, 8, 9, 11):
        again = modes.make_search(real, **options)
        for proposal in done[:cut]:
            row = {
                "number": proposal.number,
                "stage": proposal.stage,
                "params": proposal.params,
                "jobs": [{"recipe": r.to_json(), "seeds": list(s)} for r, s in proposal.jobs],
            }
            read = Proposal.from_row(json.loads(json.dumps(row)))
            assert read == proposal
            again.absorb(read, modes.shoot(read))
        assert run(again, 14) == done[cut:]
        assert again.mixture() == whole.mixture()


def test_three_failures_in_a_row_stop_a_class() -> None:
    real = modes.mixed(TRUTH, 80, np.random.default_rng(7))
    search = modes.make_search(real)
    proposal = search.propose(settings_trials=4)
    search.absorb_failure(proposal)
    # Trial 0 failed: the baseline is still what comes first.
    again = search.propose(settings_trials=4)
    assert (again.number, again.stage) == (1, "baseline")
    search.absorb(again, modes.shoot(again))
    for _ in range(FAILURES):
        assert search.stopped() is None
        search.absorb_failure(search.propose(settings_trials=4))
    assert search.stopped() == "3 failures in a row"
    assert not search.reopen()
    assert search.mixture().recipes == (proposal.jobs[0][0],)


def prompt_of(proposal: Proposal) -> str:
    return proposal.jobs[0][0].draw.prompt


def test_a_prompt_that_fails_does_not_take_the_others_with_it() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(9))
    search = modes.make_search(real)
    done: list[tuple[Proposal, bool]] = []
    while search.number < 9 and search.stopped() is None:
        proposal = search.propose(settings_trials=4)
        drawn = proposal.stage == "baseline" or prompt_of(proposal) != "a gray frog"
        if drawn:
            search.absorb(proposal, modes.shoot(proposal))
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
        if drawn:
            again.absorb(proposal, modes.shoot(proposal))
        else:
            again.absorb_failure(proposal)
    assert again.propose(settings_trials=4) == search.propose(settings_trials=4)
    # Once it is mended, what failed comes first.
    search.mend()
    assert prompt_of(search.propose(settings_trials=4)) == "a gray frog"


def test_a_prompt_that_has_had_its_chances_does_not_end_its_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(9))
    search = modes.make_search(real)
    while search.number < 14:  # all prompts are tried
        proposal = search.propose(settings_trials=6)
        search.absorb(proposal, modes.shoot(proposal))
    asked: list[int] = []

    def stubborn(*_: Any, seed: int, **__: Any) -> dict[str, Any]:
        """A sampler that comes back to one word, as TPE may to one that scored well once."""
        asked.append(seed)
        return {**(search.winner or {}), "color": "blue" if len(asked) % 4 else "gray"}

    monkeypatch.setattr("gapclose.loop.search.propose", stubborn)
    for _ in range(2):
        proposal = search.propose(settings_trials=4)
        assert prompt_of(proposal) == "a blue frog"
        search.absorb_failure(proposal)
    assert prompt_of(search.propose(settings_trials=4)) == "a gray frog"
    assert len(set(asked)) == len(asked) == 4  # each draw has a seed of its own


def test_a_pointed_prompt_that_fails_is_pending_no_more() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(10))
    search = modes.make_search(real)
    run(search, 2)
    search.point([{"color": "blue"}])
    assert search.pending
    proposal = search.propose(settings_trials=4)
    assert prompt_of(proposal) == "a blue frog"
    search.absorb_failure(proposal)
    assert search.pending  # it may have been an accident
    search.absorb_failure(proposal)
    assert not search.pending


def test_settings_that_fail_do_not_come_again_at_once() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(11))
    space = modes.make_space(guidance_scale=[1.0, 9.0], camera={"noise": [0.0, 0.05]})
    search = modes.make_search(real, space=space)
    run(search, 1)
    hints = [{"guidance_scale": 2.0, "camera.noise": 0.01}]
    asked = []
    for _ in range(FAILURES):  # none succeeds: there is no best whose camera could be changed
        proposal = search.propose(settings_trials=6, hints=hints)
        assert proposal.stage == "settings"
        asked.append(proposal.params)
        search.absorb_failure(proposal)
    assert asked[:2] == [space.baseline_settings(), hints[0]]
    assert asked[2] not in asked[:2]


def test_a_class_that_ends_inside_its_screen_has_a_mixture() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(12))
    search = modes.make_search(real, blind=True, images_per_trial=8)
    done = run(search, 2)
    assert [p.stage for p in done] == ["baseline", "screen"]
    while search.stopped() is None:
        search.absorb_failure(search.propose(settings_trials=12))
    assert search.stopped() == "3 failures in a row"
    assert sum(search.mixture().weights) == pytest.approx(1.0)


def test_a_class_that_gains_nothing_rests_and_may_be_reopened() -> None:
    # The real side is a mode that no word draws; what is picked by luck alone is less than a
    # tenth of this floor.
    rng = np.random.default_rng(8)
    real = modes.rows_of("plain", 80, rng)
    real[:, 1] -= 0.8
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    search = modes.make_search(real)
    search.floor = 0.05
    done = run(search, 80)
    assert search.stopped() == "no recipe promises a gain"
    tried = len({p.jobs[0][0].draw.prompt for p in done if p.stage == "joint"})
    assert PROMISES + len(modes.WORDS) <= len(done) < 40
    assert tried == len(modes.WORDS)  # no prompt of the prior is given up unseen
    assert search.reopen()
    assert search.stopped() is None
    search.joint_since_gain = PATIENCE + len(modes.WORDS)
    assert search.stopped() == "no gain for a while"


def test_too_few_valid_images_score_nothing() -> None:
    search = modes.make_search(modes.mixed(TRUTH, 80, np.random.default_rng(9)))
    proposal = search.propose(settings_trials=4)
    images = modes.shoot(proposal)
    one = Images(embeddings=images.embeddings[:1], recipes=(0,), seeds=images.seeds[:1])
    with pytest.raises(ValueError, match="fewer than 2"):
        search.absorb(proposal, one)
    assert search.number == 0
    assert len(search.bank) == 0


def test_what_a_trial_is_said_to_show() -> None:
    real = modes.mixed(TRUTH, 120, np.random.default_rng(10))
    search = modes.make_search(real)
    first = search.propose(settings_trials=4)
    images = modes.shoot(first)
    finding = search.absorb(first, images)
    wanted = mmd2(real=real, synthetic=images.embeddings, kernel=search.bank.kernel)
    assert finding.gap == pytest.approx(wanted, abs=1e-6)
    assert finding.value == finding.gap
    gaps = [finding.mixture_gap]
    for _ in range(6):
        proposal = search.propose(settings_trials=4)
        gaps.append(search.absorb(proposal, modes.shoot(proposal)).mixture_gap)
    assert gaps == sorted(gaps, reverse=True)


def test_mixtures_survive_json_and_share_out_seeds() -> None:
    space = modes.make_space()
    recipes = tuple(space.recipe({"color": w}) for w in ("brown", "gray", "red"))
    mixture = Mixture(recipes=recipes, weights=(0.6, 0.399, 0.001), gap_tune=0.25)
    assert Mixture.from_json(json.loads(json.dumps(mixture.to_json()))) == mixture
    jobs = mixture.jobs(range(100, 120))
    assert jobs == mixture.jobs(range(100, 120))
    assert [s for _, seeds in jobs for s in seeds] == list(range(100, 120))
    counts = {recipe: len(seeds) for recipe, seeds in mixture.jobs(range(10_000))}
    for recipe, weight in zip(recipes, mixture.weights, strict=True):
        assert abs(counts[recipe] - 10_000 * weight) < 4 * np.sqrt(10_000 * weight)
    assert all(seeds for _, seeds in jobs)  # nobody is asked for no image


def test_fresh_images_of_a_perfect_mixture_show_no_gap_in_the_mean() -> None:
    # In exact shares they would scatter less than a sample, and the gap be below 0.
    space = modes.make_space()
    share = 1 / len(modes.WORDS)
    recipes = tuple(space.recipe({"color": w}) for w in modes.WORDS)
    mixture = Mixture(recipes=recipes, weights=(share,) * len(recipes), gap_tune=0.0)
    even = dict.fromkeys(modes.WORDS, share)
    kernel = Kernel.fit(modes.mixed(even, 200, np.random.default_rng(0)))
    gaps = []
    for number in range(100):
        real = modes.sampled(even, 50, np.random.default_rng(number))
        jobs = tuple((r, tuple(s)) for r, s in mixture.jobs(range(50 * number, 50 * number + 50)))
        drawn = modes.shoot(Proposal(number=0, stage="joint", params={}, jobs=jobs))
        gaps.append(mmd2(real=real, synthetic=drawn.embeddings, kernel=kernel))
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / np.sqrt(len(gaps))


def test_smoothing_does_not_fall_for_the_luckiest_trial() -> None:
    rng = np.random.default_rng(0)
    guidance = np.linspace(0, 10, 21)
    points = guidance[:, None] / 10
    values = [0.02 * (g - 3) ** 2 + 0.05 * rng.normal() for g in guidance]
    values[18] = -0.2  # luck, far from the valley at 3
    assert int(np.argmin(values)) == 18
    best = int(np.argmin(smooth(points, values)))
    assert abs(guidance[best] - 3) < 2
    assert smooth(points[:3], values[:3]).tolist() == values[:3]


def test_what_a_person_pointed_at_is_tried_once_and_before_other_prompts() -> None:
    real = modes.mixed({"brown": 0.6, "gray": 0.4}, 120, np.random.default_rng(0))
    search = modes.make_search(real)
    while search.winner is None:
        proposal = search.propose(settings_trials=2)
        search.absorb(proposal, modes.shoot(proposal))
    words = [p for p in search.space.prompts() if p["color"] == "red"]
    assert not search.pending
    search.point(words)
    assert search.pending
    assert search.stopped() is None
    proposal = search.propose(settings_trials=2)
    assert proposal.params["color"] == "red"
    search.absorb(proposal, modes.shoot(proposal))
    assert not search.pending
    assert search.propose(settings_trials=2).params["color"] != "red"
