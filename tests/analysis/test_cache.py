"""The embedding cache: what it spares, what it never mixes up, what it survives."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis import cache
from gapclose.analysis.cache import Embedded, embed_files
from gapclose.analysis.confounds import Form, equalize
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.shards import KEY_BYTES, Table


class MeanColour:
    """A real, tiny embedder, named as a user would name one of his own."""

    calls = 0

    def __init__(self, *, device: str = "auto") -> None:
        self.id, self.width = NAME, 4

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Mean colour and height, scaled to length 1."""
        type(self).calls += len(images)
        rows = np.array([[*i.mean(axis=(0, 1)), i.shape[0]] for i in images], dtype=np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


NAME = "gapclose_test_colours.mean:MeanColour"


@pytest.fixture(autouse=True)
def _embedder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the embedder where its name says, and count from zero."""
    package = tmp_path / "code" / "gapclose_test_colours"
    package.mkdir(parents=True)
    (package / "mean.py").write_text("# stands for the module's source")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(cache, "make_embedder", lambda name, device: MeanColour(device=device))
    MeanColour.calls = 0
    cache._TABLES.clear()


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Thirty images of different colours."""
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / f"{i:02}.png" for i in range(30)]
    for i, path in enumerate(paths):
        draw((8 * i, 255 - 8 * i, 40)).save(path)
    return paths


def draw(colour: tuple[int, int, int]) -> Image.Image:
    """An image of one colour but for a pixel: one colour alone is no picture."""
    image = Image.new("RGB", (6, 4), colour)
    image.putpixel((0, 0), (255, 0, 255))
    return image


