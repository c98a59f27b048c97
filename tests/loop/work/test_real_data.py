from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import opened as fold_opened
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gapclose.analysis import image_folder
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.errors import RealDataError
from gapclose.analysis.image_folder import scan
from gapclose.generators.pond.renderer import write_real
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import PondReal
from gapclose.loop.errors import ConfigError
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.work.real_data import (
    Fold,
    check_real,
    compare_photos,
    cut_test,
    open_real_data,
    own_photos,
    rendered_pond,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_real(folder, per_class=450, classes=("frog",))
    write_real(folder, per_class=60, classes=("ship",))
    return folder


def config(path: Path, **changes: Any) -> RunConfig:
    shares = {"confirm_share": 0.5} | {
        key: changes.pop(key) for key in ("confirm_share", "test_share") if key in changes
    }
    real = {"path": str(path)} | shares
    generator = {"kind": "diffusers", "model": "pond"}
    return parse_config({"real": real, "generator": generator, "embedder": "pond"} | changes)


def opened(
    folder: Path,
    classes: tuple[str, ...],
    *,
    pinned: dict[str, Any] | None = None,
    cuts: dict[str, int] | None = None,
    tuned: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    real, side, now = open_real_data(
        scan(folder),
        classes,
        config=config(folder, **changes),
        reporter=SilentReporter(),
        loaded={},
        pinned=pinned,
        cuts=cuts,
        tuned=tuned,
    )
    if cuts is not None:
        cuts |= now
    return real, side


def test_folds_are_disjoint_and_large_enough(photos: Path) -> None:
    real_data, side = opened(photos, ("frog", "ship"), judge="pond-judge")
    assert (side.unreadable, side.invalid, side.repeats) == ((), (), ())
    frog, ship = real_data["frog"], real_data["ship"]
    sides = [frog.tune, *frog.folds]
    paths = [path for side in sides for path in side.paths]
    assert len(paths) == len(set(paths)) == 450
    assert len(frog.folds) == 2  # about 225 in the confirm split
    assert all(len(part) >= 100 for part in frog.folds)
    assert len(ship.folds) == 1  # too few to cut, used whole
    assert len(ship.tune) + len(ship.folds[0]) == 60
    # Rows are those of their images, the judge's too.
    part = frog.folds[1]
    for name, rows in (("pond", part.rows), ("pond-judge", part.judge_rows["pond-judge"])):
        fresh = make_embedder(name).embed([read_rgb(p) for p in part.paths[:3]])
        np.testing.assert_allclose(rows[:3], fresh, atol=1e-4)


def test_photos_of_pinned_folds_stay_apart_from_those_that_came_since(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=640, classes=("frog",))
    later = sorted((tmp_path / "frog").iterdir())[:300]
    for path in later:
        path.rename(tmp_path / path.name)

    pinned: dict[str, Any] = {}

    def cut() -> tuple[Fold, ...]:
        folds: tuple[Fold, ...] = opened(tmp_path, ("frog",), pinned=pinned)[0]["frog"].folds
        return folds

    (before,) = cut()
    pinned["frog"] = [before.photos]
    assert cut()[0].paths == before.paths
    assert len(cut()) == 1  # nothing came: there is no other fold
    for path in later:
        (tmp_path / path.name).rename(tmp_path / "frog" / f"0{path.name}")  # before all others
    seen, second = cut()
    assert seen.paths == before.paths
    assert len(second) >= 100
    assert not {*second.paths} & {*before.paths}
    pinned["frog"] = [seen.photos, second.photos]
    assert [part.paths for part in cut()] == [seen.paths, second.paths]
    for path in before.paths[20:]:
        path.unlink()
    assert len(cut()[0]) == 20
    before.paths[0].unlink()
    with pytest.raises(RealDataError, match="class frog: fewer than 20 are left of the photos of"):
        cut()


def test_an_evaluation_changes_no_fold_that_is_not_spent(photos: Path) -> None:
    def cut(evaluated: int) -> list[tuple[Path, ...]]:
        folds = opened(photos, ("frog",))[0]["frog"].folds[:evaluated]
        pinned = {"frog": [fold.photos for fold in folds]}
        return [fold.paths for fold in opened(photos, ("frog",), pinned=pinned)[0]["frog"].folds]

    assert len(cut(0)) == 2
    assert cut(0) == cut(1) == cut(2)


def test_the_kernel_is_frozen_from_the_tune_split(photos: Path) -> None:
    from gapclose.analysis.kernel import Kernel

    frog = opened(photos, ("frog",))[0]["frog"]
    assert frog.kernel == Kernel.fit(frog.tune.rows)
    assert frog.judge_kernels == frog.tune.judge_rows == {}


def test_the_split_follows_the_seed(photos: Path) -> None:
    one = opened(photos, ("ship",))[0]["ship"].tune.paths
    assert opened(photos, ("ship",))[0]["ship"].tune.paths == one
    assert opened(photos, ("ship",), tune={"seed": 1})[0]["ship"].tune.paths != one


@pytest.mark.parametrize("seed", range(6))
def test_a_class_just_large_enough_can_be_scored_on_both_sides(tmp_path: Path, seed: int) -> None:
    write_real(tmp_path, per_class=42, seed=seed + 1, classes=("cat",))
    cat = opened(tmp_path, ("cat",))[0]["cat"]
    assert min(len(cat.tune), len(cat.folds[0])) >= 20  # what a gap needs


def test_photos_that_come_later_move_none_to_the_other_side(tmp_path: Path) -> None:
    photos, cuts = tmp_path / "photos", {}
    write_real(photos, per_class=420, classes=("frog",))
    later = tmp_path / "later"
    later.mkdir()
    for path in sorted((photos / "frog").iterdir())[40:]:
        path.rename(later / path.name)
    before = opened(photos, ("frog",), cuts=cuts)[0]["frog"]
    assert cuts["frog"] > 0  # the first cut leaves a side of under 20
    for path in later.iterdir():
        path.rename(photos / "frog" / path.name)
    after = opened(photos, ("frog",), cuts=cuts)[0]["frog"]
    assert set(before.tune.paths) <= set(after.tune.paths)
    confirm = {path for part in after.folds for path in part.paths}
    assert {path for part in before.folds for path in part.paths} <= confirm
    forgot = opened(photos, ("frog",))[0]["frog"]
    assert not set(before.tune.paths) <= set(forgot.tune.paths)


def test_a_share_that_leaves_too_few_is_the_configs_fault(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=60, classes=("cat",))
    with pytest.raises(RealDataError, match="confirm_share"):
        opened(tmp_path, ("cat",), confirm_share=0.98)
    with pytest.raises(RealDataError, match=r"class cat: real.confirm_share 0\.02 of 60 images"):
        check_real(config(tmp_path, confirm_share=0.02))  # before anything is embedded


contents = st.sets(st.text("abcdef", min_size=1, max_size=6), max_size=60)


@given(contents, contents, st.floats(0.0, 0.99))
def test_the_test_part_is_of_each_photo_alone(
    before: set[str], after: set[str], share: float
) -> None:
    """Whatever others there are, and whatever they are called."""

    def test_part(photos: set[str], folder: str) -> set[str]:
        paths = [Path(folder) / photo for photo in sorted(photos)]
        left, test = cut_test(paths, share)
        assert {*left} | {*test} == {*paths}
        assert not {*left} & {*test}
        return {path.name for path in test}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_folder, "digest", lambda path: path.name)
        both = before & after
        assert test_part(before, "a") & both == test_part(after, "b") & both
        assert not test_part(before, "a") or share > 0


def test_no_photo_of_the_test_part_is_searched_with_or_confirmed_by(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=200, classes=("cat",))

    def sides(**changes: Any) -> tuple[set[Path], set[Path], set[Path]]:
        real, side = opened(tmp_path, ("cat",), **changes)
        cat = real["cat"]
        test = cut_test(side.paths["cat"], changes.get("test_share", 0.0))[1]
        return {*cat.tune.paths}, {p for fold in cat.folds for p in fold.paths}, {*test}

    tune, confirm, test = sides(test_share=0.3)
    assert len(tune) + len(confirm) + len(test) == len(tune | confirm | test) == 200
    assert 40 <= len(test) <= 80
    assert 0.3 <= len(tune) / len(tune | confirm) <= 0.7, "confirm_share is of what is left"
    assert sides(test_share=0.3, tune={"seed": 1})[2] == test, "the same in every run"
    before, _, none = sides()
    assert none == set()
    assert tune == before - test, "the test part is cut off first, and moves no other photo"


def test_a_test_part_that_is_too_small_or_too_large_is_told_before_anything(
    tmp_path: Path,
) -> None:
    write_real(tmp_path, per_class=60, classes=("cat",))
    with pytest.raises(RealDataError, match=r"cat: real.test_share 0\.1 cuts off \d+ photos"):
        check_real(config(tmp_path, test_share=0.1))
    with pytest.raises(RealDataError, match=r"real.test_share 0\.1 cuts off \d+ photos; a test"):
        opened(tmp_path, ("cat",), test_share=0.1)
    for share in (0.7, 0.95):
        told = rf"cat: real.test_share {share} of 60 images leaves \d+; tuning needs at least 40"
        with pytest.raises(RealDataError, match=told):
            check_real(config(tmp_path, test_share=share))
        with pytest.raises(RealDataError, match=told):
            opened(tmp_path, ("cat",), test_share=share)


def test_photos_that_the_pond_of_a_run_links_to_are_not_its_own(tmp_path: Path) -> None:
    for folder in ("mine", "real"):
        write_real(tmp_path / folder, per_class=3, classes=("cat", "dog"))
    real = tmp_path / "real"
    (real / "cat" / "linked.png").symlink_to(tmp_path / "mine" / "cat" / "00000.png")
    shutil.rmtree(real / "dog")
    (real / "dog").symlink_to(tmp_path / "mine" / "dog")
    (tmp_path / "moved").symlink_to(real)
    for root in (real, tmp_path / "moved"):
        images = own_photos(root)
        assert [file.path.name for file in images.files] == [f"0000{i}.png" for i in range(3)]
        assert images.others == ()


def test_too_few_images_are_refused_before_anything(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=39, classes=("cat",))
    with pytest.raises(RealDataError, match="class cat has 39 images; tuning needs at least 40"):
        check_real(config(tmp_path))


def test_unreadable_images_do_not_count(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=50, classes=("cat",))
    for name in sorted((tmp_path / "cat").iterdir())[:3]:
        name.write_bytes(b"no image")
    real_data, side = opened(tmp_path, ("cat",))
    assert len(side.unreadable) == 3
    assert all(row["why"] for row in side.unreadable)
    assert len(real_data["cat"].tune) + len(real_data["cat"].folds[0]) == 47
    for name in sorted((tmp_path / "cat").iterdir())[:12]:
        name.write_bytes(b"no image at all")
    with pytest.raises(RealDataError, match="38 readable images"):
        opened(tmp_path, ("cat",))


def test_classes_must_be_there(photos: Path) -> None:
    assert check_real(config(photos))[1] == ("frog", "ship")
    assert check_real(config(photos, classes=["ship"]))[1] == ("ship",)
    with pytest.raises(ConfigError, match="did you mean frog"):
        check_real(config(photos, classes=["frogs", "ship"]))
    with pytest.raises(RealDataError, match="no such folder"):
        check_real(config(photos / "none"))


def test_the_pond_is_rendered_once_and_whole(tmp_path: Path) -> None:
    spec = {"real": {"kind": "pond", "per_class": 40, "seed": 3}}
    made = parse_config(config(tmp_path).to_dict() | spec)
    assert check_real(made)[0] is None
    assert isinstance(made.real, PondReal)
    rundir = create_run(tmp_path / "run", made)
    (rundir.path / ".real.killed" / "frog").mkdir(parents=True)
    images = rendered_pond(rundir, made.real, ("frog", "ship"))
    assert images.classes == ("frog", "ship")
    assert len(images.of("frog")) == 40
    assert not list(rundir.path.glob(".real*"))
    marker = images.of("frog")[0]
    before = marker.stat().st_mtime_ns
    rendered_pond(rundir, made.real, ("frog", "ship"))
    assert marker.stat().st_mtime_ns == before
    truth = (rundir.real_path / "scenes.jsonl").read_text().splitlines()
    assert {json.loads(line)["file"].split("/")[0] for line in truth} == set(images.classes)


def test_repeats_count_once_and_never_straddle_a_split(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=60, classes=("cat",))
    for number, name in enumerate(sorted((tmp_path / "cat").iterdir())):
        shutil.copy(name, tmp_path / "cat" / f"copy-{number}.png")
        lit = np.clip(np.asarray(Image.open(name)) * 0.9 + 8, 0, 255).astype(np.uint8)
        Image.fromarray(lit).save(tmp_path / "cat" / f"lit-{number}.png")
    real_data, side = opened(tmp_path, ("cat",))
    cat = real_data["cat"]
    assert side.n_repeats("cat") == 120
    shown = [
        {re.sub(r"\D", "", path.stem).lstrip("0") for path in part.paths}
        for part in (cat.tune, *cat.folds)
    ]
    assert set.intersection(*shown) == set(), "no photo is on both sides, in any of its files"
    assert len(set.union(*shown)) == 60


def test_too_many_repeats_leave_too_few(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=20, classes=("cat",))
    for name in sorted((tmp_path / "cat").iterdir()):
        for k in range(2):
            shutil.copy(name, name.with_stem(f"{name.stem}-{k}"))
    with pytest.raises(
        RealDataError, match=r"cat has 20 readable images \(40 more repeat others and count once\)"
    ):
        opened(tmp_path, ("cat",))


def test_photos_that_come_and_go_between_sessions_are_told(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=120, classes=("cat",))
    before: dict[str, Any] = {}

    def told() -> list[str]:
        real, _ = opened(tmp_path / "photos", ("cat",))
        said = compare_photos(real, before)
        before.update({name: reference.tune.photos for name, reference in real.items()})
        return said

    assert told() == []
    assert told() == [], "nothing has changed"
    real_data, _ = opened(tmp_path / "photos", ("cat",))
    many = len(real_data["cat"].tune)
    for path in real_data["cat"].tune.paths[:4]:
        path.unlink()
    real_data["cat"].folds[0].paths[0].unlink()  # no photo of the search
    assert told() == [
        "cat: the tune split has changed since the last session (4 removed); "
        f"gaps are now measured against its {many - 4} photos"
    ]
    assert told() == [], "it is said once"
    write_real(tmp_path / "more", per_class=40, classes=("cat",), seed=9)
    for path in (tmp_path / "more" / "cat").iterdir():
        shutil.copy(path, tmp_path / "photos" / "cat" / f"new-{path.name}")
    (said,) = told()
    assert re.search(r"since the last session \(\d+ added\); gaps are now", said)
    real_data, _ = opened(tmp_path / "photos", ("cat",))
    for path in real_data["cat"].tune.paths[10:]:
        path.write_bytes(b"")
    left, _ = opened(tmp_path / "photos", ("cat",), confirm_share=0.1)
    with pytest.raises(RealDataError, match=r"\d+ of the \d+ photos of its tune split are gone"):
        compare_photos(left, before)


def test_photos_that_an_open_fold_has_lost_are_told(tmp_path: Path) -> None:
    write_real(tmp_path, per_class=120, classes=("cat",))
    cat = opened(tmp_path, ("cat",))[0]["cat"]
    (fold,) = cat.folds
    event = fold_opened("cat", photos=fold.photos, spends=False)
    assert compare_photos({"cat": cat}, {}, {"cat": event}) == []
    for path in fold.paths[:3]:
        path.unlink()
    write_real(tmp_path / "more", per_class=60, classes=("cat",), seed=9)
    for path in (tmp_path / "more" / "cat").iterdir():
        path.rename(tmp_path / "cat" / f"new-{path.name}")
    now = opened(tmp_path, ("cat",), pinned={"cat": [fold.photos]})[0]["cat"]
    assert now.folds[0].photos == fold.photos[3:]
    assert compare_photos({"cat": now}, {}, {"cat": event}) == [
        f"cat: 3 of the {len(fold)} photos of the fold to be evaluated are gone; "
        f"the other {len(fold) - 3} are used"
    ]


def test_copies_that_come_later_move_no_photo(tmp_path: Path) -> None:
    write_real(tmp_path / "photos", per_class=120, classes=("cat",))
    tuned: dict[str, Any] = {}
    pinned: dict[str, Any] = {}

    def sides() -> tuple[set[str], set[str]]:
        real, _ = opened(tmp_path / "photos", ("cat",), tuned=tuned, pinned=pinned)
        cat = real["cat"]
        assert compare_photos(real, tuned) == []
        tuned["cat"], pinned["cat"] = cat.tune.photos, [fold.photos for fold in cat.folds]
        confirm = {path.name for fold in cat.folds for path in fold.paths}
        return {path.name for path in cat.tune.paths}, confirm

    before = sides()
    for path in sorted((tmp_path / "photos" / "cat").iterdir()):
        lit = np.clip(np.asarray(Image.open(path)) * 0.9 + 8, 0, 255).astype(np.uint8)
        Image.fromarray(lit).save(path.with_stem(f"lit-{path.stem}"))
    assert sides() == before
