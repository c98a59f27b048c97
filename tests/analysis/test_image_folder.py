"""Image folders: layouts, what is passed over, and splits."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from gapclose.analysis.errors import RealDataError
from gapclose.analysis.image_folder import (
    CIFAKE_CLASSES,
    caption_of,
    digest,
    scan,
    scan_sides,
    split,
)


def save(
    path: Path, colour: tuple[int, int, int] = (10, 200, 30), size: tuple[int, int] = (4, 4)
) -> Path:
    """Write one image of one colour but for its last pixel: one colour alone is no picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.putpixel((size[0] - 1, size[1] - 1), (255, 0, 255))
    image.save(path)
    return path


def cifake(folder: Path, *, last: int = 10) -> Path:
    """One side of CIFAKE, three images a class."""
    for number in range(3):
        for k in range(1, last + 1):
            save(folder / (f"{number:04}.jpg" if k == 1 else f"{number:04} ({k}).jpg"))
    return folder


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
    with pytest.raises(RealDataError, match="no images found; put images into"):
        scan(tmp_path)
    with pytest.raises(RealDataError, match="is a file; give the folder"):
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
    found = scan(tmp_path / "data")
    assert [path.name for path in found.of("frog")] == ["b.png", "a.png"]
    (dead,) = found.others
    assert dead.path.name == "dead.png"
    assert "a broken link" in dead.why


