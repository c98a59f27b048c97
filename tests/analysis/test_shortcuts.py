"""Shortcuts that were put there are seen, and what all classes share is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.low_level import FEATURES, GROUPS, measure
from gapclose.analysis.shortcuts import (
    Difference,
    ShortcutProbe,
    measure_classes,
    probe_shortcuts,
)
from gapclose.analysis.significance import LEVEL

Rows = NDArray[np.float64]
CLASSES = ("cat", "dog", "frog", "ship")
CONTENT = np.random.default_rng(1).normal(size=(len(CLASSES), len(FEATURES)))
NOISE = [i for i, feature in enumerate(FEATURES) if feature.group == "noise"]


def rows(
    n: int = 30,
    *,
    seed: int,
    shifts: Mapping[str, float] | None = None,
    content: float = 0.5,
    spread: float = 1.0,
) -> dict[str, Rows]:
    """Rows that tell the classes a little, as photos do; `shifts` are added to the noise."""
    random = np.random.default_rng(seed)
    found = {}
    for number, cls in enumerate(CLASSES):
        own = content * CONTENT[number] + spread * random.normal(size=(n, len(FEATURES)))
        own[:, NOISE] += (shifts or {}).get(cls, 0.0)
        found[cls] = own
    return found


def flagged(real: Mapping[str, Rows], synthetic: Mapping[str, Rows], seed: int = 0) -> list[str]:
    probes = probe_shortcuts(real=real, synthetic=synthetic, permutations=199, seed=seed)
    return [probe.feature for probe in probes if probe.objection()]


@cache
def painted(cls: str, noise: float, start: int, n: int = 40) -> Rows:
    """Squares of a class's colour on a slope, under noise in grey levels."""
    found = []
    for seed in range(start, start + n):
        random = np.random.default_rng([seed, CLASSES.index(cls)])
        image = np.linspace(90, 150, 32)[:, None, None] + np.zeros((32, 32, 3))
        top, left = random.integers(4, 12, 2)
        image[top : top + 14, left : left + 14, CLASSES.index(cls) % 3] += random.uniform(20, 60)
        image += noise * random.normal(size=image.shape)
        found.append(measure(np.rint(image).clip(0, 255).astype(np.uint8)))
    return np.stack(found)


def test_a_camera_for_one_class_is_a_shortcut_and_one_for_all_is_none() -> None:
    real = {cls: painted(cls, 4.6, 0) for cls in CLASSES}
    alike = {cls: painted(cls, 4.6, 1_000) for cls in CLASSES}
    assert flagged(real, alike) == []
    for noise in (0.0, 9.6):
        assert flagged(real, {cls: painted(cls, noise, 2_000) for cls in CLASSES}) == []
    noise, *_ = probe_shortcuts(real=real, synthetic=alike | {"frog": painted("frog", 9.6, 2_000)})
    assert noise.feature == "noise"
    assert noise.synthetic > noise.real + 0.1
    assert [(one.cls, "nois" in one.how) for one in noise.differs] == [("frog", True)]


def test_each_class_that_differs_is_named_with_what_it_is() -> None:
    synthetic = rows(60, seed=1, shifts={"frog": 3.0, "ship": -3.0})
    probes = probe_shortcuts(real=rows(60, seed=0), synthetic=synthetic)
    noise = probes[GROUPS.index("noise")]
    assert {one.cls for one in noise.differs} == {"frog", "ship"}
    words = {one.cls: one.how for one in noise.differs}
    assert words["frog"] in {FEATURES[i].more for i in NOISE}
    assert words["ship"] in {FEATURES[i].less for i in NOISE}
    assert all(bool(probe.differs) == (probe.p_value <= LEVEL) for probe in probes)


def test_halves_are_flagged_as_seldom_as_the_level_says() -> None:
    told = [bool(flagged(rows(seed=2 * s), rows(seed=2 * s + 1), seed=s)) for s in range(60)]
    assert sum(told) <= 7  # 3 expected; more than 7 once in 100