def expected(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Rows made without any cache."""
    return MeanColour().embed([read_rgb(path) for path in paths])


def new_process() -> None:
    """Forget what this process knows of the cache's folders."""
    cache._TABLES.clear()


def shards(tmp_path: Path) -> list[Path]:
    """Files of the embedding cache."""
    return sorted((tmp_path / "cache" / "embeddings").rglob("*.safetensors"))


def test_rows_are_in_the_order_asked_for(photos: list[Path]) -> None:
    first = embed_files(photos, NAME, batch_size=7)
    assert first.paths == tuple(photos)
    assert first.n_new == 30
    assert first.embeddings.dtype == np.float32
    np.testing.assert_array_equal(first.embeddings, expected(photos))
    mixed = [*photos[::-3], photos[5], photos[5]]
    np.testing.assert_array_equal(embed_files(mixed, NAME).embeddings, expected(mixed))


def test_a_second_look_loads_no_model(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = embed_files(photos, NAME)
    new_process()

    def refuse(name: str, device: str) -> MeanColour:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(cache, "make_embedder", refuse)
    second = embed_files(photos, NAME)
    assert second.n_new == 0
    np.testing.assert_array_equal(second.embeddings, first.embeddings)
    draw((1, 2, 3)).save(photos[0])
    with pytest.raises(AssertionError, match="the model was loaded"):
        embed_files(photos, NAME)


def test_a_second_process_imports_neither_torch_nor_the_wrapper(
    photos: list[Path], clip_folder: Path
) -> None:
    code = f"""
import sys
from pathlib import Path
from gapclose.analysis.cache import embed_files
found = embed_files(sorted(Path({str(photos[0].parent)!r}).iterdir()),
                    'open_clip:local-dir:{clip_folder}', device='cpu')
heavy = [m for m in ('torch', 'open_clip', 'gapclose.analysis.clip') if m in sys.modules]
sys.stdout.write(f'{{found.n_new}} {{len(found.paths)}} {{len(heavy)}}')
"""
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout for done in said] == ["30 30 3", "0 30 0"]


def test_only_what_is_new_is_embedded(photos: list[Path], tmp_path: Path) -> None:
    embed_files(photos[:20], NAME)
    assert MeanColour.calls == 20
    moved = tmp_path / "moved.png"
    photos[3].rename(moved)
    asked = [moved, *photos[10:25]]
    found = embed_files(asked, NAME)
    assert found.n_new == 5
    np.testing.assert_array_equal(found.embeddings, expected(asked))


def test_equal_files_are_embedded_once(photos: list[Path], tmp_path: Path) -> None:
    copies = []
    for i in range(5):
        copies.append(tmp_path / f"copy{i}.png")
        copies[-1].write_bytes(photos[0].read_bytes())
    found = embed_files([photos[0], *copies], NAME)
    assert found.n_new == 1
    assert len(found.embeddings) == 6


def test_a_file_that_changes_is_seen_at_once(photos: list[Path]) -> None:
    """Same name and size, written within the clock's grain: times alone would not tell."""
    for shade in range(20):
        draw((shade, 1, 2)).save(photos[0])
        found = embed_files(photos[:1], NAME)
        np.testing.assert_array_equal(found.embeddings, expected(photos[:1]))


def test_settled_files_are_not_read_again(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_files(photos, NAME)
    assert not (cache.cache_folder() / "digests").exists()  # too fresh to be trusted
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", -3600.0)
    embed_files(photos, NAME)
    new_process()
    read: list[Path] = []
    monkeypatch.setattr(cache, "digest", lambda path: read.append(path))
    np.testing.assert_array_equal(embed_files(photos, NAME).embeddings, expected(photos))
    assert read == []


def test_unreadable_files_are_listed_and_remembered(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, gone = tmp_path / "bad.png", tmp_path / "gone.png"
    bad.write_bytes(photos[0].read_bytes()[:50])
    asked = [photos[0], bad, gone, photos[1]]
    for _ in range(2):
        found = embed_files(asked, NAME)
        assert found.paths == (photos[0], photos[1])
        assert [path for path, _ in found.unreadable] == [bad, gone]
        assert found.unreadable[0][1]
        assert found.unreadable[1][1] == "the file is gone"
        new_process()
        monkeypatch.setattr(cache, "read_rgb", lambda path: pytest.fail(f"{path} read again"))


def test_nothing_to_embed() -> None:
    found = embed_files([], NAME)
    assert found.embeddings.shape[0] == 0
    assert found == Embedded(
        embeddings=found.embeddings, paths=(), digests=(), unreadable=(), invalid=(), n_new=0
    )


def test_forms_do_not_mix(photos: list[Path]) -> None:
    form = Form(size=(2, 2), quality=80)
    plain = embed_files(photos, NAME)
    equal = embed_files(photos, NAME, form=form)
    assert equal.n_new == 30
    by_hand = [equalize(read_rgb(path), form) for path in photos]
    np.testing.assert_array_equal(equal.embeddings, MeanColour().embed(by_hand))
    assert embed_files(photos, NAME, form=form).n_new == 0
    np.testing.assert_array_equal(embed_files(photos, NAME).embeddings, plain.embeddings)
    assert embed_files(photos, NAME, form=Form(size=(2, 2), quality=81)).n_new == 30


def test_embedders_do_not_mix(photos: list[Path], tmp_path: Path) -> None:
    embed_files(photos, NAME)
    (tmp_path / "code" / "gapclose_test_colours" / "mean.py").write_text("# another version")
    assert embed_files(photos, NAME).n_new == 30


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "delete"])
def test_a_damaged_shard_is_made_again(photos: list[Path], tmp_path: Path, damage: str) -> None:
    embed_files(photos, NAME)
    (shard,) = shards(tmp_path)
    content = bytearray(shard.read_bytes())
    if damage == "delete":
        shard.unlink()
    else:
        content[-40] ^= 4  # in the middle of a row: still a valid file
        shard.write_bytes(
            {"cut": content[:-9], "flip": content, "empty": b"", "text": b"hello"}[damage]
        )
    for known in ("this process", "another"):
        if known == "another":
            new_process()
        found = embed_files(photos, NAME)
        np.testing.assert_array_equal(found.embeddings, expected(photos))
    assert found.n_new == 0  # what was made again has been written again


def test_an_interruption_keeps_what_was_done(photos: list[Path]) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files(photos, NAME, batch_size=7, progress=stop)
    new_process()
    assert embed_files(photos, NAME).n_new == 16


def test_progress_counts_files(photos: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    embed_files(photos[:10], NAME)
    embed_files(
        photos, NAME, batch_size=8, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(10, 30), (18, 30), (26, 30), (30, 30)]


def test_a_cache_that_cannot_be_written_is_only_slower(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GAPCLOSE_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        found = embed_files(photos, NAME)
        np.testing.assert_array_equal(found.embeddings, expected(photos))


def test_two_writers_at_once(photos: list[Path]) -> None:
    found: list[Embedded] = []

    def work(asked: Sequence[Path]) -> None:
        found.append(embed_files(asked, NAME, batch_size=3))

    threads = [threading.Thread(target=work, args=(photos[i:],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for one in found:
        np.testing.assert_array_equal(one.embeddings, expected(one.paths))
    new_process()
    assert embed_files(photos, NAME).n_new == 0


# ---------------------------------------------------------------- the table itself


def key(i: int) -> bytes:
    """A key of the right length."""
    return i.to_bytes(KEY_BYTES, "big")


def test_many_small_shards_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    writer, reader = Table(tmp_path), Table(tmp_path)
    for i in range(300):
        writer.append({key(i): np.full(3, i, np.float32)}, {key(1000 + i): f"note {i}"})
        if i == 100:
            reader.refresh()
    assert len(list(tmp_path.glob("*.safetensors"))) < 130
    for table in (writer, reader, Table(tmp_path)):
        rows = table.rows([key(i) for i in range(101)])  # the reader's shards are gone by now
        assert len(rows) == 101
        assert all(rows[key(i)][0] == i for i in range(101))
    assert Table(tmp_path).note(key(1299)) == "note 299"
    assert key(299) in Table(tmp_path)
    assert key(999) not in Table(tmp_path)
    assert not list(tmp_path.glob(".*"))  # no scratch file is left


def test_a_table_of_notes_alone(tmp_path: Path) -> None:
    Table(tmp_path).append({}, {key(1): "no row"})
    again = Table(tmp_path)
    assert again.note(key(1)) == "no row"
    assert again.rows([key(1)]) == {}
    Table(tmp_path / "none").append({})
    assert not (tmp_path / "none").exists()


def test_pictures_of_one_colour_are_invalid_and_remembered(photos: list[Path]) -> None:
    Image.new("RGB", (6, 4), (0, 0, 0)).save(photos[3])
    for _ in range(2):
        found = embed_files(photos, NAME)
        assert found.invalid == ((photos[3], "one colour"),)
        assert found.unreadable == ()
        assert photos[3] not in found.paths
        new_process()


def not_finite(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """Have the embedder give NaN for the images at these places of all that it is asked for."""
    embed, seen = MeanColour.embed, [0]

    def sometimes(self: MeanColour, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = embed(self, images)
        rows[[i for i in range(len(images)) if seen[0] + i in bad], 1] = np.nan
        seen[0] += len(images)
        return rows

    monkeypatch.setattr(MeanColour, "embed", sometimes)


def test_one_row_that_is_not_finite_is_named_and_the_rest_goes_on(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    not_finite(monkeypatch, {4})
    found = embed_files(photos, NAME, batch_size=7)
    ((path, why),) = found.invalid
    assert path == photos[4]
    assert "non-finite" in why
    assert len(found.paths) == 29
    new_process()
    assert len(embed_files(photos, NAME).paths) == 30, "another time it may do better"


def test_a_few_rows_that_are_never_finite_do_not_fail_the_retry(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [*photos]
    for number, path in enumerate(photos * 2):
        many.append(path.with_stem(f"{path.stem}-{number}"))
        draw((3 * number, 7, 2 * number)).save(many[-1])
    not_finite(monkeypatch, {10, 40, 70, 80})
    assert len(embed_files(many, NAME).invalid) == 4
    new_process()
    not_finite(monkeypatch, {0, 1, 2, 3})  # these four alone are asked for again
    assert len(embed_files(many, NAME).invalid) == 4


def test_large_images_come_in_small_batches(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    embed = MeanColour.embed

    def counted(self: MeanColour, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        sizes.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(MeanColour, "embed", counted)
    monkeypatch.setattr(cache, "_FIRST", 4)
    monkeypatch.setattr(cache, "_BATCH_BYTES", 3 * 6 * 4 * 3)  # three of them
    found = embed_files(photos, NAME)
    np.testing.assert_array_equal(found.embeddings, expected(photos))
    assert sizes[0] == 4, "before a size is known"
    assert max(sizes[2:-1]) == 3, "the last are those that were expected"


def test_many_rows_that_are_not_finite_name_the_embedder(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    not_finite(monkeypatch, set(range(0, 30, 2)))
    with pytest.raises(EmbedderError, match="non-finite features for 4 of 30 images"):
        embed_files(photos, NAME, batch_size=7)