def test_whatever_is_no_image_is_listed_and_nothing_vanishes(tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.PNG", "c.jfif", "no_suffix", "d.gif"):
        path = save(tmp_path / "frog" / "x.png")
        path.rename(tmp_path / "frog" / "made")
        (tmp_path / "frog" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "frog" / "made").rename(tmp_path / "frog" / name)
    for name in ("frog/notes.txt", "frog/deep/Thumbs.db", ".hidden.png", "readme"):
        (tmp_path / name).write_bytes(b"words, and no picture")
    os.mkfifo(tmp_path / "frog" / "pipe.jpg")
    (tmp_path / "frog" / "self.png").symlink_to(tmp_path / "frog" / "self.png")
    (tmp_path / ".git").mkdir()
    found = scan(tmp_path)
    assert sorted(path.name for path in found.of("frog")) == [
        "a.png", "b.PNG", "c.jfif", "d.gif", "no_suffix"
    ]  # fmt: skip
    told = {str(other.path.relative_to(tmp_path)): other.why for other in found.others}
    assert told == {
        "frog/notes.txt": "not an image in a supported format",
        "frog/deep/Thumbs.db": "not an image in a supported format",
        "readme": "not an image in a supported format",
        ".hidden.png": "hidden",
        ".git": "hidden",
        "frog/pipe.jpg": "not a regular file, or a broken link",
        "frog/self.png": "not a regular file, or a broken link",
    }


def test_images_beside_class_folders_are_listed(tmp_path: Path) -> None:
    for i in range(120):
        save(tmp_path / f"{i}.png")
    save(tmp_path / "frog" / "a.png")
    found = scan(tmp_path)
    assert [path.name for path in found.of("frog")] == ["a.png"]
    beside = [other for other in found.others if "beside the class folders" in other.why]
    assert len(beside) == 120


@pytest.mark.parametrize(
    ("folders", "give"),
    [
        (("train/cat", "train/dog", "test/cat", "test/dog"), "train"),
        (("Training/cat", "validation/cat", "extra"), "Training"),
        (("train2017", "val2017"), "train2017"),
        (("train", "test"), "train"),
        (("test/cat", "test/dog"), "test"),
    ],
)
def test_splits_are_no_classes(tmp_path: Path, folders: tuple[str, ...], give: str) -> None:
    for folder in folders:
        save(tmp_path / folder / "a.png")
    with pytest.raises(RealDataError, match="looks like a data set with splits") as caught:
        scan(tmp_path)
    assert f"give one of them, such as {tmp_path / give}," in str(caught.value)
    assert "rename them if they are classes" in str(caught.value)


@pytest.mark.parametrize(
    "folders", [("train", "test", "dog"), ("train/steam", "bus"), ("train",), ("train/a", "dog/a")]
)
def test_a_class_may_be_called_train(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for folder in folders:
        save(tmp_path / folder / "a.png")
    assert scan(tmp_path).classes == tuple(sorted({f.split("/")[0] for f in folders}))


@pytest.mark.parametrize(
    ("pictures", "boxes"),
    [
        ("images/a.png", "labels/a.txt"),
        ("images/train/a.png", "labels/train/a.txt"),
        ("JPEGImages/a.png", "Annotations/a.xml"),
        ("images/a.png", "annotations/all.json"),
    ],
)
def test_a_detection_data_set_is_told_as_one(tmp_path: Path, pictures: str, boxes: str) -> None:
    save(tmp_path / pictures)
    (tmp_path / boxes).parent.mkdir(parents=True)
    (tmp_path / boxes).write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(RealDataError, match="looks like a detection data set") as caught:
        scan(tmp_path)
    assert "crop the objects into class folders" in str(caught.value)


def test_metadata_names_class_and_group(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name)
    rows = [
        {"file_name": "a.png", "class": "cat", "group": "clip 1", "text": "a cat"},
        {"file_name": "b.png", "class": "dog"},
        {"file_name": "../elsewhere.png", "class": "cat"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metadata.jsonl").write_text(text)
    found = scan(tmp_path)
    assert found.classes == ("all", "cat", "dog")
    assert found.groups() == {tmp_path / "a.png": "clip 1"}
    assert scan(tmp_path / ".." / tmp_path.name).classes == found.classes, "by whatever path"
    numbers = [{"file_name": name, "class": k} for k, name in enumerate(("a.png", "b.png"))]
    lines = [json.dumps(row) for row in [*numbers, {"other_file_name": "c.png"}]]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    assert scan(tmp_path).classes == ("0", "1", "all")
    half = r'{"file_name": "a.png", "class": "\ud83d"}'
    names = ('{"file_name": 3}', '{"group": [1]}')
    for broken in ("{", '["a.png"]', *names, "[" * 9000, half):
        (tmp_path / "metadata.jsonl").write_text(text + broken)
        with pytest.raises(RealDataError, match=r"metadata\.jsonl, line 4: expected a JSON"):
            scan(tmp_path)


def test_captions_beside_the_photos(tmp_path: Path) -> None:
    told = {
        "a": " a  cat\non\ta mat ",
        "b": " ",
        "c": None,
        "d": "x" * 1999 + " long",
        "e": "\u2028é",
    }
    for name in (*told, "f"):
        save(tmp_path / "cat" / f"{name}.png")
    rows = [{"file_name": f"{name}.png", "text": text} for name, text in told.items()]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    bom = "\ufeff"  # as Windows begins a file
    (tmp_path / "cat" / "metadata.jsonl").write_text(bom + "\r\n".join(lines), newline="")
    found = scan(tmp_path)
    cut = {"a": "a cat on a mat", "d": "x" * 1999, "e": "é"}
    assert found.texts() == {tmp_path / "cat" / f"{name}.png": text for name, text in cut.items()}
    assert found.classes == ("cat",)


def test_one_class_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        save(tmp_path / form / unicodedata.normalize(form, "grenouille à œil") / "a.png")
    assert scan(tmp_path / "NFC").classes == scan(tmp_path / "NFD").classes


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    closed = save(tmp_path / "frog" / "a.png").parent
    closed.chmod(0)
    try:
        with pytest.raises(RealDataError, match="make the folder readable"):
            scan(tmp_path)
    finally:
        closed.chmod(0o700)


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


@pytest.mark.parametrize("said", ["3", '["a cat", "a dog"]', '{"en": "a cat"}', r'"\ud83d"'])
def test_a_text_that_is_written_for_something_else_is_no_caption(
    tmp_path: Path, said: str
) -> None:
    save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": {said}}}')
    assert scan(tmp_path).texts() == {}


def test_control_characters_are_no_part_of_a_caption() -> None:
    assert caption_of("a \x1b]0;cat\x07 on\u202ea mat") == "a ]0;cat on a mat"
    assert (
        caption_of("a so\u00adft \U0001f468\u200d\U0001f469")
        == "a so\u00adft \U0001f468\u200d\U0001f469"
    )


@pytest.mark.parametrize("cls", ["..", ".", "a/b", "a\\b", "/etc", "a\0b", "x" * 201, "é" * 101])
def test_a_class_after_which_no_file_can_be_named_is_refused(tmp_path: Path, cls: str) -> None:
    save(tmp_path / "cat" / "a.png")
    row = {"file_name": "a.png", "class": cls}
    (tmp_path / "cat" / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(RealDataError, match=r"metadata\.jsonl: the class .* rename it") as told:
        scan(tmp_path)
    assert len(str(told.value)) < 300


def test_a_folder_that_is_no_class_is_named(tmp_path: Path) -> None:
    for name in ("a\\b", "x" * 240):
        root = tmp_path / str(len(name))
        folder = save(root / name / "a.png").parent
        with pytest.raises(RealDataError, match="rename it") as told:
            scan(root)
        assert told.value.path == folder


def test_files_of_gigabytes_are_listed_and_not_read(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png")
    for name in ("large.png", "metadata.jsonl", "large.txt"):
        with (tmp_path / "cat" / name).open("wb") as file:
            file.truncate(20 * 2**30)
    found = scan(tmp_path)
    assert [file.path.name for file in found.files] == ["a.png"]
    assert {file.why for file in found.others} == {"larger than 1,024 MiB"}
    assert len(found.others) == 3


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "metadata.jsonl").write_text('{"text": "' + "x" * 2**21)
    with pytest.raises(RealDataError, match=r"line 1: a line of more than 1,048,576 characters"):
        scan(tmp_path)


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    names = [f"f{i}" for i in range(9)]  # 9! ways through them
    for name in names:
        save(tmp_path / "cat" / name / "a.png")
    for name in names:
        for other in names:
            (tmp_path / "cat" / name / f"to-{other}").symlink_to(tmp_path / "cat" / other)
    found = scan(tmp_path)
    assert len(found.files) == 9
    assert len({file.path.resolve() for file in found.files}) == 9


def test_links_may_be_left_out(tmp_path: Path) -> None:
    mine = save(tmp_path / "mine" / "a.png")
    save(tmp_path / "real" / "cat" / "a.png")
    (tmp_path / "real" / "cat" / "b.png").symlink_to(mine)
    (tmp_path / "real" / "dog").symlink_to(mine.parent)
    assert len(scan(tmp_path / "real").files) == 3
    found = scan(tmp_path / "real", links=False)
    assert [file.path.name for file in found.files] == ["a.png"]
    assert [(file.path.name, file.why) for file in found.others] == [
        ("b.png", "a link"),
        ("dog", "a link"),
    ]


def test_a_branch_that_is_too_deep_is_listed(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png")
    name = "d" * 250
    (tmp_path / "cat" / name).mkdir()
    at = os.open(tmp_path / "cat" / name, os.O_RDONLY)
    for _ in range(20):  # beyond 4,096 bytes
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    found = scan(tmp_path)
    assert [file.path.name for file in found.files] == ["a.png"]
    assert [other.why for other in found.others] == ["nested too deeply to be opened"]


@pytest.mark.parametrize("up", ["..", "../..", "../../.."])
def test_a_link_to_what_lies_above_leads_back(tmp_path: Path, up: str) -> None:
    save(tmp_path / "private" / "a.png")
    save(tmp_path / "real" / "cat" / "a.png")
    (tmp_path / "real" / "cat" / "up").symlink_to(up)
    assert [file.path.name for file in scan(tmp_path / "real").files] == ["a.png"]