def test_power_on_one_class_of_four() -> None:
    frogs = {"frog": 2.0}
    told = [
        "noise" in flagged(rows(60, seed=2 * s), rows(60, seed=2 * s + 1, shifts=frogs), seed=s)
        for s in range(8)
    ]
    assert sum(told) >= 7


def test_what_tells_real_classes_may_tell_synthetic_ones_better() -> None:
    seen = 0
    for seed in range(5):
        real, clearer = rows(200, seed=2 * seed), rows(200, seed=2 * seed + 1, spread=0.6)
        probes = probe_shortcuts(real=real, synthetic=clearer, permutations=199)
        spectrum = probes[GROUPS.index("spectrum")]
        assert spectrum.synthetic > spectrum.real + 0.1
        assert spectrum.by_real_rule > spectrum.real + 0.1
        seen += spectrum.objection() is not None
    assert seen <= 1


def test_a_shift_and_scale_that_all_classes_share_is_none() -> None:
    shared = {cls: 5.0 - 3.0 * own for cls, own in rows(60, seed=1).items()}
    mirrored = {cls: -own for cls, own in shared.items()}
    assert flagged(rows(60, seed=0), mirrored) == []


def test_without_two_classes_of_twenty_images_there_is_nothing_to_say() -> None:
    real, synthetic = rows(seed=0), rows(seed=1, shifts={"frog": 3.0})
    assert probe_shortcuts(real={}, synthetic={}) == ()
    assert probe_shortcuts(real={"frog": real["frog"]}, synthetic=synthetic) == ()
    few = {cls: own[: 20 if cls == "frog" else 19] for cls, own in synthetic.items()}
    assert probe_shortcuts(real=real, synthetic=few) == ()
    few["ship"] = synthetic["ship"][:20]
    assert len(probe_shortcuts(real=real, synthetic=few)) == len(GROUPS)


def test_the_same_seed_gives_the_same_and_sides_may_be_of_other_sizes() -> None:
    real, synthetic = rows(90, seed=0), rows(25, seed=1, shifts={"frog": 1.0})
    told = [probe_shortcuts(real=real, synthetic=synthetic, seed=s) for s in (0, 0, 1)]
    assert told[0] == told[1] != told[2]
    later = dict(reversed(real.items()))
    assert len(probe_shortcuts(real=later, synthetic=synthetic)) == len(GROUPS)


def test_what_never_varies_tells_a_class_by_chance() -> None:
    real, synthetic = rows(seed=0), rows(seed=1)
    for side in (real, synthetic):
        for own in side.values():
            own[:, [i for i, f in enumerate(FEATURES) if f.group == "size"]] = 10.0
    size = probe_shortcuts(real=real, synthetic=synthetic)[GROUPS.index("size")]
    assert (size.real, size.synthetic, size.by_real_rule, size.p_value) == (0.25, 0.25, 0.25, 1.0)


