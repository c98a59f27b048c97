from __future__ import annotations

from gapclose.loop.validation.arms import Part, arms_of

RUN = ("baseline", "tuned", "even", "real")
FOLDERS = ("synthetic", "real")


def parts(pools: tuple[str, ...], n: int = 200) -> dict[str, tuple[Part, ...]]:
    return {arm.name: arm.parts for arm in arms_of(pools, n=n)}


def test_a_run_has_all_arms_that_its_pools_allow() -> None:
    assert {*parts(RUN)} == {*RUN, "mixed", "few", "few+tuned"}
    assert {*parts(("baseline", "even", "real"))} == {"baseline", "even", "real", "few"}
    assert {*parts(FOLDERS)} == {*FOLDERS, "few", "few+synthetic"}


def test_every_arm_has_as_many_images_but_for_those_of_few_photos() -> None:
    for n in (200, 51):
        for name, its in parts(RUN, n).items():
            taken = sum(len(range(part.n)[part.first :: part.step]) for part in its)
            assert taken == {"few": 20, "few+tuned": 20 + n}.get(name, n)


def test_half_and_half_takes_other_images_of_each() -> None:
    tuned, even = parts(RUN)["mixed"]
    assert (tuned.pool, even.pool) == ("tuned", "even")
    own = [{*range(part.n)[part.first :: part.step]} for part in (tuned, even)]
    assert not own[0] & own[1]
    assert own[0] | own[1] == {*range(200)}


def test_few_photos_are_no_arm_where_nobody_has_more() -> None:
    assert {*parts(RUN, 20)} == {*RUN, "mixed"}
    assert "few" in parts(RUN, 21)
