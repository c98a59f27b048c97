"""Photo groups: a group is its content, and gives each of its photos as often as any other."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.photo_groups import ALL_PHOTOS, PhotoGroup, keep_group, read_group

CAPTIONS = {f"{i:016x}": f"a brown frog, number {i}" for i in range(8)}


def group(name: str = ALL_PHOTOS, **captions: str | None) -> PhotoGroup:
    return PhotoGroup(cls="frog", name=name, captions={**CAPTIONS, **captions})


def test_its_digest_is_its_content() -> None:
    assert group().digest == group().digest
    assert len(group().digest) == 16
    others = [
        group("group 1"),
        group(**{"0" * 16: "a gray frog"}),
        group(**{"f" * 16: None}),
        PhotoGroup(cls="toad", name=ALL_PHOTOS, captions=CAPTIONS),
        PhotoGroup(cls="frog", name=ALL_PHOTOS, captions=dict(reversed(CAPTIONS.items()))),
    ]
    assert len({g.digest for g in [group(), *others]}) == 6


def test_a_group_without_photos_is_none() -> None:
    with pytest.raises(ValueError, match="frog: group 1 has no photos"):
        PhotoGroup(cls="frog", name="group 1", captions={})


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_seed_is_given_the_same_photo_every_time(seed: int) -> None:
    assert group().pick(seed) == group().pick(seed)
    assert group().pick(seed) in CAPTIONS


def test_every_photo_is_as_likely_as_any_other_and_seeds_do_not_take_turns() -> None:
    picked = [group().pick(seed) for seed in range(2_000_000, 2_008_000)]
    counts = Counter(picked)
    # Eight cells of 1,000 on average: chi squared of 7 degrees is below 24.3 in 99.9 %.
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 24.3
    # Neighbours agree one time in eight; photos in turn would never.
    agree = sum(a == b for a, b in itertools.pairwise(picked))
    assert 850 < agree < 1150
    assert [group("group 1").pick(seed) for seed in range(2_000_000, 2_000_050)] != picked[:50]


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    run, kept = RunDir(tmp_path), group(**{"f" * 16: None})
    keep_group(run, kept)
    assert read_group(run, kept.digest) == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain["photos"].pop(),
        lambda plain: plain["photos"][0].update(caption="a green frog"),
        lambda plain: plain.update({"class": "toad"}),
        lambda plain: plain.pop("name"),
        lambda plain: plain.update(photos=[1]),
        lambda plain: plain.update(photos=None),
    ],
)
def test_another_content_under_its_name_is_refused(tmp_path: Path, change: object) -> None:
    run = RunDir(tmp_path)
    keep_group(run, group())
    path = tmp_path / "photo_groups" / f"{group().digest}.json"
    plain = json.loads(path.read_text())
    change(plain)  # type: ignore[operator]
    path.write_text(json.dumps(plain))
    with pytest.raises(RunDamagedError, match="missing or damaged; restore it from a copy"):
        read_group(run, group().digest)


def test_a_group_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDamagedError, match=f"{group().digest}.json"):
        read_group(RunDir(tmp_path), group().digest)
