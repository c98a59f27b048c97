"""Image folders: layouts, modes, damage, splits and confounds."""

from __future__ import annotations

import os
import shutil
import threading
import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gapclose.analysis.confounds import (
    Confounds,
    Form,
    common_form,
    describe_confounds,
    equalize,
    read_confounds,
    resize,
)
from gapclose.analysis.decode import UnreadableImageError, read_rgb
from gapclose.analysis.image_folder import (
    CIFAKE_CLASSES,
    ImageSet,
    RealDataError,
    digest,
    scan,
    scan_sides,
    split,
)


def save(path: Path, colour: object = (10, 200, 30), size: tuple[int, int] = (4, 4)) -> Path:
    """Write one plain image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)  # type: ignore[arg-type]
    return path


def stored(*sides: ImageSet) -> list[Confounds]:
    return [read_confounds(side) for side in sides]


def cifake(folder: Path, *, last: int = 10) -> Path:
    """One side of CIFAKE, three images a class."""
    for number in range(3):
        for k in range(1, last + 1):
            save(folder / (f"{number:04}.jpg" if k == 1 else f"{number:04} ({k}).jpg"))
    return folder


# ---------------------------------------------------------------- finding


def test_class_folders_at_any_depth_and_in_any_letter_case(tmp_path: Path) -> None:
    save(tmp_path / "frog" / "a.JPG")
    save(tmp_path / "frog" / "more" / "still" / "b.Png")
    save(tmp_path / "ship" / "c.TIFF")
    save(tmp_path / ".hidden" / "d.png")
    save(tmp_path / "ship" / ".e.png")
    save(tmp_path / "preview.png")
    (tmp_path / "frog" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    images = scan(tmp_path)
    assert images.classes == ("frog", "ship")
    assert [path.name for path in images.of("frog")] == ["a.JPG", "b.Png"]
    assert [path.name for path in images.of("ship")] == ["c.TIFF"]
    assert images.of("cat") == ()
    assert images.layout == "classes"


def test_a_flat_folder_is_one_class(tmp_path: Path) -> None:
    save(tmp_path / "x.webp")
    save(tmp_path / "y.bmp")
    assert scan(tmp_path).classes == ("all",)
    assert len(scan(tmp_path).files) == 2


def test_cifake_classes_are_in_the_file_names(tmp_path: Path) -> None:
    images = scan(cifake(tmp_path))
    assert images.classes == CIFAKE_CLASSES
    assert {path.name for path in images.of("airplane")} == {"0000.jpg", "0001.jpg", "0002.jpg"}
    assert images.of("frog")[0].name == "0000 (7).jpg"
    assert images.of("truck")[0].name == "0000 (10).jpg"


@pytest.mark.parametrize("stranger", ["0000 (11).jpg", "12345.jpg", "0001.png", "frog.jpg"])
def test_one_other_name_and_it_is_no_cifake(tmp_path: Path, stranger: str) -> None:
    save(cifake(tmp_path) / stranger)
    assert scan(tmp_path).classes == ("all",)


def test_a_suffix_that_is_missing_makes_it_no_cifake(tmp_path: Path) -> None:
    assert scan(cifake(tmp_path, last=9)).classes == ("all",)


def test_cifake_needs_both_sides(tmp_path: Path) -> None:
    named, flat = cifake(tmp_path / "REAL"), save(tmp_path / "FAKE" / "a.png").parent
    real, synthetic = scan_sides(real=named, synthetic=flat)
    assert real.classes == synthetic.classes == ("all",)
    assert len(real.files) == 30
    real, synthetic = scan_sides(real=named, synthetic=named)
    assert real.classes == CIFAKE_CLASSES


def test_a_missing_an_empty_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RealDataError, match="nowhere: no such folder; give"):
        scan(tmp_path / "nowhere")
    (tmp_path / "frog").mkdir()
    with pytest.raises(RealDataError, match=r"no image in it; put images \(.bmp"):
        scan(tmp_path)
    with pytest.raises(RealDataError, match="a file; give the folder"):
        scan(save(tmp_path / "a.png"))


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "a.png")
    shutil.copy(tmp_path / "cat" / "a.png", tmp_path / "cat" / name)
    with pytest.raises(RealDataError, match=r"caf\\udce9\.png.*rename it"):
        scan(tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "data" / "frog"
    save(folder / "b.png")
    (folder / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "back").symlink_to(tmp_path / "data", target_is_directory=True)
    (folder / "dead.png").symlink_to(tmp_path / "gone.png")
    names = [path.name for path in scan(tmp_path / "data").of("frog")]
    assert names == ["b.png", "dead.png", "a.png"]
    with pytest.raises(UnreadableImageError, match="the file is gone"):
        read_rgb(folder / "dead.png")


def test_one_class_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        save(tmp_path / form / unicodedata.normalize(form, "grenouille à œil") / "a.png")
    assert scan(tmp_path / "NFC").classes == scan(tmp_path / "NFD").classes


# ---------------------------------------------------------------- reading

RED_HALF = (255, 127, 127)  # red at half opacity on white


def test_modes_become_rgb(tmp_path: Path) -> None:
    made = {
        "L.png": (Image.new("L", (3, 2), 77), (77, 77, 77)),
        "1.png": (Image.new("1", (3, 2), 1), (255, 255, 255)),
        "LA.png": (Image.new("LA", (3, 2), (0, 0)), (255, 255, 255)),
        "RGBA.png": (Image.new("RGBA", (3, 2), (255, 0, 0, 128)), RED_HALF),
        "P.png": (Image.new("RGB", (3, 2), (255, 0, 0)).quantize(4), (255, 0, 0)),
        "CMYK.tif": (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), (255, 0, 0)),
        "F.tif": (Image.new("F", (3, 2), 0.5), (128, 128, 128)),
        "bmp.bmp": (Image.new("RGB", (3, 2), (1, 2, 3)), (1, 2, 3)),
        "webp.webp": (Image.new("RGBA", (3, 2), (0, 0, 0, 0)), (255, 255, 255)),
    }
    for name, (image, expected) in made.items():
        image.save(tmp_path / name)
        read = read_rgb(tmp_path / name)
        assert read.shape == (2, 3, 3), name
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - expected).max() <= 1, name


def test_palette_and_true_colour_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_rgb(tmp_path / "p.png").tolist() == [[[255, 255, 255], [0, 0, 255]]]
    Image.new("RGB", (1, 1), (0, 255, 0)).save(tmp_path / "t.png", transparency=(0, 255, 0))
    assert read_rgb(tmp_path / "t.png").tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert read_rgb(tmp_path / name)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - (0, 255, 0)).max() <= 4


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied_once(tmp_path: Path, turn: int, suffix: str) -> None:
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 9
    # How a camera stores it: the inverse of what EXIF 4.6.4 table 6 asks the viewer to do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{suffix}", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / f"a.{suffix}"), upright)


def test_damaged_exif_does_not_lose_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (5, 3), (9, 9, 9)).save(
        tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff"
    )
    assert read_rgb(tmp_path / "a.jpg").shape == (3, 5, 3)


def test_the_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for name in ("a.png", "a.tif", "a.webp"):
        lossless = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **lossless)
        assert read_rgb(tmp_path / name)[0, 0].tolist() == [255, 0, 0], name


def test_damaged_files_are_named_with_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    cases = {"cut.jpg": whole[: len(whole) // 2], "empty.png": b"", "text.png": b"hello" * 40}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError) as caught:
            read_rgb(tmp_path / name)
        assert caught.value.path == tmp_path / name
        assert caught.value.why
        assert str(tmp_path) not in caught.value.why


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_decompression_bomb_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Literal["error", "ignore"]
) -> None:
    warnings.simplefilter(action)
    path = save(tmp_path / "big.png", size=(40, 40))
    read_rgb(path)
    for limit in (1000, 500):  # Pillow warns above the limit, and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UnreadableImageError, match="bomb"):
            read_rgb(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_gives_an_image_or_the_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / data.draw(
        st.sampled_from(["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif"])
    )
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with suppress(UnreadableImageError):  # anything else fails the test
        assert read_rgb(path).shape[2] == 3


def test_many_threads_read_alike(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", colour=(i, 0, 0)) for i in range(40)]
    seen: list[int] = []

    def work() -> None:
        seen.extend(int(read_rgb(path)[0, 0, 0]) for path in paths)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted(list(range(40)) * 4)


# ---------------------------------------------------------------- splits


def test_split_is_disjoint_whole_and_near_its_share(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", colour=(i % 256, i // 256, 0)) for i in range(600)]
    tune, confirm = split(paths, confirm_share=0.3, seed=0)
    assert sorted(tune + confirm) == sorted(paths)
    assert not set(tune) & set(confirm)
    assert 120 <= len(confirm) <= 240  # five standard deviations
    assert split(paths, confirm_share=0.3, seed=0) == (tune, confirm)
    assert split(paths, confirm_share=0.3, seed=1)[1] != confirm
    assert split(paths, confirm_share=0.0, seed=0)[1] == ()
    assert split(paths, confirm_share=1.0, seed=0)[0] == ()


def test_no_file_moves_when_others_come_or_go(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", colour=(i, 1, 1)) for i in range(60)]
    before = set(split(paths, confirm_share=0.5, seed=4)[1])
    after = set(split(paths[::2], confirm_share=0.5, seed=4)[1])
    assert after == before & set(paths[::2])


def test_duplicates_never_straddle(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / f"{i}.png", colour=(i, 1, 1))
        (tmp_path / f"copy-{i}.png").write_bytes((tmp_path / f"{i}.png").read_bytes())
    tune, confirm = split(sorted(tmp_path.iterdir()), confirm_share=0.5, seed=0)
    assert not {digest(path) for path in tune} & {digest(path) for path in confirm}
    assert len(tune) >= 2
    assert len(confirm) >= 2


def test_a_share_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split([], confirm_share=1.5, seed=0)


# ---------------------------------------------------------------- confounds


def folder_of(folder: Path, suffix: str, sizes: list[tuple[int, int]], **how: int) -> Path:
    """A folder with one noisy image per size."""
    folder.mkdir()
    rng = np.random.default_rng(len(sizes))
    for i, (width, height) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{suffix}", **how)
    return folder


def test_codec_and_size_are_named_and_removed(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "jpg", [(32, 32)] * 12, quality=85))
    synthetic = scan(folder_of(tmp_path / "s", "png", [(64, 48)] * 9))
    assert describe_confounds(*stored(real, synthetic)) == [
        "synthetic: png 64x48, real: jpeg 32x32"
    ]
    assert common_form(*stored(real, synthetic)) == Form(size=(32, 32), quality=85)


def test_equal_sides_have_no_confounds(tmp_path: Path) -> None:
    sizes = [(20 + i % 7, 30 + i % 5) for i in range(60)]
    real = scan(folder_of(tmp_path / "r", "png", sizes))
    synthetic = scan(folder_of(tmp_path / "s", "png", sizes[3:] + sizes[:3]))
    assert describe_confounds(*stored(real, synthetic)) == []
    assert common_form(*stored(real, synthetic)) is None
    assert describe_confounds(*stored(real, real)) == []


def test_aspect_alone_counts_and_lossless_codecs_need_no_jpeg(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(40, 20)] * 10))
    synthetic = scan(folder_of(tmp_path / "s", "bmp", [(20, 40)] * 10))
    assert describe_confounds(*stored(real, synthetic)) == [
        "synthetic: bmp 20x40, real: png 40x20"
    ]
    assert common_form(*stored(real, synthetic)) == Form(size=(20, 20), quality=None)


def test_orientation_counts_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for side in ("r", "s"):
        (tmp_path / side).mkdir()
    for i in range(10):
        Image.new("RGB", (20, 40)).save(tmp_path / "r" / f"{i}.jpg")
        Image.new("RGB", (40, 20)).save(tmp_path / "s" / f"{i}.jpg", exif=exif)
    assert describe_confounds(*stored(scan(tmp_path / "r"), scan(tmp_path / "s"))) == []


def test_unreadable_files_are_no_confound(tmp_path: Path) -> None:
    real = scan(folder_of(tmp_path / "r", "png", [(8, 8)] * 4))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.png").write_bytes(b"")
    assert describe_confounds(*stored(real, scan(tmp_path / "s"))) == []


def test_equalize_gives_both_sides_one_size_and_one_codec() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    out = equalize(image, size=(32, 32), quality=80)
    assert out.shape == (32, 32, 3)
    np.testing.assert_array_equal(out, equalize(image, size=(32, 32), quality=80))
    np.testing.assert_array_equal(equalize(image, size=(64, 96), quality=None), image)
    plain = equalize(image, size=(32, 32), quality=None)
    assert np.abs(out.astype(int) - plain).max() > 3  # the round trip leaves its mark


def test_resize_cuts_the_middle_and_is_antialiased() -> None:
    image = np.zeros((100, 300, 3), dtype=np.uint8)
    image[:, 100:200] = 255  # a white square in the middle of a black band
    assert resize(image, size=(10, 10)).min() >= 230  # the kernel reaches past the cut
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize(np.repeat(board[:, :, None], 3, axis=2), size=(16, 16))
    assert np.abs(small.astype(int) - 127.5).max() <= 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    closed = save(tmp_path / "frog" / "a.png").parent
    closed.chmod(0)
    try:
        with pytest.raises(RealDataError, match="make the folder readable"):
            scan(tmp_path)
    finally:
        closed.chmod(0o700)
