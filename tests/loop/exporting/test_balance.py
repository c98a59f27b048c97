"""Balance: exact counts of what classes and their groups lack, and what makes it up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from modes import WORDS, Reader
from pond_config import pond_config

from gapclose.analysis.image_folder import ImageSet
from gapclose.generators.recipe import Camera, Draw, Recipe
from gapclose.loop.exporting.balance import Lack, group_orders, lacks_of
from gapclose.loop.exporting.even_prompts import even_prompts
from gapclose.loop.exporting.orders import _class_orders
from gapclose.loop.exporting.plan import ClassPlan, Order
from gapclose.loop.search.space import Space
from gapclose.loop.work.sides import Side

CONFIG = pond_config(
    space={
        "prompt": "a photo of a {color} {class}{place}",
        "slots": {"color": ["", *WORDS], "place": ["", " on grass"]},
    }
)
SPACES = {name: Space.of(CONFIG, name) for name in ("frog", "ship")}


def side_of(**photos: list[str]) -> Side:
    """Photos that are read as these words, by class."""
    reader = Reader()
    paths = {
        name: tuple(Path(f"{name}/{i}.png") for i in range(len(mine)))
        for name, mine in photos.items()
    }
    sentences = {
        path: f"a photo of a {word} {name}"
        for name, mine in photos.items()
        for path, word in zip(paths[name], mine, strict=True)
    }
    rows = reader.embed_text([*sentences.values()]) if sentences else []
    return Side(
        name="real",
        images=ImageSet(root=Path(), files=()),
        paths=paths,
        rows=dict(zip(sentences, rows, strict=True)),
        judge_rows={},
        spectra={},
        digests={},
        unreadable=(),
        invalid=(),
        repeats=(),
    )


def plan_of(cls: str, *shares: tuple[str, float]) -> ClassPlan:
    """A plan whose mixture has these prompts and weights."""
    return ClassPlan(
        name=cls,
        recipes=tuple(Recipe(draw=Draw(prompt=p), camera=Camera()) for p, _ in shares),
        weights=tuple(w for _, w in shares),
        confirmed=True,
        row={},
        shown={},
    )


def counted(orders: list[Order]) -> Counter[str]:
    said = Counter[str]()
    for order in orders:
        said[order.recipe.draw.prompt] += order.images
    return said


def test_a_class_lacks_what_the_largest_has_more() -> None:
    side = side_of(frog=["brown"] * 3, ship=["gray"] * 8)
    lacks = lacks_of(side, SPACES, per_class=None, per_group=None, embedder=Reader())
    assert [(lack.n_real, lack.images) for lack in lacks.values()] == [(3, 5), (8, 0)]
    lacks = lacks_of(side, SPACES, per_class=6, per_group=None, embedder=Reader())
    assert [(lack.n_real, lack.images) for lack in lacks.values()] == [(3, 3), (8, 0)]
    assert all(lack.groups == {} for lack in lacks.values())


def test_a_group_is_filled_up_if_real_photos_show_it() -> None:
    words = ["brown"] * 9 + ["gray"] * 3 + ["red"]  # one may be misread
    side = side_of(frog=words, ship=[])
    lacks = lacks_of(side, SPACES, per_class=1, per_group=5, embedder=Reader())
    assert lacks["frog"] == Lack(n_real=13, images=0, groups={("color", "gray"): 2})
    assert lacks["ship"] == Lack(n_real=0, images=1, groups={})


@given(
    counts=st.lists(st.integers(0, 9), min_size=2, max_size=2),
    per_class=st.one_of(st.none(), st.integers(1, 12)),
)
def test_no_class_has_fewer_than_its_target(counts: list[int], per_class: int | None) -> None:
    side = side_of(frog=["brown"] * counts[0], ship=["gray"] * counts[1])
    lacks = lacks_of(side, SPACES, per_class=per_class, per_group=None, embedder=Reader())
    target = max(counts) if per_class is None else per_class
    for lack in lacks.values():
        assert lack.images >= 0
        assert lack.n_real + lack.images == max(target, lack.n_real)


def test_recipes_of_the_mixture_come_first_in_its_shares() -> None:
    plan = plan_of(
        "frog",
        ("a photo of a brown frog", 0.6),
        ("a photo of a gray frog", 0.1),
        ("a photo of a gray frog on grass", 0.3),
    )
    lack = Lack(n_real=0, images=9, groups={("color", "gray"): 8})
    orders = group_orders(plan, lack, SPACES["frog"], even=None)
    assert counted(orders) == {"a photo of a gray frog": 2, "a photo of a gray frog on grass": 6}
    assert not any(order.confirmed for order in orders)


def test_words_that_no_recipe_says_are_those_of_the_template() -> None:
    plan, space = plan_of("frog", ("a photo of a brown frog", 1.0)), SPACES["frog"]
    even = even_prompts(space, plan.mixture, seed=0)
    lack = Lack(n_real=0, images=0, groups={("color", "red"): 3})
    said = counted(group_orders(plan, lack, space, even=even))
    assert sum(said.values()) == 3
    assert {*said} == {"a photo of a red frog", "a photo of a red frog on grass"}
    assert group_orders(plan, lack, space, even=None) == []


@given(st.integers(0, 20), st.integers(1, 8))
def test_what_fills_up_a_group_counts_towards_its_class(images: int, gray: int) -> None:
    plan = plan_of("frog", ("a photo of a brown frog", 0.9), ("a photo of a gray frog", 0.1))
    lack = Lack(n_real=0, images=images, groups={("color", "gray"): gray})
    orders = _class_orders(plan, SPACES["frog"], lack, None, seed=0)
    assert sum(order.images for order in orders) == max(images, gray)
    assert sum(order.images for order in orders if not order.confirmed) == gray
    assert counted(orders)["a photo of a gray frog"] >= gray


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0.1, 0.9))
def test_an_image_counts_for_every_group_that_its_prompt_names(
    gray: int, grass: int, share: float
) -> None:
    plan = plan_of(
        "frog", ("a photo of a gray frog on grass", share), ("a photo of a frog", 1 - share)
    )
    lack = Lack(
        n_real=0, images=0, groups={("color", "gray"): gray, ("place", " on grass"): grass}
    )
    orders = group_orders(plan, lack, SPACES["frog"], even=None)
    assert sum(order.images for order in orders) == max(gray, grass)
    assert all(order.images > 0 for order in orders)


@given(
    images=st.integers(0, 40),
    share=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4),
)
def test_orders_share_out_every_image(images: int, share: float, weights: list[float]) -> None:
    plan = plan_of("frog", *((f"a photo of frog {i}", w) for i, w in enumerate(weights)))
    even = even_prompts(SPACES["frog"], plan.mixture, seed=0)
    orders = plan.orders(images, even=even, share=share)
    assert sum(order.images for order in orders) == images
    own = sum(order.images for order in orders if order.confirmed)
    assert abs(own - (1 - share) * images) <= 0.5
    if share == 0.0:
        assert orders == plan.orders(images)


def test_a_class_without_even_prompts_is_its_mixture() -> None:
    plan = plan_of("frog", ("a photo of a frog", 1.0))
    assert plan.orders(8, even=None, share=1.0) == plan.orders(8)


def test_without_photos_there_are_no_groups() -> None:
    lacks = lacks_of(
        side_of(frog=[], ship=[]), SPACES, per_class=2, per_group=9, embedder=Reader()
    )
    assert {lack.images for lack in lacks.values()} == {2}
    assert np.sum([len(lack.groups) for lack in lacks.values()]) == 0


def test_an_encoder_without_words_reads_no_groups() -> None:
    class Blind:
        id, width = "blind", 4

    side = side_of(frog=["brown"] * 3, ship=["gray"] * 8)
    lacks = lacks_of(side, SPACES, per_class=9, per_group=9, embedder=Blind())  # type: ignore[arg-type]
    assert [lack.groups for lack in lacks.values()] == [{}, {}]
