"""Repeats: what is found to be one photo, and what only looks alike."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import make_embedder
from gapclose.analysis.repeats import Repeat, alike, find_repeats, thumbnail
from gapclose.generators.pond import renderer as pond

Pixels = NDArray[np.uint8]


def found(images: Sequence[Pixels], *, groups: Sequence[str | None] | None = None) -> list[Repeat]:
    """By the embedded world's judge, which knows nothing of photos."""
    shown = np.stack([thumbnail(image) for image in images])
    return find_repeats(
        digests=[hashlib.sha256(np.ascontiguousarray(i).tobytes()).digest() for i in images],
        embeddings=make_embedder("pond-judge").embed(list(images)),
        thumbnails=lambda wanted: shown[list(wanted)],
        groups=groups,
    )


def photos(shared: Path, cls: str, n: int) -> list[Pixels]:
    folder = shared / "data" / "cifar10" / "train" / cls
    return [read_rgb(path) for path in sorted(folder.iterdir())[:n]]


def shifted(image: Pixels, rng: np.random.Generator) -> Pixels:
    dy, dx = rng.integers(0, 5, 2)
    return image[dy : dy + 28, dx : dx + 28]


def compressed(image: Pixels, rng: np.random.Generator) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=int(rng.integers(50, 96)))
    return np.array(Image.open(stream))


def brightened(image: Pixels, rng: np.random.Generator) -> Pixels:
    lit = image * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10)
    return np.clip(lit, 0, 255).astype(np.uint8)


