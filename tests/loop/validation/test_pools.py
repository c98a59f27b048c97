from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_run import Renderer
from PIL import Image
from sphere import unit

from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Notice, Task, TaskAdvanced
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.pools import MixturePool, PhotoPool, make_ready
from gapclose.loop.work.synthesis import Synthesis


class Blind:
    """An embedder that no pool asks."""

    id, width = "blind", 4

    def embed(self, images: list[Pixels]) -> np.ndarray:
        return unit(len(images), 4)


class Counting(Renderer):
    """A renderer that counts its images."""

    def __init__(self, spoil: int = 0) -> None:
        super().__init__(spoil)
        self.made = 0

    def generate(self, draw: Draw, seeds: list[int]) -> object:  # type: ignore[override]
        self.made += len(seeds)
        return super().generate(draw, seeds)


def mixture(*prompts: str, noise: float = 0.0) -> Mixture:
    recipes = tuple(
        Recipe(draw=Draw(prompt=prompt), camera=Camera(noise=noise)) for prompt in prompts
    )
    return Mixture(recipes=recipes, weights=(1 / len(recipes),) * len(recipes), gap_tune=0.0)


def generated(path: Path, generator: Renderer, *, number: int = 0, of: Mixture | None = None):  # type: ignore[no-untyped-def]
    synthesis = Synthesis(generator=generator, embedder=Blind(), rundir=RunDir(path))
    mixtures = {"frog": of or mixture("a green frog", "a brown frog")}
    return MixturePool(
        mixtures=mixtures, number=number, pools=3, synthesis=synthesis, seeds=SeedBlocks(seed=0)
    )


def photos(n: int, *, seed: int = 0) -> PhotoPool:
    paths = [Path(f"{number}.png") for number in range(n)]
    digests = {path: f"content {path}".encode() for path in paths}
    return PhotoPool(paths={"frog": paths}, digests=digests, seed=seed)


@given(st.integers(1, 60), st.integers(0, 2), st.integers(1, 80), st.integers(1, 80))
def test_one_two_and_four_draws_share_as_few_as_they_can_and_few_are_among_many(
    n: int, doublings: int, some: int, more: int
) -> None:
    pool, draws = photos(n), 2**doublings
    chosen = [pool._chosen("frog", draw, some) for draw in range(draws)]
    for draw, own in enumerate(chosen):
        assert len(own) == len({*own}) == min(n, some)
        assert pool._chosen("frog", draw, max(some, more))[: len(own)] == own
    if some * draws <= n - draws:
        assert len({path for own in chosen for path in own}) == some * draws


def test_draws_begin_far_apart() -> None:
    order = photos(64)._chosen("frog", 0, 64)
    begins = [order.index(photos(64)._chosen("frog", draw, 1)[0]) for draw in range(8)]
    assert begins == [0, 32, 16, 48, 8, 40, 24, 56]


def test_the_order_of_photos_is_of_their_content() -> None:
    pool = photos(30)
    moved = PhotoPool(
        paths={"frog": [Path("elsewhere") / path for path in reversed(pool.paths["frog"])]},
        digests={Path("elsewhere") / path: digest for path, digest in pool.digests.items()},
        seed=0,
    )
    assert pool.key("frog", draw=1, n=9) == moved.key("frog", draw=1, n=9)
    assert pool.key("frog", draw=1, n=9) != photos(30, seed=1).key("frog", draw=1, n=9)
    assert pool.key("frog", draw=1, n=9) != pool.key("frog", draw=0, n=9)
    assert pool.is_ready("frog", draw=0, n=9)


