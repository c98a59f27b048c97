"""Sources: every image is told apart from its own photo, fresh or replayed, and under a camera."""

from __future__ import annotations

from dataclasses import replace

import modes
import numpy as np

from gapclose.analysis.gap import mmd2
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.run.photo_groups import PhotoGroup
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.sources import NO_SOURCES, Sources
from gapclose.loop.search.trial import Images, Proposal

PHOTOS = tuple(f"{number:016x}" for number in range(30))
ALL = PhotoGroup(cls="frog", name="all photos", captions=dict.fromkeys(PHOTOS, "a frog"))
FEW = PhotoGroup(cls="frog", name="group 1", captions=dict.fromkeys(PHOTOS[:3], "a frog"))
OWN = Sources(
    groups={group.digest: group for group in (ALL, FEW)},
    rows={photo: row for row, photo in enumerate(PHOTOS)},
)


def recipe(group: str | None) -> Recipe:
    return Recipe(draw=Draw(prompt="a brown frog, {caption}", photos=group), camera=Camera())


def images(jobs: int, n: int) -> Images:
    return Images(
        embeddings=np.zeros((jobs * n, 2), np.float32),
        recipes=tuple(np.repeat(range(jobs), n).tolist()),
        seeds=tuple(range(jobs * n)),
    )


def test_every_image_has_the_photo_that_its_seed_is_given() -> None:
    jobs = [(recipe(name), ()) for name in (ALL.digest, None, FEW.digest, "of another run")]
    found = OWN.named(images(4, 5), jobs)
    wanted = [PHOTOS.index(ALL.pick(seed)) for seed in range(5)] + [-1] * 5
    wanted += [PHOTOS.index(FEW.pick(seed)) for seed in range(10, 15)] + [-1] * 5
    assert found.sources == tuple(wanted)
    assert len({*found.sources}) > 5


def test_a_photo_that_has_gone_is_the_source_of_none() -> None:
    fewer = replace(OWN, rows={PHOTOS[0]: 0})
    found = fewer.named(images(1, 40), [(recipe(ALL.digest), ())])
    assert {*found.sources} == {0, -1}


def test_images_without_photos_have_no_sources() -> None:
    assert OWN.named(images(1, 2), [(recipe(None), ())]).sources == (-1, -1)
    assert NO_SOURCES.named(images(1, 2), [(recipe(ALL.digest), ())]).sources == ()


def copied(search: ClassSearch, proposal: Proposal, real: modes.Rows) -> Images:
    """What a generator gives that copies its photos."""
    found = search.sources.named(modes.generate(proposal), proposal.jobs)
    own = np.asarray(found.sources or [-1] * len(found))[:, None]
    return replace(found, embeddings=np.where(own >= 0, real[own[:, 0]], found.embeddings))


def test_a_search_is_not_flattered_by_copies() -> None:
    rng = np.random.default_rng(0)
    real = modes.mixed({"brown": 1.0}, 30, rng)
    search = modes.make_search(real, sources=OWN, confirm_images=60)
    baseline = modes.propose(search, settings_trials=0)
    search.absorb(baseline, modes.generate(baseline))
    jobs = ((recipe(ALL.digest), tuple(range(5_000, 5_060))),)
    proposal = Proposal(number=1, stage="joint", params={"color": "brown"}, jobs=jobs)
    search.begin(proposal)
    made = copied(search, proposal, real)
    finding = search.absorb(proposal, replace(made, sources=()))
    rows = made.embeddings
    assert finding.gap > 0 > mmd2(real=real, synthetic=rows, kernel=search.bank.kernel)
    # Nor is the measurement of its mixture, nor a camera.
    jobs = ((recipe(ALL.digest), tuple(range(6_000, 6_100))),)
    measuring = Proposal(number=2, stage="mixture", params={}, jobs=jobs)
    search.begin(measuring)
    again = copied(search, measuring, real)
    told = search.absorb(measuring, replace(again, sources=()))
    assert told.mixture_gap == told.gap > 0
    drawn = search.drawn()
    again = Images(
        embeddings=np.concatenate([search.bank.rows_of(n)[0] for n in range(len(drawn))]),
        recipes=tuple(n for n, (_, seeds) in enumerate(drawn) for _ in seeds),
        seeds=tuple(seed for _, seeds in drawn for seed in seeds),
    )
    before = search.bank.q
    search.change_camera(Camera(noise=0.1), again)
    np.testing.assert_allclose(search.bank.q, before, atol=1e-6)