def mirrored(image: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image


def left_of(images: Sequence[Pixels], clip: Callable[[int], int]) -> int:
    """How many are left once each repeat counts once; each must be of one clip."""
    repeats = found(images)
    for repeat in repeats:
        assert len({clip(i) for i in (repeat.kept, *repeat.copies)}) == 1, "of one clip"
    return len(images) - sum(len(repeat.copies) for repeat in repeats)


@pytest.mark.slow
@pytest.mark.parametrize("change", [shifted, compressed, brightened, mirrored])
@pytest.mark.parametrize(("clips", "each"), [(30, 8), (8, 30), (5, 60)])
def test_each_clip_counts_once(
    shared: Path,
    change: Callable[[Pixels, np.random.Generator], Pixels],
    clips: int,
    each: int,
) -> None:
    rng = np.random.default_rng(0)
    images = [change(p, rng) for p in photos(shared, "cat", clips) for _ in range(each)]
    left = left_of(images, lambda i: i // each)
    assert clips <= left <= clips + 2, left


def test_many_equal_files_do_not_hide_near_repeats() -> None:
    rng = np.random.default_rng(0)
    scenes = [image for _, image in pond.real_photos("deer", range(40))]
    images = [image for s in scenes for image in (*8 * [s], brightened(s, rng))]
    repeats = found(images)
    assert sum(len(r.copies) for r in repeats if r.kind == "exact") == 40 * 7
    near = {(r.kept // 9, r.copies[0] // 9) for r in repeats if r.kind == "near"}
    assert len([pair for pair in near if pair[0] == pair[1]]) >= 38


def test_a_camera_that_stands_still_makes_no_repeats(shared: Path) -> None:
    rng = np.random.default_rng(0)
    background = photos(shared, "ship", 1)[0].astype(float)

    def scene() -> Pixels:
        image = background + rng.normal(0, 3, background.shape)
        y, x = rng.integers(0, 26, 2)
        image[y : y + 6, x : x + 6] = rng.integers(0, 255, 3)
        return np.clip(image, 0, 255).astype(np.uint8)

    assert found([scene() for _ in range(200)]) == []


def test_what_was_kept_before_is_kept_again() -> None:
    scenes = [image for _, image in pond.real_photos("ship", range(30))]
    shown = np.stack([thumbnail(image) for image in scenes])
    order = [*range(30), 7, 7]
    options = {
        "digests": [bytes([100 - i]) for i in range(32)],
        "embeddings": make_embedder("pond-judge").embed([scenes[i] for i in order]),
        "thumbnails": lambda wanted: shown[[order[i] for i in wanted]],
    }
    (repeat,) = find_repeats(**options)  # type: ignore[arg-type]
    assert (repeat.kept, repeat.copies) == (31, (7, 30)), "by the smallest digest"
    seen = [i == 7 for i in range(32)]
    (repeat,) = find_repeats(**options, seen=seen)  # type: ignore[arg-type]
    assert (repeat.kept, repeat.copies) == (7, (30, 31))


@pytest.mark.slow
@pytest.mark.parametrize("cls", ["frog", "ship", "airplane"])
def test_different_photos_are_no_repeats(shared: Path, cls: str) -> None:
    # CIFAR-10 holds some near copies itself, one in two hundred (arXiv 1902.00423 finds more).
    repeats = found(photos(shared, cls, 600))
    assert sum(len(repeat.copies) for repeat in repeats) <= 6


@pytest.mark.parametrize("cls", ["frog", "deer"])
def test_rendered_scenes_are_alike_and_no_repeats(cls: str) -> None:
    assert found([image for _, image in pond.real_photos(cls, range(300))]) == []


def test_copies_of_rendered_scenes_are() -> None:
    scenes = [image for _, image in pond.real_photos("deer", range(60))]
    rng = np.random.default_rng(0)
    repeats = found([*scenes, *(brightened(image, rng) for image in scenes[:20])])
    assert sorted((r.kept, *r.copies) for r in repeats if r.kind == "near") != []
    pairs = {tuple(sorted((r.kept, *r.copies))) for r in repeats}
    assert pairs == {(i, 60 + i) for i in range(20)}


def test_equal_files_are_exact_and_the_smallest_digest_is_kept() -> None:
    scenes = [image for _, image in pond.real_photos("ship", range(30))]
    (repeat,) = found([*scenes, scenes[7], scenes[7]])
    assert repeat.kind == "exact"
    assert {repeat.kept, *repeat.copies} == {7, 30, 31}
    assert repeat.kept == 7


def test_a_group_is_one_whatever_it_shows() -> None:
    scenes = [image for _, image in pond.real_photos("ship", range(30))]
    groups = ["clip" if i % 10 == 0 else None for i in range(30)]
    (repeat,) = found(scenes, groups=groups)
    assert repeat.kind == "group"
    assert {repeat.kept, *repeat.copies} == {0, 10, 20}


@given(order=st.permutations(range(36)))
def test_what_is_kept_depends_on_no_order(order: list[int]) -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=(12, 8)).astype(np.float32)
    rows = np.repeat(base, 3, axis=0)
    noise = rng.uniform(0, 255, (12, 32, 32)).astype(np.float32)
    shown = np.repeat(noise, 3, axis=0)
    digests = [hashlib.sha256(bytes([i])).digest() for i in range(36)]
    repeats = find_repeats(
        digests=[digests[i] for i in order],
        embeddings=rows[order],
        thumbnails=lambda wanted: shown[[order[i] for i in wanted]],
    )
    kept = {order[r.kept] for r in repeats}
    assert kept == {min(range(3 * k, 3 * k + 3), key=lambda i: digests[i]) for k in range(12)}
    assert sum(len(r.copies) for r in repeats) == 24


def test_nothing_and_one_image_repeat_nothing() -> None:
    assert found([np.zeros((4, 4, 3), dtype=np.uint8)]) == []


def test_a_constant_embedder_makes_no_repeats_of_different_pictures() -> None:
    rng = np.random.default_rng(0)
    shown = rng.uniform(0, 255, (30, 32, 32)).astype(np.float32)
    repeats = find_repeats(
        digests=[bytes([i]) for i in range(30)],
        embeddings=np.ones((30, 4), dtype=np.float32),
        thumbnails=lambda wanted: shown[list(wanted)],
    )
    assert repeats == []


def test_gradients_of_one_picture_agree_at_any_shift_and_mirrored() -> None:
    rng = np.random.default_rng(0)
    large = rng.uniform(0, 255, (50, 50)).astype(np.float32)
    a = large[8:40, 8:40][None]
    for dy, dx in ((0, 0), (5, -3), (-6, 6)):
        b = large[8 + dy : 40 + dy, 8 + dx : 40 + dx][None]
        assert alike(a, b)[0] > 0.85  # of noise the borders' gradients are all different
        assert alike(a, b[:, :, ::-1])[0] > 0.85
    assert alike(a, 0.5 * a + 40)[0] > 0.999, "brightness and contrast"
    other = rng.uniform(0, 255, (1, 32, 32)).astype(np.float32)
    assert abs(alike(a, other)[0]) < 0.3
    flat = np.zeros((1, 32, 32), dtype=np.float32)
    assert alike(flat, flat)[0] == 0.0