def test_photos_are_read_as_they_lie_there(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.new("RGB", (6, 5), (1, 2, 3))
    image.putpixel((5, 4), (9, 9, 9))
    image.save(path)
    pool = PhotoPool(paths={"frog": [path]}, digests={path: b"x"}, seed=0)
    (read,) = pool.images("frog", draw=1, n=50)
    assert read.shape == (5, 6, 3)
    assert [*read[0, 0]] == [1, 2, 3]


def test_what_was_generated_whole_is_read_back(tmp_path: Path) -> None:
    generator = Counting()
    pool = generated(tmp_path, generator)
    assert not pool.is_ready("frog", draw=0, n=10)
    first = [*pool.images("frog", draw=0, n=10)]
    assert pool.is_ready("frog", draw=0, n=10)
    again = [*generated(tmp_path, generator).images("frog", draw=0, n=10)]
    assert generator.made == 10
    np.testing.assert_array_equal(first, again)
    assert not pool.is_ready("frog", draw=1, n=10)
    assert not pool.is_ready("frog", draw=0, n=11)


def test_of_what_was_cut_off_nothing_is_read_back(tmp_path: Path) -> None:
    """An image may have come of another batch."""
    generator = Counting()
    [*generated(tmp_path, generator).images("frog", draw=0, n=10)]
    for mark in (tmp_path / "validation" / "generated").iterdir():
        mark.unlink()
    [*generated(tmp_path, generator).images("frog", draw=0, n=10)]
    assert generator.made == 20


def test_images_come_in_the_shares_of_the_weights_through_their_cameras(tmp_path: Path) -> None:
    of = Mixture(
        recipes=(*mixture("a green frog").recipes, *mixture("a red frog", noise=0.2).recipes),
        weights=(0.8, 0.2),
        gap_tune=0.0,
    )
    pool = generated(tmp_path, Renderer(), of=of)
    jobs = pool.jobs("frog", 0, 10)
    assert [(recipe.draw.prompt, len(seeds)) for recipe, seeds in jobs] == [
        ("a green frog", 8),
        ("a red frog", 2),
    ]
    images = [*pool.images("frog", draw=0, n=10)]
    rough = [float(np.abs(np.diff(image.astype(float), axis=1)).mean()) for image in images]
    assert min(rough[8:]) > 2 * max(rough[:8])


def test_invalid_images_are_left_out(tmp_path: Path) -> None:
    assert len([*generated(tmp_path, Renderer(spoil=5)).images("frog", draw=0, n=10)]) == 8


def test_pools_and_draws_share_no_seed(tmp_path: Path) -> None:
    used = [
        seed
        for number in range(3)
        for draw in range(2)
        for _, seeds in generated(tmp_path, Renderer(), number=number).jobs("frog", draw, 50)
        for seed in seeds
    ]
    assert len(used) == len({*used}) == 300


def test_keys_tell_mixtures_apart(tmp_path: Path) -> None:
    def key(*prompts: str, noise: float = 0.0) -> str:
        pool = generated(tmp_path, Renderer(), of=mixture(*prompts, noise=noise))
        return str(pool.key("frog", draw=0, n=10))

    keys = {key("a frog"), key("a toad"), key("a frog", noise=0.1), key("a frog", "a toad")}
    assert len(keys) == 4
    assert key("a frog") in keys


def test_what_is_generated_ahead_is_told_and_done_once(tmp_path: Path) -> None:
    class Listener(SilentReporter):
        def __init__(self) -> None:
            self.told: list[Notice] = []

        def tell(self, notice: Notice) -> None:
            self.told.append(notice)

    generator, listener = Counting(), Listener()
    pools = {"tuned": generated(tmp_path, generator), "real": photos(3)}
    wanted = [("tuned", 6), ("tuned", 6), ("real", 6)]
    make_ready(pools, wanted, ["frog"], draw=0, reporter=listener)
    assert generator.made == 6
    counts = [(n.done, n.total) for n in listener.told if isinstance(n, TaskAdvanced)]
    assert counts == [(6, 6)]
    assert {notice.task for notice in listener.told} == {Task.TRAINING_IMAGES}  # type: ignore[union-attr]
    make_ready(pools, wanted, ["frog"], draw=0, reporter=listener)
    assert (generator.made, len(listener.told)) == (6, 2)


@pytest.mark.parametrize("n", [1, 7])
def test_fewer_photos_than_asked_for_are_all_of_them(n: int) -> None:
    pool = photos(n)
    assert {*pool._chosen("frog", 0, 20)} == {*pool.paths["frog"]}