def save(folder: Path, cls: str, n: int, *, size: int = 32, quality: int, seed: int) -> list[Path]:
    (folder / cls).mkdir(parents=True)
    random = np.random.default_rng([seed, CLASSES.index(cls)])
    paths = []
    for number in range(n):
        small = random.integers(60, 200, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
        paths.append(folder / cls / f"{number}.jpg")
        image.save(paths[-1], quality=quality)
    return paths


def test_files_are_measured_and_their_codec_and_size_are_seen(tmp_path: Path) -> None:
    real = {c: save(tmp_path / "real", c, 25, quality=90, seed=0) for c in CLASSES}
    alike = {c: save(tmp_path / "alike", c, 22, quality=90, seed=1) for c in CLASSES}
    photos = measure_classes(real)

    def probed(synthetic: Mapping[str, list[Path]]) -> dict[str, ShortcutProbe]:
        probes = probe_shortcuts(real=photos, synthetic=measure_classes(synthetic))
        return {probe.feature: probe for probe in probes}

    assert not [p for p in probed(alike).values() if p.objection()]
    frogs = save(tmp_path / "jpeg", "frog", 22, quality=60, seed=1)
    told = probed(alike | {"frog": frogs})
    assert told["codec"].objection()
    assert [one.cls for one in told["codec"].differs] == ["frog"]
    large = save(tmp_path / "size", "ship", 22, size=40, quality=90, seed=1)
    told = probed(alike | {"ship": large})
    assert told["size"].objection()
    assert told["size"].differs == (Difference(cls="ship", how="larger"),)


def test_only_files_that_enter_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def measured(paths: list[Path]) -> Rows:
        read.extend(paths)
        return np.zeros((len(paths), len(FEATURES)))

    monkeypatch.setattr("gapclose.analysis.shortcuts.measure_files", measured)
    files = {cls: [tmp_path / f"{cls}{i}" for i in range(5_000)] for cls in CLASSES}
    assert {cls: len(own) for cls, own in measure_classes(files).items()} == dict.fromkeys(
        CLASSES, 500
    )
    assert len(read) == len(set(read)) == 2_000
    assert {tmp_path / "cat0", tmp_path / "cat4990"} <= {*read}
    read.clear()
    few = {cls: paths[:30] for cls, paths in files.items()}
    assert [len(own) for own in measure_classes(few, most=40).values()] == [20] * 4
    assert [len(own) for own in measure_classes(few).values()] == [30] * 4
    assert measure_classes({}) == {}


def test_of_very_many_classes_some_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gapclose.analysis.shortcuts.measure_files",
        lambda paths: np.random.default_rng(len(paths)).normal(size=(len(paths), len(FEATURES))),
    )
    files = {f"c{i:03}": [Path(str(j)) for j in range(25)] for i in range(250)}
    side = measure_classes(files)
    assert len(side) == 100
    assert {"c000", "c005", "c247"} <= {*side}
    every = {cls: np.tile(side["c000"], (1, 1)) for cls in files}
    (one, *_) = probe_shortcuts(real=every, synthetic=every, permutations=1)
    assert one.n_classes == 100


def test_an_objection_in_words_and_the_row_in_json() -> None:
    probe = ShortcutProbe(
        feature="noise",
        real=0.21,
        synthetic=0.62,
        by_real_rule=0.12,
        p_value=0.01,
        n_classes=10,
        differs=(
            Difference(cls="deer", how="less noisy"),
            Difference(cls="frog", how="noisier"),
            Difference(cls="ship", how="less noisy"),
        ),
    )
    told = (
        "noise tells the classes of the synthetic images apart (62% right, real images 21%): "
        "a classifier may learn it instead of the class (deer, ship: less noisy; frog: noisier)"
    )
    assert probe.objection() == told
    row = json.loads(json.dumps(probe.to_json()))
    assert {key: row[key] for key in ("feature", "real", "synthetic", "p_value")} == {
        "feature": "noise",
        "real": 0.21,
        "synthetic": 0.62,
        "p_value": 0.01,
    }
    assert row["objection"] == told
    assert row["differs"][1] == {"class": "frog", "how": "noisier"}
    assert replace(probe, p_value=0.06).objection() is None
    assert replace(probe, p_value=0.06).to_json()["objection"] is None


def test_what_is_significant_and_small_is_no_objection() -> None:
    probe = ShortcutProbe(
        feature="codec",
        real=0.1,
        synthetic=0.13,
        by_real_rule=0.08,
        p_value=0.01,
        n_classes=10,
    )
    assert probe.excess == pytest.approx(0.03)
    assert probe.objection() is None  # 0.3 of one class of ten
    assert replace(probe, synthetic=0.14).objection()
    assert replace(probe, n_classes=12).objection()
    assert replace(probe, synthetic=0.14, by_real_rule=0.12).objection() is None


def test_rows_of_another_kind_are_refused() -> None:
    real = rows(seed=0)
    with pytest.raises(ValueError, match=f"ship: rows must be finite and of {len(FEATURES)}"):
        probe_shortcuts(real=real, synthetic=real | {"ship": real["ship"][:, 1:]})
    broken = real["ship"].copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="ship"):
        probe_shortcuts(real=real | {"ship": broken}, synthetic=real)
